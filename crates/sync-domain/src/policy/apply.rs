//! The policy at work: from a change to the data of its event.

use std::borrow::Cow;

use super::compute::plain_text;
use super::scope::{INNER, Layout, Scope, Slot, Spans, open_member};
use super::{Attribute, CompiledPolicy, Failure, PolicyKeys, Protected, Rule};
use crate::change::{self, Change, Operation};
use crate::config::{Missing, Type};
use crate::event::HEAD_CAPACITY;
use crate::id::RecordId;
use crate::outcome::Reason;
use crate::predicate::Record;
use crate::protect::{self, Nonces};
use crate::scan::{Kind, Limits, Scanner, Value, write_string};

/// A change that has been through the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The data of the event.
    pub protected: Protected,
    /// Whether it goes to the Enrichment queue.
    pub enrichment: Enrichment,
}

/// What `enrich` does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrichment {
    /// The model has no look-up: the event is published at once.
    None,
    /// It passes the Enrichment queue untouched, so that the order of its record holds.
    Pass,
    /// It is looked up.
    LookUp,
}

/// A change whose records have been picked apart by the policy of their model.
#[derive(Debug, Clone)]
pub struct Captured<'a, 'p> {
    /// The change.
    pub change: Change<'a>,
    /// The policy of its model.
    pub policy: &'p CompiledPolicy,
    before: Option<Spans<'a>>,
    after: Option<Spans<'a>>,
}

impl<'a, 'p> Captured<'a, 'p> {
    /// Reads a message body in one pass: the records are picked apart as they are scanned. `find` gives the policy of a
    /// model; without one the change alone comes back.
    pub fn read(
        body: &'a str,
        limits: &Limits,
        find: impl Fn(&str) -> Option<&'p CompiledPolicy>,
    ) -> Result<Result<Self, Change<'a>>, change::Error> {
        let mut policy = None;
        let [mut before, mut after] = [None, None];
        let change = Change::read_with(body, limits, |model, name, scanner| {
            if policy.is_none() {
                policy = find(model);
            }
            let Some(policy) = policy else { return scanner.value().map(|_| ()) };
            let spans = policy.record.walk(scanner)?;
            *(if name == "before" { &mut before } else { &mut after }) = Some(spans);
            Ok(())
        })?;
        // The model may stand behind the records in a body that another hand wrote.
        let Some(policy) = policy.or_else(|| find(&change.model)) else { return Ok(Err(change)) };
        Ok(Ok(Self { before, after, ..Self::without_spans(change, policy) }))
    }

    /// A change read before.
    pub fn of(change: Change<'a>, policy: &'p CompiledPolicy) -> Self {
        Self::without_spans(change, policy)
    }

    fn without_spans(change: Change<'a>, policy: &'p CompiledPolicy) -> Self {
        Self { change, policy, before: None, after: None }
    }

    fn spans<'s>(
        &self,
        record: Option<&'a str>,
        picked: &'s Option<Spans<'a>>,
    ) -> Result<Option<Cow<'s, Spans<'a>>>, Reason> {
        match (record, picked) {
            (None, _) => Ok(None),
            (Some(_), Some(spans)) => {
                self.policy.record.check(spans)?;
                Ok(Some(Cow::Borrowed(spans)))
            }
            (Some(record), None) => Ok(Some(Cow::Owned(self.policy.record.pick(record)?))),
        }
    }

    /// Applies the policy to the change of the record `rid`.
    pub fn apply(
        &self,
        rid: &RecordId,
        keys: &mut PolicyKeys,
        nonces: &mut dyn Nonces,
    ) -> Result<Applied, Failure> {
        let before = self.spans(self.change.before, &self.before)?;
        let after = self.spans(self.change.after, &self.after)?;
        self.policy.apply(&self.change, before.as_deref(), after.as_deref(), rid, keys, nonces)
    }
}

