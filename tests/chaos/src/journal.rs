//! The whole path, written down and held against itself: what was committed at the sources, what was handed off between the
//! stages, what the targets did with it.
//!
//! A state of a record is known by its *mark*, a number that no other state of the record has; a deleted record has none.
//! Everything is noted in the order in which it happened; the order within a queue is that of its sequence numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};
use sync_tests::change::RecordName;
use sync_tests::raw;

/// The state of a record: its mark; none once it is deleted.
pub type Mark = Option<u64>;

/// What a source shows of what is committed in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// Every commit, in order.
    Every,
    /// The last state at each look.
    Last,
}

/// A message of a queue, as the record and the state that it brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// `SequenceNumber`: the place in the queue.
    pub sequence: u128,
    /// The event's id; empty before there is an event.
    pub id: String,
    /// The record.
    pub record: RecordName,
    /// The version.
    pub version: String,
    /// The state.
    pub mark: Mark,
}

impl Brought {
    /// From the body of a message in the Changes queue.
    pub fn change(body: &str, sequence: u128) -> Result<Self> {
        let member = |path: &str| raw::at(body, path)?.with_context(|| format!("a change has no {path}"));
        Ok(Self {
            sequence,
            id: String::new(),
            record: RecordName { model: raw::text(member("model")?)?, key: member("key")?.to_owned() },
            version: raw::text(member("version")?)?,
            mark: mark(raw::at(body, "after.mark")?)?,
        })
    }

    /// From an event, in a queue or as a target gets it.
    pub fn event(body: &str, sequence: u128) -> Result<Self> {
        let member = |path: &str| raw::at(body, path)?.with_context(|| format!("an event has no {path}"));
        let kind = raw::text(member("type")?)?;
        let model = kind.split('.').next().unwrap_or_default().to_owned();
        Ok(Self {
            sequence,
            id: raw::text(member("id")?)?,
            record: RecordName { model, key: member("data.key")?.to_owned() },
            version: raw::text(member("sequence")?)?,
            mark: mark(raw::at(body, "data.after.mark")?)?,
        })
    }
}

fn mark(text: Option<&str>) -> Result<Mark> {
    text.filter(|text| *text != "null").map(|text| text.parse().context("a mark is a number")).transpose()
}

/// How a target takes what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// Whatever comes last.
    Last,
    /// The highest version.
    Highest,
}

/// A request that a target applied.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Applied {
    at: u64,
    id: String,
    version: String,
    mark: Mark,
    late: bool,
}

#[derive(Debug)]
struct TargetJournal {
    keeps: Keeps,
    models: BTreeSet<String>,
    /// What stood in its queue, each message once.
    queued: BTreeMap<RecordName, BTreeMap<u128, Brought>>,
    /// By event: how often one of its messages was handed to the function.
    handed: BTreeMap<String, u64>,
    /// By event: when one of its messages was done for the first time.
    done: BTreeMap<String, u64>,
    /// By event: the ends that the function says it came to.
    ends: BTreeMap<String, BTreeSet<String>>,
    /// Events that stand among the dead letters.
    dead: BTreeSet<String>,
    /// Events that have a ticket.
    tickets: BTreeSet<String>,
    /// What it has applied, in order.
    applied: BTreeMap<RecordName, Vec<Applied>>,
}

/// All that was seen of a run.
#[derive(Debug, Default)]
pub struct Journal {
    clock: u64,
    committed: BTreeMap<RecordName, (Option<Shows>, Vec<Mark>)>,
    changes: BTreeMap<RecordName, BTreeMap<u128, Brought>>,
    /// Changes that stand among the dead letters of a stage before the topic.
    parked: BTreeSet<(RecordName, String)>,
    targets: BTreeMap<String, TargetJournal>,
}

/// What is wrong, and what was counted aside.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Commits without a change, changes without an event, events without a delivery, states that a target lacks in the end.
    pub lost: Vec<String>,
    /// What nobody committed.
    pub phantom: Vec<String>,
    /// Older states that a target took behind newer ones, or holds in the end.
    pub stale: Vec<String>,
    /// Events that a target got again without a reason.
    pub again: Vec<String>,
    /// Messages of a record that stand in a queue in another order than before.
    pub disorder: Vec<String>,
    /// Events without an end at a target, and dead letters without a ticket.
    pub unaccounted: Vec<String>,
    /// How many requests a target applied after their sender had given them up.
    pub late: usize,
    /// How many records a plain target was taken back by such requests, and has so in the end.
    pub left_late: usize,
}

impl Findings {
    /// Whether nothing is wrong.
    pub fn are_none(&self) -> bool {
        self.all().iter().all(|(_, found)| found.is_empty())
    }

