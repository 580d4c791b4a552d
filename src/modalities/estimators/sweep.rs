//! The number of k-means cells by a criterion: k-means at every k of a ladder, and the k that the criterion prefers.
//!
//! - **silhouette** (Rousseeuw 1987): how much nearer a row is to its own cell's rows than to those of the next cell; the
//!   largest mean over 2000 rows. Not defined for one cell, so it never answers 1.
//! - **gap** (Tibshirani, Walther & Hastie 2001): how far log W_k lies below its mean over five uniform samples of the box
//!   along the rows' principal axes; the smallest k with gap(k) >= gap(k') - s(k'), k' the next of the ladder. Can answer 1.
//! - **bic** (Schwarz 1978, as Pelleg & Moore 2000 write it for k-means): the likelihood of spherical Gaussians of one
//!   variance less half of (k - 1) + k p + 1 parameters times log n; the largest. Can answer 1.
//!
//! The ladder is 1 to 20, then steps of a fifth up to 256, at most a quarter of the rows.
//!
//! O(n p sum k steps), five times that for the gap, which ends early where it finds its answer early.

use rayon::prelude::*;

use super::frame::View;
use crate::format::evidence::Criterion;
use crate::kernels::distance::squared_among;
use crate::kernels::eigen;
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::kit::rng::{Stream, key, uniform};
use crate::modalities::lloyd::Clusters;
use crate::modalities::{CriterionSpec, Sample};

/// Rows that silhouettes are computed for.
const SILHOUETTES: usize = 2000;
/// Uniform samples of the gap.
const REFERENCES: u64 = 5;

/// The cells of some points: (points, k, seed). None where the method fails.
pub type Method<'a> = &'a dyn Fn(&Matrix, usize, u64) -> Option<Clusters>;

#[derive(Clone, Copy)]
pub struct Sweep<'a> {
    pub criterion: CriterionSpec,
    /// Cells, at most.
    pub most: usize,
    pub method: Method<'a>,
}

/// The preferred number of cells.
pub struct Choice {
    pub k: usize,
    /// The cells of the points at this k; one cell if nothing could be fitted.
    pub labels: Vec<u32>,
    /// The criterion at every k that was looked at.
    pub curve: Vec<Criterion>,
}

impl CriterionSpec {
    pub const ALL: [CriterionSpec; 3] = [CriterionSpec::Silhouette, CriterionSpec::Gap, CriterionSpec::Bic];

    pub fn name(self) -> &'static str {
        match self {
            CriterionSpec::Silhouette => "silhouette",
            CriterionSpec::Gap => "gap",
            CriterionSpec::Bic => "bic",
        }
    }
}

impl Sweep<'_> {
    pub fn choose(&self, points: &Matrix, seed: u64, progress: &Progress) -> Result<Choice> {
        let mut fits: Vec<(usize, Clusters)> = Vec::new();
        let mut curve = Vec::new();
        let score: Box<dyn Fn(&Clusters) -> f64> = match self.criterion {
            CriterionSpec::Silhouette => {
                let among = Among::new(points);
                Box::new(move |found| among.silhouette(&found.labels))
            }
            CriterionSpec::Bic => Box::new(|found| bic(points, found)),
            CriterionSpec::Gap => return self.gap(points, seed, progress),
        };
        for k in ladder(points.rows(), self.most) {
            progress.check()?;
            if k == 1 && self.criterion == CriterionSpec::Silhouette {
                continue;
            }
            // Fewer cells than asked for: there are no more distinct rows.
            let Some(found) = (self.method)(points, k, seed).filter(|f| f.centers.rows() == k) else {
                continue;
            };
            curve.push(self.point(k, score(&found)));
            fits.push((k, found));
        }
        // Of equals the smaller k.
        let best = (0..fits.len()).reduce(|a, b| if curve[b].value > curve[a].value { b } else { a });
        Ok(choice(points, best.map(|i| fits.swap_remove(i)), curve))
    }

    fn point(&self, k: usize, value: f64) -> Criterion {
        Criterion { k: k as u32, criterion: self.criterion.name().into(), value }
    }

    fn gap(&self, points: &Matrix, seed: u64, progress: &Progress) -> Result<Choice> {
        let references: Vec<Matrix> =
            (0..REFERENCES).map(|b| reference(points, seed, b, progress)).collect::<Result<_>>()?;
        let mut curve = Vec::new();
        let mut before: Option<(f64, (usize, Clusters))> = None;
        for k in ladder(points.rows(), self.most) {
            let Some(found) = (self.method)(points, k, seed).filter(|f| f.centers.rows() == k) else {
                continue;
            };
            let mut logs = Vec::new();
            for (b, reference) in references.iter().enumerate() {
                progress.check()?;
                let of = (self.method)(reference, k, key(seed, &[b as u64]));
                logs.extend(of.map(|of| log_inertia(&of)));
            }
            if logs.is_empty() {
                continue;
            }
            let count = logs.len() as f64;
            let mean = logs.iter().sum::<f64>() / count;
            let spread = (logs.iter().map(|l| (l - mean) * (l - mean)).sum::<f64>() / count).sqrt();
            let gap = mean - log_inertia(&found);
            let error = spread * (1.0 + 1.0 / count).sqrt();
            curve.push(self.point(k, gap));
            if let Some((last, fit)) = before.take_if(|(last, _)| *last >= gap - error) {
                debug_assert!(last.is_finite());
                return Ok(choice(points, Some(fit), curve));
            }
            before = Some((gap, (k, found)));
        }
        Ok(choice(points, before.map(|(_, fit)| fit), curve))
    }

    /// The choice on a view of the sample, and the least and the largest on it and on its halves.
    pub fn settle(
        &self,
        sample: &Sample,
        view: &View,
        seed: u64,
        progress: &Progress,
    ) -> Result<(Choice, (u32, u32))> {
        let stage = progress.stage("choose k", "sweeps", 3);
        let choice = self.choose(&view.points, seed, progress)?;
        stage.advance(1)?;
        let mut interval = (choice.k as u32, choice.k as u32);
        for half in view.halves(sample, seed) {
            if half.rows() > 1 {
                let k = self.choose(&half, seed, progress)?.k as u32;
                interval = (interval.0.min(k), interval.1.max(k));
            }
            stage.advance(1)?;
        }
        Ok((choice, interval))
    }
}

