//! Settings in, interest out: what `init` deals with.

use std::fmt::Display;
use std::str::FromStr;

use crate::{Config, HeaderInterest, InitError, Interest, PayloadInterest};

impl Config {
    /// The value of a setting; of the last one, if it stands there more than once.
    pub fn get(&self, setting: &str) -> Option<&str> {
        self.settings
            .iter()
            .rev()
            .find(|(name, _)| name == setting)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a setting as a `T`. A value that is not one gives an error that names it.
    pub fn parsed<T: FromStr<Err: Display>>(&self, setting: &str) -> Result<Option<T>, InitError> {
        self.get(setting)
            .map(|text| {
                text.parse()
                    .map_err(|error| InitError::of(setting, format!("'{text}': {error}")))
            })
            .transpose()
    }

    /// Refuses settings that are not in `known`, so that a slip of the pen is not passed over.
    pub fn allow(&self, known: &[&str]) -> Result<(), InitError> {
        match self
            .settings
            .iter()
            .find(|(name, _)| !known.contains(&name.as_str()))
        {
            Some((name, _)) => Err(InitError::of(
                name,
                format!("unknown setting, expected one of {}", known.join(", ")),
            )),
            None => Ok(()),
        }
    }

    /// The place of a destination of the route, by its name.
    pub fn destination(&self, name: &str) -> Option<u32> {
        self.destinations
            .iter()
            .position(|d| d == name)
            .map(|i| i as u32)
    }
}

impl InitError {
    /// A fault that is not one setting's.
    pub fn new(message: impl Into<String>) -> InitError {
        InitError {
            setting: None,
            message: message.into(),
        }
    }

    /// A fault of one setting.
    pub fn of(setting: &str, message: impl Into<String>) -> InitError {
        InitError {
            setting: Some(setting.to_owned()),
            message: message.into(),
        }
    }
}

impl Interest {
    /// Topic and receive time only.
    pub fn nothing() -> Interest {
        Interest {
            headers: HeaderInterest::Nothing,
            payload: PayloadInterest::Nothing,
            fields: Vec::new(),
            max_batch: 0,
        }
    }

    /// Also this header.
    #[must_use]
    pub fn header(mut self, name: &str) -> Interest {
        match &mut self.headers {
            HeaderInterest::Nothing => self.headers = HeaderInterest::Only(vec![name.to_owned()]),
            HeaderInterest::Only(names) => names.push(name.to_owned()),
            HeaderInterest::Everything => {}
        }
        self
    }

    /// Also all headers.
    #[must_use]
    pub fn all_headers(mut self) -> Interest {
        self.headers = HeaderInterest::Everything;
        self
    }

    /// Also the whole payload.
    #[must_use]
    pub fn payload(mut self) -> Interest {
        self.payload = PayloadInterest::Everything;
        self
    }

    /// Also the first `bytes` of the payload.
    #[must_use]
    pub fn payload_prefix(mut self, bytes: u32) -> Interest {
        self.payload = PayloadInterest::Prefix(bytes);
        self
    }

    /// Also one of `key`, `content-type`, `message-id`, `reply-to`, `ttl`.
    #[must_use]
    pub fn field(mut self, name: &str) -> Interest {
        self.fields.push(name.to_owned());
        self
    }

    /// At most so many messages in one call.
    #[must_use]
    pub fn max_batch(mut self, messages: u32) -> Interest {
        self.max_batch = messages;
        self
    }
}
