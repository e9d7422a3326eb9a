//! A TOML document with its positions, read key by key.
//!
//! Serde would stop at the first mistake; a person wants all of them. So a section asks for its
//! keys one after the other, each question leaves an error and a default where the answer is
//! wrong, and [`Table::finish`] reports what nobody asked for.

use super::units;
use super::{ConfigError, Problem};
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text of one file, and what was found wrong with it so far.
pub(super) struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<ConfigError>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Document {
            file,
            text,
            errors: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    /// The directory that relative paths in the file start from.
    pub(super) fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Line of a byte offset, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.position(at).0
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    fn problem(&self, place: &str, at: usize, problem: Problem) -> ConfigError {
        let (line, column) = self.position(at);
        ConfigError {
            file: self.file.to_path_buf(),
            line,
            column,
            key: place.to_owned(),
            problem,
        }
    }

    pub(super) fn error(&self, place: &str, at: usize, problem: Problem) {
        let error = self.problem(place, at, problem);
        self.errors.borrow_mut().push(error);
    }

    pub(super) fn warn(&self, place: &str, at: usize, text: impl Into<String>) {
        let warning = self.problem(place, at, Problem::Other(text.into()));
        self.warnings.borrow_mut().push(warning);
    }

    /// Errors, then warnings, each in the order of the file.
    pub(super) fn into_problems(self) -> (Vec<ConfigError>, Vec<ConfigError>) {
        let sorted = |problems: RefCell<Vec<ConfigError>>| {
            let mut problems = problems.into_inner();
            problems.sort_by_key(|e| (e.line, e.column));
            problems
        };
        (sorted(self.errors), sorted(self.warnings))
    }
}

/// A value with the byte offset where it stands.
#[derive(Clone, Debug)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) at: usize,
    /// Section and key, as error messages show them.
    pub(super) place: String,
}

/// One table of the document.
pub(super) struct Table<'d, 'a> {
    pub(super) doc: &'d Document<'a>,
    /// `[limits]`, `[[route]] "kept"`; empty for the document itself.
    pub(super) place: String,
    /// Where the table begins.
    pub(super) at: usize,
    entries: &'d DeTable<'a>,
    asked: Vec<&'static str>,
}

impl<'d, 'a> Table<'d, 'a> {
    pub(super) fn root(doc: &'d Document<'a>, entries: &'d DeTable<'a>) -> Self {
        Table {
            doc,
            place: String::new(),
            at: 0,
            entries,
            asked: Vec::new(),
        }
    }

    fn place_of(&self, key: &str) -> String {
        if self.place.is_empty() {
            key.to_owned()
        } else {
            format!("{} {key}", self.place)
        }
    }

