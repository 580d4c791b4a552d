//! Reads the points of any part: raw rows, mapped, each with its state.

use std::sync::Mutex;

use arrow_array::ArrayRef;

use super::canonical::push_cell;
use super::cells::column;
use super::{Features, Inputs, Points, State};
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::parts::{Part, Read};
use crate::source::{Bad, Invalid, RawRows};

/// Raw rows to [`Points`]. O(rows x dims) beside the raw read; holds one raw buffer per part in work.
pub struct PointsReader<'a, R> {
    features: &'a Features,
    raw: R,
    invalid: Invalid,
    keep: &'a (dyn Fn(u64) -> bool + Sync),
    place: &'a (dyn Fn(u64) -> (String, u64) + Sync),
    contents: Option<&'a Inputs>,
    buffers: Mutex<Vec<RawRows>>,
}

impl<'a, R: Read<Item = RawRows>> PointsReader<'a, R> {
    /// `keep` says of a global row number whether the row filter lets it through; `place` names its file and its row in
    /// that file, for messages.
    pub fn new(
        features: &'a Features,
        raw: R,
        invalid: Invalid,
        keep: &'a (dyn Fn(u64) -> bool + Sync),
        place: &'a (dyn Fn(u64) -> (String, u64) + Sync),
    ) -> Self {
        PointsReader { features, raw, invalid, keep, place, contents: None, buffers: Mutex::default() }
    }

    /// Also hashes the cells of these columns, as they are before any transform and encoder: what a row is found again by.
    pub fn with_contents(mut self, inputs: Option<&'a Inputs>) -> Self {
        self.contents = inputs;
        self
    }

    /// The points of raw rows that are there already, for example the gathered sample. Takes what it needs out of `raw`.
    pub fn points(&self, raw: &mut RawRows, into: &mut Points) -> Result<()> {
        into.contents.clear();
        if let Some(inputs) = self.contents {
            contents(raw, inputs, &mut into.contents)?;
        }
        let mut bad = Vec::new();
        self.features.map(raw, &mut into.points, &mut bad)?;
        std::mem::swap(&mut into.rows, &mut raw.rows);
        into.table = raw.table.take();
        into.state.clear();
        let state = |&row| if (self.keep)(row) { State::Planned } else { State::Filtered };
        into.state.extend(into.rows.iter().map(state));
        // A row that the filter leaves out may hold anything.
        bad.retain(|b| into.state[b.index] == State::Planned);
        if let (Invalid::Error, Some(b)) = (self.invalid, bad.first()) {
            return Err(self.unusable(into.rows[b.index], b));
        }
        bad.iter().for_each(|b| into.state[b.index] = State::Invalid);
        into.bad = bad;
        for (i, &state) in into.state.iter().enumerate() {
            if state != State::Planned {
                into.points.row_mut(i).fill(0.0);
            }
        }
        Ok(())
    }

    fn unusable(&self, row: u64, bad: &Bad) -> Error {
        let (path, row) = (self.place)(row);
        let help = format!(
            "drop such rows with --invalid drop, leave them out with --where, or choose features without `{}`",
            bad.column
        );
        Error::input(path, bad.reason.as_str(), help).column(&bad.column).row(row)
    }
}

