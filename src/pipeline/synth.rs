//! Synthetic data with known modalities, to try batchwright with and to measure it on.
//!
//! A Gaussian mixture ([`Mixture`]): modality m has a Zipf share proportional to 1 / (m + 1)^skew and a centre in a
//! latent space of at most 16 dimensions, in which it is round with standard deviation 1. The latent space is turned
//! into the `dims` dimensions of the embedding and a little noise is added to each number. All centres are scaled so
//! that the two nearest are `separation` apart.
//!
//! Every number is looked up by its row, so rows are made in any order on any number of threads with the same bytes.
//! [`write`] makes several row groups at a time and appends them in order.
//!
//! ```
//! use batchwright::pipeline::synth::{Mixture, Params};
//! let mixture = Mixture::new(&Params { rows: 10, dims: 3, modalities: 2, ..Params::default() }).unwrap();
//! let mut embedding = [0.0; 3];
//! let row = mixture.row(7, &mut embedding);
//! assert!(row.modality < 2);
//! ```

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Float16Type;
use arrow_array::{
    ArrayRef, FixedSizeListArray, Float32Array, Float64Array, Int32Array, Int64Array, PrimitiveArray,
    StringArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;
use serde::Deserialize;

use crate::kit::error::{Error, Result};
use crate::kit::output::{Output, Replace};
use crate::kit::progress::Progress;
use crate::kit::rng::{Stream, mix64, normal, uniform};
use crate::parts::Local;

/// What to make.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    pub rows: u64,
    /// Numbers in an embedding.
    pub dims: usize,
    /// 1 to 10 000.
    pub modalities: u32,
    /// Zipf exponent of the shares, at least 0 (all equal).
    pub skew: f64,
    /// Distance of the two nearest centres, in standard deviations of a modality along one latent direction.
    pub separation: f64,
    pub seed: u64,
    /// Rows of a row group.
    pub row_group: usize,
    pub element: Element,
    pub compression: Compression,
    /// More than one: the output is a directory of `part-00000.parquet`, ...
    pub files: usize,
    /// Whether there is a column `label`.
    pub label: bool,
}

impl Default for Params {
    fn default() -> Self {
        Params {
            rows: 100_000,
            dims: 64,
            modalities: 20,
            skew: 1.0,
            separation: 6.0,
            seed: 0,
            row_group: 65_536,
            element: Element::F32,
            compression: Compression::None,
            files: 1,
            label: false,
        }
    }
}

/// Type of an embedding's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Element {
    F16,
    #[default]
    F32,
    F64,
}

/// How column chunks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Compression {
    #[default]
    None,
    Snappy,
    Zstd,
}

/// Most latent dimensions.
const LATENT: usize = 16;
/// Standard deviation of what is added to every number of an embedding.
const NOISE: f32 = 0.1;
const CLASSES: u32 = 10;

// Second words of the keys of a row.
const OF_MODALITY: u64 = 0;
const OF_VALUE: u64 = 1;
const OF_LABEL: u64 = 2;
const OF_NOISE: u64 = 3;
const OF_LATENT: u64 = 16;
// First words of the keys of the mixture, above any row number.
const AXES: u64 = 1 << 60;
const CENTERS: u64 = 2 << 60;

/// The distribution that rows are drawn from.
#[derive(Clone, Debug)]
pub struct Mixture {
    seed: u64,
    dims: usize,
    /// Cumulative shares, the last one is 1.
    cumulative: Vec<f64>,
    /// `latent x dims`, orthonormal rows.
    axes: Vec<f32>,
    latent: usize,
    /// `modalities x dims`.
    centers: Vec<f32>,
}

/// The parts of a row that are not its embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub modality: u32,
    /// 0 to 9: modality modulo 10, for a tenth of the rows any other class.
    pub label: i32,
    /// Normal with deviation 1 around modality modulo 7.
    pub value: f64,
}

