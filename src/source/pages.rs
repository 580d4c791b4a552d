//! Vectors straight from the pages: the normal way to read an embedding column.
//!
//! A row group of an embedding column is a run of pages, each a block of levels (which say where rows begin and what is
//! null) and a block of numbers. When every row has the same length and nothing is null, the numbers of rows `a .. b` are
//! one contiguous stretch, so reading them means: find the pages by counting ([`Map`], made once per column chunk from
//! the offset index or from the page headers, without decoding), verify the levels, copy. The levels are *verified*,
//! never assumed. A page with nulls or rows of other lengths is taken apart level by level, which is slower and names the
//! rows at fault. Whatever else is out of the ordinary, damage included, is left to the arrow reader.
//!
//! Numbers that are stored as they are wanted go from the file to their place in one read: no page of them is ever in
//! memory as a whole. Everything else passes through two buffers that stay in the cache ([`Scratch`]): the page as it is
//! stored, and the page without its compression. Whether numbers are finite is looked at while they are in the cache, too.
//!
//! This is many times as fast as decoding to Arrow lists first (docs/performance.md), and reading from the middle of a row
//! group of a million rows costs no more than from its beginning.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use parquet::basic::{Compression, Repetition, Type as Physical};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;

use super::blob::Reader;
use super::codec::Codec;
use super::element::Element;
use super::header::{Form, Header, encoding};
use super::hybrid::{Run, Runs, levels, packed, word};
use super::index::Location;
use super::opened::Opened;
use crate::kernels::bytes as kernel;
use crate::kit::error::{Error, Result};

/// Column chunks whose maps are kept; a pass over the data works on few at a time.
const KEPT: usize = 256;
/// Bytes read for a page header and what follows it, to begin with. Statistics can make a header longer.
const HEAD: usize = 16 << 10;
/// The same over a network, where a request costs milliseconds.
const REMOTE_HEAD: usize = 64 << 10;
/// Numbers brought to their place at a time: 256 KiB, so that they are in the cache when they are looked at.
const BLOCK: usize = 64 << 10;
/// Buffers larger than this are not kept.
const LARGE: usize = 64 << 20;

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
    /// Whether a row can be null.
    nullable: bool,
    /// The most bytes that one page may take.
    limit: u64,
    /// Are pages with a checksum read only where it holds? A pass that fingerprints the bytes has looked already.
    verified: bool,
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
                nullable: file.metadata.parquet_schema().get_column_root(leaf).get_basic_info().repetition()
                    == Repetition::OPTIONAL,
                limit: file.limit,
                verified: false,
            },
        )
    }

    /// The same, for who has not seen the bytes go by: pages whose checksum does not hold are left to the arrow reader, which tells
    /// where they are.
    pub fn verified(self) -> Layout {
        Layout { verified: true, ..self }
    }
}

