//! What a plugin is tested with: `[test]` of a manifest, and `tests/NAME.toml`.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use waypost_host::Role;

use super::manifest::Mistake;

/// What `plugin test` gives the plugin. `tests/NAME.toml` may say it anew for one test.
#[derive(Clone, Debug, Default)]
pub struct TestSetup {
    /// As in `[plugin.settings]` of a router.
    pub settings: Vec<(String, String)>,
    /// Which role, where it is not the project's.
    pub role: Option<Role>,
    /// Of the route.
    pub destinations: Vec<String>,
    /// As in `[[plugin]]` of a router; `None` leaves it to the default.
    pub grants: Option<Vec<String>>,
    /// Topics of the grant `publish`.
    pub publish: Vec<String>,
    /// Messages in a call.
    pub batch: Option<usize>,
    /// In the time of the messages.
    pub time: Option<bool>,
}

/// As it stands in the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTest {
    #[serde(default)]
    settings: toml::Table,
    role: Option<Spanned<String>>,
    #[serde(default)]
    destinations: Vec<String>,
    grants: Option<Vec<String>>,
    #[serde(default)]
    publish: Vec<String>,
    batch: Option<Spanned<usize>>,
    time: Option<bool>,
}

impl TestSetup {
    /// Reads `tests/NAME.toml`: what it names stands in place of the project's; settings are added
    /// to them one by one.
    pub fn read(&self, file: &Path) -> anyhow::Result<TestSetup> {
        let text = super::read_text(file)?;
        let read = || {
            let raw: RawTest = toml::from_str(&text)?;
            raw.checked()
        };
        let own = read().map_err(|mistake: Mistake| mistake.in_file(file, &text))?;
        let mut merged = self.clone();
        merged.set(own.settings);
        if !own.destinations.is_empty() {
            merged.destinations = own.destinations;
        }
        if !own.publish.is_empty() {
            merged.publish = own.publish;
        }
        merged.role = own.role.or(merged.role);
        merged.grants = own.grants.or(merged.grants);
        merged.batch = own.batch.or(merged.batch);
        merged.time = own.time.or(merged.time);
        Ok(merged)
    }

    /// Sets settings over those that are there.
    pub fn set(&mut self, settings: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in settings {
            match self.settings.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value,
                None => self.settings.push((name, value)),
            }
        }
    }
}

impl RawTest {
    /// With its limits checked.
    pub fn checked(self) -> Result<TestSetup, Mistake> {
        let batch_max = waypost_wire::BATCH_MESSAGES_MAX;
        if let Some(batch) = &self.batch
            && !(1..=batch_max).contains(batch.get_ref())
        {
            let problem = format!(
                "batch: found {}, expected 1 to {batch_max}",
                batch.get_ref()
            );
            return Err(Mistake::at(batch.span(), problem));
        }
        let role = self.role.map(|role| {
            Role::from_name(role.get_ref()).ok_or_else(|| {
                let found = role.get_ref();
                let problem =
                    format!("role: found {found:?}, expected filter, transform, route or each");
                Mistake::at(role.span(), problem)
            })
        });
        let mut settings = Vec::new();
        for (name, value) in self.settings {
            flatten(name, value, &mut settings);
        }
        Ok(TestSetup {
            settings,
            role: role.transpose()?,
            destinations: self.destinations,
            grants: self.grants,
            publish: self.publish,
            batch: self.batch.map(Spanned::into_inner),
            time: self.time,
        })
    }
}

/// As the node's configuration does it: a setting is text, what is nested has its path as its name.
fn flatten(name: String, value: toml::Value, flat: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                flatten(format!("{name}.{key}"), value, flat);
            }
        }
        toml::Value::Array(items) => {
            for (index, value) in items.into_iter().enumerate() {
                flatten(format!("{name}.{index}"), value, flat);
            }
        }
        toml::Value::String(text) => flat.push((name, text)),
        other => flat.push((name, other.to_string())),
    }
}
