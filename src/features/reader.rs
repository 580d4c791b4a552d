//! Reads the columns that make the points, encoding one of them on the way.

use std::borrow::Cow;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use rayon::prelude::*;

use super::encoder::{Encoder, Values};
use super::{Inputs, column};
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::parts::{Local, Part, Read};
use crate::source::{Bad, Columns, Dataset, RawRows};

/// Rows of a part where rows are encoded: a network takes milliseconds a row, so that parts of the usual size would leave
/// threads without work at the end.
pub const ENCODED_ROWS: usize = 256;

/// [`Columns`] with the vectors of [`Inputs`], the encoded ones among them.
pub struct InputReader<'a> {
    columns: Columns,
    encoding: Option<Encoding<'a>>,
    progress: Progress,
}

struct Encoding<'a> {
    encoder: &'a Encoder,
    column: String,
    /// Its place among the vectors.
    place: usize,
    /// Text is read from the table, vectors lie at their place already.
    text: bool,
    keep: &'a (dyn Fn(u64) -> bool + Sync),
    /// Rows, ascending, that were encoded before.
    known: Option<(&'a [u64], &'a Matrix)>,
}

impl<'a> InputReader<'a> {
    /// `table` are the table columns that somebody wants; those of the features must be among them. Rows that `keep` leaves
    /// out are not encoded. Errors as [`Columns::new`] and [`Inputs::encoded_by`].
    pub fn new(
        dataset: &Dataset,
        inputs: &Inputs,
        mut table: Vec<String>,
        encoder: Option<&'a Encoder>,
        keep: &'a (dyn Fn(u64) -> bool + Sync),
        progress: Progress,
    ) -> Result<Self> {
        let encoding = match (&inputs.encode, encoder) {
            (Some((column, _)), Some(encoder)) => Some(Encoding {
                encoder,
                column: column.clone(),
                place: inputs.vectors.iter().position(|v| v == column).expect("choose() put it there"),
                text: inputs.encoded_text().is_some(),
                keep,
                known: None,
            }),
            (None, None) => None,
            _ => return Err(inputs.clone().encoded_by(encoder).expect_err("one without the other")),
        };
        let text = inputs.encoded_text().filter(|text| !table.contains(text)).cloned();
        table.extend(text);
        let columns = Columns::new(dataset, inputs.stored_vectors().cloned().collect(), table)?;
        Ok(InputReader { columns, encoding, progress })
    }

    /// Embeddings that are there already: of `rows`, ascending, in the same order. They are not computed again.
    pub fn knowing(mut self, rows: &'a [u64], embeddings: &'a Matrix) -> Self {
        if let Some(encoding) = &mut self.encoding {
            encoding.known = Some((rows, embeddings));
        }
        self
    }

    /// What lies in the dataset.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Adds the embeddings to rows of [`columns`](InputReader::columns), in parallel. Progress: stage "encode", in rows.
    pub fn encode(&self, raw: &mut RawRows, engine: &Local) -> Result<()> {
        let Some(encoding) = &self.encoding else { return Ok(()) };
        let stage = self.progress.stage("encode", "rows", raw.rows.len() as u64);
        let mut out = Matrix::zeros(raw.rows.len(), encoding.encoder.dims());
        // Fewer rows at a time than in a part: there is one sample, and all threads should have something to do.
        const STEP: usize = 64;
        let step = STEP * encoding.encoder.dims();
        let one = |(i, out): (usize, &mut [f32])| {
            let found = encoding.part(raw, i * STEP, out, &self.progress)?;
            stage.advance((out.len() / encoding.encoder.dims()) as u64)?;
            Ok(found)
        };
        let found: Vec<Result<Vec<Bad>>> =
            engine.install(|| out.as_mut_slice().par_chunks_mut(step).enumerate().map(one).collect());
        let found = first_error(found)?;
        encoding.put(raw, out, found.concat());
        Ok(())
    }
}

