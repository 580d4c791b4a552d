//! An older plan brought up to date.
//!
//! | what happened | what is done |
//! |---|---|
//! | rows were appended, of kinds the plan knows | only the new row groups are read: their rows are assigned by the old prototypes, statistics are merged, everything is dealt anew |
//! | rows were removed, changed or put into another order | all rows are read and assigned by the old prototypes; statistics are taken anew |
//! | the new rows are of kinds the plan does not know, or `refit` | everything is fitted anew; each modality keeps the number of the old one it shares most rows with |
//!
//! Merging knows less than reading: the quantiles in `statistics.arrow` and `profile.arrow`, what the profile lists and the map
//! of the report stay those of the old fit sample; `gain` is the row-weighted mean of the old and that of the new rows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::holdout::{self, Older};
use super::prepare::{Prepared, Roles};
use super::settle::{self, Asked, CHUNK, Settled};
use super::split::Splitter;
use super::write::{self, Contents};
use super::{All, Clock, Model, Summary, estimate, whole};
use crate::batches::locality::Order;
use crate::batches::number::Number;
use crate::batches::strata;
use crate::batches::weights::Centrality;
use crate::config::{Check, Config, Run};
use crate::engine::rows::{ROW_BYTES, Ranking, Row, Rows, Sink, Tally};
use crate::format::profile::ProfileRow;
use crate::format::statistics::Statistic;
use crate::format::{self, Kind, Staging};
use crate::kit::error::{Error, Result};
use crate::kit::ids::NONE;
use crate::kit::progress::Progress;
use crate::kit::scratch::RowFile;
use crate::modalities::matching::matching;
use crate::modalities::{EstimatorSpec, Fit};
use crate::pipeline::check::coverage::{self, Matched};
use crate::pipeline::check::{self, Outcome};
use crate::plan::Plan;
use crate::source::{Dataset, Naming, Selection};
use crate::splits::{Group, Kind as SplitKind};
use crate::statistics::content::{Content, Hashes};
use crate::statistics::gain::{Gain, GainSums, Label, corrected};
use crate::statistics::moments::{FullMoments, Moments};
use crate::statistics::profile::{self, Profile};
use crate::statistics::reference::{R, RandomFeature, Reference};

/// What an update did.
#[derive(Clone, Debug, Serialize)]
pub struct Updated {
    /// "unchanged" (nothing was written), "appended", "read anew" or "refitted".
    pub how: String,
    /// Why not less was read.
    pub why: String,
    pub from: String,
    /// Of every modality the number that it had, None for a new one.
    pub modalities: Vec<Option<u32>>,
    pub rows_new: u64,
    /// Bytes read of the data, footers included, and how large it is.
    pub bytes_read: u64,
    pub bytes: u64,
    pub check: Outcome,
    /// None if nothing was written.
    pub summary: Option<Summary>,
}

