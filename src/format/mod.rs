//! What is on disk and nothing else: one file per output file, its columns, encoding and decoding side by side.
//!
//! A plan is a directory. [`Staging`] builds it in a hidden sibling under a lock and moves it into place at once; a
//! directory without `plan.json` ([`Manifest`]) is not a plan. All tables are Arrow IPC files, uncompressed and
//! aligned to 64 bytes, so any Arrow library maps them without copying ([`table`]). [`Kind`] lists them; each
//! [`Contract`] names every column with type, meaning, unit and range, and everything else is derived from it: the
//! Arrow schema, what the reader checks, `schemas/*.json` and the tables of `docs/format.md`
//! ([`schema_documents`](crate::plan::schema_documents)).

use std::collections::BTreeMap;

pub mod columns;
pub(crate) mod map;
pub mod dendrogram;
mod json;
pub mod manifest;
pub mod table;
pub mod sources;
pub mod modalities;
pub mod features;
pub mod projection;
pub mod prototypes;
pub mod samples;
pub mod strata;
pub mod units;
pub mod groups;
pub mod holdout;
pub mod splits;
pub mod batches;
pub mod weights;
pub mod statistics;
pub mod reference;
pub mod profile;
pub mod sample;
pub mod evidence;
pub mod staging;

pub use columns::{Column, Contract, Shape};
pub use manifest::{FileEntry, Manifest, RunInfo};
pub use staging::{Staging, disk_free};
pub use table::{Table, TableReader, TableWriter};

/// Version of the format, as plan.json names it: readers accept the same major number and any minor one.
pub const FORMAT: &str = "1.1";
/// What tables and the first line of a plan's id name: the major version's first. A minor version changes neither the bytes
/// of a table that it adds nothing to nor the ids of plans.
pub const BASE: &str = "1.0";

/// (major, minor), written in one way only: "1.00" is no version.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    let version = (major.parse().ok()?, minor.parse().ok()?);
    (format!("{}.{}", version.0, version.1) == text).then_some(version)
}

/// The minor version, or Err(reason) unless `found` is a format of our major version.
fn check_format(found: Option<&str>) -> Result<u32, String> {
    let Some(found) = found else {
        return Err("has no `batchwright.format`: it is not a table of a plan".into());
    };
    let (ours, _) = version(FORMAT).expect("our own version");
    match version(found) {
        Some((theirs, minor)) if theirs == ours => Ok(minor),
        Some((theirs, _)) if theirs > ours => Err(format!(
            "has format {found}, newer than {FORMAT}, the newest this batchwright reads; update batchwright"
        )),
        _ => Err(format!("has format {found:?}; this batchwright reads {FORMAT}")),
    }
}

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
    Units,
    Groups,
    Holdout,
    Splits,
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
    pub const ALL: [Kind; 19] = [
        Kind::Sources,
        Kind::Modalities,
        Kind::Features,
        Kind::Projection,
        Kind::Prototypes,
        Kind::Samples,
        Kind::Strata,
        Kind::Units,
        Kind::Groups,
        Kind::Holdout,
        Kind::Splits,
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
            Kind::Units => &units::CONTRACT,
            Kind::Groups => &groups::CONTRACT,
            Kind::Holdout => &holdout::CONTRACT,
            Kind::Splits => &splits::CONTRACT,
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
