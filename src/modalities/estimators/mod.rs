//! The modality estimators, one file each; docs/estimators.md says when to prefer which. The default is told in
//! [`consensus`] and [`communities`], the parts of estimators of density modes in [`grid`], [`neighbours`], [`modes`] and
//! [`information`], what clusterings of one block share in [`frame`].

pub mod neighbours;
pub mod modes;
pub mod information;
pub mod grid;
pub mod louvain;
pub mod communities;
pub mod frame;
pub mod consensus;
pub mod pretrained;
pub mod hdbscan;
pub mod sweep;
pub mod kmeans;
#[cfg(feature = "linfa")]
mod linfa;
#[cfg(feature = "linfa")]
pub mod gaussian_mixture;
#[cfg(feature = "linfa")]
pub mod dbscan;
pub mod column;

use crate::kit::error::{Error, Result};
use crate::modalities::{EstimatorSpec, ModalityEstimator, Params};

impl EstimatorSpec {
    /// Those that make plans.
    pub const ALL: [EstimatorSpec; 7] = [
        EstimatorSpec::Consensus,
        EstimatorSpec::Pretrained,
        EstimatorSpec::Hdbscan,
        EstimatorSpec::Kmeans,
        EstimatorSpec::GaussianMixture,
        EstimatorSpec::Dbscan,
        EstimatorSpec::Column,
    ];
    /// Those that made plans once.
    pub const RETIRED: [EstimatorSpec; 5] = [
        EstimatorSpec::Rim,
        EstimatorSpec::Tomato,
        EstimatorSpec::UnimodalityForest,
        EstimatorSpec::LinfaKmeans,
        EstimatorSpec::Optics,
    ];

