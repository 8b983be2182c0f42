//! A target that is a DynamoDB table never goes back, even if the ledger has forgotten all: the real function and the real
//! condition, against the emulator.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

use std::collections::BTreeMap;

use serde_json::Value;
use sync_chaos::Depot;

const DELIVER: &str = env!("CARGO_BIN_EXE_chaos-deliver");
const TABLE: &str = "profiles";
const RECORDS: u32 = 20;
/// The versions of each record, in an order that is none.
const VERSIONS: [u32; 10] = [3, 9, 1, 6, 2, 10, 5, 8, 4, 7];

/// An event of a record at a version: id, group, body.
fn event(record: u32, version: u32, deleted: bool) -> (String, String, String) {
    let (kind, after) = if deleted {
        ("deleted", "null".to_owned())
    } else {
        let digits = "12345678901234567890123456789012345678";
        (
            "updated",
            format!(
                r#"{{"customer_id":{record},"tier":"{version}","balance":{digits},"tags":[null,true,{{"a":1.50}}]}}"#
            ),
        )
    };
    let (id, rid) = (format!("evt_{record}_{version}_{kind}"), format!("rid_{record}"));
    let body = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/datasync/crm","type":"customer.{kind}","subject":"{rid}","time":"2026-11-24T20:19:23Z","datacontenttype":"application/json","dataschema":"urn:datasync:schema/customer/1","sequence":"00000000-{version:040}","partitionkey":"{rid}","policyversion":"p1","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","origin":"crm","data":{{"key":{{"customer_id":{record}}},"before":null,"after":{after},"changed":null}}}}"#
    );
    (id, rid, body)
}

/// The version of each item.
async fn versions(depot: &Depot) -> BTreeMap<String, u32> {
    let items = depot.items(TABLE).await.unwrap();
    let version = |item: &Value| {
        let text = item["datasync_version"]["S"].as_str().unwrap();
        (
            item["customer_id"]["N"].as_str().unwrap().to_owned(),
            text.rsplit('-').next().unwrap().parse().unwrap(),
        )
    };
    items.iter().map(version).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_never_goes_back_even_if_the_ledger_has_forgotten_all() {
    let depot = Depot::make("versions", DELIVER.into()).await.unwrap();
    depot.store(TABLE).await.unwrap();
    let (mut highest, mut delivered, mut stale) = (0, 0, 0);
    for version in VERSIONS {
        let events: Vec<_> = (1..=RECORDS).map(|record| event(record, version, false)).collect();
        depot.send("warehouse", &events).await.unwrap();
        depot.drain().await.unwrap();
        let outcomes = depot.outcomes().unwrap();
        let expected = if version > highest { "delivered" } else { "stale" };
        assert!(outcomes.iter().all(|(_, outcome)| outcome == expected), "version {version}: {outcomes:?}");
        delivered += outcomes.iter().filter(|(_, outcome)| outcome == "delivered").count();
        stale += outcomes.iter().filter(|(_, outcome)| outcome == "stale").count();
        highest = highest.max(version);
        assert!(versions(&depot).await.values().all(|own| *own == highest));
        depot.forget().await.unwrap();
    }
    assert_eq!((delivered, stale), (3 * 20, 7 * 20));
    assert_eq!(versions(&depot).await.len(), 20);
    println!("versions: {delivered} delivered, {stale} stale by the table alone");

    // What the item holds, in the table's own types and to the last digit.
    let items = depot.items(TABLE).await.unwrap();
    let item = items.iter().find(|item| item["customer_id"]["N"] == "7").unwrap();
    assert_eq!(item["balance"]["N"], "12345678901234567890123456789012345678");
    assert_eq!(item["tier"]["S"], "10");
    assert_eq!(
        (&item["tags"]["L"][0]["NULL"], &item["tags"]["L"][1]["BOOL"]),
        (&Value::Bool(true), &Value::Bool(true))
    );

    // A deleted record is not brought back by what is older, and by what is newer it is.
    for (version, deleted, expected) in
        [(20, true, "delivered"), (15, false, "stale"), (21, false, "delivered")]
    {
        depot.send("warehouse", &[event(1, version, deleted)]).await.unwrap();
        depot.drain().await.unwrap();
        assert_eq!(depot.outcomes().unwrap().pop().unwrap().1, expected, "version {version}");
        depot.forget().await.unwrap();
        let items = depot.items(TABLE).await.unwrap();
        let item = items.iter().find(|item| item["customer_id"]["N"] == "1").unwrap();
        let names: Vec<_> = item.as_object().unwrap().keys().map(String::as_str).collect();
        if version == 21 {
            assert!(!names.contains(&"datasync_expires_at"));
        } else {
            assert_eq!(names.len(), 3, "{names:?}");
        }
    }

    // The same event once more, of which nobody knows that it was taken.
    depot
        .send("warehouse", &[("again".to_owned(), "rid_2".to_owned(), event(2, 10, false).2)])
        .await
        .unwrap();
    depot.drain().await.unwrap();
    assert_eq!(depot.outcomes().unwrap().pop().unwrap().1, "delivered");
    assert!(depot.held("warehouse-dead").await.unwrap().is_empty());
    assert!(depot.tickets().await.unwrap().is_empty());
}
