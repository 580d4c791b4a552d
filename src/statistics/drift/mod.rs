//! Whether two sets of rows come from one distribution, told by an effect size, its interval and a p-value: pure numbers,
//! no files. What is compared, and when it counts, is decided in [`check`](crate::pipeline::check).
//!
//! | comparison | effect | test |
//! |---|---|---|
//! | [`shares`] of categories, one by one | Cohen's h = 2 asin sqrt(q) - 2 asin sqrt(p) | h over its standard error sqrt(1/m + 1/n), normal; exact (binomial, given both counts' sum) where fewer than 30 rows are expected; times the number of categories (Bonferroni) |
//! | [`composition`] over all categories | Cohen's w = sqrt(sum (q - p)^2 / p), less what chance adds | chi-squared |
//! | [`locations`] of features | Cohen's d by ranks: sqrt(2) z of the chance that a number now exceeds one then | Wilcoxon, Mann & Whitney with midranks, the least likely of k times k |
//! | [`scale`] of distances from the middle | logarithm of the medians' ratio | the same |
//! | [`embedding`]: mean random features | MMD over the root of the total variance in feature space | weighted sum of chi-squared, the covariance's eigenvalues (Gretton et al. 2012) |
//!
//! References: Cohen, Statistical Power Analysis, 1988; Mann & Whitney 1947; Ruscio, A probability-based measure of effect size, 2008. Effects do not grow with n, p-values do: something is drift only if both
//! say so, so that large data does not cry wolf and small data is not believed too soon.

pub mod distributions;

use std::f64::consts::SQRT_2;

use crate::kernels::eigen;
use crate::kit::progress::Progress;
use crate::statistics::cells::Cells;
use distributions::{binomial_tail, chi2_tail, normal_point, normal_tail, weighted_chi2_tail};

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Size of the difference; does not grow with the number of rows.
    pub effect: f64,
    /// Where the effect lies, with the confidence asked for.
    pub interval: (f64, f64),
    /// Chance of at least such a difference if nothing has changed.
    pub p: f64,
}

/// 1/m + 1/n: variance of the difference of two means of variance 1.
fn noise(m: f64, n: f64) -> f64 {
    1.0 / m.max(1.0) + 1.0 / n.max(1.0)
}

/// Cohen's h of a share that was `p` and is `q`.
pub fn cohens_h(p: f64, q: f64) -> f64 {
    let angle = |x: f64| 2.0 * libm::asin(x.clamp(0.0, 1.0).sqrt());
    angle(q) - angle(p)
}

/// Chance of counts at least as far apart as `a` of `m` and `b` of `n`, if the share is the same. The arcsine's normal
/// approximation fails for few rows: there the count is binomial, given the sum of both.
pub fn same_share(a: f64, m: f64, b: f64, n: f64) -> f64 {
    const FEW: f64 = 30.0;
    // The rarer of the category and all others, so that the binomial is close to the hypergeometric.
    let (a, b) = if a + b > 0.5 * (m + n) { (m - a, n - b) } else { (a, b) };
    let (all, share) = (a + b, n / (m + n));
    if all * share.min(1.0 - share) >= FEW {
        return 2.0 * normal_tail(cohens_h(a / m, b / n).abs() / noise(m, n).sqrt());
    }
    let above = binomial_tail(b, all, share);
    let below = binomial_tail(a, all, 1.0 - share);
    (2.0 * above.min(below)).min(1.0)
}

