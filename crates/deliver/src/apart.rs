//! Which records go alone for now, although their target takes arrays.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sync_domain::id::RecordId;

/// How many are remembered. Past that all are forgotten: so many come of an outage, not of a record.
const MOST: usize = 1_000;

/// The records of arrays that failed as a whole. Perhaps the target chokes on one of them; alone it takes no others along.
#[derive(Debug, Default)]
pub struct Apart(Mutex<BTreeSet<RecordId>>);

impl Apart {
    /// They go alone from now on.
    pub(crate) fn keep<'a>(&self, records: impl IntoIterator<Item = &'a RecordId>) {
        let mut known = self.known();
        known.extend(records.into_iter().cloned());
        if known.len() > MOST {
            known.clear();
        }
    }

    /// Whether a record goes alone.
    pub(crate) fn holds(&self, record: &RecordId) -> bool {
        self.known().contains(record)
    }

    /// It got through.
    pub(crate) fn release(&self, record: &RecordId) {
        self.known().remove(record);
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<RecordId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let (apart, record) = (Apart::default(), |n: usize| RecordId::from_wire(format!("rid_{n}")));
        let all: Vec<_> = (0..=MOST).map(record).collect();
        apart.keep(all.iter().take(MOST));
        assert!(apart.holds(&record(0)) && !apart.holds(&record(MOST)));
        apart.release(&record(0));
        assert!(!apart.holds(&record(0)) && apart.holds(&record(1)));
        apart.keep(all.iter());
        assert!(!all.iter().any(|record| apart.holds(record)));
    }
}
