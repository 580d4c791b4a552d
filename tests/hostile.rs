//! Damaged, foreign and newer plans give an error that names the file and a remedy: never a panic, never a wild
//! allocation. Killed and competing runs leave a whole plan or none.

use std::fs;
use std::path::{Path, PathBuf};

use batchwright::Error;
use batchwright::format::*;
use batchwright::plan::*;

use crate::edited::sealed;
use crate::format::{plan_at, write_plan};
use crate::targets::{read_bytes, read_table};

fn read_all(path: &Path, kind: Kind) -> batchwright::Result<()> {
    read_table(TableReader::open(path, kind)?, kind)
}

fn tables(plan: &Path) -> Vec<(PathBuf, Kind)> {
    let plan = Plan::open(plan).unwrap();
    let files = &plan.manifest().files;
    files.iter().map(|f| (plan.path().join(&f.path), Kind::from_name(&f.kind).unwrap())).collect()
}

#[track_caller]
fn assert_plan_error(error: Error, file: &Path) {
    let text = error.to_string();
    assert!(matches!(error, Error::Plan { .. }), "{error:?}");
    assert!(text.contains(file.file_name().unwrap().to_str().unwrap()), "{text}");
    assert!(!error.help().is_empty(), "{text}");
}

#[test]
fn a_truncated_table_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    plan_at(&dir.path().join("plan"));
    for (path, kind) in tables(&dir.path().join("plan")) {
        let bytes = fs::read(&path).unwrap();
        for length in (0..bytes.len()).step_by(97).chain(bytes.len() - 12..bytes.len()) {
            fs::write(&path, &bytes[..length]).unwrap();
            assert_plan_error(read_all(&path, kind).unwrap_err(), &path);
        }
    }
}

#[test]
fn flipped_bytes_never_panic_and_verify_finds_them() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("plan");
    plan_at(&out);
    for (path, kind) in tables(&out) {
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            // Numbers of a body may change unseen; what they lead to must stay inside.
            let mut broken = bytes.clone();
            broken[at] ^= [0xff, 0x01, 0x80][at % 3];
            if let Err(e) = read_bytes(&broken, &path, kind) {
                assert_plan_error(e, &path);
            }
        }
        let mut broken = bytes.clone();
        broken[bytes.len() / 2] ^= 1;
        fs::write(&path, &broken).unwrap();
        if let Ok(plan) = Plan::open(&out) {
            assert_plan_error(plan.verify().unwrap_err(), &path);
        }
        fs::write(&path, &bytes).unwrap();
    }
    Plan::open(&out).unwrap().verify().unwrap();
}

#[test]
fn huge_lengths_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    plan_at(&dir.path().join("plan"));
    for (path, kind) in tables(&dir.path().join("plan")) {
        let bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 10;
        for length in [i32::MAX, i32::MIN, -1, bytes.len() as i32, at as i32 + 1] {
            let mut broken = bytes.clone();
            broken[at..at + 4].copy_from_slice(&length.to_le_bytes());
            assert_plan_error(read_bytes(&broken, &path, kind).unwrap_err(), &path);
        }
        // Every aligned 8-byte number of the file, blocks and buffers included, made huge.
        for at in (0..bytes.len() - 8).step_by(8) {
            for value in [i64::MAX, i64::MIN, 1 << 40, -8] {
                let mut broken = bytes.clone();
                broken[at..at + 8].copy_from_slice(&value.to_le_bytes());
                if let Err(e) = read_bytes(&broken, &path, kind) {
                    assert_plan_error(e, &path);
                }
            }
        }
    }
}

#[test]
fn another_kind_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("plan");
    plan_at(&out);
    let error = TableReader::open(&out.join("curve.arrow"), Kind::Evidence).unwrap_err();
    assert!(error.to_string().contains("holds `curve`, not `evidence`"), "{error}");
    fs::copy(out.join("curve.arrow"), out.join("sample.arrow")).unwrap();
    assert_plan_error(Plan::open(&out).unwrap_err(), &out.join("sample.arrow"));
}

#[test]
fn a_newer_major_format_is_refused_and_a_newer_minor_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("plan");
    plan_at(&out);
    let text = fs::read_to_string(out.join("plan.json")).unwrap();
    for (version, expected) in [
        ("2.0", "newer"),
        ("0.9", "reads 1.1"),
        ("x", "reads 1.1"),
        ("1.01", "reads 1.1"),
        ("1.0", "has a seal"),
    ] {
        let changed = text.replace("\"format\": \"1.1\"", &format!("\"format\": \"{version}\""));
        fs::write(out.join("plan.json"), sealed(&changed)).unwrap();
        let error = Plan::open(&out).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_plan_error(error, &out.join("plan.json"));
    }
    let minor = text.replace("\"format\": \"1.1\"", "\"format\": \"1.7\", \"new_key\": 3");
    fs::write(out.join("plan.json"), sealed(&minor)).unwrap();
    Plan::open(&out).unwrap();
    // The same rule inside a table.
    let table = out.join("curve.arrow");
    let bytes = fs::read(&table).unwrap();
    let at: Vec<usize> = (0..bytes.len() - 3).filter(|&i| &bytes[i..i + 3] == b"1.0").collect();
    let mut newer = bytes.clone();
    at.iter().for_each(|&i| newer[i] = b'2');
    fs::write(&table, newer).unwrap();
    let error = TableReader::open(&table, Kind::Curve).unwrap_err();
    assert!(error.to_string().contains("newer"), "{error}");
}

