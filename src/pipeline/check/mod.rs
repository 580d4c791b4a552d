//! Does a plan still fit its data? [`check`] answers `holds`, `drifted` or `cannot tell`, with the evidence.
//!
//! 1. **Contract**: the plan is whole (hashes), the columns it needs are there, its rows are where it says.
//! 2. **Coverage** ([`coverage`]): which rows are unchanged, rewritten, moved, in another order, gone, new.
//! 3. **Drift**: the new rows ([`measure`]: one read of them alone) against the plan's stored statistics, by the effects and
//!    tests of [`drift`](crate::statistics::drift).
//! 4. **Answers** ([`judge`]): a test says drift if it is significant among all tests (Holm) *and* its effect reaches the
//!    threshold of the table `check` in batchwright.toml. It cannot tell where an effect of `check.unseen` could hide. What
//!    has drifted is then put in words, the cause before its effects.
//!
//! Rows that were only rewritten or put into another order are not compared again: they are the plan's own.

pub mod coverage;
mod measure;
mod judge;
mod settings;

use std::path::Path;
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::estimate;
use crate::config::{self, Level, Run};
use crate::features::Encoder;
use crate::kit::error::{Error, Result};
use crate::kit::progress::Progress;
use crate::kit::text::percent;
use crate::modalities::model::UNKNOWN_VALUE;
use crate::parts::Local;
use crate::plan::{Assigner, Plan};
use crate::source::Dataset;
use coverage::{Coverage, Matched};
use judge::Judge;
pub use judge::{modality_name, number};
use measure::{Now, Then};

/// The three answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    #[default]
    Holds,
    Drifted,
    CannotTell,
}

impl Answer {
    pub fn name(self) -> &'static str {
        match self {
            Answer::Holds => "holds",
            Answer::Drifted => "drifted",
            Answer::CannotTell => "cannot tell",
        }
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    #[default]
    Contract,
    Coverage,
    Modalities,
    Features,
    Columns,
    Gain,
}

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Group::Contract => "contract",
            Group::Coverage => "coverage",
            Group::Modalities => "modalities",
            Group::Features => "features",
            Group::Columns => "columns",
            Group::Gain => "gain",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// "mmd", "rows-in-place", "column-values", ...
    pub id: String,
    pub group: Group,
    /// The column or file it is about; empty where it is about everything.
    pub subject: String,
    pub answer: Answer,
    pub level: Level,
    /// One sentence.
    pub message: String,
    /// How `effect` is computed, or what was compared.
    pub formula: String,
    pub effect: Option<f64>,
    /// Where the effect lies with confidence 1 - alpha.
    pub interval: Option<(f64, f64)>,
    /// Least effect that counts.
    pub threshold: Option<f64>,
    /// Chance of such an effect without drift, corrected for the number of tests.
    pub p: Option<f64>,
    /// The setting that holds the threshold: "check.mmd".
    pub setting: Option<String>,
    /// The modalities or values that explain it, by size.
    pub named: Vec<Moved>,
}

/// A modality or value whose share moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Moved {
    pub what: Symptom,
    pub name: String,
    pub then: f64,
    pub now: f64,
    /// Cohen's h among what is not explained by those named before.
    pub effect: f64,
}

impl Moved {
    fn text(&self) -> String {
        let shares = format!("{} -> {}", percent(self.then), percent(self.now));
        match self.what {
            Symptom::New => format!("{} is new: {shares} of the rows", self.name),
            Symptom::Vanished => format!("{} is not among these rows: {shares}", self.name),
            Symptom::Grown => format!("{} has grown: {shares} of the rows", self.name),
            _ => format!("{} has shrunk: {shares} of the rows", self.name),
        }
    }
}

/// What happened, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Symptom {
    /// All features times one number.
    Scaled,
    /// Features of the same length that point elsewhere: another model.
    Rotated,
    OtherFeatures,
    /// Rows whose features cannot be used.
    Invalid,
    /// Rows far from every prototype.
    NewModality,
    New,
    Vanished,
    Grown,
    Shrunk,
    /// Numbers or texts of one column.
    Column,
    /// Something moved that has no simpler name.
    Distribution,
}

