//! How often the strata are drawn in an epoch, how many rows of each the rest batch gets, and the weights that undo skewed draws.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kit::rng::key;

/// How often the strata are drawn. All but `proportional` skew the data on purpose; weights n_h / draws undo it
/// ([`loss_weights`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Allocation {
    /// Every row once per epoch.
    #[default]
    Proportional,
    /// Every stratum alike.
    Equal,
    /// In between, by `tau`.
    Tau,
    /// As `shares` says.
    Shares,
}

impl Allocation {
    pub const ALL: [Allocation; 4] =
        [Allocation::Proportional, Allocation::Equal, Allocation::Tau, Allocation::Shares];
}

/// Rows that each stratum contributes to an epoch of N = sum of `sizes` rows: in proportion to `shares`, or to p^tau;
/// largest remainder, ties to the lower stratum.
pub fn draws(sizes: &[u64], tau: f64, shares: Option<&[f64]>) -> Vec<u64> {
    let rows: u64 = sizes.iter().sum();
    let tempered = |&n: &u64| {
        let p = n as f64 / rows as f64;
        if tau == 0.5 { p.sqrt() } else { libm::pow(p, tau) }
    };
    let share: Vec<f64> = match shares {
        Some(shares) => shares.to_vec(),
        None => sizes.iter().map(tempered).collect(),
    };
    let sum = pairwise_sum(&share);
    let ideal: Vec<f64> = share.iter().map(|q| q / sum * rows as f64).collect();
    let mut counts: Vec<u64> = ideal.iter().map(|x| (x + 1e-9).floor() as u64).collect();
    let missing = rows.saturating_sub(counts.iter().sum()) as usize;
    let remainder: Vec<f64> = ideal.iter().zip(&counts).map(|(x, &m)| x - m as f64).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| remainder[b].total_cmp(&remainder[a]));
    for &h in order.iter().take(missing) {
        counts[h] += 1;
    }
    counts
}

/// The order in which numpy sums: the last bit decides ties between remainders.
fn pairwise_sum(x: &[f64]) -> f64 {
    match x.len() {
        0..8 => x.iter().sum(),
        8..=128 => {
            let (eights, tail) = x.as_chunks::<8>();
            let mut lane = eights[0];
            for eight in &eights[1..] {
                lane.iter_mut().zip(eight).for_each(|(l, x)| *l += x);
            }
            let sum =
                ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
            tail.iter().fold(sum, |s, x| s + x)
        }
        n => {
            let (left, right) = x.split_at(n / 2 - n / 2 % 8);
            pairwise_sum(left) + pairwise_sum(right)
        }
    }
}

/// Loss weight of each stratum's rows that undoes skewed draws: its share of the rows over its share of the draws.
pub fn loss_weights(sizes: &[u64], counts: &[u64]) -> Vec<f64> {
    sizes.iter().zip(counts).map(|(&n, &c)| if c == 0 { 0.0 } else { n as f64 / c as f64 }).collect()
}

/// How many rows of each stratum go to the rest batch of N mod `base` rows, so that it and all the other batches keep
/// each stratum within 1 of its share.
pub fn rest_counts(counts: &[u64], base: u64, seed: u64, epoch: u32) -> Vec<u64> {
    let n: u64 = counts.iter().sum();
    let (nb, r) = (n / base, n % base);
    if r == 0 {
        return vec![0; counts.len()];
    }
    let (n, r) = (u128::from(n), u128::from(r));
    let mut rest = Vec::with_capacity(counts.len());
    let mut free = Vec::new();
    for (h, &x) in counts.iter().enumerate() {
        let x = u128::from(x);
        // What is left of the stratum after every full batch took the floor of its share.
        let spare = x - u128::from(nb) * (x * u128::from(base) / n);
        let low = (x * r / n).max(spare.saturating_sub(nb.into()));
        let high = (x * r).div_ceil(n).min(spare);
        rest.push(low as u64);
        if high > low {
            free.push((std::cmp::Reverse(x * r % n), key(seed, &[epoch.into(), 2, h as u64]), h));
        }
    }
    free.sort();
    let missing = r as usize - rest.iter().sum::<u64>() as usize;
    for &(_, _, h) in free.iter().take(missing) {
        rest[h] += 1;
    }
    debug_assert_eq!(u128::from(rest.iter().sum::<u64>()), r, "the rest batch is always feasible");
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn draws_add_up(sizes in prop::collection::vec(1u64..1 << 36, 1..40), tau in 0.0f64..1.5) {
            let counts = draws(&sizes, tau, None);
            prop_assert_eq!(counts.iter().sum::<u64>(), sizes.iter().sum::<u64>());
            let weights = loss_weights(&sizes, &counts);
            let mean: f64 = weights.iter().zip(&counts).map(|(w, &c)| w * c as f64).sum();
            let drawn: u64 = sizes.iter().zip(&counts).filter(|(_, c)| **c > 0).map(|(n, _)| n).sum();
            prop_assert!((mean / drawn as f64 - 1.0).abs() < 1e-9);
        }

        #[test]
        fn rest_batches_are_feasible(
            counts in prop::collection::vec(0u64..1 << 35, 1..40), base in 1u64..1 << 30, seed: u64, epoch: u32,
        ) {
            let n: u64 = counts.iter().sum();
            prop_assume!(n > 0);
            let rest = rest_counts(&counts, base, seed, epoch);
            prop_assert_eq!(rest.iter().sum::<u64>(), n % base);
            prop_assert!(rest.iter().zip(&counts).all(|(r, c)| r <= c));
        }
    }
}
