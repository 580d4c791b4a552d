//! How much memory reading a column takes, by its page headers: what a forecast is made of.

use std::collections::BTreeSet;
use std::ops::Range;

use parquet::basic::{Compression, Type as Physical};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;
use xxhash_rust::xxh3::xxh3_64;

use super::blob::Reader;
use super::codec::Codec;
use super::dataset::Dataset;
use super::header::{Form, Header, encoding};
use super::opened::guarded;
use crate::kit::error::Result;

/// Page headers of one column that are looked at; of a column that has more, the largest page so far stands for the rest.
const HEADERS: usize = 4096;
/// Bytes read for a page header: statistics can make one longer, then the whole chunk stands for its pages.
const HEAD: u64 = 2 << 10;
/// Distinct entries of dictionaries that are told apart.
const ENTRIES: usize = 200_000;
/// The largest dictionary that is looked into.
const LARGEST: usize = 16 << 20;

/// Of one column, over all row groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of the largest page, as it is stored and without compression.
    pub page: u64,
    /// Bytes of the largest dictionary, without compression.
    pub dictionary: u64,
    /// The average entry of the dictionaries; 0 where there is none.
    pub entry: u64,
    /// At most so many values; None: a page without dictionary has others, or nobody looked.
    pub distinct: Option<u64>,
    /// Bytes of all chunks of one row group, as stored: over a network they are kept while it is worked on.
    pub chunks: u64,
}

/// What is known of a column while its chunks are looked at.
#[derive(Default)]
struct Seen {
    extent: Extent,
    headers: usize,
    /// Hashes of the dictionaries' entries, bytes and number of all.
    entries: BTreeSet<u64>,
    bytes: u64,
    count: u64,
    /// Some values are in no dictionary.
    beside: bool,
}

impl Dataset {
    /// Reads page headers and dictionaries, none over a network: there the chunks stand for their pages.
    pub fn extent(&self, column: &str) -> Result<Extent> {
        let mut seen = Seen::default();
        let mut keys = BTreeSet::new();
        for group in self.row_groups() {
            let file = self.opened(group.file);
            let Some(root) = file.root(column) else {
                keys.insert(file.partition(column).flatten());
                continue;
            };
            let reader = file.blob.open()?;
            let metadata = file.metadata.metadata().row_group(group.row_group);
            let mut chunks = 0;
            for leaf in file.leaves(root) {
                let chunk = metadata.column(leaf);
                chunks += chunk.compressed_size().max(0) as u64;
                if reader.is_remote() || seen.headers >= HEADERS {
                    seen.unknown(chunk, reader.is_remote());
                } else if !guarded(|| seen.walk(&reader, chunk)).flatten().unwrap_or(false) {
                    // What is wrong is told by whoever reads it.
                    seen.unknown(chunk, true);
                }
            }
            seen.extent.chunks = seen.extent.chunks.max(chunks);
        }
        let mut extent = seen.extent;
        extent.entry = seen.bytes / seen.count.max(1);
        extent.distinct = (!seen.beside).then(|| (seen.entries.len() + keys.len()) as u64);
        Ok(extent)
    }
}

impl Seen {
    fn unknown(&mut self, chunk: &ColumnChunkMetaData, whole: bool) {
        self.beside = true;
        if whole {
            let bytes = chunk.compressed_size().max(0) + chunk.uncompressed_size().max(0);
            self.extent.page = self.extent.page.max(bytes as u64);
        }
    }

    /// False if a header cannot be read.
    fn walk(&mut self, reader: &Reader, chunk: &ColumnChunkMetaData) -> ParquetResult<bool> {
        let (mut start, length) = chunk.byte_range();
        let end = start.saturating_add(length);
        // Such numbers go from the file to their place, no page of them is in memory.
        let plain = chunk.compression() == Compression::UNCOMPRESSED
            && matches!(chunk.column_type(), Physical::FLOAT)
            && chunk.column_descr().max_rep_level() <= 1;
        while start < end && self.headers < HEADERS {
            self.headers += 1;
            let bytes = reader.get_bytes(start, HEAD.min(end - start) as usize)?;
            let Some(header) = Header::parse(&bytes) else { return Ok(false) };
            let next = start.saturating_add((header.length + header.stored) as u64);
            if next > end {
                return Ok(false);
            }
            let dictionary = matches!(header.encoding, encoding::RLE_DICTIONARY | encoding::PLAIN_DICTIONARY);
            match header.form {
                Form::Dictionary => self.dictionary(reader, chunk, start..next, &header)?,
                _ if plain && header.encoding == encoding::PLAIN => self.beside = true,
                _ => {
                    self.beside |= !dictionary;
                    self.extent.page = self.extent.page.max((header.stored + header.full) as u64);
                }
            }
            start = next;
        }
        self.beside |= start < end;
        Ok(true)
    }

    fn dictionary(
        &mut self,
        reader: &Reader,
        chunk: &ColumnChunkMetaData,
        place: Range<u64>,
        header: &Header,
    ) -> ParquetResult<()> {
        self.extent.dictionary = self.extent.dictionary.max((header.stored + header.full) as u64);
        self.bytes += header.full as u64;
        self.count += header.values as u64;
        // A header may ask for any amount of memory.
        if self.beside || self.entries.len() > ENTRIES || header.full > LARGEST {
            self.beside = true;
            return Ok(());
        }
        let stored = reader.get_bytes(place.start + header.length as u64, header.stored)?;
        if chunk.compression() == Compression::UNCOMPRESSED {
            self.entries(&stored, chunk);
            return Ok(());
        }
        let mut full = vec![0; header.full];
        match Codec::default().unpack(chunk.compression(), &stored, &mut full) {
            Some(()) => self.entries(&full, chunk),
            None => self.beside = true,
        }
        Ok(())
    }

    fn entries(&mut self, dictionary: &[u8], chunk: &ColumnChunkMetaData) {
        let width = match chunk.column_type() {
            Physical::BYTE_ARRAY => 0,
            Physical::INT32 | Physical::FLOAT => 4,
            Physical::INT64 | Physical::DOUBLE => 8,
            Physical::INT96 => 12,
            _ => chunk.column_descr().type_length().max(1) as usize,
        };
        let mut rest = dictionary;
        while !rest.is_empty() {
            let (skip, length) = match rest.first_chunk::<4>() {
                Some(length) if width == 0 => (4, u32::from_le_bytes(*length) as usize),
                _ => (0, width.max(1)),
            };
            let Some(entry) = rest.get(skip..skip + length) else { break };
            self.entries.insert(xxh3_64(entry));
            rest = &rest[skip + length..];
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;

    use super::*;

    #[test]
    fn headers_tell_pages_and_dictionaries_tell_values() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.parquet");
        let rows = 3000;
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("word", Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("word {}", i % 7))))),
            ("number", Arc::new(Int64Array::from_iter_values((0..rows).map(|i| i % 5)))),
            ("plain", Arc::new(Int64Array::from_iter_values(0..rows))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(1000))
            .set_column_dictionary_enabled("plain".into(), false)
            .build();
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let dataset = Dataset::open(&[path.display().to_string()]).unwrap();
        let of = |name: &str| dataset.extent(name).unwrap();
        assert_eq!((of("word").distinct, of("word").entry), (Some(7), 10)); // six letters and their length
        assert_eq!((of("number").distinct, of("number").entry), (Some(5), 8));
        let plain = of("plain");
        assert_eq!((plain.distinct, plain.dictionary), (None, 0));
        assert!(plain.page >= 16_000 && plain.chunks >= 8000, "{plain:?}");
    }
}
