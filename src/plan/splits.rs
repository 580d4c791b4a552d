//! The splits and folds of a plan: which rows are in them, and a plan without one of its folds.

use crate::format::splits::Splits;
use crate::format::{Kind, batches};
use crate::kit::error::{Error, Result};
use crate::kit::ids::NONE;
use crate::kit::rng::Stream;

use super::reader::{Plan, cached};

/// Names of the two splits of `--holdout`.
const OF_HOLDOUT: [&str; 2] = ["train", "holdout"];

/// Which groups of rows are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// Rows that splits keep together.
    Splits,
    /// Rows that share a value of `--no-duplicates`.
    NoDuplicates,
}

impl Plan {
    /// The split of every row, mapped once; None: there are none, or only held-out rows.
    pub fn splits(&self) -> Result<Option<&Splits>> {
        let read = || {
            let Some(table) = self.table(Kind::Splits)? else { return Ok(None) };
            let splits = Splits::decode(&table)?;
            if splits.rows() != self.manifest.rows || splits.splits.is_empty() {
                return Err(table.damaged(format!(
                    "it has {} rows, not {}",
                    splits.rows(),
                    self.manifest.rows
                )));
            }
            Ok(Some(splits))
        };
        cached(&self.splits, read).map(Option::as_ref)
    }

    /// Name, wanted rows (None: whatever was given) and rows of every split or fold in order; of `--holdout` alone `train` and `holdout`.
    pub fn split_names(&self) -> Result<Vec<(String, Option<u64>, u64)>> {
        if let Some(splits) = self.splits()? {
            return Ok(splits.splits.iter().map(|s| (s.name.clone(), s.wanted, s.rows)).collect());
        }
        let rows = self.manifest.rows_planned;
        let held = self.manifest.file(Kind::Holdout.path()).map(|f| f.rows);
        let named =
            |held| OF_HOLDOUT.iter().zip([rows, held]).map(|(n, rows)| (n.to_string(), None, rows)).collect();
        Ok(held.map_or_else(Vec::new, named))
    }

    /// Rows of the split or fold of this name, ascending. O(rows).
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn split(&self, name: &str) -> Result<Vec<u64>> {
        let names = self.split_names()?;
        let Some(place) = names.iter().position(|s| s.0 == name) else {
            let help = match names.is_empty() {
                true => "plan with --split train=0.8,test=0.2, or --folds 5".to_string(),
                false => {
                    format!("it has {}", names.iter().map(|s| s.0.as_str()).collect::<Vec<_>>().join(", "))
                }
            };
            return Err(Error::config("split", format!("the plan has no split `{name}`"), help));
        };
        match self.splits()? {
            Some(splits) => Ok(splits.members(place as u16)),
            None if place == 1 => Ok(self.held_out()?.into_iter().map(|h| h.row).collect()),
            None => {
                let samples = self.samples()?;
                Ok((0..samples.rows()).filter(|&row| samples.stratum(row) != NONE).collect())
            }
        }
    }

    fn in_folds(&self) -> Result<&Splits> {
        match self.splits()?.filter(|s| s.in_folds()) {
            Some(splits) => Ok(splits),
            None => Err(Error::config("fold", "the plan has no folds", "plan with --folds 5")),
        }
    }

    /// Number of folds; 0: the plan has none. By time there is one less than blocks.
    pub fn folds(&self) -> Result<u32> {
        let Some(splits) = self.splits()?.filter(|s| s.in_folds()) else { return Ok(0) };
        Ok(splits.splits.len() as u32 - u32::from(splits.by_time_folds()))
    }

    fn check_fold(&self, fold: u32) -> Result<&Splits> {
        let splits = self.in_folds()?;
        match self.folds()? {
            folds if fold < folds => Ok(splits),
            folds => Err(Error::config("fold", format!("{fold} of {folds} folds"), "folds count from 0")),
        }
    }

    /// Rows that are trained on and rows that are tested in a fold, both ascending. O(rows).
    pub fn fold_rows(&self, fold: u32) -> Result<(Vec<u64>, Vec<u64>)> {
        let splits = self.check_fold(fold)?;
        let (trains, tests) = parts(splits, fold);
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for row in 0..splits.rows() {
            match splits.split(row) {
                Some(s) if s == tests => test.push(row),
                Some(s) if trains(s) => train.push(row),
                _ => {}
            }
        }
        Ok((train, test))
    }

    /// The plan for training without the rows of a fold: the same modalities, strata and score groups, those strata that have no other
    /// rows skipped, dealt with a seed of its own. What is counted over all rows (weights, gain, statistics) stays as it is. O(rows).
    pub fn fold(&self, fold: u32) -> Result<Plan> {
        let splits = self.check_fold(fold)?;
        let (trains, _) = parts(splits, fold);
        let trains = |row: u64| splits.split(row).is_some_and(&trains);
        let members = self.strata()?.filtered(trains);
        let mut manifest = self.manifest.clone();
        manifest.rows_planned = members.len();
        manifest.seed = Stream::Split.key(self.manifest.seed, &[5, fold.into()]);
        manifest.epochs = 0;
        // States of a training without one fold are not those of another.
        let id = format!("{} without fold {fold}", self.manifest.plan);
        manifest.plan = blake3::hash(id.as_bytes()).to_hex().to_string();
        manifest.files.retain(|f| f.kind != batches::CONTRACT.name);
        if members.is_empty() {
            return Err(Error::config("fold", format!("nothing is left to train on in fold {fold}"), ""));
        }
        let plan = Plan::with(self.path.clone(), manifest);
        let groups = self.key_groups()?.map(|g| g.iter().copied().filter(|m| trains(m.row)).collect());
        // Nothing else has looked at the new plan yet.
        let _ = (plan.strata.set(members), plan.groups.set(groups));
        Ok(plan)
    }

    /// Lowest row of the group of every row; None: it is alone. `of` None: the only groups that there are.
    ///
    /// # Errors
    /// If the plan has no such groups, or several kinds and none is named.
    pub fn group_of(&self, rows: &[u64], of: Option<Groups>) -> Result<Vec<Option<u64>>> {
        self.check_rows(rows)?;
        let of_splits = !self.settings()?.splits.groups.is_empty();
        let of_keys = !self.settings()?.batches.no_duplicates.is_empty();
        let of = match of {
            Some(of) => of,
            None if of_splits && of_keys => {
                let reason = "the plan has two kinds of groups";
                return Err(Error::config("of", reason, "say of=\"splits\" or of=\"no_duplicates\""));
            }
            None if of_splits => Groups::Splits,
            None => Groups::NoDuplicates,
        };
        match (of, self.splits()?.filter(|_| of_splits)) {
            (Groups::NoDuplicates, _) => self.groups_of(rows),
            (Groups::Splits, Some(splits)) => Ok(rows.iter().map(|&row| splits.group(row)).collect()),
            (Groups::Splits, None) => {
                let help = "plan with --group COLUMN";
                Err(Error::config("splits.groups", "the plan keeps no groups together", help))
            }
        }
    }
}

/// Whether a split is trained on in this fold, and the one that is tested.
fn parts(splits: &Splits, fold: u32) -> (impl Fn(u16) -> bool + use<>, u16) {
    let (fold, by_time) = (fold as u16, splits.by_time_folds());
    (move |s| if by_time { s <= fold } else { s != fold }, if by_time { fold + 1 } else { fold })
}
