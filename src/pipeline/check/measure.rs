//! What the new rows are like: one read, the same passes that made the plan's own statistics.

use std::collections::BTreeMap;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_schema::DataType;

use super::coverage::Fresh;
use crate::features::{column, numbers};
use crate::format::modalities::Modality;
use crate::format::profile::ProfileRow;
use crate::format::statistics::Statistic;
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::modalities::Assigned;
use crate::modalities::sample::BLOCKS;
use crate::parts::{Local, Pass};
use crate::plan::{Assigner, Plan};
use crate::source::{Dataset, Kind, Naming, Selection, text_value};
use crate::statistics::cells::{Cells, distance, place};
use crate::statistics::gain::{Gain, GainSums, Label};
use crate::statistics::moments::{FullMoments, Moments};
use crate::statistics::reach::Reach;
use crate::statistics::reference::{R, RandomFeature, Reference};

/// Values of a column that are counted; any others are counted together.
const MOST_VALUES: usize = 100_000;

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
    /// Sampled rows at and between the deciles of every feature; None: not known.
    pub features: Vec<Option<Cells>>,
    /// Sampled rows at and between the quantiles of the distance to the medians of the features.
    pub spread: Option<Cells>,
    /// Rows of every modality at and between the deciles of their distance to its centre, those of few rows left out.
    pub distances: Vec<Option<Cells>>,
    pub reference: Option<crate::format::reference::Reference>,
    pub reach: Vec<(f64, f64)>,
    /// Rows of the fit sample that `reach` passed over, at a guess.
    pub reach_lacks: f64,
    /// Rows of the fit sample.
    pub sampled: f64,
    pub columns: Vec<Column>,
}

/// A column of the profile, of all rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    pub told: Told,
    pub nulls: f64,
}

/// How the profile tells a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Rows of the most frequent values.
    Values(Vec<(String, f64)>),
    /// Rows with a number, and sampled ones at and between their deciles (None: not known).
    Numbers { count: f64, cells: Option<Cells> },
    /// The same of the lengths of texts, in characters.
    Lengths { count: f64, cells: Option<Cells> },
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
        Ok(Then {
            // A plan before format 1.1 did not count; without ties there is a tenth between each two.
            features: (statistics.iter())
                .map(|s| {
                    Cells::new(&s.quantiles, s.cells.clone()).or_else(|| Cells::tenths(&s.quantiles, sampled))
                })
                .collect(),
            spread: plan.spread()?.and_then(|s| Cells::new(&s.edges, s.rows)),
            distances: modalities.iter().map(distances).collect(),
            modality_rows,
            stratum_rows,
            unseen,
            statistics,
            reference: plan.reference()?,
            reach: prototypes.reach,
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
    let keep = |row: u64| {
        let place = part.locate(row);
        let number = dataset.row_groups()[groups[place.row_group]].first_row + place.offset;
        let at = fresh.partition_point(|r| r.end <= number);
        fresh.get(at).is_some_and(|r| r.contains(&number))
    };
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
        Distances::new(then, Reach::new(assigner.model())),
        Moments::new(shift.clone()),
        Gain::new(label, &shift, config.seed),
        reference,
        Columns { columns: &told },
    );
    let (rows, moments, gain, reference, counts) = assigner.run(&part, &more, &keep, engine, &pass)?;
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

/// Where the new rows belong and how far they are from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    pub count: f64,
    pub invalid: f64,
    /// Invalid rows by column and reason.
    pub faults: BTreeMap<(String, String), u64>,
    pub modality: BTreeMap<u32, u64>,
    pub stratum: BTreeMap<u32, u64>,
    /// Rows by tenth of the distance to the centre, among the plan's rows of the same modality (large ones only).
    pub tenths: [u64; 10],
    /// Rows whose distance to the nearest prototype could be compared, and those beyond the plan's 99.9 %.
    pub compared: u64,
    pub far: u64,
    /// Rows at and between the edges of every feature, one feature after the other.
    pub features: Vec<u64>,
    /// Rows at and between the plan's quantiles of the distance to the medians of its features.
    pub spread: Vec<u64>,
}

