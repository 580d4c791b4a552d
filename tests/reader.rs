//! The promise of [`Plan`]: whatever `plan` writes about rows and batches can be computed from the plan again, to the bit.

use std::path::{Path, PathBuf};

use batchwright::batches::allocation::Allocation;
use batchwright::batches::weights::Schedule;
use batchwright::config::{Config, Run};
use batchwright::format::{Kind, TableReader, batches, holdout};
use batchwright::kit::ids::NONE;
use batchwright::kit::matrix::Matrix;
use batchwright::kit::progress::Progress;
use batchwright::modalities;
use batchwright::parts::{Local, Part, Read};
use batchwright::pipeline;
use batchwright::plan::Plan;
use batchwright::plan::assigner::Assignment;
use batchwright::source::{Columns, Dataset, Invalid, RawRows};

const EPOCHS: u32 = 3;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn dataset(name: &str) -> Dataset {
    Dataset::open(&[fixture(name).to_str().unwrap().into()]).unwrap()
}

fn engine() -> Local {
    Local::new(2, Progress::default()).unwrap()
}

fn plan(input: &str, out: &Path, config: &Config) -> Plan {
    let run = Run { out: out.into(), threads: 2, ..Run::default() };
    let input = fixture(input).to_str().unwrap().to_string();
    pipeline::plan(&[input], config, &run, &Progress::default()).unwrap();
    Plan::open(out).unwrap()
}

/// A small sample, and no epochs written.
fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    config.modalities.resolution = 300;
    config.batches.epochs = Some(0);
    change(&mut config);
    config
}

fn mixed(config: &mut Config) {
    config.features.columns = ["length", "colour", "items", "stocked"].map(String::from).to_vec();
    config.source.label = Some("label".into());
}

// ---------------------------------------------------------------- epochs

/// Epochs computed from a plan without any are those of the same plan with three.
fn epochs_come_again(input: &str, change: impl Fn(&mut Config)) {
    let dir = tempfile::tempdir().unwrap();
    let bare = plan(input, &dir.path().join("bare"), &config(&change));
    let full = config(|c| {
        change(c);
        c.batches.epochs = Some(EPOCHS);
    });
    let full = plan(input, &dir.path().join("full"), &full);
    let computed = dir.path().join("computed");
    let mut compared = 0;
    for candidate in &full.manifest().candidates {
        for epoch in 0..EPOCHS {
            let size = candidate.batch_size;
            assert!(bare.batches(size, epoch).unwrap().is_none());
            let entry = bare.write_epoch(&computed, size, epoch, &Progress::default()).unwrap();
            let path = batches::path(size, epoch);
            assert_eq!(full.manifest().file(&path), Some(&entry), "{input}: {path}");
            let bytes = |root: &Path| std::fs::read(root.join(&path)).unwrap();
            assert!(bytes(&computed) == bytes(full.path()), "{input}: {path}");

            // A batch by itself: all but its place in an update.
            let written = full.batches(size, epoch).unwrap().unwrap();
            let epochs = bare.epochs().unwrap();
            let dealt = epochs.epoch(epoch, u64::from(size));
            assert_eq!(dealt.len(), written.len() as u64);
            for index in [0, dealt.len() / 2, dealt.len() - 1] {
                let (alone, written) = (dealt.record(index), written.get(index as usize));
                assert_eq!(alone.rows, written.rows.iter().collect::<Vec<_>>());
                let numbers = [alone.n_eff, alone.x, alone.score].map(|x| x as f32);
                assert_eq!(numbers, [written.n_eff, written.x, written.score]);
                compared += 1;
            }
        }
    }
    assert!(compared >= 9);
    let odd = bare.manifest().candidates[0].batch_size + 1;
    let error = bare.write_epoch(&computed, odd, 0, &Progress::default()).unwrap_err();
    assert!(error.to_string().contains("multiple"), "{error}");
}

