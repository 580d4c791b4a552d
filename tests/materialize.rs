//! The copy of a plan's rows: all of them, in the order of the batches, bit for bit.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type, Int64Type};
use arrow_array::*;
use arrow_schema::DataType;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use batchwright::config::{Config, Run};
use batchwright::kit::ids::NONE;
use batchwright::kit::progress::Progress;
use batchwright::kit::rng;
use batchwright::pipeline::materialize::{self, Params, With};
use batchwright::pipeline::{self};
use batchwright::plan::Plan;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

/// Rows of all kinds of types: four blobs of vectors, and beside them what a copy must not change.
fn rows(from: u64, to: u64) -> RecordBatch {
    let point = |i: u64| {
        let blob = rng::key(1, &[i]) % 4;
        (0..3).map(move |j| {
            Some((8.0 * blob as f64 * (j % 2) as f64 + rng::normal(rng::key(2, &[i, j]))) as f32)
        })
    };
    let points: Vec<_> = (from..to).map(|i| Some(point(i).collect::<Vec<_>>())).collect();
    let mut words = ListBuilder::new(StringBuilder::new());
    for i in from..to {
        for w in 0..rng::key(3, &[i]) % 4 {
            words.values().append_option((w != 2).then(|| format!("word {i} {w}")));
        }
        words.append(i % 7 != 0);
    }
    // Not every NaN is the same.
    let nan = |i: u64| f32::from_bits(0x7fc0_0000 | (i as u32 & 0xffff));
    let odd: Float32Array =
        (from..to).map(|i| (i % 5 > 0).then(|| if i % 3 == 0 { nan(i) } else { -0.0 })).collect();
    let decimals = Decimal128Array::from_iter_values((from..to).map(|i| i128::from(i) << 70));
    let times = TimestampMicrosecondArray::from_iter_values((from..to).map(|i| i as i64 * 1_000_003));
    let kinds: DictionaryArray<Int32Type> =
        (from..to).map(|i| (i % 11 > 0).then(|| ["a", "b", "rare"][(i % 3) as usize])).collect();
    let views: StringViewArray =
        (from..to).map(|i| Some(format!("a text that is too long to stand in a view {i}"))).collect();
    let structs = StructArray::try_from(vec![(
        "x",
        Arc::new(BooleanArray::from_iter((from..to).map(|i| (i % 4 > 0).then_some(i % 2 == 0)))) as ArrayRef,
    )])
    .unwrap();
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("points", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(points)), false),
        ("words", Arc::new(words.finish()), true),
        ("odd", Arc::new(odd), true),
        ("decimals", Arc::new(decimals.with_precision_and_scale(38, 9).unwrap()), false),
        ("times", Arc::new(times.with_timezone("Europe/Berlin")), false),
        ("kinds", Arc::new(kinds), true),
        ("views", Arc::new(views), false),
        ("structs", Arc::new(structs), true),
        ("batch", Arc::new(UInt64Array::from_iter_values(from..to)), false),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

struct World {
    dir: tempfile::TempDir,
    all: RecordBatch,
}

const ROWS: u64 = 1_500;

impl World {
    /// Two files of small row groups, and a plan of them.
    fn new(set: impl Fn(&mut Config)) -> World {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let world = World { all: rows(0, ROWS), dir };
        for (name, from, to) in [("a", 0, 700), ("b", 700, ROWS)] {
            world.write(&format!("data/{name}.parquet"), &rows(from, to));
        }
        let mut config = Config::default();
        config.features.columns = vec!["points".into()];
        config.modalities.resolution = 400;
        config.batches.epochs = Some(2);
        set(&mut config);
        let run = Run { out: world.path("plan"), ..Run::default() };
        pipeline::plan(&world.data(), &config, &run, &Progress::default()).unwrap();
        world
    }

    fn write(&self, name: &str, batch: &RecordBatch) {
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(150)).build();
        let file = File::create(self.path(name)).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn data(&self) -> Vec<String> {
        vec![self.path("data").to_str().unwrap().into()]
    }

    fn copy(&self, out: &str, params: &Params, run: Run) -> batchwright::Result<materialize::Materialized> {
        let run = Run { out: self.path(out), ..run };
        materialize::materialize(&self.path("plan"), &self.data(), params, &run, &Progress::default(), || ())
    }

    fn plan(&self, name: &str) -> Plan {
        Plan::open(self.path(name)).unwrap()
    }

