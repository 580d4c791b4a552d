//! Arrow IPC files of this format: a writer that leaves the same bytes however rows are pushed, and a reader that trusts
//! nothing.
//!
//! **Writing.** Uncompressed, every buffer at a multiple of 64 bytes, no dictionaries or views, record batches of exactly
//! 2^20 rows (the last one shorter), schema metadata in key order, BLAKE3 taken on the way out.
//!
//! **Reading.** The file is mapped, the footer and the header of every record batch are checked against the file's length
//! and the table's [`Contract`] before a byte of a body is touched: O(record batches), no allocation that the file's
//! own length does not bound. Arrays point into the map.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float32Type, Float64Type, UInt32Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, ListArray, PrimitiveArray,
    RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array, make_array,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_ipc::{Block, FieldNode, MessageHeader, MetadataVersion};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use crate::kit::error::{Error, Result};
use crate::kit::ids::RowType;
use crate::kit::matrix::Matrix;

use super::columns::{Contract, Shape, item};
use super::manifest::FileEntry;
use super::{Kind, Metadata};

/// log2 of the rows of a record batch: the place of row r is (r >> 20, r & (2^20 - 1)).
pub const BATCH_BITS: u32 = 20;
pub const BATCH_ROWS: usize = 1 << BATCH_BITS;

const MAGIC: &[u8; 6] = b"ARROW1";
const REMEDY: &str =
    "write the plan again (`batchwright plan ... --force`), or copy it again from where it is whole";

/// A small table in memory, ready to be written.
#[derive(Clone, Debug)]
pub struct Table {
    pub kind: Kind,
    pub batch: RecordBatch,
}

impl Table {
    /// `columns` in the order of the contract, without the optional columns that `with` does not name.
    pub(super) fn new(
        kind: Kind,
        shape: &Shape,
        with: &[&str],
        metadata: Metadata,
        columns: Vec<ArrayRef>,
        rows: usize,
    ) -> Table {
        let schema = Arc::new(kind.contract().schema(shape, with, metadata));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)
            .unwrap_or_else(|e| panic!("encode of {} does not follow its contract: {e}", kind.name()));
        Table { kind, batch }
    }

    /// Writes the table to its place under `root`.
    pub fn write(&self, root: &Path) -> Result<FileEntry> {
        let mut writer =
            TableWriter::create(root, self.kind.path(), self.kind, self.batch.schema().as_ref().clone())?;
        writer.push(&self.batch)?;
        writer.finish()
    }
}

