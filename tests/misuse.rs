//! Bad input and misuse: every case ends with its documented exit code and a message that names the place and the remedy,
//! and leaves nothing on disk.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

/// `rows` points of three numbers, with the given row replaced.
fn vectors(rows: usize, odd: Option<(usize, Option<Vec<Option<f32>>>)>) -> ArrayRef {
    let row = |i: usize| match &odd {
        Some((at, value)) if *at == i => value.clone(),
        _ => Some((0..3).map(|j| Some(((i * 7 + j * 3) % 11) as f32)).collect()),
    };
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>((0..rows).map(row)))
}

fn table(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn good(path: &Path, rows: usize) {
    let label: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|i| i % 3)));
    let price: ArrayRef = Arc::new(Float64Array::from_iter_values((0..rows).map(|i| i as f64 + 0.5)));
    let name: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("n{}", i % 5))));
    table(path, vec![("embedding", vectors(rows, None)), ("label", label), ("price", price), ("name", name)]);
}

fn bad_row(path: &Path, value: Option<Vec<Option<f32>>>) {
    table(path, vec![("embedding", vectors(300, Some((217, value))))]);
}

/// Files every case finds in its folder.
fn furnish(dir: &Path) {
    let file = |name: &str| dir.join(name);
    good(&file("good.parquet"), 300);
    good(&file("few.parquet"), 20);
    good(&file("empty.parquet"), 0);
    let bytes = std::fs::read(file("good.parquet")).unwrap();
    std::fs::write(file("truncated.parquet"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(file("text.parquet"), "id,name\n1,a\n").unwrap();
    bad_row(&file("nan.parquet"), Some(vec![Some(1.0), Some(f32::NAN), Some(0.0)]));
    bad_row(&file("infinite.parquet"), Some(vec![Some(f32::INFINITY), Some(1.0), Some(0.0)]));
    bad_row(&file("null.parquet"), None);
    bad_row(&file("hole.parquet"), Some(vec![Some(1.0), None, Some(0.0)]));
    bad_row(&file("ragged.parquet"), Some(vec![Some(1.0)]));
    table(&file("two.parquet"), vec![("a", vectors(300, None)), ("b", vectors(300, None))]);
    let words: ArrayRef = Arc::new(StringArray::from(vec!["x"; 300]));
    table(&file("words.parquet"), vec![("word", words.clone())]);
    std::fs::create_dir(file("mixed")).unwrap();
    good(&dir.join("mixed/a.parquet"), 300);
    table(&dir.join("mixed/b.parquet"), vec![("embedding", vectors(300, None)), ("label", words)]);
    std::fs::create_dir(file("nothing")).unwrap();
    std::fs::create_dir(file("mine")).unwrap();
    std::fs::write(dir.join("mine/thesis.txt"), "do not delete").unwrap();
    std::fs::write(file("unknown.toml"), "[batch_size]\nsizes = 3\n").unwrap();
    std::fs::write(file("notfinite.toml"), "[batch_size]\ncoverage = nan\n").unwrap();
    std::fs::write(file("broken.toml"), "[batch_size\n").unwrap();
    std::fs::write(file("shares.json"), "[0.5, 0.5]").unwrap();
}

struct Case {
    args: &'static str,
    code: i32,
    /// All must occur in stderr.
    says: &'static [&'static str],
}

const fn case(args: &'static str, code: i32, says: &'static [&'static str]) -> Case {
    Case { args, code, says }
}

/// Arguments are split at spaces; `_` stands for a space inside one.
const CASES: &[Case] = &[
    // The input.
    case("plan missing.parquet -o p", 3, &["missing.parquet", "No such file", "help:"]),
    case("plan nothing -o p", 3, &["nothing", "parquet", "help:"]),
    case("plan no*match.parquet -o p", 3, &["no*match.parquet", "help:"]),
    case("plan text.parquet -o p", 3, &["text.parquet", "Parquet", "help:"]),
    case("plan truncated.parquet -o p", 3, &["truncated.parquet", "help:"]),
    case("plan empty.parquet -o p", 3, &["no rows", "help:"]),
    case("plan nan.parquet -o p", 3, &["nan.parquet", "`embedding`", "row 217", "NaN", "--invalid drop"]),
    case("plan infinite.parquet -o p", 3, &["infinite.parquet", "`embedding`", "row 217", "--invalid drop"]),
    case("plan null.parquet -o p", 3, &["null.parquet", "`embedding`", "row 217", "null", "--invalid drop"]),
    case("plan hole.parquet -o p", 3, &["hole.parquet", "`embedding`", "row 217", "null", "--invalid drop"]),
    case("plan ragged.parquet -o p", 3, &["ragged.parquet", "`embedding`", "row 217", "1 number", "3"]),
    case("plan mixed -o p --label label", 3, &["b.parquet", "`label`", "help:"]),
    case("plan good.parquet ./good.parquet -o p", 3, &["good.parquet", "twice"]),
    case("plan ftp://host/x.parquet -o p", 3, &["ftp", "help:"]),
    // Columns.
    case("plan good.parquet -o p --features embeding", 2, &["`embeding`", "embedding"]),
    case("plan two.parquet -o p", 2, &["`a`", "`b`", "--features"]),
    case("plan words.parquet -o p", 2, &["--features", "word"]),
    case("plan good.parquet -o p --label lable", 2, &["source.label", "`lable`", "label"]),
    case("plan good.parquet -o p --label price", 2, &["`price`", "fractional", "--label"]),
    case("plan good.parquet -o p --label embedding", 2, &["source.label", "embedding"]),
    case("plan good.parquet -o p --stratify-by colour", 2, &["strata.by", "`colour`"]),
    case("plan good.parquet -o p --estimator column", 2, &["--modality-column"]),
    case("plan good.parquet -o p --estimator guess", 2, &["guess", "consensus"]),
    case("plan good.parquet -o p --estimator rim", 2, &["`rim`", "retired", "--estimator consensus"]),
    case("modalities good.parquet --estimator optics", 2, &["`optics`", "retired", "--estimator hdbscan"]),
    case("plan good.parquet -o p --modalities 1000", 3, &["1000", "distinct", "help:"]),
    // Sizes and shares.
    case("plan good.parquet -o p --batch-size 50 --multiple 8", 2, &["batch_size", "50", "48", "56"]),
    case("plan good.parquet -o p --batch-size 50 --world-size 4", 2, &["batch_size", "50", "48 or 52"]),
    case("plan good.parquet -o p --batch-size 0", 2, &["batch"]),
    case("plan good.parquet -o p --candidates 64,100", 2, &["candidates", "100", "64 or 128"]),
    case("plan good.parquet -o p --candidates 64,104", 2, &["candidates", "104", "64"]),
    case("plan good.parquet -o p --coverage 1.5", 2, &["coverage", "1.5"]),
    case("plan good.parquet -o p --holdout 1", 2, &["holdout", "1"]),
    case("plan good.parquet -o p --weight-strength nan", 2, &["--weight-strength", "nan", "finite"]),
    case("plan good.parquet -o p --allocation shares.json", 2, &["shares", "2"]),
    case("plan few.parquet -o p --batch-size 64 --drop-last", 2, &["drop", "64", "20"]),
    // Where it goes and what it may use.
    case("plan good.parquet -o mine", 2, &["mine", "not a plan"]),
    case("plan good.parquet -o mine --force", 2, &["mine", "not a plan"]),
    case("plan good.parquet -o no/such/place", 2, &["no/such", "help:"]),
    case("plan good.parquet -o p --memory lots", 2, &["memory", "lots", "GiB"]),
    case("plan good.parquet -o p --memory 8MiB", 2, &["8 MiB", "--memory"]),
    // The config file.
    case("plan good.parquet -o p --config unknown.toml", 2, &["unknown.toml", "sizes", "size"]),
    case("plan good.parquet -o p --config broken.toml", 2, &["broken.toml"]),
    case("plan good.parquet -o p --config absent.toml", 2, &["absent.toml"]),
    case("plan good.parquet -o p --sede 3", 2, &["--sede", "--seed"]),
    case("plan -o p", 2, &["DATA"]),
    case("plan good.parquet -o p --weights sometimes", 2, &["sometimes", "centre-to-periphery"]),
    case("plan good.parquet -o p --config notfinite.toml", 2, &["notfinite.toml:2", "coverage", "finite"]),
    // Reading plans.
    case("inspect nothing", 3, &["nothing", "not a plan"]),
    case("inspect good.parquet", 3, &["good.parquet", "not a plan"]),
    case("inspect missing", 3, &["missing", "help:"]),
    case("synth -o good.parquet --rows 10 --dims 2 --modalities 2", 2, &["good.parquet", "--force"]),
    case("synth -o s.parquet --rows 10 --dims 2 --modalities 20", 2, &["20", "10"]),
];

#[cfg(feature = "polars")]
const FILTER_CASES: &[Case] = &[
    case("plan good.parquet -o p --where colour_=_3", 2, &["colour", "source.where"]),
    case("plan good.parquet -o p --where label_==_(", 2, &["source.where"]),
    case("plan good.parquet -o p --where price_+_1", 2, &["source.where", "true or false"]),
    case("plan good.parquet -o p --where price_>_1000", 3, &["price > 1000", "help:"]),
];

fn listing(dir: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
            found.push((entry.path(), entry.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}

fn run(cases: &[Case]) {
    let dir = tempfile::tempdir().unwrap();
    furnish(dir.path());
    let before = listing(dir.path());
    let mut wrong = Vec::new();
    for Case { args, code, says } in cases {
        let args: Vec<String> = args.split(' ').map(|a| a.replace('_', " ")).collect();
        let out = assert_cmd::Command::cargo_bin("batchwright")
            .unwrap()
            .current_dir(dir.path())
            .args(&args)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        let missing: Vec<_> = says.iter().filter(|s| !stderr.contains(**s)).collect();
        if out.status.code() != Some(*code) || !missing.is_empty() {
            wrong.push(format!(
                "{args:?}\n  exit {:?}, wanted {code}; not said: {missing:?}\n  {stderr}",
                out.status.code()
            ));
        }
        if !out.stdout.is_empty() {
            wrong.push(format!("{args:?}: something on stdout"));
        }
        let after = listing(dir.path());
        for (left, _) in after.iter().filter(|entry| !before.contains(entry)) {
            wrong.push(format!("{args:?}: left on disk: {}", left.display()));
            // Out of the way of the next case.
            let _ = std::fs::remove_dir_all(left).or_else(|_| std::fs::remove_file(left));
        }
        for (gone, _) in before.iter().filter(|entry| !after.contains(entry)) {
            wrong.push(format!("{args:?}: changed or gone: {}", gone.display()));
        }
    }
    assert!(wrong.is_empty(), "{} problems:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_misuse_is_told_and_leaves_nothing() {
    run(CASES);
}

#[cfg(feature = "polars")]
#[test]
fn every_bad_filter_is_told() {
    run(FILTER_CASES);
}
