//! What batches are stratified by.
//!
//! 1. [`fine`]: a stratum is a union of neighbouring prototypes of one modality (row-weighted Ward merging, Ward 1963),
//!    so one nearest-prototype search gives a row's modality and stratum;
//! 2. [`dendrogram`]: average linkage (Sokal & Michener 1958) of the strata's centres, found by nearest-neighbour chains
//!    (Murtagh 1983; Müllner 2011);
//! 3. [`tour`]: its leaves in an order that keeps neighbours together and is drawn anew in each epoch, the order in
//!    which [`crate::batches`] deals;
//! 4. [`score_groups`]: the coarser groups by which batches are scored.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batches::number::Number;
use crate::format::dendrogram::Merge;
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::kit::rng::key;

/// What batches are stratified by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// `modality`, a column's name, or `modality,COLUMN`. `COLUMN:q10` is ten bins of a column's numbers, `column:NAME` the column NAME
    /// whatever else that means.
    pub by: String,
    /// Strata wanted when stratifying by modality; each has at least 40 rows on average. 0: the modalities themselves. `"auto"`: 300,
    /// with chunks more.
    pub fine: Number,
}

impl Default for Params {
    fn default() -> Self {
        Params { by: "modality".into(), fine: Number::Auto }
    }
}

/// Bins of a column that stratifies, if it is cut into some.
const BINS: RangeInclusive<u32> = 2..=1000;

impl Params {
    pub fn check(&self) -> Result<()> {
        let wrong = |reason: String, help: &str| Err(Error::config("strata.by", reason, help));
        if self.names().any(|name| name.is_empty() || name == "column:") {
            return wrong(
                format!("`{}` names nothing", self.by),
                "use modality, a column, or modality,COLUMN",
            );
        }
        if self.names().filter(|&name| name != "modality").count() > 1 {
            return wrong(
                format!("`{}` names more than one column", self.by),
                "use modality, a column, or modality,COLUMN; several columns can be joined to one in the data",
            );
        }
        match self.bins() {
            Some(bins) if !BINS.contains(&bins) => {
                wrong(format!("`{}` asks for {bins} bins", self.by), "choose 2 to 1000 bins")
            }
            _ => Ok(()),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.by.split(',').map(str::trim)
    }

    /// The column that stratifies, if one does, and the bins that it is cut into.
    fn stratifier(&self) -> Option<(&str, Option<u32>)> {
        let name = self.names().find(|&name| name != "modality")?;
        if let Some(name) = name.strip_prefix("column:") {
            return Some((name, None));
        }
        let bins = name.rsplit_once(":q").and_then(|(column, bins)| Some((column, bins.parse().ok()?)));
        Some(bins.map_or((name, None), |(column, bins)| (column, Some(bins))))
    }

    /// The column that stratifies, if one does.
    pub fn column(&self) -> Option<&str> {
        self.stratifier().map(|(column, _)| column)
    }

    /// The bins of equal numbers of rows that the column is cut into; None: its values are the strata.
    pub fn bins(&self) -> Option<u32> {
        self.stratifier()?.1
    }

    /// Whether every stratum lies inside one modality: strata by modality, or by modality and column.
    pub fn inside_modalities(&self) -> bool {
        self.names().any(|name| name == "modality")
    }
}

/// Planned rows that a fine stratum has at least, on average.
const ROWS_PER_STRATUM: u64 = 40;
/// Strata that nobody asked for: without chunks, and at most.
const FINE: u64 = 300;
const FINEST: u64 = 4096;
/// Chunks that a stratum then has rows for: with more, rows of a chunk are less alike; with fewer, they meet again more often.
const CHUNKS_PER_STRATUM: u64 = 4;

impl Params {
    /// Strata wanted of `planned` rows that are dealt in chunks of `chunk`.
    pub fn wanted(&self, planned: u64, chunk: u64) -> u32 {
        let auto = match chunk {
            0..=1 => FINE,
            _ => (planned / CHUNKS_PER_STRATUM.saturating_mul(chunk))
                .max(FINE)
                .min(planned / ROWS_PER_STRATUM)
                .min(FINEST),
        };
        u32::try_from(self.fine.fixed().unwrap_or(auto)).unwrap_or(u32::MAX)
    }

