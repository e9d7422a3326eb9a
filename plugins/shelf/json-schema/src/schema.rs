//! What a schema says, read.

use regex_lite::Regex;
use shelf_kit::json::Number;

/// A schema with all that it refers to. The first of `nodes` is the whole.
#[derive(Debug)]
pub struct Schema {
    pub(crate) nodes: Vec<Node>,
}

/// The number of a node.
pub(crate) type At = usize;

/// One schema: `true` takes everything, `false` nothing.
#[derive(Debug)]
pub(crate) enum Node {
    All,
    Nothing,
    Rules(Box<Rules>),
}

/// The keywords of a schema.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub types: Option<Vec<Type>>,
    /// `enum` and `const`: as canonical texts, and as they are shown.
    /// Sorted.
    pub one_of_values: Vec<(Vec<Vec<u8>>, String)>,
    /// And as they are written.
    pub bounds: Vec<(Bound, Number<'static>, String)>,
    pub counts: Vec<(Count, u64)>,
    pub pattern: Option<Regex>,
    pub unique: bool,
    pub required: Vec<String>,
    pub dependent: Vec<(String, Vec<String>)>,
    /// In the order of their names.
    pub properties: Vec<(String, At)>,
    pub pattern_properties: Vec<(Regex, At)>,
    pub additional: Option<At>,
    pub names: Option<At>,
    pub dependent_schemas: Vec<(String, At)>,
    pub prefix: Vec<At>,
    pub items: Option<At>,
    pub contains: Option<At>,
    pub contains_min: Option<u64>,
    pub contains_max: Option<u64>,
    pub all_of: Vec<At>,
    pub any_of: Vec<At>,
    pub one_of: Vec<At>,
    pub not: Option<At>,
    pub condition: Option<At>,
    pub then: Option<At>,
    pub otherwise: Option<At>,
    pub reference: Option<At>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Null,
    Boolean,
    Number,
    Integer,
    Text,
    Array,
    Object,
}

impl Type {
    pub const WORDS: [(&'static str, Type); 7] = [
        ("null", Type::Null),
        ("boolean", Type::Boolean),
        ("number", Type::Number),
        ("integer", Type::Integer),
        ("string", Type::Text),
        ("array", Type::Array),
        ("object", Type::Object),
    ];

    pub fn word(self) -> &'static str {
        let mut words = Type::WORDS.into_iter();
        words
            .find(|(_, kind)| *kind == self)
            .map_or("", |(word, _)| word)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Minimum,
    Maximum,
    ExclusiveMinimum,
    ExclusiveMaximum,
    MultipleOf,
}

/// What is counted: characters, elements, members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    LengthMin,
    LengthMax,
    ItemsMin,
    ItemsMax,
    PropertiesMin,
    PropertiesMax,
}
