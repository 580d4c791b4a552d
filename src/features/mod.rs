//! Columns to points: what a row looks like to the clustering. Learnt once on the sample, applied part by part, stored in
//! `features.arrow` so that new rows are mapped the same way.
//!
//! 1. [`Inputs::choose`] decides which columns make the point, from the schema alone.
//! 2. [`InputReader`] reads them, and has an [`Encoder`] turn one into vectors where the settings say so.
//! 3. [`Features::fit`] learns centres, scales and categories on the sample's raw rows.
//! 4. [`PointsReader`] maps every part of the dataset and says which rows are out of the plan, and why.
//!
//! Coordinates stand in the order of the chosen columns: a vector column has one for each of its numbers, a numeric
//! column one, a text or boolean column one for each learnt category and one for all others (or 32 hashed ones).

mod cells;
mod canonical;
mod encoder;
mod inputs;
mod reader;
mod scale;
mod transform;
mod points;

pub(crate) use canonical::push_cell;
pub(crate) use cells::{ascends, column, numbers};
pub use encoder::{Encoder, Pretrained};
pub use inputs::Inputs;
pub(crate) use inputs::listed;
pub use points::PointsReader;
pub use reader::{ENCODED_ROWS, InputReader};
pub use scale::Operation;
pub(crate) use scale::{quantile, quantile_of};
pub use transform::{FeatureRow, Features};

use arrow_array::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kit::matrix::Matrix;
use crate::source::{Bad, Element};

/// Which columns make a row's point, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Vector, numeric, boolean or text columns. Empty: the one vector column of floating point numbers, else the one of
    /// whole numbers (of fixed length), else all numeric columns; never those with another role, an index or a key of folders.
    pub columns: Vec<String>,
    /// What the bytes of FixedSizeBinary columns are that do not say it themselves: little-endian numbers of this kind. None:
    /// such columns are no vectors.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub bytes_as: Option<Element>,
    /// What is done to the numbers.
    pub transform: Transform,
    /// What is done to text and boolean columns.
    pub categories: Categories,
    /// Column that an encoder turns into a vector, one of `columns` (alone if those are empty).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encode: Option<String>,
    /// The encoder: `NAME@BLAKE3` of its files. Another one is refused; none: the one that `run.encoder` names, which a
    /// plan then has here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// Tokens that a text is cut at, special ones included. None: as the encoder's files say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seq_length: Option<u32>,
}

/// What is done to the numbers of vector and numeric columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// A vector column as it is; numeric columns standardised (their units differ).
    #[default]
    None,
    /// Vector columns scaled to Euclidean length 1; numeric columns standardised.
    Unit,
    /// Every number: minus the sample mean, over the sample standard deviation.
    Standard,
    /// Every number: minus the sample median, over the sample interquartile range.
    Robust,
}

/// What is done to text and boolean columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Categories {
    /// One coordinate for each of the up to 64 most frequent sampled values, one for all others.
    #[default]
    OneHot,
    /// 32 coordinates; a value adds +1 or -1 to one of them (Weinberger et al. 2009).
    Hash,
}

/// The state of one row of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// In the plan.
    #[default]
    Planned,
    /// Left out by `--where`.
    Filtered,
    /// Left out by `--invalid drop`.
    Invalid,
}

/// The points of a part. Rows that are not [`State::Planned`] are all zeros in `points`.
#[derive(Clone, Debug, Default)]
pub struct Points {
    /// Global row numbers, ascending.
    pub rows: Vec<u64>,
    pub points: Matrix,
    pub state: Vec<State>,
    /// Hashes of the feature cells as they lie in the dataset, where they were asked for
    /// ([`PointsReader::with_contents`]).
    pub contents: Vec<[u8; 16]>,
    /// Why rows are [`State::Invalid`], ascending.
    pub bad: Vec<Bad>,
    /// The columns beside the features that the passes want (label, id, profile, strata); None if none.
    pub table: Option<RecordBatch>,
}
