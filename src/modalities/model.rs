//! Assigns rows: project, find the nearest prototype, and it names the modality and the stratum. A [`Read`] over points
//! becomes a [`Read`] over assigned points ([`AssignedReader`]).

use std::collections::BTreeMap;

use arrow_array::RecordBatch;

use crate::error::{Error, Result};
use crate::features::{Points, State};
use crate::ids::NONE;
use crate::kernels::distance::squared;
use crate::kernels::nearest::Centers;
use crate::kernels::project::project;
use crate::matrix::Matrix;
use crate::modalities::{Assigned, Fit, Model, Sample, lloyd};
use crate::parts::{Part, Read};
use crate::source::text_value;

/// A table column whose values are numbered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnIds {
    pub column: String,
    /// Value as text to number.
    pub values: BTreeMap<String, u32>,
}

/// Where a row's stratum comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Strata {
    /// Its prototype; its modality where there are no prototypes or these have no strata yet.
    #[default]
    Prototype,
    /// A column's value.
    Column(ColumnIds),
    /// Modality and a column's value: stratum = modality x values + value. Pairs that no row has are numbered too; who
    /// counts the rows closes the gaps.
    Cross(ColumnIds),
}

/// Reads points and assigns them to the modalities and strata of a [`Model`].
pub struct AssignedReader<'a, R> {
    points: R,
    model: &'a Model,
    /// The prototypes' search index, made once.
    index: Option<Centers>,
    /// The column whose values are the modalities; None: the prototypes tell.
    modality: Option<ColumnIds>,
    strata: Strata,
}

impl Model {
    /// The model of a fit, without strata.
    pub fn new(sample: &Sample, fit: &Fit, prototypes: super::prototypes::Prototypes) -> Self {
        Model {
            projection: fit.projection.clone(),
            prototypes: prototypes.centers,
            modality: prototypes.modality,
            stratum: Vec::new(),
            centers: centers(sample, &fit.labels, fit.kind.len()),
        }
    }

    /// Fills in what `item.points` belongs to; out of the plan: [`NONE`] and a NaN distance. For a part at a time use
    /// an [`AssignedReader`], which keeps the search index. O(n (d p + p Q)).
    ///
    /// Panics without prototypes (the estimator `column`: only its column can tell).
    pub fn assign(&self, item: &mut Assigned) {
        self.find(&Centers::new(&self.prototypes), item);
        self.measure(item);
    }

    /// Prototype, modality and stratum of every planned row.
    fn find(&self, index: &Centers, item: &mut Assigned) {
        self.project(item);
        let n = item.points.points.rows();
        let mut prototype = std::mem::take(&mut item.prototype);
        prototype.clear();
        prototype.resize(n, NONE);
        index.nearest(item.z().as_slice(), &mut prototype);
        out_of_plan(&item.points, |i| prototype[i] = NONE);
        let look_up = |into: &mut Vec<u32>, of: &[u32]| {
            into.clear();
            into.extend(prototype.iter().map(|&q| if q == NONE { NONE } else { of[q as usize] }));
        };
        look_up(&mut item.modality, &self.modality);
        look_up(&mut item.stratum, if self.stratum.is_empty() { &self.modality } else { &self.stratum });
        item.prototype = prototype;
    }

    fn project(&self, item: &mut Assigned) {
        match &self.projection {
            Some(p) => project(&p.axes, &p.offset, &item.points.points, &mut item.projected),
            None => item.projected.reset(0, 0),
        }
    }

    /// Distances to the modalities' centres.
    fn measure(&self, item: &mut Assigned) {
        let Assigned { points, modality, distance, .. } = item;
        distance.clear();
        distance.extend(points.points.iter_rows().zip(modality.iter()).map(|(x, &m)| {
            if m == NONE { f32::NAN } else { squared(x, self.centers.row(m as usize)).sqrt() as f32 }
        }));
    }
}

