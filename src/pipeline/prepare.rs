//! Before the assignment pass: the dataset, the columns and what each is for, the rows that count, and the sample.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::DataType;
use arrow_select::filter::filter_record_batch;

use crate::config::Config;
use crate::engine::{self, Sampling};
use crate::features::{self, Encoder, Features, InputReader, Inputs, Points, PointsReader, State, listed};
use crate::kit::error::{Error, Result};
use crate::kit::ids::NONE;
use crate::modalities::{self, EstimatorSpec, Sample};
use crate::parts::Local;
use crate::source::{Column, Columns, Dataset, Kind, Naming, Origin, RawRows, Selection};
use crate::statistics::gain::Gain;

/// Distinct names of a column's cells, and their ids in order of name.
#[derive(Clone, Debug, Default)]
pub struct Values {
    pub column: String,
    pub naming: Naming,
    pub ids: BTreeMap<String, u32>,
    /// First row of every value, in id order.
    pub first_rows: Vec<u64>,
}

/// Which columns are read, and why.
#[derive(Clone, Debug)]
pub struct Roles<'a> {
    pub inputs: Inputs,
    /// Of the column that is encoded, if one is.
    pub encoder: Option<&'a Encoder>,
    /// The column that stratifies, if one does.
    pub stratify: Option<String>,
    /// The column whose values are the modalities.
    pub modality: Option<String>,
    /// Columns the config names: their bytes make the fingerprints.
    pub named: Vec<String>,
    /// Non-vector columns of the sample pass: all that can be profiled (less long texts, which are found out on the way),
    /// and the table columns among `named`.
    pub sample_table: Vec<String>,
    /// (what, text) for people: which columns are features, and why others are not.
    pub told: Vec<(String, String)>,
}

impl<'a> Roles<'a> {
    pub fn choose(config: &Config, dataset: &Dataset, encoder: Option<&'a Encoder>) -> Result<Self> {
        let mut taken: Vec<String> = Vec::new();
        for (role, name) in config.roles() {
            let column = dataset.column(name, role)?;
            let stratifies = role == "strata.by";
            if !(column.kind.is_plain() || stratifies && column.kind == Kind::Labels) {
                let reason =
                    format!("column `{name}` is of type {}, not one plain value a row", column.stored);
                let lists = if stratifies { "; or lists of text, whose rarest label counts" } else { "" };
                return Err(Error::config(
                    role,
                    reason,
                    format!("name an integer, text, boolean or date column{lists}"),
                ));
            }
            if matches!(column.kind, Kind::Text | Kind::Labels)
                && stratifies
                && config.strata.bins().is_some()
            {
                let reason = format!("column `{name}` is of type {}, which has no quantiles", column.stored);
                return Err(Error::config(role, reason, "leave out the bins, or name a column of numbers"));
            }
            taken.push(name.into());
        }
        if let Some(name) = &config.splits.time {
            let column = dataset.column(name, "splits.time")?;
            if matches!(column.kind, Kind::Text | Kind::Boolean) {
                let reason = format!("is of type {}, neither a number nor a date", column.stored);
                let help = "name a column of numbers or dates with --split-time";
                return Err(Error::input("dataset", reason, help).column(name));
            }
        }
        for name in &config.locality.read {
            dataset.column(name, "locality.read")?;
        }
        if let Some(sql) = &config.source.filter {
            taken.extend(dataset.filter_columns(sql)?);
        }
        let taken: Vec<&str> = taken.iter().map(String::as_str).collect();
        let inputs = Inputs::choose(&config.features, dataset.columns(), &taken)?.encoded_by(encoder)?;
        let named = config.named(&inputs, dataset)?;
        let stratify = config.strata.column().map(String::from);
        let modality = match config.modalities.estimator {
            EstimatorSpec::Column => config.modalities.column.clone(),
            _ => None,
        };
        // Labels are read where they stratify.
        let plain = |c: &&Column| c.kind.is_plain() || stratify.as_ref() == Some(&c.name);
        // No two UUIDs are the same: there is nothing to tell of them.
        let told = |c: &&Column| c.origin != Origin::Id || named.contains(&c.name);
        let sample_table =
            dataset.columns().iter().filter(plain).filter(told).map(|c| c.name.clone()).collect();
        let told = told_columns(&inputs, dataset);
        Ok(Roles { inputs, encoder, stratify, modality, named, sample_table, told })
    }
}

