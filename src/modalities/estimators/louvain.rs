//! Communities of a graph: groups of rows with more edges inside than chance would put there. The graph joins rows of which
//! either is among the other's nearest neighbours, weighted by the share of neighbours that the two have in common (Jarvis &
//! Patrick 1973). Its communities have large modularity at a resolution gamma (Newman & Girvan 2004; Reichardt & Bornholdt
//! 2006),
//!
//! ```text
//! Q = 1/T sum_ij [ w(i, j) - gamma d(i) d(j) / T ] over pairs in the same community,   d(i) = sum_j w(i, j),   T = sum_i d(i),
//! ```
//!
//! and are found by Louvain (Blondel, Guillaume, Lambiotte & Lefebvre 2008): nodes move to the community of most gain, the
//! communities become the nodes of a coarser graph, and so on; on the way back every graph's nodes are moved once more, which
//! parts what coarse moves left badly joined (Rotta & Noack 2011). The larger gamma is, the smaller are the communities.

use std::collections::VecDeque;

/// A node moves if that gains more than this share of its degree: else sums in another order would be a reason to.
const TOLERANCE: f64 = 1e-12;

/// Rows' nearest rows, `k` each.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    pub k: usize,
    /// rows x k.
    pub index: Vec<u32>,
}

impl Lists {
    pub fn rows(&self) -> usize {
        self.index.len() / self.k.max(1)
    }

    pub fn of(&self, row: usize) -> &[u32] {
        &self.index[row * self.k..][..self.k]
    }

    /// The most frequent label of every list; of equally frequent ones that which comes first in the list. O(rows k).
    pub fn vote(&self, labels: &[u32]) -> Vec<u32> {
        let mut rows = vec![0u32; labels.iter().max().map_or(0, |&most| most as usize + 1)];
        let of = |list: &[u32]| {
            list.iter().for_each(|&j| rows[labels[j as usize] as usize] += 1);
            let count = |j: u32| rows[labels[j as usize] as usize];
            let best = list.iter().copied().reduce(|best, j| if count(j) > count(best) { j } else { best });
            list.iter().for_each(|&j| rows[labels[j as usize] as usize] = 0);
            labels[best.expect("no list is empty") as usize]
        };
        self.index.chunks_exact(self.k).map(of).collect()
    }

    /// Dissolves communities of fewer than `least` rows, and than the largest has: their rows go to the community of the first
    /// row in their list whose community is kept, without one to the largest. Labels are numbered anew in their order. O(rows k).
    pub fn dissolve(&self, labels: &mut [u32], least: usize) {
        let mut rows = vec![0usize; labels.len()];
        labels.iter().for_each(|&c| rows[c as usize] += 1);
        let most = rows.iter().copied().max().unwrap_or(0);
        let largest = rows.iter().position(|&n| n == most).unwrap_or(0) as u32;
        let kept = |c: u32| rows[c as usize] >= least.min(most);
        let old = labels.to_vec();
        for (i, label) in labels.iter_mut().enumerate().filter(|(_, c)| !kept(**c)) {
            let listed = self.of(i).iter().map(|&j| old[j as usize]).find(|&c| kept(c));
            *label = listed.unwrap_or(largest);
        }
        compact(labels);
    }
}

/// Numbers labels 0, 1, .. in their order; how many there are. Labels are below the number of nodes.
fn compact(labels: &mut [u32]) -> usize {
    let mut new = vec![0u32; labels.len()];
    labels.iter().for_each(|&c| new[c as usize] = 1);
    let mut count = 0;
    for new in &mut new {
        let there = *new;
        *new = count;
        count += there;
    }
    labels.iter_mut().for_each(|c| *c = new[*c as usize]);
    count as usize
}

/// An undirected graph: node i is joined to `to[start[i]..start[i + 1]]`, ascending. Loops hold what is inside a node.
#[derive(Clone, Debug)]
pub struct Graph<W = Shared> {
    start: Vec<u32>,
    to: Vec<u32>,
    weights: W,
}

/// Weights of edges by their place.
pub trait Weights {
    fn at(&self, edge: usize) -> f64;
}

impl Weights for Vec<f64> {
    fn at(&self, edge: usize) -> f64 {
        self[edge]
    }
}

/// Shares of common neighbours, a byte an edge.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Rows that the two lists, each with its own row, have in common.
    common: Vec<u8>,
    /// The weight of every such number.
    weight: Vec<f64>,
}

impl Weights for Shared {
    fn at(&self, edge: usize) -> f64 {
        self.weight[self.common[edge] as usize]
    }
}

