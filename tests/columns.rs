//! Which columns are features, what the others do to a plan, and what files may disagree about.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::*;
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Schema};
use batchwright::batches::locality::Order;
use batchwright::config::{Config, Run};
use batchwright::features::Transform;
use batchwright::kit::progress::Progress;
use batchwright::kit::rng;
use batchwright::modalities::EstimatorSpec;
use batchwright::parts::Local;
use batchwright::pipeline::{self, Summary};
use batchwright::plan::Plan;
use batchwright::source::{Columns, Dataset, Element, Invalid, text_value};
use parquet::arrow::ArrowWriter;

const ROWS: usize = 1200;

/// Three groups of rows in a plane, and a text column.
fn dataset(path: &Path, text: impl Fn(usize) -> Option<String>) {
    let at = |i: usize, axis: u64| {
        (5.0 * (i % 3) as f64 * axis as f64 + rng::normal(rng::key(axis, &[i as u64]))) as f32
    };
    let axis =
        |axis: u64| Arc::new(Float32Array::from_iter_values((0..ROWS).map(|i| at(i, axis)))) as ArrayRef;
    let text: ArrayRef = Arc::new((0..ROWS).map(text).collect::<StringArray>());
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("x", axis(1), false),
        ("y", axis(2), false),
        ("text", text, true),
    ])
    .unwrap();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn config() -> Config {
    let mut config = Config::default();
    config.modalities.resolution = 400;
    config.batches.epochs = Some(0);
    config
}

fn plan(dir: &Path, config: &Config) -> Plan {
    let out = dir.join("plan");
    let run = Run { out: out.clone(), force: true, ..Run::default() };
    let input = dir.join("data.parquet").to_str().unwrap().to_string();
    pipeline::plan(&[input], config, &run, &Progress::default()).unwrap();
    Plan::open(out).unwrap()
}

#[test]
fn a_missing_label_is_one_class_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.source.label = Some("text".into());
    let gain = |missing: Option<&str>| {
        let label = |i: usize| {
            if i.is_multiple_of(5) { missing.map(String::from) } else { Some(format!("c{}", i % 3)) }
        };
        dataset(&dir.path().join("data.parquet"), label);
        plan(dir.path(), &config).manifest().gain.clone().unwrap().value
    };
    let (null, named) = (gain(None), gain(Some("unknown")));
    assert!((null - named).abs() < 1e-12, "{null} against {named}");
    assert!(null < 1.0, "the label says something here");
}

#[test]
fn the_forecast_counts_the_values_of_a_column_that_names_modalities() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.modalities.estimator = EstimatorSpec::Column;
    config.modalities.column = Some("text".into());
    let needs = |values: usize| {
        let path = dir.path().join("data.parquet");
        dataset(&path, |i| Some(format!("{}", i % values)));
        let run = Run { out: dir.path().join("p"), ..Run::default() };
        let input = [path.to_str().unwrap().to_string()];
        pipeline::estimate(&input, &config, &run, &Progress::default()).unwrap().memory_needed
    };
    // A modality has its moments, quantiles and profile: a kilobyte and more, however few dimensions there are.
    assert!(needs(1000) > needs(2) + 998 * 1000);
}

#[test]
fn documents_are_not_held_in_memory_unless_a_setting_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let profiled = |config: &Config, length: usize| {
        dataset(&dir.path().join("data.parquet"), |i| Some(format!("{i:>length$}")));
        let rows = plan(dir.path(), config).profile().unwrap().unwrap();
        rows.iter().any(|row| row.column == "text")
    };
    assert!(profiled(&config(), 1024));
    assert!(!profiled(&config(), 1025));
    let mut named = config();
    named.source.id = Some("text".into());
    assert!(profiled(&named, 1025));

    // The forecast knows: documents that are held count with their length.
    let needs = |config: &Config| {
        let input = dir.path().join("data.parquet").to_str().unwrap().to_string();
        pipeline::estimate(
            &[input],
            config,
            &Run { out: dir.path().join("p"), ..Run::default() },
            &Progress::default(),
        )
        .unwrap()
        .memory_needed
    };
    dataset(&dir.path().join("data.parquet"), |i| Some(format!("{i:>20000}")));
    assert!(needs(&named) > needs(&config()) + ROWS as u64 * 20_000);
}