/// A cause, named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    pub symptom: Symptom,
    /// "features", "modality 3", "section=games"
    pub subject: String,
    pub text: String,
}

/// Share of a modality among the plan's rows and among the rows compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModalityShare {
    pub modality: u32,
    pub name: String,
    pub then: f64,
    pub now: f64,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    pub answer: Answer,
    /// Directory and id of the plan.
    pub plan: String,
    pub plan_id: String,
    /// The data, as it was named.
    pub data: Vec<String>,
    /// The causes, the most telling first; empty where nothing drifted.
    pub diagnosis: Vec<Diagnosis>,
    /// In the order of the groups.
    pub findings: Vec<Finding>,
    pub coverage: Coverage,
    /// New rows whose distribution was compared with the plan's.
    pub compared: u64,
    /// New rows that were not: their features are null, NaN, infinite or of another length.
    #[serde(default)]
    pub invalid: u64,
    pub modalities: Vec<ModalityShare>,
    pub limits: config::Check,
    pub bytes_read: u64,
    pub seconds: f64,
}

impl Outcome {
    /// 0 holds, 1 drifted or broken, 4 cannot tell (1 if `strict`).
    pub fn exit_code(&self) -> u8 {
        match self.answer {
            Answer::Holds => 0,
            Answer::Drifted => 1,
            Answer::CannotTell => 4 - 3 * u8::from(self.limits.strict),
        }
    }

    /// Findings that make the check fail.
    pub fn failures(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|f| f.answer == Answer::Drifted && f.level >= self.limits.fail_level)
    }

    /// Whether the new rows are of a kind that the plan's prototypes do not know: then `update` fits anew. That shares have
    /// moved among known kinds is no reason to.
    pub fn needs_refit(&self) -> bool {
        let unknown = |f: &Finding| f.answer == Answer::Drifted && (f.id == "far-rows" || f.id == "values");
        let other = |s| {
            matches!(s, Symptom::Scaled | Symptom::Rotated | Symptom::OtherFeatures | Symptom::NewModality)
        };
        self.findings.iter().any(unknown) || self.diagnosis.iter().any(|d| other(d.symptom))
    }

    /// In one line.
    pub fn headline(&self) -> String {
        let broken = self.failures().any(|f| f.group == Group::Contract);
        let [holds, cannot_tell, unfit, both, drifted] = HEADLINES;
        match self.answer {
            Answer::Holds => holds,
            Answer::CannotTell => cannot_tell,
            Answer::Drifted if broken && self.diagnosis.is_empty() => unfit,
            Answer::Drifted if broken => both,
            Answer::Drifted => drifted,
        }
        .into()
    }
}

/// All that [`Outcome::headline`] says.
pub const HEADLINES: [&str; 5] = [
    "the plan holds",
    "cannot tell: too little new data",
    "the contract is broken: the plan does not fit these files",
    "the contract is broken and the data has drifted",
    "the data has drifted",
];

/// JSON Schema of an [`Outcome`] as `check` prints it: `schemas/check.json`.
pub fn schema() -> String {
    crate::plan::json_schema(schemars::schema_for!(Outcome))
}

/// Checks the plan in `plan` against the data. Reads the plan, the bytes (or with `limits.quick` the footers) of the data,
/// and the rows of row groups that the plan does not have. `run` gives the threads.
///
/// # Errors
/// Unreadable plans and inputs. What a plan and its data disagree about is a finding, not an error.
pub fn check(
    plan: &Path,
    inputs: &[String],
    limits: &config::Check,
    run: &Run,
    progress: &Progress,
) -> Result<Outcome> {
    let start = Instant::now();
    limits.check()?;
    run.scope(progress, |engine| {
        let place = plan;
        let plan = Plan::open(plan)?;
        let dataset = plan.open_dataset(inputs, run.memory, progress)?;
        let encoder = run.open_encoder(&plan.config()?)?;
        // Of files that are as they were no row is read, and the forecast would read page headers.
        let unread = limits.quick && coverage::trusted_files(&plan, &dataset)?.len() == dataset.files().len();
        if !unread {
            estimate::refuse_check(&dataset, &plan, run, engine.threads())?;
        }
        let mut outcome = compare(&plan, &dataset, encoder.as_ref(), limits, engine)?.0;
        outcome.plan = place.display().to_string();
        outcome.data = inputs.iter().map(|input| crate::kit::secrets::without(input)).collect();
        outcome.bytes_read = dataset.bytes_read();
        outcome.seconds = start.elapsed().as_secs_f64();
        Ok(outcome)
    })
}

