//! A real node and real clients over loopback, in one binary.
//!
//! | module | tries to break |
//! |---|---|
//! | [`main_path`] | publish, confirm, deliver, ack, redeliver, dead-letter |
//! | [`live`] | subscribers, wildcards, re-entry, slow readers |
//! | [`plugins`] | stock guests on real events; guests that trap, loop, allocate, lie |
//! | [`deploys`] | plugins and routes over the network: live change, rollback, rot, kills, leaks |
//! | [`explain`], [`tap`] | what became of single messages, and copies of live ones: who may, limits, slow readers |
//! | [`pulls`], [`registry`] | components from a registry that fails, lies or is away |
//! | [`signatures`] | components that no trusted key signed |
//! | [`shadow`] | versions beside the one that serves: differences, loops, promotion under load |
//! | [`effects`] | plugins that ask for later, fail for good, keep state, publish, are woken |
//! | [`messaging`] | guests of `wasi:messaging`: what they send, and what they fail on |
//! | [`restart`] | what must be there after a clean stop |
//! | [`kill`], [`kill_state`] | what must be there after SIGKILL, of queues and of what plugins keep |
//! | [`greeting`], [`frames`], [`rights`], [`clients`] | bytes, identities and clients that misbehave |
//! | [`data_dir`], [`disk_full`] | directories and disks that cannot be used |
//! | [`drain`] | stopping under load |
//! | [`manage`] | management and the admin page |
//! | [`queues`] | kinds of groups, filters, places, limits, expiry and dead letters |
//! | [`crowd`] | many queues and consumers, good and bad, and a message that is always nacked |
//! | [`receipts`] | what publishers are told that groups did |
//! | [`replay`] | copies of what a queue holds, through the routes |
//! | [`python`] | whether docs/protocol.md is enough for a client |
//!
//! Nothing here waits for a time to pass where an event tells; [`harness::run`] ends a test that
//! hangs.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests; a panic is their way to fail"
)]

mod backup;
mod child;
mod clients;
mod crowd;
mod data_dir;
mod deploys;
mod disk_full;
mod drain;
mod effects;
mod explain;
mod frames;
mod greeting;
mod harness;
mod hostile;
mod kill;
mod kill_state;
mod live;
mod main_path;
mod manage;
mod messaging;
mod once;
mod plugins;
mod pulls;
mod python;
mod queues;
mod raw;
mod receipts;
mod registry;
mod replay;
mod restart;
mod rights;
mod shadow;
mod signatures;
mod tap;
mod together;
