//! The split of every row: what the columns say that splits are balanced by, kept together by or cut by, read once more, and dealt.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType, TimeUnit};
use serde_json::Value;

use super::groups;
use super::row_values::{Cells, Coded, Coding, Taking};
use super::settle::{Census, Rows};
use crate::config::Config;
use crate::features::{numbers, quantile};
use crate::format::manifest::{SplitRows, Splits};
use crate::kit::error::{Error, Result};
use crate::kit::ids::NONE;
use crate::parts::{Local, Pass, parts};
use crate::plan::Plan;
use crate::source::{Columns, Dataset, RawRows, matches_path};
use crate::splits::deal;
use crate::splits::groups::{Pairs, count_groups, joined, part_old_splits, several};
use crate::splits::time::{split_by_last, split_by_time};
use crate::splits::{self, ASIDE, Folds, Group, Kind, Leaks, MOST_SPLITS, NO_SPLIT, leaks};

/// Numbers that a row of these columns is reckoned to have, for the size of parts.
const WIDTH: usize = 8;
/// Values of a column that splits are balanced by, one by one.
const MOST_VALUES: usize = 1000;

/// What was dealt.
#[derive(Debug, Default)]
pub struct Dealt {
    /// How, for plan.json; None: `--holdout` alone.
    pub told: Option<Splits>,
    /// Split of every row, [`NO_SPLIT`] for none.
    pub split: Vec<u16>,
    /// (lowest row, row) of rows that stay together.
    pub groups: Vec<(u64, u64)>,
    pub warnings: Vec<String>,
}

/// Deals the rows into splits, as the config says.
pub struct Splitter<'a> {
    config: &'a Config,
    dataset: &'a Dataset,
    engine: &'a Local,
    /// Split of every row in an older plan ([`Older::splits`](super::holdout::Older::splits)), and what that said; empty: there is none.
    old: RefCell<Vec<u16>>,
    then: Option<&'a Splits>,
    /// The strata of a census from left to right in the dendrogram.
    leaves: &'a dyn Fn(&Census) -> Vec<u32>,
    pub dealt: RefCell<Dealt>,
}

impl<'a> Splitter<'a> {
    /// `older`: the plan that the rows of `old` have their splits from.
    pub fn new(
        all: &super::All<'a>,
        old: Vec<u16>,
        older: Option<&'a Plan>,
        leaves: &'a dyn Fn(&Census) -> Vec<u32>,
    ) -> Self {
        let super::All { config, dataset, engine, .. } = *all;
        let then = older.and_then(|plan| plan.manifest().splits.as_ref());
        Splitter { config, dataset, engine, old: RefCell::new(old), then, leaves, dealt: RefCell::default() }
    }

    fn read<P: Pass<Item = RawRows>>(&self, name: &str, pass: &P) -> Result<P::Output> {
        let reader = Columns::new(self.dataset, vec![], vec![name.to_string()])?;
        self.engine.run("splits", &reader, pass, &parts(self.dataset.rows(), WIDTH))
    }

    fn input<T>(&self, name: &str, reason: String, help: &str) -> Result<T> {
        Err(Error::input("dataset", reason, help).column(name))
    }