/// Writes columns as they are; one name may be there twice.
fn write(path: &Path, columns: Vec<(Field, ArrayRef)>) {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn named(name: &str, array: ArrayRef) -> (Field, ArrayRef) {
    (Field::new(name, array.data_type().clone(), true), array)
}

fn floats(axis: u64) -> ArrayRef {
    let at = |i: usize| 4.0 * (i % 3) as f64 + rng::normal(rng::key(axis, &[i as u64]));
    Arc::new(Float64Array::from_iter_values((0..ROWS).map(at)))
}

/// Vectors of three numbers, whole ones, in lists of one type or another.
fn vectors(item: &DataType, fixed: bool) -> ArrayRef {
    let number =
        |i: usize| i32::from(rng::normal(rng::key(9, &[i as u64])) > 0.0) * 20 + (i / 3 % 3) as i32 * 30;
    let flat: ArrayRef = Arc::new(Int32Array::from_iter_values((0..3 * ROWS).map(number)));
    let flat = arrow_cast::cast(&flat, item).unwrap();
    let item = Arc::new(Field::new("item", item.clone(), true));
    if fixed {
        Arc::new(FixedSizeListArray::new(item, 3, flat, None))
    } else {
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(3, ROWS));
        Arc::new(ListArray::new(item, offsets, flat, None))
    }
}

fn whole_numbers(rows: usize, of: impl Fn(i64) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values((0..rows as i64).map(of)))
}

/// The summary of a plan of everything in a folder.
fn summary(dir: &Path, config: &Config) -> batchwright::Result<Summary> {
    let run = Run { out: dir.with_extension("plan"), force: true, ..Run::default() };
    pipeline::plan(&[dir.to_str().unwrap().to_string()], config, &run, &Progress::default())
}

fn features(dir: &Path) -> Vec<String> {
    Plan::open(dir.with_extension("plan")).unwrap().config().unwrap().features.columns
}

fn told(summary: &Summary) -> String {
    summary.columns.iter().map(|(what, text)| format!("{what}: {text}\n")).collect()
}

#[test]
fn features_that_nobody_named_come_from_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("data");
    let ids: ArrayRef =
        Arc::new(FixedSizeBinaryArray::try_from_iter((0..ROWS as u64).map(|i| i.to_be_bytes())).unwrap());
    let numbers = || {
        vec![
            named("id", whole_numbers(ROWS, |i| 3 * i)),
            named("a", floats(1)),
            named("rowid", ids.clone()),
            named("__index_level_0__", whole_numbers(ROWS, |i| i)),
            named("Unnamed: 0", whole_numbers(ROWS, |i| i)),
            named("word", Arc::new(StringArray::from(vec!["x"; ROWS]))),
            named("when", Arc::new(Date32Array::from_iter_values((0..ROWS as i32).map(|i| i % 9)))),
        ]
    };
    write(&place.join("day=3/a.parquet"), numbers());
    write(&place.join("day=4/a.parquet"), numbers());
    let made = summary(&place, &config()).unwrap();
    assert_eq!(features(&place), ["id", "a", "when"]);
    let told = told(&made);
    for expected in [
        "`rowid` (type 8 bytes)",
        "`__index_level_0__`, `Unnamed: 0` (the index",
        "`day` (a key",
        "`word` (text)",
    ] {
        assert!(told.contains(expected), "{expected} is not in {told}");
    }
    // Ids begin anew in the second file, so that they do not rise throughout; a time is a time.
    assert!(
        made.warnings.iter().any(|w| w.contains("`when` is a time") && w.contains("--features id,a")),
        "{:?}",
        made.warnings
    );
    std::fs::remove_dir_all(place.join("day=4")).unwrap();
    let made = summary(&place, &config()).unwrap();
    assert!(
        made.warnings.iter().any(|w| w.contains("`id` rises") && w.ends_with("--features a")),
        "{:?}",
        made.warnings
    );
    // Named, they are nobody's business.
    let mut given = config();
    given.features.columns = vec!["id".into(), "a".into()];
    let made = summary(&place, &given).unwrap();
    assert!(!made.warnings.iter().any(|w| w.contains("`id`")) && made.columns.len() == 1, "{:?}", made);
}

