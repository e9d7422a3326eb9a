//! The log of a shard: append to the pending group, commit it, read, trim.
//!
//! One owner, no threads, no clock: times are arguments, and what takes long is handed out as a
//! [`Job`](crate::Job) (see [`crate::jobs`]).
//!
//! Invariant: what a read or a recovery can see was synced. Appends change nothing but the pending
//! group; [`Log::commit`] writes and syncs it, and only then are its effects applied.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::error::{AppendError, CommitError, IoError, QueueError};
use crate::format::entry::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind};
use crate::format::group::padded;
use crate::format::meta::{NAME_BYTES_MAX, QueueMeta, SETTINGS_BYTES_MAX};
use crate::format::slab;
use crate::ids::{Incarnation, Position};
use crate::options::Options;
use crate::pending::{Effect, Mark, Pending};
use crate::queue::{Queue, Run};
use crate::segments::SegmentCache;
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::wal::Wal;

/// A shard's log. See the [crate's documentation](crate) for a tour.
pub struct Log<V: Vfs> {
    pub(crate) vfs: V,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) wal: Wal<V>,
    pub(crate) pending: Pending,
    pub(crate) queues: HashMap<Incarnation, Queue>,
    pub(crate) segment_cache: Mutex<SegmentCache<V>>,
    pub(crate) has_job: bool,
    /// Why the log takes nothing any more.
    pub(crate) poisoned: Option<String>,
    pub(crate) is_last_group_proven: bool,
    /// Where a backup is wanted.
    pub(crate) backup_dir: Option<PathBuf>,
    /// WAL files up to this one are read by a backup.
    pub(crate) pinned_seq: Option<u64>,
}

/// What a commit made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Where the group begins; all before its end is durable.
    pub position: Position,
    /// Bytes written, padding included; 0 if nothing was pending.
    pub bytes: u64,
}

/// The head of an append: what the records of one slab have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Messages {
    /// The reign in whose name the records are appended.
    pub epoch: u32,
    /// Offset of the first record; the others follow without gaps. At least the queue's next.
    pub first_offset: u64,
    /// Records in the slab.
    pub count: u32,
    /// When they were received, in ms since 1970.
    pub time_ms: u64,
}

/// Who asks for room. What frees space must not be refused for want of space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// Messages leave a whole file free for the others.
    Messages,
    State,
    /// Snapshots, trims and removals may go over `wal_bytes_max`.
    Frees,
}

impl<V: Vfs> Log<V> {
    /// Bytes of a group at most: what one crash may take at most.
    pub fn group_bytes_max(&self) -> u64 {
        self.options.group_bytes_max
    }

    /// Adds records to the pending group. `slab` is given in parts that are joined: `count`
    /// records, each a varint length and a body. Nothing is added on an error.
    pub fn append_messages<P: AsRef<[u8]>>(
        &mut self,
        queue: Incarnation,
        messages: Messages,
        slab: &[P],
    ) -> Result<(), AppendError> {
        let bytes: u64 = slab.iter().map(|p| p.as_ref().len() as u64).sum();
        self.check_room(bytes, Claim::Messages)?;
        let state = self.queue_mut(queue)?;
        if messages.first_offset < state.next_offset {
            return Err(AppendError::OffsetUsed {
                queue,
                first_offset: messages.first_offset,
                next_offset: state.next_offset,
            });
        }
        if messages.epoch < state.epoch {
            return Err(AppendError::EpochEnded {
                queue,
                epoch: messages.epoch,
                current: state.epoch,
            });
        }
        let bad_slab = |reason| AppendError::BadSlab {
            queue,
            count: messages.count,
            reason,
        };
        let end_offset = messages
            .first_offset
            .checked_add(u64::from(messages.count))
            .ok_or_else(|| bad_slab("offsets end at 2^64"))?;
        if messages.count == 0 {
            return Err(bad_slab("it is empty"));
        }
        let effect = Effect::Messages {
            first_offset: messages.first_offset,
            end_offset,
            previous_next_offset: state.next_offset,
            previous_epoch: state.epoch,
        };
        let header = EntryHeader {
            first_offset: messages.first_offset,
            time_ms: messages.time_ms,
            epoch: messages.epoch,
            count: messages.count,
            ..EntryHeader::new(EntryKind::Messages, queue.get())
        };
        let before = self.pending.mark();
        self.pending.push(queue, header, effect, |buf| {
            for part in slab {
                buf.extend_from_slice(part.as_ref());
            }
        });
        let joined = &self.pending.buf[before.bytes + ENTRY_HEADER_BYTES..];
        if let Err(reason) = slab::check(joined, messages.count) {
            self.pending.buf.truncate(before.bytes);
            self.pending.entries.truncate(before.effects);
            return Err(bad_slab(reason));
        }
        let state = self.queue_mut(queue)?;
        state.next_offset = end_offset;
        state.epoch = messages.epoch;
        Ok(())
    }

