//! The assignment pass: every row's prototype, modality, stratum and distance, streamed to a working file, and the counts
//! that decide which of them exist.

use std::collections::BTreeMap;
use std::path::Path;

use super::fit::Fitted;
use super::prepare::{Prepared, Roles};
use crate::batches::weights::centrality::{Centrality, density, margin};
use crate::config::Config;
use crate::features::{ENCODED_ROWS, InputReader, PointsReader, State};
use crate::kernels::eigen;
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::kit::matrix::Matrix;
use crate::kit::scratch::RowFile;
use crate::modalities::Assigned;
use crate::modalities::model::AssignedReader;
use crate::parts::{Local, Pass, parts, parts_of};
use crate::source::Dataset;
use crate::statistics::content::{Content, Hashes};
use crate::statistics::gain::{Gain, GainSums, Label};
use crate::statistics::moments::{FullMoments, Moments};
use crate::statistics::profile::{Profile, ProfileRow};
use crate::statistics::reach::{Reach, Reached};
use crate::statistics::reference::{RandomFeature, Reference};

/// One row in the working file, little endian: prototype, modality, stratum (`u32`, [`NONE`] out of the plan), distance
/// and the value that centrality ranks (`f32`).
pub const ROW_BYTES: usize = 20;

/// A row as the working file holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub prototype: u32,
    pub modality: u32,
    pub stratum: u32,
    pub distance: f32,
    pub ranked: f32,
}

impl Row {
    /// Not in the plan.
    pub const OUT: Row =
        Row { prototype: NONE, modality: NONE, stratum: NONE, distance: f32::NAN, ranked: 0.0 };

    pub fn to_bytes(self) -> [u8; ROW_BYTES] {
        let mut out = [0; ROW_BYTES];
        let words =
            [self.prototype, self.modality, self.stratum, self.distance.to_bits(), self.ranked.to_bits()];
        for (bytes, word) in out.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    pub fn from_bytes(bytes: &[u8; ROW_BYTES]) -> Self {
        let word = |i: usize| u32::from_le_bytes(bytes.as_chunks().0[i]);
        Row {
            prototype: word(0),
            modality: word(1),
            stratum: word(2),
            distance: f32::from_bits(word(3)),
            ranked: f32::from_bits(word(4)),
        }
    }

    pub fn planned(&self) -> bool {
        self.modality != NONE
    }
}

/// The value whose rank inside its modality is a row's centrality.
pub enum Ranking<'a> {
    Distance,
    /// Sample rows of every modality, and where each sampled row stands among them.
    Density {
        samples: Vec<Matrix>,
        places: BTreeMap<u64, (u32, usize)>,
    },
    Margin {
        centers: &'a Matrix,
    },
}

/// Sample rows of a modality that `density` looks at: the cost per row is this many distances.
const DENSITY_ROWS: usize = 1000;

impl<'a> Ranking<'a> {
    /// `rows`, `points` and `labels` are the fit sample.
    pub fn new(by: Centrality, rows: &[u64], points: &Matrix, labels: &[u32], centers: &'a Matrix) -> Self {
        match by {
            Centrality::Distance => Ranking::Distance,
            Centrality::Margin => Ranking::Margin { centers },
            Centrality::Density => {
                let mut members = vec![Vec::new(); centers.rows()];
                let mut places = BTreeMap::new();
                for (i, &m) in labels.iter().enumerate() {
                    let of: &mut Vec<usize> = &mut members[m as usize];
                    if of.len() < DENSITY_ROWS {
                        places.insert(rows[i], (m, of.len()));
                        of.push(i);
                    }
                }
                let samples = members.into_iter().map(|m| points.gather(m.into_iter())).collect();
                Ranking::Density { samples, places }
            }
        }
    }

    fn value(&self, item: &Assigned, i: usize) -> f32 {
        let (row, m) = (item.points.points.row(i), item.modality[i]);
        match self {
            Ranking::Distance => item.distance[i],
            Ranking::Margin { centers } => margin(row, centers, m),
            Ranking::Density { samples, places } => {
                let place = places.get(&item.points.rows[i]).filter(|p| p.0 == m).map(|p| p.1);
                density(row, &samples[m as usize], place)
            }
        }
    }
}

