//! HDBSCAN (Campello, Moulavi & Sander 2013), gated: the clusters that outlive all others over the whole range of
//! densities.
//!
//! 1. The core distance of a row is the distance to its 15th nearest row, itself included (min_samples); two rows are as
//!    far apart as the largest of their distance and their core distances (mutual reachability).
//! 2. The minimum spanning tree under that distance (Prim 1957, over all pairs) is the single-linkage dendrogram; falling
//!    through it from the top, a split counts where both sides have 15 rows (min_cluster_size), else rows drop out.
//! 3. A cluster's excess of mass is the sum over its rows of how long they stay, in 1 / distance. Of all sets of clusters
//!    none of which holds another, the one with the most is taken; the root, all rows, is no candidate. Rows in none are
//!    noise.
//! 4. The gate: the same on two halves with 8 in the place of 15; M = 1 unless what the halves tell each other is more
//!    than what they do not (R > 0).
//!
//! O(n^2 p) for the n rows of a block, in up to 32 principal components.

use rayon::prelude::*;
use serde_json::json;

use super::frame::{Found, Frame, NOISE, Scale};
use super::grid::object;
use crate::format::evidence::Criterion;
use crate::kernels::distance::squared;
use crate::kernels::knn;
use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::modalities::{Fit, ModalityEstimator, Sample};

/// min_cluster_size and min_samples, and the same on a half.
const LEAST: usize = 15;
const LEAST_HALF: usize = 8;

#[derive(Clone, Copy, Debug, Default)]
pub struct Hdbscan;

impl ModalityEstimator for Hdbscan {
    fn name(&self) -> &'static str {
        "hdbscan"
    }

    /// Prominence of a mode: the logarithm of the ratio of the distances at which it begins and at which its densest
    /// rows part.
    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        Frame { gated: true, ..Frame::default() }.fit(sample, seed, progress, |points, scale| {
            let least = if scale == Scale::Whole { LEAST } else { LEAST_HALF };
            let clusters = clusters(points, least, progress)?;
            let stable = |(m, &value): (usize, &f64)| Criterion {
                k: m as u32,
                criterion: "excess of mass".into(),
                value,
            };
            Ok(Found {
                curve: clusters.mass.iter().enumerate().map(stable).collect(),
                details: object(json!({ "min_cluster_size": least, "noise": clusters.noise() })),
                labels: clusters.labels,
                prominence: clusters.prominence,
                evidence: Vec::new(),
            })
        })
    }
}

struct Clusters {
    labels: Vec<u32>,
    prominence: Vec<f32>,
    /// Excess of mass of every cluster, in 1 / distance.
    mass: Vec<f64>,
}

impl Clusters {
    fn noise(&self) -> usize {
        self.labels.iter().filter(|&&l| l == NOISE).count()
    }
}

/// The clusters of at least `least` rows; none if there are fewer than two.
fn clusters(points: &Matrix, least: usize, progress: &Progress) -> Result<Clusters> {
    let n = points.rows();
    if n <= least {
        return Ok(Clusters { labels: vec![NOISE; n], prominence: Vec::new(), mass: Vec::new() });
    }
    let near = knn::knn(points, least - 1);
    let core: Vec<f64> = near.distance.chunks_exact(least - 1).map(|row| row[least - 2]).collect();
    let tree = spanning_tree(points, &core, progress)?;
    Ok(Condensed::new(&Dendrogram::new(tree), least).select())
}

/// An edge of the spanning tree and its length.
type Edge = (f64, u32, u32);

/// A row that is not in the tree yet, and its best edge into it.
struct Open {
    row: u32,
    from: u32,
    best: f64,
    core: f64,
}

