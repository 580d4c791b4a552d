//! Everything the report shows, as one JSON object: what the plan's files say, shortened to what a page can show.
//!
//! Lists about modalities are parallel and in the order of `modality.number`. Numbers keep five significant digits: no chart
//! shows more, and a page of 10 000 points stays below a megabyte.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::composition::{self, Composition, Step};
use super::words::{self, Answer};
use super::{Drift, Input, short};
use crate::format::evidence::Criterion;
use crate::format::manifest::Tool;
use crate::format::profile::ProfileRow;
use crate::format::sample::SampleRow;
use crate::format::{Kind, Manifest};
use crate::kit::error::Result;
use crate::kit::text;
use crate::plan::Plan;

/// Modalities, input files and settings shown; the rest is counted.
const MODALITIES: usize = 2000;
const INPUTS: usize = 200;
/// Bytes on the page, escapes included: of a name or a value, of an example's id, of all different names and values.
const TEXT: usize = 200;
const ID: usize = 80;
const TEXTS: usize = 1_200_000;
/// Values shown of all modalities together, of one at least and at most, and of one of its columns.
const VALUES: usize = 24_000;
const VALUES_OF_MODALITY: std::ops::RangeInclusive<usize> = 12..=80;
const VALUES_OF_COLUMN: usize = 8;
/// Examples nearest to a modality's centre.
const EXAMPLES: usize = 5;
/// Settings of the estimator that are shown.
const EVIDENCE: usize = 5000;

#[derive(Serialize)]
pub struct Data {
    tool: Tool,
    plan: PlanFacts,
    answer: Answer,
    estimator: Value,
    modality: Modalities,
    map: Map,
    /// Different texts of `profile` and `columns`.
    texts: Vec<String>,
    profile: Vec<Vec<ProfileValue>>,
    /// Values that had no room.
    profile_left_out: usize,
    composition: Composition,
    updates: Vec<Step>,
    more_updates: bool,
    weights: Weights,
    candidates: Vec<CandidateFacts>,
    gain: Option<(f64, bool)>,
    curve: Vec<(u32, String, f64)>,
    evidence: Vec<(u32, String, f64)>,
    drift: Option<Drift>,
    command: Option<String>,
    config: Value,
    inputs: Vec<(String, u64, u64, String)>,
    more_inputs: usize,
    files: Vec<(String, String, u64, u64)>,
}

#[derive(Serialize)]
struct PlanFacts {
    id: String,
    format: String,
    rows: u64,
    planned: u64,
    held_out: u64,
    dims: u32,
    modalities: u32,
    strata: u32,
    by: String,
    allocation: String,
    centrality: String,
    batch_size: u32,
    samples_per_modality: f64,
    coverage: f64,
    /// Neighbouring rows that come into a batch together; 1: none.
    chunk: u64,
    /// Batches are dealt in the local order.
    local: bool,
    threshold: f64,
    share: f64,
    share_source: String,
    epochs: u32,
    seed: u64,
    bytes: u64,
}

/// Parallel lists, the largest modality first.
#[derive(Default, Serialize)]
struct Modalities {
    number: Vec<u32>,
    rows: Vec<u64>,
    share: Vec<f64>,
    name: Vec<String>,
    kind: Vec<String>,
    radius: Vec<f64>,
    prominence: Vec<f64>,
    quantiles: Vec<Vec<f64>>,
    /// Places in the map's lists.
    examples: Vec<Vec<u32>>,
    left_out: usize,
}

/// Parallel lists; `modality` is a place in [`Modalities`], -1 for one that is left out.
#[derive(Default, Serialize)]
struct Map {
    row: Vec<u64>,
    modality: Vec<i64>,
    x: Vec<f64>,
    y: Vec<f64>,
    centrality: Vec<f64>,
    /// Empty where no column names the rows.
    id: Vec<String>,
}

/// [column, text, share, share in all rows, lift], texts by number; of a numeric column [column, null, mean, mean of all
/// rows, null, 10 %, median, 90 %].
#[derive(Serialize)]
#[serde(untagged)]
enum ProfileValue {
    Value(usize, usize, f64, f64, f64),
    Number(usize, (), f64, f64, (), f64, f64, f64),
    Length(usize, (), f64, f64),
}