/// Writes the rows of each part to their place and counts them.
pub struct RowWriter<'a> {
    pub file: &'a RowFile,
    pub ranking: &'a Ranking<'a>,
    /// Where the hashes of what rows hold go, if they are wanted.
    pub contents: Option<&'a RowFile>,
    /// Place in the file of a row that is read.
    pub place: &'a (dyn Fn(u64) -> u64 + Sync),
}

/// How many rows went where. Ids are those of the fit; empty ones are removed afterwards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    pub prototypes: BTreeMap<u32, u64>,
    pub modalities: BTreeMap<u32, u64>,
    pub strata: BTreeMap<u32, u64>,
    /// Sum of squared distances to the centre, by modality.
    pub squares: BTreeMap<u32, f64>,
    pub filtered: u64,
    pub invalid: u64,
}

impl Tally {
    pub fn planned(&self) -> u64 {
        self.strata.values().sum()
    }
}

fn add<T: Default + std::ops::AddAssign>(into: &mut BTreeMap<u32, T>, from: BTreeMap<u32, T>) {
    for (id, count) in from {
        *into.entry(id).or_default() += count;
    }
}

/// Counts of the ids in `ids`, [`NONE`] apart.
fn count(ids: &[u32]) -> BTreeMap<u32, u64> {
    let mut counts = BTreeMap::new();
    for &id in ids.iter().filter(|&&id| id != NONE) {
        *counts.entry(id).or_default() += 1;
    }
    counts
}

impl Pass for RowWriter<'_> {
    type Item = Assigned;
    type Partial = Tally;
    type Output = Tally;

    fn partial(&self, item: &Assigned) -> Result<Tally> {
        let rows = &item.points.rows;
        if let Some(file) = self.contents {
            for run in rows
                .iter()
                .zip(&item.points.contents)
                .collect::<Vec<_>>()
                .chunk_by(|a, b| (self.place)(*a.0) + 1 == (self.place)(*b.0))
            {
                let hashes: Vec<u8> = run.iter().flat_map(|r| *r.1).collect();
                file.write((self.place)(*run[0].0), &hashes)?;
            }
        }
        let mut bytes = Vec::with_capacity(rows.len() * ROW_BYTES);
        // Rows that follow each other in the file are written together.
        let (mut first, mut next) = (0, 0);
        for (i, &row) in rows.iter().enumerate() {
            let place = (self.place)(row);
            if place != next {
                self.file.write(first, &bytes)?;
                bytes.clear();
                first = place;
            }
            next = place + 1;
            let ranked = if item.modality[i] == NONE { 0.0 } else { self.ranking.value(item, i) };
            let row = Row {
                prototype: item.prototype[i],
                modality: item.modality[i],
                stratum: item.stratum[i],
                distance: item.distance[i],
                ranked,
            };
            bytes.extend_from_slice(&row.to_bytes());
        }
        self.file.write(first, &bytes)?;
        let mut squares: BTreeMap<u32, f64> = BTreeMap::new();
        for (&m, &d) in item.modality.iter().zip(&item.distance).filter(|(m, _)| **m != NONE) {
            *squares.entry(m).or_default() += f64::from(d) * f64::from(d);
        }
        let states = |s: State| item.points.state.iter().filter(|&&x| x == s).count() as u64;
        Ok(Tally {
            prototypes: count(&item.prototype),
            modalities: count(&item.modality),
            strata: count(&item.stratum),
            squares,
            filtered: states(State::Filtered),
            invalid: states(State::Invalid),
        })
    }

    fn merge(&self, mut left: Tally, right: Tally) -> Tally {
        add(&mut left.prototypes, right.prototypes);
        add(&mut left.modalities, right.modalities);
        add(&mut left.strata, right.strata);
        add(&mut left.squares, right.squares);
        left.filtered += right.filtered;
        left.invalid += right.invalid;
        left
    }

    fn finish(&self, all: Option<Tally>) -> Result<Tally> {
        Ok(all.unwrap_or_default())
    }
}

