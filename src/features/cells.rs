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
