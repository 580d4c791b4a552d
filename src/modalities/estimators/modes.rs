//! Modes of a density given by nearest neighbours (ToMATo: Chazal, Guibas, Oudot & Skraba 2013). A row's density is a
//! power of the distance to its k-th neighbour; every row climbs to its densest neighbour; of two hills that meet, the
//! lower one joins the other if it rises less than tau above the pass between them.

use rayon::prelude::*;

use super::neighbours::Neighbours;
use crate::kernels::knn;
use crate::kit::matrix::Matrix;

/// Rows that a thread looks at together.
const TOGETHER: usize = 2048;

/// Which rows the graph to climb joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// i and j if either is among the other's neighbours.
    Either,
    /// i and j if both are (Brito, Chavez, Quiroz & Yukich 1997): a small mode beside a large one, whose rows its own rows
    /// all have among their neighbours but not the other way round, keeps to itself.
    Both,
}

/// The density of rows at one k, and the graph to climb. Rows are numbered by rank here: rank 0 is the densest (ties:
/// the lower row).
#[derive(Clone, Debug)]
pub struct Field {
    /// Intrinsic dimension of the rows at this k.
    dimension: f64,
    /// Log density by rank, descending.
    density: Vec<f64>,
    /// Row of every rank.
    row: Vec<u32>,
    /// Denser neighbours of rank t: `denser[start[t]..start[t + 1]]`, ascending by rank, so the densest is first.
    start: Vec<u32>,
    denser: Vec<u32>,
    /// Hill of every rank, and the hills, highest first.
    hill: Vec<u32>,
    hills: Vec<Hill>,
}

/// All ranks from which one peak is reached by going to the densest neighbour.
#[derive(Clone, Copy, Debug)]
struct Hill {
    /// Rank of the peak.
    peak: u32,
    rows: u32,
    /// How far the peak rises above the highest pass to a higher one, in nats; infinite if there is none.
    rise: f64,
    /// The hill on the other side of that pass.
    beyond: u32,
}

/// The modes at one tau.
#[derive(Clone, Debug, PartialEq)]
pub struct Modes {
    /// Mode of every row; modes are numbered by descending density of their peaks.
    pub labels: Vec<u32>,
    /// Hill of every mode's peak.
    peaks: Vec<u32>,
}

impl Modes {
    pub fn count(&self) -> usize {
        self.peaks.len()
    }
}

impl Field {
    /// Density from the `k`-th neighbour, graph from the first `graph` ones, made symmetric as `joined` says. Lists that
    /// are shorter are taken as they are. O(n (k + graph log n)).
    pub fn new(neighbours: &Neighbours, k: usize, graph: usize, joined: Joined) -> Self {
        let n = neighbours.rows();
        let (k, graph) = (k.min(neighbours.k), graph.min(neighbours.k));
        let (dimension, density) = log_density(neighbours, k);
        let (density, row) = sorted(density);
        let mut rank = vec![0u32; n];
        for (t, &i) in row.iter().enumerate() {
            rank[i as usize] = t as u32;
        }
        let (start, denser) = match joined {
            Joined::Both => mutual(neighbours, graph, &row, &rank),
            Joined::Either => either(neighbours, graph, &rank),
        };
        let (hill, hills) = climb(&density, &start, &denser);
        Field { dimension, density, row, start, denser, hill, hills }
    }

    /// Maximum-likelihood estimate (Levina & Bickel 2005); the density is this power of the distance.
    pub fn dimension(&self) -> f64 {
        self.dimension
    }

    /// Trees of fewer than `min_size` rows (or than the largest has) dissolve: their rows take the mode of the nearest
    /// row of a tree that is kept. O(n graph) and, for rows with no kept row in their list, O(n d) each.
    pub fn modes(&self, tau: f64, min_size: usize, neighbours: &Neighbours, points: &Matrix) -> Modes {
        let (root, peaks) = self.trees(tau, min_size);
        let mode = |&root: &u32| peaks.binary_search(&root).map_or(u32::MAX, |mode| mode as u32);
        let of_hill: Vec<u32> = root.iter().map(mode).collect();
        let mut labels = vec![u32::MAX; self.row.len()];
        for (&row, &hill) in self.row.iter().zip(&self.hill) {
            labels[row as usize] = of_hill[hill as usize];
        }
        dissolve(&mut labels, neighbours, points);
        Modes { labels, peaks }
    }

