//! The verbs as functions of another program (the Python package): what a flag is on the command line is a keyword here, and a
//! verb returns what it prints with `--json`. Neither environment variables nor a `batchwright.toml` that happens to be there count.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::flags::ALL;
use super::{command, settings};
use crate::config::{Layer, Origin, Run, Settings, leaves};
use crate::kit::error::{Error, Result};
use crate::kit::progress::Progress;
use crate::parts::Chosen;
use crate::pipeline::{self, check, diff, encode, materialize, synth};
use crate::plan::Plan;
use crate::report;

/// A setting of a verb.
#[derive(Clone, Debug, Serialize)]
pub struct Keyword {
    /// Its flag's name with `_` for `-`.
    pub name: String,
    /// The dotted key that it sets.
    pub key: String,
    /// What it holds, as the help shows it: "COLUMN,...", "auto|N".
    pub value: String,
    /// The values there are, where they can be counted.
    pub choices: Vec<String>,
    /// Several names, not one.
    pub list: bool,
    /// One line.
    pub help: String,
    /// Heading in the help.
    pub heading: String,
}

/// Settings that are arguments of their own: where a verb writes, and whether it replaces what is there.
const ARGUMENTS: [&str; 3] = ["config", "run.out", "run.force"];

/// The settings of a verb, in the order of its help; none for a verb that there is not.
pub fn keywords(verb: &str) -> Vec<Keyword> {
    let command = command();
    let arguments = command.find_subcommand(verb).into_iter().flat_map(|verb| verb.get_arguments());
    arguments
        .filter(|a| settings::is_setting(a.get_id().as_str()) && !ARGUMENTS.contains(&a.get_id().as_str()))
        .filter_map(keyword)
        .collect()
}

fn keyword(arg: &Arg) -> Option<Keyword> {
    let value = arg.get_value_names().and_then(<[_]>::first).map_or_else(String::new, ToString::to_string);
    Some(Keyword {
        name: arg.get_long()?.replace('-', "_"),
        key: arg.get_id().to_string(),
        list: matches!(arg.get_action(), ArgAction::Append),
        choices: (arg.get_possible_values().iter().filter(|v| !v.is_hide_set()))
            .map(|v| v.get_name().to_string())
            .collect(),
        value,
        help: arg.get_help().map_or_else(String::new, ToString::to_string),
        heading: arg.get_help_heading().unwrap_or_default().to_string(),
    })
}

/// What a verb is asked to do.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// Files, folders, patterns and URLs.
    pub data: Vec<String>,
    /// The plan that it is about; of `diff` the older one.
    pub plan: PathBuf,
    /// Of `diff`: the newer plan.
    pub other: PathBuf,
    pub out: PathBuf,
    pub force: bool,
    /// A path, or a table as in the file.
    pub config: Value,
    /// By keyword.
    pub settings: Map<String, Value>,
    /// Of `update`, as its flags.
    pub refit: bool,
    pub verify: bool,
    pub deal_holdout: bool,
    /// Of `report`: what `check` found.
    pub drift: Option<report::Drift>,
    pub materialize: materialize::Params,
    pub synth: synth::Params,
}

/// Runs a verb, its passes over the data on `engine` if one is given.
///
/// # Errors
/// As the verb; settings are named as keywords.
pub fn call(verb: &str, request: &Request, engine: Option<Chosen>, progress: &Progress) -> Result<Value> {
    run(verb, request, engine, progress).map_err(|error| speak(verb, error))
}

fn run(verb: &str, request: &Request, engine: Option<Chosen>, progress: &Progress) -> Result<Value> {
    let Request { data, plan, out, force, settings: given, .. } = request;
    let settings = |verb: &str, given: &Map<String, Value>| {
        let mut settings = resolve(verb, &request.config, given)?;
        settings.run = Run { out: out.clone(), force: *force, ..settings.run };
        settings.run.engine = engine.or(settings.run.engine);
        Ok::<_, Error>(settings)
    };
    Ok(match verb {
        "plan" => {
            let Settings { config, run, .. } = settings(verb, given)?;
            value(pipeline::plan(data, &config, &run, progress)?)
        }
        "estimate" => {
            let Settings { config, run, .. } = settings("plan", given)?;
            value(pipeline::estimate(data, &config, &run, progress)?)
        }
        "differing" => {
            let Settings { config, run, .. } = settings("plan", given)?;
            value(pipeline::differing(&Plan::open(plan)?, data, &config, &run, progress)?)
        }
        "modalities" if given.get("estimator").is_some_and(|name| name == ALL) => {
            let mut given = given.clone();
            given.remove("estimator");
            let Settings { config, run, .. } = settings(verb, &given)?;
            value(pipeline::compare(data, &config, &run, progress)?)
        }
        "modalities" => {
            let Settings { config, run, .. } = settings(verb, given)?;
            value(pipeline::modalities(data, &config, &run, progress)?)
        }
        "check" => {
            let Settings { check, run, .. } = settings(verb, given)?;
            value(check::check(plan, data, &check, &run, progress)?)
        }
        "update" => {
            let Settings { check, run, .. } = settings(verb, given)?;
            let Request { refit, verify, deal_holdout, .. } = *request;
            value(pipeline::update(plan, data, &check, refit, verify, deal_holdout, &run, progress)?)
        }
        "diff" => value(diff::diff(&Plan::open(plan)?, &Plan::open(&request.other)?)?),
        "report" => {
            let output = match out.as_os_str().is_empty() {
                true => None,
                false => Some(super::report::begin(out, *force, std::slice::from_ref(plan))?),
            };
            let plan = Plan::open(plan)?;
            let command = Some(super::report::command(plan.manifest()));
            let page = report::render(&report::Input { command, plan: &plan, drift: request.drift.clone() })?;
            output.map_or(Ok(()), |output| output.write(page.as_bytes()))?;
            value(page)
        }
        "encode" => {
            let Settings { config, run, .. } = settings(verb, given)?;
            value(encode::write(data, &config, out, &run, progress)?)
        }
        "materialize" => {
            let Settings { run, .. } = settings(verb, given)?;
            value(materialize::materialize(plan, data, &request.materialize, &run, progress, || ())?)
        }
        "synth" => value(synth::write(&request.synth, out, *force, 0, progress)?),
        _ => unreachable!("`{verb}` is not called"),
    })
}

