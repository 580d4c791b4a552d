//! How many rows a batch has: `samples_per_modality` x M.
//!
//! A stratified batch of B rows holds at least floor(B n_h / N) rows of modality h. So the smallest size that shows every
//! modality in every batch is N over the rarest modality's rows; modalities outside the `coverage` mass (the rarest 1 %
//! of the rows) are left out of that rule and come once per N / (B n_h) batches. That, rounded up so that ranks and micro
//! steps share it evenly, is `auto`: a guarantee of coverage and a sensible start, not a claim about training speed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batches::number::{Number, gcd, lcm};
use crate::batches::sizes::Change;
use crate::kit::error::{Error, Result};

/// Bounds of an automatic size, before rounding.
const SMALLEST: u64 = 32;
const LARGEST: u64 = 4096;
/// An automatic size is a multiple of this where nothing else is asked for.
pub const MULTIPLE: u64 = 8;
/// Bound of any size: positions in a batch are 32-bit.
const LIMIT: u64 = 1 << 24;
/// An unstratified batch "shows every modality" if it does so in this share of all batches.
const RANDOM_SUCCESS: f64 = 0.99;

/// How the batch size is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Rows in a batch.
    pub size: Number,
    /// Rows per modality and batch, > 0: sets the automatic size to this x M instead of the coverage rule.
    pub samples_per_modality: Option<f64>,
    /// In (0, 1]: share of the rows whose modality is to be in every batch.
    pub coverage: f64,
    /// Sizes are multiples of this; null: 8 for an automatic size, and for given ones where they are.
    pub multiple: Option<u64>,
    /// Ranks that share a batch.
    pub world_size: u64,
    /// Micro steps that share a rank's part of a batch.
    pub micro_steps: u64,
    pub candidates: Candidates,
    /// Sizes that hold from a share of the training on, the first from 0: `[["0", 256], ["0.1", 512]]`. They are candidates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Change>,
}

impl Default for Params {
    fn default() -> Self {
        Params {
            size: Number::Auto,
            samples_per_modality: None,
            coverage: 0.99,
            multiple: None,
            world_size: 1,
            micro_steps: 1,
            candidates: Candidates::Auto,
            schedule: Vec::new(),
        }
    }
}

/// The sizes a training run may switch between: `"auto"` (B, 2B, 4B, or those of the schedule) or a list of multiples of its smallest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "written::Candidates", into = "written::Candidates")]
pub enum Candidates {
    #[default]
    Auto,
    List(Vec<u64>),
}

/// The same as it stands in a config file.
mod written {
    use super::{Deserialize, JsonSchema, Serialize};

    #[derive(Clone, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum Word {
        Auto,
    }

    #[derive(Clone, Serialize, Deserialize, JsonSchema)]
    #[serde(untagged, expecting = "expected \"auto\" or a list of batch sizes")]
    pub enum Candidates {
        Word(Word),
        List(Vec<u64>),
    }

    impl From<Candidates> for super::Candidates {
        fn from(x: Candidates) -> Self {
            match x {
                Candidates::Word(Word::Auto) => Self::Auto,
                Candidates::List(list) => Self::List(list),
            }
        }
    }

    impl From<super::Candidates> for Candidates {
        fn from(x: super::Candidates) -> Self {
            match x {
                super::Candidates::Auto => Self::Word(Word::Auto),
                super::Candidates::List(list) => Self::List(list),
            }
        }
    }
}

/// The choice and what it buys.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BatchSize {
    /// Rows in a batch.
    pub size: u64,
    /// `size` / M.
    pub samples_per_modality: f64,
    /// What `auto` computes, also where the size is fixed or comes from a list.
    pub computed: u64,
    /// In [0, 1]: share of the rows whose modality has at least one row in every full batch.
    pub covered: f64,
    /// Rows that an unstratified batch would need to show every modality in 99 % of the batches.
    pub random: u64,
    /// Ascending, multiples of the first; holds `size`.
    pub candidates: Vec<u64>,
}

