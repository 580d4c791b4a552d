//! Units: what is decoded at a time. Row groups joined with their neighbours or cut ([`units_of`]), with the rows that each
//! has of every stratum, in an order in which neighbours have a similar mix ([`alike`]).

use std::ops::Range;

use arrow_buffer::ScalarBuffer;
use rayon::prelude::*;

use crate::kit::ids::NONE;

/// Strata of rows by their global numbers.
pub trait RowStrata: Sync {
    /// Strata of the rows from `first` on; [`NONE`] for one that is not planned. O(rows).
    fn read(&self, first: u64, into: &mut [u32]);
}

/// The units of a dataset, with planned rows by stratum. The order is that of [`alike`], units without planned rows last.
#[derive(Clone, Debug)]
pub struct Units {
    pub first_row: ScalarBuffer<u64>,
    pub rows: ScalarBuffer<u32>,
    /// Planned rows.
    pub planned: ScalarBuffer<u32>,
    /// Where the strata of each unit begin, and the end (units + 1).
    pub offsets: ScalarBuffer<i32>,
    /// Strata of which a unit has rows, ascending, and how many.
    pub strata: ScalarBuffer<u32>,
    pub counts: ScalarBuffer<u32>,
    /// Number of each unit in the order of rows.
    pub number: Vec<u32>,
}

