//! What a file is that is no Parquet file, told by its first bytes.

use parquet::file::reader::ChunkReader;

use super::blob::{Blob, Reader};
use crate::kit::error::Error;

/// Beginnings of files that turn up among Parquet files: with what they are, and what to do.
const KINDS: [(&[u8], &str, &str); 19] = [
    (
        b"version https://git-lfs.github.com",
        "a Git LFS pointer, not the file itself",
        "fetch it: git lfs pull",
    ),
    (b"/annex/objects/", "a git-annex pointer, not the file itself", "fetch it: git annex get"),
    (b"<!doctype html", "an HTML page, perhaps of a login or an error", DOWNLOAD),
    (b"<html", "an HTML page, perhaps of a login or an error", DOWNLOAD),
    (b"<?xml", "an XML document, perhaps an error of an object store", DOWNLOAD),
    (b"ORC", "an ORC file", CONVERT),
    (b"Obj\x01", "an Avro file", CONVERT),
    (b"ARROW1", "an Arrow IPC file", CONVERT),
    (b"FEA1", "a Feather file", CONVERT),
    (b"\xff\xff\xff\xff", "an Arrow IPC stream", CONVERT),
    (b"SQLite format 3", "an SQLite database", CONVERT),
    (b"\x89HDF", "an HDF5 file", CONVERT),
    (b"\x93NUMPY", "a NumPy array", CONVERT),
    (b"PK\x03\x04", "a zip archive", UNPACK),
    (b"\x1f\x8b", "compressed as a whole (gzip)", UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed as a whole (zstd)", UNPACK),
    (b"BZh", "compressed as a whole (bzip2)", UNPACK),
    (b"{", "JSON", CONVERT),
    (b"[", "JSON", CONVERT),
];
const DOWNLOAD: &str = "download it again, and look at what the server says";
const CONVERT: &str = "convert it to Parquet, for example with DuckDB: COPY (FROM ...) TO 'rows.parquet'";
const UNPACK: &str = "unpack it: Parquet files are compressed inside";

/// An error that tells what the file is, by its first bytes.
pub(super) fn error(blob: &Blob, reader: &Reader) -> Error {
    let not =
        |reason: &str, help: &str| Error::input(&blob.name, format!("is not a Parquet file{reason}"), help);
    let again = "write it again, or leave it out";
    if blob.length == 0 {
        return not(": it is empty", again);
    }
    let head = match reader.get_bytes(0, blob.length.min(64) as usize) {
        Ok(head) => head,
        Err(e) => return blob.error(e),
    };
    match kind(&head).filter(|_| !head.starts_with(b"PAR1")) {
        Some((what, help)) => not(&format!(": it is {what}"), help),
        None if blob.length < 12 => not(": it is too short", again),
        None => not("", "name only Parquet files, or convert it"),
    }
}

/// What begins like this.
fn kind(head: &[u8]) -> Option<(&'static str, &'static str)> {
    if head.iter().all(|&b| b == 0) {
        return Some(("all zeros where it begins, like an interrupted download", DOWNLOAD));
    }
    let text = head.trim_ascii_start();
    let markup = text.to_ascii_lowercase();
    let begins = |magic: &[u8]| text.starts_with(magic) || (magic[0] == b'<' && markup.starts_with(magic));
    let known = KINDS.iter().find(|(magic, ..)| begins(magic)).map(|(_, what, help)| (*what, *help));
    let is_text = || {
        let valid = match std::str::from_utf8(head) {
            Ok(text) => text,
            // A letter may be cut off at the end of what was read.
            Err(e) if e.error_len().is_none() => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or(""),
            Err(_) => "",
        };
        !valid.is_empty() && valid.chars().all(|c| !c.is_control() || c.is_whitespace())
    };
    known.or_else(|| is_text().then_some(("text, perhaps CSV", CONVERT)))
}
