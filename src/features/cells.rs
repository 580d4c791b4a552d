//! Cells of a table column as text or as numbers.

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;

use crate::kit::error::{Error, Result};

/// A column as `f64`: integers are rounded to 53 bits, dates and timestamps become their stored integers, nulls NaN.
pub(crate) fn numbers(array: &dyn Array) -> Result<Vec<f64>> {
    let cast = |array: &dyn Array, to: &DataType| -> Result<ArrayRef> {
        arrow_cast::cast(array, to).map_err(|e| {
            Error::input(
                "a table column",
                format!("{} is not a number", array.data_type()),
                "choose another column",
            )
            .because(e)
        })
    };
    let array = match array.data_type() {
        t if t.is_temporal() => cast(&cast(array, &DataType::Int64)?, &DataType::Float64)?,
        _ => cast(array, &DataType::Float64)?,
    };
    let array = array.as_primitive::<Float64Type>();
    if array.null_count() == 0 {
        return Ok(array.values().to_vec());
    }
    Ok(array.iter().map(|x| x.unwrap_or(f64::NAN)).collect())
}

/// The column of this name. That it is there is the caller's business: the reader was asked for it.
pub(crate) fn column<'a>(table: Option<&'a RecordBatch>, name: &str) -> Result<&'a ArrayRef> {
    table.and_then(|t| t.column_by_name(name)).ok_or_else(|| {
        Error::input("the dataset", "this column was not read", "check that the dataset still has it")
            .column(name)
    })
}

/// Fewer rows than this may well be in order by chance.
const RISING: usize = 16;

/// Whether a numeric column has a number in every row, each larger than the one before.
pub(crate) fn ascends(table: Option<&RecordBatch>, name: &str) -> Result<bool> {
    let x = numbers(column(table, name)?)?;
    Ok(x.len() >= RISING && x.is_sorted_by(|a, b| a < b))
}

/// How many numbers a text holds that is a vector in writing: `[0.1, -2]`, `(1 2 3)`, `array([1., 2.])`, or at least eight
/// numbers without brackets. None for any other text.
pub(crate) fn numbers_in(text: &str) -> Option<usize> {
    let text = text.trim();
    let open = text.find(['[', '(', '{']);
    let inner = match open {
        // The name of a type may stand before a bracket.
        Some(open) if text[..open].chars().all(|c| c.is_ascii_alphabetic() || c == '.') => &text[open..],
        Some(_) => return None,
        None => text,
    };
    let between = |c: char| c.is_whitespace() || ",;[](){}".contains(c);
    let words = inner.split(between).filter(|word| !word.is_empty());
    let mut count = 0;
    for word in words {
        // numpy leaves the middle of long arrays out.
        if word != "..." {
            word.parse::<f64>().ok()?;
            count += 1;
        }
    }
    (count >= if open.is_some() { 2 } else { 8 }).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_in_writing() {
        for (text, count) in [
            ("[0.1, -2, 3e-5]", Some(3)),
            (" (1 2\n 3) ", Some(3)),
            ("array([1., 2.])", Some(2)),
            ("np.array([[1, 2], [3, 4]])", Some(4)),
            ("[0.1 0.2 ... 0.9]", Some(3)),
            ("{1;2}", Some(2)),
            ("1,2,3,4,5,6,7,8", Some(8)),
            ("[1]", None),
            ("2024 01 02", None),
            ("1,234", None),
            ("[a, b]", None),
            ("call (1 2)", None),
            ("", None),
        ] {
            assert_eq!(numbers_in(text), count, "{text}");
        }
    }
}
