//! Random numbers are looked up by key, never drawn in turn: any decision can be recomputed alone, on any thread.
//!
//! [`key`] hashes words together (splitmix64 finaliser, Steele, Lea & Flood 2014); [`Permutation`] is a keyed bijection
//! of `0..n` (a Feistel network with cycle walking, Luby & Rackoff 1988; Black & Rogaway 2002) that needs no memory.
//! Both equal `tests/oracle/reference.py` bit for bit and are part of the plan format.

/// splitmix64 finaliser.
#[inline]
pub fn mix64(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Key of one random decision: the words are hashed together, never added, so that neighbouring seeds share nothing.
#[inline]
pub fn key(seed: u64, words: &[u64]) -> u64 {
    words.iter().fold(mix64(seed), |k, &w| mix64(k ^ w))
}

/// First words of the keys of decisions outside the dealing. The dealing (`batches/`) uses the epoch as
/// its first word, so these start far above any epoch. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Which rows are in the fit sample.
    Sample = 1 << 40,
    /// Which half of a block a row is in.
    Half,
    /// k-means++ starts.
    Init,
    /// Random Fourier features of `reference.arrow`.
    Frequency,
    /// Gaussian projection of wide rows for the predicted gain.
    Projection,
    /// Rows that version 0.1 held out; [`Stream::Split`] does now.
    Holdout,
    /// Rows shown in the report.
    Shown,
    /// Synthetic data.
    Synth,
    /// Start vectors of the subspace iteration.
    Subspace,
    /// Keyed hashes of row contents.
    Content,
    /// Hashed categories and classes.
    Category,
    /// Draws of estimators: rows looked at, reference data, halves.
    Estimator,
    /// Data with one mode that communities are compared with, and its halves.
    Surrogate,
    SurrogateHalf,
    /// The order in which rows are first moved between communities.
    Visit,
    /// Splits: rounding, groups, rows, and the dealing of a fold.
    Split,
}

impl Stream {
    /// `key(seed, [self, words...])`.
    #[inline]
    pub fn key(self, seed: u64, words: &[u64]) -> u64 {
        words.iter().fold(mix64(mix64(seed) ^ self as u64), |k, &w| mix64(k ^ w))
    }
}

/// Uniform in [0, 1) from a key: its upper 53 bits.
#[inline]
pub fn uniform(key: u64) -> f64 {
    (key >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Standard normal from a key (Box & Muller 1958), `libm` for the logarithm and cosine so that every machine agrees.
pub fn normal(key: u64) -> f64 {
    let u = 1.0 - uniform(key);
    let v = uniform(mix64(key));
    libm::sqrt(-2.0 * libm::log(u)) * libm::cos(std::f64::consts::TAU * v)
}

/// lowbias32 (C. Wellons): a 32-bit integer hash with low bias.
#[inline(always)]
fn mix32(x: u32) -> u32 {
    mix32_folded(x ^ (x >> 16))
}

/// [`mix32`] after its first shift.
#[inline(always)]
pub(crate) fn mix32_folded(mut x: u32) -> u32 {
    x = x.wrapping_mul(0x7FEB_352D);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

pub(crate) const MAX_ROUNDS: usize = 24;

/// A keyed bijection of `0..n`, O(1) memory. Fewer than two walks around the cycle on average.
#[derive(Clone, Debug)]
pub struct Permutation {
    n: u64,
    left_bits: u32,
    right_bits: u32,
    rounds: usize,
    keys: [u32; MAX_ROUNDS],
}

impl Permutation {
    /// Small domains need more rounds to look random (measured by chi-squared over all orders).
    pub fn new(n: u64, key: u64) -> Self {
        let bits = (u64::BITS - n.saturating_sub(1).leading_zeros()).max(2);
        let right_bits = bits / 2;
        let rounds = match n {
            0..=64 => 24,
            65..=4096 => 12,
            _ => 8,
        };
        let mut keys = [0; MAX_ROUNDS];
        for (t, k) in keys.iter_mut().enumerate().take(rounds) {
            *k = (mix64(key ^ (t as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 32) as u32;
        }
        Permutation { n, left_bits: bits - right_bits, right_bits, rounds, keys }
    }

    /// Keys of the rounds, an even number of them.
    pub(crate) fn keys(&self) -> &[u32] {
        &self.keys[..self.rounds]
    }

    /// Bits of the lower half of a position.
    pub(crate) fn right_bits(&self) -> u32 {
        self.right_bits
    }

    /// Size of the domain.
    #[inline]
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Where position `i < n` goes.
    #[inline]
    pub fn index(&self, mut i: u64) -> u64 {
        if self.n <= 1 {
            return 0;
        }
        loop {
            i = self.step(i);
            if i < self.n {
                return i;
            }
        }
    }

    /// The position that goes to `j < n`: the inverse of [`Permutation::index`].
    pub fn place(&self, mut j: u64) -> u64 {
        if self.n <= 1 {
            return 0;
        }
        let (even, odd) = self.masks();
        loop {
            let mut l = (j >> self.right_bits) as u32;
            let mut r = j as u32 & odd;
            for pair in self.keys[..self.rounds].chunks_exact(2).rev() {
                (l, r) = ((r ^ mix32(l ^ pair[1])) & odd, l);
                (l, r) = ((r ^ mix32(l ^ pair[0])) & even, l);
            }
            j = (u64::from(l) << self.right_bits) | u64::from(r);
            if j < self.n {
                return j;
            }
        }
    }

    /// Of the halves after even and odd rounds.
    #[inline]
    pub(crate) fn masks(&self) -> (u32, u32) {
        let mask = |bits: u32| ((1u64 << bits) - 1) as u32;
        (mask(self.left_bits), mask(self.right_bits))
    }

    /// One step of [`Permutation::index`], which takes steps until the result is below n. For callers that walk many
    /// positions together: without the branch in between they overlap.
    #[inline]
    pub fn step(&self, i: u64) -> u64 {
        let (even, odd) = self.masks();
        let mut l = (i >> self.right_bits) as u32;
        let mut r = i as u32 & odd;
        // The halves change widths every round and come back after an even number of rounds.
        for pair in self.keys[..self.rounds].chunks_exact(2) {
            (l, r) = (r, (l ^ mix32(r ^ pair[0])) & even);
            (l, r) = (r, (l ^ mix32(r ^ pair[1])) & odd);
        }
        (u64::from(l) << self.right_bits) | u64::from(r)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutation_is_a_bijection() {
        for n in [1u64, 2, 3, 5, 17, 64, 65, 1000, 4097, 10007] {
            let p = Permutation::new(n, key(7, &[n]));
            let mut seen: Vec<u64> = (0..n).map(|i| p.index(i)).collect();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(0..n), "n = {n}");
            assert!((0..n).all(|i| p.place(p.index(i)) == i), "n = {n}");
        }
    }

    #[test]
    fn value_stability() {
        // Part of the format: a change here would change every plan.
        assert_eq!(mix64(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(key(42, &[1, 2]), mix64(mix64(mix64(42) ^ 1) ^ 2));
        assert!((0..1000).map(|i| normal(key(1, &[i]))).sum::<f64>().abs() < 100.0);
    }
}
