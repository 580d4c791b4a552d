//! Communities: groups of a block's rows in the graph of its nearest neighbours ([`louvain`](super::louvain)) that halves of
//! the block find independently. Embeddings of text, raw images and overlapping clouds in many dimensions have no valleys that
//! a nearest-neighbour density could see, and yet halves of them find the same groups.
//!
//! 1. **Ladder.** Both halves of every block are parted at each resolution gamma = 1/4 .. 8, in the first 64 principal
//!    components; one half's labels are carried to the other's rows by the majority of their k nearest rows there, and what the
//!    two labellings share is the evidence, as for modes ([`Information`]).
//! 2. **Chance.** Halves of data with one mode share something too: c is the larger of 0.86^d for intrinsic dimension d
//!    (what uniform cubes, normal clouds, spheres and bent sheets reach) and what a *surrogate* reaches, normal rows with the
//!    block's variances along its components: that of long and flat clouds, whose local dimension says nothing.
//! 3. **Gate.** A level counts if its share rho exceeds c + 0.2 and its borders are not denser than its cores: columns that
//!    are heavy-tailed and independent are one mode with arms along the axes, which halves find again, and whose borders, at
//!    the mode, are the densest place.
//! 4. **Level.** Of the levels whose score I kappa^2 is within 10 % of the best, kappa = (rho - c) / (1 - c), the coarsest: of
//!    levels as good the one that claims least.
//!
//! There are no valleys between communities: how many there are is a resolution, not a count.

use std::sync::OnceLock;

use rayon::prelude::*;
use serde_json::json;

use super::grid::{Components, Space, gather, object, range};
use super::information::{Information, agreement, compared};
use super::louvain::{Graph, Lists};
use super::modes::{log_density, median};
use super::neighbours::{Halves, Neighbours};
use crate::format::evidence::Criterion;
use crate::format::projection::Projection;
use crate::kernels::eigen;
use crate::kernels::knn::knn_among;
use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::kit::rng::{Stream, normal};
use crate::modalities::{Fit, Sample, pca, renumber};

/// Resolutions tried: 2^(j/2), j = -4 .. 6.
const RUNGS: usize = 11;
/// The first of them that a surrogate is parted at: below, two or three parts agree by luck or not.
const PARTED: usize = 4;
/// Principal components, at most.
const COMPONENTS: usize = 64;
/// Blocks of fewer rows are not looked at.
const FEWEST: usize = 64;
/// Halvings of equal blocks and of the surrogate.
const HALVINGS: usize = 5;
const SURROGATE_HALVINGS: usize = 2;
/// The share rho that data with one mode reaches, to the power of its intrinsic dimension; the distance kept from it; above
/// such a share nothing is looked for.
const ONE_MODE: f64 = 0.86;
const MARGIN: f64 = 0.2;
const HOPELESS: f64 = 0.8;
/// Below this dimension at k neighbours rows may be near copies of others: more neighbours tell.
const CURVE: f64 = 1.5;
/// The least correlation of a row's share of neighbours in its own community with its log density.
const BORDER: f64 = -0.13;
/// The score of a level is I kappa^TRUST.
pub const TRUST: i32 = 2;
/// Levels within this share of the best score are as good.
const DELTA: f64 = 0.1;

fn gammas() -> [f64; RUNGS] {
    std::array::from_fn(|j| libm::exp2((j as f64 - 4.0) / 2.0))
}

/// Neighbours that join the rows of blocks of at least so many rows; 0: there are too few for communities.
pub fn neighbours(rows: usize) -> usize {
    if rows < FEWEST { 0 } else { (rows / 64).clamp(8, 32) }
}

/// Length of a list that holds `k` rows of either half for nearly every row.
pub fn longest(k: usize) -> usize {
    2 * k + (4.0 * (2.0 * k as f64).sqrt()).ceil() as usize + 8
}

/// Principal components in which communities of data with so many dimensions are looked for.
pub fn components(dims: usize) -> usize {
    dims.min(COMPONENTS)
}

/// What is kept of a block, or of some equal ones, which differ in their halves.
pub struct Block {
    /// Its number.
    first: usize,
    near: Lists,
    /// Log densities.
    density: Vec<f64>,
    dimension: f64,
    /// Along its components; of block 0 alone.
    variances: Vec<f64>,
    halvings: Vec<Halving>,
    graph: OnceLock<Graph>,
}

