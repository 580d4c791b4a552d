//! What the network is shown: for every cell of the grid a row of scale-free numbers, and a few of the whole sample. The
//! program that trains it (examples/pretrain) makes its tables with the same code.

use rayon::prelude::*;

use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::modalities::Sample;
use crate::modalities::estimators::grid::{Cell, Components, GRAPH, Grid, Seen, Space, gather, least};
use crate::modalities::estimators::information::Information;
use crate::modalities::estimators::modes::{Field, Joined, median};

// The grid is part of what the network was trained on: another one needs new weights.
const TAUS: [f64; 9] = [0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6];
const FIRST: usize = 8;
const LONGEST: f64 = 0.026;
/// Spaces of more components are left out.
const WIDEST: usize = 64;
/// Rows, about, on which a labelling is described and compared with others.
const DESCRIBED: usize = 1000;

/// The numbers of a cell, in order.
#[rustfmt::skip]
pub const CELL: [&str; 47] = [
    // What halves tell about each other.
    "I", "H", "rho", "split", "ln M", "evenness", "ln dimension", "rho - 0.8^dimension",
    // Where the cell is in the grid.
    "ln k/n", "ln k", "tau", "ln tau sqrt k",
    // How it stands among the others by the rules of `consensus` and `rim`.
    "consensus", "rim", "I / max I", "votes", "plateau",
    // Its neighbours in the grid: differences of ln M and of rho.
    "tau- ln M", "tau+ ln M", "k- ln M", "k+ ln M", "p- ln M", "p+ ln M",
    "tau- rho", "tau+ rho", "k- rho", "k+ rho", "p- rho", "p+ rho",
    // Agreement of its labelling with its neighbours' and, on average, with those of its space.
    "tau- agrees", "tau+ agrees", "k- agrees", "k+ agrees", "p- agrees", "p+ agrees", "agrees",
    // The labelling in its space.
    "purity", "purity, wide", "least purity", "largest share", "least share", "silhouette", "least silhouette", "variance explained",
    "dispersion", "median prominence", "least prominence",
];
/// The numbers of the whole sample, in order.
pub const WHOLE: [&str; 6] =
    ["ln n", "ln dims", "ln effective dims", "share of the first component", "distinct rows", "most rho"];
/// Those of [`CELL`] that come from labellings: from "tau- agrees" on.
const SHAPE: usize = 18;

/// A grid as the network sees it.
#[derive(Clone, Debug)]
pub struct Table {
    pub grid: Grid,
    /// Of every block.
    pub components: Components,
    pub cells: Vec<Cell>,
    /// What every block saw.
    pub seen: Vec<Vec<Seen>>,
    /// cells x [`CELL`]; NaN where a number does not exist.
    pub numbers: Vec<f32>,
    pub whole: [f32; WHOLE.len()],
}

