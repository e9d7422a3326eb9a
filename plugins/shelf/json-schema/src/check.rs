//! A value held against a schema.

use std::fmt;

use shelf_kit::json::{Tree, write};

use crate::canonical;
use crate::schema::{At, Bound, Count, Node, Rules, Schema, Type};

/// Where a value does not fit, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// A JSON pointer.
    pub place: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.place.is_empty() {
            "/"
        } else {
            &self.place
        };
        write!(f, "does not fit the schema at {place}: {}", self.problem)
    }
}

/// Schemas that may be applied inside each other: each takes some hundred bytes of stack.
const DEPTH_MAX: usize = 256;

impl Schema {
    /// Whether a value fits. Of several misfits, the first is told.
    pub fn check(&self, tree: &Tree<'_>) -> Result<(), Misfit> {
        let mut check = Check {
            nodes: &self.nodes,
            place: Vec::new(),
            depth: 0,
        };
        check.node(0, tree)
    }
}

/// A step of the way to the value.
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

struct Check<'a> {
    nodes: &'a [Node],
    place: Vec<Step<'a>>,
    depth: usize,
}

type Checked = Result<(), Misfit>;

impl<'a> Check<'a> {
    fn misfit(&self, problem: impl Into<String>) -> Misfit {
        let mut place = String::new();
        for step in &self.place {
            place.push('/');
            match step {
                Step::Name(name) => place.push_str(&name.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => place.push_str(&index.to_string()),
            }
        }
        Misfit {
            place,
            problem: problem.into(),
        }
    }

    fn node(&mut self, at: At, tree: &'a Tree<'_>) -> Checked {
        let rules = match &self.nodes[at] {
            Node::All => return Ok(()),
            Node::Nothing => return Err(self.misfit("nothing may stand here")),
            Node::Rules(rules) => rules,
        };
        if self.depth == DEPTH_MAX {
            return Err(self.misfit("schemas are applied too deep inside each other"));
        }
        self.depth += 1;
        let checked = self.rules(rules, tree);
        self.depth -= 1;
        checked
    }

    fn at(&mut self, step: Step<'a>, at: At, tree: &'a Tree<'_>) -> Checked {
        self.place.push(step);
        let checked = self.node(at, tree);
        if checked.is_ok() {
            self.place.pop();
        }
        checked
    }

    /// Whether a value fits, where it need not.
    fn fits(&mut self, at: At, tree: &'a Tree<'_>) -> bool {
        let length = self.place.len();
        let depth = self.depth;
        let fits = self.node(at, tree).is_ok();
        self.place.truncate(length);
        self.depth = depth;
        fits
    }

    fn rules(&mut self, rules: &'a Rules, tree: &'a Tree<'_>) -> Checked {
        self.value(rules, tree)?;
        match tree {
            Tree::Number(text) => self.number(rules, text)?,
            Tree::Text(text) => self.text(rules, text)?,
            Tree::Array(elements) => self.array(rules, elements)?,
            Tree::Object(_) => self.object(rules, tree)?,
            Tree::Null | Tree::Boolean(_) => {}
        }
        self.combined(rules, tree)
    }

    fn value(&self, rules: &Rules, tree: &Tree<'_>) -> Checked {
        if let Some(types) = &rules.types
            && !types.iter().any(|kind| is_of(tree, *kind))
        {
            let words: Vec<_> = types.iter().map(|kind| kind.word()).collect();
            let text = format!("{}, expected {}", shown(tree), words.join(" or "));
            return Err(self.misfit(text));
        }
        if let Some((values, words)) = &rules.one_of_values
            && !values.contains(&canonical::text(tree))
        {
            return Err(self.misfit(format!("{}, expected {words}", shown(tree))));
        }
        Ok(())
    }

    fn number(&self, rules: &Rules, text: &str) -> Checked {
        let number: f64 = text.parse().unwrap_or(f64::NAN);
        for (bound, limit) in &rules.bounds {
            let (fits, words) = match bound {
                Bound::Minimum => (number >= *limit, "at least"),
                Bound::Maximum => (number <= *limit, "at most"),
                Bound::ExclusiveMinimum => (number > *limit, "more than"),
                Bound::ExclusiveMaximum => (number < *limit, "less than"),
                Bound::MultipleOf => (is_multiple(number, *limit), "a multiple of"),
            };
            if !fits {
                return Err(self.misfit(format!("{text}, expected {words} {limit}")));
            }
        }
        Ok(())
    }

    fn counted(&self, rules: &Rules, count: usize, which: [Count; 2], what: &str) -> Checked {
        for (kind, limit) in &rules.counts {
            let (fits, words) = match kind {
                kind if *kind == which[0] => (count as u64 >= *limit, "at least"),
                kind if *kind == which[1] => (count as u64 <= *limit, "at most"),
                _ => continue,
            };
            if !fits {
                let text = format!("has {count} {what}, expected {words} {limit}");
                return Err(self.misfit(text));
            }
        }
        Ok(())
    }

    fn text(&self, rules: &Rules, text: &str) -> Checked {
        let which = [Count::LengthMin, Count::LengthMax];
        self.counted(rules, text.chars().count(), which, "characters")?;
        match &rules.pattern {
            Some(pattern) if !pattern.is_match(text) => {
                let found = shown(&Tree::Text(text.into()));
                Err(self.misfit(format!("{found}, expected a match of {pattern}")))
            }
            _ => Ok(()),
        }
    }

    fn array(&mut self, rules: &'a Rules, elements: &'a [Tree<'_>]) -> Checked {
        let which = [Count::ItemsMin, Count::ItemsMax];
        self.counted(rules, elements.len(), which, "elements")?;
        for (index, element) in elements.iter().enumerate() {
            if let Some(at) = rules.prefix.get(index).copied().or(rules.items) {
                self.at(Step::Index(index), at, element)?;
            }
        }
        if rules.unique {
            let mut texts: Vec<_> = elements.iter().map(canonical::text).collect();
            texts.sort();
            if texts.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(self.misfit("has an element twice"));
            }
        }
        let Some(at) = rules.contains else {
            return Ok(());
        };
        let mut count = 0;
        for element in elements {
            count += u64::from(self.fits(at, element));
        }
        let (least, most) = (rules.contains_min.unwrap_or(1), rules.contains_max);
        match count >= least && most.is_none_or(|most| count <= most) {
            true => Ok(()),
            false => {
                let most = most.map_or(String::new(), |most| format!(", at most {most}"));
                let text = format!(
                    "{count} of its elements are such as it must contain, expected at least {least}{most}"
                );
                Err(self.misfit(text))
            }
        }
    }

    fn object(&mut self, rules: &'a Rules, tree: &'a Tree<'_>) -> Checked {
        let Tree::Object(members) = tree else {
            return Ok(());
        };
        let which = [Count::PropertiesMin, Count::PropertiesMax];
        self.counted(rules, members.len(), which, "members")?;
        let has = |name: &String| tree.member(name).is_some();
        if let Some(name) = rules.required.iter().find(|name| !has(name)) {
            return Err(self.misfit(format!("'{name}' is missing")));
        }
        for (name, others) in rules.dependent.iter().filter(|(name, _)| has(name)) {
            if let Some(other) = others.iter().find(|other| !has(other)) {
                return Err(self.misfit(format!("'{other}' is missing beside '{name}'")));
            }
        }
        for (name, value) in members {
            self.member(rules, name, value)?;
        }
        for (_, at) in rules.dependent_schemas.iter().filter(|(name, _)| has(name)) {
            self.node(*at, tree)?;
        }
        Ok(())
    }

    fn member(&mut self, rules: &'a Rules, name: &'a str, value: &'a Tree<'_>) -> Checked {
        if let Some(at) = rules.names {
            let fits = {
                // A name is a value of its own, which does not live as long as the payload.
                let name = Tree::Text(name.into());
                let mut check = Check {
                    nodes: self.nodes,
                    place: Vec::new(),
                    depth: self.depth,
                };
                check.node(at, &name).map_err(|misfit| misfit.problem)
            };
            fits.map_err(|problem| {
                self.misfit(format!("has a name that does not fit: {problem}"))
            })?;
        }
        let mut is_covered = false;
        for (_, at) in rules.properties.iter().filter(|(known, _)| known == name) {
            is_covered = true;
            self.at(Step::Name(name), *at, value)?;
        }
        let patterns = rules.pattern_properties.iter();
        for (_, at) in patterns.filter(|(pattern, _)| pattern.is_match(name)) {
            is_covered = true;
            self.at(Step::Name(name), *at, value)?;
        }
        match rules.additional {
            Some(at) if !is_covered => {
                if matches!(self.nodes[at], Node::Nothing) {
                    return Err(self.misfit(format!("has '{name}', which may not be there")));
                }
                self.at(Step::Name(name), at, value)
            }
            _ => Ok(()),
        }
    }

    fn combined(&mut self, rules: &'a Rules, tree: &'a Tree<'_>) -> Checked {
        for at in rules.reference.iter().chain(&rules.all_of) {
            self.node(*at, tree)?;
        }
        if !rules.any_of.is_empty() && !rules.any_of.iter().any(|at| self.fits(*at, tree)) {
            return Err(self.misfit("fits none of anyOf"));
        }
        if !rules.one_of.is_empty() {
            let fitting = rules
                .one_of
                .iter()
                .filter(|at| self.fits(**at, tree))
                .count();
            if fitting != 1 {
                return Err(self.misfit(format!("fits {fitting} of oneOf, expected one")));
            }
        }
        if let Some(at) = rules.not
            && self.fits(at, tree)
        {
            return Err(self.misfit("is what it must not be"));
        }
        let Some(condition) = rules.condition else {
            return Ok(());
        };
        let branch = match self.fits(condition, tree) {
            true => rules.then,
            false => rules.otherwise,
        };
        branch.map_or(Ok(()), |at| self.node(at, tree))
    }
}

fn is_of(tree: &Tree<'_>, kind: Type) -> bool {
    match (tree, kind) {
        (Tree::Number(text), Type::Integer) => {
            let number: f64 = text.parse().unwrap_or(f64::NAN);
            number.fract() == 0.0
        }
        (tree, kind) => tree.kind() == kind.word(),
    }
}

/// Within what floats of 64 bits can say of it: 0.3 is a multiple of 0.1.
fn is_multiple(number: f64, step: f64) -> bool {
    let quotient = number / step;
    (quotient - quotient.round()).abs() <= quotient.abs() * 4.0 * f64::EPSILON
}

/// A value in a reason: short, or what it is.
fn shown(tree: &Tree<'_>) -> String {
    match tree {
        Tree::Text(text) => write::quoted(&shelf_kit::subject::shortened(text)),
        Tree::Number(text) => shelf_kit::subject::shortened(text).into_owned(),
        Tree::Boolean(value) => value.to_string(),
        other => other.kind().to_owned(),
    }
}
