//! A plan, an update and a check are the same, byte for byte, wherever their tasks run: in any order, on any workers, some of
//! which are lost; and what fails there fails as it does here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use arrow_array::{ArrayRef, Float32Array, RecordBatch};
use batchwright::config::{self, Config, Run};
use batchwright::engine::{build, run_task};
use batchwright::kit::error::{Error, Result};
use batchwright::kit::progress::Progress;
use batchwright::parts::{Chosen, Engine, Event};
use batchwright::pipeline;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

use crate::determinism::{config, digests};

#[cfg(feature = "encoder")]
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Threads that know nothing but bytes, as worker processes do. The last tasks come first; every seventh task is lost once, and
/// every fifth is done twice.
struct Bytes {
    workers: usize,
    threads: usize,
    tasks: AtomicUsize,
    jobs: AtomicUsize,
}

impl Bytes {
    fn new(workers: usize, threads: usize) -> Arc<Bytes> {
        Arc::new(Bytes { workers, threads, tasks: AtomicUsize::new(0), jobs: AtomicUsize::new(0) })
    }
}

impl Engine for Bytes {
    fn run(&self, job: &[u8], tasks: &[Vec<u8>], tell: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        self.tasks.fetch_add(tasks.len(), Ordering::Relaxed);
        self.jobs.fetch_add(1, Ordering::Relaxed);
        let todo: Vec<usize> =
            (0..tasks.len()).flat_map(|i| std::iter::repeat_n(i, 1 + usize::from(i % 5 == 0))).collect();
        let todo = Mutex::new(todo);
        let (send, receive) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.workers {
                let (send, todo) = (send.clone(), &todo);
                scope.spawn(move || {
                    loop {
                        let Some(i) = todo.lock().unwrap().pop() else { break };
                        if i % 7 == 0 && send.send(Event::Retried(i as u32)).is_err() {
                            break;
                        }
                        if send.send(Event::Done(i as u32, run_task(job, &tasks[i], self.threads))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(send);
            receive.into_iter().try_for_each(tell)
        })
    }
}

fn on(engine: &Arc<Bytes>, run: Run) -> Run {
    Run { engine: Some(Chosen::given("bytes", engine.clone())), task_bytes: 1 << 14, ..run }
}

fn here(out: &Path, threads: usize) -> Run {
    Run { out: out.into(), threads, ..Run::default() }
}

fn planned(data: &Path, config: &Config, run: &Run) -> Result<pipeline::Summary> {
    pipeline::plan(&[data.to_str().unwrap().into()], config, run, &Progress::default())
}

/// 70 000 rows in two files of several row groups, five parts: vectors, a class, a word, a number with nulls, one with two.
fn rows(dir: &Path) -> PathBuf {
    let data = dir.join("data");
    std::fs::create_dir_all(&data).unwrap();
    write(&data.join("a.parquet"), 0..30_000);
    write(&data.join("b.parquet"), 30_000..70_000);
    data
}

fn write(path: &Path, rows: std::ops::Range<u64>) {
    use arrow_array::types::Float32Type;
    use arrow_array::{FixedSizeListArray, Float64Array, Int64Array, StringArray};
    use batchwright::kit::rng::{key, normal};
    let number = |row: u64, j: u64| normal(key(1, &[row, j])) + 7.0 * ((row % 5) * (j % 5)) as f64;
    let vector = |row: u64| Some((0..6).map(|j| Some(number(row, j) as f32)).collect::<Vec<_>>());
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows.clone().map(vector), 6);
    let class = |row: u64| Some((row * 7 % 11) as i64);
    let word = |row: u64| (!row.is_multiple_of(9)).then(|| format!("w{}", row % 4));
    let price = |row: u64| (!row.is_multiple_of(6)).then_some(row as f64);
    let rare = |row: u64| (row != 33_333 && row != 60_001).then_some((row % 10) as f64);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("embedding", Arc::new(vectors)),
        ("class", Arc::new(rows.clone().map(class).collect::<Int64Array>())),
        ("word", Arc::new(rows.clone().map(word).collect::<StringArray>())),
        ("price", Arc::new(rows.clone().map(price).collect::<Float64Array>())),
        ("rare", Arc::new(rows.map(rare).collect::<Float64Array>())),
    ];
    let columns = columns.into_iter().map(|(name, cells)| (name, cells, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(18_000)).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// The settings that change what is read or how rows belong somewhere.
fn settings() -> Vec<(&'static str, Config)> {
    use batchwright::batches::weights::Centrality;
    use batchwright::modalities::EstimatorSpec;
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        config.modalities.resolution = 600;
        config.batches.epochs = Some(1);
        config.features.columns = vec!["embedding".into()];
        change(&mut config);
        config
    };
    vec![
        ("consensus, label", with(&|c| c.source.label = Some("class".into()))),
        (
            "kmeans, holdout, density",
            with(&|c| {
                c.modalities.estimator = EstimatorSpec::Kmeans;
                c.modalities.count = Some(4);
                c.batches.holdout = 0.1;
                c.weights.centrality = Centrality::Density;
            }),
        ),
        (
            "column",
            with(&|c| {
                c.modalities.estimator = EstimatorSpec::Column;
                c.modalities.column = Some("word".into());
            }),
        ),
        (
            "strata by class, margin",
            with(&|c| {
                c.strata.by = "class".into();
                c.weights.centrality = Centrality::Margin;
            }),
        ),
        (
            "several columns, invalid rows dropped",
            with(&|c| {
                c.features.columns = vec!["embedding".into(), "price".into(), "word".into()];
                c.source.invalid = batchwright::source::Invalid::Drop;
            }),
        ),
        ("local order", with(&|c| c.locality.kind = batchwright::batches::locality::Order::Local)),
    ]
}

#[test]
fn a_plan_is_the_same_wherever_its_rows_are_assigned() {
    let dir = tempfile::tempdir().unwrap();
    let data = rows(dir.path());
    for (i, (name, config)) in settings().into_iter().enumerate() {
        let out = |how: &str| dir.path().join(format!("{name} {how}"));
        for threads in [1, 7] {
            planned(&data, &config, &here(&out(&format!("here {threads}")), threads)).unwrap();
        }
        let one = digests(&out("here 1"));
        assert_eq!(one, digests(&out("here 7")), "{name}");
        // One worker with one thread, and several: the latter alone of most settings, for time.
        for &(workers, threads) in &[(5, 2), (1, 1)][..if i == 0 { 2 } else { 1 }] {
            let engine = Bytes::new(workers, threads);
            let path = out(&format!("elsewhere {workers}"));
            planned(&data, &config, &on(&engine, here(&path, 2))).unwrap();
            assert_eq!(one, digests(&path), "{name}: {workers} workers");
            assert!(engine.tasks.load(Ordering::Relaxed) > 8, "{name}: several tasks");
        }
    }
}

#[cfg(feature = "polars")]
#[test]
fn filtered_rows_are_left_out_elsewhere_too() {
    let dir = tempfile::tempdir().unwrap();
    let data = rows(dir.path());
    let mut config = config();
    config.source.label = Some("class".into());
    config.features.columns = vec!["embedding".into()];
    config.source.filter = Some("price > 700 and word <> 'w2'".into());
    let out = |name: &str| dir.path().join(name);
    planned(&data, &config, &here(&out("here"), 2)).unwrap();
    planned(&data, &config, &on(&Bytes::new(3, 1), here(&out("elsewhere"), 2))).unwrap();
    assert_eq!(digests(&out("here")), digests(&out("elsewhere")));
}

#[cfg(feature = "encoder")]
#[test]
fn texts_are_encoded_by_the_workers() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.features.encode = Some("package".into());
    config.modalities.resolution = 200;
    config.batches.epochs = Some(1);
    let data = fixture("packages-2k.parquet");
    let run = |name: &str| Run { encoder: Some(fixture("encoders/bert")), ..here(&dir.path().join(name), 2) };
    planned(&data, &config, &run("here")).unwrap();
    let engine = Bytes::new(2, 1);
    planned(&data, &config, &on(&engine, run("elsewhere"))).unwrap();
    assert_eq!(digests(&dir.path().join("here")), digests(&dir.path().join("elsewhere")));
    // The sample and the rows.
    assert!(engine.tasks.load(Ordering::Relaxed) >= 2);
}

#[test]
fn updates_and_checks_are_the_same_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let data = rows(dir.path());
    let mut config = config();
    config.source.label = Some("class".into());
    config.features.columns = vec!["embedding".into()];
    let old = dir.path().join("old");
    planned(&data, &config, &here(&old, 2)).unwrap();
    let inputs = [data.to_str().unwrap().to_string()];
    let both = |name: &str, refit: bool| {
        let limits = config::Check::default();
        let check = |run: &Run| {
            let mut found =
                pipeline::check::check(&old, &inputs, &limits, run, &Progress::default()).unwrap();
            found.seconds = 0.0;
            // Elsewhere footers are read again.
            found.bytes_read = 0;
            found
        };
        let update = |run: &Run| {
            pipeline::update(&old, &inputs, &limits, refit, false, false, run, &Progress::default()).unwrap()
        };
        let engine = Bytes::new(3, 1);
        let (out, other) = (dir.path().join(name), dir.path().join(format!("{name} elsewhere")));
        assert_eq!(check(&here(&out, 2)), check(&on(&engine, here(&other, 2))), "{name}");
        let (a, b) = (update(&here(&out, 2)), update(&on(&engine, here(&other, 2))));
        assert_eq!((&a.how, &a.why, &a.modalities), (&b.how, &b.why, &b.modalities));
        assert_eq!(digests(&out), digests(&other), "{name}");
        assert!(engine.jobs.load(Ordering::Relaxed) >= 2, "{name}: both asked the engine");
        a.how
    };
    write(&data.join("c.parquet"), 70_000..80_000);
    assert_eq!(both("appended", false), "appended");
    assert_eq!(both("refitted", true), "refitted");
    // Row groups that the plan lost, and others in their place: rows are hashed elsewhere as well.
    write(&data.join("a.parquet"), 100..30_100);
    assert_eq!(both("read anew", false), "read anew");
}

