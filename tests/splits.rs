//! Splits equal `oracle/reference_splits.py` bit for bit (`oracle/make_splits_vectors.py` wrote `oracle/splits.json`), and keep their promises.

use std::sync::LazyLock;

use batchwright::kit::rng::key;
use batchwright::splits::NO_SPLIT;
use batchwright::splits::deal::Rows;
use batchwright::splits::groups::several;
use batchwright::splits::leaks::{leaks, purge};
use batchwright::splits::round::{round_table, totals};
use batchwright::splits::time::{split_by_last, split_by_time};
use serde::de::DeserializeOwned;
use serde_json::Value;

static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("oracle/splits.json")).expect("splits.json is JSON"));

/// The vectors of one function; there is at least one.
fn vectors(name: &str) -> &'static [Value] {
    let all = VECTORS[name].as_array().expect("a list");
    assert!(!all.is_empty());
    all
}

fn get<T: DeserializeOwned>(vector: &Value, name: &str) -> T {
    serde_json::from_value(vector[name].clone()).unwrap_or_else(|e| panic!("{name} of {vector}: {e}"))
}

/// Splits with -1 for none.
fn splits(v: &Value, name: &str) -> Vec<u16> {
    get::<Vec<i64>>(v, name).into_iter().map(|s| u16::try_from(s).unwrap_or(NO_SPLIT)).collect()
}

fn groups(of: &[u64], taking: impl Fn(usize) -> bool) -> Vec<(u64, u64)> {
    several((0..of.len()).filter(|&i| taking(i)).map(|i| (of[i], i as u64)).collect())
}

#[test]
fn rounded_tables_are_those_of_the_reference() {
    for v in vectors("tables") {
        let a: Vec<Vec<u128>> =
            get::<Vec<Vec<u64>>>(v, "a").iter().map(|r| r.iter().map(|&x| x.into()).collect()).collect();
        let table: Vec<Vec<u64>> = get(v, "table");
        assert_eq!(round_table(&a, get::<u64>(v, "unit").into(), get(v, "key")), table);
    }
}

/// Deals rows by stratum (negative: not taking part) and label.
fn dealt(stratum: &[i64], label: &[u32], group: &[(u64, u64)], totals: &[u64], seed: u64, split: &mut [u16]) {
    let of = |i: usize| (label.get(i).copied().unwrap_or(0), stratum[i] as u32);
    let mut cells: Vec<(u32, u32)> = (0..stratum.len()).filter(|&i| stratum[i] >= 0).map(of).collect();
    cells.sort_unstable();
    cells.dedup();
    let cell = |i: usize| if stratum[i] < 0 { u32::MAX } else { cells.binary_search(&of(i)).unwrap() as u32 };
    let cell: Vec<u32> = (0..stratum.len()).map(cell).collect();
    Rows { cells: &cells, cell: &cell, groups: group, totals, seed }.deal(split, || Ok(())).unwrap();
}

#[test]
fn every_row_is_in_the_split_of_the_reference() {
    for v in vectors("dealt") {
        let stratum: Vec<i64> = get(v, "stratum");
        let label = get::<Option<Vec<u32>>>(v, "label").unwrap_or_default();
        let group = get::<Option<Vec<u64>>>(v, "group").unwrap_or_default();
        let group = groups(&group, |i| stratum[i] >= 0);
        let mut split = match v["old"] {
            Value::Null => vec![NO_SPLIT; stratum.len()],
            _ => splits(v, "old"),
        };
        for (s, _) in split.iter_mut().zip(&stratum).filter(|(_, h)| **h < 0) {
            *s = NO_SPLIT;
        }
        dealt(&stratum, &label, &group, &get::<Vec<u64>>(v, "totals"), get(v, "seed"), &mut split);
        assert_eq!(split, splits(v, "split"), "{v}");
    }
}

#[test]
fn times_are_cut_as_by_the_reference() {
    for v in vectors("times") {
        let time: Vec<Option<i64>> = get(v, "time");
        let gap: i64 = get(v, "gap");
        let near = |a: i64, b: i64| b - a < gap;
        let mut split = vec![0; time.len()];
        let last = split_by_time(&time, &get::<Vec<u64>>(v, "totals"), near, &mut split);
        assert_eq!(split, splits(v, "split"), "{v}");
        // Told the last times, each row would come into its split again.
        for (t, s) in time.iter().zip(&split).filter_map(|(t, s)| Some(((*t)?, *s))) {
            assert_eq!(split_by_last(t, &last, near), s, "time {t} of {v}");
        }
    }
}