/// Most rows shown in the report.
pub const MAX_SHOWN: usize = 10_000;

/// Everything the pass over all rows found.
pub struct Passed {
    pub tally: Tally,
    pub moments: FullMoments,
    pub gain: GainSums,
    pub reference: Vec<RandomFeature>,
    pub profile: Vec<ProfileRow>,
    /// Hashes of every row group.
    pub content: Vec<Hashes>,
    pub content_key: u64,
    /// How far rows are from their prototypes.
    pub reach: Reached,
}

/// Reads every row once. Besides what it found: one [`Row`] per row of the dataset, ids of the fit. `content_key`: that of an
/// older plan, if there is one.
#[expect(clippy::too_many_arguments, reason = "called where all of it is at hand")]
pub fn assign(
    dataset: &Dataset,
    roles: &Roles,
    config: &Config,
    prepared: &Prepared,
    fitted: &Fitted,
    content_key: Option<u64>,
    contents: Option<&RowFile>,
    engine: &Local,
    scratch: &Path,
) -> Result<(RowFile, Passed)> {
    let sample = &prepared.sample;
    let rows = RowFile::create(&scratch.join("rows"), ROW_BYTES)?;
    let ranking = Ranking::new(
        config.weights.centrality,
        &sample.rows,
        &sample.points,
        &fitted.fit.labels,
        &fitted.model.centers,
    );
    let profile =
        prepared.table.as_ref().map(|table| Profile::new(table, &fitted.sample.modality)).transpose()?;
    let label = prepared.classes.as_ref().map(|c| Label::new(&c.column, c.ids.keys().cloned()));
    let mean = eigen::mean(&sample.points);

    // Columns: those the config names, and those that are profiled in full.
    let vectors: Vec<&String> = roles.inputs.stored_vectors().collect();
    let named: Vec<String> = roles.named.iter().filter(|n| !vectors.contains(n)).cloned().collect();
    let mut table = named.clone();
    let profiled = profile.as_ref().map_or(Vec::new(), Profile::reads);
    table.extend(profiled.into_iter().filter(|c| !named.contains(c)));
    let keep = |row| prepared.selection.contains(row);
    let place = |row| dataset.describe_row(row);
    let progress = engine.progress().clone();
    let mut inputs = InputReader::new(dataset, &roles.inputs, table, roles.encoder, &keep, progress)?;
    if prepared.features.is_identity() {
        inputs = inputs.knowing(&sample.rows, &sample.points);
    }
    let points = PointsReader::new(&prepared.features, inputs, config.source.invalid, &keep, &place)
        .with_contents(contents.map(|_| &roles.inputs));
    let read = AssignedReader::new(points, &fitted.model, fitted.modality.clone(), fitted.strata.clone());

    let fingerprints = prepared.fingerprints.iter().map(|f| f.0.as_str());
    let content_key = content_key.unwrap_or_else(|| crate::format::sources::key(fingerprints));
    let first_rows = dataset.row_groups().iter().map(|g| g.first_row).collect();
    let pass = (
        RowWriter { file: &rows, ranking: &ranking, contents, place: &|row| row },
        Moments::new(mean.clone()),
        Gain::new(label, &mean, config.seed),
        (
            Reference::new(fitted.z(prepared), config.seed),
            Reach::new(&fitted.model).fitted_on(&sample.rows, fitted.z(prepared)),
        ),
        profile,
        Content::new(named, first_rows, Some(content_key)),
    );
    let parts = match roles.encoder {
        Some(_) => parts_of(dataset.rows(), ENCODED_ROWS),
        None => parts(dataset.rows(), prepared.features.dims()),
    };
    let (tally, moments, gain, (reference, reach), profile, content) =
        engine.run("assign", &read, &pass, &parts)?;
    if tally.planned() == 0 {
        return Err(crate::Error::input(
            "dataset",
            "no row can be used",
            "check --where and the feature columns",
        ));
    }
    let profile = profile.unwrap_or_default();
    Ok((rows, Passed { tally, moments, gain, reference, profile, content, content_key, reach }))
}
