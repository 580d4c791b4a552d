//! The language in which the tables of a plan are described, once, as constants.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};

use crate::kit::ids::RowType;

use super::{BASE, Metadata};

/// How many numbers a fixed-size list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Dimensions of the feature space (`dims` in plan.json).
    Dims,
    /// Dimensions of the projected space, p.
    Projected,
    /// Random features, R.
    Random,
    /// Known to everyone.
    Exactly(usize),
}

/// Column types of the format; nothing else occurs in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    U16,
    U32,
    U64,
    I32,
    F32,
    F64,
    Boolean,
    Text,
    /// FixedSizeBinary.
    Bytes(usize),
    /// A row number: UInt32 or UInt64, see `row_type` in plan.json.
    Row,
    /// List of row numbers.
    Rows,
    /// List of Float32.
    F32List,
    /// List of Float64.
    F64List,
    /// List of UInt32.
    U32List,
    /// List of UInt64.
    U64List,
    /// FixedSizeList of Float32.
    F32s(Width),
    /// FixedSizeList of Float64.
    F64s(Width),
}

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub ty: Type,
    pub nullable: bool,
    /// A file may leave the column out.
    pub optional: bool,
    pub meaning: &'static str,
    pub unit: &'static str,
    pub range: &'static str,
}

impl Column {
    pub const fn new(
        name: &'static str,
        ty: Type,
        meaning: &'static str,
        unit: &'static str,
        range: &'static str,
    ) -> Self {
        Column { name, ty, nullable: false, optional: false, meaning, unit, range }
    }

    pub const fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

/// One table of the format.
#[derive(Clone, Copy, Debug)]
pub struct Contract {
    pub name: &'static str,
    pub path: &'static str,
    /// "one row per ..."
    pub one_row_per: &'static str,
    /// When a plan has no such file; empty: it always has one.
    pub absent: &'static str,
    pub columns: &'static [Column],
    /// Keys in the schema metadata and their meaning.
    pub metadata: &'static [(&'static str, &'static str)],
}

/// The numbers that the symbolic types stand for in one plan. Fill in what the table at hand uses.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub row: RowType,
    pub dims: usize,
    pub projected: usize,
    pub random: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { row: RowType::U32, dims: 0, projected: 0, random: 0 }
    }
}

impl Shape {
    fn width(&self, width: Width) -> usize {
        match width {
            Width::Dims => self.dims,
            Width::Projected => self.projected,
            Width::Random => self.random,
            Width::Exactly(n) => n,
        }
    }
}

/// The element of every list: never null.
pub(super) fn item(ty: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", ty, false))
}

fn row_type(row: RowType) -> DataType {
    match row {
        RowType::U32 => DataType::UInt32,
        RowType::U64 => DataType::UInt64,
    }
}

impl Type {
    pub fn arrow(self, shape: &Shape) -> DataType {
        let fixed = |ty, w| DataType::FixedSizeList(item(ty), shape.width(w) as i32);
        match self {
            Type::U16 => DataType::UInt16,
            Type::U32 => DataType::UInt32,
            Type::U64 => DataType::UInt64,
            Type::I32 => DataType::Int32,
            Type::F32 => DataType::Float32,
            Type::F64 => DataType::Float64,
            Type::Boolean => DataType::Boolean,
            Type::Text => DataType::Utf8,
            Type::Bytes(n) => DataType::FixedSizeBinary(n as i32),
            Type::Row => row_type(shape.row),
            Type::Rows => DataType::List(item(row_type(shape.row))),
            Type::F32List => DataType::List(item(DataType::Float32)),
            Type::F64List => DataType::List(item(DataType::Float64)),
            Type::U32List => DataType::List(item(DataType::UInt32)),
            Type::U64List => DataType::List(item(DataType::UInt64)),
            Type::F32s(w) => fixed(DataType::Float32, w),
            Type::F64s(w) => fixed(DataType::Float64, w),
        }
    }

    /// Does a column of a file have this type? Widths that only plan.json knows are free here.
    pub fn accepts(self, found: &DataType) -> bool {
        let rows = |t: &DataType| matches!(t, DataType::UInt32 | DataType::UInt64);
        let fixed = |want: DataType, w: Width| match found {
            DataType::FixedSizeList(f, n) => {
                *f.data_type() == want
                    && !f.is_nullable()
                    && *n >= 0
                    && !matches!(w, Width::Exactly(k) if k as i32 != *n)
            }
            _ => false,
        };
        let list =
            |want: DataType| matches!(found, DataType::List(f) if *f.data_type() == want && !f.is_nullable());
        match self {
            Type::Row => rows(found),
            Type::Rows => matches!(found, DataType::List(f) if rows(f.data_type()) && !f.is_nullable()),
            Type::F32List => list(DataType::Float32),
            Type::F64List => list(DataType::Float64),
            Type::U32List => list(DataType::UInt32),
            Type::U64List => list(DataType::UInt64),
            Type::F32s(w) => fixed(DataType::Float32, w),
            Type::F64s(w) => fixed(DataType::Float64, w),
            plain => *found == plain.arrow(&Shape::default()),
        }
    }

    /// As it stands in the documentation: `FixedSizeList<Float32, dims>`.
    pub fn text(self) -> String {
        let width = |w| match w {
            Width::Dims => "dims".to_string(),
            Width::Projected => "p".to_string(),
            Width::Random => "R".to_string(),
            Width::Exactly(n) => n.to_string(),
        };
        match self {
            Type::Bytes(n) => format!("FixedSizeBinary({n})"),
            Type::Row => "<row>".to_string(),
            Type::Rows => "List<<row>>".to_string(),
            Type::F32List => "List<Float32>".to_string(),
            Type::F64List => "List<Float64>".to_string(),
            Type::U32List => "List<UInt32>".to_string(),
            Type::U64List => "List<UInt64>".to_string(),
            Type::F32s(w) => format!("FixedSizeList<Float32, {}>", width(w)),
            Type::F64s(w) => format!("FixedSizeList<Float64, {}>", width(w)),
            plain => plain.arrow(&Shape::default()).to_string(),
        }
    }
}

impl Contract {
    /// The Arrow schema; `with` names the optional columns that this file has.
    pub fn schema(&self, shape: &Shape, with: &[&str], metadata: Metadata) -> Schema {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .filter(|c| !c.optional || with.contains(&c.name))
            .map(|c| Field::new(c.name, c.ty.arrow(shape), c.nullable))
            .collect();
        let mut all = metadata;
        all.insert("batchwright.format".into(), BASE.into());
        all.insert("batchwright.kind".into(), self.name.into());
        Schema::new_with_metadata(fields, all)
    }

    /// Err(reason) if a file with this schema cannot be read as this table. More columns than known are fine: a later
    /// minor version may add some.
    pub fn check(&self, schema: &Schema) -> Result<(), String> {
        for column in self.columns {
            let Some((_, field)) = schema.column_with_name(column.name) else {
                if column.optional {
                    continue;
                }
                return Err(format!("column `{}` is missing", column.name));
            };
            if !column.ty.accepts(field.data_type()) {
                return Err(format!(
                    "column `{}` is {}, not {}",
                    column.name,
                    field.data_type(),
                    column.ty.text()
                ));
            }
            if field.is_nullable() && !column.nullable {
                return Err(format!("column `{}` must not be nullable", column.name));
            }
        }
        Ok(())
    }
}
