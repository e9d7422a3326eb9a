//! An event into a message: its data is the payload, its attributes are headers.

use std::collections::BTreeSet;

use shelf_kit::json::{Found, Kind, Path, Paths, Value};
use shelf_kit::{Fate, base64};
use waypost_plugin::{Edit, Interest, Message, Outcome};

use crate::wrap::is_json;
use crate::{VERSION, is_attribute};

/// Takes events in JSON apart. An event whose attributes are headers already goes on as it is.
pub struct Unwrap {
    prefix: String,
    members: Paths,
    found: Vec<Found>,
    on_invalid: Fate,
}

impl Unwrap {
    /// One that puts attributes into headers with this before their names.
    pub fn new(prefix: String, on_invalid: Fate) -> Unwrap {
        let mut members = Paths::default();
        if let Ok(path) = Path::parse("$.*") {
            members.add(path);
        }
        Unwrap {
            prefix,
            members,
            found: Vec::new(),
            on_invalid,
        }
    }

    fn version_header(&self) -> String {
        format!("{}specversion", self.prefix)
    }

    /// What of messages is needed.
    pub fn interest(&self) -> Interest {
        Interest::nothing().header(&self.version_header()).payload()
    }

    /// What becomes of a message.
    pub fn transform(&mut self, message: &Message<'_>) -> Outcome {
        if message.header(&self.version_header()).is_some() {
            return Outcome::Pass;
        }
        match self.edit(message.payload()) {
            Ok(edit) => Outcome::Edit(edit),
            Err(reason) => self.on_invalid.outcome(reason),
        }
    }

    fn edit(&mut self, event: &[u8]) -> Result<Edit, String> {
        let found = self.members.find(event, &mut self.found);
        found.map_err(|not_json| not_json.to_string())?;
        if event.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err("the payload is not an event: it is not an object".into());
        }
        let mut edit = Edit::new();
        let (mut data, mut bytes) = (None, None);
        let mut content_type = None;
        let mut seen = BTreeSet::new();
        for found in &self.found {
            let member = Value(event.get(found.member.clone()).unwrap_or_default());
            let value = Value(event.get(found.value.clone()).unwrap_or_default());
            let Some(name) = member.name() else { continue };
            match (name.as_ref(), value.kind()) {
                // Data may be null; anything else that is null is not there.
                ("data", _) => data = Some(value),
                (_, Kind::Null) => {}
                ("data_base64", _) => {
                    let decoded = value.text().and_then(|text| base64::decode(&text));
                    bytes = Some(decoded.ok_or("the event's data_base64 is not base64")?);
                }
                (name, Kind::Array | Kind::Object) => {
                    return Err(format!("the event's attribute '{name}' is no scalar"));
                }
                (name, _) if !is_attribute(name) => {
                    return Err(format!(
                        "the event's attribute '{name}' is not of lower-case letters and digits"
                    ));
                }
                ("datacontenttype", _) => content_type = Some(value.plain().into_owned()),
                (name, _) => {
                    let text = value.plain().into_owned();
                    edit = edit.header(format!("{}{name}", self.prefix), text);
                }
            }
            if let Some(name) = seen.replace(name) {
                return Err(format!("the event has '{name}' twice"));
            }
        }
        self.check(&edit)?;
        let content_type = content_type.unwrap_or_else(|| "application/json".to_owned());
        let payload = match (data, bytes) {
            (None, None) => Vec::new(),
            (None, Some(bytes)) => bytes,
            (Some(value), Some(bytes)) if value.kind() == Kind::Null => bytes,
            (Some(_), Some(_)) => {
                return Err("the event has both data and data_base64, expected one of them".into());
            }
            (Some(value), None) => match (is_json(&content_type), value.text()) {
                (true, _) => value.0.to_vec(),
                // Only JSON has a null to be data.
                (false, None) if value.kind() == Kind::Null => Vec::new(),
                // A text is JSON only where the event says that its data is.
                (false, Some(text)) => text.into_owned().into_bytes(),
                (false, None) => value.0.to_vec(),
            },
        };
        Ok(edit.payload(payload).content_type(content_type))
    }

    /// What each event must have.
    fn check(&self, edit: &Edit) -> Result<(), String> {
        let attribute = |name: &str| {
            let header = format!("{}{name}", self.prefix);
            let mut headers = edit.set_headers.iter();
            headers
                .find(|(known, _)| *known == header)
                .map(|(_, value)| value)
        };
        for name in ["specversion", "id", "source", "type"] {
            if attribute(name).is_none_or(|value| value.is_empty()) {
                return Err(format!("the payload is not an event: it has no '{name}'"));
            }
        }
        match attribute("specversion") {
            Some(version) if version == VERSION.as_bytes() => Ok(()),
            other => {
                let found = String::from_utf8_lossy(other.map_or(&[][..], |bytes| bytes));
                Err(format!(
                    "the event's specversion is '{found}', expected {VERSION}"
                ))
            }
        }
    }
}
