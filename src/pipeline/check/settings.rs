//! What the configuration of a plan would have made otherwise than its tables have it: found in a plan.json that somebody edited
//! and sealed anew. What a setting could have made, too, is no contradiction.

use crate::batches::batch_size;
use crate::config::Config;
use crate::format::Kind;
use crate::format::manifest::{GainKind, MANIFEST};
use crate::kit::error::{Error, Result};
use crate::plan::Plan;
use crate::source::Invalid;

/// The first setting that the tables contradict is the error. O(modalities + features).
pub fn contradictions(plan: &Plan) -> Result<()> {
    let config = plan.config()?;
    let found =
        [sizes(plan, &config)?, groups(plan, &config)?, rows(plan, &config)?, weights(plan, &config)?];
    let Some(setting) = found.into_iter().flatten().next() else { return Ok(()) };
    let reason = format!("is damaged: its configuration gives another {setting} than the plan has");
    let help = "write the plan again with `batchwright plan`";
    Err(Error::plan(plan.path().join(MANIFEST), reason, help))
}

/// Sizes follow from the rows of the modalities.
fn sizes(plan: &Plan, config: &Config) -> Result<Option<&'static str>> {
    let m = plan.manifest();
    let rows: Vec<u64> = plan.modalities()?.into_iter().map(|modality| modality.rows).collect();
    let size = batch_size::choose(&config.locality.batch_size(&config.batch_size), &rows)?;
    let candidates = m.candidates.iter().map(|c| u64::from(c.batch_size));
    Ok(if size.size != u64::from(m.batch_size) {
        Some("batch size")
    } else {
        (!candidates.eq(size.candidates)).then_some("list of batch sizes")
    })
}

/// Features are named in every plan, and strata have a number; modalities and strata are at most as many as they may be, and strata have values where a column makes them.
fn groups(plan: &Plan, config: &Config) -> Result<Option<&'static str>> {
    let m = plan.manifest();
    if config.features.columns.is_empty() {
        return Ok(Some("list of features"));
    }
    if config.strata.fine.fixed().is_none() {
        return Ok(Some("number of strata"));
    }
    let by_column = config.strata.column().is_some();
    // Some may have lost their rows.
    if config.modalities.count.is_some_and(|count| m.modalities > count) {
        return Ok(Some("number of modalities"));
    }
    if plan.strata()?.values().is_some() != by_column {
        return Ok(Some("kind of strata"));
    }
    Ok((!by_column && m.strata > m.modalities.max(config.fine(m.rows_planned))).then_some("number of strata"))
}

/// What was dropped, held out, and predicted by the label.
fn rows(plan: &Plan, config: &Config) -> Result<Option<&'static str>> {
    let m = plan.manifest();
    let dropped = plan.statistics()?.iter().any(|s| s.modality.is_none() && s.nulls > 0);
    if dropped && config.source.invalid == Invalid::Error {
        return Ok(Some("treatment of invalid rows"));
    }
    let labelled = m.gain.as_ref().is_some_and(|gain| gain.kind == GainKind::Label);
    Ok((m.gain.is_some() && labelled != config.source.label.is_some()).then_some("kind of gain"))
}

/// `weights.arrow` says by which formula it was made.
fn weights(plan: &Plan, config: &Config) -> Result<Option<&'static str>> {
    let Some(table) = plan.table(Kind::Weights)? else { return Ok(None) };
    let told = table.metadata("formula");
    Ok(told.is_some_and(|told| told != config.weights.formula()).then_some("formula of weights"))
}
