//! What a row group's bytes mean: the same bytes under another type are other rows, so that fingerprints alone do not tell.

use parquet::basic::{LogicalType, TimeUnit};
use parquet::schema::types::ColumnDescriptor;

use super::Kind;
use super::dataset::Dataset;
use crate::kit::error::Result;

impl Dataset {
    /// BLAKE3 of what the footer says of every leaf of these columns in a row group: name, physical and logical type, length,
    /// levels, codec, number of values and lengths of the chunk, each with its own length before it. Of a key of hive
    /// partitions, how it is read. O(leaves), from memory.
    pub fn types(&self, row_group: usize, columns: &[String]) -> Result<[u8; 32]> {
        let place = &self.row_groups()[row_group];
        let file = self.opened(place.file);
        let group = file.metadata.metadata().row_group(place.row_group);
        let mut hash = blake3::Hasher::new();
        let mut put = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        put(&place.rows.to_string());
        for name in columns {
            put(name);
            put(&kind(&self.column(name, "columns")?.kind));
            let leaves = file.root(name).into_iter().flat_map(|root| file.leaves(root));
            for chunk in leaves.map(|leaf| group.column(leaf)) {
                let leaf = chunk.column_descr();
                put(&leaf.path().string());
                put(&format!("{:?} {}", leaf.physical_type(), logical(leaf)));
                put(&format!("{} {} {}", leaf.type_length(), leaf.max_def_level(), leaf.max_rep_level()));
                put(&chunk.compression().to_string());
                let lengths = (chunk.num_values(), chunk.compressed_size(), chunk.uncompressed_size());
                put(&format!("{} {} {}", lengths.0, lengths.1, lengths.2));
            }
        }
        Ok(hash.finalize().into())
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Vector { dims } => format!("vector {dims}"),
        Kind::Integer => "integer".into(),
        Kind::Float => "float".into(),
        Kind::Boolean => "boolean".into(),
        Kind::Text => "text".into(),
        Kind::Labels => "labels".into(),
        Kind::Other => "other".into(),
    }
}

/// In words of our own: how a library prints its types may change.
fn logical(leaf: &ColumnDescriptor) -> String {
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::MILLIS => "ms",
        TimeUnit::MICROS => "us",
        TimeUnit::NANOS => "ns",
    };
    match leaf.logical_type_ref() {
        Some(LogicalType::Decimal(x)) => format!("decimal {} {}", x.precision, x.scale),
        Some(LogicalType::Integer(x)) => format!("integer {} {}", x.bit_width, x.is_signed),
        Some(LogicalType::Timestamp(x)) => format!("timestamp {} {}", unit(&x.unit), x.is_adjusted_to_u_t_c),
        Some(LogicalType::Time(x)) => format!("time {} {}", unit(&x.unit), x.is_adjusted_to_u_t_c),
        Some(LogicalType::String) => "string".into(),
        Some(LogicalType::Date) => "date".into(),
        Some(LogicalType::Enum) => "enum".into(),
        Some(LogicalType::Json) => "json".into(),
        Some(LogicalType::Bson) => "bson".into(),
        Some(LogicalType::Uuid) => "uuid".into(),
        Some(LogicalType::Float16) => "float16".into(),
        Some(other) => format!("{other:?}"),
        None => format!("{:?} {} {}", leaf.converted_type(), leaf.type_precision(), leaf.type_scale()),
    }
}
