//! Trains the network of `--estimator pretrained` from nothing:
//!
//! ```sh
//! cargo run --release --locked --no-default-features --example pretrain
//! ```
//!
//! Makes synthetic samples (cases.rs), looks at each as the estimator does, trains (train.rs) on nine tenths of them,
//! prints the error on the last tenth by family, and writes src/modalities/estimators/pretrained/weights.bin. The same
//! flags give the same bytes on any number of threads. Flags: `--cases N`, `--rows N` (most rows of a case), `--epochs N`,
//! `--members N`, `--seed N`, `--threads N`, `--out FILE`, `--tables FILE` (keeps the tables there, and takes those that
//! are there already: then only the training is done again).

mod cases;
mod train;
#[path = "../../benches/modalities/agreement.rs"]
mod agreement;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use batchwright::kit::progress::Progress;
use batchwright::kit::rng::key;
use batchwright::modalities::Sample;
use batchwright::modalities::estimators::grid::{FEWEST, distinct};
use batchwright::modalities::estimators::pretrained::network::{Input, Network};
use batchwright::modalities::estimators::pretrained::table::{CELL, Table, WHOLE};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

struct Args {
    cases: u64,
    rows: usize,
    epochs: usize,
    members: usize,
    seed: u64,
    out: PathBuf,
    tables: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Self {
        Args {
            cases: 1540,
            rows: 3000,
            epochs: 20,
            members: 3,
            seed: 1,
            out: "src/modalities/estimators/pretrained/weights.bin".into(),
            tables: None,
        }
    }
}

fn arguments() -> Args {
    let mut args = Args::default();
    let usage = |problem: String| -> ! {
        eprintln!("{problem}; the flags are in the first lines of examples/pretrain/main.rs");
        std::process::exit(2)
    };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().unwrap_or_else(|| usage(format!("{flag} needs a value")));
        let number = || value.parse().unwrap_or_else(|_| usage(format!("{flag} takes a number")));
        match flag.as_str() {
            "--cases" => args.cases = number(),
            "--rows" => args.rows = number() as usize,
            "--epochs" => args.epochs = number() as usize,
            "--members" => args.members = number() as usize,
            "--seed" => args.seed = number(),
            "--threads" => rayon::ThreadPoolBuilder::new()
                .num_threads(number() as usize)
                .build_global()
                .expect("the pool is set up once"),
            "--out" => args.out = value.into(),
            "--tables" => args.tables = Some(value.into()),
            other => usage(format!("unknown flag `{other}`")),
        }
    }
    args
}

/// What is known of a cell.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Known {
    modes: u32,
    /// Mean of NMI and ARI with the truth.
    agreement: f32,
    /// |log2(modes / classes)|.
    log2: f32,
}

/// A case, looked at.
#[derive(Serialize, Deserialize)]
struct Looked {
    index: u64,
    family: String,
    story: String,
    classes: u32,
    whole: Vec<f32>,
    known: Vec<Known>,
    /// In a file the numbers follow as they are: some are NaN.
    #[serde(skip)]
    numbers: Vec<f32>,
}

impl Looked {
    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")?;
        self.numbers.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))
    }

    /// None at the end.
    fn read(from: &mut impl BufRead) -> std::io::Result<Option<Looked>> {
        let mut line = Vec::new();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let mut case: Looked = serde_json::from_slice(&line)?;
        let mut bytes = vec![0; 4 * CELL.len() * case.known.len()];
        from.read_exact(&mut bytes)?;
        case.numbers = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Ok(Some(case))
    }
}

/// Rows, about, on which a cell is compared with the truth.
const COMPARED: usize = 2000;
/// What the logarithm's error weighs beside the agreement.
const LOG2: f32 = 0.2;

