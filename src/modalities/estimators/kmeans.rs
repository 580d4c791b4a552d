//! k-means with a given M, or with the M that a criterion prefers ([`sweep`](super::sweep)).

use serde_json::json;

use super::frame::{Found, Frame, one};
use super::information::Information;
use super::neighbours::Halves;
use super::sweep::{Sweep, too_few};
use crate::kernels::knn::nearest_of;
use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::kit::rng::{Stream, key};
use crate::modalities::lloyd::{self, Clusters};
use crate::modalities::{CriterionSpec, Fit, ModalityEstimator, Sample, pca, renumber};

const RESTARTS: u64 = 4;
const STEPS: usize = 100;
/// Of every k of a sweep.
const SWEEP_RESTARTS: u64 = 4;
const SWEEP_STEPS: usize = 30;
const MOST: usize = 256;

/// `count` cells of the whole sample in its usual number of components; the best of four keyed starts. Without a count
/// the criterion chooses it on rows of the first block (4000; for the gap 2000).
///
/// The confidence is the share I / H of information that k-means on two halves of the sample agree on; the
/// interval is (M, M) if M was given, else the least and the largest k that the criterion prefers on the rows and on
/// their halves. O(steps n M p), and the sweep.
#[derive(Clone, Copy, Debug)]
pub struct Kmeans {
    pub count: Option<u32>,
    pub criterion: CriterionSpec,
}

impl Kmeans {
    /// The number of cells, its interval, and what the criterion saw.
    fn count(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<(usize, (u32, u32), Found)> {
        if let Some(count) = self.count {
            return Ok((count as usize, (count, count), Found::default()));
        }
        let rows = if self.criterion == CriterionSpec::Gap { 2000 } else { 4000 };
        let Some(view) = (Frame { rows, ..Frame::default() }).view(sample, seed, progress)? else {
            return Ok((1, (1, 1), Found::default()));
        };
        let method = |x: &Matrix, k: usize, seed: u64| Some(best(x, k, SWEEP_STEPS, seed, SWEEP_RESTARTS));
        let sweep = Sweep { criterion: self.criterion, most: MOST, method: &method };
        let (choice, interval) = sweep.settle(sample, &view, seed, progress)?;
        let details = json!({ "criterion": self.criterion.name(), "swept_rows": view.rows.len() });
        let details = details.as_object().cloned().unwrap_or_default();
        Ok((choice.k, interval, Found { curve: choice.curve, details, ..Found::default() }))
    }
}

impl ModalityEstimator for Kmeans {
    fn name(&self) -> &'static str {
        "kmeans"
    }

    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        if let (Some(count), true) = (self.count, sample.rows.is_empty()) {
            return Err(too_few(count as usize, 0));
        }
        let (count, interval, found) = self.count(sample, seed, progress)?;
        if count == 1 && self.count.is_none() {
            let reason = "the criterion prefers one, or the rows are too few";
            return one(sample, seed, reason, found, progress);
        }
        let stage = progress.stage("fit k-means", "runs", RESTARTS + 1);
        let p = pca::usual_components(sample.points.cols());
        let projection = pca::projection(&sample.points, p, seed, progress)?;
        let z = pca::apply(projection.as_ref(), &sample.points);
        let mut best: Option<Clusters> = None;
        for restart in 0..RESTARTS {
            let found = lloyd::kmeans(&z, count, STEPS, Stream::Init.key(seed, &[restart]));
            if best.as_ref().is_none_or(|best| found.inertia < best.inertia) {
                best = Some(found);
            }
            stage.advance(1)?;
        }
        let best = best.expect("there is a run");
        if best.centers.rows() < count {
            return Err(too_few(count, best.centers.rows()));
        }
        let confidence = agreement(sample, &z, count, seed);
        stage.advance(1)?;
        let mut labels = best.labels;
        renumber(&mut labels, count);
        let details = json!({ "p": p, "inertia": best.inertia, "restarts": RESTARTS });
        let mut details = details.as_object().cloned().unwrap_or_default();
        details.extend(found.details);
        Ok(Fit {
            labels,
            prominence: vec![f32::NAN; count],
            kind: vec!["mode".into(); count],
            projection,
            confidence,
            interval,
            details,
            curve: found.curve,
            evidence: found.evidence,
        })
    }
}

/// The run of least inertia.
pub fn best(points: &Matrix, k: usize, steps: usize, seed: u64, restarts: u64) -> Clusters {
    let runs = (0..restarts).map(|r| lloyd::kmeans(points, k, steps, key(seed, &[r])));
    runs.reduce(|best, run| if run.inertia < best.inertia { run } else { best }).expect("there is a run")
}

/// How well centres fitted on one half of the rows predict the cells of the other, both ways.
fn agreement(sample: &Sample, z: &Matrix, count: usize, seed: u64) -> f64 {
    let halves = Halves::new(z.rows(), |i| Stream::Half.key(seed, &[sample.rows[i]]) & 1 == 1);
    if halves.rows.iter().any(Vec::is_empty) {
        return 0.0;
    }
    let points = [0, 1].map(|h| z.gather(halves.rows[h].iter().map(|&i| i as usize)));
    let start = |h: u64| Stream::Init.key(seed, &[RESTARTS + h]);
    let fits = [0, 1].map(|h| best(&points[h], count, STEPS, start(h as u64), RESTARTS));
    let ways =
        [0, 1].map(|h| Information::between(&fits[h].labels, &nearest_of(&points[h], &fits[1 - h].centers)));
    Information::mean(&ways).expect("there are two ways").share()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::tests::{degenerate, mixture, same_on_any_threads};

    fn given(count: u32) -> Kmeans {
        Kmeans { count: Some(count), criterion: CriterionSpec::default() }
    }

    #[test]
    fn confidence_is_low_where_there_is_nothing_to_find() {
        let run = |count, apart| {
            let (sample, _) = mixture(400, 4, 4, apart);
            given(count).fit(&sample, 2, &Progress::default()).unwrap()
        };
        let (clear, vague) = (run(4, 9.0), run(4, 0.0));
        assert!(
            clear.confidence > 0.95 && vague.confidence < 0.7,
            "{} {}",
            clear.confidence,
            vague.confidence
        );
        assert_eq!(run(1, 9.0).confidence, 1.0);
    }

    #[test]
    fn more_modalities_than_distinct_rows_is_an_error() {
        let points = Matrix::from_vec(40, 1, (0..40).map(|i| (i % 3) as f32).collect());
        let sample = Sample { rows: (0..40).collect(), points, blocks: vec![(0..40).collect()] };
        let error = given(4).fit(&sample, 0, &Progress::default()).unwrap_err();
        assert!(error.to_string().contains("3 distinct rows") && error.help().contains("at most 3"));
        assert_eq!(given(3).fit(&sample, 0, &Progress::default()).unwrap().kind.len(), 3);
    }

    #[test]
    fn a_criterion_finds_the_number() {
        let (sample, _) = mixture(500, 16, 5, 4.0);
        for criterion in CriterionSpec::ALL {
            let kmeans = Kmeans { count: None, criterion };
            let fit = kmeans.fit(&sample, 2, &Progress::default()).unwrap();
            assert_eq!((fit.kind.len(), fit.interval), (5, (5, 5)), "{criterion:?} {:?}", fit.curve);
            assert_eq!(fit.details["criterion"], criterion.name());
            degenerate(&kmeans);
        }
        same_on_any_threads(&Kmeans { count: None, criterion: CriterionSpec::Gap });
    }
}
