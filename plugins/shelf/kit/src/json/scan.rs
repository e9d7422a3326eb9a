//! One look at a payload: checks all of it, and tells where the values of paths stand.

use std::fmt;
use std::ops::Range;

use super::DEPTH_MAX;
use super::path::{Path, Pick};

/// Paths that are looked for together.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    paths: Vec<Path>,
}

/// A value that a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which path, in the order in which they were added.
    pub path: usize,
    /// Where its text is.
    pub value: Range<usize>,
    /// Where it stands with its name, if it has one: `"name": value`.
    pub member: Range<usize>,
}

/// A payload that is not JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotJson {
    /// Where, in bytes from 0.
    pub offset: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the payload is not JSON: {} at byte {}",
            self.problem, self.offset
        )
    }
}

impl Paths {
    /// One more; gives its number. The same path has the same number.
    pub fn add(&mut self, path: Path) -> usize {
        if let Some(known) = self.paths.iter().position(|known| *known == path) {
            return known;
        }
        self.paths.push(path);
        self.paths.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The values of all of them, in the order in which they end in the text. Of a name that an
    /// object has twice, both are found.
    pub fn find(&self, text: &[u8], found: &mut Vec<Found>) -> Result<(), NotJson> {
        found.clear();
        if let Err(error) = std::str::from_utf8(text) {
            return Err(NotJson {
                offset: error.valid_up_to(),
                problem: "bytes that are not UTF-8",
            });
        }
        let mut scan = Scan {
            text,
            at: 0,
            depth: 0,
            paths: &self.paths,
            states: Vec::new(),
            found,
        };
        for (path, steps) in self.paths.iter().enumerate() {
            match steps.steps.is_empty() {
                false => scan.states.push(State { path, step: 0 }),
                true => {
                    let whole = trimmed(text);
                    scan.found.push(Found {
                        path,
                        value: whole.clone(),
                        member: whole,
                    });
                }
            }
        }
        let top = scan.states.len();
        scan.value(0..top)?;
        scan.blanks();
        match scan.at == text.len() {
            true => Ok(()),
            false => Err(scan.wrong("more text after the value")),
        }
    }
}

fn trimmed(text: &[u8]) -> Range<usize> {
    let is_text = |byte: &u8| !b" \t\r\n".contains(byte);
    let start = text.iter().position(is_text).unwrap_or(0);
    let end = text.iter().rposition(is_text).map_or(0, |last| last + 1);
    start..end.max(start)
}

/// Checks a payload without looking for anything.
pub fn check(text: &[u8]) -> Result<(), NotJson> {
    Paths::default().find(text, &mut Vec::new())
}

/// How far one path has been followed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    path: usize,
    step: usize,
}

struct Scan<'t, 'f> {
    text: &'t [u8],
    at: usize,
    depth: usize,
    paths: &'t [Path],
    /// A stack: each value that is inside another has its states above that one's.
    states: Vec<State>,
    found: &'f mut Vec<Found>,
}

