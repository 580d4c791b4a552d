//! Consensus modes: the density modes that disjoint halves of the sample find independently, at the level on which all
//! blocks and the neighbouring levels agree best.
//!
//! The grid of cells (components p, neighbours k, prominence tau) and what halves tell about each other in every cell are
//! those of [`rim`](super::rim), see [`grid`](super::grid); k starts at 8 and tau goes up to 5.6, and hills meet where
//! rows are each other's neighbours ([`Joined::Both`]). What differs most is how the grid is read:
//!
//! 1. **Is there more than one mode?** The information I of H nats that halves share is evidence only if it is more than
//!    halves of data with *one* mode share, and that is not nothing: cut a line, a disc or a ball into connected pieces at
//!    random, twice, and the two cuttings tell much about each other, the more the lower the dimension. The share rho = I/H
//!    that one-mode data of intrinsic dimension d reached in any cell is close to 0.8^d. So a cell counts if rho exceeds
//!    0.8^d + 0.1, or if its modes rise four standard errors above their passes (tau sqrt(k) >= 4) and the data is no curve;
//!    in any case rho must exceed 1/2.
//! 2. **At which level?** The one with the largest I kappa^3, where kappa = (rho - 0.8^d) / (1 - 0.8^d) is the share that is
//!    reproduced, corrected for chance as Cohen (1960) corrects agreement: the most information, trusted as far as it is
//!    reproduced. A level with more modes wins only if it reproduces them.
//! 3. **Which labelling?** Every block labels the sample at every level that scores nearly as well (10 %); taken is the
//!    labelling with the largest product of score and agreement with all the others (a weighted medoid of the ensemble), so
//!    M is not the whim of one block.
//! 4. **Modes too small for a block.** If halves of blocks share a fifth more information than the best score, part of which
//!    they do not reproduce, the whole sample is looked at as one block with k <= 64, in the spaces where that was seen, and
//!    its answer stands if its score is a fifth above that of the blocks. Otherwise the resolution stays what the user asked
//!    for.
//! 5. **Two modes or one?** A level that shows small modes in the whole sample cuts a larger one here and there. So where two
//!    of its modes meet, the rows of both are looked at as if they were all there is, in their first four principal
//!    components and in the space of the labelling: if step 1 finds no more than one mode, they are one.
//! 6. **Modes within modes.** The principal components of the whole need not show what parts a small mode from its
//!    neighbour; those of the two alone do. So each mode's own rows are looked at once more, in their first four principal
//!    components, and split if halves agree on how to nearly perfectly (kappa >= 0.9); and so on with the parts.
//!
//! docs/modalities.md measures it beside rim and beside peers, on datasets it was built on and on held-out ones, and what
//! each of these steps is worth.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde_json::json;

use super::grid::{
    Cell, Components, FEWEST, Grid, Labelled, Seen, StandIn, distinct, evidence, least, object, one_mode,
};
use super::information::Information;
use super::modes::Joined;
use crate::format::evidence::Criterion;
use crate::format::projection::Projection;
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::kit::rng::mix64;
use crate::modalities::{Fit, ModalityEstimator, Sample, pca, renumber};

/// Prominences tried, in nats.
const TAUS: [f64; 9] = [0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6];
/// Neighbours of the first cell.
const FIRST: usize = 8;
/// Neighbours of the last cell, as a share of a block's rows; and in the whole sample.
const LONGEST: f64 = 0.026;
const LONGEST_FINER: f64 = 64.0;
/// The share rho that data with one mode reaches, to the power of its intrinsic dimension, and the distance kept from it.
const ONE_MODE: f64 = 0.8;
const MARGIN: f64 = 0.1;
/// A mode's prominence in standard errors of the log density (1 / sqrt k) that is evidence of its own, and the dimension
/// from which on it is: along a curve every fluctuation is a mode.
const Z0: f64 = 4.0;
const CURVE: f64 = 1.5;
/// The score of a level is I kappa^TRUST.
const TRUST: i32 = 3;
/// Levels within this share of the best score are as good; so many of them, at most, label the sample.
const DELTA: f64 = 0.1;
const LEVELS: usize = 15;
/// Rows on which labellings are compared, about.
const COMPARED: usize = 5000;
/// See step 4.
const FINER: f64 = 1.2;
/// A dataset of fewer rows is halved so often, not once a block.
const SMALL: usize = 1000;
const SMALL_HALVINGS: usize = 15;
/// Halvings of the whole sample in step 4, of two modes in step 5 and of a mode in step 6.
const HALVINGS: usize = 3;
/// Steps 5 and 6: principal components of some modes' rows, rows looked at (about, at most), and the kappa that splits one.
const WITHIN: usize = 4;
const WITHIN_ROWS: usize = 10_000;
const CLEAR: f64 = 0.9;
/// Modes of fewer rows are looked into several at a time.
const SMALL_MODE: usize = 2000;

