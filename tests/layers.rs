//! The house rules that a compiler does not keep: imports go up the page, `unsafe` stays in its corner, links in the
//! documents lead somewhere.
//!
//! The order of layers is the order of `pub mod` in `src/lib.rs`. A file may name `crate::x` only where `x` stands above
//! the file's own module there, or is that module; inside a folder the same holds of its `mod.rs`. Tests (`#[cfg(test)]`) may
//! use anything. Macros are not expanded, so the tokens as they are written are what counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

// ---------------------------------------------------------------- a small reader of Rust tokens

/// A word or one character of punctuation, with its line (from 1). Comments, literals and lifetimes are left out.
#[derive(Clone, Debug, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

fn tokens(source: &str) -> Vec<Token> {
    let s: Vec<char> = source.chars().collect();
    let at = |i: usize| s.get(i).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut out, mut i, mut line) = (Vec::new(), 0, 1);
    while i < s.len() {
        let start = i;
        match s[i] {
            '/' if at(i + 1) == '/' => {
                while i < s.len() && s[i] != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                while i < s.len() {
                    match (s[i], at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            // Raw strings r"..", r#".."#, br#".."#; a raw identifier r#type falls through to the words.
            'r' | 'b' | 'c' if raw_string(&s, i).is_some() => i = raw_string(&s, i).unwrap_or(i + 1),
            '"' => {
                i += 1;
                while i < s.len() && s[i] != '"' {
                    i += if s[i] == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            // A character literal, or a lifetime.
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < s.len() && s[i] != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            '\'' => {
                i += 1;
                while word(at(i)) {
                    i += 1;
                }
            }
            c if word(c) => {
                while word(at(i)) {
                    i += 1;
                }
                out.push(Token { text: s[start..i].iter().collect(), line });
            }
            c => {
                if !c.is_whitespace() {
                    out.push(Token { text: c.to_string(), line });
                }
                i += 1;
            }
        }
        line += s[start..i.min(s.len())].iter().filter(|c| **c == '\n').count();
    }
    out
}

/// Where the raw string that starts at `i` ends, if one does.
fn raw_string(s: &[char], mut i: usize) -> Option<usize> {
    if s[i] != 'r' {
        i += 1;
    }
    if s.get(i) != Some(&'r') {
        return None;
    }
    let hashes = s[i + 1..].iter().take_while(|c| **c == '#').count();
    i += 1 + hashes;
    if s.get(i) != Some(&'"') {
        return None;
    }
    i += 1;
    while i < s.len() {
        if s[i] == '"' && s[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return Some(i + 1 + hashes);
        }
        i += 1;
    }
    Some(i)
}

/// Index after the bracket that closes the one at `open`.
fn after_group(t: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (i, token) in t.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "{" | "[" | "(" => depth += 1,
            "}" | "]" | ")" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    t.len()
}

/// The tokens that are compiled outside tests: items under `#[cfg(test)]` or `#[cfg(all(test, ..))]` are taken out.
fn without_tests(t: &[Token]) -> Vec<Token> {
    let text = |i: usize| t.get(i).map_or("", |t| t.text.as_str());
    let (mut out, mut i) = (Vec::new(), 0);
    while i < t.len() {
        let inner = text(i) == "#" && text(i + 1) == "!" && text(i + 2) == "[";
        let outer = text(i) == "#" && text(i + 1) == "[";
        if !(inner || outer) {
            out.push(t[i].clone());
            i += 1;
            continue;
        }
        let open = if inner { i + 2 } else { i + 1 };
        let end = after_group(t, open);
        let has = |word: &str| t[open..end].iter().any(|t| t.text == word);
        let tests_only = text(open + 1) == "cfg" && has("test") && !has("not") && !has("any");
        if !tests_only {
            out.extend_from_slice(&t[i..end]);
            i = end;
        } else if inner {
            return Vec::new();
        } else {
            i = end;
            while text(i) == "#" {
                i = after_group(t, i + 1);
            }
            while i < t.len() && !matches!(text(i), ";" | "{" | ",") {
                i = if matches!(text(i), "(" | "[") { after_group(t, i) } else { i + 1 };
            }
            i = if text(i) == "{" { after_group(t, i) } else { i + 1 };
        }
    }
    out
}

// ---------------------------------------------------------------- layers

/// What `lib.rs` or a room's `mod.rs` says: its modules in order, and where the names it re-exports come from.
#[derive(Default)]
struct Order {
    modules: Vec<String>,
    exports: BTreeMap<String, String>,
}

impl Order {
    fn of(page: &str) -> Order {
        let t = without_tests(&tokens(page));
        let text = |i: usize| t.get(i).map_or("", |t| t.text.as_str());
        let mut order = Order::default();
        for i in 0..t.len() {
            if text(i) == "mod" && text(i + 2) == ";" {
                order.modules.push(text(i + 1).into());
            }
            if text(i) == "use" {
                for path in paths_after(&t, i + 1) {
                    let names = path.names.iter().map(String::as_str);
                    let names: Vec<&str> = names.skip_while(|n| matches!(*n, "self" | "crate")).collect();
                    if let [module, .., name] = names[..] {
                        order.exports.insert(name.into(), module.into());
                    }
                }
            }
        }
        order
    }

    /// Which line of the page `name` is or comes from.
    fn line_of(&self, name: &str) -> Option<usize> {
        let find = |name: &str| self.modules.iter().position(|m| m == name);
        find(name).or_else(|| find(self.exports.get(name)?))
    }
}

/// The pages of the source tree: lib.rs under the empty path, `a/b/mod.rs` under `["a", "b"]`.
type Pages = BTreeMap<Vec<String>, Order>;

/// A path as it is written, and the line of its last name.
struct Written {
    names: Vec<String>,
    line: usize,
}

/// The paths that begin at `i`: one, or several where it ends in `{..}`.
fn paths_after(t: &[Token], i: usize) -> Vec<Written> {
    fn expand(t: &[Token], mut i: usize, prefix: &[String], out: &mut Vec<Written>) -> usize {
        let text = |i: usize| t.get(i).map_or("", |t| t.text.as_str());
        let mut names = prefix.to_vec();
        let line = t.get(i).map_or(0, |t| t.line);
        loop {
            if text(i) == "{" {
                i += 1;
                while i < t.len() && text(i) != "}" {
                    i = expand(t, i, &names, out);
                    i += usize::from(text(i) == ",");
                }
                return i + 1;
            }
            names.push(text(i).into());
            i += 1;
            if !(text(i) == ":" && text(i + 1) == ":") {
                if text(i) == "as" {
                    i += 2;
                }
                out.push(Written { names, line });
                return i.max(1);
            }
            i += 2;
        }
    }
    let mut out = Vec::new();
    expand(t, i, &[], &mut out);
    out
}

/// Every import of `source` that goes down a page: lib.rs, or the `mod.rs` of a folder that it shares with the file.
/// `path` is relative to src/, with `/`.
fn violations(pages: &Pages, path: &str, source: &str) -> Vec<String> {
    let mut own: Vec<String> = path.trim_end_matches(".rs").split('/').map(String::from).collect();
    if own.last().is_some_and(|name| name == "mod") {
        own.pop();
    }
    if pages[&Vec::new()].line_of(&own[0]).is_none() {
        return vec![format!("src/{path}: module `{}` is not listed in src/lib.rs", own[0])];
    }
    let t = without_tests(&tokens(source));
    let text = |i: usize| t.get(i).map_or("", |t| t.text.as_str());
    let (mut found, mut scopes) = (Vec::new(), Vec::new());
    let mut i = 0;
    while i < t.len() {
        match text(i) {
            "{" => scopes.push(i >= 2 && text(i - 2) == "mod"),
            "}" => drop(scopes.pop()),
            _ => {}
        }
        let path_follows = text(i + 1) == ":" && text(i + 2) == ":";
        let mut base = None;
        if text(i) == "crate" && path_follows {
            base = Some(Vec::new());
        } else if text(i) == "super" && path_follows {
            let mut supers = 1;
            while text(i + 3) == "super" && text(i + 4) == ":" {
                (supers, i) = (supers + 1, i + 3);
            }
            // Modules inside this file come first.
            let inner = scopes.iter().filter(|s| **s).count();
            base = (supers > inner).then(|| own[..own.len().saturating_sub(supers - inner)].to_vec());
        }
        for written in base.is_some().then(|| paths_after(&t, i + 3)).into_iter().flatten() {
            let mut names = base.clone().unwrap_or_default();
            names.extend(written.names.into_iter().filter(|name| name != "self"));
            found.extend(
                goes_down(pages, &own, &names).map(|why| format!("src/{path}:{}: {why}", written.line)),
            );
        }
        i += 1;
    }
    found.dedup();
    found
}

/// Why the module `own` may not name the path `names`, both from the root.
fn goes_down(pages: &Pages, own: &[String], names: &[String]) -> Option<String> {
    let shared = own.iter().zip(names).take_while(|(a, b)| a == b).count();
    let (own_name, name) = (own.get(shared)?, names.get(shared)?);
    let page = pages.get(&own[..shared])?;
    let shown = names[..=shared].join("::");
    let of =
        if shared == 0 { "src/lib.rs".into() } else { format!("src/{}/mod.rs", own[..shared].join("/")) };
    match page.line_of(name) {
        Some(line) if line <= page.line_of(own_name)? => None,
        Some(_) => {
            Some(format!("`crate::{shown}` stands below `{own_name}` in {of}; imports go up the page"))
        }
        None if shared == 0 => {
            Some(format!("`crate::{shown}` is neither a module nor a re-export of src/lib.rs"))
        }
        // An item of the page itself.
        None => None,
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` whose name ends with `end`, sorted, without build outputs and hidden folders.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is part of the repository") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                found.extend(files(&path, end));
            }
        } else if name.ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// lib.rs and every `mod.rs`.
fn pages() -> Pages {
    let of_folder = |path: &str| -> Option<Vec<String>> {
        Some(path.strip_suffix("/mod.rs")?.split('/').map(String::from).collect())
    };
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let rooms = sources().into_iter().filter_map(|(path, text)| Some((of_folder(&path)?, Order::of(&text))));
    rooms.chain([(Vec::new(), Order::of(&lib))]).collect()
}

/// Path below src/ (with `/`) and text of every source file but lib.rs and main.rs.
fn sources() -> Vec<(String, String)> {
    let src = root().join("src");
    let relative = |p: &Path| {
        let p = p.strip_prefix(&src).expect("found below src");
        p.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
    };
    let read = |p: &PathBuf| (relative(p), std::fs::read_to_string(p).expect("UTF-8"));
    files(&src, ".rs").iter().map(read).filter(|(p, _)| p != "lib.rs" && p != "main.rs").collect()
}

#[test]
fn imports_go_up_the_page() {
    let pages = pages();
    let rooms = &pages[&Vec::new()].modules;
    assert!(rooms.len() > 10 && pages.len() > 10, "src/lib.rs lists its rooms: {rooms:?}");
    let found: Vec<String> =
        sources().iter().flat_map(|(path, text)| violations(&pages, path, text)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_layer_test_can_fail() {
    let lib = "pub mod error;\n#[cfg(feature = \"x\")]\npub mod plan;\npub mod cli;\npub use error::{Error, Result};";
    let room =
        "mod table;\npub mod files;\nmod reader;\npub use reader::{Plan, Rows as Lines};\npub struct Kind;";
    let pages: Pages = [(vec![], Order::of(lib)), (vec!["plan".into()], Order::of(room))].into();
    assert_eq!(pages[&Vec::new()].modules, ["error", "plan", "cli"]);
    let lines = |path: &str, text: &str| -> Vec<String> {
        violations(&pages, path, text)
            .iter()
            .map(|v| v.split(' ').take(2).collect::<Vec<_>>().join(" "))
            .collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(lines("plan/mod.rs", "use crate::Result;\nuse crate::{error::{self, Error}, plan::x};"), none);
    assert_eq!(
        lines("plan/mod.rs", "\nuse crate::{error::Error,\n  cli::{main, error}};"),
        ["src/plan/mod.rs:3: `crate::cli`"]
    );
    assert_eq!(lines("error.rs", "fn f() -> crate::plan::Plan {}"), ["src/error.rs:1: `crate::plan`"]);
    assert_eq!(lines("error.rs", "use crate::nowhere::X;"), ["src/error.rs:1: `crate::nowhere`"]);
    // `super` that reaches the root counts; inside a folder it does not.
    assert_eq!(
        lines("plan/files.rs", "use super::cli; use super::super::cli;"),
        ["src/plan/files.rs:1: `crate::cli`"]
    );
    assert_eq!(
        lines("error.rs", "mod inner { use super::cli; use super::super::cli; }"),
        ["src/error.rs:1: `crate::cli`"]
    );
    // Inside a room the order is that of its mod.rs, whatever way a sibling is named; the page itself is free.
    assert_eq!(
        lines("plan/files.rs", "use super::{Kind, table::{self, X}}; use crate::plan::files::Y;"),
        none
    );
    assert_eq!(
        lines(
            "plan/files.rs",
            "use super::{table,\n reader::X}; fn f(p: crate::plan::Plan) { super::reader::f() }"
        ),
        [
            "src/plan/files.rs:2: `crate::plan::reader`",
            "src/plan/files.rs:2: `crate::plan::Plan`",
            "src/plan/files.rs:2: `crate::plan::reader`"
        ]
    );
    assert_eq!(lines("plan/mod.rs", "use reader::X; use crate::plan::reader::Y;"), none);
    assert_eq!(
        lines("plan/table/deep.rs", "use super::super::files::X;"),
        ["src/plan/table/deep.rs:1: `crate::plan::files`"]
    );
    // Comments, strings, characters and tests are not imports.
    let quiet = r##"
        //! [`crate::cli`]
        /* crate::cli /* crate::cli */ */
        const A: &str = "crate::cli \" crate::cli"; const B: &str = r#"crate::cli"#; const C: char = '"';
        fn f<'a>(x: &'a str) -> &'a str { x }
        #[cfg(test)]
        #[allow(dead_code)]
        mod tests { use crate::cli; fn g() { {} } }
        #[cfg(test)]
        use crate::cli;
    "##;
    assert_eq!(lines("error.rs", quiet), none);
    assert_eq!(lines("error.rs", &format!("{quiet}use crate::cli;")), ["src/error.rs:11: `crate::cli`"]);
    assert_eq!(lines("stray.rs", ""), ["src/stray.rs: module"]);
}

#[test]
fn unsafe_stays_in_its_corner() {
    let allowed = |path: &str| {
        path.starts_with("src/kernels/") || path == "src/format/map.rs" || path == "python/src/arrays.rs"
    };
    let mut found = Vec::new();
    for folder in ["src", "python/src"] {
        for file in files(&root().join(folder), ".rs") {
            let name =
                file.strip_prefix(root()).expect("found below the root").to_string_lossy().replace('\\', "/");
            let text = std::fs::read_to_string(&file).expect("UTF-8");
            let places = tokens(&text).into_iter().filter(|t| t.text == "unsafe" && !allowed(&name));
            found.extend(places.map(|t| {
                format!(
                    "{name}:{}: `unsafe` belongs to src/kernels/, src/format/map.rs or python/src/arrays.rs",
                    t.line
                )
            }));
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Lines of `source` that write to the terminal themselves.
fn writes_to_the_terminal(source: &str) -> Vec<usize> {
    let t = without_tests(&tokens(source));
    let text = |i: usize| t.get(i).map_or("", |t| t.text.as_str());
    let writes = |i: usize| match text(i) {
        "print" => text(i + 1) == "!",
        "println" | "eprint" | "eprintln" => true,
        // `Look::stdout()` says what stdout can show.
        "stdout" | "stderr" => !(i >= 3 && text(i - 3) == "Look"),
        _ => false,
    };
    (0..t.len()).filter(|&i| writes(i)).map(|i| t[i].line).collect()
}

#[test]
fn one_file_writes_to_the_terminal() {
    let mut found = Vec::new();
    for folder in ["src", "python/src"] {
        for file in files(&root().join(folder), ".rs") {
            let name =
                file.strip_prefix(root()).expect("found below the root").to_string_lossy().replace('\\', "/");
            let text = std::fs::read_to_string(&file).expect("UTF-8");
            let lines = if name == "src/cli/style.rs" { Vec::new() } else { writes_to_the_terminal(&text) };
            found.extend(lines.iter().map(|line| {
                format!(
                    "{name}:{line}: what is shown goes through `Text` of src/cli/style.rs, which cleans it"
                )
            }));
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));

    // And the test can fail.
    let text =
        "fn f() { println!(); }\nuse std::io::{stdout, Write};\nlet l = Look::stderr();\nbars.println(x);";
    assert_eq!(writes_to_the_terminal(text), [1, 2, 4]);
}

// ---------------------------------------------------------------- documents

/// Anchor of a heading, as Git hosts make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Lines outside code fences, numbered from 1.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut out = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            out.push((i + 1, line));
        }
    }
    out
}

/// Relative links of `file` that lead nowhere.
fn broken_links(file: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for piece in line.split("](").skip(1) {
            let target = piece.split(')').next().unwrap_or("");
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let there = if path.is_empty() {
                file.to_path_buf()
            } else {
                file.parent().expect("a file is in a folder").join(path)
            };
            let good = there.exists()
                && (heading.is_empty() || {
                    let other = std::fs::read_to_string(&there).unwrap_or_default();
                    prose(&other)
                        .iter()
                        .any(|(_, l)| l.starts_with('#') && anchor(l.trim_start_matches('#')) == heading)
                });
            if !good {
                found.push(format!("{}:{number}: the link `{target}` leads nowhere", file.display()));
            }
        }
    }
    found
}

#[test]
fn links_in_documents_lead_somewhere() {
    let documents = files(&root(), ".md");
    assert!(documents.len() >= 8, "README, CONTRIBUTING, CHANGELOG and docs/: {documents:?}");
    let text = |f: &PathBuf| std::fs::read_to_string(f).expect("UTF-8");
    let found: Vec<String> = documents.iter().flat_map(|f| broken_links(f, &text(f))).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));

    // And the test can fail.
    let readme = root().join("README.md");
    assert_eq!(broken_links(&readme, "[a](CHANGELOG.md) [b](docs/none.md) [c](#no-such-heading)\n").len(), 2);
}

/// Files and folders of `src/` that are named in `text` and do not exist.
fn gone(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.');
    for (at, _) in text.match_indices("src/") {
        if text[..at].ends_with(|c: char| part_of_name(c) || c == '-') {
            continue;
        }
        let name: String = text[at..].chars().take_while(|c| part_of_name(*c)).collect();
        let name = name.trim_end_matches('.');
        if !root().join(name).exists() {
            found.push(name.to_string());
        }
    }
    found
}

#[test]
fn named_source_files_exist() {
    let mut found = Vec::new();
    let texts = [".md", ".toml", ".rs", ".py"].iter().flat_map(|end| files(&root(), end));
    for file in texts.filter(|f| !f.ends_with("tests/layers.rs")) {
        let text = std::fs::read_to_string(&file).expect("UTF-8");
        found.extend(gone(&text).iter().map(|name| format!("{}: there is no {name}", file.display())));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
    assert_eq!(gone("`src/lib.rs`, src/no/such.rs. python/src/none.rs"), ["src/no/such.rs"]);
}
