//! Records to disk, and back: a shard's write-ahead log, its queues' segments, and recovery.
//!
//! A shard's queues share one **WAL**: files of fixed size, written once before use and recycled,
//! because syncing into blocks that exist already is several times as fast as growing a file. What
//! is appended between two commits is one **group**: one write, one fdatasync, all or nothing.
//! What must stay for longer is copied to **segments** of its queue by jobs, and a queue's
//! **snapshot** in the WAL replaces the entries before it, so that old WAL files come free.
//!
//! ```text
//! append_* ──> pending group ── commit (write, sync) ──> WAL file ── move job ──> segment
//!                                                           │                        │
//!                                        read <─────────────┴────────────────────────┘
//! ```
//!
//! Where to look: [`Log`] for the writer, [`recover`] for opening, [`scan`] for how a torn tail is
//! told from rot, [`jobs`] for how space comes back, [`mod@format`] for the bytes, [`vfs`] for what is
//! asked of a disk, [`inspect`], [`mod@dump`] and [`mod@repair`] for a directory that no process uses,
//! [`describe`] for one that may be in use, and `docs/log-format.md` for all of the format on one page.
//!
//! Deliberately absent: threads, clocks, sockets, and any knowledge of what a record or a queue's
//! state says.

pub mod backup;
pub mod data_dir;
pub mod describe;
pub mod dump;
pub mod error;
mod extents;
pub mod format;
pub mod ids;
pub mod inspect;
pub mod jobs;
pub mod log;
pub mod mem;
mod mover;
pub mod options;
pub mod overlay;
mod pending;
mod queue;
pub mod read;
pub mod recover;
mod recover_wal;
pub mod repair;
mod replay;
pub mod restore;
pub mod scan;
mod segments;
mod shard_meta;
pub mod space;
pub mod vfs;
mod wal;

pub use data_dir::DataDir;
pub use error::{AppendError, CommitError, IoError, JobError, OpenError, QueueError, ReadError};
pub use ids::{Incarnation, Position};
pub use jobs::{Job, JobDone, JobReport};
pub use log::{Committed, Log, Messages};
pub use options::Options;
pub use pending::Mark;
pub use read::{Chunk, ReadBatch};
pub use recover::{Recovered, RecoveredQueue, RecoveryReport, Replay};
pub use vfs::{RealVfs, Vfs, VfsFile};
