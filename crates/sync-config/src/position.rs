//! Where things stand in a YAML file. Built only once something is wrong: types carry no positions.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// A line and a column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Position {
    /// The start of a file.
    pub(super) const START: Self = Self { line: 1, column: 1 };

    pub(super) fn of(location: Location) -> Self {
        if location == Location::UNKNOWN {
            return Self::START;
        }
        Self { line: location.line(), column: location.column() }
    }
}

/// The places of all keys and values of a file.
#[derive(Debug, Default)]
pub(super) struct Positions {
    root: Option<Node>,
}

impl Positions {
    /// Reads the places; a text that is no YAML has none.
    pub(super) fn of(text: &str) -> Self {
        let mut options = super::yaml_options();
        // A key that stands twice is one of the errors whose place is sought.
        options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::PassThrough;
        Self { root: serde_saphyr::from_str_with_options(text, options).ok() }
    }

    /// The place of a path; of the nearest part above it that stands in the file if it does not itself.
    pub(super) fn find(&self, path: &[&str]) -> Position {
        let mut found = Position::START;
        let mut node = self.root.as_ref();
        for part in path {
            let Some((position, child)) = node.and_then(|node| node.child(part)) else { break };
            found = position;
            node = Some(child);
        }
        found
    }

    /// The path of the last key or item that starts at or before a place: where the parser stopped.
    pub(super) fn path_at(&self, at: Position) -> Vec<String> {
        let mut path = Vec::new();
        let mut node = self.root.as_ref();
        while let Some((name, child)) = node.and_then(|node| node.last_before(at)) {
            path.push(name);
            node = Some(child);
        }
        path
    }

    /// Splits a dotted path at the dots between the keys of the file: keys may hold dots themselves.
    pub(super) fn split<'p>(&self, path: &'p str) -> Vec<&'p str> {
        let mut parts = Vec::new();
        let mut node = self.root.as_ref();
        let mut rest = path;
        loop {
            let ends = rest.match_indices('.').map(|(end, _)| end).chain([rest.len()]);
            let known = ends.rev().find_map(|end| {
                let (name, behind) = rest.split_at_checked(end)?;
                let (_, child) = node?.child(name)?;
                Some((name, behind, child))
            });
            let Some((name, behind, child)) = known else {
                parts.push(rest);
                return parts;
            };
            parts.push(name);
            node = Some(child);
            match behind.strip_prefix('.') {
                Some(behind) => rest = behind,
                None => return parts,
            }
        }
    }

    /// Whether the path ends in a key of a map, and the key stands exactly there.
    pub(super) fn starts_with_key(&self, path: &[String], at: Position) -> bool {
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        let Some((_, above)) = parts.split_last() else { return false };
        let mut node = self.root.as_ref();
        for part in above {
            node = node.and_then(|node| node.child(part)).map(|(_, child)| child);
        }
        matches!(node, Some(Node::Map(_))) && self.find(&parts) == at
    }
}

/// A part of a file. The values of scalars are not kept.
#[derive(Debug)]
enum Node {
    Scalar,
    List(Vec<(Position, Node)>),
    Map(Vec<(String, Position, Node)>),
}

impl Node {
    fn child(&self, part: &str) -> Option<(Position, &Node)> {
        match self {
            Self::Scalar => None,
            Self::List(items) => {
                let index: usize = part.parse().ok()?;
                items.get(index).map(|(position, node)| (*position, node))
            }
            Self::Map(entries) => {
                entries.iter().find(|(name, ..)| name == part).map(|(_, position, node)| (*position, node))
            }
        }
    }

    fn last_before(&self, at: Position) -> Option<(String, &Node)> {
        match self {
            Self::Scalar => None,
            Self::List(items) => {
                let index = items.iter().rposition(|(position, _)| *position <= at)?;
                items.get(index).map(|(_, node)| (index.to_string(), node))
            }
            Self::Map(entries) => {
                let (name, _, node) = entries.iter().rfind(|(_, position, _)| *position <= at)?;
                Some((name.clone(), node))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_str<E>(self, _: &str) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                Node::deserialize(deserializer)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element::<Spanned<Node>>()? {
                    items.push((Position::of(item.referenced), item.value));
                }
                Ok(Node::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some((name, node)) = map.next_entry::<Spanned<String>, Node>()? {
                    entries.push((name.value, Position::of(name.referenced), node));
                }
                Ok(Node::Map(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "attributes:\n  address.city: { as: city }\n  address: { as: x }\nlist: [a, b]\n";

    #[test]
    fn a_dotted_path_is_split_between_keys() {
        let positions = Positions::of(TEXT);
        assert_eq!(positions.split("attributes.address.city.as"), ["attributes", "address.city", "as"]);
        assert_eq!(positions.split("attributes.address.as"), ["attributes", "address", "as"]);
        assert_eq!(
            positions.split("attributes.address.city.protect.mask"),
            ["attributes", "address.city", "protect.mask"]
        );
        assert_eq!(positions.split("nowhere.at.all"), ["nowhere.at.all"]);
    }

    #[test]
    fn what_is_not_there_is_found_where_it_would_be() {
        let positions = Positions::of(TEXT);
        assert_eq!(positions.find(&["attributes", "address.city", "as"]), Position { line: 2, column: 19 });
        assert_eq!(positions.find(&["attributes", "address.city", "type"]), Position { line: 2, column: 3 });
        assert_eq!(positions.find(&["list", "1"]), Position { line: 4, column: 11 });
        assert_eq!(positions.find(&["nowhere"]), Position::START);
        assert_eq!(Positions::of("a: [").find(&["a"]), Position::START);
    }
}
