//! A distribution told by few numbers: some of its quantiles, each once, and how many rows lie at them and between them.
//! Rows at an edge are kept apart, so that numbers with many ties (counts, ratings, copies of one row) are told exactly.

use serde::{Deserialize, Serialize};

/// Rows at distinct, ascending `edges` and between them: below the first, at it, between it and the second, at that, ..,
/// beyond the last. `2 edges + 1` counts; empty where nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cells {
    pub edges: Vec<f64>,
    pub rows: Vec<u64>,
}

/// An edge at which at least this share of the rows lies is a cell of its own in [`Cells::groups`].
const HEAVY: f64 = 0.05;

impl Cells {
    /// Of quantiles (ascending; NaN: none) and what is counted at and between them.
    ///
    /// None if the counts are not as many as the edges ask for.
    pub fn new(quantiles: &[f64], rows: Vec<u64>) -> Option<Cells> {
        let edges = distinct(quantiles);
        (rows.len() == 2 * edges.len() + 1 && !edges.is_empty()).then_some(Cells { edges, rows })
    }

    /// Counts the `values` at and between these quantiles.
    pub fn count(quantiles: &[f64], values: impl IntoIterator<Item = f64>) -> Cells {
        let edges = distinct(quantiles);
        if edges.is_empty() {
            return Cells::default();
        }
        let mut rows = vec![0; 2 * edges.len() + 1];
        values.into_iter().for_each(|x| rows[place(&edges, x)] += 1);
        Cells { edges, rows }
    }

    /// From the rows that are less than each of the quantiles, and less or equal, among `total`.
    pub fn around(quantiles: &[f64; 11], around: &[(u64, u64); 11], total: u64) -> Cells {
        let edges = distinct(quantiles);
        let (mut rows, mut below) = (Vec::with_capacity(2 * edges.len() + 1), 0);
        for (i, &(less, upto)) in around.iter().enumerate() {
            if edges.is_empty() || i > 0 && quantiles[i] == quantiles[i - 1] {
                continue;
            }
            rows.extend([less - below, upto - less]);
            below = upto;
        }
        if !edges.is_empty() {
            rows.push(total - below);
        }
        Cells { edges, rows }
    }

    /// What eleven quantiles say alone of `rows` rows: a tenth between each two. None where some coincide.
    pub fn tenths(quantiles: &[f64; 11], rows: f64) -> Option<Cells> {
        let edges = distinct(quantiles);
        let count = |i: usize| {
            if i.is_multiple_of(2) && (1..=10).contains(&(i / 2)) { (rows / 10.0) as u64 } else { 0 }
        };
        (edges.len() == 11).then(|| Cells { edges, rows: (0..23).map(count).collect() })
    }

    pub fn total(&self) -> f64 {
        self.rows.iter().sum::<u64>() as f64
    }

    /// The `q` quantile of counts in these cells, which may be of other rows: in a straight line inside a cell. What lies
    /// outside the edges has the outermost one.
    pub fn quantile(&self, rows: &[u64], q: f64) -> f64 {
        let wanted = q * rows.iter().sum::<u64>() as f64;
        let mut below = 0.0;
        for (i, &n) in rows.iter().enumerate() {
            let n = n as f64;
            if n > 0.0 && below + n >= wanted {
                let last = self.edges.len() - 1;
                let (low, high) = (self.edges[(i.max(1) - 1) / 2], self.edges[(i / 2).min(last)]);
                return low + (high - low) * ((wanted - below) / n).clamp(0.0, 1.0);
            }
            below += n;
        }
        f64::NAN
    }

    /// Neighbouring cells put together so that each has its share of these rows: cut at the edges, those of next to no rows
    /// apart, while an edge of many rows is a group of its own. Cells of every group.
    pub fn groups(&self) -> Vec<Vec<usize>> {
        let heavy = HEAVY * self.total();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let (mut open, mut rows) = (Vec::new(), 0.0);
        for (i, &n) in self.rows.iter().enumerate() {
            let n = n as f64;
            let (edge, tied) = (i % 2 == 1, i % 2 == 1 && n >= heavy);
            if tied && !open.is_empty() {
                groups.push(std::mem::take(&mut open));
                rows = 0.0;
            }
            open.push(i);
            rows += n;
            if tied || (edge && rows >= heavy) {
                groups.push(std::mem::take(&mut open));
                rows = 0.0;
            }
        }
        // What lies beyond the largest number belongs to the last cell, unless that is one number.
        match groups.last_mut() {
            Some(last) if last.len() > 1 && rows < heavy => last.extend(open),
            _ => groups.push(open),
        }
        groups
    }

    /// For every cell the tenth of the rows in which the middle of its [group](Cells::groups) lies: by these the cells of
    /// several distributions can be put together.
    pub fn tenths_of(&self) -> Vec<usize> {
        let mut slots = vec![0; self.rows.len()];
        let (total, mut below) = (self.total(), 0.0);
        for group in self.groups() {
            let rows: f64 = group.iter().map(|&i| self.rows[i] as f64).sum();
            let middle = (below + 0.5 * rows) / total.max(1.0);
            group.iter().for_each(|&i| slots[i] = ((10.0 * middle) as usize).min(9));
            below += rows;
        }
        slots
    }
}