impl Graph {
    /// The weight of an edge is |N(i) and N(j)| / |N(i) or N(j)|, N(i) the list of i and i itself; lists of at most 254 rows.
    /// O(rows k^2).
    pub fn new(near: &Lists) -> Graph {
        let (n, k) = (near.rows(), near.k);
        let (first, places) = grouped(&near.index, n);
        let weight = (0..=k + 1).map(|common| common as f64 / (2 * (k + 1) - common) as f64).collect();
        let (mut start, mut to, mut common) = (vec![0], Vec::new(), Vec::new());
        // The row whose list a row is in, of those looked at last.
        let (mut mine, mut joined) = (vec![u32::MAX; n], Vec::new());
        for i in 0..n as u32 {
            mine[i as usize] = i;
            near.of(i as usize).iter().for_each(|&j| mine[j as usize] = i);
            joined.clear();
            joined.extend(near.of(i as usize));
            let places = &places[first[i as usize] as usize..first[i as usize + 1] as usize];
            let back = places.iter().map(|place| place / k as u32);
            joined.extend(back.filter(|&j| mine[j as usize] != i));
            joined.sort_unstable();
            common.extend(joined.iter().map(|&j| {
                let both = near.of(j as usize).iter().filter(|&&x| mine[x as usize] == i).count();
                (both + usize::from(mine[j as usize] == i)) as u8
            }));
            to.extend(&joined);
            start.push(to.len() as u32);
        }
        Graph { start, to, weights: Shared { common, weight } }
    }

    /// The community of every row, numbered from 0. `key`: of a node's place in the order of the first visits. Deterministic;
    /// nothing can be gained by moving one row.
    pub fn communities(&self, gamma: f64, key: impl Fn(u64) -> u64) -> Vec<u32> {
        let degree: Vec<f64> = (0..self.nodes()).map(|i| self.edges(i).map(|e| e.1).sum()).collect();
        let total: f64 = degree.iter().sum();
        Louvain { scale: gamma / total, key }.labels(self, &degree)
    }
}

/// Places of every value below `values`, ascending: those of value v are `places[start[v]..start[v + 1]]`.
fn grouped(of: &[u32], values: usize) -> (Vec<u32>, Vec<u32>) {
    let mut start = vec![0u32; values + 1];
    of.iter().for_each(|&v| start[v as usize + 1] += 1);
    for v in 0..values {
        start[v + 1] += start[v];
    }
    let (mut next, mut places) = (start.clone(), vec![0u32; of.len()]);
    for (place, &v) in (0..).zip(of) {
        places[next[v as usize] as usize] = place;
        next[v as usize] += 1;
    }
    (start, places)
}

impl<W: Weights> Graph<W> {
    fn nodes(&self) -> usize {
        self.start.len() - 1
    }

    fn edges(&self, node: usize) -> impl Iterator<Item = (u32, f64)> {
        let edges = self.start[node] as usize..self.start[node + 1] as usize;
        edges.map(|e| (self.to[e], self.weights.at(e)))
    }

    /// The graph between communities: weights added in the order of members, then of their edges.
    fn coarse(&self, of: &[u32], communities: usize) -> Graph<Vec<f64>> {
        let (first, members) = grouped(of, communities);
        let (mut start, mut to, mut weights) = (vec![0], Vec::new(), Vec::new());
        let mut sums = Sums::new(communities);
        for c in 0..communities {
            for &i in &members[first[c] as usize..first[c + 1] as usize] {
                self.edges(i as usize).for_each(|(j, w)| sums.add(of[j as usize], w));
            }
            sums.met.sort_unstable();
            weights.extend(sums.met.iter().map(|&d| sums.of[d as usize]));
            to.extend(&sums.met);
            start.push(to.len() as u32);
            sums.clear();
        }
        Graph { start, to, weights }
    }
}

/// Weights from one node to communities, and which were met, in that order. Weights are above 0.
struct Sums {
    of: Vec<f64>,
    met: Vec<u32>,
}

impl Sums {
    fn new(communities: usize) -> Sums {
        Sums { of: vec![0.0; communities], met: Vec::new() }
    }

    fn add(&mut self, community: u32, weight: f64) {
        let sum = &mut self.of[community as usize];
        if *sum == 0.0 {
            self.met.push(community);
        }
        *sum += weight;
    }

    fn clear(&mut self) {
        self.met.iter().for_each(|&c| self.of[c as usize] = 0.0);
        self.met.clear();
    }
}

struct Louvain<K> {
    /// gamma / T.
    scale: f64,
    key: K,
}