    /// With the number of strata that is wanted, as it goes into a plan.
    pub fn resolved(&self, planned: u64, chunk: u64) -> Params {
        Params { fine: Number::Fixed(self.wanted(planned, chunk).into()), ..self.clone() }
    }
}

/// Groups prototypes into strata: the stratum of every prototype, numbered by (modality, lowest prototype).
///
/// `centers`: the prototypes, `modality` of each (0..M, none empty), `sample_rows` of each, `planned` rows in the plan.
/// max(M, min(`fine`, `planned` / 40)) strata, but no more than prototypes; modality m gets a number in proportion to
/// the square root of its sample rows, at least 1 and at most its prototypes, by largest remainder (ties: the lower
/// modality). Inside a modality the two clusters whose union raises the row-weighted variance least are merged (ties:
/// lower prototypes) until that number is left. O(P^2 d) for P prototypes of d dimensions.
pub fn fine(centers: &Matrix, modality: &[u32], sample_rows: &[u64], planned: u64, fine: u32) -> Vec<u32> {
    assert!(
        centers.rows() == modality.len() && modality.len() == sample_rows.len(),
        "one entry per prototype"
    );
    let members = groups(modality);
    let rows: Vec<u64> = members.iter().map(|m| m.iter().map(|&i| sample_rows[i as usize]).sum()).collect();
    let most: Vec<u64> = members.iter().map(|m| m.len() as u64).collect();
    let wanted = u64::from(fine).min(planned / ROWS_PER_STRATUM).max(members.len() as u64);
    let quota = quotas(&rows, &most, wanted);

    let mut stratum = vec![0; modality.len()];
    let mut next = 0;
    for (members, quota) in members.iter().zip(quota) {
        let cluster = ward(centers, members, sample_rows, quota as usize);
        // Clusters are named by their lowest member, which comes first.
        let mut number = vec![0; members.len()];
        for (place, &first) in cluster.iter().enumerate() {
            if first == place {
                number[place] = next;
                next += 1;
            }
            stratum[members[place] as usize] = number[first];
        }
    }
    stratum
}

/// Indices by group number, ascending in each.
fn groups(of: &[u32]) -> Vec<Vec<u32>> {
    let count = of.iter().max().map_or(0, |&m| m as usize + 1);
    let mut groups = vec![Vec::new(); count];
    for (i, &g) in of.iter().enumerate() {
        groups[g as usize].push(i as u32);
    }
    groups
}

/// `total` split in proportion to sqrt(rows) with 1 <= quota <= most: the factor f for which the clamped f sqrt(rows)
/// sum to `total` is found by bisection, the fractions are settled by largest remainder.
fn quotas(rows: &[u64], most: &[u64], total: u64) -> Vec<u64> {
    let total = total.min(most.iter().sum());
    let root: Vec<f64> = rows.iter().map(|&n| (n.max(1) as f64).sqrt()).collect();
    let share = |f: f64, m: usize| (f * root[m]).max(1.0).min(most[m] as f64);
    let (mut low, mut high) = (0.0, most.iter().copied().max().unwrap_or(1) as f64);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        let sum: f64 = (0..rows.len()).map(|m| share(middle, m)).sum();
        if sum < total as f64 {
            low = middle;
        } else {
            high = middle;
        }
    }
    let ideal: Vec<f64> = (0..rows.len()).map(|m| share(high, m)).collect();
    let mut quota: Vec<u64> = ideal.iter().map(|x| (x + 1e-9).floor() as u64).collect();
    let missing = total.saturating_sub(quota.iter().sum()) as usize;
    let mut open: Vec<usize> = (0..rows.len()).filter(|&m| quota[m] < most[m]).collect();
    open.sort_by(|&a, &b| (ideal[b] - quota[b] as f64).total_cmp(&(ideal[a] - quota[a] as f64)));
    for &m in open.iter().take(missing) {
        quota[m] += 1;
    }
    quota
}

