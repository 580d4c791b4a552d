//! Text that comes from outside (names, values, paths, messages of libraries), made safe to show: on one line, and with
//! nothing in it that a terminal, a log viewer or a CI system would act on.

use std::borrow::Cow;
use std::fmt;

/// Longest name or message that is shown whole, in characters.
pub const LONGEST: usize = 4000;

/// Does a terminal act on it, or does it hide or reorder the text around it?
pub fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Direction marks, embeddings, overrides and isolates
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separator
            | '\u{2028}' | '\u{2029}'
            // Zero width, and tags
            | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// What log services act on wherever it stands in a line: commands of Azure Pipelines, TeamCity and old GitHub runners.
const COMMANDS: [&str; 3] = ["##[", "##vso[", "##teamcity["];

/// One line that shows what `text` says: characters that would be acted on are written as Rust writes them, `\n` and
/// `\u{1b}`, and a line that begins like a command of a GitHub workflow begins with a backslash.
pub fn clean(text: &str) -> Cow<'_, str> {
    let command = text.trim_start().starts_with("::");
    if !command && !text.contains(acts) && !COMMANDS.iter().any(|c| text.contains(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    for command in COMMANDS {
        out = out.replace(command, &command.replacen("##", "#\\#", 1));
    }
    if command {
        let begin = out.find("::").unwrap_or(0);
        out.insert(begin, '\\');
    }
    Cow::Owned(out)
}

/// Text of several lines that has its own escaping (JSON, XML, Markdown, HTML): line feeds and tabs stay, what else would
/// be acted on is replaced.
pub fn document(text: &str) -> String {
    text.chars().map(|c| if acts(c) && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// The same JSON with nothing in it that would be acted on: such characters occur in strings only, and there `\u001b`
/// means the character.
pub fn json(text: &str) -> String {
    let pair = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
    escape(text, pair)
}

/// The same for TOML, which knows no surrogates.
pub fn toml(text: &str) -> String {
    escape(text, |c| format!("\\U{:08x}", u32::from(c)))
}

fn escape(text: &str, escaped: impl Fn(char) -> String) -> String {
    let one = |c: char| if acts(c) && c != '\n' { escaped(c) } else { c.into() };
    // So begin COMMANDS.
    text.chars().map(one).collect::<String>().replace("##", "#\\u0023")
}

/// At most `room` characters of the cleaned text; a cut is marked.
pub fn shorten(text: &str, room: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= room {
        return text.into_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

/// The name most like `word`, whatever the case, if one is close: about a third of the letters may differ.
pub fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let near = names.map(|name| (strsim::levenshtein(&lower, &name.to_lowercase()), name));
    let letters = |name: &str| name.chars().count().max(lower.chars().count());
    near.min_by_key(|(edits, _)| *edits)
        .filter(|(edits, name)| 3 * edits <= 3 + letters(name))
        .map(|(_, name)| name)
}

/// A share as 12.3 %; small ones keep two digits that mean something.
pub fn percent(share: f64) -> String {
    let p = 100.0 * share;
    match p {
        p if p == 0.0 || p >= 9.95 => format!("{p:.1} %"),
        p if p >= 0.095 => format!("{p:.2} %"),
        p => format!("{p:.4} %"),
    }
}

/// A value as one clean line of bearable length, for messages.
pub struct Clean<T>(pub T);

impl<T: fmt::Display> fmt::Display for Clean<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shorten(&self.0.to_string(), LONGEST))
    }
}

/// 4.0 GiB
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_alike() {
        let names = ["embedding", "labels", "kind"];
        for (word, name) in
            [("embeding", "embedding"), ("Label", "labels"), ("lables", "labels"), ("kidn", "kind")]
        {
            assert_eq!(nearest(word, names.into_iter()), Some(name));
        }
        assert_eq!(nearest("price", names.into_iter()), None);
        assert_eq!(nearest("kind", [].into_iter()), None);
    }

    #[test]
    fn nothing_acts_on_clean_text() {
        assert!(matches!(clean("Größe_[cm] = 1.5, 日本 👩‍🔬"), Cow::Borrowed(_)));
        for (text, shown) in [
            ("a\x1b[31m\nb", "a\\u{1b}[31m\\nb"),
            ("\u{9b}2J\u{7f}\0", "\\u{9b}2J\\u{7f}\\u{0}"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("::error::x", "\\::error::x"),
            ("  ::error::x", "  \\::error::x"),
            ("a::b", "a::b"),
            ("x ##vso[task.setvariable]", "x #\\#vso[task.setvariable]"),
        ] {
            assert_eq!(clean(text), shown);
            assert_eq!(clean(&clean(text)), shown, "cleaning twice is cleaning once");
        }
        assert_eq!(shorten("a\nbc", 4), "a\\n…");
        assert_eq!(document("a\n\tb\x1b\u{202e}"), "a\n\tb\u{fffd}\u{fffd}");
        let value = "\u{9b}\u{7f}\u{202e}\u{e0041}\x1b ###[x";
        let inert = json(&serde_json::to_string(value).unwrap());
        assert!(inert.is_ascii() && !inert.contains("##"), "{inert}");
        assert_eq!(serde_json::from_str::<String>(&inert).unwrap(), value);
        assert_eq!(toml("a = \"\u{e0041}\"\n"), "a = \"\\U000e0041\"\n");
    }
}
