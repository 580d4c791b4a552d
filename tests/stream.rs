//! Rows of a plan's batches, read in its order: every row once on any ranks, from any place, with the values of the files.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::*;
use batchwright::batches::batch_size::Candidates;
use batchwright::batches::locality::{Order, Params};
use batchwright::batches::number::Number;
use batchwright::config::{Config, Run};
use batchwright::kit::progress::Progress;
use batchwright::kit::rng::{key, normal};
use batchwright::modalities::EstimatorSpec;
use batchwright::pipeline;
use batchwright::plan::Plan;
use batchwright::plan::stream::{Batch, Nulls, Options, Values};
use batchwright::source::Dataset;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};

/// What row `i` holds, of all kinds of types.
fn rows(from: u64, to: u64) -> RecordBatch {
    let point = |i: u64| {
        let number = |j| Some((normal(key(2, &[i, j])) + 8.0 * normal(key(3, &[i * 5 / 6000, j]))) as f32);
        Some((0..3).map(number).collect::<Vec<_>>())
    };
    let double = |i: u64| (i % 9 != 4).then(|| vec![Some(i as f64), Some(-0.5 * i as f64)]);
    let text =
        |i: u64| (!i.is_multiple_of(7)).then(|| "x".repeat((key(4, &[i]) % 40) as usize) + &i.to_string());
    let list =
        |i: u64| (!i.is_multiple_of(6)).then(|| (0..i % 4).map(|x| Some((x + i) as i32)).collect::<Vec<_>>());
    let kinds: DictionaryArray<Int32Type> =
        (from..to).map(|i| Some(["a", "b", "rare"][(key(5, &[i]) % 3) as usize])).collect();
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        (
            "embedding",
            Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>((from..to).map(point))),
            false,
        ),
        ("number", Arc::new(UInt64Array::from_iter_values(from..to)), false),
        ("maybe", Arc::new(Int16Array::from_iter((from..to).map(|i| (i % 5 > 0).then_some(i as i16)))), true),
        ("truth", Arc::new(BooleanArray::from_iter((from..to).map(|i| Some(i % 3 == 0)))), false),
        (
            "doubles",
            Arc::new(FixedSizeListArray::from_iter_primitive::<types::Float64Type, _, _>(
                (from..to).map(double),
                2,
            )),
            true,
        ),
        ("text", Arc::new(StringArray::from_iter((from..to).map(text))), true),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>((from..to).map(list))), true),
        ("kind", Arc::new(kinds), false),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

struct World {
    dir: tempfile::TempDir,
    rows: u64,
}

impl World {
    /// Files of unequal length in row groups of `group` rows, pages of some rows, with and without compression.
    fn new(rows_in_all: u64, group: usize, compression: Compression) -> World {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let cuts = [0, rows_in_all / 5, rows_in_all / 2, rows_in_all];
        for (i, cut) in cuts.windows(2).enumerate() {
            let properties = WriterProperties::builder()
                .set_max_row_group_row_count(Some(group))
                .set_data_page_row_count_limit(50)
                .set_write_batch_size(50)
                .set_compression(compression)
                .build();
            let file = File::create(dir.path().join(format!("data/{i}.parquet"))).unwrap();
            let batch = rows(cut[0], cut[1]);
            let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        }
        World { dir, rows: rows_in_all }
    }

    fn data(&self) -> Vec<String> {
        vec![self.dir.path().join("data").to_str().unwrap().to_string()]
    }

    fn plan(&self, change: impl FnOnce(&mut Config)) -> Arc<Plan> {
        let mut config = Config::default();
        config.features.columns = vec!["embedding".into()];
        config.modalities.estimator = EstimatorSpec::Kmeans;
        config.modalities.count = Some(5);
        config.locality.kind = Order::Local;
        config.locality.window = Number::Fixed(2);
        config.locality.unit_rows = Number::Fixed(64);
        config.batch_size.size = Number::Fixed(32);
        config.batch_size.candidates = Candidates::List(vec![32, 64, 128]);
        change(&mut config);
        let out = self.dir.path().join(format!("plan-{:?}-{}", config.locality.kind, config.seed));
        let run = Run { out: out.clone(), threads: 2, ..Run::default() };
        if !out.exists() {
            pipeline::plan(&self.data(), &config, &run, &Progress::default()).unwrap();
        }
        Arc::new(Plan::open(out).unwrap())
    }

    fn open(&self) -> Dataset {
        Dataset::open(&self.data()).unwrap()
    }
}

fn options() -> Options {
    Options { epochs: Some(1), threads: 2, nulls: Nulls::Mask, ..Options::default() }
}

