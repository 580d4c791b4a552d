//! Pages for the parquet crate, which decodes none that has not been looked at here.
//!
//! A page header is a few bytes that ask for memory and promise values. Before the crate gets a page, the room that it asks
//! for is within the limit, its levels cover the values that it promises, and its values are as many as its levels say.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type as Physical};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;

use super::blob::Reader;
use super::codec::Codec;
use super::delta;
use super::header::{Form, Header, encoding};
use super::hybrid::{Run, Runs, Tally, packed, tally};
use super::index::Location;
use crate::kit::error::Error;

/// Bytes read for a page header, to begin with; over a network, where a request costs milliseconds.
const HEAD: u64 = 1 << 10;
const REMOTE_HEAD: u64 = 64 << 10;

/// A column chunk, for messages.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub file: String,
    pub column: String,
    pub row_group: usize,
}

impl Place {
    pub fn damaged(&self, reason: String) -> Error {
        let reason = format!("is damaged: row group {}, {reason}", self.row_group);
        Error::input(&self.file, reason, "write or download it again").column(&self.column)
    }

    /// `limit` is the `share`-th part of the memory that the run has.
    pub fn too_large(&self, what: &str, bytes: u64, limit: u64, share: u64) -> Error {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let reason = format!(
            "row group {}, {what} takes {} MiB of memory, where {} are allowed",
            self.row_group,
            mib(bytes),
            mib(limit)
        );
        let help = format!(
            "write the file with smaller pages and row groups, or use --memory {}MiB",
            mib(bytes.saturating_mul(share))
        );
        Error::input(&self.file, reason, help).column(&self.column)
    }
}

/// A page may take this part of the memory that a run has.
pub(super) const SHARE: u64 = 8;
/// Its texts may take this one, once decoded: a dictionary repeats long texts, and the forecast of a run has counted them.
const TEXTS_SHARE: u64 = 2;

/// What is wrong with a page.
enum Wrong {
    Damaged(String),
    /// It takes so many bytes.
    TooLarge(u64),
    /// Its texts do, once decoded.
    TextsTooLarge(u64),
    Unread(ParquetError),
}

impl From<ParquetError> for Wrong {
    fn from(error: ParquetError) -> Self {
        Wrong::Unread(error)
    }
}

fn damaged<T>(reason: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Damaged(reason.into()))
}

/// Where an error waits that has to come through the crate, which keeps no more than its text.
pub(super) type Fault = Arc<Mutex<Option<Error>>>;

/// The pages of one chunk.
pub(super) struct Pages {
    place: Place,
    fault: Fault,
    reader: Reader,
    chunk: ColumnChunkMetaData,
    /// The bytes that the last header was found in, from where on: they often hold its page as well.
    head: (u64, Bytes),
    /// The most bytes that one page may take.
    limit: u64,
    codec: Codec,
    /// Bytes of the chunk that are still to come.
    rest: Range<u64>,
    /// Data pages still to come and the rows of each, where the file lists them.
    listed: Option<VecDeque<(Range<u64>, usize)>>,
    next: Option<Next>,
    /// Data pages that have been read or skipped.
    number: usize,
    /// Of the dictionary: the length of every entry where these differ, and how many there are.
    lengths: Vec<u32>,
    entries: usize,
}

/// A page that has been found and not yet read.
#[derive(Clone)]
struct Next {
    bytes: Range<u64>,
    metadata: PageMetadata,
}

impl Pages {
    pub fn new(
        place: Place,
        fault: Fault,
        reader: Reader,
        chunk: ColumnChunkMetaData,
        rows: usize,
        listed: Option<Vec<Location>>,
        limit: u64,
    ) -> Pages {
        let (start, length) = chunk.byte_range();
        let ends = |listed: &[Location]| -> Vec<usize> {
            listed[1..].iter().map(|next| next.first_row as usize).chain([rows]).collect()
        };
        let (rest, listed) = match listed {
            // What lies before the first data page is a dictionary.
            Some(all) if !all.is_empty() => {
                let ends = ends(&all);
                let rest = start..all[0].bytes.start;
                let with_rows = all.into_iter().zip(ends);
                (rest, Some(with_rows.map(|(at, end)| (at.bytes, end - at.first_row as usize)).collect()))
            }
            _ => (start..start + length, None),
        };
        Pages {
            place,
            fault,
            reader,
            chunk,
            head: (0, Bytes::new()),
            limit,
            codec: Codec::default(),
            rest,
            listed,
            next: None,
            number: 0,
            lengths: Vec::new(),
            entries: 0,
        }
    }

