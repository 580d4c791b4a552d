//! One integration binary (one link step); one file per promise.
#[cfg(feature = "cli")]
mod cli;
mod layers;
mod format;
mod hostile;
mod reference;
