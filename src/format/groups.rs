//! `groups.arrow`: planned rows that share a key of `--no-duplicates` with others.

use std::sync::Arc;

use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, UInt32Array};

use crate::kit::error::Result;
use crate::kit::ids::RowType;

use super::columns::{Column, Contract, Shape, Type};
use super::table::row_array;
use super::{Kind, Metadata, Table, TableReader};

pub const CONTRACT: Contract = Contract {
    name: "groups",
    path: "groups.arrow",
    one_row_per: "planned row and key that it shares with other planned rows, by row, group and column",
    absent: "rows may meet duplicates in their batch",
    columns: &[
        Column::new("row", Type::Row, "global row number", "row", "0 .. rows"),
        Column::new("group", Type::Row, "the lowest planned row that has the key", "row", "0 .. rows"),
        Column::new(
            "column",
            Type::U32,
            "with several columns: the first of `batches.no_duplicates` in which that row has the key, so that two keys of it are two groups",
            "",
            "0 .. columns",
        )
        .optional(),
    ],
    metadata: &[],
};

/// A planned row and a key of it. Keys are equal if group and column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    pub row: u64,
    pub group: u64,
    pub column: u32,
}

/// `members` in order. The column is written if there are several.
pub fn encode(members: &[Member], columns: usize, row_type: RowType) -> Table {
    let mut written: Vec<ArrayRef> = vec![
        row_array(members.iter().map(|m| m.row), row_type),
        row_array(members.iter().map(|m| m.group), row_type),
    ];
    let with: &[&str] = if columns > 1 { &["column"] } else { &[] };
    if columns > 1 {
        written.push(Arc::new(UInt32Array::from_iter_values(members.iter().map(|m| m.column))));
    }
    let shape = Shape { row: row_type, ..Shape::default() };
    Table::new(Kind::Groups, &shape, with, Metadata::new(), written, members.len())
}

/// Errors if members are not in order, or if a group is not that of its lowest row.
pub fn decode(table: &TableReader) -> Result<Vec<Member>> {
    let columns = if table.has("column") { Some(table.numbers::<UInt32Type>("column")?) } else { None };
    let rows = table.row_numbers("row")?.into_iter().zip(table.row_numbers("group")?);
    let members: Vec<Member> = rows
        .enumerate()
        .map(|(i, (row, group))| Member { row, group, column: columns.as_ref().map_or(0, |c| c[i]) })
        .collect();
    if !members.is_sorted_by(|a, b| a < b) {
        return Err(table.damaged("its rows are not in order"));
    }
    let first = |m: &Member| members.binary_search(&Member { row: m.group, ..*m }).is_ok();
    if !members.iter().all(|m| m.group <= m.row && first(m)) {
        return Err(table.damaged("a group is not named by its lowest row"));
    }
    Ok(members)
}