    /// The error as the crate may see it.
    fn failed(&self, wrong: Wrong) -> ParquetError {
        let page = self.number;
        let error = match wrong {
            Wrong::Unread(error) => return error,
            Wrong::Damaged(reason) => self.place.damaged(format!("page {page}: {reason}")),
            Wrong::TooLarge(bytes) => self.place.too_large(&format!("page {page}"), bytes, self.limit, SHARE),
            Wrong::TextsTooLarge(bytes) => {
                self.place.too_large(&format!("page {page}"), bytes, self.texts_limit(), TEXTS_SHARE)
            }
        };
        let text = error.to_string();
        *self.fault.lock().expect("no panic while holding") = Some(error);
        ParquetError::General(text)
    }

    /// The next page, wherever it is known from.
    fn find(&mut self) -> Result<Option<Next>, Wrong> {
        while self.next.is_none() && !self.rest.is_empty() {
            let start = self.rest.start;
            let left = self.rest.end - start;
            let mut length = match (self.reader.is_remote(), &self.listed) {
                (false, _) => HEAD,
                (true, None) => REMOTE_HEAD,
                // All that is left is a dictionary, which is read whole.
                (true, Some(_)) => self.limit,
            }
            .min(left);
            let header = loop {
                self.head = (start, self.reader.get_bytes(start, length as usize)?);
                match Header::parse(&self.head.1) {
                    Some(header) => break header,
                    None if length == left => return damaged("its header is damaged"),
                    None => length = (4 * length).min(left),
                }
            };
            let end = start + (header.length + header.stored) as u64;
            if end > self.rest.end {
                return damaged("it is longer than its column");
            }
            self.rest.start = end;
            let (rows, levels, is_dict) = match header.form {
                Form::V1 { .. } => (None, Some(header.values), false),
                Form::V2 { rows, .. } => (Some(rows), Some(header.values), false),
                Form::Dictionary => (None, None, true),
                Form::Other => continue,
            };
            if self.listed.is_some() && !is_dict {
                return damaged("it lies before the first that the offset index lists");
            }
            self.fits(&header)?;
            let metadata = PageMetadata { num_rows: rows, num_levels: levels, is_dict };
            self.next = Some(Next { bytes: start..end, metadata });
        }
        if self.next.is_none()
            && let Some((bytes, rows)) = self.listed.as_mut().and_then(VecDeque::pop_front)
        {
            let metadata = PageMetadata { num_rows: Some(rows), num_levels: None, is_dict: false };
            self.next = Some(Next { bytes, metadata });
        }
        Ok(self.next.clone())
    }

    /// Whether there is room for the page, and for what it is decoded to with its levels.
    fn fits(&self, header: &Header) -> Result<(), Wrong> {
        let needs = (header.full as u64).max(header.values as u64 * (width(&self.chunk) as u64 + 4));
        if needs > self.limit { Err(Wrong::TooLarge(needs)) } else { Ok(()) }
    }

    /// Looks at all page headers: an error if there are not as many values as the footer says.
    pub fn check(mut self) -> Result<(), Error> {
        let mut found = 0u64;
        loop {
            match self.find() {
                Ok(Some(next)) => found += next.metadata.num_levels.unwrap_or(0) as u64,
                Ok(None) => break,
                Err(Wrong::Unread(error)) => return Err(self.place.damaged(error.to_string())),
                Err(wrong) => {
                    let cause = self.failed(wrong).to_string();
                    let error = self.fault.lock().expect("no panic while holding").take();
                    return Err(error.unwrap_or_else(|| self.place.damaged(cause)));
                }
            }
            self.next = None;
        }
        let values = self.chunk.num_values() as u64;
        if found != values {
            let reason = format!("its pages hold {found} values, and its footer says {values}");
            return Err(self.place.damaged(reason));
        }
        Ok(())
    }

    fn read(&mut self, at: Range<u64>, rows: Option<usize>) -> Result<Page, Wrong> {
        let length = (at.end - at.start) as usize;
        let bytes = match &self.head {
            (start, head) if *start == at.start && head.len() >= length => head.slice(..length),
            _ => self.reader.get_bytes(at.start, length)?,
        };
        let Some(header) = Header::parse(&bytes) else { return damaged("its header is damaged") };
        if header.length + header.stored != bytes.len() {
            return damaged("it is not where the offset index says");
        }
        // Columns that are only profiled do not pass by `walk`.
        if header.checksum.is_some_and(|sum| sum != crc32fast::hash(&bytes[header.length..])) {
            return damaged("its checksum does not fit its bytes, which have changed");
        }
        self.fits(&header)?;
        let body = self.body(&header, bytes.slice(header.length..))?;
        match header.form {
            Form::Dictionary => self.dictionary(&header, body),
            _ => self.data(&header, body, rows),
        }
    }

