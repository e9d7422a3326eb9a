//! What is kept of a slot and of a route on disk, and its form in JSON.
//!
//! ```text
//! file := { "format": 1, "crc32c": "<8 hex digits>", "content": … }
//! ```
//!
//! The sum is over the inner value as this module writes it. Numbers that bound a plugin are kept
//! as the text that the configuration would have, and only where they differ from the default: so a
//! file says what a person decided, and a new default holds for all who decided nothing.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use waypost_host::Role;
use waypost_wire::Filter;

use crate::config::{Grant, OnError, PluginConfig, PluginSource, PluginTextError};

/// The version of the files that this module writes and reads.
const FORMAT: u32 = 1;
/// Versions of a slot that are kept, the active one among them.
pub(crate) const VERSIONS_MAX: usize = 5;

/// A name and a value.
pub(crate) type Pair = (String, String);

/// What becomes of messages while a slot is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pause {
    /// They meet `on_error`.
    OnError,
    /// They are refused, and their publisher may try again.
    Hold,
}

/// One version of a slot: a component, and what it is run with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Version {
    /// From 1, never used again.
    pub number: u64,
    /// SHA-256 of the component in hexadecimal digits.
    pub digest: String,
    pub bytes: u64,
    /// Milliseconds since 1970.
    pub deployed_ms: u64,
    /// Who deployed it.
    pub by: String,
    pub role: Option<String>,
    pub settings: Vec<Pair>,
    pub grants: Vec<String>,
    pub publish: Vec<String>,
    /// As [`PluginConfig::set_limit`] takes them.
    pub limits: Vec<Pair>,
    pub on_error: String,
    /// A rollback left it, so that none leads back to it.
    pub withdrawn: bool,
}

/// A slot whose code came over the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlotRecord {
    pub name: String,
    /// The number of the version that runs.
    pub active: u64,
    pub paused: Option<Pause>,
    /// Oldest first.
    pub versions: Vec<Version>,
}

/// A route that was made over the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteRecord {
    pub name: String,
    pub from: String,
    pub through: Vec<String>,
    pub to: Vec<String>,
    #[serde(rename = "final")]
    pub is_final: bool,
    /// The route of the configuration that it runs before; none: after all of them.
    pub before: Option<String>,
}

/// What a registry gave under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PulledRecord {
    pub reference: String,
    /// `sha256:…` of the manifest.
    pub manifest: String,
    /// SHA-256 of the component in hexadecimal digits.
    pub component: String,
    /// When the registry said so the last time, in ms since 1970.
    pub at_ms: u64,
}

/// Why a file is not what was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("is not JSON as this version writes it: {0}")]
    Json(#[from] serde_json::Error),
    #[error("has format {found}, and this version reads {FORMAT}")]
    Format { found: u32 },
    #[error("has the sum {found}, but its content has {content}")]
    Sum { found: String, content: String },
    #[error("is of slot '{found}', expected '{expected}'")]
    Name { found: String, expected: String },
    #[error("names no version that is active")]
    Active,
    #[error("version {number}: {error}")]
    Version { number: u64, error: PluginTextError },
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u32,
    crc32c: String,
    content: T,
}

/// The format alone, which is read before anything else is expected of a file.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn sum(content: &impl Serialize) -> Result<String, serde_json::Error> {
    let bytes = serde_json::to_vec(content)?;
    Ok(format!("{:08x}", crc32c::crc32c(&bytes)))
}

fn to_bytes(content: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let envelope = Envelope {
        format: FORMAT,
        crc32c: sum(content)?,
        content,
    };
    let mut bytes = serde_json::to_vec_pretty(&envelope)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn from_bytes<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    let Format { format } = serde_json::from_slice(bytes)?;
    if format != FORMAT {
        return Err(RecordError::Format { found: format });
    }
    let envelope: Envelope<T> = serde_json::from_slice(bytes)?;
    let content = sum(&envelope.content)?;
    if content != envelope.crc32c {
        let found = envelope.crc32c;
        return Err(RecordError::Sum { found, content });
    }
    Ok(envelope.content)
}

