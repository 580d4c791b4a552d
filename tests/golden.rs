//! `fixtures/plans/v1` is a plan of format 1.0 that every later version must be able to read, and that this version makes
//! again, byte for byte.
//!
//! `UPDATE_GOLDEN=1 cargo nextest run golden` makes it anew: only for a change of the format or of the algorithms, which
//! CHANGELOG.md must tell.

use std::path::{Path, PathBuf};

use batchwright::config::{Config, Run};
use batchwright::pipeline;
use batchwright::plan::Plan;
use batchwright::progress::Progress;

use crate::determinism::digests;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// batchwright plan fixtures/worked-example.parquet --label label --epochs 1 -o fixtures/plans/v1
fn make(out: &Path) {
    let mut config = Config::default();
    config.source.label = Some("label".into());
    config.batches.epochs = Some(1);
    let run = Run { out: out.into(), force: true, ..Run::default() };
    let input = root().join("worked-example.parquet").to_str().unwrap().to_string();
    pipeline::plan(&[input], &config, &run, &Progress::default()).unwrap();
    // Times and host facts: no two are alike, and a plan does without.
    std::fs::remove_file(out.join("run.json")).unwrap();
}

#[test]
fn golden_plan_is_read_and_made_again() {
    let golden = root().join("plans/v1");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        make(&golden);
    }
    let plan = Plan::open(&golden).unwrap();
    plan.verify().unwrap();
    let mut rows: Vec<u64> = plan.modalities().unwrap().iter().map(|m| m.rows).collect();
    rows.sort_unstable();
    assert_eq!(rows, [50, 100, 150, 200, 500]);
    assert_eq!(plan.run_info().unwrap(), None);

    let dir = tempfile::tempdir().unwrap();
    let again = dir.path().join("again");
    make(&again);
    let (golden, again) = (digests(&golden), digests(&again));
    for (name, hash) in &golden {
        assert_eq!(Some(hash), again.get(name), "{name} differs from fixtures/plans/v1: see tests/golden.rs");
    }
    assert_eq!(golden.len(), again.len());
}
