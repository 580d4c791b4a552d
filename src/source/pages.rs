//! Vectors straight from the pages: the normal way to read an embedding column.
//!
//! A row group of an embedding column is a run of pages, each a block of levels (which say where rows begin and what is
//! null) and a block of numbers. When every row has the same length and nothing is null, the numbers of rows `a .. b` are
//! one contiguous stretch, so reading them means: find the pages by counting ([`Map`], made once per column chunk from
//! the offset index or from the page headers, without decoding), fetch their bytes in one read, verify the levels, copy.
//! The levels are *verified*, never assumed. Whatever is out of the ordinary is left to the arrow reader, which also
//! knows which row is at fault.
//!
//! This is five to eight times as fast as decoding to Arrow lists first, and reading from the middle of a row group of a
//! million rows costs no more than from its beginning.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use half::f16;
use parquet::basic::{Encoding, Type as Physical};
use parquet::column::page::{Page, PageReader};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::blob::Reader;
use super::dataset::{Element, Opened};
use crate::error::{Error, Result};

/// Column chunks whose maps are kept; a pass over the data works on few at a time.
const KEPT: usize = 256;

/// How the vectors of one column lie in one file.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Place of the leaf among the file's leaves.
    pub leaf: usize,
    pub element: Element,
    pub dims: usize,
    /// Numbers in one leaf value: 1 in lists, `dims` in FixedSizeBinary.
    lanes: usize,
    /// Leaf values in one row: `dims` in lists, 1 in FixedSizeBinary.
    per_row: usize,
    max_definition: u64,
    max_repetition: u64,
    /// The type allows no row of another length (but perhaps nulls).
    fixed: bool,
}

impl Layout {
    /// None if the column is stored in a way that this module does not read.
    pub fn new(file: &Opened, root: usize, element: Element, dims: usize) -> Option<Layout> {
        let leaf = file.leaves(root).next()?;
        let descriptor = file.metadata.parquet_schema().column(leaf);
        let field_type = file.metadata.schema().field(root).data_type();
        let lanes = if descriptor.max_rep_level() == 0 { dims } else { 1 };
        let stored = match descriptor.physical_type() {
            Physical::FLOAT => Some(4),
            Physical::DOUBLE => Some(8),
            Physical::FIXED_LEN_BYTE_ARRAY => usize::try_from(descriptor.type_length()).ok(),
            _ => None,
        };
        (dims > 0 && descriptor.max_rep_level() <= 1 && stored == Some(element.width() * lanes)).then_some(
            Layout {
                leaf,
                element,
                dims,
                lanes,
                per_row: dims / lanes,
                max_definition: descriptor.max_def_level() as u64,
                max_repetition: descriptor.max_rep_level() as u64,
                fixed: !matches!(
                    field_type,
                    arrow_schema::DataType::List(_) | arrow_schema::DataType::LargeList(_)
                ),
            },
        )
    }
}

/// Where the pages of one column chunk lie and which leaf values they hold, if every row has the same number of them.
#[derive(Debug)]
pub(crate) struct Map {
    /// Bytes of the dictionary page, if there is one.
    dictionary: Option<Range<u64>>,
    /// The dictionary's numbers, decoded when a page first needs them.
    numbers: OnceLock<Vec<f32>>,
    pages: Vec<PageAt>,
    /// Rows were counted by their values, which rows of other lengths could cheat; see [`read`].
    counted: bool,
}

#[derive(Clone, Debug)]
struct PageAt {
    bytes: Range<u64>,
    /// Leaf values, counted from the beginning of the chunk.
    values: Range<u64>,
}

/// The maps of a dataset, the latest [`KEPT`] of them.
#[derive(Debug, Default)]
pub(crate) struct Maps(Mutex<VecDeque<(Key, Slot)>>);

/// File, row group in the file, leaf.
type Key = (usize, usize, usize);
/// Locked while the map is made, so that it is made once. Outer None: not yet; inner None: there is none.
type Slot = Arc<Mutex<Option<Option<Arc<Map>>>>>;

