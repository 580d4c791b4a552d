//! After the assignment pass: empty ids disappear, a held-out split is set aside, every row gets its centrality, and
//! `samples.arrow` and `strata.arrow` are written. All of it streams: memory does not grow with the dataset.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use super::assign::{ROW_BYTES, Row, Tally};
use crate::error::Result;
use crate::ids::{NONE, RowType};
use crate::progress::Progress;
use crate::rng::{Permutation, Stream};
use crate::scratch::{RowFile, Scatter, Sorted};
use crate::weights::centrality::{centrality_of_rank, order};

/// Rows read from a working file at a time, and rows of a record batch of `samples.arrow`.
pub const CHUNK: u64 = 1 << 20;
/// Most rows that are ranked in memory at a time (16 bytes each); larger modalities are cut by value first.
const RANKED_AT_ONCE: u64 = 1 << 22;
/// Bytes for all buffers of one scatter.
const SCATTER_BYTES: usize = 32 << 20;

/// The ids that exist, renumbered in order, and how many rows of the plan each has.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Old prototype, modality and stratum ids in new order.
    pub prototypes: Vec<u32>,
    pub modalities: Vec<u32>,
    pub strata: Vec<u32>,
    pub prototype_rows: Vec<u64>,
    pub modality_rows: Vec<u64>,
    pub stratum_rows: Vec<u64>,
    /// New modality of each new stratum; None if some stratum spans several.
    pub modality_of_stratum: Option<Vec<u32>>,
    /// Rows set aside by `batches.holdout`.
    pub held_out: u64,
}

impl Census {
    pub fn planned(&self) -> u64 {
        self.stratum_rows.iter().sum()
    }
}

/// Old id -> new id.
fn places(ids: &[u32]) -> BTreeMap<u32, u32> {
    ids.iter().enumerate().map(|(new, &old)| (old, new as u32)).collect()
}

/// How many rows of each stratum are held out: round(share x rows) in all, spread like the rest batch so that every
/// stratum is within one row of its share; no stratum is emptied.
fn holdout_counts(rows: &[u64], share: f64, seed: u64) -> Vec<u64> {
    let n: u64 = rows.iter().sum();
    let r = ((n as f64 * share).round() as u64).min(n);
    if r == 0 {
        return vec![0; rows.len()];
    }
    let quota = |h: usize| (rows[h] as u128 * r as u128, n as u128);
    let mut out: Vec<u64> = (0..rows.len()).map(|h| (quota(h).0 / quota(h).1) as u64).collect();
    let mut by_remainder: Vec<usize> = (0..rows.len()).collect();
    by_remainder.sort_by_key(|&h| {
        (std::cmp::Reverse(quota(h).0 % quota(h).1), Stream::Holdout.key(seed, &[u64::MAX, h as u64]))
    });
    let need = r - out.iter().sum::<u64>();
    by_remainder.iter().take(need as usize).for_each(|&h| out[h] += 1);
    (0..rows.len()).map(|h| out[h].min(rows[h].saturating_sub(1))).collect()
}

/// The finished rows: the working file again, now with new ids, rows held out marked, and their centrality.
pub struct Settled {
    pub census: Census,
    /// New ids, [`ROW_BYTES`] a row.
    rows: RowFile,
    /// Row numbers by stratum, ascending inside.
    members: Sorted,
    /// (row in its chunk, centrality) by chunk of [`CHUNK`] rows.
    centrality: Sorted,
    /// (row, new stratum) of held-out rows, ascending.
    pub held_out: Vec<(u64, u32)>,
    /// The ranked value at 0, 10, .. 100 % of every modality's rows (the lower neighbour where none is exact).
    pub ranked_quantiles: Vec<[f32; 11]>,
    total: u64,
    row_type: RowType,
}

