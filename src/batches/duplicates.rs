//! No duplicates: rows that share a key come into different batches, by as few exchanges as it takes.
//!
//! Deal as always. Then, from the largest union of batches that a run may choose down to single batches: while a union has more rows
//! of a key than its part of them, ceil(rows / full unions), the last one leaves. It changes places with its counterpart, the i-th row of
//! a stratum with the i-th of the same one, in the nearest union (by the distance of their chunks in the list) that has fewer and where that
//! brings no key over its part. If there is none: a chain of exchanges between two unions, along a fixed matching of their
//! places, until nothing is over its part (alternating paths, Koenig 1916). So a key with no more rows than there are full batches of
//! the largest size is at most once in any batch of any candidate size, the rest batch included; no row is lost, and counts of strata stay
//! in the range that they had, unless a chain had to begin in the rest batch, which then may be off by one more.
//!
//! A row may have several keys. Then no chain is begun: what no exchange removes stays, and is counted.
//!
//! Repeats are found without dealing: row, stratum, draw (the inverse permutation), batch and place, O(1) each. Preparing an epoch
//! costs O(rows with a key log them + exchanges x (B + strata)) time and as many numbers; then any batch alone, as ever.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use crate::batches::batch::Batch;
use crate::batches::deal::Deal;
use crate::format::groups::Member;
use crate::format::manifest::Repeats;
use crate::kernels::rows::RowIds;

/// The keys of rows that share one with another.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Ascending.
    rows: Vec<u64>,
    /// Place of each among the members of the strata.
    members: Vec<u64>,
    /// Where the keys of each begin, and the end.
    starts: Vec<usize>,
    keys: Vec<u32>,
    number: usize,
}

impl Keys {
    /// As `groups.arrow` has them: keys are looked at in the order of groups, then columns.
    pub fn of_groups(
        groups: &[Member],
        offsets: &[u64],
        members: RowIds<'_>,
        stratum: impl Fn(u64) -> u32,
    ) -> Self {
        let mut keys: Vec<(u64, u32)> = groups.iter().map(|m| (m.group, m.column)).collect();
        keys.sort_unstable();
        keys.dedup();
        let number = |m: &Member| {
            let place = keys.binary_search(&(m.group, m.column));
            (m.row, place.expect("every key is among them") as u32)
        };
        Keys::new(groups.iter().map(number).collect(), offsets, members, stratum)
    }

    /// `pairs`: planned rows and their keys, which are numbered from 0 in the order in which they are looked at. `offsets` and `members`: as
    /// those of [`Deal::new`]; `stratum`: of a row. O(pairs log rows).
    pub fn new(
        mut pairs: Vec<(u64, u32)>,
        offsets: &[u64],
        members: RowIds<'_>,
        stratum: impl Fn(u64) -> u32,
    ) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        let mut all =
            Keys { number: pairs.iter().map(|p| p.1 as usize + 1).max().unwrap_or(0), ..Keys::default() };
        for of_row in pairs.chunk_by(|a, b| a.0 == b.0) {
            let row = of_row[0].0;
            let h = stratum(row) as usize;
            let of = members.slice(offsets[h] as usize..offsets[h + 1] as usize);
            all.rows.push(row);
            all.members.push(offsets[h] + place(of, row));
            all.starts.push(all.keys.len());
            all.keys.extend(of_row.iter().map(|p| p.1));
        }
        all.starts.push(all.keys.len());
        all
    }

    /// Rows of every key.
    fn sizes(&self) -> Vec<u64> {
        let mut sizes = vec![0; self.number];
        self.keys.iter().for_each(|&key| sizes[key as usize] += 1);
        sizes
    }

    /// A row has one key at most.
    fn are_single(&self) -> bool {
        self.keys.len() == self.rows.len()
    }

    fn of(&self, row: u64) -> &[u32] {
        self.rows.binary_search(&row).map_or(&[], |i| &self.keys[self.starts[i]..self.starts[i + 1]])
    }
}

/// Place of a row among ascending ones.
fn place(rows: RowIds<'_>, row: u64) -> u64 {
    let (mut from, mut to) = (0, rows.len());
    while from < to {
        let middle = (from + to) / 2;
        if rows.get(middle) < row { from = middle + 1 } else { to = middle }
    }
    from as u64
}

/// A row that a batch has in exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// Place in the batch as it was dealt, in tour order.
    pub place: u32,
    pub row: u64,
    pub stratum: u32,
}