/// The default estimator. The fields switch steps off, for the ablation in docs/modalities.md; all are on by default.
///
/// O(b n^2 sum p) for b blocks of n rows, and O((b n)^2 p) more where step 4 looks at the whole sample, whatever the
/// dataset's size. One block's neighbour lists are held at a time.
#[derive(Clone, Copy, Debug)]
pub struct Consensus {
    /// Hills meet only where rows are each other's neighbours. Off: where one is the other's.
    pub mutual: bool,
    /// Step 1, and kappa in step 2. Off: modes that rise four standard errors are the only evidence, as in `rim`, and kappa
    /// is rho.
    pub chance: bool,
    /// Step 2. Off: the level with the largest R = 2I - H.
    pub trust: bool,
    /// Small datasets are halved fifteen times. Off: five times.
    pub halvings: bool,
    /// Step 3. Off: the best level, as the block with the median number of modes shows it.
    pub medoid: bool,
    /// Step 4.
    pub finer: bool,
    /// Step 5.
    pub pairs: bool,
    /// Step 6.
    pub within: bool,
}

impl Default for Consensus {
    fn default() -> Self {
        Consensus {
            mutual: true,
            chance: true,
            trust: true,
            halvings: true,
            medoid: true,
            finer: true,
            pairs: true,
            within: true,
        }
    }
}

impl ModalityEstimator for Consensus {
    fn name(&self) -> &'static str {
        "consensus"
    }

    fn fit(&self, sample: &Sample, seed: u64, progress: &Progress) -> Result<Fit> {
        self.read(&mut self.look(sample, seed, progress)?, progress)
    }
}

/// What the blocks of a sample show. Depends on [`Consensus::mutual`] alone, so that an ablation looks once and reads often.
pub struct Looked<'a> {
    sample: &'a Sample,
    seed: u64,
    blocks: Vec<Vec<u32>>,
    /// None: too few rows.
    view: Option<View>,
    /// The whole sample as one block, for every choice of spaces that was asked for.
    finer: Vec<View>,
}

/// Blocks of the sample and what they show in every cell of the grid.
struct View {
    blocks: Vec<Vec<u32>>,
    grid: Grid,
    components: Components,
    table: Vec<Vec<Seen>>,
    cells: Vec<Cell>,
    /// Where all blocks are the same, its neighbour lists in every space: four bytes for each of about a hundred neighbours.
    lists: BTreeMap<usize, Vec<u32>>,
}

impl View {
    fn new(
        sample: &Sample,
        blocks: Vec<Vec<u32>>,
        grid: Grid,
        seed: u64,
        progress: &Progress,
    ) -> Result<View> {
        let mut lists = BTreeMap::new();
        let one = blocks.iter().all(|block| *block == blocks[0]);
        let (table, components) = grid.look_and_tell(sample, &blocks, seed, progress, |p, found| {
            if one {
                lists.insert(p, found);
            }
        })?;
        let cells = grid.summary(&table);
        Ok(View { blocks, grid, components, table, cells, lists })
    }

    /// The view of its first blocks alone.
    fn first(&self, blocks: usize) -> View {
        let table: Vec<_> = self.table.iter().take(blocks).cloned().collect();
        let cells = self.grid.summary(&table);
        View {
            blocks: self.blocks.iter().take(blocks).cloned().collect(),
            grid: self.grid.clone(),
            components: self.components.iter().take(blocks).cloned().collect(),
            table,
            cells,
            lists: self.lists.clone(),
        }
    }

    fn stand_in(&self, sample: &Sample, block: usize, p: usize) -> StandIn {
        let (rows, components) = (&self.blocks[block], self.components[block].as_ref());
        self.grid.stand_in(sample, rows, components, p, self.lists.get(&p).map(Vec::as_slice))
    }