/// Merges until `left` clusters remain; returns for every member the place of its cluster's first member.
fn ward(centers: &Matrix, members: &[u32], rows: &[u64], left: usize) -> Vec<usize> {
    let n = members.len();
    let mut center: Vec<Vec<f64>> =
        members.iter().map(|&i| centers.row(i as usize).iter().map(|&x| f64::from(x)).collect()).collect();
    let mut weight: Vec<f64> = members.iter().map(|&i| rows[i as usize].max(1) as f64).collect();
    let mut cluster: Vec<usize> = (0..n).collect();
    let mut alive: Vec<usize> = (0..n).collect();
    let cost = |center: &[Vec<f64>], weight: &[f64], i: usize, j: usize| {
        weight[i] * weight[j] / (weight[i] + weight[j]) * squared(&center[i], &center[j])
    };
    // The cheapest partner above each cluster; ties go to the lower one because it is met first.
    let partner = |center: &[Vec<f64>], weight: &[f64], alive: &[usize], i: usize| {
        let above = alive.partition_point(|&j| j <= i);
        let mut best = (f64::INFINITY, usize::MAX);
        for &j in &alive[above..] {
            let c = cost(center, weight, i, j);
            if c < best.0 || best.1 == usize::MAX {
                best = (c, j);
            }
        }
        best
    };
    let mut best: Vec<(f64, usize)> = (0..n).map(|i| partner(&center, &weight, &alive, i)).collect();
    while alive.len() > left.max(1) {
        let mut i = alive[0];
        for &k in &alive[1..alive.len() - 1] {
            if best[k].0 < best[i].0 {
                i = k;
            }
        }
        let j = best[i].1;
        let sum = weight[i] + weight[j];
        for t in 0..center[i].len() {
            center[i][t] = (weight[i] * center[i][t] + weight[j] * center[j][t]) / sum;
        }
        weight[i] = sum;
        cluster.iter_mut().filter(|c| **c == j).for_each(|c| *c = i);
        alive.retain(|&k| k != j);
        for &k in &alive {
            if k == i || best[k].1 == i || best[k].1 == j {
                best[k] = partner(&center, &weight, &alive, k);
            } else if k < i {
                let c = cost(&center, &weight, k, i);
                if c < best[k].0 || c == best[k].0 && i < best[k].1 {
                    best[k] = (c, i);
                }
            }
        }
    }
    cluster
}

