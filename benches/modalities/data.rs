//! Datasets with a known number of modes: files, and mixtures made by key.

use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use batchwright::matrix::Matrix;
use batchwright::rng::{key, normal, uniform};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Points, and every labelling there is.
pub type Loaded = (Matrix, Vec<Vec<u32>>);

pub struct Data {
    pub name: String,
    /// Whether its classes are modes, so that it belongs in the averages.
    pub counts: bool,
    make: Box<dyn Fn() -> Loaded>,
}

impl Data {
    pub fn load(&self) -> Loaded {
        (self.make)()
    }
}

/// The Parquet files below a directory, by name.
pub fn files(dir: &Path) -> Vec<Data> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        let entries =
            std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("cannot read {}: {e}", dir.display()));
        for path in entries.map(|e| e.expect("a directory entry").path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "parquet") {
                found.push(path);
            }
        }
    }
    found.sort();
    let name = |path: &PathBuf| path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
    let data = |path: PathBuf| Data {
        name: name(&path),
        counts: name(&path) != "packages",
        make: Box::new(move || read(&path)),
    };
    found.into_iter().map(data).collect()
}

fn read(path: &Path) -> Loaded {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("cannot open {}: {e}", path.display()));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.build());
    let batches: Vec<RecordBatch> = reader
        .unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
        .map(|b| b.expect("a record batch"))
        .collect();
    let mut numbers = Vec::new();
    let mut dims = 1;
    let schema = batches.first().expect("a dataset with rows").schema();
    let is_label = |name: &str| name.starts_with("label") || name == "section";
    let columns: Vec<usize> =
        (0..schema.fields().len()).filter(|&i| is_label(schema.field(i).name())).collect();
    let mut labels = vec![Vec::new(); columns.len()];
    for batch in &batches {
        let vectors = batch.column_by_name("embedding").expect("a column `embedding`").as_fixed_size_list();
        dims = vectors.value_length() as usize;
        numbers.extend_from_slice(vectors.values().as_primitive::<Float32Type>().values());
        for (out, &c) in labels.iter_mut().zip(&columns) {
            out.extend(texts(batch.column(c)));
        }
    }
    let points = Matrix::from_vec(numbers.len() / dims, dims, numbers);
    (points, labels.iter().map(|l| codes(l)).collect())
}

fn texts(column: &dyn Array) -> Vec<String> {
    match column.data_type() {
        DataType::Int32 => {
            column.as_primitive::<Int32Type>().values().iter().map(|v| v.to_string()).collect()
        }
        DataType::Int64 => column
            .as_primitive::<arrow_array::types::Int64Type>()
            .values()
            .iter()
            .map(|v| v.to_string())
            .collect(),
        _ => column.as_string::<i32>().iter().map(|v| v.unwrap_or("").to_string()).collect(),
    }
}

fn codes(values: &[String]) -> Vec<u32> {
    let mut distinct: Vec<&String> = values.iter().collect();
    distinct.sort();
    distinct.dedup();
    values.iter().map(|v| distinct.binary_search(&v).expect("it is one of them") as u32).collect()
}

fn made(name: String, make: impl Fn() -> Loaded + 'static) -> Data {
    Data { name, counts: true, make: Box::new(make) }
}

/// Number `j` of row `i` of the stream named by `words`.
fn gauss(words: [u64; 2], i: usize, j: usize) -> f64 {
    normal(key(words[0], &[words[1], i as u64, j as u64]))
}

fn unit(words: [u64; 2], i: usize, j: usize) -> f64 {
    uniform(key(words[0], &[words[1], i as u64, j as u64]))
}

