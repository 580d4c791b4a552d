//! What reaches terminals, logs and other people's files: text from the data acts on nothing, and nothing is written over
//! but what the program wrote itself.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use arrow_array::types::Float32Type;
use arrow_array::{ArrayRef, FixedSizeListArray, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_batchwright");

/// A name and values as nobody should have them.
const COLUMN: &str = "k\x1b[31m|`x`<b>\u{202e}";
const VALUES: [&str; 4] = [
    "\x1b]0;owned\x07\x1b[2J\u{9b}2J",
    "\n::error::boo\r\n::set-output name=a::b",
    "![i](http://evil.example/x.png) [l](http://evil.example) </script><script>alert(1)</script>",
    "ok",
];
const FILE: &str = "a\x1b[31m\n::error::file.parquet";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.current_dir(self.0.path()).env_clear().args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn code(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    }

    /// 400 points in two clouds, and a column of words.
    fn data(&self, name: &str, column: &str, values: &[&str], shift: f32) {
        let point = |i: usize| {
            let x = (i * 7919 % 101) as f32 / 101.0 + if i.is_multiple_of(2) { 9.0 } else { shift };
            Some([x, (i * 31 % 17) as f32 / 17.0].map(Some))
        };
        let points = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>((0..400).map(point), 2);
        let words = StringArray::from_iter_values((0..400).map(|i| values[i % values.len()]));
        let columns = [("v", Arc::new(points) as ArrayRef), (column, Arc::new(words) as ArrayRef)];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let file = File::create(self.path(name)).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

fn clean(text: &str, what: &dyn std::fmt::Debug) {
    let acts =
        |c: &char| (c.is_control() && *c != '\n' && *c != '\t') || ('\u{202a}'..='\u{202e}').contains(c);
    assert_eq!(text.chars().find(acts), None, "{what:?}: {text}");
    let commands: Vec<&str> = text.lines().filter(|l| l.trim_start().starts_with("::")).collect();
    let ours = |line: &&str| {
        let title =
            line.contains(",title=batchwright%3A ") || line.starts_with("::warning title=batchwright::");
        title && ["::error file=", "::warning ", "::notice file="].iter().any(|c| line.starts_with(c))
    };
    assert!(commands.iter().all(ours), "{what:?}: {commands:?}");
}

#[test]
fn text_from_the_data_acts_on_nothing() {
    let place = Place::new();
    place.data(FILE, COLUMN, &VALUES, 0.0);
    place.data("drifted.parquet", COLUMN, &VALUES[1..], 30.0);
    let plan = ["plan", FILE, "-o", "p", "--label", COLUMN, "--stratify-by", COLUMN, "--resolution", "200"];
    clean(&place.code(0, &plan), &plan);
    let formats = ["human", "json", "junit", "sarif", "github", "markdown"];
    let mut runs: Vec<Vec<&str>> = vec![
        vec!["plan", FILE, "-o", "q", "--dry-run"],
        vec!["plan", FILE, "-o", "q", "--features", "\x1b[2Jzz\n::error::x"],
        vec!["plan", FILE, "-o", "q", "--features", COLUMN, "--modality-column", COLUMN, "--json"],
        vec!["plan", FILE, "-o", "q", "--label", "\u{202e}none"],
        vec!["plan", "\x1b[2Jnone.parquet", "-o", "q"],
        vec!["plan", FILE, "-o", "q", "--batch-size", "\x1b[2J\n::error::x"],
        vec!["plan", FILE, "-o", "q", "--\x1b[2J\n::error::x"],
        vec!["plan", FILE, "-o", "q", "--config", "\x1b[2J\n::error::x"],
        vec!["plan", FILE, "-o", "none/\x1b[2J\n::error::x"],
        vec!["plan", FILE, "-o", "p"],
        vec!["modalities", FILE, "--modality-column", COLUMN],
        vec!["modalities", FILE, "--modality-column", COLUMN, "--json"],
        vec!["inspect", "p"],
        vec!["inspect", "p", "--all"],
        vec!["inspect", "p", "--json"],
        vec!["inspect", "\x1b[2J"],
        vec!["report", "p", "-o", "-"],
        vec!["update", "p", FILE, "drifted.parquet", "-o", "q2"],
        vec!["diff", "p", "q2"],
        vec!["diff", "p", "q2", "--json"],
        vec!["config", "show", "--label", COLUMN, "--features", COLUMN],
        vec!["config", "show", "--label", COLUMN, "--json"],
        vec!["schema", "\x1b[2J"],
    ];
    for format in formats {
        runs.push(vec!["check", "p", FILE, "--output-format", format]);
        runs.push(vec!["check", "p", FILE, "drifted.parquet", "--output-format", format]);
        runs.push(vec!["check", "p", "drifted.parquet", "--output-format", format]);
    }
    for args in &runs {
        let output = place.run(args);
        clean(&said(&output), args);
        assert!(output.status.code().is_some_and(|code| code <= 4), "{args:?}: {}", said(&output));
        if args.contains(&"--json") && output.status.success() {
            let text = String::from_utf8(output.stdout).unwrap();
            let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}\n{text}"));
            assert!(json.is_object(), "{args:?}");
        }
    }
    let variable = ("BATCHWRIGHT_ESTIMATOR", "\x1b[2J\n::error::x");
    let output = place.command(&["plan", FILE, "-o", "q"]).env(variable.0, variable.1).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    clean(&said(&output), &variable);
    // Cleaned is not changed: JSON says what the data says.
    let shown: Value = serde_json::from_slice(&place.run(&["inspect", "p", "--json"]).stdout).unwrap();
    assert_eq!(shown["plan"]["config"]["source"]["label"], COLUMN);
    let toml = String::from_utf8(place.run(&["config", "show", "--label", COLUMN]).stdout).unwrap();
    fs::write(place.path("own.toml"), toml).unwrap();
    let again = place.run(&["config", "show", "--config", "own.toml", "--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["source.label"]["value"], COLUMN);
    // Nothing in a markdown report is a link or an image.
    let markdown = said(&place.run(&["check", "p", "drifted.parquet", "--output-format", "markdown"]));
    assert!(!markdown.contains("](") && !markdown.contains("://") && !markdown.contains("<b>"), "{markdown}");
    assert!(markdown.contains("owned"), "the value is shown: {markdown}");
}

#[test]
fn outputs_go_over_nothing_but_older_reports() {
    let place = Place::new();
    fs::create_dir(place.path("data")).unwrap();
    place.data("data/a.parquet", "k", &["x"], 0.0);
    place.code(0, &["plan", "data", "-o", "p", "-q"]);
    fs::write(place.path("notes.md"), "years of work").unwrap();
    std::os::unix::fs::symlink("data/a.parquet", place.path("link")).unwrap();
    fs::hard_link(place.path("data/a.parquet"), place.path("hard")).unwrap();
    fs::copy(place.path("data/a.parquet"), place.path("copy.parquet")).unwrap();
    let everything = || {
        let mut all: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        let mut open = vec![place.path("")];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path)
                } else {
                    all.push((path.clone(), fs::read(path).unwrap()))
                }
            }
        }
        all.sort();
        all
    };
    let before = everything();
    for (path, says) in [
        ("data/a.parquet", "what this run reads"),
        ("./data/../data/a.parquet", "what this run reads"),
        ("link", "what this run reads"),
        ("hard", "what this run reads"),
        ("p/plan.json", "which this run reads"),
        ("p/new.json", "which this run reads"),
        ("p", "what this run reads"),
        ("notes.md", "already exists and is not a batchwright report"),
        ("copy.parquet", "already exists and is not a batchwright report"),
        ("data", "is a directory"),
        ("none/x.json", "does not exist"),
    ] {
        let format = format!("json={path}");
        let text = place.code(2, &["check", "p", "data", "--output-format", &format]);
        assert!(text.contains(says) && text.contains("help: "), "{path}: {text}");
        let text = place.code(2, &["report", "p", "-o", path]);
        assert!(text.contains("--out: "), "{path}: {text}");
    }
    place.code(2, &["report", "p", "-o", "p/plan.json", "--force"]);
    place.code(2, &["schema", "--write", "p"]);
    place.code(2, &["synth", "-o", "notes.md", "--rows", "10", "--modalities", "2"]);
    place.code(2, &["check", "p", "data", "--output-format", "json=x", "--output-format", "junit=x"]);
    assert!(
        place
            .code(2, &["check", "p", "data", "--output-format", "xml"])
            .contains("unknown format `xml`; expected one of human, json")
    );
    assert_eq!(everything(), before, "nothing was touched, and nothing was left");

    // Its own files may be replaced, whatever their format; an empty file holds nothing.
    for format in ["human", "json", "junit", "sarif", "github", "markdown"] {
        let to = format!("{format}=report");
        place.code(0, &["check", "p", "data", "--output-format", &to]);
    }
    File::create(place.path("empty")).unwrap();
    place.code(0, &["check", "p", "data", "--output-format", "json=empty"]);
    place.code(0, &["report", "p", "-o", "page.html"]);
    place.code(0, &["report", "p", "-o", "page.html"]);
    place.code(0, &["report", "p", "-o", "notes.md", "--force"]);
    assert!(fs::read_to_string(place.path("notes.md")).unwrap().contains("batchwright report"));
    // A device is written to, not replaced.
    place.code(0, &["check", "p", "data", "--output-format", "json=/dev/null"]);
    let piped = place.run(&["check", "p", "data", "--output-format", "json=/dev/stdout"]);
    assert!(serde_json::from_slice::<Value>(&piped.stdout).is_ok());
    for folder in ["schemas", "man"] {
        let args = if folder == "man" { ["man", "--dir", folder] } else { ["schema", "--write", folder] };
        place.code(0, &args);
        place.code(0, &args);
    }
    let hidden = |p: &&PathBuf| p.file_name().unwrap().to_string_lossy().starts_with('.');
    assert_eq!(everything().iter().map(|(p, _)| p).find(hidden), None);
}

