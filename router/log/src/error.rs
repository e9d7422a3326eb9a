//! What can go wrong, told apart by what may be done about it.
//!
//! Three answers exist: *refuse* (the caller asked for something that cannot be; nothing
//! happened), *retry* (no room now; nothing happened), and *end* (the disk said that it may have
//! lost what it was given; nothing may be confirmed any more and the process must end).

use std::io;
use std::path::{Path, PathBuf};

use crate::ids::{Incarnation, Position};

/// A file operation that failed, with its file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}: {source}", path.display())]
pub struct IoError {
    /// What was attempted, as a verb.
    pub op: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The operating system's answer.
    #[source]
    pub source: io::Error,
}

impl IoError {
    pub(crate) fn at(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IoError {
        let path = path.to_owned();
        move |source| IoError { op, path, source }
    }

    /// Whether the disk or a quota is full: freeing space helps, and nothing is broken.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// Whether a sync failed: then what was written since the last one may be gone, silently.
    pub fn is_sync(&self) -> bool {
        self.op == "sync"
    }
}

/// Why a log, or a data directory, did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// An option is out of its bounds.
    #[error("option {option}: {reason}")]
    Options {
        /// The option's name.
        option: &'static str,
        /// The bound that it breaks.
        reason: String,
    },
    /// Another process uses the directory.
    #[error("data directory {} is in use by {holder}", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// What the lock file says of its holder, such as `process 4711`.
        holder: String,
    },
    /// The directory holds files, but not a router's.
    #[error("{} is not a data directory of waypost: {reason}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What was found in it.
        reason: String,
    },
    /// The directory was written by a newer version.
    #[error(
        "data directory {} has format {found}; this version reads up to {supported}: use the \
         newer version that wrote it",
        path.display()
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// The format that it has.
        found: u32,
        /// The newest format that this version reads.
        supported: u32,
    },
    /// The files belong to another shard.
    #[error("{} holds shard {found}, not shard {expected}", path.display())]
    OtherShard {
        /// The shard's directory.
        path: PathBuf,
        /// The shard that its WAL names.
        found: u16,
        /// The shard that was to be opened.
        expected: u16,
    },
}

/// Why something could not be added to the pending group. Nothing was added.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The queue does not exist, or is being removed.
    #[error("queue {0} is not in this log")]
    UnknownQueue(Incarnation),
    /// The pending group would grow over `group_bytes_max`: commit, then append again. If the
    /// group is empty, the entry can never fit.
    #[error("{needed} bytes do not fit a group of at most {max}")]
    GroupFull {
        /// Bytes that the group would have.
        needed: u64,
        /// Bytes that it may have.
        max: u64,
    },
    /// The WAL is at its limit: run jobs and answer the wanted snapshots, then append again.
    #[error("the WAL is full: {live_files} files of {max_files} hold entries that are needed")]
    WalFull {
        /// Files in use.
        live_files: u64,
        /// Files allowed.
        max_files: u64,
    },
    /// The offset lies below the queue's next one; offsets are never used again.
    #[error("queue {queue}: offset {first_offset} was used; the next is {next_offset}")]
    OffsetUsed {
        /// The queue.
        queue: Incarnation,
        /// The offset given.
        first_offset: u64,
        /// The lowest that is free.
        next_offset: u64,
    },
    /// The append was made in the name of an epoch that has ended.
    #[error("queue {queue}: epoch {epoch} has ended; the current one is {current}")]
    EpochEnded {
        /// The queue.
        queue: Incarnation,
        /// The epoch given.
        epoch: u32,
        /// The queue's current epoch.
        current: u32,
    },
    /// The slab is not `count` records with their lengths.
    #[error("queue {queue}: slab is not {count} records: {reason}")]
    BadSlab {
        /// The queue.
        queue: Incarnation,
        /// Records announced.
        count: u32,
        /// What is wrong.
        reason: &'static str,
    },
    /// A sync failed before: see [`CommitError::Poisoned`].
    #[error("the log ended: {0}")]
    Poisoned(String),
}

impl AppendError {
    /// Whether the same call may succeed after a commit, jobs or snapshots.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::GroupFull { .. } | Self::WalFull { .. })
    }
}

/// Why the pending group is not durable.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// No space for the next WAL file or group. The group is still pending: commit again, or roll
    /// it back.
    #[error("no space: {0}")]
    NoSpace(#[source] IoError),
    /// A write or sync failed otherwise. What the group holds may or may not be on disk; the log
    /// takes nothing any more, nothing may be confirmed, and the process must end.
    #[error("the log ended: {0}")]
    Poisoned(String),
}

/// Why a queue could not be made, changed or marked for removal.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The incarnation is in use.
    #[error("queue {0} exists")]
    Exists(Incarnation),
    /// No such queue.
    #[error("queue {0} is not in this log")]
    Unknown(Incarnation),
    /// The name has more than 65,535 bytes or the settings more than 1 MiB.
    #[error("queue {queue}: {what} has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// The queue.
        queue: Incarnation,
        /// `name` or `settings`.
        what: &'static str,
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A file operation failed; the queue is as it was. If it was a sync, the log has ended.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The entry could not be added.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A sync failed before: see [`CommitError::Poisoned`].
    #[error("the log ended: {0}")]
    Poisoned(String),
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The queue does not exist.
    #[error("queue {0} is not in this log")]
    UnknownQueue(Incarnation),
    /// What lies on disk for these offsets is not what was written.
    #[error(
        "queue {queue}: offsets {first_offset}..{end_offset} are damaged in {} at byte {at}: \
         {reason}",
        file.display()
    )]
    Damaged {
        /// The queue.
        queue: Incarnation,
        /// First offset that cannot be served.
        first_offset: u64,
        /// One past the last; reading goes on from here.
        end_offset: u64,
        /// The WAL file or segment.
        file: PathBuf,
        /// Where in it.
        at: u64,
        /// What does not hold.
        reason: &'static str,
    },
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Why a job's work is not done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// No space; the job will be offered again. Nothing was lost.
    #[error("no space: {0}")]
    NoSpace(#[source] IoError),
    /// A file operation failed; the job will be offered again. Nothing was lost.
    #[error(transparent)]
    Io(IoError),
    /// A sync failed: see [`CommitError::Poisoned`].
    #[error("the log ended: {0}")]
    Poisoned(String),
}

/// Where recovery or a move found bytes that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the damage begins in the WAL.
    pub position: Position,
    /// Bytes that cannot be trusted.
    pub bytes: u64,
    /// The copy that was set aside, if it could be made.
    pub set_aside: Option<PathBuf>,
}
