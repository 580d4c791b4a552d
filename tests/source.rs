//! The source reads what is in the files, whatever way they are written, and says where they are wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, ListBuilder, PrimitiveBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float16Type, Float32Type, Float64Type, Int64Type};
use arrow_array::*;
use arrow_schema::{DataType, Field, Schema};
use batchwright::Error;
use batchwright::kit::matrix::Matrix;
use batchwright::kit::progress::Progress;
use batchwright::parts::{Local, Part, Pass, Read, parts};
use batchwright::source::*;
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::schema::types::ColumnPath;

const DIMS: usize = 7;

fn engine() -> Local {
    Local::new(2, Progress::default()).unwrap()
}

/// Looks random, is a function of `i`.
fn mix(i: u64) -> u64 {
    let x = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ x >> 32
}

/// Exact in f16, so that every way of storing it gives the same number; `kinds` distinct ones.
fn number(i: u64, kinds: u64) -> f32 {
    (mix(i) % kinds) as f32 / 16.0 - 30.0
}

fn write(path: &Path, batch: &RecordBatch, properties: WriterPropertiesBuilder) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn open(path: &Path) -> Dataset {
    Dataset::open(&[path.display().to_string()]).unwrap()
}

fn failure(path: &Path) -> Error {
    Dataset::open(&[path.display().to_string()]).unwrap_err()
}

fn vectors(dataset: &Dataset, name: &str) -> Columns {
    Columns::new(dataset, vec![name.into()], vec![]).unwrap()
}

fn read(columns: &Columns, first: u64, rows: usize) -> RawRows {
    let mut out = RawRows::default();
    columns.read(&Part { index: 0, first, rows }, &mut out).unwrap();
    out
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    List,
    Fixed,
    Binary,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    F16,
    F32,
    F64,
}

/// Row i's numbers are `number(i * DIMS + j)`.
fn column(shape: Shape, kind: Number, rows: u64, kinds: u64, nullable: bool) -> (Field, ArrayRef) {
    fn fill<T: ArrowPrimitiveType>(
        shape: Shape,
        rows: u64,
        nullable: bool,
        value: impl Fn(u64) -> T::Native,
    ) -> ArrayRef {
        let values = PrimitiveBuilder::<T>::new();
        let item = Arc::new(Field::new("item", T::DATA_TYPE, nullable));
        if shape == Shape::List {
            let mut list = ListBuilder::new(values).with_field(item);
            for i in 0..rows {
                (0..DIMS as u64).for_each(|j| list.values().append_value(value(i * DIMS as u64 + j)));
                list.append(true);
            }
            Arc::new(list.finish())
        } else {
            let mut list = FixedSizeListBuilder::new(values, DIMS as i32).with_field(item);
            for i in 0..rows {
                (0..DIMS as u64).for_each(|j| list.values().append_value(value(i * DIMS as u64 + j)));
                list.append(true);
            }
            Arc::new(list.finish())
        }
    }
    let value = |i| number(i, kinds);
    let mut metadata = std::collections::HashMap::new();
    let array: ArrayRef = match (shape, kind) {
        (Shape::Binary, _) => {
            let cell = |i: u64| -> Vec<u8> {
                (0..DIMS as u64)
                    .flat_map(|j| {
                        let x = value(i * DIMS as u64 + j);
                        match kind {
                            Number::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
                            Number::F32 => x.to_le_bytes().to_vec(),
                            Number::F64 => f64::from(x).to_le_bytes().to_vec(),
                        }
                    })
                    .collect()
            };
            let name = format!("{kind:?}").to_lowercase();
            metadata.insert("batchwright.element".to_string(), name);
            Arc::new(FixedSizeBinaryArray::try_from_iter((0..rows).map(cell)).unwrap())
        }
        (_, Number::F16) => fill::<Float16Type>(shape, rows, nullable, |i| f16::from_f32(value(i))),
        (_, Number::F32) => fill::<Float32Type>(shape, rows, nullable, value),
        (_, Number::F64) => fill::<Float64Type>(shape, rows, nullable, |i| f64::from(value(i))),
    };
    (Field::new("v", array.data_type().clone(), nullable).with_metadata(metadata), array)
}

fn expected(first: u64, rows: usize, kinds: u64) -> Vec<f32> {
    (first * DIMS as u64..(first + rows as u64) * DIMS as u64).map(|i| number(i, kinds)).collect()
}

