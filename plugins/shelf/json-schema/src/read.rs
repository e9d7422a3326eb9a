//! A schema's text into [`Schema`]. A keyword that is not known is refused, with its place: one that
//! was passed over would be a promise that nobody keeps.

use regex_lite::{Regex, RegexBuilder};
use shelf_kit::json::{Tree, write};

use crate::canonical;
use crate::schema::{At, Bound, Count, Node, Rules, Schema, Type};

/// Keywords that describe and check nothing.
const ANNOTATIONS: [&str; 16] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "contentMediaType",
    "contentEncoding",
    "contentSchema",
];

/// Schemas in a schema, and bytes of a compiled pattern.
const NODES_MAX: usize = 10_000;
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Reads a schema. The error has the place in it, as a JSON pointer.
pub fn schema(text: &str) -> Result<Schema, String> {
    let root = Tree::read(text.as_bytes())
        .map_err(|wrong| format!("it is not JSON: {} at byte {}", wrong.problem, wrong.offset))?;
    let mut reader = Reader {
        root: &root,
        nodes: Vec::new(),
        referred: Vec::new(),
    };
    reader.refer("", "")?;
    // Reading one may refer to more.
    let mut next = 0;
    while next < reader.referred.len() {
        let (pointer, at) = reader.referred[next].clone();
        let tree = find(&root, &pointer).ok_or_else(|| format!("{pointer}: is not there"))?;
        reader.nodes[at] = reader.node(tree, &pointer)?;
        next += 1;
    }
    Ok(Schema {
        nodes: reader.nodes,
    })
}

type Read<T> = Result<T, String>;

struct Reader<'t> {
    root: &'t Tree<'t>,
    nodes: Vec<Node>,
    /// Schemas that something refers to, by their places.
    referred: Vec<(String, At)>,
}

/// What a JSON pointer leads to.
fn find<'t>(root: &'t Tree<'t>, pointer: &str) -> Option<&'t Tree<'t>> {
    let mut tree = root;
    for part in pointer.split('/').skip(1) {
        let name = part.replace("~1", "/").replace("~0", "~");
        tree = match tree {
            Tree::Array(elements) => elements.get(name.parse::<usize>().ok()?)?,
            tree => tree.member(&name)?,
        };
    }
    Some(tree)
}

fn below(place: &str, name: &str) -> String {
    format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"))
}

impl<'t> Reader<'t> {
    fn room(&mut self) -> Read<At> {
        if self.nodes.len() == NODES_MAX {
            return Err(format!("it has more than {NODES_MAX} schemas"));
        }
        self.nodes.push(Node::All);
        Ok(self.nodes.len() - 1)
    }

    /// The schema at a pointer of the document, read once.
    fn refer(&mut self, pointer: &str, place: &str) -> Read<At> {
        if let Some((_, at)) = self.referred.iter().find(|(known, _)| known == pointer) {
            return Ok(*at);
        }
        if find(self.root, pointer).is_none() {
            return Err(format!("{place}: '#{pointer}' leads nowhere"));
        }
        let at = self.room()?;
        self.referred.push((pointer.to_owned(), at));
        Ok(at)
    }

    fn sub(&mut self, tree: &Tree<'_>, place: &str) -> Read<At> {
        let at = self.room()?;
        self.nodes[at] = self.node(tree, place)?;
        Ok(at)
    }

    fn node(&mut self, tree: &Tree<'_>, place: &str) -> Read<Node> {
        match tree {
            Tree::Boolean(true) => Ok(Node::All),
            Tree::Boolean(false) => Ok(Node::Nothing),
            Tree::Object(members) => {
                let mut rules = Rules::default();
                for (keyword, value) in members {
                    let place = below(place, keyword);
                    self.keyword(&mut rules, keyword, value, &place)?;
                }
                Ok(Node::Rules(Box::new(rules)))
            }
            other => Err(expected(place, other, "a schema")),
        }
    }

