//! Our side of the comparisons with peers: one measurement, printed as one line of JSON. `benches/peers/kernels.py` makes
//! the data, interleaves these with numpy, faiss and scikit-learn, and checks that the answers agree.
//!
//! ```sh
//! cargo bench --locked --bench peers -- assign rows.f32 384 centers.f32 --threads 1
//! cargo bench --locked --bench peers -- kmeans rows.f32 384 256 --threads 1
//! cargo bench --locked --bench peers -- deal 100000000 50 256 --threads 1
//! cargo bench --locked --bench peers -- open data.plan
//! ```
//!
//! `*.f32`: little-endian numbers, row after row. `seconds` leaves out reading them; `extra` is what the process held at most
//! beyond what it held before, in bytes (Linux). `--out FILE` writes labels or rows as u32, `--simd avx2` limits the vectors.
//! Batches are dealt into a buffer that is used again, as samplers do it; with `--array` (or `--out`) the rows of the epoch are
//! put into one array. `--large-pages` asks for such pages for rows and array, as numpy does for its arrays; `large` says how
//! many bytes came (Linux).

use std::hint::black_box;
use std::time::Instant;

use batchwright::batches::batch::Batch;
use batchwright::batches::deal::Deal;
use batchwright::kernels::knn::nearest_of;
use batchwright::kernels::rows::RowIds;
use batchwright::kernels::{Simd, limit};
use batchwright::kit::matrix::Matrix;
use batchwright::modalities::lloyd::kmeans;
use batchwright::plan::Plan;
use memmap2::MmapMut;
use rayon::prelude::*;
use serde_json::json;

fn usage(reason: &str) -> ! {
    eprintln!("{reason}; see the head of benches/peers.rs");
    std::process::exit(2);
}

/// The value after `name`, taken out of the arguments.
fn option(args: &mut Vec<String>, name: &str) -> Option<String> {
    let at = args.iter().position(|a| a == name)?;
    args.remove(at);
    (at < args.len()).then(|| args.remove(at))
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| usage(&format!("`{text}` is not a number")))
}

fn rows(path: &str, width: usize) -> Matrix {
    let bytes = std::fs::read(path).unwrap_or_else(|e| usage(&format!("{path}: {e}")));
    let data: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    Matrix::from_vec(data.len() / width, width, data)
}

/// Zeros, not touched yet.
fn zeros(len: u64, large_pages: bool) -> MmapMut {
    let map = MmapMut::map_anon(4 * len as usize).unwrap_or_else(|e| usage(&format!("{len} numbers: {e}")));
    #[cfg(target_os = "linux")]
    if large_pages && let Err(e) = map.advise(memmap2::Advice::HugePage) {
        eprintln!("no large pages: {e}");
    }
    map
}

/// A line of a file in /proc/self in bytes; 0 where there is none.
fn status(file: &str, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn write(path: Option<String>, numbers: &[u32]) {
    if let Some(path) = path {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(&path, bytes).unwrap_or_else(|e| usage(&format!("{path}: {e}")));
    }
}

fn main() {
    // Cargo adds `--bench`.
    let mut args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let threads = option(&mut args, "--threads").map_or(1, |t| number(&t));
    let repeat = option(&mut args, "--repeat").map_or(1, |r| number(&r));
    let steps = option(&mut args, "--steps").map_or(20, |s| number(&s));
    let out = option(&mut args, "--out");
    if let Some(simd) = option(&mut args, "--simd") {
        let known = Simd::ALL.into_iter().find(|s| s.name() == simd);
        limit(known.unwrap_or_else(|| usage(&format!("`{simd}` are no vectors"))));
    }
    let mut flag = |name: &str| args.iter().position(|a| a == name).map(|at| args.remove(at)).is_some();
    let (array, large_pages) = (flag("--array") || out.is_some(), flag("--large-pages"));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut seconds = Vec::new();
    let mut more = json!({});
    let mut before = 0;
    let mut time = |work: &mut (dyn FnMut() + Send)| {
        // The peak of loading does not count (Linux; without effect elsewhere).
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        before = status("status", "VmRSS");
        for _ in 0..repeat {
            let start = Instant::now();
            pool.install(&mut *work);
            seconds.push(start.elapsed().as_secs_f64());
        }
    };
    match args[..] {
        ["assign", data, width, centers] => {
            let width = number(width);
            let (rows, centers) = (rows(data, width), rows(centers, width));
            let mut labels = Vec::new();
            time(&mut || labels = nearest_of(&rows, &centers));
            write(out, &labels);
        }
        ["kmeans", data, width, k] => {
            let rows = rows(data, number(width));
            let mut found = None;
            time(&mut || found = Some(kmeans(&rows, number(k), steps, 1)));
            let found = found.expect("it ran");
            more = json!({ "inertia": found.inertia, "cells": found.centers.rows() });
            write(out, &found.labels);
        }
        ["deal", rows, strata, base] => {
            let (rows, strata, base): (u64, u64, u64) = (number(rows), number(strata), number(base));
            // Zipf(1.1), as in the measurements of peers.
            let share: Vec<f64> = (1..=strata).map(|h| (h as f64).powf(-1.1)).collect();
            let all: f64 = share.iter().sum();
            let mut offsets: Vec<u64> = vec![0];
            let mut sum = 0.0;
            for share in share {
                sum += share;
                offsets.push((sum / all * rows as f64).round() as u64);
            }
            let (mut members, mut epoch) =
                (zeros(rows, large_pages), zeros(if array { rows } else { 1 }, large_pages));
            let members: &mut [u32] = bytemuck::cast_slice_mut(&mut members);
            (0..).zip(&mut *members).for_each(|(row, to)| *to = row);
            let epoch: &mut [u32] = bytemuck::cast_slice_mut(&mut epoch);
            time(&mut || {
                let deal = Deal::new(RowIds::U32(members), &offsets, base, 7, 1, &[], false, None);
                if array {
                    each_run(&deal, epoch.par_chunks_mut((TOGETHER * base) as usize), |out, batch| {
                        out.iter_mut().zip(&batch.rows).for_each(|(to, &row)| *to = row as u32);
                    });
                } else {
                    each_run(
                        &deal,
                        (0..deal.len().div_ceil(TOGETHER) as usize).into_par_iter(),
                        |_, batch| {
                            black_box(&batch.rows);
                        },
                    );
                }
            });
            more = json!({ "large": status("smaps_rollup", "AnonHugePages") });
            write(out, epoch);
        }
        ["open", plan] => time(&mut || {
            let plan = Plan::open(plan).unwrap_or_else(|e| usage(&e.to_string()));
            black_box(plan.manifest());
        }),
        _ => usage("assign, kmeans, deal or open, with their arguments"),
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let extra = status("status", "VmHWM").saturating_sub(before);
    println!("{}", json!({ "seconds": median, "threads": threads, "extra": extra, "more": more }));
}

/// Batches that are dealt in one run.
const TOGETHER: u64 = 64;

/// Deals a whole epoch, each run into a buffer that is used again, as samplers do.
fn each_run<T: Send>(
    deal: &Deal,
    parts: impl IndexedParallelIterator<Item = T>,
    each: impl Fn(T, &Batch) + Sync + Send,
) {
    parts.enumerate().for_each_init(Batch::default, |batch, (i, part)| {
        let first = i as u64 * TOGETHER;
        deal.run(first..(first + TOGETHER).min(deal.len()), 1, batch);
        each(part, batch);
    });
}
