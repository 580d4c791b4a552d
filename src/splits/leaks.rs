//! Leaks: rows of a later split in whose group an earlier split has rows.

use super::NO_SPLIT;

/// Of every split, its rows in groups that an earlier split has rows of, too. `groups`: (lowest row, row), ascending. O(rows of groups).
pub fn leaks(split: &[u16], groups: &[(u64, u64)], splits: usize) -> Vec<u64> {
    let mut out = vec![0; splits];
    for group in groups.chunk_by(|a, b| a.0 == b.0) {
        let of = || group.iter().map(|g| split[g.1 as usize]).filter(|&s| s != NO_SPLIT);
        let Some(first) = of().min() else { continue };
        of().filter(|&s| s > first).for_each(|s| out[s as usize] += 1);
    }
    out
}

/// The earlier split gives way: its rows in groups that a later split has rows of are set aside. Returns how many of each split. No group is in
/// two splits then, and the last split is whole.
pub fn purge(split: &mut [u16], groups: &[(u64, u64)], splits: usize) -> Vec<u64> {
    let mut out = vec![0; splits];
    for group in groups.chunk_by(|a, b| a.0 == b.0) {
        let of = |g: &(u64, u64)| split[g.1 as usize];
        let Some(last) = group.iter().map(of).filter(|&s| s != NO_SPLIT).max() else { continue };
        for &(_, row) in group {
            let s = &mut split[row as usize];
            if *s != NO_SPLIT && *s < last {
                out[*s as usize] += 1;
                *s = NO_SPLIT;
            }
        }
    }
    out
}
