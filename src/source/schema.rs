//! The columns of a dataset: the union of what its files have, what each is read as, and where files do not agree.
//!
//! Files need not have the same columns: one that some file lacks, or has in another type, is there but cannot be used
//! ([`Column::differs`]). Files without rows have nothing to disagree about, nor has a column of type Null.

use std::collections::HashMap;

use arrow_array::{Array, ArrayRef};
use arrow_schema::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, TimeUnit};

use super::element::{Element, element, is_uuid};
use super::opened::Opened;
use super::{Column, Differs, Kind, Origin};
use crate::kit::error::Result;

/// As an offset.
const UTC: &str = "+00:00";

/// Parallel to the columns: what each is read as.
#[derive(Clone, Debug)]
pub(crate) struct ReadAs {
    /// In the table; of vectors the stored type.
    pub table: DataType,
    /// What all files are converted to first: times of day and durations become numbers of this unit.
    pub through: DataType,
    /// Some file has it as INT96.
    pub int96: bool,
}

/// What a field holds, as far as files must agree about it.
#[derive(Clone, Debug, PartialEq)]
enum Holds {
    /// Only nulls.
    Nothing,
    Integer,
    Unsigned,
    Float,
    /// Precision and scale.
    Decimal(u8, i8),
    Date,
    Timestamp(TimeUnit, Option<String>),
    Time(TimeUnit),
    Duration(TimeUnit),
    Boolean,
    Text,
    Uuid,
    /// Numbers in a row, 0 until one is looked at; of whole numbers or truth values; of one length by its type.
    Vector {
        dims: usize,
        whole: bool,
        fixed: bool,
    },
    Labels,
    Other,
}