impl Layout {
    /// What is wrong with a row that has these definition levels, if anything. None if no such row can be.
    fn fault(&self, levels: &[u8]) -> Option<Option<String>> {
        let full = self.max_definition as u8;
        let null = u8::from(self.nullable);
        // Below `null` the row is null, at `null` a list is empty, above it there is a place, perhaps with a null.
        if levels[0] < null {
            return (levels.len() == 1).then(|| Some("is null".into()));
        }
        let empty = self.max_repetition > 0 && levels[0] == null;
        if levels.len() > 1 && levels.iter().any(|&level| level <= null) {
            return None;
        }
        let count = if empty { 0 } else { levels.len() };
        if count != self.per_row {
            let s = if count == 1 { "" } else { "s" };
            return (!self.fixed).then(|| Some(format!("has {count} number{s}, not {}", self.dims)));
        }
        Some(levels.iter().position(|&level| level < full).map(|place| format!("has null at place {place}")))
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
    /// Leaf values, counted from the beginning of the chunk as if every row had its full number.
    values: Range<u64>,
}

/// The maps of a dataset, the latest [`KEPT`] of them, and buffers for as many threads as have read at a time.
#[derive(Debug, Default)]
pub(crate) struct Maps {
    kept: Mutex<VecDeque<(Key, Slot)>>,
    scratch: Mutex<Vec<Scratch>>,
}

/// File, row group in the file, leaf.
type Key = (usize, usize, usize);
/// A page: column chunk, number in it.
type Place = (Key, usize);
/// Locked while the map is made, so that it is made once. Outer None: not yet; inner None: there is none.
type Slot = Arc<Mutex<Option<Option<Arc<Map>>>>>;

impl Maps {
    fn slot(&self, key: Key) -> Slot {
        let mut kept = self.kept.lock().expect("no panic while holding");
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

    fn get(&self, key: Key, make: impl FnOnce() -> Result<Option<Map>>) -> Result<Option<Arc<Map>>> {
        let slot = self.slot(key);
        let mut map = slot.lock().expect("no panic while holding");
        if map.is_none() {
            *map = Some(make()?.map(Arc::new));
        }
        Ok(map.as_ref().expect("just made").clone())
    }

    /// Buffers to read with, if there are any those that hold the page: rows that are read one stretch after the other
    /// meet in the middle of pages.
    fn scratch(&self, page: Place) -> Scratch {
        let mut all = self.scratch.lock().expect("no panic while holding");
        let place = all.iter().position(|s| s.place == Some(page)).or(all.len().checked_sub(1));
        place.map(|place| all.swap_remove(place)).unwrap_or_default()
    }

    fn give_back(&self, scratch: Scratch) {
        if scratch.stored.len() + scratch.full.len() <= LARGE {
            self.scratch.lock().expect("no panic while holding").push(scratch);
        }
    }
}

/// A row that cannot be used: its place among the rows read, and why.
pub(crate) type Fault = (usize, String);

/// Rows `rows` of a row group into `out`, `dims` numbers each; then, whether all of them are finite, and which rows are
/// null or have nulls or another length (ascending; zeros in `out`). None, and `out` unspecified, if anything else is out
/// of the ordinary. `file` is the place of `opened`.
pub(crate) fn read(
    maps: &Maps,
    (file, opened): (usize, &Opened),
    reader: &Reader,
    row_group: usize,
    layout: &Layout,
    rows: Range<u64>,
    out: &mut [f32],
) -> Result<Option<(bool, Vec<Fault>)>> {
    assert_eq!(out.len() as u64, (rows.end - rows.start) * layout.dims as u64, "room for the rows");
    let chunk = opened.metadata.metadata().row_group(row_group).column(layout.leaf);
    let key = (file, row_group, layout.leaf);
    let failed = |e| opened.blob.error(e);
    let map = maps.get(key, || Map::new(opened, reader, row_group, layout))?;
    let Some(map) = map else { return Ok(None) };
    let mut faults = Vec::new();
    match map.read(maps, key, reader, chunk, layout, rows, out, &mut faults).map_err(failed)? {
        Outcome::Done { finite } => Ok(Some((finite, faults))),
        // Page borders were found by counting values, and the count was right in all. Rows that are too long must have
        // made up for rows that are too short, and rows between them may have been taken for their neighbours.
        Outcome::OtherLengths if map.counted => {
            let reason = "has rows of different lengths that add up as if all were equal";
            let help = "remove those rows, or rewrite the file with data pages of version 2 \
                        (pyarrow: data_page_version='2.0') so that they can be told apart";
            Err(Error::input(&opened.blob.name, reason, help).column(chunk.column_path().parts()[0].as_str()))
        }
        Outcome::OtherLengths | Outcome::Unusual => Ok(None),
    }
}

/// How a page turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done {
        finite: bool,
    },
    /// Rows do not begin where they should.
    OtherLengths,
    /// Nulls, or a form that is not read here.
    Unusual,
}