/// Writes to `run.out` the plan in `old`, brought up to date with the data. Files that are as run.json remembers them are
/// trusted unless `verify`. Rows stay in their splits, unless `deal_holdout`.
///
/// # Errors
/// As [`super::plan`]; plans and data that do not belong together.
#[expect(clippy::too_many_arguments, reason = "the flags of the command")]
pub fn update(
    old: &Path,
    inputs: &[String],
    limits: &Check,
    refit: bool,
    verify: bool,
    deal_holdout: bool,
    run: &Run,
    progress: &Progress,
) -> Result<Updated> {
    let clock = Clock::start();
    run.scope(progress, |engine| {
        let plan = Plan::open(old)?;
        let mut config = plan.config()?;
        let dataset = plan.open_dataset(inputs, run.memory, progress)?;
        config.features.bytes_as = dataset.bytes_as();
        let encoder = run.open_encoder(&config)?;
        estimate::refuse_check(&dataset, &plan, run, engine.threads())?;
        let limits = Check { quick: !verify, ..limits.clone() };
        let (outcome, matched) = check::compare(&plan, &dataset, encoder.as_ref(), &limits, engine)?;
        let Some(matched) = matched else {
            let broken: Vec<&str> = outcome.failures().map(|f| f.message.as_str()).collect();
            let help = "make a plan of this dataset (`batchwright plan`)";
            return Err(Error::input(
                "dataset",
                format!("does not fit the plan: {}", broken.join("; ")),
                help,
            ));
        };
        if outcome.findings.iter().any(|f| f.id == "plan" && f.answer != check::Answer::Holds) {
            plan.verify()?;
        }
        let older = Older { plan: &plan, matched: &matched, coverage: &outcome.coverage, deal: deal_holdout };
        older.check()?;
        let in_order = matched.fresh().is_empty() && outcome.coverage.in_place();
        let (how, why) = match () {
            () if refit => ("refitted", "--refit".to_string()),
            () if deal_holdout && !outcome.needs_refit() => ("read anew", "--deal-holdout".to_string()),
            () if in_order && matched.only_appended() => {
                ("unchanged", "the data is what the plan was made from".into())
            }
            () if outcome.needs_refit() => {
                let why = outcome.diagnosis.first().map_or("the data has drifted".into(), |d| d.text.clone());
                ("refitted", why)
            }
            () => match reread(&plan, &config, &matched) {
                None => ("appended", "only rows were added".into()),
                Some(why) => ("read anew", why),
            },
        };
        let how = if how == "read anew" && config.modalities.estimator == EstimatorSpec::Column {
            "refitted"
        } else {
            how
        };
        if how == "refitted" {
            // The plan's estimator may be retired.
            config.modalities.estimator.check()?;
        }
        let mut updated = Updated {
            how: how.into(),
            why,
            from: plan.manifest().plan.clone(),
            modalities: (0..plan.manifest().modalities).map(Some).collect(),
            rows_new: outcome.coverage.new,
            bytes_read: 0,
            bytes: dataset.files().iter().map(|f| f.bytes).sum(),
            check: outcome.clone(),
            summary: None,
        };
        if how != "unchanged" {
            let roles = Roles::choose(&config, &dataset, encoder.as_ref())?;
            let all = All { dataset: &dataset, roles: &roles, config: &config, run, inputs, engine };
            // The tables of the old plan are there beside those of the new one.
            let mut needs = estimate::estimate(&dataset, &roles, &config, run, engine.threads())?;
            needs.memory_needed += estimate::of_tables(&plan);
            estimate::refuse(&needs, run)?;
            let staging = Staging::begin(&run.out, run.force)?;
            let clock = clock.lap("check");
            let (summary, modalities) = match how {
                "appended" => append(&all, &older, staging, clock),
                "refitted" => whole(&all, &Model::Match(&older), staging, clock, Vec::new()),
                _ => whole(&all, &Model::Keep(&older), staging, clock, Vec::new()),
            }?;
            (updated.summary, updated.modalities) = (Some(summary), modalities);
        }
        updated.bytes_read = dataset.bytes_read();
        Ok(updated)
    })
}

/// The plan in `old` for a copy of its planned rows, which lie elsewhere: nothing is counted, every row is assigned as it was. The
/// copy has no held-out rows, so nothing is held out of it.
pub(super) fn carry_over(old: &Path, copy: &[String], run: &Run, progress: &Progress) -> Result<Summary> {
    run.scope(progress, |engine| {
        let plan = Plan::open(old)?;
        let mut config = plan.config()?;
        let dataset = plan.open_dataset(copy, run.memory, progress)?;
        config.features.bytes_as = dataset.bytes_as();
        // The rows that these leave out are not in the copy.
        config.batches.holdout = 0.0;
        config.splits = Default::default();
        config.source.filter = None;
        // The size of the batches that the copy is made of, also where one of whole streams would be larger.
        config.batch_size.size = Number::Fixed(plan.manifest().batch_size.into());
        // Read in its own order, the copy costs the local order nothing. Other batches than plain ones have only the global one.
        if config.chunk() == 1 && config.batches.no_duplicates.is_empty() {
            config.locality.kind = Order::Local;
        }
        config.batches.epochs = Some(0);
        let encoder = run.open_encoder(&config)?;
        let limits = Check { quick: true, ..Check::default() };
        let (outcome, matched) = check::compare(&plan, &dataset, encoder.as_ref(), &limits, engine)?;
        let Some(matched) = matched else {
            let help = "copy the columns that the plan was made from, too";
            return Err(Error::input(
                "dataset",
                format!("does not fit the plan: {}", outcome.headline()),
                help,
            ));
        };
        let older = Older { plan: &plan, matched: &matched, coverage: &outcome.coverage, deal: true };
        let roles = Roles::choose(&config, &dataset, encoder.as_ref())?;
        let all = All { dataset: &dataset, roles: &roles, config: &config, run, inputs: copy, engine };
        let mut needs = estimate::estimate(&dataset, &roles, &config, run, engine.threads())?;
        needs.memory_needed += estimate::of_tables(&plan);
        estimate::refuse(&needs, run)?;
        let staging = Staging::begin(&run.out, run.force)?;
        let model = match config.modalities.estimator {
            EstimatorSpec::Column => Model::Match(&older),
            _ => Model::Keep(&older),
        };
        Ok(whole(&all, &model, staging, Clock::start(), Vec::new())?.0)
    })
}

