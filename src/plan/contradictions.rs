//! What the files of a plan say of each other. A seal tells that plan.json was edited; where somebody sealed it anew, what
//! the tables and the configuration contradict is found here.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use rayon::prelude::*;

use crate::batches::labels;
use crate::batches::strata::score_groups;
use crate::batches::units::RowStrata;
use crate::config::Config;
use crate::format::manifest::{MANIFEST, RUN};
use crate::format::{Kind, batches};
use crate::kernels::rows::RowIds;
use crate::kit::error::{Error, Result};
use crate::kit::ids::{NONE, RowType};

use super::Plan;

/// Err(reason) if `told`, which plan.json says of `what`, is not what the rest of the plan says.
fn same<T: PartialEq + Display>(what: &str, told: T, found: T) -> std::result::Result<(), String> {
    if told == found {
        Ok(())
    } else {
        Err(format!("it says {what} {told}, other files of the plan {found}"))
    }
}

fn ensure(holds: bool, reason: impl FnOnce() -> String) -> std::result::Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}

type Found = std::result::Result<(), String>;

impl Plan {
    /// The first thing in plan.json that another file of the plan, or the configuration, contradicts is the error.
    /// O(rows). Not every number can be contradicted: what an estimator found out is told once.
    pub fn check_contradictions(&self) -> Result<()> {
        let config = self.config()?;
        let found = self.numbers(&config).and_then(|()| self.files()).and_then(|()| self.sizes(&config));
        found.map_err(|reason| self.damaged(MANIFEST, &reason))?;
        // Before anything is dealt by them.
        self.counted_units(&config)?.map_err(|reason| self.damaged(Kind::Units.path(), &reason))?;
        let tables = [
            self.inputs()?,
            self.counts()?,
            self.groups()?,
            self.schedule(&config)?,
            self.repeats()?,
            self.told_sizes()?,
            self.left_out(&config)?,
            self.split_rows()?,
            self.written_epochs(&config)?,
        ];
        tables.into_iter().collect::<Found>().map_err(|reason| self.damaged(MANIFEST, &reason))
    }

    fn numbers(&self, config: &Config) -> Found {
        let m = self.manifest();
        same("seed", m.seed, config.seed)?;
        same("epochs", m.epochs, config.epochs(m.rows))?;
        same("estimator", m.estimator.name.as_str(), config.modalities.estimator.name())?;
        ensure(m.row_type == RowType::of(m.rows), || {
            format!("{} rows and row type {:?}", m.rows, m.row_type)
        })?;
        let (low, high) = m.estimator.interval;
        ensure((0.0..=1.0).contains(&m.estimator.confidence) && low <= high, || {
            format!("the estimator is {} sure of {low} to {high} modalities", m.estimator.confidence)
        })?;
        let share = &m.modality_share;
        let in_chunks = config.chunk() > 1;
        match (config.scores.modality_share, share.source.as_str()) {
            (None, "not applicable") if in_chunks => same("modality share", share.value, 0.0)?,
            (_, source) if in_chunks => return Err(format!("the modality share is from {source:?}")),
            (Some(given), "given") => same("modality share", share.value, given)?,
            (None, "label") => {}
            (None, "default") => same("modality share", share.value, crate::batches::score::UNKNOWN_SHARE)?,
            (_, source) => return Err(format!("the modality share is from {source:?}")),
        }
        ensure(m.run_distance.is_some() == in_chunks, || {
            let told = if in_chunks { "tells no" } else { "tells a" };
            format!("it {told} distance of chunks, which are of {} rows", config.chunk())
        })?;
        ensure(
            m.run_distance.is_none_or(|x| (0.0..=1.0).contains(&x)) && !(in_chunks && m.gain.is_some()),
            || format!("the distance in chunks is {:?}, the gain {:?}", m.run_distance, m.gain),
        )?;
        if let Some(gain) = &m.gain {
            let labelled = gain.kind == crate::format::manifest::GainKind::Label;
            ensure(gain.value.is_finite() && (!labelled || config.source.label.is_some()), || {
                format!("the gain is {} by {:?}", gain.value, gain.kind)
            })?;
        }
        Ok(())
    }

