//! What changed for training between two plans: [`diff`].
//!
//! Rows are compared where both plans were made from the same row groups (equal fingerprints). Modalities are matched by the
//! rows they share there, without such rows by the nearest centres; a plan that was updated from the other says it itself.

use std::collections::{BTreeMap, VecDeque};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::leaves;
use crate::format::Kind;
use crate::kernels::distance::squared;
use crate::kit::error::Result;
use crate::modalities::matching::matching;
use crate::plan::Plan;

/// Then and now.
pub type Pair<T> = (T, T);

/// How two plans differ; see [`diff`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    pub id: Pair<String>,
    /// Same id: they deal the same batches.
    pub same: bool,
    pub rows: Pair<u64>,
    pub rows_planned: Pair<u64>,
    pub modalities: Pair<u32>,
    pub strata: Pair<u32>,
    pub batch_size: Pair<u32>,
    pub candidates: Pair<Vec<u32>>,
    pub batches_per_epoch: Pair<u64>,
    pub epochs: Pair<u32>,
    pub samples_per_modality: Pair<f64>,
    pub coverage: Pair<f64>,
    pub information_threshold: Pair<f64>,
    pub modality_share: Pair<f64>,
    /// Predicted variance ratio of stratified over random batches.
    pub gain: Pair<Option<f64>>,
    /// Settings that differ, by key.
    pub config: BTreeMap<String, Pair<Value>>,
    /// Modalities of the second plan, then those of the first that have none there.
    pub mapping: Vec<Mapped>,
    /// "made-from" (run.json of the second plan says it), "rows" or "centres".
    pub mapped_by: String,
    /// Rows in row groups that both plans know, and what became of them.
    pub moved: Moved,
    /// Means of features that moved most, at most 10.
    pub means: Vec<Mean>,
}

/// A modality then and now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mapped {
    pub then: Option<u32>,
    pub now: Option<u32>,
    pub name: String,
    pub share: Pair<f64>,
}

/// Rows that both plans know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moved {
    pub common: u64,
    /// At another row number.
    pub number: u64,
    /// In another modality (after the mapping).
    pub modality: u64,
    /// In another stratum; strata are compared only where both plans have the same prototypes.
    pub stratum: Option<u64>,
    /// Planned now and not then, and the other way round.
    pub planned: u64,
    pub left_out: u64,
}

/// The mean of a feature over all planned rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mean {
    pub column: String,
    pub index: u32,
    pub mean: Pair<f64>,
    /// In standard deviations of the first plan.
    pub shift: f64,
}

/// JSON Schema of a [`Diff`] as `diff` prints it: `schemas/diff.json`.
pub fn schema() -> String {
    crate::plan::json_schema(schemars::schema_for!(Diff))
}

/// Compares two plans. O(rows) of the row groups they have in common.
pub fn diff(a: &Plan, b: &Plan) -> Result<Diff> {
    let (m, n) = (a.manifest(), b.manifest());
    let groups = common(a, b)?;
    let (old, new) = (m.modalities as usize, n.modalities as usize);
    let mut overlap = vec![vec![0u64; old]; new];
    each_row(a, b, &groups, |_, _, x, y| {
        if let (Some(x), Some(y)) = (x, y) {
            overlap[y.0 as usize][x.0 as usize] += 1;
        }
    })?;
    let told = b
        .run_info()?
        .and_then(|run| run.made_from)
        .filter(|from| from.plan == m.plan && from.modalities.len() == new);
    let (was, mapped_by) = match told {
        Some(from) => (from.modalities, "made-from"),
        None if overlap.iter().flatten().any(|&x| x > 0) => (matching(&overlap, old), "rows"),
        None => (nearest(a, b)?, "centres"),
    };
    let same_prototypes = match (m.file(Kind::Prototypes.path()), n.file(Kind::Prototypes.path())) {
        (Some(_), Some(_)) => {
            let (a, b) = (a.prototypes()?.unwrap_or_default(), b.prototypes()?.unwrap_or_default());
            (a.centers, a.stratum) == (b.centers, b.stratum)
        }
        _ => false,
    };
    let mut moved = Moved::default();
    let mut strata = 0;
    each_row(a, b, &groups, |i, j, x, y| {
        moved.common += 1;
        moved.number += u64::from(i != j);
        match (x, y) {
            (Some(x), Some(y)) => {
                moved.modality += u64::from(was[y.0 as usize] != Some(x.0));
                strata += u64::from(x.1 != y.1);
            }
            (None, Some(_)) => moved.planned += 1,
            (Some(_), None) => moved.left_out += 1,
            (None, None) => {}
        }
    })?;
    moved.stratum = same_prototypes.then_some(strata);

    let (then, now) = (a.modalities()?, b.modalities()?);
    let mut mapping: Vec<Mapped> = (now.iter().enumerate())
        .map(|(i, x)| Mapped {
            then: was[i],
            now: Some(i as u32),
            name: x.name.clone(),
            share: (was[i].map_or(0.0, |m| then[m as usize].share), x.share),
        })
        .collect();
    let gone = (then.iter().zip(0u32..)).filter(|(_, i)| !was.contains(&Some(*i)));
    mapping.extend(gone.map(|(x, i)| Mapped {
        then: Some(i),
        now: None,
        name: x.name.clone(),
        share: (x.share, 0.0),
    }));

    let sizes = |p: &Plan| p.manifest().candidates.iter().map(|c| c.batch_size).collect::<Vec<u32>>();
    let batches = |p: &Plan| p.epochs().map(|e| e.epoch(0, u64::from(p.manifest().batch_size)).len());
    let gain = |p: &Plan| p.manifest().gain.as_ref().map(|g| g.value);
    Ok(Diff {
        same: m.plan == n.plan,
        id: (m.plan.clone(), n.plan.clone()),
        rows: (m.rows, n.rows),
        rows_planned: (m.rows_planned, n.rows_planned),
        modalities: (m.modalities, n.modalities),
        strata: (m.strata, n.strata),
        batch_size: (m.batch_size, n.batch_size),
        candidates: (sizes(a), sizes(b)),
        batches_per_epoch: (batches(a)?, batches(b)?),
        epochs: (m.epochs, n.epochs),
        samples_per_modality: (m.samples_per_modality, n.samples_per_modality),
        coverage: (m.coverage, n.coverage),
        information_threshold: (m.information_threshold, n.information_threshold),
        modality_share: (m.modality_share.value, n.modality_share.value),
        gain: (gain(a), gain(b)),
        config: settings(&m.config, &n.config),
        mapping,
        mapped_by: mapped_by.into(),
        moved,
        means: means(a, b)?,
    })
}

