//! What came over the network, on disk: components, slots, routes.
//!
//! ```text
//! <data dir>/plugins/
//!   blobs/sha256-HEX.wasm    a component, under the digest of its bytes
//!   blobs/sha256-HEX.KEY.minisig
//!                            its signature by the key with this number
//!   blobs/N.part             one that is arriving; removed at the start
//!   slots/NAME.json          a slot and its versions
//!   routes.json              routes, in order
//!   pulled.json              what registries gave under which name
//!   *.damaged                what could not be read when something took its place
//! ```
//!
//! Invariants: a file is replaced whole (written beside, synced, renamed, directory synced), so that
//! a crash leaves the old one or the new one; a component is named by a slot only once it is synced;
//! nothing is removed because something else cannot be read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ring::digest;
use waypost_supply::{SIGNATURE_SUFFIX, Signature};

use super::record::{self, PulledRecord, RecordError, RouteRecord, SlotRecord};

/// Signatures of one component.
const SIGNATURES_MAX: usize = 8;
/// The longest component.
pub(crate) const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// The longest file of a slot or of routes: far above what limits allow to be in one.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why something cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("cannot {doing} {path}: {error}", path = path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error("{path} {error}", path = path.display())]
    Record { path: PathBuf, error: RecordError },
    #[error("component of {found} bytes, {announced} were announced")]
    Length { found: u64, announced: u64 },
    #[error("component with sha256:{found}, sha256:{announced} was announced")]
    Digest { found: String, announced: String },
    #[error("{path} holds other bytes than its name says: their digest is sha256:{found}", path = path.display())]
    Damaged { path: PathBuf, found: String },
    #[error("no component sha256:{digest} is here")]
    NoComponent { digest: String },
    #[error("{SIGNATURES_MAX} signatures of component sha256:{digest} are here, as many as may be")]
    Signatures { digest: String },
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |error| StoreError::Io { doing, path, error }
}

/// A file that cannot be read as what it should be.
#[derive(Debug)]
pub(crate) struct Damaged {
    /// For the alarm, where it is not a slot's.
    pub what: &'static str,
    /// Of the slot; none for the files of routes, and of what was pulled.
    pub slot: Option<String>,
    pub error: StoreError,
}

/// What was found at the start.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub slots: Vec<SlotRecord>,
    pub routes: Vec<RouteRecord>,
    pub damaged: Vec<Damaged>,
}

/// The directory.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    next_part: AtomicU64,
}

/// Where a component lies.
pub(crate) fn blob_path(data_dir: &Path, digest: &str) -> PathBuf {
    blob_in(&data_dir.join("plugins"), digest)
}

