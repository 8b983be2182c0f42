//! The real function sends arrays to a target behind a real queue: each event ends as its own result says, in order.

use sync_chaos::Depot;
use sync_tests::change::RecordName;

const DELIVER: &str = env!("CARGO_BIN_EXE_chaos-deliver");

const RECORDS: u32 = 20;
const VERSIONS: u32 = 5;
/// The event that the target refuses.
const REFUSED: &str = "evt_7_3";

/// An event of a record at a version: id, group, body.
fn event(record: u32, version: u32) -> (String, String, String) {
    let (id, rid) = (format!("evt_{record}_{version}"), format!("rid_{record}"));
    let body = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/datasync/crm","type":"customer.updated","subject":"{rid}","time":"2026-11-24T20:19:23Z","datacontenttype":"application/json","dataschema":"urn:datasync:schema/customer/1","sequence":"00000000-{version:040}","partitionkey":"{rid}","policyversion":"p1","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","origin":"crm","data":{{"key":{{"customer_id":{record}}},"before":null,"after":{{"customer_id":{record},"tier":"{version}"}},"changed":null}}}}"#
    );
    (id, rid, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_an_array_ends_as_its_own_result_says_in_order_of_its_record() {
    let depot = Depot::of("arrays", DELIVER.into(), "  array: {}\n").await.unwrap();
    depot.warehouse.refuse(Box::new(|delivery| (delivery.envelope("id") == REFUSED).then_some(422)));
    let events: Vec<_> =
        (1..=VERSIONS).flat_map(|version| (1..=RECORDS).map(move |record| event(record, version))).collect();
    depot.send("warehouse", &events).await.unwrap();
    depot.drain().await.unwrap();

    assert_eq!(depot.warehouse.faults(), Vec::<String>::new(), "no version steps back");
    assert_eq!((depot.warehouse.accepted(), depot.warehouse.repeated()), (events.len() - 1, 0));
    let held = depot.warehouse.records();
    for record in 1..=RECORDS {
        let name = RecordName { model: "customer".to_owned(), key: format!(r#"{{"customer_id":{record}}}"#) };
        assert_eq!(held[&name].version, format!("00000000-{VERSIONS:040}"), "{name:?}");
    }
    let letters = depot.held("warehouse-dead").await.unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].body().contains(REFUSED));
    assert!(depot.held("warehouse").await.unwrap().is_empty());
    let arrays = depot.warehouse.arrays();
    assert!((1..=events.len() / 4).contains(&arrays), "{arrays} requests");
    println!("{} events in {arrays} requests", events.len());
}