fn choice(points: &Matrix, best: Option<(usize, Clusters)>, curve: Vec<Criterion>) -> Choice {
    match best {
        Some((k, found)) => Choice { k, labels: found.labels, curve },
        None => Choice { k: 1, labels: vec![0; points.rows()], curve },
    }
}

/// More modalities asked for than there are distinct rows.
pub fn too_few(count: usize, rows: usize) -> Error {
    Error::Modalities {
        reason: format!("{count} modalities were asked for, the sample has {rows} distinct rows"),
        help: format!("ask for at most {rows}, or let `--estimator consensus` count them"),
    }
}

/// 1, 2, .. 20, 24, 29, 35, ..: steps of a fifth.
pub fn ladder(rows: usize, most: usize) -> Vec<usize> {
    let next = |&k: &usize| Some(if k < 20 { k + 1 } else { (k * 6).div_ceil(5) });
    let most = most.min((rows / 4).max(1));
    std::iter::successors(Some(1), next).take_while(|&k| k <= most).collect()
}

/// Distances between keyed rows.
struct Among {
    rows: Vec<u32>,
    /// rows x rows.
    distance: Vec<f32>,
}

impl Among {
    fn new(points: &Matrix) -> Self {
        // The points are in the order of the row numbers, so their places need a key.
        let mut keyed: Vec<(u64, usize)> = (0..points.rows()).map(|i| (key(0, &[i as u64]), i)).collect();
        keyed.sort_unstable();
        let mut rows: Vec<u32> = keyed.into_iter().take(SILHOUETTES).map(|x| x.1 as u32).collect();
        rows.sort_unstable();
        let to = |&i: &u32| {
            let mut squared = vec![0.0; rows.len()];
            squared_among(points.row(i as usize), points, &rows, &mut squared);
            squared.into_iter().map(|square| square.sqrt() as f32).collect::<Vec<f32>>()
        };
        let distance = rows.par_iter().map(to).collect::<Vec<_>>().concat();
        Among { rows, distance }
    }

    /// The mean silhouette; a row alone in its cell counts 0, and so does everything if there is one cell.
    fn silhouette(&self, labels: &[u32]) -> f64 {
        let n = self.rows.len();
        let labels: Vec<usize> = self.rows.iter().map(|&i| labels[i as usize] as usize).collect();
        let cells = labels.iter().max().map_or(0, |&m| m + 1);
        let mut rows = vec![0usize; cells];
        labels.iter().for_each(|&c| rows[c] += 1);
        let of = |i: usize| {
            let own = labels[i];
            let mut sums = vec![0.0f64; cells];
            for (&c, &d) in labels.iter().zip(&self.distance[i * n..(i + 1) * n]) {
                sums[c] += f64::from(d);
            }
            let other = (0..cells).filter(|&c| c != own && rows[c] > 0).map(|c| sums[c] / rows[c] as f64);
            let b = other.fold(f64::INFINITY, f64::min);
            if rows[own] < 2 || b.is_infinite() {
                return 0.0;
            }
            let a = sums[own] / (rows[own] - 1) as f64;
            if a.max(b) > 0.0 { (b - a) / a.max(b) } else { 0.0 }
        };
        let silhouettes: Vec<f64> = (0..n).into_par_iter().map(of).collect();
        silhouettes.iter().sum::<f64>() / n.max(1) as f64
    }
}

