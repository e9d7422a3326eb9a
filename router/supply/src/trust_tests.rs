use super::*;

/// A key and signatures of the bytes `test` that the program minisign made.
const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
const KEY_ID: &str = "E7620F1842B4E81F";
const PREHASHED: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335\tfile:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==
";
const LEGACY: &str = "untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966\tfile:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==
";

fn keys() -> TrustedKeys {
    TrustedKeys::new(vec![PublicKey::parse(KEY).unwrap()])
}

fn check(component: &[u8], signature: &str) -> Result<Option<KeyId>, TrustError> {
    keys().check(component, Some(signature.as_bytes()), "in c.wasm.minisig")
}

fn words(component: &[u8], signature: &str) -> String {
    check(component, signature).unwrap_err().to_string()
}

#[test]
fn what_minisign_signed_is_good() {
    let id = check(b"test", PREHASHED).unwrap().unwrap();
    assert_eq!(id.to_string(), KEY_ID);
    let signature = Signature::parse(PREHASHED.as_bytes()).unwrap();
    assert_eq!(signature.comment(), "timestamp:1556193335\tfile:test");
    assert_eq!(signature.key_id().to_string(), KEY_ID);
    let windows = PREHASHED.replace('\n', "\r\n");
    assert!(check(b"test", &windows).is_ok());
    let file = format!("untrusted comment: minisign public key {KEY_ID}\n{KEY}\n");
    assert_eq!(PublicKey::parse(&file), PublicKey::parse(KEY));
}

#[test]
fn each_refusal_says_which() {
    let unsigned = keys().check(b"test", None, "in c.wasm.minisig");
    assert_eq!(
        unsigned.unwrap_err().to_string(),
        format!("is not signed: expected a signature by the key {KEY_ID} in c.wasm.minisig")
    );
    let changed = format!("is not what the trusted key {KEY_ID} signed");
    assert!(words(b"Test", PREHASHED).starts_with(&changed));
    let comment = PREHASHED.replace("file:test", "file:tost");
    assert!(words(b"test", &comment).starts_with(&changed));
    assert!(words(b"test", LEGACY).contains("old form"));
    assert!(words(b"test", "nonsense").contains("has 1 lines, expected 4"));
    let no_base64 = PREHASHED.replace("RUQf", "RU!f");
    assert!(words(b"test", &no_base64).contains("line 2: a signature of 74 bytes"));
    let other = PREHASHED.replace("RUQf6LRC", "RUQf6LRD");
    let text = words(b"test", &other);
    assert!(
        text.contains("which is not trusted: expected the key E762"),
        "{text}"
    );
    let long = "x".repeat(SIGNATURE_BYTES_MAX + 1);
    assert!(words(b"test", &long).contains("no signature has more than 16384"));
}

#[test]
fn no_keys_ask_for_nothing() {
    let none = TrustedKeys::default();
    assert_eq!(none.check(b"test", None, ""), Ok(None));
    assert_eq!(none.check(b"test", Some(b"nonsense"), ""), Ok(None));
}

#[test]
fn no_changed_byte_of_a_signature_is_good() {
    let whole = PREHASHED.as_bytes();
    // The first line and the words before the comment are for people.
    let second = PREHASHED.find("RUQf").unwrap();
    for at in 0..whole.len() {
        for bit in [1, 4, 0x20, 0x80] {
            let mut damaged = whole.to_vec();
            damaged[at] ^= bit;
            let result = keys().check(b"test", Some(&damaged), "s");
            let is_after = at >= second && whole[at] != b'\n';
            assert!(!(is_after && result.is_ok()), "byte {at}, bit {bit}");
        }
        assert!(keys().check(b"test", Some(&whole[..at]), "s").is_err() || at + 1 == whole.len());
    }
}

#[test]
fn keys_are_told_from_what_is_none() {
    for (text, expected) in [
        ("", KeyError::NoKey),
        ("keys/team.pub", KeyError::NoKey),
        ("RW", KeyError::Damaged),
        (&KEY[..55], KeyError::Damaged),
        (&KEY.replace("RWQf", "RWQ!"), KeyError::Damaged),
    ] {
        assert_eq!(PublicKey::parse(text).unwrap_err(), expected, "{text:?}");
    }
}
