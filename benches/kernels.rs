//! The kernels alone, on one core where not said otherwise, on every kind of vectors that the machine has.
//! `cargo bench --no-default-features --bench kernels -- "nearest, avx2"`.

use std::hint::black_box;

use batchwright::kernels::nearest::Centers;
use batchwright::kernels::{Simd, description, eigen, knn, limit, project, sketches};
use batchwright::kit::matrix::Matrix;
use batchwright::kit::progress::Progress;
use batchwright::kit::rng::{key, uniform};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn points(n: usize, p: usize, seed: u64) -> Matrix {
    Matrix::from_vec(n, p, (0..n * p).map(|i| uniform(key(seed, &[i as u64])) as f32 - 0.5).collect())
}

/// Calls `bench` with every kind of vectors that the machine has, and its name.
fn each_width(c: &mut Criterion, bench: impl Fn(&mut Criterion, &str)) {
    let mut seen = Vec::new();
    for simd in Simd::ALL {
        limit(simd);
        if !seen.contains(&description()) {
            seen.push(description());
            bench(c, description());
        }
    }
    limit(Simd::Auto);
}

/// Rows assigned to the nearest of `k` centres; elements are multiply-adds.
fn nearest(c: &mut Criterion) {
    each_width(c, |c, width| {
        let mut group = c.benchmark_group(format!("nearest, {width}"));
        for (p, k) in [(2, 8), (8, 64), (64, 64), (64, 256), (64, 1024), (384, 64), (384, 256), (384, 1024)] {
            let n = (1 << 22) / p.max(64);
            let (rows, centers) = (points(n, p, 1), Centers::new(&points(k, p, 2)));
            let mut out = vec![0; n];
            group.throughput(Throughput::Elements((n * p * k) as u64));
            group.bench_function(BenchmarkId::from_parameter(format!("p {p}, k {k}")), |b| {
                b.iter(|| centers.nearest(black_box(rows.as_slice()), &mut out));
            });
        }
    });
}

/// All neighbours of 10 000 rows, on all cores.
fn neighbours(c: &mut Criterion) {
    each_width(c, |c, width| {
        let mut group = c.benchmark_group(format!("knn of 10 000, {width}"));
        group.sample_size(10);
        for (p, k) in [(8, 16), (64, 16), (64, 256), (128, 256)] {
            let rows = points(10_000, p, 1);
            group.bench_function(BenchmarkId::from_parameter(format!("p {p}, k {k}")), |b| {
                b.iter(|| knn::knn(black_box(&rows), k));
            });
        }
    });
}

fn projections(c: &mut Criterion) {
    each_width(c, |c, width| {
        let mut group = c.benchmark_group(format!("project, {width}"));
        for (d, p) in [(384, 8), (384, 64), (768, 128)] {
            let (rows, axes, mut out) = (points(4096, d, 1), points(p, d, 2), Matrix::zeros(4096, p));
            group.throughput(Throughput::Elements((4096 * d * p) as u64));
            group.bench_function(BenchmarkId::from_parameter(format!("d {d}, p {p}")), |b| {
                let offset = vec![0.0; p];
                b.iter(|| project::project(&axes, &offset, black_box(rows.as_slice()), out.as_mut_slice()));
            });
        }
    });
}

fn fits(c: &mut Criterion) {
    let mut group = c.benchmark_group("fit");
    group.sample_size(10);
    for d in [64, 384] {
        let rows = points(10_000, d, 1);
        let mean = eigen::mean(&rows);
        let progress = Progress::default();
        let covariance = eigen::covariance(&rows, &mean, &progress).expect("nobody stops it");
        group.bench_function(format!("covariance of 10 000 x {d}, all cores"), |b| {
            b.iter(|| eigen::covariance(black_box(&rows), &mean, &progress));
        });
        group.bench_function(format!("eigenvectors of {d} x {d}"), |b| {
            b.iter(|| eigen::symmetric(black_box(covariance.clone()), d, &progress));
        });
    }
}

fn cosines(c: &mut Criterion) {
    let x: Vec<f64> = (0..4096).map(|i| f64::from(i) * 0.37).collect();
    let mut y = x.clone();
    c.bench_function("4096 cosines", |b| {
        b.iter(|| {
            y.copy_from_slice(black_box(&x));
            sketches::cosines(&mut y);
        });
    });
}

criterion_group!(benches, nearest, neighbours, projections, fits, cosines);
criterion_main!(benches);