impl Maps {
    fn slot(&self, key: Key) -> Slot {
        let mut kept = self.0.lock().expect("no panic while holding");
        if let Some((_, slot)) = kept.iter().find(|(k, _)| *k == key) {
            return slot.clone();
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        let slot = Slot::default();
        kept.push_back((key, slot.clone()));
        slot
    }

    fn get(
        &self,
        key: Key,
        make: impl FnOnce() -> ParquetResult<Option<Map>>,
    ) -> ParquetResult<Option<Arc<Map>>> {
        let slot = self.slot(key);
        let mut map = slot.lock().expect("no panic while holding");
        if map.is_none() {
            *map = Some(make()?.map(Arc::new));
        }
        Ok(map.as_ref().expect("just made").clone())
    }
}

/// Rows `rows` of a row group into `out`, `dims` numbers each. False, and `out` unspecified, if anything is out of the
/// ordinary: nulls, rows of other lengths, encodings that are not read here. `file` is the place of `opened`.
pub(crate) fn read(
    maps: &Maps,
    (file, opened): (usize, &Opened),
    reader: &Reader,
    row_group: usize,
    layout: &Layout,
    rows: Range<u64>,
    out: &mut [f32],
) -> Result<bool> {
    assert_eq!(out.len() as u64, (rows.end - rows.start) * layout.dims as u64, "room for the rows");
    let chunk = opened.metadata.metadata().row_group(row_group).column(layout.leaf);
    let failed = |e| opened.blob.error(e);
    let map = maps
        .get((file, row_group, layout.leaf), || Map::new(opened, reader, row_group, layout))
        .map_err(failed)?;
    let Some(map) = map else { return Ok(false) };
    match map.read(reader, chunk, layout, rows, out).map_err(failed)? {
        Outcome::Done => Ok(true),
        // Page borders were found by counting values, and the count was right in all. Rows that are too long must have
        // made up for rows that are too short, and rows between them may have been taken for their neighbours.
        Outcome::OtherLengths if map.counted => {
            let reason = "has rows of different lengths that add up as if all were equal";
            let help = "remove those rows, or rewrite the file with data pages of version 2 \
                        (pyarrow: data_page_version='2.0') so that they can be told apart";
            Err(Error::input(&opened.blob.name, reason, help).column(chunk.column_path().parts()[0].as_str()))
        }
        Outcome::OtherLengths | Outcome::Unusual => Ok(false),
    }
}

/// How a page turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Rows do not begin where they should.
    OtherLengths,
    /// Nulls, or a form that is not read here.
    Unusual,
}

impl Map {
    fn new(
        opened: &Opened,
        reader: &Reader,
        row_group: usize,
        layout: &Layout,
    ) -> ParquetResult<Option<Map>> {
        let metadata = opened.metadata.metadata();
        let group = metadata.row_group(row_group);
        let chunk = group.column(layout.leaf);
        let rows = group.num_rows() as u64;
        let per_row = layout.per_row as u64;
        let index = metadata.page_index_for_row_group(row_group);
        if let Some(index) = index.offset_index(layout.leaf)
            && let Some(first) = index.page_locations().first()
        {
            let locations = index.page_locations();
            let start = chunk.byte_range().0;
            let dictionary = (start < first.offset as u64).then_some(start..first.offset as u64);
            let ends = locations[1..].iter().map(|next| next.first_row_index as u64).chain([rows]);
            let page = |(at, end): (&parquet::file::page_index::offset_index::PageLocation, u64)| PageAt {
                bytes: at.offset as u64..at.offset as u64 + at.compressed_page_size as u64,
                values: at.first_row_index as u64 * per_row..end * per_row,
            };
            let pages = locations.iter().zip(ends).map(page).collect();
            return Ok(Some(Map { dictionary, numbers: OnceLock::new(), pages, counted: false }));
        }
        Map::walk(reader, chunk, rows, layout)
    }