#[test]
fn pages_and_arrow_read_the_same_vectors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.parquet");
    let rows = 700;
    let mut case = 0;
    for shape in [Shape::List, Shape::Fixed, Shape::Binary] {
        for kind in [Number::F16, Number::F32, Number::F64] {
            for encoding in ["plain", "split", "dictionary", "fallback"] {
                case += 1;
                // Every pair of the other choices turns up somewhere.
                let (version2, nullable, index) = (case % 2 == 0, case % 3 == 0, case % 5 < 2);
                let compression = match case % 4 {
                    0 => Compression::UNCOMPRESSED,
                    1 => Compression::SNAPPY,
                    2 => Compression::ZSTD(ZstdLevel::default()),
                    _ => Compression::LZ4_RAW,
                };
                let kinds = if encoding == "dictionary" { 19 } else { 900 };
                let (field, array) = column(shape, kind, rows, kinds, nullable);
                let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap();
                let leaf = match shape {
                    Shape::Binary => ColumnPath::from("v"),
                    _ => ColumnPath::from(vec!["v".into(), "list".into(), "item".into()]),
                };
                let mut properties = WriterProperties::builder()
                    .set_compression(compression)
                    .set_max_row_group_row_count(Some(277))
                    .set_data_page_size_limit(900)
                    .set_write_batch_size(30)
                    .set_dictionary_enabled(matches!(encoding, "dictionary" | "fallback"))
                    .set_dictionary_page_size_limit(if encoding == "fallback" { 500 } else { 1 << 20 })
                    .set_writer_version(if version2 {
                        WriterVersion::PARQUET_2_0
                    } else {
                        WriterVersion::PARQUET_1_0
                    });
                if matches!(encoding, "plain" | "split") {
                    let encoding =
                        if encoding == "plain" { Encoding::PLAIN } else { Encoding::BYTE_STREAM_SPLIT };
                    properties = properties.set_column_encoding(leaf, encoding);
                } else {
                    properties = properties.set_encoding(Encoding::PLAIN);
                }
                if !index {
                    properties = properties
                        .set_offset_index_disabled(true)
                        .set_statistics_enabled(EnabledStatistics::Chunk);
                }
                write(&path, &batch, properties);
                let what = format!(
                    "{shape:?} {kind:?} {encoding} version2 {version2} nullable {nullable} index {index}"
                );

                let dataset = open(&path);
                assert_eq!(dataset.columns()[0].kind, Kind::Vector { dims: DIMS }, "{what}");
                assert_eq!(dataset.row_groups().len(), 3, "{what}");
                let columns = vectors(&dataset, "v");
                for i in 0..8 {
                    let first = if i == 0 { 0 } else { mix(case * 100 + i) % rows };
                    let count = if i == 0 { rows as usize } else { (mix(i) % (rows - first)) as usize + 1 };
                    for way in [Way::Pages, Way::Arrow] {
                        let got = read(&columns.clone().through(way), first, count);
                        assert_eq!(
                            got.vectors[0].as_slice(),
                            expected(first, count, kinds),
                            "{what} {way:?}"
                        );
                        assert!(got.bad.is_empty(), "{what}");
                    }
                }
            }
        }
    }
}

/// Files of pyarrow and others: dictionaries that fall back to plain pages, pages that end inside a row, no page index.
#[test]
fn files_of_other_writers() {
    let Some(directory) = std::env::var_os("BATCHWRIGHT_TEST_DATA") else { return };
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "parquet") {
            continue;
        }
        let dataset = open(&path);
        let columns = vectors(&dataset, "embedding");
        let rows = dataset.rows();
        for i in 0..6 {
            let first = mix(i) % rows;
            let count = (mix(i + 50) % 3000).min(rows - first - 1) as usize + 1;
            let fast = read(&columns.clone().through(Way::Pages), first, count);
            let slow = read(&columns.clone().through(Way::Arrow), first, count);
            assert!(
                fast.vectors == slow.vectors && fast.bad == slow.bad,
                "{} {first} {count}",
                path.display()
            );
        }
    }
}