impl Map {
    fn new(opened: &Opened, reader: &Reader, row_group: usize, layout: &Layout) -> Result<Option<Map>> {
        let group = opened.metadata.metadata().row_group(row_group);
        let chunk = group.column(layout.leaf);
        let rows = group.num_rows() as u64;
        let per_row = layout.per_row as u64;
        let Some(listed) = opened.index(reader, row_group, layout.leaf)? else {
            return Map::walk(reader, chunk, rows, layout).map_err(|e| opened.blob.error(e));
        };
        let (start, first) = (chunk.byte_range().0, listed[0].bytes.start);
        let dictionary = (start < first).then_some(start..first);
        let ends = listed[1..].iter().map(|next| next.first_row).chain([rows]);
        let page = |(at, end): (&Location, u64)| PageAt {
            bytes: at.bytes.clone(),
            values: at.first_row.saturating_mul(per_row)..end.saturating_mul(per_row),
        };
        let pages = listed.iter().zip(ends).map(page).collect();
        Ok(Some(Map { dictionary, numbers: OnceLock::new(), pages, counted: false }))
    }

    /// From the page headers: reads each, skips what lies between them.
    fn walk(
        reader: &Reader,
        chunk: &ColumnChunkMetaData,
        rows: u64,
        layout: &Layout,
    ) -> ParquetResult<Option<Map>> {
        let (mut start, length) = chunk.byte_range();
        let end = start.saturating_add(length);
        let block = if reader.is_remote() { REMOTE_HEAD } else { HEAD / 8 };
        let mut dictionary = None;
        let mut pages = Vec::new();
        let mut at = 0;
        let mut counted = false;
        while start < end {
            let mut length = (block as u64).min(end - start);
            let header = loop {
                match Header::parse(&reader.get_bytes(start, length as usize)?) {
                    Some(header) => break header,
                    None if length == end - start => return Ok(None),
                    None => length = (2 * length).min(end - start),
                }
            };
            let bytes = start..start + (header.length + header.stored) as u64;
            if bytes.end > end {
                return Ok(None);
            }
            start = bytes.end;
            // Version 2 counts rows, which are right whatever their lengths; version 1 counts values.
            let values = match header.form {
                Form::V1 { .. } => {
                    counted |= !layout.fixed;
                    header.values as u64
                }
                Form::V2 { rows, .. } => rows as u64 * layout.per_row as u64,
                Form::Dictionary => {
                    dictionary = Some(bytes);
                    continue;
                }
                Form::Other => continue,
            };
            pages.push(PageAt { bytes, values: at..at + values });
            at += values;
        }
        let mut map = Map { dictionary, numbers: OnceLock::new(), pages, counted };
        let equal = at == rows * layout.per_row as u64;
        // Over a network it would be many requests.
        let known = equal || !reader.is_remote() && map.count_rows(reader, chunk, rows, layout)?;
        Ok(known.then_some(map))
    }

    /// Counts the rows of every page by its levels, where counting values does not find them: O(bytes of the chunk) when
    /// it is compressed, else O(bytes of levels). False if a page begins inside a row or cannot be read.
    fn count_rows(
        &mut self,
        reader: &Reader,
        chunk: &ColumnChunkMetaData,
        rows: u64,
        layout: &Layout,
    ) -> ParquetResult<bool> {
        let mut scratch = Scratch::default();
        let mut row = 0;
        for (number, page) in self.pages.iter_mut().enumerate() {
            let Some((_, split)) = scratch.levels(reader, chunk, layout, ((0, 0, 0), number), &page.bytes)?
            else {
                return Ok(false);
            };
            let Some(begun) = split.rows(scratch.body(), layout) else { return Ok(false) };
            page.values = row * layout.per_row as u64..(row + begun) * layout.per_row as u64;
            row += begun;
        }
        self.counted = false;
        Ok(row == rows)
    }