struct Halving {
    /// Neighbours in the own half, and in the other one.
    own: [Lists; 2],
    across: [Lists; 2],
}

impl Halving {
    fn new(near: &Neighbours, points: &Matrix, halves: &Halves, k: usize) -> Halving {
        let lists = |of, among| {
            let Neighbours { k, index, .. } = near.of_half(halves, points, (of, among), k);
            Lists { k, index }
        };
        Halving { own: [lists(0, 0), lists(1, 1)], across: [lists(0, 1), lists(1, 0)] }
    }
}

impl Block {
    /// Block `first` in its space, whose lists are [`longest`] for `k`, and its halves.
    pub fn new(
        first: usize,
        space: &Space,
        halves: &[Halves],
        k: usize,
        progress: &Progress,
    ) -> Result<Block> {
        let Space { points, neighbours, .. } = space;
        let (dimension, density) = log_density(neighbours, k);
        let index = (0..points.rows()).flat_map(|i| neighbours.of(i)[..k].iter().copied()).collect();
        let variances = if first == 0 { variances(points, progress)? } else { Vec::new() };
        let halvings = halves.iter().take(HALVINGS).map(|h| Halving::new(neighbours, points, h, k)).collect();
        let graph = OnceLock::new();
        Ok(Block { first, near: Lists { k, index }, density, dimension, variances, halvings, graph })
    }

    /// Its rows' communities at this gamma; equal blocks visit them in different orders.
    fn labels(&self, number: usize, gamma: f64, seed: u64) -> Vec<u32> {
        let graph = self.graph.get_or_init(|| Graph::new(&self.near));
        let mut labels = graph.communities(gamma, visits(seed, number, 2));
        self.near.dissolve(&mut labels, (self.near.k / 2).max(4));
        labels
    }

    /// Correlation (Pearson) of the share of a row's neighbours that are in its community with its log density.
    fn border(&self, labels: &[u32]) -> f64 {
        let pure = |i: usize| self.near.of(i).iter().filter(|&&j| labels[j as usize] == labels[i]).count();
        let pure: Vec<f64> = (0..labels.len()).map(|i| pure(i) as f64).collect();
        let n = labels.len() as f64;
        let centred = |x: &[f64]| -> Vec<f64> {
            let mean = x.iter().sum::<f64>() / n;
            x.iter().map(|x| x - mean).collect()
        };
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (a, b) = (centred(&pure), centred(&self.density));
        let scale = product(&a, &a).sqrt() * product(&b, &b).sqrt();
        if scale > 0.0 { product(&a, &b) / scale } else { 0.0 }
    }

    fn numbers(&self) -> impl Iterator<Item = usize> + use<> {
        self.first..self.first + self.halvings.len()
    }
}

/// Places of nodes in the order of the first visits; `half` 2: the whole block.
fn visits(seed: u64, block: usize, half: usize) -> impl Fn(u64) -> u64 {
    move |node| Stream::Visit.key(seed, &[block as u64, half as u64, node])
}

/// Variances along the principal components, descending.
fn variances(points: &Matrix, progress: &Progress) -> Result<Vec<f64>> {
    let covariance = eigen::covariance(points, &eigen::mean(points), progress)?;
    let values = eigen::symmetric(covariance, points.cols(), progress)?.values;
    Ok(values.into_iter().map(|v| v.max(0.0)).collect())
}

/// One resolution over all blocks.
pub struct Level {
    pub gamma: f64,
    /// Mean over the halvings.
    pub halves: Information,
    pub kappa: f64,
    pub eligible: bool,
    /// How many block 0 has, and whether their borders are less dense than their cores; None: not looked at.
    seen: Option<(usize, f64)>,
}

impl Level {
    pub fn score(&self) -> f64 {
        self.halves.mutual * self.kappa.powi(TRUST)
    }
}

/// What the blocks of a sample show at every gamma.
pub struct Ladder {
    k: usize,
    /// Median over the blocks; what data with one mode reaches, by dimension and by the surrogate.
    dimension: f64,
    chance: f64,
    surrogate: f64,
    /// Empty where data with one mode reaches nearly everything.
    levels: Vec<Level>,
    blocks: Vec<Block>,
    seed: u64,
}

