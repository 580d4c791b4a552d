//! A hash of what each row group holds, the same for the same rows in any order.
//!
//! The hash of a row is 128 bits of XXH3 over its canonical bytes; the hash of a row group is the sum of its rows' hashes
//! modulo 2^128 (a multiset hash, Bellare & Micciancio 1997: enough against accidents, no defence against an adversary).
//! Sums commute, so parts merge in any order and a re-sorted row group keeps its hash.
//!
//! Canonical bytes of a row: its state (0 planned, 1 filtered, 2 invalid); the bits of its point's `f32` numbers, little-endian,
//! -0 as 0 (rows out of the plan have zeros there); then each table column in the order given, as a type tag followed by a
//! value of fixed width or by its length and bytes, so that neighbouring values cannot run together. O(bytes read).
//!
//! A second sum is over hashes of (row hash, row number): equal only for the same rows at the same numbers. With both, a file
//! that was rewritten, rows that were put into another order, and rows that changed are told apart.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::features::{State, column};
use crate::kit::error::Result;
use crate::kit::rng::Stream;
use crate::modalities::Assigned;
use crate::parts::Pass;
use crate::source::{numbers, text_value};

/// The pass. Looks at all rows, those out of the plan too.
pub struct Content {
    columns: Vec<String>,
    first_rows: Vec<u64>,
    numbers: Vec<u64>,
}

/// Hashes of a range of rows; they add up over ranges. 0 for no rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hashes {
    /// Equal for the same rows in any order.
    pub content: u128,
    /// Equal for the same rows at the same global numbers.
    pub sequence: u128,
}

impl Hashes {
    pub fn add(&mut self, other: Hashes) {
        self.content = self.content.wrapping_add(other.content);
        self.sequence = self.sequence.wrapping_add(other.sequence);
    }
}

impl Content {
    /// `columns` of the table that count, beside the points; `first_rows`: first row of every range that gets hashes
    /// (row groups), ascending, the first one 0.
    pub fn new(columns: Vec<String>, first_rows: Vec<u64>) -> Self {
        Content { columns, numbers: first_rows.clone(), first_rows }
    }

    /// For a dataset that is a part of another ([`Dataset::only`](crate::source::Dataset::only)): `numbers` are the row
    /// numbers there of the ranges' first rows.
    pub fn numbered(mut self, numbers: Vec<u64>) -> Self {
        assert_eq!(numbers.len(), self.first_rows.len(), "one number a range");
        self.numbers = numbers;
        self
    }
}

impl Pass for Content {
    type Item = Assigned;
    /// Sums of the row groups that occur.
    type Partial = BTreeMap<usize, Hashes>;
    /// In the order of the ranges.
    type Output = Vec<Hashes>;

    fn partial(&self, item: &Assigned) -> Result<Self::Partial> {
        let table = item.points.table.as_ref();
        let cells: Vec<&ArrayRef> =
            self.columns.iter().map(|name| column(table, name)).collect::<Result<_>>()?;
        let seed = Stream::Content.key(0, &[]);
        let mut sums = BTreeMap::new();
        let mut bytes = Vec::new();
        let mut group = match item.points.rows.first() {
            Some(first) => self.first_rows.partition_point(|f| f <= first).saturating_sub(1),
            None => return Ok(sums),
        };
        for (i, &row) in item.points.rows.iter().enumerate() {
            while self.first_rows.get(group + 1).is_some_and(|&next| next <= row) {
                group += 1;
            }
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
            for cells in &cells {
                push_cell(&mut bytes, cells, i);
            }
            let content = xxh3_128_with_seed(&bytes, seed);
            let number = row - self.first_rows[group] + self.numbers[group];
            let mut placed = [0; 24];
            placed[..16].copy_from_slice(&content.to_le_bytes());
            placed[16..].copy_from_slice(&number.to_le_bytes());
            let sequence = xxh3_128_with_seed(&placed, seed);
            sums.entry(group).or_insert(Hashes::default()).add(Hashes { content, sequence });
        }
        Ok(sums)
    }

    fn merge(&self, mut left: Self::Partial, right: Self::Partial) -> Self::Partial {
        for (group, hashes) in right {
            left.entry(group).or_default().add(hashes);
        }
        left
    }

    fn finish(&self, all: Option<Self::Partial>) -> Result<Vec<Hashes>> {
        let all = all.unwrap_or_default();
        Ok((0..self.first_rows.len()).map(|g| all.get(&g).copied().unwrap_or_default()).collect())
    }
}

