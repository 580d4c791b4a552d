//! The dip: how far a sample is from having one mode (Hartigan & Hartigan 1985).

/// The largest distance between the empirical distribution of `x` (ascending) and the nearest unimodal one; between
/// 1 / 2n and 1/4, and 0 for fewer than two distinct values. O(n).
///
/// P. M. Hartigan's method (1985, AS 217) with the corrections of M. Maechler's R package `diptest`: the modal interval
/// shrinks until the greatest convex minorant before it and the least concave majorant after it are as near to the sample
/// as to each other.
pub fn dip(x: &[f64]) -> f64 {
    let n = x.len();
    if n < 2 || x[0] == x[n - 1] {
        return 0.0;
    }
    // Ranks count from 1, as in the paper.
    let at = |i: usize| x[i - 1];
    let slope = |i: usize, j: usize| at(i) - at(j);
    // The corner of the minorant before each rank, and of the majorant after it.
    let mut before = vec![0; n + 1];
    before[1] = 1;
    for j in 2..=n {
        before[j] = j - 1;
        loop {
            let a = before[j];
            let b = before[a];
            if a == 1 || slope(j, a) * ((a - b) as f64) < slope(a, b) * ((j - a) as f64) {
                break;
            }
            before[j] = b;
        }
    }
    let mut after = vec![0; n + 1];
    after[n] = n;
    for k in (1..n).rev() {
        after[k] = k + 1;
        loop {
            let a = after[k];
            let b = after[a];
            if a == n || slope(a, k) * ((b - a) as f64) < slope(b, a) * ((a - k) as f64) {
                break;
            }
            after[k] = b;
        }
    }
    let (mut low, mut high) = (1, n);
    // In units of 1 / 2n.
    let mut dip: f64 = 1.0;
    loop {
        // Corners of the minorant from high down to low, of the majorant from low up to high.
        let mut gcm = vec![high];
        while gcm[gcm.len() - 1] > low {
            gcm.push(before[gcm[gcm.len() - 1]]);
        }
        let mut lcm = vec![low];
        while lcm[lcm.len() - 1] < high {
            lcm.push(after[lcm[lcm.len() - 1]]);
        }
        let (mut ig, mut ih) = (gcm.len() - 1, lcm.len() - 1);
        // The largest distance between the two, at a corner of either.
        let mut apart: f64 = 0.0;
        if gcm.len() != 2 || lcm.len() != 2 {
            let (mut ix, mut iv) = (gcm.len() as isize - 2, 1usize);
            loop {
                let (g, l) = (gcm[ix as usize], lcm[iv]);
                let d = if g > l {
                    // The next corner is the majorant's.
                    let g1 = gcm[ix as usize + 1];
                    let d = (l as f64 - g1 as f64 + 1.0) - slope(l, g1) * ((g - g1) as f64) / slope(g, g1);
                    iv += 1;
                    if d >= apart {
                        (ig, ih) = (ix as usize + 1, iv - 1);
                    }
                    d
                } else {
                    let l1 = lcm[iv - 1];
                    let d = slope(g, l1) * ((l - l1) as f64) / slope(l, l1) - (g as f64 - l1 as f64 - 1.0);
                    ix -= 1;
                    if d >= apart {
                        (ig, ih) = ((ix + 1) as usize, iv);
                    }
                    d
                };
                apart = apart.max(d);
                ix = ix.max(0);
                iv = iv.min(lcm.len() - 1);
                if gcm[ix as usize] == lcm[iv] {
                    break;
                }
            }
        } else {
            apart = 1.0;
        }
        if apart < dip {
            break;
        }
        // How far the sample is from the minorant before, and from the majorant after, the new modal interval.
        for pair in gcm[ig..].windows(2) {
            let (from, to) = (pair[1], pair[0]);
            if to - from > 1 && at(to) != at(from) {
                let rise = (to - from) as f64 / slope(to, from);
                for j in from..=to {
                    dip = dip.max((j - from + 1) as f64 - slope(j, from) * rise);
                }
            }
        }
        for pair in lcm[ih..].windows(2) {
            let (from, to) = (pair[0], pair[1]);
            if to - from > 1 && at(to) != at(from) {
                let rise = (to - from) as f64 / slope(to, from);
                for j in from..=to {
                    dip = dip.max(slope(j, from) * rise - (j as f64 - from as f64 - 1.0));
                }
            }
        }
        if (low, high) == (gcm[ig], lcm[ih]) {
            break;
        }
        (low, high) = (gcm[ig], lcm[ih]);
    }
    dip / (2 * n) as f64
}

