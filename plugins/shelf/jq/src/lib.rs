//! Filters, transforms and routes messages by programs in jq. The settings are described in
//! `settings.json`.

mod edit;
mod program;

use edit::{applied, message_edit};
use jaq_json::{Map, Val, read, write};
use program::{Program, VARIABLES};
use shelf_kit::json::scan;
use shelf_kit::{Fate, Settings};
use waypost_plugin::{
    Answer, Choice, Config, Decision, Edit, Filter, InitError, Interest, Message, Outcome, Plugin,
    Route, Transform,
};

struct Jq {
    program: Program,
    /// Which of the variables the program has.
    used: [bool; VARIABLES.len()],
    /// The payload is a text, not JSON.
    input_is_text: bool,
    /// What a result is, as a transform.
    output: Output,
    /// Several results are several messages.
    splits: bool,
    /// As a filter: what becomes of a message that is not kept.
    otherwise: Fate,
    destinations: Vec<String>,
    on_failure: Fate,
    on_invalid: Fate,
}

/// What a result of the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// The payload, as JSON.
    Json,
    /// The payload, as text.
    Text,
    /// An object with what is to be changed.
    Message,
}

/// A message that cannot be dealt with, and what becomes of it.
struct Failure(Fate, String);

impl Plugin for Jq {
    fn init(config: &Config) -> Result<(Jq, Interest), InitError> {
        let settings = Settings::new(config);
        let code = settings.required("program", "a program of jq, such as .temp > 30")?;
        let program = Program::compile(code).map_err(|error| InitError::of("program", error))?;
        let used = VARIABLES.map(|name| code.contains(name));
        let inputs = [("json", false), ("text", true)];
        let input_is_text = settings.choice("input", &inputs)?;
        let (mut output, mut splits) = (Output::Json, false);
        let mut otherwise = Fate::Drop;
        // What belongs to another role is refused, by `finish`.
        match settings.role() {
            "transform" => {
                let outputs = [
                    ("json", Output::Json),
                    ("text", Output::Text),
                    ("message", Output::Message),
                ];
                output = settings.choice("output", &outputs)?;
                splits = settings.flag("split")?;
            }
            "filter" => otherwise = Fate::of(&settings, "otherwise", Fate::Drop)?,
            _ => {}
        }
        let on_failure = Fate::or_pass(&settings, "on-failure", Fate::DeadLetter)?;
        let on_invalid = Fate::or_pass(&settings, "on-invalid", Fate::DeadLetter)?;
        settings.finish()?;
        let interest = interest(&used, splits);
        let jq = Jq {
            program,
            used,
            input_is_text,
            output,
            splits,
            otherwise,
            destinations: config.destinations.clone(),
            on_failure,
            on_invalid,
        };
        Ok((jq, interest))
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

/// What the variables need; messages that are made anew have all of the old one.
fn interest(used: &[bool; VARIABLES.len()], splits: bool) -> Interest {
    let mut interest = Interest::nothing().payload();
    if splits {
        // One message may become as many as a call may emit.
        interest = interest.max_batch(1);
    }
    if used[1] || splits {
        interest = interest.all_headers();
    }
    for (is_needed, field) in [
        (used[2] || splits, "key"),
        (used[3] || splits, "content-type"),
        (used[4], "message-id"),
        (splits, "reply-to"),
        (splits, "ttl"),
    ] {
        if is_needed {
            interest = interest.field(field);
        }
    }
    interest
}

fn text(bytes: &[u8]) -> Val {
    Val::utf8_str(String::from_utf8_lossy(bytes).into_owned())
}

/// A whole number of any size, on any machine.
fn number(number: u64) -> Val {
    read::parse_single(number.to_string().as_bytes()).unwrap_or_default()
}

impl Jq {
    /// What the program gives for a message.
    fn results(&self, message: &Message<'_>) -> Result<Vec<Val>, Failure> {
        self.program
            .run(self.input(message)?, self.variables(message))
            .map_err(|reason| Failure(self.on_failure, reason))
    }

    /// The first of it.
    fn first(&self, message: &Message<'_>) -> Result<Option<Val>, Failure> {
        self.program
            .first(self.input(message)?, self.variables(message))
            .map_err(|reason| Failure(self.on_failure, reason))
    }

    fn input(&self, message: &Message<'_>) -> Result<Val, Failure> {
        let payload = message.payload();
        match self.input_is_text {
            true => Ok(text(payload)),
            // jaq reads more than JSON, and nests without a bound.
            false => scan::check(payload)
                .map_err(|not_json| not_json.to_string())
                .and_then(|()| read::parse_single(payload).map_err(|error| error.to_string()))
                .map_err(|reason| Failure(self.on_invalid, reason)),
        }
    }

    fn variables(&self, message: &Message<'_>) -> [Val; VARIABLES.len()] {
        let [topic, headers, key, content_type, message_id, received] = self.used;
        let optional = |bytes: Option<&[u8]>| bytes.map_or(Val::Null, text);
        let mut named = Map::default();
        if headers {
            for (name, value) in message.headers() {
                // Of several of one name the first counts, as everywhere.
                named
                    .entry(text(name.as_bytes()))
                    .or_insert_with(|| text(value));
            }
        }
        let kind = message.content_type().map(str::as_bytes);
        [
            if topic {
                text(message.topic().as_bytes())
            } else {
                Val::Null
            },
            Val::obj(named),
            if key {
                optional(message.key())
            } else {
                Val::Null
            },
            if content_type {
                optional(kind)
            } else {
                Val::Null
            },
            if message_id {
                optional(message.message_id())
            } else {
                Val::Null
            },
            match received {
                true => number(message.receive_time_ms()),
                false => Val::Null,
            },
        ]
    }
}

/// Whether jq takes a value for true.
fn is_true(value: &Val) -> bool {
    !matches!(value, Val::Null | Val::Bool(false))
}

/// The bytes of a text.
fn bytes_of(value: &Val) -> Option<&[u8]> {
    match value {
        Val::TStr(bytes) | Val::BStr(bytes) => Some(bytes),
        _ => None,
    }
}

/// A value as JSON. jaq has more than JSON, such as NaN.
fn json_of(value: &Val) -> Result<Vec<u8>, String> {
    let mut json = Vec::new();
    let pp = write::Pp::default();
    write::write(&mut json, &pp, 0, value).map_err(|error| error.to_string())?;
    match scan::check(&json) {
        Ok(()) => Ok(json),
        Err(wrong) => Err(format!(
            "the program's value is not JSON: {} at byte {}",
            wrong.problem, wrong.offset
        )),
    }
}

impl Filter for Jq {
    fn filter(&mut self, message: &Message<'_>) -> Answer {
        match self.first(message) {
            Ok(first) if first.as_ref().is_some_and(is_true) => Decision::Pass.into(),
            Ok(first) => {
                let shown = match first.as_ref().map(json_of) {
                    None => "nothing".to_owned(),
                    Some(Ok(json)) => String::from_utf8_lossy(&json).into_owned(),
                    Some(Err(error)) => error,
                };
                self.otherwise.answer(format!("the program gives {shown}"))
            }
            Err(Failure(fate, reason)) => fate.answer(reason),
        }
    }
}

impl Transform for Jq {
    fn transform(&mut self, message: &Message<'_>) -> Outcome {
        let made = self.results(message).and_then(|results| {
            let edits: Result<Vec<_>, _> = results.iter().map(|value| self.edit(value)).collect();
            edits.map_err(|reason| Failure(self.on_failure, reason))
        });
        let mut edits = match made {
            Ok(edits) => edits,
            Err(Failure(fate, reason)) => return fate.outcome(reason),
        };
        match (edits.len(), self.splits) {
            (0, _) => Outcome::Drop(Some("the program gives nothing".into())),
            (1, _) => edits.pop().map_or(Outcome::Pass, Outcome::Edit),
            (_, true) => {
                let all = edits.into_iter().map(|edit| applied(message, edit));
                Outcome::Emit(all.collect())
            }
            (count, false) => self.on_failure.outcome(format!(
                "the program gives {count} values; with split = true each is a message"
            )),
        }
    }
}

impl Jq {
    /// What a result changes.
    fn edit(&self, value: &Val) -> Result<Edit, String> {
        match self.output {
            Output::Json => Ok(Edit::new().payload(json_of(value)?)),
            Output::Text => {
                let plain = bytes_of(value).map(<[u8]>::to_vec);
                Ok(Edit::new().payload(match plain {
                    Some(plain) => plain,
                    None => json_of(value)?,
                }))
            }
            Output::Message => message_edit(value),
        }
    }
}

impl Route for Jq {
    fn route(&mut self, message: &Message<'_>) -> Choice {
        match self
            .results(message)
            .and_then(|results| self.places(&results))
        {
            Ok(places) => match places[..] {
                [] => Choice::Drop(Some("the program names no destination".into())),
                [one] => Choice::One(one),
                _ => Choice::To(places),
            },
            Err(Failure(fate, reason)) => fate.choice(reason),
        }
    }
}

impl Jq {
    /// The destinations that texts, and lists of texts, name.
    fn places(&self, results: &[Val]) -> Result<Vec<u32>, Failure> {
        let mut places = Vec::new();
        for result in results {
            let named = match result {
                Val::Null => continue,
                Val::Arr(elements) => &elements[..],
                one => std::slice::from_ref(one),
            };
            for value in named {
                let name = bytes_of(value)
                    .map(String::from_utf8_lossy)
                    .unwrap_or_default();
                let at = self.destinations.iter().position(|known| *known == name);
                let at = at.ok_or_else(|| {
                    let known = self.destinations.join(", ");
                    let text = format!("the program names '{name}', expected some of {known}");
                    Failure(self.on_failure, text)
                })?;
                places.push(at as u32);
            }
        }
        places.sort();
        places.dedup();
        Ok(places)
    }
}

waypost_plugin::export!(Jq: filter, transform, route, schema);

#[cfg(test)]
mod tests;
