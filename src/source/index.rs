//! Offset indexes: where the data pages of a column chunk lie, for files that say it.

use std::ops::Range;

use super::thrift::Shape::{self, I32, I64, List, Struct};
use super::thrift::{Thrift, kind};

const INDEX: &[(i64, Shape)] = &[(1, List(&Struct(&[(1, I64), (2, I32), (3, I64)]))), (2, List(&I64))];

/// A data page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// Its header included.
    pub bytes: Range<u64>,
    pub first_row: u64,
}

/// The pages that an index of a chunk (these bytes of the file, this many rows) lists: in order, inside the chunk, each
/// beginning with a row. None if it is damaged.
pub(super) fn locations(bytes: &[u8], chunk: &Range<u64>, rows: u64) -> Option<Vec<Location>> {
    Thrift::new(bytes).check(INDEX)?;
    let mut out: Vec<Location> = Vec::new();
    Thrift::new(bytes).fields(|thrift, id, kind| {
        if id != 1 {
            return thrift.skip(kind);
        }
        let (count, _) = thrift.list()?;
        for _ in 0..count {
            let numbers = thrift.numbers(&[kind::I32, kind::I64])?;
            let number = |id: usize| u64::try_from(numbers[id]?).ok();
            let (start, length, first_row) = (number(1)?, number(2)?, number(3)?);
            let (end, least) = match out.last() {
                Some(last) => (last.bytes.end, last.first_row),
                None => (chunk.start, 0),
            };
            let whole = length > 0 && start >= end && start.checked_add(length)? <= chunk.end;
            let in_order = first_row >= least && first_row <= rows && (!out.is_empty() || first_row == 0);
            if !whole || !in_order {
                return None;
            }
            out.push(Location { bytes: start..start + length, first_row });
        }
        Some(())
    })?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_in_order_and_inside() {
        let list = |pages: &[(u8, u8, u8)]| {
            let mut bytes = vec![0x19, (pages.len() as u8) << 4 | 12];
            for (start, length, row) in pages {
                bytes.extend([0x16, start * 2, 0x15, length * 2, 0x16, row * 2, 0]);
            }
            bytes.push(0);
            locations(&bytes, &(10..50), 8)
        };
        let at = |bytes, first_row| Location { bytes, first_row };
        assert_eq!(list(&[]), Some(vec![]));
        assert_eq!(list(&[(12, 20, 0), (32, 18, 5)]), Some(vec![at(12..32, 0), at(32..50, 5)]));
        for wrong in [
            &[(9, 5, 0)][..],
            &[(12, 39, 0)],
            &[(12, 0, 0)],
            &[(12, 5, 1)],
            &[(12, 5, 0), (17, 5, 9)],
            &[(30, 5, 0), (12, 5, 3)],
            &[(12, 9, 0), (20, 9, 3)],
        ] {
            assert_eq!(list(wrong), None, "{wrong:?}");
        }
    }
}