    /// The value of `key`, which is known from now on.
    fn get(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.entries.get(key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.get(key).is_some()
    }

    pub(super) fn error(&self, at: usize, problem: Problem) {
        self.doc.error(&self.place, at, problem);
    }

    fn wrong_type(&self, place: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let problem = Problem::unexpected(describe(value.get_ref()), expected);
        self.doc.error(place, value.span().start, problem);
    }

    /// The string at `key`, if there is one.
    pub(super) fn string(&mut self, key: &'static str) -> Option<Found<String>> {
        self.text(key, "a string")
    }

    fn text(&mut self, key: &'static str, expected: &str) -> Option<Found<String>> {
        let place = self.place_of(key);
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Found {
                value: text.to_string(),
                at: value.span().start,
                place,
            }),
            _ => {
                self.wrong_type(&place, value, expected);
                None
            }
        }
    }

    /// The string at `key`; that it is missing is an error.
    pub(super) fn required(&mut self, key: &'static str) -> Option<Found<String>> {
        if !self.has(key) {
            self.asked.push(key);
            self.error(self.at, Problem::Missing(key.to_owned()));
            return None;
        }
        self.string(key)
    }

    /// What `parse` makes of the string at `key`, with `default` where there is none.
    pub(super) fn parsed<T, E: Display>(
        &mut self,
        key: &'static str,
        default: T,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> T {
        let Some(found) = self.text(key, expected) else {
            return default;
        };
        parse(&found.value).unwrap_or_else(|_| {
            let problem = Problem::unexpected(format!("{:?}", found.value), expected);
            self.doc.error(&found.place, found.at, problem);
            default
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        words: &[(&str, T)],
    ) -> T {
        let names: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        self.parsed(key, default, &any_of(&names), |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or("")
        })
    }

    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let place = self.place_of(key);
        match self.get(key) {
            None => default,
            Some(value) => match value.get_ref() {
                DeValue::Boolean(value) => *value,
                _ => {
                    self.wrong_type(&place, value, "true or false");
                    default
                }
            },
        }
    }

    /// A whole number in `range`.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let place = self.place_of(key);
        let Some(value) = self.get(key) else {
            return default;
        };
        match integer(value.get_ref()) {
            Some(number) if range.contains(&number) => number,
            _ => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                self.wrong_type(&place, value, &expected);
                default
            }
        }
    }

    /// A size in bytes in `range`.
    pub(super) fn size(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let place = self.place_of(key);
        let Some(value) = self.get(key) else {
            return default;
        };
        let bytes = match value.get_ref() {
            DeValue::String(text) => units::parse_size(text),
            other => integer(other),
        };
        let Some(bytes) = bytes else {
            self.wrong_type(&place, value, units::SIZE_EXPECTED);
            return default;
        };
        if range.contains(&bytes) {
            return bytes;
        }
        let [low, high] = [*range.start(), *range.end()].map(units::format_size);
        self.wrong_type(&place, value, &format!("a size from {low} to {high}"));
        default
    }

    /// A duration in `range`.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let place = self.place_of(key);
        let Some(value) = self.get(key) else {
            return default;
        };
        let duration = match value.get_ref() {
            DeValue::String(text) => units::parse_duration(text),
            _ => None,
        };
        let Some(duration) = duration else {
            self.wrong_type(&place, value, units::DURATION_EXPECTED);
            return default;
        };
        if range.contains(&duration) {
            return duration;
        }
        let [low, high] = [*range.start(), *range.end()].map(units::format_duration);
        self.wrong_type(&place, value, &format!("a duration from {low} to {high}"));
        default
    }

    /// The strings of the array at `key`; empty where there is none.
    pub(super) fn strings(&mut self, key: &'static str) -> Vec<Found<String>> {
        let place = self.place_of(key);
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(&place, value, "an array of strings");
            return Vec::new();
        };
        let mut found = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let place = format!("{place}[{index}]");
            match item.get_ref() {
                DeValue::String(text) => found.push(Found {
                    value: text.to_string(),
                    at: item.span().start,
                    place,
                }),
                _ => self.wrong_type(&place, item, "a string"),
            }
        }
        found
    }

    /// Whether the value at `key` is a boolean; it is read as such then.
    pub(super) fn is_boolean(&self, key: &str) -> bool {
        let value = self.entries.get(key).map(Spanned::get_ref);
        matches!(value, Some(DeValue::Boolean(_)))
    }

    /// The scalars below the table at `key`, with dotted keys (`a.b`, `list.0`), in file order.
    pub(super) fn flattened(&mut self, key: &'static str) -> Vec<(String, String)> {
        let place = self.place_of(key);
        let mut flat = Vec::new();
        match self.get(key) {
            None => {}
            Some(value) => match value.get_ref() {
                DeValue::Table(table) => {
                    for (name, value) in in_file_order(table) {
                        flatten(name.to_owned(), value, &mut flat);
                    }
                }
                _ => self.wrong_type(&place, value, "a table"),
            },
        }
        flat
    }

    /// The table at `key`, empty where there is none.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Table<'d, 'a>> {
        let place = if self.place.is_empty() {
            format!("[{key}]")
        } else {
            self.place_of(key)
        };
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(entries) => Some(Table {
                doc: self.doc,
                place,
                at: value.span().start,
                entries,
                asked: Vec::new(),
            }),
            _ => {
                let expected = format!("a table {place}");
                self.wrong_type(key, value, &expected);
                None
            }
        }
    }

    /// The tables `[[key]]`, each called by the value of its `name_key` or by its number; those
    /// below another table, `[[queue.group]]`, by that one's name as well.
    pub(super) fn tables(
        &mut self,
        key: &'static str,
        name_key: &'static str,
    ) -> Vec<Table<'d, 'a>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let called = match self.place.as_str() {
            "" => format!("[[{key}]]"),
            place => format!("{place} {key}"),
        };
        let DeValue::Array(items) = value.get_ref() else {
            let place = self.place_of(key);
            self.wrong_type(&place, value, &format!("tables {called}"));
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let DeValue::Table(entries) = item.get_ref() else {
                self.wrong_type(&self.place_of(key), item, &format!("a table {called}"));
                continue;
            };
            let place = match entries.get(name_key).map(Spanned::get_ref) {
                Some(DeValue::String(name)) => format!("{called} {name:?}"),
                _ => format!("{called} number {}", index + 1),
            };
            tables.push(Table {
                doc: self.doc,
                place,
                at: item.span().start,
                entries,
                asked: Vec::new(),
            });
        }
        tables
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let problem = Problem::unknown("key", name, &self.asked);
            self.error(key.span().start, problem);
        }
    }
}

