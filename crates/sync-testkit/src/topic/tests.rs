use futures_util::FutureExt;
use serde_json::json;
use sync_domain::event::ReceivedEvent;
use sync_domain::ports::Kind;

use super::*;

fn event(rid: &str, kind: &str, changed: &str, only: Option<&str>) -> Event {
    let only = only.map(|only| format!(r#""only":"{only}","#)).unwrap_or_default();
    let body = format!(
        concat!(
            r#"{{"specversion":"1.0","id":"evt_1","source":"/datasync/crm","type":"{}","subject":"{}","#,
            r#""time":"2026-11-24T20:19:23Z","datacontenttype":"application/json","dataschema":"urn:datasync:schema/customer/1","#,
            r#""sequence":"00000000-0000000000000000000000000000000000000042","partitionkey":"{}","policyversion":"1","#,
            r#""traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","origin":"crm",{}"#,
            r#""data":{{"key":{{"customer_id":1}},"before":null,"after":{{"customer_id":1}},"changed":{},"fingerprints":{{}}}}}}"#,
        ),
        kind, rid, rid, only, changed
    );
    ReceivedEvent::read(&body).unwrap().unchanged("m1")
}

fn publish(topic: &MemoryTopic, events: &[Event]) -> Vec<Result<()>> {
    topic.publish(events).now_or_never().unwrap()
}

#[test]
fn a_subscription_gets_what_its_policy_names() {
    let topic = MemoryTopic::new();
    let (phone, all, loyalty) =
        (MemoryQueue::new("phone"), MemoryQueue::new("all"), MemoryQueue::new("loyalty"));
    topic.subscribe(&json!({"model": ["customer"], "changed": ["phone", "unknown"]}), &phone).unwrap();
    topic.subscribe(&json!({"model": ["customer", "price"]}), &all).unwrap();
    topic.subscribe(&json!({"only": [{"exists": false}, "loyalty"]}), &loyalty).unwrap();
    publish(
        &topic,
        &[
            event("r1", "customer.updated", r#"["email"]"#, None),
            event("r2", "customer.updated", r#"["email","phone"]"#, Some("warehouse")),
            event("r3", "store.updated", r#"["phone"]"#, Some("loyalty")),
        ],
    );
    let groups =
        |queue: &MemoryQueue| queue.entries().into_iter().map(|entry| entry.group).collect::<Vec<_>>();
    assert_eq!(groups(&phone), ["r2"]);
    assert_eq!(groups(&all), ["r1", "r2"]);
    assert_eq!(groups(&loyalty), ["r1", "r3"]);
}

#[test]
fn an_event_is_delivered_once() {
    let topic = MemoryTopic::new();
    let queue = MemoryQueue::new("q");
    topic.subscribe(&json!({"model": ["customer"]}), &queue).unwrap();
    let event = event("r1", "customer.updated", "null", None);
    topic.fault(Fault::Lost);
    assert!(publish(&topic, std::slice::from_ref(&event))[0].is_err());
    assert!(publish(&topic, std::slice::from_ref(&event))[0].is_ok());
    assert_eq!((topic.published().len(), queue.entries().len()), (1, 1));
}

#[test]
fn a_failed_event_is_not_delivered() {
    let topic = MemoryTopic::new();
    topic.faults.outage(Kind::Unavailable);
    let event = event("r1", "customer.updated", "null", None);
    assert!(publish(&topic, std::slice::from_ref(&event))[0].is_err());
    topic.faults.recover();
    assert!(topic.published().is_empty());
    assert!(publish(&topic, &[event])[0].is_ok());
}

#[test]
fn a_policy_that_sns_would_refuse_is_refused() {
    let (topic, queue) = (MemoryTopic::new(), MemoryQueue::new("q"));
    let thirteen: Vec<String> = (0..13).map(|n| format!("x{n}")).collect();
    for policy in [
        json!([]),
        json!({"a": "not a list"}),
        json!({"a": []}),
        json!({"a": [{"wildcard": "x*"}]}),
        json!({"a": ["1"], "b": ["1"], "c": ["1"], "d": ["1"], "e": ["1"], "f": ["1"]}),
        json!({"a": thirteen, "b": thirteen}),
    ] {
        assert!(topic.subscribe(&policy, &queue).is_err(), "{policy}");
    }
}
