//! Which imports the configuration lets a plugin use.

use waypost_wire::Filter;

use crate::messaging;

/// What a plugin may import. `payload` needs no grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    /// Lines in the router's log. Granted by default, as the next three.
    pub log: bool,
    /// The router's clocks.
    pub clock: bool,
    /// Randomness.
    pub random: bool,
    /// Counters, gauges and histograms of its own.
    pub metrics: bool,
    /// Keys and values that the router keeps for it. Not granted by default, as the next two.
    pub state: bool,
    /// Messages of its own, to topics that one of these filters takes.
    pub publish: Option<Vec<Filter>>,
    /// Calls of `on-timer`.
    pub timer: bool,
}

impl Default for Grants {
    fn default() -> Grants {
        Grants {
            log: true,
            clock: true,
            random: true,
            metrics: true,
            state: false,
            publish: None,
            timer: false,
        }
    }
}

impl Grants {
    /// Their names, in the order of the documentation.
    pub const NAMES: [&str; 7] = [
        "log", "clock", "random", "metrics", "state", "publish", "timer",
    ];

    /// None at all.
    pub fn none() -> Grants {
        Grants {
            log: false,
            clock: false,
            random: false,
            metrics: false,
            ..Grants::default()
        }
    }

    /// All of them, with every topic that is not the router's own: for tools that look at a
    /// component before anything was granted.
    pub fn all() -> Grants {
        Grants {
            state: true,
            publish: Some(Filter::new("#").into_iter().collect()),
            timer: true,
            ..Grants::default()
        }
    }

    /// Whether the grant with this name is there; an interface of the contract that needs none
    /// always is.
    pub fn has(&self, name: &str) -> bool {
        match name {
            "log" => self.log,
            "clock" => self.clock,
            "random" => self.random,
            "metrics" => self.metrics,
            "state" => self.state,
            "publish" => self.publish.is_some(),
            "timer" => self.timer,
            _ => true,
        }
    }

    /// The grant that an import needs, as [`Plugin::imports`](crate::Plugin::imports) gives it. What
    /// a guest of `wasi:messaging` sends without it is refused, one by one.
    pub fn needed_by(import: &str) -> Option<&'static str> {
        if messaging::is_sending(import) {
            return Some("publish");
        }
        let (interface, _) = import.split_once('.')?;
        Grants::NAMES.into_iter().find(|name| *name == interface)
    }

    /// Whether a topic may be published to.
    pub(crate) fn may_publish(&self, topic: &str) -> bool {
        self.publish
            .iter()
            .flatten()
            .any(|filter| filter.matches(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_one_grant() {
        let (all, none, default) = (Grants::all(), Grants::none(), Grants::default());
        for name in Grants::NAMES {
            assert!(all.has(name) && !none.has(name), "{name}");
        }
        let granted: Vec<_> = Grants::NAMES
            .into_iter()
            .filter(|name| default.has(name))
            .collect();
        assert_eq!(granted, ["log", "clock", "random", "metrics"]);
        assert!(none.has("payload") && none.has("types"));
    }

    #[test]
    fn an_import_tells_the_grant_that_it_needs() {
        for (import, grant) in [
            ("state.get", Some("state")),
            ("clock.now-ms", Some("clock")),
            ("payload.read", None),
            ("wasi:messaging/types.message.data", None),
            ("wasi:messaging/producer.send", Some("publish")),
            ("wasi:messaging/request-reply.reply", Some("publish")),
            ("wasi:messaging/request-reply.request", None),
        ] {
            assert_eq!(Grants::needed_by(import), grant, "{import}");
        }
    }

    #[test]
    fn a_topic_needs_one_filter_that_takes_it() {
        let filters = ["counts/#", "alarms/+"].map(|text| Filter::new(text).expect("a filter"));
        let grants = Grants {
            publish: Some(filters.to_vec()),
            ..Grants::default()
        };
        assert!(grants.may_publish("counts/a/b") && grants.may_publish("alarms/a"));
        assert!(!grants.may_publish("alarms/a/b") && !grants.may_publish("other"));
        assert!(!Grants::default().may_publish("counts"));
    }
}
