//! A value between two formats: what any of them has.

use shelf_kit::base64;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `null`; CBOR's `undefined` too.
    Null,
    /// `true`, `false`
    Boolean(bool),
    /// A whole number.
    Whole(i128),
    /// Another number.
    Float(f64),
    /// UTF-8
    Text(String),
    /// Bytes that are no text; JSON has none.
    Bytes(Vec<u8>),
    /// `[…]`
    Array(Vec<Node>),
    /// Names and values, in order; JSON has texts for names only.
    Map(Vec<(Node, Node)>),
}

/// Whole numbers have so many bits, beside their sign.
pub const WHOLE_BITS_MAX: u32 = 120;
/// And so are smaller than this, and not smaller than its opposite.
pub const WHOLE_MAX: i128 = 1 << WHOLE_BITS_MAX;

/// How JSON writes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// As text, with padding.
    Base64,
    /// As text, in lower case.
    Hex,
    /// Not at all.
    Refuse,
}

impl Bytes {
    /// Their words.
    pub const WORDS: [(&'static str, Bytes); 3] = [
        ("base64", Bytes::Base64),
        ("hex", Bytes::Hex),
        ("refuse", Bytes::Refuse),
    ];

    /// Bytes as text.
    pub fn text(self, bytes: &[u8]) -> Result<String, String> {
        match self {
            Bytes::Base64 => Ok(base64::encode(bytes)),
            Bytes::Hex => Ok(base64::hex(bytes)),
            Bytes::Refuse => Err("it has bytes, which JSON has not".into()),
        }
    }
}
