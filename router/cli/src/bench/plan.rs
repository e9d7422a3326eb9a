//! What one run does, as data: the same plan drives a node and the floor, so that their figures
//! can be divided by each other.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use waypost_client::wire::{BATCH_MESSAGES_MAX, PAYLOAD_BYTES_MAX};

use super::stamp::{self, Shape};

/// How messages reach those who take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// To live subscribers; nothing is kept.
    Live,
    /// Through a queue with one group, whose consumers ack each batch.
    Queue,
}

/// When a queue's messages are confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// At once.
    Memory,
    /// After fdatasync.
    Sync,
}

/// How a group shares its messages out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Each message to one of the consumers.
    Shared,
    /// All to one consumer at a time.
    Exclusive,
    /// All of one key to one consumer at a time.
    Key,
}

/// The options of a run, as given.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// Live subscribers, or a queue; `queue` where --consumers is given
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Publishers, each with a connection of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    publishers: usize,
    /// Consumers of one group [default: as many as publishers]
    #[arg(long, value_name = "N", conflicts_with = "subscribers")]
    consumers: Option<usize>,
    /// Live subscribers [default: as many as publishers]
    #[arg(long, value_name = "N")]
    subscribers: Option<usize>,
    /// Payload of a message, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    payload: usize,
    /// Payloads are JSON documents of an earthquake, for plugins that parse
    #[arg(long)]
    json_payload: bool,
    /// Messages in one batch
    #[arg(long, value_name = "N", default_value_t = 256)]
    batch: u32,
    /// Unconfirmed messages of a publisher at most
    #[arg(long, value_name = "N", default_value_t = 4096)]
    window: u32,
    /// Messages published and not yet delivered, for each publisher, at most; 0: no limit
    /// [default: 16384 live, 0 with a queue]
    #[arg(long, value_name = "N")]
    lag: Option<u64>,
    /// One message a batch and so many unconfirmed: with 1, the time of a confirm
    #[arg(long, value_name = "N", conflicts_with_all = ["batch", "window", "rate"])]
    in_flight: Option<u32>,
    /// Consumers wait until all is published; rates are over both
    #[arg(long)]
    backlog: bool,
    /// When a queue's messages are confirmed
    #[arg(long, value_enum, default_value_t = Durability::Sync)]
    durability: Durability,
    /// How the consumers' group shares messages out
    #[arg(long, value_enum, default_value_t = Kind::Shared)]
    kind: Kind,
    /// Messages have keys, so many different ones in turn; 0: none
    #[arg(long, value_name = "N", default_value_t = 0)]
    keys: u32,
    /// Publishers are producers: their messages are numbered, and each is stored once
    #[arg(long)]
    producer: bool,
    /// Messages a second over all publishers (open loop); without it, as fast as it goes
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// How long to measure, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    duration: f64,
    /// How long to run before measuring, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    warmup: f64,
    /// So many messages of each publisher instead of a duration; all of them are measured
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "warmup"])]
    messages: Option<u64>,
    /// Threads of the load [default: one for each core]
    #[arg(long, value_name = "N")]
    client_threads: Option<usize>,
}

/// What one run does; checked.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Live or queue.
    pub mode: Mode,
    /// Of the queue.
    pub durability: Durability,
    /// Of the consumers' group.
    pub kind: Kind,
    /// Different keys that messages have in turn; 0: none.
    pub keys: u32,
    /// Whether publishers number their messages, so that each is stored once.
    pub producer: bool,
    /// Publishers, a connection each.
    pub publishers: usize,
    /// Consumers or subscribers, a connection each.
    pub receivers: usize,
    /// Bytes of payload.
    pub payload_bytes: usize,
    /// What a payload looks like.
    pub shape: Shape,
    /// Messages in a batch; in an open loop, at most.
    pub batch: u32,
    /// Unconfirmed messages of a publisher.
    pub window: u32,
    /// Undelivered messages of a publisher; 0: no limit.
    pub lag: u64,
    /// Whether consumers wait until all is published.
    pub backlog: bool,
    /// Messages a second over all publishers; `None`: closed loop.
    pub rate: Option<f64>,
    /// When it ends.
    pub length: Length,
    /// Time before measuring.
    pub warmup: Duration,
    /// Threads of the load.
    pub client_threads: usize,
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// After so long, beside the warm-up.
    Time(Duration),
    /// After so many messages of each publisher.
    Messages(u64),
}

