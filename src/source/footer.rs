//! Whether a Parquet footer can be what it says, before the parquet crate sees it.
//!
//! A footer is a few kilobytes that decide what is read, how far and into how much memory. Here it is walked once: its
//! structures are whole, its schema is a tree, and all that it promises lies in the file. Format: `parquet.thrift` of
//! Apache Parquet.

use std::ops::Range;

use super::thrift::Shape::{self, Binary, Bool, Double, I8, I16, I32, I64, List, Struct};
use super::thrift::{Numbers, Thrift, kind};

/// Groups inside one another in a schema.
const DEPTH: usize = 64;
/// Bytes of a footer that describe one column chunk, at the least.
const CHUNK: usize = 16;

const EMPTY: Shape = Struct(&[]);
const UNIT: Shape = Struct(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]);
const TIME: Shape = Struct(&[(1, Bool), (2, UNIT)]);
const LOGICAL: Shape = Struct(&[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, Struct(&[(1, I32), (2, I32)])),
    (6, EMPTY),
    (7, TIME),
    (8, TIME),
    (10, Struct(&[(1, I8), (2, Bool)])),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
    (16, Struct(&[(1, I8)])),
    (17, Struct(&[(1, Binary)])),
    (18, Struct(&[(1, Binary), (2, I32)])),
]);
const ELEMENT: Shape = Struct(&[
    (1, I32),
    (2, I32),
    (3, I32),
    (4, Binary),
    (5, I32),
    (6, I32),
    (7, I32),
    (8, I32),
    (9, I32),
    (10, LOGICAL),
]);
pub(super) const STATISTICS: Shape = Struct(&[
    (1, Binary),
    (2, Binary),
    (3, I64),
    (4, I64),
    (5, Binary),
    (6, Binary),
    (7, Bool),
    (8, Bool),
    (9, I64),
]);
const BOX: Shape = Struct(&[
    (1, Double),
    (2, Double),
    (3, Double),
    (4, Double),
    (5, Double),
    (6, Double),
    (7, Double),
    (8, Double),
]);
const KEY_VALUE: Shape = Struct(&[(1, Binary), (2, Binary)]);
const COLUMN: Shape = Struct(&[
    (1, I32),
    (2, List(&I32)),
    (3, List(&Binary)),
    (4, I32),
    (5, I64),
    (6, I64),
    (7, I64),
    (8, List(&KEY_VALUE)),
    (9, I64),
    (10, I64),
    (11, I64),
    (12, STATISTICS),
    (13, List(&Struct(&[(1, I32), (2, I32), (3, I32)]))),
    (14, I64),
    (15, I32),
    (16, Struct(&[(1, I64), (2, List(&I64)), (3, List(&I64))])),
    (17, Struct(&[(1, BOX), (2, List(&I32))])),
]);
const COLUMN_CHUNK: Shape =
    Struct(&[(1, Binary), (2, I64), (3, COLUMN), (4, I64), (5, I32), (6, I64), (7, I32), (9, Binary)]);
const ROW_GROUP: Shape = Struct(&[
    (1, List(&COLUMN_CHUNK)),
    (2, I64),
    (3, I64),
    (4, List(&Struct(&[(1, I32), (2, Bool), (3, Bool)]))),
    (5, I64),
    (6, I64),
    (7, I16),
]);
/// All of a footer.
const FILE: &[(i64, Shape)] = &[
    (1, I32),
    (2, List(&ELEMENT)),
    (3, I64),
    (4, List(&ROW_GROUP)),
    (5, List(&KEY_VALUE)),
    (6, Binary),
    (7, List(&Struct(&[(1, EMPTY), (2, EMPTY)]))),
];

/// Physical types in `parquet.thrift`: BOOLEAN to FIXED_LEN_BYTE_ARRAY.
const FIXED: i64 = 7;
/// Codecs in `parquet.thrift`: UNCOMPRESSED to LZ4_RAW.
const CODECS: Range<i64> = 0..8;

/// What of a footer is used beside what the parquet crate makes of it.
#[derive(Debug, Default)]
pub(super) struct Footer {
    /// Leaves (by number) that are encrypted.
    pub encrypted: Vec<usize>,
    /// What the chunks, indexes and filters take of the file, from the first byte to the last.
    pub used: Option<Range<u64>>,
    /// The same of the offset indexes alone.
    pub indexes: Option<Range<u64>>,
    /// Where the list of row groups begins, if it is empty and says of no type: fastparquet writes it so, the parquet
    /// crate wants [`STRUCTS`].
    pub untyped: Option<usize>,
}

/// The head of an empty list of structures.
pub(super) const STRUCTS: u8 = kind::STRUCT;

/// A column that stores values.
struct Leaf {
    name: String,
    physical: i64,
    flat: bool,
}

