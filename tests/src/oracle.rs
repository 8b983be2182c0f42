//! What must arrive: the rules of delivery, worked out change by change in the order in which they were sent.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::change::{Change, Fate, RecordName};
use crate::expected::{Want, governed, loyalty};
use crate::raw;

/// A delivery that a target must get.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The version; none where only the order is known.
    pub version: Option<String>,
    /// What happened.
    pub happened: &'static str,
    /// When.
    pub occurred_at: String,
    /// The source.
    pub source: &'static str,
    /// The record before, for models that send it along.
    pub before: Option<Want>,
    /// The record after; none for a delete.
    pub after: Option<Want>,
}

/// Why a target must not get an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Held {
    /// It did not ask for it.
    NotAsked,
    /// It has this content.
    Unchanged,
    /// It has a newer version.
    Stale,
    /// It has this version with other content.
    Conflict,
    /// It refuses it.
    Refused,
}

/// A ticket that must be written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// The stage.
    pub stage: &'static str,
    /// The reason's code.
    pub code: &'static str,
    /// The model.
    pub model: &'static str,
    /// The target, in `deliver`.
    pub target: Option<&'static str>,
}

/// What one target must get.
#[derive(Debug)]
pub struct TargetOracle {
    /// Its name.
    pub name: &'static str,
    ledger: BTreeMap<RecordName, Row>,
    /// The deliveries per record, in order.
    pub deliveries: BTreeMap<RecordName, Vec<Sent>>,
    /// What it must not get, by reason.
    pub held: BTreeMap<Held, usize>,
}

#[derive(Debug)]
struct Row {
    version: Option<String>,
    content: Option<Want>,
}

