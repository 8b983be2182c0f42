//! What was committed against what was handed off: lost, invented, out of order.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use sync_tests::change::RecordName;
use sync_tests::raw;

use crate::till::{Till, Written};

/// A change in the queue.
#[derive(Debug, Clone)]
pub struct Seen {
    version: String,
    written: Written,
}

/// The commits of a table and the changes that came of them.
#[derive(Debug, Default)]
pub struct History {
    /// Per record, in the order of the commits.
    committed: BTreeMap<RecordName, Vec<Option<String>>>,
    /// In the order of the queue.
    seen: Vec<Seen>,
}

impl History {
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
        self.seen.len()
    }

    /// Takes in the queue's messages of one model.
    pub fn see(&mut self, model: &str, changes: &[String]) -> Result<()> {
        let of_model = raw::string(model);
        for change in changes {
            let at = |path: &str| raw::at(change, path);
            if at("model")? != Some(of_model.as_str()) {
                continue;
            }
            let key = at("key")?.context("a change has a key")?.to_owned();
            let number = at(&format!("after.{}", Till::number(model)))?.map(str::to_owned);
            let version = raw::text(at("version")?.context("a change has a version")?)?;
            let record = RecordName { model: model.to_owned(), key };
            self.seen.push(Seen { version, written: Written { record, number } });
        }
        Ok(())
    }

    /// What is wrong if every commit must be seen, each at least once, and in order of the versions: that of the commits.
    pub fn every_commit(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (record, committed) in &self.committed {
            let seen = self.by_version(record);
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
            if self.by_version(record).last() != committed.last() {
                wrong.push(format!("{}: the newest change is not the last commit", record.key));
            }
        }
        wrong.extend(self.two_contents());
        wrong
    }

    /// The states of a record in the order of their versions, each version once.
    fn by_version(&self, record: &RecordName) -> Vec<Option<String>> {
        let of_record = self.seen.iter().filter(|seen| seen.written.record == *record);
        let ordered: BTreeMap<&str, &Option<String>> =
            of_record.map(|seen| (seen.version.as_str(), &seen.written.number)).collect();
        ordered.into_values().cloned().collect()
    }

    /// Versions that stand for more than one content.
    fn two_contents(&self) -> Vec<String> {
        let mut contents: BTreeMap<(&RecordName, &str), BTreeSet<&Option<String>>> = BTreeMap::new();
        for seen in &self.seen {
            let place = (&seen.written.record, seen.version.as_str());
            contents.entry(place).or_default().insert(&seen.written.number);
        }
        let twice = contents.into_iter().filter(|(_, contents)| contents.len() > 1);
        twice.map(|((record, version), _)| format!("{}: {version} has two contents", record.key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: u32) -> Vec<Written> {
        let record = RecordName { model: "pos_customer".to_owned(), key: r#"{"customer_id":1}"#.to_owned() };
        vec![Written { record, number: Some(number.to_string()) }]
    }

    fn change(version: u32, number: u32) -> String {
        format!(
            r#"{{"model":"pos_customer","version":"{version}","key":{{"customer_id":1}},"after":{{"balance":{number}}}}}"#
        )
    }

    fn history(changes: &[String]) -> History {
        let mut history = History::default();
        (1..=3).for_each(|number| history.commit(written(number)));
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
}