    /// Splits all rows: see [`settle::Asked`](super::settle::Asked).
    pub fn deal(&self, census: &Census, rows: &Rows) -> Result<Vec<u16>> {
        let old = self.old.take();
        let kind = self.config.splits.kind();
        let mut stratum = vec![NONE; rows.total as usize];
        let leaves = (self.leaves)(census);
        let mut place = vec![NONE; leaves.len()];
        leaves.iter().zip(0..).for_each(|(&h, at)| place[h as usize] = at);
        rows.each_chunk(|first, rows| {
            for (at, row) in stratum[first as usize..].iter_mut().zip(rows).filter(|(_, r)| r.stratum != NONE)
            {
                *at = place[row.stratum as usize];
            }
            Ok(())
        })?;
        let taking = stratum.iter().filter(|&&h| h != NONE).count() as u64;
        let mut dealt = match kind {
            Some(Kind::Column) => self.by_column(&stratum)?,
            Some(Kind::Files) => self.by_files(&stratum)?,
            Some(Kind::Time | Kind::TimeFolds) => self.by_time(&stratum, &old)?,
            Some(Kind::Folds) if self.config.splits.folds == Some(Folds::Groups) => {
                self.fold_a_value(&stratum, &old)?
            }
            _ => self.by_shares(&stratum, &old, rows)?,
        };
        if matches!(kind, Some(Kind::Column | Kind::Files)) && !self.config.splits.groups.is_empty() {
            dealt.groups = self.groups(&stratum, rows)?.0;
            self.count_leaks(&mut dealt);
        }
        self.tell(&mut dealt, &stratum, &leaves, taking)?;
        let nobody_is_out = kind.is_some_and(Kind::folds);
        let split = if nobody_is_out { Vec::new() } else { dealt.split.clone() };
        *self.dealt.borrow_mut() = dealt;
        Ok(split)
    }

    /// Names and wanted rows, in plan.json's form.
    fn named(&self, names: impl Iterator<Item = String>, wanted: Option<&[u64]>) -> Dealt {
        let row = |(i, name)| SplitRows { name, wanted: wanted.map(|w| w[i]), ..SplitRows::default() };
        let by = self.config.splits.kind().map_or("shares", Kind::name).into();
        let told = Splits { by, splits: names.enumerate().map(row).collect(), ..Splits::default() };
        Dealt { told: Some(told), ..Dealt::default() }
    }

    fn by_shares(&self, stratum: &[u32], old: &[u16], rows: &Rows) -> Result<Dealt> {
        let params = &self.config.splits;
        let shares = match self.config.batches.holdout {
            share if share > 0.0 => splits::of_holdout(share),
            _ => params.shares()?,
        };
        let mut split = vec![NO_SPLIT; stratum.len()];
        let (mut groups, links) = match params.groups.is_empty() {
            true => Default::default(),
            false => self.groups(stratum, rows)?,
        };
        if !old.is_empty() {
            split.copy_from_slice(old);
            if part_old_splits(&groups, &links, stratum, &mut split) {
                let taking = |row: u64| split[row as usize] != ASIDE;
                groups = joined(&links, taking);
            }
        }
        let (cells, cell, deciles, warnings) = self.cells(stratum, &split)?;
        let taking = cell.iter().filter(|&&c| c != NONE).count() as u64;
        let scaled = !old.is_empty() || params.folds.is_some();
        let totals = splits::wanted(&shares, taking, scaled)?;
        let dealing = deal::Rows {
            cells: &cells,
            cell: &cell,
            groups: &groups,
            totals: &totals,
            seed: self.config.seed,
        };
        dealing.deal(&mut split, || self.engine.progress().check())?;
        split.iter_mut().zip(&cell).filter(|(_, c)| **c == NONE).for_each(|(s, _)| *s = NO_SPLIT);
        let mut dealt = self.named(shares.into_iter().map(|s| s.name), Some(&totals));
        dealt.told.iter_mut().for_each(|t| t.deciles.clone_from(&deciles));
        Ok(Dealt { split, groups, warnings, ..dealt })
    }

