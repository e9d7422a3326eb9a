//! MessagePack.

use shelf_kit::json::DEPTH_MAX;

use crate::node::Node;

/// Reads a payload. The error says where it is wrong.
pub fn read(payload: &[u8]) -> Result<Node, String> {
    let mut rest = payload;
    let at = |rest: &[u8]| payload.len() - rest.len();
    match value(&mut rest, 0) {
        Ok(node) if rest.is_empty() => Ok(node),
        Ok(_) => Err(format!(
            "the payload is not MessagePack: more bytes after the value at byte {}",
            at(rest)
        )),
        Err(wrong) => Err(format!(
            "the payload is not MessagePack: {wrong} at byte {}",
            at(rest)
        )),
    }
}

type Read<T> = Result<T, String>;

fn value(rest: &mut &[u8], depth: usize) -> Read<Node> {
    let [byte] = array(rest)?;
    if depth == DEPTH_MAX && matches!(byte, 0x80..=0x9f | 0xdc..=0xdf) {
        return Err("nested too deep".into());
    }
    let whole = |number: i128| Ok(Node::Whole(number));
    match byte {
        0x00..=0x7f => whole(byte.into()),
        0x80..=0x8f => members(rest, usize::from(byte & 15), depth),
        0x90..=0x9f => elements(rest, usize::from(byte & 15), depth),
        0xa0..=0xbf => text(rest, usize::from(byte & 31)),
        0xc0 => Ok(Node::Null),
        0xc1 => Err("the byte c1, which says nothing,".into()),
        0xc2 => Ok(Node::Boolean(false)),
        0xc3 => Ok(Node::Boolean(true)),
        0xc4..=0xc6 => length(rest, 1 << (byte - 0xc4)).and_then(|length| bytes(rest, length)),
        0xca => Ok(Node::Float(f32::from_be_bytes(array(rest)?).into())),
        0xcb => Ok(Node::Float(f64::from_be_bytes(array(rest)?))),
        0xcc => whole(u8::from_be_bytes(array(rest)?).into()),
        0xcd => whole(u16::from_be_bytes(array(rest)?).into()),
        0xce => whole(u32::from_be_bytes(array(rest)?).into()),
        0xcf => whole(u64::from_be_bytes(array(rest)?).into()),
        0xd0 => whole(i8::from_be_bytes(array(rest)?).into()),
        0xd1 => whole(i16::from_be_bytes(array(rest)?).into()),
        0xd2 => whole(i32::from_be_bytes(array(rest)?).into()),
        0xd3 => whole(i64::from_be_bytes(array(rest)?).into()),
        0xd9..=0xdb => length(rest, 1 << (byte - 0xd9)).and_then(|length| text(rest, length)),
        0xdc | 0xdd => {
            length(rest, 2 << (byte - 0xdc)).and_then(|length| elements(rest, length, depth))
        }
        0xde | 0xdf => {
            length(rest, 2 << (byte - 0xde)).and_then(|length| members(rest, length, depth))
        }
        0xe0..=0xff => whole(byte.cast_signed().into()),
        0xc7..=0xc9 | 0xd4..=0xd8 => Err("an extension type, which no other format has,".into()),
    }
}

fn take<'t>(rest: &mut &'t [u8], length: usize) -> Read<&'t [u8]> {
    let (taken, after) = rest
        .split_at_checked(length)
        .ok_or_else(|| "it ends early".to_owned())?;
    *rest = after;
    Ok(taken)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Read<[u8; N]> {
    let taken = take(rest, N)?;
    Ok(std::array::from_fn(|at| taken[at]))
}

/// A length of so many bytes.
fn length(rest: &mut &[u8], bytes: usize) -> Read<usize> {
    let digits = take(rest, bytes)?;
    Ok(digits
        .iter()
        .fold(0, |sum, digit| sum << 8 | usize::from(*digit)))
}

fn text(rest: &mut &[u8], length: usize) -> Read<Node> {
    let bytes = take(rest, length)?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Node::Text(text.to_owned())),
        Err(_) => Err("a text that is not UTF-8".into()),
    }
}

fn bytes(rest: &mut &[u8], length: usize) -> Read<Node> {
    take(rest, length).map(|bytes| Node::Bytes(bytes.to_vec()))
}

