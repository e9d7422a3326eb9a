//! Whether a component may run: where keys are set, it must be signed by one of them.
//!
//! The invariant: what was checked is what is loaded. The bytes are read once, checked, and given
//! on; a file that changes meanwhile changes nothing. What is named by its digest has it. What is built in is a part of the program and
//! needs no signature of its own.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ring::digest;
use waypost_host::{LoadError, LoadErrorKind, Source};
use waypost_supply::{
    KeyId, SIGNATURE_BYTES_MAX, SIGNATURE_SUFFIX, Signature, SignatureError, TrustError,
    TrustedKeys,
};

use super::slot::source;
use super::store::{COMPONENT_BYTES_MAX, Store, StoreError, hex};
use crate::config::{Config, PluginConfig, PluginSource};

/// Why a component is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// No key that is trusted made a signature of it.
    #[error("plugin '{plugin}' ({origin}): {error}")]
    Trust {
        /// The plugin.
        plugin: String,
        /// Its component, for people.
        origin: String,
        /// What is wrong.
        error: Box<TrustError>,
    },
    /// It cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its signature cannot be read.
    #[error("plugin '{plugin}': cannot read {path}: {error}", path = path.display())]
    Signature {
        /// The plugin.
        plugin: String,
        /// The signature.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// A component that may be loaded.
pub(crate) struct Trusted {
    pub source: Source,
    /// Who signed it; none where nobody asks.
    pub signed_by: Option<KeyId>,
}

/// The keys that a plugin's component must be signed by.
pub(crate) fn keys_of<'a>(plugin: &'a PluginConfig, of_node: &'a TrustedKeys) -> &'a TrustedKeys {
    plugin.trusted_keys.as_ref().unwrap_or(of_node)
}

/// A plugin's component, once it is clear that it may run; `None` where none is here.
pub(crate) fn trusted(
    data_dir: &Path,
    plugin: &PluginConfig,
    of_node: &TrustedKeys,
) -> Result<Option<Trusted>, Untrusted> {
    // A plugin of the shelf that was deployed is a part of the program as well: its digest says so.
    let is_stock = |digest: &str| crate::shelf::with_digest(digest).is_some();
    let none = TrustedKeys::default();
    let keys = match plugin.source.digest().is_some_and(is_stock) {
        true => &none,
        false => keys_of(plugin, of_node),
    };
    let found = source(data_dir, &plugin.source);
    let (path, signatures) = match (&found, plugin.source.digest()) {
        (Some(Source::File(path)), Some(digest)) if !keys.is_empty() => {
            let store = Store::new(data_dir);
            let paths = store.signatures(digest);
            (
                path.clone(),
                paths.map_err(|error| store_error(plugin, error))?,
            )
        }
        (Some(Source::File(path)), _) if !keys.is_empty() => {
            (path.clone(), vec![signature_path(path)])
        }
        (Some(Source::File(path)), Some(digest)) => {
            let bytes = read_component(&plugin.name, path)?;
            check_digest(plugin, path, &bytes, digest)?;
            let path = path.clone();
            return Ok(Some(Trusted {
                source: Source::Read { path, bytes },
                signed_by: None,
            }));
        }
        _ => {
            return Ok(found.map(|source| Trusted {
                source,
                signed_by: None,
            }));
        }
    };
    let bytes = read_component(&plugin.name, &path)?;
    let origin = match plugin.source.digest() {
        Some(digest) => {
            check_digest(plugin, &path, &bytes, digest)?;
            origin(plugin)
        }
        None => path.display().to_string(),
    };
    let mut refusal = None;
    for at in &signatures {
        let signature = read_signature(&plugin.name, at)?;
        let place = format!("in {}", at.display());
        match keys.check(&bytes, signature.as_deref(), &place) {
            Ok(signed_by) => {
                let source = Source::Read { path, bytes };
                return Ok(Some(Trusted { source, signed_by }));
            }
            Err(error) => refusal = Some(error),
        }
    }
    let error = refusal.unwrap_or_else(|| TrustError::Unsigned {
        trusted: keys.clone(),
        place: match &plugin.source {
            PluginSource::Oci { .. } => "beside it in the registry, as `plugin push` puts it there",
            _ => "sent with it by `plugin deploy`",
        }
        .to_owned(),
    });
    Err(Untrusted::Trust {
        plugin: plugin.name.clone(),
        origin,
        error: Box::new(error),
    })
}

/// Looks at a signature that comes with a component of the store, before it is kept. Says whether
/// there are keys that it was checked with.
pub(crate) fn check_new(
    data_dir: &Path,
    plugin: &PluginConfig,
    of_node: &TrustedKeys,
    signature: &Signature,
) -> Result<bool, Untrusted> {
    let keys = keys_of(plugin, of_node);
    let Some(Source::File(path)) = source(data_dir, &plugin.source) else {
        return Ok(false);
    };
    if keys.is_empty() {
        return Ok(false);
    }
    let bytes = read_component(&plugin.name, &path)?;
    let text = signature.as_str().as_bytes();
    let checked = keys.check(&bytes, Some(text), "as sent");
    checked.map(|_| true).map_err(|error| Untrusted::Trust {
        plugin: plugin.name.clone(),
        origin: origin(plugin),
        error: Box::new(error),
    })
}

/// A signature that came over the network.
pub(crate) fn parse(plugin: &PluginConfig, text: &str) -> Result<Signature, Untrusted> {
    Signature::parse(text.as_bytes()).map_err(|error: SignatureError| Untrusted::Trust {
        plugin: plugin.name.clone(),
        origin: origin(plugin),
        error: Box::new(TrustError::Signature {
            place: "as sent".to_owned(),
            error,
        }),
    })
}

fn origin(plugin: &PluginConfig) -> String {
    match &plugin.source {
        PluginSource::Oci { reference, .. } => reference.to_string(),
        other => format!("sha256:{}", other.digest().unwrap_or_default()),
    }
}

/// What lies beside a component.
fn signature_path(component: &Path) -> PathBuf {
    let mut path = component.as_os_str().to_owned();
    path.push(SIGNATURE_SUFFIX);
    path.into()
}

fn store_error(plugin: &PluginConfig, error: StoreError) -> Untrusted {
    let kind = LoadErrorKind::Read(io::Error::other(error.to_string()));
    Untrusted::Load(LoadError {
        plugin: plugin.name.clone(),
        origin: origin(plugin),
        kind,
    })
}

fn read_component(plugin: &str, path: &Path) -> Result<Bytes, Untrusted> {
    let failed = |kind| {
        Untrusted::Load(LoadError {
            plugin: plugin.to_owned(),
            origin: path.display().to_string(),
            kind,
        })
    };
    let bytes = read_up_to(path, COMPONENT_BYTES_MAX + 1)
        .map_err(|error| failed(LoadErrorKind::Read(error)))?;
    match bytes.len() as u64 > COMPONENT_BYTES_MAX {
        true => Err(failed(LoadErrorKind::TooLarge {
            limit: COMPONENT_BYTES_MAX,
        })),
        false => Ok(bytes.into()),
    }
}

/// A component that lies under its digest has it.
fn check_digest(
    plugin: &PluginConfig,
    path: &Path,
    bytes: &[u8],
    wanted: &str,
) -> Result<(), Untrusted> {
    let found = hex(digest::digest(&digest::SHA256, bytes).as_ref());
    if found == wanted {
        return Ok(());
    }
    let path = path.to_path_buf();
    Err(store_error(plugin, StoreError::Damaged { path, found }))
}

/// One byte more than may be, so that a longer one is refused for its length.
fn read_signature(plugin: &str, path: &Path) -> Result<Option<Vec<u8>>, Untrusted> {
    match read_up_to(path, SIGNATURE_BYTES_MAX as u64 + 1) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Untrusted::Signature {
            plugin: plugin.to_owned(),
            path: path.to_path_buf(),
            error,
        }),
    }
}

fn read_up_to(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What `check` says of components that came over the network and that no key of the configuration
/// signed: the node would start, and their messages meet `on_error`.
pub fn check_deployed_trust(config: &Config) -> Vec<String> {
    let data_dir = &config.node.data_dir;
    let Ok(found) = Store::new(data_dir).find() else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    for record in found.slots {
        let Some(version) = record.active() else {
            continue;
        };
        let source = PluginSource::Digest(version.digest.clone());
        let plugin = match config.plugin(&record.name) {
            Some(plugin) => PluginConfig {
                source,
                ..plugin.clone()
            },
            None => PluginConfig::new(record.name.as_str(), source),
        };
        let keys = &config.supply.trusted_keys;
        if let Err(error) = trusted(data_dir, &plugin, keys) {
            errors.push(format!("{error} (version {}, deployed)", version.number));
        }
    }
    errors
}
