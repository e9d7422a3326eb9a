//! Guests of `wasi:messaging` 0.2.0-draft (`wit/wasi-messaging`): an adapter that runs them as
//! filters.
//!
//! A component that exports `incoming-handler`, and no role of the contract, is one. `handle` is
//! called once for each message, with a message of its own that it may change at will: what is on
//! the route stays as it was. Its answer says that the message passes, or that it failed.
//!
//! The invariant: such a guest has nothing that others have not. What it sends goes the way of
//! `publish`, within the same grant and bounds; every import counts as a host call; what it holds
//! on this side counts as memory of its instance (`held`). Nothing here waits: what would have to
//! (`request`) is refused in the interface's own words.
//!
//! This part has what crosses the boundary, `check` what is looked at when a component is loaded,
//! `held` what guests hold, `link` the imports. The call is in `instance`.

mod check;
mod held;
mod link;

use std::fmt;

use wasmtime::component::{ComponentType, Lift, Lower, Resource};

pub(crate) use check::{
    HANDLER, check_handler, check_import, check_settings, import_names, is_guest, is_sending, role,
    wrong_imports,
};
pub(crate) use held::{Held, Message};
pub(crate) use link::link;

use crate::bindings::PublishRefusal;
use crate::imports::Refused;
use crate::interest::{Fields, HeaderInterest, Interest, PayloadInterest};

/// The package, without a version.
pub(crate) const PACKAGE: &str = "wasi:messaging";
/// The one version of it that runs here. It is a draft's: nothing else fits it.
pub(crate) const VERSION: &str = "0.2.0-draft";
/// The function of `incoming-handler`.
pub(crate) const HANDLE: &str = "handle";

/// Interface `name` of the package, with its version.
pub(crate) fn versioned(name: &str) -> String {
    format!("{PACKAGE}/{name}@{VERSION}")
}

/// The package and its version.
pub(crate) const CONTRACT: &str = "wasi:messaging@0.2.0-draft";

/// `types.error`.
#[derive(ComponentType, Lift, Lower, Clone, Debug, PartialEq, Eq)]
#[component(variant)]
pub(crate) enum Error {
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "connection")]
    Connection(String),
    #[component(name = "permission-denied")]
    PermissionDenied(String),
    #[component(name = "other")]
    Other(String),
}

/// Its case, and its words.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Timeout => f.write_str("timeout"),
            Error::Connection(words) => write!(f, "connection: {words}"),
            Error::PermissionDenied(words) => write!(f, "permission-denied: {words}"),
            Error::Other(words) => write!(f, "other: {words}"),
        }
    }
}

impl From<Refused> for Error {
    fn from(Refused { refusal, why }: Refused) -> Error {
        match refusal {
            PublishRefusal::Forbidden => Error::PermissionDenied(why),
            PublishRefusal::Invalid | PublishRefusal::Full | PublishRefusal::NotNow => {
                Error::Other(why)
            }
        }
    }
}

pub(crate) type HandleParams = (Resource<Message>,);
pub(crate) type HandleReturn = (Result<(), Error>,);

/// What is copied in for such a guest: it cannot say what it needs.
pub(crate) fn interest() -> Interest {
    Interest {
        headers: HeaderInterest::Everything,
        payload: PayloadInterest::Everything,
        fields: Fields {
            content_type: true,
            reply_to: true,
            ..Fields::default()
        },
        batch_max: waypost_wire::BATCH_MESSAGES_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_has_the_packages_version() {
        assert_eq!(CONTRACT, format!("{PACKAGE}@{VERSION}"));
    }

    #[test]
    fn an_error_is_told_by_its_case_and_its_words() {
        let words = || "why".to_owned();
        let told = [
            Error::Timeout,
            Error::Connection(words()),
            Error::PermissionDenied(words()),
            Error::Other(words()),
        ]
        .map(|error| error.to_string());
        let wanted = [
            "timeout",
            "connection: why",
            "permission-denied: why",
            "other: why",
        ];
        assert_eq!(told, wanted);
    }
}
