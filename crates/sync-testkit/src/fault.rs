//! Faults on demand: each call of a twin takes the next one of its script.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use sync_domain::ports::{Error, Kind, Result};

use crate::lock;

/// What happens in one call of a twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: for "only the third call fails".
    Pass,
    /// The call fails as a whole and nothing is taken.
    Call(Kind),
    /// The call is taken as a whole, and its answer is lost: the caller is told `Unavailable`.
    Lost,
    /// The entries at these places are not taken; those behind one in its group are not sent.
    Entries(Vec<(usize, Kind)>),
}

/// The script of a twin's faults.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    next: VecDeque<Fault>,
    outage: Option<Kind>,
    calls: usize,
}

/// What a batch call has to do with one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Take,
    TakeButFail(Kind),
    Fail(Kind),
}

impl Faults {
    /// Adds a fault for the next call that has none yet.
    pub fn push(&self, fault: Fault) {
        lock(&self.0).next.push_back(fault);
    }

    /// Lets every call fail as a whole until [`Faults::recover`].
    pub fn outage(&self, kind: Kind) {
        lock(&self.0).outage = Some(kind);
    }

    /// Ends an outage.
    pub fn recover(&self) {
        lock(&self.0).outage = None;
    }

    /// The calls so far, failed ones included.
    pub fn calls(&self) -> usize {
        lock(&self.0).calls
    }

    fn next(&self) -> Fault {
        let mut script = lock(&self.0);
        script.calls += 1;
        match script.outage {
            Some(kind) => Fault::Call(kind),
            None => script.next.pop_front().unwrap_or(Fault::Pass),
        }
    }

    /// One call with one result. `work` is done unless the call fails before it.
    pub(crate) fn single<T>(&self, operation: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.next() {
            Fault::Pass => work(),
            Fault::Call(kind) => Err(error(operation, kind)),
            Fault::Lost => {
                work()?;
                Err(error(operation, Kind::Unavailable))
            }
            Fault::Entries(entries) => match entries.iter().find(|(at, _)| *at == 0) {
                Some((_, kind)) => Err(error(operation, *kind)),
                None => work(),
            },
        }
    }

    /// One batch call: what to do with each entry, given the entries' groups.
    pub(crate) fn batch<'a>(&self, groups: &[Option<&'a str>]) -> Vec<Turn> {
        let fault = self.next();
        let mut failed = HashSet::new();
        let turn = |(at, group): (usize, &Option<&'a str>)| match &fault {
            Fault::Pass => Turn::Take,
            Fault::Call(kind) => Turn::Fail(*kind),
            Fault::Lost => Turn::TakeButFail(Kind::Unavailable),
            Fault::Entries(entries) => {
                if group.is_some_and(|group| failed.contains(group)) {
                    return Turn::Fail(Kind::Behind);
                }
                let Some((_, kind)) = entries.iter().find(|(place, _)| *place == at) else {
                    return Turn::Take;
                };
                if let Some(group) = *group {
                    failed.insert(group);
                }
                Turn::Fail(*kind)
            }
        };
        groups.iter().enumerate().map(turn).collect()
    }
}

pub(crate) fn error(operation: &'static str, kind: Kind) -> Error {
    Error { kind, operation, code: "Scripted".to_owned(), source: None }
}
