//! Dead letters that are sent back after newer versions went through never take a target back, and none gets lost, whatever
//! ends a redrive half-way.

use std::collections::BTreeMap;
use std::path::Path;

use sync_chaos::{Depot, Grants};
use sync_tests::change::RecordName;
use sync_tests::raw;

const DATASYNC: &str = env!("CARGO_BIN_EXE_chaos-datasync");
const DELIVER: &str = env!("CARGO_BIN_EXE_chaos-deliver");

/// The versions of each record whose events are dead-lettered, ten times these.
const LETTERS: std::ops::RangeInclusive<u32> = 1..=10;
/// So many letters at a time: a long queue makes the emulator slow.
const SLICE: u32 = 1_000;

/// A value of a person that no command may print.
const CANARY: &str = "anna@canary.example";

/// What OPERATIONS.md asks for.
const OPERATOR: Grants = Grants {
    role: "operator",
    letters: &[
        "sqs:GetQueueAttributes",
        "sqs:ReceiveMessage",
        "sqs:ChangeMessageVisibility",
        "sqs:DeleteMessage",
    ],
    queues: &["sqs:GetQueueAttributes", "sqs:SendMessage"],
    tickets: &["dynamodb:PutItem"],
};

/// How many letters in all.
fn count() -> u32 {
    std::env::var("CHAOS_LETTERS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// An event of a record at a version: id, group, body.
fn event(record: u32, version: u32) -> (String, String, String) {
    let (id, rid) = (format!("evt_{record}_{version}"), format!("rid_{record}"));
    let body = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/datasync/crm","type":"customer.updated","subject":"{rid}","time":"2026-11-24T20:19:23Z","datacontenttype":"application/json","dataschema":"urn:datasync:schema/customer/1","sequence":"00000000-{version:040}","partitionkey":"{rid}","policyversion":"p1","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","origin":"crm","data":{{"key":{{"customer_id":{record}}},"before":null,"after":{{"customer_id":{record},"tier":"{version}","name":{{"first":"{CANARY}"}}}},"changed":null}}}}"#
    );
    (id, rid, body)
}

fn record_name(record: u32) -> RecordName {
    RecordName { model: "customer".to_owned(), key: format!(r#"{{"customer_id":{record}}}"#) }
}

/// What went through in the meantime, by the record: nothing, something newer than all letters, something between them,
/// something newer that still waits in the queue.
fn newer(record: u32) -> Option<u32> {
    match record % 4 {
        0 => None,
        2 => Some(55),
        _ => Some(1_000),
    }
}

fn waits(record: u32) -> bool {
    record % 4 == 3
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_come_back_late_never_take_a_target_back() {
    let depot = Depot::make("letters", DELIVER.into()).await.unwrap();
    let program = Path::new(DATASYNC);
    let operator = depot.operator(OPERATOR).await.unwrap();
    let of = |role, letters, queues| Grants { role, letters, queues, tickets: &[] };
    let may_not_send = of("may-not-send", OPERATOR.letters, &["sqs:GetQueueAttributes"]);
    let may_not_send = depot.operator(may_not_send).await.unwrap();
    let may_not_delete = of("may-not-delete", &OPERATOR.letters[..3], OPERATOR.queues);
    let may_not_delete = depot.operator(may_not_delete).await.unwrap();
    depot.send("loyalty-dead", &[event(1, 1)]).await.unwrap();

    let (all, per_record) = (count(), 10);
    let mut done = 0;
    while done < all {
        let letters = SLICE.min(all - done);
        let records: Vec<u32> = (done / per_record..(done + letters) / per_record).collect();
        let events: Vec<_> = LETTERS
            .flat_map(|version| records.iter().map(move |record| event(*record, version * 10)))
            .collect();
        let as_many = events.len();

        depot.warehouse.refuse(Box::new(|_| Some(422)));
        depot.send("warehouse", &events).await.unwrap();
        depot.drain().await.unwrap();
        assert_eq!(depot.held("warehouse-dead").await.unwrap().len(), as_many);
        if done == 0 {
            // Sent back too early: each fails again, and is a letter again within the five minutes of its first redrive.
            let said = depot.dead_letters(program, &operator, &["redrive", "--rate", "3000"]).unwrap();
            assert_eq!(said.code, Some(0), "{}", said.text);
            depot.drain().await.unwrap();
            assert_eq!(
                depot.held("warehouse-dead").await.unwrap().len(),
                as_many,
                "a second redrive has no letters"
            );
        }

        depot.warehouse.refuse(Box::new(|_| None));
        let of_newer = |waiting: bool| {
            let some = records.iter().filter(move |record| waits(**record) == waiting);
            some.filter_map(|record| Some(event(*record, newer(*record)?))).collect::<Vec<_>>()
        };
        depot.send("warehouse", &of_newer(false)).await.unwrap();
        depot.drain().await.unwrap();
        let waiting = of_newer(true);
        depot.send("warehouse", &waiting).await.unwrap();
        let accepted = depot.warehouse.accepted();
        depot.outcomes().unwrap();

        // Broken off before the send, and between send and delete; and sent to somebody else's queue.
        let said = depot.dead_letters(program, &may_not_send, &["redrive"]).unwrap();
        assert_eq!(said.code, Some(2), "{}", said.text);
        assert_eq!(depot.held("warehouse-dead").await.unwrap().len(), as_many, "what was not sent is kept");
        let said = depot.dead_letters(program, &may_not_delete, &["redrive"]).unwrap();
        assert_eq!(said.code, Some(2), "{}", said.text);
        assert_eq!(depot.held("warehouse").await.unwrap().len(), waiting.len() + 10, "ten were sent");
        assert_eq!(depot.held("warehouse-dead").await.unwrap().len(), as_many, "and not deleted");
        assert_eq!(depot.hidden("warehouse-dead").await.unwrap(), 0, "all is visible again");
        let wrong = ["redrive", "--queue", depot.url("loyalty")];
        let said = depot.dead_letters(program, &operator, &wrong).unwrap();
        assert!(said.code == Some(2) && said.text.contains("nothing was sent"), "{}", said.text);

        let said = depot.dead_letters(program, &operator, &["redrive", "--rate", "3000"]).unwrap();
        assert!(
            said.text.starts_with(&format!("{as_many} seen, {as_many} sent back, 0 left")),
            "{}",
            said.text
        );
        assert!(!said.text.contains(CANARY));
        assert_eq!(depot.held("warehouse-dead").await.unwrap().len(), 0);
        let back = depot.held("warehouse").await.unwrap();
        assert_eq!(
            back.len(),
            as_many + waiting.len(),
            "the ten that were sent before are the same messages"
        );
        for held in &back {
            let group = raw::text(raw::at(held.body(), "partitionkey").unwrap().unwrap()).unwrap();
            assert_eq!(held.message["MessageGroupId"], group.as_str());
            assert_eq!((held.attribute("type"), held.attribute("reason")), (Some("customer.updated"), None));
        }

        depot.drain().await.unwrap();
        let mut ends: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (event, outcome) in depot.outcomes().unwrap() {
            ends.entry(event).or_default().push(outcome);
        }
        let mut delivered = 0;
        for record in &records {
            for version in
                LETTERS.map(|version| version * 10).chain(newer(*record).filter(|_| waits(*record)))
            {
                let stale = newer(*record).is_some_and(|newer| newer > version);
                let expected = if stale { "stale" } else { "delivered" };
                assert_eq!(
                    ends.remove(&event(*record, version).0).unwrap(),
                    [expected],
                    "{record} {version}"
                );
                delivered += usize::from(!stale);
            }
        }
        assert!(ends.is_empty(), "{ends:?}");
        assert_eq!(depot.warehouse.accepted() - accepted, delivered);
        done += letters;
        println!(
            "{done} letters: of the last {as_many} and {} newer {delivered} delivered, all others stale",
            waiting.len()
        );
    }

    assert_eq!(depot.warehouse.faults(), Vec::<String>::new());
    assert_eq!(depot.warehouse.repeated(), 0, "something was applied twice");
    let held = depot.warehouse.records();
    for record in 0..all / per_record {
        let version = newer(record).map_or(100, |newer| newer.max(100));
        assert_eq!(held[&record_name(record)].version, format!("00000000-{version:040}"));
    }
    assert_eq!(depot.held("loyalty").await.unwrap().len(), 0, "another target got something");
    assert_eq!(depot.held("loyalty-dead").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_found_shown_and_discarded_without_a_value() {
    let depot = Depot::make("letters-desk", DELIVER.into()).await.unwrap();
    let program = Path::new(DATASYNC);
    let operator = depot.operator(OPERATOR).await.unwrap();
    depot.warehouse.refuse(Box::new(|_| Some(422)));
    let events: Vec<_> = (0..30).map(|n| event(n / 2, n)).collect();
    depot.send("warehouse", &events).await.unwrap();
    depot.drain().await.unwrap();
    let said = |words: &[&str]| {
        let said = depot.dead_letters(program, &operator, words).unwrap();
        assert_eq!(said.code, Some(0), "{}", said.text);
        assert!(!said.text.contains(CANARY), "{}", said.text);
        said.text
    };

    let list = said(&["list"]);
    assert!(list.contains("\nrefused_by_target: 30\n30 seen, 30 listed, 0 left as they are\n"), "{list}");
    let mine = ["--key", r#"{"customer_id":7}"#, "--model", "customer", "--since", "1h"];
    // At once again: what a list saw is visible when it ends, and so is what its filter left out.
    let list = said(&[&["list"], mine.as_slice()].concat());
    assert!(list.contains("30 seen, 2 listed, 28 left as they are\n"), "{list}");
    assert_eq!(depot.hidden("warehouse-dead").await.unwrap(), 0);
    let id = list.split(' ').next().unwrap();
    let shown = said(&["show", id]);
    for line in [
        "reason: \"refused_by_target\"",
        "place: \"status 422\"",
        "key.customer_id: 7",
        "after.tier: \"14\"",
        "after.name.first: a text, personal",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }

    let discard = [&["discard", "--because", "a test account"], mine.as_slice()].concat();
    said(&discard);
    assert_eq!(depot.held("warehouse-dead").await.unwrap().len(), 30, "without --yes nothing is deleted");
    assert!(depot.tickets().await.unwrap().is_empty());
    let discarded = said(&[discard.as_slice(), &["--yes"]].concat());
    assert!(discarded.ends_with("30 seen, 2 deleted, 28 left as they are\n"), "{discarded}");
    let left = depot.held("warehouse-dead").await.unwrap();
    assert!(left.len() == 28 && left.iter().all(|held| held.message["MessageGroupId"] != "rid_7"));
    assert_eq!(depot.hidden("warehouse-dead").await.unwrap(), 0);
    let notes = depot.tickets().await.unwrap();
    assert_eq!(notes.len(), 2);
    for note in &notes {
        assert!(note["pk"]["S"].as_str().unwrap().starts_with("discard#"));
        assert_eq!((&note["rid"]["S"], &note["because"]["S"]), (&"rid_7".into(), &"a test account".into()));
        assert!(!note.to_string().contains(CANARY));
    }
}
