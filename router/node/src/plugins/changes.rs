//! What a person does to a slot: deploy, roll back, pause, resume, remove.

use std::sync::Arc;

use super::error::ChangeError;
use super::live::{Plugins, Prepared, State};
use super::record::{Pair, Pause, SlotRecord, Texts, Version};
use super::slot::{Code, Origin, Slot};
use crate::clock::wall_ms;
use crate::config::{self, PluginConfig, PluginSource};
use crate::shelf;

/// Slots that the network may make.
const SLOTS_MAX: usize = 1_000;
/// Settings of one, and bytes of one setting.
const SETTINGS_MAX: usize = 256;
const SETTING_BYTES_MAX: usize = 64 << 10;

/// A version that is to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deploy {
    pub name: String,
    /// SHA-256 of a component that has come, in hexadecimal digits.
    pub digest: String,
    /// Its signature, as minisign writes it; empty where none came.
    pub signature: String,
    pub by: String,
    /// What is not named is that of the active version; else the default.
    pub inherit: bool,
    pub role: Option<String>,
    pub settings: Vec<Pair>,
    pub grants: Option<Vec<String>>,
    pub publish: Vec<String>,
    pub limits: Vec<Pair>,
    pub on_error: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deployed {
    pub version: u64,
    /// What ran before; 0: nothing.
    pub before: u64,
    /// The active version was the same, and runs on.
    pub is_unchanged: bool,
}

impl Deploy {
    /// Whether it says anything but the code.
    fn says_more(&self) -> bool {
        let Deploy {
            role,
            settings,
            grants,
            publish,
            limits,
            on_error,
            ..
        } = self;
        let is_empty = settings.is_empty() && publish.is_empty() && limits.is_empty();
        role.is_some() || grants.is_some() || !is_empty || !on_error.is_empty()
    }

    /// What the new version runs with.
    pub(super) fn config(&self, base: PluginConfig) -> Result<PluginConfig, ChangeError> {
        let mut config = base;
        config.source = PluginSource::Digest(self.digest.clone());
        for (name, value) in &self.settings {
            match config.settings.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => known.clone_from(value),
                None => config.settings.push((name.clone(), value.clone())),
            }
        }
        // Of what came over the network: a configuration bounds its own.
        let too_long = |(name, value): &&Pair| name.len() + value.len() > SETTING_BYTES_MAX;
        if let Some((name, _)) = self.settings.iter().find(too_long) {
            let text = format!(
                "plugin '{}': setting '{name}' has more than {SETTING_BYTES_MAX} bytes",
                self.name
            );
            return Err(ChangeError::Invalid(text));
        }
        if !self.settings.is_empty() && config.settings.len() > SETTINGS_MAX {
            let text = format!("plugin '{}': more than {SETTINGS_MAX} settings", self.name);
            return Err(ChangeError::Invalid(text));
        }
        let texts = Texts {
            role: self.role.as_deref(),
            on_error: &self.on_error,
            grants: self.grants.as_deref(),
            publish: &self.publish,
            limits: &self.limits,
        };
        texts
            .apply(&mut config)
            .map_err(|error| ChangeError::Text {
                plugin: self.name.clone(),
                error,
            })?;
        Ok(config)
    }
}

impl Plugins {
    /// Puts a plugin of the shelf beside the components that came over the network, and gives its
    /// digest: from there on it is one of them, and stays what it is when the node is replaced.
    pub(super) fn take_stock(&self, name: &str) -> Result<String, ChangeError> {
        let stock = shelf::stock(name).ok_or_else(|| ChangeError::Invalid(shelf::unknown(name)))?;
        let digest = stock.digest();
        if self.store.check_blob(&digest).is_err() {
            let mut upload = self.store.upload(&digest, stock.bytes())?;
            upload.write(&stock.component())?;
            upload.finish()?;
        }
        self.came(&digest);
        Ok(digest)
    }

    /// Makes a component the active version of a slot. The caller holds the turn.
    pub(super) fn deploy(&self, deploy: &Deploy) -> Result<Deployed, ChangeError> {
        let (origin, base, record) = self.base(deploy)?;
        let config = deploy.config(base)?;
        self.store.check_blob(&deploy.digest)?;
        self.keep_signature_of(deploy, &config)?;
        self.activate(origin, config, record, &deploy.digest, &deploy.by)
    }

    /// Keeps the signature that came with a component, if it is one that is trusted.
    pub(super) fn keep_signature_of(
        &self,
        deploy: &Deploy,
        config: &PluginConfig,
    ) -> Result<(), ChangeError> {
        if !deploy.signature.is_empty() {
            return self.keep_signature(config, &deploy.digest, &deploy.signature);
        }
        Ok(())
    }