/// What is exchanged in an epoch.
#[derive(Clone, Debug, Default)]
pub struct Exchanges {
    /// By number of the batch of the smallest size; places ascending.
    pub batches: BTreeMap<u64, Vec<Exchanged>>,
    /// Exchanges that were made, and chains among them.
    pub made: u64,
    pub chains: u64,
    /// Most rows of one key in a batch of the smallest size, and in one of the largest that is evened out; 1 where there is none.
    pub most: (u64, u64),
}

/// What all epochs of a plan without duplicates share.
#[derive(Debug, Default)]
pub struct Duplicates {
    keys: Keys,
    /// Candidate sizes over the smallest, descending; each divides the one before, the last is 1.
    levels: Vec<u64>,
    /// Of the epochs that were asked for last.
    prepared: Mutex<VecDeque<(u32, Arc<Exchanges>)>>,
}

/// Whether each of these sizes divides the next larger one.
pub fn divide(sizes: &[u64]) -> bool {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes.windows(2).all(|w| w[0] > 0 && w[1].is_multiple_of(w[0]))
}

/// Epochs that are kept.
const KEPT: usize = 4;

impl Duplicates {
    /// `sizes`: all candidates, of which each divides the next larger.
    pub fn new(keys: Keys, sizes: &[u64]) -> Self {
        let mut levels: Vec<u64> = sizes.to_vec();
        levels.sort_unstable();
        levels.dedup();
        let base = levels.first().copied().unwrap_or(1);
        levels.iter_mut().for_each(|size| *size /= base);
        levels.reverse();
        assert!(divide(sizes), "each size divides the next larger one");
        Duplicates { keys, levels, prepared: Mutex::default() }
    }

    /// What is shared, and how many rows of a key meet in the epoch of this deal.
    pub fn repeats(&self, deal: &Deal<'_>) -> Repeats {
        let (batch, union) = self.exchanges(deal).most;
        let largest = self.keys.sizes().into_iter().max().unwrap_or(0);
        Repeats { keys: self.keys.number as u64, rows: self.keys.rows.len() as u64, largest, batch, union }
    }

    /// Full batches of an epoch of the largest size that is evened out, that size over the smallest, and the keys that have more rows.
    pub fn above(&self, deal: &Deal<'_>) -> (u64, u64, u64) {
        let k = self.levels.iter().copied().find(|&k| k <= deal.full.max(1)).unwrap_or(1);
        let batches = deal.full / k;
        (batches, k, self.keys.sizes().into_iter().filter(|&n| n > batches).count() as u64)
    }

    /// What is exchanged in the epoch of this deal; remembered for the last few.
    pub fn exchanges(&self, deal: &Deal<'_>) -> Arc<Exchanges> {
        // Nobody waits for another epoch's exchanges; who asks for the same at the same time makes them twice.
        let known = |prepared: &VecDeque<(u32, Arc<Exchanges>)>| {
            prepared.iter().find(|p| p.0 == deal.epoch).map(|p| p.1.clone())
        };
        let lock = || self.prepared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(found) = known(&lock()) {
            return found;
        }
        let made = Arc::new(Evening::new(deal, &self.keys).even(&self.levels));
        let mut prepared = lock();
        prepared.push_front((deal.epoch, made.clone()));
        prepared.truncate(KEPT);
        made
    }
}

/// A row at its place while rows are exchanged.
#[derive(Clone, Copy, Debug)]
struct Occupant {
    row: u64,
    /// Place of its stratum in the tour.
    tour: u32,
}

type Place = (u64, u32);

/// Batches from..to.
type Union = (u64, u64);

/// Exchanges in the making.
struct Evening<'d, 'a> {
    deal: &'d Deal<'a>,
    /// Inverse of the deal's stride.
    back: u64,
    keys: &'d Keys,
    /// Rows that an epoch draws more than once and that have no key: each is its own duplicate. Its number is that of its key, which
    /// stands before all others: the last row first.
    own: BTreeMap<u64, usize>,
    single: bool,
    /// Where the rows of every key are, of those that have several.
    at: Vec<BTreeSet<Place>>,
    moved: BTreeMap<Place, Occupant>,
    made: u64,
    chains: u64,
}

