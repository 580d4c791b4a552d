//! Which files an input names, and what is said of those that it does not: folders, patterns, links, tables of other
//! formats, things that are no files.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, Float64Array, RecordBatch};
use batchwright::kit::progress::{Observer, Progress};
use batchwright::source::Dataset;
use batchwright::{Error, Result};
use parquet::arrow::ArrowWriter;

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn begin(&self, _: &'static str, _: &'static str, _: u64) {}
    fn advance(&self, _: &'static str, _: u64) {}
    fn end(&self, _: &'static str) {}
    fn warn(&self, message: &str) {
        self.0.lock().unwrap().push(message.into());
    }
}

/// A folder of small Parquet files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    /// A folder with these files, of ten rows each.
    fn with(names: &[&str]) -> Folder {
        let folder = Folder::new();
        names.iter().for_each(|name| folder.write(name));
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let x: ArrayRef = Arc::new(Float64Array::from_iter_values((0..10).map(f64::from)));
        let batch = RecordBatch::try_from_iter([("x", x)]).unwrap();
        let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn pipe(&self, name: &str) {
        assert!(Command::new("mkfifo").arg(self.path(name)).status().unwrap().success());
    }

    /// The dataset, and what was said.
    fn open(&self, inputs: &[&str]) -> (Result<Dataset>, Vec<String>) {
        let heard = Arc::new(Heard::default());
        let inputs: Vec<String> = inputs.iter().map(|i| self.path(i).display().to_string()).collect();
        let dataset = Dataset::open_within(&inputs, Dataset::MEMORY, &Progress::new(heard.clone()));
        let said = heard.0.lock().unwrap().clone();
        (dataset, said)
    }

    /// The paths of the files.
    fn files(&self, input: &str) -> Vec<String> {
        self.open(&[input]).0.unwrap().files().iter().map(|f| f.path.clone()).collect()
    }

    fn fails(&self, inputs: &[&str]) -> Error {
        let error = self.open(inputs).0.unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
        assert!(!error.help().is_empty(), "{error}");
        error
    }

    fn says(&self, input: &str, text: &str) {
        let error = self.fails(&[input]);
        assert!(error.to_string().contains(text), "`{text}` is not in: {error}");
    }
}

#[test]
fn folders_are_searched_by_name_and_what_is_left_out_is_said() {
    let folder = Folder::with(&["d/a.parquet", "d/b.pq", "d/C.PARQUET", "d/e.parq", "d/sub/f.parquet"]);
    folder.write("d/_temporary/0/h.parquet");
    folder.write("d/.x.parquet");
    folder.write("d/part-0");
    folder.put("d/_SUCCESS", "");
    folder.put("d/sub/notes.txt", "notes");
    let (dataset, said) = folder.open(&["d"]);
    let paths: Vec<String> = dataset.unwrap().files().iter().map(|f| f.path.clone()).collect();
    assert_eq!(paths, ["C.PARQUET", "a.parquet", "b.pq", "e.parq", "sub/f.parquet"]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].ends_with("d: left out .x.parquet, _SUCCESS, _temporary/ and 2 more"), "{said:?}");

    let whole = Folder::with(&["d/_key=1/a.parquet", "d/_key=2/a.parquet"]);
    let (dataset, said) = whole.open(&["d"]);
    assert_eq!((dataset.unwrap().rows(), said.len()), (20, 0));

    let strange = Folder::with(&["d/part-0", "d/part-1"]);
    strange.says("d", "holds no Parquet file, but part-0, part-1");
    assert!(strange.fails(&["d"]).help().contains("'DIR/*'"));
    assert_eq!(strange.files("d/*"), ["part-0", "part-1"]);
    assert_eq!(strange.files("d/part-1"), ["part-1"]);
}

