//! The last stages: strata, batch size, scores and epochs, every file of the plan, and the summary.

use std::collections::BTreeMap;

use serde_json::Value;

use super::assign::{MAX_SHOWN, Passed};
use super::fit::{self, Fitted};
use super::prepare::{Prepared, Roles};
use super::settle::{Census, Settled};
use super::{Clock, Summary, peak_memory};
use crate::batch_size::{self, BatchSize};
use crate::config::{Config, Run};
use crate::epochs::Epochs;
use crate::error::Result;
use crate::ids::{NONE, RowIds, RowType};
use crate::matrix::Matrix;
use crate::plan::manifest::GainKind;
use crate::plan::{self, FileEntry, Kind, Manifest, Staging, TableReader};
use crate::progress::Progress;
use crate::rng::Stream;
use crate::scores::LARGEST_SHARE;
use crate::source::Dataset;
use crate::statistics::{moments, profile};
use crate::strata;
use crate::weights::Centrality;

/// The share of the gradient's variance taken for the modalities' where no label tells.
const UNKNOWN_SHARE: f64 = 0.5;

/// All that the stages before left.
pub struct Everything<'a> {
    pub dataset: &'a Dataset,
    pub roles: &'a Roles,
    pub config: &'a Config,
    pub prepared: Prepared,
    pub fitted: Fitted,
    pub pass: Passed,
    pub settled: Settled,
}

