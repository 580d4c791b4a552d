//! Parquet in: which files and row groups make the dataset, and the columns of any range of its rows.
//!
//! [`Dataset::open`] reads footers and numbers the rows. [`Columns`] reads any rows of any columns: by parts
//! ([`Read`](crate::parts::Read)) or chosen ones ([`Columns::gather`]). [`sample_pass`] does the latter together with the
//! fingerprints of all row groups. [`Dataset::select`] turns an SQL condition into a [`Selection`] of rows, and
//! [`Dataset::values`] lists what a column holds. Below them, `files` finds the files (`folder` on this machine, `cloud` in
//! object stores, by the names in `listing`), `blob` reads bytes, and `pages` decodes vectors straight from the pages. The dataset is never in memory as a whole.

mod thrift;
mod footer;
mod index;
mod header;
mod walk;
mod codec;
mod hybrid;
mod delta;
mod selection;
mod listing;
mod pattern;
mod folder;
#[cfg(feature = "cloud")]
mod cloud;
mod blob;
mod chunk;
mod files;
mod magic;
mod opened;
mod element;
mod schema;
mod pages;
mod dataset;
mod description;
mod columns;
mod values;
mod filter;
mod extents;
mod decoded;
mod types;
mod stored;
mod arrays;
mod fingerprint;

pub use arrays::{ArrayColumn, Arrays, Form, Gap, Sink};
pub use columns::Columns;
#[doc(hidden)]
pub use columns::Way;
pub use dataset::{Dataset, Location};
pub use description::Description;
pub use element::Element;
pub use extents::Extent;
pub use files::local_files;
pub use fingerprint::sample_pass;
pub use pattern::matches_path;
pub use selection::Selection;
pub use stored::Stored;
pub use values::{Names, Naming, numbers, text_value};

use std::ops::Range;

use arrow_array::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::kit::text;

/// Column names listed in an error message.
const LISTED: usize = 50;

/// What of the dataset is read beside the features.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Column that names a row for people; shown in the report and returned by `ids()`.
    pub id: Option<String>,
    /// Class column (integer, text or boolean). Used for the predicted gain, never for clustering.
    pub label: Option<String>,
    /// SQL condition over the other columns; rows where it is not true are left out of the plan.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// What to do with rows whose features are null, NaN, infinite or of the wrong length.
    pub invalid: Invalid,
}

/// What to do with unusable rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Invalid {
    /// Stop with an error that names the first one.
    #[default]
    Error,
    /// Leave them out of the plan; they keep their row numbers and have null modality.
    Drop,
}

/// What a column can be used for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// List or FixedSizeList of numbers or truth values, FixedSizeBinary of f16, f32 or f64: `dims` numbers a row.
    Vector {
        dims: usize,
    },
    /// Any integer type, dates, times and durations included.
    Integer,
    /// f16, f32, f64, decimal.
    Float,
    Boolean,
    /// Utf8, LargeUtf8, dictionary of them; UUIDs.
    Text,
    /// List of text: the labels of a row.
    Labels,
    /// Anything else, or another type in another file: never read.
    Other,
}

impl Kind {
    /// One plain value a row: a number, a truth value, a text.
    pub fn is_plain(&self) -> bool {
        matches!(self, Kind::Integer | Kind::Float | Kind::Boolean | Kind::Text)
    }
}

/// One column of the dataset's schema, or one key of its hive partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
    /// The type in the first file that has it, for people.
    pub stored: String,
    pub origin: Origin,
    /// Why the column cannot be used though some files have it; its kind is [`Kind::Other`] then.
    pub differs: Option<Differs>,
}

/// Where a column's values come from, as far as it matters for what the column is used for by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Nothing speaks against using it.
    Data,
    /// Dates, timestamps, times of day.
    Time,
    /// Whole numbers or truth values in a vector; not `fixed`: of any length, as those of a text's tokens.
    WholeVector { fixed: bool },
    /// UUIDs.
    Id,
    /// The index of a pandas frame.
    Index,
    /// `key=value` in the names of the folders.
    Key,
}

/// How files disagree about a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differs {
    /// What the column is in one of the files, the best for a feature.
    pub kind: Kind,
    /// The first file that has it otherwise, or not at all.
    pub file: String,
    /// "is missing, but a.parquet has it"
    pub reason: String,
}

impl Column {
    pub fn new(name: impl Into<String>, kind: Kind) -> Column {
        Column { name: name.into(), kind, stored: String::new(), origin: Origin::Data, differs: None }
    }

    /// The column `name` of these; `role` is the setting that asked for it, for the message, which names the column most like
    /// it when there is none. Err as well if files disagree about it.
    pub fn named<'a>(columns: &'a [Column], name: &str, role: &str) -> Result<&'a Column> {
        let names = || columns.iter().map(|c| c.name.as_str());
        let Some(column) = columns.iter().find(|c| c.name == name) else {
            let near = text::nearest(name, names());
            let hint = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
            let more = if columns.len() > LISTED { ", ..." } else { "" };
            let listed: Vec<&str> = names().take(LISTED).collect();
            let help = format!("{hint}the columns are {}{more}", listed.join(", "));
            return Err(Error::config(role, format!("there is no column `{name}`"), help));
        };
        column.agreed()?;
        Ok(column)
    }

    /// Err if files disagree about the column.
    pub fn agreed(&self) -> Result<()> {
        let Some(Differs { file, reason, .. }) = &self.differs else { return Ok(()) };
        let help = "rewrite it, leave out the files that differ, or choose columns that all files have alike \
                    (of features with --features)";
        Err(Error::input(file, reason, help).column(&self.name))
    }
}

/// One Parquet file. `path` is relative to the deepest common directory of all inputs, with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
}

/// One row group; `first_row` is a global row number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowGroup {
    pub file: usize,
    pub row_group: usize,
    pub first_row: u64,
    pub rows: u64,
}

/// Rows as they lie in the files: the item of [`Columns`](crate::source). Vector columns are `f32` matrices (f64 is
/// rounded, f16 widened), all other columns one record batch.
#[derive(Clone, Debug, Default)]
pub struct RawRows {
    /// Global row numbers, ascending.
    pub rows: Vec<u64>,
    /// One matrix per requested vector column, in request order; a bad row is all zeros.
    pub vectors: Vec<Matrix>,
    /// The requested other columns, in request order; None if none was asked for.
    pub table: Option<RecordBatch>,
    /// Rows with an unusable vector, ascending by `index`, at most one entry a row.
    pub bad: Vec<Bad>,
}

/// Why a row cannot be used: `index` is its place in [`RawRows::rows`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    pub index: usize,
    pub column: String,
    /// "is null", "has 383 numbers, not 384", "has NaN at place 7", ...
    pub reason: String,
}

impl Bad {
    /// The reason without the place, by which rows are counted.
    pub fn kind(&self) -> &str {
        self.reason.split(" at place ").next().unwrap_or(&self.reason)
    }
}

/// Rows `range` as a set of places, used all over this module.
pub(crate) fn width(range: &Range<u64>) -> usize {
    (range.end - range.start) as usize
}
