//! Which files the user's inputs name: files, directories, patterns and URLs become one list in byte order of their paths
//! relative to the deepest common directory, which is the order of the rows. What a folder holds beside them is said; a
//! folder that is a table of another format is none of ours.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::blob::Blob;
use super::folder::{self, Identity};
use super::listing::{ENDINGS, Format, key_value, some_of, unescape};
use super::pattern::is_pattern;
use crate::kit::error::{Error, Result};
use crate::kit::progress::Progress;
use crate::kit::secrets;

/// A file with its place in the dataset.
pub(crate) struct Found {
    pub blob: Blob,
    /// Relative to the deepest common directory, with `/`.
    pub path: String,
    /// Keys and values of its hive partition, outermost first; None for the null partition.
    pub partition: Vec<(String, Option<String>)>,
}

/// What makes two names the same file.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Same {
    Local(Identity),
    #[cfg(feature = "cloud")]
    Remote(String),
}

/// What one input names, here or in an object store.
struct Input {
    /// Its own text, without secrets.
    input: String,
    /// With absolute names, with `/`.
    files: Vec<(Blob, String, Same)>,
    left_out: Vec<String>,
    /// Absolute names of the directories that are searched, and of those of files that are named.
    begins: BTreeSet<String>,
    alone: bool,
    tables: Vec<(String, Format)>,
    #[cfg(feature = "cloud")]
    store: Option<super::cloud::Store>,
}

/// All files of all inputs, in the order of the dataset. `options` are settings of the object store.
pub(crate) fn find(
    inputs: &[String],
    options: &BTreeMap<String, String>,
    progress: &Progress,
) -> Result<Vec<Found>> {
    let mut named: Vec<(Blob, String)> = Vec::new();
    let mut seen: BTreeMap<Same, String> = BTreeMap::new();
    let mut all = Vec::new();
    for text in inputs {
        let mut input = open(text, options, progress)?;
        if input.files.is_empty() && input.tables.is_empty() {
            return Err(nothing(&input));
        }
        if !input.left_out.is_empty() {
            progress.warn(&format!("{}: left out {}", input.input, some_of(&input.left_out)));
        }
        for (blob, name, same) in input.files.drain(..) {
            if let Some(first) = seen.insert(same, blob.name.clone()) {
                let help = "name each file once: its rows would count twice";
                let reason = match first == blob.name {
                    true => "is named twice in the inputs".into(),
                    false => format!("is named twice in the inputs: it is the file {first}"),
                };
                return Err(Error::input(&blob.name, reason, help));
            }
            named.push((blob, name));
        }
        all.push(input);
    }
    if all.is_empty() {
        return Err(Error::config(
            "inputs",
            "no input is given",
            "name Parquet files, directories, globs or URLs",
        ));
    }
    let common = common_directory(named.iter().map(|(_, name)| name.as_str()));
    tables(&all, named.first().map_or("", |(_, name)| &name[..common]), progress)?;
    // A folder that is named alone and is a partition is still one. What lies above it is where the data happens to be.
    let alone = inputs.len() == 1 && (inputs[0].ends_with('/') || Path::new(&inputs[0]).is_dir());
    let above = if alone { before_name(&inputs[0])? } else { common };
    let inside = named[0].1[..common].get(above..).unwrap_or("");
    let outside: Vec<_> = inside.split('/').filter_map(key_value).collect();
    let mut files = Vec::with_capacity(named.len());
    for (blob, name) in named {
        let path = name[common..].to_string();
        let directories = path.rsplit_once('/').map_or("", |(directories, _)| directories);
        let mut partition = outside.clone();
        for (key, value) in directories.split('/').filter_map(key_value) {
            if partition.iter().any(|(k, _)| *k == key) {
                let help = "rename one of the directories: a row has one value of a key";
                let reason = format!("lies in two directories of the partition key `{key}`");
                return Err(Error::input(&blob.name, reason, help));
            }
            partition.push((key, value));
        }
        files.push(Found { blob, path, partition });
    }
    files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    Ok(files)
}

