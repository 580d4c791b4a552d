//! Which files the user's inputs name: files, directories, globs and URLs become one list in byte order of their paths
//! relative to the deepest common directory, which is the order of the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::blob::Blob;
use crate::kit::error::{Error, Result};

/// Deeper than any dataset: stops at links that lead in circles.
const DEEPEST: usize = 64;

/// A file with its place in the dataset.
pub(crate) struct Found {
    pub blob: Blob,
    /// Relative to the deepest common directory, with `/`.
    pub path: String,
    /// Keys and values of its hive partition, outermost first; None for the null partition.
    pub partition: Vec<(String, Option<String>)>,
}

/// All files of all inputs, in the order of the dataset. `options` are settings of the object store.
pub(crate) fn find(inputs: &[String], options: &BTreeMap<String, String>) -> Result<Vec<Found>> {
    let mut names = Vec::new();
    let mut seen = BTreeSet::new();
    for input in inputs {
        let found = if input.contains("://") { remote(input, options)? } else { local(input)? };
        if found.is_empty() {
            let help = "a directory is searched for *.parquet; names that begin with _ or . are skipped";
            let pattern = input.contains(['*', '?', '[']) && !Path::new(input).is_dir();
            let reason = if pattern { "matches no Parquet file" } else { "holds no Parquet file" };
            return Err(Error::input(input, reason, help));
        }
        for (blob, name, identity) in found {
            if !seen.insert(identity) {
                let help = "name each file once: its rows would count twice";
                return Err(Error::input(&blob.name, "is named twice in the inputs", help));
            }
            names.push((blob, name));
        }
    }
    if names.is_empty() {
        return Err(Error::config(
            "inputs",
            "no input is given",
            "name Parquet files, directories, globs or URLs",
        ));
    }
    let common = common_directory(names.iter().map(|(_, name)| name.as_str()));
    // A folder that is named alone and is a partition is still one. What lies above it is where the data happens to be.
    let alone = inputs.len() == 1 && (inputs[0].ends_with('/') || Path::new(&inputs[0]).is_dir());
    let folder = names[0].1[..common].trim_end_matches('/').rsplit('/').next().unwrap_or("");
    let outside: Vec<_> = key_value(folder).filter(|_| alone).into_iter().collect();
    let mut files: Vec<Found> = names
        .into_iter()
        .map(|(blob, name)| {
            let path = name[common..].to_string();
            let directories = path.rsplit_once('/').map_or("", |(directories, _)| directories);
            let mut partition = outside.clone();
            partition.extend(directories.split('/').filter_map(key_value));
            Found { blob, path, partition }
        })
        .collect();
    files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    Ok(files)
}

/// The files on this machine among the inputs, to keep an output from going over one.
pub fn local_files(inputs: &[String]) -> Result<Vec<PathBuf>> {
    let found = inputs.iter().filter(|input| !input.contains("://")).map(|input| local(input));
    Ok(found.collect::<Result<Vec<_>>>()?.into_iter().flatten().map(|(_, _, path)| path).collect())
}

/// Blob, absolute name with `/`, and what makes two names the same file.
type Named = (Blob, String, PathBuf);

#[cfg(feature = "cloud")]
fn remote(input: &str, options: &BTreeMap<String, String>) -> Result<Vec<Named>> {
    let wanted = |name: &str| {
        let below = name.strip_prefix(input);
        below.is_some_and(is_data) || (input.contains('*') && matches(input, name))
    };
    let blobs = super::cloud::list(input, options, wanted)?;
    Ok(blobs
        .into_iter()
        .map(Blob::remote)
        .map(|b| (b.clone(), b.name.clone(), PathBuf::from(b.name)))
        .collect())
}

#[cfg(not(feature = "cloud"))]
fn remote(input: &str, _: &BTreeMap<String, String>) -> Result<Vec<Named>> {
    let help = "build with `--features cloud`, or copy the files here";
    Err(Error::input(input, "this build cannot read URLs", help))
}

