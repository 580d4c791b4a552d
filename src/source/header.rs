//! Page headers, which stand between the pages of a column chunk: Thrift structures in the compact protocol.
//!
//! The parquet crate keeps its own parser to itself and hands out pages in buffers of their own. Reading headers here
//! lets [`pages`](super::pages) read values to where they are wanted, and look at no more of a page than it must. Only the
//! fields that decide where values lie are taken; what is unknown or new is skipped, what is damaged is None.
//! Formats: `parquet.thrift` of Apache Parquet, `thrift-compact-protocol.md` of Apache Thrift.

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Levels and values compressed as one.
    V1 {
        definition: i32,
        repetition: i32,
    },
    /// Levels uncompressed before the values; lengths in bytes.
    V2 {
        rows: usize,
        definition: usize,
        repetition: usize,
        compressed: bool,
    },
    Dictionary,
    /// An index page, or a kind that came later.
    Other,
}

/// A page's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the header itself.
    pub length: usize,
    /// Bytes of the page after the header, as stored and uncompressed.
    pub stored: usize,
    pub full: usize,
    /// Leaf values (with nulls), or entries of the dictionary.
    pub values: usize,
    /// Number of the encoding in `parquet.thrift`.
    pub encoding: i32,
    pub form: Form,
}

/// Numbers of encodings in `parquet.thrift`.
pub(super) mod encoding {
    pub const PLAIN: i32 = 0;
    pub const PLAIN_DICTIONARY: i32 = 2;
    pub const RLE: i32 = 3;
    pub const RLE_DICTIONARY: i32 = 8;
    pub const BYTE_STREAM_SPLIT: i32 = 9;
}

/// Types in the compact protocol.
mod kind {
    pub const TRUE: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const I8: u8 = 3;
    pub const I16: u8 = 4;
    pub const I32: u8 = 5;
    pub const I64: u8 = 6;
    pub const DOUBLE: u8 = 7;
    pub const BINARY: u8 = 8;
    pub const LIST: u8 = 9;
    pub const SET: u8 = 10;
    pub const MAP: u8 = 11;
    pub const STRUCT: u8 = 12;
}

/// Structures inside one another beyond this are no page header.
const DEPTH: usize = 8;

impl Header {
    /// The header at the beginning of `bytes`; None if it is damaged or `bytes` end within it.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let mut thrift = Thrift { rest: bytes };
        let (mut page, mut full, mut stored) = (None, None, None);
        let (mut v1, mut v2, mut dictionary) = (None, None, None);
        thrift.fields(|thrift, id, kind| {
            match (id, kind) {
                (1, kind::I32) => page = Some(thrift.number()?),
                (2, kind::I32) => full = Some(thrift.number()?),
                (3, kind::I32) => stored = Some(thrift.number()?),
                (5, kind::STRUCT) => v1 = Some(thrift.numbers()?),
                (7, kind::STRUCT) => dictionary = Some(thrift.numbers()?),
                (8, kind::STRUCT) => v2 = Some(thrift.numbers()?),
                _ => thrift.skip(kind, DEPTH)?,
            }
            Some(())
        })?;
        let size = |n: Option<i64>| usize::try_from(n?).ok();
        let small = |n: Option<i64>| i32::try_from(n?).ok();
        let (values, encoding, form) = match page? {
            0 => {
                let v1: Numbers = v1?;
                let form = Form::V1 { definition: small(v1[3])?, repetition: small(v1[4])? };
                (size(v1[1])?, small(v1[2])?, form)
            }
            2 => {
                let dictionary: Numbers = dictionary?;
                (size(dictionary[1])?, small(dictionary[2])?, Form::Dictionary)
            }
            3 => {
                let v2: Numbers = v2?;
                let form = Form::V2 {
                    rows: size(v2[3])?,
                    definition: size(v2[5])?,
                    repetition: size(v2[6])?,
                    compressed: v2[7] != Some(0),
                };
                (size(v2[1])?, small(v2[4])?, form)
            }
            _ => (0, 0, Form::Other),
        };
        let length = bytes.len() - thrift.rest.len();
        Some(Header { length, stored: size(stored)?, full: size(full)?, values, encoding, form })
    }
}

/// The numbers and truth values (0, 1) of a structure, by field id.
type Numbers = [Option<i64>; 8];

