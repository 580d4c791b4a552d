//! Plans in the local order: what is written is what is dealt, every promise holds, and what does not fit is told.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, ListArray, RecordBatch, StringArray};
use batchwright::batches::allocation::Allocation;
use batchwright::batches::batch::Batch;
use batchwright::batches::locality::Order;
use batchwright::batches::number::Number;
use batchwright::config::{Check, Config, Run};
use batchwright::format::batches;
use batchwright::kit::ids::NONE;
use batchwright::kit::progress::Progress;
use batchwright::kit::rng::{key, normal};
use batchwright::modalities::EstimatorSpec;
use batchwright::pipeline;
use batchwright::pipeline::check::{self, Answer};
use batchwright::plan::Plan;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

/// Blobs that lie one after another, in row groups of `group` rows. `text` is of any length.
pub fn write(path: &Path, rows: u64, group: usize) {
    let blob = |i: u64| i * 5 / rows;
    let point = |i: u64| {
        let number = |j| Some((normal(key(2, &[i, j])) + 8.0 * normal(key(3, &[blob(i), j]))) as f32);
        Some((0..3).map(number).collect::<Vec<_>>())
    };
    let texts = (0..rows).map(|i| "x".repeat((key(4, &[i]) % 40) as usize));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("embedding", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>((0..rows).map(point)))),
        ("kind", Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("kind-{}", blob(i) % 3))))),
        ("text", Arc::new(StringArray::from_iter_values(texts))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    // Units are cut where pages begin.
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(group))
        .set_data_page_row_count_limit(10)
        .set_write_batch_size(10)
        .build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new(rows: u64, group: usize) -> World {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("rows.parquet"), rows, group);
        World { dir }
    }

    fn plan(&self, name: &str, change: impl FnOnce(&mut Config)) -> batchwright::Result<Plan> {
        let mut config = Config::default();
        config.features.columns = vec!["embedding".into()];
        config.modalities.estimator = EstimatorSpec::Kmeans;
        config.modalities.count = Some(5);
        config.locality.kind = Order::Local;
        change(&mut config);
        let run = Run { out: self.dir.path().join(name), threads: 2, ..Run::default() };
        let data = self.dir.path().join("rows.parquet").to_str().unwrap().to_string();
        pipeline::plan(&[data], &config, &run, &Progress::default())?;
        Plan::open(self.dir.path().join(name))
    }
}

/// Every row of every batch, and its composition against that of its round.
fn promises(plan: &Plan, epoch: u32) {
    let (units, local) = plan.units().unwrap().unwrap();
    let (samples, all) = (plan.samples().unwrap(), plan.epochs().unwrap());
    let base = all.base;
    let epoch = all.epoch(epoch, base);
    let mut seen = vec![0u32; plan.manifest().rows as usize];
    let mut counts = Vec::new();
    for b in 0..epoch.len() {
        let record = epoch.record(b);
        let mut count = vec![0f64; plan.manifest().strata as usize];
        for (&row, &h) in record.rows.iter().zip(&record.stratum) {
            seen[row as usize] += 1;
            assert_eq!(samples.stratum(row), h);
            count[h as usize] += 1.0;
        }
        counts.push(count);
    }
    for (row, &n) in seen.iter().enumerate() {
        assert_eq!(n, u32::from(samples.stratum(row as u64) != NONE), "row {row}");
    }
    let rounds = epoch.local().unwrap().rounds();
    for t in 0..rounds.number() {
        let of = &counts[rounds.starts[t] as usize..rounds.starts[t + 1] as usize];
        for h in 0..counts[0].len() {
            let share = of.iter().map(|count| count[h]).sum::<f64>() / of.len() as f64;
            let slack = 1.0 + local.streams as f64 / f64::from(1 << 24);
            assert!(of.iter().all(|count| (count[h] - share).abs() < slack), "round {t}, stratum {h}");
        }
    }
    assert!(units.len() > 1 && rounds.number() > 1, "{} units, {} rounds", units.len(), rounds.number());
}

