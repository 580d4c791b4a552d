//! What knows nothing of the subject: text that is safe to show, numbers of bytes, exact shares, the one error type, panics of libraries, progress and
//! cancelling, matrices, keyed random numbers, row numbers, output and working files.

pub mod text;
pub mod size;
pub mod decimal;
pub mod secrets;
pub mod error;
pub mod files;
pub mod output;
pub mod guard;
pub mod progress;
pub mod matrix;
pub mod rng;
pub mod ids;
pub mod scratch;
