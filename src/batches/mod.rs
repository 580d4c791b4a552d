//! In which company a row is met, and how much each row and batch counts: how large a batch is ([`batch_size`]) and when ([`sizes`]), which rows
//! belong together ([`strata`]), which of them meet in a batch ([`deal`], and [`local`] where rows are read in the order in
//! which they lie), how often a row counts ([`weights`]), what a batch is worth ([`score`]), when there is enough for an update
//! ([`accumulation`]), and whole epochs of all this ([`epochs`]).

pub mod number;
pub mod sizes;
pub mod batch_size;
pub mod strata;
mod layout;
pub mod chunks;
pub mod labels;
pub mod allocation;
pub mod batch;
pub mod deal;
mod places;
pub mod duplicates;
pub mod units;
pub mod locality;
pub mod rounds;
pub mod halving;
pub mod local;
pub mod evenness;
pub mod weights;
pub mod score;
pub mod accumulation;
pub mod epochs;
