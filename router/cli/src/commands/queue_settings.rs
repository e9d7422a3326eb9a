//! A queue's settings on the command line: the names of the configuration's `[[queue]]`, with
//! dashes; and which of them `queue info` shows.
//!
//! Invariant: a setting that is not named is left as it is. On a new queue that is its default,
//! which the wire's message has where nothing is set.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Map, Value, json};
use waypost_client::Filter;
use waypost_client::wire::control::{
    AtLimit, DeliverWhen, Durability, Expired, QueueSettings, Retain, SlowGroup,
};

use crate::times::millis;
use crate::units::{self, count, parse_duration, parse_size};

/// What to do with messages, where to send them, and how many to keep.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Settings (in brackets: of a new queue)")]
pub struct SettingArgs {
    /// Topics that reach it without a route; may be given several times, '' is none [default: none]
    #[arg(long, value_name = "FILTER", value_parser = parse_filter_or_none)]
    from: Option<Vec<String>>,
    /// When messages are confirmed: after they are synced, between syncs, or in memory [default: sync]
    #[arg(long, value_parser = one_of(DURABILITY))]
    durability: Option<i32>,
    /// With --durability interval: synced at least so often [default: 100ms]
    #[arg(long, value_name = "TIME", value_parser = between("1ms", "60s"))]
    interval: Option<u64>,
    /// Bytes in it at most [default: the node's queue_bytes]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    bytes_max: Option<u64>,
    /// Messages in it at most; 0 is no limit [default: 0]
    #[arg(long, value_name = "N")]
    messages_max: Option<u64>,
    /// Messages older than this go, acked or not; 0s is no limit [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = between("0s", "36600d"))]
    age_max: Option<u64>,
    /// At its limits: refuse publishers, or the oldest messages make room [default: refuse]
    #[arg(long, value_parser = one_of(AT_LIMIT))]
    at_limit: Option<i32>,
    /// Keep messages until each group has acked them, or until a limit [default: until-acked]
    #[arg(long, value_parser = one_of(RETAIN))]
    retain: Option<i32>,
    /// Keep only the newest message of each key [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    last_value: Option<bool>,
    /// Deliver what is on disk, or at once [default: synced]
    #[arg(long, value_parser = one_of(DELIVER))]
    deliver: Option<i32>,
    /// How long a message may wait to be delivered; 0s is for ever [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = between("0s", "36600d"))]
    ttl: Option<u64>,
    /// Where expired messages go [default: dead-letter]
    #[arg(long, value_parser = one_of(EXPIRED))]
    expired: Option<i32>,
    /// Priority levels, 1 to 8: higher ones are delivered first [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    priorities: Option<u32>,
    /// How long message ids are remembered; 0s is not at all [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = between("0s", "366d"))]
    dedup_window: Option<u64>,
    /// So many of them at most: messages with more are refused [default: 65536]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=131_072))]
    dedup_ids_max: Option<u32>,
    /// The queue that its dead letters go to [default: dead-letter]
    #[arg(long, value_name = "QUEUE")]
    dead_letter: Option<String>,
    /// When a group is --slow-messages behind: keep them, hold publishers, or close consumers [default: spill]
    #[arg(long, value_parser = one_of(SLOW))]
    slow: Option<i32>,
    /// So far behind a group is slow; 0 is never [default: 0]
    #[arg(long, value_name = "N")]
    slow_messages: Option<u64>,
    /// How long a consumer has to ack before a message is delivered again [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = between("100ms", "1d"))]
    ack_deadline: Option<u64>,
    /// Deliveries of a message before it goes to the dead letters; 0 is no limit [default: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    deliver_max: Option<u32>,
    /// Wait before the third delivery, doubled for each after it [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = between("0s", "1d"))]
    backoff: Option<u64>,
    /// The longest such wait [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = between("1ms", "7d"))]
    backoff_max: Option<u64>,
}

/// A setting's words, as here and in the configuration, with their numbers on the wire.
type Words = &'static [(&'static str, i32)];

