//! From numbers to answers: every comparison with its formula, threshold and interval, corrected for their number, and what
//! they say together.

use std::collections::BTreeMap;

use super::measure::{Now, Then};
use super::{Answer, Diagnosis, Finding, Group, Moved, Symptom};
use crate::config::{Check, Level};
use crate::format::Manifest;
use crate::kit::text::percent;
use crate::source::Dataset;
use crate::statistics::cells::Cells;
use crate::statistics::comparison::{Column, Counts, Told};
use crate::statistics::drift::{self, Comparison, distributions};
use crate::statistics::gain::corrected;

/// A comparison that waits for its place among all others.
struct Test {
    finding: Finding,
    comparison: Comparison,
}

/// Collects the tests of one check.
pub struct Judge<'a> {
    limits: &'a Check,
    /// Rows that are compared.
    rows: f64,
    tests: Vec<Test>,
    /// What could not be tested.
    untested: Vec<Finding>,
}

const SHARE: &str = "Cohen's h = 2 asin sqrt(now) - 2 asin sqrt(then), of the value that moved most";
const RANKS: &str = "Cohen's d by ranks = sqrt(2) z of the chance that a number now exceeds one then, of the feature that moved most; Wilcoxon's test over the plan's deciles";

/// Share of a modality's rows that must be in it also where each sampled row is assigned by prototypes that have not seen it.
const LASTING: f64 = 0.9;

/// What a finding is about, before it has an answer.
#[derive(Clone)]
struct About {
    id: &'static str,
    group: Group,
    subject: String,
    formula: &'static str,
    setting: &'static str,
    threshold: f64,
}

impl About {
    fn finding(self) -> Finding {
        Finding {
            id: self.id.into(),
            group: self.group,
            subject: self.subject,
            level: Level::Error,
            formula: self.formula.into(),
            setting: Some(format!("check.{}", self.setting)),
            threshold: Some(self.threshold),
            ..Finding::default()
        }
    }
}

impl<'a> Judge<'a> {
    pub fn new(limits: &'a Check, rows: f64) -> Self {
        Judge { limits, rows, tests: Vec::new(), untested: Vec::new() }
    }

    fn confidence(&self) -> f64 {
        1.0 - self.limits.alpha
    }

    fn add(&mut self, about: About, comparison: Option<Comparison>, text: String, named: Vec<Moved>) {
        let Some(comparison) = comparison else {
            return self.unknown(about, "too few rows to compare".into());
        };
        let finding = Finding { message: text, named, ..about.finding() };
        self.tests.push(Test { finding, comparison });
    }

    /// What a plan of an older format does not know: said, and no reason to fail.
    fn lacking(&mut self, about: About) {
        let message =
            "not compared: this plan was made before format 1.1 and does not know enough; make it anew"
                .into();
        self.untested.push(Finding {
            answer: Answer::CannotTell,
            level: Level::Note,
            message,
            ..about.finding()
        });
    }

    /// What cannot be told, and why.
    fn unknown(&mut self, about: About, message: String) {
        self.untested.push(Finding { answer: Answer::CannotTell, message, ..about.finding() });
    }

    /// Holm's correction over all tests; then each is drift if it is significant and large enough, unknown if something as
    /// large as `unseen` cannot be ruled out, and in order otherwise.
    pub fn finish(self) -> Vec<Finding> {
        let p: Vec<f64> = self.tests.iter().map(|t| t.comparison.p).collect();
        let adjusted = distributions::holm(&p);
        let mut out: Vec<Finding> = Vec::new();
        for (Test { mut finding, comparison: c }, p) in self.tests.into_iter().zip(adjusted) {
            let threshold = finding.threshold.unwrap_or(0.0);
            let widest = c.interval.0.abs().max(c.interval.1.abs());
            finding.answer = match () {
                () if p <= self.limits.alpha && c.effect.abs() >= threshold => Answer::Drifted,
                () if widest > self.limits.unseen.max(threshold) && p > self.limits.alpha => {
                    Answer::CannotTell
                }
                () => Answer::Holds,
            };
            if finding.answer == Answer::CannotTell {
                finding.message = format!(
                    "{}; an effect of {} cannot be ruled out",
                    finding.message,
                    number(self.limits.unseen.max(threshold))
                );
            }
            if finding.answer != Answer::Drifted {
                finding.named.clear();
            }
            finding.effect = Some(c.effect);
            finding.interval = Some(c.interval);
            finding.p = Some(p);
            out.push(finding);
        }
        out.extend(self.untested);
        out
    }

