//! Batches that are more than stratified equal `oracle/reference_composition.py` bit for bit (`oracle/make_composition_vectors.py`
//! wrote `oracle/composition.json`), and keep their promises.

use arrow_array::Float64Array;
use arrow_array::builder::{ListBuilder, StringBuilder};
use batchwright::batches::allocation::{draws, rest_counts};
use batchwright::batches::batch::Batch;
use batchwright::batches::deal::Deal;
use batchwright::batches::duplicates::{Duplicates, Exchanges, Keys};
use batchwright::batches::labels;
use batchwright::batches::sizes::{Change, Sizes, Step};
use batchwright::batches::strata::tour;
use batchwright::format::dendrogram::Merge;
use batchwright::kernels::rows::RowIds;
use batchwright::kit::rng::{Permutation, key};
use batchwright::source::Naming;
use proptest::prelude::*;
use rayon::prelude::*;
use serde_json::Value;

use crate::oracle::{Oracle, digest, get, merges, offsets, read};

static ORACLE: Oracle = Oracle::new(|| read(include_str!("oracle/composition.json")));

/// Compares all batches with those of the vector, one by one and together.
fn equals(v: &Value, deal: &Deal<'_>, exchanges: &Exchanges, strata: &[Vec<u64>]) {
    let mut batch = Batch::default();
    let dealt = |batches: std::ops::Range<u64>, k, batch: &mut Batch| {
        deal.run(batches.clone(), k, batch);
        exchanges.put(deal, batches, k, batch);
    };
    for (k, want) in v["sizes"].as_object().unwrap() {
        let k: u64 = k.parse().unwrap();
        let want = want.as_array().unwrap();
        assert_eq!(deal.batches(k), want.len() as u64, "{k} x base of {v}");
        let mut all = Vec::new();
        for (c, want) in want.iter().enumerate() {
            dealt(c as u64..c as u64 + 1, k, &mut batch);
            match want.as_u64() {
                Some(want) => assert_eq!(digest(&batch.rows), want, "batch {c} of {k} x base of {v}"),
                None => {
                    assert_eq!(serde_json::to_value(&batch.rows).unwrap(), *want, "batch {c} of {k} x base")
                }
            }
            for (row, &stratum) in batch.rows.iter().zip(&batch.strata()) {
                assert!(strata[stratum as usize].binary_search(row).is_ok());
            }
            all.extend_from_slice(&batch.rows);
        }
        if !want.is_empty() {
            dealt(0..deal.batches(k), k, &mut batch);
            assert_eq!(batch.rows, all, "together");
            let strata_of = batch.strata();
            assert!(all.iter().zip(strata_of).all(|(row, h)| strata[h as usize].binary_search(row).is_ok()));
        }
    }
}

#[test]
fn chunks_equal_the_reference() {
    for v in ORACLE.vectors("chunks") {
        let strata: Vec<Vec<u64>> = get(v, "members");
        let members = strata.concat();
        let narrow: Vec<u32> = members.iter().map(|&row| row as u32).collect();
        let offsets = offsets(strata.iter().map(|s| s.len() as u64));
        let counts: Option<Vec<u64>> = get(v, "counts");
        for ids in [RowIds::U64(&members), RowIds::U32(&narrow)] {
            let deal = Deal::new(
                ids,
                &offsets,
                get(v, "base"),
                get(v, "seed"),
                get(v, "epoch"),
                &merges(get(v, "merges")),
                get(v, "drop_last"),
                counts.as_deref(),
            );
            equals(v, &deal.in_chunks(get(v, "chunk")), &Exchanges::default(), &strata);
        }
    }
}

