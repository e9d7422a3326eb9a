//! Parts of a schema that have no schemas in them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use regex_lite::{Regex, RegexBuilder};
use shelf_kit::json::{Number, Tree, write};

use crate::canonical;
use crate::schema::{Bound, Type};

/// What is read, or what is wrong and where.
pub type Read<T> = Result<T, String>;

/// Bytes of a compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// What multiples of can be told for numbers of any length.
const STEP_DIGITS_MAX: usize = 18;

/// What stands at a place, and what should.
pub fn expected(place: &str, found: &Tree<'_>, what: &str) -> String {
    let place = if place.is_empty() { "/" } else { place };
    let shown = match found {
        Tree::Number(text) => (*text).to_owned(),
        Tree::Text(text) => write::quoted(text),
        other => other.kind().to_owned(),
    };
    format!("{place}: {shown}, expected {what}")
}

/// The members of an object. Of a name that stands there twice one would be passed over.
pub fn members<'v, 't>(value: &'v Tree<'t>, place: &str) -> Read<&'v [(Cow<'t, str>, Tree<'t>)]> {
    let Tree::Object(members) = value else {
        return Err(expected(place, value, "an object"));
    };
    let mut names = BTreeSet::new();
    match members.iter().find(|(name, _)| !names.insert(name)) {
        None => Ok(members),
        Some((name, _)) => {
            let place = if place.is_empty() { "/" } else { place };
            Err(format!("{place}: '{name}' stands there twice"))
        }
    }
}

/// The elements of a list.
pub fn elements<'v, 't>(value: &'v Tree<'t>, place: &str) -> Read<&'v [Tree<'t>]> {
    match value {
        Tree::Array(elements) => Ok(elements),
        other => Err(expected(place, other, "a list")),
    }
}

/// A text.
pub fn text(value: &Tree<'_>, place: &str) -> Read<String> {
    match value {
        Tree::Text(text) => Ok(text.to_string()),
        other => Err(expected(place, other, "a text")),
    }
}

/// A list of texts.
pub fn texts(value: &Tree<'_>, place: &str) -> Read<Vec<String>> {
    let all = elements(value, place)?.iter();
    all.map(|value| text(value, place)).collect()
}

fn number<'t>(value: &Tree<'t>, place: &str) -> Read<(Number<'t>, &'t str)> {
    match value {
        Tree::Number(text) => match Number::parse(text) {
            Some(number) => Ok((number, text)),
            None => Err(expected(place, value, "a number with a smaller exponent")),
        },
        other => Err(expected(place, other, "a number")),
    }
}

/// A bound of numbers.
pub fn bound(kind: Bound, value: &Tree<'_>, place: &str) -> Read<(Bound, Number<'static>, String)> {
    let (number, text) = number(value, place)?;
    Ok((kind, number.into_owned(), text.to_owned()))
}

/// What numbers must be multiples of.
pub fn step(value: &Tree<'_>, place: &str) -> Read<(Bound, Number<'static>, String)> {
    match bound(Bound::MultipleOf, value, place)? {
        (_, step, _) if step.sign() <= 0 => Err(expected(place, value, "a number above 0")),
        (_, step, _) if step.digits() > STEP_DIGITS_MAX => {
            let what = format!("a number of at most {STEP_DIGITS_MAX} digits");
            Err(expected(place, value, &what))
        }
        step => Ok(step),
    }
}

/// How many there may be. `1.0` and `1e2` are whole numbers.
pub fn count(value: &Tree<'_>, place: &str) -> Read<u64> {
    let (number, _) = number(value, place)?;
    if !number.is_whole() || number.sign() < 0 {
        return Err(expected(place, value, "a whole number"));
    }
    let count = number.to_u64();
    count.ok_or_else(|| expected(place, value, "a whole number of at most 64 bits"))
}

/// One type, or a list of them.
pub fn types(value: &Tree<'_>, place: &str) -> Read<Vec<Type>> {
    let one = |value: &Tree<'_>| {
        let word = text(value, place)?;
        let known = Type::WORDS.into_iter().find(|(known, _)| *known == word);
        known.map(|(_, kind)| kind).ok_or_else(|| {
            let words = Type::WORDS.map(|(word, _)| word).join(", ");
            expected(place, value, &format!("one of {words}"))
        })
    };
    match value {
        Tree::Array(all) => all.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// Canonical texts, and how they are shown.
pub fn values_of(values: &[Tree<'_>], place: &str) -> Read<(Vec<Vec<u8>>, String)> {
    let mut texts = Vec::with_capacity(values.len());
    let mut shown = Vec::with_capacity(values.len());
    for value in values {
        let text = canonical::text(value);
        texts.push(text.ok_or_else(|| expected(place, value, "numbers with smaller exponents"))?);
        let mut json = Vec::new();
        value.write(&mut json);
        shown.push(String::from_utf8(json).unwrap_or_default());
    }
    let shown = match &shown[..] {
        [one] => one.clone(),
        all => format!("one of {}", all.join(", ")),
    };
    texts.sort();
    Ok((texts, shown))
}

/// A regular expression.
pub fn pattern(text: &str, place: &str) -> Read<Regex> {
    RegexBuilder::new(text)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| format!("{place}: the pattern '{text}' cannot be used: {error}"))
}
