//! What the new rows are like: one read, the same passes that made the plan's own statistics.

use std::collections::BTreeMap;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_schema::DataType;

use super::coverage::Fresh;
use crate::features::{column, numbers};
use crate::format::profile::ProfileRow;
use crate::format::statistics::Statistic;
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::modalities::Assigned;
use crate::modalities::sample::BLOCKS;
use crate::parts::{Local, Pass};
use crate::plan::{Assigner, Plan};
use crate::source::{Dataset, Kind, Selection, text_value};
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
    pub modalities: Vec<crate::format::modalities::Modality>,
    /// Of all planned rows, one entry a feature.
    pub statistics: Vec<Statistic>,
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
    /// Rows with a number, their mean; deciles of a sample of that many rows.
    Numbers { count: f64, mean: f64, deciles: Option<([f64; 11], f64)> },
    /// Sampled rows with a text, and the mean of its length in characters.
    Lengths { count: f64, mean: f64 },
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
        Ok(Then {
            modality_rows: modalities.iter().map(|m| m.rows as f64).collect(),
            stratum_rows: offsets.windows(2).map(|o| (o[1] - o[0]) as f64).collect(),
            statistics: plan.statistics()?.into_iter().filter(|s| s.modality.is_none()).collect(),
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
    let deciles: Vec<(f64, f64)> =
        (0..=10).filter_map(|q| statistic(&format!("quantile {}=", f64::from(q) / 10.0))).collect();
    let told = if let Some((mean, count)) = statistic("mean=") {
        // Deciles that coincide do not say how many rows lie between them.
        let apart = deciles.len() == 11 && deciles.windows(2).all(|d| d[0].0 < d[1].0);
        let deciles = apart.then(|| (std::array::from_fn(|q| deciles[q].0), deciles[0].1));
        Told::Numbers { count, mean, deciles }
    } else if let Some((mean, count)) = statistic("length=") {
        Told::Lengths { count, mean }
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
            let values = part.values(name, &Selection::all(part.rows()), engine)?;
            Some(Label::new(name, values.into_iter().map(|v| v.0)))
        }
        _ => None,
    };
    let told: Vec<Column> = then.columns.iter().filter(|c| readable(dataset, c)).cloned().collect();
    more.extend(told.iter().map(|c| c.name.clone()));
    let reference = then.reference.as_ref().filter(|r| r.frequency.rows() == R);
    let reference = reference.map(|r| Reference::again(r.frequency.clone(), r.phase.clone()));
    let pass = (
        Distances { then, mean: &shift, reach: Reach::new(assigner.model()) },
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
        _ => kind.is_some_and(|k| !matches!(k, Kind::Vector { .. } | Kind::Other)),
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
    /// Rows by decile of the distance to the centre, among the plan's rows of the same modality (large ones only).
    pub deciles: [u64; 10],
    /// Rows whose distance to the nearest prototype could be compared, and those beyond the plan's 99.9 %.
    pub compared: u64,
    pub far: u64,
    /// Sums of |x - mean|^2 and of its square, over the plan's mean.
    pub square: f64,
    pub fourth: f64,
}

/// Rows of a modality below which its deciles are too coarse to compare with.
const DECILES_FROM: u64 = 100;

struct Distances<'a> {
    then: &'a Then,
    mean: &'a [f64],
    reach: Reach,
}

impl Pass for Distances<'_> {
    type Item = Assigned;
    type Partial = Rows;
    type Output = Rows;

    fn partial(&self, item: &Assigned) -> Result<Rows> {
        let mut rows = Rows::default();
        let limit = self.then.reach.len().checked_sub(2).map(|i| self.then.reach[i].1);
        for bad in &item.points.bad {
            rows.invalid += 1.0;
            *rows.faults.entry((bad.column.clone(), bad.kind().into())).or_default() += 1;
        }
        for (i, x) in item.points.points.iter_rows().enumerate() {
            let m = item.modality[i];
            if m == NONE {
                continue;
            }
            rows.count += 1.0;
            *rows.modality.entry(m).or_default() += 1;
            *rows.stratum.entry(item.stratum[i]).or_default() += 1;
            let modality = &self.then.modalities[m as usize];
            if modality.rows >= DECILES_FROM {
                let inner = &modality.distance_quantiles[1..10];
                rows.deciles[inner.partition_point(|&q| q < item.distance[i])] += 1;
            }
            let distance = self.reach.distance(item, i).map(f64::from);
            if let Some((distance, limit)) = distance.zip(limit) {
                rows.compared += 1;
                rows.far += u64::from(distance > limit);
            }
            let square: f64 =
                x.iter().zip(self.mean).map(|(&x, m)| (f64::from(x) - m) * (f64::from(x) - m)).sum();
            rows.square += square;
            rows.fourth += square * square;
        }
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
        left.deciles.iter_mut().zip(right.deciles).for_each(|(a, b)| *a += b);
        Rows {
            count: left.count + right.count,
            invalid: left.invalid + right.invalid,
            compared: left.compared + right.compared,
            far: left.far + right.far,
            square: left.square + right.square,
            fourth: left.fourth + right.fourth,
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
    /// Sums of number (or length) less the plan's mean, and of its square.
    pub sum: f64,
    pub square: f64,
    /// Rows between the plan's deciles.
    pub deciles: [u64; 10],
}

impl Counts {
    fn number(&mut self, x: f64, mean: f64, deciles: Option<&[f64; 11]>) {
        self.count += 1.0;
        self.sum += x - mean;
        self.square += (x - mean) * (x - mean);
        if let Some(edges) = deciles {
            self.deciles[edges[1..10].partition_point(|&e| e < x)] += 1;
        }
    }

    /// Mean and variance, given the plan's mean.
    pub fn moment(&self, then: f64) -> crate::statistics::drift::Moment {
        let shift = self.sum / self.count.max(1.0);
        let variance = (self.square / self.count.max(1.0) - shift * shift).max(0.0);
        crate::statistics::drift::Moment { mean: then + shift, variance }
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
            let mut counts = Counts::default();
            match &c.told {
                Told::Numbers { mean, deciles, .. } => {
                    let x = numbers(cells)?;
                    for i in planned() {
                        if x[i].is_finite() {
                            counts.number(x[i], *mean, deciles.as_ref().map(|d| &d.0));
                        } else {
                            counts.nulls += 1.0;
                        }
                    }
                }
                Told::Lengths { mean, .. } => {
                    for i in planned() {
                        match text_value(cells, i) {
                            Some(text) => counts.number(text.chars().count() as f64, *mean, None),
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
            left.sum += right.sum;
            left.square += right.square;
            left.deciles.iter_mut().zip(right.deciles).for_each(|(a, b)| *a += b);
            for (value, n) in right.values {
                left.add(value, n);
            }
        }
        left
    }

    fn finish(&self, all: Option<Vec<Counts>>) -> Result<Vec<Counts>> {
        Ok(all.unwrap_or_else(|| vec![Counts::default(); self.columns.len()]))
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
