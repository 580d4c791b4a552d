//! ToMATo (Chazal, Guibas, Oudot & Skraba 2013) at one level: the density modes that rise five standard errors.
//!
//! The density of a row is a power of the distance to its 32nd neighbour, the graph its first 16 neighbours, as in
//! [`modes`](super::modes); a hill that rises less than tau = 5 / sqrt(32) above the pass to a higher one is part of that
//! one (the log density's standard error is 1 / sqrt(k)), and one of fewer than 32 rows is part of the nearest. The curve is
//! the persistence diagram: how far each peak rises, the most prominent first; a gap between tau and the next peak says
//! that the number is clear.
//!
//! O(n^2 p) for the n rows of a block, in up to 32 principal components; of that the search for neighbours is nearly all.

use serde_json::json;

use super::frame::{Found, Frame, Scale};
use super::grid::object;
use super::modes::{Field, Joined};
use super::neighbours::Neighbours;
use crate::format::evidence::Criterion;
use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::modalities::{Fit, ModalityEstimator, Sample};

/// Neighbours of the density, and of the graph.
const K: usize = 32;
const GRAPH: usize = 16;
/// Standard errors of the log density that a mode rises at least.
const Z: f64 = 5.0;
/// Peaks in the curve, at most.
const SHOWN: usize = 200;

#[derive(Clone, Copy, Debug, Default)]
pub struct Tomato;

impl ModalityEstimator for Tomato {
    fn name(&self) -> &'static str {
        "tomato"
    }

    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        Frame::default().fit(sample, seed, progress, |points, scale| Ok(modes(points, scale)))
    }
}

fn modes(points: &Matrix, scale: Scale) -> Found {
    let n = points.rows();
    let wanted = if scale == Scale::Whole { K } else { K / 2 };
    let k = wanted.min(n / 4).max(4).min(n - 1);
    let neighbours = Neighbours::new(points, k);
    let field = Field::new(&neighbours, k, k.min(GRAPH), Joined::Either);
    // A half is looked at on the same level: what rises less is no mode there either.
    let tau = Z / (K.min(if scale == Scale::Whole { k } else { 2 * k }) as f64).sqrt();
    let found = field.modes(tau, k, &neighbours, points);
    let mut rises = field.prominence(&field.modes(0.0, 1, &neighbours, points));
    rises.sort_by(|a, b| b.total_cmp(a));
    let peak =
        |(i, &value): (usize, &f64)| Criterion { k: i as u32 + 1, criterion: "prominence".into(), value };
    Found {
        prominence: field.prominence(&found).into_iter().map(|x| x as f32).collect(),
        details: object(json!({ "k": k, "tau": tau, "dimension": field.dimension() })),
        labels: found.labels,
        curve: rises.iter().take(SHOWN).enumerate().map(peak).collect(),
        evidence: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::tests::{agreement, degenerate, mixture, same_on_any_threads};

    #[test]
    fn modes_that_rise_are_found_and_one_is_one() {
        let (sample, truth) = mixture(900, 8, 5, 4.0);
        let fit = Tomato.fit(&sample, 1, &Progress::default()).unwrap();
        assert_eq!(fit.kind.len(), 5, "{:?}", fit.details);
        assert!(agreement(&fit.labels, &truth) > 0.99 && fit.confidence > 0.9);
        // The persistence diagram falls from modes to fluctuations at tau.
        let tau = fit.details["tau"].as_f64().unwrap();
        assert!(fit.curve[4].value >= tau && fit.curve.get(5).is_none_or(|c| c.value < tau));
        assert!(fit.prominence.iter().all(|&x| f64::from(x) >= tau));
        let one = Tomato.fit(&mixture(900, 16, 1, 0.0).0, 1, &Progress::default()).unwrap();
        assert_eq!(one.kind.len(), 1);
        degenerate(&Tomato);
        same_on_any_threads(&Tomato);
    }
}
