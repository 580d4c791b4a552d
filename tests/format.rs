//! The promise of docs/format.md: every table comes back as it was written, its bytes depend on its content alone, other
//! languages can read it, and `schemas/` and the documentation say what the code does.
//!
//! `UPDATE_SCHEMAS=1 cargo nextest run schemas` writes `schemas/` and the tables of `docs/format.md` anew.

use std::collections::BTreeMap;
use std::path::Path;

use batchwright::format::batches::{BatchRecord, BatchesWriter};
use batchwright::format::dendrogram::Merge;
use batchwright::format::evidence::Criterion;
use batchwright::format::manifest::{
    Candidate, Estimator, Gain, GainKind, InputEntry, ModalityShare, Tool, canonical_json,
};
use batchwright::format::projection::Projection;
use batchwright::format::samples::SamplesWriter;
use batchwright::format::strata::StrataWriter;
use batchwright::format::*;
use batchwright::kernels::rows::RowIds;
use batchwright::kit::ids::{NONE, RowType};
use batchwright::kit::matrix::Matrix;
use batchwright::plan::*;

/// A small plan with one of every table: 5 rows (row 3 is not planned), 2 modalities, 2 strata.
pub fn write_plan(staging: &Staging) -> Manifest {
    let root = staging.path();
    let mut files = vec![
        sources::encode(&small_sources(), Some(0xabc)).write(root).unwrap(),
        modalities::encode(&small_modalities(), 3).write(root).unwrap(),
        features::encode(&small_features()).write(root).unwrap(),
        projection::encode(&small_projection()).write(root).unwrap(),
        prototypes::encode(&small_prototypes()).write(root).unwrap(),
        weights::encode(&small_knots(), "beta(u) = 1 - 2 u").write(root).unwrap(),
        statistics::encode(small_statistics().into_iter(), Some(&small_spread())).write(root).unwrap(),
        reference::encode(&small_reference()).write(root).unwrap(),
        profile::encode(&small_profile()).write(root).unwrap(),
        sample::encode(&small_sample(), RowType::U32).write(root).unwrap(),
        evidence::encode(Kind::Curve, &small_criteria()).write(root).unwrap(),
        evidence::encode(Kind::Evidence, &small_criteria()).write(root).unwrap(),
    ];
    let mut samples = SamplesWriter::create(root).unwrap();
    samples
        .push(
            &[0, 0, 1, NONE, 1],
            &[0, 0, 1, NONE, 1],
            &[0.5, 1.5, 2.0, 9.0, 1.0],
            &[0.75, 0.25, 0.25, 9.0, 0.75],
        )
        .unwrap();
    files.push(samples.finish().unwrap());
    let merge = Merge { left: 0, right: 1, height: 1.5, size: 2 };
    let mut strata = StrataWriter::create(root, RowType::U32, &[0, 2, 4], &[merge], None).unwrap();
    strata.push(RowIds::U64(&[0, 1, 2])).unwrap();
    strata.push(RowIds::U32(&[4])).unwrap();
    files.push(strata.finish().unwrap());
    let mut batches = BatchesWriter::create(root, 2, 0, RowType::U32, true, true).unwrap();
    for b in small_batches() {
        batches.push(&b).unwrap();
    }
    files.push(batches.finish().unwrap());
    Manifest {
        format: String::new(),
        tool: Tool::this(),
        plan: String::new(),
        rows: 5,
        rows_planned: 4,
        row_type: RowType::U32,
        dims: 3,
        modalities: 2,
        strata: 2,
        batch_size: 2,
        samples_per_modality: 1.0,
        coverage: 0.99,
        information_threshold: 8.0,
        modality_share: ModalityShare { value: 0.5, source: "default".into() },
        score_groups: vec![0, 1],
        epochs: 1,
        seed: 0,
        candidates: vec![Candidate {
            name: "2".into(),
            batch_size: 2,
            accumulation: 4,
            batches: batches::path_pattern(2),
        }],
        estimator: Estimator {
            name: "rim".into(),
            params: BTreeMap::from([("p".into(), 2.into())]),
            confidence: 0.5,
            interval: (2, 3),
        },
        gain: Some(Gain { value: 0.75, kind: GainKind::Label }),
        run_distance: None,
        left_out: None,
        repeats: None,
        schedule: None,
        splits: None,
        config: serde_json::json!({"weights": {"strength": 1.0}, "batches": {"drop_last": false, "allocation": "proportional"}}),
        files,
        inputs: vec![InputEntry {
            path: "a.parquet".into(),
            rows: 5,
            bytes: 100,
            fingerprint: "f".repeat(64),
        }],
        seal: None,
    }
}