#[test]
fn floats_go_before_whole_numbers_and_those_before_plain_ones() {
    use DataType::*;
    let dir = tempfile::tempdir().unwrap();
    let chosen = |name: &str, columns: Vec<(Field, ArrayRef)>| {
        let place = dir.path().join(name);
        write(&place.join("a.parquet"), columns);
        summary(&place, &config()).map(|made| (features(&place), told(&made)))
    };
    let all = |vectors: Vec<(Field, ArrayRef)>| [vec![named("price", floats(1))], vectors].concat();
    let (of, why) =
        chosen("1", all(vec![named("q", vectors(&Int8, true)), named("v", vectors(&Float32, true))]))
            .unwrap();
    assert!(of == ["v"] && why.contains("`price`, `q` (a vector of floats goes first)"), "{why}");
    for (i, item) in [Int8, UInt8, Int16, Int32, Int64].iter().enumerate() {
        let (of, _) = chosen(&format!("2{i}"), all(vec![named("q", vectors(item, true))])).unwrap();
        assert_eq!(of, ["q"], "{item}");
    }
    // Tokens are lists of any length.
    let (of, why) = chosen("3", all(vec![named("input_ids", vectors(&Int32, false))])).unwrap();
    assert!(of == ["price"] && why.contains("`input_ids` (whole numbers in lists"), "{why}");
    let both = chosen("4", all(vec![named("q", vectors(&Int8, true)), named("r", vectors(&Int8, true))]));
    assert!(both.unwrap_err().to_string().contains("`q`, `r`"));
}

#[test]
fn whole_numbers_in_vectors_are_the_floats_of_the_same_value() {
    let dir = tempfile::tempdir().unwrap();
    let rows = |name: &str, array: ArrayRef| {
        let path = dir.path().join(name);
        write(&path, vec![named("v", array)]);
        let dataset = Dataset::open(&[path.to_str().unwrap().into()]).unwrap();
        let columns = Columns::new(&dataset, vec!["v".into()], vec![]).unwrap();
        let all: Vec<u64> = (0..ROWS as u64).collect();
        let raw = Local::scope(2, &Progress::default(), |engine| columns.gather(&all, engine)).unwrap();
        assert!(raw.bad.is_empty() && dataset.rounded().is_empty());
        raw.vectors[0].clone()
    };
    use DataType::*;
    let expected = rows("f.parquet", vectors(&Float32, true));
    for (i, item) in [Int8, UInt8, Int16, UInt16, Int32, UInt32, Int64, UInt64, Float16].iter().enumerate() {
        assert_eq!(rows(&format!("{i}.parquet"), vectors(item, i % 2 == 0)), expected, "{item}");
    }
    let truth = rows("b.parquet", vectors(&Boolean, true));
    assert!(
        truth.as_slice().iter().zip(expected.as_slice()).all(|(b, x)| *b == f32::from(u8::from(*x != 0.0)))
    );
}

