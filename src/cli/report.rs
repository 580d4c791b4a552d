//! `report`: what a plan says, as one HTML page.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::style::{self, Look, Text, Tone};
use crate::batches::batch_size::MULTIPLE;
use crate::config::{Settings, leaves};
use crate::format::Manifest;
use crate::kit::error::{Error, Result};
use crate::kit::output::{Output, Replace};
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
    /// Also show what `check` found: the file with its JSON output
    #[arg(long, value_name = "FILE")]
    drift: Option<PathBuf>,
    /// Replace a file that is not a report
    #[arg(long)]
    force: bool,
}

pub fn run(flags: Flags, quiet: bool) -> Result<Text> {
    let plan = Plan::open(&flags.plan)?;
    let drift = flags.drift.as_deref().map(|path| read_drift(path, &plan.manifest().plan)).transpose()?;
    let out = &flags.out;
    let keep: Vec<PathBuf> = [Some(flags.plan.clone()), flags.drift.clone()].into_iter().flatten().collect();
    let output = match out.as_os_str() == "-" {
        true => None,
        false => Some(begin(out, flags.force, &keep)?),
    };
    let page =
        report::render(&report::Input { command: Some(command(plan.manifest())), plan: &plan, drift })?;
    let Some(output) = output else { return Ok(Text::document(&page)) };
    output.write(page.as_bytes())?;
    Ok(if quiet {
        Text::default()
    } else {
        Look::stdout().line(Tone::Plain, &format!("{}: {}", out.display(), style::bytes(page.len() as u64)))
    })
}

/// Begins the file of a page, over an older one, with `force` over any file but those in `keep`.
pub fn begin(out: &Path, force: bool, keep: &[PathBuf]) -> Result<Output> {
    let replace = match force {
        true => Replace::Any { own: &|_| false },
        false => {
            let is = |text: &str| text.starts_with(report::BEGIN);
            Replace::Own { kind: "a batchwright report", is, force: true }
        }
    };
    Output::file("--out", out, replace, keep)
}

fn read_drift(path: &Path, plan: &str) -> Result<Drift> {
    let wrong = |reason: String| {
        Error::input(path.display().to_string(), reason, "name the JSON output of `check` with this plan")
    };
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let drift: Drift =
        serde_json::from_str(&text).map_err(|e| wrong(format!("is not the JSON output of `check`: {e}")))?;
    if drift.plan_id != plan {
        let other = style::shorten(&drift.plan_id, 13);
        return Err(wrong(format!("is about another plan, {other}, not {}", style::shorten(plan, 13))));
    }
    Ok(drift)
}

/// The command that makes the plan again, where its inputs are: they are named as plan.json names them.
pub fn command(m: &Manifest) -> String {
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
            // Whatever the sizes are, plans that say nothing of it have this one where it fits.
            (Value::Number(multiple), "batch_size.multiple") if multiple.as_u64() == Some(MULTIPLE) => {
                continue;
            }
            (Value::Array(list), "features.columns") if list.iter().any(|name| plain(name).contains(',')) => {
                // Repeated: a name each time, at least twice.
                let twice = if list.len() == 1 { 2 } else { 1 };
                words.extend(
                    list.iter()
                        .cycle()
                        .take(list.len() * twice)
                        .map(|name| format!("--features {}", quote(&plain(name)))),
                );
                continue;
            }
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
