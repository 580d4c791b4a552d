//! How numbers, tables and colours look, the same in every verb, and the one way to the terminal: a [`Text`] holds whole
//! lines, and what comes into a line is cleaned there. Nothing else writes to stdout or stderr (tests/layers.rs).

pub use crate::kit::text::bytes;
use std::io::{IsTerminal, Write};
use std::ops::AddAssign;

use indicatif::MultiProgress;

pub use crate::kit::text::percent;
pub use crate::kit::text::shorten;
use crate::kit::text::{self, clean};
pub use crate::report::words::{count, plural};

/// Whole lines to show, colours included.
#[derive(Clone, Debug, Default)]
pub struct Text(String);

impl Text {
    /// A text in a format of its own (JSON, HTML, a man page), which has escaped what it holds.
    pub fn document(text: &str) -> Text {
        Text(text::document(text))
    }

    /// To stdout.
    pub fn to_stdout(&self) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(self.0.as_bytes()).and_then(|()| out.flush())
    }

    /// To stderr; a reader that went away is no reason to stop.
    pub fn to_stderr(&self) {
        let _ = std::io::stderr().write_all(self.0.as_bytes());
    }

    /// To stderr, above progress bars.
    pub fn above(&self, bars: &MultiProgress) {
        let _ = bars.println(self.0.trim_end());
    }

    /// One below the other, an empty line between them.
    pub fn paragraphs(texts: impl IntoIterator<Item = Text>) -> Text {
        Text(texts.into_iter().map(|t| t.0).collect::<Vec<_>>().join("\n"))
    }

    pub fn blank() -> Text {
        Text("\n".into())
    }
}

impl AddAssign for Text {
    fn add_assign(&mut self, more: Text) {
        self.0 += &more.0;
    }
}

impl Extend<Text> for Text {
    fn extend<I: IntoIterator<Item = Text>>(&mut self, texts: I) {
        texts.into_iter().for_each(|text| *self += text);
    }
}

impl FromIterator<Text> for Text {
    fn from_iter<I: IntoIterator<Item = Text>>(texts: I) -> Text {
        let mut all = Text::default();
        all.extend(texts);
        all
    }
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a piece of a line stands out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Dim,
    Bold,
    Red,
    Green,
    Yellow,
    Cyan,
}

/// What the place that text goes to can show.
#[derive(Clone, Copy)]
pub struct Look {
    colour: bool,
    /// Columns.
    pub width: usize,
}

impl Look {
    /// No colours and 100 columns: files and pipes always get the same text.
    pub fn plain() -> Look {
        Look { colour: false, width: 100 }
    }

    pub fn stdout() -> Look {
        if std::io::stdout().is_terminal() { Look::terminal(columns()) } else { Look::plain() }
    }

    pub fn stderr() -> Look {
        if stderr_is_terminal() { Look::terminal(None) } else { Look::plain() }
    }

    /// Colours unless the user said NO_COLOR (no-color.org).
    fn terminal(columns: Option<usize>) -> Look {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Look { colour: !refused && !dumb, width: columns.unwrap_or(100) }
    }

    /// A line in one tone.
    pub fn line(self, tone: Tone, text: &str) -> Text {
        self.pieces(&[(tone, text)])
    }

    /// A line of several pieces, each cleaned before it gets its colour.
    pub fn pieces(self, pieces: &[(Tone, &str)]) -> Text {
        let mut out = String::new();
        for (tone, text) in pieces {
            let text = clean(text);
            let code = match tone {
                Tone::Plain => "",
                Tone::Dim => "2",
                Tone::Bold => "1",
                Tone::Red => "1;31",
                Tone::Green => "1;32",
                Tone::Yellow => "1;33",
                Tone::Cyan => "36",
            };
            match self.colour && !code.is_empty() && !text.trim().is_empty() {
                true => out += &format!("\x1b[{code}m{text}\x1b[0m"),
                false => out += &text,
            }
        }
        out.push('\n');
        Text(out)
    }

