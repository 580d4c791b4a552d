//! The copy of a plan's rows: all of them, in the order of the batches, bit for bit.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type, Int64Type};
use arrow_array::*;
use arrow_ipc::reader::FileReader;
use arrow_schema::DataType;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use batchwright::config::{Config, Run};
use batchwright::kit::ids::NONE;
use batchwright::kit::progress::Progress;
use batchwright::kit::rng;
use batchwright::pipeline::materialize::{self, Format, Params, With};
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

/// The record batches of all Arrow files in order, and what the first file says of itself.
fn read_arrow(dir: &Path) -> (Vec<RecordBatch>, std::collections::BTreeMap<String, String>) {
    let mut names: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    let readers = names.iter().map(|name| FileReader::try_new(File::open(name).unwrap(), None).unwrap());
    let readers: Vec<_> = readers.collect();
    let said = readers[0].schema().metadata().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    (readers.into_iter().flatten().map(Result::unwrap).collect(), said)
}

#[test]
fn an_arrow_copy_has_the_rows_and_batches_of_a_parquet_copy() {
    let world = World::new(|_| {});
    let params = Params { file_bytes: 40_000, with: With::ALL.to_vec(), ..Params::default() };
    let parquet = world.copy("parquet", &params, Run::default()).unwrap();
    let params = Params { format: Format::Arrow, plan: Some(world.path("a.plan")), ..params };
    let arrow = world.copy("arrow", &params, Run { threads: 1, ..Run::default() }).unwrap();
    assert_eq!((arrow.rows, arrow.files, &arrow.added), (parquet.rows, parquet.files, &parquet.added));
    assert!(arrow.no_plan.unwrap().contains("Parquet") && !world.path("a.plan").exists());

    let (want, groups) = read(&world.path("parquet"));
    let (found, said) = read_arrow(&world.path("arrow"));
    assert_eq!(found.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), groups);
    let mut at = 0;
    for batch in found {
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let want = want.column_by_name(field.name()).unwrap().slice(at, batch.num_rows());
            assert_eq!(column.data_type(), want.data_type(), "{}", field.name());
            assert_eq!(column.to_data(), want.to_data(), "{}", field.name());
        }
        at += batch.num_rows();
    }
    assert_eq!(at as u64, parquet.rows);
    let plan = world.plan("plan").manifest().plan.clone();
    assert_eq!((&said["batchwright.plan"], said["batchwright.epoch"].as_str()), (&plan, "0"));

    // Through working files, on other threads: dictionaries and texts come together otherwise.
    let small = Run { threads: 5, memory: 250_000, ..Run::default() };
    world.copy("again", &params, small).unwrap();
    assert_eq!(bytes(&world.path("arrow")), bytes(&world.path("again")));

    // One kind of copy replaces another.
    let force = Run { force: true, ..Run::default() };
    world.copy("again", &Params { format: Format::Parquet, ..params }, force).unwrap();
    assert!(fs::read_dir(world.path("again")).unwrap().count() as u64 == parquet.files);
}

/// dtype, shape and bytes of an array, by the format's own description (NEP 1).
fn array(path: &Path) -> (String, Vec<usize>, Vec<u8>) {
    let all = fs::read(path).unwrap();
    assert_eq!(&all[..8], b"\x93NUMPY\x01\x00");
    let begin = 10 + usize::from(u16::from_le_bytes([all[8], all[9]]));
    assert!(begin.is_multiple_of(64) && all[begin - 1] == b'\n');
    let said = std::str::from_utf8(&all[10..begin]).unwrap();
    let between =
        |from: &str, to: &str| said.split_once(from).unwrap().1.split_once(to).unwrap().0.to_string();
    assert_eq!(between("'fortran_order': ", ","), "False");
    let shape = between("(", ")").split(',').filter_map(|n| n.trim().parse().ok()).collect();
    (between("'descr': '", "'"), shape, all[begin..].to_vec())
}

