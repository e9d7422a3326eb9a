use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Feature {
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    mag: Option<f64>,
}

const DOCUMENT: &str = concat!(
    r#"{ "type" : "Feature", "properties":{"mag":-4.80e+0,"place":"37 km \"NNE\" of \u00c5mboy","#,
    r#""time":1517363399650,"tsunami":0,"felt":null,"ok":true,"no":false,"list":[],"of":{},"#,
    r#""k\u00e4se":"a long string without anything special, longer than a block","#,
    r#""types":[",geoserve,",[1,2.5,-0.1e-7],{"a":{"b":[{}]}}],"title":"Åland – ü"},"#,
    "\n\t",
    r#""geometry":{"type":"Point","coordinates":[-122.197,46.2035,3.28]},"id":"uw61345682"} "#,
);

fn plain() -> String {
    DOCUMENT.replace(r"k\u00e4se", "cheese")
}

fn glance(document: &[u8]) -> Option<f64> {
    number(document, "properties", "mag").and_then(|number| serde_json::from_slice(number).ok())
}

fn parsed(document: &[u8]) -> Option<f64> {
    serde_json::from_slice::<Feature>(document)
        .ok()?
        .properties
        .mag
}

/// Whatever is accepted, `serde_json` accepts with the same number.
#[track_caller]
fn compare(document: &[u8]) -> bool {
    let Some(found) = glance(document) else {
        return false;
    };
    let text = String::from_utf8_lossy(document);
    assert_eq!(parsed(document), Some(found), "{text}");
    true
}

#[test]
fn a_feature_is_seen_at_a_glance() {
    assert_eq!(glance(plain().as_bytes()), Some(-4.8));
    assert_eq!(glance(br#"{"properties":{"mag":3}}"#), Some(3.0));
}

#[test]
fn what_is_unusual_is_left_to_the_parser() {
    let deep = format!(
        r#"{{"a":{}{},"properties":{{"mag":1}}}}"#,
        "[".repeat(99),
        "]".repeat(99)
    );
    for (document, is_good) in [
        (DOCUMENT, true),
        (&*deep, true),
        (r#"{"properties":{"m\u0061g":1}}"#, true),
        (r#"[{"mag":1}]"#, true),
        (r#"{"properties":[1]}"#, true),
        (r#"{"properties":{"mag":1,"mag":2}}"#, false),
        (r#"{"properties":{"mag":1},"properties":{}}"#, false),
        (r#"{"properties":{},"properties":{"mag":1}}"#, false),
        (r#"{"properties":{"mag":"1"}}"#, false),
        (r#"{"properties":{"mag":1e999}}"#, false),
        (r#"{"properties":{"mag":01}}"#, false),
        (r#"{"properties":{"mag":1}}x"#, false),
        (r#"{"properties":{"mag":1},}"#, false),
        (r#"{"properties":{"mag":1"#, false),
        ("", false),
    ] {
        assert_eq!(glance(document.as_bytes()), None, "{document}");
        assert_eq!(parsed(document.as_bytes()).is_some(), is_good, "{document}");
    }
    assert_eq!(glance(b"{\"\xff\":1,\"properties\":{\"mag\":1}}"), None);
}

#[test]
fn every_cut_and_every_changed_byte_is_judged_as_the_parser_does() {
    let document = plain().into_bytes();
    for end in 0..document.len() {
        compare(&document[..end]);
    }
    let mut accepted = 0;
    for at in 0..document.len() {
        for byte in 0..=u8::MAX {
            let mut changed = document.clone();
            changed[at] = byte;
            accepted += u32::from(compare(&changed));
        }
    }
    assert!(accepted > 10_000, "{accepted}");
}

/// Bytes from a seed, without a crate for it.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

#[test]
fn parts_in_any_order_are_judged_as_the_parser_does() {
    let parts = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "\"",
        "\\",
        "\\\"",
        "\\u12aF",
        "\\u12g4",
        "é",
        "\"properties\":",
        "\"mag\":",
        "\"mag\":1.5",
        "{\"mag\":",
        "\"x\":",
        "\"\"",
        "0",
        "-",
        "7",
        ".5",
        "e",
        "E+3",
        "null",
        "true",
        "false",
        "nul",
        "\u{1}",
        "{}",
        "[]",
        "[1,2]",
        "{\"properties\":{\"mag\":2,",
        "\"a string that is longer than a block\"",
    ];
    let seed = 0x9e37_79b9_7f4a_7c15;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let mut accepted = 0;
    for _ in 0..300_000 {
        let mut document = String::from(r#"{"properties":{"mag":2"#);
        for _ in 0..random.below(6) {
            document.push_str(parts[random.below(parts.len())]);
        }
        document.push_str(["}}", "}", ",\"b\":1}}", ""][random.below(4)]);
        accepted += u32::from(compare(document.as_bytes()));
    }
    assert!(accepted > 1_000, "{accepted}");
}
