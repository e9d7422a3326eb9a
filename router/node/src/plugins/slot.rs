//! A slot as it runs: what it is, where it came from, and how its component is loaded.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use waypost_host::{Grants, Plugin, PluginSpec, Role, Source};
use waypost_supply::KeyId;

use super::guard::Guard;
use super::record::{Pause, SlotRecord};
use super::shadow::ShadowPort;
use super::stats::{PluginStats, Snapshot};
use super::store::blob_path;
use super::trust::{Untrusted, trusted};
use crate::config::{Config, Grant, LimitsConfig, PluginConfig, PluginSource};
use crate::shelf;

/// Who says what a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The configuration, all of it.
    Config,
    /// The configuration, all but the code.
    Deployed,
    /// The network.
    Network,
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Config => "config",
            Origin::Deployed => "config, deployed",
            Origin::Network => "network",
        }
    }
}

/// A slot of one moment. What changes makes another, with another generation.
#[derive(Debug)]
pub(crate) struct Slot {
    pub name: Arc<str>,
    /// Differs from all others of this slot.
    pub generation: u64,
    pub origin: Origin,
    /// What it runs with.
    pub config: PluginConfig,
    /// What it runs, or why it cannot.
    pub code: Result<Code, String>,
    pub paused: Option<Pause>,
    /// What is kept of it, where its code came over the network.
    pub record: Option<SlotRecord>,
    pub stats: Arc<PluginStats>,
    /// Whether it is in service.
    pub guard: Arc<Guard>,
    /// The version that runs beside it, if there is one.
    pub shadow: Arc<ShadowPort>,
    /// The counters when this version began.
    pub began: Snapshot,
    /// When it did, in ms since 1970.
    pub since_ms: u64,
}

/// A component that was loaded.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub role: Role,
    pub digest: String,
    pub bytes: u64,
    pub imports: Vec<String>,
    /// The key that signed it, where one must have.
    pub signed_by: Option<KeyId>,
    /// The settings whose values its schema lets nobody see.
    pub secrets: Vec<String>,
}

impl Code {
    /// The names of those settings that its schema lets nobody see.
    pub fn secrets(plugin: &PluginConfig, loaded: &Plugin) -> Vec<String> {
        let Some(schema) = loaded.settings_schema() else {
            return Vec::new();
        };
        let names = plugin.settings.iter().map(|(name, _)| name);
        names.filter(|n| schema.is_secret(n)).cloned().collect()
    }
}

impl Slot {
    /// For people: file, built-in name or digest.
    pub fn source(&self) -> String {
        match &self.config.source {
            PluginSource::File(path) => path.display().to_string(),
            PluginSource::Builtin(name) => format!("builtin:{name}"),
            PluginSource::Digest(digest) => match shelf::with_digest(digest) {
                Some(stock) => format!("builtin:{}", stock.name),
                None => format!("sha256:{digest}"),
            },
            PluginSource::Deployed => "deployed".to_owned(),
            PluginSource::Oci { reference, .. } => format!("oci://{reference}"),
        }
    }

    /// The version that runs; 0 where the configuration names the code.
    pub fn version(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.active)
    }

    /// For people: `ready`, or what it is instead and why.
    pub fn status(&self) -> String {
        match (&self.code, self.paused) {
            (Err(why), _) => format!("down: {why}"),
            (Ok(_), Some(Pause::OnError)) => "paused".to_owned(),
            (Ok(_), Some(Pause::Hold)) => "paused, holding".to_owned(),
            (Ok(_), None) if !self.guard.is_in_service() => {
                let why = self.stats.last_error().unwrap_or_default();
                format!("out of service: {why}")
            }
            (Ok(_), None) => "ready".to_owned(),
        }
    }
}

/// A plugin of a configuration as the host loads it for a route with these destinations; `None`
/// where its code comes over the network and is not here. An error where it is not signed as it must be.
pub fn plugin_spec(
    config: &Config,
    plugin: &PluginConfig,
    destinations: Vec<String>,
) -> Result<Option<PluginSpec>, Untrusted> {
    let keys = &config.supply.trusted_keys;
    let data_dir = &config.node.data_dir;
    let plugin = &super::pull::as_pulled(data_dir, plugin);
    let trusted = trusted(data_dir, plugin, keys)?;
    Ok(trusted.map(|trusted| spec(plugin, &config.limits, trusted.source, destinations)))
}

/// Where the host finds the component.
pub(crate) fn source(data_dir: &Path, source: &PluginSource) -> Option<Source> {
    match source {
        PluginSource::File(path) => Some(Source::File(path.clone())),
        PluginSource::Builtin(name) => {
            let component = shelf::stock(name).map(|stock| stock.component());
            Some(Source::Bytes(Bytes::from(component.unwrap_or_default())))
        }
        PluginSource::Digest(digest) => Some(Source::File(blob_path(data_dir, digest))),
        PluginSource::Oci { digest, .. } => {
            let digest = digest.as_ref()?;
            Some(Source::File(blob_path(data_dir, digest)))
        }
        PluginSource::Deployed => None,
    }
}

/// What the host is told.
pub(crate) fn spec(
    plugin: &PluginConfig,
    of_node: &LimitsConfig,
    source: Source,
    destinations: Vec<String>,
) -> PluginSpec {
    let limits = &plugin.limits;
    let mut spec = PluginSpec::new(plugin.name.as_str(), source);
    spec.role = plugin.role;
    spec.settings = plugin.settings.clone();
    spec.destinations = destinations;
    spec.limits = waypost_host::Limits {
        memory_bytes: limits.memory_bytes as usize,
        table_elements: limits.table_elements as usize,
        call_cpu: limits.deadline,
        message_cpu: limits.deadline_per_message,
        init_cpu: limits.init_deadline,
        emitted_messages: limits.emitted_messages as usize,
        emitted_bytes: limits.output_bytes as usize,
        payload_bytes: of_node.payload_bytes as usize,
        log_bytes_per_second: u32::try_from(limits.log_bytes_per_second).unwrap_or(u32::MAX),
        cpu_per_second: limits.cpu_per_second,
        instances: limits.instances,
        host_calls: limits.host_calls,
        state_bytes: plugin.state_bytes,
    };
    let has = |grant| plugin.grants.contains(&grant);
    spec.grants = Grants {
        log: has(Grant::Log),
        clock: has(Grant::Clock),
        random: has(Grant::Random),
        metrics: has(Grant::Metrics),
        state: has(Grant::State),
        publish: has(Grant::Publish).then(|| plugin.publish.clone()),
        timer: has(Grant::Timer),
    };
    spec
}