fn look(seed: u64, index: u64, most: usize) -> Option<Looked> {
    let case = cases::case(seed, index, most);
    let n = case.points.rows() as u32;
    let mut sample =
        Sample { rows: (0..u64::from(n)).collect(), points: case.points, blocks: vec![(0..n).collect()] };
    let block = distinct(&sample.points, &sample.blocks[0]);
    if block.len() < 4 * FEWEST {
        return None;
    }
    // As many halvings as a dataset of this size could get, or fewer.
    let halvings = 1 + (key(seed, &[index, 1 << 50]) % 5) as usize;
    let blocks = vec![block.clone(); halvings];
    sample.blocks = vec![sample.blocks[0].clone(); halvings];
    let clean: Vec<Vec<usize>> = case
        .truths
        .iter()
        .map(|t| (0..block.len()).filter(|&i| t[block[i] as usize] != cases::NOISE).collect())
        .collect();
    let compared: Vec<Vec<usize>> = clean
        .iter()
        .map(|rows| rows.iter().copied().step_by(rows.len().div_ceil(COMPARED)).collect())
        .collect();
    let mut known = Vec::new();
    let mut classes = 0;
    let mut each = |_: usize, _: usize, labels: &[u32]| {
        let mut distinct = labels.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let of = |(truth, rows): (&Vec<u32>, &Vec<usize>)| {
            let found: Vec<u32> = rows.iter().map(|&i| labels[i]).collect();
            let truth: Vec<u32> = rows.iter().map(|&i| truth[block[i] as usize]).collect();
            agreement::Score::of(distinct.len(), &found, &truth)
        };
        let score = case.truths.iter().zip(&compared).map(of).reduce(agreement::Score::better);
        let score = score.expect("a case has a truth");
        classes = score.classes as u32;
        known.push(Known {
            modes: distinct.len() as u32,
            agreement: ((score.nmi + score.ari) / 2.0).max(0.0) as f32,
            log2: score.log2 as f32,
        });
    };
    let table = Table::new(&sample, &blocks, seed ^ index, &Progress::default(), &mut each).ok()?;
    // Of nested classes, the number of the coarse ones stands for all.
    if let [truth] = case.truths.as_slice() {
        let mut all: Vec<u32> = truth.iter().copied().filter(|&l| l != cases::NOISE).collect();
        all.sort_unstable();
        all.dedup();
        classes = all.len() as u32;
    }
    Some(Looked {
        index,
        family: case.family.into(),
        story: case.story,
        classes,
        whole: table.whole.to_vec(),
        known,
        numbers: table.numbers,
    })
}

/// The cases, from the tables' file as far as it goes, then made and added to it.
fn looked(args: &Args) -> Vec<Looked> {
    const AT_ONCE: u64 = 50;
    let fail = |what: &str, e: std::io::Error| -> ! { panic!("cannot {what} the tables' file: {e}") };
    let mut all: Vec<Looked> = Vec::new();
    let mut file = None;
    if let Some(path) = &args.tables {
        let options = File::options().read(true).append(true).create(true).open(path);
        let mut from = BufReader::new(options.unwrap_or_else(|e| fail("open", e)));
        while let Some(case) = Looked::read(&mut from).unwrap_or_else(|e| fail("read", e)) {
            all.push(case);
        }
        file = Some(from.into_inner());
    }
    let start = Instant::now();
    let done = all.last().map_or(0, |case| case.index + 1);
    for from in (done..args.cases).step_by(AT_ONCE as usize) {
        let some: Vec<Option<Looked>> = (from..args.cases.min(from + AT_ONCE))
            .into_par_iter()
            .map(|index| look(args.seed, index, args.rows))
            .collect();
        let some: Vec<Looked> = some.into_iter().flatten().collect();
        if let Some(file) = &mut file {
            let mut out = BufWriter::new(file);
            let written = some.iter().try_for_each(|case| case.write(&mut out)).and_then(|()| out.flush());
            written.unwrap_or_else(|e| fail("write", e));
        }
        all.extend(some);
        eprintln!("{} cases, {:.0} s", all.len(), start.elapsed().as_secs_f64());
    }
    all.retain(|case| case.index < args.cases);
    all
}

fn utility(known: &Known) -> f32 {
    known.agreement - LOG2 * known.log2.min(3.0)
}

/// Of an answer "one mode".
fn one(classes: u32) -> Known {
    let agreement = if classes == 1 { 1.0 } else { 0.0 };
    Known { modes: 1, agreement, log2: libm::log2f(classes as f32) }
}

fn input(network: &Network, case: &Looked) -> Input {
    network.standardise(&case.numbers, &case.whole, |c| case.known[c].modes >= 2)
}

/// The answers of the network, of the rules of `consensus` and `rim` on the same table, and the best one there is.
fn answers(network: &Network, case: &Looked) -> [Known; 4] {
    let input = input(network, case);
    let judged = network.judge(&input);
    let none = one(case.classes);
    let at = |name: &str| CELL.iter().position(|c| *c == name).expect("a number with this name");
    let by = |score: &dyn Fn(usize) -> f32| {
        let best = input.candidates.iter().copied().reduce(|a, b| if score(b) > score(a) { b } else { a });
        best.filter(|&c| score(c) > 0.0).map_or(none, |c| case.known[c])
    };
    let rule = |name: &str| by(&|c| case.numbers[c * CELL.len() + at(name)]);
    let chosen = if judged.one > 0.5 { none } else { by(&|c| judged.best[c] as f32) };
    let mut best = by(&|c| utility(&case.known[c]) + 10.0);
    if utility(&none) >= utility(&best) {
        best = none;
    }
    [chosen, rule("consensus"), rule("rim"), best]
}

