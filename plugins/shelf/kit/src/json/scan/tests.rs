use super::*;

fn find(text: &str, paths: &[&str]) -> Result<Vec<(usize, String)>, NotJson> {
    let mut all = Paths::default();
    for path in paths {
        all.add(Path::parse(path).unwrap_or_else(|error| panic!("{error}")));
    }
    let mut found = Vec::new();
    all.find(text.as_bytes(), &mut found)?;
    let text = |found: Found| (found.path, text[found.value].to_owned());
    Ok(found.into_iter().map(text).collect())
}

#[track_caller]
fn check_found(text: &str, path: &str, expected: &[&str]) {
    let found = find(text, &[path]).unwrap_or_else(|error| panic!("{text}: {error}"));
    let found: Vec<_> = found.into_iter().map(|(_, text)| text).collect();
    assert_eq!(found, expected, "{path} in {text}");
}

#[test]
fn values_are_found_where_they_stand() {
    let text = r#" {"a": {"b": [1, {"c": "x\"y"}, null], "b2": true}, "": -1.5e+3} "#;
    check_found(text, "$.a.b[0]", &["1"]);
    check_found(text, "$.a.b[1].c", &[r#""x\"y""#]);
    check_found(text, "$.a.b[*]", &["1", r#"{"c": "x\"y"}"#, "null"]);
    check_found(text, "$.a.*", &[r#"[1, {"c": "x\"y"}, null]"#, "true"]);
    check_found(text, "$['']", &["-1.5e+3"]);
    check_found(text, "$.a.b.c", &[]);
    check_found(text, "$[0]", &[]);
    check_found(text, "$", &[text.trim()]);
    check_found("7", "$", &["7"]);
}

#[test]
fn any_depth() {
    let text = r#"{"p":1,"x":{"p":{"p":2}},"y":[[{"p":3}]]}"#;
    check_found(text, "$..p", &["1", r#"{"p":2}"#, "2", "3"]);
    check_found(text, "$..p.p", &["2"]);
    check_found(text, "$.y..p", &["3"]);
    check_found(r#"[[1],[2,[3]]]"#, "$..[0]", &["[1]", "1", "2", "3"]);
    check_found(r#"{"a":{"a":{"a":1}}}"#, "$..a..a", &[r#"{"a":1}"#, "1"]);
}

#[test]
fn many_paths_in_one_look() {
    let found = find(r#"{"a":1,"b":{"c":2}}"#, &["$.b.c", "$.a", "$.b", "$.z"]);
    let expected = [(1, "1"), (2, r#"{"c":2}"#), (0, "2")];
    assert_eq!(
        found,
        Ok(expected
            .map(|(path, text)| (path, text.to_owned()))
            .to_vec())
    );
}

#[test]
fn names_may_be_escaped_and_stand_twice() {
    check_found(r#"{"\u0061":1,"a":2,"a\\":3}"#, "$.a", &["1", "2"]);
    check_found(r#"{"a\\":3}"#, r"$['a\\']", &["3"]);
    check_found(r#"{"\ud83d\ude00":1}"#, "$['😀']", &["1"]);
}

#[test]
fn what_is_not_json_is_told_with_its_place() {
    for (text, offset, word) in [
        ("", 0, "the text ends"),
        ("{", 1, "a name in quotes"),
        ("{\"a\" 1}", 5, "':'"),
        ("{\"a\":1,}", 7, "a name in quotes"),
        ("[1,]", 3, "a value is expected"),
        ("[1 2]", 3, "',' or ']'"),
        ("{\"a\":1 \"b\":2}", 7, "',' or '}'"),
        ("01", 1, "more text"),
        ("-", 1, "a digit"),
        ("1.", 2, "a digit"),
        ("1e", 2, "a digit"),
        ("nul", 0, "a value is expected"),
        ("\"a", 2, "without its end"),
        ("\"\\x\"", 1, "a backslash"),
        ("\"\\u12g4\"", 1, "four digits"),
        ("\"\n\"", 1, "control character"),
        ("1 2", 2, "more text"),
        ("NaN", 0, "a value is expected"),
    ] {
        let error = find(text, &["$.a"]).expect_err(text);
        assert_eq!(error.offset, offset, "{text}: {error}");
        assert!(error.to_string().contains(word), "{text}: {error}");
    }
    let error = check(b"[\"\xff\"]").expect_err("not UTF-8");
    assert_eq!(error.offset, 2);
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(check(nested(DEPTH_MAX).as_bytes()), Ok(()));
    let error = check(nested(DEPTH_MAX + 1).as_bytes()).expect_err("too deep");
    assert_eq!(
        (error.offset, error.problem),
        (DEPTH_MAX, "nested too deep")
    );
    assert!(check("[".repeat(1 << 20).as_bytes()).is_err());
}

/// The scanner takes and refuses what another parser does, for each way to cut or change a text.
#[test]
fn it_agrees_with_itself_on_all_cuts() {
    let text = r#"{"a":[1,-2.5e3,"x\u00e9\n",true,false,null,{}],"b":{"c":[]}}"#;
    assert_eq!(check(text.as_bytes()), Ok(()));
    for cut in 0..text.len() {
        let error = check(&text.as_bytes()[..cut]).expect_err("cut short");
        assert!(error.offset <= cut, "{cut}: {error}");
    }
}
