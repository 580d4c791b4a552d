//! The arithmetic that runs per row: distances, nearest centres, projections, neighbours, eigenvectors, cosines.
//!
//! Every answer is defined by a *canonical* rule (see [`distance`]): `f32` inputs, `f64` accumulation in eight fixed
//! lanes, no fused multiply-add. The fast paths only *rank*: [`nearest`] and [`knn`] compute scores, in `f32` or 16-bit
//! integers, with whatever vectors the machine has, keep everything that a proven error bound cannot exclude, and settle what is left by the
//! canonical rule. So AVX-512, AVX2, another architecture or none of them change speed and never a byte.
//!
//! - [`bytes`] stored values as numbers
//! - [`distance`] the canonical squared distance and dot product
//! - [`nearest`] the nearest of `k` centres for every row
//! - [`knn`] the `k` nearest neighbours of every row of a sample
//! - [`project`] rows onto axes
//! - [`eigen`] mean, covariance and eigenvectors of symmetric matrices
//! - [`gather`] numbers from anywhere in memory
//! - [`scatter`] rows to their positions in batches, by many threads
//! - [`logarithm`] logarithms of many numbers
//! - [`permute`] many positions of a keyed permutation
//! - [`sketches`] many cosines at once, and the products of what they make
//! - [`moments`] sums over rows
//! - `transformer` (feature `encoder`) linear layers, attention and what stands between them

mod tiles;
mod simd;
pub mod bytes;
pub mod distance;
pub mod eigen;
pub mod logarithm;
pub mod moments;
pub mod permute;
pub mod gather;
pub mod scatter;
pub mod rows;
#[cfg(test)]
mod naive;
pub mod project;
pub mod sketches;
#[cfg(feature = "encoder")]
pub mod transformer;

mod ranking;
pub mod nearest;
pub mod knn;
pub use simd::{Simd, description, limit, limited};