/// Which columns are features; where nobody named them, why each other one is none; and which ones files disagree about.
fn told_columns(inputs: &Inputs, dataset: &Dataset) -> Vec<(String, String)> {
    let features = listed(inputs.order.iter().map(|(name, _)| name.as_str()));
    let mut lines = vec![("features".to_string(), features)];
    let passed_over = inputs.passed_over.iter().flatten();
    let passed_over: Vec<String> = passed_over
        .map(|(why, names)| format!("{} ({why})", listed(names.iter().map(String::as_str))))
        .collect();
    if !passed_over.is_empty() {
        lines.push(("  not taken".into(), passed_over.join(", ")));
    }
    let differing = dataset.columns().iter().filter_map(|c| Some((&c.name, c.differs.as_ref()?)));
    let mut differing: Vec<String> =
        differing.map(|(name, differs)| format!("`{name}` {} ({})", differs.reason, differs.file)).collect();
    let more = differing.len().saturating_sub(MOST_DIFFERING);
    differing.truncate(MOST_DIFFERING);
    if more > 0 {
        differing.push(format!("and {more} more"));
    }
    let what = |i: usize| if i == 0 { "  not read" } else { "" };
    lines.extend(differing.into_iter().enumerate().map(|(i, text)| (what(i).to_string(), text)));
    lines
}

/// Columns whose differences are told one by one.
const MOST_DIFFERING: usize = 5;

/// The sample with everything that was learnt on the way.
pub struct Prepared {
    pub selection: Selection,
    /// Values of the label, if there is one.
    pub classes: Option<Values>,
    pub stratify: Option<Values>,
    pub modality: Option<Values>,
    pub sample: Sample,
    /// The sample's non-vector columns, same rows as `sample`.
    pub table: Option<RecordBatch>,
    pub features: Features,
    /// (fingerprint, bytes read for it) of every row group.
    pub fingerprints: Vec<(String, u64)>,
    /// What is worth a second look in features that nobody named.
    pub warnings: Vec<String>,
}

/// The values of a column. `with_null`: rows without one are a group called "null" (a label's nulls are the gain's own
/// business).
fn values(
    dataset: &Dataset,
    column: &str,
    naming: Naming,
    with_null: bool,
    selection: &Selection,
    engine: &Local,
) -> Result<Values> {
    let mut found = dataset.values(column, &naming, selection, engine)?;
    let present: u64 = found.iter().map(|v| v.1).sum();
    if with_null && present < selection.count() && !found.iter().any(|v| v.0 == "null") {
        // Where the first of them is does not matter.
        found.push(("null".into(), selection.count() - present, found.first().map_or(0, |v| v.2)));
        found.sort();
    }
    let first_rows = found.iter().map(|v| v.2).collect();
    let ids = found.into_iter().enumerate().map(|(i, v)| (v.0, i as u32)).collect();
    Ok(Values { column: column.into(), naming, ids, first_rows })
}

/// Labels that are floating point numbers (of integers with nulls, most often) must be whole ones.
fn whole_classes(dataset: &Dataset, classes: &Values) -> Result<()> {
    if dataset.read_as(&classes.column)?.table != DataType::Float64 {
        return Ok(());
    }
    let whole = |text: &String| text.parse::<f64>().is_ok_and(|x| x.fract() == 0.0);
    match classes.ids.keys().find(|text| !whole(text)) {
        None => Ok(()),
        Some(text) => Err(Error::config(
            "source.label",
            format!(
                "column `{}` holds fractional numbers such as {text}, a label is a class",
                classes.column
            ),
            "name a column of whole numbers, truth values or text with --label, or leave it out",
        )),
    }
}

