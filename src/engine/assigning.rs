//! Rows of files to assigned rows: read, made points, assigned. What that takes is plain data, and put together here alone, for
//! `plan`, `update`, `check` and [`Assigner`](crate::plan::Assigner), in this process and in others.

use serde::{Deserialize, Serialize};

use crate::features::{ENCODED_ROWS, Encoder, Features, InputReader, Inputs, PointsReader};
use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::modalities::model::{AssignedReader, ColumnIds, Strata};
use crate::modalities::{Assigned, Model};
use crate::parts::{Local, Part, Pass, rows_per_part};
use crate::source::{Dataset, Invalid, Selection};

/// How rows become points, and points belong somewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assigning {
    pub inputs: Inputs,
    /// Columns that the passes look at beside the features, those that decide where a row belongs among them.
    pub table: Vec<String>,
    pub features: Features,
    pub invalid: Invalid,
    pub model: Model,
    /// The column whose values are the modalities.
    pub modality: Option<ColumnIds>,
    pub strata: Strata,
    /// Rows come with hashes of their cells ([`PointsReader::with_contents`]).
    pub contents: bool,
}

/// The rows that are assigned.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub dataset: &'a Dataset,
    /// Of the column that is encoded, if one is.
    pub encoder: Option<&'a Encoder>,
    /// All others count as left out by the row filter.
    pub selection: &'a Selection,
    /// Rows, ascending, that were encoded before, with what became of them.
    pub known: Option<(&'a [u64], &'a Matrix)>,
}

impl Assigning {
    /// Rows of a part: a function of the data and the settings alone.
    pub fn step(&self) -> usize {
        match self.inputs.encode {
            Some(_) => ENCODED_ROWS,
            None => rows_per_part(self.features.dims()),
        }
    }

    /// Runs a pass over some parts on these threads; `keep` says which rows are not left out. The dataset need hold no other
    /// rows than those of the parts.
    #[expect(clippy::too_many_arguments, reason = "what differs between this process and a worker")]
    pub fn partial<P: Pass<Item = Assigned>>(
        &self,
        dataset: &Dataset,
        encoder: Option<&Encoder>,
        keep: &(dyn Fn(u64) -> bool + Sync),
        known: Option<(&[u64], &Matrix)>,
        pass: &P,
        parts: &[Part],
        local: &Local,
    ) -> Result<Option<P::Partial>> {
        let location = |row| dataset.describe_row(row);
        let progress = local.progress().clone();
        let mut inputs =
            InputReader::new(dataset, &self.inputs, self.table.clone(), encoder, keep, progress)?;
        if let Some((rows, embeddings)) = known {
            inputs = inputs.knowing(rows, embeddings);
        }
        let points = PointsReader::new(&self.features, inputs, self.invalid, keep, &location)
            .with_contents(self.contents.then_some(&self.inputs));
        let read = AssignedReader::new(points, &self.model, self.modality.clone(), self.strata.clone());
        local.partial("assign", &read, pass, parts)
    }
}