#[test]
fn patterns_match_what_the_shell_matches() {
    let folder = Folder::with(&[
        "d/x.parquet/part-0.parquet",
        "d/y.parquet",
        "d/part[1].parquet",
        "d/part1.parquet",
        "d/deep/er/z.pq",
        "d/deep/_temporary/z.pq",
        "d/plain",
    ]);
    for (pattern, files) in [
        ("d/*.parquet", &["part1.parquet", "part[1].parquet", "x.parquet/part-0.parquet", "y.parquet"][..]),
        ("d/x*", &["part-0.parquet"]),
        ("d/[!px]*.parquet", &["y.parquet"]),
        ("d/part[1].parquet", &["part[1].parquet"]),
        ("d/part[[]1].parquet", &["part[1].parquet"]),
        ("d/?.parquet", &["x.parquet/part-0.parquet", "y.parquet"]),
        ("d/**/*.pq", &["z.pq"]),
        ("d/**/**/*.pq", &["z.pq"]),
        ("d/deep/**", &["z.pq"]),
        ("d/*/er/", &["z.pq"]),
        ("d/p*n", &["plain"]),
        ("*/y.parquet", &["y.parquet"]),
    ] {
        assert_eq!(folder.files(pattern), files, "{pattern}");
        // And as a relative one.
        let heard = Command::new(assert_cmd::cargo::cargo_bin!("batchwright"))
            .args(["plan", pattern, "--dry-run"])
            .current_dir(folder.0.path())
            .output()
            .unwrap();
        assert!(heard.status.success(), "{pattern}: {}", String::from_utf8_lossy(&heard.stderr));
    }
    folder.says("d/{x,y}.parquet", "No such file");
    folder.says("d/{x,y}.par*", "matches no Parquet file");
    assert!(folder.fails(&["d/{x,y}.par*"]).help().contains("several patterns"));
    folder.says("d/*.orc", "matches no Parquet file");
    folder.says("d/*/*/*/*/*", "matches no Parquet file");
}

#[test]
fn a_file_counts_once_whatever_its_name() {
    let folder = Folder::with(&["d/a.parquet"]);
    fs::hard_link(folder.path("d/a.parquet"), folder.path("d/b.parquet")).unwrap();
    folder.says("d", "is named twice");
    folder.says("d", "a.parquet");
    let linked = Folder::with(&["d/a.parquet"]);
    symlink("a.parquet", linked.path("d/b.parquet")).unwrap();
    linked.says("d", "is named twice");
    assert!(linked.fails(&["d/a.parquet", "d/a.parquet"]).to_string().contains("named twice"));
    let url = format!("file://{}", linked.path("d/a.parquet").display());
    let both = Dataset::open(&[url.clone(), linked.path("d/a.parquet").display().to_string()]);
    assert!(both.unwrap_err().to_string().contains("named twice"));
    assert_eq!(Dataset::open(&[url]).unwrap().rows(), 10);
    assert_eq!(
        Dataset::open(&[format!("file://localhost{}/%64", linked.0.path().display())])
            .unwrap_err()
            .exit_code(),
        3
    );
}

#[test]
fn links_that_lead_back_end() {
    let folder = Folder::with(&["d/e/a.parquet"]);
    for name in ["d/up", "d/e/again", "d/e/once"] {
        symlink(folder.path("d"), folder.path(name)).unwrap();
    }
    symlink("nowhere", folder.path("d/round")).unwrap();
    let (dataset, said) = folder.open(&["d"]);
    assert_eq!(dataset.unwrap().rows(), 10);
    assert!(said[0].contains("e/again (a link back), e/once (a link back), round"), "{said:?}");
    assert_eq!(folder.files("d/**/*.parquet"), ["a.parquet"]);
    symlink("gone.parquet", folder.path("d/b.parquet")).unwrap();
    folder.says("d", "b.parquet");
}

#[test]
fn tables_of_other_formats_are_no_folders_of_files() {
    for (mark, name, export) in [
        ("_delta_log/00000000000000000000.json", "a Delta table", "delta_scan"),
        (".hoodie/hoodie.properties", "a Hudi table", "hudi"),
        ("metadata/v1.metadata.json", "an Iceberg table", "iceberg_scan"),
    ] {
        let folder = Folder::with(&["lake/t/data/k=1/j=2/a.parquet", "lake/t/data/k=1/j=3/b.parquet"]);
        folder.put(&format!("lake/t/{mark}"), "{}");
        for input in
            ["lake", "lake/t", "lake/t/data", "lake/t/data/k=1", "lake/t/data/k=1/j=2", "lake/t/*/*/*/a.*"]
        {
            let error = folder.fails(&[input]);
            assert!(error.to_string().contains(name), "{input}: {error}");
            assert!(error.help().contains(export) && error.help().contains("lake/t"), "{}", error.help());
        }
        let (dataset, said) =
            folder.open(&["lake/t/data/k=1/j=2/a.parquet", "lake/t/data/k=1/j=3/b.parquet"]);
        assert_eq!(dataset.unwrap().rows(), 20);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(name) && said[0].contains("deleted"), "{said:?}");
    }
    // Two levels up is another matter, and so is a folder of another name.
    let folder = Folder::with(&["t/a/b/c.parquet", "t/delta_log/d.parquet"]);
    folder.put("t/_delta_log/0.json", "{}");
    assert_eq!(folder.files("t/a/b"), ["c.parquet"]);
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let folder = Folder::with(&["d/a.parquet"]);
    folder.pipe("d/f.parquet");
    folder.says("d/f.parquet", "is a pipe");
    folder.says("d", "is a pipe");
    let error = Dataset::open(&["/dev/zero".into()]).unwrap_err();
    assert!(error.to_string().contains("is a device"), "{error}");

    // Nor in a plan.
    let plan = |name: &str| {
        let out = Command::new(assert_cmd::cargo::cargo_bin!("batchwright"))
            .args(["inspect", name])
            .current_dir(folder.0.path())
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(3), "{name}");
        String::from_utf8(out.stderr).unwrap()
    };
    fs::create_dir(folder.path("p")).unwrap();
    folder.pipe("p/plan.json");
    assert!(plan("p").contains("it is a pipe"), "{}", plan("p"));
    fs::create_dir(folder.path("q")).unwrap();
    symlink("/dev/zero", folder.path("q/plan.json")).unwrap();
    assert!(plan("q").contains("it is a device"), "{}", plan("q"));
}

