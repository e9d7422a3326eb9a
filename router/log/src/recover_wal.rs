//! The WAL as an opening log finds it: its files read and judged, what is damaged set aside, what is
//! left replayed. [`crate::recover`] says in which order, and why.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Damage, OpenError};
use crate::format::entry::entries_in_rot;
use crate::format::group::{GROUP_HEADER_BYTES, GroupHeader, padded};
use crate::ids::Position;
use crate::jobs::remove_file;
use crate::mover::set_aside;
use crate::options::{Options, PAGE_BYTES};
use crate::recover::{RecoveryReport, io, read_range};
use crate::replay::Replayer;
use crate::scan::{self, FoundGroup, Plan};
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::wal::{Wal, name_file, parse_wal_file_name, spare_file_name, wal_file_name};

/// The WAL as it was found.
pub(crate) struct Recovery<'a, V: Vfs> {
    vfs: &'a V,
    dir: PathBuf,
    quarantine: PathBuf,
    file_bytes: u64,
    pub files: BTreeMap<u64, Arc<V::File>>,
    /// Files that something shortened, with what is left of them in bytes.
    short: Vec<(u64, u64)>,
    pub plan: Plan,
    pub report: RecoveryReport,
}

impl<'a, V: Vfs> Recovery<'a, V> {
    pub fn read(
        vfs: &'a V,
        dir: &Path,
        options: &Options,
        names: &[String],
    ) -> Result<Self, OpenError> {
        let file_bytes = options.file_bytes;
        let mut files = BTreeMap::new();
        let mut short = Vec::new();
        let mut found: Vec<FoundGroup> = Vec::new();
        let mut buf = vec![0; usize::try_from(file_bytes).unwrap_or(0)];
        let wal_dir = dir.join("wal");
        for seq in names.iter().filter_map(|n| parse_wal_file_name(n)) {
            let path = wal_dir.join(wal_file_name(seq));
            let file = io(vfs.open(&path, OpenMode::ReadWrite), "open", &path)?;
            let got = io(file.read_full_at(&mut buf, 0), "read", &path)?;
            found.extend(scan::groups(&buf[..got], Position::of(seq, 0, file_bytes)));
            files.insert(seq, Arc::new(file));
            if (got as u64) < file_bytes {
                short.push((seq, got as u64));
            }
        }
        if let Some(group) = found.iter().find(|g| g.header.shard != options.shard) {
            return Err(OpenError::OtherShard {
                path: dir.to_owned(),
                found: group.header.shard,
                expected: options.shard,
            });
        }
        let start = files.keys().next().copied().unwrap_or(1);
        // A file has its whole length before it is written: what is missing was there, and so was
        // what is left. A torn write looks otherwise.
        let proven = short.last().map_or(Position(0), |(seq, len)| {
            Position::of(*seq, padded(*len), file_bytes)
        });
        let start = Position::of(start, 0, file_bytes);
        let plan = scan::plan(&found, start, file_bytes, proven);
        Ok(Recovery {
            vfs,
            dir: wal_dir,
            quarantine: dir.join("quarantine"),
            file_bytes,
            report: RecoveryReport {
                wal_files: files.len() as u64,
                groups: plan.kept.len() as u64,
                ..RecoveryReport::default()
            },
            files,
            short,
            plan,
        })
    }

    /// Where the log ends, the last group's CRC, and the number of opens so far.
    pub fn end(&self) -> (Position, u32, u32) {
        let chain = self.plan.kept.last().map_or(0, |g| g.header.crc);
        (self.plan.end, chain, self.plan.opens)
    }

    /// The file that holds the log's end: the next group would have gone there.
    fn end_file(&self) -> Option<(u64, u64)> {
        let last = self.plan.end.0.checked_sub(1)?;
        let seq = Position(last).seq(self.file_bytes);
        let offset = self.plan.end.0 - Position::of(seq, 0, self.file_bytes).0;
        match self.plan.kept.is_empty() {
            true => Some((self.plan.end.seq(self.file_bytes), 0)),
            false => Some((seq, offset)),
        }
    }

