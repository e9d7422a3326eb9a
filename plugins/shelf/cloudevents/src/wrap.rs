//! A message into an event.

use shelf_kit::base64::{self, hex};
use shelf_kit::json::{scan, write};
use shelf_kit::template::Missing;
use shelf_kit::{Fate, OnInvalid, Seen, Settings, Subjects, Template};
use waypost_plugin::{Edit, InitError, Interest, Message, Outcome, host};

use crate::time::rfc3339;
use crate::{STRUCTURED, VERSION, is_attribute};

/// What an event has of a message.
pub struct Wrap {
    subjects: Subjects,
    templates: Templates,
    /// Attributes in headers, with this before their names; else in the payload.
    prefix: Option<String>,
    on_missing: Fate,
    on_invalid: OnInvalid,
}

struct Templates {
    source: Template,
    kind: Template,
    subject: Option<Template>,
    id: Option<Template>,
    extensions: Vec<(String, Template)>,
}

/// The attributes that the specification has; an extension must not be called so.
const KNOWN: [&str; 10] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
    "database64",
];

impl Wrap {
    /// Reads the settings.
    pub fn new(settings: &Settings<'_>, prefix: String) -> Result<(Wrap, Interest), InitError> {
        let mut subjects = Subjects::default();
        let mut template = |name: &str, text: &str| {
            Template::parse(text, &mut subjects).map_err(|error| InitError::of(name, error))
        };
        let source = settings.required("source", "what events come from, such as /plant/7")?;
        let kind = settings.required("type", "what events are, such as org.example.{topic[0]}")?;
        let (source, kind) = (template("source", source)?, template("type", kind)?);
        for (name, made) in [("source", &source), ("type", &kind)] {
            if made.fixed() == Some("") {
                return Err(InitError::of(name, "is empty, which an event may not have"));
            }
        }
        let mut optional = |name: &str| {
            let text = settings.text(name);
            text.map(|text| template(name, text)).transpose()
        };
        let (subject, id) = (optional("subject")?, optional("id")?);
        let mut extensions = Vec::new();
        for entry in settings.table("extensions") {
            if !is_attribute(entry.name) || KNOWN.contains(&entry.name) {
                let text = "is no name of an extension, expected lower-case letters and digits";
                return Err(InitError::of(entry.key, text));
            }
            extensions.push((entry.name.to_owned(), template(entry.key, entry.text)?));
        }
        let modes = [("structured", false), ("binary", true)];
        let is_binary = settings.choice("mode", &modes)?;
        let wrap = Wrap {
            templates: Templates {
                source,
                kind,
                subject,
                id,
                extensions,
            },
            prefix: is_binary.then_some(prefix),
            on_missing: Fate::or_pass(settings, "on-missing", Fate::DeadLetter)?,
            on_invalid: OnInvalid::of(settings)?,
            subjects,
        };
        let interest = wrap.interest();
        Ok((wrap, interest))
    }

    fn interest(&self) -> Interest {
        let mut interest = self.subjects.interest();
        let mut fields = Vec::new();
        if self.templates.id.is_none() {
            fields.push("message-id");
        }
        if self.prefix.is_none() {
            fields.push("content-type");
            interest = interest.payload();
        }
        for field in fields {
            if !interest.fields.iter().any(|asked| asked == field) {
                interest = interest.field(field);
            }
        }
        interest
    }

    /// What becomes of a message.
    pub fn transform(&mut self, message: &Message<'_>) -> Outcome {
        let seen = match self.on_invalid.look(&mut self.subjects, message) {
            Ok(seen) => seen,
            Err(unread) => return unread.outcome(),
        };
        let attributes = match self.templates.attributes(&seen) {
            Ok(attributes) => attributes,
            Err(missing) => return self.on_missing.outcome(missing.to_string()),
        };
        if let Some(prefix) = &self.prefix {
            let attributes = attributes.into_iter();
            return Outcome::Edit(attributes.fold(Edit::new(), |edit, (name, value)| {
                edit.header(format!("{prefix}{name}"), value)
            }));
        }
        let data = match (Data::of(message), self.on_invalid) {
            (Ok(data), _) => data,
            (Err(not_json), OnInvalid::Fate(fate)) => return fate.outcome(not_json),
            (Err(_), OnInvalid::Ignore) => Data::Bytes(message.payload()),
        };
        let event = structured(&attributes, message.content_type(), data);
        Outcome::Edit(Edit::new().payload(event).content_type(STRUCTURED))
    }
}