fn small_sources() -> Vec<sources::Source> {
    let source = |row_group, first_row, rows, content| sources::Source {
        file: "a.parquet".into(),
        row_group,
        first_row,
        rows,
        bytes: 60,
        fingerprint: "0".repeat(64),
        content,
        sequence: None,
        ordered: Some([content as u8; 32]),
        types: Some([7; 32]),
    };
    vec![source(0, 0, 3, u128::MAX - 5), source(1, 3, 2, 7)]
}

fn small_modalities() -> Vec<modalities::Modality> {
    let modality = |name: &str, prominence| modalities::Modality {
        kind: "mode".into(),
        rows: 2,
        share: 0.5,
        center: vec![1.0, -2.0, 0.5],
        rms_radius: 1.25,
        distance_quantiles: std::array::from_fn(|i| i as f32),
        prominence,
        name: name.into(),
        distance_cells: (0..23).collect(),
    };
    vec![modality("cats", 3.5), modality("", 2.5)]
}

fn small_features() -> Vec<features::Feature> {
    let feature = |column: &str, operation: &str, category: Option<&str>| features::Feature {
        column: column.into(),
        operation: operation.into(),
        category: category.map(str::to_string),
        center: 0.5,
        scale: 2.0,
    };
    vec![
        feature("size", "standard", None),
        feature("kind", "one-hot", Some("b")),
        feature("kind", "one-hot", None),
    ]
}

fn small_projection() -> Projection {
    Projection { axes: Matrix::from_vec(2, 3, vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0]), offset: vec![0.5, -0.5] }
}