    fn all(&self) -> [(&'static str, &Vec<String>); 6] {
        [
            ("lost", &self.lost),
            ("phantom", &self.phantom),
            ("stale", &self.stale),
            ("again", &self.again),
            ("disorder", &self.disorder),
            ("unaccounted", &self.unaccounted),
        ]
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, found) in self.all() {
            write!(f, "{name} {}, ", found.len())?;
        }
        write!(f, "applied late {}, left so {}", self.late, self.left_late)?;
        for (name, found) in self.all() {
            for one in found.iter().take(5) {
                write!(f, "\n  {name}: {one}")?;
            }
        }
        Ok(())
    }
}

impl Journal {
    /// Notes a target and what it subscribed to.
    pub fn target(&mut self, name: &str, keeps: Keeps, models: &[&str]) {
        let target = TargetJournal {
            keeps,
            models: models.iter().map(|model| (*model).to_owned()).collect(),
            queued: BTreeMap::new(),
            handed: BTreeMap::new(),
            done: BTreeMap::new(),
            ends: BTreeMap::new(),
            dead: BTreeSet::new(),
            tickets: BTreeSet::new(),
            applied: BTreeMap::new(),
        };
        self.targets.insert(name.to_owned(), target);
    }

    /// Notes a commit of a source.
    pub fn commit(&mut self, record: RecordName, shows: Shows, mark: Mark) {
        let (known, marks) = self.committed.entry(record).or_default();
        *known = Some(shows);
        marks.push(mark);
    }

    /// Notes a message of the Changes queue; one that was received before is known. True if its version is new.
    pub fn change(&mut self, brought: Brought) -> bool {
        let changes = self.changes.entry(brought.record.clone()).or_default();
        let news = !changes.values().any(|known| known.version == brought.version);
        changes.insert(brought.sequence, brought);
        news
    }

    /// Notes a change that stands among the dead letters of a stage before the topic.
    pub fn park(&mut self, brought: Brought) {
        self.parked.insert((brought.record, brought.version));
    }

    /// Notes that a message of a target's queue was handed to the function.
    pub fn hand(&mut self, target: &str, brought: Brought) {
        let Some(target) = self.targets.get_mut(target) else { return };
        *target.handed.entry(brought.id.clone()).or_default() += 1;
        target.queued.entry(brought.record.clone()).or_default().insert(brought.sequence, brought);
    }

    /// Notes that a message of an event is done and will be deleted.
    pub fn done(&mut self, target: &str, id: &str) {
        self.clock += 1;
        let Some(target) = self.targets.get_mut(target) else { return };
        target.done.entry(id.to_owned()).or_insert(self.clock);
    }

    /// Notes a request that a target applied; `late` if whoever sent it had given it up by then.
    pub fn apply(&mut self, target: &str, brought: Brought, late: bool) {
        self.clock += 1;
        let Some(target) = self.targets.get_mut(target) else { return };
        let Brought { id, version, mark, record, .. } = brought;
        let applied = Applied { at: self.clock, id, version, mark, late };
        target.applied.entry(record).or_default().push(applied);
    }

    /// Notes an end that a target's function says an event came to.
    pub fn end(&mut self, target: &str, id: &str, outcome: &str) {
        let Some(target) = self.targets.get_mut(target) else { return };
        target.ends.entry(id.to_owned()).or_default().insert(outcome.to_owned());
    }

    /// Notes an event that stands among a target's dead letters.
    pub fn dead(&mut self, target: &str, id: &str) {
        let Some(target) = self.targets.get_mut(target) else { return };
        target.dead.insert(id.to_owned());
    }

    /// Notes an event that a target's function wrote a ticket of.
    pub fn ticket(&mut self, target: &str, id: &str) {
        let Some(target) = self.targets.get_mut(target) else { return };
        target.tickets.insert(id.to_owned());
    }

    /// How many changes stand among the dead letters of a stage before the topic.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// How many commits there were.
    pub fn commits(&self) -> usize {
        self.committed.values().map(|(_, marks)| marks.len()).sum()
    }

    /// How many records.
    pub fn records(&self) -> usize {
        self.committed.len()
    }

    /// How many messages stood in the Changes queue, and how many versions they brought.
    pub fn changes(&self) -> (usize, usize) {
        let messages = self.changes.values().map(BTreeMap::len).sum();
        (messages, self.changes.values().map(|changes| firsts(changes).len()).sum())
    }

