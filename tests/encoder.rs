//! Rows without an embedding get one inside the pipeline: the same for the same text at any number of threads, from the
//! very encoder that the plan names, and never from a broken value.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use batchwright::config::{Config, Run};
use batchwright::features::Encoder;
use batchwright::kit::error::{Error, Result};
use batchwright::kit::ids::NONE;
use batchwright::kit::progress::{Observer, Progress};
use batchwright::parts::Local;
use batchwright::pipeline;
use batchwright::plan::Plan;
use batchwright::source::Dataset;
use parquet::arrow::ArrowWriter;

use crate::determinism::{digests, every_width};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn config(column: &str) -> Config {
    let mut config = Config::default();
    config.features.encode = Some(column.into());
    config.modalities.resolution = 200;
    config.batches.epochs = Some(1);
    config
}

fn run(out: &Path, encoder: &str, threads: usize) -> Run {
    Run { out: out.into(), encoder: Some(fixture("encoders").join(encoder)), threads, ..Run::default() }
}

fn plan(data: &Path, config: &Config, run: &Run) -> Result<pipeline::Summary> {
    pipeline::plan(&[data.to_str().unwrap().into()], config, run, &Progress::default())
}

/// 700 texts: 300 of packages, and some of them again.
fn texts(path: &Path, change: impl Fn(usize, String) -> Option<String>) {
    let file = std::fs::File::open(fixture("packages-2k.parquet")).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let batch = reader.with_batch_size(300).build().unwrap().next().unwrap().unwrap();
    let from =
        arrow_cast::cast(batch.column_by_name("package").unwrap(), &arrow_schema::DataType::Utf8).unwrap();
    let from = arrow_array::cast::AsArray::as_string::<i32>(&from);
    let text = |i: usize| change(i, from.value(i * i % 300).to_string());
    let column: ArrayRef = Arc::new((0..700).map(text).collect::<StringArray>());
    let batch = RecordBatch::try_from_iter_with_nullable([("text", column, true)]).unwrap();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// One dataset and its plan, for the tests that only look.
fn made() -> &'static (tempfile::TempDir, PathBuf, PathBuf) {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf, PathBuf)> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let (data, out) = (dir.path().join("texts.parquet"), dir.path().join("plan"));
        texts(&data, |_, text| Some(text));
        plan(&data, &config("text"), &run(&out, "bert", 2)).unwrap();
        (dir, data, out)
    })
}

#[test]
fn threads_and_vectors_do_not_change_a_byte() {
    let (dir, data, out) = made();
    let expected = digests(out);
    for threads in [1, 7] {
        let again = dir.path().join(format!("plan-{threads}"));
        plan(data, &config("text"), &run(&again, "bert", threads)).unwrap();
        assert_eq!(expected, digests(&again), "{threads} threads");
    }
    let (data, encoder) = (data.to_str().unwrap(), fixture("encoders/bert"));
    let args = [
        data,
        "--encode",
        "text",
        "--encoder",
        encoder.to_str().unwrap(),
        "--resolution",
        "200",
        "--epochs",
        "1",
    ];
    every_width(&args, &dir.path().join("width"), &expected);
}

#[test]
fn the_plan_says_what_encoded_it_and_not_where_that_lies() {
    let (_, _, out) = made();
    let plan = Plan::open(out).unwrap();
    let config = plan.config().unwrap();
    let encoder = Encoder::open(&fixture("encoders/bert"), None).unwrap();
    assert_eq!(config.features.encoder, Some(encoder.identity()));
    assert_eq!(config.features.columns, ["text"]);
    let features = plan.features().unwrap().unwrap();
    assert_eq!(features.len(), 8);
    assert!(features.iter().all(|f| f.operation == "encode" && f.column == "text"));
    let manifest = std::fs::read_to_string(out.join("plan.json")).unwrap();
    assert!(!manifest.contains(fixture("encoders").to_str().unwrap()), "no path in a plan");
}