#[derive(Default, Serialize)]
struct Weights {
    progress: Vec<f64>,
    beta: Vec<f64>,
    normaliser: Vec<f64>,
    effective: Vec<f64>,
    formula: String,
    schedule: String,
}

#[derive(Serialize)]
struct CandidateFacts {
    size: u32,
    accumulation: u32,
    batches: u64,
    /// Share of the rows whose modality is in every full batch, and in a random batch on average.
    coverage: f64,
    random: f64,
    recommended: bool,
}

impl Data {
    pub fn answer(&self) -> &Answer {
        &self.answer
    }
}

/// Reads what the page shows: all small tables, and samples.arrow where rows of the map and of some batches stand.
pub fn collect(input: &Input) -> Result<Data> {
    let plan = input.plan;
    let m = plan.manifest();
    let all = plan.modalities()?;
    let shares: Vec<f64> = all.iter().map(|m| m.share).collect();
    let rows: Vec<u64> = all.iter().map(|m| m.rows).collect();
    let mut order: Vec<u32> = (0..all.len() as u32).collect();
    order.sort_by_key(|&m| (std::cmp::Reverse(rows[m as usize]), m));
    order.truncate(MODALITIES);
    let place: BTreeMap<u32, usize> = order.iter().copied().zip(0..).collect();

    let map = map(plan, &place)?;
    let mut modality = Modalities { left_out: all.len() - order.len(), ..Modalities::default() };
    for &number in &order {
        let one = &all[number as usize];
        modality.number.push(number);
        modality.rows.push(one.rows);
        modality.share.push(short(one.share));
        modality.name.push(cut(&one.name, TEXT));
        modality.kind.push(cut(&one.kind, TEXT));
        modality.radius.push(short(one.rms_radius.into()));
        modality.prominence.push(short(one.prominence.into()));
        modality.quantiles.push(one.distance_quantiles.iter().map(|&q| short(q.into())).collect());
    }
    modality.examples = examples(&map, order.len());

    let mut texts = Texts::default();
    let (profile, profile_left_out) = profile(&plan.profile()?.unwrap_or_default(), &order, &mut texts);
    let mut composition = composition::compare(plan, &rows)?;
    if !composition.modality.is_empty() {
        composition.modality = order.iter().map(|&m| composition.modality[m as usize].clone()).collect();
    }
    let (updates, more_updates) = composition::updates(plan)?;
    let mut answer = words::answer(m, &shares);
    answer.plan.extend(plan.reading()?.map(|reading| words::read(&reading)));
    Ok(Data {
        tool: Tool::this(),
        plan: facts(plan, m),
        answer,
        estimator: serde_json::to_value(&m.estimator).expect("plain values"),
        modality,
        map,
        texts: texts.list,
        profile,
        profile_left_out,
        composition,
        updates,
        more_updates,
        weights: weights(plan, m)?,
        candidates: candidates(plan, &rows)?,
        gain: m.gain.as_ref().map(|g| (short(g.value), g.kind == crate::format::manifest::GainKind::Label)),
        curve: criteria(plan.curve()?),
        evidence: criteria(plan.evidence()?),
        drift: input.drift.clone(),
        command: input.command.clone(),
        config: m.config.clone(),
        inputs: (m.inputs.iter().take(INPUTS))
            .map(|i| (cut(&i.path, 1000), i.rows, i.bytes, i.fingerprint.clone()))
            .collect(),
        more_inputs: m.inputs.len().saturating_sub(INPUTS),
        files: files(m),
    })
}

fn facts(plan: &Plan, m: &Manifest) -> PlanFacts {
    let text = |table: &str, key: &str| m.config[table][key].as_str().unwrap_or_default().to_string();
    PlanFacts {
        id: m.plan.clone(),
        format: m.format.clone(),
        rows: m.rows,
        planned: m.rows_planned,
        held_out: plan.manifest().file(Kind::Holdout.path()).map_or(0, |f| f.rows),
        dims: m.dims,
        modalities: m.modalities,
        strata: m.strata,
        by: text("strata", "by"),
        allocation: text("batches", "allocation"),
        centrality: text("weights", "centrality"),
        batch_size: m.batch_size,
        samples_per_modality: short(m.samples_per_modality),
        coverage: m.coverage,
        chunk: plan.epochs().map_or(1, |epochs| epochs.chunk),
        local: m.file(Kind::Units.path()).is_some(),
        threshold: short(m.information_threshold),
        share: short(m.modality_share.value),
        share_source: m.modality_share.source.clone(),
        epochs: m.epochs,
        seed: m.seed,
        bytes: m.files.iter().map(|f| f.bytes).sum(),
    }
}

