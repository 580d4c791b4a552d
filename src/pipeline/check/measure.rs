//! What the new rows are like: one read, the same passes that made the plan's own statistics.

use std::collections::BTreeMap;
use std::ops::Range;

use super::coverage::Fresh;
use crate::format::modalities::Modality;
use crate::format::profile::ProfileRow;
use crate::format::statistics::Statistic;
use crate::kit::error::Result;
use crate::modalities::sample::BLOCKS;
use crate::parts::Local;
use crate::plan::{Assigner, Plan};
use crate::source::{Dataset, Kind, Naming, RowGroup, Selection};
use crate::statistics::cells::Cells;
use crate::statistics::comparison::{Column, Columns, Counts, Distances, Known, Rows, Told};
use crate::statistics::gain::{Gain, GainSums, Label};
use crate::statistics::moments::{FullMoments, Moments};
use crate::statistics::reach::Reach;
use crate::statistics::reference::{R, RandomFeature, Reference};

/// The plan's own numbers, read once.
pub struct Then {
    /// Rows of every modality and of every stratum.
    pub modality_rows: Vec<f64>,
    pub stratum_rows: Vec<f64>,
    /// The same as if the prototypes had not seen the rows that they were fitted to: what rows that they never saw are
    /// compared with.
    pub unseen: (Vec<f64>, Vec<f64>),
    pub modalities: Vec<Modality>,
    /// Of all planned rows, one entry a feature.
    pub statistics: Vec<Statistic>,
    /// What rows are placed among; of the distances those of modalities with few rows are left out.
    pub known: Known,
    pub reference: Option<crate::format::reference::Reference>,
    pub reach: Vec<(f64, f64)>,
    /// Rows of the fit sample that `reach` passed over, at a guess.
    pub reach_lacks: f64,
    /// Rows of the fit sample.
    pub sampled: f64,
    pub columns: Vec<Column>,
}

impl Then {
    pub fn read(plan: &Plan) -> Result<Then> {
        let modalities = plan.modalities()?;
        let offsets = plan.strata()?.offsets();
        let prototypes = plan.prototypes()?.unwrap_or_default();
        let planned = plan.manifest().rows_planned as f64;
        let sampled = planned.min(BLOCKS as f64 * f64::from(plan.config()?.modalities.resolution));
        // A sampled row alone in its prototype. Only the planned rows of a prototype are known.
        let alone = |rows: u64| rows as f64 * (sampled / planned.max(1.0)) < 2.0;
        let reach_lacks = match prototypes.reach_rows {
            Some(_) => 0.0,
            None => prototypes.rows.iter().filter(|&&rows| alone(rows)).count() as f64,
        };
        let statistics: Vec<Statistic> =
            plan.statistics()?.into_iter().filter(|s| s.modality.is_none()).collect();
        let modality_rows: Vec<f64> = modalities.iter().map(|m| m.rows as f64).collect();
        let stratum_rows: Vec<f64> = offsets.windows(2).map(|o| (o[1] - o[0]) as f64).collect();
        let by = |of: &[u32], actual: &[f64]| {
            let mut rows = vec![0.0; actual.len()];
            for (&id, &n) in of.iter().zip(&prototypes.unseen_rows) {
                rows.get_mut(id as usize).into_iter().for_each(|rows| *rows += n as f64);
            }
            // Another column tells, or the plan does not know.
            if rows.iter().all(|&n| n == 0.0) { actual.to_vec() } else { rows }
        };
        let unseen = (by(&prototypes.modality, &modality_rows), by(&prototypes.stratum, &stratum_rows));
        let reach = prototypes.reach;
        // A plan before format 1.1 did not count; without ties there is a tenth between each two.
        let cells = |s: &Statistic| {
            Cells::new(&s.quantiles, s.cells.clone()).or_else(|| Cells::tenths(&s.quantiles, sampled))
        };
        let known = Known {
            features: statistics.iter().map(cells).collect(),
            middle: statistics.iter().map(|s| s.quantiles[5]).collect(),
            spread: plan.spread()?.and_then(|s| Cells::new(&s.edges, s.rows)),
            distances: modalities.iter().map(distances).collect(),
            far: reach.len().checked_sub(2).map(|i| reach[i].1),
        };
        Ok(Then {
            known,
            modality_rows,
            stratum_rows,
            unseen,
            statistics,
            reference: plan.reference()?,
            reach,
            reach_lacks,
            sampled,
            columns: columns(&plan.profile()?.unwrap_or_default()),
            modalities,
        })
    }

    pub fn planned(&self) -> f64 {
        self.stratum_rows.iter().sum()
    }

    /// Rows that the plan left out because their features cannot be used.
    pub fn invalid(&self) -> f64 {
        self.statistics.first().map_or(0.0, |s| s.nulls as f64)
    }
}

/// Rows of a modality below which its deciles are too coarse to compare with.
const DECILES_FROM: u64 = 100;

fn distances(modality: &Modality) -> Option<Cells> {
    let quantiles = modality.distance_quantiles.map(f64::from);
    let rows = modality.rows as f64;
    let cells = Cells::new(&quantiles, modality.distance_cells.clone());
    cells.or_else(|| Cells::tenths(&quantiles, rows)).filter(|_| modality.rows >= DECILES_FROM)
}

