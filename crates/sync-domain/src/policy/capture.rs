//! What capture needs of a policy: which attributes to take along, what tells a record, how large its event may get.

use super::apply::{View, fits, value_of};
use super::compute::plain_text;
use super::scope::{INNER, Layout, Scope, Slot, Spans, WalkError, open_member};
use super::{Attribute, CompiledPolicy, Rule};
use crate::change::Change;
use crate::config::Type;
use crate::event::listed_size;
use crate::id::push_part;
use crate::outcome::Reason;
use crate::protect;
use crate::scan::{Kind, Scanner, Value, escape_for_queue, write_string};

/// A record in which the listed attributes have been found: it is read once, however much is asked of it.
pub struct Picked<'a> {
    policy: &'a CompiledPolicy,
    length: usize,
    spans: Spans<'a>,
}

impl Picked<'_> {
    /// The record with listed attributes only, each value as it was written, everything in its own place.
    pub fn project(&self) -> Result<String, Reason> {
        let scope = &self.policy.record;
        let mut out = String::with_capacity(self.length);
        if !write_listed(scope, &scope.input, &self.spans, &mut out)? {
            out.push_str("{}");
        }
        Ok(out)
    }

    /// The key that stands inside the record, as an object; refused if a key attribute is missing there.
    pub fn key(&self) -> Result<String, Reason> {
        let mut out = String::from("{");
        for (attribute, value) in self.key_values() {
            let value = value.ok_or_else(|| Reason::new("key_missing_in_record", attribute.path.as_str()))?;
            if out.len() > 1 {
                out.push(',');
            }
            write_string(&mut out, &attribute.path);
            out.push(':');
            out.push_str(value.raw);
        }
        out.push('}');
        Ok(out)
    }

    /// Whether the record has the key with this canonical form (see [`CompiledPolicy::canonical_key`]).
    pub fn has_key(&self, canonical: &[u8]) -> bool {
        let mut own = Vec::with_capacity(canonical.len());
        for (attribute, value) in self.key_values() {
            let Some(value) = value else { return false };
            push_part(&mut own, attribute.path.as_bytes());
            push_canonical(&mut own, value);
        }
        own == canonical
    }

    fn key_values(&self) -> impl Iterator<Item = (&Attribute, Option<Value<'_>>)> {
        let attributes = self.policy.key.iter().filter_map(|index| self.policy.attributes.get(*index));
        attributes.map(|attribute| (attribute, self.value(attribute)))
    }

    fn value(&self, attribute: &Attribute) -> Option<Value<'_>> {
        self.spans.get(attribute.slot?)
    }
}

impl CompiledPolicy {
    /// Finds the listed attributes of a record.
    pub fn pick<'a>(&'a self, record: &'a str) -> Result<Picked<'a>, Reason> {
        Ok(Picked { policy: self, length: record.len(), spans: self.record.pick(record)? })
    }