#[test]
fn what_a_killed_run_left_beside_an_output_is_removed() {
    let place = Place::new();
    let left = place.path(".x.parquet.batchwright-123-0.tmp");
    fs::write(&left, "half").unwrap();
    let held = File::create(place.path(".x.parquet.batchwright-124-0.tmp")).unwrap();
    held.lock().unwrap();
    let synth = ["synth", "-o", "x.parquet", "--rows", "10", "--dims", "2", "--modalities", "2"];
    place.code(0, &synth);
    assert!(!left.exists() && place.path(".x.parquet.batchwright-124-0.tmp").exists());
}

#[test]
fn what_cannot_be_shown_does_not_deny_what_was_done() {
    let place = Place::new();
    place.data("a.parquet", "k", &["x"], 0.0);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = place.command(&["plan", "a.parquet", "-o", "p"]).stdout(full).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(Path::new(&place.path("p/plan.json")).exists());
    assert!(text.contains("standard output") && text.contains("the run is complete"), "{text}");
    assert!(!text.contains("nothing") && !text.contains("--out"), "{text}");
}

/// Some senders signal twice at once (`timeout` does): the second changes nothing.
#[test]
fn a_second_ctrl_c_leaves_nothing_either() {
    let place = Place::new();
    place.code(0, &["synth", "-o", "a.parquet", "--rows", "60000", "--dims", "48", "-q"]);
    let mut run = place
        .command(&["plan", "a.parquet", "-o", "p"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = || fs::read_dir(place.path("")).unwrap().count() > 2;
    while !begun() {
        assert!(run.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    for _ in 0..2 {
        let signal = Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
        assert!(signal.success());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let output = run.wait_with_output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("nothing of this run was left behind"), "{text}");
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 1);
}

#[test]
fn ranks_without_rows_are_named() {
    let place = Place::new();
    place.data("a.parquet", "k", &["x"], 0.0);
    let plan = |size: &str, more: &[&str]| {
        let args = ["plan", "a.parquet", "-o", "p", "--force", "--candidates", size, "--world-size", "7"];
        place.code(0, &[&args[..], more].concat())
    };
    // 400 = 19 x 21 + 1
    assert!(plan("21", &[]).contains("has 1 of 400 rows, fewer than the 7 ranks"));
    assert!(!plan("21", &["--drop-last"]).contains("ranks"));
    assert!(!plan("28", &[]).contains("ranks"), "400 = 14 x 28 + 8");
}
