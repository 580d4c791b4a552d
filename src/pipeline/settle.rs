//! After the assignment pass: empty ids disappear, rows of other splits than the first are set aside, every row gets its centrality, and
//! `samples.arrow` and `strata.arrow` are written. All of it streams: with splits two bytes a row stay in memory, else nothing does.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::holdout::CONTENT_BYTES;
use crate::batches::weights::centrality::{centrality_of_rank, order};
use crate::engine::rows::{ROW_BYTES, Row, Tally};
use crate::format::holdout::{Content, HeldOut};
use crate::kit::error::{Error, Result};
use crate::kit::ids::{NONE, RowType};
use crate::kit::progress::Progress;
use crate::kit::scratch::{RowFile, Scatter, Sorted};
use crate::splits::NO_SPLIT;
use crate::statistics::cells::Cells;

/// Rows read from a working file at a time, and rows of a record batch of `samples.arrow`.
pub const CHUNK: u64 = 1 << 20;
/// Most rows that are ranked in memory at a time (28 bytes each); larger modalities are cut by value first.
const RANKED_AT_ONCE: u64 = 1 << 22;
/// Buckets of so many rows in all are ranked side by side.
const RANKED_TOGETHER: u64 = 1 << 20;
/// Rows that a thread decodes at a time.
const DECODED: usize = 1 << 14;
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
}

impl Census {
    pub fn planned(&self) -> u64 {
        self.stratum_rows.iter().sum()
    }
}

/// Old ids that have rows, ascending: the place of each is its new id.
struct Ids {
    old: Vec<u32>,
    /// New id of every old one, where these are small numbers.
    new: Vec<u32>,
}

impl Ids {
    const SMALL: u32 = 1 << 20;

    fn of<T>(counts: &BTreeMap<u32, T>) -> Self {
        let old: Vec<u32> = counts.keys().copied().collect();
        let mut new = Vec::new();
        if let Some(&most) = old.last().filter(|&&most| most < Ids::SMALL) {
            new.resize(most as usize + 1, NONE);
            old.iter().zip(0..).for_each(|(&old, place)| new[old as usize] = place);
        }
        Ids { old, new }
    }

    /// Forgets ids, in the lists of a census as well: those that are not to be kept, by their place and rows.
    fn retain(&mut self, ids: &mut Vec<u32>, rows: &mut Vec<u64>, keep: impl Fn(usize, u64) -> bool) {
        let kept: BTreeMap<u32, u64> = (self.old.iter().zip(rows.iter()).enumerate())
            .filter_map(|(place, (&old, &n))| keep(place, n).then_some((old, n)))
            .collect();
        *self = Ids::of(&kept);
        ids.clone_from(&self.old);
        *rows = kept.into_values().collect();
    }

    /// [`NONE`] for an id without rows.
    fn place(&self, old: u32) -> u32 {
        match self.new.get(old as usize) {
            Some(&new) => new,
            None => self.old.binary_search(&old).map_or(NONE, |new| new as u32),
        }
    }
}

/// The working file as the plan sees it: new ids, and rows of other splits than the first are out of the plan. A row that an older plan
/// held out has a stratum and no modality.
pub struct Rows {
    file: RowFile,
    pub total: u64,
    /// Split of every row, [`NO_SPLIT`] for none; empty: all are in the first.
    split: Vec<u16>,
    prototypes: Ids,
    modalities: Ids,
    strata: Ids,
}

