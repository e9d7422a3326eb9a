//! What `waypost queue add` says of time, priority and last values.

use std::time::Duration;

use clap::ValueEnum;
use waypost_client::wire::control::{Expired, QueueSettings};

use crate::units::parse_duration;

/// How long a queue's messages live, and which come first.
#[derive(Debug, clap::Args)]
pub struct TimeArgs {
    /// How long a message may wait to be delivered [default: as long as it says, or for ever]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Where expired messages go
    #[arg(long, value_enum, default_value_t)]
    expired: ExpiredArg,
    /// Messages older than this go, delivered or not [default: none do]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    age_max: Option<Duration>,
    /// Priority levels, 1 to 8: higher ones are delivered first
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true,
        value_parser = clap::value_parser!(u32).range(1..=8))]
    priorities: u32,
    /// Keep only the newest message of each key
    #[arg(long, conflicts_with = "priorities")]
    last_value: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ExpiredArg {
    /// To the dead letters
    #[default]
    DeadLetter,
    /// Away
    Drop,
}

impl TimeArgs {
    /// Writes what was said into a queue's settings.
    pub fn apply(&self, settings: &mut QueueSettings) {
        let ms = |time: Option<Duration>| time.map_or(0, millis);
        settings.ttl_ms = ms(self.ttl);
        settings.age_max_ms = ms(self.age_max);
        settings.priorities = self.priorities;
        settings.last_value = self.last_value;
        settings.expired = match self.expired {
            ExpiredArg::DeadLetter => Expired::ToDeadLetter,
            ExpiredArg::Drop => Expired::Dropped,
        } as i32;
    }
}

/// A duration as the wire has it.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 2)
}