impl<'d, 'a> Evening<'d, 'a> {
    fn new(deal: &'d Deal<'a>, keys: &'d Keys) -> Self {
        let mut tour = vec![0; deal.order.len()];
        deal.order.iter().enumerate().for_each(|(place, &h)| tour[h as usize] = place);
        let mut all = Evening {
            deal,
            back: inverse(deal.stride, deal.full.max(1)),
            keys,
            own: BTreeMap::new(),
            single: keys.are_single(),
            at: vec![BTreeSet::new(); keys.number],
            moved: BTreeMap::new(),
            made: 0,
            chains: 0,
        };
        match deal.draws_again() {
            false => {
                for (i, &row) in keys.rows.iter().enumerate() {
                    let (h, draw) = deal.draw_of(keys.members[i]);
                    all.put(deal.find(tour[h as usize], draw, all.back), row);
                }
            }
            true => all.place_draws(&tour),
        }
        all.at.iter_mut().filter(|at| at.len() < 2).for_each(BTreeSet::clear);
        all
    }

    /// Where shares are skewed a row may come again.
    fn place_draws(&mut self, tour: &[usize]) {
        let (deal, back) = (self.deal, self.back);
        let mut draws: Vec<(u64, Option<Place>)> = Vec::new();
        for h in 0..deal.counts.len() as u32 {
            deal.each_draw(h, |draw, row| draws.push((row, deal.find(tour[h as usize], draw, back))));
        }
        draws.sort_unstable();
        let again = |some: &&[(u64, Option<Place>)]| some.len() > 1 && self.keys.of(some[0].0).is_empty();
        let again: Vec<u64> = draws.chunk_by(|a, b| a.0 == b.0).filter(again).map(|some| some[0].0).collect();
        self.own = again.into_iter().rev().zip(0..).collect();
        self.at.resize(self.own.len() + self.keys.number, BTreeSet::new());
        draws.into_iter().for_each(|(row, place)| self.put(place, row));
    }

    fn put(&mut self, place: Option<Place>, row: u64) {
        let Some(place) = place else { return };
        for key in self.keys_of(row) {
            self.at[key].insert(place);
        }
    }

    /// Numbers of the row's keys: places in `at`.
    fn keys_of(&self, row: u64) -> Vec<usize> {
        match self.own.get(&row) {
            Some(&own) => vec![own],
            None => self.keys.of(row).iter().map(|&key| self.own.len() + key as usize).collect(),
        }
    }

    /// Spreads every key evenly over the unions of each level inside those of the level above.
    fn even(mut self, levels: &[u64]) -> Exchanges {
        let deal = self.deal;
        let mut parent = deal.len;
        let levels: Vec<u64> = levels.iter().copied().filter(|&k| k <= deal.full.max(1)).collect();
        for &k in &levels {
            // The keys with several rows in a parent: exchanges inside it leave that as it is.
            let mut wanted: Vec<(u64, usize)> = Vec::new();
            for (key, at) in self.at.iter().enumerate() {
                let mut parents: Vec<u64> = at.iter().map(|place| place.0 / parent.max(1)).collect();
                parents.dedup();
                let of = |p: &u64| self.count(key, (p * parent, (p + 1) * parent)) > 1;
                wanted.extend(parents.into_iter().filter(of).map(|p| (p, key)));
            }
            wanted.sort_unstable();
            for (p, key) in wanted {
                self.even_key(key, (p * parent, ((p + 1) * parent).min(deal.len)), k);
            }
            parent = k;
        }
        let most = |k: u64| {
            let in_unions = |at: &BTreeSet<Place>| {
                let of: Vec<u64> = at.iter().map(|place| place.0 / k).collect();
                of.chunk_by(|a, b| a == b).map(|some| some.len() as u64).max().unwrap_or(1)
            };
            self.at.iter().map(in_unions).max().unwrap_or(1)
        };
        let most = (most(1), most(levels.first().copied().unwrap_or(1)));
        let mut batches: BTreeMap<u64, Vec<Exchanged>> = BTreeMap::new();
        for (&(batch, place), now) in &self.moved {
            if self.dealt(batch, place).row != now.row {
                let stratum = deal.order[now.tour as usize];
                batches.entry(batch).or_default().push(Exchanged { place, row: now.row, stratum });
            }
        }
        Exchanges { batches, made: self.made, chains: self.chains, most }
    }

    /// Rows of a key in some batches.
    fn count(&self, key: usize, (from, to): Union) -> u64 {
        self.at[key].range((from, 0)..(to, 0)).count() as u64
    }

    /// Full unions of k batches in a parent.
    fn full(&self, (from, to): Union, k: u64) -> u64 {
        to.min(self.deal.full).saturating_sub(from) / k
    }

    /// Rows of a key that a union of k batches of a parent may have.
    fn limit(&self, key: usize, parent: Union, k: u64) -> u64 {
        self.count(key, parent).div_ceil(self.full(parent, k))
    }