    /// Adds bytes of the queue's own to its journal.
    pub fn append_state(&mut self, queue: Incarnation, state: &[u8]) -> Result<(), AppendError> {
        self.check_room(state.len() as u64, Claim::State)?;
        self.queue_mut(queue)?;
        let header = EntryHeader::new(EntryKind::State, queue.get());
        self.pending.push(queue, header, Effect::State, |buf| {
            buf.extend_from_slice(state);
        });
        Ok(())
    }

    /// Adds the queue's whole state as of the pending group: once it is synced, recovery begins
    /// with it, and older entries of the queue but its messages are needed no more.
    pub fn append_snapshot(
        &mut self,
        queue: Incarnation,
        snapshot: &[u8],
    ) -> Result<(), AppendError> {
        let state = self.queue_mut(queue)?;
        let head = state.snapshot_head();
        let listed_end = state.moved_end();
        let bytes = head.encoded_bytes() + snapshot.len();
        self.check_room(bytes as u64, Claim::Frees)?;
        self.queue_mut(queue)?.has_pending_snapshot = true;
        let header = EntryHeader::new(EntryKind::Snapshot, queue.get());
        let effect = Effect::Snapshot { listed_end };
        self.pending.push(queue, header, effect, |buf| {
            head.encode(buf);
            buf.extend_from_slice(snapshot);
        });
        Ok(())
    }

    /// Says that offsets below `up_to` are no longer needed. Once that is synced, they are not
    /// read any more and their space is given back, whole segments at a time.
    pub fn trim(&mut self, queue: Incarnation, up_to: u64) -> Result<(), AppendError> {
        let state = self.queue_mut(queue)?;
        // What was not given out yet cannot be given up.
        let up_to = up_to.min(state.next_offset);
        if up_to <= state.trimmed {
            return Ok(());
        }
        self.check_room(0, Claim::Frees)?;
        let header = EntryHeader {
            first_offset: up_to,
            ..EntryHeader::new(EntryKind::Trimmed, queue.get())
        };
        self.pending
            .push(queue, header, Effect::Trimmed { up_to }, |_| {});
        Ok(())
    }

    /// Makes the pending group durable: one write, one fdatasync. `now_ms` is informational.
    ///
    /// After [`CommitError::NoSpace`] the group is still pending and nothing of it counts; the
    /// next attempt writes over it. After any other error the log takes nothing any more: what the
    /// disk holds is not known, and only a recovery can tell.
    pub fn commit(&mut self, now_ms: u64) -> Result<Committed, CommitError> {
        if let Some(why) = &self.poisoned {
            return Err(CommitError::Poisoned(why.clone()));
        }
        if self.pending.is_empty() {
            return Ok(Committed {
                position: self.wal.position(),
                bytes: 0,
            });
        }
        let count = self.pending.entries.len() as u32;
        let position = self.write_pending(count, now_ms)?;
        let bytes = self.pending.bytes();
        self.is_last_group_proven = false;
        self.apply_effects(position);
        Ok(Committed { position, bytes })
    }

    /// Adds one empty group if the last one holds entries: it proves that the last one was synced,
    /// so that damage to it is known as rot and not cut as a torn write. For an idle writer.
    pub fn idle_sync(&mut self, now_ms: u64) -> Result<(), CommitError> {
        if !self.pending.is_empty() {
            self.commit(now_ms)?;
        }
        if let Some(why) = &self.poisoned {
            return Err(CommitError::Poisoned(why.clone()));
        }
        // The proof is not worth a new file; the next real group gives it.
        if self.is_last_group_proven || !self.wal.fits_current(padded(1)) {
            return Ok(());
        }
        self.write_pending(0, now_ms)?;
        self.pending.clear();
        self.is_last_group_proven = true;
        Ok(())
    }

