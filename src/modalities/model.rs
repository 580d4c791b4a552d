//! Assigns rows: project, find the nearest prototype, and it names the modality and the stratum. A [`Read`] over points
//! becomes a [`Read`] over assigned points ([`AssignedReader`]).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::features::{Points, State};
use crate::kernels::distance::squared_to;
use crate::kernels::nearest::Centers;
use crate::kit::error::{Error, Result};
use crate::kit::ids::NONE;
use crate::kit::matrix::Matrix;
use crate::modalities::{Assigned, Fit, Model, Sample, lloyd};
use crate::parts::{Part, Read};
use crate::source::Naming;

/// How an error says that a row's value has no number: `check` makes it a finding.
pub const UNKNOWN_VALUE: &str = "which the plan does not know";

/// A table column whose values are numbered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnIds {
    pub column: String,
    pub naming: Naming,
    /// What a cell is called to its number.
    pub values: BTreeMap<String, u32>,
}

/// Where a row's stratum comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Strata {
    /// Its prototype; its modality where there are no prototypes or these have no strata yet.
    #[default]
    Prototype,
    /// A column's value.
    Column(ColumnIds),
    /// Modality and a column's value: stratum = modality x values + value. Pairs that no row has are numbered too; who
    /// counts the rows closes the gaps.
    Cross(ColumnIds),
    /// The same with the numbers of a plan, whose gaps are closed: the stratum of every pair that it has.
    Pairs { column: ColumnIds, strata: BTreeMap<u32, u32> },
}

impl Strata {
    /// The column that decides it, if one does.
    pub fn column(&self) -> Option<&ColumnIds> {
        match self {
            Strata::Prototype => None,
            Strata::Column(column) | Strata::Cross(column) | Strata::Pairs { column, .. } => Some(column),
        }
    }
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
            Some(p) => {
                item.projected.reset(item.points.points.rows(), p.axes.rows());
                p.apply_to(item.points.points.as_slice(), item.projected.as_mut_slice());
            }
            None => item.projected.reset(0, 0),
        }
    }

    /// Distances to the modalities' centres.
    fn measure(&self, item: &mut Assigned) {
        let Assigned { points, modality, distance, .. } = item;
        let mut squares = Vec::with_capacity(modality.len());
        squared_to(points.points.as_slice(), &self.centers, modality, &mut squares);
        distance.clear();
        distance.extend(squares.into_iter().map(|square| square.sqrt() as f32));
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

    fn row_bytes(&self) -> u64 {
        self.points.row_bytes()
    }

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
            Strata::Cross(column) => column.with_modality(into)?,
            Strata::Pairs { column, strata } => {
                column.with_modality(into)?;
                known(strata, into)?;
            }
        }
        self.model.measure(into);
        Ok(())
    }
}

/// The strata that a plan has given to pairs of modality and value; an error names the first row of a pair that it does not have.
fn known(strata: &BTreeMap<u32, u32>, into: &mut Assigned) -> Result<()> {
    let Assigned { points, modality, stratum, .. } = into;
    for (i, h) in stratum.iter_mut().enumerate().filter(|(_, h)| **h != NONE) {
        *h = *strata.get(h).ok_or_else(|| {
            let reason = format!(
                "row {} has a value that no planned row of modality {} has, {UNKNOWN_VALUE}",
                points.rows[i], modality[i]
            );
            Error::input("dataset", reason, "for new strata make a new plan (`batchwright plan`)")
        })?;
    }
    Ok(())
}

impl ColumnIds {
    /// Numbers values in the order given.
    pub fn new(column: impl Into<String>, values: impl IntoIterator<Item = String>) -> Self {
        let values = values.into_iter().zip(0..).collect();
        ColumnIds { column: column.into(), naming: Naming::Value, values }
    }

    /// With cells called otherwise.
    pub fn named(self, naming: Naming) -> Self {
        ColumnIds { naming, ..self }
    }

    /// Numbers every planned row by its modality and its value.
    fn with_modality(&self, into: &mut Assigned) -> Result<()> {
        self.of(&into.points, &mut into.stratum)?;
        let values = self.values.len() as u32;
        for (stratum, &m) in into.stratum.iter_mut().zip(&into.modality).filter(|(s, _)| **s != NONE) {
            *stratum += m * values;
        }
        Ok(())
    }

