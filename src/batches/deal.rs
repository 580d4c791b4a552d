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

use crate::batches::allocation::{Allocation, draws, rest_counts};
use crate::batches::batch::{Batch, Draws};
use crate::batches::chunks::{Chunk, Cursor};
use crate::batches::number::gcd;
use crate::batches::strata::tour;
use crate::format::dendrogram::Merge;
use crate::kernels::gather;
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
    /// Epochs of the training whose shares `batch_size.schedule` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_epochs: Option<u32>,
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
            train_epochs: None,
        }
    }
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
    pub(super) members: RowIds<'a>,
    pub(super) offsets: &'a [u64],
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
    pub(super) seed: u64,
    pub(super) epoch: u32,
    /// Full batches, and all batches of the smallest size.
    pub(super) full: u64,
    pub(super) len: u64,
    /// Strata in tour order, and where each starts in the list that full batches are dealt from (one more: its end).
    pub(super) order: Vec<u32>,
    pub(super) starts: Vec<u64>,
    pub(super) rest: Vec<u64>,
    /// Where each starts in the rest batch (one more: its end).
    pub(super) rest_starts: Vec<u64>,
    /// Draws of one batch from one stratum, at most.
    most: usize,
    pub(super) rotation: u64,
    pub(super) stride: u64,
    /// Random order of each stratum's rows in the pass that the epoch begins with.
    pub(super) first_pass: Vec<Permutation>,
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
    pub(super) fn rank(&self, heads: &[u64], rest: bool, member: usize, j: u64) -> usize {
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
pub(super) struct Rows<'d, 'a> {
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
    pub(super) fn of(deal: &'d Deal<'a>, stratum: u32) -> Self {
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
    pub(super) fn draw(&mut self, i: u64) -> u64 {
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

    use crate::batches::allocation::loss_weights;
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
