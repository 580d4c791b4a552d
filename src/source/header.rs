//! Page headers, which stand between the pages of a column chunk: Thrift structures in the compact protocol.
//!
//! The parquet crate keeps its own parser to itself and hands out pages in buffers of their own. Reading headers here
//! lets [`pages`](super::pages) read values to where they are wanted, and look at no more of a page than it must. Only the
//! fields that decide where values lie are taken; what is unknown or new is skipped, what is damaged is None.
//! Formats: `parquet.thrift` of Apache Parquet, `thrift-compact-protocol.md` of Apache Thrift.

use super::thrift::{Numbers, Thrift, kind};

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
    /// CRC-32 of the page as stored.
    pub checksum: Option<u32>,
    pub form: Form,
}

/// Numbers of encodings in `parquet.thrift`.
pub(super) mod encoding {
    pub const PLAIN: i32 = 0;
    pub const PLAIN_DICTIONARY: i32 = 2;
    pub const RLE: i32 = 3;
    pub const BIT_PACKED: i32 = 4;
    pub const DELTA_BINARY_PACKED: i32 = 5;
    pub const DELTA_LENGTH_BYTE_ARRAY: i32 = 6;
    pub const DELTA_BYTE_ARRAY: i32 = 7;
    pub const RLE_DICTIONARY: i32 = 8;
    pub const BYTE_STREAM_SPLIT: i32 = 9;
}

impl Header {
    /// Bytes of levels that are never compressed.
    pub fn levels(&self) -> usize {
        match self.form {
            Form::V2 { definition, repetition, .. } => definition.saturating_add(repetition),
            _ => 0,
        }
    }

    /// The header at the beginning of `bytes`; None if it is damaged or `bytes` end within it.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let mut thrift = Thrift::new(bytes);
        let (mut page, mut full, mut stored, mut checksum) = (None, None, None, None);
        let (mut v1, mut v2, mut dictionary) = (None, None, None);
        thrift.fields(|thrift, id, kind| {
            match (id, kind) {
                (1, kind::I32) => page = Some(thrift.number()?),
                (2, kind::I32) => full = Some(thrift.number()?),
                (3, kind::I32) => stored = Some(thrift.number()?),
                (4, kind::I32) => checksum = Some(thrift.number()? as u32),
                (5, kind::STRUCT) => v1 = Some(thrift.numbers(&[kind::I32])?),
                (7, kind::STRUCT) => dictionary = Some(thrift.numbers(&[kind::I32])?),
                (8, kind::STRUCT) => v2 = Some(thrift.numbers(&[kind::I32])?),
                _ => thrift.skip(kind)?,
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
        let (stored, full) = (size(stored)?, size(full)?);
        // Pages are at most 2 GiB: sums of what a header says do not overflow.
        let lengths = [stored, full, values];
        lengths.iter().all(|&n| i32::try_from(n).is_ok()).then_some(())?;
        Some(Header { length, stored, full, values, encoding, checksum, form })
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
            checksum: None,
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
        // The number of values as an I16.
        bytes[9] = 0x14;
        assert_eq!(Header::parse(&bytes), None);
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
