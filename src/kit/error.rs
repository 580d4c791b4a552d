//! One error type, its variants ordered by what the reader can do about it. Every message names the place (file,
//! column, row, config key), the value seen and the value expected; [`Error::help`] says what to do. Errors of
//! dependencies are the `source`, never the message.

use std::path::PathBuf;

use super::text::{Clean, clean};

pub type Result<T, E = Error> = std::result::Result<T, E>;
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong. Exit codes of the command line: see [`Error::exit_code`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is wrong or two settings contradict each other. `key` is the dotted config key or the flag.
    #[error("{}: {}", Clean(key), Clean(reason))]
    Config { key: String, reason: String, help: String },
    /// The dataset cannot be used as it is.
    #[error("{}: {}", location(path, column.as_deref(), *row), Clean(reason))]
    Input {
        path: String,
        column: Option<String>,
        row: Option<u64>,
        reason: String,
        help: String,
        source: Option<Cause>,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", Clean(path.display()))]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    /// A plan is damaged, of a newer format, or does not belong to this dataset.
    #[error("{}: {}", Clean(path.display()), Clean(reason))]
    Plan { path: PathBuf, reason: String, help: String },
    /// The modalities cannot be counted as asked.
    #[error("modalities: {}", Clean(reason))]
    Modalities { reason: String, help: String },
    /// Ctrl-C, or the caller's cancel.
    #[error("interrupted")]
    Interrupted,
}

fn location(path: &str, column: Option<&str>, row: Option<u64>) -> String {
    let mut s = Clean(path).to_string();
    if let Some(c) = column {
        s += &format!(", column `{}`", Clean(c));
    }
    if let Some(r) = row {
        s += &format!(", row {r}");
    }
    s
}

impl Error {
    pub fn config(key: impl Into<String>, reason: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Config { key: key.into(), reason: reason.into(), help: help.into() }
    }

    /// An input problem of a whole file or dataset; add the place with [`Error::column`] and [`Error::row`].
    pub fn input(path: impl Into<String>, reason: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Input {
            path: path.into(),
            column: None,
            row: None,
            reason: reason.into(),
            help: help.into(),
            source: None,
        }
    }

    pub fn plan(path: impl Into<PathBuf>, reason: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Plan { path: path.into(), reason: reason.into(), help: help.into() }
    }

    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }

    pub fn column(mut self, name: &str) -> Self {
        if let Error::Input { column, .. } = &mut self {
            *column = Some(name.into());
        }
        self
    }

    /// `row` counts from 0 inside the file that the message names.
    pub fn row(mut self, number: u64) -> Self {
        if let Error::Input { row, .. } = &mut self {
            *row = Some(number);
        }
        self
    }

    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        if let Error::Input { source, .. } = &mut self {
            *source = Some(cause.into());
        }
        self
    }

    /// What the user can do about it; empty where the message already says it.
    pub fn help(&self) -> &str {
        match self {
            Error::Config { help, .. }
            | Error::Input { help, .. }
            | Error::Plan { help, .. }
            | Error::Modalities { help, .. } => help,
            Error::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull
                | std::io::ErrorKind::QuotaExceeded
                | std::io::ErrorKind::FileTooLarge => "free some space, or write to another disk",
                std::io::ErrorKind::PermissionDenied => "check the permissions of this path",
                std::io::ErrorKind::NotFound => "check the spelling of the path",
                _ => "",
            },
            Error::Interrupted => "",
        }
    }

    /// The message, its causes that say more, and the help, each a clean line after what it is.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut said = self.to_string();
        let mut lines = vec![("error", said.clone())];
        let mut cause = std::error::Error::source(self);
        while let Some(e) = cause {
            // Libraries put long messages into lines.
            let message = Clean(e.to_string().replace('\n', " ")).to_string();
            if !said.contains(&message) {
                lines.push(("cause", message.clone()));
            }
            said = message;
            cause = e.source();
        }
        if !self.help().is_empty() {
            lines.push(("help", clean(self.help()).into_owned()));
        }
        lines
    }

    /// 2 usage or config, 3 input unreadable or invalid, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Config { .. } => 2,
            Error::Input { .. } | Error::Io { .. } | Error::Plan { .. } | Error::Modalities { .. } => 3,
            Error::Interrupted => 130,
        }
    }
}