impl Mixture {
    /// O(modalities^2 + dims x 16^2).
    pub fn new(params: &Params) -> Result<Mixture> {
        let Params { dims, modalities, skew, separation, seed, .. } = *params;
        let config = |flag: &str, value: String, expected: &str| {
            Err(Error::config(flag, format!("is {value}, expected {expected}"), ""))
        };
        match params {
            p if p.rows == 0 || p.rows > 1 << 40 => return config("--rows", p.rows.to_string(), "1 to 2^40"),
            p if p.dims == 0 || p.dims > 65_536 => return config("--dims", p.dims.to_string(), "1 to 65536"),
            p if p.modalities == 0 || p.modalities > 10_000 => {
                return config("--modalities", p.modalities.to_string(), "1 to 10000");
            }
            p if u64::from(p.modalities) > p.rows => {
                let most = format!("at most one a row: {}", p.rows);
                return config("--modalities", p.modalities.to_string(), &most);
            }
            p if !(0.0..=10.0).contains(&p.skew) => return config("--skew", p.skew.to_string(), "0 to 10"),
            p if !(0.0..=1e6).contains(&p.separation) => {
                return config("--separation", p.separation.to_string(), "0 to 1000000");
            }
            p if p.row_group == 0 || p.row_group.saturating_mul(p.dims) > i32::MAX as usize => {
                let most = i32::MAX as usize / p.dims;
                return config(
                    "--row-group",
                    p.row_group.to_string(),
                    &format!("1 to {most} at this --dims"),
                );
            }
            p if p.files == 0 || p.files > 100_000 || p.files as u64 > p.rows => {
                return config("--files", p.files.to_string(), "1 to 100000, at most one a row");
            }
            _ => {}
        }
        let latent = dims.min(LATENT);
        let axes = orthonormal(latent, dims, seed);
        let places = places(modalities, latent, separation, seed);
        let mut centers = vec![0.0f32; modalities as usize * dims];
        for (center, place) in centers.chunks_exact_mut(dims).zip(places.chunks_exact(latent)) {
            for (j, x) in center.iter_mut().enumerate() {
                *x = (0..latent).map(|a| place[a] * axes[a * dims + j]).sum::<f64>() as f32;
            }
        }
        let mut cumulative: Vec<f64> = Vec::with_capacity(modalities as usize);
        let mut sum = 0.0;
        for m in 0..modalities {
            sum += libm::pow(f64::from(m + 1), -skew);
            cumulative.push(sum);
        }
        cumulative.iter_mut().for_each(|c| *c /= sum);
        let axes = axes.iter().map(|&x| x as f32).collect();
        Ok(Mixture { seed, dims, cumulative, axes, latent, centers })
    }

    fn key(&self, row: u64, word: u64) -> u64 {
        Stream::Synth.key(self.seed, &[row, word])
    }

    /// Writes the embedding of a row (`dims` numbers) and returns the rest of it. O(16 x dims).
    pub fn row(&self, row: u64, embedding: &mut [f32]) -> Row {
        let rest = self.rest(row);
        let m = rest.modality as usize;
        let noise = self.key(row, OF_NOISE);
        let center = &self.centers[m * self.dims..(m + 1) * self.dims];
        for (t, (x, c)) in embedding.iter_mut().zip(center).enumerate() {
            *x = c + NOISE * nearly_normal(mix64(noise.wrapping_add(t as u64)));
        }
        for (a, axis) in self.axes.chunks_exact(self.dims).enumerate() {
            let z = normal(self.key(row, OF_LATENT + a as u64)) as f32;
            for (x, v) in embedding.iter_mut().zip(axis) {
                *x += z * v;
            }
        }
        debug_assert_eq!(self.axes.len(), self.latent * self.dims);
        rest
    }

    /// A row without its embedding.
    fn rest(&self, row: u64) -> Row {
        let u = uniform(self.key(row, OF_MODALITY));
        let modality = self.cumulative.partition_point(|&c| c <= u).min(self.cumulative.len() - 1) as u32;
        let of_label = self.key(row, OF_LABEL);
        let shift = if of_label.is_multiple_of(10) { 1 + (of_label >> 32) as u32 % (CLASSES - 1) } else { 0 };
        Row {
            modality,
            label: ((modality + shift) % CLASSES) as i32,
            value: f64::from(modality % 7) + normal(self.key(row, OF_VALUE)),
        }
    }
}