impl Ladder {
    /// `coarse`: the intrinsic dimension at the most neighbours that were looked at. O(gammas blocks n k) and a search of the
    /// surrogate's neighbours, O(n^2 p).
    pub fn new(blocks: Vec<Block>, coarse: f64, seed: u64, progress: &Progress) -> Result<Ladder> {
        let Block { near, variances, .. } = &blocks[0];
        let (k, rows) = (near.k, near.rows());
        let mut dimension = median(&mut blocks.iter().map(|b| b.dimension).collect::<Vec<_>>());
        if dimension < CURVE {
            dimension = coarse;
        }
        let mut chance = libm::pow(ONE_MODE, dimension);
        let mut surrogate = 0.0;
        let halvings: Vec<&Halving> = blocks.iter().flat_map(|b| &b.halvings).collect();
        let runs = 2 * (halvings.len() * RUNGS + SURROGATE_HALVINGS * (RUNGS - PARTED));
        let stage = progress.stage("look for communities", "runs", runs as u64);
        let run = || stage.advance(1);
        if chance < HOPELESS {
            surrogate = reached(variances, rows, k, seed, &run)?;
            chance = chance.max(surrogate);
        }
        let mut levels = Vec::new();
        if chance < HOPELESS {
            let found = shared(&halvings, &gammas(), k, seed, &run)?;
            levels.extend(gammas().into_iter().zip(found).map(|(gamma, (halves, split))| {
                let kappa = ((halves.share() - chance) / (1.0 - chance)).max(0.0);
                let eligible = split && halves.share() > chance + MARGIN;
                Level { gamma, halves, kappa, eligible, seen: None }
            }));
            levels.par_iter_mut().filter(|l| l.eligible).for_each(|level| {
                let labels = blocks[0].labels(0, level.gamma, seed);
                let border = blocks[0].border(&labels);
                level.seen = Some((count(&labels), border));
                level.eligible = border > BORDER;
            });
        }
        Ok(Ladder { k, dimension, chance, surrogate, levels, blocks, seed })
    }

    /// The eligible levels that are nearly the best, the coarsest first.
    fn good(&self) -> Vec<&Level> {
        let eligible = || self.levels.iter().filter(|l| l.eligible);
        let most = eligible().map(Level::score).fold(0.0, f64::max);
        eligible().filter(|l| l.score() >= (1.0 - DELTA) * most).collect()
    }

    /// The level of the answer, and how many communities block 0 has there.
    pub fn best(&self) -> Option<(&Level, usize)> {
        self.good().first().map(|level| (*level, level.seen.map_or(0, |seen| seen.0)))
    }