#[test]
fn exchanges_equal_the_reference() {
    let (mut chains, mut several) = (0, 0);
    for v in ORACLE.vectors("duplicates") {
        let strata: Vec<Vec<u64>> = get(v, "members");
        let members = strata.concat();
        let offsets = offsets(strata.iter().map(|s| s.len() as u64));
        let counts: Option<Vec<u64>> = get(v, "counts");
        let base: u64 = get(v, "base");
        let deal = Deal::new(
            RowIds::U64(&members),
            &offsets,
            base,
            get(v, "seed"),
            get(v, "epoch"),
            &merges(get(v, "merges")),
            get(v, "drop_last"),
            counts.as_deref(),
        )
        .in_chunks(get(v, "chunk"));
        let keys: Vec<(u64, Vec<u32>)> = get(v, "keys");
        several += u64::from(keys.iter().any(|k| k.1.len() > 1));
        let pairs =
            keys.into_iter().flat_map(|(row, keys)| keys.into_iter().map(move |key| (row, key))).collect();
        let stratum = |row| strata.iter().position(|s| s.binary_search(&row).is_ok()).unwrap() as u32;
        let keys = Keys::new(pairs, &offsets, RowIds::U64(&members), stratum);
        let sizes: Vec<u64> = get::<Vec<u64>>(v, "multiples").into_iter().map(|k| k * base).collect();
        let exchanges = Duplicates::new(keys, &sizes).exchanges(&deal);
        assert_eq!((exchanges.made, exchanges.chains), (get(v, "made"), get(v, "chains")), "{v}");
        assert_eq!(exchanges.most, get(v, "most"), "{v}");
        chains += exchanges.chains;
        equals(v, &deal, &exchanges, &strata);
    }
    assert!(chains > 0 && several > 0, "all ways were taken");
}

#[test]
fn labels_equal_the_reference() {
    for v in ORACLE.vectors("labels") {
        let strata: Vec<Vec<u64>> = get(v, "members");
        let members = strata.concat();
        let sizes: Vec<u64> = strata.iter().map(|s| s.len() as u64).collect();
        let offsets = offsets(sizes.iter().copied());
        let (base, rows): (u64, u64) = (get(v, "base"), get(v, "chunk"));
        let (counts, full) = labels::counts(&sizes, rows, base);
        assert_eq!((&counts, full), (&get::<Vec<u64>>(v, "counts"), get(v, "full")));
        let deal = Deal::new(
            RowIds::U64(&members),
            &offsets,
            base,
            get(v, "seed"),
            get(v, "epoch"),
            &merges(get(v, "merges")),
            get(v, "drop_last"),
            Some(&counts),
        );
        equals(v, &deal.in_labels(rows), &Exchanges::default(), &strata);
    }
}

#[test]
fn sizes_equal_the_reference() {
    for v in ORACLE.vectors("sizes") {
        let changes: Vec<Change> = get(v, "changes");
        let candidates: Vec<u64> = get(v, "candidates");
        let sizes = Sizes::new(&changes, get(v, "epochs"), get(v, "length"), &candidates).unwrap();
        let mut number = 0;
        for (epoch, steps) in (0..).zip(get::<Vec<Vec<(u64, u64)>>>(v, "steps")) {
            assert_eq!(sizes.steps(epoch), steps.len() as u64, "epoch {epoch} of {v}");
            for (batch, k) in steps {
                assert_eq!(sizes.locate(number), Some(Step { epoch, batch, k }), "step {number} of {v}");
                number += 1;
            }
        }
    }
}

#[test]
fn bins_equal_the_reference() {
    for v in ORACLE.vectors("bins") {
        let cells = Float64Array::from(get::<Vec<Option<f64>>>(v, "values"));
        let naming = Naming::quantiles(&cells, get(v, "bins"));
        assert_eq!(naming.edges().unwrap(), get::<Vec<f64>>(v, "edges"), "{v}");
        let names = naming.names(&cells);
        for (i, bin) in get::<Vec<Option<u32>>>(v, "of").into_iter().enumerate() {
            assert_eq!(names.get(i).as_deref(), bin.map(|bin| format!("q{bin}")).as_deref(), "{v}");
        }
    }
}

#[test]
fn rarest_labels_equal_the_reference() {
    let lists = |v, name| {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for list in get::<Vec<Option<Vec<String>>>>(v, name) {
            lists.append_option(list.map(|list| list.into_iter().map(Some)));
        }
        lists.finish()
    };
    for v in ORACLE.vectors("rarest") {
        let (all, naming) = (lists(v, "lists"), Naming::rarest(&lists(v, "sample")));
        let names = naming.names(&all);
        for (i, label) in get::<Vec<Option<String>>>(v, "of").into_iter().enumerate() {
            assert_eq!(names.get(i).as_deref(), label.as_deref(), "row {i} of {v}");
        }
    }
}

