//! JSON.

use std::borrow::Cow;

use shelf_kit::json::{Tree, write as json};

use crate::node::{Bytes, Node};

/// Reads a payload. The error says where it is wrong.
pub fn read(payload: &[u8]) -> Result<Node, String> {
    let tree = Tree::read(payload).map_err(|not_json| not_json.to_string())?;
    Ok(node(tree))
}

fn node(tree: Tree<'_>) -> Node {
    match tree {
        Tree::Null => Node::Null,
        Tree::Boolean(value) => Node::Boolean(value),
        Tree::Number(text) => number(text),
        Tree::Text(text) => Node::Text(text.into_owned()),
        Tree::Array(elements) => Node::Array(elements.into_iter().map(node).collect()),
        Tree::Object(members) => {
            let member =
                |(name, value): (Cow<'_, str>, _)| (Node::Text(name.into_owned()), node(value));
            Node::Map(members.into_iter().map(member).collect())
        }
    }
}

fn number(text: &str) -> Node {
    let is_whole = !text.contains(['.', 'e', 'E']);
    match (is_whole, text.parse::<i128>()) {
        // What CBOR and MessagePack have as whole numbers.
        (true, Ok(whole)) if is_in_range(whole) => Node::Whole(whole),
        _ => Node::Float(text.parse().unwrap_or_default()),
    }
}

fn is_in_range(whole: i128) -> bool {
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&whole)
}

/// Writes a value. The error says what of it JSON has not.
pub fn write(node: &Node, bytes: Bytes) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    put(&mut out, node, bytes)?;
    Ok(out)
}

fn put(out: &mut Vec<u8>, node: &Node, bytes: Bytes) -> Result<(), String> {
    match node {
        Node::Text(text) => json::text(out, text),
        Node::Bytes(data) => json::text(out, &bytes.text(data)?),
        Node::Array(elements) => {
            out.push(b'[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                put(out, element, bytes)?;
            }
            out.push(b']');
        }
        Node::Map(members) => {
            out.push(b'{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                match name {
                    Node::Text(text) => json::text(out, text),
                    Node::Bytes(data) => json::text(out, &bytes.text(data)?),
                    Node::Array(_) | Node::Map(_) => {
                        return Err("it has a name that is an array or a map".into());
                    }
                    scalar => json::text(out, &plain(scalar)?),
                }
                out.push(b':');
                put(out, value, bytes)?;
            }
            out.push(b'}');
        }
        scalar => out.extend_from_slice(plain(scalar)?.as_bytes()),
    }
    Ok(())
}

fn plain(scalar: &Node) -> Result<String, String> {
    match scalar {
        Node::Boolean(value) => Ok(value.to_string()),
        Node::Whole(whole) => Ok(whole.to_string()),
        // With a point, so that it stays what it is on the way back.
        Node::Float(float) if float.is_finite() => Ok(format!("{float:?}")),
        Node::Float(float) => Err(format!("it has the number {float}, which JSON has not")),
        _ => Ok("null".into()),
    }
}
