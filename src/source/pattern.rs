//! Patterns of paths, which match what they match in a shell: `*`, `?` and `[a-z]` stay inside one name and leave out
//! names that begin with a dot, `**` is any directories that are not hidden.

use super::listing::is_hidden;

/// One name of a pattern's path.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// As it stands.
    Name(String),
    Like(glob::Pattern),
    /// `**`.
    Any,
}

/// Whether it is worth looking for what a path matches.
pub(super) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// A pattern's names; those of `/a/b` and `a/b` are the same.
pub(super) fn parts(pattern: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = pattern.split('/').filter(|name| !name.is_empty()).map(part).collect();
    parts.dedup_by(|a, b| matches!((a, b), (Part::Any, Part::Any)));
    parts
}

fn part(name: &str) -> Part {
    if name == "**" {
        return Part::Any;
    }
    if !is_pattern(name) {
        return Part::Name(name.into());
    }
    // The library wants `**` to stand alone and every bracket closed; to a shell these are `*` and a bracket.
    let mut text = name.replace("[^", "[!");
    while text.contains("**") {
        text = text.replace("**", "*");
    }
    let bracket = |_| glob::Pattern::new(&text.replace('[', "[[]"));
    glob::Pattern::new(&text).or_else(bracket).map_or_else(|_| Part::Name(name.into()), Part::Like)
}

impl Part {
    /// Whether a name of a path fits.
    pub fn fits(&self, name: &str) -> bool {
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        match self {
            Part::Name(own) => own == name,
            Part::Like(pattern) => pattern.matches_with(name, options),
            Part::Any => !is_hidden(name),
        }
    }
}

/// Whether a pattern matches a path or a directory that holds it.
pub fn matches_path(pattern: &str, path: &str) -> bool {
    matched(&parts(pattern), &path.split('/').collect::<Vec<_>>()).is_some()
}

/// How many names of `path` a pattern matches, from its beginning: all of them, or those of a directory that holds it.
pub(super) fn matched(pattern: &[Part], path: &[&str]) -> Option<usize> {
    match (pattern, path) {
        ([], _) => Some(0),
        ([Part::Any, rest @ ..], _) => matched(rest, path).or_else(|| {
            let (name, left) = path.split_first()?;
            pattern[0].fits(name).then(|| matched(pattern, left))?.map(|n| n + 1)
        }),
        ([part, rest @ ..], [name, left @ ..]) => {
            part.fits(name).then(|| matched(rest, left))?.map(|n| n + 1)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, path, names) in [
            ("*.parquet", "a.parquet", Some(1)),
            ("*.parquet", "b/a.parquet", None),
            ("d/*.parquet", "d/x.parquet/part-0", Some(2)),
            ("d/**/*.parquet", "d/a.parquet", Some(2)),
            ("d/**/*.parquet", "d/b/c/a.parquet", Some(4)),
            ("d/**/*.parquet", "d/_temporary/a.parquet", None),
            ("d/part-?[0-4].parquet", "d/part-13.parquet", Some(2)),
            ("d/part-?[0-4].parquet", "d/part-15.parquet", None),
            ("d/[!a]*", "d/ba", Some(2)),
            ("d/[^a]*", "d/ab", None),
            ("d/[]x]", "d/]", Some(2)),
            ("d/[a", "d/[a", Some(2)),
            ("d/[a*", "d/[ab", Some(2)),
            ("d/a**b", "d/axb", Some(2)),
            ("d/*", "d/_SUCCESS", Some(2)),
            ("d/*", "d/.x", None),
            ("d/.*", "d/.x", Some(2)),
        ] {
            let (parts, path): (Vec<Part>, Vec<&str>) = (parts(pattern), path.split('/').collect());
            assert_eq!(matched(&parts, &path), names, "{pattern} {path:?}");
        }
    }
}