/// (n, sqrt(n) times the dip that one of a thousand uniform samples of n exceeds): 1 - 0.001 quantiles of 100 000 keyed
/// samples each; the test below draws some of them anew.
const CRITICAL: [(usize, f64); 7] =
    [(10, 0.5726), (20, 0.6169), (50, 0.6597), (100, 0.6760), (200, 0.6961), (500, 0.7155), (1000, 0.7306)];

/// The dip of `n` values, times sqrt(n), that is evidence of two modes at the level 0.001: interpolated in sqrt(n) times the
/// dip over log n, as the paper recommends. The uniform distribution is the least favourable of all with one mode.
pub fn critical(n: usize) -> f64 {
    let (first, last) = (CRITICAL[0], CRITICAL[CRITICAL.len() - 1]);
    let n = n.clamp(first.0, last.0);
    let above = CRITICAL.iter().position(|c| c.0 >= n).expect("clamped");
    let (b, a) = (CRITICAL[above], CRITICAL[above.saturating_sub(1)]);
    if a.0 == b.0 {
        return b.1;
    }
    let log = |n: usize| libm::log(n as f64);
    a.1 + (b.1 - a.1) * (log(n) - log(a.0)) / (log(b.0) - log(a.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::rng::{key, normal, uniform};
    use rayon::prelude::*;

    fn sorted(mut x: Vec<f64>) -> Vec<f64> {
        x.sort_unstable_by(f64::total_cmp);
        x
    }

    /// tests/oracle/make_clusters.py: the definition, as a linear program.
    #[test]
    fn equals_the_definition() {
        let text = include_str!("../../../tests/oracle/clusters.json");
        let cases: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = cases["dip"].as_array().unwrap();
        assert!(cases.len() >= 20);
        for case in cases {
            let x: Vec<f64> = case["x"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            let (got, expected) = (dip(&x), case["dip"].as_f64().unwrap());
            assert!((got - expected).abs() < 1e-7, "{got} {expected}: {x:?}");
        }
    }

    #[test]
    fn limits() {
        let even: Vec<f64> = (0..50).map(f64::from).collect();
        assert!((dip(&even) - 0.01).abs() < 1e-12);
        let two: Vec<f64> = (0..50).map(|i| if i < 25 { 0.0 } else { 1.0 }).collect();
        assert!((dip(&two) - 0.25).abs() < 1e-12);
        assert_eq!((dip(&[]), dip(&[1.0]), dip(&[2.0; 9])), (0.0, 0.0, 0.0));
        let scaled: Vec<f64> = two.iter().map(|x| -3.0 + 1e6 * x).collect();
        assert_eq!(dip(&scaled), dip(&two));
    }

    /// The 0.999 quantile of sqrt(n) dip over keyed uniform samples.
    fn quantile(n: usize, samples: u64) -> f64 {
        let one = |s: u64| dip(&sorted((0..n as u64).map(|i| uniform(key(31, &[n as u64, s, i]))).collect()));
        let dips = sorted((0..samples).into_par_iter().map(one).collect());
        dips[(0.999 * samples as f64) as usize] * (n as f64).sqrt()
    }

    #[test]
    fn critical_values_are_quantiles_of_uniform_samples() {
        for (n, value) in [CRITICAL[0], CRITICAL[2], CRITICAL[4]] {
            // 20 exceedances of 20 000: about 2 % of error.
            let got = quantile(n, 20_000);
            assert!((got / value - 1.0).abs() < 0.06, "n = {n}: {got} {value}");
        }
        assert!(CRITICAL.is_sorted_by_key(|c| c.0));
        assert_eq!(critical(3), CRITICAL[0].1);
        assert_eq!(critical(100), CRITICAL[3].1);
        assert_eq!(critical(1 << 30), CRITICAL[6].1);
        assert!(CRITICAL[1].1 < critical(30) && critical(30) < CRITICAL[2].1);
    }

    /// `cargo test --release critical_table -- --ignored --nocapture`
    #[test]
    #[ignore = "makes the table above, in minutes"]
    fn critical_table() {
        for (n, _) in CRITICAL {
            println!("    ({n}, {:.4}),", quantile(n, 100_000));
        }
    }

    #[test]
    fn one_mode_passes_and_two_do_not() {
        let x = |apart: f64| {
            let one = |i: u64| normal(key(6, &[i])) + if i.is_multiple_of(2) { apart } else { 0.0 };
            dip(&sorted((0..200).map(one).collect())) * 200f64.sqrt()
        };
        assert!(x(0.0) < critical(200) && x(2.0) < critical(200));
        assert!(x(5.0) > critical(200));
    }
}
