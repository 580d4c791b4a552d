//! How a batch in tour order is laid out along a Sobol sequence (Sobol 1967), so that equal slices and strides of it are
//! stratified too.

/// Where the elements of a batch in tour order go: position p gets element rank(sobol2(p) xor shift).
#[derive(Clone, Debug, Default)]
pub struct Layout {
    len: usize,
    /// Position of each value of the second Sobol dimension on bits(len - 1) bits; NONE: no position below `len`.
    position: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Layout {
    /// For batches of `len` elements. O(len), nothing if the length is the same as before.
    pub fn reset(&mut self, len: usize) {
        if self.len == len {
            return;
        }
        self.len = len;
        let bits = (usize::BITS - len.saturating_sub(1).leading_zeros()).max(1) as usize;
        let mut direction = vec![1usize << (bits - 1); bits];
        for i in 1..bits {
            direction[i] = direction[i - 1] ^ (direction[i - 1] >> 1);
        }
        let mut value = vec![0usize; len];
        self.position.clear();
        self.position.resize(1 << bits, NONE);
        for p in 0..len {
            if p > 0 {
                value[p] = value[p & (p - 1)] ^ direction[p.trailing_zeros() as usize];
            }
            self.position[value[p]] = p as u32;
        }
    }

    /// Appends `first` + positions by ascending sobol2(p) xor shift: where the elements go, in order.
    pub fn append(&self, shift: u64, first: u32, to: &mut Vec<u32>) {
        let position = self.position.as_slice();
        let mask = position.len() - 1;
        let shift = shift as usize & mask;
        let ranks = (0..position.len()).map(|rank| position[(rank ^ shift) & mask]);
        // A power of two has no gaps, and its copy no branch.
        if self.len == position.len() {
            to.extend(ranks.map(|p| first + p));
        } else {
            to.extend(ranks.filter(|&p| p != NONE).map(|p| first + p));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::rng::key;

    /// The definition: rank of sobol2(p) xor shift among all positions.
    #[test]
    fn layouts() {
        let mut layout = Layout::default();
        for len in (1..70).chain([100, 1000, 1024]) {
            for shift in [0, 1, key(5, &[len as u64])] {
                layout.reset(len);
                let (bits, mut value) = (layout.position.len().ilog2(), vec![0u64; len]);
                for (p, value) in value.iter_mut().enumerate() {
                    let mut direction = 1u64 << (bits - 1);
                    for i in 0..bits {
                        *value ^= if p >> i & 1 == 1 { direction } else { 0 };
                        direction ^= direction >> 1;
                    }
                    *value ^= shift & ((1 << bits) - 1);
                }
                let mut order: Vec<usize> = (0..len).collect();
                order.sort_by_key(|&p| value[p]);
                let (mut got, order) = (vec![7], order.iter().map(|&p| p as u32 + 100));
                layout.append(shift, 100, &mut got);
                assert!(got.into_iter().eq(std::iter::once(7).chain(order)), "{len} {shift}");
            }
        }
    }
}