fn elements(rest: &mut &[u8], count: usize, depth: usize) -> Read<Node> {
    // A count says nothing of what is really there, so no room is made for it.
    let mut elements = Vec::new();
    for _ in 0..count {
        elements.push(value(rest, depth + 1)?);
    }
    Ok(Node::Array(elements))
}

fn members(rest: &mut &[u8], count: usize, depth: usize) -> Read<Node> {
    let mut members = Vec::new();
    for _ in 0..count {
        let name = value(rest, depth + 1)?;
        members.push((name, value(rest, depth + 1)?));
    }
    Ok(Node::Map(members))
}

/// Writes a value. The error says what of it MessagePack has not.
pub fn write(node: &Node) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    put(&mut out, node)?;
    Ok(out)
}

/// A length, after the first of these bytes that has room for it; `None` where one has none.
fn put_length(out: &mut Vec<u8>, length: usize, heads: [Option<u8>; 3]) -> Result<(), String> {
    let digits = u32::try_from(length).map_err(|_| "it is too long".to_owned())?;
    let rooms = [(1, 0xff), (2, 0xffff), (4, u32::MAX)];
    for ((bytes, most), head) in rooms.into_iter().zip(heads) {
        if let Some(head) = head.filter(|_| digits <= most) {
            out.push(head);
            out.extend_from_slice(&digits.to_be_bytes()[4 - bytes..]);
            return Ok(());
        }
    }
    Err("it is too long".to_owned())
}

fn put_whole(out: &mut Vec<u8>, whole: i128) -> Result<(), String> {
    let (head, length) = match whole {
        -32..=127 => {
            out.push(whole as u8);
            return Ok(());
        }
        128..=0xff => (0xcc, 1),
        0x100..=0xffff => (0xcd, 2),
        0x1_0000..=0xffff_ffff => (0xce, 4),
        0x1_0000_0000..=0xffff_ffff_ffff_ffff => (0xcf, 8),
        -0x80..=-33 => (0xd0, 1),
        -0x8000..=-0x81 => (0xd1, 2),
        -0x8000_0000..=-0x8001 => (0xd2, 4),
        -0x8000_0000_0000_0000..=-0x8000_0001 => (0xd3, 8),
        _ => {
            return Err(format!(
                "it has the number {whole}, which MessagePack has not"
            ));
        }
    };
    out.push(head);
    out.extend_from_slice(&whole.to_be_bytes()[16 - length..]);
    Ok(())
}

fn put(out: &mut Vec<u8>, node: &Node) -> Result<(), String> {
    match node {
        Node::Null => out.push(0xc0),
        Node::Boolean(value) => out.push(0xc2 | u8::from(*value)),
        Node::Whole(whole) => put_whole(out, *whole)?,
        // The shorter one where it says the same.
        Node::Float(float) if f64::from(*float as f32) == *float => {
            out.push(0xca);
            out.extend_from_slice(&(*float as f32).to_be_bytes());
        }
        Node::Float(float) => {
            out.push(0xcb);
            out.extend_from_slice(&float.to_be_bytes());
        }
        Node::Text(text) => {
            match text.len() {
                length @ 0..=31 => out.push(0xa0 | length as u8),
                length => put_length(out, length, [Some(0xd9), Some(0xda), Some(0xdb)])?,
            }
            out.extend_from_slice(text.as_bytes());
        }
        Node::Bytes(bytes) => {
            put_length(out, bytes.len(), [Some(0xc4), Some(0xc5), Some(0xc6)])?;
            out.extend_from_slice(bytes);
        }
        Node::Array(elements) => {
            match elements.len() {
                length @ 0..=15 => out.push(0x90 | length as u8),
                length => put_length(out, length, [None, Some(0xdc), Some(0xdd)])?,
            }
            for element in elements {
                put(out, element)?;
            }
        }
        Node::Map(members) => {
            match members.len() {
                length @ 0..=15 => out.push(0x80 | length as u8),
                length => put_length(out, length, [None, Some(0xde), Some(0xdf)])?,
            }
            for (name, value) in members {
                put(out, name)?;
                put(out, value)?;
            }
        }
    }
    Ok(())
}
