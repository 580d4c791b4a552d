//! What the planned batches hold, beside what random ones would.
//!
//! Planned batches are dealt from the plan, evenly spaced over its first epoch, so a plan of any size is looked at in about
//! a second. Random batches (rows drawn without replacement) have two sources: counts of a modality are hypergeometric, which
//! is computed exactly, and what depends on all modalities at once (scores, missing ones) is simulated by key.

use serde::Serialize;

use super::short;
use crate::batches::accumulation::Updates;
use crate::batches::score::Score;
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::kit::rng::{Permutation, Stream};
use crate::plan::Plan;

/// Batches that are looked at, and rows of all of them together, at most (but for one batch).
const BATCHES: u64 = 2048;
const ROWS: u64 = 1 << 22;
/// Rows of the simulated batches together, and their number.
const SIMULATED_ROWS: u64 = 1 << 20;
const SIMULATED: std::ops::RangeInclusive<u64> = 50..=1000;
/// First batches of the epoch whose updates are shown.
const UPDATES: u64 = 256;

/// Batches of the recommended size.
#[derive(Debug, Default, Serialize)]
pub struct Composition {
    pub size: u64,
    /// Batches of an epoch, the rest batch included; full ones that were dealt for this; random ones that were simulated.
    pub batches: u64,
    pub dealt: u64,
    pub simulated: u64,
    /// Per modality.
    pub modality: Vec<Counts>,
    /// Per stratum; `low` and `high` of random batches follow from `expected`, so they are left out.
    pub strata_expected: Vec<f64>,
    pub strata_min: Vec<u64>,
    pub strata_max: Vec<u64>,
    /// Share of the batches without any row of some covered modality: planned, random.
    pub missing: (f64, f64),
    /// Modalities that have `size` x share >= 1.
    pub covered: usize,
    /// n_eff / threshold of every batch looked at.
    pub scores: Vec<f64>,
    pub random_scores: Vec<f64>,
    /// Normalised distance x: mean of the planned and of the random batches.
    pub x: (f64, f64),
    /// Mean centrality of the rows of every batch.
    pub centrality: Vec<f64>,
}

/// Rows of one modality in a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    pub expected: f64,
    pub min: u64,
    pub max: u64,
    /// 5 and 95 % quantiles over random batches, and the probability that a random batch has none.
    pub low: u64,
    pub high: u64,
    pub none: f64,
}

/// One batch in its update.
#[derive(Debug, Serialize)]
pub struct Step {
    pub batch: u64,
    pub update: u32,
    pub coefficient: f64,
    pub n_eff: f64,
}