/// [`check`] on what is open already; with it, which row groups are which (None: the data lacks columns).
pub fn compare(
    plan: &Plan,
    dataset: &Dataset,
    encoder: Option<&Encoder>,
    limits: &config::Check,
    engine: &Local,
) -> Result<(Outcome, Option<Matched>)> {
    let mut outcome = Outcome {
        answer: Answer::Holds,
        plan: String::new(),
        plan_id: plan.manifest().plan.clone(),
        data: Vec::new(),
        diagnosis: Vec::new(),
        findings: Vec::new(),
        coverage: Coverage {
            rows_then: plan.manifest().rows,
            rows_now: dataset.rows(),
            ..Coverage::default()
        },
        compared: 0,
        invalid: 0,
        modalities: Vec::new(),
        limits: limits.clone(),
        bytes_read: 0,
        seconds: 0.0,
    };
    let contract = |id: &str, subject: &str, broken: bool, message: String, formula: &str| Finding {
        id: id.into(),
        subject: subject.into(),
        answer: if broken { Answer::Drifted } else { Answer::Holds },
        level: Level::Error,
        message,
        formula: formula.into(),
        ..Finding::default()
    };
    let findings = &mut outcome.findings;
    // Opening has compared sizes and footers.
    let (whole, how) = match limits.quick {
        true => (Ok(()), "seal of plan.json, size and footer of every file of the plan"),
        false => (
            plan.verify()
                .and_then(|()| plan.check_contradictions())
                .and_then(|()| settings::contradictions(plan)),
            "seal of plan.json, BLAKE3 of every file of the plan, and what they say of each other",
        ),
    };
    let message = match &whole {
        Ok(()) => format!("{} files, format {}", plan.manifest().files.len(), plan.manifest().format),
        Err(e) => e.to_string(),
    };
    findings.push(contract("plan", "", whole.is_err(), message, how));
    let foreign = plan.foreign_files()?;
    if !foreign.is_empty() {
        let message = format!("not of the plan: {}", listed(&foreign));
        let finding = contract("foreign-files", "", true, message, "files in the plan's directory");
        findings.push(Finding { level: Level::Warning, ..finding });
    }
    findings.extend(knows_less(plan)?);
    let assigner = plan.assigner()?.with_encoder(encoder)?.dropping_invalid();
    let misfits = assigner.misfits(dataset);
    if misfits.is_empty() {
        let message = "all columns that the plan needs are there".to_string();
        findings.push(contract("schema", "", false, message, "schema of the files"));
    }
    for (column, reason) in &misfits {
        let message = format!("column `{column}` {reason}");
        findings.push(contract("schema", column, true, message, "schema of the files"));
    }
    if !misfits.is_empty() {
        outcome.answer = Answer::Drifted;
        return Ok((outcome, None));
    }
    let then = Then::read(plan)?;
    let matched = coverage::match_groups(plan, dataset, limits.quick, engine)?;
    findings.extend(judge::lost_columns(&then, dataset));
    let read = look(plan, dataset, &matched, &assigner, &then, engine);
    let (coverage, now) = match read {
        Ok(read) => read,
        // A row that no modality or stratum takes.
        Err(Error::Input { column, reason, .. }) if reason.contains(UNKNOWN_VALUE) => {
            let column = column.or_else(|| plan.config().ok()?.strata.column().map(String::from));
            let column = column.unwrap_or_default();
            let formula = "values of the column that names modalities or strata";
            findings.push(contract("values", &column, true, reason, formula));
            outcome.diagnosis.push(Diagnosis {
                symptom: Symptom::New,
                subject: column.clone(),
                text: format!("column `{column}` has a value that the plan does not know"),
            });
            outcome.answer = Answer::Drifted;
            return Ok((outcome, Some(matched)));
        }
        Err(e) => return Err(e),
    };
    findings.push(in_place(&coverage, &contract));
    findings.extend(units(plan, dataset, &coverage)?);
    findings.push(new_rows(&coverage));
    if let Some(now) = &now {
        (outcome.compared, outcome.invalid) = (now.rows.count as u64, now.rows.invalid as u64);
        // A plan that drops such rows has some of its own: `judge` compares their share.
        if outcome.invalid > 0 && plan.config()?.source.invalid == crate::source::Invalid::Error {
            let total = outcome.invalid + outcome.compared;
            let why = judge::faults(&now.rows.faults);
            let message = format!("{} of {total} new rows are invalid{why}", outcome.invalid);
            findings.push(contract("unusable-rows", "", true, message, "rows whose features cannot be used"));
        }
    }

    let mut comparable = None;
    if let Some(now) = &now {
        comparable = Some((
            by_place(&now.rows.modality, then.modality_rows.len()),
            by_place(&now.rows.stratum, then.stratum_rows.len()),
            now.rows.count,
        ));
    } else if coverage.gone > 0 {
        // Nothing came in: what is left of the plan's own rows.
        let (modality, stratum) = left(plan, &matched, &then)?;
        let rows = stratum.iter().sum();
        comparable = Some((modality, stratum, rows));
    }
    if let Some((modality, stratum, rows)) = comparable {
        let mut judge = Judge::new(limits, rows);
        judge.shares(&then, plan.manifest(), &modality, &stratum, now.is_some());
        if let Some(now) = &now {
            judge.rows(&then, now);
            findings.extend(judge.gain(plan.manifest(), now));
        }
        findings.extend(judge.finish());
        let share = |of: &[f64], m: usize| of[m] / of.iter().sum::<f64>().max(1.0);
        outcome.modalities = (then.modalities.iter().enumerate())
            .map(|(m, x)| ModalityShare {
                modality: m as u32,
                name: x.name.clone(),
                then: share(&then.modality_rows, m),
                now: share(&modality, m),
            })
            .collect();
    }
    outcome.findings.sort_by_key(|f| f.group);
    outcome.diagnosis = judge::diagnose(&outcome.findings, now.as_ref().map(|now| (&then, now)), limits);
    outcome.coverage = coverage;
    let failed = outcome.failures().next().is_some();
    let unknown = outcome.findings.iter().any(|f| f.answer == Answer::CannotTell && f.level == Level::Error);
    outcome.answer = match (failed, unknown) {
        (true, _) => Answer::Drifted,
        (false, true) => Answer::CannotTell,
        (false, false) => Answer::Holds,
    };
    Ok((outcome, Some(matched)))
}

