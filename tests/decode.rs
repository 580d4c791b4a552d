//! Every way of reading vectors gives the same matrix: random files of arrow-rs through the pages and through the arrow
//! reader, whole and damaged. Files of other writers: tests/python/test_writers.py.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{
    FixedSizeBinaryBuilder, FixedSizeListBuilder, GenericListBuilder, PrimitiveBuilder,
};
use arrow_array::types::{Float16Type, Float32Type, Float64Type};
use arrow_array::{ArrayRef, ArrowPrimitiveType, OffsetSizeTrait, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use batchwright::Result;
use batchwright::kit::rng;
use batchwright::parts::{Part, Read};
use batchwright::source::{Columns, Dataset, RawRows, Way};
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    List,
    LargeList,
    Fixed,
    Binary,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    F16,
    F32,
    F64,
}

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Odd {
    Null,
    NullNumber,
    /// In lists: this many numbers more or fewer, at least none.
    Length(isize),
    /// A NaN, with these bits below the exponent.
    NotANumber(u32),
    Infinite,
}

#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    shape: Shape,
    number: Number,
    dims: usize,
    rows: u64,
    odd: Vec<(u64, Odd)>,
    nullable: bool,
    compression: Compression,
    encoding: &'static str,
    version2: bool,
    index: bool,
    page_bytes: usize,
    page_rows: usize,
    write_batch: usize,
    group: usize,
    ranges: Vec<(u64, u64)>,
}

fn odd() -> impl Strategy<Value = Odd> {
    prop_oneof![
        Just(Odd::Null),
        Just(Odd::NullNumber),
        (-3isize..4).prop_map(Odd::Length),
        Just(Odd::Length(-1000)),
        (1u32..1 << 23).prop_map(Odd::NotANumber),
        Just(Odd::Infinite),
    ]
}

fn compressions() -> Vec<Compression> {
    vec![
        Compression::UNCOMPRESSED,
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4_RAW,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
    ]
}

fn case(odd_rows: usize) -> impl Strategy<Value = Case> {
    let column = (
        any::<u64>(),
        select(vec![Shape::List, Shape::LargeList, Shape::Fixed, Shape::Binary]),
        select(vec![Number::F16, Number::F32, Number::F64]),
        prop_oneof![1usize..20, select(vec![32usize, 63, 64, 65, 100, 128])],
        1u64..300,
        prop::collection::vec((0u64..300, odd()), 0..=odd_rows),
        any::<bool>(),
    );
    let writer = (
        select(compressions()),
        select(vec!["plain", "split", "dictionary", "fallback"]),
        any::<bool>(),
        any::<bool>(),
        64usize..6000,
        1usize..200,
        1usize..70,
        20usize..300,
    );
    let ranges = prop::collection::vec((0u64..300, 1u64..300), 3);
    (column, writer, ranges).prop_map(|(c, w, ranges)| {
        let (seed, shape, number, dims, rows, odd, nullable) = c;
        let (compression, encoding, version2, index, page_bytes, page_rows, write_batch, group) = w;
        let ranges = ranges.into_iter().map(|(first, count)| {
            let first = first % rows;
            (first, count.min(rows - first))
        });
        let mut ranges: Vec<(u64, u64)> = ranges.collect();
        ranges.push((0, rows));
        Case {
            seed,
            shape,
            number,
            dims,
            rows,
            // Without nulls in the schema there are none, and the first row says how long rows are.
            odd: odd
                .into_iter()
                .filter(|(row, odd)| *row > 0 && (nullable || !matches!(odd, Odd::Null | Odd::NullNumber)))
                .collect(),
            nullable,
            compression,
            encoding,
            version2,
            index,
            page_bytes,
            page_rows,
            write_batch,
            group,
            ranges,
        }
    })
}

impl Case {
    fn row(&self, row: u64) -> Option<Vec<Option<f64>>> {
        let odd = self.odd.iter().find(|o| o.0 == row).map(|o| o.1);
        // Few different numbers where there is a dictionary; halves that all types hold.
        let kinds = if self.encoding == "dictionary" { 13 } else { 60_000 };
        let number = |j: usize| (rng::key(self.seed, &[row, j as u64]) % kinds) as f64 / 8.0 - 500.0;
        let mut numbers: Vec<Option<f64>> = (0..self.dims).map(|j| Some(number(j))).collect();
        let place = row as usize % self.dims;
        match odd {
            Some(Odd::Null) => return None,
            Some(Odd::NullNumber) if self.shape != Shape::Binary => numbers[place] = None,
            Some(Odd::Length(more)) if matches!(self.shape, Shape::List | Shape::LargeList) => {
                numbers.resize(self.dims.saturating_add_signed(more), Some(0.5));
            }
            Some(Odd::NotANumber(bits)) => {
                numbers[place] = Some(f64::from(f32::from_bits(0x7f80_0000 | bits)));
            }
            Some(Odd::Infinite) => numbers[place] = Some(f64::NEG_INFINITY),
            _ => {}
        }
        Some(numbers)
    }