type Attributes = Vec<(String, String)>;

impl Templates {
    fn attributes(&self, seen: &Seen<'_, '_>) -> Result<Attributes, Missing> {
        // An empty attribute is as good as none.
        let must = |template: &Template, name: &str| match template.fill(seen)? {
            text if text.is_empty() => Err(Missing {
                place: name.to_owned(),
            }),
            text => Ok(text),
        };
        let id = match &self.id {
            Some(template) => must(template, "id")?,
            None => match seen.message.message_id() {
                Some(id) if !id.is_empty() => match std::str::from_utf8(id) {
                    Ok(text) => text.to_owned(),
                    Err(_) => hex(id),
                },
                _ => hex(&host::random::bytes(16)),
            },
        };
        let mut all = vec![
            ("specversion".to_owned(), VERSION.to_owned()),
            ("id".to_owned(), id),
            ("source".to_owned(), must(&self.source, "source")?),
            ("type".to_owned(), must(&self.kind, "type")?),
        ];
        if let Some(template) = &self.subject {
            all.push(("subject".to_owned(), must(template, "subject")?));
        }
        let time = rfc3339(seen.message.receive_time_ms());
        all.push(("time".to_owned(), time));
        for (name, template) in &self.extensions {
            all.push((name.clone(), must(template, name)?));
        }
        Ok(all)
    }
}

/// What an event has for a payload.
enum Data<'m> {
    None,
    Json(&'m str),
    Text(&'m str),
    Bytes(&'m [u8]),
}

impl<'m> Data<'m> {
    /// Without a content type JSON is told by its looks. The error is for a payload that should be
    /// JSON by its content type: as a text it would say something else.
    fn of(message: &Message<'m>) -> Result<Data<'m>, String> {
        let payload = message.payload();
        let kind = message.content_type();
        if payload.is_empty() {
            return Ok(Data::None);
        }
        let text = std::str::from_utf8(payload);
        match (kind.is_none_or(is_json), scan::check(payload), text) {
            (true, Ok(()), Ok(text)) => Ok(Data::Json(text.trim())),
            (true, Err(not_json), _) if kind.is_some() => Err(not_json.to_string()),
            (_, _, Ok(text)) => Ok(Data::Text(text)),
            (_, _, Err(_)) => Ok(Data::Bytes(payload)),
        }
    }
}

/// JSON stands in the event as it is, text as a text, all else as base64.
fn structured(attributes: &Attributes, content_type: Option<&str>, data: Data<'_>) -> Vec<u8> {
    let mut event = Vec::with_capacity(256);
    let mut member = |name: &str, value: &str| {
        event.push(if event.is_empty() { b'{' } else { b',' });
        write::text(&mut event, name);
        event.push(b':');
        event.extend_from_slice(value.as_bytes());
    };
    for (name, value) in attributes {
        member(name, &write::quoted(value));
    }
    if let Some(kind) = content_type {
        member("datacontenttype", &write::quoted(kind));
    }
    match data {
        Data::None => {}
        Data::Json(json) => member("data", json),
        Data::Text(text) => member("data", &write::quoted(text)),
        Data::Bytes(bytes) => member("data_base64", &write::quoted(&base64::encode(bytes))),
    }
    event.push(b'}');
    event
}

/// `application/json`, `text/json`, `application/senml+json; …`
pub(crate) fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    kind.ends_with("/json") || kind.ends_with("+json")
}
