//! How fast the vectors of a column are read: one measurement, printed as one line of JSON.
//!
//! ```sh
//! cargo bench --locked --bench decode -- data.parquet embedding --path page --threads 1 --repeat 5
//! ```
//!
//! The paths: `page`, what a plan does (`Columns`, part by part, into buffers that are used again); `fallback`, the same with
//! the page path switched off; `arrow`, the `ParquetRecordBatchReader` of arrow-rs over the mapped file; `copy`, the bytes of
//! the mapped file copied into one buffer of 4 MiB; `read`, the same through `read(2)`. `seconds` is the median of `--repeat` runs,
//! `bytes` what the column is as `f32` (of `copy` and `read`, the file), `peak_rss` the most the process held, in bytes (Linux).
//! `benches/peers/decode.py` interleaves it with other readers.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use batchwright::kit::progress::Progress;
use batchwright::parts::{Local, Pass, parts};
use batchwright::source::{Columns, Dataset, Kind, RawRows, Way};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use rayon::prelude::*;

/// Bytes copied at a time: a part's worth of pages, less than the cache.
const BLOCK: usize = 4 << 20;
/// Rows of a batch of arrow-rs and pyarrow alike.
const BATCH: usize = 32_768;

/// Looks at what was read no more than a benchmark must.
struct Sink;

impl Pass for Sink {
    type Item = RawRows;
    type Partial = usize;
    type Output = usize;

    fn partial(&self, item: &RawRows) -> batchwright::Result<usize> {
        black_box(&item.vectors);
        Ok(item.rows.len() - item.bad.len())
    }

    fn merge(&self, left: usize, right: usize) -> usize {
        left + right
    }

    fn finish(&self, all: Option<usize>) -> batchwright::Result<usize> {
        Ok(all.unwrap_or(0))
    }
}

fn through_columns(columns: &Columns, width: usize, engine: &Local) {
    let all = parts(columns.dataset().rows(), width);
    let usable = engine.run("read", columns, &Sink, &all).unwrap_or_else(|e| usage(&e.to_string()));
    assert!(usable > 0, "no row could be used");
}

#[allow(unsafe_code, reason = "a map is what the other readers are given, too")]
fn mapped(file: &File) -> Bytes {
    // SAFETY: nothing writes to the file while it is measured.
    Bytes::from_owner(unsafe { memmap2::Mmap::map(file) }.expect("the file can be mapped"))
}

fn through_arrow(bytes: &Bytes, metadata: &ArrowReaderMetadata, column: &str, engine: &Local) {
    let mask = ProjectionMask::columns(metadata.parquet_schema(), [column]);
    let one = |group: usize| {
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone())
            .with_row_groups(vec![group])
            .with_projection(mask.clone())
            .with_batch_size(BATCH)
            .build()
            .expect("a readable file");
        for batch in reader {
            black_box(batch.expect("a readable batch"));
        }
    };
    engine.install(|| (0..metadata.metadata().num_row_groups()).into_par_iter().for_each(one));
}

/// `copy` fills the block with the bytes that begin at the place.
fn blocks(length: usize, engine: &Local, copy: impl Fn(usize, &mut [u8]) + Sync) {
    engine.install(|| {
        let threads = rayon::current_num_threads();
        (0..threads).into_par_iter().for_each(|thread| {
            let mut block = vec![1; BLOCK];
            for at in (0..length.div_ceil(BLOCK)).skip(thread).step_by(threads).map(|i| i * BLOCK) {
                let block = &mut block[..BLOCK.min(length - at)];
                copy(at, block);
                black_box(&block);
            }
        });
    });
}

fn peak_rss() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn usage(problem: &str) -> ! {
    eprintln!("{problem}; the first lines of benches/decode.rs say how to call it");
    std::process::exit(2)
}

fn main() {
    let (mut path, mut threads, mut repeat) = ("page".to_string(), 1, 1);
    let mut named = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| usage(&format!("{argument} wants a value")));
        let number = |text: String| text.parse().unwrap_or_else(|_| usage(&format!("`{text}` is no number")));
        match argument.as_str() {
            "--path" => path = value(),
            "--threads" => threads = number(value()),
            "--repeat" => repeat = number(value()).max(1),
            // Cargo adds it.
            "--bench" => {}
            _ => named.push(argument),
        }
    }
    // `cargo bench` without arguments runs the other benchmarks: this one has nothing to measure then.
    let [file, column] = named.as_slice() else {
        if named.is_empty() {
            return;
        }
        usage("name a file and a column")
    };
    let failed = |e: batchwright::Error| -> ! { usage(&e.to_string()) };
    let engine = Local::new(threads, Progress::default()).unwrap_or_else(|e| failed(e));
    let dataset = Dataset::open(std::slice::from_ref(file)).unwrap_or_else(|e| failed(e));
    let dims = match dataset.column(column, "column").unwrap_or_else(|e| failed(e)).kind {
        Kind::Vector { dims } => dims,
        _ => usage(&format!("`{column}` is no vector column")),
    };
    let columns = Columns::new(&dataset, vec![column.clone()], vec![]).unwrap_or_else(|e| failed(e));
    let opened = File::open(file).expect("it has just been opened");
    let length = opened.metadata().expect("it is open").len() as usize;
    let mut bytes = dataset.rows() * dims as u64 * 4;
    let mut seconds: Vec<f64> = Vec::new();
    for _ in 0..repeat {
        // What a reader keeps from one read to the next (footers, threads) is made before the clock starts.
        let timed = |work: &dyn Fn()| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        };
        seconds.push(match path.as_str() {
            "page" => timed(&|| through_columns(&columns, dims, &engine)),
            "fallback" => {
                let columns = columns.clone().through(Way::Arrow);
                timed(&|| through_columns(&columns, dims, &engine))
            }
            "arrow" => {
                let map = mapped(&opened);
                let metadata = ArrowReaderMetadata::load(&map, ArrowReaderOptions::new()).expect("a footer");
                timed(&|| through_arrow(&map, &metadata, column, &engine))
            }
            "copy" => {
                bytes = length as u64;
                let map = mapped(&opened);
                timed(&|| {
                    blocks(length, &engine, |at, block| block.copy_from_slice(&map[at..at + block.len()]))
                })
            }
            "read" => {
                bytes = length as u64;
                timed(&|| {
                    blocks(length, &engine, |at, block| {
                        opened.read_exact_at(block, at as u64).expect("a readable file")
                    })
                })
            }
            _ => usage(&format!("there is no path `{path}`")),
        });
    }
    seconds.sort_by(f64::total_cmp);
    println!(
        "{}",
        serde_json::json!({
            "path": path,
            "threads": threads,
            "seconds": seconds[seconds.len() / 2],
            "bytes": bytes,
            "peak_rss": peak_rss(),
        })
    );
}
