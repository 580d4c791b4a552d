//! Which rows meet in which batch: cyclic dealing, systematic sampling (Madow & Madow 1944) with random access.
//!
//! For an epoch of N rows in batches of B, nb = floor(N / B):
//!
//! 1. N mod B rows are set aside for the *rest batch*, which comes last; [`rest_counts`] says how many of each stratum;
//! 2. the strata are put in the order of the epoch's [`tour`], the rows of each in a keyed random order: one long list of
//!    nb x B rows;
//! 3. a batch takes every nb-th row of the list from a start of its own, so it meets each stratum in proportion;
//! 4. inside the batch, rows are laid out along a Sobol sequence (Sobol 1967), so that equal slices (micro-batches, ranks)
//!    and strides of it are stratified too.
//!
//! With chunks ([`chunks`](crate::batches::chunks)) batches take every nb-th run of c rows of the list, and keep those together.
//!
//! Every row comes exactly once per epoch, and the count of each stratum in each batch differs from its share by less
//! than 1. No state is kept between batches: any batch of any epoch is computed alone, on any thread, in
//! O(batch size + strata). A batch of size kB is the union of k consecutive ones, so a training run can change the size
//! in mid-epoch and still meet every row once.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batches::batch_size::gcd;
use crate::batches::chunks::{Chunk, Cursor};
use crate::batches::layout::Layout;
use crate::batches::strata::tour;
use crate::format::dendrogram::Merge;
use crate::kernels::gather;
use crate::kernels::permute::Walk;
use crate::kernels::rows::RowIds;
use crate::kit::error::{Error, Result};
use crate::kit::rng::{Permutation, key};

/// Epochs written by default, up to [`MANY_ROWS`] rows; larger datasets compute their batches when needed.
const EPOCHS: u32 = 3;
const MANY_ROWS: u64 = 1 << 26;
/// Draws per stratum, on average, from which on they are found stratum by stratum (measured).
const MANY_DRAWS: usize = 8;
/// Words of keys behind the epoch: of the circle of a label's rows, and of the order of those that an epoch takes.
const CIRCLE: u64 = 8;
const MIXED: u64 = 9;

/// How rows are dealt into batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Epochs written to the plan; None: 3, none above 2^26 rows. Any other epoch can be computed from the plan.
    pub epochs: Option<u32>,
    pub allocation: Allocation,
    /// A stratum of share p gets a part in proportion to p^tau: 1 is proportional, 0 equal.
    pub tau: f64,
    /// Part of every stratum in an epoch, >= 0, any scale (allocation `shares` only).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<f64>,
    /// Leave out the last batch of an epoch if it is short.
    pub drop_last: bool,
    /// In [0, 1): part of the rows kept out of the batches, stratified.
    pub holdout: f64,
    /// Neighbouring rows that come into a batch together: a divisor of the smallest batch size, or `"batch"`.
    #[serde(skip_serializing_if = "Chunk::is_row")]
    pub chunk: Chunk,
    /// Rows that every label of a batch has, or `"batch"`: batches of K rows of each of P labels; the column that stratifies has the labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_per_label: Option<Chunk>,
    /// Columns: rows that share a value of one come into different batches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_duplicates: Vec<String>,
}

impl Default for Params {
    fn default() -> Self {
        Params {
            epochs: None,
            allocation: Allocation::Proportional,
            tau: 1.0,
            shares: Vec::new(),
            drop_last: false,
            holdout: 0.0,
            chunk: Chunk::default(),
            rows_per_label: None,
            no_duplicates: Vec::new(),
        }
    }
}

/// How often the strata are drawn. All but `proportional` skew the data on purpose; weights n_h / draws undo it
/// ([`loss_weights`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Allocation {
    /// Every row once per epoch.
    #[default]
    Proportional,
    /// Every stratum alike.
    Equal,
    /// In between, by `tau`.
    Tau,
    /// As `shares` says.
    Shares,
}

impl Allocation {
    pub const ALL: [Allocation; 4] =
        [Allocation::Proportional, Allocation::Equal, Allocation::Tau, Allocation::Shares];
}

impl Params {
    pub fn check(&self) -> Result<()> {
        if !(self.tau.is_finite() && self.tau >= 0.0) {
            let reason = format!("{} is not a number >= 0", self.tau);
            return Err(Error::config("batches.tau", reason, "1 is proportional, 0 equal"));
        }
        let used = match self.allocation {
            Allocation::Tau => true,
            Allocation::Equal => self.tau == 1.0 || self.tau == 0.0,
            Allocation::Proportional | Allocation::Shares => self.tau == 1.0,
        };
        if !used {
            let reason = format!("{} has no effect with this batches.allocation", self.tau);
            return Err(Error::config("batches.tau", reason, "set batches.allocation = \"tau\""));
        }
        if self.shares.is_empty() != (self.allocation != Allocation::Shares) {
            return Err(Error::config(
                "batches.shares",
                "shares and batches.allocation = \"shares\" go together",
                "give one share per stratum, or another allocation",
            ));
        }
        let sum: f64 = self.shares.iter().sum();
        let proportions = self.shares.iter().all(|&q| q >= 0.0) && sum > 0.0 && sum.is_finite();
        if !(self.shares.is_empty() || proportions) {
            return Err(Error::config(
                "batches.shares",
                "shares must be numbers >= 0, one of them above 0",
                "any scale will do: only their proportions count",
            ));
        }
        self.key_columns()?;
        if !(0.0..1.0).contains(&self.holdout) {
            let reason = format!("{} is not in [0, 1)", self.holdout);
            return Err(Error::config("batches.holdout", reason, "0 keeps all rows in the batches"));
        }
        Ok(())
    }

    /// The columns of `no_duplicates` as the data calls them: `column:NAME` is NAME, whatever it means otherwise.
    ///
    /// # Errors
    /// Words that mean something else than a column, columns named twice.
    pub fn key_columns(&self) -> Result<Vec<&str>> {
        let key = "batches.no_duplicates";
        let column = |name: &str| format!("say column:{name} for the column of that name");
        let mut columns: Vec<&str> = Vec::new();
        for name in &self.no_duplicates {
            let column = match (name.strip_prefix("column:"), name.as_str()) {
                (Some(name), _) => name,
                (None, "near") => {
                    let reason = "near: this version looks for no near-duplicates";
                    return Err(Error::config(key, reason, column(name)));
                }
                (None, "modality" | "prototype" | "stratum" | "duplicates") => {
                    return Err(Error::config(key, format!("`{name}` is no key of a row"), column(name)));
                }
                (None, name) => name.trim(),
            };
            if column.is_empty() || columns.contains(&column) {
                let reason = format!("`{name}` names no column, or one that is named already");
                return Err(Error::config(key, reason, "name each column once"));
            }
            columns.push(column);
        }
        Ok(columns)
    }