    /// Modalities and groups of strata, from counts then and now. `new`: of rows that the plan does not know.
    pub fn shares(&mut self, then: &Then, manifest: &Manifest, modality: &[f64], stratum: &[f64], new: bool) {
        let (was_modality, was_stratum) =
            if new { (&then.unseen.0, &then.unseen.1) } else { (&then.modality_rows, &then.stratum_rows) };
        let limits = self.limits;
        // What is a modality mostly by the sampled rows that made it has another share among any other rows.
        let lasts = |m: &usize| !new || was_modality[*m] >= LASTING * then.modality_rows[*m];
        let kept: Vec<usize> = (0..was_modality.len()).filter(lasts).collect();
        if was_modality.len() > 1 {
            let only = |of: &[f64]| -> Vec<f64> { kept.iter().map(|&m| of[m]).collect() };
            let (was, is) = (only(was_modality), only(modality));
            let names: Vec<String> =
                kept.iter().map(|&m| modality_name(m, &then.modalities[m].name)).collect();
            let found = drift::shares(&was, &is, self.confidence());
            let named = moved(&was, &is, &names, limits);
            let mut text = found.map_or(String::new(), |(m, _)| {
                format!("the share of {} moved most: {}", names[m], from_to(&was, &is, m))
            });
            if kept.len() < was_modality.len() {
                let n = was_modality.len() - kept.len();
                text += &format!("; {n} of {} modalities are too uncertain to compare", was_modality.len());
            }
            let about = About {
                id: "modality-shares",
                group: Group::Modalities,
                subject: String::new(),
                formula: "Cohen's h = 2 asin sqrt(now) - 2 asin sqrt(then), of the modality that moved most",
                setting: "share",
                threshold: limits.share,
            };
            self.add(about, found.map(|f| f.1), text, named);
        }
        let mut groups = (BTreeMap::new(), BTreeMap::new());
        for (h, &g) in manifest.score_groups.iter().enumerate() {
            *groups.0.entry(g).or_insert(0.0) += was_stratum[h];
            *groups.1.entry(g).or_insert(0.0) += stratum[h];
        }
        let (a, b): (Vec<f64>, Vec<f64>) =
            (groups.0.into_values().collect(), groups.1.into_values().collect());
        if a.len() > 1 {
            self.add(
                About {
                    id: "composition",
                    group: Group::Modalities,
                    subject: String::new(),
                    formula: "Cohen's w = sqrt(sum (now - then)^2 / pooled - expected) over the score groups, chi-squared test",
                    setting: "composition",
                    threshold: limits.composition,
                },
                drift::composition(&a, &b, self.confidence()),
                format!("rows over {} groups of strata", a.len()),
                Vec::new(),
            );
        }
    }

    /// Everything that takes a look at the rows themselves.
    pub fn rows(&mut self, then: &Then, now: &Now) {
        self.invalid(then, now);
        self.distances(then, now);
        self.features(then, now);
        for (column, counts) in then.columns.iter().zip(&now.columns) {
            self.column(then.planned(), column, counts);
        }
    }

    /// Rows whose features cannot be used, against those that the plan left out.
    fn invalid(&mut self, then: &Then, now: &Now) {
        let counts = ([then.invalid(), then.planned()], [now.rows.invalid, now.rows.count]);
        if counts.0[0] + counts.1[0] == 0.0 {
            return;
        }
        self.add(
            About {
                id: "invalid-rows",
                group: Group::Features,
                subject: String::new(),
                formula: "Cohen's h = 2 asin sqrt(now) - 2 asin sqrt(then), of the share of rows whose features cannot be used",
                setting: "share",
                threshold: self.limits.share,
            },
            drift::shares(&counts.0, &counts.1, self.confidence()).map(|f| f.1),
            format!("invalid rows: {}{}", from_to(&counts.0, &counts.1, 0), faults(&now.rows.faults)),
            Vec::new(),
        );
    }