fn local(input: &str) -> Result<Vec<Named>> {
    let path = Path::new(input);
    let mut paths = Vec::new();
    if path.is_dir() {
        walk(path, 0, &mut |_| true, &mut paths)?;
    } else if !path.exists() && input.contains(['*', '?', '[']) {
        let fixed = input.split(['*', '?', '[']).next().unwrap_or("");
        let root = fixed.rsplit_once('/').map_or(".", |(root, _)| if root.is_empty() { "/" } else { root });
        let pattern =
            if root == "." && !input.starts_with("./") { format!("./{input}") } else { input.to_string() };
        if Path::new(root).is_dir() {
            walk(Path::new(root), 0, &mut |name| matches(&pattern, name), &mut paths)?;
        }
    } else {
        paths.push(path.to_path_buf());
    }
    let named = |path: PathBuf| {
        let name = std::path::absolute(&path).map_err(Error::io("find", &path))?;
        let identity = path.canonicalize().map_err(Error::io("read", &path))?;
        Ok((Blob::local(path)?, name.to_string_lossy().into_owned(), identity))
    };
    paths.into_iter().map(named).collect()
}

/// The data files below `directory` whose whole path is `wanted`.
fn walk(
    directory: &Path,
    depth: usize,
    wanted: &mut dyn FnMut(&str) -> bool,
    into: &mut Vec<PathBuf>,
) -> Result<()> {
    if depth > DEEPEST {
        let name = directory.display().to_string();
        return Err(Error::input(name, "lies too deep", "does a link lead back to a directory above it?"));
    }
    for entry in std::fs::read_dir(directory).map_err(Error::io("list", directory))? {
        let path = entry.map_err(Error::io("list", directory))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with(['_', '.']) {
            continue;
        }
        if path.is_dir() {
            walk(&path, depth + 1, wanted, into)?;
        } else if is_data(&name) && wanted(&path.to_string_lossy()) {
            into.push(path);
        }
    }
    Ok(())
}

/// A name ending in `.parquet` with no hidden directory or file in it.
fn is_data(name: &str) -> bool {
    name.ends_with(".parquet") && !name.split('/').any(|part| part.starts_with(['_', '.']))
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

fn key_value(directory: &str) -> Option<(String, Option<String>)> {
    let (key, value) = directory.split_once('=').filter(|(key, _)| !key.is_empty())?;
    let value = (value != "__HIVE_DEFAULT_PARTITION__").then(|| unescape(value));
    Some((unescape(key), value))
}

/// `%41` -> `A`, as hive writes characters that a path cannot hold.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let code =
            bytes.get(i + 1..i + 3).filter(|_| bytes[i] == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match code.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_string())
}

/// Whether `path` fits `pattern`: `*` and `?` stay inside a name, `[a-z]` and `[!a-z]` are sets, `**` is any directories.
fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    fits_path(&pattern, &path)
}

fn fits_path(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=path.len()).any(|skip| fits_path(rest, &path[skip..])),
        ([name, rest @ ..], [first, left @ ..]) => {
            let name: Vec<char> = name.chars().collect();
            let first: Vec<char> = first.chars().collect();
            fits_name(&name, &first) && fits_path(rest, left)
        }
        _ => false,
    }
}

fn fits_name(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=name.len()).any(|skip| fits_name(rest, &name[skip..])),
        (['?', rest @ ..], [_, left @ ..]) => fits_name(rest, left),
        (['[', set @ ..], [c, left @ ..]) if set.contains(&']') => {
            let end = set.iter().position(|&c| c == ']').expect("just found");
            let (negated, chars) = match &set[..end] {
                ['!' | '^', chars @ ..] => (true, chars),
                chars => (false, chars),
            };
            is_in(chars, *c) != negated && fits_name(&set[end + 1..], left)
        }
        ([p, rest @ ..], [c, left @ ..]) => p == c && fits_name(rest, left),
        _ => false,
    }
}

fn is_in(set: &[char], c: char) -> bool {
    match set {
        [from, '-', to, rest @ ..] => (*from..=*to).contains(&c) || is_in(rest, c),
        [first, rest @ ..] => *first == c || is_in(rest, c),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, fits) in [
            ("./*.parquet", "./a.parquet", true),
            ("./*.parquet", "./b/a.parquet", false),
            ("d/**/*.parquet", "d/a.parquet", true),
            ("d/**/*.parquet", "d/b/c/a.parquet", true),
            ("d/part-?[0-4].parquet", "d/part-13.parquet", true),
            ("d/part-?[0-4].parquet", "d/part-15.parquet", false),
            ("d/[!a]*", "d/ba", true),
            ("d/[!a]*", "d/ab", false),
            ("d/[a", "d/[a", true),
        ] {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
    }

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
    fn partitions() {
        assert_eq!(key_value("day=2024-01%3A02"), Some(("day".into(), Some("2024-01:02".into()))));
        assert_eq!(key_value("k=__HIVE_DEFAULT_PARTITION__"), Some(("k".into(), None)));
        assert_eq!(key_value("plain"), None);
    }
}