    /// With `tau` as the allocation means it: what is stored in the plan.
    pub fn resolved(mut self) -> Self {
        if self.allocation == Allocation::Equal {
            self.tau = 0.0;
        }
        self
    }

    /// Epochs to write for a plan of `rows` rows.
    pub fn epochs(&self, rows: u64) -> u32 {
        self.epochs.unwrap_or(if rows > MANY_ROWS { 0 } else { EPOCHS })
    }

    /// Rows that each stratum of `sizes` rows contributes to an epoch; None: each row once.
    ///
    /// # Errors
    /// If `shares` are not one per stratum.
    pub fn counts(&self, sizes: &[u64]) -> Result<Option<Vec<u64>>> {
        match self.allocation {
            Allocation::Proportional => Ok(None),
            Allocation::Equal => Ok(Some(draws(sizes, 0.0, None))),
            Allocation::Tau => Ok(Some(draws(sizes, self.tau, None))),
            Allocation::Shares if self.shares.len() == sizes.len() => {
                Ok(Some(draws(sizes, 1.0, Some(&self.shares))))
            }
            Allocation::Shares => Err(Error::config(
                "batches.shares",
                format!("there are {} shares for {} strata", self.shares.len(), sizes.len()),
                "give one share per stratum, in the order of strata.arrow",
            )),
        }
    }
}

/// Rows that each stratum contributes to an epoch of N = sum of `sizes` rows: in proportion to `shares`, or to p^tau;
/// largest remainder, ties to the lower stratum.
pub fn draws(sizes: &[u64], tau: f64, shares: Option<&[f64]>) -> Vec<u64> {
    let rows: u64 = sizes.iter().sum();
    let tempered = |&n: &u64| {
        let p = n as f64 / rows as f64;
        if tau == 0.5 { p.sqrt() } else { libm::pow(p, tau) }
    };
    let share: Vec<f64> = match shares {
        Some(shares) => shares.to_vec(),
        None => sizes.iter().map(tempered).collect(),
    };
    let sum = pairwise_sum(&share);
    let ideal: Vec<f64> = share.iter().map(|q| q / sum * rows as f64).collect();
    let mut counts: Vec<u64> = ideal.iter().map(|x| (x + 1e-9).floor() as u64).collect();
    let missing = rows.saturating_sub(counts.iter().sum()) as usize;
    let remainder: Vec<f64> = ideal.iter().zip(&counts).map(|(x, &m)| x - m as f64).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| remainder[b].total_cmp(&remainder[a]));
    for &h in order.iter().take(missing) {
        counts[h] += 1;
    }
    counts
}

/// The order in which numpy sums: the last bit decides ties between remainders.
fn pairwise_sum(x: &[f64]) -> f64 {
    match x.len() {
        0..8 => x.iter().sum(),
        8..=128 => {
            let (eights, tail) = x.as_chunks::<8>();
            let mut lane = eights[0];
            for eight in &eights[1..] {
                lane.iter_mut().zip(eight).for_each(|(l, x)| *l += x);
            }
            let sum =
                ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
            tail.iter().fold(sum, |s, x| s + x)
        }
        n => {
            let (left, right) = x.split_at(n / 2 - n / 2 % 8);
            pairwise_sum(left) + pairwise_sum(right)
        }
    }
}

/// Loss weight of each stratum's rows that undoes skewed draws: its share of the rows over its share of the draws.
pub fn loss_weights(sizes: &[u64], counts: &[u64]) -> Vec<f64> {
    sizes.iter().zip(counts).map(|(&n, &c)| if c == 0 { 0.0 } else { n as f64 / c as f64 }).collect()
}

/// How many rows of each stratum go to the rest batch of N mod `base` rows, so that it and all the other batches keep
/// each stratum within 1 of its share.
pub fn rest_counts(counts: &[u64], base: u64, seed: u64, epoch: u32) -> Vec<u64> {
    let n: u64 = counts.iter().sum();
    let (nb, r) = (n / base, n % base);
    if r == 0 {
        return vec![0; counts.len()];
    }
    let (n, r) = (u128::from(n), u128::from(r));
    let mut rest = Vec::with_capacity(counts.len());
    let mut free = Vec::new();
    for (h, &x) in counts.iter().enumerate() {
        let x = u128::from(x);
        // What is left of the stratum after every full batch took the floor of its share.
        let spare = x - u128::from(nb) * (x * u128::from(base) / n);
        let low = (x * r / n).max(spare.saturating_sub(nb.into()));
        let high = (x * r).div_ceil(n).min(spare);
        rest.push(low as u64);
        if high > low {
            free.push((std::cmp::Reverse(x * r % n), key(seed, &[epoch.into(), 2, h as u64]), h));
        }
    }
    free.sort();
    let missing = r as usize - rest.iter().sum::<u64>() as usize;
    for &(_, _, h) in free.iter().take(missing) {
        rest[h] += 1;
    }
    debug_assert_eq!(u128::from(rest.iter().sum::<u64>()), r, "the rest batch is always feasible");
    rest
}

/// A step through 0..`nb`, coprime to it and near .618 nb, so that neighbouring batches start far apart.
pub fn golden_stride(nb: u64) -> u64 {
    let mut stride = (((u128::from(nb) * 618_034 + 500_000) / 1_000_000) as u64).max(1);
    while gcd(stride, nb) != 1 {
        stride += 1;
    }
    stride
}

/// The dealing of one epoch. Borrows the members; cheap to make (O(strata)) and to share between threads.
#[derive(Clone, Debug)]
pub struct Deal<'a> {
    members: RowIds<'a>,
    offsets: &'a [u64],
    /// Rows each stratum contributes to an epoch.
    pub(super) counts: Vec<u64>,
    /// Whether that is every row once, and none has more than 2^32: draws are then numbers of 32 bits in the first pass,
    /// and their rows are found together.
    once: bool,
    /// Strata are labels that give whole chunks, also to the rest batch, of rows that stand on a circle.
    labels: bool,
    /// Rows of the smallest batch, and of a chunk: a divisor of it.
    pub(super) base: u64,
    pub(super) chunk: u64,
    seed: u64,
    pub(super) epoch: u32,
    /// Full batches, and all batches of the smallest size.
    pub(super) full: u64,
    pub(super) len: u64,
    /// Strata in tour order, and where each starts in the list that full batches are dealt from (one more: its end).
    pub(super) order: Vec<u32>,
    starts: Vec<u64>,
    rest: Vec<u64>,
    /// Where each starts in the rest batch (one more: its end).
    rest_starts: Vec<u64>,
    /// Draws of one batch from one stratum, at most.
    most: usize,
    pub(super) rotation: u64,
    pub(super) stride: u64,
    /// Random order of each stratum's rows in the pass that the epoch begins with.
    first_pass: Vec<Permutation>,
}

