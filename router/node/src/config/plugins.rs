//! `[[plugin]]`: where a plugin comes from, and the numbers that bound it.
//!
//! The numbers are listed once, in [`LIMITS`], [`BREAKER`] and [`RETRY`], with unit, bounds and
//! name. The file reads them by the list, and so does whoever gets them as text over the network
//! ([`PluginConfig::set_limit`]), so that both take the same words and give the same errors.

use super::names::{Kind, Names};
use super::read::{Document, Found, Table};
use super::sections::{declared_name, filters};
use super::units::{self, format_duration, format_size};
use super::*;
use crate::shelf;
use waypost_host::Role;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// In milliseconds.
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Bytes,
    Ms,
    Count,
}

/// A number of a part of a plugin's configuration.
struct Key<T: 'static> {
    name: &'static str,
    unit: Unit,
    low: u64,
    high: u64,
    field: fn(&mut T) -> Field<'_>,
}

/// Where a number is kept.
enum Field<'a> {
    Size(&'a mut u64),
    Time(&'a mut Duration),
    Number(&'a mut u32),
}

impl Field<'_> {
    fn get(&self) -> u64 {
        match self {
            Field::Size(bytes) => **bytes,
            Field::Time(time) => u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            Field::Number(number) => u64::from(**number),
        }
    }

    fn set(self, value: u64) {
        match self {
            Field::Size(bytes) => *bytes = value,
            Field::Time(time) => *time = Duration::from_millis(value),
            // The bounds of the key are within 32 bits.
            Field::Number(number) => *number = u32::try_from(value).unwrap_or(u32::MAX),
        }
    }
}

macro_rules! keys {
    ($of:ty; $($name:ident: $kind:ident $unit:ident, $low:expr, $high:expr;)*) => {
        [$(Key::<$of> {
            name: stringify!($name),
            unit: Unit::$unit,
            low: $low,
            high: $high,
            field: |of| Field::$kind(&mut of.$name),
        }),*]
    };
}

const LIMITS: [Key<PluginLimits>; 11] = keys! { PluginLimits;
    memory_bytes: Size Bytes, 64 * KIB, 4096 * MIB;
    table_elements: Number Count, 0, 10_000_000;
    deadline: Time Ms, 1, 60 * SECOND;
    deadline_per_message: Time Ms, 0, 60 * SECOND;
    init_deadline: Time Ms, 1, 60 * SECOND;
    cpu_per_second: Time Ms, 1, 60 * SECOND;
    instances: Number Count, 1, 1024;
    host_calls: Number Count, 0, 100_000_000;
    output_bytes: Size Bytes, KIB, 16 * MIB;
    emitted_messages: Number Count, 0, 1_000_000;
    log_bytes_per_second: Size Bytes, 0, 1024 * MIB;
};

const BREAKER: [Key<BreakerConfig>; 3] = keys! { BreakerConfig;
    failures: Number Count, 1, 1_000_000;
    pause: Time Ms, 10, HOUR;
    pause_max: Time Ms, 10, 24 * HOUR;
};

const RETRY: [Key<RetryConfig>; 3] = keys! { RetryConfig;
    attempts: Number Count, 1, 1_000_000;
    pause: Time Ms, 1, HOUR;
    pause_max: Time Ms, 1, 24 * HOUR;
};

/// The grants of a plugin that names none.
const GRANTS_DEFAULT: [Grant; 4] = [Grant::Log, Grant::Clock, Grant::Random, Grant::Metrics];

/// Bounds of `state_bytes`.
const STATE_BYTES: std::ops::RangeInclusive<u64> = 4 * KIB..=1024 * MIB;

/// What a digest looks like.
const DIGEST_EXPECTED: &str = "\"sha256:\" and 64 hexadecimal digits";

/// `[[plugin]]`
pub(super) fn plugin(mut table: Table<'_, '_>, names: &mut Names) -> Option<PluginConfig> {
    let name = declared_name(&mut table, "name", Kind::Plugin, names);
    let source = source(&mut table);
    let mut plugin = PluginConfig::new("", PluginSource::Deployed);
    plugin.role = table.choice(
        "role",
        None,
        &Role::ALL.map(|role| (role.name(), Some(role))),
    );
    plugin.settings = table.flattened("settings");
    settings_files(&mut table, &mut plugin);
    plugin.on_error = table.choice(
        "on_error",
        OnError::DeadLetter,
        &OnError::ALL.map(|on_error| (on_error.as_str(), on_error)),
    );
    plugin.line = table.doc.line(table.at);
    plugin.trusted_keys = super::supply::trusted_keys(&mut table);
    grants(&mut table, &mut plugin);
    if let Some(PluginSource::Builtin(name)) = &source {
        check_stock(&table, name, &plugin);
    }
    if let Some(part) = table.table("limits") {
        numbers(part, &LIMITS, &mut plugin.limits);
    }
    if let Some(part) = table.table("breaker") {
        let at = numbers(part, &BREAKER, &mut plugin.breaker);
        pauses(&table, at, "breaker", plugin.breaker.check());
    }
    if let Some(part) = table.table("retry") {
        let at = numbers(part, &RETRY, &mut plugin.retry);
        pauses(&table, at, "retry", plugin.retry.check());
    }
    if let (Some(PluginSource::Builtin(_)), true) = (&source, table.has("trusted_keys")) {
        let text = "trusted_keys says nothing of a builtin plugin, which is a part of the program";
        table.error(table.at, Problem::Other(text.to_owned()));
    }
    table.finish();
    plugin.name = name?.value;
    plugin.source = source?;
    Some(plugin)
}

/// Settings that are too long to stand in the file itself.
fn settings_files(table: &mut Table<'_, '_>, plugin: &mut PluginConfig) {
    let doc = table.doc;
    for (name, file) in table.flattened("settings_files") {
        let place = format!("{} settings_files.{name}", table.place);
        if plugin.settings.iter().any(|(known, _)| *known == name) {
            let text = format!("the setting {name:?} stands in settings, too");
            doc.error(&place, table.at, Problem::Other(text));
            continue;
        }
        let path = doc.directory().join(&file);
        match super::files::read_setting(&path) {
            Ok(text) => plugin.settings.push((name, text)),
            Err(error) => {
                let path = path.display().to_string();
                doc.error(&place, table.at, Problem::File { path, error });
            }
        }
    }
}

/// Exactly one of the keys that say where the code is.
fn source(table: &mut Table<'_, '_>) -> Option<PluginSource> {
    let doc = table.doc;
    let keys = ["file", "builtin", "digest", "deployed", "oci"];
    let has = keys.map(|key| table.has(key));
    let (file, builtin) = (table.string("file"), table.string("builtin"));
    let (digest, oci) = (table.string("digest"), table.string("oci"));
    let is_deployed = table.boolean("deployed", false);
    let named: Vec<&str> = keys
        .into_iter()
        .zip(has)
        .filter(|(key, has)| *has && (*key != "deployed" || is_deployed))
        .map(|(key, _)| key)
        .collect();
    match named.as_slice() {
        ["file"] => {
            let file = file?;
            let path = doc.directory().join(&file.value);
            super::files::check_plugin(doc, &path, &file);
            Some(PluginSource::File(path))
        }
        ["builtin"] => {
            let builtin = builtin?;
            if shelf::stock(&builtin.value).is_none() {
                let problem = Problem::unknown("plugin", &builtin.value, &shelf::names());
                doc.error(&builtin.place, builtin.at, problem);
            }
            Some(PluginSource::Builtin(builtin.value))
        }
        ["digest"] => digest_source(doc, &digest?),
        ["deployed"] => Some(PluginSource::Deployed),
        ["oci"] => oci_source(doc, &oci?),
        [] => {
            let text = "missing key \"file\", \"builtin\", \"digest\", \"oci\" or \"deployed\"";
            table.error(table.at, Problem::Other(text.to_owned()));
            None
        }
        several => {
            let text = format!("has {}, expected one of them", all_of(several));
            table.error(table.at, Problem::Other(text));
            None
        }
    }
}

fn digest_source(doc: &Document<'_>, found: &Found<String>) -> Option<PluginSource> {
    match parse_digest(&found.value) {
        Some(digest) => Some(PluginSource::Digest(digest)),
        None => {
            let problem = Problem::unexpected(format!("{:?}", found.value), DIGEST_EXPECTED);
            doc.error(&found.place, found.at, problem);
            None
        }
    }
}

fn oci_source(doc: &Document<'_>, found: &Found<String>) -> Option<PluginSource> {
    match Reference::parse(&found.value) {
        Ok(reference) => Some(PluginSource::Oci {
            reference,
            digest: None,
        }),
        Err(error) => {
            doc.error(&found.place, found.at, Problem::Other(error.to_string()));
            None
        }
    }
}

/// The hexadecimal digits of `sha256:…`, in lower case.
pub(crate) fn parse_digest(text: &str) -> Option<String> {
    let hex = text.strip_prefix("sha256:")?;
    let is_hex = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| hex.to_ascii_lowercase())
}