/// Writes and commits the plan.
#[expect(clippy::too_many_arguments, reason = "called once, where all of it is at hand")]
pub fn write(
    all: Everything<'_>,
    staging: Staging,
    run: &Run,
    given: &[String],
    threads: usize,
    clock: Clock,
    mut warnings: Vec<String>,
    progress: &Progress,
) -> Result<Summary> {
    let Everything { dataset, roles, config, prepared, fitted, pass, settled } = all;
    let root = staging.path();
    let census = &settled.census;
    let row_type = settled.row_type();
    let mut files: Vec<FileEntry> = Vec::new();

    // What everything below hangs on.
    let dendrogram = strata::dendrogram(
        &stratum_centers(&prepared, &fitted, census),
        &census.stratum_rows,
        census.modality_of_stratum.as_deref(),
    );
    let score_groups = strata::score_groups(
        census.modality_of_stratum.as_deref(),
        census.modalities.len() as u32,
        census.strata.len() as u32,
        &dendrogram,
    );
    let size = batch_size::choose(&config.batch_size, &census.modality_rows)?;
    let planned = census.planned();
    if config.batches.drop_last && planned < size.candidates[0] {
        return Err(crate::Error::config(
            "batches.drop_last",
            format!(
                "drops everything: {planned} planned rows are fewer than a batch of {}",
                size.candidates[0]
            ),
            "leave out --drop-last, or choose a smaller --batch-size",
        ));
    }
    let draws = config.batches.counts(&census.stratum_rows)?;
    let identity: Vec<u32> = (0..census.strata.len() as u32).collect();
    let explained = |groups: &[u32]| pass.gain.share(&by_old_id(&census.strata, groups));
    let gain = plan::manifest::Gain {
        value: 1.0 - explained(&identity),
        kind: if pass.gain.labelled() { GainKind::Label } else { GainKind::Features },
    };
    let (share, share_from) = match config.scores.modality_share {
        Some(share) => (share, "given"),
        None if pass.gain.labelled() => (explained(&score_groups).clamp(0.0, LARGEST_SHARE), "label"),
        None => (UNKNOWN_SHARE, "default"),
    };
    let threshold = config.scores.threshold(size.size);

    // One entry a row.
    let stage = progress.stage("write", "rows", 2 * dataset.rows());
    let mut samples = plan::samples::SamplesWriter::create(root)?;
    settled.samples(|c| {
        samples.push(&c.modality, &c.stratum, &c.distance, &c.centrality)?;
        stage.advance(c.modality.len() as u64)
    })?;
    files.push(samples.finish()?);
    let offsets = settled.offsets();
    let values = stratum_values(&prepared, census);
    let mut members =
        plan::strata::StrataWriter::create(root, row_type, &offsets, &dendrogram, values.as_deref())?;
    settled.members(|bytes| {
        stage.advance((bytes.len() / row_type.width()) as u64)?;
        push_members(&mut members, row_type, bytes)
    })?;
    files.push(members.finish()?);
    if !settled.held_out.is_empty() {
        files.push(plan::holdout::encode(&settled.held_out, row_type).write(root)?);
    }
    drop(stage);

    // The small tables.
    files.push(plan::sources::encode(&sources(dataset, &prepared, &pass)).write(root)?);
    let names: Vec<String> = census.modalities.iter().map(|&m| profile::name(&pass.profile, m)).collect();
    files.push(
        plan::modalities::encode(
            &modalities(&fitted, &pass, &settled, &names, config),
            prepared.features.dims(),
        )
        .write(root)?,
    );
    if let Some(rows) = prepared.features.rows() {
        let rows: Vec<plan::features::Feature> = rows.into_iter().map(feature).collect();
        files.push(plan::features::encode(&rows).write(root)?);
    }
    if let Some(projection) = &fitted.model.projection {
        files.push(plan::projection::encode(projection).write(root)?);
    }
    if fitted.model.prototypes.rows() > 0 {
        files.push(plan::prototypes::encode(&prototypes(&fitted, census)).write(root)?);
    }
    files.push(plan::weights::encode(&knots(config), &config.weights.formula()).write(root)?);
    files.push(plan::statistics::encode(&statistics(&prepared, &fitted, &pass, census)).write(root)?);
    files.push(plan::reference::encode(&reference(&pass)).write(root)?);
    files.push(plan::profile::encode(&profile_rows(&pass, census)).write(root)?);
    files.push(
        plan::sample::encode(&shown(&prepared, &fitted, census, &settled, config), row_type).write(root)?,
    );
    files.push(plan::evidence::encode(Kind::Curve, &fitted.fit.curve).write(root)?);
    files.push(plan::evidence::encode(Kind::Evidence, &fitted.fit.evidence).write(root)?);
    let clock = clock.lap("tables");

    // The epochs, dealt from the files just written.
    let epochs = config.batches.epochs(dataset.rows());
    let members =
        plan::strata::Members::decode(&TableReader::open(&root.join(Kind::Strata.path()), Kind::Strata)?)?;
    let samples =
        plan::samples::Samples::decode(&TableReader::open(&root.join(Kind::Samples.path()), Kind::Samples)?)?;
    let source = Epochs {
        members: members.rows(),
        offsets: &offsets,
        dendrogram: &dendrogram,
        score_groups: &score_groups,
        draws: draws.as_deref(),
        seed: config.seed,
        base: size.candidates[0],
        drop_last: config.batches.drop_last,
        modality_share: share,
        information_threshold: threshold,
    };
    let with_centrality = config.weights.schedule != crate::weights::Schedule::Off;
    let batches_per_epoch = source.epoch(0, size.size).len();
    let stage = progress.stage("batches", "rows", epochs as u64 * size.candidates.len() as u64 * planned);
    for &candidate in &size.candidates {
        for epoch in 0..epochs {
            let centrality = with_centrality.then_some(&samples);
            files.push(plan::epoch::write(
                root,
                &source,
                candidate,
                epoch,
                centrality,
                row_type,
                progress,
                |n| stage.advance(n),
            )?);
        }
    }
    drop(stage);
    let clock = clock.lap("batches");

    let manifest = Manifest {
        format: plan::FORMAT.to_string(),
        tool: plan::manifest::Tool::this(),
        plan: String::new(),
        rows: dataset.rows(),
        rows_planned: planned,
        row_type,
        dims: prepared.features.dims() as u32,
        modalities: census.modalities.len() as u32,
        strata: census.strata.len() as u32,
        batch_size: size.size as u32,
        samples_per_modality: size.samples_per_modality,
        coverage: size.covered,
        information_threshold: threshold,
        modality_share: plan::manifest::ModalityShare { value: share, source: share_from.into() },
        score_groups: score_groups.clone(),
        epochs,
        seed: config.seed,
        candidates: size.candidates.iter().map(|&b| candidate(b, threshold)).collect(),
        estimator: plan::manifest::Estimator {
            name: config.modalities.estimator.name().into(),
            params: fitted.fit.details.clone().into_iter().collect(),
            confidence: fitted.fit.confidence,
            interval: fitted.fit.interval,
        },
        gain: Some(gain.clone()),
        config: used_config(config, &roles.inputs),
        files,
        inputs: inputs(dataset, &prepared),
    };
    let bytes = manifest.files.iter().map(|f| f.bytes).sum();
    let clear = fit::clear(&fitted.fit, config);
    if !clear {
        warnings
            .push("no clear number of modes at this resolution: fine strata carry the stratification".into());
    }
    let by_size = by_size(&settled, &names);
    let why = size_why(&size, config);
    drop((members, samples));
    let info = run_info(&clock, run, threads, given);
    dataset.unchanged()?;
    let manifest = staging.commit(manifest, &info)?;
    Ok(Summary {
        plan_id: manifest.plan,
        out: run.out.display().to_string(),
        rows: dataset.rows(),
        rows_planned: planned,
        filtered: pass.tally.filtered,
        invalid: pass.tally.invalid,
        held_out: census.held_out,
        dims: prepared.features.dims(),
        modalities: manifest.modalities,
        confidence: fitted.fit.confidence,
        interval: fitted.fit.interval,
        clear,
        estimator: manifest.estimator.name,
        largest: by_size.iter().take(5).cloned().collect(),
        rarest: by_size.iter().rev().take(3).cloned().collect(),
        strata: manifest.strata,
        batch_size: size.size,
        samples_per_modality: size.samples_per_modality,
        batch_size_why: why,
        random_batch: size.random,
        covered: size.covered,
        candidates: size.candidates,
        epochs,
        batches_per_epoch,
        gain: Some((gain.value, gain.kind == GainKind::Label)),
        information_threshold: threshold,
        files: manifest.files.len(),
        bytes,
        seconds: clock.seconds(),
        stages: clock.stages.clone(),
        peak_memory: peak_memory(),
        warnings,
    })
}