impl Rows {
    /// In chunks of [`CHUNK`] rows, decoded in parallel; with the first row's number.
    pub fn each_chunk(&self, mut f: impl FnMut(u64, &[Row]) -> Result<()>) -> Result<()> {
        let (mut bytes, mut rows) = (Vec::new(), Vec::new());
        for first in (0..self.total).step_by(CHUNK as usize) {
            let count = (self.total - first).min(CHUNK) as usize;
            self.file.read(first, count, &mut bytes)?;
            rows.resize(count, Row::OUT);
            bytes.par_chunks(DECODED * ROW_BYTES).zip(rows.par_chunks_mut(DECODED)).for_each(
                |(bytes, rows)| {
                    rows.iter_mut()
                        .zip(bytes.as_chunks().0)
                        .for_each(|(row, bytes)| *row = self.renumbered(bytes));
                },
            );
            let split = self.split.get(first as usize..).unwrap_or_default();
            for (row, _) in rows.iter_mut().zip(split).filter(|(_, s)| **s != 0) {
                *row = Row { prototype: NONE, modality: NONE, stratum: NONE, ..*row };
            }
            f(first, &rows)?;
        }
        Ok(())
    }

    fn renumbered(&self, bytes: &[u8; ROW_BYTES]) -> Row {
        let row = Row::from_bytes(bytes);
        if row.stratum == NONE {
            return row;
        }
        Row {
            prototype: self.prototypes.place(row.prototype),
            modality: self.modalities.place(row.modality),
            stratum: self.strata.place(row.stratum),
            ..row
        }
    }
}

/// The finished rows: new ids, those of other splits marked, and their centrality.
pub struct Settled {
    pub census: Census,
    rows: Rows,
    /// Row numbers by stratum, ascending inside.
    members: Sorted,
    /// (row in its chunk, centrality) by chunk of [`CHUNK`] rows.
    centrality: Sorted,
    /// Held-out rows with their new stratum, ascending.
    pub held_out: Vec<HeldOut>,
    /// The ranked value at 0, 10, .. 100 % of every modality's rows (the lower neighbour where none is exact).
    pub ranked_quantiles: Vec<[f32; 11]>,
    /// Rows of every modality at and between these.
    pub ranked_cells: Vec<Cells>,
    row_type: RowType,
}

/// Which rows are in which split.
pub struct Asked<'a> {
    /// The strata of a census from left to right in the dendrogram.
    pub leaves: &'a dyn Fn(&Census) -> Vec<u32>,
    /// The split of every row, once it is known what there is; empty: nothing is held out.
    pub deal: &'a dyn Fn(&Census, &Rows) -> Result<Vec<u16>>,
    /// Hashes of what the rows hold.
    pub contents: Option<&'a RowFile>,
}