/// Counts and hashes what passes.
struct Hashing {
    file: std::io::BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write(data)?;
        self.hasher.update(&data[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Streams one table to disk.
pub struct TableWriter {
    file: FileWriter<Hashing>,
    schema: SchemaRef,
    place: PathBuf,
    path: String,
    kind: Kind,
    rows_per_batch: usize,
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    rows: u64,
}

impl TableWriter {
    /// Starts `root/path`, making the directories on the way. `schema` from [`Contract::schema`].
    pub fn create(root: &Path, path: &str, kind: Kind, schema: Schema) -> Result<TableWriter> {
        let place = root.join(path);
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create the directory", parent))?;
        }
        let file = File::create(&place).map_err(Error::io("create", &place))?;
        let out = Hashing {
            file: std::io::BufWriter::with_capacity(1 << 18, file),
            hasher: blake3::Hasher::new(),
            bytes: 0,
        };
        let options = IpcWriteOptions::try_new(64, false, MetadataVersion::V5)
            .expect("64 is an alignment that Arrow IPC knows");
        let file =
            FileWriter::try_new_with_options(out, &schema, options).map_err(|e| write_error(&place, e))?;
        Ok(TableWriter {
            file,
            schema: Arc::new(schema),
            place,
            path: path.to_string(),
            kind,
            rows_per_batch: BATCH_ROWS,
            pending: Vec::new(),
            pending_rows: 0,
            rows: 0,
        })
    }

    /// Rows of a record batch where it is not 2^20 (at least 1).
    pub fn rows_per_batch(mut self, rows: usize) -> Self {
        self.rows_per_batch = rows.max(1);
        self
    }

    /// Appends rows; how many at a time makes no difference to the file. Holds at most one record batch more than it was
    /// given. The values under nulls must be zero.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut at = 0;
        while at < batch.num_rows() {
            let n = (batch.num_rows() - at).min(self.rows_per_batch - self.pending_rows);
            self.pending.push(batch.slice(at, n));
            self.pending_rows += n;
            at += n;
            if self.pending_rows == self.rows_per_batch {
                self.write_pending()?;
            }
        }
        Ok(())
    }

    fn write_pending(&mut self) -> Result<()> {
        let joined = match &self.pending[..] {
            [one] => one.clone(),
            many => arrow_select::concat::concat_batches(&self.schema, many)
                .map_err(|e| write_error(&self.place, e))?,
        };
        let columns = joined.columns().iter().map(plain_bits).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(joined.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .and_then(|b| self.file.write(&b))
            .map_err(|e| write_error(&self.place, e))?;
        self.rows += joined.num_rows() as u64;
        self.pending.clear();
        self.pending_rows = 0;
        Ok(())
    }

    /// Writes what is left and the footer, and waits until it is on the disk.
    pub fn finish(mut self) -> Result<FileEntry> {
        if self.pending_rows > 0 {
            self.write_pending()?;
        }
        self.file.finish().map_err(|e| write_error(&self.place, e))?;
        let out = self.file.get_mut();
        out.flush().and_then(|()| out.file.get_ref().sync_all()).map_err(Error::io("write", &self.place))?;
        Ok(FileEntry {
            path: self.path,
            kind: self.kind.name().to_string(),
            rows: self.rows,
            bytes: out.bytes,
            blake3: out.hasher.finalize().to_hex().to_string(),
        })
    }
}

/// A FixedSizeList<Float32, width> column from its numbers, row after row.
pub(super) fn fixed_f32(values: Vec<f32>, width: usize, rows: usize) -> ArrayRef {
    fixed(Arc::new(Float32Array::from(values)), width, rows)
}

/// A FixedSizeList<Float64, width> column from its numbers, row after row.
pub(super) fn fixed_f64(values: Vec<f64>, width: usize, rows: usize) -> ArrayRef {
    fixed(Arc::new(Float64Array::from(values)), width, rows)
}

fn fixed(values: ArrayRef, width: usize, rows: usize) -> ArrayRef {
    let list = FixedSizeListArray::try_new_with_length(
        item(values.data_type().clone()),
        width as i32,
        values,
        None,
        rows,
    );
    Arc::new(list.unwrap_or_else(|e| panic!("every row must have {width} numbers: {e}")))
}

/// A List column of numbers, one list a row.
pub(super) fn lists<'a, T: ArrowPrimitiveType>(rows: impl Iterator<Item = &'a [T::Native]>) -> ArrayRef {
    let (mut values, mut lengths) = (Vec::new(), Vec::new());
    for row in rows {
        values.extend_from_slice(row);
        lengths.push(row.len());
    }
    let values = PrimitiveArray::<T>::from_iter_values(values);
    let offsets = OffsetBuffer::from_lengths(lengths);
    Arc::new(ListArray::new(item(T::DATA_TYPE), offsets, Arc::new(values), None))
}

/// A column of row numbers.
pub(super) fn row_array(rows: impl Iterator<Item = u64>, row_type: RowType) -> ArrayRef {
    match row_type {
        RowType::U32 => Arc::new(UInt32Array::from_iter_values(rows.map(|r| r as u32))),
        RowType::U64 => Arc::new(UInt64Array::from_iter_values(rows)),
    }
}

/// Bitmaps without offset and with zero spare bits, no bitmap where nothing is null: equal content, equal bytes.
fn plain_bits(array: &ArrayRef) -> ArrayRef {
    let plain = |b: &BooleanBuffer| BooleanBuffer::collect_bool(b.len(), |i| b.value(i));
    let nulls = array.nulls().filter(|n| n.null_count() > 0).map(|n| NullBuffer::new(plain(n.inner())));
    if let Some(b) = array.as_boolean_opt() {
        return Arc::new(BooleanArray::new(plain(b.values()), nulls));
    }
    if array.nulls().is_none() {
        return array.clone();
    }
    let data = array.to_data().into_builder().nulls(nulls);
    make_array(data.build().expect("only the validity bitmap was written anew, with the same bits"))
}

fn write_error(place: &Path, error: ArrowError) -> Error {
    let source = match error {
        ArrowError::IoError(_, e) => e,
        other => std::io::Error::other(other),
    };
    Error::Io { action: "write", path: place.into(), source }
}

/// A table on disk, mapped.
#[derive(Debug)]
pub struct TableReader {
    path: PathBuf,
    kind: Kind,
    schema: SchemaRef,
    buffer: Buffer,
    version: MetadataVersion,
    blocks: Vec<Block>,
    /// Rows before every record batch, and in all.
    first: Vec<u64>,
}

impl TableReader {
    /// Maps the file and checks everything but the bodies. Errors: [`Error::Plan`] for a file that is not a whole table of
    /// this kind and major format, [`Error::Io`] if it cannot be read.
    pub fn open(path: &Path, kind: Kind) -> Result<TableReader> {
        Self::from_buffer(super::map::map(path)?, kind, path)
    }

