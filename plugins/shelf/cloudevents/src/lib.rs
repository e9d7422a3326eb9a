//! Wraps messages in CloudEvents 1.0, and unwraps them. The settings are described in
//! `settings.json`; the formats are those of the JSON event format, and of the HTTP binding for
//! headers.

mod time;
mod unwrap;
mod wrap;

use shelf_kit::{Fate, Settings};
use waypost_plugin::{Config, InitError, Interest, Message, Outcome, Plugin, Transform};

/// The content type of an event in JSON.
const STRUCTURED: &str = "application/cloudevents+json";
/// The version of the specification.
const VERSION: &str = "1.0";

enum CloudEvents {
    Wrap(wrap::Wrap),
    Unwrap(unwrap::Unwrap),
}

#[derive(Clone, Copy)]
enum Direction {
    Wrap,
    Unwrap,
}

impl Plugin for CloudEvents {
    fn init(config: &Config) -> Result<(CloudEvents, Interest), InitError> {
        let settings = Settings::new(config);
        settings.required("do", "wrap or unwrap")?;
        let words = [("wrap", Direction::Wrap), ("unwrap", Direction::Unwrap)];
        let direction = settings.choice("do", &words)?;
        let prefix = settings.text("prefix").unwrap_or("ce-").to_owned();
        let (events, interest) = match direction {
            Direction::Wrap => {
                let (wrap, interest) = wrap::Wrap::new(&settings, prefix)?;
                (CloudEvents::Wrap(wrap), interest)
            }
            Direction::Unwrap => {
                let on_invalid = Fate::or_pass(&settings, "on-invalid", Fate::DeadLetter)?;
                let unwrap = unwrap::Unwrap::new(prefix, on_invalid);
                let interest = unwrap.interest();
                (CloudEvents::Unwrap(unwrap), interest)
            }
        };
        settings.finish()?;
        Ok((events, interest))
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

impl Transform for CloudEvents {
    fn transform(&mut self, message: &Message<'_>) -> Outcome {
        match self {
            CloudEvents::Wrap(wrap) => wrap.transform(message),
            CloudEvents::Unwrap(unwrap) => unwrap.transform(message),
        }
    }
}

/// Names of attributes are lower-case letters and digits.
fn is_attribute(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty() && name.bytes().all(is_part)
}

waypost_plugin::export!(CloudEvents: transform, schema);

#[cfg(test)]
mod tests;