    /// From the page headers: reads each, skips what lies between them.
    fn walk(
        reader: &Reader,
        chunk: &ColumnChunkMetaData,
        rows: u64,
        layout: &Layout,
    ) -> ParquetResult<Option<Map>> {
        let listener = Arc::new(Listener { reader: reader.clone(), last: AtomicU64::new(0) });
        let mut headers = SerializedPageReader::new(listener.clone(), chunk, rows as usize, None)?;
        let mut starts = Vec::new();
        let mut dictionary = None;
        let mut pages = Vec::new();
        let mut at = 0;
        let mut counted = false;
        while let Some(header) = headers.peek_next_page()? {
            let start = listener.last.load(Ordering::Relaxed);
            starts.push(start);
            headers.skip_next_page()?;
            if header.is_dict {
                dictionary = Some(start..start);
                continue;
            }
            // Version 2 counts rows, which are right whatever their lengths; version 1 counts values.
            let values = match (header.num_rows, header.num_levels) {
                (Some(rows), _) => (rows * layout.per_row) as u64,
                (None, Some(levels)) => {
                    counted |= !layout.fixed;
                    levels as u64
                }
                (None, None) => return Ok(None),
            };
            pages.push(PageAt { bytes: start..start, values: at..at + values });
            at += values;
        }
        let (start, length) = chunk.byte_range();
        let ends = starts.iter().skip(1).copied().chain([start + length]);
        for (bytes, end) in dictionary.iter_mut().chain(pages.iter_mut().map(|p| &mut p.bytes)).zip(ends) {
            bytes.end = end;
        }
        let equal = at == rows * layout.per_row as u64;
        Ok(equal.then_some(Map { dictionary, numbers: OnceLock::new(), pages, counted }))
    }

    fn read(
        &self,
        reader: &Reader,
        chunk: &ColumnChunkMetaData,
        layout: &Layout,
        rows: Range<u64>,
        out: &mut [f32],
    ) -> ParquetResult<Outcome> {
        let per_row = layout.per_row as u64;
        let wanted = rows.start * per_row..rows.end * per_row;
        let from = self.pages.partition_point(|p| p.values.end <= wanted.start);
        let to = self.pages.partition_point(|p| p.values.start < wanted.end);
        if from >= to {
            return Ok(Outcome::Done);
        }
        let at = &self.pages[from..to];
        let mut pages = pages(reader, chunk, at[0].bytes.start..at[at.len() - 1].bytes.end)?;
        for at in at {
            let Some(page) = pages.get_next_page()? else { return Ok(Outcome::Unusual) };
            let inside = wanted.start.max(at.values.start)..wanted.end.min(at.values.end);
            if inside.is_empty() {
                continue;
            }
            let into = |value: u64| (value - wanted.start) as usize * layout.lanes;
            let out = &mut out[into(inside.start)..into(inside.end)];
            let places = (inside.start - at.values.start) as usize..(inside.end - at.values.start) as usize;
            let Some(split) = Split::new(&page, layout) else { return Ok(Outcome::Unusual) };
            if split.count as u64 != at.values.end - at.values.start
                || !split.rows_begin_every(layout, at.values.start)
            {
                return Ok(Outcome::OtherLengths);
            }
            if !split.nothing_is_null(layout) {
                return Ok(Outcome::Unusual);
            }
            let done = match page.encoding() {
                Encoding::PLAIN => plain(split.values, layout, split.count, places, out),
                Encoding::BYTE_STREAM_SPLIT => {
                    byte_stream_split(split.values, layout, split.count, places, out)
                }
                Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => self
                    .dictionary(reader, chunk, layout)?
                    .and_then(|numbers| dictionary(split.values, layout.lanes, numbers, places, out)),
                _ => None,
            };
            if done.is_none() {
                return Ok(Outcome::Unusual);
            }
        }
        Ok(Outcome::Done)
    }

