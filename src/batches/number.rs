//! Whole numbers: a setting that is one or left to the plan, common divisors and multiples.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `"auto"` or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "written::Number", into = "written::Number")]
pub enum Number {
    #[default]
    Auto,
    Fixed(u64),
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
    #[serde(untagged, expecting = "expected \"auto\" or a number")]
    pub enum Number {
        Word(Word),
        Number(u64),
    }

    impl From<Number> for super::Number {
        fn from(x: Number) -> Self {
            match x {
                Number::Word(Word::Auto) => Self::Auto,
                Number::Number(n) => Self::Fixed(n),
            }
        }
    }

    impl From<super::Number> for Number {
        fn from(x: super::Number) -> Self {
            match x {
                super::Number::Auto => Self::Word(Word::Auto),
                super::Number::Fixed(n) => Self::Number(n),
            }
        }
    }
}

impl Number {
    /// The number, if one was given.
    pub fn fixed(self) -> Option<u64> {
        match self {
            Number::Auto => None,
            Number::Fixed(n) => Some(n),
        }
    }
}

/// Least common multiple of numbers above 0.
pub(crate) fn lcm(a: u64, b: u64) -> u64 {
    a / gcd(a, b) * b
}

pub(crate) fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
