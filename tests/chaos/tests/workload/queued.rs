//! What stood in the Changes queue.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sync_domain::change::{Change, Operation};
use sync_domain::scan::Limits;
use sync_domain::version::Version;
use sync_testkit::workload::Replayed;

/// All that went through a queue, in its order.
#[derive(Default)]
pub(crate) struct Queued {
    pub(crate) messages: usize,
    pub(crate) marks: BTreeSet<i64>,
    pub(crate) deletes: usize,
    /// How many messages came behind one of their record with a higher version.
    pub(crate) late: usize,
    /// What a target would have of it that goes by the versions.
    pub(crate) replayed: Replayed,
    highest: BTreeMap<i64, Version>,
}

impl Queued {
    /// Takes in the body of a message.
    pub(crate) fn take(&mut self, body: &str) {
        let change = Change::read(body, &Limits::default()).unwrap();
        let key: Value = serde_json::from_str(change.key).unwrap();
        let after = change.after.map(|after| serde_json::from_str::<Value>(after).unwrap());
        let mark = after.map(|after| after["mark"].as_i64().unwrap());
        let (id, version) = (key["id"].as_i64().unwrap(), change.version.unwrap());
        self.messages += 1;
        self.marks.extend(mark);
        self.deletes += usize::from(change.operation == Operation::Delete);
        self.replayed.apply(id, version, mark);
        let highest = self.highest.entry(id).or_insert(version);
        self.late += usize::from(version < *highest);
        *highest = version.max(*highest);
    }
}
