//! Compares what arrived with what must have. Differences name places, never values.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use crate::change::RecordName;
use crate::expected::{LOYALTY_ATTRIBUTES, Place, Want, differences, governed};
use crate::opener::Opener;
use crate::oracle::{Oracle, Sent, TargetOracle};
use crate::pos::{self, PointOfSale};
use crate::preferences;
use crate::rig::Rig;
use crate::run;
use crate::target::{Delivery, Target};

/// Everything that is not as it must be; empty = all is right.
pub async fn judge(rig: &Rig, oracle: &Oracle) -> Result<Vec<String>> {
    let opener = Opener::new(&rig.stack).await?;
    let mut wrong = Vec::new();
    target(&rig.loyalty, &oracle.loyalty, LOYALTY_ATTRIBUTES, &opener, &mut wrong);
    target(&rig.warehouse, &oracle.warehouse, &[], &opener, &mut wrong);
    tickets(&run::tickets(rig).await?, oracle, &mut wrong);
    outages(&run::outages(rig).await?, &mut wrong);
    dead_letters(rig, oracle, &mut wrong).await?;
    Ok(wrong)
}

fn target(
    target: &Target,
    oracle: &TargetOracle,
    renamed: &[(&str, &str)],
    opener: &Opener,
    wrong: &mut Vec<String>,
) {
    let name = target.name();
    wrong.extend(target.faults().into_iter().map(|fault| format!("{name}: {fault}")));
    if target.unbelieved() > 0 {
        wrong.push(format!("{name}: {} deliveries without a right signature or key", target.unbelieved()));
    }
    let mut arrived: BTreeMap<RecordName, Vec<Delivery>> = BTreeMap::new();
    for delivery in target.deliveries() {
        // What is read of databases is judged by what they hold in the end, see `holds`.
        let is_read = delivery.model() == preferences::MODEL
            || pos::TABLES.iter().any(|table| table.model == delivery.model());
        if !delivery.accepted() || is_read {
            continue;
        }
        let of_record = arrived.entry(delivery.record()).or_default();
        // At least once: the same event again is allowed where an answer was lost, and changes nothing.
        let again = of_record.last().is_some_and(|last| last.envelope("id") == delivery.envelope("id"));
        if !again {
            of_record.push(delivery);
        }
    }
    for (record, sent) in &oracle.deliveries {
        let got = arrived.remove(record).unwrap_or_default();
        deliveries(name, record, sent, &got, renamed, opener, wrong);
    }
    for record in arrived.keys() {
        wrong.push(format!("{name}: {} {} must not be there", record.model, record.key));
    }
    held(target, oracle, wrong);
}

/// Compares what the warehouse holds of the point-of-sale system with what stands in its database. Empty = the same.
pub async fn at_rest(rig: &Rig, pos: &PointOfSale) -> Result<Vec<String>> {
    holds(rig, &pos::TABLES.map(|table| table.model), pos.rows().await?).await
}

/// Compares what the warehouse holds of some models with the rows that it must hold. Empty = the same.
pub async fn holds(rig: &Rig, models: &[&str], rows: BTreeMap<RecordName, String>) -> Result<Vec<String>> {
    let opener = Opener::new(&rig.stack).await?;
    let mut wrong = Vec::new();
    let mut held = rig.warehouse.records();
    held.retain(|name, record| record.after.is_some() && models.contains(&name.model.as_str()));
    for (name, row) in rows {
        let place = format!("warehouse: {} {}", name.model, name.key);
        let Some(record) = held.remove(&name) else {
            wrong.push(format!("{place} is not there"));
            continue;
        };
        let values =
            Place { opener: &opener, model: &name.model, record_id: &record.record_id, renamed: &[] };
        let want = governed(&name.model, &row)?;
        image("after", Some(&want), record.after.as_deref(), &values, &place, &mut wrong);
    }
    wrong.extend(held.keys().map(|name| format!("warehouse: {} {} must not be there", name.model, name.key)));
    Ok(wrong)
}

/// What the target holds in the end is what it was sent last.
fn held(target: &Target, oracle: &TargetOracle, wrong: &mut Vec<String>) {
    let records = target.records();
    for (record, sent) in &oracle.deliveries {
        let last = sent.last();
        let right = match (records.get(record), last) {
            (Some(held), Some(last)) => {
                last.version.as_ref().is_none_or(|version| *version == held.version)
                    && held.after.is_some() == last.after.is_some()
            }
            _ => false,
        };
        if !right {
            wrong.push(format!("{}: {} {} does not end as it must", target.name(), record.model, record.key));
        }
    }
}