/// Rows of a modality below which its deciles are too coarse to compare with.
const DECILES_FROM: u64 = 100;

struct Distances<'a> {
    then: &'a Then,
    /// Medians of the plan's features.
    middle: Vec<f64>,
    /// Where each feature's cells begin in [`Rows::features`].
    first: Vec<usize>,
    /// The tenth that each cell of a modality's distances belongs to.
    tenths: Vec<Option<Vec<usize>>>,
    reach: Reach,
}

impl<'a> Distances<'a> {
    fn new(then: &'a Then, reach: Reach) -> Self {
        let mut first = vec![0];
        for cells in &then.features {
            first.push(first[first.len() - 1] + cells.as_ref().map_or(0, |c| c.rows.len()));
        }
        Distances {
            then,
            middle: then.statistics.iter().map(|s| s.quantiles[5]).collect(),
            first,
            tenths: then.distances.iter().map(|cells| cells.as_ref().map(Cells::tenths_of)).collect(),
            reach,
        }
    }

    fn add(&self, rows: &mut Rows, item: &Assigned, i: usize) {
        let (m, x) = (item.modality[i], item.points.points.row(i));
        rows.count += 1.0;
        *rows.modality.entry(m).or_default() += 1;
        *rows.stratum.entry(item.stratum[i]).or_default() += 1;
        if let (Some(cells), Some(tenths)) = (&self.then.distances[m as usize], &self.tenths[m as usize]) {
            rows.tenths[tenths[place(&cells.edges, f64::from(item.distance[i]))]] += 1;
        }
        let limit = self.then.reach.len().checked_sub(2).map(|i| self.then.reach[i].1);
        if let Some((distance, limit)) = self.reach.distance(item, i).map(f64::from).zip(limit) {
            rows.compared += 1;
            rows.far += u64::from(distance > limit);
        }
        for ((cells, &first), &x) in self.then.features.iter().zip(&self.first).zip(x) {
            if let Some(cells) = cells {
                rows.features[first + place(&cells.edges, f64::from(x))] += 1;
            }
        }
        if let Some(cells) = &self.then.spread {
            rows.spread[place(&cells.edges, distance(x, &self.middle))] += 1;
        }
    }
}

impl Rows {
    /// Rows at and between the edges of every feature.
    pub fn features(&self, then: &Then) -> Vec<&[u64]> {
        let mut rest = &self.features[..];
        let mut take = |n: usize| {
            let (these, others) = rest.split_at(n.min(rest.len()));
            rest = others;
            these
        };
        then.features.iter().map(|cells| take(cells.as_ref().map_or(0, |c| c.rows.len()))).collect()
    }
}

impl Pass for Distances<'_> {
    type Item = Assigned;
    type Partial = Rows;
    type Output = Rows;

    fn partial(&self, item: &Assigned) -> Result<Rows> {
        let mut rows = Rows {
            features: vec![0; self.first[self.first.len() - 1]],
            spread: vec![0; self.then.spread.as_ref().map_or(0, |c| c.rows.len())],
            ..Rows::default()
        };
        for bad in &item.points.bad {
            rows.invalid += 1.0;
            *rows.faults.entry((bad.column.clone(), bad.kind().into())).or_default() += 1;
        }
        let planned = (0..item.modality.len()).filter(|&i| item.modality[i] != NONE);
        planned.for_each(|i| self.add(&mut rows, item, i));
        Ok(rows)
    }

    fn merge(&self, mut left: Rows, right: Rows) -> Rows {
        for (into, from) in [(&mut left.modality, right.modality), (&mut left.stratum, right.stratum)] {
            for (id, n) in from {
                *into.entry(id).or_default() += n;
            }
        }
        for (fault, n) in right.faults {
            *left.faults.entry(fault).or_default() += n;
        }
        add(&mut left.tenths, &right.tenths);
        add(&mut left.features, &right.features);
        add(&mut left.spread, &right.spread);
        Rows {
            count: left.count + right.count,
            invalid: left.invalid + right.invalid,
            compared: left.compared + right.compared,
            far: left.far + right.far,
            ..left
        }
    }

    fn finish(&self, all: Option<Rows>) -> Result<Rows> {
        Ok(all.unwrap_or_default())
    }
}

