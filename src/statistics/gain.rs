//! How much of the variance of early gradients stratified batches are expected to remove.
//!
//! The gradient of a zero-initialised softmax layer at row i is `v_i = (onehot(y_i) - 1/C) (x) [1, x_i]`, x centred and
//! divided by its global standard deviation (one number for all coordinates). The share of the variance of v that lies
//! between groups of rows, `share_yx = sum_h p_h |mean_h v - mean v|^2 / mean_i |v_i - mean v|^2`, predicts the ratio of
//! the variances of stratified and shuffled batches as 1 - share (measured: r = .99 over 21 settings). Without labels
//! v = x: share_x is only an optimistic upper guess.
//!
//! v itself (C times x) is never formed. With `A_gc = (1/n_g) sum of [1, x_i]` over the rows of group g and class c,
//! `|mean_g v|^2 = sum_c |A_gc|^2 - |sum_c A_gc|^2 / C`, because `(e_c - 1/C) . (e_d - 1/C) = [c = d] - 1/C`; likewise
//! `mean |v|^2 = (1 - 1/C) (1 + mean |x|^2)`. So sums of `[1, x]` per (stratum, class) that occurs are enough, and x may be
//! centred and scaled afterwards. Wide rows are projected to 39 numbers by a keyed Gaussian matrix first, which keeps
//! lengths on average (Johnson & Lindenstrauss 1984).
//!
//! O(rows x dims x min(dims, 39)) time; memory min(dims, 39) numbers for each (stratum, class) that occurs.

use std::collections::BTreeMap;

use arrow_array::Array;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::features::column;
use crate::kernels::moments::shift_and_add;
use crate::kernels::project::products;
use crate::kit::error::{Error, Result};
use crate::kit::ids::NONE;
use crate::kit::matrix::Matrix;
use crate::kit::rng::{Stream, normal};
use crate::modalities::Assigned;
use crate::parts::Pass;
use crate::source::{Kind, text_value};

/// Numbers that wide rows are projected to.
pub const WIDTH: usize = 39;
/// Rows that are projected together.
const BLOCK: usize = 64;
/// More classes than this are hashed to as many.
pub const CLASSES: usize = 1000;

/// The classes of the label column.
#[derive(Serialize, Deserialize)]
pub struct Label {
    column: String,
    /// Class of every label text; None: texts are hashed to [`CLASSES`].
    classes: Option<BTreeMap<String, u32>>,
}

impl Label {
    /// `texts`: the distinct label texts of the rows in the plan. A null label is a class of its own beside them.
    pub fn new(column: &str, texts: impl IntoIterator<Item = String>) -> Self {
        let mut classes: BTreeMap<String, u32> = texts.into_iter().map(|t| (t, 0)).collect();
        classes.values_mut().zip(0..).for_each(|(class, i)| *class = i);
        Label { column: column.into(), classes: Some(classes).filter(|c| c.len() <= CLASSES) }
    }

    fn classes(&self) -> u32 {
        self.classes.as_ref().map_or(CLASSES, |c| c.len()) as u32
    }

    /// Class of a cell; [`Label::classes`] for null.
    fn class(&self, cells: &dyn Array, i: usize) -> Result<u32> {
        let Some(text) = text_value(cells, i) else { return Ok(self.classes()) };
        let Some(classes) = &self.classes else {
            let hash = xxh3_64_with_seed(text.as_bytes(), Stream::Category.key(0, &[1]));
            return Ok((hash % CLASSES as u64) as u32);
        };
        classes.get(&text).copied().ok_or_else(|| {
            let help = "the files change while they are read: run again when they are complete";
            Error::input("the dataset", format!("label `{text}` was not there a moment ago"), help)
                .column(&self.column)
        })
    }
}

/// The pass.
#[derive(Serialize, Deserialize)]
pub struct Gain {
    label: Option<Label>,
    shift: Vec<f32>,
    /// [`WIDTH`] x dims; None for rows that are not wide.
    axes: Option<Matrix>,
}