/// Strata of 200, 100, 500, 50 and 150 rows in batches of 48: the numbers of docs/composition.md.
#[test]
fn the_worked_example() {
    let rows: Vec<u32> = (0..1000).collect();
    let offsets = offsets([200, 100, 500, 50, 150]);
    let deal = |chunk| Deal::new(RowIds::U32(&rows), &offsets, 48, 42, 0, &[], false, None).in_chunks(chunk);
    let first = |chunk, c, k| {
        let mut batch = Batch::default();
        deal(chunk).batch(c, k, &mut batch);
        batch.rows[..8].to_vec()
    };
    assert_eq!(first(8, 0, 1), [575, 674, 553, 653, 777, 598, 614, 558]);
    assert_eq!(first(8, 0, 2), [502, 788, 648, 317, 568, 366, 600, 589]);
    assert_eq!(first(8, 20, 1), [818, 810, 913, 868, 988, 941, 980, 930]);
    assert_eq!(first(48, 0, 1), [232, 222, 250, 220, 228, 216, 217, 246]);
    assert_eq!(first(48, 0, 2), [858, 892, 871, 992, 985, 973, 932, 917]);
    assert_eq!(first(48, 20, 1), [166, 184, 19, 52, 6, 46, 14, 158]);
    let (counts, full) = labels::counts(&[200, 100, 500, 50, 150], 4, 16);
    assert_eq!((counts.as_slice(), full), (&[148, 100, 148, 48, 148][..], 37));
    let deal = Deal::new(RowIds::U32(&rows), &offsets, 16, 42, 1, &[], false, Some(&counts)).in_labels(4);
    let mut batch = Batch::default();
    deal.batch(0, 1, &mut batch);
    assert_eq!(batch.rows, [947, 889, 864, 966, 245, 271, 280, 256, 140, 50, 193, 156, 474, 301, 567, 377]);
}

/// A dendrogram of no meaning.
fn tree(strata: usize, seed: u64) -> Vec<Merge> {
    let mut nodes: Vec<u32> = (0..strata as u32).collect();
    let mut out = Vec::new();
    while nodes.len() > 1 {
        let mut pick = |i: u64| {
            let at = key(seed, &[out.len() as u64, i]) as usize % nodes.len();
            nodes.swap_remove(at)
        };
        let (left, right) = (pick(0), pick(1));
        nodes.push((strata + out.len()) as u32);
        out.push(Merge { left, right, height: out.len() as f64, size: 0 });
    }
    out
}

/// Rows of `sizes`, mixed between the strata, and the stratum of each.
fn mixed(sizes: &[u64]) -> (Vec<u32>, Vec<u32>) {
    let offsets = offsets(sizes.iter().copied());
    let n = offsets[sizes.len()];
    let permutation = Permutation::new(n, 11);
    let mut rows: Vec<u32> = (0..n).map(|i| permutation.index(i) as u32).collect();
    let mut stratum = vec![0; n as usize];
    for (h, w) in offsets.windows(2).enumerate() {
        let of = &mut rows[w[0] as usize..w[1] as usize];
        of.sort_unstable();
        of.iter().for_each(|&row| stratum[row as usize] = h as u32);
    }
    (rows, stratum)
}

fn counted(strata: usize, of: &[u32]) -> Vec<u64> {
    let mut counts = vec![0; strata];
    of.iter().for_each(|&h| counts[h as usize] += 1);
    counts
}