/// What the new rows hold in one column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Rows with a value, nulls apart.
    pub count: f64,
    pub nulls: f64,
    /// Rows of every value.
    pub values: BTreeMap<String, u64>,
    /// Rows with a value beyond the [`MOST_VALUES`] that are counted.
    pub other: u64,
    /// Rows at and between the plan's deciles of numbers or lengths.
    pub cells: Vec<u64>,
}

/// Counts of the same cells.
fn add(into: &mut [u64], from: &[u64]) {
    into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
}

impl Counts {
    fn of(told: &Told) -> Counts {
        let cells = match told {
            Told::Numbers { cells, .. } | Told::Lengths { cells, .. } => cells.as_ref(),
            Told::Values(_) => None,
        };
        Counts { cells: vec![0; cells.map_or(0, |c| c.rows.len())], ..Counts::default() }
    }

    fn number(&mut self, x: f64, cells: Option<&Cells>) {
        self.count += 1.0;
        if let Some(cells) = cells {
            self.cells[place(&cells.edges, x)] += 1;
        }
    }
}

struct Columns<'a> {
    columns: &'a [Column],
}

impl Pass for Columns<'_> {
    type Item = Assigned;
    type Partial = Vec<Counts>;
    type Output = Vec<Counts>;

    fn partial(&self, item: &Assigned) -> Result<Vec<Counts>> {
        let planned = || (0..item.modality.len()).filter(|&i| item.modality[i] != NONE);
        let count = |c: &Column| {
            let cells = column(item.points.table.as_ref(), &c.name)?;
            let mut counts = Counts::of(&c.told);
            match &c.told {
                Told::Numbers { cells: edges, .. } => {
                    let x = numbers(cells)?;
                    for i in planned() {
                        if x[i].is_finite() {
                            counts.number(x[i], edges.as_ref());
                        } else {
                            counts.nulls += 1.0;
                        }
                    }
                }
                Told::Lengths { cells: edges, .. } => {
                    for i in planned() {
                        match text_value(cells, i) {
                            Some(text) => counts.number(text.chars().count() as f64, edges.as_ref()),
                            None => counts.nulls += 1.0,
                        }
                    }
                }
                Told::Values(_) => planned().for_each(|i| counts.value(cells, i)),
            }
            Ok(counts)
        };
        self.columns.iter().map(count).collect()
    }

    fn merge(&self, mut left: Vec<Counts>, right: Vec<Counts>) -> Vec<Counts> {
        for (left, right) in left.iter_mut().zip(right) {
            left.count += right.count;
            left.nulls += right.nulls;
            left.other += right.other;
            add(&mut left.cells, &right.cells);
            for (value, n) in right.values {
                left.add(value, n);
            }
        }
        left
    }

    fn finish(&self, all: Option<Vec<Counts>>) -> Result<Vec<Counts>> {
        Ok(all.unwrap_or_else(|| self.columns.iter().map(|c| Counts::of(&c.told)).collect()))
    }
}

impl Counts {
    fn value(&mut self, cells: &dyn Array, i: usize) {
        if cells.is_null(i) {
            self.nulls += 1.0;
            return;
        }
        self.count += 1.0;
        // Most cells repeat: only a new value is worth an allocation of its own.
        if *cells.data_type() == DataType::Utf8 {
            let text = cells.as_string::<i32>().value(i);
            match self.values.get_mut(text) {
                Some(n) => *n += 1,
                None => self.add(text.to_string(), 1),
            }
        } else if let Some(text) = text_value(cells, i) {
            self.add(text, 1);
        }
    }

    fn add(&mut self, value: String, n: u64) {
        if self.values.len() < MOST_VALUES || self.values.contains_key(&value) {
            *self.values.entry(value).or_default() += n;
        } else {
            self.other += n;
        }
    }
}