    fn column(&self) -> (Field, ArrayRef) {
        let field = |array: ArrayRef| (Field::new("v", array.data_type().clone(), self.nullable), array);
        match (self.shape, self.number) {
            (Shape::Binary, number) => {
                let width = match number {
                    Number::F16 => 2,
                    Number::F32 => 4,
                    Number::F64 => 8,
                };
                let mut cells = FixedSizeBinaryBuilder::new((self.dims * width) as i32);
                for row in 0..self.rows {
                    let Some(numbers) = self.row(row) else {
                        cells.append_null();
                        continue;
                    };
                    let bytes = numbers.into_iter().map(|x| x.unwrap_or(0.0)).flat_map(|x| match number {
                        Number::F16 => f16::from_f64(x).to_le_bytes().to_vec(),
                        Number::F32 => (x as f32).to_le_bytes().to_vec(),
                        Number::F64 => x.to_le_bytes().to_vec(),
                    });
                    cells.append_value(bytes.collect::<Vec<u8>>()).unwrap();
                }
                let (plain, array) = field(Arc::new(cells.finish()));
                let element = format!("{number:?}").to_lowercase();
                (plain.with_metadata([("batchwright.element".to_string(), element)]), array)
            }
            (_, Number::F16) => field(self.lists::<Float16Type>(f16::from_f64)),
            (_, Number::F32) => field(self.lists::<Float32Type>(|x| x as f32)),
            (_, Number::F64) => field(self.lists::<Float64Type>(|x| x)),
        }
    }

    fn lists<T: ArrowPrimitiveType>(&self, value: impl Fn(f64) -> T::Native) -> ArrayRef {
        let item = Arc::new(Field::new("item", T::DATA_TYPE, self.nullable));
        match self.shape {
            Shape::List => self.ragged::<i32, T>(item, value),
            Shape::LargeList => self.ragged::<i64, T>(item, value),
            _ => {
                let mut list = FixedSizeListBuilder::new(PrimitiveBuilder::<T>::new(), self.dims as i32)
                    .with_field(item);
                for row in 0..self.rows {
                    let numbers = self.row(row);
                    for x in numbers.clone().unwrap_or(vec![Some(0.0); self.dims]) {
                        list.values().append_option(x.map(&value));
                    }
                    list.append(numbers.is_some());
                }
                Arc::new(list.finish())
            }
        }
    }

    fn ragged<O: OffsetSizeTrait, T: ArrowPrimitiveType>(
        &self,
        item: Arc<Field>,
        value: impl Fn(f64) -> T::Native,
    ) -> ArrayRef {
        let mut list = GenericListBuilder::<O, _>::new(PrimitiveBuilder::<T>::new()).with_field(item);
        for row in 0..self.rows {
            let numbers = self.row(row);
            let valid = numbers.is_some();
            numbers.into_iter().flatten().for_each(|x| list.values().append_option(x.map(&value)));
            list.append(valid);
        }
        Arc::new(list.finish())
    }

