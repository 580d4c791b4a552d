//! The whole run, in order. `whole` is the table of contents: every line is one stage, and every stage is a module of
//! its own that knows nothing of files. [`update`] goes the same way with the model of an older plan, or, where rows were
//! only appended, reads those alone and merges ([`update`]).
//!
//! The dataset is read twice: once for the sample (fingerprints and the sampled rows, [`prepare`]), once to assign every
//! row and to sum up everything else ([`assign`]). What has one entry a row streams through working files ([`settle`]).

mod summary;
mod prepare;
mod local;
mod groups;
mod row_values;
mod estimate;
mod fit;
mod compare;
pub mod check;
mod assign;
mod holdout;
mod settle;
mod split;
mod tables;
mod write;
mod update;
pub mod diff;
pub mod synth;
pub mod spool;
pub mod encode;
pub mod export;
pub mod materialize;

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

pub use compare::compare;
pub use summary::{Answer, Compared, Comparison, Counted, Estimate, Summary};
pub use update::{Updated, update};

use crate::batches::strata;
use crate::config::{Config, Run, leaves};
use crate::format::staging::Staging;
use crate::kit::error::Result;
use crate::kit::progress::Progress;
use crate::kit::scratch::RowFile;
use crate::modalities::Fit;
use crate::parts::Local;
use crate::plan::Plan;
use crate::source::Dataset;
use crate::splits::Kind;
use holdout::Older;
use prepare::{Kept, Roles};
use settle::Asked;
use split::Splitter;

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
    run.scope(progress, |engine| {
        let dataset = config.open(inputs, run.memory, progress)?;
        let encoder = run.open_encoder(config)?;
        let roles = Roles::choose(config, &dataset, encoder.as_ref())?;
        let needs = estimate::estimate(&dataset, &roles, config, run, engine.threads())?;
        estimate::refuse(&needs, run)?;
        let staging = Staging::begin(&run.out, run.force)?;
        let clock = clock.lap("open");
        let all = All { dataset: &dataset, roles: &roles, config, run, inputs, engine };
        let (summary, _) = whole(&all, &Model::Fit, staging, clock, warnings)?;
        Ok(summary)
    })
}

/// What every run over all rows works on.
struct All<'a> {
    dataset: &'a Dataset,
    roles: &'a Roles<'a>,
    config: &'a Config,
    run: &'a Run,
    inputs: &'a [String],
    engine: &'a Local,
}

/// Where the model that assigns the rows comes from.
enum Model<'a> {
    Fit,
    /// Fitted anew; modalities keep the numbers that they had in an older plan.
    Match(&'a Older<'a>),
    /// That of an older plan.
    Keep(&'a Older<'a>),
}

impl<'a> Model<'a> {
    fn older(&self) -> Option<&'a Older<'a>> {
        match *self {
            Model::Fit => None,
            Model::Match(older) | Model::Keep(older) => Some(older),
        }
    }
}

