//! A backup while the log runs: what a kill at this moment would leave, in a directory of its own.
//!
//! In two steps, so that the writer never waits. A job *links* every file that counts into the
//! backup; it takes as long as that many links. While it is out no other job moves, recycles or
//! removes anything. Then anybody *copies* the linked files that the log still writes or will use
//! again: the WAL, as far as it was synced when the job was handed out, and each queue's last
//! segment. Until [`Log::end_backup`], WAL files that come free are removed instead of recycled.
//! Segments that are not a queue's last are never written again: they stay links.
//!
//! The file `format` comes last: a directory without it is not a backup.

use std::path::{Path, PathBuf};

use crate::data_dir::write_format;
use crate::error::{IoError, OpenError};
use crate::format::segment::file_name;
use crate::log::Log;
use crate::recover::io;
use crate::shard_meta;
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::wal::wal_file_name;

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackedUp {
    /// Bytes of all its files, links included.
    pub bytes: u64,
    /// Files.
    pub files: u64,
}

/// A file that is linked into the backup.
#[derive(Debug)]
pub(crate) struct LinkFile {
    from: PathBuf,
    to: PathBuf,
    /// How it goes on; `None` stays a link.
    copy: Option<CopyFile>,
}

/// How much of a file counts, and how long its copy is.
#[derive(Clone, Copy, Debug)]
struct CopyFile {
    bytes: u64,
    len: u64,
}

/// The job's part: directories to make and files to link.
pub(crate) struct Linking {
    dir: PathBuf,
    dirs: Vec<PathBuf>,
    files: Vec<LinkFile>,
}

/// What is left to be done when the links are made. It may be done on any thread, once.
#[derive(Debug)]
pub struct Copying {
    dir: PathBuf,
    dirs: Vec<PathBuf>,
    files: Vec<LinkFile>,
}

impl<V: Vfs> Log<V> {
    /// Wants a backup of all that is committed now, in `dir`, which must not exist; its parent must.
    /// One of the next jobs is the backup's; its report has what is left to be copied. `false` if
    /// a backup is under way.
    pub fn begin_backup(&mut self, dir: &Path) -> bool {
        let is_free = self.backup_dir.is_none() && self.pinned_seq.is_none();
        if is_free {
            self.backup_dir = Some(dir.to_owned());
        }
        is_free
    }

    /// The copy is made, or has failed: WAL files may be used again.
    pub fn end_backup(&mut self) {
        self.backup_dir = None;
        self.pinned_seq = None;
    }

    /// What is to be linked, as of now.
    pub(crate) fn linking(&mut self) -> Option<Linking> {
        let dir = self.backup_dir.take()?;
        self.pinned_seq = self.wal.files.keys().next_back().copied();
        let shard = dir.join(self.dir.file_name().unwrap_or_default());
        let mut linking = Linking {
            dirs: vec![dir.clone(), shard.clone()],
            dir,
            files: Vec::new(),
        };
        linking
            .dirs
            .extend(["wal", "queues", "quarantine"].map(|n| shard.join(n)));
        linking.link(self.dir.join(shard_meta::FILE_NAME), &shard, None);
        let len = self.wal.file_bytes();
        let end = self.wal.position();
        for seq in self.wal.files.keys() {
            let bytes = match Some(*seq) == self.pinned_seq {
                true if end.seq(len) == *seq => end.offset(len),
                _ => len,
            };
            linking.files.push(LinkFile {
                from: self.wal.path(*seq),
                to: shard.join("wal").join(wal_file_name(*seq)),
                copy: Some(CopyFile { bytes, len }),
            });
        }
        for (queue, state) in self.queues.iter().filter(|(_, q)| !q.is_removed) {
            let (from, to) = (
                self.queue_dir(*queue),
                shard.join("queues").join(queue.hex()),
            );
            linking.dirs.push(to.clone());
            linking.link(from.join("queue.meta"), &to, None);
            for (index, segment) in state.segments.iter().enumerate() {
                let is_last = index + 1 == state.segments.len();
                let copy = is_last.then_some(CopyFile {
                    bytes: segment.bytes,
                    len: segment.bytes,
                });
                linking.link(from.join(file_name(segment.first_offset)), &to, copy);
            }
        }
        Some(linking)
    }
}

impl Linking {
    fn link(&mut self, from: PathBuf, to: &Path, copy: Option<CopyFile>) {
        let to = to.join(from.file_name().unwrap_or_default());
        self.files.push(LinkFile { from, to, copy });
    }

    /// Makes the links.
    pub fn run<V: Vfs>(mut self, vfs: &V) -> Result<Copying, IoError> {
        if vfs.read_dir(&self.dir).is_ok() {
            let there = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(IoError::at("make", &self.dir)(there));
        }
        for dir in &self.dirs {
            io(vfs.create_dir(dir), "make", dir)?;
        }
        let mut files = Vec::with_capacity(self.files.len());
        for file in self.files.drain(..) {
            match vfs.hard_link(&file.from, &file.to) {
                // A description or a segment that is missing is missing in the backup too.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                other => {
                    io(other, "link", &file.from)?;
                    files.push(file);
                }
            }
        }
        Ok(Copying {
            dir: self.dir,
            dirs: self.dirs,
            files,
        })
    }
}

impl Copying {
    /// Copies what must be copied, makes all of it durable, and completes the backup.
    pub fn run<V: Vfs>(self, vfs: &V) -> Result<BackedUp, OpenError> {
        let mut done = BackedUp::default();
        for file in &self.files {
            match file.copy {
                Some(copy) => copy_file(vfs, &file.to, copy)?,
                None => {
                    let open = io(vfs.open(&file.to, OpenMode::Read), "open", &file.to)?;
                    done.bytes += io(open.len(), "measure", &file.to)?;
                }
            }
            done.bytes += file.copy.map_or(0, |copy| copy.len);
            done.files += 1;
        }
        for dir in self.dirs.iter().rev() {
            io(vfs.sync_dir(dir), "sync", dir)?;
        }
        write_format(vfs, &self.dir)?;
        // The directory of backups may have been made for this one.
        for dir in self.dir.ancestors().skip(1).take(2) {
            if !dir.as_os_str().is_empty() {
                io(vfs.sync_dir(dir), "sync", dir)?;
            }
        }
        Ok(done)
    }
}

/// Replaces a link by a copy of the first `bytes`, and zeros behind them.
fn copy_file<V: Vfs>(vfs: &V, path: &Path, copy: CopyFile) -> Result<(), IoError> {
    let from = io(vfs.open(path, OpenMode::Read), "open", path)?;
    let tmp = path.with_extension("copy");
    let to = io(vfs.open(&tmp, OpenMode::Create), "make", &tmp)?;
    let mut buf = vec![0; (copy.len.min(1 << 20)) as usize];
    let mut at = 0;
    while at < copy.len {
        let n = (copy.len - at).min(buf.len() as u64) as usize;
        let want = copy.bytes.saturating_sub(at).min(n as u64) as usize;
        let got = io(from.read_full_at(&mut buf[..want], at), "read", path)?;
        buf[got..n].fill(0);
        io(to.write_all_at(&buf[..n], at), "write", &tmp)?;
        at += n as u64;
    }
    io(to.sync_data(), "sync", &tmp)?;
    io(vfs.rename(&tmp, path), "rename", &tmp)
}
