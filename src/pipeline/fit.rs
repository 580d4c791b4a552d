//! Counts the modalities on the sample and makes the model that assigns every row.

use super::prepare::{Prepared, sample_ids};
use crate::config::Config;
use crate::error::Result;
use crate::modalities::model::{ColumnIds, StratifyBy};
use crate::modalities::{EstimatorSpec, Fit, Model, estimators::column::Labels, prototypes};
use crate::progress::Progress;
use crate::strata;

/// The model and what led to it.
pub struct Fitted {
    pub fit: Fit,
    pub model: Model,
    /// Where a row's stratum comes from.
    pub strata: StratifyBy,
    /// The column whose values are the modalities, for the estimator `column`.
    pub modality: Option<ColumnIds>,
}

/// Runs the estimator of the config.
pub fn count(prepared: &Prepared, config: &Config, progress: &Progress) -> Result<Fit> {
    let labels = prepared.modality.as_ref().map(|values| Labels {
        values: values.ids.keys().cloned().collect(),
        of_row: sample_ids(&prepared.table, values),
    });
    let estimator = EstimatorSpec::build(&config.modalities, labels)?;
    estimator.fit(&prepared.sample, config.seed, progress)
}

/// Counts, then describes every modality by its prototypes and groups those to strata.
pub fn fit(prepared: &Prepared, config: &Config, progress: &Progress) -> Result<Fitted> {
    let sample = &prepared.sample;
    let fit = count(prepared, config, progress)?;
    let centers = crate::modalities::centers(sample, &fit.labels, fit.kind.len());
    let ids = |v: &super::prepare::Values| ColumnIds { column: v.column.clone(), values: v.ids.clone() };
    let modality = prepared.modality.as_ref().map(ids);
    let inside = config.strata.by.contains(',');
    let strata_by = match &prepared.stratify {
        Some(values) if inside => StratifyBy::Cross(ids(values)),
        Some(values) => StratifyBy::Column(ids(values)),
        None => StratifyBy::Prototype,
    };
    if modality.is_some() {
        let model = Model { projection: fit.projection.clone(), centers, ..Model::default() };
        return Ok(Fitted { fit, model, strata: strata_by, modality });
    }
    let prototypes = prototypes::fit(sample, &fit, config.seed);
    let stratum = match strata_by {
        StratifyBy::Prototype => strata::fine(
            &prototypes.centers,
            &prototypes.modality,
            &prototypes.sample_rows,
            prepared.selection.count(),
            config.strata.fine,
        ),
        _ => Vec::new(),
    };
    let model = Model {
        projection: fit.projection.clone(),
        prototypes: prototypes.centers,
        modality: prototypes.modality,
        stratum,
        centers,
    };
    Ok(Fitted { fit, model, strata: strata_by, modality })
}
