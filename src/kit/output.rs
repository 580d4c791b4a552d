//! How a file that someone asked for gets to disk: written beside its place, made durable, then renamed. A reader sees
//! what was there before or the whole new file. A run that fails removes what it wrote; what a killed run left is removed
//! by the next one that writes the same file.
//!
//! While it is written the file is called `.NAME.batchwright-<pid>-<n>.tmp` and locked (flock).

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::{Error, Result};

/// What may be replaced where an output goes.
#[derive(Clone, Copy)]
pub enum Replace<'a> {
    /// A file that is recognised by its text as an earlier one of the same kind, such as "a batchwright report"; `force`:
    /// --force would allow any.
    Own { kind: &'static str, is: fn(&str) -> bool, force: bool },
    /// Nothing; --force would allow it.
    Nothing,
    /// Any file, and a directory that holds only files with such names: --force.
    Any { own: &'a dyn Fn(&str) -> bool },
}

/// An output in the making; dropped without [`Output::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct Output {
    out: PathBuf,
    /// The same as `out` where this is a device or a pipe, which cannot be renamed to.
    beside: PathBuf,
    /// Holds the lock.
    lock: File,
}

/// The hidden names beside a path.
#[derive(Clone, Debug)]
pub struct Siblings {
    pub parent: PathBuf,
    name: OsString,
}

impl Siblings {
    /// None where the path has no file name.
    pub fn of(out: &Path) -> Option<Siblings> {
        let parent = match out.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
            _ => PathBuf::from("."),
        };
        Some(Siblings { parent, name: out.file_name()?.into() })
    }

    /// `.NAME.batchwright` + `suffix`.
    pub fn named(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".batchwright");
        name.push(suffix);
        self.parent.join(name)
    }

    /// A name of this process that was not used before: `.NAME.batchwright-<pid>-<n>` + `end`.
    pub fn unused(&self, end: &str) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        self.named(&format!("-{}-{n}{end}", std::process::id()))
    }

    /// Everything there with a name as [`Siblings::unused`] makes it, with the process that made it.
    pub fn unfinished(&self, end: &str) -> Result<Vec<(u32, PathBuf)>> {
        let prefix = self.named("-");
        let prefix = prefix.file_name().expect("a name was just joined").as_encoded_bytes();
        let process = |name: &std::ffi::OsStr| -> Option<u32> {
            let rest = std::str::from_utf8(name.as_encoded_bytes().strip_prefix(prefix)?).ok()?;
            let (process, n) = rest.strip_suffix(end)?.split_once('-')?;
            n.parse::<u64>().ok()?;
            process.parse().ok()
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.parent).map_err(Error::io("list", &self.parent))? {
            let entry = entry.map_err(Error::io("list", &self.parent))?;
            found.extend(process(&entry.file_name()).map(|process| (process, entry.path())));
        }
        Ok(found)
    }
}

/// What this process has begun to write for `out` and not removed: nothing, but where removing failed.
pub fn left_behind(out: &Path) -> Vec<PathBuf> {
    let out = fs::canonicalize(out).unwrap_or_else(|_| out.to_path_buf());
    let Some(siblings) = Siblings::of(&out) else { return Vec::new() };
    let all = ["", TEMPORARY].map(|end| siblings.unfinished(end).unwrap_or_default());
    all.into_iter().flatten().filter(|(process, _)| *process == std::process::id()).map(|(_, p)| p).collect()
}

/// End of the names of outputs in the making.
const TEMPORARY: &str = ".tmp";
/// A file that is longer is no report.
const LONGEST: u64 = 64 << 20;

impl Output {
    /// Begins a file at `out`, which `setting` names. `keep` are paths that must not be written over: files, and directories
    /// with all that is in them.
    ///
    /// # Errors
    /// If there is something that must be kept, or the place cannot be written to. Nothing has been touched then.
    pub fn file(setting: &str, out: &Path, replace: Replace<'_>, keep: &[PathBuf]) -> Result<Output> {
        Output::begin(setting, out, false, replace, keep)
    }

    /// The same for a directory.
    pub fn directory(setting: &str, out: &Path, replace: Replace<'_>, keep: &[PathBuf]) -> Result<Output> {
        Output::begin(setting, out, true, replace, keep)
    }

    fn begin(
        setting: &str,
        out: &Path,
        directory: bool,
        replace: Replace<'_>,
        keep: &[PathBuf],
    ) -> Result<Output> {
        // A link stays a link: what it points to is replaced.
        let out = match fs::symlink_metadata(out) {
            Ok(m) if m.is_symlink() && !is_stream(out) => {
                fs::canonicalize(out).map_err(Error::io("follow the link", out))?
            }
            _ => out.to_path_buf(),
        };
        check_kept(setting, &out, keep)?;
        if is_stream(&out) {
            let lock = File::options().write(true).open(&out).map_err(Error::io("write to", &out))?;
            return Ok(Output { beside: out.clone(), out, lock });
        }
        let Some(siblings) = Siblings::of(&out) else {
            let reason = format!("{} does not name a file", out.display());
            return Err(Error::config(setting, reason, "name a file, for example ./out"));
        };
        if !siblings.parent.is_dir() {
            let reason = format!("the directory {} does not exist", siblings.parent.display());
            return Err(Error::config(setting, reason, "create it first, or choose another name"));
        }
        check_replaceable(setting, &out, directory, replace)?;
        for (_, left) in siblings.unfinished(TEMPORARY)? {
            // Only a run that is under way holds its lock.
            if File::open(&left).is_ok_and(|file| file.try_lock().is_ok()) {
                remove(&left);
            }
        }
        let beside = siblings.unused(TEMPORARY);
        let created = match directory {
            true => fs::create_dir(&beside).and_then(|()| File::open(&beside)),
            false => File::create_new(&beside),
        };
        let lock = created.map_err(Error::io("create", &beside))?;
        // A file system without locks: then nobody takes this file for a killed run's either.
        let _ = lock.try_lock();
        Ok(Output { out, beside, lock })
    }

