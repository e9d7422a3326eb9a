use super::*;
use waypost_plugin::testing::{self, Input};

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map(|pair| byte(pair).expect("two digits")).collect()
}

fn converted(settings: &[(&str, &str)], input: Input) -> Result<Edit, String> {
    let (mut convert, interest) = testing::init::<Convert>(settings).expect("it starts");
    let batch = testing::batch(&interest, [input]);
    match convert.transform(&batch.get(0).expect("a message")) {
        Outcome::Edit(edit) => Ok(edit),
        Outcome::DeadLetter(reason) => Err(reason),
        Outcome::Pass => Err("passed".into()),
        _ => Err("neither".into()),
    }
}

#[track_caller]
fn check_json(from: &str, payload: &[u8], expected: &str) {
    let edit = converted(&[("from", from), ("to", "json")], Input::new("t", payload));
    let edit = edit.unwrap_or_else(|reason| panic!("{reason}"));
    let text = String::from_utf8(edit.payload.expect("a payload")).expect("UTF-8");
    assert_eq!(text, expected);
    assert_eq!(edit.content_type.as_deref(), Some("application/json"));
}

const TEXT: &str = r#"{"a":[1,-1,24,-500,65536,4294967296,-9223372036854775808,18446744073709551615,1.5,0.1,true,false,null],"b":{"":"é\"\n"},"c":[],"d":{}}"#;

#[test]
fn there_and_back_is_the_same() {
    for format in ["cbor", "msgpack"] {
        let edit = converted(&[("from", "json"), ("to", format)], Input::new("t", TEXT));
        let payload = edit.expect("JSON").payload.expect("a payload");
        assert!(payload.len() < TEXT.len());
        check_json(format, &payload, TEXT);
    }
}

/// Appendix A of RFC 8949.
#[test]
fn examples_of_cbor() {
    for (bytes, json) in [
        ("1bffffffffffffffff", "18446744073709551615"),
        ("c249010000000000000000", "18446744073709551616"),
        ("3bffffffffffffffff", "-18446744073709551616"),
        ("c349010000000000000000", "-18446744073709551617"),
        ("f90001", "5.960464477539063e-8"),
        ("fa47c35000", "100000.0"),
        ("fb3ff199999999999a", "1.1"),
        ("f7", "null"),
        (
            "c074323031332d30332d32315432303a30343a30305a",
            "\"2013-03-21T20:04:00Z\"",
        ),
        ("d74401020304", "\"AQIDBA==\""),
        ("a201020304", "{\"1\":2,\"3\":4}"),
        ("5f42010243030405ff", "\"AQIDBAU=\""),
        ("7f657374726561646d696e67ff", "\"streaming\""),
        ("9f018202039f0405ffff", "[1,[2,3],[4,5]]"),
        ("bf61610161629f0203ffff", "{\"a\":1,\"b\":[2,3]}"),
    ] {
        check_json("cbor", &hex(bytes), json);
    }
}

#[test]
fn examples_of_messagepack() {
    for (bytes, json) in [
        (
            "82a7636f6d70616374c3a6736368656d6100",
            "{\"compact\":true,\"schema\":0}",
        ),
        ("c403010203", "\"AQID\""),
        ("cb3ff199999999999a", "1.1"),
        ("ca3fc00000", "1.5"),
        ("d0ff", "-1"),
        ("cd0100", "256"),
        ("dc000101", "[1]"),
        ("de0001a16101", "{\"a\":1}"),
        ("d90161", "\"a\""),
    ] {
        check_json("msgpack", &hex(bytes), json);
    }
}

/// The lengths at which a format changes what a value begins with.
#[test]
fn edges_of_lengths_and_numbers() {
    let bits = |bits: u32| 1_i128 << bits;
    let mut wholes = vec![0, -1, 23, 24, -24, -25, 127, 128, -32, -33];
    for width in [7, 8, 15, 16, 31, 32, 63] {
        wholes.extend([bits(width) - 1, bits(width), -bits(width), -bits(width) - 1]);
    }
    wholes.retain(|whole| (-bits(63)..bits(64)).contains(whole));
    let mut nodes: Vec<_> = wholes.into_iter().map(Node::Whole).collect();
    for length in [0, 15, 16, 23, 24, 31, 32, 255, 256, 65_535, 65_536] {
        nodes.push(Node::Text("x".repeat(length)));
        nodes.push(Node::Bytes(vec![7; length]));
        nodes.push(Node::Array(vec![Node::Null; length]));
        nodes.push(Node::Map(vec![(Node::Null, Node::Boolean(true)); length]));
    }
    nodes.extend([
        Node::Float(1.5),
        Node::Float(0.1),
        Node::Float(-0.0),
        Node::Float(1e300),
    ]);
    for node in nodes {
        assert_eq!(cbor::read(&cbor::write(&node)).as_ref(), Ok(&node));
        let packed = msgpack::write(&node).expect("MessagePack has it");
        assert_eq!(msgpack::read(&packed).as_ref(), Ok(&node));
    }
    let long = Node::Whole(bits(64));
    assert_eq!(cbor::read(&cbor::write(&long)), Ok(long.clone()));
    assert!(msgpack::write(&long).is_err());
}