    /// Of each target: how many messages stood in its queue, how many requests it applied, and how often each end was met.
    pub fn tally(&self) -> BTreeMap<&str, (usize, usize, BTreeMap<&str, usize>)> {
        let mut tally = BTreeMap::new();
        for (name, target) in &self.targets {
            let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
            target.ends.values().flatten().for_each(|end| *ends.entry(end).or_default() += 1);
            let queued = target.queued.values().map(BTreeMap::len).sum();
            let applied = target.applied.values().map(Vec::len).sum();
            tally.insert(name.as_str(), (queued, applied, ends));
        }
        tally
    }

    /// Everything that is wrong once all queues are drained.
    pub fn check(&self) -> Findings {
        let mut findings = Findings::default();
        self.check_sources(&mut findings);
        for (name, target) in &self.targets {
            self.check_queue(name, target, &mut findings);
            check_ends(name, target, &mut findings);
            check_applied(name, target, &mut findings);
            check_state(name, target, &mut findings);
        }
        findings
    }

    /// The Changes queue against the commits.
    fn check_sources(&self, findings: &mut Findings) {
        let none = BTreeMap::new();
        for (record, (shows, marks)) in &self.committed {
            let changes = self.changes.get(record).unwrap_or(&none);
            let mut versions: BTreeMap<&str, Mark> = BTreeMap::new();
            for change in changes.values() {
                let known = versions.entry(&change.version).or_insert(change.mark);
                if *known != change.mark {
                    findings.phantom.push(format!("{}: {} has two contents", name(record), change.version));
                }
            }
            let seen: Vec<Mark> = versions.into_values().collect();
            let missing = |wanted: &[Mark], among: &[Mark]| {
                let mut at = 0;
                wanted
                    .iter()
                    .find(|mark| {
                        let found = among.iter().skip(at).position(|other| other == *mark);
                        at += found.map_or(0, |further| further + 1);
                        found.is_none()
                    })
                    .copied()
            };
            if *shows == Some(Shows::Every)
                && let Some(mark) = missing(marks, &seen)
            {
                findings.lost.push(format!("{}: the commit of {mark:?} is no change", name(record)));
            }
            // What came and went between two looks was never there.
            let never = *shows == Some(Shows::Last) && seen.is_empty() && marks.last() == Some(&None);
            if seen.last() != marks.last() && !never {
                findings.lost.push(format!("{}: the last commit is no change", name(record)));
            }
            if let Some(mark) = missing(&seen, marks) {
                findings.phantom.push(format!("{}: a change to {mark:?}, by its version", name(record)));
            }
            let order = firsts(changes);
            if *shows == Some(Shows::Every) && !order.is_sorted_by_key(|change| &change.version) {
                findings.disorder.push(format!("{}: the changes do not come by version", name(record)));
            }
        }
        for record in self.changes.keys().filter(|record| !self.committed.contains_key(record)) {
            findings.phantom.push(format!("{}: changes and no commit", name(record)));
        }
    }

    /// A target's queue against the Changes queue.
    fn check_queue(&self, target: &str, journal: &TargetJournal, findings: &mut Findings) {
        let none = BTreeMap::new();
        let asked_for = |record: &&RecordName| journal.models.contains(&record.model);
        for record in self.changes.keys().filter(asked_for) {
            let changes = firsts(self.changes.get(record).unwrap_or(&none));
            let events = firsts(journal.queued.get(record).unwrap_or(&none));
            let expected: Vec<(&str, Mark)> = changes
                .iter()
                .filter(|change| !self.parked.contains(&(record.clone(), change.version.clone())))
                .map(|change| (change.version.as_str(), change.mark))
                .collect();
            let got: Vec<(&str, Mark)> =
                events.iter().map(|event| (event.version.as_str(), event.mark)).collect();
            let before = findings.lost.len() + findings.phantom.len();
            for (version, _) in expected.iter().filter(|one| !got.contains(one)) {
                findings.lost.push(format!("{target}: {} {version} is no event", name(record)));
            }
            for (version, _) in got.iter().filter(|one| !expected.contains(one)) {
                findings.phantom.push(format!("{target}: {} {version} was no change", name(record)));
            }
            if before == findings.lost.len() + findings.phantom.len() && expected != got {
                findings.disorder.push(format!("{target}: the events of {} turned round", name(record)));
            }
        }
        for record in journal.queued.keys().filter(|record| !self.changes.contains_key(record)) {
            findings.phantom.push(format!("{target}: events of {} and no change", name(record)));
        }
    }
}

