//! Learns the map from raw rows to points on the sample ([`Features::fit`]) and applies it ([`Features::map`]).

use std::collections::{BTreeMap, HashMap};

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_schema::DataType;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::cells::{column, numbers, numbers_in};
use super::scale::{self, Operation};
use super::{Categories, Inputs, Params, Transform};
use crate::kernels::distance::dot;
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::kit::rng::Stream;
use crate::source::{Bad, Kind, RawRows, text_value};

/// Coordinates of a one-hot column, the one for all other values aside.
const ONE_HOT: usize = 64;
/// Coordinates of a hashed column.
const HASHED: usize = 32;

/// One coordinate of a point, as in `features.arrow`: `(x - center) / scale` for numbers; `center` 0 and `scale` 1
/// where the operation has none.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureRow {
    pub feature: u32,
    pub column: String,
    pub operation: Operation,
    /// The value a one-hot coordinate stands for; None: all values without a coordinate, null among them.
    pub category: Option<String>,
    pub center: f64,
    pub scale: f64,
}

/// The learnt map from raw rows to points of [`dims`](Features::dims) numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Features {
    columns: Vec<Column>,
    dims: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Column {
    name: String,
    /// Place in [`RawRows::vectors`]; None: a table column.
    vector: Option<usize>,
    map: Map,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Map {
    Numbers { operation: Operation, center: Vec<f64>, scale: Vec<f64> },
    OneHot(OneHot),
    Hash,
}

/// The values that have a coordinate, and which one it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
struct OneHot {
    values: Vec<String>,
    place: HashMap<String, usize>,
}

impl From<Vec<String>> for OneHot {
    fn from(values: Vec<String>) -> Self {
        let place = values.iter().cloned().zip(0..).collect();
        OneHot { values, place }
    }
}

impl From<OneHot> for Vec<String> {
    fn from(one_hot: OneHot) -> Self {
        one_hot.values
    }
}

impl Map {
    fn one_hot(values: Vec<String>) -> Map {
        Map::OneHot(values.into())
    }

    fn width(&self) -> usize {
        match self {
            Map::Numbers { center, .. } => center.len(),
            Map::OneHot(OneHot { values, .. }) => values.len() + 1,
            Map::Hash => HASHED,
        }
    }
}

/// The operation on the numbers of a column. Numeric columns are never left as they are: their units differ.
fn operation(transform: Transform, kind: &Kind) -> Operation {
    match (transform, kind) {
        (Transform::None, Kind::Vector { .. }) => Operation::None,
        (Transform::Unit, Kind::Vector { .. }) => Operation::Unit,
        (Transform::Robust, _) => Operation::Robust,
        (Transform::None | Transform::Unit | Transform::Standard, _) => Operation::Standard,
    }
}

impl Features {
    /// Learns centres, scales and categories on the sample's raw rows, in f64, in row order; unusable rows are passed
    /// over. O(rows x dims), for `robust` times a logarithm. Coordinates are learnt in parallel, each by itself.
    pub fn fit(inputs: &Inputs, params: &Params, sample: &RawRows) -> Result<Features> {
        let good = good_rows(inputs, sample)?;
        if good.is_empty() && !sample.rows.is_empty() {
            return Err(Error::input(
                "the sample",
                "every sampled row has a feature that is null, NaN, infinite or of the wrong length",
                "check the feature columns, or choose others with --features",
            ));
        }
        let mut columns = Vec::with_capacity(inputs.order.len());
        for (name, kind) in &inputs.order {
            let operation = match operation(params.transform, kind) {
                Operation::None if inputs.encodes(name) => Operation::Encode,
                other => other,
            };
            let map = match kind {
                Kind::Vector { dims } => {
                    let matrix = &sample.vectors[vector_place(inputs, name)?];
                    let learnt: Vec<(f64, f64)> = (0..*dims)
                        .into_par_iter()
                        .map(|j| match operation {
                            Operation::Standard | Operation::Robust => {
                                let mut x: Vec<f64> =
                                    good.iter().map(|&i| f64::from(matrix.row(i)[j])).collect();
                                scale::learn(operation, &mut x)
                            }
                            _ => (0.0, 1.0),
                        })
                        .collect();
                    let (center, scale) = learnt.into_iter().unzip();
                    Map::Numbers { operation, center, scale }
                }
                Kind::Integer | Kind::Float => {
                    let all = numbers(column(sample.table.as_ref(), name)?)?;
                    let mut x: Vec<f64> = good.iter().map(|&i| all[i]).collect();
                    let (center, scale) = scale::learn(operation, &mut x);
                    Map::Numbers { operation, center: vec![center], scale: vec![scale] }
                }
                Kind::Boolean | Kind::Text => match params.categories {
                    Categories::Hash => {
                        refuse_vectors(name, column(sample.table.as_ref(), name)?)?;
                        Map::Hash
                    }
                    Categories::OneHot => {
                        let cells = column(sample.table.as_ref(), name)?;
                        refuse_vectors(name, cells)?;
                        Map::one_hot(frequent_values(cells, &good))
                    }
                },
                Kind::Labels | Kind::Other => return Err(unusable(name)),
            };
            columns.push(Column { name: name.clone(), vector: vector_of(inputs, name), map });
        }
        Ok(Features::new(columns))
    }

    fn new(columns: Vec<Column>) -> Features {
        let dims = columns.iter().map(|c| c.map.width()).sum();
        Features { columns, dims }
    }

    /// Numbers of a point.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Column and place in the column of every coordinate.
    pub fn names(&self) -> Vec<(String, u32)> {
        let places = |c: &Column| (0..c.map.width() as u32).map(|i| (c.name.clone(), i)).collect::<Vec<_>>();
        self.columns.iter().flat_map(places).collect()
    }

    /// One vector column as it is, from the dataset or from an encoder.
    pub fn is_identity(&self) -> bool {
        use Operation::{Encode, None};
        matches!(&self.columns[..], [Column { map: Map::Numbers { operation: None | Encode, .. }, .. }])
    }

    /// The points of raw rows: `out` is rows x dims; `bad` lists unusable rows, ascending, one entry a row, and their
    /// points are zeros. One vector column as it is is swapped into `out`, not copied; everything else is O(rows x dims).
    pub fn map(&self, raw: &mut RawRows, out: &mut Matrix, bad: &mut Vec<Bad>) -> Result<()> {
        bad.clear();
        bad.append(&mut raw.bad);
        if self.is_identity() {
            std::mem::swap(out, &mut raw.vectors[0]);
            return Ok(());
        }
        out.reset(raw.rows.len(), self.dims);
        let mut first = 0;
        for c in &self.columns {
            let places = first..first + c.map.width();
            first = places.end;
            let mut complain = |index: usize, reason: &str| {
                bad.push(Bad { index, column: c.name.clone(), reason: reason.into() });
            };
            match (&c.map, c.vector) {
                (Map::Numbers { operation: Operation::Unit, .. }, Some(v)) => {
                    for (i, x) in raw.vectors[v].iter_rows().enumerate() {
                        let length = dot(x, x).sqrt();
                        if length == 0.0 {
                            complain(i, "has length 0");
                        }
                        for (o, &x) in out.row_mut(i)[places.clone()].iter_mut().zip(x) {
                            *o = (f64::from(x) / length) as f32;
                        }
                    }
                }
                (Map::Numbers { operation: Operation::None | Operation::Encode, .. }, Some(v)) => {
                    for (i, x) in raw.vectors[v].iter_rows().enumerate() {
                        out.row_mut(i)[places.clone()].copy_from_slice(x);
                    }
                }
                (Map::Numbers { center, scale, .. }, Some(v)) => {
                    for (i, x) in raw.vectors[v].iter_rows().enumerate() {
                        let o = &mut out.row_mut(i)[places.clone()];
                        for (((o, &x), center), scale) in o.iter_mut().zip(x).zip(center).zip(scale) {
                            *o = ((f64::from(x) - center) / scale) as f32;
                        }
                        if !o.iter().all(|o| o.is_finite()) {
                            complain(i, TOO_LARGE);
                        }
                    }
                }
                (Map::Numbers { center, scale, .. }, None) => {
                    let cells = column(raw.table.as_ref(), &c.name)?;
                    for (i, x) in numbers(cells)?.into_iter().enumerate() {
                        let o = &mut out.row_mut(i)[places.start];
                        *o = ((x - center[0]) / scale[0]) as f32;
                        if !o.is_finite() || !can_scale(x) {
                            complain(i, why_unusable(cells, i, x));
                        }
                    }
                }
                (Map::OneHot(OneHot { values, place }), _) => {
                    let cells = column(raw.table.as_ref(), &c.name)?;
                    for i in 0..raw.rows.len() {
                        let o = &mut out.row_mut(i)[places.clone()];
                        o.fill(0.0);
                        let known = with_text(cells, i, |text| text.and_then(|t| place.get(t).copied()));
                        o[known.unwrap_or(values.len())] = 1.0;
                    }
                }
                (Map::Hash, _) => {
                    let cells = column(raw.table.as_ref(), &c.name)?;
                    for i in 0..raw.rows.len() {
                        let o = &mut out.row_mut(i)[places.clone()];
                        o.fill(0.0);
                        if let Some((place, sign)) = with_text(cells, i, |text| text.map(hashed)) {
                            o[place] = sign;
                        }
                    }
                }
            }
        }
        // Stable: of several complaints about a row the first stays.
        bad.sort_by_key(|b| b.index);
        bad.dedup_by_key(|b| b.index);
        for b in bad.iter() {
            out.row_mut(b.index).fill(0.0);
        }
        Ok(())
    }

    /// The rows of `features.arrow`; None for one vector column of the dataset as it is.
    pub fn rows(&self) -> Option<Vec<FeatureRow>> {
        if matches!(&self.columns[..], [Column { map: Map::Numbers { operation: Operation::None, .. }, .. }])
        {
            return None;
        }
        let mut rows = Vec::with_capacity(self.dims);
        for c in &self.columns {
            for i in 0..c.map.width() {
                let (operation, category, center, scale) = match &c.map {
                    Map::Numbers { operation, center, scale } => (*operation, None, center[i], scale[i]),
                    Map::OneHot(OneHot { values, .. }) => {
                        (Operation::OneHot, values.get(i).cloned(), 0.0, 1.0)
                    }
                    Map::Hash => (Operation::Hash, None, 0.0, 1.0),
                };
                let feature = rows.len() as u32;
                rows.push(FeatureRow { feature, column: c.name.clone(), operation, category, center, scale });
            }
        }
        Some(rows)
    }

    /// The map that [`rows`](Features::rows) describes, for the same columns. Errors if they do not fit together.
    pub fn from_rows(inputs: &Inputs, rows: Option<&[FeatureRow]>) -> Result<Features> {
        let misfit = |reason: String| {
            Error::plan(
                "features.arrow",
                reason,
                "use the plan with the dataset it was made from, or make it anew",
            )
        };
        let Some(mut rest) = rows else {
            let [(name, Kind::Vector { dims })] = &inputs.order[..] else {
                return Err(misfit("is absent, but the features are not one vector column".into()));
            };
            if inputs.encodes(name) {
                return Err(misfit("is absent, but the features come from an encoder".into()));
            }
            let map = Map::Numbers {
                operation: Operation::None,
                center: vec![0.0; *dims],
                scale: vec![1.0; *dims],
            };
            return Ok(Features::new(vec![Column { name: name.clone(), vector: Some(0), map }]));
        };
        if !rest.iter().map(|r| r.feature).eq(0..rest.len() as u32) {
            return Err(misfit("does not number its features in order".into()));
        }
        let mut columns = Vec::new();
        for (name, kind) in &inputs.order {
            let (here, after) = rest.split_at(rest.iter().take_while(|r| r.column == *name).count());
            rest = after;
            let Some(operation) = here.first().map(|r| r.operation) else {
                return Err(misfit(format!("has no feature of column `{name}` where one is due")));
            };
            if here.iter().any(|r| r.operation != operation) {
                return Err(misfit(format!("has several operations for column `{name}`")));
            }
            let (map, fits) = match operation {
                Operation::OneHot => {
                    let values: Vec<String> = here.iter().filter_map(|r| r.category.clone()).collect();
                    let fits = values.len() + 1 == here.len() && here[values.len()].category.is_none();
                    (Map::one_hot(values), fits && matches!(kind, Kind::Text | Kind::Boolean))
                }
                Operation::Hash => {
                    (Map::Hash, here.len() == HASHED && matches!(kind, Kind::Text | Kind::Boolean))
                }
                _ => {
                    let fits = match kind {
                        Kind::Vector { dims } => {
                            let left = if inputs.encodes(name) { Operation::None } else { Operation::Encode };
                            here.len() == *dims && operation != left
                        }
                        Kind::Integer | Kind::Float => {
                            here.len() == 1 && matches!(operation, Operation::Standard | Operation::Robust)
                        }
                        _ => false,
                    };
                    let (center, scale) = here.iter().map(|r| (r.center, r.scale)).unzip();
                    (Map::Numbers { operation, center, scale }, fits)
                }
            };
            if !fits {
                let n = here.len();
                return Err(misfit(format!(
                    "{n} features `{}` do not fit column `{name}`",
                    operation.name()
                )));
            }
            columns.push(Column { name: name.clone(), vector: vector_of(inputs, name), map });
        }
        match rest.first() {
            Some(r) => Err(misfit(format!("has a feature of column `{}` where none is due", r.column))),
            None => Ok(Features::new(columns)),
        }
    }
}

const TOO_LARGE: &str = "is too large for its scale";
/// Numbers beyond this have no square: one of them would spoil mean and deviation of all others.
const LARGEST: f64 = 1e150;
/// Cells looked at for vectors that are written as text.
const LOOKED_AT: usize = 256;

fn can_scale(x: f64) -> bool {
    x.abs() <= LARGEST
}

/// Err if all texts of a column are vectors in writing: as categories they would all be different.
fn refuse_vectors(name: &str, cells: &dyn Array) -> Result<()> {
    if *cells.data_type() != DataType::Utf8 {
        return Ok(());
    }
    let mut texts = cells.as_string::<i32>().iter().flatten().take(LOOKED_AT).peekable();
    let Some(first) = texts.peek().and_then(|text| numbers_in(text)) else { return Ok(()) };
    if !texts.all(|text| numbers_in(text).is_some()) {
        return Ok(());
    }
    let reason = format!("column `{name}` is text that holds vectors (the first has {first} numbers)");
    let help = "parse it and write a column of lists of float32, for example in pandas: \
                df[c] = df[c].map(json.loads)";
    Err(Error::config("features.columns", reason, help))
}

fn vector_of(inputs: &Inputs, name: &str) -> Option<usize> {
    inputs.vectors.iter().position(|v| v == name)
}

fn vector_place(inputs: &Inputs, name: &str) -> Result<usize> {
    vector_of(inputs, name).ok_or_else(|| unusable(name))
}

fn unusable(name: &str) -> Error {
    Error::config("features.columns", format!("column `{name}` cannot be a feature"), "choose another column")
}

fn why_unusable(cells: &dyn Array, i: usize, x: f64) -> &'static str {
    match x {
        _ if cells.is_null(i) => "is null",
        x if x.is_nan() => "is NaN",
        x if x.is_infinite() => "is infinite",
        _ => TOO_LARGE,
    }
}