/// See the module. `scratch` is a directory for working files.
pub fn settle(
    rows: RowFile,
    total: u64,
    tally: &Tally,
    asked: Option<Asked<'_>>,
    scratch: &Path,
    progress: &Progress,
) -> Result<Settled> {
    let stage = progress.stage("rank", "rows", 2 * total);
    let row_type = RowType::of(total);
    let (prototypes, modalities, strata) =
        (Ids::of(&tally.prototypes), Ids::of(&tally.modalities), Ids::of(&tally.strata));
    let counts = |x: &BTreeMap<u32, u64>| -> Vec<u64> { x.values().copied().collect() };
    let mut census = Census {
        prototypes: prototypes.old.clone(),
        modalities: modalities.old.clone(),
        strata: strata.old.clone(),
        prototype_rows: counts(&tally.prototypes),
        modality_rows: counts(&tally.modalities),
        stratum_rows: counts(&tally.strata),
        ..Census::default()
    };
    let mut rows = Rows { file: rows, total, split: Vec::new(), prototypes, modalities, strata };
    let held_out = match &asked {
        Some(asked) => hold_out(&mut rows, asked, &mut census)?,
        None => Vec::new(),
    };

    // Members of every stratum, and the values to rank by modality (cut by value where a modality is very large).
    let cut = Cut::new(&rows, &census.modality_rows)?;
    let width = row_type.width();
    let mut members = Scatter::create(&scratch.join("members"), width, &census.stratum_rows, SCATTER_BYTES)?;
    let mut values = Scatter::create(&scratch.join("values"), 12, &cut.counts, SCATTER_BYTES)?;
    let mut chunks = vec![0u64; total.div_ceil(CHUNK) as usize];
    let mut inside: Vec<Option<u32>> = vec![None; census.strata.len()];
    let mut spans = false;
    rows.each_chunk(|first, rows| {
        let planned = || (first..).zip(rows).filter(|(_, row)| row.planned());
        let by_stratum = || {
            planned().try_for_each(|(number, row)| {
                let h = row.stratum as usize;
                spans |= *inside[h].get_or_insert(row.modality) != row.modality;
                members.push(h, &number.to_le_bytes()[..width])
            })
        };
        let by_modality = || {
            planned().try_for_each(|(number, row)| {
                chunks[(first / CHUNK) as usize] += 1;
                let mut value = [0; 12];
                value[..8].copy_from_slice(&number.to_le_bytes());
                value[8..].copy_from_slice(&row.ranked.to_bits().to_le_bytes());
                values.push(cut.bucket(row.modality, row.ranked), &value)
            })
        };
        let (members, values) = rayon::join(by_stratum, by_modality);
        members.and(values)?;
        stage.advance(rows.len() as u64)
    })?;
    census.modality_of_stratum = if spans { None } else { inside.into_iter().collect() };
    let (members, values) = (members.finish()?, values.finish()?);

    // Rank inside every bucket (buckets of a modality follow each other by value), back to row order.
    let mut centrality = Scatter::create(&scratch.join("centrality"), 8, &chunks, SCATTER_BYTES)?;
    let (mut modality, mut below) = (0, 0);
    let mut ranked_quantiles = vec![[0.0; 11]; census.modalities.len()];
    // Rows less than each of these, and less or equal.
    let mut around = vec![[(0, 0); 11]; census.modalities.len()];
    for some in cut.together() {
        for (bucket, ranked) in some.clone().zip(ranked(&values, some)?) {
            if cut.modality[bucket] != modality {
                (modality, below) = (cut.modality[bucket], 0);
            }
            let of = census.modality_rows[modality as usize];
            for (rank, i) in (below..).zip(&ranked.order) {
                let row = ranked.row(*i);
                let mut out = [0; 8];
                out[..4].copy_from_slice(&((row % CHUNK) as u32).to_le_bytes());
                out[4..].copy_from_slice(&centrality_of_rank(rank, of).to_le_bytes());
                centrality.push((row / CHUNK) as usize, &out)?;
            }
            for (q, value) in ranked_quantiles[modality as usize].iter_mut().enumerate() {
                let rank = (of - 1) * q as u64 / 10;
                if let Some(&i) = rank.checked_sub(below).and_then(|i| ranked.order.get(i as usize)) {
                    *value = ranked.value(i);
                    // Equal values are in one bucket.
                    let rows = |of: &dyn Fn(f32) -> bool| {
                        ranked.order.partition_point(|&i| of(ranked.value(i))) as u64
                    };
                    around[modality as usize][q] =
                        (below + rows(&|x| x < *value), below + rows(&|x| x <= *value));
                }
            }
            below += ranked.order.len() as u64;
            stage.advance(ranked.order.len() as u64)?;
        }
    }
    let centrality = centrality.finish()?;
    let ranked_cells = (ranked_quantiles.iter().zip(&around).zip(&census.modality_rows))
        .map(|((quantiles, around), &rows)| Cells::around(&quantiles.map(f64::from), around, rows))
        .collect();
    Ok(Settled { census, rows, members, centrality, held_out, ranked_quantiles, ranked_cells, row_type })
}

