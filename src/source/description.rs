//! A dataset as plain data, by which another process opens those of its files that it reads, and knows that they are still the
//! same: by length and footer, never by a time that another machine's clock has given.

use std::io::Cursor;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Inner};
use super::element::Element;
use super::files::{self, Found};
use super::opened::{Opened, open};
use super::schema::ReadAs;
use super::{Column, File, RowGroup};
use crate::kit::error::{Error, Result};

/// Everything that [`Dataset::open`] has found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    files: Vec<Described>,
    row_groups: Vec<RowGroup>,
    rows: u64,
    columns: Vec<Column>,
    types: Types,
    bytes_as: Option<Element>,
    microseconds: bool,
    limit: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Described {
    /// As the user would name it.
    name: String,
    /// Absolute path or URL.
    at: String,
    path: String,
    partition: Vec<(String, Option<String>)>,
    rows: u64,
    length: u64,
    /// BLAKE3 (hex) of the footer.
    footer: String,
}

/// What columns are read as: Arrow types as Arrow writes them.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Types {
    schema: Vec<u8>,
    int96: Vec<bool>,
}

impl Types {
    fn of(types: &[ReadAs]) -> std::result::Result<Types, ArrowError> {
        let fields = types.iter().flat_map(|t| [&t.table, &t.through]);
        let fields: Fields = fields.map(|t| Field::new("", t.clone(), true)).collect();
        let mut schema = Vec::new();
        StreamWriter::try_new(&mut schema, &Schema::new(fields))?.finish()?;
        Ok(Types { schema, int96: types.iter().map(|t| t.int96).collect() })
    }

    fn read(&self) -> std::result::Result<Vec<ReadAs>, ArrowError> {
        let schema = StreamReader::try_new(Cursor::new(&self.schema), None)?.schema();
        let types: Vec<DataType> = schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let read_as = |(pair, &int96): (&[DataType], &bool)| ReadAs {
            table: pair[0].clone(),
            through: pair[1].clone(),
            int96,
        };
        Ok(types.chunks_exact(2).zip(&self.int96).map(read_as).collect())
    }
}

fn types(cause: ArrowError) -> Error {
    Error::input(
        "dataset",
        "has a column type that cannot be sent to other processes",
        "run without --engine",
    )
    .because(cause)
}

impl Dataset {
    /// What another process needs to read these columns. Reads the footers once more.
    pub fn describe(&self, table: &[String]) -> Result<Description> {
        // What INT96 is read as is decided by the values of all files.
        for name in table {
            self.read_as(name)?;
        }
        let inner = self.inner();
        let states = self.file_states()?;
        let described = |((file, opened), state): ((&File, &Opened), crate::format::manifest::FileState)| {
            Ok(Described {
                name: opened.blob.name.clone(),
                at: files::whole_name(&opened.blob.name)?,
                path: file.path.clone(),
                partition: opened.partition.clone(),
                rows: file.rows,
                length: opened.blob.length,
                footer: state.footer,
            })
        };
        Ok(Description {
            files: (inner.files.iter().zip(&*inner.opened).zip(states))
                .map(described)
                .collect::<Result<_>>()?,
            row_groups: inner.row_groups.clone(),
            rows: inner.rows,
            columns: inner.columns.clone(),
            types: Types::of(&inner.types).map_err(types)?,
            bytes_as: inner.bytes_as,
            microseconds: inner.microseconds.get().is_some_and(Option::is_some),
            limit: self.limit(),
        })
    }
}

impl Description {
    /// The row groups that hold rows of `range`, and those between them.
    pub fn groups(&self, range: &Range<u64>) -> Range<usize> {
        let first = self.row_groups.partition_point(|group| group.first_row + group.rows <= range.start);
        first..self.row_groups.partition_point(|group| group.first_row < range.end).max(first)
    }

    /// The dataset with some of its row groups (ascending), at their row numbers; only the footers of their files are read.
    ///
    /// # Errors
    /// A file that is not there, or not the one that was described.
    pub fn open(&self, row_groups: impl IntoIterator<Item = usize>) -> Result<Dataset> {
        let mut row_groups: Vec<RowGroup> =
            row_groups.into_iter().filter_map(|g| self.row_groups.get(g).cloned()).collect();
        let mut used: Vec<usize> = row_groups.iter().map(|group| group.file).collect();
        used.sort_unstable();
        used.dedup();
        for group in &mut row_groups {
            group.file = used.binary_search(&group.file).expect("it is used");
        }
        // Of several errors the first file's is told.
        let opened: Vec<Result<Opened>> =
            used.par_iter().map(|&file| self.files[file].open(self.limit)).collect();
        let opened: Vec<Opened> = opened.into_iter().collect::<Result<_>>()?;
        let microseconds = match self.microseconds {
            true => Some(opened.iter().map(Opened::in_microseconds).collect::<Result<_>>()?),
            false => None,
        };
        let file = |&f: &usize| {
            let Described { path, rows, length, .. } = &self.files[f];
            File { path: path.clone(), rows: *rows, bytes: *length }
        };
        Ok(Dataset::of(Inner {
            files: used.iter().map(file).collect(),
            row_groups,
            rows: self.rows,
            columns: self.columns.clone(),
            types: self.types.read().map_err(types)?,
            bytes_as: self.bytes_as,
            opened: Arc::new(opened),
            rounded: Arc::default(),
            microseconds: Arc::new(OnceLock::from(microseconds)),
            read_elsewhere: Arc::default(),
            maps: Default::default(),
        }))
    }

    /// Rows of the dataset.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

impl Described {
    fn open(&self, limit: u64) -> Result<Opened> {
        let mut blob = files::blob(&self.at)?;
        blob.name.clone_from(&self.name);
        if blob.length != self.length {
            return Err(Error::input(
                &self.name,
                format!("has {} bytes here, and {} where the run was started", blob.length, self.length),
                "let all machines see the same files, and nothing write to them meanwhile",
            ));
        }
        let found = Found { blob, path: self.path.clone(), partition: self.partition.clone() };
        let (_, opened) = open(found, limit)?;
        if super::dataset::footer(&opened)? != self.footer {
            return Err(Error::input(
                &self.name,
                "is another file here than where the run was started",
                "let all machines see the same files, and nothing write to them meanwhile",
            ));
        }
        Ok(opened)
    }
}
