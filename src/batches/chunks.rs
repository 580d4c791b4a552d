//! Chunks: rows that stand together in the list that batches are dealt from, and so come into one batch together.
//!
//! With chunks of c rows (c divides the smallest batch size B) a full batch takes every nb-th chunk of the list instead of every
//! nb-th row. The list is in the order of the strata's dendrogram, so a chunk is a neighbourhood of the data, and a batch is made
//! of B/c neighbourhoods from all over it: hard negatives for contrastive losses. c = 1 is plain dealing, c = B one chunk a batch.
//!
//! Chunks are not aligned with strata: at most strata - 1 chunks of an epoch cross a border, into the neighbour on the tour. Of nb c
//! rows that follow each other every batch takes c, so a stratum's rows in a full batch differ from its share by less than c; in the
//! rest batch, which is dealt by rows, by less than 1. Any batch alone costs O(rows + strata), as ever.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batches::batch_size;
use crate::kit::error::{Error, Result};

/// Rows of a chunk: a number that divides the smallest batch size, or `"batch"` for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "written::Chunk", into = "written::Chunk")]
pub enum Chunk {
    Rows(u64),
    Batch,
}

impl Default for Chunk {
    fn default() -> Self {
        Chunk::Rows(1)
    }
}

/// The same as it stands in a config file.
mod written {
    use super::{Deserialize, JsonSchema, Serialize};

    #[derive(Clone, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum Word {
        Batch,
    }

    #[derive(Clone, Serialize, Deserialize, JsonSchema)]
    #[serde(untagged, expecting = "expected \"batch\" or a number of rows")]
    pub enum Chunk {
        Word(Word),
        Rows(u64),
    }

    impl From<Chunk> for super::Chunk {
        fn from(x: Chunk) -> Self {
            match x {
                Chunk::Word(Word::Batch) => Self::Batch,
                Chunk::Rows(rows) => Self::Rows(rows),
            }
        }
    }

    impl From<super::Chunk> for Chunk {
        fn from(x: super::Chunk) -> Self {
            match x {
                super::Chunk::Batch => Self::Word(Word::Batch),
                super::Chunk::Rows(rows) => Self::Rows(rows),
            }
        }
    }
}

impl Chunk {
    /// Batches are dealt row by row: the key is then not written to plan.json.
    pub fn is_row(&self) -> bool {
        *self == Chunk::Rows(1)
    }

    /// Rows of a chunk, where the smallest batch has `base`.
    pub fn rows(self, base: u64) -> u64 {
        match self {
            Chunk::Rows(rows) => rows,
            Chunk::Batch => base,
        }
    }

    /// Finds a size of batches that chunks do not fit, before any data is read.
    pub fn check(self, sizes: &batch_size::Params) -> Result<()> {
        let wrong = |reason: String, help: String| Err(Error::config("batches.chunk", reason, help));
        if self.is_row() {
            return Ok(());
        }
        let (Some(_), Some(base)) = (sizes.fixed(), sizes.smallest()) else {
            return wrong(
                "contradicts batch_size.size = \"auto\", whose rule is about batches that hold every modality".into(),
                "say --batch-size N: every batch is made of chunks of neighbouring rows".into(),
            );
        };
        match self.rows(base) {
            0 => wrong(
                "0 is not possible".into(),
                "1 deals row by row; use a divisor of the batch size".into(),
            ),
            rows if base.is_multiple_of(rows) => Ok(()),
            rows => {
                let below = (1..=rows.min(base)).rev().find(|&c| base.is_multiple_of(c)).unwrap_or(1);
                let above = (rows.min(base)..=base).find(|&c| base.is_multiple_of(c)).unwrap_or(base);
                let near = if below == above { below.to_string() } else { format!("{below} or {above}") };
                wrong(
                    format!("{rows} does not divide the smallest batch size, {base}"),
                    format!("use {near}, or another --batch-size"),
                )
            }
        }
    }
}

/// Where a batch stands in the list while its rows are found.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    /// Place of the next row in the list.
    pub at: u64,
    /// Rows of the chunk that are still to come; 0: the next row begins one.
    left: u64,
    /// Where the next row goes.
    to: u32,
    /// Rows of the list between two chunks of the batch.
    skip: u64,
}

impl Cursor {
    pub fn new(at: u64, skip: u64) -> Self {
        Cursor { at, left: 0, to: 0, skip }
    }

    /// The next rows of one chunk before `end` of the list: (place of the first, how many, where they go). `begin` says where a
    /// chunk that begins goes.
    pub fn take(&mut self, end: u64, chunk: u64, begin: impl FnOnce() -> u32) -> (u64, u64, u32) {
        if self.left == 0 {
            (self.left, self.to) = (chunk, begin());
        }
        let taken = (self.at, self.left.min(end - self.at), self.to);
        self.at += taken.1;
        self.left -= taken.1;
        self.to += taken.1 as u32;
        if self.left == 0 {
            self.at += self.skip;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batches::batch_size::Candidates;
    use crate::batches::number::Number;

    #[test]
    fn chunks_divide_the_smallest_batch() {
        let fixed = |size| batch_size::Params { size: Number::Fixed(size), ..Default::default() };
        for (chunk, size) in
            [(Chunk::Rows(8), 48), (Chunk::Rows(48), 48), (Chunk::Batch, 48), (Chunk::Rows(1), 7)]
        {
            assert!(chunk.check(&fixed(size)).is_ok(), "{chunk:?} of {size}");
        }
        for (chunk, near) in [(9, "use 8 or 12"), (49, "use 48,"), (5, "use 4 or 6")] {
            let e = Chunk::Rows(chunk).check(&fixed(48)).unwrap_err();
            assert!(e.to_string().contains("batches.chunk") && e.to_string().contains("48"), "{e}");
            assert!(e.help().contains(near), "{}", e.help());
        }
        assert!(Chunk::Rows(0).check(&fixed(48)).is_err());
        let listed = batch_size::Params { candidates: Candidates::List(vec![24, 48]), ..fixed(48) };
        assert!(Chunk::Rows(48).check(&listed).is_err() && Chunk::Rows(24).check(&listed).is_ok());
        let e = Chunk::Batch.check(&batch_size::Params::default()).unwrap_err().to_string();
        assert!(e.contains("batches.chunk") && e.contains("batch_size.size"), "{e}");
    }

    #[test]
    fn json() {
        let read = |text: &str| serde_json::from_str::<Chunk>(text).unwrap();
        assert_eq!((read("\"batch\""), read("64")), (Chunk::Batch, Chunk::Rows(64)));
        assert_eq!(serde_json::to_string(&Chunk::Batch).unwrap(), "\"batch\"");
        assert!(serde_json::from_str::<Chunk>("\"row\"").is_err());
    }
}
