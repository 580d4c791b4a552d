//! Which rows are for training, validation and test, or in which fold: parts of the rows, exactly balanced, groups never cut.
//!
//! 1. [`round`] says how many rows of each stratum each split gets, and gives every row the same chance;
//! 2. [`groups`] joins rows that must stay together, and finds the split that a group harms least;
//! 3. [`deal`] puts the two together: the split of every row, those that have one already kept;
//! 4. [`time`] cuts by time instead, and [`leaks`] counts what splits that were given share.

pub mod round;
pub mod groups;
pub mod deal;
pub mod time;
pub mod leaks;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kit::error::{Error, Result};
use round::totals;

/// Split of a row that is in none.
pub const NO_SPLIT: u16 = u16::MAX;
/// Split of a row that was set aside, and stays so.
pub const ASIDE: u16 = NO_SPLIT - 1;

/// Splits are numbered in 16 bits, and nobody looks at more.
pub const MOST_SPLITS: usize = 1000;

/// Which rows are in which split. At most one of `shares`, `folds`, `column`, `files` is given; `time` goes with the first two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// `NAME=SHARE` in order: a share (`0.8`, `80%`), a number of rows (`5000`) or `rest`. Batches are dealt from the first.
    pub shares: Vec<String>,
    /// Equal parts, each of which is the test set once; `"groups"`: one for each value of the column that `groups` names.
    pub folds: Option<Folds>,
    /// What splits are balanced by: `label`, `strata`, a column, a column and `strata`, or `none`; None: the label, if there is one of at most 1000
    /// values, and the strata.
    pub by: Option<String>,
    /// Columns whose equal values keep rows together; also `modality`, `prototype`, `stratum`.
    pub groups: Vec<String>,
    /// Column whose values name the splits.
    pub column: Option<String>,
    /// The splits of `column` or `files` in order, where it is not the usual one.
    pub order: Vec<String>,
    /// `NAME=PATTERN`: of the files, whose rows are in the split.
    pub files: Vec<String>,
    /// Column by which rows are split in time: the earliest are in the first split.
    pub time: Option<String>,
    /// Least time between the last row of a split and the next one's first: in the column's unit, or as `7d`, `12h`, `30s`.
    pub gap: Option<String>,
    pub leaks: Leaks,
}

/// What is done about rows of one group in several splits, where these were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Leaks {
    /// They are counted.
    #[default]
    Report,
    /// Those of the earlier splits are set aside.
    Purge,
}

/// Number of folds, or `"groups"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "written::Folds", into = "written::Folds")]
pub enum Folds {
    Number(u32),
    Groups,
}

/// The same as it stands in a config file.
mod written {
    use super::{Deserialize, JsonSchema, Serialize};

    #[derive(Clone, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum Word {
        Groups,
    }

    #[derive(Clone, Serialize, Deserialize, JsonSchema)]
    #[serde(untagged, expecting = "expected \"groups\" or a number of folds")]
    pub enum Folds {
        Word(Word),
        Number(u32),
    }

    impl From<Folds> for super::Folds {
        fn from(x: Folds) -> Self {
            match x {
                Folds::Word(Word::Groups) => Self::Groups,
                Folds::Number(n) => Self::Number(n),
            }
        }
    }

    impl From<super::Folds> for Folds {
        fn from(x: super::Folds) -> Self {
            match x {
                super::Folds::Groups => Self::Word(Word::Groups),
                super::Folds::Number(n) => Self::Number(n),
            }
        }
    }
}

/// How rows come into their splits: `by` of splits.arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Shares,
    Folds,
    Column,
    Files,
    Time,
    TimeFolds,
}

impl Kind {
    pub fn folds(self) -> bool {
        matches!(self, Kind::Folds | Kind::TimeFolds)
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Shares => "shares",
            Kind::Folds => "folds",
            Kind::Column => "column",
            Kind::Files => "files",
            Kind::Time => "time",
            Kind::TimeFolds => "time-folds",
        }
    }
}

/// What keeps rows together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group<'a> {
    Column(&'a str),
    Modality,
    Prototype,
    Stratum,
}

/// What splits are balanced by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By<'a> {
    pub column: Option<&'a str>,
    pub strata: bool,
    /// Someone named the column: it is not left out in silence.
    pub asked: bool,
}