#[test]
fn names_that_are_not_text_are_refused() {
    let folder = Folder::with(&["d/a.parquet"]);
    let name = std::ffi::OsStr::from_bytes(b"d/\xff.parquet");
    fs::copy(folder.path("d/a.parquet"), folder.0.path().join(name)).unwrap();
    folder.says("d", "is not named in UTF-8");
    let out = Command::new(assert_cmd::cargo::cargo_bin!("batchwright"))
        .arg("plan")
        .arg(folder.0.path().join(name))
        .args(["-o", "p"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("UTF-8") && said.contains(".parquet"), "{said}");
}

#[test]
fn other_files_are_told_by_what_they_are() {
    let folder = Folder::with(&["good.parquet"]);
    let good = fs::read(folder.path("good.parquet")).unwrap();
    let says = |bytes: &[u8], text: &str| {
        folder.put("x.parquet", bytes);
        folder.says("x.parquet", text);
    };
    says(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer");
    says(b"\n<!DOCTYPE html><html>", "HTML");
    says(b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "XML");
    says(b"ORC\x0a\x0b and so on", "an ORC file");
    says(b"ARROW1\0\0 and so on", "an Arrow IPC file");
    says(b"{\"message\": \"not found\"}", "JSON");
    says("id,name\n1,é\n".as_bytes(), "text, perhaps CSV");
    says(&[0; 4096], "all zeros");
    says(b"", "is empty");
    says(b"PAR1", "too short");
    says(&good[..good.len() / 2], "is cut off");
    says(b"\x01\x02\x03", "too short");
    says(b"\x01\x02\x03 and more that says nothing \x01", "is not a Parquet file");
    says(b"PARE0123456789PARE", "is encrypted");
    says(&[&good[..], b"\n\n"].concat(), "has 2 bytes after its footer");
    says(&[&good[..], &[0; 30_000]].concat(), "has 30000 bytes after its footer");
}

#[test]
fn a_key_has_one_value() {
    let folder = Folder::with(&["d/k=1/k=2/a.parquet", "d/b.parquet"]);
    folder.says("d", "two directories of the partition key `k`");
}

#[test]
fn secrets_of_a_url_are_not_told() {
    let folder = Folder::new();
    let url = "s3://user:SECRET/PW@nowhere/x.parquet?X-Amz-Signature=SECRET";
    let out = Command::new(assert_cmd::cargo::cargo_bin!("batchwright"))
        .args(["plan", url, "-o", "p"])
        .current_dir(folder.0.path())
        .envs([("AWS_ENDPOINT", "http://u:SECRET@127.0.0.1:9"), ("AWS_ACCESS_KEY_ID", "a")])
        .envs([("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_REGION", "c")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(3), "{said}");
    assert!(!said.contains("SECRET") && said.contains("nowhere/x.parquet"), "{said}");
    assert!(said.contains("are not used"), "{said}");
}

/// Paths as the help shows them are read relative to where the program runs.
#[test]
fn relative_names_stay_as_they_were_given() {
    let folder = Folder::with(&["d/a.parquet"]);
    folder.put("d/notes.txt", "");
    let out = Command::new(assert_cmd::cargo::cargo_bin!("batchwright"))
        .args(["plan", "d", "--dry-run"])
        .current_dir(Path::new(folder.0.path()))
        .output()
        .unwrap();
    let (said, told) = (String::from_utf8_lossy(&out.stderr), String::from_utf8_lossy(&out.stdout));
    assert!(said.contains("d: left out notes.txt"), "{said}");
    assert!(told.contains("1 file"), "{told}");
}
