//! A queue's settings as the log keeps them beside the queue, and as the network sends them: the
//! protobuf message `QueueSettings`.

use prost::Message;
use waypost_core::journal::{GroupKind, GroupOptions};
use waypost_core::message_ids::{DEDUP_IDS_DEFAULT, DEDUP_IDS_LIMIT};
use waypost_core::queue::{
    AtLimit, DeliverWhen, Durability, Expired, PRIORITIES_MAX, Retain, Settings, SlowGroup,
};
use waypost_wire::Filter;
use waypost_wire::control;

/// Settings that this version cannot honour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Bytes that are not settings.
    #[error("queue settings do not parse: {0}")]
    Malformed(String),
    /// A number that stands for nothing in this version.
    #[error("{field} {number} is unknown to this version")]
    Unknown {
        /// The field.
        field: &'static str,
        /// Its value.
        number: i32,
    },
    /// A value out of its range.
    #[error("{field} is {found}, expected {expected}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What it may be.
        expected: &'static str,
    },
    /// Settings that exclude each other.
    #[error("{0}")]
    Together(&'static str),
    /// A filter that breaks the grammar.
    #[error("filter '{filter}' {reason}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Settings as a message; what is absent takes the default, `bytes_default` for the limit.
pub fn from_message(
    message: &control::QueueSettings,
    bytes_default: u64,
) -> Result<Settings, SettingsError> {
    let settings = read(message, bytes_default)?;
    check(&settings)?;
    Ok(settings)
}

fn read(message: &control::QueueSettings, bytes_default: u64) -> Result<Settings, SettingsError> {
    let default = Settings::default();
    let or = |value: u64, default| if value == 0 { default } else { value };
    let some = |value: u64| (value > 0).then_some(value);
    let priorities = match message.priorities {
        0 => 1,
        levels if levels <= u32::from(PRIORITIES_MAX) => levels as u8,
        levels => {
            return Err(SettingsError::Range {
                field: "priorities",
                found: levels.into(),
                expected: "1 to 8",
            });
        }
    };
    let settings = Settings {
        durability: match known("durability", message.durability)? {
            control::Durability::Sync => Durability::Sync,
            control::Durability::Interval => Durability::Interval,
            control::Durability::Memory => Durability::Memory,
        },
        bytes_max: or(message.bytes_max, bytes_default),
        messages_max: some(message.messages_max),
        ack_deadline_ms: or(message.ack_deadline_ms, default.ack_deadline_ms),
        deliver_max: match message.deliver_max {
            0 => default.deliver_max,
            attempts => attempts,
        },
        from: filters(&message.from)?,
        retain: match known("retain", message.retain)? {
            control::Retain::UntilAcked => Retain::UntilAcked,
            control::Retain::Log => Retain::Log,
        },
        age_max_ms: some(message.age_max_ms),
        at_limit: match known("at_limit", message.at_limit)? {
            control::AtLimit::Refuse => AtLimit::Refuse,
            control::AtLimit::DropOldest => AtLimit::DropOldest,
            control::AtLimit::DeadLetter => AtLimit::DeadLetter,
        },
        ttl_ms: some(message.ttl_ms),
        expired: match known("expired", message.expired)? {
            control::Expired::ToDeadLetter => Expired::DeadLetter,
            control::Expired::Dropped => Expired::Drop,
        },
        priorities,
        last_value: message.last_value,
        backoff_ms: message.backoff_ms,
        backoff_max_ms: or(message.backoff_max_ms, default.backoff_max_ms),
        dedup_window_ms: some(message.dedup_window_ms),
        dedup_ids_max: match message.dedup_ids_max {
            0 => DEDUP_IDS_DEFAULT,
            ids => ids,
        },
        deliver: match known("deliver", message.deliver)? {
            control::DeliverWhen::Synced => DeliverWhen::Synced,
            control::DeliverWhen::OnReceipt => DeliverWhen::Received,
        },
        interval_ms: or(message.interval_ms, default.interval_ms),
        dead_letter: match message.dead_letter.as_str() {
            "" => default.dead_letter,
            name => name.to_owned(),
        },
        slow: match known("slow", message.slow)? {
            control::SlowGroup::Spill => SlowGroup::Spill,
            control::SlowGroup::Hold => SlowGroup::Hold,
            control::SlowGroup::Close => SlowGroup::Close,
        },
        slow_messages: some(message.slow_messages),
    };
    check_together(&settings)?;
    Ok(settings)
}

/// Whether settings can be had, and together. What a log holds already is read without the first.
pub fn check(settings: &Settings) -> Result<(), SettingsError> {
    if settings.dedup_ids_max > DEDUP_IDS_LIMIT {
        return Err(SettingsError::Range {
            field: "dedup_ids_max",
            found: settings.dedup_ids_max.into(),
            expected: "131072 at most",
        });
    }
    check_together(settings)
}

fn check_together(settings: &Settings) -> Result<(), SettingsError> {
    if settings.last_value && settings.priorities > 1 {
        return Err(SettingsError::Together(
            "a queue that keeps the last value of each key has no priorities",
        ));
    }
    if settings.slow != SlowGroup::Spill && settings.slow_messages.is_none() {
        return Err(SettingsError::Together(
            "a queue that does something about slow groups says by slow_messages when",
        ));
    }
    Ok(())
}

/// Filters of one group: each is tried on each message.
pub const GROUP_FILTERS_MAX: usize = 64;

/// A group's options from a request.
pub fn group_options(kind: i32, topics: &[String]) -> Result<GroupOptions, SettingsError> {
    if topics.len() > GROUP_FILTERS_MAX {
        return Err(SettingsError::Range {
            field: "number of filters",
            found: topics.len() as u64,
            expected: "64 at most",
        });
    }
    Ok(GroupOptions {
        kind: match known("kind", kind)? {
            control::GroupKind::Shared => GroupKind::Shared,
            control::GroupKind::Exclusive => GroupKind::Exclusive,
            control::GroupKind::Key => GroupKind::Key,
        },
        filters: filters(topics)?,
    })
}

/// A group's kind as a message has it.
pub fn group_kind(kind: GroupKind) -> control::GroupKind {
    match kind {
        GroupKind::Shared => control::GroupKind::Shared,
        GroupKind::Exclusive => control::GroupKind::Exclusive,
        GroupKind::Key => control::GroupKind::Key,
    }
}

fn known<E: TryFrom<i32>>(field: &'static str, number: i32) -> Result<E, SettingsError> {
    E::try_from(number).map_err(|_| SettingsError::Unknown { field, number })
}

fn filters(texts: &[String]) -> Result<Vec<Filter>, SettingsError> {
    let filter = |text: &String| {
        Filter::new(text.as_str()).map_err(|e| SettingsError::Filter {
            filter: text.clone(),
            reason: e.to_string(),
        })
    };
    texts.iter().map(filter).collect()
}

/// Settings as a message.
pub fn to_message(settings: &Settings) -> control::QueueSettings {
    let durability = match settings.durability {
        Durability::Sync => control::Durability::Sync,
        Durability::Interval => control::Durability::Interval,
        Durability::Memory => control::Durability::Memory,
    };
    let retain = match settings.retain {
        Retain::UntilAcked => control::Retain::UntilAcked,
        Retain::Log => control::Retain::Log,
    };
    let at_limit = match settings.at_limit {
        AtLimit::Refuse => control::AtLimit::Refuse,
        AtLimit::DropOldest => control::AtLimit::DropOldest,
        AtLimit::DeadLetter => control::AtLimit::DeadLetter,
    };
    let expired = match settings.expired {
        Expired::DeadLetter => control::Expired::ToDeadLetter,
        Expired::Drop => control::Expired::Dropped,
    };
    let deliver = match settings.deliver {
        DeliverWhen::Synced => control::DeliverWhen::Synced,
        DeliverWhen::Received => control::DeliverWhen::OnReceipt,
    };
    let slow = match settings.slow {
        SlowGroup::Spill => control::SlowGroup::Spill,
        SlowGroup::Hold => control::SlowGroup::Hold,
        SlowGroup::Close => control::SlowGroup::Close,
    };
    let dead_letter = match settings.dead_letter.as_str() {
        waypost_core::DEAD_LETTER => String::new(),
        name => name.to_owned(),
    };
    control::QueueSettings {
        durability: durability as i32,
        bytes_max: settings.bytes_max,
        messages_max: settings.messages_max.unwrap_or(0),
        ack_deadline_ms: settings.ack_deadline_ms,
        deliver_max: settings.deliver_max,
        from: settings
            .from
            .iter()
            .map(|f| f.as_str().to_owned())
            .collect(),
        retain: retain as i32,
        age_max_ms: settings.age_max_ms.unwrap_or(0),
        at_limit: at_limit as i32,
        ttl_ms: settings.ttl_ms.unwrap_or(0),
        expired: expired as i32,
        priorities: match settings.priorities {
            1 => 0,
            levels => levels.into(),
        },
        last_value: settings.last_value,
        backoff_ms: settings.backoff_ms,
        backoff_max_ms: settings.backoff_max_ms,
        dedup_window_ms: settings.dedup_window_ms.unwrap_or(0),
        dedup_ids_max: match settings.dedup_ids_max {
            DEDUP_IDS_DEFAULT => 0,
            ids => ids,
        },
        deliver: deliver as i32,
        interval_ms: settings.interval_ms,
        dead_letter,
        slow: slow as i32,
        slow_messages: settings.slow_messages.unwrap_or(0),
    }
}

/// Settings as bytes.
pub fn encode_settings(settings: &Settings) -> Vec<u8> {
    to_message(settings).encode_to_vec()
}

/// What the log has beside the settings. A field of [`control::QueueSettings`] never has its number.
#[derive(Clone, PartialEq, prost::Message)]
struct Maker {
    /// Its place in [`MAKERS`], from 1; 0 is not known.
    #[prost(uint32, tag = "1000")]
    number: u32,
}

const MAKERS: [&str; 3] = ["config", "network", "node"];

/// Settings as the log has them, with who made the queue.
pub(crate) fn stored(settings: &Settings, made_by: Option<&str>) -> Vec<u8> {
    let place = MAKERS.iter().position(|maker| Some(*maker) == made_by);
    let number = place.map_or(0, |place| place as u32 + 1);
    let mut bytes = encode_settings(settings);
    bytes.extend(Maker { number }.encode_to_vec());
    bytes
}

/// Who made a queue, where the log says so.
pub(crate) fn made_by(bytes: &[u8]) -> Option<&'static str> {
    let maker = Maker::decode(bytes).ok()?;
    let place = (maker.number as usize).checked_sub(1)?;
    MAKERS.get(place).copied()
}