impl Holds {
    fn of(file: &Opened, field: &Field, bytes_as: Option<Element>) -> Holds {
        use DataType::*;
        match field.data_type() {
            Null => Holds::Nothing,
            Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 => Holds::Integer,
            UInt64 => Holds::Unsigned,
            Float16 | Float32 | Float64 => Holds::Float,
            Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s) | Decimal256(p, s) => Holds::Decimal(*p, *s),
            Date32 | Date64 => Holds::Date,
            // The names of zones (UTC is one) are not known here, what instant is meant is.
            Timestamp(unit, zone) => {
                let offset = |zone: &str| if zone.starts_with(['+', '-']) { zone } else { UTC }.to_string();
                Holds::Timestamp(*unit, zone.as_deref().map(offset))
            }
            Time32(unit) | Time64(unit) => Holds::Time(*unit),
            Duration(unit) => Holds::Duration(*unit),
            Boolean => Holds::Boolean,
            Utf8 | LargeUtf8 | Utf8View => Holds::Text,
            Dictionary(_, value) => {
                Holds::of(file, &Field::new(field.name(), (**value).clone(), true), bytes_as)
            }
            FixedSizeList(item, dims) if is_number(item.data_type()) && *dims > 0 => Holds::Vector {
                dims: *dims as usize,
                whole: Element::of(item.data_type()).is_none(),
                fixed: true,
            },
            List(item) | LargeList(item) if is_number(item.data_type()) => {
                Holds::Vector { dims: 0, whole: Element::of(item.data_type()).is_none(), fixed: false }
            }
            List(item) | LargeList(item) | FixedSizeList(item, _) if is_text(item.data_type()) => {
                Holds::Labels
            }
            FixedSizeBinary(_) if is_uuid(file, field) => Holds::Uuid,
            FixedSizeBinary(width) => match element(file, field, bytes_as) {
                Some(element) => {
                    Holds::Vector { dims: *width as usize / element.width(), whole: false, fixed: true }
                }
                None => Holds::Other,
            },
            _ => Holds::Other,
        }
    }

    /// What holds both; None if nothing does without changing a value's meaning.
    fn with(&self, other: &Holds) -> Option<Holds> {
        use Holds::*;
        Some(match (self, other) {
            (same, other) if same == other => same.clone(),
            (Nothing, holds) | (holds, Nothing) => holds.clone(),
            (Integer, Unsigned) | (Unsigned, Integer) => Integer,
            (Float, Integer | Unsigned | Decimal(..)) | (Integer | Unsigned | Decimal(..), Float) => Float,
            (Decimal(..), Integer | Unsigned) | (Integer | Unsigned, Decimal(..)) => Float,
            (Decimal(p, s), Decimal(q, t)) => {
                let scale = *s.max(t);
                let whole = (i32::from(*p) - i32::from(*s)).max(i32::from(*q) - i32::from(*t));
                let precision = u8::try_from(whole + i32::from(scale)).ok()?;
                return (precision <= DECIMAL256_MAX_PRECISION).then_some(Decimal(precision, scale));
            }
            (Timestamp(a, x), Timestamp(b, y)) => {
                let zone = match (x, y) {
                    (x, y) if x == y => x.clone(),
                    // Of instants only the clock on the wall differs.
                    (Some(_), Some(_)) => Some(UTC.into()),
                    _ => return None,
                };
                Timestamp(*a.max(b), zone)
            }
            (Time(a), Time(b)) => Time(*a.max(b)),
            (Duration(a), Duration(b)) => Duration(*a.max(b)),
            (Vector { dims: a, whole: v, fixed: f }, Vector { dims: b, whole: w, fixed: g })
                if a == b || *a == 0 || *b == 0 =>
            {
                Vector { dims: *a.max(b), whole: *v && *w, fixed: *f && *g }
            }
            _ => return None,
        })
    }

    fn kind(&self) -> Kind {
        match self {
            Holds::Integer | Holds::Unsigned | Holds::Date | Holds::Timestamp(..) => Kind::Integer,
            Holds::Time(_) | Holds::Duration(_) => Kind::Integer,
            Holds::Float | Holds::Decimal(..) => Kind::Float,
            Holds::Boolean => Kind::Boolean,
            Holds::Text | Holds::Uuid => Kind::Text,
            Holds::Vector { dims, .. } => Kind::Vector { dims: *dims },
            Holds::Labels => Kind::Labels,
            Holds::Nothing | Holds::Other => Kind::Other,
        }
    }

    fn origin(&self) -> Origin {
        match self {
            Holds::Date | Holds::Timestamp(..) | Holds::Time(_) => Origin::Time,
            Holds::Uuid => Origin::Id,
            Holds::Vector { whole: true, fixed, .. } => Origin::WholeVector { fixed: *fixed },
            _ => Origin::Data,
        }
    }

    fn read_as(&self, stored: &DataType) -> ReadAs {
        let same = |t: DataType| ReadAs { table: t.clone(), through: t, int96: false };
        match self {
            Holds::Integer => same(DataType::Int64),
            Holds::Unsigned => same(DataType::UInt64),
            Holds::Float => same(DataType::Float64),
            Holds::Decimal(p, s) if *p <= DECIMAL128_MAX_PRECISION => same(DataType::Decimal128(*p, *s)),
            Holds::Decimal(p, s) => same(DataType::Decimal256(*p, *s)),
            Holds::Date => same(DataType::Date32),
            Holds::Timestamp(unit, zone) => same(DataType::Timestamp(*unit, zone.as_deref().map(Into::into))),
            Holds::Time(unit @ (TimeUnit::Second | TimeUnit::Millisecond)) => {
                ReadAs { table: DataType::Int64, through: DataType::Time32(*unit), int96: false }
            }
            Holds::Time(unit) => {
                ReadAs { table: DataType::Int64, through: DataType::Time64(*unit), int96: false }
            }
            Holds::Duration(unit) => {
                ReadAs { table: DataType::Int64, through: DataType::Duration(*unit), int96: false }
            }
            Holds::Boolean => same(DataType::Boolean),
            Holds::Text | Holds::Uuid => same(DataType::Utf8),
            Holds::Labels => same(DataType::new_list(DataType::Utf8, true)),
            Holds::Vector { .. } | Holds::Nothing | Holds::Other => same(stored.clone()),
        }
    }

    /// The more a column looks like a feature, the more: what a column is taken for that is not the same in all files.
    fn rank(&self) -> u8 {
        match self.kind() {
            Kind::Vector { .. } => 3 + u8::from(self.origin() == Origin::Data),
            Kind::Integer | Kind::Float => 2,
            Kind::Boolean | Kind::Text => 1,
            Kind::Labels | Kind::Other => 0,
        }
    }
}

fn is_number(t: &DataType) -> bool {
    t.is_integer() || t.is_floating() || *t == DataType::Boolean
}

