use super::*;
use waypost_plugin::testing::{self, Input};

/// Whether payloads fit, and the words where one does not.
#[track_caller]
fn check(schema: &str, fitting: &[&str], others: &[(&str, &str)]) {
    let schema = read::schema(schema).unwrap_or_else(|error| panic!("{error}"));
    let checked =
        |text: &str| schema.check(&Tree::read(text.as_bytes()).expect("JSON"), text.len());
    for text in fitting {
        assert_eq!(checked(text), Ok(()), "{text}");
    }
    for (text, word) in others {
        let stop = checked(text).expect_err(text).to_string();
        assert!(stop.contains(word), "{text}: {stop}");
    }
}

#[test]
fn types_and_values() {
    check(
        r#"{"type":["integer","null"]}"#,
        &["1", "1.0", "-5e2", "null"],
        &[
            ("1.5", "at /: 1.5, expected integer or null"),
            ("\"1\"", "\"1\", expected"),
        ],
    );
    check(
        r#"{"enum":[1,"a",{"x":[1,2],"y":null}]}"#,
        &["1.0", "\"a\"", r#"{"y":null,"x":[1,2]}"#],
        &[
            ("2", "2, expected one of 1, \"a\""),
            (r#"{"x":[2,1],"y":null}"#, "expected one of"),
        ],
    );
    check(r#"{"const":false}"#, &["false"], &[("0", "expected false")]);
    check("true", &["1"], &[]);
    check("false", &[], &[("1", "nothing may stand here")]);
}

#[test]
fn numbers_and_texts() {
    check(
        r#"{"minimum":1,"exclusiveMaximum":5,"multipleOf":0.1}"#,
        &["1", "4.9", "0.3e1", "\"x\""],
        &[
            ("0.9", "at least 1"),
            ("5", "less than 5"),
            ("1.05", "a multiple of 0.1"),
        ],
    );
    check(
        r#"{"minLength":2,"maxLength":3,"pattern":"^[a-zü]+$"}"#,
        &["\"üü\"", "\"abc\"", "5"],
        &[
            ("\"a\"", "has 1 characters"),
            ("\"abcd\"", "at most 3"),
            ("\"A1\"", "a match of ^[a-zü]+$"),
        ],
    );
}

#[test]
fn objects() {
    check(
        r#"{"required":["id"],"properties":{"id":{"type":"string"},"n":{"properties":{"a/b":{"maximum":1}}}},
            "patternProperties":{"^x-":{"type":"number"}},"additionalProperties":false,"minProperties":1,
            "propertyNames":{"maxLength":4},"dependentRequired":{"n":["x-1"]}}"#,
        &[r#"{"id":"1"}"#, r#"{"id":"1","n":{"a/b":1},"x-1":2}"#, "7"],
        &[
            ("{}", "expected at least 1"),
            (r#"{"x-1":1}"#, "'id' is missing"),
            (r#"{"id":1}"#, "at /id: 1, expected string"),
            (
                r#"{"id":"1","n":{"a/b":2},"x-1":2}"#,
                "at /n/a~1b: 2, expected at most 1",
            ),
            (r#"{"id":"1","z":1}"#, "has 'z', which may not be there"),
            (r#"{"id":"1","x-1":"a"}"#, "at /x-1: \"a\", expected number"),
            (r#"{"id":"1","x-long":1}"#, "a name that does not fit"),
            (r#"{"id":"1","n":{}}"#, "'x-1' is missing beside 'n'"),
        ],
    );
}

#[test]
fn arrays() {
    check(
        r#"{"prefixItems":[{"type":"string"}],"items":{"type":"number"},"minItems":1,"maxItems":4,"uniqueItems":true}"#,
        &[r#"["a"]"#, r#"["a",1,2]"#],
        &[
            ("[]", "at least 1"),
            ("[1]", "at /0: 1, expected string"),
            (r#"["a","b"]"#, "at /1: \"b\", expected number"),
            (r#"["a",1,1.0]"#, "has an element twice"),
            (r#"["a",1,2,3,4]"#, "at most 4"),
        ],
    );
    check(
        r#"{"contains":{"minimum":5},"minContains":2,"maxContains":3}"#,
        &["[5,6]", "[1,5,6,7]"],
        &[("[5]", "1 of its elements"), ("[5,6,7,8]", "at most 3")],
    );
}

#[test]
fn combinations_and_references() {
    check(
        r##"{"$defs":{"id":{"type":"string"},"node":{"properties":{"next":{"$ref":"#/$defs/node"},"id":{"$ref":"#/$defs/id"}}}},
            "$ref":"#/$defs/node","anyOf":[{"required":["id"]},{"required":["next"]}],"not":{"required":["bad"]},
            "if":{"properties":{"id":{"const":"x"}},"required":["id"]},"then":{"required":["y"]},"else":{"minProperties":1}}"##,
        &[
            r#"{"id":"a"}"#,
            r#"{"next":{"next":{"id":"q"}}}"#,
            r#"{"id":"x","y":1}"#,
        ],
        &[
            (
                r#"{"next":{"next":{"id":1}}}"#,
                "at /next/next/id: 1, expected string",
            ),
            (r#"{"z":1}"#, "fits none of anyOf"),
            (r#"{"id":"a","bad":1}"#, "must not be"),
            (r#"{"id":"x"}"#, "'y' is missing"),
        ],
    );
    check(
        r#"{"oneOf":[{"type":"number"},{"minimum":5}]}"#,
        &["1", "\"x\""],
        &[("6", "fits 2 of oneOf")],
    );
}

#[test]
fn a_schema_that_never_ends() {
    check(
        r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##,
        &[],
        &[("1", "cannot be checked: schemas are applied too deep")],
    );
}

#[test]
fn what_cannot_be_checked_is_no_answer() {
    let deep = r##"{"$ref":"#/$defs/a"}"##;
    for schema in [
        format!(r##"{{"not":{deep}"##),
        format!(r##"{{"if":{deep},"then":true"##),
        format!(r##"{{"anyOf":[{deep},true]"##),
        format!(r##"{{"oneOf":[{deep},true]"##),
        format!(r##"{{"contains":{deep},"minContains":0"##),
        format!(r##"{{"items":{{"propertyNames":{deep}}}"##),
    ] {
        let schema = schema + r##","$defs":{"a":{"$ref":"#/$defs/a"}}}"##;
        check(&schema, &[], &[("[{\"a\":1}]", "cannot be checked")]);
    }
}

#[test]
fn a_schema_that_branches_at_each_level() {
    let deep = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
    let (shallow, deep) = (deep(8), deep(40));
    for kind in ["oneOf", "anyOf"] {
        let schema = format!(
            r##"{{"{kind}":[{{"items":{{"$ref":"#"}},"not":{{"type":"array"}}}},{{"items":{{"$ref":"#"}},"type":"array"}}]}}"##
        );
        check(&schema, &[&shallow], &[(&deep, "too many steps")]);
    }
}

#[test]
fn steps_are_enough_for_long_payloads() {
    let long = format!("[{}1]", "1,".repeat(200_000));
    let objects = format!("[{}{{}}]", r#"{"id":1,"tag":"x"},"#.repeat(20_000));
    check(
        r##"{"items":{"$ref":"#/$defs/n"},"$defs":{"n":{"type":"integer","minimum":1,"enum":[1,2]}}}"##,
        &[&long],
        &[],
    );
    check(
        r##"{"items":{"properties":{"id":{"type":"integer"},"tag":{"pattern":"^x$","maxLength":2}},"additionalProperties":false}}"##,
        &[&objects],
        &[],
    );
}

#[test]
fn deep_payloads_and_schemas() {
    let arrays = ["[".repeat(128), "]".repeat(128)].concat();
    check(r##"{"items":{"$ref":"#"}}"##, &[&arrays], &[]);
    let objects = ["{\"a\":".repeat(127), "{}".into(), "}".repeat(127)].concat();
    let schema =
        r##"{"type":"object","properties":{"a":{"$ref":"#"}},"additionalProperties":false}"##;
    check(schema, &[&objects], &[]);
    let schema = ["{\"not\":".repeat(127), "{}".into(), "}".repeat(127)].concat();
    check(&schema, &[], &[("1", "must not be")]);
    let error = read::schema(&["{\"not\":", &schema, "}"].concat()).expect_err("too deep");
    assert!(error.contains("nested too deep"), "{error}");
}

#[test]
fn numbers_are_exact() {
    check(
        r#"{"minimum":9007199254740993,"maximum":1e400,"multipleOf":3}"#,
        &["9007199254740993", "9e399"],
        &[
            ("9007199254740992", "at least 9007199254740993"),
            ("9007199254740994", "a multiple of 3"),
            ("2e400", "at most 1e400"),
            ("3e99999999999999999999", "an exponent that is too large"),
        ],
    );
    check(
        r#"{"items":{"enum":[9007199254740993,0.10,"a"]},"uniqueItems":true}"#,
        &["[9007199254740993,1e-1]"],
        &[
            (
                "[9007199254740992]",
                "expected one of 9007199254740993, 0.10, \"a\"",
            ),
            ("[0.1,0.1000]", "has an element twice"),
        ],
    );
    check(
        r#"{"uniqueItems":true,"items":{"type":"integer"}}"#,
        &["[9007199254740992,9007199254740993,1e30,1000000000000000000000000000001]"],
        &[
            ("[9007199254740992.5]", "expected integer"),
            ("[1e30,10e29]", "twice"),
        ],
    );
}

#[test]
fn enum_and_const_count_both() {
    check(
        r#"{"const":1,"enum":[1,2]}"#,
        &["1"],
        &[("2", "expected 1"), ("3", "expected 1")],
    );
}

#[test]
fn a_schema_may_say_what_it_is() {
    check(
        r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"https://example.org/a","properties":{"$id":{"type":"string"},"$schema":{}},"const":{"$id":"x"}}"##,
        &[r#"{"$id":"x"}"#],
        &[("1", "expected {")],
    );
}

#[test]
fn what_is_no_schema_is_told() {
    for (schema, word) in [
        ("{", "not JSON"),
        ("1", "/: 1, expected a schema"),
        (
            r#"{"type":"text"}"#,
            "/type: \"text\", expected one of null",
        ),
        (
            r#"{"properties":{"a":{"minimun":1}}}"#,
            "/properties/a/minimun: a keyword that cannot",
        ),
        (
            r#"{"unevaluatedProperties":false}"#,
            "/unevaluatedProperties: a keyword",
        ),
        (
            r#"{"$ref":"other.json"}"#,
            "'other.json' is not in this schema",
        ),
        (r##"{"$ref":"#/$defs/x"}"##, "leads nowhere"),
        (r#"{"items":[{}]}"#, "is called prefixItems"),
        (
            r#"{"pattern":"("}"#,
            "/pattern: the pattern '(' cannot be used",
        ),
        (r#"{"minLength":-1}"#, "a whole number"),
        (r#"{"allOf":[]}"#, "at least one schema"),
        (
            r#"{"type":"null","type":"null"}"#,
            "/: 'type' stands there twice",
        ),
        (
            r#"{"properties":{"a":{},"a":false}}"#,
            "/properties: 'a' stands there twice",
        ),
        (r#"{"multipleOf":0}"#, "a number above 0"),
        (r#"{"multipleOf":1234567890123456789}"#, "at most 18 digits"),
        (r#"{"maximum":1e99999999999999}"#, "a smaller exponent"),
        (
            r#"{"maxItems":1.5}"#,
            "/maxItems: 1.5, expected a whole number",
        ),
        (r#"{"maxItems":1e30}"#, "at most 64 bits"),
        (
            r#"{"$schema":"http://json-schema.org/draft-07/schema#"}"#,
            "/$schema: \"http://json-schema.org/draft-07/schema#\", expected https://json-schema.org/draft/2020-12",
        ),
        (
            r#"{"properties":{"a":{"$id":"b"}}}"#,
            "/properties/a/$id: below the root",
        ),
        (
            r##"{"$ref":"#/$defs/a/properties/b","$defs":{"a":{"$id":"a","properties":{"b":{}}}}}"##,
            "/$ref: '#/$defs/a/properties/b' leads into a schema with an $id",
        ),
    ] {
        let error = read::schema(schema).expect_err(schema);
        assert!(error.contains(word), "{schema}: {error}");
    }
}

#[test]
fn as_a_filter() {
    let settings = [
        ("schema", r#"{"required":["id"]}"#),
        ("otherwise", "reject"),
    ];
    let (mut gate, interest) = testing::init::<Gate>(&settings).expect("it starts");
    let inputs = [r#"{"id":1}"#, "{}", "x"].map(|payload| Input::new("t", payload));
    let batch = testing::batch(&interest, inputs);
    let answers: Vec<_> = batch.iter().map(|message| gate.filter(&message)).collect();
    assert_eq!(answers[0].decision, Decision::Pass);
    assert_eq!(answers[1].decision, Decision::Reject);
    let reason = answers[1].reason.as_deref();
    assert_eq!(
        reason,
        Some("does not fit the schema at /: 'id' is missing")
    );
    assert!(
        answers[2]
            .reason
            .as_deref()
            .is_some_and(|reason| reason.contains("not JSON"))
    );
    for (settings, setting) in [
        (&[][..], "schema"),
        (&[("schema", "{}"), ("on-invalid", "drop")], "on-invalid"),
    ] {
        let Err(error) = testing::init::<Gate>(settings) else {
            panic!("{settings:?} is taken")
        };
        assert_eq!(error.setting.as_deref(), Some(setting));
    }
}