#[test]
fn epochs_come_again_as_written() {
    epochs_come_again("digits.parquet", |c| c.source.label = Some("label".into()));
}

#[test]
fn epochs_come_again_with_skewed_shares_and_holdout() {
    epochs_come_again("digits.parquet", |c| {
        c.batches.allocation = Allocation::Equal;
        c.batches.holdout = 0.1;
    });
}

#[test]
fn epochs_come_again_without_the_rest_and_weights() {
    epochs_come_again("hive", |c| {
        c.batches.drop_last = true;
        c.weights.schedule = Schedule::Off;
    });
}

#[test]
fn epochs_come_again_of_mixed_columns() {
    epochs_come_again("mixed.parquet", mixed);
}

// ---------------------------------------------------------------- rows of the dataset

#[test]
fn rows_are_found_in_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan("hive", &dir.path().join("plan"), &config(|c| c.source.id = Some("label".into())));
    let dataset = dataset("hive");
    // In any order, some of them twice, across all files and row groups.
    let rows: Vec<u64> = (0..dataset.rows()).map(|i| i * 353 % dataset.rows()).chain([7, 7, 0]).collect();
    let columns = Columns::new(&dataset, vec![], vec!["label".into()]).unwrap();
    let mut raw = RawRows::default();
    columns.read(&Part { index: 0, first: 0, rows: dataset.rows() as usize }, &mut raw).unwrap();
    let table = raw.table.unwrap();
    let label = |row: u64| batchwright::source::text_value(table.column(0), row as usize);
    let want: Vec<_> = rows.iter().map(|&row| label(row)).collect();
    assert_eq!(plan.ids(&rows, &dataset, &engine()).unwrap(), want);
    assert!(want.iter().collect::<std::collections::BTreeSet<_>>().len() > 1);

    let mut groups = std::collections::BTreeSet::new();
    for (place, &row) in plan.locate(&rows).unwrap().iter().zip(&rows) {
        let here = dataset.locate(row);
        let group = &dataset.row_groups()[here.row_group];
        let want = (group.file, group.row_group, here.offset);
        assert_eq!((place.file as usize, place.row_group as usize, place.offset), want, "row {row}");
        assert_eq!(plan.manifest().inputs[place.file as usize].path, dataset.files()[group.file].path);
        groups.insert((place.file, place.row_group));
    }
    assert_eq!(groups.len(), dataset.row_groups().len());
    assert!(plan.locate(&[dataset.rows()]).is_err());
    assert!(plan.ids(&[dataset.rows()], &dataset, &engine()).is_err());
    assert_eq!(plan.ids(&[], &dataset, &engine()).unwrap(), Vec::<Option<String>>::new());
}

#[test]
fn another_dataset_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan("hive", &dir.path().join("plan"), &config(|c| c.source.id = Some("label".into())));
    plan.check_dataset(&dataset("hive"), true).unwrap();
    let error = plan.ids(&[0], &dataset("digits.parquet"), &engine()).unwrap_err();
    assert!(error.to_string().contains("split=test/part-0.parquet"), "{error}");
    assert!(error.help().contains("batchwright plan"), "{}", error.help());

    // One byte of one column chunk: only the fingerprints tell.
    let copy = dir.path().join("copy");
    for name in ["split=test/part-0", "split=train/part-0", "split=train/part-1", "split=train/part-10"] {
        let to = copy.join(format!("{name}.parquet"));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(fixture("hive").join(format!("{name}.parquet")), to).unwrap();
    }
    let copied = || Dataset::open(&[copy.to_str().unwrap().into()]).unwrap();
    plan.check_dataset(&copied(), true).unwrap();
    let changed = copy.join("split=train/part-1.parquet");
    let mut bytes = std::fs::read(&changed).unwrap();
    // Somewhere in the pages: the middle of the file's first half.
    let at = bytes.len() / 4;
    bytes[at] ^= 1;
    std::fs::write(&changed, bytes).unwrap();
    plan.check_dataset(&copied(), false).unwrap();
    let error = plan.check_dataset(&copied(), true).unwrap_err();
    assert!(error.to_string().contains("row group 0 of split=train/part-1.parquet"), "{error}");
    std::fs::remove_file(&changed).unwrap();
    assert!(plan.check_dataset(&copied(), false).is_err());

    let nameless = config(|_| ());
    let nameless = self::plan("hive", &dir.path().join("nameless"), &nameless);
    assert!(nameless.ids(&[0], &dataset("hive"), &engine()).unwrap_err().help().contains("--id"));
}