    /// Every file is of the kind that its place says, and every epoch is there.
    fn files(&self) -> Found {
        let m = self.manifest();
        let mut epochs = 0;
        for file in &m.files {
            let kind = match file.path.starts_with("batches/") {
                true => Some(Kind::Batches),
                false => Kind::ALL.into_iter().find(|k| k.path() == file.path),
            };
            epochs += usize::from(kind == Some(Kind::Batches));
            if let Some(kind) = kind {
                same(&format!("{} holds", file.path), file.kind.as_str(), kind.name())?;
            }
        }
        ensure(epochs as u64 == m.candidates.len() as u64 * u64::from(m.epochs), || {
            format!("{epochs} files of batches for {} sizes and {} epochs", m.candidates.len(), m.epochs)
        })?;
        for candidate in &m.candidates {
            for path in (0..m.epochs).map(|epoch| batches::path(candidate.batch_size, epoch)) {
                ensure(m.file(&path).is_some(), || format!("{path} is not among its files"))?;
            }
        }
        Ok(())
    }

    fn sizes(&self, config: &Config) -> Found {
        let m = self.manifest();
        let size = u64::from(m.batch_size);
        if let crate::batches::number::Number::Fixed(fixed) = config.batch_size.size {
            same("batch size", size, fixed)?;
        }
        if let crate::batches::batch_size::Candidates::List(list) = &config.batch_size.candidates {
            let listed =
                list.iter().all(|&size| m.candidates.iter().any(|c| u64::from(c.batch_size) == size));
            ensure(listed, || "the candidates are not those of the configuration".into())?;
        }
        same("samples per modality", m.samples_per_modality, size as f64 / f64::from(m.modalities))?;
        let threshold = config.threshold(size);
        same("information threshold", m.information_threshold, threshold)?;
        for c in &m.candidates {
            let (b, name) = (c.batch_size, &c.name);
            same(&format!("{name} has batches in"), c.batches.as_str(), &batches::path_pattern(b))?;
            same("a candidate is called", name.as_str(), &format!("size-{b}"))?;
            let accumulation = (threshold / f64::from(b)).ceil().max(1.0) as u32;
            same(&format!("accumulation of {name}"), c.accumulation, accumulation)?;
        }
        Ok(())
    }

    /// `inputs` of plan.json are the files of `sources.arrow`.
    fn inputs(&self) -> Result<Found> {
        let (inputs, sources) = (&self.manifest().inputs, self.sources()?);
        let mut hashers = vec![blake3::Hasher::new(); inputs.len()];
        let mut rows = vec![0; inputs.len()];
        let mut last = 0;
        for (source, &file) in sources.iter().zip(self.source_files()?) {
            if file < last {
                return Ok(Err(format!(
                    "{} stands elsewhere among its inputs than in sources.arrow",
                    source.file
                )));
            }
            last = file;
            hashers[file as usize].update(source.fingerprint.as_bytes());
            rows[file as usize] += source.rows;
        }
        let input =
            |((input, hasher), &rows): ((&crate::format::manifest::InputEntry, &blake3::Hasher), &u64)| {
                same(&format!("rows of {}", input.path), input.rows, rows)?;
                let found = hasher.finalize().to_hex();
                same(&format!("fingerprint of {}", input.path), input.fingerprint.as_str(), found.as_str())
            };
        Ok(inputs.iter().zip(&hashers).zip(&rows).try_for_each(input))
    }