    /// Rows of an epoch, batch after batch, as the plan's own file lists them.
    fn order(&self, epoch: u32) -> Vec<Vec<u64>> {
        let plan = self.plan("plan");
        let written = plan.batches(plan.manifest().batch_size, epoch).unwrap().unwrap();
        (0..written.len()).map(|b| written.get(b).rows.iter().collect()).collect()
    }
}

/// All files of a copy in order, as one batch; rows of every row group.
fn read(dir: &Path) -> (RecordBatch, Vec<usize>) {
    let mut names: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    let (mut batches, mut groups) = (Vec::new(), Vec::new());
    for name in names {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(name).unwrap()).unwrap();
        groups.extend(reader.metadata().row_groups().iter().map(|g| g.num_rows() as usize));
        batches.extend(reader.build().unwrap().map(Result::unwrap));
    }
    (concat_batches(&batches[0].schema(), &batches).unwrap(), groups)
}

fn bytes(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap()).collect();
    all.sort_by_key(|e| e.file_name());
    all.iter().map(|e| (e.file_name().into(), fs::read(e.path()).unwrap())).collect()
}

fn numbers(batch: &RecordBatch, name: &str) -> Vec<i64> {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn a_copy_is_the_epoch_in_order_bit_for_bit() {
    let world = World::new(|c| c.batches.holdout = 0.1);
    for epoch in [0, 1] {
        let params = Params {
            epoch,
            file_bytes: 40_000,
            with: With::ALL.to_vec(),
            plan: Some(world.path("s.plan")),
            ..Params::default()
        };
        let run = Run { force: true, ..Run::default() };
        let done = world.copy("s", &params, run).unwrap();
        let order = world.order(epoch);
        let planned: Vec<u64> = order.concat();
        assert_eq!((done.rows, done.batches), (planned.len() as u64, order.len() as u64));
        assert_eq!(done.left_out, ROWS - done.rows);
        assert!(done.files > 3, "{done:?}");
        assert_eq!(
            done.added,
            ["batch_plan", "row", "modality", "stratum", "centrality"],
            "`batch` is taken"
        );

        let (copy, groups) = read(&world.path("s"));
        assert_eq!(numbers(&copy, "row"), planned.iter().map(|&r| r as i64).collect::<Vec<_>>());
        let batches = order.iter().zip(0i64..).flat_map(|(rows, b)| rows.iter().map(move |_| b));
        assert_eq!(numbers(&copy, "batch_plan"), batches.collect::<Vec<_>>());
        let size = done.batch_size as usize;
        let (last, full) = groups.split_last().unwrap();
        assert!(full.iter().all(|rows| rows % size == 0) && *last > 0, "whole batches: {groups:?}");

        let indices = UInt64Array::from(planned.clone());
        let want = take_record_batch(&world.all, &indices).unwrap();
        for (field, column) in want.schema().fields().iter().zip(want.columns()) {
            let found = copy.column_by_name(field.name()).unwrap();
            assert_eq!(found.data_type(), field.data_type(), "{}", field.name());
            assert_eq!(&found.to_data(), &column.to_data(), "{}", field.name());
        }
        let odd = |b: &RecordBatch| -> Vec<Option<u32>> {
            b.column_by_name("odd")
                .unwrap()
                .as_primitive::<Float32Type>()
                .iter()
                .map(|x| x.map(f32::to_bits))
                .collect()
        };
        assert_eq!(odd(&copy), odd(&want));

        let plan = world.plan("plan");
        let samples = plan.samples().unwrap();
        let ids = |of: &dyn Fn(u64) -> u32| planned.iter().map(|&r| i64::from(of(r))).collect::<Vec<_>>();
        assert_eq!(numbers(&copy, "modality"), ids(&|r| samples.modality(r)));
        assert_eq!(numbers(&copy, "stratum"), ids(&|r| samples.stratum(r)));

        // Its own plan: the same modalities and strata, every row once.
        let own = world.plan("s.plan");
        own.verify().unwrap();
        let mine = own.samples().unwrap();
        assert_eq!(own.manifest().batch_size, done.batch_size);
        assert_eq!((own.manifest().rows, own.manifest().rows_planned), (done.rows, done.rows));
        for (place, &row) in planned.iter().enumerate() {
            let (a, b) = (mine.modality(place as u64), samples.modality(row));
            assert!(a == b && a != NONE, "row {row}: {a}, {b}");
            assert_eq!(mine.stratum(place as u64), samples.stratum(row), "row {row}");
        }
        fs::remove_dir_all(world.path("s.plan")).unwrap();
    }
}

#[test]
fn a_copy_is_the_same_whatever_runs_it() {
    let world = World::new(|_| {});
    let params = Params { file_bytes: 30_000, ..Params::default() };
    let one = world.copy("one", &params, Run { threads: 1, ..Run::default() }).unwrap();
    // So little that rows go through working files.
    let small = Run { threads: 5, memory: 250_000, ..Run::default() };
    // The decimals, times and views of a row alone are 100 bytes; rows are held where they take a third of the memory.
    assert!(small.memory / 3 < one.rows * 100);
    world.copy("two", &params, small).unwrap();
    assert_eq!(bytes(&world.path("one")), bytes(&world.path("two")));
    let some = Params { columns: vec!["odd".into(), "points".into()], ..params };
    world.copy("three", &some, Run::default()).unwrap();
    let (copy, _) = read(&world.path("three"));
    let names: Vec<String> = copy.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["odd", "points", "batch", "row"]);
    // Of another size of batch.
    let plan = world.plan("plan");
    let size =
        plan.manifest().candidates.iter().map(|c| c.batch_size).find(|&b| b != one.batch_size).unwrap();
    let other =
        world.copy("four", &Params { batch_size: Some(size), ..Params::default() }, Run::default()).unwrap();
    assert_eq!(u64::from(size) * (other.batches - 1) / other.rows, 0);
}