fn map(plan: &Plan, place: &BTreeMap<u32, usize>) -> Result<Map> {
    let rows: Vec<SampleRow> = plan.sample()?.unwrap_or_default();
    let mut map = Map::default();
    let named = rows.iter().any(|r| r.id.is_some());
    for r in &rows {
        map.row.push(r.row);
        map.modality.push(place.get(&r.modality).map_or(-1, |&p| p as i64));
        map.x.push(short(r.x.into()));
        map.y.push(short(r.y.into()));
        map.centrality.push(plan.centrality(r.row)?.map_or(f64::NAN, |c| short(c.into())));
        if named {
            map.id.push(cut(r.id.as_deref().unwrap_or("null"), ID));
        }
    }
    Ok(map)
}

/// Of every modality the rows of the map that are nearest to its centre.
fn examples(map: &Map, modalities: usize) -> Vec<Vec<u32>> {
    let mut of: Vec<Vec<u32>> = vec![Vec::new(); modalities];
    for (i, &m) in map.modality.iter().enumerate().filter(|(_, m)| **m >= 0) {
        of[m as usize].push(i as u32);
    }
    for rows in &mut of {
        rows.sort_by(|&a, &b| {
            map.centrality[b as usize].total_cmp(&map.centrality[a as usize]).then(a.cmp(&b))
        });
        rows.truncate(EXAMPLES);
    }
    of
}

/// Every text once, cut, up to [`TEXTS`] bytes.
#[derive(Default)]
struct Texts {
    list: Vec<String>,
    number: BTreeMap<String, usize>,
    bytes: usize,
}

impl Texts {
    /// None: there is no room left.
    fn put(&mut self, text: &str) -> Option<usize> {
        let text = cut(text, TEXT);
        if let Some(&number) = self.number.get(&text) {
            return Some(number);
        }
        let bytes: usize = text.chars().map(cost).sum();
        if self.bytes + bytes > TEXTS {
            return None;
        }
        self.bytes += bytes;
        self.list.push(text.clone());
        self.number.insert(text, self.list.len() - 1);
        Some(self.list.len() - 1)
    }
}

/// Bytes that a character takes on the page, see [`super::inert`].
fn cost(c: char) -> usize {
    match c {
        '<' | '>' | '&' | '\0'..='\x1f' => 6,
        c if text::acts(c) => 6 * c.len_utf16(),
        '"' | '\\' => 2,
        // Of two next to each other, one is escaped.
        '#' => 4,
        c => c.len_utf8(),
    }
}

/// At most `room` bytes on the page; a cut is marked.
fn cut(text: &str, room: usize) -> String {
    let mut bytes = 0;
    let over = text.char_indices().find(|(_, c)| {
        bytes += cost(*c);
        bytes > room
    });
    match over {
        None => text.into(),
        Some((end, _)) => text[..end].chars().chain(['…']).collect(),
    }
}

