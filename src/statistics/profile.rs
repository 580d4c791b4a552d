//! What each modality holds in the user's own columns, and names for modalities.
//!
//! The fit sample decides how a column is told ([`Profile::new`]); counts come from the full data:
//!
//! - **values**: integers with up to 32 distinct sampled values, booleans, text and dates with up to 10 000. The 32 most
//!   frequent values of each modality and the 256 most frequent of all rows (ties by value) with their exact counts. Candidates are the sampled values: one
//!   that the sample missed is rare and is not listed.
//! - **numbers**: all other integers and floats. `mean=..` over the full data, `quantile 0=..`, `quantile 0.1=..`, ..
//!   `quantile 1=..` over the sample.
//! - **lengths**: text and dates with more distinct values. `length=..`, the mean number of characters, over the sample; the
//!   full pass does not read such a column.
//!
//! Texts of more than 1024 bytes on average (over the first 256 sampled rows) are documents, not values: the pipeline does not
//! hand them over, so they are neither told nor read.
//!
//! With the `mean=` and the `length=` of all rows stand the sampled rows at and between their quantiles ([`Cells`]).
//!
//! All three have a row `nulls` where there are nulls (of the sample for lengths; NaN and infinite numbers count as nulls).
//! So a row's `value` is a value, or the name of a statistic with its number after `=`. `count` is then the number of
//! rows the statistic is of; `share` is always `count` over the modality's rows (of the sample where the statistic is)
//! and `lift` that share over the share in all rows.
//!
//! O(rows x columns) time; memory O(distinct pairs of modality and value).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use serde::{Deserialize, Serialize};

use crate::features::{numbers, quantile};
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::modalities::Assigned;
use crate::parts::Pass;
use crate::source::text_value;
use crate::statistics::cells::Cells;

/// Values listed of a column in a modality.
const LISTED: usize = 32;
/// Values listed of a column in all rows: what other data is compared with.
const LISTED_OF_ALL: usize = 256;
/// Sampled values above which a column of text is told by its lengths.
const MAX_VALUES: usize = 10_000;
/// A row to be: value, whether it is a statistic, count, share.
type Line = (String, bool, u64, f64);
/// Stand in the place of a value's number.
const NULL: u32 = u32::MAX;
const UNSEEN: u32 = u32::MAX - 1;

/// One row of `profile.arrow`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileRow {
    /// None: all rows of the plan.
    pub modality: Option<u32>,
    pub column: String,
    pub value: String,
    /// `value` is the name of a statistic (with its number), not a value. Not written: [`name`] needs it.
    pub statistic: bool,
    pub count: u64,
    /// In [0, 1].
    pub share: f64,
    /// Share in the modality over the share in all rows; 1 for all rows.
    pub lift: f64,
    /// With the mean of numbers or lengths, of all rows: the sampled ones at and between their quantiles.
    pub cells: Cells,
}

/// The pass.
#[derive(Serialize, Deserialize)]
pub struct Profile {
    columns: Vec<Column>,
    /// Tell every value that is counted, not only the most frequent ones.
    whole: bool,
}

#[derive(Serialize, Deserialize)]
struct Column {
    name: String,
    told: Told,
    /// Rows made from the sample: group (None: all rows), then (value, count, share). Only who finishes the pass needs them.
    #[serde(skip)]
    sampled: BTreeMap<Option<u32>, Vec<(String, u64, f64)>>,
    /// Sampled numbers or lengths at and between their quantiles.
    #[serde(skip)]
    cells: Cells,
}

#[derive(Serialize, Deserialize)]
enum Told {
    Values(Values),
    /// `shift` is about the mean, so that the sums keep their digits.
    Numbers {
        shift: f64,
    },
    Lengths,
}

/// The candidates, ascending by their text, and their numbers.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
struct Values {
    texts: Vec<String>,
    of_text: HashMap<String, u32>,
    /// For integer columns, which then need no text per row.
    of_integer: HashMap<i64, u32>,
}

/// Mergeable form of the pass.
#[derive(Serialize, Deserialize)]
pub struct Partial {
    /// Rows of each modality.
    rows: BTreeMap<u32, u64>,
    columns: Vec<Counts>,
}

