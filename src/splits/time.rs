//! Splits by time: the earliest rows first, equal times never parted.

use super::NO_SPLIT;

/// Where each split ends, in rows of the sorted times, and which of them are set aside.
///
/// Splits take as many rows as `totals` says; equal times at a boundary go to the earlier split. Rows that are `near` the last time of the split
/// before (its last time, their time) are set aside, and so are rows without a time. Returns the last time of every split that has rows.
/// O(rows log rows).
pub fn split_by_time<T: Copy + PartialOrd>(
    time: &[Option<T>],
    totals: &[u64],
    near: impl Fn(T, T) -> bool,
    split: &mut [u16],
) -> Vec<Option<T>> {
    let mut order: Vec<(T, usize)> = time.iter().zip(0..).filter_map(|(t, i)| Some(((*t)?, i))).collect();
    order.sort_by(|a, b| a.0.partial_cmp(&b.0).expect("times are ordered").then(a.1.cmp(&b.1)));
    split.fill(NO_SPLIT);
    let (mut at, mut done) = (0, 0);
    let mut last: Vec<Option<T>> = Vec::with_capacity(totals.len());
    for (s, &rows) in totals.iter().enumerate() {
        done += rows as usize;
        let mut end = done.max(at);
        while 0 < end && end < order.len() && order[end].0 == order[end - 1].0 {
            end += 1;
        }
        for &(t, row) in &order[at..end] {
            if at == 0 || !near(order[at - 1].0, t) {
                split[row] = s as u16;
            }
        }
        last.push((end > 0).then(|| order[end - 1].0));
        at = end;
    }
    last
}

/// The same of rows that came later: by the last times that the splits had. Rows after all of them are in the last split.
pub fn split_by_last<T: Copy + PartialOrd>(time: T, last: &[Option<T>], near: impl Fn(T, T) -> bool) -> u16 {
    let s = last.iter().position(|l| l.is_some_and(|l| time <= l)).unwrap_or(last.len() - 1);
    match s.checked_sub(1).and_then(|before| last[before]) {
        Some(before) if near(before, time) => NO_SPLIT,
        _ => s as u16,
    }
}