impl Footer {
    /// Checks the footer in `bytes`, which begins at byte `start` of its file.
    pub fn check(bytes: &[u8], start: u64) -> Result<Footer, String> {
        let cut = || "it is cut off or overwritten".to_string();
        Thrift::new(bytes).check(FILE).ok_or_else(cut)?;
        let (mut leaves, mut groups, mut rows) = (Ok(Vec::new()), None, None);
        // Groups are looked at when the schema is known, wherever it stands.
        Thrift::new(bytes)
            .fields(|thrift, id, kind| {
                match (id, kind) {
                    (2, _) => {
                        leaves = schema(&mut thrift.clone())?;
                        thrift.skip(kind)?;
                    }
                    (3, _) => rows = Some(thrift.number()?),
                    (4, _) => {
                        groups = Some(thrift.clone());
                        thrift.skip(kind)?;
                    }
                    _ => thrift.skip(kind)?,
                }
                Some(())
            })
            .ok_or_else(cut)?;
        let leaves = leaves?;
        let mut groups = groups.ok_or("it has no row groups, not even a list of none")?;
        let list = bytes.len() - groups.rest.len();
        let (count, element) = groups.list().ok_or_else(cut)?;
        if count.checked_mul(leaves.len()).is_none_or(|chunks| chunks > bytes.len() / CHUNK) {
            return Err(format!("{count} row groups of {} columns in {} bytes", leaves.len(), bytes.len()));
        }
        let mut footer =
            Footer { untyped: (count == 0 && element == 0).then_some(list), ..Footer::default() };
        let mut sum = 0i64;
        for group in 0..count {
            let more = footer
                .row_group(&mut groups, &leaves, start)
                .ok_or_else(cut)?
                .map_err(|reason| format!("row group {group}, {reason}"))?;
            sum = sum.checked_add(more).ok_or("the rows of its row groups are more than can be counted")?;
        }
        match rows {
            Some(rows) if rows == sum => Ok(footer),
            Some(rows) => Err(format!("it has {rows} rows, and its row groups have {sum}")),
            None => Err("it does not say how many rows there are".into()),
        }
    }

    /// Checks one row group: its rows. None where the structure is damaged.
    fn row_group(&mut self, thrift: &mut Thrift, leaves: &[Leaf], start: u64) -> Option<Result<i64, String>> {
        let (mut chunks, mut rows) = (None, None);
        thrift.fields(|thrift, id, kind| match id {
            1 => {
                chunks = Some(thrift.clone());
                thrift.skip(kind)
            }
            3 => thrift.number().map(|n| rows = Some(n)),
            _ => thrift.skip(kind),
        })?;
        let (mut chunks, rows) = (chunks?, rows?);
        let (count, _) = chunks.list()?;
        if count != leaves.len() {
            return Some(Err(format!("{count} columns where the schema has {}", leaves.len())));
        }
        if rows < 0 {
            return Some(Err(format!("{rows} rows")));
        }
        for (number, leaf) in leaves.iter().enumerate() {
            let chunk = Chunk::read(&mut chunks)?;
            if chunk.encrypted {
                self.encrypted.push(number);
            }
            if let Err(reason) = self.chunk(&chunk, leaf, rows, start) {
                return Some(Err(format!("column `{}`: {reason}", leaf.name)));
            }
        }
        Some(Ok(rows))
    }

    fn chunk(&mut self, chunk: &Chunk, leaf: &Leaf, rows: i64, start: u64) -> Result<(), String> {
        if chunk.path {
            return Err("it lies in another file".into());
        }
        if !chunk.whole && chunk.encrypted {
            return Err("it is encrypted".into());
        }
        let of = |id: usize| chunk.column[id].ok_or("its description is not whole");
        let (physical, codec, values) = (of(1)?, of(4)?, of(5)?);
        if physical != leaf.physical {
            return Err(format!("it has type {physical} where the schema has {}", leaf.physical));
        }
        if !CODECS.contains(&codec) {
            return Err(format!("it is compressed with codec {codec}, which is not known"));
        }
        if values < rows || leaf.flat && values != rows {
            return Err(format!("it has {values} values in {rows} rows"));
        }
        if of(6)? < 0 {
            return Err(format!("it is {} bytes long", of(6)?));
        }
        // Where there are no values there is no data page, and writers say that it begins at byte 0.
        let first_data = of(9)?;
        let absent = values == 0 && first_data == 0;
        if !absent {
            self.inside(first_data, 0, start)?;
        }
        match chunk.column[11] {
            None if absent && of(7)? == 0 => {}
            first => {
                self.inside(first.unwrap_or(first_data), of(7)?, start)?;
            }
        }
        if let Some(offset) = chunk.own[4] {
            let index = self.inside(offset, chunk.own[5].unwrap_or(0), start)?;
            let all = self.indexes.get_or_insert(index.clone());
            *all = all.start.min(index.start)..all.end.max(index.end);
        }
        for (offset, length) in [(chunk.own[6], chunk.own[7]), (chunk.column[14], chunk.column[15])] {
            if let Some(offset) = offset {
                self.inside(offset, length.unwrap_or(0), start)?;
            }
        }
        Ok(())
    }

