//! The splits of a plan as a Parquet file, for joins: what names a row, its number, its split and its group.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use serde::Serialize;

use crate::config::Run;
use crate::kit::error::{Error, Result};
use crate::kit::output::{Output, Replace};
use crate::kit::progress::Progress;
use crate::parts::{Read, parts};
use crate::pipeline::synth::system_said;
use crate::plan::Plan;
use crate::source::{Columns, RawRows, local_files};

/// What was written.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Exported {
    pub rows: u64,
    /// (name, rows) of every split, in order.
    pub splits: Vec<(String, u64)>,
    /// The column that names rows; None: the plan knows none.
    pub id: Option<String>,
    pub bytes: u64,
}

/// Writes a row of `[id,] row, split, group` for every row of the dataset to `out`, in row order. One read of the column that names
/// rows, if there is one. O(rows); memory: a part.
///
/// # Errors
/// If the plan has no splits, or was made from other data.
pub fn splits(dir: &Path, inputs: &[String], out: &Path, run: &Run, progress: &Progress) -> Result<Exported> {
    let output = Output::file(
        "--out",
        out,
        if run.force { Replace::Any { own: &|_| false } } else { Replace::Nothing },
        &local_files(inputs)?,
    )?;
    run.scope(progress, |_| {
        let plan = Plan::open(dir)?;
        let names = plan.split_names()?;
        if names.is_empty() {
            let help = "plan with --split train=0.8,test=0.2, or --folds 5";
            return Err(Error::config("PLAN", "has no splits", help));
        }
        let id = plan.config()?.source.id;
        let dataset = plan.open_dataset(inputs, run.memory, progress)?;
        plan.check_dataset(&dataset, false)?;
        let reader = Columns::new(&dataset, vec![], id.iter().cloned().collect())?;
        let (stored, held) = (plan.splits()?, plan.held_out()?);
        let samples = plan.samples()?;
        let place = |row: u64| match stored {
            Some(splits) => splits.split(row).map(usize::from),
            None if samples.modality(row) != crate::kit::ids::NONE => Some(0),
            None => held.binary_search_by_key(&row, |h| h.row).ok().map(|_| 1),
        };
        let failed = |e: ParquetError| Error::io("write", out)(system_said(e));
        let mut writer: Option<ArrowWriter<File>> = None;
        let stage = progress.stage("splits", "rows", dataset.rows());
        let mut raw = RawRows::default();
        for part in parts(dataset.rows(), 8) {
            let mut columns: Vec<(String, ArrayRef)> = Vec::new();
            if let Some(name) = &id {
                reader.read(&part, &mut raw)?;
                let cells = raw.table.as_ref().expect("one column was asked for").column(0);
                columns.push((if name == "row" { "id".into() } else { name.clone() }, cells.clone()));
            }
            let named: StringArray =
                part.range().map(|row| place(row).map(|s| names[s].0.as_str())).collect();
            let group: UInt64Array = part.range().map(|row| stored.and_then(|s| s.group(row))).collect();
            columns.push(("row".into(), Arc::new(UInt64Array::from_iter_values(part.range()))));
            columns.push(("split".into(), Arc::new(named)));
            columns.push(("group".into(), Arc::new(group)));
            let nullable = |name: &str| name != "row";
            let fields: Vec<Field> =
                columns.iter().map(|(n, c)| Field::new(n, c.data_type().clone(), nullable(n))).collect();
            let schema = Arc::new(Schema::new(fields));
            let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|c| c.1).collect());
            let batch = batch.expect("columns of one length");
            if writer.is_none() {
                let file = File::create(output.path()).map_err(Error::io("create", output.path()))?;
                writer = Some(ArrowWriter::try_new(file, schema, None).map_err(failed)?);
            }
            writer.as_mut().expect("it was made").write(&batch).map_err(failed)?;
            stage.advance(part.rows as u64)?;
        }
        drop(stage);
        writer.expect("a plan has rows").close().map_err(failed)?;
        let bytes = std::fs::metadata(output.path()).map_err(Error::io("read", output.path()))?.len();
        output.commit()?;
        let splits = names.into_iter().map(|(name, _, rows)| (name, rows)).collect();
        Ok(Exported { rows: dataset.rows(), splits, id, bytes })
    })
}