    fn write_pending(&mut self, count: u32, now_ms: u64) -> Result<Position, CommitError> {
        let result = self.wal.write_group(&mut self.pending.buf, count, now_ms);
        if let Err(CommitError::Poisoned(why)) = &result {
            self.poisoned = Some(why.clone());
        }
        result
    }

    fn apply_effects(&mut self, group: Position) {
        for entry in &self.pending.entries {
            let Some(queue) = self.queues.get_mut(&entry.queue) else {
                continue;
            };
            let position = Position(group.0 + u64::from(entry.at));
            queue.note_entry(position);
            match entry.effect {
                Effect::Messages {
                    first_offset,
                    end_offset,
                    ..
                } => queue.push_run(Run {
                    position,
                    first_offset,
                    end_offset,
                    bytes: entry.bytes,
                    records: (end_offset - first_offset) as u32,
                }),
                Effect::State => {}
                Effect::Snapshot { listed_end } => {
                    queue.has_pending_snapshot = false;
                    queue.note_snapshot(position, listed_end);
                }
                Effect::Trimmed { up_to } => queue.note_trimmed(up_to),
                Effect::Removed => {
                    queue.is_buried = true;
                    queue.runs.clear();
                    queue.base = Some(position);
                }
            }
        }
        self.pending.clear();
    }

    /// Bytes of the pending group, its header included; 0 if nothing is pending.
    pub fn pending_bytes(&self) -> u64 {
        if self.pending.is_empty() {
            0
        } else {
            self.pending.bytes()
        }
    }

    /// Whether message entries with `bytes` of slabs, one entry of which adds 48 bytes, can be
    /// added to the pending group now. If not, commit, run jobs, and answer wanted snapshots.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        self.check_room(bytes, Claim::Messages).is_ok()
    }

    /// Remembers the state of the pending group, for [`rollback`](Self::rollback).
    pub fn mark(&self) -> Mark {
        self.pending.mark()
    }

    /// Takes back all that was added since `mark`. A mark from before a commit is void: then
    /// nothing happens and the answer is `false`.
    pub fn rollback(&mut self, mark: Mark) -> bool {
        if mark.commits != self.pending.commits || mark.effects > self.pending.entries.len() {
            return false;
        }
        for entry in self.pending.entries.drain(mark.effects..).rev() {
            let Some(queue) = self.queues.get_mut(&entry.queue) else {
                continue;
            };
            match entry.effect {
                Effect::Messages {
                    previous_next_offset,
                    previous_epoch,
                    ..
                } => {
                    queue.next_offset = previous_next_offset;
                    queue.epoch = previous_epoch;
                }
                Effect::Snapshot { .. } => queue.has_pending_snapshot = false,
                Effect::Removed => queue.is_removed = false,
                Effect::State | Effect::Trimmed { .. } => {}
            }
        }
        self.pending.buf.truncate(mark.bytes);
        true
    }

    fn check_room(&self, payload: u64, claim: Claim) -> Result<(), AppendError> {
        if let Some(why) = &self.poisoned {
            return Err(AppendError::Poisoned(why.clone()));
        }
        let needed = self.pending.bytes() + ENTRY_HEADER_BYTES as u64 + payload;
        let max = self.options.group_bytes_max;
        if needed > max {
            return Err(AppendError::GroupFull { needed, max });
        }
        let live_files = self.wal.files.len() as u64;
        let max_files = self.options.files_max();
        let left = max_files.saturating_sub(live_files);
        let enough = match claim {
            Claim::Messages => left >= 2,
            Claim::State => left >= 1,
            Claim::Frees => true,
        };
        if enough || self.wal.fits_current(needed) {
            return Ok(());
        }
        Err(AppendError::WalFull {
            live_files,
            max_files,
        })
    }

    fn queue_mut(&mut self, queue: Incarnation) -> Result<&mut Queue, AppendError> {
        self.queues
            .get_mut(&queue)
            .filter(|q| !q.is_removed)
            .ok_or(AppendError::UnknownQueue(queue))
    }
}