/// What sets each of the modalities `order` apart, most telling first, and how many values had no room.
fn profile(rows: &[ProfileRow], order: &[u32], texts: &mut Texts) -> (Vec<Vec<ProfileValue>>, usize) {
    let mut of: BTreeMap<Option<u32>, BTreeMap<&str, Vec<&ProfileRow>>> = BTreeMap::new();
    for row in rows {
        of.entry(row.modality).or_default().entry(&row.column).or_default().push(row);
    }
    let nothing = BTreeMap::new();
    let of_all = of.get(&None).unwrap_or(&nothing);
    let each = (VALUES / order.len().max(1)).clamp(*VALUES_OF_MODALITY.start(), *VALUES_OF_MODALITY.end());
    let mut left_out = 0;
    let told = order.iter().map(|&m| {
        let mut values: Vec<(f64, ProfileValue)> = Vec::new();
        for (column, rows) in of.get(&Some(m)).unwrap_or(&nothing) {
            let all = of_all.get(column).map_or(&[][..], Vec::as_slice);
            let Some(name) = texts.put(column) else { continue };
            match told(all) {
                Told::Values => {
                    let mut rows: Vec<_> = rows.iter().map(|r| (telling(r), *r)).collect();
                    rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.share.total_cmp(&a.1.share)));
                    left_out += rows.len().saturating_sub(VALUES_OF_COLUMN);
                    for (telling, r) in rows.into_iter().take(VALUES_OF_COLUMN) {
                        let Some(text) = texts.put(&r.value) else {
                            left_out += 1;
                            continue;
                        };
                        let overall = if r.lift > 0.0 { r.share / r.lift } else { f64::NAN };
                        let value =
                            ProfileValue::Value(name, text, short(r.share), short(overall), short(r.lift));
                        values.push((telling, value));
                    }
                }
                Told::Numbers => {
                    let (Some(mean), Some(overall)) = (statistic(rows, "mean"), statistic(all, "mean"))
                    else {
                        continue;
                    };
                    let q = |of: &[&ProfileRow], name: &str| statistic(of, name).unwrap_or(f64::NAN);
                    // As far from the mean of all as their middle 80 % are wide: as telling as a doubled share.
                    let width = q(all, "quantile 0.9") - q(all, "quantile 0.1");
                    let telling = if width > 0.0 { ((mean - overall) / width).abs() } else { 0.0 };
                    let [low, middle, high] =
                        ["quantile 0.1", "quantile 0.5", "quantile 0.9"].map(|name| short(q(rows, name)));
                    let value =
                        ProfileValue::Number(name, (), short(mean), short(overall), (), low, middle, high);
                    values.push((telling, value));
                }
                Told::Lengths => {
                    let (Some(mean), Some(overall)) = (statistic(rows, "length"), statistic(all, "length"))
                    else {
                        continue;
                    };
                    values.push((0.0, ProfileValue::Length(name, (), short(mean), short(overall))));
                }
            }
        }
        // Stable: of equals, the column that stands first.
        values.sort_by(|a, b| b.0.total_cmp(&a.0));
        left_out += values.len().saturating_sub(each);
        values.truncate(each);
        values.into_iter().map(|v| v.1).collect()
    });
    (told.collect(), left_out)
}

/// Contribution to the information that the value carries about the modality (Kullback & Leibler 1951), in nats.
fn telling(row: &ProfileRow) -> f64 {
    if row.lift > 0.0 && row.share > 0.0 { row.share * libm::log(row.lift) } else { f64::NEG_INFINITY }
}

/// How profile.arrow tells a column, seen from its rows about all rows of the plan.
enum Told {
    Values,
    Numbers,
    Lengths,
}

fn told(all: &[&ProfileRow]) -> Told {
    let has = |name: &str| statistic(all, name).is_some();
    let quantiles = (0..=10).all(|q| has(&format!("quantile {}", f64::from(q) / 10.0)));
    let statistics = all.iter().filter(|r| r.value != "nulls").count();
    if quantiles && has("mean") && statistics == 12 {
        Told::Numbers
    } else if has("length") && statistics == 1 {
        Told::Lengths
    } else {
        Told::Values
    }
}

