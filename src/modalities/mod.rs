//! Counts the modalities of a sample and assigns every row to one.
//!
//! A modality is a mode of the density, or a community of neighbouring rows, that two disjoint halves of a sample find
//! independently, at a stated resolution (the sample size). An estimator labels the sample's rows ([`ModalityEstimator`]); each modality is then described by small
//! k-means cells, its *prototypes*; a row belongs to the modality and the stratum of its nearest prototype ([`Model`]).

pub mod sample;
pub mod agreement;
pub mod pca;
pub mod lloyd;
pub mod estimators;
pub mod prototypes;
pub mod matching;
pub mod model;
pub mod assignment;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::features::Points;
use crate::format::evidence::Criterion;
use crate::format::projection::Projection;
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;

/// How modalities are counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    pub estimator: EstimatorSpec,
    /// Fixes M (`kmeans`, `gaussian-mixture`).
    pub count: Option<u32>,
    /// What chooses M for `kmeans`; the silhouette if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub criterion: Option<CriterionSpec>,
    /// The column whose values are the modalities (`column` only).
    pub column: Option<String>,
    /// Rows of a sample block; what counts as a mode is relative to it.
    pub resolution: u32,
    /// Names for modalities, of the values and words of the data that set each apart.
    #[serde(skip_serializing_if = "is_true")]
    pub names: bool,
}

fn is_true(x: &bool) -> bool {
    *x
}

impl Default for Params {
    fn default() -> Self {
        Params {
            estimator: EstimatorSpec::default(),
            count: None,
            criterion: None,
            column: None,
            resolution: 10_000,
            names: true,
        }
    }
}

impl Params {
    /// Whether M is counted; else the user gave a number or a column.
    pub fn counted(&self) -> bool {
        self.estimator.counts() && self.count.is_none()
    }

    /// Whether M, with these shares, is a finding one can rely on; a number or a column that the user gave always is.
    pub fn clear(&self, shares: &[f64]) -> bool {
        !self.counted() || clear(shares)
    }

    /// Contradictions that need no data to be seen.
    pub fn check(&self) -> Result<()> {
        let Params { estimator, count, criterion, column, resolution, names: _ } = self;
        let config = |key: &str, reason: String, help: &str| Err(Error::config(key, reason, help));
        estimator.check()?;
        match count {
            Some(0) => {
                return config(
                    "modalities.count",
                    "is 0, expected at least 1".into(),
                    "leave it out to have them counted",
                );
            }
            Some(m) if !estimator.takes_count() => {
                return config(
                    "modalities.count",
                    format!("{m} is fixed, but {} takes no fixed count", estimator.name()),
                    "use `--estimator kmeans` or `gaussian-mixture`, or leave the count out",
                );
            }
            _ => {}
        }
        match criterion {
            Some(_) if !estimator.takes_criterion() => {
                return config(
                    "modalities.criterion",
                    format!("chooses the number of k-means cells, but the estimator is {}", estimator.name()),
                    "use `--estimator kmeans`, or leave the criterion out",
                );
            }
            Some(_) if count.is_some() => {
                return config(
                    "modalities.criterion",
                    "chooses the number of modalities, but that is fixed".into(),
                    "leave out `--modalities` or `--criterion`",
                );
            }
            _ => {}
        }
        match (estimator, column) {
            (EstimatorSpec::Column, None) => config(
                "modalities.column",
                "the estimator `column` needs the column whose values are the modalities".into(),
                "name it, or choose another estimator",
            ),
            (EstimatorSpec::Column, Some(_)) | (_, None) => {
                if *resolution < 64 {
                    return config(
                        "modalities.resolution",
                        format!("{resolution} rows are too few to see modes"),
                        "use 64 or more; the default is 10000",
                    );
                }
                Ok(())
            }
            (_, Some(name)) => config(
                "modalities.column",
                format!("`{name}` is given, but only the estimator `column` uses a column"),
                "add `--estimator column`, or leave the column out",
            ),
        }
    }
}

