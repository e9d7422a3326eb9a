//! What a queue is told: its promises, limits, and what happens when they are reached.
//!
//! Zero never means "none": an absent limit is an `Option`.

use waypost_wire::Filter;

/// What a queue promises of its messages; every confirm says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Confirmed means synced.
    #[default]
    Sync,
    /// Written and synced every [`Settings::interval_ms`], or with something else: a crash may lose
    /// what came since. Confirmed before that, as received.
    Interval,
    /// Kept in memory only; gone with the process.
    Memory,
}

impl Durability {
    /// Whether the log has it.
    pub fn is_logged(self) -> bool {
        self != Durability::Memory
    }
}

/// How long a queue keeps its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Retain {
    /// Until every group has acked them.
    #[default]
    UntilAcked,
    /// Until a limit of age, bytes or messages is reached, acked or not.
    Log,
}

/// What happens when a message would pass a queue's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AtLimit {
    /// Its publisher is refused, and may try again.
    #[default]
    Refuse,
    /// The oldest messages make room.
    DropOldest,
    /// The oldest messages make room, and go to the dead letters.
    DeadLetter,
}

/// Where a message goes that has expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Expired {
    /// To the dead letters.
    #[default]
    DeadLetter,
    /// Nowhere.
    Drop,
}

/// When a message may be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeliverWhen {
    /// When it is on disk, where the queue is.
    #[default]
    Synced,
    /// At once: after a crash it may never have been.
    Received,
}

/// What happens when a group falls behind by [`Settings::slow_messages`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SlowGroup {
    /// The queue keeps what it has not got yet.
    #[default]
    Spill,
    /// Publishers are refused until it has caught up.
    Hold,
    /// Its consumers are closed.
    Close,
}

/// A queue's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What a confirm promises.
    pub durability: Durability,
    /// Slab bytes that it holds at most; publishers are refused beyond.
    pub bytes_max: u64,
    /// Messages that it holds at most.
    pub messages_max: Option<u64>,
    /// How long a consumer may take for a message, in ms.
    pub ack_deadline_ms: u64,
    /// Attempts before a message goes to the dead letters.
    pub deliver_max: u32,
    /// Topics that reach it without a route being named: short for a route of its own.
    pub from: Vec<Filter>,
    /// How long messages are kept.
    pub retain: Retain,
    /// Messages older than this go, in ms.
    pub age_max_ms: Option<u64>,
    /// What happens at `bytes_max` and `messages_max`.
    pub at_limit: AtLimit,
    /// How long a message lives at most, in ms after it was received.
    pub ttl_ms: Option<u64>,
    /// Where expired messages go.
    pub expired: Expired,
    /// Priority levels, 1 to [`PRIORITIES_MAX`].
    pub priorities: u8,
    /// Only the newest message of each key is kept.
    pub last_value: bool,
    /// Wait before the third attempt, in ms, doubled for each after it; the second comes at once.
    /// 0: none.
    pub backoff_ms: u64,
    /// The longest such wait, in ms.
    pub backoff_max_ms: u64,
    /// How long message ids are remembered, in ms.
    pub dedup_window_ms: Option<u64>,
    /// So many of them at most; messages with more are refused.
    pub dedup_ids_max: u32,
    /// When messages may be delivered.
    pub deliver: DeliverWhen,
    /// With [`Durability::Interval`]: synced at least so often, in ms.
    pub interval_ms: u64,
    /// Where its dead letters go.
    pub dead_letter: String,
    /// What happens when a group falls behind.
    pub slow: SlowGroup,
    /// By so many messages.
    pub slow_messages: Option<u64>,
}

/// The most priority levels: a record's field has 0 to 7.
pub const PRIORITIES_MAX: u8 = 8;

impl Default for Settings {
    fn default() -> Self {
        Settings {
            durability: Durability::Sync,
            bytes_max: 1 << 30,
            messages_max: None,
            ack_deadline_ms: 30_000,
            deliver_max: 20,
            from: Vec::new(),
            retain: Retain::default(),
            age_max_ms: None,
            at_limit: AtLimit::default(),
            ttl_ms: None,
            expired: Expired::default(),
            priorities: 1,
            last_value: false,
            backoff_ms: 0,
            backoff_max_ms: 60_000,
            dedup_window_ms: None,
            dedup_ids_max: crate::message_ids::DEDUP_IDS_DEFAULT,
            deliver: DeliverWhen::default(),
            interval_ms: 100,
            dead_letter: crate::DEAD_LETTER.to_owned(),
            slow: SlowGroup::default(),
            slow_messages: None,
        }
    }
}

impl Settings {
    /// How long a message waits before its attempt `attempt`, in ms, if it waits at all.
    pub fn backoff(&self, attempt: u32) -> Option<u64> {
        let doublings = attempt.checked_sub(3)?;
        let wait = match self.backoff_ms.checked_mul(1 << doublings.min(32)) {
            Some(wait) => wait.min(self.backoff_max_ms),
            None => self.backoff_max_ms,
        };
        (wait > 0).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_attempt_comes_at_once_and_later_ones_wait_twice_as_long_each() {
        let settings = Settings {
            backoff_ms: 100,
            backoff_max_ms: 450,
            ..Settings::default()
        };
        let waits: Vec<Option<u64>> = (1..=6).map(|n| settings.backoff(n)).collect();
        let expected = [None, None, Some(100), Some(200), Some(400), Some(450)];
        assert_eq!(waits, expected);
        assert_eq!(settings.backoff(u32::MAX), Some(450));
        assert_eq!(Settings::default().backoff(9), None);
    }
}
