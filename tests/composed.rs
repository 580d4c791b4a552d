//! Plans whose batches are more than stratified: what is written is what is dealt, what they promise of the rows themselves holds, they are
//! brought up to date, and what does not go together is told.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
use batchwright::batches::allocation::Allocation;
use batchwright::batches::batch_size::Candidates;
use batchwright::batches::chunks::Chunk;
use batchwright::batches::locality::Order;
use batchwright::batches::number::Number;
use batchwright::config::{Check, Config, Run};
use batchwright::format::batches;
use batchwright::kit::ids::NONE;
use batchwright::kit::progress::Progress;
use batchwright::kit::rng::{key, normal};
use batchwright::modalities::EstimatorSpec;
use batchwright::parts::Local;
use batchwright::pipeline;
use batchwright::plan::Plan;
use parquet::arrow::ArrowWriter;

/// What a row has as keys: a user, which every tenth row lacks, and two texts of which the second may be another row's first.
fn keys(row: u64) -> (Option<i64>, String, String) {
    let user = (!row.is_multiple_of(10)).then(|| (key(5, &[row]) % 600) as i64);
    let text = |word| format!("text-{}", key(word, &[row]) % 900);
    (user, text(6), text(7))
}

/// Labels of a row: none, or up to three of twenty, the first ones of which are frequent.
fn tags(row: u64) -> Vec<String> {
    (0..key(8, &[row]) % 4)
        .map(|i| format!("tag-{}", key(9, &[row, i]) % (1 + key(10, &[row, i]) % 20)))
        .collect()
}

/// Rows `from..to` in five blobs.
fn write(path: &Path, from: u64, to: u64) {
    let blob = |row: u64| key(1, &[row]) % 5;
    let point = |row: u64| {
        let number = |j| Some((normal(key(2, &[row, j])) + 8.0 * normal(key(3, &[blob(row), j]))) as f32);
        Some((0..3).map(number).collect::<Vec<_>>())
    };
    let rows = || from..to;
    let texts = |of: fn((Option<i64>, String, String)) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows().map(|row| of(keys(row)))))
    };
    let mut labels = ListBuilder::new(StringBuilder::new());
    rows().for_each(|row| labels.append_value(tags(row).into_iter().map(Some)));
    let labels = labels.finish();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("embedding", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows().map(point)))),
        (
            "kind",
            Arc::new(StringArray::from_iter_values(rows().map(|row| format!("kind-{}", blob(row) % 3)))),
        ),
        ("user", Arc::new(Int64Array::from_iter(rows().map(|row| keys(row).0)))),
        ("tags", Arc::new(labels)),
        ("query", texts(|k| k.1)),
        ("answer", texts(|k| k.2)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

const ROWS: u64 = 3000;

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        write(&dir.path().join("data/a.parquet"), 0, ROWS);
        World { dir }
    }

    fn data(&self) -> Vec<String> {
        vec![self.dir.path().join("data").to_str().unwrap().to_string()]
    }

    fn run(&self, name: &str) -> Run {
        Run { out: self.dir.path().join(name), threads: 2, ..Run::default() }
    }

    fn plan(&self, name: &str, change: impl FnOnce(&mut Config)) -> batchwright::Result<Plan> {
        let mut config = Config::default();
        config.features.columns = vec!["embedding".into()];
        config.modalities.estimator = EstimatorSpec::Kmeans;
        config.modalities.count = Some(5);
        config.batch_size.size = Number::Fixed(96);
        config.batch_size.candidates = Candidates::List(vec![48, 96, 192]);
        change(&mut config);
        config.check()?;
        pipeline::plan(&self.data(), &config, &self.run(name), &Progress::default())?;
        Plan::open(self.dir.path().join(name))
    }
}

/// Batches of a candidate size in an epoch.
fn dealt(plan: &Plan, epoch: u32, size: u64) -> Vec<(Vec<u64>, Vec<u32>)> {
    let all = plan.epochs().unwrap();
    let epoch = all.epoch(epoch, size);
    (0..epoch.len()).map(|b| epoch.record(b)).map(|r| (r.rows, r.stratum)).collect()
}

