//! Messages of the plugin's own, beside its answer. Needs the grant `publish`, which names the
//! topics.
//!
//! A message enters routing when the router has taken the batch, in the same record; if the batch is
//! refused, or the call fails, it never was.

use super::imported::publish as imported;
use crate::{Error, Outgoing};

pub use crate::raw::publish::Refusal;

/// Publishes a message. `cause` is the [position](crate::Message::position) of the message that it
/// is published for: it inherits that one's trace and hops. For `each` it is 0, and in
/// [`Plugin::on_timer`](crate::Plugin::on_timer) it is not looked at.
pub fn publish(cause: u32, message: Outgoing) -> Result<(), Refusal> {
    imported::publish(cause, &message)
}

fn words(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Forbidden => "the plugin may not publish to this topic",
        Refusal::Invalid => "the message that was to be published breaks a rule",
        Refusal::Full => "the call has published as much as one call may",
        Refusal::NotNow => "nothing can be published in init",
    }
}

impl From<Refusal> for Error {
    /// As [`Error::Invalid`]: the same input would be refused again.
    fn from(refusal: Refusal) -> Error {
        Error::Invalid(words(refusal).into())
    }
}