    fn distances(&mut self, then: &Then, now: &Now) {
        let (limits, confidence) = (self.limits, self.confidence());
        let mut planned = [0; 10];
        for cells in then.known.distances.iter().flatten() {
            cells.tenths_of().iter().zip(&cells.rows).for_each(|(&tenth, n)| planned[tenth] += n);
        }
        let (planned, tenths) = (planned.map(|n| n as f64), now.rows.tenths.map(|n| n as f64));
        // Distances that are all equal have one tenth: nothing to compare.
        if planned.iter().filter(|&&n| n > 0.0).count() > 1 {
            let farther =
                |of: &[f64; 10]| percent(of[5..].iter().sum::<f64>() / of.iter().sum::<f64>().max(1.0));
            self.add(
                About {
                    id: "distances",
                    group: Group::Modalities,
                    subject: String::new(),
                    formula: "Cohen's w over the deciles of the distance to the modality's centre (equal distances together), chi-squared test",
                    setting: "composition",
                    threshold: limits.composition,
                },
                drift::composition(&planned, &tenths, confidence),
                format!("rows in the farther half of the plan's distances to their centre: {} -> {}", farther(&planned), farther(&tenths)),
                Vec::new(),
            );
        }
        if then.reach.len() < 2 {
            return;
        }
        let (n, far) = (now.rows.compared as f64, now.rows.far as f64);
        let about = About {
            id: "far-rows",
            group: Group::Modalities,
            subject: String::new(),
            formula: "share of rows farther from every prototype than 99.9 % of the plan's rows, Wilson's interval, binomial test",
            setting: "far",
            threshold: limits.far,
        };
        if then.reach_lacks > 0.001 * then.sampled {
            let text = format!(
                "this plan passed over about {} of {} rows when it measured how far rows may be: make it anew (`update --refit`)",
                then.reach_lacks, then.sampled
            );
            self.unknown(about, text);
            return;
        }
        let text = format!("{} of the rows are unlike anything in the plan", percent(far / n.max(1.0)));
        self.add(about, drift::excess(far, n, limits.far, confidence), text, Vec::new());
    }

    fn features(&mut self, then: &Then, now: &Now) {
        let (limits, confidence) = (self.limits, self.confidence());
        let planned = then.planned();
        if let Some(reference) = &then.reference {
            let mean: Vec<f64> = now.reference.iter().map(|f| f.mean).collect();
            let found = (mean.len() == reference.mean.len())
                .then(|| {
                    drift::embedding(
                        (planned, &reference.mean),
                        &reference.covariance,
                        (now.rows.count, &mean),
                        confidence,
                    )
                })
                .flatten();
            self.add(
                About {
                    id: "mmd",
                    group: Group::Features,
                    subject: String::new(),
                    formula: "sqrt((|mean phi now - then|^2 - tr C (1/m + 1/n)) / tr C), phi the plan's random features, C their covariance; null: sum of eigenvalues x chi-squared",
                    setting: "mmd",
                    threshold: limits.mmd,
                },
                found,
                "distance of the mean embeddings (MMD)".into(),
                Vec::new(),
            );
        }
        self.locations(then, now);
        let about = About {
            id: "spread",
            group: Group::Features,
            subject: String::new(),
            formula: "ln of the median distance to the plan's medians, now over then; Wilcoxon's test over its 5 % quantiles",
            setting: "spread",
            threshold: limits.spread,
        };
        let Some(cells) = &then.known.spread else { return self.lacking(about) };
        // Distances that are all equal have nothing to compare.
        if cells.edges.len() > 1 {
            let median = |rows: &[u64]| number(cells.quantile(rows, 0.5));
            let text = format!(
                "median distance to the plan's medians: {} -> {}",
                median(&cells.rows),
                median(&now.rows.spread)
            );
            self.add(about, drift::scale(cells, &now.rows.spread, confidence), text, Vec::new());
        }
    }