    /// Rows of every modality and stratum, counted in `samples.arrow`.
    fn counts(&self) -> Result<Found> {
        let m = self.manifest();
        let (samples, members, modalities) = (self.samples()?, self.strata()?, self.modalities()?);
        let offsets = members.offsets();
        let mut rows = vec![0u64; modalities.len()];
        let mut of_stratum = vec![0u64; offsets.len() - 1];
        for row in 0..samples.rows() {
            let (modality, stratum) = (samples.modality(row), samples.stratum(row));
            match (rows.get_mut(modality as usize), of_stratum.get_mut(stratum as usize)) {
                (Some(a), Some(b)) => (*a += 1, *b += 1),
                _ if modality == NONE && stratum == NONE => continue,
                _ => return Ok(Err(format!("row {row} is of modality {modality} and stratum {stratum}"))),
            };
        }
        let wide = matches!(members.rows(), RowIds::U64(_) | RowIds::Chunks64 { .. });
        let size = u128::from(m.batch_size);
        let planned: u64 = rows.iter().sum();
        let covered: u64 = rows.iter().filter(|&&n| size * u128::from(n) >= u128::from(planned)).sum();
        let check = || -> Found {
            same("rows planned", m.rows_planned, planned)?;
            ensure(wide == (m.row_type == RowType::U64), || format!("row type {:?}", m.row_type))?;
            same("coverage", m.coverage, covered as f64 / planned.max(1) as f64)?;
            for (i, (x, n)) in modalities.iter().zip(&rows).enumerate() {
                ensure(x.rows == *n, || {
                    format!("modality {i} has {n} rows in samples.arrow, not {}", x.rows)
                })?;
            }
            for (h, (o, n)) in offsets.windows(2).zip(&of_stratum).enumerate() {
                ensure(o[1] - o[0] == *n, || format!("stratum {h} has {n} rows in samples.arrow"))?;
            }
            Ok(())
        };
        Ok(check())
    }

    /// Score groups are modalities or a cut of the dendrogram.
    fn groups(&self) -> Result<Found> {
        let m = self.manifest();
        let (samples, members) = (self.samples()?, self.strata()?);
        let mut modality = Vec::new();
        for h in 0..members.strata() {
            let mut of = members.stratum(h).iter().map(|row| samples.modality(row));
            let first = of.next().unwrap_or(NONE);
            // One of two modalities has the stratum's first row: the rest tells whether it spans both.
            if first == NONE || of.any(|m| m != first) {
                break;
            }
            modality.push(first);
        }
        let inside = (modality.len() == members.strata()).then_some(modality.as_slice());
        let strata = &self.settings()?.strata;
        if inside.is_none() && strata.column().is_some() && !strata.inside_modalities() {
            // Rows that `update` added may be the first to put a value into two modalities; the groups stay what they were.
            return Ok(Ok(()));
        }
        let groups = score_groups(inside, m.modalities, m.strata, members.dendrogram());
        Ok(ensure(groups == m.score_groups, || "its score groups are not those of the strata".into()))
    }

    fn schedule(&self, config: &Config) -> Result<Found> {
        let knots = config.weights.schedule.knots(config.weights.strength);
        let same = self.weights()?.into_iter().map(|k| k.beta).eq(knots.into_iter().map(|k| k.beta as f32));
        Ok(ensure(same, || "weights.arrow is not of its schedule".into()))
    }

    /// When which batch size holds follows from the configuration.
    fn told_sizes(&self) -> Result<Found> {
        let found = self.size_schedule()?.map(|found| found.told());
        Ok(ensure(self.manifest().schedule == found, || {
            format!(
                "its schedule of batch sizes is {:?}, that of its configuration {found:?}",
                self.manifest().schedule
            )
        }))
    }

    /// Labels with too few rows.
    fn left_out(&self, config: &Config) -> Result<Found> {
        let epochs = self.epochs()?;
        let sizes: Vec<u64> = epochs.offsets.windows(2).map(|o| o[1] - o[0]).collect();
        let asked = config.batches.rows_per_label.is_some();
        let found = epochs.draws.filter(|_| asked).map(|draws| labels::left_out(&sizes, draws));
        let told = self.manifest().left_out;
        Ok(ensure(told == found, || format!("it leaves out {told:?}, the strata {found:?}")))
    }

    /// What plan.json says of the splits is what splits.arrow has; and rows are dealt that are in the first split, or all with folds.
    fn split_rows(&self) -> Result<Found> {
        let (m, samples) = (self.manifest(), self.samples()?);
        let Some(splits) = self.splits()? else {
            return Ok(ensure(m.splits.is_none(), || {
                "it tells of splits, and there is no splits.arrow".into()
            }));
        };
        let Some(told) = &m.splits else {
            return Ok(Err("it does not tell of the splits of splits.arrow".into()));
        };
        let same = told.splits.len() == splits.splits.len()
            && told
                .splits
                .iter()
                .zip(&splits.splits)
                .all(|(a, b)| (&a.name, a.wanted, a.rows) == (&b.name, b.wanted, b.rows));
        if !same || told.by != splits.by {
            return Ok(Err("it tells of other splits than splits.arrow".into()));
        }
        let dealt = |row: u64| samples.stratum(row) != NONE;
        let fits = |row: u64| match splits.split(row) {
            _ if splits.in_folds() => splits.split(row).is_none() || dealt(row),
            Some(s) => dealt(row) == (s == 0),
            None => !dealt(row),
        };
        let wrong = (0..splits.rows()).find(|&row| !fits(row));
        Ok(wrong.map_or(Ok(()), |row| {
            Err(format!("row {row} is dealt, or not, against its split in splits.arrow"))
        }))
    }

