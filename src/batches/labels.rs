//! P x K batches: K rows of each of P = B/K different labels, as losses want that compare rows of a label with those of others.
//!
//! A label of n_h rows has u_h = floor(n_h / K) units of K rows. The most batches of P different labels that there can be are nb, the largest
//! number with sum_h min(u_h, nb) >= P nb; label h then gives K min(u_h, nb) rows to an epoch, in chunks of K. Since a label's chunks, at most
//! nb of them, follow each other in the list, they come into different batches (McNaughton 1959). So an epoch has exactly nb full batches, and a
//! rest batch of fewer than P chunks, of different labels too.
//!
//! A label's rows stand on a circle, in an order that never changes; epoch e takes the next ones, in an order of its own. So no epoch has a row
//! twice, and over any number of epochs the rows of a label come equally often, within one.

use crate::batches::batch_size;
use crate::batches::chunks::Chunk;
use crate::format::manifest::LeftOut;
use crate::kit::error::{Error, Result};

/// Finds a size of batches, or a number of ranks, that `rows_per_label` does not fit, before any data is read.
pub fn check(rows_per_label: Chunk, sizes: &batch_size::Params) -> Result<()> {
    let wrong = |reason: String, help: &str| Err(Error::config("batches.rows_per_label", reason, help));
    let base = sizes.smallest();
    let rows = match (rows_per_label, base) {
        (Chunk::Rows(rows), _) => rows,
        (Chunk::Batch, Some(base)) => base,
        (Chunk::Batch, None) => {
            return wrong(
                "\"batch\" contradicts batch_size.size = \"auto\": a batch of one label has no size of its own".into(),
                "say --batch-size N",
            );
        }
    };
    if rows < 2 {
        return wrong(format!("{rows} rows of a label are no company"), "use 2 or more");
    }
    let Some(base) = base else { return Ok(()) };
    if !base.is_multiple_of(rows) {
        let near = (2..=base).filter(|&k| base.is_multiple_of(k)).min_by_key(|&k| k.abs_diff(rows));
        return wrong(
            format!("{rows} does not divide the smallest batch size, {base}"),
            &format!("use {}, or another --batch-size", near.unwrap_or(base)),
        );
    }
    let (labels, parts) = (base / rows, sizes.world_size * sizes.micro_steps);
    if !labels.is_multiple_of(parts) {
        return wrong(
            format!(
                "a batch of {base} has {labels} labels of {rows} rows, which batch_size.world_size x batch_size.micro_steps = {parts} does \
                 not divide: a rank would have a part of a label"
            ),
            "choose a batch size that is a multiple of all three",
        );
    }
    Ok(())
}

/// Rows that every label of `sizes` rows gives to an epoch, and its full batches of `base` rows, `rows` of each label: as many as there can be.
/// A label with fewer rows gives none. O(labels log rows).
pub fn counts(sizes: &[u64], rows: u64, base: u64) -> (Vec<u64>, u64) {
    let labels = base / rows;
    let units: Vec<u64> = sizes.iter().map(|n| n / rows).collect();
    let fills = |batches: u64| {
        let sum: u128 = units.iter().map(|&u| u128::from(u.min(batches))).sum();
        sum >= u128::from(labels) * u128::from(batches)
    };
    // The sum less its bound rises, then falls: the numbers of batches that it fills are 0 to the answer.
    let (mut low, mut high) = (0, units.iter().sum::<u64>() / labels);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fills(middle) { low = middle } else { high = middle - 1 }
    }
    (units.into_iter().map(|u| rows * u.min(low)).collect(), low)
}

/// Rows of strata that are labels: that of nulls is none. `values`: of the strata.
pub fn labelled(sizes: &[u64], values: Option<&[String]>) -> Vec<u64> {
    let is_null = |h: usize| values.is_some_and(|values| values[h] == "null");
    sizes.iter().enumerate().map(|(h, &n)| if is_null(h) { 0 } else { n }).collect()
}

/// Labels that give no rows, and their rows.
pub fn left_out(sizes: &[u64], counts: &[u64]) -> LeftOut {
    let without = || sizes.iter().zip(counts).filter(|(_, count)| **count == 0).map(|(n, _)| n);
    LeftOut { labels: without().count() as u64, rows: without().sum() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batches::number::Number;
    use crate::kit::rng::key;

    /// The numbers of the worked example, and the definition by brute force.
    #[test]
    fn as_many_batches_as_there_can_be() {
        let sizes = [200, 100, 500, 50, 150];
        assert_eq!(counts(&sizes, 4, 48), (vec![0; 5], 0));
        assert_eq!(counts(&sizes, 4, 16), (vec![148, 100, 148, 48, 148], 37));
        for seed in 0..200 {
            let number = 1 + key(seed, &[0]) % 12;
            let sizes: Vec<u64> = (0..number).map(|h| key(seed, &[1, h]) % 60).collect();
            let (rows, labels) = (2 + key(seed, &[2]) % 4, 1 + key(seed, &[3]) % 6);
            let filled =
                |batches: u64| sizes.iter().map(|n| (n / rows).min(batches)).sum::<u64>() >= labels * batches;
            let most = (0..1000).filter(|&batches| filled(batches)).max().unwrap();
            let (counts, batches) = counts(&sizes, rows, rows * labels);
            assert_eq!(batches, most);
            let sum: u64 = counts.iter().sum();
            assert!((most * rows * labels..(most + 1) * rows * labels).contains(&sum));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let of = |size, world_size| batch_size::Params {
            size: Number::Fixed(size),
            world_size,
            ..Default::default()
        };
        assert!(check(Chunk::Rows(4), &of(48, 1)).is_ok() && check(Chunk::Rows(4), &of(48, 6)).is_ok());
        assert!(
            check(Chunk::Batch, &of(48, 1)).is_ok() && check(Chunk::Rows(4), &Default::default()).is_ok()
        );
        for (rows, sizes, word) in [
            (Chunk::Rows(5), of(48, 1), "48"),
            (Chunk::Rows(1), of(48, 1), "1 rows"),
            (Chunk::Rows(4), of(48, 8), "batch_size.world_size"),
            (Chunk::Batch, Default::default(), "batch_size.size"),
        ] {
            let e = check(rows, &sizes).unwrap_err().to_string();
            assert!(e.contains("batches.rows_per_label") && e.contains(word), "{e}");
        }
    }
}
