//! Files of this machine: what a path, a folder or a pattern names.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::listing::{Format, Listing, is_data, is_hidden, is_iceberg};
use super::pattern::{Part, is_pattern, parts};
use crate::kit::error::{Error, Result};

/// What makes two names the same file: hard links and symbolic ones lead to it.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(of: &Metadata) -> Identity {
    (of.dev(), of.ino())
}

/// What an input names on this machine, and the directories that it begins at: those that are searched, and those of the
/// files that are named.
pub(super) struct Local {
    pub listing: Listing<PathBuf>,
    pub begins: BTreeSet<PathBuf>,
    /// The input is a file itself, no folder and no pattern.
    pub alone: bool,
}

/// Everything that `input` names. What is there under this very name is meant, even if it could be a pattern.
pub(super) fn list(input: &str) -> Result<Local> {
    let path = Path::new(input);
    let mut walk = Walk {
        input: path,
        listing: Listing::default(),
        begins: BTreeSet::new(),
        above: Vec::new(),
        only_directories: false,
    };
    let there = path.exists();
    if there || !is_pattern(input) {
        walk.take(path.to_path_buf())?;
    } else {
        let from = if input.starts_with('/') { "/" } else { "" };
        walk.only_directories = input.ends_with('/');
        walk.expand(Path::new(from), &parts(input))?;
    }
    let Walk { mut listing, begins, .. } = walk;
    listing.files.sort();
    listing.files.dedup();
    listing.left_out.sort();
    listing.left_out.dedup();
    let alone = there && !path.is_dir();
    Ok(Local { listing, begins, alone })
}

struct Walk<'a> {
    input: &'a Path,
    listing: Listing<PathBuf>,
    begins: BTreeSet<PathBuf>,
    /// The directories that the walk is in, so that it leaves a link alone that leads back to one of them.
    above: Vec<Identity>,
    /// A pattern that ends in `/` matches no file.
    only_directories: bool,
}

impl Walk<'_> {
    /// What is named: a file, or all data below a directory.
    fn take(&mut self, path: PathBuf) -> Result<()> {
        if path.is_dir() {
            self.begins.insert(path.clone());
            return self.inside(&path, Walk::search);
        }
        if !self.only_directories {
            self.begins.insert(path.parent().unwrap_or(Path::new("")).to_path_buf());
            self.listing.files.push(path);
        }
        Ok(())
    }

    /// Goes into a directory, unless it is inside of it already.
    fn inside(&mut self, directory: &Path, work: impl FnOnce(&mut Self, &Path) -> Result<()>) -> Result<()> {
        if !shown(directory).is_dir() {
            return Ok(());
        }
        let here = identity(&std::fs::metadata(shown(directory)).map_err(Error::io("read", directory))?);
        if self.above.contains(&here) {
            self.leave_out(directory, " (a link back)");
            return Ok(());
        }
        self.above.push(here);
        let done = work(self, directory);
        self.above.pop();
        done
    }

    /// The data below a directory.
    fn search(&mut self, directory: &Path) -> Result<()> {
        for (path, name, is_directory) in entries(directory)? {
            if let Some((_, format)) = Format::LOGS.iter().find(|log| log.0 == name) {
                self.listing.tables.push((directory.display().to_string(), *format));
            } else if is_iceberg(&name) && directory.file_name().is_some_and(|n| n == "metadata") {
                let table = directory.parent().unwrap_or(Path::new("")).display().to_string();
                self.listing.tables.push((table, Format::Iceberg));
            }
            if is_hidden(&name) || !(is_directory || is_data(&name)) {
                self.leave_out(&path, if is_directory { "/" } else { "" });
            } else if is_directory {
                self.inside(&path, Walk::search)?;
            } else {
                self.listing.files.push(path);
            }
        }
        Ok(())
    }

    /// What a pattern matches below a directory.
    fn expand(&mut self, directory: &Path, pattern: &[Part]) -> Result<()> {
        let Some((part, rest)) = pattern.split_first() else {
            return self.take(directory.to_path_buf());
        };
        if let Part::Name(name) = part {
            let path = directory.join(name);
            return if path.exists() { self.expand(&path, rest) } else { Ok(()) };
        }
        if matches!(part, Part::Any) {
            return match rest {
                [] => self.take(directory.to_path_buf()),
                _ => self.inside(directory, |walk, directory| walk.any(directory, pattern)),
            };
        }
        if !shown(directory).is_dir() {
            return Ok(());
        }
        for (path, name, is_directory) in entries(directory)? {
            if part.fits(&name) && (is_directory || rest.is_empty()) {
                self.expand(&path, rest)?;
            }
        }
        Ok(())
    }

    /// What a pattern that begins with `**` matches: its rest here, all of it in every directory below.
    fn any(&mut self, directory: &Path, pattern: &[Part]) -> Result<()> {
        self.expand(directory, &pattern[1..])?;
        for (path, name, is_directory) in entries(directory)? {
            if is_directory && pattern[0].fits(&name) {
                self.expand(&path, pattern)?;
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, path: &Path, mark: &str) {
        let name = path.strip_prefix(self.input).unwrap_or(path);
        self.listing.left_out.push(format!("{}{mark}", name.display()));
    }
}

/// The directory as the system knows it: `.` for the one that names begin in.
fn shown(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

/// Paths in a directory, their names and whether they are directories (behind links, too), sorted.
fn entries(directory: &Path) -> Result<Vec<(PathBuf, String, bool)>> {
    let failed = || Error::io("list", shown(directory));
    let mut all = Vec::new();
    for entry in std::fs::read_dir(shown(directory)).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let kind = entry.file_type().map_err(failed())?;
        let path = directory.join(entry.file_name());
        let is_directory = kind.is_dir() || (kind.is_symlink() && path.is_dir());
        all.push((path, entry.file_name().to_string_lossy().into_owned(), is_directory));
    }
    all.sort();
    Ok(all)
}

/// The format that a directory itself is a table of.
pub(super) fn format(directory: &Path) -> Option<Format> {
    let log = Format::LOGS.iter().find(|log| directory.join(log.0).is_dir());
    let iceberg = || {
        let mut names = std::fs::read_dir(directory.join("metadata")).ok()?.flatten();
        names.any(|e| is_iceberg(&e.file_name().to_string_lossy())).then_some(Format::Iceberg)
    };
    log.map(|log| log.1).or_else(iceberg)
}
