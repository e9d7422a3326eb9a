//! A queue's settings as the log keeps them beside the queue, and as the network sends them: the
//! protobuf message `QueueSettings`.

use prost::Message;
use waypost_core::queue::{Durability, Settings};
use waypost_wire::Filter;
use waypost_wire::control;

/// Settings that this version cannot honour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Bytes that are not settings.
    #[error("queue settings do not parse: {0}")]
    Malformed(String),
    /// A durability that this version does not offer.
    #[error("durability '{0}' is not offered; expected 'sync' or 'memory'")]
    Durability(String),
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
    let default = Settings::default();
    let durability = match message.durability() {
        control::Durability::Sync => Durability::Sync,
        control::Durability::Memory => Durability::Memory,
        control::Durability::Interval => return Err(SettingsError::Durability("interval".into())),
    };
    let filter = |text: &String| {
        Filter::new(text.as_str()).map_err(|e| SettingsError::Filter {
            filter: text.clone(),
            reason: e.to_string(),
        })
    };
    let or = |value: u64, default| if value == 0 { default } else { value };
    Ok(Settings {
        durability,
        bytes_max: or(message.bytes_max, bytes_default),
        messages_max: (message.messages_max > 0).then_some(message.messages_max),
        ack_deadline_ms: or(message.ack_deadline_ms, default.ack_deadline_ms),
        deliver_max: or(
            u64::from(message.deliver_max),
            u64::from(default.deliver_max),
        ) as u32,
        from: message.from.iter().map(filter).collect::<Result<_, _>>()?,
    })
}

/// Settings as a message.
pub fn to_message(settings: &Settings) -> control::QueueSettings {
    let durability = match settings.durability {
        Durability::Sync => control::Durability::Sync,
        Durability::Memory => control::Durability::Memory,
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
    }
}

/// Settings as bytes.
pub fn encode_settings(settings: &Settings) -> Vec<u8> {
    to_message(settings).encode_to_vec()
}

/// Settings from bytes; empty bytes are the defaults.
pub fn decode_settings(bytes: &[u8]) -> Result<Settings, SettingsError> {
    let message = control::QueueSettings::decode(bytes)
        .map_err(|error| SettingsError::Malformed(error.to_string()))?;
    from_message(&message, Settings::default().bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let settings = Settings {
            durability: Durability::Memory,
            bytes_max: 5,
            messages_max: Some(6),
            ack_deadline_ms: 7,
            deliver_max: 8,
            from: vec![Filter::new("a/#").unwrap()],
        };
        assert_eq!(decode_settings(&encode_settings(&settings)), Ok(settings));
        assert_eq!(decode_settings(&[]), Ok(Settings::default()));
        assert!(matches!(
            decode_settings(&[0xff]),
            Err(SettingsError::Malformed(_))
        ));
        let interval = control::QueueSettings {
            durability: 1,
            ..Default::default()
        };
        assert!(matches!(
            from_message(&interval, 1),
            Err(SettingsError::Durability(_))
        ));
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
