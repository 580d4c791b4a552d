//! Hashes of what each row group holds: one that proves the same rows in the same order, one that is the same in any order.
//!
//! **Ordered**: BLAKE3 of the rows' canonical bytes, in leaves of 64 rows that are counted from the row group's first row, and
//! BLAKE3 of the leaves' hashes. Parts of the dataset cut row groups anywhere; what begins or ends inside a leaf is kept until
//! its neighbour comes ([`Leaves`]).
//!
//! **In any order**: a row's hash is 128 bits of XXH3 over its canonical bytes; the hash of a row group is the sum of its rows'
//! hashes modulo 2^128, a checksum with a key of the plan (a multiset hash, Bellare & Micciancio 1997: enough against
//! accidents, no defence against somebody who has the plan). Sums commute, so a re-sorted row group keeps its hash.
//!
//! Canonical bytes of a row: its state (0 planned, 1 filtered, 2 invalid); the bits of its point's `f32` numbers, little-endian,
//! -0 as 0 (rows out of the plan have zeros there); then each table column in the order given, as a type tag followed by a
//! value of fixed width or by its length and bytes, so that neighbouring values cannot run together. O(bytes read).
//!
//! Plans of format 1.0 have no key, and instead of the ordered hash a second sum, over hashes of (row hash, row number).

use std::collections::BTreeMap;

use arrow_array::ArrayRef;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::features::{State, column, push_cell};
use crate::kit::error::Result;
use crate::kit::rng::Stream;
use crate::modalities::Assigned;
use crate::parts::Pass;

/// Rows of a leaf of the ordered hash.
const LEAF: u64 = 64;

/// The pass. Looks at all rows, those out of the plan too.
#[derive(Serialize, Deserialize)]
pub struct Content {
    columns: Vec<String>,
    first_rows: Vec<u64>,
    numbers: Vec<u64>,
    offsets: Vec<u64>,
    key: Option<u64>,
}

/// Hashes of a range of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    /// Equal for the same rows in any order; 0 for no rows. Adds up over ranges.
    pub content: u128,
    /// Equal for the same rows at the same global numbers; adds up, too. Only of plans of format 1.0.
    pub sequence: u128,
    leaves: Leaves,
}

impl Hashes {
    /// With the range that follows.
    pub fn join(&mut self, next: Hashes) {
        self.content = self.content.wrapping_add(next.content);
        self.sequence = self.sequence.wrapping_add(next.sequence);
        self.leaves.join(next.leaves);
    }

    /// Equal only for the same rows in the same order. None if the range is not from a row group's first row on.
    pub fn ordered(&self) -> Option<[u8; 32]> {
        self.leaves.root()
    }
}

/// Rows one after the other, in leaves that are counted from the row group's first row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Leaves {
    /// Offset of the first row in its row group.
    at: u64,
    rows: u64,
    /// Rows before the first leaf that begins here: the end of a leaf that began before.
    head: Vec<u8>,
    /// Hashes of whole leaves.
    whole: Vec<[u8; 32]>,
    /// Rows of the leaf that is not full yet.
    tail: Vec<u8>,
    /// Of a row group that is complete; then there is nothing else.
    root: Option<[u8; 32]>,
}

impl Leaves {
    fn new(at: u64) -> Self {
        Leaves { at, ..Leaves::default() }
    }

    /// Whether all rows so far belong to a leaf that began before them.
    fn headed(&self) -> bool {
        !self.at.is_multiple_of(LEAF) && self.at + self.rows < self.at.next_multiple_of(LEAF)
    }

    fn push(&mut self, row: &[u8]) {
        if self.headed() {
            self.head.extend_from_slice(row);
            self.rows += 1;
            return;
        }
        self.tail.extend_from_slice(row);
        self.rows += 1;
        self.close_leaf();
    }

    fn close_leaf(&mut self) {
        if (self.at + self.rows).is_multiple_of(LEAF) && !self.tail.is_empty() {
            self.whole.push(blake3::hash(&self.tail).into());
            self.tail.clear();
        }
    }