/// The edges of a minimum spanning tree under mutual reachability, shortest first; of equally long ones, the one that Prim's
/// method took first, which takes the row of lowest number.
fn spanning_tree(points: &Matrix, core: &[f64], progress: &Progress) -> Result<Vec<Edge>> {
    const CHUNK: usize = 2048;
    let first = |a: (f64, u32, usize), b: (f64, u32, usize)| if (b.0, b.1) < (a.0, a.1) { b } else { a };
    let n = points.rows();
    let mut open: Vec<Open> =
        (1..n).map(|i| Open { row: i as u32, from: 0, best: f64::INFINITY, core: core[i] }).collect();
    let mut edges = Vec::with_capacity(n - 1);
    let mut last = 0usize;
    while !open.is_empty() {
        if edges.len() % 256 == 0 {
            progress.check()?;
        }
        let (row, reach) = (points.row(last), core[last]);
        let nearer = |o: &mut Open| {
            // Not nearer than the core distances whatever the distance is: most pairs end here.
            let least = reach.max(o.core);
            if least < o.best {
                let distance = squared(row, points.row(o.row as usize)).sqrt().max(least);
                if distance < o.best {
                    (o.best, o.from) = (distance, last as u32);
                }
            }
            (o.best, o.row)
        };
        // (length, row, place) of the nearest row of every chunk; rows are distinct, so the order of chunks is no matter.
        let of_chunk = |(c, chunk): (usize, &mut [Open])| {
            let all = chunk.iter_mut().map(nearer).enumerate();
            all.map(|(i, (length, row))| (length, row, c * CHUNK + i))
                .reduce(first)
                .expect("no chunk is empty")
        };
        let nearest: Vec<(f64, u32, usize)> = open.par_chunks_mut(CHUNK).enumerate().map(of_chunk).collect();
        let (length, _, place) = nearest.into_iter().reduce(first).expect("a row is left");
        let taken = open.swap_remove(place);
        edges.push((length, taken.from, taken.row));
        last = taken.row as usize;
    }
    edges.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(edges)
}

/// Single linkage: node `n + t` is made of two earlier nodes at `height[t]`; nodes below n are the rows.
struct Dendrogram {
    rows: usize,
    children: Vec<[u32; 2]>,
    height: Vec<f64>,
    size: Vec<u32>,
}

impl Dendrogram {
    fn new(edges: Vec<Edge>) -> Self {
        let rows = edges.len() + 1;
        // The node of each row's tree, at the root of its union-find tree.
        let mut parent: Vec<u32> = (0..rows as u32).collect();
        let mut node: Vec<u32> = (0..rows as u32).collect();
        let mut tree = Dendrogram {
            rows,
            children: Vec::with_capacity(rows),
            height: Vec::with_capacity(rows),
            size: vec![1; rows],
        };
        for (t, (height, i, j)) in edges.into_iter().enumerate() {
            let (a, b) = (find(&mut parent, i), find(&mut parent, j));
            let pair = [node[a as usize], node[b as usize]];
            tree.size.push(pair.iter().map(|&c| tree.size[c as usize]).sum());
            tree.children.push(pair);
            tree.height.push(height);
            parent[b as usize] = a;
            node[a as usize] = (rows + t) as u32;
        }
        tree
    }
}

pub(super) fn find(parent: &mut [u32], mut i: u32) -> u32 {
    while parent[i as usize] != i {
        parent[i as usize] = parent[parent[i as usize] as usize];
        i = parent[i as usize];
    }
    i
}

/// The dendrogram with only the splits that count. Cluster 0 is the root; children come after their parents.
struct Condensed {
    parent: Vec<u32>,
    /// 1 / distance at which each cluster begins, and at which its last rows leave it.
    birth: Vec<f64>,
    death: Vec<f64>,
    mass: Vec<f64>,
    /// The smallest cluster that each row was in.
    row: Vec<u32>,
}

impl Condensed {
    fn new(tree: &Dendrogram, least: usize) -> Self {
        let mut all = Condensed {
            parent: vec![0],
            birth: vec![0.0],
            death: vec![0.0],
            mass: vec![0.0],
            row: vec![0; tree.rows],
        };
        // Rows that coincide part at no distance at all; a floor keeps the sums finite.
        let floor = tree.height.last().map_or(0.0, |h| h * 1e-12).max(f64::MIN_POSITIVE);
        let mut open = vec![(2 * tree.rows as u32 - 2, 0u32)];
        while let Some((node, cluster)) = open.pop() {
            let c = cluster as usize;
            let Some(t) = (node as usize).checked_sub(tree.rows) else {
                all.row[node as usize] = cluster;
                continue;
            };
            let at = 1.0 / tree.height[t].max(floor);
            let big = |child: u32| tree.size[child as usize] as usize >= least;
            all.death[c] = all.death[c].max(at);
            let splits = tree.children[t].iter().all(|&child| big(child));
            for child in tree.children[t] {
                if splits || !big(child) {
                    all.mass[c] += f64::from(tree.size[child as usize]) * (at - all.birth[c]);
                }
                if splits {
                    let born = all.parent.len() as u32;
                    all.parent.push(cluster);
                    all.birth.push(at);
                    all.death.push(at);
                    all.mass.push(0.0);
                    open.push((child, born));
                } else if big(child) {
                    open.push((child, cluster));
                } else {
                    all.drop_out(tree, child, cluster);
                }
            }
        }
        all
    }