/// The profile of all rows, column by column.
fn columns(rows: &[ProfileRow]) -> Vec<Column> {
    let mut order: Vec<&str> = Vec::new();
    let mut by: BTreeMap<&str, Vec<&ProfileRow>> = BTreeMap::new();
    for row in rows.iter().filter(|r| r.modality.is_none()) {
        by.entry(&row.column)
            .or_insert_with(|| {
                order.push(&row.column);
                Vec::new()
            })
            .push(row);
    }
    order.into_iter().map(|name| told(name, &by[name])).collect()
}

fn told(name: &str, rows: &[&ProfileRow]) -> Column {
    let statistic = |prefix: &str| {
        let row = rows.iter().find(|r| r.value.starts_with(prefix))?;
        Some((row.value[prefix.len()..].parse::<f64>().ok()?, row.count as f64))
    };
    let nulls = rows.iter().find(|r| r.value == "nulls").map_or(0.0, |r| r.count as f64);
    let cells = |prefix: &str| {
        let row = rows.iter().find(|r| r.value.starts_with(prefix))?;
        Cells::new(&row.edges, row.cells.clone())
    };
    let told = if let Some((_, count)) = statistic("mean=") {
        let deciles: Vec<(f64, f64)> =
            (0..=10).filter_map(|q| statistic(&format!("quantile {}=", f64::from(q) / 10.0))).collect();
        let tenths =
            || Cells::tenths(&deciles.iter().map(|d| d.0).collect::<Vec<_>>().try_into().ok()?, deciles[0].1);
        Told::Numbers { count, cells: cells("mean=").or_else(tenths) }
    } else if let Some((_, count)) = statistic("length=") {
        Told::Lengths { count, cells: cells("length=") }
    } else {
        let values = rows.iter().filter(|r| r.value != "nulls");
        Told::Values(values.map(|r| (r.value.clone(), r.count as f64)).collect())
    };
    Column { name: name.into(), told, nulls }
}

/// The new rows.
pub struct Now {
    pub rows: Rows,
    pub moments: FullMoments,
    pub gain: GainSums,
    pub reference: Vec<RandomFeature>,
    pub columns: Vec<Counts>,
}

/// Reads the fresh rows. `missing` columns of the profile are not there any more and are passed over.
pub fn measure(
    plan: &Plan,
    then: &Then,
    assigner: &Assigner,
    dataset: &Dataset,
    fresh: &Fresh,
    engine: &Local,
) -> Result<Now> {
    let whole = |g: &usize| {
        let group = &dataset.row_groups()[*g];
        fresh.iter().any(|r| r.start < group.first_row + group.rows && group.first_row < r.end)
    };
    let groups: Vec<usize> = (0..dataset.row_groups().len()).filter(whole).collect();
    let part = dataset.only(&groups);
    // Of the rows of these row groups, as they are numbered there.
    let inside = |(g, here): (&usize, &RowGroup)| {
        let group = &dataset.row_groups()[*g];
        let end = group.first_row + group.rows;
        let touching = fresh.iter().filter(move |r| r.start < end && group.first_row < r.end);
        let number = move |row: u64| row.clamp(group.first_row, end) - group.first_row + here.first_row;
        touching.map(move |r| number(r.start)..number(r.end)).collect::<Vec<_>>()
    };
    let ranges: Vec<Range<u64>> = groups.iter().zip(part.row_groups()).flat_map(inside).collect();
    let config = plan.config()?;
    let shift: Vec<f64> = then.statistics.iter().map(|s| s.mean).collect();
    let mut more: Vec<String> = Vec::new();
    let label = match &config.source.label {
        Some(name) if Gain::check_label(name, &dataset.column(name, "source.label")?.kind).is_ok() => {
            more.push(name.clone());
            let values = part.values(name, &Naming::Value, &Selection::all(part.rows()), engine)?;
            Some(Label::new(name, values.into_iter().map(|v| v.0)))
        }
        _ => None,
    };
    let told: Vec<Column> = then.columns.iter().filter(|c| readable(dataset, c)).cloned().collect();
    more.extend(told.iter().map(|c| c.name.clone()));
    let reference = then.reference.as_ref().filter(|r| r.frequency.rows() == R);
    let reference = reference.map(|r| Reference::again(r.frequency.clone(), r.phase.clone()));
    let pass = (
        Distances::new(then.known.clone(), Reach::new(assigner.model())),
        Moments::new(shift.clone()),
        Gain::new(label, &shift, config.seed),
        reference,
        Columns(told.clone()),
    );
    let (rows, moments, gain, reference, counts) =
        assigner.run(&part, &more, Some(&ranges), engine, &pass)?;
    let mut counts: BTreeMap<String, Counts> = told.into_iter().map(|c| c.name).zip(counts).collect();
    let columns = then.columns.iter().map(|c| counts.remove(&c.name).unwrap_or_default()).collect();
    Ok(Now { rows, moments, gain, reference: reference.unwrap_or_default(), columns })
}

/// Whether a column of the profile is still there, as something like what it was.
pub fn readable(dataset: &Dataset, column: &Column) -> bool {
    let kind = dataset.columns().iter().find(|c| c.name == column.name).map(|c| &c.kind);
    match &column.told {
        Told::Numbers { .. } => matches!(kind, Some(Kind::Integer | Kind::Float)),
        _ => kind.is_some_and(Kind::is_plain),
    }
}