#[test]
fn arrays_hold_the_rows_of_the_copy() {
    let world = World::new(|c| c.batches.holdout = 0.1);
    let columns = ["views", "points", "batch"].map(String::from).to_vec();
    let params = Params { file_bytes: 40_000, columns, with: vec![With::Stratum], ..Params::default() };
    let parquet = world.copy("parquet", &params, Run::default()).unwrap();
    let params = Params { format: Format::Npy, plan: Some(world.path("n.plan")), ..params };
    let npy = world.copy("npy", &params, Run { threads: 1, ..Run::default() }).unwrap();
    let rows = parquet.rows as usize;
    assert_eq!((npy.rows as usize, &npy.added), (rows, &parquet.added));
    assert!(npy.no_plan.unwrap().contains("Parquet") && !world.path("n.plan").exists());
    let names: Vec<PathBuf> = bytes(&world.path("npy")).into_iter().map(|f| f.0).collect();
    let all =
        ["batch", "batch_plan", "copy.json", "points", "row", "stratum", "views.bytes", "views.offsets"];
    let all =
        all.map(|name| PathBuf::from(if name == "copy.json" { name.into() } else { format!("{name}.npy") }));
    assert_eq!(names, all);
    assert_eq!(npy.files as usize, names.len());

    let (want, _) = read(&world.path("parquet"));
    let of = |name: &str| array(&world.path(&format!("npy/{name}.npy")));
    let (dtype, shape, numbers) = of("points");
    assert_eq!((dtype.as_str(), shape), ("<f4", vec![rows, 3]));
    let points = want.column_by_name("points").unwrap().as_list::<i32>().values().clone();
    let points = points.as_primitive::<Float32Type>().values().iter().flat_map(|x| x.to_le_bytes());
    assert!(points.eq(numbers));
    for (name, kind) in [("batch", "<u8"), ("batch_plan", "<i8"), ("row", "<i8"), ("stratum", "<i8")] {
        let (dtype, shape, numbers) = of(name);
        assert_eq!((dtype.as_str(), shape), (kind, vec![rows]), "{name}");
        let wide = arrow_cast::cast(want.column_by_name(name).unwrap(), &DataType::Int64).unwrap();
        let wide = wide.as_primitive::<Int64Type>().values().iter().flat_map(|x| x.to_le_bytes());
        assert!(wide.eq(numbers), "{name}");
    }
    let (offsets, texts) = (of("views.offsets"), of("views.bytes"));
    assert_eq!((offsets.0.as_str(), offsets.1, texts.0.as_str()), ("<i8", vec![rows + 1], "|u1"));
    let ends: Vec<usize> = offsets.2.as_chunks().0.iter().map(|&o| i64::from_le_bytes(o) as usize).collect();
    assert_eq!((ends[0], *ends.last().unwrap()), (0, texts.2.len()));
    assert_eq!(texts.1, [texts.2.len()]);
    for (i, text) in want.column_by_name("views").unwrap().as_string_view().iter().enumerate() {
        assert_eq!(&texts.2[ends[i]..ends[i + 1]], text.unwrap().as_bytes(), "row {i}");
    }

    let small = Run { threads: 5, memory: 250_000, ..Run::default() };
    world.copy("again", &params, small).unwrap();
    assert_eq!(bytes(&world.path("npy")), bytes(&world.path("again")));
    // Replaced where it is a copy; what somebody put beside the arrays is not one.
    let force = Run { force: true, ..Run::default() };
    world.copy("again", &params, force.clone()).unwrap();
    fs::write(world.path("again/mine.npy"), "mine").unwrap();
    let error = world.copy("again", &params, force).unwrap_err();
    assert!(error.to_string().contains("mine.npy"), "{error}");
}