    /// The page without its compression.
    fn body(&mut self, header: &Header, stored: Bytes) -> Result<Bytes, Wrong> {
        let compression = self.chunk.compression();
        let as_it_is = matches!(header.form, Form::V2 { compressed: false, .. });
        if compression == Compression::UNCOMPRESSED || as_it_is {
            return Ok(stored);
        }
        let mut full = vec![0; header.full];
        let mut unpack = || {
            let (levels, from) = stored.split_at_checked(header.levels())?;
            let (levels_to, to) = full.split_at_mut_checked(header.levels())?;
            levels_to.copy_from_slice(levels);
            self.codec.unpack(compression, from, to)
        };
        match unpack() {
            Some(()) => Ok(full.into()),
            None => damaged("its compression cannot be undone"),
        }
    }

    fn dictionary(&mut self, header: &Header, body: Bytes) -> Result<Page, Wrong> {
        if !matches!(header.encoding, encoding::PLAIN | encoding::PLAIN_DICTIONARY) {
            return damaged("its dictionary has an encoding that dictionaries cannot have");
        }
        self.entries = header.values;
        if self.chunk.column_type() == Physical::BYTE_ARRAY {
            self.lengths.clear();
            let mut rest = &body[..];
            for _ in 0..header.values {
                let entry = rest.split_first_chunk::<4>().and_then(|(length, rest)| {
                    let length = u32::from_le_bytes(*length);
                    Some((length, rest.get(length as usize..)?))
                });
                let Some((length, after)) = entry else { return damaged("its dictionary is cut off") };
                self.lengths.push(length);
                rest = after;
            }
        } else if body.len() < header.values * width(&self.chunk) {
            return damaged("its dictionary is cut off");
        }
        Ok(Page::DictionaryPage {
            buf: body,
            num_values: header.values as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        })
    }

    fn data(&mut self, header: &Header, body: Bytes, rows: Option<usize>) -> Result<Page, Wrong> {
        let Some((encoding, name)) = named(header.encoding) else {
            return damaged(format!("encoding {} is not known", header.encoding));
        };
        let Some((found, values)) = self.levels(header, &body) else {
            return damaged("its levels do not cover the values that it promises");
        };
        let begun = if self.chunk.column_descr().max_rep_level() == 0 { header.values } else { found.zeros };
        if let Form::V2 { rows, .. } = header.form
            && rows != begun
        {
            return damaged(format!("it promises {rows} rows and has {begun}"));
        }
        if rows.is_some_and(|rows| rows != begun) {
            return damaged(format!("it has {begun} rows, which is not what the offset index says"));
        }
        if (self.number == 0 || rows.is_some()) && header.values > 0 && !found.begins {
            return damaged("it begins inside a row");
        }
        match self.values(header, found.full, &body[values..]) {
            Some(0) => {}
            Some(bytes) => return Err(Wrong::TextsTooLarge(bytes)),
            None => return damaged(format!("its values ({name}) are fewer than its levels say")),
        }
        let num_values = header.values as u32;
        Ok(match header.form {
            Form::V2 { definition, repetition, .. } => Page::DataPageV2 {
                buf: body,
                num_values,
                encoding,
                num_nulls: num_values - found.full as u32,
                num_rows: begun as u32,
                def_levels_byte_len: definition as u32,
                rep_levels_byte_len: repetition as u32,
                is_compressed: false,
                statistics: None,
            },
            _ => {
                let (definition, repetition) = match header.form {
                    Form::V1 { definition, repetition } => (definition, repetition),
                    _ => (encoding::RLE, encoding::RLE),
                };
                let of = |number| named(number).map_or(Encoding::RLE, |(encoding, _)| encoding);
                Page::DataPage {
                    buf: body,
                    num_values,
                    encoding,
                    def_level_encoding: of(definition),
                    rep_level_encoding: of(repetition),
                    statistics: None,
                }
            }
        })
    }

