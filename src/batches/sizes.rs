//! Which batch size is used when: sizes that change while a training of some epochs goes on.
//!
//! Batches of the smallest size B are dealt as ever; a batch of size kB is the union of k of them. A change is due at a share of the training,
//! counted in rows, and takes effect at the next batch of size B whose number in its epoch is a multiple of K, the least common multiple of all
//! sizes over B, or with the next epoch. So every row comes once an epoch; with the changes at a_0 = 0 <= a_1 <= .. <= the batches of an epoch,
//! it has exactly sum_i ceil((a_{i+1} - a_i) B / s_i) steps of s_i rows, of which only the last can be short. After the last epoch the last size
//! stays.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batches::number::lcm;
use crate::format::manifest::SizeSchedule;
use crate::kit::decimal::Decimal;
use crate::kit::error::{Error, Result};

/// Epochs of a training, at most: their steps are listed in the plan.
pub const EPOCHS: u32 = 100_000;

/// From which share of the training on a size holds: `["0.1", 512]`, or `"0.1:512"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "written::Change", into = "written::Pair")]
pub struct Change {
    pub from: Decimal,
    pub size: u64,
}

/// The same as it stands in a config file.
mod written {
    use super::{Decimal, Deserialize, JsonSchema, Serialize};

    #[derive(Serialize, Deserialize, JsonSchema)]
    pub struct Pair(pub Decimal, pub u64);

    #[derive(Deserialize, JsonSchema)]
    #[serde(
        untagged,
        expecting = "expected a share of the training and a batch size, such as [0.1, 512] or \"0.1:512\""
    )]
    pub enum Change {
        Pair(Pair),
        Text(String),
    }
}

impl TryFrom<written::Change> for Change {
    type Error = String;

    fn try_from(x: written::Change) -> Result<Self, String> {
        let parsed = match &x {
            written::Change::Pair(pair) => Some((Some(pair.0), Some(pair.1))),
            written::Change::Text(text) => text
                .split_once(':')
                .map(|(from, size)| (Decimal::parse(from.trim()), size.trim().parse().ok())),
        };
        match (parsed, x) {
            (Some((Some(from), Some(size))), _) => Ok(Change { from, size }),
            (_, written::Change::Text(text)) => {
                Err(format!("{text} is not a share of the training and a batch size, such as 0.1:512"))
            }
            (_, written::Change::Pair(_)) => unreachable!("a pair has both"),
        }
    }
}

impl From<Change> for written::Pair {
    fn from(x: Change) -> Self {
        written::Pair(x.from, x.size)
    }
}

/// Finds changes that make no schedule, before any data is read. Sizes are checked with all others.
pub fn check(changes: &[Change], train_epochs: Option<u32>) -> Result<()> {
    let wrong = |key: &str, reason: String, help: &str| Err(Error::config(key, reason, help));
    match (changes.first(), train_epochs) {
        (None, None) => return Ok(()),
        (None, Some(_)) => {
            return wrong(
                "batches.train_epochs",
                "has no effect without batch_size.schedule".into(),
                "leave it out; --epochs says how many epochs are written",
            );
        }
        (Some(_), None) => {
            return wrong(
                "batch_size.schedule",
                "needs batches.train_epochs: its shares are of a training of so many epochs".into(),
                "add --train-epochs E",
            );
        }
        (Some(first), Some(_)) if first.from != Decimal::ZERO => {
            return wrong(
                "batch_size.schedule",
                format!("begins at {}: nothing is said about what is before", first.from),
                "let the first size hold from 0",
            );
        }
        (_, Some(epochs)) if epochs == 0 || epochs > EPOCHS => {
            return wrong(
                "batches.train_epochs",
                format!("{epochs} is not in 1..={EPOCHS}"),
                "say how many epochs are trained",
            );
        }
        _ => {}
    }
    match changes.windows(2).find(|pair| pair[0].from >= pair[1].from) {
        Some(pair) => wrong(
            "batch_size.schedule",
            format!("{} comes after {}", pair[1].from, pair[0].from),
            "name ascending shares of the training, each once",
        ),
        None => Ok(()),
    }
}

/// A batch of a training: which epoch, its first batch of the smallest size there, and how many of them it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub epoch: u32,
    pub batch: u64,
    pub k: u64,
}