impl SlotRecord {
    /// The bytes of its file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        Ok(to_bytes(self)?)
    }

    /// Reads the file of the slot `name`.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<SlotRecord, RecordError> {
        let record: SlotRecord = from_bytes(bytes)?;
        if record.name != name {
            return Err(RecordError::Name {
                found: record.name,
                expected: name.to_owned(),
            });
        }
        if record.active().is_none() {
            return Err(RecordError::Active);
        }
        for version in &record.versions {
            let number = version.number;
            let checked = version.config(name);
            checked.map_err(|error| RecordError::Version { number, error })?;
        }
        Ok(record)
    }

    /// The version that runs.
    pub fn active(&self) -> Option<&Version> {
        self.version(self.active)
    }

    /// The version with this number.
    pub fn version(&self, number: u64) -> Option<&Version> {
        self.versions.iter().find(|v| v.number == number)
    }

    /// The number of the next version.
    pub fn next_number(&self) -> u64 {
        self.versions.iter().map(|v| v.number).max().unwrap_or(0) + 1
    }

    /// Makes a new version the active one. Others go until there are [`VERSIONS_MAX`]: first those
    /// that a rollback left, the oldest first.
    pub fn activate(&mut self, version: Version) {
        self.active = version.number;
        self.versions.push(version);
        while self.versions.len() > VERSIONS_MAX {
            let withdrawn = self.versions.iter().position(|v| v.withdrawn);
            self.versions.remove(withdrawn.unwrap_or(0));
        }
    }

    /// Goes back to an older version, or forth to one that was left.
    pub fn roll(&mut self, to: u64) {
        let active = self.active;
        for version in &mut self.versions {
            if version.number == to {
                version.withdrawn = false;
            } else if version.number == active && to < active {
                version.withdrawn = true;
            }
        }
        self.active = to;
    }

    /// Where a rollback leads: to the newest version below the active one that none has left.
    pub fn previous(&self) -> Option<&Version> {
        let below = |v: &&Version| v.number < self.active && !v.withdrawn;
        self.versions.iter().filter(below).max_by_key(|v| v.number)
    }
}

impl Version {
    /// What a configuration that says the same would be.
    pub fn config(&self, name: &str) -> Result<PluginConfig, PluginTextError> {
        let mut config = PluginConfig::new(name, PluginSource::Digest(self.digest.clone()));
        let texts = Texts {
            role: self.role.as_deref(),
            on_error: &self.on_error,
            grants: Some(&self.grants),
            publish: &self.publish,
            limits: &self.limits,
        };
        config.settings.clone_from(&self.settings);
        texts.apply(&mut config)?;
        Ok(config)
    }

    /// The version that runs this.
    pub fn of(config: &PluginConfig, number: u64, digest: String, bytes: u64) -> Version {
        Version {
            number,
            digest,
            bytes,
            deployed_ms: 0,
            by: String::new(),
            role: config.role.map(|role| role.name().to_owned()),
            settings: config.settings.clone(),
            grants: config.grants.iter().map(|g| g.name().to_owned()).collect(),
            publish: config
                .publish
                .iter()
                .map(|f| f.as_str().to_owned())
                .collect(),
            limits: config.limits_set(),
            on_error: config.on_error.as_str().to_owned(),
            withdrawn: false,
        }
    }

    /// Whether it runs the same code in the same way.
    pub fn is_same(&self, other: &Version) -> bool {
        let what = |version: &Version| Version {
            number: 0,
            deployed_ms: 0,
            by: String::new(),
            withdrawn: false,
            ..version.clone()
        };
        what(self) == what(other)
    }
}

/// The words of a plugin's configuration, as they come from a file of this module or a request.
pub(crate) struct Texts<'a> {
    pub role: Option<&'a str>,
    pub on_error: &'a str,
    /// `None` leaves those that are there.
    pub grants: Option<&'a [String]>,
    pub publish: &'a [String],
    pub limits: &'a [Pair],
}

impl Texts<'_> {
    /// Checks the words and puts them over what a configuration says; empty ones change nothing.
    pub fn apply(&self, config: &mut PluginConfig) -> Result<(), PluginTextError> {
        if let Some(role) = self.role.filter(|role| !role.is_empty()) {
            let names = Role::ALL.map(Role::name);
            let unknown = || PluginTextError::unknown("role", role, &names);
            config.role = Some(Role::from_name(role).ok_or_else(unknown)?);
        }
        if !self.on_error.is_empty() {
            let found = OnError::ALL
                .into_iter()
                .find(|o| o.as_str() == self.on_error);
            let names = OnError::ALL.map(OnError::as_str);
            let unknown = || PluginTextError::unknown("on_error", self.on_error, &names);
            config.on_error = found.ok_or_else(unknown)?;
        }
        if let Some(grants) = self.grants {
            config.grants.clear();
            for name in grants {
                let names = Grant::ALL.map(Grant::name);
                let unknown = || PluginTextError::unknown("grant", name, &names);
                let grant = Grant::from_name(name).ok_or_else(unknown)?;
                if !config.grants.contains(&grant) {
                    config.grants.push(grant);
                }
            }
        }
        if !self.publish.is_empty() || self.grants.is_some() {
            config.publish.clear();
        }
        for text in self.publish {
            let filter = Filter::new(text.as_str()).map_err(|error| {
                PluginTextError::other("publish", format!("filter {text:?} {error}"))
            })?;
            config.publish.push(filter);
        }
        for (key, text) in self.limits {
            config.set_limit(key, text)?;
        }
        config.check_together()
    }
}

/// The bytes of the file of what was pulled.
pub(crate) fn pulled_to_bytes(pulled: &[PulledRecord]) -> Result<Vec<u8>, RecordError> {
    Ok(to_bytes(&pulled)?)
}

