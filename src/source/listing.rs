//! What names mean, on this machine and in an object store alike: which of a folder's files are data, which are hidden,
//! and which tell that the folder is a table of another format, whose files are not all of its rows.

use std::fmt;

/// What a folder or pattern holds. `F` says where a file lies.
pub(super) struct Listing<F> {
    pub files: Vec<F>,
    /// What is not read, relative to the input; directories end in `/`.
    pub left_out: Vec<String>,
    /// Tables of other formats, with their directories.
    pub tables: Vec<(String, Format)>,
}

impl<F> Default for Listing<F> {
    fn default() -> Self {
        Listing { files: Vec::new(), left_out: Vec::new(), tables: Vec::new() }
    }
}

/// Endings of names that a folder's files are read by.
pub(super) const ENDINGS: [&str; 3] = [".parquet", ".parq", ".pq"];

/// Whether a file of this name is read where its folder is.
pub(super) fn is_data(name: &str) -> bool {
    let ends = |ending: &&str| {
        let at = name.len().checked_sub(ending.len());
        at.and_then(|at| name.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
    };
    ENDINGS.iter().any(ends)
}

/// What writers put beside their data: `_temporary`, `_SUCCESS`, `.part-0.crc`. A partition `_key=1` is data.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || (name.starts_with('_') && key_value(name).is_none())
}

/// The key and value of a directory of a hive partition; None for the null partition.
pub(super) fn key_value(directory: &str) -> Option<(String, Option<String>)> {
    let (key, value) = directory.split_once('=').filter(|(key, _)| !key.is_empty())?;
    let value = (value != "__HIVE_DEFAULT_PARTITION__").then(|| unescape(value));
    Some((unescape(key), value))
}

/// `%41` -> `A`, as hive and URLs write characters that a path cannot hold.
pub(super) fn unescape(text: &str) -> String {
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

/// Formats that keep a log beside Parquet files: some files hold rows that were deleted, replaced or never committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Format {
    Delta,
    Hudi,
    Iceberg,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Delta => "a Delta table (it has a `_delta_log`)",
            Format::Hudi => "a Hudi table (it has a `.hoodie`)",
            Format::Iceberg => "an Iceberg table (it has `metadata/*.metadata.json`)",
        })
    }
}

impl Format {
    /// The directory that alone tells the format.
    pub const LOGS: [(&str, Format); 2] = [("_delta_log", Format::Delta), (".hoodie", Format::Hudi)];

    /// The format that a path tells, with the directory of its table: `t/_delta_log/0.json` -> `t`.
    #[cfg_attr(
        not(feature = "cloud"),
        allow(dead_code, reason = "folders of this machine are walked name by name")
    )]
    pub fn of(path: &str) -> Option<(&str, Format)> {
        let mut at = 0;
        for name in path.split('/') {
            if let Some((_, format)) = Format::LOGS.iter().find(|log| log.0 == name) {
                return Some((path[..at].trim_end_matches('/'), *format));
            }
            at += name.len() + 1;
        }
        let (directory, name) = path.rsplit_once('/')?;
        let (table, last) = directory.rsplit_once('/').unwrap_or(("", directory));
        (last == "metadata" && is_iceberg(name)).then_some((table, Format::Iceberg))
    }

    /// How the rows that count are had.
    pub fn export(self, table: &str) -> String {
        let write = match self {
            Format::Delta => format!("duckdb -c \"COPY (FROM delta_scan('{table}')) TO 'rows.parquet'\""),
            Format::Iceberg => format!("duckdb -c \"COPY (FROM iceberg_scan('{table}')) TO 'rows.parquet'\""),
            Format::Hudi => {
                format!("in Spark: spark.read.format(\"hudi\").load(\"{table}\").write.parquet(\"rows\")")
            }
        };
        format!("export its live rows, and plan those: {write}; or name its live files one by one")
    }
}

/// Whether a file of the directory `metadata` is of an Iceberg table.
pub(super) fn is_iceberg(name: &str) -> bool {
    name.ends_with(".metadata.json")
}

/// "a, b, c and 4 more".
pub(super) fn some_of(names: &[String]) -> String {
    const TOLD: usize = 3;
    let told = names.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, data, hidden) in [
            ("a.parquet", true, false),
            ("A.PARQUET", true, false),
            ("a.snappy.parquet", true, false),
            ("a.pq", true, false),
            ("é.parq", true, false),
            ("part-0", false, false),
            ("pq", false, false),
            ("_SUCCESS", false, true),
            ("_temporary", false, true),
            ("_split=1", false, false),
            ("_=1", false, false),
            (".x=1", false, true),
        ] {
            assert_eq!((is_data(name), is_hidden(name)), (data, hidden), "{name}");
        }
    }

    #[test]
    fn partitions() {
        assert_eq!(key_value("day=2024-01%3A02"), Some(("day".into(), Some("2024-01:02".into()))));
        assert_eq!(key_value("k=__HIVE_DEFAULT_PARTITION__"), Some(("k".into(), None)));
        assert_eq!(key_value("plain"), None);
    }

    #[test]
    fn tables_of_other_formats() {
        assert_eq!(Format::of("a/t/_delta_log/0.json"), Some(("a/t", Format::Delta)));
        assert_eq!(Format::of(".hoodie/x"), Some(("", Format::Hudi)));
        assert_eq!(Format::of("t/metadata/v1.metadata.json"), Some(("t", Format::Iceberg)));
        assert_eq!(Format::of("metadata/v1.metadata.json"), Some(("", Format::Iceberg)));
        assert_eq!(Format::of("t/metadata/notes.json"), None);
        assert_eq!(Format::of("t/my_delta_log/a.parquet"), None);
    }
}