    #[expect(clippy::too_many_arguments, reason = "where to read from, what, and where to")]
    fn read(
        &self,
        maps: &Maps,
        key: Key,
        reader: &Reader,
        chunk: &ColumnChunkMetaData,
        layout: &Layout,
        rows: Range<u64>,
        out: &mut [f32],
        faults: &mut Vec<Fault>,
    ) -> ParquetResult<Outcome> {
        let per_row = layout.per_row as u64;
        let wanted = rows.start * per_row..rows.end * per_row;
        let from = self.pages.partition_point(|p| p.values.end <= wanted.start);
        let to = self.pages.partition_point(|p| p.values.start < wanted.end);
        if wanted.is_empty() {
            return Ok(Outcome::Done { finite: true });
        }
        if from >= to {
            return Ok(Outcome::Unusual);
        }
        let reader = &at_hand(reader, self.pages[from].bytes.start..self.pages[to - 1].bytes.end)?;
        let mut scratch = maps.scratch((key, from));
        let mut finite = true;
        let mut outcome = None;
        let mut next = wanted.start;
        for (number, at) in (from..to).zip(&self.pages[from..to]) {
            let inside = wanted.start.max(at.values.start)..wanted.end.min(at.values.end);
            if inside.is_empty() {
                continue;
            }
            // A damaged index may leave rows out, or name them twice.
            if inside.start != next {
                break;
            }
            next = inside.end;
            let into = |value: u64| (value - wanted.start) as usize * layout.lanes;
            let out = &mut out[into(inside.start)..into(inside.end)];
            let page = Wanted { place: (key, number), at, inside, first_row: rows.start };
            match self.page(&mut scratch, reader, chunk, layout, page, out, faults)? {
                Outcome::Done { finite: all } => finite &= all,
                other => {
                    outcome = Some(other);
                    break;
                }
            }
        }
        maps.give_back(scratch);
        let whole = if next == wanted.end { Outcome::Done { finite } } else { Outcome::Unusual };
        Ok(outcome.unwrap_or(whole))
    }

    /// Some values of one page.
    #[expect(clippy::too_many_arguments, reason = "where to read from, what, and where to")]
    fn page(
        &self,
        scratch: &mut Scratch,
        reader: &Reader,
        chunk: &ColumnChunkMetaData,
        layout: &Layout,
        wanted: Wanted,
        out: &mut [f32],
        faults: &mut Vec<Fault>,
    ) -> ParquetResult<Outcome> {
        let at = wanted.at;
        let Some((header, split)) = scratch.levels(reader, chunk, layout, wanted.place, &at.bytes)? else {
            return Ok(Outcome::Unusual);
        };
        let body = scratch.body();
        let equal = split.count as u64 == at.values.end - at.values.start
            && split.rows_begin_every(body, layout, at.values.start);
        if !equal && self.counted {
            return Ok(Outcome::OtherLengths);
        }
        let usual = equal && split.nothing_is_null(body, layout);
        // The next page is probably like this one.
        scratch.head = (header.length + split.values + 64).next_multiple_of(512);
        let inside = &wanted.inside;
        let places = (inside.start - at.values.start) as usize..(inside.end - at.values.start) as usize;
        let numbers = match header.encoding {
            encoding::PLAIN => Numbers::Plain,
            encoding::BYTE_STREAM_SPLIT => Numbers::Split,
            encoding::RLE_DICTIONARY | encoding::PLAIN_DICTIONARY => {
                match self.dictionary(reader, chunk, layout)? {
                    Some(numbers) => Numbers::Dictionary(numbers),
                    None => return Ok(Outcome::Unusual),
                }
            }
            _ => return Ok(Outcome::Unusual),
        };
        if !usual {
            scratch.rest(reader)?;
            return Ok(match split.odd_rows(scratch.body(), numbers, layout, &wanted, out, faults) {
                Some(()) => Outcome::Done { finite: kernel::all_finite(out) },
                None => Outcome::Unusual,
            });
        }
        let width = layout.element.width() * layout.lanes;
        let as_stored = matches!(numbers, Numbers::Plain) && layout.element == Element::F32;
        if as_stored && !scratch.packed {
            let length = header.stored.checked_sub(split.values);
            if length.is_none_or(|length| length / width < split.count) {
                return Ok(Outcome::Unusual);
            }
            let mut start = at.bytes.start + (header.length + split.values + places.start * width) as u64;
            let mut finite = true;
            for block in out.chunks_mut(BLOCK) {
                kernel::fill(block, |into| reader.read_into(start, into))?;
                finite &= kernel::all_finite(block);
                start += size_of_val(block) as u64;
            }
            return Ok(Outcome::Done { finite });
        }
        scratch.rest(reader)?;
        let values = &scratch.body()[split.values..];
        Ok(match numbers.read(values, layout, split.count, places, out) {
            Some(finite) => Outcome::Done { finite },
            None => Outcome::Unusual,
        })
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
        let reader = &at_hand(reader, bytes.clone())?;
        let mut scratch = Scratch::default();
        let place = ((0, 0, 0), 0);
        let Some(header) = scratch.open(reader, chunk, place, bytes)? else { return Ok(None) };
        if layout.verified && !scratch.is_whole(reader)? {
            return Ok(None);
        }
        if header.form != Form::Dictionary
            || !matches!(header.encoding, encoding::PLAIN | encoding::PLAIN_DICTIONARY)
        {
            return Ok(None);
        }
        scratch.rest(reader)?;
        let (width, count) = (layout.element.width() * layout.lanes, header.values);
        let Some(stored) = scratch.body().get(..count.saturating_mul(width)) else { return Ok(None) };
        let mut out = vec![0.0; count * layout.lanes];
        numbers(stored, layout.element, &mut out);
        Ok(Some(self.numbers.get_or_init(|| out)))
    }
}