const DURABILITY: Words = &[
    ("sync", Durability::Sync as i32),
    ("interval", Durability::Interval as i32),
    ("memory", Durability::Memory as i32),
];
const AT_LIMIT: Words = &[
    ("refuse", AtLimit::Refuse as i32),
    ("drop-oldest", AtLimit::DropOldest as i32),
    ("dead-letter", AtLimit::DeadLetter as i32),
];
const RETAIN: Words = &[
    ("until-acked", Retain::UntilAcked as i32),
    ("log", Retain::Log as i32),
];
const DELIVER: Words = &[
    ("synced", DeliverWhen::Synced as i32),
    ("received", DeliverWhen::OnReceipt as i32),
];
const EXPIRED: Words = &[
    ("dead-letter", Expired::ToDeadLetter as i32),
    ("drop", Expired::Dropped as i32),
];
const SLOW: Words = &[
    ("spill", SlowGroup::Spill as i32),
    ("pause", SlowGroup::Hold as i32),
    ("disconnect", SlowGroup::Close as i32),
];

/// As the wire has "no limit of deliveries"; 0 is the default there.
const NO_LIMIT: u32 = u32::MAX;

fn one_of(words: Words) -> impl TypedValueParser<Value = i32> {
    PossibleValuesParser::new(words.iter().map(|(word, _)| *word)).map(move |text| {
        let found = words.iter().find(|(word, _)| *word == text);
        // The parser lets none but these words through; 0 is the default of each.
        found.map_or(0, |(_, number)| *number)
    })
}

/// A duration in these bounds, in ms.
fn between(
    low: &'static str,
    high: &'static str,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync {
    move |text| {
        let ms = millis(parse_duration(text)?);
        let bound = |text| parse_duration(text).map(millis);
        match (bound(low)?..=bound(high)?).contains(&ms) {
            true => Ok(ms),
            false => Err(format!("expected {low} to {high}")),
        }
    }
}

/// A topic filter.
pub fn parse_filter(text: &str) -> Result<String, String> {
    let filter = Filter::new(text).map_err(|error| format!("the filter {error}"))?;
    Ok(filter.as_str().to_owned())
}

fn parse_filter_or_none(text: &str) -> Result<String, String> {
    match text {
        "" => Ok(String::new()),
        _ => parse_filter(text),
    }
}

impl SettingArgs {
    /// Whether no setting is named.
    pub fn is_empty(&self) -> bool {
        let SettingArgs {
            from,
            durability,
            interval,
            bytes_max,
            messages_max,
            age_max,
            at_limit,
            retain,
            last_value,
            deliver,
            ttl,
            expired,
            priorities,
            dedup_window,
            dedup_ids_max,
            dead_letter,
            slow,
            slow_messages,
            ack_deadline,
            deliver_max,
            backoff,
            backoff_max,
        } = self;
        let words = [durability, at_limit, retain, deliver, expired, slow];
        let longs = [
            interval,
            bytes_max,
            messages_max,
            age_max,
            ttl,
            dedup_window,
            slow_messages,
            ack_deadline,
            backoff,
            backoff_max,
        ];
        from.is_none()
            && last_value.is_none()
            && dead_letter.is_none()
            && [priorities, deliver_max, dedup_ids_max]
                .iter()
                .all(|v| v.is_none())
            && words.iter().all(|v| v.is_none())
            && longs.iter().all(|v| v.is_none())
    }

    /// Writes what was said into a queue's settings.
    pub fn apply(self, settings: &mut QueueSettings) {
        let from = self.from.map(|mut filters| {
            filters.retain(|filter| !filter.is_empty());
            filters
        });
        let deliver_max = self.deliver_max.map(|most| match most {
            0 => NO_LIMIT,
            most => most,
        });
        put(&mut settings.from, from);
        put(&mut settings.durability, self.durability);
        put(&mut settings.interval_ms, self.interval);
        put(&mut settings.bytes_max, self.bytes_max);
        put(&mut settings.messages_max, self.messages_max);
        put(&mut settings.age_max_ms, self.age_max);
        put(&mut settings.at_limit, self.at_limit);
        put(&mut settings.retain, self.retain);
        put(&mut settings.last_value, self.last_value);
        put(&mut settings.deliver, self.deliver);
        put(&mut settings.ttl_ms, self.ttl);
        put(&mut settings.expired, self.expired);
        put(&mut settings.priorities, self.priorities);
        put(&mut settings.dedup_window_ms, self.dedup_window);
        put(&mut settings.dedup_ids_max, self.dedup_ids_max);
        put(&mut settings.dead_letter, self.dead_letter);
        put(&mut settings.slow, self.slow);
        put(&mut settings.slow_messages, self.slow_messages);
        put(&mut settings.ack_deadline_ms, self.ack_deadline);
        put(&mut settings.deliver_max, deliver_max);
        put(&mut settings.backoff_ms, self.backoff);
        put(&mut settings.backoff_max_ms, self.backoff_max);
    }
}

