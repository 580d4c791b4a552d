//! The sets of passes that a job can ask for. Each is plain data, as its partial result is: a worker makes it from bytes and
//! returns bytes.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::rows::{Rows, Sink};
use crate::modalities::Assigned;
use crate::modalities::assignment::Collect;
use crate::parts::Pass;
use crate::statistics::comparison::{Columns, Distances};
use crate::statistics::content::Content;
use crate::statistics::gain::Gain;
use crate::statistics::moments::Moments;
use crate::statistics::profile::Profile;
use crate::statistics::reach::Reach;
use crate::statistics::reference::Reference;

/// Which set of passes a job's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Summaries,
    Comparison,
    Content,
    Collect,
}

/// Passes that may run in another process.
pub trait Passes:
    Pass<Item = Assigned, Partial: Serialize + DeserializeOwned> + Serialize + DeserializeOwned
{
    const KIND: Kind;

    /// Where rows' results go, if there are any.
    fn sink(&self) -> Option<&Sink> {
        None
    }

    /// Has them go elsewhere.
    fn put_into(&mut self, _: Sink) {}
}

/// What `plan` and `update` find out of all rows, or of the new ones.
pub type Summaries = (Rows, Moments, Gain, (Option<Reference>, Option<Reach>), Option<Profile>, Content);

impl Passes for Summaries {
    const KIND: Kind = Kind::Summaries;

    fn sink(&self) -> Option<&Sink> {
        self.0.sink()
    }

    fn put_into(&mut self, sink: Sink) {
        self.0.put_into(sink);
    }
}

/// What `check` compares new rows by.
pub type Comparison = (Distances, Moments, Gain, Option<Reference>, Columns);

impl Passes for Comparison {
    const KIND: Kind = Kind::Comparison;
}

impl Passes for Content {
    const KIND: Kind = Kind::Content;
}

impl Passes for Collect {
    const KIND: Kind = Kind::Collect;
}
