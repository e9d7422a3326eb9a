//! Conditions that a person has to look at: raised once, shown until they end.
//!
//! An alarm is identified by its kind and what it is about; raising it again changes its text and
//! keeps its time. `/v1/alarms` shows them, `/readyz` answers by them, each change is logged.

use serde::Serialize;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most alarms at once; more are logged only. A node has one for each damaged queue or failed
/// plugin, so that this is reached only where something is wrong with everything.
pub const ALARMS_MAX: usize = 256;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// Damaged records were set aside; the rest is served.
    QuarantinedData,
    /// Records of a queue whose description is gone; it is served under a made-up name.
    OrphanedQueue,
    /// Free disk space is below the reserve: publishers are refused.
    DiskFull,
    /// A queue at its limit let go of messages that a group had not acked.
    QueueDropping,
    /// A plugin failed too often; no message goes through it.
    PluginOutOfService,
    /// What is kept of a plugin or of routes that came over the network cannot be read.
    DamagedPlugin,
    /// A name is in the configuration and in the catalogue.
    NameConflict,
}

impl AlarmKind {
    /// Whether the node should get no new traffic until somebody has looked. A failed plugin or a
    /// full disk is shown beside it, because other nodes would not do better.
    pub fn makes_unready(self) -> bool {
        matches!(self, AlarmKind::QuarantinedData | AlarmKind::OrphanedQueue)
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// What is wrong.
    pub kind: AlarmKind,
    /// The queue, plugin or file that it is about.
    pub subject: String,
    /// What happened, and what to do.
    pub text: String,
    /// When it was first raised, in milliseconds of the wall clock since 1970.
    pub since_ms: u64,
}

/// The alarms of a node.
#[derive(Debug, Default)]
pub struct Alarms(Mutex<Vec<Alarm>>);

impl Alarms {
    /// Raises an alarm, or changes the text of the same one.
    pub fn raise(&self, kind: AlarmKind, subject: &str, text: impl Into<String>, now_ms: u64) {
        let text = text.into();
        let mut alarms = self.lock();
        let same = |a: &&mut Alarm| a.kind == kind && a.subject == subject;
        if let Some(alarm) = alarms.iter_mut().find(same) {
            alarm.text = text;
            return;
        }
        tracing::error!(?kind, subject, text, "alarm raised");
        if alarms.len() < ALARMS_MAX {
            alarms.push(Alarm {
                kind,
                subject: subject.to_owned(),
                text,
                since_ms: now_ms,
            });
        }
    }

    /// Ends an alarm; nothing if there is none.
    pub fn clear(&self, kind: AlarmKind, subject: &str) {
        let mut alarms = self.lock();
        let before = alarms.len();
        alarms.retain(|a| !(a.kind == kind && a.subject == subject));
        if alarms.len() < before {
            tracing::info!(?kind, subject, "alarm ended");
        }
    }

    /// Those that last, oldest first.
    pub fn list(&self) -> Vec<Alarm> {
        self.lock().clone()
    }

    /// The list is whole after every change, so that a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Vec<Alarm>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raised_once_and_ended() {
        let alarms = Alarms::default();
        alarms.raise(AlarmKind::QuarantinedData, "alerts", "3 records", 10);
        alarms.raise(AlarmKind::QuarantinedData, "alerts", "4 records", 20);
        alarms.raise(AlarmKind::DiskFull, "data", "1 MiB free", 30);
        let first = &alarms.list()[0];
        assert_eq!((first.text.as_str(), first.since_ms), ("4 records", 10));
        alarms.clear(AlarmKind::QuarantinedData, "other");
        assert_eq!(alarms.list().len(), 2);
        alarms.clear(AlarmKind::QuarantinedData, "alerts");
        assert_eq!(alarms.list().len(), 1);
    }

    #[test]
    fn bounded() {
        let alarms = Alarms::default();
        for plugin in 0..ALARMS_MAX + 10 {
            let subject = plugin.to_string();
            alarms.raise(AlarmKind::PluginOutOfService, &subject, "failed", 0);
        }
        assert_eq!(alarms.list().len(), ALARMS_MAX);
    }
}