    /// Whether the numbers of any feature are larger or smaller than they were.
    fn locations(&mut self, then: &Then, now: &Now) {
        let known: Vec<usize> =
            (0..then.known.features.len()).filter(|&j| then.known.features[j].is_some()).collect();
        let about = About {
            id: "feature-means",
            group: Group::Features,
            subject: String::new(),
            formula: RANKS,
            setting: "mean",
            threshold: self.limits.mean,
        };
        if known.len() < then.known.features.len() {
            let lacking = About {
                subject: format!("{} features", then.known.features.len() - known.len()),
                ..about.clone()
            };
            self.lacking(lacking);
        }
        if known.is_empty() {
            return;
        }
        let counts = now.rows.features(&then.known);
        let a: Vec<&[u64]> =
            known.iter().filter_map(|&j| Some(&then.known.features[j].as_ref()?.rows[..])).collect();
        let b: Vec<&[u64]> = known.iter().map(|&j| counts[j]).collect();
        let found = drift::locations(&a, &b, self.confidence());
        let text = found.map_or(String::new(), |(place, _)| {
            let j = known[place];
            let s = &then.statistics[j];
            let name = if then.known.features.len() > 1 {
                format!("{}[{}]", s.column, s.index)
            } else {
                s.column.clone()
            };
            format!("{name} moved most: {}", medians(then.known.features[j].as_ref(), counts[j]))
        });
        self.add(about, found.map(|f| f.1), text, Vec::new());
    }

    fn column(&mut self, planned: f64, column: &Column, counts: &Counts) {
        let (limits, confidence) = (self.limits, self.confidence());
        if counts.count + counts.nulls == 0.0 {
            return;
        }
        let about = |id, formula, setting, threshold| About {
            id,
            group: Group::Columns,
            subject: column.name.clone(),
            formula,
            setting,
            threshold,
        };
        match &column.told {
            Told::Values(_) => {
                let table = Table::new(planned, column, counts, limits);
                let found = drift::shares(&table.then, &table.now, confidence);
                let text = found.map_or(String::new(), |(v, _)| {
                    format!("{} moved most: {}", table.names[v], from_to(&table.then, &table.now, v))
                });
                let named = moved(&table.then, &table.now, &table.names, limits);
                self.add(
                    about("column-values", SHARE, "share", limits.share),
                    found.map(|f| f.1),
                    text,
                    named,
                );
            }
            Told::Numbers { cells, .. } | Told::Lengths { cells, .. } => {
                let lengths = matches!(column.told, Told::Lengths { .. });
                let id = if lengths { "column-length" } else { "column-mean" };
                let about_ranks = about(id, RANKS, "mean", limits.mean);
                let Some(known) = cells else {
                    self.lacking(about_ranks);
                    return self.nulls(planned, column, counts);
                };
                let what = if lengths { "length in characters: " } else { "" };
                let text = format!("{what}{}", medians(cells.as_ref(), &counts.cells));
                self.add(
                    about_ranks,
                    drift::ranks(&known.rows, &counts.cells, 1, confidence),
                    text,
                    Vec::new(),
                );
                let groups = known.groups();
                let rows = |of: &[u64]| -> Vec<f64> {
                    groups.iter().map(|g| g.iter().map(|&i| of[i] as f64).sum()).collect()
                };
                let (then, now) = (rows(&known.rows), rows(&counts.cells));
                if !lengths && then.iter().filter(|&&n| n > 0.0).count() > 1 {
                    self.add(
                        about(
                            "column-deciles",
                            "Cohen's w over the deciles of the plan's sample (equal numbers together), chi-squared test",
                            "composition",
                            limits.composition,
                        ),
                        drift::composition(&then, &now, confidence),
                        "numbers over the plan's deciles".into(),
                        Vec::new(),
                    );
                }
            }
        }
        self.nulls(planned, column, counts);
    }