/// Every planned row once an epoch, with the stratum that it has; and what is in plan.json is what the other files say.
fn whole(plan: &Plan, drops: bool) {
    plan.verify().unwrap();
    plan.check_contradictions().unwrap();
    let (samples, m) = (plan.samples().unwrap(), plan.manifest());
    for (epoch, candidate) in [0, 5].into_iter().flat_map(|e| m.candidates.iter().map(move |c| (e, c))) {
        let mut seen = vec![0u32; m.rows as usize];
        for (row, h) in
            dealt(plan, epoch, candidate.batch_size.into()).into_iter().flat_map(|b| b.0.into_iter().zip(b.1))
        {
            assert_eq!(samples.stratum(row), h);
            seen[row as usize] += 1;
        }
        let planned = |row: usize| samples.stratum(row as u64) != NONE;
        assert!((0..seen.len()).all(|row| seen[row] <= u32::from(planned(row))));
        let left_out = m.rows_planned - u64::from(seen.iter().sum::<u32>());
        assert_eq!(left_out, if drops { m.rows_planned % 48 } else { 0 });
    }
}

/// Epochs that were written, and the same computed by a plan that wrote none.
fn as_written(world: &World, bare: &Plan, full: &Plan) {
    let computed = world.dir.path().join("computed");
    let m = full.manifest();
    assert_eq!((bare.manifest().epochs, m.epochs, m.candidates.len()), (0, 2, 3));
    for (size, number) in m.candidates.iter().flat_map(|c| [(c.batch_size, 0), (c.batch_size, 1)]) {
        let entry = bare.write_epoch(&computed, size, number, &Progress::default()).unwrap();
        assert_eq!(m.file(&batches::path(size, number)).unwrap().blake3, entry.blake3, "{size} {number}");
    }
    std::fs::remove_dir_all(computed).unwrap();
}

fn set_chunk(rows: u64) -> impl Fn(&mut Config) {
    move |c| c.batches.chunk = Chunk::Rows(rows)
}

/// Batches of 48 rows, and others from a share of the training on.
fn change_sizes(c: &mut Config, change: &str) {
    c.batch_size.schedule =
        ["0:48", change].map(|text| serde_json::from_value(text.into()).unwrap()).to_vec();
}

fn labelled(c: &mut Config, by: &str) {
    c.strata.by = by.into();
    c.batches.rows_per_label = Some(Chunk::Rows(4));
}

#[test]
fn batches_of_chunks() {
    let world = World::new();
    for (name, change) in [
        ("plain", (|_| ()) as fn(&mut Config)),
        ("one", |c| c.batches.chunk = Chunk::Batch),
        ("held-out", |c| c.batches.holdout = 0.1),
        ("dropped", |c| c.batches.drop_last = true),
        ("by-column", |c| c.strata.by = "kind".into()),
        ("labelled", |c| c.source.label = Some("kind".into())),
    ] {
        let plan = world
            .plan(name, |c| {
                set_chunk(12)(c);
                change(c);
            })
            .unwrap();
        whole(&plan, name == "dropped");
        let m = plan.manifest();
        let distance = m.run_distance.unwrap();
        assert!(distance > 0.0 && distance < 0.5, "blobs are far apart: {distance}");
        assert_eq!((m.gain.clone(), m.modality_share.value, m.information_threshold), (None, 0.0, 96.0));
        let chunk = if name == "one" { 48 } else { 12 };
        assert_eq!(plan.config().unwrap().chunk(), chunk);
        // Of what a stratum gives, a full batch has its share within a chunk; a batch is made of chunks from everywhere.
        let offsets = plan.strata().unwrap().offsets();
        for (rows, strata) in dealt(&plan, 3, 48).iter().filter(|b| b.0.len() == 48) {
            for h in 0..m.strata {
                let count = strata.iter().filter(|&&x| x == h).count() as f64;
                let share =
                    48.0 * (offsets[h as usize + 1] - offsets[h as usize]) as f64 / m.rows_planned as f64;
                assert!((count - share).abs() < chunk as f64, "stratum {h}: {count} of {share}");
            }
            assert!(rows.len() == 48);
        }
    }
    let bare = world.plan("bare", |c| (set_chunk(12)(c), c.batches.epochs = Some(0)).1).unwrap();
    let full = world.plan("full", |c| (set_chunk(12)(c), c.batches.epochs = Some(2)).1).unwrap();
    as_written(&world, &bare, &full);
}

