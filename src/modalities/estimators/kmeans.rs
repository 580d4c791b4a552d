//! k-means with a given M: for users who know how many modalities they want.

use serde_json::json;

use super::information::Information;
use super::neighbours::Halves;
use crate::error::{Error, Result};
use crate::kernels::knn::nearest_of;
use crate::matrix::Matrix;
use crate::modalities::lloyd::{self, Clusters};
use crate::modalities::{Fit, ModalityEstimator, Sample, pca, renumber};
use crate::progress::Progress;
use crate::rng::{Stream, key};

const RESTARTS: u64 = 4;
const STEPS: usize = 100;

/// `count` cells of the whole sample in its usual number of components; the best of four keyed starts. The confidence
/// is the share I / H of information that k-means on two halves of the sample agree on, as for `rim`; the interval is
/// (M, M), because M was given. O(steps n M p).
#[derive(Clone, Copy, Debug)]
pub struct Kmeans {
    pub count: u32,
}

impl ModalityEstimator for Kmeans {
    fn name(&self) -> &'static str {
        "kmeans"
    }

    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        let count = self.count as usize;
        let too_few = |rows: usize| Error::Modalities {
            reason: format!("{count} modalities were asked for, the sample has {rows} distinct rows"),
            help: format!("ask for at most {rows}, or let `--estimator consensus` count them"),
        };
        if sample.rows.is_empty() {
            return Err(too_few(0));
        }
        let stage = progress.stage("fit k-means", "runs", RESTARTS + 1);
        let p = pca::usual_components(sample.points.cols());
        let projection = pca::projection(&sample.points, p, seed);
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
            return Err(too_few(best.centers.rows()));
        }
        let confidence = agreement(sample, &z, count, seed);
        stage.advance(1)?;
        let mut labels = best.labels;
        renumber(&mut labels, count);
        let details = json!({ "p": p, "inertia": best.inertia, "restarts": RESTARTS });
        Ok(Fit {
            labels,
            prominence: vec![f32::NAN; count],
            kind: vec!["mode".into(); count],
            projection,
            confidence,
            interval: (self.count, self.count),
            details: details.as_object().cloned().unwrap_or_default(),
            curve: Vec::new(),
            evidence: Vec::new(),
        })
    }
}

/// How well centres fitted on one half of the rows predict the cells of the other, both ways.
fn agreement(sample: &Sample, z: &Matrix, count: usize, seed: u64) -> f64 {
    let halves = Halves::new(z.rows(), |i| Stream::Half.key(seed, &[sample.rows[i]]) & 1 == 1);
    if halves.rows.iter().any(Vec::is_empty) {
        return 0.0;
    }
    let points = [0, 1].map(|h| z.gather(halves.rows[h].iter().map(|&i| i as usize)));
    let fits = [0, 1].map(|h| {
        let starts = (0..RESTARTS).map(|r| key(Stream::Init.key(seed, &[RESTARTS + h as u64]), &[r]));
        let runs = starts.map(|start| lloyd::kmeans(&points[h], count, STEPS, start));
        runs.reduce(|best, run| if run.inertia < best.inertia { run } else { best }).expect("there is a run")
    });
    let ways =
        [0, 1].map(|h| Information::between(&fits[h].labels, &nearest_of(&points[h], &fits[1 - h].centers)));
    Information::mean(&ways).expect("there are two ways").share()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::tests::mixture;

    #[test]
    fn confidence_is_low_where_there_is_nothing_to_find() {
        let run = |count, apart| {
            let (sample, _) = mixture(400, 4, 4, apart);
            Kmeans { count }.fit(&sample, 2, &Progress::default()).unwrap()
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
        let error = Kmeans { count: 4 }.fit(&sample, 0, &Progress::default()).unwrap_err();
        assert!(error.to_string().contains("3 distinct rows") && error.help().contains("at most 3"));
        assert_eq!(Kmeans { count: 3 }.fit(&sample, 0, &Progress::default()).unwrap().kind.len(), 3);
    }
}