impl CompiledPolicy {
    fn apply(
        &self,
        change: &Change<'_>,
        before: Option<&Spans<'_>>,
        after: Option<&Spans<'_>>,
        rid: &RecordId,
        keys: &mut PolicyKeys,
        nonces: &mut dyn Nonces,
    ) -> Result<Applied, Failure> {
        let records = change.key.len() + change.before.map_or(0, str::len) + change.after.map_or(0, str::len);
        let mut data = String::with_capacity(records + 512 + HEAD_CAPACITY);
        let mut protector = Protector { policy: self, keys, nonces, rid, fingerprints: String::new() };
        data.push_str("{\"key\":");
        protector.write_key(change.key, &mut data)?;
        if self.before {
            data.push_str(",\"before\":");
            protector.write_record(before, None, &mut data)?;
        }
        data.push_str(",\"after\":");
        protector.write_record(after, before, &mut data)?;
        let fingerprints = std::mem::take(&mut protector.fingerprints);
        let changed = match (change.operation, before, after) {
            (Operation::Update, Some(before), Some(after)) => Some(self.changed(before, after)?),
            _ => None,
        };
        write_tail(changed.as_deref(), &fingerprints, &mut data);
        let enrichment = match (&self.enrich, after) {
            (None, _) => Enrichment::None,
            (Some(enriching), Some(after)) => {
                let view = View { policy: self, spans: after, before };
                match enriching.when.as_ref().is_none_or(|when| when.holds(&view)) {
                    true => Enrichment::LookUp,
                    false => Enrichment::Pass,
                }
            }
            (Some(_), None) => Enrichment::Pass,
        };
        let protected =
            Protected { data, changed, schema: self.schema.clone(), policy_version: self.version.clone() };
        Ok(Applied { protected, enrichment })
    }

    /// Only the key, protected: what a ticket may show of a record that is refused. None if it cannot be read.
    pub fn protected_key(
        &self,
        key: &str,
        rid: &RecordId,
        keys: &mut PolicyKeys,
        nonces: &mut dyn Nonces,
    ) -> Option<String> {
        let mut out = String::new();
        let mut protector = Protector { policy: self, keys, nonces, rid, fingerprints: String::new() };
        protector.write_key(key, &mut out).ok().map(|()| out)
    }

    /// The attributes whose clear values differ, by their names in the event.
    fn changed(&self, before: &Spans<'_>, after: &Spans<'_>) -> Result<Vec<String>, Failure> {
        let views = [before, after].map(|spans| View { policy: self, spans, before: None });
        let mut changed = Vec::new();
        self.differing(&self.record, before, after, &mut changed)?;
        for (index, attribute) in self.attributes.iter().enumerate() {
            if let Some(recipe) = &attribute.recipe {
                let [before, after] = &views;
                if recipe.compute(before) != recipe.compute(after) {
                    changed.push(index);
                }
            }
        }
        changed.sort_unstable();
        changed.dedup();
        Ok(changed.iter().filter_map(|index| self.attributes.get(*index)).map(|a| a.output.clone()).collect())
    }
}

/// Writes what follows the records and closes the data.
pub(super) fn write_tail(changed: Option<&[String]>, fingerprints: &str, data: &mut String) {
    data.push_str(",\"changed\":");
    match changed {
        None => data.push_str("null"),
        Some(names) => {
            data.push('[');
            for (at, name) in names.iter().enumerate() {
                if at > 0 {
                    data.push(',');
                }
                write_string(data, name);
            }
            data.push(']');
        }
    }
    data.push_str(",\"fingerprints\":{");
    data.push_str(fingerprints);
    data.push_str("}}");
}

/// A record as predicates and recipes see it.
pub(super) struct View<'r, 'a> {
    pub(super) policy: &'r CompiledPolicy,
    pub(super) spans: &'r Spans<'a>,
    pub(super) before: Option<&'r Spans<'a>>,
}

impl View<'_, '_> {
    fn slot(&self, attribute: usize) -> Option<usize> {
        self.policy.attributes.get(attribute).and_then(|attribute| attribute.slot)
    }
}