/// The reader with these bytes at hand where reads cost requests over a network: one for all of them.
fn at_hand(reader: &Reader, bytes: Range<u64>) -> ParquetResult<Reader> {
    if !reader.is_remote() {
        return Ok(reader.clone());
    }
    let held = reader.get_bytes(bytes.start, bytes.end.saturating_sub(bytes.start) as usize)?;
    Ok(reader.clone().holding(bytes.start, held))
}

/// Some values of a page.
struct Wanted<'a> {
    place: Place,
    at: &'a PageAt,
    /// Counted from the beginning of the chunk.
    inside: Range<u64>,
    /// Of all that is read, in the row group.
    first_row: u64,
}

/// A page on its way from the file to numbers, in buffers that are used for one page after the other.
#[derive(Default)]
struct Scratch {
    place: Option<Place>,
    bytes: Range<u64>,
    header: Option<Header>,
    /// The page as stored, from its header on, as far as it has been read.
    stored: Vec<u8>,
    have: usize,
    /// Without compression and header, if it is compressed.
    full: Vec<u8>,
    packed: bool,
    /// The page whose checksum was found to hold.
    summed: Option<Place>,
    codec: Codec,
    /// Bytes from the beginning of the page to its numbers, as they were in the last page.
    head: usize,
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch")
            .field("place", &self.place)
            .field("have", &self.have)
            .finish_non_exhaustive()
    }
}

impl Scratch {
    /// Reads the page's header, and of a compressed page everything. None if the page is damaged.
    fn open(
        &mut self,
        reader: &Reader,
        chunk: &ColumnChunkMetaData,
        place: Place,
        bytes: &Range<u64>,
    ) -> ParquetResult<Option<Header>> {
        if self.place == Some(place) {
            return Ok(self.header);
        }
        (self.place, self.header, self.packed, self.summed) = (None, None, false, None);
        (self.bytes, self.have) = (bytes.clone(), 0);
        let whole = bytes.end.saturating_sub(bytes.start) as usize;
        let stored_packed = chunk.compression() != Compression::UNCOMPRESSED;
        let first = if stored_packed { whole } else { self.head.max(HEAD / 16) };
        self.read(reader, first.min(whole))?;
        let header = loop {
            match Header::parse(&self.stored[..self.have]) {
                Some(header) => break header,
                None if self.more(reader)? => {}
                None => return Ok(None),
            }
        };
        if header.length.checked_add(header.stored).is_none_or(|length| length > whole) {
            return Ok(None);
        }
        self.bytes.end = bytes.start + (header.length + header.stored) as u64;
        self.have = self.have.min(header.length + header.stored);
        let packed = !matches!(header.form, Form::V2 { compressed: false, .. });
        if stored_packed && packed && self.unpack(chunk, &header).is_none() {
            return Ok(None);
        }
        self.packed = stored_packed && packed;
        (self.place, self.header) = (Some(place), Some(header));
        Ok(self.header)
    }

