//! Which of the new modalities is which of the old ones: the one-to-one matching with the largest overlap (the assignment
//! problem; Kuhn 1955, with the potentials of Jonker & Volgenant 1987).

/// `overlap[new][old]`, rows that are in both. For every new one the old one that it is matched with, None where they share
/// nothing or there are more new ones. The sum of matched overlaps is the largest possible. O((new + old)^3).
pub fn matching(overlap: &[Vec<u64>], old: usize) -> Vec<Option<u32>> {
    let n = overlap.len().max(old);
    let gain = |i: usize, j: usize| overlap.get(i).and_then(|row| row.get(j)).map_or(0, |&x| x as i128);
    // Rows and columns count from 1; column 0 is where each row starts.
    let (mut u, mut v) = (vec![0i128; n + 1], vec![0i128; n + 1]);
    let (mut row_of, mut way) = (vec![0usize; n + 1], vec![0usize; n + 1]);
    for row in 1..=n {
        row_of[0] = row;
        let mut column = 0;
        let mut least = vec![i128::MAX; n + 1];
        let mut done = vec![false; n + 1];
        while row_of[column] != 0 {
            done[column] = true;
            let at = row_of[column];
            let (mut step, mut next) = (i128::MAX, 0);
            for j in (1..=n).filter(|&j| !done[j]) {
                let cost = -gain(at - 1, j - 1) - u[at] - v[j];
                if cost < least[j] {
                    (least[j], way[j]) = (cost, column);
                }
                if least[j] < step {
                    (step, next) = (least[j], j);
                }
            }
            for j in 0..=n {
                if done[j] {
                    u[row_of[j]] += step;
                    v[j] -= step;
                } else if least[j] != i128::MAX {
                    least[j] -= step;
                }
            }
            column = next;
        }
        while column != 0 {
            row_of[column] = row_of[way[column]];
            column = way[column];
        }
    }
    let mut matched = vec![None; overlap.len()];
    for (j, &row) in row_of[1..=old].iter().enumerate() {
        let i = row - 1;
        if i < overlap.len() && gain(i, j) > 0 {
            matched[i] = Some(j as u32);
        }
    }
    matched
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::rng::key;

    /// The best sum over all permutations.
    fn best(overlap: &[Vec<u64>], row: usize, used: &mut Vec<bool>) -> u64 {
        if row == overlap.len() {
            return 0;
        }
        let mut most = best(overlap, row + 1, used);
        for j in 0..used.len() {
            if !used[j] {
                used[j] = true;
                most = most.max(overlap[row][j] + best(overlap, row + 1, used));
                used[j] = false;
            }
        }
        most
    }

    #[test]
    fn the_sum_is_the_largest() {
        for t in 0..60 {
            let (new, old) = (1 + t as usize % 5, 1 + t as usize % 4);
            let overlap: Vec<Vec<u64>> =
                (0..new).map(|i| (0..old).map(|j| key(t, &[i as u64, j as u64]) % 20).collect()).collect();
            let got = matching(&overlap, old);
            let sum: u64 = got.iter().enumerate().filter_map(|(i, j)| Some(overlap[i][(*j)? as usize])).sum();
            assert_eq!(sum, best(&overlap, 0, &mut vec![false; old]), "{overlap:?}");
            let mut used: Vec<u32> = got.iter().flatten().copied().collect();
            used.sort_unstable();
            assert!(used.windows(2).all(|w| w[0] < w[1]));
        }
    }

    #[test]
    fn what_shares_nothing_is_not_matched() {
        // 5 + 3 is less than 9 + 0: but then nothing is left for the first one.
        assert_eq!(matching(&[vec![0, 5], vec![0, 0], vec![3, 9]], 2), [None, None, Some(1)]);
        assert_eq!(matching(&[vec![0, 7], vec![0, 0], vec![3, 9]], 2), [Some(1), None, Some(0)]);
        assert_eq!(matching(&[], 3), []);
        assert_eq!(matching(&[vec![7]], 1), [Some(0)]);
    }
}