impl Gain {
    /// `shift`: about the mean of every feature, for example that of the sample.
    pub fn new(label: Option<Label>, shift: &[f64], seed: u64) -> Self {
        let dims = shift.len();
        let entry = |i: usize| {
            let (r, j) = ((i / dims) as u64, (i % dims) as u64);
            (normal(Stream::Projection.key(seed, &[r, j])) / (WIDTH as f64).sqrt()) as f32
        };
        let axes = || Matrix::from_vec(WIDTH, dims, (0..WIDTH * dims).map(entry).collect());
        Gain { label, shift: shift.iter().map(|&s| s as f32).collect(), axes: (dims > WIDTH).then(axes) }
    }

    /// Whether a column of this kind can be the label. Of floating point numbers that depends on the values: they must be
    /// whole.
    pub fn check_label(name: &str, kind: &Kind) -> Result<()> {
        let what = match kind {
            Kind::Integer | Kind::Boolean | Kind::Text | Kind::Float => return Ok(()),
            Kind::Vector { .. } => "holds vectors",
            Kind::Labels => "holds lists",
            Kind::Other => "is of a type that cannot be read",
        };
        Err(Error::config(
            "source.label",
            format!("column `{name}` {what}, a label is a class"),
            "name an integer, boolean or text column with --label, or leave it out",
        ))
    }
}

/// Rows and the sum of their numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cell {
    rows: u64,
    sum: Vec<f64>,
}

impl Cell {
    fn add(&mut self, rows: u64, x: &[f64]) {
        self.rows += rows;
        self.sum.resize(x.len(), 0.0);
        self.sum.iter_mut().zip(x).for_each(|(s, x)| *s += x);
    }
}

/// Mergeable form of the pass. Rows are shifted; "narrow" is after the projection, if there is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Per (stratum, class), narrow.
    cells: BTreeMap<(u32, u32), Cell>,
    /// Sum of |x|^2, narrow.
    square: f64,
    /// All rows before the projection: their sum and the sum of |x|^2. They give the global standard deviation.
    wide: Cell,
    wide_square: f64,
}

/// What the data says about any grouping of its strata.
#[derive(Clone, Debug, PartialEq)]
pub struct GainSums {
    /// Number of classes, one for null labels included if there are any; None without a label.
    classes: Option<u32>,
    /// Per (stratum, class): rows and mean-free, scaled, narrow sums.
    cells: BTreeMap<(u32, u32), Cell>,
    /// Mean of |x|^2, x centred, scaled, narrow.
    mean_square: f64,
}

impl Pass for Gain {
    type Item = Assigned;
    type Partial = Sums;
    type Output = GainSums;

    fn partial(&self, item: &Assigned) -> Result<Sums> {
        let label = match &self.label {
            None => None,
            Some(label) => Some((label, column(item.points.table.as_ref(), &label.column)?)),
        };
        let dims = self.shift.len();
        let narrow = dims.min(WIDTH);
        let mut sums = Sums { wide: Cell { rows: 0, sum: vec![0.0; dims] }, ..Sums::default() };
        let (mut shifted, mut projected) = (vec![0.0; BLOCK * dims], vec![0.0; BLOCK * narrow]);
        let planned: Vec<usize> = (0..item.modality.len()).filter(|&i| item.modality[i] != NONE).collect();
        for block in planned.chunks(BLOCK) {
            let (shifted, projected) =
                (&mut shifted[..block.len() * dims], &mut projected[..block.len() * narrow]);
            for (t, &i) in block.iter().enumerate() {
                let shifted = &mut shifted[t * dims..(t + 1) * dims];
                let x = item.points.points.row(i);
                let square = shift_and_add(x, &self.shift, shifted, &mut sums.wide.sum);
                sums.wide.rows += 1;
                sums.wide_square += square;
                if self.axes.is_none() {
                    sums.square += square;
                }
            }
            match &self.axes {
                Some(axes) => products(axes, shifted, projected),
                None => projected.iter_mut().zip(&*shifted).for_each(|(to, &x)| *to = f64::from(x)),
            }
            for (t, &i) in block.iter().enumerate() {
                let x = &projected[t * narrow..(t + 1) * narrow];
                if self.axes.is_some() {
                    sums.square += x.iter().map(|x| x * x).sum::<f64>();
                }
                let class = label.map_or(Ok(0), |(label, cells)| label.class(cells, i))?;
                sums.cells.entry((item.stratum[i], class)).or_default().add(1, x);
            }
        }
        Ok(sums)
    }

