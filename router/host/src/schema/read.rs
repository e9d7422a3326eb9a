//! JSON into a [`SettingsSchema`], keyword by keyword.

use regex_lite::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::{Bound, Kind, Others, Setting, SettingsSchema};

/// Bytes of a schema at most.
const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// Bytes of a compiled pattern at most.
const PATTERN_BYTES_MAX: usize = 256 << 10;
/// Settings and patterns that a schema may name.
const SETTINGS_MAX: usize = 1_024;

/// Keywords that describe and check nothing.
const ANNOTATIONS: &[&str] = &[
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
];

/// What is wrong, with the JSON pointer of the place.
type Read<T> = Result<T, String>;

pub(super) fn schema(text: &str) -> Read<SettingsSchema> {
    if text.len() > SCHEMA_BYTES_MAX {
        let length = text.len();
        return Err(format!("it has {length} bytes, limit {SCHEMA_BYTES_MAX}"));
    }
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let root = object(&value, "")?;
    let mut schema = SettingsSchema {
        text: text.to_owned(),
        named: Vec::new(),
        by_pattern: Vec::new(),
        others: Others::Allowed,
        required: Vec::new(),
    };
    for (keyword, value) in root {
        let at = format!("/{keyword}");
        match keyword.as_str() {
            "type" if value == "object" => {}
            "type" => return Err(format!("{at}: {value}, expected \"object\"")),
            "properties" => {
                for (name, value) in settings(value, &at)? {
                    let setting = setting(value, &format!("{at}/{name}"))?;
                    schema.named.push((name.clone(), setting));
                }
            }
            "patternProperties" => {
                for (text, value) in settings(value, &at)? {
                    let at = format!("{at}/{text}");
                    schema
                        .by_pattern
                        .push((pattern(text, &at)?, setting(value, &at)?));
                }
            }
            "additionalProperties" => {
                schema.others = match value {
                    Value::Bool(true) => Others::Allowed,
                    Value::Bool(false) => Others::Refused,
                    other => Others::Like(setting(other, &at)?),
                };
            }
            "required" => schema.required = texts(value, &at)?,
            other if ANNOTATIONS.contains(&other) => {}
            _ => {
                return Err(format!(
                    "{at}: a keyword that settings cannot be checked by"
                ));
            }
        }
    }
    Ok(schema)
}

fn setting(value: &Value, at: &str) -> Read<Setting> {
    // `true` is the schema that takes everything.
    if *value == Value::Bool(true) {
        return Ok(Setting::default());
    }
    let mut setting = Setting::default();
    for (keyword, value) in object(value, at)? {
        let at = format!("{at}/{keyword}");
        match keyword.as_str() {
            "type" => setting.kind = Some(kind(value, &at)?),
            "enum" => {
                let all = value.as_array().filter(|all| !all.is_empty());
                let all = all.ok_or_else(|| format!("{at}: {value}, expected a list of values"))?;
                setting.one_of = Some(
                    all.iter()
                        .map(|one| scalar(one, &at))
                        .collect::<Read<_>>()?,
                );
            }
            "const" => setting.one_of = Some(vec![scalar(value, &at)?]),
            "pattern" => {
                let text = value.as_str();
                let text = text.ok_or_else(|| format!("{at}: {value}, expected a pattern"))?;
                setting.pattern = Some(pattern(text, &at)?);
            }
            "writeOnly" => setting.is_secret = *value == Value::Bool(true),
            "minLength" => setting.length_min = Some(length(value, &at)?),
            "maxLength" => setting.length_max = Some(length(value, &at)?),
            "minimum" => setting.bounds.push((Bound::Minimum, bound(value, &at)?)),
            "maximum" => setting.bounds.push((Bound::Maximum, bound(value, &at)?)),
            "exclusiveMinimum" => {
                setting
                    .bounds
                    .push((Bound::ExclusiveMinimum, bound(value, &at)?));
            }
            "exclusiveMaximum" => {
                setting
                    .bounds
                    .push((Bound::ExclusiveMaximum, bound(value, &at)?));
            }
            other if ANNOTATIONS.contains(&other) => {}
            _ => {
                return Err(format!(
                    "{at}: a keyword that a setting cannot be checked by"
                ));
            }
        }
    }
    setting.bounds.sort_by_key(|(bound, _)| *bound);
    Ok(setting)
}

fn kind(value: &Value, at: &str) -> Read<Kind> {
    match value.as_str() {
        Some("string") => Ok(Kind::Text),
        Some("number") => Ok(Kind::Number),
        Some("integer") => Ok(Kind::Integer),
        Some("boolean") => Ok(Kind::Boolean),
        _ => Err(format!(
            "{at}: {value}, expected \"string\", \"number\", \"integer\" or \"boolean\""
        )),
    }
}

fn object<'a>(value: &'a Value, at: &str) -> Read<&'a Map<String, Value>> {
    value
        .as_object()
        .ok_or_else(|| format!("{}: not an object", if at.is_empty() { "/" } else { at }))
}

fn settings<'a>(value: &'a Value, at: &str) -> Read<&'a Map<String, Value>> {
    let all = object(value, at)?;
    match all.len() {
        count if count > SETTINGS_MAX => {
            Err(format!("{at}: {count} settings, limit {SETTINGS_MAX}"))
        }
        _ => Ok(all),
    }
}

fn texts(value: &Value, at: &str) -> Read<Vec<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let all = value.as_array().map(|all| all.iter().map(text));
    all.and_then(|all| all.collect())
        .ok_or_else(|| format!("{at}: {value}, expected a list of names"))
}

/// A value as the text that a setting has.
fn scalar(value: &Value, at: &str) -> Read<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(format!(
            "{at}: {value}, expected a text, a number or a truth value"
        )),
    }
}

fn pattern(text: &str, at: &str) -> Read<Regex> {
    RegexBuilder::new(text)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| format!("{at}: the pattern '{text}' cannot be used: {error}"))
}

fn length(value: &Value, at: &str) -> Read<u64> {
    value
        .as_u64()
        .ok_or_else(|| format!("{at}: {value}, expected a whole number"))
}

fn bound(value: &Value, at: &str) -> Read<f64> {
    value
        .as_f64()
        .ok_or_else(|| format!("{at}: {value}, expected a number"))
}
