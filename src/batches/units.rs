//! Units: what is decoded at a time. Row groups joined with their neighbours or cut ([`units_of`]), with the rows that each
//! has of every stratum, in an order in which neighbours have a similar mix ([`alike`]).

use std::ops::Range;

use arrow_array::Array;
use rayon::prelude::*;

use crate::format::samples::Samples;
use crate::format::table::{BATCH_BITS, BATCH_ROWS};
use crate::format::units::Units;
use crate::kit::ids::NONE;

/// Strata of rows by their global numbers.
pub trait RowStrata: Sync {
    /// Strata of the rows from `first` on; [`NONE`] for one that is not planned. O(rows).
    fn read(&self, first: u64, into: &mut [u32]);
}

impl RowStrata for Samples {
    fn read(&self, first: u64, into: &mut [u32]) {
        let mut done = 0;
        while done < into.len() {
            let row = first + done as u64;
            let (_, strata, _, _) = self.chunk((row >> BATCH_BITS) as usize);
            let at = row as usize % BATCH_ROWS;
            let some = strata.slice(at, (strata.len() - at).min(into.len() - done));
            let to = &mut into[done..done + some.len()];
            to.copy_from_slice(some.values());
            if let Some(nulls) = some.nulls() {
                (0..to.len()).filter(|&i| nulls.is_null(i)).for_each(|i| to[i] = NONE);
            }
            done += to.len();
        }
    }
}

/// Counts the rows of every unit; `first_row` ascending. `group`: score group of every stratum, which the order is by. O(rows),
/// in parallel over units.
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
    let of_all = || order.iter().map(|&unit| &cells[unit as usize]);
    let mut offsets = vec![0];
    offsets.extend(of_all().scan(0, |end, cells| {
        *end += cells.len() as u64;
        Some(*end)
    }));
    Units {
        first_row: order.iter().map(|&unit| first_row[unit as usize]).collect(),
        rows: order.iter().map(|&unit| rows[unit as usize]).collect(),
        planned: of_all().map(|cells| cells.iter().map(|&(_, n)| n).sum::<u32>()).collect(),
        offsets,
        strata: of_all().flatten().map(|&(h, _)| h).collect(),
        counts: of_all().flatten().map(|&(_, n)| n).collect(),
        number: order,
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
