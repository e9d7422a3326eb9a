//! A value held against a schema.

use shelf_kit::json::Tree;

use crate::schema::{At, Count, Node, Rules, Schema};
use crate::stop::{self, Misfit, Stop};

/// Schemas that may be applied inside each other: three for each level of a payload. Each takes some
/// hundred bytes of both stacks that a guest has, its own and the 256 KiB for its calls; 512 of them
/// fit into both.
const DEPTH_MAX: usize = 3 * shelf_kit::json::DEPTH_MAX;
/// Steps of a check: so many, and a few for each byte of the payload. What a schema does to each
/// value once takes less; what grows with the power of the depth ends here. A step takes about 12 ns:
/// 0.6 ms, and 50 ms for each MiB.
const STEPS: usize = 50_000;
const STEPS_OF_A_BYTE: usize = 4;

impl Schema {
    /// Whether a value fits that is written in so many bytes. Of several misfits, the first is told.
    pub fn check(&self, tree: &Tree<'_>, bytes: usize) -> Result<(), Stop> {
        let mut check = Check {
            nodes: &self.nodes,
            place: Vec::new(),
            depth: 0,
            steps: STEPS.saturating_add(bytes.saturating_mul(STEPS_OF_A_BYTE)),
            quiet: 0,
        };
        check.node(0, tree)
    }
}

/// A step of the way to the value.
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

pub(crate) struct Check<'a> {
    nodes: &'a [Node],
    place: Vec<Step<'a>>,
    depth: usize,
    /// What is left of them.
    steps: usize,
    /// Checks around this one that need no words.
    quiet: usize,
}

pub(crate) type Checked = Result<(), Stop>;