    /// How many [`Field::modes`] there are, without saying which row belongs to which.
    pub fn count(&self, tau: f64, min_size: usize) -> usize {
        self.trees(tau, min_size).1.len()
    }

    /// The highest hill of the tree that every hill is in, and these hills of the trees that are kept. O(hills): whatever tau
    /// is, a hill joins the first higher one that it meets or none, for it rises even more above every later pass.
    fn trees(&self, tau: f64, min_size: usize) -> (Vec<u32>, Vec<u32>) {
        let joins = |(h, hill): (u32, &Hill)| if hill.rise < tau { hill.beyond } else { h };
        let mut parent: Vec<u32> = (0..).zip(&self.hills).map(joins).collect();
        let root: Vec<u32> = (0..parent.len() as u32).map(|h| find(&mut parent, h)).collect();
        let mut size = vec![0usize; root.len()];
        for (&r, hill) in root.iter().zip(&self.hills) {
            size[r as usize] += hill.rows as usize;
        }
        let least = min_size.min(size.iter().copied().max().unwrap_or(0)).max(1);
        let peaks = (0..root.len() as u32).filter(|&h| size[h as usize] >= least).collect();
        (root, peaks)
    }

    /// How far each mode's peak rises above the pass to a higher mode, in nats (at least tau); for one that meets no
    /// higher mode, above the lowest row.
    pub fn prominence(&self, modes: &Modes) -> Vec<f64> {
        let lowest = self.density.last().copied().unwrap_or(0.0);
        let rise = |&h: &u32| {
            let Hill { peak, rise, .. } = self.hills[h as usize];
            if rise.is_finite() { rise } else { self.density[peak as usize] - lowest }
        };
        modes.peaks.iter().map(rise).collect()
    }

    /// The passes over which modes that meet become one, highest first, as the two modes that meet there: a spanning tree of
    /// the modes. A dissolved tree is part of the mode its rows went to. O(n graph).
    pub fn passes(&self, modes: &Modes) -> Vec<(u32, u32)> {
        let mode = |t: usize| modes.labels[self.row[t] as usize];
        let mut parent: Vec<u32> = (0..modes.count() as u32).collect();
        let mut passes = Vec::new();
        for t in 0..self.row.len() {
            for &j in &self.denser[self.start[t] as usize..self.start[t + 1] as usize] {
                let (here, there) = (mode(t), mode(j as usize));
                let (a, b) = (find(&mut parent, here), find(&mut parent, there));
                if a != b {
                    parent[a.max(b) as usize] = a.min(b);
                    passes.push((here, there));
                }
            }
        }
        passes
    }
}

/// Visits ranks in order: the hill of each, and where each hill first meets a higher one. O(edges).
fn climb(density: &[f64], start: &[u32], denser: &[u32]) -> (Vec<u32>, Vec<Hill>) {
    let mut hill = vec![0u32; density.len()];
    let mut hills: Vec<Hill> = Vec::new();
    // Hills that have met; the highest of them is the root.
    let mut parent: Vec<u32> = Vec::new();
    for t in 0..density.len() {
        let denser = &denser[start[t] as usize..start[t + 1] as usize];
        let Some((&first, others)) = denser.split_first() else {
            hill[t] = hills.len() as u32;
            parent.push(hill[t]);
            hills.push(Hill { peak: t as u32, rows: 1, rise: f64::INFINITY, beyond: hill[t] });
            continue;
        };
        let own = hill[first as usize];
        hill[t] = own;
        hills[own as usize].rows += 1;
        let mut mine = None;
        for &j in others {
            let other = hill[j as usize];
            if other == own {
                continue;
            }
            let here = *mine.get_or_insert_with(|| find(&mut parent, own));
            let there = find(&mut parent, other);
            if here != there {
                let (higher, lower) = (here.min(there), here.max(there));
                let Hill { peak, rise, beyond, .. } = &mut hills[lower as usize];
                *rise = density[*peak as usize] - density[t];
                *beyond = if lower == here { other } else { own };
                parent[lower as usize] = higher;
                mine = Some(higher);
            }
        }
    }
    (hill, hills)
}