#[test]
fn equal_texts_are_equal_rows_and_new_rows_are_assigned_alike() {
    let (_, data, out) = made();
    let plan = Plan::open(out).unwrap();
    let encoder = Encoder::open(&fixture("encoders/bert"), None).unwrap();
    let dataset = Dataset::open(&[data.to_str().unwrap().into()]).unwrap();
    let engine = Local::new(2, Progress::default()).unwrap();
    let assigner = plan.assigner().unwrap();
    let e = assigner.assign_dataset(&dataset, &engine).unwrap_err().to_string();
    assert!(e.contains("`text` is to be encoded, and there is no encoder"), "{e}");
    let other = Encoder::open(&fixture("encoders/mpnet"), None).unwrap();
    let e = plan.assigner().unwrap().with_encoder(Some(&other)).unwrap_err().to_string();
    assert!(e.contains("not the encoder that is asked for, bert@"), "{e}");
    let assigner = assigner.with_encoder(Some(&encoder)).unwrap();
    let found = assigner.assign_dataset(&dataset, &engine).unwrap();
    for row in 0..700u64 {
        assert_eq!(plan.modality(row).unwrap(), Some(found.modality[row as usize]));
        // i and 300 - i have the same square modulo 300.
        let twin = if row > 0 && row < 300 { 300 - row } else { row };
        assert_eq!(found.distance[row as usize].to_bits(), found.distance[twin as usize].to_bits());
    }
}

#[test]
fn a_transform_comes_after_the_encoder() {
    let (dir, data, _) = made();
    let mut config = config("text");
    config.features.transform = batchwright::features::Transform::Standard;
    let out = dir.path().join("standard");
    plan(data, &config, &run(&out, "distilbert", 2)).unwrap();
    let plan = Plan::open(&out).unwrap();
    let features = plan.features().unwrap().unwrap();
    assert!(features.iter().all(|f| f.operation == "standard"));
    let encoder = Encoder::open(&fixture("encoders/distilbert"), None).unwrap();
    let dataset = Dataset::open(&[data.to_str().unwrap().into()]).unwrap();
    let engine = Local::new(1, Progress::default()).unwrap();
    let assigner = plan.assigner().unwrap().with_encoder(Some(&encoder)).unwrap();
    let found = assigner.assign_dataset(&dataset, &engine).unwrap();
    assert!((0..700).all(|row| plan.modality(row).unwrap() == Some(found.modality[row as usize])));
}

#[test]
fn a_missing_text_is_an_invalid_row() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("texts.parquet"), dir.path().join("plan"));
    texts(&data, |i, text| (i % 100 != 41).then_some(text));
    let mut config = config("text");
    config.modalities.resolution = 1000; // All rows are in the sample: the first of them is the one told.
    let e = plan(&data, &config, &run(&out, "bert", 2)).unwrap_err();
    assert!(e.to_string().ends_with("column `text`, row 41: is null"), "{e}");
    assert_eq!(e.exit_code(), 3);
    config.source.invalid = batchwright::source::Invalid::Drop;
    assert_eq!(plan(&data, &config, &run(&out, "bert", 2)).unwrap().invalid, 7);
    let encoder = Encoder::open(&fixture("encoders/bert"), None).unwrap();
    let assigner = Plan::open(&out).unwrap().assigner().unwrap().with_encoder(Some(&encoder)).unwrap();
    let dataset = Dataset::open(&[data.to_str().unwrap().into()]).unwrap();
    let found = assigner.assign_dataset(&dataset, &Local::new(2, Progress::default()).unwrap()).unwrap();
    assert_eq!(found.modality.iter().filter(|&&m| m == NONE).count(), 7);
}

#[test]
fn settings_that_do_not_fit_are_told_before_a_row_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("plan");
    let data = fixture("packages-2k.parquet");
    let fails = |config: &Config, run: &Run, words: &[&str]| {
        let e = plan(&data, config, run).unwrap_err();
        assert_eq!(e.exit_code(), 2, "{e}");
        words.iter().for_each(|word| assert!(e.to_string().contains(word), "no `{word}` in: {e}"));
    };
    let bert = run(&out, "bert", 1);
    fails(&config("embedding"), &bert, &["`embedding` holds vectors of 384 numbers", "takes text"]);
    fails(&config("nothing"), &bert, &["there is no column `nothing`"]);
    fails(&config("package"), &Run { encoder: None, ..bert.clone() }, &["there is no encoder"]);
    fails(&Config::default(), &bert, &["there is nothing to encode"]);
    let mut pinned = config("package");
    pinned.features.encoder = Some("other@0123".into());
    fails(&pinned, &bert, &["not the encoder that is asked for, other@0123"]);
    let mut long = config("package");
    long.features.max_seq_length = Some(100);
    fails(&long, &bert, &["max_seq_length", "between 3 and 40"]);
    long.features.encode = None;
    fails(&long, &Run { encoder: None, ..bert.clone() }, &["--max-seq-length", "nothing is encoded"]);
    // Nothing of all that was left behind.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    let estimate = |run: &Run, config: &Config| {
        pipeline::estimate(&[data.to_str().unwrap().into()], config, run, &Progress::default()).unwrap()
    };
    let forecast = estimate(&bert, &config("package"));
    let line = &forecast.lines.iter().find(|l| l.0 == "encoder").unwrap().1;
    assert_eq!(line, "bert (bert, 24 tokens, mean pooling, length 1): 2000 rows of `package`");
    assert_eq!(forecast.dims, 8);
}

