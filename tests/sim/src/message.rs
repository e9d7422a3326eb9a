//! The messages of a run: each body follows from its tag, so that whatever comes back can be
//! compared byte by byte with what was published.

use bytes::Bytes;
use waypost_log::mem::Rng;
use waypost_wire::{Message, RecordRef};

/// Names a message of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// Its publisher.
    pub publisher: u32,
    /// Counts up with each message of the publisher, over all queues.
    pub sequence: u64,
}

const TAG_BYTES: usize = 12;
const TOPICS: [&str; 3] = ["sim/a", "sim/b", "sim/c"];

impl Tag {
    /// Its body: 12 bytes of tag, and filler whose length follows from the tag too.
    pub fn body(self) -> Bytes {
        let mut message = Message::new(self.topic(), self.payload());
        message.key = self.key();
        message.to_body()
    }

    /// Its topic: one of three.
    pub fn topic(self) -> &'static str {
        TOPICS[(self.sequence % 3) as usize]
    }

    /// Its key: one of four, or none.
    pub fn key(self) -> Option<Bytes> {
        let number = (self.sequence / 3 + u64::from(self.publisher)) % 5;
        (number > 0).then(|| Bytes::from(format!("k{number}")))
    }

    fn payload(self) -> Vec<u8> {
        let mut rng = Rng(u64::from(self.publisher) << 40 ^ self.sequence);
        // Mostly small; now and then larger than a sector, seldom than a page.
        let length = match rng.below(20) {
            0 => 1000 + rng.below(4000),
            1..=4 => 100 + rng.below(700),
            _ => rng.below(100),
        };
        let mut payload = Vec::with_capacity(TAG_BYTES + length as usize);
        payload.extend_from_slice(&self.publisher.to_le_bytes());
        payload.extend_from_slice(&self.sequence.to_le_bytes());
        payload.extend((0..length).map(|_| rng.next_u64() as u8));
        payload
    }
}

/// What a delivered body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Exactly what was published under this tag.
    Published(Tag),
    /// A dead letter: the payload that was published, and why it is here.
    Dead(DeadLetter),
    /// Nothing that this run made.
    Foreign(String),
}

/// A dead letter as its headers tell it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadLetter {
    /// Where it was.
    pub place: Place,
    /// What it was.
    pub tag: Tag,
    /// The reason given.
    pub reason: String,
    /// Attempts that it had.
    pub attempts: u32,
}

/// A message's place before it became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The queue's name.
    pub queue: String,
    /// The group that could not process it.
    pub group: String,
    /// Its offset.
    pub offset: u64,
}

/// Tells what a body is, comparing every byte.
pub fn identify(body: &[u8]) -> Identity {
    let foreign = |what: &str| Identity::Foreign(format!("{what} ({} bytes)", body.len()));
    if let Err(error) = waypost_wire::record::verify(body) {
        return foreign(&error.to_string());
    }
    let Ok(record) = RecordRef::parse(body) else {
        return foreign("it is no record");
    };
    let Some(tag) = tag_of(record.payload()) else {
        return foreign("its payload has no tag");
    };
    if body == tag.body() {
        return Identity::Published(tag);
    }
    if record.payload() != tag.payload() {
        return foreign("its payload is not what was published");
    }
    let header = |name: &str| {
        record
            .header(name)
            .and_then(|value| std::str::from_utf8(value).ok())
            .map(str::to_owned)
    };
    let dead = || {
        Some(DeadLetter {
            place: Place {
                queue: header("waypost-dead-queue")?,
                // None where the queue's limit made it go.
                group: header("waypost-dead-group").unwrap_or_default(),
                offset: header("waypost-dead-offset")?.parse().ok()?,
            },
            tag,
            reason: header("waypost-dead-reason")?,
            attempts: match header("waypost-dead-attempts") {
                Some(attempts) => attempts.parse().ok()?,
                None => 0,
            },
        })
    };
    dead().map_or_else(|| foreign("its headers are wrong"), Identity::Dead)
}

fn tag_of(payload: &[u8]) -> Option<Tag> {
    Some(Tag {
        publisher: u32::from_le_bytes(payload.get(..4)?.try_into().ok()?),
        sequence: u64::from_le_bytes(payload.get(4..TAG_BYTES)?.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_known_by_every_byte() {
        let tag = Tag {
            publisher: 3,
            sequence: 77,
        };
        let body = tag.body();
        assert_eq!(identify(&body), Identity::Published(tag));
        for at in 0..body.len() {
            let mut other = body.to_vec();
            other[at] ^= 1;
            assert!(matches!(identify(&other), Identity::Foreign(_)), "{at}");
        }
    }
}