/// The estimators by name; docs/estimators.md compares them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EstimatorSpec {
    /// Modes or communities that halves of the sample reproduce, at the level that blocks and levels agree on.
    #[default]
    Consensus,
    /// Modes at the level that a network trained on synthetic data judges best.
    Pretrained,
    /// Clusters of any density that outlive all others, if halves of the sample agree on them.
    Hdbscan,
    /// k-means with a given M, or the one that a criterion prefers.
    Kmeans,
    /// Gaussians with full covariances, of the crate `linfa-clustering`: a given M, or the one of the best BIC.
    GaussianMixture,
    /// DBSCAN of the crate `linfa-clustering`.
    Dbscan,
    /// The values of an existing column.
    Column,
    /// The others are retired: plans that were made with them are read.
    #[schemars(skip)]
    Rim,
    #[schemars(skip)]
    Tomato,
    #[schemars(skip)]
    UnimodalityForest,
    #[schemars(skip)]
    LinfaKmeans,
    #[schemars(skip)]
    Optics,
}

/// What chooses the number of k-means cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CriterionSpec {
    /// The mean silhouette; never 1.
    #[default]
    Silhouette,
    /// The gap statistic.
    Gap,
    /// The Bayesian information criterion of spherical Gaussians.
    Bic,
}

/// The rows the modalities are counted on.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Global row numbers of the union of the blocks, ascending.
    pub rows: Vec<u64>,
    /// Their points, same order.
    pub points: Matrix,
    /// Indices into `rows`, ascending, one list per block. Blocks are disjoint if the dataset is large enough.
    pub blocks: Vec<Vec<u32>>,
}

/// What an estimator found.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Modality of every sample row (index into `Sample::rows`); modality 0 has the most, ties: the lowest row.
    pub labels: Vec<u32>,
    /// One entry per modality: how clearly it is a mode of its own (nats of density for modes of `consensus`, of
    /// distance for `hdbscan`; NaN where the method has none).
    pub prominence: Vec<f32>,
    /// One entry per modality: "mode", "community", "noise", or the column's value.
    pub kind: Vec<String>,
    /// The space that prototypes live in; None: the feature space itself.
    pub projection: Option<Projection>,
    /// In [0, 1].
    pub confidence: f64,
    /// 5-95 % of M over what was looked at; a given M is certain.
    pub interval: (u32, u32),
    /// Settings and choices of this fit, for plan.json.
    pub details: serde_json::Map<String, serde_json::Value>,
    /// What the method saw: (k, criterion, value) for `curve.arrow` and `evidence.arrow`.
    pub curve: Vec<Criterion>,
    pub evidence: Vec<Criterion>,
}

impl Fit {
    /// Share of the sample's rows in every modality.
    pub fn shares(&self) -> Vec<f64> {
        let mut rows = vec![0u32; self.kind.len()];
        self.labels.iter().for_each(|&m| rows[m as usize] += 1);
        rows.into_iter().map(|n| f64::from(n) / self.labels.len() as f64).collect()
    }
}

/// Whether an estimator that counts found a clear number: at least two modalities, and none with nearly all rows.
pub fn clear(shares: &[f64]) -> bool {
    shares.len() > 1 && shares.iter().all(|&share| share < 0.9)
}

/// Labels the rows of a sample; one file per implementor in `estimators/`.
pub trait ModalityEstimator {
    fn name(&self) -> &'static str;
    /// Deterministic in (sample, seed). May use rayon (ordered collects only).
    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit>;
}

/// All that is needed to assign a row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Model {
    pub projection: Option<Projection>,
    /// Prototype centres in the projected space; no rows for the estimator `column`.
    pub prototypes: Matrix,
    /// Modality of every prototype.
    pub modality: Vec<u32>,
    /// Stratum of every prototype; empty where a column stratifies.
    pub stratum: Vec<u32>,
    /// Mean of each modality's sample rows, in feature space.
    pub centers: Matrix,
}

