//! JSON out.

use std::fmt::Write;

/// Appends a text with its quotes and what must be escaped.
pub fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        match escape {
            "" => {
                let mut code = String::new();
                // Writing to a string cannot fail.
                let _ = write!(code, "\\u{byte:04x}");
                out.extend_from_slice(code.as_bytes());
            }
            escape => out.extend_from_slice(escape.as_bytes()),
        }
        plain = at + 1;
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
    out.push(b'"');
}

/// The same as a string.
pub fn quoted(plain: &str) -> String {
    let mut out = Vec::with_capacity(plain.len() + 2);
    text(&mut out, plain);
    String::from_utf8(out).unwrap_or_default()
}

/// Whether a text is a number as JSON writes it.
pub fn is_number(text: &str) -> bool {
    let is_numeral = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    is_numeral
        && super::scan::check(text.as_bytes()).is_ok()
        && !text.ends_with(char::is_whitespace)
}

/// A number; `null` for one that JSON does not have.
pub fn number(value: f64) -> String {
    match value.is_finite() {
        // As a whole number where it is one, so that a count is `3` and not `3.0`.
        true if value.fract() == 0.0 && value.abs() < 9e15 => format!("{value:.0}"),
        true => format!("{value}"),
        false => "null".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers() {
        assert_eq!(quoted("a\"b\\\n\u{1}é"), "\"a\\\"b\\\\\\n\\u0001é\"");
        assert_eq!((number(3.0).as_str(), number(0.1).as_str()), ("3", "0.1"));
        assert_eq!(
            (number(f64::NAN).as_str(), number(-0.5).as_str()),
            ("null", "-0.5")
        );
        assert!(is_number("-1.5e3") && !is_number("1 ") && !is_number("x") && !is_number("01"));
    }
}
