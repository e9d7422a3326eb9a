//! A payload as a tree, for what has to look at all of it, more than once.

use std::borrow::Cow;

use super::scan::{self, NotJson};
use super::value::Value;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree<'t> {
    /// `null`
    Null,
    /// `true`, `false`
    Boolean(bool),
    /// A number as it is written, of any length.
    Number(&'t str),
    /// A text.
    Text(Cow<'t, str>),
    /// `[…]`
    Array(Vec<Tree<'t>>),
    /// `{…}`, in order; a name may be there twice.
    Object(Vec<(Cow<'t, str>, Tree<'t>)>),
}

impl<'t> Tree<'t> {
    /// Reads a payload.
    pub fn read(text: &'t [u8]) -> Result<Tree<'t>, NotJson> {
        scan::check(text)?;
        let mut reader = Reader {
            text: std::str::from_utf8(text).unwrap_or_default(),
        };
        Ok(reader.value())
    }

    /// The value of the last member with this name.
    pub fn member(&self, name: &str) -> Option<&Tree<'t>> {
        match self {
            Tree::Object(members) => {
                let mut named = members.iter().rev();
                named
                    .find(|(known, _)| known == name)
                    .map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// Appends it as JSON, without blanks.
    pub fn write(&self, out: &mut Vec<u8>) {
        let comma = |out: &mut Vec<u8>, index: usize| {
            if index > 0 {
                out.push(b',');
            }
        };
        match self {
            Tree::Null => out.extend_from_slice(b"null"),
            Tree::Boolean(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Tree::Number(text) => out.extend_from_slice(text.as_bytes()),
            Tree::Text(text) => super::write::text(out, text),
            Tree::Array(elements) => {
                out.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    comma(out, index);
                    element.write(out);
                }
                out.push(b']');
            }
            Tree::Object(members) => {
                out.push(b'{');
                for (index, (name, value)) in members.iter().enumerate() {
                    comma(out, index);
                    super::write::text(out, name);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// What it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Tree::Null => "null",
            Tree::Boolean(_) => "boolean",
            Tree::Number(_) => "number",
            Tree::Text(_) => "string",
            Tree::Array(_) => "array",
            Tree::Object(_) => "object",
        }
    }
}

/// What is left of a text that was scanned, so that nothing in it can be wrong.
struct Reader<'t> {
    text: &'t str,
}

impl<'t> Reader<'t> {
    fn skip_blanks(&mut self) {
        self.text = self.text.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    /// Whether the next character is this one, and then goes past it.
    fn takes(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        match self.text.strip_prefix(wanted) {
            Some(rest) => {
                self.text = rest;
                true
            }
            None => false,
        }
    }

    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.text.split_at_checked(bytes).unwrap_or((self.text, ""));
        self.text = rest;
        taken
    }

    fn value(&mut self) -> Tree<'t> {
        self.skip_blanks();
        match self.text.as_bytes().first() {
            Some(b'{') => self.object(),
            Some(b'[') => {
                self.take(1);
                let mut elements = Vec::new();
                while !self.takes(']') && !self.text.is_empty() {
                    elements.push(self.value());
                    self.takes(',');
                }
                Tree::Array(elements)
            }
            Some(b'"') => Tree::Text(self.string()),
            Some(b't') => self.word("true", Tree::Boolean(true)),
            Some(b'f') => self.word("false", Tree::Boolean(false)),
            Some(b'n') => self.word("null", Tree::Null),
            _ => {
                let is_part = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
                let end = self.text.find(|c| !is_part(c));
                Tree::Number(self.take(end.unwrap_or(self.text.len())))
            }
        }
    }

    fn object(&mut self) -> Tree<'t> {
        self.take(1);
        let mut members = Vec::new();
        while !self.takes('}') && !self.text.is_empty() {
            self.skip_blanks();
            let name = self.string();
            self.takes(':');
            members.push((name, self.value()));
            self.takes(',');
        }
        Tree::Object(members)
    }

    fn word(&mut self, word: &str, tree: Tree<'t>) -> Tree<'t> {
        self.take(word.len());
        tree
    }

    fn string(&mut self) -> Cow<'t, str> {
        let mut end = 1;
        let bytes = self.text.as_bytes();
        while end < bytes.len() && bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let raw = self.take(end + 1);
        Value(raw.as_bytes()).text().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds() {
        let text =
            br#" {"a\n": [1.50, -2e3, "x\"", "", true, false, null, {}, []] , "b":{"b":1} } "#;
        let tree = Tree::read(text).expect("JSON");
        let Some(Tree::Array(elements)) = tree.member("a\n") else {
            panic!("an array")
        };
        let kinds: Vec<_> = elements.iter().map(Tree::kind).collect();
        let expected = [
            "number", "number", "string", "string", "boolean", "boolean", "null", "object", "array",
        ];
        assert_eq!(kinds, expected);
        assert_eq!(elements[0], Tree::Number("1.50"));
        assert_eq!(elements[2], Tree::Text("x\"".into()));
        assert_eq!(
            tree.member("b").and_then(|b| b.member("b")),
            Some(&Tree::Number("1"))
        );
        let mut out = Vec::new();
        tree.write(&mut out);
        let shown = br#"{"a\n":[1.50,-2e3,"x\"","",true,false,null,{},[]],"b":{"b":1}}"#;
        assert_eq!(out, shown);
        assert!(Tree::read(b"{").is_err());
    }
}