/// The category whose share moved most, as (place, comparison): counts then and now. Of those that moved significantly
/// (at 1 - `confidence`, among all) the largest shift, else the least likely one. None without categories or rows. The
/// interval is simultaneous for all categories.
pub fn shares(then: &[f64], now: &[f64], confidence: f64) -> Option<(usize, Comparison)> {
    let (m, n) = (then.iter().sum::<f64>(), now.iter().sum::<f64>());
    if m == 0.0 || n == 0.0 {
        return None;
    }
    let k = then.len() as f64;
    let tests: Vec<(f64, f64)> = (0..then.len())
        .map(|i| {
            let p = (k * same_share(then[i], m, now[i], n)).min(1.0);
            (p, cohens_h(then[i] / m, now[i] / n))
        })
        .collect();
    let significant = |&&i: &&usize| tests[i].0 <= 1.0 - confidence;
    let places: Vec<usize> = (0..then.len()).collect();
    let by_effect = |a: &&usize, b: &&usize| tests[**a].1.abs().total_cmp(&tests[**b].1.abs()).then(b.cmp(a));
    let by_chance =
        |a: &&usize, b: &&usize| tests[**a].0.total_cmp(&tests[**b].0).then_with(|| by_effect(b, a));
    let place =
        places.iter().filter(significant).max_by(by_effect).or_else(|| places.iter().min_by(by_chance))?;
    let (p, effect) = tests[*place];
    Some((*place, Comparison { p, ..largest(effect, noise(m, n).sqrt(), then.len(), confidence) }))
}

/// The largest of `k` normal differences with this standard error.
fn largest(effect: f64, error: f64, k: usize, confidence: f64) -> Comparison {
    let k = k.max(1) as f64;
    let half = normal_point((1.0 - confidence) / (2.0 * k)) * error;
    Comparison {
        effect,
        interval: (effect - half, effect + half),
        p: (2.0 * k * normal_tail(effect.abs() / error)).min(1.0),
    }
}

/// The categories that explain what moved: the one whose share moved most is taken out of both sides, then the next among
/// the rest, while the shift is significant at `alpha` and at least `least`. What only made room for others is not named.
/// (place, share then, share now, h), shares of all rows.
pub fn moved(then: &[f64], now: &[f64], alpha: f64, least: f64) -> Vec<(usize, f64, f64, f64)> {
    let (m, n) = (then.iter().sum::<f64>(), now.iter().sum::<f64>());
    let (mut then, mut now) = (then.to_vec(), now.to_vec());
    let mut found = Vec::new();
    while let Some((place, c)) = shares(&then, &now, 1.0 - alpha) {
        if c.p > alpha || c.effect.abs() < least {
            break;
        }
        found.push((place, then[place] / m, now[place] / n, c.effect));
        (then[place], now[place]) = (0.0, 0.0);
    }
    found
}

/// Whether rows are spread over categories as they were. Categories of fewer than 5 expected rows are put together. The
/// effect is w^2 less its expectation under no change, floored at 0, as a root.
pub fn composition(then: &[f64], now: &[f64], confidence: f64) -> Option<Comparison> {
    let (m, n) = (then.iter().sum::<f64>(), now.iter().sum::<f64>());
    if m == 0.0 || n == 0.0 {
        return None;
    }
    let c = noise(m, n);
    let mut cells: Vec<(f64, f64)> = Vec::new();
    let mut rest = (0.0, 0.0);
    for (&a, &b) in then.iter().zip(now) {
        // Expected under no change: the pooled share.
        if (a + b) / (m + n) / c >= 5.0 { cells.push((a, b)) } else { rest = (rest.0 + a, rest.1 + b) }
    }
    if rest.0 + rest.1 > 0.0 {
        cells.push(rest);
    }
    let w2: f64 = (cells.iter())
        .map(|&(a, b)| {
            let pooled = (a + b) / (m + n);
            (b / n - a / m) * (b / n - a / m) / pooled
        })
        .sum();
    let df = cells.len().saturating_sub(1) as f64;
    let half = normal_point((1.0 - confidence) / 2.0) * (2.0 * df * c * c + 4.0 * w2 * c).sqrt();
    let root = |x: f64| x.max(0.0).sqrt();
    Some(Comparison {
        effect: root(w2 - df * c),
        interval: (root(w2 - df * c - half), root(w2 - df * c + half)),
        p: chi2_tail(w2 / c, df),
    })
}

/// Mean and variance of one feature in a set of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    pub mean: f64,
    pub variance: f64,
}

/// Rows outside the most frequent number that a normal tail needs on the smaller side.
const ENOUGH: f64 = 30.0;