#[derive(Serialize, Deserialize)]
enum Counts {
    /// Rows by modality (upper half of the key) and value (lower half), ascending.
    Values(Vec<(u64, u64)>),
    /// Rows with a number and the sum of their shifted numbers.
    Numbers(BTreeMap<u32, (u64, f64)>),
    None,
}

impl Profile {
    /// `sample`: the columns to tell, of the fit sample's rows; `modality` of each of these rows ([`NONE`] to pass over one).
    pub fn new(sample: &RecordBatch, modality: &[u32]) -> Result<Self> {
        let fields = sample.schema();
        let columns = fields.fields().iter().zip(sample.columns());
        // Lists are read where they stratify: the strata tell of them.
        let columns = columns.filter(|(field, _)| !matches!(field.data_type(), DataType::List(_)));
        let columns = columns
            .map(|(field, cells)| Column::new(field.name(), cells, modality))
            .collect::<Result<_>>()?;
        Ok(Profile { columns, whole: false })
    }

    /// Counts again what an older profile tells, on other rows: columns with the values that it lists (None: the mean of
    /// numbers), and all of them are told. What comes from a sample is not.
    pub fn again(columns: impl IntoIterator<Item = (String, Option<BTreeSet<String>>)>) -> Self {
        let column = |(name, values): (String, Option<BTreeSet<String>>)| {
            let told =
                values.map_or(Told::Numbers { shift: 0.0 }, |values| Told::Values(Values::new(values)));
            Column { name, told, sampled: BTreeMap::new(), cells: Cells::default() }
        };
        Profile { columns: columns.into_iter().map(column).collect(), whole: true }
    }

    /// The columns that the full pass must read.
    pub fn reads(&self) -> Vec<String> {
        let read = self.columns.iter().filter(|c| !matches!(c.told, Told::Lengths));
        read.map(|c| c.name.clone()).collect()
    }
}

impl Column {
    fn new(name: &str, cells: &ArrayRef, modality: &[u32]) -> Result<Column> {
        let is_decimal = matches!(cells.data_type(), DataType::Decimal128(..) | DataType::Decimal256(..));
        let is_float = is_decimal || matches!(cells.data_type(), DataType::Float64 | DataType::Float32);
        let is_number =
            is_float || matches!(cells.data_type(), DataType::Int64 | DataType::Int32 | DataType::UInt64);
        let most = if is_number { LISTED } else { MAX_VALUES };
        let mut texts = BTreeSet::new();
        if !is_float {
            for i in (0..cells.len()).filter(|&i| modality[i] != NONE) {
                texts.extend(text_value(cells, i));
                if texts.len() > most {
                    break;
                }
            }
        }
        let column = |told, sampled, cells| Column { name: name.into(), told, sampled, cells };
        if !is_float && texts.len() <= most {
            return Ok(column(Told::Values(Values::new(texts)), BTreeMap::new(), Cells::default()));
        }
        // Numbers, or lengths of texts, of each modality of the sample and of all; NaN where there is none.
        let x = if is_number {
            numbers(cells)?
        } else {
            let length = |i| text_value(cells, i).map_or(f64::NAN, |t| t.chars().count() as f64);
            (0..cells.len()).map(length).collect()
        };
        let mut groups: BTreeMap<Option<u32>, Vec<f64>> = BTreeMap::new();
        for (x, &m) in x.into_iter().zip(modality).filter(|(_, m)| **m != NONE) {
            groups.entry(None).or_default().push(x);
            groups.entry(Some(m)).or_default().push(x);
        }
        let mut shift = 0.0;
        let (mut sampled, mut cells) = (BTreeMap::new(), Cells::default());
        for (group, mut x) in groups {
            let rows = x.len() as f64;
            x.retain(|x| x.is_finite());
            let (n, nulls) = (x.len() as u64, rows as u64 - x.len() as u64);
            let mean = x.iter().sum::<f64>() / n.max(1) as f64;
            if group.is_none() && mean.is_finite() {
                shift = mean;
            }
            let mut told = Vec::new();
            x.sort_unstable_by(f64::total_cmp);
            let quantiles: Vec<f64> = match n {
                0 => Vec::new(),
                _ => (0..=10).map(|q| quantile(&x, f64::from(q) / 10.0)).collect(),
            };
            if group.is_none() {
                cells = Cells::count(&quantiles, x.iter().copied());
            }
            if n > 0 && is_number {
                let row = |(q, x): (u32, &f64)| format!("quantile {}={x}", f64::from(q) / 10.0);
                told.extend((0..).zip(&quantiles).map(|q| (row(q), n, n as f64 / rows)));
            } else if n > 0 {
                told.push((format!("length={mean}"), n, n as f64 / rows));
            }
            if nulls > 0 && !is_number {
                told.push(("nulls".into(), nulls, nulls as f64 / rows));
            }
            sampled.insert(group, told);
        }
        Ok(column(if is_number { Told::Numbers { shift } } else { Told::Lengths }, sampled, cells))
    }
}

