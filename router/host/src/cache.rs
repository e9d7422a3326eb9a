//! Compiled plugins on disk, each under a digest and a MAC.
//!
//! ```text
//! file   := "WPCACHE1", HMAC-SHA256[32] over all that follows, digest[32], code
//! digest := SHA-256(SHA-256 of the component, engine's configuration and version)
//! name   := hex of digest, ".cwasm"
//! ```
//!
//! Compiled code is run as it is, so a file is used only if its MAC says that this node wrote it:
//! the key never leaves the node, and lies beside the cache with mode 0600. A file that is damaged,
//! foreign or of another engine is as good as none, and is written anew.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac};

use crate::error::EngineError;

const MAGIC: &[u8; 8] = b"WPCACHE1";
const MAC_BYTES: usize = 32;
const DIGEST_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + MAC_BYTES + DIGEST_BYTES;
const KEY_BYTES: usize = 32;

/// Where compiled plugins are kept.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// The directory; made if it is not there.
    pub directory: PathBuf,
    /// The key of the MAC; made, with mode 0600, if it is not there. Not inside `directory`, so
    /// that clearing the cache keeps it and copying the cache does not take it along.
    pub key_file: PathBuf,
}

/// The cache of one engine.
pub(crate) struct Cache {
    directory: PathBuf,
    key: hmac::Key,
}

/// The digest of a component with the engine that compiled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheKey([u8; DIGEST_BYTES]);

impl CacheKey {
    /// The key of the component with this digest, as [`digest_hex`] gives it.
    pub(crate) fn new(component: &str, engine: &wasmtime::Engine) -> CacheKey {
        let mut hasher = Sha256(digest::Context::new(&digest::SHA256));
        hasher.write(component.as_bytes());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
        let mut key = [0; DIGEST_BYTES];
        key.copy_from_slice(hasher.0.finish().as_ref());
        CacheKey(key)
    }
}

/// SHA-256 of `bytes`, in hex.
pub(crate) fn digest_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Feeds `Hash` implementations to SHA-256: unlike the standard hashers the same in every process.
struct Sha256(digest::Context);

impl Hasher for Sha256 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not used: the digest is longer than this can give.
    fn finish(&self) -> u64 {
        0
    }
}

impl Cache {
    pub(crate) fn open(options: &CacheOptions) -> Result<Cache, EngineError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| EngineError::Cache { path, source }
        };
        fs::create_dir_all(&options.directory).map_err(at(&options.directory))?;
        let key = key(&options.key_file).map_err(at(&options.key_file))?;
        Ok(Cache {
            directory: options.directory.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
        })
    }

    fn path(&self, key: CacheKey) -> PathBuf {
        self.directory.join(format!("{}.cwasm", hex(&key.0)))
    }

    fn mac(&self, key: CacheKey, code: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&key.0);
        context.update(code);
        context.sign()
    }

    /// The code under `key`, if this node wrote it and it is whole.
    pub(crate) fn get(&self, key: CacheKey) -> Option<Vec<u8>> {
        let mut file = fs::read(self.path(key)).ok()?;
        if !self.is_own(key, &file) {
            tracing::warn!(file = %self.path(key).display(), "cached plugin is damaged or foreign");
            return None;
        }
        file.drain(..HEAD_BYTES);
        Some(file)
    }

    fn is_own(&self, key: CacheKey, file: &[u8]) -> bool {
        let Some(signed) = file.strip_prefix(MAGIC) else {
            return false;
        };
        let Some((mac, signed)) = signed.split_at_checked(MAC_BYTES) else {
            return false;
        };
        hmac::verify(&self.key, signed, mac).is_ok() && signed.starts_with(&key.0)
    }

    /// Puts code under `key`. A cache that cannot be written costs time, nothing else, so a
    /// failure is logged and passed over.
    pub(crate) fn put(&self, key: CacheKey, code: &[u8]) {
        let path = self.path(key);
        if let Err(error) = self.write(&path, key, code) {
            tracing::warn!(file = %path.display(), %error, "cannot cache a compiled plugin");
        }
    }

    /// Removes what is under `key`.
    pub(crate) fn remove(&self, key: CacheKey) {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = %self.path(key).display(), %error, "a compiled plugin stays");
            }
            _ => {}
        }
    }

    fn write(&self, path: &Path, key: CacheKey, code: &[u8]) -> io::Result<()> {
        let temporary = temporary(path);
        let mut file = private().create_new(true).open(&temporary)?;
        let written = file
            .write_all(MAGIC)
            .and_then(|()| file.write_all(self.mac(key, code).as_ref()))
            .and_then(|()| file.write_all(&key.0))
            .and_then(|()| file.write_all(code))
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            // What is left of it is of no use; if it cannot be removed either, so be it.
            drop(fs::remove_file(&temporary));
        }
        written
    }
}

