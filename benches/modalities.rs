//! How well the estimators count: all of them on all datasets given, several seeds each.
//!
//! ```sh
//! cargo bench --locked --no-default-features --features cli,linfa --bench modalities -- --data "$BATCHWRIGHT_TEST_DATA"
//! ```
//!
//! Prints one line per dataset, resolution, seed and estimator (tab-separated: M, true M, |log2(M / true)|, NMI, ARI, the
//! interval, confidence, seconds of the fit, MiB the process held at most during it, rows of the sample, details), then
//! averages per estimator. A dataset is a Parquet file with a vector column `embedding` and class columns whose names begin
//! with `label`; of several labellings the nearest counts.
//!
//! In the place of `--data DIR`, or besides it: `--synthetic`, mixtures with a known number of modes (`--draw N`: others of
//! the same kind); `--one ROWS`, data with a single mode; `--rows A,B,..`, one mixture at several numbers of rows, of which only
//! the sample is made; `--coverage N`, N random mixtures, and how often the interval holds the true number. `--ablation` runs
//! the default estimator with and without each of its steps. Other flags: `--seeds N` (5), `--estimators A,B`, `--only TEXT`
//! (datasets whose name contains it), `--resolution A,B,..` (10000), `--threads N`.

#[path = "modalities/agreement.rs"]
mod agreement;
#[path = "modalities/data.rs"]
mod data;
#[path = "modalities/peak.rs"]
mod peak;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use batchwright::kit::progress::Progress;
use batchwright::modalities::estimators::consensus::{Consensus, Looked};
use batchwright::modalities::sample::plan_sample;
use batchwright::modalities::{EstimatorSpec, Fit, Params, Sample};
use data::Data;
use peak::Peak;

struct Args {
    data: Option<PathBuf>,
    seeds: u64,
    estimators: Vec<EstimatorSpec>,
    only: String,
    resolutions: Vec<u32>,
    synthetic: bool,
    draw: u64,
    one: usize,
    rows: Vec<u64>,
    coverage: u64,
    ablation: bool,
}

fn usage(problem: &str) -> ! {
    eprintln!("{problem}; the flags are in the first lines of benches/modalities.rs");
    std::process::exit(2)
}

fn numbers<T: FromStr>(flag: &str, text: &str) -> Vec<T> {
    let number =
        |part: &str| part.parse().unwrap_or_else(|_| usage(&format!("`{part}` of {flag} is no number")));
    text.split(',').map(number).collect()
}

fn arguments() -> Args {
    let mut args = Args {
        data: None,
        seeds: 5,
        estimators: EstimatorSpec::ALL.into_iter().filter(|e| e.counts()).collect(),
        only: String::new(),
        resolutions: vec![10_000],
        synthetic: false,
        draw: 11,
        one: 0,
        rows: Vec::new(),
        coverage: 0,
        ablation: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| usage(&format!("{flag} needs a value")));
        match flag.as_str() {
            "--data" => args.data = Some(value().into()),
            "--seeds" => args.seeds = numbers(&flag, &value())[0],
            "--estimators" => {
                let named = EstimatorSpec::named;
                let list = value();
                args.estimators = list
                    .split(',')
                    .map(|name| named(name).unwrap_or_else(|| usage(&format!("no estimator `{name}`"))))
                    .collect();
            }
            "--only" => args.only = value(),
            "--resolution" => args.resolutions = numbers(&flag, &value()),
            "--threads" => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(numbers(&flag, &value())[0]);
                pool.build_global().expect("the pool is set up once");
            }
            "--synthetic" => args.synthetic = true,
            "--draw" => args.draw = numbers(&flag, &value())[0],
            "--one" => args.one = numbers(&flag, &value())[0],
            "--rows" => args.rows = numbers(&flag, &value()),
            "--coverage" => args.coverage = numbers(&flag, &value())[0],
            "--ablation" => args.ablation = true,
            // cargo's own.
            "--bench" => {}
            other => usage(&format!("unknown flag `{other}`")),
        }
    }
    args
}

