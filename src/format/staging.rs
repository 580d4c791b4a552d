//! How a plan comes into being: in a hidden sibling directory under a lock, moved into place whole.
//!
//! For `--out NAME` these stand beside it while a run is under way:
//!
//! - `.NAME.batchwright.lock`: held (flock) by the run, so there is one at a time;
//! - `.NAME.batchwright-<pid>-<n>`: the plan in the making. Found while the lock is ours, it is of a killed run and is
//!   removed;
//! - `.NAME.batchwright-old`: the replaced plan, for a moment, where the file system cannot exchange two directories. If
//!   the run is killed in that moment, the next one, or [`recover`] at the next open, moves it back.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};

use crate::kit::error::{Error, Result};

use super::manifest::{MANIFEST, Manifest, RUN, RunInfo};

const SCRATCH: &str = "scratch";

/// A plan in the making; dropped without [`Staging::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct Staging {
    place: Place,
    dir: PathBuf,
    /// Dropped last: the lock covers the cleaning up.
    _lock: Lock,
}

/// Where a plan goes, and its siblings.
#[derive(Clone, Debug)]
struct Place {
    out: PathBuf,
    parent: PathBuf,
    name: OsString,
}

impl Place {
    fn of(out: &Path) -> Result<Place> {
        // A link to a plan stays a link: what it points to is replaced.
        let out = match fs::symlink_metadata(out) {
            Ok(m) if m.is_symlink() => fs::canonicalize(out).map_err(Error::io("follow the link", out))?,
            _ => out.to_path_buf(),
        };
        let Some(name) = out.file_name().map(OsString::from) else {
            return Err(Error::config(
                "out",
                format!("{} does not name a directory to be written", out.display()),
                "give the plan a name of its own, for example `--out plan`",
            ));
        };
        let parent = match out.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
            _ => PathBuf::from("."),
        };
        Ok(Place { out, parent, name })
    }

    /// `.NAME.batchwright` + `suffix`.
    fn sibling(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".batchwright");
        name.push(suffix);
        self.parent.join(name)
    }

    fn old(&self) -> PathBuf {
        self.sibling("-old")
    }

    /// Is this file name `.NAME.batchwright-<pid>-<n>`?
    fn is_staging(&self, name: &std::ffi::OsStr) -> bool {
        let prefix = self.sibling("-");
        let Some(rest) = prefix
            .file_name()
            .and_then(|p| name.as_encoded_bytes().strip_prefix(p.as_encoded_bytes()))
            .and_then(|r| std::str::from_utf8(r).ok())
        else {
            return false;
        };
        let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        rest.split_once('-').is_some_and(|(pid, n)| number(pid) && number(n))
    }
}

/// An advisory lock on a file that is removed in the end.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(place: &Place) -> Result<Lock> {
        let path = place.sibling(".lock");
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(Error::io("create the lock file", &path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::config(
                        "out",
                        format!("another run is writing {} right now", place.out.display()),
                        "wait for it to end, or use another --out",
                    ));
                }
                Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
            }
            // The last holder may have removed the file between our opening and our locking it: then it guards nothing.
            let ours = file.metadata().map_err(Error::io("read", &path))?;
            match fs::metadata(&path) {
                Ok(there) if there.ino() == ours.ino() && there.dev() == ours.dev() => {
                    return Ok(Lock { path, _file: file });
                }
                _ => continue,
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While the lock is still held, see Lock::take.
        let _ = fs::remove_file(&self.path);
    }
}

impl Staging {
    /// Takes the lock, cleans up after killed runs and makes the staging directory. Errors if `out` exists and must not be
    /// replaced: a plan without `force`, or anything else that is not an empty directory, always.
    pub fn begin(out: &Path, force: bool) -> Result<Staging> {
        let place = Place::of(out)?;
        if !place.parent.is_dir() {
            return Err(Error::config(
                "out",
                format!("the directory {} does not exist", place.parent.display()),
                "create it first, or use another --out",
            ));
        }
        let lock = Lock::take(&place)?;
        move_back(&place)?;
        for entry in fs::read_dir(&place.parent).map_err(Error::io("list", &place.parent))? {
            let entry = entry.map_err(Error::io("list", &place.parent))?;
            if place.is_staging(&entry.file_name()) {
                fs::remove_dir_all(entry.path())
                    .map_err(Error::io("remove what a killed run left", entry.path()))?;
            }
        }
        check_replaceable(&place.out, force)?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = place.sibling(&format!("-{}-{n}", std::process::id()));
        fs::create_dir(&dir).map_err(Error::io("create the directory", &dir))?;
        Ok(Staging { place, dir, _lock: lock })
    }

    /// Where the files of the plan are to be written.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// A directory for temporary files of this run, on the same disk; gone before the plan is in place.
    pub fn scratch(&self) -> Result<PathBuf> {
        let dir = self.dir.join(SCRATCH);
        fs::create_dir_all(&dir).map_err(Error::io("create the directory", &dir))?;
        Ok(dir)
    }