/// The files on this machine among the inputs, to keep an output from going over one.
pub fn local_files(inputs: &[String]) -> Result<Vec<PathBuf>> {
    let paths = inputs.iter().filter_map(|text| path_of(text));
    let found = paths.map(|path| Ok(folder::list(&path)?.listing.files));
    Ok(found.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn nothing(input: &Input) -> Error {
    let pattern = is_pattern(&input.input) && !Path::new(&input.input).is_dir();
    let mut reason = String::from(if pattern { "matches no Parquet file" } else { "holds no Parquet file" });
    if !input.left_out.is_empty() {
        reason += &format!(", but {}", some_of(&input.left_out));
    }
    let endings = ENDINGS.map(|ending| format!("*{ending}")).join(", ");
    let help = match pattern && input.input.contains('{') {
        true => "only a shell knows {a,b}, and only without quotes: give several patterns".into(),
        false => format!(
            "a directory is searched for {endings}, names that begin with . or _ left out; files of other names are \
             read where they are named, or by a pattern like 'DIR/*'"
        ),
    };
    Error::input(&input.input, reason, help)
}

/// An error where a folder or pattern meets a table of another format: some of its files hold rows that do not count.
/// Looked at are all directories from the inputs up to the nearest common one, and one above, partitions not counted.
fn tables(all: &[Input], common: &str, progress: &Progress) -> Result<()> {
    let mut warned = BTreeSet::new();
    for input in all {
        let mut met = input.tables.clone();
        let mut looked = BTreeSet::new();
        for begin in &input.begins {
            let top = above(begin).len().min(above(common).len());
            let mut directory = begin.as_str();
            while directory.len() >= top && looked.insert(directory) {
                met.extend(format(input, directory)?.map(|format| (directory.to_string(), format)));
                match parent(directory) {
                    Some(up) => directory = up,
                    None => break,
                }
            }
        }
        for (table, format) in met {
            if !input.alone {
                let help = format.export(&table);
                let reason =
                    format!("is {format}: some of its files hold rows that were deleted or replaced");
                return Err(Error::input(&table, reason, help));
            }
            if warned.insert(table.clone()) {
                progress.warn(&format!(
                    "{table} is {format}: the files named may hold rows that were deleted or replaced"
                ));
            }
        }
    }
    Ok(())
}

/// Bytes of the whole name of a folder or URL before its last part.
fn before_name(input: &str) -> Result<usize> {
    let whole = match input.contains("://") {
        true => input.to_string(),
        false => std::path::absolute(input).map_err(Error::io("find", input))?.to_string_lossy().into_owned(),
    };
    Ok(whole.trim_end_matches('/').rfind('/').map_or(0, |slash| slash + 1))
}

/// The directory above one, above the partitions that it is in.
fn above(directory: &str) -> &str {
    let mut here = directory.trim_end_matches('/');
    while let Some((up, _)) = here.rsplit_once('/').filter(|(_, name)| key_value(name).is_some()) {
        here = up;
    }
    parent(here).unwrap_or(here)
}

fn parent(directory: &str) -> Option<&str> {
    let (up, _) = directory.rsplit_once('/')?;
    // `s3://bucket` has nothing above it, `/data` has the root.
    (!up.ends_with('/')).then_some(up)
}

fn format(input: &Input, directory: &str) -> Result<Option<Format>> {
    #[cfg(feature = "cloud")]
    if let Some(store) = &input.store {
        return store.format(directory);
    }
    let _ = input;
    Ok(folder::format(Path::new(if directory.is_empty() { "/" } else { directory })))
}

/// The file of a whole name ([`whole_name`]); its settings, where it is an object, come from the environment.
pub(crate) fn blob(name: &str) -> Result<Blob> {
    if let Some(path) = path_of(name) {
        return Ok(Blob::local(PathBuf::from(&*path))?.0);
    }
    let found = remote(name.into(), &BTreeMap::new(), &Progress::default())?.files.into_iter().next();
    found
        .map(|(blob, ..)| blob)
        .ok_or_else(|| Error::input(name, "is not there", "let all machines see the same files"))
}

/// By which another process finds a file: its absolute path, or its URL.
pub(crate) fn whole_name(name: &str) -> Result<String> {
    match path_of(name) {
        Some(path) => absolute(Path::new(&*path)),
        None => Ok(name.into()),
    }
}

/// The path of an input on this machine.
fn path_of(text: &str) -> Option<Cow<'_, str>> {
    match text.strip_prefix("file://") {
        Some(path) => Some(unescape(path.strip_prefix("localhost").unwrap_or(path)).into()),
        None => (!text.contains("://")).then_some(text.into()),
    }
}

fn open(text: &str, options: &BTreeMap<String, String>, progress: &Progress) -> Result<Input> {
    if let Some(path) = path_of(text) {
        return local(&path);
    }
    let clean = secrets::without(text);
    if clean != *text {
        progress.warn(&format!(
            "{clean}: the user, password and query of a URL are not used; credentials come from the environment"
        ));
    }
    remote(clean, options, progress)
}

#[cfg(feature = "cloud")]
fn remote(input: String, options: &BTreeMap<String, String>, progress: &Progress) -> Result<Input> {
    let super::cloud::Remote { listing, begins, alone, store } =
        super::cloud::list(&input, options, progress)?;
    let blobs = listing.files.into_iter().map(Blob::remote);
    let files = blobs.map(|b| (b.clone(), b.name.clone(), Same::Remote(b.name))).collect();
    let (left_out, tables) = (listing.left_out, listing.tables);
    Ok(Input { input, files, left_out, begins, alone, tables, store: Some(store) })
}

#[cfg(not(feature = "cloud"))]
fn remote(input: String, _: &BTreeMap<String, String>, _: &Progress) -> Result<Input> {
    let help = "build with `--features cloud`, or copy the files here";
    Err(Error::input(input, "this build cannot read URLs", help))
}

fn local(input: &str) -> Result<Input> {
    let folder::Local { listing, begins, alone } = folder::list(input)?;
    let named = |path: PathBuf| {
        let name = absolute(&path)?;
        let (blob, identity) = Blob::local(path)?;
        Ok((blob, name, Same::Local(identity)))
    };
    Ok(Input {
        input: input.into(),
        files: listing.files.into_iter().map(named).collect::<Result<_>>()?,
        left_out: listing.left_out,
        begins: begins.iter().map(|path| absolute(path)).collect::<Result<_>>()?,
        alone,
        tables: listing.tables,
        #[cfg(feature = "cloud")]
        store: None,
    })
}

/// The whole name, which plans store: as text.
fn absolute(path: &Path) -> Result<String> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let whole = std::path::absolute(path).map_err(Error::io("find", path))?;
    whole.into_os_string().into_string().map_err(|name| {
        Error::input(
            name.display().to_string(),
            "is not named in UTF-8, as a plan names its files",
            "rename it",
        )
    })
}

