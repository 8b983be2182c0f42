//! The shape of a record as a policy sees it: where listed attributes stand and how they are laid out in the event.
//!
//! A scope is one level of arrays: the record itself, or the elements of an array inside it. Walking a record picks
//! the spans of its slots in one pass; laying out writes them in the order of the output tree.

use std::collections::BTreeMap;

use super::path::Step;
use crate::outcome::Reason;
use crate::scan::{self, Kind, Limits, Scanner, Value, name_print, write_string};

/// Bounds inside a record: whoever captured it has checked it, and the scanner still refuses what is not JSON.
pub(super) const INNER: Limits =
    Limits { bytes: 1 << 20, depth: 64, items: 500_000, string: 1 << 20, names: 10_000 };

/// The spans of a scope's slots in one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spans<'a> {
    values: Vec<Option<Value<'a>>>,
    /// The node at which something else than an object stands.
    misshapen: Option<usize>,
}

impl<'a> Spans<'a> {
    /// The value of a slot; none if the record lacks it.
    pub(super) fn get(&self, slot: usize) -> Option<Value<'a>> {
        self.values.get(slot).copied().flatten()
    }

    /// All values, in the order of the slots.
    pub(super) fn values(&self) -> &[Option<Value<'a>>] {
        &self.values
    }
}

/// One level of arrays.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// What to look for, as a tree of names; the first node is the root.
    nodes: Vec<Node>,
    /// What can be found.
    pub(super) slots: Vec<Slot>,
    /// How the event lays it out.
    pub(super) output: Layout,
    /// How the record lays it out.
    pub(super) input: Layout,
}

#[derive(Debug, Clone)]
struct Node {
    name: String,
    path: String,
    children: Children,
    slot: Option<usize>,
}

/// The children of a node by the print of their names: a table at most half full, searched from the place that the
/// print's first bits give.
#[derive(Debug, Clone, Default)]
struct Children {
    table: Vec<Option<(u64, usize)>>,
    count: usize,
}

impl Children {
    fn insert(&mut self, print: u64, child: usize) {
        let mut known: Vec<(u64, usize)> = self.table.iter().flatten().copied().collect();
        known.push((print, child));
        self.count = known.len();
        self.table = vec![None; (2 * self.count).next_power_of_two()];
        for (print, child) in known {
            let free = self.places(print).find(|place| self.table.get(*place).is_some_and(Option::is_none));
            if let Some(place) = free.and_then(|place| self.table.get_mut(place)) {
                *place = Some((print, child));
            }
        }
    }

    fn places(&self, print: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.table.len().wrapping_sub(1);
        let first = print.rotate_left(16) as usize;
        (0..=mask).map(move |step| first.wrapping_add(step) & mask)
    }

    /// The child with this print for which `is_it` holds.
    #[inline]
    fn find(&self, print: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        for place in self.places(print) {
            match self.table.get(place) {
                Some(Some((known, child))) if *known == print && is_it(*child) => return Some(*child),
                Some(Some(_)) => {}
                _ => return None,
            }
        }
        None
    }
}

/// What is picked out of a record.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    /// The value of the attribute with this index.
    Value(usize),
    /// An array; its path, and the scope of its elements.
    Array(String, Box<Scope>),
}

/// Where slots are written.
#[derive(Debug, Clone)]
pub(super) enum Layout {
    /// Members in order, each name as `,"name":`.
    Object(Vec<(String, Layout)>),
    /// A slot of the scope.
    Slot(usize),
    /// The computed attribute with this index.
    Computed(usize),
    /// An attribute that a look-up fills in later.
    Later,
}

/// An attribute to place: its index and its paths in the record and in the event.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) attribute: usize,
    pub(super) path: String,
    pub(super) input: Vec<Step>,
    pub(super) output: Vec<Step>,
}

/// A conflict between listed attributes: (path, message).
pub(super) type Conflict = (String, String);

