//! One integration binary (one link step); one file per promise.

mod cli;
mod determinism;
mod format;
mod hostile;
mod layers;
mod misuse;
mod reference;
mod source;
