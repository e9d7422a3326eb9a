//! When everything is acked and jobs have run, the space is given back: the WAL is at its
//! low-water mark, no segment is left, and no directory of a queue that was removed.

use waypost_log::space::SpaceUsed;

use crate::invariants::Violation;

const NAME: &str = "space_returns";

/// What is left on disk; `files_low` is the low-water mark in files.
pub fn check(
    used: SpaceUsed,
    files_low: u64,
    queue_dirs: &[String],
    queues: usize,
) -> Result<(), Violation> {
    Violation::unless(used.segment_bytes == 0, NAME, || {
        format!("segments are left although every message was acked: {used:?}")
    })?;
    Violation::unless(used.wal_files <= files_low + 1, NAME, || {
        format!("{used:?}, the low-water mark is {files_low} files")
    })?;
    Violation::unless(queue_dirs.len() <= queues, NAME, || {
        format!("{queues} queues and the directories {queue_dirs:?}")
    })
}