fn small_prototypes() -> prototypes::Prototypes {
    prototypes::Prototypes {
        modality: vec![0, 1, 1],
        stratum: vec![0, 1, 1],
        rows: vec![2, 1, 1],
        unseen_rows: vec![2, 0, 2],
        reach: vec![(0.5, 1.25), (1.0, 3.0)],
        reach_rows: Some(9),
        centers: Matrix::from_vec(3, 2, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
    }
}

fn small_knots() -> Vec<weights::Knot> {
    (0..101)
        .map(|i| weights::Knot {
            progress: i as f32 / 100.0,
            beta: 1.0 - i as f32 / 50.0,
            normaliser: 1.0,
            effective_share: 0.9,
        })
        .collect()
}

fn small_statistics() -> Vec<statistics::Statistic> {
    let statistic = |modality, index| statistics::Statistic {
        modality,
        column: "embedding".into(),
        index,
        count: 4,
        nulls: 0,
        mean: 0.1,
        variance: 2.0,
        min: -1.0,
        max: 1.0,
        quantiles: std::array::from_fn(|i| i as f64 / 10.0),
        cells: if modality.is_none() { (0..23).collect() } else { Vec::new() },
    };
    vec![statistic(None, 0), statistic(None, 1), statistic(Some(1), 0)]
}

fn small_spread() -> statistics::Spread {
    statistics::Spread { edges: vec![0.1, 1.0 / 3.0], rows: vec![1, 2, 3, 0, 1] }
}

fn small_reference() -> reference::Reference {
    reference::Reference {
        frequency: Matrix::from_vec(2, 2, vec![0.1, 0.2, 0.3, 0.4]),
        phase: vec![0.0, 3.0],
        mean: vec![0.25, -0.25],
        covariance: vec![1.0, 0.5, 0.5, 1.0],
    }
}

fn small_profile() -> Vec<profile::ProfileRow> {
    let row = |modality, value: &str| profile::ProfileRow {
        modality,
        column: "label".into(),
        value: value.into(),
        count: 2,
        share: 0.5,
        lift: 1.0,
        edges: if modality.is_none() { vec![0.5] } else { Vec::new() },
        cells: if modality.is_none() { vec![1, 0, 1] } else { Vec::new() },
    };
    vec![row(None, "cat"), row(Some(0), "täg"), row(Some(1), "")]
}

fn small_sample() -> Vec<sample::SampleRow> {
    let row = |row, id: Option<&str>| sample::SampleRow {
        row,
        modality: 0,
        x: 0.5,
        y: -0.5,
        id: id.map(str::to_string),
    };
    vec![row(0, Some("one")), row(4, None)]
}

fn small_criteria() -> Vec<Criterion> {
    vec![Criterion { k: 2, criterion: "p=32 k=64 tau=1.4 R".into(), value: 0.25 }]
}

fn small_batches() -> [BatchRecord<'static>; 2] {
    let first = BatchRecord {
        batch: 0,
        rows: &[0, 4],
        centrality: Some(&[0.75, 0.75]),
        loss_weight: Some(&[1.0, 1.5]),
        n_eff: 4.0,
        x: 0.0,
        score: 0.5,
        update: 0,
        coefficient: 0.5,
        ends_update: false,
    };
    let second = BatchRecord {
        batch: 1,
        rows: &[2, 1],
        centrality: Some(&[0.25, 0.25]),
        loss_weight: Some(&[0.5, 1.0]),
        x: 0.25,
        ends_update: true,
        ..first
    };
    [first, second]
}

/// `write_plan` in its place.
pub fn plan_at(out: &Path) -> Manifest {
    let staging = Staging::begin(out, true).unwrap();
    let manifest = write_plan(&staging);
    staging.commit(manifest, &RunInfo { threads: 2, ..RunInfo::default() }).unwrap()
}

#[test]
fn every_table_comes_back_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = plan_at(&dir.path().join("plan"));
    let plan = Plan::open(dir.path().join("plan")).unwrap();
    assert_eq!(*plan.manifest(), manifest);
    plan.verify().unwrap();
    assert_eq!(plan.sources().unwrap(), small_sources());
    assert_eq!(plan.content_key().unwrap(), Some(0xabc));
    assert_eq!(plan.modalities().unwrap(), small_modalities());
    assert_eq!(plan.features().unwrap().unwrap(), small_features());
    assert_eq!(plan.projection().unwrap().unwrap(), small_projection());
    assert_eq!(plan.prototypes().unwrap().unwrap(), small_prototypes());
    assert_eq!(plan.weights().unwrap(), small_knots());
    assert_eq!(plan.statistics().unwrap(), small_statistics());
    assert_eq!(plan.spread().unwrap(), Some(small_spread()));
    assert_eq!(plan.reference().unwrap().unwrap(), small_reference());
    assert_eq!(plan.profile().unwrap().unwrap(), small_profile());
    assert_eq!(plan.sample().unwrap().unwrap(), small_sample());
    assert_eq!(plan.curve().unwrap().unwrap(), small_criteria());
    assert_eq!(plan.evidence().unwrap().unwrap(), small_criteria());
    assert_eq!(plan.run_info().unwrap().unwrap().threads, 2);

    let samples = plan.samples().unwrap();
    assert_eq!((0..5).map(|r| samples.modality(r)).collect::<Vec<_>>(), [0, 0, 1, NONE, 1]);
    assert_eq!((samples.stratum(2), samples.stratum(3)), (1, NONE));
    assert_eq!((samples.distance(1), samples.distance(3)), (Some(1.5), None));
    assert_eq!((plan.centrality(4).unwrap(), plan.centrality(3).unwrap()), (Some(0.75), None));
    assert_eq!((plan.modality(2).unwrap(), plan.modality(3).unwrap()), (Some(1), None));
    assert!(plan.modality(5).unwrap_err().to_string().contains("5 rows"));

    let strata = plan.strata().unwrap();
    assert_eq!(strata.values(), None);
    assert_eq!(strata.stratum(0).iter().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(strata.stratum(1).iter().collect::<Vec<_>>(), [2, 4]);
    assert_eq!(strata.dendrogram(), [Merge { left: 0, right: 1, height: 1.5, size: 2 }]);

    let batches = plan.batches(2, 0).unwrap().unwrap();
    assert_eq!(batches.len(), 2);
    for (i, want) in small_batches().iter().enumerate() {
        let got = batches.get(i);
        assert_eq!(got.rows.iter().collect::<Vec<_>>(), want.rows);
        assert_eq!((got.centrality, got.loss_weight), (want.centrality, want.loss_weight));
        assert_eq!((got.n_eff, got.x, got.score), (want.n_eff, want.x, want.score));
        let update = (want.update, want.coefficient, want.ends_update);
        assert_eq!((got.update, got.coefficient, got.ends_update), update);
    }
    assert!(plan.batches(2, 1).unwrap().is_none());

    let places: Vec<_> =
        plan.locate(&[0, 4, 2]).unwrap().iter().map(|p| (p.file, p.row_group, p.offset)).collect();
    assert_eq!(places, [(0, 0, 0), (0, 1, 1), (0, 0, 2)]);
    let model = plan.model().unwrap();
    assert_eq!((model.centers.rows(), model.prototypes.rows(), model.stratum.len()), (2, 3, 3));
}

#[test]
fn a_changed_dataset_is_named() {
    let dir = tempfile::tempdir().unwrap();
    plan_at(&dir.path().join("plan"));
    let plan = Plan::open(dir.path().join("plan")).unwrap();
    let found = || -> Vec<reader::FoundSource> {
        small_sources()
            .into_iter()
            .map(|s| reader::FoundSource {
                file: s.file,
                row_group: s.row_group,
                rows: s.rows,
                fingerprint: Some(s.fingerprint),
            })
            .collect()
    };
    plan.check_sources(&found()).unwrap();
    let mut other = found();
    other[1].fingerprint = Some("1".repeat(64));
    assert!(plan.check_sources(&other).unwrap_err().to_string().contains("row group 1 of a.parquet"));
    other[1].fingerprint = None;
    plan.check_sources(&other).unwrap();
    assert!(plan.check_sources(&other[..1]).unwrap_err().to_string().contains("1 row groups, not 2"));
}

#[test]
fn record_batches_are_cut_at_fixed_rows_and_bytes_depend_on_content_alone() {
    let dir = tempfile::tempdir().unwrap();
    let n = (1 << 20) + 1234;
    let modality: Vec<u32> = (0..n).map(|i| if i % 7 == 3 { NONE } else { i % 5 }).collect();
    let distance: Vec<f32> = (0..n).map(|i| i as f32).collect();
    // What stands under a null must not reach the file.
    let garbage: Vec<f32> = distance.iter().map(|d| if *d as u32 % 7 == 3 { -1.0 } else { *d }).collect();
    let mut entries = Vec::new();
    for (name, step, distance) in
        [("a", n as usize, &distance), ("b", 40_961, &distance), ("c", 999_999, &garbage)]
    {
        let mut writer = SamplesWriter::create(&dir.path().join(name)).unwrap();
        for at in (0..n as usize).step_by(step) {
            let r = at..(at + step).min(n as usize);
            writer
                .push(&modality[r.clone()], &modality[r.clone()], &distance[r.clone()], &distance[r])
                .unwrap();
        }
        entries.push(writer.finish().unwrap());
    }
    assert_eq!(entries[0], entries[1]);
    assert_eq!(entries[0], entries[2]);
    let table = TableReader::open(&dir.path().join("a/samples.arrow"), Kind::Samples).unwrap();
    let rows: Vec<_> = (0..table.batches()).map(|i| table.batch(i).unwrap().num_rows()).collect();
    assert_eq!(rows, [1 << 20, 1234]);
    let samples = samples::Samples::decode(&table).unwrap();
    for row in [0, 3, 4, (1 << 20) - 1, 1 << 20, n as u64 - 1] {
        assert_eq!(samples.modality(row), modality[row as usize], "row {row}");
    }
    let bytes = std::fs::read(dir.path().join("a/samples.arrow")).unwrap();
    assert_eq!(blake3::hash(&bytes).to_hex().as_str(), entries[0].blake3);
    assert_eq!(bytes.len() as u64, entries[0].bytes);
}

#[test]
fn batches_are_cut_by_batch_size() {
    let dir = tempfile::tempdir().unwrap();
    let size = 1 << 18;
    let rows: Vec<u64> = (0..size as u64).collect();
    for row_type in [RowType::U32, RowType::U64] {
        let mut writer = BatchesWriter::create(dir.path(), size, 3, row_type, false, false).unwrap();
        for batch in 0..6 {
            let rows = if batch == 5 { &rows[..10] } else { &rows[..] };
            let [b, _] = small_batches();
            writer.push(&BatchRecord { batch, rows, centrality: None, loss_weight: None, ..b }).unwrap();
        }
        let entry = writer.finish().unwrap();
        assert_eq!((entry.path.as_str(), entry.rows), ("batches/size-262144/epoch-3.arrow", 6));
        let table = TableReader::open(&dir.path().join(&entry.path), Kind::Batches).unwrap();
        assert_eq!((table.batches(), table.rows_per_batch()), (2, 4));
        let batches = batches::Batches::decode(&table).unwrap();
        assert_eq!(batches.get(4).rows.get(size as usize - 1), size as u64 - 1);
        assert_eq!((batches.get(5).rows.len(), batches.get(5).centrality), (10, None));
    }
}

#[test]
fn members_cross_record_batches() {
    let dir = tempfile::tempdir().unwrap();
    let n = (1u64 << 20) + 5;
    let rows: Vec<u64> = (0..n).map(|i| i * 3).collect();
    let merge = Merge { left: 0, right: 1, height: 0.1, size: 2 };
    for row_type in [RowType::U32, RowType::U64] {
        let mut writer = StrataWriter::create(dir.path(), row_type, &[0, n - 10, n], &[merge], None).unwrap();
        writer.push(RowIds::U64(&rows)).unwrap();
        writer.finish().unwrap();
        let table = TableReader::open(&dir.path().join("strata.arrow"), Kind::Strata).unwrap();
        let members = strata::Members::decode(&table).unwrap();
        assert_eq!(members.stratum(1).iter().collect::<Vec<_>>(), rows[n as usize - 10..]);
        assert_eq!((members.get(n - 1), members.stratum(0).len() as u64), (3 * (n - 1), n - 10));
    }
}

#[test]
fn the_id_leaves_out_row_groups_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let a = plan_at(&dir.path().join("a"));
    assert_eq!(a.plan, plan_at(&dir.path().join("b")).plan);
    let id = |change: fn(&mut Manifest)| {
        let mut m = a.clone();
        change(&mut m);
        m.id()
    };
    let at = |m: &mut Manifest, path: &str| m.files.iter().position(|f| f.path == path).unwrap();
    assert_eq!(a.plan, id(|m| m.tool.version = "9".into()));
    assert_eq!(
        a.plan,
        id(|m| m.files.iter_mut().find(|f| f.path == "sources.arrow").unwrap().blake3.clear())
    );
    assert_ne!(
        a.plan,
        id(|m| m.files.iter_mut().find(|f| f.path == "samples.arrow").unwrap().blake3.clear())
    );
    assert_ne!(a.plan, id(|m| m.config["batches"]["drop_last"] = true.into()));
    let mut reordered = a.clone();
    let last = at(&mut reordered, "weights.arrow");
    reordered.files.swap(0, last);
    assert_eq!(a.plan, reordered.id());
    let config =
        canonical_json(&serde_json::json!({"b": {"z": 1.0, "a": "ä\n"}, "a": [null, {"d": 1, "c": 2}]}));
    assert_eq!(config, r#"{"a":[null,{"c":2,"d":1}],"b":{"a":"ä\n","z":1.0}}"#);
}

#[test]
fn numbers_of_the_manifest_come_back_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let mut manifest = plan_at(&dir.path().join("plan"));
    for i in 0..1000 {
        let some = batchwright::kit::rng::uniform(batchwright::kit::rng::key(i, &[]));
        manifest.modality_share.value = 0.9 * some;
        manifest.information_threshold = 1000.0 * manifest.modality_share.value;
        manifest.config["scores"]["modality_share"] = manifest.modality_share.value.into();
        manifest.seal();
        let read = Manifest::from_json(&manifest.to_json(), Path::new("plan.json")).unwrap();
        assert_eq!(read, manifest);
    }
    manifest.score_groups[0] = manifest.strata;
    manifest.seal();
    assert!(Manifest::from_json(&manifest.to_json(), Path::new("plan.json")).is_err());
}