    /// The communities at the best level, if there is one, as the block that agrees most with the others labels the sample.
    pub fn fit(
        &self,
        sample: &Sample,
        blocks: &[Vec<u32>],
        components: &Components,
        progress: &Progress,
    ) -> Result<Option<Fit>> {
        let good = self.good();
        let Some(&level) = good.first() else { return Ok(None) };
        let runs: Vec<(&Block, usize, f64)> = (good.iter())
            .flat_map(|l| self.blocks.iter().flat_map(move |b| b.numbers().map(move |n| (b, n, l.gamma))))
            .collect();
        let labelled = |&(block, number, gamma): &(&Block, usize, f64)| {
            progress.check().map(|()| block.labels(number, gamma, self.seed))
        };
        let found: Vec<Vec<u32>> = runs.par_iter().map(labelled).collect::<Result<_>>()?;
        let counts: Vec<usize> = found.iter().map(|labels| count(labels)).collect();
        let members: Vec<(&Block, &Vec<u32>)> = (self.blocks.iter())
            .map(|b| (b, runs.iter().position(|r| r.0.first == b.first).expect("every block was labelled")))
            .map(|(b, run)| (b, &found[run]))
            .collect();

        let some = compared(sample);
        let stage = progress.stage("compare labellings", "blocks", members.len() as u64);
        let spread = |(block, labels): &(&Block, &Vec<u32>), rows: &[usize]| {
            spread(
                sample,
                &blocks[block.first],
                projection(components, block, sample).as_ref(),
                labels,
                rows,
                self.k,
            )
        };
        let mut told = Vec::new();
        for member in &members {
            told.push(spread(member, &some));
            stage.advance(1)?;
        }
        let agreement = agreement(&told);
        let chosen = (0..told.len()).fold(0, |best, i| if agreement[i] > agreement[best] { i } else { best });
        let (block, _) = members[chosen];
        let mut labels = spread(&members[chosen], &(0..sample.rows.len()).collect::<Vec<_>>());
        let communities = count(&labels);
        renumber(&mut labels, communities);
        let border = level.seen.map_or(f64::NAN, |seen| seen.1);
        let details = json!({
            "gamma": level.gamma, "k": self.k, "p": self::components(sample.points.cols()), "dimension": self.dimension,
            "chance": self.chance, "surrogate": self.surrogate, "I": level.halves.mutual, "rho": level.halves.share(),
            "kappa": level.kappa, "score": level.score(), "border": border, "levels": good.len(),
            "block": block.first, "blocks": counts[..counts.len() / good.len()], "n_s": blocks[block.first].len(),
        });
        let counts = counts.into_iter().map(|m| m as u32).collect();
        Ok(Some(Fit {
            labels,
            prominence: vec![f32::NAN; communities],
            kind: vec!["community".into(); communities],
            projection: projection(components, block, sample),
            confidence: level.halves.share(),
            interval: range(counts, communities as u32),
            details: object(details),
            curve: self.curve(),
            evidence: Vec::new(),
        }))
    }

    /// The score at every gamma where communities may be the answer.
    fn curve(&self) -> Vec<Criterion> {
        let eligible = self.levels.iter().filter(|l| l.eligible);
        eligible.map(|l| self.number(l, "score", l.score())).collect()
    }

    /// The whole ladder.
    pub fn evidence(&self) -> Vec<Criterion> {
        let of = |l: &Level| {
            let mut numbers =
                vec![("I", l.halves.mutual), ("H", l.halves.entropy), ("rho", l.halves.share())];
            numbers.extend(l.seen.iter().flat_map(|&(m, border)| [("M", m as f64), ("border", border)]));
            numbers.into_iter().map(|(name, x)| self.number(l, name, x)).collect::<Vec<_>>()
        };
        self.levels.iter().flat_map(of).collect()
    }

    fn number(&self, level: &Level, name: &str, value: f64) -> Criterion {
        let gamma = (level.gamma * 1000.0).round() / 1000.0;
        Criterion { k: self.k as u32, criterion: format!("gamma={gamma} {name}"), value }
    }
}

/// The space of a block's communities; None: the points as they are.
fn projection(components: &Components, block: &Block, sample: &Sample) -> Option<Projection> {
    let p = self::components(sample.points.cols());
    components[block.first].as_ref().filter(|_| p < sample.points.cols()).map(|all| all.first(p))
}

fn count(labels: &[u32]) -> usize {
    labels.iter().max().map_or(0, |&most| most as usize + 1)
}

/// A block's labels on these rows of the sample: rows outside the block have the label of most of their `k` nearest rows there.
/// O(rows n p).
fn spread(
    sample: &Sample,
    block: &[u32],
    projection: Option<&Projection>,
    labels: &[u32],
    rows: &[usize],
    k: usize,
) -> Vec<u32> {
    let own = |i: usize| block.binary_search(&(i as u32)).ok();
    let others: Vec<usize> = rows.iter().copied().filter(|&i| own(i).is_none()).collect();
    let mut carried = Vec::new();
    if !others.is_empty() {
        let z = |rows: Matrix| pca::apply(projection, &rows);
        let near = knn_among(&z(sample.points.gather(others.into_iter())), &z(gather(sample, block)), k);
        carried = Lists { k, index: near.index }.vote(labels);
    }
    let mut carried = carried.into_iter();
    rows.iter()
        .map(|&i| {
            own(i).map_or_else(|| carried.next().expect("a label for every other row"), |at| labels[at])
        })
        .collect()
}