    fn keyword(
        &mut self,
        rules: &mut Rules,
        keyword: &str,
        value: &Tree<'_>,
        place: &str,
    ) -> Read<()> {
        match keyword {
            "type" => rules.types = Some(types(value, place)?),
            "enum" => {
                let values = elements(value, place)?;
                rules.one_of_values = Some(values_of(values));
            }
            "const" => rules.one_of_values = Some(values_of(std::slice::from_ref(value))),
            "minimum" => rules.bounds.push((Bound::Minimum, number(value, place)?)),
            "maximum" => rules.bounds.push((Bound::Maximum, number(value, place)?)),
            "exclusiveMinimum" => {
                let bound = (Bound::ExclusiveMinimum, number(value, place)?);
                rules.bounds.push(bound);
            }
            "exclusiveMaximum" => {
                let bound = (Bound::ExclusiveMaximum, number(value, place)?);
                rules.bounds.push(bound);
            }
            "multipleOf" => match number(value, place)? {
                step if step > 0.0 => rules.bounds.push((Bound::MultipleOf, step)),
                _ => return Err(expected(place, value, "a number above 0")),
            },
            "minLength" => rules.counts.push((Count::LengthMin, count(value, place)?)),
            "maxLength" => rules.counts.push((Count::LengthMax, count(value, place)?)),
            "minItems" => rules.counts.push((Count::ItemsMin, count(value, place)?)),
            "maxItems" => rules.counts.push((Count::ItemsMax, count(value, place)?)),
            "minProperties" => {
                let least = (Count::PropertiesMin, count(value, place)?);
                rules.counts.push(least);
            }
            "maxProperties" => {
                let most = (Count::PropertiesMax, count(value, place)?);
                rules.counts.push(most);
            }
            "pattern" => rules.pattern = Some(pattern(&text(value, place)?, place)?),
            "uniqueItems" => match value {
                Tree::Boolean(unique) => rules.unique = *unique,
                other => return Err(expected(place, other, "true or false")),
            },
            "required" => rules.required = texts(value, place)?,
            "dependentRequired" => {
                for (name, value) in members(value, place)? {
                    let names = texts(value, &below(place, name))?;
                    rules.dependent.push((name.to_string(), names));
                }
            }
            "minContains" => rules.contains_min = Some(count(value, place)?),
            "maxContains" => rules.contains_max = Some(count(value, place)?),
            "$ref" => {
                let text = text(value, place)?;
                let pointer = text.strip_prefix('#');
                let pointer = pointer.filter(|at| at.is_empty() || at.starts_with('/'));
                let pointer = pointer.ok_or_else(|| {
                    format!("{place}: '{text}' is not in this schema, expected #/…")
                })?;
                rules.reference = Some(self.refer(&unescaped(pointer), place)?);
            }
            _ => return self.applicator(rules, keyword, value, place),
        }
        Ok(())
    }

    /// A keyword with schemas in it.
    fn applicator(
        &mut self,
        rules: &mut Rules,
        keyword: &str,
        value: &Tree<'_>,
        place: &str,
    ) -> Read<()> {
        match keyword {
            "properties" => rules.properties = self.named(value, place)?,
            "dependentSchemas" => rules.dependent_schemas = self.named(value, place)?,
            "patternProperties" => {
                for (text, value) in members(value, place)? {
                    let place = below(place, text);
                    let pattern = pattern(text, &place)?;
                    let at = self.sub(value, &place)?;
                    rules.pattern_properties.push((pattern, at));
                }
            }
            "additionalProperties" => rules.additional = Some(self.sub(value, place)?),
            "propertyNames" => rules.names = Some(self.sub(value, place)?),
            "items" if matches!(value, Tree::Array(_)) => {
                return Err(format!("{place}: a list of schemas is called prefixItems"));
            }
            "items" => rules.items = Some(self.sub(value, place)?),
            "prefixItems" => rules.prefix = self.list(value, place)?,
            "contains" => rules.contains = Some(self.sub(value, place)?),
            "allOf" => rules.all_of = self.list(value, place)?,
            "anyOf" => rules.any_of = self.list(value, place)?,
            "oneOf" => rules.one_of = self.list(value, place)?,
            "not" => rules.not = Some(self.sub(value, place)?),
            "if" => rules.condition = Some(self.sub(value, place)?),
            "then" => rules.then = Some(self.sub(value, place)?),
            "else" => rules.otherwise = Some(self.sub(value, place)?),
            known if ANNOTATIONS.contains(&known) => {}
            _ => return Err(format!("{place}: a keyword that cannot be checked here")),
        }
        Ok(())
    }