/// Reads every column of every table and the manifest of a plan.
const READ_WITH_PYARROW: &str = r#"
import json, pathlib, sys
import pyarrow as pa, pyarrow.ipc
plan = pathlib.Path(sys.argv[1])
for f in json.loads((plan / "plan.json").read_text())["files"]:
    with pa.memory_map(str(plan / f["path"])) as m:
        t = pa.ipc.open_file(m).read_all()
        t.validate(full=True)
        assert t.num_rows == f["rows"], f
        assert t.schema.metadata[b"batchwright.kind"].decode() == f["kind"]
        assert list(t.schema.metadata) == sorted(t.schema.metadata)
s = pa.ipc.open_file(plan / "samples.arrow").read_all()
assert s["modality"].to_pylist() == [0, 0, 1, None, 1]
b = pa.ipc.open_file(plan / "batches/size-2/epoch-0.arrow").read_all()
assert b["rows"].to_pylist() == [[0, 4], [2, 1]] and b["ends_update"].to_pylist() == [False, True]
with pa.memory_map(str(plan / "strata.arrow")) as m:
    row = pa.ipc.open_file(m).get_batch(0)["row"]
    assert row.to_numpy(zero_copy_only=True).tolist() == [0, 1, 2, 4]
    assert row.buffers()[1].address % 64 == 0
