//! Fingerprints: whether a row group still holds the bytes a plan was made from.

use std::ops::Range;

use parquet::file::reader::ChunkReader;
use rayon::prelude::*;

use super::RawRows;
use super::blob::Reader;
use super::columns::{Columns, Stretches};
use super::dataset::Dataset;
use super::opened::Opened;
use super::walk::Walk;
use crate::kit::error::Result;
use crate::parts::Local;

/// Bytes hashed at a time.
const BLOCK: u64 = 4 << 20;
/// Column chunks of a remote row group up to this size are fetched once and kept while the row group is worked on.
const KEEP: u64 = 256 << 20;

impl Dataset {
    /// BLAKE3 (hex) of the encoded column chunks of a row group, dictionaries included, in the order of `columns` and as
    /// they lie in the file; keys of hive partitions add their value. With it the number of bytes of the chunks.
    /// Err if a chunk is not made of the pages that it should be, or a page's checksum does not hold.
    /// Reading is streamed: O(bytes) time, O(1) memory.
    pub fn fingerprint(&self, row_group: usize, columns: &[String]) -> Result<(String, u64)> {
        let file = self.opened(self.row_groups()[row_group].file);
        self.fingerprint_with(row_group, columns, &file.blob.open()?)
    }

    fn fingerprint_with(
        &self,
        row_group: usize,
        columns: &[String],
        reader: &Reader,
    ) -> Result<(String, u64)> {
        let place = &self.row_groups()[row_group];
        let file = self.opened(place.file);
        let mut hash = blake3::Hasher::new();
        let mut bytes = 0;
        for name in columns {
            self.column(name, "columns")?;
            if let Some(root) = file.root(name) {
                for leaf in file.leaves(root) {
                    bytes += chunk(&mut hash, file, reader, place.row_group, leaf)?;
                }
            } else if let Some(value) = file.partition(name) {
                // A file without rows may lack both.
                hash.update(&[u8::from(value.is_some())]);
                hash.update(value.unwrap_or("").as_bytes());
            }
        }
        Ok((hash.finalize().to_hex().to_string(), bytes))
    }
}

/// The byte ranges of a root column's chunks.
fn chunks(file: &Opened, row_group: usize, root: usize) -> impl Iterator<Item = Range<u64>> + '_ {
    let group = file.metadata.metadata().row_group(row_group);
    file.leaves(root).map(move |leaf| {
        let (start, length) = group.column(leaf).byte_range();
        start..start + length
    })
}

/// Hashes a chunk, and checks its pages in passing (see [`walk`](super::walk)); its bytes.
fn chunk(
    hash: &mut blake3::Hasher,
    file: &Opened,
    reader: &Reader,
    row_group: usize,
    leaf: usize,
) -> Result<u64> {
    let group = file.metadata.metadata().row_group(row_group);
    let column = group.column(leaf);
    let (start, length) = column.byte_range();
    let index = file.index(reader, row_group, leaf)?;
    let mut walk = Walk::new(start, column.column_descr().max_rep_level() == 0, index.as_deref());
    let damage = |reason: String| file.place(row_group, leaf).damaged(reason);
    let mut at = start;
    while at < start + length {
        let block = BLOCK.min(start + length - at);
        let bytes = reader.get_bytes(at, block as usize).map_err(|e| file.blob.error(e))?;
        hash.update(&bytes);
        walk.bytes(&bytes).map_err(damage)?;
        at += block;
    }
    walk.end(column.num_values() as u64, group.num_rows() as u64).map_err(damage)?;
    Ok(length)
}

/// Gathers `rows` (ascending) and takes the fingerprints of the row groups (ascending) that hold them, in one pass, row groups
/// in parallel: what is read for one is still at hand for the other. Progress: in rows.
///
/// Returns the rows, and of each of these row groups its fingerprint and the bytes it covers.
pub fn sample_pass(
    stage: &'static str,
    columns: &Columns,
    fingerprint_columns: &[String],
    row_groups: &[usize],
    rows: &[u64],
    engine: &Local,
) -> Result<(RawRows, Vec<(String, u64)>)> {
    let dataset = columns.dataset();
    let count = row_groups.iter().map(|&group| dataset.row_groups()[group].rows).sum();
    let stage = engine.progress().stage(stage, "rows", count);
    let bytes = dataset.bytes(fingerprint_columns) as f64 / dataset.rows().max(1) as f64;
    let stage = stage.reading((bytes * count as f64) as u64);
    let stretches = Stretches::default();
    let one = |&group: &usize| {
        let place = &dataset.row_groups()[group];
        engine.progress().check()?;
        let reader = reader(dataset, group, fingerprint_columns)?;
        let print = dataset.fingerprint_with(group, fingerprint_columns, &reader)?;
        let from = rows.partition_point(|&row| row < place.first_row);
        let to = rows.partition_point(|&row| row < place.first_row + place.rows);
        let gathered = columns.gather_group(group, &rows[from..to], &reader, &stretches)?;
        stage.advance(place.rows)?;
        Ok((gathered, print))
    };
    let done: Vec<Result<_>> = engine.install(|| row_groups.par_iter().map(one).collect());
    let mut prints = Vec::with_capacity(done.len());
    let mut parts = Vec::with_capacity(done.len());
    for result in done {
        let (gathered, print) = result?;
        prints.push(print);
        parts.push(Ok(gathered));
    }
    Ok((columns.join(parts)?, prints))
}

/// A reader of the row group's file. Over a network it brings the chunks along, so that they are fetched once.
fn reader(dataset: &Dataset, group: usize, columns: &[String]) -> Result<Reader> {
    let place = &dataset.row_groups()[group];
    let file = dataset.opened(place.file);
    let mut reader = file.blob.open()?;
    if reader.is_remote() {
        let roots = columns.iter().filter_map(|name| file.root(name));
        let wanted: Vec<Range<u64>> = roots.flat_map(|root| chunks(file, place.row_group, root)).collect();
        if wanted.iter().map(|c| c.end - c.start).sum::<u64>() <= KEEP {
            for chunk in wanted {
                let length = (chunk.end - chunk.start) as usize;
                let bytes = reader.get_bytes(chunk.start, length).map_err(|e| file.blob.error(e))?;
                reader = reader.holding(chunk.start, bytes);
            }
        }
    }
    Ok(reader)
}
