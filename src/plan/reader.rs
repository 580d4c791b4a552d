//! Opens a finished plan, hands out its tables, finds its rows in the dataset and computes any epoch.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::batches::duplicates::{Duplicates, Keys, divide};
use crate::batches::epochs::Epochs;
use crate::batches::weights::Schedule;
use crate::config::Config;
use crate::features::Inputs;
use crate::format::evidence::Criterion;
use crate::format::projection::Projection;
use crate::kit::error::{Error, Result};
use crate::kit::files;
use crate::kit::ids::NONE;
use crate::kit::matrix::Matrix;
use crate::kit::output::{Output, Replace};
use crate::kit::progress::Progress;
use crate::modalities::Model;
use crate::parts::Local;
use crate::source::{Columns, Dataset, Element, Kind as SourceKind, text_value};

use super::epochs;
use crate::format::batches::Batches;
use crate::format::features::Feature;
use crate::format::groups::Member;
use crate::format::manifest::{FileEntry, MANIFEST, Manifest, RUN, RunInfo};
use crate::format::modalities::Modality;
use crate::format::profile::ProfileRow;
use crate::format::prototypes::Prototypes;
use crate::format::reference::Reference;
use crate::format::sample::SampleRow;
use crate::format::samples::Samples;
use crate::format::sources::Source;
use crate::format::splits::Splits;
use crate::format::statistics::{Spread, Statistic};
use crate::format::strata::Members;
use crate::format::units::{Locality, Units};
use crate::format::weights::Knot;
use crate::format::{Kind, TableReader, batches};

const AGAIN: &str =
    "write the plan again (`batchwright plan ... --force`), or copy it again from where it is whole";

/// A plan on disk. Tables are mapped when they are asked for.
#[derive(Debug)]
pub struct Plan {
    pub(super) path: PathBuf,
    pub(super) manifest: Manifest,
    config: OnceLock<Config>,
    samples: OnceLock<Samples>,
    sources: OnceLock<Vec<Source>>,
    source_files: OnceLock<Vec<u32>>,
    pub(super) strata: OnceLock<Members>,
    draws: OnceLock<Option<Vec<u64>>>,
    pub(super) units: OnceLock<Option<(Units, Locality)>>,
    pub(super) groups: OnceLock<Option<Vec<Member>>>,
    pub(super) splits: OnceLock<Option<Splits>>,
    duplicates: OnceLock<Option<Duplicates>>,
}

/// Where a row lies in the dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPlace {
    /// Index into `inputs` of plan.json.
    pub file: u32,
    pub row_group: u32,
    /// Row in the row group, from 0.
    pub offset: u64,
}

/// A row group as the dataset has it now, see [`Plan::check_sources`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSource {
    pub file: String,
    pub row_group: i32,
    pub rows: u64,
    /// None: not computed (only footers were read), so not compared.
    pub fingerprint: Option<String>,
}