    /// Undoes the compression of the page, all of which has been read. None if it is damaged.
    fn unpack(&mut self, chunk: &ColumnChunkMetaData, header: &Header) -> Option<()> {
        // A damaged header must not make room for more than the whole column chunk holds.
        if header.full as i64 > chunk.uncompressed_size() {
            return None;
        }
        let stored = &self.stored[header.length..self.have];
        if self.full.len() < header.full {
            self.full.resize(header.full, 0);
        }
        let levels = header.levels();
        let (levels_from, from) = stored.split_at_checked(levels)?;
        let (levels_to, to) = self.full[..header.full].split_at_mut_checked(levels)?;
        levels_to.copy_from_slice(levels_from);
        self.codec.unpack(chunk.compression(), from, to)
    }

    /// Reads the page as far as its levels. None if it is damaged, or has levels in the encoding of 2013.
    fn levels(
        &mut self,
        reader: &Reader,
        chunk: &ColumnChunkMetaData,
        layout: &Layout,
        place: Place,
        bytes: &Range<u64>,
    ) -> ParquetResult<Option<(Header, Split)>> {
        let Some(header) = self.open(reader, chunk, place, bytes)? else { return Ok(None) };
        if layout.verified && !self.is_whole(reader)? {
            return Ok(None);
        }
        // A damaged header must not make room for more than the chunk holds, or the limit allows.
        let numbers = header.values as u64 * (layout.lanes * size_of::<f32>()) as u64;
        if header.values as i64 > chunk.num_values() || numbers > layout.limit {
            return Ok(None);
        }
        loop {
            if let Some(split) = Split::new(&header, self.body(), layout) {
                return Ok(Some((header, split)));
            }
            if self.packed || !self.more(reader)? {
                return Ok(None);
            }
        }
    }

    /// Whether the page has no checksum, or one that holds; looked at once a page.
    fn is_whole(&mut self, reader: &Reader) -> ParquetResult<bool> {
        let Some(Header { length, checksum: Some(expected), .. }) = self.header else { return Ok(true) };
        if self.summed != self.place {
            self.rest(reader)?;
            if crc32fast::hash(&self.stored[length..self.have]) != expected {
                self.place = None;
                return Ok(false);
            }
            self.summed = self.place;
        }
        Ok(true)
    }

    /// The page after its header, as far as it has been read.
    fn body(&self) -> &[u8] {
        match &self.header {
            Some(header) if self.packed => &self.full[..header.full],
            Some(header) => &self.stored[header.length..self.have],
            None => &[],
        }
    }

    /// Reads more of the page; false if there is no more.
    fn more(&mut self, reader: &Reader) -> ParquetResult<bool> {
        let whole = self.bytes.end.saturating_sub(self.bytes.start) as usize;
        if self.have >= whole {
            return Ok(false);
        }
        self.read(reader, (4 * self.have).max(HEAD).min(whole))?;
        Ok(true)
    }

    /// Reads what is left of the page.
    fn rest(&mut self, reader: &Reader) -> ParquetResult<()> {
        self.read(reader, self.bytes.end.saturating_sub(self.bytes.start) as usize)
    }

    fn read(&mut self, reader: &Reader, to: usize) -> ParquetResult<()> {
        if self.have < to {
            let start = self.bytes.start + self.have as u64;
            reader.inside(start, to - self.have)?;
            if self.stored.len() < to {
                self.stored.resize(to, 0);
            }
            reader.read_into(start, &mut self.stored[self.have..to])?;
            self.have = to;
        }
        Ok(())
    }
}

/// Where in a data page what lies: in its body, which follows the header.
struct Split {
    count: usize,
    repetition: Range<usize>,
    definition: Range<usize>,
    values: usize,
}

impl Split {
    /// None for pages with the levels in the encoding of 2013, or if `body` ends before the values.
    fn new(header: &Header, body: &[u8], layout: &Layout) -> Option<Split> {
        let (repetition, definition) = match header.form {
            Form::V1 { definition, repetition } => {
                let levels = |at: usize, max: u64, encoding: i32| {
                    if max == 0 {
                        return Some(at..at);
                    }
                    let length = body.get(at..)?.first_chunk::<4>().filter(|_| encoding == encoding::RLE)?;
                    let start = at + 4;
                    Some(start..start.checked_add(u32::from_le_bytes(*length) as usize)?)
                };
                let repetition = levels(0, layout.max_repetition, repetition)?;
                let definition = levels(repetition.end, layout.max_definition, definition)?;
                (repetition, definition)
            }
            Form::V2 { definition, repetition, .. } => {
                (0..repetition, repetition..repetition.checked_add(definition)?)
            }
            Form::Dictionary | Form::Other => return None,
        };
        let values = definition.end;
        (values <= body.len()).then_some(Split { count: header.values, repetition, definition, values })
    }

