//! **batchwright** reads a Parquet dataset once or twice before training, counts its *modalities* (modes of the
//! data's distribution; not image/text "multimodal"), and writes a *plan*: stratified batches, row weights, scores and
//! full-data statistics as plain Arrow files that any training loop reads.
//!
//! The rooms below stand from the ground up: each may use only what stands above it, and inside a room a file uses only
//! the files above it in the room's `mod.rs` (a test keeps both). A line of code is arithmetic, a rule about rows,
//! something on disk, or a verb; each has one room.
//!
//! 1. [`kit`] knows nothing of the subject, [`kernels`] is arithmetic a row at a time, [`parts`] is how work is cut
//! 2. [`format`](mod@format) is what is on disk and nothing else: the tables of a plan, plan.json, staging
//! 3. [`source`] reads Parquet: files, row groups, columns, filters, fingerprints
//! 4. [`features`] maps columns to points, rows of an `f32` matrix
//! 5. [`modalities`] counts the modalities on a sample and assigns every row to one
//! 6. [`statistics`] summarises the full data in the same pass, and compares two sets of rows
//! 7. [`splits`] decides which rows are for training, validation and test, or in which fold
//! 8. [`batches`] decides in which company a row is met, and how much each row and batch counts
//! 9. [`runtime`] takes decisions while training
//! 10. [`config`] is the sum of all parameters, [`engine`] is the work on rows that may run in another process, [`plan`] reads
//!     a plan and the data in its order
//! 11. [`pipeline`] has a file or folder for each verb: plan, update, check, diff, encode, synth
//! 12. [`report`] shows a plan to people, and [`cli`] is the command line

pub mod kit;
pub mod kernels;
pub mod parts;
pub mod format;
pub mod source;
pub mod features;
pub mod modalities;
pub mod statistics;
pub mod splits;
pub mod batches;
pub mod runtime;
pub mod config;
pub mod engine;
pub mod plan;
pub mod pipeline;
pub mod report;
#[cfg(feature = "cli")]
pub mod cli;

pub use kit::error::{Error, Result};
