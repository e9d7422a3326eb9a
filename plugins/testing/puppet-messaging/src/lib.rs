//! A guest of `wasi:messaging` 0.2.0-draft that knows nothing of this router: for tests of the
//! adapter. It does what each message's metadata says.
//!
//! The key `do` holds orders, separated by `;`. The key `to` names the topic that messages go to.
//!
//! | order | what happens |
//! |---|---|
//! | `upper` | sends a copy with its data in capitals, with its content type and metadata |
//! | `forward` | sends the message itself |
//! | `send N B` | sends N messages of B bytes, until one is refused |
//! | `closed` | sends with a client that has disconnected |
//! | `reply TEXT` | replies to the message |
//! | `request` | asks for a reply, with all options set |
//! | `show` | topic, content type, data and metadata of the message |
//! | `data TEXT`, `type TEXT`, `add K V`, `remove K`, `meta K V …` | changes the message |
//! | `keep N B` | makes N messages of B bytes, and keeps them for good |
//! | `drop N` | makes and drops N messages |
//! | `clients N`, `options N` | makes so many, and keeps them for good |
//! | `calls N` | asks for the topic N times |
//! | `fail CASE WORDS` | answers with that error |
//! | `tell` | answers with the error `other`: what the orders gave, separated by `;` |
//! | `trap`, `loop` | ends so |

mod api {
    #![allow(missing_docs, reason = "generated from the interface")]
    wit_bindgen::generate!({
        path: "../../../wit/wasi-messaging",
        world: "messaging-request-reply",
        generate_all,
    });
}

use std::hint::black_box;
use std::mem::forget;

use api::exports::wasi::messaging::incoming_handler::Guest;
use api::wasi::messaging::producer::send;
use api::wasi::messaging::request_reply::{RequestOptions, reply, request};
use api::wasi::messaging::types::{Client, Error, Message};

struct Puppet;

impl Guest for Puppet {
    fn handle(message: Message) -> Result<(), Error> {
        let (orders, to) = (value(&message, "do"), value(&message, "to"));
        let mut answers = Vec::new();
        for order in orders.split(';').map(str::trim).filter(|o| !o.is_empty()) {
            let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
            match verb {
                "forward" => return send(&client()?, &to, message),
                "upper" => send(&client()?, &to, in_capitals(&message))?,
                "fail" => return Err(failure(rest)),
                "tell" => return Err(Error::Other(answers.join(";"))),
                "trap" => panic!("told to"),
                "loop" => loop {
                    black_box(());
                },
                _ => answers.push(act(&message, &to, verb, rest)),
            }
        }
        Ok(())
    }
}

/// One order that has an answer.
fn act(message: &Message, to: &str, verb: &str, rest: &str) -> String {
    let words: Vec<&str> = rest.split(' ').collect();
    let number = |at: usize| words.get(at).and_then(|n| n.parse().ok()).unwrap_or(1usize);
    let made = |bytes: usize| Message::new(&vec![b'x'; bytes]);
    match verb {
        "send" => {
            let sent = client().and_then(|client| {
                (0..number(0)).try_for_each(|_| send(&client, to, made(number(1))))
            });
            told(sent)
        }
        "closed" => {
            let sent = client().and_then(|client| {
                client.disconnect()?;
                send(&client, to, made(1))
            });
            told(sent)
        }
        "reply" => told(reply(message, Message::new(rest.as_bytes()))),
        "request" => {
            let options = RequestOptions::new();
            options.set_timeout_ms(1);
            options.set_expected_replies(1);
            let asked = client().and_then(|client| request(&client, to, message, Some(options)));
            told(asked.map(drop))
        }
        "show" => shown(message),
        "data" | "type" | "add" | "remove" | "meta" => {
            change(message, verb, rest);
            "ok".into()
        }
        "keep" => {
            (0..number(0)).for_each(|_| forget(made(number(1))));
            String::new()
        }
        "drop" => {
            (0..number(0)).for_each(|_| drop(made(1)));
            String::new()
        }
        "clients" => {
            (0..number(0)).for_each(|_| forget(client()));
            String::new()
        }
        "options" => {
            (0..number(0)).for_each(|_| forget(RequestOptions::new()));
            String::new()
        }
        "calls" => {
            (0..number(0)).for_each(|_| drop(black_box(message.topic())));
            String::new()
        }
        _ => format!("no such order: {verb}"),
    }
}

/// One order that changes the message.
fn change(message: &Message, verb: &str, rest: &str) {
    match verb {
        "data" => message.set_data(rest.as_bytes()),
        "type" => message.set_content_type(rest),
        "add" => {
            let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
            message.add_metadata(key, value);
        }
        "remove" => message.remove_metadata(rest),
        _ => {
            let words: Vec<&str> = rest.split(' ').collect();
            let pairs = words.chunks_exact(2);
            let pairs: Vec<_> = pairs
                .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
                .collect();
            message.set_metadata(&pairs);
        }
    }
}

fn client() -> Result<Client, Error> {
    Client::connect("anything")
}

/// Of several values the last.
fn value(message: &Message, key: &str) -> String {
    let metadata = message.metadata().unwrap_or_default();
    let found = metadata.into_iter().rfind(|(name, _)| name == key);
    found.map(|(_, value)| value).unwrap_or_default()
}

fn in_capitals(message: &Message) -> Message {
    let copy = Message::new(&message.data().to_ascii_uppercase());
    if let Some(content_type) = message.content_type() {
        copy.set_content_type(&content_type);
    }
    if let Some(metadata) = message.metadata() {
        copy.set_metadata(&metadata);
    }
    copy
}

fn failure(rest: &str) -> Error {
    let (case, words) = rest.split_once(' ').unwrap_or((rest, ""));
    match case {
        "timeout" => Error::Timeout,
        "connection" => Error::Connection(words.into()),
        "permission-denied" => Error::PermissionDenied(words.into()),
        _ => Error::Other(words.into()),
    }
}

fn told(result: Result<(), Error>) -> String {
    match result {
        Ok(()) => "ok".into(),
        Err(Error::Timeout) => "timeout".into(),
        Err(Error::Connection(words)) => format!("connection: {words}"),
        Err(Error::PermissionDenied(words)) => format!("permission-denied: {words}"),
        Err(Error::Other(words)) => format!("other: {words}"),
    }
}

fn shown(message: &Message) -> String {
    let metadata = message.metadata().map(|metadata| {
        let pairs = metadata.iter().filter(|(key, _)| key != "do");
        let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    });
    format!(
        "{:?} {:?} {:?} {metadata:?}",
        message.topic(),
        message.content_type(),
        String::from_utf8_lossy(&message.data())
    )
}

api::export!(Puppet with_types_in api);
