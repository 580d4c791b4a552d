//! What estimators that cluster one set of rows share. They look at the first block of the sample, less copies, thinned
//! to a stated number of rows and projected onto its first principal components; rows that a method calls noise take the
//! cluster of the nearest clustered row; the other rows of the sample take that of the nearest row looked at.
//!
//! The same method on two keyed halves of the rows gives the confidence, the share I / H of information that the halves
//! agree on (see [`Information`]), and the interval, the least and the largest M of the three runs.

use serde_json::json;

use super::grid::{FEWEST, distinct, gather, not_empty, object, one_mode};
use super::information::Information;
use super::neighbours::Halves;
use crate::format::evidence::Criterion;
use crate::format::projection::Projection;
use crate::kernels::knn::nearest_of;
use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::kit::rng::Stream;
use crate::modalities::{Fit, Sample, pca, renumber};

/// The label of a row in no cluster.
pub const NOISE: u32 = u32::MAX;

/// What a method found in the rows of a matrix.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Cluster of every row, or [`NOISE`]. Numbers may be left out.
    pub labels: Vec<u32>,
    /// One entry per cluster; empty where the method has none.
    pub prominence: Vec<f32>,
    /// For plan.json, beside what the frame says.
    pub details: serde_json::Map<String, serde_json::Value>,
    pub curve: Vec<Criterion>,
    pub evidence: Vec<Criterion>,
}

/// Which run of a method this is: a parameter that counts rows is halved on a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Whole,
    Half,
}

/// How much of the sample a method sees, and how its answer is read.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Rows, at most.
    pub rows: usize,
    /// Principal components, at most.
    pub components: usize,
    /// M = 1 unless halves agree on more than they disagree about, R = 2I - H > 0.
    pub gated: bool,
    /// M was given: the interval is (M, M).
    pub fixed: bool,
}

impl Default for Frame {
    fn default() -> Self {
        Frame { rows: usize::MAX, components: 32, gated: false, fixed: false }
    }
}

/// Rows of the first block as a method sees them.
pub struct View {
    /// Indices into the sample's rows, ascending; no two have the same numbers.
    pub rows: Vec<u32>,
    pub points: Matrix,
    pub projection: Option<Projection>,
}