/// Mean of each modality's sample rows in feature space, `modalities x dims`; a modality that no sample row has gets the
/// mean of all. f64 in row order, rounded once.
pub fn centers(sample: &Sample, labels: &[u32], modalities: usize) -> Matrix {
    let (mut means, rows) = lloyd::means(&sample.points, labels, modalities);
    if rows.contains(&0) {
        let (all, _) = lloyd::means(&sample.points, &vec![0; labels.len()], 1);
        for m in (0..modalities).filter(|&m| rows[m] == 0) {
            means.row_mut(m).copy_from_slice(all.row(0));
        }
    }
    means
}

fn out_of_plan(points: &Points, mut at: impl FnMut(usize)) {
    for (i, state) in points.state.iter().enumerate() {
        if *state != State::Planned {
            at(i);
        }
    }
}

impl<'a, R> AssignedReader<'a, R> {
    /// `modality`: the column whose values are the modalities (estimator `column`), else the model's prototypes tell.
    pub fn new(points: R, model: &'a Model, modality: Option<ColumnIds>, strata: Strata) -> Self {
        let index = modality.is_none().then(|| Centers::new(&model.prototypes));
        AssignedReader { points, model, index, modality, strata }
    }
}

impl<R: Read<Item = Points>> Read for AssignedReader<'_, R> {
    type Item = Assigned;

    fn read(&self, part: &Part, into: &mut Assigned) -> Result<()> {
        self.points.read(part, &mut into.points)?;
        match (&self.index, &self.modality) {
            (Some(index), _) => self.model.find(index, into),
            (None, Some(column)) => {
                self.model.project(into);
                into.prototype.clear();
                into.prototype.resize(into.points.points.rows(), NONE);
                column.of(&into.points, &mut into.modality)?;
                into.stratum.clone_from(&into.modality);
            }
            (None, None) => unreachable!("without a column there is an index"),
        }
        match &self.strata {
            Strata::Prototype => {}
            Strata::Column(column) => column.of(&into.points, &mut into.stratum)?,
            Strata::Cross(column) => {
                column.of(&into.points, &mut into.stratum)?;
                let values = column.values.len() as u32;
                for (stratum, &m) in into.stratum.iter_mut().zip(&into.modality).filter(|(s, _)| **s != NONE)
                {
                    *stratum += m * values;
                }
            }
        }
        self.model.measure(into);
        Ok(())
    }
}

impl ColumnIds {
    /// Numbers values in the order given.
    pub fn new(column: impl Into<String>, values: impl IntoIterator<Item = String>) -> Self {
        ColumnIds { column: column.into(), values: values.into_iter().zip(0..).collect() }
    }

    /// The number of every planned row's value; null is the value "null". Values must be those the dictionary was made
    /// of, so one that is not there means that the files changed meanwhile.
    pub fn of(&self, points: &Points, out: &mut Vec<u32>) -> Result<()> {
        let table = points.table.as_ref().map(RecordBatch::clone);
        let values = table.as_ref().and_then(|t| t.column_by_name(&self.column)).unwrap_or_else(|| {
            panic!("the column `{}` was not read along with the points", self.column);
        });
        out.clear();
        let mut last: Option<(String, u32)> = None;
        for (i, state) in points.state.iter().enumerate() {
            if *state != State::Planned {
                out.push(NONE);
                continue;
            }
            let text = text_value(values, i).unwrap_or_else(|| "null".into());
            // Neighbouring rows often have the same value.
            if last.as_ref().is_none_or(|(seen, _)| *seen != text) {
                let id = *self.values.get(&text).ok_or_else(|| {
                    Error::input(
                        "dataset",
                        format!("row {} has the value `{text}`, which was not there before", points.rows[i]),
                        "the files changed while they were read: run again when nothing writes to them",
                    )
                    .column(&self.column)
                })?;
                last = Some((text, id));
            }
            out.push(last.as_ref().expect("just set").1);
        }
        Ok(())
    }
}
