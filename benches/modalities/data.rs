//! Datasets with a known number of modes: files, and mixtures made by key.

use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use batchwright::kit::matrix::Matrix;
use batchwright::kit::rng::{key, normal, uniform};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Points, and every labelling there is.
pub type Loaded = (Matrix, Vec<Vec<u32>>);

/// Makes the rows with these numbers.
type Take = Box<dyn Fn(&[u64]) -> Loaded>;

/// A dataset that rows can be taken from.
pub struct Opened {
    pub rows: u64,
    take: Take,
}

impl Opened {
    /// These rows; of a mixture no others are made.
    pub fn take(&self, rows: &[u64]) -> Loaded {
        (self.take)(rows)
    }

    fn whole((points, labellings): Loaded) -> Opened {
        let rows = points.rows() as u64;
        let take = move |rows: &[u64]| {
            let picked = |l: &Vec<u32>| rows.iter().map(|&r| l[r as usize]).collect();
            (points.gather(rows.iter().map(|&r| r as usize)), labellings.iter().map(picked).collect())
        };
        Opened { rows, take: Box::new(take) }
    }
}

pub struct Data {
    pub name: String,
    /// Whether its classes are modes, so that it belongs in the averages.
    pub counts: bool,
    open: Box<dyn Fn() -> Opened>,
}