/// `rows`: planned rows of every modality.
pub fn compare(plan: &Plan, rows: &[u64]) -> Result<Composition> {
    let (m, samples, epochs) = (plan.manifest(), plan.samples()?, plan.epochs()?);
    let size = u64::from(m.batch_size);
    let planned: u64 = rows.iter().sum();
    let share = |n: u64| n as f64 / planned.max(1) as f64;
    let epoch = epochs.epoch(0, size);
    let full = planned_draws(epochs.draws, planned) / size.max(1);
    let look = full.min(BATCHES).min((ROWS / size.max(1)).max(1));
    let mut out = Composition { size, batches: epoch.len(), dealt: look, ..Composition::default() };
    let covered: Vec<bool> = rows.iter().map(|&n| size as f64 * share(n) >= 1.0).collect();
    out.covered = covered.iter().filter(|c| **c).count();
    let misses = |counts: &[u64]| counts.iter().zip(&covered).any(|(n, covered)| *covered && *n == 0);

    let sizes: Vec<u64> = epochs.offsets.windows(2).map(|o| o[1] - o[0]).collect();
    out.strata_expected = sizes.iter().map(|&n| short(size as f64 * share(n))).collect();
    let (mut least, mut most) = (vec![u64::MAX; rows.len()], vec![0; rows.len()]);
    (out.strata_min, out.strata_max) = (vec![u64::MAX; sizes.len()], vec![0; sizes.len()]);
    let mut missing = 0u64;
    let mut x = 0.0;
    for i in 0..look {
        // Evenly spaced; every one if there are few.
        let record = epoch.record((u128::from(i) * u128::from(full) / u128::from(look)) as u64);
        let mut of_modality = vec![0u64; rows.len()];
        let mut of_stratum = vec![0u64; sizes.len()];
        let mut centrality = 0.0;
        for (&row, &h) in record.rows.iter().zip(&record.stratum) {
            let modality = samples.modality(row);
            if modality != NONE {
                of_modality[modality as usize] += 1;
            }
            of_stratum[h as usize] += 1;
            centrality += f64::from(samples.centrality(row).unwrap_or(0.5));
        }
        widen(&of_modality, &mut least, &mut most);
        widen(&of_stratum, &mut out.strata_min, &mut out.strata_max);
        missing += u64::from(misses(&of_modality));
        x += record.x;
        out.scores.push(short(record.score));
        out.centrality.push(short(centrality / record.rows.len() as f64));
    }
    if look == 0 {
        // The whole epoch is one rest batch: there is nothing to compare.
        out.strata_min.fill(0);
        return Ok(out);
    }
    out.modality = (rows.iter().zip(least.iter().zip(&most)))
        .map(|(&n, (&min, &max))| {
            let (low, high, none) = hypergeometric(planned, n, size);
            Counts { expected: short(size as f64 * share(n)), min, max, low, high, none: short(none) }
        })
        .collect();

    // Row i of random batch b is member number permutation_b(i) of the planned rows, in the order of the strata.
    let groups = epochs.score_groups.iter().max().map_or(0, |&g| g as usize + 1);
    let mut of_groups = vec![0u64; groups];
    epochs.score_groups.iter().zip(&sizes).for_each(|(&g, n)| of_groups[g as usize] += n);
    let score = Score::new(&of_groups, m.modality_share.value);
    out.simulated = (SIMULATED_ROWS / size).clamp(*SIMULATED.start(), *SIMULATED.end());
    let (mut random_x, mut random_missing) = (0.0, 0u64);
    for b in 0..out.simulated {
        let order = Permutation::new(planned, Stream::Shown.key(m.seed, &[1, b]));
        let mut histogram = vec![0u64; groups];
        let mut of_modality = vec![0u64; rows.len()];
        for i in 0..size {
            let place = order.index(i);
            let h = epochs.offsets.partition_point(|&o| o <= place) - 1;
            histogram[epochs.score_groups[h] as usize] += 1;
            let modality = samples.modality(epochs.members.get(place as usize));
            if modality != NONE {
                of_modality[modality as usize] += 1;
            }
        }
        let (n_eff, x) = score.n_eff(&histogram);
        random_x += x;
        random_missing += u64::from(misses(&of_modality));
        out.random_scores.push(short(n_eff / m.information_threshold));
    }
    let simulated = out.simulated as f64;
    out.x = (short(x / look as f64), short(random_x / simulated));
    out.missing = (short(missing as f64 / look as f64), short(random_missing as f64 / simulated));
    Ok(out)
}

/// Rows of an epoch before the rest batch is cut off.
fn planned_draws(draws: Option<&[u64]>, planned: u64) -> u64 {
    draws.map_or(planned, |d| d.iter().sum())
}

fn widen(counts: &[u64], least: &mut [u64], most: &mut [u64]) {
    for ((n, least), most) in counts.iter().zip(least).zip(most) {
        (*least, *most) = ((*least).min(*n), (*most).max(*n));
    }
}