/// Squared Euclidean distance, summed in order.
fn squared(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// Centres of the strata: row-weighted means of their prototypes' centres (plain means where no row was counted).
pub fn centers(prototypes: &Matrix, stratum: &[u32], rows: &[u64]) -> Vec<Vec<f64>> {
    let points: Vec<Vec<f64>> =
        prototypes.iter_rows().map(|r| r.iter().map(|&x| f64::from(x)).collect()).collect();
    means(&points, &groups(stratum), rows)
}

fn means(points: &[Vec<f64>], groups: &[Vec<u32>], rows: &[u64]) -> Vec<Vec<f64>> {
    let dims = points.first().map_or(0, Vec::len);
    let mean = |members: &Vec<u32>| {
        let counted = members.iter().any(|&i| rows[i as usize] > 0);
        let (mut sum, mut total) = (vec![0.0; dims], 0.0);
        for &i in members {
            let weight = if counted { rows[i as usize] as f64 } else { 1.0 };
            total += weight;
            sum.iter_mut().zip(&points[i as usize]).for_each(|(s, x)| *s += weight * x);
        }
        sum.into_iter().map(|s| s / total).collect()
    };
    groups.iter().map(mean).collect()
}

/// More items than this get a dendrogram of the [`LARGEST`] only; its memory is quadratic.
pub const LINKED: usize = 5000;
const LARGEST: usize = 1000;

/// Two leaves whose clusters merge, and the height.
type Pair = (u32, u32, f64);

/// Average-linkage dendrogram of the strata, S - 1 merges numbered as scipy's `linkage(centers, "average")`.
///
/// `rows` of every stratum. With `inside` (modality of every stratum) modalities stay together: dendrograms inside each,
/// all their merges by ascending height first, then those of the modalities' centres (row-weighted means). Leaving out
/// the last g - 1 merges cuts it into g groups.
///
/// More than 5000 items in one linkage (the strata, the strata of one modality, or the modalities): the 1000 with most
/// rows are linked, each other one is first merged with its nearest of them (ties: the lower), nearest first.
/// O(n^2 d) time and 4 n^2 bytes for the largest linkage of n items.
pub fn dendrogram(centers: &[Vec<f64>], rows: &[u64], inside: Option<&[u32]>) -> Vec<Merge> {
    let strata = centers.len();
    assert_eq!(strata, rows.len(), "one count per stratum");
    let mut pairs = Vec::with_capacity(strata.saturating_sub(1));
    match inside {
        None => {
            let all: Vec<u32> = (0..strata as u32).collect();
            let (beside, linked) = link(centers, rows, &all);
            pairs.extend(beside);
            pairs.extend(linked);
        }
        Some(modality) => {
            let modalities: Vec<Vec<u32>> =
                groups(modality).into_iter().filter(|strata| !strata.is_empty()).collect();
            let mut within = Vec::new();
            for strata in &modalities {
                let own: Vec<Vec<f64>> = strata.iter().map(|&s| centers[s as usize].clone()).collect();
                let own_rows: Vec<u64> = strata.iter().map(|&s| rows[s as usize]).collect();
                let (beside, linked) = link(&own, &own_rows, strata);
                pairs.extend(beside);
                within.extend(linked);
            }
            within.sort_by(|a, b| a.2.total_cmp(&b.2));
            pairs.extend(within);
            let middle = means(centers, &modalities, rows);
            let total: Vec<u64> =
                modalities.iter().map(|strata| strata.iter().map(|&s| rows[s as usize]).sum()).collect();
            // A modality is named by any of its leaves.
            let first: Vec<u32> = modalities.iter().map(|strata| strata[0]).collect();
            let (beside, linked) = link(&middle, &total, &first);
            pairs.extend(beside);
            pairs.extend(linked);
        }
    }
    label(strata, &pairs)
}

/// Links `points`, whose leaves are named by `names`: (merges of small items with a large one, linkage of the rest).
fn link(points: &[Vec<f64>], rows: &[u64], names: &[u32]) -> (Vec<Pair>, Vec<Pair>) {
    if points.len() <= LINKED {
        return (Vec::new(), average_linkage(points, names));
    }
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(rows[i]));
    let (large, small) = order.split_at_mut(LARGEST);
    large.sort_unstable();
    small.sort_unstable();
    let nearest = |&i: &usize| {
        let mut best = (f64::INFINITY, large[0]);
        for &l in large.iter() {
            let d = squared(&points[i], &points[l]);
            if d < best.0 {
                best = (d, l);
            }
        }
        (names[best.1], names[i], best.0.sqrt())
    };
    let mut beside: Vec<Pair> = small.iter().map(nearest).collect();
    beside.sort_by(|a, b| a.2.total_cmp(&b.2));
    let large_points: Vec<Vec<f64>> = large.iter().map(|&l| points[l].clone()).collect();
    let large_names: Vec<u32> = large.iter().map(|&l| names[l]).collect();
    (beside, average_linkage(&large_points, &large_names))
}

