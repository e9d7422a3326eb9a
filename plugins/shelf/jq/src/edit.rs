//! What a program's values change of a message.

use jaq_json::Val;
use waypost_plugin::{Edit, Message, Outgoing};

use crate::{bytes_of, json_of};

/// `{topic, key, content_type, headers, payload, ttl_ms}`: what is not there stays, `null` in a header
/// removes it.
pub fn message_edit(value: &Val) -> Result<Edit, String> {
    let Val::Obj(members) = value else {
        return Err(
            "the program's value is no object, expected {topic, key, headers, payload}".into(),
        );
    };
    let mut edit = Edit::new();
    for (name, value) in members.iter() {
        let name = String::from_utf8_lossy(bytes_of(name).unwrap_or_default());
        let string = || {
            let bytes =
                bytes_of(value).ok_or_else(|| format!("the program's {name} is no text"))?;
            Ok::<_, String>(String::from_utf8_lossy(bytes).into_owned())
        };
        match name.as_ref() {
            "topic" => {
                let topic = string()?;
                if let Some(problem) = shelf_kit::topic::wrong_topic(&topic) {
                    return Err(format!("the program's topic '{topic}' is none: {problem}"));
                }
                edit = edit.topic(topic);
            }
            "key" => edit = edit.key(string()?),
            "content_type" => edit = edit.content_type(string()?),
            "payload" => {
                edit = edit.payload(json_of(value)?);
            }
            "ttl_ms" => {
                let json = json_of(value)?;
                let ms = String::from_utf8_lossy(&json).parse();
                edit.ttl_ms = Some(ms.map_err(|_| "the program's ttl_ms is no whole number")?);
            }
            "headers" => {
                let Val::Obj(headers) = value else {
                    return Err("the program's headers are no object".into());
                };
                for (name, value) in headers.iter() {
                    let name = bytes_of(name).map(String::from_utf8_lossy);
                    let name = name.ok_or("the program's headers have a name that is no text")?;
                    edit = match (value, bytes_of(value)) {
                        (Val::Null, _) => edit.without_header(name),
                        (_, Some(bytes)) => edit.header(name, bytes.to_vec()),
                        (value, None) => edit.header(name, json_of(value)?),
                    };
                }
            }
            other => {
                return Err(format!(
                    "the program's value has '{other}', expected topic, key, content_type, \
                     headers, payload or ttl_ms"
                ));
            }
        }
    }
    Ok(edit)
}

/// A message of its own with what an edit changes.
pub fn applied(message: &Message<'_>, edit: Edit) -> Outgoing {
    let goes = |name: &str| {
        let set = edit.set_headers.iter().map(|(name, _)| name);
        edit.remove_headers
            .iter()
            .chain(set)
            .any(|gone| gone == name)
    };
    let kept = message.headers().filter(|(name, _)| !goes(name));
    let kept = kept.map(|(name, value)| (name.to_owned(), value.to_vec()));
    let headers: Vec<_> = kept.collect();
    let set_headers = edit.set_headers;
    let text_or = |new: Option<String>, old: Option<&str>| {
        new.or(old.map(str::to_owned))
            .filter(|text| !text.is_empty())
    };
    let key = edit.key.or(message.key().map(<[u8]>::to_vec));
    Outgoing {
        topic: edit.topic.unwrap_or_else(|| message.topic().to_owned()),
        key: key.filter(|key| !key.is_empty()),
        content_type: text_or(edit.content_type, message.content_type()),
        reply_to: message.reply_to().map(str::to_owned),
        headers: headers.into_iter().chain(set_headers).collect(),
        payload: edit.payload.unwrap_or_else(|| message.payload().to_vec()),
        ttl_ms: edit.ttl_ms.or(message.ttl_ms()).filter(|ms| *ms > 0),
    }
}