impl Params {
    /// Refuses values that no data could make right.
    pub fn check(&self) -> Result<()> {
        let refuse = |key: &str, reason: String, help: &str| {
            Err(Error::config(format!("batch_size.{key}"), reason, help))
        };
        if !(self.coverage > 0.0 && self.coverage <= 1.0) {
            return refuse("coverage", format!("{} is not in (0, 1]", self.coverage), "0.99 is the default");
        }
        if let Some(x) = self.samples_per_modality {
            if !(x > 0.0 && x <= LIMIT as f64) {
                let reason = format!("{x} is not a number of rows between 0 and {LIMIT}");
                return refuse("samples_per_modality", reason, "measured values are 1 to 8.5");
            }
            if let Number::Fixed(size) = self.size {
                let reason = format!("contradicts batch_size.size = {size}");
                return refuse("samples_per_modality", reason, "give one of the two");
            }
        }
        let multiple = self.multiple.unwrap_or(MULTIPLE);
        for (key, value) in
            [("multiple", multiple), ("world_size", self.world_size), ("micro_steps", self.micro_steps)]
        {
            if value == 0 {
                return refuse(key, "0 is not possible".into(), "use 1 or more");
            }
        }
        match self.step() {
            Some(step) => self.check_sizes(step),
            None => {
                let reason = format!(
                    "a batch would need to be a multiple of {} and of {} x {}: more than {LIMIT} rows",
                    self.multiple(),
                    self.world_size,
                    self.micro_steps
                );
                refuse("multiple", reason, "choose smaller numbers")
            }
        }
    }

    fn check_sizes(&self, step: u64) -> Result<()> {
        let multiple = self.multiple();
        let check = |key: &str, size: u64| {
            if size > 0 && size <= LIMIT && size.is_multiple_of(step) {
                return Ok(());
            }
            let below = (size.min(LIMIT) / step * step).max(step);
            let above = (size.min(LIMIT - step).max(1)).next_multiple_of(step);
            let good = if below == above { below.to_string() } else { format!("{below} or {above}") };
            Err(Error::config(
                format!("batch_size.{key}"),
                format!(
                    "{size} is not a multiple of {step} in 1..={LIMIT} (multiple {multiple}, world size {} x micro steps {})",
                    self.world_size, self.micro_steps
                ),
                match self.multiple {
                    Some(_) => format!("use {good}, or change batch_size.multiple"),
                    None => format!("use {good}"),
                },
            ))
        };
        if let Number::Fixed(size) = self.size {
            check("size", size)?;
        }
        self.schedule.iter().try_for_each(|change| check("schedule", change.size))?;
        if !self.schedule.is_empty() {
            multiples(self.given())?;
        }
        if let Candidates::List(list) = &self.candidates {
            if list.is_empty() {
                return Err(Error::config(
                    "batch_size.candidates",
                    "the list is empty",
                    "use \"auto\" or name at least one size",
                ));
            }
            list.iter().try_for_each(|&size| check("candidates", size))?;
            multiples(self.given()).map(drop)?;
        }
        Ok(())
    }

    /// An automatic size is a multiple of this, too.
    pub fn in_multiples_of(&self, wanted: u64) -> Params {
        if !self.given().is_empty() {
            return self.clone();
        }
        let multiple = self.resolved().multiple.unwrap_or(1);
        Params { multiple: Some(lcm(multiple, wanted)), ..self.clone() }
    }

    /// The smallest of the sizes that are given, if one is.
    pub fn smallest(&self) -> Option<u64> {
        self.given().into_iter().min()
    }

    /// The size, if it is given: a schedule begins with one.
    pub fn fixed(&self) -> Option<u64> {
        self.size.fixed().or(self.schedule.first().map(|change| change.size))
    }

    /// All sizes that are given.
    fn given(&self) -> Vec<u64> {
        let listed: &[u64] = if let Candidates::List(list) = &self.candidates { list } else { &[] };
        let scheduled = self.schedule.iter().map(|change| change.size);
        listed.iter().copied().chain(self.size.fixed()).chain(scheduled).collect()
    }

    /// The multiple that holds: the one given, else the default, which given sizes need not keep.
    fn multiple(&self) -> u64 {
        let kept = self.given().iter().all(|size| size.is_multiple_of(MULTIPLE));
        self.multiple.unwrap_or(if kept { MULTIPLE } else { 1 })
    }

    /// With the multiple that holds, as it goes into a plan.
    pub fn resolved(&self) -> Params {
        Params { multiple: Some(self.multiple()), ..self.clone() }
    }