/// A split and how many rows it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub name: String,
    pub part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// In units of 10^-[`DIGITS`].
    Share(u128),
    Rows(u64),
    Rest,
}

/// Decimals that a share may have.
const DIGITS: u32 = 18;
const WHOLE: u128 = 10u128.pow(DIGITS);

/// A decimal as it is written, exactly, in units of 10^-[`DIGITS`]; up to 1.
fn decimal(text: &str, shift: u32) -> Option<u128> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = DIGITS as usize - shift as usize;
    let fine = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + rest.len() == 0 || whole.len() > 3 || rest.len() > digits || !fine(whole) || !fine(rest)
    {
        return None;
    }
    let number: u128 = format!("{whole}{rest:0<digits$}").parse().ok()?;
    Some(number).filter(|&n| n <= WHOLE)
}

fn part(text: &str) -> Option<Part> {
    match text.trim() {
        "rest" => Some(Part::Rest),
        text if text.ends_with('%') => decimal(text.trim_end_matches('%').trim(), 2).map(Part::Share),
        text if text.contains('.') => decimal(text, 0).map(Part::Share),
        text => text.parse().ok().map(Part::Rows),
    }
}

fn wrong<T>(key: &str, reason: String, help: &str) -> Result<T> {
    Err(Error::config(format!("splits.{key}"), reason, help))
}

/// Names are used in commands and as folders.
pub fn check_name(key: &str, name: &str, before: &[String]) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !(1..=32).contains(&name.len()) || !name.bytes().all(plain) {
        return wrong(key, format!("`{name}` is no name of a split"), "use 1 to 32 letters, digits, _ and -");
    }
    if before.iter().any(|b| b == name) {
        return wrong(key, format!("`{name}` is named twice"), "name each split once");
    }
    Ok(())
}

impl Params {
    pub fn is_default(&self) -> bool {
        *self == Params::default()
    }

    /// None: no splits are asked for.
    pub fn kind(&self) -> Option<Kind> {
        match () {
            () if self.column.is_some() => Some(Kind::Column),
            () if !self.files.is_empty() => Some(Kind::Files),
            () if self.folds.is_some() && self.time.is_some() => Some(Kind::TimeFolds),
            () if self.folds.is_some() => Some(Kind::Folds),
            () if self.shares.is_empty() => None,
            () if self.time.is_some() => Some(Kind::Time),
            () => Some(Kind::Shares),
        }
    }

