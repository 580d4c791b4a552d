//! The formulas equal `oracle/reference.py`: integers bit for bit, floats to 1e-12. `oracle/make_vectors.py` wrote
//! `oracle/vectors.json`.

use batchwright::batches::accumulation::Accumulator;
use batchwright::batches::allocation::{draws, rest_counts};
use batchwright::batches::batch::Batch;
use batchwright::batches::batch_size::{self, choose};
use batchwright::batches::deal::{Deal, golden_stride};
use batchwright::batches::score::Score;
use batchwright::batches::strata::{dendrogram, tour};
use batchwright::batches::weights::Schedule;
use batchwright::batches::weights::centrality::centralities;
use batchwright::batches::weights::schedule::{kish, weight};
use batchwright::kernels::rows::RowIds;
use batchwright::kit::rng::{Permutation, key};
use batchwright::runtime::{Choosing, LoaderChoice, Policy};
use serde_json::Value;

use crate::oracle::{Oracle, get, merges, read};

static ORACLE: Oracle = Oracle::new(|| read(include_str!("oracle/vectors.json")));

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * b.abs().max(1.0)
}

#[test]
fn keys_and_permutations() {
    for v in ORACLE.vectors("keys") {
        let words: Vec<u64> = get(v, "words");
        assert_eq!(key(words[0], &words[1..]), get::<u64>(v, "key"));
    }
    for v in ORACLE.vectors("permutations") {
        let n: u64 = get(v, "n");
        let permutation = Permutation::new(n, get(v, "key"));
        let step = get::<Option<u64>>(v, "step").unwrap_or((n / 40).max(1));
        for (i, want) in get::<Vec<u64>>(v, "index").into_iter().enumerate() {
            assert_eq!(permutation.index(i as u64 * step), want, "{i} x {step} of {n}");
        }
    }
}

#[test]
fn batch_sizes() {
    for v in ORACLE.vectors("batch_sizes") {
        let params = batch_size::Params {
            coverage: get(v, "coverage"),
            multiple: get(v, "multiple"),
            ..batch_size::Params::default()
        };
        let got = choose(&params, &get::<Vec<u64>>(v, "counts")).unwrap();
        assert_eq!((got.size, got.computed), (get(v, "size"), get(v, "size")), "{v}");
        assert!(close(got.samples_per_modality, get(v, "samples_per_modality")));
        assert!(got.covered >= params.coverage - 1e-9 || got.size >= 4096);
    }
}

#[test]
fn dendrograms_equal_scipy_and_tours() {
    for v in ORACLE.vectors("dendrograms") {
        let centers: Vec<Vec<f64>> = get(v, "centers");
        let got = dendrogram(&centers, &vec![1; centers.len()], None);
        let want = merges(get(v, "merges"));
        assert_eq!(got.len(), want.len());
        for (a, b) in got.iter().zip(&want) {
            assert_eq!((a.left, a.right, a.size), (b.left, b.right, b.size), "{got:?} {want:?}");
            assert!(close(a.height, b.height));
        }
        for (epoch, want) in get::<Vec<Vec<u32>>>(v, "tours").into_iter().enumerate() {
            assert_eq!(tour(&got, centers.len(), 3, epoch as u32), want);
        }
    }
}

#[test]
fn drawn_and_rest_counts() {
    for v in ORACLE.vectors("draws") {
        let tau = get::<Option<f64>>(v, "tau").unwrap_or(1.0);
        let shares: Option<Vec<f64>> = get(v, "shares");
        assert_eq!(
            draws(&get::<Vec<u64>>(v, "sizes"), tau, shares.as_deref()),
            get::<Vec<u64>>(v, "counts"),
            "{v}"
        );
    }
    for v in ORACLE.vectors("rests") {
        let counts: Vec<u64> = get(v, "counts");
        let got = rest_counts(&counts, get(v, "base"), get(v, "seed"), get(v, "epoch"));
        assert_eq!(got, get::<Vec<u64>>(v, "rest"), "{v}");
    }
    for v in ORACLE.vectors("strides") {
        assert_eq!(golden_stride(v[0].as_u64().unwrap()), v[1].as_u64().unwrap());
    }
}