/// Little-endian row numbers of the plan's width to `strata.arrow`.
fn push_members(writer: &mut plan::strata::StrataWriter, row_type: RowType, bytes: &[u8]) -> Result<()> {
    match row_type {
        RowType::U32 => {
            let rows: Vec<u32> = bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
            writer.push(RowIds::U32(&rows))
        }
        RowType::U64 => {
            let rows: Vec<u64> = bytes.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
            writer.push(RowIds::U64(&rows))
        }
    }
}

/// The value of the column that stratifies in every stratum, if one does: ids of the fit are the value's number, or
/// modality x values + the value's number.
fn stratum_values(prepared: &Prepared, census: &Census) -> Option<Vec<String>> {
    let values: Vec<&String> = prepared.stratify.as_ref()?.ids.keys().collect();
    Some(census.strata.iter().map(|&id| values[id as usize % values.len()].clone()).collect())
}

/// Assignment of the sample's rows by the finished model, in the ids of the plan; [`NONE`] where the plan has none.
fn sample_assignment(fitted: &Fitted, census: &Census) -> (Vec<u32>, Vec<u32>) {
    let renumber = |of: &[u32], kept: &[u32]| -> Vec<u32> {
        of.iter().map(|id| kept.binary_search(id).map_or(NONE, |new| new as u32)).collect()
    };
    (renumber(&fitted.sample.modality, &census.modalities), renumber(&fitted.sample.stratum, &census.strata))
}

