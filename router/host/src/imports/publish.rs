//! `publish` and `timer`.
//!
//! What is published is kept here until the call returns, and goes to the caller only if it returned
//! well; see [`Effects`](crate::Effects).

use wasmtime::component::LinkerInstance;
use waypost_wire::record::FIELDS_BYTES_MAX;

use super::{HostCallError, HostState, Level, Phase};
use crate::answer::{outgoing, outgoing_len};
use crate::bindings::offered::{LenParams, PublishParams, PublishReturn};
use crate::bindings::{Outgoing, PublishRefusal};
use crate::effects::Published;

/// The shortest time that a timer runs, in ms: a guest that sets none but short ones is called a
/// hundred times a second, not without pause.
const TIMER_MS_MIN: u32 = 10;
/// What lengths and tags add to a record, and what the router adds to a message: in bytes, for the
/// whole, and for each header.
const FIELDS_BYTES_SPARE: usize = 1_024;
const HEADER_BYTES_SPARE: usize = 8;

/// Why a message is not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub refusal: PublishRefusal,
    /// A sentence.
    pub why: String,
}

impl Refused {
    fn new(refusal: PublishRefusal, why: impl Into<String>) -> Refused {
        let why = why.into();
        Refused { refusal, why }
    }
}

impl HostState {
    fn publish(&mut self, (cause, message): PublishParams) -> PublishAnswer {
        self.enter("publish.publish")?;
        let taken = self.take_published(cause, message);
        Ok(taken.map_err(|refused| self.bare(&refused)))
    }

    /// Takes a message that the guest publishes for message `cause` of its call.
    pub(crate) fn take_published(&mut self, cause: u32, message: Outgoing) -> Result<(), Refused> {
        let cause = match self.phase {
            Phase::Init | Phase::Schema => {
                let why = "nothing can be published before the first call";
                return Err(Refused::new(PublishRefusal::NotNow, why));
            }
            Phase::Wake => 0,
            Phase::Call { first, messages } if cause < messages => first + cause,
            Phase::Call { messages, .. } => {
                let why = format!("message {cause} as the cause, of {messages}");
                return Err(Refused::new(PublishRefusal::Invalid, why));
            }
        };
        let bytes = outgoing_len(&message);
        let fields = bytes - message.payload.len() + message.headers.len() * HEADER_BYTES_SPARE;
        if fields > FIELDS_BYTES_MAX - FIELDS_BYTES_SPARE {
            let why = format!("{fields} bytes beside the payload, limit {FIELDS_BYTES_MAX}");
            return Err(Refused::new(PublishRefusal::Invalid, why));
        }
        self.take(cause, bytes, message)
    }

    fn take(&mut self, cause: u32, bytes: usize, message: Outgoing) -> Result<(), Refused> {
        let around = self.around.clone();
        let message = outgoing(&around.limits, message)
            .map_err(|rule| Refused::new(PublishRefusal::Invalid, rule.to_string()))?;
        if !around.grants.may_publish(&message.topic) {
            let why = format!("topic '{}' is not granted", message.topic);
            return Err(Refused::new(PublishRefusal::Forbidden, why));
        }
        let mut output = self.published_output;
        output.messages += 1;
        output.bytes += bytes;
        let limits = &around.limits;
        if output.messages > limits.emitted_messages || output.bytes > limits.emitted_bytes {
            let (messages, bytes) = (limits.emitted_messages, limits.emitted_bytes);
            let why = format!("a call may publish {messages} messages and {bytes} bytes");
            return Err(Refused::new(PublishRefusal::Full, why));
        }
        self.published_output = output;
        self.published.push(Published { cause, message });
        Ok(())
    }

    /// The guest gets a bare refusal; its author finds the reason in the log, where the refusal
    /// does not say it all.
    fn bare(&self, refused: &Refused) -> PublishRefusal {
        let Refused { refusal, why } = refused;
        if matches!(refusal, PublishRefusal::Forbidden | PublishRefusal::Invalid) {
            self.log(Level::Warn, &format!("refused to publish: {why}"));
        }
        *refusal
    }
}

type PublishAnswer = Result<Result<(), PublishRefusal>, HostCallError>;

pub(super) fn link(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("publish", |mut store, params: PublishParams| {
        let published: PublishReturn = (store.data_mut().publish(params)?,);
        Ok(published)
    })
}

pub(super) fn link_timer(instance: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    instance.func_wrap("set", |mut store, (after_ms,): LenParams| {
        let state = store.data_mut();
        state.enter("timer.set")?;
        state.timer = Some(match after_ms {
            0 => 0,
            after_ms => after_ms.max(TIMER_MS_MIN),
        });
        Ok(())
    })
}