#[test]
fn what_cannot_be_copied_is_named() {
    let world = World::new(|_| {});
    let says = |params: &Params, run: Run, words: &[&str]| {
        let error = world.copy("out", params, run).unwrap_err();
        let text = format!("{error} {}", error.help());
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert!(!world.path("out").exists());
    };
    let columns = |name: &str| Params { columns: vec![name.into()], ..Params::default() };
    says(&columns("point"), Run::default(), &["point", "did you mean `points`"]);
    says(&Params { batch_size: Some(77), ..Params::default() }, Run::default(), &["77", "candidate"]);
    says(&Params::default(), Run { memory: 10_000, ..Run::default() }, &["memory", "--memory"]);

    // A plan in the way of the copy's own is told before anything is copied.
    let in_the_way = Params { plan: Some(world.path("plan")), ..Params::default() };
    says(&in_the_way, Run::default(), &["is already a plan", "--force"]);

    // Over what is read, or over what is not a copy.
    let error = world.copy("data", &Params::default(), Run { force: true, ..Run::default() }).unwrap_err();
    assert!(error.to_string().contains("data"), "{error}");
    fs::create_dir(world.path("mine")).unwrap();
    fs::write(world.path("mine/notes.txt"), "mine").unwrap();
    let error = world.copy("mine", &Params::default(), Run { force: true, ..Run::default() }).unwrap_err();
    assert!(error.to_string().contains("notes.txt"), "{error}");

    // A file of another type, which a plan may have and a copy may not.
    let batch = rows(700, ROWS);
    let ids = arrow_cast::cast(batch.column_by_name("batch").unwrap(), &DataType::Int32).unwrap();
    let names = batch.schema();
    let changed = names.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let column = if field.name() == "batch" { ids.clone() } else { column.clone() };
        (field.name().clone(), column, field.is_nullable())
    });
    world.write("data/b.parquet", &RecordBatch::try_from_iter_with_nullable(changed).unwrap());
    says(&Params::default(), Run::default(), &["b.parquet", "batch", "Int32", "--columns"]);

    // A name that is there twice, which only a column that nobody uses may be.
    let odd = batch.column_by_name("odd").unwrap().clone();
    let columns = names
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(f, c)| (f.name().clone(), c.clone(), f.is_nullable()));
    let twice = columns.chain([("odd".to_string(), odd, true)]);
    world.write("data/b.parquet", &RecordBatch::try_from_iter_with_nullable(twice).unwrap());
    says(&Params::default(), Run::default(), &["b.parquet", "odd", "is there twice"]);

    // As many rows in the same row groups, and others.
    world.write("data/b.parquet", &rows(10_700, 10_000 + ROWS));
    says(&Params::default(), Run::default(), &["made from other data", "b.parquet has other contents"]);
    world.write("data/b.parquet", &rows(701, ROWS));
    says(&Params::default(), Run::default(), &["made from other data"]);
}
