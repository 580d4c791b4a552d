//! Plans in the local order: what is written is what is dealt, every promise holds, and what does not fit is told.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, ListArray, RecordBatch, StringArray};
use batchwright::batches::batch_size::Size;
use batchwright::batches::deal::{Allocation, Batch};
use batchwright::batches::locality::{Number, Order};
use batchwright::config::{Config, Run};
use batchwright::format::batches;
use batchwright::kit::ids::NONE;
use batchwright::kit::progress::Progress;
use batchwright::kit::rng::{key, normal};
use batchwright::modalities::EstimatorSpec;
use batchwright::pipeline;
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
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
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
    for t in 0..rounds.len() {
        let of = &counts[rounds.starts[t] as usize..rounds.starts[t + 1] as usize];
        for h in 0..counts[0].len() {
            let share = of.iter().map(|count| count[h]).sum::<f64>() / of.len() as f64;
            let slack = 1.0 + local.streams as f64 / f64::from(1 << 24);
            assert!(of.iter().all(|count| (count[h] - share).abs() < slack), "round {t}, stratum {h}");
        }
    }
    assert!(units.len() > 1 && rounds.len() > 1, "{} units, {} rounds", units.len(), rounds.len());
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
    let of_64 = |c: &mut Config| c.batch_size.size = Size::Fixed(64);
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
