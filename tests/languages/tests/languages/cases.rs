//! The cases of the conformance suite; their form is described in its README.

use std::path::Path;

use bytes::Bytes;
use serde_json::Value;
use waypost_host::Role;
use waypost_wire::record::Message;

/// One line of the suite.
#[derive(Clone)]
pub struct Case {
    /// File and line.
    pub place: String,
    pub name: String,
    pub role: Role,
    pub settings: Vec<(String, String)>,
    pub destinations: Vec<String>,
    pub expect: Expect,
}

#[derive(Clone, Debug)]
pub enum Expect {
    /// `init` refuses the settings.
    Refusal {
        setting: Option<String>,
        message: String,
    },
    Verdicts {
        sent: Vec<Message>,
        expected: Vec<Expected>,
    },
}

/// What becomes of a message.
#[derive(Clone, Debug)]
pub enum Expected {
    Pass,
    Drop(String),
    DeadLetter(Reason),
    To(Vec<u32>),
    /// The message as it is afterwards; its payload is compared as JSON.
    Edit(Box<Message>, Value),
}

#[derive(Clone, Debug)]
pub enum Reason {
    Is(String),
    Begins(String),
}

impl Case {
    /// The same case with expectations that are wrong, one at a time.
    pub fn mistaken(&self) -> Vec<Case> {
        let with = |expect| Case {
            expect,
            ..self.clone()
        };
        match &self.expect {
            Expect::Refusal { setting, message } => {
                let other = setting.as_ref().map_or(Some("x".into()), |_| None);
                let refusal = |setting, message| Expect::Refusal { setting, message };
                vec![
                    with(refusal(other, message.clone())),
                    with(refusal(setting.clone(), format!("{message}."))),
                ]
            }
            Expect::Verdicts { sent, expected } => {
                let Some((last, before)) = expected.split_last() else {
                    return Vec::new();
                };
                let others = last.others().into_iter().map(|other| {
                    let mut expected = before.to_vec();
                    expected.push(other);
                    with(Expect::Verdicts {
                        sent: sent.clone(),
                        expected,
                    })
                });
                others.collect()
            }
        }
    }
}

impl Expected {
    fn others(&self) -> Vec<Expected> {
        match self {
            Expected::Pass => vec![Expected::Drop(String::new())],
            Expected::Drop(reason) => vec![Expected::Pass, Expected::Drop(format!("{reason}."))],
            Expected::DeadLetter(_) => vec![
                Expected::DeadLetter(Reason::Is("another".into())),
                Expected::DeadLetter(Reason::Begins("another".into())),
            ],
            Expected::To(to) => vec![Expected::To([&to[..], &[0]].concat())],
            Expected::Edit(message, json) => {
                let mut changed = vec![(message.clone(), Value::Null)];
                let mut other = message.clone();
                other.headers.push(("x".into(), Bytes::new()));
                changed.push((other, json.clone()));
                let mut other = message.clone();
                other.topic.push('x');
                changed.push((other, json.clone()));
                let mut other = message.clone();
                other.content_type = None;
                changed.push((other, json.clone()));
                changed
                    .into_iter()
                    .map(|(message, json)| Expected::Edit(message, json))
                    .collect()
            }
        }
    }
}

/// All cases of a folder.
pub fn read(folder: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    for role in [Role::Filter, Role::Transform, Role::Route] {
        let file = format!("{}.jsonl", role.name());
        let text = std::fs::read_to_string(folder.join(&file)).expect("a file of cases");
        for (line, json) in text.lines().enumerate() {
            let place = format!("{file}:{}", line + 1);
            let case: Value =
                serde_json::from_str(json).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_eq!(case["role"], role.name(), "{place}");
            cases.push(Case {
                name: text_of(&case["case"], &place),
                role,
                settings: pairs(&case["settings"], &place),
                destinations: items(&case["destinations"])
                    .map(|name| text_of(name, &place))
                    .collect(),
                expect: expect(&case, &place),
                place,
            });
        }
    }
    cases
}

fn expect(case: &Value, place: &str) -> Expect {
    if case["refuse"].is_object() {
        return Expect::Refusal {
            setting: case["refuse"]["setting"].as_str().map(str::to_owned),
            message: text_of(&case["refuse"]["message"], place),
        };
    }
    Expect::Verdicts {
        sent: items(&case["send"])
            .flat_map(|json| std::iter::repeat_n(message(json, place), times(json)))
            .collect(),
        expected: items(&case["expect"])
            .flat_map(|json| std::iter::repeat_n(expected(json, place), times(json)))
            .collect(),
    }
}

fn expected(json: &Value, place: &str) -> Expected {
    match text_of(&json["verdict"], place).as_str() {
        "pass" => Expected::Pass,
        "drop" => Expected::Drop(text_of(&json["reason"], place)),
        "dead-letter" => Expected::DeadLetter(match json["reason_begins"].as_str() {
            Some(begin) => Reason::Begins(begin.into()),
            None => Reason::Is(text_of(&json["reason"], place)),
        }),
        "to" => Expected::To(
            items(&json["to"])
                .map(|index| index.as_u64().expect("an index") as u32)
                .collect(),
        ),
        "edit" => Expected::Edit(
            Box::new(message(&json["message"], place)),
            json["message"]["payload"]["json"].clone(),
        ),
        other => panic!("{place}: unknown verdict {other}"),
    }
}

fn message(json: &Value, place: &str) -> Message {
    let text = |member: &str| json[member].as_str().map(str::to_owned);
    let mut message = Message::new(text_of(&json["topic"], place), payload(&json["payload"]));
    message.key = text("key").map(Bytes::from);
    message.content_type = text("content_type");
    message.time_to_live_ms = json["ttl_ms"].as_u64();
    message.headers = items(&json["headers"])
        .map(|header| (text_of(&header[0], place), bytes(&header[1])))
        .collect();
    message
}

fn payload(json: &Value) -> Bytes {
    let Some(feature) = json.get("json") else {
        return bytes(json);
    };
    let mut feature = feature.clone();
    if let Some(pad) = json["pad"].as_u64() {
        feature["pad"] = "x".repeat(pad as usize).into();
    }
    feature.to_string().into()
}

/// Text, `{"text", "repeat"}` or `{"hex"}`; nothing where there is nothing.
fn bytes(json: &Value) -> Bytes {
    if let Some(text) = json.as_str().or(json["text"].as_str()) {
        let times = json["repeat"].as_u64().unwrap_or(1);
        return text.repeat(times as usize).into();
    }
    let digits = json["hex"].as_str().unwrap_or_default().as_bytes();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("hexadecimal")
    };
    digits.chunks(2).map(byte).collect()
}

fn times(json: &Value) -> usize {
    json["times"].as_u64().unwrap_or(1) as usize
}

fn items(json: &Value) -> impl Iterator<Item = &Value> {
    json.as_array().into_iter().flatten()
}

fn pairs(json: &Value, place: &str) -> Vec<(String, String)> {
    items(json)
        .map(|pair| (text_of(&pair[0], place), text_of(&pair[1], place)))
        .collect()
}

fn text_of(json: &Value, place: &str) -> String {
    let text = json.as_str();
    text.unwrap_or_else(|| panic!("{place}: {json} is not text"))
        .to_owned()
}