#[test]
fn every_row_comes_once_with_holdout_strata_and_filters() {
    let world = World::new(6000, 250);
    for (name, change) in [
        ("plain", (|_| ()) as fn(&mut Config)),
        ("held-out", |c| c.batches.holdout = 0.1),
        ("by-column", |c| c.strata.by = "kind".into()),
        ("both", |c| c.strata.by = "modality,kind".into()),
        ("ranks", |c| c.batch_size.world_size = 3),
    ] {
        let plan = world
            .plan(name, |c| {
                c.locality.unit_rows = Number::Fixed(100);
                c.locality.window = Number::Fixed(1);
                change(c);
            })
            .unwrap();
        assert_eq!(plan.manifest().epochs, 0);
        let (_, local) = plan.units().unwrap().unwrap();
        assert_eq!(local.streams, if name == "ranks" { 15 } else { 16 });
        assert!(u64::from(plan.manifest().batch_size).is_multiple_of(local.streams));
        // 12 bytes of numbers, three offsets, and the texts: 6 and half of 40.
        assert!((40..=60).contains(&local.row_bytes), "{} bytes a row", local.row_bytes);
        plan.verify().unwrap();
        plan.check_contradictions().unwrap();
        promises(&plan, 0);
        promises(&plan, 7);
    }
}

/// What `plan --epochs` writes, and what is dealt from the plan again, also in mid-epoch and in larger batches.
#[test]
fn epochs_come_again_as_written() {
    let world = World::new(3000, 250);
    let set = |c: &mut Config| {
        c.locality.unit_rows = Number::Fixed(50);
        c.locality.window = Number::Fixed(1);
        c.strata.by = "kind".into();
    };
    let bare = world.plan("bare", set).unwrap();
    let full = world
        .plan("full", |c| {
            set(c);
            c.batches.epochs = Some(2);
        })
        .unwrap();
    let computed = world.dir.path().join("computed");
    let m = full.manifest();
    assert_eq!((m.epochs, m.candidates.len()), (2, 3));
    for candidate in &m.candidates {
        for number in 0..2 {
            let size = candidate.batch_size;
            let entry = bare.write_epoch(&computed, size, number, &Progress::default()).unwrap();
            assert_eq!(m.file(&batches::path(size, number)), Some(&entry));
            let (all, again) = (full.epochs().unwrap(), bare.epochs().unwrap());
            let (epoch, again) = (all.epoch(number, size.into()), again.epoch(number, size.into()));
            let rows = epoch.rows(0..epoch.len(), &Progress::default()).unwrap();
            let written = full.batches(size, number).unwrap().unwrap();
            let mut batch = Batch::default();
            let mut at = 0;
            for b in 0..epoch.len() {
                again.run(b..b + 1, &mut batch);
                assert!(written.get(b as usize).rows.iter().eq(batch.rows.iter().copied()));
                assert_eq!(rows[at..at + batch.rows.len()], batch.rows);
                at += batch.rows.len();
            }
            assert_eq!(at, rows.len());
        }
    }
}

/// The id of a plan depends on how its rows lie in row groups, and on nothing else that is new.
#[test]
fn same_rows_in_other_row_groups_are_another_local_plan() {
    let (one, other) = (World::new(3000, 250), World::new(3000, 400));
    let id = |world: &World, name: &str, order: Order| {
        let plan = world.plan(name, |c| c.locality.kind = order).unwrap();
        assert_eq!(plan.units().unwrap().is_some(), order == Order::Local);
        plan.manifest().plan.clone()
    };
    assert_eq!(id(&one, "a", Order::Global), id(&other, "a", Order::Global));
    assert_ne!(id(&one, "b", Order::Local), id(&other, "b", Order::Local));
    assert_eq!(id(&one, "c", Order::Local), id(&one, "d", Order::Local));
    let global = Plan::open(one.dir.path().join("a")).unwrap();
    assert!(global.manifest().config.get("locality").is_none());
}

#[test]
fn what_does_not_fit_is_told() {
    let world = World::new(3000, 250);
    let told = |change: &dyn Fn(&mut Config), words: &[&str]| {
        let e = world.plan("never", change).unwrap_err();
        let text = format!("{e}: {}", e.help());
        assert_eq!(e.exit_code(), 2, "{text}");
        words.iter().for_each(|word| assert!(text.contains(word), "no {word} in {text}"));
        assert!(!world.dir.path().join("never").exists());
    };
    told(&|c| c.batches.allocation = Allocation::Equal, &["batches.allocation", "locality.kind"]);
    told(&|c| c.locality.window_memory = 4000, &["locality.window_memory", "4000 bytes", "--read"]);
    told(&|c| c.locality.read = vec!["txt".into()], &["locality.read", "`text`"]);
    let of_64 = |c: &mut Config| c.batch_size.size = Number::Fixed(64);
    told(
        &|c| {
            of_64(c);
            c.locality.streams = Number::Fixed(7);
        },
        &["locality.streams", "7 does not divide"],
    );
    told(
        &|c| {
            of_64(c);
            c.locality.streams = Number::Fixed(8);
            c.batch_size.world_size = 16;
        },
        &["locality.streams", "batch_size.world_size", "16"],
    );
}