    /// Settings that contradict each other or make no sense. `holdout`: that of the batches.
    pub fn check(&self, holdout: f64) -> Result<()> {
        let ways = [
            ("batches.holdout", holdout > 0.0),
            ("splits.shares", !self.shares.is_empty()),
            ("splits.folds", self.folds.is_some()),
            ("splits.column", self.column.is_some()),
            ("splits.files", !self.files.is_empty()),
        ];
        let mut given = ways.iter().filter(|w| w.1).map(|w| w.0);
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            return Err(Error::config(second, format!("contradicts {first}"), "split in one way only"));
        }
        let Some(kind) = self.kind() else {
            let idle = [
                ("by", self.by.is_some() && holdout == 0.0),
                ("groups", !self.groups.is_empty() && holdout == 0.0),
                ("time", self.time.is_some()),
                ("gap", self.gap.is_some()),
                ("order", !self.order.is_empty()),
                ("leaks", self.leaks != Leaks::Report),
            ];
            return match idle.iter().find(|i| i.1) {
                Some((key, _)) => wrong(
                    key,
                    "says how to split, and nothing is split".into(),
                    "add --split train=0.8,test=0.2 or --folds 5",
                ),
                None => self.group_list().and_then(|_| self.by(None)).map(drop),
            };
        };
        self.shares()?;
        self.group_list()?;
        self.by(None)?;
        let given = matches!(kind, Kind::Column | Kind::Files);
        let timed = matches!(kind, Kind::Time | Kind::TimeFolds);
        for (key, meaningless, why) in [
            ("by", self.by.is_some() && (given || timed), "these splits are not balanced"),
            ("groups", !self.groups.is_empty() && timed, "rows are split by time, across groups"),
            ("gap", self.gap.is_some() && !timed, "it is a part of splits.time"),
            ("time", self.time.is_some() && given, "the splits are given"),
            ("order", !self.order.is_empty() && !given, "it is of splits that a column or files name"),
            (
                "leaks",
                self.leaks != Leaks::Report && (!given || self.groups.is_empty()),
                "only splits that are given leak, by splits.groups",
            ),
        ] {
            if meaningless {
                return wrong(key, format!("has no effect: {why}"), "leave it out");
            }
        }
        match self.folds {
            Some(Folds::Number(n)) if !(2..=MOST_SPLITS as u32).contains(&n) => {
                wrong("folds", format!("{n} folds"), "use 2 to 1000")
            }
            Some(Folds::Groups) if timed => {
                wrong("folds", "contradicts splits.time".into(), "say how many: --folds 5")
            }
            Some(Folds::Groups) if !matches!(self.group_list()?[..], [Group::Column(_)]) => {
                wrong("folds", "needs one column whose values are the folds".into(), "add --group COLUMN")
            }
            _ => Ok(()),
        }
    }

    /// The splits in order, of shares: those of `shares`, or of `--holdout` alone; of folds equal ones.
    pub fn shares(&self) -> Result<Vec<Share>> {
        if let (Some(Folds::Number(n)), folds) = (self.folds, self.kind().is_some_and(Kind::folds)) {
            // By time: the first block is never tested.
            let parts = n + u32::from(folds && self.time.is_some());
            let one = |i| Share { name: fold_name(i, self.time.is_some()), part: Part::Rows(1) };
            return Ok((0..parts).map(one).collect());
        }
        let mut shares: Vec<Share> = Vec::new();
        for text in &self.shares {
            let help =
                "use train=0.8,val=0.1,test=0.1: shares with a point or %, numbers of rows, or one `rest`";
            let Some((name, number)) = text.split_once('=') else {
                return wrong("shares", format!("`{text}` is no NAME=SHARE"), help);
            };
            let name = name.trim();
            let names: Vec<String> = shares.iter().map(|s| s.name.clone()).collect();
            check_name("shares", name, &names)?;
            let Some(part) = part(number) else {
                return wrong(
                    "shares",
                    format!("`{number}` of `{name}` is no share from 0 to 1, number of rows or `rest`"),
                    help,
                );
            };
            shares.push(Share { name: name.into(), part });
        }
        if shares.len() == 1 {
            return wrong("shares", "one split is all rows".into(), "name two or more");
        }
        if shares.len() > MOST_SPLITS {
            return wrong("shares", format!("{} splits", shares.len()), "use at most 1000");
        }
        let rest = shares.iter().filter(|s| s.part == Part::Rest).count();
        let share = |s: &Share| if let Part::Share(q) = s.part { q } else { 0 };
        let sum: u128 = shares.iter().map(share).sum();
        let counted = shares.iter().any(|s| matches!(s.part, Part::Rows(_)));
        if rest > 1 || sum > WHOLE || (rest == 0 && !counted && sum != WHOLE && !shares.is_empty()) {
            let reason = if rest > 1 {
                "`rest` stands twice".into()
            } else {
                format!("the shares sum to {}", sum as f64 / WHOLE as f64)
            };
            return wrong("shares", reason, "shares sum to 1; give one split `rest`");
        }
        Ok(shares)
    }

    /// What keeps rows together.
    pub fn group_list(&self) -> Result<Vec<Group<'_>>> {
        let mut list: Vec<Group<'_>> = Vec::new();
        for name in &self.groups {
            let group = match (name.strip_prefix("column:"), name.trim()) {
                (Some(name), _) => Group::Column(name),
                (None, "modality") => Group::Modality,
                (None, "prototype") => Group::Prototype,
                (None, "stratum") => Group::Stratum,
                (None, "duplicates") => {
                    let help = "say column:duplicates for the column of that name";
                    return wrong(
                        "groups",
                        "duplicates: this version looks for no near-duplicates".into(),
                        help,
                    );
                }
                (None, name) => Group::Column(name),
            };
            if group == Group::Column("") || list.contains(&group) {
                return wrong(
                    "groups",
                    format!("`{name}` names nothing, or what is named already"),
                    "name each column once",
                );
            }
            list.push(group);
        }
        Ok(list)
    }

    /// What the splits are balanced by; `label`: the plan's.
    pub fn by<'a>(&'a self, label: Option<&'a str>) -> Result<By<'a>> {
        let Some(by) = &self.by else { return Ok(By { column: label, strata: true, asked: false }) };
        let words: Vec<&str> = by.split(',').map(str::trim).collect();
        let column = |word: &'a str| match word.strip_prefix("column:") {
            Some(name) => Some(name),
            None if word == "label" => label,
            None => Some(word),
        };
        match words[..] {
            ["none"] => Ok(By { column: None, strata: false, asked: true }),
            ["strata"] => Ok(By { column: None, strata: true, asked: true }),
            [word] if !word.is_empty() => Ok(By { column: column(word), strata: false, asked: true }),
            [word, "strata"] if !word.is_empty() && word != "none" && word != "strata" => {
                Ok(By { column: column(word), strata: true, asked: true })
            }
            _ => wrong(
                "by",
                format!("`{by}` is not understood"),
                "use label, strata, a column, COLUMN,strata or none",
            ),
        }
    }

    /// The label is asked for by that word.
    pub fn by_label(&self) -> bool {
        self.by.as_deref().is_some_and(|by| by.split(',').next().is_some_and(|word| word.trim() == "label"))
    }

    /// `NAME=PATTERN` of `files`.
    pub fn patterns(&self) -> Result<Vec<(String, String)>> {
        let mut out: Vec<(String, String)> = Vec::new();
        for text in &self.files {
            let Some((name, pattern)) = text.split_once('=').filter(|p| !p.1.trim().is_empty()) else {
                return wrong(
                    "files",
                    format!("`{text}` is no NAME=PATTERN"),
                    "use train=train-*,test=test-*",
                );
            };
            check_name("files", name.trim(), &[])?;
            out.push((name.trim().into(), pattern.trim().into()));
        }
        Ok(out)
    }

    /// Columns that are read for the splits, each with the setting that names it.
    pub fn columns(&self) -> Vec<(&'static str, &str)> {
        let groups = self.group_list().unwrap_or_default().into_iter();
        let groups = groups
            .filter_map(|g| if let Group::Column(name) = g { Some(("splits.groups", name)) } else { None });
        let by = self.by(None).ok().and_then(|by| Some(("splits.by", by.column?)));
        let others = [("splits.column", self.column.as_deref()), ("splits.time", self.time.as_deref())];
        groups.chain(by).chain(others.into_iter().filter_map(|(key, name)| Some((key, name?)))).collect()
    }
}