/// Rows of `i, i, i`, but `change` gives row i another cell: None for a null row.
fn ragged(rows: u64, change: impl Fn(u64) -> Option<Option<Vec<Option<f64>>>>) -> RecordBatch {
    let mut list = ListBuilder::new(PrimitiveBuilder::<Float64Type>::new());
    for i in 0..rows {
        match change(i).unwrap_or(Some(vec![Some(i as f64); 3])) {
            Some(cell) => {
                cell.into_iter().for_each(|x| list.values().append_option(x));
                list.append(true);
            }
            None => list.append(false),
        }
    }
    RecordBatch::try_from_iter_with_nullable([("v", Arc::new(list.finish()) as ArrayRef, true)]).unwrap()
}

#[test]
fn bad_rows_are_named_and_zeroed() {
    let directory = tempfile::tempdir().unwrap();
    let change = |i| match i {
        3 => Some(None),
        100 => Some(Some(vec![Some(1.0), Some(f64::NAN), Some(2.0)])),
        150 => Some(Some(vec![Some(1.0); 2])),
        151 => Some(Some(vec![])),
        290 => Some(Some(vec![Some(1.0), None, Some(2.0)])),
        291 => Some(Some(vec![Some(1.0), Some(2.0), Some(f64::NEG_INFINITY)])),
        399 => Some(Some(vec![Some(1e300), Some(2.0), Some(3.0)])),
        _ => None,
    };
    let infinite = "has an infinite number, or one beyond the range of f32,";
    let reasons = [
        (3, "is null".to_string()),
        (100, "has NaN at place 1".to_string()),
        (150, "has 2 numbers, not 3".to_string()),
        (151, "has 0 numbers, not 3".to_string()),
        (290, "has null at place 1".to_string()),
        (291, format!("{infinite} at place 2")),
        (399, format!("{infinite} at place 0")),
    ];
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for index in [false, true] {
            let path = directory.path().join("bad.parquet");
            let properties = WriterProperties::builder()
                .set_writer_version(version)
                .set_max_row_group_row_count(Some(130))
                .set_data_page_row_count_limit(20)
                .set_write_batch_size(10)
                .set_offset_index_disabled(!index)
                .set_statistics_enabled(if index {
                    EnabledStatistics::Page
                } else {
                    EnabledStatistics::None
                });
            write(&path, &ragged(400, change), properties);
            let dataset = open(&path);
            let columns = vectors(&dataset, "v");
            for i in 0..30 {
                let first = if i == 0 { 0 } else { mix(i) % 400 };
                let count = if i == 0 { 400 } else { (mix(i + 99) % (400 - first)) as usize + 1 };
                let rows = first..first + count as u64;
                for way in [Way::Best, Way::Arrow] {
                    let got = read(&columns.clone().through(way), first, count);
                    let bad: Vec<(u64, String)> =
                        got.bad.iter().map(|b| (first + b.index as u64, b.reason.clone())).collect();
                    let want: Vec<(u64, String)> =
                        reasons.iter().filter(|r| rows.contains(&r.0)).cloned().collect();
                    assert_eq!(bad, want);
                    for (row, numbers) in rows.clone().zip(got.vectors[0].iter_rows()) {
                        let x = if reasons.iter().any(|r| r.0 == row) { 0.0 } else { row as f32 };
                        assert_eq!(numbers, [x; 3], "row {row}");
                    }
                }
            }
            let gathered = columns.gather(&[3, 4, 150, 399], &engine()).unwrap();
            assert_eq!(gathered.bad.iter().map(|b| b.index).collect::<Vec<_>>(), [0, 2, 3]);
            assert_eq!(gathered.vectors[0].row(1), [4.0; 3]);
        }
    }
}

#[test]
fn lengths_that_cancel_out_are_told() {
    // Rows 10 and 20 have six numbers, 30 to 33 make up for it: values are as many as they should be.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cancel.parquet");
    let change = |i| match i {
        10 | 20 => Some(Some(vec![Some(0.5); 6])),
        30..=32 => Some(Some(vec![Some(0.5); 1])),
        _ => None,
    };
    let properties = WriterProperties::builder()
        .set_offset_index_disabled(true)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_data_page_row_count_limit(5)
        .set_write_batch_size(5);
    write(&path, &ragged(60, change), properties);
    let columns = vectors(&open(&path), "v");
    let mut out = RawRows::default();
    let error = columns.read(&Part { index: 0, first: 0, rows: 60 }, &mut out).unwrap_err();
    assert!(error.to_string().contains("rows of different lengths"), "{error}");
}