fn blob_in(directory: &Path, digest: &str) -> PathBuf {
    directory
        .join("blobs")
        .join(format!("sha256-{digest}.wasm"))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Store {
    /// The directory, which need not exist. Nothing is made before something is to be kept.
    pub fn new(data_dir: &Path) -> Store {
        Store {
            directory: data_dir.join("plugins"),
            next_part: AtomicU64::new(0),
        }
    }

    /// Opens the directory, reads it, and removes what was arriving when the last node ended.
    pub fn open(data_dir: &Path) -> Result<(Store, Found), StoreError> {
        let store = Store::new(data_dir);
        store.remove_parts()?;
        let found = store.find()?;
        Ok((store, found))
    }

    /// What is kept.
    pub fn find(&self) -> Result<Found, StoreError> {
        let mut found = Found::default();
        for path in list(&self.directory.join("slots"))? {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name.and_then(|name| name.strip_suffix(".json")) else {
                continue;
            };
            match self.read_slot(name, &path) {
                Ok(slot) => found.slots.push(slot),
                Err(error) => found.damaged.push(Damaged {
                    what: "slot",
                    slot: Some(name.to_owned()),
                    error,
                }),
            }
        }
        match self.read_routes() {
            Ok(routes) => found.routes = routes,
            Err(error) => found.damaged.push(Damaged {
                what: "routes",
                slot: None,
                error,
            }),
        }
        if let Err(error) = self.pulled() {
            found.damaged.push(Damaged {
                what: "pulled",
                slot: None,
                error,
            });
        }
        Ok(found)
    }

    fn slot_path(&self, name: &str) -> PathBuf {
        self.directory.join("slots").join(format!("{name}.json"))
    }

    fn routes_path(&self) -> PathBuf {
        self.directory.join("routes.json")
    }

    /// Where a component lies.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        blob_in(&self.directory, digest)
    }

    fn read_slot(&self, name: &str, path: &Path) -> Result<SlotRecord, StoreError> {
        let bytes = read(path)?;
        SlotRecord::from_bytes(name, &bytes).map_err(|error| StoreError::Record {
            path: path.to_path_buf(),
            error,
        })
    }

    fn read_routes(&self) -> Result<Vec<RouteRecord>, StoreError> {
        let path = self.routes_path();
        match fs::exists(&path).map_err(io_error("read", &path))? {
            false => Ok(Vec::new()),
            true => {
                let bytes = read(&path)?;
                let routes = record::routes_from_bytes(&bytes);
                routes.map_err(|error| StoreError::Record { path, error })
            }
        }
    }

    /// Keeps a slot. When this returns, it survives a crash; if it fails, the old one is there.
    pub fn put_slot(&self, slot: &SlotRecord) -> Result<(), StoreError> {
        let path = self.slot_path(&slot.name);
        let bytes = slot.to_bytes().map_err(|error| StoreError::Record {
            path: path.clone(),
            error,
        })?;
        self.keep_damaged(&path, |bytes| {
            SlotRecord::from_bytes(&slot.name, bytes).is_ok()
        })?;
        self.replace(&path, &bytes)
    }

    /// Forgets a slot.
    pub fn remove_slot(&self, name: &str) -> Result<(), StoreError> {
        let path = self.slot_path(name);
        match fs::remove_file(&path) {
            Ok(()) => sync_directory(path.parent().unwrap_or(&self.directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("remove", &path)(error)),
        }
    }

    /// What registries gave.
    pub fn pulled(&self) -> Result<Vec<PulledRecord>, StoreError> {
        let path = self.directory.join("pulled.json");
        match fs::exists(&path).map_err(io_error("read", &path))? {
            false => Ok(Vec::new()),
            true => {
                let pulled = record::pulled_from_bytes(&read(&path)?);
                pulled.map_err(|error| StoreError::Record { path, error })
            }
        }
    }

    /// Keeps what registries gave.
    pub fn put_pulled(&self, pulled: &[PulledRecord]) -> Result<(), StoreError> {
        let path = self.directory.join("pulled.json");
        let bytes = record::pulled_to_bytes(pulled).map_err(|error| StoreError::Record {
            path: path.clone(),
            error,
        })?;
        self.keep_damaged(&path, |bytes| record::pulled_from_bytes(bytes).is_ok())?;
        self.replace(&path, &bytes)
    }

    /// Keeps the routes.
    pub fn put_routes(&self, routes: &[RouteRecord]) -> Result<(), StoreError> {
        let path = self.routes_path();
        let bytes = record::routes_to_bytes(routes).map_err(|error| StoreError::Record {
            path: path.clone(),
            error,
        })?;
        self.keep_damaged(&path, |bytes| record::routes_from_bytes(bytes).is_ok())?;
        self.replace(&path, &bytes)
    }

    /// What cannot be read is not written over: a person may know what to do with it.
    fn keep_damaged(&self, path: &Path, is_good: impl Fn(&[u8]) -> bool) -> Result<(), StoreError> {
        match read(path) {
            Ok(bytes) if is_good(&bytes) => Ok(()),
            Err(StoreError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => {
                let mut aside = path.as_os_str().to_owned();
                aside.push(".damaged");
                fs::rename(path, &aside).map_err(io_error("move aside", path))
            }
        }
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let parent = path.parent().unwrap_or(&self.directory);
        self.make(parent)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let mut file = File::create(&beside).map_err(io_error("make", &beside))?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let replaced = written.and_then(|()| fs::rename(&beside, path));
        if let Err(error) = replaced {
            // Of no use, and in nobody's way if it stays.
            let _ = fs::remove_file(&beside);
            return Err(io_error("write", path)(error));
        }
        sync_directory(parent)
    }

    /// Makes a directory of the store, durably.
    fn make(&self, directory: &Path) -> Result<(), StoreError> {
        if directory.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(directory).map_err(io_error("make", directory))?;
        for made in directory.ancestors().take(3) {
            sync_directory(made)?;
        }
        Ok(())
    }

    /// Whether a component is here, whole. Reads all of it.
    pub fn check_blob(&self, digest: &str) -> Result<u64, StoreError> {
        let path = self.blob_path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let digest = digest.to_owned();
                return Err(StoreError::NoComponent { digest });
            }
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let mut hash = digest::Context::new(&digest::SHA256);
        let (mut buffer, mut length) = (vec![0; 64 << 10], 0);
        loop {
            let count = file.read(&mut buffer).map_err(io_error("read", &path))?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            length += count as u64;
        }
        let found = hex(hash.finish().as_ref());
        match found == digest {
            true => Ok(length),
            false => Err(StoreError::Damaged { path, found }),
        }
    }

    /// Begins to take in a component.
    pub fn upload(&self, announced: &str, bytes: u64) -> Result<Upload, StoreError> {
        let blobs = self.directory.join("blobs");
        self.make(&blobs)?;
        let number = self.next_part.fetch_add(1, Relaxed);
        let part = blobs.join(format!("{number}.part"));
        let file = File::create(&part).map_err(io_error("make", &part))?;
        Ok(Upload {
            file,
            part: Part(part),
            path: self.blob_path(announced),
            hash: digest::Context::new(&digest::SHA256),
            announced: announced.to_owned(),
            announced_bytes: bytes,
            found_bytes: 0,
        })
    }

    /// The files of a component's signatures, by the numbers of their keys.
    pub fn signatures(&self, digest: &str) -> Result<Vec<PathBuf>, StoreError> {
        let mut paths = list(&self.directory.join("blobs"))?;
        paths.retain(|path| signature_of(path).is_some_and(|of| of == digest));
        Ok(paths)
    }

    /// Keeps a signature of a component. One that was checked takes the place of another by the same
    /// key, or of any where there are too many; one that nobody could check takes nobody's place.
    pub fn put_signature(
        &self,
        digest: &str,
        signature: &Signature,
        is_checked: bool,
    ) -> Result<(), StoreError> {
        let name = format!("sha256-{digest}.{}{SIGNATURE_SUFFIX}", signature.key_id());
        let path = self.directory.join("blobs").join(name);
        let there = self.signatures(digest)?;
        if there.len() >= SIGNATURES_MAX && !there.contains(&path) {
            match there.first().filter(|_| is_checked) {
                Some(other) => fs::remove_file(other).map_err(io_error("remove", other))?,
                None => {
                    let digest = digest.to_owned();
                    return Err(StoreError::Signatures { digest });
                }
            }
        }
        match read(&path) {
            Ok(bytes) if !is_checked || bytes == signature.as_str().as_bytes() => Ok(()),
            _ => self.replace(&path, signature.as_str().as_bytes()),
        }
    }

    /// Removes every component that is not among these, with its signatures; gives the digests of those that went.
    pub fn keep_only(&self, digests: &BTreeSet<String>) -> Result<Vec<String>, StoreError> {
        let mut gone = Vec::new();
        for path in list(&self.directory.join("blobs"))? {
            let name = path.file_name().and_then(|name| name.to_str());
            let digest = name
                .and_then(|name| name.strip_prefix("sha256-"))
                .and_then(|name| name.strip_suffix(".wasm"));
            if let Some(digest) = digest.filter(|digest| !digests.contains(*digest)) {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
                gone.push(digest.to_owned());
            } else if signature_of(&path).is_some_and(|digest| !digests.contains(digest)) {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(gone)
    }

    /// What was arriving when the node ended.
    fn remove_parts(&self) -> Result<(), StoreError> {
        for path in list(&self.directory.join("blobs"))? {
            if path
                .extension()
                .is_some_and(|extension| extension == "part")
            {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// The component that a file is a signature of.
fn signature_of(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let name = name
        .strip_prefix("sha256-")?
        .strip_suffix(SIGNATURE_SUFFIX)?;
    name.split_once('.').map(|(digest, _)| digest)
}

/// The files of a directory, which need not exist, by name.
fn list(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", directory)(error)),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(io_error("list", directory))?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(io_error("read", path))?;
    Ok(bytes)
}

fn sync_directory(path: &Path) -> Result<(), StoreError> {
    // The parent of a relative path of one part.
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("sync", path))
}

/// A file that is removed unless it got its name.
#[derive(Debug)]
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // It has another name by now, or is of no use.
        let _ = fs::remove_file(&self.0);
    }
}

/// A component that is arriving. Dropped before its end, it leaves nothing.
pub(crate) struct Upload {
    file: File,
    part: Part,
    path: PathBuf,
    hash: digest::Context,
    announced: String,
    announced_bytes: u64,
    found_bytes: u64,
}

impl Upload {
    /// The next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.found_bytes += bytes.len() as u64;
        if self.found_bytes > self.announced_bytes {
            return Err(self.other_length());
        }
        self.hash.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(io_error("write", &self.part.0))
    }

    /// All has come: checks it, syncs it, gives it its name.
    pub fn finish(self) -> Result<(), StoreError> {
        if self.found_bytes != self.announced_bytes {
            return Err(self.other_length());
        }
        let found = hex(self.hash.finish().as_ref());
        if found != self.announced {
            let announced = self.announced;
            return Err(StoreError::Digest { found, announced });
        }
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.part.0, &self.path))
            .map_err(io_error("write", &self.path))?;
        sync_directory(self.path.parent().unwrap_or(&self.path))
    }

    fn other_length(&self) -> StoreError {
        StoreError::Length {
            found: self.found_bytes,
            announced: self.announced_bytes,
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