/// Name of a fold; by time, of a block.
pub fn fold_name(i: u32, block: bool) -> String {
    format!("{}-{i}", if block { "block" } else { "fold" })
}

/// Rows wanted of every split, of `rows` in all. `scaled`: numbers of rows are proportions, since there are others now than they were said of.
///
/// # Errors
/// Numbers of rows that do not come to `rows`.
pub fn wanted(shares: &[Share], rows: u64, scaled: bool) -> Result<Vec<u64>> {
    let n = u128::from(rows);
    let counted: u128 = shares.iter().map(|s| if let Part::Rows(k) = s.part { k.into() } else { 0 }).sum();
    let shared: u128 = shares.iter().map(|s| if let Part::Share(q) = s.part { q } else { 0 }).sum();
    let rest = shares.iter().any(|s| s.part == Part::Rest);
    // In units of a row / WHOLE.
    let mut of = n * WHOLE;
    let taken = counted * WHOLE + shared * n;
    if scaled && !rest && counted > 0 {
        of = taken;
    }
    if taken > of || (taken < of && !rest) {
        let reason = format!("the splits take {} rows, and there are {rows}", taken / WHOLE);
        return wrong("shares", reason, "give one split `rest`");
    }
    let parts: Vec<u128> = (shares.iter())
        .map(|s| match s.part {
            Part::Share(q) => q * n,
            Part::Rows(k) => u128::from(k) * WHOLE,
            Part::Rest => of - taken,
        })
        .collect();
    Ok(if of == 0 { vec![0; shares.len()] } else { totals(rows, &parts, of) })
}

/// `--holdout X` as shares: train=1-X,holdout=X.
pub fn of_holdout(share: f64) -> Vec<Share> {
    let held = decimal(&format!("{share}"), 0).unwrap_or((share * WHOLE as f64) as u128);
    let share = |name: &str, q| Share { name: name.into(), part: Part::Share(q) };
    vec![share("train", WHOLE - held), share("holdout", held)]
}

