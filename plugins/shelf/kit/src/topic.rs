//! Filters of topics, and what a topic has to be: MQTT's grammar, as the router has it.

/// `a/+/c`, `a/#`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFilter {
    levels: Vec<String>,
}

impl TopicFilter {
    /// Reads one.
    pub fn parse(text: &str) -> Result<TopicFilter, String> {
        let levels: Vec<_> = text.split('/').map(str::to_owned).collect();
        let last = levels.len() - 1;
        let is_right = |(at, level): (usize, &String)| match level.as_str() {
            "+" => true,
            "#" => at == last,
            level => !level.contains(['+', '#']),
        };
        match !text.is_empty() && levels.iter().enumerate().all(is_right) {
            true => Ok(TopicFilter { levels }),
            false => Err(format!(
                "'{text}' is not a filter of topics, such as a/+/c or a/#"
            )),
        }
    }

    /// `+` is one level, `#` the rest, none included; neither begins a topic with `$`.
    pub fn matches(&self, topic: &str) -> bool {
        let begins_with = self.levels.first().map(String::as_str);
        if topic.starts_with('$') && matches!(begins_with, Some("+" | "#")) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in &self.levels {
            match (wanted.as_str(), levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

/// Why a text is not a topic that a message may have.
pub fn wrong_topic(topic: &str) -> Option<&'static str> {
    match topic {
        "" => Some("it is empty"),
        _ if topic.len() > 1_024 => Some("it is longer than 1,024 bytes"),
        _ if topic.matches('/').count() >= 64 => Some("it has more than 64 levels"),
        _ if topic.starts_with('$') => Some("topics that begin with '$' are the router's own"),
        _ if topic.contains(['+', '#']) => Some("it has a wildcard"),
        _ if topic.contains(|c: char| c.is_ascii_control()) => Some("it has a control character"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let matches =
            |filter: &str, topic| TopicFilter::parse(filter).expect(filter).matches(topic);
        assert!(matches("a/+/c", "a/b/c") && matches("a/#", "a") && matches("#", "a/b"));
        assert!(matches("a//c", "a//c") && matches("$x/#", "$x/y"));
        assert!(!matches("a/+", "a") && !matches("#", "$x") && !matches("+/b", "$x/b"));
        assert!(!matches("a", "a/b") && !matches("a/b", "a"));
        for wrong in ["", "a/#/b", "a+", "a/b#"] {
            assert!(TopicFilter::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn topics() {
        assert_eq!(wrong_topic("a//b"), None);
        let (long, deep) = ("x".repeat(1_025), "/".repeat(64));
        for wrong in ["", "a/+", "$a", "a\nb", &long, &deep] {
            assert!(wrong_topic(wrong).is_some(), "{wrong}");
        }
    }
}