/// Centres of the strata in the projected space: of their prototypes, weighted by rows; where a column stratifies, of
/// their sample rows (the mean of all where the sample has none).
fn stratum_centers(prepared: &Prepared, fitted: &Fitted, census: &Census) -> Vec<Vec<f64>> {
    if !fitted.model.stratum.is_empty() {
        let of = |old: u32| fitted.model.stratum[old as usize];
        let stratum: Vec<u32> = (census.prototypes.iter())
            .map(|&q| census.strata.binary_search(&of(q)).expect("a stratum with rows is kept") as u32)
            .collect();
        let centers = fitted.model.prototypes.gather(census.prototypes.iter().map(|&q| q as usize));
        return strata::centers(&centers, &stratum, &census.prototype_rows);
    }
    let (_, strata_of) = sample_assignment(fitted, census);
    let z = crate::modalities::pca::apply(fitted.model.projection.as_ref(), &prepared.sample.points);
    let mut sums = vec![(vec![0.0; z.cols()], 0u64); census.strata.len()];
    let mut all = (vec![0.0; z.cols()], 0u64);
    for (row, &h) in z.iter_rows().zip(&strata_of) {
        let add = |(sum, count): &mut (Vec<f64>, u64)| {
            sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
            *count += 1;
        };
        add(&mut all);
        if h != NONE {
            add(&mut sums[h as usize]);
        }
    }
    let mean = |(sum, count): &(Vec<f64>, u64)| sum.iter().map(|s| s / *count as f64).collect();
    sums.iter().map(|s| if s.1 > 0 { mean(s) } else { mean(&all) }).collect()
}

fn sources(dataset: &Dataset, prepared: &Prepared, pass: &Passed) -> Vec<plan::sources::Source> {
    dataset
        .row_groups()
        .iter()
        .zip(&prepared.fingerprints)
        .zip(&pass.content)
        .map(|((group, (fingerprint, bytes)), &content)| plan::sources::Source {
            file: dataset.files()[group.file].path.clone(),
            row_group: group.row_group as i32,
            first_row: group.first_row,
            rows: group.rows,
            bytes: *bytes,
            fingerprint: fingerprint.clone(),
            content,
        })
        .collect()
}

fn inputs(dataset: &Dataset, prepared: &Prepared) -> Vec<plan::manifest::InputEntry> {
    let mut hashers: Vec<blake3::Hasher> = dataset.files().iter().map(|_| blake3::Hasher::new()).collect();
    for (group, (fingerprint, _)) in dataset.row_groups().iter().zip(&prepared.fingerprints) {
        hashers[group.file].update(fingerprint.as_bytes());
    }
    (dataset.files().iter().zip(hashers))
        .map(|(file, hasher)| plan::manifest::InputEntry {
            path: file.path.clone(),
            rows: file.rows,
            bytes: file.bytes,
            fingerprint: hasher.finalize().to_hex().to_string(),
        })
        .collect()
}

fn modalities(
    fitted: &Fitted,
    pass: &Passed,
    settled: &Settled,
    names: &[String],
    config: &Config,
) -> Vec<plan::modalities::Modality> {
    let census = &settled.census;
    let planned = census.planned() as f64;
    // Exact where the distance is what was ranked; else those of the sample.
    let of_sample = match config.weights.centrality {
        Centrality::Distance => None,
        _ => {
            let assigned = &fitted.sample;
            let mut by = vec![Vec::new(); fitted.model.centers.rows()];
            for (&m, &d) in assigned.modality.iter().zip(&assigned.distance).filter(|(m, _)| **m != NONE) {
                by[m as usize].push(d);
            }
            by.iter_mut().for_each(|d| d.sort_by(f32::total_cmp));
            Some(by)
        }
    };
    let quantiles = |new: usize, old: usize| match &of_sample {
        None => settled.ranked_quantiles[new],
        Some(by) => std::array::from_fn(|q| {
            let sorted = &by[old];
            if sorted.is_empty() { f32::NAN } else { sorted[(sorted.len() - 1) * q / 10] }
        }),
    };
    (census.modalities.iter().enumerate())
        .map(|(new, &old)| {
            let m = old as usize;
            let assigned = pass.tally.modalities[&old] as f64;
            plan::modalities::Modality {
                kind: fitted.fit.kind[m].clone(),
                rows: census.modality_rows[new],
                share: census.modality_rows[new] as f64 / planned,
                center: fitted.model.centers.row(m).to_vec(),
                rms_radius: (pass.tally.squares[&old] / assigned).sqrt() as f32,
                distance_quantiles: quantiles(new, m),
                prominence: fitted.fit.prominence[m],
                name: names[new].clone(),
            }
        })
        .collect()
}