/// Rows of a chunk are nearer to each other than those of a stratified batch, about as `run_distance` says.
#[test]
fn rows_of_a_chunk_are_alike() {
    let world = World::new();
    let plan = world.plan("plan", set_chunk(12)).unwrap();
    let point = |row: u64| -> Vec<f64> {
        let blob = key(1, &[row]) % 5;
        (0..3).map(|j| normal(key(2, &[row, j])) + 8.0 * normal(key(3, &[blob, j]))).collect()
    };
    let square = |a: u64, b: u64| point(a).iter().zip(point(b)).map(|(x, y)| (x - y) * (x - y)).sum::<f64>();
    let mean =
        |pairs: Vec<(u64, u64)>| pairs.iter().map(|&(a, b)| square(a, b)).sum::<f64>() / pairs.len() as f64;
    let any = mean((0..4000).map(|i| (key(8, &[i]) % ROWS, key(9, &[i]) % ROWS)).collect());
    let full: Vec<Vec<u64>> =
        dealt(&plan, 0, 48).into_iter().map(|b| b.0).filter(|rows| rows.len() == 48).collect();
    let inside = mean(
        full.iter().flat_map(|rows| rows.chunks(12)).map(|c| (c[0], c[1 + c[0] as usize % 11])).collect(),
    );
    let told = plan.manifest().run_distance.unwrap();
    assert!((inside / any - told).abs() < 0.1, "{inside} of {any}, not {told}");
}

/// Most rows that share a value in any batch of a size, by the rows themselves.
fn meeting(plan: &Plan, epoch: u32, size: u64, values: impl Fn(u64) -> Vec<String>) -> u64 {
    let most = |rows: &Vec<u64>| {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        rows.iter().flat_map(|&row| values(row)).for_each(|value| *counts.entry(value).or_default() += 1);
        counts.into_values().max().unwrap_or(0)
    };
    dealt(plan, epoch, size).iter().map(|b| most(&b.0)).max().unwrap_or(0)
}

fn user(row: u64) -> Vec<String> {
    keys(row).0.iter().map(i64::to_string).collect()
}

/// The values of both columns, each once.
fn texts(row: u64) -> Vec<String> {
    let (_, query, answer) = keys(row);
    if query == answer { vec![query] } else { vec![query, answer] }
}