/// Rows that lie otherwise in row groups are the plan's rows; what is told is that reading them costs more.
#[test]
fn check_and_update_see_other_row_groups() {
    let world = World::new(3000, 250);
    let set = |c: &mut Config| {
        c.locality.unit_rows = Number::Fixed(50);
        c.locality.window = Number::Fixed(1);
    };
    let plan = world.plan("old", set).unwrap();
    let file = world.dir.path().join("rows.parquet");
    let data = [file.to_str().unwrap().to_string()];
    let units_of = |out: &str| {
        let run = Run::default();
        let outcome =
            check::check(&world.dir.path().join(out), &data, &Check::default(), &run, &Progress::default());
        let outcome = outcome.unwrap();
        let finding = outcome.findings.iter().find(|f| f.id == "units").unwrap();
        assert_eq!(outcome.exit_code(), 0, "{outcome:?}");
        (finding.answer, finding.message.clone())
    };
    assert_eq!(units_of("old").0, Answer::Holds);
    write(&file, 3000, 400);
    let (answer, message) = units_of("old");
    assert!(answer == Answer::Drifted && message.contains("batchwright update"), "{message}");

    let update = |from: &str, out: &str, data: &[String]| {
        let (from, out) = (world.dir.path().join(from), world.dir.path().join(out));
        let (run, limits) = (Run { out: out.clone(), ..Run::default() }, Check::default());
        let done =
            pipeline::update(&from, data, &limits, false, false, false, &run, &Progress::default()).unwrap();
        (done.how, done.summary.unwrap().reading.unwrap(), Plan::open(out).unwrap())
    };
    let (how, _, anew) = update("old", "anew", &data);
    assert_eq!(how, "read anew");
    assert_ne!(anew.units().unwrap().unwrap().0.first_row, plan.units().unwrap().unwrap().0.first_row);
    assert_eq!(units_of("anew").0, Answer::Holds);
    promises(&anew, 1);

    // More of the same rows.
    let more = world.dir.path().join("sooner.parquet");
    write(&more, 3000, 700);
    let both = [data[0].clone(), more.to_str().unwrap().to_string()];
    let (how, reading, both) = update("anew", "both", &both);
    assert_eq!((how.as_str(), both.manifest().rows), ("appended", 6000));
    assert_eq!(reading, both.reading().unwrap().unwrap());
    both.check_contradictions().unwrap();
    promises(&both, 0);
}

/// Sorted data read in small windows is far from its mix, and the window that is named brings it near.
#[test]
fn drift_is_warned_of_with_the_window_that_helps() {
    let world = World::new(6000, 250);
    let narrow = |c: &mut Config| {
        c.locality.unit_rows = Number::Fixed(60);
        c.locality.window = Number::Fixed(1);
        c.locality.streams = Number::Fixed(4);
        c.batch_size.size = Number::Fixed(64);
    };
    let config = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        config.features.columns = vec!["embedding".into()];
        config.modalities.estimator = EstimatorSpec::Kmeans;
        config.modalities.count = Some(5);
        config.locality.kind = Order::Local;
        change(&mut config);
        let run = Run { out: world.dir.path().join("plan"), force: true, ..Run::default() };
        let data = world.dir.path().join("rows.parquet").to_str().unwrap().to_string();
        pipeline::plan(&[data], &config, &run, &Progress::default()).unwrap()
    };
    let summary = config(&narrow);
    let evenness = summary.reading.unwrap().evenness;
    assert!(evenness.drift > 0.1 && evenness.rounds == 24 * 5 / 4, "{evenness:?}");
    let warning = summary.warnings.iter().find(|w| w.contains("drift")).unwrap();
    let window: u64 = warning.split("--window ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(window > 1);
    let drift = |window| {
        let summary = config(&|c| {
            narrow(c);
            c.locality.window = Number::Fixed(window);
        });
        assert_eq!(
            summary.warnings.iter().any(|w| w.contains("drift")),
            window < 2,
            "{:?}",
            summary.warnings
        );
        summary.reading.unwrap().evenness.drift
    };
    assert!(drift(window) <= 0.1);
}