    /// The sample as every block labels it at the best levels. O(blocks rows n sum p).
    fn ensemble<'a>(
        &self,
        sample: &Sample,
        levels: &[&'a Cell],
        progress: &Progress,
    ) -> Result<Vec<Member<'a>>> {
        let different = |b: &usize| *b == 0 || self.blocks[*b] != self.blocks[*b - 1];
        let blocks: Vec<usize> = (0..self.blocks.len()).filter(different).collect();
        let spaces: Vec<usize> =
            self.grid.components.iter().copied().filter(|&p| levels.iter().any(|c| c.p == p)).collect();
        let stage = progress.stage("compare labellings", "spaces", (blocks.len() * spaces.len()) as u64);
        let mut members = Vec::new();
        for block in blocks {
            for &p in &spaces {
                let stand_in = self.stand_in(sample, block, p);
                for &cell in levels.iter().filter(|c| c.p == p) {
                    progress.check()?;
                    let found = stand_in.label(cell, least(cell.k));
                    let projection = stand_in.space.projection.clone();
                    members.push(Member { block, cell, projection, found });
                }
                stage.advance(1)?;
            }
        }
        Ok(members)
    }
}

impl Consensus {
    /// Looks at the blocks: most of the work of a fit.
    pub fn look<'a>(&self, sample: &'a Sample, seed: u64, progress: &Progress) -> Result<Looked<'a>> {
        if sample.rows.is_empty() {
            return Err(Error::Modalities {
                reason: "there are no rows to count modalities on".into(),
                help: "check `--where` and `--invalid`: they left no row".into(),
            });
        }
        let mut blocks: Vec<Vec<u32>> =
            sample.blocks.iter().map(|block| distinct(&sample.points, block)).collect();
        let rows = blocks.iter().map(Vec::len).min().unwrap_or(0);
        let view = if rows < FEWEST {
            None
        } else {
            if rows < SMALL && blocks.iter().all(|block| *block == blocks[0]) {
                // One small block: what its halves share depends on the halving, so there are more of them.
                blocks.resize(SMALL_HALVINGS, blocks[0].clone());
            }
            let grid = self.grid(rows, sample.points.cols(), LONGEST * rows as f64);
            Some(View::new(sample, blocks.clone(), grid, seed, progress)?)
        };
        Ok(Looked { sample, seed, blocks, view, finer: Vec::new() })
    }

    fn grid(&self, rows: usize, dims: usize, longest: f64) -> Grid {
        let joined = if self.mutual { Joined::Both } else { Joined::Either };
        Grid::new(rows, dims, (FIRST, longest.max(16.0)), &TAUS, joined)
    }

    /// Counts the modes in what was looked at.
    pub fn read(&self, looked: &mut Looked, progress: &Progress) -> Result<Fit> {
        let Looked { sample, seed, blocks, view, finer } = looked;
        let Some(view) = view else {
            return one_mode(sample, blocks, Vec::new(), *seed, progress);
        };
        let few;
        let view = if self.halvings {
            &*view
        } else {
            few = view.first(sample.blocks.len());
            &few
        };
        let seen = self.best(view);
        let rows = view.blocks.iter().map(Vec::len).min().expect("a sample has blocks");
        if self.finer
            && sample.rows.len() > rows
            && let Some(hint) = self.hidden(view, FINER * seen)
        {
            let spaces: Vec<usize> = self.levels(view).iter().chain([&hint]).map(|c| c.p).collect();
            let all: Vec<u32> = (0..sample.rows.len() as u32).collect();
            let union = distinct(&sample.points, &all);
            let mut grid = self.grid(union.len(), sample.points.cols(), LONGEST_FINER);
            grid.components.retain(|p| spaces.contains(p));
            if !finer.iter().any(|view| view.grid.components == grid.components) {
                finer.push(View::new(sample, vec![union; HALVINGS], grid.clone(), *seed, progress)?);
            }
            let finer = finer.iter().find(|view| view.grid.components == grid.components);
            let finer = finer.expect("it was made if it was not there");
            if self.best(finer) > FINER * seen {
                return self.answer(finer, true, sample, *seed, progress);
            }
        }
        self.answer(view, false, sample, *seed, progress)
    }

    /// Whether halves agree on more than pieces of one-mode data would, and on more than they disagree about.
    fn eligible(&self, c: &Cell) -> bool {
        let share = c.halves.share();
        let steep = c.tau * (c.k as f64).sqrt() >= Z0;
        let evident =
            if self.chance { share > chance(c) + MARGIN || steep && c.dimension >= CURVE } else { steep };
        c.modes >= 2 && c.split && share > 0.5 && evident
    }

    fn kappa(&self, c: &Cell) -> f64 {
        let chance = if self.chance { chance(c) } else { 0.0 };
        ((c.halves.share() - chance) / (1.0 - chance)).max(0.0)
    }

    fn score(&self, c: &Cell) -> f64 {
        if self.trust { c.halves.mutual * self.kappa(c).powi(TRUST) } else { c.halves.reproducible() }
    }

    /// The eligible cells that are nearly the best, best first; of equals the earlier one.
    fn levels<'a>(&self, view: &'a View) -> Vec<&'a Cell> {
        let mut levels: Vec<&Cell> = view.cells.iter().filter(|c| self.eligible(c)).collect();
        levels.sort_by(|a, b| self.score(b).total_cmp(&self.score(a)));
        let most = levels.first().map_or(0.0, |c| self.score(c));
        levels.retain(|c| self.score(c) >= (1.0 - DELTA) * most);
        levels
    }

    /// The score of the best level; 0 if there is none.
    fn best(&self, view: &View) -> f64 {
        self.levels(view).first().map_or(0.0, |c| self.score(c))
    }

    /// The cell in which halves share the most information, if they share more than one-mode data would and more than
    /// `least`.
    fn hidden<'a>(&self, view: &'a View, least: f64) -> Option<&'a Cell> {
        let beyond = |c: &&Cell| {
            let share = c.halves.share();
            c.modes >= 2 && c.split && share > chance(c) + MARGIN && c.halves.mutual > least
        };
        let more = |best: &'a Cell, c: &'a Cell| if c.halves.mutual > best.halves.mutual { c } else { best };
        view.cells.iter().filter(beyond).reduce(more)
    }

    /// `whole`: the view is that of step 4.
    fn answer(
        &self,
        view: &View,
        whole: bool,
        sample: &Sample,
        seed: u64,
        progress: &Progress,
    ) -> Result<Fit> {
        let levels = self.levels(view);
        let Some(&best) = levels.first() else {
            return one_mode(sample, &view.blocks, evidence(&view.cells), seed, progress);
        };
        let good = &levels[..if self.medoid { levels.len().min(LEVELS) } else { 1 }];
        let mut ensemble = view.ensemble(sample, good, progress)?;
        let chosen =
            if self.medoid { medoid(sample, &ensemble, |c| self.score(c)) } else { middle(best, &ensemble) };
        let Member { block, cell, projection, mut found } = ensemble.swap_remove(chosen);
        drop(ensemble);
        let z = pca::apply(projection.as_ref(), &sample.points);
        let level = found.prominence.len();
        if self.pairs && whole {
            self.unite(sample, &z, &mut found, seed, progress)?;
        }
        let apart = found.prominence.len();
        if self.within {
            self.split(sample, &z, &mut found, seed, progress)?;
        }
        let Labelled { mut labels, prominence, .. } = found;
        let modes = prominence.len();
        let old = renumber(&mut labels, modes);
        let of_blocks: Vec<usize> = view.table.iter().map(|block| block[cell.index].modes).collect();
        let details = json!({
            "p": cell.p, "k": cell.k, "tau": cell.tau, "dimension": cell.dimension, "I": cell.halves.mutual,
            "rho": cell.halves.share(), "kappa": self.kappa(cell), "levels": levels.len(), "block": block,
            "blocks": of_blocks, "n_s": view.blocks[block].len(), "united": level - apart, "split": modes - apart,
        });
        Ok(Fit {
            labels,
            prominence: old.iter().map(|&m| prominence[m as usize] as f32).collect(),
            kind: vec!["mode".into(); modes],
            projection,
            confidence: cell.halves.share(),
            interval: interval(view, &levels, modes as u32, (modes - apart) as u32),
            details: object(details),
            curve: self.curve(&view.cells),
            evidence: evidence(&view.cells),
        })
    }

    /// Step 5, in the space `z` of the labelling, over the highest passes first: of two modes that are one, the number of
    /// the higher stays. O(modes rows + rows WITHIN_ROWS) if no mode meets many.
    fn unite(
        &self,
        sample: &Sample,
        z: &Matrix,
        found: &mut Labelled,
        seed: u64,
        progress: &Progress,
    ) -> Result<()> {
        let Labelled { labels, prominence, passes } = found;
        // Modes are numbered by the height of their peaks.
        let mut now: Vec<u32> = (0..prominence.len() as u32).collect();
        for (a, b) in std::mem::take(passes) {
            progress.check()?;
            let pair = [a, b].map(|m| now[m as usize]);
            let rows = (0..labels.len()).filter(|&i| pair.contains(&now[labels[i] as usize]));
            let spaces = &[WITHIN, z.cols()];
            let own = part(sample, z, &rows.collect::<Vec<_>>());
            let Some(view) = self.alone(&own, spaces, seed, progress)? else {
                continue;
            };
            if self.levels(&view).is_empty() {
                let (higher, lower) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
                now.iter_mut().filter(|m| **m == lower).for_each(|m| *m = higher);
            }
        }
        let mut kept = now.clone();
        kept.sort_unstable();
        kept.dedup();
        let new =
            |m: u32| kept.binary_search(&now[m as usize]).expect("every mode that stays was kept") as u32;
        labels.iter_mut().for_each(|m| *m = new(*m));
        *prominence = kept.iter().map(|&m| prominence[m as usize]).collect();
        Ok(())
    }

    /// Step 6, in the space `z` of the labelling: the first of a mode's parts keeps its number, the others come last.
    /// O(rows WITHIN_ROWS).
    fn split(
        &self,
        sample: &Sample,
        z: &Matrix,
        found: &mut Labelled,
        seed: u64,
        progress: &Progress,
    ) -> Result<()> {
        let Labelled { labels, prominence, .. } = found;
        if z.cols() <= WITHIN {
            return Ok(());
        }
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); prominence.len()];
        for (i, &m) in labels.iter().enumerate() {
            members[m as usize].push(i);
        }
        let look = |rows: &Vec<usize>| self.parts(&part(sample, z, rows), seed, progress);
        // Small modes keep one thread busy each, and need little memory.
        let small = members.par_iter().map(|rows| (rows.len() < SMALL_MODE).then(|| look(rows)).transpose());
        let mut looked: Vec<Option<Option<Parts>>> = small.collect::<Result<_>>()?;
        let mut mode = 0;
        while mode < members.len() {
            progress.check()?;
            let rows = &members[mode];
            let known = looked.get_mut(mode).and_then(Option::take);
            if let Some((parts, rise)) = known.map_or_else(|| look(rows), Ok)? {
                let first = members.len() as u32;
                let mut split: Vec<Vec<usize>> = vec![Vec::new(); rise.len()];
                for (&i, &part) in rows.iter().zip(&parts) {
                    split[part as usize].push(i);
                    if part > 0 {
                        labels[i] = first + part - 1;
                    }
                }
                let mut split = split.into_iter();
                members[mode] = split.next().expect("there are two parts at least");
                members.extend(split);
                prominence[mode] = prominence[mode].min(rise[0]);
                prominence.extend(&rise[1..]);
                // What is left of it may have parts again: its turn is not over.
                continue;
            }
            mode += 1;
        }
        Ok(())
    }

    /// The parts of one mode, if halves of its rows agree on them nearly perfectly: part of every row, and how far each
    /// rises.
    fn parts(&self, own: &Sample, seed: u64, progress: &Progress) -> Result<Option<Parts>> {
        let Some(view) = self.alone(own, &[WITHIN], seed, progress)? else { return Ok(None) };
        let Some(&best) = self.levels(&view).first() else { return Ok(None) };
        if self.kappa(best) < CLEAR {
            return Ok(None);
        }
        let stand_in = view.stand_in(own, 0, WITHIN);
        // So few rows show no modes.
        let found = stand_in.label(best, least(best.k).max(FEWEST));
        Ok((found.prominence.len() > 1).then_some((found.labels, found.prominence)))
    }

    /// What some modes' rows show in their first components, as many as `spaces` says or there are; None: too few rows.
    fn alone(&self, own: &Sample, spaces: &[usize], seed: u64, progress: &Progress) -> Result<Option<View>> {
        // By a hash of the row number, so that no order of the rows matters.
        let every = own.rows.len().div_ceil(WITHIN_ROWS) as u64;
        let some = (0..own.rows.len() as u32).filter(|&i| mix64(own.rows[i as usize]).is_multiple_of(every));
        let rows = distinct(&own.points, &some.collect::<Vec<_>>());
        if rows.len() < 4 * FEWEST {
            return Ok(None);
        }
        let mut grid = self.grid(rows.len(), own.points.cols(), LONGEST * rows.len() as f64);
        grid.components = spaces.iter().map(|&p| p.min(own.points.cols())).collect();
        grid.components.dedup();
        View::new(own, vec![rows; HALVINGS], grid, seed, &progress.silent()).map(Some)
    }

    /// For every k the best level: its score and its M.
    fn curve(&self, cells: &[Cell]) -> Vec<Criterion> {
        let mut ladder: Vec<usize> = cells.iter().map(|c| c.k).collect();
        ladder.sort_unstable();
        ladder.dedup();
        let best = |k: usize| {
            let there = cells.iter().filter(move |c| c.k == k && self.eligible(c));
            there.reduce(|best, c| if self.score(c) > self.score(best) { c } else { best })
        };
        let numbers = |c: &Cell| {
            [("score", self.score(c)), ("M", c.modes as f64)].map(|(name, value)| Criterion {
                k: c.k as u32,
                criterion: name.into(),
                value,
            })
        };
        ladder.into_iter().filter_map(best).flat_map(numbers).collect()
    }
}

