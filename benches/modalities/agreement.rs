//! How a labelling compares with the classes.

use std::collections::BTreeMap;

/// Of M modes against one labelling of the rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    pub classes: usize,
    /// |log2(M / classes)|.
    pub log2: f64,
    /// Mutual information over the mean of the two entropies, in [0, 1].
    pub nmi: f64,
    /// Adjusted Rand index (Hubert & Arabie 1985): 1 for equal labellings, 0 on average for unrelated ones.
    pub ari: f64,
}

impl Score {
    pub fn of(modes: usize, found: &[u32], classes: &[u32]) -> Score {
        let n = found.len() as f64;
        let (mut a, mut b, mut both) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (&x, &y) in found.iter().zip(classes) {
            *a.entry(x).or_insert(0.0) += 1.0;
            *b.entry(y).or_insert(0.0) += 1.0;
            *both.entry((x, y)).or_insert(0.0) += 1.0;
        }
        let entropy =
            |rows: &BTreeMap<u32, f64>| rows.values().map(|&c: &f64| -c / n * (c / n).ln()).sum::<f64>();
        let (ha, hb) = (entropy(&a), entropy(&b));
        let mutual: f64 =
            both.iter().map(|(&(x, y), &c): (_, &f64)| c / n * (c * n / (a[&x] * b[&y])).ln()).sum();
        let pairs = |c: f64| c * (c - 1.0) / 2.0;
        let (pa, pb): (f64, f64) = (a.values().map(|&c| pairs(c)).sum(), b.values().map(|&c| pairs(c)).sum());
        let expected = pa * pb / pairs(n);
        let most = (pa + pb) / 2.0;
        let together: f64 = both.values().map(|&c| pairs(c)).sum();
        let one = |x: f64, of: f64| if of > 0.0 { x / of } else { 1.0 };
        Score {
            classes: b.len(),
            log2: (modes as f64 / b.len() as f64).log2().abs(),
            nmi: one(mutual, (ha + hb) / 2.0).clamp(0.0, 1.0),
            ari: one(together - expected, most - expected),
        }
    }

    /// Of two labellings of the same rows, the one that the modes are nearer to.
    pub fn better(self, other: Score) -> Score {
        if other.ari > self.ari { other } else { self }
    }
}