/// Irwin-Hall: the sum of four 16-bit lanes of one key, standardised. Within +-3.46 and a little flatter than a normal;
/// an order of magnitude faster than Box-Muller, and good enough for noise.
#[inline]
fn nearly_normal(key: u64) -> f32 {
    let sum = (key & 0xFFFF) + (key >> 16 & 0xFFFF) + (key >> 32 & 0xFFFF) + (key >> 48);
    // Mean 2 x 65535; variance 4 (65536^2 - 1) / 12 = 37837^2.
    (sum as i64 - 131_070) as f32 * (1.0 / 37_837.227)
}

/// `latent` orthonormal rows of `dims` numbers: keyed normals after Gram-Schmidt, twice for accuracy.
fn orthonormal(latent: usize, dims: usize, seed: u64) -> Vec<f64> {
    let mut axes: Vec<f64> = Vec::with_capacity(latent * dims);
    for a in 0..latent as u64 {
        let mut v: Vec<f64> =
            (0..dims as u64).map(|t| normal(Stream::Synth.key(seed, &[AXES, a, t]))).collect();
        for _ in 0..2 {
            for u in axes.chunks_exact(dims) {
                let dot: f64 = u.iter().zip(&v).map(|(a, b)| a * b).sum();
                v.iter_mut().zip(u).for_each(|(x, y)| *x -= dot * y);
            }
        }
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        axes.extend(v.iter().map(|x| x / norm));
    }
    axes
}

/// Latent centres: keyed normals, scaled so that the two nearest are `separation` apart.
fn places(modalities: u32, latent: usize, separation: f64, seed: u64) -> Vec<f64> {
    let (m, q) = (u64::from(modalities), latent as u64);
    let mut places: Vec<f64> =
        (0..m * q).map(|i| normal(Stream::Synth.key(seed, &[CENTERS, i / q, i % q]))).collect();
    let place = |i: usize| &places[i * latent..(i + 1) * latent];
    let nearest = (0..m as usize)
        .flat_map(|i| (0..i).map(move |j| (i, j)))
        .map(|(i, j)| place(i).iter().zip(place(j)).map(|(a, b)| (a - b) * (a - b)).sum::<f64>())
        .fold(f64::INFINITY, f64::min)
        .sqrt();
    let scale = if nearest.is_finite() { separation / nearest } else { 1.0 };
    places.iter_mut().for_each(|x| *x *= scale);
    places
}

/// Writes the dataset to `out` and returns its size in bytes. It is written beside and renamed, so a killed run leaves
/// no half of it under that name. `threads` = 0: one per core. Memory: about 1 GiB, or 3 row groups if that is more.
pub fn write(params: &Params, out: &Path, force: bool, threads: usize, progress: &Progress) -> Result<u64> {
    let mixture = Mixture::new(params)?;
    let replace = if force { Replace::Any { own: &is_part } } else { Replace::Nothing };
    let begin = if params.files > 1 { Output::directory } else { Output::file };
    let output = begin("--out", out, replace, &[])?;
    Local::scope(threads, progress, |engine| {
        let stage = progress.stage("making data", "rows", params.rows);
        let mut bytes = 0;
        for file in 0..params.files as u64 {
            let path = match params.files {
                1 => output.path().to_path_buf(),
                _ => output.path().join(format!("part-{file:05}.parquet")),
            };
            let bound = |f: u64| (u128::from(params.rows) * u128::from(f) / params.files as u128) as u64;
            bytes += write_file(params, &mixture, &path, bound(file)..bound(file + 1), engine, |n| {
                stage.advance(n)
            })?;
        }
        output.commit()?;
        Ok(bytes)
    })
}

/// Is it called like a file of a dataset in several files?
fn is_part(name: &str) -> bool {
    name.starts_with("part-") && name.ends_with(".parquet")
}