    /// Rows that begin in a page, the values that are there, and where these begin.
    fn levels(&self, header: &Header, body: &[u8]) -> Option<(Tally, usize)> {
        let descriptor = self.chunk.column_descr();
        let (repetitions, definitions) =
            (descriptor.max_rep_level() as u64, descriptor.max_def_level() as u64);
        let count = header.values;
        let (repetition, definition, values) = match header.form {
            Form::V2 { repetition, .. } => {
                let end = header.levels();
                let levels = body.get(..end)?;
                let (repeats, defines) = levels.split_at_checked(repetition)?;
                (Block::Hybrid(repeats), Block::Hybrid(defines), end)
            }
            Form::V1 { definition, repetition } => {
                let mut at = 0;
                let repeats = Block::take(body, &mut at, repetition, repetitions, count)?;
                let defines = Block::take(body, &mut at, definition, definitions, count)?;
                (repeats, defines, at)
            }
            _ => return None,
        };
        let full = |most: u64| Tally { zeros: count, full: if most == 0 { count } else { 0 }, begins: true };
        let repetition = if repetitions == 0 { full(0) } else { repetition.tally(repetitions, count)? };
        let definition = if definitions == 0 { full(0) } else { definition.tally(definitions, count)? };
        Some((Tally { full: definition.full, ..repetition }, values))
    }

    fn texts_limit(&self) -> u64 {
        self.limit.saturating_mul(SHARE / TEXTS_SHARE)
    }

    /// Looks at the values of a page, of which `count` are there: None if there are fewer; the bytes that they take once
    /// decoded if these are more than the limit of texts, else 0.
    fn values(&self, header: &Header, count: usize, values: &[u8]) -> Option<u64> {
        if count == 0 && values.is_empty() {
            return Some(0);
        }
        let physical = self.chunk.column_type();
        let bytes = match physical {
            Physical::BOOLEAN => count.div_ceil(8),
            Physical::BYTE_ARRAY => 4 * count,
            _ => count * width(&self.chunk),
        };
        match header.encoding {
            encoding::PLAIN | encoding::BYTE_STREAM_SPLIT => (values.len() >= bytes).then_some(0),
            encoding::RLE_DICTIONARY | encoding::PLAIN_DICTIONARY => {
                let (&width, block) = values.split_first()?;
                let longest = self.lengths.iter().max().copied().unwrap_or(0);
                let limit = self.texts_limit();
                let exact = u64::from(longest) * count as u64 > limit;
                let taken = (width <= 32).then(|| self.places(block, width.into(), count, exact))??;
                Some(if taken > limit { taken } else { 0 })
            }
            encoding::RLE if physical == Physical::BOOLEAN => {
                let length = u32::from_le_bytes(*values.first_chunk::<4>()?) as usize;
                let block = values.get(4..4 + length)?;
                tally(block, 1, count).map(|_| 0)
            }
            // As many as there are, or as there would be without nulls.
            encoding::DELTA_LENGTH_BYTE_ARRAY => delta::lengths(values, count, header.values).map(|_| 0),
            encoding::DELTA_BYTE_ARRAY => {
                let (shared, rest) = delta::lengths(values, count, header.values)?;
                let (own, _) = delta::lengths(rest, count, header.values)?;
                let taken = shared.checked_add(own)?;
                Some(if taken > self.texts_limit() { taken } else { 0 })
            }
            // The crate counts these itself.
            _ => Some(0),
        }
    }

    /// Checks places in the dictionary: None if they are too few or beyond it. If `exact`, the bytes of their entries.
    fn places(&self, block: &[u8], width: u32, count: usize, exact: bool) -> Option<u64> {
        let mut left = count;
        let mut taken = 0u64;
        let entry = |place: u64| {
            let place = usize::try_from(place).ok().filter(|&place| place < self.entries)?;
            Some(if exact { u64::from(*self.lengths.get(place)?) } else { 0 })
        };
        for run in Runs::new(block, width) {
            if left == 0 {
                break;
            }
            left -= match run {
                Run::Same { value, count } => {
                    let count = count.min(left);
                    if count > 0 {
                        taken = taken.saturating_add(entry(value)?.saturating_mul(count as u64));
                    }
                    count
                }
                Run::Packed { bytes, count } => {
                    let count = count.min(left);
                    for i in 0..count {
                        taken = taken.saturating_add(entry(packed(bytes, width, i))?);
                    }
                    count
                }
            };
        }
        (left == 0).then_some(taken)
    }
}

