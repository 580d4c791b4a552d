//! Prototypes: small k-means cells inside each modality. A row belongs to the modality and stratum of its nearest
//! prototype, so modalities of any shape cost one nearest-centre search.

use rayon::prelude::*;

use crate::kit::matrix::Matrix;
use crate::kit::rng::Stream;
use crate::modalities::{Fit, Sample, lloyd, pca};

/// Prototypes aimed at, all modalities together.
pub const PROTOTYPES: u32 = 1024;
/// Sample rows of a prototype below which neighbourhoods of few rows lose much of their likeness (measured: 3 rows a tenth to a fifth).
pub const SAMPLE_ROWS: u64 = 16;
const STEPS: usize = 10;

/// In the projected space, those of modality 0 first.
#[derive(Clone, Debug, Default)]
pub struct Prototypes {
    pub centers: Matrix,
    /// Modality of every prototype.
    pub modality: Vec<u32>,
    /// Rows of the modality's sample in every prototype's cell, at least 1.
    pub sample_rows: Vec<u64>,
}

/// Fits them on all rows of the sample: a modality with share s of the rows gets a number in proportion to sqrt(s), at
/// most an eighth of its rows and never more than its distinct rows. `wanted`: about so many in all. O(10 n wanted p).
pub fn fit(sample: &Sample, fit: &Fit, wanted: u32, seed: u64) -> Prototypes {
    let z = pca::apply(fit.projection.as_ref(), &sample.points);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); fit.kind.len()];
    for (i, &m) in fit.labels.iter().enumerate() {
        members[m as usize].push(i);
    }
    let counts = counts(&members.iter().map(Vec::len).collect::<Vec<_>>(), wanted);
    let cells: Vec<Option<lloyd::Clusters>> = members
        .par_iter()
        .zip(&counts)
        .enumerate()
        .map(|(m, (rows, &q))| {
            let points = z.gather(rows.iter().copied());
            // Beside the starts of whole fits, whose second word is a small number.
            let start = Stream::Init.key(seed, &[u64::MAX, m as u64]);
            (q > 0).then(|| lloyd::kmeans(&points, q, STEPS, start))
        })
        .collect();
    let mut all = Prototypes::default();
    let mut centers = Vec::new();
    for (m, cells) in cells.into_iter().enumerate().filter_map(|(m, cells)| Some((m, cells?))) {
        let first = all.modality.len();
        all.modality.resize(first + cells.centers.rows(), m as u32);
        all.sample_rows.resize(all.modality.len(), 0);
        for &c in &cells.labels {
            all.sample_rows[first + c as usize] += 1;
        }
        centers.extend_from_slice(cells.centers.as_slice());
    }
    all.centers = Matrix::from_vec(all.modality.len(), z.cols(), centers);
    all
}

/// clamp(round(Q sqrt(s_m) / sum sqrt s), 1, max(1, n_m / 8)), Q as wanted; 0 for a modality without rows.
fn counts(rows: &[usize], wanted: u32) -> Vec<usize> {
    let total: f64 = rows.iter().map(|&n| (n as f64).sqrt()).sum();
    let count = |n: usize| {
        ((f64::from(wanted) * (n as f64).sqrt() / total).round() as usize).clamp(1, (n / 8).max(1))
    };
    rows.iter().map(|&n| if n == 0 { 0 } else { count(n) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::knn::nearest_of;
    use crate::kit::progress::Progress;
    use crate::modalities::estimators::tests::mixture;
    use crate::modalities::{EstimatorSpec, Params};

    #[test]
    fn numbers_follow_the_square_root_of_the_rows() {
        assert_eq!(counts(&[90_000, 10_000], 1024), [768, 256]);
        assert_eq!(counts(&[80, 9, 1, 0], PROTOTYPES), [10, 1, 1, 0]);
    }

    #[test]
    fn prototypes_describe_their_modality() {
        let (sample, truth) = mixture(400, 40, 3, 6.0);
        let params = Params { estimator: EstimatorSpec::Kmeans, count: Some(3), ..Default::default() };
        let found =
            params.estimator.build(&params, None).unwrap().fit(&sample, 1, &Progress::default()).unwrap();
        let prototypes = fit(&sample, &found, PROTOTYPES, 1);
        assert_eq!(prototypes.centers.cols(), 32);
        assert!(prototypes.modality.is_sorted());
        assert_eq!(prototypes.sample_rows.iter().sum::<u64>(), 400);
        assert!(prototypes.sample_rows.iter().all(|&n| n > 0));
        let z = pca::apply(found.projection.as_ref(), &sample.points);
        let nearest = nearest_of(&z, &prototypes.centers);
        for (i, &c) in nearest.iter().enumerate() {
            assert_eq!(prototypes.modality[c as usize], found.labels[i], "row {i} of {}", truth[i]);
        }
    }

    #[test]
    fn never_more_than_the_distinct_rows() {
        let sample = Sample {
            rows: (0..64).collect(),
            points: Matrix::from_vec(64, 1, (0..64).map(|i| (i % 2) as f32).collect()),
            blocks: vec![(0..64).collect()],
        };
        let params = Params { estimator: EstimatorSpec::Kmeans, count: Some(1), ..Default::default() };
        let found =
            params.estimator.build(&params, None).unwrap().fit(&sample, 1, &Progress::default()).unwrap();
        let prototypes = fit(&sample, &found, PROTOTYPES, 1);
        assert_eq!((prototypes.centers.rows(), prototypes.sample_rows), (2, vec![32, 32]));
    }
}
