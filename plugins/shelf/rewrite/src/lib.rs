//! Gives messages another topic, key, content type, headers or time-to-live, from templates. The
//! settings are described in `settings.json`, the words of templates in `docs/shelf.md`.

use shelf_kit::template::Missing;
use shelf_kit::topic::{TopicFilter, wrong_topic};
use shelf_kit::{Fate, OnInvalid, Seen, Settings, Subjects, Template};
use waypost_plugin::{Config, Edit, InitError, Interest, Message, Outcome, Plugin, Transform};

struct Rewrite {
    subjects: Subjects,
    changes: Changes,
    on_missing: Fate,
    on_invalid: OnInvalid,
}

struct Changes {
    /// The first filter that takes the topic says the new one.
    topics: Vec<(TopicFilter, Template)>,
    topic: Option<Template>,
    key: Option<Template>,
    content_type: Option<Template>,
    headers: Vec<(String, Template)>,
    remove_headers: Vec<String>,
    ttl_ms: Option<u64>,
}

/// Why a message cannot be rewritten.
enum Failure {
    Missing(Missing),
    Topic(String, &'static str),
}

impl From<Missing> for Failure {
    fn from(missing: Missing) -> Failure {
        Failure::Missing(missing)
    }
}

impl Plugin for Rewrite {
    fn init(config: &Config) -> Result<(Rewrite, Interest), InitError> {
        let settings = Settings::new(config);
        let mut subjects = Subjects::default();
        let mut template = |key: &str, text: &str| {
            Template::parse(text, &mut subjects).map_err(|error| InitError::of(key, error))
        };
        let mut one = |name: &str| {
            let text = settings.text(name);
            text.map(|text| template(name, text)).transpose()
        };
        let (topic, key) = (one("topic")?, one("key")?);
        let content_type = one("content-type")?;
        let mut topics = Vec::new();
        for entry in settings.table("topics") {
            let filter =
                TopicFilter::parse(entry.name).map_err(|error| InitError::of(entry.key, error))?;
            topics.push((filter, template(entry.key, entry.text)?));
        }
        let mut headers = Vec::new();
        for entry in settings.table("headers") {
            headers.push((entry.name.to_owned(), template(entry.key, entry.text)?));
        }
        let remove_headers = settings.texts("remove-headers").into_iter();
        let ttl = settings.duration("ttl")?;
        let changes = Changes {
            topics,
            topic,
            key,
            content_type,
            headers,
            remove_headers: remove_headers.map(|(_, name)| name.to_owned()).collect(),
            ttl_ms: ttl.map(|ttl| ttl.as_millis() as u64),
        };
        let on_missing = Fate::or_pass(&settings, "on-missing", Fate::DeadLetter)?;
        let on_invalid = OnInvalid::of(&settings)?;
        settings.finish()?;
        changes.check()?;
        let interest = subjects.interest();
        let rewrite = Rewrite {
            subjects,
            changes,
            on_missing,
            on_invalid,
        };
        Ok((rewrite, interest))
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

impl Changes {
    /// Refuses what would fail for each message, and what changes nothing.
    fn check(&self) -> Result<(), InitError> {
        let of_topics = self.topics.iter().map(|(_, template)| ("topics", template));
        let of_topic = self.topic.iter().map(|template| ("topic", template));
        for (name, template) in of_topics.chain(of_topic) {
            if let Some(topic) = template.fixed()
                && let Some(problem) = wrong_topic(topic)
            {
                return Err(InitError::of(
                    name,
                    format!("'{topic}' is no topic: {problem}"),
                ));
            }
        }
        let texts = [&self.topic, &self.key, &self.content_type];
        let is_empty = texts.iter().all(|text| text.is_none())
            && self.topics.is_empty()
            && self.headers.is_empty()
            && self.remove_headers.is_empty()
            && self.ttl_ms.is_none();
        match is_empty {
            false => Ok(()),
            true => Err(InitError::new(
                "nothing is to be changed: set topic, topics, key, content-type, headers, \
                 remove-headers or ttl",
            )),
        }
    }

    fn edit(&self, seen: &Seen<'_, '_>) -> Result<Edit, Failure> {
        let mut edit = Edit::new();
        let old = seen.message.topic();
        let renamed = self.topics.iter().find(|(filter, _)| filter.matches(old));
        if let Some(template) = renamed.map(|(_, new)| new).or(self.topic.as_ref()) {
            let topic = template.fill_topic(seen)?;
            if let Some(problem) = wrong_topic(&topic) {
                return Err(Failure::Topic(topic, problem));
            }
            edit = edit.topic(topic);
        }
        if let Some(template) = &self.key {
            edit = edit.key(template.fill(seen)?);
        }
        if let Some(template) = &self.content_type {
            edit = edit.content_type(template.fill(seen)?);
        }
        for (name, template) in &self.headers {
            edit = edit.header(name.as_str(), template.fill(seen)?);
        }
        edit.remove_headers.clone_from(&self.remove_headers);
        edit.ttl_ms = self.ttl_ms;
        Ok(edit)
    }
}

impl Transform for Rewrite {
    fn transform(&mut self, message: &Message<'_>) -> Outcome {
        let edit = match self.on_invalid.look(&mut self.subjects, message) {
            Ok(seen) => self.changes.edit(&seen),
            Err(unread) => return unread.outcome(),
        };
        match edit {
            Ok(edit) if is_empty(&edit) => Outcome::Pass,
            Ok(edit) => Outcome::Edit(edit),
            Err(Failure::Missing(missing)) => self.on_missing.outcome(missing.to_string()),
            Err(Failure::Topic(topic, problem)) => {
                Outcome::DeadLetter(format!("the new topic '{topic}' is none: {problem}"))
            }
        }
    }
}

/// No filter of `topics` took the message, and nothing else is to be changed.
fn is_empty(edit: &Edit) -> bool {
    edit.topic.is_none()
        && edit.key.is_none()
        && edit.content_type.is_none()
        && edit.set_headers.is_empty()
        && edit.remove_headers.is_empty()
        && edit.ttl_ms.is_none()
}

waypost_plugin::export!(Rewrite: transform, schema);

#[cfg(test)]
mod tests;