/// A name beside `path` that nobody else uses: no other process, and no other thread of this one.
fn temporary(path: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}.{number}.tmp", std::process::id()))
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Reads the key, or makes one. Two processes that make one at once end up with the same: the key
/// is written aside and linked into place, which only one of them can.
fn key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    match read_key(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut key = [0; KEY_BYTES];
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| io::Error::other("no randomness"))?;
    let temporary = temporary(path);
    let written = private()
        .create(true)
        .truncate(true)
        .open(&temporary)
        .and_then(|mut file| file.write_all(&key).and_then(|()| file.sync_all()))
        .and_then(|()| fs::hard_link(&temporary, path));
    drop(fs::remove_file(&temporary));
    match written {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read_key(path),
    }
}

fn read_key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    let mut file = File::open(path)?;
    file.read_exact(&mut key)?;
    if file.read(&mut [0])? != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "is not a key of 32 bytes",
        ));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn options(directory: &Path) -> CacheOptions {
        CacheOptions {
            directory: directory.join("cache"),
            key_file: directory.join("cache.key"),
        }
    }

    #[test]
    fn only_what_this_node_wrote_comes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = options(directory.path());
        let engine = wasmtime::Engine::default();
        let key = CacheKey::new("component", &engine);
        let cache = Cache::open(&options).expect("a cache");
        assert_eq!(cache.get(key), None);
        cache.put(key, b"code");
        assert_eq!(cache.get(key).as_deref(), Some(&b"code"[..]));
        let again = Cache::open(&options).expect("a cache");
        assert_eq!(
            again.get(key).as_deref(),
            Some(&b"code"[..]),
            "the key was kept"
        );

        let file = cache.path(key);
        let whole = fs::read(&file).expect("the file");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&file, damaged).expect("written");
            assert_eq!(cache.get(key), None, "byte {at} changed");
        }
        fs::write(&file, &whole[..20]).expect("written");
        assert_eq!(cache.get(key), None, "cut short");

        let other = CacheKey::new("other", &engine);
        fs::write(cache.path(other), &whole).expect("written");
        assert_eq!(cache.get(other), None, "another component's code");

        fs::write(&file, &whole).expect("written");
        fs::remove_file(&options.key_file).expect("removed");
        let foreign = Cache::open(&options).expect("a cache");
        assert_eq!(foreign.get(key), None, "written with another key");
        foreign.remove(key);
        foreign.remove(key);
        assert!(!file.exists());
    }

    #[test]
    fn engines_that_start_at_once_have_the_same_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("cache.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| key(&file))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, io::Result<_>>| {
                thread.join().expect("no panic").expect("a key")
            };
            threads.into_iter().map(join).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        let left = fs::read_dir(directory.path()).expect("a directory").count();
        assert_eq!(left, 1, "nothing but the key is left");
    }

    #[test]
    fn the_key_is_private_and_a_broken_one_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = options(directory.path());
        Cache::open(&options).expect("a cache");
        let mode = fs::metadata(&options.key_file)
            .expect("the key")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&options.key_file, b"short").expect("written");
        let Err(error) = Cache::open(&options) else {
            panic!("a short key was taken")
        };
        assert!(error.to_string().contains("cache.key"), "{error}");
    }
}