impl Record for View<'_, '_> {
    fn value(&self, attribute: usize) -> Value<'_> {
        self.slot(attribute).and_then(|slot| self.spans.get(slot)).unwrap_or(Value::NULL)
    }

    fn changed(&self, attribute: usize) -> Option<bool> {
        let slot = self.slot(attribute)?;
        Some(!self.policy.same(self.before?.get(slot), self.spans.get(slot)))
    }
}

/// Writes records under the rules.
pub(super) struct Protector<'p, 'k> {
    pub(super) policy: &'p CompiledPolicy,
    pub(super) keys: &'k mut PolicyKeys,
    pub(super) nonces: &'k mut dyn Nonces,
    pub(super) rid: &'k RecordId,
    /// Members of the event's `fingerprints`, as JSON.
    pub(super) fingerprints: String,
}

impl Protector<'_, '_> {
    fn write_key(&mut self, key: &str, out: &mut String) -> Result<(), Failure> {
        let policy = self.policy;
        let members = super::capture::key_members(policy, key)?;
        out.push('{');
        for (at, (index, value)) in policy.key.iter().zip(members).enumerate() {
            let Some(attribute) = policy.attributes.get(*index) else { continue };
            if at > 0 {
                out.push(',');
            }
            write_string(out, &attribute.output);
            out.push(':');
            self.write_value(*index, attribute, value, out)?;
        }
        out.push('}');
        Ok(())
    }

    fn write_record(
        &mut self,
        spans: Option<&Spans<'_>>,
        before: Option<&Spans<'_>>,
        out: &mut String,
    ) -> Result<(), Failure> {
        let policy = self.policy;
        match spans {
            Some(spans) => {
                if !self.write_layout(&policy.record, &policy.record.output, spans, before, out)? {
                    out.push_str("{}");
                }
            }
            None => out.push_str("null"),
        }
        Ok(())
    }