/// What a plan of format 1.0, or one that was carried on from it, cannot tell.
fn knows_less(plan: &Plan) -> Result<Option<Finding>> {
    let sources = plan.sources()?;
    let seal = if plan.manifest().seal.is_none() { "plan.json has no seal, and " } else { "" };
    let known = sources.iter().all(|s| s.ordered.is_some() && s.types.is_some());
    Ok((!known || !seal.is_empty()).then(|| Finding {
        id: "format".into(),
        answer: Answer::CannotTell,
        level: Level::Note,
        message: format!(
            "made in format 1.0: {seal}row groups are compared by bytes and checksums, not by types and ordered hashes; \
             a new plan knows them"
        ),
        formula: "what the plan's files hold".into(),
        ..Finding::default()
    }))
}

/// The first few names.
fn listed(names: &[String]) -> String {
    const NAMED: usize = 3;
    let more = match names.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!(" and {more} more"),
        _ => String::new(),
    };
    format!("{}{more}", names[..names.len().min(NAMED)].join(", "))
}

/// All reads of rows.
fn look(
    plan: &Plan,
    dataset: &Dataset,
    matched: &Matched,
    assigner: &Assigner,
    then: &Then,
    engine: &Local,
) -> Result<(Coverage, Option<Now>)> {
    let (coverage, fresh) = coverage::cover(plan, dataset, matched, assigner, engine)?;
    let now = match fresh.is_empty() {
        true => None,
        false => Some(measure::measure(plan, then, assigner, dataset, &fresh, engine)?),
    };
    Ok((coverage, now))
}