#[test]
fn leaks_are_counted_and_purged_as_by_the_reference() {
    for v in vectors("leaking") {
        let (group, mut split) = (get::<Vec<u64>>(v, "group"), splits(v, "split"));
        let (groups, number) = (groups(&group, |_| true), get(v, "splits"));
        let counted = leaks(&split, &groups, number);
        // The reference counts the splits that there are.
        let told: Vec<u64> = get(v, "leaks");
        assert_eq!(counted[..told.len()], told, "{v}");
        let before = split.clone();
        let gone = purge(&mut split, &groups, number);
        assert_eq!(split, splits(v, "purged"), "{v}");
        assert!(leaks(&split, &groups, number).iter().all(|&n| n == 0));
        let set_aside =
            |s: usize| (0..split.len()).filter(|&i| before[i] == s as u16 && split[i] == NO_SPLIT).count();
        assert!((0..number).all(|s| gone[s] == set_aside(s) as u64));
    }
}

/// Bar: sizes exact, every stratum within one row, and the same chance for all.
#[test]
fn a_thousand_tables_are_rounded_without_favour() {
    for t in 0..1000 {
        let rows: Vec<u64> = (0..1 + key(t, &[0]) % 40).map(|i| 1 + key(t, &[1, i]) % 30).collect();
        let parts: Vec<u128> = (0..2 + key(t, &[2]) % 6).map(|s| (1 + key(t, &[3, s]) % 9).into()).collect();
        let n: u64 = rows.iter().sum();
        let wanted = totals(n, &parts, parts.iter().sum());
        assert_eq!(wanted.iter().sum::<u64>(), n);
        let a: Vec<Vec<u128>> =
            rows.iter().map(|&r| wanted.iter().map(|&w| u128::from(r) * u128::from(w)).collect()).collect();
        let table = round_table(&a, n.into(), t);
        for (row, &of) in table.iter().zip(&rows) {
            assert_eq!(row.iter().sum::<u64>(), of);
            for (x, &w) in row.iter().zip(&wanted) {
                assert!((*x as f64 - (of * w) as f64 / n as f64).abs() < 1.0);
            }
        }
        assert!((0..wanted.len()).all(|s| table.iter().map(|row| row[s]).sum::<u64>() == wanted[s]));
    }
    let (rows, wanted) = ([1u64, 2, 3, 7, 1, 5], [15u64, 2, 2]);
    let a: Vec<Vec<u128>> =
        rows.iter().map(|&r| wanted.iter().map(|&w| u128::from(r * w)).collect()).collect();
    let mut sums = vec![vec![0u64; 3]; rows.len()];
    let keys = 8000;
    for t in 0..keys {
        for (sum, row) in sums.iter_mut().zip(round_table(&a, 19, key(t, &[5]))) {
            sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
        }
    }
    for (sums, of) in sums.iter().zip(rows) {
        for (&sum, w) in sums.iter().zip(wanted) {
            let share = (of * w) as f64 / 19.0;
            let chance = share.fract();
            let error = (chance * (1.0 - chance) / keys as f64).sqrt();
            assert!((sum as f64 / keys as f64 - share).abs() < 4.0 * error + 1e-9, "{sums:?} of {of}");
        }
    }
}

/// Groups are never cut, and sizes are exact where there are rows enough of their own.
#[test]
fn groups_stay_whole() {
    for t in 0..200 {
        let n = 100 + key(t, &[0]) % 400;
        let stratum: Vec<i64> = (0..n).map(|i| (key(t, &[1, i]) % 9) as i64).collect();
        // A third of the rows is in groups of about four.
        let of: Vec<u64> = (0..n)
            .map(|i| if key(t, &[2, i]).is_multiple_of(3) { key(t, &[3, i]) % (n / 12) } else { n + i })
            .collect();
        let mut named = std::collections::BTreeMap::new();
        let group: Vec<u64> = (0..n).map(|i| *named.entry(of[i as usize]).or_insert(i)).collect();
        let wanted = totals(n, &[7, 2, 1], 10);
        let mut split = vec![NO_SPLIT; n as usize];
        dealt(&stratum, &[], &groups(&group, |_| true), &wanted, t, &mut split);
        for (i, &g) in group.iter().enumerate() {
            assert_eq!(split[i], split[g as usize], "row {i} is with row {g}");
        }
        let counts: Vec<u64> = (0..3).map(|s| split.iter().filter(|&&x| x == s).count() as u64).collect();
        assert_eq!(counts, wanted);
    }
}
