//! The simulator: core, shard and log on an in-memory disk, with faults and virtual time.
//!
//! A run is drawn from one seed, in one thread, without clock or socket: publishers, consumers and
//! an operator act on a shard, whose disk loses power, fills up and fails. A model of what the
//! shard was told judges what it answers, what survives a crash, and what is left at the end.
//!
//! - [`world`]: the run itself: actors, faults, restarts
//! - [`model`]: the oracle, in which the unknown is not absent
//! - [`invariants`]: what must always hold, one file each
//! - [`time`]: expiry, delay, priority and last values, in a world of their own
//! - [`once`]: producers that send again, and transactions, in a world of their own
//! - [`ids`]: message ids that are sent again, in a world of their own
//! - [`receipts`]: what producers are told, in a world of their own
//! - [`runner`]: a seed and a plan to a report; a failure names the command that repeats it
//!
//! Left out: sockets, plugins and time limits of the node; the log's own bytes under bit flips,
//! beyond "served or not, never damaged" ([`rot`]).

pub mod dice;
pub mod ids;
pub mod invariants;
pub mod message;
pub mod model;
pub mod once;
pub mod receipts;
pub mod rot;
pub mod runner;
pub mod time;
pub mod trace;
pub mod world;

pub use runner::{Failure, Report, run, sweep};
pub use world::{Faults, Plan, Tally};