#[test]
fn no_two_rows_of_a_user_meet() {
    let world = World::new();
    let of_user = |c: &mut Config| c.batches.no_duplicates = vec!["user".into()];
    let without = world.plan("without", |_| ()).unwrap();
    // About four rows a user, 15 full batches of 192: nobody has more.
    assert!(meeting(&without, 0, 192, user) > 1);
    for (name, change) in [
        ("plain", (|_| ()) as fn(&mut Config)),
        ("chunks", |c| c.batches.chunk = Chunk::Rows(12)),
        ("dropped", |c| c.batches.drop_last = true),
        ("held-out", |c| c.batches.holdout = 0.1),
    ] {
        let plan = world
            .plan(name, |c| {
                of_user(c);
                change(c);
            })
            .unwrap();
        whole(&plan, name == "dropped");
        let repeats = plan.manifest().repeats.unwrap();
        let batches = plan.manifest().rows_planned / 192;
        assert!(repeats.largest > 4 && repeats.largest <= batches, "{name} {repeats:?}");
        assert_eq!((repeats.batch, repeats.union), (1, 1), "{name}");
        for (epoch, size) in [(0, 48), (0, 96), (0, 192), (9, 48), (9, 192)] {
            assert_eq!(meeting(&plan, epoch, size, user), 1, "{name}, epoch {epoch}, size {size}");
        }
        // The lowest planned row of the same user.
        let rows: Vec<u64> = (0..ROWS).collect();
        let samples = plan.samples().unwrap();
        let mut first: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
        for &row in rows.iter().filter(|&&row| samples.stratum(row) != NONE) {
            if let Some(user) = keys(row).0 {
                first.entry(user).or_insert((row, 0)).1 += 1;
            }
        }
        for (row, group) in rows.iter().zip(plan.groups_of(&rows).unwrap()) {
            let planned = samples.stratum(*row) != NONE;
            let want = keys(*row).0.filter(|_| planned).map(|user| first[&user]).filter(|found| found.1 > 1);
            assert_eq!(group, want.map(|found| found.0), "row {row}");
        }
        assert_eq!(repeats.largest, first.values().map(|found| found.1).max().unwrap());
        assert_eq!(repeats.keys, first.values().filter(|found| found.1 > 1).count() as u64);
    }
    let bare = world.plan("bare", |c| (of_user(c), c.batches.epochs = Some(0)).1).unwrap();
    let full = world.plan("full", |c| (of_user(c), c.batches.epochs = Some(2)).1).unwrap();
    as_written(&world, &bare, &full);
}

/// A row has a key per column, a value is the same in any of them, and what no exchange removes is counted.
#[test]
fn several_columns() {
    let world = World::new();
    let plan = world
        .plan("plan", |c| c.batches.no_duplicates = vec!["query".into(), "column:answer".into()])
        .unwrap();
    whole(&plan, false);
    let repeats = plan.manifest().repeats.unwrap();
    assert_eq!(repeats.batch, meeting(&plan, 0, 48, texts));
    assert_eq!(repeats.union, meeting(&plan, 0, 192, texts));
    let without = world.plan("without", |_| ()).unwrap();
    let conflicts = |plan: &Plan| {
        let of = |rows: &Vec<u64>| {
            let mut all: Vec<String> = rows.iter().flat_map(|&row| texts(row)).collect();
            all.sort_unstable();
            all.windows(2).filter(|w| w[0] == w[1]).count()
        };
        dealt(plan, 0, 48).iter().map(|b| of(&b.0)).sum::<usize>()
    };
    let (before, after) = (conflicts(&without), conflicts(&plan));
    assert!(before > 50 && after * 20 < before, "{before} to {after}");
    let e = plan.groups_of(&[0]).unwrap_err();
    assert!(e.to_string().contains("batches.no_duplicates"), "{e}");
}

/// New rows join: of chunks the distance is merged, of keys the groups are found anew over all rows.
#[test]
fn plans_are_brought_up_to_date() {
    let world = World::new();
    let change = |c: &mut Config| {
        c.batches.chunk = Chunk::Rows(12);
        c.batches.no_duplicates = vec!["user".into()];
    };
    let old = world.plan("old", change).unwrap();
    write(&world.dir.path().join("data/b.parquet"), ROWS, ROWS + 600);
    let progress = Progress::default();
    let update = |out: &str, refit| {
        let old = world.dir.path().join("old");
        let run = world.run(out);
        pipeline::update(&old, &world.data(), &Check::default(), refit, false, false, &run, &progress)
            .unwrap()
    };
    for (out, refit, how) in [("new", false, "appended"), ("refitted", true, "refitted")] {
        assert_eq!(update(out, refit).how, how);
        let new = Plan::open(world.dir.path().join(out)).unwrap();
        whole(&new, false);
        let (then, now) = (old.manifest(), new.manifest());
        assert!((now.run_distance.unwrap() - then.run_distance.unwrap()).abs() < 0.1);
        assert_eq!((now.rows, now.config["batches"].clone()), (ROWS + 600, then.config["batches"].clone()));
        assert!(now.repeats.unwrap().rows > then.repeats.unwrap().rows);
        let most = now.repeats.unwrap().largest.div_ceil((ROWS + 600) / 192);
        assert!(meeting(&new, 1, 192, user) <= most);
    }
}