impl<K: Fn(u64) -> u64> Louvain<K> {
    fn labels<W: Weights>(&self, graph: &Graph<W>, degree: &[f64]) -> Vec<u32> {
        let n = graph.nodes();
        let mut of: Vec<u32> = (0..n as u32).collect();
        self.moved(graph, degree, &mut of);
        // Numbered by their lowest node.
        let (mut new, mut count) = (vec![u32::MAX; n], 0);
        for c in &mut of {
            let new = &mut new[*c as usize];
            if *new == u32::MAX {
                *new = count;
                count += 1;
            }
            *c = *new;
        }
        if count as usize == n {
            return of;
        }
        let mut inside = vec![0.0; count as usize];
        of.iter().zip(degree).for_each(|(&c, d)| inside[c as usize] += d);
        let above = self.labels(&graph.coarse(&of, count as usize), &inside);
        let mut labels: Vec<u32> = of.iter().map(|&c| above[c as usize]).collect();
        self.moved(graph, degree, &mut labels);
        compact(&mut labels);
        labels
    }

    /// Moves nodes until none gains: first all of them, in the order of their keys, then those with a neighbour that left their
    /// community (Traag, Waltman & van Eck 2019). The gain of node i in community c is w(i, c) - gamma d(i) D(c) / T, D(c) the
    /// degrees of c without i; of equal gains the lower community's counts.
    fn moved<W: Weights>(&self, graph: &Graph<W>, degree: &[f64], of: &mut [u32]) {
        let n = graph.nodes();
        let mut volume = vec![0.0; n];
        of.iter().zip(degree).for_each(|(&c, d)| volume[c as usize] += d);
        let mut order: Vec<(u64, u32)> = (0..n as u32).map(|i| ((self.key)(i.into()), i)).collect();
        order.sort_unstable();
        let mut queue: VecDeque<u32> = order.into_iter().map(|x| x.1).collect();
        let mut waits = vec![true; n];
        let mut sums = Sums::new(n);
        while let Some(i) = queue.pop_front() {
            let (node, own) = (i as usize, of[i as usize]);
            waits[node] = false;
            graph.edges(node).filter(|e| e.0 != i).for_each(|(j, w)| sums.add(of[j as usize], w));
            volume[own as usize] -= degree[node];
            let gain = |c: u32| sums.of[c as usize] - self.scale * degree[node] * volume[c as usize];
            let (mut best, mut most) = (own, gain(own) + TOLERANCE * degree[node]);
            for &c in sums.met.iter().filter(|&&c| c != own) {
                let gain = gain(c);
                if gain > most || gain == most && best != own && c < best {
                    (best, most) = (c, gain);
                }
            }
            sums.clear();
            volume[best as usize] += degree[node];
            if best != own {
                of[node] = best;
                for (j, _) in graph.edges(node).filter(|e| e.0 != i) {
                    if of[j as usize] != best && !std::mem::replace(&mut waits[j as usize], true) {
                        queue.push_back(j);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::matrix::Matrix;
    use crate::kit::rng::{key, mix64, normal};
    use crate::modalities::estimators::neighbours::Neighbours;

    fn lists(n: usize, dims: usize, k: usize) -> Lists {
        let data = (0..n * dims).map(|i| normal(key(2, &[i as u64])) as f32).collect();
        let Neighbours { k, index, .. } = Neighbours::new(&Matrix::from_vec(n, dims, data), k);
        Lists { k, index }
    }

    /// A graph of unit weights with these edges.
    fn graph(nodes: usize, joined: impl Fn(usize, usize) -> bool) -> Graph<Vec<f64>> {
        let (mut start, mut to) = (vec![0], Vec::new());
        for i in 0..nodes {
            to.extend((0..nodes).filter(|&j| i != j && joined(i.min(j), i.max(j))).map(|j| j as u32));
            start.push(to.len() as u32);
        }
        let weights = vec![1.0; to.len()];
        Graph { start, to, weights }
    }

    fn found<W: Weights>(graph: &Graph<W>, gamma: f64) -> Vec<u32> {
        let degree: Vec<f64> = (0..graph.nodes()).map(|i| graph.edges(i).map(|e| e.1).sum()).collect();
        Louvain { scale: gamma / degree.iter().sum::<f64>(), key: mix64 }.labels(graph, &degree)
    }

    /// The definition, over all pairs.
    fn modularity<W: Weights>(graph: &Graph<W>, labels: &[u32], gamma: f64) -> f64 {
        let n = graph.nodes();
        let mut w = vec![0.0; n * n];
        for i in 0..n {
            graph.edges(i).for_each(|(j, x)| w[i * n + j as usize] += x);
        }
        let degree: Vec<f64> = w.chunks(n).map(|row| row.iter().sum()).collect();
        let total: f64 = degree.iter().sum();
        let pairs = (0..n * n).filter(|at| labels[at / n] == labels[at % n]);
        pairs.map(|at| w[at] - gamma * degree[at / n] * degree[at % n] / total).sum::<f64>() / total
    }

    #[test]
    fn weights_are_shares_of_common_neighbours() {
        let near = lists(150, 3, 6);
        let graph = Graph::new(&near);
        let set = |i: usize| {
            let mut set = near.of(i).to_vec();
            set.push(i as u32);
            set
        };
        for i in 0..150 {
            let expected: Vec<(u32, f64)> = (0..150u32)
                .filter(|&j| j as usize != i)
                .filter(|j| near.of(i).contains(j) || near.of(*j as usize).contains(&(i as u32)))
                .map(|j| {
                    let (a, b) = (set(i), set(j as usize));
                    let both = a.iter().filter(|x| b.contains(x)).count();
                    (j, both as f64 / (a.len() + b.len() - both) as f64)
                })
                .collect();
            assert_eq!(graph.edges(i).collect::<Vec<_>>(), expected, "row {i}");
            assert!(expected.iter().all(|x| x.1 > 0.0 && x.1 <= 1.0));
        }
    }

    #[test]
    fn cliques_are_communities_and_gamma_decides_how_fine() {
        let two = graph(10, |i, j| i / 5 == j / 5 || (i, j) == (0, 5));
        assert_eq!(found(&two, 1.0), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
        assert_eq!(found(&two, 0.0), [0; 10]);
        assert_eq!(found(&two, 100.0), (0..10).collect::<Vec<_>>());
        assert_eq!(found(&graph(4, |_, _| false), 1.0), [0, 1, 2, 3]);
    }

    #[test]
    fn a_planted_partition_is_found() {
        let group = |i: usize| (i % 4) as u32;
        let planted = graph(400, |i, j| {
            let share = if group(i) == group(j) { 20 } else { 2 };
            key(3, &[i as u64, j as u64]) % 100 < share
        });
        let labels = found(&planted, 1.0);
        let truth: Vec<u32> = (0..400).map(group).collect();
        assert_eq!(labels.iter().max(), Some(&3));
        let (is, least) = (modularity(&planted, &labels, 1.0), modularity(&planted, &truth, 1.0));
        assert!(is >= least - 1e-12, "{is} < {least}");
    }

    #[test]
    fn no_row_gains_by_moving() {
        let graph = Graph::new(&lists(300, 5, 10));
        for gamma in [0.5, 1.0, 2.0] {
            let labels = graph.communities(gamma, mix64);
            assert_eq!(labels, graph.communities(gamma, mix64));
            let best = modularity(&graph, &labels, gamma);
            for i in (0..300).step_by(11) {
                for (j, _) in graph.edges(i) {
                    let mut moved = labels.clone();
                    moved[i] = labels[j as usize];
                    assert!(modularity(&graph, &moved, gamma) <= best + 1e-9, "row {i} to {j}");
                }
            }
        }
    }

    #[test]
    fn the_coarse_graph_keeps_modularity() {
        let graph = Graph::new(&lists(120, 4, 8));
        let of: Vec<u32> = (0..120).map(|i| (mix64(i) % 9) as u32).collect();
        let above: Vec<u32> = (0..9).map(|c| c % 3).collect();
        let labels: Vec<u32> = of.iter().map(|&c| above[c as usize]).collect();
        let (fine, coarse) =
            (modularity(&graph, &labels, 1.3), modularity(&graph.coarse(&of, 9), &above, 1.3));
        assert!((fine - coarse).abs() < 1e-12);
    }

    #[test]
    fn small_communities_dissolve_into_the_nearest_that_stays() {
        let near = Lists { k: 2, index: vec![1, 2, 0, 2, 1, 0, 5, 4, 3, 5, 4, 3, 7, 0, 6, 3] };
        // Rows 6 and 7 are a community of two; 6 has row 0 in its list, 7 row 3.
        let mut labels = vec![5, 5, 5, 2, 2, 2, 7, 7];
        near.dissolve(&mut labels, 3);
        assert_eq!(labels, [1, 1, 1, 0, 0, 0, 1, 0]);
        // The largest stay however few rows they have.
        let mut labels = vec![5, 5, 5, 2, 2, 3, 3, 3];
        near.dissolve(&mut labels, 100);
        assert_eq!(labels, [1, 1, 1, 0, 0, 0, 0, 0]);
        // A list without a row that stays leads to the largest.
        let mut labels = vec![0, 0, 1, 1, 1];
        Lists { k: 1, index: vec![1, 0, 3, 2, 2] }.dissolve(&mut labels, 3);
        assert_eq!(labels, [0; 5]);
    }

    #[test]
    fn of_equally_frequent_labels_the_first_in_the_list_counts() {
        let near = Lists { k: 4, index: vec![3, 0, 1, 2, 0, 1, 2, 3] };
        assert_eq!(near.vote(&[1, 1, 0, 0]), [0, 1]);
        assert_eq!(near.vote(&[1, 1, 1, 0]), [1, 1]);
    }
}
