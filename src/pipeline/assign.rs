//! The assignment pass: every row's prototype, modality, stratum and distance, streamed to a working file, and the counts
//! that decide which of them exist.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::features::State;
use crate::ids::NONE;
use crate::modalities::Assigned;
use crate::parts::Pass;
use crate::scratch::RowFile;
use crate::weights::Ranking;

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
    fn to_bytes(self) -> [u8; ROW_BYTES] {
        let mut out = [0; ROW_BYTES];
        let words =
            [self.prototype, self.modality, self.stratum, self.distance.to_bits(), self.ranked.to_bits()];
        for (bytes, word) in out.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    pub fn from_bytes(bytes: &[u8]) -> Self {
        let word = |i: usize| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().expect("four bytes"));
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

/// Writes the rows of each part to their place and counts them.
pub struct RowWriter<'a> {
    pub file: &'a RowFile,
    pub ranking: &'a Ranking<'a>,
}

/// How many rows went where. Ids are those of the fit; empty ones are removed afterwards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    pub prototypes: BTreeMap<u32, u64>,
    pub modalities: BTreeMap<u32, u64>,
    /// (modality, stratum): the pairs say whether strata lie inside modalities.
    pub strata: BTreeMap<u32, u64>,
    pub filtered: u64,
    pub invalid: u64,
}

impl Tally {
    pub fn planned(&self) -> u64 {
        self.strata.values().sum()
    }
}

fn add(into: &mut BTreeMap<u32, u64>, from: BTreeMap<u32, u64>) {
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
        let mut bytes = Vec::with_capacity(rows.len() * ROW_BYTES);
        for i in 0..rows.len() {
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
        if let Some(&first) = rows.first() {
            self.file.write(first, &bytes)?;
        }
        let states = |s: State| item.points.state.iter().filter(|&&x| x == s).count() as u64;
        Ok(Tally {
            prototypes: count(&item.prototype),
            modalities: count(&item.modality),
            strata: count(&item.stratum),
            filtered: states(State::Filtered),
            invalid: states(State::Invalid),
        })
    }

    fn merge(&self, mut left: Tally, right: Tally) -> Tally {
        add(&mut left.prototypes, right.prototypes);
        add(&mut left.modalities, right.modalities);
        add(&mut left.strata, right.strata);
        left.filtered += right.filtered;
        left.invalid += right.invalid;
        left
    }

    fn finish(&self, all: Option<Tally>) -> Result<Tally> {
        Ok(all.unwrap_or_default())
    }
}
