//! What the numbers of a vector column are stored as.

use arrow_schema::{DataType, Field};
use parquet::basic::LogicalType;

use super::opened::Opened;

/// Field metadata that names what a FixedSizeBinary vector is made of.
const ELEMENT: &str = "batchwright.element";
/// What the numbers of a vector column are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    F32,
    F64,
}

impl Element {
    /// Bytes of one number.
    pub fn width(self) -> usize {
        match self {
            Element::F16 => 2,
            Element::F32 => 4,
            Element::F64 => 8,
        }
    }

    pub fn of(data_type: &DataType) -> Option<Element> {
        match data_type {
            DataType::Float16 => Some(Element::F16),
            DataType::Float32 => Some(Element::F32),
            DataType::Float64 => Some(Element::F64),
            _ => None,
        }
    }
}

/// What the numbers of a vector field are stored as.
pub(crate) fn element(file: &Opened, field: &Field) -> Option<Element> {
    match field.data_type() {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => {
            Element::of(item.data_type())
        }
        DataType::FixedSizeBinary(_) => binary_element(file, field),
        _ => None,
    }
}

pub(crate) fn binary_element(file: &Opened, field: &Field) -> Option<Element> {
    let DataType::FixedSizeBinary(width) = field.data_type() else { return None };
    let root = file.root(field.name())?;
    let leaf = file.leaves(root).next()?;
    if file.metadata.parquet_schema().column(leaf).logical_type_ref() == Some(&LogicalType::Uuid) {
        return None;
    }
    let element = match field.metadata().get(ELEMENT).map(String::as_str) {
        Some("f16") => Element::F16,
        Some("f64") => Element::F64,
        Some("f32") | None => Element::F32,
        Some(_) => return None,
    };
    (*width > 0 && (*width as usize).is_multiple_of(element.width())).then_some(element)
}