/// Streams the working file in chunks.
fn each_chunk(file: &RowFile, total: u64, mut f: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let mut bytes = Vec::new();
    for first in (0..total).step_by(CHUNK as usize) {
        file.read(first, (total - first).min(CHUNK) as usize, &mut bytes)?;
        f(first, &bytes)?;
    }
    Ok(())
}

/// Which rows may be held out, and how many.
pub struct Holdout<'a> {
    pub share: f64,
    /// Rows of every stratum that may be held out, by the ids of the tally.
    pub rows: &'a BTreeMap<u32, u64>,
    pub may: &'a dyn Fn(u64) -> bool,
}

/// See the module. `scratch` is a directory for working files.
pub fn settle(
    rows: &RowFile,
    total: u64,
    tally: &Tally,
    holdout: Holdout<'_>,
    seed: u64,
    scratch: &Path,
    progress: &Progress,
) -> Result<Settled> {
    let stage = progress.stage("rank", "rows", 3 * total);
    let row_type = RowType::of(total);

    // Which ids exist. A held-out row keeps its stratum alive, so these do not change below.
    let ids = |x: &BTreeMap<u32, u64>| -> Vec<u32> { x.keys().copied().collect() };
    let mut census = Census {
        prototypes: ids(&tally.prototypes),
        modalities: ids(&tally.modalities),
        strata: ids(&tally.strata),
        ..Census::default()
    };
    let (new_prototype, new_modality, new_stratum) =
        (places(&census.prototypes), places(&census.modalities), places(&census.strata));
    let open = |h: &u32| holdout.rows.get(h).copied().unwrap_or(0);
    let assigned: Vec<u64> = tally.strata.keys().map(open).collect();
    let held = holdout_counts(&assigned, holdout.share, seed);
    let choose: Vec<Permutation> = (0..assigned.len())
        .map(|h| Permutation::new(assigned[h], Stream::Holdout.key(seed, &[h as u64])))
        .collect();

    // Renumber, hold out, count.
    let renumbered = RowFile::create(&scratch.join("renumbered"), ROW_BYTES)?;
    let mut seen = vec![0u64; assigned.len()];
    let mut held_out = Vec::new();
    let mut inside: Vec<Option<u32>> = vec![None; assigned.len()];
    let mut spans = false;
    census.prototype_rows = vec![0; census.prototypes.len()];
    census.modality_rows = vec![0; census.modalities.len()];
    census.stratum_rows = vec![0; census.strata.len()];
    let mut chunks = vec![0u64; total.div_ceil(CHUNK) as usize];
    each_chunk(rows, total, |first, bytes| {
        let mut out = Vec::with_capacity(bytes.len());
        for (i, record) in bytes.chunks_exact(ROW_BYTES).enumerate() {
            let mut row = Row::from_bytes(record);
            if row.planned() {
                row.modality = new_modality[&row.modality];
                row.stratum = new_stratum[&row.stratum];
                row.prototype = new_prototype.get(&row.prototype).copied().unwrap_or(NONE);
                let h = row.stratum as usize;
                let may = held[h] > 0 && (holdout.may)(first + i as u64);
                let place = seen[h];
                seen[h] += u64::from(may);
                if may && choose[h].index(place) < held[h] {
                    held_out.push((first + i as u64, row.stratum));
                    row = Row { prototype: NONE, modality: NONE, stratum: NONE, ..row };
                } else {
                    census.modality_rows[row.modality as usize] += 1;
                    census.stratum_rows[h] += 1;
                    chunks[(first / CHUNK) as usize] += 1;
                    if row.prototype != NONE {
                        census.prototype_rows[row.prototype as usize] += 1;
                    }
                    spans |= *inside[h].get_or_insert(row.modality) != row.modality;
                }
            }
            out.extend_from_slice(&row.to_bytes());
        }
        renumbered.write(first, &out)?;
        stage.advance(bytes.len() as u64 / ROW_BYTES as u64)
    })?;
    census.held_out = held_out.len() as u64;
    census.modality_of_stratum = if spans { None } else { inside.into_iter().collect() };

    // Members of every stratum, and the values to rank by modality (cut by value where a modality is very large).
    let cut = Cut::new(&renumbered, total, &census.modality_rows)?;
    let width = row_type.width();
    let mut members = Scatter::create(&scratch.join("members"), width, &census.stratum_rows, SCATTER_BYTES)?;
    let mut values = Scatter::create(&scratch.join("values"), 12, &cut.counts, SCATTER_BYTES)?;
    each_chunk(&renumbered, total, |first, bytes| {
        for (i, record) in bytes.chunks_exact(ROW_BYTES).enumerate() {
            let row = Row::from_bytes(record);
            if row.planned() {
                let number = (first + i as u64).to_le_bytes();
                members.push(row.stratum as usize, &number[..width])?;
                let mut value = [0; 12];
                value[..8].copy_from_slice(&number);
                value[8..].copy_from_slice(&row.ranked.to_bits().to_le_bytes());
                values.push(cut.bucket(row.modality, row.ranked), &value)?;
            }
        }
        stage.advance(bytes.len() as u64 / ROW_BYTES as u64)
    })?;
    let (members, values) = (members.finish()?, values.finish()?);

    // Rank inside every bucket (buckets of a modality follow each other by value), back to row order.
    let mut centrality = Scatter::create(&scratch.join("centrality"), 8, &chunks, SCATTER_BYTES)?;
    let mut bytes = Vec::new();
    let (mut modality, mut below) = (0, 0);
    let mut ranked_quantiles = vec![[0.0; 11]; census.modalities.len()];
    for bucket in 0..cut.counts.len() {
        if cut.modality[bucket] != modality {
            (modality, below) = (cut.modality[bucket], 0);
        }
        values.bucket(bucket, &mut bytes)?;
        let ranked: Vec<f32> = bytes
            .par_chunks_exact(12)
            .map(|v| f32::from_le_bytes(v[8..].try_into().expect("four bytes")))
            .collect();
        let order = order(&ranked);
        let of = census.modality_rows[modality as usize];
        for (rank, &i) in order.iter().enumerate() {
            let at = i as usize * 12;
            let row = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
            let mut out = [0; 8];
            out[..4].copy_from_slice(&((row % CHUNK) as u32).to_le_bytes());
            out[4..].copy_from_slice(&centrality_of_rank(below + rank as u64, of).to_le_bytes());
            centrality.push((row / CHUNK) as usize, &out)?;
        }
        for (q, value) in ranked_quantiles[modality as usize].iter_mut().enumerate() {
            let rank = (of - 1) * q as u64 / 10;
            if let Some(&i) = rank.checked_sub(below).and_then(|i| order.get(i as usize)) {
                *value = ranked[i as usize];
            }
        }
        below += order.len() as u64;
        stage.advance(order.len() as u64)?;
    }
    let centrality = centrality.finish()?;
    Ok(Settled { census, rows: renumbered, members, centrality, held_out, ranked_quantiles, total, row_type })
}

