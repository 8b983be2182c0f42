//! What differs between two records, compared in clear before protection.

use super::CompiledPolicy;
use super::scope::{INNER, Scope, Slot, Spans, WalkError};
use crate::config::Missing;
use crate::outcome::Reason;
use crate::scan::{Kind, Scanner, Value};

impl CompiledPolicy {
    /// Adds the attributes of a scope whose values differ, by index. An attribute inside an array may come more than once.
    pub(super) fn differing(
        &self,
        scope: &Scope,
        before: &Spans<'_>,
        after: &Spans<'_>,
        found: &mut Vec<usize>,
    ) -> Result<(), Reason> {
        let pairs = before.values().iter().zip(after.values());
        for (slot, (before, after)) in scope.slots.iter().zip(pairs) {
            match slot {
                Slot::Value(index) if !self.same(*before, *after) => found.push(*index),
                Slot::Array(path, elements) if !self.same(*before, *after) => {
                    let [before, after] = [items(path, elements, *before)?, items(path, elements, *after)?];
                    match (before, after) {
                        (Some(before), Some(after)) if before.len() == after.len() => {
                            for (before, after) in before.iter().zip(&after) {
                                self.differing(elements, before, after, found)?;
                            }
                        }
                        _ => attributes_below(elements, found),
                    }
                }
                Slot::Value(_) | Slot::Array(..) => {}
            }
        }
        Ok(())
    }

    /// Whether two values are the same to whoever reads the event.
    pub(super) fn same(&self, before: Option<Value<'_>>, after: Option<Value<'_>>) -> bool {
        let [before, after] = [before, after].map(|value| match self.missing {
            Missing::Keep => value,
            Missing::Null | Missing::Refuse => Some(value.unwrap_or(Value::NULL)),
        });
        match (before, after) {
            (Some(before), Some(after)) if before.raw != after.raw => {
                before.kind == Kind::String && after.kind == Kind::String && before.text() == after.text()
            }
            (before, after) => before.is_some() == after.is_some(),
        }
    }
}

/// The elements of an array; none where there is no array.
fn items<'a>(
    path: &str,
    elements: &Scope,
    array: Option<Value<'a>>,
) -> Result<Option<Vec<Spans<'a>>>, Reason> {
    let Some(array) = array.filter(|array| !array.is_null()) else { return Ok(None) };
    if array.kind != Kind::Array {
        return Err(Reason::new("type_mismatch", path));
    }
    let mut items = Vec::new();
    let mut scanner = Scanner::new(array.raw, &INNER).map_err(WalkError::from)?;
    scanner.array(|scanner, _| {
        let spans = elements.walk(scanner)?;
        elements.check(&spans)?;
        items.push(spans);
        Ok::<_, WalkError>(())
    })?;
    Ok(Some(items))
}

fn attributes_below(scope: &Scope, found: &mut Vec<usize>) {
    for slot in &scope.slots {
        match slot {
            Slot::Value(index) => found.push(*index),
            Slot::Array(_, elements) => attributes_below(elements, found),
        }
    }
}