impl LoadArgs {
    /// The plan, or which option makes no sense.
    pub fn plan(&self) -> Result<Plan> {
        let mode = match (self.mode, self.consumers, self.subscribers) {
            (Some(Mode::Live), Some(_), _) => bail!("--consumers are for --mode queue"),
            (Some(Mode::Queue), _, Some(_)) => bail!("--subscribers are for --mode live"),
            (Some(mode), ..) => mode,
            (None, Some(_), _) => Mode::Queue,
            (None, None, _) => Mode::Live,
        };
        let (batch, window) = match self.in_flight {
            Some(in_flight) => (1, in_flight),
            None => (self.batch.min(self.window), self.window),
        };
        let plan = Plan {
            mode,
            durability: self.durability,
            kind: self.kind,
            keys: self.keys,
            producer: self.producer,
            publishers: self.publishers,
            receivers: self
                .consumers
                .or(self.subscribers)
                .unwrap_or(self.publishers),
            payload_bytes: self.payload,
            shape: match self.json_payload {
                true => Shape::Json,
                false => Shape::Binary,
            },
            batch,
            window,
            lag: self.lag.unwrap_or(match mode {
                Mode::Live => 16_384,
                Mode::Queue => 0,
            }),
            backlog: self.backlog,
            rate: self.rate,
            length: match self.messages {
                Some(count) => Length::Messages(count),
                None => Length::Time(seconds("--duration", self.duration)?),
            },
            warmup: match self.messages {
                Some(_) => Duration::ZERO,
                None => seconds("--warmup", self.warmup)?,
            },
            client_threads: self.client_threads.unwrap_or_else(cores),
        };
        plan.check()?;
        Ok(plan)
    }
}

impl Plan {
    /// A closed loop over live topics, 1→1; the presets change what they need.
    pub fn live(payload_bytes: usize, length: Duration) -> Plan {
        Plan {
            mode: Mode::Live,
            durability: Durability::Sync,
            kind: Kind::Shared,
            keys: 0,
            producer: false,
            publishers: 1,
            receivers: 1,
            payload_bytes,
            shape: Shape::Binary,
            batch: BATCH_MESSAGES_MAX as u32,
            window: 4096,
            lag: 16_384,
            backlog: false,
            rate: None,
            length: Length::Time(length),
            warmup: Duration::from_millis(500),
            client_threads: cores(),
        }
    }

    /// The same through a queue that syncs, with a window of 256 and `pairs` publishers and
    /// consumers.
    pub fn stored(pairs: usize, payload_bytes: usize, length: Duration) -> Plan {
        Plan {
            mode: Mode::Queue,
            publishers: pairs,
            receivers: pairs,
            window: 256,
            lag: 0,
            ..Plan::live(payload_bytes, length)
        }
    }

    /// Whether a confirm promises that the message is on disk.
    pub fn is_stored(&self) -> bool {
        self.mode == Mode::Queue && self.durability == Durability::Sync
    }

    /// The topic of a publisher.
    pub fn topic(&self, publisher: usize) -> String {
        format!("bench/{publisher}")
    }

    /// The publishers whose messages receiver `receiver` takes, where each takes its own (live):
    /// one or, with fewer receivers than publishers, several.
    pub fn followed(&self, receiver: usize) -> Vec<usize> {
        match self.receivers < self.publishers {
            true => (0..self.publishers)
                .filter(|p| p % self.receivers == receiver)
                .collect(),
            false => vec![receiver % self.publishers],
        }
    }

