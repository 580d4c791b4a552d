//! The last stages: strata, batch size, scores and epochs, every file of the plan, and the summary.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::assign::Passed;
use super::fit::Fitted;
use super::prepare::{Prepared, Roles};
use super::settle::Settled;
use super::split::Dealt;
use super::{Clock, Summary, groups, local, peak_memory, tables};
use crate::batches::batch_size::{self, BatchSize};
use crate::batches::chunks::Chunk;
use crate::batches::duplicates::{Duplicates, Keys, divide};
use crate::batches::epochs::Epochs;
use crate::batches::labels;
use crate::batches::local::LocalOrder;
use crate::batches::number::Number;
use crate::batches::score::{LARGEST_SHARE, UNKNOWN_SHARE};
use crate::batches::strata;
use crate::config::{Config, Run};
use crate::format::dendrogram::Merge;
use crate::format::evidence::Criterion;
use crate::format::manifest::{GainKind, LeftOut};
use crate::format::projection::Projection;
use crate::format::strata::Names;
use crate::format::{self, FileEntry, Kind, Manifest, RunInfo, Staging, TableReader};
use crate::kernels::rows::RowIds;
use crate::kit::error::Result;
use crate::kit::ids::{NONE, RowType};
use crate::parts::Local;
use crate::plan::epochs;
use crate::plan::locality::Reading;
use crate::source::Dataset;

/// What the files of a plan hold, apart from what has one entry a row: from a whole run ([`contents`]) or merged from an old
/// plan and new rows ([`super::update`]).
pub struct Contents {
    /// As it goes into plan.json.
    pub config: Value,
    pub dims: usize,
    pub dendrogram: Vec<Merge>,
    pub score_groups: Vec<u32>,
    pub stratum_names: Option<Names>,
    pub gain: Option<format::manifest::Gain>,
    /// Of batches that are dealt in chunks.
    pub run_distance: Option<f64>,
    pub modality_share: format::manifest::ModalityShare,
    pub estimator: format::manifest::Estimator,
    pub inputs: Vec<format::manifest::InputEntry>,
    pub sources: Vec<format::sources::Source>,
    /// Of their `content`.
    pub content_key: Option<u64>,
    pub modalities: Vec<format::modalities::Modality>,
    pub features: Option<Vec<format::features::Feature>>,
    pub projection: Option<Projection>,
    pub prototypes: Option<format::prototypes::Prototypes>,
    pub statistics: Box<dyn Iterator<Item = format::statistics::Statistic>>,
    pub spread: Option<format::statistics::Spread>,
    pub reference: format::reference::Reference,
    pub profile: Vec<format::profile::ProfileRow>,
    pub shown: Vec<format::sample::SampleRow>,
    pub curve: Vec<Criterion>,
    pub evidence: Vec<Criterion>,
    /// Whether M is a finding one can rely on.
    pub clear: bool,
    pub filtered: u64,
    pub invalid: u64,
}

