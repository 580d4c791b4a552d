//! What columns beside the features do to a plan: labels with gaps, and texts that are documents.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, RecordBatch, StringArray};
use batchwright::config::{Config, Run};
use batchwright::kit::progress::Progress;
use batchwright::kit::rng;
use batchwright::pipeline;
use batchwright::plan::Plan;
use parquet::arrow::ArrowWriter;

const ROWS: usize = 1200;

/// Three groups of rows in a plane, and a text column.
fn dataset(path: &Path, text: impl Fn(usize) -> Option<String>) {
    let at = |i: usize, axis: u64| {
        (5.0 * (i % 3) as f64 * axis as f64 + rng::normal(rng::key(axis, &[i as u64]))) as f32
    };
    let axis =
        |axis: u64| Arc::new(Float32Array::from_iter_values((0..ROWS).map(|i| at(i, axis)))) as ArrayRef;
    let text: ArrayRef = Arc::new((0..ROWS).map(text).collect::<StringArray>());
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("x", axis(1), false),
        ("y", axis(2), false),
        ("text", text, true),
    ])
    .unwrap();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn config() -> Config {
    let mut config = Config::default();
    config.modalities.resolution = 400;
    config.batches.epochs = Some(0);
    config
}

fn plan(dir: &Path, config: &Config) -> Plan {
    let out = dir.join("plan");
    let run = Run { out: out.clone(), force: true, ..Run::default() };
    let input = dir.join("data.parquet").to_str().unwrap().to_string();
    pipeline::plan(&[input], config, &run, &Progress::default()).unwrap();
    Plan::open(out).unwrap()
}

#[test]
fn a_missing_label_is_one_class_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.source.label = Some("text".into());
    let gain = |missing: Option<&str>| {
        let label = |i: usize| {
            if i.is_multiple_of(5) { missing.map(String::from) } else { Some(format!("c{}", i % 3)) }
        };
        dataset(&dir.path().join("data.parquet"), label);
        plan(dir.path(), &config).manifest().gain.clone().unwrap().value
    };
    let (null, named) = (gain(None), gain(Some("unknown")));
    assert!((null - named).abs() < 1e-12, "{null} against {named}");
    assert!(null < 1.0, "the label says something here");
}

#[test]
fn documents_are_not_held_in_memory_unless_a_setting_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let profiled = |config: &Config, length: usize| {
        dataset(&dir.path().join("data.parquet"), |i| Some(format!("{i:>length$}")));
        let rows = plan(dir.path(), config).profile().unwrap().unwrap();
        rows.iter().any(|row| row.column == "text")
    };
    assert!(profiled(&config(), 1024));
    assert!(!profiled(&config(), 1025));
    let mut named = config();
    named.source.id = Some("text".into());
    assert!(profiled(&named, 1025));

    // The forecast knows: documents that are held count with their length.
    let needs = |config: &Config| {
        let input = dir.path().join("data.parquet").to_str().unwrap().to_string();
        pipeline::estimate(
            &[input],
            config,
            &Run { out: dir.path().join("p"), ..Run::default() },
            &Progress::default(),
        )
        .unwrap()
        .memory_needed
    };
    dataset(&dir.path().join("data.parquet"), |i| Some(format!("{i:>20000}")));
    assert!(needs(&named) > needs(&config()) + ROWS as u64 * 20_000);
}