#[test]
fn rounding_of_whole_numbers_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("data");
    let large = vectors(&DataType::Int64, true);
    let large = large.as_fixed_size_list().values().as_primitive::<arrow_array::types::Int64Type>();
    let large = large.unary::<_, arrow_array::types::Int64Type>(|x| x * 1_000_003);
    let item = Arc::new(Field::new("item", DataType::Int64, true));
    write(
        &place.join("a.parquet"),
        vec![
            named("v", Arc::new(FixedSizeListArray::new(item, 3, Arc::new(large), None))),
            named("n", whole_numbers(ROWS, |i| (1 << 60) + i % 7)),
            named("m", whole_numbers(ROWS, |i| (1 << 50) + i % 7)),
        ],
    );
    let mut config = config();
    config.features.columns = ["v", "n", "m"].map(String::from).to_vec();
    let warnings = summary(&place, &config).unwrap().warnings;
    let said = |column: &str, limit: &str| {
        warnings.iter().any(|w| w.starts_with(&format!("`{column}`: ")) && w.contains(limit))
    };
    assert!(said("v", "2^24") && said("n", "2^53") && !said("m", ""), "{warnings:?}");
}

#[test]
fn bytes_are_numbers_where_something_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = |i: usize| -> Vec<u8> {
        (0..4)
            .flat_map(|j| ((i % 3 * 10) as f32 + rng::normal(rng::key(j, &[i as u64])) as f32).to_le_bytes())
            .collect()
    };
    let array: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter((0..ROWS).map(bytes)).unwrap());
    let noted = |pairs: &[(&str, &str)]| {
        let (field, array) = named("v", array.clone());
        let metadata: std::collections::HashMap<String, String> =
            pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        (field.with_metadata(metadata), array)
    };
    let dims = |name: &str, pairs: &[(&str, &str)], bytes_as: Option<Element>| {
        let place = dir.path().join(name);
        write(&place.join("a.parquet"), vec![noted(pairs), named("price", floats(1))]);
        let mut config = config();
        config.features.bytes_as = bytes_as;
        summary(&place, &config).map(|made| (features(&place), made.dims))
    };
    let (v, price) = (vec!["v".to_string()], vec!["price".to_string()]);
    assert_eq!(dims("plain", &[], None).unwrap(), (price, 1));
    assert_eq!(dims("as", &[], Some(Element::F32)).unwrap(), (v.clone(), 4));
    assert_eq!(dims("as16", &[("batchwright.element", "f32")], Some(Element::F16)).unwrap(), (v.clone(), 4));
    let tensor = [
        ("ARROW:extension:name", "arrow.fixed_shape_tensor"),
        ("ARROW:extension:metadata", r#"{"shape":[2,2]}"#),
    ];
    assert_eq!(dims("tensor", &tensor, None).unwrap(), (v, 4));
    // Named alone they are no numbers; the message has the flag.
    let place = dir.path().join("plain");
    let mut config = config();
    config.features.columns = vec!["v".into()];
    let error = summary(&place, &config).unwrap_err();
    assert!(
        error.exit_code() == 2 && error.to_string().contains("16 bytes") && error.help().contains("--as"),
        "{error}"
    );
}

#[test]
fn text_that_holds_vectors_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("data");
    let text = |i: usize| format!("[{}.5, {}, -1e-3]", i % 7, i % 5);
    let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(text)));
    write(&place.join("a.parquet"), vec![named("v", text), named("a", floats(1))]);
    let mut config = config();
    config.features.columns = vec!["v".into()];
    let error = summary(&place, &config).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("text that holds vectors"), "{error}");
    assert!(error.help().contains("float32") && !place.with_extension("plan").exists());
}

#[test]
fn a_name_that_is_there_twice_is_no_column() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("data");
    let columns = || {
        vec![
            named("v", vectors(&DataType::Float32, true)),
            named("x", floats(1)),
            named("v", vectors(&DataType::Float32, true)),
        ]
    };
    write(&place.join("a.parquet"), columns());
    let mut given = config();
    for features in [vec![], vec!["v".to_string()]] {
        given.features.columns = features;
        let error = summary(&place, &given).unwrap_err();
        assert!(
            error.to_string().contains("`v`") && error.to_string().contains("twice, at places 1 and 3"),
            "{error}"
        );
    }
    given.features.columns = vec!["x".into()];
    let told = told(&summary(&place, &given).unwrap());
    assert!(told.contains("`v` is there twice"), "{told}");
}