    /// The rows below a node leave a cluster.
    fn drop_out(&mut self, tree: &Dendrogram, node: u32, cluster: u32) {
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            match (node as usize).checked_sub(tree.rows) {
                None => self.row[node as usize] = cluster,
                Some(t) => open.extend(tree.children[t]),
            }
        }
    }

    /// The clusters with the largest excess of mass together.
    fn select(&self) -> Clusters {
        let count = self.parent.len();
        let mut best = self.mass.clone();
        let mut below = vec![0.0; count];
        let mut selected = vec![false; count];
        for c in (1..count).rev() {
            if below[c] > self.mass[c] {
                best[c] = below[c];
            } else {
                selected[c] = true;
            }
            below[self.parent[c] as usize] += best[c];
        }
        let mut label = vec![NOISE; count];
        let (mut prominence, mut mass) = (Vec::new(), Vec::new());
        for c in 1..count {
            label[c] = label[self.parent[c] as usize];
            if label[c] == NOISE && selected[c] {
                label[c] = mass.len() as u32;
                prominence.push(libm::log(self.death[c] / self.birth[c]) as f32);
                mass.push(self.mass[c]);
            }
        }
        Clusters { labels: self.row.iter().map(|&c| label[c as usize]).collect(), prominence, mass }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modalities::estimators::tests::{agreement, degenerate, mixture, same_on_any_threads};

    /// tests/oracle/make_clusters.py: what scikit-learn finds.
    #[test]
    fn equals_scikit_learn() {
        let text = include_str!("../../../tests/oracle/clusters.json");
        let cases: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = cases["hdbscan"].as_array().unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let dims = case["dims"].as_u64().unwrap() as usize;
            let numbers = |key: &str| case[key].as_array().unwrap().iter().map(|x| x.as_i64().unwrap());
            let data: Vec<f32> = numbers("points").map(|x| x as f32).collect();
            let points = Matrix::from_vec(data.len() / dims, dims, data);
            let least = case["least"].as_u64().unwrap() as usize;
            let found = clusters(&points, least, &Progress::default()).unwrap();
            let expected: Vec<u32> =
                numbers("labels").map(|l| if l < 0 { NOISE } else { l as u32 }).collect();
            let noise: Vec<bool> = expected.iter().map(|&l| l == NOISE).collect();
            assert_eq!(found.labels.iter().map(|&l| l == NOISE).collect::<Vec<_>>(), noise);
            assert_eq!(agreement(&found.labels, &expected), 1.0);
        }
    }

    #[test]
    fn skipping_pairs_changes_no_edge() {
        let (sample, _) = mixture(200, 4, 3, 2.0);
        let points = &sample.points;
        let near = knn::knn(points, 7);
        let core: Vec<f64> = near.distance.chunks_exact(7).map(|row| row[6]).collect();
        let tree = spanning_tree(points, &core, &Progress::default()).unwrap();
        // Kruskal's method over all pairs: the same lengths.
        let reach =
            |i: usize, j: usize| squared(points.row(i), points.row(j)).sqrt().max(core[i]).max(core[j]);
        let mut pairs: Vec<Edge> = (0..200)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| (reach(i, j), i as u32, j as u32))
            .collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut parent: Vec<u32> = (0..200).collect();
        pairs.retain(|&(_, i, j)| {
            let (a, b) = (find(&mut parent, i), find(&mut parent, j));
            parent[a as usize] = b;
            a != b
        });
        let lengths = |edges: &[Edge]| edges.iter().map(|e| e.0).collect::<Vec<_>>();
        assert_eq!(lengths(&tree), lengths(&pairs));
    }

    #[test]
    fn modes_of_any_density_are_found_and_one_is_one() {
        let (sample, truth) = mixture(600, 16, 5, 4.0);
        let fit = Hdbscan.fit(&sample, 1, &Progress::default()).unwrap();
        assert_eq!((fit.kind.len(), fit.interval), (5, (5, 5)), "{:?}", fit.details);
        assert!(agreement(&fit.labels, &truth) > 0.99 && fit.confidence > 0.9);
        assert!(fit.prominence.iter().all(|x| *x > 0.0) && !fit.curve.is_empty());
        let one = Hdbscan.fit(&mixture(600, 16, 1, 0.0).0, 1, &Progress::default()).unwrap();
        assert_eq!(one.kind.len(), 1);
        degenerate(&Hdbscan);
        same_on_any_threads(&Hdbscan);
    }
}