/// Whether numbers are larger or smaller than they were, told by rows in ordered cells then and now ([`Cells`]): the test of
/// Wilcoxon, Mann and Whitney with midranks. The effect is sqrt(2) z of the chance A that a number now exceeds one then
/// (ties count half): for normal numbers that is Cohen's d, for others it is what d would be if some transformation made
/// them normal (Ruscio 2008), so that neither ties nor far rows can make it large. None without rows; `k` tests like it
/// are made at once.
///
/// [`Cells`]: crate::statistics::cells::Cells
pub fn ranks(then: &[u64], now: &[u64], k: usize, confidence: f64) -> Option<Comparison> {
    let total = |of: &[u64]| of.iter().sum::<u64>() as f64;
    let (m, n) = (total(then), total(now));
    if m < 2.0 || n < 2.0 || then.len() != now.len() {
        return None;
    }
    let all = m + n;
    let (mut wins, mut ties, mut below) = (0.0, 0.0, 0.0);
    // (rows of the most frequent cell, its place)
    let mut most = (0.0, 0);
    for (i, (&a, &b)) in then.iter().zip(now).enumerate() {
        let (a, b) = (a as f64, b as f64);
        wins += b * (below + 0.5 * a);
        below += a;
        ties += (a + b) * ((a + b) * (a + b) - 1.0);
        if a + b > most.0 {
            most = (a + b, i);
        }
    }
    let chance = wins / (m * n);
    let variance = (all + 1.0) / (12.0 * m * n) * (1.0 - ties / (all * (all * all - 1.0)));
    // Numbers that are all equal leave only what rounding adds.
    let error = if most.0 == all { 0.0 } else { variance.max(0.0).sqrt() };
    let k = k.max(1) as f64;
    let p = match () {
        () if error == 0.0 => 1.0,
        () if (all - most.0) * m.min(n) / all < ENOUGH => {
            // Few rows are anywhere else: counts above and below, exactly.
            let side = |of: &[u64]| total(&of[most.1 + 1..]);
            let other = |of: &[u64]| total(&of[..most.1]);
            2.0 * same_share(side(then), m, side(now), n).min(same_share(other(then), m, other(now), n))
        }
        () => 2.0 * normal_tail((chance - 0.5).abs() / error),
    };
    let half = normal_point((1.0 - confidence) / (2.0 * k)) * error;
    // Nothing is more certain than the rows there are.
    let least = 0.5 / (m * n);
    let effect = |chance: f64| SQRT_2 * -normal_point(chance.clamp(least, 1.0 - least));
    let at = |chance| if chance == 0.5 { 0.0 } else { effect(chance) };
    Some(Comparison {
        effect: at(chance),
        interval: (at(chance - half), at(chance + half)),
        p: (k * p).min(1.0),
    })
}

/// The feature whose numbers moved most ([`ranks`]), as (place, comparison): rows in cells then and now. Of those that moved
/// significantly the one of the largest effect, else the least likely one.
pub fn locations(then: &[&[u64]], now: &[&[u64]], confidence: f64) -> Option<(usize, Comparison)> {
    let found: Vec<(usize, Comparison)> = (then.iter().zip(now).enumerate())
        .filter_map(|(i, (a, b))| Some((i, ranks(a, b, then.len(), confidence)?)))
        .collect();
    let significant = |c: &&(usize, Comparison)| c.1.p <= 1.0 - confidence;
    let by_effect = |a: &&(usize, Comparison), b: &&(usize, Comparison)| {
        a.1.effect.abs().total_cmp(&b.1.effect.abs()).then(b.0.cmp(&a.0))
    };
    let by_chance = |a: &&(usize, Comparison), b: &&(usize, Comparison)| {
        a.1.p.total_cmp(&b.1.p).then_with(|| by_effect(b, a))
    };
    found.iter().filter(significant).max_by(by_effect).or_else(|| found.iter().min_by(by_chance)).copied()
}