fn is_text(t: &DataType) -> bool {
    match t {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// A stored type for people.
pub(crate) fn type_name(t: &DataType) -> String {
    match t {
        DataType::List(item) | DataType::LargeList(item) => {
            format!("list of {}", type_name(item.data_type()))
        }
        DataType::FixedSizeList(item, n) => format!("list of {n} {}", type_name(item.data_type())),
        DataType::FixedSizeBinary(n) => format!("{n} bytes"),
        DataType::Struct(_) => "struct".into(),
        DataType::Map(..) => "map".into(),
        DataType::Dictionary(_, value) => type_name(value),
        other => other.to_string(),
    }
}

/// A column while the files are gone through.
struct Found {
    name: String,
    holds: Holds,
    stored: DataType,
    /// The first file that has it, and how many have.
    first: usize,
    files: usize,
    /// The latest file that has it, and where in it.
    last: (usize, usize),
    index: bool,
    differs: Option<Differs>,
}

/// The columns of all files, and what each is read as; in the order of the first file, what others add last, then the keys
/// of partitions. `bytes_as`: see [`Dataset::with_bytes_as`](super::Dataset::with_bytes_as).
pub(crate) fn unite(files: &[Opened], bytes_as: Option<Element>) -> Result<(Vec<Column>, Vec<ReadAs>)> {
    let with_rows: Vec<usize> = (0..files.len()).filter(|&f| files[f].rows() > 0).collect();
    let mut found: Vec<Found> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for &f in &with_rows {
        let index = index_columns(&files[f]);
        for (root, field) in files[f].metadata.schema().fields().iter().enumerate() {
            let place = *places.entry(field.name().clone()).or_insert(found.len());
            let holds = Holds::of(&files[f], field, bytes_as);
            if place == found.len() {
                found.push(Found {
                    name: field.name().clone(),
                    holds,
                    stored: field.data_type().clone(),
                    first: f,
                    files: 1,
                    last: (f, root),
                    index: is_index(field.name()) || index.contains(field.name()),
                    differs: None,
                });
            } else {
                found[place].add(files, (f, root), field, holds);
            }
        }
    }
    let mut columns = Vec::new();
    let mut types = Vec::new();
    for mut of in found {
        if of.files < with_rows.len() {
            let lacks = |f: &&usize| files[**f].root(&of.name).is_none();
            if let Some(&f) = with_rows.iter().find(lacks) {
                let reason = format!("is missing, but {} has it", files[of.first].blob.name);
                of.differs.get_or_insert(Differs::new(&files[f], reason));
            }
        }
        if let Holds::Vector { dims: dims @ 0, whole, .. } = &mut of.holds {
            // A column that is no feature by default is none of which an error is worth telling.
            let known = list_dims(files, &of.name);
            *dims = if *whole { known.unwrap_or(0) } else { known? };
        }
        let int96 = |&f: &usize| files[f].root(&of.name).is_some_and(|root| files[f].is_int96(root));
        let int96 = matches!(of.holds, Holds::Timestamp(..)) && with_rows.iter().any(int96);
        let (column, read_as) = of.finish();
        let read_as = ReadAs { int96, ..read_as };
        columns.push(column);
        types.push(read_as);
    }
    keys(files, &with_rows, &mut columns, &mut types);
    Ok((columns, types))
}

impl Found {
    /// The same name again, in another file or at another place of the same.
    fn add(&mut self, files: &[Opened], (f, root): (usize, usize), field: &Field, holds: Holds) {
        if self.last.0 == f {
            let reason = format!("is there twice, at places {} and {}", self.last.1 + 1, root + 1);
            self.differs.get_or_insert(Differs::new(&files[f], reason));
        } else {
            self.files += 1;
        }
        self.last = (f, root);
        match self.holds.with(&holds) {
            Some(both) => self.holds = both,
            None => {
                let (here, there) = (type_name(field.data_type()), type_name(&self.stored));
                let reason = format!("is {here} here but {there} in {}", files[self.first].blob.name);
                self.differs.get_or_insert(Differs::new(&files[f], reason));
                if holds.rank() > self.holds.rank() {
                    self.holds = holds;
                }
            }
        }
        if self.stored == DataType::Null {
            self.stored = field.data_type().clone();
            self.first = f;
        }
    }

    fn finish(self) -> (Column, ReadAs) {
        let read_as = self.holds.read_as(&self.stored);
        let kind = self.holds.kind();
        let column = Column {
            name: self.name,
            origin: if self.index { Origin::Index } else { self.holds.origin() },
            stored: type_name(&self.stored),
            kind: if self.differs.is_some() { Kind::Other } else { kind.clone() },
            differs: self.differs.map(|differs| Differs { kind, ..differs }),
        };
        (column, read_as)
    }
}

impl Differs {
    fn new(file: &Opened, reason: String) -> Differs {
        Differs { kind: Kind::Other, file: file.blob.name.clone(), reason }
    }
}

/// Adds the keys of partitions that no file has as a column.
fn keys(files: &[Opened], with_rows: &[usize], columns: &mut Vec<Column>, types: &mut Vec<ReadAs>) {
    let mut names: Vec<&str> = Vec::new();
    for (key, _) in with_rows.iter().flat_map(|&f| &files[f].partition) {
        if !names.contains(&key.as_str()) && columns.iter().all(|c| c.name != *key) {
            names.push(key);
        }
    }
    for key in names {
        let has = |f: &&usize| files[**f].partition(key).is_some();
        let values = || with_rows.iter().filter_map(|&f| files[f].partition(key)).flatten();
        // `01` and `1` are two keys, and one number.
        let is_integer = |v: &str| v.parse::<i64>().is_ok_and(|n| n.to_string() == v);
        let integers = values().all(is_integer);
        let (kind, table) =
            if integers { (Kind::Integer, DataType::Int64) } else { (Kind::Text, DataType::Utf8) };
        let number = values().any(is_integer);
        let other = with_rows
            .iter()
            .find(|&&f| number && files[f].partition(key).flatten().is_some_and(|v| !is_integer(v)));
        let stored = other.map_or("key of folders".into(), |&f| {
            let value = files[f].partition(key).flatten().unwrap_or_default();
            format!("key of folders and text because of {}, where it is `{value}`", files[f].blob.name)
        });
        let first = with_rows.iter().find(has).expect("a file has the key");
        let lacking = with_rows.iter().find(|f| !has(f)).map(|&f| {
            let reason = format!("is no key of its folders, but of those of {}", files[*first].blob.name);
            Differs { kind: kind.clone(), ..Differs::new(&files[f], reason) }
        });
        columns.push(Column {
            name: key.to_string(),
            kind: if lacking.is_some() { Kind::Other } else { kind },
            stored,
            origin: Origin::Key,
            differs: lacking,
        });
        types.push(ReadAs { table: table.clone(), through: table, int96: false });
    }
}

/// What pandas calls an index that has no name, when it writes it to Parquet or to CSV.
fn is_index(name: &str) -> bool {
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let level = name.strip_prefix("__index_level_").and_then(|rest| rest.strip_suffix("__"));
    level.or(name.strip_prefix("Unnamed: ")).is_some_and(number)
}

/// The columns that pandas' own notes call the index.
fn index_columns(file: &Opened) -> Vec<String> {
    let notes = file.metadata.metadata().file_metadata().key_value_metadata();
    let pandas = notes.into_iter().flatten().find(|pair| pair.key == "pandas").and_then(|p| p.value.as_ref());
    let pandas: Option<serde_json::Value> = pandas.and_then(|text| serde_json::from_str(text).ok());
    let names = pandas.as_ref().and_then(|p| p["index_columns"].as_array());
    // A range that is no column is an object here.
    names.into_iter().flatten().filter_map(|name| name.as_str().map(String::from)).collect()
}

/// Numbers in the first row of a List column that is not null.
fn list_dims(files: &[Opened], column: &str) -> Result<usize> {
    for file in files {
        let Some(root) = file.root(column) else { continue };
        let reader = file.blob.open()?;
        for group in 0..file.metadata.metadata().num_row_groups() {
            for batch in file.batches(&reader, group, &[root], None, 64)? {
                let dims = (0..).zip(list_lengths(batch?.column(0))).find_map(|(_, n)| n.filter(|&n| n > 0));
                if let Some(dims) = dims {
                    return Ok(dims);
                }
            }
        }
    }
    Ok(0)
}

fn list_lengths(array: &ArrayRef) -> Vec<Option<usize>> {
    use arrow_array::cast::AsArray;
    let length = |i: usize| match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value_length(i) as usize,
        DataType::LargeList(_) => array.as_list::<i64>().value_length(i) as usize,
        _ => 0,
    };
    (0..array.len()).map(|i| array.is_valid(i).then(|| length(i))).collect()
}