/// What everybody must get.
#[derive(Debug)]
pub struct Oracle {
    /// The loyalty programme.
    pub loyalty: TargetOracle,
    /// The warehouse.
    pub warehouse: TargetOracle,
    /// The tickets, in no order.
    pub tickets: Vec<Ticket>,
    /// What was sent, by source, model and operation.
    pub sent: BTreeMap<(&'static str, &'static str, &'static str), usize>,
    /// What was refused at the push endpoint, by code.
    pub refused: BTreeMap<&'static str, usize>,
}

impl Default for Oracle {
    fn default() -> Self {
        Self::new()
    }
}

impl Oracle {
    /// Nothing was sent yet.
    pub fn new() -> Self {
        Self {
            loyalty: TargetOracle::new("loyalty"),
            warehouse: TargetOracle::new("warehouse"),
            tickets: Vec::new(),
            sent: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Takes in the next change.
    pub fn take(&mut self, change: &Change) -> Result<()> {
        *self.sent.entry((change.source, change.model, change.operation)).or_default() += 1;
        match change.fate {
            Fate::Refused(code) => {
                *self.refused.entry(code).or_default() += 1;
                Ok(())
            }
            Fate::Fails("deliver", code) => {
                self.tickets.push(Ticket {
                    stage: "deliver",
                    code,
                    model: change.model,
                    target: Some("warehouse"),
                });
                *self.warehouse.held.entry(Held::Refused).or_default() += 1;
                Ok(())
            }
            Fate::Fails(stage, code) => {
                self.tickets.push(Ticket { stage, code, model: change.model, target: None });
                Ok(())
            }
            Fate::Flows => self.deliver(change),
        }
    }

    fn deliver(&mut self, change: &Change) -> Result<()> {
        let after = change.after.as_deref().map(|after| governed(change.model, after)).transpose()?;
        let before = match (change.model, change.before.as_deref()) {
            // The only model of the sample that sends it along.
            ("price", Some(before)) => Some(governed(change.model, before)?),
            _ => None,
        };
        if change.model == "customer" {
            let part = after.as_ref().map(loyalty);
            if loyalty_asks(change)? {
                self.loyalty.take(change, None, part, &mut self.tickets);
            } else {
                *self.loyalty.held.entry(Held::NotAsked).or_default() += 1;
            }
        }
        self.warehouse.take(change, before, after, &mut self.tickets);
        Ok(())
    }

    /// How many dead letters must stand in each queue, by the queue's logical id.
    pub fn dead_letters(&self) -> BTreeMap<&'static str, usize> {
        let mut queues = BTreeMap::new();
        for ticket in &self.tickets {
            let queue = match (ticket.stage, ticket.target) {
                ("transform", _) => "ChangesDeadLetterQueue",
                ("enrich", _) => "EnrichmentDeadLetterQueue",
                (_, Some("loyalty")) => "LoyaltyDeadLetterQueue",
                _ => "WarehouseDeadLetterQueue",
            };
            *queues.entry(queue).or_default() += 1;
        }
        queues
    }
}

/// The loyalty programme wants an update only where something changed that it shows, or where nobody knows what did:
/// the source did not say what was before, or a look-up added to the record.
fn loyalty_asks(change: &Change) -> Result<bool> {
    let (Some(before), Some(after), "update") = (&change.before, &change.after, change.operation) else {
        return Ok(true);
    };
    if matches!(raw::at(after, "tier")?, Some("\"gold\"" | "\"platinum\"")) {
        return Ok(true);
    }
    for path in ["email", "phone", "name.first", "name.last", "tier"] {
        if raw::at(before, path)? != raw::at(after, path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl TargetOracle {
    fn new(name: &'static str) -> Self {
        Self { name, ledger: BTreeMap::new(), deliveries: BTreeMap::new(), held: BTreeMap::new() }
    }

    fn take(
        &mut self,
        change: &Change,
        before: Option<Want>,
        after: Option<Want>,
        tickets: &mut Vec<Ticket>,
    ) {
        let version = change.version();
        let held = self.ledger.get(&change.record()).and_then(|row| {
            // Without a version the order of arrival counts: what comes now is newer.
            let (new, known) =
                (version.as_deref().unwrap_or("~"), row.version.as_deref().unwrap_or_default());
            match new.cmp(known) {
                std::cmp::Ordering::Less => Some(Held::Stale),
                _ if row.content == after => Some(Held::Unchanged),
                std::cmp::Ordering::Equal => Some(Held::Conflict),
                std::cmp::Ordering::Greater => None,
            }
        });
        if let Some(held) = held {
            *self.held.entry(held).or_default() += 1;
        }
        if held == Some(Held::Conflict) {
            tickets.push(Ticket {
                stage: "deliver",
                code: "version_conflict",
                model: change.model,
                target: Some(self.name),
            });
        }
        if matches!(held, None | Some(Held::Unchanged)) {
            self.ledger.insert(change.record(), Row { version: version.clone(), content: after.clone() });
        }
        if held.is_none() {
            self.deliveries.entry(change.record()).or_default().push(Sent {
                version,
                happened: change.happened(),
                occurred_at: change.occurred_at.clone(),
                source: change.source,
                before,
                after,
            });
        }
    }

    /// How many deliveries it must get.
    pub fn count(&self) -> usize {
        self.deliveries.values().map(Vec::len).sum()
    }

    /// How many records it must hold in the end, deleted ones not counted.
    pub fn records(&self) -> usize {
        self.deliveries.values().filter(|sent| sent.last().is_some_and(|sent| sent.after.is_some())).count()
    }

    /// The last delivery of a record.
    pub fn last(&self, record: &RecordName) -> Result<&Sent> {
        self.deliveries.get(record).and_then(|sent| sent.last()).context("nothing is expected of this record")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Counter;

    fn setting(version: u64, operation: &'static str, value: &str) -> Change {
        let deleted = operation == "delete";
        Change {
            source: "shop",
            model: "price",
            operation,
            key: r#"{"sku":"a","currency":"EUR"}"#.to_owned(),
            counter: Counter::Number(version),
            occurred_at: "2026-11-24T10:00:00Z".to_owned(),
            before: None,
            after: (!deleted).then(|| format!(r#"{{"sku":"a","currency":"EUR","amount":{value}}}"#)),
            fate: Fate::Flows,
        }
    }

    #[test]
    fn only_news_is_delivered() {
        let mut oracle = Oracle::new();
        for (version, operation, value) in [
            (2, "create", "1"),
            (1, "update", "9"),
            (3, "update", "1"),
            (3, "update", "2"),
            (4, "update", "2"),
            (5, "delete", ""),
            (6, "delete", ""),
            (4, "update", "2"),
            (7, "create", "3"),
        ] {
            oracle.take(&setting(version, operation, value)).unwrap();
        }
        let sent: Vec<_> = oracle.warehouse.deliveries.values().flatten().map(|sent| sent.happened).collect();
        assert_eq!(sent, ["created", "updated", "deleted", "created"]);
        let held = [(Held::Unchanged, 2), (Held::Stale, 2), (Held::Conflict, 1)];
        assert_eq!(oracle.warehouse.held, BTreeMap::from(held));
        assert_eq!(oracle.tickets.len(), 1);
        assert_eq!(oracle.loyalty.count(), 0);
    }
}