/// Of features that nobody named, those that say where a row lies or when it was made.
fn doubtful(dataset: &Dataset, roles: &Roles, raw: &RawRows) -> Result<Vec<String>> {
    if roles.inputs.passed_over.is_none() {
        return Ok(Vec::new());
    }
    let mut doubts = Vec::new();
    let mut left = Vec::new();
    for name in &roles.inputs.table {
        if dataset.column(name, "features.columns")?.origin == Origin::Time {
            doubts.push(format!("`{name}` is a time"));
        } else if features::ascends(raw.table.as_ref(), name)? {
            doubts.push(format!("`{name}` rises from row to row, as an index does"));
        } else {
            left.push(name.as_str());
        }
    }
    if doubts.is_empty() {
        return Ok(Vec::new());
    }
    let them = if doubts.len() == 1 { "it" } else { "them" };
    let instead = match &left[..] {
        [] => "other features: --features COLUMN,...".to_string(),
        left if left.len() > MOST_SHOWN => format!("name the other {} with --features", left.len()),
        // One flag a name where names have commas themselves.
        left if left.iter().any(|name| name.contains(',')) => {
            format!("without {them}: --features '{}'", left.join("' --features '"))
        }
        left => format!("without {them}: --features {}", left.join(",")),
    };
    Ok(vec![format!("{}; {instead}", doubts.join(", "))])
}

/// Names that are written into a suggestion.
const MOST_SHOWN: usize = 20;

/// What reading has changed: told at the end of a run, when everything was read.
pub fn rounded(dataset: &Dataset, inputs: &Inputs) -> Vec<String> {
    let found = dataset.rounded();
    let of = |names: &[String]| listed(names.iter().filter(|n| found.contains(*n)).map(String::as_str));
    let mut warnings = Vec::new();
    for (names, limit, to) in [(&inputs.vectors, "2^24", "f32"), (&inputs.table, "2^53", "f64")] {
        if names.iter().any(|name| found.contains(name)) {
            warnings
                .push(format!("{}: whole numbers beyond {limit} are rounded to the nearest {to}", of(names)));
        }
    }
    warnings
}

/// What is kept of an older plan.
pub struct Kept {
    pub features: Features,
    /// What it calls the cells of the column that stratifies.
    pub naming: Naming,
}

/// Reads the sample: one pass over the planned columns, fingerprints included.
pub fn prepare(
    dataset: &Dataset,
    roles: &Roles,
    config: &Config,
    kept: Option<Kept>,
    engine: &Local,
) -> Result<Prepared> {
    let selection = match &config.source.filter {
        Some(sql) => dataset.select(sql, engine)?,
        None => Selection::all(dataset.rows()),
    };
    if selection.count() == 0 {
        return Err(no_rows(dataset, config));
    }
    let column = |name: &Option<String>, with_null| {
        let of = |c: &String| values(dataset, c, Naming::Value, with_null, &selection, engine);
        name.as_ref().map(of).transpose()
    };
    if let Some(label) = &config.source.label {
        Gain::check_label(label, &dataset.column(label, "source.label")?.kind)?;
    }
    let classes = column(&config.source.label, false)?;
    if let Some(classes) = &classes {
        whole_classes(dataset, classes)?;
    }
    let modality = column(&roles.modality, true)?;

    let resolution = config.modalities.resolution;
    let keep = |row| selection.contains(row);
    let mut sample =
        modalities::sample::plan_sample(dataset.rows(), selection.count(), keep, resolution, config.seed);
    let wanted = config.sample_rows(selection.count());
    if (sample.rows.len() as u64) < wanted {
        let more = modalities::sample::more(dataset.rows(), selection.count(), keep, wanted, config.seed);
        sample = sample.with(&more);
    }
    // Every value of the modality column is seen at least once, so that each modality has a centre.
    if let Some(values) = &modality {
        sample = sample.with(&values.first_rows);
    }
    let table = short_columns(dataset, roles, &sample.rows, engine)?;
    let progress = engine.progress().clone();
    let reader = InputReader::new(dataset, &roles.inputs, table.clone(), roles.encoder, &keep, progress)?;
    let sampling = Sampling { inputs: roles.inputs.clone(), table, named: roles.named.clone() };
    let all: Vec<usize> = (0..dataset.row_groups().len()).collect();
    let (mut raw, fingerprints) =
        engine::sample("sample", dataset, roles.encoder, &sampling, &all, &sample.rows, engine)?;
    let warnings = doubtful(dataset, roles, &raw)?;

    let (features, naming) = match kept {
        Some(Kept { features, naming }) => (features, Some(naming)),
        None => (Features::fit(&roles.inputs, &config.features, &raw)?, None),
    };
    let place = |row| dataset.describe_row(row);
    let mut points = Points::default();
    PointsReader::new(&features, reader, config.source.invalid, &keep, &place)
        .points(&mut raw, &mut points)?;
    let usable: Vec<bool> = points.state.iter().map(|&s| s == State::Planned).collect();
    let gone: Vec<usize> = (0..usable.len()).filter(|&i| !usable[i]).collect();
    sample.points = points.points;
    let sample = sample.without(&gone);
    let table = points.table.map(|t| keep_rows(&t, usable)).transpose()?;
    if sample.rows.is_empty() {
        return Err(no_rows(dataset, config));
    }
    let stratify = match &roles.stratify {
        Some(column) => {
            let cells = features::column(table.as_ref(), column)?;
            let fit = || match (&dataset.column(column, "strata.by")?.kind, config.strata.bins()) {
                (Kind::Labels, _) => Ok(Naming::rarest(cells)),
                (_, Some(bins)) => Ok(Naming::quantiles(cells, bins)),
                (_, None) => Ok(Naming::Value),
            };
            let naming = naming.map_or_else(fit, Ok)?;
            Some(values(dataset, column, naming, true, &selection, engine)?)
        }
        None => None,
    };
    Ok(Prepared { selection, classes, stratify, modality, sample, table, features, fingerprints, warnings })
}