#[test]
fn what_no_array_holds_is_refused_by_name() {
    let world = World::new(|_| {});
    let says = |columns: &[&str], words: &[&str]| {
        let columns = columns.iter().map(|c| c.to_string()).collect();
        let params = Params { format: Format::Npy, columns, ..Params::default() };
        let error = world.copy("out", &params, Run::default()).unwrap_err();
        let text = format!("{error} {}", error.help());
        let both = [words, &["--columns", "--format arrow"]].concat();
        assert!(both.iter().all(|word| text.contains(word)), "{text}");
        assert!(!world.path("out").exists());
    };
    says(&[], &["`words`", "`decimals`", "`times`", "`structs`"]);
    // Rows 0, 5, .. of the first file have none.
    says(&["points", "odd"], &["a.parquet, column `odd`, row", "is null"]);
    says(&["kinds"], &["column `kinds`", "is null"]);

    // Lists of another length, and a null in one.
    let list = |odd: Option<Vec<Option<f32>>>| {
        let batch = rows(0, 700);
        let lists = (0..700).map(|i| Some(if i == 123 { odd.clone().unwrap() } else { vec![Some(1.0); 3] }));
        let lists = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(lists)) as ArrayRef;
        let mut columns: Vec<(String, ArrayRef, bool)> = Vec::new();
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            columns.push((field.name().clone(), column.clone(), field.is_nullable()));
        }
        columns.push(("lists".into(), lists, true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    for (odd, word) in [(vec![Some(1.0); 4], "has 4 numbers"), (vec![Some(1.0), None, None], "a null among")]
    {
        let world = World::new(|_| {});
        fs::remove_file(world.path("data/b.parquet")).unwrap();
        world.write("data/a.parquet", &list(Some(odd)));
        let mut config = Config::default();
        config.features.columns = vec!["points".into()];
        config.modalities.resolution = 400;
        let run = Run { out: world.path("plan"), force: true, ..Run::default() };
        pipeline::plan(&world.data(), &config, &run, &Progress::default()).unwrap();
        let columns = vec!["lists".to_string()];
        let params = Params { format: Format::Npy, columns, ..Params::default() };
        let error = world.copy("out", &params, Run::default()).unwrap_err().to_string();
        assert!(error.contains("row 123") && error.contains("`lists`") && error.contains(word), "{error}");
    }
}

#[test]
fn only_the_order_is_a_list_of_rows() {
    let world = World::new(|c| c.batches.holdout = 0.1);
    let list = |epoch: u32, data: &[String], force: bool| {
        let run = Run { out: world.path("orders"), force, ..Run::default() };
        let params = Params { epoch, ..Params::default() };
        materialize::list(&world.path("plan"), data, &params, &run, &Progress::default())
    };
    for (epoch, data) in [(0, world.data()), (1, vec![])] {
        let done = list(epoch, &data, false).unwrap();
        let (dtype, shape, bytes) = array(&materialize::list_path(&world.path("orders"), epoch));
        let rows: Vec<u64> = bytes.as_chunks().0.iter().map(|&row| i64::from_le_bytes(row) as u64).collect();
        assert_eq!(rows, world.order(epoch).concat());
        assert_eq!((dtype.as_str(), shape, done.rows), ("<i8", vec![rows.len()], rows.len() as u64));
        assert_eq!((done.left_out, done.batches as usize), (ROWS - done.rows, world.order(epoch).len()));
        assert_eq!(done.bytes, 128 + 8 * done.rows);
    }
    assert!(list(0, &[], false).unwrap_err().help().contains("--force"));
    list(0, &[], true).unwrap();
    // Of other data, or in the plan: nothing is left behind.
    world.write("data/b.parquet", &rows(701, ROWS));
    assert!(list(2, &world.data(), false).unwrap_err().to_string().contains("made from other data"));
    assert_eq!(fs::read_dir(world.path("orders")).unwrap().count(), 2);
    let run = Run { out: world.path("plan/orders"), ..Run::default() };
    let error = materialize::list(&world.path("plan"), &[], &Params::default(), &run, &Progress::default());
    assert!(error.unwrap_err().to_string().contains("which this run reads"));
    assert!(!world.path("plan/orders").exists());
}