/// Of identical spherical Gaussians at the centres.
fn bic(points: &Matrix, found: &Clusters) -> f64 {
    let (n, p, k) = (points.rows() as f64, points.cols() as f64, found.centers.rows() as f64);
    let mut rows = vec![0u32; found.centers.rows()];
    found.labels.iter().for_each(|&c| rows[c as usize] += 1);
    let mixing: f64 = rows.iter().map(|&r| f64::from(r)).map(|r| r * libm::log(r / n)).sum();
    // The variance of rows that coincide with their centres is 0: a floor far below what f32 resolves.
    let scale: f64 = points.as_slice().iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / (n * p);
    let variance = (found.inertia / (p * (n - k).max(1.0))).max(1e-14 * scale).max(f64::MIN_POSITIVE);
    let fit = -0.5 * n * p * libm::log(std::f64::consts::TAU * variance) - 0.5 * p * (n - k);
    mixing + fit - 0.5 * (k - 1.0 + k * p + 1.0) * libm::log(n)
}

fn log_inertia(found: &Clusters) -> f64 {
    libm::log(found.inertia.max(f64::MIN_POSITIVE))
}

/// As many rows, uniform in the box along the principal axes (in the axes' coordinates: k-means does not see a rotation).
fn reference(points: &Matrix, seed: u64, b: u64, progress: &Progress) -> Result<Matrix> {
    let (n, p) = (points.rows(), points.cols());
    let mean = eigen::mean(points);
    let axes = eigen::symmetric(eigen::covariance(points, &mean, progress)?, p, progress)?.vectors;
    let range = |axis: &[f64]| {
        let at = |row: &[f32]| row.iter().zip(axis).map(|(&x, a)| f64::from(x) * a).sum::<f64>();
        points.iter_rows().map(at).fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)))
    };
    let ranges: Vec<(f64, f64)> = axes.chunks_exact(p).map(range).collect();
    let number = |i: usize, j: usize| {
        let (low, high) = ranges[j];
        // Around 0, where f32 has most digits.
        let at = uniform(Stream::Estimator.key(seed, &[1, b, i as u64, j as u64])) - 0.5;
        (at * (high - low)) as f32
    };
    let numbers = (0..n).flat_map(|i| (0..p).map(move |j| (i, j))).map(|(i, j)| number(i, j));
    Ok(Matrix::from_vec(n, p, numbers.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::kmeans;
    use crate::modalities::estimators::tests::mixture;

    fn run(criterion: CriterionSpec, points: &Matrix) -> Choice {
        let method = |x: &Matrix, k: usize, seed: u64| Some(kmeans::best(x, k, 50, seed, 4));
        Sweep { criterion, most: 60, method: &method }.choose(points, 3, &Progress::default()).unwrap()
    }

    #[test]
    fn every_criterion_counts_separated_modes() {
        let (sample, _) = mixture(800, 16, 6, 4.0);
        for criterion in CriterionSpec::ALL {
            let found = run(criterion, &sample.points);
            assert_eq!(found.k, 6, "{criterion:?} {:?}", found.curve);
            assert!(found.curve.iter().all(|c| c.value.is_finite() && c.criterion == criterion.name()));
        }
    }

    #[test]
    fn gap_and_bic_can_answer_one() {
        let (sample, _) = mixture(800, 6, 1, 0.0);
        let answers = CriterionSpec::ALL.map(|c| run(c, &sample.points).k);
        assert!(answers[0] >= 2 && answers[1..] == [1, 1], "{answers:?}");
    }

    #[test]
    fn silhouettes_equal_the_definition() {
        let points = Matrix::from_vec(5, 1, vec![0.0, 1.0, 10.0, 12.0, 30.0]);
        let got = Among::new(&points).silhouette(&[0, 0, 1, 1, 2]);
        // Row 0: a = 1, b = 11; row 1: a = 1, b = 10; row 2: a = 2, b = 9.5; row 3: a = 2, b = 11.5; row 4 alone: 0.
        let expected = (10.0 / 11.0 + 9.0 / 10.0 + 7.5 / 9.5 + 9.5 / 11.5) / 5.0;
        assert!((got - expected).abs() < 1e-6, "{got}");
    }

    #[test]
    fn the_ladder_ends_at_a_quarter_of_the_rows() {
        assert_eq!(ladder(16, 60), [1, 2, 3, 4]);
        assert_eq!(ladder(1, 60), [1]);
        assert_eq!(ladder(10_000, 40)[18..], [19, 20, 24, 29, 35]);
        assert_eq!(ladder(10_000, 256).last(), Some(&226));
    }
}