/// Every row once an epoch, whichever sizes an epoch has; what plan.json tells is what a walk finds.
#[test]
fn sizes_that_change_in_training() {
    let world = World::new();
    let schedule = |c: &mut Config| {
        c.batch_size.size = Number::Auto;
        c.batch_size.candidates = Candidates::Auto;
        c.batch_size.schedule = serde_json::from_str(r#"[["0", 48], ["0.4", 96], [0.7, 192]]"#).unwrap();
        c.batches.train_epochs = Some(2);
    };
    let plan = world.plan("plan", schedule).unwrap();
    whole(&plan, false);
    let m = plan.manifest();
    assert_eq!((m.sizes(), m.batch_size), (vec![48, 96, 192], 48));
    let told = m.schedule.clone().unwrap();
    assert_eq!((told.train_epochs, told.sizes[1].clone()), (2, ("0.4".to_string(), 96)));
    let walk = |plan: &Plan| -> Vec<u64> {
        let schedule = plan.size_schedule().unwrap().unwrap();
        let mut step = 0;
        let counts = (0..4).map(|epoch| {
            let (first, mut rows) = (step, Vec::new());
            for _ in 0..schedule.steps(epoch) {
                let at = schedule.locate(step).unwrap();
                assert_eq!(at.epoch, epoch);
                let size = 48 * at.k;
                rows.extend(plan.epochs().unwrap().epoch(epoch, size).record(at.batch / at.k).rows);
                step += 1;
            }
            rows.sort_unstable();
            assert_eq!(
                rows,
                (0..plan.manifest().rows).collect::<Vec<u64>>(),
                "every row once in epoch {epoch}"
            );
            step - first
        });
        counts.collect()
    };
    let steps = walk(&plan);
    // 63 batches of 48, changes at multiples of 4: from 52 of the first epoch on, and from 28 of the second.
    assert_eq!(steps, [52 + 6, 14 + 9, 16, 16]);
    assert_eq!(told.steps, steps[..2]);

    write(&world.dir.path().join("data/b.parquet"), ROWS, ROWS + 600);
    let (old, run) = (world.dir.path().join("plan"), world.run("new"));
    pipeline::update(&old, &world.data(), &Check::default(), false, false, false, &run, &Progress::default())
        .unwrap();
    let new = Plan::open(world.dir.path().join("new")).unwrap();
    whole(&new, false);
    assert_eq!(walk(&new)[..2], new.manifest().schedule.as_ref().unwrap().steps);

    // In the local order too; and a plan that tells another schedule contradicts itself.
    let local = |c: &mut Config| {
        (schedule(c), c.locality.kind = Order::Local, c.locality.unit_rows = Number::Fixed(100)).0
    };
    let local = world.plan("local", local).unwrap();
    walk(&local);
    local.check_contradictions().unwrap();
}

/// Strata are ten bins of equal numbers of rows; new rows find theirs by the same edges.
#[test]
fn bins_of_a_number() {
    let world = World::new();
    let plan = world.plan("plan", |c| c.strata.by = "user:q10".into()).unwrap();
    whole(&plan, false);
    let strata = plan.strata().unwrap();
    let names = strata.names().unwrap().clone();
    let edges = names.edges.clone().unwrap();
    assert_eq!((edges.len(), names.values.len()), (9, 11), "ten bins, and the rows without a user");
    let bin = |row: u64| match keys(row).0 {
        None => "null".to_string(),
        Some(user) => format!("q{}", edges.iter().filter(|&&edge| edge <= user as f64).count()),
    };
    let check = |plan: &Plan| {
        let strata = plan.strata().unwrap();
        assert_eq!(strata.names().unwrap().edges, Some(edges.clone()));
        for (h, name) in strata.values().unwrap().iter().enumerate() {
            assert!(strata.stratum(h).iter().all(|row| bin(row) == *name), "{name}");
            if name != "null" {
                let share = strata.stratum(h).len() as f64 / (0.9 * plan.manifest().rows as f64);
                assert!((share - 0.1).abs() < 0.01, "{name} has {share}");
            }
        }
    };
    check(&plan);
    write(&world.dir.path().join("data/b.parquet"), ROWS, ROWS + 600);
    let dataset = plan.open_dataset(&world.data(), 1 << 30, &Progress::default()).unwrap();
    let found = plan
        .assigner()
        .unwrap()
        .assign_dataset(&dataset, &Local::new(2, Progress::default()).unwrap())
        .unwrap();
    for row in 0..ROWS + 600 {
        assert_eq!(names.values[found.stratum[row as usize] as usize], bin(row));
    }
    let update = |data: &[String], out: &str| {
        let (old, run) = (world.dir.path().join("plan"), world.run(out));
        let limits = Check::default();
        let told =
            pipeline::update(&old, data, &limits, false, false, false, &run, &Progress::default()).unwrap();
        check(&Plan::open(world.dir.path().join(out)).unwrap());
        told.how
    };
    assert_eq!(update(&world.data(), "appended"), "appended");
    // The rows of a.parquet come later: the same rows, read anew, whose bins are those of the plan.
    std::fs::remove_file(world.dir.path().join("data/b.parquet")).unwrap();
    write(&world.dir.path().join("data/a.parquet"), 0, ROWS - 500);
    assert_eq!(update(&world.data(), "anew"), "read anew");

    let crossed = world.plan("crossed", |c| c.strata.by = "modality,user:q4".into()).unwrap();
    whole(&crossed, false);
    assert_eq!(crossed.strata().unwrap().names().unwrap().edges.as_ref().unwrap().len(), 3);
    let text = world.plan("text", |c| c.strata.by = "query:q4".into()).unwrap_err();
    assert!(text.to_string().contains("strata.by") && text.to_string().contains("no quantiles"), "{text}");
}

/// A row's stratum is the rarest of its labels, in the data as in new rows.
#[test]
fn the_rarest_label_of_a_list() {
    let world = World::new();
    let plan = world.plan("plan", |c| c.strata.by = "tags".into()).unwrap();
    whole(&plan, false);
    let names = plan.strata().unwrap().names().unwrap().clone();
    let rows = names.labels.clone().unwrap();
    // The sample is all of the data here.
    for (label, n) in &rows {
        assert_eq!(*n, (0..ROWS).filter(|&row| tags(row).contains(label)).count() as u64, "{label}");
    }
    let rarest =
        |row: u64| tags(row).into_iter().min_by_key(|tag| (rows[tag], tag.clone())).unwrap_or("null".into());
    let check = |plan: &Plan| {
        let strata = plan.strata().unwrap();
        for (h, name) in strata.values().unwrap().iter().enumerate() {
            assert!(strata.stratum(h).iter().all(|row| rarest(row) == *name), "{name}");
        }
    };
    check(&plan);
    write(&world.dir.path().join("data/b.parquet"), ROWS, ROWS + 600);
    let (old, run) = (world.dir.path().join("plan"), world.run("new"));
    pipeline::update(&old, &world.data(), &Check::default(), false, false, false, &run, &Progress::default())
        .unwrap();
    check(&Plan::open(world.dir.path().join("new")).unwrap());
    for (by, told) in [("tags:q4", "no quantiles"), ("embedding", "lists of text")] {
        let e = world.plan("refused", |c| c.strata.by = by.into()).unwrap_err();
        assert!(format!("{e} {}", e.help()).contains(told), "{e}");
    }
}

/// Four rows of each of twelve queries a batch, every row in turn; queries with fewer rows are in none.
#[test]
fn rows_of_each_of_some_labels() {
    let world = World::new();
    let by_query = |c: &mut Config| {
        c.strata.by = "query".into();
        c.batches.rows_per_label = Some(Chunk::Rows(4));
    };
    let plan = world.plan("plan", by_query).unwrap();
    plan.verify().unwrap();
    plan.check_contradictions().unwrap();
    let m = plan.manifest();
    let query = |row: u64| keys(row).1;
    let mut rows_of: BTreeMap<String, u64> = BTreeMap::new();
    (0..ROWS).for_each(|row| *rows_of.entry(query(row)).or_default() += 1);
    let few = || rows_of.values().filter(|&&n| n < 4);
    let left_out = m.left_out.unwrap();
    assert_eq!((left_out.labels, left_out.rows), (few().count() as u64, few().sum()));
    assert!(left_out.rows > 0 && (m.gain.clone(), m.modality_share.value) == (None, 0.0));
    assert_eq!(plan.loss_weights_of(&[0, 1]).unwrap(), None);
    let mut seen = vec![0u64; ROWS as usize];
    for epoch in 0..5 {
        for (rows, _) in dealt(&plan, epoch, 48) {
            let of: Vec<String> = rows.iter().map(|&row| query(row)).collect();
            assert!(of.chunks(4).all(|of| of.len() == 4 && of.iter().all(|text| *text == of[0])));
            let met: std::collections::BTreeSet<&String> = of.iter().collect();
            assert_eq!(met.len() * 4, rows.len(), "different queries");
            rows.iter().for_each(|&row| seen[row as usize] += 1);
        }
    }
    let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    (0..ROWS).for_each(|row| times.entry(query(row)).or_default().push(seen[row as usize]));
    for (text, times) in times {
        let (least, most) = (*times.iter().min().unwrap(), *times.iter().max().unwrap());
        assert!(most - least <= 1 && (most > 0) == (rows_of[&text] >= 4), "{text}: {times:?}");
    }
    let bare = world.plan("bare", |c| (by_query(c), c.batches.epochs = Some(0)).1).unwrap();
    let full = world.plan("full", |c| (by_query(c), c.batches.epochs = Some(2)).1).unwrap();
    as_written(&world, &bare, &full);
    // One label a batch; an automatic size holds whole labels on every rank; users that are null are no label.
    let one = world
        .plan("one", |c| {
            by_query(c);
            c.batches.rows_per_label = Some(Chunk::Batch);
            c.batch_size.size = Number::Fixed(4);
            c.batch_size.candidates = Candidates::Auto;
        })
        .unwrap();
    assert!(dealt(&one, 2, 4).iter().all(|b| b.0.iter().all(|&row| query(row) == query(b.0[0]))));
    let auto = world
        .plan("auto", |c| {
            c.strata.by = "user".into();
            c.batches.rows_per_label = Some(Chunk::Rows(3));
            c.batch_size = Default::default();
            c.batch_size.world_size = 2;
        })
        .unwrap();
    auto.check_contradictions().unwrap();
    assert!(auto.manifest().batch_size.is_multiple_of(6));
    let nulls = (0..ROWS).filter(|&row| keys(row).0.is_none()).count() as u64;
    assert!(auto.manifest().left_out.unwrap().rows >= nulls);
    assert!(
        dealt(&auto, 0, auto.manifest().batch_size.into())
            .iter()
            .flat_map(|b| &b.0)
            .all(|&row| keys(row).0.is_some())
    );
}

#[test]
fn what_does_not_go_together() {
    let world = World::new();
    let no_duplicates = |c: &mut Config| c.batches.no_duplicates = vec!["user".into()];
    type Change = Box<dyn Fn(&mut Config)>;
    let cases: Vec<(Change, [&str; 2])> = vec![
        (Box::new(|c| (set_chunk(7)(c), ()).1), ["batches.chunk", "48"]),
        (
            Box::new(|c| (set_chunk(8)(c), c.batch_size.size = Number::Auto).1),
            ["batches.chunk", "batch_size.size"],
        ),
        (
            Box::new(|c| (set_chunk(8)(c), c.locality.kind = Order::Local).1),
            ["batches.chunk", "locality.kind"],
        ),
        (
            Box::new(|c| (set_chunk(8)(c), c.scores.modality_share = Some(0.3)).1),
            ["scores.modality_share", "batches.chunk"],
        ),
        (
            Box::new(move |c| (no_duplicates(c), c.locality.kind = Order::Local).1),
            ["batches.no_duplicates", "locality.kind"],
        ),
        (
            Box::new(move |c| {
                (no_duplicates(c), c.batch_size.candidates = Candidates::List(vec![48, 96, 144])).1
            }),
            ["batch_size.candidates", "batches.no_duplicates"],
        ),
        (Box::new(|c| labelled(c, "modality")), ["batches.rows_per_label", "strata.by"]),
        (
            Box::new(|c| (labelled(c, "query"), set_chunk(4)(c)).1),
            ["batches.chunk", "batches.rows_per_label"],
        ),
        (
            Box::new(move |c| (labelled(c, "query"), no_duplicates(c)).1),
            ["batches.no_duplicates", "batches.rows_per_label"],
        ),
        (
            Box::new(|c| (labelled(c, "query"), c.batches.allocation = Allocation::Equal).1),
            ["batches.allocation", "batches.rows_per_label"],
        ),
        (
            Box::new(|c| (labelled(c, "query"), c.locality.kind = Order::Local).1),
            ["batches.rows_per_label", "locality.kind"],
        ),
        (
            Box::new(|c| (labelled(c, "query"), c.batch_size.world_size = 24).1),
            ["batches.rows_per_label", "batch_size.world_size"],
        ),
        (Box::new(|c| labelled(c, "kind")), ["batches.rows_per_label", "3 of 3 labels"]),
        (
            Box::new(|c| {
                (labelled(c, "query"), change_sizes(c, "0.5:96"), c.batches.train_epochs = Some(2)).2
            }),
            ["batch_size.schedule", "batches.rows_per_label"],
        ),
        (Box::new(|c| change_sizes(c, "0.5:96")), ["batch_size.schedule", "batches.train_epochs"]),
        (Box::new(|c| c.batches.train_epochs = Some(2)), ["batches.train_epochs", "batch_size.schedule"]),
        (
            Box::new(|c| (change_sizes(c, "0.5:100"), c.batches.train_epochs = Some(2)).1),
            ["batch_size.candidates", "100"],
        ),
        (
            Box::new(|c| (change_sizes(c, "0.999:96"), c.batches.train_epochs = Some(2)).1),
            ["batch_size.schedule", "the size 96 from 0.999 on has no batch"],
        ),
        (Box::new(|c| c.batches.no_duplicates = vec!["near".into()]), ["batches.no_duplicates", "near"]),
        (Box::new(|c| c.batches.no_duplicates = vec!["nobody".into()]), ["batches.no_duplicates", "nobody"]),
        (
            Box::new(|c| c.batches.no_duplicates = vec!["embedding".into()]),
            ["batches.no_duplicates", "embedding"],
        ),
    ];
    for (change, words) in cases {
        let e = world.plan("plan", |c| change(c)).map(|_| ()).unwrap_err();
        assert_eq!(e.exit_code(), 2, "{e}");
        assert!(words.iter().all(|word| e.to_string().contains(word)), "{words:?}: {e}");
        assert!(!world.dir.path().join("plan").exists());
    }
    // Shares that are skewed on purpose go with both.
    let skewed = world.plan("skewed", |c| {
        c.batches.allocation = Allocation::Equal;
        c.strata.by = "kind".into();
        c.batches.chunk = Chunk::Rows(12);
        no_duplicates(c);
    });
    skewed.unwrap().check_contradictions().unwrap();
}