/// `a and b`, `a, b and c`.
fn all_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Grants, and what belongs to two of them.
fn grants(table: &mut Table<'_, '_>, plugin: &mut PluginConfig) {
    let doc = table.doc;
    if table.has("grants") {
        plugin.grants.clear();
    }
    for word in table.strings("grants") {
        match Grant::from_name(&word.value) {
            Some(grant) if !plugin.grants.contains(&grant) => plugin.grants.push(grant),
            Some(_) => {
                let text = format!("{:?} stands here twice", word.value);
                doc.error(&word.place, word.at, Problem::Other(text));
            }
            None => {
                let names = Grant::ALL.map(Grant::name);
                doc.error(
                    &word.place,
                    word.at,
                    Problem::unknown("grant", &word.value, &names),
                );
            }
        }
    }
    let (has_publish, has_state) = (table.has("publish"), table.has("state_bytes"));
    for (index, filter) in filters(table, "publish").into_iter().enumerate() {
        if waypost_wire::topic::is_reserved(filter.as_str()) {
            let place = format!("{} publish[{index}]", table.place);
            doc.error(&place, table.at, Problem::Other(reserved(&filter)));
        }
        plugin.publish.push(filter);
    }
    plugin.state_bytes = table.size("state_bytes", plugin.state_bytes, STATE_BYTES);
    for (key, has, grant) in [
        ("publish", has_publish, Grant::Publish),
        ("state_bytes", has_state, Grant::State),
    ] {
        if has && !plugin.grants.contains(&grant) {
            let text = format!("has {key}, but no {:?} among its grants", grant.name());
            table.error(table.at, Problem::Other(text));
        }
    }
    if plugin.grants.contains(&Grant::Publish) && !has_publish {
        let text = "is granted \"publish\", but names no topics: publish = [\"some/#\"]";
        table.error(table.at, Problem::Other(text.to_owned()));
    }
}