/// [`Field::start`] and [`Field::denser`] of the edges that are in both lists. In parallel.
fn mutual(neighbours: &Neighbours, graph: usize, row: &[u32], rank: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let list = |i: u32| &neighbours.of(i as usize)[..graph];
    let some = |(part, rows): (usize, &[u32])| {
        let (mut counts, mut denser) = (Vec::with_capacity(rows.len()), Vec::new());
        for (t, &i) in ((part * TOGETHER) as u32..).zip(rows) {
            let first = denser.len();
            let edges = list(i).iter().filter(|&&j| rank[j as usize] < t && list(j).contains(&i));
            denser.extend(edges.map(|&j| rank[j as usize]));
            denser[first..].sort_unstable();
            counts.push((denser.len() - first) as u32);
        }
        (counts, denser)
    };
    let parts: Vec<(Vec<u32>, Vec<u32>)> = row.par_chunks(TOGETHER).enumerate().map(some).collect();
    let mut start = Vec::with_capacity(row.len() + 1);
    start.push(0);
    for count in parts.iter().flat_map(|(counts, _)| counts) {
        start.push(start[start.len() - 1] + count);
    }
    let denser: Vec<&[u32]> = parts.iter().map(|(_, denser)| denser.as_slice()).collect();
    (start, denser.concat())
}

/// The same of the edges that are in either list.
fn either(neighbours: &Neighbours, graph: usize, rank: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let n = rank.len();
    // Every edge once, at its less dense end.
    let edge = |i: usize, j: u32| {
        let (a, b) = (rank[i], rank[j as usize]);
        u64::from(a.max(b)) << 32 | u64::from(a.min(b))
    };
    let mut edges: Vec<u64> =
        (0..n).flat_map(|i| neighbours.of(i)[..graph].iter().map(move |&j| edge(i, j))).collect();
    edges.par_sort_unstable();
    edges.dedup();
    let mut start = vec![0u32; n + 1];
    for &e in &edges {
        start[(e >> 32) as usize + 1] += 1;
    }
    for t in 0..n {
        start[t + 1] += start[t];
    }
    (start, edges.into_iter().map(|e| e as u32).collect())
}

fn find(parent: &mut [u32], mut t: u32) -> u32 {
    while parent[t as usize] != t {
        let up = parent[parent[t as usize] as usize];
        parent[t as usize] = up;
        t = up;
    }
    t
}

/// dhat and f = -dhat ln r_k. The intrinsic dimension dhat is the inverse of the median over rows of the mean of ln(r_k / r_j),
/// j < k (Levina & Bickel 2005; k - 2 for the bias, MacKay & Ghahramani 2005).
pub fn log_density(neighbours: &Neighbours, k: usize) -> (f64, Vec<f64>) {
    let n = neighbours.rows();
    if k == 0 {
        return (1.0, vec![0.0; n]);
    }
    let last = |i: usize| neighbours.logs(i)[k - 1];
    let resolved = libm::log(1e-20);
    let growth = |i: usize| {
        neighbours.logs(i)[..k - 1].iter().map(|log| last(i) - log).sum::<f64>() / (k as f64 - 2.0)
    };
    let mut growth: Vec<f64> = (0..n)
        .into_par_iter()
        .with_min_len(TOGETHER)
        .filter(|&i| last(i) > resolved)
        .map(growth)
        .filter(|g| g.is_finite())
        .collect();
    let dimension = if growth.is_empty() { 1.0 } else { 1.0 / median(&mut growth).max(1e-9) };
    let floor = (0..n).map(last).fold(f64::NEG_INFINITY, f64::max) + libm::log(1e-12);
    (dimension, (0..n).map(|i| -dimension * last(i).max(floor)).collect())
}