    fn join(&mut self, next: Leaves) {
        if next.rows == 0 {
            return;
        }
        if self.rows == 0 {
            *self = next;
            return;
        }
        assert!(self.root.is_none() && next.root.is_none(), "no rows follow a row group that is complete");
        assert_eq!(self.at + self.rows, next.at, "ranges that follow each other");
        let to_boundary = next.at.next_multiple_of(LEAF) - next.at;
        let into = if self.headed() { &mut self.head } else { &mut self.tail };
        into.extend_from_slice(&next.head);
        self.rows += to_boundary.min(next.rows);
        self.close_leaf();
        self.rows += next.rows - to_boundary.min(next.rows);
        self.whole.extend(next.whole);
        if next.rows > to_boundary {
            self.tail = next.tail;
        }
    }

    fn root(&self) -> Option<[u8; 32]> {
        if self.root.is_some() || self.at > 0 {
            return self.root;
        }
        let mut hash = blake3::Hasher::new();
        hash.update(self.whole.as_flattened());
        if !self.tail.is_empty() {
            hash.update(blake3::hash(&self.tail).as_bytes());
        }
        Some(hash.finalize().into())
    }

    fn complete(&mut self) {
        *self = Leaves { root: self.root(), rows: self.rows, ..Leaves::default() };
    }
}

impl Content {
    /// `columns` of the table that count, beside the points; `first_rows`: first row of every range that gets hashes
    /// (row groups), ascending, the first one 0. `key` of the sums; None: as in format 1.0.
    pub fn new(columns: Vec<String>, first_rows: Vec<u64>, key: Option<u64>) -> Self {
        let offsets = vec![0; first_rows.len()];
        Content { columns, numbers: first_rows.clone(), first_rows, offsets, key }
    }

    /// For a dataset that is a part of another ([`Dataset::only`](crate::source::Dataset::only)): `numbers` are the row
    /// numbers there of the ranges' first rows.
    pub fn numbered(mut self, numbers: Vec<u64>) -> Self {
        assert_eq!(numbers.len(), self.first_rows.len(), "one number a range");
        self.numbers = numbers;
        self
    }

    /// For ranges that are pieces of row groups: the place of each one's first row in its row group.
    pub fn inside(mut self, offsets: Vec<u64>) -> Self {
        assert_eq!(offsets.len(), self.first_rows.len(), "one offset a range");
        self.offsets = offsets;
        self
    }

    /// A range with neighbours on both sides gets no more rows. Where it is a whole row group, its leaves need not be kept.
    fn complete(&self, range: usize, hashes: &mut Hashes) {
        let alone = self.offsets[range] == 0 && self.offsets.get(range + 1).is_none_or(|&next| next == 0);
        if self.key.is_some() && alone {
            hashes.leaves.complete();
        }
    }
}

impl Pass for Content {
    type Item = Assigned;
    /// Hashes of the ranges that occur.
    type Partial = BTreeMap<usize, Hashes>;
    /// In the order of the ranges.
    type Output = Vec<Hashes>;

    fn partial(&self, item: &Assigned) -> Result<Self::Partial> {
        let table = item.points.table.as_ref();
        let cells: Vec<&ArrayRef> =
            self.columns.iter().map(|name| column(table, name)).collect::<Result<_>>()?;
        let seed = self.key.unwrap_or_else(|| Stream::Content.key(0, &[]));
        let mut found = BTreeMap::new();
        let mut bytes = Vec::new();
        let mut first = 0;
        while let Some(&row) = item.points.rows.get(first) {
            let group = self.first_rows.partition_point(|&f| f <= row).saturating_sub(1);
            let end = self.first_rows.get(group + 1).copied().unwrap_or(u64::MAX);
            let begin = row - self.first_rows[group];
            let mut hashes = Hashes { leaves: Leaves::new(self.offsets[group] + begin), ..Hashes::default() };
            let rows = item.points.rows[first..].partition_point(|&r| r < end);
            for i in first..first + rows {
                row_bytes(item, &cells, i, &mut bytes);
                let content = xxh3_128_with_seed(&bytes, seed);
                hashes.content = hashes.content.wrapping_add(content);
                if self.key.is_some() {
                    hashes.leaves.push(&bytes);
                    continue;
                }
                let number = item.points.rows[i] - self.first_rows[group] + self.numbers[group];
                let mut placed = [0; 24];
                placed[..16].copy_from_slice(&content.to_le_bytes());
                placed[16..].copy_from_slice(&number.to_le_bytes());
                hashes.sequence = hashes.sequence.wrapping_add(xxh3_128_with_seed(&placed, seed));
            }
            found.insert(group, hashes);
            first += rows;
        }
        let inside = found.len().saturating_sub(2);
        found.iter_mut().skip(1).take(inside).for_each(|(&group, hashes)| self.complete(group, hashes));
        Ok(found)
    }

