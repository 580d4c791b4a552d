//! Puts the settings together: flag > environment > file > default, each value with its origin.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::builder::StyledStr;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use serde::Serialize;
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use crate::config::{Layer, Origin, Settings, leaves};
use crate::kit::error::{Error, Result};

/// The file that is read without `--config`, if it is there.
const FILE: &str = "batchwright.toml";
const PREFIX: &str = "BATCHWRIGHT_";

/// Where a worker looks for encoders: no setting of a run.
const ENCODERS: &str = "BATCHWRIGHT_ENCODERS";

/// Variable of a flag: `--batch-size` is BATCHWRIGHT_BATCH_SIZE.
fn variable(long: &str) -> String {
    PREFIX.to_string() + &long.to_uppercase().replace('-', "_")
}

/// What the definitions of the flags leave out: the defaults in their help, taken from the config; the environment
/// variables of settings (an empty one counts as not set); and that numbers may be negative, so that -1 is refused as
/// a value and not as an unknown flag.
pub fn prepare(command: Command, defaults: &BTreeMap<String, String>) -> Command {
    let command = command.mut_args(|mut arg| {
        if let Some(default) = defaults.get(arg.get_id().as_str()) {
            let add = |help: &StyledStr| format!("{help} [default: {default}]");
            if let Some(help) = arg.get_long_help().map(add) {
                arg = arg.long_help(help);
            }
            if let Some(help) = arg.get_help().map(add) {
                arg = arg.help(help);
            }
        }
        let variable = arg.get_long().map(variable).filter(|_| is_setting(arg.get_id().as_str()));
        if let Some(name) = variable.filter(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty())) {
            arg = arg.env(name).hide_env(true);
        }
        if arg.get_action().takes_values() { arg.allow_negative_numbers(true) } else { arg }
    });
    command.mut_subcommands(|inner| prepare(inner, defaults))
}

/// The defaults worth a word in the help; where none is one value, the flag's text says what happens.
pub fn defaults() -> BTreeMap<String, String> {
    let values = Settings::new(&[]).expect("defaults are valid").values;
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let spoken = ["run.threads", "run.memory", "run.task_bytes"];
    (values.into_iter().filter(|(key, _)| !spoken.contains(&key.as_str())))
        .filter_map(|(key, (value, _))| Some((key, text(value)?)))
        .collect()
}

pub fn is_setting(id: &str) -> bool {
    ["seed", "config", "progress"].contains(&id) || id.contains('.')
}

/// The flags that are settings, with their variables.
fn settings(command: &Command) -> impl Iterator<Item = (&clap::Arg, String)> {
    let settings = command.get_arguments().filter(|a| is_setting(a.get_id().as_str()));
    settings.filter_map(|a| Some((a, variable(a.get_long()?))))
}

/// Variables that look like settings but are none: most likely misspelt.
pub fn unknown_variables(command: &Command) -> Vec<String> {
    fn collect(command: &Command, names: &mut Vec<OsString>) {
        names.extend(settings(command).map(|(_, name)| OsString::from(name)));
        command.get_subcommands().for_each(|c| collect(c, names));
    }
    let mut known = Vec::new();
    collect(command, &mut known);
    let mut unknown: Vec<String> = std::env::vars_os()
        .filter(|(name, _)| !known.contains(name))
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with(PREFIX) && name != ENCODERS)
        .collect();
    unknown.sort();
    unknown
}

/// All layers for the flags of one verb. `matches` distinguishes a flag from an environment variable.
pub fn resolve(
    file: Option<&Path>,
    flags: &impl Serialize,
    command: &Command,
    matches: &ArgMatches,
) -> Result<Settings> {
    let mut layers = Vec::new();
    if let Some(path) = file.or_else(|| Some(Path::new(FILE)).filter(|p| p.exists())) {
        layers.push(from_file(path)?);
    }
    layers.push(from_flags(flags, command, matches)?);
    Settings::new(&layers)
}

/// The text of a file, without the mark that editors on Windows begin it with.
fn read_text(path: &Path) -> std::io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text))
}