    /// Seals the manifest, writes run.json and, last, plan.json, makes everything durable and moves the plan into place. An
    /// old plan is exchanged in one step where the file system can, then deleted. Returns the sealed manifest.
    pub fn commit(self, mut manifest: Manifest, run: &RunInfo) -> Result<Manifest> {
        manifest.seal();
        let scratch = self.dir.join(SCRATCH);
        if scratch.exists() {
            fs::remove_dir_all(&scratch).map_err(Error::io("remove", &scratch))?;
        }
        let mut found = Vec::new();
        sync_tree(&self.dir, &self.dir, &mut found)?;
        found.sort();
        let listed: Vec<&str> = manifest.files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(found, listed, "plan.json lists exactly the files of the plan");
        write_durably(&self.dir.join(RUN), &run.to_json())?;
        write_durably(&self.dir.join(MANIFEST), &manifest.to_json())?;
        sync_dir(&self.dir)?;
        self.move_into_place()?;
        sync_dir(&self.place.parent)?;
        Ok(manifest)
    }

    fn move_into_place(&self) -> Result<()> {
        let out = &self.place.out;
        let to = || Error::io("move the plan into place at", out);
        if !out.join(MANIFEST).exists() {
            // Nothing is there, or an empty directory.
            return fs::rename(&self.dir, out).map_err(to());
        }
        match renameat_with(CWD, &self.dir, CWD, out, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(_) => {
                let old = self.place.old();
                fs::rename(out, &old).map_err(to())?;
                if let Err(e) = fs::rename(&self.dir, out) {
                    fs::rename(&old, out).map_err(Error::io("move the old plan back to", out))?;
                    return Err(to()(e));
                }
                sync_dir(&self.place.parent)?;
                fs::remove_dir_all(&old).map_err(Error::io("remove the old plan at", &old))?;
            }
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a commit this is the old plan that was exchanged, or nothing.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Moves a plan back that a killed run had moved aside and not yet replaced. Called at open when `out` is not there; a
/// running replacement is left alone. True if there was one.
pub fn recover(out: &Path) -> Result<bool> {
    let place = Place::of(out)?;
    if !place.old().join(MANIFEST).exists() {
        return Ok(false);
    }
    let _lock = Lock::take(&place)?;
    move_back(&place)
}

/// Under the lock. True if the old plan was moved back.
fn move_back(place: &Place) -> Result<bool> {
    let old = place.old();
    if !old.is_dir() {
        return Ok(false);
    }
    if place.out.join(MANIFEST).exists() {
        fs::remove_dir_all(&old).map_err(Error::io("remove the replaced plan at", &old))?;
        return Ok(false);
    }
    fs::rename(&old, &place.out).map_err(Error::io("move the old plan back to", &place.out))?;
    sync_dir(&place.parent)?;
    Ok(true)
}

fn check_replaceable(out: &Path, force: bool) -> Result<()> {
    let refuse = |what: String| Err(Error::config("out", what, "use another --out"));
    match fs::symlink_metadata(out) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("read", out)(e)),
        Ok(m) if !m.is_dir() => return refuse(format!("{} exists and is not a directory", out.display())),
        Ok(_) => {}
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(out).map_err(Error::io("list", out))? {
        names.push(entry.map_err(Error::io("list", out))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    if names.is_empty() {
        return Ok(());
    }
    let text = fs::read_to_string(out.join(MANIFEST)).ok();
    let json = text.and_then(|t| serde_json::from_str::<serde_json::Value>(&t).ok());
    let Some(json) = json.filter(|j| j.get("format").is_some() && j.get("plan").is_some()) else {
        return refuse(format!("{} exists and is not a plan; it is never overwritten", out.display()));
    };
    if !force {
        return Err(Error::config(
            "out",
            format!("{} is already a plan", out.display()),
            "use --force to replace it, or another --out",
        ));
    }
    // Replacing deletes the directory: nothing that the user put there may go with it.
    let files = json.get("files").and_then(|f| f.as_array()).into_iter().flatten();
    let own: Vec<&str> = files
        .filter_map(|f| f.get("path").and_then(|p| p.as_str()))
        .map(|p| p.split('/').next().unwrap_or(p))
        .chain([MANIFEST, RUN])
        .collect();
    match names.iter().find(|n| !own.contains(&n.as_str())) {
        None => Ok(()),
        Some(foreign) => Err(Error::config(
            "out",
            format!("{} holds {foreign}, which is not part of the plan and would be deleted", out.display()),
            "move it away, or use another --out",
        )),
    }
}

/// Makes every file and directory below `dir` durable; collects the paths of the files relative to `root`.
fn sync_tree(dir: &Path, root: &Path, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        if path.is_dir() {
            sync_tree(&path, root, found)?;
        } else {
            File::open(&path).and_then(|f| f.sync_all()).map_err(Error::io("write", &path))?;
            let inside = path.strip_prefix(root).expect("the walk began at the root");
            found.push(
                inside.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/"),
            );
        }
    }
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(Error::io("write", dir))
}

fn write_durably(path: &Path, text: &str) -> Result<()> {
    File::create(path)
        .and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()))
        .map_err(Error::io("write", path))
}

/// Bytes that an ordinary user can still write where `path` is or would be.
pub fn disk_free(path: &Path) -> Result<u64> {
    let there = path
        .ancestors()
        .map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p })
        .find(|p| p.exists())
        .unwrap_or(Path::new("."));
    let stat = statvfs(there).map_err(|e| Error::io("read the free space of", there)(e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
