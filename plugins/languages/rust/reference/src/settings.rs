//! Numbers in settings and headers, by JSON's grammar: it is the same in every language.

use waypost_plugin::{Config, InitError};

/// A setting that is a number.
pub fn number(config: &Config, setting: &str) -> Result<Option<f64>, InitError> {
    let Some(text) = config.get(setting) else {
        return Ok(None);
    };
    match json_number(text.as_bytes()) {
        Some(number) => Ok(Some(number)),
        None => Err(InitError::of(setting, format!("'{text}' is not a number"))),
    }
}

/// A number as JSON writes it, with nothing around it.
pub fn json_number(text: &[u8]) -> Option<f64> {
    let trimmed = text.first()? == &b'-' || text.first()?.is_ascii_digit();
    if !trimmed || !text.last()?.is_ascii_digit() {
        return None;
    }
    serde_json::from_slice(text).ok()
}
