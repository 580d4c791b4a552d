//! The engine of a run: by its name, or as it was given.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::engine::Engine;
use super::folder::Folder;
use crate::kit::error::{Error, Result};

/// The setting that names the engine, for messages.
pub const KEY: &str = "run.engine";

/// An engine that a run is to use: by its name, `folder:DIR` for example, or as it was given. Two of the same name are the same.
#[derive(Clone)]
pub struct Chosen {
    name: String,
    given: Option<Arc<dyn Engine>>,
}

impl Chosen {
    pub fn named(name: impl Into<String>) -> Self {
        Chosen { name: name.into(), given: None }
    }

    /// `name` is for messages.
    pub fn given(name: impl Into<String>, engine: Arc<dyn Engine>) -> Self {
        Chosen { name: name.into(), given: Some(engine) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The engine. Of the named ones a program without Python knows `folder:DIR` alone.
    pub fn open(&self) -> Result<Arc<dyn Engine>> {
        if let Some(engine) = &self.given {
            return Ok(engine.clone());
        }
        match self.name.split_once(':') {
            Some(("folder", dir)) if !dir.is_empty() => Ok(Arc::new(Folder::new(dir))),
            _ if ["processes", "ray", "spark"].contains(&self.name.split(':').next().unwrap_or("")) => {
                Err(Error::config(
                    KEY,
                    format!("`{}` comes with the Python package", self.name),
                    "run `python -m batchwright` instead of the stand-alone program, or use folder:DIR",
                ))
            }
            _ => Err(Error::config(
                KEY,
                format!("unknown engine `{}`", self.name),
                "expected folder:DIR, processes:N, ray, ray:ADDRESS, spark or spark:MASTER",
            )),
        }
    }
}

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chosen({:?})", self.name)
    }
}

impl PartialEq for Chosen {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Chosen {}

impl Serialize for Chosen {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        self.name.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Chosen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(from).map(Chosen::named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert!(Chosen::named("folder:x").open().is_ok());
        for (name, says) in [
            ("processes:2", "Python package"),
            ("ray", "Python package"),
            ("folder:", "unknown engine `folder:`"),
            ("cloud", "unknown engine `cloud`"),
        ] {
            let error = Chosen::named(name).open().err().expect(name);
            assert!(error.to_string().contains(says) && error.exit_code() == 2, "{name}: {error}");
        }
    }
}