/// BLAKE3, cut off, of every row's cells in the order of their columns: numbers of vectors as `f32` (of encoded vectors: what
/// the encoder makes of them), other cells in canonical bytes.
fn contents(raw: &RawRows, inputs: &Inputs, out: &mut Vec<[u8; 16]>) -> Result<()> {
    enum Cells<'a> {
        Vector(&'a Matrix),
        Table(&'a ArrayRef),
    }
    let text = inputs.encoded_text();
    let cells = |(name, _): &(String, _)| match inputs.vectors.iter().position(|v| v == name) {
        Some(place) if text != Some(name) => Ok(Cells::Vector(&raw.vectors[place])),
        _ => column(raw.table.as_ref(), name).map(Cells::Table),
    };
    let columns: Vec<Cells<'_>> = inputs.order.iter().map(cells).collect::<Result<_>>()?;
    let mut bytes = Vec::new();
    for i in 0..raw.rows.len() {
        bytes.clear();
        for cells in &columns {
            match cells {
                // -0 + 0 = 0.
                Cells::Vector(x) => x.row(i).iter().for_each(|x| bytes.extend((x + 0.0).to_le_bytes())),
                Cells::Table(cells) => push_cell(&mut bytes, cells, i),
            }
        }
        out.push(*blake3::hash(&bytes).as_bytes().first_chunk().expect("32 bytes"));
    }
    Ok(())
}

impl<R: Read<Item = RawRows>> Read for PointsReader<'_, R> {
    type Item = Points;

    fn row_bytes(&self) -> u64 {
        self.raw.row_bytes()
    }

    fn read(&self, part: &Part, into: &mut Points) -> Result<()> {
        let mut raw = self.buffers.lock().expect("no panic while holding").pop().unwrap_or_default();
        self.raw.read(part, &mut raw)?;
        self.points(&mut raw, into)?;
        self.buffers.lock().expect("no panic while holding").push(raw);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, RecordBatch};

    use super::*;
    use crate::features::{Inputs, Params};
    use crate::kit::matrix::Matrix;
    use crate::source::{Column, Kind};

    /// Row r is [r, 1]; rows divisible by 5 are bad.
    struct Raw;
    impl Read for Raw {
        type Item = RawRows;
        fn read(&self, part: &Part, into: &mut RawRows) -> Result<()> {
            into.rows = part.range().collect();
            into.vectors.resize(1, Matrix::default());
            into.vectors[0].reset(part.rows, 2);
            into.bad.clear();
            for (i, r) in part.range().enumerate() {
                into.vectors[0].row_mut(i).copy_from_slice(&[r as f32, 1.0]);
                if r % 5 == 0 {
                    into.vectors[0].row_mut(i).fill(0.0);
                    into.bad.push(Bad { index: i, column: "e".into(), reason: "is null".into() });
                }
            }
            let labels = Int64Array::from_iter_values(part.range().map(|r| r as i64));
            into.table =
                Some(RecordBatch::try_from_iter([("y", Arc::new(labels) as _)]).expect("one column"));
            Ok(())
        }
    }

    fn features() -> Features {
        let columns = [Column::new("e", Kind::Vector { dims: 2 })];
        let inputs = Inputs::choose(&Params::default(), &columns, &[]).unwrap();
        Features::fit(
            &inputs,
            &Params::default(),
            &RawRows { vectors: vec![Matrix::default()], ..Default::default() },
        )
        .unwrap()
    }

    #[test]
    fn states_and_zeros() {
        let features = features();
        let keep = |row: u64| !row.is_multiple_of(3);
        let place = |row: u64| (format!("part-{}.parquet", row / 100), row % 100);
        let reader = PointsReader::new(&features, Raw, Invalid::Drop, &keep, &place);
        let mut points = Points::default();
        for part in [Part { index: 0, first: 0, rows: 40 }, Part { index: 1, first: 40, rows: 7 }] {
            reader.read(&part, &mut points).unwrap();
            assert_eq!(points.rows, part.range().collect::<Vec<_>>());
            assert_eq!(points.table.as_ref().map(|t| t.num_rows()), Some(part.rows));
            for (i, &r) in points.rows.iter().enumerate() {
                let (state, x) = match r {
                    r if r % 3 == 0 => (State::Filtered, [0.0, 0.0]),
                    r if r % 5 == 0 => (State::Invalid, [0.0, 0.0]),
                    r => (State::Planned, [r as f32, 1.0]),
                };
                assert_eq!((points.state[i], points.points.row(i)), (state, &x[..]), "row {r}");
            }
        }
        let strict = PointsReader::new(&features, Raw, Invalid::Error, &keep, &place);
        let error = strict.read(&Part { index: 2, first: 106, rows: 20 }, &mut points).unwrap_err();
        assert_eq!(error.to_string(), "part-1.parquet, column `e`, row 10: is null");
        assert!(error.help().contains("--invalid drop"));
    }
}