/// The results, or the error of the earliest that failed by itself.
fn first_error<T>(results: Vec<Result<T>>) -> Result<Vec<T>> {
    let mut interrupted = false;
    let mut out = Vec::with_capacity(results.len());
    for result in results {
        match result {
            Ok(x) => out.push(x),
            Err(Error::Interrupted) => interrupted = true,
            Err(e) => return Err(e),
        }
    }
    if interrupted { Err(Error::Interrupted) } else { Ok(out) }
}

impl Read for InputReader<'_> {
    type Item = RawRows;

    fn row_bytes(&self) -> u64 {
        self.columns.row_bytes()
    }

    fn read(&self, part: &Part, into: &mut RawRows) -> Result<()> {
        // The reader below gives as many matrices back as it has columns: the embeddings' one is lost to it.
        let spare = match &self.encoding {
            Some(e) if e.text && into.vectors.len() > e.place => Some(into.vectors.remove(e.place)),
            _ => None,
        };
        self.columns.read(part, into)?;
        let Some(encoding) = &self.encoding else { return Ok(()) };
        let mut out = spare.unwrap_or_default();
        out.reset(part.rows, encoding.encoder.dims());
        let found = encoding.part(into, 0, out.as_mut_slice(), &self.progress)?;
        encoding.put(into, out, found);
        Ok(())
    }
}

impl Encoding<'_> {
    /// Embeddings of the rows from `first` on, as many as `out` has room for; of rows without one zeros, and why.
    fn part(&self, raw: &RawRows, first: usize, out: &mut [f32], progress: &Progress) -> Result<Vec<Bad>> {
        let dims = self.encoder.dims();
        let rows = first..first + out.len() / dims;
        out.fill(0.0);
        let mut bad = Vec::new();
        let mut complain = |index: usize, reason: Cow<str>| {
            bad.push(Bad { index, column: self.column.clone(), reason: reason.into() })
        };
        let wanted = rows.clone().filter(|&i| (self.keep)(raw.rows[i]));
        let new: Vec<usize> =
            wanted.filter(|&i| !self.recall(raw.rows[i], &mut out[(i - first) * dims..][..dims])).collect();
        let mut results = Matrix::default();
        let (places, faults) = if self.text {
            let cells = column(raw.table.as_ref(), &self.column)?.as_string::<i32>();
            let (there, null): (Vec<usize>, Vec<usize>) = new.into_iter().partition(|&i| cells.is_valid(i));
            null.into_iter().for_each(|i| complain(i, "is null".into()));
            let texts: Vec<&str> = there.iter().map(|&i| cells.value(i)).collect();
            results.reset(there.len(), dims);
            let faults = self.encoder.encode(Values::Texts(&texts), results.as_mut_slice(), progress)?;
            (there, faults)
        } else {
            let unusable = |i: &usize| raw.bad.binary_search_by_key(i, |b| b.index).is_ok();
            let there: Vec<usize> = new.into_iter().filter(|i| !unusable(i)).collect();
            let vectors = raw.vectors[self.place].gather(there.iter().copied());
            results.reset(there.len(), dims);
            let faults = self.encoder.encode(Values::Vectors(&vectors), results.as_mut_slice(), progress)?;
            (there, faults)
        };
        for (&i, row) in places.iter().zip(results.iter_rows()) {
            out[(i - first) * dims..][..dims].copy_from_slice(row);
        }
        faults.into_iter().for_each(|(i, reason)| complain(places[i], reason.into()));
        Ok(bad)
    }

    /// Whether the row was encoded before; then its embedding is in `out`.
    fn recall(&self, row: u64, out: &mut [f32]) -> bool {
        let Some((rows, embeddings)) = self.known else { return false };
        let Ok(place) = rows.binary_search(&row) else { return false };
        out.copy_from_slice(embeddings.row(place));
        true
    }

    /// Puts the embeddings to their place, and what is wrong with some to the rest.
    fn put(&self, raw: &mut RawRows, embeddings: Matrix, found: Vec<Bad>) {
        if self.text {
            raw.vectors.insert(self.place, embeddings);
        } else {
            raw.vectors[self.place] = embeddings;
        }
        raw.bad.extend(found);
        // Stable: of several complaints about a row the first stays.
        raw.bad.sort_by_key(|b| b.index);
        raw.bad.dedup_by_key(|b| b.index);
    }
}