// ---------------------------------------------------------------- assignment

/// What `samples.arrow` says, held-out rows by `holdout.arrow` (which knows only their stratum).
fn written(plan: &Plan) -> (Assignment, Vec<(u64, u32)>) {
    let samples = plan.samples().unwrap();
    let mut all = Assignment::default();
    for row in 0..samples.rows() {
        all.modality.push(samples.modality(row));
        all.stratum.push(samples.stratum(row));
        all.distance.push(samples.distance(row).unwrap_or(f32::NAN));
    }
    let held = plan.table(Kind::Holdout).unwrap();
    (all, held.map_or(Vec::new(), |table: TableReader| pairs(&holdout::decode(&table).unwrap())))
}

fn pairs(held: &[holdout::HeldOut]) -> Vec<(u64, u32)> {
    held.iter().map(|h| (h.row, h.stratum)).collect()
}

fn same(got: &Assignment, want: &Assignment) {
    assert_eq!(got.modality, want.modality);
    assert_eq!(got.stratum, want.stratum);
    let bits = |a: &Assignment| a.distance.iter().map(|d| d.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(got), bits(want));
}

/// The dataset's own rows are assigned as the plan says.
fn rows_are_assigned_again(input: &str, change: impl FnOnce(&mut Config)) {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(input, &dir.path().join("plan"), &config(change));
    let (want, held) = written(&plan);
    let mut got = plan.assigner().unwrap().assign_dataset(&dataset(input), &engine()).unwrap();
    for &(row, stratum) in &held {
        let row = row as usize;
        assert_eq!(got.stratum[row], stratum);
        (got.modality[row], got.stratum[row], got.distance[row]) = (NONE, NONE, f32::NAN);
    }
    same(&got, &want);
    assert!(want.modality.iter().any(|&m| m != NONE));
}

/// One vector column, raw.
fn points(input: &str, column: &str) -> Matrix {
    let dataset = dataset(input);
    let columns = Columns::new(&dataset, vec![column.into()], vec![]).unwrap();
    let mut raw = RawRows::default();
    columns.read(&Part { index: 0, first: 0, rows: dataset.rows() as usize }, &mut raw).unwrap();
    raw.vectors.remove(0)
}

#[test]
fn rows_and_points_are_assigned_again() {
    use batchwright::features::Transform;
    for transform in [Transform::None, Transform::Unit, Transform::Standard] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(|c| {
            c.features.transform = transform;
            c.batches.holdout = if transform == Transform::Unit { 0.1 } else { 0.0 };
        });
        let plan = plan("digits.parquet", &dir.path().join("plan"), &config);
        let assigner = plan.assigner().unwrap();
        let by_file = assigner.assign_dataset(&dataset("digits.parquet"), &engine()).unwrap();
        let (mut want, held) = written(&plan);
        for (row, stratum) in held {
            let row = row as usize;
            assert_eq!(by_file.stratum[row], stratum);
            want.stratum[row] = stratum;
            want.modality[row] = by_file.modality[row];
            want.distance[row] = by_file.distance[row];
        }
        same(&by_file, &want);
        let mut points = points("digits.parquet", "embedding");
        same(&assigner.assign_points(&points, &engine()).unwrap(), &want);

        points.row_mut(5)[3] = f32::NAN;
        let error = assigner.assign_points(&points, &engine()).unwrap_err().to_string();
        assert!(error.contains("row 5"), "{error}");
        let narrow = Matrix::from_vec(1, 3, vec![0.0; 3]);
        assert!(assigner.assign_points(&narrow, &engine()).unwrap_err().to_string().contains("3 numbers"));
    }
}