/// Nearest-neighbour chains, step by step as scipy does them (so that ties fall alike), then sorted by height.
fn average_linkage(points: &[Vec<f64>], names: &[u32]) -> Vec<Pair> {
    let n = points.len();
    // Condensed upper triangle.
    let at = |i: usize, j: usize| {
        let (i, j) = if i < j { (i, j) } else { (j, i) };
        i * (2 * n - i - 1) / 2 + j - i - 1
    };
    let mut distance = Vec::with_capacity(n * n.saturating_sub(1) / 2);
    for i in 0..n {
        for j in i + 1..n {
            distance.push(squared(&points[i], &points[j]).sqrt());
        }
    }
    let mut size = vec![1u32; n];
    let mut alive: Vec<usize> = (0..n).collect();
    let mut chain: Vec<usize> = Vec::new();
    let mut pairs = Vec::with_capacity(n.saturating_sub(1));
    while alive.len() > 1 {
        if chain.is_empty() {
            chain.push(alive[0]);
        }
        let (x, y, height) = loop {
            let x = chain[chain.len() - 1];
            let before = chain.len().checked_sub(2).map(|i| chain[i]);
            // The previous element wins ties, so that chains end.
            let (mut y, mut shortest) = match before {
                Some(y) => (y, distance[at(x, y)]),
                None => (usize::MAX, f64::INFINITY),
            };
            for &i in &alive {
                if i != x && (distance[at(x, i)] < shortest || y == usize::MAX) {
                    (y, shortest) = (i, distance[at(x, i)]);
                }
            }
            if before == Some(y) {
                break (x.min(y), x.max(y), shortest);
            }
            chain.push(y);
        };
        chain.truncate(chain.len() - 2);
        pairs.push((names[x], names[y], height));
        let (nx, ny) = (f64::from(size[x]), f64::from(size[y]));
        size[y] += size[x];
        alive.retain(|&i| i != x);
        for &i in &alive {
            if i != y {
                distance[at(i, y)] = (nx * distance[at(i, x)] + ny * distance[at(i, y)]) / (nx + ny);
            }
        }
    }
    pairs.sort_by(|a, b| a.2.total_cmp(&b.2));
    pairs
}

/// Names the nodes: a pair merges the clusters that hold its two leaves.
fn label(leaves: usize, pairs: &[Pair]) -> Vec<Merge> {
    let mut sets = Sets::new(leaves);
    let mut node: Vec<(u32, u32)> = (0..leaves as u32).map(|leaf| (leaf, 1)).collect();
    let mut merges = Vec::with_capacity(pairs.len());
    for (i, &(a, b, height)) in pairs.iter().enumerate() {
        let (a, b) = (sets.find(a), sets.find(b));
        let ((left, n), (right, m)) = (node[a as usize], node[b as usize]);
        let size = n + m;
        merges.push(Merge { left: left.min(right), right: left.max(right), height, size });
        sets.join(a, b);
        node[sets.find(a) as usize] = ((leaves + i) as u32, size);
    }
    merges
}

/// Disjoint sets with path halving.
struct Sets(Vec<u32>);

impl Sets {
    fn new(n: usize) -> Self {
        Sets((0..n as u32).collect())
    }

    fn find(&mut self, mut i: u32) -> u32 {
        while self.0[i as usize] != i {
            let up = self.0[self.0[i as usize] as usize];
            self.0[i as usize] = up;
            i = up;
        }
        i
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a as usize] = b;
    }
}

/// The strata in dendrogram order, the two children of node v swapped by a bit of key(seed, epoch, 1, v). Without merges:
/// by number. O(strata).
pub fn tour(dendrogram: &[Merge], strata: usize, seed: u64, epoch: u32) -> Vec<u32> {
    if dendrogram.is_empty() {
        return (0..strata as u32).collect();
    }
    let mut out = Vec::with_capacity(strata);
    let mut stack = vec![2 * strata as u32 - 2];
    while let Some(node) = stack.pop() {
        let Some(merge) = (node as usize).checked_sub(strata) else {
            out.push(node);
            continue;
        };
        let Merge { left, right, .. } = dendrogram[merge];
        let swap = key(seed, &[u64::from(epoch), 1, u64::from(node)]) & 1 == 1;
        stack.extend(if swap { [left, right] } else { [right, left] });
    }
    out
}