/// Why merging is not enough; None if it is.
fn reread(plan: &Plan, config: &Config, matched: &Matched) -> Option<String> {
    if !matched.only_appended() {
        return Some("rows of the plan are gone, changed or in other row groups".into());
    }
    if config.splits.group_list().is_ok_and(|list| list.contains(&Group::Prototype)) {
        return Some("splits keep prototypes together, and the plan does not store those of rows".into());
    }
    if config.weights.centrality != Centrality::Distance {
        return Some("this centrality is ranked by more than the plan stores".into());
    }
    let file = |kind: Kind| plan.manifest().file(kind.path()).is_some();
    (!file(Kind::Reference)).then(|| "the plan has no reference to merge with".into())
}

pub fn made_from(plan: &Plan, how: &str, modalities: &[Option<u32>]) -> format::manifest::MadeFrom {
    let id = plan.manifest().plan.clone();
    format::manifest::MadeFrom { plan: id, how: how.into(), modalities: modalities.to_vec() }
}

/// Numbers the modalities of a new fit after those of an older plan: by the sample rows that are in both, and by what the
/// old prototypes say of the others where the features are the same. Unmatched ones come last, by size. Returns the old
/// number of every new one.
pub fn rename(
    fit: &mut Fit,
    plan: &Plan,
    matched: &Matched,
    roles: &Roles,
    dataset: &Dataset,
    prepared: &Prepared,
) -> Result<Vec<Option<u32>>> {
    let (new, old) = (fit.kind.len(), plan.manifest().modalities as usize);
    let by_name = plan.config()?.modalities.estimator == EstimatorSpec::Column;
    let mut overlap = vec![vec![0u64; old]; new];
    if by_name {
        let kinds: Vec<String> = plan.modalities()?.into_iter().map(|m| m.kind).collect();
        for (overlap, kind) in overlap.iter_mut().zip(&fit.kind) {
            overlap.iter_mut().zip(&kinds).for_each(|(x, k)| *x = u64::from(k == kind));
        }
    } else {
        let (sources, samples) = (plan.sources()?, plan.samples()?);
        let model = plan.model()?;
        let same_features =
            plan.assigner()?.with_encoder(roles.encoder)?.map(dataset).is_ok_and(|f| f == prepared.features);
        let guessed = same_features.then(|| {
            let mut item = crate::modalities::Assigned::default();
            item.points.rows = prepared.sample.rows.clone();
            item.points.points = prepared.sample.points.clone();
            item.points.state = vec![Default::default(); prepared.sample.rows.len()];
            model.assign(&mut item);
            item.modality
        });
        for (i, (&row, &label)) in prepared.sample.rows.iter().zip(&fit.labels).enumerate() {
            let place = dataset.locate(row);
            let known = matched.origin[place.row_group].map(|s| sources[s].first_row + place.offset);
            let was = known.and_then(|row| samples.get(row)).map(|x| x.modality);
            if let Some(m) = was.or_else(|| guessed.as_ref().map(|g| g[i])).filter(|&m| m != NONE) {
                overlap[label as usize][m as usize] += 1;
            }
        }
    }
    let was = matching(&overlap, old);
    let mut size = vec![0u64; new];
    fit.labels.iter().for_each(|&m| size[m as usize] += 1);
    let mut order: Vec<usize> = (0..new).collect();
    order.sort_by_key(|&m| (was[m].unwrap_or(NONE), std::cmp::Reverse(size[m]), m));
    let mut number = vec![0; new];
    order.iter().zip(0u32..).for_each(|(&m, i)| number[m] = i);
    fit.labels.iter_mut().for_each(|m| *m = number[*m as usize]);
    fit.kind = order.iter().map(|&m| fit.kind[m].clone()).collect();
    fit.prominence = order.iter().map(|&m| fit.prominence[m]).collect();
    Ok(order.iter().map(|&m| was[m]).collect())
}