/// The cells of a batch against those of the files, bit for bit.
fn equal(batch: &Batch, columns: &[&str]) {
    let expected: Vec<RecordBatch> = batch.rows.iter().map(|&row| rows(row, row + 1)).collect();
    for (values, name) in batch.columns.iter().zip(columns) {
        let cell = |i: usize| expected[i].column_by_name(name).unwrap().clone();
        match values {
            Values::Arrow(array) => {
                assert_eq!(array.len(), batch.rows.len());
                for i in 0..array.len() {
                    let cell = match cell(i).data_type() {
                        arrow_schema::DataType::Dictionary(..) => {
                            arrow_cast::cast(&cell(i), array.data_type()).unwrap()
                        }
                        _ => cell(i),
                    };
                    assert_eq!(&array.slice(i, 1), &cell, "{name} of row {}", batch.rows[i]);
                }
            }
            Values::Numbers { bytes, valid } => {
                let width = bytes.as_bytes().len() / batch.rows.len();
                for (i, got) in bytes.as_bytes().chunks(width).enumerate() {
                    let cell = cell(i);
                    let there = valid.as_ref().is_none_or(|valid| valid.as_bytes()[i] == 1);
                    assert_eq!(there, cell.is_valid(0), "{name} of row {}", batch.rows[i]);
                    let number: Vec<u8> = match cell.data_type() {
                        _ if !there => vec![0; width],
                        arrow_schema::DataType::UInt64 => batch.rows[i].to_ne_bytes().to_vec(),
                        arrow_schema::DataType::Int16 => (batch.rows[i] as i16).to_ne_bytes().to_vec(),
                        arrow_schema::DataType::Boolean => vec![u8::from(batch.rows[i].is_multiple_of(3))],
                        arrow_schema::DataType::List(_) => cell
                            .as_list::<i32>()
                            .values()
                            .as_primitive::<Float32Type>()
                            .values()
                            .iter()
                            .flat_map(|x| x.to_ne_bytes())
                            .collect(),
                        _ => cell
                            .as_fixed_size_list()
                            .values()
                            .as_primitive::<types::Float64Type>()
                            .values()
                            .iter()
                            .flat_map(|x| x.to_ne_bytes())
                            .collect(),
                    };
                    assert_eq!(got, number, "{name} of row {}", batch.rows[i]);
                }
            }
        }
    }
}

const ALL: [&str; 8] = ["embedding", "number", "maybe", "truth", "doubles", "text", "list", "kind"];

/// Rows of the batches of one rank.
fn read(plan: &Arc<Plan>, data: &Dataset, options: &Options, k: u64) -> Vec<Batch> {
    let mut stream = plan.stream(data, options).unwrap();
    std::iter::from_fn(|| stream.next(k).unwrap()).collect()
}

#[test]
fn batches_hold_the_rows_of_the_plan_with_the_values_of_the_files() {
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
        let world = World::new(3000, 300, compression);
        for order in [Order::Local, Order::Global] {
            let (plan, data) = (world.plan(|c| c.locality = with(order, c)), world.open());
            let epochs = plan.epochs().unwrap();
            for epoch in [0, 1] {
                let dealt = epochs.epoch(epoch, 32);
                let got = read(&plan, &data, &Options { epoch, ..options() }, 1);
                assert_eq!(got.len() as u64, dealt.len());
                for (i, batch) in (0..).zip(&got) {
                    assert_eq!((batch.epoch, batch.first), (epoch, i));
                    assert_eq!(batch.rows, dealt.record(i).rows);
                    equal(batch, &ALL);
                }
            }
        }
    }
}

fn with(order: Order, config: &Config) -> Params {
    match order {
        Order::Local => config.locality.clone(),
        Order::Global => Default::default(),
    }
}

#[test]
fn ranks_divide_every_batch_and_resume_anywhere_on_other_ranks() {
    let world = World::new(3000, 300, Compression::UNCOMPRESSED);
    for order in [Order::Local, Order::Global] {
        let (plan, data) = (world.plan(|c| c.locality = with(order, c)), world.open());
        let epochs = plan.epochs().unwrap();
        // 1, then 4, then 2 ranks, from one epoch into the next.
        let mut seen: HashMap<u64, u32> = HashMap::new();
        let per_epoch = epochs.epoch(0, 32).len();
        let stretches = [(1, 0, 37), (4, 37, per_epoch + 11), (2, per_epoch + 11, 2 * per_epoch)];
        for (world_size, from, to) in stretches {
            for rank in 0..world_size {
                let (epoch, batch) = ((from / per_epoch) as u32, from % per_epoch);
                let columns = vec!["number".into(), "text".into()];
                let options = Options { rank, world_size, epoch, batch, epochs: None, columns, ..options() };
                let mut stream = plan.stream(&data, &options).unwrap();
                for at in from..to {
                    let got = stream.next(1).unwrap().unwrap();
                    let rows = epochs.epoch((at / per_epoch) as u32, 32).record(at % per_epoch).rows;
                    let n = rows.len() as u64;
                    let slice = (n * rank / world_size) as usize..(n * (rank + 1) / world_size) as usize;
                    assert_eq!(got.rows, rows[slice], "batch {at}, rank {rank} of {world_size}");
                    equal(&got, &["number", "text"]);
                    got.rows.iter().for_each(|&row| *seen.entry(row).or_default() += 1);
                }
            }
        }
        assert_eq!(seen.len() as u64, world.rows);
        assert!(seen.values().all(|&n| n == 2), "every row once an epoch");
    }
}