"#;

#[test]
fn pyarrow_reads_every_table() {
    let python = |args: &[&str]| std::process::Command::new("python3").args(args).output();
    if !python(&["-c", "import pyarrow"]).is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: python3 has no pyarrow here; the tests of the Python package cover it");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("plan");
    plan_at(&out);
    let output = python(&["-c", READ_WITH_PYARROW, out.to_str().unwrap()]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn schemas_and_documentation_are_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let update = std::env::var_os("UPDATE_SCHEMAS").is_some();
    let mut documents = schema_documents();
    documents.insert("check.json".into(), batchwright::pipeline::check::schema());
    documents.insert("diff.json".into(), batchwright::pipeline::diff::schema());
    for (name, text) in &documents {
        let place = root.join("schemas").join(name);
        if update {
            std::fs::create_dir_all(root.join("schemas")).unwrap();
            std::fs::write(&place, text).unwrap();
        }
        let found = std::fs::read_to_string(&place).unwrap_or_default();
        assert!(found == *text, "schemas/{name} is stale; run: UPDATE_SCHEMAS=1 cargo nextest run schemas");
    }
    for entry in std::fs::read_dir(root.join("schemas")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(documents.contains_key(&name), "schemas/{name} describes nothing that is written: delete it");
    }
    let place = root.join("docs/format.md");
    let page = std::fs::read_to_string(&place).unwrap();
    let (begin, end) = ("<!-- generated: tables -->\n", "<!-- end of generated -->\n");
    let (before, rest) = page.split_once(begin).expect("docs/format.md marks where the tables begin");
    let (tables, after) = rest.split_once(end).expect("docs/format.md marks where the tables end");
    let want = format!("\n{}", format_tables());
    if update && tables != want {
        std::fs::write(&place, format!("{before}{begin}{want}{end}{after}")).unwrap();
    } else {
        assert!(tables == want, "docs/format.md is stale; run: UPDATE_SCHEMAS=1 cargo nextest run schemas");
    }
}