impl Scope {
    /// Builds the scope of these attributes; `prefix` is the path of the array whose elements they stand in.
    pub(super) fn build(entries: Vec<Entry>, prefix: &str) -> Result<Self, Conflict> {
        let root =
            Node { name: String::new(), path: prefix.to_owned(), children: Children::default(), slot: None };
        let mut scope = Self {
            nodes: vec![root],
            slots: Vec::new(),
            output: Layout::Object(Vec::new()),
            input: Layout::Object(Vec::new()),
        };
        let mut arrays: BTreeMap<Vec<Step>, (Vec<Step>, Vec<Entry>)> = BTreeMap::new();
        for entry in entries {
            let each = |steps: &[Step]| steps.iter().position(|step| *step == Step::Each);
            match (each(&entry.input), each(&entry.output)) {
                (None, None) => {
                    let slot = scope.add_slot(Slot::Value(entry.attribute));
                    scope.place(slot, &entry.input, &entry.output, &entry.path)?;
                }
                (Some(at), Some(out_at)) => {
                    let (head, tail) = entry.input.split_at(at);
                    let (out_head, out_tail) = entry.output.split_at(out_at);
                    let (known, inner) =
                        arrays.entry(head.to_vec()).or_insert_with(|| (out_head.to_vec(), Vec::new()));
                    if known != out_head {
                        let message = "the attributes of one array must stay in one array; give each the same `as` up to `[]`";
                        return Err((entry.path, message.to_owned()));
                    }
                    let rest = |steps: &[Step]| steps.iter().skip(1).cloned().collect();
                    inner.push(Entry { input: rest(tail), output: rest(out_tail), ..entry });
                }
                _ => return Err((entry.path, "`as` must have `[]` where the path has it".to_owned())),
            }
        }
        for (input, (output, inner)) in arrays {
            let path = join(prefix, &input);
            let elements = Self::build(inner, &format!("{path}[]"))?;
            let slot = scope.add_slot(Slot::Array(path.clone(), Box::new(elements)));
            scope.place(slot, &input, &output, &path)?;
        }
        Ok(scope)
    }

    /// Adds something to the event that does not stand in the record.
    pub(super) fn add_output(&mut self, layout: Layout, output: &[Step], path: &str) -> Result<(), Conflict> {
        insert(&mut self.output, output, layout).map_err(|message| (path.to_owned(), message))
    }

