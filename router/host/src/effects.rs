//! What a call may do beside its answer, if it was granted: state, and messages of its own.
//!
//! The host keeps neither. Whoever calls an [`Instance`](crate::Instance) lends it a [`State`] and
//! takes what was published out of [`Effects`]; both count only when the batch was accepted. After
//! an error, or a refusal later on, the caller throws both away: that is what makes a call atomic.

use bytes::Bytes;

use crate::verdict::Outgoing;

/// The longest key of a state, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 512;
/// The longest value of a state, in bytes.
pub const STATE_VALUE_BYTES_MAX: usize = 256 << 10;
/// Bytes of keys and values that one scan gives at most, if they are more than one pair.
pub const STATE_SCAN_BYTES_MAX: usize = 256 << 10;
/// Pairs that one scan gives at most.
pub const STATE_SCAN_PAIRS_MAX: usize = 8_192;

/// What the import `state` reads and writes; the caller's, who keeps its quota, its expiry, and
/// the way back to what it was before the call.
///
/// Keys have 1 to [`STATE_KEY_BYTES_MAX`] bytes and values at most [`STATE_VALUE_BYTES_MAX`]: the
/// host has checked that. A call reads at once what it wrote. Called from within the guest's call,
/// so it must not wait.
pub trait State {
    /// The value of a key, if it is there and not expired.
    fn get(&mut self, key: &[u8]) -> Option<Bytes>;

    /// Sets a key, or removes it with `None`, which never fails. `ttl_ms` counts from now; 0 means
    /// that the value stays.
    fn set(&mut self, key: &[u8], value: Option<Bytes>, ttl_ms: u64) -> Result<(), StateFull>;

    /// Keys that begin with `prefix`, after the key `after`, in order of their bytes, with their
    /// values: at most `limit`, and no more than `bytes_max` bytes of keys and values together;
    /// but one pair, whatever its size, if there is one and `limit` is not 0.
    fn scan(
        &mut self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        bytes_max: usize,
    ) -> Vec<(Bytes, Bytes)>;
}

/// It would be more than the plugin may keep: [`Limits::state_bytes`](crate::Limits::state_bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plugin's state is full")]
pub struct StateFull;

/// A message that a plugin published beside its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The message of the batch that it was published for, by its place, from 0. In a call of
    /// `on-timer` it is 0 and means nothing.
    pub cause: u32,
    /// The message, within the rules and the grant.
    pub message: Outgoing,
}

/// What a call may touch beside its answer.
#[derive(Default)]
pub struct Effects<'a> {
    /// What the import `state` reads and writes. A plugin that uses it and finds none fails the
    /// call.
    pub state: Option<&'a mut dyn State>,
    /// What the call published, after what was here before, in the plugin's order.
    pub published: Vec<Published>,
}

impl<'a> Effects<'a> {
    /// Nothing published yet, on this state.
    pub fn on(state: &'a mut dyn State) -> Effects<'a> {
        Effects {
            state: Some(state),
            published: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Effects<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Effects")
            .field("state", &self.state.is_some())
            .field("published", &self.published)
            .finish()
    }
}