/// Indices of the sample's rows whose numbers can be used.
fn good_rows(inputs: &Inputs, sample: &RawRows) -> Result<Vec<usize>> {
    let mut good = vec![true; sample.rows.len()];
    for b in &sample.bad {
        good[b.index] = false;
    }
    for (name, kind) in &inputs.order {
        if matches!(kind, Kind::Integer | Kind::Float) {
            for (g, x) in good.iter_mut().zip(numbers(column(sample.table.as_ref(), name)?)?) {
                *g &= can_scale(x);
            }
        }
    }
    Ok((0..good.len()).filter(|&i| good[i]).collect())
}

/// Up to [`ONE_HOT`] values, the most frequent first, ties by value.
fn frequent_values(cells: &dyn Array, rows: &[usize]) -> Vec<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for text in rows.iter().filter_map(|&i| text_value(cells, i)) {
        *counts.entry(text).or_default() += 1;
    }
    let mut values: Vec<_> = counts.into_iter().collect();
    // Stable: equal counts stay in the order of their values.
    values.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    values.into_iter().take(ONE_HOT).map(|(value, _)| value).collect()
}

/// Coordinate and sign of a hashed value (Weinberger et al. 2009). One fixed key: it is stored nowhere else.
fn hashed(text: &str) -> (usize, f32) {
    let hash = xxh3_64_with_seed(text.as_bytes(), Stream::Category.key(0, &[]));
    (hash as usize % HASHED, if hash >> 63 == 0 { 1.0 } else { -1.0 })
}

