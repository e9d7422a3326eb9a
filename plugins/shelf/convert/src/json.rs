//! JSON.

use shelf_kit::json::{Tree, write as json};
use shelf_kit::subject::shortened;

use crate::node::{Bytes, Node, WHOLE_BITS_MAX, WHOLE_MAX};

/// Reads a payload. The error says where it is wrong.
pub fn read(payload: &[u8]) -> Result<Node, String> {
    let tree = Tree::read(payload).map_err(|not_json| not_json.to_string())?;
    node(tree)
}

fn node(tree: Tree<'_>) -> Result<Node, String> {
    Ok(match tree {
        Tree::Null => Node::Null,
        Tree::Boolean(value) => Node::Boolean(value),
        Tree::Number(text) => number(text)?,
        Tree::Text(text) => Node::Text(text.into_owned()),
        Tree::Array(elements) => {
            let mut nodes = Vec::with_capacity(elements.len());
            for element in elements {
                nodes.push(node(element)?);
            }
            Node::Array(nodes)
        }
        Tree::Object(members) => {
            let mut nodes = Vec::with_capacity(members.len());
            for (name, value) in members {
                nodes.push((Node::Text(name.into_owned()), node(value)?));
            }
            Node::Map(nodes)
        }
    })
}

/// A number without a point and an exponent is whole, and stays what it is; another is the nearest
/// float, if there is one near.
fn number(text: &str) -> Result<Node, String> {
    if !text.contains(['.', 'e', 'E']) {
        return match text.parse() {
            Ok(whole) if (-WHOLE_MAX..WHOLE_MAX).contains(&whole) => Ok(Node::Whole(whole)),
            _ => Err(format!(
                "it has {}, a whole number of more than {WHOLE_BITS_MAX} bits",
                shortened(text)
            )),
        };
    }
    let float: f64 = text.parse().unwrap_or(f64::NAN);
    let is_zero = !text
        .split(['e', 'E'])
        .next()
        .is_some_and(|digits| digits.contains(|c| ('1'..='9').contains(&c)));
    match float.is_finite() && (float != 0.0 || is_zero) {
        true => Ok(Node::Float(float)),
        false => Err(format!(
            "it has the number {}, which no float of 64 bits comes near",
            shortened(text)
        )),
    }
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
