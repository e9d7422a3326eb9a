//! How a shadow begins, ends, and becomes the serving version.

use std::sync::Arc;

use super::{About, SHADOWS_MAX, Shadow, log_name};
use crate::clock::wall_ms;
use crate::config::PluginConfig;
use crate::plugins::changes::{Deploy, Deployed};
use crate::plugins::error::ChangeError;
use crate::plugins::live::{NoState, Plugins};
use crate::plugins::slot::{Origin, Slot};

impl Plugins {
    /// Runs a component beside the version that serves. The caller holds the turn.
    pub(super) fn begin_shadow(&self, deploy: &Deploy, sample_ppm: u32) -> Result<(), ChangeError> {
        let slot = self.find(&deploy.name)?;
        if let Err(why) = &slot.code {
            let text = format!(
                "plugin '{}': nothing runs there to compare with: {why}",
                slot.name
            );
            return Err(ChangeError::Conflict(text));
        }
        let base = match slot.origin {
            // It can be tried, and not promoted: whoever says the code of a slot is its file.
            Origin::Config => slot.config.clone(),
            Origin::Deployed | Origin::Network => self.base(deploy)?.1,
        };
        let config = deploy.config(base)?;
        self.store.check_blob(&deploy.digest)?;
        self.keep_signature_of(deploy, &config)?;
        let mut loaded = Vec::new();
        let named = PluginConfig {
            name: log_name(&slot.name),
            ..config.clone()
        };
        let uses = self.uses(&self.state(), &slot.name);
        for destinations in uses {
            let (plugin, _) = self.load(&named, destinations.clone())?;
            // A trial: the shadow's thread makes the one that counts.
            match plugin.uses_state() {
                true => drop(plugin.instantiate(Some(&mut NoState))?),
                false => drop(plugin.instantiate(None)?),
            }
            loaded.push((destinations, plugin));
        }
        let (shadow, jobs) = Shadow::new(About {
            config,
            digest: deploy.digest.clone(),
            by: deploy.by.clone(),
            since_ms: wall_ms(),
            sample_ppm,
            beside: slot.version(),
            loaded,
        });
        let shadow = Arc::new(shadow);
        let mut state = self.open_state()?;
        let others = state.slots.values().filter(|other| other.name != slot.name);
        let running = others.filter(|other| {
            let shadow = other.shadow.current();
            shadow.is_some_and(|shadow| shadow.ended().is_none())
        });
        if running.count() >= SHADOWS_MAX {
            let text = format!("{SHADOWS_MAX} shadows run, which is as many as may be");
            return Err(ChangeError::Busy(text));
        }
        self.logs.of(&log_name(&slot.name));
        let of = (slot.name.clone(), slot.shadow.clone());
        if let Err(error) = self.workers.judge(of, shadow.clone(), jobs) {
            return Err(ChangeError::Busy(format!(
                "no thread for a shadow: {error}"
            )));
        }
        slot.shadow.begin(shadow);
        state.pending.retain(|digest| *digest != deploy.digest);
        self.clean(&mut state);
        Ok(())
    }

    /// Makes a slot's shadow the version that serves, as it was tried. The caller holds the turn.
    pub(super) fn promote(&self, name: &str, by: &str) -> Result<Deployed, ChangeError> {
        let slot = self.find(name)?;
        let shadow = shadow_of(&slot)?;
        if let Some(why) = shadow.ended() {
            let text = format!(
                "plugin '{name}': its shadow ended ({why}); to run that version all the same, \
                 deploy it"
            );
            return Err(ChangeError::Conflict(text));
        }
        if slot.origin == Origin::Config {
            return Err(crate::plugins::changes::named_by_config(&slot, "code"));
        }
        let (config, digest) = (shadow.about.config.clone(), shadow.about.digest.clone());
        let deployed = self.activate(slot.origin, config, slot.record.clone(), &digest, by)?;
        self.discard(name)?;
        Ok(deployed)
    }

    /// Ends a shadow, and forgets what it found.
    pub(super) fn discard(&self, name: &str) -> Result<(), ChangeError> {
        let slot = self.find(name)?;
        shadow_of(&slot)?;
        self.forget_shadow(&slot);
        let mut state = self.state();
        self.clean(&mut state);
        Ok(())
    }

    /// The same for a slot that goes.
    pub(in crate::plugins) fn forget_shadow(&self, slot: &Slot) {
        slot.shadow.clear();
        self.logs.remove(&log_name(&slot.name));
    }
}

pub(super) fn shadow_of(slot: &Slot) -> Result<Arc<Shadow>, ChangeError> {
    slot.shadow.current().ok_or_else(|| {
        let text = format!("plugin '{}' has no shadow", slot.name);
        ChangeError::Conflict(text)
    })
}
