//! Cells as bytes that are equal for equal values, whatever the files store: what hashes of rows are taken of.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_schema::DataType;

use crate::source::{numbers, text_value};

/// A cell in canonical bytes: a type tag, and a value of fixed width or its length and bytes, so that neighbours cannot run
/// together.
pub(crate) fn push_cell(bytes: &mut Vec<u8>, cells: &dyn Array, i: usize) {
    let text = |bytes: &mut Vec<u8>, tag: u8, text: &str| {
        bytes.push(tag);
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    if cells.is_null(i) {
        return bytes.push(0);
    }
    match cells.data_type() {
        DataType::Int64 => {
            bytes.push(1);
            bytes.extend(cells.as_primitive::<Int64Type>().value(i).to_le_bytes());
        }
        DataType::Float64 => {
            let x = cells.as_primitive::<Float64Type>().value(i);
            let x = if x.is_nan() { f64::NAN } else { x + 0.0 };
            bytes.push(2);
            bytes.extend(x.to_bits().to_le_bytes());
        }
        DataType::UInt64 => match i64::try_from(cells.as_primitive::<UInt64Type>().value(i)) {
            Ok(x) => {
                bytes.push(1);
                bytes.extend(x.to_le_bytes());
            }
            Err(_) => text(bytes, 5, &text_value(cells, i).unwrap_or_default()),
        },
        // Few digits are a float, as they always were; more of them make two values of what would be one.
        DataType::Decimal128(..) | DataType::Decimal256(..) => {
            let digits = text_value(cells, i).unwrap_or_default();
            match digits.bytes().filter(u8::is_ascii_digit).count() {
                0..=15 => {
                    let x = numbers(&cells.slice(i, 1)).map_or(0.0, |x| x.value(0));
                    bytes.push(2);
                    bytes.extend((x + 0.0).to_bits().to_le_bytes());
                }
                _ => text(bytes, 5, &digits),
            }
        }
        DataType::List(_) => {
            let items = cells.as_list::<i32>().value(i);
            bytes.push(6);
            bytes.extend((items.len() as u64).to_le_bytes());
            (0..items.len()).for_each(|j| push_cell(bytes, &items, j));
        }
        DataType::Utf8 => text(bytes, 3, cells.as_string::<i32>().value(i)),
        DataType::Boolean => bytes.extend([4, cells.as_boolean().value(i) as u8]),
        _ => text(bytes, 5, &text_value(cells, i).unwrap_or_default()),
    }
}