    /// As in the config and in plan.json.
    pub fn name(self) -> &'static str {
        match self {
            EstimatorSpec::Consensus => "consensus",
            EstimatorSpec::Rim => "rim",
            EstimatorSpec::Pretrained => "pretrained",
            EstimatorSpec::Hdbscan => "hdbscan",
            EstimatorSpec::Tomato => "tomato",
            EstimatorSpec::Kmeans => "kmeans",
            EstimatorSpec::UnimodalityForest => "unimodality-forest",
            EstimatorSpec::LinfaKmeans => "linfa-kmeans",
            EstimatorSpec::GaussianMixture => "gaussian-mixture",
            EstimatorSpec::Dbscan => "dbscan",
            EstimatorSpec::Optics => "optics",
            EstimatorSpec::Column => "column",
        }
    }

    /// The estimator with this name.
    pub fn named(name: &str) -> Option<EstimatorSpec> {
        Self::ALL.into_iter().chain(Self::RETIRED).find(|spec| spec.name() == name)
    }

    /// Which to use in the place of one that is retired.
    pub fn instead(self) -> Option<EstimatorSpec> {
        match self {
            EstimatorSpec::Rim | EstimatorSpec::Tomato | EstimatorSpec::UnimodalityForest => {
                Some(EstimatorSpec::Consensus)
            }
            EstimatorSpec::LinfaKmeans => Some(EstimatorSpec::Kmeans),
            EstimatorSpec::Optics => Some(EstimatorSpec::Hdbscan),
            _ => None,
        }
    }

    /// Refuses one that is retired.
    pub fn check(self) -> Result<()> {
        let Some(instead) = self.instead() else { return Ok(()) };
        Err(Error::config(
            "modalities.estimator",
            format!("`{}` is retired: plans made with it are read, new ones are not made", self.name()),
            format!("use `--estimator {}`", instead.name()),
        ))
    }

    /// Whether it finds M if none is given.
    pub fn counts(self) -> bool {
        self != EstimatorSpec::Column
    }

    /// Whether M can be given.
    pub fn takes_count(self) -> bool {
        matches!(self, EstimatorSpec::Kmeans | EstimatorSpec::GaussianMixture)
    }

    /// Whether [`Params::criterion`] chooses M.
    pub fn takes_criterion(self) -> bool {
        self == EstimatorSpec::Kmeans
    }

    /// Whether it needs the feature `linfa`.
    pub fn is_linfa(self) -> bool {
        matches!(self, EstimatorSpec::GaussianMixture | EstimatorSpec::Dbscan)
    }

    /// The estimator as `params` want it. `values`: the sample rows' values of `params.column`, for `column` alone.
    pub fn build(
        self,
        params: &Params,
        values: Option<column::Column>,
    ) -> Result<Box<dyn ModalityEstimator + Send + Sync>> {
        params.check()?;
        let (count, criterion) = (params.count, params.criterion.unwrap_or_default());
        Ok(match self {
            EstimatorSpec::Consensus => Box::new(consensus::Consensus::default()),
            EstimatorSpec::Pretrained => Box::new(pretrained::Pretrained::default()),
            EstimatorSpec::Hdbscan => Box::new(hdbscan::Hdbscan),
            EstimatorSpec::Kmeans => Box::new(kmeans::Kmeans { count, criterion }),
            #[cfg(feature = "linfa")]
            EstimatorSpec::GaussianMixture => Box::new(gaussian_mixture::GaussianMixture { count }),
            #[cfg(feature = "linfa")]
            EstimatorSpec::Dbscan => Box::new(dbscan::Dbscan),
            #[cfg(not(feature = "linfa"))]
            linfa if linfa.is_linfa() => {
                return Err(Error::config(
                    "modalities.estimator",
                    format!("this build has no `{}`", linfa.name()),
                    "build with `--features linfa`, or choose another estimator",
                ));
            }
            EstimatorSpec::Column => Box::new(values.ok_or_else(|| Error::Modalities {
                reason: "the estimator `column` was given no values".into(),
                help: "name the column with `--stratify-by`, or choose another estimator".into(),
            })?),
            _ => unreachable!("retired estimators are refused, every other has its arm"),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kit::matrix::Matrix;
    use crate::kit::progress::Progress;
    use crate::kit::rng::{key, normal};
    use crate::modalities::Sample;

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

    /// Estimators that this build has.
    fn here() -> impl Iterator<Item = EstimatorSpec> {
        EstimatorSpec::ALL.into_iter().filter(|spec| cfg!(feature = "linfa") || !spec.is_linfa())
    }

    /// All rows in each of five blocks.
    pub fn whole(points: Matrix) -> Sample {
        let n = points.rows() as u32;
        Sample { rows: (0..u64::from(n)).collect(), blocks: vec![(0..n).collect(); 5], points }
    }

    /// Samples without anything to count are one modality, and none is an error.
    pub fn degenerate(estimator: &dyn ModalityEstimator) {
        let fit = |points: Matrix| estimator.fit(&whole(points), 1, &Progress::default()).unwrap();
        let few = Matrix::from_vec(200, 1, (0..200).map(|i| (i % 15) as f32).collect());
        let fifteen = Matrix::from_vec(15, 3, mixture(15, 3, 2, 20.0).0.points.as_slice().to_vec());
        for points in
            [Matrix::from_vec(200, 3, vec![7.0; 600]), Matrix::from_vec(1, 40, vec![1.0; 40]), few, fifteen]
        {
            let n = points.rows();
            let fit = fit(points);
            assert_eq!((fit.kind.len(), fit.labels, fit.interval), (1, vec![0; n], (1, 1)));
        }
        // Sixteen rows are looked at; what is found there is up to the method.
        let fit = fit(Matrix::from_vec(16, 2, mixture(16, 2, 2, 20.0).0.points.as_slice().to_vec()));
        assert_eq!((fit.labels.len(), fit.prominence.len()), (16, fit.kind.len()));
        assert!(estimator.fit(&Sample::default(), 1, &Progress::default()).is_err());
    }

    pub fn same_on_any_threads(estimator: &(dyn ModalityEstimator + Sync)) {
        let (mut sample, _) = mixture(900, 40, 3, 1.5);
        sample.blocks[0].truncate(700);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let fit = pool.install(|| estimator.fit(&sample, 1, &Progress::default()).unwrap());
            let bits: Vec<u32> = fit.prominence.iter().map(|x| x.to_bits()).collect();
            (fit.labels, bits, fit.curve, fit.evidence, fit.details, fit.projection, fit.interval)
        };
        assert_eq!(run(1), run(7));
    }

    #[test]
    fn every_estimator_keeps_the_promises_of_a_fit() {
        let (sample, truth) = mixture(300, 5, 3, 8.0);
        for spec in here() {
            let mut params = Params { estimator: spec, ..Default::default() };
            let mut values = None;
            if spec == EstimatorSpec::Column {
                params.column = Some("kind".into());
                let names = ["a", "b", "c"].map(String::from).to_vec();
                values = Some(column::Column { values: names, ids: truth.clone() });
            }
            let estimator = spec.build(&params, values).unwrap();
            assert_eq!(serde_json::to_value(spec).unwrap(), estimator.name());
            assert_eq!(EstimatorSpec::named(estimator.name()), Some(spec));
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
            // What there is to plot.
            assert!(spec == EstimatorSpec::Column || !fit.curve.is_empty(), "{spec:?}");
            assert!(fit.curve.iter().chain(&fit.evidence).all(|c| c.value.is_finite()), "{spec:?}");
        }
    }

    #[test]
    fn a_given_number_is_taken() {
        let (sample, truth) = mixture(300, 5, 3, 8.0);
        for spec in here().filter(|spec| spec.takes_count()) {
            for count in [1, 3] {
                let params = Params { estimator: spec, count: Some(count), ..Default::default() };
                let estimator = spec.build(&params, None).unwrap();
                let fit = estimator.fit(&sample, 1, &Progress::default()).unwrap();
                assert_eq!((fit.kind.len() as u32, fit.interval), (count, (count, count)), "{spec:?}");
                assert!(count == 1 || agreement(&fit.labels, &truth) > 0.99, "{spec:?}");
            }
        }
    }

    #[test]
    fn retired_estimators_are_named_and_refused() {
        for spec in EstimatorSpec::RETIRED {
            assert_eq!(serde_json::to_value(spec).unwrap(), spec.name());
            assert_eq!(EstimatorSpec::named(spec.name()), Some(spec));
            let error = spec.build(&Params { estimator: spec, ..Default::default() }, None).err().unwrap();
            let instead = spec.instead().unwrap();
            assert!(EstimatorSpec::ALL.contains(&instead) && instead.instead().is_none());
            assert!(error.to_string().contains(spec.name()) && error.help().contains(instead.name()));
        }
    }

    #[test]
    #[cfg(not(feature = "linfa"))]
    fn without_linfa_its_estimators_say_so() {
        for spec in EstimatorSpec::ALL.into_iter().filter(|spec| spec.is_linfa()) {
            let error = spec.build(&Params { estimator: spec, ..Default::default() }, None).err().unwrap();
            assert!(error.to_string().contains(spec.name()) && error.help().contains("--features linfa"));
        }
    }

    #[test]
    fn a_cancelled_run_ends() {
        let (sample, _) = mixture(300, 5, 3, 8.0);
        for spec in here().filter(|spec| spec.counts()) {
            let progress = Progress::default();
            progress.cancel_switch().store(true, std::sync::atomic::Ordering::Relaxed);
            let estimator = spec.build(&Params { estimator: spec, ..Default::default() }, None).unwrap();
            let end = estimator.fit(&sample, 1, &progress);
            assert!(matches!(end, Err(Error::Interrupted)), "{spec:?}");
        }
    }

    #[test]
    fn column_needs_its_values() {
        let params =
            Params { estimator: EstimatorSpec::Column, column: Some("kind".into()), ..Default::default() };
        assert!(matches!(EstimatorSpec::Column.build(&params, None), Err(Error::Modalities { .. })));
    }
}
