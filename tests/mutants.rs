//! What the fuzzers have found, and 2 000 mutants of it, on stable Rust: the same every time. Longer runs: fuzz/README.md.

use std::path::Path;

use batchwright::kit::rng;

use crate::targets::ALL;

/// In all; `BATCHWRIGHT_MUTANTS` has another number for longer runs, the first of which are these.
const MUTANTS: u64 = 2000;

/// The inputs of a target in order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{name} has no corpus");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// `bytes` changed in one to four places: a bit, a byte, a number, a piece left out, doubled, or taken from `other`.
fn mutant(bytes: &[u8], other: &[u8], seed: u64) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut drawn = 0;
    let mut draw = |below: usize| {
        drawn += 1;
        (rng::key(seed, &[drawn]) % below.max(1) as u64) as usize
    };
    for _ in 0..1 + draw(4) {
        let at = draw(out.len());
        let length = 1 + draw(16);
        let end = (at + length).min(out.len());
        match draw(7) {
            _ if out.is_empty() => out.extend(other),
            0 => out[at] ^= 1 << draw(8),
            1 => out[at] = [0, 1, 0x7f, 0x80, 0xff][draw(5)],
            2 => out[at] = draw(256) as u8,
            3 => drop(out.drain(at..end)),
            4 => {
                let piece = out[at..end].to_vec();
                out.splice(at..at, piece);
            }
            5 => {
                let number = [-1i64, i64::MAX, i64::from(i32::MAX), 1 << 28, 0][draw(5)].to_le_bytes();
                let end = (at + [1, 4, 8][draw(3)]).min(out.len());
                out[at..end].copy_from_slice(&number[..end - at]);
            }
            _ => {
                let from = draw(other.len());
                let piece = other[from..(from + length).min(other.len())].to_vec();
                out.splice(at..end, piece);
            }
        }
    }
    out
}

#[test]
fn what_was_found_is_mended() {
    batchwright::kit::guard::quiet();
    for (name, target) in ALL {
        for bytes in corpus(name) {
            target(&bytes);
        }
    }
}

#[test]
fn mutants_come_back() {
    batchwright::kit::guard::quiet();
    let more = std::env::var_os("BATCHWRIGHT_MUTANTS").and_then(|n| n.to_str()?.parse().ok());
    let each = more.unwrap_or(MUTANTS) / ALL.len() as u64;
    for (t, (name, target)) in ALL.iter().enumerate() {
        let corpus = corpus(name);
        for i in 0..each {
            let seed = rng::key(t as u64, &[i]);
            let pick = |word| &corpus[(rng::key(seed, &[word]) % corpus.len() as u64) as usize];
            let bytes = mutant(pick(u64::MAX), pick(u64::MAX - 1), seed);
            // A panic tells which it was.
            let about = format!("{name}, mutant {i}, {} bytes", bytes.len());
            let done = std::panic::catch_unwind(|| target(&bytes));
            assert!(done.is_ok(), "{about}: {bytes:02x?}");
        }
    }
}