/// Whether positive numbers (distances) are as large as they were: [`ranks`] for the p-value; the effect is the logarithm of
/// the medians' ratio, its interval that of the median by its order statistics. None without rows or with one cell.
pub fn scale(cells: &Cells, now: &[u64], confidence: f64) -> Option<Comparison> {
    let found = ranks(&cells.rows, now, 1, confidence)?;
    let (m, n) = (cells.total(), now.iter().sum::<u64>() as f64);
    let half = 0.5 * normal_point((1.0 - confidence) / 2.0) * noise(m, n).sqrt();
    let then = cells.quantile(&cells.rows, 0.5);
    let log = |q: f64| match cells.quantile(now, q.clamp(0.0, 1.0)) {
        now if now == then => 0.0,
        now if now > 0.0 && then > 0.0 => libm::log(now / then),
        now => (now - then).signum() * f64::MAX.sqrt(),
    };
    Some(Comparison { effect: log(0.5), interval: (log(0.5 - half), log(0.5 + half)), ..found })
}

/// Mean random features of `m` rows with their covariance (R x R) against those of `n` other rows: the squared distance of
/// the means estimates MMD^2 under a Gaussian kernel. O(R^3).
pub fn embedding(
    (m, then): (f64, &[f64]),
    covariance: &[f64],
    (n, now): (f64, &[f64]),
    confidence: f64,
) -> Option<Comparison> {
    let r = then.len();
    if r == 0 || m < 2.0 || n < 2.0 {
        return None;
    }
    let c = noise(m, n);
    let delta: Vec<f64> = now.iter().zip(then).map(|(a, b)| a - b).collect();
    let squared: f64 = delta.iter().map(|x| x * x).sum();
    let eigenvalues =
        eigen::symmetric(covariance.to_vec(), r, &Progress::default()).expect("nobody stops it").values;
    let total: f64 = eigenvalues.iter().map(|v| v.max(0.0)).sum();
    if total <= 0.0 {
        let p = if squared > 0.0 { 0.0 } else { 1.0 };
        return Some(Comparison { effect: squared.sqrt(), interval: (0.0, squared.sqrt()), p });
    }
    let along: f64 = covariance
        .chunks_exact(r)
        .zip(&delta)
        .map(|(row, d)| d * row.iter().zip(&delta).map(|(a, b)| a * b).sum::<f64>())
        .sum();
    let squares: f64 = eigenvalues.iter().map(|v| v * v).sum();
    let half =
        normal_point((1.0 - confidence) / 2.0) * (2.0 * squares * c * c + 4.0 * along.max(0.0) * c).sqrt();
    let root = |x: f64| (x.max(0.0) / total).sqrt();
    Some(Comparison {
        effect: root(squared - total * c),
        interval: (root(squared - total * c - half), root(squared - total * c + half)),
        p: weighted_chi2_tail(squared / c, &eigenvalues),
    })
}

