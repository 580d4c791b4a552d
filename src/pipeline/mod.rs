//! The whole run, in order. [`plan`] is the table of contents: every line is one stage, and every stage is a module of
//! its own that knows nothing of files.
//!
//! The dataset is read twice: once for the sample (fingerprints and the sampled rows, [`prepare`]), once to assign every
//! row and to sum up everything else ([`assign`]). What has one entry a row streams through working files ([`settle`]).

mod assign;
mod compare;
mod estimate;
mod fit;
mod prepare;
mod settle;
mod summary;
mod tables;
mod write;

use std::time::Instant;

pub use compare::compare;
pub use summary::{Answer, Compared, Comparison, Counted, Estimate, Summary};

use crate::config::{Config, Run};
use crate::error::Result;
use crate::features::Encoder;
use crate::parts::Local;
use crate::plan::staging::Staging;
use crate::progress::Progress;
use crate::source::Dataset;
use prepare::Roles;

/// Reads the dataset, writes the plan to `run.out` and says what it did. The same `inputs` and `config` give the same
/// bytes whatever `run` says.
///
/// # Errors
/// Config errors, before anything is read where the settings and the schema tell (how many strata a list of shares must
/// have, or whether `drop_last` leaves anything, only the rows tell); input errors with file, column and row. Nothing is
/// left behind.
pub fn plan(inputs: &[String], config: &Config, run: &Run, progress: &Progress) -> Result<Summary> {
    let clock = Clock::start();
    let warnings = config.check()?;
    warnings.iter().for_each(|w| progress.warn(w));
    let engine = Local::new(run.threads, progress.clone())?;
    let dataset = Dataset::open(inputs)?;
    let encoder = encoder(config, run)?;
    let roles = Roles::choose(config, &dataset, encoder.as_ref())?;
    let needs = estimate::estimate(&dataset, &roles, config, run, engine.threads())?;
    estimate::refuse(&needs, run)?;
    let staging = Staging::begin(&run.out, run.force)?;
    let clock = clock.lap("open");

    engine.install(|| {
        let prepared = prepare::prepare(&dataset, &roles, config, &engine)?;
        let clock = clock.lap("sample");
        let fitted = fit::fit(&prepared, config, progress)?;
        let clock = clock.lap("fit");
        let pass =
            assign::assign(&dataset, &roles, config, &prepared, &fitted, &engine, &staging.scratch()?)?;
        let clock = clock.lap("assign");
        let settled = settle::settle(
            &pass.rows,
            dataset.rows(),
            &pass.tally,
            config.batches.holdout,
            config.seed,
            &staging.scratch()?,
            progress,
        )?;
        let clock = clock.lap("rank");
        let all =
            write::Everything { dataset: &dataset, roles: &roles, config, prepared, fitted, pass, settled };
        write::write(all, staging, run, inputs, engine.threads(), clock, warnings, progress)
    })
}

/// The encoder that the run names, if it is the one that the config asks for.
pub(crate) fn encoder(config: &Config, run: &Run) -> Result<Option<Encoder>> {
    let Some(path) = &run.encoder else { return Ok(None) };
    let encoder = Encoder::open(path, config.features.max_seq_length)?;
    if let Some(asked) = &config.features.encoder {
        encoder.check_identity(asked)?;
    }
    Ok(Some(encoder))
}

/// What [`plan`] would read, write and need, from the footers alone (and from the encoder, if there is one).
pub fn estimate(inputs: &[String], config: &Config, run: &Run, progress: &Progress) -> Result<Estimate> {
    config.check()?;
    let dataset = Dataset::open(inputs)?;
    let encoder = encoder(config, run)?;
    let roles = Roles::choose(config, &dataset, encoder.as_ref())?;
    let threads = Local::new(run.threads, progress.clone())?.threads();
    estimate::estimate(&dataset, &roles, config, run, threads)
}

/// Only counts the modalities: the sample pass and the fit.
pub fn modalities(inputs: &[String], config: &Config, run: &Run, progress: &Progress) -> Result<Counted> {
    let start = Instant::now();
    config.check()?;
    let engine = Local::new(run.threads, progress.clone())?;
    let dataset = Dataset::open(inputs)?;
    let encoder = encoder(config, run)?;
    let roles = Roles::choose(config, &dataset, encoder.as_ref())?;
    engine.install(|| {
        let prepared = prepare::prepare(&dataset, &roles, config, &engine)?;
        let fit = fit::count(&prepared, config, progress)?;
        let mut sizes = vec![0; fit.kind.len()];
        fit.labels.iter().for_each(|&m| sizes[m as usize] += 1);
        Ok(Counted {
            modalities: fit.kind.len() as u32,
            confidence: fit.confidence,
            interval: fit.interval,
            clear: fit::clear(&fit, config),
            estimator: config.modalities.estimator.name().into(),
            counted: config.modalities.counted(),
            resolution: config.modalities.resolution,
            sample_rows: prepared.sample.rows.len() as u64,
            sizes,
            details: fit.details,
            curve: fit.curve.into_iter().map(|c| (c.k, c.criterion, c.value)).collect(),
            seconds: start.elapsed().as_secs_f64(),
        })
    })
}

/// Seconds by stage; goes to run.json and the summary only.
pub(crate) struct Clock {
    begin: Instant,
    last: Instant,
    pub stages: Vec<(String, f64)>,
}

impl Clock {
    fn start() -> Self {
        let now = Instant::now();
        Clock { begin: now, last: now, stages: Vec::new() }
    }

    fn lap(mut self, stage: &str) -> Self {
        let now = Instant::now();
        self.stages.push((stage.into(), (now - self.last).as_secs_f64()));
        self.last = now;
        self
    }

    fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }
}

/// Largest resident set of this process so far in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