/// What a plugin of the shelf needs and has not, so that the file says it before any component is
/// looked at.
fn check_stock(table: &Table<'_, '_>, name: &str, plugin: &PluginConfig) {
    let Some(stock) = shelf::stock(name) else {
        return;
    };
    let mut needed = stock.grants.iter();
    if needed.any(|grant| !plugin.grants.contains(grant)) {
        let names: Vec<_> = stock.grants.iter().map(|grant| grant.name()).collect();
        let text = format!("{name} needs grants = {names:?}");
        table.error(table.at, Problem::Other(text));
    }
    if plugin.role.is_none() && stock.roles.len() > 1 {
        let names: Vec<_> = stock.roles.iter().map(|role| role.name()).collect();
        let text = format!("{name} needs a role: {}", names.join(", "));
        table.error(table.at, Problem::Other(text));
    }
}

/// Reads the numbers of a part, and gives where it stands.
fn numbers<T>(mut table: Table<'_, '_>, keys: &[Key<T>], of: &mut T) -> usize {
    for key in keys {
        let default = (key.field)(of).get();
        let (low, high) = (key.low, key.high);
        let value = match key.unit {
            Unit::Bytes => table.size(key.name, default, low..=high),
            Unit::Count => table.number(key.name, default, low..=high),
            Unit::Ms => {
                let ms = Duration::from_millis;
                let time = table.duration(key.name, ms(default), ms(low)..=ms(high));
                u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
            }
        };
        (key.field)(of).set(value);
    }
    let at = table.at;
    table.finish();
    at
}