/// One column of whole numbers `first ..`, as a vector of one and as an integer.
fn numbered(first: i64, rows: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + rows));
    let mut list = FixedSizeListBuilder::new(PrimitiveBuilder::<Float32Type>::new(), 2);
    for i in first..first + rows {
        list.values().append_value(i as f32);
        list.values().append_value(-i as f32);
        list.append(true);
    }
    RecordBatch::try_from_iter([("n", numbers), ("v", Arc::new(list.finish()) as ArrayRef)]).unwrap()
}

fn small_groups() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_max_row_group_row_count(Some(70))
        .set_data_page_row_count_limit(16)
        .set_write_batch_size(8)
}

/// Files in byte order of their paths, two levels of directories, hidden ones left out.
fn forest() -> (tempfile::TempDir, Dataset) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    write(&path("split=test/kind=1/b.parquet"), &numbered(0, 100), small_groups());
    write(&path("split=train/kind=2/a.parquet"), &numbered(100, 90), small_groups());
    write(&path("split=train/kind=2/b.parquet"), &numbered(190, 1), small_groups());
    write(&path("_old/c.parquet"), &numbered(0, 5), small_groups());
    fs::write(path("split=test/notes.txt"), "not data").unwrap();
    let dataset = open(directory.path());
    (directory, dataset)
}

#[test]
fn rows_are_numbered_by_path_row_group_and_row() {
    let (directory, dataset) = forest();
    let paths: Vec<&str> = dataset.files().iter().map(|f| f.path.as_str()).collect();
    assert_eq!(
        paths,
        ["split=test/kind=1/b.parquet", "split=train/kind=2/a.parquet", "split=train/kind=2/b.parquet"]
    );
    assert_eq!(dataset.rows(), 191);
    let groups: Vec<(usize, u64, u64)> =
        dataset.row_groups().iter().map(|g| (g.file, g.first_row, g.rows)).collect();
    assert_eq!(groups, [(0, 0, 70), (0, 70, 30), (1, 100, 70), (1, 170, 20), (2, 190, 1)]);
    assert_eq!(dataset.locate(175), Location { file: 1, row_group: 3, offset: 5 });
    assert_eq!(dataset.describe_row(175), ("split=train/kind=2/a.parquet".to_string(), 75));
    assert_eq!(dataset.describe_row(190).1, 0);

    let columns =
        Columns::new(&dataset, vec!["v".into()], vec!["kind".into(), "n".into(), "split".into()]).unwrap();
    let got = read(&columns, 60, 131);
    let table = got.table.unwrap();
    let n = table.column(1).as_primitive::<Int64Type>();
    for (i, row) in (60..191).enumerate() {
        assert_eq!(n.value(i), row);
        assert_eq!(got.vectors[0].row(i), [row as f32, -row as f32]);
        assert_eq!(table.column(0).as_primitive::<Int64Type>().value(i), if row < 100 { 1 } else { 2 });
        assert_eq!(table.column(2).as_string::<i32>().value(i), if row < 100 { "test" } else { "train" });
    }

    // The same files in another order, by globs and by name, are the same dataset.
    let root = directory.path().display();
    let inputs =
        [format!("{root}/split=train/**/[a-b].parquet"), format!("{root}/split=test/kind=1/b.parquet")];
    let again = Dataset::open(&inputs).unwrap();
    assert_eq!(again.files(), dataset.files());
    assert_eq!(again.row_groups(), dataset.row_groups());

    // A partition alone is still one.
    let one = open(&directory.path().join("split=test"));
    assert!(one.columns().iter().any(|c| c.name == "kind" && c.kind == Kind::Integer));
    let values = one.values("split", &Naming::Value, &Selection::all(one.rows()), &engine()).unwrap();
    assert_eq!(values, [("test".to_string(), 100, 0)]);
}

