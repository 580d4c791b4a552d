//! Which rows share a key: the values of the columns of `--no-duplicates`.

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use crate::batches::units::RowStrata;
use crate::features::{column, push_cell};
use crate::format::groups::Member;
use crate::format::manifest::Repeats;
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::parts::{Local, Pass, parts};
use crate::source::{Columns, Dataset, RawRows};

/// Numbers that a row of these columns is reckoned to have, for the size of parts.
const WIDTH: usize = 64;

/// A value of a row, as the first 16 bytes of the BLAKE3 of its canonical bytes; the row and the column in one number.
type Value = (u64, u64, u64);

/// Upper bound of the memory for `rows` rows with so many keys each: values are there twice while parts are merged; afterwards rows, places
/// and keys, and where they are in an epoch.
pub fn memory(rows: u64, columns: u64) -> u64 {
    rows * columns * (2 * size_of::<Value>() as u64).max(120)
}

/// All values of planned rows.
struct Values<'a> {
    columns: &'a [String],
    strata: &'a dyn RowStrata,
}

/// Whether a cell is no value: null, or not a number.
fn is_nothing(cells: &ArrayRef, i: usize) -> bool {
    let nan =
        || cells.data_type() == &DataType::Float64 && cells.as_primitive::<Float64Type>().value(i).is_nan();
    cells.is_null(i) || nan()
}

impl Pass for Values<'_> {
    type Item = RawRows;
    type Partial = Vec<Value>;
    type Output = Vec<Value>;

    fn partial(&self, item: &RawRows) -> Result<Self::Partial> {
        let (Some(&first), Some(&last)) = (item.rows.first(), item.rows.last()) else {
            return Ok(Vec::new());
        };
        let mut strata = vec![NONE; (last - first + 1) as usize];
        self.strata.read(first, &mut strata);
        let mut values = Vec::new();
        let mut bytes = Vec::new();
        for (c, name) in (0..).zip(self.columns) {
            let cells = column(item.table.as_ref(), name)?;
            for (i, &row) in item.rows.iter().enumerate() {
                if strata[(row - first) as usize] == NONE || is_nothing(cells, i) {
                    continue;
                }
                bytes.clear();
                push_cell(&mut bytes, cells, i);
                let hash = blake3::hash(&bytes);
                let [a, b] = [0, 8].map(|at| {
                    u64::from_le_bytes(hash.as_bytes()[at..at + 8].try_into().expect("eight bytes"))
                });
                values.push((a, b, row * self.columns.len() as u64 + c));
            }
        }
        Ok(values)
    }

    fn merge(&self, mut left: Self::Partial, right: Self::Partial) -> Self::Partial {
        left.extend(right);
        left
    }

    fn finish(&self, all: Option<Self::Partial>) -> Result<Self::Output> {
        Ok(all.unwrap_or_default())
    }
}

/// The planned rows that share a value of these columns with another, whichever of them it stands in. Nulls are no values. One read of
/// the columns; O(rows log rows) time.
pub fn find(
    dataset: &Dataset,
    columns: &[String],
    strata: &dyn RowStrata,
    engine: &Local,
) -> Result<Vec<Member>> {
    let reader = Columns::new(dataset, vec![], columns.to_vec())?;
    let pass = Values { columns, strata };
    let mut values = engine.run("duplicates", &reader, &pass, &parts(dataset.rows(), WIDTH))?;
    values.sort_unstable();
    let count = columns.len() as u64;
    let mut members = Vec::new();
    for some in values.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let (group, column) = (some[0].2 / count, (some[0].2 % count) as u32);
        if some.iter().any(|value| value.2 / count != group) {
            members.extend(some.iter().map(|value| Member { row: value.2 / count, group, column }));
        }
    }
    members.sort_unstable();
    members.dedup();
    Ok(members)
}

/// Values whose rows meet, and what would help. `above`: values of more rows than there are full batches of the `largest` size.
pub fn warning(repeats: &Repeats, above: u64, base: u64, largest: u64, batches: u64) -> Option<String> {
    let Repeats { keys, batch, union, largest: most, .. } = *repeats;
    let help = "smaller batches, a filter (--where) or dropping duplicates help";
    if batches == 0 {
        return Some(format!("the rows fill no batch of {base}: the rows of all values meet in one"));
    }
    if above > 0 {
        return Some(format!(
            "of {keys} values that rows share, {above} have more rows than the {batches} batches of {largest} rows (the most: {most}): up to \
             {union} of one meet in a batch; {help}"
        ));
    }
    (batch.max(union) > 1).then(|| {
        format!("up to {batch} rows of a value meet in a batch of {base}, {union} in one of {largest}: no exchange parts them; {help}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_must_meet_are_told() {
        let kept = Repeats { keys: 9, rows: 40, largest: 5, batch: 1, union: 1 };
        assert_eq!(warning(&kept, 0, 64, 256, 20), None);
        let above = warning(&Repeats { largest: 50, union: 3, ..kept }, 2, 64, 256, 20).unwrap();
        for told in
            ["of 9 values", "2 have more rows than the 20 batches of 256 rows", "the most: 50", "up to 3"]
        {
            assert!(above.contains(told), "{above}");
        }
        let left = warning(&Repeats { union: 2, ..kept }, 0, 64, 256, 20).unwrap();
        assert!(left.contains("no exchange parts them") && left.contains("2 in one of 256"), "{left}");
        assert!(warning(&kept, 0, 64, 64, 0).unwrap().contains("fill no batch of 64"));
    }
}
