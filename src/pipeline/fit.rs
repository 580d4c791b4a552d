//! Counts the modalities on the sample and makes the model that assigns every row.

use rayon::prelude::*;

use super::prepare::{Prepared, Values, sample_ids};
use crate::batches::strata;
use crate::config::Config;
use crate::features::{Points, State};
use crate::format::projection::Projection;
use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::modalities::estimators::column::Column;
use crate::modalities::estimators::consensus::{Consensus, Kind};
use crate::modalities::model::{AssignedReader, ColumnIds, Strata, centers};
use crate::modalities::{Assigned, EstimatorSpec, Fit, ModalityEstimator, Model, pca, prototypes};
use crate::parts::{Part, Read, parts_of};
use crate::plan::Plan;
use crate::statistics::quantiles::SampleQuantiles;

/// Rows of the sample that a thread assigns at a time.
const ASSIGNED_TOGETHER: usize = 2048;

/// The model and what led to it.
pub struct Fitted {
    pub fit: Fit,
    pub model: Model,
    /// Where a row's stratum comes from.
    pub strata: Strata,
    /// The column whose values are the modalities, for the estimator `column`.
    pub modality: Option<ColumnIds>,
    /// The sample's rows as the model assigns them, without their points.
    pub sample: Assigned,
    /// The sample's features, all and by modality.
    pub quantiles: SampleQuantiles,
    /// The sample's first two principal axes: the report's map. None if there are no more dimensions.
    pub axes: Option<Projection>,
}

/// What an older plan has, so that data between the two kinds keeps its own.
pub fn kind(plan: &Plan) -> Option<Kind> {
    let estimator = &plan.manifest().estimator;
    let communities = estimator.params.contains_key("gamma");
    let found = EstimatorSpec::named(&estimator.name) == Some(EstimatorSpec::Consensus);
    found.then_some(if communities { Kind::Community } else { Kind::Mode })
}

/// Runs the estimator of the config. `before`: what the data was found to have.
pub fn count(prepared: &Prepared, config: &Config, before: Option<Kind>, progress: &Progress) -> Result<Fit> {
    let column = prepared.modality.as_ref().map(|values| Column {
        values: values.ids.keys().cloned().collect(),
        ids: sample_ids(&prepared.table, values),
    });
    let estimator: Box<dyn ModalityEstimator> = match config.modalities.estimator {
        EstimatorSpec::Consensus => Box::new(Consensus { before, ..Consensus::default() }),
        other => other.build(&config.modalities, column)?,
    };
    estimator.fit(&prepared.sample, config.seed, progress)
}

/// Where a row's stratum comes from.
fn strata_by(prepared: &Prepared, config: &Config) -> Strata {
    let ids =
        |v: &Values| ColumnIds { column: v.column.clone(), naming: v.naming.clone(), values: v.ids.clone() };
    match &prepared.stratify {
        Some(values) if config.strata.inside_modalities() => Strata::Cross(ids(values)),
        Some(values) => Strata::Column(ids(values)),
        None => Strata::Prototype,
    }
}

/// The model of an older plan, for the sample of new data.
pub fn kept(prepared: &Prepared, config: &Config, plan: &Plan, progress: &Progress) -> Result<Fitted> {
    let model = plan.model()?;
    let estimator = &plan.manifest().estimator;
    let modalities = plan.modalities()?;
    let fit = Fit {
        labels: Vec::new(),
        prominence: modalities.iter().map(|m| m.prominence).collect(),
        kind: modalities.into_iter().map(|m| m.kind).collect(),
        projection: model.projection.clone(),
        confidence: estimator.confidence,
        interval: estimator.interval,
        details: estimator.params.clone().into_iter().collect(),
        curve: plan.curve()?.unwrap_or_default(),
        evidence: plan.evidence()?.unwrap_or_default(),
    };
    let axes = map_axes(prepared, config, progress)?;
    let mut fitted = described(prepared, fit, model, strata_by(prepared, config), None, axes)?;
    fitted.fit.labels = fitted.sample.modality.clone();
    Ok(fitted)
}

