//! Whole rows as the files store them: columns of any type, nothing converted. What `materialize` copies.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, FieldRef, Schema, SchemaRef};

use super::Origin;
use super::columns::constant;
use super::dataset::Dataset;
use crate::kit::error::{Error, Result};

/// Columns of a dataset in the types that all its files store; keys of folders are columns, too.
#[derive(Debug)]
pub struct Stored {
    dataset: Dataset,
    schema: SchemaRef,
    metadata: HashMap<String, String>,
}

impl Dataset {
    /// The columns `names` as they are stored, in that order; all of them if none is named. From the footers.
    ///
    /// # Errors
    /// If a column is not there, or if two files store it in different types: nothing is converted.
    pub fn stored(&self, names: &[String]) -> Result<Stored> {
        let every: Vec<String> = self.columns().iter().map(|column| column.name.clone()).collect();
        let names = if names.is_empty() { &every } else { names };
        let fields = names.iter().map(|name| self.stored_field(name)).collect::<Result<Vec<_>>>()?;
        let first = self.row_groups().iter().find(|group| group.rows > 0).map_or(0, |group| group.file);
        let pairs = self.opened(first).metadata.metadata().file_metadata().key_value_metadata();
        let pairs = pairs.into_iter().flatten();
        let metadata = pairs.filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?))).collect();
        Ok(Stored { dataset: self.clone(), schema: Arc::new(Schema::new(fields)), metadata })
    }

    fn stored_field(&self, name: &str) -> Result<FieldRef> {
        let column = self.column(name, "columns")?;
        if column.differs.is_none() || column.origin == Origin::Key {
            column.agreed()?;
            // Of INT96 this decides, once for all files, what they are read as.
            let read_as = self.read_as(name)?;
            if column.origin == Origin::Key {
                return Ok(Arc::new(Field::new(name, read_as.table, true)));
            }
        }
        let mut found: Option<(FieldRef, usize)> = None;
        for group in self.row_groups().iter().filter(|group| group.rows > 0) {
            let file = self.opened_for_tables(group.file);
            let Some(root) = file.root(name) else {
                column.agreed()?;
                continue;
            };
            let fields = file.metadata.schema().fields();
            if fields.iter().filter(|field| field.name() == name).count() > 1 {
                column.agreed()?;
            }
            let field = &fields[root];
            match &mut found {
                None => found = Some((field.clone(), group.file)),
                Some((first, _)) if first.data_type() == field.data_type() => {
                    if field.is_nullable() && !first.is_nullable() {
                        *first = Arc::new(first.as_ref().clone().with_nullable(true));
                    }
                }
                Some((first, other)) => {
                    let reason = format!(
                        "is stored as {} and in {} as {}: a copy keeps types as they are",
                        field.data_type(),
                        self.files()[*other].path,
                        first.data_type()
                    );
                    let help = "write the files in one type, or leave the column out with --columns";
                    return Err(Error::input(&self.files()[group.file].path, reason, help).column(name));
                }
            }
        }
        Ok(found.expect("a column is in some file with rows").0)
    }
}

impl Stored {
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What the first file with rows says of itself, by key (pandas' notes among it).
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    pub fn names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Bytes of a row, decoded: see [`Dataset::decoded_row_bytes`].
    pub fn row_bytes(&self) -> Result<u64> {
        Ok(self.dataset.decoded_row_bytes(&self.names())?.max(1))
    }

    /// The rows of a row group (by its place in [`Dataset::row_groups`]) in order, at most `at_once` at a time. O(rows).
    pub fn read(
        &self,
        group: usize,
        at_once: usize,
        mut each: impl FnMut(u64, RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let place = &self.dataset.row_groups()[group];
        let file = self.dataset.opened_for_tables(place.file);
        let mut roots: Vec<usize> = self.schema.fields().iter().filter_map(|f| file.root(f.name())).collect();
        roots.sort_unstable();
        roots.dedup();
        let reader = file.blob.open()?;
        let mut done = 0;
        for batch in file.batches(&reader, place.row_group, &roots, None, at_once)? {
            let batch = batch?;
            let column = |field: &FieldRef| -> ArrayRef {
                match batch.column_by_name(field.name()) {
                    Some(column) => column.clone(),
                    None => {
                        let value = file.partition(field.name()).flatten();
                        constant(value, field.data_type(), batch.num_rows())
                    }
                }
            };
            let columns = self.schema.fields().iter().map(column).collect();
            let rows = batch.num_rows() as u64;
            let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(|e| {
                Error::input(&file.blob.name, format!("cannot be copied: {e}"), "write it again")
            })?;
            each(place.first_row + done, batch)?;
            done += rows;
        }
        if done != place.rows {
            let reason = format!("holds {done} of {} rows that its footer promises", place.rows);
            return Err(Error::input(&file.blob.name, reason, "the file is damaged: write it again"));
        }
        Ok(())
    }
}
