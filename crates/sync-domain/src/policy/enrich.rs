//! What a look-up adds goes under the same rules as what the source sent.

use super::apply::{Protector, fits, value_of, write_tail};
use super::scope::INNER;
use super::{CompiledPolicy, Failure, PolicyKeys, Protected};
use crate::event::{HEAD_CAPACITY, ReceivedEvent};
use crate::outcome::Reason;
use crate::protect::Nonces;
use crate::scan::{Kind, Scanner, Value, write_string};

impl CompiledPolicy {
    /// The attributes that a look-up sets, by path.
    pub fn looked_up(&self) -> impl Iterator<Item = &str> {
        self.attributes.iter().filter(|attribute| attribute.later).map(|attribute| attribute.path.as_str())
    }

    /// The data of an event with what a look-up found (attribute path and JSON value; an attribute that is not among them
    /// becomes `null`), under the rules of the policy. What changed is not known any more.
    pub fn enrich(
        &self,
        event: &ReceivedEvent<'_>,
        found: &[(String, String)],
        keys: &mut PolicyKeys,
        nonces: &mut dyn Nonces,
    ) -> Result<Protected, Failure> {
        let mut after = event.after.ok_or_else(|| Reason::new("no_record", "data.after"))?.to_owned();
        let rid = &event.envelope.rid;
        let mut protector = Protector { policy: self, keys, nonces, rid, fingerprints: String::new() };
        for (index, attribute) in self.attributes.iter().enumerate().filter(|(_, attribute)| attribute.later)
        {
            let json = found
                .iter()
                .find(|(path, _)| *path == attribute.path)
                .map_or("null", |(_, json)| json.as_str());
            let value =
                value_of(json).map_err(|_| Reason::new("lookup_not_json", attribute.path.as_str()))?;
            if !fits(value, attribute.kind) {
                return Err(Reason::new("lookup_type_mismatch", attribute.path.as_str()).into());
            }
            let mut protected = String::new();
            protector.write_value(index, attribute, value, &mut protected)?;
            let names: Vec<&str> = attribute.output.split('.').collect();
            after = set_member(&after, &names, &protected)
                .map_err(|_| Reason::new("not_an_event", "data.after"))?;
        }
        let mut fingerprints = protector.fingerprints;
        write_fingerprints(event, &mut fingerprints);
        Ok(Protected::assemble(event, Some(&after), None, &fingerprints))
    }
}

impl Protected {
    /// The data of an event that has been published or queued already.
    pub(crate) fn of_received(event: &ReceivedEvent<'_>) -> Self {
        let mut fingerprints = String::new();
        write_fingerprints(event, &mut fingerprints);
        let changed =
            event.changed.as_ref().map(|names| names.iter().map(|name| name.clone().into_owned()).collect());
        Self::assemble(event, event.after, changed, &fingerprints)
    }

    fn assemble(
        event: &ReceivedEvent<'_>,
        after: Option<&str>,
        changed: Option<Vec<String>>,
        fingerprints: &str,
    ) -> Self {
        let mut data =
            String::with_capacity(event.key.len() + after.map_or(4, str::len) + 256 + HEAD_CAPACITY);
        data.push_str("{\"key\":");
        data.push_str(event.key);
        if event.has_before {
            data.push_str(",\"before\":");
            data.push_str(event.before.unwrap_or("null"));
        }
        data.push_str(",\"after\":");
        data.push_str(after.unwrap_or("null"));
        write_tail(changed.as_deref(), fingerprints, &mut data);
        Self {
            data,
            changed,
            schema: event.schema.as_ref().into(),
            policy_version: event.policy_version.as_ref().into(),
        }
    }
}

fn write_fingerprints(event: &ReceivedEvent<'_>, out: &mut String) {
    for (nonce, fingerprint) in &event.fingerprints {
        if !out.is_empty() {
            out.push(',');
        }
        write_string(out, nonce);
        out.push(':');
        write_string(out, fingerprint);
    }
}

/// The object with the member at the path set to `json`; everything else as it stands.
fn set_member(object: &str, path: &[&str], json: &str) -> Result<String, crate::scan::Error> {
    let Some((name, rest)) = path.split_first() else { return Ok(json.to_owned()) };
    let mut out = String::with_capacity(object.len() + json.len());
    let mut found = false;
    let mut scanner = Scanner::new(object, &INNER)?;
    scanner.object(|scanner, member| {
        let value = scanner.value()?;
        out.push(if out.is_empty() { '{' } else { ',' });
        write_string(&mut out, &member);
        out.push(':');
        if member == *name {
            found = true;
            out.push_str(&set_inside(value, rest, json)?);
        } else {
            out.push_str(value.raw);
        }
        Ok::<_, crate::scan::Error>(())
    })?;
    if !found {
        out.push(if out.is_empty() { '{' } else { ',' });
        write_string(&mut out, name);
        out.push(':');
        out.push_str(&set_inside(Value::NULL, rest, json)?);
    }
    out.push('}');
    Ok(out)
}

fn set_inside(value: Value<'_>, path: &[&str], json: &str) -> Result<String, crate::scan::Error> {
    let object = if value.kind == Kind::Object { value.raw } else { "{}" };
    set_member(object, path, json)
}
