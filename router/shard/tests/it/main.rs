//! A shard on a disk in memory, driven by hand.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do: by a panic that names the place"
)]

mod ahead;
mod harness;
mod message_ids;
mod naming;
mod old_format;
mod producers;
mod publishing;
mod receipts;
mod time;
mod transactions;
