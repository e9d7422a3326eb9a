//! Room on the disk: when publishers are refused for want of it, and what is kept for the rest.
//!
//! Two marks, both in `[log]`. Below `disk_reserve_bytes` of free space publishers are refused, and
//! all else goes on. If others fill the disk to the brim all the same, the log gives up a file of
//! `reserve_file_bytes` that it holds for this: into that room go acks, removals, snapshots, and the
//! segments by whose making WAL files come free. Until the file is held again, publishers are
//! refused too, so that they do not take what was given up for others.
//!
//! Once a second somebody looks; nothing here waits for a person.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::alarms::{AlarmKind, Alarms};
use crate::clock::wall_ms;
use crate::config::units::format_size;
use crate::metrics::Metrics;

/// The file in the data directory that holds the room.
const FILE_NAME: &str = "reserve";
/// How often free space is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The room on the data directory's disk.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
    /// Publishers are refused below this.
    wanted: u64,
    /// Bytes of the file; 0 is none.
    held: u64,
    free: AtomicU64,
    /// Free space is below what is wanted.
    is_low: AtomicBool,
    /// The file was given up, and is not held again.
    is_spent: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Disk {
    /// Looks at the disk of `dir` for the first time, and holds the file if there is room.
    pub fn new(dir: &Path, wanted: u64, held: u64, metrics: Arc<Metrics>) -> Disk {
        let disk = Disk {
            dir: dir.to_owned(),
            wanted,
            held,
            free: AtomicU64::new(u64::MAX),
            is_low: AtomicBool::new(false),
            is_spent: AtomicBool::new(false),
            metrics,
        };
        disk.look();
        disk
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Why publishers are refused now, if they are.
    pub fn refusal(&self) -> Option<String> {
        if !self.is_low.load(Relaxed) && !self.is_spent.load(Relaxed) {
            return None;
        }
        Some(format!("{}; publish again later", self.state()))
    }

    fn state(&self) -> String {
        // The file is held again when there is room for it beside what is wanted.
        let wanted = match self.is_spent.load(Relaxed) {
            true => self.wanted.saturating_add(2 * self.held),
            false => self.wanted,
        };
        format!(
            "the disk is nearly full: {} are free, {} are wanted",
            format_size(self.free.load(Relaxed)),
            format_size(wanted)
        )
    }

    /// The log has no room: gives up the file. `false` if there is none to give.
    pub fn give_up(&self) -> bool {
        let is_given = self.held > 0 && give_up(&self.dir);
        if is_given {
            self.is_spent.store(true, Relaxed);
        }
        is_given
    }

    fn file(&self) -> PathBuf {
        self.dir.join(FILE_NAME)
    }

    /// Measures, and takes the file's room again where there is enough.
    fn look(&self) {
        let Some(free) = free_bytes(&self.dir) else {
            return;
        };
        let len = std::fs::metadata(self.file()).map_or(0, |m| m.len());
        let has_room = free >= self.wanted.saturating_add(2 * self.held);
        let mut is_held = len == self.held;
        if !is_held && (has_room || self.held == 0) {
            is_held = self.hold().is_ok();
        }
        // One that was never held was not given up either.
        if is_held {
            self.is_spent.store(false, Relaxed);
        }
        self.free.store(free, Relaxed);
        self.is_low.store(free < self.wanted, Relaxed);
        self.metrics.disk_free_bytes.set(free);
        let is_refusing = self.refusal().is_some();
        self.metrics.disk_full.set(u64::from(is_refusing));
    }

    fn hold(&self) -> std::io::Result<()> {
        let path = self.file();
        if self.held == 0 {
            return match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            };
        }
        let held = std::fs::File::create(&path)
            .and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, self.held)?));
        held.inspect_err(|_| drop(std::fs::remove_file(&path)))
    }

    /// Raises or ends the alarm.
    pub fn tell(&self, alarms: &Alarms) {
        match self.refusal() {
            Some(_) => {
                let text = format!("{}: publishers are refused", self.state());
                alarms.raise(AlarmKind::DiskFull, "disk", text, wall_ms());
            }
            None => alarms.clear(AlarmKind::DiskFull, "disk"),
        }
    }
}

/// Gives up the file in a data directory that this process holds; `false` if there is none.
pub(crate) fn give_up(dir: &Path) -> bool {
    let path = dir.join(FILE_NAME);
    let is_given = std::fs::remove_file(&path).is_ok();
    if is_given {
        tracing::warn!("the disk is full: the log uses the room that it kept for this");
    }
    is_given
}

fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Watches the disk until the node stops.
pub(crate) async fn watch(disk: Arc<Disk>, alarms: Arc<Alarms>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        tick.tick().await;
        let looking = disk.clone();
        // Holding the file may take a while on a slow disk.
        if tokio::task::spawn_blocking(move || looking.look())
            .await
            .is_err()
        {
            return;
        }
        disk.tell(&alarms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(dir: &Path, wanted: u64, held: u64) -> Disk {
        Disk::new(dir, wanted, held, Arc::default())
    }

    #[test]
    fn the_file_is_held_given_up_once_and_held_again() {
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(dir.path(), 0, 1 << 20);
        let len = || std::fs::metadata(dir.path().join(FILE_NAME)).map(|m| m.len());
        assert_eq!(len().unwrap(), 1 << 20);
        assert_eq!(disk.refusal(), None);
        assert!(disk.give_up());
        assert!(len().is_err());
        assert!(!disk.give_up());
        let refusal = disk.refusal().unwrap();
        assert!(refusal.contains("2MiB are wanted"), "{refusal}");
        disk.look();
        assert_eq!(len().unwrap(), 1 << 20);
        assert_eq!(disk.refusal(), None);
    }

    #[test]
    fn a_disk_below_its_mark_holds_nothing_and_says_how_much_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(dir.path(), u64::MAX, 1 << 20);
        assert!(!dir.path().join(FILE_NAME).exists());
        let free = format_size(disk.free.load(Relaxed));
        assert!(disk.refusal().unwrap().contains(&free));
        let alarms = Alarms::default();
        disk.tell(&alarms);
        assert_eq!(alarms.list()[0].subject, "disk");
    }

    #[test]
    fn without_a_file_there_is_nothing_to_give_up() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), b"of an earlier configuration").unwrap();
        let disk = disk(dir.path(), 0, 0);
        assert!(!dir.path().join(FILE_NAME).exists());
        assert!(!disk.give_up());
        assert_eq!(disk.refusal(), None);
    }
}
