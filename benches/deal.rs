//! Dealing and scoring one batch. Sizes stand in the names: rows N, batch B, strata S.

use std::hint::black_box;

use batchwright::batches::batch::Batch;
use batchwright::batches::deal::Deal;
use batchwright::batches::local::{LocalDeal, LocalOrder};
use batchwright::batches::score::Score;
use batchwright::batches::strata::dendrogram;
use batchwright::batches::units::{self, RowStrata, units_of};
use batchwright::kernels::rows::RowIds;
use batchwright::kit::rng::{key, uniform};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// S strata of very different sizes, about `rows` in all, members in order.
fn strata(rows: u64, strata: u64) -> (Vec<u32>, Vec<u64>) {
    let mut offsets = vec![0];
    for h in 0..strata {
        let size = 1 + (rows as f64 / strata as f64 * 2.0 * uniform(key(1, &[h]))) as u64;
        offsets.push(offsets[h as usize] + size);
    }
    ((0..offsets[strata as usize] as u32).collect(), offsets)
}

fn centers(strata: u64) -> Vec<Vec<f64>> {
    (0..strata).map(|h| (0..32).map(|j| uniform(key(2, &[h, j]))).collect()).collect()
}

fn deal(c: &mut Criterion) {
    let mut group = c.benchmark_group("deal");
    for (rows, count, base) in [(1 << 20, 50, 256), (1 << 20, 300, 256), (1 << 24, 300, 1024)] {
        let (members, offsets) = strata(rows, count);
        let merges = dendrogram(&centers(count), &vec![1; count as usize], None);
        let deal = Deal::new(RowIds::U32(&members), &offsets, base, 7, 1, &merges, false, None);
        let (mut batch, mut next) = (Batch::default(), 0);
        group.throughput(Throughput::Elements(base));
        group.bench_function(format!("N=2^{} B={base} S={count}", rows.ilog2()), |b| {
            b.iter(|| {
                next = (next + 1) % (deal.len() - 1);
                deal.batch(next, 1, &mut batch);
                black_box(&batch.rows);
            });
        });
    }
    group.finish();
}

/// Rows by stratum, some in long runs: a hash of the row's number.
struct Hashed(u64);

impl RowStrata for Hashed {
    fn read(&self, first: u64, into: &mut [u32]) {
        let of = |row: u64| {
            let source = key(5, &[row / 20_000, u64::from(uniform(key(6, &[row])) < 0.5) * row]);
            (self.0 as f64 * uniform(source).powi(2)) as u32
        };
        (first..).zip(into).for_each(|(row, to)| *to = of(row));
    }
}

/// An epoch in the local order, one thread: its batches counted, and its rows dealt.
fn local(c: &mut Criterion) {
    let mut group = c.benchmark_group("local");
    group.sample_size(10);
    let rows = 1 << 22;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    for (count, base) in [(50, 256), (300, 256), (300, 1024)] {
        let strata = Hashed(count);
        let (first, sizes) = units_of(&[(0, rows)], 4096, &[]);
        let groups: Vec<u32> = (0..count as u32).map(|h| h / 10).collect();
        let units = units::count(&first, &sizes, &groups, &strata);
        let merges = dendrogram(&centers(count), &vec![1; count as usize], None);
        let order = LocalOrder { units: &units, strata: &strata, streams: 16, window: 4 };
        let deal = || LocalDeal::new(order, count as usize, base, 7, 1, &merges, false);
        group.throughput(Throughput::Elements(rows));
        group.bench_function(format!("counts N=2^22 B={base} S={count}"), |b| {
            b.iter(|| pool.install(|| black_box(deal().evenness(&groups, 1))));
        });
        let mut batch = Batch::default();
        group.bench_function(format!("rows N=2^22 B={base} S={count}"), |b| {
            b.iter(|| {
                pool.install(|| {
                    let deal = deal();
                    for first in (0..deal.batches(1)).step_by(64) {
                        deal.run(first..(first + 64).min(deal.batches(1)), 1, &mut batch);
                        black_box(&batch.rows);
                    }
                });
            });
        });
    }
    group.finish();
}

fn score(c: &mut Criterion) {
    let score = Score::new(&[1000; 50], 0.5);
    let groups: Vec<usize> = (0..256u64).map(|i| (key(3, &[i]) % 50) as usize).collect();
    c.bench_function("score/B=256 M=50", |b| {
        b.iter(|| {
            let mut hist = [0u64; 50];
            black_box(&groups).iter().for_each(|&g| hist[g] += 1);
            score.n_eff(&hist)
        });
    });
}

fn linkage(c: &mut Criterion) {
    let mut group = c.benchmark_group("dendrogram");
    group.sample_size(10);
    for count in [300, 2000, 5000] {
        let centers = centers(count);
        group.bench_function(format!("S={count} d=32"), |b| {
            b.iter(|| dendrogram(black_box(&centers), &vec![1; count as usize], None));
        });
    }
    group.finish();
}

criterion_group!(benches, deal, local, score, linkage);
criterion_main!(benches);
