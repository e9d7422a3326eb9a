//! Sizes, durations and counts as people write and read them. The same words as in the
//! configuration file, which a client-only binary does not link.

use std::time::Duration;

/// A size in bytes: `65536`, `64KiB`, `64MiB`, `1GiB`, `1GB`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("", 1),
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
    ];
    parse(text, &UNITS).ok_or_else(|| "expected a size such as 65536, 64MiB or 1GB".to_owned())
}

/// A duration: `250ms`, `30s`, `5m`, `2h`, `1d`. A bare number is refused: nobody remembers
/// whether it meant seconds or milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 5] = [
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    parse(text, &UNITS)
        .map(Duration::from_millis)
        .ok_or_else(|| "expected a duration such as 250ms, 30s, 5m, 2h or 1d".to_owned())
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A count with commas: `1,707`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 message`, `1,707 messages`.
pub fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", count(number))
}

/// A size for people: `812 B`, `4.2 KiB`, `1.0 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A duration for people, with three digits: `412 µs`, `1.23 ms`, `12.3 s`, `2 h 5 m`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let digits = |value: f64, unit: &str| match value {
        v if v < 9.995 => format!("{v:.2} {unit}"),
        v if v < 99.95 => format!("{v:.1} {unit}"),
        v => format!("{v:.0} {unit}"),
    };
    match duration.as_secs() {
        86_400.. => format!(
            "{} d {} h",
            duration.as_secs() / 86_400,
            duration.as_secs() / 3600 % 24
        ),
        3600.. => format!(
            "{} h {} m",
            duration.as_secs() / 3600,
            duration.as_secs() / 60 % 60
        ),
        60.. => format!(
            "{} m {} s",
            duration.as_secs() / 60,
            duration.as_secs() % 60
        ),
        _ if seconds >= 0.9995 => digits(seconds, "s"),
        _ if seconds >= 0.000_999_5 => digits(seconds * 1e3, "ms"),
        _ => digits(seconds * 1e6, "µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read() {
        assert_eq!(parse_size("65536"), Ok(65536));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1GB"), Ok(1_000_000_000));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "MiB", "-1", "1 MiB", "1.5s", "30", "99999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
        assert!(parse_size("20000000TiB").is_err());
    }

    #[test]
    fn numbers_are_written() {
        assert_eq!(
            [0, 1, 1707].map(|n| counted(n, "message")),
            ["0 messages", "1 message", "1,707 messages"]
        );
        assert_eq!(
            [0, 999, 1000, 1707, 1_234_567].map(count),
            ["0", "999", "1,000", "1,707", "1,234,567"]
        );
        assert_eq!(
            [812, 4300, 1 << 30].map(size),
            ["812 B", "4.2 KiB", "1.0 GiB"]
        );
        let written = [412, 1_234, 12_345_678, 7_500_000_000].map(Duration::from_micros);
        assert_eq!(
            written.map(duration),
            ["412 µs", "1.23 ms", "12.3 s", "2 h 5 m"]
        );
    }
}