/// A share that should not exceed `expected`: the effect is the share, its interval Wilson's (1927), p binomial and one-sided
/// against `expected`.
pub fn excess(count: f64, n: f64, expected: f64, confidence: f64) -> Option<Comparison> {
    if n <= 0.0 {
        return None;
    }
    let (share, z) = (count / n, normal_point((1.0 - confidence) / 2.0));
    let middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let p = binomial_tail(count, n, expected);
    Some(Comparison { effect: share, interval: ((middle - half).max(0.0), (middle + half).min(1.0)), p })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::rng::{key, normal, uniform};

    #[test]
    fn shares_that_stay_and_shares_that_move() {
        let (place, c) = shares(&[500.0, 300.0, 200.0], &[500.0, 300.0, 200.0], 0.99).unwrap();
        assert_eq!((place, c.effect, c.p), (0, 0.0, 1.0));
        // Nothing left of a few expected ones is no wonder; of many it is.
        assert!(shares(&[9930.0, 70.0], &[400.0, 0.0], 0.99).unwrap().1.p > 0.05);
        assert!(shares(&[9000.0, 1000.0], &[400.0, 0.0], 0.99).unwrap().1.p < 1e-9);
        let (place, c) = shares(&[5000.0, 4000.0, 1000.0], &[480.0, 320.0, 200.0], 0.99).unwrap();
        assert_eq!(place, 2);
        assert!((c.effect - cohens_h(0.1, 0.2)).abs() < 1e-12 && c.interval.0 > 0.0 && c.p < 1e-9);
        assert!(shares(&[], &[], 0.9).is_none() && shares(&[1.0], &[0.0], 0.9).is_none());
    }

    #[test]
    fn only_causes_are_named() {
        // A third is gone: all others have grown by half, which is not their doing.
        let then = [3000.0, 2000.0, 2000.0, 2000.0];
        let named = moved(&then, &[0.0, 2000.0, 2000.0, 2000.0], 0.01, 0.05);
        assert_eq!(named.iter().map(|n| n.0).collect::<Vec<_>>(), [0]);
        assert_eq!((named[0].1, named[0].2), (3000.0 / 9000.0, 0.0));
        let named = moved(&then, &[6000.0, 2000.0, 2000.0, 0.0], 0.01, 0.05);
        assert_eq!(named.iter().map(|n| n.0).collect::<Vec<_>>(), [3, 0]);
        assert!(moved(&then, &[3010.0, 1990.0, 2000.0, 2000.0], 0.01, 0.05).is_empty());
    }

    /// Share of `trials` whose p-value is below `alpha`.
    fn rejected(trials: u64, alpha: f64, p: impl Fn(u64) -> f64) -> f64 {
        (0..trials).filter(|&t| p(t) < alpha).count() as f64 / trials as f64
    }

    #[test]
    fn false_alarms_are_as_rare_as_promised() {
        let draw = |t: u64, side: u64, n: u64| {
            let mut counts = vec![0.0; 8];
            for i in 0..n {
                // Shares 1/2, 1/4, 1/8, ...
                let u = uniform(key(t, &[side, i]));
                counts[((1.0 - u).log2().abs() as usize).min(7)] += 1.0;
            }
            counts
        };
        for alpha in [0.1, 0.02] {
            let one = rejected(600, alpha, |t| shares(&draw(t, 0, 3000), &draw(t, 1, 400), 0.9).unwrap().1.p);
            let all =
                rejected(600, alpha, |t| composition(&draw(t, 0, 3000), &draw(t, 1, 400), 0.9).unwrap().p);
            let bound = alpha + 3.0 * (alpha / 600.0).sqrt();
            assert!(one <= bound && all <= bound, "{alpha}: {one} {all}");
            assert!(all > alpha / 4.0, "{alpha}: {all} of too cautious a test");
        }
    }

    /// Random Fourier features of 2-D normal rows, one side moved by `shift`.
    fn features(t: u64, side: u64, n: u64, shift: f64) -> Vec<Vec<f64>> {
        (0..n)
            .map(|i| {
                let x = [normal(key(t, &[side, i, 0])) + shift, normal(key(t, &[side, i, 1]))];
                (0..16)
                    .map(|r| {
                        let w = [normal(key(7, &[r, 0])), normal(key(7, &[r, 1]))];
                        2f64.sqrt() * (w[0] * x[0] + w[1] * x[1] + 6.3 * uniform(key(7, &[r, 2]))).cos()
                    })
                    .collect()
            })
            .collect()
    }

    fn mean(rows: &[&Vec<f64>]) -> Vec<f64> {
        (0..rows[0].len()).map(|j| rows.iter().map(|r| r[j]).sum::<f64>() / rows.len() as f64).collect()
    }

    fn covariance(rows: &[&Vec<f64>]) -> Vec<f64> {
        let mean = mean(rows);
        let r = mean.len();
        let one = |i: usize, j: usize| {
            rows.iter().map(|x| (x[i] - mean[i]) * (x[j] - mean[j])).sum::<f64>() / rows.len() as f64
        };
        (0..r * r).map(|k| one(k / r, k % r)).collect()
    }

    #[test]
    fn the_null_of_the_mmd_is_that_of_permutations() {
        for (t, shift) in [(1, 0.0), (2, 0.1), (3, 0.15), (4, 0.2), (5, 0.3)] {
            let (a, b) = (features(t, 0, 600, 0.0), features(t, 1, 150, shift));
            let all: Vec<&Vec<f64>> = a.iter().chain(&b).collect();
            let (first, second) = all.split_at(600);
            let got =
                embedding((600.0, &mean(first)), &covariance(first), (150.0, &mean(second)), 0.95).unwrap();
            let distance = |first: &[&Vec<f64>], second: &[&Vec<f64>]| -> f64 {
                mean(first).iter().zip(mean(second)).map(|(a, b)| (a - b) * (a - b)).sum()
            };
            let observed = distance(first, second);
            let trials = 400;
            let larger = (0..trials)
                .filter(|&s| {
                    let permutation = crate::kit::rng::Permutation::new(750, key(s, &[t]));
                    let mixed: Vec<&Vec<f64>> =
                        (0..750).map(|i| all[permutation.index(i) as usize]).collect();
                    distance(&mixed[..600], &mixed[600..]) >= observed
                })
                .count();
            let p = larger as f64 / trials as f64;
            let error = 3.0 * (p.max(0.01) * (1.0 - p).max(0.01) / trials as f64).sqrt() + 0.02;
            assert!(
                (got.p - p).abs() < error,
                "shift {shift}: {} by eigenvalues, {p} by permutations",
                got.p
            );
        }
    }

    #[test]
    fn the_mmd_grows_with_the_shift_and_not_with_n() {
        let run = |n: u64, shift: f64| {
            let (a, b) = (features(1, 0, 4 * n, 0.0), features(1, 1, n, shift));
            let (a, b): (Vec<_>, Vec<_>) = (a.iter().collect(), b.iter().collect());
            embedding((a.len() as f64, &mean(&a)), &covariance(&a), (n as f64, &mean(&b)), 0.99).unwrap()
        };
        let (small, large) = (run(200, 0.5), run(2000, 0.5));
        assert!((small.effect / large.effect - 1.0).abs() < 0.3, "{small:?} {large:?}");
        assert!(large.p < 1e-12 && large.interval.0 > 0.0);
        assert!(run(2000, 1.0).effect > large.effect && run(2000, 0.0).interval.0 == 0.0);
    }

    #[test]
    fn ranks_are_those_of_mann_and_whitney() {
        let (a, b) = ([1., 2., 2., 3., 5., 7., 7., 7., 9., 10.], [2., 3., 7., 7., 8., 11., 11.]);
        let cells = Cells::count(&a, a);
        let now = Cells::count(&a, b).rows;
        let c = ranks(&cells.rows, &now, 1, 0.99).unwrap();
        // scipy.stats.mannwhitneyu(b, a): U = 46.5 of 70; sqrt(2) norm.ppf(46.5 / 70)
        assert!((c.effect - 0.599_892_694).abs() < 1e-8, "{c:?}");
        assert!(c.interval.0 < 0.0 && c.interval.1 > 1.0);
        // The same numbers a hundred times: mannwhitneyu(use_continuity=False, method="asymptotic")
        let many = |of: &[u64]| of.iter().map(|n| 30 * n).collect::<Vec<_>>();
        let c = ranks(&many(&cells.rows), &many(&now), 1, 0.99).unwrap();
        assert!((c.p / 1.248_650_459_9e-10 - 1.0).abs() < 1e-6, "{}", c.p);
        assert_eq!(ranks(&many(&cells.rows), &many(&now), 3, 0.99).unwrap().p, 3.0 * c.p);
        assert_eq!(
            ranks(&[0, 9, 0], &[0, 7, 0], 1, 0.99).unwrap(),
            Comparison { p: 1.0, ..Comparison::default() }
        );
        assert!(ranks(&[0, 9, 0], &[0, 1, 0], 1, 0.99).is_none());
        // One in a thousand rows is not zero, four in a hundred of a hundred: by counts, not by a normal tail.
        let rare = ranks(&[0, 9990, 10], &[0, 96, 4], 1, 0.99).unwrap();
        assert!(
            (rare.p / (2.0 * same_share(10.0, 10_000.0, 4.0, 100.0)) - 1.0).abs() < 1e-12 && rare.p > 1e-6
        );
    }

    /// Numbers of `n` rows by side.
    fn draws(t: u64, side: u64, n: u64, make: impl Fn(f64) -> f64) -> Vec<f64> {
        (0..n).map(|i| make(normal(key(t, &[side, i])))).collect()
    }

    fn quantiles(x: &[f64], parts: usize) -> Vec<f64> {
        let mut sorted = x.to_vec();
        sorted.sort_by(f64::total_cmp);
        (0..=parts).map(|q| sorted[(sorted.len() - 1) * q / parts]).collect()
    }

    #[test]
    fn ranks_keep_their_promise_where_there_are_no_moments() {
        // Cauchy-like, a few ties, nine in ten equal.
        let makes: [fn(f64) -> f64; 4] = [
            |x| x,
            |x| x / (0.01 + (1.0 - x.abs()).abs()),
            |x| x.round(),
            |x| if x.abs() < 1.645 { 0.0 } else { x },
        ];
        for make in makes {
            let p = |t: u64, shift: f64| {
                let (a, b) = (draws(t, 0, 900, make), draws(t, 1, 300, make));
                let cells = Cells::count(&quantiles(&a, 10), a.iter().copied());
                let now = Cells::count(&quantiles(&a, 10), b.iter().map(|x| x + shift)).rows;
                ranks(&cells.rows, &now, 1, 0.99).unwrap()
            };
            for alpha in [0.1, 0.02] {
                let share = rejected(600, alpha, |t| p(t, 0.0).p);
                assert!(share <= alpha + 3.0 * (alpha / 600.0).sqrt(), "{alpha}: {share}");
            }
        }
        let shifted = |t| {
            let (a, b) = (draws(t, 0, 9000, |x| x), draws(t, 1, 3000, |x| x + 0.3));
            let cells = Cells::count(&quantiles(&a, 10), a.iter().copied());
            ranks(&cells.rows, &Cells::count(&quantiles(&a, 10), b).rows, 1, 0.99).unwrap()
        };
        let c = shifted(1);
        assert!(
            (c.effect - 0.3).abs() < 0.07 && c.interval.0 < 0.3 && c.interval.1 > 0.3 && c.p < 1e-9,
            "{c:?}"
        );
    }

    #[test]
    fn the_feature_that_moved_is_found() {
        let (same, more): (&[u64], &[u64]) = (&[0, 0, 500, 0, 500, 0, 0], &[0, 0, 300, 0, 700, 0, 0]);
        let (place, c) = locations(&[same, same, same], &[same, more, same], 0.99).unwrap();
        assert!(place == 1 && c.p < 1e-9 && c.effect > 0.3);
        let (place, c) = locations(&[same, same], &[same, same], 0.99).unwrap();
        assert_eq!((place, c.effect, c.p), (0, 0.0, 1.0));
        assert!(locations(&[], &[], 0.99).is_none());
    }

    #[test]
    fn scales() {
        let run = |factor: f64| {
            let (a, b) =
                (draws(1, 0, 5000, |x| x.abs() + 1.0), draws(1, 1, 2000, |x| factor * (x.abs() + 1.0)));
            let edges = &quantiles(&a, 20)[1..20];
            scale(&Cells::count(edges, a.iter().copied()), &Cells::count(edges, b).rows, 0.99).unwrap()
        };
        let (same, wider) = (run(1.0), run(1.1));
        assert!(same.p > 0.01 && same.interval.0 < 0.0 && same.interval.1 > 0.0, "{same:?}");
        assert!(
            wider.p < 1e-9 && (wider.effect - 1.1f64.ln()).abs() < 0.03 && wider.interval.0 > 0.05,
            "{wider:?}"
        );
        // Distances of 0 before: no ratio says how much more they are now.
        let cells = Cells { edges: vec![0.0, 2.0], rows: vec![0, 90, 0, 10, 0] };
        assert_eq!(scale(&cells, &cells.rows, 0.99).unwrap().effect, 0.0);
        assert!(scale(&cells, &[0, 10, 0, 90, 0], 0.99).unwrap().effect > 1e100);
    }

    #[test]
    fn an_excess_is_one_sided() {
        assert!(excess(0.0, 1000.0, 0.01, 0.95).unwrap().p > 0.99);
        let many = excess(50.0, 1000.0, 0.01, 0.95).unwrap();
        assert!(many.p < 1e-9 && many.interval.0 > 0.035 && many.interval.1 < 0.07);
        // scipy.stats.binom.sf(19, 1000, .01): a normal tail would say .0007.
        assert!((excess(20.0, 1000.0, 0.01, 0.95).unwrap().p - 0.003_288_4).abs() < 1e-6);
    }
}
