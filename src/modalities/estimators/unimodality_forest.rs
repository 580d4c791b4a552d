//! UniForCE, the unimodality forest (Vardakas, Kalogeratos & Likas 2024): many small k-means cells, and clusters that are
//! cells connected by pairs between which the density has one mode.
//!
//! 1. k-means on half of the rows: a cell for about 50 of them, 2 to 100 cells. Cells of fewer than 25 rows are left out,
//!    their rows are noise.
//! 2. Two cells touch if they are the two nearest of some row. For every such pair the rows *of the other half* within a
//!    distance of the segment between the two centres, as many as the pair has, are projected onto it. The pair has one
//!    mode if Hartigan's dip ([`dip`](super::dip)) of the projections does not reject it at the level 0.001.
//! 3. Clusters are the connected components: what Kruskal's method makes the spanning forest of.
//!
//! Two things differ from the paper, for data with one mode in many dimensions. Centres are means of their rows, so the
//! very rows they were fitted on look bimodal along the line between two of them; hence other rows. And the rows of two
//! k-means cells look bimodal too even if they are new, since a row is in a cell because it lies in the direction of its
//! centre. The rows near a segment are a convex set, so a log-concave density (Gaussian, uniform in a ball or a cube,
//! exponential) keeps one mode there (Prekopa 1973): the test is valid whatever the dimension.
//!
//! O(n p k steps + n pairs), with at most 100 cells.

use rayon::prelude::*;
use serde_json::json;

use super::dip::{critical, dip};
use super::frame::{Found, Frame, NOISE};
use super::grid::object;
use super::hdbscan::find;
use super::kmeans;
use crate::format::evidence::Criterion;
use crate::kernels::distance::dot;
use crate::kernels::knn;
use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::kit::rng::Stream;
use crate::modalities::{Fit, ModalityEstimator, Sample};

/// Rows, of the half that is fitted, for every cell; cells at most; rows of a cell at least.
const ROWS_PER_CELL: usize = 50;
const CELLS: usize = 100;
const SMALLEST: u32 = 25;
/// Rows that a test sees at least.
const TESTED: usize = 20;
const STEPS: usize = 30;
const RESTARTS: u64 = 2;

#[derive(Clone, Copy, Debug, Default)]
pub struct UnimodalityForest;

impl ModalityEstimator for UnimodalityForest {
    fn name(&self) -> &'static str {
        "unimodality-forest"
    }

    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        Frame::default().fit(sample, seed, progress, |points, _| forest(points, seed, progress))
    }
}

/// Two cells that touch, and the dip between them in units of its critical value.
#[derive(Clone, Copy, Debug)]
struct Pair {
    cells: (u32, u32),
    dip: f64,
}

fn forest(points: &Matrix, seed: u64, progress: &Progress) -> Result<Found> {
    let n = points.rows();
    let fitted = |i: &usize| Stream::Estimator.key(seed, &[2, *i as u64]) & 1 == 0;
    let (fit, test): (Vec<usize>, Vec<usize>) = (0..n).partition(fitted);
    let k = (fit.len() / ROWS_PER_CELL).min(CELLS);
    if k < 2 || test.len() < TESTED {
        return Ok(Found { labels: vec![0; n], ..Found::default() });
    }
    let start = Stream::Init.key(seed, &[u64::MAX - 1]);
    let centers = kmeans::best(&points.gather(fit.into_iter()), k, STEPS, start, RESTARTS).centers;
    progress.check()?;
    let cells = centers.rows();
    let nearest = knn::knn_among(points, &centers, 2.min(cells)).index;
    let own = |i: usize| nearest[i * 2.min(cells)];
    let mut rows = vec![0u32; cells];
    let mut tested = vec![0usize; cells];
    (0..n).for_each(|i| rows[own(i) as usize] += 1);
    test.iter().for_each(|&i| tested[own(i) as usize] += 1);
    let kept = |c: u32| rows[c as usize] >= SMALLEST;

    let mut touching: Vec<(u32, u32)> = nearest
        .chunks_exact(2)
        .map(|pair| (pair[0].min(pair[1]), pair[0].max(pair[1])))
        .filter(|&(a, b)| kept(a) && kept(b))
        .collect();
    touching.sort_unstable();
    touching.dedup();
    let segments = Segments::new(&points.gather(test.into_iter()), &centers);
    let look = |&(a, b): &(u32, u32)| {
        progress.check()?;
        let rows = (tested[a as usize] + tested[b as usize]).max(TESTED);
        let projected = segments.near(a as usize, b as usize, rows);
        let reached = dip(&projected) * (projected.len() as f64).sqrt();
        Ok(Pair { cells: (a, b), dip: reached / critical(projected.len()) })
    };
    let pairs: Vec<Pair> = touching.par_iter().map(look).collect::<Result<_>>()?;

    let component = components(cells, &pairs, 1.0);
    let labels = (0..n).map(|i| if kept(own(i)) { component[own(i) as usize] } else { NOISE }).collect();
    // How the number depends on the level of the test.
    let curve = [0.25, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0].map(|level| {
        let mut of: Vec<u32> = components(cells, &pairs, level);
        of = (0..cells).filter(|&c| kept(c as u32)).map(|c| of[c]).collect();
        of.sort_unstable();
        of.dedup();
        Criterion { k: of.len() as u32, criterion: "dip allowed, in critical values".into(), value: level }
    });
    let evidence = pairs.iter().map(|pair| Criterion {
        k: cells as u32,
        criterion: format!("dip of cells {} and {}, in critical values", pair.cells.0, pair.cells.1),
        value: pair.dip,
    });
    let split = pairs.iter().filter(|pair| pair.dip > 1.0).count();
    Ok(Found {
        labels,
        prominence: Vec::new(),
        details: object(json!({ "cells": cells, "pairs": pairs.len(), "bimodal_pairs": split })),
        curve: curve.into(),
        evidence: evidence.collect(),
    })
}

