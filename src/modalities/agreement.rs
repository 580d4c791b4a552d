//! How alike two labellings of the same rows are.

/// The adjusted Rand index (Hubert & Arabie 1985): 1 for the same partition, 0 on average for unrelated ones, and below 0
/// for less than that. O(n log n).
pub fn adjusted_rand(a: &[u32], b: &[u32]) -> f64 {
    assert_eq!(a.len(), b.len(), "two labellings of the same rows");
    let pairs = |mut keys: Vec<u64>| -> f64 {
        keys.sort_unstable();
        let runs = keys.chunk_by(|x, y| x == y);
        runs.map(|run| run.len() as f64).map(|n| n * (n - 1.0) / 2.0).sum()
    };
    let together = pairs(a.iter().zip(b).map(|(&a, &b)| u64::from(a) << 32 | u64::from(b)).collect());
    let [of_a, of_b] = [a, b].map(|labels| pairs(labels.iter().map(|&l| u64::from(l)).collect()));
    let n = a.len() as f64;
    let expected = of_a * of_b / (n * (n - 1.0) / 2.0).max(1.0);
    let most = (of_a + of_b) / 2.0;
    if most > expected { (together - expected) / (most - expected) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::rng::mix64;

    #[test]
    fn known_values() {
        assert_eq!(adjusted_rand(&[0, 0, 1, 1], &[5, 5, 2, 2]), 1.0);
        assert_eq!(adjusted_rand(&[0, 0, 0], &[1, 1, 1]), 1.0);
        assert_eq!(adjusted_rand(&[0, 0, 0, 0], &[0, 0, 1, 1]), 0.0);
        // Six pairs: 2 and 3 together in each, 1 in both.
        let got = adjusted_rand(&[0, 0, 1, 1], &[0, 0, 0, 1]);
        assert!((got - (1.0 - 1.0) / (2.5 - 1.0)).abs() < 1e-12, "{got}");
        let [a, b] = [0, 1].map(|s| (0..5000).map(|i| (mix64(i + 9999 * s) % 7) as u32).collect::<Vec<_>>());
        assert!(adjusted_rand(&a, &b).abs() < 0.01);
    }
}
