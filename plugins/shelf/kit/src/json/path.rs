//! JSON paths, as RFC 9535 writes them: names, indexes, `*` and `..`. Without filters, slices, lists
//! of selectors and indexes from the end, which need more than one look at a payload.

/// Where values stand in a payload: `$.a.b`, `$['a b'][0]`, `$.items[*].id`, `$..password`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub(super) steps: Vec<Step>,
}

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// `..`: at any depth below.
    pub deep: bool,
    pub pick: Pick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    Name(String),
    Index(usize),
    Any,
}

/// Steps that a path may have.
const STEPS_MAX: usize = 64;

impl Path {
    /// Reads one that is all of `text`.
    pub fn parse(text: &str) -> Result<Path, String> {
        match Path::split(text)? {
            (path, "") => Ok(path),
            (_, rest) => Err(format!(
                "the path '{text}' goes on with '{rest}', expected .name, ['name'], [0], [*], .* or ..name"
            )),
        }
    }

    /// Reads one that `text` begins with, and gives what comes after it.
    pub fn split(text: &str) -> Result<(Path, &str), String> {
        let Some(mut rest) = text.strip_prefix('$') else {
            return Err(format!(
                "'{text}' is not a path, expected one such as $.a.b"
            ));
        };
        let mut steps = Vec::new();
        loop {
            let (deep, after) = match rest.strip_prefix("..") {
                Some(after) => (true, after),
                None => (false, rest.strip_prefix('.').unwrap_or(rest)),
            };
            let is_dotted = after.len() != rest.len();
            let (pick, after) = if let Some(inner) = after.strip_prefix('[')
                && (deep || !is_dotted)
            {
                bracket(inner, text)?
            } else if is_dotted {
                dotted(after, text)?
            } else {
                return Ok((Path { steps }, rest));
            };
            if steps.len() == STEPS_MAX {
                return Err(format!("the path '{text}' has more than {STEPS_MAX} steps"));
            }
            steps.push(Step { deep, pick });
            rest = after;
        }
    }

    /// Whether it can be of one value only.
    pub fn is_single(&self) -> bool {
        let single = |step: &Step| !step.deep && step.pick != Pick::Any;
        self.steps.iter().all(single)
    }

    /// Whether it is `$`, the payload itself.
    pub fn is_whole(&self) -> bool {
        self.steps.is_empty()
    }

    /// The names of a path that has nothing else, such as `$.a.b`.
    pub fn names(&self) -> Option<Vec<&str>> {
        let steps = self.steps.iter();
        steps
            .map(|step| match &step.pick {
                Pick::Name(name) if !step.deep => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }
}

/// After a dot: `*` or a name.
fn dotted<'t>(after: &'t str, text: &str) -> Result<(Pick, &'t str), String> {
    if let Some(rest) = after.strip_prefix('*') {
        return Ok((Pick::Any, rest));
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let end = after.find(|c| !is_part(c)).unwrap_or(after.len());
    match after.split_at(end) {
        ("", _) => Err(format!(
            "the path '{text}' has no name after a dot; one with other signs is written ['so']"
        )),
        (name, rest) => Ok((Pick::Name(name.to_owned()), rest)),
    }
}

/// After `[`: `*`, an index, or a name in quotes; then `]`.
fn bracket<'t>(inner: &'t str, text: &str) -> Result<(Pick, &'t str), String> {
    let wrong = || {
        format!(
            "the path '{text}' has a bracket that is not ['name'], [0] or [*]; filters, slices, \
             lists and indexes from the end are for jq"
        )
    };
    let (pick, rest) = match inner.chars().next() {
        Some('*') => (Pick::Any, &inner[1..]),
        Some(quote @ ('\'' | '"')) => {
            let (name, rest) = quoted(&inner[1..], quote).ok_or_else(wrong)?;
            (Pick::Name(name), rest)
        }
        Some(c) if c.is_ascii_digit() => {
            let end = inner.find(|c: char| !c.is_ascii_digit());
            let (digits, rest) = inner.split_at(end.ok_or_else(wrong)?);
            (Pick::Index(digits.parse().map_err(|_| wrong())?), rest)
        }
        _ => return Err(wrong()),
    };
    let rest = rest.strip_prefix(']').ok_or_else(wrong)?;
    Ok((pick, rest))
}

/// Text up to the closing quote, in which a backslash takes the next character as it is.
pub(crate) fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            c if c == quote => return Some((name, &text[at + c.len_utf8()..])),
            c => name.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_up_to_their_end() {
        for (text, steps, rest) in [
            ("$", 0, ""),
            ("$.a", 1, ""),
            ("$.a.b[0]['c d'].* > 3", 5, " > 3"),
            ("$..password", 1, ""),
            ("$..['a'][*]", 2, ""),
            ("$['it\\'s']}", 1, "}"),
            ("$.mag_2-x=", 1, "="),
        ] {
            let (path, after) = Path::split(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((path.steps.len(), after), (steps, rest), "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_told() {
        for (text, word) in [
            ("a.b", "is not a path"),
            ("$.", "no name after a dot"),
            ("$.a[-1]", "for jq"),
            ("$.a[?@.b>1]", "for jq"),
            ("$.a['b]", "for jq"),
            ("$.a[1", "for jq"),
            ("$.a b", "goes on with ' b'"),
            ("$a", "goes on with 'a'"),
            ("$.[0]", "no name after a dot"),
            ("$[99999999999999999999999]", "for jq"),
        ] {
            let error = Path::parse(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn names_and_singles() {
        let path = |text: &str| Path::parse(text).expect("a path");
        assert_eq!(path("$.a['b c']").names(), Some(vec!["a", "b c"]));
        assert_eq!(path("$.a[0]").names(), None);
        assert!(path("$.a[0]").is_single());
        assert!(!path("$.a[*]").is_single() && !path("$..a").is_single());
    }
}
