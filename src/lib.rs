//! **batchwright** reads a Parquet dataset once or twice before training, counts its *modalities* (modes of the
//! data's distribution; not image/text "multimodal"), and writes a *plan*: stratified batches, row weights, scores and
//! full-data statistics as plain Arrow files that any training loop reads.
//!
//! The modules below stand in pipeline order and each may use only what stands above it (a test keeps that):
//!
//! 1. the kit: [`error`], [`progress`], [`matrix`], [`rng`], [`kernels`], [`ids`], [`parts`], [`scratch`]
//! 2. [`source`] reads Parquet: files, row groups, columns, filters, fingerprints
//! 3. [`features`] maps columns to points, rows of an `f32` matrix
//! 4. [`modalities`] counts the modalities on a sample and assigns every row to one
//! 5. [`statistics`] summarises the full data in the same pass, [`drift`] compares two sets of rows
//! 6. [`batch_size`], [`strata`] and [`batches`] decide which rows meet in which batch
//! 7. [`weights`], [`scores`] and [`accumulation`] say how much each row and batch counts; [`epochs`] puts whole epochs
//!    together, [`runtime`] takes decisions while training
//! 8. [`config`] is the sum of all parameters, [`plan`] what is on disk, [`check`] whether it still
//!    fits its data, [`diff`] how two of them differ, [`pipeline`] runs everything in order
//! 9. [`report`] shows a plan to people, [`synth`] makes data to try it with, [`encode`] writes embeddings as a column, and [`cli`] is the command line

pub mod error;
pub mod progress;
pub mod matrix;
pub mod rng;
pub mod kernels;
pub mod ids;
pub mod parts;
pub mod scratch;
pub mod source;
pub mod features;
pub mod modalities;
pub mod statistics;
pub mod drift;
pub mod batch_size;
pub mod strata;
pub mod batches;
pub mod weights;
pub mod scores;
pub mod accumulation;
pub mod epochs;
pub mod runtime;
pub mod config;
pub mod plan;
pub mod check;
pub mod diff;
pub mod pipeline;
pub mod report;
pub mod synth;
pub mod encode;
#[cfg(feature = "cli")]
pub mod cli;

pub use error::{Error, Result};
