//! Cells as text and as numbers, what a cell is called, and the distinct names of a column.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, Float64Array};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::DataType;
use serde::{Deserialize, Serialize};

use super::columns::Columns;
use super::dataset::Dataset;
use super::{RawRows, Selection};
use crate::kit::error::{Error, Result};
use crate::parts::{Local, Pass, parts};

/// A column with more distinct values than this is no set of classes.
const MOST: usize = 100_000;
/// Numbers a row counts for when parts are cut for table columns alone.
pub(crate) const TABLE_WIDTH: usize = 64;

/// The one canonical text of a cell, used for labels, strata and profiles alike; None for null. Integers in decimal,
/// floats in the shortest form that reads back the same (`3` for 3.0; NaN is no value, and -0 is 0), decimals with all their
/// digits, `true` / `false`, dates and timestamps in ISO 8601.
pub fn text_value(array: &dyn Array, i: usize) -> Option<String> {
    if array.is_null(i) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().value(i).to_string(),
        DataType::Float64 => match array.as_primitive::<Float64Type>().value(i) {
            x if x.is_nan() => return None,
            x => (x + 0.0).to_string(),
        },
        DataType::Boolean => array.as_boolean().value(i).to_string(),
        DataType::Utf8 => array.as_string::<i32>().value(i).to_string(),
        _ => {
            let options = FormatOptions::default();
            let formatter = ArrayFormatter::try_new(array, &options).ok()?;
            formatter.value(i).try_to_string().ok()?
        }
    })
}

/// A column of a table as numbers: booleans 0 and 1, dates in days, timestamps in their unit. None for texts.
pub fn numbers(array: &dyn Array) -> Option<Float64Array> {
    let to = |array: &dyn Array, t: DataType| cast_with_options(array, &t, &CastOptions::default()).ok();
    let array = match array.data_type() {
        DataType::Utf8 => return None,
        DataType::Date32 => to(&to(array, DataType::Int32)?, DataType::Float64)?,
        DataType::Timestamp(..) => to(&to(array, DataType::Int64)?, DataType::Float64)?,
        _ => to(array, DataType::Float64)?,
    };
    Some(array.as_primitive::<Float64Type>().clone())
}

/// What the cells of a column are called: groups of rows are those of one name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Naming {
    /// By their value, see [`text_value`].
    #[default]
    Value,
    /// `q0`, `q1`, ..: by the bin of their number. `edges`, ascending, are where all bins but the first begin.
    Bins { edges: Vec<f64> },
    /// By the label of their list that is rarest in a sample, whose `rows` have each. A label that the sample has not seen is rarer still; of equally
    /// rare ones the first by its text.
    Rarest { rows: BTreeMap<String, u64> },
}

impl Naming {
    /// Bins of as many of these cells each, but for ties: they begin at the ranks floor(i n / `bins`) of the n numbers in order. Equal
    /// edges count once, and none is at the minimum, so that there may be fewer bins and none of them is empty. Infinities begin no bin.
    /// O(n log n).
    pub fn quantiles(cells: &dyn Array, bins: u32) -> Naming {
        let mut sorted: Vec<f64> = numbers(cells).map_or(Vec::new(), |all| {
            all.iter().flatten().filter(|x| x.is_finite()).map(|x| x + 0.0).collect()
        });
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |i: u32| sorted[(u64::from(i) * sorted.len() as u64 / u64::from(bins)) as usize];
        let mut edges: Vec<f64> = (1..if sorted.is_empty() { 1 } else { bins }).map(at).collect();
        edges.dedup();
        edges.retain(|&edge| edge > sorted[0]);
        Naming::Bins { edges }
    }

    /// The labels of these lists, and how many of the lists have each. O(labels).
    pub fn rarest(cells: &dyn Array) -> Naming {
        let mut rows = BTreeMap::new();
        for i in 0..cells.len() {
            for label in labels(cells, i).collect::<BTreeSet<_>>() {
                *rows.entry(label.to_string()).or_default() += 1;
            }
        }
        Naming::Rarest { rows }
    }

    /// Whether cells of this type have such names.
    pub fn fits(&self, cells: &dyn Array) -> bool {
        let list = matches!(cells.data_type(), DataType::List(_));
        match self {
            Naming::Value => !list,
            Naming::Bins { .. } => !list && cells.data_type() != &DataType::Utf8,
            Naming::Rarest { .. } => list,
        }
    }

