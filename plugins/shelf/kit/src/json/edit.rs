//! Changes of a payload in its text: all else stays byte for byte, numbers of any length too.

use std::ops::Range;

use super::scan::Found;

/// What becomes of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It goes, with its name and its comma.
    Remove,
    /// This JSON stands in its place.
    Replace(Vec<u8>),
}

/// Carries out changes, in any order. One inside another that goes is not looked at.
pub fn apply(text: &[u8], mut changes: Vec<(Found, Change)>) -> Vec<u8> {
    changes.sort_by_key(|(found, _)| (found.member.start, usize::MAX - found.member.end));
    let mut out = Vec::with_capacity(text.len() + 64);
    let mut at = 0;
    for (found, change) in changes {
        let Found { value, member, .. } = found;
        if member.start < at || value.start < at {
            continue;
        }
        match change {
            Change::Replace(json) => {
                out.extend_from_slice(&text[at..value.start]);
                out.extend_from_slice(&json);
                at = value.end;
            }
            Change::Remove => {
                out.extend_from_slice(&text[at..member.start]);
                at = without_comma(text, member, &mut out);
            }
        }
    }
    out.extend_from_slice(&text[at..]);
    out
}

/// Takes away one of the commas around a member: the one after it, else the one before. Gives where
/// the text goes on.
fn without_comma(text: &[u8], member: Range<usize>, out: &mut Vec<u8>) -> usize {
    let is_blank = |byte: u8| b" \t\r\n".contains(&byte);
    let mut after = member.end;
    while text.get(after).copied().is_some_and(is_blank) {
        after += 1;
    }
    if text.get(after) == Some(&b',') {
        after += 1;
        while text.get(after).copied().is_some_and(is_blank) {
            after += 1;
        }
        return after;
    }
    let end = out.iter().rposition(|byte| !is_blank(*byte));
    if let Some(end) = end
        && out[end] == b','
    {
        out.truncate(end);
    }
    member.end
}

/// Adds a member to the end of the object that `text` is; the caller has scanned it. `None` where
/// it is not an object.
pub fn append(text: &[u8], name: &str, json: &[u8]) -> Option<Vec<u8>> {
    let is_blank = |byte: &u8| b" \t\r\n".contains(byte);
    let start = text.iter().position(|byte| !is_blank(byte))?;
    let end = text.iter().rposition(|byte| !is_blank(byte))?;
    if text[start] != b'{' || text[end] != b'}' {
        return None;
    }
    let is_empty = text[start + 1..end].iter().all(is_blank);
    let mut out = Vec::with_capacity(text.len() + name.len() + json.len() + 4);
    out.extend_from_slice(&text[..end]);
    if !is_empty {
        out.push(b',');
    }
    super::write::text(&mut out, name);
    out.push(b':');
    out.extend_from_slice(json);
    out.extend_from_slice(&text[end..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::super::{Path, Paths};
    use super::*;

    #[track_caller]
    fn edited(text: &str, edits: &[(&str, Option<&str>)]) -> String {
        let mut paths = Paths::default();
        for (path, _) in edits {
            paths.add(Path::parse(path).expect("a path"));
        }
        let mut found = Vec::new();
        paths.find(text.as_bytes(), &mut found).expect("JSON");
        let change = |found: &Found| match edits[found.path].1 {
            None => Change::Remove,
            Some(json) => Change::Replace(json.into()),
        };
        let changes = found.iter().map(|f| (f.clone(), change(f))).collect();
        let text = apply(text.as_bytes(), changes);
        super::super::scan::check(&text).expect("still JSON");
        String::from_utf8(text).expect("UTF-8")
    }

    #[test]
    fn members_go_with_one_comma() {
        let text = r#"{"a":1, "b" : 2, "c":3}"#;
        assert_eq!(edited(text, &[("$.a", None)]), r#"{"b" : 2, "c":3}"#);
        assert_eq!(edited(text, &[("$.b", None)]), r#"{"a":1, "c":3}"#);
        assert_eq!(edited(text, &[("$.c", None)]), r#"{"a":1, "b" : 2}"#);
        assert_eq!(edited(text, &[("$.b", None), ("$.c", None)]), r#"{"a":1}"#);
        assert_eq!(edited(text, &[("$.a", None), ("$.b", None)]), r#"{"c":3}"#);
        assert_eq!(edited(text, &[("$.*", None)]), "{}");
        assert_eq!(edited("[1,2,3]", &[("$[1]", None)]), "[1,3]");
        assert_eq!(edited("[1]", &[("$[0]", None)]), "[]");
        assert_eq!(
            edited(r#"{"a":[1,2],"b":3}"#, &[("$.a[*]", None)]),
            r#"{"a":[],"b":3}"#
        );
    }

    #[test]
    fn all_else_stays_byte_for_byte() {
        let text = "{ \"big\": 123456789012345678901234567890.10, \"x\":\t\"\\u0041\" }";
        assert_eq!(
            edited(text, &[("$.x", Some("0"))]),
            "{ \"big\": 123456789012345678901234567890.10, \"x\":\t0 }"
        );
    }

    #[test]
    fn the_outer_one_counts() {
        let text = r#"{"a":{"b":1},"c":2}"#;
        assert_eq!(
            edited(text, &[("$.a.b", Some("9")), ("$.a", None)]),
            r#"{"c":2}"#
        );
        assert_eq!(
            edited(text, &[("$..b", Some("9"))]),
            r#"{"a":{"b":9},"c":2}"#
        );
        assert_eq!(edited(text, &[("$", Some("7"))]), "7");
    }

    #[test]
    fn members_are_added_at_the_end() {
        let add = |text: &str| {
            append(text.as_bytes(), "n\"", b"1").map(|text| String::from_utf8(text).expect("UTF-8"))
        };
        assert_eq!(add(" {} ").as_deref(), Some(r#" {"n\"":1} "#));
        assert_eq!(add("{\"a\":2}").as_deref(), Some(r#"{"a":2,"n\"":1}"#));
        assert_eq!((add("[]"), add("1"), add("")), (None, None, None));
    }
}