/// The default estimator, and without each of its steps.
fn ablation() -> Vec<(&'static str, Consensus)> {
    let all = Consensus::default();
    vec![
        ("all steps", all),
        ("neighbours of one side", Consensus { mutual: false, ..all }),
        ("no correction for chance", Consensus { chance: false, ..all }),
        ("R in place of trust", Consensus { trust: false, ..all }),
        ("one cell of one block", Consensus { medoid: false, ..all }),
        ("no finer view", Consensus { finer: false, ..all }),
        ("no look at pairs", Consensus { pairs: false, ..all }),
        ("no modes within modes", Consensus { within: false, ..all }),
        ("no communities", Consensus { communities: false, ..all }),
    ]
}

/// A fit and what it cost.
struct Run {
    name: String,
    fit: Fit,
    seconds: f64,
    mebibytes: f64,
}

fn timed(name: &str, fit: impl FnOnce() -> batchwright::kit::error::Result<Fit>) -> Run {
    let (peak, start) = (Peak::start(), Instant::now());
    let fit = fit().unwrap_or_else(|e| usage(&format!("{name}: {e}")));
    Run { name: name.into(), fit, seconds: start.elapsed().as_secs_f64(), mebibytes: peak.mebibytes() }
}

fn runs(args: &Args, sample: &Sample, resolution: u32, seed: u64) -> Vec<Run> {
    let progress = Progress::default();
    if args.ablation {
        // Looking is most of the work; variants that look alike share it, and the first pays.
        let mut looks: BTreeMap<(bool, bool), Looked> = BTreeMap::new();
        let run = |(name, how): (&str, Consensus)| {
            timed(name, || {
                let looked = match looks.entry((how.mutual, how.communities)) {
                    std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
                    std::collections::btree_map::Entry::Vacant(free) => {
                        free.insert(how.look(sample, seed, &progress)?)
                    }
                };
                how.read(looked, &progress)
            })
        };
        return ablation().into_iter().map(run).collect();
    }
    let run = |&spec: &EstimatorSpec| {
        let params = Params { estimator: spec, resolution, ..Params::default() };
        timed(spec.name(), || spec.build(&params, None)?.fit(sample, seed, &progress))
    };
    args.estimators.iter().map(run).collect()
}

