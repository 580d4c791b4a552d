//! The values of a column the user has are the modalities.

use serde_json::json;

use crate::kit::error::{Error, Result};
use crate::kit::progress::Progress;
use crate::modalities::{Fit, ModalityEstimator, Sample, renumber};

/// The column's distinct values and which of them every sample row has. Values that no sample row has are modalities
/// too, the last ones.
#[derive(Clone, Debug)]
pub struct Column {
    pub values: Vec<String>,
    /// One entry per sample row: index into `values`.
    pub ids: Vec<u32>,
}

impl ModalityEstimator for Column {
    fn name(&self) -> &'static str {
        "column"
    }

    /// `kind` names each modality's value, in the modalities' order. No projection, confidence 1.
    fn fit(&self, sample: &Sample, _seed: u64, _progress: &Progress) -> Result<Fit> {
        assert_eq!(self.ids.len(), sample.rows.len(), "one value per sample row");
        let count = self.values.len();
        if count == 0 {
            return Err(Error::Modalities {
                reason: "the column has no value".into(),
                help: "check `--where`: it left no row".into(),
            });
        }
        let mut labels = self.ids.clone();
        let order = renumber(&mut labels, count);
        Ok(Fit {
            labels,
            prominence: vec![f32::NAN; count],
            kind: order.iter().map(|&v| self.values[v as usize].clone()).collect(),
            projection: None,
            confidence: 1.0,
            interval: (count as u32, count as u32),
            details: json!({ "values": count }).as_object().cloned().unwrap_or_default(),
            curve: Vec::new(),
            evidence: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_ordered_by_their_sample_rows() {
        let values = ["rare", "absent", "common"].map(String::from).to_vec();
        let column = Column { values, ids: vec![2, 0, 2] };
        let sample = Sample { rows: vec![1, 5, 9], ..Default::default() };
        let fit = column.fit(&sample, 0, &Progress::default()).unwrap();
        assert_eq!(
            (fit.labels, fit.kind),
            (vec![0, 1, 0], vec!["common".into(), "rare".into(), "absent".into()])
        );
    }
}
