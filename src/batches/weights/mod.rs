//! How much a row counts in its batch: more at the centre of its modality at first, more at the periphery later.
//!
//! [`centrality`] places every row between the edge (0) and the centre (1) of its modality, [`schedule`] turns centrality
//! and training progress into a weight whose mean over each modality is 1. The effect on training is small (strength 1
//! is neutral within 0.25 percentage points, 4 is harmful): weights shape a curriculum, they promise no better model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kit::error::{Error, Result};

pub mod centrality;
pub mod schedule;

pub use centrality::Centrality;
pub use schedule::Schedule;

/// How rows are weighted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    pub schedule: Schedule,
    /// b: the largest |beta|. 0 is none, 1 the default, above 2 the effective batch shrinks below .76 of its rows.
    pub strength: f64,
    pub centrality: Centrality,
    pub normalise: Normalise,
}

impl Default for Params {
    fn default() -> Self {
        Params {
            schedule: Schedule::default(),
            strength: 1.0,
            centrality: Centrality::default(),
            normalise: Normalise::default(),
        }
    }
}

/// Over what the mean weight is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// Each modality, in closed form.
    #[default]
    Modality,
    /// Each batch, by dividing by its mean weight.
    Batch,
}

impl Normalise {
    pub const ALL: [Normalise; 2] = [Normalise::Modality, Normalise::Batch];
}

impl Params {
    /// What gives a row's weight at any progress u, for people and for readers that want more than the knots.
    pub fn formula(&self) -> String {
        let b = self.strength;
        let beta = match self.schedule {
            Schedule::CentreToPeriphery => format!("beta(u) = {b} (1 - 2 u)"),
            Schedule::CentreThenUniform => format!("beta(u) = {b} max(0, 1 - 2 u)"),
            Schedule::PeripheryLate => format!("beta(u) = -{b} max(0, 2 u - 1)"),
            Schedule::Off => "beta(u) = 0".into(),
        };
        let over = match self.normalise {
            Normalise::Modality => "",
            Normalise::Batch => "; divide the weights of a batch by their mean",
        };
        format!(
            "{beta}; weight of a row of centrality c = exp(beta(u) (c - 1/2)) normaliser(u); \
             normaliser(u) = (beta(u) / 2) / sinh(beta(u) / 2), 1 if |beta(u)| < 1e-6{over}"
        )
    }

    /// Refuses impossible values; returns what is possible but unwise.
    pub fn check(&self) -> Result<Vec<String>> {
        let b = self.strength;
        // sinh(b / 2) of larger strengths leaves the range of f32 weights.
        if b.is_nan() || b.abs() > 100.0 {
            return Err(Error::config(
                "weights.strength",
                format!("{b} is not a number in [-100, 100]"),
                "1 is the default, 2 already strong",
            ));
        }
        let mut warnings = Vec::new();
        if b.abs() > 2.0 && self.schedule != Schedule::Off {
            warnings.push(format!(
                "weights.strength = {b}: at full strength a batch counts for {:.0} % of its rows; above 2 training suffered in every test",
                100.0 * schedule::kish(b)
            ));
        }
        Ok(warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks() {
        assert!(Params::default().check().unwrap().is_empty());
        assert!(Params { strength: f64::NAN, ..Params::default() }.check().is_err());
        assert!(Params { strength: f64::INFINITY, ..Params::default() }.check().is_err());
        assert_eq!(Params { strength: -4.0, ..Params::default() }.check().unwrap().len(), 1);
        assert!(
            Params { strength: 4.0, schedule: Schedule::Off, ..Params::default() }
                .check()
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn names() {
        let text = serde_json::to_string(&Params::default()).unwrap();
        assert_eq!(
            text,
            r#"{"schedule":"centre-to-periphery","strength":1.0,"centrality":"distance","normalise":"modality"}"#
        );
        for schedule in Schedule::ALL {
            let name = serde_json::to_string(&schedule).unwrap();
            assert_eq!(serde_json::from_str::<Schedule>(&name).unwrap(), schedule);
        }
        assert_eq!(Centrality::ALL.len(), 3);
        assert_eq!(Normalise::ALL.len(), 2);
    }
}
