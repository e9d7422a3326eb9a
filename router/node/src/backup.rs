//! Backups of the running node, in `<data_dir>/backups/NAME`, one at a time.
//!
//! The shard's thread says what belongs to one, the thread of the log's jobs links it, and a thread
//! of its own links what is kept of plugins and copies what must be copied: neither publishers nor
//! the log's work wait for that.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;
use waypost_log::backup::{BackedUp, Copying};
use waypost_log::{IoError, Log, OpenError, RealVfs};
use waypost_wire::Code;

use crate::config::names;
use crate::plugins::Plugins;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error("backup '{0}': 1 to 128 of a-z, A-Z, 0-9, '.', '_' and '-' expected, not '.' first")]
    Name(String),
    #[error("{} exists; backups are not written over", .0.display())]
    Exists(PathBuf),
    #[error("a backup is being made; there is one at a time")]
    Busy,
    #[error("the disk is full, and what is not durable is not in a backup")]
    Blocked,
    #[error("the backup failed: {error}; {} is not complete and may be removed", path.display())]
    Failed { error: OpenError, path: PathBuf },
}

impl BackupError {
    /// The code to answer with.
    pub fn code(&self) -> Code {
        match self {
            BackupError::Name(_) => Code::Invalid,
            BackupError::Exists(_) => Code::Exists,
            BackupError::Busy => Code::Busy,
            BackupError::Blocked => Code::DiskFull,
            BackupError::Failed {
                error: OpenError::Io(error),
                ..
            } if error.is_no_space() => Code::DiskFull,
            BackupError::Failed { .. } => Code::Internal,
        }
    }
}

/// Where the answer goes: the backup's directory, and what is in it.
pub(crate) type BackupReply = oneshot::Sender<Result<(PathBuf, BackedUp), BackupError>>;

/// The backup that is being made, if one is.
pub(crate) struct Backups {
    dir: PathBuf,
    plugins: Arc<Plugins>,
    making: Option<(PathBuf, BackupReply)>,
    copied: mpsc::Receiver<Result<BackedUp, OpenError>>,
    copied_send: mpsc::Sender<Result<BackedUp, OpenError>>,
}

impl Backups {
    /// For the node with this data directory.
    pub fn new(data_dir: &Path, plugins: Arc<Plugins>) -> Backups {
        let (copied_send, copied) = mpsc::channel();
        Backups {
            dir: data_dir.join("backups"),
            plugins,
            making: None,
            copied,
            copied_send,
        }
    }

    /// Whether one is being made: then [`Backups::poll`] is to be called from time to time.
    pub fn is_busy(&self) -> bool {
        self.making.is_some()
    }

    /// Begins a backup of all that is committed.
    pub fn begin(&mut self, log: &mut Log<RealVfs>, name: &str, reply: BackupReply) {
        match self.try_begin(log, name) {
            Ok(path) => self.making = Some((path, reply)),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn try_begin(&self, log: &mut Log<RealVfs>, name: &str) -> Result<PathBuf, BackupError> {
        if !names::is_name(name) || name.starts_with('.') {
            return Err(BackupError::Name(name.to_owned()));
        }
        let path = self.dir.join(name);
        if path.exists() {
            return Err(BackupError::Exists(path));
        }
        if self.making.is_some() {
            return Err(BackupError::Busy);
        }
        if let Err(source) = std::fs::create_dir_all(&self.dir) {
            let error = IoError {
                op: "make",
                path: self.dir.clone(),
                source,
            };
            return Err(BackupError::Failed {
                error: error.into(),
                path,
            });
        }
        match log.begin_backup(&path) {
            true => Ok(path),
            false => Err(BackupError::Busy),
        }
    }

    /// The links are made, or not; what is left is done on a thread of its own.
    pub fn linked(&mut self, linked: Result<Copying, IoError>) {
        let copying = match linked {
            Ok(copying) => copying,
            Err(error) => return self.finish(Err(error.into())),
        };
        let (copied, plugins) = (self.copied_send.clone(), self.plugins.clone());
        let path = self.making.as_ref().map(|(path, _)| path.clone());
        let spawned = std::thread::Builder::new()
            .name("waypost-backup".into())
            .spawn(move || drop(copied.send(copy(copying, &plugins, path.as_deref()))));
        if let Err(source) = spawned {
            // Comes back by the next poll, which lets go of the files.
            let error = IoError {
                op: "start a thread for",
                path: self.dir.clone(),
                source,
            };
            let _ = self.copied_send.send(Err(error.into()));
        }
    }

    /// Answers if the copy is made.
    pub fn poll(&mut self, log: &mut Log<RealVfs>) {
        if let Ok(copied) = self.copied.try_recv() {
            log.end_backup();
            self.finish(copied);
        }
    }

    fn finish(&mut self, result: Result<BackedUp, OpenError>) {
        let Some((path, reply)) = self.making.take() else {
            return;
        };
        let answer = match result {
            Ok(done) => {
                tracing::info!(path = %path.display(), bytes = done.bytes, "backup made");
                Ok((path, done))
            }
            Err(error) => Err(BackupError::Failed { error, path }),
        };
        let _ = reply.send(answer);
    }
}

/// The backup is complete when the log's part is: it comes last.
fn copy(copying: Copying, plugins: &Plugins, path: Option<&Path>) -> Result<BackedUp, OpenError> {
    let linked = path.map(|path| plugins.link_into(path)).transpose();
    let (files, bytes) = linked.map_err(IoError::from)?.unwrap_or_default();
    let mut done = copying.run(&RealVfs)?;
    done.files += files;
    done.bytes += bytes;
    Ok(done)
}