/// A batch, as written, or several one after another. Reuse it: its buffers, and the layout of the last length, are kept.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Global row numbers.
    pub rows: Vec<u64>,
    draws: Draws,
    /// Where the full batches of the smallest size stand in the list that they are dealt from, in chunks.
    heads: Vec<u64>,
    /// The same with what is taken of the chunk there, where chunks have several rows.
    cursors: Vec<Cursor>,
    /// Where the next rows, or chunks, of each batch go, as entries of `positions`.
    next: Vec<usize>,
    /// Rows that were exchanged: where they are, and their strata.
    exchanged: Vec<(u32, u32)>,
    /// Position of each row, or of each chunk's first row, in `rows`, batch by batch in tour order; of rows, then as many more as
    /// one batch draws from one stratum.
    positions: Vec<u32>,
    layout: Layout,
}

/// Draws of one or several batches, in tour order: all of a stratum lie together.
#[derive(Clone, Debug, Default)]
struct Draws {
    /// Strata that were drawn from, and where the draws of each end.
    groups: Vec<(u32, u32)>,
    len: usize,
    /// Where the row goes in [`Batch::rows`]. Of this and the next, what is behind `len` is room.
    to: Vec<u32>,
    /// Number of the draw, then its row in the stratum.
    number: Vec<u32>,
    /// Draws that are not found yet, and their strata.
    walking: Vec<(u32, u32)>,
    walk: Walk,
}