impl From<Vec<String>> for Values {
    fn from(texts: Vec<String>) -> Self {
        let numbered = || texts.iter().zip(0u32..);
        Values {
            of_integer: numbered().filter_map(|(t, i)| Some((t.parse().ok()?, i))).collect(),
            of_text: numbered().map(|(t, i)| (t.clone(), i)).collect(),
            texts,
        }
    }
}

impl From<Values> for Vec<String> {
    fn from(values: Values) -> Self {
        values.texts
    }
}

impl Values {
    fn new(texts: BTreeSet<String>) -> Self {
        texts.into_iter().collect::<Vec<_>>().into()
    }

    fn number(&self, cells: &dyn Array, i: usize) -> u32 {
        let found = match cells.data_type() {
            _ if cells.is_null(i) => return NULL,
            DataType::Int64 => self.of_integer.get(&cells.as_primitive::<Int64Type>().value(i)),
            DataType::Utf8 => self.of_text.get(cells.as_string::<i32>().value(i)),
            _ => text_value(cells, i).and_then(|t| self.of_text.get(&t)),
        };
        found.copied().unwrap_or(UNSEEN)
    }
}

impl Pass for Profile {
    type Item = Assigned;
    type Partial = Partial;
    /// All rows first, then the modalities ascending; in each the columns in order, values by falling count.
    type Output = Vec<ProfileRow>;

    fn partial(&self, item: &Assigned) -> Result<Partial> {
        let mut rows = BTreeMap::new();
        for &m in item.modality.iter().filter(|m| **m != NONE) {
            *rows.entry(m).or_default() += 1;
        }
        let planned = || item.modality.iter().enumerate().filter(|(_, m)| **m != NONE);
        let count = |column: &Column| {
            if matches!(column.told, Told::Lengths) {
                return Ok(Counts::None);
            }
            let cells = crate::features::column(item.points.table.as_ref(), &column.name)?;
            Ok(match &column.told {
                Told::Lengths => Counts::None,
                Told::Values(values) => {
                    let key =
                        |(i, &m): (usize, &u32)| u64::from(m) << 32 | u64::from(values.number(cells, i));
                    let mut keys: Vec<u64> = planned().map(key).collect();
                    keys.sort_unstable();
                    Counts::Values(keys.chunk_by(u64::eq).map(|run| (run[0], run.len() as u64)).collect())
                }
                Told::Numbers { shift } => {
                    let x = numbers(cells)?;
                    let mut sums: BTreeMap<u32, (u64, f64)> = BTreeMap::new();
                    for (i, &m) in planned().filter(|(i, _)| x[*i].is_finite()) {
                        let sum = sums.entry(m).or_default();
                        *sum = (sum.0 + 1, sum.1 + (x[i] - shift));
                    }
                    Counts::Numbers(sums)
                }
            })
        };
        Ok(Partial { rows, columns: self.columns.iter().map(count).collect::<Result<_>>()? })
    }