/// How the rows of each modality are cut into buckets that fit in memory: by ranges of the value's upper bits.
struct Cut {
    counts: Vec<u64>,
    modality: Vec<u32>,
    /// First bucket of every modality.
    first: Vec<usize>,
    /// For a cut modality: bucket inside it of every value of the upper bits.
    ranges: Vec<Option<Vec<u32>>>,
}

const UPPER_BITS: u32 = 20;

impl Cut {
    fn new(rows: &RowFile, total: u64, modality_rows: &[u64]) -> Result<Self> {
        let large: Vec<bool> = modality_rows.iter().map(|&n| n > RANKED_AT_ONCE).collect();
        let mut histograms: Vec<Vec<u64>> =
            large.iter().map(|&l| if l { vec![0; 1 << UPPER_BITS] } else { Vec::new() }).collect();
        if large.contains(&true) {
            each_chunk(rows, total, |_, bytes| {
                for record in bytes.chunks_exact(ROW_BYTES) {
                    let row = Row::from_bytes(record);
                    if row.planned() && large[row.modality as usize] {
                        histograms[row.modality as usize]
                            [(row.ranked.to_bits() >> (32 - UPPER_BITS)) as usize] += 1;
                    }
                }
                Ok(())
            })?;
        }
        let mut cut = Cut { counts: vec![], modality: vec![], first: vec![], ranges: vec![] };
        for (m, &n) in modality_rows.iter().enumerate() {
            cut.first.push(cut.counts.len());
            if !large[m] {
                cut.counts.push(n);
                cut.modality.push(m as u32);
                cut.ranges.push(None);
                continue;
            }
            let mut range = Vec::with_capacity(1 << UPPER_BITS);
            cut.counts.push(0);
            cut.modality.push(m as u32);
            for &count in &histograms[m] {
                let last = cut.counts.len() - 1;
                if cut.counts[last] > 0 && cut.counts[last] + count > RANKED_AT_ONCE {
                    cut.counts.push(0);
                    cut.modality.push(m as u32);
                }
                let last = cut.counts.len() - 1;
                cut.counts[last] += count;
                range.push((last - cut.first[m]) as u32);
            }
            cut.ranges.push(Some(range));
        }
        Ok(cut)
    }

