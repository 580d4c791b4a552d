//! The command line as users meet it: help, exit codes, layers of settings, synthetic data.

use std::fs;
use std::path::Path;
use std::process::Output;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use assert_cmd::Command;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// Runs the program in an empty directory with nothing of ours in the environment.
struct Shell(tempfile::TempDir);

impl Shell {
    fn new() -> Self {
        Shell(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn run_with(&self, env: &[(&str, &str)], args: &[&str]) -> Output {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("batchwright"));
        command.current_dir(self.0.path()).env_clear().envs(env.iter().copied()).args(args);
        command.output().unwrap()
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_with(&[], args)
    }

    /// stdout of a run that must succeed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// stderr of a run that must end with this exit code and leave stdout empty.
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
        stderr(&output)
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn contains(text: &str, all: &[&str]) {
    for part in all {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

#[test]
fn every_verb_that_reads_data_is_refused_before_it_takes_too_much_memory() {
    let shell = Shell::new();
    shell.ok(&["synth", "-o", "data.parquet", "--rows", "900", "--dims", "8", "--modalities", "3"]);
    shell.ok(&["plan", "data.parquet", "-o", "p", "--resolution", "300"]);
    for verb in
        [["plan", "data.parquet", "-o"], ["check", "p", "data.parquet"], ["update", "p", "data.parquet"]]
    {
        let mut args = verb.to_vec();
        match verb[0] {
            "plan" => args.push("q"),
            "update" => args.extend(["-o", "q"]),
            _ => {}
        }
        args.extend(["--memory", "1MiB"]);
        contains(&shell.fails(2, &args), &["needs up to", "allows 1 MiB", "--memory"]);
        assert!(!shell.path("q").exists());
    }
}

const VERBS: [&[&str]; 16] = [
    &["plan"],
    &["modalities"],
    &["encode"],
    &["inspect"],
    &["report"],
    &["check"],
    &["update"],
    &["work"],
    &["materialize"],
    &["diff"],
    &["synth"],
    &["schema"],
    &["config"],
    &["config", "show"],
    &["completions"],
    &["man"],
];

#[test]
fn every_verb_explains_itself() {
    let shell = Shell::new();
    for verb in VERBS.iter().chain([&&[][..]]) {
        for flag in ["-h", "--help"] {
            let help = shell.ok(&[verb, &[flag][..]].concat());
            assert!(help.contains("Usage: batchwright"), "{verb:?}: {help}");
            assert!(!help.contains("TODO") && !help.contains('\x1b'), "{verb:?}: {help}");
        }
    }
    let plan = shell.ok(&["plan", "--help"]);
    contains(
        &plan,
        &[
            "Examples:",
            "Batch size:",
            "Weights and scores:",
            "--stratify-by",
            "--simd",
            "--dry-run",
            "Reading:",
        ],
    );
    contains(&plan, &["--locality <global|local>", "--window <auto|N>", "--read <COLUMN,...>"]);
}

#[test]
fn exit_codes() {
    let shell = Shell::new();
    shell.ok(&["--version"]);
    contains(&shell.fails(2, &["plan"]), &["DATA"]);
    contains(
        &shell.fails(2, &["plan", "x", "--batch-size", "big"]),
        &["expected a positive whole number or auto"],
    );
    contains(&shell.fails(2, &["plan", "x", "--memory", "4 apples"]), &["4 apples", "4GiB"]);
    contains(
        &shell.fails(2, &["plan", "x", "--estimator", "column"]),
        &["error: ", "--modality-column", "help: "],
    );
    contains(
        &shell.fails(2, &["plan", "x", "--estimator", "hdbscan", "--modalities", "4"]),
        &["--modalities", "--estimator"],
    );
    contains(
        &shell.fails(2, &["plan", "x", "--estimator", "all"]),
        &["--estimator", "a plan is made with one", "batchwright modalities DATA --estimator all"],
    );
    contains(
        &shell.fails(2, &["modalities", "x", "--estimator", "all", "--modalities", "4"]),
        &["--estimator all", "--modalities"],
    );
    contains(
        &shell.fails(2, &["modalities", "x", "--estimator", "hdbscan", "--criterion", "gap"]),
        &["--criterion", "hdbscan"],
    );
    contains(&shell.fails(2, &["plan", "x", "--config", "none.toml"]), &["none.toml"]);
    contains(&shell.fails(2, &["synth", "-o", "x", "--skew", "-1"]), &["--skew"]);
    contains(&shell.fails(2, &["schema", "nothing"]), &["there is no kind of file `nothing`", "config"]);
    contains(&shell.fails(3, &["inspect", "nowhere"]), &["nowhere", "batchwright plan"]);
    assert_eq!(fs::read_dir(shell.path("")).unwrap().count(), 0, "a refused command leaves nothing behind");
}

#[test]
fn estimators_are_compared_on_one_sample() {
    let shell = Shell::new();
    shell.ok(&["synth", "-o", "data.parquet", "--rows", "120", "--dims", "5", "--modalities", "3"]);
    let args = ["modalities", "data.parquet", "--features", "embedding", "--estimator", "all"];
    let text = shell.ok(&args);
    contains(
        &text,
        &["120 rows", "like consensus", "consensus", "pretrained", "hdbscan", "kmeans", "dbscan"],
    );
    let compared: Value = serde_json::from_str(&shell.ok(&[&args[..], &["--json"]].concat())).unwrap();
    let estimators = compared["estimators"].as_array().unwrap();
    assert_eq!(estimators.len(), 6);
    for e in estimators {
        let linfa = ["gaussian-mixture", "dbscan"].contains(&e["estimator"].as_str().unwrap());
        if linfa && cfg!(not(feature = "linfa")) {
            assert!(e["failed"].as_str().unwrap().contains("this build has no"), "{e}");
            continue;
        }
        assert!(e["modalities"].as_u64() >= Some(1) && e["failed"].is_null(), "{e}");
        assert!(e["agreement"].is_f64() && e["largest"].is_f64() && e["clear"].is_boolean(), "{e}");
    }
    assert_eq!(estimators[0]["agreement"], 1.0);
    // The same as alone.
    let alone = shell.ok(&[
        "modalities",
        "data.parquet",
        "--features",
        "embedding",
        "--estimator",
        "hdbscan",
        "--json",
    ]);
    let alone: Value = serde_json::from_str(&alone).unwrap();
    let hdbscan = estimators.iter().find(|e| e["estimator"] == "hdbscan").unwrap();
    for key in ["modalities", "interval", "confidence", "clear"] {
        assert_eq!(alone[key], hdbscan[key], "{key}");
    }
}

#[test]
fn settings_come_in_layers() {
    let shell = Shell::new();
    fs::write(
        shell.path("batchwright.toml"),
        "seed = 1\n\n[batch_size]\nsize = 64\nmultiple = 4\n\n[run]\nmemory = \"1GiB\"\n",
    )
    .unwrap();
    let env =
        [("BATCHWRIGHT_BATCH_SIZE", "128"), ("BATCHWRIGHT_SEED", "2"), ("BATCHWRIGHT_DROP_LAST", "true")];
    let args = ["config", "show", "--json", "--seed", "3", "--candidates", "128,256", "--modalities", "7"];
    let output = shell.run_with(&env, &args);
    let shown: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    for (key, value, origin) in [
        ("seed", Value::from(3), "flag --seed"),
        ("batch_size.size", 128.into(), "env BATCHWRIGHT_BATCH_SIZE"),
        ("batch_size.multiple", 4.into(), "batchwright.toml:5"),
        ("batch_size.candidates", vec![128, 256].into(), "flag --candidates"),
        ("batches.drop_last", true.into(), "env BATCHWRIGHT_DROP_LAST"),
        ("modalities.estimator", "kmeans".into(), "implied by modalities.count (flag --modalities)"),
        ("run.memory", "1GiB".into(), "batchwright.toml:8"),
        ("strata.by", "modality".into(), "default"),
    ] {
        assert_eq!((&shown[key]["value"], shown[key]["origin"].as_str()), (&value, Some(origin)), "{key}");
    }
    // What is shown is a config file that gives the same values again.
    let text = shell.ok(&["config", "show", "--seed", "3"]);
    contains(&text, &["seed = 3", "# flag --seed", "[batch_size]", "# batchwright.toml:4"]);
    fs::write(shell.path("again.toml"), &text).unwrap();
    let again = shell.ok(&["config", "show", "--json", "--config", "again.toml"]);
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["seed"]["value"], 3);
    assert_eq!(again["batch_size.size"]["value"], 64);
}

#[test]
fn mistakes_in_settings_are_named() {
    let shell = Shell::new();
    let file = shell.path("batchwright.toml");
    let with = |text: &str| {
        fs::write(&file, text).unwrap();
        shell.fails(2, &["config", "show"])
    };
    contains(
        &with("[batch_size]\n# larger\nsise = 64\n"),
        &["batch_size.sise", "batchwright.toml:3", "`batch_size.size`"],
    );
    contains(&with("batch-size = 64\n"), &["batch-size (batchwright.toml:1)", "`batch_size.size`"]);
    contains(&with("seed = \"many\"\n"), &["seed (batchwright.toml:1)", "many"]);
    contains(&with("seed = \n"), &["batchwright.toml:1"]);
    contains(&with("[run]\nmemory = \"much\"\n"), &["run.memory (batchwright.toml:2)", "4GiB"]);
    contains(&with("[batches]\nholdout = 2.0\n"), &["batches.holdout (batchwright.toml:2)"]);
    fs::remove_file(&file).unwrap();
    let output = shell.run_with(&[("BATCHWRIGHT_BACTH_SIZE", "1")], &["config", "show"]);
    assert_eq!(output.status.code(), Some(0));
    contains(&stderr(&output), &["warning: ", "BATCHWRIGHT_BACTH_SIZE"]);
    let output = shell.run_with(&[("BATCHWRIGHT_SEED", "x")], &["config", "show"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn files_from_windows_and_other_locales_are_read() {
    let shell = Shell::new();
    fs::write(shell.path("w.toml"), "\u{feff}seed = 7\r\n\r\n[batch_size]\r\n# a comment\r\nsize = 20\r\n")
        .unwrap();
    let shown =
        shell.run_with(&[("LC_ALL", "de_DE.UTF-8")], &["config", "show", "--json", "--config", "w.toml"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| panic!("{}", stderr(&shown)));
    assert_eq!(shown["batch_size.size"]["value"], 20);
    assert_eq!(shown["batch_size.size"]["origin"], "w.toml:5");
    fs::write(shell.path("w.toml"), "seed = 7\r\n\r\n[batch_size]\r\nsise = 20\r\n").unwrap();
    contains(&shell.fails(2, &["config", "show", "--config", "w.toml"]), &["w.toml:4"]);
    // Numbers have a point, whatever the locale.
    contains(
        &shell.fails(2, &["config", "show", "--coverage", "0,9"]),
        &["0,9", "finite number such as 0.5"],
    );
    let shown = shell.run_with(&[("LC_ALL", "de_DE.UTF-8")], &["config", "show", "--coverage", "0.9"]);
    contains(&String::from_utf8(shown.stdout).unwrap(), &["coverage = 0.9 "]);
}

#[test]
fn names_of_columns_may_hold_commas() {
    let shell = Shell::new();
    let features = |args: &[&str]| {
        let shown = shell.ok(&[&["config", "show", "--json"], args].concat());
        serde_json::from_str::<Value>(&shown).unwrap()["features.columns"]["value"].clone()
    };
    assert_eq!(features(&["--features", "a,b"]), serde_json::json!(["a", "b"]));
    assert_eq!(features(&["--features", "a,b", "--features", "c"]), serde_json::json!(["a,b", "c"]));
}

#[test]
fn shares_come_from_a_file() {
    let shell = Shell::new();
    for (name, text) in [
        ("list.json", "[0.25, 0.75]"),
        ("table.json", "{\"1\": 0.75, \"0\": 0.25}"),
        ("list.toml", "shares = [0.25, 0.75]"),
        ("table.toml", "0 = 0.25\n1 = 0.75"),
    ] {
        fs::write(shell.path(name), text).unwrap();
        let shown: Value =
            serde_json::from_str(&shell.ok(&["config", "show", "--json", "--allocation", name])).unwrap();
        assert_eq!(shown["batches.allocation"]["value"], "shares", "{name}");
        assert_eq!(shown["batches.shares"]["value"], Value::from(vec![0.25, 0.75]), "{name}");
    }
    contains(&shell.fails(2, &["config", "show", "--allocation", "even"]), &["`even`", "proportional"]);
}

fn synth(shell: &Shell, out: &str, more: &[&str]) -> Vec<u8> {
    let base =
        ["synth", "-o", out, "--rows", "700", "--dims", "5", "--modalities", "3", "--row-group", "150"];
    shell.ok(&[&base, more].concat());
    let path = shell.path(out);
    fs::read(if path.is_dir() { path.join("part-00001.parquet") } else { path }).unwrap()
}

#[test]
fn synthetic_data_is_the_same_at_any_thread_count() {
    let shell = Shell::new();
    for options in [&[][..], &["--element", "f16", "--compression", "zstd", "--label"], &["--files", "3"]] {
        let [one, two, other] = [("1", "0"), ("2", "0"), ("2", "9")].map(|(threads, seed)| {
            let out = format!("{threads}-{seed}-{}", options.len());
            synth(&shell, &out, &[options, &["--threads", threads, "--seed", seed]].concat())
        });
        assert!(one == two, "{options:?}");
        assert!(one != other, "{options:?}");
    }
    let left = fs::read_dir(shell.path(""))
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(left.count(), 0, "temporary files are gone");
}

#[test]
fn synthetic_data_reads_back() {
    let shell = Shell::new();
    synth(&shell, "data.parquet", &["--label"]);
    let rows = read(&shell.path("data.parquet"));
    assert_eq!(rows.len(), 700);
    for (i, (id, kind, point)) in rows.iter().enumerate() {
        assert_eq!(*id, i as i64);
        assert!(["kind-00", "kind-01", "kind-02"].contains(&kind.as_str()));
        assert_eq!(point.len(), 5);
    }
    // Other row groups or files: the same rows.
    shell.ok(&["synth", "-o", "wide", "--rows", "700", "--dims", "5", "--modalities", "3", "--files", "2"]);
    let [first, second] =
        ["wide/part-00000.parquet", "wide/part-00001.parquet"].map(|f| read(&shell.path(f)));
    assert_eq!([first, second].concat(), rows);
}

fn read(path: &Path) -> Vec<(i64, String, Vec<f32>)> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap().build().unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let column = |name| batch.column_by_name(name).unwrap();
        let (ids, kinds) = (column("id").as_primitive::<Int64Type>(), column("kind").as_string::<i32>());
        for i in 0..batch.num_rows() {
            let point = column("embedding").as_fixed_size_list().value(i);
            rows.push((
                ids.value(i),
                kinds.value(i).into(),
                point.as_primitive::<Float32Type>().values().to_vec(),
            ));
        }
    }
    rows
}

#[test]
fn synth_replaces_only_what_it_may() {
    let shell = Shell::new();
    let small = ["--rows", "10", "--dims", "2", "--modalities", "2"];
    let make = |more: &[&'static str]| [&["synth", "-o", "x"], &small[..], more].concat();
    shell.ok(&make(&[]));
    contains(&shell.fails(2, &make(&[])), &["x already exists", "--force"]);
    shell.ok(&make(&["--force"]));
    fs::remove_file(shell.path("x")).unwrap();
    fs::create_dir(shell.path("x")).unwrap();
    fs::write(shell.path("x/thesis.txt"), "years").unwrap();
    shell.fails(2, &make(&["--force"]));
    shell.fails(2, &make(&["--force", "--files", "2"]));
    assert!(shell.path("x/thesis.txt").exists());
    fs::remove_file(shell.path("x/thesis.txt")).unwrap();
    shell.ok(&make(&["--force", "--files", "2"]));
    shell.ok(&make(&["--force", "--files", "3"]));
    assert_eq!(fs::read_dir(shell.path("x")).unwrap().count(), 3);
}

#[test]
fn progress_as_json_lines() {
    let shell = Shell::new();
    let output =
        shell.run(&["synth", "-o", "x", "--rows", "100", "--dims", "2", "--progress", "json", "--quiet"]);
    assert!(output.stdout.is_empty());
    let events: Vec<Value> = stderr(&output).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(events.first().unwrap()["event"], "begin");
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["done"], &last["total"]), (&"end".into(), &100.into(), &100.into()));
}

#[test]
fn completions_and_man_pages() {
    let shell = Shell::new();
    for name in ["bash", "zsh", "fish", "powershell", "elvish"] {
        contains(&shell.ok(&["completions", name]), &["batchwright", "stratify-by"]);
    }
    contains(&shell.ok(&["man"]), &[".TH", "batchwright"]);
    shell.ok(&["man", "--dir", "man"]);
    for page in ["batchwright.1", "batchwright-plan.1", "batchwright-config-show.1"] {
        contains(&fs::read_to_string(shell.path("man").join(page)).unwrap(), &[".TH", "NAME"]);
    }
}

#[test]
fn schemas_are_json() {
    let shell = Shell::new();
    for kind in shell.ok(&["schema"]).lines() {
        let _: Value =
            serde_json::from_str(&shell.ok(&["schema", kind])).unwrap_or_else(|e| panic!("{kind}: {e}"));
    }
    contains(&shell.ok(&["schema", "--write", "schemas"]), &["written to schemas"]);
    assert!(shell.path("schemas/config.json").exists());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("batchwright"))
        .args(["completions", "zsh"])
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn the_local_order_is_asked_for_by_flags() {
    let shell = Shell::new();
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/digits.parquet");
    let told = shell.fails(2, &["plan", data, "--window", "3"]);
    contains(&told, &["locality.window", "locality.kind", "--locality local"]);
    let told = shell.fails(2, &["plan", data, "--locality", "local", "--allocation", "equal"]);
    contains(&told, &["batches.allocation", "locality.kind"]);
    let told = shell.fails(2, &["plan", data, "--locality", "local", "--read", "lable"]);
    contains(&told, &["locality.read", "`label`"]);
    let local = ["plan", data, "--modalities", "3", "--locality", "local", "--window", "2", "--streams", "4"];
    let told = shell.ok(&[&local[..], &["--unit-rows", "64", "--dry-run"]].concat());
    contains(&told, &["local order", "2 units of 64 rows of each of 4 streams"]);
    let told = shell
        .ok(&[&local[..], &["--unit-rows", "64", "--window-memory", "8MiB", "--read", "label"]].concat());
    contains(
        &told,
        &["4 streams of 2 units of about 64 rows", "drift 0.", "1, 2, 4 fit", "0 epochs written"],
    );
    let told = shell.ok(&["inspect", "plan"]);
    contains(&told, &["4 streams of 2 units", "row groups that are read"]);
    let told: Value = serde_json::from_str(&shell.ok(&["inspect", "plan", "--json"])).unwrap();
    assert_eq!(told["reading"]["streams"], 4);
    assert_eq!(told["plan"]["config"]["locality"]["window_memory"], 8 << 20);
    shell.ok(&["report", "plan", "-o", "report.html"]);
    let page = fs::read_to_string(shell.path("report.html")).unwrap();
    contains(&page, &["in 4 streams and", "drift 0.", "\"local\":true"]);
}