/// What halves share at every gamma, and whether in most halvings both have two communities or more.
fn shared(
    halvings: &[&Halving],
    gammas: &[f64],
    k: usize,
    seed: u64,
    run: &(impl Fn() -> Result<()> + Sync),
) -> Result<Vec<(Information, bool)>> {
    let halves: Vec<(usize, usize)> = (0..halvings.len()).flat_map(|b| [(b, 0), (b, 1)]).collect();
    let graphs: Vec<Graph> = halves.par_iter().map(|&(b, h)| Graph::new(&halvings[b].own[h])).collect();
    let runs: Vec<(usize, f64)> =
        (0..halves.len()).flat_map(|half| gammas.iter().map(move |&gamma| (half, gamma))).collect();
    let labels = |&(half, gamma): &(usize, f64)| {
        run()?;
        let (b, h) = halves[half];
        let mut labels = graphs[half].communities(gamma, visits(seed, b, h));
        halvings[b].own[h].dissolve(&mut labels, (k / 4).max(4));
        Ok(labels)
    };
    let labels: Vec<Vec<u32>> = runs.par_iter().map(labels).collect::<Result<_>>()?;
    let told = |g: usize| {
        let of = |b: usize| {
            let [a, c] = [0, 1].map(|h| &labels[(2 * b + h) * gammas.len() + g]);
            let [to_a, to_c] = &halvings[b].across;
            let ways = [Information::between(a, &to_a.vote(c)), Information::between(c, &to_c.vote(a))];
            (Information::mean(&ways).expect("there are two ways"), count(a) >= 2 && count(c) >= 2)
        };
        let found: Vec<(Information, bool)> = (0..halvings.len()).map(of).collect();
        let split = 2 * found.iter().filter(|f| f.1).count() > found.len();
        let all: Vec<Information> = found.into_iter().map(|f| f.0).collect();
        (Information::mean(&all).expect("there is a halving"), split)
    };
    Ok((0..gammas.len()).into_par_iter().map(told).collect())
}

