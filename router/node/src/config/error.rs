//! What is wrong with a configuration, and where.

use super::read::{any_of, nearest};
use std::path::PathBuf;

/// One mistake, shown as `waypost.toml:12:5: [[route]] "kept" to[0]: unknown …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as its path was given.
    pub file: PathBuf,
    /// From 1; 0 where the file could not be read at all.
    pub line: usize,
    /// In characters, from 1; 0 where the file could not be read at all.
    pub column: usize,
    /// Section and key, such as `[limits] payload_bytes`; empty for the file itself.
    pub key: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file is missing, not readable or not text.
    #[error("{0}")]
    Read(String),
    /// The file is not TOML from here on.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// A key that must be there.
    #[error("missing key {0:?}")]
    Missing(String),
    /// A value of the wrong type, form or range.
    #[error("found {found}, expected {expected}")]
    Unexpected {
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: String,
    },
    /// A key, plugin, queue or role that does not exist.
    #[error("unknown {what} {found:?}, {hint}")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        found: String,
        /// The nearest one, or all.
        hint: String,
    },
    /// A name that exists already.
    #[error("duplicate {what} {name:?}, first on line {first_line}")]
    Duplicate {
        /// What has the name.
        what: &'static str,
        /// The name.
        name: String,
        /// Where it was first.
        first_line: usize,
    },
    /// A file that the configuration names.
    #[error("{path}: {error}")]
    File {
        /// As the node opens it.
        path: String,
        /// What is wrong with it.
        error: String,
    },
    /// Anything that needs a sentence of its own.
    #[error("{0}")]
    Other(String),
}

impl Problem {
    pub(super) fn unexpected(found: impl Into<String>, expected: impl Into<String>) -> Problem {
        Problem::Unexpected {
            found: found.into(),
            expected: expected.into(),
        }
    }

    pub(super) fn unknown<S: AsRef<str>>(
        what: &'static str,
        found: &str,
        candidates: &[S],
    ) -> Problem {
        let hint = match nearest(found, candidates) {
            Some(near) => format!("did you mean {near:?}?"),
            None if candidates.is_empty() => "and none is declared".to_owned(),
            None => {
                let mut names: Vec<&str> = candidates.iter().map(AsRef::as_ref).collect();
                names.sort_unstable();
                format!("expected {}", any_of(&names))
            }
        };
        Problem::Unknown {
            what,
            found: found.to_owned(),
            hint,
        }
    }
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// Every mistake of a file, one on a line; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl std::fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
