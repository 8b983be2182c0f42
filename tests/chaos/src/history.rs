//! What was committed against what was handed off: lost, invented, out of order.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use sync_tests::change::RecordName;
use sync_tests::raw;

use crate::till::{Till, Written};

/// A change in the queue.
#[derive(Debug, Clone)]
struct Seen {
    version: String,
    snapshot: bool,
    number: Option<String>,
}

/// The commits of a table and the changes that came of them.
#[derive(Debug, Default)]
pub struct History {
    /// What stood there before the first commit.
    standing: BTreeMap<RecordName, String>,
    /// Per record, in the order of the commits.
    committed: BTreeMap<RecordName, Vec<Option<String>>>,
    /// Per record, in the order of the queue.
    seen: BTreeMap<RecordName, Vec<Seen>>,
}

impl History {
    /// A history that begins with rows.
    pub fn of(standing: BTreeMap<RecordName, String>) -> Self {
        Self { standing, ..Self::default() }
    }

    /// Takes in what a transaction has committed.
    pub fn commit(&mut self, written: Vec<Written>) {
        for one in written {
            self.committed.entry(one.record).or_default().push(one.number);
        }
    }

    /// How many changes were committed.
    pub fn commits(&self) -> usize {
        self.committed.values().map(Vec::len).sum()
    }

    /// How many changes were seen.
    pub fn changes(&self) -> usize {
        self.seen.values().map(Vec::len).sum()
    }

    /// Takes in the queue's messages of one model; gives the keys of those that are snapshots.
    pub fn see(&mut self, model: &str, changes: &[String]) -> Result<Vec<String>> {
        let of_model = raw::string(model);
        let mut snapshots = Vec::new();
        for change in changes {
            let change = raw::members(change)?;
            let member = |name: &str| Some(change.get(name)?.get());
            if member("model") != Some(of_model.as_str()) {
                continue;
            }
            let key = member("key").context("a change has a key")?.to_owned();
            let after = member("after").context("a change says what is there after it")?;
            let number = raw::at(after, Till::number(model))?.map(str::to_owned);
            let version = raw::text(member("version").context("a change has a version")?)?;
            let snapshot = member("operation") == Some("\"snapshot\"");
            if snapshot {
                snapshots.push(key.clone());
            }
            let record = RecordName { model: model.to_owned(), key };
            self.seen.entry(record).or_default().push(Seen { version, snapshot, number });
        }
        Ok(snapshots)
    }

    /// What is wrong if every commit must be seen, each at least once, and in order of the versions: that of the commits.
    pub fn every_commit(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (record, committed) in &self.committed {
            let live = self.by_version(record).into_iter().filter(|seen| !seen.snapshot);
            let seen: Vec<_> = live.map(|seen| seen.number.clone()).collect();
            let name = &record.key;
            if seen.len() < committed.len() {
                wrong.push(format!("{name}: {} commits, {} changes", committed.len(), seen.len()));
            } else if !seen.ends_with(committed) {
                wrong.push(format!("{name}: the changes in the order of their versions are not the commits"));
            }
        }
        wrong.extend(self.two_contents());
        wrong
    }

    /// What is wrong if only the last state of every record must be seen.
    pub fn last_state(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (record, committed) in &self.committed {
            if self.last(record) != committed.last().map(Option::as_deref) {
                wrong.push(format!("{}: the newest change is not the last commit", record.key));
            }
        }
        wrong.extend(self.two_contents());
        wrong
    }

    /// What is wrong if whoever takes the newest version of each record must come to hold this table.
    pub fn gaps(&self, table: &BTreeMap<RecordName, String>) -> Vec<String> {
        let records: BTreeSet<_> = self.seen.keys().chain(table.keys()).collect();
        let differs = |record: &&RecordName| {
            let held = self.last(record).flatten();
            held != table.get(*record).map(String::as_str)
        };
        let wrong = records.into_iter().filter(differs);
        wrong.map(|record| format!("{}: the newest change is not what the table holds", record.key)).collect()
    }

    /// What is wrong if no version may show a state that is older than what a change below it has shown. A snapshot may be
    /// newer than its version: the changes in between come behind it. Takes it that a record's number is never the same
    /// twice.
    pub fn old_over_new(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for record in self.seen.keys() {
            let standing = self.standing.get(record).map(String::as_str);
            let committed = self.committed.get(record).into_iter().flatten().map(Option::as_deref);
            let states: Vec<Option<&str>> = std::iter::once(standing).chain(committed).collect();
            let mut at = 0;
            for seen in self.by_version(record) {
                let newer = states.iter().skip(at).position(|state| *state == seen.number.as_deref());
                match newer {
                    Some(_) if seen.snapshot => {}
                    Some(further) => at += further,
                    None => {
                        wrong.push(format!("{}: {} shows an older state", record.key, seen.version));
                        break;
                    }
                }
            }
        }
        wrong
    }