/// Counts ([`count`]), then describes every modality by its prototypes and groups those to strata. `rename` may give the modalities
/// other numbers in between.
pub fn fit(
    prepared: &Prepared,
    config: &Config,
    before: Option<Kind>,
    rename: impl FnOnce(&mut Fit) -> Result<()>,
    progress: &Progress,
) -> Result<Fitted> {
    let sample = &prepared.sample;
    // Counting leaves a thread idle now and then.
    let (fit, axes) =
        rayon::join(|| count(prepared, config, before, progress), || map_axes(prepared, config, progress));
    let (mut fit, axes) = (fit?, axes?);
    rename(&mut fit)?;
    let by = strata_by(prepared, config);
    if let Some(values) = &prepared.modality {
        let numbered = fit.kind.iter().enumerate().map(|(m, value)| (value.clone(), m as u32)).collect();
        let modality = Some(ColumnIds { values: numbered, ..ColumnIds::new(&values.column, []) });
        let centers = centers(sample, &fit.labels, fit.kind.len());
        let model = Model { projection: fit.projection.clone(), centers, ..Model::default() };
        return described(prepared, fit, model, by, modality, axes);
    }
    let planned = prepared.selection.count();
    let prototypes = prototypes::fit(sample, &fit, config.prototypes(planned), config.seed);
    let stratum = match by {
        Strata::Prototype => strata::fine(
            &prototypes.centers,
            &prototypes.modality,
            &prototypes.sample_rows,
            planned,
            config.fine(planned),
        ),
        _ => Vec::new(),
    };
    let model = Model { stratum, ..Model::new(sample, &fit, prototypes) };
    described(prepared, fit, model, by, None, axes)
}

fn map_axes(prepared: &Prepared, config: &Config, progress: &Progress) -> Result<Option<Projection>> {
    pca::projection(&prepared.sample.points, 2, config.seed, progress)
}

/// Everything that is told of the sample. Its rows go through the very reader that assigns the dataset.
fn described(
    prepared: &Prepared,
    fit: Fit,
    model: Model,
    strata: Strata,
    modality: Option<ColumnIds>,
    axes: Option<Projection>,
) -> Result<Fitted> {
    struct There<'a>(&'a Prepared);
    impl Read for There<'_> {
        type Item = Points;
        fn read(&self, part: &Part, into: &mut Points) -> Result<()> {
            let (sample, first) = (&self.0.sample, part.first as usize);
            let rows = first..first + part.rows;
            into.rows = sample.rows[rows.clone()].to_vec();
            into.state = vec![State::Planned; part.rows];
            into.table = self.0.table.as_ref().map(|table| table.slice(first, part.rows));
            into.points = sample.points.gather(rows);
            Ok(())
        }
    }
    let points = &prepared.sample.points;
    let reader = AssignedReader::new(There(prepared), &model, modality.clone(), strata.clone());
    let assign = |part: &Part| {
        let mut assigned = Assigned::default();
        reader.read(part, &mut assigned)?;
        assigned.points = Points::default();
        Ok(assigned)
    };
    let parts = parts_of(points.rows() as u64, ASSIGNED_TOGETHER);
    // Of several errors the first one is told.
    let assigned: Vec<Result<Assigned>> = parts.par_iter().map(assign).collect();
    let sample = Assigned::concat(&assigned.into_iter().collect::<Result<Vec<_>>>()?);
    let quantiles = SampleQuantiles::new(points, &sample.modality);
    Ok(Fitted { fit, model, strata, modality, sample, quantiles, axes })
}

impl Fitted {
    /// The sample in the projected space.
    pub fn z<'a>(&'a self, prepared: &'a Prepared) -> &'a Matrix {
        if self.model.projection.is_some() { &self.sample.projected } else { &prepared.sample.points }
    }
}