    fn nulls(&mut self, planned: f64, column: &Column, counts: &Counts) {
        let nulls = (column.nulls, counts.nulls);
        if !matches!(column.told, Told::Values(_)) && nulls.0 + nulls.1 > 0.0 {
            let count = match column.told {
                Told::Numbers { count, .. } | Told::Lengths { count, .. } => count,
                Told::Values(_) => planned,
            };
            let (then, now) = ([nulls.0, count], [nulls.1, counts.count]);
            let found = drift::shares(&then, &now, self.confidence()).map(|f| f.1);
            self.add(
                About {
                    id: "column-nulls",
                    group: Group::Columns,
                    subject: column.name.clone(),
                    formula: SHARE,
                    setting: "share",
                    threshold: self.limits.share,
                },
                found,
                format!("nulls: {}", from_to(&then, &now, 0)),
                Vec::new(),
            );
        }
    }

    /// The gain that the plan's strata have on the new rows, both corrected for the number of strata (epsilon squared).
    pub fn gain(&self, manifest: &Manifest, now: &Now) -> Option<Finding> {
        let planned = manifest.gain.as_ref()?;
        let strata: Vec<u32> = (0..manifest.strata).collect();
        let (m, n) = (manifest.rows_planned as f64, self.rows);
        let used = now.rows.stratum.len() as f64;
        let then = corrected(1.0 - planned.value, m, f64::from(manifest.strata));
        let share = corrected(now.gain.share(&strata), n, used);
        // Olkin & Finn 1995: the variance of an explained share.
        let variance = |r: f64, n: f64| 4.0 * r.max(0.0) * (1.0 - r) * (1.0 - r) / n.max(1.0);
        let z = distributions::normal_point(self.limits.alpha / 2.0);
        let error = (variance(then, m) + variance(share, n)).sqrt();
        let (rise, few) = (then - share, n < 2.0 * used);
        let answer = match () {
            () if few => Answer::CannotTell,
            () if rise - z * error > 0.0 && rise >= self.limits.gain => Answer::Drifted,
            () => Answer::Holds,
        };
        let message = if few {
            format!("{n} rows are too few for {used} strata")
        } else {
            format!(
                "predicted variance ratio of stratified batches: {} -> {}",
                number(1.0 - then),
                number(1.0 - share)
            )
        };
        Some(Finding {
            id: "gain".into(),
            group: Group::Gain,
            answer,
            // Its interval assumes what gradients of far rows do not keep: told, never a reason to fail.
            level: Level::Note,
            message,
            formula: "rise of 1 - share of the early gradient's variance between strata, both corrected for their number".into(),
            effect: Some(rise),
            interval: Some((rise - z * error, rise + z * error)),
            threshold: Some(self.limits.gain),
            setting: Some("check.gain".into()),
            ..Finding::default()
        })
    }
}

/// A column's values with their counts: those the plan lists, what it does not list together, new values that are too
/// frequent to have been among those, nulls.
struct Table {
    names: Vec<String>,
    then: Vec<f64>,
    now: Vec<f64>,
}

impl Table {
    fn new(planned: f64, column: &Column, counts: &Counts, limits: &Check) -> Table {
        let Told::Values(listed) = &column.told else { unreachable!("only values have a table") };
        let mut table = Table { names: Vec::new(), then: Vec::new(), now: Vec::new() };
        let mut left: BTreeMap<&str, u64> = counts.values.iter().map(|(v, n)| (v.as_str(), *n)).collect();
        let (m, n) = (planned, counts.count + counts.nulls);
        let distinct = (counts.values.len() + listed.len()) as f64;
        // What is worth a row of its own although few rows were expected.
        let stands_out = |then: f64, now: f64| {
            drift::same_share(then, m, now, n) * distinct <= limits.alpha
                && drift::cohens_h(then / m, now / n) >= limits.share
        };
        // Names that do not repeat say nothing one by one: they count as other values.
        let mut rare = (0.0, 0.0);
        for (value, rows) in listed {
            let now = left.remove(value.as_str()).unwrap_or(0) as f64;
            if rows / m * n < 5.0 && !stands_out(*rows, now) {
                rare = (rare.0 + rows, rare.1 + now);
            } else {
                table.push(value, *rows, now);
            }
        }
        let told: f64 = listed.iter().map(|v| v.1).sum::<f64>() + column.nulls;
        // Unlisted values had at most what the rarest listed one had, and no more than was left.
        let rest = (planned - told).max(0.0);
        let most = listed.last().map_or(rest, |v| v.1.min(rest));
        let mut fresh: Vec<(&str, u64)> = left.into_iter().collect();
        fresh.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let mut other = (rest + rare.0, counts.other as f64 + rare.1);
        for (value, rows) in fresh {
            if stands_out(most, rows as f64) {
                table.push(value, most, rows as f64);
                other.0 = (other.0 - most).max(0.0);
            } else {
                other.1 += rows as f64;
            }
        }
        if other.0 + other.1 > 0.0 {
            table.push("all other values", other.0, other.1);
        }
        if column.nulls + counts.nulls > 0.0 {
            table.push("null", column.nulls, counts.nulls);
        }
        table
    }