/// The strata in dendrogram order, left before right. Without merges: by number. O(strata).
pub fn leaves(dendrogram: &[Merge], strata: usize) -> Vec<u32> {
    let mut out = Vec::with_capacity(strata);
    let mut stack: Vec<u32> = match dendrogram.is_empty() {
        true => (0..strata as u32).rev().collect(),
        false => vec![2 * strata as u32 - 2],
    };
    while let Some(node) = stack.pop() {
        match (node as usize).checked_sub(strata) {
            None => out.push(node),
            Some(merge) => stack.extend([dendrogram[merge].right, dendrogram[merge].left]),
        }
    }
    out
}

/// Without modalities to score by, the dendrogram is cut into this many groups.
const SCORE_GROUPS: usize = 32;

/// The group by which each stratum is scored: its modality if strata lie inside modalities and there are 8 to 64 of
/// them, else the dendrogram cut into min(32, S) groups, numbered by their lowest stratum.
pub fn score_groups(
    modality_of_stratum: Option<&[u32]>,
    modalities: u32,
    strata: u32,
    dendrogram: &[Merge],
) -> Vec<u32> {
    if let Some(modality) = modality_of_stratum
        && (8..=64).contains(&modalities)
    {
        return modality.to_vec();
    }
    let strata = strata as usize;
    let mut sets = Sets::new(2 * strata);
    for (i, merge) in dendrogram.iter().enumerate().take(strata.saturating_sub(SCORE_GROUPS)) {
        sets.join(merge.left, (strata + i) as u32);
        sets.join(merge.right, (strata + i) as u32);
    }
    let mut number = vec![u32::MAX; 2 * strata];
    let mut next = 0;
    (0..strata as u32)
        .map(|stratum| {
            let root = sets.find(stratum) as usize;
            if number[root] == u32::MAX {
                number[root] = next;
                next += 1;
            }
            number[root]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::dendrogram::{from_json, is_dendrogram, to_json};
    use crate::kit::rng::{Permutation, uniform};

    fn points(n: usize, dims: usize, seed: u64) -> Vec<Vec<f64>> {
        let value = |i: usize, j: usize| uniform(key(seed, &[i as u64, j as u64]));
        (0..n).map(|i| (0..dims).map(|j| value(i, j)).collect()).collect()
    }

    #[test]
    fn what_stratifies() {
        let by = |by: &str| Params { by: by.into(), ..Params::default() };
        for (text, column, bins, inside) in [
            ("modality", None, None, true),
            ("price", Some("price"), None, false),
            ("price:q10", Some("price"), Some(10), false),
            ("modality, price:q4", Some("price"), Some(4), true),
            ("price:quick", Some("price:quick"), None, false),
            ("column:price:q10", Some("price:q10"), None, false),
            ("column:modality", Some("modality"), None, false),
        ] {
            let by = by(text);
            assert!(by.check().is_ok(), "{text}");
            assert_eq!((by.column(), by.bins(), by.inside_modalities()), (column, bins, inside), "{text}");
        }
        for (text, told) in [
            ("a,,b", "names nothing"),
            ("column:", "names nothing"),
            ("a,b", "more than one column"),
            ("a:q1", "1 bins"),
            ("a:q1001", "1001 bins"),
        ] {
            assert!(by(text).check().unwrap_err().to_string().contains(told), "{text}");
        }
    }

    #[test]
    fn chunks_want_more_strata() {
        let auto = Params::default();
        assert_eq!([10, 24_000, 10_000_000].map(|n| auto.wanted(n, 1)), [300; 3]);
        // N / 4c, of 40 rows at least; never fewer than 300 but for that; at most 4096.
        assert_eq!([8, 64, 256].map(|c| auto.wanted(24_000, c)), [600, 300, 300]);
        assert_eq!([64, 256].map(|c| auto.wanted(1_000_000, c)), [3906, 976]);
        assert_eq!((auto.wanted(2_000, 8), auto.wanted(100_000_000, 8)), (50, 4096));
        let fixed = Params { fine: Number::Fixed(7), ..auto };
        assert_eq!((fixed.wanted(24_000, 1), fixed.wanted(24_000, 64)), (7, 7));
    }

    #[test]
    fn quotas_keep_their_bounds() {
        // sqrt 10, 20, 30; without bounds 100 would split 17, 33, 50.
        assert_eq!(quotas(&[100, 400, 900], &[1000; 3], 100), [17, 33, 50]);
        assert_eq!(quotas(&[100, 400, 900], &[1000, 1000, 40], 100), [20, 40, 40]);
        assert_eq!(quotas(&[1, 1_000_000], &[5, 50], 10), [1, 9]);
        assert_eq!(quotas(&[100, 100, 100], &[9; 3], 10), [4, 3, 3]);
        assert_eq!(quotas(&[7, 9], &[3, 4], 100), [3, 4]);
        assert_eq!(quotas(&[7, 9], &[3, 4], 2), [1, 1]);
    }

    #[test]
    fn fine_strata_are_neighbours_of_one_modality() {
        // Modality 0: pairs at 0, 10 and 20; modality 1: one pair far away, interleaved.
        let line = [0.0, 100.0, 0.1, 10.0, 100.1, 10.1, 20.0, 20.1];
        let centers = Matrix::from_vec(8, 1, line.to_vec());
        let modality = [0, 1, 0, 0, 1, 0, 0, 0];
        let rows = [100, 11, 100, 100, 11, 100, 100, 100];
        assert_eq!(fine(&centers, &modality, &rows, 40_000, 4), [0, 3, 0, 1, 3, 1, 2, 2]);
        assert_eq!(fine(&centers, &modality, &rows, 40_000, 0), [0, 1, 0, 0, 1, 0, 0, 0]);
        // 160 planned rows are enough for four strata, 100 only for the two modalities.
        assert_eq!(fine(&centers, &modality, &rows, 160, 300), [0, 3, 0, 1, 3, 1, 2, 2]);
        assert_eq!(fine(&centers, &modality, &rows, 100, 300), [0, 1, 0, 0, 1, 0, 0, 0]);
        let every = fine(&centers, &modality, &rows, 40_000, 300);
        assert_eq!(every, [0, 6, 1, 2, 7, 3, 4, 5]);
    }

    #[test]
    fn ward_is_greedy() {
        // Slow twin: look at all pairs before each merge.
        for seed in 0..5 {
            let p = points(24, 2, seed);
            let centers = Matrix::from_vec(24, 2, p.iter().flatten().map(|&x| x as f32).collect());
            let rows: Vec<u64> = (0..24).map(|i| 1 + key(seed, &[99, i]) % 50).collect();
            let members: Vec<u32> = (0..24).collect();
            let mut clusters: Vec<(Vec<usize>, Vec<f64>, f64)> = (0..24)
                .map(|i| (vec![i], centers.row(i).iter().map(|&x| x.into()).collect(), rows[i] as f64))
                .collect();
            while clusters.len() > 7 {
                let mut best = (f64::INFINITY, 0, 0);
                for i in 0..clusters.len() {
                    for j in i + 1..clusters.len() {
                        let (a, b) = (&clusters[i], &clusters[j]);
                        let cost = a.2 * b.2 / (a.2 + b.2) * squared(&a.1, &b.1);
                        if cost < best.0 {
                            best = (cost, i, j);
                        }
                    }
                }
                let (_, i, j) = best;
                let b = clusters.remove(j);
                let a = &mut clusters[i];
                a.0.extend(b.0);
                a.1 = a.1.iter().zip(&b.1).map(|(x, y)| (a.2 * x + b.2 * y) / (a.2 + b.2)).collect();
                a.2 += b.2;
            }
            let got = ward(&centers, &members, &rows, 7);
            for (members, ..) in &clusters {
                assert!(members.iter().all(|&m| got[m] == *members.iter().min().unwrap()));
            }
        }
    }

    #[test]
    fn modalities_stay_together() {
        let n = 60;
        let p = points(n, 3, 1);
        let modality: Vec<u32> = (0..n as u64).map(|i| (key(2, &[i]) % 5) as u32).collect();
        let z = dendrogram(&p, &vec![10; n], Some(&modality));
        assert!(is_dendrogram(&z, n));
        assert!(z[..n - 5].is_sorted_by_key(|m| m.height) && z[n - 5..].is_sorted_by_key(|m| m.height));
        for epoch in 0..5 {
            let order = tour(&z, n, 3, epoch);
            let changes =
                order.windows(2).filter(|w| modality[w[0] as usize] != modality[w[1] as usize]).count();
            assert_eq!(changes, 4);
        }
        // Cutting off the modality merges leaves the modalities.
        let groups = score_groups(Some(&modality), 5, n as u32, &z);
        assert_eq!(groups.iter().max(), Some(&31));
        for g in 0..32 {
            let of: Vec<u32> = (0..n).filter(|&s| groups[s] == g).map(|s| modality[s]).collect();
            assert!(of.windows(2).all(|w| w[0] == w[1]));
        }
        assert_eq!(score_groups(Some(&modality), 8, n as u32, &z), modality);
    }

    #[test]
    fn few_strata() {
        assert!(dendrogram(&[vec![1.0]], &[5], None).is_empty());
        assert!(dendrogram(&[], &[], None).is_empty());
        assert_eq!(tour(&[], 1, 0, 0), [0]);
        assert_eq!(score_groups(None, 1, 1, &[]), [0]);
        let z = dendrogram(&[vec![1.0], vec![1.0], vec![1.0]], &[1; 3], Some(&[0, 0, 0]));
        assert_eq!(score_groups(None, 1, 3, &z), [0, 1, 2]);
    }

    #[test]
    fn many_strata_hang_beside_the_large_ones() {
        let n = 5200;
        let p = points(n, 2, 4);
        let rows: Vec<u64> = (0..n as u64).map(|i| Permutation::new(n as u64, 5).index(i)).collect();
        let z = dendrogram(&p, &rows, None);
        assert!(is_dendrogram(&z, n));
        let small = n - LARGEST;
        assert!(z[..small].is_sorted_by_key(|m| m.height) && z[small..].is_sorted_by_key(|m| m.height));
        let mut order = tour(&z, n, 6, 0);
        order.sort_unstable();
        assert!(order.into_iter().eq(0..n as u32));
    }

    #[test]
    fn json_keeps_every_bit_and_refuses_nonsense() {
        let p = points(40, 3, 7);
        let mut z = dendrogram(&p, &[1; 40], None);
        z[3].height = 0.1 + 0.2;
        z[4].height = 1e-310;
        assert_eq!(from_json(&to_json(&z), 40), Some(z.clone()));
        assert_eq!(from_json(&to_json(&z), 41), None);
        assert!(serde_json::from_str::<Vec<[f64; 4]>>(&to_json(&z)).is_ok());
        assert_eq!(from_json("[[0.0, 1.0, 2, 2.0]]", 2).unwrap()[0].height, 2.0);
        assert_eq!(from_json("[]", 1), Some(vec![]));
        for bad in
            ["", "[", "[[0,1,1]]", "[[0,0,1,2]]", "[[0,2,1,2]]", "[[0,1,1,3]]", "[[0,1,x,2]]", "[[-1,1,1,2]]"]
        {
            assert_eq!(from_json(bad, 2), None, "{bad}");
        }
    }
}
