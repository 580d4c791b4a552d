//! Consensus: the density modes, or the communities, that disjoint halves of the sample find independently, at the level on
//! which all blocks and the neighbouring levels agree best.
//!
//! Halves of every block are compared in a [`grid`](super::grid) of cells (components p, neighbours k, prominence tau); hills
//! meet where rows are each other's neighbours ([`Joined::Both`]). How the grid is read:
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
//! 7. **Modes or communities?** Where no valley of density parts the rows, halves may find the same groups in the graph of their
//!    neighbours ([`communities`]). Those are the answer if they tell more: if their I kappa^2 exceeds that of the best level of
//!    modes by 5 %, each with its own chance. Steps 5 and 6 are for modes.
//!
//! docs/modalities.md measures it beside peers, on datasets it was built on and on held-out ones, and what
//! each of these steps is worth.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde_json::json;

use super::communities::{self, Ladder};
use super::grid::{
    Cell, Components, FEWEST, Grid, Labelled, Member, Seen, StandIn, distinct, ensemble, evidence, least,
    not_empty, object, one_mode, range,
};
use super::information::{agreement, compared};
use super::modes::Joined;
use crate::format::evidence::Criterion;
use crate::kit::error::Result;
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
/// Communities are the answer if their score is so many times that of modes; modes where communities were, likewise.
const TELLING: f64 = 1.05;
/// A mode with this share of the rows is no clear number of modes.
const NEARLY_ALL: f64 = 0.9;
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
    /// Step 1, and kappa in step 2. Off: modes that rise four standard errors are the only evidence, and kappa is rho.
    pub chance: bool,
    /// Step 2. Off: the level with the largest R = 2I - H.
    pub trust: bool,
    /// Step 3. Off: the best level, as the block with the median number of modes shows it.
    pub medoid: bool,
    /// Step 4.
    pub finer: bool,
    /// Step 5.
    pub pairs: bool,
    /// Step 6.
    pub within: bool,
    /// Step 7.
    pub communities: bool,
    /// What the data was found to have before; None: nothing.
    pub before: Option<Kind>,
}

/// What the modalities of an answer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Mode,
    Community,
}