/// The number behind `name=`.
fn statistic(rows: &[&ProfileRow], name: &str) -> Option<f64> {
    rows.iter().find_map(|r| r.value.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

fn weights(plan: &Plan, m: &Manifest) -> Result<Weights> {
    let mut weights = Weights {
        schedule: m.config["weights"]["schedule"].as_str().unwrap_or_default().into(),
        formula: (plan.table(Kind::Weights)?)
            .and_then(|t| t.metadata("formula").map(String::from))
            .unwrap_or_default(),
        ..Weights::default()
    };
    for knot in plan.weights()? {
        weights.progress.push(short(knot.progress.into()));
        weights.beta.push(short(knot.beta.into()));
        weights.normaliser.push(short(knot.normaliser.into()));
        weights.effective.push(short(knot.effective_share.into()));
    }
    Ok(weights)
}

fn candidates(plan: &Plan, rows: &[u64]) -> Result<Vec<CandidateFacts>> {
    let (m, epochs) = (plan.manifest(), plan.epochs()?);
    let planned: u64 = rows.iter().sum();
    let share = |n: u64| n as f64 / planned.max(1) as f64;
    let one = |c: &crate::format::manifest::Candidate| {
        let size = u64::from(c.batch_size);
        let reached = rows.iter().filter(|&&n| size as f64 * share(n) >= 1.0);
        // Below one batch, every batch is the rest batch.
        let drawn = size.min(planned);
        let random = |&n: &u64| share(n) * (1.0 - composition::hypergeometric(planned, n, drawn).2);
        CandidateFacts {
            size: c.batch_size,
            accumulation: c.accumulation,
            batches: epochs.epoch(0, size).len(),
            coverage: short(reached.map(|&n| share(n)).sum()),
            random: short(rows.iter().map(random).sum()),
            recommended: c.batch_size == m.batch_size,
        }
    };
    Ok(m.candidates.iter().map(one).collect())
}

fn criteria(list: Option<Vec<Criterion>>) -> Vec<(u32, String, f64)> {
    let list = list.unwrap_or_default();
    list.into_iter().take(EVIDENCE).map(|c| (c.k, cut(&c.criterion, TEXT), short(c.value))).collect()
}

/// (path, kind, rows, bytes) of the plan's files by path; all epochs of a batch size are one entry.
pub fn files(m: &Manifest) -> Vec<(String, String, u64, u64)> {
    let mut files: BTreeMap<String, (String, u64, u64)> = BTreeMap::new();
    for f in &m.files {
        let path = match f.path.rsplit_once('/') {
            Some((folder, _)) if f.kind == Kind::Batches.name() => format!("{folder}/"),
            _ => f.path.clone(),
        };
        let sum = files.entry(path).or_insert_with(|| (f.kind.clone(), 0, 0));
        *sum = (sum.0.clone(), sum.1 + f.rows, sum.2 + f.bytes);
    }
    files.into_iter().map(|(path, (kind, rows, bytes))| (path, kind, rows, bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_to_their_room_on_the_page() {
        assert_eq!((cut("abc", 3), cut("abcd", 3)), ("abc".into(), "abc…".into()));
        assert_eq!(
            (cut("<b>", 13), cut("<b>", 12), cut("🦀🦀", 7)),
            ("<b>".into(), "<b…".into(), "🦀…".into())
        );
        let text = "<>&\u{2028}\u{9b}\u{e0041}\u{1}\"\\é🦀a";
        let json = serde_json::to_string(text).unwrap();
        assert_eq!(text.chars().map(cost).sum::<usize>(), super::super::inert(&json).len() - 2);
        let mut texts = Texts::default();
        let put: Vec<_> = (0..20_000).map(|i| texts.put(&format!("{i}{}", "<".repeat(100)))).collect();
        assert!(put[0] == Some(0) && put[19_999].is_none() && texts.bytes <= TEXTS);
    }

    #[test]
    fn columns_are_told_as_the_profile_tells_them() {
        let row =
            |value: &str| ProfileRow { column: "c".into(), value: value.into(), ..ProfileRow::default() };
        let told_of = |values: &[String]| {
            let rows: Vec<ProfileRow> = values.iter().map(|v| row(v)).collect();
            told(&rows.iter().collect::<Vec<_>>())
        };
        let mut numbers: Vec<String> =
            (0..=10).map(|q| format!("quantile {}=1", f64::from(q) / 10.0)).collect();
        numbers.extend(["mean=2.5".to_string(), "nulls".into()]);
        assert!(matches!(told_of(&numbers), Told::Numbers));
        assert!(matches!(told_of(&["length=3".into()]), Told::Lengths));
        // Values that look like statistics.
        assert!(matches!(told_of(&["mean=1".into(), "mean=2".into()]), Told::Values));
        assert!(matches!(told_of(&["length=1".into(), "x".into()]), Told::Values));
        assert!(matches!(told_of(&[]), Told::Values));
    }
}