#[test]
fn what_cannot_be_is_told() {
    for (from, bytes, word) in [
        ("cbor", "", "it ends early at byte 0"),
        ("cbor", "82", "it ends early at byte 1"),
        ("cbor", "0101", "more bytes after the value at byte 1"),
        ("cbor", "f97e00", "the number NaN, which JSON has not"),
        ("cbor", "a1820102f6", "a name that is an array"),
        ("cbor", "ff", "a value that no other format has"),
        ("cbor", "1c", "a head that says nothing"),
        ("cbor", "5f6161ff", "of another kind"),
        ("cbor", "f8ff", "a value that no other format has"),
        ("cbor", "61ff", "at byte"),
        ("cbor", "9bffffffffffffffff", "it ends early"),
        ("msgpack", "c1", "the byte c1"),
        ("msgpack", "a2ff", "it ends early at byte 1"),
        ("msgpack", "a1ff", "not UTF-8"),
        ("msgpack", "dfffffffff", "it ends early at byte 5"),
        ("msgpack", "d6ff00000000", "an extension type"),
        ("msgpack", "0000", "more bytes"),
    ] {
        let error = converted(
            &[("from", from), ("to", "json")],
            Input::new("t", hex(bytes)),
        );
        let error = error.expect_err(bytes);
        assert!(error.contains(word), "{bytes}: {error}");
    }
    let settings = [("from", "cbor"), ("to", "json"), ("bytes", "refuse")];
    let error = converted(&settings, Input::new("t", hex("4101"))).expect_err("bytes");
    assert_eq!(error, "it has bytes, which JSON has not");
    let deep = [0x81; 100_000];
    for from in ["cbor", "msgpack"] {
        let deep: Vec<u8> = deep
            .iter()
            .map(|_| if from == "cbor" { 0x81 } else { 0x91 })
            .collect();
        let error = converted(&[("from", from), ("to", "json")], Input::new("t", deep));
        assert!(error.expect_err("deep").contains("nested too deep"));
    }
}

#[test]
fn numbers_that_a_format_has_not() {
    let to = |to, text: &str| converted(&[("from", "json"), ("to", to)], Input::new("t", text));
    let back = |text: &str| {
        let payload = to("cbor", text).expect(text).payload.expect("a payload");
        let json = converted(
            &[("from", "cbor"), ("to", "json")],
            Input::new("t", payload),
        );
        String::from_utf8(json.expect(text).payload.expect("a payload")).expect("UTF-8")
    };
    for whole in [
        "18446744073709551616",
        "-18446744073709551617",
        "1329227995784915872903807060280344575",
        "-1329227995784915872903807060280344576",
    ] {
        assert_eq!(back(whole), whole);
        let error = to("msgpack", whole).expect_err(whole);
        assert_eq!(
            error,
            format!("it has the number {whole}, which MessagePack has not")
        );
    }
    assert_eq!(
        (back("0.0e-999").as_str(), back("-1e300").as_str()),
        ("0.0", "-1e300")
    );
    for (text, word) in [
        (
            "[1329227995784915872903807060280344576]",
            "of more than 120 bits",
        ),
        (
            "-1329227995784915872903807060280344577",
            "of more than 120 bits",
        ),
        ("{\"a\":1e400}", "it has the number 1e400, which no float"),
        ("-1e400", "which no float of 64 bits comes near"),
        ("1e-400", "which no float of 64 bits comes near"),
    ] {
        for format in ["cbor", "msgpack"] {
            let error = to(format, text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}

#[test]
fn all_formats_are_as_deep() {
    let deep = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
    for format in ["cbor", "msgpack"] {
        let to = [("from", "json"), ("to", format)];
        let packed = converted(&to, Input::new("t", deep(128))).expect("JSON");
        let mut packed = packed.payload.expect("a payload");
        check_json(format, &packed, &deep(128));
        packed.insert(0, if format == "cbor" { 0x81 } else { 0x91 });
        let error = converted(&[("from", format), ("to", "json")], Input::new("t", packed));
        assert!(error.expect_err("deep").contains("nested too deep"));
    }
    let tags = [[0xd8, 0x20].repeat(128), vec![0x80]].concat();
    let error = cbor::read(&tags).expect_err("tags");
    assert!(error.contains("nested too deep"), "{error}");
}

#[test]
fn the_content_type_says_what_it_is() {
    let settings = [("to", "json")];
    let with = |kind: &str, bytes: &str| Input::new("t", hex(bytes)).content_type(kind);
    assert!(converted(&settings, with("application/senml+cbor", "01")).is_ok());
    assert!(converted(&settings, with("Application/MsgPack; x=1", "01")).is_ok());
    assert_eq!(
        converted(&settings, with("application/json", "31"))
            .err()
            .as_deref(),
        Some("passed")
    );
    let error = converted(&settings, with("text/plain", "31")).expect_err("neither");
    assert!(error.contains("text/plain is none of"));
    assert!(
        converted(&settings, Input::new("t", "1"))
            .expect_err("none")
            .contains("no content type")
    );
}

#[test]
fn wrong_settings_are_named() {
    for (settings, setting) in [
        (&[][..], "to"),
        (&[("to", "xml")], "to"),
        (&[("to", "json"), ("from", "json")], "from"),
        (&[("to", "json"), ("bytes", "b64")], "bytes"),
    ] {
        let Err(error) = testing::init::<Convert>(settings) else {
            panic!("{settings:?} is taken")
        };
        assert_eq!(error.setting.as_deref(), Some(setting));
    }
}