    fn push(&mut self, name: &str, then: f64, now: f64) {
        self.names.push(name.into());
        self.then.push(then);
        self.now.push(now);
    }
}

/// What explains a shift of shares, named.
fn moved(then: &[f64], now: &[f64], names: &[String], limits: &Check) -> Vec<Moved> {
    drift::moved(then, now, limits.alpha, limits.share)
        .into_iter()
        .map(|(i, p, q, effect)| Moved {
            what: match () {
                () if then[i] == 0.0 => Symptom::New,
                () if now[i] == 0.0 => Symptom::Vanished,
                () if effect > 0.0 => Symptom::Grown,
                () => Symptom::Shrunk,
            },
            name: names[i].clone(),
            then: p,
            now: q,
            effect,
        })
        .collect()
}

fn moments(then: &Then, now: &Now) -> (Vec<drift::Moment>, Vec<drift::Moment>) {
    let a = then.statistics.iter().map(|s| drift::Moment { mean: s.mean, variance: s.variance }).collect();
    let all = now.moments.iter().filter(|m| m.modality.is_none());
    let b: Vec<_> = all.map(|m| drift::Moment { mean: m.mean, variance: m.variance }).collect();
    if b.len() == then.statistics.len() { (a, b) } else { (Vec::new(), Vec::new()) }
}