    fn merge(&self, mut left: Self::Partial, right: Self::Partial) -> Self::Partial {
        let (first, last) = (left.keys().next().copied(), right.keys().next_back().copied());
        let inner = [left.keys().next_back().copied(), right.keys().next().copied()];
        for (group, hashes) in right {
            left.entry(group).or_default().join(hashes);
        }
        for group in inner.into_iter().filter(|&g| g != first && g != last).flatten() {
            self.complete(group, left.get_mut(&group).expect("merged above"));
        }
        left
    }

    fn finish(&self, all: Option<Self::Partial>) -> Result<Vec<Hashes>> {
        let mut all = all.unwrap_or_default();
        all.iter_mut().for_each(|(&group, hashes)| self.complete(group, hashes));
        Ok((0..self.first_rows.len()).map(|g| all.remove(&g).unwrap_or_default()).collect())
    }
}

/// The canonical bytes of row `i`.
fn row_bytes(item: &Assigned, cells: &[&ArrayRef], i: usize, bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.push(match item.points.state[i] {
        State::Planned => 0,
        State::Filtered => 1,
        State::Invalid => 2,
    });
    let point = item.points.points.row(i);
    bytes.resize(1 + 4 * point.len(), 0);
    for (four, x) in bytes[1..].chunks_exact_mut(4).zip(point) {
        // -0 + 0 = 0.
        four.copy_from_slice(&(x + 0.0).to_le_bytes());
    }
    for cells in cells {
        push_cell(bytes, cells, i);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array};

    use super::*;
    use crate::kit::ids::NONE;
    use crate::statistics::fixtures::Data;

    fn data() -> Data {
        let mut data = Data::random(200, 3);
        let text = |i: i64| if i % 7 == 0 { None } else { Some("ab".repeat(i as usize % 3)) };
        data.table = Some(
            RecordBatch::try_from_iter([
                ("t", Arc::new((0..200).map(text).collect::<StringArray>()) as ArrayRef),
                ("i", Arc::new(Int64Array::from_iter_values(0..200))),
                ("f", Arc::new(Float64Array::from_iter_values((0..200).map(f64::from)))),
                ("b", Arc::new((0..200).map(|i| Some(i % 3 == 0)).collect::<BooleanArray>())),
            ])
            .unwrap(),
        );
        data
    }

    fn columns() -> Vec<String> {
        ["t", "i", "f", "b"].map(String::from).to_vec()
    }

    /// The same rows in another order.
    fn reorder(data: &Data, order: &[usize]) -> Data {
        let index = UInt32Array::from_iter_values(order.iter().map(|&i| i as u32));
        Data {
            points: data.points.gather(order.iter().copied()),
            modality: order.iter().map(|&i| data.modality[i]).collect(),
            stratum: order.iter().map(|&i| data.stratum[i]).collect(),
            table: data.table.as_ref().map(|t| arrow_select::take::take_record_batch(t, &index).unwrap()),
        }
    }

    #[test]
    fn order_does_not_matter_but_every_value_does() {
        for key in [None, Some(7)] {
            let data = data();
            let pass = Content::new(columns(), vec![0, 90, 170], key);
            let all = data.run(&pass, 64, 2);
            assert_eq!(all, data.run(&pass, 17, 1));
            assert!(all[0] != all[1] && all[1] != all[2] && all[2] != Hashes::default());
            // Row groups reversed: 200 - 170, 170 - 90 and 90 rows, backwards.
            let order: Vec<usize> = (0..200).rev().collect();
            let turned = reorder(&data, &order).run(&Content::new(columns(), vec![0, 30, 110], key), 64, 2);
            let content = |of: &[Hashes]| of.iter().map(|h| h.content).collect::<Vec<_>>();
            let back: Vec<Hashes> = all.iter().rev().cloned().collect();
            assert_eq!(content(&turned), content(&back));
            assert!(turned.iter().zip(&back).all(|(a, b)| a != b), "the order is told");
            let one = &data.run(&Content::new(columns(), vec![0], key), 64, 1)[0];
            assert_eq!(one.content, all.iter().fold(0u128, |sum, h| sum.wrapping_add(h.content)));
            // The last range alone, numbered as it was, has its hashes.
            let tail = reorder(&data, &(170..200).collect::<Vec<_>>());
            let part = Content::new(columns(), vec![0], key).numbered(vec![170]);
            assert_eq!(tail.run(&part, 64, 1)[0], all[2]);
            // One bit of one point; one row's state; one more column.
            let mut other = self::data();
            other.points.row_mut(100)[1] += 1.0;
            let changed = other.run(&pass, 64, 1);
            assert_eq!((&changed[0], &changed[2]), (&all[0], &all[2]));
            assert_ne!(changed[1], all[1]);
            let mut other = self::data();
            other.modality[4] = NONE;
            assert_ne!(other.run(&pass, 64, 1)[0], all[0]);
            let fewer = Content::new(columns()[..3].to_vec(), vec![0, 90, 170], key);
            assert_ne!(data.run(&fewer, 64, 1)[0], all[0]);
        }
    }

    #[test]
    fn the_ordered_hash_is_that_of_leaves_of_64_rows_wherever_the_data_is_cut() {
        let data = data();
        let rows = |range: std::ops::Range<usize>| {
            let table = data.table.as_ref().unwrap();
            let mut all = Vec::new();
            for i in range {
                let mut bytes = vec![if data.modality[i] == NONE { 2 } else { 0 }];
                data.points.row(i).iter().for_each(|x| bytes.extend(x.to_le_bytes()));
                columns().iter().for_each(|c| push_cell(&mut bytes, table.column_by_name(c).unwrap(), i));
                all.push(bytes);
            }
            all
        };
        let want = |range: std::ops::Range<usize>| -> [u8; 32] {
            let leaves: Vec<u8> =
                rows(range).chunks(64).flat_map(|leaf| *blake3::hash(&leaf.concat()).as_bytes()).collect();
            blake3::hash(&leaves).into()
        };
        for ranges in [vec![0], vec![0, 90], vec![0, 64, 128], vec![0, 1, 2, 67, 199]] {
            let ends = ranges.iter().skip(1).copied().chain([200]);
            let want: Vec<_> =
                ranges.iter().zip(ends).map(|(&a, b)| Some(want(a as usize..b as usize))).collect();
            for part in [1, 3, 16, 64, 200] {
                let pass = Content::new(columns(), ranges.clone(), Some(1));
                let found: Vec<_> = data.run(&pass, part, 2).iter().map(Hashes::ordered).collect();
                assert_eq!(found, want, "{ranges:?} {part}");
            }
        }
        // Pieces of one row group.
        for cuts in [vec![0, 10, 20, 150], vec![0, 64, 65], vec![0, 100]] {
            let pass = Content::new(columns(), cuts.clone(), Some(1)).inside(cuts);
            let pieces = data.run(&pass, 16, 2);
            let joined = pieces.into_iter().reduce(|mut a, b| {
                a.join(b);
                a
            });
            assert_eq!(joined.unwrap().ordered(), Some(want(0..200)));
        }
    }

    #[test]
    fn zeros_are_equal_and_texts_do_not_run_together() {
        let hash = |points: Vec<f32>, a: &str, b: &str| {
            let mut data = Data::random(1, 2);
            data.points = crate::kit::matrix::Matrix::from_vec(1, 2, points);
            let column = |x: &str| Arc::new(StringArray::from(vec![x])) as ArrayRef;
            data.table = Some(RecordBatch::try_from_iter([("a", column(a)), ("b", column(b))]).unwrap());
            data.run(&Content::new(vec!["a".into(), "b".into()], vec![0], Some(1)), 1, 1).remove(0)
        };
        assert_eq!(hash(vec![0.0, 1.0], "x", "y"), hash(vec![-0.0, 1.0], "x", "y"));
        assert_ne!(hash(vec![0.0, 1.0], "xy", ""), hash(vec![0.0, 1.0], "x", "y"));
    }
}
