//! Values as texts that are the same where the values are equal: `1`, `1.0` and `10e-1` are, and
//! objects whatever the order of their members.

use shelf_kit::json::{Tree, write};

/// A value's text.
pub fn text(tree: &Tree<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, tree);
    out
}

fn put(out: &mut Vec<u8>, tree: &Tree<'_>) {
    match tree {
        Tree::Null => out.extend_from_slice(b"null"),
        Tree::Boolean(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Tree::Number(text) => out.extend_from_slice(number(text).as_bytes()),
        Tree::Text(text) => write::text(out, text),
        Tree::Array(elements) => {
            out.push(b'[');
            for element in elements {
                put(out, element);
                out.push(b',');
            }
            out.push(b']');
        }
        Tree::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            out.push(b'{');
            for (name, value) in members {
                write::text(out, name);
                out.push(b':');
                put(out, value);
                out.push(b',');
            }
            out.push(b'}');
        }
    }
}

fn number(text: &str) -> String {
    if let Ok(whole) = text.parse::<i128>() {
        return whole.to_string();
    }
    match text.parse::<f64>() {
        Ok(float) if float.fract() == 0.0 && float.abs() < 1e18 => (float as i128).to_string(),
        Ok(float) => format!("{float:e}"),
        Err(_) => text.to_owned(),
    }
}