/// Row groups of equal bytes: (first row then, first row now, rows).
fn common(a: &Plan, b: &Plan) -> Result<Vec<(u64, u64, u64)>> {
    let mut by: BTreeMap<(&str, u64), VecDeque<u64>> = BTreeMap::new();
    for s in a.sources()? {
        by.entry((&s.fingerprint, s.rows)).or_default().push_back(s.first_row);
    }
    let mut found = Vec::new();
    for s in b.sources()? {
        let Some(waiting) = by.get_mut(&(s.fingerprint.as_str(), s.rows)) else { continue };
        // Row groups that are alike keep their order.
        if let Some(first) = waiting.pop_front() {
            found.push((first, s.first_row, s.rows));
        }
    }
    Ok(found)
}

/// Number then and now, modality and stratum then and now.
type Place = Option<(u32, u32)>;

fn each_row(
    a: &Plan,
    b: &Plan,
    groups: &[(u64, u64, u64)],
    mut f: impl FnMut(u64, u64, Place, Place),
) -> Result<()> {
    let (then, now) = (a.samples()?, b.samples()?);
    for &(first, second, rows) in groups {
        for k in 0..rows {
            let place = |s: Option<crate::format::samples::SampleValues>| s.map(|s| (s.modality, s.stratum));
            f(first + k, second + k, place(then.get(first + k)), place(now.get(second + k)));
        }
    }
    Ok(())
}

/// Modalities matched by their centres, the nearest pairs first; none where the features differ.
fn nearest(a: &Plan, b: &Plan) -> Result<Vec<Option<u32>>> {
    let (then, now) = (a.modalities()?, b.modalities()?);
    let mut was = vec![None; now.len()];
    if a.manifest().dims != b.manifest().dims {
        return Ok(was);
    }
    let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
    for (i, x) in now.iter().enumerate() {
        pairs.extend(then.iter().enumerate().map(|(j, y)| (squared(&x.center, &y.center), i, j)));
    }
    pairs.sort_by(|x, y| x.0.total_cmp(&y.0).then((x.1, x.2).cmp(&(y.1, y.2))));
    let mut taken = vec![false; then.len()];
    for (_, i, j) in pairs {
        if was[i].is_none() && !taken[j] {
            (was[i], taken[j]) = (Some(j as u32), true);
        }
    }
    Ok(was)
}

fn settings(a: &Value, b: &Value) -> BTreeMap<String, Pair<Value>> {
    let flat = |v: &Value| -> BTreeMap<String, Value> { leaves(v).into_iter().collect() };
    let (a, b) = (flat(a), flat(b));
    let value = |of: &BTreeMap<String, Value>, key: &String| of.get(key).cloned().unwrap_or(Value::Null);
    let keys = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
    keys.map(|k| (k.clone(), (value(&a, k), value(&b, k)))).filter(|(_, (a, b))| a != b).collect()
}

fn means(a: &Plan, b: &Plan) -> Result<Vec<Mean>> {
    let key = |s: &crate::format::statistics::Statistic| (s.column.clone(), s.index);
    let now: BTreeMap<(String, u32), f64> =
        b.statistics()?.iter().filter(|s| s.modality.is_none()).map(|s| (key(s), s.mean)).collect();
    let mut out: Vec<Mean> = (a.statistics()?.iter())
        .filter(|s| s.modality.is_none())
        .filter_map(|s| {
            let mean = (s.mean, *now.get(&key(s))?);
            let shift = (mean.1 - mean.0) / s.variance.sqrt();
            let shift = if shift.is_finite() { shift } else { 0.0 };
            Some(Mean { column: s.column.clone(), index: s.index, mean, shift })
        })
        .filter(|m| m.shift != 0.0)
        .collect();
    out.sort_by(|x, y| y.shift.abs().total_cmp(&x.shift.abs()));
    out.truncate(10);
    Ok(out)
}
