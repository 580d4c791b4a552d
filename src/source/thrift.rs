//! Thrift structures in the compact protocol, walked with limits: Parquet's footers, page headers and offset indexes.
//!
//! No count or length in a file is believed before the bytes that it promises are there. A walk is O(bytes) in time and
//! takes no memory, whatever the bytes say. What passes [`Thrift::check`] is read by the parquet crate in the same way:
//! each known field has its type, and none stands twice.
//! Format: `thrift-compact-protocol.md` of Apache Thrift.

/// Types in the compact protocol.
pub(super) mod kind {
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
    pub const UUID: u8 = 13;
}

/// Values inside one another beyond this are in no Parquet file.
const DEPTH: usize = 16;

/// What a value has to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Bool,
    I8,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List(&'static Shape),
    /// Fields by id. What is not listed may be anything, and is skipped.
    Struct(&'static [(i64, Shape)]),
}

impl Shape {
    fn fits(self, found: u8) -> bool {
        match self {
            Shape::Bool => matches!(found, kind::TRUE | kind::FALSE),
            Shape::I8 => found == kind::I8,
            // One and the same on disk: a number of any length.
            Shape::I16 | Shape::I32 | Shape::I64 => matches!(found, kind::I16 | kind::I32 | kind::I64),
            Shape::Double => found == kind::DOUBLE,
            Shape::Binary => found == kind::BINARY,
            // A set looks like a list, and other readers do not take it for one.
            Shape::List(_) => found == kind::LIST,
            Shape::Struct(_) => found == kind::STRUCT,
        }
    }
}

#[derive(Clone)]
pub(super) struct Thrift<'a> {
    pub rest: &'a [u8],
}

/// The numbers and truth values (0, 1) of a structure, by field id.
pub(super) type Numbers = [Option<i64>; 16];

