//! Summaries of the full data, made in the pass that assigns its rows. Each is a [`Pass`](crate::parts::Pass) over
//! [`Assigned`](crate::modalities::Assigned) whose partial results merge along the one tree; rows out of the plan are
//! passed over unless a summary says otherwise.
//!
//! - [`cells`]: a distribution as rows at and between some of its quantiles: what ranks are compared by
//! - [`moments`]: mean, variance and range of every feature in every modality (`statistics.arrow`)
//! - [`quantiles`]: of every feature over the sample (`statistics.arrow`)
//! - [`profile`]: what each modality holds in the user's own columns (`profile.arrow`), and names for modalities
//! - [`terms`]: words of text columns that set a modality apart, from the fit sample: names for modalities
//! - [`gain`]: how much variance stratified batches are expected to take out of early gradients (`gain` in `plan.json`)
//! - [`reference`]: mean embedding of the data, to compare other data with (`reference.arrow`)
//! - [`reach`]: how far rows are from their nearest prototype (`prototypes.arrow`): what is unlike anything in the plan
//! - [`content`]: hashes of row groups that do not depend on the order of rows (`sources.arrow`)
//! - [`comparison`]: where rows lie among those of a plan
//! - [`drift`]: effect, interval and p-value of the difference between two sets of rows

pub mod cells;
pub mod moments;
pub mod quantiles;
pub mod profile;
pub mod terms;
pub mod gain;
pub mod reference;
pub mod reach;
pub mod content;
pub mod comparison;
pub mod drift;

/// Items for tests.
#[cfg(test)]
mod fixtures {
    use arrow_array::RecordBatch;

    use crate::features::{Points, State};
    use crate::kit::error::Result;
    use crate::kit::ids::NONE;
    use crate::kit::matrix::Matrix;
    use crate::kit::progress::Progress;
    use crate::modalities::Assigned;
    use crate::parts::{Local, Part, Pass, Read};

    /// A whole dataset in memory.
    #[derive(Default)]
    pub struct Data {
        pub points: Matrix,
        pub modality: Vec<u32>,
        pub stratum: Vec<u32>,
        pub table: Option<RecordBatch>,
    }

    impl Data {
        /// Random points; row i is of modality i % 4 if that is below 3, else out of the plan; 7 strata.
        pub fn random(rows: usize, dims: usize) -> Data {
            let x = |i: u64| {
                (3.0 + crate::kit::rng::normal(crate::kit::rng::key(5, &[i]))
                    + 0.5 * ((i / dims as u64) % 4) as f64) as f32
            };
            let modality: Vec<u32> = (0..rows as u32).map(|i| if i % 4 < 3 { i % 4 } else { NONE }).collect();
            let stratum =
                modality.iter().zip(0..).map(|(&m, i)| if m == NONE { NONE } else { m + 3 * (i % 2) });
            Data {
                points: Matrix::from_vec(rows, dims, (0..(rows * dims) as u64).map(x).collect()),
                stratum: stratum.collect(),
                modality,
                table: None,
            }
        }

        pub fn planned(&self) -> impl Iterator<Item = usize> + '_ {
            (0..self.modality.len()).filter(|&i| self.modality[i] != NONE)
        }

        /// In parts of `step` rows.
        pub fn run<P: Pass<Item = Assigned>>(&self, pass: &P, step: usize, threads: usize) -> P::Output {
            let n = self.modality.len();
            let part = |i: usize| Part { index: i, first: (i * step) as u64, rows: step.min(n - i * step) };
            let parts: Vec<Part> = (0..n.div_ceil(step)).map(part).collect();
            Local::new(threads, Progress::default()).unwrap().run("test", self, pass, &parts).unwrap()
        }
    }

    impl Read for Data {
        type Item = Assigned;
        fn read(&self, part: &Part, into: &mut Assigned) -> Result<()> {
            let range = part.first as usize..part.first as usize + part.rows;
            let state = |&m: &u32| if m == NONE { State::Invalid } else { State::Planned };
            *into = Assigned {
                points: Points {
                    rows: part.range().collect(),
                    points: self.points.gather(range.clone()),
                    bad: Vec::new(),
                    state: self.modality[range.clone()].iter().map(state).collect(),
                    table: self.table.as_ref().map(|t| t.slice(range.start, range.len())),
                    contents: Vec::new(),
                },
                modality: self.modality[range.clone()].to_vec(),
                stratum: self.stratum[range].to_vec(),
                ..Assigned::default()
            };
            Ok(())
        }
    }
}
