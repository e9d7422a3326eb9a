//! Sends messages to destinations of the route by topic, headers, key or values of their JSON. The
//! settings are described in `settings.json`, the words of conditions in `docs/shelf.md`.

use shelf_kit::{Condition, OnInvalid, Seen, Settings, Subjects, settings};
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
        let destination = |key: &str, name: &str| {
            config.destination(name).ok_or_else(|| {
                let known = config.destinations.join(", ");
                settings::wrong(key, name, &format!("a destination of the route: {known}"))
            })
        };
        let mut subjects = Subjects::default();
        let mut rules: Vec<Rule> = Vec::new();
        for entry in settings.table("to") {
            // A destination's name may end like an element of a list.
            let name = match config.destination(entry.name) {
                Some(_) => entry.name,
                None => entry.list_name(),
            };
            let destination = destination(entry.key, name)?;
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
        let mut otherwise = Vec::new();
        for (key, name) in settings.texts("otherwise") {
            otherwise.push(destination(key, name)?);
        }
        otherwise.sort();
        otherwise.dedup();
        let first = settings.flag("first")?;
        let on_invalid = OnInvalid::of(&settings)?;
        settings.finish()?;
        if rules.is_empty() {
            return Err(InitError::new(
                "nothing says where messages go: set to.\"queue:NAME\" to a condition, such as \
                 \"$.temp > 30\"",
            ));
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
        let to = match self.subjects.look(message) {
            Ok(seen) => applying(&self.rules, self.first, &seen),
            Err(not_json) => match self.on_invalid {
                OnInvalid::Fate(fate) => return fate.choice(not_json.to_string()),
                OnInvalid::Ignore => {
                    applying(&self.rules, self.first, &self.subjects.look_beside(message))
                }
            },
        };
        match (&to[..], &self.otherwise[..]) {
            ([one], _) | ([], [one]) => Choice::One(*one),
            ([], []) => Choice::Drop(Some("no condition of a destination holds".into())),
            ([], otherwise) => Choice::To(otherwise.to_vec()),
            _ => Choice::To(to),
        }
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
