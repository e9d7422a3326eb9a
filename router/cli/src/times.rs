//! Points in time and places in a queue, as people write them.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use waypost_client::Start;

use crate::units::parse_duration;

/// A place in a queue: `beginning`, `end`, an offset, or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which of them.
    pub start: Start,
    /// With [`Start::Offset`].
    pub offset: u64,
    /// With [`Start::Time`]: ms since 1970.
    pub time_ms: u64,
}

impl Place {
    /// The oldest message.
    pub const BEGINNING: Place = Place::at(Start::Beginning);
    /// The next message that comes.
    pub const END: Place = Place::at(Start::End);

    const fn at(start: Start) -> Place {
        Place {
            start,
            offset: 0,
            time_ms: 0,
        }
    }

    /// An offset.
    pub fn offset(offset: u64) -> Place {
        Place {
            offset,
            ..Place::at(Start::Offset)
        }
    }

    /// The first message received at this time (ms since 1970) or later.
    pub fn time(time_ms: u64) -> Place {
        Place {
            time_ms,
            ..Place::at(Start::Time)
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        match text {
            "beginning" => return Ok(Place::BEGINNING),
            "end" => return Ok(Place::END),
            _ => {}
        }
        if let Ok(offset) = text.parse() {
            return Ok(Place::offset(offset));
        }
        parse_time(text).map(Place::time).map_err(|_| {
            "expected beginning, end, an offset such as 42, a time such as \
             2026-05-01T06:00:00Z, or how long ago, such as 5m"
                .to_owned()
        })
    }
}

/// A point in time, in ms since 1970: RFC 3339 (`2026-05-01T06:00:00Z`), or how long ago (`5m`).
pub fn parse_time(text: &str) -> Result<u64, String> {
    if let Ok(ago) = parse_duration(text) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        return Ok(millis(now.unwrap_or_default().saturating_sub(ago)));
    }
    rfc3339(text).ok_or_else(|| {
        "expected a time such as 2026-05-01T06:00:00Z or 2026-05-01T08:00:00+02:00, \
         or how long ago, such as 5m"
            .to_owned()
    })
}

/// A duration as the wire has it.
pub fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 2)
}

/// `YYYY-MM-DDThh:mm:ss[.fraction](Z|±hh:mm)` in ms since 1970; `None` where it is not that, or
/// before 1970. A leap second is the second after it.
fn rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = (text.get(..10)?, text.get(11..)?);
    let mark = text.as_bytes()[10];
    if !matches!(mark, b'T' | b't' | b' ') {
        return None;
    }
    let (clock, rest) = (rest.get(..8)?, rest.get(8..)?);
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let (fraction_ms, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (fraction, zone) = rest.split_at(digits);
            let thousandths = format!("{fraction:0<3}");
            (thousandths.get(..3)?.parse().ok()?, zone)
        }
    };
    let zone_minutes = match zone {
        "Z" | "z" => 0,
        _ => {
            let sign = match zone.as_bytes().first()? {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let [hours, minutes] = numbers(zone.get(1..)?, ':', [2, 2])?;
            (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))?
        }
    };
    let is_right = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !is_right {
        return None;
    }
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - zone_minutes;
    u64::try_from((minutes * 60 + second) * 1000 + fraction_ms).ok()
}

/// Numbers with exactly so many digits.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut found = [0; N];
    let mut parts = text.split(between);
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

fn days_in(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `YYYY-MM-DDThh:mm:ssZ`, from seconds since 1970.
pub fn format_rfc3339(seconds: u64) -> String {
    // Far beyond the year 9999 nothing is a time.
    let seconds = i64::try_from(seconds).unwrap_or(0).min(253_402_300_799);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970 + days / 366;
    while days_since_1970(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days_since_1970(year, month + 1, 1) <= days {
        month += 1;
    }
    let day = days - days_since_1970(year, month, 1) + 1;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The same with thousandths, from milliseconds since 1970.
#[cfg_attr(
    not(feature = "node"),
    expect(dead_code, reason = "trials are the node's")
)]
pub fn format_rfc3339_ms(ms: u64) -> String {
    let seconds = format_rfc3339(ms / 1000);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), ms % 1000)
}

/// Days of the Gregorian calendar; years are counted from March, so that a leap day ends one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let before_month = (153 * from_march + 2) / 5;
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + before_month + day - 1 - 719_468
}

/// A time of day for people: `HH:MM:SS.mmm`, UTC.
pub fn clock(time_ms: u64) -> String {
    let (seconds, ms) = (time_ms / 1000, time_ms % 1000);
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{h:02}:{m:02}:{s:02}.{ms:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day() {
        assert_eq!(clock(86_400_000 + 3_723_004), "01:02:03.004");
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        for text in [
            "1970-01-01T00:00:00Z",
            "1999-12-31T23:59:59Z",
            "2000-02-29T12:00:00Z",
            "2024-03-01T00:00:00Z",
            "2026-11-30T02:49:07Z",
            "9999-12-31T23:59:59Z",
        ] {
            let ms = rfc3339(text).expect(text);
            assert_eq!(format_rfc3339(ms / 1000), text);
            assert_eq!(rfc3339(&format_rfc3339_ms(ms + 7)), Some(ms + 7));
        }
    }

    #[test]
    fn times_are_read() {
        // From `date -u -d … +%s`.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-05-01T06:00:00Z", 1_777_615_200),
            ("2026-05-01T08:00:00+02:00", 1_777_615_200),
            ("2026-04-30 23:30:00-06:30", 1_777_615_200),
            ("2100-03-01T00:00:00z", 4_107_542_400),
        ] {
            assert_eq!(rfc3339(text), Some(seconds * 1000), "{text}");
        }
        assert_eq!(rfc3339("1970-01-01T00:00:01.5Z"), Some(1500));
        assert_eq!(rfc3339("1970-01-01T00:00:00.1239Z"), Some(123));
        for bad in [
            "",
            "2026-05-01",
            "2026-05-01T06:00:00",
            "2026-02-29T06:00:00Z",
            "2026-13-01T06:00:00Z",
            "2026-05-01T24:00:00Z",
            "2026-05-01T06:00:00+2:00",
            "2026-05-01T06:00:00Zulu",
            "1969-12-31T23:59:59Z",
            "2026-05-01Ä06:00:00Z",
            "+026-05-01T06:00:00Z",
        ] {
            assert_eq!(rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn how_long_ago_is_before_now() {
        let (hour, day) = (parse_time("1h"), parse_time("1d"));
        assert!(day.unwrap() + 80_000_000 < hour.unwrap());
        assert!(parse_time("42").unwrap_err().contains("5m"));
    }

    #[test]
    fn places_are_read() {
        assert_eq!("beginning".parse(), Ok(Place::BEGINNING));
        assert_eq!("end".parse(), Ok(Place::END));
        assert_eq!("42".parse(), Ok(Place::offset(42)));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(Place::time(1000)));
        assert!("middle".parse::<Place>().is_err());
    }
}