/// A folder with two files.
fn pair(place: &Path, one: Vec<(Field, ArrayRef)>, two: Vec<(Field, ArrayRef)>) {
    write(&place.join("a.parquet"), one);
    write(&place.join("b.parquet"), two);
}

#[test]
fn files_may_disagree_about_what_nobody_uses() {
    let dir = tempfile::tempdir().unwrap();
    let word = || named("note", Arc::new(StringArray::from(vec!["x"; ROWS])));
    let x = || named("x", floats(1));
    let mut config = config();
    config.features.columns = vec!["x".into()];
    type Other<'a> = (&'a str, Vec<(Field, ArrayRef)>, Option<&'a str>);
    let others: [Other<'_>; 5] = [
        ("missing", vec![x()], Some("`note` is missing")),
        ("new", vec![word(), x(), named("more", floats(2))], Some("`more` is missing")),
        ("type", vec![named("note", floats(2)), x()], Some("`note` is Float64 here but Utf8")),
        ("null", vec![named("note", Arc::new(NullArray::new(ROWS))), x()], None),
        ("empty", vec![named("other", Arc::new(NullArray::new(0)))], None),
    ];
    for (name, other, said) in others {
        let place = dir.path().join(name);
        pair(&place, vec![word(), x()], other);
        let made = summary(&place, &config).unwrap();
        let told = told(&made);
        assert_eq!(said.is_some(), told.contains("not read"), "{name}: {told}");
        assert!(said.is_none_or(|said| told.contains(said)), "{name}: {told}");
        let profile = Plan::open(place.with_extension("plan")).unwrap().profile().unwrap().unwrap();
        assert_eq!(
            profile.iter().any(|row| row.column == "note"),
            said.is_none_or(|s| s.contains("more")),
            "{name}"
        );
    }
    // What is chosen must be there, and alike; the message has the file and the flag.
    let place = dir.path().join("chosen");
    pair(&place, vec![x(), named("y", floats(2))], vec![x()]);
    config.features.columns.clear();
    let error = summary(&place, &config).unwrap_err();
    assert!(error.to_string().contains("b.parquet, column `y`: is missing"), "{error}");
    assert!(error.exit_code() == 3 && error.help().contains("--features"), "{}", error.help());
}