    /// The same for a file in memory; `path` is only for messages.
    pub fn from_buffer(file: Buffer, kind: Kind, path: &Path) -> Result<TableReader> {
        Self::parse(file, kind, path).map_err(|reason| Error::plan(path, reason, REMEDY))
    }

    fn parse(buffer: Buffer, kind: Kind, path: &Path) -> Result<TableReader, String> {
        let contract = kind.contract();
        let bytes = buffer.as_slice();
        let damaged = |what: &str| format!("is damaged: {what}");
        if bytes.len() < 26 || !bytes.starts_with(MAGIC) {
            return Err(damaged("it does not begin like an Arrow IPC file"));
        }
        if !bytes.ends_with(MAGIC) {
            return Err(damaged("it is cut off: the end mark is missing"));
        }
        let trailer = bytes.len() - 10;
        let length: [u8; 4] = bytes[trailer..trailer + 4].try_into().expect("four bytes were sliced");
        let footer_start = usize::try_from(i32::from_le_bytes(length))
            .ok()
            .and_then(|n| trailer.checked_sub(n))
            .filter(|&start| start >= 8)
            .ok_or_else(|| damaged("the footer is said to be larger than the file"))?;
        let footer = arrow_ipc::root_as_footer(&bytes[footer_start..trailer])
            .map_err(|e| damaged(&format!("the footer cannot be read ({e})")))?;
        let schema = footer.schema().ok_or_else(|| damaged("the footer has no schema"))?;
        let schema =
            try_fb_to_schema(schema).map_err(|e| damaged(&format!("the schema cannot be read ({e})")))?;
        let version = footer.version();
        if version != MetadataVersion::V5 {
            return Err(damaged("it has another metadata version than V5"));
        }
        super::check_format(schema.metadata().get("batchwright.format").map(String::as_str))?;
        match schema.metadata().get("batchwright.kind") {
            Some(k) if k == contract.name => {}
            Some(k) => return Err(format!("holds `{k}`, not `{}`", contract.name)),
            None => return Err("has no `batchwright.kind`: it is not a table of a plan".into()),
        }
        contract.check(&schema)?;
        if footer.dictionaries().is_some_and(|d| !d.is_empty()) {
            return Err(damaged("it has dictionaries, which this format does not use"));
        }
        let mut blocks = Vec::new();
        let mut first = vec![0u64];
        for block in footer.recordBatches().into_iter().flatten() {
            let rows = check_block(bytes, footer_start, block, version, &schema)
                .map_err(|e| damaged(&format!("record batch {}: {e}", blocks.len())))?;
            let before = first[blocks.len()];
            blocks.push(*block);
            first.push(before.checked_add(rows).ok_or_else(|| damaged("too many rows"))?);
        }
        let reader =
            TableReader { path: path.into(), kind, schema: Arc::new(schema), buffer, version, blocks, first };
        reader.check_batch_rows(contract).map_err(|e| damaged(&e))?;
        Ok(reader)
    }

