//! A component on the command line: a file, or a plugin of the shelf by its name.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where it is.
#[derive(Clone, Debug)]
pub enum Component {
    /// A file.
    File(PathBuf),
    /// `builtin:NAME`
    Builtin(String),
}

/// What stands before a name that is not a file's.
pub const PREFIX: &str = "builtin:";

impl FromStr for Component {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Component, Infallible> {
        Ok(match text.strip_prefix(PREFIX) {
            Some(name) => Component::Builtin(name.to_owned()),
            None => Component::File(text.into()),
        })
    }
}

impl From<&Path> for Component {
    fn from(file: &Path) -> Component {
        Component::File(file.to_owned())
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Component::File(file) => write!(f, "{}", file.display()),
            Component::Builtin(name) => write!(f, "{PREFIX}{name}"),
        }
    }
}

impl Component {
    /// What is said where a file is not there: it may be meant for a name.
    pub fn missing(&self) -> Option<String> {
        let Component::File(file) = self else {
            return None;
        };
        let is_name = file.components().count() == 1 && file.extension().is_none();
        (is_name && !file.exists()).then(|| {
            format!(
                "no file {0}; a plugin of the shelf is written {PREFIX}{0}",
                file.display()
            )
        })
    }
}

#[cfg(feature = "node")]
mod embedded {
    use bytes::Bytes;
    use waypost_host::Source;
    use waypost_node::shelf;

    use super::Component;
    use crate::failure::usage;

    impl Component {
        /// Where the host finds it.
        pub fn source(&self) -> anyhow::Result<Source> {
            match self {
                Component::File(file) => match self.missing() {
                    Some(text) => Err(usage(text)),
                    None => Ok(Source::File(file.clone())),
                },
                Component::Builtin(name) => {
                    let stock = shelf::stock(name).ok_or_else(|| usage(shelf::unknown(name)))?;
                    Ok(Source::Bytes(Bytes::from(stock.component())))
                }
            }
        }
    }
}