/// Texts of more bytes than this on average are documents, not values: they are not profiled, and so not read.
pub const LONG_TEXT: usize = 1024;
/// Sample rows that decide it.
const PROBED: usize = 256;

/// The sample table without long texts that no setting names. Looks at cells, not at footers: how the same rows are
/// encoded must not change the plan.
fn short_columns(dataset: &Dataset, roles: &Roles, sample: &[u64], engine: &Local) -> Result<Vec<String>> {
    let mut table = roles.sample_table.clone();
    let is_text = |name: &String| dataset.columns().iter().any(|c| &c.name == name && c.kind == Kind::Text);
    let texts: Vec<String> =
        table.iter().filter(|n| is_text(n) && !roles.named.contains(n)).cloned().collect();
    if texts.is_empty() {
        return Ok(table);
    }
    let probe = &sample[..sample.len().min(PROBED)];
    // A few rows at a time: the longest texts are found out by the first of them.
    let (mut bytes, mut texts, mut first) = (vec![0; texts.len()], texts, 0);
    while first < probe.len() && !texts.is_empty() {
        let some = &probe[first..probe.len().min(2 * first + 1)];
        first += some.len();
        let cells = Columns::new(dataset, Vec::new(), texts.clone())?.gather(some, engine)?.table;
        for (bytes, cells) in bytes.iter_mut().zip(cells.iter().flat_map(RecordBatch::columns)) {
            *bytes += cells.as_string::<i32>().iter().flatten().map(str::len).sum::<usize>();
        }
        let long = |bytes: usize| bytes > LONG_TEXT * probe.len();
        table.retain(|kept| !texts.iter().zip(&bytes).any(|(name, &bytes)| name == kept && long(bytes)));
        let mut known = bytes.iter();
        texts.retain(|_| known.next().is_some_and(|&bytes| !long(bytes)));
        bytes.retain(|&bytes| !long(bytes));
    }
    Ok(table)
}

fn keep_rows(table: &RecordBatch, keep: Vec<bool>) -> Result<RecordBatch> {
    filter_record_batch(table, &BooleanArray::from(keep)).map_err(|e| {
        Error::input("dataset", "the sampled columns cannot be held in memory", "lower --resolution")
            .because(e)
    })
}

fn no_rows(dataset: &Dataset, config: &Config) -> Error {
    let reason = match &config.source.filter {
        Some(sql) => format!("no row of {} is left by `{sql}`", dataset.rows()),
        None => format!("none of the {} rows can be used", dataset.rows()),
    };
    Error::input("dataset", reason, "check --where and the feature columns")
}

/// Ids of the sample's cells in a text dictionary; [`NONE`] never occurs for values of the prepass.
pub fn sample_ids(table: &Option<RecordBatch>, values: &Values) -> Vec<u32> {
    let Some(column) = table.as_ref().and_then(|t| t.column_by_name(&values.column)) else {
        return Vec::new();
    };
    let names = values.naming.names(column);
    let id = |i| values.ids.get(names.get(i).as_deref().unwrap_or("null")).copied().unwrap_or(NONE);
    (0..column.len()).map(id).collect()
}
