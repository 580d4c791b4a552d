//! URLs without what must not be printed or stored: user names, passwords and signatures.

/// The text with every URL in it cut down: `s3://user:password@bucket/key?signature=x` -> `s3://bucket/key`.
pub fn without(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out += before;
        // A URL alone may hold a space; one inside a message ends there.
        let alone = out.len() == before.len() && before[..at].chars().all(|c| c.is_ascii_alphanumeric());
        let ends = |c: char| (!alone && c.is_whitespace()) || matches!(c, '"' | '<' | '>' | '`');
        let (url, left) = after.split_at(after.find(ends).unwrap_or(after.len()));
        let url = &url[user(&before[..at], url)..];
        match url.char_indices().find(|&(i, c)| c == '?' && is_query(&url[i + 1..])) {
            Some((i, _)) => {
                out += &url[..i];
                // The bracket and the colon that a message put around the URL.
                out += &url[url.trim_end_matches([')', ':', ',', '.']).len()..];
            }
            None => out += url,
        }
        rest = left;
    }
    out + rest
}

/// Bytes of `user:password@`. A password that was not encoded may hold a slash; an `@` further on is of a name.
fn user(before: &str, url: &str) -> usize {
    let host = url.find('/').unwrap_or(url.len());
    let cut = match url[..host].rfind('@') {
        Some(at) => at + 1,
        None => {
            let secret = url[..host].split_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_err());
            if secret { url.rfind('@').map_or(0, |at| at + 1) } else { 0 }
        }
    };
    // Azure's `abfss://container@account/` has no user.
    let container = before.ends_with("abfs") || before.ends_with("abfss");
    if container && !url[..cut].contains(':') { 0 } else { cut }
}

/// Whether what stands behind a `?` is a query and no pattern: `name=`.
fn is_query(text: &str) -> bool {
    let name = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.~%".contains(c)));
    name.is_some_and(|end| end > 0 && text[end..].starts_with('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_names_stay() {
        for (given, told) in [
            ("s3://bucket/a.parquet", "s3://bucket/a.parquet"),
            ("s3://u:p@bucket/a.parquet?X-Amz-Signature=s&b=c", "s3://bucket/a.parquet"),
            ("s3://AKIA:ab/c+d@bucket/k", "s3://bucket/k"),
            ("s3://bucket/me@home/a.parquet", "s3://bucket/me@home/a.parquet"),
            ("s3://b/part-?.parquet", "s3://b/part-?.parquet"),
            ("s3://b/a=?/b=1/x.parquet", "s3://b/a=?/b=1/x.parquet"),
            ("s3://b/two words?sig=x y", "s3://b/two words"),
            (
                "abfss://files@account.dfs.core.windows.net/a?sv=1&sig=s",
                "abfss://files@account.dfs.core.windows.net/a",
            ),
            (
                "error for url (http://u:p@127.0.0.1:9/b?list-type=2&prefix=x): refused",
                "error for url (http://127.0.0.1:9/b): refused",
            ),
            ("from \"http://u:p@h:9/b?q=x\" and http://v:w@h/", "from \"http://h:9/b\" and http://h/"),
            ("data/a?b=c", "data/a?b=c"),
        ] {
            assert_eq!(without(given), told);
        }
    }
}
