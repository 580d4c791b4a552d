//! The local order equals `oracle/reference_locality.py`: integers bit for bit, floats to 1e-12.
//! `oracle/make_local_vectors.py` wrote `oracle/local.json`. And it keeps its promises on larger data.

use batchwright::batches::batch::Batch;
use batchwright::batches::halving::{Counts, Dealing, Grid, Halver};
use batchwright::batches::local::{LocalDeal, LocalOrder};
use batchwright::batches::units::{self, RowStrata, alike, units_of};
use batchwright::format::units::{Evenness, Units};
use batchwright::kit::ids::NONE;
use batchwright::kit::rng::{key, uniform};
use proptest::prelude::*;
use serde_json::Value;

use crate::oracle::{Oracle, digest, get, merges, read};

static ORACLE: Oracle = Oracle::new(|| read(include_str!("oracle/local.json")));

/// Strata of rows; -1: not planned.
struct Strata(Vec<i64>);

impl RowStrata for Strata {
    fn read(&self, first: u64, into: &mut [u32]) {
        let of = &self.0[first as usize..first as usize + into.len()];
        into.iter_mut().zip(of).for_each(|(to, &h)| *to = u32::try_from(h).unwrap_or(NONE));
    }
}

#[test]
fn units_and_their_order() {
    for v in ORACLE.vectors("units") {
        let got = units_of(
            &get::<Vec<(u64, u64)>>(v, "groups"),
            get(v, "unit_rows"),
            &get::<Vec<u64>>(v, "borders"),
        );
        assert_eq!(got, (get(v, "first"), get(v, "rows")), "{v}");
    }
    for v in ORACLE.vectors("orders") {
        assert_eq!(
            alike(&get::<Vec<u64>>(v, "counts"), get(v, "groups")),
            get::<Vec<u32>>(v, "order"),
            "{v}"
        );
    }
}

/// The counts of a table that are above 0.
fn sparse(table: &[Vec<u64>]) -> (Grid, Counts) {
    let mut grid = Grid { places: table[0].len() as u32, ..Grid::default() };
    let mut counts = Counts::default();
    for (stream, row) in (0..).zip(table) {
        for (place, &n) in (0..).zip(row).filter(|&(_, &n)| n > 0) {
            counts.push(grid.len() as u32, n);
            grid.stream.push(stream);
            grid.place.push(place);
        }
    }
    (grid, counts)
}

fn dense(grid: &Grid, counts: &Counts, streams: usize) -> Vec<Vec<u64>> {
    let mut table = vec![vec![0; grid.places as usize]; streams];
    for (cell, n) in counts.iter() {
        table[grid.stream[cell as usize] as usize][grid.place[cell as usize] as usize] = n;
    }
    table
}

#[test]
fn halves_parts_and_rounds() {
    let mut halver = Halver::default();
    for v in ORACLE.vectors("dealings") {
        let table: Vec<Vec<u64>> = get(v, "counts");
        let (grid, counts) = sparse(&table);
        let (k, flip, streams): (u64, u64, usize) = (get(v, "k"), get(v, "key"), table.len());
        let part = halver.part(&grid, &counts, &get::<Vec<u64>>(v, "q"), flip);
        assert_eq!(dense(&grid, &part, streams), get::<Vec<Vec<u64>>>(v, "part"), "{v}");
        let dealing = Dealing::new(&grid, counts, k, flip, &mut halver);
        let mut all: Vec<(Vec<Vec<u64>>, Vec<u64>)> = Vec::new();
        dealing.each(&grid, 0..k, &mut halver, |b, counts, before| {
            assert_eq!(b, all.len() as u64);
            all.push((dense(&grid, counts, streams), before.to_vec()));
        });
        assert_eq!(all[k as usize - 1].0, get::<Vec<Vec<u64>>>(v, "last"), "{v}");
        assert_eq!(digest(all.iter().flat_map(|(table, _)| table.iter().flatten())), get::<u64>(v, "digest"));
        // Any of them alone.
        for b in [0, k / 2, k - 1] {
            let mut called = 0;
            dealing.each(&grid, b..b + 1, &mut halver, |at, counts, before| {
                called += 1;
                assert_eq!(at, b);
                assert_eq!((dense(&grid, counts, streams), before.to_vec()), all[b as usize]);
            });
            assert_eq!(called, 1);
        }
    }
}