impl<'a> Deal<'a> {
    /// `members`: rows of stratum h, ascending, at `offsets[h] .. offsets[h + 1]`, none empty. `base`: rows of the smallest
    /// batch, >= 1. `dendrogram`: of the strata; empty: they are taken by number. `counts`: rows that each stratum
    /// contributes per epoch ([`draws`]), by default all its rows once; its i-th draw of epoch e is draw
    /// e counts\[h\] + i overall, and pass p over the stratum has an order of its own, so the rows of an under-drawn
    /// stratum all come round before any comes twice.
    #[expect(
        clippy::too_many_arguments,
        reason = "what an epoch is made of; every caller has all of it at hand"
    )]
    pub fn new(
        members: RowIds<'a>,
        offsets: &'a [u64],
        base: u64,
        seed: u64,
        epoch: u32,
        dendrogram: &[Merge],
        drop_last: bool,
        counts: Option<&[u64]>,
    ) -> Self {
        assert!(base > 0, "a batch has rows");
        assert_eq!(offsets.last().copied().unwrap_or(0), members.len() as u64, "offsets cover the members");
        let sizes: Vec<u64> = offsets.windows(2).map(|w| w[1] - w[0]).collect();
        let counts = counts.map_or_else(|| sizes.clone(), <[u64]>::to_vec);
        assert_eq!(counts.len(), sizes.len(), "one count per stratum");
        let once = counts == sizes && sizes.iter().all(|&n| n <= 1 << 32);
        let n: u64 = counts.iter().sum();
        let full = n / base;
        let order = tour(dendrogram, sizes.len(), seed, epoch);
        let rest = rest_counts(&counts, base, seed, epoch);
        let starts = sums(&order, |h| counts[h] - rest[h]);
        let rest_starts = sums(&order, |h| rest[h]);
        let most = order
            .iter()
            .zip(starts.windows(2))
            .map(|(&h, w)| ((w[1] - w[0]) / full.max(1) + 1).max(rest[h as usize]))
            .max()
            .unwrap_or(0) as usize;
        let first_pass = sizes
            .iter()
            .zip(&counts)
            .enumerate()
            .map(|(h, (&size, &count))| {
                permutation(seed, first_draw(epoch, count) / u128::from(size.max(1)), h as u64, size)
            })
            .collect();
        Deal {
            members,
            offsets,
            base,
            chunk: 1,
            seed,
            epoch,
            full,
            len: full + u64::from(!drop_last && !n.is_multiple_of(base)),
            starts,
            rest_starts,
            order,
            most,
            rotation: key(seed, &[epoch.into(), 3]) % full.max(1),
            stride: golden_stride(full.max(1)),
            rest,
            first_pass,
            counts,
            once,
            labels: false,
        }
    }

    /// The same in chunks of so many rows, a divisor of `base`. The rest batch is dealt by rows.
    pub fn in_chunks(self, chunk: u64) -> Self {
        assert!(chunk > 0 && self.base.is_multiple_of(chunk), "chunks divide a batch");
        Deal { chunk, ..self }
    }

    /// Batches of so many rows of each label: strata are labels, and give a multiple of it ([`labels`](crate::batches::labels)).
    pub fn in_labels(self, rows: u64) -> Self {
        assert!(self.counts.iter().all(|n| n.is_multiple_of(rows)), "labels give whole chunks");
        let counts: Vec<u64> = self.counts.iter().map(|n| n / rows).collect();
        let mut rest = rest_counts(&counts, self.base / rows, self.seed, self.epoch);
        rest.iter_mut().for_each(|n| *n *= rows);
        let starts = sums(&self.order, |h| self.counts[h] - rest[h]);
        let rest_starts = sums(&self.order, |h| rest[h]);
        Deal { starts, rest_starts, rest, labels: true, once: false, ..self }.in_chunks(rows)
    }

    /// Batches of the smallest size in the epoch, the rest batch included unless dropped.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Batches of `k` times the smallest size; the last may be short.
    pub fn batches(&self, k: u64) -> u64 {
        self.len.div_ceil(k)
    }

    /// Batch `c` of `k` times the smallest size: the union of batches c k .. (c + 1) k, brought into tour order and laid
    /// out. Any batch alone, O(k B + k strata).
    pub fn batch(&self, c: u64, k: u64, into: &mut Batch) {
        self.run(c..c + 1, k, into);
    }

    /// Several batches, one after another: the same as [`Deal::batch`] of each, in half the time where a stratum has
    /// many rows in them.
    pub fn run(&self, batches: Range<u64>, k: u64, into: &mut Batch) {
        let units = batches.start * k..(batches.end * k).min(self.len);
        assert!(batches.end <= self.batches(k) && !units.is_empty(), "{batches:?} of {}", self.batches(k));
        into.exchanged.clear();
        into.heads.clear();
        into.heads.extend((units.start..units.end.min(self.full)).map(|unit| self.column(unit)));
        // The rest batch, if it is among them, is part of the last.
        let rest = units.end > self.full;
        match self.chunk {
            1 => self.draw_rows(batches.start, k, rest, into),
            _ => self.draw_chunks(batches.start, k, rest, into),
        }
        if !self.once {
            return;
        }
        let Batch { rows: out, draws, .. } = into;
        // Few draws of each stratum are found all together, for vectors would be empty.
        let few = draws.len < MANY_DRAWS * self.order.len();
        if few {
            self.find_together(draws);
        }
        let Draws { groups, len, to, number, walk, .. } = draws;
        let wanted = gather::Wanted {
            numbers: &mut number[..*len],
            groups,
            permutations: (!few).then_some(&self.first_pass),
            firsts: self.offsets,
            to,
            walk,
        };
        self.members.gather(wanted, out);
    }

    /// Where the rows of batches from `first` on stand among those of their strata, and where they go: all of a stratum one after
    /// another, each batch from its place in `into.heads` on. `rest`: the last of them holds the rest batch. Rows that are drawn
    /// again are found as well.
    fn draw_rows(&self, first: u64, k: u64, rest: bool, into: &mut Batch) {
        let rows = into.heads.len() as u64 * self.base + if rest { self.rest.iter().sum() } else { 0 };
        into.lay_out(rows as usize, (k * self.base) as usize, self.most, |i| self.shift(k, first + i));
        let Batch { rows: out, draws, heads, next, positions, .. } = into;
        let out = out.as_mut_slice();
        draws.start(out.len() + self.most);
        let last = next.len() - 1;
        for (place, &h) in self.order.iter().enumerate() {
            let (from, to) = (self.starts[place], self.starts[place + 1]);
            let kept = self.rest[h as usize];
            // Every head is less than `full` behind `from`: each batch takes so many rows, or one more.
            let least = (to - from) / self.full.max(1);
            let reach = least * self.full;
            let most = (least + 1).max(kept) as usize;
            let mut rows = self.drawn_again(h);
            // `count` draws for a batch, `step` apart.
            let mut draw = |batch: usize, first: u64, step: u64, count: u64| {
                let positions = &positions[next[batch]..];
                next[batch] += count as usize;
                if let Some(rows) = &mut rows {
                    for (i, &to) in (0..count).zip(positions) {
                        out[to as usize] = rows.draw(first + i * step);
                    }
                }
                // Of rows that are drawn again, only the places and strata are looked at.
                draws.push(positions, first as u32, step as u32, count as usize, most);
            };
            for (batch, heads) in heads.chunks_mut(k as usize).enumerate() {
                for at in heads {
                    let count = least + u64::from(*at + reach < to);
                    draw(batch, kept + *at - from, self.full, count);
                    *at += count * self.full;
                }
            }
            if rest {
                draw(last, 0, 1, kept);
            }
            draws.close(h);
        }
        // Every one has moved along the whole list.
        heads.iter_mut().for_each(|head| *head -= self.base * self.full);
    }

    /// [`Deal::draw_rows`] of chunks, whose rows stay together: a chunk stands where its first row is in the tour.
    fn draw_chunks(&self, first: u64, k: u64, rest: bool, into: &mut Batch) {
        let chunk = self.chunk;
        let rest_rows: u64 = if rest { self.rest.iter().sum() } else { 0 };
        let rows = into.heads.len() as u64 * self.base + rest_rows;
        let last = rows.div_ceil(k * self.base) as usize - 1;
        // The last chunk of a rest batch that chunks do not divide has fewer rows.
        let short = (!rest_rows.is_multiple_of(chunk)).then(|| {
            let heads = &into.heads[into.heads.len().min(last * k as usize)..];
            self.rank(heads, true, heads.len(), rest_rows / chunk)
        });
        into.lay_out_chunks(rows as usize, (k * self.base) as usize, chunk as usize, short, |i| {
            self.shift(k, first + i)
        });
        let Batch { rows: out, draws, heads, cursors, next, positions, .. } = into;
        draws.start(out.len());
        let skip = (self.full.max(1) - 1) * chunk;
        cursors.clear();
        cursors.extend(heads.iter().map(|head| Cursor::new(head * chunk, skip)));
        let mut of_rest = Cursor::new(0, 0);
        for (place, &h) in self.order.iter().enumerate() {
            let (from, to) = (self.starts[place], self.starts[place + 1]);
            let kept = self.rest[h as usize];
            let mut rows = self.drawn_again(h);
            // The batch's rows in the stratum, which is `from..to` of what the cursor moves along; its first is draw `number`.
            let mut draw = |batch: usize, cursor: &mut Cursor, from: u64, to: u64, number: u64| {
                while cursor.at < to {
                    let begin = || {
                        next[batch] += 1;
                        positions[next[batch] - 1]
                    };
                    let (at, count, position) = cursor.take(to, chunk, begin);
                    let number = number + at - from;
                    if let Some(rows) = &mut rows {
                        for i in 0..count {
                            out[position as usize + i as usize] = rows.draw(number + i);
                        }
                    }
                    draws.extend(position, number as u32, count as usize);
                }
            };
            for (batch, cursors) in cursors.chunks_mut(k as usize).enumerate() {
                cursors.iter_mut().for_each(|cursor| draw(batch, cursor, from, to, kept));
            }
            if rest {
                draw(last, &mut of_rest, self.rest_starts[place], self.rest_starts[place + 1], 0);
            }
            draws.close(h);
        }
    }

    /// Chunks of a batch that begin in the first `places` strata of the tour. `head`: where the batch stands; None: the rest batch.
    fn begun(&self, head: Option<u64>, places: usize) -> u64 {
        let chunks = |rows: u64| rows.div_ceil(self.chunk);
        match head {
            Some(head) => {
                let of_all = chunks(self.starts[places]).saturating_sub(head);
                of_all.div_ceil(self.full).min(self.base / self.chunk)
            }
            None => chunks(self.rest_starts[places]),
        }
    }

    /// Where chunk `j` of batch `member` of a union stands among its chunks in tour order. `heads`: of the full batches; the member
    /// behind them is the rest batch, if the union has it. O(members + log strata).
    fn rank(&self, heads: &[u64], rest: bool, member: usize, j: u64) -> usize {
        let head = |member: usize| heads.get(member).copied();
        let (starts, first) = match head(member) {
            Some(head) => (&self.starts, (j * self.full + head) * self.chunk),
            None => (&self.rest_starts, j * self.chunk),
        };
        let place = starts.partition_point(|&start| start <= first) - 1;
        let before: u64 = (0..member).map(|m| self.begun(head(m), place + 1)).sum();
        let behind: u64 =
            (member + 1..heads.len() + usize::from(rest)).map(|m| self.begun(head(m), place)).sum();
        (before + j + behind) as usize
    }

    /// Where a full batch stands in the list, in chunks.
    pub(super) fn column(&self, batch: u64) -> u64 {
        let golden = u128::from(self.rotation) + u128::from(batch) * u128::from(self.stride);
        (golden % u128::from(self.full)) as u64
    }

    /// Whether rows are drawn more or less often than once an epoch.
    pub(super) fn draws_again(&self) -> bool {
        self.offsets.windows(2).zip(&self.counts).any(|(o, &count)| o[1] - o[0] != count)
    }

    /// Stratum, and number of its draw, of a place among the members, if all are drawn once.
    pub(super) fn draw_of(&self, member: u64) -> (u32, u64) {
        let h = self.offsets.partition_point(|&o| o <= member) - 1;
        (h as u32, self.first_pass[h].place(member - self.offsets[h]))
    }

    /// All draws of a stratum: number and row.
    pub(super) fn each_draw(&self, stratum: u32, mut f: impl FnMut(u64, u64)) {
        let mut rows = Rows::of(self, stratum);
        (0..self.counts[stratum as usize]).for_each(|draw| f(draw, rows.draw(draw)));
    }

    /// Batch, and place in it in tour order, of a draw of the stratum at a place of the tour; `back`: inverse of the stride. None if it
    /// is in the rest batch, which is dropped. O(1).
    pub(super) fn find(&self, tour: usize, draw: u64, back: u64) -> Option<(u64, u32)> {
        let kept = self.rest[self.order[tour] as usize];
        if draw < kept {
            return (self.full < self.len).then(|| (self.full, (self.rest_starts[tour] + draw) as u32));
        }
        let at = self.starts[tour] + draw - kept;
        let (chunk, row) = (at / self.chunk, at % self.chunk);
        let ahead = chunk % self.full + self.full - self.rotation;
        let batch = u128::from(ahead) * u128::from(back) % u128::from(self.full);
        Some((batch as u64, (chunk / self.full * self.chunk + row) as u32))
    }

    /// Place in the tour, and row, of a place of a batch in tour order. O(log strata).
    pub(super) fn dealt(&self, batch: u64, place: u32) -> (u32, u64) {
        let place = u64::from(place);
        let at = |starts: &[u64], at: u64| (starts.partition_point(|&start| start <= at) - 1, at);
        let (tour, number) = if batch == self.full {
            let (tour, at) = at(&self.rest_starts, place);
            (tour, at - self.rest_starts[tour])
        } else {
            let (tour, at) = at(&self.starts, self.listed(self.column(batch), place));
            (tour, self.rest[self.order[tour] as usize] + at - self.starts[tour])
        };
        (tour as u32, Rows::of(self, self.order[tour]).draw(number))
    }

    /// Where a place of the full batch at a column stands in the list.
    fn listed(&self, column: u64, place: u64) -> u64 {
        (place / self.chunk * self.full + column) * self.chunk + place % self.chunk
    }

    /// Places in the tour of the strata of a batch, in tour order. O(rows + strata).
    pub(super) fn tour_of(&self, batch: u64) -> Vec<u32> {
        let is_rest = batch == self.full;
        let starts = if is_rest { &self.rest_starts } else { &self.starts };
        let rows = if is_rest { self.rest_starts[self.order.len()] } else { self.base };
        let column = if is_rest { 0 } else { self.column(batch) };
        let mut tour = 0;
        (0..rows)
            .map(|place| {
                let at = if is_rest { place } else { self.listed(column, place) };
                while starts[tour + 1] <= at {
                    tour += 1;
                }
                tour as u32
            })
            .collect()
    }

    /// What shifts the layout of batch `index` of `k` times the smallest size.
    fn shift(&self, k: u64, index: u64) -> u64 {
        key(self.seed, &[self.epoch.into(), 5, k, index])
    }

    /// What finds the rows of a stratum one by one; None if every row is drawn once an epoch, so that draws are positions
    /// in the first pass, and [`Deal::find`] finds all of them together.
    fn drawn_again(&self, stratum: u32) -> Option<Rows<'_, 'a>> {
        (!self.once).then(|| Rows::of(self, stratum))
    }

    /// Permutations walk until they are back in their stratum: all draws take a step before any takes the next, so there
    /// is no branch to guess and the processor works on many at once.
    fn find_together(&self, draws: &mut Draws) {
        let mut walking = std::mem::take(&mut draws.walking);
        walking.clear();
        walking.extend(draws.groups().flat_map(|(h, all)| all.map(move |draw| (draw as u32, h))));
        while !walking.is_empty() {
            let mut left = 0;
            for k in 0..walking.len() {
                let (draw, h) = walking[k];
                let permutation = &self.first_pass[h as usize];
                let number = &mut draws.number[draw as usize];
                let next = permutation.step((*number).into());
                *number = next as u32;
                walking[left] = (draw, h);
                left += usize::from(next >= permutation.n());
            }
            walking.truncate(left);
        }
        draws.walking = walking;
    }
}