fn pauses(table: &Table<'_, '_>, at: usize, part: &str, checked: Result<(), String>) {
    if let Err(text) = checked {
        let place = format!("{} {part}", table.place);
        table.doc.error(&place, at, Problem::Other(text));
    }
}

fn check_pauses(pause: Duration, pause_max: Duration) -> Result<(), String> {
    if pause <= pause_max {
        return Ok(());
    }
    Err(format!(
        "pause {} is above pause_max {}",
        format_duration(pause),
        format_duration(pause_max)
    ))
}

impl BreakerConfig {
    fn check(&self) -> Result<(), String> {
        check_pauses(self.pause, self.pause_max)
    }
}

impl RetryConfig {
    fn check(&self) -> Result<(), String> {
        check_pauses(self.pause, self.pause_max)
    }
}

/// A number, a word or a filter of a plugin that came as text, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct PluginTextError {
    /// As it came, such as `breaker.pause`.
    pub key: String,
    /// What is wrong.
    pub problem: Problem,
}

impl PluginTextError {
    pub(crate) fn unknown(what: &'static str, found: &str, names: &[&str]) -> PluginTextError {
        PluginTextError {
            key: what.to_owned(),
            problem: Problem::unknown(what, found, names),
        }
    }

    pub(crate) fn other(key: &str, text: String) -> PluginTextError {
        PluginTextError {
            key: key.to_owned(),
            problem: Problem::Other(text),
        }
    }
}

impl PluginConfig {
    /// A plugin without settings, with the default grants and limits.
    pub fn new(name: impl Into<String>, source: PluginSource) -> PluginConfig {
        PluginConfig {
            name: name.into(),
            source,
            trusted_keys: None,
            role: None,
            settings: Vec::new(),
            grants: GRANTS_DEFAULT.to_vec(),
            publish: Vec::new(),
            state_bytes: 16 * MIB,
            limits: PluginLimits::default(),
            breaker: BreakerConfig::default(),
            retry: RetryConfig::default(),
            on_error: OnError::DeadLetter,
            line: 0,
        }
    }

    /// Sets one number by its name and the words of the file: `memory_bytes` (of
    /// `[plugin.limits]`), `breaker.pause`, `retry.attempts`, `state_bytes`.
    pub fn set_limit(&mut self, key: &str, text: &str) -> Result<(), PluginTextError> {
        let result = match key.split_once('.') {
            Some(("breaker", name)) => set_number(&BREAKER, &mut self.breaker, name, text),
            Some(("retry", name)) => set_number(&RETRY, &mut self.retry, name, text),
            None if key == "state_bytes" => {
                number(Unit::Bytes, *STATE_BYTES.start(), *STATE_BYTES.end(), text)
                    .map(|bytes| self.state_bytes = bytes)
            }
            None => set_number(&LIMITS, &mut self.limits, key, text),
            Some(_) => Err(unknown_limit(key)),
        };
        result.map_err(|problem| PluginTextError {
            key: key.to_owned(),
            problem: match problem {
                Problem::Unknown { .. } => unknown_limit(key),
                other => other,
            },
        })
    }

