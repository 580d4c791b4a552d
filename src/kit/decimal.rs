//! Shares as they are written: "a tenth of the training" is the same batch on every machine, which 0.1 in binary does not promise.

use std::cmp::Ordering;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Digits after the point, at most.
const PLACES: usize = 18;

/// A decimal number in [0, 1], exact. Written as text; a number is read as its shortest text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "written::Decimal", into = "String")]
pub struct Decimal {
    /// In units of 10^-18.
    units: u64,
}

/// Units of 1.
const ONE: u64 = 10u64.pow(PLACES as u32);

/// The same as it stands in a config file.
mod written {
    use super::{Deserialize, JsonSchema};

    #[derive(Deserialize, JsonSchema)]
    #[serde(untagged, expecting = "expected a number from 0 to 1")]
    pub enum Decimal {
        Number(f64),
        Text(String),
    }
}

impl Decimal {
    pub const ZERO: Decimal = Decimal { units: 0 };

    /// "0.25", "1"; None for anything else, and for more than 18 digits after the point.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > PLACES {
            return None;
        }
        let part: u64 = format!("{part:0<PLACES$}").parse().ok()?;
        let units = whole.parse::<u64>().ok()?.checked_mul(ONE)?.checked_add(part)?;
        (units <= ONE).then_some(Decimal { units })
    }

    /// This share of `whole`, rounded up. Exact for any `whole`.
    pub fn of(self, whole: u64) -> u64 {
        (u128::from(self.units) * u128::from(whole)).div_ceil(u128::from(ONE)) as u64
    }

    pub fn to_f64(self) -> f64 {
        self.units as f64 / ONE as f64
    }
}

impl TryFrom<written::Decimal> for Decimal {
    type Error = String;

    fn try_from(x: written::Decimal) -> Result<Self, String> {
        let text = match x {
            written::Decimal::Number(x) => x.to_string(),
            written::Decimal::Text(text) => text,
        };
        Decimal::parse(&text).ok_or_else(|| {
            format!("{text} is not a number from 0 to 1 with at most {PLACES} digits after the point")
        })
    }
}

impl From<Decimal> for String {
    fn from(x: Decimal) -> String {
        x.to_string()
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = format!("{:0PLACES$}", self.units % ONE);
        match part.trim_end_matches('0') {
            "" => write!(f, "{}", self.units / ONE),
            part => write!(f, "{}.{part}", self.units / ONE),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.units.cmp(&other.units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact() {
        let share = |text: &str| Decimal::parse(text).unwrap();
        assert_eq!([share("0.1").of(30), share("0.3").of(10), share("1").of(u64::MAX)], [3, 3, u64::MAX]);
        assert_eq!((share("0.1").of(31), share("0").of(9)), (4, 0), "rounded up");
        assert!(share("0.1") < share("0.100000000000000001") && share("0.10") == share("0.1"));
        for text in
            ["", ".5", "-0.1", "1.1", "1e-3", "0.1234567890123456789", "2", "x", "18446744073709551616"]
        {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn json() {
        let read = |text: &str| serde_json::from_str::<Decimal>(text);
        for (written, told) in [("0.1", "\"0.1\""), ("\"0.10\"", "\"0.1\""), ("1", "\"1\""), ("0", "\"0\"")] {
            assert_eq!(serde_json::to_string(&read(written).unwrap()).unwrap(), told);
        }
        assert!(read("1.5").unwrap_err().to_string().contains("1.5 is not a number from 0 to 1"));
    }
}