impl Frame {
    /// None: too few distinct rows to show any modes.
    pub fn view(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Option<View>> {
        not_empty(sample)?;
        let block = distinct(&sample.points, sample.blocks.first().map_or(&[], Vec::as_slice));
        // A given number needs as many rows, not evidence.
        if block.len() < if self.fixed { 1 } else { FEWEST } {
            return Ok(None);
        }
        let dims = sample.points.cols();
        let p = pca::usual_components(dims).min(self.components);
        let projection = pca::projection(&gather(sample, &block), p, seed, progress)?;
        let rows = thin(sample, block, self.rows, seed);
        let points = pca::apply(projection.as_ref(), &gather(sample, &rows));
        Ok(Some(View { rows, points, projection }))
    }

    /// Runs `method` on the rows and on their halves.
    pub fn fit(
        &self,
        sample: &Sample,
        seed: u64,
        progress: &Progress,
        method: impl Fn(&Matrix, Scale) -> Result<Found>,
    ) -> Result<Fit> {
        let Some(view) = self.view(sample, seed, progress)? else {
            return one(sample, seed, "too few distinct rows", Found::default(), progress);
        };
        let stage = progress.stage("count modalities", "runs", 3);
        let mut found = method(&view.points, Scale::Whole)?;
        let count = settle(&mut found, &view.points);
        stage.advance(1)?;
        if count < 2 && !self.fixed {
            return one(sample, seed, "the method found one", found, progress);
        }
        let halves = self.halves(sample, &view, seed, |points| {
            let mut found = method(points, Scale::Half)?;
            let count = settle(&mut found, points);
            stage.advance(1)?;
            Ok((found.labels, count))
        })?;
        let information = halves.information;
        let k = count as u32;
        for (name, value) in [
            ("I", information.mutual),
            ("H", information.entropy),
            ("R", information.reproducible()),
            ("M of half A", halves.counts[0] as f64),
            ("M of half B", halves.counts[1] as f64),
        ] {
            found.evidence.push(Criterion { k, criterion: name.into(), value });
        }
        if self.gated && information.reproducible() <= 0.0 {
            return one(sample, seed, "halves of the rows do not agree", found, progress);
        }
        let mut labels = view.carry(sample, &found.labels);
        let old = renumber(&mut labels, count);
        let prominence = match found.prominence.is_empty() {
            true => vec![f32::NAN; count],
            false => old.iter().map(|&m| found.prominence[m as usize]).collect(),
        };
        let mut details = object(json!({
            "p": view.points.cols(), "n_s": view.rows.len(), "halves": halves.counts,
            "I": information.mutual, "rho": information.share(),
        }));
        details.extend(found.details);
        let seen = [count, halves.counts[0], halves.counts[1]].map(|m| m.max(1) as u32);
        Ok(Fit {
            labels,
            prominence,
            kind: vec!["mode".into(); count],
            projection: view.projection,
            confidence: information.share(),
            interval: match self.fixed {
                true => (k, k),
                false => (seen.into_iter().min().unwrap_or(k), seen.into_iter().max().unwrap_or(k)),
            },
            details: object(details.into()),
            curve: found.curve,
            evidence: found.evidence,
        })
    }

    /// What the two halves of the rows find, and what they know of each other.
    fn halves(
        &self,
        sample: &Sample,
        view: &View,
        seed: u64,
        method: impl Fn(&Matrix) -> Result<(Vec<u32>, usize)>,
    ) -> Result<Halved> {
        let points = view.halves(sample, seed);
        if points.iter().any(|half| half.rows() < FEWEST / 4) {
            // Nothing was reproduced: a share of 0.
            return Ok(Halved {
                counts: [1, 1],
                information: Information { mutual: 0.0, entropy: 1.0, largest: 1.0 },
            });
        }
        let (a, b) = (method(&points[0])?, method(&points[1])?);
        Ok(Halved { counts: [a.1, b.1], information: agreement(&points, [&a.0, &b.0]) })
    }
}

struct Halved {
    counts: [usize; 2],
    information: Information,
}

/// What labellings of two sets of points know of each other: each is carried to the other's rows by the nearest row.
fn agreement(points: &[Matrix; 2], labels: [&Vec<u32>; 2]) -> Information {
    let ways = [0, 1].map(|h| {
        let near = nearest_of(&points[h], &points[1 - h]);
        let carried: Vec<u32> = near.into_iter().map(|j| labels[1 - h][j as usize]).collect();
        Information::between(labels[h], &carried)
    });
    Information::mean(&ways).expect("there are two ways")
}

impl View {
    /// The rows of each keyed half.
    pub fn halves(&self, sample: &Sample, seed: u64) -> [Matrix; 2] {
        let bit = |i: usize| Stream::Half.key(seed, &[0, sample.rows[self.rows[i] as usize]]) & 1;
        let halves = Halves::new(self.rows.len(), |i| bit(i) == 1);
        halves.rows.map(|half| self.points.gather(half.iter().map(|&i| i as usize)))
    }