#[test]
fn gathering_is_reading() {
    let (_directory, dataset) = forest();
    let columns = Columns::new(&dataset, vec!["v".into()], vec!["n".into(), "kind".into()]).unwrap();
    let all = read(&columns, 0, 191);
    for i in 0..20 {
        let rows: Vec<u64> = (0..191).filter(|&row| mix(row * 31 + i).is_multiple_of(i + 1)).collect();
        let got = columns.gather(&rows, &engine()).unwrap();
        assert_eq!(got.rows, rows);
        let index = || rows.iter().map(|&r| r as usize);
        assert_eq!(got.vectors[0], all.vectors[0].gather(index()));
        let n: Vec<i64> = got.table.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec();
        assert!(n.iter().eq(rows.iter().map(|&r| r as i64).collect::<Vec<_>>().iter()));
    }
    let none = columns.gather(&[], &engine()).unwrap();
    assert_eq!((none.vectors[0].rows(), none.table.unwrap().num_rows()), (0, 0));
}

#[test]
fn one_pass_samples_and_fingerprints() {
    let (_directory, dataset) = forest();
    let columns = Columns::new(&dataset, vec!["v".into()], vec!["n".into()]).unwrap();
    let names = ["v".to_string(), "n".to_string()];
    let rows = [0, 69, 70, 169, 190];
    let all: Vec<usize> = (0..dataset.row_groups().len()).collect();
    let (got, prints) = sample_pass("sample", &columns, &names, &all, &rows, &engine()).unwrap();
    assert_eq!(got.vectors, columns.gather(&rows, &engine()).unwrap().vectors);
    assert_eq!(prints.len(), 5);
    for (group, print) in prints.iter().enumerate() {
        assert_eq!(*print, dataset.fingerprint(group, &names).unwrap());
    }
    let distinct: std::collections::BTreeSet<_> = prints.iter().map(|p| &p.0).collect();
    assert_eq!(distinct.len(), 5);
}

#[test]
fn fingerprints_see_the_columns_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.parquet");
    let print = |batch: &RecordBatch, column: &str| {
        write(&path, batch, small_groups());
        open(&path).fingerprint(0, &[column.into()]).unwrap().0
    };
    let one = numbered(0, 50);
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..50).map(|i| i + i64::from(i == 30))));
    let other = RecordBatch::try_new(one.schema(), vec![numbers, one.column(1).clone()]).unwrap();
    assert_eq!(print(&one, "v"), print(&other, "v"));
    assert_ne!(print(&one, "n"), print(&other, "n"));
}

#[test]
fn tables_have_one_type_whatever_the_files_store() {
    let directory = tempfile::tempdir().unwrap();
    let strings = || StringArray::from(vec![Some("x"), None, Some("y")]);
    let one = RecordBatch::try_from_iter_with_nullable([
        ("i", Arc::new(Int8Array::from(vec![Some(-1), None, Some(3)])) as ArrayRef, true),
        ("f", Arc::new(Float32Array::from(vec![0.5, 1.5, 2.5])) as ArrayRef, true),
        ("s", Arc::new(strings()) as ArrayRef, true),
        ("b", Arc::new(BooleanArray::from(vec![true, false, true])) as ArrayRef, true),
        ("d", Arc::new(Date32Array::from(vec![0, 1, 19_723])) as ArrayRef, true),
        ("t", Arc::new(Time32SecondArray::from(vec![0, 1, 2])) as ArrayRef, true),
    ])
    .unwrap();
    let dictionary: DictionaryArray<arrow_array::types::Int32Type> = strings().iter().collect();
    let two = RecordBatch::try_from_iter_with_nullable([
        ("s", Arc::new(dictionary) as ArrayRef, true),
        ("i", Arc::new(UInt64Array::from(vec![7, 8, 9])) as ArrayRef, true),
        ("f", Arc::new(Float64Array::from(vec![0.5, 1.5, 2.5])) as ArrayRef, true),
        ("b", Arc::new(BooleanArray::from(vec![true, false, true])) as ArrayRef, true),
        ("d", Arc::new(Date32Array::from(vec![0, 1, 2])) as ArrayRef, true),
        ("t", Arc::new(Time32SecondArray::from(vec![3, 4, 5])) as ArrayRef, true),
    ])
    .unwrap();
    write(&directory.path().join("1.parquet"), &one, WriterProperties::builder());
    write(&directory.path().join("2.parquet"), &two, WriterProperties::builder());
    let dataset = open(directory.path());
    let names = ["s", "f", "i", "b", "d", "t"].map(String::from);
    let columns = Columns::new(&dataset, vec![], names.to_vec()).unwrap();
    let table = read(&columns, 1, 4).table.unwrap();
    let types: Vec<&DataType> = table.columns().iter().map(|c| c.data_type()).collect();
    use DataType::*;
    assert_eq!(types, [&Utf8, &Float64, &Int64, &Boolean, &Date32, &Int64]);
    let text = |c: usize| -> Vec<Option<String>> { (0..4).map(|i| text_value(table.column(c), i)).collect() };
    let some = |x: &str| Some(x.to_string());
    assert_eq!(text(0), [None, some("y"), some("x"), None]);
    assert_eq!(text(2), [None, some("3"), some("7"), some("8")]);
    assert_eq!(text(5), [some("1"), some("2"), some("3"), some("4")]);
    assert_eq!(table.column(4).as_primitive::<Date32Type>().values()[..2], [1, 19_723]);

    let all = Selection::all(6);
    let values = dataset.values("s", &Naming::Value, &all, &engine()).unwrap();
    assert_eq!(values, [("x".to_string(), 2, 0), ("y".to_string(), 2, 2)]);

    let error = Columns::new(&dataset, vec![], vec!["S_".into()]).unwrap_err();
    assert!(error.help().contains("did you mean `s`"), "{}", error.help());
    assert!(Columns::new(&dataset, vec!["f".into()], vec![]).is_err());
}

