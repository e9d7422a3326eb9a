//! CBOR, RFC 8949.
//!
//! A value begins with a head: three bits for its kind, five for a number that is small, or say how
//! many bytes of it follow (24 to 27), or that the end is marked (31).

use shelf_kit::json::DEPTH_MAX;

use crate::node::{Node, WHOLE_BITS_MAX};

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// Reads a payload. The error says where it is wrong.
pub fn read(payload: &[u8]) -> Result<Node, String> {
    let mut reader = Reader { payload, at: 0 };
    let wrong = match reader.value(0) {
        Ok(node) if reader.at == payload.len() => return Ok(node),
        Ok(_) => "more bytes after the value".to_owned(),
        Err(wrong) => wrong,
    };
    Err(format!(
        "the payload is not CBOR: {wrong} at byte {}",
        reader.at
    ))
}

type Read<T> = Result<T, String>;

struct Reader<'p> {
    payload: &'p [u8],
    at: usize,
}

/// What a value begins with.
struct Head {
    kind: u8,
    /// The five bits.
    small: u8,
    /// `None` where the end is marked.
    number: Option<u64>,
}

impl<'p> Reader<'p> {
    fn take(&mut self, length: u64) -> Read<&'p [u8]> {
        let rest = &self.payload[self.at..];
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, _) = rest
            .split_at_checked(length)
            .ok_or_else(|| "it ends early".to_owned())?;
        self.at += length;
        Ok(taken)
    }

    fn head(&mut self) -> Read<Head> {
        let first = self.take(1)?[0];
        let (kind, small) = (first >> 5, first & 31);
        let number = match small {
            0..=23 => Some(small.into()),
            24..=27 => {
                let digits = self.take(1 << (small - 24))?;
                let shifted = |sum: u64, digit: &u8| sum << 8 | u64::from(*digit);
                Some(digits.iter().fold(0, shifted))
            }
            31 => None,
            _ => return Err("a head that says nothing".to_owned()),
        };
        Ok(Head {
            kind,
            small,
            number,
        })
    }

    fn value(&mut self, depth: usize) -> Read<Node> {
        let head = self.head()?;
        // A tag is a level too: it takes as much of the stack.
        if depth == DEPTH_MAX && (ARRAY..=TAG).contains(&head.kind) {
            return Err("nested too deep".into());
        }
        match (head.kind, head.number) {
            (UNSIGNED, Some(number)) => Ok(Node::Whole(number.into())),
            (NEGATIVE, Some(number)) => Ok(Node::Whole(-1 - i128::from(number))),
            (BYTES, length) => self.parts(BYTES, length).map(Node::Bytes),
            (TEXT, length) => {
                let bytes = self.parts(TEXT, length)?;
                let text = String::from_utf8(bytes);
                text.map(Node::Text)
                    .map_err(|_| "a text that is not UTF-8".to_owned())
            }
            (ARRAY, length) => {
                // A length says nothing of what is really there, so no room is made for it.
                let mut elements = Vec::new();
                while self.goes_on(length, elements.len())? {
                    elements.push(self.value(depth + 1)?);
                }
                Ok(Node::Array(elements))
            }
            (MAP, length) => {
                let mut members = Vec::new();
                while self.goes_on(length, members.len())? {
                    let name = self.value(depth + 1)?;
                    members.push((name, self.value(depth + 1)?));
                }
                Ok(Node::Map(members))
            }
            (TAG, Some(tag)) => self.tagged(tag, depth),
            (UNSIGNED..=TAG, None) => Err("a head that says nothing".into()),
            (_, number) => simple(head.small, number),
        }
    }

    /// Bytes or text, in one or in several parts.
    fn parts(&mut self, kind: u8, length: Option<u64>) -> Read<Vec<u8>> {
        if let Some(length) = length {
            return self.take(length).map(<[u8]>::to_vec);
        }
        let mut whole = Vec::new();
        while self.goes_on(None, 0)? {
            match self.head()? {
                Head {
                    kind: found,
                    number: Some(length),
                    ..
                } if found == kind => whole.extend_from_slice(self.take(length)?),
                _ => return Err("a part that is of another kind".into()),
            }
        }
        Ok(whole)
    }

    /// Whether there is another element; eats the mark where there is none.
    fn goes_on(&mut self, length: Option<u64>, count: usize) -> Read<bool> {
        match (length, self.payload.get(self.at)) {
            (Some(length), _) => Ok((count as u64) < length),
            (None, Some(0xff)) => {
                self.at += 1;
                Ok(false)
            }
            (None, _) => Ok(true),
        }
    }

    /// Long whole numbers are one; of other tags the value is taken.
    fn tagged(&mut self, tag: u64, depth: usize) -> Read<Node> {
        let value = self.value(depth + 1)?;
        let (Node::Bytes(digits), 2 | 3) = (&value, tag) else {
            return Ok(value);
        };
        let significant: Vec<_> = digits.iter().skip_while(|digit| **digit == 0).collect();
        if significant.len() > WHOLE_BITS_MAX as usize / 8 {
            return Err(format!("a whole number of more than {WHOLE_BITS_MAX} bits"));
        }
        let shifted = |sum: i128, digit: &u8| sum << 8 | i128::from(*digit);
        let whole = significant.into_iter().fold(0, shifted);
        Ok(Node::Whole(if tag == 2 { whole } else { -1 - whole }))
    }
}