#[test]
fn a_manifest_that_lies_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("plan");
    plan_at(&out);
    let text = fs::read_to_string(out.join("plan.json")).unwrap();
    for (from, to) in [
        ("\"sources.arrow\"", "\"../sources.arrow\""),
        ("\"weights.arrow\"", "\"/weights.arrow\""),
        ("\"weights.arrow\"", "\"nothing.arrow\""),
        ("\"rows_planned\": 4", "\"rows_planned\": 6"),
        ("\"rows_planned\": 4", "\"rows_planned\": 3"),
        ("\"rows\": 5", "\"rows\": 18446744073709551615"),
        ("\"strata\": 2", "\"strata\": 3"),
        ("\"rows_planned\": 4", "\"rows_planned\": -1"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(out.join("plan.json"), sealed(&text.replace(from, to))).unwrap();
        let error = Plan::open(&out).unwrap_err();
        assert!(matches!(error, Error::Plan { .. }), "{from} -> {to}: {error}");
    }
    for length in (0..text.len()).step_by(97) {
        fs::write(out.join("plan.json"), &text[..length]).unwrap();
        assert_plan_error(Plan::open(&out).unwrap_err(), &out.join("plan.json"));
    }
    fs::remove_file(out.join("plan.json")).unwrap();
    let error = Plan::open(&out).unwrap_err();
    assert!(error.to_string().contains("is not a plan"), "{error}");
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_run_leaves_a_whole_plan_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("plan");
    let staging = Staging::begin(&out, false).unwrap();
    write_plan(&staging);
    fs::write(staging.scratch().unwrap().join("big"), "temporary").unwrap();
    assert_eq!(names(dir.path()).len(), 2, "the lock and the staging directory");
    assert!(!out.exists());
    drop(staging);
    assert_eq!(names(dir.path()), [""; 0]);

    let staging = Staging::begin(&out, false).unwrap();
    let manifest = write_plan(&staging);
    staging.scratch().unwrap();
    staging.commit(manifest, &RunInfo::default()).unwrap();
    assert_eq!(names(dir.path()), ["plan"]);
    assert!(!out.join("scratch").exists());
    Plan::open(&out).unwrap().verify().unwrap();
}

#[test]
fn only_a_plan_is_replaced_and_only_with_force() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("plan");
    fs::create_dir(&out).unwrap();
    plan_at(&out);
    let error = Staging::begin(&out, false).unwrap_err();
    assert!(error.to_string().contains("already a plan") && error.help().contains("--force"), "{error}");
    let held = Plan::open(&out).unwrap();
    plan_at(&out);
    assert_eq!(names(dir.path()), ["plan"]);
    assert!(held.sources().is_ok() && Plan::open(&out).unwrap().verify().is_ok());

    fs::write(out.join("notes.txt"), "mine").unwrap();
    let error = Staging::begin(&out, true).unwrap_err();
    assert!(error.to_string().contains("notes.txt"), "{error}");
    let other = dir.path().join("data");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("a.parquet"), "").unwrap();
    assert!(Staging::begin(&other, true).unwrap_err().to_string().contains("not a plan"));
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(
        Staging::begin(&dir.path().join("file"), true).unwrap_err().to_string().contains("not a directory")
    );
    let error = Staging::begin(&dir.path().join("no/plan"), false).unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
    assert!(Staging::begin(Path::new("/"), true).is_err());
    assert!(names(dir.path()).iter().all(|n| !n.starts_with('.')), "{:?}", names(dir.path()));
}