/// Cancels the run as soon as it encodes.
struct Cancel {
    switch: OnceLock<Arc<AtomicBool>>,
    seen: AtomicBool,
}

impl Observer for Cancel {
    fn begin(&self, stage: &'static str, _: &'static str, _: u64) {
        if stage == "encode" {
            self.seen.store(true, Ordering::Relaxed);
            self.switch.get().unwrap().store(true, Ordering::Relaxed);
        }
    }
    fn advance(&self, _: &'static str, _: u64) {}
    fn end(&self, _: &'static str) {}
    fn warn(&self, _: &str) {}
}

#[test]
fn an_interrupted_encoder_leaves_nothing() {
    let (_, data, _) = made();
    let dir = tempfile::tempdir().unwrap();
    let observer = Arc::new(Cancel { switch: OnceLock::new(), seen: AtomicBool::new(false) });
    let progress = Progress::new(observer.clone());
    observer.switch.set(progress.cancel_switch()).unwrap();
    let inputs = [data.to_str().unwrap().to_string()];
    let done = pipeline::plan(&inputs, &config("text"), &run(&dir.path().join("plan"), "bert", 2), &progress);
    assert!(matches!(done, Err(Error::Interrupted)) && observer.seen.load(Ordering::Relaxed));
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_str().unwrap().ends_with(".lock")), "{left:?}");
}

#[cfg(feature = "onnx")]
mod onnx {
    use super::*;

    #[test]
    fn vectors_and_texts_are_encoded_the_same_at_any_number_of_threads() {
        let dir = tempfile::tempdir().unwrap();
        let (_, texts, _) = made();
        for (data, column, encoder, dims) in [
            (&fixture("digits.parquet"), "embedding", "vectors.onnx", 5),
            (texts, "text", "text/pooled.onnx", 8),
            (texts, "text", "text/tokens.onnx", 8),
        ] {
            let out = |threads: usize| dir.path().join(format!("{}-{threads}", encoder.replace('/', "-")));
            for threads in [1, 3] {
                let summary = plan(data, &config(column), &run(&out(threads), encoder, threads)).unwrap();
                assert_eq!(summary.dims, dims);
            }
            assert_eq!(digests(&out(1)), digests(&out(3)));
            let config = Plan::open(out(1)).unwrap().config().unwrap();
            let name = Path::new(encoder).file_name().unwrap().to_str().unwrap();
            assert!(config.features.encoder.unwrap().starts_with(&format!("{name}@")));
        }
    }

    #[test]
    fn an_output_that_is_no_number_names_its_row() {
        let dir = tempfile::tempdir().unwrap();
        let (data, out) = (dir.path().join("data.parquet"), dir.path().join("plan"));
        // The logarithm of what is left of a number less 1/2: row 41 has a 0.
        let numbers = (0..300 * 64).map(|i| if i == 41 * 64 + 3 { 0.0 } else { (1 + i % 17) as f32 });
        let field = Arc::new(arrow_schema::Field::new_list_field(arrow_schema::DataType::Float32, false));
        let values: ArrayRef = Arc::new(numbers.collect::<arrow_array::Float32Array>());
        let column: ArrayRef =
            Arc::new(arrow_array::FixedSizeListArray::try_new(field, 64, values, None).unwrap());
        let batch = RecordBatch::try_from_iter([("embedding", column)]).unwrap();
        let mut writer =
            ArrowWriter::try_new(std::fs::File::create(&data).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let mut config = config("embedding");
        config.modalities.resolution = 1000; // All rows are in the sample: the first of them is the one told.
        let e = plan(&data, &config, &run(&out, "log.onnx", 2)).unwrap_err();
        let text = e.to_string();
        assert!(text.contains("data.parquet, column `embedding`, row 41: gets NaN at place 3"), "{text}");
        assert_eq!(e.exit_code(), 3);
    }
}
