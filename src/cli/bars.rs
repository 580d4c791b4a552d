//! Shows the stages of a long run on stderr, so that stdout carries data only: bars with rate and time left for a
//! person, JSON lines for a program, one line a stage for a log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use serde_json::json;

use super::style::{self, Look, Text, Tone};
use crate::kit::progress::{Observer, Progress};

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// Bars with rate and time left, if stderr is a terminal.
    #[default]
    Bar,
    /// One JSON object per line: event, stage, done, total, bytes read, rate, eta.
    Json,
    /// Nothing.
    None,
}

/// What `-v` and `-q` make of it: -1 errors only, 0 as usual, 1 and more: a line for every stage.
pub fn observe(show: Show, verbosity: i8) -> Progress {
    let terminal = style::stderr_is_terminal();
    Progress::new(match show {
        Show::Json => Arc::new(Lines { json: true, quiet: verbosity < 0, ..Lines::default() }),
        Show::Bar if terminal && verbosity >= 0 => Arc::new(Bars::new(verbosity)),
        Show::Bar if verbosity > 0 => Arc::new(Lines::default()),
        _ => Arc::new(Warnings { quiet: verbosity < 0 }),
    })
}

pub fn warning(message: &str) -> Text {
    Look::stderr().pieces(&[(Tone::Yellow, "warning:"), (Tone::Plain, " "), (Tone::Plain, message)])
}

/// A panic elsewhere must not hide the bars of the stage that reports it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Warnings, nothing else.
struct Warnings {
    quiet: bool,
}

