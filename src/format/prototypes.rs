//! `prototypes.arrow`: small k-means cells. A row belongs to the modality and stratum of its nearest one, ties to the lower
//! number.

use std::sync::Arc;

use arrow_array::types::{UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, UInt32Array, UInt64Array};

use crate::kit::error::Result;
use crate::kit::matrix::Matrix;

use super::columns::{Column, Contract, Shape, Type, Width};
use super::table::fixed_f32;
use super::{Kind, Metadata, Table, TableReader};

pub const CONTRACT: Contract = Contract {
    name: "prototypes",
    path: "prototypes.arrow",
    one_row_per: "prototype: a small k-means cell of one modality",
    absent: "modalities are the values of a column (estimator `column`)",
    columns: &[
        Column::new("prototype", Type::U32, "its number: the place in this table", "", "0 .. prototypes"),
        Column::new("modality", Type::U32, "modality of its rows", "", "0 .. M"),
        Column::new(
            "stratum",
            Type::U32,
            "stratum of its rows; null where a column stratifies",
            "",
            "0 .. strata",
        )
        .nullable(),
        Column::new("rows", Type::U64, "planned rows nearest to it", "rows", "> 0"),
        Column::new(
            "center",
            Type::F32s(Width::Projected),
            "its centre in the projected space",
            "",
            "finite",
        ),
        Column::new(
            "unseen_rows",
            Type::U64,
            "planned rows nearest to it if each row of the fit sample is assigned as if the prototypes had been fitted without it: \
             the shares that new rows are compared with (since 1.1)",
            "rows",
            ">= 0",
        )
        .optional(),
    ],
    metadata: &[
        (
            "reach",
            "JSON list of [level, distance]: the shares `level` of the planned rows are no farther than `distance` from their nearest \
         prototype, in feature space: sqrt(|z - center|^2 + max(0, d^2 - |z - m|^2)), d the row's distance to its modality's center \
         and m that center projected; rows of the fit sample as if their prototype had been fitted without them: min(|z - center| n / (n - 1), \
         |z - next center|), n its sampled rows. A row beyond the last but one is unlike anything in the plan",
        ),
        (
            "reach_rows",
            "rows that `reach` tells of (since 1.1; without it, rows alone in their prototype were passed over)",
        ),
    ],
};

/// All prototypes, column by column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prototypes {
    pub modality: Vec<u32>,
    /// Empty where a column stratifies.
    pub stratum: Vec<u32>,
    pub rows: Vec<u64>,
    /// Rows if each of the fit sample is assigned as if the prototypes had not seen it; empty before 1.1.
    pub unseen_rows: Vec<u64>,
    /// One row per prototype.
    pub centers: Matrix,
    /// (level, distance): see the contract; empty if the writer did not know it.
    pub reach: Vec<(f64, f64)>,
    /// Rows that `reach` tells of; None before 1.1, where rows alone in their prototype were passed over.
    pub reach_rows: Option<u64>,
}

pub fn encode(all: &Prototypes) -> Table {
    let n = all.modality.len();
    let stratum = (0..n).map(|i| all.stratum.get(i).copied());
    let reach = serde_json::to_string(&all.reach).expect("numbers are JSON");
    let mut metadata = Metadata::from([("reach".into(), reach)]);
    metadata.extend(all.reach_rows.map(|rows| ("reach_rows".into(), rows.to_string())));
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(0..n as u32)),
        Arc::new(UInt32Array::from(all.modality.clone())),
        Arc::new(UInt32Array::from_iter(stratum)),
        Arc::new(UInt64Array::from(all.rows.clone())),
        fixed_f32(all.centers.as_slice().to_vec(), all.centers.cols(), n),
    ];
    if !all.unseen_rows.is_empty() {
        columns.push(Arc::new(UInt64Array::from(all.unseen_rows.clone())));
    }
    Table::new(
        Kind::Prototypes,
        &Shape { projected: all.centers.cols(), ..Shape::default() },
        if all.unseen_rows.is_empty() { &[] } else { &["unseen_rows"] },
        metadata,
        columns,
        n,
    )
}

/// Errors if some prototypes have a stratum and others none.
pub fn decode(table: &TableReader) -> Result<Prototypes> {
    let number = table.numbers::<UInt32Type>("prototype")?;
    if number.iter().enumerate().any(|(i, &p)| i != p as usize) {
        return Err(table.damaged("prototypes are not numbered 0, 1, 2, ..."));
    }
    let stratum: Vec<u32> = table.optional_numbers::<UInt32Type>("stratum")?.into_iter().flatten().collect();
    if !stratum.is_empty() && stratum.len() != number.len() {
        return Err(table.damaged("some prototypes have no stratum"));
    }
    let reach = table.metadata("reach").map_or(Ok(Vec::new()), serde_json::from_str);
    let reach = reach.map_err(|e| table.damaged(format!("`reach` is no list of pairs: {e}")))?;
    let reach_rows = table.metadata("reach_rows").map(str::parse).transpose();
    let reach_rows = reach_rows.map_err(|e| table.damaged(format!("`reach_rows` is no number: {e}")))?;
    Ok(Prototypes {
        reach,
        reach_rows,
        modality: table.numbers::<UInt32Type>("modality")?,
        stratum,
        rows: table.numbers::<UInt64Type>("rows")?,
        unseen_rows: match table.has("unseen_rows") {
            true => table.numbers::<UInt64Type>("unseen_rows")?,
            false => Vec::new(),
        },
        centers: table.matrix("center")?,
    })
}