/// Units with the order that the vector has.
fn ordered(v: &Value, strata: &Strata) -> Units {
    let number: Vec<u64> = (0..get::<u64>(v, "strata")).collect();
    let group: Vec<u32> = number.iter().map(|&h| h as u32).collect();
    let units = units::count(&get::<Vec<u64>>(v, "first"), &get::<Vec<u32>>(v, "rows"), &group, strata);
    assert_eq!(units.number[..units.with_rows()], get::<Vec<u32>>(v, "order")[..]);
    units
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * b.abs().max(1.0)
}

#[test]
fn every_batch_of_an_epoch() {
    let mut batch = Batch::default();
    for v in ORACLE.vectors("epochs") {
        let strata = Strata(get(v, "stratum"));
        let units = ordered(v, &strata);
        let (streams, window): (u64, u64) = (get(v, "streams"), get(v, "window"));
        let make = || {
            LocalDeal::new(
                LocalOrder { units: &units, strata: &strata, streams, window },
                get(v, "strata"),
                get(v, "base"),
                get(v, "seed"),
                get(v, "epoch"),
                &merges(get(v, "merges")),
                get(v, "drop_last"),
            )
        };
        let deal = make();
        let rounds = deal.rounds();
        let of_rounds: Vec<u64> = (0..rounds.number()).map(|t| rounds.batches(t)).collect();
        assert_eq!(of_rounds, get::<Vec<u64>>(v, "rounds"));
        if let Some(want) = get::<Option<Vec<Vec<Vec<(u32, u32, u32)>>>>>(v, "pieces") {
            for (stream, want) in want.iter().enumerate() {
                for (round, want) in want.iter().enumerate() {
                    let got: Vec<(u32, u32, u32)> = (rounds.pieces(stream, round).iter())
                        .map(|p| (units.number[p.unit as usize], p.from, p.to))
                        .collect();
                    assert_eq!(&got, want, "stream {stream}, round {round}");
                }
            }
        }
        for (k, want) in v["sizes"].as_object().unwrap() {
            let k: u64 = k.parse().unwrap();
            let want = want.as_array().unwrap();
            assert_eq!(deal.batches(k), want.len() as u64);
            for (c, want) in want.iter().enumerate() {
                // From a deal that knows no round yet, too.
                let alone = make();
                let from = if c % 7 == 3 { &alone } else { &deal };
                from.run(c as u64..c as u64 + 1, k, &mut batch);
                match want.as_u64() {
                    Some(want) => assert_eq!(digest(&batch.rows), want, "batch {c} of {k} x base"),
                    None => {
                        assert_eq!(
                            &serde_json::to_value(&batch.rows).unwrap(),
                            want,
                            "batch {c} of {k} x base"
                        )
                    }
                }
                for (&row, stratum) in batch.rows.iter().zip(batch.strata()) {
                    assert_eq!(strata.0[row as usize], i64::from(stratum));
                }
            }
            if deal.batches(k) > 0 {
                let one_by_one: Vec<u64> = (0..deal.batches(k))
                    .flat_map(|c| {
                        deal.run(c..c + 1, k, &mut batch);
                        batch.rows.clone()
                    })
                    .collect();
                make().run(0..deal.batches(k), k, &mut batch);
                assert_eq!(batch.rows, one_by_one, "together");
            }
        }
        let ids: Vec<u32> = (0..get::<u32>(v, "strata")).collect();
        for (name, group) in [("report", get::<Vec<u32>>(v, "group")), ("plain", ids)] {
            let want = &v[name];
            let slices = if streams % 2 == 0 { 2 } else { 1 };
            let Evenness { drift, worst, reads, round_rows, .. } = deal.evenness(&group, slices);
            assert_eq!(deal.drift(&group), drift);
            assert!(close(drift, get(want, "drift")), "{drift} {want}");
            assert!(close(worst, get(want, "worst")), "{worst} {want}");
            assert!(close(reads, get(want, "reads")), "{reads} {want}");
            assert_eq!(round_rows, get::<u64>(want, "opened_rows"));
        }
    }
}