    /// Whether a listed attribute stands under this name at the top of a record.
    pub fn lists(&self, name: &str) -> bool {
        let read = self.attributes.iter().filter(|attribute| attribute.recipe.is_none() && !attribute.later);
        let mut rests = read.filter_map(|attribute| attribute.path.strip_prefix(name));
        rests.any(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    /// The canonical form of a key, from which the record id is made: for each key attribute its name, a tag of its type
    /// and its text. The key must have exactly the model's key attributes; each value is a string, an integer or a
    /// boolean and has the declared type.
    pub fn canonical_key(&self, key: &str) -> Result<Vec<u8>, Reason> {
        let values = key_members(self, key)?;
        let mut canonical = Vec::with_capacity(key.len() + 16);
        for (index, value) in self.key.iter().zip(values) {
            let Some(attribute) = self.attributes.get(*index) else { continue };
            push_part(&mut canonical, attribute.path.as_bytes());
            push_canonical(&mut canonical, value);
        }
        Ok(canonical)
    }

    /// The key that stands inside a record, as an object; refused if a key attribute is missing there.
    pub fn key_of(&self, record: &str) -> Result<String, Reason> {
        self.pick(record)?.key()
    }

    /// The canonical form of the person whose data a change has; none if the model names none or the record lacks it.
    pub fn subject(
        &self,
        key: &str,
        before: Option<&Picked<'_>>,
        after: Option<&Picked<'_>>,
    ) -> Option<Vec<u8>> {
        let attribute = self.attributes.get(self.subject?)?;
        let of_record = |record: Option<&Picked<'_>>| {
            let value = record?.value(attribute)?;
            (!value.is_null()).then(|| canonical(value))
        };
        let of_key = || {
            let values = key_members(self, key).ok()?;
            let at = self.key.iter().position(|index| Some(*index) == self.subject)?;
            values.get(at).copied().map(canonical)
        };
        of_record(after).or_else(|| of_record(before)).or_else(of_key)
    }

    /// An upper bound of the bytes of the change's event, so that capture can refuse what SNS would not take. What the
    /// change's records hold beyond the listed attributes weighs nothing.
    pub fn size_bound(
        &self,
        change: &Change<'_>,
        before: Option<&Picked<'_>>,
        after: Option<&Picked<'_>>,
    ) -> usize {
        let before = before.map(|picked| &picked.spans);
        let record =
            |spans: Option<&Spans<'_>>, before| spans.map_or(4, |spans| self.record_bound(spans, before));
        let records = record(after.map(|picked| &picked.spans), before)
            + if self.before { record(before, None) } else { 0 };
        let texts = [Some(&change.occurred_at), Some(&change.origin), Some(&change.traceparent)];
        let texts = texts.into_iter().chain([
            change.subject_key_id.as_ref(),
            change.run.as_ref(),
            change.only.as_ref(),
            change.only.as_ref(),
        ]);
        let texts = texts.flatten().map(|text| listed_size(text)).sum::<usize>();
        // 768: the fixed texts of the envelope, its hashes and version, and the message attributes.
        768 + 2 * change.source.len()
            + 4 * change.model.len()
            + self.fixed_size
            + texts
            + length(change.key)
            + records
    }

    /// What the policy itself adds to the bound, whatever the change: its version, and the names in key and lists.
    pub(super) fn fixed_size(&self) -> usize {
        let names = self.attributes.iter().map(|attribute| 2 * listed_size(&attribute.output)).sum::<usize>();
        let key = |index: &usize| {
            self.attributes.get(*index).map_or(0, |attribute| listed_size(&attribute.output) + 64)
        };
        self.version.len() + names + self.key.iter().map(key).sum::<usize>()
    }

    fn record_bound(&self, spans: &Spans<'_>, before: Option<&Spans<'_>>) -> usize {
        let view = View { policy: self, spans, before };
        let made = |(index, attribute): (usize, &Attribute)| match &attribute.recipe {
            Some(recipe) => {
                value_of(&recipe.compute(&view)).map_or(0, |value| self.value_bound(index, Some(value)))
            }
            None if attribute.later => 4,
            None => 0,
        };
        let made = self.attributes.iter().enumerate().map(made).sum::<usize>();
        2 + layout_names(&self.record.output) + self.bound_of(&self.record, spans) + made
    }

    fn bound_of(&self, scope: &Scope, spans: &Spans<'_>) -> usize {
        let slot = |(slot, span): (&Slot, &Option<Value<'_>>)| match (slot, span) {
            (Slot::Value(index), span) => self.value_bound(*index, *span),
            (Slot::Array(_, elements), Some(array)) if array.kind == Kind::Array => {
                self.array_bound(elements, array.raw)
            }
            (Slot::Array(..), span) => span.map_or(4, |value| value.raw.len()),
        };
        scope.slots.iter().zip(spans.values()).map(slot).sum()
    }

    fn array_bound(&self, elements: &Scope, array: &str) -> usize {
        // Braces and a comma.
        let names = 3 + layout_names(&elements.output);
        let mut bound = 2;
        let walked = Scanner::new(array, &INNER).map_err(WalkError::from).and_then(|mut scanner| {
            scanner.array(|scanner, _| {
                let spans = elements.walk(scanner)?;
                elements.check(&spans)?;
                bound += names + self.bound_of(elements, &spans);
                Ok::<_, WalkError>(())
            })
        });
        if walked.is_err() { array.len() } else { bound }
    }

    fn value_bound(&self, index: usize, value: Option<Value<'_>>) -> usize {
        let Some(value) = value.filter(|value| !value.is_null()) else { return 4 };
        match self.attributes.get(index).map(|attribute| &attribute.rule) {
            Some(Rule::Encrypt) => 30 + (length(value.raw) + 28).div_ceil(3) * 4 + 44,
            Some(Rule::Tokenize) => 64,
            Some(Rule::Mask(mask)) => {
                let mut masked = String::new();
                write_string(&mut masked, &protect::mask(&plain_text(value), mask));
                masked.len()
            }
            Some(Rule::Redact) => 4,
            Some(Rule::Clear) | None => length(value.raw),
        }
    }
}

/// The bytes of a text behind [`crate::scan::escape_for_queue`].
fn length(raw: &str) -> usize {
    escape_for_queue(raw).len()
}

fn layout_names(layout: &Layout) -> usize {
    match layout {
        Layout::Object(members) => {
            members.iter().map(|(name, inner)| name.len() + 2 + layout_names(inner)).sum()
        }
        _ => 0,
    }
}

/// The values of the key's attributes, in the model's order.
pub(super) fn key_members<'a>(policy: &CompiledPolicy, key: &'a str) -> Result<Vec<Value<'a>>, Reason> {
    let attribute = |index: &usize| policy.attributes.get(*index);
    let mut values: Vec<Option<Value<'a>>> = vec![None; policy.key.len()];
    let mut unknown = false;
    let scanned = Scanner::new(key, &INNER).and_then(|mut scanner| {
        scanner.object(|scanner, name| {
            let value = scanner.value()?;
            let named = |(index, _): &(&usize, &mut Option<Value<'a>>)| {
                attribute(index).is_some_and(|a| a.path == *name)
            };
            match policy.key.iter().zip(&mut values).find(named) {
                Some((_, place)) => *place = Some(value),
                None => unknown = true,
            }
            Ok::<_, crate::scan::Error>(())
        })?;
        scanner.end()
    });
    scanned.map_err(|_| Reason::new("key_not_object", "key"))?;
    if unknown {
        return Err(Reason::new("key_attributes", "key"));
    }
    let check = |(index, value): (&usize, Option<Value<'a>>)| {
        let path = attribute(index).map_or("key", |a| a.path.as_str());
        let value = value.ok_or_else(|| Reason::new("key_attributes", path))?;
        let integer = || value.kind == Kind::Number && fits(value, Some(Type::Integer)) && value.raw != "-0";
        let scalar = matches!(value.kind, Kind::String | Kind::Boolean) || integer();
        if scalar && fits(value, attribute(index).and_then(|a| a.kind)) {
            Ok(value)
        } else {
            Err(Reason::new("key_value", path))
        }
    };
    policy.key.iter().zip(values).map(check).collect()
}