    /// Sizes are multiples of this: the least common multiple of the multiple and `world_size x micro_steps`.
    fn step(&self) -> Option<u64> {
        let (multiple, ranks) = (self.multiple(), self.world_size.checked_mul(self.micro_steps)?);
        let step = (multiple / gcd(multiple, ranks)).checked_mul(ranks)?;
        (step <= LIMIT).then_some(step)
    }
}

/// Ascending without repeats, all multiples of the first.
fn multiples(mut sizes: Vec<u64>) -> Result<Vec<u64>> {
    sizes.sort_unstable();
    sizes.dedup();
    match sizes.iter().find(|&&size| !size.is_multiple_of(sizes[0])) {
        None => Ok(sizes),
        Some(size) => Err(Error::config(
            "batch_size.candidates",
            format!("{size} is not a multiple of the smallest, {}", sizes[0]),
            format!(
                "a larger batch is the union of consecutive smallest ones: use {} or {}",
                size / sizes[0] * sizes[0],
                size.next_multiple_of(sizes[0])
            ),
        )),
    }
}

/// Chooses the batch size from the rows of every modality; zero counts are left out. O(M log M).
///
/// # Errors
/// Those of [`Params::check`].
pub fn choose(params: &Params, counts: &[u64]) -> Result<BatchSize> {
    params.check()?;
    let mut counts: Vec<u64> = counts.iter().copied().filter(|&n| n > 0).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let modalities = counts.len().max(1) as u64;
    let rows: u64 = counts.iter().sum();
    let step = params.step().expect("check() passed");

    let wanted = match params.samples_per_modality {
        Some(x) => ((x * modalities as f64).ceil() as u64).clamp(1, LIMIT),
        None => rows.div_ceil(rarest(&counts, rows, params.coverage)).clamp(SMALLEST, LARGEST),
    };
    let computed = wanted.next_multiple_of(step);
    let (size, candidates) = match (&params.candidates, params.fixed()) {
        (Candidates::Auto, Some(size)) if !params.schedule.is_empty() => (size, multiples(params.given())?),
        (Candidates::Auto, size) => {
            let size = size.unwrap_or(computed);
            (size, vec![size, 2 * size, 4 * size])
        }
        (Candidates::List(_), Some(size)) => (size, multiples(params.given())?),
        (Candidates::List(list), None) => {
            let list = multiples(list.clone())?;
            let size = list.iter().copied().find(|&size| size >= computed).unwrap_or(list[list.len() - 1]);
            (size, list)
        }
    };
    let covered: u64 = counts.iter().filter(|&&n| size as u128 * n as u128 >= rows as u128).sum();
    Ok(BatchSize {
        size,
        samples_per_modality: size as f64 / modalities as f64,
        computed,
        covered: if rows == 0 { 1.0 } else { covered as f64 / rows as f64 },
        random: random(&counts, rows),
        candidates,
    })
}

/// Rows of the smallest of the largest modalities that together hold the `coverage` share. `counts` descend.
fn rarest(counts: &[u64], rows: u64, coverage: f64) -> u64 {
    let mut sum = 0;
    for &n in counts {
        sum += n;
        if sum as f64 >= coverage * rows as f64 - 1e-9 {
            return n;
        }
    }
    counts.last().copied().unwrap_or(1)
}

