//! What guests of `wasi:messaging` hold on this side, by the numbers that their handles carry.
//!
//! The invariant: it has a bound. There are at most [`THINGS_MAX`] of them, and
//! [`Message::bytes`] of all messages are counted as memory of the instance, by whoever puts them
//! here. All of it goes with the instance.

use bytes::Bytes;

use crate::bindings;
use crate::message::MessageRef;

/// Messages, clients and options that an instance holds at once: 16 for each message of a full
/// batch.
pub(crate) const THINGS_MAX: usize = 4_096;
/// What a message counts beside its text and data, in bytes.
const MESSAGE_BYTES: usize = 256;
/// What a pair of metadata counts beside its text, in bytes.
const PAIR_BYTES: usize = 64;

/// The resource `message`.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(super) topic: Option<Box<str>>,
    pub(super) content_type: Option<Box<str>>,
    pub(super) data: Bytes,
    pub(super) metadata: Vec<(String, String)>,
    /// Where the router's message wants its replies.
    pub(super) reply_to: Option<Box<str>>,
}

/// The resource `client`: there is one thing to be connected to, so it only knows whether it is.
#[derive(Debug)]
pub(crate) struct Client {
    pub(super) is_connected: bool,
}

/// The resource `request-options`, which nothing reads.
#[derive(Debug)]
pub(crate) struct RequestOptions;

impl Message {
    pub(super) fn of_data(data: Vec<u8>) -> Message {
        Message {
            data: Bytes::from(data),
            ..Message::default()
        }
    }

    /// A copy of what is on the route. Values of headers are any bytes; what is not UTF-8 in them
    /// becomes U+FFFD.
    pub(crate) fn received(message: &MessageRef<'_>) -> Message {
        let record = &message.record;
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = record.headers();
        Message {
            topic: Some(record.topic().into()),
            content_type: record.content_type().map(Box::from),
            data: Bytes::copy_from_slice(record.payload()),
            metadata: headers
                .map(|(name, value)| (name.to_owned(), text(value)))
                .collect(),
            reply_to: record.reply_to().map(Box::from),
        }
    }

    /// What it counts.
    pub(super) fn bytes(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let pairs = self.metadata.iter();
        let pairs = pairs.map(|(key, value)| PAIR_BYTES + key.len() + value.len());
        let texts = text(&self.topic) + text(&self.content_type) + text(&self.reply_to);
        MESSAGE_BYTES + texts + self.data.len() + pairs.sum::<usize>()
    }

    /// In the place of the first with this key; others with it go.
    pub(super) fn add_metadata(&mut self, key: String, value: String) {
        let first = self.metadata.iter().position(|(found, _)| *found == key);
        match first {
            None => self.metadata.push((key, value)),
            Some(at) => {
                let mut place = 0..;
                self.metadata
                    .retain(|(found, _)| place.next() == Some(at) || *found != key);
                self.metadata[at].1 = value;
            }
        }
    }

    /// As a message that a plugin publishes: what the interface has no word for is not there.
    pub(super) fn into_outgoing(self, topic: Box<str>) -> bindings::Outgoing {
        let pairs = self.metadata.into_iter();
        bindings::Outgoing {
            topic,
            key: None,
            content_type: self.content_type,
            reply_to: None,
            headers: pairs
                .map(|(key, value)| (key.into(), value.into_bytes().into()))
                .collect(),
            payload: Vec::from(self.data).into(),
            ttl_ms: None,
        }
    }
}

/// One of them.
pub(super) enum Thing {
    Message(Box<Message>),
    Client(Client),
    Options(RequestOptions),
}

/// All of an instance.
#[derive(Default)]
pub(crate) struct Held {
    things: Vec<Option<Thing>>,
    free: Vec<u32>,
}

impl Held {
    /// Its number; nothing where there is no room.
    pub(super) fn put(&mut self, thing: Thing) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            *self.things.get_mut(number as usize)? = Some(thing);
            return Some(number);
        }
        if self.things.len() >= THINGS_MAX {
            return None;
        }
        self.things.push(Some(thing));
        Some(self.things.len() as u32 - 1)
    }

    /// Takes it out; its number is free again.
    pub(super) fn take(&mut self, number: u32) -> Option<Thing> {
        let thing = self.things.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(thing)
    }

    pub(super) fn get(&mut self, number: u32) -> Option<&mut Thing> {
        self.things.get_mut(number as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_and_a_number_is_used_again() {
        let mut held = Held::default();
        for number in 0..THINGS_MAX as u32 {
            assert_eq!(held.put(Thing::Options(RequestOptions)), Some(number));
        }
        assert_eq!(held.put(Thing::Options(RequestOptions)), None);
        assert!(held.take(7).is_some() && held.take(7).is_none() && held.get(7).is_none());
        assert_eq!(held.put(Thing::Options(RequestOptions)), Some(7));
        assert!(held.take(THINGS_MAX as u32).is_none());
    }

    #[test]
    fn a_key_that_is_added_replaces_all_of_it_in_the_first_ones_place() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut message = Message::of_data(vec![0; 10]);
        assert_eq!(message.bytes(), MESSAGE_BYTES + 10);
        message.metadata = vec![pair("a", "1"), pair("b", "2"), pair("a", "3")];
        message.add_metadata("a".into(), "4".into());
        message.add_metadata("c".into(), "5".into());
        let wanted = [pair("a", "4"), pair("b", "2"), pair("c", "5")];
        assert_eq!(message.metadata, wanted);
        assert_eq!(message.bytes(), MESSAGE_BYTES + 10 + 3 * (PAIR_BYTES + 2));
    }
}