    fn dictionary(
        &self,
        reader: &Reader,
        chunk: &ColumnChunkMetaData,
        layout: &Layout,
    ) -> ParquetResult<Option<&[f32]>> {
        if let Some(numbers) = self.numbers.get() {
            return Ok(Some(numbers));
        }
        let Some(bytes) = &self.dictionary else { return Ok(None) };
        let Some(Page::DictionaryPage { buf, num_values, .. }) =
            pages(reader, chunk, bytes.clone())?.get_next_page()?
        else {
            return Ok(None);
        };
        let count = num_values as usize;
        let mut numbers = vec![0.0; count * layout.lanes];
        match plain(&buf, layout, count, 0..count, &mut numbers) {
            Some(()) => Ok(Some(self.numbers.get_or_init(|| numbers))),
            None => Ok(None),
        }
    }
}

/// A page reader over some pages of a chunk, fetched in one read.
fn pages(
    reader: &Reader,
    chunk: &ColumnChunkMetaData,
    bytes: Range<u64>,
) -> ParquetResult<SerializedPageReader<Reader>> {
    let length = (bytes.end - bytes.start) as usize;
    let held = reader.get_bytes(bytes.start, length)?;
    let window = chunk
        .clone()
        .into_builder()
        .set_dictionary_page_offset(None)
        .set_data_page_offset(bytes.start as i64)
        .set_total_compressed_size(length as i64)
        .build()?;
    SerializedPageReader::new(Arc::new(reader.clone().holding(bytes.start, held)), &window, 0, None)
}

/// Passes reads on and remembers where the last one began: at the page's header.
struct Listener {
    reader: Reader,
    last: AtomicU64,
}

impl Length for Listener {
    fn len(&self) -> u64 {
        self.reader.len()
    }
}

impl ChunkReader for Listener {
    type T = <Reader as ChunkReader>::T;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.last.store(start, Ordering::Relaxed);
        self.reader.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<bytes::Bytes> {
        self.reader.get_bytes(start, length)
    }
}

/// A data page taken apart.
struct Split<'a> {
    count: usize,
    repetition: &'a [u8],
    definition: &'a [u8],
    values: &'a [u8],
}

impl<'a> Split<'a> {
    /// None for pages with the levels in the encoding of 2013, or cut off.
    fn new(page: &'a Page, layout: &Layout) -> Option<Split<'a>> {
        match page {
            Page::DataPage { buf, num_values, def_level_encoding, rep_level_encoding, .. } => {
                let mut rest = &buf[..];
                let mut levels = |max: u64, encoding: &Encoding| {
                    if max == 0 {
                        return Some(&rest[..0]);
                    }
                    let (length, after) =
                        rest.split_first_chunk::<4>().filter(|_| *encoding == Encoding::RLE)?;
                    let levels;
                    (levels, rest) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                    Some(levels)
                };
                let repetition = levels(layout.max_repetition, rep_level_encoding)?;
                let definition = levels(layout.max_definition, def_level_encoding)?;
                Some(Split { count: *num_values as usize, repetition, definition, values: rest })
            }
            Page::DataPageV2 { buf, num_values, def_levels_byte_len, rep_levels_byte_len, .. } => {
                let (repetition, rest) = buf.split_at_checked(*rep_levels_byte_len as usize)?;
                let (definition, values) = rest.split_at_checked(*def_levels_byte_len as usize)?;
                Some(Split { count: *num_values as usize, repetition, definition, values })
            }
            Page::DictionaryPage { .. } => None,
        }
    }

    /// Whether repetition levels are 0 exactly where a row begins; the page's first value is number `first`.
    fn rows_begin_every(&self, layout: &Layout, first: u64) -> bool {
        let dims = layout.per_row;
        if layout.max_repetition == 0 {
            return true;
        }
        // Place in its row of the next value.
        let mut place = (first % dims as u64) as usize;
        let mut left = self.count;
        for run in Runs::new(self.repetition, 1) {
            match run {
                Run::Same { value: 1, count } => {
                    let count = count.min(left);
                    if place == 0 || place + count > dims {
                        return false;
                    }
                    place = (place + count) % dims;
                    left -= count;
                }
                Run::Same { count, .. } => {
                    let count = count.min(left);
                    if count > 0 && (place != 0 || (count > 1 && dims > 1)) {
                        return false;
                    }
                    place = count % dims;
                    left -= count;
                }
                Run::Packed { bytes, count } => {
                    let count = count.min(left);
                    for i in 0..count {
                        let begins = (bytes[i / 8] >> (i % 8)) & 1 == 0;
                        if begins != (place == 0) {
                            return false;
                        }
                        place += 1;
                        if place == dims {
                            place = 0;
                        }
                    }
                    left -= count;
                }
            }
            if left == 0 {
                return true;
            }
        }
        left == 0
    }

    fn nothing_is_null(&self, layout: &Layout) -> bool {
        if layout.max_definition == 0 {
            return true;
        }
        let width = u64::BITS - layout.max_definition.leading_zeros();
        let mut left = self.count;
        for run in Runs::new(self.definition, width) {
            let count = match run {
                Run::Same { value, count } if value == layout.max_definition => count.min(left),
                Run::Same { count: 0, .. } => 0,
                Run::Same { .. } => return false,
                Run::Packed { bytes, count } => {
                    let count = count.min(left);
                    if (0..count).any(|i| packed(bytes, width, i) != layout.max_definition) {
                        return false;
                    }
                    count
                }
            };
            left -= count;
            if left == 0 {
                return true;
            }
        }
        left == 0
    }
}

/// A piece of Parquet's run-length / bit-packing hybrid.
enum Run<'a> {
    Same { value: u64, count: usize },
    Packed { bytes: &'a [u8], count: usize },
}

/// The pieces of a hybrid block of `width` bits a value (at most 32); ends early where the block is damaged.
struct Runs<'a> {
    rest: &'a [u8],
    width: u32,
}

