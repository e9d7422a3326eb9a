//! Components from registries: pulled before the node serves, kept, and pulled again later where
//! that did not go well.
//!
//! What a registry gave under a name is kept with the component, so that a start without a network
//! works: by digest without asking, by tag with what the tag meant the last time. A slot whose
//! component never came is down; it is asked for again with a pause that doubles, and the slot comes
//! live as by a deploy. No lane and no worker waits for any of it.

use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use waypost_supply::{Credentials, Found, Reference, Registry, RegistryError, RegistryOptions};

use super::error::ChangeError;
use super::live::{Plugins, State};
use super::record::PulledRecord;
use super::slot::{Origin, Slot};
use super::store::{COMPONENT_BYTES_MAX, Store, StoreError};
use super::trust::{self, Untrusted};
use crate::clock::wall_ms;
use crate::config::{CredentialsConfig, PluginConfig, PluginSource, RegistryConfig};

/// Names that the configuration has no more and whose last component is kept, the newest.
const FORMER_MAX: usize = 8;
/// How long until the first try after the start, and the longest pause between two.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(300);
/// The longest file of a token, a password, a docker configuration or an authority.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("registry {host}: {path}: {error}")]
    File {
        host: String,
        path: String,
        error: String,
    },
    #[error(transparent)]
    Untrusted(Box<Untrusted>),
    #[error("{0}: not asked any more, the pulls of this start have used up pull_timeout")]
    NoTime(Box<Reference>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Untrusted> for PullError {
    fn from(error: Untrusted) -> PullError {
        PullError::Untrusted(Box::new(error))
    }
}

/// The plugin with what the data directory has of it, where it comes from a registry.
pub(crate) fn as_pulled(data_dir: &Path, plugin: &PluginConfig) -> PluginConfig {
    let mut plugin = plugin.clone();
    if let PluginSource::Oci { reference, digest } = &mut plugin.source
        && digest.is_none()
    {
        let pulled = Store::new(data_dir).pulled().unwrap_or_default();
        *digest = known(&pulled, reference).map(|pulled| pulled.component.clone());
    }
    plugin
}

fn with_component(plugin: &PluginConfig, reference: &Reference, component: &str) -> PluginConfig {
    PluginConfig {
        source: PluginSource::Oci {
            reference: reference.clone(),
            digest: Some(component.to_owned()),
        },
        ..plugin.clone()
    }
}

fn known<'a>(pulled: &'a [PulledRecord], reference: &Reference) -> Option<&'a PulledRecord> {
    let name = reference.to_string();
    pulled.iter().find(|pulled| pulled.reference == name)
}