    fn bucket(&self, modality: u32, value: f32) -> usize {
        let m = modality as usize;
        let inside =
            self.ranges[m].as_ref().map_or(0, |r| r[(value.to_bits() >> (32 - UPPER_BITS)) as usize]);
        self.first[m] + inside as usize
    }
}

/// A chunk of `samples.arrow`.
#[derive(Default)]
pub struct SampleChunk {
    pub modality: Vec<u32>,
    pub stratum: Vec<u32>,
    pub distance: Vec<f32>,
    pub centrality: Vec<f32>,
}

impl Settled {
    /// All rows in order, a chunk at a time.
    pub fn samples(&self, mut each: impl FnMut(&SampleChunk) -> Result<()>) -> Result<()> {
        let mut chunk = SampleChunk::default();
        let mut ranks = Vec::new();
        each_chunk(&self.rows, self.total, |first, bytes| {
            let count = bytes.len() / ROW_BYTES;
            chunk.modality.clear();
            chunk.stratum.clear();
            chunk.distance.clear();
            for record in bytes.chunks_exact(ROW_BYTES) {
                let row = Row::from_bytes(record);
                chunk.modality.push(row.modality);
                chunk.stratum.push(row.stratum);
                chunk.distance.push(row.distance);
            }
            chunk.centrality.clear();
            chunk.centrality.resize(count, 0.0);
            self.centrality.bucket((first / CHUNK) as usize, &mut ranks)?;
            for record in ranks.chunks_exact(8) {
                let row = u32::from_le_bytes(record[..4].try_into().expect("four bytes")) as usize;
                chunk.centrality[row] = f32::from_le_bytes(record[4..].try_into().expect("four bytes"));
            }
            each(&chunk)
        })
    }

    /// The planned rows by stratum, as little-endian row numbers of the plan's width, a chunk at a time.
    pub fn members(&self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let planned = self.census.planned();
        let mut bytes = Vec::new();
        for first in (0..planned).step_by(CHUNK as usize) {
            self.members.records(first, (planned - first).min(CHUNK) as usize, &mut bytes)?;
            each(&bytes)?;
        }
        Ok(())
    }

    pub fn row_type(&self) -> RowType {
        self.row_type
    }

    /// Where each stratum begins in [`Settled::members`], and the end.
    pub fn offsets(&self) -> Vec<u64> {
        let mut offsets = vec![0];
        offsets.extend(self.census.stratum_rows.iter().scan(0, |sum, &n| {
            *sum += n;
            Some(*sum)
        }));
        offsets
    }
}