/// The last kind: what has no content, and floats.
fn simple(small: u8, number: Option<u64>) -> Read<Node> {
    match (small, number) {
        (20, _) => Ok(Node::Boolean(false)),
        (21, _) => Ok(Node::Boolean(true)),
        // null, undefined
        (22 | 23, _) => Ok(Node::Null),
        (25, Some(bits)) => Ok(Node::Float(half(bits as u16))),
        (26, Some(bits)) => Ok(Node::Float(f32::from_bits(bits as u32).into())),
        (27, Some(bits)) => Ok(Node::Float(f64::from_bits(bits))),
        _ => Err("a value that no other format has".into()),
    }
}

/// A float of 16 bits: one for the sign, five for the exponent, ten for the fraction.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits >> 10 & 31);
    let fraction = f64::from(bits & 1_023);
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (fraction + 1_024.0) * 2f64.powi(exponent - 25),
    }
}

/// Writes a value.
pub fn write(node: &Node) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, node);
    out
}

fn put_head(out: &mut Vec<u8>, kind: u8, number: u64) {
    let digits = number.to_be_bytes();
    let (small, length) = match number {
        0..=23 => (number as u8, 0),
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    out.push(kind << 5 | small);
    out.extend_from_slice(&digits[8 - length..]);
}

fn put(out: &mut Vec<u8>, node: &Node) {
    match node {
        Node::Null => out.push(0xf6),
        Node::Boolean(value) => out.push(0xf4 | u8::from(*value)),
        Node::Whole(whole) => match (u64::try_from(*whole), u64::try_from(-1 - *whole)) {
            (Ok(number), _) => put_head(out, UNSIGNED, number),
            (_, Ok(number)) => put_head(out, NEGATIVE, number),
            _ => {
                let (tag, digits) = match *whole < 0 {
                    false => (2, whole.to_be_bytes()),
                    true => (3, (-1 - whole).to_be_bytes()),
                };
                let zeros = digits.iter().take_while(|digit| **digit == 0).count();
                put_head(out, TAG, tag);
                put(out, &Node::Bytes(digits[zeros..].to_vec()));
            }
        },
        // The shorter one where it says the same.
        Node::Float(float) if f64::from(*float as f32) == *float => {
            out.push(0xfa);
            out.extend_from_slice(&(*float as f32).to_be_bytes());
        }
        Node::Float(float) => {
            out.push(0xfb);
            out.extend_from_slice(&float.to_be_bytes());
        }
        Node::Text(text) => {
            put_head(out, TEXT, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
        Node::Bytes(bytes) => {
            put_head(out, BYTES, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        Node::Array(elements) => {
            put_head(out, ARRAY, elements.len() as u64);
            elements.iter().for_each(|element| put(out, element));
        }
        Node::Map(members) => {
            put_head(out, MAP, members.len() as u64);
            for (name, value) in members {
                put(out, name);
                put(out, value);
            }
        }
    }
}