    /// Picks the slots of the next value of the scanner. A record of another shape is read to its end all the same;
    /// [`Scope::check`] tells.
    pub(super) fn walk<'a>(&self, scanner: &mut Scanner<'a>) -> scan::Result<Spans<'a>> {
        let mut spans = Spans { values: vec![None; self.slots.len()], misshapen: None };
        self.walk_node(scanner, 0, &mut spans)?;
        Ok(spans)
    }

    /// Picks the slots of a record.
    pub(super) fn pick<'a>(&self, record: &'a str) -> Result<Spans<'a>, WalkError> {
        let mut scanner = Scanner::new(record, &INNER)?;
        let spans = self.walk(&mut scanner)?;
        scanner.end()?;
        self.check(&spans)?;
        Ok(spans)
    }

    /// Whether the record had the shape of the scope.
    pub(super) fn check(&self, spans: &Spans<'_>) -> Result<(), WalkError> {
        match spans.misshapen.and_then(|node| self.nodes.get(node)) {
            Some(node) => Err(WalkError::Shape(node.path.clone())),
            None => Ok(()),
        }
    }

    fn walk_node<'a>(&self, scanner: &mut Scanner<'a>, at: usize, spans: &mut Spans<'a>) -> scan::Result<()> {
        let Some(node) = self.nodes.get(at) else { return Ok(()) };
        if let Some(span) = node.slot.and_then(|slot| spans.values.get_mut(slot)) {
            *span = Some(scanner.value()?);
            return Ok(());
        }
        if scanner.peek()? == Kind::Object {
            return scanner.members(|scanner, name, print| {
                let is_named = |child: usize| self.nodes.get(child).is_some_and(|node| node.name == *name);
                match node.children.find(print, is_named) {
                    Some(child) => self.walk_node(scanner, child, spans),
                    None => scanner.value().map(|_| ()),
                }
            });
        }
        if !scanner.value()?.is_null() {
            spans.misshapen = spans.misshapen.or(Some(at));
        }
        Ok(())
    }

    fn add_slot(&mut self, slot: Slot) -> usize {
        self.slots.push(slot);
        self.slots.len() - 1
    }

    fn place(&mut self, slot: usize, input: &[Step], output: &[Step], path: &str) -> Result<(), Conflict> {
        let conflict = |message: String| (path.to_owned(), message);
        let mut at = 0;
        for step in input {
            at = self.child(at, step).map_err(conflict)?;
        }
        match self.nodes.get_mut(at) {
            Some(node) if node.slot.is_none() && node.children.count == 0 => node.slot = Some(slot),
            _ => return Err(conflict(listed_inside())),
        }
        insert(&mut self.output, output, Layout::Slot(slot)).map_err(conflict)?;
        insert(&mut self.input, input, Layout::Slot(slot)).map_err(conflict)
    }

    /// The child of a node for a step, made if it is not there.
    fn child(&mut self, at: usize, step: &Step) -> Result<usize, String> {
        let Step::Member(name) = step else { return Err("`[]` must stand behind a name".to_owned()) };
        let next = self.nodes.len();
        let Some(node) = self.nodes.get(at) else { return Ok(at) };
        if node.slot.is_some() {
            return Err(listed_inside());
        }
        let path = if node.path.is_empty() { name.clone() } else { format!("{}.{name}", node.path) };
        let print = name_print(name.as_bytes());
        let known =
            node.children.find(print, |child| self.nodes.get(child).is_some_and(|node| node.name == *name));
        if let Some(child) = known {
            return Ok(child);
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.children.insert(print, next);
        }
        self.nodes.push(Node { name: name.clone(), path, children: Children::default(), slot: None });
        Ok(next)
    }
}

fn listed_inside() -> String {
    "an attribute and another one inside it are both listed; list the inner ones only, or the outer as `type: json`".to_owned()
}

fn insert(layout: &mut Layout, steps: &[Step], leaf: Layout) -> Result<(), String> {
    let taken = || "two attributes have the same place in the event; give one another `as`".to_owned();
    match (steps, layout) {
        ([], place @ Layout::Object(_)) => {
            if matches!(place, Layout::Object(members) if !members.is_empty()) {
                return Err(taken());
            }
            *place = leaf;
            Ok(())
        }
        ([Step::Member(name), rest @ ..], Layout::Object(members)) => {
            let mut quoted = String::from(",");
            write_string(&mut quoted, name);
            quoted.push(':');
            match members.iter_mut().find(|(known, _)| *known == quoted) {
                Some((_, inner)) => insert(inner, rest, leaf),
                None => {
                    let mut inner = Layout::Object(Vec::new());
                    insert(&mut inner, rest, leaf)?;
                    members.push((quoted, inner));
                    Ok(())
                }
            }
        }
        _ => Err(taken()),
    }
}

/// Writes the name of a member, given as `,"name":`; the first one opens the object.
#[inline]
pub(super) fn open_member(out: &mut String, name: &str, first: bool) {
    if first {
        out.push('{');
        out.push_str(name.strip_prefix(',').unwrap_or(name));
    } else {
        out.push_str(name);
    }
}

fn join(prefix: &str, steps: &[Step]) -> String {
    let mut path = prefix.to_owned();
    for step in steps {
        match step {
            Step::Member(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Step::Each => path.push_str("[]"),
        }
    }
    path
}

/// Why a record could not be walked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WalkError {
    /// It is not JSON.
    Scan(scan::Error),
    /// Something else than an object stands at this path.
    Shape(String),
}

impl From<scan::Error> for WalkError {
    fn from(error: scan::Error) -> Self {
        Self::Scan(error)
    }
}

impl From<WalkError> for Reason {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Scan(error) => Reason::new("not_json", format!("byte {}", error.offset)),
            WalkError::Shape(path) => Reason::new("type_mismatch", path),
        }
    }
}
