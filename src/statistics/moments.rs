//! Count, mean, variance and range of every feature, over all rows of the plan and in each modality.
//!
//! One pass: sums of `x - shift` and of its square in f64, where the shift is the sample's mean, so that a mean far from
//! 0 costs no digits. Rows are added in order inside a part, parts along the merge tree. O(rows x dims) time, O(M x dims)
//! memory in each partial result (only modalities that occur in it).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::features::State;
use crate::kernels;
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::modalities::Assigned;
use crate::parts::Pass;

/// The pass.
#[derive(Serialize, Deserialize)]
pub struct Moments {
    shift: Vec<f64>,
}

/// One modality (None: all) and feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    pub modality: Option<u32>,
    pub feature: u32,
    /// Rows in the plan.
    pub count: u64,
    /// Rows that `--invalid drop` left out because a feature is null or unusable. Counted over all rows only: they have no
    /// modality, there it is 0.
    pub nulls: u64,
    pub mean: f64,
    /// Population variance.
    pub variance: f64,
    pub min: f64,
    pub max: f64,
}

/// The moments of all rows and of each modality that has rows. Kept as sums, a third of the memory of what they tell: there
/// may be thousands of modalities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FullMoments {
    shift: Vec<f64>,
    invalid: u64,
    /// None: no rows.
    total: Option<Sums>,
    modalities: BTreeMap<u32, Sums>,
}

impl FullMoments {
    /// Rows in the plan.
    pub fn total(&self) -> u64 {
        self.total.as_ref().map_or(0, |sums| sums.count)
    }

    /// None: the modality has no rows.
    pub fn of(&self, modality: Option<u32>, feature: usize) -> Option<Moment> {
        let (sums, nulls) = match modality {
            None => (self.total.as_ref()?, self.invalid),
            Some(m) => (self.modalities.get(&m)?, 0),
        };
        Some(sums.moment(modality, nulls, feature, self.shift[feature]))
    }

    /// All features over all rows, then those of each modality, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Moment> {
        let groups = (self.total.iter().map(|sums| (None, self.invalid, sums)))
            .chain(self.modalities.iter().map(|(&m, sums)| (Some(m), 0, sums)));
        groups.flat_map(|(modality, nulls, sums)| {
            self.shift.iter().enumerate().map(move |(j, &shift)| sums.moment(modality, nulls, j, shift))
        })
    }
}

/// Mergeable form of one modality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sums {
    count: u64,
    of: kernels::moments::Sums,
}

/// Mergeable form of the pass.
#[derive(Serialize, Deserialize)]
pub struct Partial {
    invalid: u64,
    modalities: BTreeMap<u32, Sums>,
}

impl Sums {
    fn new(dims: usize) -> Self {
        Sums { count: 0, of: kernels::moments::Sums::new(dims) }
    }

    fn add(&mut self, other: &Sums) {
        self.count += other.count;
        self.of.add(&other.of);
    }

    fn moment(&self, modality: Option<u32>, nulls: u64, feature: usize, shift: f64) -> Moment {
        let (min, max) = (f64::from(self.of.min[feature]), f64::from(self.of.max[feature]));
        let n = self.count as f64;
        let mean = self.of.sum[feature] / n;
        // Without variation the rounding of the sums would be all that is left.
        let (mean, variance) = if min == max {
            (min, 0.0)
        } else {
            (shift + mean, (self.of.square[feature] / n - mean * mean).max(0.0))
        };
        Moment { modality, feature: feature as u32, count: self.count, nulls, mean, variance, min, max }
    }
}

impl Moments {
    /// `shift`: about the mean of every feature, for example that of the sample.
    pub fn new(shift: Vec<f64>) -> Self {
        Moments { shift }
    }
}

impl Pass for Moments {
    type Item = Assigned;
    type Partial = Partial;
    type Output = FullMoments;

    fn partial(&self, item: &Assigned) -> Result<Partial> {
        let mut modalities = BTreeMap::new();
        for (row, &modality) in item.points.points.iter_rows().zip(&item.modality) {
            if modality != NONE {
                let sums = modalities.entry(modality).or_insert_with(|| Sums::new(self.shift.len()));
                sums.count += 1;
                sums.of.add_row(row, &self.shift);
            }
        }
        let invalid = item.points.state.iter().filter(|&&s| s == State::Invalid).count() as u64;
        Ok(Partial { invalid, modalities })
    }

    fn merge(&self, mut left: Partial, right: Partial) -> Partial {
        left.invalid += right.invalid;
        for (modality, sums) in right.modalities {
            left.modalities.entry(modality).and_modify(|here| here.add(&sums)).or_insert(sums);
        }
        left
    }

    fn finish(&self, all: Option<Partial>) -> Result<FullMoments> {
        let Some(Partial { invalid, modalities }) = all else { return Ok(FullMoments::default()) };
        let mut total = Sums::new(self.shift.len());
        modalities.values().for_each(|sums| total.add(sums));
        if total.count == 0 {
            return Ok(FullMoments::default());
        }
        Ok(FullMoments { shift: self.shift.clone(), invalid, total: Some(total), modalities })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::fixtures::Data;

    #[test]
    fn equals_the_textbook() {
        let mut data = Data::random(1003, 11);
        for i in 0..1003 {
            data.points.row_mut(i)[4] = 0.1; // constant
            data.points.row_mut(i)[5] += 1e4; // far from 0
        }
        let shift: Vec<f64> = (0..11).map(|j| if j == 5 { 1e4 } else { 3.0 }).collect();
        let found = data.run(&Moments::new(shift.clone()), 64, 3);
        let moments: Vec<Moment> = found.iter().collect();
        assert_eq!(
            found.of(Some(1), 3).as_ref(),
            moments.iter().find(|m| (m.modality, m.feature) == (Some(1), 3))
        );
        assert_eq!(moments.len(), 4 * 11);
        for m in &moments {
            let x: Vec<f64> = data
                .planned()
                .filter(|&i| m.modality.is_none_or(|h| data.modality[i] == h))
                .map(|i| f64::from(data.points.row(i)[m.feature as usize]))
                .collect();
            let n = x.len() as f64;
            let mean = x.iter().sum::<f64>() / n;
            let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
            assert_eq!((m.count, m.nulls), (x.len() as u64, if m.modality.is_none() { 250 } else { 0 }));
            assert!((m.mean - mean).abs() < 1e-11 * mean.abs().max(1.0), "{m:?} {mean}");
            assert!((m.variance - variance).abs() < 1e-11, "{m:?} {variance}");
            assert_eq!(m.min, x.iter().copied().fold(f64::INFINITY, f64::min));
            assert_eq!(m.max, x.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }
        assert!(
            moments.iter().filter(|m| m.feature == 4).all(|m| m.variance == 0.0 && m.mean == 0.1f32 as f64)
        );
        assert_eq!(found, data.run(&Moments::new(shift), 64, 1));
    }

    #[test]
    fn nothing_planned_is_nothing() {
        let mut data = Data::random(20, 2);
        data.modality.fill(NONE);
        assert_eq!(data.run(&Moments::new(vec![0.0; 2]), 8, 1).iter().count(), 0);
        assert_eq!(Data::random(0, 2).run(&Moments::new(vec![0.0; 2]), 8, 1).iter().count(), 0);
    }
}