impl Plugins {
    /// Held while a component is put and not named yet, and while those that nobody names go.
    pub(super) fn keeping(&self) -> MutexGuard<'_, ()> {
        self.keeping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot whose code comes from a registry, at the start. Takes from what is `left` of the time.
    pub(super) fn pulled(
        &self,
        state: &mut State,
        mut plugin: PluginConfig,
        left: &mut Duration,
    ) -> Slot {
        let began = Instant::now();
        let pulled = self.pull(&mut plugin, began + *left);
        *left = left.saturating_sub(began.elapsed());
        let code = match pulled {
            Ok(()) => self.look(&plugin).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        self.slot(state, Origin::Config, plugin, code, None)
    }

    /// Says what a plugin's reference means, and has it here.
    fn pull(&self, plugin: &mut PluginConfig, until: Instant) -> Result<(), PullError> {
        let asked = plugin.clone();
        let PluginSource::Oci { reference, digest } = &mut plugin.source else {
            return Ok(());
        };
        let pulled = match self.store.pulled() {
            Ok(pulled) => pulled,
            Err(error) => {
                tracing::warn!(%error, "what was pulled before is not known");
                Vec::new()
            }
        };
        let there = known(&pulled, reference);
        let there = there.filter(|pulled| self.store.check_blob(&pulled.component).is_ok());
        // What no key signed may have a signature in the registry that is not here.
        let is_trusted = |there: &PulledRecord| {
            let plugin = with_component(&asked, reference, &there.component);
            trust::trusted(&self.data_dir, &plugin, &self.trusted_keys).is_ok()
        };
        let component = match (there, reference.digest()) {
            (Some(there), Some(_)) if is_trusted(there) => there.component.clone(),
            (there, _) => match self.fetch(&asked, reference, there, &pulled, until) {
                Ok(component) => component,
                Err(error) => {
                    let Some(there) = there else {
                        return Err(error);
                    };
                    let (plugin, component) = (&plugin.name, &there.component);
                    tracing::warn!(
                        plugin, %reference, component, at_ms = there.at_ms, %error,
                        "the registry does not say what this is now: what it was the last time runs"
                    );
                    component.clone()
                }
            },
        };
        *digest = Some(component);
        Ok(())
    }

    /// Asks the registry, and fetches what is not here. What the plugin's keys do not trust is not
    /// what the name means: what it meant before stays.
    fn fetch(
        &self,
        plugin: &PluginConfig,
        reference: &Reference,
        there: Option<&PulledRecord>,
        pulled: &[PulledRecord],
        until: Instant,
    ) -> Result<String, PullError> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(PullError::NoTime(Box::new(reference.clone())));
        }
        let config = self.registries.iter().find(|r| r.host == reference.host());
        let options = options(reference.host(), config, left)?;
        let registry = Registry::of(reference, &options, COMPONENT_BYTES_MAX)?;
        let found = registry.find()?;
        // Of what is found the form was checked.
        let component = found.component.trim_start_matches("sha256:").to_owned();
        let is_here = there.is_some_and(|there| there.component == component)
            || self.store.check_blob(&component).is_ok();
        let bytes = match is_here {
            true => None,
            false => Some(registry.component(&found)?),
        };
        // Nobody may take for unused what is not named yet.
        let _keeping = self.keeping();
        if let Some(bytes) = bytes {
            let mut upload = self.store.upload(&component, found.bytes)?;
            upload.write(&bytes)?;
            upload.finish()?;
            tracing::info!(%reference, manifest = found.manifest, bytes = found.bytes, "pulled");
        } else {
            // It was there, and may have been nobody's until now.
            self.store.check_blob(&component)?;
        }
        self.trust_found(plugin, reference, &component, &found)?;
        self.keep_pulled(reference, &found, &component, pulled)?;
        Ok(component)
    }

    /// Keeps the signature that was found, and looks whether the component may run with it, or with
    /// one that was here.
    fn trust_found(
        &self,
        plugin: &PluginConfig,
        reference: &Reference,
        component: &str,
        found: &Found,
    ) -> Result<(), PullError> {
        let plugin = with_component(plugin, reference, component);
        let kept: Result<(), PullError> = match &found.signature {
            Some(text) => self.keep_signature(&plugin, component, text),
            None => Ok(()),
        };
        match trust::trusted(&self.data_dir, &plugin, &self.trusted_keys) {
            Ok(_) => Ok(()),
            Err(error) => kept.and_then(|()| Err(error.into())),
        }
    }

    /// Keeps a signature that came with a component, if it is one that is trusted.
    pub(super) fn keep_signature<E: From<Untrusted> + From<StoreError>>(
        &self,
        plugin: &PluginConfig,
        component: &str,
        text: &str,
    ) -> Result<(), E> {
        let signature = trust::parse(plugin, text)?;
        let keys = &self.trusted_keys;
        let is_checked = trust::check_new(&self.data_dir, plugin, keys, &signature)?;
        Ok(self
            .store
            .put_signature(component, &signature, is_checked)?)
    }

    fn keep_pulled(
        &self,
        reference: &Reference,
        found: &Found,
        component: &str,
        pulled: &[PulledRecord],
    ) -> Result<(), StoreError> {
        let name = reference.to_string();
        let now = PulledRecord {
            reference: name.clone(),
            manifest: found.manifest.clone(),
            component: component.to_owned(),
            at_ms: wall_ms(),
        };
        let others = pulled.iter().filter(|other| other.reference != name);
        let (mut records, mut former): (Vec<PulledRecord>, Vec<PulledRecord>) = others
            .cloned()
            .partition(|other| self.references.contains(&other.reference));
        former.sort_by_key(|record| record.at_ms);
        former.drain(..former.len().saturating_sub(FORMER_MAX));
        records.append(&mut former);
        records.push(now);
        self.store.put_pulled(&records)
    }

    /// Pulls what has not come yet, and brings it live; says whether something is missing still.
    fn pull_missing(&self) -> bool {
        let missing: Vec<Arc<Slot>> = {
            let state = self.state();
            if state.is_closed {
                return false;
            }
            let slots = state.slots.values();
            let is_missing = |slot: &&Arc<Slot>| {
                let source = &slot.config.source;
                matches!(source, PluginSource::Oci { digest: None, .. })
            };
            slots.filter(is_missing).cloned().collect()
        };
        let mut is_missing = false;
        for slot in missing {
            if let Err(error) = self.pull_one(&slot) {
                tracing::warn!(plugin = &*slot.name, %error, "not pulled");
                is_missing = true;
            }
        }
        is_missing
    }

    fn pull_one(&self, slot: &Slot) -> Result<(), ChangeError> {
        let mut config = slot.config.clone();
        self.pull(&mut config, Instant::now() + self.pull_timeout)?;
        let _turn = self.turn.clone().blocking_lock_owned();
        let prepared = self.prepare_all(&config);
        let mut state = self.open_state()?;
        let paused = state.slots.get(&slot.name).and_then(|slot| slot.paused);
        // What came and cannot run is not asked for again: the slot says why.
        let (code, prepared) = match prepared {
            Ok((code, prepared)) => (Ok(code), prepared),
            Err(error) => (Err(error.to_string()), Vec::new()),
        };
        let new = self.slot(&mut state, Origin::Config, config, code, None);
        let new = Arc::new(Slot { paused, ..new });
        state.slots.insert(new.name.clone(), new.clone());
        let prepared = prepared.into_iter().map(|made| (new.clone(), made));
        let prepared = prepared.collect();
        self.replace(&mut state, prepared);
        self.tell(&new);
        tracing::info!(plugin = &*new.name, status = new.status(), "pulled at last");
        Ok(())
    }
}