/// Smallest B with sum_h ln(1 - (1 - p_h)^B) >= ln 0.99; modalities are taken as independent.
fn random(counts: &[u64], rows: u64) -> u64 {
    let shows_all = |size: u64| {
        let log: f64 = counts
            .iter()
            .map(|&n| libm::log1p(-libm::exp(size as f64 * libm::log1p(-(n as f64 / rows as f64)))))
            .sum();
        log >= libm::log(RANDOM_SUCCESS)
    };
    let mut high = 1;
    while !shows_all(high) {
        high *= 2;
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if shows_all(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: [u64; 5] = [200, 100, 500, 50, 150];

    #[test]
    fn bar_f8() {
        assert_eq!(choose(&Params::default(), &NOTE).unwrap().size, 32);
        let even = choose(&Params::default(), &[1000; 50]).unwrap();
        assert_eq!((even.size, even.covered), (56, 1.0));
        assert_eq!(even.candidates, [56, 112, 224]);
        assert_eq!(even.samples_per_modality, 1.12);
    }

    #[test]
    fn ranks_and_micro_steps_share_a_batch() {
        let params = Params { world_size: 3, micro_steps: 4, ..Params::default() };
        assert_eq!(choose(&params, &NOTE).unwrap().size, 48);
        let fixed = Params { size: Number::Fixed(100), ..params };
        let error = choose(&fixed, &NOTE).unwrap_err();
        assert!(error.help().contains("96 or 108"), "{}", error.help());
        let small = Params { size: Number::Fixed(3), multiple: Some(8), ..Params::default() };
        assert!(small.check().unwrap_err().help().contains("use 8,"));
        let vast = Params { size: Number::Fixed(u64::MAX), ..Params::default() };
        assert!(vast.check().is_err());
    }

    #[test]
    fn given_sizes_need_no_default_multiple() {
        let given = |size| Params { size: Number::Fixed(size), ..Params::default() };
        assert_eq!(choose(&given(20), &NOTE).unwrap().candidates, [20, 40, 80]);
        assert_eq!(given(20).resolved().multiple, Some(1));
        assert_eq!(given(64).resolved().multiple, Some(8), "as plans of version 0.1 say");
        assert!(choose(&given(20).resolved(), &NOTE).is_ok());
        assert!(Params { multiple: Some(8), ..given(20) }.check().is_err());
        assert!(Params { world_size: 8, ..given(20) }.check().is_err());
        let list = Params { candidates: Candidates::List(vec![50, 100]), ..Params::default() };
        assert_eq!(choose(&list, &NOTE).unwrap().size, 50);
    }

    #[test]
    fn lists() {
        let list = |sizes: &[u64], size| Params {
            candidates: Candidates::List(sizes.to_vec()),
            size,
            ..Params::default()
        };
        let got = choose(&list(&[64, 16, 128], Number::Auto), &NOTE).unwrap();
        assert_eq!((got.size, got.candidates, got.computed), (64, vec![16, 64, 128], 32));
        assert_eq!(choose(&list(&[8, 16], Number::Auto), &NOTE).unwrap().size, 16);
        let got = choose(&list(&[64, 128], Number::Fixed(32)), &NOTE).unwrap();
        assert_eq!((got.size, got.candidates), (32, vec![32, 64, 128]));
        assert!(choose(&list(&[64, 96], Number::Auto), &NOTE).is_err());
        assert!(choose(&list(&[], Number::Auto), &NOTE).is_err());
        assert!(choose(&list(&[0], Number::Auto), &NOTE).is_err());
    }

    #[test]
    fn samples_per_modality_and_its_coverage() {
        let params = Params { samples_per_modality: Some(1.5), ..Params::default() };
        let got = choose(&params, &NOTE).unwrap();
        // ceil(7.5) = 8 rows: one in eight is reached by 200, 500 and 150 of 1000.
        assert_eq!((got.size, got.covered), (8, 0.85));
        for x in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Params { samples_per_modality: Some(x), ..Params::default() }.check().is_err());
        }
    }

    #[test]
    fn random_batches_need_more() {
        // 50 even modalities: 50 (1 - 1/50)^B <= 0.01005 first at B = 422.
        assert_eq!(choose(&Params::default(), &[1000; 50]).unwrap().random, 422);
        assert_eq!(choose(&Params::default(), &[1000]).unwrap().random, 1);
        assert!(choose(&Params::default(), &[1 << 40, 1]).unwrap().random > 1 << 40);
    }

    #[test]
    fn as_written() {
        let text = r#"{"size":"auto","samples_per_modality":null,"coverage":0.99,"multiple":null,"world_size":1,"micro_steps":1,"candidates":"auto"}"#;
        assert_eq!(serde_json::to_string(&Params::default()).unwrap(), text);
        let read: Params = serde_json::from_str(r#"{"size":64,"candidates":[64,128]}"#).unwrap();
        assert_eq!(read.size, Number::Fixed(64));
        assert_eq!(read.candidates, Candidates::List(vec![64, 128]));
        assert!(
            serde_json::from_str::<Params>(r#"{"size":"big"}"#).unwrap_err().to_string().contains("auto")
        );
    }
}