/// A schedule of sizes over a plan's batches.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    /// Share of the training from which, and size over the smallest.
    changes: Vec<(Decimal, u64)>,
    /// Rows of the smallest batch.
    base: u64,
    epochs: u32,
    /// Batches of the smallest size in an epoch.
    length: u64,
    /// Changes take effect at multiples of this.
    align: u64,
}

impl Sizes {
    /// `candidates`: all sizes, ascending, multiples of the first; `length`: batches of that in an epoch.
    ///
    /// # Errors
    /// If a size of the schedule would have no batch.
    pub fn new(changes: &[Change], epochs: u32, length: u64, candidates: &[u64]) -> Result<Sizes> {
        let base = candidates[0];
        let align = candidates.iter().fold(1, |all, size| lcm(all, size / base));
        let sizes = Sizes {
            changes: changes.iter().map(|change| (change.from, change.size / base)).collect(),
            base,
            epochs,
            length,
            align,
        };
        let begins: Vec<u64> = sizes.changes.iter().map(|change| sizes.begins(change.0)).collect();
        let end = u64::from(epochs) * length;
        for (i, change) in changes.iter().enumerate() {
            let next = begins.get(i + 1).copied().unwrap_or(end);
            if begins[i] >= next {
                return Err(Error::config(
                    "batch_size.schedule",
                    format!(
                        "the size {} from {} on has no batch: sizes change at multiples of {align} batches of {base} rows in an epoch of {length}, or \
                         with the next epoch, and that one would begin at {} of the training",
                        change.size,
                        change.from,
                        begins[i] as f64 / end.max(1) as f64
                    ),
                    "leave it out, choose other shares, or sizes with a smaller common multiple",
                ));
            }
        }
        Ok(sizes)
    }

    /// Batch of the whole training at which what begins at this share begins.
    fn begins(&self, from: Decimal) -> u64 {
        let at = from.of(u64::from(self.epochs) * self.length);
        let (epoch, inside) = (at / self.length.max(1), at % self.length.max(1));
        epoch * self.length + inside.next_multiple_of(self.align).min(self.length)
    }

    /// Batch of an epoch at which what begins at this share begins; the end of the epoch if it has not.
    fn place(&self, from: Decimal, epoch: u32) -> u64 {
        self.begins(from).saturating_sub(u64::from(epoch) * self.length).min(self.length)
    }

    pub fn epochs(&self) -> u32 {
        self.epochs
    }

    /// As plan.json tells it.
    pub fn told(&self) -> SizeSchedule {
        SizeSchedule {
            train_epochs: self.epochs,
            sizes: self.changes.iter().map(|&(from, k)| (from.to_string(), (k * self.base) as u32)).collect(),
            steps: (0..self.epochs).map(|epoch| self.steps(epoch)).collect(),
        }
    }

    /// The sizes of an epoch: from which batch on, and how many of the smallest size one has. The first is from 0.
    pub fn of_epoch(&self, epoch: u32) -> Vec<(u64, u64)> {
        let mut sizes: Vec<(u64, u64)> = Vec::new();
        for &(from, k) in &self.changes {
            let at = self.place(from, epoch);
            if at >= self.length && !sizes.is_empty() {
                break;
            }
            sizes.retain(|&(before, _)| before < at);
            sizes.push((at, k));
        }
        sizes
    }

    /// Batches of an epoch.
    pub fn steps(&self, epoch: u32) -> u64 {
        let sizes = self.of_epoch(epoch);
        let ends = sizes.iter().skip(1).map(|size| size.0).chain([self.length]);
        sizes.iter().zip(ends).map(|(&(begin, k), end)| (end - begin).div_ceil(k)).sum()
    }