    /// What clap says of a command line, in its own colours; arguments that a terminal would act on are cleaned.
    pub fn usage(self, error: &clap::Error) -> Text {
        let plain = error.render().to_string();
        let guarded: String = plain.lines().map(|line| clean(line).into_owned() + "\n").collect();
        Text(if self.colour && guarded == plain { error.render().ansi().to_string() } else { guarded })
    }
}

pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Columns of the terminal that stdout is.
fn columns() -> Option<usize> {
    #[cfg(unix)]
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col.into());
    #[cfg(not(unix))]
    let columns = None;
    columns.filter(|&n| n > 0)
}

/// 0.42 s, 12.3 s, 3 min 05 s, 2 h 07 min
pub fn seconds(s: f64) -> String {
    let whole = s.round() as u64;
    match s {
        s if !s.is_finite() => "?".into(),
        s if s < 9.995 => format!("{s:.2} s"),
        s if s < 59.95 => format!("{s:.1} s"),
        s if s < 3599.5 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A bar of `cells` characters, in eighths of a character.
pub fn bar(share: f64, cells: usize) -> String {
    let eighths =
        ((share.clamp(0.0, 1.0) * cells as f64 * 8.0).round() as usize).max(usize::from(share > 0.0));
    let mut out = "█".repeat(eighths / 8);
    if let Some(rest) = (eighths % 8).checked_sub(1) {
        out.push(['▏', '▎', '▍', '▌', '▋', '▊', '▉'][rest]);
    }
    out
}

/// `values` as a row of at most `cells` bars, from the smallest to the largest of them: neighbours are averaged.
pub fn sparkline(values: &[f64], cells: usize) -> String {
    let values: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
    let cells = cells.min(values.len());
    let mean = |i: usize| {
        let of = &values[i * values.len() / cells..(i + 1) * values.len() / cells];
        of.iter().sum::<f64>() / of.len() as f64
    };
    let means: Vec<f64> = (0..cells).map(mean).collect();
    let (low, high) = means.iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)));
    let bar = |x: &f64| {
        let height = if high > low { 7.0 * (x - low) / (high - low) } else { 3.0 };
        ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][height.round() as usize]
    };
    means.iter().map(bar).collect()
}

/// A fact of several lines.
pub fn listed(name: &str, texts: impl IntoIterator<Item = String>) -> Vec<(String, String)> {
    let name_of = |i: usize| if i == 0 { name.to_string() } else { String::new() };
    texts.into_iter().enumerate().map(|(i, text)| (name_of(i), text)).collect()
}

/// Facts one below the other: names in one column, texts wrapped beside them.
pub fn facts(lines: &[(String, String)], look: Look) -> Text {
    let name_width = lines.iter().map(|(n, _)| clean(n).chars().count()).max().unwrap_or(0);
    let room = look.width.saturating_sub(name_width + 2).max(24);
    let mut out = Text::default();
    for (name, text) in lines {
        for (i, line) in wrap(text, room).iter().enumerate() {
            let head = if i == 0 { clean(name) } else { "".into() };
            out += look.pieces(&[
                (Tone::Cyan, &format!("{head:name_width$}")),
                (Tone::Plain, "  "),
                (Tone::Plain, line),
            ]);
        }
    }
    out
}

/// The words of a text in lines of at most `room` characters; a number keeps its "%".
pub fn wrap(text: &str, room: usize) -> Vec<String> {
    let text = clean(text).replace(" %", "\u{a0}%");
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(std::mem::take(&mut line));
        } else if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    lines.iter().map(|line| line.replace('\u{a0}', " ")).collect()
}

/// Of every column: its widest cell.
fn widths(head: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let cell = |r: &Vec<String>, j: usize| clean(&r[j]).chars().count();
    let width = |j: usize| rows.iter().map(|r| cell(r, j)).chain([head[j].chars().count()]).max();
    (0..head.len()).map(|j| width(j).unwrap_or(0)).collect()
}