impl Batch {
    /// Stratum of each row. O(rows), and only for who asks: a sampler hands out rows alone.
    pub fn strata(&self) -> Vec<u32> {
        let mut strata = vec![0; self.rows.len()];
        for (h, all) in self.draws.groups() {
            self.draws.to[all].iter().for_each(|&to| strata[to as usize] = h);
        }
        self.exchanged.iter().for_each(|&(to, h)| strata[to as usize] = h);
        strata
    }

    /// Puts a row to a place (in tour order) of batch `member` of union `index` of `k` among those that were dealt last. `rest`: the
    /// union holds the rest batch.
    pub(super) fn put(
        &mut self,
        deal: &Deal<'_>,
        (index, k, rest): (usize, u64, bool),
        member: usize,
        place: u32,
        (row, stratum): (u64, u32),
    ) {
        let (k, heads, chunk) = (k as usize, self.heads.len(), deal.chunk as usize);
        let heads = &self.heads[heads.min(index * k)..heads.min((index + 1) * k)];
        let rank = deal.rank(heads, rest, member, u64::from(place) / deal.chunk);
        let first = index * k * deal.base as usize / chunk;
        let position = self.positions[first + rank] + place % chunk as u32;
        self.rows[position as usize] = row;
        self.exchanged.push((position, stratum));
    }

    /// Empty, for [`Batch::push_stream`].
    pub(super) fn start_streams(&mut self) {
        self.rows.clear();
        self.draws.start(0);
    }

    /// Appends `rows` rows of a stream, in tour order with their strata, laid out by `shift`.
    pub(super) fn push_stream<'r>(
        &mut self,
        rows: usize,
        shift: u64,
        of: impl Iterator<Item = (u32, &'r [u64])>,
    ) {
        let first = self.rows.len();
        self.rows.resize(first + rows, 0);
        self.positions.clear();
        self.layout.reset(rows);
        self.layout.append(shift, first as u32, &mut self.positions);
        self.draws.to.truncate(first);
        self.draws.to.extend_from_slice(&self.positions);
        for (stratum, rows) in of {
            for (&row, &to) in rows.iter().zip(&self.draws.to[self.draws.len..]) {
                self.rows[to as usize] = row;
            }
            self.draws.len += rows.len();
            self.draws.close(stratum);
        }
    }