    fn merge(&self, mut left: Sums, right: Sums) -> Sums {
        for (key, cell) in right.cells {
            left.cells.entry(key).and_modify(|here| here.add(cell.rows, &cell.sum)).or_insert(cell);
        }
        left.square += right.square;
        left.wide.add(right.wide.rows, &right.wide.sum);
        left.wide_square += right.wide_square;
        left
    }

    fn finish(&self, all: Option<Sums>) -> Result<GainSums> {
        let Sums { mut cells, square, wide, wide_square } = all.unwrap_or_default();
        let n = (wide.rows as f64).max(1.0);
        let of_mean = |sum: &[f64]| sum.iter().map(|s| (s / n) * (s / n)).sum::<f64>();
        let variance = (wide_square / n - of_mean(&wide.sum)) / self.shift.len().max(1) as f64;
        let scale = if variance > 0.0 { variance.sqrt() } else { 1.0 };
        let mut total = Cell::default();
        cells.values().for_each(|c| total.add(c.rows, &c.sum));
        let mean_square = (square / n - of_mean(&total.sum)).max(0.0) / (scale * scale);
        for cell in cells.values_mut() {
            for (s, t) in cell.sum.iter_mut().zip(&total.sum) {
                *s = (*s - cell.rows as f64 * (t / n)) / scale;
            }
        }
        let classes = self.label.as_ref().map(|label| {
            let null = cells.keys().any(|&(_, class)| class == label.classes());
            label.classes() + null as u32
        });
        Ok(GainSums { classes, cells, mean_square })
    }
}

/// A share explained by `groups` groups as found on `rows` rows, less what so many groups explain by chance (epsilon
/// squared, Kelley 1935), in [0, 1].
pub fn corrected(share: f64, rows: f64, groups: f64) -> f64 {
    (1.0 - (1.0 - share) * (rows - 1.0) / (rows - groups).max(1.0)).clamp(0.0, 1.0)
}

impl GainSums {
    /// Whether there were labels; without, shares are only an optimistic upper guess.
    pub fn labelled(&self) -> bool {
        self.classes.is_some()
    }

