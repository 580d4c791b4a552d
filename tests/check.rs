//! `check` and `update` on every kind of plan, and on data that is not as it should be.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, Float64Array, ListArray, RecordBatch, StringArray};
use batchwright::config::{Check, Config, Run};
use batchwright::kit::progress::Progress;
use batchwright::kit::rng::{key, normal};
use batchwright::modalities::EstimatorSpec;
use batchwright::pipeline::check::{self, Answer, Outcome, Symptom};
use batchwright::pipeline::diff;
use batchwright::plan::Plan;
use batchwright::{pipeline, source};
use parquet::arrow::ArrowWriter;

/// Four blobs; `kind` is the blob, `price` a number about it.
fn write(path: &Path, rows: std::ops::Range<u64>, change: impl Fn(u64, &mut [f32], &mut String)) {
    let mut points = Vec::new();
    let (mut kinds, mut prices) = (Vec::new(), Vec::new());
    for i in rows {
        let blob = key(1, &[i]) % 4;
        let mut point: Vec<f32> =
            (0..3).map(|j| (normal(key(2, &[i, j])) + 8.0 * normal(key(3, &[blob, j]))) as f32).collect();
        let mut kind = format!("kind-{blob}");
        change(i, &mut point, &mut kind);
        prices.push(f64::from(point[0]) + normal(key(4, &[i])));
        points.push(Some(point.into_iter().map(Some).collect::<Vec<_>>()));
        kinds.push(kind);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("embedding", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(points))),
        ("kind", Arc::new(StringArray::from(kinds))),
        ("price", Arc::new(Float64Array::from(prices))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// The same rows, cut or filled up with ones to a length of their own.
fn write_points(path: &Path, rows: std::ops::Range<u64>, length: impl Fn(u64) -> usize) {
    write(path, rows.clone(), as_it_is);
    let file = File::open(path).unwrap();
    let batches = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let batches: Vec<RecordBatch> = batches.build().unwrap().map(Result::unwrap).collect();
    let batch = arrow_select::concat::concat_batches(&batches[0].schema(), &batches).unwrap();
    let points = rows.map(|i| Some(vec![Some(1.0); length(i)]));
    let points = ListArray::from_iter_primitive::<Float32Type, _, _>(points);
    let mut columns = batch.columns().to_vec();
    columns[0] = Arc::new(points);
    let batch = RecordBatch::try_new(batch.schema(), columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn as_it_is(_: u64, _: &mut [f32], _: &mut String) {}

/// A folder with the data in `data/` and plans beside it.
struct World {
    dir: tempfile::TempDir,
    run: Run,
}

impl World {
    fn new(set: impl Fn(&mut Config)) -> World {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        let world = World { run: Run { out: dir.path().join("plan"), ..Run::default() }, dir };
        write(&world.file("b"), 0..3000, as_it_is);
        let mut config = Config::default();
        config.modalities.resolution = 500;
        config.batches.epochs = Some(1);
        set(&mut config);
        pipeline::plan(&world.data(), &config, &world.run, &Progress::default()).unwrap();
        world
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(format!("{name}.parquet"))
    }

    fn data(&self) -> Vec<String> {
        vec![self.dir.path().join("data").to_str().unwrap().to_string()]
    }

    fn check(&self, plan: &str) -> Outcome {
        let plan = self.dir.path().join(plan);
        check::check(&plan, &self.data(), &Check::default(), &self.run, &Progress::default()).unwrap()
    }

    fn update(&self, refit: bool) -> pipeline::Updated {
        let run = Run { out: self.dir.path().join("new"), force: true, ..Run::default() };
        let limits = Check::default();
        let progress = Progress::default();
        pipeline::update(&self.run.out, &self.data(), &limits, refit, false, false, &run, &progress).unwrap()
    }

    fn open(&self, plan: &str) -> Plan {
        Plan::open(self.dir.path().join(plan)).unwrap()
    }
}

/// What cannot be compared does not pass for the same, though the plan does without it.
#[test]
fn a_profiled_column_of_another_type_is_drift() {
    let world = World::new(|_| {});
    let rewrite = |change: fn(ArrayRef) -> Option<ArrayRef>| {
        let file = File::open(world.file("b")).unwrap();
        let batches = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let batches: Vec<RecordBatch> = batches.build().unwrap().map(Result::unwrap).collect();
        let columns = ["embedding", "kind", "price"].into_iter().filter_map(|name| {
            let parts: Vec<&dyn arrow_array::Array> =
                batches.iter().map(|b| &**b.column_by_name(name).unwrap()).collect();
            let column = arrow_select::concat::concat(&parts).unwrap();
            Some((name, if name == "kind" { change(column)? } else { column }))
        });
        let batch = RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap();
        let mut writer =
            ArrowWriter::try_new(File::create(world.file("b")).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let outcome = world.check("plan");
        let of_kind = outcome.findings.iter().find(|f| f.id == "column" && f.subject == "kind");
        (outcome.answer, of_kind.map(|f| f.message.clone()).unwrap_or_default())
    };
    let (answer, said) = rewrite(|kind| arrow_cast::cast(&kind, &arrow_schema::DataType::Binary).ok());
    assert!(answer == Answer::Drifted && said.contains("is Binary in all files now"), "{answer:?}: {said}");
    let (answer, said) = rewrite(|_| None);
    assert!(answer == Answer::Holds && said.contains("is gone"), "{answer:?}: {said}");
}

/// Also where that leaves none of its stratum, or of its modality, for the batches.
#[test]
fn rows_alone_in_a_stratum_are_held_out_as_often_as_others() {
    const ALONE: u64 = 40;
    let modality_column = |c: &mut Config| {
        c.modalities.estimator = EstimatorSpec::Column;
        c.modalities.column = Some("kind".into());
    };
    let column_strata = |c: &mut Config| c.strata.by = "kind".into();
    for set in [&modality_column as &dyn Fn(&mut Config), &column_strata] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.parquet");
        write(&file, 0..600, |i, _, kind| {
            if i < ALONE {
                *kind = format!("only-{i}");
            }
        });
        let data = [file.to_str().unwrap().to_string()];
        let run = Run { out: dir.path().join("plan"), force: true, ..Run::default() };
        let mut alone = 0;
        const SEEDS: u64 = 40;
        for seed in 0..SEEDS {
            let mut config = Config { seed, ..Config::default() };
            config.modalities.resolution = 200;
            config.batches.epochs = Some(0);
            config.batches.holdout = 0.1;
            set(&mut config);
            pipeline::plan(&data, &config, &run, &Progress::default()).unwrap();
            let plan = Plan::open(&run.out).unwrap();
            let held = plan.holdout().unwrap().unwrap();
            assert_eq!(held.len(), 60);
            alone += held.iter().filter(|(row, _)| *row < ALONE).count();
            let strata = plan.strata().unwrap();
            assert!(held.iter().all(|(_, stratum)| (*stratum as usize) < strata.strata()));
            assert!((0..strata.strata()).all(|h| strata.stratum(h).iter().count() > 0));
            assert!(plan.modalities().unwrap().iter().all(|m| m.rows > 0));
            let outcome =
                check::check(&run.out, &data, &Check::default(), &run, &Progress::default()).unwrap();
            assert_eq!(outcome.answer, Answer::Holds, "seed {seed}: {:?}", outcome.findings);
        }
        let share = alone as f64 / (ALONE * SEEDS) as f64;
        // Four standard deviations of 1600 draws.
        assert!((share - 0.1).abs() < 0.03, "{share}");
    }
}

/// Appended rows are merged into every kind of plan, and the result is a plan of all rows.
#[test]
fn every_kind_of_plan_takes_new_rows() {
    type Set = fn(&mut Config);
    let kinds: [(&str, Set); 7] = [
        ("default", |_| {}),
        ("label", |c| c.source.label = Some("kind".into())),
        ("column strata", |c| c.strata.by = "kind".into()),
        ("crossed strata", |c| c.strata.by = "modality,kind".into()),
        ("table features", |c| c.features.columns = vec!["price".into(), "kind".into()]),
        ("holdout", |c| c.batches.holdout = 0.1),
        ("margin", |c| c.weights.centrality = batchwright::batches::weights::Centrality::Margin),
    ];
    for (name, set) in kinds {
        let world = World::new(set);
        assert_eq!(world.check("plan").answer, Answer::Holds, "{name}");
        assert_eq!(world.update(false).how, "unchanged", "{name}");
        // `a` stands before `b`: all old rows get other numbers.
        write(&world.file("a"), 3000..3700, as_it_is);
        let outcome = world.check("plan");
        assert_eq!((outcome.coverage.new, outcome.coverage.moved), (700, 3000), "{name}");
        assert!(outcome.diagnosis.is_empty(), "{name}: {:?}", outcome.diagnosis);
        let updated = world.update(false);
        let how = if name == "margin" { "read anew" } else { "appended" };
        assert_eq!(updated.how, how, "{name}: {}", updated.why);
        let (old, new) = (world.open("plan"), world.open("new"));
        new.verify().unwrap();
        assert_eq!(new.manifest().rows, 3700);
        let held = |p: &Plan| p.manifest().rows - p.manifest().rows_planned;
        assert_eq!(held(&new), if name == "holdout" { 370 } else { 0 }, "{name}");
        let dataset = source::Dataset::open(&world.data()).unwrap();
        new.check_dataset(&dataset, true).unwrap();
        if how == "appended" {
            let (then, now) = (old.samples().unwrap(), new.samples().unwrap());
            for row in 0..3000 {
                let place = |s: Option<batchwright::format::samples::SampleValues>| {
                    s.map(|s| (s.modality, s.stratum))
                };
                assert_eq!(place(then.get(row)), place(now.get(row + 700)), "{name} row {row}");
            }
            let rows: u64 = new.modalities().unwrap().iter().map(|m| m.rows).sum();
            assert_eq!(rows, new.manifest().rows_planned);
        }
        let means = |p: &Plan| -> Vec<f64> {
            p.statistics().unwrap().iter().filter(|s| s.modality.is_none()).map(|s| s.mean).collect()
        };
        // Merged or read: the same means.
        let whole = {
            let run = Run { out: world.dir.path().join("whole"), force: true, ..Run::default() };
            pipeline::plan(&world.data(), &old.config().unwrap(), &run, &Progress::default()).unwrap();
            world.open("whole")
        };
        if new.features().unwrap() == whole.features().unwrap() {
            for (a, b) in means(&new).into_iter().zip(means(&whole)) {
                assert!((a - b).abs() < 1e-9, "{name}: {a} {b}");
            }
        }
        let next = world.check("new");
        assert_eq!(next.answer, Answer::Holds, "{name}: {:?}", next.findings);
        let told = diff::diff(&old, &new).unwrap();
        assert_eq!((told.moved.common, told.moved.number, told.moved.modality), (3000, 3000, 0), "{name}");
        assert!(told.mapping.iter().all(|m| m.then == m.now), "{name}");
    }
}

#[test]
fn a_value_that_no_stratum_takes_is_a_finding_and_a_reason_to_refit() {
    for by_modality in [false, true] {
        let world = World::new(|c| {
            if by_modality {
                c.modalities.estimator = EstimatorSpec::Column;
                c.modalities.column = Some("kind".into());
            } else {
                c.strata.by = "modality,kind".into();
            }
        });
        write(&world.file("c"), 3000..3500, |i, _, kind| {
            if i % 5 == 0 {
                *kind = "kind-new".into();
            }
        });
        let outcome = world.check("plan");
        assert_eq!(outcome.answer, Answer::Drifted);
        assert_eq!(outcome.diagnosis[0].symptom, Symptom::New);
        assert!(
            outcome
                .findings
                .iter()
                .any(|f| f.id == "values" && f.message.contains("kind-new") | f.subject.contains("kind"))
        );
        let updated = world.update(false);
        assert_eq!(updated.how, "refitted");
        let known = world.open("plan").manifest().modalities;
        let kept: Vec<Option<u32>> = (0..known).map(Some).collect();
        assert_eq!(updated.modalities[..known as usize], kept, "{by_modality}");
        assert_eq!(updated.modalities.len() as u32, known + u32::from(by_modality));
        world.open("new").verify().unwrap();
    }
}

#[test]
fn changed_rows_are_read_anew_and_ids_stay() {
    let world = World::new(|_| {});
    write(&world.file("b"), 0..2500, as_it_is);
    let updated = world.update(false);
    assert_eq!(updated.how, "read anew");
    let (old, new) = (world.open("plan"), world.open("new"));
    let (then, now) = (old.samples().unwrap(), new.samples().unwrap());
    assert!((0..2500).all(|row| then.modality(row) == now.modality(row)));
    let refitted = world.update(true);
    assert_eq!(refitted.how, "refitted");
    let same = (0..refitted.modalities.len() as u32).map(Some);
    assert!(refitted.modalities.iter().copied().eq(same), "{:?}", refitted.modalities);
}

#[test]
fn bad_rows_and_bad_files_are_told() {
    let world = World::new(|_| {});
    write(&world.file("c"), 3000..3400, |i, point, _| {
        if i == 3100 {
            point[1] = f32::NAN;
        }
    });
    let outcome = world.check("plan");
    let found = outcome.findings.iter().find(|f| f.id == "unusable-rows").expect("one row cannot be used");
    assert!(found.message.starts_with("1 of 400"), "{}", found.message);
    assert_eq!(outcome.exit_code(), 1);

    let bytes = std::fs::read(world.file("c")).unwrap();
    std::fs::write(world.file("c"), &bytes[..bytes.len() / 2]).unwrap();
    let limits = Check::default();
    let error =
        check::check(&world.run.out, &world.data(), &limits, &world.run, &Progress::default()).unwrap_err();
    assert_eq!(error.exit_code(), 3);
    assert!(error.to_string().contains("c.parquet"), "{error}");

    std::fs::remove_file(world.file("c")).unwrap();
    let progress = Progress::default();
    progress.cancel_switch().store(true, std::sync::atomic::Ordering::Relaxed);
    write(&world.file("d"), 3000..3400, as_it_is);
    let error = check::check(&world.run.out, &world.data(), &limits, &world.run, &progress).unwrap_err();
    assert_eq!(error.exit_code(), 130);
}

/// Rows that cannot be used are no part of the comparison: their share is a finding of its own, with the reasons.
#[test]
fn invalid_rows_are_counted_against_those_of_the_plan() {
    let world = World::new(|c| c.source.invalid = source::Invalid::Drop);
    let found = |outcome: &Outcome| outcome.findings.iter().find(|f| f.id == "invalid-rows").cloned();
    write(&world.file("c"), 3000..5000, |i, point, _| {
        if i % 2 == 0 {
            point[1] = f32::NAN;
        }
    });
    let outcome = world.check("plan");
    assert_eq!((outcome.exit_code(), outcome.compared, outcome.invalid), (1, 1000, 1000));
    let invalid = found(&outcome).expect("half of the rows cannot be used");
    let said = "invalid rows: 0.0 % -> 50.0 % (column `embedding` has NaN: 1000 rows)";
    assert_eq!((invalid.answer, &invalid.message[..]), (Answer::Drifted, said));
    assert_eq!(outcome.diagnosis[0].symptom, Symptom::Invalid);
    assert!(outcome.failures().all(|f| f.id == "invalid-rows"), "{:?}", outcome.diagnosis);

    // A plan of such data has its share of them.
    let progress = Progress::default();
    let config = world.open("plan").config().unwrap();
    let run = Run { out: world.dir.path().join("used"), ..world.run.clone() };
    pipeline::plan(&world.data(), &config, &run, &progress).unwrap();
    write(&world.file("d"), 5000..6000, |i, point, _| {
        if i % 5 == 0 {
            point[1] = f32::INFINITY;
        }
    });
    let outcome = world.check("used");
    let invalid = found(&outcome).expect("both have invalid rows");
    assert_eq!((invalid.answer, outcome.exit_code()), (Answer::Holds, 0), "{}", invalid.message);

    std::fs::remove_file(world.file("d")).unwrap();
    write_points(&world.file("c"), 3000..4000, |i| if i % 4 == 0 { 2 } else { 3 });
    let outcome = world.check("plan");
    let invalid = found(&outcome).expect("some are too short");
    assert!(invalid.message.ends_with("(column `embedding` has 2 numbers, not 3: 250 rows)"), "{invalid:?}");
}

/// What lies far out in the plan's own data may do so in new data.
#[test]
fn outliers_of_the_plan_are_not_unlike_it() {
    let world = World::new(|_| {});
    let scattered = |i: u64, point: &mut [f32], _: &mut String| {
        if key(9, &[i]).is_multiple_of(50) {
            point.iter_mut().zip(0..).for_each(|(x, j)| *x = 60.0 * normal(key(10, &[i, j])) as f32);
        }
    };
    write(&world.file("b"), 0..3000, scattered);
    let config = world.open("plan").config().unwrap();
    let run = Run { force: true, ..world.run.clone() };
    pipeline::plan(&world.data(), &config, &run, &Progress::default()).unwrap();
    write(&world.file("c"), 3000..6000, scattered);
    let outcome = world.check("plan");
    let far = outcome.findings.iter().find(|f| f.id == "far-rows").unwrap();
    assert!(far.answer == Answer::Holds && far.effect < Some(0.006), "{far:?}");
    // Three in a hundred farther out than all of them are.
    write(&world.file("c"), 3000..4000, |i, point, kind| {
        scattered(i, point, kind);
        if i % 33 == 0 {
            point.fill(500.0);
        }
    });
    let outcome = world.check("plan");
    let far = outcome.findings.iter().find(|f| f.id == "far-rows").unwrap();
    assert_eq!((far.answer, outcome.diagnosis[0].symptom), (Answer::Drifted, Symptom::NewModality));
}

/// A table of three columns of numbers.
fn write_numbers(path: &Path, rows: std::ops::Range<u64>, number: impl Fn(u64, u64) -> f64) {
    let column =
        |j: u64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(rows.clone().map(|i| number(i, j)))) };
    let batch = RecordBatch::try_from_iter((0..3).map(|j| (format!("c{j}"), column(j)))).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Rows of one distribution are no drift, whether it has moments or not, and however often its numbers repeat.
#[test]
fn heavy_tails_and_ties_are_no_drift() {
    type Number = fn(f64) -> f64;
    let kinds: [(&str, Number); 5] = [
        ("lognormal", |x| (2.0 * x).exp()),
        ("Cauchy-like", |x| x / (0.001 + (1.0 - x.abs()).abs())),
        ("ratings", |x| (2.0 + 1.5 * x).round().clamp(0.0, 5.0)),
        ("mostly one number", |x| if x.abs() < 1.645 { 7.0 } else { x }),
        ("all one number", |_| 7.0),
    ];
    for (name, number) in kinds {
        for draw in 0..3 {
            let dir = tempfile::tempdir().unwrap();
            let (a, b) = (dir.path().join("a.parquet"), dir.path().join("b.parquet"));
            let of = |i: u64, j: u64| number(normal(key(20 + draw, &[i, j])));
            write_numbers(&a, 0..1500, of);
            write_numbers(&b, 1500..3000, of);
            let run = Run { out: dir.path().join("plan"), ..Run::default() };
            let mut config = Config::default();
            config.modalities.resolution = 500;
            let data = |paths: &[&PathBuf]| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
            pipeline::plan(&data(&[&a]), &config, &run, &Progress::default()).unwrap();
            let limits = Check::default();
            let outcome =
                check::check(&run.out, &data(&[&a, &b]), &limits, &run, &Progress::default()).unwrap();
            assert_ne!(outcome.exit_code(), 1, "{name}, draw {draw}: {:?}", outcome.diagnosis);
            // Half a standard deviation is seen, and where.
            if name == "lognormal" {
                write_numbers(&b, 1500..3000, |i, j| if j == 1 { of(i, j) * 2.7 } else { of(i, j) });
                let outcome =
                    check::check(&run.out, &data(&[&a, &b]), &limits, &run, &Progress::default()).unwrap();
                let found = outcome.findings.iter().find(|f| f.id == "feature-means").unwrap();
                assert_eq!(found.answer, Answer::Drifted, "draw {draw}");
                assert!(found.message.starts_with("c1[0] moved most: median"), "{}", found.message);
                assert!((found.effect.unwrap() - 0.5).abs() < 0.1, "{found:?}");
            }
        }
    }
}

/// What a plan of format 1.0 does not know is not compared, and said.
#[test]
fn an_old_plan_is_compared_by_what_it_has() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let limits = Check { quick: true, ..Check::default() };
    let data = vec![root.join("worked-example.parquet").display().to_string()];
    let dir = tempfile::tempdir().unwrap();
    let more = dir.path().join("more.parquet");
    std::fs::copy(root.join("worked-example.parquet"), &more).unwrap();
    let data = [data, vec![more.display().to_string()]].concat();
    let run = Run { out: dir.path().join("plan"), ..Run::default() };
    let outcome = check::check(&root.join("plans/v1"), &data, &limits, &run, &Progress::default()).unwrap();
    let spread = outcome.findings.iter().find(|f| f.id == "spread").expect("it is told");
    assert!(spread.answer == Answer::CannotTell && spread.message.contains("format 1.1"), "{spread:?}");
}

/// The answer is the same on any number of threads.
#[test]
fn threads_do_not_change_an_answer() {
    let world = World::new(|c| c.source.label = Some("kind".into()));
    write(&world.file("c"), 3000..4000, |_, point, _| point[0] += 0.3);
    let run = |threads| {
        let run = Run { threads, ..world.run.clone() };
        let mut outcome =
            check::check(&world.run.out, &world.data(), &Check::default(), &run, &Progress::default())
                .unwrap();
        outcome.seconds = 0.0;
        serde_json::to_string(&outcome).unwrap()
    };
    assert_eq!(run(1), run(3));
}
