//! The house rules that a compiler does not keep: imports go up the page, `unsafe` stays in its corner, links in the
//! documents lead somewhere.
//!
//! The order of layers is the order of `pub mod` in `src/lib.rs`. A file may name `crate::x` only where `x` stands above
//! the file's own module there, or is that module: inside a folder its sub-modules are free. Tests (`#[cfg(test)]`) may
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

/// What `lib.rs` says: the modules in order, and where the names it re-exports come from.
struct Order {
    modules: Vec<String>,
    exports: BTreeMap<String, String>,
}

impl Order {
    fn of(lib: &str) -> Order {
        let t = without_tests(&tokens(lib));
        let text = |i: usize| t.get(i).map_or("", |t| t.text.as_str());
        let mut order = Order { modules: Vec::new(), exports: BTreeMap::new() };
        for i in 0..t.len() {
            if text(i) == "mod" && text(i + 2) == ";" {
                order.modules.push(text(i + 1).into());
            }
            if text(i) == "pub" && text(i + 1) == "use" {
                let from = if text(i + 2) == "crate" { i + 5 } else { i + 2 };
                for token in t[from + 1..].iter().take_while(|t| t.text != ";") {
                    order.exports.insert(token.text.clone(), text(from).into());
                }
            }
        }
        order
    }

    fn place(&self, name: &str) -> Option<usize> {
        let module = self.exports.get(name).map_or(name, |m| m);
        self.modules.iter().position(|m| m == module)
    }
}

/// The names that follow `crate::`, each with its line: one, or several after `crate::{`.
fn names_after(t: &[Token], i: usize) -> Vec<(String, usize)> {
    let Some(first) = t.get(i) else { return Vec::new() };
    if first.text != "{" {
        return vec![(first.text.clone(), first.line)];
    }
    let (mut names, mut depth) = (Vec::new(), 0usize);
    for j in i..after_group(t, i) {
        match t[j].text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        let fresh = j > i && matches!(t[j - 1].text.as_str(), "{" | ",");
        if depth == 1 && fresh && t[j].text != "}" {
            names.push((t[j].text.clone(), t[j].line));
        }
    }
    names
}

/// Every import of `source` that goes down the page. `path` is relative to src/, with `/`.
fn violations(order: &Order, path: &str, source: &str) -> Vec<String> {
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    let module = parts[0];
    let Some(own) = order.place(module) else {
        return vec![format!("src/{path}: module `{module}` is not listed in src/lib.rs")];
    };
    // Levels of modules between this file and the crate's root.
    let levels = parts.len() - usize::from(parts.last() == Some(&"mod"));
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
        let mut names = Vec::new();
        if text(i) == "crate" && path_follows {
            names = names_after(&t, i + 3);
        } else if text(i) == "super" && path_follows {
            let mut supers = 1;
            while text(i + 3) == "super" && text(i + 4) == ":" {
                (supers, i) = (supers + 1, i + 3);
            }
            if supers == levels + scopes.iter().filter(|s| **s).count() {
                names = names_after(&t, i + 3);
            }
        }
        for (name, line) in names {
            match order.place(&name) {
                Some(place) if place <= own => {}
                Some(_) => found.push(format!(
                    "src/{path}:{line}: `crate::{name}` stands below `{module}` in src/lib.rs; imports go up the page"
                )),
                None => found.push(format!(
                    "src/{path}:{line}: `crate::{name}` is neither a module nor a re-export of src/lib.rs"
                )),
            }
        }
        i += 1;
    }
    found
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
    let order = Order::of(&std::fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs"));
    assert!(order.modules.len() > 10, "src/lib.rs lists its modules: {:?}", order.modules);
    let found: Vec<String> =
        sources().iter().flat_map(|(path, text)| violations(&order, path, text)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_layer_test_can_fail() {
    let order = Order::of(
        "pub mod error;\n#[cfg(feature = \"x\")]\npub mod plan;\npub mod cli;\npub use error::{Error, Result};",
    );
    assert_eq!(order.modules, ["error", "plan", "cli"]);
    let lines = |path: &str, text: &str| -> Vec<String> {
        violations(&order, path, text)
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
        path.starts_with("src/kernels/") || path == "src/plan/map.rs" || path == "python/src/arrays.rs"
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
                    "{name}:{}: `unsafe` belongs to src/kernels/, src/plan/map.rs or python/src/arrays.rs",
                    t.line
                )
            }));
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
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