struct Thrift<'a> {
    rest: &'a [u8],
}

impl Thrift<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn take(&mut self, length: usize) -> Option<()> {
        self.rest = self.rest.split_at_checked(length)?.1;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut out = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            out |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(out);
            }
        }
        None
    }

    /// An integer of any width: zigzag.
    fn number(&mut self) -> Option<i64> {
        let n = self.varint()?;
        Some((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// Calls `field` with the id and type of every field of a structure; it must read or skip the value.
    fn fields(&mut self, mut field: impl FnMut(&mut Self, i64, u8) -> Option<()>) -> Option<()> {
        let mut id = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            id = if head >> 4 == 0 { self.number()? } else { id + i64::from(head >> 4) };
            field(self, id, head & 15)?;
        }
    }

    fn numbers(&mut self) -> Option<Numbers> {
        let mut out = [None; 8];
        self.fields(|thrift, id, kind| {
            let slot = usize::try_from(id).ok().and_then(|id| out.get_mut(id));
            match (kind, slot) {
                (kind::TRUE | kind::FALSE, Some(slot)) => *slot = Some(i64::from(kind == kind::TRUE)),
                (kind::I16 | kind::I32 | kind::I64, Some(slot)) => *slot = Some(thrift.number()?),
                _ => thrift.skip(kind, DEPTH)?,
            }
            Some(())
        })?;
        Some(out)
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            // A truth value is its type, except in a list.
            kind::TRUE | kind::FALSE => Some(()),
            kind::I8 => self.take(1),
            kind::I16 | kind::I32 | kind::I64 => self.varint().map(drop),
            kind::DOUBLE => self.take(8),
            kind::BINARY => {
                let length = self.varint()?;
                self.take(usize::try_from(length).ok()?)
            }
            kind::LIST | kind::SET => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                (0..count).try_for_each(|_| self.skip_element(head & 15, depth))
            }
            kind::MAP => {
                let count = self.varint()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                (0..count).try_for_each(|_| {
                    self.skip_element(kinds >> 4, depth)?;
                    self.skip_element(kinds & 15, depth)
                })
            }
            kind::STRUCT => self.fields(|thrift, _, kind| thrift.skip(kind, depth)),
            _ => None,
        }
    }

    fn skip_element(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            kind::TRUE | kind::FALSE => self.take(1),
            _ => self.skip(kind, depth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 1: 300 values, PLAIN, levels RLE, statistics of two texts; then a field that is not known yet.
    const V1: [u8; 31] = [
        0x15, 0, 0x15, 0x90, 3, 0x15, 0x8c, 3, 0x2c, 0x15, 0xd8, 4, 0x15, 0, 0x15, 6, 0x15, 6, 0x1c, 0x58, 2,
        9, 9, 0x18, 1, 9, 0, 0, 0x49, 0x05, 0,
    ];

    #[test]
    fn a_header_is_read_and_the_unknown_skipped() {
        let expected = Header {
            length: 31,
            stored: 198,
            full: 200,
            values: 300,
            encoding: encoding::PLAIN,
            form: Form::V1 { definition: encoding::RLE, repetition: encoding::RLE },
        };
        // Field 5 + 4 = 9 is an empty list of I32.
        let mut bytes = V1.to_vec();
        assert_eq!(Header::parse(&bytes), Some(expected));
        bytes.extend([1, 2, 3]);
        assert_eq!(Header::parse(&bytes), Some(expected), "what follows is not looked at");
        for length in 0..V1.len() {
            assert_eq!(Header::parse(&V1[..length]), None, "cut at {length}");
        }
    }

    #[test]
    fn damaged_headers_end() {
        // Any byte changed to any value: an answer, and no more bytes claimed than there are.
        for i in 0..V1.len() {
            for byte in 0..=255 {
                let mut bytes = V1;
                bytes[i] = byte;
                assert!(Header::parse(&bytes).is_none_or(|h| h.length <= bytes.len()));
            }
        }
        // Structures without end, lists that promise 2^62 elements, and a varint that never stops.
        assert_eq!(Header::parse(&[0x1c; 4000]), None);
        let huge = [0x99, 0xf1, 255, 255, 255, 255, 255, 255, 255, 127];
        assert_eq!(Header::parse(&huge), None);
        assert_eq!(Header::parse(&[0x15, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]), None);
    }
}
