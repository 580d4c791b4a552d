//! All estimators that count, on the same sample, side by side.

use std::time::Instant;

use super::summary::{Answer, Compared, Comparison};
use super::{fit, prepare};
use crate::config::{Config, Run};
use crate::kit::error::{Error, Result};
use crate::kit::progress::Progress;
use crate::modalities::agreement::adjusted_rand;
use crate::modalities::{self, EstimatorSpec};
use prepare::Roles;

/// Counts the modalities with every estimator in turn. One that fails has its reason in the place of an answer; nothing
/// but the settings, the data and an interruption ends the comparison.
pub fn compare(inputs: &[String], config: &Config, run: &Run, progress: &Progress) -> Result<Comparison> {
    let start = Instant::now();
    let mut config = config.clone();
    let criterion = config.modalities.criterion.take();
    if config.modalities.count.is_some() || config.modalities.column.is_some() {
        return Err(Error::config(
            "--estimator all",
            "compares estimators that count, but the modalities are given",
            "leave out --modalities and --modality-column",
        ));
    }
    config.modalities.estimator = EstimatorSpec::default();
    config.check()?;
    run.scope(progress, |engine| {
        let dataset = config.open(inputs, run.memory, progress)?;
        let encoder = run.open_encoder(&config)?;
        let roles = Roles::choose(&config, &dataset, encoder.as_ref())?;
        let prepared = prepare::prepare(&dataset, &roles, &config, None, engine)?;
        // The first is the default, whose labels all others are compared with.
        let mut reference: Option<Vec<u32>> = None;
        let mut estimators = Vec::new();
        for spec in EstimatorSpec::ALL.into_iter().filter(|spec| spec.counts()) {
            progress.check()?;
            config.modalities.estimator = spec;
            config.modalities.criterion = criterion.filter(|_| spec.takes_criterion());
            let begun = Instant::now();
            let (answer, failed) = match fit::count(&prepared, &config, None, progress) {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(e) => (None, Some(e.to_string())),
                Ok(fit) => {
                    let shares = fit.shares();
                    let agreement = reference.as_ref().map(|labels| adjusted_rand(labels, &fit.labels));
                    let own = spec == EstimatorSpec::default();
                    let answer = Answer {
                        modalities: fit.kind.len() as u32,
                        interval: fit.interval,
                        confidence: fit.confidence,
                        clear: modalities::clear(&shares),
                        largest: shares.iter().copied().fold(0.0, f64::max),
                        agreement: if own { Some(1.0) } else { agreement },
                    };
                    if own {
                        reference = Some(fit.labels);
                    }
                    (Some(answer), None)
                }
            };
            estimators.push(Compared {
                estimator: spec.name().into(),
                answer,
                failed,
                seconds: begun.elapsed().as_secs_f64(),
            });
        }
        Ok(Comparison {
            default: EstimatorSpec::default().name().into(),
            resolution: config.modalities.resolution,
            sample_rows: prepared.sample.rows.len() as u64,
            columns: roles.told,
            estimators,
            seconds: start.elapsed().as_secs_f64(),
        })
    })
}