    /// Labels of these rows on all rows of the sample. O(rows of the sample x rows of the view x p).
    fn carry(&self, sample: &Sample, labels: &[u32]) -> Vec<u32> {
        let mut all = vec![NOISE; sample.rows.len()];
        for (&i, &label) in self.rows.iter().zip(labels) {
            all[i as usize] = label;
        }
        let others: Vec<usize> = (0..all.len()).filter(|&i| all[i] == NOISE).collect();
        if !others.is_empty() {
            let z = pca::apply(self.projection.as_ref(), &sample.points.gather(others.iter().copied()));
            for (i, j) in others.into_iter().zip(nearest_of(&z, &self.points)) {
                all[i] = labels[j as usize];
            }
        }
        all
    }
}

/// The `most` rows of smallest key, ascending.
fn thin(sample: &Sample, block: Vec<u32>, most: usize, seed: u64) -> Vec<u32> {
    if block.len() <= most {
        return block;
    }
    let key = |i: u32| Stream::Estimator.key(seed, &[0, sample.rows[i as usize]]);
    let mut keyed: Vec<(u64, u32)> = block.into_iter().map(|i| (key(i), i)).collect();
    keyed.sort_unstable();
    let mut rows: Vec<u32> = keyed.into_iter().take(most).map(|x| x.1).collect();
    rows.sort_unstable();
    rows
}

/// Numbers the clusters 0, 1, .. and gives noise to the nearest clustered row; returns their number, at least 1.
fn settle(found: &mut Found, points: &Matrix) -> usize {
    let labels = &mut found.labels;
    let mut used: Vec<u32> = labels.iter().copied().filter(|&l| l != NOISE).collect();
    used.sort_unstable();
    used.dedup();
    if used.is_empty() {
        labels.fill(0);
        found.prominence.clear();
        return 1;
    }
    if !found.prominence.is_empty() {
        found.prominence = used.iter().map(|&l| found.prominence[l as usize]).collect();
    }
    for label in labels.iter_mut().filter(|l| **l != NOISE) {
        *label = used.binary_search(label).expect("a label in use") as u32;
    }
    let (noise, kept): (Vec<usize>, Vec<usize>) = (0..labels.len()).partition(|&i| labels[i] == NOISE);
    if !noise.is_empty() {
        let near = nearest_of(&points.gather(noise.iter().copied()), &points.gather(kept.iter().copied()));
        for (i, j) in noise.into_iter().zip(near) {
            labels[i] = labels[kept[j as usize]];
        }
    }
    used.len()
}

/// One modality, and why.
pub fn one(sample: &Sample, seed: u64, reason: &str, found: Found, progress: &Progress) -> Result<Fit> {
    let block = distinct(&sample.points, sample.blocks.first().map_or(&[], Vec::as_slice));
    let mut fit = one_mode(sample, &[block], found.evidence, seed, progress)?;
    fit.details.extend(found.details);
    fit.details.insert("reason".into(), reason.into());
    fit.curve = found.curve;
    Ok(fit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::tests::{agreement as pairs, mixture};

    #[test]
    fn noise_and_unseen_rows_take_the_cluster_of_the_nearest_row() {
        let (sample, truth) = mixture(300, 3, 3, 9.0);
        // A method that clusters by the sign of nothing but what it is told: every third row, the others are noise.
        let method = |points: &Matrix, _: Scale| {
            let near = nearest_of(points, &sample.points);
            let labels = near.iter().map(|&i| if i % 2 == 0 { 7 + truth[i as usize] } else { NOISE });
            Ok(Found { labels: labels.collect(), ..Found::default() })
        };
        let frame = Frame { rows: 120, ..Frame::default() };
        let fit = frame.fit(&sample, 1, &Progress::default(), method).unwrap();
        assert_eq!((fit.kind.len(), fit.interval), (3, (3, 3)));
        assert_eq!(fit.details["n_s"], 120);
        assert!(pairs(&fit.labels, &truth) > 0.999 && fit.confidence > 0.9);
    }

    #[test]
    fn a_gate_asks_the_halves() {
        let (sample, _) = mixture(300, 3, 1, 0.0);
        // Labels by the order of the rows, which says nothing about where they are.
        let method = |points: &Matrix, _: Scale| {
            let labels = (0..points.rows() as u32).map(|i| i % 4).collect();
            Ok(Found { labels, ..Found::default() })
        };
        let fit = |gated| {
            Frame { gated, ..Frame::default() }.fit(&sample, 1, &Progress::default(), method).unwrap()
        };
        assert_eq!((fit(false).kind.len(), fit(true).kind.len()), (4, 1));
        assert!(fit(false).confidence < 0.1);
    }
}