impl<'a> Thrift<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Thrift { rest }
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
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
    pub fn number(&mut self) -> Option<i64> {
        let n = self.varint()?;
        Some((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    pub fn binary(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }

    /// Calls `field` with the id and type of every field of a structure; it must read or skip the value.
    pub fn fields(&mut self, mut field: impl FnMut(&mut Self, i64, u8) -> Option<()>) -> Option<()> {
        let mut id = 0;
        let mut seen = 0u128;
        loop {
            let head = self.byte()?;
            // The lower half alone ends a structure.
            if head & 15 == 0 {
                return (head == 0).then_some(());
            }
            id = if head >> 4 == 0 { self.number()? } else { id + i64::from(head >> 4) };
            i16::try_from(id).ok()?;
            if let Some(bit) = u32::try_from(id).ok().and_then(|id| 1u128.checked_shl(id)) {
                // Readers differ in which of two they take.
                if seen & bit != 0 {
                    return None;
                }
                seen |= bit;
            }
            field(self, id, head & 15)?;
        }
    }

    /// The number of elements of a list and their type: at most one for each byte that is left.
    pub fn list(&mut self) -> Option<(usize, u8)> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        self.elements(count, head & 15, 0)
    }

    /// Refuses counts that the bytes left cannot hold, and truth values: nothing in Parquet that is read here has a list of
    /// them, and libraries differ in whether they take a byte each.
    fn elements(&self, count: u64, first: u8, second: u8) -> Option<(usize, u8)> {
        let least = |kind: u8| match kind {
            kind::DOUBLE => 8,
            kind::UUID => 16,
            _ => 1,
        };
        let truth = |kind: u8| matches!(kind, kind::TRUE | kind::FALSE);
        let count = usize::try_from(count).ok()?;
        let size = least(first) + if second == 0 { 0 } else { least(second) };
        let fits = count.checked_mul(size)? <= self.rest.len() && i32::try_from(count).is_ok();
        (count == 0 || fits && !truth(first) && !truth(second)).then_some((count, first))
    }

    /// All numbers of a structure that have one of the types `integers`, and its truth values. A number of another type is none,
    /// as for readers that were generated from `parquet.thrift`.
    pub fn numbers(&mut self, integers: &[u8]) -> Option<Numbers> {
        let mut out = Numbers::default();
        self.fields(|thrift, id, kind| {
            let slot = usize::try_from(id).ok().and_then(|id| out.get_mut(id));
            match (kind, slot) {
                (kind::TRUE | kind::FALSE, Some(slot)) => *slot = Some(i64::from(kind == kind::TRUE)),
                (_, Some(slot)) if integers.contains(&kind) => *slot = Some(thrift.number()?),
                _ => thrift.skip(kind)?,
            }
            Some(())
        })?;
        Some(out)
    }

    /// Goes past a value of any type.
    pub fn skip(&mut self, kind: u8) -> Option<()> {
        self.skip_within(kind, DEPTH)
    }

    fn skip_within(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            // A truth value is its type.
            kind::TRUE | kind::FALSE => Some(()),
            kind::I8 => self.take(1).map(drop),
            kind::I16 | kind::I32 | kind::I64 => self.varint().map(drop),
            kind::DOUBLE => self.take(8).map(drop),
            kind::UUID => self.take(16).map(drop),
            kind::BINARY => self.binary().map(drop),
            kind::LIST | kind::SET => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.skip_within(kind, depth))
            }
            kind::MAP => {
                let count = self.varint()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                let (count, _) = self.elements(count, kinds >> 4, kinds & 15)?;
                (0..count).try_for_each(|_| {
                    self.skip_within(kinds >> 4, depth)?;
                    self.skip_within(kinds & 15, depth)
                })
            }
            kind::STRUCT => self.fields(|thrift, _, kind| thrift.skip_within(kind, depth)),
            _ => None,
        }
    }

    /// Goes past a structure with these fields; None if it is damaged, or a field is not what it has to be.
    pub fn check(&mut self, fields: &'static [(i64, Shape)]) -> Option<()> {
        self.check_within(Shape::Struct(fields), kind::STRUCT, DEPTH)
    }

    fn check_within(&mut self, shape: Shape, found: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        if !shape.fits(found) {
            return None;
        }
        match shape {
            Shape::I16 => i16::try_from(self.number()?).ok().map(drop),
            Shape::I32 => i32::try_from(self.number()?).ok().map(drop),
            Shape::List(element) => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.check_within(*element, kind, depth))
            }
            Shape::Struct(known) => {
                self.fields(|thrift, id, kind| match known.iter().find(|(other, _)| *other == id) {
                    Some((_, shape)) => thrift.check_within(*shape, kind, depth),
                    None => thrift.skip_within(kind, depth),
                })
            }
            _ => self.skip_within(found, depth + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: &[(i64, Shape)] = &[(1, Shape::I32), (2, Shape::List(&Shape::Binary))];
    const OUTER: &[(i64, Shape)] = &[(1, Shape::Struct(INNER)), (2, Shape::Bool), (3, Shape::I16)];

    fn check(bytes: &[u8]) -> Option<usize> {
        let mut thrift = Thrift::new(bytes);
        thrift.check(OUTER)?;
        Some(bytes.len() - thrift.rest.len())
    }

    #[test]
    fn known_fields_have_their_type_and_stand_once() {
        // {1: {1: 5, 2: ["a"]}, 2: true, 3: -1, 9: 1.5}
        let good =
            [0x1c, 0x15, 10, 0x19, 0x18, 1, b'a', 0, 0x11, 0x14, 1, 0x67, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0, 7];
        assert_eq!(check(&good), Some(21), "what follows is not looked at");
        for length in 0..21 {
            assert_eq!(check(&good[..length]), None, "cut at {length}");
        }
        assert_eq!(check(&[0x15, 2, 0]), None, "a number for a structure");
        assert_eq!(check(&[0x1c, 0x2a, 0x18, 1, b'a', 0, 0]), None, "a set for a list");
        assert_eq!(check(&[0x11, 0]), None, "truth for a structure");
        assert_eq!(check(&[0x21, 0x04, 4, 2, 0]), None, "field 2 twice");
        assert_eq!(check(&[0x34, 0x80, 0x80, 0x04, 0]), None, "65536 / 2 is no i16");
        assert_eq!(check(&[0x10, 0]), None, "an end with a number");
    }

    #[test]
    fn counts_are_not_believed() {
        let long = [255, 255, 255, 255, 7];
        for head in [0xf1, 0xf2, 0xf5, 0xf7, 0xf8, 0xfc] {
            // Field 9, which is not known: a list of 2^31 - 1 elements; then ten more in it.
            let mut bytes = vec![0x99, head];
            bytes.extend(long);
            bytes.extend([0; 40]);
            assert_eq!(check(&bytes), None, "list of {head:x}");
        }
        assert_eq!(check(&[0x99, 0x31, 1, 1, 1, 0]), None, "truth values in a list");
        assert_eq!(check(&[0x99, 0x01, 0]), Some(3), "none of them");
        assert_eq!(check(&[0x99, 0, 0]), Some(3), "an empty list without a type");
        assert_eq!(check(&[0x9b, 3, 0x88, 0, 0]), None, "a map of three in four bytes");
        assert_eq!(check(&[0x9b, 1, 0x55, 2, 4, 0]), Some(6));
        assert_eq!(check(&[0x9c; 4000]), None, "structures without end");
        assert_eq!(check(&[0x98, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]), None);
    }
}