fn write_file(
    params: &Params,
    mixture: &Mixture,
    path: &Path,
    rows: std::ops::Range<u64>,
    engine: &Local,
    mut made: impl FnMut(u64) -> Result<()>,
) -> Result<u64> {
    let failed = |e: ParquetError| Error::io("write", path)(system_said(e));
    let schema = schema(params);
    let file = File::create(path).map_err(Error::io("create", path))?;
    let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties(params))).map_err(failed)?;
    let (mut writer, factory) = writer.into_serialized_writer().map_err(failed)?;
    let groups: Vec<(usize, u64)> = rows.clone().step_by(params.row_group).enumerate().collect();
    // A row group is there as numbers, as an array and encoded.
    let together = ((1 << 30) / (3 * params.row_group * params.dims * 4)).clamp(1, engine.threads());
    for wave in groups.chunks(together) {
        let encode = |&(group, first): &(usize, u64)| {
            let rows = first..rows.end.min(first + params.row_group as u64);
            encode(&schema, &columns(params, mixture, rows), &factory, group).map_err(failed)
        };
        let encoded: Vec<Result<Vec<ArrowColumnChunk>>> = wave.par_iter().map(encode).collect();
        for (chunks, &(_, first)) in encoded.into_iter().zip(wave) {
            let mut group = writer.next_row_group().map_err(failed)?;
            for chunk in chunks? {
                chunk.append_to_row_group(&mut group).map_err(failed)?;
            }
            group.close().map_err(failed)?;
            made((rows.end - first).min(params.row_group as u64))?;
        }
    }
    writer.close().map_err(failed)?;
    Ok(fs::metadata(path).map_err(Error::io("read", path))?.len())
}

/// The Parquet library wraps what the system said, for example that the disk is full.
pub(crate) fn system_said(e: ParquetError) -> std::io::Error {
    match e {
        ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(said) => *said,
            Err(cause) => std::io::Error::other(cause),
        },
        other => std::io::Error::other(other),
    }
}

fn encode(
    schema: &SchemaRef,
    columns: &[ArrayRef],
    factory: &ArrowRowGroupWriterFactory,
    group: usize,
) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
    let writers = factory.create_column_writers(group)?;
    // Every column here has one leaf.
    (writers.into_iter().zip(schema.fields()).zip(columns))
        .map(|((mut writer, field), array)| {
            for leaf in compute_leaves(field, array)? {
                writer.write(&leaf)?;
            }
            writer.close()
        })
        .collect()
}

fn schema(params: &Params) -> SchemaRef {
    let number = match params.element {
        Element::F16 => DataType::Float16,
        Element::F32 => DataType::Float32,
        Element::F64 => DataType::Float64,
    };
    let mut fields =
        vec![Field::new("id", DataType::Int64, false), Field::new("kind", DataType::Utf8, false)];
    if params.label {
        fields.push(Field::new("label", DataType::Int32, false));
    }
    fields.push(Field::new("value", DataType::Float64, false));
    let item = Arc::new(Field::new("element", number, false));
    fields.push(Field::new("embedding", DataType::FixedSizeList(item, params.dims as i32), false));
    Arc::new(Schema::new(fields))
}

/// Random numbers neither repeat nor have useful minima: no dictionary and no statistics for the embedding.
fn properties(params: &Params) -> WriterProperties {
    let embedding = ColumnPath::new(["embedding", "list", "element"].map(String::from).to_vec());
    WriterProperties::builder()
        .set_compression(match params.compression {
            Compression::None => basic::Compression::UNCOMPRESSED,
            Compression::Snappy => basic::Compression::SNAPPY,
            Compression::Zstd => basic::Compression::ZSTD(Default::default()),
        })
        .set_max_row_group_row_count(Some(params.row_group))
        .set_column_dictionary_enabled(embedding.clone(), false)
        .set_column_statistics_enabled(embedding, EnabledStatistics::None)
        .build()
}

