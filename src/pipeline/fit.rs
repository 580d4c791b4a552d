//! Counts the modalities on the sample and makes the model that assigns every row.

use super::prepare::{Prepared, Values, sample_ids};
use crate::config::Config;
use crate::error::Result;
use crate::features::{Points, State};
use crate::modalities::estimators::column::Column;
use crate::modalities::model::{AssignedReader, ColumnIds, Strata, centers};
use crate::modalities::{self, Assigned, Fit, Model, prototypes};
use crate::parts::{Part, Read};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::strata;

/// The model and what led to it.
pub struct Fitted {
    pub fit: Fit,
    pub model: Model,
    /// Where a row's stratum comes from.
    pub strata: Strata,
    /// The column whose values are the modalities, for the estimator `column`.
    pub modality: Option<ColumnIds>,
    /// The sample's rows as the model assigns them.
    pub sample: Assigned,
}

/// Whether M is a finding one can rely on; a number or a column that the user gave always is.
pub fn clear(fit: &Fit, config: &Config) -> bool {
    !config.modalities.counted() || modalities::clear(&fit.shares())
}

/// Runs the estimator of the config.
pub fn count(prepared: &Prepared, config: &Config, progress: &Progress) -> Result<Fit> {
    let column = prepared.modality.as_ref().map(|values| Column {
        values: values.ids.keys().cloned().collect(),
        ids: sample_ids(&prepared.table, values),
    });
    let estimator = config.modalities.estimator.build(&config.modalities, column)?;
    estimator.fit(&prepared.sample, config.seed, progress)
}

/// Where a row's stratum comes from.
fn strata_by(prepared: &Prepared, config: &Config) -> Strata {
    let ids = |v: &Values| ColumnIds { column: v.column.clone(), values: v.ids.clone() };
    match &prepared.stratify {
        Some(values) if config.strata.inside_modalities() => Strata::Cross(ids(values)),
        Some(values) => Strata::Column(ids(values)),
        None => Strata::Prototype,
    }
}

/// The model of an older plan, for the sample of new data.
pub fn kept(prepared: &Prepared, config: &Config, plan: &Plan) -> Result<Fitted> {
    let model = plan.model()?;
    let estimator = &plan.manifest().estimator;
    let modalities = plan.modalities()?;
    let fit = Fit {
        labels: Vec::new(),
        prominence: modalities.iter().map(|m| m.prominence).collect(),
        kind: modalities.into_iter().map(|m| m.kind).collect(),
        projection: model.projection.clone(),
        confidence: estimator.confidence,
        interval: estimator.interval,
        details: estimator.params.clone().into_iter().collect(),
        curve: plan.curve()?.unwrap_or_default(),
        evidence: plan.evidence()?.unwrap_or_default(),
    };
    let strata = strata_by(prepared, config);
    let sample = Assigned::default();
    let mut fitted = assign_sample(prepared, Fitted { fit, model, strata, modality: None, sample })?;
    fitted.fit.labels = fitted.sample.modality.clone();
    Ok(fitted)
}

/// Counts, then describes every modality by its prototypes and groups those to strata. `rename` may give the modalities
/// other numbers in between.
pub fn fit(
    prepared: &Prepared,
    config: &Config,
    rename: impl FnOnce(&mut Fit) -> Result<()>,
    progress: &Progress,
) -> Result<Fitted> {
    let sample = &prepared.sample;
    let mut fit = count(prepared, config, progress)?;
    rename(&mut fit)?;
    let by = strata_by(prepared, config);
    if let Some(values) = &prepared.modality {
        let numbered = fit.kind.iter().enumerate().map(|(m, value)| (value.clone(), m as u32)).collect();
        let modality = Some(ColumnIds { column: values.column.clone(), values: numbered });
        let centers = centers(sample, &fit.labels, fit.kind.len());
        let model = Model { projection: fit.projection.clone(), centers, ..Model::default() };
        return assign_sample(
            prepared,
            Fitted { fit, model, strata: by, modality, sample: Assigned::default() },
        );
    }
    let prototypes = prototypes::fit(sample, &fit, config.seed);
    let stratum = match by {
        Strata::Prototype => strata::fine(
            &prototypes.centers,
            &prototypes.modality,
            &prototypes.sample_rows,
            prepared.selection.count(),
            config.strata.fine,
        ),
        _ => Vec::new(),
    };
    let model = Model { stratum, ..Model::new(sample, &fit, prototypes) };
    assign_sample(prepared, Fitted { fit, model, strata: by, modality: None, sample: Assigned::default() })
}

/// The sample goes through the very reader that assigns the dataset.
fn assign_sample(prepared: &Prepared, mut fitted: Fitted) -> Result<Fitted> {
    struct There<'a>(&'a Prepared);
    impl Read for There<'_> {
        type Item = Points;
        fn read(&self, _part: &Part, into: &mut Points) -> Result<()> {
            let sample = &self.0.sample;
            into.rows = sample.rows.clone();
            into.points = sample.points.clone();
            into.state = vec![State::Planned; sample.rows.len()];
            into.table = self.0.table.clone();
            Ok(())
        }
    }
    let all = Part { index: 0, first: 0, rows: prepared.sample.rows.len() };
    let mut assigned = Assigned::default();
    AssignedReader::new(There(prepared), &fitted.model, fitted.modality.clone(), fitted.strata.clone())
        .read(&all, &mut assigned)?;
    // The points themselves are in `prepared`.
    assigned.points = Points::default();
    fitted.sample = assigned;
    Ok(fitted)
}
