//! A run that does not get to its end leaves no half plan, and the next one works: Ctrl-C, kill -9, a full disk, an input
//! that goes away, two runs at once.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_batchwright");

/// A folder with a dataset that takes a second or more to plan in any build.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        let args = "synth -o data.parquet --rows 60000 --dims 48 --modalities 5 --row-group 4096";
        assert!(place.command(args).status().unwrap().success());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .current_dir(self.dir.path())
            .args(args.split(' '))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn plan(&self, more: &str) -> Child {
        self.command(&format!(
            "plan data.parquet -o p --features embedding --modalities 5 --resolution 2000{more}"
        ))
        .spawn()
        .unwrap()
    }

    /// Names in the folder, sorted.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The staging directory of a run that has begun to write into it.
    fn staging(&self) -> Option<PathBuf> {
        let name = self.names().into_iter().find(|n| n.starts_with(".p.") && self.path(n).is_dir())?;
        Some(self.path(&name))
    }

    /// Waits until the run has taken its place, and for `file` in its staging directory if one is named.
    fn wait(&self, run: &mut Child, file: Option<&str>) {
        let begin = Instant::now();
        while !self.staging().is_some_and(|s| file.is_none_or(|f| s.join(f).exists())) {
            assert!(run.try_wait().unwrap().is_none(), "the run ended before it could be disturbed");
            assert!(begin.elapsed() < Duration::from_secs(60), "the run never came so far");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn plan_is_whole(&self) {
        let plan = batchwright::plan::Plan::open(self.path("p")).unwrap();
        plan.verify().unwrap();
    }

    fn plan_again(&self, more: &str) {
        let out = self.plan(more).wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(self.names(), ["data.parquet", "p"]);
        self.plan_is_whole();
    }
}

fn end(run: Child) -> (ExitStatus, String) {
    let out = run.wait_with_output().unwrap();
    (out.status, String::from_utf8_lossy(&out.stderr).into_owned())
}

fn signal(run: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &run.id().to_string()]).status().unwrap().success());
}

#[test]
fn ctrl_c_leaves_nothing() {
    let place = Place::new();
    for file in [None, Some("scratch")] {
        let mut run = place.plan("");
        place.wait(&mut run, file);
        signal(&run, "-INT");
        let (status, said) = end(run);
        assert_eq!(status.code(), Some(130), "{said}");
        assert!(
            said.contains("interrupted") && said.contains("nothing of this run was left behind"),
            "{said}"
        );
        assert_eq!(place.names(), ["data.parquet"]);
    }
    place.plan_again("");
}

/// As where a computation takes longer than Ctrl-C waits: the process ends with its threads still at work.
#[test]
fn a_process_that_ends_removes_what_it_was_writing() {
    use batchwright::format::staging::{Staging, abandon};
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("p");
    let staging = Staging::begin(&out, false).unwrap();
    std::fs::write(staging.scratch().unwrap().join("rows"), "half").unwrap();
    abandon(&out);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    drop(staging);

    let staging = Staging::begin(&out, false).unwrap();
    let whole = staging.path().join("plan.json");
    std::fs::write(&whole, "{}").unwrap();
    abandon(&out);
    assert!(whole.exists(), "a plan, or one that was replaced");
}

#[test]
fn a_killed_run_is_cleaned_up_by_the_next() {
    let place = Place::new();
    let mut run = place.plan("");
    place.wait(&mut run, Some("scratch"));
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(!place.path("p").exists());
    place.plan_again("");

    // The plan that is there stays until a whole one takes its place.
    let before = std::fs::read(place.path("p/plan.json")).unwrap();
    let mut run = place.plan(" --seed 1 --force");
    place.wait(&mut run, Some("scratch"));
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(before, std::fs::read(place.path("p/plan.json")).unwrap());
    place.plan_is_whole();
    place.plan_again(" --seed 1 --force");
    assert_ne!(before, std::fs::read(place.path("p/plan.json")).unwrap());
}

#[test]
fn two_runs_do_not_share_a_place() {
    let place = Place::new();
    let mut first = place.plan("");
    place.wait(&mut first, None);
    let (status, said) = end(place.plan(""));
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("another run") && said.contains("help:"), "{said}");
    assert!(end(first).0.success());
    assert_eq!(place.names(), ["data.parquet", "p"]);
    place.plan_is_whole();
}

/// `ulimit -f` makes writes beyond a size fail, as they do when the disk is full.
#[test]
fn a_full_disk_leaves_nothing() {
    let place = Place::new();
    let limited = |kib: u32| {
        let script = format!(
            "trap '' XFSZ; ulimit -f {kib}; exec {PROGRAM} plan data.parquet -o p --features embedding --modalities 5 --resolution 2000"
        );
        let mut shell = Command::new("bash");
        shell
            .current_dir(place.dir.path())
            .args(["-c", &script])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        end(shell.spawn().unwrap())
    };
    for kib in [0, 64, 600, 1000] {
        let (status, said) = limited(kib);
        assert_eq!(status.code(), Some(3), "{kib} KiB: {said}");
        assert!(said.contains("cannot write") || said.contains("cannot create"), "{kib} KiB: {said}");
        assert!(said.contains("nothing of this run was left behind"), "{kib} KiB: {said}");
        assert_eq!(place.names(), ["data.parquet"], "{kib} KiB: {said}");
    }
    place.plan_again("");
}

#[test]
fn an_input_that_changes_is_named() {
    let place = Place::new();
    let whole = std::fs::read(place.path("data.parquet")).unwrap();
    fn remove(data: &Path) {
        std::fs::remove_file(data).unwrap();
    }
    fn cut_short(data: &Path) {
        std::fs::File::options().write(true).open(data).unwrap().set_len(1000).unwrap();
    }
    fn grow(data: &Path) {
        let mut bytes = std::fs::read(data).unwrap();
        bytes.extend_from_slice(&[0; 100]);
        std::fs::write(data, bytes).unwrap();
    }
    fn write_over(data: &Path) {
        let length = std::fs::read(data).unwrap().len();
        std::fs::write(data, vec![7; length]).unwrap();
    }
    type Act = fn(&Path);
    let acts: [(&str, Act); 4] =
        [("removed", remove), ("cut short", cut_short), ("grown", grow), ("written over", write_over)];
    for (how, act) in acts {
        for file in [None, Some("scratch")] {
            let mut run = place.plan("");
            place.wait(&mut run, file);
            act(&place.path("data.parquet"));
            let (status, said) = end(run);
            // Even a run that has read all it needs looks once more before it commits.
            assert_eq!(status.code(), Some(3), "{how}: {said}");
            assert!(said.contains("data.parquet") && said.contains("help:"), "{how}: {said}");
            std::fs::write(place.path("data.parquet"), &whole).unwrap();
            assert_eq!(place.names(), ["data.parquet"], "{how}: {said}");
        }
    }
    place.plan_again("");
}