    /// Makes what is to run the active version. The caller holds the turn.
    pub(super) fn activate(
        &self,
        origin: Origin,
        config: PluginConfig,
        record: Option<SlotRecord>,
        digest: &str,
        by: &str,
    ) -> Result<Deployed, ChangeError> {
        let name = config.name.clone();
        let bytes = self.store.check_blob(digest)?;
        let number = record.as_ref().map_or(1, SlotRecord::next_number);
        let version = Version {
            deployed_ms: wall_ms(),
            by: by.to_owned(),
            ..Version::of(&config, number, digest.to_owned(), bytes)
        };
        let before = record.as_ref().map_or(0, |record| record.active);
        if self.runs(&name)
            && let Some(active) = record.as_ref().and_then(SlotRecord::active)
            && active.is_same(&version)
        {
            return Ok(Deployed {
                version: active.number,
                before,
                is_unchanged: true,
            });
        }
        let (code, prepared) = self.prepare_all(&config)?;
        let mut record = record.unwrap_or_else(|| SlotRecord {
            name: name.clone(),
            active: 0,
            paused: None,
            versions: Vec::new(),
        });
        let mut state = self.open_state()?;
        // It may have been paused meanwhile.
        let slot = state.slots.get(name.as_str());
        record.paused = slot.and_then(|slot| slot.paused);
        record.activate(version);
        self.begin_version(&mut state, origin, config, code, record, prepared)?;
        Ok(Deployed {
            version: number,
            before,
            is_unchanged: false,
        })
    }

    /// What a deploy starts from.
    pub(super) fn base(
        &self,
        deploy: &Deploy,
    ) -> Result<(Origin, PluginConfig, Option<SlotRecord>), ChangeError> {
        let state = self.state();
        let name = &deploy.name;
        let Some(slot) = state.slots.get(name.as_str()) else {
            if !config::names::is_name(name) {
                let expected = "1 to 128 of a-z, A-Z, 0-9, '.', '_' and '-' expected";
                return Err(ChangeError::Invalid(format!("plugin '{name}': {expected}")));
            }
            if state.slots.len() >= SLOTS_MAX {
                let text = format!("{SLOTS_MAX} plugins are there, which is as many as may be");
                return Err(ChangeError::Busy(text));
            }
            let config = PluginConfig::new(name.as_str(), PluginSource::Deployed);
            return Ok((Origin::Network, config, None));
        };
        let base = match slot.origin {
            Origin::Config => return Err(named_by_config(slot, "code")),
            Origin::Deployed if deploy.says_more() => {
                let what = "settings, grants and limits";
                return Err(named_by_config(slot, what));
            }
            Origin::Deployed => slot.config.clone(),
            Origin::Network if deploy.inherit => slot.config.clone(),
            Origin::Network => PluginConfig::new(name.as_str(), PluginSource::Deployed),
        };
        Ok((slot.origin, base, slot.record.clone()))
    }

    fn runs(&self, name: &str) -> bool {
        let state = self.state();
        state.slots.get(name).is_some_and(|slot| slot.code.is_ok())
    }

    /// Loads and starts a version for every route that goes through its slot.
    pub(super) fn prepare_all(
        &self,
        config: &PluginConfig,
    ) -> Result<(Code, Vec<Prepared>), ChangeError> {
        let uses = self.uses(&self.state(), &config.name);
        let mut prepared = Vec::new();
        for destinations in uses {
            prepared.push(self.prepare(config, destinations)?);
        }
        let Some(first) = prepared.first() else {
            let text = format!("plugin '{}' cannot be tried", config.name);
            return Err(ChangeError::Conflict(text));
        };
        let code = self.code(config, &first.plugin, first.signed_by);
        Ok((code, prepared))
    }

    /// Steps 2 to 4.
    fn begin_version(
        &self,
        state: &mut State,
        origin: Origin,
        config: PluginConfig,
        code: Code,
        record: SlotRecord,
        prepared: Vec<Prepared>,
    ) -> Result<(), ChangeError> {
        self.store.put_slot(&record)?;
        let slot = Arc::new(self.slot(state, origin, config, Ok(code), Some(record)));
        state.slots.insert(slot.name.clone(), slot.clone());
        let prepared = prepared
            .into_iter()
            .map(|made| (slot.clone(), made))
            .collect();
        self.replace(state, prepared);
        let version = slot.version();
        slot.shadow.end(&format!("version {version} serves now"));
        self.tell(&slot);
        let own = slot.config.source.digest();
        state.pending.retain(|digest| own != Some(digest.as_str()));
        self.clean(state);
        Ok(())
    }

    /// Goes back to an older version: the one before the active one, or the one that is named.
    pub(super) fn roll_back(&self, name: &str, to: Option<u64>) -> Result<Deployed, ChangeError> {
        let slot = self.find(name)?;
        let Some(mut record) = slot.record.clone() else {
            return Err(named_by_config(&slot, "code"));
        };
        let before = record.active;
        let version = match to {
            Some(number) => record.version(number),
            None => record.previous(),
        };
        let Some(version) = version.cloned() else {
            let kept: Vec<String> = record
                .versions
                .iter()
                .map(|v| v.number.to_string())
                .collect();
            let wanted = to.map_or("an older one".to_owned(), |number| {
                format!("version {number}")
            });
            let text = format!(
                "plugin '{name}' runs version {before} and has no {wanted}; kept are {}",
                kept.join(", ")
            );
            return Err(match to {
                Some(_) => ChangeError::Invalid(text),
                None => ChangeError::Conflict(text),
            });
        };
        let number = version.number;
        if number == before && slot.code.is_ok() {
            return Ok(Deployed {
                version: number,
                before,
                is_unchanged: true,
            });
        }
        let config = match slot.origin {
            Origin::Network => version.config(name).map_err(|error| ChangeError::Text {
                plugin: name.to_owned(),
                error,
            })?,
            Origin::Config | Origin::Deployed => PluginConfig {
                source: PluginSource::Digest(version.digest.clone()),
                ..slot.config.clone()
            },
        };
        let (code, prepared) = self.prepare_all(&config)?;
        let mut state = self.open_state()?;
        record.paused = state.slots.get(name).and_then(|slot| slot.paused);
        record.roll(number);
        self.begin_version(&mut state, slot.origin, config, code, record, prepared)?;
        Ok(Deployed {
            version: number,
            before,
            is_unchanged: false,
        })
    }