impl Table {
    /// The table of `blocks`, equal ones in a row. `each` is shown the labels of every cell of every different block:
    /// (block, cell, labels of the block's rows). O(b n^2 sum p).
    pub fn new(
        sample: &Sample,
        blocks: &[Vec<u32>],
        seed: u64,
        progress: &Progress,
        each: &mut dyn FnMut(usize, usize, &[u32]),
    ) -> Result<Table> {
        let rows = blocks.iter().map(Vec::len).min().expect("a sample has blocks");
        let dims = sample.points.cols();
        let mut grid =
            Grid::new(rows, dims, (FIRST, (LONGEST * rows as f64).max(16.0)), &TAUS, Joined::Either);
        grid.components.retain(|&p| p <= WIDEST);
        let (seen, components) = grid.look(sample, blocks, seed, progress, |_, _, _, _| Ok(()))?;
        let cells = grid.summary(&seen);
        let mut shapes = vec![[0.0; SHAPE]; cells.len()];
        let different: Vec<usize> =
            (0..blocks.len()).filter(|&b| b == 0 || blocks[b] != blocks[b - 1]).collect();
        let stage =
            progress.stage("describe labellings", "spaces", (different.len() * grid.components.len()) as u64);
        let mut spread = Vec::new();
        for &b in &different {
            let points = gather(sample, &blocks[b]);
            let mut found: Vec<Labelling> = Vec::new();
            for &p in &grid.components {
                progress.check()?;
                let space = grid.space(&points, components[b].as_ref(), p, None);
                let at = |&k: &usize| {
                    let field = Field::new(&space.neighbours, k, k.min(GRAPH), Joined::Either);
                    let at = |&tau: &f64| Labelling::new(&space, &field, k, tau);
                    grid.taus.iter().map(at).collect::<Vec<_>>()
                };
                for (labelling, labels) in grid.ladder.par_iter().map(at).collect::<Vec<_>>().concat() {
                    each(b, found.len(), &labels);
                    found.push(labelling);
                }
                if b == 0 && Some(&p) == grid.components.last() {
                    spread = variances(&space.points);
                }
                stage.advance(1)?;
            }
            for (sum, shape) in shapes.iter_mut().zip(agreements(&grid, &found)) {
                for (sum, x) in sum.iter_mut().zip(shape) {
                    *sum += x / different.len() as f64;
                }
            }
        }
        let numbers = numbers(&grid, &cells, &seen, &shapes, rows);
        let all: f64 = spread.iter().sum::<f64>().max(1e-300);
        let squares: f64 = spread.iter().map(|v| v * v).sum::<f64>().max(1e-300);
        let given: usize = sample.blocks.first().map_or(rows, Vec::len);
        let whole = [
            libm::log(rows as f64),
            libm::log(dims as f64),
            libm::log(all * all / squares),
            spread.iter().copied().fold(0.0, f64::max) / all,
            rows as f64 / given.max(rows) as f64,
            cells.iter().filter(|c| c.modes >= 2).map(|c| c.halves.share()).fold(0.0, f64::max),
        ];
        Ok(Table { grid, components, cells, seen, numbers, whole: whole.map(|x| x as f32) })
    }

    /// The numbers of one cell.
    pub fn row(&self, cell: usize) -> &[f32] {
        &self.numbers[cell * CELL.len()..][..CELL.len()]
    }
}

/// One cell's labels on the described rows, and how they lie in their space.
#[derive(Clone)]
struct Labelling {
    modes: usize,
    labels: Vec<u32>,
    lies: [f64; SHAPE - 7],
}

impl Labelling {
    /// With the labels of all rows.
    fn new(space: &Space, field: &Field, k: usize, tau: f64) -> (Labelling, Vec<u32>) {
        let Space { points, neighbours, .. } = space;
        let n = points.rows();
        let found = field.modes(tau, least(k), neighbours, points);
        let m = found.count();
        let described: Vec<usize> = (0..n).step_by(n.div_ceil(DESCRIBED)).collect();
        let labels: Vec<u32> = described.iter().map(|&i| found.labels[i]).collect();
        let mut lies = [f64::NAN; SHAPE - 7];
        if m >= 2 {
            let mut size = vec![0.0; m];
            found.labels.iter().for_each(|&l| size[l as usize] += 1.0 / n as f64);
            // Of the first neighbours, the share with the row's own label, less what labels at random would give.
            let chance: f64 = size.iter().map(|s| s * s).sum();
            let wide = neighbours.k.min((n / 30).max(8));
            let same = |i: usize, near: usize| {
                let list = &neighbours.of(i)[..near.min(neighbours.k)];
                let same = list.iter().filter(|&&j| found.labels[j as usize] == found.labels[i]).count();
                same as f64 / list.len() as f64
            };
            let of_rows: Vec<f64> = described.iter().map(|&i| same(i, GRAPH)).collect();
            let widely = mean(&described.iter().map(|&i| same(i, wide)).collect::<Vec<_>>());
            let beyond = |x: f64| (x - chance) / (1.0 - chance).max(1e-9);
            let (silhouettes, explained) = silhouettes(points, &found.labels, m, &described);
            let mut prominence = field.prominence(&found);
            let steep = libm::sqrt(k as f64);
            let least_prominence = prominence.iter().copied().fold(f64::INFINITY, f64::min);
            lies = [
                beyond(mean(&of_rows)),
                beyond(widely),
                lowest(&of_rows, &labels, m),
                size.iter().copied().fold(0.0, f64::max),
                libm::log(size.iter().copied().fold(1.0, f64::min) * m as f64),
                mean(&silhouettes),
                lowest(&silhouettes, &labels, m),
                explained,
                // How much less the rows scatter than if the space were cut into M equal cells (Krzanowski & Lai 1988).
                libm::log((1.0 - explained).max(1e-9))
                    + 2.0 / field.dimension().max(0.5) * libm::log(m as f64),
                libm::log(median(&mut prominence).max(1e-3) * steep),
                libm::log(least_prominence.max(1e-3) * steep),
            ];
        }
        (Labelling { modes: m, labels, lies }, found.labels)
    }

