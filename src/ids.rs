//! Row numbers. Global: files in path order, then row groups, then rows. Stored as `UInt32` while the dataset has fewer
//! than 2^32 rows, else as `UInt64`.

use serde::{Deserialize, Serialize};

/// "No modality, stratum or prototype": a row that `--where` leaves out or `--invalid drop` drops.
pub const NONE: u32 = u32::MAX;

/// How row numbers are stored in this plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowType {
    #[serde(rename = "UInt32")]
    U32,
    #[serde(rename = "UInt64")]
    U64,
}

impl RowType {
    pub fn of(rows: u64) -> Self {
        if rows < 1 << 32 { RowType::U32 } else { RowType::U64 }
    }

    /// Bytes of one row number.
    pub fn width(self) -> usize {
        match self {
            RowType::U32 => 4,
            RowType::U64 => 8,
        }
    }
}

/// A borrowed list of row numbers in either width, for example the members column of `strata.arrow`.
#[derive(Clone, Copy, Debug)]
pub enum RowIds<'a> {
    U32(&'a [u32]),
    U64(&'a [u64]),
}

impl<'a> RowIds<'a> {
    pub fn len(&self) -> usize {
        match self {
            RowIds::U32(x) => x.len(),
            RowIds::U64(x) => x.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn get(&self, i: usize) -> u64 {
        match self {
            RowIds::U32(x) => x[i] as u64,
            RowIds::U64(x) => x[i],
        }
    }

    pub fn slice(&self, range: std::ops::Range<usize>) -> RowIds<'a> {
        match self {
            RowIds::U32(x) => RowIds::U32(&x[range]),
            RowIds::U64(x) => RowIds::U64(&x[range]),
        }
    }
}