    /// Finds how far a torn write can be seen to reach, and cuts it.
    fn cut_torn(&mut self) -> Result<(), OpenError> {
        let chain = self.plan.kept.last().map_or(0, |g| g.header.crc);
        let Some((seq, offset)) = self.end_file() else {
            return Ok(());
        };
        // The torn group is in the file of the end, or the first of the next.
        for (seq, offset) in [(seq, offset), (seq + 1, 0)] {
            let Some(file) = self.files.get(&seq) else {
                continue;
            };
            let path = self.dir.join(wal_file_name(seq));
            let bytes = read_range(&**file, offset..self.file_bytes, &path)?;
            let position = Position::of(seq, offset, self.file_bytes);
            let whole = self.plan.cut.iter().map(|g| g.header.end());
            let broken = scan::is_broken_group(&bytes, position, chain)
                .map(|len| Position(position.0 + len));
            let file_end = Position::of(seq + 1, 0, self.file_bytes);
            let end = whole
                .chain(broken)
                .filter(|end| *end > position && *end <= file_end)
                .max();
            if let Some(end) = end {
                self.cut(position..end)?;
            }
        }
        Ok(())
    }

    /// Sets a torn write aside and writes zeros over it, so that it never reads as whole again.
    fn cut(&mut self, range: Range<Position>) -> Result<(), OpenError> {
        let seq = range.start.seq(self.file_bytes);
        let Some(file) = self.files.get(&seq) else {
            return Ok(());
        };
        let path = self.dir.join(wal_file_name(seq));
        let start = range.start.offset(self.file_bytes);
        let bytes = start..start + (range.end.0 - range.start.0);
        let damage = set_aside(
            self.vfs,
            &self.quarantine,
            "torn",
            range.start,
            file,
            bytes.clone(),
        )?;
        let zeros = vec![0; (bytes.end - bytes.start) as usize];
        io(file.write_all_at(&zeros, bytes.start), "write", &path)?;
        io(file.sync_data(), "sync", &path)?;
        self.report.torn.push(damage);
        Ok(())
    }

    /// Writes again the groups that no later one proves to be synced: the last.
    fn rewrite_unproven(&self) -> Result<(), OpenError> {
        let kept = &self.plan.kept;
        let synced = kept.iter().map(|g| g.header.synced).max();
        let unproven = |g: &&FoundGroup| Some(g.header.position) >= synced;
        for group in kept.iter().rev().take_while(unproven) {
            let position = group.header.position;
            let seq = position.seq(self.file_bytes);
            let Some(file) = self.files.get(&seq) else {
                continue;
            };
            let path = self.dir.join(wal_file_name(seq));
            let start = position.offset(self.file_bytes);
            let bytes = read_range(&**file, start..start + group.header.padded_bytes(), &path)?;
            io(file.write_all_at(&bytes, start), "write", &path)?;
        }
        Ok(())
    }

    /// Makes durable what was read, and sets rot aside.
    pub fn sync_and_tidy(&mut self) -> Result<(), OpenError> {
        self.rewrite_unproven()?;
        for (seq, file) in &self.files {
            let path = self.dir.join(wal_file_name(*seq));
            io(file.sync_data(), "sync", &path)?;
        }
        io(self.vfs.sync_dir(&self.dir), "sync", &self.dir)?;
        self.cut_torn()?;
        self.set_rot_aside()?;
        self.lengthen()
    }

    /// Fills up files that were shortened: they will be used again, and must have their blocks.
    fn lengthen(&mut self) -> Result<(), OpenError> {
        for (seq, len) in std::mem::take(&mut self.short) {
            let Some(file) = self.files.get(&seq) else {
                continue;
            };
            let path = self.dir.join(wal_file_name(seq));
            let missing = self.file_bytes - len;
            let zeros = vec![0; usize::try_from(missing).unwrap_or(0)];
            io(file.write_all_at(&zeros, len), "write zeros to", &path)?;
            io(file.sync_data(), "sync", &path)?;
            self.report.rot.push(Damage {
                position: Position::of(seq, len, self.file_bytes),
                bytes: missing,
                set_aside: None,
            });
        }
        Ok(())
    }

