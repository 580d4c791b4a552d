//! How a plan comes into being: in a hidden sibling directory under a lock, moved into place whole.
//!
//! For `--out NAME` these stand beside it while a run is under way:
//!
//! - `.NAME.batchwright.lock`: held (flock) by the run, so there is one at a time;
//! - `.NAME.batchwright-<pid>-<n>`: the plan in the making, or the one that was replaced. Found while the lock is ours, it is
//!   of a killed run and is removed. Only the files that a plan lists are deleted: others are put back into NAME;
//! - `.NAME.batchwright-old`: the replaced plan, for a moment, where the file system cannot exchange two directories. If
//!   the run is killed in that moment, the next one, or [`recover`] at the next open, moves it back.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, CWD, RenameFlags, access, renameat_with, statvfs};
use rustix::process::geteuid;

use crate::kit::error::{Error, Result};
use crate::kit::files;
use crate::kit::output::{Siblings, left_behind};

use super::manifest::{MANIFEST, Manifest, RUN, RunInfo};

const SCRATCH: &str = "scratch";

/// A plan in the making; dropped without [`Staging::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct Staging {
    place: Place,
    dir: PathBuf,
    exchange: fn(&Path, &Path) -> std::io::Result<()>,
    /// Dropped last: the lock covers the cleaning up.
    _lock: Lock,
}

/// Where a plan goes, and its siblings.
#[derive(Clone, Debug)]
struct Place {
    out: PathBuf,
    siblings: Siblings,
}

impl Place {
    fn of(out: &Path) -> Result<Place> {
        // A link to a plan stays a link: what it points to is replaced.
        let out = match fs::symlink_metadata(out) {
            Ok(m) if m.is_symlink() => fs::canonicalize(out).map_err(Error::io("follow the link", out))?,
            _ => out.to_path_buf(),
        };
        match Siblings::of(&out) {
            Some(siblings) => Ok(Place { out, siblings }),
            None => Err(Error::config(
                "out",
                format!("{} does not name a directory to be written", out.display()),
                "give the plan a name of its own, for example `--out plan`",
            )),
        }
    }

    fn old(&self) -> PathBuf {
        self.siblings.named("-old")
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
        let path = place.siblings.named(".lock");
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
        if !place.siblings.parent.is_dir() {
            return Err(Error::config(
                "out",
                format!("the directory {} does not exist", place.siblings.parent.display()),
                "create it first, or use another --out",
            ));
        }
        let lock = Lock::take(&place)?;
        move_back(&place)?;
        for (_, left) in place.siblings.unfinished("")? {
            discard(&left, &place.out);
        }
        check_replaceable(&place.out, force)?;
        let dir = place.siblings.unused("");
        fs::create_dir(&dir).map_err(Error::io("create the directory", &dir))?;
        Ok(Staging { place, dir, exchange, _lock: lock })
    }

    /// For tests: as on a file system that cannot exchange two directories (NFS, FAT).
    #[doc(hidden)]
    pub fn without_exchange(mut self) -> Staging {
        self.exchange = |_, _| Err(std::io::ErrorKind::Unsupported.into());
        self
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
        let found = sync_tree(&self.dir)?;
        let listed: Vec<&str> = manifest.files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(found, listed, "plan.json lists exactly the files of the plan");
        write_durably(&self.dir.join(RUN), &run.to_json())?;
        write_durably(&self.dir.join(MANIFEST), &manifest.to_json())?;
        sync_dir(&self.dir)?;
        self.move_into_place()?;
        sync_dir(&self.place.siblings.parent)?;
        Ok(manifest)
    }