fn report(network: &Network, cases: &[&Looked]) {
    let mut families: BTreeMap<&str, Vec<[Known; 4]>> = BTreeMap::new();
    let answered: Vec<[Known; 4]> = cases.par_iter().map(|case| answers(network, case)).collect();
    for (case, answers) in cases.iter().zip(&answered) {
        families.entry(&case.family).or_default().push(*answers);
    }
    println!(
        "family\tcases\tlog2: network\tconsensus\trim\tbest cell\tagreement: network\tconsensus\trim\tbest cell"
    );
    let line = |name: &str, of: &[[Known; 4]]| {
        let mean =
            |f: &dyn Fn(&Known) -> f32, j: usize| of.iter().map(|k| f(&k[j])).sum::<f32>() / of.len() as f32;
        let log2 = [0, 1, 2, 3].map(|j| format!("{:.3}", mean(&|k| k.log2, j))).join("\t");
        let agreement = [0, 1, 2, 3].map(|j| format!("{:.3}", mean(&|k| k.agreement, j))).join("\t");
        println!("{name}\t{}\t{log2}\t{agreement}", of.len());
    };
    for (family, of) in &families {
        line(family, of);
    }
    line("all", &answered);
}

/// Means and deviations of the numbers, and the cases as the trainer wants them.
fn lessons(cases: &[&Looked]) -> (Vec<(f32, f32)>, Vec<train::Example>) {
    let cells = cases.iter().flat_map(|c| c.numbers.chunks_exact(CELL.len()));
    let mut scale = train::scale(CELL.len(), cells);
    scale.extend(train::scale(WHOLE.len(), cases.iter().map(|c| c.whole.as_slice())));
    let blank = Network { scale: scale.clone(), members: Vec::new() };
    let lesson = |case: &&Looked| {
        let input = input(&blank, case);
        let known = || input.candidates.iter().map(|&c| case.known[c]);
        let utility = std::iter::once(one(case.classes)).chain(known()).map(|k| utility(&k)).collect();
        let agreement = known().map(|k| k.agreement).collect();
        train::Example { input, utility, agreement }
    };
    (scale, cases.iter().map(lesson).collect())
}

fn main() {
    let args = arguments();
    let start = Instant::now();
    let cases = looked(&args);
    let made = start.elapsed().as_secs_f64();
    let (held, taught): (Vec<&Looked>, Vec<&Looked>) = cases.iter().partition(|c| c.index % 10 == 0);
    let (scale, examples) = lessons(&taught);
    let network = train::network(&examples, scale, args.epochs, args.members, args.seed);
    let bytes = network.to_bytes();
    std::fs::write(&args.out, &bytes).unwrap_or_else(|e| panic!("cannot write {}: {e}", args.out.display()));
    println!("cases taught: {}, held back: {} (below)", taught.len(), held.len());
    report(&network, &held);
    println!(
        "{:.0} s for the tables, {:.0} s for the training; {} bytes in {}, blake3 {}",
        made,
        start.elapsed().as_secs_f64() - made,
        bytes.len(),
        args.out.display(),
        blake3::hash(&bytes),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_training_learns_and_can_be_repeated() {
        let args = Args { cases: 14, rows: 300, ..Args::default() };
        let cases = looked(&args);
        assert!(cases.len() > 10);
        // Every cell was compared with the truth, and what is read back is what was written.
        assert!(cases.iter().all(|c| c.numbers.len() == CELL.len() * c.known.len()));
        let mut bytes = Vec::new();
        cases[0].write(&mut bytes).unwrap();
        let again = Looked::read(&mut bytes.as_slice()).unwrap().unwrap();
        let bits = |c: &Looked| c.numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!((bits(&again), &again.story), (bits(&cases[0]), &cases[0].story));

        let (scale, examples) = lessons(&cases.iter().collect::<Vec<_>>());
        let mut losses = Vec::new();
        let net = train::train(&examples, 40, 1, |_, loss| losses.push(loss));
        assert!(losses[39] < 0.8 * losses[0], "{losses:?}");
        let twice = [0, 1].map(|_| train::train(&examples, 2, 1, |_, _| {}));
        assert_eq!(twice[0], twice[1]);
        let network = Network { scale, members: vec![net] };
        assert_eq!(Network::from_bytes(&network.to_bytes()), Some(network));
    }

    #[test]
    fn a_case_is_what_its_key_says() {
        let (a, b) = (cases::case(1, 5, 2000), cases::case(1, 5, 2000));
        assert!(a.points == b.points && a.truths == b.truths && a.story == b.story);
        assert_ne!(cases::case(1, 6, 2000).points, a.points);
        for index in 0..15 {
            let case = cases::case(3, index, 1000);
            assert!(case.points.as_slice().iter().all(|x| x.is_finite()), "{}", case.story);
            assert!(case.truths.iter().all(|t| t.len() == case.points.rows()));
        }
    }
}
