//! The modality estimators, one file each; the default is told in [`consensus`], its parts in [`grid`], [`neighbours`],
//! [`modes`] and [`information`].

pub mod neighbours;
pub mod modes;
pub mod information;
pub mod grid;
pub mod consensus;
pub mod rim;
pub mod pretrained;
pub mod kmeans;
pub mod column;

use crate::error::{Error, Result};
use crate::modalities::{EstimatorSpec, ModalityEstimator, Params};

impl EstimatorSpec {
    pub const ALL: [EstimatorSpec; 5] = [
        EstimatorSpec::Consensus,
        EstimatorSpec::Rim,
        EstimatorSpec::Pretrained,
        EstimatorSpec::Kmeans,
        EstimatorSpec::Column,
    ];

    /// As in the config and in plan.json.
    pub fn name(self) -> &'static str {
        match self {
            EstimatorSpec::Consensus => "consensus",
            EstimatorSpec::Rim => "rim",
            EstimatorSpec::Pretrained => "pretrained",
            EstimatorSpec::Kmeans => "kmeans",
            EstimatorSpec::Column => "column",
        }
    }

    /// The estimator with this name.
    pub fn named(name: &str) -> Option<EstimatorSpec> {
        Self::ALL.into_iter().find(|spec| spec.name() == name)
    }

    /// Whether it finds M; the others are told.
    pub fn counts(self) -> bool {
        !matches!(self, EstimatorSpec::Kmeans | EstimatorSpec::Column)
    }

    /// The estimator as `params` want it. `values`: the sample rows' values of `params.column`, for `column` alone.
    pub fn build(
        self,
        params: &Params,
        values: Option<column::Column>,
    ) -> Result<Box<dyn ModalityEstimator + Send + Sync>> {
        params.check()?;
        Ok(match self {
            EstimatorSpec::Consensus => Box::new(consensus::Consensus),
            EstimatorSpec::Rim => Box::new(rim::Rim),
            EstimatorSpec::Pretrained => Box::new(pretrained::Pretrained::default()),
            EstimatorSpec::Kmeans => {
                Box::new(kmeans::Kmeans { count: params.count.expect("checked: k-means has a count") })
            }
            EstimatorSpec::Column => Box::new(values.ok_or_else(|| Error::Modalities {
                reason: "the estimator `column` was given no values".into(),
                help: "name the column with `--stratify-by`, or choose another estimator".into(),
            })?),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::matrix::Matrix;
    use crate::modalities::Sample;
    use crate::progress::Progress;
    use crate::rng::{key, normal};

    /// `n` rows of a mixture of `k` unit Gaussians in `dims` dimensions, centres keyed and about `apart * sqrt(dims)`
    /// from each other, with all rows in each of five equal blocks of the sample; and the component of each row.
    pub fn mixture(n: usize, dims: usize, k: usize, apart: f64) -> (Sample, Vec<u32>) {
        let component = |i: usize| (i * 7 + i / k) % k;
        let data = (0..n)
            .flat_map(|i| {
                (0..dims).map(move |j| {
                    let center = apart * normal(key(77, &[component(i) as u64, j as u64]));
                    (center + normal(key(5, &[i as u64, j as u64]))) as f32
                })
            })
            .collect();
        let rows = (0..n as u64).collect();
        let blocks = vec![(0..n as u32).collect(); 5];
        let truth = (0..n).map(|i| component(i) as u32).collect();
        (Sample { rows, points: Matrix::from_vec(n, dims, data), blocks }, truth)
    }

    /// Share of pairs of rows on which two labellings agree.
    pub fn agreement(a: &[u32], b: &[u32]) -> f64 {
        let pairs = (0..a.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
        let agree = pairs.filter(|&(i, j)| (a[i] == a[j]) == (b[i] == b[j])).count();
        agree as f64 / (a.len() * (a.len() - 1) / 2) as f64
    }

    #[test]
    fn every_estimator_keeps_the_promises_of_a_fit() {
        let (sample, truth) = mixture(300, 5, 3, 8.0);
        for spec in EstimatorSpec::ALL {
            let mut params = Params { estimator: spec, ..Default::default() };
            let mut values = None;
            match spec {
                EstimatorSpec::Consensus | EstimatorSpec::Rim | EstimatorSpec::Pretrained => {}
                EstimatorSpec::Kmeans => params.count = Some(3),
                EstimatorSpec::Column => {
                    params.column = Some("kind".into());
                    let names = ["a", "b", "c"].map(String::from).to_vec();
                    values = Some(column::Column { values: names, ids: truth.clone() });
                }
            }
            let estimator = spec.build(&params, values).unwrap();
            assert_eq!(serde_json::to_value(spec).unwrap(), estimator.name());
            let fit = estimator.fit(&sample, 1, &Progress::default()).unwrap();
            let m = fit.kind.len();
            assert_eq!((m, fit.prominence.len()), (3, 3), "{spec:?}");
            assert_eq!(fit.labels.len(), sample.rows.len());
            assert!((0.0..=1.0).contains(&fit.confidence));
            assert!(fit.interval.0 <= 3 && 3 <= fit.interval.1, "{spec:?}: {:?}", fit.interval);
            let rows: Vec<usize> =
                (0..m as u32).map(|m| fit.labels.iter().filter(|&&l| l == m).count()).collect();
            assert!(rows.is_sorted_by(|a, b| a >= b) && rows[m - 1] > 0, "{spec:?}: {rows:?}");
            assert!(agreement(&fit.labels, &truth) > 0.99, "{spec:?}");
        }
    }

    #[test]
    fn column_needs_its_values() {
        let params =
            Params { estimator: EstimatorSpec::Column, column: Some("kind".into()), ..Default::default() };
        assert!(matches!(EstimatorSpec::Column.build(&params, None), Err(Error::Modalities { .. })));
    }
}
