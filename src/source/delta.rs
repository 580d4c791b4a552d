//! Lengths in the encoding DELTA_BINARY_PACKED, summed up: what texts that are written as differences come to.

use super::hybrid::packed;

/// The sum of a block of lengths, of which there are at least `least` and at most `most`, and the bytes after it. None if
/// the block is cut off, has another number of lengths, or one is negative. O(lengths) time, no memory.
pub(super) fn lengths(mut bytes: &[u8], least: usize, most: usize) -> Option<(u64, &[u8])> {
    let block = usize::try_from(number(&mut bytes)?).ok()?;
    let minis = usize::try_from(number(&mut bytes)?).ok().filter(|&minis| minis > 0)?;
    let count = usize::try_from(number(&mut bytes)?).ok().filter(|count| (least..=most).contains(count))?;
    let mut length = signed(&mut bytes)?;
    let each = block / minis;
    if block % minis != 0 || each == 0 || each % 8 != 0 {
        return None;
    }
    let mut left = count.saturating_sub(1);
    let mut sum = if count == 0 { 0 } else { u64::try_from(length).ok()? };
    while left > 0 {
        let least = signed(&mut bytes)?;
        let (widths, rest) = bytes.split_at_checked(minis)?;
        bytes = rest;
        for &width in widths {
            // What follows the last length may be anything, and need not be there.
            if left == 0 {
                break;
            }
            let width = u32::from(width);
            if width > 32 {
                return None;
            }
            let (deltas, rest) = bytes.split_at((each / 8).checked_mul(width as usize)?.min(bytes.len()));
            bytes = rest;
            let here = left.min(each);
            if deltas.len() * 8 < here * width as usize {
                return None;
            }
            for i in 0..here {
                length = length.checked_add(least)?.checked_add(packed(deltas, width, i) as i64)?;
                // Wraps around, as the numbers of 32 bits do.
                length = i64::from(length as i32);
                sum = sum.checked_add(u64::try_from(length).ok()?)?;
            }
            left -= here;
        }
    }
    Some((sum, bytes))
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut out = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        out |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(out);
        }
    }
    None
}

fn signed(bytes: &mut &[u8]) -> Option<i64> {
    let n = number(bytes)?;
    Some((n >> 1) as i64 ^ -((n & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums() {
        // 7, 5, 3, 1, 2, 3, 4, 5 of the format's own example: deltas -2, -2, -2, 1, 1, 1, 1.
        let mut bytes = vec![128, 1, 4, 8, 14, 3, 2, 0, 0, 0, 0b1100_0000, 0b0011_1111];
        bytes.extend([0; 6]);
        bytes.extend(b"rest");
        assert_eq!(lengths(&bytes, 8, 8), Some((30, &b"rest"[..])));
        assert_eq!(lengths(&bytes, 9, 20), None, "fewer than there must be");
        assert_eq!(lengths(&bytes, 0, 7), None, "more than there can be");
        for cut in 0..12 {
            assert_eq!(lengths(&bytes[..cut], 8, 8), None, "cut at {cut}");
        }
        assert_eq!(lengths(&[128, 1, 4, 0, 0, 9], 0, 0), Some((0, &[9][..])));
        assert_eq!(lengths(&[128, 1, 4, 1, 6], 1, 1), Some((3, &[][..])));
        assert_eq!(lengths(&[128, 1, 4, 1, 5], 1, 1), None, "negative");
        assert_eq!(lengths(&[128, 1, 0, 1, 6], 1, 1), None);
    }
}