    fn write(&self, path: &Path) {
        let (field, array) = self.column();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap();
        let leaf = match batch.column(0).data_type() {
            DataType::FixedSizeBinary(_) => ColumnPath::from("v"),
            _ => ColumnPath::from(vec!["v".into(), "list".into(), "item".into()]),
        };
        let mut properties = WriterProperties::builder()
            .set_compression(self.compression)
            .set_max_row_group_row_count(Some(self.group))
            .set_data_page_size_limit(self.page_bytes)
            .set_data_page_row_count_limit(self.page_rows)
            .set_write_batch_size(self.write_batch)
            .set_dictionary_enabled(matches!(self.encoding, "dictionary" | "fallback"))
            .set_dictionary_page_size_limit(if self.encoding == "fallback" { 300 } else { 1 << 20 })
            .set_writer_version(if self.version2 {
                WriterVersion::PARQUET_2_0
            } else {
                WriterVersion::PARQUET_1_0
            })
            .set_encoding(Encoding::PLAIN);
        if self.encoding == "split" {
            properties = properties.set_column_encoding(leaf, Encoding::BYTE_STREAM_SPLIT);
        }
        if !self.index {
            properties =
                properties.set_offset_index_disabled(true).set_statistics_enabled(EnabledStatistics::Chunk);
        }
        let file = fs::File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
}

/// Bits, so that -0 and 0 differ, and what is bad.
type Matrix = (Vec<u32>, Vec<(usize, String)>);

fn read(columns: &Columns, way: Way, (first, rows): (u64, u64)) -> Result<Matrix> {
    let mut out = RawRows::default();
    columns.clone().through(way).read(&Part { index: 0, first, rows: rows as usize }, &mut out)?;
    let bits = out.vectors[0].as_slice().iter().map(|x| x.to_bits()).collect();
    Ok((bits, out.bad.into_iter().map(|b| (b.index, b.reason)).collect()))
}

/// Where two answers differ first: the whole of them would fill the screen.
fn first_difference(a: &Matrix, b: &Matrix) -> Option<(usize, f32, f32)> {
    let place = a.0.iter().zip(&b.0).position(|(a, b)| a != b)?;
    Some((place, f32::from_bits(a.0[place]), f32::from_bits(b.0[place])))
}

fn columns(path: &Path) -> Result<Columns> {
    let dataset = Dataset::open(&[path.display().to_string()])?;
    Columns::new(&dataset, vec!["v".into()], vec![])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clean_files_are_read_from_the_pages(case in case(0)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.parquet");
        case.write(&path);
        let columns = columns(&path).unwrap();
        for &range in &case.ranges {
            // Err or panic if the pages cannot be read.
            let fast = read(&columns, Way::Pages, range).unwrap();
            prop_assert_eq!(&fast, &read(&columns, Way::Arrow, range).unwrap());
            let value = |i: usize| {
                let row = case.row(range.0 + (i / case.dims) as u64).unwrap();
                (row[i % case.dims].unwrap() as f32).to_bits()
            };
            // Exact in f16 up to 128, then rounded: there the two ways have said enough.
            if case.number != Number::F16 {
                prop_assert!(fast.0.iter().enumerate().all(|(i, &bits)| bits == value(i)));
            }
        }
    }

    #[test]
    fn odd_rows_are_the_same_by_every_way(case in case(6)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.parquet");
        case.write(&path);
        let columns = columns(&path).unwrap();
        for &range in &case.ranges {
            let slow = read(&columns, Way::Arrow, range).unwrap();
            match read(&columns, Way::Best, range) {
                Ok(best) => prop_assert_eq!(best, slow),
                // The one thing that may be refused: see `source/pages.rs`.
                Err(e) => {
                    let cancels = e.to_string().contains("rows of different lengths");
                    prop_assert!(cancels && !case.version2 && !case.index, "{}", e);
                }
            }
        }
    }

}

proptest! {
    // Every case is read 96 times. The same cases every time: at some damage the arrow reader (version 60) never ends.
    #![proptest_config(ProptestConfig {
        cases: 40,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// One byte is wrong. Nothing panics, and where both ways give an answer it is the same one, or ours is what was
    /// written. Where only the arrow reader fails, which looks at pages before the rows too, nobody knows: numbers have no
    /// checksum.
    #[test]
    fn damaged_pages_never_give_other_numbers(
        case in case(2),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1),
        many in prop::collection::vec(any::<prop::sample::Index>(), 12),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.parquet");
        case.write(&path);
        let original = fs::read(&path).unwrap();
        let whole = columns(&path).unwrap();
        let written: Vec<Matrix> =
            case.ranges.iter().map(|&range| read(&whole, Way::Arrow, range).unwrap()).collect();
        let chunks = original.len() - 8 - u32::from_le_bytes(*original[..original.len() - 4].last_chunk().unwrap()) as usize;
        for shift in many {
            let mut bytes = original.clone();
            for (place, with) in &damage {
                let place = 4 + (place.index(chunks - 4) + shift.index(chunks - 4)) % (chunks - 4);
                bytes[place] ^= with.max(&1);
            }
            fs::write(&path, &bytes).unwrap();
            let Ok(columns) = columns(&path) else { continue };
            for (&range, written) in case.ranges.iter().zip(&written) {
                let (best, slow) = (read(&columns, Way::Best, range), read(&columns, Way::Arrow, range));
                match (best, slow) {
                    (Ok(best), Ok(slow)) if best == slow => {}
                    (Ok(best), Ok(slow)) => {
                        prop_assert!(&best == written, "{:?}, {:?}", first_difference(&best, &slow), range);
                    }
                    (Ok(_), Err(_)) => {}
                    (Err(error), _) => prop_assert!(!error.help().is_empty(), "{}", error),
                }
            }
        }
    }
}
