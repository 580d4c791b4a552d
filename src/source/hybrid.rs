//! Parquet's run-length / bit-packing hybrid, in which levels and places in a dictionary are written.

/// A piece of Parquet's run-length / bit-packing hybrid.
pub(super) enum Run<'a> {
    Same { value: u64, count: usize },
    Packed { bytes: &'a [u8], count: usize },
}

/// The pieces of a hybrid block of `width` bits a value (at most 32); ends early where the block is damaged.
pub(super) struct Runs<'a> {
    rest: &'a [u8],
    width: u32,
}

impl<'a> Runs<'a> {
    pub fn new(rest: &'a [u8], width: u32) -> Self {
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

/// All `count` levels of a hybrid block, none above 255; None if it is damaged.
pub(super) fn levels(block: &[u8], width: u32, count: usize) -> Option<Vec<u8>> {
    if width == 0 {
        return Some(vec![0; count]);
    }
    let mut out = Vec::with_capacity(count);
    for run in Runs::new(block, width) {
        let left = count - out.len();
        match run {
            Run::Same { value, count } => {
                out.extend(std::iter::repeat_n(u8::try_from(value).ok()?, count.min(left)))
            }
            Run::Packed { bytes, count } => {
                out.extend((0..count.min(left)).map(|i| packed(bytes, width, i) as u8))
            }
        }
        if out.len() == count {
            break;
        }
    }
    (out.len() == count).then_some(out)
}

/// Value `i` of a bit-packed piece.
#[inline]
pub(super) fn packed(bytes: &[u8], width: u32, i: usize) -> u64 {
    let bit = i * width as usize;
    word(&bytes[bit / 8..]) >> (bit % 8) & ((1 << width) - 1)
}

/// The first eight bytes, the lowest first, zeros where there are fewer.
#[inline]
pub(super) fn word(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => bytes.iter().rev().fold(0, |v, &byte| v << 8 | u64::from(byte)),
    }
}

/// Which of a block's values are the least and the most there can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub zeros: usize,
    /// Equal to `most`.
    pub full: usize,
    /// The block begins with a zero.
    pub begins: bool,
}

/// Looks at all `count` values of a hybrid block: O(runs), and O(values) in packed runs. None if the block is cut off, or a
/// value is greater than `most`.
pub(super) fn tally(block: &[u8], most: u64, count: usize) -> Option<Tally> {
    let width = u64::BITS - most.leading_zeros();
    let mut out = Tally::default();
    let mut left = count;
    let mut add = |value: u64, count: usize, first: bool| {
        out.zeros += if value == 0 { count } else { 0 };
        out.full += if value == most { count } else { 0 };
        out.begins |= first && value == 0;
        (value <= most).then_some(())
    };
    for run in Runs::new(block, width) {
        if left == 0 {
            break;
        }
        let first = left == count;
        match run {
            Run::Same { count: 0, .. } => {}
            Run::Same { value, count } => {
                let count = count.min(left);
                add(value, count, first)?;
                left -= count;
            }
            Run::Packed { bytes, count } if width == 1 => {
                let count = count.min(left);
                let mut ones = 0;
                for (i, bytes) in bytes.chunks(8).enumerate().take(count.div_ceil(64)) {
                    let inside = (count - i * 64).min(64);
                    ones += (word(bytes) << (64 - inside)).count_ones() as usize;
                }
                add(1, ones, false)?;
                add(0, count - ones, first && bytes.first().is_some_and(|byte| byte & 1 == 0))?;
                left -= count;
            }
            Run::Packed { bytes, count } => {
                let count = count.min(left);
                (0..count).try_for_each(|i| add(packed(bytes, width, i), 1, first && i == 0))?;
                left -= count;
            }
        }
    }
    (left == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies() {
        let of = |zeros, full, begins| Some(Tally { zeros, full, begins });
        // 8 ones as a run, then 8 values 0..8 of 3 bits packed.
        let block = [16, 1, 3, 0b1000_1000, 0b1100_0110, 0b1111_1010];
        assert_eq!(tally(&block, 7, 16), of(1, 1, false));
        assert_eq!(tally(&block, 7, 15), of(1, 0, false));
        assert_eq!(tally(&block, 7, 17), None, "too few");
        assert_eq!(tally(&block, 5, 16), None, "6 is more than 5");
        assert_eq!(tally(&block, 5, 14), of(1, 1, false));
        // One bit each: 70 packed of which 5 are set, then 30 zeros.
        let block = [19, 0b10, 0, 0b11, 0, 0, 0, 0, 1, 0b10_0000, 60, 0];
        assert_eq!(tally(&block, 1, 102), of(97, 5, true));
        assert_eq!(tally(&block, 1, 69), of(65, 4, true));
        assert_eq!(tally(&[], 1, 0), of(0, 0, false));
        assert_eq!(tally(&[255, 255, 255, 255, 7], 1, 3), None);
    }

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
}
