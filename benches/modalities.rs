//! How well the estimators count: all of them on all datasets given, several seeds each.
//!
//! ```sh
//! cargo bench --locked --no-default-features --features cli --bench modalities -- --data ../shared/data
//! ```
//!
//! Prints one line per dataset, estimator and seed (tab-separated: M, true M, |log2(M / true)|, NMI, ARI, seconds of the
//! fit, rows of the sample), then averages per estimator. A dataset is a Parquet file with a vector column `embedding` and
//! class columns whose names begin with `label`; of several labellings the nearest counts. `--synthetic` adds mixtures
//! with a known number of modes, `--one` data with a single mode. Other flags: `--seeds N` (5), `--estimators A,B`,
//! `--only TEXT` (datasets whose name contains it), `--resolution N` (10000), `--threads N`.

#[path = "modalities/data.rs"]
mod data;
#[path = "modalities/agreement.rs"]
mod agreement;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use batchwright::modalities::sample::plan_sample;
use batchwright::modalities::{EstimatorSpec, Params};
use batchwright::progress::Progress;
use data::Data;

struct Args {
    data: Option<PathBuf>,
    seeds: u64,
    estimators: Vec<EstimatorSpec>,
    only: String,
    resolution: u32,
    synthetic: bool,
    one: bool,
}

fn usage(problem: &str) -> ! {
    eprintln!("{problem}; the flags are in the first lines of benches/modalities.rs");
    std::process::exit(2)
}

fn arguments() -> Args {
    let counting = EstimatorSpec::ALL.into_iter().filter(|e| e.counts());
    let mut args = Args {
        data: None,
        seeds: 5,
        estimators: counting.collect(),
        only: String::new(),
        resolution: 10_000,
        synthetic: false,
        one: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| usage(&format!("{flag} needs a value")));
        match flag.as_str() {
            "--data" => args.data = Some(value().into()),
            "--seeds" => args.seeds = value().parse().unwrap_or_else(|_| usage("--seeds takes a number")),
            "--estimators" => {
                let named = EstimatorSpec::named;
                let list = value();
                args.estimators = list
                    .split(',')
                    .map(|name| named(name).unwrap_or_else(|| usage(&format!("no estimator `{name}`"))))
                    .collect();
            }
            "--only" => args.only = value(),
            "--resolution" => {
                args.resolution = value().parse().unwrap_or_else(|_| usage("--resolution takes a number"));
            }
            "--threads" => {
                let threads = value().parse().unwrap_or_else(|_| usage("--threads takes a number"));
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build_global()
                    .expect("the pool is set up once");
            }
            "--synthetic" => args.synthetic = true,
            "--one" => args.one = true,
            // cargo's own.
            "--bench" => {}
            other => usage(&format!("unknown flag `{other}`")),
        }
    }
    args
}