/// Part of every row of a mode, and how far each part rises.
type Parts = (Vec<u32>, Vec<f64>);

/// These rows of the sample alone, in the space `z`.
fn part(sample: &Sample, z: &Matrix, rows: &[usize]) -> Sample {
    Sample {
        rows: rows.iter().map(|&i| sample.rows[i]).collect(),
        points: z.gather(rows.iter().copied()),
        blocks: Vec::new(),
    }
}

/// 5-95 % of M over the blocks and the levels that are nearly as good, by nearest rank outwards. `split` modes were found
/// within modes.
fn interval(view: &View, levels: &[&Cell], answer: u32, split: u32) -> (u32, u32) {
    let counts = levels.iter().flat_map(|c| view.table.iter().map(|block| block[c.index].modes as u32));
    let mut counts: Vec<u32> = counts.map(|m| m + split).collect();
    counts.sort_unstable();
    let last = (counts.len() - 1) as f64;
    // The answer itself may be the odd one out: one block's count at one level.
    let (low, high) = (counts[(0.05 * last).floor() as usize], counts[(0.95 * last).ceil() as usize]);
    (low.min(answer), high.max(answer))
}

/// One labelling of the whole sample.
struct Member<'a> {
    block: usize,
    cell: &'a Cell,
    projection: Option<Projection>,
    found: Labelled,
}