/// The list that full batches are dealt from, by its definition.
fn listed(
    members: &[u32],
    offsets: &[u64],
    base: u64,
    seed: u64,
    epoch: u32,
    dendrogram: &[Merge],
) -> Vec<u64> {
    let sizes: Vec<u64> = offsets.windows(2).map(|w| w[1] - w[0]).collect();
    let rest = rest_counts(&sizes, base, seed, epoch);
    let mut list = Vec::new();
    for h in tour(dendrogram, sizes.len(), seed, epoch) {
        let (from, n) = (offsets[h as usize], sizes[h as usize]);
        let order = Permutation::new(n, key(seed, &[epoch.into(), 4, h.into()]));
        list.extend((rest[h as usize]..n).map(|i| u64::from(members[(from + order.index(i)) as usize])));
    }
    list
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every row once; full batches of whole chunks of the list, one from every part of it, that stay together; the range of every
    /// stratum's count, exactly; the rest batch within 1; unions; any batch alone.
    #[test]
    fn chunks_keep_their_promises(
        sizes in prop::collection::vec(prop_oneof![4 => 1u64..12, 1 => 1u64..400], 1..60),
        chunk in 1u64..20,
        chunks in 1u64..20,
        seed: u64,
        epoch in 0u32..100,
        k in 2u64..5,
    ) {
        let (n, strata, base) = (sizes.iter().sum::<u64>(), sizes.len(), chunk * chunks);
        let ((rows, stratum), offsets) = (mixed(&sizes), offsets(sizes.iter().copied()));
        let tree = tree(strata, seed);
        let deal = Deal::new(RowIds::U32(&rows), &offsets, base, seed, epoch, &tree, false, None).in_chunks(chunk);
        let full = n / base;
        let list = listed(&rows, &offsets, base, seed, epoch, &tree);
        let mut place = vec![u64::MAX; n as usize];
        list.iter().zip(0..).for_each(|(&row, i)| place[row as usize] = i);
        let rest = rest_counts(&sizes, base, seed, epoch);
        let (mut batch, mut seen) = (Batch::default(), Vec::new());
        for c in 0..deal.len() {
            deal.batch(c, 1, &mut batch);
            let counts = counted(strata, &batch.strata());
            prop_assert_eq!(&counts, &counted(strata, &batch.rows.iter().map(|&row| stratum[row as usize]).collect::<Vec<_>>()));
            for (h, &count) in counts.iter().enumerate() {
                let share = batch.rows.len() as f64 * sizes[h] as f64 / n as f64;
                let bound = if c < full { chunk as f64 } else { 1.0 };
                prop_assert!((count as f64 - share).abs() < bound, "batch {} stratum {}: {} of {}", c, h, count, share);
                if c < full {
                    let (a, q) = ((sizes[h] - rest[h]) / (full * chunk), (sizes[h] - rest[h]) % (full * chunk));
                    let range = a * chunk + q.saturating_sub((full - 1) * chunk)..=a * chunk + q.min(chunk);
                    prop_assert!(range.contains(&count), "{} not in {:?}", count, range);
                }
            }
            if c < full {
                let mut parts = Vec::new();
                for rows in batch.rows.chunks(chunk as usize) {
                    let first = place[rows[0] as usize];
                    prop_assert!(first % chunk == 0 && rows.iter().zip(first..).all(|(&row, at)| place[row as usize] == at));
                    parts.push(first / (chunk * full));
                }
                parts.sort_unstable();
                prop_assert!(parts.into_iter().eq(0..base / chunk));
            }
            seen.extend_from_slice(&batch.rows);
        }
        for c in 0..deal.batches(k) {
            deal.batch(c, k, &mut batch);
            let from = (c * k * base) as usize;
            let mut union = seen[from..from + batch.rows.len()].to_vec();
            union.sort_unstable();
            batch.rows.sort_unstable();
            prop_assert_eq!(&union, &batch.rows);
        }
        seen.sort_unstable();
        prop_assert!(seen.into_iter().eq(0..n));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Exactly as many full batches as there can be, each of K rows of each of P different labels that stand together; the rest batch of different
    /// labels too; no row twice an epoch; the rows of a label equally often, within one, over epochs.
    #[test]
    fn labels_keep_their_promises(
        sizes in prop::collection::vec(prop_oneof![4 => 1u64..12, 2 => 1u64..60], 1..40),
        rows in 2u64..6,
        labels in 1u64..9,
        seed: u64,
        k in 2u64..4,
    ) {
        let base = rows * labels;
        let (counts, full) = labels::counts(&sizes, rows, base);
        prop_assume!(full > 0);
        let ((members, stratum), offsets) = (mixed(&sizes), offsets(sizes.iter().copied()));
        let tree = tree(sizes.len(), seed);
        let mut batch = Batch::default();
        let mut seen = vec![0u64; members.len()];
        for epoch in 0..6 {
            let deal = Deal::new(RowIds::U32(&members), &offsets, base, seed, epoch, &tree, false, Some(&counts)).in_labels(rows);
            prop_assert_eq!(deal.len(), full + u64::from(counts.iter().sum::<u64>() > full * base));
            let (mut all, mut once) = (Vec::new(), vec![false; members.len()]);
            for c in 0..deal.len() {
                deal.batch(c, 1, &mut batch);
                let len = batch.rows.len() as u64;
                prop_assert!((c < full && len == base) || (c == full && len < base));
                let of: Vec<u32> = batch.rows.iter().map(|&row| stratum[row as usize]).collect();
                prop_assert_eq!(&of, &batch.strata());
                prop_assert!(of.chunks(rows as usize).all(|of| of.len() as u64 == rows && of.iter().all(|h| *h == of[0])));
                let mut met: Vec<u32> = of.chunks(rows as usize).map(|of| of[0]).collect();
                met.sort_unstable();
                prop_assert!(met.windows(2).all(|w| w[0] < w[1]), "labels of a batch are different");
                for &row in &batch.rows {
                    prop_assert!(!std::mem::replace(&mut once[row as usize], true), "row {} twice", row);
                    seen[row as usize] += 1;
                }
                all.extend_from_slice(&batch.rows);
            }
            for c in 0..deal.batches(k) {
                deal.batch(c, k, &mut batch);
                let from = (c * k * base) as usize;
                let mut union = all[from..from + batch.rows.len()].to_vec();
                union.sort_unstable();
                batch.rows.sort_unstable();
                prop_assert_eq!(&union, &batch.rows);
            }
        }
        for (h, w) in offsets.windows(2).enumerate() {
            let of: Vec<u64> = members[w[0] as usize..w[1] as usize].iter().map(|&row| seen[row as usize]).collect();
            prop_assert!(of.iter().max().unwrap() - of.iter().min().unwrap() <= 1);
            prop_assert_eq!(of.iter().sum::<u64>(), 6 * counts[h]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Of g rows of a key at most g / n, rounded up, in a batch of any candidate size, n the full batches of the largest, evenly inside those; every row
    /// once; the strata of full batches in the range that they had; any batch alone, on any thread.
    #[test]
    fn duplicates_are_parted(
        sizes in prop::collection::vec(prop_oneof![4 => 1u64..12, 1 => 1u64..120], 1..20),
        chunk in 1u64..4,
        chunks in 1u64..8,
        values in 1u64..150,
        levels in prop_oneof![Just(vec![1u64]), Just(vec![1, 2]), Just(vec![1, 2, 4]), Just(vec![1, 3])],
        seed: u64,
    ) {
        let (n, strata, base) = (sizes.iter().sum::<u64>(), sizes.len(), chunk * chunks);
        let ((rows, stratum), offsets) = (mixed(&sizes), offsets(sizes.iter().copied()));
        let deal = Deal::new(RowIds::U32(&rows), &offsets, base, seed, 2, &tree(strata, seed), false, None).in_chunks(chunk);
        let full = n / base;
        // A few rows have no key.
        let value = |row: u64| (!key(seed, &[row, 1]).is_multiple_of(9)).then(|| (key(seed, &[row]) % values) as u32);
        let pairs = (0..n).filter_map(|row| Some((row, value(row)?))).collect();
        let keys = Keys::new(pairs, &offsets, RowIds::U32(&rows), |row| stratum[row as usize]);
        let wanted: Vec<u64> = levels.iter().map(|k| k * base).collect();
        let exchanges = Duplicates::new(keys, &wanted).exchanges(&deal);
        let dealt = |c: u64, k, exchanges: &Exchanges| {
            let mut batch = Batch::default();
            deal.batch(c, k, &mut batch);
            exchanges.put(&deal, c..c + 1, k, &mut batch);
            batch
        };
        let all: Vec<Batch> = (0..deal.len()).into_par_iter().map(|c| dealt(c, 1, &exchanges)).collect();
        let mut seen: Vec<u64> = all.iter().flat_map(|b| b.rows.clone()).collect();
        let mut of_value = vec![0u64; values as usize];
        seen.iter().filter_map(|&row| value(row)).for_each(|v| of_value[v as usize] += 1);
        let largest = levels.iter().copied().filter(|&k| k <= full.max(1)).max().unwrap_or(1);
        let unions = full / largest;
        for &k in levels.iter().filter(|&&k| k <= largest) {
            for c in 0..deal.batches(k) {
                let batch = dealt(c, k, &exchanges);
                let mut parts: Vec<u64> = all[(c * k) as usize..((c + 1) * k).min(deal.len()) as usize].iter().flat_map(|b| b.rows.clone()).collect();
                let mut counts = vec![0u64; values as usize];
                batch.rows.iter().filter_map(|&row| value(row)).for_each(|v| counts[v as usize] += 1);
                for (count, of) in counts.iter().zip(&of_value).filter(|_| unions > 0) {
                    let most = of.div_ceil(unions);
                    let inside = c * k / largest < unions;
                    let bound = if inside { most.div_ceil(largest / k) } else { most };
                    prop_assert!(*count <= bound, "{} of {} rows in a batch of {} x base, {} allowed", count, of, k, bound);
                }
                let strata_of: Vec<u32> = batch.rows.iter().map(|&row| stratum[row as usize]).collect();
                prop_assert_eq!(batch.strata(), strata_of);
                let mut rows = batch.rows.clone();
                rows.sort_unstable();
                parts.sort_unstable();
                prop_assert_eq!(rows, parts, "a union is its batches");
            }
        }
        let none = Exchanges::default();
        let before: Vec<Vec<u64>> = (0..full).map(|c| counted(strata, &dealt(c, 1, &none).strata())).collect();
        for h in (0..strata).filter(|_| full > 0) {
            let range = before.iter().map(|b| b[h]).min().unwrap()..=before.iter().map(|b| b[h]).max().unwrap();
            let of_rest = exchanges.batches.contains_key(&full) && exchanges.chains > 0;
            for batch in &all[..full as usize] {
                let count = counted(strata, &batch.strata())[h];
                prop_assert!(range.contains(&count) || of_rest, "stratum {}: {} not in {:?}", h, count, range);
            }
        }
        seen.sort_unstable();
        prop_assert!(seen.into_iter().eq(0..n));
    }
}

/// Rows drawn again or not at all: as many of every stratum as it gives, each batch in bounds, alone and together, on any thread.
#[test]
fn chunks_of_skewed_shares() {
    let sizes = [200, 100, 500, 50, 150];
    let ((rows, _), offsets) = (mixed(&sizes), offsets(sizes));
    let counts = draws(&sizes, 0.0, None);
    for chunk in [4, 16, 64] {
        let deal = Deal::new(RowIds::U32(&rows), &offsets, 64, 9, 3, &tree(5, 1), false, Some(&counts))
            .in_chunks(chunk);
        let alone: Vec<(Vec<u64>, Vec<u32>)> = (0..deal.len())
            .into_par_iter()
            .map(|c| {
                let mut batch = Batch::default();
                deal.batch(c, 1, &mut batch);
                (batch.rows.clone(), batch.strata())
            })
            .collect();
        let mut batch = Batch::default();
        deal.run(0..deal.len(), 1, &mut batch);
        assert_eq!(batch.rows, alone.iter().flat_map(|b| b.0.clone()).collect::<Vec<_>>());
        let mut drawn = vec![0; 5];
        for (c, (of, strata)) in alone.iter().enumerate() {
            let counts = counted(5, strata);
            let bound = if of.len() == 64 { chunk as f64 } else { 1.0 };
            assert!(
                counts.iter().all(|&n| (n as f64 - of.len() as f64 / 5.0).abs() < bound),
                "batch {c}: {counts:?}"
            );
            drawn.iter_mut().zip(counts).for_each(|(d, n)| *d += n);
        }
        assert_eq!(drawn, counts);
    }
}