/// What the findings say together, the cause before its effects.
pub fn diagnose(findings: &[Finding], then: Option<(&Then, &Now)>, limits: &Check) -> Vec<Diagnosis> {
    let drifted = |id: &str| findings.iter().find(|f| f.id == id && f.answer == Answer::Drifted);
    let mut out = Vec::new();
    let mut say = |symptom, subject: &str, text: String| {
        out.push(Diagnosis { symptom, subject: subject.into(), text });
    };
    let mut space = false;
    if let Some((then, now)) = then {
        let (a, b) = moments(then, now);
        let length = |of: &[drift::Moment]| of.iter().map(|m| m.mean * m.mean + m.variance).sum::<f64>();
        let far = now.rows.far as f64 / now.rows.compared.max(1) as f64;
        let scale = (length(&b) / length(&a)).sqrt();
        if a.len() > 1 && scale.is_finite() && scale > 0.0 {
            // Is it the old data times one number?
            let rest = a.iter().zip(&b).map(|(a, b)| {
                let sd = a.variance.max(1e-300).sqrt();
                ((b.mean / scale - a.mean) / sd)
                    .abs()
                    .max(libm::log(b.variance.max(1e-300).sqrt() / scale / sd).abs())
            });
            let rest: f64 = rest.sum::<f64>() / a.len() as f64;
            if drifted("spread").is_some()
                && libm::log(scale).abs() >= limits.spread
                && rest < 0.5 * libm::log(scale).abs() + 0.03
            {
                space = true;
                let text = format!(
                    "the features are what they were times {scale:.3}: are they normalised as they were when the plan was made?"
                );
                say(Symptom::Scaled, "features", text);
            }
        }
        let cosine = a.iter().zip(&b).map(|(a, b)| a.mean * b.mean).sum::<f64>()
            / (a.iter().map(|m| m.mean * m.mean).sum::<f64>()
                * b.iter().map(|m| m.mean * m.mean).sum::<f64>())
            .sqrt();
        let unlike = drifted("far-rows").is_some() && far > 0.5;
        if !space && a.len() > 1 && unlike && (scale - 1.0).abs() < 0.1 {
            space = true;
            let text = format!(
                "the features are as long as they were but point elsewhere ({} of the rows are unlike anything in the plan, the \
                 means' cosine is {cosine:.2}): a rotation, most likely another model made them",
                percent(far)
            );
            say(Symptom::Rotated, "features", text);
        } else if !space && unlike {
            space = true;
            let text = format!(
                "{} of the rows are unlike anything in the plan: these are other features",
                percent(far)
            );
            say(Symptom::OtherFeatures, "features", text);
        }
    }
    if let Some(f) = drifted("invalid-rows") {
        say(Symptom::Invalid, "features", f.message.clone());
    }
    if !space && let Some(f) = drifted("far-rows") {
        let text = format!("{}: possibly a new modality", f.message);
        say(Symptom::NewModality, "modalities", text);
    }
    let mut shares: Vec<(f64, Diagnosis)> = Vec::new();
    let mut share = |effect: f64, symptom, subject: &str, text: String| {
        shares.push((effect.abs(), Diagnosis { symptom, subject: subject.into(), text }));
    };
    // Rows of another kind have to go to some modality: then its growth says nothing more.
    if let Some(f) = drifted("modality-shares").filter(|_| out.is_empty()) {
        f.named.iter().for_each(|m| share(m.effect, m.what, &m.name, m.text()));
    }
    for f in findings.iter().filter(|f| f.group == Group::Columns && f.answer == Answer::Drifted) {
        if f.named.is_empty() {
            let text = format!("column `{}`: {}", f.subject, f.message);
            share(f.effect.unwrap_or(0.0), Symptom::Column, &f.subject, text);
        }
        for m in &f.named {
            let text = format!("column `{}`: {}", f.subject, m.text());
            share(m.effect, m.what, &format!("{}={}", f.subject, m.name), text);
        }
    }
    shares.sort_by(|a, b| b.0.total_cmp(&a.0));
    out.extend(shares.into_iter().map(|s| s.1));
    if out.is_empty() {
        for f in findings.iter().filter(|f| f.answer == Answer::Drifted && f.p.is_some()) {
            out.push(Diagnosis {
                symptom: Symptom::Distribution,
                subject: f.id.clone(),
                text: f.message.clone(),
            });
        }
    }
    out
}

/// Columns of the profile that are gone, or of another kind. The plan does without them, but what cannot be compared must not
/// pass for the same: one that all files now have in another type is drift, as its values moving would be.
pub fn lost_columns(then: &Then, dataset: &Dataset) -> Vec<Finding> {
    let finding = |c: &&Column| {
        let (level, what) = match dataset.columns().iter().find(|now| now.name == c.name) {
            None => (Level::Warning, "is gone; the plan does without it".into()),
            Some(now) => match &now.differs {
                Some(differs) => {
                    (Level::Warning, format!("cannot be compared: {} {}", differs.file, differs.reason))
                }
                None if now.stored == "Null" => (Level::Warning, "has only nulls".into()),
                None => (
                    Level::Error,
                    format!("is {} in all files now, and was not: its values cannot be compared", now.stored),
                ),
            },
        };
        Finding {
            id: "column".into(),
            group: Group::Contract,
            subject: c.name.clone(),
            answer: Answer::Drifted,
            level,
            message: format!("column `{}` {what}", c.name),
            formula: "schema of the files".into(),
            ..Finding::default()
        }
    };
    then.columns.iter().filter(|c| !super::measure::readable(dataset, c)).map(|c| finding(&c)).collect()
}

pub fn modality_name(m: usize, name: &str) -> String {
    if name.is_empty() { format!("modality {m}") } else { format!("modality {m} ({name})") }
}

/// Kinds of unusable rows that are named.
const FAULTS_NAMED: usize = 4;

/// Why rows cannot be used, the most frequent reasons: " (column `v` has NaN: 200 rows)".
pub fn faults(of: &BTreeMap<(String, String), u64>) -> String {
    let mut by_size: Vec<_> = of.iter().collect();
    by_size.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let one = |((column, reason), n): &(&(String, String), &u64)| {
        format!("column `{column}` {reason}: {n} row{}", if **n == 1 { "" } else { "s" })
    };
    let mut named: Vec<String> = by_size.iter().take(FAULTS_NAMED).map(one).collect();
    if by_size.len() > FAULTS_NAMED {
        named.push(format!("and {} more reasons", by_size.len() - FAULTS_NAMED));
    }
    if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) }
}