    /// Notes a piece of the file, which must lie between the magic number and the footer.
    fn inside(&mut self, offset: i64, length: i64, start: u64) -> Result<Range<u64>, String> {
        let piece = u64::try_from(offset).ok().zip(u64::try_from(length).ok());
        let piece = piece.and_then(|(from, length)| Some(from..from.checked_add(length)?));
        match piece.filter(|piece| piece.start >= 4 && piece.end <= start) {
            Some(piece) => {
                let used = self.used.get_or_insert(piece.clone());
                *used = used.start.min(piece.start)..used.end.max(piece.end);
                Ok(piece)
            }
            None => {
                Err(format!("it takes {length} bytes from byte {offset} on, which are not all in the file"))
            }
        }
    }
}

/// What a row group says of one column.
struct Chunk {
    /// Of the chunk and of its column, by field.
    own: Numbers,
    column: [Option<i64>; 18],
    whole: bool,
    encrypted: bool,
    path: bool,
}

impl Chunk {
    fn read(thrift: &mut Thrift) -> Option<Chunk> {
        let mut out =
            Chunk { own: [None; 16], column: [None; 18], whole: false, encrypted: false, path: false };
        thrift.fields(|thrift, id, kind| {
            match (id, kind) {
                (1, _) => out.path = !thrift.binary()?.is_empty(),
                (3, _) => {
                    out.whole = true;
                    thrift.fields(|thrift, id, kind| match (usize::try_from(id), kind) {
                        (Ok(id @ ..18), kind::I16 | kind::I32 | kind::I64) => {
                            out.column[id] = Some(thrift.number()?);
                            Some(())
                        }
                        _ => thrift.skip(kind),
                    })?;
                }
                (2 | 4..=7, _) => out.own[id as usize] = Some(thrift.number()?),
                (8 | 9, _) => {
                    out.encrypted = true;
                    thrift.skip(kind)?;
                }
                _ => thrift.skip(kind)?,
            }
            Some(())
        })?;
        Some(out)
    }
}

/// The leaves of a schema, a tree written depth first. Outer None where the structure is damaged.
fn schema(thrift: &mut Thrift) -> Option<Result<Vec<Leaf>, String>> {
    let (count, _) = thrift.list()?;
    let mut leaves = Vec::new();
    // Children still to come of each group that is open, and whether anything in it is repeated.
    let mut open: Vec<(usize, bool)> = Vec::new();
    for number in 0..count {
        let (mut name, mut numbers) = (&[][..], [None; 10]);
        thrift.fields(|thrift, id, kind| match (usize::try_from(id), kind) {
            (Ok(4), _) => thrift.binary().map(|bytes| name = bytes),
            (Ok(id @ ..10), kind::I16 | kind::I32 | kind::I64) => {
                numbers[id] = Some(thrift.number()?);
                Some(())
            }
            _ => thrift.skip(kind),
        })?;
        let name = String::from_utf8_lossy(name).into_owned();
        let wrong = |what: String| Some(Err(format!("column `{name}`: {what}")));
        let [_, physical, length, repetition, _, children, ..] = numbers;
        let children = children.unwrap_or(0);
        if number > 0 && open.is_empty() {
            return wrong("it is in no group of the schema".into());
        }
        if children < 0 || children as u64 > (count - number - 1) as u64 {
            return wrong(format!("it has {children} columns in it where {} follow", count - number - 1));
        }
        if repetition.is_some_and(|r| !(0..3).contains(&r)) || number > 0 && repetition.is_none() {
            return wrong("it is not said whether it is optional or repeated".into());
        }
        if let Some((left, _)) = open.last_mut() {
            *left -= 1;
        }
        let repeated =
            open.last().is_some_and(|(_, repeated)| *repeated) || number > 0 && repetition == Some(2);
        if number == 0 || children > 0 {
            if open.len() == DEPTH {
                return wrong(format!("it lies in more than {DEPTH} groups"));
            }
            open.push((children as usize, repeated));
        } else {
            if physical == Some(FIXED) && length.is_none_or(|length| length < 0) {
                return wrong("it has no length".into());
            }
            match physical {
                Some(physical @ 0..=FIXED) => {
                    leaves.push(Leaf { name: name.clone(), physical, flat: !repeated })
                }
                Some(physical) => return wrong(format!("it has type {physical}, which is not known")),
                // A group of nothing.
                None => {}
            }
        }
        while open.last().is_some_and(|(left, _)| *left == 0) {
            open.pop();
        }
    }
    Some(if open.is_empty() { Ok(leaves) } else { Err("its schema ends too early".into()) })
}
