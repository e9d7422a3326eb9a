//! What plugins log: passed on to `tracing`, and the last lines of each slot kept for whoever asks.
//! What they count is passed on to `tracing` alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::watch;
use waypost_host::{Level, Sample, Sink};

use crate::clock::wall_ms;

/// Lines that are kept of a slot.
pub(crate) const LINES_MAX: usize = 1_000;
/// Their bytes; one line has 8 KiB at most.
const BYTES_MAX: usize = 256 << 10;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1 in its slot, since the node's start.
    pub number: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    pub level: Level,
    pub text: String,
}

/// The last lines of a slot.
#[derive(Debug)]
pub(crate) struct Lines {
    kept: Mutex<Kept>,
    /// The number of the last line.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    bytes: usize,
    next: u64,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines {
            kept: Mutex::default(),
            last: watch::Sender::new(0),
        }
    }
}

impl Lines {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Each change leaves it whole enough to be shown.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, level: Level, text: &str) {
        let mut kept = self.kept();
        kept.next += 1;
        let number = kept.next;
        kept.bytes += text.len();
        kept.lines.push_back(Line {
            number,
            time_ms: wall_ms(),
            level,
            text: text.to_owned(),
        });
        while kept.lines.len() > LINES_MAX || kept.bytes > BYTES_MAX {
            let Some(gone) = kept.lines.pop_front() else {
                break;
            };
            kept.bytes -= gone.text.len();
        }
        drop(kept);
        self.last.send_replace(number);
    }

    /// The last `count` lines after this number.
    pub fn after(&self, number: u64, count: usize) -> Vec<Line> {
        let kept = self.kept();
        let new = kept.lines.iter().filter(|line| line.number > number);
        let skip = new.clone().count().saturating_sub(count);
        new.skip(skip).cloned().collect()
    }

    /// Says when there are more.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

/// Takes the lines of all plugins.
#[derive(Debug, Default)]
pub(crate) struct PluginLog(RwLock<HashMap<String, Arc<Lines>>>);

impl PluginLog {
    /// The lines of a slot, which is known from now on.
    pub fn of(&self, slot: &str) -> Arc<Lines> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = known.get(slot) {
            return lines.clone();
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(slot.to_owned()).or_default().clone()
    }

    /// The lines of a slot, if it is known.
    pub fn get(&self, slot: &str) -> Option<Arc<Lines>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(slot).cloned()
    }

    /// Forgets a slot. Whoever follows its lines learns that no more come.
    pub fn remove(&self, slot: &str) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(slot);
    }

    /// Keeps a line of a slot that is known: a plugin that was removed may say a last word.
    fn keep(&self, slot: &str, level: Level, text: &str) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = known.get(slot) {
            lines.push(level, text);
        }
    }
}

impl Sink for PluginLog {
    fn log(&self, plugin: &str, level: Level, line: &str) {
        match level {
            Level::Trace => tracing::trace!(target: "waypost::plugin", plugin, "{line}"),
            Level::Debug => tracing::debug!(target: "waypost::plugin", plugin, "{line}"),
            Level::Info => tracing::info!(target: "waypost::plugin", plugin, "{line}"),
            Level::Warn => tracing::warn!(target: "waypost::plugin", plugin, "{line}"),
            Level::Error => tracing::error!(target: "waypost::plugin", plugin, "{line}"),
        }
        self.keep(plugin, level, line);
    }

    fn log_dropped(&self, plugin: &str, lines: u64) {
        tracing::warn!(target: "waypost::plugin", plugin, lines, "log lines over the limit were left out");
        let text = format!("{lines} lines over the limit were left out");
        self.keep(plugin, Level::Warn, &text);
    }

    fn metric(&self, plugin: &str, name: &str, sample: Sample) {
        tracing::trace!(target: "waypost::plugin", plugin, name, ?sample, "metric");
    }
}

/// The word for a level.
pub(crate) fn level_name(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_within_their_bounds() {
        let log = PluginLog::default();
        log.log("unknown", Level::Info, "is not kept");
        let lines = log.of("p");
        let mut watch = lines.watch();
        assert!(!watch.has_changed().unwrap());
        for n in 0..LINES_MAX + 5 {
            log.log("p", Level::Info, &n.to_string());
        }
        assert_eq!(*watch.borrow_and_update(), 1005);
        let all = lines.after(0, usize::MAX);
        assert_eq!(
            (all.len(), all[0].number, all[0].text.as_str()),
            (1000, 6, "5")
        );
        let last: Vec<u64> = lines.after(0, 2).iter().map(|line| line.number).collect();
        assert_eq!(last, [1004, 1005]);
        assert_eq!(lines.after(1004, 9).len(), 1);
        for _ in 0..100 {
            log.log("p", Level::Warn, &"x".repeat(8 << 10));
        }
        assert_eq!(lines.after(0, usize::MAX).len(), BYTES_MAX / (8 << 10));
        log.remove("p");
        drop(lines);
        assert!(
            watch.has_changed().is_err(),
            "who follows learns of the end"
        );
    }
}