    /// Room for `rows` rows in batches of `size`, and where each goes, with `more` behind; `shift` of a batch, counted from 0.
    fn lay_out(&mut self, rows: usize, size: usize, more: usize, shift: impl Fn(u64) -> u64) {
        self.rows.clear();
        self.rows.resize(rows, 0);
        self.next.clear();
        self.positions.clear();
        for (i, first) in (0..rows).step_by(size).enumerate() {
            self.next.push(first);
            self.layout.reset(size.min(rows - first));
            self.layout.append(shift(i as u64), first as u32, &mut self.positions);
        }
        self.positions.resize(rows + more, 0);
    }

    /// Room for `rows` rows in batches of `size`, and where each of their chunks begins; `shift` as in [`Batch::lay_out`].
    /// `short`: how many chunks of the last batch stand before the one that has fewer rows.
    fn lay_out_chunks(
        &mut self,
        rows: usize,
        size: usize,
        chunk: usize,
        short: Option<usize>,
        shift: impl Fn(u64) -> u64,
    ) {
        self.rows.clear();
        self.rows.resize(rows, 0);
        self.next.clear();
        self.positions.clear();
        for (i, first) in (0..rows).step_by(size).enumerate() {
            let before = self.positions.len();
            let len = size.min(rows - first);
            self.next.push(before);
            self.layout.reset(len.div_ceil(chunk));
            self.layout.append(shift(i as u64), 0, &mut self.positions);
            let places = &mut self.positions[before..];
            let short = short.filter(|_| first + len == rows).map(|rank| places[rank]);
            let missing = (chunk - len % chunk) as u32;
            for place in places {
                let less = if short.is_some_and(|short| *place > short) { missing } else { 0 };
                *place = first as u32 + *place * chunk as u32 - less;
            }
        }
    }
}

impl Draws {
    /// None yet, and room for so many.
    fn start(&mut self, room: usize) {
        self.groups.clear();
        self.len = 0;
        self.to.resize(room.max(self.to.len()), 0);
        self.number.resize(room.max(self.number.len()), 0);
    }

    /// Adds `count` draws. As many as `most` are written, which is the same for all batches: loops of one length are guessed.
    fn push(&mut self, positions: &[u32], first: u32, step: u32, count: usize, most: usize) {
        let (to, number) = (&mut self.to[self.len..][..most], &mut self.number[self.len..][..most]);
        for (i, &position) in positions[..most].iter().enumerate() {
            to[i] = position;
            number[i] = step.wrapping_mul(i as u32).wrapping_add(first);
        }
        self.len += count;
    }

    /// Adds `count` draws that go one behind another and are one behind another.
    fn extend(&mut self, to: u32, first: u32, count: usize) {
        let (positions, numbers) = (&mut self.to[self.len..][..count], &mut self.number[self.len..][..count]);
        positions.iter_mut().zip(to..).for_each(|(x, to)| *x = to);
        numbers.iter_mut().enumerate().for_each(|(i, x)| *x = first.wrapping_add(i as u32));
        self.len += count;
    }

    /// All draws since the last group are of this stratum.
    fn close(&mut self, stratum: u32) {
        let before = self.groups.last().map_or(0, |group| group.1);
        if self.len as u32 > before {
            self.groups.push((stratum, self.len as u32));
        }
    }

    /// Strata and their draws.
    fn groups(&self) -> impl Iterator<Item = (u32, Range<usize>)> + Clone {
        let starts = std::iter::once(0).chain(self.groups.iter().map(|group| group.1 as usize));
        self.groups.iter().zip(starts).map(|(&(h, end), start)| (h, start..end as usize))
    }
}

/// Number of the first draw of an epoch from a stratum that is drawn `count` times in each.
fn first_draw(epoch: u32, count: u64) -> u128 {
    u128::from(epoch) * u128::from(count)
}

fn permutation(seed: u64, pass: u128, stratum: u64, size: u64) -> Permutation {
    Permutation::new(size, key(seed, &[pass as u64, 4, stratum]))
}

/// Where each stratum of the tour starts, and the end.
fn sums(order: &[u32], rows: impl Fn(usize) -> u64) -> Vec<u64> {
    let mut sums = vec![0];
    sums.extend(order.iter().scan(0, |sum, &h| {
        *sum += rows(h as usize);
        Some(*sum)
    }));
    sums
}

/// The rows of one stratum in the order in which an epoch draws them.
struct Rows<'d, 'a> {
    deal: &'d Deal<'a>,
    stratum: usize,
    size: u64,
    /// Draws of the passes before the epoch's first one are behind.
    first: u64,
    /// A later pass of the epoch: over-drawn strata come round more than once.
    later: Option<(u64, Permutation)>,
    /// Of a label: the order of its rows on the circle, and that of the epoch's ones.
    circle: Option<(Permutation, Permutation)>,
}

impl<'d, 'a> Rows<'d, 'a> {
    fn of(deal: &'d Deal<'a>, stratum: u32) -> Self {
        let h = stratum as usize;
        let size = deal.offsets[h + 1] - deal.offsets[h];
        let first = (first_draw(deal.epoch, deal.counts[h]) % u128::from(size.max(1))) as u64;
        Rows { deal, stratum: h, size, first, later: None, circle: None }
    }

    /// Draw `i` of the epoch from a label: the next rows of a circle that never changes, in an order of the epoch.
    fn of_circle(&mut self, i: u64) -> u64 {
        let (deal, h) = (self.deal, self.stratum as u64);
        let (circle, mixed) = self.circle.get_or_insert_with(|| {
            let of_epoch = key(deal.seed, &[deal.epoch.into(), MIXED, h]);
            let circle = Permutation::new(self.size, key(deal.seed, &[0, CIRCLE, h]));
            (circle, Permutation::new(deal.counts[h as usize], of_epoch))
        });
        circle.index((self.first + mixed.index(i)) % self.size)
    }