    /// The number of every planned row's value; null is the value "null". Errors name the first row whose value has no
    /// number.
    pub fn of(&self, points: &Points, out: &mut Vec<u32>) -> Result<()> {
        let values =
            points.table.as_ref().and_then(|t| t.column_by_name(&self.column)).unwrap_or_else(|| {
                panic!("the column `{}` was not read along with the points", self.column);
            });
        if !self.naming.fits(values) {
            let reason = format!("is of type {} now, which has other strata", values.data_type());
            let help = "make a new plan (`batchwright plan`)";
            return Err(Error::input("dataset", reason, help).column(&self.column));
        }
        out.clear();
        let names = self.naming.names(values);
        let mut last: Option<(Cow<'_, str>, u32)> = None;
        for (i, state) in points.state.iter().enumerate() {
            if *state != State::Planned {
                out.push(NONE);
                continue;
            }
            let text = names.get(i).unwrap_or(Cow::Borrowed("null"));
            // Neighbouring rows often have the same value.
            if last.as_ref().is_none_or(|(seen, _)| *seen != text) {
                let id = *self.values.get(text.as_ref()).ok_or_else(|| {
                    Error::input(
                        "dataset",
                        format!("row {} has the value `{text}`, {UNKNOWN_VALUE}", points.rows[i]),
                        "for new values make a new plan (`batchwright plan`); nothing may write to the files meanwhile",
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{RecordBatch, StringArray};

    use super::*;
    use crate::format::projection::Projection;

    /// Four rows on a line, the third one filtered out.
    struct Line;
    impl Read for Line {
        type Item = Points;
        fn read(&self, part: &Part, into: &mut Points) -> Result<()> {
            into.rows = part.range().collect();
            into.points = Matrix::from_vec(4, 2, vec![0.0, 3.0, 9.0, 4.0, 0.0, 0.0, 6.0, -4.0]);
            into.state = vec![State::Planned, State::Planned, State::Filtered, State::Planned];
            let kind = StringArray::from(vec![Some("b"), None, Some("unseen"), Some("b")]);
            into.table = Some(RecordBatch::try_from_iter([("kind", Arc::new(kind) as _)]).unwrap());
            Ok(())
        }
    }

    const PART: Part = Part { index: 0, first: 0, rows: 4 };

    fn model() -> Model {
        Model {
            // The first coordinate less 1.
            projection: Some(Projection { axes: Matrix::from_vec(1, 2, vec![1.0, 0.0]), offset: vec![1.0] }),
            prototypes: Matrix::from_vec(3, 1, vec![-1.0, 5.0, 8.0]),
            modality: vec![1, 0, 0],
            stratum: vec![4, 5, 6],
            centers: Matrix::from_vec(2, 2, vec![9.0, 0.0, 0.0, 0.0]),
        }
    }

    fn read(model: &Model, modality: Option<ColumnIds>, strata: Strata) -> Result<Assigned> {
        let mut item = Assigned { prototype: vec![9; 77], distance: vec![1.0; 2], ..Default::default() };
        AssignedReader::new(Line, model, modality, strata).read(&PART, &mut item)?;
        Ok(item)
    }

    fn kind() -> ColumnIds {
        ColumnIds::new("kind", ["a", "b", "null"].map(String::from))
    }

    #[test]
    fn rows_belong_to_their_nearest_prototype() {
        let got = read(&model(), None, Strata::Prototype).unwrap();
        assert_eq!(got.z().as_slice(), [-1.0, 8.0, -1.0, 5.0]);
        assert_eq!(got.prototype, [0, 2, NONE, 1]);
        assert_eq!(got.modality, [1, 0, NONE, 0]);
        assert_eq!(got.stratum, [4, 6, NONE, 5]);
        assert_eq!((&got.distance[..2], got.distance[3]), (&[3.0, 4.0][..], 5.0));
        assert!(got.distance[2].is_nan());
        let mut alone = Assigned { points: got.points.clone(), ..Default::default() };
        model().assign(&mut alone);
        assert_eq!((alone.prototype, alone.stratum), (got.prototype, got.stratum));
    }

    #[test]
    fn columns_can_name_strata_and_modalities() {
        assert_eq!(read(&model(), None, Strata::Column(kind())).unwrap().stratum, [1, 2, NONE, 1]);
        assert_eq!(read(&model(), None, Strata::Cross(kind())).unwrap().stratum, [4, 2, NONE, 1]);
        let by_column =
            Model { projection: None, centers: Matrix::from_vec(3, 2, vec![0.0; 6]), ..Default::default() };
        let got = read(&by_column, Some(kind()), Strata::Prototype).unwrap();
        assert_eq!((&got.modality[..], &got.prototype[..]), (&[1, 2, NONE, 1][..], &[NONE; 4][..]));
        assert_eq!(got.stratum, got.modality);
        assert_eq!(got.distance[0], 3.0);
    }

    #[test]
    fn an_unknown_value_is_told() {
        let short = ColumnIds::new("kind", ["b".to_string()]);
        let error = read(&model(), None, Strata::Column(short)).unwrap_err();
        assert!(error.to_string().contains("`null`") && error.to_string().contains("row 1"), "{error}");
    }

    #[test]
    fn centers_are_means_of_sample_rows() {
        let sample = Sample {
            rows: vec![3, 4, 8],
            points: Matrix::from_vec(3, 1, vec![1.0, 2.0, 9.0]),
            ..Default::default()
        };
        assert_eq!(centers(&sample, &[0, 0, 2], 3).as_slice(), [1.5, 4.0, 9.0]);
    }
}
