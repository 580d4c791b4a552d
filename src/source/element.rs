//! What the numbers of a vector column are stored as.

use arrow_schema::{DataType, Field};
use parquet::basic::LogicalType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::opened::Opened;

/// Field metadata that names what a FixedSizeBinary vector is made of.
const ELEMENT: &str = "batchwright.element";
/// Field metadata of Arrow's extension types, and the one that is a vector or a longer tensor.
const EXTENSION: [&str; 2] = ["ARROW:extension:name", "ARROW:extension:metadata"];
const TENSOR: &str = "arrow.fixed_shape_tensor";

/// What floating point numbers of a vector column are stored as; those in bytes are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    F16,
    F32,
    F64,
}

impl Element {
    pub const ALL: [Element; 3] = [Element::F16, Element::F32, Element::F64];

    pub fn name(self) -> &'static str {
        match self {
            Element::F16 => "f16",
            Element::F32 => "f32",
            Element::F64 => "f64",
        }
    }

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

/// What the numbers of a vector field are stored as; None: whole numbers or truth values. `bytes_as` is for bytes that do
/// not say it themselves.
pub(crate) fn element(file: &Opened, field: &Field, bytes_as: Option<Element>) -> Option<Element> {
    match field.data_type() {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => {
            Element::of(item.data_type())
        }
        DataType::FixedSizeBinary(width) => binary_element(file, field, *width as usize, bytes_as),
        _ => None,
    }
}

/// Whether a field of 16 bytes is a UUID.
pub(crate) fn is_uuid(file: &Opened, field: &Field) -> bool {
    let leaf = file.root(field.name()).and_then(|root| file.leaves(root).next());
    let logical = leaf.map(|leaf| file.metadata.parquet_schema().column(leaf));
    field.data_type() == &DataType::FixedSizeBinary(16)
        && logical.is_some_and(|column| column.logical_type_ref() == Some(&LogicalType::Uuid))
}

fn binary_element(file: &Opened, field: &Field, width: usize, bytes_as: Option<Element>) -> Option<Element> {
    if is_uuid(file, field) {
        return None;
    }
    let element = match field.metadata().get(ELEMENT) {
        Some(name) => Element::ALL.into_iter().find(|e| e.name() == name)?,
        None => tensor_element(field, width).or(bytes_as)?,
    };
    (width > 0 && width.is_multiple_of(element.width())).then_some(element)
}

/// A tensor says how many numbers it has, so how many bytes each of them takes.
fn tensor_element(field: &Field, width: usize) -> Option<Element> {
    let [name, metadata] = EXTENSION.map(|key| field.metadata().get(key));
    name.filter(|name| *name == TENSOR)?;
    let metadata: serde_json::Value = serde_json::from_str(metadata?).ok()?;
    let shape: Vec<u64> = metadata["shape"].as_array()?.iter().map(|n| n.as_u64()).collect::<Option<_>>()?;
    let numbers = shape.into_iter().try_fold(1u64, u64::checked_mul)?;
    Element::ALL.into_iter().find(|e| numbers.checked_mul(e.width() as u64) == Some(width as u64))
}