/// What the pass over the new rows found.
struct Passed {
    tally: Tally,
    moments: FullMoments,
    gain: GainSums,
    reference: Vec<RandomFeature>,
    profile: Vec<profile::ProfileRow>,
    content: Vec<Hashes>,
}

/// Reads the new row groups and merges. All row groups of the plan are there, perhaps at other numbers.
fn append(
    all: &All<'_>,
    older: &Older<'_>,
    staging: Staging,
    clock: Clock,
) -> Result<(Summary, Vec<Option<u32>>)> {
    let All { dataset, roles, config, run, inputs, engine } = *all;
    let Older { plan, matched, .. } = *older;
    let progress = engine.progress();
    let (manifest, sources) = (plan.manifest(), plan.sources()?);
    let fresh = matched.fresh();
    let scratch = staging.scratch()?;
    let rows = RowFile::create(&scratch.join("rows"), ROW_BYTES)?;
    // Old rows first, from what the plan says of them.
    for (group, origin) in dataset.row_groups().iter().zip(&matched.origin) {
        if let Some(s) = *origin {
            copy_rows(plan, sources[s].first_row, group.rows, &rows, group.first_row)?;
        }
    }
    let (held, place) = (older.held()?, numbers(plan, dataset, matched)?);
    // They have a stratum, and no modality: see `settle`.
    for h in &held {
        rows.write(place(h.row), &Row { stratum: h.stratum, ..Row::OUT }.to_bytes())?;
    }
    // Without the contents of the old ones those of new ones help nobody.
    let holds = config.has_splits() && !config.splits.kind().is_some_and(SplitKind::folds);
    let contents = match held.iter().all(|h| h.content.is_some()) && holds {
        true => Some(RowFile::create(&scratch.join("contents"), holdout::CONTENT_BYTES)?),
        false => None,
    };
    if let Some(contents) = &contents {
        contents.write(dataset.rows() - 1, &[0; holdout::CONTENT_BYTES])?;
        for h in &held {
            contents.write(place(h.row), &h.content.unwrap_or_default().hash)?;
        }
    }
    let passed = read_new(all, plan, &fresh, &rows, contents.as_ref())?;
    let clock = clock.lap("assign");

    let offsets = plan.strata()?.offsets();
    let prototypes = plan.prototypes()?;
    let modalities = plan.modalities()?;
    // Old rows do not name their prototype: the plan's own counts do.
    let mut tally = passed.tally.clone();
    for (h, o) in offsets.windows(2).enumerate() {
        *tally.strata.entry(h as u32).or_default() += o[1] - o[0];
    }
    for (m, x) in modalities.iter().enumerate() {
        *tally.modalities.entry(m as u32).or_default() += x.rows;
    }
    for (q, n) in prototypes.iter().flat_map(|p| p.rows.iter().enumerate()) {
        *tally.prototypes.entry(q as u32).or_default() += n;
    }
    let members = plan.strata()?;
    let leaves = |_: &settle::Census| strata::leaves(members.dendrogram(), members.strata());
    let old = match config.has_splits() {
        true => older.splits(dataset, contents.as_ref())?,
        false => Vec::new(),
    };
    let splitter = Splitter::new(all, old, Some(plan), &leaves);
    let deal = |census: &_, rows: &_| splitter.deal(census, rows);
    let asked =
        config.has_splits().then_some(Asked { leaves: &leaves, deal: &deal, contents: contents.as_ref() });
    let mut settled = settle::settle(rows, dataset.rows(), &tally, asked, &scratch, progress)?;
    let dealt = splitter.dealt.into_inner();
    // Of old rows only the held-out ones' contents are known: what they had in common with others is added.
    let copies: BTreeMap<u64, u64> =
        held.iter().filter_map(|h| Some((place(h.row), h.content?.copies))).collect();
    for h in &mut settled.held_out {
        h.content.iter_mut().for_each(|c| c.copies += copies.get(&h.row).unwrap_or(&0));
    }
    let clock = clock.lap("rank");

    let contents = merge(all, older, &passed, &settled, &place)?;
    let was: Vec<Option<u32>> = (0..manifest.modalities).map(Some).collect();
    let mut info = write::run_info(run, engine.threads(), inputs, dataset);
    let warnings = super::prepare::rounded(dataset, &roles.inputs);
    warnings.iter().for_each(|w| progress.warn(w));
    info.made_from = Some(made_from(plan, "appended", &was));
    let summary =
        write::write(dataset, config, contents, settled, dealt, staging, run, info, clock, warnings, engine)?;
    Ok((summary, was))
}