fn canonical(value: Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    push_canonical(&mut out, value);
    out
}

/// A tag of the type and the text, so that `"42"` and `42` differ and `"a"` and `"\u0061"` do not.
fn push_canonical(out: &mut Vec<u8>, value: Value<'_>) {
    match value.kind {
        Kind::String => {
            out.push(b's');
            push_part(out, value.text().unwrap_or_default().as_bytes());
        }
        Kind::Number => {
            out.push(b'n');
            push_part(out, value.raw.as_bytes());
        }
        _ => {
            out.push(b'b');
            push_part(out, value.raw.as_bytes());
        }
    }
}

/// Writes the listed attributes as they stand in the record; false if there are none.
fn write_listed(scope: &Scope, layout: &Layout, spans: &Spans<'_>, out: &mut String) -> Result<bool, Reason> {
    match layout {
        Layout::Object(members) => {
            let start = out.len();
            for (name, inner) in members {
                let undo = out.len();
                open_member(out, name, undo == start);
                if !write_listed(scope, inner, spans, out)? {
                    out.truncate(undo);
                }
            }
            if out.len() == start {
                return Ok(false);
            }
            out.push('}');
            Ok(true)
        }
        Layout::Slot(slot) => {
            let value = spans.get(*slot);
            scope.slots.get(*slot).map_or(Ok(false), |slot| write_slot(slot, value, out))
        }
        Layout::Computed(_) | Layout::Later => Ok(false),
    }
}

fn write_slot(slot: &Slot, value: Option<Value<'_>>, out: &mut String) -> Result<bool, Reason> {
    match (slot, value) {
        (_, None) => Ok(false),
        (Slot::Array(_, elements), Some(array)) if array.kind == Kind::Array => {
            let mut scanner = Scanner::new(array.raw, &INNER).map_err(WalkError::from)?;
            out.push('[');
            scanner.array(|scanner, at| {
                if at > 0 {
                    out.push(',');
                }
                let spans = elements.walk(scanner)?;
                elements.check(&spans)?;
                match write_listed(elements, &elements.input, &spans, out) {
                    Ok(true) => Ok(()),
                    Ok(false) => {
                        out.push_str("{}");
                        Ok(())
                    }
                    Err(reason) => Err(WalkError::Shape(reason.place)),
                }
            })?;
            out.push(']');
            Ok(true)
        }
        (Slot::Array(path, _), Some(value)) if !value.is_null() => {
            Err(Reason::new("type_mismatch", path.as_str()))
        }
        (_, Some(value)) => {
            out.push_str(value.raw);
            Ok(true)
        }
    }
}