/// Asks again and again for what has not come, until all has.
pub(crate) async fn pull_again(plugins: Arc<Plugins>) {
    let mut pause = AGAIN_FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
        let plugins = plugins.clone();
        match tokio::task::spawn_blocking(move || plugins.pull_missing()).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
    }
}

/// How a registry is reached, with what its files hold now.
fn options(
    host: &str,
    config: Option<&RegistryConfig>,
    timeout: Duration,
) -> Result<RegistryOptions, PullError> {
    let Some(config) = config else {
        return Ok(RegistryOptions {
            timeout,
            ..RegistryOptions::default()
        });
    };
    let failed = |path: &Path, error: String| PullError::File {
        host: host.to_owned(),
        path: path.display().to_string(),
        error,
    };
    let read = |path: &Path| -> Result<String, PullError> {
        read_text(path).map_err(|error| failed(path, error.to_string()))
    };
    let first_line = |path: &Path| -> Result<String, PullError> {
        let text = read(path)?;
        let line = text.lines().next().unwrap_or_default().trim().to_owned();
        match line.is_empty() {
            true => Err(failed(path, "its first line is empty".to_owned())),
            false => Ok(line),
        }
    };
    let credentials = match &config.credentials {
        CredentialsConfig::None => Credentials::None,
        CredentialsConfig::Token(path) => Credentials::Token(first_line(path)?),
        CredentialsConfig::Password { user, file } => Credentials::Basic {
            user: user.clone(),
            password: first_line(file)?,
        },
        CredentialsConfig::Docker(path) => Credentials::from_docker(&read(path)?, host)
            .map_err(|error| failed(path, error.to_string()))?,
    };
    let ca = config.ca.as_deref().map(read).transpose()?;
    Ok(RegistryOptions {
        insecure_http: config.insecure_http,
        ca: ca.map(String::into_bytes),
        credentials,
        timeout,
    })
}

fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}