impl Plan {
    /// Reads plan.json, compares every file's size and checks its footer: milliseconds, O(files + record batches). A plan
    /// that a killed run had moved aside is moved back first. Errors: [`Error::Plan`].
    pub fn open(path: impl AsRef<Path>) -> Result<Plan> {
        let path = path.as_ref();
        let place = path.join(MANIFEST);
        if !path.exists() {
            crate::format::staging::recover(path)?;
        }
        let text = match files::read_to_string(&place) {
            Ok(text) => text,
            Err(e)
                if e.kind() == std::io::ErrorKind::NotFound
                    || e.kind() == std::io::ErrorKind::NotADirectory =>
            {
                let hint = "name the directory that `batchwright plan --out` wrote";
                let reason =
                    if path.exists() { "is not a plan: it has no plan.json" } else { "does not exist" };
                return Err(Error::plan(path, reason, hint));
            }
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                return Err(Error::plan(&place, "is damaged: it is not text", AGAIN));
            }
            Err(e) => return Err(Error::io("read", &place)(e)),
        };
        let manifest = Manifest::from_json(&text, &place)?;
        let plan = Plan::with(path.into(), manifest);
        plan.check_files()?;
        Ok(plan)
    }

    /// Nothing is mapped yet.
    pub(super) fn with(path: PathBuf, manifest: Manifest) -> Plan {
        Plan {
            path,
            manifest,
            config: OnceLock::new(),
            samples: OnceLock::new(),
            sources: OnceLock::new(),
            source_files: OnceLock::new(),
            strata: OnceLock::new(),
            draws: OnceLock::new(),
            units: OnceLock::new(),
            groups: OnceLock::new(),
            splits: OnceLock::new(),
            duplicates: OnceLock::new(),
        }
    }

    fn check_files(&self) -> Result<()> {
        for file in &self.manifest.files {
            let place = self.path.join(&file.path);
            let bytes = match fs::metadata(&place) {
                Ok(m) => m.len(),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Error::plan(&place, "is missing", AGAIN));
                }
                Err(e) => return Err(Error::io("read", &place)(e)),
            };
            if bytes != file.bytes {
                let reason = format!("is damaged: it has {bytes} bytes, not {}", file.bytes);
                return Err(Error::plan(&place, reason, AGAIN));
            }
            // A kind that this version does not know was added by a later minor version.
            let Some(kind) = Kind::from_name(&file.kind) else { continue };
            let table = TableReader::open(&place, kind)?;
            if table.rows() != file.rows {
                return Err(table.damaged(format!("it has {} rows, not {}", table.rows(), file.rows)));
            }
        }
        let m = &self.manifest;
        for (kind, rows) in [
            (Kind::Sources, None),
            (Kind::Modalities, Some(m.modalities as u64)),
            (Kind::Samples, Some(m.rows)),
            (Kind::Strata, Some(m.rows_planned)),
        ] {
            match m.file(kind.path()) {
                None => {
                    return Err(Error::plan(
                        self.path.join(kind.path()),
                        "is not listed in plan.json",
                        AGAIN,
                    ));
                }
                Some(f) if rows.is_some_and(|r| r != f.rows) || f.kind != kind.name() => {
                    let reason = format!("has {} rows of {}, which does not fit plan.json", f.rows, f.kind);
                    return Err(Error::plan(self.path.join(kind.path()), reason, AGAIN));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Hashes every file and the plan's id, O(bytes), in parallel over files. The first difference is the error.
    pub fn verify(&self) -> Result<()> {
        let m = &self.manifest;
        if m.id() != m.plan {
            return Err(Error::plan(
                self.path.join(MANIFEST),
                "is damaged: the plan's id does not fit its files",
                AGAIN,
            ));
        }
        let checked: Vec<Result<()>> = m
            .files
            .par_iter()
            .map(|file| {
                let place = self.path.join(&file.path);
                let hash = blake3::hash(crate::format::map::map(&place)?.as_slice()).to_hex();
                if hash.as_str() == file.blake3 {
                    return Ok(());
                }
                Err(Error::plan(&place, "is damaged: its BLAKE3 is not that of plan.json", AGAIN))
            })
            .collect();
        checked.into_iter().collect()
    }

    /// Whether the number of modalities is a finding one can rely on; one that the user gave always is.
    pub fn clear(&self) -> Result<bool> {
        let shares: Vec<f64> = self.modalities()?.iter().map(|m| m.share).collect();
        Ok(self.settings()?.modalities.clear(&shares))
    }

    /// Copies the plan to a new directory: what plan.json lists, plan.json and run.json.
    ///
    /// # Errors
    /// If there is something at `out`, or the disk refuses. Nothing is left behind.
    pub fn save(&self, out: &Path) -> Result<()> {
        let output = Output::directory("path", out, Replace::Nothing, std::slice::from_ref(&self.path))?;
        let to = output.path().to_path_buf();
        let run = self.path.join(RUN).exists().then_some(RUN);
        let listed = self.manifest.files.iter().map(|file| file.path.as_str());
        for name in listed.chain(run).chain([MANIFEST]) {
            let (from, to) = (self.path.join(name), to.join(name));
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder).map_err(Error::io("create the directory", folder))?;
            }
            std::fs::copy(&from, &to).map_err(Error::io("copy", &from))?;
        }
        output.commit()
    }

    /// Is this the dataset that the plan was made from? Compares files, row groups and rows, with `fingerprints` also
    /// the bytes of the columns that the plan was made from (reads them all, in parallel over row groups). The error
    /// names the first difference.
    pub fn check_dataset(&self, dataset: &Dataset, fingerprints: bool) -> Result<()> {
        let groups = dataset.row_groups();
        let mut found: Vec<FoundSource> = (groups.iter())
            .map(|group| FoundSource {
                file: dataset.files()[group.file].path.clone(),
                row_group: group.row_group as i32,
                rows: group.rows,
                fingerprint: None,
            })
            .collect();
        self.check_sources(&found)?;
        if fingerprints {
            let config = self.config()?;
            let columns =
                config.named(&Inputs::choose(&config.features, dataset.columns(), &[])?, dataset)?;
            let print = |group: usize| dataset.fingerprint(group, &columns).map(|(print, _)| print);
            let prints: Vec<Result<String>> = (0..groups.len()).into_par_iter().map(print).collect();
            for (found, print) in found.iter_mut().zip(prints) {
                found.fingerprint = Some(print?);
            }
            self.check_sources(&found)?;
        }
        Ok(())
    }

    /// Does the dataset still have the row groups that the plan was made from? `found` in row order; the error names the
    /// first difference.
    pub fn check_sources(&self, found: &[FoundSource]) -> Result<()> {
        let differs = |reason: String| {
            let help = "name the files it was made from; if they were renamed, moved or added to, bring the plan up to \
                        date (`batchwright update`); else make a plan of these (`batchwright plan`)";
            Err(Error::plan(&self.path, format!("was made from other data: {reason}"), help))
        };
        let planned = self.sources()?;
        for (p, f) in planned.iter().zip(found) {
            let place = format!("row group {} of {}", p.row_group, p.file);
            if (&p.file, p.row_group) != (&f.file, f.row_group) {
                return differs(format!("{place} is now row group {} of {}", f.row_group, f.file));
            }
            if p.rows != f.rows {
                return differs(format!("{place} has {} rows, not {}", f.rows, p.rows));
            }
            if f.fingerprint.as_ref().is_some_and(|now| *now != p.fingerprint) {
                return differs(format!("{place} has other contents"));
            }
        }
        if planned.len() != found.len() {
            return differs(format!("it has {} row groups, not {}", found.len(), planned.len()));
        }
        Ok(())
    }

    /// Does every file still have the footer that it had when the plan was made, as far as the plan remembers them? Reads the
    /// footers. The error names the first file that has another one.
    pub fn check_footers(&self, dataset: &Dataset) -> Result<()> {
        let noted = self.run_info()?.map(|run| run.files).unwrap_or_default();
        let local = self.units()?.map(|(_, local)| &local.footers);
        let known = |i: usize| match local {
            Some(footers) => footers.get(i).map(String::as_str),
            None => noted.get(&dataset.files()[i].path).map(|state| state.footer.as_str()),
        };
        for (i, state) in dataset.file_states()?.into_iter().enumerate() {
            if known(i).is_some_and(|footer| footer != state.footer) {
                let reason = format!(
                    "was made from another version of {}: its footer has changed",
                    dataset.files()[i].path
                );
                let help = "see what has changed (`batchwright check`), then bring the plan up to date (`batchwright update`)";
                return Err(Error::plan(&self.path, reason, help));
            }
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The configuration as used. Errors if it has settings that this version does not know.
    pub fn config(&self) -> Result<Config> {
        self.settings().cloned()
    }

    pub(super) fn settings(&self) -> Result<&Config> {
        let read = || {
            let config: Config = serde_json::from_value(self.manifest.config.clone()).map_err(|e| {
                let reason = format!("has a configuration that this version cannot read: {e}");
                Error::plan(self.path.join(MANIFEST), reason, "update batchwright, or write the plan again")
            })?;
            // What no run would have begun with leads anywhere.
            config.check_stored().map_err(|e| self.damaged(MANIFEST, &format!("its configuration: {e}")))?;
            Ok(config)
        };
        cached(&self.config, read)
    }

    pub(super) fn damaged(&self, file: &str, reason: &str) -> Error {
        Error::plan(self.path.join(file), format!("is damaged: {reason}"), AGAIN)
    }

    /// run.json; None if it is not there.
    pub fn run_info(&self) -> Result<Option<RunInfo>> {
        let place = self.path.join(RUN);
        match files::read_to_string(&place) {
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| {
                Error::plan(&place, format!("is damaged: {e}"), "delete it; a plan does without")
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &place)(e)),
        }
    }

    /// Maps a table; None if the plan has none (see [`crate::format::Contract::absent`]). For batches use [`Plan::batches`].
    pub fn table(&self, kind: Kind) -> Result<Option<TableReader>> {
        match self.manifest.file(kind.path()) {
            None => Ok(None),
            Some(file) => TableReader::open(&self.path.join(&file.path), kind).map(Some),
        }
    }

    fn need(&self, kind: Kind) -> Result<TableReader> {
        self.table(kind)?
            .ok_or_else(|| Error::plan(self.path.join(kind.path()), "is not listed in plan.json", AGAIN))
    }

    /// The row groups, read once.
    pub fn sources(&self) -> Result<&[Source]> {
        cached(&self.sources, || {
            let table = self.need(Kind::Sources)?;
            let sources = crate::format::sources::decode(&table)?;
            if sources.iter().map(|s| s.rows).sum::<u64>() != self.manifest.rows {
                return Err(
                    table.damaged(format!("its row groups do not have {} rows in all", self.manifest.rows))
                );
            }
            Ok(sources)
        })
        .map(Vec::as_slice)
    }

    /// The key of `content` of the row groups; None: as in format 1.0.
    pub fn content_key(&self) -> Result<Option<u64>> {
        crate::format::sources::stored_key(&self.need(Kind::Sources)?)
    }

    /// The file of every row group, as an index into `inputs` of plan.json.
    pub fn source_files(&self) -> Result<&[u32]> {
        cached(&self.source_files, || {
            let inputs: BTreeMap<&str, u32> =
                self.manifest.inputs.iter().map(|i| i.path.as_str()).zip(0..).collect();
            let file = |s: &Source| {
                inputs.get(s.file.as_str()).copied().ok_or_else(|| {
                    let reason = format!("{} is not among the inputs of plan.json", s.file);
                    self.damaged(Kind::Sources.path(), &reason)
                })
            };
            self.sources()?.iter().map(file).collect()
        })
        .map(Vec::as_slice)
    }

    pub fn modalities(&self) -> Result<Vec<Modality>> {
        let table = self.need(Kind::Modalities)?;
        self.check_dims(&table, "center")?;
        crate::format::modalities::decode(&table)
    }

    /// None: one embedding column as it is.
    pub fn features(&self) -> Result<Option<Vec<Feature>>> {
        self.table(Kind::Features)?.map(|t| crate::format::features::decode(&t)).transpose()
    }

    /// None: prototypes live in the feature space.
    pub fn projection(&self) -> Result<Option<Projection>> {
        let Some(table) = self.table(Kind::Projection)? else { return Ok(None) };
        self.check_dims(&table, "axis")?;
        crate::format::projection::decode(&table).map(Some)
    }

    /// None: modalities are the values of a column.
    pub fn prototypes(&self) -> Result<Option<Prototypes>> {
        let Some(table) = self.table(Kind::Prototypes)? else { return Ok(None) };
        let all = crate::format::prototypes::decode(&table)?;
        let m = &self.manifest;
        if all.modality.iter().any(|&x| x >= m.modalities) || all.stratum.iter().any(|&x| x >= m.strata) {
            return Err(table.damaged("it names a modality or stratum that the plan does not have"));
        }
        Ok(Some(all))
    }

    fn check_dims(&self, table: &TableReader, column: &str) -> Result<()> {
        let (found, want) = (table.width(column), self.manifest.dims as usize);
        if found == want {
            Ok(())
        } else {
            Err(table.damaged(format!("`{column}` has {found} numbers, not {want}")))
        }
    }

    /// What assigns a new row: projection, prototypes, centres.
    pub fn model(&self) -> Result<Model> {
        let modalities = self.modalities()?;
        let dims = self.manifest.dims as usize;
        let centers = modalities.iter().flat_map(|m| m.center.iter().copied()).collect();
        let projection = self.projection()?;
        let prototypes = self.prototypes()?.unwrap_or_default();
        let p = projection.as_ref().map_or(dims, |p| p.axes.rows());
        if prototypes.centers.rows() > 0 && prototypes.centers.cols() != p {
            let reason =
                format!("is damaged: prototypes have {} numbers, not {p}", prototypes.centers.cols());
            return Err(Error::plan(self.path.join(Kind::Prototypes.path()), reason, AGAIN));
        }
        Ok(Model {
            projection,
            prototypes: prototypes.centers,
            modality: prototypes.modality,
            stratum: prototypes.stratum,
            centers: Matrix::from_vec(modalities.len(), dims, centers),
        })
    }

    /// All rows, mapped once.
    pub fn samples(&self) -> Result<&Samples> {
        cached(&self.samples, || Samples::decode(&self.need(Kind::Samples)?))
    }

    /// The members of the strata, mapped once.
    pub fn strata(&self) -> Result<&Members> {
        cached(&self.strata, || {
            let table = self.need(Kind::Strata)?;
            let members = Members::decode(&table)?;
            if members.strata() != self.manifest.strata as usize {
                return Err(table.damaged(format!(
                    "it has {} strata, not {}",
                    members.strata(),
                    self.manifest.strata
                )));
            }
            Ok(members)
        })
    }

    /// The planned rows that share a key with others, read once; None: rows may meet duplicates.
    pub fn key_groups(&self) -> Result<Option<&[Member]>> {
        let read = || {
            let Some(table) = self.table(Kind::Groups)? else { return Ok(None) };
            let members = crate::format::groups::decode(&table)?;
            let samples = self.samples()?;
            let planned = |m: &Member| m.row < samples.rows() && samples.stratum(m.row) != NONE;
            if !members.iter().all(planned) {
                return Err(table.damaged("it names rows that are not planned"));
            }
            Ok(Some(members))
        };
        Ok(cached(&self.groups, read)?.as_deref())
    }

    fn duplicates(&self) -> Result<Option<&Duplicates>> {
        let make = || {
            let Some(groups) = self.key_groups()? else { return Ok(None) };
            let (members, samples) = (self.strata()?, self.samples()?);
            let sizes: Vec<u64> = self.manifest.candidates.iter().map(|c| c.batch_size.into()).collect();
            if !divide(&sizes) {
                return Err(self.damaged(MANIFEST, "its sizes do not divide each other"));
            }
            let keys = Keys::of_groups(groups, members.offsets(), members.rows(), |row| samples.stratum(row));
            Ok(Some(Duplicates::new(keys, &sizes)))
        };
        Ok(cached(&self.duplicates, make)?.as_ref())
    }

    /// Of every row the lowest planned row that shares its value of the one column of `--no-duplicates`; None: it shares it with none.
    ///
    /// # Errors
    /// If the plan was made without, or with several columns: their values make no groups.
    pub fn groups_of(&self, rows: &[u64]) -> Result<Vec<Option<u64>>> {
        self.check_rows(rows)?;
        let columns = self.settings()?.batches.no_duplicates.len();
        let groups = match self.key_groups()? {
            Some(groups) if columns == 1 => groups,
            _ => {
                let reason = match columns {
                    0 => "the plan was made without".into(),
                    n => format!("a row has {n} keys, which make no groups"),
                };
                return Err(Error::config(
                    "batches.no_duplicates",
                    reason,
                    "plan with --no-duplicates COLUMN",
                ));
            }
        };
        let of = |row: &u64| groups.binary_search_by_key(row, |m| m.row).ok().map(|i| groups[i].group);
        Ok(rows.iter().map(of).collect())
    }

    /// Any epoch in batches of any multiple of the smallest candidate size, written or not. O(strata); of the members
    /// only what is dealt is read.
    pub fn epochs(&self) -> Result<Epochs<'_>> {
        let m = &self.manifest;
        let config = self.config()?;
        let members = self.strata()?;
        let offsets = members.offsets();
        let sizes = || m.candidates.iter().map(|c| u64::from(c.batch_size));
        if config.locality.is_global() != m.file(Kind::Units.path()).is_none() {
            let reason = "its configuration has another order of batches than its files";
            return Err(self.damaged(MANIFEST, reason));
        }
        let Some(base) = sizes().min().filter(|base| sizes().all(|size| size.is_multiple_of(*base))) else {
            return Err(self.damaged(MANIFEST, "the candidate sizes are no multiples of the smallest"));
        };
        if config.batches.no_duplicates.is_empty() != m.file(Kind::Groups.path()).is_none() {
            return Err(self.damaged(MANIFEST, "its configuration has other duplicates than its files"));
        }
        let chunk = config.chunk();
        let draws = cached(&self.draws, || {
            let sizes: Vec<u64> = offsets.windows(2).map(|o| o[1] - o[0]).collect();
            config.draws(&sizes, members.values(), base)
        })?;
        if chunk == 0 || !base.is_multiple_of(chunk) {
            return Err(self.damaged(MANIFEST, "its chunks do not divide the smallest batch"));
        }
        Ok(Epochs {
            members: members.rows(),
            offsets,
            dendrogram: members.dendrogram(),
            score_groups: &m.score_groups,
            draws: draws.as_deref(),
            chunk,
            labels: config.batches.rows_per_label.is_some(),
            duplicates: self.duplicates()?,
            local: self.local_order(base)?,
            seed: m.seed,
            base,
            drop_last: config.batches.drop_last,
            modality_share: m.modality_share.value,
            information_threshold: m.information_threshold,
        })
    }

    /// Writes `batches/size-<B>/epoch-<e>.arrow` below `root`: the bytes that `plan` would have written. O(rows), runs
    /// on the current rayon pool. Errors if `batch_size` is no multiple of the smallest candidate.
    pub fn write_epoch(
        &self,
        root: &Path,
        batch_size: u32,
        epoch: u32,
        progress: &Progress,
    ) -> Result<FileEntry> {
        let epochs = self.epochs()?;
        if batch_size == 0 || !u64::from(batch_size).is_multiple_of(epochs.base) {
            return Err(Error::config(
                "batch size",
                format!("{batch_size} is no multiple of {}, the smallest candidate of the plan", epochs.base),
                "choose a multiple of it: larger batches are unions of smaller ones",
            ));
        }
        let samples = match self.config()?.weights.schedule {
            Schedule::Off => None,
            _ => Some(self.samples()?),
        };
        let stage = progress.stage("batches", "rows", self.manifest.rows_planned);
        let size = u64::from(batch_size);
        epochs::write(root, &epochs, size, epoch, samples, self.manifest.row_type, progress, |rows| {
            stage.advance(rows)
        })
    }

    /// The written batches; None if this epoch was not written ([`Plan::epochs`] computes it).
    pub fn batches(&self, batch_size: u32, epoch: u32) -> Result<Option<Batches>> {
        match self.manifest.file(&batches::path(batch_size, epoch)) {
            None => Ok(None),
            Some(f) => {
                Batches::decode(&TableReader::open(&self.path.join(&f.path), Kind::Batches)?).map(Some)
            }
        }
    }

    pub fn weights(&self) -> Result<Vec<Knot>> {
        crate::format::weights::decode(&self.need(Kind::Weights)?)
    }

    pub fn statistics(&self) -> Result<Vec<Statistic>> {
        crate::format::statistics::decode(&self.need(Kind::Statistics)?)
    }

    /// How far sampled rows are from the middle of them; None in plans before format 1.1.
    pub fn spread(&self) -> Result<Option<Spread>> {
        crate::format::statistics::spread(&self.need(Kind::Statistics)?)
    }

    pub fn reference(&self) -> Result<Option<Reference>> {
        self.table(Kind::Reference)?.map(|t| crate::format::reference::decode(&t)).transpose()
    }

    pub fn profile(&self) -> Result<Option<Vec<ProfileRow>>> {
        self.table(Kind::Profile)?.map(|t| crate::format::profile::decode(&t)).transpose()
    }

    pub fn sample(&self) -> Result<Option<Vec<SampleRow>>> {
        self.table(Kind::Sample)?.map(|t| crate::format::sample::decode(&t)).transpose()
    }

    pub fn curve(&self) -> Result<Option<Vec<Criterion>>> {
        self.table(Kind::Curve)?.map(|t| crate::format::evidence::decode(&t)).transpose()
    }

    pub fn evidence(&self) -> Result<Option<Vec<Criterion>>> {
        self.table(Kind::Evidence)?.map(|t| crate::format::evidence::decode(&t)).transpose()
    }

    pub(super) fn check_row(&self, row: u64) -> Result<()> {
        if row < self.manifest.rows {
            return Ok(());
        }
        let reason = format!("row {row} of a dataset of {} rows", self.manifest.rows);
        Err(Error::config("rows", reason, "row numbers count from 0 over all files in order"))
    }

    /// None for a row that is not planned.
    pub fn modality(&self, row: u64) -> Result<Option<u32>> {
        self.check_row(row)?;
        Ok(self.samples()?.get(row).map(|s| s.modality))
    }

    /// None for a row that is not planned.
    pub fn centrality(&self, row: u64) -> Result<Option<f32>> {
        self.check_row(row)?;
        Ok(self.samples()?.centrality(row))
    }

    /// The dataset, bytes read as the plan's features say; `memory` as in [`Dataset::open_within`]. Plans of format 1.0 took bytes
    /// that say nothing for `f32`.
    pub fn open_dataset(&self, inputs: &[String], memory: u64, progress: &Progress) -> Result<Dataset> {
        let config = self.settings()?;
        let dataset = config.open(inputs, memory, progress)?;
        let of = |dataset: &Dataset, name: &String| {
            dataset.columns().iter().find(|c| c.name == *name).map(|c| c.kind.clone())
        };
        let unread = |name: &&String| of(&dataset, name) == Some(SourceKind::Other);
        let unread: Vec<&String> = config.features.columns.iter().filter(unread).collect();
        if config.features.bytes_as.is_none() && !unread.is_empty() {
            let floats = dataset.with_bytes_as(Some(Element::F32))?;
            if unread.into_iter().any(|name| matches!(of(&floats, name), Some(SourceKind::Vector { .. }))) {
                return Ok(floats);
            }
        }
        Ok(dataset)
    }

    /// What the column `--id` calls the rows, in the order asked for; None where it is null. Reads only pages that hold
    /// some of them. Errors if the plan has no such column or was made from other files ([`Plan::check_dataset`]).
    pub fn ids(&self, rows: &[u64], dataset: &Dataset, engine: &Local) -> Result<Vec<Option<String>>> {
        let Some(column) = self.config()?.source.id else {
            let help = "name one when planning: `batchwright plan --id COLUMN`";
            return Err(Error::config("source.id", "the plan knows no column that names its rows", help));
        };
        self.check_dataset(dataset, false)?;
        self.check_rows(rows)?;
        let mut ascending = rows.to_vec();
        ascending.sort_unstable();
        ascending.dedup();
        let columns = Columns::new(dataset, Vec::new(), vec![column])?;
        let raw = columns.gather(&ascending, engine)?;
        let cells = raw.table.as_ref().expect("one column was asked for").column(0);
        let place = |row| ascending.binary_search(row).expect("every row was asked for");
        Ok(rows.iter().map(|row| text_value(cells, place(row))).collect())
    }

    /// Where the rows lie in the Parquet files. O(rows log row groups).
    pub fn locate(&self, rows: &[u64]) -> Result<Vec<RowPlace>> {
        let (sources, files) = (self.sources()?, self.source_files()?);
        rows.iter()
            .map(|&row| {
                self.check_row(row)?;
                let i = sources.partition_point(|s| s.first_row <= row) - 1;
                let s = &sources[i];
                Ok(RowPlace { file: files[i], row_group: s.row_group as u32, offset: row - s.first_row })
            })
            .collect()
    }
}

/// Fills the cell at the first call; an error is not kept.
pub(super) fn cached<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(cell.get_or_init(|| value))
}
