//! `units.arrow`: what the local order reads at a time, and the rows of every stratum there.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, ListArray, UInt32Array};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};

use serde::{Deserialize, Serialize};

use crate::kit::error::Result;
use crate::kit::ids::RowType;

use super::columns::{Column, Contract, Shape, Type, item};
use super::samples::missing;
use super::table::row_array;
use super::{Kind, Metadata, Table, TableReader};

pub const CONTRACT: Contract = Contract {
    name: "units",
    path: "units.arrow",
    one_row_per: "unit of the local order: those with planned rows so that neighbours have a similar mix, then the others",
    absent: "batches are dealt in the global order",
    columns: &[
        Column::new("first_row", Type::Row, "global row number of its first row", "row", "0 .. rows"),
        Column::new("rows", Type::U32, "rows in it, that follow each other", "rows", "> 0"),
        Column::new("planned", Type::U32, "planned rows in it", "rows", "0 .. rows"),
        Column::new(
            "strata",
            Type::U32List,
            "the strata it has planned rows of, ascending",
            "",
            "0 .. strata",
        ),
        Column::new("counts", Type::U32List, "how many rows of each of them", "rows", "> 0"),
    ],
    metadata: &[
        ("streams", "S: every batch takes as many rows from each of S streams"),
        ("window", "W: units of a stream in a round"),
        ("unit_rows", "rows of a unit, about"),
        ("row_bytes", "bytes of a row of the columns that are read, decoded"),
        (
            "evenness",
            "JSON of how even the batches of epoch 0 are: `drift` (mean squared distance of a batch's round from the data by score \
             groups, 0: as the global order, 1: as random batches), `worst` (rows by which a stratum misses its share of a batch), \
             `worst_slice` (the same of the parts of ranks and micro steps), `reads` (units read over units), `rounds`, and of the \
             largest round `round_batches` and `round_rows` (of all units it opens)",
        ),
        ("footers", "JSON list of the BLAKE3 of every file's Parquet footer, in row order"),
    ],
};

/// What the plan fixes of its local order beside the units.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Locality {
    pub streams: u64,
    pub window: u64,
    pub unit_rows: u64,
    pub row_bytes: u64,
    pub evenness: Evenness,
    /// Of every file in row order, 64 hex digits each.
    pub footers: Vec<String>,
}

/// How even an epoch's batches are, and what reading it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evenness {
    /// Mean over all batches of the squared distance of their round's share of score groups from the data's, in units of a
    /// random batch's: 0 as in the global order, 1 as of random batches.
    pub drift: f64,
    /// Rows by which a stratum of a batch misses its share of the data, the rest batch included.
    pub worst: f64,
    /// The same of equal contiguous slices of full batches, those of ranks and micro steps; 0 where there are none.
    pub worst_slice: f64,
    /// Units opened over units.
    pub reads: f64,
    pub rounds: u64,
    /// Full batches of a round, at most.
    pub round_batches: u64,
    /// Rows of all units that a round opens, at most.
    pub round_rows: u64,
}

/// The units, those with planned rows first.
#[derive(Clone, Debug)]
pub struct Units {
    pub first_row: Vec<u64>,
    pub rows: Vec<u32>,
    pub planned: Vec<u32>,
    /// Where the strata of each unit begin, and the end (units + 1).
    pub offsets: Vec<u64>,
    /// Strata of which a unit has rows, ascending, and how many; mapped where they are read from a file.
    pub strata: ScalarBuffer<u32>,
    pub counts: ScalarBuffer<u32>,
    /// Number of each unit in the order of rows.
    pub number: Vec<u32>,
}

impl Units {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Units with planned rows: the first ones.
    pub fn with_rows(&self) -> usize {
        self.planned.partition_point(|&n| n > 0)
    }

    /// Strata that a unit has rows of, and how many.
    pub fn cells(&self, unit: usize) -> impl Iterator<Item = (u32, u32)> + '_ {
        let range = self.offsets[unit] as usize..self.offsets[unit + 1] as usize;
        self.strata[range.clone()].iter().copied().zip(self.counts[range].iter().copied())
    }
}

pub fn encode(units: &Units, local: &Locality, row_type: RowType) -> Table {
    let list = |values: &ScalarBuffer<u32>| -> ArrayRef {
        let lengths = units.offsets.windows(2).map(|w| (w[1] - w[0]) as usize);
        let values = Arc::new(UInt32Array::new(values.clone(), None));
        Arc::new(ListArray::new(
            item(Type::U32.arrow(&Shape::default())),
            OffsetBuffer::from_lengths(lengths),
            values,
            None,
        ))
    };
    let metadata = Metadata::from([
        ("streams".to_string(), local.streams.to_string()),
        ("window".to_string(), local.window.to_string()),
        ("unit_rows".to_string(), local.unit_rows.to_string()),
        ("row_bytes".to_string(), local.row_bytes.to_string()),
        ("evenness".to_string(), serde_json::to_string(&local.evenness).expect("numbers are always JSON")),
        ("footers".to_string(), serde_json::to_string(&local.footers).expect("texts are always JSON")),
    ]);
    let columns: Vec<ArrayRef> = vec![
        row_array(units.first_row.iter().copied(), row_type),
        Arc::new(UInt32Array::from(units.rows.clone())),
        Arc::new(UInt32Array::from(units.planned.clone())),
        list(&units.strata),
        list(&units.counts),
    ];
    let shape = Shape { row: row_type, ..Shape::default() };
    Table::new(Kind::Units, &shape, &[], metadata, columns, units.len())
}