impl<'a> Runs<'a> {
    fn new(rest: &'a [u8], width: u32) -> Self {
        Runs { rest, width }
    }

    fn header(&mut self) -> Option<u64> {
        let mut header = 0;
        for shift in (0..63).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            header |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(header);
            }
        }
        None
    }
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        let header = self.header()?;
        let count = usize::try_from(header >> 1).ok()?;
        if header & 1 == 0 {
            let (value, rest) = self.rest.split_at_checked(self.width.div_ceil(8) as usize)?;
            self.rest = rest;
            let value = value.iter().rev().fold(0, |v, &byte| v << 8 | u64::from(byte));
            Some(Run::Same { value, count })
        } else {
            // Some writers leave out the padding of the last group.
            let length = count.checked_mul(self.width as usize)?.min(self.rest.len());
            let (bytes, rest) = self.rest.split_at(length);
            self.rest = rest;
            let whole = if self.width == 0 { usize::MAX } else { length * 8 / self.width as usize };
            Some(Run::Packed { bytes, count: count.checked_mul(8)?.min(whole) })
        }
    }
}

/// Value `i` of a bit-packed piece.
#[inline]
fn packed(bytes: &[u8], width: u32, i: usize) -> u64 {
    let bit = i * width as usize;
    let rest = &bytes[bit / 8..];
    let word = match rest.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => rest.iter().rev().fold(0, |v, &byte| v << 8 | u64::from(byte)),
    };
    word >> (bit % 8) & ((1 << width) - 1)
}

/// Numbers in little-endian order; f64 is rounded, f16 widened. None if there are too few bytes.
fn plain(values: &[u8], layout: &Layout, count: usize, places: Range<usize>, out: &mut [f32]) -> Option<()> {
    let width = layout.element.width() * layout.lanes;
    if values.len() < count * width {
        return None;
    }
    numbers(&values[places.start * width..places.end * width], layout.element, out);
    Some(())
}