/// Takes the rows of other splits than the first out of the census. Strata and modalities that have no others disappear.
fn hold_out(rows: &mut Rows, asked: &Asked<'_>, census: &mut Census) -> Result<Vec<HeldOut>> {
    let mut inside: Vec<Option<u32>> = vec![None; census.strata.len()];
    let mut spans = false;
    rows.each_chunk(|_, rows| {
        for row in rows.iter().filter(|row| row.planned()) {
            spans |= *inside[row.stratum as usize].get_or_insert(row.modality) != row.modality;
        }
        Ok(())
    })?;
    census.modality_of_stratum = if spans { None } else { inside.into_iter().collect() };
    let (leaves, split) = ((asked.leaves)(census), (asked.deal)(census, rows)?);
    if split.is_empty() {
        return Ok(Vec::new());
    }
    let mut chosen: Vec<(u64, Row)> = Vec::new();
    rows.each_chunk(|first, rows| {
        for (number, &row) in (first..).zip(rows).filter(|(_, row)| row.stratum != NONE) {
            let s = split[number as usize];
            if s != 0 && row.planned() {
                census.modality_rows[row.modality as usize] -= 1;
                census.stratum_rows[row.stratum as usize] -= 1;
                if row.prototype != NONE {
                    census.prototype_rows[row.prototype as usize] -= 1;
                }
            }
            if s != 0 {
                chosen.push((number, row));
            }
        }
        Ok(())
    })?;
    if census.planned() == 0 {
        let help = "deal the held-out rows anew with --deal-holdout";
        return Err(Error::input("dataset", "has only rows that are held out, none for the batches", help));
    }
    let mut held_out = without_emptied(rows, census, &chosen, &split, &leaves);
    rows.split = split;
    if let Some(contents) = asked.contents {
        describe(&mut held_out, contents, rows)?;
    }
    Ok(held_out)
}

/// The held-out rows. Modalities and strata that have no others are forgotten, with their prototypes; the rows are listed with the
/// nearest stratum, by the order of the dendrogram's leaves, that has others. O(held-out rows + strata). `chosen`: all rows that are not in the first
/// split; those in none are not listed.
fn without_emptied(
    rows: &mut Rows,
    census: &mut Census,
    chosen: &[(u64, Row)],
    split: &[u16],
    leaves: &[u32],
) -> Vec<HeldOut> {
    let is_empty = |counts: &[u64], id: u32| counts.get(id as usize) == Some(&0);
    let gone = |row: &Row| {
        is_empty(&census.modality_rows, row.modality) || is_empty(&census.stratum_rows, row.stratum)
    };
    let mut prototypes: Vec<bool> = vec![true; census.prototype_rows.len()];
    for (_, row) in chosen.iter().filter(|(_, row)| gone(row)) {
        if is_empty(&census.prototype_rows, row.prototype) {
            prototypes[row.prototype as usize] = false;
        }
    }
    // Of every stratum the last one with rows up to it, else the first one after it.
    let has_rows = |h: &u32| census.stratum_rows[*h as usize] > 0;
    let mut nearest = vec![NONE; leaves.len()];
    let mut last = leaves.iter().copied().find(has_rows).unwrap_or(NONE);
    for &h in leaves {
        last = if has_rows(&h) { h } else { last };
        nearest[h as usize] = last;
    }
    let strata = rows.strata.old.clone();
    rows.prototypes.retain(&mut census.prototypes, &mut census.prototype_rows, |q, _| prototypes[q]);
    rows.modalities.retain(&mut census.modalities, &mut census.modality_rows, |_, n| n > 0);
    rows.strata.retain(&mut census.strata, &mut census.stratum_rows, |_, n| n > 0);
    let stratum = |row: &Row| rows.strata.place(strata[nearest[row.stratum as usize] as usize]);
    let split = |number: u64| split[number as usize];
    let held_out = |&(number, ref row): &(u64, Row)| HeldOut {
        row: number,
        stratum: stratum(row),
        split: split(number),
        content: None,
    };
    chosen.iter().filter(|(number, _)| split(*number) != NO_SPLIT).map(held_out).collect()
}