/// "median 3.1 -> 3.4", of counts in the same cells.
fn medians(cells: Option<&Cells>, now: &[u64]) -> String {
    let Some(cells) = cells else { return String::new() };
    format!("median {} -> {}", number(cells.quantile(&cells.rows, 0.5)), number(cells.quantile(now, 0.5)))
}

fn from_to(then: &[f64], now: &[f64], i: usize) -> String {
    let share = |of: &[f64]| percent(of[i] / of.iter().sum::<f64>().max(1.0));
    format!("{} -> {}", share(then), share(now))
}

/// A number as text, four digits that mean something.
pub fn number(x: f64) -> String {
    match x.abs() {
        _ if !x.is_finite() => "unknown".into(),
        0.0 => "0".into(),
        a if !(1e-3..1e6).contains(&a) => format!("{x:.2e}"),
        a if a >= 100.0 => format!("{x:.1}"),
        _ => format!("{x:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(listed: &[(&str, f64)]) -> Column {
        let values = listed.iter().map(|(v, n)| (v.to_string(), *n)).collect();
        Column { name: "c".into(), told: Told::Values(values), nulls: 0.0 }
    }

    fn counts(values: impl IntoIterator<Item = (String, u64)>) -> Counts {
        let values: BTreeMap<String, u64> = values.into_iter().collect();
        Counts { count: values.values().sum::<u64>() as f64, values, ..Counts::default() }
    }

    /// The answer for one column, and what is named.
    fn judge(planned: f64, column: &Column, counts: &Counts) -> (Answer, Vec<(Symptom, String)>) {
        let limits = Check::default();
        let mut judge = Judge::new(&limits, counts.count);
        judge.column(planned, column, counts);
        let found = judge.finish().remove(0);
        (found.answer, found.named.into_iter().map(|m| (m.what, m.name)).collect())
    }

    #[test]
    fn names_that_are_all_different_are_no_drift() {
        // 20 000 different names, of which 256 are listed; 1000 new ones.
        let listed: Vec<String> = (0..256).map(|i| format!("old-{i}")).collect();
        let listed: Vec<(&str, f64)> = listed.iter().map(|v| (v.as_str(), 1.0)).collect();
        let new = counts((0..1000).map(|i| (format!("new-{i}"), 1)));
        assert_eq!(judge(20_000.0, &column(&listed), &new), (Answer::Holds, vec![]));
        // One of them in every tenth row is.
        let new = counts((0..900).map(|i| (format!("new-{i}"), 1)).chain([("often".to_string(), 100)]));
        let (answer, named) = judge(20_000.0, &column(&listed), &new);
        assert_eq!((answer, &named[0].1[..]), (Answer::Drifted, "often"));
    }

    #[test]
    fn new_and_vanished_values_are_named() {
        let old = column(&[("a", 6000.0), ("b", 3000.0), ("c", 1000.0)]);
        let same = counts([("a", 605), ("b", 295), ("c", 100)].map(|(v, n)| (v.to_string(), n)));
        assert_eq!(judge(10_000.0, &old, &same), (Answer::Holds, vec![]));
        let gone = counts([("a", 670), ("b", 330)].map(|(v, n)| (v.to_string(), n)));
        assert_eq!(judge(10_000.0, &old, &gone), (Answer::Drifted, vec![(Symptom::Vanished, "c".into())]));
        let new = counts([("a", 570), ("b", 285), ("c", 95), ("d", 50)].map(|(v, n)| (v.to_string(), n)));
        assert_eq!(judge(10_000.0, &old, &new), (Answer::Drifted, vec![(Symptom::New, "d".into())]));
        let few = counts([("a", 6), ("b", 3)].map(|(v, n)| (v.to_string(), n)));
        assert_eq!(judge(10_000.0, &old, &few), (Answer::CannotTell, vec![]));
    }
}
