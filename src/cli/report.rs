//! `report`: what a plan says, as one HTML page.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::style;
use crate::config::{Settings, leaves};
use crate::format::Manifest;
use crate::kit::error::{Error, Result};
use crate::plan::Plan;
use crate::report::{self, Drift};

const EXAMPLE: &str = "\
Example:
  batchwright report plan -o report.html";

/// Show a plan as one HTML page, with pictures
///
/// The page needs no network and no other file. The same plan gives the same bytes.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub struct Flags {
    /// Directory of the plan
    plan: PathBuf,
    /// File to write; -: standard output
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Show what `check` found, too: the file with its JSON output
    #[arg(long, value_name = "FILE")]
    drift: Option<PathBuf>,
    /// Replace a file that is no report
    #[arg(long)]
    force: bool,
}

pub fn run(flags: Flags, quiet: bool) -> Result<String> {
    let (out, to_stdout) = (&flags.out, flags.out.as_os_str() == "-");
    if !to_stdout && !flags.force {
        check_free(out)?;
    }
    let plan = Plan::open(&flags.plan)?;
    let drift = flags.drift.as_deref().map(|path| read_drift(path, &plan.manifest().plan)).transpose()?;
    let page =
        report::render(&report::Input { command: Some(command(plan.manifest())), plan: &plan, drift })?;
    if to_stdout {
        return Ok(page);
    }
    write(out, &page)?;
    Ok(if quiet {
        String::new()
    } else {
        format!("{}: {}\n", out.display(), style::bytes(page.len() as u64))
    })
}

/// An older report may be replaced, anything else is kept.
fn check_free(out: &Path) -> Result<()> {
    let Ok(mut file) = fs::File::open(out) else { return Ok(()) };
    let mut head = vec![0; report::BEGIN.len()];
    match file.read_exact(&mut head) {
        Ok(()) if head == report::BEGIN.as_bytes() => Ok(()),
        _ => Err(Error::config(
            "--out",
            format!("{} exists and is no report", out.display()),
            "choose another name, or --force to replace it",
        )),
    }
}

fn read_drift(path: &Path, plan: &str) -> Result<Drift> {
    let wrong = |reason: String| {
        Error::input(path.display().to_string(), reason, "name the JSON output of `check` with this plan")
    };
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let drift: Drift =
        serde_json::from_str(&text).map_err(|e| wrong(format!("is no outcome of a check: {e}")))?;
    if drift.plan_id != plan {
        let other = style::shorten(&drift.plan_id, 13);
        return Err(wrong(format!("is about another plan, {other}, not {}", style::shorten(plan, 13))));
    }
    Ok(drift)
}

/// Beside, then renamed: a reader sees the old page or the new one, and a killed run leaves the old one.
fn write(out: &Path, page: &str) -> Result<()> {
    let Some(name) = out.file_name().filter(|_| !out.is_dir()) else {
        let reason = format!("{} is no name for a file", out.display());
        return Err(Error::config("--out", reason, "name a file, such as report.html"));
    };
    let beside =
        out.with_file_name(format!(".{}.batchwright-{}", name.to_string_lossy(), std::process::id()));
    let written = fs::File::create(&beside)
        .and_then(|mut file| file.write_all(page.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(Error::io("write", out))
        .and_then(|()| fs::rename(&beside, out).map_err(Error::io("rename to", out)));
    if written.is_err() {
        // The first failure is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// The command that makes the plan again, where its inputs are: they are named as plan.json names them.
fn command(m: &Manifest) -> String {
    let all = super::command();
    let flags = all.find_subcommand("plan").expect("there is `plan`");
    let defaults = Settings::new(&[]).expect("defaults are valid").values;
    // With many files, the folder that they are in.
    let mut words: Vec<String> = vec!["batchwright plan".into()];
    match m.inputs.len() {
        0..=4 => words.extend(m.inputs.iter().map(|i| quote(&i.path))),
        _ => words.push(".".into()),
    }
    words.push("-o PLAN".into());
    for (key, value) in leaves(&m.config) {
        if value.is_null() || defaults.get(&key).is_some_and(|(default, _)| *default == value) {
            continue;
        }
        let text = match (&value, key.as_str()) {
            (_, "batches.shares") => "SHARES.json".into(),
            (Value::String(choice), "batches.allocation") if choice == "shares" => continue,
            (Value::Array(list), _) => list.iter().map(plain).collect::<Vec<_>>().join(","),
            (other, _) => plain(other),
        };
        let id = if key == "batches.shares" { "batches.allocation" } else { &key };
        let flag = flags.get_arguments().find(|a| a.get_id() == id).and_then(|a| a.get_long());
        let Some(flag) = flag else { continue };
        // A flag that may stand alone takes its value after `=` only.
        words.push(match &value {
            Value::Bool(value) => format!("--{flag}={value}"),
            _ => format!("--{flag} {}", quote(&text)),
        });
    }
    words.join(" ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One word for a POSIX shell.
fn quote(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(safe) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(
            ["a.parquet", "a b", "it's", "", "$HOME"].map(quote),
            ["a.parquet", "'a b'", r"'it'\''s'", "''", "'$HOME'"]
        );
    }
}
