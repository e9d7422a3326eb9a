//! Numbers as they are written: exact, of any length.

use std::borrow::Cow;
use std::cmp::Ordering;

/// A number. Equal ones are equal however they are written: `1`, `1.0`, `10e-1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number<'t> {
    negative: bool,
    /// What is left without zeros at either end, and so nothing of 0.
    digits: Cow<'t, str>,
    /// The number is 0.DIGITS times ten to this power; 0 for 0.
    point: i64,
}

/// Where the point of a number may be, so that sums of such places do not overflow.
const POINT_MAX: i64 = 1_000_000_000_000;

impl<'t> Number<'t> {
    /// Reads one as JSON writes it. `None` where it is none, and for a number other than 0 whose
    /// exponent is of more than a million millions.
    pub fn parse(text: &'t str) -> Option<Number<'t>> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, text),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        if !is_digits(whole) || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let significant = fraction.trim_start_matches('0');
        let (digits, place) = match (whole, fraction) {
            ("", _) => (
                Cow::Borrowed(significant),
                -((fraction.len() - significant.len()) as i64),
            ),
            (whole, "") => {
                let digits = whole.trim_end_matches('0');
                (Cow::Borrowed(digits), whole.len() as i64)
            }
            (whole, fraction) => (Cow::Owned([whole, fraction].concat()), whole.len() as i64),
        };
        let point = place.saturating_add(exponent);
        match digits.is_empty() {
            true => Some(Number {
                negative: false,
                digits,
                point: 0,
            }),
            false => (-POINT_MAX..=POINT_MAX).contains(&point).then_some(Number {
                negative,
                digits,
                point,
            }),
        }
    }

    /// The same, with a text of its own.
    pub fn into_owned(self) -> Number<'static> {
        Number {
            negative: self.negative,
            digits: Cow::Owned(self.digits.into_owned()),
            point: self.point,
        }
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    /// Whether it has no fraction.
    pub fn is_whole(&self) -> bool {
        self.exponent() >= 0
    }

    /// As a whole number of 64 bits; `None` where it is none.
    pub fn to_u64(&self) -> Option<u64> {
        let zeros = u32::try_from(self.exponent()).ok()?;
        match self.sign() {
            0 => Some(0),
            1 => {
                let digits: u64 = self.digits.parse().ok()?;
                digits.checked_mul(10_u64.checked_pow(zeros)?)
            }
            _ => None,
        }
    }

    /// Digits that are not zeros at an end.
    pub fn digits(&self) -> usize {
        self.digits.len()
    }

    /// It is its digits, as a whole number, times ten to this power.
    fn exponent(&self) -> i64 {
        self.point - self.digits.len() as i64
    }

    /// Whether it is a whole multiple of `step`. `None` where that is 0 or has more than 18 digits.
    pub fn is_multiple_of(&self, step: &Number<'_>) -> Option<bool> {
        let divisor: u128 = match step.digits() {
            1..=18 => step.digits.parse().ok()?,
            _ => return None,
        };
        let shift = self.exponent() - step.exponent();
        if self.sign() == 0 {
            return Some(true);
        }
        // Its last digit is no 0, so it is not ten times anything.
        let Ok(mut shift) = u64::try_from(shift) else {
            return Some(false);
        };
        let digits = self.digits.bytes().map(|digit| u128::from(digit - b'0'));
        let mut rest = digits.fold(0, |rest, digit| (rest * 10 + digit) % divisor);
        // Times ten to the power of `shift`, by squares: all stays below 10^36.
        let mut power = 10 % divisor;
        while shift > 0 {
            if shift & 1 == 1 {
                rest = rest * power % divisor;
            }
            power = power * power % divisor;
            shift >>= 1;
        }
        Some(rest == 0)
    }

    /// A text that equal numbers have in common, and others do not.
    pub fn canonical(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        match self.sign() {
            0 => "0".to_owned(),
            _ => format!("{sign}{}e{}", self.digits, self.exponent()),
        }
    }
}

impl From<u64> for Number<'static> {
    fn from(number: u64) -> Number<'static> {
        let text = number.to_string();
        let digits = text.trim_end_matches('0');
        Number {
            negative: false,
            digits: Cow::Owned(digits.to_owned()),
            point: if number == 0 { 0 } else { text.len() as i64 },
        }
    }
}

impl PartialOrd for Number<'_> {
    fn partial_cmp(&self, other: &Number<'_>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number<'_> {
    fn cmp(&self, other: &Number<'_>) -> Ordering {
        let signs = self.sign().cmp(&other.sign());
        // Of two that begin in the same place, the digits are compared as a text is.
        let sizes = self.point.cmp(&other.point);
        let sizes = sizes.then_with(|| self.digits.cmp(&other.digits));
        signs.then(if self.negative {
            sizes.reverse()
        } else {
            sizes
        })
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// After the `e`. One that is too long for 64 bits is as good as the largest.
fn exponent_of(text: &str) -> Option<i64> {
    let (factor, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let size = digits.parse().unwrap_or(i64::MAX).min(2 * POINT_MAX);
    is_digits(digits).then_some(factor * size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number<'_> {
        Number::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn equal_ones_are_equal_however_they_are_written() {
        for (one, other) in [
            ("1", "1.0"),
            ("1", "10e-1"),
            ("100", "1e2"),
            ("0.5", "5E-1"),
            ("0.00120", "12e-4"),
            ("-0", "0.0e99999999999999999999"),
            ("123.450", "1.2345e+2"),
        ] {
            assert_eq!(number(one), number(other));
            assert_eq!(number(one).canonical(), number(other).canonical());
            assert_eq!(number(one).cmp(&number(other)), Ordering::Equal);
        }
        assert_eq!(Number::from(0), number("0"));
        assert_eq!(Number::from(1_200), number("1200"));
    }

    #[test]
    fn they_are_in_order() {
        let ordered = [
            "-1e400",
            "-9007199254740993",
            "-9007199254740992",
            "-1.5",
            "-0.5",
            "0",
            "1e-400",
            "0.1",
            "0.10000000000000000000000000001",
            "9",
            "10",
            "9007199254740992",
            "9007199254740993",
            "1e400",
        ];
        for pair in ordered.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
            assert_ne!(number(pair[0]).canonical(), number(pair[1]).canonical());
        }
    }

    #[test]
    fn multiples() {
        for (one, step, expected) in [
            ("0.3", "0.1", Some(true)),
            ("1.05", "0.1", Some(false)),
            ("9007199254740993", "2", Some(false)),
            ("9007199254740994", "2", Some(true)),
            ("1e400", "7", Some(false)),
            ("7e400", "7", Some(true)),
            ("-7.5", "2.5", Some(true)),
            ("0", "3", Some(true)),
            ("5", "10", Some(false)),
            ("1", "0", None),
            ("1", "0.1234567890123456789", None),
        ] {
            let found = number(one).is_multiple_of(&number(step));
            assert_eq!(found, expected, "{one}, {step}");
        }
    }

    #[test]
    fn wholes() {
        for (text, expected) in [
            ("1.0", true),
            ("1.5e1", true),
            ("1.5", false),
            ("0.0", true),
        ] {
            assert_eq!(number(text).is_whole(), expected, "{text}");
        }
        for (text, expected) in [
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("1.20e2", Some(120)),
            ("1e30", None),
            ("-1", None),
            ("0.5", None),
            ("0", Some(0)),
        ] {
            assert_eq!(number(text).to_u64(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            "-",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "1e+",
            "1 ",
            "x",
            "1e99999999999999",
            "NaN",
            "1.x",
        ] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }
}