/// The text of a cell, without a copy where it is text already.
fn with_text<T>(cells: &dyn Array, i: usize, f: impl FnOnce(Option<&str>) -> T) -> T {
    match cells.data_type() {
        DataType::Utf8 if cells.is_valid(i) => f(Some(cells.as_string::<i32>().value(i))),
        _ => f(text_value(cells, i).as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};

    use super::*;

    fn table(columns: Vec<(&str, ArrayRef)>) -> Option<RecordBatch> {
        Some(RecordBatch::try_from_iter(columns).expect("equal lengths"))
    }

    fn inputs(of: &[(&str, Kind)]) -> Inputs {
        let columns: Vec<_> = of.iter().map(|(n, k)| crate::source::Column::new(*n, k.clone())).collect();
        let params =
            Params { columns: columns.iter().map(|c| c.name.clone()).collect(), ..Params::default() };
        Inputs::choose(&params, &columns, &[]).unwrap()
    }

    fn mixed() -> (Inputs, RawRows) {
        let inputs = inputs(&[
            ("t", Kind::Text),
            ("e", Kind::Vector { dims: 2 }),
            ("i", Kind::Integer),
            ("b", Kind::Boolean),
            ("f", Kind::Float),
        ]);
        let raw = RawRows {
            rows: vec![3, 4, 5, 9],
            vectors: vec![Matrix::from_vec(4, 2, vec![3.0, 4.0, 1.0, 0.0, 0.0, 0.0, 0.0, -2.0])],
            table: table(vec![
                ("t", Arc::new(StringArray::from(vec![Some("y"), Some("x"), None, Some("y")]))),
                ("i", Arc::new(Int64Array::from(vec![1, 2, 3, 6]))),
                ("b", Arc::new(BooleanArray::from(vec![true, true, false, true]))),
                ("f", Arc::new(Float64Array::from(vec![7.5, 7.5, 7.5, 7.5]))),
            ]),
            bad: vec![],
        };
        (inputs, raw)
    }

    #[test]
    fn one_vector_column_as_it_is_is_swapped() {
        let inputs = inputs(&[("e", Kind::Vector { dims: 2 })]);
        let points = Matrix::from_vec(2, 2, vec![1.0, 2.0, 3.0, 4.0]);
        let mut raw = RawRows { rows: vec![0, 1], vectors: vec![points.clone()], ..RawRows::default() };
        let features = Features::fit(&inputs, &Params::default(), &raw).unwrap();
        let place = raw.vectors[0].as_slice().as_ptr();
        let (mut out, mut bad) = (Matrix::default(), vec![]);
        features.map(&mut raw, &mut out, &mut bad).unwrap();
        assert_eq!((out.as_slice().as_ptr(), &out), (place, &points));
        assert!(features.rows().is_none());
        assert_eq!(Features::from_rows(&inputs, None).unwrap(), features);
    }

    #[test]
    fn mixed_columns() {
        let (inputs, mut raw) = mixed();
        let params = Params { transform: Transform::Standard, ..Params::default() };
        let features = Features::fit(&inputs, &params, &raw).unwrap();
        let names: Vec<String> = features.names().iter().map(|(c, i)| format!("{c}{i}")).collect();
        assert_eq!(names, ["t0", "t1", "t2", "e0", "e1", "i0", "b0", "b1", "b2", "f0"]);
        let (mut out, mut bad) = (Matrix::default(), vec![]);
        features.map(&mut raw, &mut out, &mut bad).unwrap();
        assert!(bad.is_empty());
        let s = 3.5f64.sqrt();
        let e = [[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [0.0, -2.0]];
        let (d0, d1) = (1.5f64.sqrt(), 4.75f64.sqrt());
        let t = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]];
        for (i, x) in [1.0, 2.0, 3.0, 6.0].into_iter().enumerate() {
            let other: f64 = if i == 2 { 1.0 } else { 0.0 };
            let mut want = t[i].to_vec();
            want.extend([
                (e[i][0] - 1.0) / d0,
                (e[i][1] - 0.5) / d1,
                (x - 3.0) / s,
                1.0 - other,
                other,
                0.0,
                0.0,
            ]);
            for (got, want) in out.row(i).iter().zip(want) {
                assert!((f64::from(*got) - want).abs() < 1e-6, "row {i}: {:?}", out.row(i));
            }
        }
    }

    #[test]
    fn rows_of_every_operation_come_back() {
        let (inputs, raw) = mixed();
        for transform in [Transform::None, Transform::Unit, Transform::Standard, Transform::Robust] {
            for categories in [Categories::OneHot, Categories::Hash] {
                let params = Params { transform, categories, ..Params::default() };
                let features = Features::fit(&inputs, &params, &raw).unwrap();
                let rows = features.rows().unwrap();
                assert_eq!(rows.len(), features.dims());
                assert_eq!(Features::from_rows(&inputs, Some(&rows)).unwrap(), features);
                assert!(Features::from_rows(&inputs, Some(&rows[1..])).is_err());
                let mut more = rows.clone();
                more.push(FeatureRow { feature: rows.len() as u32, column: "z".into(), ..rows[0].clone() });
                assert!(Features::from_rows(&inputs, Some(&rows[..rows.len() - 1])).is_err());
                assert!(Features::from_rows(&inputs, Some(&more)).is_err());
            }
        }
        for operation in Operation::ALL {
            assert_eq!(Operation::of(operation.name()), Some(operation));
        }
    }

    #[test]
    fn unit_and_unusable_rows() {
        let inputs = inputs(&[("e", Kind::Vector { dims: 2 }), ("f", Kind::Float)]);
        let params = Params { transform: Transform::Unit, ..Params::default() };
        let f = vec![Some(1.0), Some(2.0), Some(3.0), None, Some(f64::NAN), Some(f64::INFINITY)];
        let mut raw = RawRows {
            rows: (0..6).collect(),
            vectors: vec![Matrix::from_vec(
                6,
                2,
                vec![3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            )],
            table: table(vec![("f", Arc::new(Float64Array::from(f)))]),
            bad: vec![Bad { index: 2, column: "e".into(), reason: "is null".into() }],
        };
        let features = Features::fit(&inputs, &params, &raw).unwrap();
        // Learnt on 1 and 2: the other rows cannot be used.
        assert_eq!(features.rows().unwrap()[2].center, 1.5);
        let (mut out, mut bad) = (Matrix::default(), vec![]);
        features.map(&mut raw, &mut out, &mut bad).unwrap();
        let told: Vec<_> = bad.iter().map(|b| (b.index, b.column.as_str(), b.reason.as_str())).collect();
        let want = [
            (1, "e", "has length 0"),
            (2, "e", "is null"),
            (3, "f", "is null"),
            (4, "f", "is NaN"),
            (5, "f", "is infinite"),
        ];
        assert_eq!(told, want);
        assert_eq!(out.row(0), [0.6, 0.8, -1.0]);
        assert!(out.as_slice()[3..].iter().all(|&x| x == 0.0));
    }

    #[test]
    fn rare_values_share_a_coordinate_and_hashes_stay() {
        let inputs = inputs(&[("t", Kind::Text)]);
        // 70 values, value v as often as v % 3 + 1 times.
        let text: Vec<String> = (0..70).flat_map(|v| vec![format!("{v:02}"); v % 3 + 1]).collect();
        let cells: ArrayRef = Arc::new(StringArray::from(text.clone()));
        let raw = || RawRows {
            rows: (0..text.len() as u64).collect(),
            table: table(vec![("t", cells.clone())]),
            ..RawRows::default()
        };
        let features = Features::fit(&inputs, &Params::default(), &raw()).unwrap();
        let rows = features.rows().unwrap();
        assert_eq!(rows.len(), 65);
        assert_eq!(rows[0].category.as_deref(), Some("02"));
        assert_eq!(rows[23].category.as_deref(), Some("01"));
        assert_eq!(rows[64].category, None);
        let hash = Params { categories: Categories::Hash, ..Params::default() };
        let features = Features::fit(&inputs, &hash, &raw()).unwrap();
        let (mut out, mut bad) = (Matrix::default(), vec![]);
        features.map(&mut raw(), &mut out, &mut bad).unwrap();
        assert!(out.iter_rows().all(|r| r.iter().map(|x| x.abs()).sum::<f32>() == 1.0));
        assert!(out.as_slice().contains(&1.0) && out.as_slice().contains(&-1.0));
    }
}