#[test]
fn unusable_inputs_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let says = |path: PathBuf, text: &str| {
        let error = failure(&path);
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.exit_code(), 3);
        assert!(!error.help().is_empty(), "{error}");
    };
    says(path("nothing.parquet"), "nothing.parquet");
    says(path("*.parquet"), "matches no Parquet file");
    fs::create_dir(path("empty")).unwrap();
    says(path("empty"), "holds no Parquet file");
    fs::write(path("text.parquet"), "a,b\n1,2\n3,4\n").unwrap();
    says(path("text.parquet"), "is not a Parquet file: it is text");
    fs::write(path("short.parquet"), "PAR1").unwrap();
    says(path("short.parquet"), "too short");
    fs::write(path("secret.parquet"), b"PARE0123456789PARE").unwrap();
    says(path("secret.parquet"), "is encrypted");
    write(&path("good.parquet"), &numbered(0, 90), small_groups());
    let whole = fs::read(path("good.parquet")).unwrap();
    fs::write(path("cut.parquet"), &whole[..whole.len() / 2]).unwrap();
    says(path("cut.parquet"), "is cut off");
    write(&path("none.parquet"), &numbered(0, 0), small_groups());
    says(path("none.parquet"), "has no rows");
    // A list of no row groups that says nothing of what they would be, as fastparquet writes it.
    let none = fs::read(path("none.parquet")).unwrap();
    let list = none.windows(2).rposition(|two| two == [0x19, 0x0c]).expect("field 4, an empty list") + 1;
    let untyped = [&none[..list], &[0], &none[list + 1..]].concat();
    fs::write(path("untyped.parquet"), untyped).unwrap();
    says(path("untyped.parquet"), "has no rows");

    // No single damaged byte of the footer makes it panic.
    let footer = whole.len() - 400;
    for at in footer..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        fs::write(path("damaged.parquet"), &damaged).unwrap();
        if let Ok(dataset) = Dataset::open(&[path("damaged.parquet").display().to_string()])
            && dataset.rows() < 1000
            && let Ok(columns) = Columns::new(&dataset, vec!["v".into()], vec![])
        {
            let part = Part { index: 0, first: 0, rows: dataset.rows() as usize };
            let _ = columns.read(&part, &mut RawRows::default());
        }
    }

    let name = path("good.parquet").display().to_string();
    let error =
        Dataset::open(&[name.clone(), format!("{}/./good.parquet", directory.path().display())]).unwrap_err();
    assert!(error.to_string().contains("named twice"), "{error}");

    let other: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let batch = RecordBatch::try_from_iter([("n", other), ("v", numbered(0, 1).column(1).clone())]).unwrap();
    write(&path("other.parquet"), &batch, small_groups());
    // Files may disagree about a column that nobody reads.
    let both = Dataset::open(&[name.clone(), path("other.parquet").display().to_string()]).unwrap();
    vectors(&both, "v");
    let error = Columns::new(&both, vec![], vec!["n".into()]).unwrap_err().to_string();
    assert!(error.contains("column `n`") && error.contains("Utf8") && error.contains("Int64"), "{error}");

    // Changed between opening and reading.
    let dataset = open(&path("good.parquet"));
    fs::write(path("good.parquet"), &whole[1..]).unwrap();
    let mut out = RawRows::default();
    let error = vectors(&dataset, "v").read(&Part { index: 0, first: 0, rows: 9 }, &mut out).unwrap_err();
    assert!(error.to_string().contains("has changed"), "{error}");
}