    /// Where to write it, or in a directory's case its files.
    pub fn path(&self) -> &Path {
        &self.beside
    }

    /// Writes all of a file.
    pub fn write(self, bytes: &[u8]) -> Result<()> {
        (&self.lock).write_all(bytes).map_err(Error::io("write", &self.out))?;
        self.commit()
    }

    /// Makes it durable and moves it into place.
    pub fn commit(self) -> Result<()> {
        let out = &self.out;
        if self.beside == *out {
            return Ok(());
        }
        self.lock.sync_all().map_err(Error::io("write", out))?;
        let to = || Error::io("rename to", out);
        if out.is_dir() {
            for entry in fs::read_dir(&self.beside).map_err(Error::io("list", &self.beside))? {
                let path = entry.map_err(Error::io("list", &self.beside))?.path();
                File::open(&path).and_then(|f| f.sync_all()).map_err(Error::io("write", &path))?;
            }
            // The directory that was there is beside now, and removed as such.
            if renameat_with(CWD, &self.beside, CWD, out, RenameFlags::EXCHANGE).is_err() {
                fs::remove_dir_all(out).map_err(Error::io("replace", out))?;
                fs::rename(&self.beside, out).map_err(to())?;
            }
        } else {
            fs::rename(&self.beside, out).map_err(to())?;
        }
        let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|d| d.sync_all()).map_err(Error::io("write", parent))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // After a commit there is nothing, or the directory that was replaced.
        if self.beside != self.out {
            remove(&self.beside);
        }
    }
}

fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

/// A device, a pipe or a socket, or what a shell names for one.
fn is_stream(out: &Path) -> bool {
    let named = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"].iter().any(|name| out.starts_with(name));
    named || fs::metadata(out).is_ok_and(|m| !m.is_file() && !m.is_dir())
}

fn check_kept(setting: &str, out: &Path, keep: &[PathBuf]) -> Result<()> {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    let there = fs::metadata(out).ok();
    let folder = Siblings::of(out).and_then(|s| fs::canonicalize(s.parent).ok());
    for kept in keep {
        let Ok(about) = fs::metadata(kept) else { continue };
        let inside = about.is_dir()
            && folder.as_ref().zip(fs::canonicalize(kept).ok()).is_some_and(|(f, k)| f.starts_with(k));
        if inside || there.as_ref().is_some_and(|there| same(there, &about)) {
            let reason = match inside && kept.as_path() != out {
                true => format!("{} lies in {}, which this run reads", out.display(), kept.display()),
                false => format!("{} is what this run reads", out.display()),
            };
            return Err(Error::config(setting, reason, "choose another name"));
        }
    }
    Ok(())
}

const FORCE: &str = "choose another name, or --force to replace it";

fn check_replaceable(setting: &str, out: &Path, directory: bool, replace: Replace<'_>) -> Result<()> {
    let refuse = |reason: String, help: &str| Err(Error::config(setting, reason, help));
    let name = out.display();
    let Ok(about) = fs::metadata(out) else { return Ok(()) };
    match replace {
        Replace::Any { own } if about.is_dir() && directory => {
            let entries = fs::read_dir(out).map_err(Error::io("list", out))?;
            for entry in entries {
                let file = entry.map_err(Error::io("list", out))?.file_name();
                let file = file.to_string_lossy();
                if !own(&file) {
                    let reason = format!("{name} is a directory and holds {file}, which would be deleted");
                    return refuse(reason, "choose another name");
                }
            }
            Ok(())
        }
        _ if about.is_dir() && !directory => refuse(format!("{name} is a directory"), "choose another name"),
        Replace::Any { .. } if !directory => Ok(()),
        Replace::Any { .. } => refuse(format!("{name} is a file, not a directory"), "choose another name"),
        Replace::Nothing => refuse(format!("{name} already exists"), FORCE),

        // Nothing is lost with an empty file.
        Replace::Own { .. } if about.len() == 0 => Ok(()),
        Replace::Own { kind, is, force } => {
            let mut text = Vec::new();
            let read = File::open(out).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
            read.map_err(Error::io("read", out))?;
            if std::str::from_utf8(&text).is_ok_and(is) {
                return Ok(());
            }
            {
                let help = if force { FORCE } else { "choose another name, or remove the file" };
                refuse(format!("{name} already exists and is not {kind}"), help)
            }
        }
    }
}