/// The member with the largest product of its level's score and the mean share of information it has in common with the
/// others, on some rows chosen by key; of equals the first. O(members^2 COMPARED).
fn medoid(sample: &Sample, ensemble: &[Member], score: impl Fn(&Cell) -> f64) -> usize {
    let every = (sample.rows.len() / COMPARED).max(1) as u64;
    let rows: Vec<usize> =
        (0..sample.rows.len()).filter(|&i| mix64(sample.rows[i]).is_multiple_of(every)).collect();
    let labels: Vec<Vec<u32>> =
        ensemble.iter().map(|m| rows.iter().map(|&i| m.found.labels[i]).collect()).collect();
    let pairs: Vec<(usize, usize)> = (0..ensemble.len()).flat_map(|i| (0..i).map(move |j| (i, j))).collect();
    let shares: Vec<f64> =
        pairs.par_iter().map(|&(i, j)| Information::between(&labels[i], &labels[j]).share()).collect();
    let mut agreement = vec![0.0; ensemble.len()];
    for (&(i, j), share) in pairs.iter().zip(shares) {
        agreement[i] += share;
        agreement[j] += share;
    }
    let worth = |i: usize| agreement[i] * score(ensemble[i].cell);
    (0..ensemble.len()).fold(0, |best, i| if worth(i) > worth(best) { i } else { best })
}

