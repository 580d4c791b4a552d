//! What is on disk and nothing else: one file per output file, its columns, encoding and decoding side by side.
//!
//! A plan is a directory. [`Staging`] builds it in a hidden sibling under a lock and moves it into place at once; a
//! directory without `plan.json` ([`Manifest`]) is not a plan. All tables are Arrow IPC files, uncompressed and
//! aligned to 64 bytes, so any Arrow library maps them without copying ([`table`]). [`Kind`] lists them; each
//! [`Contract`] names every column with type, meaning, unit and range, and everything else is derived from it: the
//! Arrow schema, what the reader checks, `schemas/*.json` ([`schema_documents`]) and the tables of `docs/format.md`.
//! [`Plan`] opens a finished plan, hands out its tables and computes every epoch; [`Assigner`] assigns new rows.

use std::collections::BTreeMap;

pub mod columns;
pub mod table;
mod map;
pub mod sources;
pub mod modalities;
pub mod features;
pub mod projection;
pub mod prototypes;
pub mod samples;
pub mod strata;
pub mod holdout;
pub mod batches;
pub mod weights;
pub mod statistics;
pub mod reference;
pub mod profile;
pub mod sample;
pub mod evidence;
pub mod manifest;
pub mod staging;
pub mod epoch;
pub mod reader;
pub mod assigner;
mod training;
mod documents;

pub use assigner::{Assigner, Assignment};
pub use columns::{Column, Contract, Shape};
pub use documents::{format_tables, json_schema, schema_documents};
pub use manifest::{FileEntry, Manifest, RunInfo};
pub use reader::Plan;
pub use staging::{Staging, disk_free};
pub use table::{Table, TableReader, TableWriter};

/// Version of the format: readers accept the same major number and any minor one.
pub const FORMAT: &str = "1.0";

/// The tables of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Sources,
    Modalities,
    Features,
    Projection,
    Prototypes,
    Samples,
    Strata,
    Holdout,
    Batches,
    Weights,
    Statistics,
    Reference,
    Profile,
    Sample,
    Curve,
    Evidence,
}

impl Kind {
    pub const ALL: [Kind; 16] = [
        Kind::Sources,
        Kind::Modalities,
        Kind::Features,
        Kind::Projection,
        Kind::Prototypes,
        Kind::Samples,
        Kind::Strata,
        Kind::Holdout,
        Kind::Batches,
        Kind::Weights,
        Kind::Statistics,
        Kind::Reference,
        Kind::Profile,
        Kind::Sample,
        Kind::Curve,
        Kind::Evidence,
    ];

    /// The columns of this table and what they mean.
    pub const fn contract(self) -> &'static Contract {
        match self {
            Kind::Sources => &sources::CONTRACT,
            Kind::Modalities => &modalities::CONTRACT,
            Kind::Features => &features::CONTRACT,
            Kind::Projection => &projection::CONTRACT,
            Kind::Prototypes => &prototypes::CONTRACT,
            Kind::Samples => &samples::CONTRACT,
            Kind::Strata => &strata::CONTRACT,
            Kind::Holdout => &holdout::CONTRACT,
            Kind::Batches => &batches::CONTRACT,
            Kind::Weights => &weights::CONTRACT,
            Kind::Statistics => &statistics::CONTRACT,
            Kind::Reference => &reference::CONTRACT,
            Kind::Profile => &profile::CONTRACT,
            Kind::Sample => &sample::CONTRACT,
            Kind::Curve => &evidence::CURVE,
            Kind::Evidence => &evidence::EVIDENCE,
        }
    }

    /// The word used in `batchwright.kind`, in `files` of plan.json and for the file under `schemas/`.
    pub const fn name(self) -> &'static str {
        self.contract().name
    }

    /// Path inside the plan, with `/`; for batches a pattern, see [`batches::path`].
    pub const fn path(self) -> &'static str {
        self.contract().path
    }

    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.name() == name)
    }
}

/// Extra schema metadata of a table; `batchwright.format` and `batchwright.kind` are added by the writer.
pub type Metadata = BTreeMap<String, String>;
