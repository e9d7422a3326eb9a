//! A node's data directory: whose it is, in which format, and who uses it.
//!
//! ```text
//! <data dir>/
//!   format          text: "waypost data directory, format 1"
//!   LOCK            locked while a process uses the directory; says which
//!   shard-0000/     one log each
//! ```

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::log::replace_file;
use crate::recover::{io, read_small};
use crate::vfs::Vfs;

/// The format that this version writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT_PREFIX: &str = "waypost data directory, format ";

/// A data directory that this process holds. Dropping it releases the lock.
pub struct DataDir<V: Vfs> {
    path: PathBuf,
    _lock: V::Lock,
}

impl<V: Vfs> DataDir<V> {
    /// Opens a data directory, making it if it does not exist or is empty, and locks it.
    pub fn open(vfs: &V, path: &Path) -> Result<Self, OpenError> {
        io(vfs.create_dir(path), "make", path)?;
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            io(vfs.sync_dir(parent), "sync", parent)?;
        }
        // Before anything is written into a directory that may be someone else's.
        check_format(vfs, path)?;
        let lock = hold(vfs, path)?;
        // Again: another process may have been here between the check and the lock.
        if !check_format(vfs, path)? {
            write_format(vfs, path)?;
        }
        Ok(DataDir {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a shard's log belongs; for [`crate::Log::open`].
    pub fn shard_dir(&self, shard: u16) -> PathBuf {
        self.path.join(format!("shard-{shard:04x}"))
    }
}

/// Takes the directory's lock.
pub(crate) fn hold<V: Vfs>(vfs: &V, path: &Path) -> Result<V::Lock, OpenError> {
    let lock_path = path.join("LOCK");
    let holder = format!("process {}", std::process::id());
    match vfs.lock(&lock_path, &holder) {
        Ok(lock) => Ok(lock),
        Err(e) if e.kind() == ErrorKind::WouldBlock => {
            let holder = read_small(vfs, &lock_path, 128)?.unwrap_or_default();
            let holder = String::from_utf8_lossy(&holder).trim().to_owned();
            Err(OpenError::Locked {
                path: path.to_owned(),
                holder: if holder.is_empty() {
                    "another process".to_owned()
                } else {
                    holder
                },
            })
        }
        Err(e) => Err(crate::error::IoError::at("lock", &lock_path)(e).into()),
    }
}

/// States the format that this version writes.
pub(crate) fn write_format<V: Vfs>(vfs: &V, path: &Path) -> Result<(), OpenError> {
    let text = format!("{FORMAT_PREFIX}{FORMAT_VERSION}\n");
    Ok(replace_file(vfs, path, "format", text.as_bytes())?)
}

/// The shards' directories in a data directory, with their numbers.
pub(crate) fn shard_dirs<V: Vfs>(vfs: &V, path: &Path) -> Result<Vec<(u16, PathBuf)>, OpenError> {
    let names = io(vfs.read_dir(path), "list", path)?;
    let number = |name: &String| {
        let digits = name.strip_prefix("shard-").filter(|d| d.len() == 4)?;
        let number = u16::from_str_radix(digits, 16).ok()?;
        Some((number, path.join(name)))
    };
    Ok(names.iter().filter_map(number).collect())
}

/// Whether the directory states a format that can be read; `false` if it is new.
pub(crate) fn check_format<V: Vfs>(vfs: &V, path: &Path) -> Result<bool, OpenError> {
    let Some(bytes) = read_small(vfs, &path.join("format"), 256)? else {
        let names = io(vfs.read_dir(path), "list", path)?;
        let other = names
            .iter()
            .find(|n| !matches!(n.as_str(), "LOCK" | "format.tmp" | "lost+found"));
        return match other {
            None => Ok(false),
            Some(name) => {
                // The directory of `waypost dev` has it one level down.
                let inner = path.join("data");
                let is_inside = matches!(read_small(vfs, &inner.join("format"), 256), Ok(Some(_)));
                let hint = match is_inside {
                    true => format!("; {} looks like one", inner.display()),
                    false => String::new(),
                };
                Err(OpenError::Foreign {
                    path: path.to_owned(),
                    reason: format!("it holds `{name}` and no file `format`{hint}"),
                })
            }
        };
    };
    let text = String::from_utf8_lossy(&bytes);
    let version = text
        .trim_end()
        .strip_prefix(FORMAT_PREFIX)
        .and_then(|v| v.parse::<u32>().ok());
    match version {
        Some(found) if found > FORMAT_VERSION => Err(OpenError::NewerFormat {
            path: path.to_owned(),
            found,
            supported: FORMAT_VERSION,
        }),
        Some(FORMAT_VERSION) => Ok(true),
        _ => Err(OpenError::Foreign {
            path: path.to_owned(),
            reason: format!("its file `format` says {:?}", text.trim_end()),
        }),
    }
}