/// Cuts a page of a file's vectors to pieces.
fn damage(path: &Path) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    let group = reader.metadata().row_group(1);
    let (start, length) = group.column(0).byte_range();
    let mut bytes = std::fs::read(path).unwrap();
    bytes[start as usize..(start + length) as usize].fill(0xff);
    std::fs::write(path, bytes).unwrap();
}

/// An engine that damages the data between its first job, the sample, and the pass over the rows.
struct Damaging(PathBuf, Arc<Bytes>);

impl Engine for Damaging {
    fn run(&self, job: &[u8], tasks: &[Vec<u8>], tell: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        if self.1.jobs.load(Ordering::Relaxed) == 1 {
            damage(&self.0);
        }
        self.1.run(job, tasks, tell)
    }
}

#[test]
fn what_fails_elsewhere_fails_as_it_does_here() {
    let dir = tempfile::tempdir().unwrap();
    let data = rows(dir.path());
    let mut config = config();
    config.source.label = None;
    config.features.columns = vec!["embedding".into(), "rare".into()];
    // Two rows that the sample misses cannot be used. The task of the second one ends first; the first one is told.
    let fails = |run: &Run| planned(&data, &config, run).unwrap_err();
    let (one, other) = (
        fails(&here(&dir.path().join("a"), 2)),
        fails(&on(&Bytes::new(3, 1), here(&dir.path().join("b"), 2))),
    );
    assert!(one.to_string().contains("row 3333"), "{one}");
    assert_eq!((one.lines(), one.exit_code()), (other.lines(), other.exit_code()));

    // Damage that only the pass over the rows meets.
    config.features.columns = vec!["embedding".into()];
    let engine = Arc::new(Damaging(data.join("b.parquet"), Bytes::new(2, 1)));
    let out = dir.path().join("plan");
    let run = Run { engine: Some(Chosen::given("damaging", engine)), task_bytes: 1 << 14, ..here(&out, 1) };
    let error = planned(&data, &config, &run).unwrap_err();
    assert!(error.to_string().contains("b.parquet") && error.exit_code() == 3, "{error}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["data"], "nothing is left behind");
}

/// An engine that gives up, or hands out nonsense.
struct Bad(&'static str);

impl Engine for Bad {
    fn run(&self, job: &[u8], tasks: &[Vec<u8>], tell: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        match self.0 {
            "gives up" => Err(Error::input("the cluster", "is gone", "")),
            "forgets one" => (1..tasks.len() as u32)
                .try_for_each(|i| tell(Event::Done(i, run_task(job, &tasks[i as usize], 1)))),
            "another build" => {
                let mut job = job.to_vec();
                let at = job.windows(7).position(|w| w == b"source ").unwrap() + 7;
                job[at] = if job[at] == b'0' { b'1' } else { b'0' };
                tell(Event::Done(0, run_task(&job, &tasks[0], 1)))
            }
            "cuts off" => tell(Event::Done(0, run_task(job, &tasks[0], 1)[..9].to_vec())),
            _ => tell(Event::Done(tasks.len() as u32, Vec::new())),
        }
    }
}

#[test]
fn a_faulty_engine_is_told_from_faulty_data() {
    let dir = tempfile::tempdir().unwrap();
    let data = rows(dir.path());
    let mut config = config();
    config.source.label = None;
    config.features.columns = vec!["embedding".into()];
    for (name, says) in [
        ("gives up", "the cluster: is gone"),
        ("forgets one", "ended without the result of task 0"),
        ("another build", "the run was started by"),
        ("cuts off", "a result cannot be read"),
        ("invents one", "has a result of task"),
    ] {
        let run = Run {
            engine: Some(Chosen::given(name, Arc::new(Bad(name)))),
            task_bytes: 1 << 14,
            ..here(&dir.path().join("plan"), 2)
        };
        let error = planned(&data, &config, &run).unwrap_err();
        assert!(error.to_string().contains(says), "{name}: {error}");
        assert!(name != "another build" || error.to_string().contains(&build()), "{error}");
    }
}

#[test]
fn numbers_that_are_rounded_elsewhere_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d.parquet");
    let large = arrow_array::Int64Array::from_iter_values((0..3000).map(|i| (1 << 53) + 1 + i % 7));
    let small = Float32Array::from_iter_values((0..3000).map(|i| (i % 10) as f32));
    let columns: [(&str, ArrayRef); 2] = [("large", Arc::new(large)), ("small", Arc::new(small))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(&data).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let mut config = config();
    config.source.label = None;
    let out = |name: &str| dir.path().join(name);
    let one = planned(&data, &config, &here(&out("a"), 1)).unwrap();
    let other = planned(&data, &config, &on(&Bytes::new(2, 1), here(&out("b"), 1))).unwrap();
    assert_eq!(one.warnings, other.warnings);
    assert_eq!(digests(&out("a")), digests(&out("b")));
}

#[test]
fn workers_of_the_program_do_the_tasks_of_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = rows(dir.path());
    let tasks = dir.path().join("tasks");
    let work = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchwright"));
        command.arg("work").arg(&tasks).args(["--threads", "1", "--idle", "60"]).stdout(Stdio::null());
        command.spawn().unwrap()
    };
    let mut workers = [work(), work()];
    let mut config = config();
    config.source.label = Some("class".into());
    config.features.columns = vec!["embedding".into()];
    let out = |name: &str| dir.path().join(name);
    planned(&data, &config, &here(&out("here"), 2)).unwrap();
    let run = Run {
        engine: Some(Chosen::named(format!("folder:{}", tasks.display()))),
        task_bytes: 1 << 14,
        ..here(&out("elsewhere"), 2)
    };
    let planned = planned(&data, &config, &run);
    for worker in &mut workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    planned.unwrap();
    assert_eq!(digests(&out("here")), digests(&out("elsewhere")));
    assert_eq!(std::fs::read_dir(&tasks).unwrap().count(), 0, "nothing is left of the jobs");
}