    /// Rows that begin in the page; None if it does not begin with one, or its levels are damaged.
    fn rows(&self, body: &[u8], layout: &Layout) -> Option<u64> {
        if layout.max_repetition == 0 {
            return Some(self.count as u64);
        }
        let levels = levels(&body[self.repetition.clone()], 1, self.count)?;
        let begun = levels.iter().filter(|&&level| level == 0).count() as u64;
        levels.first().is_none_or(|&level| level == 0).then_some(begun)
    }

    /// Rows of a page that has nulls or rows of other lengths, one by one. None if the page is damaged, or begins inside a row.
    fn odd_rows(
        &self,
        body: &[u8],
        numbers: Numbers,
        layout: &Layout,
        wanted: &Wanted,
        out: &mut [f32],
        faults: &mut Vec<Fault>,
    ) -> Option<()> {
        let per_row = layout.per_row as u64;
        if !wanted.at.values.start.is_multiple_of(per_row) {
            return None;
        }
        let width = u64::BITS - layout.max_definition.leading_zeros();
        let definition = levels(&body[self.definition.clone()], width, self.count)?;
        let repetition = levels(&body[self.repetition.clone()], layout.max_repetition as u32, self.count)?;
        let full = layout.max_definition as u8;
        if definition.iter().any(|&level| level > full) {
            return None;
        }
        let present = definition.iter().filter(|&&level| level == full).count();
        let mut stored = vec![0.0; present.checked_mul(layout.lanes)?];
        numbers.read(&body[self.values..], layout, present, 0..present, &mut stored)?;
        let mut stored = &stored[..];
        let mut row = wanted.at.values.start / per_row;
        let mut at = 0;
        while at < self.count {
            let end =
                repetition[at + 1..].iter().position(|&level| level == 0).map_or(self.count, |n| at + 1 + n);
            let levels = &definition[at..end];
            let here;
            let taken = levels.iter().filter(|&&level| level == full).count() * layout.lanes;
            (here, stored) = stored.split_at(taken);
            if wanted.inside.contains(&(row * per_row)) {
                let from = (row - wanted.inside.start / per_row) as usize * layout.dims;
                let to = out.get_mut(from..from + layout.dims)?;
                match layout.fault(levels)? {
                    None => to.copy_from_slice(here),
                    Some(reason) => {
                        to.fill(0.0);
                        faults.push(((row - wanted.first_row) as usize, reason));
                    }
                }
            }
            (row, at) = (row + 1, end);
        }
        (row * per_row == wanted.at.values.end).then_some(())
    }