/// What the held-out rows hold, and how many planned rows hold the same.
fn describe(held_out: &mut [HeldOut], contents: &RowFile, rows: &Rows) -> Result<()> {
    let mut bytes = Vec::new();
    let mut copies: BTreeMap<[u8; CONTENT_BYTES], u64> = BTreeMap::new();
    let of = |held: &HeldOut, first: u64, bytes: &[u8]| {
        bytes.as_chunks::<CONTENT_BYTES>().0[(held.row - first) as usize]
    };
    for first in (0..rows.total).step_by(CHUNK as usize) {
        let count = (rows.total - first).min(CHUNK);
        let from = held_out.partition_point(|h| h.row < first);
        let to = held_out.partition_point(|h| h.row < first + count);
        if from < to {
            contents.read(first, count as usize, &mut bytes)?;
            for held in &mut held_out[from..to] {
                let hash = of(held, first, &bytes);
                held.content = Some(Content { hash, copies: 0 });
                copies.insert(hash, 0);
            }
        }
    }
    rows.each_chunk(|first, rows| {
        contents.read(first, rows.len(), &mut bytes)?;
        let hashes = bytes.as_chunks::<CONTENT_BYTES>().0;
        for (hash, _) in hashes.iter().zip(rows).filter(|(_, row)| row.planned()) {
            if let Some(n) = copies.get_mut(hash) {
                *n += 1;
            }
        }
        Ok(())
    })?;
    held_out.iter_mut().filter_map(|h| h.content.as_mut()).for_each(|c| c.copies = copies[&c.hash]);
    Ok(())
}

/// A bucket's records (row, value) and their order by value.
struct Ranked {
    bytes: Vec<u8>,
    order: Vec<u32>,
}

impl Ranked {
    fn record(&self, i: u32) -> &[u8; 12] {
        &self.bytes.as_chunks().0[i as usize]
    }

    fn row(&self, i: u32) -> u64 {
        u64::from_le_bytes(*self.record(i).first_chunk().expect("eight of twelve bytes"))
    }

    fn value(&self, i: u32) -> f32 {
        f32::from_le_bytes(*self.record(i).last_chunk().expect("four of twelve bytes"))
    }
}

/// Some buckets, each ranked.
fn ranked(values: &Sorted, buckets: Range<usize>) -> Result<Vec<Ranked>> {
    let rank = |bucket| {
        let mut ranked = Ranked { bytes: Vec::new(), order: Vec::new() };
        values.bucket(bucket, &mut ranked.bytes)?;
        let count = ranked.bytes.len() as u32 / 12;
        let of: Vec<f32> = (0..count).into_par_iter().map(|i| ranked.value(i)).collect();
        ranked.order = order(&of);
        Ok(ranked)
    };
    buckets.into_par_iter().map(rank).collect::<Vec<_>>().into_iter().collect()
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
    fn new(rows: &Rows, modality_rows: &[u64]) -> Result<Self> {
        let large: Vec<bool> = modality_rows.iter().map(|&n| n > RANKED_AT_ONCE).collect();
        let mut histograms: Vec<Vec<u64>> =
            large.iter().map(|&l| if l { vec![0; 1 << UPPER_BITS] } else { Vec::new() }).collect();
        if large.contains(&true) {
            rows.each_chunk(|_, rows| {
                for row in rows.iter().filter(|row| row.planned() && large[row.modality as usize]) {
                    histograms[row.modality as usize]
                        [(row.ranked.to_bits() >> (32 - UPPER_BITS)) as usize] += 1;
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

    /// Neighbouring buckets that are ranked together.
    fn together(&self) -> impl Iterator<Item = Range<usize>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let (first, mut rows) = (next, 0);
            while next < self.counts.len() && (next == first || rows + self.counts[next] <= RANKED_TOGETHER) {
                rows += self.counts[next];
                next += 1;
            }
            (first < next).then_some(first..next)
        })
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
        self.rows.each_chunk(|first, rows| {
            rows.par_iter().map(|row| row.modality).collect_into_vec(&mut chunk.modality);
            rows.par_iter().map(|row| row.stratum).collect_into_vec(&mut chunk.stratum);
            rows.par_iter().map(|row| row.distance).collect_into_vec(&mut chunk.distance);
            chunk.centrality.clear();
            chunk.centrality.resize(rows.len(), 0.0);
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
