use super::*;
use crate::trust::TrustedKeys;

/// Keys that another implementation of minisign's format made.
const PUBLIC: &str = "RWS1H/m1WcJpbx6sZ3y45b7YxaLbtpMrhQAhmQEuZDM/BupyDXdeHb+s";
const SECRET: &str = "untrusted comment: rsign encrypted secret key
RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAtR/5tVnCaW+0Y8nnU24NHXOLhEjuqlNG3bC5zUDozkF1djBd+6IoFB6sZ3y45b7YxaLbtpMrhQAhmQEuZDM/BupyDXdeHb+s4UQsJSCr7gT6df/aEfF7UdtLJEKGRew45HEv3+K7nkw=
";
/// The same, with the password `open sesame`.
const PUBLIC_HIDDEN: &str = "RWTYe6oOErDsNQZq1NRL+UCONqHTZLZkxhjO6KBWcKraqKFSCeZ8ahQ/";
const SECRET_HIDDEN: &str = "untrusted comment: rsign encrypted secret key
RWRTY0IybVxdBk07E2oH7c+KX93N7yi1AnnTUGgy6ki1JvGBgVAAABAAAAAAAAAAAAIAAAAAPAg3MFSM0NiPsdNsLD8TZa+HQeAVB7c0YbP+96yQggGZFFuXvRhPke+ZcseM1mvg+GXQpNHJdFxISE2/Tr6Yq7VrApL4e2AFNb5Zs7om7hHmRvjYNkfIE5NG2JNskLBjI2+qd+HAxAg=
";

fn signs(key: &SecretKey) {
    let signature = key.sign(b"component", "a comment").unwrap();
    assert_eq!(signature.comment(), "a comment");
    let keys = TrustedKeys::new(vec![key.public().unwrap()]);
    let text = Some(signature.as_str().as_bytes());
    let id = keys.check(b"component", text, "").unwrap();
    assert_eq!(id, Some(signature.key_id()));
    assert!(keys.check(b"componend", text, "").is_err());
}

#[test]
fn keys_of_others_are_read_and_sign() {
    let key = SecretKey::parse(SECRET, None).unwrap();
    assert_eq!(key.public().unwrap().as_str(), PUBLIC);
    signs(&key);
    assert!(!SecretKey::has_password(SECRET) && SecretKey::has_password(SECRET_HIDDEN));
    let key = SecretKey::parse(SECRET_HIDDEN, Some("open sesame")).unwrap();
    assert_eq!(key.public().unwrap().as_str(), PUBLIC_HIDDEN);
    signs(&key);
}

#[test]
fn new_keys_are_read_back_with_and_without_a_password() {
    let key = SecretKey::generate().unwrap();
    signs(&key);
    for password in [None, Some("secret")] {
        let text = key.to_text(password).unwrap();
        assert_eq!(SecretKey::has_password(&text), password.is_some());
        let again = SecretKey::parse(&text, password).unwrap();
        assert_eq!(again.public_text(), key.public_text());
    }
    let other = SecretKey::generate().unwrap();
    assert_ne!(other.public_text(), key.public_text());
}

#[test]
fn each_mistake_has_its_words() {
    let error = |text: &str, password| SecretKey::parse(text, password).unwrap_err();
    assert_eq!(error(SECRET_HIDDEN, None), SecretKeyError::NoPassword);
    assert_eq!(
        error(SECRET_HIDDEN, Some("open barley")),
        SecretKeyError::Password
    );
    for text in ["", "one line", "c\n!!!\n", &format!("c\n{PUBLIC}\n")] {
        assert_eq!(error(text, None), SecretKeyError::Form, "{text:?}");
    }
    let changed = SECRET.replace("tR/5tVnC", "tR/5tVnD");
    assert_eq!(error(&changed, None), SecretKeyError::Damaged);
    let other = SECRET_HIDDEN.replace("RWRTY0Iy", "RWRUY0Iy");
    assert_eq!(error(&other, None), SecretKeyError::Hidden);
}

#[test]
fn no_key_takes_more_than_a_machine_has() {
    assert!(cost(OPS, MEMORY_BYTES).is_some());
    // What minisign asks for, and what it might.
    assert!(cost(33_554_432, MEMORY_BYTES_MAX).is_some());
    for (ops, memory_bytes) in [
        (u64::MAX, u64::MAX),
        (OPS, MEMORY_BYTES_MAX + 1),
        (0, u64::MAX),
    ] {
        assert!(cost(ops, memory_bytes).is_none());
    }
    assert!(cost(0, 0).is_none(), "p of nothing");
}