    /// The names of a column's cells, which must fit.
    pub fn names<'a>(&'a self, cells: &'a dyn Array) -> Names<'a> {
        match self {
            Naming::Value => Names::Values(cells),
            Naming::Bins { edges } => Names::Bins(numbers(cells), edges),
            Naming::Rarest { rows } => Names::Rarest(cells, rows),
        }
    }

    pub fn edges(&self) -> Option<&[f64]> {
        match self {
            Naming::Bins { edges } => Some(edges),
            _ => None,
        }
    }
}

/// The texts in a list; none of null.
fn labels(cells: &dyn Array, i: usize) -> impl Iterator<Item = &str> {
    let lists = cells.as_list::<i32>();
    let items = lists.values().as_string::<i32>();
    let range = if lists.is_valid(i) { lists.value_offsets()[i]..lists.value_offsets()[i + 1] } else { 0..0 };
    range.map(|j| j as usize).filter(|&j| items.is_valid(j)).map(|j| items.value(j))
}

/// See [`Naming::names`].
pub enum Names<'a> {
    Values(&'a dyn Array),
    Bins(Option<Float64Array>, &'a [f64]),
    Rarest(&'a dyn Array, &'a BTreeMap<String, u64>),
}

impl Names<'_> {
    /// None: null, NaN, empty lists, and texts where numbers are expected.
    pub fn get(&self, i: usize) -> Option<Cow<'_, str>> {
        match self {
            // Most cells repeat: only a new value is worth an allocation of its own.
            Names::Values(cells) if cells.data_type() == &DataType::Utf8 => {
                cells.is_valid(i).then(|| Cow::Borrowed(cells.as_string::<i32>().value(i)))
            }
            Names::Values(cells) => text_value(*cells, i).map(Cow::Owned),
            Names::Bins(numbers, edges) => {
                let numbers = numbers.as_ref().filter(|all| all.is_valid(i) && !all.value(i).is_nan())?;
                let bin = edges.partition_point(|&edge| edge <= numbers.value(i));
                Some(Cow::Owned(format!("q{bin}")))
            }
            Names::Rarest(cells, rows) => {
                let rarity = |label| (rows.get(label).copied().unwrap_or(0), label);
                labels(*cells, i).map(rarity).min().map(|(_, label)| Cow::Borrowed(label))
            }
        }
    }
}

impl Dataset {
    /// The distinct names of a column's cells among the selected rows, nulls left out: text, how often, and the first row that
    /// has it; sorted by the text's bytes. Err above 100 000 distinct ones.
    pub fn values(
        &self,
        column: &str,
        naming: &Naming,
        selection: &Selection,
        engine: &Local,
    ) -> Result<Vec<(String, u64, u64)>> {
        let columns = Columns::new(self, vec![], vec![column.to_string()])?;
        let pass = Distinct { column, naming, selection };
        engine.run("values", &columns, &pass, &parts(self.rows(), TABLE_WIDTH))
    }
}

struct Distinct<'a> {
    column: &'a str,
    naming: &'a Naming,
    selection: &'a Selection,
}

