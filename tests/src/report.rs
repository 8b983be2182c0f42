//! The table at the end of the demo: what was sent, what each target got, what was protected how, what was refused.
//! It shows shapes, never values.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;

use crate::expected::{Treatment, attributes};
use crate::oracle::{Held, Oracle, TargetOracle};
use crate::raw;
use crate::run::Pushed;
use crate::target::{Delivery, Target};

/// Writes the whole table.
pub fn report(pushed: &Pushed, oracle: &Oracle, loyalty: &Target, warehouse: &Target) -> Result<String> {
    let mut out = String::new();
    sent(oracle, &mut out)?;
    received(&[(loyalty, &oracle.loyalty), (warehouse, &oracle.warehouse)], &mut out)?;
    protected(&warehouse.deliveries(), &mut out)?;
    refused(pushed, oracle, &mut out)?;
    Ok(out)
}

fn heading(title: &str, out: &mut String) -> Result<()> {
    Ok(writeln!(out, "\n{title}\n{}", "─".repeat(104))?)
}

fn sent(oracle: &Oracle, out: &mut String) -> Result<()> {
    heading("SENT", out)?;
    writeln!(
        out,
        "{:<14}{:<12}{:>9}{:>9}{:>9}{:>10}",
        "source", "model", "create", "update", "delete", "snapshot"
    )?;
    let mut rows: BTreeMap<(&str, &str), BTreeMap<&str, usize>> = BTreeMap::new();
    for ((source, model, operation), count) in &oracle.sent {
        *rows.entry((source, model)).or_default().entry(operation).or_default() += count;
    }
    for ((source, model), counts) in rows {
        let count = |operation: &str| counts.get(operation).copied().unwrap_or_default();
        let (create, update, delete, snapshot) =
            (count("create"), count("update"), count("delete"), count("snapshot"));
        writeln!(out, "{source:<14}{model:<12}{create:>9}{update:>9}{delete:>9}{snapshot:>10}")?;
    }
    Ok(())
}

fn received(targets: &[(&Target, &TargetOracle)], out: &mut String) -> Result<()> {
    heading("RECEIVED", out)?;
    writeln!(
        out,
        "{:<14}{:<12}{:>9}{:>9}{:>9}{:>10}{:>12}",
        "target", "model", "created", "updated", "deleted", "snapshot", "now held"
    )?;
    for (target, _) in targets {
        let mut rows: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for delivery in target.deliveries().iter().filter(|delivery| delivery.accepted()) {
            let row = rows.entry(delivery.model().to_owned()).or_default();
            *row.entry(delivery.happened().to_owned()).or_default() += 1;
        }
        let mut held: BTreeMap<String, usize> = BTreeMap::new();
        for (name, record) in target.records() {
            *held.entry(name.model).or_default() += usize::from(record.after.is_some());
        }
        for (model, counts) in rows {
            let count = |what: &str| counts.get(what).copied().unwrap_or_default();
            writeln!(
                out,
                "{:<14}{model:<12}{:>9}{:>9}{:>9}{:>10}{:>12}",
                target.name(),
                count("created"),
                count("updated"),
                count("deleted"),
                count("snapshot"),
                held.get(&model).copied().unwrap_or_default()
            )?;
        }
    }
    writeln!(out)?;
    for (target, oracle) in targets {
        let count = |held: Held| oracle.held.get(&held).copied().unwrap_or_default();
        writeln!(
            out,
            "{:<14}kept from it: {} not asked for, {} unchanged, {} older than what it has, {} refused by it, {} in conflict; {} tries failed",
            target.name(),
            count(Held::NotAsked),
            count(Held::Unchanged),
            count(Held::Stale),
            count(Held::Refused),
            count(Held::Conflict),
            target.deliveries().iter().filter(|delivery| !delivery.accepted()).count(),
        )?;
    }
    Ok(())
}

fn protected(deliveries: &[Delivery], out: &mut String) -> Result<()> {
    heading("PROTECTED (as the warehouse got it; 9 = a digit, a = a letter)", out)?;
    writeln!(out, "{:<12}{:<20}{:<30}shape", "model", "attribute", "rule")?;
    for model in ["customer", "price", "store", "setting"] {
        for attribute in attributes(model) {
            let rule = match attribute.treatment {
                Treatment::Token => "tokenize".to_owned(),
                Treatment::Sealed => "encrypt".to_owned(),
                Treatment::Redacted => "redact".to_owned(),
                Treatment::Masked(first, last) => masked_rule(first, last),
                Treatment::FullName => format!("computed, {}", masked_rule(1, 0)),
                Treatment::Clear | Treatment::FormatWord | Treatment::Segment => continue,
            };
            let values =
                deliveries.iter().filter(|delivery| delivery.model() == model && delivery.accepted());
            let shape = values
                .filter_map(|delivery| example(delivery.image("after")?, attribute.output))
                .max_by_key(String::len);
            writeln!(
                out,
                "{model:<12}{:<20}{rule:<30}{}",
                attribute.path,
                shape.unwrap_or_else(|| "null".to_owned())
            )?;
        }
    }
    writeln!(
        out,
        "not listed, so left behind: name.maiden, address.street, contacts[].label, notes, password_hint, margin, rent, changed_by"
    )?;
    Ok(())
}

fn masked_rule(first: usize, last: usize) -> String {
    match (first, last) {
        (first, 0) => format!("mask, keep_first {first}"),
        (0, last) => format!("mask, keep_last {last}"),
        (first, last) => format!("mask, keep_first {first}, keep_last {last}"),
    }
}

/// The shape of the value at a path; of an array, of its first element's.
fn example(record: &str, path: &str) -> Option<String> {
    let value = match path.split_once("[].") {
        None => raw::at(record, path).ok()??,
        Some((array, inner)) => {
            let elements = raw::elements(raw::at(record, array).ok()??).ok()?;
            raw::at(elements.first()?.get(), inner).ok()??
        }
    };
    Some(match raw::text(value) {
        Ok(text) => shape(&text),
        Err(_) => value.to_owned(),
    })
}

/// What a text looks like, without what it says.
fn shape(text: &str) -> String {
    for (prefix, kind) in [("dst1.", "token"), ("dse1.", "sealed value")] {
        if let Some((key_id, rest)) = text.strip_prefix(prefix).and_then(|rest| rest.split_once('.')) {
            return format!("{prefix}<key id, {}>.<{kind}, {} characters>", key_id.len(), rest.len());
        }
    }
    let like = |character: char| match character {
        _ if character.is_numeric() => '9',
        _ if character.is_alphabetic() => 'a',
        _ => character,
    };
    text.chars().map(like).collect()
}

fn refused(pushed: &Pushed, oracle: &Oracle, out: &mut String) -> Result<()> {
    heading("REFUSED AT THE PUSH ENDPOINT", out)?;
    for (code, count) in &pushed.refused {
        writeln!(out, "{count:>4}  change    {code}")?;
    }
    for (what, status, code) in &pushed.turned_away {
        writeln!(out, "   1  request   {status} {code} ({what})")?;
    }
    heading("COULD NOT GO ON (dead letter and ticket)", out)?;
    let mut rows: BTreeMap<_, usize> = BTreeMap::new();
    for ticket in &oracle.tickets {
        *rows.entry(ticket).or_default() += 1;
    }
    for (ticket, count) in rows {
        let target = ticket.target.map(|target| format!(" for {target}")).unwrap_or_default();
        writeln!(
            out,
            "{count:>4}  {:<26}{:<12}{}",
            format!("{}{target}", ticket.stage),
            ticket.model,
            ticket.code
        )?;
    }
    Ok(())
}