    /// Whether repetition levels are 0 exactly where a row begins; the page's first value is number `first`.
    fn rows_begin_every(&self, body: &[u8], layout: &Layout, first: u64) -> bool {
        let dims = layout.per_row;
        if layout.max_repetition == 0 {
            return true;
        }
        // Place in its row of the next value.
        let mut place = (first % dims as u64) as usize;
        let mut left = self.count;
        for run in Runs::new(&body[self.repetition.clone()], 1) {
            match run {
                Run::Same { value: 1, count } => {
                    let count = count.min(left);
                    if count > 0 && (place == 0 || place + count > dims) {
                        return false;
                    }
                    place += count;
                    if place == dims {
                        place = 0;
                    }
                    left -= count;
                }
                Run::Same { count: 0, .. } => {}
                Run::Same { value: 0, count } => {
                    let count = count.min(left);
                    if place != 0 || (count > 1 && dims > 1) {
                        return false;
                    }
                    place = 1 % dims;
                    left -= count;
                }
                Run::Same { .. } => return false,
                Run::Packed { bytes, count } => {
                    let count = count.min(left);
                    for (i, bytes) in bytes.chunks(8).enumerate().take(count.div_ceil(64)) {
                        let count = (count - i * 64).min(64);
                        // All ones, but where a row begins.
                        let mut expected = u64::MAX;
                        let mut begin = if place == 0 { 0 } else { dims - place };
                        while begin < count {
                            expected ^= 1 << begin;
                            begin += dims;
                        }
                        if (word(bytes) ^ expected) << (64 - count) != 0 {
                            return false;
                        }
                        place = (dims - (begin - count) % dims) % dims;
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

    fn nothing_is_null(&self, body: &[u8], layout: &Layout) -> bool {
        if layout.max_definition == 0 {
            return true;
        }
        let width = u64::BITS - layout.max_definition.leading_zeros();
        let mut left = self.count;
        for run in Runs::new(&body[self.definition.clone()], width) {
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

/// How a page stores its numbers.
#[derive(Clone, Copy)]
enum Numbers<'a> {
    /// One after the other, little-endian.
    Plain,
    /// First bytes of all values, then second bytes, and so on.
    Split,
    /// Places among these.
    Dictionary(&'a [f32]),
}

impl Numbers<'_> {
    /// Values `places` of the `count` of a page, as f32 (f64 is rounded, f16 widened), and whether all are finite. None if
    /// the bytes are too few, or wrong.
    fn read(
        self,
        values: &[u8],
        layout: &Layout,
        count: usize,
        places: Range<usize>,
        out: &mut [f32],
    ) -> Option<bool> {
        let width = layout.element.width() * layout.lanes;
        let length = count.checked_mul(width)?;
        match self {
            Numbers::Plain if values.len() < length => return None,
            Numbers::Split if values.len() != length => return None,
            Numbers::Dictionary(numbers) => {
                dictionary(values, layout.lanes, numbers, places, out)?;
                return Some(kernel::all_finite(out));
            }
            _ => {}
        }
        let step = (BLOCK / layout.lanes).max(1);
        let mut finite = true;
        for (start, out) in places.step_by(step).zip(out.chunks_mut(step * layout.lanes)) {
            let end = start + out.len() / layout.lanes;
            match self {
                Numbers::Split => byte_stream_split(values, layout, count, start..end, out),
                _ => numbers(&values[start * width..end * width], layout.element, out),
            }
            finite &= kernel::all_finite(out);
        }
        Some(finite)
    }
}

/// All numbers in `bytes`, little-endian; f64 is rounded, f16 widened.
pub(crate) fn numbers(bytes: &[u8], element: Element, out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * element.width(), "all of them");
    match element {
        Element::F16 => kernel::widen(bytes, out),
        Element::F32 => {
            let copied: std::result::Result<(), std::convert::Infallible> = kernel::fill(out, |into| {
                into.copy_from_slice(bytes);
                Ok(())
            });
            let Ok(()) = copied;
        }
        Element::F64 => kernel::narrow(bytes, out),
    }
}

/// First bytes of all `count` values, then second bytes, and so on; `values` has them all.
fn byte_stream_split(values: &[u8], layout: &Layout, count: usize, places: Range<usize>, out: &mut [f32]) {
    fn streams<'a, const N: usize>(stream: impl Fn(usize) -> &'a [u8], lane: usize) -> [&'a [u8]; N] {
        std::array::from_fn(|byte| stream(lane * N + byte))
    }
    let stream = |byte: usize| &values[byte * count..][places.clone()];
    let join = |lane: usize, out: &mut [f32]| match layout.element {
        Element::F16 => kernel::join_f16(streams(stream, lane), out),
        Element::F32 => kernel::join_f32(streams(stream, lane), out),
        Element::F64 => kernel::join_f64(streams(stream, lane), out),
    };
    if layout.lanes == 1 {
        return join(0, out);
    }
    let mut column = vec![0.0; places.len()];
    for lane in 0..layout.lanes {
        join(lane, &mut column);
        out[lane..].iter_mut().step_by(layout.lanes).zip(&column).for_each(|(to, from)| *to = *from);
    }
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