/// Rows of samples.arrow as the working file has them.
fn copy_rows(plan: &Plan, first: u64, count: u64, file: &RowFile, to: u64) -> Result<()> {
    let samples = plan.samples()?;
    let mut bytes = Vec::new();
    for start in (0..count).step_by(CHUNK as usize) {
        bytes.clear();
        for row in first + start..first + (start + CHUNK).min(count) {
            let x = samples.get(row);
            let id = |of: fn(&format::samples::SampleValues) -> u32| x.as_ref().map_or(NONE, of);
            let distance = x.as_ref().map_or(f32::NAN, |x| x.distance);
            let (modality, stratum) = (id(|x| x.modality), id(|x| x.stratum));
            let ranked = if modality == NONE { 0.0 } else { distance };
            bytes.extend_from_slice(&Row { prototype: NONE, modality, stratum, distance, ranked }.to_bytes());
        }
        file.write(to + start, &bytes)?;
    }
    Ok(())
}

/// Number of every old row in the new data.
fn numbers<'a>(
    plan: &'a Plan,
    dataset: &'a Dataset,
    matched: &'a Matched,
) -> Result<impl Fn(u64) -> u64 + 'a> {
    let sources = plan.sources()?;
    let mut first = vec![0; sources.len()];
    for (group, origin) in dataset.row_groups().iter().zip(&matched.origin) {
        if let Some(s) = *origin {
            first[s] = group.first_row;
        }
    }
    Ok(move |row: u64| {
        let s = sources.partition_point(|s| s.first_row + s.rows <= row);
        first[s] + (row - sources[s].first_row)
    })
}

/// One pass over the new row groups with the old model.
fn read_new(
    all: &All<'_>,
    plan: &Plan,
    fresh: &[usize],
    rows: &RowFile,
    contents: Option<&RowFile>,
) -> Result<Passed> {
    let All { dataset, config, engine, .. } = *all;
    let part = dataset.only(fresh);
    if fresh.is_empty() {
        return Ok(Passed {
            tally: Tally::default(),
            moments: FullMoments::default(),
            gain: crate::parts::Pass::finish(&Gain::new(None, &[], 0), None)?,
            reference: Vec::new(),
            profile: Vec::new(),
            content: Vec::new(),
        });
    }
    let shift: Vec<f64> =
        plan.statistics()?.into_iter().filter(|s| s.modality.is_none()).map(|s| s.mean).collect();
    let label = match &config.source.label {
        Some(name) => {
            let values = part.values(name, &Naming::Value, &Selection::all(part.rows()), engine)?;
            Some(Label::new(name, values.into_iter().map(|v| v.0)))
        }
        None => None,
    };
    let hashed = coverage::hashed_columns(plan, dataset)?;
    let profiled = profiled(plan, dataset)?;
    let mut more = hashed.clone();
    more.extend(label.iter().flat_map(|_| config.source.label.clone()));
    more.extend(profiled.iter().map(|p| p.0.clone()));
    let numbers: Vec<u64> = fresh.iter().map(|&g| dataset.row_groups()[g].first_row).collect();
    let first_rows: Vec<u64> = part.row_groups().iter().map(|g| g.first_row).collect();
    let runs = first_rows.iter().copied().zip(numbers.iter().copied()).collect();
    let sink = Sink::Files { rows: rows.clone(), contents: contents.cloned(), runs: Arc::new(runs) };
    let stored = plan.reference()?.filter(|r| r.frequency.rows() == R);
    let reference = stored.map(|r| Reference::again(r.frequency, r.phase));
    let pass = (
        Rows::new(Ranking::Distance, sink),
        Moments::new(shift.clone()),
        Gain::new(label, &shift, config.seed),
        (reference, None),
        Some(Profile::again(profiled)),
        Content::new(hashed, first_rows, plan.content_key()?).numbered(numbers.clone()),
    );
    let assigner = plan.assigner()?.with_encoder(all.roles.encoder)?.with_contents(contents.is_some());
    let (tally, moments, gain, (reference, _), profile, content) =
        assigner.run(&part, &more, None, engine, &pass)?;
    let (reference, profile) = (reference.unwrap_or_default(), profile.unwrap_or_default());
    Ok(Passed { tally, moments, gain, reference, profile, content })
}

