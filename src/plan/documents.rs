//! The format in words, generated from the contracts: `schemas/*.json` and the tables of `docs/format.md`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::Config;

use crate::format::columns::Contract;
use crate::format::manifest::{Manifest, RunInfo, sorted};
use crate::format::{BASE, Kind};

#[derive(Serialize)]
struct TableDocument {
    format: &'static str,
    kind: &'static str,
    path: &'static str,
    one_row_per: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    absent_if: &'static str,
    fields: Vec<FieldDocument>,
    metadata: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct FieldDocument {
    name: &'static str,
    #[serde(rename = "type")]
    ty: String,
    nullable: bool,
    optional: bool,
    meaning: &'static str,
    unit: &'static str,
    range: &'static str,
}

fn document(contract: &Contract) -> TableDocument {
    let mut metadata: BTreeMap<_, _> = contract.metadata.iter().copied().collect();
    metadata.insert("batchwright.format", "version of the format");
    metadata.insert("batchwright.kind", "the kind above");
    TableDocument {
        format: BASE,
        kind: contract.name,
        path: contract.path,
        one_row_per: contract.one_row_per,
        absent_if: contract.absent,
        fields: contract
            .columns
            .iter()
            .map(|c| FieldDocument {
                name: c.name,
                ty: c.ty.text(),
                nullable: c.nullable,
                optional: c.optional,
                meaning: c.meaning,
                unit: c.unit,
                range: c.range,
            })
            .collect(),
        metadata,
    }
}

/// What belongs into `schemas/`: file name -> contents. One contract per table, JSON Schemas of plan.json, run.json and the
/// configuration (a config file, and `config` of plan.json).
pub fn schema_documents() -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for kind in Kind::ALL {
        out.insert(format!("{}.json", kind.name()), pretty(&document(kind.contract())));
    }
    out.insert("plan.json".into(), json_schema(schemars::schema_for!(Manifest)));
    out.insert("run.json".into(), json_schema(schemars::schema_for!(RunInfo)));
    out.insert("config.json".into(), json_schema(schemars::schema_for!(Config)));
    out
}

/// A JSON Schema with sorted keys: the same text whatever map serde_json was built with.
pub fn json_schema(schema: schemars::Schema) -> String {
    pretty(&sorted(schema.as_value()))
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("text and numbers are always JSON") + "\n"
}

/// The tables of `docs/format.md`, in Markdown.
pub fn format_tables() -> String {
    let mut out = String::new();
    for kind in Kind::ALL {
        let c = kind.contract();
        out += &format!("### {}\n\n`{}`: one row per {}.", c.name, c.path, c.one_row_per);
        if !c.absent.is_empty() {
            out += &format!(" Absent if {}.", c.absent);
        }
        out += "\n\n| column | type | unit | range | meaning |\n|---|---|---|---|---|\n";
        for f in c.columns {
            let mut ty = format!("`{}`", f.ty.text());
            if f.nullable {
                ty += ", nullable";
            }
            if f.optional {
                ty += ", may be absent";
            }
            out += &format!("| `{}` | {ty} | {} | {} | {} |\n", f.name, f.unit, f.range, f.meaning);
        }
        for (key, meaning) in c.metadata {
            out += &format!("\nSchema metadata `{key}`: {meaning}.\n");
        }
        out += "\n";
    }
    out
}