    /// One line that says what was done.
    pub fn describe(&self) -> String {
        let how = match (self.mode, self.durability) {
            (Mode::Live, _) => "live",
            (Mode::Queue, Durability::Sync) => "queue stored",
            (Mode::Queue, Durability::Memory) => "queue memory",
        };
        let pace = match self.rate {
            Some(rate) => format!("{rate} msg/s open loop"),
            None => format!("batch {} window {}", self.batch, self.window),
        };
        let (publishers, receivers) = (self.publishers, self.receivers);
        let bytes = self.payload_bytes;
        let backlog = if self.backlog { " backlog" } else { "" };
        let kind = match self.kind {
            Kind::Shared => "",
            Kind::Exclusive => " exclusive",
            Kind::Key => " key",
        };
        let producer = if self.producer { " producer" } else { "" };
        format!("{how}{kind}{producer} {publishers}→{receivers} {bytes} B {pace}{backlog}")
    }

    fn check(&self) -> Result<()> {
        let payload_min = stamp::payload_bytes_min(self.shape);
        if !(payload_min..=PAYLOAD_BYTES_MAX).contains(&self.payload_bytes) {
            bail!(
                "--payload {} is not between {payload_min}, which sequence and time need, and \
                 {PAYLOAD_BYTES_MAX}",
                self.payload_bytes
            );
        }
        for (option, value) in [
            ("--publishers", self.publishers),
            ("--consumers or --subscribers", self.receivers),
            ("--client-threads", self.client_threads),
        ] {
            if !(1..=1024).contains(&value) {
                bail!("{option} {value} is not between 1 and 1024");
            }
        }
        if !(1..=BATCH_MESSAGES_MAX as u32).contains(&self.batch) {
            bail!(
                "--batch {} is not between 1 and {BATCH_MESSAGES_MAX}",
                self.batch
            );
        }
        if !(1..=1 << 20).contains(&self.window) {
            bail!("--window {} is not between 1 and {}", self.window, 1 << 20);
        }
        if self.keys > 1 << 20 {
            bail!("--keys {} is not between 0 and {}", self.keys, 1 << 20);
        }
        if self.producer && self.mode == Mode::Live {
            bail!("--producer needs --mode queue");
        }
        if self.kind != Kind::Shared && self.mode == Mode::Live {
            bail!("--kind needs --mode queue");
        }
        if self.backlog && (self.mode == Mode::Live || self.lag > 0) {
            bail!("--backlog needs --mode queue and no --lag");
        }
        if self.lag > 0 && self.lag < u64::from(self.batch) {
            bail!("--lag {} is less than one batch", self.lag);
        }
        match self.rate {
            Some(rate) if !(rate > 0.0 && rate <= 1e8) => bail!("--rate {rate} is not above 0"),
            _ => Ok(()),
        }
    }
}

fn seconds(option: &str, value: f64) -> Result<Duration> {
    match Duration::try_from_secs_f64(value) {
        Ok(time) if value <= 86_400.0 => Ok(time),
        _ => bail!("{option} {value} is not a number of seconds up to a day"),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_publisher_is_followed_and_nobody_twice() {
        for (publishers, receivers) in [(1, 1), (4, 4), (1, 3), (5, 2), (2, 5)] {
            let plan = Plan {
                publishers,
                receivers,
                ..Plan::live(128, Duration::ZERO)
            };
            let mut seen = vec![0; publishers];
            for receiver in 0..receivers {
                plan.followed(receiver).iter().for_each(|p| seen[*p] += 1);
            }
            let per = receivers.div_ceil(publishers);
            assert!(
                seen.iter().all(|n| (1..=per).contains(n)),
                "{publishers}→{receivers}: {seen:?}"
            );
        }
    }
}