/// Each of some ascending numbers once; none if there is a NaN.
fn distinct(quantiles: &[f64]) -> Vec<f64> {
    let mut edges = quantiles.to_vec();
    edges.dedup();
    if edges.iter().any(|x| x.is_nan()) { Vec::new() } else { edges }
}

/// The cell of a number.
#[inline]
pub fn place(edges: &[f64], x: f64) -> usize {
    let i = edges.partition_point(|&e| e < x);
    2 * i + usize::from(edges.get(i) == Some(&x))
}

/// Distance of a row to the medians of its features: what the spread of rows is told by. In the order of the features.
pub fn distance(row: &[f32], middle: &[f64]) -> f64 {
    row.iter().zip(middle).map(|(&x, m)| (f64::from(x) - m) * (f64::from(x) - m)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_at_and_between() {
        let cells = Cells::count(&[1.0, 2.0, 2.0, 5.0], [1.0, 1.5, 2.0, 2.0, 3.0, 4.0, 5.0, 7.0, 0.0]);
        assert_eq!(cells, Cells { edges: vec![1.0, 2.0, 5.0], rows: vec![1, 1, 1, 2, 2, 1, 1] });
        assert_eq!(Cells::new(&[1.0, 2.0, 2.0, 5.0], cells.rows.clone()), Some(cells.clone()));
        assert_eq!((Cells::new(&[1.0, 2.0], vec![3]), cells.total()), (None, 9.0));
        assert_eq!(Cells::count(&[f64::NAN; 11], [1.0]), Cells::default());
        let quantiles = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 5.0, 5.0, 5.0];
        let around = quantiles.map(|x| {
            if x == 1.0 {
                (1, 2)
            } else if x == 2.0 {
                (3, 5)
            } else {
                (7, 8)
            }
        });
        assert_eq!(Cells::around(&quantiles, &around, 9), cells);
        assert_eq!(Cells::around(&[f64::NAN; 11], &around, 9), Cells::default());
        let deciles: [f64; 11] = std::array::from_fn(|i| i as f64);
        let tenths = Cells::tenths(&deciles, 50.0).unwrap();
        assert_eq!(
            (tenths.rows[..4].to_vec(), tenths.rows[20..].to_vec()),
            (vec![0, 0, 5, 0], vec![5, 0, 0])
        );
        assert!(Cells::tenths(&[1.0; 11], 50.0).is_none());
    }

    #[test]
    fn quantiles_of_other_rows() {
        let cells = Cells { edges: vec![0.0, 10.0, 20.0], rows: vec![0; 7] };
        // 10 rows between 0 and 10, 10 between 10 and 20.
        assert_eq!(cells.quantile(&[0, 0, 10, 0, 10, 0, 0], 0.25), 5.0);
        assert_eq!(cells.quantile(&[0, 0, 10, 0, 10, 0, 0], 0.5), 10.0);
        assert_eq!(cells.quantile(&[0, 0, 4, 8, 0, 0, 0], 0.5), 10.0);
        // Outside there is no more to say than the edge.
        assert_eq!(
            (cells.quantile(&[9, 0, 0, 0, 0, 0, 1], 0.5), cells.quantile(&[0, 0, 0, 0, 0, 0, 2], 0.5)),
            (0.0, 20.0)
        );
        assert!(cells.quantile(&[0; 7], 0.5).is_nan());
    }

    #[test]
    fn groups_are_tenths_and_ties() {
        let deciles: Vec<f64> = (0..=10).map(f64::from).collect();
        let values = || (0..1000).map(|i| i as f64 / 100.0);
        let groups = Cells::count(&deciles, values()).groups();
        assert_eq!(groups.len(), 10);
        assert_eq!((groups[0].clone(), groups[9].clone()), (vec![0, 1, 2, 3], vec![20, 21, 22]));
        assert_eq!(groups.concat(), (0..23).collect::<Vec<_>>());
        // Ratings: five numbers, each a cell of its own, and what was never there.
        let ratings = Cells::count(&[1.0, 2.0, 3.0, 4.0, 5.0], (0..500).map(|i| f64::from(i % 5 + 1)));
        let groups = ratings.groups();
        assert_eq!(groups.concat(), (0..11).collect::<Vec<_>>());
        assert_eq!(groups.iter().filter(|g| g.iter().any(|&i| ratings.rows[i] > 0)).count(), 5);
        // Nine in ten are one number.
        let copies = Cells::count(
            &[0.0, 1.0, 1.0, 2.0],
            (0..1000).map(|i| if i % 10 == 0 { i as f64 / 500.0 } else { 1.0 }),
        );
        let place = place(&copies.edges, 1.0);
        assert!(copies.groups().contains(&vec![place]));
        let slots = Cells::count(&deciles, values()).tenths_of();
        assert_eq!((slots[2], slots[4], slots[22]), (0, 1, 9));
        assert_eq!(copies.tenths_of()[place], 5);
    }
}