/// The contents that a whole run found.
pub fn contents(
    dataset: &Dataset,
    roles: &Roles,
    config: &Config,
    prepared: Prepared,
    mut fitted: Fitted,
    mut pass: Passed,
    settled: &Settled,
) -> Result<Contents> {
    let (moments, profile) = (std::mem::take(&mut pass.moments), std::mem::take(&mut pass.profile));
    let quantiles = std::mem::take(&mut fitted.quantiles);
    let (prepared, fitted, pass) = (&prepared, &fitted, &pass);
    let census = &settled.census;
    let dendrogram = strata::dendrogram(
        &tables::stratum_centers(prepared, fitted, census),
        &census.stratum_rows,
        census.modality_of_stratum.as_deref(),
    );
    let score_groups = strata::score_groups(
        census.modality_of_stratum.as_deref(),
        census.modalities.len() as u32,
        census.strata.len() as u32,
        &dendrogram,
    );
    let identity: Vec<u32> = (0..census.strata.len() as u32).collect();
    let explained = |groups: &[u32]| pass.gain.share(&by_old_id(&census.strata, groups));
    // What is said of stratified batches is not applicable to batches of neighbours, which have a likeness instead.
    let in_chunks = config.chunk() > 1;
    let gain = format::manifest::Gain {
        value: 1.0 - explained(&identity),
        kind: if pass.gain.labelled() { GainKind::Label } else { GainKind::Features },
    };
    let run_distance = in_chunks.then(|| pass.gain.distance_within(&by_old_id(&census.strata, &identity)));
    let (share, share_from) = match config.scores.modality_share {
        _ if in_chunks => (0.0, "not applicable"),
        Some(share) => (share, "given"),
        None if pass.gain.labelled() => (explained(&score_groups).clamp(0.0, LARGEST_SHARE), "label"),
        None => (UNKNOWN_SHARE, "default"),
    };
    let names =
        if config.modalities.names { tables::names(prepared, fitted, census, &profile) } else { Vec::new() };
    let features = prepared.features.rows().map(|rows| rows.into_iter().map(tables::feature).collect());
    let has_prototypes = fitted.model.prototypes.rows() > 0;
    let prints: Vec<&str> = prepared.fingerprints.iter().map(|f| f.0.as_str()).collect();
    Ok(Contents {
        config: used_config(config, roles, prepared.selection.count()),
        dims: prepared.features.dims(),
        dendrogram,
        score_groups,
        stratum_names: tables::stratum_names(prepared, census),
        gain: Some(gain).filter(|_| !in_chunks),
        run_distance,
        modality_share: format::manifest::ModalityShare { value: share, source: share_from.into() },
        estimator: format::manifest::Estimator {
            name: config.modalities.estimator.name().into(),
            params: fitted.fit.details.clone().into_iter().collect(),
            confidence: fitted.fit.confidence,
            interval: fitted.fit.interval,
        },
        inputs: inputs(dataset, &prints),
        sources: tables::sources(dataset, &roles.named, prepared, pass)?,
        content_key: Some(pass.content_key),
        modalities: tables::modalities(fitted, pass, settled, &names, config),
        features,
        projection: fitted.model.projection.clone(),
        prototypes: has_prototypes.then(|| tables::prototypes(fitted, pass, census)),
        spread: Some(tables::spread(prepared, &quantiles)),
        statistics: Box::new(tables::statistics(
            prepared.features.names(),
            quantiles,
            moments,
            census.modalities.clone(),
        )),
        reference: tables::reference(pass),
        profile: tables::profile_rows(profile, census),
        shown: tables::shown(prepared, fitted, census, settled, config),
        curve: fitted.fit.curve.clone(),
        evidence: fitted.fit.evidence.clone(),
        clear: config.modalities.clear(&fitted.fit.shares()),
        filtered: pass.tally.filtered,
        invalid: pass.tally.invalid,
    })
}