    /// Rows are found by arithmetic, so all record batches but the last must be equally long.
    fn check_batch_rows(&self, contract: &Contract) -> Result<(), String> {
        let n = self.blocks.len();
        let size =
            if contract.name == Kind::Batches.name() && n > 0 { self.first[1] } else { BATCH_ROWS as u64 };
        for (i, pair) in self.first.windows(2).enumerate() {
            let rows = pair[1] - pair[0];
            if rows == 0 || rows > size || (i + 1 < n && rows != size) {
                return Err(format!("record batch {i} has {rows} rows, not {size}"));
            }
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn rows(&self) -> u64 {
        self.first[self.blocks.len()]
    }

    /// Number of record batches.
    pub fn batches(&self) -> usize {
        self.blocks.len()
    }

    /// Rows of every record batch but the last.
    pub fn rows_per_batch(&self) -> u64 {
        self.first.get(1).copied().unwrap_or(BATCH_ROWS as u64)
    }

    pub fn has(&self, column: &str) -> bool {
        self.schema.column_with_name(column).is_some()
    }

    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.schema.metadata().get(key).map(String::as_str)
    }

    /// A content error of this file, with the usual remedy.
    pub fn damaged(&self, reason: impl std::fmt::Display) -> Error {
        Error::plan(&self.path, format!("is damaged: {reason}"), REMEDY)
    }

    /// Record batch `i`; arrays point into the map. Checks list offsets, text and null counts, O(its bitmaps, offsets and
    /// text).
    pub fn batch(&self, i: usize) -> Result<RecordBatch> {
        let block = &self.blocks[i];
        let length = block.metaDataLength() as usize + block.bodyLength() as usize;
        let data = self.buffer.slice_with_length(block.offset() as usize, length);
        FileDecoder::new(self.schema.clone(), self.version)
            .read_record_batch(block, &data)
            .map_err(|e| self.damaged(format!("record batch {i}: {e}")))?
            .ok_or_else(|| self.damaged(format!("record batch {i} is empty")))
    }

    /// A column of record batch `batch`; the contract says that it is there.
    fn column<'a>(&self, batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
        batch.column_by_name(name).ok_or_else(|| self.damaged(format!("column `{name}` is missing")))
    }

    /// Calls `f` with one column of every record batch.
    fn each(&self, name: &str, mut f: impl FnMut(&ArrayRef)) -> Result<()> {
        for i in 0..self.batches() {
            f(self.column(&self.batch(i)?, name)?);
        }
        Ok(())
    }

    /// A whole numeric column. For small tables; O(rows).
    pub fn numbers<T: ArrowPrimitiveType>(&self, name: &str) -> Result<Vec<T::Native>> {
        let mut out = Vec::new();
        self.each(name, |a| out.extend_from_slice(a.as_primitive::<T>().values()))?;
        Ok(out)
    }

    /// The same where nulls may occur.
    pub fn optional_numbers<T: ArrowPrimitiveType>(&self, name: &str) -> Result<Vec<Option<T::Native>>> {
        let mut out = Vec::new();
        self.each(name, |a| out.extend(a.as_primitive::<T>().iter()))?;
        Ok(out)
    }