/// The settings in a file, each with its line.
pub fn from_file(path: &Path) -> Result<Layer> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::config("--config", format!("there is no file {name}"), "check the spelling of the path")
        }
        _ => Error::config("--config", format!("cannot read {name}: {e}"), ""),
    })?;
    let line = |place: usize| text[..place].matches('\n').count() + 1;
    let wrong = |e: toml::de::Error| {
        let place = e.span().map_or(String::new(), |s| format!(":{}", line(s.start)));
        Error::config(
            format!("{name}{place}"),
            e.message().replace('\n', ", "),
            "the file is TOML, see toml.io",
        )
    };
    let values: Value = toml::from_str(&text).map_err(wrong)?;
    let table = DeTable::parse(&text).map_err(wrong)?;
    let place = |key: &str| {
        let mut table = table.get_ref();
        let mut at = 0;
        for part in key.split('.') {
            let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part) else { break };
            at = name.span().start;
            match value.get_ref() {
                DeValue::Table(inner) => table = inner,
                _ => break,
            }
        }
        line(at)
    };
    let mut layer = Layer::new();
    for (key, value) in leaves(&values) {
        let line = place(&key);
        // TOML has nan and inf, JSON has not.
        if value.is_null() {
            let reason = format!("{key} is not a finite number");
            return Err(Error::config(format!("{name}:{line}"), reason, "leave it out for the default"));
        }
        layer.insert(key, (value, Origin::File(name.clone(), line)));
    }
    Ok(layer)
}

fn from_flags(flags: &impl Serialize, command: &Command, matches: &ArgMatches) -> Result<Layer> {
    let given = serde_json::to_value(flags).expect("flags are plain values");
    let mut layer = Layer::new();
    for (key, value) in leaves(&given).into_iter().filter(|(_, v)| !v.is_null()) {
        let long = command.get_arguments().find(|a| a.get_id() == key.as_str()).and_then(|a| a.get_long());
        let long = long.unwrap_or(&key);
        let origin = match matches.value_source(&key) {
            Some(ValueSource::EnvVariable) => Origin::Env(variable(long)),
            _ => Origin::Flag(format!("--{long}")),
        };
        layer.insert(key, (value, origin));
    }
    allocation(&mut layer)?;
    Ok(layer)
}

/// `--allocation FILE` is the allocation `shares` with the shares from the file; a list or a table of them may stand for it.
pub fn allocation(layer: &mut Layer) -> Result<()> {
    let Some((choice, origin)) = layer.get("batches.allocation").cloned() else { return Ok(()) };
    let shares = match choice {
        Value::String(choice) if ["proportional", "equal", "tau"].contains(&choice.as_str()) => return Ok(()),
        Value::String(path) => shares(&path)?,
        given => given,
    };
    layer.insert("batches.shares".into(), (shares, origin.clone()));
    layer.insert("batches.allocation".into(), ("shares".into(), origin));
    Ok(())
}

/// Shares of the strata from a JSON or TOML file: a list, or a table from the number of a stratum to its share.
fn shares(path: &str) -> Result<Value> {
    let wrong = |reason: String| {
        Error::config(
            "--allocation",
            reason,
            "a file holds a list of shares, or a table from stratum number to share",
        )
    };
    let text = read_text(Path::new(path)).map_err(|e| {
        wrong(format!("`{path}` is neither proportional, equal or tau, nor a file that can be read ({e})"))
    })?;
    let value = serde_json::from_str(&text)
        .or_else(|_| toml::from_str::<Value>(&text))
        .map_err(|e| wrong(format!("{path} is neither JSON nor TOML: {}", e.message())))?;
    match value {
        // TOML has no list at its top: `shares = [...]`.
        Value::Object(mut table) if table.contains_key("shares") => Ok(table["shares"].take()),
        Value::Object(mut table) => (0..table.len())
            .map(|stratum| table.remove(&stratum.to_string()))
            .collect::<Option<_>>()
            .map(Value::Array)
            .ok_or_else(|| wrong(format!("{path} does not name every stratum from 0 to {}", table.len()))),
        list => Ok(list),
    }
}
