//! How much two labellings of the same rows know of each other.

use rayon::prelude::*;

use crate::kit::rng::mix64;
use crate::modalities::Sample;

/// Rows on which labellings of a sample are compared, about.
const COMPARED: usize = 5000;

/// In nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Information {
    /// Mutual information less its expected value for independent labels, (R_a - 1)(R_b - 1) / 2n (Miller 1955), at
    /// least 0.
    pub mutual: f64,
    /// Mean of the two entropies.
    pub entropy: f64,
    /// Mean share of the most frequent labels.
    pub largest: f64,
}

impl Information {
    /// Of two labellings of the same rows; R_a and R_b are the labels that occur. O(n log n).
    pub fn between(a: &[u32], b: &[u32]) -> Information {
        assert_eq!(a.len(), b.len(), "two labellings of the same rows");
        if a.is_empty() {
            return Information::default();
        }
        let n = a.len() as f64;
        let (rows_a, rows_b) = (counts(a), counts(b));
        let mut pairs: Vec<u64> = a.iter().zip(b).map(|(&a, &b)| u64::from(a) << 32 | u64::from(b)).collect();
        pairs.sort_unstable();
        let mut mutual = 0.0;
        for run in pairs.chunk_by(|x, y| x == y) {
            let (a, b) = ((run[0] >> 32) as usize, run[0] as u32 as usize);
            let c = run.len() as f64;
            mutual += c / n * libm::log(c * n / (rows_a[a] as f64 * rows_b[b] as f64));
        }
        let occur = |rows: &[u32]| rows.iter().filter(|&&c| c > 0).count() as f64;
        let chance = (occur(&rows_a) - 1.0) * (occur(&rows_b) - 1.0) / (2.0 * n);
        Information {
            mutual: (mutual - chance).max(0.0),
            entropy: (entropy(&rows_a, n) + entropy(&rows_b, n)) / 2.0,
            largest: (largest(&rows_a, n) + largest(&rows_b, n)) / 2.0,
        }
    }

    /// The mean of some; None of none.
    pub fn mean(of: &[Information]) -> Option<Information> {
        let n = of.len() as f64;
        (!of.is_empty()).then(|| Information {
            mutual: of.iter().map(|x| x.mutual).sum::<f64>() / n,
            entropy: of.iter().map(|x| x.entropy).sum::<f64>() / n,
            largest: of.iter().map(|x| x.largest).sum::<f64>() / n,
        })
    }

    /// Reproducible information R = I - (H - I): what is shared less what is not.
    pub fn reproducible(&self) -> f64 {
        2.0 * self.mutual - self.entropy
    }

    /// The share I / H of the information that is reproduced, in [0, 1]; 1 if there is none to reproduce.
    pub fn share(&self) -> f64 {
        if self.entropy > 0.0 { (self.mutual / self.entropy).min(1.0) } else { 1.0 }
    }
}

fn counts(labels: &[u32]) -> Vec<u32> {
    let mut rows = vec![0; labels.iter().max().map_or(0, |&m| m as usize + 1)];
    for &l in labels {
        rows[l as usize] += 1;
    }
    rows
}

fn largest(rows: &[u32], n: f64) -> f64 {
    f64::from(rows.iter().copied().max().unwrap_or(0)) / n
}

fn entropy(rows: &[u32], n: f64) -> f64 {
    let terms = rows.iter().filter(|&&c| c > 0).map(|&c| f64::from(c) / n);
    terms.map(|p| -p * libm::log(p)).sum()
}

/// The places of some rows of the sample, by key, on which labellings are compared.
pub fn compared(sample: &Sample) -> Vec<usize> {
    let every = (sample.rows.len() / COMPARED).max(1) as u64;
    (0..sample.rows.len()).filter(|&i| mix64(sample.rows[i]).is_multiple_of(every)).collect()
}

/// Of every labelling the sum of the shares of information that it has in common with the others. O(labellings^2 rows).
pub fn agreement(labels: &[Vec<u32>]) -> Vec<f64> {
    let pairs: Vec<(usize, usize)> = (0..labels.len()).flat_map(|i| (0..i).map(move |j| (i, j))).collect();
    let share = |&(i, j): &(usize, usize)| Information::between(&labels[i], &labels[j]).share();
    let shares: Vec<f64> = pairs.par_iter().map(share).collect();
    let mut agreement = vec![0.0; labels.len()];
    for (&(i, j), share) in pairs.iter().zip(shares) {
        agreement[i] += share;
        agreement[j] += share;
    }
    agreement
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(a: &[u32], b: &[u32]) -> (f64, f64) {
        let n = a.len() as f64;
        let share = |f: &dyn Fn(usize) -> bool| (0..a.len()).filter(|&i| f(i)).count() as f64 / n;
        let (mut mutual, mut ha, mut hb) = (0.0, 0.0, 0.0);
        for x in 0..10 {
            let pa = share(&|i| a[i] == x);
            let pb = share(&|i| b[i] == x);
            ha -= if pa > 0.0 { pa * pa.ln() } else { 0.0 };
            hb -= if pb > 0.0 { pb * pb.ln() } else { 0.0 };
            for y in 0..10 {
                let both = share(&|i| a[i] == x && b[i] == y);
                if both > 0.0 {
                    mutual += both * (both / (pa * share(&|i| b[i] == y))).ln();
                }
            }
        }
        (mutual, (ha + hb) / 2.0)
    }

    #[test]
    fn equals_the_definition() {
        // Labels 0, 2, 4 (1 and 3 do not occur) and 0..5, half of them tied to a.
        let a: Vec<u32> = (0..500).map(|i| 2 * (mix64(i) % 3) as u32).collect();
        let b: Vec<u32> =
            (0..500).map(|i| if i % 2 == 0 { a[i as usize] } else { (mix64(i + 999) % 5) as u32 }).collect();
        let got = Information::between(&a, &b);
        let (mutual, entropy) = naive(&a, &b);
        assert!((got.mutual - (mutual - 2.0 * 4.0 / 1000.0)).abs() < 1e-12);
        assert!((got.entropy - entropy).abs() < 1e-12);
        let most = |of: &[u32]| (0..10).map(|x| of.iter().filter(|&&y| y == x).count()).max().unwrap() as f64;
        assert!((got.largest - (most(&a) + most(&b)) / 1000.0).abs() < 1e-12);
    }

    #[test]
    fn limits() {
        let a: Vec<u32> = (0..900).map(|i| i % 3).collect();
        let same = Information::between(&a, &a);
        assert!((same.entropy - 3f64.ln()).abs() < 1e-12 && same.share() > 0.99);
        let other: Vec<u32> = (0..900).map(|i| i / 3 % 3).collect();
        assert_eq!(Information::between(&a, &other).mutual, 0.0);
        let one = Information::between(&[0; 9], &[0; 9]);
        assert_eq!((one.mutual, one.entropy, one.share()), (0.0, 0.0, 1.0));
    }
}