/// `n` rows of unit Gaussians whose centres are at least `apart` from each other, shares 1 / rank^skew.
pub fn mixture(n: usize, dims: usize, k: usize, apart: f64, skew: f64) -> Loaded {
    // Centres on a sphere just large enough, tried again until they are apart.
    let mut centers: Vec<Vec<f64>> = Vec::new();
    let mut radius = apart;
    let mut tries = 0;
    while centers.len() < k {
        let c: Vec<f64> =
            (0..dims).map(|j| gauss([11, 1], tries, j) * radius / (dims as f64).sqrt()).collect();
        let near =
            |o: &Vec<f64>| o.iter().zip(&c).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() < apart * apart;
        if !centers.iter().any(near) {
            centers.push(c);
        }
        tries += 1;
        if tries % 200 == 0 {
            radius *= 1.1;
        }
    }
    let shares: Vec<f64> = (1..=k).map(|r| 1.0 / (r as f64).powf(skew)).collect();
    let total: f64 = shares.iter().sum();
    let mut label = Vec::with_capacity(n);
    let mut data = Vec::with_capacity(n * dims);
    for i in 0..n {
        let mut at = unit([11, 2], i, 0) * total;
        let m = shares
            .iter()
            .position(|s| {
                at -= s;
                at < 0.0
            })
            .unwrap_or(k - 1);
        label.push(m as u32);
        data.extend((0..dims).map(|j| (centers[m][j] + gauss([11, 3], i, j)) as f32));
    }
    (Matrix::from_vec(n, dims, data), vec![label])
}

/// Mixtures of Gaussians, 60 000 rows each: name, dims, modes, distance of the nearest centres in standard deviations.
pub fn mixtures() -> Vec<Data> {
    let cases = [
        (64, 5, 6.0, 0.0),
        (16, 50, 6.0, 1.0),
        (16, 20, 5.0, 0.0),
        (2, 8, 6.0, 0.0),
        (8, 30, 5.0, 0.7),
        (64, 200, 8.0, 0.0),
        (64, 200, 8.0, 1.0),
        (384, 100, 10.0, 0.5),
    ];
    let make = |(dims, k, apart, skew): (usize, usize, f64, f64)| {
        made(format!("gauss d={dims} M={k} apart={apart} skew={skew}"), move || {
            mixture(60_000, dims, k, apart, skew)
        })
    };
    cases.into_iter().map(make).collect()
}

/// The generators with a single mode.
pub const ONE: [&str; 8] = ["gaussian", "cube", "ball", "sphere", "t3", "exponential", "anisotropic", "vmf"];

/// 12 000 rows of one mode.
pub fn single(kind: &str, dims: usize) -> Loaded {
    let n = 12_000;
    let scaled = |v: Vec<f64>, radius: f64| {
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        v.into_iter().map(|x| x / norm * radius).collect::<Vec<_>>()
    };
    let row = |i: usize| -> Vec<f64> {
        let normal = |s: u64| (0..dims).map(move |j| gauss([13, s], i, j)).collect::<Vec<f64>>();
        let uniform = || (0..dims).map(|j| unit([13, 9], i, j)).collect::<Vec<f64>>();
        match kind {
            "gaussian" => normal(1),
            "cube" => uniform(),
            "ball" => scaled(normal(1), unit([13, 5], i, 0).powf(1.0 / dims as f64)),
            "sphere" => scaled(normal(1), 1.0),
            "t3" => {
                let chi: f64 = (0..3).map(|j| gauss([13, 4], i, j).powi(2)).sum();
                normal(1).into_iter().map(|x| x / (chi / 3.0).sqrt()).collect()
            }
            "exponential" => uniform().into_iter().map(|u| -(1.0 - u).ln()).collect(),
            "anisotropic" => normal(1).into_iter().enumerate().map(|(j, x)| x / (1.0 + j as f64)).collect(),
            "vmf" => {
                let mut v = normal(1);
                v[0] += 2.0 * (dims as f64).sqrt();
                scaled(v, 1.0)
            }
            other => panic!("no generator `{other}`"),
        }
    };
    let data = (0..n).flat_map(row).map(|x| x as f32).collect();
    (Matrix::from_vec(n, dims, data), vec![vec![0; n]])
}

pub fn one_mode() -> Vec<Data> {
    let dims = [2, 16, 64, 384];
    let cases = ONE.into_iter().flat_map(|kind| dims.map(|d| (kind, d)));
    cases.map(|(kind, d)| made(format!("{kind} d={d}"), move || single(kind, d))).collect()
}