/// All numbers in `bytes`.
pub(crate) fn numbers(bytes: &[u8], element: Element, out: &mut [f32]) {
    fn each<const W: usize>(bytes: &[u8], out: &mut [f32], number: impl Fn([u8; W]) -> f32) {
        for (x, bytes) in out.iter_mut().zip(bytes.as_chunks::<W>().0) {
            *x = number(*bytes);
        }
    }
    match element {
        Element::F16 => each(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        Element::F32 => each(bytes, out, f32::from_le_bytes),
        Element::F64 => each(bytes, out, |b| f64::from_le_bytes(b) as f32),
    }
}

/// First bytes of all values, then second bytes, and so on.
fn byte_stream_split(
    values: &[u8],
    layout: &Layout,
    count: usize,
    places: Range<usize>,
    out: &mut [f32],
) -> Option<()> {
    let width = layout.element.width();
    if values.len() != count * width * layout.lanes {
        return None;
    }
    let stream = |byte: usize| &values[byte * count..][places.clone()];
    for lane in 0..layout.lanes {
        let s = |byte: usize| stream(lane * width + byte);
        let out = out[lane..].iter_mut().step_by(layout.lanes);
        match layout.element {
            Element::F16 => {
                for ((x, a), b) in out.zip(s(0)).zip(s(1)) {
                    *x = f16::from_le_bytes([*a, *b]).to_f32();
                }
            }
            Element::F32 => {
                for ((((x, a), b), c), d) in out.zip(s(0)).zip(s(1)).zip(s(2)).zip(s(3)) {
                    *x = f32::from_le_bytes([*a, *b, *c, *d]);
                }
            }
            Element::F64 => {
                let streams: [&[u8]; 8] = std::array::from_fn(s);
                for (i, x) in out.enumerate() {
                    *x = f64::from_le_bytes(streams.map(|bytes| bytes[i])) as f32;
                }
            }
        }
    }
    Some(())
}

/// Places in the dictionary, each of `lanes` numbers. None if one is out of range or the block is cut off.
fn dictionary(
    values: &[u8],
    lanes: usize,
    numbers: &[f32],
    places: Range<usize>,
    out: &mut [f32],
) -> Option<()> {
    let (&width, rest) = values.split_first().filter(|(width, _)| **width <= 32)?;
    let mut copy = |place: usize, index: usize| {
        let entry = numbers.get(index * lanes..(index + 1) * lanes)?;
        let to = (place - places.start) * lanes;
        out[to..to + lanes].copy_from_slice(entry);
        Some(())
    };
    let mut at = 0;
    for run in Runs::new(rest, width.into()) {
        if at >= places.end {
            break;
        }
        let (Run::Same { count, .. } | Run::Packed { count, .. }) = run;
        let end = at.saturating_add(count);
        for place in at.max(places.start)..end.min(places.end) {
            let index = match run {
                Run::Same { value, .. } => value,
                Run::Packed { bytes, .. } => packed(bytes, width.into(), place - at),
            };
            copy(place, index as usize)?;
        }
        at = end;
    }
    (at >= places.end).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_runs() {
        // 8 ones as a run, then 8 values 0..8 of 3 bits packed: 0b10001000, 0b11000110, 0b11111010.
        let block = [16, 1, 3, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        let mut got = Vec::new();
        for run in Runs::new(&block, 3) {
            match run {
                Run::Same { value, count } => got.extend(vec![value; count]),
                Run::Packed { bytes, count } => got.extend((0..count).map(|i| packed(bytes, 3, i))),
            }
        }
        assert_eq!(got, [1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn damaged_blocks_end() {
        for block in [&[255u8; 12][..], &[2], &[], &[0x80; 3]] {
            assert!(Runs::new(block, 3).count() < 20);
            let mut out = [0.0; 40];
            assert_eq!(dictionary(block, 1, &[1.0], 0..40, &mut out), None);
        }
        assert_eq!(dictionary(&[33, 1], 1, &[1.0], 0..1, &mut [0.0]), None, "33 bits");
    }

    #[test]
    fn dictionary_places() {
        // width 1: a run of 4 zeros, then 8 packed bits 0b0000_0101.
        let block = [1, 8, 0, 3, 0b0000_0101];
        let mut out = [0.0; 4];
        assert_eq!(dictionary(&block, 1, &[5.0, 7.0], 3..7, &mut out), Some(()));
        assert_eq!(out, [5.0, 7.0, 5.0, 7.0]);
        assert_eq!(dictionary(&block, 1, &[5.0], 3..7, &mut out), None, "entry 1 of a dictionary of one");
    }
}