fn put<T>(to: &mut T, said: Option<T>) {
    if let Some(value) = said {
        *to = value;
    }
}

/// A setting as it is shown.
pub struct Shown {
    /// As in the configuration: `bytes_max`.
    pub name: &'static str,
    /// For programs; durations are in ms, and their name ends in `_ms` there.
    json: (&'static str, Value),
    /// For people.
    pub text: String,
    /// Whether a queue that was told nothing has it so. The limit in bytes never is: it is the
    /// node's to say.
    pub is_default: bool,
}

/// All settings, in the order of the configuration's manual.
pub fn shown(settings: &QueueSettings) -> Vec<Shown> {
    let s = settings;
    vec![
        word("durability", DURABILITY, s.durability),
        time("interval", "interval_ms", s.interval_ms, 100),
        Shown {
            name: "bytes_max",
            json: ("bytes_max", json!(s.bytes_max)),
            text: units::size(s.bytes_max),
            is_default: false,
        },
        number("messages_max", s.messages_max, 0),
        time("age_max", "age_max_ms", s.age_max_ms, 0),
        word("at_limit", AT_LIMIT, s.at_limit),
        word("retain", RETAIN, s.retain),
        Shown {
            name: "last_value",
            json: ("last_value", json!(s.last_value)),
            text: s.last_value.to_string(),
            is_default: !s.last_value,
        },
        word("deliver", DELIVER, s.deliver),
        time("ttl", "ttl_ms", s.ttl_ms, 0),
        word("expired", EXPIRED, s.expired),
        number("priorities", s.priorities.max(1).into(), 1),
        time("dedup_window", "dedup_window_ms", s.dedup_window_ms, 0),
        dedup_ids_max(s.dedup_ids_max),
        dead_letter(&s.dead_letter),
        word("slow", SLOW, s.slow),
        number("slow_messages", s.slow_messages, 0),
        time("ack_deadline", "ack_deadline_ms", s.ack_deadline_ms, 30_000),
        deliver_max(s.deliver_max),
        time("backoff", "backoff_ms", s.backoff_ms, 0),
        time("backoff_max", "backoff_max_ms", s.backoff_max_ms, 60_000),
        Shown {
            name: "from",
            json: ("from", json!(s.from)),
            text: s.from.join(", "),
            is_default: s.from.is_empty(),
        },
    ]
}

/// All settings for programs.
pub fn to_json(settings: &QueueSettings) -> Map<String, Value> {
    let pair = |shown: Shown| (shown.json.0.to_owned(), shown.json.1);
    shown(settings).into_iter().map(pair).collect()
}

/// What a queue promises of its messages.
pub fn durability(settings: &QueueSettings) -> &'static str {
    word_of(DURABILITY, settings.durability)
}

fn word_of(words: Words, number: i32) -> &'static str {
    let found = words.iter().find(|(_, n)| *n == number);
    // A newer node may have more of them.
    found.map_or("unknown", |(word, _)| *word)
}

fn word(name: &'static str, words: Words, number: i32) -> Shown {
    let word = word_of(words, number);
    Shown {
        name,
        json: (name, json!(word)),
        text: word.to_owned(),
        is_default: number == 0,
    }
}

fn time(name: &'static str, json_name: &'static str, ms: u64, default: u64) -> Shown {
    let text = match ms {
        0 => "none".to_owned(),
        ms => units::duration(Duration::from_millis(ms)),
    };
    Shown {
        name,
        json: (json_name, json!(ms)),
        text,
        is_default: ms == default || ms == 0,
    }
}

fn number(name: &'static str, number: u64, default: u64) -> Shown {
    Shown {
        name,
        json: (name, json!(number)),
        text: count(number),
        is_default: number == default,
    }
}