impl Scan<'_, '_> {
    fn wrong(&self, problem: &'static str) -> NotJson {
        NotJson {
            offset: self.at,
            problem,
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// A value; `states` says what is looked for in it.
    fn value(&mut self, states: Range<usize>) -> Result<(), NotJson> {
        self.blanks();
        match self.peek() {
            Some(b'{') => self.container(b'}', states),
            Some(b'[') => self.container(b']', states),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(_) => Err(self.wrong("a value is expected")),
            None => Err(self.wrong("a value is expected, and the text ends")),
        }
    }

    fn container(&mut self, end: u8, states: Range<usize>) -> Result<(), NotJson> {
        if self.depth == DEPTH_MAX {
            return Err(self.wrong("nested too deep"));
        }
        self.depth += 1;
        self.at += 1;
        self.blanks();
        if self.peek() == Some(end) {
            self.at += 1;
            self.depth -= 1;
            return Ok(());
        }
        for index in 0.. {
            self.blanks();
            let start = self.at;
            let name = match end {
                b'}' => Some(self.name()?),
                _ => None,
            };
            let above = self.states.len();
            let first_found = self.found.len();
            if !states.is_empty() {
                self.descend(states.clone(), name, index);
            }
            self.blanks();
            let value_start = self.at;
            self.value(above..self.states.len())?;
            self.states.truncate(above);
            let (value, member) = (value_start..self.at, start..self.at);
            // What `descend` noted for this value has no place yet; it stands before what was found
            // inside.
            for found in &mut self.found[first_found..] {
                if found.value.end == 0 {
                    (found.value, found.member) = (value.clone(), member.clone());
                }
            }
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == end => {
                    self.at += 1;
                    self.depth -= 1;
                    return Ok(());
                }
                _ if end == b'}' => return Err(self.wrong("',' or '}' is expected")),
                _ => return Err(self.wrong("',' or ']' is expected")),
            }
        }
        Ok(())
    }

    /// `"name":`
    fn name(&mut self) -> Result<Range<usize>, NotJson> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("a name in quotes is expected"));
        }
        let name = self.string()?;
        self.blanks();
        if self.peek() != Some(b':') {
            return Err(self.wrong("':' is expected"));
        }
        self.at += 1;
        Ok(name)
    }

    /// Follows all paths of `states` into a member, and notes those that end there.
    fn descend(&mut self, states: Range<usize>, name: Option<Range<usize>>, index: usize) {
        let above = self.states.len();
        let first_found = self.found.len();
        for at in states {
            let state = self.states[at];
            let steps = &self.paths[state.path].steps;
            let step = &steps[state.step];
            if step.deep {
                self.push(above, state);
            }
            let is_here = match (&step.pick, &name) {
                (Pick::Any, _) => true,
                (Pick::Index(wanted), None) => *wanted == index,
                (Pick::Name(wanted), Some(name)) => self.is_named(name.clone(), wanted),
                _ => false,
            };
            if !is_here {
                continue;
            }
            if state.step + 1 < steps.len() {
                let step = state.step + 1;
                self.push(above, State { step, ..state });
            } else if !self.found[first_found..]
                .iter()
                .any(|found| found.path == state.path)
            {
                self.found.push(Found {
                    path: state.path,
                    value: 0..0,
                    member: 0..0,
                });
            }
        }
    }

    fn push(&mut self, above: usize, state: State) {
        if !self.states[above..].contains(&state) {
            self.states.push(state);
        }
    }

    /// `name` is between its quotes.
    #[inline]
    fn is_named(&self, name: Range<usize>, wanted: &str) -> bool {
        let name = &self.text[name];
        if name == wanted.as_bytes() {
            // A name that is written with escapes has a backslash, which `wanted` then has too.
            return !name.contains(&b'\\');
        }
        name.contains(&b'\\') && super::value::unescape(name) == wanted
    }

    /// Gives where the text between the quotes is.
    #[inline]
    fn string(&mut self) -> Result<Range<usize>, NotJson> {
        self.at += 1;
        let start = self.at;
        loop {
            let Some(byte) = self.peek() else {
                return Err(self.wrong("a text without its end"));
            };
            match byte {
                b'"' => {
                    self.at += 1;
                    return Ok(start..self.at - 1);
                }
                b'\\' => self.escape()?,
                0..0x20 => return Err(self.wrong("a control character in a text")),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let digits = self.text.get(self.at + 2..self.at + 6);
                if digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    self.at += 6;
                    return Ok(());
                }
                Err(self.wrong("\\u without four digits"))
            }
            _ => Err(self.wrong("a backslash before a character that has none")),
        }
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.wrong("a digit is expected")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        match self.at > start {
            true => Ok(()),
            false => Err(self.wrong("a digit is expected")),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), NotJson> {
        if self.text[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.wrong("a value is expected"))
    }
}

#[cfg(test)]
mod tests;