    /// Writes a part of the event; false if there was nothing to write.
    fn write_layout(
        &mut self,
        scope: &Scope,
        layout: &Layout,
        spans: &Spans<'_>,
        before: Option<&Spans<'_>>,
        out: &mut String,
    ) -> Result<bool, Failure> {
        match layout {
            Layout::Object(members) => {
                let start = out.len();
                for (name, inner) in members {
                    let undo = out.len();
                    open_member(out, name, undo == start);
                    if !self.write_layout(scope, inner, spans, before, out)? {
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
                match scope.slots.get(*slot) {
                    Some(Slot::Value(index)) => self.write_attribute(*index, value, out),
                    Some(Slot::Array(path, elements)) => self.write_array(path, elements, value, out),
                    None => Ok(false),
                }
            }
            Layout::Computed(index) => {
                let policy = self.policy;
                let Some(attribute) = policy.attributes.get(*index) else { return Ok(false) };
                let Some(recipe) = &attribute.recipe else { return Ok(false) };
                let view = View { policy, spans, before };
                let json = recipe.compute(&view);
                let value = value_of(&json).map_err(Reason::from)?;
                self.write_value(*index, attribute, value, out)?;
                Ok(true)
            }
            Layout::Later => {
                out.push_str("null");
                Ok(true)
            }
        }
    }

    fn write_attribute(
        &mut self,
        index: usize,
        value: Option<Value<'_>>,
        out: &mut String,
    ) -> Result<bool, Failure> {
        let policy = self.policy;
        let Some(attribute) = policy.attributes.get(index) else { return Ok(false) };
        match (value, policy.missing) {
            (Some(value), _) => self.write_value(index, attribute, value, out)?,
            (None, Missing::Keep) => return Ok(false),
            (None, Missing::Null) => out.push_str("null"),
            (None, Missing::Refuse) => {
                return Err(Reason::new("missing_attribute", attribute.path.as_str()).into());
            }
        }
        Ok(true)
    }

    fn write_array(
        &mut self,
        path: &str,
        elements: &Scope,
        value: Option<Value<'_>>,
        out: &mut String,
    ) -> Result<bool, Failure> {
        let array = match (value, self.policy.missing) {
            (Some(value), _) if value.kind == Kind::Array => value.raw,
            (Some(value), _) if value.is_null() => {
                out.push_str("null");
                return Ok(true);
            }
            (Some(_), _) => return Err(Reason::new("type_mismatch", path).into()),
            (None, Missing::Keep) => return Ok(false),
            (None, Missing::Null) => {
                out.push_str("null");
                return Ok(true);
            }
            (None, Missing::Refuse) => return Err(Reason::new("missing_attribute", path).into()),
        };
        let mut scanner =
            Scanner::new(array, &INNER).map_err(super::scope::WalkError::from).map_err(Reason::from)?;
        out.push('[');
        scanner.array(|scanner, at| {
            if at > 0 {
                out.push(',');
            }
            let spans = elements.walk(scanner)?;
            elements.check(&spans).map_err(|error| Failed(Reason::from(error).into()))?;
            if !self.write_layout(elements, &elements.output, &spans, None, out).map_err(Failed)? {
                out.push_str("{}");
            }
            Ok::<_, Failed>(())
        })?;
        out.push(']');
        Ok(true)
    }

    /// Writes a value under its attribute's rule.
    pub(super) fn write_value(
        &mut self,
        index: usize,
        attribute: &Attribute,
        value: Value<'_>,
        out: &mut String,
    ) -> Result<(), Failure> {
        if !fits(value, attribute.kind) {
            return Err(Reason::new("type_mismatch", attribute.path.as_str()).into());
        }
        if value.is_null() {
            out.push_str("null");
            return Ok(());
        }
        match &attribute.rule {
            Rule::Clear => out.push_str(value.raw),
            Rule::Redact => out.push_str("null"),
            Rule::Mask(mask) => write_string(out, &protect::mask(&plain_text(value), mask)),
            Rule::Tokenize => {
                let key = self.keys.token(index).ok_or(protect::Error::Refused)?;
                out.push('"');
                key.write_token(value, out);
                out.push('"');
            }
            Rule::Encrypt => {
                let fingerprint = self.keys.token(index).ok_or(protect::Error::Refused)?.fingerprint(value);
                let nonce = self.nonces.next();
                let key = self.keys.sealing(index).ok_or(protect::Error::UsedUp)?;
                let sealed = key.seal(value.raw, self.rid, nonce)?;
                out.push('"');
                out.push_str(&sealed.text);
                out.push('"');
                let comma = if self.fingerprints.is_empty() { "\"" } else { ",\"" };
                for part in [comma, &sealed.nonce, "\":\"", &fingerprint, "\""] {
                    self.fingerprints.push_str(part);
                }
            }
        }
        Ok(())
    }
}

/// Carries a [`Failure`] through the scanner.
struct Failed(Failure);

impl From<crate::scan::Error> for Failed {
    fn from(error: crate::scan::Error) -> Self {
        Self(Reason::from(super::scope::WalkError::Scan(error)).into())
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        failed.0
    }
}

/// Reads JSON text that holds one value.
pub(super) fn value_of(json: &str) -> Result<Value<'_>, super::scope::WalkError> {
    let mut scanner = Scanner::new(json, &INNER)?;
    let value = scanner.value()?;
    scanner.end()?;
    Ok(value)
}

/// Whether a value has the declared type; `null` has every type, and without a type every scalar will do.
pub(super) fn fits(value: Value<'_>, kind: Option<Type>) -> bool {
    let integer = || !value.raw.contains(['.', 'e', 'E']);
    match (value.kind, kind) {
        (Kind::Null, _) | (_, Some(Type::Json)) => true,
        (Kind::Object | Kind::Array, _) => false,
        (_, None) => true,
        (Kind::String, Some(Type::String)) | (Kind::Boolean, Some(Type::Boolean)) => true,
        (Kind::Number, Some(Type::Decimal)) => true,
        (Kind::Number, Some(Type::Integer)) => integer(),
        (Kind::String, Some(Type::Time)) => {
            value.text().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok())
        }
        _ => false,
    }
}