fn deliver_max(most: u32) -> Shown {
    if most == NO_LIMIT {
        return Shown {
            text: "no limit".to_owned(),
            ..number("deliver_max", 0, 20)
        };
    }
    number("deliver_max", most.into(), 20)
}

/// The node says nothing where it is the default.
fn dedup_ids_max(most: u32) -> Shown {
    const DEFAULT: u64 = 65_536;
    let most = if most == 0 { DEFAULT } else { most.into() };
    number("dedup_ids_max", most, DEFAULT)
}

/// The node says nothing where it is its own queue.
fn dead_letter(name: &str) -> Shown {
    const NODES: &str = "dead-letter";
    let name = if name.is_empty() { NODES } else { name };
    Shown {
        name: "dead_letter",
        json: ("dead_letter", json!(name)),
        text: name.to_owned(),
        is_default: name == NODES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        settings: SettingArgs,
    }

    fn parse(line: &str) -> Result<SettingArgs, String> {
        let words = ["set"].into_iter().chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(line.settings)
    }

    const ALL: &str = "--from a/# --from b --durability interval --interval 1s --bytes-max 2MiB \
        --messages-max 3 --age-max 4s --at-limit drop-oldest --retain log --last-value \
        --deliver received --ttl 5s --expired drop --priorities 6 --dedup-window 7s \
        --dedup-ids-max 12 \
        --dead-letter d --slow pause --slow-messages 8 --ack-deadline 9s --deliver-max 0 \
        --backoff 10s --backoff-max 11s";

    #[test]
    fn every_setting_can_be_said_and_is_shown() {
        let mut settings = QueueSettings::default();
        parse(ALL).unwrap().apply(&mut settings);
        let differs: Vec<(&str, String)> = shown(&settings)
            .into_iter()
            .filter(|shown| !shown.is_default)
            .map(|shown| (shown.name, shown.text))
            .collect();
        let expected = [
            ("durability", "interval"),
            ("interval", "1.00 s"),
            ("bytes_max", "2.0 MiB"),
            ("messages_max", "3"),
            ("age_max", "4.00 s"),
            ("at_limit", "drop-oldest"),
            ("retain", "log"),
            ("last_value", "true"),
            ("deliver", "received"),
            ("ttl", "5.00 s"),
            ("expired", "drop"),
            ("priorities", "6"),
            ("dedup_window", "7.00 s"),
            ("dedup_ids_max", "12"),
            ("dead_letter", "d"),
            ("slow", "pause"),
            ("slow_messages", "8"),
            ("ack_deadline", "9.00 s"),
            ("deliver_max", "no limit"),
            ("backoff", "10.0 s"),
            ("backoff_max", "11.0 s"),
            ("from", "a/#, b"),
        ];
        assert_eq!(differs, expected.map(|(name, text)| (name, text.into())));
        assert_eq!(to_json(&settings)["ttl_ms"], 5000);
    }

    #[test]
    fn what_is_not_said_stays() {
        let nothing = parse("").unwrap();
        assert!(nothing.is_empty());
        let mut settings = QueueSettings::default();
        nothing.apply(&mut settings);
        assert_eq!(settings, QueueSettings::default());
        for option in ALL.split("--").skip(1) {
            assert!(
                !parse(&format!("--{option}")).unwrap().is_empty(),
                "{option}"
            );
        }
        parse(ALL).unwrap().apply(&mut settings);
        let before = settings.clone();
        parse("--last-value=false --messages-max 0")
            .unwrap()
            .apply(&mut settings);
        assert_eq!(
            settings,
            QueueSettings {
                last_value: false,
                messages_max: 0,
                ..before
            }
        );
        let none = Line::try_parse_from(["set", "--from", ""]).unwrap();
        none.settings.apply(&mut settings);
        assert!(settings.from.is_empty());
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        for (line, expected) in [
            ("--ack-deadline 5", "expected a duration"),
            ("--ack-deadline 5ms", "expected 100ms to 1d"),
            ("--at-limit drop", "refuse, drop-oldest, dead-letter"),
            ("--priorities 9", "1..=8"),
            ("--last-value=maybe", "possible values: true, false"),
            ("--bytes-max lots", "expected a size"),
            ("--from a/#/b", "'#' must fill the last"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