/// Of one estimator on one dataset.
#[derive(Default)]
struct Runs {
    counts: Vec<usize>,
    errors: Vec<f64>,
    nmi: Vec<f64>,
    ari: Vec<f64>,
    inside: usize,
    seconds: f64,
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn main() {
    let args = arguments();
    let mut sets: Vec<Data> = args.data.iter().flat_map(|dir| data::files(dir)).collect();
    if args.synthetic {
        sets.extend(data::mixtures());
    }
    if args.one {
        sets.extend(data::one_mode());
    }
    sets.retain(|d| d.name.contains(&args.only));
    if sets.is_empty() {
        usage("no dataset: give --data DIR, --synthetic or --one");
    }
    println!(
        "dataset\testimator\tseed\tM\ttrue\tlog2\tNMI\tARI\tlow\thigh\tconfidence\tseconds\tsample\tdetails"
    );
    let mut all: BTreeMap<(String, String), Runs> = BTreeMap::new();
    for set in &sets {
        let (points, labellings) = set.load();
        for seed in 0..args.seeds {
            let mut sample =
                plan_sample(points.rows() as u64, points.rows() as u64, |_| true, args.resolution, seed);
            sample.points = points.gather(sample.rows.iter().map(|&r| r as usize));
            let truths: Vec<Vec<u32>> =
                labellings.iter().map(|l| sample.rows.iter().map(|&r| l[r as usize]).collect()).collect();
            for &spec in &args.estimators {
                let params = Params { estimator: spec, resolution: args.resolution, ..Params::default() };
                let start = Instant::now();
                let fit = spec
                    .build(&params, None)
                    .and_then(|estimator| estimator.fit(&sample, seed, &Progress::default()))
                    .unwrap_or_else(|e| usage(&format!("{} on {}: {e}", spec.name(), set.name)));
                let seconds = start.elapsed().as_secs_f64();
                let m = fit.kind.len();
                if std::env::var_os("DUMP").is_some() {
                    for c in &fit.evidence {
                        eprintln!("{} {seed} k={} {} {:.3}", set.name, c.k, c.criterion, c.value);
                    }
                }
                let scores = truths.iter().map(|t| agreement::Score::of(m, &fit.labels, t));
                let best = scores.reduce(agreement::Score::better).unwrap_or_default();
                println!(
                    "{}\t{}\t{seed}\t{m}\t{}\t{:.3}\t{:.3}\t{:.3}\t{}\t{}\t{:.3}\t{seconds:.2}\t{}\t{}",
                    set.name,
                    spec.name(),
                    best.classes,
                    best.log2,
                    best.nmi,
                    best.ari,
                    fit.interval.0,
                    fit.interval.1,
                    fit.confidence,
                    sample.rows.len(),
                    serde_json::Value::Object(fit.details.clone()),
                );
                let runs = all.entry((spec.name().into(), set.name.clone())).or_default();
                runs.counts.push(m);
                runs.errors.push(best.log2);
                runs.nmi.push(best.nmi);
                runs.ari.push(best.ari);
                runs.inside +=
                    usize::from((fit.interval.0..=fit.interval.1).contains(&(best.classes as u32)));
                runs.seconds += seconds;
            }
        }
    }
    summary(&args, &sets, &all);
}

/// Per dataset and estimator: M of every seed; then the averages. The spread is the standard deviation of log2 M over
/// the seeds, averaged over the datasets.
fn summary(args: &Args, sets: &[Data], all: &BTreeMap<(String, String), Runs>) {
    println!();
    println!("estimator\tdataset\tM of the seeds\tlog2\tNMI\tARI\tspread\tinside");
    for spec in &args.estimators {
        let name = spec.name().to_string();
        let mut totals: Vec<[f64; 4]> = Vec::new();
        let (mut inside, mut runs_all, mut seconds) = (0, 0, 0.0);
        for set in sets {
            let Some(runs) = all.get(&(name.clone(), set.name.clone())) else { continue };
            let logs: Vec<f64> = runs.counts.iter().map(|&m| (m as f64).log2()).collect();
            let spread = mean(&logs.iter().map(|l| (l - mean(&logs)).powi(2)).collect::<Vec<_>>()).sqrt();
            let row = [mean(&runs.errors), mean(&runs.nmi), mean(&runs.ari), spread];
            println!(
                "{name}\t{}\t{:?}\t{:.2}\t{:.3}\t{:.3}\t{:.2}\t{}/{}",
                set.name,
                runs.counts,
                row[0],
                row[1],
                row[2],
                row[3],
                runs.inside,
                runs.counts.len()
            );
            seconds += runs.seconds;
            if set.counts {
                totals.push(row);
                inside += runs.inside;
                runs_all += runs.counts.len();
            }
        }
        let average = |j: usize| mean(&totals.iter().map(|row| row[j]).collect::<Vec<_>>());
        println!(
            "{name}\taverage of {}\t\t{:.3}\t{:.3}\t{:.3}\t{:.3}\t{inside}/{runs_all}\t{seconds:.1} s\n",
            totals.len(),
            average(0),
            average(1),
            average(2),
            average(3)
        );
    }
}