    fn named(&mut self, value: &Tree<'_>, place: &str) -> Read<Vec<(String, At)>> {
        let members = members(value, place)?;
        let named = members.iter().map(|(name, value)| {
            let at = self.sub(value, &below(place, name))?;
            Ok((name.to_string(), at))
        });
        named.collect()
    }

    fn list(&mut self, value: &Tree<'_>, place: &str) -> Read<Vec<At>> {
        let elements = elements(value, place)?;
        if elements.is_empty() {
            return Err(expected(place, value, "at least one schema"));
        }
        let all = elements.iter().enumerate();
        all.map(|(index, value)| self.sub(value, &format!("{place}/{index}")))
            .collect()
    }
}

/// `%25` in a reference is `%`.
fn unescaped(pointer: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = pointer.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn expected(place: &str, found: &Tree<'_>, what: &str) -> String {
    let place = if place.is_empty() { "/" } else { place };
    let shown = match found {
        Tree::Number(text) => (*text).to_owned(),
        Tree::Text(text) => write::quoted(text),
        other => other.kind().to_owned(),
    };
    format!("{place}: {shown}, expected {what}")
}

fn members<'v, 't>(
    value: &'v Tree<'t>,
    place: &str,
) -> Read<&'v [(std::borrow::Cow<'t, str>, Tree<'t>)]> {
    match value {
        Tree::Object(members) => Ok(members),
        other => Err(expected(place, other, "an object")),
    }
}

fn elements<'v, 't>(value: &'v Tree<'t>, place: &str) -> Read<&'v [Tree<'t>]> {
    match value {
        Tree::Array(elements) => Ok(elements),
        other => Err(expected(place, other, "a list")),
    }
}

fn text(value: &Tree<'_>, place: &str) -> Read<String> {
    match value {
        Tree::Text(text) => Ok(text.to_string()),
        other => Err(expected(place, other, "a text")),
    }
}

fn texts(value: &Tree<'_>, place: &str) -> Read<Vec<String>> {
    let all = elements(value, place)?.iter();
    all.map(|value| text(value, place)).collect()
}

fn number(value: &Tree<'_>, place: &str) -> Read<f64> {
    match value {
        Tree::Number(text) => text.parse().map_err(|_| expected(place, value, "a number")),
        other => Err(expected(place, other, "a number")),
    }
}

fn count(value: &Tree<'_>, place: &str) -> Read<u64> {
    match number(value, place)? {
        count if count >= 0.0 && count.fract() == 0.0 => Ok(count as u64),
        _ => Err(expected(place, value, "a whole number")),
    }
}

fn types(value: &Tree<'_>, place: &str) -> Read<Vec<Type>> {
    let one = |value: &Tree<'_>| {
        let word = text(value, place)?;
        let known = Type::WORDS.into_iter().find(|(known, _)| *known == word);
        known.map(|(_, kind)| kind).ok_or_else(|| {
            let words = Type::WORDS.map(|(word, _)| word).join(", ");
            expected(place, value, &format!("one of {words}"))
        })
    };
    match value {
        Tree::Array(all) => all.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// Canonical texts, and how they are shown.
fn values_of(values: &[Tree<'_>]) -> (Vec<Vec<u8>>, String) {
    let texts: Vec<_> = values.iter().map(canonical::text).collect();
    let shown: Vec<_> = texts
        .iter()
        .map(|text| String::from_utf8_lossy(text))
        .collect();
    let shown = match &shown[..] {
        [one] => one.clone().into_owned(),
        all => format!("one of {}", all.join(", ")),
    };
    (texts, shown)
}

fn pattern(text: &str, place: &str) -> Read<Regex> {
    RegexBuilder::new(text)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| format!("{place}: the pattern '{text}' cannot be used: {error}"))
}