    /// What plan.json says of keys follows from `groups.arrow`.
    fn repeats(&self) -> Result<Found> {
        let m = self.manifest();
        let epochs = self.epochs()?;
        let epoch = epochs.epoch(0, epochs.base);
        let found = epochs.duplicates.and_then(|all| Some(all.repeats(epoch.global()?)));
        Ok(ensure(m.repeats == found, || {
            format!("it tells of repeated keys {:?}, groups.arrow {found:?}", m.repeats)
        }))
    }

    /// Batches follow from plan.json and the strata: a look at the first batch of every epoch that was written, and at all
    /// of one.
    fn written_epochs(&self, config: &Config) -> Result<Found> {
        let m = self.manifest();
        let all = self.epochs()?;
        let centrality = config.weights.schedule != crate::batches::weights::Schedule::Off;
        for (c, candidate) in m.candidates.iter().enumerate() {
            for number in 0..m.epochs {
                let size = candidate.batch_size;
                let Some(written) = self.batches(size, number)? else { continue };
                let epoch = all.epoch(number, size.into());
                let differs = |b: u64| {
                    Err(format!("batch {b} of {} does not follow from it", batches::path(size, number)))
                };
                if epoch.len() != written.len() as u64 {
                    return Ok(differs(epoch.len().min(written.len() as u64)));
                }
                let looked_at = if c == 0 && number == 0 { epoch.len() } else { epoch.len().min(1) };
                for b in 0..looked_at {
                    let (told, found) = (written.get(b as usize), epoch.record(b));
                    let numbers = [found.n_eff as f32, found.x as f32, found.score as f32];
                    if !told.rows.iter().eq(found.rows.iter().copied())
                        || [told.n_eff, told.x, told.score] != numbers
                        || told.centrality.is_some() != centrality
                    {
                        return Ok(differs(b));
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    /// units.arrow counts the rows of samples.arrow, and what it says of epoch 0 follows from that.
    fn counted_units(&self, config: &Config) -> Result<Found> {
        let Some((units, local)) = self.units()? else { return Ok(Ok(())) };
        let samples = self.samples()?;
        let counted = |&unit: &usize| {
            let mut of = vec![NONE; units.rows[unit] as usize];
            samples.read(units.first_row[unit], &mut of);
            of.sort_unstable();
            of.truncate(of.partition_point(|&h| h != NONE));
            of.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).eq(units.cells(unit))
        };
        if let Some(unit) = (0..units.len()).into_par_iter().find_first(|unit| !counted(unit)) {
            let row = units.first_row[unit];
            return Ok(Err(format!("it counts other strata from row {row} on than samples.arrow has")));
        }
        let again = local.clone().with_evenness(&self.epochs()?, config);
        Ok(ensure(again.evenness == local.evenness, || {
            "it tells another evenness than its units have".into()
        }))
    }

    /// Files below the plan's directory that are not the plan's, sorted.
    pub fn foreign_files(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        walk(self.path(), "", &mut found)?;
        found
            .retain(|path| ![MANIFEST, RUN].contains(&path.as_str()) && self.manifest().file(path).is_none());
        found.sort();
        Ok(found)
    }
}

fn walk(dir: &Path, inside: &str, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let name = format!("{inside}{}", entry.file_name().to_string_lossy());
        // A link is a file, wherever it leads.
        match entry.file_type().map_err(Error::io("read", entry.path()))?.is_dir() {
            true => walk(&entry.path(), &format!("{name}/"), found)?,
            false => found.push(name),
        }
    }
    Ok(())
}
