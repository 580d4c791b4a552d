//! `sources.arrow`: the row groups that the plan was made from. It maps a row number to its place in a Parquet file and
//! tells whether a dataset is still the same.

use std::sync::Arc;

use arrow_array::types::{Int32Type, UInt64Type};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, Int32Array, StringArray, UInt64Array};

use crate::kit::error::Result;

use super::columns::{Column, Contract, Shape, Type};
use super::{Kind, Table, TableReader};

pub const CONTRACT: Contract = Contract {
    name: "sources",
    path: "sources.arrow",
    one_row_per: "row group, in row order",
    absent: "",
    columns: &[
        Column::new(
            "file",
            Type::Text,
            "path relative to the deepest common directory of the inputs, with `/`",
            "",
            "",
        ),
        Column::new("row_group", Type::I32, "number of the row group in its file", "", ">= 0"),
        Column::new("first_row", Type::U64, "global number of its first row", "row", "0 .. rows"),
        Column::new("rows", Type::U64, "rows in it", "rows", ">= 0"),
        Column::new("bytes", Type::U64, "bytes of the column chunks that the plan reads", "bytes", ">= 0"),
        Column::new(
            "fingerprint",
            Type::Text,
            "BLAKE3 of the bytes of the column chunks that the plan reads",
            "",
            "64 hex digits",
        ),
        Column::new(
            "content",
            Type::Bytes(16),
            "sum mod 2^128 of keyed 128-bit hashes of the rows' canonical values, little endian: a checksum, equal for the same rows in any order",
            "",
            "",
        ),
        Column::new(
            "sequence",
            Type::Bytes(16),
            "of format 1.0: sum mod 2^128 of hashes of (row hash, global row number), little endian: equal for the same rows at the same numbers",
            "",
            "",
        )
        .optional(),
        Column::new(
            "ordered",
            Type::Bytes(32),
            "BLAKE3 of the BLAKE3 hashes of leaves of 64 rows, counted from the row group's first: canonical values one after the other. Only this proves the same rows in the same order",
            "",
            "",
        )
        .optional(),
        Column::new(
            "types",
            Type::Bytes(32),
            "BLAKE3 of what the footer says of every leaf that the plan reads: names, types, levels, codec, values and lengths",
            "",
            "",
        )
        .optional(),
    ],
    metadata: &[(
        "key",
        "16 hex digits: the key of `content`, from the fingerprints of the first plan; `update` hands it on. Absent where `content` is as in format 1.0",
    )],
};

/// One row group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    pub file: String,
    pub row_group: i32,
    pub first_row: u64,
    pub rows: u64,
    pub bytes: u64,
    pub fingerprint: String,
    pub content: u128,
    /// None if the writer did not know it, or knew `ordered`.
    pub sequence: Option<u128>,
    pub ordered: Option<[u8; 32]>,
    pub types: Option<[u8; 32]>,
}

/// The key of `content` for row groups with these fingerprints.
pub fn key<'a>(fingerprints: impl Iterator<Item = &'a str>) -> u64 {
    let mut hash = blake3::Hasher::new();
    fingerprints.for_each(|f| {
        hash.update(f.as_bytes());
    });
    u64::from_le_bytes(*hash.finalize().as_bytes().first_chunk().expect("32 bytes"))
}

/// A column of bytes, if every row group has them.
fn optional<const N: usize>(
    name: &str,
    all: impl Iterator<Item = Option<[u8; N]>>,
) -> Option<(&str, ArrayRef)> {
    let all: Vec<[u8; N]> = all.collect::<Option<_>>()?;
    let bytes = all.into_iter().flatten().collect::<Vec<u8>>();
    Some((name, Arc::new(FixedSizeBinaryArray::new(N as i32, bytes.into(), None)) as ArrayRef))
}

/// `sequence`, `ordered` and `types` are written if every row group has one. `key`: None where `content` is as in format
/// 1.0.
pub fn encode(rows: &[Source], key: Option<u64>) -> Table {
    let content: Vec<u8> = rows.iter().flat_map(|r| r.content.to_le_bytes()).collect();
    let more = [
        optional("sequence", rows.iter().map(|r| r.sequence.map(u128::to_le_bytes))),
        optional("ordered", rows.iter().map(|r| r.ordered)),
        optional("types", rows.iter().map(|r| r.types)),
    ];
    let (with, more): (Vec<&str>, Vec<ArrayRef>) = more.into_iter().flatten().unzip();
    let metadata = key.map(|key| ("key".to_string(), format!("{key:016x}"))).into_iter().collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.file))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.row_group))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.first_row))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.rows))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.bytes))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.fingerprint))),
        Arc::new(FixedSizeBinaryArray::new(16, content.into(), None)),
    ];
    let columns = columns.into_iter().chain(more).collect();
    Table::new(Kind::Sources, &Shape::default(), &with, metadata, columns, rows.len())
}

/// The key of `content`; None: as in format 1.0.
pub fn stored_key(table: &TableReader) -> Result<Option<u64>> {
    let Some(text) = table.metadata("key") else { return Ok(None) };
    let key = u64::from_str_radix(text, 16).ok().filter(|key| format!("{key:016x}") == text);
    key.map(Some).ok_or_else(|| table.damaged(format!("{text:?} is no key")))
}

/// Errors if the row groups do not follow each other without gaps.
pub fn decode(table: &TableReader) -> Result<Vec<Source>> {
    let file = table.texts("file")?;
    let row_group = table.numbers::<Int32Type>("row_group")?;
    let first_row = table.numbers::<UInt64Type>("first_row")?;
    let rows = table.numbers::<UInt64Type>("rows")?;
    let bytes = table.numbers::<UInt64Type>("bytes")?;
    let fingerprint = table.texts("fingerprint")?;
    let content = table.bytes::<16>("content")?;
    let sequence = if table.has("sequence") { table.bytes::<16>("sequence")? } else { Vec::new() };
    let hashes = |name| if table.has(name) { table.bytes::<32>(name) } else { Ok(Vec::new()) };
    let (ordered, types) = (hashes("ordered")?, hashes("types")?);
    let mut next = 0u64;
    let mut out = Vec::with_capacity(file.len());
    for (i, (file, fingerprint)) in file.into_iter().zip(fingerprint).enumerate() {
        if first_row[i] != next || row_group[i] < 0 {
            return Err(table.damaged(format!("row group {i} begins at row {}, not {next}", first_row[i])));
        }
        next = next.checked_add(rows[i]).ok_or_else(|| table.damaged("too many rows"))?;
        out.push(Source {
            file,
            row_group: row_group[i],
            first_row: first_row[i],
            rows: rows[i],
            bytes: bytes[i],
            fingerprint,
            content: u128::from_le_bytes(content[i]),
            sequence: sequence.get(i).map(|s| u128::from_le_bytes(*s)),
            ordered: ordered.get(i).copied(),
            types: types.get(i).copied(),
        });
    }
    Ok(out)
}