/// Of equally good blocks the first: the number of modes nearest to the level's median.
fn middle(level: &Cell, ensemble: &[Member]) -> usize {
    let off = |i: usize| ensemble[i].found.prominence.len().abs_diff(level.modes);
    (0..ensemble.len()).fold(0, |best, i| if off(i) < off(best) { i } else { best })
}

/// The share that halves of one-mode data stay below.
fn chance(c: &Cell) -> f64 {
    libm::pow(ONE_MODE, c.dimension)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::matrix::Matrix;
    use crate::kit::rng::{key, normal, uniform};
    use crate::modalities::estimators::tests::{agreement, mixture};

    fn fit(sample: &Sample) -> Fit {
        Consensus::default().fit(sample, 1, &Progress::default()).unwrap()
    }

    /// All rows in each of five blocks.
    fn whole(points: Matrix) -> Sample {
        let n = points.rows() as u32;
        Sample { rows: (0..u64::from(n)).collect(), blocks: vec![(0..n).collect(); 5], points }
    }

    #[test]
    fn separated_mixtures_are_counted() {
        for (dims, k) in [(2, 4), (16, 5)] {
            let (sample, truth) = mixture(600, dims, k, if dims == 2 { 14.0 } else { 4.0 });
            let fit = fit(&sample);
            assert_eq!(fit.kind.len(), k, "dims {dims}: {:?}", fit.details);
            assert!(agreement(&fit.labels, &truth) > 0.98);
            assert!(fit.confidence > 0.8 && fit.interval.0 <= k as u32 && k as u32 <= fit.interval.1);
            assert!(fit.prominence.iter().all(|x| x.is_finite() && *x > 0.0));
        }
    }

    #[test]
    fn touching_modes_are_counted_where_a_mode_alone_would_not_be_steep() {
        // Four Gaussians in three dimensions, a hundred rows each: rim finds one mode.
        let at = [[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [2.5, 4.3, 0.0], [2.5, 1.4, 4.1]];
        let number = |i: usize, j: usize| at[i % 4][j] + normal(key(3, &[i as u64, j as u64]));
        let data = (0..400).flat_map(|i| (0..3).map(move |j| number(i, j) as f32)).collect();
        let fit = fit(&whole(Matrix::from_vec(400, 3, data)));
        assert_eq!(fit.kind.len(), 4, "{:?}", fit.details);
    }

    #[test]
    fn data_with_one_mode_is_one_modality() {
        let gauss = |i: usize, j: usize| normal(key(8, &[i as u64, j as u64]));
        type Number<'a> = &'a dyn Fn(usize, usize) -> f64;
        let kinds: [(&str, Number); 4] = [
            ("Gaussian", &gauss),
            ("uniform", &|i, j| uniform(key(9, &[i as u64, j as u64]))),
            ("heavy-tailed", &|i, j| {
                gauss(i, j) / ((0..3).map(|t| gauss(i, 100 + t).powi(2)).sum::<f64>() / 3.0).sqrt()
            }),
            // A closed curve: pieces of it are found again and again, and are no modes.
            ("circle", &|i, j| {
                let angle = std::f64::consts::TAU * uniform(key(10, &[i as u64]));
                if j == 0 { angle.cos() } else { angle.sin() }
            }),
        ];
        for (name, number) in kinds {
            for dims in [2, 16] {
                if name == "circle" && dims != 2 {
                    continue;
                }
                let data = (0..1500).flat_map(|i| (0..dims).map(move |j| number(i, j) as f32)).collect();
                let fit = fit(&whole(Matrix::from_vec(1500, dims, data)));
                assert_eq!((fit.kind.len(), fit.interval), (1, (1, 1)), "{name} d={dims}: {:?}", fit.details);
            }
        }
    }

    #[test]
    fn modes_too_small_for_a_block_are_found_in_the_whole_sample() {
        let (mut sample, truth) = mixture(6000, 24, 60, 1.6);
        sample.blocks = (0..5).map(|b| (0..1200).map(|i| 5 * i + b).collect()).collect();
        let fit = fit(&sample);
        assert_eq!(fit.kind.len(), 60, "{:?}", fit.details);
        assert!(agreement(&fit.labels, &truth) > 0.99);
        assert_eq!(fit.details["n_s"], 6000);
        let blocks_only = Consensus { finer: false, ..Default::default() };
        let blocks_only = blocks_only.fit(&sample, 1, &Progress::default()).unwrap();
        assert!(
            blocks_only.details["n_s"] == 1200 && blocks_only.kind.len() < 60,
            "{:?}",
            blocks_only.details
        );
    }

    #[test]
    fn a_mode_is_split_where_its_own_rows_show_two() {
        let parts = |share: usize| {
            let shift = |i: usize, j: usize| if j == 0 && i % 10 < share { 7.0 } else { 0.0 };
            let number = |i: usize, j: usize| (normal(key(6, &[i as u64, j as u64])) + shift(i, j)) as f32;
            let data = (0..900).flat_map(|i| (0..16).map(move |j| number(i, j))).collect();
            let own =
                Sample { rows: (0..900).collect(), points: Matrix::from_vec(900, 16, data), blocks: vec![] };
            Consensus::default().parts(&own, 1, &Progress::default()).unwrap()
        };
        assert_eq!(parts(0), None);
        let (labels, rise) = parts(2).unwrap();
        let truth: Vec<u32> = (0..900).map(|i| u32::from(i % 10 < 2)).collect();
        assert!(rise.len() == 2 && agreement(&labels, &truth) > 0.98, "{rise:?}");
    }

    #[test]
    fn a_handful_of_far_rows_is_no_part_of_its_own() {
        let parts = |far: usize| {
            let shift = |i: usize| if i < far { 20.0 } else { 0.0 };
            let number = |i: usize, j: usize| (normal(key(6, &[i as u64, j as u64])) + shift(i)) as f32;
            let data = (0..900).flat_map(|i| (0..8).map(move |j| number(i, j))).collect();
            let own =
                Sample { rows: (0..900).collect(), points: Matrix::from_vec(900, 8, data), blocks: vec![] };
            Consensus::default().parts(&own, 1, &Progress::default()).unwrap()
        };
        assert_eq!(parts(FEWEST / 2), None);
        assert_eq!(parts(3 * FEWEST).unwrap().1.len(), 2);
    }

    #[test]
    fn two_modes_that_look_like_one_alone_are_one() {
        // Two Gaussians; the second is cut at its median.
        let number = |i: usize, j: usize| {
            normal(key(4, &[i as u64, j as u64])) + if j == 0 && i >= 400 { 8.0 } else { 0.0 }
        };
        let points: Vec<f32> = (0..1000).flat_map(|i| (0..8).map(move |j| number(i, j) as f32)).collect();
        let points = Matrix::from_vec(1000, 8, points);
        let labels: Vec<u32> =
            (0..1000).map(|i| if i < 400 { 1 } else { 2 * u32::from(points.row(i)[1] > 0.0) }).collect();
        let sample = Sample { rows: (0..1000).collect(), points, blocks: vec![] };
        let mut found = Labelled { labels, prominence: vec![9.0, 3.0, 0.5], passes: vec![(2, 0), (2, 1)] };
        let united = Consensus::default().unite(&sample, &sample.points, &mut found, 1, &Progress::default());
        united.unwrap();
        assert_eq!(found.prominence, [9.0, 3.0]);
        assert_eq!(found.labels, (0..1000).map(|i| u32::from(i < 400)).collect::<Vec<_>>());
    }

    #[test]
    fn degenerate_samples_are_one_modality() {
        let same = fit(&whole(Matrix::from_vec(200, 3, vec![7.0; 600])));
        assert_eq!((same.kind.len(), same.projection), (1, None));
        let few = fit(&whole(Matrix::from_vec(200, 1, (0..200).map(|i| (i % 15) as f32).collect())));
        assert_eq!(few.kind.len(), 1);
        fit(&whole(Matrix::from_vec(16, 2, mixture(16, 2, 2, 20.0).0.points.as_slice().to_vec())));
        assert!(Consensus::default().fit(&Sample::default(), 1, &Progress::default()).is_err());
    }

    #[test]
    fn threads_do_not_change_the_fit() {
        let (sample, _) = mixture(400, 10, 3, 3.0);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let fit = pool.install(|| fit(&sample));
            (fit.labels, fit.evidence, fit.details, fit.projection, fit.interval)
        };
        assert_eq!(run(1), run(3));
    }
}