/// The columns of the old profile that are counted in the full data, with the values it lists; None: numbers.
fn profiled(plan: &Plan, dataset: &Dataset) -> Result<Vec<(String, Option<BTreeSet<String>>)>> {
    let mut columns: Vec<(String, Option<BTreeSet<String>>)> = Vec::new();
    let mut lengths = BTreeSet::new();
    for row in plan.profile()?.unwrap_or_default() {
        if row.value.starts_with("length=") {
            lengths.insert(row.column.clone());
        }
        let place = columns.iter().position(|c| c.0 == row.column).unwrap_or_else(|| {
            columns.push((row.column.clone(), Some(BTreeSet::new())));
            columns.len() - 1
        });
        if row.value.starts_with("mean=") {
            columns[place].1 = None;
        } else if let Some(values) = columns[place].1.as_mut().filter(|_| row.value != "nulls") {
            values.insert(row.value);
        }
    }
    columns.retain(|c| !lengths.contains(&c.0) && dataset.columns().iter().any(|d| d.name == c.0));
    Ok(columns)
}

/// The tables of the old plan and of the new rows put together.
fn merge(
    all: &All<'_>,
    older: &Older<'_>,
    passed: &Passed,
    settled: &Settled,
    place: &impl Fn(u64) -> u64,
) -> Result<Contents> {
    let All { dataset, .. } = *all;
    let Older { plan, matched, .. } = *older;
    let manifest = plan.manifest();
    let census = &settled.census;
    let members = plan.strata()?;
    let old = plan.statistics()?;
    let then = old.iter().find(|s| s.modality.is_none()).map_or(0, |s| s.count) as f64;
    let now = passed.moments.total() as f64;
    let statistics = Box::new(merge_statistics(old, &passed.moments).into_iter());
    let profile = merge_profile(plan, &passed.profile, &census.modality_rows)?;
    let strata: Vec<u32> = (0..manifest.strata).collect();
    // What the strata leave of a variance; `share`: what they explain of the new rows'.
    let merged = |old: f64, share: &dyn Fn() -> f64| {
        if now == 0.0 {
            return old;
        }
        // Few rows a stratum: chance alone explains some of the variance.
        let share = corrected(share(), now, passed.tally.strata.len() as f64);
        (old * then + (1.0 - share) * now) / (then + now)
    };
    let gain = manifest.gain.clone().map(|gain| format::manifest::Gain {
        value: merged(gain.value, &|| passed.gain.share(&strata)),
        ..gain
    });
    let run_distance =
        manifest.run_distance.map(|old| merged(old, &|| 1.0 - passed.gain.distance_within(&strata)));
    let planned = census.planned() as f64;
    let mut modalities = plan.modalities()?;
    for (m, x) in modalities.iter_mut().enumerate() {
        let id = m as u32;
        let (old, new) = (x.rows as f64, passed.tally.modalities.get(&id).copied().unwrap_or(0) as f64);
        let squares = f64::from(x.rms_radius) * f64::from(x.rms_radius) * old
            + passed.tally.squares.get(&id).copied().unwrap_or(0.0);
        x.rms_radius = (squares / (old + new)).sqrt() as f32;
        x.rows = census.modality_rows[m];
        x.share = x.rows as f64 / planned;
        x.distance_quantiles = settled.ranked_quantiles[m];
        x.distance_cells.clone_from(&settled.ranked_cells[m].rows);
    }
    let mut prototypes = plan.prototypes()?;
    if let Some(p) = &mut prototypes {
        p.rows.clone_from(&census.prototype_rows);
        // The prototypes have seen none of the new rows.
        for (q, rows) in p.unseen_rows.iter_mut().enumerate() {
            *rows += passed.tally.prototypes.get(&(q as u32)).copied().unwrap_or(0);
        }
    }
    let mut shown = plan.sample()?.unwrap_or_default();
    shown.iter_mut().for_each(|row| row.row = place(row.row));
    shown.sort_by_key(|row| row.row);
    let prints: Vec<&str> = matched.prints.iter().map(|p| p.0.as_str()).collect();
    let old_rows = |s: u64| manifest.rows - s;
    Ok(Contents {
        config: manifest.config.clone(),
        dims: manifest.dims as usize,
        dendrogram: members.dendrogram().to_vec(),
        score_groups: manifest.score_groups.clone(),
        stratum_names: members.names().cloned(),
        gain,
        run_distance,
        modality_share: manifest.modality_share.clone(),
        estimator: manifest.estimator.clone(),
        inputs: write::inputs(dataset, &prints),
        sources: merge_sources(plan, dataset, matched, &passed.content)?,
        content_key: plan.content_key()?,
        clear: all.config.modalities.clear(&modalities.iter().map(|m| m.share).collect::<Vec<_>>()),
        modalities,
        features: plan.features()?,
        projection: plan.projection()?,
        prototypes,
        statistics,
        spread: plan.spread()?,
        reference: merge_reference(plan, &passed.reference, then, now)?,
        profile,
        shown,
        curve: plan.curve()?.unwrap_or_default(),
        evidence: plan.evidence()?.unwrap_or_default(),
        // The plan does not tell filtered rows from invalid ones.
        filtered: old_rows(manifest.rows_planned + older.held()?.len() as u64) + passed.tally.filtered,
        invalid: passed.tally.invalid,
    })
}