#[test]
fn files_that_are_not_the_plans_stay() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("plan");
    plan_at(&out);
    let mine = out.join("batches/mine/notes.txt");
    fs::create_dir_all(mine.parent().unwrap()).unwrap();
    fs::write(&mine, "mine").unwrap();
    let error = Staging::begin(&out, true).unwrap_err();
    assert!(error.to_string().contains("batches/mine/notes.txt") && !error.help().is_empty(), "{error}");
    fs::remove_dir_all(mine.parent().unwrap()).unwrap();

    // Put there while a run that replaces the plan was under way.
    for exchange in [true, false] {
        let mut staging = Staging::begin(&out, true).unwrap();
        if !exchange {
            staging = staging.without_exchange();
        }
        let manifest = write_plan(&staging);
        fs::create_dir_all(mine.parent().unwrap()).unwrap();
        fs::write(&mine, "mine").unwrap();
        std::os::unix::fs::symlink("nowhere", out.join("link")).unwrap();
        staging.commit(manifest, &RunInfo::default()).unwrap();
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine", "exchange: {exchange}");
        assert!(fs::symlink_metadata(out.join("link")).is_ok());
        assert_eq!(names(dir.path()), ["plan"], "exchange: {exchange}");
        fs::remove_dir_all(mine.parent().unwrap()).unwrap();
        fs::remove_file(out.join("link")).unwrap();
        Plan::open(&out).unwrap().verify().unwrap();
    }

    // Killed after the exchange: the replaced plan is beside, with a file that is not its own.
    let replaced = dir.path().join(".plan.batchwright-123-0");
    plan_at(&replaced);
    fs::write(replaced.join("notes.txt"), "mine").unwrap();
    assert!(Staging::begin(&out, false).is_err());
    assert_eq!(fs::read_to_string(out.join("notes.txt")).unwrap(), "mine");
    assert_eq!(names(dir.path()), ["plan"]);
    // A name that is taken is not written over: it stays beside until someone makes room.
    plan_at(&replaced);
    fs::write(replaced.join("notes.txt"), "other").unwrap();
    assert!(Staging::begin(&out, false).is_err());
    assert_eq!(fs::read_to_string(replaced.join("notes.txt")).unwrap(), "other");
    fs::remove_file(out.join("notes.txt")).unwrap();
    assert!(Staging::begin(&out, false).is_err());
    assert_eq!(fs::read_to_string(out.join("notes.txt")).unwrap(), "other");
    assert_eq!(names(dir.path()), ["plan"]);
}

#[test]
fn a_plan_is_replaced_where_directories_cannot_be_exchanged() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("plan");
    plan_at(&out);
    let staging = Staging::begin(&out, true).unwrap().without_exchange();
    let manifest = Manifest { seed: 77, ..write_plan(&staging) };
    staging.commit(manifest, &RunInfo::default()).unwrap();
    assert_eq!(Plan::open(&out).unwrap().manifest().seed, 77);
    assert_eq!(names(dir.path()), ["plan"]);
    // Killed between the two renames: the new plan is whole beside, the old one set aside.
    let (old, new) = (dir.path().join(".plan.batchwright-old"), dir.path().join(".plan.batchwright-123-0"));
    plan_at(&new);
    fs::rename(&out, &old).unwrap();
    Plan::open(&out).unwrap().verify().unwrap();
    assert_eq!(names(dir.path()), [".plan.batchwright-123-0", "plan"]);
    fs::rename(&out, &old).unwrap();
    plan_at(&out);
    assert_eq!(names(dir.path()), ["plan"]);
}

#[test]
fn two_runs_on_one_out_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("plan");
    let first = Staging::begin(&out, false).unwrap();
    let error = Staging::begin(&out, false).unwrap_err();
    assert!(error.to_string().contains("another run"), "{error}");
    assert!(first.path().exists(), "the other's files stay");
    Staging::begin(&dir.path().join("plan2"), false).unwrap();
    drop(first);
    Staging::begin(&out, false).unwrap();
}

#[test]
fn what_killed_runs_left_is_cleaned_up() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("plan");
    // Killed while writing: a lock file that nobody holds, and a staging directory.
    fs::create_dir(dir.path().join(".plan.batchwright-123-0")).unwrap();
    fs::write(dir.path().join(".plan.batchwright-123-0/half.arrow"), "ARROW1").unwrap();
    fs::write(dir.path().join(".plan.batchwright.lock"), "").unwrap();
    // Not ours: another plan's, and a name that only looks alike.
    fs::create_dir(dir.path().join(".plan2.batchwright-123-0")).unwrap();
    fs::create_dir(dir.path().join(".plan.batchwright-notes")).unwrap();
    plan_at(&out);
    assert_eq!(names(dir.path()), [".plan.batchwright-notes", ".plan2.batchwright-123-0", "plan"]);

    // Killed between moving the old plan aside and moving the new one in.
    let old = dir.path().join(".plan.batchwright-old");
    fs::rename(&out, &old).unwrap();
    Plan::open(&out).unwrap().verify().unwrap();
    assert!(!old.exists());
    fs::rename(&out, &old).unwrap();
    let error = Staging::begin(&out, false).unwrap_err();
    assert!(error.to_string().contains("already a plan"), "{error}");
    // Killed after that, before the old one was deleted.
    plan_at(&dir.path().join("copy"));
    fs::rename(dir.path().join("copy"), &old).unwrap();
    plan_at(&out);
    assert!(!old.exists() && out.exists());
}

#[test]
fn free_space_is_known_before_the_directory_exists() {
    let dir = tempfile::tempdir().unwrap();
    assert!(disk_free(&dir.path().join("not/yet")).unwrap() > 0);
}