impl Data {
    pub fn open(&self) -> Opened {
        (self.open)()
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
        open: Box::new(move || Opened::whole(read(&path))),
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

fn made(name: String, open: impl Fn() -> Opened + 'static) -> Data {
    Data { name, counts: true, open: Box::new(open) }
}

/// Number `j` of row `i` of the stream named by `words`.
fn gauss(words: [u64; 2], i: usize, j: usize) -> f64 {
    normal(key(words[0], &[words[1], i as u64, j as u64]))
}

fn unit(words: [u64; 2], i: usize, j: usize) -> f64 {
    uniform(key(words[0], &[words[1], i as u64, j as u64]))
}

/// Unit Gaussians whose centres are at least `apart` from each other, shares 1 / rank^skew; another `word`, other numbers.
#[derive(Clone, Copy, Debug)]
pub struct Mixture {
    pub word: u64,
    pub dims: usize,
    pub modes: usize,
    pub apart: f64,
    pub skew: f64,
}

impl Mixture {
    pub fn name(&self) -> String {
        format!("gauss d={} M={} apart={} skew={}", self.dims, self.modes, self.apart, self.skew)
    }

    pub fn shares(&self) -> Vec<f64> {
        let weights: Vec<f64> = (1..=self.modes).map(|r| 1.0 / (r as f64).powf(self.skew)).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / total).collect()
    }

    /// On a sphere just large enough, tried again until they are apart.
    fn centers(&self) -> Vec<Vec<f64>> {
        let mut centers: Vec<Vec<f64>> = Vec::new();
        let mut radius = self.apart;
        let mut tries = 0;
        while centers.len() < self.modes {
            let c: Vec<f64> = (0..self.dims)
                .map(|j| gauss([self.word, 1], tries, j) * radius / (self.dims as f64).sqrt())
                .collect();
            let near = |o: &Vec<f64>| {
                o.iter().zip(&c).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() < self.apart * self.apart
            };
            if !centers.iter().any(near) {
                centers.push(c);
            }
            tries += 1;
            if tries % 200 == 0 {
                radius *= 1.1;
            }
        }
        centers
    }

    pub fn open(self, rows: u64) -> Opened {
        let (centers, shares) = (self.centers(), self.shares());
        let take = move |rows: &[u64]| {
            let mut label = Vec::with_capacity(rows.len());
            let mut data = Vec::with_capacity(rows.len() * self.dims);
            for &row in rows {
                let i = row as usize;
                let mut at = unit([self.word, 2], i, 0);
                let passed = |s: &f64| {
                    at -= s;
                    at < 0.0
                };
                let m = shares.iter().position(passed).unwrap_or(self.modes - 1);
                label.push(m as u32);
                data.extend(
                    centers[m].iter().enumerate().map(|(j, c)| (c + gauss([self.word, 3], i, j)) as f32),
                );
            }
            (Matrix::from_vec(rows.len(), self.dims, data), vec![label])
        };
        Opened { rows, take: Box::new(take) }
    }
}

/// Mixtures of Gaussians, 60 000 rows each.
pub fn mixtures(word: u64) -> Vec<Data> {
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
    let make = |(dims, modes, apart, skew): (usize, usize, f64, f64)| {
        let mixture = Mixture { word, dims, modes, apart, skew };
        made(mixture.name(), move || mixture.open(60_000))
    };
    cases.into_iter().map(make).collect()
}

/// One mixture at several numbers of rows.
pub fn sizes(rows: &[u64]) -> Vec<Data> {
    let mixture = Mixture { word: 11, dims: 16, modes: 20, apart: 6.0, skew: 0.5 };
    let make = |&rows: &u64| made(format!("{} rows={rows}", mixture.name()), move || mixture.open(rows));
    rows.iter().map(make).collect()
}

/// Random mixtures whose number of modes is well defined at this resolution: nearest centres 4 to 8 standard deviations
/// apart (two unit Gaussians are two modes from 2 on), and 40 rows of the smallest in a block. 1 to 40 modes, 2 to 64
/// dimensions, skew 0 to 1, half to six times as many rows as a block has.
pub fn random(cases: u64, resolution: u32) -> Vec<Data> {
    let block = f64::from(resolution);
    let one = |case: u64| {
        let word = key(17, &[case]);
        let mut draws = 0;
        let mut draw = |low: f64, high: f64| {
            draws += 1;
            low + (high - low) * unit([word, 4], draws, 0)
        };
        loop {
            let dims = draw(1.0, 6.0).exp2().round() as usize;
            let modes = draw(0.0, 40f64.log2()).exp2().round() as usize;
            let (apart, skew) = (draw(4.0, 8.0), draw(0.0, 1.0));
            let rows = (block * draw(-1.0, 2.6).exp2()).round();
            let mixture = Mixture { word, dims, modes, apart, skew };
            let least = mixture.shares().into_iter().fold(1.0, f64::min);
            if least * rows.min(block) >= 40.0 {
                let name = format!("case {case} d={dims} apart={apart:.1} skew={skew:.1} rows={rows}");
                return made(name, move || mixture.open(rows as u64));
            }
        }
    };
    (0..cases).map(one).collect()
}

/// The generators with a single mode.
const ONE: [&str; 8] = ["gaussian", "cube", "ball", "sphere", "t3", "exponential", "anisotropic", "vmf"];
/// The same, whose columns are heavy-tailed one by one (one mode with arms along the axes), near copies, and no continuum.
const ARMS: [&str; 3] = ["laplace", "t3 columns", "log-normal"];
const ODD: [&str; 3] = ["near copies", "binary", "one-hot"];

/// `n` rows of one mode.
fn single(kind: &str, dims: usize, n: usize) -> Loaded {
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
            "laplace" => {
                let signed = |u: f64| -(1.0 - 2.0 * (u - 0.5).abs()).ln() * (u - 0.5).signum();
                uniform().into_iter().map(signed).collect()
            }
            "t3 columns" => {
                let chi = |j| (0..3).map(|s| gauss([13, 20 + s], i, j).powi(2)).sum::<f64>() / 3.0;
                normal(1).into_iter().enumerate().map(|(j, x)| x / chi(j).sqrt()).collect()
            }
            "log-normal" => normal(1).into_iter().map(f64::exp).collect(),
            // Ten of each row.
            "near copies" => {
                (0..dims).map(|j| gauss([13, 1], i / 10, j) + 0.01 * gauss([13, 2], i, j)).collect()
            }
            "binary" => uniform().into_iter().map(|u| f64::from(u8::from(u < 0.5))).collect(),
            "one-hot" => {
                let hot = (unit([13, 9], i, 0) * dims as f64) as usize;
                (0..dims).map(|j| f64::from(u8::from(j == hot))).collect()
            }
            other => panic!("no generator `{other}`"),
        }
    };
    let data = (0..n).flat_map(row).map(|x| x as f32).collect();
    (Matrix::from_vec(n, dims, data), vec![vec![0; n]])
}

/// Data with a single mode, of so many rows each.
pub fn one_mode(rows: usize) -> Vec<Data> {
    let dims = [2, 16, 64, 384, 768];
    let cases = ONE.into_iter().flat_map(|kind| dims.map(|d| (kind, d)));
    let arms = ARMS.into_iter().flat_map(|kind| [8, 16, 64].map(|d| (kind, d)));
    let odd = ODD.into_iter().flat_map(|kind| [16, 64].map(|d| (kind, d)));
    let few = made("gaussian d=16 rows=64".into(), || Opened::whole(single("gaussian", 16, 64)));
    let make = |(kind, d)| made(format!("{kind} d={d}"), move || Opened::whole(single(kind, d, rows)));
    cases.chain(arms).chain(odd).map(make).chain([few]).collect()
}