impl Pass for Distinct<'_> {
    type Item = RawRows;
    /// Text to count and first row.
    type Partial = BTreeMap<String, (u64, u64)>;
    type Output = Vec<(String, u64, u64)>;

    fn partial(&self, item: &RawRows) -> Result<Self::Partial> {
        let names = self.naming.names(item.table.as_ref().expect("one column was asked for").column(0));
        let mut out: Self::Partial = BTreeMap::new();
        for (i, &row) in item.rows.iter().enumerate().filter(|(_, row)| self.selection.contains(**row)) {
            let Some(text) = names.get(i) else { continue };
            match out.get_mut(text.as_ref()) {
                Some((count, _)) => *count += 1,
                None => drop(out.insert(text.into_owned(), (1, row))),
            }
        }
        Ok(out)
    }

    fn merge(&self, mut left: Self::Partial, right: Self::Partial) -> Self::Partial {
        // Beyond the limit nothing need be exact: it only stays above it.
        if left.len() > MOST {
            return left;
        }
        for (text, (count, first)) in right {
            left.entry(text).or_insert((0, first)).0 += count;
        }
        left
    }

    fn finish(&self, all: Option<Self::Partial>) -> Result<Self::Output> {
        let all = all.unwrap_or_default();
        if all.len() > MOST {
            let help = "choose a column with fewer values, or derive a coarser one from it";
            let reason = format!("column `{}` has more than {MOST} distinct values", self.column);
            return Err(Error::config("column", reason, help));
        }
        Ok(all.into_iter().map(|(text, (count, first))| (text, count, first)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, BooleanArray, Date32Array, Int64Array, StringArray};
    use std::sync::Arc;

    fn edges(sample: Vec<Option<f64>>, bins: u32) -> Vec<f64> {
        Naming::quantiles(&Float64Array::from(sample), bins).edges().unwrap().to_vec()
    }

    /// By the definition: bins hold equal parts of the numbers where no two are alike; ties make them fewer, never empty.
    #[test]
    fn quantile_bins() {
        use crate::kit::rng::{key, uniform};

        assert_eq!(edges([3, 1, 1, 1, 2, 5, 8].map(|x| Some(f64::from(x))).to_vec(), 4), [2.0, 5.0]);
        assert_eq!(edges(vec![], 4), edges(vec![None, Some(f64::NAN), Some(f64::INFINITY)], 4));
        assert!(edges(vec![Some(7.0); 9], 3).is_empty(), "one value is one bin");
        for case in 0..200 {
            let (n, bins) = (1 + key(case, &[0]) % 300, 2 + (key(case, &[1]) % 12) as u32);
            let tied = case % 2 == 0;
            let value = |i| if tied { (key(case, &[2, i]) % 5) as f64 } else { uniform(key(case, &[2, i])) };
            let mut cells: Vec<Option<f64>> = (0..n).map(|i| Some(value(i))).collect();
            cells.extend([None, Some(f64::NAN), Some(-0.0), Some(0.0)]);
            let naming = Naming::quantiles(&Float64Array::from(cells.clone()), bins);
            let array = Float64Array::from(cells.clone());
            let names = naming.names(&array);
            let mut count = vec![0u64; naming.edges().unwrap().len() + 1];
            for (i, &cell) in cells.iter().enumerate() {
                let name = names.get(i);
                assert_eq!(name.is_none(), cell.is_none_or(f64::is_nan));
                let Some(name) = name else { continue };
                let above = naming.edges().unwrap().iter().filter(|&&edge| edge <= cell.unwrap()).count();
                assert_eq!(name, format!("q{above}"));
                count[above] += 1;
            }
            assert!(count.iter().all(|&n| n > 0) && count.len() <= bins as usize, "no bin is empty");
            if !tied && n + 1 >= u64::from(bins) {
                let (least, most) = (count.iter().min().unwrap(), count.iter().max().unwrap());
                // The two zeros are a tie.
                assert!(most - least <= 2, "{count:?}");
            }
        }
        assert_eq!(
            Naming::quantiles(&StringArray::from(vec!["1"]), 2).names(&StringArray::from(vec!["1"])).get(0),
            None
        );
    }

    #[test]
    fn cells() {
        let cases: [(ArrayRef, &str, Option<f64>); 7] = [
            (Arc::new(Int64Array::from(vec![-7])), "-7", Some(-7.0)),
            (Arc::new(Float64Array::from(vec![3.0])), "3", Some(3.0)),
            (Arc::new(Float64Array::from(vec![0.1])), "0.1", Some(0.1)),
            (Arc::new(Float64Array::from(vec![-0.0])), "0", Some(0.0)),
            (Arc::new(BooleanArray::from(vec![true])), "true", Some(1.0)),
            (Arc::new(StringArray::from(vec!["é"])), "é", None),
            (Arc::new(Date32Array::from(vec![19_723])), "2024-01-01", Some(19_723.0)),
        ];
        for (array, text, number) in cases {
            assert_eq!(text_value(&array, 0).as_deref(), Some(text));
            assert_eq!(numbers(&array).map(|a| a.value(0)), number);
        }
        assert_eq!(text_value(&Int64Array::from(vec![None]), 0), None);
        assert_eq!(text_value(&Float64Array::from(vec![f64::NAN]), 0), None);
        let decimal =
            arrow_array::Decimal128Array::from(vec![10i128.pow(30) + 1]).with_precision_and_scale(38, 2);
        assert_eq!(text_value(&decimal.unwrap(), 0).as_deref(), Some("10000000000000000000000000000.01"));
    }
}
