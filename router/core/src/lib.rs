//! Facts to decisions: everything a router decides, without I/O, without a clock, without tasks.
//!
//! Callers hand in what happened and the time at which it happened, and get values that say what
//! to do. So the same code runs under the node, under the simulator, and in plain unit tests that
//! assert the decisions themselves.
//!
//! - [`route`]: which routes and live subscribers a topic reaches ([`trie`] holds the filters)
//! - [`pipeline`]: which plugin sees which messages, and what their verdicts and failures mean
//! - [`breaker`]: when a plugin that keeps failing is out of service, and when it is tried again
//! - [`allowance`]: when the messages of a plugin that fails slowly are kept apart from others
//! - [`shadow`]: what two versions of a plugin said of the same messages, compared
//! - [`state`]: what plugins keep, and what of it counts
//! - [`session`]: a publisher's sequences, window and confirms
//! - [`dedup`]: which messages were stored before, and which streams of a producer count
//! - [`message_ids`]: which message ids a queue has accepted lately
//! - [`receipts`]: who is to be told what became of which messages
//! - [`settings`]: what a queue is told
//! - [`queue`], [`group`]: offsets, leases, acks, redelivery; [`journal`] is how they are written
//! - [`limits`]: every bound in one place, with its arithmetic
//!
//! Time is a `u64` in milliseconds of a monotonic clock unless a name says `wall`.

pub mod age;
pub mod allowance;
pub mod breaker;
pub mod dedup;
pub mod group;
pub mod journal;
pub mod keyed;
pub mod lastvalue;
mod leases;
pub mod levels;
pub mod limits;
mod lots;
pub mod message_ids;
mod pages;
pub mod pipeline;
pub mod queue;
pub mod receipts;
pub mod route;
pub mod session;
pub mod settings;
pub mod shadow;
pub mod state;
pub mod trie;
mod waiting;

/// The queue that takes what could not be processed; every node has it.
pub const DEAD_LETTER: &str = "dead-letter";
