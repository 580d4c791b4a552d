//! What is fuzzed: a function for each kind of input, which must come back without a panic whatever the bytes are.
//! `fuzz/fuzz_targets/` runs them under libFuzzer, `tests/mutants.rs` with a fixed set of inputs in the ordinary tests.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arrow_buffer::Buffer;
use batchwright::config::{Layer, Origin, Settings, leaves};
use batchwright::format::manifest::Manifest;
use batchwright::format::*;
use batchwright::kit::progress::Progress;
use batchwright::parts::Local;
use batchwright::source::{Columns, Dataset, Kind as ColumnKind};

use super::craft;

/// A kind of input; its corpus is `fuzz/corpus/NAME`.
pub type Target = (&'static str, fn(&[u8]));

pub const ALL: &[Target] = &[
    ("footer", footer),
    ("pages", pages),
    ("table", table),
    ("manifest", manifest),
    ("config", config),
    #[cfg(feature = "polars")]
    ("filter", filter),
];

/// Rows that are read of a file: it may promise more than there is time for.
const ROWS: u64 = 4096;

fn engine() -> &'static Local {
    static ENGINE: OnceLock<Local> = OnceLock::new();
    ENGINE.get_or_init(|| Local::new(1, Progress::default()).expect("one thread"))
}

/// A file with these bytes, and its removal.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Scratch {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let thread = std::thread::current().id();
        let path = dir.join(format!("batchwright-{name}-{}-{thread:?}.parquet", std::process::id()));
        std::fs::write(&path, bytes).expect("room for one file");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Reads what there is in a Parquet file. Damage is an error, which is as good as an answer.
fn read(bytes: &[u8]) {
    let file = Scratch::new("fuzz", bytes);
    // As with `--memory 256MiB`, so that what is refused is refused by its size and not by the fuzzer.
    let Ok(dataset) = Dataset::open_within(&[file.0.display().to_string()], 256 << 20, &Progress::default())
    else {
        return;
    };
    let rows: Vec<u64> = (0..dataset.rows().min(ROWS)).collect();
    let some: Vec<u64> = rows.iter().copied().filter(|row| row % 7 == 3).collect();
    let mut names = Vec::new();
    for column in dataset.columns() {
        let name = column.name.clone();
        names.push(name.clone());
        let (vectors, table) = match column.kind {
            // What is wider than this is a matter of memory, which a plan forecasts.
            ColumnKind::Vector { dims } if dims as u64 * rows.len() as u64 > 1 << 20 => continue,
            ColumnKind::Vector { .. } => (vec![name], vec![]),
            ColumnKind::Other => continue,
            _ => (vec![], vec![name]),
        };
        let Ok(columns) = Columns::new(&dataset, vectors, table) else { continue };
        for rows in [&rows, &some] {
            if let Ok(found) = columns.gather(rows, engine()) {
                assert_eq!(found.rows.len(), rows.len());
            }
        }
    }
    for group in 0..dataset.row_groups().len().min(8) {
        let _ = dataset.fingerprint(group, &names);
    }
}

/// A whole Parquet file.
pub fn footer(bytes: &[u8]) {
    read(bytes);
}

/// The pages of one column; the first bytes choose its type, codec and counts, and its footer fits.
pub fn pages(bytes: &[u8]) {
    if let Some(file) = craft::column(bytes) {
        read(&file);
    }
}

/// A table of a plan; the first byte chooses which.
pub fn table(bytes: &[u8]) {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    let kind = Kind::ALL[usize::from(kind) % Kind::ALL.len()];
    let _ = read_bytes(bytes, Path::new("table.arrow"), kind);
}

/// plan.json.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(manifest) = Manifest::from_json(text, Path::new("plan.json")) {
        let _ = manifest.to_json();
        let _ = manifest.id();
    }
}

/// A config file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(tree) = toml::from_str::<serde_json::Value>(text) else { return };
    let origin = Origin::File("batchwright.toml".into(), 1);
    let layer: Layer = leaves(&tree).into_iter().map(|(k, v)| (k, (v, origin.clone()))).collect();
    let _ = Settings::new(&[layer]);
}

/// A row filter.
#[cfg(feature = "polars")]
pub fn filter(bytes: &[u8]) {
    static DATASET: OnceLock<Dataset> = OnceLock::new();
    let dataset = DATASET.get_or_init(|| {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/mixed.parquet")
            .replace("/fuzz/fixtures", "/fixtures");
        Dataset::open(&[file]).expect("a fixture")
    });
    if let Ok(sql) = std::str::from_utf8(bytes) {
        let _ = dataset.select(sql, engine());
    }
}

/// Reads all there is in a table of this kind.
pub fn read_table(table: TableReader, kind: Kind) -> batchwright::Result<()> {
    for i in 0..table.batches() {
        table.batch(i)?;
    }
    match kind {
        Kind::Sources => sources::decode(&table).map(drop),
        Kind::Modalities => modalities::decode(&table).map(drop),
        Kind::Features => features::decode(&table).map(drop),
        Kind::Projection => projection::decode(&table).map(drop),
        Kind::Prototypes => prototypes::decode(&table).map(drop),
        Kind::Samples => {
            let samples = samples::Samples::decode(&table)?;
            assert!((0..samples.rows()).filter_map(|r| samples.get(r)).count() as u64 <= table.rows());
            Ok(())
        }
        Kind::Groups => groups::decode(&table).map(drop),
        Kind::Holdout => holdout::decode(&table).map(drop),
        Kind::Splits => splits::Splits::decode(&table).map(drop),
        Kind::Units => {
            let (units, _) = units::decode(&table)?;
            let rows: u64 = (0..units.len()).flat_map(|u| units.cells(u)).map(|(_, n)| u64::from(n)).sum();
            assert!(rows <= units.rows.iter().map(|&n| u64::from(n)).sum());
            Ok(())
        }
        Kind::Strata => {
            let members = strata::Members::decode(&table)?;
            let all: usize = (0..members.strata()).map(|h| members.stratum(h).iter().count()).sum();
            assert_eq!(all as u64, table.rows());
            Ok(())
        }
        Kind::Batches => {
            let batches = batches::Batches::decode(&table)?;
            assert!(batches.iter().all(|b| b.centrality.is_none_or(|c| c.len() == b.rows.iter().count())));
            Ok(())
        }
        Kind::Weights => weights::decode(&table).map(drop),
        Kind::Statistics => statistics::decode(&table).map(drop),
        Kind::Reference => reference::decode(&table).map(drop),
        Kind::Profile => profile::decode(&table).map(drop),
        Kind::Sample => sample::decode(&table).map(drop),
        Kind::Curve | Kind::Evidence => evidence::decode(&table).map(drop),
    }
}

/// In memory: thousands of variants in a second.
pub fn read_bytes(bytes: &[u8], path: &Path, kind: Kind) -> batchwright::Result<()> {
    read_table(TableReader::from_buffer(Buffer::from(bytes), kind, path)?, kind)
}