/// Whether a queue with these stored settings was made over the network.
pub fn is_made_over_network(bytes: &[u8]) -> bool {
    made_by(bytes) == Some("network")
}

/// Settings from bytes; empty bytes are the defaults.
pub fn decode_settings(bytes: &[u8]) -> Result<Settings, SettingsError> {
    let message = control::QueueSettings::decode(bytes)
        .map_err(|error| SettingsError::Malformed(error.to_string()))?;
    read(&message, Settings::default().bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let settings = Settings {
            durability: Durability::Interval,
            bytes_max: 5,
            messages_max: Some(6),
            ack_deadline_ms: 7,
            deliver_max: 8,
            from: vec![Filter::new("a/#").unwrap()],
            retain: Retain::Log,
            age_max_ms: Some(9),
            at_limit: AtLimit::DeadLetter,
            ttl_ms: Some(10),
            expired: Expired::Drop,
            priorities: 4,
            last_value: false,
            backoff_ms: 11,
            backoff_max_ms: 12,
            dedup_window_ms: Some(13),
            dedup_ids_max: 14,
            deliver: DeliverWhen::Received,
            interval_ms: 14,
            dead_letter: "late".into(),
            slow: SlowGroup::Close,
            slow_messages: Some(15),
        };
        assert_eq!(decode_settings(&encode_settings(&settings)), Ok(settings));
        assert_eq!(decode_settings(&[]), Ok(Settings::default()));
        assert!(matches!(
            decode_settings(&[0xff]),
            Err(SettingsError::Malformed(_))
        ));
        let unknown = control::QueueSettings {
            at_limit: 77,
            ..Default::default()
        };
        let error = from_message(&unknown, 1).unwrap_err();
        assert_eq!(error.to_string(), "at_limit 77 is unknown to this version");
        let nine = control::QueueSettings {
            priorities: 9,
            ..Default::default()
        };
        let error = from_message(&nine, 1).unwrap_err();
        assert_eq!(error.to_string(), "priorities is 9, expected 1 to 8");
        let window = control::QueueSettings {
            dedup_ids_max: 131_073,
            ..Default::default()
        };
        let error = from_message(&window, 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "dedup_ids_max is 131073, expected 131072 at most"
        );
        let bad = control::QueueSettings {
            from: vec!["a/#/b".into()],
            ..Default::default()
        };
        assert!(matches!(
            from_message(&bad, 1),
            Err(SettingsError::Filter { .. })
        ));
    }
}