    /// A column of row numbers in either width.
    pub fn row_numbers(&self, name: &str) -> Result<Vec<u64>> {
        match self.schema.field_with_name(name).map(|f| f.data_type()) {
            Ok(DataType::UInt32) => {
                Ok(self.numbers::<UInt32Type>(name)?.into_iter().map(u64::from).collect())
            }
            _ => self.numbers::<UInt64Type>(name),
        }
    }

    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        let mut out = Vec::new();
        self.each(name, |a| {
            out.extend(a.as_string::<i32>().iter().map(|s| s.unwrap_or_default().to_string()))
        })?;
        Ok(out)
    }

    pub fn optional_texts(&self, name: &str) -> Result<Vec<Option<String>>> {
        let mut out = Vec::new();
        self.each(name, |a| out.extend(a.as_string::<i32>().iter().map(|s| s.map(str::to_string))))?;
        Ok(out)
    }

    /// A FixedSizeBinary column of `N` bytes.
    pub fn bytes<const N: usize>(&self, name: &str) -> Result<Vec<[u8; N]>> {
        let mut out: Vec<[u8; N]> = Vec::new();
        self.each(name, |a| {
            out.extend(a.as_fixed_size_binary().iter().map(|b| -> [u8; N] {
                b.unwrap_or_default().try_into().expect("the contract fixes the width and forbids nulls")
            }))
        })?;
        Ok(out)
    }

    /// How many numbers a FixedSizeList column holds in each row.
    pub fn width(&self, name: &str) -> usize {
        match self.schema.field_with_name(name).map(|f| f.data_type()) {
            Ok(DataType::FixedSizeList(_, n)) => *n as usize,
            _ => 0,
        }
    }

    /// A FixedSizeList<Float32> column as a matrix, one row per row.
    pub fn matrix(&self, name: &str) -> Result<Matrix> {
        let mut out = Vec::new();
        self.each(name, |a| {
            out.extend_from_slice(a.as_fixed_size_list().values().as_primitive::<Float32Type>().values())
        })?;
        Ok(Matrix::from_vec(self.rows() as usize, self.width(name), out))
    }

    /// A List column of numbers, one list a row; empty ones where the file has no such column.
    pub fn lists<T: ArrowPrimitiveType>(&self, name: &str) -> Result<Vec<Vec<T::Native>>> {
        let mut out = Vec::new();
        if !self.has(name) {
            out.resize(self.rows() as usize, Vec::new());
            return Ok(out);
        }
        self.each(name, |a| {
            let lists = a.as_list::<i32>();
            out.extend((0..lists.len()).map(|i| lists.value(i).as_primitive::<T>().values().to_vec()));
        })?;
        Ok(out)
    }

    /// A FixedSizeList<Float64> column, row after row.
    pub fn f64s(&self, name: &str) -> Result<Vec<f64>> {
        let mut out = Vec::new();
        self.each(name, |a| {
            out.extend_from_slice(a.as_fixed_size_list().values().as_primitive::<Float64Type>().values())
        })?;
        Ok(out)
    }
}

/// Rows of the record batch, if its header fits the schema and everything lies inside the file.
fn check_block(
    file: &[u8],
    end: usize,
    block: &Block,
    version: MetadataVersion,
    schema: &Schema,
) -> Result<u64, String> {
    let outside = || "it lies outside the file".to_string();
    let start = usize::try_from(block.offset()).map_err(|_| outside())?;
    let head = usize::try_from(block.metaDataLength()).map_err(|_| outside())?;
    let body = usize::try_from(block.bodyLength()).map_err(|_| outside())?;
    let stop = start.checked_add(head).and_then(|x| x.checked_add(body)).filter(|&x| x <= end);
    if stop.is_none() || head < 16 || start % 8 != 0 {
        return Err(outside());
    }
    let header = &file[start..start + head];
    if header[..4] != [0xff; 4] {
        return Err("its header has no mark".into());
    }
    let message =
        arrow_ipc::root_as_message(&header[8..]).map_err(|e| format!("its header cannot be read ({e})"))?;
    if message.version() != version || message.header_type() != MessageHeader::RecordBatch {
        return Err("its header is of another type".into());
    }
    let batch = message.header_as_record_batch().ok_or("its header is empty")?;
    if batch.compression().is_some() {
        return Err("it is compressed, which this format does not use".into());
    }
    let rows = u64::try_from(batch.length()).map_err(|_| "it has a negative length")?;
    let mut walk = Walk {
        nodes: batch.nodes().ok_or("its header has no nodes")?.iter().collect::<Vec<_>>().into_iter(),
        buffers: batch.buffers().ok_or("its header has no buffers")?.iter().collect::<Vec<_>>().into_iter(),
        body: body as u64,
    };
    for field in schema.fields() {
        walk.field(field, Some(rows)).map_err(|e| format!("column `{}`: {e}", field.name()))?;
    }
    Ok(rows)
}