/// The component of every cell: the lowest cell of it.
fn components(cells: usize, pairs: &[Pair], allowed: f64) -> Vec<u32> {
    let mut parent: Vec<u32> = (0..cells as u32).collect();
    for pair in pairs.iter().filter(|pair| pair.dip <= allowed) {
        let (a, b) = (find(&mut parent, pair.cells.0), find(&mut parent, pair.cells.1));
        parent[a.max(b) as usize] = a.min(b);
    }
    (0..cells as u32).map(|c| find(&mut parent, c)).collect()
}

/// Rows beside the segments between centres. All distances follow from dot products that are computed once.
struct Segments {
    centers: usize,
    /// Rows x centres: x . c.
    with: Vec<f64>,
    /// x . x, and centres x centres: c . c'.
    own: Vec<f64>,
    between: Vec<f64>,
}

impl Segments {
    fn new(rows: &Matrix, centers: &Matrix) -> Self {
        let products = |of: &Matrix| -> Vec<f64> {
            let row = |i: usize| centers.iter_rows().map(move |c| dot(of.row(i), c));
            (0..of.rows()).into_par_iter().map(|i| row(i).collect::<Vec<f64>>()).collect::<Vec<_>>().concat()
        };
        Segments {
            centers: centers.rows(),
            with: products(rows),
            own: rows.iter_rows().map(|x| dot(x, x)).collect(),
            between: products(centers),
        }
    }

    /// The `count` rows nearest to the segment from centre a to centre b, projected onto its line (a is 0, b is 1),
    /// ascending.
    fn near(&self, a: usize, b: usize, count: usize) -> Vec<f64> {
        let between = |i: usize, j: usize| self.between[i * self.centers + j];
        let length = between(a, a) - 2.0 * between(a, b) + between(b, b);
        let mut near: Vec<(f64, f64)> = (self.own.iter().zip(self.with.chunks_exact(self.centers)))
            .map(|(own, with)| {
                let along = with[b] - with[a] - between(a, b) + between(a, a);
                let at = along / length;
                let from = own - 2.0 * with[a] + between(a, a);
                let inside = at.clamp(0.0, 1.0);
                (from - 2.0 * inside * along + inside * inside * length, at)
            })
            .collect();
        let count = count.min(near.len());
        near.select_nth_unstable_by(count - 1, |x, y| x.0.total_cmp(&y.0).then(x.1.total_cmp(&y.1)));
        let mut at: Vec<f64> = near[..count].iter().map(|x| x.1).collect();
        at.sort_unstable_by(f64::total_cmp);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::rng::{key, normal, uniform};
    use crate::modalities::estimators::tests::{agreement, degenerate, mixture, same_on_any_threads};

    fn fit(sample: &Sample) -> Fit {
        UnimodalityForest.fit(sample, 1, &Progress::default()).unwrap()
    }

    #[test]
    fn separated_modes_are_found() {
        let (sample, truth) = mixture(2000, 8, 5, 4.0);
        let fit = fit(&sample);
        assert_eq!((fit.kind.len(), fit.interval), (5, (5, 5)), "{:?}", fit.details);
        assert!(agreement(&fit.labels, &truth) > 0.99 && fit.confidence > 0.9);
        assert!(fit.curve.is_sorted_by(|a, b| a.k >= b.k) && !fit.evidence.is_empty());
        degenerate(&UnimodalityForest);
        same_on_any_threads(&UnimodalityForest);
    }

    /// Where a dip test on the rows that the centres were fitted on, or on the rows of two cells, finds dozens of modes.
    #[test]
    fn one_mode_in_many_dimensions_is_one() {
        type Row<'a> = &'a dyn Fn(u64, u64) -> f64;
        let gauss = |i: u64, j: u64| normal(key(3, &[i, j]));
        let cube = |i: u64, j: u64| uniform(key(4, &[i, j]));
        for (name, number) in [("gauss", &gauss as Row), ("cube", &cube)] {
            for dims in [2, 16, 384] {
                let data = (0..3000).flat_map(|i| (0..dims).map(move |j| number(i, j) as f32)).collect();
                let points = Matrix::from_vec(3000, dims as usize, data);
                let sample =
                    Sample { rows: (0..3000).collect(), points, blocks: vec![(0..3000).collect(); 5] };
                let fit = fit(&sample);
                assert_eq!(fit.kind.len(), 1, "{name} {dims}: {:?}", fit.details);
            }
        }
    }

    #[test]
    fn rows_near_a_segment() {
        let rows = Matrix::from_vec(5, 2, vec![0.0, 0.1, 1.0, 0.3, 2.0, -0.2, 5.0, 0.0, 1.0, 4.0]);
        let centers = Matrix::from_vec(3, 2, vec![9.0, 9.0, 0.0, 0.0, 2.0, 0.0]);
        let near = |count| Segments::new(&rows, &centers).near(1, 2, count);
        // By distance to the segment: 0.1, 0.2, 0.3, then (5, 0) at 3 and (1, 4) at 4.
        let close = |got: Vec<f64>, expected: &[f64]| {
            assert!(
                got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6)
            );
        };
        close(near(2), &[0.0, 1.0]);
        close(near(3), &[0.0, 0.5, 1.0]);
        close(near(4), &[0.0, 0.5, 1.0, 2.5]);
        assert_eq!(near(9).len(), 5);
    }
}
