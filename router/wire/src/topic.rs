//! Topics and filters, in MQTT's grammar (MQTT 5.0, section 4.7).
//!
//! A topic is a string of levels divided by `/`; a level may be empty. In a filter `+` stands for
//! exactly one level and `#`, only at the end, for the rest including none. Topics that begin with
//! `$` are the router's own: no filter that starts with a wildcard matches them.

/// The longest topic or filter, in bytes.
pub const TOPIC_BYTES_MAX: usize = 1024;
/// The most levels in a topic or filter.
pub const TOPIC_LEVELS_MAX: usize = 64;

/// Why a topic or filter is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// No character at all.
    #[error("is empty")]
    Empty,
    /// Over [`TOPIC_BYTES_MAX`].
    #[error("has {0} bytes, limit {TOPIC_BYTES_MAX}")]
    TooLong(usize),
    /// Over [`TOPIC_LEVELS_MAX`].
    #[error("has {0} levels, limit {TOPIC_LEVELS_MAX}")]
    TooDeep(usize),
    /// Not UTF-8.
    #[error("is not UTF-8 at byte {0}")]
    NotUtf8(usize),
    /// A control character, which no terminal or log would show as it is.
    #[error("has the control character {character:#04x} at byte {at}")]
    Control {
        /// The character.
        character: u32,
        /// Where it stands.
        at: usize,
    },
    /// `+` or `#` in a topic.
    #[error("has the wildcard '{character}' at byte {at}, which only a filter may have")]
    Wildcard {
        /// `+` or `#`.
        character: char,
        /// Where it stands.
        at: usize,
    },
    /// `+` beside other characters of a level, or `#` elsewhere than alone at the end.
    #[error("has '{character}' at byte {at}: '+' must fill a level and '#' must fill the last")]
    MisplacedWildcard {
        /// `+` or `#`.
        character: char,
        /// Where it stands.
        at: usize,
    },
}

/// Checks the bytes of a topic; gives it as a string.
pub fn parse_topic(bytes: &[u8]) -> Result<&str, TopicError> {
    let topic = parse_common(bytes)?;
    match topic.bytes().position(|b| b == b'+' || b == b'#') {
        Some(at) => Err(TopicError::Wildcard {
            character: topic.as_bytes()[at] as char,
            at,
        }),
        None => Ok(topic),
    }
}

fn parse_common(bytes: &[u8]) -> Result<&str, TopicError> {
    if bytes.is_empty() {
        return Err(TopicError::Empty);
    }
    if bytes.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| TopicError::NotUtf8(e.valid_up_to()))?;
    if let Some(at) = bytes.iter().position(|b| *b < 0x20 || *b == 0x7f) {
        return Err(TopicError::Control {
            character: u32::from(bytes[at]),
            at,
        });
    }
    let levels = bytes.iter().filter(|b| **b == b'/').count() + 1;
    if levels > TOPIC_LEVELS_MAX {
        return Err(TopicError::TooDeep(levels));
    }
    Ok(text)
}

/// Whether a topic is the router's own.
pub fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$')
}

/// A checked filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Filter(String);

impl Filter {
    /// Checks `text`.
    pub fn new(text: impl Into<String>) -> Result<Filter, TopicError> {
        let text = text.into();
        parse_common(text.as_bytes())?;
        let mut start = 0;
        for level in text.split('/') {
            let end = start + level.len();
            if let Some(i) = level.find(['+', '#']) {
                let character = level.as_bytes()[i] as char;
                if level.len() != 1 || (character == '#' && end != text.len()) {
                    return Err(TopicError::MisplacedWildcard {
                        character,
                        at: start + i,
                    });
                }
            }
            start = end + 1;
        }
        Ok(Filter(text))
    }

    /// The filter as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels, with `+` and `#` as they stand.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether `topic` matches.
    pub fn matches(&self, topic: &str) -> bool {
        if is_reserved(topic) && !self.0.starts_with('$') {
            return false;
        }
        let mut topic = topic.split('/');
        for level in self.0.split('/') {
            match (level, topic.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (want, Some(have)) if want == have => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }

    /// Whether every topic that `other` matches is matched by this filter too. Used for
    /// permissions: a role that allows this filter allows `other`.
    pub fn covers(&self, other: &Filter) -> bool {
        if other.0.starts_with('$') && !self.0.starts_with('$') {
            return false;
        }
        let mut theirs = other.0.split('/');
        for level in self.0.split('/') {
            match (level, theirs.next()) {
                ("#", _) => return true,
                ("+", Some("#")) => return false,
                ("+", Some(_)) => {}
                (want, Some(have)) if want == have => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Filter {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        Filter::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of MQTT 5.0, sections 4.7.1 and 4.7.2.
    #[test]
    fn mqtt_examples() {
        let cases = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/#", "sport", true),
            ("#", "sport/a", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$sys/x", false),
            ("+/monitor", "$sys/monitor", false),
            ("$sys/#", "$sys/monitor", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
        ];
        for (filter, topic, want) in cases {
            assert_eq!(
                Filter::new(filter).unwrap().matches(topic),
                want,
                "{filter} on {topic}"
            );
        }
    }

    #[test]
    fn bad_filters_and_topics() {
        for bad in [
            "",
            "sport+",
            "sport/tennis#",
            "sport/#/ranking",
            "a/+b",
            "a\u{1}",
        ] {
            assert!(Filter::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            parse_topic(b"a/+/b"),
            Err(TopicError::Wildcard {
                character: '+',
                at: 2
            })
        );
        assert_eq!(parse_topic(&[b'a', 0xff]), Err(TopicError::NotUtf8(1)));
        assert!(matches!(
            parse_topic(&[b'/'; 100]),
            Err(TopicError::TooDeep(101))
        ));
        assert!(matches!(
            parse_topic(&[b'a'; 1025]),
            Err(TopicError::TooLong(1025))
        ));
    }

    #[test]
    fn covering() {
        for (role, asked, want) in [
            ("#", "a/+/c", true),
            ("#", "$sys/#", false),
            ("a/#", "a", true),
            ("a/+", "a/#", false),
            ("a/+/c", "a/b/c", true),
            ("a/b", "a/+", false),
            ("a/+/#", "a/b/#", true),
        ] {
            let (role, asked) = (Filter::new(role).unwrap(), Filter::new(asked).unwrap());
            assert_eq!(role.covers(&asked), want, "{role} covers {asked}");
        }
    }
}