/// A block of levels.
enum Block<'a> {
    Hybrid(&'a [u8]),
    /// The encoding of 2013.
    Packed(&'a [u8]),
}

impl<'a> Block<'a> {
    /// The block at `at` of a page of version 1, and `at` after it.
    fn take(body: &'a [u8], at: &mut usize, encoding: i32, most: u64, count: usize) -> Option<Block<'a>> {
        if most == 0 {
            return Some(Block::Hybrid(&[]));
        }
        let rest = body.get(*at..)?;
        match encoding {
            encoding::RLE => {
                let length = u32::from_le_bytes(*rest.first_chunk::<4>()?) as usize;
                let block = rest[4..].get(..length)?;
                *at += 4 + length;
                Some(Block::Hybrid(block))
            }
            encoding::BIT_PACKED => {
                let width = (u64::BITS - most.leading_zeros()) as usize;
                let block = rest.get(..count.checked_mul(width)?.div_ceil(8))?;
                *at += block.len();
                Some(Block::Packed(block))
            }
            _ => None,
        }
    }

    fn tally(&self, most: u64, count: usize) -> Option<Tally> {
        match self {
            Block::Hybrid(block) => tally(block, most, count),
            Block::Packed(block) => {
                let width = u64::BITS - most.leading_zeros();
                let mut out = Tally::default();
                for i in 0..count {
                    let level = packed(block, width, i);
                    out.zeros += usize::from(level == 0);
                    out.full += usize::from(level == most);
                    out.begins |= i == 0 && level == 0;
                    (level <= most).then_some(())?;
                }
                Some(out)
            }
        }
    }
}

/// Bytes of one value as the crate decodes it; of texts, those of its place.
fn width(chunk: &ColumnChunkMetaData) -> usize {
    match chunk.column_type() {
        Physical::BOOLEAN => 1,
        Physical::INT32 | Physical::FLOAT | Physical::BYTE_ARRAY => 4,
        Physical::INT64 | Physical::DOUBLE => 8,
        Physical::INT96 => 12,
        Physical::FIXED_LEN_BYTE_ARRAY => chunk.column_descr().type_length().max(0) as usize,
    }
}

/// An encoding by its number in `parquet.thrift`.
fn named(number: i32) -> Option<(Encoding, &'static str)> {
    Some(match number {
        encoding::PLAIN => (Encoding::PLAIN, "PLAIN"),
        // The same under an older name.
        encoding::PLAIN_DICTIONARY | encoding::RLE_DICTIONARY => (Encoding::RLE_DICTIONARY, "RLE_DICTIONARY"),
        encoding::RLE => (Encoding::RLE, "RLE"),
        #[expect(deprecated, reason = "levels of 2013")]
        encoding::BIT_PACKED => (Encoding::BIT_PACKED, "BIT_PACKED"),
        encoding::DELTA_BINARY_PACKED => (Encoding::DELTA_BINARY_PACKED, "DELTA_BINARY_PACKED"),
        encoding::DELTA_LENGTH_BYTE_ARRAY => (Encoding::DELTA_LENGTH_BYTE_ARRAY, "DELTA_LENGTH_BYTE_ARRAY"),
        encoding::DELTA_BYTE_ARRAY => (Encoding::DELTA_BYTE_ARRAY, "DELTA_BYTE_ARRAY"),
        encoding::BYTE_STREAM_SPLIT => (Encoding::BYTE_STREAM_SPLIT, "BYTE_STREAM_SPLIT"),
        _ => return None,
    })
}

impl Iterator for Pages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let Some(next) = self.find().map_err(|wrong| self.failed(wrong))? else { return Ok(None) };
        self.next = None;
        let rows = next.metadata.num_rows.filter(|_| self.listed.is_some());
        let page = self.read(next.bytes, rows).map_err(|wrong| self.failed(wrong))?;
        self.number += usize::from(!next.metadata.is_dict);
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        Ok(self.find().map_err(|wrong| self.failed(wrong))?.map(|next| next.metadata))
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        let Some(next) = self.find().map_err(|wrong| self.failed(wrong))? else { return Ok(()) };
        self.next = None;
        self.number += usize::from(!next.metadata.is_dict);
        Ok(())
    }
}

/// The one chunk of a column.
pub(super) struct Single(pub Option<Pages>);

impl Iterator for Single {
    type Item = ParquetResult<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(|pages| Ok(Box::new(pages) as Box<dyn PageReader>))
    }
}

impl PageIterator for Single {}