fn value(result: impl Serialize) -> Value {
    serde_json::to_value(result).expect("plain values")
}

/// The settings of a verb: defaults, then `config` (null, the path of a file or a table as in one), then keywords.
///
/// # Errors
/// An unknown key or keyword names the nearest one; values as [`Settings::new`].
pub fn resolve(verb: &str, config: &Value, given: &Map<String, Value>) -> Result<Settings> {
    let mut layers = Vec::new();
    match config {
        Value::Null => {}
        Value::String(path) => layers.push(settings::from_file(Path::new(path))?),
        table => {
            let origin = Origin::Argument("config".into());
            layers
                .push(leaves(table).into_iter().map(|(key, value)| (key, (value, origin.clone()))).collect());
        }
    }
    let known = keywords(verb);
    let mut layer = Layer::new();
    for (name, value) in given {
        let Some(keyword) = known.iter().find(|k| k.name == *name) else {
            let names = known.iter().map(|k| k.name.as_str());
            let near = crate::kit::text::nearest(name, names);
            let help = near.map_or(String::new(), |near| format!("did you mean {near}?"));
            return Err(Error::config(name, format!("is not a setting of {verb}()"), help));
        };
        let value = match value {
            Value::String(_) if keyword.list => Value::Array(vec![value.clone()]),
            value => value.clone(),
        };
        layer.insert(keyword.key.clone(), (value, Origin::Argument(name.clone())));
    }
    settings::allocation(&mut layer)?;
    layers.push(layer);
    Settings::new(&layers)
}

/// The text with the verb's flags named as keywords: `--batch-size` is `batch_size`.
pub fn in_keywords(verb: &str, text: &str) -> String {
    let mut flags: Vec<String> = keywords(verb).into_iter().map(|k| k.name.replace('_', "-")).collect();
    flags.push("config".into());
    // `--features` before `--feature`.
    flags.sort_by_key(|flag| std::cmp::Reverse(flag.len()));
    flags.iter().fold(text.into(), |text, flag| text.replace(&format!("--{flag}"), &flag.replace('-', "_")))
}

fn speak(verb: &str, error: Error) -> Error {
    let named = |text: String| in_keywords(verb, &text);
    match error {
        Error::Config { key, reason, help } => {
            Error::Config { key: named(key), reason: named(reason), help: named(help) }
        }
        Error::Input { path, column, row, reason, help, source } => {
            Error::Input { path, column, row, reason: named(reason), help: named(help), source }
        }
        Error::Plan { path, reason, help } => Error::Plan { path, reason: named(reason), help: named(help) },
        Error::Modalities { reason, help } => Error::Modalities { reason: named(reason), help: named(help) },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn given(settings: Value) -> Map<String, Value> {
        settings.as_object().expect("an object").clone()
    }

    #[test]
    fn a_keyword_is_a_flag() {
        let plan = keywords("plan");
        let batch_size = plan.iter().find(|k| k.name == "batch_size").expect("--batch-size");
        assert_eq!((batch_size.key.as_str(), batch_size.list), ("batch_size.size", false));
        assert!(plan.iter().any(|k| k.name == "features" && k.list), "{plan:?}");
        assert!(!plan.iter().any(|k| ["out", "force", "config", "json"].contains(&k.name.as_str())));
        assert!(keywords("check").iter().any(|k| k.name == "alpha"));
        assert!(keywords("frobnicate").is_empty());
    }

    #[test]
    fn keywords_win_over_the_table_and_the_table_over_defaults() {
        let table = json!({"seed": 7, "batch_size": {"size": 64}});
        let keywords = given(json!({"batch_size": 128, "features": "a,b", "memory": "1GiB"}));
        let settings = resolve("plan", &table, &keywords).unwrap();
        assert_eq!(settings.config.seed, 7);
        assert_eq!(settings.values["batch_size.size"].0, 128);
        assert_eq!(settings.config.features.columns, ["a,b"]);
        assert_eq!(settings.run.memory, 1 << 30);
    }

    #[test]
    fn errors_speak_in_keywords() {
        let wrong = |settings| {
            let request = Request { settings: given(settings), ..Request::default() };
            call("plan", &request, None, &Progress::default()).unwrap_err()
        };
        let e = wrong(json!({"featurs": "x"}));
        assert!(e.to_string().contains("featurs") && e.help().contains("features"), "{e} {}", e.help());
        let e = wrong(json!({"modality_column": "x", "estimator": "kmeans"}));
        assert!(!e.to_string().contains("--") && !e.help().contains("--"), "{e} {}", e.help());
        assert!(e.to_string().contains("modality_column"), "{e}");
        let e = wrong(json!({"batch_size": "many"}));
        assert!(e.to_string().contains("argument batch_size"), "{e}");
    }

    #[test]
    fn shares_are_a_list() {
        let settings = resolve("plan", &Value::Null, &given(json!({"allocation": [0.5, 0.5]}))).unwrap();
        assert_eq!(settings.config.batches.shares, [0.5, 0.5]);
    }
}