/// The first batches of the first epoch in their updates: complete updates only. With the second entry, whether the
/// epoch goes on.
pub fn updates(plan: &Plan) -> Result<(Vec<Step>, bool)> {
    let (m, epochs) = (plan.manifest(), plan.epochs()?);
    let size = u64::from(m.batch_size);
    let epoch = epochs.epoch(0, size);
    let first = epoch.len().min(UPDATES);
    let records = (0..first).map(|i| epoch.record(i));
    let records = records.map(|r| ((r.index, r.n_eff), r.n_eff, r.rows.len() as u64));
    let all = Updates::of(records, m.information_threshold, size);
    let more = epoch.len() > first;
    let last = all.last().map(|(_, place)| place.update);
    // The update that the cut falls into may go on behind it.
    let whole = all.into_iter().filter(|(_, place)| !more || Some(place.update) != last);
    let step = |((batch, n_eff), place): ((u64, f64), crate::batches::accumulation::Update)| Step {
        batch,
        update: place.update,
        coefficient: short(place.coefficient),
        n_eff: short(n_eff),
    };
    Ok((whole.map(step).collect(), more))
}

/// Of `drawn` rows out of `all`, `marked` of which are marked: 5 and 95 % quantiles of how many are marked, and the
/// probability that none is. O(standard deviation of that number), by the ratio of neighbouring probabilities from the
/// mode outwards.
pub fn hypergeometric(all: u64, marked: u64, drawn: u64) -> (u64, u64, f64) {
    let (least, most) = ((drawn + marked).saturating_sub(all), drawn.min(marked));
    let (n, k, d) = (all as f64, marked as f64, drawn as f64);
    let mode = (((d + 1.0) * (k + 1.0) / (n + 2.0)) as u64).clamp(least, most);
    // P(i + 1) / P(i)
    let ratio = |i: u64| {
        let i = i as f64;
        (k - i) * (d - i) / ((i + 1.0) * (n - k - d + i + 1.0))
    };
    const NEGLIGIBLE: f64 = 1e-15;
    let mut chances = vec![(mode, 1.0)];
    let mut p = 1.0;
    for i in (least..mode).rev() {
        p /= ratio(i);
        if p < NEGLIGIBLE {
            break;
        }
        chances.push((i, p));
    }
    chances.reverse();
    p = 1.0;
    for i in mode..most {
        p *= ratio(i);
        if p < NEGLIGIBLE {
            break;
        }
        chances.push((i + 1, p));
    }
    let total: f64 = chances.iter().map(|c| c.1).sum();
    let quantile = |q: f64| {
        let mut sum = 0.0;
        for &(i, p) in &chances {
            sum += p / total;
            if sum >= q {
                return i;
            }
        }
        most
    };
    let none = chances.iter().find(|c| c.0 == 0).map_or(0.0, |c| c.1 / total);
    (quantile(0.05), quantile(0.95), none)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By its definition, with binomial coefficients.
    fn naive(all: u64, marked: u64, drawn: u64) -> Vec<f64> {
        let choose = |n: u64, k: u64| {
            if k > n { 0.0 } else { (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product::<f64>() }
        };
        (0..=drawn)
            .map(|i| {
                choose(marked, i) * if i > drawn { 0.0 } else { choose(all - marked, drawn - i) }
                    / choose(all, drawn)
            })
            .collect()
    }

    #[test]
    fn counts_of_random_batches_are_hypergeometric() {
        for (all, marked, drawn) in
            [(1000, 200, 64), (1000, 3, 64), (50, 49, 20), (40, 20, 40), (30, 0, 5), (9, 9, 4)]
        {
            let chances = naive(all, marked, drawn);
            let quantile = |q: f64| {
                let mut sum = 0.0;
                chances
                    .iter()
                    .position(|p| {
                        sum += p;
                        sum >= q - 1e-12
                    })
                    .unwrap() as u64
            };
            let (low, high, none) = hypergeometric(all, marked, drawn);
            assert_eq!((low, high), (quantile(0.05), quantile(0.95)), "{all} {marked} {drawn}");
            assert!((none - chances[0]).abs() < 1e-9, "{all} {marked} {drawn}: {none} {}", chances[0]);
        }
        // A billion rows: nothing overflows, and about two standard deviations of 40.96 are kept.
        let (low, high, none) = hypergeometric(1_000_000_000, 10_000_000, 4096);
        assert!((29..33).contains(&low) && (50..54).contains(&high) && none < 1e-15, "{low} {high} {none}");
    }
}
