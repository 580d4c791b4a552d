//! Same rows, config and seed: same bytes, whatever the threads, the SIMD path or the row groups.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use batchwright::config::{Config, Run};
use batchwright::kernels::Simd;
use batchwright::kit::progress::Progress;
use batchwright::pipeline;
use batchwright::plan::Plan;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

/// BLAKE3 of every file of a plan but run.json.
pub fn digests(plan: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![plan.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.file_name().unwrap() != "run.json" {
                let name = path.strip_prefix(plan).unwrap().to_str().unwrap().to_string();
                found.insert(name, blake3::hash(&std::fs::read(&path).unwrap()).to_hex().to_string());
            }
        }
    }
    found
}

pub fn config() -> Config {
    let mut config = Config::default();
    config.source.label = Some("label".into());
    config.modalities.resolution = 600;
    config.batches.epochs = Some(2);
    config
}

pub fn plan(input: &Path, out: &Path, config: &Config, threads: usize) {
    let run = Run { out: out.into(), threads, ..Run::default() };
    pipeline::plan(&[input.to_str().unwrap().into()], config, &run, &Progress::default()).unwrap();
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

#[test]
fn threads_and_vectors_do_not_change_a_byte() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["digits.parquet", "mixed.parquet"] {
        let out = |t: &str| dir.path().join(format!("{name}-{t}"));
        for threads in [1, 2, 7] {
            plan(&fixture(name), &out(&threads.to_string()), &config(), threads);
        }
        let one = digests(&out("1"));
        assert!(one.contains_key("plan.json") && one.contains_key("samples.arrow"));
        for other in ["2", "7"] {
            assert_eq!(one, digests(&out(other)), "{name}: 1 thread against {other}");
        }
        let input = fixture(name);
        let args = [input.to_str().unwrap(), "--label", "label", "--resolution", "600", "--epochs", "2"];
        every_width(&args, &out("width"), &one);
    }
}

/// What a run says that it used at each limit, on a machine that has everything.
const WIDTHS: [&str; Simd::ALL.len()] = ["avx512-amx", "avx512-vnni", "avx512", "avx2", "portable"];

/// Plans with every `--simd`, in processes of their own: the width of the vectors is that of a whole process. All files must
/// have these digests, and each run use the width it was given, or the machine's if that is less.
pub fn every_width(args: &[&str], dir: &Path, expected: &BTreeMap<String, String>) {
    std::fs::create_dir_all(dir).unwrap();
    let mut machine = 0;
    for (width, simd) in Simd::ALL.into_iter().enumerate() {
        let out = dir.join(simd.name());
        let mut command = Command::new(env!("CARGO_BIN_EXE_batchwright"));
        command.arg("plan").args(args).args(["--threads", "2", "--simd", simd.name(), "-o"]).arg(&out);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(*expected, digests(&out), "{command:?}");
        let used = &Plan::open(&out).unwrap().run_info().unwrap().unwrap().host["simd"];
        if simd == Simd::Auto {
            machine = WIDTHS.iter().position(|width| width == used).expect("a width that we know");
        }
        assert_eq!(used, WIDTHS[width.max(machine)], "{command:?}");
    }
}

#[test]
fn row_groups_change_only_what_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let input = fixture("digits.parquet");
    let rewrite = |rows: usize| {
        let path = dir.path().join("digits.parquet");
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(File::open(&input).unwrap()).unwrap().build().unwrap();
        let batches: Vec<_> = reader.map(|b| b.unwrap()).collect();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows)).build();
        let mut writer =
            ArrowWriter::try_new(File::create(&path).unwrap(), batches[0].schema(), Some(properties))
                .unwrap();
        batches.iter().for_each(|b| writer.write(b).unwrap());
        writer.close().unwrap();
        let out = dir.path().join(format!("plan-{rows}"));
        plan(&path, &out, &config(), 2);
        (digests(&out), std::fs::read_to_string(out.join("plan.json")).unwrap())
    };
    let (one, one_json) = rewrite(100);
    let (other, other_json) = rewrite(701);
    for (name, hash) in &one {
        assert_eq!(hash == &other[name], !["plan.json", "sources.arrow"].contains(&name.as_str()), "{name}");
    }
    let strip = |text: &str| {
        let mut json: serde_json::Value = serde_json::from_str(text).unwrap();
        json["files"].as_array_mut().unwrap().retain(|f| f["path"] != "sources.arrow");
        json.as_object_mut().unwrap().retain(|key, _| key != "inputs" && key != "seal");
        json
    };
    assert_eq!(strip(&one_json), strip(&other_json), "the plan id is the same too");
}
