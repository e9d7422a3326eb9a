//! Sizes and durations as people write them: `"64MiB"`, `"30s"`.
//!
//! A bare number of bytes is a size; a bare number is never a duration, because nobody remembers
//! whether it was seconds or milliseconds.

use std::time::Duration;

const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// In milliseconds.
const DURATIONS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// What [`parse_size`] takes, for error messages.
pub const SIZE_EXPECTED: &str = "a size such as \"64MiB\" or a whole number of bytes";
/// What [`parse_duration`] takes, for error messages.
pub const DURATION_EXPECTED: &str =
    "a duration such as \"500ms\", \"30s\", \"5m\", \"2h\" or \"1d\"";

/// Bytes of a size such as `64MiB` or `64 MiB`; `None` if it is no size or overflows.
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZES)
}

/// A duration such as `30s`; milliseconds are the finest unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &DURATIONS).map(Duration::from_millis)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The shortest exact way to write a size.
pub fn format_size(bytes: u64) -> String {
    let binary = SIZES[1..5].iter().rev();
    for (name, factor) in binary {
        if bytes >= *factor && bytes.is_multiple_of(*factor) {
            return format!("{}{name}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

/// The shortest exact way to write a duration of whole milliseconds.
pub fn format_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    for (name, factor) in DURATIONS.iter().rev() {
        if ms >= *factor && ms.is_multiple_of(*factor) {
            return format!("{}{name}", ms / factor);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in [
            ("0B", Some(0)),
            ("64MiB", Some(64 << 20)),
            ("64 MiB", Some(64 << 20)),
            ("2GB", Some(2_000_000_000)),
            ("64", None),
            ("64M", None),
            ("MiB", None),
            ("-1B", None),
            ("1.5GiB", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(parse_size(text), want, "{text}");
        }
        assert_eq!(format_size(64 << 20), "64MiB");
        assert_eq!(format_size((1 << 20) + 1), "1048577B");
        assert_eq!(format_size(0), "0B");
    }

    #[test]
    fn durations() {
        for (text, want_ms) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("30", None),
            ("30 seconds", None),
            ("", None),
        ] {
            let want = want_ms.map(Duration::from_millis);
            assert_eq!(parse_duration(text), want, "{text}");
        }
        assert_eq!(format_duration(Duration::from_secs(90)), "90s");
        assert_eq!(format_duration(Duration::from_secs(120)), "2m");
        assert_eq!(format_duration(Duration::ZERO), "0ms");
    }
}