/// Sample, fit, assignment of every row, writing: the whole run. Returns with the summary which old modality each one is.
fn whole(
    all: &All<'_>,
    model: &Model<'_>,
    staging: Staging,
    clock: Clock,
    mut warnings: Vec<String>,
) -> Result<(Summary, Vec<Option<u32>>)> {
    let All { dataset, roles, config, run, inputs, engine } = *all;
    let progress = engine.progress();
    let kept = match model {
        Model::Keep(older) => {
            let assigner = older.plan.assigner()?.with_encoder(roles.encoder)?;
            Some(Kept { features: assigner.map(dataset)?, naming: assigner.naming() })
        }
        _ => None,
    };
    let prepared = prepare::prepare(dataset, roles, config, kept, engine)?;
    let clock = clock.lap("sample");
    let mut was: Vec<Option<u32>> = Vec::new();
    let fitted = match model {
        Model::Fit => fit::fit(&prepared, config, None, |_| Ok(()), progress)?,
        Model::Keep(older) => {
            was = (0..older.plan.manifest().modalities).map(Some).collect();
            fit::kept(&prepared, config, older.plan, progress)?
        }
        Model::Match(older) => {
            let rename = |fit: &mut Fit| {
                was = update::rename(fit, older.plan, older.matched, roles, dataset, &prepared)?;
                Ok(())
            };
            fit::fit(&prepared, config, fit::kind(older.plan), rename, progress)?
        }
    };
    estimate::refuse_fitted(dataset, roles, config, run, engine.threads(), fitted.fit.kind.len())?;
    let clock = clock.lap("fit");
    let older = model.older();
    let content_key = older.map(|o| o.plan.content_key()).transpose()?.flatten();
    let scratch = staging.scratch()?;
    // Rows keep their fold by number alone.
    let holds = config.has_splits() && !config.splits.kind().is_some_and(Kind::folds);
    let contents =
        holds.then(|| RowFile::create(&scratch.join("contents"), holdout::CONTENT_BYTES)).transpose()?;
    let contents = contents.as_ref();
    let (rows, pass) =
        assign::assign(dataset, roles, config, &prepared, &fitted, content_key, contents, engine, &scratch)?;
    let clock = clock.lap("assign");
    let leaves = |census: &settle::Census| {
        let centers = tables::stratum_centers(&prepared, &fitted, census);
        let inside = census.modality_of_stratum.as_deref();
        strata::leaves(&strata::dendrogram(&centers, &census.stratum_rows, inside), census.strata.len())
    };
    let keeps = older.filter(|older| config.has_splits() && !older.deal);
    let old = keeps.map(|older| older.splits(dataset, contents)).transpose()?.unwrap_or_default();
    if config.splits.kind().is_some_and(Kind::folds) && keeps.is_some_and(|older| !older.found_by_number()) {
        let text = "rows of changed row groups are dealt into folds anew: folds are kept by row number only";
        warnings.push(text.into());
        progress.warn(text);
    }
    let splitter = Splitter::new(all, old, keeps.map(|older| older.plan), &leaves);
    let deal = |census: &_, rows: &_| splitter.deal(census, rows);
    let asked = config.has_splits().then_some(Asked { leaves: &leaves, deal: &deal, contents });
    let settled = settle::settle(rows, dataset.rows(), &pass.tally, asked, &scratch, progress)?;
    let dealt = splitter.dealt.into_inner();
    let clock = clock.lap("rank");
    let more = prepared.warnings.iter().cloned().chain(prepare::rounded(dataset, &roles.inputs));
    warnings.extend(more.inspect(|w| progress.warn(w)));
    let contents = write::contents(dataset, roles, config, prepared, fitted, pass, &settled)?;
    // Modalities without rows are gone.
    let was: Vec<Option<u32>> =
        settled.census.modalities.iter().map(|&m| was.get(m as usize).copied().flatten()).collect();
    let mut info = write::run_info(run, engine.threads(), inputs, dataset);
    info.made_from = match model {
        Model::Fit => None,
        Model::Match(older) => Some(update::made_from(older.plan, "refitted", &was)),
        Model::Keep(older) => Some(update::made_from(older.plan, "read anew", &was)),
    };
    let summary =
        write::write(dataset, config, contents, settled, dealt, staging, run, info, clock, warnings, engine)?;
    let summary = Summary { columns: roles.told.clone(), ..summary };
    Ok((summary, was))
}

/// Settings by which `plan` was not made: (key, its value in the plan, its value here). Empty: [`plan`](fn@plan) with these settings makes
/// the same plan of the same rows.
pub fn differing(
    plan: &Plan,
    inputs: &[String],
    config: &Config,
    run: &Run,
    progress: &Progress,
) -> Result<Vec<(String, Value, Value)>> {
    config.check()?;
    run.scope(progress, |_| {
        let dataset = config.open(inputs, run.memory, progress)?;
        let encoder = run.open_encoder(config)?;
        let roles = Roles::choose(config, &dataset, encoder.as_ref())?;
        let used = leaves(&write::used_config(config, &roles, plan.manifest().rows_planned));
        let made: BTreeMap<String, Value> = leaves(&plan.manifest().config).into_iter().collect();
        let mut keys: BTreeMap<String, (Value, Value)> =
            made.into_iter().map(|(key, was)| (key, (was, Value::Null))).collect();
        used.into_iter().for_each(|(key, now)| keys.entry(key).or_default().1 = now);
        keys.retain(|_, (was, now)| was != now);
        Ok(keys.into_iter().map(|(key, (was, now))| (key, was, now)).collect())
    })
}

/// What [`plan`] would read, write and need, from the footers alone (and from the encoder, if there is one).
pub fn estimate(inputs: &[String], config: &Config, run: &Run, progress: &Progress) -> Result<Estimate> {
    config.check()?;
    run.scope(progress, |engine| {
        let dataset = config.open(inputs, run.memory, progress)?;
        let encoder = run.open_encoder(config)?;
        let roles = Roles::choose(config, &dataset, encoder.as_ref())?;
        estimate::estimate(&dataset, &roles, config, run, engine.threads())
    })
}

/// Only counts the modalities: the sample pass and the fit.
pub fn modalities(inputs: &[String], config: &Config, run: &Run, progress: &Progress) -> Result<Counted> {
    let start = Instant::now();
    config.check()?;
    run.scope(progress, |engine| {
        let dataset = config.open(inputs, run.memory, progress)?;
        let encoder = run.open_encoder(config)?;
        let roles = Roles::choose(config, &dataset, encoder.as_ref())?;
        let prepared = prepare::prepare(&dataset, &roles, config, None, engine)?;
        let fit = fit::count(&prepared, config, None, progress)?;
        let mut sizes = vec![0; fit.kind.len()];
        fit.labels.iter().for_each(|&m| sizes[m as usize] += 1);
        Ok(Counted {
            modalities: fit.kind.len() as u32,
            confidence: fit.confidence,
            interval: fit.interval,
            clear: config.modalities.clear(&fit.shares()),
            estimator: config.modalities.estimator.name().into(),
            counted: config.modalities.counted(),
            resolution: config.modalities.resolution,
            sample_rows: prepared.sample.rows.len() as u64,
            columns: roles.told,
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