#[test]
fn mixed_rows_are_assigned_again() {
    rows_are_assigned_again("mixed.parquet", mixed);
    rows_are_assigned_again("mixed.parquet", |c| {
        mixed(c);
        c.features.categories = batchwright::features::Categories::Hash;
    });
}

#[test]
fn hive_rows_are_assigned_again() {
    rows_are_assigned_again("hive", |c| c.batches.holdout = 0.2);
}

#[test]
fn unusable_rows_stay_out() {
    let dir = tempfile::tempdir().unwrap();
    let dropping = config(|c| c.source.invalid = Invalid::Drop);
    let plan = plan("nasty/nan.parquet", &dir.path().join("plan"), &dropping);
    let (want, _) = written(&plan);
    assert!(want.modality.contains(&NONE));
    let got = plan.assigner().unwrap().assign_dataset(&dataset("nasty/nan.parquet"), &engine()).unwrap();
    same(&got, &want);
    let mut two =
        Matrix::from_vec(2, plan.manifest().dims as usize, vec![0.5; 2 * plan.manifest().dims as usize]);
    two.row_mut(0)[0] = f32::INFINITY;
    let got = plan.assigner().unwrap().assign_points(&two, &engine()).unwrap();
    assert_eq!((got.modality[0], got.stratum[0]), (NONE, NONE));
    assert!(got.distance[0].is_nan() && got.modality[1] != NONE);
}

#[test]
fn columns_decide_as_in_the_plan() {
    use modalities::EstimatorSpec::Column;
    let by_column = |c: &mut Config| {
        c.modalities.estimator = Column;
        c.modalities.column = Some("label".into());
    };
    rows_are_assigned_again("digits.parquet", by_column);
    let dir = tempfile::tempdir().unwrap();
    let plan = plan("digits.parquet", &dir.path().join("plan"), &config(by_column));
    let points = points("digits.parquet", "embedding");
    let error = plan.assigner().unwrap().assign_points(&points, &engine()).unwrap_err().to_string();
    assert!(error.contains("`label`"), "{error}");
    // Digits 0 to 9 against the labels of another file.
    let other = dataset("hive");
    assert!(plan.assigner().unwrap().assign_dataset(&other, &engine()).is_err());

    for by in ["colour", "modality,colour"] {
        rows_are_assigned_again("mixed.parquet", |c| {
            mixed(c);
            c.features.columns = vec!["length".into(), "items".into()];
            c.strata.by = by.into();
        });
    }
    rows_are_assigned_again("mixed.parquet", |c| {
        mixed(c);
        c.features.columns = vec!["length".into(), "items".into()];
        c.modalities.estimator = Column;
        c.modalities.column = Some("label".into());
        c.strata.by = "modality,colour".into();
    });
}

#[test]
fn an_unknown_value_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(|c| {
        c.modalities.estimator = modalities::EstimatorSpec::Column;
        c.modalities.column = Some("split".into());
    });
    let run = Run { out: dir.path().join("plan"), ..Run::default() };
    let train = fixture("hive/split=train").to_str().unwrap().to_string();
    let test = fixture("hive/split=test").to_str().unwrap().to_string();
    pipeline::plan(&[train], &config, &run, &Progress::default()).unwrap();
    let assigner = Plan::open(&run.out).unwrap().assigner().unwrap();
    let error = assigner.assign_dataset(&Dataset::open(&[test]).unwrap(), &engine()).unwrap_err();
    assert!(error.to_string().contains("`test`"), "{error}");
}