/// O(units). Errors if the units do not make up rows 0 .. n, or if counts and strata do not fit each other.
pub fn decode(table: &TableReader) -> Result<(Units, Locality)> {
    let (mut offsets, mut strata, mut counts) = (vec![0u64], Vec::new(), Vec::new());
    for i in 0..table.batches() {
        let batch = table.batch(i)?;
        let list = |name: &str| -> Result<ListArray> {
            Ok(batch.column_by_name(name).ok_or_else(|| missing(table, name))?.as_list::<i32>().clone())
        };
        let (of, numbers) = (list("strata")?, list("counts")?);
        if of.value_offsets() != numbers.value_offsets() {
            return Err(table.damaged("`strata` and `counts` have lists of other lengths"));
        }
        let before = offsets[offsets.len() - 1];
        let [first, ends @ ..] = of.value_offsets() else { continue };
        let end = ends.last().unwrap_or(first);
        offsets.extend(ends.iter().map(|end| before + (end - first) as u64));
        let all = |list: &ListArray| list.values().as_primitive::<UInt32Type>().values().clone();
        let plain = |list: &ListArray| all(list).slice(*first as usize, (end - first) as usize);
        strata.push(plain(&of));
        counts.push(plain(&numbers));
    }
    let units = Units {
        first_row: table.row_numbers("first_row")?,
        rows: table.numbers::<UInt32Type>("rows")?,
        planned: table.numbers::<UInt32Type>("planned")?,
        offsets,
        strata: joined(strata),
        counts: joined(counts),
        number: Vec::new(),
    };
    let number = units.checked().map_err(|reason| table.damaged(reason))?;
    Ok((Units { number, ..units }, local(table)?))
}

fn local(table: &TableReader) -> Result<Locality> {
    let text = |key: &str| table.metadata(key).ok_or_else(|| table.damaged(format!("it has no `{key}`")));
    let number = |key: &str, least: u64| {
        let n = text(key)?.parse().ok().filter(|&n: &u64| n >= least);
        n.ok_or_else(|| table.damaged(format!("`{key}` is not a number from {least}")))
    };
    let unread = |key: &str, e| table.damaged(format!("`{key}` cannot be read ({e})"));
    Ok(Locality {
        streams: number("streams", 1)?,
        window: number("window", 1)?,
        unit_rows: number("unit_rows", 1)?,
        row_bytes: number("row_bytes", 0)?,
        evenness: serde_json::from_str(text("evenness")?).map_err(|e| unread("evenness", e))?,
        footers: serde_json::from_str(text("footers")?).map_err(|e| unread("footers", e))?,
    })
}

/// One buffer: that of the map, where there is one record batch.
fn joined(mut buffers: Vec<ScalarBuffer<u32>>) -> ScalarBuffer<u32> {
    match buffers.len() {
        1 => buffers.remove(0),
        _ => buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect(),
    }
}

impl Units {
    /// The number of each unit in the order of rows.
    fn checked(&self) -> std::result::Result<Vec<u32>, &'static str> {
        let mut by_row: Vec<u32> = (0..self.len() as u32).collect();
        by_row.sort_unstable_by_key(|&unit| self.first_row[unit as usize]);
        let mut number = vec![0; self.len()];
        let mut next = Some(0);
        for (n, &unit) in (0..).zip(&by_row) {
            let unit = unit as usize;
            if next != Some(self.first_row[unit]) || self.rows[unit] == 0 {
                return Err("its units do not follow each other");
            }
            next = self.first_row[unit].checked_add(self.rows[unit].into());
            number[unit] = n;
        }
        if self.planned[self.with_rows()..].iter().any(|&n| n > 0) {
            return Err("units without planned rows are not the last ones");
        }
        for unit in 0..self.len() {
            let sum: u64 = self.cells(unit).map(|(_, n)| u64::from(n)).sum();
            let ascending = self.cells(unit).map(|(h, _)| h).is_sorted_by(|a, b| a < b);
            if sum != u64::from(self.planned[unit]) || self.planned[unit] > self.rows[unit] || !ascending {
                return Err("the counts of a unit do not add up to its planned rows");
            }
            if self.cells(unit).any(|(_, n)| n == 0) {
                return Err("a unit counts a stratum that it has no rows of");
            }
        }
        Ok(number)
    }
}