    fn merge(&self, mut left: Partial, right: Partial) -> Partial {
        for (m, n) in right.rows {
            *left.rows.entry(m).or_default() += n;
        }
        for (left, right) in left.columns.iter_mut().zip(right.columns) {
            match (left, right) {
                (Counts::Values(left), Counts::Values(right)) => *left = add_sorted(left, &right),
                (Counts::Numbers(left), Counts::Numbers(right)) => {
                    for (m, (n, x)) in right {
                        let sum = left.entry(m).or_default();
                        *sum = (sum.0 + n, sum.1 + x);
                    }
                }
                _ => {}
            }
        }
        left
    }

    fn finish(&self, all: Option<Partial>) -> Result<Vec<ProfileRow>> {
        let Some(Partial { rows, columns }) = all else { return Ok(Vec::new()) };
        let total: u64 = rows.values().sum();
        if total == 0 {
            return Ok(Vec::new());
        }
        let groups: Vec<(Option<u32>, u64)> =
            std::iter::once((None, total)).chain(rows.iter().map(|(&m, &n)| (Some(m), n))).collect();
        let mut told: Vec<std::vec::IntoIter<Vec<ProfileRow>>> = self
            .columns
            .iter()
            .zip(columns)
            .map(|(c, counts)| c.rows(&groups, counts, self.whole).into_iter())
            .collect();
        let group = |_| told.iter_mut().filter_map(Iterator::next).flatten().collect::<Vec<_>>();
        Ok(groups.iter().flat_map(group).collect())
    }
}

/// The sum of two ascending lists of (key, count).
fn add_sorted(a: &[(u64, u64)], b: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    let mut sum = Vec::with_capacity(a.len().max(b.len()));
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x.0 == y.0 => {
                let both = (x.0, x.1 + y.1);
                b.next();
                a.next();
                both
            }
            (Some(x), Some(y)) if x.0 > y.0 => b.next().expect("peeked"),
            (Some(_), _) => a.next().expect("peeked"),
            (None, Some(_)) => b.next().expect("peeked"),
            (None, None) => return sum,
        };
        sum.push(next);
    }
}

impl Column {
    /// The rows of every group (None: all rows of the plan) with its number of rows.
    fn rows(&self, groups: &[(Option<u32>, u64)], counts: Counts, whole: bool) -> Vec<Vec<ProfileRow>> {
        // Per group; all but the most frequent values are cut off afterwards.
        let mut told: Vec<Vec<Line>> = vec![Vec::new(); groups.len()];
        let place: BTreeMap<Option<u32>, usize> = groups.iter().map(|g| g.0).zip(0..).collect();
        match (&counts, &self.told) {
            (Counts::Values(pairs), Told::Values(values)) => {
                let mut by_group: Vec<BTreeMap<u32, u64>> = vec![BTreeMap::new(); groups.len()];
                for &(key, n) in pairs {
                    let (m, value) = ((key >> 32) as u32, key as u32);
                    for g in [0, place[&Some(m)]] {
                        *by_group[g].entry(value).or_default() += n;
                    }
                }
                for ((told, by_value), (_, rows)) in told.iter_mut().zip(by_group).zip(groups) {
                    let share = |n: u64| n as f64 / *rows as f64;
                    let known = by_value.iter().filter(|(v, _)| (**v as usize) < values.texts.len());
                    told.extend(known.map(|(&v, &n)| (values.texts[v as usize].clone(), false, n, share(n))));
                    // Stable: equal counts stay in the order of their values.
                    told.sort_by_key(|t| std::cmp::Reverse(t.2));
                    told.extend(by_value.get(&NULL).map(|&n| ("nulls".into(), true, n, share(n))));
                }
            }
            (Counts::Numbers(sums), Told::Numbers { shift }) => {
                // In the order of the modalities: the same bits wherever the parts were summed.
                let all = sums.values().fold((0, 0.0), |a, s| (a.0 + s.0, a.1 + s.1));
                for (told, (m, rows)) in told.iter_mut().zip(groups) {
                    let (n, sum) = m.map_or(all, |m| sums.get(&m).copied().unwrap_or_default());
                    let share = |n: u64| n as f64 / *rows as f64;
                    if n > 0 {
                        told.push((format!("mean={}", shift + sum / n as f64), true, n, share(n)));
                    }
                    if n < *rows {
                        told.push(("nulls".into(), true, rows - n, share(rows - n)));
                    }
                }
            }
            _ => {}
        }
        for (told, (m, _)) in told.iter_mut().zip(groups) {
            let sampled = self.sampled.get(m).into_iter().flatten();
            told.extend(sampled.map(|(value, n, share)| (value.clone(), true, *n, *share)));
        }
        // Lifts compare like with like: statistics by their name, as the numbers differ.
        let label = |value: &str, statistic: bool| match value.split_once('=') {
            Some((name, _)) if statistic => (name.to_string(), statistic),
            _ => (value.to_string(), statistic),
        };
        let overall: BTreeMap<(String, bool), f64> =
            told[0].iter().map(|t| (label(&t.0, t.1), t.3)).collect();
        let row = |m: Option<u32>, (value, statistic, count, share): Line| {
            let lift = share / overall[&label(&value, statistic)];
            let told =
                m.is_none() && statistic && (value.starts_with("mean=") || value.starts_with("length="));
            let cells = if told { self.cells.clone() } else { Cells::default() };
            ProfileRow { modality: m, column: self.name.clone(), value, statistic, count, share, lift, cells }
        };
        let group = |(told, (m, _)): (Vec<Line>, &(Option<u32>, u64))| {
            let (statistics, mut values): (Vec<_>, Vec<_>) = told.into_iter().partition(|t| t.1);
            values.truncate(if whole { usize::MAX } else { listed(*m) });
            values.into_iter().chain(statistics).map(|t| row(*m, t)).collect()
        };
        told.into_iter().zip(groups).map(group).collect()
    }
}

