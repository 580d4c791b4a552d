//! What is done to one coordinate, and its centre and scale, learnt in f64 in one order.

use serde::{Deserialize, Serialize};

/// What was done to a coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    None,
    /// Made by an encoder, and left as it is. (Where more is done to the embedding, that is the operation.)
    Encode,
    Unit,
    Standard,
    Robust,
    OneHot,
    Hash,
}

impl Operation {
    pub const ALL: [Operation; 7] = [
        Operation::None,
        Operation::Encode,
        Operation::Unit,
        Operation::Standard,
        Operation::Robust,
        Operation::OneHot,
        Operation::Hash,
    ];

    /// As in `features.arrow`.
    pub fn name(self) -> &'static str {
        match self {
            Operation::None => "none",
            Operation::Encode => "encode",
            Operation::Unit => "unit",
            Operation::Standard => "standard",
            Operation::Robust => "robust",
            Operation::OneHot => "one-hot",
            Operation::Hash => "hash",
        }
    }

    pub fn of(name: &str) -> Option<Operation> {
        Operation::ALL.into_iter().find(|o| o.name() == name)
    }
}

/// Quantile of ascending numbers by linear interpolation between order statistics (type 7 of Hyndman & Fan 1996, the
/// default of numpy and R). `q` in [0, 1]; NaN for no numbers.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    quantile_of(sorted.len(), q, |i| sorted[i])
}

/// [`quantile`] of `len` numbers, of which `at` tells those that would stand at a place if they were sorted.
pub(crate) fn quantile_of(len: usize, q: f64, at: impl Fn(usize) -> f64) -> f64 {
    let Some(last) = len.checked_sub(1) else { return f64::NAN };
    let place = q * last as f64;
    let low = place.floor();
    let (a, b) = (at(low as usize), at((low as usize + 1).min(last)));
    // Not `a + t (b - a)` where both are equal: the answer is then exactly one of the numbers.
    if a == b { a } else { a + (place - low) * (b - a) }
}

/// (centre, scale) such that (x - centre) / scale is standardised. A constant coordinate gets its value and 1, so that it
/// maps to exactly 0. `x` is sorted in place where the operation needs it. O(n log n) for `robust`, else O(n).
pub(super) fn learn(operation: Operation, x: &mut [f64]) -> (f64, f64) {
    let Some(&first) = x.first() else { return (0.0, 1.0) };
    if !matches!(operation, Operation::Standard | Operation::Robust) {
        return (0.0, 1.0);
    }
    if x.iter().all(|&v| v == first) {
        return (first, 1.0);
    }
    let (mean, deviation) = moments(x);
    let (center, scale) = if operation == Operation::Standard {
        (mean, deviation)
    } else {
        x.sort_unstable_by(f64::total_cmp);
        let range = quantile(x, 0.75) - quantile(x, 0.25);
        // More than half of the numbers are equal: the range says nothing, the deviation still does.
        (quantile(x, 0.5), if range > 0.0 { range } else { deviation })
    };
    (center, if scale > 0.0 && scale.is_finite() { scale } else { 1.0 })
}

/// Mean and population standard deviation, two passes.
fn moments(x: &[f64]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_type_7() {
        // numpy.quantile([1, 2, 4, 8], q)
        let x = [1.0, 2.0, 4.0, 8.0];
        for (q, want) in [(0.0, 1.0), (0.1, 1.3), (0.25, 1.75), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            assert!((quantile(&x, q) - want).abs() < 1e-12, "{q}");
        }
        assert_eq!(quantile(&[3.0], 0.3), 3.0);
        assert!(quantile(&[], 0.3).is_nan());
    }

    #[test]
    fn learns_what_it_says() {
        let (c, s) = learn(Operation::Standard, &mut [1.0, 2.0, 3.0, 6.0]);
        assert!((c - 3.0).abs() < 1e-12 && (s - 3.5f64.sqrt()).abs() < 1e-12);
        assert_eq!(learn(Operation::Robust, &mut [5.0, 1.0, 3.0, 2.0, 4.0]), (3.0, 2.0));
        // Constant: 0.1 summed many times over its count is not 0.1, so the mean would not do.
        assert_eq!(learn(Operation::Standard, &mut [0.1; 77]), (0.1, 1.0));
        assert_eq!(learn(Operation::Robust, &mut [0.1; 77]), (0.1, 1.0));
        // Interquartile range 0: the standard deviation.
        let (c, s) = learn(Operation::Robust, &mut [0.0, 0.0, 0.0, 0.0, 10.0]);
        assert_eq!((c, s), (0.0, 4.0));
    }
}