/// Queues come and go.
impl<V: Vfs> Log<V> {
    /// Makes a queue; it is durable when this returns.
    pub fn create_queue(
        &mut self,
        incarnation: Incarnation,
        name: &str,
        settings: &[u8],
    ) -> Result<(), QueueError> {
        if self.queues.contains_key(&incarnation) {
            return Err(QueueError::Exists(incarnation));
        }
        if let Err(error) = self.write_meta(incarnation, name, settings) {
            // Best effort: what stays is removed by the next open, or is a queue that nobody
            // knows of.
            if self.poisoned.is_none() {
                let dir = self.queue_dir(incarnation);
                for name in ["queue.meta", "queue.meta.tmp"] {
                    let _ = self.vfs.remove_file(&dir.join(name));
                }
                let _ = self.vfs.remove_dir(&dir);
            }
            return Err(error);
        }
        self.queues.insert(incarnation, Queue::default());
        Ok(())
    }

    /// Replaces a queue's name and settings; durable when this returns. A queue that was recovered
    /// without its description gets one.
    pub fn update_settings(
        &mut self,
        incarnation: Incarnation,
        name: &str,
        settings: &[u8],
    ) -> Result<(), QueueError> {
        if self.queues.get(&incarnation).is_none_or(|q| q.is_removed) {
            return Err(QueueError::Unknown(incarnation));
        }
        self.write_meta(incarnation, name, settings)
    }

    /// Adds the queue's tombstone to the pending group. When it is synced, a job deletes the
    /// queue's files; the queue takes nothing from now on.
    pub fn remove_queue(&mut self, incarnation: Incarnation) -> Result<(), QueueError> {
        if self.queues.get(&incarnation).is_none_or(|q| q.is_removed) {
            return Err(QueueError::Unknown(incarnation));
        }
        self.check_room(0, Claim::Frees)?;
        self.queue_mut(incarnation)?.is_removed = true;
        let header = EntryHeader::new(EntryKind::Removed, incarnation.get());
        self.pending
            .push(incarnation, header, Effect::Removed, |_| {});
        Ok(())
    }

    fn write_meta(
        &mut self,
        incarnation: Incarnation,
        name: &str,
        settings: &[u8],
    ) -> Result<(), QueueError> {
        let written = self.try_write_meta(incarnation, name, settings);
        if let Err(QueueError::Io(error)) = &written
            && error.is_sync()
        {
            self.poisoned.get_or_insert_with(|| error.to_string());
        }
        written
    }

    fn try_write_meta(
        &self,
        incarnation: Incarnation,
        name: &str,
        settings: &[u8],
    ) -> Result<(), QueueError> {
        if let Some(why) = &self.poisoned {
            return Err(QueueError::Poisoned(why.clone()));
        }
        for (what, len, max) in [
            ("name", name.len(), NAME_BYTES_MAX),
            ("settings", settings.len(), SETTINGS_BYTES_MAX),
        ] {
            if len > max {
                return Err(QueueError::TooLong {
                    queue: incarnation,
                    what,
                    len,
                    max,
                });
            }
        }
        let meta = QueueMeta {
            incarnation,
            name: name.to_owned(),
            settings: bytes::Bytes::copy_from_slice(settings),
        };
        let queues = self.dir.join("queues");
        let dir = queues.join(incarnation.hex());
        self.vfs
            .create_dir(&dir)
            .map_err(IoError::at("make", &dir))?;
        replace_file(&self.vfs, &dir, "queue.meta", &meta.encode())?;
        self.vfs
            .sync_dir(&queues)
            .map_err(IoError::at("sync", &queues))?;
        Ok(())
    }
}

/// Puts a small file in place so that after a crash it has its old bytes or its new ones.
pub(crate) fn replace_file<V: Vfs>(
    vfs: &V,
    dir: &std::path::Path,
    name: &str,
    bytes: &[u8],
) -> Result<(), IoError> {
    let path = dir.join(name);
    let tmp = dir.join(format!("{name}.tmp"));
    let file = vfs
        .open(&tmp, OpenMode::Create)
        .map_err(IoError::at("make", &tmp))?;
    file.write_all_at(bytes, 0)
        .map_err(IoError::at("write", &tmp))?;
    file.sync_data().map_err(IoError::at("sync", &tmp))?;
    vfs.rename(&tmp, &path)
        .map_err(IoError::at("rename", &tmp))?;
    vfs.sync_dir(dir).map_err(IoError::at("sync", dir))
}