/// Every event has an end, and one that says something of the target is true.
fn check_ends(target: &str, journal: &TargetJournal, findings: &mut Findings) {
    let applied: BTreeSet<&str> =
        journal.applied.values().flatten().map(|applied| applied.id.as_str()).collect();
    for event in journal.queued.values().flat_map(BTreeMap::values) {
        let id = event.id.as_str();
        let ends = journal.ends.get(id).cloned().unwrap_or_default();
        let what = || format!("{target}: {} {}", name(&event.record), event.version);
        if !ends.iter().any(|end| end != "retry") {
            findings.unaccounted.push(what());
        } else if !journal.done.contains_key(id) {
            findings.unaccounted.push(format!("{} still stands in the queue", what()));
        }
        if ends.contains("delivered") && !applied.contains(id) {
            findings.lost.push(format!("{} was delivered and never applied", what()));
        }
        if ends.contains("dead_lettered") && !journal.dead.contains(id) {
            findings.lost.push(format!("{} is no dead letter", what()));
        }
        // Each state is another one: a plain target gets every one of them once, or it is a dead letter.
        let is_there = applied.contains(id) || journal.dead.contains(id) || event.mark.is_none();
        if journal.keeps == Keeps::Last && !is_there {
            findings.lost.push(format!("{} never came", what()));
        }
        if journal.dead.contains(id) && !journal.tickets.contains(id) {
            findings.unaccounted.push(format!("{} is a dead letter without a ticket", what()));
        }
    }
    for id in journal.ends.keys() {
        if !journal.handed.contains_key(id) {
            findings.phantom.push(format!("{target}: {id} ended and was never handed out"));
        }
    }
}

/// What a target applied: only what stood in its queue, no more often than with a reason, and never an older state behind a
/// newer one.
fn check_applied(target: &str, journal: &TargetJournal, findings: &mut Findings) {
    for (record, applied) in &journal.applied {
        let queued = journal.queued.get(record);
        let mut times: BTreeMap<&str, u64> = BTreeMap::new();
        let mut highest: Option<&Applied> = None;
        for one in applied {
            let what = || format!("{target}: {} {}", name(record), one.version);
            let stood = queued.into_iter().flat_map(BTreeMap::values);
            if !stood.into_iter().any(|event| event.version == one.version && event.mark == one.mark) {
                findings.phantom.push(format!("{} stood in no queue", what()));
            }
            let times = times.entry(one.id.as_str()).or_default();
            *times += 1;
            if *times > journal.handed.get(&one.id).copied().unwrap_or_default() {
                findings.again.push(format!("{} came more often than it was handed out", what()));
            }
            if one.late {
                findings.late += 1;
                continue;
            }
            let done = journal.done.get(&one.id).is_some_and(|done| *done < one.at);
            if done && !journal.dead.contains(&one.id) {
                findings.again.push(format!("{} came once more when it was done", what()));
            }
            if highest.is_some_and(|highest| highest.version > one.version) {
                findings.stale.push(format!("{} came behind a newer one", what()));
            } else {
                highest = Some(one);
            }
        }
    }
}

/// What a target holds in the end: of each record the newest state that it did not refuse.
fn check_state(target: &str, journal: &TargetJournal, findings: &mut Findings) {
    for (record, queued) in &journal.queued {
        let taken = queued.values().filter(|event| !journal.dead.contains(&event.id));
        let Some(newest) = taken.max_by(|one, other| one.version.cmp(&other.version)) else { continue };
        let applied = journal.applied.get(record).map(Vec::as_slice).unwrap_or_default();
        let held = match journal.keeps {
            Keeps::Last => applied.last(),
            Keeps::Highest => applied.iter().max_by(|one, other| one.version.cmp(&other.version)),
        };
        match held {
            Some(held) if (&held.version, held.mark) == (&newest.version, newest.mark) => {}
            // Deleted once more: what came in between was refused, and no second delete is sent.
            Some(held) if held.mark.is_none() && newest.mark.is_none() && held.version < newest.version => {}
            Some(held) if held.late && held.version < newest.version => findings.left_late += 1,
            Some(held) if held.version < newest.version => {
                let (held, newest) = ((&held.version, held.mark), (&newest.version, newest.mark));
                findings.stale.push(format!("{target}: {} ends at {held:?} before {newest:?}", name(record)));
            }
            Some(_) => findings.phantom.push(format!("{target}: {} ends at another state", name(record))),
            // What was never there needs no delete.
            None if newest.mark.is_none() => {}
            None => findings.lost.push(format!("{target}: {} never came", name(record))),
        }
    }
}

/// The first message of each version, in the order of the queue.
fn firsts(messages: &BTreeMap<u128, Brought>) -> Vec<&Brought> {
    let mut known = BTreeSet::new();
    messages.values().filter(|message| known.insert(message.version.as_str())).collect()
}

fn name(record: &RecordName) -> String {
    format!("{} {}", record.model, record.key)
}

#[cfg(test)]
mod tests;