#[test]
fn types_of_one_meaning_agree() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str, one: ArrayRef, two: ArrayRef| -> batchwright::Result<Vec<Option<String>>> {
        let place = dir.path().join(name);
        pair(&place, vec![named("c", one)], vec![named("c", two)]);
        let dataset = Dataset::open(&[place.to_str().unwrap().into()])?;
        let columns = Columns::new(&dataset, vec![], vec!["c".into()])?;
        let all: Vec<u64> = (0..dataset.rows()).collect();
        let table =
            Local::scope(2, &Progress::default(), |engine| columns.gather(&all, engine))?.table.unwrap();
        Ok(all.iter().map(|&i| text_value(table.column(0), i as usize)).collect())
    };
    let some =
        |texts: &[&str]| -> Vec<Option<String>> { texts.iter().map(|t| Some(t.to_string())).collect() };
    let whole: ArrayRef = Arc::new(Int64Array::from(vec![3]));
    let half: ArrayRef = Arc::new(Float32Array::from(vec![0.5]));
    assert_eq!(read("float", whole.clone(), half).unwrap(), some(&["3", "0.5"]));
    let null: ArrayRef = Arc::new(NullArray::new(1));
    assert_eq!(read("null", null, whole.clone()).unwrap(), [None, Some("3".into())]);
    let large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    assert_eq!(read("large", large.clone(), large.clone()).unwrap(), some(&["18446744073709551615"; 2]));
    let error = read("mixed", whole, large).unwrap_err();
    assert!(error.to_string().contains("b.parquet, column `c`, row 0"), "{error}");
    let seconds = TimestampSecondArray::from(vec![1]).with_timezone("UTC");
    let nanos = TimestampNanosecondArray::from(vec![5]).with_timezone("+01:00");
    let texts = read("zones", Arc::new(seconds), Arc::new(nanos)).unwrap();
    assert_eq!(texts, some(&["1970-01-01T00:00:01Z", "1970-01-01T00:00:00.000000005Z"]));
    // Names of zones are text too, of the instant.
    let named = |zone: &str| Arc::new(TimestampSecondArray::from(vec![1]).with_timezone(zone));
    let texts = read("names", named("Europe/Berlin"), named("UTC")).unwrap();
    assert_eq!(texts, some(&["1970-01-01T00:00:01Z"; 2]));
    let naive = TimestampSecondArray::from(vec![1]);
    let zoned = TimestampSecondArray::from(vec![1]).with_timezone("UTC");
    assert!(read("naive", Arc::new(naive), Arc::new(zoned)).is_err());
    let far = TimestampMillisecondArray::from(vec![0, 253_402_300_799_000]);
    let error = read("far", Arc::new(far), Arc::new(TimestampNanosecondArray::from(vec![5]))).unwrap_err();
    assert!(error.to_string().contains("a.parquet, column `c`, row 1"), "{error}");
    let time = read(
        "time",
        Arc::new(Time32MillisecondArray::from(vec![1])),
        Arc::new(Time64MicrosecondArray::from(vec![7])),
    );
    assert_eq!(time.unwrap(), some(&["1000", "7"]));
    let decimal = |x: i128, scale: i8| -> ArrayRef {
        Arc::new(Decimal128Array::from(vec![x]).with_precision_and_scale(38 - 4, scale).unwrap())
    };
    assert_eq!(read("decimal", decimal(15, 1), decimal(1525, 3)).unwrap(), some(&["1.500", "1.525"]));
}

#[test]
fn lists_of_one_length_agree_with_fixed_ones() {
    use DataType::*;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("data");
    pair(&place, vec![named("v", vectors(&Float32, false))], vec![named("v", vectors(&Int16, true))]);
    let made = summary(&place, &config()).unwrap();
    assert_eq!((made.dims, made.rows_planned), (3, 2 * ROWS as u64));
}

#[test]
fn labels_may_be_floats_and_decimals_but_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.source.label = Some("y".into());
    config.features.columns = vec!["x".into()];
    let gain = |name: &str, label: ArrayRef| {
        let place = dir.path().join(name);
        write(&place.join("a.parquet"), vec![named("x", floats(1)), named("y", label)]);
        summary(&place, &config)?;
        Ok::<f64, batchwright::Error>(
            Plan::open(place.with_extension("plan"))?.manifest().gain.clone().unwrap().value,
        )
    };
    let class = |i: usize| i % 3;
    let labels = || (0..ROWS).map(|i| (i % 20 > 0).then_some(class(i)));
    let expected =
        gain("whole", Arc::new(labels().map(|y| y.map(|y| y as i64)).collect::<Int64Array>())).unwrap();
    let float = |y: Option<usize>| y.map_or(f64::NAN, |y| if y == 0 { -0.0 } else { y as f64 });
    assert_eq!(gain("float", Arc::new(labels().map(float).collect::<Float64Array>())).unwrap(), expected);
    let decimal = labels().map(|y| y.map(|y| 10i128.pow(30) + y as i128)).collect::<Decimal128Array>();
    let decimal = decimal.with_precision_and_scale(38, 0).unwrap();
    assert_eq!(gain("decimal", Arc::new(decimal)).unwrap(), expected);
    let error = gain("half", Arc::new((0..ROWS).map(|i| class(i) as f64 + 0.5).collect::<Float64Array>()))
        .unwrap_err();
    assert!(
        error.exit_code() == 2 && error.to_string().contains("fractional numbers such as 0.5"),
        "{error}"
    );
}

