//! The data of a deletion that no source reported.

use super::apply::write_tail;
use super::{CompiledPolicy, Protected};
use crate::ports::LedgerRow;
use crate::scan::{self, Kind, Limits, Scanner, Value};

/// Bounds of a key: it comes out of our own hands, so only its size counts.
const KEY_LIMITS: Limits =
    Limits { bytes: 1 << 18, depth: 64, items: 10_000, string: 1 << 18, names: 10_000 };

impl CompiledPolicy {
    /// The data of the deletion of a row's record. The row's key went through a policy before `deliver` wrote it down; there
    /// is nothing else of the record in it. None if the key is no object.
    pub(crate) fn removal_of(&self, row: &LedgerRow) -> Option<Protected> {
        let key = read(&row.key).ok().filter(|key| key.kind == Kind::Object)?;
        let before = if self.before { ",\"before\":null" } else { "" };
        let mut data = format!("{{\"key\":{}{before},\"after\":null", key.raw);
        write_tail(None, "", &mut data);
        let (schema, policy_version) = (self.schema.clone(), self.version.clone());
        Some(Protected { data, changed: None, schema, policy_version })
    }
}

fn read(key: &str) -> scan::Result<Value<'_>> {
    let mut scanner = Scanner::new(key, &KEY_LIMITS)?;
    let value = scanner.value()?;
    scanner.end()?;
    Ok(value)
}