    fn set_rot_aside(&mut self) -> Result<(), OpenError> {
        for range in self.plan.rot.clone() {
            for part in self.parts(&range) {
                let seq = part.start.seq(self.file_bytes);
                let len = part.end.0 - part.start.0;
                let Some(file) = self.files.get(&seq) else {
                    self.report.rot.push(Damage {
                        position: part.start,
                        bytes: len,
                        set_aside: None,
                    });
                    continue;
                };
                let start = part.start.offset(self.file_bytes);
                let bytes = start..start + len;
                let damage = set_aside(self.vfs, &self.quarantine, "rot", part.start, file, bytes)?;
                self.report.rot.push(damage);
            }
        }
        Ok(())
    }

    /// A range of positions, split at the ends of files.
    fn parts(&self, range: &Range<Position>) -> Vec<Range<Position>> {
        let mut parts = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let file_end = Position::of(at.seq(self.file_bytes) + 1, 0, self.file_bytes);
            let end = file_end.min(range.end);
            parts.push(at..end);
            at = end;
        }
        parts
    }

    /// Replays groups and what can be read in rot, in order of position.
    pub fn replay(&mut self) -> Result<Replayer, OpenError> {
        let mut replayer = Replayer::default();
        let mut rot: Vec<_> = self.plan.rot.iter().flat_map(|r| self.parts(r)).collect();
        rot.reverse();
        let mut before = 0;
        for i in 0..self.plan.kept.len() {
            let header = self.plan.kept[i].header;
            while let Some(part) = rot.pop_if(|part| part.start < header.position) {
                self.replay_rot(part, [before, header.chain], &mut replayer)?;
            }
            before = header.crc;
            let bytes = self.bytes_at(header.position, header.padded_bytes())?;
            for entry in scan::group_entries(&bytes, &header) {
                replayer.add(header.position, &entry);
            }
        }
        while let Some(part) = rot.pop() {
            self.replay_rot(part, [before, 0], &mut replayer)?;
        }
        Ok(replayer)
    }

    /// Looks for entries in rot: in groups whose header still names its place, or is chained to a
    /// neighbour. `chain` holds the CRC of the group before and the one that the group after names;
    /// 0 is unknown.
    fn replay_rot(
        &mut self,
        part: Range<Position>,
        chain: [u32; 2],
        replayer: &mut Replayer,
    ) -> Result<(), OpenError> {
        let [before, after] = chain;
        let is_linked =
            |h: &GroupHeader| (before != 0 && h.chain == before) || (after != 0 && h.crc == after);
        let bytes = self.bytes_at(part.start, part.end.0 - part.start.0)?;
        let mut at = 0;
        while at < bytes.len() {
            let position = Position(part.start.0 + at as u64);
            let mut next = at + PAGE_BYTES as usize;
            let is_ours = GroupHeader::peek(&bytes[at..])
                .is_some_and(|h| h.position == position || is_linked(&h));
            if is_ours {
                let mut end = GROUP_HEADER_BYTES;
                for entry in entries_in_rot(&bytes[at..], GROUP_HEADER_BYTES) {
                    end = entry.at + entry.header.total_bytes() as usize;
                    self.report.salvaged_entries +=
                        u64::from(replayer.add_salvaged(position, &entry));
                }
                next = next.max(at + padded(end as u64) as usize);
            }
            at = next;
        }
        Ok(())
    }

    fn bytes_at(&self, position: Position, len: u64) -> Result<Vec<u8>, OpenError> {
        let seq = position.seq(self.file_bytes);
        let Some(file) = self.files.get(&seq) else {
            return Ok(Vec::new());
        };
        let path = self.dir.join(wal_file_name(seq));
        let start = position.offset(self.file_bytes);
        Ok(read_range(&**file, start..start + len, &path)?)
    }

    /// Gives the files to the writer: those that hold something as live, the others as spares.
    pub fn hand_over_files(&mut self, wal: &mut Wal<V>, names: &[String]) -> Result<(), OpenError> {
        let file_bytes = self.file_bytes;
        let is_live = |seq: u64| {
            let start = Position::of(seq, 0, file_bytes);
            let end = Position::of(seq + 1, 0, file_bytes);
            let kept = &self.plan.kept;
            let after = kept.partition_point(|g| g.header.position < start);
            kept.get(after).is_some_and(|g| g.header.position < end)
                || self.plan.rot.iter().any(|r| r.start < end && start < r.end)
        };
        for name in names {
            let Some(n) = name
                .strip_prefix("spare-")
                .and_then(|d| u64::from_str_radix(d, 16).ok())
            else {
                continue;
            };
            let path = self.dir.join(name);
            let file = io(self.vfs.open(&path, OpenMode::ReadWrite), "open", &path)?;
            // One whose making was cut short has fewer bytes.
            if io(file.len(), "measure", &path)? == file_bytes && *name == spare_file_name(n) {
                wal.adopt_spare(n, file);
            } else {
                remove_file(self.vfs, &path)?;
            }
        }
        let mut is_changed = false;
        for (seq, file) in std::mem::take(&mut self.files) {
            if is_live(seq) {
                wal.files.insert(seq, file);
                continue;
            }
            let from = wal.path(seq);
            is_changed = true;
            let path = wal.new_spare_path();
            io(self.vfs.rename(&from, &path), "rename", &from)?;
            wal.spares.push(crate::wal::Spare { path, file });
        }
        if is_changed {
            io(self.vfs.sync_dir(&self.dir), "sync", &self.dir)?;
        }
        Ok(())
    }
}

