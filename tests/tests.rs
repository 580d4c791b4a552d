//! One integration binary (one link step); one file per promise.

mod format;
mod hostile;
mod layers;
mod reference;
mod source;
