//! A plugin tried on messages without a node: with the host and the limits of one.
//!
//! `input` reads messages, `run` calls the plugin and keeps what it did, `entry` is what became of
//! one message, as JSON; `expect` has what was expected, `judge` compares and counts, `show` is for
//! people. `time` is the time that a trial has for itself.

pub mod entry;
pub mod expect;
pub mod input;
pub mod judge;
pub mod route;
pub mod run;
pub mod show;
pub mod state;
pub mod time;