/// Of one estimator on one dataset.
#[derive(Default)]
struct Runs {
    counts: Vec<usize>,
    errors: Vec<f64>,
    nmi: Vec<f64>,
    ari: Vec<f64>,
    inside: Vec<f64>,
    /// log2 of the interval's ends' ratio.
    width: Vec<f64>,
    seconds: Vec<f64>,
    mebibytes: f64,
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn main() {
    let args = arguments();
    let mut sets: Vec<Data> = args.data.iter().flat_map(|dir| data::files(dir)).collect();
    if args.synthetic {
        sets.extend(data::mixtures(args.draw));
    }
    if args.one > 0 {
        sets.extend(data::one_mode(args.one));
    }
    sets.extend(data::sizes(&args.rows));
    sets.extend(data::random(args.coverage, args.resolutions[0]));
    sets.retain(|d| d.name.contains(&args.only));
    if sets.is_empty() {
        usage("no dataset: give --data DIR, --synthetic, --one, --rows or --coverage");
    }
    println!(
        "dataset\testimator\tresolution\tseed\tM\ttrue\tlog2\tNMI\tARI\tlow\thigh\tconfidence\tseconds\tMiB\tsample\tdetails"
    );
    // By estimator, then dataset and resolution in their order.
    let mut all: BTreeMap<(String, usize, u32), Runs> = BTreeMap::new();
    for (at, set) in sets.iter().enumerate() {
        let opened = set.open();
        for (&resolution, seed) in args.resolutions.iter().flat_map(|r| (0..args.seeds).map(move |s| (r, s)))
        {
            let mut sample = plan_sample(opened.rows, opened.rows, |_| true, resolution, seed);
            let (points, truths) = opened.take(&sample.rows);
            sample.points = points;
            for Run { name, fit, seconds, mebibytes } in runs(&args, &sample, resolution, seed) {
                let m = fit.kind.len();
                let scores = truths.iter().map(|t| agreement::Score::of(m, &fit.labels, t));
                let best = scores.reduce(agreement::Score::better).unwrap_or_default();
                let (low, high) = fit.interval;
                println!(
                    "{}\t{name}\t{resolution}\t{seed}\t{m}\t{}\t{:.3}\t{:.3}\t{:.3}\t{low}\t{high}\t{:.3}\t{seconds:.2}\t{mebibytes:.0}\t{}\t{}",
                    set.name,
                    best.classes,
                    best.log2,
                    best.nmi,
                    best.ari,
                    fit.confidence,
                    sample.rows.len(),
                    serde_json::Value::Object(fit.details.clone()),
                );
                let runs = all.entry((name, at, resolution)).or_default();
                runs.counts.push(m);
                runs.errors.push(best.log2);
                runs.nmi.push(best.nmi);
                runs.ari.push(best.ari);
                runs.inside.push(f64::from(u8::from((low..=high).contains(&(best.classes as u32)))));
                runs.width.push((f64::from(high) / f64::from(low)).log2());
                runs.seconds.push(seconds);
                runs.mebibytes = runs.mebibytes.max(mebibytes);
            }
        }
    }
    summary(&args, &sets, &all);
}

/// Per estimator and dataset: M of every seed; then the averages. The spread is the standard deviation of log2 M over
/// the seeds, averaged over the datasets; `inside` the share of fits whose interval holds the number of classes.
fn summary(args: &Args, sets: &[Data], all: &BTreeMap<(String, usize, u32), Runs>) {
    let names: Vec<String> = if args.ablation {
        ablation().iter().map(|(name, _)| name.to_string()).collect()
    } else {
        args.estimators.iter().map(|spec| spec.name().into()).collect()
    };
    println!();
    println!("estimator\tdataset\tM of the seeds\tlog2\tNMI\tARI\tspread\tinside\twidth\tseconds\tMiB");
    for name in names {
        for &resolution in &args.resolutions {
            let mut totals: Vec<[f64; 7]> = Vec::new();
            let mut most = 0f64;
            for (at, set) in sets.iter().enumerate() {
                let Some(runs) = all.get(&(name.clone(), at, resolution)) else { continue };
                let logs: Vec<f64> = runs.counts.iter().map(|&m| (m as f64).log2()).collect();
                let spread = mean(&logs.iter().map(|l| (l - mean(&logs)).powi(2)).collect::<Vec<_>>()).sqrt();
                let row = [
                    mean(&runs.errors),
                    mean(&runs.nmi),
                    mean(&runs.ari),
                    spread,
                    mean(&runs.inside),
                    mean(&runs.width),
                    mean(&runs.seconds),
                ];
                print(&name, &set.name, &format!("{:?}", runs.counts), row, runs.mebibytes);
                if set.counts {
                    totals.push(row);
                    most = most.max(runs.mebibytes);
                }
            }
            let average = std::array::from_fn(|j| mean(&totals.iter().map(|row| row[j]).collect::<Vec<_>>()));
            print(&name, &format!("average of {} at {resolution}", totals.len()), "", average, most);
            println!();
        }
    }
}

fn print(name: &str, set: &str, counts: &str, row: [f64; 7], mebibytes: f64) {
    let [log2, nmi, ari, spread, inside, width, seconds] = row;
    println!(
        "{name}\t{set}\t{counts}\t{log2:.3}\t{nmi:.3}\t{ari:.3}\t{spread:.3}\t{inside:.2}\t{width:.2}\t{seconds:.2}\t{mebibytes:.0}"
    );
}
