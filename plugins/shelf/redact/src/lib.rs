//! Removes, masks or hashes values of JSON payloads, and removes headers. All else of a payload
//! stays byte for byte. The settings are described in `settings.json`.

use shelf_kit::base64::hex;
use shelf_kit::json::edit::{self, Change};
use shelf_kit::json::{Found, Path, Paths, Value, write};
use shelf_kit::{Fate, Settings, settings};
use waypost_plugin::{Config, Edit, InitError, Interest, Message, Outcome, Plugin, Transform};

struct Redact {
    paths: Paths,
    /// What is done to the values of each path.
    ways: Vec<Way>,
    found: Vec<Found>,
    mask: String,
    /// Characters at the end that a mask leaves.
    keep_last: usize,
    hash_key: String,
    remove_headers: Vec<String>,
    on_invalid: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Remove,
    Mask,
    Hash,
}

impl Plugin for Redact {
    fn init(config: &Config) -> Result<(Redact, Interest), InitError> {
        let settings = Settings::new(config);
        let (mut paths, mut ways) = (Paths::default(), Vec::new());
        for (name, way) in [
            ("remove", Way::Remove),
            ("mask", Way::Mask),
            ("hash", Way::Hash),
        ] {
            for (key, text) in settings.texts(name) {
                let path = Path::parse(text).map_err(|error| InitError::of(key, error))?;
                if path.is_whole() {
                    return Err(settings::wrong(
                        key,
                        text,
                        "a path to a part of the payload",
                    ));
                }
                if paths.add(path) < ways.len() {
                    return Err(InitError::of(key, format!("'{text}' stands here twice")));
                }
                ways.push(way);
            }
        }
        let mask = settings.text("mask-with").unwrap_or("***").to_owned();
        let keep_last = settings.whole("keep-last", 1, 64)?.unwrap_or(0) as usize;
        let hash_key = settings.text("hash-key");
        let headers = settings.texts("remove-headers").into_iter();
        let remove_headers: Vec<_> = headers.map(|(_, name)| name.to_owned()).collect();
        // A message that should lose something and cannot must not go on as it is.
        let on_invalid = Fate::of(&settings, "on-invalid", Fate::DeadLetter)?;
        settings.finish()?;
        if ways.contains(&Way::Hash) && hash_key.is_none_or(|key| key.len() < HASH_KEY_BYTES_MIN) {
            let text = format!(
                "a secret of at least {HASH_KEY_BYTES_MIN} bytes is expected where hash is set: \
                 without one, who knows the possible values finds out which it was"
            );
            return Err(InitError::of("hash-key", text));
        }
        if ways.is_empty() && remove_headers.is_empty() {
            return Err(InitError::new(
                "nothing is to be redacted: set remove, mask or hash to a path such as \
                 \"$.user.email\", or remove-headers",
            ));
        }
        let interest = match paths.is_empty() {
            true => Interest::nothing(),
            false => Interest::nothing().payload(),
        };
        let redact = Redact {
            paths,
            ways,
            found: Vec::new(),
            mask,
            keep_last,
            hash_key: hash_key.unwrap_or_default().to_owned(),
            remove_headers,
            on_invalid,
        };
        Ok((redact, interest))
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

/// A key that cannot be tried out.
const HASH_KEY_BYTES_MIN: usize = 16;

impl Redact {
    fn change(&self, way: Way, value: Value<'_>) -> Change {
        match way {
            Way::Remove => Change::Remove,
            Way::Mask => Change::Replace(write::quoted(&self.masked(&value.plain())).into()),
            Way::Hash => {
                let plain = value.plain();
                let hash = hmac_sha256::HMAC::mac(plain.as_bytes(), self.hash_key.as_bytes());
                Change::Replace(write::quoted(&hex(&hash[..16])).into())
            }
        }
    }

    /// The mask, and the last characters of a text that is at least twice as long as those.
    fn masked(&self, plain: &str) -> String {
        let characters = plain.chars().count();
        let shown = match self.keep_last * 2 <= characters {
            true => self.keep_last,
            false => 0,
        };
        let tail = plain.chars().skip(characters - shown);
        self.mask.chars().chain(tail).collect()
    }
}

impl Transform for Redact {
    fn transform(&mut self, message: &Message<'_>) -> Outcome {
        let mut edit = Edit::new();
        edit.remove_headers.clone_from(&self.remove_headers);
        if self.paths.is_empty() {
            return Outcome::Edit(edit);
        }
        let payload = message.payload();
        let mut found = std::mem::take(&mut self.found);
        if let Err(not_json) = self.paths.find(payload, &mut found) {
            return self.on_invalid.outcome(not_json.to_string());
        }
        if found.is_empty() && edit.remove_headers.is_empty() {
            self.found = found;
            return Outcome::Pass;
        }
        if !found.is_empty() {
            let changes = found.drain(..).map(|found| {
                let value = Value(payload.get(found.value.clone()).unwrap_or_default());
                let change = self.change(self.ways[found.path], value);
                (found, change)
            });
            edit = edit.payload(edit::apply(payload, changes.collect()));
        }
        self.found = found;
        Outcome::Edit(edit)
    }
}

waypost_plugin::export!(Redact: transform, schema);

#[cfg(test)]
mod tests;
