//! Filters as a tree of levels: finds every filter that a topic matches in time that depends on
//! the topic's depth and the number of matches, not on the number of filters.

use hashbrown::HashMap;
use waypost_wire::Filter;

/// Values by filter. A filter may hold several values.
#[derive(Clone, Debug)]
pub struct FilterTrie<T> {
    root: Node<T>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Node<T> {
    children: HashMap<String, Node<T>, foldhash::fast::RandomState>,
    any: Option<Box<Node<T>>>,
    here: Vec<T>,
    rest: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Node {
            children: HashMap::default(),
            any: None,
            here: Vec::new(),
            rest: Vec::new(),
        }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.any.is_none()
            && self.here.is_empty()
            && self.rest.is_empty()
    }
}

impl<T> Default for FilterTrie<T> {
    fn default() -> Self {
        FilterTrie {
            root: Node::default(),
            len: 0,
        }
    }
}

impl<T: PartialEq> FilterTrie<T> {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a value.
    pub fn insert(&mut self, filter: &Filter, value: T) {
        let mut node = &mut self.root;
        self.len += 1;
        for level in filter.levels() {
            node = match level {
                "#" => return node.rest.push(value),
                "+" => node.any.get_or_insert_default(),
                name => node.children.entry_ref(name).or_default(),
            };
        }
        node.here.push(value);
    }

    /// Removes one value that equals `value`; says whether there was one.
    pub fn remove(&mut self, filter: &Filter, value: &T) -> bool {
        let levels: Vec<&str> = filter.levels().collect();
        let removed = remove(&mut self.root, &levels, value);
        self.len -= usize::from(removed);
        removed
    }

    /// Calls `found` with each value whose filter matches.
    pub fn matches<'a>(&'a self, topic: &str, mut found: impl FnMut(&'a T)) {
        let reserved = waypost_wire::topic::is_reserved(topic);
        walk(&self.root, topic, true, reserved, &mut found);
    }
}

fn remove<T: PartialEq>(node: &mut Node<T>, levels: &[&str], value: &T) -> bool {
    let take = |values: &mut Vec<T>| match values.iter().position(|v| v == value) {
        Some(index) => {
            values.remove(index);
            true
        }
        None => false,
    };
    let Some((level, rest)) = levels.split_first() else {
        return take(&mut node.here);
    };
    match *level {
        "#" => take(&mut node.rest),
        "+" => {
            let Some(any) = &mut node.any else {
                return false;
            };
            let removed = remove(any, rest, value);
            if any.is_empty() {
                node.any = None;
            }
            removed
        }
        name => {
            let Some(child) = node.children.get_mut(name) else {
                return false;
            };
            let removed = remove(child, rest, value);
            if child.is_empty() {
                node.children.remove(name);
            }
            removed
        }
    }
}

/// Topics have at most [`waypost_wire::topic::TOPIC_LEVELS_MAX`] levels, which bounds the depth.
fn walk<'a, T>(
    node: &'a Node<T>,
    rest: &str,
    root: bool,
    reserved: bool,
    found: &mut impl FnMut(&'a T),
) {
    let wild = !(root && reserved);
    if wild {
        node.rest.iter().for_each(&mut *found);
    }
    let (level, rest) = match rest.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (rest, None),
    };
    let any = node.any.as_deref().filter(|_| wild);
    for next in node.children.get(level).into_iter().chain(any) {
        match rest {
            Some(rest) => walk(next, rest, false, reserved, found),
            None => {
                next.here.iter().for_each(&mut *found);
                next.rest.iter().for_each(&mut *found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The tree and the plain comparison of every filter agree.
        #[test]
        fn like_matching_each(
            filters in proptest::collection::vec("(\\$?[ab]|\\+|)(/([ab]|\\+|)){0,3}(/#)?", 0..12),
            topics in proptest::collection::vec("\\$?[ab]?(/[ab]?){0,4}", 1..8),
            removed in 0usize..12,
        ) {
            let mut filters: Vec<Filter> = filters.into_iter().filter_map(|f| Filter::new(f).ok()).collect();
            let mut trie = FilterTrie::new();
            filters.iter().enumerate().for_each(|(i, f)| trie.insert(f, i));
            if removed < filters.len() {
                prop_assert!(trie.remove(&filters[removed], &removed));
                prop_assert!(!trie.remove(&filters[removed], &removed));
                filters[removed] = Filter::new("never/matches/this/at/all").unwrap();
            }
            for topic in topics {
                let mut found = Vec::new();
                trie.matches(&topic, |i| found.push(*i));
                found.sort_unstable();
                let want: Vec<usize> = (0..filters.len()).filter(|i| filters[*i].matches(&topic)).collect();
                prop_assert_eq!(found, want, "{} of {:?}", topic, filters);
            }
        }
    }
}