    /// Draw `i` of the epoch.
    fn draw(&mut self, i: u64) -> u64 {
        if self.deal.labels {
            let place = self.of_circle(i);
            return self.deal.members.get((self.deal.offsets[self.stratum] + place) as usize);
        }
        let (pass, position) = ((self.first + i) / self.size, (self.first + i) % self.size);
        let place = if pass == 0 {
            self.deal.first_pass[self.stratum].index(position)
        } else {
            if self.later.as_ref().is_none_or(|(known, _)| *known != pass) {
                let all = first_draw(self.deal.epoch, self.deal.counts[self.stratum]) / u128::from(self.size);
                let made =
                    permutation(self.deal.seed, all + u128::from(pass), self.stratum as u64, self.size);
                self.later = Some((pass, made));
            }
            self.later.as_ref().map_or(0, |(_, permutation)| permutation.index(position))
        };
        self.deal.members.get((self.deal.offsets[self.stratum] + place) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rayon::prelude::*;

    use crate::batches::strata::dendrogram;
    use crate::kit::rng::uniform;

    const NOTE: [u64; 5] = [200, 100, 500, 50, 150];

    fn offsets(sizes: &[u64]) -> Vec<u64> {
        let mut offsets = vec![0];
        sizes.iter().for_each(|n| offsets.push(offsets[offsets.len() - 1] + n));
        offsets
    }

    /// Rows of `sizes`, mixed between the strata.
    fn members(sizes: &[u64]) -> Vec<u32> {
        let offsets = offsets(sizes);
        let n = offsets[sizes.len()];
        let permutation = Permutation::new(n, 11);
        let mut rows: Vec<u32> = (0..n).map(|i| permutation.index(i) as u32).collect();
        offsets.windows(2).for_each(|w| rows[w[0] as usize..w[1] as usize].sort_unstable());
        rows
    }

    fn tree(strata: usize, seed: u64) -> Vec<Merge> {
        let centers: Vec<Vec<f64>> =
            (0..strata as u64).map(|h| (0..3).map(|j| uniform(key(seed, &[h, j]))).collect()).collect();
        dendrogram(&centers, &vec![1; strata], None)
    }

    fn hist(strata: usize, of: &[u32]) -> Vec<u64> {
        let mut hist = vec![0; strata];
        of.iter().for_each(|&h| hist[h as usize] += 1);
        hist
    }

    /// Strata of 200/100/500/50/150 rows come in proportion: 20/10/50/5/15 in each batch of 100.
    #[test]
    fn founders_note() {
        let (rows, offsets) = (members(&NOTE), offsets(&NOTE));
        let mut batch = Batch::default();
        for epoch in 0..3 {
            let deal = Deal::new(RowIds::U32(&rows), &offsets, 100, 42, epoch, &[], false, None);
            assert_eq!(deal.len(), 10);
            for c in 0..10 {
                deal.batch(c, 1, &mut batch);
                assert_eq!(hist(5, &batch.strata()), [20, 10, 50, 5, 15]);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        /// Bars F1 and F2, and unions of batches.
        #[test]
        fn every_row_once_and_every_share_kept(
            sizes in prop::collection::vec(prop_oneof![4 => 1u64..12, 1 => 1u64..400], 1..60),
            part in 0.0f64..1.0,
            seed: u64,
            epoch in 0u32..100,
            k in 2u64..5,
        ) {
            let n: u64 = sizes.iter().sum();
            let base = 1 + (part * part * n as f64) as u64;
            let (rows, offsets) = (members(&sizes), offsets(&sizes));
            let deal = Deal::new(RowIds::U32(&rows), &offsets, base, seed, epoch, &tree(sizes.len(), seed), false, None);
            let mut batch = Batch::default();
            let mut seen = Vec::new();
            for c in 0..deal.len() {
                deal.batch(c, 1, &mut batch);
                prop_assert_eq!(batch.rows.len() as u64, base.min(n - c * base));
                for (h, count) in hist(sizes.len(), &batch.strata()).into_iter().enumerate() {
                    let share = batch.rows.len() as f64 * sizes[h] as f64 / n as f64;
                    prop_assert!((count as f64 - share).abs() < 1.0, "batch {} stratum {}: {} of {}", c, h, count, share);
                }
                for (row, &h) in batch.rows.iter().zip(&batch.strata()) {
                    let range = offsets[h as usize] as usize..offsets[h as usize + 1] as usize;
                    prop_assert!(rows[range].binary_search(&(*row as u32)).is_ok());
                }
                seen.extend_from_slice(&batch.rows);
            }
            for c in 0..deal.batches(k) {
                deal.batch(c, k, &mut batch);
                let from = (c * k * base) as usize;
                let mut union = seen[from..(from + batch.rows.len())].to_vec();
                union.sort_unstable();
                batch.rows.sort_unstable();
                prop_assert_eq!(&union, &batch.rows);
            }
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..n));
        }

        #[test]
        fn draws_add_up(sizes in prop::collection::vec(1u64..1 << 36, 1..40), tau in 0.0f64..1.5) {
            let counts = draws(&sizes, tau, None);
            prop_assert_eq!(counts.iter().sum::<u64>(), sizes.iter().sum::<u64>());
            let weights = loss_weights(&sizes, &counts);
            let mean: f64 = weights.iter().zip(&counts).map(|(w, &c)| w * c as f64).sum();
            let drawn: u64 = sizes.iter().zip(&counts).filter(|(_, c)| **c > 0).map(|(n, _)| n).sum();
            prop_assert!((mean / drawn as f64 - 1.0).abs() < 1e-9);
        }

        #[test]
        fn rest_batches_are_feasible(
            counts in prop::collection::vec(0u64..1 << 35, 1..40), base in 1u64..1 << 30, seed: u64, epoch: u32,
        ) {
            let n: u64 = counts.iter().sum();
            prop_assume!(n > 0);
            let rest = rest_counts(&counts, base, seed, epoch);
            prop_assert_eq!(rest.iter().sum::<u64>(), n % base);
            prop_assert!(rest.iter().zip(&counts).all(|(r, c)| r <= c));
        }
    }

    /// Bar F3: any batch alone, on any thread, with any buffer.
    #[test]
    fn threads_and_buffers_do_not_change_a_row() {
        let sizes: Vec<u64> = (0..40).map(|h| 1 + key(1, &[h]) % 90).collect();
        let (rows, offsets) = (members(&sizes), offsets(&sizes));
        let deal = Deal::new(RowIds::U32(&rows), &offsets, 24, 7, 1, &tree(40, 2), false, None);
        let mut batch = Batch::default();
        let whole: Vec<Vec<u64>> = (0..deal.batches(2))
            .map(|c| {
                deal.batch(c, 2, &mut batch);
                batch.rows.clone()
            })
            .collect();
        let alone: Vec<Vec<u64>> = (0..deal.batches(2))
            .into_par_iter()
            .map(|c| {
                let mut batch = Batch::default();
                deal.batch(c, 2, &mut batch);
                batch.rows
            })
            .collect();
        assert_eq!(whole, alone);
    }

    /// Slices and strides of a batch are stratified too.
    #[test]
    fn parts_of_a_batch_are_stratified() {
        let sizes: Vec<u64> = (0..50).map(|h| 20 + key(3, &[h]) % 400).collect();
        let (rows, offsets) = (members(&sizes), offsets(&sizes));
        let deal = Deal::new(RowIds::U32(&rows), &offsets, 256, 7, 0, &tree(50, 2), true, None);
        let mut batch = Batch::default();
        for c in 0..deal.len() {
            deal.batch(c, 1, &mut batch);
            let strata = batch.strata();
            let all = hist(50, &strata);
            for ranks in [2, 4, 8, 16] {
                for rank in 0..ranks {
                    let slice = &strata[rank * 256 / ranks..(rank + 1) * 256 / ranks];
                    let stride: Vec<u32> = strata.iter().skip(rank).step_by(ranks).copied().collect();
                    for (part, bound) in [(slice, 1.0), (&stride[..], 2.0)] {
                        for (count, all) in hist(50, part).into_iter().zip(&all) {
                            assert!((count as f64 - *all as f64 / ranks as f64).abs() < bound);
                        }
                    }
                }
            }
        }
    }

    /// A run is its batches one after another, however it finds their rows: few or many in a stratum, drawn once or again,
    /// with the rest batch or without.
    #[test]
    fn runs_are_batches_one_after_another() {
        let sizes: Vec<u64> = (0..7).map(|h| 1 + key(4, &[h]) % 5000).collect();
        let (rows, offsets) = (members(&sizes), offsets(&sizes));
        let counts = draws(&sizes, 0.3, None);
        let (mut run, mut batch) = (Batch::default(), Batch::default());
        let (mut together, mut apart) = (0, 0);
        for counts in [None, Some(&counts[..])] {
            for drop_last in [false, true] {
                let deal = Deal::new(RowIds::U32(&rows), &offsets, 12, 5, 3, &tree(7, 1), drop_last, counts);
                // As strata are dealt that are drawn again, or too large for 32 bits.
                let one_by_one = Deal { once: false, ..deal.clone() };
                for k in [1, 3, 16] {
                    let n = deal.batches(k);
                    for range in [0..n, 0..1, n - 1..n, n - 4..n, n / 2..n / 2 + 9, 3..5] {
                        deal.run(range.clone(), k, &mut run);
                        *(if run.rows.len() < 7 * MANY_DRAWS { &mut together } else { &mut apart }) += 1;
                        let (mut rows, mut strata) = (Vec::new(), Vec::new());
                        for c in range.clone() {
                            deal.batch(c, k, &mut batch);
                            rows.extend_from_slice(&batch.rows);
                            strata.extend(batch.strata());
                        }
                        assert!(run.rows == rows && run.strata() == strata, "{range:?} of {n}, k = {k}");
                        one_by_one.run(range.clone(), k, &mut batch);
                        assert!(batch.rows == rows && batch.strata() == strata, "{range:?} of {n}, k = {k}");
                    }
                }
            }
        }
        assert!(together > 0 && apart > 0, "both ways were taken");
    }

    /// Rows of a stratum that is drawn less than once an epoch all come round; one drawn more often comes evenly.
    #[test]
    fn skewed_draws_come_round() {
        let (rows, offsets) = (members(&NOTE), offsets(&NOTE));
        let counts = draws(&NOTE, 0.0, None);
        assert_eq!(counts, [200; 5]);
        let mut seen = vec![0u32; 1000];
        let mut batch = Batch::default();
        for epoch in 0..10 {
            let deal = Deal::new(RowIds::U32(&rows), &offsets, 64, 9, epoch, &[], false, Some(&counts));
            for c in 0..deal.len() {
                deal.batch(c, 1, &mut batch);
                batch.rows.iter().for_each(|&row| seen[row as usize] += 1);
            }
        }
        for (w, size) in offsets.windows(2).zip(NOTE) {
            let of: Vec<u32> =
                rows[w[0] as usize..w[1] as usize].iter().map(|&row| seen[row as usize]).collect();
            // 200 x 10 draws of `size` rows: no row comes more than once more often than another.
            assert!(of.iter().all(|&times| (2000 / size..=2000u64.div_ceil(size)).contains(&times.into())));
        }
        assert_eq!(loss_weights(&NOTE, &counts), [1.0, 0.5, 2.5, 0.25, 0.75]);
    }

    #[test]
    fn large_numbers() {
        let sizes = [3u64, 5];
        let counts = [1u64 << 40, (1 << 39) + 5];
        let rows = members(&sizes);
        let offsets = offsets(&sizes);
        let deal = Deal::new(
            RowIds::U32(&rows),
            &offsets,
            96,
            u64::MAX,
            u32::MAX,
            &tree(2, 1),
            false,
            Some(&counts),
        );
        let mut batch = Batch::default();
        for c in [0, 1, deal.len() / 2, deal.len() - 2] {
            deal.batch(c, 1, &mut batch);
            let hist = hist(2, &batch.strata());
            assert!(hist[0].abs_diff(64) <= 1 && hist[0] + hist[1] == 96, "{hist:?}");
        }
        assert_eq!(deal.len(), (counts[0] + counts[1]).div_ceil(96));
    }

    #[test]
    fn few_rows() {
        let deal = |base, drop_last| {
            let deal = Deal::new(RowIds::U32(&[4, 7, 9]), &[0, 2, 3], base, 1, 0, &[], drop_last, None);
            let mut batch = Batch::default();
            (0..deal.len()).for_each(|c| deal.batch(c, 1, &mut batch));
            let mut rows = batch.rows;
            rows.sort_unstable();
            (deal.len(), rows)
        };
        assert_eq!(deal(8, false), (1, vec![4, 7, 9]));
        assert_eq!(deal(8, true), (0, vec![]));
        assert_eq!(deal(3, true), (1, vec![4, 7, 9]));
        assert_eq!(deal(1, false).0, 3);
    }

    #[test]
    fn checks() {
        let ok = Params::default();
        assert!(ok.check().is_ok() && ok.epochs(1000) == 3 && ok.epochs(MANY_ROWS + 1) == 0);
        assert!(Params { tau: 0.5, ..ok.clone() }.check().is_err());
        assert!(Params { tau: 0.5, allocation: Allocation::Tau, ..ok.clone() }.check().is_ok());
        assert!(Params { tau: f64::NAN, allocation: Allocation::Tau, ..ok.clone() }.check().is_err());
        assert!(Params { holdout: 1.0, ..ok.clone() }.check().is_err());
        assert!(Params { allocation: Allocation::Shares, ..ok.clone() }.check().is_err());
        assert!(Params { shares: vec![1.0], ..ok.clone() }.check().is_err());
        let shares = Params { allocation: Allocation::Shares, shares: vec![1.0, 3.0], ..ok.clone() };
        assert!(shares.check().is_ok());
        assert_eq!(shares.counts(&[6, 6]).unwrap(), Some(vec![3, 9]));
        assert!(shares.counts(&[6, 6, 6]).is_err());
        assert!(Params { shares: vec![0.0, -1.0], ..shares }.check().is_err());
        let equal = Params { allocation: Allocation::Equal, ..ok.clone() }.resolved();
        assert!(equal.check().is_ok() && equal.tau == 0.0);
        assert_eq!(equal.counts(&[9, 3]).unwrap(), Some(vec![6, 6]));
        assert_eq!(ok.counts(&[9, 3]).unwrap(), None);
        let text = serde_json::to_string(&ok).unwrap();
        assert!(text.contains(r#""allocation":"proportional""#) && !text.contains("shares"));
    }
}