/// The engine's parts together are the dataset.
#[test]
fn parts_cover_all_rows() {
    struct Count;
    impl Pass for Count {
        type Item = RawRows;
        type Partial = Vec<u64>;
        type Output = Vec<u64>;
        fn partial(&self, item: &RawRows) -> batchwright::Result<Vec<u64>> {
            assert!(item.rows.iter().zip(item.vectors[0].iter_rows()).all(|(&row, v)| v[0] == row as f32));
            Ok(item.rows.clone())
        }
        fn merge(&self, mut left: Vec<u64>, right: Vec<u64>) -> Vec<u64> {
            left.extend(right);
            left
        }
        fn finish(&self, all: Option<Vec<u64>>) -> batchwright::Result<Vec<u64>> {
            Ok(all.unwrap_or_default())
        }
    }
    let (_directory, dataset) = forest();
    let all = parts(dataset.rows(), 1 << 22);
    let rows = engine().run("test", &vectors(&dataset, "v"), &Count, &all).unwrap();
    assert_eq!(rows, (0..191).collect::<Vec<_>>());
}

#[cfg(feature = "polars")]
#[test]
fn conditions_select_rows() {
    let (_directory, dataset) = forest();
    let select = |sql: &str| dataset.select(sql, &engine());
    let rows = |sql: &str| select(sql).unwrap().iter().collect::<Vec<_>>();
    assert_eq!(rows("n >= 98 AND n < 103"), [98, 99, 100, 101, 102]);
    assert_eq!(rows("split = 'test' AND n > 96"), [97, 98, 99]);
    assert_eq!(rows("kind = 2 AND n IN (5, 105, 190)"), [105, 190]);
    assert_eq!(rows("split LIKE 'tr%'").len(), 91);
    assert_eq!(select("true").unwrap(), Selection::all(191));
    assert_eq!(select("n / 0 > 1 AND n < 0").unwrap().count(), 0);
    let values = dataset.values("kind", &Naming::Value, &select("n > 95").unwrap(), &engine()).unwrap();
    assert_eq!(values, [("1".to_string(), 4, 96), ("2".to_string(), 91, 100)]);
    for (sql, text) in [
        ("n >=", "is not an SQL condition"),
        ("m > 1", "no column `m`"),
        ("n + 1", "not true or false"),
        ("sum(n) > 1", "more than one row"),
        ("split > 1", "cannot be evaluated"),
        ("v > 1", "a condition cannot use"),
    ] {
        let error = select(sql).unwrap_err();
        assert!(error.to_string().contains(text), "{sql}: {error}");
        assert!(error.to_string().starts_with("source.where"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[cfg(not(feature = "polars"))]
#[test]
fn conditions_need_polars() {
    let (_directory, dataset) = forest();
    assert!(dataset.select("n > 1", &engine()).unwrap_err().help().contains("--features polars"));
}

#[cfg(feature = "cloud")]
mod cloud {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    /// A server that speaks S3, on loopback; logs a line a request.
    struct Server {
        child: Child,
        port: u16,
        lines: std::sync::mpsc::Receiver<String>,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    impl Server {
        /// None where Python has no moto.
        fn start(files: &[(&str, &Path)]) -> Option<Server> {
            let has =
                Command::new("python3").args(["-c", "import moto.server, flask, boto3"]).output().ok()?;
            if !has.status.success() {
                eprintln!("no moto in Python: the cloud is not tested");
                return None;
            }
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = Command::new("python3")
                .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let (sender, lines) = std::sync::mpsc::channel();
            let log = BufReader::new(child.stderr.take().unwrap());
            std::thread::spawn(move || log.lines().map_while(|l| l.ok()).for_each(|l| drop(sender.send(l))));
            let server = Server { child, port, lines };
            for _ in 0..600 {
                if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    server.put(files);
                    return Some(server);
                }
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            panic!("moto does not start");
        }

        fn options(&self) -> BTreeMap<String, String> {
            [
                ("aws_endpoint", format!("http://127.0.0.1:{}", self.port).as_str()),
                ("aws_allow_http", "true"),
                ("aws_access_key_id", "test"),
                ("aws_secret_access_key", "test"),
                ("aws_region", "us-east-1"),
            ]
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .into()
        }

        fn put(&self, files: &[(&str, &Path)]) {
            let code = "import sys, boto3\n\
                s3 = boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1',\n\
                                  aws_access_key_id='test', aws_secret_access_key='test')\n\
                s3.create_bucket(Bucket='bucket')\n\
                for key, path in zip(sys.argv[2::2], sys.argv[3::2]): s3.upload_file(path, 'bucket', key)\n";
            let mut command = Command::new("python3");
            command.args(["-c", code, &format!("http://127.0.0.1:{}", self.port)]);
            for (key, path) in files {
                command.arg(key).arg(path);
            }
            assert!(command.status().unwrap().success());
        }

        /// Log lines of requests for objects (not listings) since the last call.
        fn gets(&self) -> Vec<String> {
            std::thread::sleep(std::time::Duration::from_millis(200));
            self.lines.try_iter().filter(|l| l.contains("GET /bucket/") && l.contains(".parquet")).collect()
        }
    }

    #[test]
    fn buckets_are_read_by_byte_ranges() {
        let directory = tempfile::tempdir().unwrap();
        let local = directory.path().join("a.parquet");
        let properties =
            WriterProperties::builder().set_data_page_row_count_limit(1000).set_write_batch_size(500);
        write(&local, &numbered(0, 60_000), properties);
        let other = directory.path().join("b.parquet");
        write(&other, &numbered(60_000, 10), WriterProperties::builder());
        let Some(server) = Server::start(&[("data/k=1/a.parquet", &local), ("data/k=2/b.parquet", &other)])
        else {
            return;
        };
        let open = |name: &str| {
            Dataset::open_with(&[name.to_string()], &server.options(), Dataset::MEMORY, &Progress::default())
        };
        let dataset = open("s3://bucket/data/").unwrap();
        let paths: Vec<&str> = dataset.files().iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["k=1/a.parquet", "k=2/b.parquet"]);
        assert_eq!(dataset.rows(), 60_010);
        assert_eq!(open("s3://bucket/data/*/b.parquet").unwrap().rows(), 10);
        assert_eq!(open("s3://bucket/data/k=1/a.parquet").unwrap().rows(), 60_000);

        server.gets();
        let columns = Columns::new(&dataset, vec!["v".into()], vec!["k".into()]).unwrap();
        let got = read(&columns, 50_100, 100);
        assert_eq!(got.vectors[0].row(7), [50_107.0, -50_107.0]);
        let gets = server.gets();
        assert!(gets.len() <= 2, "one page of sixty, and perhaps a dictionary: {gets:?}");

        let names = ["v".to_string(), "n".to_string()];
        let rows = [5, 30_000, 59_999, 60_009];
        let all: Vec<usize> = (0..dataset.row_groups().len()).collect();
        let (sample, prints) = sample_pass("sample", &columns, &names, &all, &rows, &engine()).unwrap();
        assert_eq!(sample.vectors[0].row(2), [59_999.0, -59_999.0]);
        let gets = server.gets();
        assert!(gets.len() <= 4, "two column chunks of two row groups: {gets:?}");
        let here = super::open(&local);
        assert_eq!(prints[0], here.fingerprint(0, &names).unwrap());

        let error = open("s3://bucket/nothing/").unwrap_err();
        assert!(error.to_string().contains("holds no Parquet file"), "{error}");
        let error = open("s3://bucket/nothing.parquet").unwrap_err();
        assert!(error.to_string().contains("nothing.parquet"), "{error}");
    }
}

#[test]
fn matrices_are_reused() {
    let (_directory, dataset) = forest();
    let columns = vectors(&dataset, "v");
    let mut out = RawRows { vectors: vec![Matrix::zeros(500, 9)], ..RawRows::default() };
    columns.read(&Part { index: 0, first: 190, rows: 1 }, &mut out).unwrap();
    assert_eq!((out.rows, out.vectors[0].as_slice()), (vec![190], &[190.0, -190.0][..]));
}
