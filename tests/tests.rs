//! One integration binary (one link step); one file per promise.
mod layers;
mod source;
