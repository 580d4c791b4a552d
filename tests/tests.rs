//! One integration binary (one link step); one file per promise.

mod check;
mod cli;
mod columns;
mod composed;
mod composition;
mod craft;
mod damage;
mod decode;
mod determinism;
mod edited;
#[cfg(feature = "encoder")]
mod encoder;
mod engines;
mod format;
mod golden;
mod hostile;
mod interruption;
mod layers;
mod local;
mod locality;
mod materialize;
mod misuse;
mod mutants;
mod oracle;
mod output;
mod places;
mod reader;
mod reference;
mod source;
mod splits;
mod stream;
mod targets;
