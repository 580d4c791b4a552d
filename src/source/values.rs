//! Cells as text and as numbers, and the distinct values of a column.

use std::borrow::Cow;
use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, Float64Array};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::DataType;

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

impl Dataset {
    /// The distinct values of a column among the selected rows, nulls left out: text, how often, and the first row that
    /// has it; sorted by the text's bytes. Err above 100 000 distinct values.
    pub fn values(
        &self,
        column: &str,
        selection: &Selection,
        engine: &Local,
    ) -> Result<Vec<(String, u64, u64)>> {
        let columns = Columns::new(self, vec![], vec![column.to_string()])?;
        engine.run("values", &columns, &Distinct { column, selection }, &parts(self.rows(), TABLE_WIDTH))
    }
}

struct Distinct<'a> {
    column: &'a str,
    selection: &'a Selection,
}

impl Pass for Distinct<'_> {
    type Item = RawRows;
    /// Text to count and first row.
    type Partial = BTreeMap<String, (u64, u64)>;
    type Output = Vec<(String, u64, u64)>;

    fn partial(&self, item: &RawRows) -> Result<Self::Partial> {
        let array = item.table.as_ref().expect("one column was asked for").column(0);
        let mut out: Self::Partial = BTreeMap::new();
        for (i, &row) in item.rows.iter().enumerate().filter(|(_, row)| self.selection.contains(**row)) {
            // Most cells repeat: only a new value is worth an allocation of its own.
            let text = match array.data_type() {
                DataType::Utf8 if array.is_valid(i) => Cow::Borrowed(array.as_string::<i32>().value(i)),
                _ => match text_value(array, i) {
                    Some(text) => Cow::Owned(text),
                    None => continue,
                },
            };
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