/// The mean of the two middle values where their number is even. O(n); the order of the values changes.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    let n = values.len();
    let (below, &mut upper, _) = values.select_nth_unstable_by(n / 2, f64::total_cmp);
    let lower =
        if n % 2 == 1 { upper } else { below.iter().copied().max_by(f64::total_cmp).unwrap_or(upper) };
    (lower + upper) / 2.0
}

/// Values in descending order and their rows; ties go to the lower row.
fn sorted(values: Vec<f64>) -> (Vec<f64>, Vec<u32>) {
    let mut row: Vec<u32> = (0..values.len() as u32).collect();
    row.par_sort_unstable_by(|&i, &j| values[j as usize].total_cmp(&values[i as usize]).then(i.cmp(&j)));
    (row.iter().map(|&i| values[i as usize]).collect(), row)
}

/// Gives rows without a label (`u32::MAX`) the label of the nearest row that has one: the first in their list, and only
/// if there is none by a search among all.
fn dissolve(labels: &mut [u32], neighbours: &Neighbours, points: &Matrix) {
    let loose: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == u32::MAX).collect();
    if loose.is_empty() {
        return;
    }
    let kept = |j: u32| labels[j as usize] != u32::MAX;
    let listed: Vec<Option<u32>> =
        loose.iter().map(|&i| neighbours.of(i).iter().copied().find(|&j| kept(j))).collect();
    let unlisted: Vec<usize> = loose.iter().zip(&listed).filter(|x| x.1.is_none()).map(|x| *x.0).collect();
    let rows: Vec<usize> = if unlisted.is_empty() {
        Vec::new()
    } else {
        (0..labels.len()).filter(|&j| kept(j as u32)).collect()
    };
    let mut searched = if unlisted.is_empty() {
        Vec::new()
    } else {
        knn::nearest_of(&points.gather(unlisted.into_iter()), &points.gather(rows.iter().copied()))
    }
    .into_iter();
    let new: Vec<u32> = listed
        .into_iter()
        .map(|j| j.map(|j| j as usize).or_else(|| searched.next().map(|s| rows[s as usize])))
        .map(|j| labels[j.expect("every row was found in its list or by the search")])
        .collect();
    for (i, label) in loose.into_iter().zip(new) {
        labels[i] = label;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::tests::mixture;

    /// The statement of step 4, word by word, without any of the bookkeeping above.
    fn naive(
        points: &Matrix,
        (k, graph): (usize, usize),
        kind: Joined,
        tau: f64,
        min_size: usize,
    ) -> Vec<u32> {
        let n = points.rows();
        let all = Neighbours::new(points, n - 1);
        let r = |i: usize, j: usize| all.logs(i)[j].exp();
        let mut g: Vec<f64> = (0..n)
            .map(|i| (0..k - 1).map(|j| (r(i, k - 1) / r(i, j)).ln()).sum::<f64>() / (k - 2) as f64)
            .collect();
        let dimension = 1.0 / median(&mut g);
        let f: Vec<f64> = (0..n).map(|i| -dimension * r(i, k - 1).ln()).collect();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| f[j].total_cmp(&f[i]).then(i.cmp(&j)));
        let joined = |i: usize, j: usize| {
            let sees = |i: usize, j: usize| all.of(i)[..graph].contains(&(j as u32));
            if kind == Joined::Either { sees(i, j) || sees(j, i) } else { sees(i, j) && sees(j, i) }
        };
        let mut tree: Vec<usize> = vec![usize::MAX; n];
        for (t, &i) in order.iter().enumerate() {
            let visited: Vec<usize> = order[..t].iter().copied().filter(|&j| joined(i, j)).collect();
            tree[i] = visited.first().map_or(i, |&j| tree[j]);
            for j in visited {
                let (mut a, mut b) = (tree[i], tree[j]);
                if a != b {
                    if (f[a], b) < (f[b], a) {
                        (a, b) = (b, a);
                    }
                    if f[b] - f[i] < tau {
                        tree.iter_mut().filter(|x| **x == b).for_each(|x| *x = a);
                    }
                }
            }
        }
        let size = |r: usize| tree.iter().filter(|&&x| x == r).count();
        let least = min_size.min((0..n).map(size).max().unwrap());
        (0..n)
            .map(|i| {
                let kept = |j: usize| size(tree[j]) >= least;
                let j = if kept(i) {
                    i
                } else {
                    all.of(i).iter().map(|&j| j as usize).find(|&j| kept(j)).unwrap()
                };
                tree[j] as u32
            })
            .collect()
    }

    #[test]
    fn equals_the_definition() {
        for (n, dims, k) in [(150, 2, 3), (200, 6, 4), (120, 2, 1)] {
            let (sample, _) = mixture(n, dims, k, 1.5);
            // The short list makes some dissolved rows search among all rows.
            for list in [16, 60] {
                let neighbours = Neighbours::new(&sample.points, list);
                for (k, graph, tau, least) in
                    [(16, 16, 0.1, 25), (12, 8, 0.35, 8), (16, 4, 0.7, 4), (8, 6, 0.0, 30)]
                {
                    for kind in [Joined::Either, Joined::Both] {
                        let field = Field::new(&neighbours, k, graph, kind);
                        let got = field.modes(tau, least, &neighbours, &sample.points);
                        let expected = naive(&sample.points, (k, graph), kind, tau, least);
                        // The same partition: labels pair off one to one.
                        let mut pairs: Vec<(u32, u32)> =
                            got.labels.iter().copied().zip(expected.clone()).collect();
                        pairs.sort_unstable();
                        pairs.dedup();
                        let distinct = |mut x: Vec<u32>| {
                            x.sort_unstable();
                            x.dedup();
                            x.len()
                        };
                        assert_eq!(pairs.len(), got.count(), "{n} {dims} {k} {tau}");
                        assert_eq!(pairs.len(), distinct(expected), "{n} {dims} {k} {tau}");
                    }
                }
            }
        }
    }

    #[test]
    fn prominence_is_at_least_tau_and_the_highest_mode_has_most() {
        let (sample, _) = mixture(300, 2, 4, 6.0);
        let neighbours = Neighbours::new(&sample.points, 40);
        let field = Field::new(&neighbours, 16, 16, Joined::Either);
        let modes = field.modes(0.5, 8, &neighbours, &sample.points);
        let rise = field.prominence(&modes);
        assert!(modes.count() >= 2);
        assert!(rise.iter().all(|&x| x >= 0.5) && rise.iter().all(|&x| x <= rise[0]), "{rise:?}");
    }

    #[test]
    fn passes_join_modes_as_a_lower_prominence_would() {
        let (sample, _) = mixture(500, 2, 5, 3.0);
        let neighbours = Neighbours::new(&sample.points, 40);
        let field = Field::new(&neighbours, 16, 16, Joined::Either);
        let modes = field.modes(0.35, 1, &neighbours, &sample.points);
        let passes = field.passes(&modes);
        // Joined over all passes, what is left are the pieces of the graph.
        let pieces = field.modes(f64::INFINITY, 1, &neighbours, &sample.points);
        assert_eq!(passes.len(), modes.count() - pieces.count());
        let mut now: Vec<u32> = (0..modes.count() as u32).collect();
        for (a, b) in passes {
            let (a, b) = (now[a as usize], now[b as usize]);
            assert_ne!(a, b, "no pass is within a mode");
            now.iter_mut().filter(|m| **m == a.max(b)).for_each(|m| *m = a.min(b));
        }
        let joined: Vec<u32> = modes.labels.iter().map(|&m| now[m as usize]).collect();
        for (i, j) in (0..500).flat_map(|i| (0..i).map(move |j| (i, j))) {
            assert_eq!(joined[i] == joined[j], pieces.labels[i] == pieces.labels[j]);
        }
        assert!(modes.count() > pieces.count() + 1, "there is something to join");
    }

    #[test]
    fn rows_that_coincide_are_one_mode() {
        let points = Matrix::from_vec(40, 2, vec![3.0; 80]);
        let neighbours = Neighbours::new(&points, 20);
        let field = Field::new(&neighbours, 16, 16, Joined::Either);
        // Lists of equal distances hold the lowest rows: one hub, one tree.
        assert_eq!(field.modes(0.5, 4, &neighbours, &points).count(), 1);
    }
}