/// Checks the nodes and buffers of a record batch in the order in which the decoder will take them, so that it cannot be
/// led outside the file: it slices first and validates later.
struct Walk<'a> {
    nodes: std::vec::IntoIter<&'a FieldNode>,
    buffers: std::vec::IntoIter<&'a arrow_ipc::Buffer>,
    body: u64,
}

impl Walk<'_> {
    /// The next buffer: `entries` numbers of `width` bytes, perhaps some more. The decoder reads list offsets without
    /// looking at their alignment, so that is settled here.
    fn buffer(&mut self, entries: u64, width: u64) -> Result<(), String> {
        let b = self.buffers.next().ok_or("a buffer is missing")?;
        let (Ok(offset), Ok(length)) = (u64::try_from(b.offset()), u64::try_from(b.length())) else {
            return Err("a buffer lies outside the file".into());
        };
        if offset % 8 != 0 || (width > 0 && length % width != 0) {
            return Err("a buffer is not aligned".into());
        }
        if offset.checked_add(length).is_none_or(|end| end > self.body) {
            return Err("a buffer lies outside the file".into());
        }
        if entries.checked_mul(width).is_none_or(|need| need > length) {
            return Err("a buffer is too short".into());
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, rows: Option<u64>) -> Result<(), String> {
        let node = self.nodes.next().ok_or("a node is missing")?;
        let length = u64::try_from(node.length()).map_err(|_| "a length is negative")?;
        let nulls = u64::try_from(node.null_count()).map_err(|_| "a null count is negative")?;
        if rows.is_some_and(|r| r != length) {
            return Err(format!("it has {length} entries, not {}", rows.unwrap_or_default()));
        }
        if length > i64::MAX as u64 / 64 || nulls > length || (nulls > 0 && !field.is_nullable()) {
            return Err(format!("it has {nulls} nulls in {length} entries"));
        }
        self.buffer(if nulls > 0 { length.div_ceil(8) } else { 0 }, 1)?;
        let offsets = if length == 0 { 0 } else { length + 1 };
        match field.data_type() {
            DataType::Boolean => self.buffer(length.div_ceil(8), 1),
            DataType::UInt16 => self.buffer(length, 2),
            DataType::UInt32 | DataType::Int32 | DataType::Float32 => self.buffer(length, 4),
            DataType::UInt64 | DataType::Float64 => self.buffer(length, 8),
            DataType::FixedSizeBinary(n) if *n >= 0 => self.buffer(length, *n as u64),
            DataType::Utf8 => {
                self.buffer(offsets, 4)?;
                self.buffer(0, 1)
            }
            DataType::List(item) => {
                self.buffer(offsets, 4)?;
                self.field(item, None)
            }
            DataType::FixedSizeList(item, n) if *n >= 0 => {
                let inner = length.checked_mul(*n as u64).ok_or("it is too long")?;
                self.field(item, Some(inner))
            }
            other => Err(format!("the type {other} does not occur in this format")),
        }
    }
}