/// The numbers that a rank's memory and the fitting world sizes are told by.
#[test]
fn ranks_fit_or_are_told_which_would() {
    let world = World::new(3000, 250);
    let plan = world
        .plan("plan", |c| {
            c.batch_size.world_size = 2;
            c.batch_size.size = Number::Fixed(96);
            c.locality.unit_rows = Number::Fixed(50);
        })
        .unwrap();
    let reading = plan.reading().unwrap().unwrap();
    assert_eq!((reading.streams, &reading.world_sizes[..]), (16, &[1, 2, 4, 8, 16][..]));
    // One round of all rows: 31 batches.
    let rows = (2 * reading.evenness.round_batches * 96).div_ceil(2) + 50;
    assert_eq!(reading.rank_bytes, rows * reading.row_bytes);
    assert_eq!(reading.evenness.round_batches, 31);
    assert!(reading.evenness.worst_slice > 0.0);
    for world in [1, 2, 4, 8, 16] {
        plan.check_world_size(world).unwrap();
    }
    for world in [0, 3, 6, 32] {
        let e = plan.check_world_size(world).unwrap_err();
        assert!(e.to_string().contains("1, 2, 4, 8, 16") && e.exit_code() == 2, "{e}");
    }
    let global = world.plan("global", |c| c.locality.kind = Order::Global).unwrap();
    global.check_world_size(3).unwrap();
}

/// Units that count other rows than there are, in sums that fit: nothing is dealt by them, and `check` says so.
#[test]
fn units_that_count_wrongly_are_found() {
    let world = World::new(3000, 250);
    let plan = world.plan("plan", |c| c.locality.unit_rows = Number::Fixed(50)).unwrap();
    let (mut units, local) = plan.units().unwrap().unwrap().clone();
    let entry = |unit: usize, h: u32| -> Option<usize> {
        let range = units.offsets[unit] as usize..units.offsets[unit + 1] as usize;
        range.clone().find(|&i| units.strata[i] == h && units.counts[i] > 1)
    };
    let strata = plan.manifest().strata;
    let all = 0..units.len();
    let pairs = all.clone().flat_map(|a| all.clone().map(move |b| (a, b))).filter(|(a, b)| a < b);
    let found = pairs
        .flat_map(|(a, b)| (0..strata).flat_map(move |h| (0..h).map(move |i| (a, b, h, i))))
        .find_map(|(a, b, h, i)| Some([entry(a, h)?, entry(a, i)?, entry(b, i)?, entry(b, h)?]));
    let [up, down, up_too, down_too] = found.expect("two units share two strata");
    let mut counts = units.counts.to_vec();
    [up, up_too].into_iter().for_each(|i| counts[i] += 1);
    [down, down_too].into_iter().for_each(|i| counts[i] -= 1);
    // Not of the map, whose file is written over.
    (units.counts, units.strata) = (counts.into(), units.strata.to_vec().into());
    let root = plan.path().to_path_buf();
    let mut manifest = plan.manifest().clone();
    drop(plan);
    let written = batchwright::format::units::encode(&units, &local, manifest.row_type).write(&root).unwrap();
    let file = manifest.files.iter_mut().find(|file| file.path == "units.arrow").unwrap();
    *file = written;
    manifest.seal();
    std::fs::write(root.join("plan.json"), manifest.to_json()).unwrap();

    let plan = Plan::open(&root).unwrap();
    plan.verify().unwrap();
    let e = plan.check_contradictions().unwrap_err().to_string();
    assert!(e.contains("units.arrow") && e.contains("counts other strata"), "{e}");
    let epochs = plan.epochs().unwrap();
    let epoch = epochs.epoch(0, epochs.base);
    let dealt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        (0..epoch.len()).map(|b| epoch.record(b).rows.len()).sum::<usize>()
    }));
    assert!(dealt.is_err(), "rows were dealt by wrong counts");
}