fn merge_sources(
    plan: &Plan,
    dataset: &Dataset,
    matched: &Matched,
    content: &[Hashes],
) -> Result<Vec<format::sources::Source>> {
    let old = plan.sources()?;
    let mut known: Vec<Hashes> = content.to_vec();
    known.reverse();
    let keyed = plan.content_key()?.is_some();
    let source = |(g, group): (usize, &crate::source::RowGroup)| {
        let place = format::sources::Source {
            file: dataset.files()[group.file].path.clone(),
            row_group: group.row_group as i32,
            first_row: group.first_row,
            rows: group.rows,
            bytes: matched.prints[g].1,
            fingerprint: matched.prints[g].0.clone(),
            ..Default::default()
        };
        match matched.origin[g] {
            Some(s) => {
                let old = &old[s];
                format::sources::Source {
                    content: old.content,
                    // One of row numbers, too: it is not known where these have changed.
                    sequence: old.sequence.filter(|_| old.first_row == group.first_row),
                    ordered: old.ordered,
                    types: old.types,
                    ..place
                }
            }
            None => {
                let hashes = known.pop().expect("every new row group was read");
                format::sources::Source {
                    content: hashes.content,
                    sequence: (!keyed).then_some(hashes.sequence),
                    ordered: if keyed { hashes.ordered() } else { None },
                    types: Some(matched.types[g]),
                    ..place
                }
            }
        }
    };
    Ok(dataset.row_groups().iter().enumerate().map(source).collect())
}

/// Count, mean, variance and range of old and new rows together (Chan, Golub & LeVeque 1983).
fn merge_statistics(mut old: Vec<Statistic>, new: &FullMoments) -> Vec<Statistic> {
    let dims = old.iter().filter(|s| s.modality.is_none()).count();
    for (i, s) in old.iter_mut().enumerate() {
        let Some(m) = new.of(s.modality, i % dims) else { continue };
        let (a, b) = (s.count as f64, m.count as f64);
        let delta = m.mean - s.mean;
        if s.min != s.max || m.min != m.max || s.min != m.min {
            s.variance = (a * s.variance + b * m.variance + delta * delta * a * b / (a + b)) / (a + b);
            s.mean += delta * b / (a + b);
        }
        s.count += m.count;
        s.nulls += m.nulls;
        (s.min, s.max) = (s.min.min(m.min), s.max.max(m.max));
    }
    old
}

fn merge_reference(
    plan: &Plan,
    new: &[RandomFeature],
    then: f64,
    now: f64,
) -> Result<format::reference::Reference> {
    let mut old = plan.reference()?.unwrap_or_default();
    let r = old.mean.len();
    if new.len() != r || now == 0.0 {
        return Ok(old);
    }
    let (a, b) = (then / (then + now), now / (then + now));
    let delta: Vec<f64> = new.iter().zip(&old.mean).map(|(n, m)| n.mean - m).collect();
    for (i, feature) in new.iter().enumerate() {
        for j in 0..r {
            let c = &mut old.covariance[i * r + j];
            *c = a * *c + b * feature.covariance[j] + a * b * delta[i] * delta[j];
        }
    }
    old.mean.iter_mut().zip(&delta).for_each(|(m, d)| *m += b * d);
    Ok(old)
}

