//! Decisions taken while training, without a framework: which of the candidate batch sizes to use next
//! ([`LoaderChoice`]), and when gradients of several batches make an update ([`Accumulator`]).
//!
//! They see numbers only (losses, costs, scores), cost O(candidates) a decision, draw their random numbers by key, and
//! keep everything in a small state that serialises to JSON: training resumes with the same decisions. Ranks that feed
//! the same numbers decide alike.

mod policy;
mod choice;

pub use crate::batches::accumulation::Accumulator;
pub use choice::{Choosing, LoaderChoice, Segment, measured_rate};
pub use policy::{Curve, LoaderPolicy, Policy, Ratchet, rate};