    /// Share of the variance of v between groups, in [0, 1]; `group_of_stratum[h]` is the group of stratum h as it was
    /// numbered in the pass, [`NONE`] if it is gone: the identity asks about the strata themselves. 0 where v does not vary (no rows, one class).
    pub fn share(&self, group_of_stratum: &[u32]) -> f64 {
        let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (stratum, &group) in (0..).zip(group_of_stratum) {
            groups.entry(group).or_default().push(stratum);
        }
        // Rows of no group are all held out.
        groups.remove(&NONE);
        let mut strata = groups.values().flatten().copied().collect::<Vec<u32>>();
        strata.sort_unstable();
        let all = self.classes_of(&strata);
        let n = all.values().map(|c| c.rows).sum::<u64>() as f64;
        let (_, of_mean) = self.rows_and_mean(&all);
        // One group after the other: together they would be the cells once more.
        let between: f64 = (groups.values().map(|strata| self.classes_of(strata)))
            .filter(|group| !group.is_empty())
            .map(|group| {
                let (rows, square) = self.rows_and_mean(&group);
                rows / n * square
            })
            .sum();
        let mean_of = match self.classes {
            Some(c) => (1.0 - 1.0 / f64::from(c.max(1))) * (1.0 + self.mean_square),
            None => self.mean_square,
        };
        let variance = mean_of - of_mean;
        // Below this the variance is what rounding left of it.
        if variance > 1e-12 * mean_of { ((between - of_mean) / variance).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The cells of these strata together, by class.
    fn classes_of(&self, strata: &[u32]) -> BTreeMap<u32, Cell> {
        let mut classes: BTreeMap<u32, Cell> = BTreeMap::new();
        for &stratum in strata {
            for (&(_, class), cell) in self.cells.range((stratum, 0)..=(stratum, u32::MAX)) {
                classes.entry(class).or_default().add(cell.rows, &cell.sum);
            }
        }
        classes
    }

    /// Mean squared distance of two rows of a group over that of any two rows, in [0, 1]: 1 less the share of the variance of x,
    /// whatever the labels.
    pub fn distance_within(&self, group_of_stratum: &[u32]) -> f64 {
        let mut cells: BTreeMap<(u32, u32), Cell> = BTreeMap::new();
        for (&(stratum, _), cell) in &self.cells {
            cells.entry((stratum, 0)).or_default().add(cell.rows, &cell.sum);
        }
        let points = GainSums { classes: None, cells, mean_square: self.mean_square };
        1.0 - points.share(group_of_stratum)
    }

    /// Rows of a group and |mean v|^2 over it.
    fn rows_and_mean(&self, classes: &BTreeMap<u32, Cell>) -> (f64, f64) {
        let mut total = Cell::default();
        classes.values().for_each(|c| total.add(c.rows, &c.sum));
        let n = total.rows as f64;
        let of = |x: f64| (x / n) * (x / n);
        let square = |cell: &Cell| cell.sum.iter().map(|&s| of(s)).sum::<f64>();
        let square = match self.classes {
            None => square(&total),
            Some(c) => {
                let extended = |cell: &Cell| of(cell.rows as f64) + square(cell);
                classes.values().map(extended).sum::<f64>() - extended(&total) / f64::from(c)
            }
        };
        (n, square)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;
    use crate::statistics::fixtures::Data;

    /// v formed row by row, as the definition says.
    fn naive(x: &[Vec<f64>], axes: Option<&Matrix>, y: Option<(&[usize], usize)>, group: &[u32]) -> f64 {
        let (n, d) = (x.len() as f64, x[0].len());
        let mean: Vec<f64> = (0..d).map(|j| x.iter().map(|r| r[j]).sum::<f64>() / n).collect();
        let square = |r: &[f64], m: &[f64]| r.iter().zip(m).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let std = (x.iter().map(|r| square(r, &mean)).sum::<f64>() / n / d as f64).sqrt();
        let v: Vec<Vec<f64>> = x
            .iter()
            .enumerate()
            .map(|(i, r)| {
                let mut w: Vec<f64> = r.iter().zip(&mean).map(|(a, b)| (a - b) / std).collect();
                if let Some(axes) = axes {
                    w = axes
                        .iter_rows()
                        .map(|a| a.iter().zip(&w).map(|(a, w)| f64::from(*a) * w).sum())
                        .collect();
                }
                let Some((y, classes)) = y else { return w };
                w.insert(0, 1.0);
                let e = |c| f64::from(u8::from(y[i] == c)) - 1.0 / classes as f64;
                (0..classes).flat_map(|c| w.iter().map(|w| e(c) * w).collect::<Vec<_>>()).collect()
            })
            .collect();
        let average = |rows: &[&Vec<f64>]| -> Vec<f64> {
            (0..v[0].len()).map(|j| rows.iter().map(|r| r[j]).sum::<f64>() / rows.len() as f64).collect()
        };
        let all = average(&v.iter().collect::<Vec<_>>());
        let between: f64 = (0..=*group.iter().max().unwrap())
            .map(|g| {
                let rows: Vec<_> = v.iter().zip(group).filter(|(_, h)| **h == g).map(|(v, _)| v).collect();
                if rows.is_empty() { 0.0 } else { rows.len() as f64 / n * square(&average(&rows), &all) }
            })
            .sum();
        between / (v.iter().map(|v| square(v, &all)).sum::<f64>() / n)
    }

    fn check(dims: usize, labels: impl Fn(i64) -> Option<i64>, classes: Option<usize>) {
        let rows = 240;
        let mut data = Data::random(rows, dims);
        let y: Vec<Option<i64>> = (0..rows as i64).map(labels).collect();
        let cells = Arc::new(Int64Array::from(y.clone())) as ArrayRef;
        data.table = Some(RecordBatch::try_from_iter([("y", cells)]).unwrap());
        let texts = y.iter().flatten().map(|y| y.to_string());
        let label = classes.map(|_| Label::new("y", texts));
        let pass = Gain::new(label, &vec![2.5; dims], 3);
        let sums = data.run(&pass, 32, 2);
        assert_eq!(sums, data.run(&pass, 32, 1));
        assert_eq!(sums.labelled(), classes.is_some());
        let planned: Vec<usize> = data.planned().collect();
        let x: Vec<Vec<f64>> =
            planned.iter().map(|&i| data.points.row(i).iter().map(|&x| f64::from(x)).collect()).collect();
        let y: Vec<usize> =
            planned.iter().map(|&i| y[i].map_or(classes.unwrap_or(1) - 1, |y| y as usize)).collect();
        for mapping in [vec![0, 1, 2, 3, 4, 5], vec![0, 0, 1, 1, 0, 2], vec![0; 6]] {
            let group: Vec<u32> = planned.iter().map(|&i| mapping[data.stratum[i] as usize]).collect();
            let want = naive(&x, pass.axes.as_ref(), classes.map(|c| (&y[..], c)), &group);
            let got = sums.share(&mapping);
            assert!((got - want).abs() < 1e-6, "dims {dims} {mapping:?}: {got} {want}");
            let (want, got) = (naive(&x, pass.axes.as_ref(), None, &group), sums.distance_within(&mapping));
            assert!((1.0 - got - want).abs() < 1e-6, "dims {dims} {mapping:?}: {got} {want}");
        }
    }

    #[test]
    fn equals_the_definition() {
        for dims in [5, 39, 40, 60] {
            check(dims, |i| Some((i * 7 / 5) % 4), Some(4));
            check(dims, |i| Some(i % 4 % 3), Some(3)); // classes equal modalities
            check(dims, |i| (i % 5 != 0).then_some(i % 3), Some(4)); // null is a class
            check(dims, |i| Some(i % 3), None);
        }
    }

    #[test]
    fn degenerate_data_has_no_gain() {
        let mut data = Data::random(40, 3);
        data.points.as_mut_slice().fill(1.25);
        let sums = data.run(&Gain::new(None, &[0.3; 3], 3), 16, 1);
        assert_eq!(sums.share(&[0, 1, 2, 3, 4, 5]), 0.0);
        assert_eq!(Data::random(0, 3).run(&Gain::new(None, &[0.3; 3], 3), 16, 1).share(&[]), 0.0);
    }

    #[test]
    fn labels() {
        assert!(Gain::check_label("y", &Kind::Other).unwrap_err().to_string().contains("`y`"));
        assert!(Gain::check_label("y", &Kind::Integer).is_ok());
        assert!(Gain::check_label("y", &Kind::Float).is_ok());
        let many = Label::new("y", (0..1001).map(|i| i.to_string()));
        let cells = Int64Array::from(vec![Some(3), None, Some(3), Some(77_777)]);
        let classes: Vec<u32> = (0..4).map(|i| many.class(&cells, i).unwrap()).collect();
        assert_eq!((many.classes(), classes[1], classes[0]), (1000, 1000, classes[2]));
        assert!(classes[3] < 1000);
        let few = Label::new("y", ["b".to_string(), "3".into(), "b".into()]);
        assert_eq!((few.classes(), few.class(&cells, 0).unwrap()), (2, 0));
        assert!(few.class(&cells, 3).is_err());
    }
}