/// The old profile with the new rows counted in. `rows` of every modality.
fn merge_profile(plan: &Plan, new: &[profile::ProfileRow], rows: &[u64]) -> Result<Vec<ProfileRow>> {
    let old = plan.profile()?.unwrap_or_default();
    let total: u64 = rows.iter().sum();
    let of = |m: Option<u32>| m.map_or(total, |m| rows[m as usize]) as f64;
    let statistic = |value: &str| value == "nulls" || value.starts_with("mean=");
    type Key<'a> = (Option<u32>, &'a str);
    let mut counts: BTreeMap<(Key<'_>, &str), (u64, f64)> = BTreeMap::new();
    for row in new {
        let (name, value) = match row.value.strip_prefix("mean=").filter(|_| row.statistic) {
            Some(number) => ("mean=", number.parse().unwrap_or(0.0)),
            None => (row.value.as_str(), 0.0),
        };
        counts.insert(((row.modality, &row.column), name), (row.count, value));
    }
    let sampled = |value: &str| value.starts_with("quantile ") || value.starts_with("length=");
    let mut out: Vec<ProfileRow> = Vec::new();
    for block in old.chunk_by(|a, b| (a.modality, &a.column) == (b.modality, &b.column)) {
        let key: Key<'_> = (block[0].modality, &block[0].column);
        if block.iter().any(|r| r.value.starts_with("length=")) {
            out.extend(block.iter().cloned());
            continue;
        }
        let mut here: Vec<ProfileRow> = Vec::new();
        for told in block {
            let mut row = told.clone();
            if let Some(mean) = row.value.strip_prefix("mean=").and_then(|m| m.parse::<f64>().ok()) {
                let (n, x) = counts.remove(&(key, "mean=")).unwrap_or_default();
                let (a, b) = (row.count as f64, n as f64);
                row.value = format!("mean={}", (mean * a + x * b) / (a + b));
                row.count += n;
            } else if !sampled(&row.value) {
                row.count += counts.remove(&(key, told.value.as_str())).map_or(0, |c| c.0);
            }
            if !sampled(&row.value) {
                row.share = row.count as f64 / of(row.modality);
            }
            here.push(row);
        }
        // A list that was not cut off tells all values there were.
        let listed = profile::listed(block[0].modality);
        let told = here.iter().filter(|r| !statistic(&r.value) && !sampled(&r.value)).count();
        if told < listed && !here.iter().any(|r| r.value.starts_with("mean=")) {
            let more: Vec<(String, u64)> = (counts.range((key, "")..))
                .take_while(|((k, _), _)| *k == key)
                .map(|((_, value), (n, _))| (value.to_string(), *n))
                .collect();
            for (value, count) in more {
                let share = count as f64 / of(key.0);
                let (modality, column) = (key.0, key.1.to_string());
                let row = ProfileRow {
                    modality,
                    column,
                    value,
                    count,
                    share,
                    lift: f64::NAN,
                    ..Default::default()
                };
                here.push(row);
            }
        }
        let (statistics, mut values): (Vec<_>, Vec<_>) =
            here.into_iter().partition(|r| statistic(&r.value) || sampled(&r.value));
        values.sort_by(|a, b| b.count.cmp(&a.count).then(a.value.cmp(&b.value)));
        values.truncate(listed);
        out.extend(values.into_iter().chain(statistics));
    }
    let label = |row: &ProfileRow| {
        let name = row.value.split_once('=').filter(|_| statistic(&row.value) || sampled(&row.value));
        (row.column.clone(), name.map_or(row.value.clone(), |(name, _)| name.into()))
    };
    let overall: BTreeMap<(String, String), f64> =
        out.iter().filter(|r| r.modality.is_none()).map(|r| (label(r), r.share)).collect();
    for row in &mut out {
        row.lift = overall.get(&label(row)).map_or(row.lift, |all| row.share / all);
    }
    Ok(out)
}