/// Keys and values as they stand in the file; the map has them by name. A plugin may give the
/// order of its settings a meaning.
fn in_file_order<'t, 'a>(table: &'t DeTable<'a>) -> Vec<(&'t str, &'t DeValue<'a>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let plain = entries.into_iter();
    plain
        .map(|(key, value)| (key.get_ref().as_ref(), value.get_ref()))
        .collect()
}

fn flatten(name: String, value: &DeValue<'_>, flat: &mut Vec<(String, String)>) {
    match value {
        DeValue::Table(table) => {
            for (key, value) in in_file_order(table) {
                flatten(format!("{name}.{key}"), value, flat);
            }
        }
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten(format!("{name}.{index}"), item.get_ref(), flat);
            }
        }
        DeValue::String(text) => flat.push((name, text.to_string())),
        DeValue::Integer(number) => {
            let text = integer_text(number);
            flat.push((name, text));
        }
        DeValue::Float(number) => flat.push((name, number.to_string())),
        DeValue::Boolean(value) => flat.push((name, value.to_string())),
        DeValue::Datetime(time) => flat.push((name, time.to_string())),
    }
}

/// Decimal, whatever the radix in the file.
fn integer_text(number: &toml::de::DeInteger<'_>) -> String {
    match i128::from_str_radix(number.as_str(), number.radix()) {
        Ok(value) => value.to_string(),
        Err(_) => number.as_str().to_owned(),
    }
}

fn integer(value: &DeValue<'_>) -> Option<u64> {
    match value {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    }
}

/// What stands there, for error messages.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => integer_text(number),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => format!("the date {time}"),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn any_of<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => only.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", first.join(", "), last.as_ref())
        }
    }
}

/// The candidate that `word` is most likely a slip of: at most a third of its letters differ.
pub(super) fn nearest<'c, S: AsRef<str>>(word: &str, candidates: &'c [S]) -> Option<&'c str> {
    let near = |c: &'c S| (distance(word, c.as_ref()), c.as_ref());
    let (distance, best) = candidates.iter().map(near).min()?;
    let letters = word.chars().count().max(best.chars().count());
    (distance > 0 && distance <= (letters / 3).max(1)).then_some(best)
}

/// Damerau's edit distance between neighbours: insert, delete, replace, swap.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// Byte range of a syntax error, or the start of the file.
pub(super) fn start(span: Option<Range<usize>>) -> usize {
    span.map_or(0, |span| span.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found() {
        let keys = ["listen", "admin", "name", "data_dir"];
        assert_eq!(nearest("lisen", &keys), Some("listen"));
        assert_eq!(nearest("nmae", &keys), Some("name"));
        assert_eq!(nearest("datadir", &keys), Some("data_dir"));
        assert_eq!(nearest("telephone", &keys), None);
        assert_eq!(nearest("x", &[] as &[&str]), None);
        assert_eq!(any_of(&["a", "b", "c"]), "a, b or c");
    }
}