    /// A record's state by its newest version; none if it was never seen.
    fn last(&self, record: &RecordName) -> Option<Option<&str>> {
        let seen = self.seen.get(record)?.iter();
        // Of those with one version the last, as a map of them would hold.
        let last = seen.max_by(|one, other| one.version.cmp(&other.version))?;
        Some(last.number.as_deref())
    }

    /// The changes of a record in the order of their versions, each version once.
    fn by_version(&self, record: &RecordName) -> Vec<&Seen> {
        let of_record = self.seen.get(record).into_iter().flatten();
        let ordered: BTreeMap<&str, &Seen> = of_record.map(|seen| (seen.version.as_str(), seen)).collect();
        ordered.into_values().collect()
    }

    /// Versions that stand for more than one content.
    fn two_contents(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (record, changes) in &self.seen {
            let mut contents: BTreeMap<&str, &Option<String>> = BTreeMap::new();
            for seen in changes {
                let known = contents.entry(&seen.version).or_insert(&seen.number);
                if **known != seen.number {
                    wrong.push(format!("{}: {} has two contents", record.key, seen.version));
                }
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: u32) -> [Written; 1] {
        let record = RecordName { model: "pos_customer".to_owned(), key: r#"{"customer_id":1}"#.to_owned() };
        [Written { record, number: Some(number.to_string()) }]
    }

    fn change(version: u32, number: u32) -> String {
        format!(
            r#"{{"model":"pos_customer","version":"{version}","key":{{"customer_id":1}},"after":{{"balance":{number}}}}}"#
        )
    }

    fn history(changes: &[String]) -> History {
        let mut history = History::default();
        (1..=3).for_each(|number| history.commit(written(number).to_vec()));
        history.see("pos_customer", changes).unwrap();
        history
    }

    #[test]
    fn what_was_lost_invented_or_disordered_is_told() {
        let right = [change(1, 1), change(2, 2), change(2, 2), change(3, 3)];
        assert!(history(&right).every_commit().is_empty());
        assert!(history(&right).last_state().is_empty());
        let lost = [change(1, 1), change(3, 3)];
        assert!(!history(&lost).every_commit().is_empty());
        assert!(history(&lost).last_state().is_empty());
        let invented = [change(1, 1), change(2, 2), change(3, 3), change(4, 9)];
        assert!(!history(&invented).every_commit().is_empty());
        let disordered = [change(1, 1), change(3, 2), change(2, 3)];
        assert!(!history(&disordered).every_commit().is_empty());
        assert!(!history(&disordered).last_state().is_empty());
        let two = [change(1, 1), change(2, 2), change(3, 2), change(3, 3)];
        assert!(!history(&two).every_commit().is_empty());
    }

    #[test]
    fn a_snapshot_may_be_newer_than_its_version_and_never_older() {
        let snapshot =
            |version, number| change(version, number).replacen('{', r#"{"operation":"snapshot","#, 1);
        let live = [change(10, 1), change(20, 2), change(30, 3)];
        let seen = |one: String| history(&[live.as_slice(), &[one]].concat());
        let [record] = written(3).map(|written| written.record);
        let table = BTreeMap::from([(record.clone(), "3".to_owned())]);
        for right in [snapshot(15, 1), snapshot(15, 2), snapshot(15, 3), snapshot(35, 3)] {
            let history = seen(right);
            assert_eq!((history.every_commit(), history.old_over_new()), (vec![], vec![]));
            assert!(history.gaps(&table).is_empty());
        }
        assert_eq!(seen(snapshot(25, 1)).old_over_new().len(), 1);
        assert_eq!(seen(snapshot(35, 2)).gaps(&table).len(), 1);
        assert_eq!(seen(snapshot(15, 1)).gaps(&BTreeMap::new()).len(), 1, "the row is gone");
        assert_eq!(History::default().gaps(&table).len(), 1, "the row was never seen");
        let mut gone = seen(snapshot(45, 3));
        gone.commit(vec![Written { record, number: None }]);
        let delete = change(40, 0).replace(r#"{"balance":0}"#, "null");
        gone.see("pos_customer", &[delete]).unwrap();
        assert_eq!(gone.every_commit(), [] as [String; 0]);
        assert_eq!(gone.old_over_new().len(), 1, "a snapshot brings a row back that was deleted");
    }
}