    /// The batch number `step` of the training, counted over all epochs; None if epochs have no batches. O(epochs) at most.
    pub fn locate(&self, mut step: u64) -> Option<Step> {
        if self.length == 0 {
            return None;
        }
        let mut epoch = 0;
        while epoch < self.epochs {
            let steps = self.steps(epoch);
            if step < steps {
                break;
            }
            (step, epoch) = (step - steps, epoch + 1);
        }
        if epoch == self.epochs {
            let steps = self.steps(epoch);
            (step, epoch) = (step % steps, u32::try_from(u64::from(epoch) + step / steps).ok()?);
        }
        let sizes = self.of_epoch(epoch);
        let ends = sizes.iter().skip(1).map(|size| size.0).chain([self.length]);
        for (&(begin, k), end) in sizes.iter().zip(ends) {
            let steps = (end - begin).div_ceil(k);
            if step < steps {
                return Some(Step { epoch, batch: begin + step * k, k });
            }
            step -= steps;
        }
        unreachable!("the epoch has the step")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::rng::key;

    fn change(text: &str, size: u64) -> Change {
        Change { from: Decimal::parse(text).unwrap(), size }
    }

    /// Brute force: walk the training batch by batch, as the words above say.
    #[test]
    fn steps_are_those_of_a_walk() {
        for case in 0..300 {
            let of = |i: u64, n: u64| key(case, &[i]) % n;
            let (length, epochs) = (1 + of(0, 60), 1 + of(1, 5) as u32);
            let ks = [[1, 2, 4], [1, 3, 6], [2, 3, 1]][of(2, 3) as usize];
            let candidates: Vec<u64> =
                [1, 2, 3, 4, 6].into_iter().filter(|k| ks.contains(k)).map(|k| 10 * k).collect();
            let mut from: Vec<u64> = vec![0, of(3, 100), of(4, 100)];
            from.sort_unstable();
            from.dedup();
            let changes: Vec<Change> =
                from.iter().zip(ks).map(|(f, k)| change(&format!("0.{f:02}"), 10 * k)).collect();
            let align = ks.iter().fold(1, |all, &k| lcm(all, k));
            let Ok(sizes) = Sizes::new(&changes, epochs, length, &candidates) else { continue };
            let (mut step, mut used) = (0, vec![false; changes.len()]);
            for epoch in 0..epochs + 2 {
                let (mut batch, mut now, first) = (0, 0, step);
                while batch < length {
                    // Changes that are due at a place where sizes may change.
                    if batch % align == 0 {
                        let done = 100 * (u64::from(epoch) * length + batch);
                        let due = |f: &u64| f * u64::from(epochs) * length <= done;
                        now = from.iter().rposition(due).unwrap();
                        used[now] = true;
                    }
                    let k = ks[now];
                    assert_eq!(
                        sizes.locate(step),
                        Some(Step { epoch, batch, k }),
                        "step {step} of {changes:?}"
                    );
                    (batch, step) = (batch + k, step + 1);
                }
                assert_eq!(sizes.steps(epoch), step - first, "epoch {epoch} of {changes:?}");
            }
            assert!(used.iter().all(|&used| used), "every size is used: {changes:?}");
        }
    }

    #[test]
    fn a_size_without_batches_is_told() {
        // 10 batches an epoch, changes at multiples of 4 of them: the second is due at 9 of 20 and begins with epoch 1, as the third.
        let changes = [change("0", 8), change("0.45", 16), change("0.5", 32)];
        let e = Sizes::new(&changes, 2, 10, &[8, 16, 32]).unwrap_err();
        assert!(
            e.to_string().contains("batch_size.schedule") && e.to_string().contains("16 from 0.45"),
            "{e}"
        );
        assert!(e.to_string().contains("multiples of 4 batches of 8 rows"), "{e}");
        let late = [change("0", 8), change("0.96", 16)];
        assert!(Sizes::new(&late, 2, 10, &[8, 16]).is_err() && Sizes::new(&late, 2, 100, &[8, 16]).is_ok());
    }

    #[test]
    fn schedules_make_sense() {
        let wrong = |changes: &[Change], epochs, told: &str| {
            let e = check(changes, epochs).unwrap_err().to_string();
            assert!(e.contains(told), "{e}");
        };
        assert!(check(&[], None).is_ok() && check(&[change("0", 8), change("0.5", 16)], Some(3)).is_ok());
        wrong(&[], Some(3), "has no effect");
        wrong(&[change("0", 8)], None, "batches.train_epochs");
        wrong(&[change("0.1", 8)], Some(3), "begins at 0.1");
        wrong(&[change("0", 8), change("0.5", 16), change("0.5", 8)], Some(3), "0.5 comes after 0.5");
        wrong(&[change("0", 8)], Some(0), "0 is not in 1..=100000");
    }

    #[test]
    fn json() {
        let read = |text: &str| serde_json::from_str::<Change>(text);
        let written = r#"["0.1",512]"#;
        for text in [written, "[0.1, 512]", "\"0.1:512\"", "\" 0.10 : 512 \""] {
            assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), written);
        }
        for text in ["\"0.1\"", "\"0.1:x\"", "[2, 512]", "7"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