/// Writes and commits the plan.
#[expect(clippy::too_many_arguments, reason = "called where all of it is at hand")]
pub fn write(
    dataset: &Dataset,
    config: &Config,
    mut contents: Contents,
    settled: Settled,
    splits: Dealt,
    staging: Staging,
    run: &Run,
    mut info: RunInfo,
    clock: Clock,
    mut warnings: Vec<String>,
    engine: &Local,
) -> Result<Summary> {
    let progress = engine.progress();
    let root = staging.path();
    let census = &settled.census;
    let row_type = settled.row_type();
    let mut files: Vec<FileEntry> = Vec::new();
    let (dendrogram, score_groups) = (&contents.dendrogram, &contents.score_groups);
    let size = batch_size::choose(&config.sizes(), &census.modality_rows)?;
    let planned = census.planned();
    if !config.batches.no_duplicates.is_empty() && !divide(&size.candidates) {
        return Err(crate::Error::config(
            "batch_size.candidates",
            format!(
                "{:?} do not each divide the next larger one, as batches.no_duplicates needs",
                size.candidates
            ),
            "choose sizes such as 256, 512, 1024",
        ));
    }
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
    let values = contents.stratum_names.as_ref().map(|names| &names.values[..]);
    let draws = config.draws(&census.stratum_rows, values, size.candidates[0])?;
    let left_out = (draws.as_ref())
        .filter(|_| config.batches.rows_per_label.is_some())
        .map(|draws| labels::left_out(&census.stratum_rows, draws));
    let dealt = draws.as_ref().map_or(planned, |draws| draws.iter().sum());
    warnings.extend(idle_ranks(config, &size, dealt));
    warnings.extend(of_chunks(config, &size, dealt));
    warnings.extend(few_of_a_label(
        config,
        &size,
        &left_out,
        &labels::labelled(&census.stratum_rows, values),
    ));
    let threshold = config.threshold(size.size);

    // One entry a row.
    let stage = progress.stage("write", "rows", 2 * dataset.rows());
    let offsets = settled.offsets();
    let write_samples = || -> Result<FileEntry> {
        let mut samples = format::samples::SamplesWriter::create(root)?;
        settled.samples(|c| {
            samples.push(&c.modality, &c.stratum, &c.distance, &c.centrality)?;
            stage.advance(c.modality.len() as u64)
        })?;
        samples.finish()
    };
    let write_members = || -> Result<FileEntry> {
        let names = contents.stratum_names.as_ref();
        let mut members = format::strata::StrataWriter::create(root, row_type, &offsets, dendrogram, names)?;
        settled.members(|bytes| {
            stage.advance((bytes.len() / row_type.width()) as u64)?;
            push_members(&mut members, row_type, bytes)
        })?;
        members.finish()
    };
    let (samples, members) = rayon::join(write_samples, write_members);
    files.extend([samples?, members?]);
    if !settled.held_out.is_empty() {
        let named = splits.told.is_some();
        files.push(format::holdout::encode(&settled.held_out, named, row_type).write(root)?);
    }
    if let Some(told) = &splits.told {
        files.push(format::splits::write(root, told, &splits.split, &splits.groups, row_type)?);
    }
    warnings.extend(splits.warnings.into_iter().inspect(|w| progress.warn(w)));
    drop(stage);

    // The small tables.
    files.push(format::sources::encode(&contents.sources, contents.content_key).write(root)?);
    files.push(format::modalities::encode(&contents.modalities, contents.dims).write(root)?);
    if let Some(rows) = &contents.features {
        files.push(format::features::encode(rows).write(root)?);
    }
    if let Some(projection) = &contents.projection {
        files.push(format::projection::encode(projection).write(root)?);
    }
    if let Some(prototypes) = &contents.prototypes {
        files.push(format::prototypes::encode(prototypes).write(root)?);
    }
    files.push(format::weights::encode(&tables::knots(config), &config.weights.formula()).write(root)?);
    files.push(format::statistics::write(root, &mut contents.statistics, contents.spread.as_ref())?);
    files.push(format::reference::encode(&contents.reference).write(root)?);
    files.push(format::profile::encode(&std::mem::take(&mut contents.profile)).write(root)?);
    files.push(format::sample::encode(&contents.shown, row_type).write(root)?);
    files.push(format::evidence::encode(Kind::Curve, &contents.curve).write(root)?);
    files.push(format::evidence::encode(Kind::Evidence, &contents.evidence).write(root)?);
    let clock = clock.lap("tables");

    // The epochs, dealt from the files just written.
    let epochs = config.epochs(dataset.rows());
    let members =
        format::strata::Members::decode(&TableReader::open(&root.join(Kind::Strata.path()), Kind::Strata)?)?;
    let samples = format::samples::Samples::decode(&TableReader::open(
        &root.join(Kind::Samples.path()),
        Kind::Samples,
    )?)?;
    let laid = match config.locality.is_global() {
        true => None,
        false => Some(local::lay(dataset, config, size.candidates[0], score_groups, &samples)?),
    };
    let columns = config.batches.key_columns()?;
    let duplicates = match columns.is_empty() {
        true => None,
        false => {
            let columns: Vec<String> = columns.into_iter().map(String::from).collect();
            let found = groups::find(dataset, &columns, &samples, engine)?;
            files.push(format::groups::encode(&found, columns.len(), row_type).write(root)?);
            let keys = Keys::of_groups(&found, &offsets, members.rows(), |row| samples.stratum(row));
            Some(Duplicates::new(keys, &size.candidates))
        }
    };
    let source = Epochs {
        members: members.rows(),
        offsets: &offsets,
        dendrogram,
        score_groups,
        draws: draws.as_deref(),
        chunk: config.chunk(),
        labels: config.batches.rows_per_label.is_some(),
        duplicates: duplicates.as_ref(),
        local: laid.as_ref().map(|(units, local)| LocalOrder {
            units,
            strata: &samples,
            streams: local.streams,
            window: local.window,
        }),
        seed: config.seed,
        base: size.candidates[0],
        drop_last: config.batches.drop_last,
        modality_share: contents.modality_share.value,
        information_threshold: threshold,
    };
    let mut reading = None;
    if let Some((units, local)) = &laid {
        let local = local.clone().with_evenness(&source, config);
        files.push(format::units::encode(units, &local, row_type).write(root)?);
        let told = Reading::new(&local, source.base, config.batch_size.world_size);
        warnings.extend(local::warnings(&source, &local, &told, &config.locality));
        reading = Some(told);
    }
    let mut repeats = None;
    if let (Some(duplicates), Some(deal)) = (&duplicates, source.epoch(0, source.base).global()) {
        let found = duplicates.repeats(deal);
        let (batches, k, above) = duplicates.above(deal);
        warnings.extend(groups::warning(&found, above, source.base, k * source.base, batches));
        repeats = Some(found);
    }
    let batches = source.epoch(0, source.base).len();
    let schedule = config.size_schedule(batches, &size.candidates)?.map(|sizes| sizes.told());
    let with_centrality = config.weights.schedule != crate::batches::weights::Schedule::Off;
    let batches_per_epoch = source.epoch(0, size.size).len();
    let stage = progress.stage("batches", "rows", epochs as u64 * size.candidates.len() as u64 * planned);
    for &candidate in &size.candidates {
        for epoch in 0..epochs {
            let centrality = with_centrality.then_some(&samples);
            files.push(epochs::write(
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
        format: format::FORMAT.to_string(),
        tool: format::manifest::Tool::this(),
        plan: String::new(),
        rows: dataset.rows(),
        rows_planned: planned,
        row_type,
        dims: contents.dims as u32,
        modalities: census.modalities.len() as u32,
        strata: census.strata.len() as u32,
        batch_size: size.size as u32,
        samples_per_modality: size.samples_per_modality,
        coverage: size.covered,
        information_threshold: threshold,
        modality_share: contents.modality_share.clone(),
        score_groups: score_groups.clone(),
        epochs,
        seed: config.seed,
        candidates: size.candidates.iter().map(|&b| candidate(b, threshold)).collect(),
        estimator: contents.estimator.clone(),
        gain: contents.gain.clone(),
        run_distance: contents.run_distance,
        left_out,
        repeats,
        schedule: schedule.clone(),
        splits: splits.told.clone(),
        config: contents.config,
        files,
        inputs: contents.inputs,
        seal: None,
    };
    let bytes = manifest.files.iter().map(|f| f.bytes).sum();
    let clear = contents.clear;
    if !clear {
        warnings
            .push("no clear number of modes at this resolution: fine strata carry the stratification".into());
    }
    let names: Vec<String> = contents.modalities.into_iter().map(|m| m.name).collect();
    let by_size = by_size(&settled, &names);
    let why = size_why(&size, config);
    drop((members, samples));
    note(&mut info, &clock, dataset)?;
    dataset.unchanged()?;
    let manifest = staging.commit(manifest, &info)?;
    Ok(Summary {
        plan_id: manifest.plan,
        out: run.out.display().to_string(),
        rows: dataset.rows(),
        rows_planned: planned,
        filtered: contents.filtered,
        invalid: contents.invalid,
        held_out: settled.held_out.len() as u64,
        dims: contents.dims,
        columns: Vec::new(),
        modalities: manifest.modalities,
        confidence: manifest.estimator.confidence,
        interval: manifest.estimator.interval,
        clear,
        estimator: manifest.estimator.name,
        details: manifest.estimator.params,
        counted: config.modalities.counted(),
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
        at_random: local::at_random(dataset, &reading, run),
        reading,
        gain: contents.gain.map(|gain| (gain.value, gain.kind == GainKind::Label)),
        chunk: config.chunk(),
        per_label: config.batches.rows_per_label.is_some().then_some(dealt),
        run_distance: contents.run_distance,
        repeats,
        schedule,
        splits: splits.told,
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
fn push_members(writer: &mut format::strata::StrataWriter, row_type: RowType, bytes: &[u8]) -> Result<()> {
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

/// The input files; `fingerprints` of all row groups.
pub fn inputs(dataset: &Dataset, fingerprints: &[&str]) -> Vec<format::manifest::InputEntry> {
    let mut hashers: Vec<blake3::Hasher> = dataset.files().iter().map(|_| blake3::Hasher::new()).collect();
    for (group, fingerprint) in dataset.row_groups().iter().zip(fingerprints) {
        hashers[group.file].update(fingerprint.as_bytes());
    }
    (dataset.files().iter().zip(hashers))
        .map(|(file, hasher)| format::manifest::InputEntry {
            path: file.path.clone(),
            rows: file.rows,
            bytes: file.bytes,
            fingerprint: hasher.finalize().to_hex().to_string(),
        })
        .collect()
}

fn candidate(batch_size: u64, threshold: f64) -> format::manifest::Candidate {
    format::manifest::Candidate {
        name: format!("size-{batch_size}"),
        batch_size: batch_size as u32,
        // A stratified batch is worth more than its rows, but never less: this many at the most.
        accumulation: (threshold / batch_size as f64).ceil().max(1.0) as u32,
        batches: format::batches::path_pattern(batch_size as u32),
    }
}

/// The config with what was chosen for "choose for me" of `planned` rows.
pub fn used_config(config: &Config, roles: &Roles, planned: u64) -> Value {
    let mut used = config.clone();
    used.strata = used.strata.resolved(planned, config.chunk());
    match &mut used.batches.rows_per_label {
        Some(rows) => *rows = Chunk::Rows(config.chunk()),
        None => used.batches.chunk = Chunk::Rows(config.chunk()),
    }
    used.features.columns = roles.inputs.order.iter().map(|(name, _)| name.clone()).collect();
    used.features.encoder = roles.encoder.map(|e| e.identity());
    used.batches = used.batches.resolved();
    used.batch_size = used.batch_size.resolved();
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

/// A rest batch with fewer rows than there are ranks, in an epoch of `dealt` rows.
fn idle_ranks(config: &Config, size: &BatchSize, dealt: u64) -> Option<String> {
    let ranks = config.batch_size.world_size;
    let rest = |&size: &u64| (size, dealt % size);
    let (size, rest) = size.candidates.iter().map(rest).find(|(_, rest)| (1..ranks).contains(rest))?;
    (!config.batches.drop_last).then(|| {
        format!(
            "the last batch of an epoch (batch size {size}) has {rest} of {dealt} rows, fewer than the {ranks} ranks: some \
             get none; --drop-last leaves it out"
        )
    })
}

/// Labels that are in no batch, and what a smaller number of rows would keep.
fn few_of_a_label(
    config: &Config,
    size: &BatchSize,
    left_out: &Option<LeftOut>,
    sizes: &[u64],
) -> Option<String> {
    let LeftOut { labels, rows } = (*left_out).filter(|left_out| left_out.labels > 0)?;
    let (chunk, base) = (config.chunk(), size.candidates[0]);
    let smaller =
        (2..chunk).rev().find(|&k| base.is_multiple_of(k) && sizes.iter().any(|&n| (k..chunk).contains(&n)));
    let help = smaller.map_or(String::new(), |k| {
        let kept: u64 = sizes.iter().filter(|&&n| (k..chunk).contains(&n)).sum();
        format!("; --rows-per-label {k} would keep {kept} of them")
    });
    Some(format!(
        "{labels} labels have fewer than {chunk} rows, or none: their {rows} rows are in no batch{help}"
    ))
}

/// What chunks do not go well with: parts of a batch that cut them, and the rest batch.
fn of_chunks(config: &Config, size: &BatchSize, dealt: u64) -> Vec<String> {
    let (chunk, mut warnings) = (config.chunk(), Vec::new());
    // Whole labels are on every rank and in the rest batch.
    if chunk == 1 || config.batches.rows_per_label.is_some() {
        return warnings;
    }
    let base = size.candidates[0];
    let parts = config.batch_size.world_size * config.batch_size.micro_steps;
    let part = base / parts;
    if !part.is_multiple_of(chunk) && !chunk.is_multiple_of(part) {
        warnings.push(format!(
            "chunks of {chunk} rows are cut by the {part} rows that a rank and micro step has of a batch of {base}: choose a --chunk \
             that divides {part} or that it divides"
        ));
    }
    if !config.batches.drop_last && !dealt.is_multiple_of(base) && dealt > base {
        warnings.push(format!(
            "the last {} rows of an epoch are stratified, not neighbours as those of its other batches: --drop-last leaves them out",
            dealt % base
        ));
    }
    warnings
}

fn size_why(size: &BatchSize, config: &Config) -> String {
    use batch_size::Candidates;
    let p = &config.batch_size;
    match (p.size, p.samples_per_modality, &p.candidates) {
        (Number::Fixed(_), _, _) => format!("as given; `auto` would take {}", size.computed),
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

/// What is known of a run before it ends.
pub fn run_info(run: &Run, threads: usize, inputs: &[String], dataset: &Dataset) -> RunInfo {
    RunInfo {
        root: dataset.root(),
        threads: threads as u32,
        memory: Some(run.memory),
        inputs: inputs.iter().map(|input| crate::kit::secrets::without(input)).collect(),
        host: BTreeMap::from([
            ("arch".into(), std::env::consts::ARCH.into()),
            ("simd".into(), crate::kernels::description().into()),
        ]),
        ..RunInfo::default()
    }
}

/// What is known at its end.
#[expect(clippy::disallowed_methods, reason = "run.json says when the run began, and no other file")]
fn note(info: &mut RunInfo, clock: &Clock, dataset: &Dataset) -> Result<()> {
    info.seconds = clock.seconds();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
    info.started = now.map(|now| now.saturating_sub(Duration::from_secs_f64(info.seconds)).as_secs());
    info.stages = (clock.stages.iter())
        .map(|(stage, seconds)| format::manifest::StageTime { stage: stage.clone(), seconds: *seconds })
        .collect();
    info.peak_memory = Some(peak_memory());
    let paths = dataset.files().iter().map(|f| f.path.clone());
    info.files = paths.zip(dataset.file_states()?).collect();
    Ok(())
}

/// `groups` of the plan's strata, looked up by the ids of the fit; ids without rows are in no group that counts.
fn by_old_id(strata: &[u32], groups: &[u32]) -> Vec<u32> {
    let mut of = vec![NONE; strata.last().map_or(0, |&h| h as usize + 1)];
    strata.iter().zip(groups).for_each(|(&old, &group)| of[old as usize] = group);
    of
}
