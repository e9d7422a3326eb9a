//! Messages for tests, and batches packed as the router packs them.

use crate::raw::types;
use crate::{Batch, HeaderInterest, Interest, PayloadInterest};

/// A message that a test gives to a plugin.
#[derive(Clone, Debug, Default)]
pub struct Input {
    topic: String,
    headers: Vec<(String, Vec<u8>)>,
    payload: Vec<u8>,
    receive_time_ms: u64,
    key: Option<Vec<u8>>,
    content_type: Option<String>,
    message_id: Option<Vec<u8>>,
    reply_to: Option<String>,
    ttl_ms: Option<u64>,
    redelivered: bool,
    from_peer: bool,
}

impl Input {
    /// A message with a topic and a payload, received at 1,000,000 ms.
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Input {
        Input {
            topic: topic.into(),
            payload: payload.into(),
            receive_time_ms: 1_000_000,
            ..Input::default()
        }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Input {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Input {
        self.key = Some(key.into());
        self
    }

    /// With a content type.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Input {
        self.content_type = Some(content_type.into());
        self
    }

    /// With a message id.
    #[must_use]
    pub fn message_id(mut self, message_id: impl Into<Vec<u8>>) -> Input {
        self.message_id = Some(message_id.into());
        self
    }

    /// With a topic for answers.
    #[must_use]
    pub fn reply_to(mut self, reply_to: impl Into<String>) -> Input {
        self.reply_to = Some(reply_to.into());
        self
    }

    /// With a time-to-live of which so many ms are left.
    #[must_use]
    pub fn ttl_ms(mut self, ttl_ms: u64) -> Input {
        self.ttl_ms = Some(ttl_ms);
        self
    }

    /// Received at another time.
    #[must_use]
    pub fn received_at_ms(mut self, receive_time_ms: u64) -> Input {
        self.receive_time_ms = receive_time_ms;
        self
    }

    /// Delivered to this route before.
    #[must_use]
    pub fn redelivered(mut self) -> Input {
        self.redelivered = true;
        self
    }

    /// Come from a peer router.
    #[must_use]
    pub fn from_peer(mut self) -> Input {
        self.from_peer = true;
        self
    }
}

/// Packs messages as the router does for a plugin with this interest: what it did not ask for is not
/// there. Missing payload can be pulled, until the next batch is made on this thread.
pub fn batch(interest: &Interest, inputs: impl IntoIterator<Item = Input>) -> Batch {
    let inputs: Vec<Input> = inputs.into_iter().collect();
    let (mut index, mut arena) = (Vec::new(), Vec::new());
    for input in &inputs {
        index.extend(words(input, interest, &mut arena));
    }
    let raw = types::Batch {
        count: inputs.len() as u32,
        stride: 20,
        index,
        arena,
    };
    super::standin::with(|router| {
        router.payloads = inputs.into_iter().map(|input| input.payload).collect();
    });
    match Batch::new(raw) {
        Ok(batch) => batch,
        Err(error) => panic!("the stand-in packs wrongly: {error:?}"),
    }
}

/// The words of one message, as `wit/plugin.wit` draws them.
fn words(input: &Input, interest: &Interest, arena: &mut Vec<u8>) -> [u32; 20] {
    let mut words = [0; 20];
    let mut put = |at: usize, bytes: &[u8]| {
        words[at] = arena.len() as u32;
        words[at + 1] = bytes.len() as u32;
        arena.extend_from_slice(bytes);
    };
    put(1, input.topic.as_bytes());
    let wanted = |name: &str| match &interest.headers {
        HeaderInterest::Nothing => false,
        HeaderInterest::Only(names) => names.iter().any(|wanted| wanted == name),
        HeaderInterest::Everything => true,
    };
    let mut headers = Vec::new();
    for (name, value) in input.headers.iter().filter(|(name, _)| wanted(name)) {
        headers.extend((name.len() as u32).to_le_bytes());
        headers.extend((value.len() as u32).to_le_bytes());
        headers.extend(name.as_bytes());
        headers.extend(value);
    }
    put(3, &headers);
    let inlined = match interest.payload {
        PayloadInterest::Nothing => 0,
        PayloadInterest::Prefix(bytes) => input.payload.len().min(bytes as usize),
        PayloadInterest::Everything => input.payload.len(),
    };
    put(5, &input.payload[..inlined]);
    let mut marks = u32::from(input.redelivered) | u32::from(input.from_peer) << 1;
    marks |= u32::from(inlined < input.payload.len()) << 2;
    let asked = |name: &str| interest.fields.iter().any(|field| field == name);
    let fields = [
        (10, 16, "key", input.key.as_deref()),
        (
            12,
            32,
            "content-type",
            input.content_type.as_deref().map(str::as_bytes),
        ),
        (14, 64, "message-id", input.message_id.as_deref()),
        (
            16,
            128,
            "reply-to",
            input.reply_to.as_deref().map(str::as_bytes),
        ),
    ];
    for (at, mark, name, value) in fields {
        if let Some(value) = value.filter(|_| asked(name)) {
            put(at, value);
            marks |= mark;
        }
    }
    let mut wide = |at: usize, value: u64| {
        words[at] = value as u32;
        words[at + 1] = (value >> 32) as u32;
    };
    wide(8, input.receive_time_ms);
    if let Some(ttl_ms) = input.ttl_ms.filter(|_| asked("ttl")) {
        wide(18, ttl_ms);
        marks |= 8;
    }
    words[7] = input.payload.len() as u32;
    words[0] = marks;
    words
}
