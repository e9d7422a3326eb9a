//! What is kept of plugins, in a backup and back.
//!
//! Every file of the store is written once and then has its name until another takes it, so a backup
//! has links to them: it costs nothing, and what the node does afterwards changes none of it. Links
//! are made while no slot, route or component can come or go, so they belong together. A restore
//! copies them, and looks at what it copied.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use waypost_log::IoError;

use super::live::Plugins;
use super::store::{Store, StoreError};

/// The directories of the store, from its own.
const DIRECTORIES: [&str; 3] = ["", "slots", "blobs"];

/// What a restore found in a backup, or why it did not go well.
#[derive(Debug, Default)]
pub struct RestoredPlugins {
    /// Slots that came over the network.
    pub slots: usize,
    /// Routes that did.
    pub routes: usize,
    /// What cannot be read, or is missing: a node says the same, with an alarm.
    pub faults: Vec<String>,
}

/// A file that cannot be copied.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}: {error}", path = path.display())]
pub struct CopyError {
    /// What was tried.
    pub doing: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system says.
    pub error: io::Error,
}

fn copy_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CopyError {
    let path = path.to_path_buf();
    move |error| CopyError { doing, path, error }
}

impl From<CopyError> for IoError {
    fn from(error: CopyError) -> IoError {
        IoError {
            op: error.doing,
            path: error.path,
            source: error.error,
        }
    }
}

impl Plugins {
    /// Links what is kept into the directory of a backup; gives how many files, of how many bytes.
    pub fn link_into(&self, backup: &Path) -> Result<(u64, u64), CopyError> {
        let _state = self.state();
        let _keeping = self.keeping();
        let from = self.data_dir.join("plugins");
        each_file(
            &from,
            &backup.join("plugins"),
            |from, to| match fs::hard_link(from, to) {
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy(from, to),
                linked => linked,
            },
        )
    }
}

/// Copies what a backup has of plugins into a data directory, and looks at it.
pub fn restore_plugins(backup: &Path, data_dir: &Path) -> Result<RestoredPlugins, CopyError> {
    let (from, to) = (backup.join("plugins"), data_dir.join("plugins"));
    if !from.exists() {
        return Ok(RestoredPlugins::default());
    }
    each_file(&from, &to, copy)?;
    sync(data_dir)?;
    let store = Store::new(data_dir);
    let found = match store.find() {
        Ok(found) => found,
        Err(error) => {
            return Ok(RestoredPlugins {
                faults: vec![error.to_string()],
                ..RestoredPlugins::default()
            });
        }
    };
    let mut faults: Vec<String> = found.damaged.iter().map(|d| d.error.to_string()).collect();
    let versions = found.slots.iter().flat_map(|slot| &slot.versions);
    let pulled = store.pulled().unwrap_or_default();
    let pulled = pulled.iter().map(|pulled| pulled.component.as_str());
    let mut digests: Vec<&str> = versions
        .map(|version| version.digest.as_str())
        .chain(pulled)
        .collect();
    digests.sort_unstable();
    digests.dedup();
    let checked = digests.iter().map(|digest| store.check_blob(digest));
    faults.extend(
        checked
            .filter_map(Result::err)
            .map(|error: StoreError| error.to_string()),
    );
    Ok(RestoredPlugins {
        slots: found.slots.len(),
        routes: found.routes.len(),
        faults,
    })
}

/// Copies, synced.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

/// Does something with every file of a store that is whole, and with the one that it becomes.
fn each_file(
    from: &Path,
    to: &Path,
    work: impl Fn(&Path, &Path) -> io::Result<()>,
) -> Result<(u64, u64), CopyError> {
    let (mut files, mut bytes) = (0, 0);
    for directory in DIRECTORIES {
        let (from, to) = (from.join(directory), to.join(directory));
        let entries = match fs::read_dir(&from) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(copy_error("list", &from)(error)),
        };
        fs::create_dir_all(&to).map_err(copy_error("make", &to))?;
        for entry in entries {
            let entry = entry.map_err(copy_error("list", &from))?;
            let path = entry.path();
            if is_passing(&path) {
                continue;
            }
            let about = entry.metadata().map_err(copy_error("look at", &path))?;
            if !about.is_file() {
                continue;
            }
            let to = to.join(entry.file_name());
            work(&path, &to).map_err(copy_error("copy", &path))?;
            files += 1;
            bytes += about.len();
        }
        sync(&to)?;
    }
    if files > 0
        && let Some(parent) = to.parent()
    {
        sync(parent)?;
    }
    Ok((files, bytes))
}

/// What is arriving, or was set aside.
fn is_passing(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    matches!(ending, Some("part" | "new" | "damaged"))
}

fn sync(directory: &Path) -> Result<(), CopyError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(copy_error("sync", directory))
}
