//! A value in its text, read no further than it is asked.

use std::borrow::Cow;

use super::{Found, Path, Paths};

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`, `false`
    Boolean,
    /// A number.
    Number,
    /// A text.
    Text,
    /// `[…]`
    Array,
    /// `{…}`
    Object,
}

impl Kind {
    /// All of them with their names.
    pub const NAMES: [(&'static str, Kind); 6] = [
        ("null", Kind::Null),
        ("boolean", Kind::Boolean),
        ("number", Kind::Number),
        ("text", Kind::Text),
        ("array", Kind::Array),
        ("object", Kind::Object),
    ];
}

/// The text of a value that [`scan`](super::scan) found, so it is JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a>(pub &'a [u8]);

impl<'a> Value<'a> {
    /// What it is.
    #[inline]
    pub fn kind(self) -> Kind {
        match self.0.first() {
            Some(b'"') => Kind::Text,
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number,
        }
    }

    /// As it stands in the payload.
    pub fn raw(self) -> &'a str {
        std::str::from_utf8(self.0).unwrap_or_default()
    }

    /// A text without its quotes and escapes; `None` for anything else.
    pub fn text(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        match inner.contains(&b'\\') {
            false => std::str::from_utf8(inner).ok().map(Cow::Borrowed),
            true => Some(Cow::Owned(unescape(inner))),
        }
    }

    /// The bytes of a text, which differ where texts do, also in halves of surrogate pairs; `None` for
    /// anything else.
    pub fn text_bytes(self) -> Option<Cow<'a, [u8]>> {
        let inner = self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        Some(match inner.contains(&b'\\') {
            false => Cow::Borrowed(inner),
            true => Cow::Owned(unescape_with(inner, generalized)),
        })
    }

    /// The elements of an array; none of anything else.
    pub fn elements(self) -> impl Iterator<Item = Value<'a>> {
        let all = match self.kind() {
            Kind::Array => self.find("$[*]"),
            _ => Vec::new(),
        };
        let text = self.0;
        let value = move |found: Found| text.get(found.value).map(Value);
        all.into_iter().filter_map(value)
    }

    /// The members of an object, in order; none of anything else.
    pub fn members(self) -> impl Iterator<Item = (Cow<'a, str>, Value<'a>)> {
        let all = match self.kind() {
            Kind::Object => self.find("$.*"),
            _ => Vec::new(),
        };
        let text = self.0;
        all.into_iter().filter_map(move |found| {
            let name = Value(text.get(found.member)?).name()?;
            Some((name, Value(text.get(found.value)?)))
        })
    }

    /// The value of the last member with this name.
    pub fn member(self, name: &str) -> Option<Value<'a>> {
        let named = self.members().filter(|(known, _)| known == name);
        named.map(|(_, value)| value).last()
    }

    fn find(self, path: &str) -> Vec<Found> {
        let mut paths = Paths::default();
        let mut found = Vec::new();
        if let Ok(path) = Path::parse(path) {
            paths.add(path);
            // It was scanned before, so this finds nothing wrong.
            let _ = paths.find(self.0, &mut found);
        }
        found
    }

    /// The name of a member, `"name": value`.
    pub fn name(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix(b"\"")?;
        let mut end = 0;
        while *inner.get(end)? != b'"' {
            end += if inner[end] == b'\\' { 2 } else { 1 };
        }
        Value(&self.0[..end + 2]).text()
    }

    /// For a template or a key: a text without its quotes, else as it stands.
    pub fn plain(self) -> Cow<'a, str> {
        self.text().unwrap_or(Cow::Borrowed(self.raw()))
    }

    /// A number; `None` for anything else.
    pub fn number(self) -> Option<f64> {
        match self.kind() {
            Kind::Number => self.raw().parse().ok(),
            _ => None,
        }
    }
}

/// Text between quotes, without its escapes. Half a surrogate pair becomes U+FFFD.
pub(super) fn unescape(inner: &[u8]) -> String {
    let plain = unescape_with(inner, |_| "\u{fffd}".as_bytes().to_vec());
    String::from_utf8(plain).unwrap_or_default()
}

/// `half` says what stands for half a surrogate pair.
fn unescape_with(inner: &[u8], half: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let text = std::str::from_utf8(inner).unwrap_or_default();
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.extend_from_slice(&rest.as_bytes()[..at]);
        let after = &rest[at + 1..];
        let Some(escaped) = after.chars().next() else {
            return plain;
        };
        rest = &after[escaped.len_utf8()..];
        let unescaped = match escaped {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let first = unit(&mut rest);
                let pair = match first {
                    0xd800..0xdc00 => low_half(&mut rest),
                    _ => None,
                };
                let code = match pair {
                    Some(low) => 0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00),
                    None => first,
                };
                match char::from_u32(code) {
                    Some(unescaped) => unescaped,
                    None => {
                        plain.extend(half(code));
                        continue;
                    }
                }
            }
            other => other,
        };
        plain.extend_from_slice(unescaped.encode_utf8(&mut [0; 4]).as_bytes());
    }
    plain.extend_from_slice(rest.as_bytes());
    plain
}

/// Half a surrogate pair as UTF-8 would write it, if it could: no other text has these bytes.
fn generalized(code: u32) -> Vec<u8> {
    let part = |shift: u32| (code >> shift & 0x3f) as u8;
    vec![0xe0 | part(12), 0x80 | part(6), 0x80 | part(0)]
}

/// Four digits after `\u`.
fn unit(rest: &mut &str) -> u32 {
    let (digits, after) = rest.split_at_checked(4).unwrap_or((rest, ""));
    *rest = after;
    u32::from_str_radix(digits, 16).unwrap_or(0xfffd)
}

/// The second `\u….` of a pair, if it is one.
fn low_half(rest: &mut &str) -> Option<u32> {
    let mut after = rest.strip_prefix("\\u")?;
    let low = unit(&mut after);
    (0xdc00..0xe000).contains(&low).then(|| {
        *rest = after;
        low
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (raw, plain) in [
            (r#""a\"b\\c\/d""#, "a\"b\\c/d"),
            (r#""\b\f\n\r\t""#, "\u{8}\u{c}\n\r\t"),
            (r#""\u00e9\ud83d\ude00""#, "é😀"),
            (r#""\ud83dx""#, "\u{fffd}x"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\ude00""#, "\u{fffd}"),
        ] {
            assert_eq!(
                Value(raw.as_bytes()).text().as_deref(),
                Some(plain),
                "{raw}"
            );
        }
    }

    #[test]
    fn bytes_differ_where_texts_do() {
        let bytes = |raw: &'static str| Value(raw.as_bytes()).text_bytes().map(Cow::into_owned);
        assert_eq!(bytes(r#""\u00e9\ud83d\ude00""#), Some("é😀".into()));
        assert_eq!(bytes(r#""a\ud83d""#), Some(vec![b'a', 0xed, 0xa0, 0xbd]));
        assert_ne!(bytes(r#""\ud83d""#), bytes(r#""\ud83e""#));
        assert_ne!(bytes(r#""\ud83d""#), bytes("\"\u{fffd}\""));
        assert_eq!(bytes("5"), None);
    }

    #[test]
    fn parts() {
        let value = Value(br#"{"a":[1,[2],"x"],"b\n":{},"a":7}"#);
        let names: Vec<_> = value.members().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(names, ["a", "b\n", "a"]);
        assert_eq!(value.member("a").map(Value::raw), Some("7"));
        assert_eq!((value.member("c"), value.elements().count()), (None, 0));
        let elements: Vec<_> = Value(b"[1, [2] ,\"x\"]")
            .elements()
            .map(Value::raw)
            .collect();
        assert_eq!(elements, ["1", "[2]", "\"x\""]);
    }

    #[test]
    fn kinds_and_plain_text() {
        let value = |text: &'static str| Value(text.as_bytes());
        assert_eq!(value("-1").kind(), Kind::Number);
        assert_eq!(value("{}").kind(), Kind::Object);
        assert_eq!(value("12.50").plain(), "12.50");
        assert_eq!(value("\"x\"").plain(), "x");
        assert_eq!(
            (value("1e3").number(), value("\"1\"").number()),
            (Some(1e3), None)
        );
    }
}