    fn move_into_place(&self) -> Result<()> {
        let out = &self.place.out;
        let to = || Error::io("move the plan into place at", out);
        if !out.join(MANIFEST).exists() {
            // Nothing is there, or an empty directory.
            return fs::rename(&self.dir, out).map_err(to());
        }
        if (self.exchange)(&self.dir, out).is_err() {
            let old = self.place.old();
            fs::rename(out, &old).map_err(to())?;
            if let Err(e) = fs::rename(&self.dir, out) {
                fs::rename(&old, out).map_err(Error::io("move the old plan back to", out))?;
                return Err(to()(e));
            }
            sync_dir(&self.place.siblings.parent)?;
            // Where an exchange would have put it.
            fs::rename(&old, &self.dir).map_err(Error::io("move the replaced plan to", &self.dir))?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a commit this is the plan that was replaced, or nothing.
        discard(&self.dir, &self.place.out);
    }
}

fn exchange(a: &Path, b: &Path) -> std::io::Result<()> {
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

/// Removes what this process is writing for `out`, because it is about to end. What holds a plan.json stays: it is whole, or
/// was replaced and may hold what is the user's; the next run looks at it.
pub fn abandon(out: &Path) {
    let Ok(place) = Place::of(out) else { return };
    for path in left_behind(&place.out).into_iter().filter(|path| !path.join(MANIFEST).exists()) {
        // Its writers go on meanwhile: a file may appear in what was just emptied.
        let removed = path.is_dir() && (0..3).any(|_| fs::remove_dir_all(&path).is_ok());
        let _ = if removed { fs::remove_file(place.siblings.named(".lock")) } else { fs::remove_file(path) };
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
        // The name must be free; what cannot be removed may stay under another one.
        let replaced = place.siblings.unused("");
        fs::rename(&old, &replaced).map_err(Error::io("move the replaced plan to", &replaced))?;
        discard(&replaced, &place.out);
        return Ok(false);
    }
    fs::rename(&old, &place.out).map_err(Error::io("move the old plan back to", &place.out))?;
    sync_dir(&place.siblings.parent)?;
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
    let mut there = Tree::default();
    there.walk(out, out)?;
    if there.files.is_empty() && there.folders.is_empty() {
        return Ok(());
    }
    let Some(own) = own_files(out) else {
        return refuse(format!(
            "{} already exists and is not a plan; it is never overwritten",
            out.display()
        ));
    };
    if !force {
        return Err(Error::config(
            "out",
            format!("{} is already a plan", out.display()),
            "use --force to replace it, or another --out",
        ));
    }
    // Replacing deletes the directory: nothing that the user put there may go with it.
    let foreign: Vec<String> =
        there.files.iter().filter(|f| !is_own(&own, f)).map(|f| f.display().to_string()).collect();
    if !foreign.is_empty() {
        let more = if foreign.len() > 3 { format!(" and {} more", foreign.len() - 3) } else { String::new() };
        let names = foreign[..foreign.len().min(3)].join(", ");
        return Err(Error::config(
            "out",
            format!(
                "{} holds {names}{more}, which is not part of the plan and would be deleted",
                out.display()
            ),
            "move it away, or use another --out",
        ));
    }
    let folders = there.folders.iter().map(|folder| out.join(folder)).chain([out.to_path_buf()]);
    let closed = folders.into_iter().find(|dir| access(dir, Access::WRITE_OK | Access::EXEC_OK).is_err());
    if let Some(dir) = closed.or_else(|| sticky(out)) {
        let reason =
            format!("{} cannot be replaced: you may not delete files in {}", out.display(), dir.display());
        return Err(Error::config("out", reason, "change its permissions, or use another --out"));
    }
    Ok(())
}

/// The directory that `out` is in, if only the owner of `out` may rename it there, as in /tmp.
fn sticky(out: &Path) -> Option<PathBuf> {
    let parent = Siblings::of(out)?.parent;
    let (about, there) = (fs::metadata(out).ok()?, fs::metadata(&parent).ok()?);
    let user = geteuid().as_raw();
    let mine = user == 0 || user == about.uid() || user == there.uid();
    (there.mode() & 0o1000 != 0 && !mine).then_some(parent)
}

/// What is below a directory, as paths relative to it; folders after what is in them.
#[derive(Default)]
struct Tree {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Tree {
    fn walk(&mut self, dir: &Path, root: &Path) -> Result<()> {
        let inside = |path: &Path| path.strip_prefix(root).expect("the walk began at the root").to_path_buf();
        let entries = fs::read_dir(dir).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let mut entries = entries.map_err(Error::io("list", dir))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            if entry.file_type().map_err(Error::io("read", &path))?.is_dir() {
                self.walk(&path, root)?;
                self.folders.push(inside(&path));
            } else {
                self.files.push(inside(&path));
            }
        }
        Ok(())
    }
}

/// The files of a plan by its plan.json; None if there is no plan.
fn own_files(dir: &Path) -> Option<BTreeSet<String>> {
    let text = files::read_to_string(&dir.join(MANIFEST)).ok()?;
    let json = serde_json::from_str::<serde_json::Value>(&text).ok()?;
    json.get("format").and(json.get("plan"))?;
    let files = json.get("files").and_then(|f| f.as_array()).into_iter().flatten();
    let paths = files.filter_map(|f| f.get("path").and_then(|p| p.as_str()));
    Some(paths.chain([MANIFEST, RUN]).map(String::from).collect())
}

fn is_own(own: &BTreeSet<String>, file: &Path) -> bool {
    file.to_str().is_some_and(|path| own.contains(path))
}

/// Removes a plan that was replaced, or one that never became whole. What is not the plan's own is put back into `out`.
/// What cannot be removed stays: the next run tries again.
fn discard(dir: &Path, out: &Path) {
    let Some(own) = own_files(dir) else {
        let _ = fs::remove_dir_all(dir);
        return;
    };
    let mut there = Tree::default();
    if there.walk(dir, dir).is_err() {
        return;
    }
    for file in there.files.iter().filter(|f| f.as_path() != Path::new(MANIFEST)) {
        let from = dir.join(file);
        if is_own(&own, file) {
            let _ = fs::remove_file(from);
        } else if let to = out.join(file)
            && fs::symlink_metadata(&to).is_err()
        {
            let _ = fs::create_dir_all(to.parent().unwrap_or(out)).and_then(|()| fs::rename(from, to));
        }
    }
    for folder in &there.folders {
        let _ = fs::remove_dir(dir.join(folder));
    }
    // plan.json says what is the plan's own: it goes when nothing else is left.
    if fs::read_dir(dir).is_ok_and(|entries| entries.count() == 1) {
        let _ = fs::remove_file(dir.join(MANIFEST)).and_then(|()| fs::remove_dir(dir));
    }
}

/// Makes every file and directory below `root` durable; returns the paths of the files, sorted.
fn sync_tree(root: &Path) -> Result<Vec<String>> {
    let mut tree = Tree::default();
    tree.walk(root, root)?;
    for file in &tree.files {
        let path = root.join(file);
        File::open(&path).and_then(|f| f.sync_all()).map_err(Error::io("write", &path))?;
    }
    for folder in &tree.folders {
        sync_dir(&root.join(folder))?;
    }
    sync_dir(root)?;
    let mut paths: Vec<String> = tree.files.iter().map(|f| f.to_string_lossy().into_owned()).collect();
    paths.sort();
    Ok(paths)
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