/// Rows sorted by stratum in parts, some of them not planned: the worst that files can be.
fn stored(rows: u64, strata: u32, seed: u64) -> Strata {
    let stratum = |row: u64| {
        let of_part = key(seed, &[row / 97, 1]) % u64::from(strata);
        let any = (f64::from(strata) * uniform(key(seed, &[row, 2])).powi(2)) as i64;
        match key(seed, &[row, 3]) % 10 {
            0 => -1,
            1..5 => any,
            _ => of_part as i64,
        }
    };
    Strata((0..rows).map(stratum).collect())
}

/// Strata that are read in one thread alone.
struct InThread(Strata, std::thread::ThreadId);

impl RowStrata for InThread {
    fn read(&self, first: u64, into: &mut [u32]) {
        assert_eq!(std::thread::current().id(), self.1, "a thread was started");
        self.0.read(first, into);
    }
}

/// A process that deals batches may fork: what it has of threads would be missing in the other, which would wait for them.
#[test]
fn batches_are_dealt_in_the_calling_thread() {
    let strata = stored(3000, 10, 4);
    let (first, sizes) = units_of(&[(0, 3000)], 100, &[]);
    let units = units::count(&first, &sizes, &[0; 10], &strata);
    let here = InThread(strata, std::thread::current().id());
    let order = LocalOrder { units: &units, strata: &here, streams: 8, window: 1 };
    let deal = LocalDeal::new(order, 10, 16, 1, 0, &[], false);
    let mut batch = Batch::default();
    assert!(deal.rounds().number() > 2);
    deal.run(0..deal.batches(1), 1, &mut batch);
    assert_eq!(batch.rows.len(), units.planned.iter().sum::<u32>() as usize);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every row once, B/S rows of each stream, each stratum and each prefix of the tour within 1 of its round's share, the
    /// rest batch included, and a rank's part of a batch is of its own streams.
    #[test]
    fn the_promises(
        rows in 1u64..4000,
        strata in 1u32..40,
        unit_rows in 1u64..300,
        streams in prop_oneof![Just(1u64), Just(2), Just(4), Just(6), Just(8)],
        share in 1u64..9,
        window in 1u64..5,
        seed: u64,
        drop_last: bool,
    ) {
        let of = stored(rows, strata, seed);
        let groups: Vec<(u64, u64)> = (0..rows).step_by(211).map(|row| (row, 211.min(rows - row))).collect();
        let (first, sizes) = units_of(&groups, unit_rows, &[]);
        let group: Vec<u32> = (0..strata).map(|h| h / 3).collect();
        let units = units::count(&first, &sizes, &group, &of);
        let base = streams * share;
        let order = LocalOrder { units: &units, strata: &of, streams, window };
        let deal = LocalDeal::new(order, strata as usize, base, seed, 3, &[], drop_last);
        let planned = of.0.iter().filter(|&&h| h >= 0).count() as u64;
        let rest = planned % base;
        prop_assert_eq!(deal.batches(1), planned / base + u64::from(rest > 0 && !drop_last));
        let mut shares = vec![0.0; strata as usize];
        of.0.iter().filter(|&&h| h >= 0).for_each(|&h| shares[h as usize] += 1.0 / planned as f64);
        let mut worst_part = 0.0;
        let (mut batch, mut alone) = (Batch::default(), Batch::default());
        let mut seen = vec![0u8; rows as usize];
        let slack = 1.0 + streams as f64 / f64::from(1 << 24);
        for round in 0..deal.rounds().number() {
            let from = deal.rounds().starts[round];
            let last = round + 1 == deal.rounds().number();
            let to = if last { deal.batches(1) } else { deal.rounds().starts[round + 1] };
            // Rows by batch, stream, stratum.
            let mut tables: Vec<Vec<Vec<f64>>> = Vec::new();
            for b in from..to {
                deal.run(b..b + 1, 1, &mut batch);
                let len = batch.rows.len() as u64;
                prop_assert_eq!(len, if b < planned / base { base } else { rest });
                let cut = |stream: u64| (len * stream / streams) as usize;
                let of_batch = batch.strata();
                let mut table = Vec::new();
                for stream in 0..streams {
                    let part = cut(stream)..cut(stream + 1);
                    let own = deal.rounds().pieces(stream as usize, round);
                    let mut hist = vec![0.0; strata as usize];
                    for (&row, &h) in batch.rows[part.clone()].iter().zip(&of_batch[part.clone()]) {
                        seen[row as usize] += 1;
                        hist[h as usize] += 1.0;
                        prop_assert_eq!(of.0[row as usize], i64::from(h));
                        let unit = first.partition_point(|&f| f <= row) as u32 - 1;
                        prop_assert!(own.iter().any(|p| units.number[p.unit as usize] == unit));
                    }
                    if !part.is_empty() {
                        deal.run_of(stream as usize..stream as usize + 1, b..b + 1, 1, &mut alone);
                        prop_assert_eq!(&alone.rows[..], &batch.rows[part]);
                    }
                    table.push(hist);
                }
                tables.push(table);
            }
            for (table, s) in tables.iter().take(deal.rounds().batches(round) as usize).flat_map(|t| (0..streams as usize).map(move |s| (t, s))) {
                for (n, p) in table[s].iter().zip(&shares) {
                    worst_part = f64::max(worst_part, (n - share as f64 * p).abs());
                }
            }
            let full = tables.len().min(deal.rounds().batches(round) as usize);
            let cell = |tables: &[Vec<Vec<f64>>], s: usize, h: usize| tables.iter().map(|t| t[s][h]).sum::<f64>();
            let size = |t: &[Vec<f64>], s: usize| t[s].iter().sum::<f64>();
            for (i, table) in tables.iter().enumerate() {
                let (all, among) = if i < full { (&tables[..full], full as f64) } else { (&tables[..], 0.0) };
                let mut prefix = 0.0;
                for h in 0..strata as usize {
                    let mut off = 0.0;
                    for s in 0..streams as usize {
                        // A full batch has its share of all full ones, the rest batch of the whole round.
                        let total: f64 = all.iter().map(|t| size(t, s)).sum();
                        let part = if i < full { 1.0 / among } else { size(table, s) / total.max(1.0) };
                        let d = table[s][h] - cell(all, s, h) * part;
                        prop_assert!(d.abs() < slack, "stratum {h} of stream {s}: {d}");
                        off += d;
                    }
                    prefix += off;
                    prop_assert!(off.abs() < slack + 1e-9, "stratum {h}: {off}");
                    prop_assert!(prefix.abs() < slack + 1e-9, "the tour up to stratum {h}: {prefix}");
                }
            }
        }
        prop_assert!((deal.evenness(&group, streams as usize).worst_slice - worst_part).abs() < 1e-9 || streams == 1);
        for (row, &n) in seen.iter().enumerate() {
            prop_assert!(u64::from(n) <= 1 && (drop_last || u64::from(n) == u64::from(of.0[row] >= 0)), "row {row}: {n}");
        }
        prop_assert_eq!(seen.iter().map(|&n| u64::from(n)).sum::<u64>(), if drop_last { planned - rest } else { planned });
    }
}