impl<'a> Check<'a> {
    #[cold]
    #[inline(never)]
    pub(crate) fn misfit(&self, problem: impl FnOnce() -> String) -> Stop {
        if self.quiet > 0 {
            return Stop::Misfit(None);
        }
        let mut place = String::new();
        for step in &self.place {
            place.push('/');
            match step {
                Step::Name(name) => place.push_str(&name.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => place.push_str(&index.to_string()),
            }
        }
        let problem = problem();
        Stop::Misfit(Some(Box::new(Misfit { place, problem })))
    }

    pub(crate) fn spend(&mut self, steps: usize) -> Checked {
        self.steps = self.steps.checked_sub(steps).ok_or(stop::STEPS)?;
        Ok(())
    }

    fn node(&mut self, at: At, tree: &'a Tree<'_>) -> Checked {
        self.spend(1)?;
        let rules = match &self.nodes[at] {
            Node::All => return Ok(()),
            Node::Nothing => return Err(self.misfit(|| "nothing may stand here".to_owned())),
            Node::Rules(rules) => rules,
        };
        if self.depth == DEPTH_MAX {
            return Err(stop::DEPTH);
        }
        self.depth += 1;
        self.value(rules, tree)?;
        match tree {
            Tree::Number(text) => self.number(rules, text)?,
            Tree::Text(text) => self.text(rules, text)?,
            Tree::Array(elements) => self.array(rules, elements)?,
            Tree::Object(members) => self.object(rules, tree, members)?,
            Tree::Null | Tree::Boolean(_) => {}
        }
        self.combined(rules, tree)?;
        self.depth -= 1;
        Ok(())
    }

    fn at(&mut self, step: Step<'a>, at: At, tree: &'a Tree<'_>) -> Checked {
        self.place.push(step);
        self.node(at, tree)?;
        self.place.pop();
        Ok(())
    }

    /// Whether a value fits, where it need not.
    fn fits(&mut self, at: At, tree: &'a Tree<'_>) -> Result<bool, Stop> {
        let (length, depth) = (self.place.len(), self.depth);
        self.quiet += 1;
        let checked = self.node(at, tree);
        self.quiet -= 1;
        match checked {
            Ok(()) => Ok(true),
            Err(Stop::Misfit(_)) => {
                self.place.truncate(length);
                self.depth = depth;
                Ok(false)
            }
            Err(unchecked) => Err(unchecked),
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
            self.unique(elements)?;
        }
        let Some(at) = rules.contains else {
            return Ok(());
        };
        let mut count = 0;
        for element in elements {
            count += u64::from(self.fits(at, element)?);
        }
        let (least, most) = (rules.contains_min.unwrap_or(1), rules.contains_max);
        match count >= least && most.is_none_or(|most| count <= most) {
            true => Ok(()),
            false => Err(self.misfit(|| {
                let most = most.map_or(String::new(), |most| format!(", at most {most}"));
                format!(
                    "{count} of its elements are such as it must contain, expected at least {least}{most}"
                )
            })),
        }
    }

    #[inline(never)]
    fn unique(&mut self, elements: &[Tree<'_>]) -> Checked {
        let mut texts = Vec::with_capacity(elements.len());
        for element in elements {
            texts.push(self.canonical(element)?);
        }
        texts.sort();
        match texts.windows(2).any(|pair| pair[0] == pair[1]) {
            true => Err(self.misfit(|| "has an element twice".to_owned())),
            false => Ok(()),
        }
    }

    fn object(
        &mut self,
        rules: &'a Rules,
        tree: &'a Tree<'_>,
        members: &'a [(std::borrow::Cow<'_, str>, Tree<'_>)],
    ) -> Checked {
        self.names(rules, tree, members.len())?;
        for (name, value) in members {
            self.member(rules, name, value)?;
        }
        for (name, at) in &rules.dependent_schemas {
            if tree.member(name).is_some() {
                self.node(*at, tree)?;
            }
        }
        Ok(())
    }

    /// How many members there are, and which must be there.
    #[inline(never)]
    fn names(&mut self, rules: &Rules, tree: &Tree<'_>, members: usize) -> Checked {
        let which = [Count::PropertiesMin, Count::PropertiesMax];
        self.counted(rules, members, which, "members")?;
        // Each is looked for among all.
        let looks = rules.required.len() + rules.dependent.len() + rules.dependent_schemas.len();
        self.spend(members.saturating_mul(looks) / LOOKS_OF_A_STEP)?;
        let has = |name: &String| tree.member(name).is_some();
        if let Some(name) = rules.required.iter().find(|name| !has(name)) {
            return Err(self.misfit(|| format!("'{name}' is missing")));
        }
        for (name, others) in rules.dependent.iter().filter(|(name, _)| has(name)) {
            self.spend(members.saturating_mul(others.len()) / LOOKS_OF_A_STEP)?;
            if let Some(other) = others.iter().find(|other| !has(other)) {
                return Err(self.misfit(|| format!("'{other}' is missing beside '{name}'")));
            }
        }
        Ok(())
    }

    fn member(&mut self, rules: &'a Rules, name: &'a str, value: &'a Tree<'_>) -> Checked {
        if let Some(at) = rules.names {
            self.name(at, name)?;
        }
        let mut is_covered = false;
        let known = rules
            .properties
            .binary_search_by(|(known, _)| known.as_str().cmp(name));
        if let Ok(index) = known {
            is_covered = true;
            self.at(Step::Name(name), rules.properties[index].1, value)?;
        }
        for (pattern, at) in &rules.pattern_properties {
            self.spend(1 + name.len())?;
            if pattern.is_match(name) {
                is_covered = true;
                self.at(Step::Name(name), *at, value)?;
            }
        }
        match rules.additional {
            Some(at) if !is_covered => {
                if matches!(self.nodes[at], Node::Nothing) {
                    return Err(self.misfit(|| format!("has '{name}', which may not be there")));
                }
                self.at(Step::Name(name), at, value)
            }
            _ => Ok(()),
        }
    }

    /// `propertyNames`
    #[inline(never)]
    fn name(&mut self, at: At, name: &str) -> Checked {
        // A name is a value of its own, which does not live as long as the payload.
        let tree = Tree::Text(name.into());
        let mut check = Check {
            nodes: self.nodes,
            place: Vec::new(),
            depth: self.depth,
            steps: self.steps,
            quiet: self.quiet,
        };
        let checked = check.node(at, &tree);
        self.steps = check.steps;
        match checked {
            Err(Stop::Misfit(Some(misfit))) => {
                Err(self.misfit(|| format!("has a name that does not fit: {}", misfit.problem)))
            }
            other => other,
        }
    }

    fn combined(&mut self, rules: &'a Rules, tree: &'a Tree<'_>) -> Checked {
        for at in rules.reference.iter().chain(&rules.all_of) {
            self.node(*at, tree)?;
        }
        if !rules.any_of.is_empty() && !self.fits_any(&rules.any_of, tree)? {
            return Err(self.misfit(|| "fits none of anyOf".to_owned()));
        }
        if !rules.one_of.is_empty() {
            let mut fitting = 0;
            for at in &rules.one_of {
                fitting += usize::from(self.fits(*at, tree)?);
            }
            if fitting != 1 {
                return Err(self.misfit(|| format!("fits {fitting} of oneOf, expected one")));
            }
        }
        if let Some(at) = rules.not
            && self.fits(at, tree)?
        {
            return Err(self.misfit(|| "is what it must not be".to_owned()));
        }
        let Some(condition) = rules.condition else {
            return Ok(());
        };
        let branch = match self.fits(condition, tree)? {
            true => rules.then,
            false => rules.otherwise,
        };
        branch.map_or(Ok(()), |at| self.node(at, tree))
    }

    fn fits_any(&mut self, all: &[At], tree: &'a Tree<'_>) -> Result<bool, Stop> {
        for at in all {
            if self.fits(*at, tree)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Names that are compared in the time that a step takes.
const LOOKS_OF_A_STEP: usize = 16;
