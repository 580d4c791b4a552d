//! What the pass over all rows finds for each of them, and the counts that decide which modalities, strata and prototypes
//! exist.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::batches::weights::centrality::{Centrality, density, margin};
use crate::features::State;
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::kit::matrix::Matrix;
use crate::kit::scratch::RowFile;
use crate::modalities::Assigned;
use crate::parts::Pass;

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
#[derive(Serialize, Deserialize)]
pub enum Ranking {
    Distance,
    /// Sample rows of every modality, and where each sampled row stands among them.
    Density {
        samples: Vec<Matrix>,
        places: BTreeMap<u64, (u32, usize)>,
    },
    Margin {
        centers: Matrix,
    },
}

/// Sample rows of a modality that `density` looks at: the cost per row is this many distances.
const DENSITY_ROWS: usize = 1000;

impl Ranking {
    /// `rows`, `points` and `labels` are the fit sample.
    pub fn new(by: Centrality, rows: &[u64], points: &Matrix, labels: &[u32], centers: &Matrix) -> Self {
        match by {
            Centrality::Distance => Ranking::Distance,
            Centrality::Margin => Ranking::Margin { centers: centers.clone() },
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

/// Bytes of a hash of what a row holds.
pub const CONTENT_BYTES: usize = 16;

/// Where what has one entry a row goes: [`ROW_BYTES`] each, and where contents were asked for [`CONTENT_BYTES`].
#[derive(Clone)]
pub enum Sink {
    /// Working files. Rows of the pass lie in them in runs: (first row of the pass, its row in the files), ascending.
    Files { rows: RowFile, contents: Option<RowFile>, runs: Arc<Vec<(u64, u64)>> },
    /// Memory, from the first row of a task on.
    Held(Arc<Mutex<Held>>),
}

/// The rows of a task.
#[derive(Default)]
pub struct Held {
    pub first: u64,
    pub rows: Vec<u8>,
    pub contents: Vec<u8>,
}

impl Sink {
    /// Files that have the rows of the pass at their own numbers.
    pub fn files(rows: &RowFile, contents: Option<&RowFile>) -> Sink {
        Sink::Files { rows: rows.clone(), contents: contents.cloned(), runs: Arc::new(vec![(0, 0)]) }
    }

    /// Rows of a task that begins at row `first`.
    pub fn held(first: u64) -> Sink {
        Sink::Held(Arc::new(Mutex::new(Held { first, ..Held::default() })))
    }

    /// What memory holds: rows and contents.
    pub fn take(&self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Sink::Files { .. } => Default::default(),
            Sink::Held(held) => {
                let held = std::mem::take(&mut *held.lock().unwrap_or_else(PoisonError::into_inner));
                (held.rows, held.contents)
            }
        }
    }

    /// Puts rows that follow each other to their place; `contents` may be empty.
    pub fn put(&self, first: u64, rows: &[u8], contents: &[u8]) -> Result<()> {
        match self {
            Sink::Files { rows: file, contents: other, runs } => {
                write(file, runs, first, rows, ROW_BYTES)?;
                other.as_ref().map_or(Ok(()), |file| write(file, runs, first, contents, CONTENT_BYTES))
            }
            Sink::Held(held) => {
                let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
                let at = (first - held.first) as usize;
                place(&mut held.rows, at * ROW_BYTES, rows);
                place(&mut held.contents, at * CONTENT_BYTES, contents);
                Ok(())
            }
        }
    }
}

fn place(into: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if into.len() < at + bytes.len() {
        into.resize(at + bytes.len(), 0);
    }
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Writes records of rows `first ..` of the pass, run by run.
fn write(file: &RowFile, runs: &[(u64, u64)], first: u64, records: &[u8], width: usize) -> Result<()> {
    let (mut row, mut rest) = (first, records);
    while !rest.is_empty() {
        let run = runs.partition_point(|run| run.0 <= row) - 1;
        let end = runs.get(run + 1).map_or(u64::MAX, |next| next.0);
        let rows = (end - row).min((rest.len() / width) as u64);
        let (now, later) = rest.split_at(rows as usize * width);
        file.write(runs[run].1 + (row - runs[run].0), now)?;
        (row, rest) = (row + rows, later);
    }
    Ok(())
}

/// Finds what is stored of each row, puts it into the sink and counts.
#[derive(Serialize, Deserialize)]
pub struct Rows {
    ranking: Ranking,
    #[serde(skip)]
    sink: Option<Sink>,
}

impl Rows {
    pub fn new(ranking: Ranking, sink: Sink) -> Self {
        Rows { ranking, sink: Some(sink) }
    }

    pub fn sink(&self) -> Option<&Sink> {
        self.sink.as_ref()
    }

    pub fn put_into(&mut self, sink: Sink) {
        self.sink = Some(sink);
    }
}

/// How many rows went where. Ids are those of the fit; empty ones are removed afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

impl Pass for Rows {
    type Item = Assigned;
    type Partial = Tally;
    type Output = Tally;

    fn partial(&self, item: &Assigned) -> Result<Tally> {
        let mut bytes = Vec::with_capacity(item.modality.len() * ROW_BYTES);
        for i in 0..item.modality.len() {
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
        if let (Some(sink), Some(&first)) = (&self.sink, item.points.rows.first()) {
            sink.put(first, &bytes, item.points.contents.as_flattened())?;
        }
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