fn deliveries(
    target: &str,
    record: &RecordName,
    sent: &[Sent],
    got: &[Delivery],
    renamed: &[(&str, &str)],
    opener: &Opener,
    wrong: &mut Vec<String>,
) {
    let place = format!("{target}: {} {}", record.model, record.key);
    if sent.len() != got.len() {
        let happened = |list: Vec<&str>| list.join(", ");
        wrong.push(format!(
            "{place}: got [{}], expected [{}]",
            happened(got.iter().map(Delivery::happened).collect()),
            happened(sent.iter().map(|sent| sent.happened).collect()),
        ));
        return;
    }
    for (at, (sent, got)) in sent.iter().zip(got).enumerate() {
        let place = format!("{place}, delivery {at}");
        let mut differ = |what: &str| wrong.push(format!("{place}: {what}"));
        if got.happened() != sent.happened {
            differ("another operation");
        }
        if sent.version.as_ref().is_some_and(|version| version != got.envelope("sequence")) {
            differ("another version");
        }
        if got.envelope("time") != sent.occurred_at {
            differ("another time");
        }
        if got.envelope("source") != format!("/datasync/{}", sent.source)
            || got.envelope("origin") != sent.source
        {
            differ("another source");
        }
        if record.model == "customer" && got.envelope("subjectkeyid").len() != 43 {
            differ("no subjectkeyid");
        }
        let record_id = got.envelope("subject");
        let values = Place { opener, model: &record.model, record_id, renamed };
        for (name, want) in [("after", &sent.after), ("before", &sent.before)] {
            image(name, want.as_ref(), got.image(name), &values, &place, wrong);
        }
    }
}

fn image(
    name: &str,
    want: Option<&Want>,
    got: Option<&str>,
    values: &Place<'_>,
    place: &str,
    wrong: &mut Vec<String>,
) {
    match (want, got) {
        (None, None) => {}
        (Some(want), Some(got)) => {
            wrong.extend(
                differences(want, got, values).into_iter().map(|what| format!("{place}: {name}.{what}")),
            );
        }
        (Some(_), None) => wrong.push(format!("{place}: no {name}")),
        (None, Some(_)) => wrong.push(format!("{place}: {name} must not be there")),
    }
}

type TicketKind = (String, String, String, Option<String>);

fn tickets(items: &[Value], oracle: &Oracle, wrong: &mut Vec<String>) {
    let mut counts: BTreeMap<TicketKind, (usize, usize)> = BTreeMap::new();
    for item in items {
        let text = |name: &str| item[name]["S"].as_str().map(str::to_owned);
        let of = |name| text(name).unwrap_or_default();
        counts.entry((of("stage"), of("reason"), of("model"), text("target"))).or_default().0 += 1;
        if text("message_id").is_none() || !item["expires_at"]["N"].is_string() {
            wrong.push(format!("a ticket of {} lacks its message or end", of("stage")));
        }
    }
    for ticket in &oracle.tickets {
        let kind =
            (ticket.stage.into(), ticket.code.into(), ticket.model.into(), ticket.target.map(str::to_owned));
        counts.entry(kind).or_default().1 += 1;
    }
    for ((stage, code, model, target), (got, want)) in counts {
        if got != want {
            let target = target.map(|target| format!(" for {target}")).unwrap_or_default();
            wrong.push(format!("tickets of {stage}{target}, {model}, {code}: {got}, expected {want}"));
        }
    }
}

/// One target was away in the day, for many records, and there is one ticket of it.
fn outages(items: &[Value], wrong: &mut Vec<String>) {
    let of = |item: &Value, name: &str| item[name]["S"].as_str().unwrap_or_default().to_owned();
    let away = |item: &&Value| {
        of(item, "stage") == "deliver"
            && of(item, "target") == "loyalty"
            && ["target_unavailable", "target_unreachable"].contains(&of(item, "reason").as_str())
    };
    let found = items.iter().filter(away).count();
    if found != 1 || items.len() != 1 {
        wrong.push(format!(
            "tickets of targets that were away: {found} of loyalty among {}, expected 1",
            items.len()
        ));
    }
}

async fn dead_letters(rig: &Rig, oracle: &Oracle, wrong: &mut Vec<String>) -> Result<()> {
    let mut expected = oracle.dead_letters();
    let held = rig.aws().held().await?;
    for logical_id in
        rig.stack.resources().keys().filter(|logical_id| logical_id.ends_with("DeadLetterQueue"))
    {
        let name = rig.stack.queue_name(logical_id)?;
        let letters: Vec<_> = held.iter().filter(|held| held.queue == name).collect();
        let want = expected.remove(logical_id.as_str()).unwrap_or_default();
        if letters.len() != want {
            wrong.push(format!("{logical_id}: {} dead letters, expected {want}", letters.len()));
        }
        for letter in letters {
            for attribute in ["reason", "message_id", "tries"] {
                if letter.attribute(attribute).is_none() {
                    wrong.push(format!("{logical_id}: a dead letter has no {attribute}"));
                }
            }
        }
    }
    Ok(())
}
