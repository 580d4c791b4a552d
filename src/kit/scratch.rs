//! Working files for what has one entry a row and therefore must not live in memory: fixed-width records written to
//! their place by whoever computed them ([`RowFile`]), and an external counting sort ([`Scatter`]).
//!
//! Everything here lies in the plan's staging directory and goes with it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::kit::error::{Error, Result};

/// A file of fixed-width records, addressed by row; parts may be written from several threads. Cheap to clone.
#[derive(Clone)]
pub struct RowFile {
    file: Arc<File>,
    path: PathBuf,
    width: usize,
}

impl RowFile {
    /// `width` is the bytes of one record.
    pub fn create(path: &Path, width: usize) -> Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path);
        let file = Arc::new(file.map_err(Error::io("create", path))?);
        Ok(RowFile { file, path: path.into(), width })
    }

    pub fn write(&self, first_row: u64, records: &[u8]) -> Result<()> {
        self.file.write_all_at(records, first_row * self.width as u64).map_err(Error::io("write", &self.path))
    }

    /// Reads `rows` records into `into`, whose allocation is reused.
    pub fn read(&self, first_row: u64, rows: usize, into: &mut Vec<u8>) -> Result<()> {
        into.resize(rows * self.width, 0);
        self.file.read_exact_at(into, first_row * self.width as u64).map_err(Error::io("read", &self.path))
    }
}

/// External counting sort: records are pushed in any bucket order and lie bucket by bucket in one file, in the order
/// they were pushed. O(records) time; memory is one small buffer per bucket.
pub struct Scatter {
    file: RowFile,
    /// Where each bucket begins, in records, and one past the last.
    starts: Vec<u64>,
    /// Records of each bucket that are in the file already.
    written: Vec<u64>,
    buffers: Vec<Vec<u8>>,
    buffer_bytes: usize,
}

impl Scatter {
    /// `counts` are the exact numbers of records each bucket will get; `memory` bounds all buffers together (each holds
    /// at least one record).
    pub fn create(path: &Path, width: usize, counts: &[u64], memory: usize) -> Result<Self> {
        let mut starts = vec![0];
        starts.extend(counts.iter().scan(0u64, |sum, &c| {
            *sum += c;
            Some(*sum)
        }));
        let buffer_bytes = (memory / counts.len().max(1)).clamp(width, 1 << 20) / width * width;
        Ok(Scatter {
            file: RowFile::create(path, width)?,
            starts,
            written: vec![0; counts.len()],
            buffers: vec![Vec::new(); counts.len()],
            buffer_bytes,
        })
    }

    pub fn push(&mut self, bucket: usize, record: &[u8]) -> Result<()> {
        debug_assert_eq!(record.len(), self.file.width);
        let buffer = &mut self.buffers[bucket];
        buffer.extend_from_slice(record);
        if buffer.len() >= self.buffer_bytes { self.flush(bucket) } else { Ok(()) }
    }

    fn flush(&mut self, bucket: usize) -> Result<()> {
        let records = (self.buffers[bucket].len() / self.file.width) as u64;
        assert!(
            self.written[bucket] + records <= self.starts[bucket + 1] - self.starts[bucket],
            "bucket {bucket} gets more records than were counted"
        );
        self.file.write(self.starts[bucket] + self.written[bucket], &self.buffers[bucket])?;
        self.written[bucket] += records;
        self.buffers[bucket].clear();
        Ok(())
    }

    /// No more records: what was pushed can be read.
    pub fn finish(mut self) -> Result<Sorted> {
        for bucket in 0..self.buffers.len() {
            self.flush(bucket)?;
            let counted = self.starts[bucket + 1] - self.starts[bucket];
            assert_eq!(self.written[bucket], counted, "bucket {bucket} gets as many records as were counted");
        }
        Ok(Sorted { file: self.file, starts: self.starts })
    }
}

/// The sorted records.
pub struct Sorted {
    file: RowFile,
    starts: Vec<u64>,
}

impl Sorted {
    /// All records of one bucket.
    pub fn bucket(&self, bucket: usize, into: &mut Vec<u8>) -> Result<()> {
        let start = self.starts[bucket];
        self.file.read(start, (self.starts[bucket + 1] - start) as usize, into)
    }

    /// Records `first .. first + count` over all buckets.
    pub fn records(&self, first: u64, count: usize, into: &mut Vec<u8>) -> Result<()> {
        self.file.read(first, count, into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scatter_is_a_stable_counting_sort() {
        let dir = tempfile::tempdir().unwrap();
        let keys: Vec<usize> = (0..10_000u64).map(|i| (crate::kit::rng::mix64(i) % 7) as usize).collect();
        let mut counts = vec![0u64; 8]; // the last bucket stays empty
        keys.iter().for_each(|&k| counts[k] += 1);
        let mut scatter = Scatter::create(&dir.path().join("s"), 4, &counts, 1000).unwrap();
        for (i, &k) in keys.iter().enumerate() {
            scatter.push(k, &(i as u32).to_le_bytes()).unwrap();
        }
        let sorted = scatter.finish().unwrap();
        let mut bytes = Vec::new();
        for k in 0..8 {
            sorted.bucket(k, &mut bytes).unwrap();
            let got: Vec<u32> =
                bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
            let want: Vec<u32> = (0..10_000).filter(|&i| keys[i as usize] == k).collect();
            assert_eq!(got, want);
        }
    }
}