fn prototypes(fitted: &Fitted, census: &Census) -> plan::prototypes::Prototypes {
    let model = &fitted.model;
    let of = |ids: &[u32], kept: &[u32]| -> Vec<u32> {
        census.prototypes.iter().map(|&q| place(kept, ids[q as usize])).collect()
    };
    plan::prototypes::Prototypes {
        modality: of(&model.modality, &census.modalities),
        stratum: if model.stratum.is_empty() { Vec::new() } else { of(&model.stratum, &census.strata) },
        rows: census.prototype_rows.clone(),
        centers: model.prototypes.gather(census.prototypes.iter().map(|&q| q as usize)),
    }
}

/// The rows for the report's map: the first two principal axes of the sample.
fn shown(
    prepared: &Prepared,
    fitted: &Fitted,
    census: &Census,
    settled: &Settled,
    config: &Config,
) -> Vec<plan::sample::SampleRow> {
    let sample = &prepared.sample;
    let (modality, _) = sample_assignment(fitted, census);
    let held: std::collections::BTreeSet<u64> = settled.held_out.iter().map(|h| h.0).collect();
    let mut places: Vec<usize> =
        (0..sample.rows.len()).filter(|&i| modality[i] != NONE && !held.contains(&sample.rows[i])).collect();
    places.sort_by_key(|&i| (Stream::Shown.key(config.seed, &[sample.rows[i]]), i));
    places.truncate(MAX_SHOWN);
    places.sort_unstable();
    let axes = crate::modalities::pca::projection(&sample.points, 2, config.seed);
    let map = crate::modalities::pca::apply(axes.as_ref(), &sample.points.gather(places.iter().copied()));
    let ids = config.source.id.as_ref().and_then(|id| prepared.table.as_ref()?.column_by_name(id));
    (places.iter().enumerate())
        .map(|(at, &i)| plan::sample::SampleRow {
            row: sample.rows[i],
            modality: modality[i],
            x: map.row(at)[0],
            y: map.row(at).get(1).copied().unwrap_or(0.0),
            id: ids.and_then(|column| crate::source::text_value(column, i)),
        })
        .collect()
}

fn candidate(batch_size: u64, threshold: f64) -> plan::manifest::Candidate {
    plan::manifest::Candidate {
        name: format!("size-{batch_size}"),
        batch_size: batch_size as u32,
        // A stratified batch is worth more than its rows, but never less: this many at the most.
        accumulation: (threshold / batch_size as f64).ceil().max(1.0) as u32,
        batches: plan::batches::path_pattern(batch_size as u32),
    }
}

/// The config with what was chosen for "choose for me".
fn used_config(config: &Config, inputs: &crate::features::Inputs) -> Value {
    let mut used = config.clone();
    used.features.columns = inputs.order.iter().map(|(name, _)| name.clone()).collect();
    used.batches = used.batches.resolved();
    serde_json::to_value(used).expect("a config is plain data")
}

/// (name, rows, share) by rows, descending.
fn by_size(settled: &Settled, names: &[String]) -> Vec<(String, u64, f64)> {
    let census = &settled.census;
    let planned = census.planned() as f64;
    let mut all: Vec<(u64, usize)> = census.modality_rows.iter().copied().zip(0..).collect();
    all.sort_by_key(|&(rows, m)| (std::cmp::Reverse(rows), m));
    let name = |m: usize| match names[m].as_str() {
        "" => format!("#{m}"),
        name => format!("#{m} {name}"),
    };
    all.into_iter().map(|(rows, m)| (name(m), rows, rows as f64 / planned)).collect()
}

fn size_why(size: &BatchSize, config: &Config) -> String {
    use batch_size::{Candidates, Size};
    let p = &config.batch_size;
    match (p.size, p.samples_per_modality, &p.candidates) {
        (Size::Fixed(_), _, _) => format!("as given; `auto` would take {}", size.computed),
        (_, Some(x), _) => format!("{x} rows a modality, rounded up"),
        (_, _, Candidates::List(_)) if size.size != size.computed => {
            format!("the listed size nearest to the computed {}", size.computed)
        }
        _ if p.coverage >= 1.0 => "the smallest with a row of every modality in every batch".into(),
        _ => format!(
            "the smallest with a row of every modality in every batch, at most {} % of the rows aside",
            (1e4 * (1.0 - p.coverage)).round() / 1e2
        ),
    }
}