    /// Every number that differs from the default, as [`PluginConfig::set_limit`] takes it.
    pub fn limits_set(&self) -> Vec<(String, String)> {
        let (mut this, mut default) = (self.clone(), PluginConfig::new("", PluginSource::Deployed));
        let mut set = Vec::new();
        differing(&LIMITS, "", &mut this.limits, &mut default.limits, &mut set);
        let (own, other) = (&mut this.breaker, &mut default.breaker);
        differing(&BREAKER, "breaker.", own, other, &mut set);
        differing(
            &RETRY,
            "retry.",
            &mut this.retry,
            &mut default.retry,
            &mut set,
        );
        if self.state_bytes != default.state_bytes {
            set.push(("state_bytes".to_owned(), format_size(self.state_bytes)));
        }
        set
    }

    /// What the parts must be to each other, for what did not come from a file.
    pub fn check_together(&self) -> Result<(), PluginTextError> {
        let other = |key, text| Err(PluginTextError::other(key, text));
        if let Err(text) = self.breaker.check() {
            return other("breaker", text);
        }
        if let Err(text) = self.retry.check() {
            return other("retry", text);
        }
        let may_publish = self.grants.contains(&Grant::Publish);
        if may_publish && self.publish.is_empty() {
            let text = "is granted, but no topics are named";
            return other("publish", text.to_owned());
        }
        if !may_publish && !self.publish.is_empty() {
            let text = "topics are named, but \"publish\" is not granted";
            return other("publish", text.to_owned());
        }
        let mut filters = self.publish.iter();
        match filters.find(|f| waypost_wire::topic::is_reserved(f.as_str())) {
            Some(filter) => other("publish", reserved(filter)),
            None => Ok(()),
        }
    }
}

fn reserved(filter: &Filter) -> String {
    format!("filter {filter} begins with '$': such topics are the router's own")
}

fn differing<T>(
    keys: &[Key<T>],
    prefix: &str,
    own: &mut T,
    default: &mut T,
    set: &mut Vec<(String, String)>,
) {
    for key in keys {
        let value = (key.field)(own).get();
        if value != (key.field)(default).get() {
            let text = match key.unit {
                Unit::Bytes => format_size(value),
                Unit::Ms => format_duration(Duration::from_millis(value)),
                Unit::Count => value.to_string(),
            };
            set.push((format!("{prefix}{}", key.name), text));
        }
    }
}

fn set_number<T>(keys: &[Key<T>], of: &mut T, name: &str, text: &str) -> Result<(), Problem> {
    let Some(key) = keys.iter().find(|key| key.name == name) else {
        return Err(unknown_limit(name));
    };
    let value = number(key.unit, key.low, key.high, text)?;
    (key.field)(of).set(value);
    Ok(())
}

fn unknown_limit(name: &str) -> Problem {
    let limits = LIMITS.iter().map(|key| key.name.to_owned());
    let breaker = BREAKER.iter().map(|key| format!("breaker.{}", key.name));
    let retry = RETRY.iter().map(|key| format!("retry.{}", key.name));
    let mut names: Vec<String> = limits.chain(breaker).chain(retry).collect();
    names.push("state_bytes".to_owned());
    Problem::unknown("limit", name, &names)
}

