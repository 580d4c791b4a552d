//! What knows nothing of the subject: the one error type, progress and cancelling, matrices, keyed random numbers, row
//! numbers, working files.

pub mod error;
pub mod progress;
pub mod matrix;
pub mod rng;
pub mod ids;
pub mod scratch;
