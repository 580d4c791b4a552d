//! Tails of the distributions that tests of drift need. `libm` throughout: the same bits on every machine.

use std::f64::consts::SQRT_2;

/// P(Z > z) of a standard normal Z.
pub fn normal_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z / SQRT_2)
}

/// z with P(Z > z) = `tail`, for 0 < tail < 1. Bisection: the tail is monotone.
pub fn normal_point(tail: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if normal_tail(middle) > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// P(X > x) of X chi-squared with `k` degrees of freedom (any positive number).
pub fn chi2_tail(x: f64, k: f64) -> f64 {
    if x <= 0.0 || k <= 0.0 { 1.0 } else { gamma_tail(0.5 * k, 0.5 * x) }
}

/// The regularised upper incomplete gamma function Q(a, x): by its series below a + 1, by Lentz's continued fraction
/// above (Abramowitz & Stegun 6.5.29, 6.5.31).
fn gamma_tail(a: f64, x: f64) -> f64 {
    let front = libm::exp(a * libm::log(x) - x - libm::lgamma(a));
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * 1e-16 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return (1.0 - front * sum).clamp(0.0, 1.0);
    }
    const TINY: f64 = 1e-300;
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / TINY, 1.0 / b);
    let mut h = d;
    for i in 1..10_000 {
        let i = f64::from(i);
        let an = -i * (i - a);
        b += 2.0;
        d = an * d + b;
        d = 1.0 / if d.abs() < TINY { TINY } else { d };
        c = b + an / c;
        c = if c.abs() < TINY { TINY } else { c };
        h *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    (front * h).clamp(0.0, 1.0)
}

/// P(X >= k) of X binomial with `n` trials of chance `p`: the regularised incomplete beta function I_p(k, n - k + 1) by
/// Lentz's continued fraction (Abramowitz & Stegun 26.5.8).
pub fn binomial_tail(k: f64, n: f64, p: f64) -> f64 {
    match () {
        () if k <= 0.0 => 1.0,
        () if k > n => 0.0,
        () => beta(p, k, n - k + 1.0),
    }
}

fn beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on this side of the mean.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta(1.0 - x, b, a);
    }
    const TINY: f64 = 1e-300;
    let safe = |x: f64| if x.abs() < TINY { TINY } else { x };
    let front =
        libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * libm::log(x) + b * libm::log1p(-x);
    let (mut c, mut d) = (1.0, 1.0 / safe(1.0 - (a + b) * x / (a + 1.0)));
    let mut h = d;
    for i in 1..10_000 {
        let m = f64::from(i);
        for term in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / safe(1.0 + term * d);
            c = safe(1.0 + term / c);
            h *= d * c;
        }
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    (libm::exp(front) * h / a).clamp(0.0, 1.0)
}

/// P(sum of w_i X_i > x) for independent chi-squared X_i with one degree of freedom and weights w_i >= 0: a chi-squared
/// of the same mean, variance and skewness (Hall 1983; Buckley & Eagleson 1988). Exact for equal weights.
pub fn weighted_chi2_tail(x: f64, weights: &[f64]) -> f64 {
    let power = |p: i32| weights.iter().map(|w| w.max(0.0).powi(p)).sum::<f64>();
    let (c1, c2, c3) = (power(1), power(2), power(3));
    if c3 <= 0.0 {
        return if x > 0.0 { 0.0 } else { 1.0 };
    }
    let k = c2 * c2 * c2 / (c3 * c3);
    chi2_tail((x - c1) / c2.sqrt() * k.sqrt() + k, k)
}

/// Adjusted p-values: rejecting those below alpha keeps the chance of any false alarm among all tests below alpha,
/// whatever their dependence (Holm 1979).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]).then(a.cmp(&b)));
    let mut adjusted = vec![1.0; p.len()];
    let mut least: f64 = 0.0;
    for (rank, &i) in order.iter().enumerate() {
        least = least.max((p[i] * (p.len() - rank) as f64).min(1.0));
        adjusted[i] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::rng::{key, normal};

    #[test]
    fn known_tails() {
        // R: pnorm(1.96, lower = FALSE), qnorm(.001, lower = FALSE), pchisq(c(3.84, 30, 400), c(1, 10, 300), lower = FALSE)
        assert!((normal_tail(1.96) - 0.024_997_895).abs() < 1e-9);
        assert!((normal_point(0.001) - 3.090_232_306).abs() < 1e-8);
        assert!((chi2_tail(3.84, 1.0) - 0.050_043_521).abs() < 1e-9);
        assert!((chi2_tail(30.0, 10.0) - 0.000_856_641).abs() < 1e-9);
        assert!((chi2_tail(400.0, 300.0) / 9.682_2e-5 - 1.0).abs() < 0.01);
        // By hand: 1 - .9^10, 10 .9 .1^9 + .1^10; R: pbinom(39, 100, .3, lower = FALSE)
        assert!((binomial_tail(1.0, 10.0, 0.1) - (1.0 - 0.9f64.powi(10))).abs() < 1e-14);
        assert!((binomial_tail(9.0, 10.0, 0.1) - 9.1e-9).abs() < 1e-20);
        assert!((binomial_tail(40.0, 100.0, 0.3) - 0.020_989).abs() < 1e-5);
        assert_eq!((binomial_tail(0.0, 5.0, 0.3), binomial_tail(6.0, 5.0, 0.3)), (1.0, 0.0));
        assert_eq!((chi2_tail(0.0, 3.0), chi2_tail(1e4, 1.0)), (1.0, 0.0));
    }

    #[test]
    fn weighted_sums() {
        assert!((weighted_chi2_tail(30.0, &[1.0; 10]) - chi2_tail(30.0, 10.0)).abs() < 1e-12);
        // Against simulation: geometric weights, as eigenvalues fall.
        let weights: Vec<f64> = (0..40).map(|i| 0.85f64.powi(i)).collect();
        let draws = 40_000;
        let mut sums: Vec<f64> = (0..draws)
            .map(|s| weights.iter().enumerate().map(|(i, w)| w * normal(key(s, &[i as u64])).powi(2)).sum())
            .collect();
        sums.sort_by(f64::total_cmp);
        for tail in [0.5, 0.1, 0.01, 0.002] {
            let x = sums[((1.0 - tail) * draws as f64) as usize];
            let got = weighted_chi2_tail(x, &weights);
            assert!((got / tail - 1.0).abs() < 0.25, "{tail} {got}");
        }
        assert_eq!(weighted_chi2_tail(1.0, &[]), 0.0);
    }

    #[test]
    fn holm_is_the_textbook_one() {
        let got = holm(&[0.01, 0.04, 0.03, 0.005]);
        let want = [0.03, 0.06, 0.06, 0.02];
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?}");
    }
}