/// Columns that [`table`] takes.
pub fn table_width(head: &[&str], rows: &[Vec<String>]) -> usize {
    widths(head, rows).iter().map(|w| w + 2).sum::<usize>().saturating_sub(2)
}

/// A table whose columns are as wide as their widest cell. `right` columns hold numbers.
pub fn table(head: &[&str], right: &[bool], rows: &[Vec<String>], look: Look) -> Text {
    let widths = widths(head, rows);
    let line = |cells: Vec<&str>| {
        let cells: Vec<String> = (cells.into_iter().map(clean).zip(&widths).zip(right))
            .map(|((c, w), right)| if *right { format!("{c:>w$}") } else { format!("{c:w$}") })
            .collect();
        cells.join("  ").trim_end().to_string()
    };
    let mut out = look.line(Tone::Dim, &line(head.to_vec()));
    for row in rows {
        out += look.line(Tone::Plain, &line(row.iter().map(String::as_str).collect()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 999, 1000, 1234567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [(1, "row"), (2, "batch"), (2, "epoch"), (3, "modality"), (4, "stratum")]
                .map(|(n, w)| plural(n, w)),
            ["1 row", "2 batches", "2 epochs", "3 modalities", "4 strata"]
        );
        assert_eq!([0, 1023, 1024, 4 << 30].map(bytes), ["0 B", "1023 B", "1.0 KiB", "4.0 GiB"]);
        assert_eq!(
            [0.421, 9.999, 59.97, 185.2, 3599.6, 7620.0].map(seconds),
            ["0.42 s", "10.0 s", "1 min 00 s", "3 min 05 s", "1 h 00 min", "2 h 07 min"]
        );
        assert_eq!([0.0, 0.5, 0.0123, 0.00001].map(percent), ["0.0 %", "50.0 %", "1.23 %", "0.0010 %"]);
    }

    #[test]
    fn bars_and_tables_keep_their_width() {
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.0, 4), "");
        assert_eq!(bar(1e-9, 4), "▏");
        assert_eq!(sparkline(&[0.0, 0.5, 1.0], 8), "▁▅█");
        assert_eq!(sparkline(&[1.0, 1.0, 3.0, 3.0, f64::NAN], 2), "▁█");
        assert_eq!((sparkline(&[2.0], 4), sparkline(&[], 4)), ("▄".into(), String::new()));
        assert_eq!(shorten("modality", 5), "moda…");
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("one 18.4 % two", 8), ["one", "18.4 %", "two"]);
        let t = table(&["name", "n"], &[false, true], &[vec!["é".into(), "12".into()]], Look::plain());
        assert_eq!(&*t, "name   n\né     12\n");
    }

    #[test]
    fn colours_are_ours_alone() {
        let look = Look { colour: true, width: 30 };
        let text = look.pieces(&[(Tone::Red, "error:"), (Tone::Plain, " a\x1b[0m\nb")]);
        assert_eq!(&*text, "\x1b[1;31merror:\x1b[0m a\\u{1b}[0m\\nb\n");
        let facts =
            facts(&[("a\x1b".into(), "some words, then ::error:: and\n::more".into())], Look::plain());
        assert_eq!(facts.lines().count(), 1, "{facts}");
        let wrapped = super::facts(&[("n".into(), "aaaaaaaaaaaaaaaaaaaaaaaa ::error::x".into())], look);
        assert_eq!(wrapped.lines().last(), Some("   \\::error::x"), "{wrapped}");
        let rows = [vec!["::a\x07".to_string(), "1".into()]];
        let table = table(&["x", "n"], &[false, true], &rows, Look::plain());
        assert_eq!(&*table, "x          n\n\\::a\\u{7}  1\n");
        assert_eq!(table_width(&["x", "n"], &rows), 12);
    }
}
