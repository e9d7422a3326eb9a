//! What plugins log and count, passed on to `tracing`.

use waypost_host::{Level, Sample, Sink};

/// Passes a plugin's lines on, under the target `waypost::plugin`.
#[derive(Debug)]
pub(crate) struct PluginLog;

impl Sink for PluginLog {
    fn log(&self, plugin: &str, level: Level, line: &str) {
        match level {
            Level::Trace => tracing::trace!(target: "waypost::plugin", plugin, "{line}"),
            Level::Debug => tracing::debug!(target: "waypost::plugin", plugin, "{line}"),
            Level::Info => tracing::info!(target: "waypost::plugin", plugin, "{line}"),
            Level::Warn => tracing::warn!(target: "waypost::plugin", plugin, "{line}"),
            Level::Error => tracing::error!(target: "waypost::plugin", plugin, "{line}"),
        }
    }

    fn log_dropped(&self, plugin: &str, lines: u64) {
        tracing::warn!(target: "waypost::plugin", plugin, lines, "log lines over the limit were left out");
    }

    fn metric(&self, plugin: &str, name: &str, sample: Sample) {
        tracing::trace!(target: "waypost::plugin", plugin, name, ?sample, "metric");
    }
}