#[test]
fn larger_batches_are_unions() {
    let world = World::new(3000, 300, Compression::UNCOMPRESSED);
    for order in [Order::Local, Order::Global] {
        let (plan, data) = (world.plan(|c| c.locality = with(order, c)), world.open());
        let epochs = plan.epochs().unwrap();
        for (rank, world_size) in [(0, 1), (1, 2)] {
            for k in [2, 4] {
                let dealt = epochs.epoch(0, 32 * k);
                let got = read(&plan, &data, &Options { rank, world_size, ..options() }, k);
                assert_eq!(got.len() as u64, dealt.len());
                for (i, batch) in (0..).zip(&got) {
                    let rows = dealt.record(i).rows;
                    let n = rows.len() as u64;
                    let slice = (n * rank / world_size) as usize..(n * (rank + 1) / world_size) as usize;
                    assert_eq!(batch.rows, rows[slice]);
                    equal(batch, &ALL);
                }
            }
        }
    }
}

#[test]
fn threads_and_memory_change_nothing() {
    let world = World::new(3000, 300, Compression::SNAPPY);
    let (plan, data) = (world.plan(|_| ()), world.open());
    let rows = |threads, memory| -> Vec<Vec<u64>> {
        let options = Options { threads, memory, epochs: Some(3), ..options() };
        read(&plan, &data, &options, 1).into_iter().map(|batch| batch.rows).collect()
    };
    let expected = rows(1, None);
    assert_eq!(rows(7, None), expected);
    assert_eq!(rows(3, Some(1 << 30)), expected);
}

#[test]
fn what_cannot_be_right_is_refused() {
    let world = World::new(3000, 300, Compression::UNCOMPRESSED);
    let (plan, data) = (world.plan(|_| ()), world.open());
    let told = |error: batchwright::Error| format!("{error}; {}", error.help());
    let error = |options: &Options| told(plan.stream(&data, options).err().expect("it is refused"));
    assert!(error(&Options { world_size: 3, ..options() }).contains("3 ranks do not fit"));
    assert!(error(&Options { rank: 2, world_size: 2, ..options() }).contains("rank 2 of 2"));
    assert!(error(&Options { columns: vec!["numbr".into()], ..options() }).contains("numbr"));
    let small = error(&Options { memory: Some(1), ..options() });
    assert!(small.contains("1 B hold no round") && small.contains("; allow "), "{small}");
    let global = world.plan(|c| c.locality = Default::default());
    let small = told(global.stream(&data, &Options { memory: Some(1), ..options() }).err().unwrap());
    assert!(small.contains("--locality local") && small.contains("materialize"), "{small}");
    // Nulls among numbers.
    let columns = vec!["maybe".to_string()];
    let mut stream = plan.stream(&data, &Options { columns, nulls: Nulls::Error, ..options() }).unwrap();
    let error = told(stream.next(1).unwrap_err());
    assert!(error.contains("maybe") && error.contains("is null") && error.contains("mask"), "{error}");
    // Other data.
    let path = Path::new(&world.data()[0]).join("1.parquet");
    let file = File::create(path).unwrap();
    let batch = rows(600, 1500);
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let changed = told(plan.stream(&world.open(), &options()).err().unwrap());
    assert!(changed.contains("1.parquet"), "{changed}");
}

#[test]
fn damage_ends_the_stream_with_its_place() {
    let world = World::new(3000, 300, Compression::SNAPPY);
    let plan = world.plan(|_| ());
    let path = Path::new(&world.data()[0]).join("2.parquet");
    let mut bytes = std::fs::read(&path).unwrap();
    // The header of a page of vectors in a row group that is not the first of its file: without checksums numbers that change are
    // numbers.
    let footer = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    let start = footer.metadata().row_group(2).column(0).byte_range().0 as usize;
    bytes[start..start + 16].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let options = Options { columns: vec!["embedding".into(), "number".into()], ..options() };
    let mut stream = plan.stream(&world.open(), &options).unwrap();
    let mut seen = 0;
    let error = loop {
        match stream.next(1) {
            Ok(Some(batch)) => {
                equal(&batch, &["embedding", "number"]);
                seen += 1;
            }
            Ok(None) => panic!("{seen} batches of a damaged file"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("2.parquet") && error.contains("embedding"), "{error}");
    assert!(stream.next(1).unwrap().is_none(), "nothing comes after an error");
}