    fn even_key(&mut self, key: usize, parent: Union, k: u64) {
        // A parent without full unions stays as it is.
        if self.full(parent, k) == 0 {
            return;
        }
        let limit = self.limit(key, parent, k);
        let mut from = parent.0;
        while let Some(&(batch, _)) = self.at[key].range((from, 0)..(parent.1, 0)).next() {
            let start = parent.0 + (batch - parent.0) / k * k;
            let union = (start, (start + k).min(parent.1));
            while self.count(key, union) > limit && self.leave(key, union, parent, k) {}
            from = union.1;
        }
    }

    /// Takes one row of a key out of a union. False: no exchange does.
    fn leave(&mut self, key: usize, union: Union, parent: Union, k: u64) -> bool {
        let &from = self.at[key].range((union.0, 0)..(union.1, 0)).next_back().expect("more than its part");
        let slot = from.0 - union.0;
        let is_rest = from.0 == self.deal.full;
        let limit = self.limit(key, parent, k);
        let strata = self.strata(from.0);
        let mut first = None;
        for start in self.nearest(from.0, slot, parent, k) {
            let there = (start, start + k);
            if there == union || self.count(key, there) >= limit {
                continue;
            }
            let other = start + slot;
            let others = self.strata(other);
            let to = (other, counterparts(&strata, &others)[from.1 as usize]);
            first.get_or_insert(start);
            let same_stratum = others[to.1 as usize] == strata[from.1 as usize];
            if (!is_rest || same_stratum) && self.fits(key, from, to, union, there, parent, k) {
                self.exchange(from, to);
                return true;
            }
        }
        match first {
            Some(start) if self.single => {
                self.chain(from, union, start, parent, k);
                true
            }
            _ => false,
        }
    }

    /// Whether an exchange takes a row of the key out of the union and brings no key over its part.
    #[expect(clippy::too_many_arguments, reason = "two places in two unions of a parent")]
    fn fits(
        &self,
        key: usize,
        from: Place,
        to: Place,
        union: Union,
        there: Union,
        parent: Union,
        k: u64,
    ) -> bool {
        let (leaving, coming) = (self.keys_at(from), self.keys_at(to));
        let room = |key: usize, union| {
            self.at[key].is_empty() || self.count(key, union) < self.limit(key, parent, k)
        };
        !coming.contains(&key)
            && coming.iter().all(|&key| leaving.contains(&key) || room(key, union))
            && leaving.iter().all(|&key| coming.contains(&key) || room(key, there))
    }

    /// All partners would bring a duplicate of their own: exchanges along a chain between two unions. It ends, since it uses every
    /// place once, and leaves fewer duplicates than there were.
    fn chain(&mut self, mut from: Place, union: Union, start: u64, parent: Union, k: u64) {
        self.chains += 1;
        let pairs = (union.0..union.1)
            .map(|batch| counterparts(&self.strata(batch), &self.strata(start + batch - union.0)));
        let pairs: Vec<Vec<u32>> = pairs.collect();
        let mut used: BTreeSet<Place> = BTreeSet::new();
        loop {
            let slot = from.0 - union.0;
            let to = (start + slot, pairs[slot as usize][from.1 as usize]);
            let coming = self.keys_at(to).first().copied().filter(|&key| !self.at[key].is_empty());
            self.exchange(from, to);
            used.insert(from);
            let Some(key) = coming.filter(|&key| self.count(key, union) > self.limit(key, parent, k)) else {
                return;
            };
            let of_union = self.at[key].range((union.0, 0)..(union.1, 0));
            match of_union.rev().find(|place| !used.contains(place)) {
                Some(&next) => from = next,
                None => return,
            }
        }
    }

    fn exchange(&mut self, from: Place, to: Place) {
        let (a, b) = (self.occupant(from), self.occupant(to));
        let (leaving, coming) = (self.keys_of(a.row), self.keys_of(b.row));
        for (keys, others, old, new) in [(&leaving, &coming, from, to), (&coming, &leaving, to, from)] {
            for &key in keys.iter().filter(|key| !others.contains(key)) {
                let at = &mut self.at[key];
                if at.remove(&old) {
                    at.insert(new);
                }
            }
        }
        self.moved.insert(from, b);
        self.moved.insert(to, a);
        self.made += 1;
    }