fn push_cell(bytes: &mut Vec<u8>, cells: &dyn Array, i: usize) {
    let text = |bytes: &mut Vec<u8>, tag: u8, text: &str| {
        bytes.push(tag);
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    if cells.is_null(i) {
        return bytes.push(0);
    }
    match cells.data_type() {
        DataType::Int64 => {
            bytes.push(1);
            bytes.extend(cells.as_primitive::<Int64Type>().value(i).to_le_bytes());
        }
        DataType::Float64 => {
            let x = cells.as_primitive::<Float64Type>().value(i);
            let x = if x.is_nan() { f64::NAN } else { x + 0.0 };
            bytes.push(2);
            bytes.extend(x.to_bits().to_le_bytes());
        }
        DataType::UInt64 => match i64::try_from(cells.as_primitive::<UInt64Type>().value(i)) {
            Ok(x) => {
                bytes.push(1);
                bytes.extend(x.to_le_bytes());
            }
            Err(_) => text(bytes, 5, &text_value(cells, i).unwrap_or_default()),
        },
        // Few digits are a float, as they always were; more of them make two values of what would be one.
        DataType::Decimal128(..) | DataType::Decimal256(..) => {
            let digits = text_value(cells, i).unwrap_or_default();
            match digits.bytes().filter(u8::is_ascii_digit).count() {
                0..=15 => {
                    let x = numbers(&cells.slice(i, 1)).map_or(0.0, |x| x.value(0));
                    bytes.push(2);
                    bytes.extend((x + 0.0).to_bits().to_le_bytes());
                }
                _ => text(bytes, 5, &digits),
            }
        }
        DataType::Utf8 => text(bytes, 3, cells.as_string::<i32>().value(i)),
        DataType::Boolean => bytes.extend([4, cells.as_boolean().value(i) as u8]),
        _ => text(bytes, 5, &text_value(cells, i).unwrap_or_default()),
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
        let data = data();
        let pass = Content::new(columns(), vec![0, 90, 170]);
        let all = data.run(&pass, 64, 2);
        assert_eq!(all, data.run(&pass, 17, 1));
        assert!(all[0] != all[1] && all[1] != all[2] && all[2] != Hashes::default());
        // Row groups reversed: 200 - 170, 170 - 90 and 90 rows, backwards.
        let order: Vec<usize> = (0..200).rev().collect();
        let turned = reorder(&data, &order).run(&Content::new(columns(), vec![0, 30, 110]), 64, 2);
        let content = |of: &[Hashes]| of.iter().map(|h| h.content).collect::<Vec<_>>();
        assert_eq!(content(&turned), content(&[all[2], all[1], all[0]]));
        let one = Content::new(columns(), vec![0]);
        let mut sum = Hashes::default();
        all.iter().for_each(|h| sum.add(*h));
        assert_eq!(data.run(&one, 64, 1)[0], sum);
        // The sequence tells the order; and the last range alone, numbered as it was, has its hashes.
        let mut whole = Hashes::default();
        turned.iter().for_each(|h| whole.add(*h));
        assert!(whole.content == sum.content && whole.sequence != sum.sequence);
        let tail = reorder(&data, &(170..200).collect::<Vec<_>>());
        let part = Content::new(columns(), vec![0]).numbered(vec![170]);
        assert_eq!(tail.run(&part, 64, 1)[0], all[2]);
        // One bit of one point; one row's state; one more column.
        let mut other = self::data();
        other.points.row_mut(100)[1] += 1.0;
        let changed = other.run(&pass, 64, 1);
        assert_eq!((changed[0], changed[2]), (all[0], all[2]));
        assert_ne!(changed[1], all[1]);
        let mut other = self::data();
        other.modality[4] = NONE;
        assert_ne!(other.run(&pass, 64, 1)[0], all[0]);
        assert_ne!(data.run(&Content::new(columns()[..3].to_vec(), vec![0, 90, 170]), 64, 1)[0], all[0]);
    }

    #[test]
    fn zeros_are_equal_and_texts_do_not_run_together() {
        let hash = |points: Vec<f32>, a: &str, b: &str| {
            let mut data = Data::random(1, 2);
            data.points = crate::kit::matrix::Matrix::from_vec(1, 2, points);
            let column = |x: &str| Arc::new(StringArray::from(vec![x])) as ArrayRef;
            data.table = Some(RecordBatch::try_from_iter([("a", column(a)), ("b", column(b))]).unwrap());
            data.run(&Content::new(vec!["a".into(), "b".into()], vec![0]), 1, 1)[0]
        };
        assert_eq!(hash(vec![0.0, 1.0], "x", "y"), hash(vec![-0.0, 1.0], "x", "y"));
        assert_ne!(hash(vec![0.0, 1.0], "xy", ""), hash(vec![0.0, 1.0], "x", "y"));
    }
}