fn columns(params: &Params, mixture: &Mixture, rows: std::ops::Range<u64>) -> Vec<ArrayRef> {
    let n = (rows.end - rows.start) as usize;
    let mut numbers = vec![0.0f32; n * params.dims];
    let rest: Vec<Row> = numbers
        .par_chunks_exact_mut(params.dims)
        .with_min_len(256)
        .enumerate()
        .map(|(i, embedding)| mixture.row(rows.start + i as u64, embedding))
        .collect();
    let width = (params.modalities - 1).to_string().len().max(2);
    let names: Vec<String> = (0..params.modalities).map(|m| format!("kind-{m:0width$}")).collect();
    let ids = rows.map(|row| row as i64);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids)),
        Arc::new(StringArray::from_iter_values(rest.iter().map(|r| &names[r.modality as usize]))),
    ];
    if params.label {
        columns.push(Arc::new(Int32Array::from_iter_values(rest.iter().map(|r| r.label))));
    }
    columns.push(Arc::new(Float64Array::from_iter_values(rest.iter().map(|r| r.value))));
    let (numbers, item): (ArrayRef, DataType) = match params.element {
        Element::F32 => (Arc::new(Float32Array::from(numbers)), DataType::Float32),
        Element::F64 => {
            (Arc::new(Float64Array::from_iter_values(numbers.iter().map(|&x| x.into()))), DataType::Float64)
        }
        Element::F16 => {
            let halves = numbers.iter().map(|&x| f16::from_f32(x));
            (Arc::new(PrimitiveArray::<Float16Type>::from_iter_values(halves)), DataType::Float16)
        }
    };
    let item = Arc::new(Field::new("element", item, false));
    columns.push(Arc::new(FixedSizeListArray::new(item, params.dims as i32, numbers, None)));
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixture(params: Params) -> (Mixture, Vec<Row>, Vec<Vec<f32>>) {
        let mixture = Mixture::new(&params).unwrap();
        let mut points = vec![vec![0.0; params.dims]; params.rows as usize];
        let rows = points.iter_mut().zip(0..).map(|(p, i)| mixture.row(i, p)).collect();
        (mixture, rows, points)
    }

    #[test]
    fn shares_follow_zipf() {
        let params = Params { rows: 20_000, dims: 1, modalities: 5, skew: 1.2, ..Params::default() };
        let (_, rows, _) = mixture(params.clone());
        let weights: Vec<f64> = (1..=5).map(|i| f64::from(i).powf(-1.2)).collect();
        let all: f64 = weights.iter().sum();
        for (m, w) in weights.iter().enumerate() {
            let share = rows.iter().filter(|r| r.modality == m as u32).count() as f64 / params.rows as f64;
            assert!((share - w / all).abs() < 0.015, "modality {m}: {share} for {}", w / all);
        }
    }

    #[test]
    fn modalities_are_round_and_apart() {
        let params = Params { rows: 4000, dims: 40, modalities: 6, skew: 0.0, ..Params::default() };
        let (mixture, rows, points) = mixture(params.clone());
        let distance = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>().sqrt()
        };
        let center = |m: usize| &mixture.centers[m * 40..(m + 1) * 40];
        let nearest =
            (0..6).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| distance(center(i), center(j)));
        assert!((nearest.fold(f64::INFINITY, f64::min) - 6.0).abs() < 1e-3);
        // Mean squared radius: 16 latent directions of variance 1 and 40 of noise 0.01.
        let radius: f64 = rows
            .iter()
            .zip(&points)
            .map(|(r, p)| distance(p, center(r.modality as usize)).powi(2))
            .sum::<f64>();
        assert!((radius / 4000.0 - 16.4).abs() < 0.4, "{}", radius / 4000.0);
        assert!(rows.iter().filter(|r| r.label as u32 != r.modality).count().abs_diff(400) < 80);
    }

    #[test]
    fn the_fast_normal_is_standard() {
        let draws: Vec<f64> = (0..20_000).map(|i| f64::from(nearly_normal(mix64(i)))).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
    }

    #[test]
    fn values_stay() {
        // Benchmarks and fixtures rely on these bytes.
        let (_, rows, points) = mixture(Params { rows: 3, dims: 2, modalities: 3, ..Params::default() });
        let seen: Vec<(u32, i32, u32)> =
            rows.iter().zip(&points).map(|(r, p)| (r.modality, r.label, p[0].to_bits())).collect();
        assert_eq!(seen[..2], [(0, 0, 1_089_494_044), (2, 2, 1_074_546_624)]);
    }
}
