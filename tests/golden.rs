//! Every later version must be able to read the plans in `fixtures/plans`. This one makes the newest, `v1.1`, again, byte for
//! byte; `v1` was written by 0.1.0 in format 1.0.
//!
//! `UPDATE_GOLDEN=1 cargo nextest run golden` makes it anew: only for a change of the format or of the algorithms, which
//! CHANGELOG.md must tell.

use std::path::{Path, PathBuf};

use batchwright::batches::accumulation::Updates;
use batchwright::config::{Check, Config, Run};
use batchwright::kit::progress::Progress;
use batchwright::modalities::EstimatorSpec;
use batchwright::pipeline;
use batchwright::pipeline::check::{self, Answer};
use batchwright::plan::Plan;

use crate::determinism::digests;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// batchwright plan fixtures/worked-example.parquet --label label --epochs 1 -o fixtures/plans/v1.1
fn make(out: &Path) {
    let mut config = Config::default();
    config.source.label = Some("label".into());
    config.batches.epochs = Some(1);
    let run = Run { out: out.into(), force: true, ..Run::default() };
    let input = root().join("worked-example.parquet").to_str().unwrap().to_string();
    pipeline::plan(&[input], &config, &run, &Progress::default()).unwrap();
    // Times and host facts: no two are alike, and a plan does without.
    std::fs::remove_file(out.join("run.json")).unwrap();
}

#[test]
fn golden_plan_of_format_1_0_is_read() {
    let plan = Plan::open(root().join("plans/v1")).unwrap();
    assert_eq!((plan.manifest().format.as_str(), &plan.manifest().seal), ("1.0", &None));
    plan.verify().unwrap();
    plan.check_contradictions().unwrap();
    assert_eq!(plan.foreign_files().unwrap(), [""; 0]);
    worked_example(&plan);
}

/// Plans of estimators that are retired open, are checked and take rows; only a fit is refused, with what to use instead.
#[test]
fn golden_plans_of_retired_estimators_are_read_and_updated() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = dir.path().join(name);
        std::fs::copy(root().join("worked-example.parquet"), &path).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (first, more) = (file("worked-example.parquet"), file("worked-example-2.parquet"));
    for spec in EstimatorSpec::RETIRED {
        let old = dir.path().join(spec.name());
        std::fs::create_dir(&old).unwrap();
        for name in digests(&root().join("plans/v1")).keys() {
            let to = old.join(name);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(root().join("plans/v1").join(name), to).unwrap();
        }
        let mut manifest = Plan::open(&old).unwrap().manifest().clone();
        manifest.config["modalities"]["estimator"] = spec.name().into();
        manifest.estimator.name = spec.name().into();
        manifest.estimator.params = [("rep".to_string(), 0.75.into())].into();
        manifest.plan = manifest.id();
        std::fs::write(old.join("plan.json"), manifest.to_json()).unwrap();

        let plan = Plan::open(&old).unwrap();
        assert_eq!(plan.manifest().format, "1.0");
        worked_example(&plan);
        let run = Run { out: dir.path().join(format!("{}-new", spec.name())), ..Run::default() };
        let (limits, progress) = (Check { quick: true, ..Check::default() }, Progress::default());
        let data = [first.clone()];
        let outcome = check::check(&old, &data, &limits, &run, &progress).unwrap();
        assert!(outcome.findings.iter().all(|f| f.answer != Answer::Drifted), "{:?}", outcome.findings);
        let update = |data: &[String], refit| {
            pipeline::update(&old, data, &limits, refit, false, false, &run, &progress)
        };
        let refused = update(&data, true).unwrap_err();
        let instead = spec.instead().unwrap().name();
        assert!(refused.exit_code() == 2 && refused.to_string().contains(spec.name()), "{refused}");
        assert!(refused.help().contains(instead), "{}", refused.help());
        let updated = update(&[first.clone(), more.clone()], false).unwrap();
        assert!(["appended", "read anew"].contains(&updated.how.as_str()), "{}", updated.how);
        let new = Plan::open(&run.out).unwrap();
        assert_eq!((new.manifest().estimator.name.as_str(), new.manifest().rows), (spec.name(), 2000));
    }
}

#[test]
fn golden_plan_is_read_and_made_again() {
    let golden = root().join("plans/v1.1");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        make(&golden);
    }
    let plan = Plan::open(&golden).unwrap();
    plan.verify().unwrap();
    plan.check_contradictions().unwrap();
    assert_eq!(plan.run_info().unwrap(), None);
    worked_example(&plan);

    let dir = tempfile::tempdir().unwrap();
    let again = dir.path().join("again");
    make(&again);
    let again_plan = Plan::open(&again).unwrap();
    let mut manifest = again_plan.manifest().clone();
    // A new version of the tool that writes the same bytes is welcome.
    manifest.tool = plan.manifest().tool.clone();
    manifest.seal();
    assert_eq!(manifest.to_json(), std::fs::read_to_string(golden.join("plan.json")).unwrap());
    let (mut golden, mut again) = (digests(&golden), digests(&again));
    golden.remove("plan.json");
    again.remove("plan.json");
    for (name, hash) in &golden {
        assert_eq!(
            Some(hash),
            again.get(name),
            "{name} differs from fixtures/plans/v1.1: see tests/golden.rs"
        );
    }
    assert_eq!(golden.len(), again.len());
}

/// What `fixtures/worked-example.json` says of the plan.
fn worked_example(plan: &Plan) {
    let text = std::fs::read_to_string(root().join("worked-example.json")).unwrap();
    let want: serde_json::Value = serde_json::from_str(&text).unwrap();
    let list = |key: &str| -> Vec<f64> {
        want[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    let sorted = |mut rows: Vec<f64>| {
        rows.sort_by(f64::total_cmp);
        rows
    };
    let rows = plan.modalities().unwrap().iter().map(|m| m.rows as f64).collect();
    assert_eq!(sorted(rows), sorted(list("rows_of_modalities")));
    let manifest = plan.manifest();
    assert_eq!(want["batch_size"], manifest.batch_size);

    // Batches with these scores make one update with these coefficients.
    let size = u64::from(manifest.batch_size);
    let threshold = manifest.information_threshold;
    let batches = list("scores").into_iter().map(|score| ((), score * threshold, size));
    let updates: Vec<_> =
        Updates::of(batches, threshold, size).into_iter().map(|(_, update)| update).collect();
    assert_eq!(updates.iter().map(|u| u.update).collect::<Vec<_>>(), [0; 4]);
    assert_eq!(
        serde_json::json!(updates.iter().map(|u| u.ends_update).collect::<Vec<_>>()),
        want["ends_update"]
    );
    for (update, coefficient) in updates.iter().zip(list("coefficients")) {
        assert!((update.coefficient - coefficient).abs() < 1e-12, "{updates:?}");
    }
}