/// The usual order of splits that are given: train first, validation next, test last; others by name.
pub fn usual_order(mut names: Vec<String>, rows: impl Fn(&str) -> u64) -> Vec<String> {
    let place = |name: &str| match name {
        "train" => 0,
        "val" | "valid" | "validation" | "dev" => 2,
        "test" => 4,
        _ => 3,
    };
    let rank = |name: &String| ["val", "valid", "validation", "dev"].iter().position(|n| n == name);
    names.sort_by_key(|n| (place(n), rank(n), n.clone()));
    // Batches are dealt from the first: without `train`, the one that has most rows.
    if names.first().is_some_and(|n| n != "train") {
        let most = (0..names.len()).max_by_key(|&i| (rows(&names[i]), std::cmp::Reverse(i))).unwrap_or(0);
        let first = names.remove(most);
        names.insert(0, first);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(text: &[&str]) -> Params {
        Params { shares: text.iter().map(|t| t.to_string()).collect(), ..Params::default() }
    }

    #[test]
    fn shares_are_exact() {
        let of = |text: &[&str], n| wanted(&shares(text).shares().unwrap(), n, false);
        assert_eq!(of(&["train=0.8", "val=0.1", "test=0.1"], 10).unwrap(), [8, 1, 1]);
        assert_eq!(of(&["a=50%", "b=rest"], 5).unwrap(), [2, 3]);
        assert_eq!(of(&["a=12.5%", "b=0.875"], 1000).unwrap(), [125, 875]);
        assert_eq!(of(&["core=500", "rest=rest"], 1797).unwrap(), [500, 1297]);
        assert_eq!(of(&["a=600", "b=400"], 1000).unwrap(), [600, 400]);
        assert!(of(&["a=600", "b=400"], 1001).unwrap_err().to_string().contains("1001"));
        assert_eq!(wanted(&shares(&["a=600", "b=400"]).shares().unwrap(), 2000, true).unwrap(), [1200, 800]);
        assert_eq!(wanted(&of_holdout(0.05), 1000, false).unwrap(), [950, 50]);
        let five = Params { folds: Some(Folds::Number(5)), ..Params::default() };
        assert_eq!(wanted(&five.shares().unwrap(), 23, true).unwrap(), [4, 4, 5, 5, 5]);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (bad, said) in [
            (shares(&["train=0.8", "test=0.1"]), "sum to 0.9"),
            (shares(&["train=0.8", "test"]), "`test` is no NAME=SHARE"),
            (shares(&["train=0.8", "train=0.2"]), "named twice"),
            (shares(&["tr ain=0.8", "test=0.2"]), "no name"),
            (shares(&["a=1.5", "b=rest"]), "`1.5` of `a`"),
            (shares(&["a=rest", "b=rest"]), "twice"),
            (shares(&["a=1.0"]), "one split"),
            (Params { folds: Some(Folds::Number(1)), ..Params::default() }, "1 folds"),
            (Params { folds: Some(Folds::Groups), ..Params::default() }, "one column"),
            (
                Params { folds: Some(Folds::Number(2)), column: Some("c".into()), ..Params::default() },
                "contradicts",
            ),
            (Params { gap: Some("7d".into()), ..Params::default() }, "nothing is split"),
            (Params { groups: vec!["a".into(), "a".into()], ..shares(&["a=0.5", "b=0.5"]) }, "already"),
            (
                Params { groups: vec!["a".into()], time: Some("t".into()), ..shares(&["a=0.5", "b=0.5"]) },
                "by time",
            ),
        ] {
            let e = bad.check(0.0).unwrap_err().to_string();
            assert!(e.contains(said), "{e}");
        }
        assert!(shares(&["a=0.5", "b=0.5"]).check(0.1).is_err(), "two ways of splitting");
        shares(&["a=0.5", "b=0.5"]).check(0.0).unwrap();
        Params::default().check(0.0).unwrap();
    }

    #[test]
    fn train_comes_first_and_test_last() {
        let order =
            |names: &[&str]| usual_order(names.iter().map(|n| n.to_string()).collect(), |n| n.len() as u64);
        assert_eq!(
            order(&["dev", "extra", "test", "train", "val"]),
            ["train", "val", "dev", "extra", "test"]
        );
        assert_eq!(order(&["a", "longest", "test"]), ["longest", "a", "test"]);
    }
}