/// Gives their own names to files that hold groups under a spare's name: a crash came between the
/// writer's turn to a new file and the job that names it.
pub(crate) fn name_files<V: Vfs>(
    vfs: &V,
    wal_dir: &Path,
    file_bytes: u64,
) -> Result<(), OpenError> {
    for (seq, from) in find_files(vfs, wal_dir, file_bytes)? {
        let to = wal_dir.join(wal_file_name(seq));
        if from != to {
            name_file(vfs, &from, &to)?;
        }
    }
    Ok(())
}

/// The live files, in order, also those under a spare's name. These continue the last that has its
/// own. One whose groups are all damaged leaves a gap, which the positions of the others show.
pub(crate) fn find_files<V: Vfs>(
    vfs: &V,
    wal_dir: &Path,
    file_bytes: u64,
) -> Result<Vec<(u64, PathBuf)>, OpenError> {
    let names = io(vfs.read_dir(wal_dir), "list", wal_dir)?;
    let named = |n: &String| Some((parse_wal_file_name(n)?, wal_dir.join(n)));
    let mut found: Vec<(u64, PathBuf)> = names.iter().filter_map(named).collect();
    found.sort_unstable();
    let mut next = found.last().map_or(1, |(last, _)| last + 1);
    let spares: Vec<PathBuf> = names
        .iter()
        .filter(|n| n.starts_with("spare-"))
        .map(|n| wal_dir.join(n))
        .collect();
    let mut buf = vec![0; usize::try_from(file_bytes).unwrap_or(0)];
    let mut turned_to = Vec::new();
    for path in spares {
        let file = io(vfs.open(&path, OpenMode::Read), "open", &path)?;
        let got = io(file.read_full_at(&mut buf, 0), "read", &path)?;
        if let Some(seq) = scan::file_of(&buf[..got], file_bytes, next) {
            turned_to.push((seq, path));
        }
    }
    turned_to.sort_unstable();
    let most = next + turned_to.len() as u64;
    for (seq, path) in turned_to {
        // The writer goes through the numbers one by one: what lies far above was never its own.
        if seq >= next && seq <= most {
            next = seq + 1;
            found.push((seq, path));
        }
    }
    Ok(found)
}