fn run_info(clock: &Clock, run: &Run, threads: usize, inputs: &[String]) -> plan::manifest::RunInfo {
    plan::manifest::RunInfo {
        started: None,
        seconds: clock.seconds(),
        stages: (clock.stages.iter())
            .map(|(stage, seconds)| plan::manifest::StageTime { stage: stage.clone(), seconds: *seconds })
            .collect(),
        threads: threads as u32,
        memory: Some(run.memory),
        peak_memory: Some(peak_memory()),
        inputs: inputs.to_vec(),
        root: String::new(),
        host: BTreeMap::from([
            ("arch".into(), std::env::consts::ARCH.into()),
            ("simd".into(), crate::kernels::description().into()),
        ]),
    }
}

/// `groups` of the plan's strata, looked up by the ids of the fit; ids without rows are in no group that counts.
fn by_old_id(strata: &[u32], groups: &[u32]) -> Vec<u32> {
    let mut of = vec![0; strata.last().map_or(0, |&h| h as usize + 1)];
    strata.iter().zip(groups).for_each(|(&old, &group)| of[old as usize] = group);
    of
}

fn feature(row: crate::features::FeatureRow) -> plan::features::Feature {
    plan::features::Feature {
        column: row.column,
        operation: row.operation.name().into(),
        category: row.category,
        center: row.center,
        scale: row.scale,
    }
}

fn knots(config: &Config) -> Vec<plan::weights::Knot> {
    let knots = config.weights.schedule.knots(config.weights.strength);
    let narrow = |k: crate::weights::schedule::Knot| plan::weights::Knot {
        progress: k.progress as f32,
        beta: k.beta as f32,
        normaliser: k.normaliser as f32,
        effective_share: k.effective_share as f32,
    };
    knots.into_iter().map(narrow).collect()
}

fn statistics(
    prepared: &Prepared,
    fitted: &Fitted,
    pass: &Passed,
    census: &Census,
) -> Vec<plan::statistics::Statistic> {
    let of_sample = |modality: Option<u32>| {
        let members: Vec<u32> = (fitted.sample.modality.iter().zip(0..))
            .filter(|&(&m, _)| modality.is_none_or(|wanted| wanted == m))
            .map(|(_, i)| i)
            .collect();
        moments::quantiles(&prepared.sample.points, &members)
    };
    let names = prepared.features.names();
    let mut quantiles: BTreeMap<Option<u32>, Vec<[f64; 11]>> = BTreeMap::new();
    (pass.moments.iter())
        .map(|m| {
            let (column, index) = names[m.feature as usize].clone();
            let quantiles = quantiles.entry(m.modality).or_insert_with(|| of_sample(m.modality));
            plan::statistics::Statistic {
                modality: m.modality.map(|old| place(&census.modalities, old)),
                column,
                index,
                count: m.count,
                nulls: m.nulls,
                mean: m.mean,
                variance: m.variance,
                min: m.min,
                max: m.max,
                quantiles: quantiles[m.feature as usize],
            }
        })
        .collect()
}

/// New id of an id of the fit that has rows.
fn place(kept: &[u32], old: u32) -> u32 {
    kept.binary_search(&old).expect("what has rows is kept") as u32
}

fn reference(pass: &Passed) -> plan::reference::Reference {
    let features = &pass.reference;
    let p = features.first().map_or(0, |f| f.frequency.len());
    let frequency = features.iter().flat_map(|f| f.frequency.iter().copied()).collect();
    plan::reference::Reference {
        frequency: Matrix::from_vec(features.len(), p, frequency),
        phase: features.iter().map(|f| f.phase).collect(),
        mean: features.iter().map(|f| f.mean).collect(),
        covariance: features.iter().flat_map(|f| f.covariance.iter().copied()).collect(),
    }
}

fn profile_rows(pass: &Passed, census: &Census) -> Vec<plan::profile::ProfileRow> {
    (pass.profile.iter())
        .map(|row| plan::profile::ProfileRow {
            modality: row.modality.map(|old| place(&census.modalities, old)),
            column: row.column.clone(),
            value: row.value.clone(),
            count: row.count,
            share: row.share,
            lift: row.lift,
        })
        .collect()
}
