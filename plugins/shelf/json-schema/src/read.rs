//! A schema's text into [`Schema`]. A keyword that is not known is refused, with its place: one that
//! was passed over would be a promise that nobody keeps.

use shelf_kit::json::Tree;

use crate::parts::{
    Read, bound, count, elements, expected, members, pattern, step, text, texts, types, values_of,
};
use crate::schema::{At, Bound, Count, Node, Rules, Schema};

/// Keywords that describe and check nothing.
const ANNOTATIONS: [&str; 14] = [
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

/// Schemas in a schema.
const NODES_MAX: usize = 10_000;
/// The one dialect that is checked here.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

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
        let found = find(&root, &pointer).ok_or_else(|| format!("{pointer}: is not there"))?;
        reader.nodes[at] = reader.node(found.tree, &pointer)?;
        next += 1;
    }
    Ok(Schema {
        nodes: reader.nodes,
    })
}

struct Reader<'t> {
    root: &'t Tree<'t>,
    nodes: Vec<Node>,
    /// Schemas that something refers to, by their places.
    referred: Vec<(String, At)>,
}

/// What a JSON pointer leads to.
struct Found<'t> {
    tree: &'t Tree<'t>,
    /// On the way, the root left aside, something has an `$id`.
    passes_id: bool,
}

fn find<'t>(root: &'t Tree<'t>, pointer: &str) -> Option<Found<'t>> {
    let mut found = Found {
        tree: root,
        passes_id: false,
    };
    for part in pointer.split('/').skip(1) {
        let name = part.replace("~1", "/").replace("~0", "~");
        found.tree = match found.tree {
            Tree::Array(elements) => elements.get(name.parse::<usize>().ok()?)?,
            tree => tree.member(&name)?,
        };
        found.passes_id |= matches!(found.tree.member("$id"), Some(Tree::Text(_)));
    }
    Some(found)
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
        match find(self.root, pointer) {
            None => return Err(format!("{place}: '#{pointer}' leads nowhere")),
            Some(Found {
                passes_id: true, ..
            }) => {
                return Err(format!(
                    "{place}: '#{pointer}' leads into a schema with an $id of its own"
                ));
            }
            Some(_) => {}
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
            Tree::Object(_) => {
                let mut rules = Box::<Rules>::default();
                for (keyword, value) in members(tree, place)? {
                    let place = below(place, keyword);
                    self.keyword(&mut rules, keyword, value, &place)?;
                }
                rules
                    .properties
                    .sort_by(|(one, _), (other, _)| one.cmp(other));
                Ok(Node::Rules(rules))
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
                rules.one_of_values.push(values_of(values, place)?);
            }
            "const" => {
                let value = values_of(std::slice::from_ref(value), place)?;
                rules.one_of_values.push(value);
            }
            "minimum" => rules.bounds.push(bound(Bound::Minimum, value, place)?),
            "maximum" => rules.bounds.push(bound(Bound::Maximum, value, place)?),
            "exclusiveMinimum" => {
                let more = bound(Bound::ExclusiveMinimum, value, place)?;
                rules.bounds.push(more);
            }
            "exclusiveMaximum" => {
                let less = bound(Bound::ExclusiveMaximum, value, place)?;
                rules.bounds.push(less);
            }
            "multipleOf" => rules.bounds.push(step(value, place)?),
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
            "$schema" => match value {
                Tree::Text(text) if text.trim_end_matches('#') == DIALECT => {}
                other => return Err(expected(place, other, DIALECT)),
            },
            "$id" if place == "/$id" => drop(text(value, place)?),
            "$id" => {
                return Err(format!(
                    "{place}: below the root it changes what references mean, which cannot be \
                     checked here"
                ));
            }
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