/// The points of a part with their assignment; [`crate::kit::ids::NONE`] for rows out of the plan.
#[derive(Clone, Debug, Default)]
pub struct Assigned {
    pub points: Points,
    /// In the projected space; equals `points.points` without a projection (then empty).
    pub projected: Matrix,
    pub prototype: Vec<u32>,
    pub modality: Vec<u32>,
    pub stratum: Vec<u32>,
    /// Euclidean, feature space, to the modality's centre, canonical order.
    pub distance: Vec<f32>,
}

impl Assigned {
    /// The rows in the projected space.
    pub fn z(&self) -> &Matrix {
        if self.projected.rows() == 0 { &self.points.points } else { &self.projected }
    }

    /// The assignment of all parts, one after the other, without the points.
    pub fn concat(parts: &[Assigned]) -> Assigned {
        fn joined<T: Clone>(parts: &[Assigned], of: impl Fn(&Assigned) -> &[T]) -> Vec<T> {
            parts.iter().map(of).collect::<Vec<_>>().concat()
        }
        let p = parts.iter().map(|part| part.projected.cols()).max().unwrap_or(0);
        let rows = parts.iter().map(|part| part.projected.rows()).sum();
        Assigned {
            points: Points::default(),
            projected: Matrix::from_vec(rows, p, joined(parts, |part| part.projected.as_slice())),
            prototype: joined(parts, |part| &part.prototype),
            modality: joined(parts, |part| &part.modality),
            stratum: joined(parts, |part| &part.stratum),
            distance: joined(parts, |part| &part.distance),
        }
    }
}

/// Gives the modalities their final numbers: modality 0 has the most sample rows, ties go to the one with the lowest
/// row; a modality without rows comes last. Returns the old number of every new one. O(rows).
pub(crate) fn renumber(labels: &mut [u32], modalities: usize) -> Vec<u32> {
    let mut rows = vec![0u64; modalities];
    let mut first = vec![usize::MAX; modalities];
    for (i, &m) in labels.iter().enumerate() {
        rows[m as usize] += 1;
        first[m as usize] = first[m as usize].min(i);
    }
    let mut order: Vec<u32> = (0..modalities as u32).collect();
    order.sort_by_key(|&m| (std::cmp::Reverse(rows[m as usize]), first[m as usize], m));
    let mut new = vec![0; modalities];
    for (i, &m) in order.iter().enumerate() {
        new[m as usize] = i as u32;
    }
    for label in labels {
        *label = new[*label as usize];
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_modality_is_0_and_ties_go_to_the_lowest_row() {
        let mut labels = vec![3, 1, 1, 2, 2, 3, 0];
        assert_eq!(renumber(&mut labels, 5), [3, 1, 2, 0, 4]);
        assert_eq!(labels, [0, 1, 1, 2, 2, 0, 3]);
    }

    #[test]
    fn contradictions_are_told_before_any_data_is_read() {
        let kmeans = Params { estimator: EstimatorSpec::Kmeans, count: Some(3), ..Default::default() };
        let gap = Params { count: None, criterion: Some(CriterionSpec::Gap), ..kmeans.clone() };
        let column =
            Params { estimator: EstimatorSpec::Column, column: Some("kind".into()), ..Default::default() };
        for good in [&Params::default(), &kmeans, &column, &gap, &Params { count: None, ..kmeans.clone() }] {
            assert!(good.check().is_ok(), "{good:?}");
        }
        for bad in [
            Params { count: Some(3), ..gap.clone() },
            Params { estimator: EstimatorSpec::Hdbscan, ..gap },
            Params { count: Some(0), ..kmeans.clone() },
            Params { count: Some(3), ..Default::default() },
            Params { column: None, ..column },
            Params { column: Some("kind".into()), ..kmeans },
            Params { resolution: 10, ..Default::default() },
        ] {
            assert!(matches!(bad.check(), Err(Error::Config { .. })), "{bad:?}");
        }
    }
}
