//! Values as texts that are the same where the values are equal: `1`, `1.0` and `10e-1` are, and
//! objects whatever the order of their members.

use shelf_kit::json::{Number, Tree, write};

/// A value's text; `None` where a number in it has an exponent that is too large to be compared.
pub fn text(tree: &Tree<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    put(&mut out, tree)?;
    Some(out)
}

fn put(out: &mut Vec<u8>, tree: &Tree<'_>) -> Option<()> {
    match tree {
        Tree::Null => out.extend_from_slice(b"null"),
        Tree::Boolean(true) => out.extend_from_slice(b"true"),
        Tree::Boolean(false) => out.extend_from_slice(b"false"),
        Tree::Number(text) => {
            out.extend_from_slice(Number::parse(text)?.canonical().as_bytes());
        }
        Tree::Text(text) => write::text(out, text),
        Tree::Array(elements) => {
            out.push(b'[');
            for element in elements {
                put(out, element)?;
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
                put(out, value)?;
                out.push(b',');
            }
            out.push(b'}');
        }
    }
    Some(())
}
