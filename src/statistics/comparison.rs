//! Rows placed among those of a plan: what `check` compares by. [`Distances`] counts where rows lie between the quantiles that the
//! plan knows, [`Columns`] what they hold in the columns of its profile. O(rows x dims x log cells) time, memory of the cells
//! and of the distinct values.

use std::collections::BTreeMap;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_schema::DataType;
use serde::{Deserialize, Serialize};

use crate::features::{column, numbers};
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::modalities::Assigned;
use crate::parts::Pass;
use crate::source::text_value;
use crate::statistics::cells::{Cells, distance, place};
use crate::statistics::reach::Reach;

/// Values of a column that are counted; any others are counted together.
const MOST_VALUES: usize = 100_000;

/// A column of the profile, of all rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub told: Told,
    pub nulls: f64,
}

/// How the profile tells a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Told {
    /// Rows of the most frequent values.
    Values(Vec<(String, f64)>),
    /// Rows with a number, and sampled ones at and between their deciles (None: not known).
    Numbers { count: f64, cells: Option<Cells> },
    /// The same of the lengths of texts, in characters.
    Lengths { count: f64, cells: Option<Cells> },
}

/// Where the new rows belong and how far they are from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

/// What a plan knows of its rows, for others to be placed among.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Known {
    /// Sampled rows at and between the deciles of every feature; None: not known.
    pub features: Vec<Option<Cells>>,
    /// Medians of the features.
    pub middle: Vec<f64>,
    /// Sampled rows at and between the quantiles of the distance to the medians.
    pub spread: Option<Cells>,
    /// Rows of every modality at and between the deciles of their distance to its centre.
    pub distances: Vec<Option<Cells>>,
    /// The distance to the nearest prototype that few rows exceed.
    pub far: Option<f64>,
}

/// The pass.
#[derive(Serialize, Deserialize)]
pub struct Distances {
    known: Known,
    /// Where each feature's cells begin in [`Rows::features`].
    first: Vec<usize>,
    /// The tenth that each cell of a modality's distances belongs to.
    tenths: Vec<Option<Vec<usize>>>,
    reach: Reach,
}

impl Distances {
    pub fn new(known: Known, reach: Reach) -> Self {
        let mut first = vec![0];
        for cells in &known.features {
            first.push(first[first.len() - 1] + cells.as_ref().map_or(0, |c| c.rows.len()));
        }
        let tenths = known.distances.iter().map(|cells| cells.as_ref().map(Cells::tenths_of)).collect();
        Distances { known, first, tenths, reach }
    }

    fn add(&self, rows: &mut Rows, item: &Assigned, i: usize) {
        let (m, x) = (item.modality[i], item.points.points.row(i));
        rows.count += 1.0;
        *rows.modality.entry(m).or_default() += 1;
        *rows.stratum.entry(item.stratum[i]).or_default() += 1;
        if let (Some(cells), Some(tenths)) = (&self.known.distances[m as usize], &self.tenths[m as usize]) {
            rows.tenths[tenths[place(&cells.edges, f64::from(item.distance[i]))]] += 1;
        }
        if let Some((distance, limit)) = self.reach.distance(item, i).map(f64::from).zip(self.known.far) {
            rows.compared += 1;
            rows.far += u64::from(distance > limit);
        }
        for ((cells, &first), &x) in self.known.features.iter().zip(&self.first).zip(x) {
            if let Some(cells) = cells {
                rows.features[first + place(&cells.edges, f64::from(x))] += 1;
            }
        }
        if let Some(cells) = &self.known.spread {
            rows.spread[place(&cells.edges, distance(x, &self.known.middle))] += 1;
        }
    }
}

impl Rows {
    /// Rows at and between the edges of every feature.
    pub fn features(&self, known: &Known) -> Vec<&[u64]> {
        let mut rest = &self.features[..];
        let mut take = |n: usize| {
            let (these, others) = rest.split_at(n.min(rest.len()));
            rest = others;
            these
        };
        known.features.iter().map(|cells| take(cells.as_ref().map_or(0, |c| c.rows.len()))).collect()
    }
}

impl Pass for Distances {
    type Item = Assigned;
    type Partial = Rows;
    type Output = Rows;

    fn partial(&self, item: &Assigned) -> Result<Rows> {
        let mut rows = Rows {
            features: vec![0; self.first[self.first.len() - 1]],
            spread: vec![0; self.known.spread.as_ref().map_or(0, |c| c.rows.len())],
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

/// The pass: what columns hold, as the plan's profile tells them.
#[derive(Serialize, Deserialize)]
pub struct Columns(pub Vec<Column>);

impl Pass for Columns {
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
        self.0.iter().map(count).collect()
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
        Ok(all.unwrap_or_else(|| self.0.iter().map(|c| Counts::of(&c.told)).collect()))
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