    /// Where full unions of k batches of a parent begin, by the distance on the circle of full batches between the columns of a batch and of
    /// theirs at the same place in them; ties: ahead. The rest batch is at column 0.
    fn nearest(&self, batch: u64, slot: u64, parent: Union, k: u64) -> impl Iterator<Item = u64> + use<> {
        let deal = self.deal;
        let n = deal.full;
        let from = if batch == n { 0 } else { deal.column(batch) };
        let number = self.full(parent, k);
        // Few of them are put in order, many are met on the way.
        let all = number == n / k && number > 64;
        let mut few: Vec<(u64, u64, u64)> = Vec::new();
        if !all {
            few.extend((0..number).map(|i| {
                let start = parent.0 + i * k;
                let ahead = (deal.column(start + slot) + n - from) % n;
                (ahead.min(n - ahead), ahead, start)
            }));
            few.sort_unstable();
        }
        let (rotation, back) = (deal.rotation, self.back);
        let at = move |ahead: u64| {
            let column =
                (u128::from(from) + u128::from(ahead) + u128::from(n) - u128::from(rotation)) % u128::from(n);
            let batch = (column * u128::from(back) % u128::from(n)) as u64;
            let start = batch.checked_sub(slot)?;
            (start.is_multiple_of(k) && start + k <= n).then_some(start)
        };
        let steps = if all { n / 2 + 1 } else { 0 };
        let both = (0..steps).flat_map(move |d| {
            let behind = (d > 0 && n - d != d).then(|| n - d);
            std::iter::once(d).chain(behind)
        });
        few.into_iter().map(|x| x.2).chain(both.filter_map(at))
    }

    fn keys_at(&self, place: Place) -> Vec<usize> {
        self.keys_of(self.occupant(place).row)
    }

    fn occupant(&self, (batch, place): Place) -> Occupant {
        self.moved.get(&(batch, place)).copied().unwrap_or_else(|| self.dealt(batch, place))
    }

    fn dealt(&self, batch: u64, place: u32) -> Occupant {
        let (tour, row) = self.deal.dealt(batch, place);
        Occupant { row, tour }
    }

    /// Of every row of a batch its stratum's place in the tour.
    fn strata(&self, batch: u64) -> Vec<u32> {
        let mut strata = self.deal.tour_of(batch);
        for ((_, place), now) in self.moved.range((batch, 0)..(batch + 1, 0)) {
            strata[*place as usize] = now.tour;
        }
        strata
    }
}

/// Places of batch X and the places of Y that they change with, by the strata of both: the i-th row of a stratum with the i-th of the
/// same; what is left over, in order. X has no more rows than Y.
fn counterparts(x: &[u32], y: &[u32]) -> Vec<u32> {
    let by_stratum = |of: &[u32]| {
        let mut places: Vec<u32> = (0..of.len() as u32).collect();
        places.sort_by_key(|&place| of[place as usize]);
        places
    };
    let (px, py) = (by_stratum(x), by_stratum(y));
    let mut to = vec![u32::MAX; x.len()];
    let mut free = vec![true; y.len()];
    let mut from = 0;
    for some in px.chunk_by(|&a, &b| x[a as usize] == x[b as usize]) {
        let stratum = x[some[0] as usize];
        from += py[from..].partition_point(|&place| y[place as usize] < stratum);
        let there = py[from..].iter().take_while(|&&place| y[place as usize] == stratum);
        for (&a, &b) in some.iter().zip(there) {
            to[a as usize] = b;
            free[b as usize] = false;
        }
    }
    let mut left = (0..y.len() as u32).filter(|&place| free[place as usize]);
    to.iter_mut().filter(|to| **to == u32::MAX).for_each(|to| *to = left.next().expect("Y has as many rows"));
    to
}

/// The number below n that `stride`, coprime to n, makes 1 with, modulo n (Euclid).
fn inverse(stride: u64, n: u64) -> u64 {
    let (mut a, mut b) = (i128::from(stride), i128::from(n));
    let (mut x, mut y) = (1i128, 0i128);
    while b != 0 {
        let q = a / b;
        (a, b) = (b, a - q * b);
        (x, y) = (y, x - q * y);
    }
    x.rem_euclid(i128::from(n.max(1))) as u64
}

impl Exchanges {
    /// Puts the rows that were exchanged into batches that were dealt: `batches` of `k` times the smallest size.
    pub fn put(&self, deal: &Deal<'_>, batches: std::ops::Range<u64>, k: u64, into: &mut Batch) {
        let (from, to) = (batches.start * k, (batches.end * k).min(deal.len));
        for (&batch, exchanged) in self.batches.range(from..to) {
            let union = batch / k;
            let rest = deal.full < deal.len && deal.full / k == union;
            let index = (union - batches.start) as usize;
            for e in exchanged {
                into.put(deal, (index, k, rest), (batch - union * k) as usize, e.place, (e.row, e.stratum));
            }
        }
    }
}