    /// Takes a slot out of use. Waits for nothing that compiles.
    pub(super) fn pause(&self, name: &str, pause: Pause) -> Result<(), ChangeError> {
        let mut state = self.open_state()?;
        let slot = found(&state, name)?;
        let paused = self.with_pause(&mut state, &slot, Some(pause))?;
        state.slots.insert(paused.name.clone(), paused);
        self.replace(&mut state, Vec::new());
        Ok(())
    }

    /// Takes a slot into use again.
    pub(super) fn resume(&self, name: &str) -> Result<(), ChangeError> {
        let slot = self.find(name)?;
        if slot.paused.is_none() {
            return Ok(());
        }
        let prepared = match slot.code {
            Ok(_) => self.prepare_all(&slot.config)?.1,
            Err(_) => Vec::new(),
        };
        let mut state = self.open_state()?;
        let resumed = self.with_pause(&mut state, &slot, None)?;
        state.slots.insert(resumed.name.clone(), resumed.clone());
        let prepared = prepared
            .into_iter()
            .map(|made| (resumed.clone(), made))
            .collect();
        self.replace(&mut state, prepared);
        Ok(())
    }

    /// The same slot, paused or not, and kept as such.
    fn with_pause(
        &self,
        state: &mut State,
        slot: &Arc<Slot>,
        paused: Option<Pause>,
    ) -> Result<Arc<Slot>, ChangeError> {
        let mut record = slot.record.clone();
        if let Some(record) = &mut record {
            record.paused = paused;
            self.store.put_slot(record)?;
        }
        let (origin, config) = (slot.origin, slot.config.clone());
        let new = self.slot(state, origin, config, slot.code.clone(), record);
        Ok(Arc::new(Slot {
            paused,
            // It is the same version.
            began: slot.began.clone(),
            since_ms: slot.since_ms,
            ..new
        }))
    }

    /// Removes a slot that no route uses.
    pub(super) fn remove(&self, name: &str) -> Result<(), ChangeError> {
        let mut state = self.open_state()?;
        let slot = found(&state, name)?;
        if slot.origin != Origin::Network {
            return Err(named_by_config(&slot, "name"));
        }
        let kept = state
            .routes
            .iter()
            .filter(|r| r.through.iter().any(|p| p == name));
        let configured = state.configured.iter();
        let configured = configured.filter(|r| r.through.iter().any(|p| &**p == name));
        let users: Vec<String> = kept
            .map(|route| route.name.clone())
            .chain(configured.map(|route| route.name.to_string()))
            .collect();
        if !users.is_empty() {
            let text = format!(
                "plugin '{name}' is used by {}: remove {} first",
                users.join(", "),
                if users.len() == 1 {
                    "that route"
                } else {
                    "those routes"
                }
            );
            return Err(ChangeError::Conflict(text));
        }
        self.store.remove_slot(name)?;
        state.slots.remove(name);
        self.replace(&mut state, Vec::new());
        self.logs.remove(name);
        self.forget_shadow(&slot);
        for kind in [
            crate::alarms::AlarmKind::PluginOutOfService,
            crate::alarms::AlarmKind::DamagedPlugin,
        ] {
            self.alarms.clear(kind, name);
        }
        self.clean(&mut state);
        Ok(())
    }

    pub(super) fn find(&self, name: &str) -> Result<Arc<Slot>, ChangeError> {
        found(&self.state(), name)
    }
}

fn found(state: &State, name: &str) -> Result<Arc<Slot>, ChangeError> {
    state
        .slots
        .get(name)
        .cloned()
        .ok_or_else(|| ChangeError::NotFound {
            what: "plugin",
            name: name.to_owned(),
        })
}

pub(super) fn named_by_config(slot: &Slot, what: &str) -> ChangeError {
    let where_from = match &slot.config.source {
        PluginSource::File(path) => format!(" ({})", path.display()),
        PluginSource::Builtin(name) => format!(" (builtin {name})"),
        PluginSource::Oci { reference, .. } => format!(" ({reference})"),
        PluginSource::Digest(_) | PluginSource::Deployed => String::new(),
    };
    ChangeError::Conflict(format!(
        "plugin '{}': the configuration says its {what}{where_from}, and is the truth for it",
        slot.name
    ))
}
