//! `config show`: every setting, its value and where it comes from.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::flags::PlanFlags;
use super::style::Text;
use super::{ConfigFile, Context};
use crate::config::Layer;
use crate::kit::error::Result;
use crate::kit::text;

/// Show the settings and where each comes from
#[derive(Args)]
pub struct Flags {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Show(Box<Show>),
}

/// Print every setting as `plan` would use it, and where it comes from
///
/// Takes the flags of `plan`. The output is a config file: save it as batchwright.toml and edit it.
#[derive(Args)]
struct Show {
    #[command(flatten)]
    flags: PlanFlags,
    #[command(flatten)]
    file: ConfigFile,
    /// Print one JSON object: key to value and origin
    #[arg(long, help_heading = "Messages")]
    json: bool,
}

pub fn run(flags: Flags, context: &Context) -> Result<Text> {
    let Verb::Show(show) = flags.verb;
    let values = context.settings(&show.file, &show.flags)?.values;
    if show.json {
        let entry =
            |(value, origin): &(Value, _)| json!({"value": value, "origin": ToString::to_string(origin)});
        let all: Map<String, Value> = values.iter().map(|(key, given)| (key.clone(), entry(given))).collect();
        return Ok(super::json(&all));
    }
    Ok(Text::document(&text::toml(&as_toml(&values))))
}

/// A config file whose comments name the origins. TOML has no null: a setting without a value is a comment.
fn as_toml(values: &Layer) -> String {
    let mut lines: Vec<(String, String, String)> = Vec::new();
    for (key, (value, origin)) in values {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        let line = match value {
            Value::Null => format!("# {name} ="),
            value => format!("{name} = {}", literal(value)),
        };
        lines.push((table.into(), line, text::Clean(origin).to_string()));
    }
    // Keys outside of tables come first, as TOML wants it.
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    let width = lines.iter().map(|(_, line, _)| line.chars().count()).max().unwrap_or(0).min(48);
    let (mut out, mut open) = (String::new(), String::new());
    for (table, line, origin) in lines {
        if table != open {
            out += &format!("\n[{table}]\n");
            open = table;
        }
        out += &format!("{line:width$}  # {origin}\n");
    }
    out
}

fn literal(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let inner: Vec<String> = table
                .iter()
                .map(|(k, v)| format!("{} = {}", literal(&k.as_str().into()), literal(v)))
                .collect();
            format!("{{ {} }}", inner.join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(literal).collect::<Vec<_>>().join(", ")),
        // TOML's basic strings escape as JSON's do.
        other => other.to_string(),
    }
}