/// Reads the file of what was pulled.
pub(crate) fn pulled_from_bytes(bytes: &[u8]) -> Result<Vec<PulledRecord>, RecordError> {
    from_bytes(bytes)
}

/// The bytes of the file of routes.
pub(crate) fn routes_to_bytes(routes: &[RouteRecord]) -> Result<Vec<u8>, RecordError> {
    Ok(to_bytes(&routes)?)
}

/// Reads the file of routes.
pub(crate) fn routes_from_bytes(bytes: &[u8]) -> Result<Vec<RouteRecord>, RecordError> {
    from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u64) -> Version {
        let mut config = PluginConfig::new("p", PluginSource::Deployed);
        config.settings = vec![
            ("b".to_owned(), "1".to_owned()),
            ("a".to_owned(), "ü".to_owned()),
        ];
        config.set_limit("memory_bytes", "1MiB").unwrap();
        Version {
            deployed_ms: 7,
            by: "desk".to_owned(),
            ..Version::of(&config, number, "ab".repeat(32), 1234)
        }
    }

    fn record(versions: std::ops::RangeInclusive<u64>) -> SlotRecord {
        let mut record = SlotRecord {
            name: "p".to_owned(),
            active: 0,
            paused: Some(Pause::Hold),
            versions: Vec::new(),
        };
        versions.for_each(|number| record.activate(version(number)));
        record
    }

    #[test]
    fn what_was_written_is_read_and_means_the_same() {
        let record = record(1..=3);
        let bytes = record.to_bytes().unwrap();
        assert_eq!(SlotRecord::from_bytes("p", &bytes).unwrap(), record);
        let config = record.active().unwrap().config("p").unwrap();
        assert_eq!(config.limits.memory_bytes, 1 << 20);
        assert_eq!(config.settings[1].1, "ü");
        assert!(Version::of(&config, 9, "ab".repeat(32), 1234).is_same(&version(3)));
        let routes = vec![RouteRecord {
            name: "r".to_owned(),
            from: "a/#".to_owned(),
            through: vec!["p".to_owned()],
            to: vec!["queue:q".to_owned()],
            is_final: true,
            before: None,
        }];
        let bytes = routes_to_bytes(&routes).unwrap();
        assert_eq!(routes_from_bytes(&bytes).unwrap(), routes);
    }

    #[test]
    fn no_changed_byte_is_read_as_something_else() {
        let record = record(1..=2);
        let whole = record.to_bytes().unwrap();
        for at in 0..whole.len() {
            for bit in [1, 0x20, 0x80] {
                let mut damaged = whole.clone();
                damaged[at] ^= bit;
                // A changed blank is no damage.
                if let Ok(read) = SlotRecord::from_bytes("p", &damaged) {
                    assert_eq!(read, record, "byte {at}");
                }
            }
            assert!(SlotRecord::from_bytes("p", &whole[..at]).is_err() || at + 1 == whole.len());
        }
        let error = SlotRecord::from_bytes("q", &whole).unwrap_err();
        assert_eq!(error.to_string(), "is of slot 'p', expected 'q'");
        let newer = String::from_utf8(whole)
            .unwrap()
            .replace("\"format\": 1", "\"format\": 2");
        let error = SlotRecord::from_bytes("p", newer.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "has format 2, and this version reads 1");
    }

    #[test]
    fn five_versions_are_kept_and_numbers_are_not_used_again() {
        let mut record = record(1..=7);
        let numbers = |record: &SlotRecord| -> Vec<u64> {
            record.versions.iter().map(|v| v.number).collect()
        };
        assert_eq!(numbers(&record), [3, 4, 5, 6, 7]);
        assert_eq!(record.previous().unwrap().number, 6);
        record.roll(6);
        record.roll(5);
        assert_eq!(record.previous().unwrap().number, 4);
        let next = record.next_number();
        record.activate(version(next));
        assert_eq!((record.active, numbers(&record)), (8, vec![3, 4, 5, 7, 8]));
        // 7 was left, so no rollback leads to it; who names it gets it.
        assert_eq!(record.previous().unwrap().number, 5);
        record.roll(7);
        record.roll(8);
        assert_eq!(record.previous().unwrap().number, 7);
        record.roll(3);
        assert!(record.previous().is_none());
        record.activate(version(9));
        assert_eq!(numbers(&record), [3, 4, 5, 7, 9]);
        assert_eq!(record.previous().unwrap().number, 7);
    }

    #[test]
    fn words_are_checked() {
        let mut config = PluginConfig::new("p", PluginSource::Deployed);
        let nothing = Texts {
            role: None,
            on_error: "",
            grants: None,
            publish: &[],
            limits: &[],
        };
        let before = config.clone();
        nothing.apply(&mut config).unwrap();
        assert_eq!(config, before);
        let texts = Texts {
            role: Some("filtr"),
            ..nothing
        };
        let error = texts.apply(&mut config).unwrap_err().to_string();
        assert_eq!(
            error,
            "role: unknown role \"filtr\", did you mean \"filter\"?"
        );
    }
}
