//! What reading a unit of rows takes: how large decoded rows are, and where it can begin.

use std::cmp::Reverse;

use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

use super::RowGroup;
use super::dataset::Dataset;
use crate::kit::error::{Error, Result};

/// Row groups, evenly over the dataset, of which rows are measured, and rows of each.
const GROUPS: usize = 16;
const ROWS: usize = 512;

impl Dataset {
    /// Bytes of a decoded row of these columns: the width of types that have one, else the average of some rows in the middle
    /// of a row group, of the row group where it is most. Footers do not tell it, for they count what a dictionary or an
    /// encoding has left. Reads pages of up to 16 row groups of columns without a fixed width.
    pub fn decoded_row_bytes(&self, columns: &[String]) -> Result<u64> {
        let mut sum = 0.0;
        for column in columns {
            let mut most = 0.0f64;
            for group in self.spread() {
                most = most.max(self.decoded_cell_bytes(column, group)?);
            }
            sum += most;
        }
        Ok(sum.ceil() as u64)
    }

    fn spread(&self) -> Vec<&RowGroup> {
        let groups: Vec<&RowGroup> = self.row_groups().iter().filter(|group| group.rows > 0).collect();
        let some = groups.len().min(GROUPS);
        (0..some).map(|i| groups[(2 * i + 1) * groups.len() / (2 * some)]).collect()
    }

    fn decoded_cell_bytes(&self, column: &str, group: &RowGroup) -> Result<f64> {
        let file = self.opened(group.file);
        // The key of a partition is in no page.
        let Some(root) = file.root(column) else { return Ok(0.0) };
        if let Some(width) = fixed_width(file.metadata.schema().field(root).data_type()) {
            return Ok(width);
        }
        let rows = ROWS.min(group.rows as usize);
        let before = (group.rows as usize - rows) / 2;
        let middle = RowSelection::from(vec![RowSelector::skip(before), RowSelector::select(rows)]);
        let mut bytes = 0;
        for batch in file.batches(&file.blob.open()?, group.row_group, &[root], Some(middle), rows)? {
            for array in batch?.columns() {
                let plain = plain(array).map_err(|e| {
                    Error::input(&file.blob.name, format!("cannot be decoded: {e}"), "leave it out of --read")
                        .column(column)
                })?;
                bytes += plain.to_data().get_slice_memory_size().unwrap_or(0);
            }
        }
        Ok(bytes as f64 / rows as f64)
    }

    /// Rows at which pages of the column that takes most bytes begin, ascending: where cutting a row group costs nothing. Of
    /// row groups that do not say where theirs begin: every `otherwise` rows.
    pub fn page_starts(&self, columns: &[String], otherwise: u64) -> Result<Vec<u64>> {
        let largest =
            columns.iter().max_by_key(|column| (self.bytes(std::slice::from_ref(column)), Reverse(*column)));
        let mut starts = Vec::new();
        for group in self.row_groups() {
            let file = self.opened(group.file);
            let chunks = file.metadata.metadata().row_group(group.row_group);
            let root = largest.and_then(|column| file.root(column));
            let leaves = root.into_iter().flat_map(|root| file.leaves(root));
            let leaf = leaves.max_by_key(|&leaf| (chunks.column(leaf).byte_range().1, Reverse(leaf)));
            let listed =
                leaf.map(|leaf| file.index(&file.blob.open()?, group.row_group, leaf)).transpose()?;
            match listed.flatten() {
                Some(pages) => starts.extend(pages.iter().map(|page| group.first_row + page.first_row)),
                None => starts
                    .extend((0..group.rows).step_by(otherwise as usize).map(|row| group.first_row + row)),
            }
        }
        Ok(starts)
    }
}

/// Bytes of a cell, where all cells have as many.
fn fixed_width(of: &DataType) -> Option<f64> {
    match of {
        DataType::Boolean => Some(0.125),
        DataType::Null => Some(0.0),
        DataType::FixedSizeBinary(n) => Some(f64::from(*n)),
        DataType::FixedSizeList(item, n) => Some(f64::from(*n) * fixed_width(item.data_type())?),
        other => other.primitive_width().map(|width| width as f64),
    }
}

/// The values of a dictionary in the place of its keys.
fn plain(array: &ArrayRef) -> std::result::Result<ArrayRef, arrow_schema::ArrowError> {
    match array.data_type() {
        DataType::Dictionary(_, values) => arrow_cast::cast(array, values),
        _ => Ok(array.clone()),
    }
}