fn by_place(counts: &std::collections::BTreeMap<u32, u64>, places: usize) -> Vec<f64> {
    (0..places as u32).map(|i| counts.get(&i).copied().unwrap_or(0) as f64).collect()
}

/// Rows of every modality and stratum in the plan's row groups that are still there.
fn left(plan: &Plan, matched: &Matched, then: &Then) -> Result<(Vec<f64>, Vec<f64>)> {
    let (sources, samples) = (plan.sources()?, plan.samples()?);
    let mut modality = vec![0.0; then.modality_rows.len()];
    let mut stratum = vec![0.0; then.stratum_rows.len()];
    for s in matched.origin.iter().flatten().map(|&s| &sources[s]) {
        for row in s.first_row..s.first_row + s.rows {
            if let Some(x) = samples.get(row) {
                modality[x.modality as usize] += 1.0;
                stratum[x.stratum as usize] += 1.0;
            }
        }
    }
    Ok((modality, stratum))
}

fn in_place(c: &Coverage, contract: &impl Fn(&str, &str, bool, String, &str) -> Finding) -> Finding {
    let message = match () {
        () if c.in_place() && c.rewritten > 0 => {
            format!(
                "all {} rows of the plan are where they were ({} of them in other bytes)",
                c.rows_then, c.rewritten
            )
        }
        () if c.in_place() => format!("all {} rows of the plan are where they were", c.rows_then),
        () if c.gone == 0 && c.reordered > 0 => format!(
            "the same rows in another order, by checksum: no row has changed, but {} are not at their numbers",
            c.reordered + c.moved
        ),
        () if c.gone == 0 => format!("no row has changed, but {} have moved to other numbers", c.moved),
        () => format!("{} rows of the plan were removed or changed, {} moved", c.gone, c.moved + c.reordered),
    };
    contract(
        "rows-in-place",
        "",
        !c.in_place(),
        message,
        "fingerprints and types of row groups; hashes of rows, ordered, and order-free sums",
    )
}

/// Of a plan in the local order: whether its units are still what is read at a time.
fn units(plan: &Plan, dataset: &Dataset, coverage: &Coverage) -> Result<Option<Finding>> {
    let Some((units, local)) = plan.units()? else { return Ok(None) };
    // Rows that are not where they were are told already.
    if !coverage.in_place() {
        return Ok(None);
    }
    let mut footers = dataset.file_states()?.into_iter().map(|state| state.footer);
    let same_footers = local.footers.iter().all(|footer| footers.next().as_ref() == Some(footer));
    let groups = |sources: &mut dyn Iterator<Item = (u64, u64)>| -> Vec<(u64, u64)> {
        sources.filter(|&(first, rows)| rows > 0 && first < coverage.rows_then).collect()
    };
    let then = groups(&mut plan.sources()?.iter().map(|s| (s.first_row, s.rows)));
    let now = groups(&mut dataset.row_groups().iter().map(|g| (g.first_row, g.rows)));
    let message = match (same_footers, then == now) {
        (true, _) => {
            format!("the {} units of the local order lie in the row groups they were cut from", units.len())
        }
        (false, true) => "files were written again, with row groups of the same rows".into(),
        (false, false) => format!(
            "the same rows lie in other row groups: batches are right, but their {} units are no longer read in one piece; \
             bring the plan up to date (`batchwright update`)",
            units.len()
        ),
    };
    Ok(Some(Finding {
        id: "units".into(),
        answer: if then == now { Answer::Holds } else { Answer::Drifted },
        level: Level::Warning,
        message,
        formula: "BLAKE3 of Parquet footers, first rows of row groups".into(),
        ..Finding::default()
    }))
}

fn new_rows(c: &Coverage) -> Finding {
    Finding {
        id: "new-rows".into(),
        group: Group::Coverage,
        answer: if c.new > 0 { Answer::Drifted } else { Answer::Holds },
        level: Level::Note,
        message: match c.new {
            0 => "no rows that the plan does not know".into(),
            n => format!(
                "{n} rows are not in the plan ({} of the data)",
                percent(n as f64 / c.rows_now as f64)
            ),
        },
        formula: "rows of row groups that the plan does not have".into(),
        effect: Some(c.new as f64 / c.rows_now.max(1) as f64),
        ..Finding::default()
    }
}
