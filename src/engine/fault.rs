//! An error as data, so that a task that fails elsewhere fails with the words, the help and the exit code that it has here.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kit::error::Error;

/// [`Error`] as it travels. Causes come along as their text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    Config {
        key: String,
        reason: String,
        help: String,
    },
    Input {
        path: String,
        column: Option<String>,
        row: Option<u64>,
        reason: String,
        help: String,
        causes: Vec<String>,
    },
    /// `code`: the operating system's number of the error, where it is one of its own.
    Io {
        action: String,
        path: PathBuf,
        code: Option<i32>,
        text: String,
    },
    Plan {
        path: PathBuf,
        reason: String,
        help: String,
    },
    Modalities {
        reason: String,
        help: String,
    },
    Interrupted,
}

/// A cause that was an error somewhere else.
#[derive(Debug)]
struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}

fn causes(error: &Error) -> Vec<String> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |e| e.source()).map(|e| e.to_string()).collect()
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let causes = causes(&error);
        match error {
            Error::Config { key, reason, help } => Fault::Config { key, reason, help },
            Error::Input { path, column, row, reason, help, source: _ } => {
                Fault::Input { path, column, row, reason, help, causes }
            }
            Error::Io { action, path, source } => Fault::Io {
                action: action.into(),
                path,
                code: source.raw_os_error(),
                text: source.to_string(),
            },
            Error::Plan { path, reason, help } => Fault::Plan { path, reason, help },
            Error::Modalities { reason, help } => Fault::Modalities { reason, help },
            Error::Interrupted => Fault::Interrupted,
        }
    }
}

impl Fault {
    /// The error again. (No `From`: there is one error that others become.)
    pub fn error(self) -> Error {
        match self {
            Fault::Config { key, reason, help } => Error::Config { key, reason, help },
            Fault::Input { path, column, row, reason, help, causes } => {
                let chain = causes
                    .into_iter()
                    .rev()
                    .fold(None, |source, text| Some(Cause { text, source: source.map(Box::new) }));
                let source = chain.map(|cause| Box::new(cause) as _);
                Error::Input { path, column, row, reason, help, source }
            }
            Fault::Io { action, path, code, text } => {
                let source =
                    code.map_or_else(|| std::io::Error::other(text), std::io::Error::from_raw_os_error);
                // One a run, and as long as it.
                Error::Io { action: action.leak(), path, source }
            }
            Fault::Plan { path, reason, help } => Error::Plan { path, reason, help },
            Fault::Modalities { reason, help } => Error::Modalities { reason, help },
            Fault::Interrupted => Error::Interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_the_same_after_a_journey() {
        let input = || Error::input("a.parquet", "is damaged", "write it again").column("e").row(7);
        let denied = || std::io::Error::from_raw_os_error(13);
        let cases = [
            Error::config("run.engine", "is unknown", "name another"),
            input(),
            input().because(Error::io("read", "b")(denied())),
            Error::io("open", "c")(denied()),
            Error::io("open", "c")(std::io::Error::other("odd")),
            Error::plan("p", "is damaged", "make it anew"),
            Error::Modalities { reason: "none".into(), help: "more rows".into() },
            Error::Interrupted,
        ];
        for error in cases {
            let (lines, code) = (error.lines(), error.exit_code());
            let bytes = postcard::to_stdvec(&Fault::from(error)).unwrap();
            let back = postcard::from_bytes::<Fault>(&bytes).unwrap().error();
            assert_eq!((back.lines(), back.exit_code()), (lines, code));
        }
    }
}
