//! `schema`: what a plan's files hold, for people and for other programs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::style::{self, Look, Text, Tone};
use crate::kit::error::{Error, Result};
use crate::kit::output::{Output, Replace};

/// Print the schema of a plan's files
#[derive(Args)]
pub struct Flags {
    /// One kind of file, such as plan, batches or config; without it, the names of all
    kind: Option<String>,
    /// Write all schemas into this directory, one JSON file a kind
    #[arg(long, value_name = "DIR", conflicts_with = "kind")]
    write: Option<PathBuf>,
}

pub fn run(flags: Flags) -> Result<Text> {
    let documents = documents();
    if let Some(dir) = flags.write {
        std::fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let own = |text: &str| text.contains("\"$schema\"") || text.contains("\"one_row_per\"");
        let replace = Replace::Own { kind: "a batchwright schema", is: own, force: false };
        let begin = |kind: &String| Output::file("--write", &dir.join(format!("{kind}.json")), replace, &[]);
        // All are begun before the first is written: where one may not be, none is.
        let outputs = documents.keys().map(begin).collect::<Result<Vec<_>>>()?;
        for (output, text) in outputs.into_iter().zip(documents.values()) {
            output.write(text.as_bytes())?;
        }
        let said =
            format!("{} written to {}", style::plural(documents.len() as u64, "schema"), dir.display());
        return Ok(Look::stdout().line(Tone::Plain, &said));
    }
    let names = || documents.keys().map(String::as_str);
    match flags.kind {
        None => Ok(names().map(|name| Look::stdout().line(Tone::Plain, name)).collect()),
        Some(kind) => match documents.get(&kind) {
            Some(text) => Ok(Text::document(text)),
            None => Err(Error::config(
                "schema",
                format!("there is no kind of file `{kind}`"),
                format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
            )),
        },
    }
}

/// Every kind of file of a plan, the config file, and what `check` and `diff` print as JSON, with its schema.
fn documents() -> BTreeMap<String, String> {
    crate::plan::schema_documents()
        .into_iter()
        .chain([
            ("check.json".into(), crate::pipeline::check::schema()),
            ("diff.json".into(), crate::pipeline::diff::schema()),
        ])
        .map(|(file, text)| (file.trim_end_matches(".json").to_string(), text))
        .collect()
}