impl Units {
    /// Counts the rows of every unit; `first_row` ascending. `group`: score group of every stratum, which the order is by.
    /// O(rows), in parallel over units.
    pub fn count(first_row: &[u64], rows: &[u32], group: &[u32], strata: &dyn RowStrata) -> Units {
        let count = |(&first, &rows): (&u64, &u32)| {
            let mut of = vec![0; rows as usize];
            strata.read(first, &mut of);
            let mut all = vec![0u32; group.len()];
            of.iter().filter(|&&h| h != NONE).for_each(|&h| all[h as usize] += 1);
            (0..).zip(all).filter(|&(_, n)| n > 0).collect::<Vec<(u32, u32)>>()
        };
        let cells: Vec<Vec<(u32, u32)>> = first_row.par_iter().zip(rows).map(count).collect();
        let groups = group.iter().max().map_or(0, |&g| g as usize + 1);
        let mut by_group = vec![0u64; groups * cells.len()];
        for (unit, cells) in cells.iter().enumerate() {
            for &(h, n) in cells {
                by_group[unit * groups + group[h as usize] as usize] += u64::from(n);
            }
        }
        let mut order = alike(&by_group, groups);
        order.extend((0..cells.len() as u32).filter(|&unit| cells[unit as usize].is_empty()));
        let at = |i: &u32| *i as usize;
        let of_all = || order.iter().flat_map(|i| cells[at(i)].iter());
        let mut offsets = vec![0];
        offsets.extend(order.iter().scan(0, |end, i| {
            *end += cells[at(i)].len() as i32;
            Some(*end)
        }));
        Units {
            first_row: order.iter().map(|i| first_row[at(i)]).collect(),
            rows: order.iter().map(|i| rows[at(i)]).collect(),
            planned: order.iter().map(|i| cells[at(i)].iter().map(|&(_, n)| n).sum::<u32>()).collect(),
            offsets: offsets.into(),
            strata: of_all().map(|&(h, _)| h).collect(),
            counts: of_all().map(|&(_, n)| n).collect(),
            number: order,
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Units with planned rows: the first ones.
    pub fn with_rows(&self) -> usize {
        self.planned.partition_point(|&n| n > 0)
    }

    /// Strata that a unit has rows of, and how many.
    pub fn cells(&self, unit: usize) -> impl Iterator<Item = (u32, u32)> + '_ {
        let range = self.offsets[unit] as usize..self.offsets[unit + 1] as usize;
        self.strata[range.clone()].iter().copied().zip(self.counts[range].iter().copied())
    }
}

/// Row groups, as (first row, rows) in row order, joined and cut into units of about `unit_rows` rows: neighbours are joined
/// while they fit; a larger one is cut as equally as can be, each cut moved to the nearest of `borders` (rows at which pages of
/// the largest column begin, ascending; ties: the lower). First row and rows of every unit.
pub fn units_of(groups: &[(u64, u64)], unit_rows: u64, borders: &[u64]) -> (Vec<u64>, Vec<u32>) {
    let mut units: Vec<Range<u64>> = Vec::new();
    for &(first, rows) in groups.iter().filter(|&&(_, rows)| rows > 0) {
        let end = first + rows;
        if rows > unit_rows {
            let pieces = rows.div_ceil(unit_rows);
            let even = |i: u64| first + (u128::from(rows) * u128::from(i) / u128::from(pieces)) as u64;
            let mut cuts: Vec<u64> = (1..pieces).map(|i| nearest(borders, even(i))).collect();
            cuts.sort_unstable();
            cuts.dedup();
            cuts.retain(|&cut| first < cut && cut < end);
            let starts = std::iter::once(first).chain(cuts.iter().copied());
            units.extend(starts.zip(cuts.iter().copied().chain([end])).map(|(from, to)| from..to));
            continue;
        }
        match units.last_mut() {
            Some(last) if last.end == first && end - last.start <= unit_rows => last.end = end,
            _ => units.push(first..end),
        }
    }
    units.into_iter().map(|unit| (unit.start, (unit.end - unit.start) as u32)).unzip()
}

/// The border that is nearest to a row, the lower of two; the row itself if there are none.
fn nearest(borders: &[u64], row: u64) -> u64 {
    let above = borders.partition_point(|&border| border < row);
    let around = [above.checked_sub(1), Some(above)];
    let near = around.into_iter().flatten().filter_map(|i| borders.get(i));
    near.min_by_key(|border| border.abs_diff(row)).copied().unwrap_or(row)
}

/// Order of the units with planned rows in which neighbours have a similar mix. `counts`: units x `groups` planned rows. A
/// tree of medians: each set is sorted by the group whose share varies most over it (ties: the lower group, the lower unit)
/// and halved. O(units x groups x log units).
pub fn alike(counts: &[u64], groups: usize) -> Vec<u32> {
    if groups == 0 {
        return Vec::new();
    }
    let sums: Vec<u64> = counts.chunks(groups).map(|of| of.iter().sum()).collect();
    let share = |unit: u32, g: usize| counts[unit as usize * groups + g] as f64 / sums[unit as usize] as f64;
    let mut order = Vec::with_capacity(sums.len());
    let mut sets = vec![(0..sums.len() as u32).filter(|&i| sums[i as usize] > 0).collect::<Vec<u32>>()];
    while let Some(mut set) = sets.pop() {
        match if set.len() > 2 { most_varied(&set, groups, share) } else { None } {
            None => order.append(&mut set),
            Some(g) => {
                set.sort_by(|&a, &b| share(a, g).total_cmp(&share(b, g)).then(a.cmp(&b)));
                let mut upper = set.split_off(set.len() / 2);
                set.sort_unstable();
                upper.sort_unstable();
                sets.extend([upper, set]);
            }
        }
    }
    order
}

/// The group whose share varies most over the set; None: no group's does. Sums in the order of units: the same bits everywhere.
fn most_varied(set: &[u32], groups: usize, share: impl Fn(u32, usize) -> f64) -> Option<usize> {
    let mut mean = vec![0.0; groups];
    for &unit in set {
        mean.iter_mut().enumerate().for_each(|(g, sum)| *sum += share(unit, g));
    }
    mean.iter_mut().for_each(|sum| *sum /= set.len() as f64);
    let mut variance = vec![0.0; groups];
    for &unit in set {
        for (g, sum) in variance.iter_mut().enumerate() {
            let d = share(unit, g) - mean[g];
            *sum += d * d;
        }
    }
    let most = (0..groups).rev().max_by(|&a, &b| variance[a].total_cmp(&variance[b]))?;
    (variance[most] > 0.0).then_some(most)
}
