//! Sends messages to destinations of the route by topic, headers, key or values of their JSON. The
//! settings are described in `settings.json`, the words of conditions in `docs/shelf.md`.

use shelf_kit::{Condition, OnInvalid, Seen, Settings, Subjects, way};
use waypost_plugin::{Choice, Config, InitError, Interest, Message, Plugin, Route};

struct Switch {
    subjects: Subjects,
    rules: Vec<Rule>,
    /// Only the first rule that applies counts.
    first: bool,
    otherwise: Vec<u32>,
    on_invalid: OnInvalid,
}

/// Where a message goes if all of the conditions hold.
struct Rule {
    destination: u32,
    conditions: Vec<Condition>,
}

impl Plugin for Switch {
    fn init(config: &Config) -> Result<(Switch, Interest), InitError> {
        let settings = Settings::new(config);
        let mut subjects = Subjects::default();
        let mut rules: Vec<Rule> = Vec::new();
        for (destination, entry) in way::ways(&settings)? {
            let condition = Condition::parse(entry.text, &mut subjects)
                .map_err(|error| InitError::of(entry.key, error))?;
            match rules
                .iter_mut()
                .find(|rule| rule.destination == destination)
            {
                Some(rule) => rule.conditions.push(condition),
                None => rules.push(Rule {
                    destination,
                    conditions: vec![condition],
                }),
            }
        }
        let otherwise = way::otherwise(&settings)?;
        let first = settings.flag("first")?;
        let on_invalid = OnInvalid::of(&settings)?;
        settings.finish()?;
        if rules.is_empty() {
            return Err(way::nowhere("a condition, such as \"$.temp > 30\""));
        }
        let interest = subjects.interest();
        let switch = Switch {
            subjects,
            rules,
            first,
            otherwise,
            on_invalid,
        };
        Ok((switch, interest))
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

impl Route for Switch {
    fn route(&mut self, message: &Message<'_>) -> Choice {
        let to = match self.on_invalid.look(&mut self.subjects, message) {
            Ok(seen) => applying(&self.rules, self.first, &seen),
            Err(unread) => return unread.choice(),
        };
        way::choice(to, &self.otherwise, || {
            "no condition of a destination holds".into()
        })
    }
}

fn applying(rules: &[Rule], first: bool, seen: &Seen<'_, '_>) -> Vec<u32> {
    let applies = |rule: &&Rule| {
        rule.conditions
            .iter()
            .all(|condition| condition.holds(seen))
    };
    let limit = if first { 1 } else { usize::MAX };
    let applying = rules.iter().filter(applies).take(limit);
    applying.map(|rule| rule.destination).collect()
}

waypost_plugin::export!(Switch: route, schema);

#[cfg(test)]
mod tests;