#[test]
fn every_batch_of_an_epoch() {
    let mut batch = Batch::default();
    for v in ORACLE.vectors("deals") {
        let strata: Vec<Vec<u64>> = get(v, "members");
        let members = strata.concat();
        let narrow: Vec<u32> = members.iter().map(|&row| row as u32).collect();
        let mut offsets = vec![0];
        offsets.extend(strata.iter().scan(0, |end, s| {
            *end += s.len() as u64;
            Some(*end)
        }));
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
            for (k, want) in v["sizes"].as_object().unwrap() {
                let k: u64 = k.parse().unwrap();
                let want: Vec<Vec<u64>> = serde_json::from_value(want.clone()).unwrap();
                assert_eq!(deal.batches(k), want.len() as u64);
                for (c, want) in want.iter().enumerate() {
                    deal.batch(c as u64, k, &mut batch);
                    assert_eq!(&batch.rows, want, "batch {c} of size {k} x base");
                    for (row, &stratum) in batch.rows.iter().zip(&batch.strata()) {
                        assert!(strata[stratum as usize].contains(row));
                    }
                }
            }
        }
    }
}

#[test]
fn scores_and_updates() {
    for v in ORACLE.vectors("scores") {
        let want: (f64, f64) = get(v, "want");
        let got = Score::new(&get::<Vec<u64>>(v, "counts"), get(v, "a")).n_eff(&get::<Vec<u64>>(v, "hist"));
        assert!(close(got.0, want.0) && close(got.1, want.1), "{got:?} {want:?}");
    }
    for v in ORACLE.vectors("accumulators") {
        let n: u64 = get(v, "batch_size");
        let mut accumulator = Accumulator::new(get(v, "threshold"), n);
        for (n_eff, want) in get::<Vec<f64>>(v, "n_eff").into_iter().zip(get::<Vec<(f64, bool)>>(v, "fed")) {
            assert_eq!(accumulator.feed(n_eff, n), want);
        }
    }
}

#[test]
fn weights_and_centralities() {
    for v in ORACLE.vectors("weights") {
        let schedule: Schedule = get(v, "schedule");
        let (progress, beta): (Vec<f64>, Vec<f64>) = (get(v, "progress"), get(v, "beta"));
        let (all, shares): (Vec<Vec<f64>>, Vec<f64>) = (get(v, "weight"), get(v, "kish"));
        let c: Vec<f64> = get(v, "c");
        for i in 0..progress.len() {
            let got = schedule.beta(progress[i], get(v, "strength"));
            assert!(close(got, beta[i]));
            assert!(close(kish(got), shares[i]));
            assert!(c.iter().zip(&all[i]).all(|(&c, &want)| close(weight(c, got), want)));
        }
    }
    for v in ORACLE.vectors("centralities") {
        let want: Vec<f64> = get(v, "want");
        let got = centralities(&get::<Vec<f32>>(v, "distance"));
        assert_eq!(got, want.iter().map(|&c| c as f32).collect::<Vec<f32>>());
    }
}

/// Choices bit for bit; rewards to 1e-12, since numpy's logarithm may differ from `libm`'s in the last bit.
#[test]
fn loader_choices() {
    let ratchets = ORACLE.vectors("ratchets").iter().map(|v| (v, Policy::Ratchet));
    let policies = ORACLE.vectors("choices").iter().map(|v| (v, get(v, "reward")));
    for (v, policy) in policies.chain(ratchets) {
        let candidates: u64 = get(v, "candidates");
        let sizes: Vec<u64> = (0..candidates).map(|k| 32 << k).collect();
        let seed = get::<Option<u64>>(v, "seed").unwrap_or(0);
        let choosing = Choosing { policy, seed, segment_rows: 1, ..Choosing::new(sizes, 1) };
        let mut choice = LoaderChoice::new(choosing, 1000).unwrap();
        choice.begin(get(v, "loss")).unwrap();
        for (i, segment) in get::<Vec<Value>>(v, "segments").iter().enumerate() {
            assert_eq!(choice.candidate(), get::<usize>(segment, "candidate"), "{policy:?} segment {i}");
            let loss = get::<Option<f64>>(segment, "observed").unwrap_or(f64::NAN);
            let said = choice.update(loss, get(segment, "cost")).unwrap();
            if policy != Policy::Ratchet {
                assert!(close(said.reward, get(segment, "reward")), "segment {i}: {said:?}");
                assert!(close(said.expected, get(segment, "expected")), "segment {i}: {said:?}");
            }
        }
    }
}