#[test]
fn one_huge_number_is_told_by_its_row() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("data");
    let huge = floats(2)
        .as_primitive::<arrow_array::types::Float64Type>()
        .iter()
        .enumerate()
        .map(|(i, x)| if i == 7 { Some(1e300) } else { x })
        .collect::<Float64Array>();
    write(&place.join("a.parquet"), vec![named("x", floats(1)), named("h", Arc::new(huge))]);
    for transform in [Transform::None, Transform::Standard, Transform::Robust] {
        let mut config = config();
        config.features.transform = transform;
        let error = summary(&place, &config).unwrap_err();
        assert!(error.to_string().contains("column `h`, row 7"), "{transform:?}: {error}");
        config.source.invalid = Invalid::Drop;
        assert_eq!(summary(&place, &config).unwrap().rows_planned, ROWS as u64 - 1, "{transform:?}");
    }
}

#[test]
fn a_key_that_is_no_number_any_more_is_named_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let add = |key: &str| {
        std::fs::create_dir_all(data.join(key)).unwrap();
        dataset(&data.join(key).join("a.parquet"), |_| None);
    };
    add("k=1");
    add("k=2");
    let mut config = config();
    config.features.columns = ["x", "y", "k"].map(String::from).into();
    let run = Run { out: dir.path().join("plan"), ..Run::default() };
    let input = [data.to_str().unwrap().to_string()];
    pipeline::plan(&input, &config, &run, &Progress::default()).unwrap();
    add("k=none");
    let plan = Plan::open(dir.path().join("plan")).unwrap();
    let dataset = Dataset::open(&input).unwrap();
    let misfits = plan.assigner().unwrap().misfits(&dataset);
    let [(column, reason)] = &misfits[..] else { panic!("{misfits:?}") };
    assert_eq!(column, "k");
    assert!(
        reason.starts_with("was a number") && reason.contains("k=none/a.parquet, where it is `none`"),
        "{reason}"
    );
    if cfg!(feature = "polars") {
        let error =
            dataset.select("k > 1", &Local::new(1, Progress::default()).unwrap()).unwrap_err().to_string();
        assert!(error.contains("k=none/a.parquet, where it is `none`"), "{error}");
    }
}

#[test]
fn every_setting_that_names_a_column_knows_the_nearest_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.parquet");
    dataset(&path, |_| Some("a".into()));
    let input = [path.to_str().unwrap().to_string()];
    type Set = fn(&mut Config, String);
    let mut settings: Vec<(&str, Set)> = vec![
        ("features.columns", |c, name| c.features.columns = vec!["x".into(), name]),
        ("features.columns", |c, name| c.features.encode = Some(name)),
        ("source.id", |c, name| c.source.id = Some(name)),
        ("source.label", |c, name| c.source.label = Some(name)),
        ("strata.by", |c, name| c.strata.by = name),
        ("strata.by", |c, name| c.strata.by = format!("modality,{name}")),
        ("modalities.column", |c, name| {
            c.modalities.estimator = EstimatorSpec::Column;
            c.modalities.column = Some(name);
        }),
        ("locality.read", |c, name| {
            c.locality.kind = Order::Local;
            c.locality.read = vec!["x".into(), name];
        }),
    ];
    if cfg!(feature = "polars") {
        settings.push(("source.where", |c, name| c.source.filter = Some(format!("{name} = 'a'"))));
        settings.push(("source.where", |c, name| c.source.filter = Some(format!("\"{name}\" = 'a'"))));
    }
    for (key, set) in settings {
        let says = |name: &str| {
            let mut config = config();
            set(&mut config, name.into());
            pipeline::estimate(&input, &config, &Run::default(), &Progress::default()).unwrap_err()
        };
        let error = says("texts");
        assert!(
            error.to_string().starts_with(key) && error.to_string().contains("no column `texts`"),
            "{error}"
        );
        assert!(
            error.help().contains("did you mean `text`? the columns are x, y, text"),
            "{key}: {}",
            error.help()
        );
        assert!(!says("price").help().contains("did you mean"), "{key}");
    }
}