impl Observer for Warnings {
    fn begin(&self, _: &'static str, _: &'static str, _: u64) {}
    fn advance(&self, _: &'static str, _: u64) {}
    fn end(&self, _: &'static str) {}
    fn warn(&self, message: &str) {
        if !self.quiet {
            warning(message).to_stderr();
        }
    }
}

/// Bytes a stage has read by now, of `bytes` in all; 0 if nobody said.
fn read_by_now(bytes: u64, done: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { bytes as f64 * (done as f64 / total as f64) }
}

/// What is done in a second, in the stage's unit and in bytes where these are known.
fn rates(done: f64, unit: &str, read: f64) -> String {
    let in_bytes = if read > 0.0 { format!(", {}/s", style::bytes(read as u64)) } else { String::new() };
    format!("{}/s{in_bytes}", amount(done, unit))
}

/// One bar a stage; a finished stage of a second or more leaves a line.
struct Bars {
    all: MultiProgress,
    open: Mutex<BTreeMap<&'static str, Bar>>,
    verbosity: i8,
}

struct Bar {
    bar: ProgressBar,
    unit: &'static str,
    /// What the stage reads.
    bytes: Arc<AtomicU64>,
}

impl Bars {
    fn new(verbosity: i8) -> Self {
        Bars { all: MultiProgress::new(), open: Mutex::default(), verbosity }
    }
}

fn amount(n: f64, unit: &str) -> String {
    if unit == "bytes" { style::bytes(n as u64) } else { format!("{} {unit}", style::count(n as u64)) }
}

impl Observer for Bars {
    fn begin(&self, stage: &'static str, unit: &'static str, total: u64) {
        let done = move |s: &ProgressState, w: &mut dyn std::fmt::Write| {
            let _ = match s.len() {
                Some(n) if unit == "bytes" => write!(w, "{} of {}", style::bytes(s.pos()), style::bytes(n)),
                Some(n) => write!(w, "{} of {} {unit}", style::count(s.pos()), style::count(n)),
                None => write!(w, "{}", amount(s.pos() as f64, unit)),
            };
        };
        let bytes = Arc::new(AtomicU64::new(0));
        let known = bytes.clone();
        let rate = move |s: &ProgressState, w: &mut dyn std::fmt::Write| {
            let (bytes, all) = (known.load(Ordering::Relaxed), s.len().unwrap_or(0));
            let read = if all == 0 { 0.0 } else { bytes as f64 / all as f64 * s.per_sec() };
            let _ = write!(w, "{}", rates(s.per_sec(), unit, read));
        };
        let left = |s: &ProgressState, w: &mut dyn std::fmt::Write| {
            let _ = write!(w, "{} left", style::seconds(s.eta().as_secs_f64().ceil().max(0.0)));
        };
        let (bar, template) = match total {
            0 => (ProgressBar::no_length(), "{spinner} {prefix:20} {done}  {rate}  {elapsed}"),
            n => (ProgressBar::new(n), "{prefix:20} {wide_bar:.cyan} {percent:>3} %  {done}  {rate}  {left}"),
        };
        let style = ProgressStyle::with_template(template)
            .expect("a fixed template")
            .with_key("done", done)
            .with_key("rate", rate)
            .with_key("left", left)
            .progress_chars("█▉▊▋▌▍▎▏ ");
        let bar = self.all.add(bar.with_style(style).with_prefix(stage));
        bar.enable_steady_tick(Duration::from_millis(200));
        if let Some(old) = lock(&self.open).insert(stage, Bar { bar, unit, bytes }) {
            old.bar.finish_and_clear();
        }
    }

    fn reads(&self, stage: &'static str, bytes: u64) {
        if let Some(open) = lock(&self.open).get(stage) {
            open.bytes.store(bytes, Ordering::Relaxed);
        }
    }

    fn advance(&self, stage: &'static str, by: u64) {
        if let Some(open) = lock(&self.open).get(stage) {
            open.bar.inc(by);
        }
    }

    fn running(&self, stage: &'static str, tasks: u32) {
        if let Some(bar) = lock(&self.open).get(stage) {
            bar.bar.set_prefix(format!("{stage}, {}", style::plural(tasks.into(), "task")));
        }
    }

    fn end(&self, stage: &'static str) {
        if let Some(Bar { bar, unit, bytes }) = lock(&self.open).remove(stage) {
            let took = bar.elapsed().as_secs_f64();
            let done = bar.position();
            let read = read_by_now(bytes.load(Ordering::Relaxed), done, bar.length().unwrap_or(0));
            bar.finish_and_clear();
            if took >= 1.0 || self.verbosity > 0 {
                let line = finished(stage, unit, done, read, took);
                Look::stderr().line(Tone::Dim, &line).above(&self.all);
            }
        }
    }

    fn warn(&self, message: &str) {
        warning(message).above(&self.all);
    }
}

fn finished(stage: &str, unit: &str, done: u64, read: f64, seconds: f64) -> String {
    let second = seconds.max(1e-9);
    let rates = rates(done as f64 / second, unit, read / second);
    format!("{stage:20} {}  {}  {rates}", style::seconds(seconds), amount(done as f64, unit))
}

/// A line an event, without a terminal.
#[derive(Default)]
struct Lines {
    json: bool,
    quiet: bool,
    open: Mutex<BTreeMap<&'static str, Open>>,
}

struct Open {
    unit: &'static str,
    done: u64,
    total: u64,
    bytes: u64,
    begun: Instant,
    told: Instant,
}

/// No more than this often for one stage.
const PAUSE: Duration = Duration::from_millis(500);

impl Lines {
    fn tell(&self, event: &str, stage: &str, open: &Open) {
        let seconds = open.begun.elapsed().as_secs_f64();
        let read = read_by_now(open.bytes, open.done, open.total);
        if self.json {
            let rate = open.done as f64 / seconds.max(1e-9);
            let eta = match (open.total, open.done) {
                (0, _) | (_, 0) => None,
                (total, done) => Some(total.saturating_sub(done) as f64 / rate),
            };
            let line = json!({"event": event, "stage": stage, "unit": open.unit, "done": open.done,
                "total": open.total, "bytes": read as u64, "seconds": seconds, "rate": rate, "eta": eta});
            super::json_line(&line).to_stderr();
        } else if event == "end" {
            let line = finished(stage, open.unit, open.done, read, seconds);
            Look::stderr().line(Tone::Plain, &line).to_stderr();
        }
    }
}

impl Observer for Lines {
    fn begin(&self, stage: &'static str, unit: &'static str, total: u64) {
        let now = Instant::now();
        let open = Open { unit, done: 0, total, bytes: 0, begun: now, told: now };
        self.tell("begin", stage, &open);
        lock(&self.open).insert(stage, open);
    }

    fn advance(&self, stage: &'static str, by: u64) {
        if let Some(open) = lock(&self.open).get_mut(stage) {
            open.done += by;
            if open.told.elapsed() >= PAUSE {
                open.told = Instant::now();
                self.tell("advance", stage, open);
            }
        }
    }

    fn reads(&self, stage: &'static str, bytes: u64) {
        if let Some(open) = lock(&self.open).get_mut(stage) {
            open.bytes = bytes;
        }
    }

    fn end(&self, stage: &'static str) {
        if let Some(open) = lock(&self.open).remove(stage) {
            self.tell("end", stage, &open);
        }
    }

    fn warn(&self, message: &str) {
        if self.json {
            super::json_line(&json!({"event": "warning", "message": message})).to_stderr();
        } else if !self.quiet {
            warning(message).to_stderr();
        }
    }
}