impl Default for Consensus {
    fn default() -> Self {
        Consensus {
            mutual: true,
            chance: true,
            trust: true,
            medoid: true,
            finer: true,
            pairs: true,
            within: true,
            communities: true,
            before: None,
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

/// What the blocks of a sample show. Depends on [`Consensus::mutual`] and [`Consensus::communities`] alone, so that an ablation
/// looks once and reads often.
pub struct Looked<'a> {
    sample: &'a Sample,
    seed: u64,
    blocks: Vec<Vec<u32>>,
    /// None: too few rows.
    view: Option<View>,
    ladder: Option<Ladder>,
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
        Ok(View::and_communities(sample, blocks, grid, 0, seed, progress)?.0)
    }

    /// The same, and the blocks in which communities of `k` neighbours can be looked for; 0: none.
    fn and_communities(
        sample: &Sample,
        blocks: Vec<Vec<u32>>,
        mut grid: Grid,
        k: usize,
        seed: u64,
        progress: &Progress,
    ) -> Result<(View, Vec<communities::Block>)> {
        let (mut lists, mut kept) = (BTreeMap::new(), Vec::new());
        let one = blocks.iter().all(|block| *block == blocks[0]);
        let wanted = communities::components(sample.points.cols());
        grid.longest = if k > 0 { communities::longest(k) } else { 0 };
        let (table, components) = grid.look(sample, &blocks, seed, progress, |first, p, space, halves| {
            if k > 0 && p == wanted {
                kept.push(communities::Block::new(first, &space, halves, k, progress)?);
            }
            if one {
                lists.insert(p, space.neighbours.index);
            }
            Ok(())
        })?;
        let cells = grid.summary(&table);
        Ok((View { blocks, grid, components, table, cells, lists }, kept))
    }

    fn stand_in(&self, sample: &Sample, block: usize, p: usize) -> StandIn {
        let (rows, components) = (&self.blocks[block], self.components[block].as_ref());
        self.grid.stand_in(sample, rows, components, p, self.lists.get(&p).map(Vec::as_slice))
    }
}

impl Consensus {
    /// Looks at the blocks: most of the work of a fit.
    pub fn look<'a>(&self, sample: &'a Sample, seed: u64, progress: &Progress) -> Result<Looked<'a>> {
        not_empty(sample)?;
        let mut blocks: Vec<Vec<u32>> =
            sample.blocks.iter().map(|block| distinct(&sample.points, block)).collect();
        let rows = blocks.iter().map(Vec::len).min().unwrap_or(0);
        let (mut view, mut ladder) = (None, None);
        if rows >= FEWEST {
            if rows < SMALL && blocks.iter().all(|block| *block == blocks[0]) {
                // One small block: what its halves share depends on the halving, so there are more of them.
                blocks.resize(SMALL_HALVINGS, blocks[0].clone());
            }
            let grid = self.grid(rows, sample.points.cols(), LONGEST * rows as f64);
            let k = if self.communities { communities::neighbours(rows) } else { 0 };
            let (seen, kept) = View::and_communities(sample, blocks.clone(), grid, k, seed, progress)?;
            if k > 0 {
                let p = communities::components(sample.points.cols());
                let last =
                    seen.cells.iter().rfind(|c| c.p == p).expect("the grid has the space of communities");
                ladder = Some(Ladder::new(kept, last.dimension, seed, progress)?);
            }
            view = Some(seen);
        }
        Ok(Looked { sample, seed, blocks, view, ladder, finer: Vec::new() })
    }

    fn grid(&self, rows: usize, dims: usize, longest: f64) -> Grid {
        let joined = if self.mutual { Joined::Both } else { Joined::Either };
        Grid::new(rows, dims, (FIRST, longest.max(16.0)), &TAUS, joined)
    }

    /// Counts the modes or the communities in what was looked at.
    pub fn read(&self, looked: &mut Looked, progress: &Progress) -> Result<Fit> {
        let Looked { sample, seed, blocks, view, ladder, finer } = looked;
        let Some(view) = view else {
            return one_mode(sample, blocks, Vec::new(), *seed, progress);
        };
        let ladder = ladder.as_ref().filter(|_| self.communities);
        let whole = self.finer(view, sample, finer, *seed, progress)?;
        let mut fit = match ladder.filter(|ladder| self.prefers(ladder, self.levels(whole.unwrap_or(view)))) {
            Some(ladder) => {
                let found = ladder.fit(sample, &view.blocks, &view.components, progress)?;
                let mut fit = found.expect("what is preferred has a level");
                fit.evidence = evidence(&whole.unwrap_or(view).cells);
                if let Some(modes) = self.levels(whole.unwrap_or(view)).first() {
                    fit.details.insert("modes".into(), modes.modes.into());
                    fit.details.insert("modes_score".into(), self.telling(modes).into());
                    fit.details.insert("modes_clear".into(), (modes.halves.largest < NEARLY_ALL).into());
                }
                fit
            }
            None => {
                let mut fit = self.answer(whole.unwrap_or(view), whole.is_some(), sample, *seed, progress)?;
                if let Some((level, m)) = ladder.and_then(Ladder::best) {
                    fit.details.insert("communities".into(), m.into());
                    fit.details.insert("communities_score".into(), level.score().into());
                }
                fit
            }
        };
        fit.evidence.extend(ladder.map(Ladder::evidence).unwrap_or_default());
        Ok(fit)
    }

    /// Step 4: the whole sample as one block, if its answer stands. Kept in `views` for the next reading.
    fn finer<'a>(
        &self,
        view: &View,
        sample: &Sample,
        views: &'a mut Vec<View>,
        seed: u64,
        progress: &Progress,
    ) -> Result<Option<&'a View>> {
        let seen = self.best(view);
        let rows = view.blocks.iter().map(Vec::len).min().expect("a sample has blocks");
        if !self.finer || sample.rows.len() <= rows {
            return Ok(None);
        }
        let Some(hint) = self.hidden(view, FINER * seen) else { return Ok(None) };
        let spaces: Vec<usize> = self.levels(view).iter().chain([&hint]).map(|c| c.p).collect();
        let all: Vec<u32> = (0..sample.rows.len() as u32).collect();
        let union = distinct(&sample.points, &all);
        let mut grid = self.grid(union.len(), sample.points.cols(), LONGEST_FINER);
        grid.components.retain(|p| spaces.contains(p));
        let place = match views.iter().position(|view| view.grid.components == grid.components) {
            Some(place) => place,
            None => {
                views.push(View::new(sample, vec![union; HALVINGS], grid, seed, progress)?);
                views.len() - 1
            }
        };
        let finer = &views[place];
        Ok((self.best(finer) > FINER * seen).then_some(finer))
    }

    /// Step 7: whether communities are the answer, given the levels of modes.
    fn prefers(&self, ladder: &Ladder, modes: Vec<&Cell>) -> bool {
        let Some((level, _)) = ladder.best() else { return false };
        let Some(mode) = modes.first() else { return true };
        let theirs = self.telling(mode);
        if theirs == 0.0 {
            // Let in by its steepness alone.
            return level.halves.share() > mode.halves.share();
        }
        match self.before {
            Some(Kind::Community) => TELLING * level.score() >= theirs,
            Some(Kind::Mode) | None => level.score() > TELLING * theirs,
        }
    }

    /// The score by which a level of modes is compared with communities.
    fn telling(&self, c: &Cell) -> f64 {
        c.halves.mutual * self.kappa(c).powi(communities::TRUST)
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
        let stand_in = |block, p| view.stand_in(sample, block, p);
        let mut ensemble = ensemble(&view.grid, &view.blocks, good, stand_in, progress)?;
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
            curve: self.curve(view),
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
    fn curve(&self, View { grid, cells, .. }: &View) -> Vec<Criterion> {
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
        grid.ladder.iter().copied().filter_map(best).flat_map(numbers).collect()
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

/// 5-95 % of M over the blocks and the levels that are nearly as good. `split` modes were found within modes.
fn interval(view: &View, levels: &[&Cell], answer: u32, split: u32) -> (u32, u32) {
    let counts = levels.iter().flat_map(|c| view.table.iter().map(|block| block[c.index].modes as u32));
    range(counts.map(|m| m + split).collect(), answer)
}

/// The member with the largest product of its level's score and the mean share of information it has in common with the
/// others, on some rows chosen by key; of equals the first.
fn medoid(sample: &Sample, ensemble: &[Member], score: impl Fn(&Cell) -> f64) -> usize {
    let rows = compared(sample);
    let labels: Vec<Vec<u32>> =
        ensemble.iter().map(|m| rows.iter().map(|&i| m.found.labels[i]).collect()).collect();
    let agreement = agreement(&labels);
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
pub(super) mod tests {
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

    /// What is looked at for communities.
    pub fn ladder(sample: &Sample) -> Ladder {
        Consensus::default().look(sample, 1, &Progress::default()).unwrap().ladder.unwrap()
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
        // Four Gaussians in three dimensions, a hundred rows each.
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

    /// Rows of twelve groups on a sphere, 3 000 / rank^0.7 of each, which no valley of a nearest-neighbour density parts.
    fn sphere(per: f64) -> (Matrix, Vec<u32>) {
        let truth: Vec<u32> = (0..12u32)
            .flat_map(|g| std::iter::repeat_n(g, (per / f64::from(g + 1).powf(0.7)) as usize))
            .collect();
        let row = |(i, &g): (usize, &u32)| {
            let number = |j| normal(key(11, &[g.into(), j])) / 9.0 + normal(key(12, &[i as u64, j])) / 9.0;
            let row: Vec<f64> = (0..96).map(number).collect();
            let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.into_iter().map(move |x| (x / length) as f32).collect::<Vec<_>>()
        };
        let data = truth.iter().enumerate().flat_map(|(i, g)| row((i, g))).collect();
        (Matrix::from_vec(truth.len(), 96, data), truth)
    }

    #[test]
    fn communities_are_the_answer_where_they_tell_more() {
        // Two clouds that touch in 32 dimensions.
        let number = |i: usize, j: usize| {
            normal(key(8, &[i as u64, j as u64])) + if i % 2 == 1 { 3.4 / 32f64.sqrt() } else { 0.0 }
        };
        let data = (0..2048).flat_map(|i| (0..32).map(move |j| number(i, j) as f32)).collect();
        let sample = whole(Matrix::from_vec(2048, 32, data));
        let found = fit(&sample);
        assert_eq!(found.kind, ["community"; 2], "{:?}", found.details);
        assert!(found.prominence.iter().all(|x| x.is_nan()) && found.details["rho"] == found.confidence);
        assert!(found.interval.0 <= 2 && found.interval.1 >= 2 && !found.curve.is_empty());
        let gamma = |c: &Criterion| c.criterion.starts_with("gamma=");
        assert!(found.evidence.iter().any(gamma) && found.evidence.iter().any(|c| !gamma(c)));
        let modes = Consensus { communities: false, ..Consensus::default() };
        let modes = modes.fit(&sample, 1, &Progress::default()).unwrap();
        assert!(modes.kind.iter().all(|kind| kind == "mode") && !modes.evidence.iter().any(gamma));
    }

    #[test]
    fn rows_outside_the_blocks_join_the_communities_of_their_neighbours() {
        let (points, truth) = sphere(1500.0);
        let n = points.rows() as u32;
        let blocks = (0..5).map(|b| (0..n).filter(|i| i % 7 < 2 || i % 5 == b).collect()).collect();
        let found = fit(&Sample { rows: (0..u64::from(n)).collect(), points, blocks });
        assert!((10..=14).contains(&found.kind.len()), "{:?}", found.details);
        assert!(agreement(&found.labels, &truth) > 0.97, "{:?}", found.details);
    }

    #[test]
    fn a_kind_stays_until_the_other_tells_clearly_more() {
        let (sample, _) = mixture(900, 16, 3, 1.2);
        let looked = Consensus::default().look(&sample, 1, &Progress::default()).unwrap();
        let (ladder, view) = (looked.ladder.unwrap(), looked.view.unwrap());
        let prefers = |before, score: f64| {
            let how = Consensus { before, ..Consensus::default() };
            let mut mode = *how.levels(&view)[0];
            // The share stays.
            let times = score * ladder.best().unwrap().0.score() / how.telling(&mode);
            mode.halves.mutual *= times;
            mode.halves.entropy *= times;
            how.prefers(&ladder, vec![&mode])
        };
        for (before, score, communities) in [
            (None, 0.94, true),
            (None, 0.97, false),
            (Some(Kind::Mode), 0.97, false),
            (Some(Kind::Community), 0.97, true),
            (Some(Kind::Community), 1.04, true),
            (Some(Kind::Community), 1.06, false),
        ] {
            assert_eq!(prefers(before, score), communities, "{before:?} {score}");
        }
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
            (fit.kind, fit.labels, fit.evidence, fit.details, fit.projection, fit.interval)
        };
        assert_eq!(run(1), run(3));
    }
}