    /// The cells that are balanced, and that of every row that takes part; the borders of deciles; what was left out.
    #[expect(clippy::type_complexity, reason = "named at the one place where it is taken apart")]
    fn cells(
        &self,
        stratum: &[u32],
        split: &[u16],
    ) -> Result<(Vec<(u32, u32)>, Vec<u32>, Vec<f64>, Vec<String>)> {
        let by = self.config.splits.by(self.config.source.label.as_deref())?;
        let (mut label, mut deciles, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(name) = by.column {
            (label, deciles) = self.labels(name, stratum)?;
            if label.is_empty() && by.asked {
                let help = "name a column of fewer values, or of numbers, with --split-by";
                return Err(Error::config(
                    "splits.by",
                    format!("column `{name}` has more than {MOST_VALUES} values"),
                    help,
                ));
            }
            if label.is_empty() {
                warnings.push(format!(
                    "splits are balanced by strata alone: `{name}` has more than {MOST_VALUES} values"
                ));
            }
        }
        let takes = |i: usize| stratum[i] != NONE && split[i] != ASIDE;
        let of = |i: usize| (label.get(i).copied().unwrap_or(0), if by.strata { stratum[i] } else { 0 });
        let found: BTreeSet<(u32, u32)> = (0..stratum.len()).filter(|&i| takes(i)).map(of).collect();
        let number: BTreeMap<(u32, u32), u32> = found.into_iter().zip(0..).collect();
        let cell = (0..stratum.len()).map(|i| if takes(i) { number[&of(i)] } else { NONE }).collect();
        Ok((number.into_keys().collect(), cell, deciles, warnings))
    }

    /// The label of every row, null the last; of many numbers their tenth. Empty: too many texts.
    fn labels(&self, name: &str, stratum: &[u32]) -> Result<(Vec<u32>, Vec<f64>)> {
        if let Some(Coded { words, mut code }) = self.read(name, &Coding { most: MOST_VALUES })? {
            code.iter_mut().filter(|c| **c == NONE).for_each(|c| *c = words.len() as u32);
            return Ok((code, Vec::new()));
        }
        if matches!(self.dataset.read_as(name)?.table, DataType::Utf8 | DataType::Boolean) {
            return Ok((Vec::new(), Vec::new()));
        }
        let values: Vec<f64> = self.read(name, &Cells { of: |array: &ArrayRef| numbers(array) })?;
        let deciles = match self.then.map(|then| then.deciles.clone()).filter(|d| !d.is_empty()) {
            Some(deciles) => deciles,
            None => {
                let mut sorted: Vec<f64> = (values.iter().zip(stratum))
                    .filter(|(x, h)| **h != NONE && !x.is_nan())
                    .map(|(x, _)| *x)
                    .collect();
                sorted.sort_unstable_by(f64::total_cmp);
                (1..10).map(|q| quantile(&sorted, f64::from(q) / 10.0)).collect()
            }
        };
        let tenth = |x: f64| if x.is_nan() { 10 } else { deciles.partition_point(|&d| d < x) as u32 };
        Ok((values.into_iter().map(tenth).collect(), deciles))
    }

    /// Rows that stay together, and what joins them by each of the columns.
    fn groups(&self, stratum: &[u32], rows: &Rows) -> Result<(Pairs, Vec<Pairs>)> {
        let mut links: Vec<Pairs> = Vec::new();
        for group in self.config.splits.group_list()? {
            if let Group::Column(name) = group {
                let found = groups::find(self.dataset, &[name.to_string()], &Taking(stratum), self.engine)?;
                let mut pairs: Pairs = found.into_iter().map(|m| (m.group, m.row)).collect();
                pairs.sort_unstable();
                links.push(pairs);
                continue;
            }
            let mut first: BTreeMap<u32, u64> = BTreeMap::new();
            let mut pairs = Pairs::new();
            rows.each_chunk(|at, rows| {
                for (number, row) in (at..).zip(rows).filter(|(_, row)| row.stratum != NONE) {
                    let id = match group {
                        Group::Modality => row.modality,
                        Group::Prototype => row.prototype,
                        _ => row.stratum,
                    };
                    if id != NONE {
                        pairs.push((*first.entry(id).or_insert(number), number));
                    }
                }
                Ok(())
            })?;
            links.push(several(pairs));
        }
        Ok((joined(&links, |_| true), links))
    }

    /// A fold for every value of the one column.
    fn fold_a_value(&self, stratum: &[u32], old: &[u16]) -> Result<Dealt> {
        let [Group::Column(name)] = self.config.splits.group_list()?[..] else {
            unreachable!("checked with the settings")
        };
        let Some(Coded { words, code }) = self.read(name, &Coding { most: MOST_SPLITS })? else {
            return self.input(
                name,
                format!("has more than {MOST_SPLITS} values, which are folds"),
                "use --folds K --group COLUMN",
            );
        };
        let without = (0..code.len()).filter(|&i| stratum[i] != NONE && code[i] == NONE).count();
        if without > 0 {
            let help = "leave them out with --where, or use --folds K --group COLUMN";
            return self.input(
                name,
                format!("has no value in {without} rows, which belong to no fold"),
                help,
            );
        }
        // Values that had a fold keep it; others come after.
        let mut fold = vec![NONE; words.len()];
        let mut next = self.then.map_or(0, |then| then.splits.len() as u32);
        for (&code, &was) in code.iter().zip(old).filter(|(c, s)| **c != NONE && **s < ASIDE) {
            fold[code as usize] = was.into();
        }
        let mut first = vec![u64::MAX; words.len()];
        let mut pairs = Pairs::new();
        for (i, &c) in code.iter().enumerate().filter(|(i, c)| stratum[*i] != NONE && **c != NONE) {
            first[c as usize] = first[c as usize].min(i as u64);
            pairs.push((first[c as usize], i as u64));
        }
        for (fold, _) in fold.iter_mut().zip(&first).filter(|(f, first)| **f == NONE && **first != u64::MAX) {
            (*fold, next) = (next, next + 1);
        }
        if !(2..=MOST_SPLITS as u32).contains(&next) {
            return self.input(
                name,
                format!("has {next} values in the planned rows: as many folds are not possible"),
                "2 to 1000 are",
            );
        }
        let of = |i: usize| if stratum[i] == NONE { NO_SPLIT } else { fold[code[i] as usize] as u16 };
        let split = (0..code.len()).map(of).collect();
        let dealt = self.named((0..next).map(|i| splits::fold_name(i, false)), None);
        Ok(Dealt { split, groups: several(pairs), ..dealt })
    }

    /// Splits that a column names.
    fn by_column(&self, stratum: &[u32]) -> Result<Dealt> {
        let name = self.config.splits.column.as_deref().expect("the kind of splits says so");
        let Some(Coded { words, code }) = self.read(name, &Coding { most: MOST_SPLITS })? else {
            return self.input(
                name,
                format!("has more than {MOST_SPLITS} values, which name splits"),
                "name a column such as train, val, test",
            );
        };
        let mut rows = vec![0u64; words.len()];
        let taken = || code.iter().zip(stratum).filter(|(c, h)| **c != NONE && **h != NONE).map(|(c, _)| *c);
        taken().for_each(|c| rows[c as usize] += 1);
        self.given(words, &rows, |i| if stratum[i] == NONE { NONE } else { code[i] }, stratum.len())
    }

    /// Splits that the paths of the files name.
    fn by_files(&self, stratum: &[u32]) -> Result<Dealt> {
        let patterns = self.config.splits.patterns()?;
        let mut words: Vec<String> = patterns.iter().map(|p| p.0.clone()).collect();
        words.sort();
        words.dedup();
        let mut used = vec![false; patterns.len()];
        let mut of_file = Vec::new();
        for file in self.dataset.files() {
            let fitting: Vec<usize> =
                (0..patterns.len()).filter(|&i| matches_path(&patterns[i].1, &file.path)).collect();
            fitting.iter().for_each(|&i| used[i] = true);
            let names: BTreeSet<&str> = fitting.iter().map(|&i| patterns[i].0.as_str()).collect();
            let (Some(name), 1) = (names.first(), names.len()) else {
                let which = if names.is_empty() {
                    "matches no pattern".into()
                } else {
                    format!("matches those of {}", names.into_iter().collect::<Vec<_>>().join(" and "))
                };
                let help = "give every file one split: --split-files train=train-*,test=test-*";
                return Err(Error::input(&file.path, format!("{which} of splits.files"), help));
            };
            of_file.push(words.iter().position(|w| w == name).expect("it is one of them") as u32);
        }
        if let Some(i) = used.iter().position(|u| !u) {
            let reason =
                format!("no file matches `{}`, the pattern of split `{}`", patterns[i].1, patterns[i].0);
            return Err(Error::input(
                "dataset",
                reason,
                "patterns are of paths below the common folder of all files",
            ));
        }
        let mut code = vec![NONE; stratum.len()];
        for group in self.dataset.row_groups() {
            let range = group.first_row as usize..(group.first_row + group.rows) as usize;
            code[range].fill(of_file[group.file]);
        }
        let mut rows = vec![0u64; words.len()];
        (0..code.len()).filter(|&i| stratum[i] != NONE).for_each(|i| rows[code[i] as usize] += 1);
        self.given(words, &rows, |i| if stratum[i] == NONE { NONE } else { code[i] }, stratum.len())
    }

    /// Splits by name; `of`: place of every row's name among `words`.
    fn given(
        &self,
        words: Vec<String>,
        rows: &[u64],
        of: impl Fn(usize) -> u32,
        total: usize,
    ) -> Result<Dealt> {
        let key = if self.config.splits.column.is_some() { "splits.column" } else { "splits.files" };
        for word in &words {
            splits::check_name(key, word, &[])?;
        }
        let there: Vec<String> =
            words.iter().zip(rows).filter(|(_, n)| **n > 0).map(|(w, _)| w.clone()).collect();
        let asked = &self.config.splits.order;
        let order = match asked.is_empty() {
            true if self.then.is_some() => {
                // Rows are where they were: nothing becomes the first split that was not.
                let known = |name: &String| {
                    self.then.and_then(|then| then.splits.iter().position(|s| s.name == *name))
                };
                let mut order = there;
                order.sort_by_key(|name| (known(name).unwrap_or(usize::MAX), name.clone()));
                order
            }
            true => {
                splits::usual_order(there, |name| rows[words.iter().position(|w| w == name).expect("a word")])
            }
            false => {
                let same = asked.iter().collect::<BTreeSet<_>>() == there.iter().collect()
                    && asked.len() == there.len();
                if !same {
                    let reason = format!("is {}, and the splits are {}", asked.join(","), there.join(","));
                    return Err(Error::config(
                        "splits.order",
                        reason,
                        "name each of them once, the one to train on first",
                    ));
                }
                asked.clone()
            }
        };
        if order.len() < 2 {
            let reason = format!(
                "names {} in the planned rows",
                if order.is_empty() { "no split".into() } else { format!("only `{}`", order[0]) }
            );
            return Err(Error::input("dataset", reason, "there must be two splits or more")
                .column(self.config.splits.column.as_deref().unwrap_or("files")));
        }
        let place = |w: &String| order.iter().position(|o| o == w).map_or(NO_SPLIT, |s| s as u16);
        let number: Vec<u16> = words.iter().map(place).collect();
        let split =
            (0..total).map(|i| if of(i) == NONE { NO_SPLIT } else { number[of(i) as usize] }).collect();
        Ok(Dealt { split, ..self.named(order.into_iter(), None) })
    }

    fn by_time(&self, stratum: &[u32], old: &[u16]) -> Result<Dealt> {
        let name = self.config.splits.time.as_deref().expect("the kind of splits says so");
        let shares = self.config.splits.shares()?;
        let kind = self.dataset.read_as(name)?.table;
        let then = self.then.filter(|_| !old.is_empty()).map(|then| then.last.as_slice());
        let whole = |array: &ArrayRef| -> Result<Vec<Option<i64>>> {
            let array = arrow_cast::cast(array, &DataType::Int64).map_err(|e| {
                Error::input("dataset", "holds a number that is no time", "times are at most 2^63")
                    .column(name)
                    .because(e)
            })?;
            Ok(array.as_primitive::<Int64Type>().iter().collect())
        };
        let (totals, split, last) = match &kind {
            DataType::Float64 => {
                let time: Vec<f64> = self.read(name, &Cells { of: |array: &ArrayRef| numbers(array) })?;
                let gap = self.gap(name, &kind)?.1;
                let time: Vec<Option<f64>> = time.into_iter().map(|t| (!t.is_nan()).then_some(t)).collect();
                let known = then.map(|l| l.iter().map(|v| v.as_ref()?.as_f64()).collect());
                cut(&time, stratum, &shares, known, old, |a, b| b - a < gap, Value::from)?
            }
            DataType::Int64 | DataType::UInt64 | DataType::Date32 | DataType::Timestamp(..) => {
                let time = self.read(name, &Cells { of: whole })?;
                let gap = self.gap(name, &kind)?.0;
                let known = then.map(|l| l.iter().map(|v| v.as_ref()?.as_i64()).collect());
                cut(
                    &time,
                    stratum,
                    &shares,
                    known,
                    old,
                    |a, b| i128::from(b) - i128::from(a) < gap,
                    Value::from,
                )?
            }
            other => {
                return self.input(
                    name,
                    format!("is of type {other}, neither a number nor a date"),
                    "name a column of numbers or dates with --split-time",
                );
            }
        };
        let mut dealt = self.named(shares.into_iter().map(|s| s.name), Some(&totals));
        dealt.told.iter_mut().for_each(|t| t.last.clone_from(&last));
        Ok(Dealt { split, ..dealt })
    }

    /// The gap in units of the column, as a whole number and as any.
    fn gap(&self, name: &str, kind: &DataType) -> Result<(i128, f64)> {
        let Some(text) = self.config.splits.gap.as_deref() else { return Ok((0, 0.0)) };
        let text = text.trim();
        let help = "use a number in the column's unit, or 7d, 12h, 30s for dates and times";
        let wrong = |reason: String| Err(Error::config("splits.gap", reason, help));
        if let Ok(number) = text.parse::<f64>() {
            if !(number >= 0.0 && number.is_finite()) {
                return wrong(format!("`{text}` is no length of time"));
            }
            return Ok((text.parse().unwrap_or(number.ceil() as i128), number));
        }
        let per_day: i128 = match kind {
            DataType::Date32 => 1,
            DataType::Timestamp(TimeUnit::Second, _) => 86_400,
            DataType::Timestamp(TimeUnit::Millisecond, _) => 86_400_000,
            DataType::Timestamp(TimeUnit::Microsecond, _) => 86_400_000_000,
            DataType::Timestamp(TimeUnit::Nanosecond, _) => 86_400_000_000_000,
            _ => return wrong(format!("`{text}` is of dates, and column `{name}` holds numbers")),
        };
        let parts = [('d', 1i128), ('h', 24), ('m', 1440), ('s', 86_400)];
        let found = parts
            .iter()
            .find_map(|(unit, of)| Some((text.strip_suffix(*unit)?.trim().parse::<u32>().ok()?, *of)));
        let Some((number, of)) = found else { return wrong(format!("`{text}` is no length of time")) };
        let gap = (i128::from(number) * per_day + of - 1) / of;
        Ok((gap, gap as f64))
    }

    fn count_leaks(&self, dealt: &mut Dealt) {
        let Dealt { told: Some(told), split, groups, .. } = dealt else { return };
        let splits = told.splits.len();
        let purged = match self.config.splits.leaks {
            Leaks::Purge => leaks::purge(split, groups, splits),
            Leaks::Report => vec![0; splits],
        };
        let counted = leaks::leaks(split, groups, splits);
        for (s, counts) in told.splits.iter_mut().zip(counted.into_iter().zip(purged)) {
            s.leaks = Some(counts);
        }
    }

    /// Counts what came out, and says what a person should know of it.
    fn tell(&self, dealt: &mut Dealt, stratum: &[u32], leaves: &[u32], taking: u64) -> Result<()> {
        let Dealt { told: Some(told), split, groups, warnings } = dealt else { return Ok(()) };
        let splits = told.splits.len();
        let mut cells = vec![vec![0u64; splits]; leaves.len()];
        let mut sizes = vec![0u64; leaves.len()];
        for (&h, &s) in stratum.iter().zip(split.iter()).filter(|(h, s)| **h != NONE && **s != NO_SPLIT) {
            cells[h as usize][s as usize] += 1;
            sizes[h as usize] += 1;
        }
        let dealt_rows: u64 = sizes.iter().sum();
        told.aside = taking - dealt_rows;
        let balanced =
            matches!(told.by.as_str(), "shares" | "folds") && self.config.splits.folds != Some(Folds::Groups);
        for (s, row) in told.splits.iter_mut().enumerate() {
            row.rows = cells.iter().map(|c| c[s]).sum();
            let Some(wanted) = row.wanted.filter(|_| balanced) else { continue };
            let off = |h: usize| cells[h][s] as f64 - (sizes[h] as f64 * wanted as f64) / dealt_rows as f64;
            let worst =
                (0..leaves.len()).max_by(|&a, &b| off(a).abs().total_cmp(&off(b).abs()).then(b.cmp(&a)));
            row.worst = worst.map(|h| (leaves[h], off(h)));
        }
        if let Some(empty) = told.splits.iter().find(|s| s.rows == 0) {
            let help = "ask for fewer splits, for larger ones, or group by less";
            return Err(Error::input(
                "dataset",
                format!("has no row for split `{}`: {taking} rows are split", empty.name),
                help,
            ));
        }
        let smallest = told.splits.iter().map(|s| s.wanted.unwrap_or(s.rows)).min().unwrap_or(0);
        if !groups.is_empty() {
            told.groups = Some(count_groups(groups, smallest));
        }
        if let Some(found) = &told.groups {
            for s in told.splits.iter().filter(|_| balanced) {
                let missed = s.rows as f64 - s.wanted.unwrap_or(s.rows) as f64;
                if missed.abs() > 0.01 * taking as f64 {
                    warnings.push(format!(
                        "split `{}` has {} rows, not {}: the largest of {} groups has {}",
                        s.name,
                        s.rows,
                        s.wanted.unwrap_or(0),
                        found.groups,
                        found.largest
                    ));
                }
            }
        }
        for s in told.splits.iter() {
            if let Some((leaked, _)) = s.leaks.filter(|l| l.0 > 0) {
                warnings.push(format!(
                    "{leaked} of {} rows of split `{}` are in a group that an earlier split has rows of: --leaks purge sets those aside",
                    s.rows, s.name
                ));
            }
        }
        if self.config.batches.holdout > 0.0 {
            dealt.told = None;
        }
        Ok(())
    }
}

/// Totals, split of every row and last times; `known`: the last times of an older plan, whose rows keep their split.
#[expect(clippy::type_complexity, reason = "named at the one place where it is taken apart")]
fn cut<T: Copy + PartialOrd>(
    time: &[Option<T>],
    stratum: &[u32],
    shares: &[splits::Share],
    known: Option<Vec<Option<T>>>,
    old: &[u16],
    near: impl Fn(T, T) -> bool,
    json: impl Fn(T) -> Value,
) -> Result<(Vec<u64>, Vec<u16>, Vec<Option<Value>>)> {
    let time: Vec<Option<T>> = time.iter().zip(stratum).map(|(t, h)| t.filter(|_| *h != NONE)).collect();
    let rows = time.iter().flatten().count() as u64;
    let scaled = known.is_some() || shares.iter().all(|s| matches!(s.part, splits::Part::Rows(1)));
    let totals = splits::wanted(shares, rows, scaled)?;
    let mut split = vec![NO_SPLIT; time.len()];
    let last = match known {
        None => split_by_time(&time, &totals, near, &mut split),
        Some(last) => {
            for (i, s) in split.iter_mut().enumerate().filter(|(i, _)| stratum[*i] != NONE) {
                *s = match (old[i], time[i]) {
                    (was, _) if was < ASIDE => was,
                    (NO_SPLIT, Some(t)) => split_by_last(t, &last, &near),
                    _ => NO_SPLIT,
                };
            }
            last
        }
    };
    Ok((totals, split, last.into_iter().map(|t| t.map(&json)).collect()))
}