/// A number of this unit within its bounds.
fn number(unit: Unit, low: u64, high: u64, text: &str) -> Result<u64, Problem> {
    let plain = || text.parse::<u64>().ok();
    let (value, expected) = match unit {
        Unit::Bytes => (
            units::parse_size(text).or_else(plain),
            units::SIZE_EXPECTED.to_owned(),
        ),
        Unit::Ms => {
            let time = units::parse_duration(text);
            let ms = time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            (ms, units::DURATION_EXPECTED.to_owned())
        }
        Unit::Count => (plain(), "a whole number".to_owned()),
    };
    let ms = Duration::from_millis;
    let expected = match value {
        Some(value) if (low..=high).contains(&value) => return Ok(value),
        None => expected,
        Some(_) => match unit {
            Unit::Bytes => format!("a size from {} to {}", format_size(low), format_size(high)),
            Unit::Ms => format!(
                "a duration from {} to {}",
                format_duration(ms(low)),
                format_duration(ms(high))
            ),
            Unit::Count => format!("a whole number from {low} to {high}"),
        },
    };
    Err(Problem::unexpected(format!("{text:?}"), expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin() -> PluginConfig {
        PluginConfig::new("p", PluginSource::Deployed)
    }

    #[test]
    fn text_and_numbers_are_the_same() {
        let mut it = plugin();
        assert_eq!(it.limits_set(), []);
        let pairs = [
            ("memory_bytes", "1MiB"),
            ("deadline", "2s"),
            ("emitted_messages", "7"),
            ("breaker.failures", "3"),
            ("retry.pause_max", "1h"),
            ("state_bytes", "64KiB"),
        ];
        for (key, text) in pairs {
            it.set_limit(key, text).unwrap();
        }
        assert_eq!(it.limits.memory_bytes, 1 << 20);
        assert_eq!(it.breaker.failures, 3);
        assert_eq!(it.retry.pause_max, Duration::from_secs(3600));
        let set: Vec<(String, String)> = pairs
            .into_iter()
            .map(|(key, text)| (key.to_owned(), text.to_owned()))
            .collect();
        assert_eq!(it.limits_set(), set);
        assert_eq!(it.check_together(), Ok(()));
    }

    #[test]
    fn every_wrong_text_is_named() {
        for (key, text, want) in [
            (
                "memory_byte",
                "1MiB",
                "memory_byte: unknown limit \"memory_byte\", did you mean \"memory_bytes\"?",
            ),
            (
                "breaker.paus",
                "1s",
                "breaker.paus: unknown limit \"breaker.paus\", did you mean \"breaker.pause\"?",
            ),
            (
                "memory_bytes",
                "1",
                "memory_bytes: found \"1\", expected a size from 64KiB to 4GiB",
            ),
            (
                "deadline",
                "5",
                "deadline: found \"5\", expected a duration such as \"500ms\", \"30s\", \"5m\", \
                 \"2h\" or \"1d\"",
            ),
            (
                "retry.attempts",
                "0",
                "retry.attempts: found \"0\", expected a whole number from 1 to 1000000",
            ),
        ] {
            let error = plugin().set_limit(key, text).unwrap_err();
            assert_eq!(error.to_string(), want);
        }
        let error = plugin().set_limit("a.b", "1").unwrap_err().to_string();
        assert!(error.contains("unknown limit \"a.b\""), "{error}");
    }

    #[test]
    fn parts_must_fit_each_other() {
        let mut it = plugin();
        it.set_limit("breaker.pause", "10m").unwrap();
        let error = it.check_together().unwrap_err().to_string();
        assert_eq!(error, "breaker: pause 10m is above pause_max 5m");
        let mut it = plugin();
        it.grants.push(Grant::Publish);
        assert!(it.check_together().is_err(), "no topics");
        it.publish.push(Filter::new("counts/#").unwrap());
        assert_eq!(it.check_together(), Ok(()));
        it.publish.push(Filter::new("$state/#").unwrap());
        assert!(it.check_together().is_err(), "the router's own");
    }

    #[test]
    fn digests() {
        let hex = "AB".repeat(32);
        let digest = parse_digest(&format!("sha256:{hex}"));
        assert_eq!(digest, Some("ab".repeat(32)));
        assert_eq!(parse_digest(&hex), None);
        assert_eq!(parse_digest("sha256:ab"), None);
    }
}
