//! What is checked of a value without looking into it.

use shelf_kit::json::{Number, Tree, write};

use crate::canonical;
use crate::check::{Check, Checked};
use crate::schema::{Bound, Count, Rules, Type};
use crate::stop::{self, Stop};

impl Check<'_> {
    /// Its type, `enum` and `const`.
    pub(crate) fn value(&mut self, rules: &Rules, tree: &Tree<'_>) -> Checked {
        if let Some(types) = &rules.types
            && !is_of(tree, types)?
        {
            return Err(self.misfit(|| {
                let words: Vec<_> = types.iter().map(|kind| kind.word()).collect();
                format!("{}, expected {}", shown(tree), words.join(" or "))
            }));
        }
        for (values, words) in &rules.one_of_values {
            let text = self.canonical(tree)?;
            if values.binary_search(&text).is_err() {
                return Err(self.misfit(|| format!("{}, expected {words}", shown(tree))));
            }
        }
        Ok(())
    }

    pub(crate) fn canonical(&mut self, tree: &Tree<'_>) -> Result<Vec<u8>, Stop> {
        let text = canonical::text(tree).ok_or(stop::EXPONENT)?;
        self.spend(text.len() / BYTES_OF_A_STEP)?;
        Ok(text)
    }

    pub(crate) fn number(&mut self, rules: &Rules, text: &str) -> Checked {
        if rules.bounds.is_empty() {
            return Ok(());
        }
        self.spend(text.len() / BYTES_OF_A_STEP)?;
        let number = Number::parse(text).ok_or(stop::EXPONENT)?;
        for (bound, limit, shown) in &rules.bounds {
            let (fits, words) = match bound {
                Bound::Minimum => (number >= *limit, "at least"),
                Bound::Maximum => (number <= *limit, "at most"),
                Bound::ExclusiveMinimum => (number > *limit, "more than"),
                Bound::ExclusiveMaximum => (number < *limit, "less than"),
                // Reading takes no step that this has no answer for.
                Bound::MultipleOf => (
                    number.is_multiple_of(limit).unwrap_or_default(),
                    "a multiple of",
                ),
            };
            if !fits {
                return Err(self.misfit(|| {
                    let text = shelf_kit::subject::shortened(text);
                    format!("{text}, expected {words} {shown}")
                }));
            }
        }
        Ok(())
    }

    pub(crate) fn counted(
        &self,
        rules: &Rules,
        count: usize,
        [least, most]: [Count; 2],
        what: &str,
    ) -> Checked {
        for (kind, limit) in &rules.counts {
            let (fits, words) = match kind {
                kind if *kind == least => (count as u64 >= *limit, "at least"),
                kind if *kind == most => (count as u64 <= *limit, "at most"),
                _ => continue,
            };
            if !fits {
                return Err(self.misfit(|| format!("has {count} {what}, expected {words} {limit}")));
            }
        }
        Ok(())
    }

    pub(crate) fn text(&mut self, rules: &Rules, text: &str) -> Checked {
        if !rules.counts.is_empty() {
            self.spend(text.len() / BYTES_OF_A_STEP)?;
            let which = [Count::LengthMin, Count::LengthMax];
            self.counted(rules, text.chars().count(), which, "characters")?;
        }
        let Some(pattern) = &rules.pattern else {
            return Ok(());
        };
        self.spend(text.len())?;
        match pattern.is_match(text) {
            true => Ok(()),
            false => Err(self.misfit(|| {
                let found = shown(&Tree::Text(text.into()));
                format!("{found}, expected a match of {pattern}")
            })),
        }
    }
}

/// Bytes that are compared or counted in the time that a step takes.
const BYTES_OF_A_STEP: usize = 16;

fn is_of(tree: &Tree<'_>, types: &[Type]) -> Result<bool, Stop> {
    for kind in types {
        let fits = match (tree, kind) {
            (Tree::Number(text), Type::Integer) => {
                Number::parse(text).ok_or(stop::EXPONENT)?.is_whole()
            }
            (tree, kind) => tree.kind() == kind.word(),
        };
        if fits {
            return Ok(true);
        }
    }
    Ok(false)
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
