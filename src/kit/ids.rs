//! Row numbers. Global: files in path order, then row groups, then rows. Stored as `UInt32` while the dataset has fewer
//! than 2^32 rows, else as `UInt64`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// "No modality, stratum or prototype": a row that `--where` leaves out or `--invalid drop` drops.
pub const NONE: u32 = u32::MAX;

/// How row numbers are stored in this plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