    fn agrees(&self, other: &Labelling) -> f64 {
        if self.modes < 2 || other.modes < 2 {
            return 0.0;
        }
        Information::between(&self.labels, &other.labels).share()
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The least mean of a mode, of modes with five described rows or more.
fn lowest(values: &[f64], labels: &[u32], modes: usize) -> f64 {
    let mut sum = vec![(0.0, 0.0); modes];
    for (&x, &l) in values.iter().zip(labels) {
        sum[l as usize].0 += x;
        sum[l as usize].1 += 1.0;
    }
    let means = sum.iter().filter(|s| s.1 >= 5.0).map(|s| s.0 / s.1);
    means.reduce(f64::min).unwrap_or(f64::NAN)
}

/// (b - a) / max(a, b) of each described row, a the distance to its own mode's mean and b to the nearest other one's
/// (Rousseeuw 1987, simplified); and the share of the variance that lies between the means.
fn silhouettes(points: &Matrix, labels: &[u32], modes: usize, described: &[usize]) -> (Vec<f64>, f64) {
    let p = points.cols();
    let mut centers = vec![0f64; modes * p];
    let mut size = vec![0f64; modes];
    for (row, &l) in points.iter_rows().zip(labels) {
        size[l as usize] += 1.0;
        let center = &mut centers[l as usize * p..][..p];
        center.iter_mut().zip(row).for_each(|(c, &x)| *c += f64::from(x));
    }
    let n = points.rows() as f64;
    let middle: Vec<f64> = (0..p).map(|j| (0..modes).map(|m| centers[m * p + j]).sum::<f64>() / n).collect();
    let mut between = 0.0;
    for m in 0..modes {
        let center = &mut centers[m * p..][..p];
        center.iter_mut().for_each(|c| *c /= size[m].max(1.0));
        let off = center.iter().zip(&middle).map(|(c, x)| (c - x) * (c - x)).sum::<f64>();
        between += off * size[m] / n;
    }
    let total: f64 = variances(points).iter().sum();
    let centers: Vec<f32> = centers.iter().map(|&c| c as f32).collect();
    let of_row = |&i: &usize| {
        let row = points.row(i);
        let (mut own, mut other) = (0f32, f32::INFINITY);
        for m in 0..modes {
            let d = row.iter().zip(&centers[m * p..][..p]).map(|(x, c)| (x - c) * (x - c)).sum::<f32>();
            if m == labels[i] as usize {
                own = d;
            } else {
                other = other.min(d);
            }
        }
        let (a, b) = (f64::from(own).sqrt(), f64::from(other).sqrt());
        (b - a) / a.max(b).max(1e-300)
    };
    (described.iter().map(of_row).collect(), (between / total.max(1e-300)).min(1.0))
}

/// Of every column.
fn variances(points: &Matrix) -> Vec<f64> {
    let n = points.rows() as f64;
    let mut sums = vec![(0f64, 0f64); points.cols()];
    for row in points.iter_rows() {
        for (s, &x) in sums.iter_mut().zip(row) {
            s.0 += f64::from(x);
            s.1 += f64::from(x) * f64::from(x);
        }
    }
    sums.iter().map(|s| (s.1 / n - (s.0 / n) * (s.0 / n)).max(0.0)).collect()
}

/// Places of a cell's neighbours: lower and higher tau, k, p.
fn around(grid: &Grid, index: usize) -> [Option<usize>; 6] {
    let (t, k) = (grid.taus.len(), grid.ladder.len());
    let step = |at: usize, of: usize, stride: usize| {
        [(at > 0).then(|| index - stride), (at + 1 < of).then(|| index + stride)]
    };
    let [a, b] = step(index % t, t, 1);
    let [c, d] = step(index / t % k, k, t);
    let [e, f] = step(index / (t * k), grid.components.len(), t * k);
    [a, b, c, d, e, f]
}

/// Of every cell, the numbers that come from labellings.
fn agreements(grid: &Grid, found: &[Labelling]) -> Vec<[f64; SHAPE]> {
    let space = grid.taus.len() * grid.ladder.len();
    // Within a space every pair, once.
    let pairs: Vec<(usize, usize)> = (0..found.len())
        .flat_map(|i| (i / space * space..i).map(move |j| (i, j)))
        .filter(|&(i, j)| found[i].modes >= 2 && found[j].modes >= 2)
        .collect();
    let shares: Vec<f64> = pairs.par_iter().map(|&(i, j)| found[i].agrees(&found[j])).collect();
    let mut sum = vec![(0.0, 0.0); found.len()];
    for (&(i, j), share) in pairs.iter().zip(shares) {
        for at in [i, j] {
            sum[at].0 += share;
            sum[at].1 += 1.0;
        }
    }
    let of_cell = |i: usize| {
        let mut shape = [f64::NAN; SHAPE];
        for (x, j) in shape.iter_mut().zip(around(grid, i)) {
            *x = j.map_or(f64::NAN, |j| found[i].agrees(&found[j]));
        }
        shape[6] = if sum[i].1 > 0.0 { sum[i].0 / sum[i].1 } else { f64::NAN };
        shape[7..].copy_from_slice(&found[i].lies);
        shape
    };
    (0..found.len()).into_par_iter().map(of_cell).collect()
}

/// The rows of the table.
fn numbers(grid: &Grid, cells: &[Cell], seen: &[Vec<Seen>], shapes: &[[f64; SHAPE]], n: usize) -> Vec<f32> {
    let ln_m = |c: &Cell| libm::log(c.modes.max(1) as f64);
    let steep = |c: &Cell| c.tau * libm::sqrt(c.k as f64);
    let one_mode = |c: &Cell| libm::pow(0.8, c.dimension);
    let consensus = |c: &Cell| {
        let rho = c.halves.share();
        let counts = c.modes >= 2
            && c.split
            && rho > 0.5
            && (rho > one_mode(c) + 0.1 || steep(c) >= 4.0 && c.dimension >= 1.5);
        if counts { c.halves.mutual * rho.powi(4) } else { 0.0 }
    };
    let rim = |c: &Cell| {
        let counts = c.modes >= 2 && c.split && steep(c) >= 4.0;
        if counts { c.halves.reproducible().max(0.0) } else { 0.0 }
    };
    let most = |of: &dyn Fn(&Cell) -> f64| cells.iter().map(of).fold(1e-9, f64::max);
    let (most_consensus, most_rim) = (most(&consensus), most(&rim));
    let most_shared = most(&|c: &Cell| c.halves.mutual);
    let several = cells.iter().filter(|c| c.modes >= 2).count().max(1) as f64;
    let taus = grid.taus.len();
    let mut numbers = Vec::with_capacity(cells.len() * CELL.len());
    for (i, c) in cells.iter().enumerate() {
        let near = around(grid, i);
        let close = |o: &Cell| (ln_m(o) - ln_m(c)).abs() < 0.1;
        let votes = cells.iter().filter(|o| o.modes >= 2 && close(o)).count() as f64 / several;
        let row = i / taus * taus..(i / taus + 1) * taus;
        let plateau = (row.start..=i).rev().take_while(|&j| close(&cells[j])).count()
            + (i + 1..row.end).take_while(|&j| close(&cells[j])).count();
        let split = seen.iter().filter(|block| block[i].split).count() as f64 / seen.len() as f64;
        let rho = c.halves.share();
        let entropy = if c.modes >= 2 { c.halves.entropy / ln_m(c) } else { f64::NAN };
        let before = numbers.len();
        let mut push = |x: f64| numbers.push(x as f32);
        for x in [
            c.halves.mutual,
            c.halves.entropy,
            rho,
            split,
            ln_m(c),
            entropy,
            libm::log(c.dimension.max(1e-2)),
            rho - one_mode(c),
            libm::log(c.k as f64 / n as f64),
            libm::log(c.k as f64),
            c.tau,
            libm::log(steep(c)),
            consensus(c) / most_consensus,
            rim(c) / most_rim,
            c.halves.mutual / most_shared,
            votes,
            plateau as f64 / taus as f64,
        ] {
            push(x);
        }
        near.iter().for_each(|j| push(j.map_or(f64::NAN, |j| ln_m(&cells[j]) - ln_m(c))));
        near.iter().for_each(|j| push(j.map_or(f64::NAN, |j| cells[j].halves.share() - rho)));
        shapes[i].iter().for_each(|&x| push(x));
        debug_assert_eq!(numbers.len() - before, CELL.len());
    }
    numbers
}