/// How many values are listed of a column in a modality, or in all rows.
pub fn listed(modality: Option<u32>) -> usize {
    if modality.is_some() { LISTED } else { LISTED_OF_ALL }
}

/// What sets a modality apart, told by the rows of all (ascending by modality): of the values that at least 10 % of its rows hold and that are at least 1.5 times as
/// frequent in it as in all rows, the one or two of the highest lift (ties: the more frequent, then as listed), as
/// "column=value".
pub fn name(rows: &[ProfileRow], modality: u32) -> Vec<String> {
    // Among the rows of thousands of modalities.
    let own = &rows[rows.partition_point(|r| r.modality < Some(modality))..];
    let mut telling: Vec<&ProfileRow> = (own.iter().take_while(|r| r.modality == Some(modality)))
        .filter(|r| !r.statistic && r.share >= 0.1 && r.lift >= 1.5)
        .collect();
    telling.sort_by(|a, b| b.lift.total_cmp(&a.lift).then(b.count.cmp(&a.count)));
    telling.iter().take(2).map(|r| format!("{}={}", r.column, r.value)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{BooleanArray, Float64Array, Int64Array, StringArray};

    use super::*;
    use crate::statistics::fixtures::Data;

    const ROWS: usize = 12_000;

    /// Columns: class (0..40 by modality), word (text, nulls), price (float, nulls), url (all different), flag.
    fn data() -> Data {
        let mut data = Data::random(ROWS, 1);
        let n = ROWS as i64;
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("class", Arc::new(Int64Array::from_iter_values((0..n).map(|i| i % 4 * 3 + i % 2)))),
            ("many", Arc::new(Int64Array::from_iter_values(0..n))),
            (
                "word",
                Arc::new(
                    (0..n).map(|i| (i % 6 != 0).then(|| format!("w{}", i * i % 97))).collect::<StringArray>(),
                ),
            ),
            (
                "price",
                Arc::new((0..n).map(|i| (i % 5 != 0).then_some(1e6 + i as f64)).collect::<Float64Array>()),
            ),
            ("url", Arc::new((0..n).map(|i| Some(format!("http://{i}"))).collect::<StringArray>())),
            ("flag", Arc::new((0..n).map(|i| Some(i % 4 == 1)).collect::<BooleanArray>())),
        ];
        data.table = Some(RecordBatch::try_from_iter(columns).unwrap());
        data.modality.iter_mut().enumerate().filter(|(i, _)| i % 40 == 0).for_each(|(_, m)| *m = NONE);
        data
    }

    #[test]
    fn counts_are_exact() {
        let data = data();
        // All rows stand for the sample, so that there are more than 10 000 urls.
        let profile = Profile::new(data.table.as_ref().unwrap(), &vec![0; ROWS]).unwrap();
        assert_eq!(profile.reads(), ["class", "many", "word", "price", "flag"]);
        let rows = data.run(&profile, 700, 2);
        assert_eq!(rows, data.run(&profile, 700, 1));
        let table = data.table.as_ref().unwrap();
        for group in [None, Some(0), Some(1), Some(2)] {
            let of = |g: Option<u32>| -> Vec<usize> {
                data.planned().filter(|&i| g.is_none_or(|g| data.modality[i] == g)).collect()
            };
            let (members, all) = (of(group), of(None));
            for column in ["class", "word", "flag"] {
                let cells = table.column_by_name(column).unwrap();
                let count = |rows: &[usize]| {
                    let mut counts: BTreeMap<Option<String>, u64> = BTreeMap::new();
                    rows.iter().for_each(|&i| *counts.entry(text_value(cells, i)).or_default() += 1);
                    counts
                };
                let (here, there) = (count(&members), count(&all));
                let mut want: Vec<(&String, u64)> =
                    here.iter().filter_map(|(v, n)| v.as_ref().map(|v| (v, *n))).collect();
                want.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
                want.truncate(if group.is_some() { 32 } else { 256 });
                let told = || rows.iter().filter(|r| r.modality == group && r.column == column);
                let got: Vec<(&String, u64)> =
                    told().filter(|r| !r.statistic).map(|r| (&r.value, r.count)).collect();
                assert_eq!(got, want, "{column} {group:?}");
                let nulls = told().find(|r| r.statistic).map(|r| r.count);
                assert_eq!(nulls, here.get(&None).copied(), "{column} {group:?}");
                for r in told().filter(|r| !r.statistic) {
                    let share = r.count as f64 / members.len() as f64;
                    let overall = there[&Some(r.value.clone())] as f64 / all.len() as f64;
                    assert!((r.share - share).abs() < 1e-12 && (r.lift - share / overall).abs() < 1e-12);
                }
            }
            let price = numbers(table.column_by_name("price").unwrap()).unwrap();
            let x: Vec<f64> = members.iter().map(|&i| price[i]).filter(|x| x.is_finite()).collect();
            let mean = rows
                .iter()
                .find(|r| r.modality == group && r.value.starts_with("mean=") && r.column == "price");
            let mean = mean.unwrap();
            let got: f64 = mean.value["mean=".len()..].parse().unwrap();
            assert!((got - x.iter().sum::<f64>() / x.len() as f64).abs() < 1e-6);
            assert_eq!(mean.count, x.len() as u64);
        }
        let url: Vec<_> = rows.iter().filter(|r| r.column == "url" && r.modality.is_none()).collect();
        assert!(url.len() == 1 && url[0].value.starts_with("length=11."), "{url:?}");
        let many = rows.iter().filter(|r| r.column == "many" && r.modality.is_none()).count();
        assert_eq!(many, 12); // mean, 11 quantiles
    }

    #[test]
    fn names() {
        let data = data();
        let profile = Profile::new(data.table.as_ref().unwrap(), &data.modality).unwrap();
        let rows = data.run(&profile, 700, 1);
        // Class 4 and the flag are modality 1's alone.
        assert_eq!(name(&rows, 1), ["class=4", "flag=true"]);
        assert_eq!(name(&rows, 2), ["class=6", "flag=false"]);
        assert_eq!(name(&rows, 99), [""; 0]);
    }

    #[test]
    fn sorted_lists_add_up() {
        assert_eq!(
            add_sorted(&[(1, 1), (3, 2)], &[(0, 5), (3, 1), (9, 1)]),
            [(0, 5), (1, 1), (3, 3), (9, 1)]
        );
        assert_eq!(add_sorted(&[], &[(2, 1)]), [(2, 1)]);
    }
}