/// Bytes of the names before the first directory in which they differ; what is left has at least the file's name.
fn common_directory<'a>(mut names: impl Iterator<Item = &'a str>) -> usize {
    let first = names.next().unwrap_or("");
    let directory = |name: &str| name.rfind('/').map_or(0, |slash| slash + 1);
    names.fold(directory(first), |common, name| {
        let same = first.bytes().zip(name.bytes()).take(common).take_while(|(a, b)| a == b).count();
        directory(&first[..first.floor_char_boundary(same)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_directories_end_at_a_slash() {
        let common = |names: &[&str]| common_directory(names.iter().copied());
        assert_eq!(common(&["/data/a.parquet"]), 6);
        assert_eq!(common(&["/data/train/a", "/data/test/a"]), 6);
        assert_eq!(common(&["/data/a/x", "/data/a/b/x"]), 8);
        assert_eq!(common(&["s3://b/x", "/b/x"]), 0);
        assert_eq!(common(&["/dé/x", "/dè/x"]), 1);
    }

    #[test]
    fn directories_above() {
        for (directory, up) in [
            ("/data/t", "/data"),
            ("/data/t/", "/data"),
            ("/data/t/a=1/b=2", "/data"),
            ("/t", ""),
            ("", ""),
            ("s3://b/t", "s3://b"),
            ("s3://b", "s3://b"),
        ] {
            assert_eq!(above(directory), up, "{directory}");
        }
    }
}