/// The largest share that halves of one mode as long and as wide reach at any gamma >= 1.
fn reached(
    variances: &[f64],
    rows: usize,
    k: usize,
    seed: u64,
    run: &(impl Fn() -> Result<()> + Sync),
) -> Result<f64> {
    let p = variances.len();
    let mut points = Matrix::zeros(rows, p);
    points.as_mut_slice().par_chunks_mut(p).enumerate().for_each(|(i, row)| {
        for (j, (x, v)) in row.iter_mut().zip(variances).enumerate() {
            *x = (normal(Stream::Surrogate.key(seed, &[i as u64, j as u64])) * v.sqrt()) as f32;
        }
    });
    let near = Neighbours::new(&points, longest(k).min(rows - 1));
    let halving = |h: usize| {
        let bit = |i: usize| Stream::SurrogateHalf.key(seed, &[h as u64, i as u64]) & 1;
        Halving::new(&near, &points, &Halves::new(rows, |i| bit(i) == 1), k)
    };
    let halvings: Vec<Halving> = (0..SURROGATE_HALVINGS).map(halving).collect();
    let found = shared(&halvings.iter().collect::<Vec<_>>(), &gammas()[PARTED..], k, seed, run)?;
    Ok(found.into_iter().filter(|f| f.1).map(|f| f.0.share()).fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::rng::{key, uniform};
    use crate::modalities::estimators::tests::whole;

    /// One mode of 1 500 rows, number j of row i.
    fn ladder(dims: usize, rows: usize, number: impl Fn(usize, usize) -> f64) -> Ladder {
        let data =
            (0..rows).flat_map(|i| (0..dims).map(|j| number(i, j) as f32).collect::<Vec<_>>()).collect();
        let sample = whole(Matrix::from_vec(rows, dims, data));
        crate::modalities::estimators::consensus::tests::ladder(&sample)
    }

    fn gauss(i: usize, j: usize) -> f64 {
        normal(key(8, &[i as u64, j as u64]))
    }

    #[test]
    fn data_with_one_mode_has_no_communities() {
        let unit = |i: usize, j: usize| uniform(key(9, &[i as u64, j as u64]));
        let exponential = |i, j| -libm::log(1.0 - unit(i, j));
        type Number<'a> = &'a dyn Fn(usize, usize) -> f64;
        let kinds: [(&str, Number); 5] = [
            ("normal", &gauss),
            ("cube", &unit),
            ("long", &|i, j| gauss(i, j) / (j + 1) as f64),
            ("two wide axes", &|i, j| gauss(i, j) * if j < 2 { 10.0 } else { 1.0 }),
            ("arms", &exponential),
        ];
        for (name, number) in kinds {
            for dims in [2, 5, 16, 64] {
                let ladder = ladder(dims, 1500, number);
                assert!(ladder.best().is_none(), "{name} d={dims}: {:?}", ladder.evidence());
            }
        }
    }

    #[test]
    fn the_arms_of_a_mode_are_found_again_and_refused_by_their_borders() {
        let ladder = ladder(16, 3000, |i, j| -libm::log(1.0 - uniform(key(9, &[i as u64, j as u64]))));
        let seen: Vec<f64> = ladder.levels.iter().filter_map(|l| l.seen).map(|seen| seen.1).collect();
        assert!(!seen.is_empty() && seen.iter().all(|&border| border <= BORDER), "{:?}", ladder.evidence());
    }

    #[test]
    fn groups_that_overlap_in_many_dimensions_are_found() {
        let shift = 3.4 / 32f64.sqrt();
        let ladder = ladder(32, 2048, |i, j| gauss(i, j) + if i % 2 == 1 { shift } else { 0.0 });
        let (level, m) = ladder.best().unwrap();
        assert_eq!(m, 2, "{:?}", ladder.evidence());
        let labels = ladder.blocks[0].labels(0, level.gamma, ladder.seed);
        let same = (0..2048).filter(|&i| labels[i] == (i % 2) as u32).count() as f64 / 2048.0;
        assert!((same - 0.5).abs() > 0.42, "{same}");
        assert!(ladder.blocks[0].border(&labels) > BORDER);
    }

    #[test]
    fn near_copies_do_not_silence_groups() {
        // Six groups, ten near copies of every row.
        let center = |g: usize, j: usize| 4.0 * normal(key(4, &[g as u64, j as u64]));
        let groups = ladder(16, 5000, |i, j| {
            let row = i / 10;
            center(row % 6, j) + gauss(row, j) + 1e-2 * normal(key(5, &[i as u64, j as u64]))
        });
        assert_eq!(groups.best().map(|best| best.1), Some(6), "{:?} {}", groups.evidence(), groups.dimension);
        let one = ladder(16, 5000, |i, j| gauss(i / 10, j) + 1e-2 * normal(key(5, &[i as u64, j as u64])));
        assert!(one.best().is_none(), "{:?} {}", one.evidence(), one.dimension);
    }

    #[test]
    fn a_line_has_nothing_to_look_for() {
        let ladder = ladder(2, 500, |i, j| if j == 0 { gauss(i, 0) } else { 0.0 });
        assert!(ladder.chance >= HOPELESS && ladder.levels.is_empty());
    }

    #[test]
    fn borders_correlate_density_with_purity() {
        // Rows 0 to 3 in a row; the middle is denser.
        let near = Lists { k: 1, index: vec![1, 2, 1, 2] };
        let block = |density: [f64; 4]| Block {
            first: 0,
            near: near.clone(),
            density: density.to_vec(),
            dimension: 1.0,
            variances: Vec::new(),
            halvings: Vec::new(),
            graph: OnceLock::new(),
        };
        // Rows 1 and 2 have each other in their lists, and are of different communities: 1, 0, 0, 1 against -1, 3, 0, -2.
        let got = block([1.0, 5.0, 2.0, 0.0]).border(&[0, 0, 1, 1]);
        let expected = -3.0 / 14f64.sqrt();
        assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        assert_eq!(block([1.0; 4]).border(&[0, 0, 1, 1]), 0.0);
    }

    #[test]
    fn variances_are_those_along_the_components() {
        let data = (0..4000).flat_map(|i| [3.0 * gauss(i, 0) as f32, gauss(i, 1) as f32, 2.0]).collect();
        let found = variances(&Matrix::from_vec(4000, 3, data), &Progress::default()).unwrap();
        assert!((found[0] - 9.0).abs() < 0.6 && (found[1] - 1.0).abs() < 0.1 && found[2].abs() < 1e-9);
    }
}
