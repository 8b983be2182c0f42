//! The enrich function as a whole: messages in, events and dead letters out, look-ups at a real HTTP service on this
//! machine or in a table in memory.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

mod service;
mod stand;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sync_domain::event::AttributeValue;
use sync_domain::outcome::Outcome;
use sync_domain::ports::Kind;
use sync_testkit::{Fault, MemoryLookup, Record, event_of};

use crate::service::{Service, answer};
use crate::stand::{MAX_RECEIVES, Stand, body, customer, http, model, wanted, wanted_version};

/// What the service says of a customer.
const FOUND: &str =
    r#"{"segment":"vip","rating":{"risk":"canary-risk-0001"},"advisor":"canary-advisor-0001","other":1}"#;

fn gold(customer_id: u32) -> Value {
    json!({"customer_id": customer_id, "tier": "gold"})
}

/// A service that knows every customer, and the function that asks it.
async fn knowing() -> (Service, Stand) {
    let service = Service::start(|_, _| answer(200, FOUND)).await;
    let stand = Stand::new(&http(&service.url("/customers/{customer_id}"), ""));
    (service, stand)
}

#[tokio::test]
async fn a_record_gets_what_the_service_says_of_it_protected_by_the_policy() {
    let (service, stand) = knowing().await;
    assert!(stand.work([wanted("m1", "r1", &gold(42))]).await.is_empty());
    assert_eq!(service.paths(), ["/customers/42"]);
    let [(rid, data)] = stand.published().try_into().unwrap();
    assert_eq!(rid, "r1");
    let after = &data["after"];
    assert_eq!(
        (&after["customer_id"], &after["tier"], &after["segment"]),
        (&json!(42), &json!("gold"), &json!("vip"))
    );
    let (risk, advisor) = (after["risk"].as_str().unwrap(), after["contact"]["advisor"].as_str().unwrap());
    assert!(risk.starts_with("dse1.") && advisor.starts_with("dst1."), "{risk} {advisor}");
    assert!(after.get("other").is_none(), "only what the model sets");
    let event = &stand.topic.published()[0];
    assert!(!event.body().contains("canary"), "{}", event.body());
    // The key that sealed it can be found by its id, so that somebody entitled can open it.
    let key_id = risk.split('.').nth(1).unwrap();
    let (model, attribute, _) = &stand.key_table.rows()[key_id];
    assert_eq!((model.as_str(), attribute.as_str()), ("customer", "risk"));
}

#[tokio::test]
async fn what_changed_is_not_known_of_a_record_that_was_looked_up() {
    let (_service, stand) = knowing().await;
    stand.work([wanted("m1", "r1", &gold(42))]).await;
    let event = &stand.topic.published()[0];
    let (_, changed) = event.attributes().iter().find(|(name, _)| *name == "changed").unwrap();
    assert_eq!(*changed, AttributeValue::List(vec!["any".to_owned(), "unknown".to_owned()]));
    assert_eq!(body(event)["data"]["changed"], Value::Null);
}

#[tokio::test]
async fn a_record_that_needs_no_look_up_passes_untouched() {
    let (service, stand) = knowing().await;
    let sent = customer("r1", 7, &json!({"customer_id": 1, "tier": "basic"}));
    let record = Record::new("m1", &sent).group("r1").attribute("enrich", "no");
    assert!(stand.work([record]).await.is_empty());
    let mut sent: Value = serde_json::from_str(&sent).unwrap();
    let event = &stand.topic.published()[0];
    let mut passed = body(event);
    // The id is made again of the same parts; the samples' is made up.
    (sent["id"], passed["id"]) = (Value::Null, Value::Null);
    assert_eq!(passed, sent);
    assert_eq!(service.paths(), Vec::<String>::new());
    assert_eq!(stand.key_service.faults.calls(), 0, "and needs no key");
}

#[tokio::test]
async fn a_message_that_comes_again_is_published_once_and_another_of_the_same_event_again() {
    let (_service, stand) = knowing().await;
    let passed = |id: &str, tier: &str| {
        let event = customer("r1", 7, &json!({"customer_id": 1, "tier": tier}));
        Record::new(id, &event).group("r1").attribute("enrich", "no")
    };
    // One version with two contents; the first comes again after a crash, then redriven.
    for (id, tier) in [("m1", "basic"), ("m2", "silver"), ("m1", "basic"), ("m3", "basic")] {
        assert!(stand.work([passed(id, tier)]).await.is_empty());
        assert!(stand.work([wanted(&format!("{id}-gold"), "r2", &gold(42))]).await.is_empty());
    }
    let tiers = |rid: &str| {
        let of_record = stand.published().into_iter().filter(|(record, _)| record == rid);
        of_record.map(|(_, data)| data["after"]["tier"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(tiers("r1"), ["basic", "silver", "basic"]);
    assert_eq!(tiers("r2"), ["gold", "gold", "gold"]);
}

#[tokio::test]
async fn a_deleted_record_passes_untouched_whatever_it_is_marked() {
    let (service, stand) = knowing().await;
    assert!(stand.work([wanted("m1", "r1", &Value::Null)]).await.is_empty());
    assert_eq!(stand.published()[0].1["after"], Value::Null);
    assert_eq!(service.paths().len(), 0);
}

#[tokio::test]
async fn a_record_that_the_service_does_not_know_gets_nulls() {
    let service = Service::start(|_, _| answer(404, "canary-body-0001")).await;
    let stand = Stand::new(&http(&service.url("/customers/{customer_id}"), ""));
    assert!(stand.work([wanted("m1", "r1", &gold(42))]).await.is_empty());
    let after = json!({"customer_id": 42, "tier": "gold", "segment": null, "risk": null, "contact": {"advisor": null}});
    assert_eq!(stand.published()[0].1["after"], after);
}

#[tokio::test]
async fn a_record_that_the_service_does_not_know_is_refused_where_the_model_says_so() {
    let service = Service::start(|_, _| answer(404, "")).await;
    let stand = Stand::new(&http(&service.url("/customers/{customer_id}"), "  absent: refuse\n"));
    assert!(stand.work([wanted("m1", "r1", &gold(42))]).await.is_empty());
    assert_eq!(stand.parked(), [("lookup_absent".to_owned(), String::new())]);
    assert!(stand.published().is_empty());
    let failure = &stand.bus.reported()[0];
    assert_eq!(failure.source.as_ref().unwrap().as_str(), "crm");
    assert_eq!(failure.model.as_ref().unwrap().as_str(), "customer");
    assert_eq!(failure.key.as_deref(), Some(r#"{"customer_id":42}"#));
    assert_eq!(failure.rid.as_ref().unwrap().as_str(), "r1");
}

#[tokio::test]
async fn a_record_without_the_input_of_the_look_up_is_one_that_nobody_knows() {
    let (service, stand) = knowing().await;
    let record = json!({"customer_id": null, "tier": "gold"});
    assert!(stand.work([wanted("m1", "r1", &record)]).await.is_empty());
    assert_eq!(stand.published()[0].1["after"]["segment"], Value::Null);
    assert_eq!(service.paths().len(), 0);
}

#[tokio::test]
async fn the_input_stays_in_its_place_of_the_address() {
    let (service, stand) = knowing().await;
    let evil = json!({"customer_id": "../admin?x=1&y#z%2e", "tier": "gold"});
    assert!(stand.work([wanted("m1", "r1", &evil)]).await.is_empty());
    assert_eq!(service.paths(), ["/customers/..%2Fadmin%3Fx%3D1%26y%23z%252e"]);
    let dots = json!({"customer_id": "..", "tier": "gold"});
    assert!(stand.work([wanted("m2", "r2", &dots)]).await.is_empty());
    assert_eq!(stand.parked(), [("lookup_input_unfit".to_owned(), "customer_id".to_owned())]);
    assert_eq!(service.paths().len(), 1);
}

#[tokio::test]
async fn the_same_question_in_one_batch_is_asked_once() {
    let service = Service::start(|_, _| answer(200, FOUND).after(Duration::from_millis(50))).await;
    let stand = Stand::new(&http(&service.url("/customers/{customer_id}"), "    cache: 0s\n"));
    let batch = ["r1", "r2", "r3"].map(|rid| wanted(rid, rid, &gold(42)));
    assert!(stand.work(batch).await.is_empty());
    assert_eq!((service.paths().len(), stand.published().len()), (1, 3));
    assert!(stand.work([wanted("m4", "r4", &gold(42))]).await.is_empty());
    assert_eq!(service.paths().len(), 2, "an age of zero is not used again in the next batch");
}

#[tokio::test]
async fn an_answer_is_used_again_while_it_is_young() {
    let (service, stand) = knowing().await;
    for number in 0..3 {
        let (id, rid) = (format!("m{number}"), format!("r{number}"));
        assert!(stand.work([wanted(&id, &rid, &gold(42))]).await.is_empty());
    }
    assert_eq!((service.paths().len(), stand.published().len()), (1, 3));

    let service = Service::start(|_, _| answer(200, FOUND)).await;
    let stand = Stand::new(&http(&service.url("/{customer_id}"), "    cache: 50ms\n"));
    stand.work([wanted("m1", "r1", &gold(42))]).await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    stand.work([wanted("m2", "r2", &gold(42))]).await;
    assert_eq!(service.paths().len(), 2, "past its age it is asked again");
}

#[tokio::test]
async fn an_answer_that_failed_is_not_kept() {
    let service = Service::start(|_, before| answer(if before == 0 { 422 } else { 200 }, FOUND)).await;
    let stand = Stand::new(&http(&service.url("/{customer_id}"), ""));
    stand.work([wanted("m1", "r1", &gold(42))]).await;
    assert_eq!(stand.parked(), [("lookup_refused".to_owned(), "422".to_owned())]);
    stand.work([wanted("m2", "r2", &gold(42))]).await;
    assert_eq!(stand.published().len(), 1);
}

#[tokio::test]
async fn a_service_that_stumbles_is_asked_again_within_the_invocation() {
    let service = Service::start(|_, before| match before {
        0 => answer(503, "").header("retry-after", "0"),
        1 => answer(429, ""),
        2 => answer(500, ""),
        _ => answer(200, FOUND),
    });
    let service = service.await;
    let stand = Stand::new(&http(&service.url("/{customer_id}"), ""));
    assert!(stand.work([wanted("m1", "r1", &gold(42))]).await.is_empty());
    assert_eq!((service.paths().len(), stand.published().len()), (4, 1));
}

#[tokio::test]
async fn a_service_that_stays_away_leaves_the_record_in_the_queue_and_at_last_in_the_dead_letter_queue() {
    let service = Service::start(|_, _| answer(503, "canary-body-0001")).await;
    let stand = Stand::new(&http(&service.url("/{customer_id}"), ""));
    let record = || wanted("m1", "r1", &gold(42));
    let report = stand.report([record()]).await;
    let Outcome::Retry(reason) = &report.outcomes[0] else { panic!("retry") };
    assert_eq!((reason.code.as_str(), reason.place.as_str()), ("lookup_unavailable", "503"));
    assert_eq!(report.response.batch_item_failures[0].item_identifier, "m1");
    assert!(stand.parked().is_empty());

    assert_eq!(stand.work([record().received(MAX_RECEIVES - 1)]).await, ["m1"]);
    assert!(stand.work([record().received(MAX_RECEIVES)]).await.is_empty());
    assert_eq!(stand.parked(), [("retries_exhausted".to_owned(), "lookup_unavailable".to_owned())]);
    let [letter] = stand.dead_letters.entries().try_into().unwrap();
    assert_eq!((letter.group.as_str(), letter.body), ("r1", customer("r1", 1, &gold(42))));
    assert!(letter.attributes.contains(&("enrich".to_owned(), "yes".to_owned())), "it can be redriven");
    assert!(stand.published().is_empty());
}

#[tokio::test]
async fn a_request_that_hangs_ends_at_its_time_out() {
    let service = Service::start(|_, before| {
        let delay = if before == 0 { Duration::from_secs(20) } else { Duration::ZERO };
        answer(200, FOUND).after(delay)
    });
    let service = service.await;
    let stand = Stand::new(&http(&service.url("/{customer_id}"), "    timeout: 200ms\n"));
    let start = Instant::now();
    assert!(stand.work([wanted("m1", "r1", &gold(42))]).await.is_empty());
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!((service.paths().len(), stand.published().len()), (2, 1));
}

#[tokio::test]
async fn no_look_up_starts_when_the_invocation_has_no_time_left() {
    let (service, mut stand) = knowing().await;
    stand.left = Duration::from_secs(5);
    assert_eq!(stand.work([wanted("m1", "r1", &gold(42))]).await, ["m1"]);
    assert_eq!(service.paths().len(), 0);
}

#[tokio::test]
async fn a_faulty_service_is_not_the_records_fault() {
    for (status, text) in [(200, "<html>canary-body</html>"), (200, ""), (401, ""), (301, ""), (405, "")] {
        let service = Service::start(move |_, _| answer(status, text).header("location", "/elsewhere")).await;
        let stand = Stand::new(&http(&service.url("/customers/{customer_id}"), ""));
        let report = stand.report([wanted("m1", "r1", &gold(42))]).await;
        let Outcome::Retry(reason) = &report.outcomes[0] else { panic!("{status}: retry") };
        assert!(!reason.to_string().contains("canary"));
        assert_eq!(service.paths(), ["/customers/42"], "{status}: asked once, no redirect followed");
        assert!(stand.parked().is_empty() && stand.published().is_empty());
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_taken() {
    let service =
        Service::start(|_, _| answer(200, &format!("{{\"segment\":\"{}\"}}", "x".repeat(300_000)))).await;
    let stand = Stand::new(&http(&service.url("/{customer_id}"), ""));
    assert_eq!(stand.work([wanted("m1", "r1", &gold(42))]).await, ["m1"]);
}

#[tokio::test]
async fn an_answer_of_the_wrong_type_is_refused_by_the_policy_and_not_repeated() {
    let service = Service::start(|_, _| answer(200, r#"{"segment":123456789012}"#)).await;
    let stand = Stand::new(&http(&service.url("/{customer_id}"), ""));
    assert!(stand.work([wanted("m1", "r1", &gold(42))]).await.is_empty());
    let [(code, place)] = stand.parked().try_into().unwrap();
    assert_eq!((code.as_str(), place.as_str()), ("lookup_type_mismatch", "segment"));
}

#[tokio::test]
async fn an_event_that_outgrows_the_topic_is_parked() {
    let service =
        Service::start(|_, _| answer(200, &format!("{{\"segment\":\"{}\"}}", "x".repeat(60_000)))).await;
    let stand = Stand::new(&http(&service.url("/{customer_id}"), ""));
    let large = json!({"customer_id": 1, "tier": "y".repeat(210_000)});
    assert!(stand.work([wanted("m1", "r1", &large)]).await.is_empty());
    assert_eq!(stand.parked()[0].0, "too_large");
    assert!(stand.published().is_empty());
}

#[tokio::test]
async fn groups_go_side_by_side() {
    let delay = Duration::from_millis(300);
    let service = Service::start(move |_, _| answer(200, FOUND).after(delay)).await;
    let stand = Stand::new(&http(&service.url("/{customer_id}"), ""));
    let batch = (1..=5).map(|n| wanted(&format!("m{n}"), &format!("r{n}"), &gold(n)));
    let start = Instant::now();
    assert!(stand.work(batch).await.is_empty());
    assert!(start.elapsed() < delay * 3, "{:?}", start.elapsed());
    assert_eq!((service.most_open(), stand.topic.faults.calls()), (5, 1));
}

#[tokio::test]
async fn a_group_goes_in_order() {
    // The first look-up is the slower one.
    let service = Service::start(|request, _| {
        answer(200, FOUND).after(Duration::from_millis(if request.path == "/1" { 200 } else { 0 }))
    });
    let service = service.await;
    let stand = Stand::new(&http(&service.url("/{customer_id}"), ""));
    let batch = [1, 2, 3].map(|n| wanted_version(&format!("m{n}"), "r1", n, &gold(n)));
    assert!(stand.work(batch).await.is_empty());
    assert_eq!(
        (service.paths(), service.most_open()),
        (vec!["/1".to_owned(), "/2".to_owned(), "/3".to_owned()], 1)
    );
    let sequences: Vec<Value> =
        stand.topic.published().iter().map(|event| body(event)["sequence"].take()).collect();
    assert_eq!(sequences, [1, 2, 3].map(|n| json!(format!("00000000-{n:040}"))));
}

#[tokio::test]
async fn a_record_that_fails_holds_its_own_group_and_no_other() {
    let service =
        Service::start(|request, _| answer(if request.path == "/2" { 401 } else { 200 }, FOUND)).await;
    let stand = Stand::new(&http(&service.url("/{customer_id}"), ""));
    let batch = [
        wanted_version("a1", "ra", 1, &gold(1)),
        wanted_version("a2", "ra", 2, &gold(2)),
        wanted_version("b1", "rb", 1, &gold(4)),
        wanted_version("a3", "ra", 3, &gold(3)),
    ];
    assert_eq!(stand.work(batch).await, ["a2", "a3"]);
    let published: Vec<String> = stand.published().into_iter().map(|(rid, _)| rid).collect();
    assert_eq!(published, ["ra", "rb"]);
    assert!(!service.paths().contains(&"/3".to_owned()), "what stands behind is not even asked for");
}

#[tokio::test]
async fn a_record_that_is_parked_lets_its_group_go_on() {
    let service =
        Service::start(|request, _| answer(if request.path == "/1" { 422 } else { 200 }, FOUND)).await;
    let stand = Stand::new(&http(&service.url("/{customer_id}"), ""));
    let batch = [wanted_version("a1", "ra", 1, &gold(1)), wanted_version("a2", "ra", 2, &gold(2))];
    assert!(stand.work(batch).await.is_empty());
    assert_eq!((stand.parked().len(), stand.published().len()), (1, 1));
}

#[tokio::test]
async fn a_record_that_cannot_be_parked_holds_its_group() {
    let service =
        Service::start(|request, _| answer(if request.path == "/1" { 422 } else { 200 }, FOUND)).await;
    let stand = Stand::new(&http(&service.url("/{customer_id}"), ""));
    stand.dead_letters.faults.push(Fault::Call(Kind::Unavailable));
    let batch = || [wanted_version("a1", "ra", 1, &gold(1)), wanted_version("a2", "ra", 2, &gold(2))];
    assert_eq!(stand.work(batch()).await, ["a1", "a2"]);
    assert!(stand.published().is_empty());
    assert!(stand.work(batch()).await.is_empty());
    assert_eq!((stand.parked().len(), stand.published().len()), (1, 1));
}

#[tokio::test]
async fn what_the_topic_did_not_take_comes_again_with_all_behind_it() {
    let (_service, stand) = knowing().await;
    let batch = || {
        [
            wanted_version("a1", "ra", 1, &gold(1)),
            wanted_version("b1", "rb", 1, &gold(2)),
            wanted_version("a2", "ra", 2, &gold(3)),
        ]
    };
    stand.topic.faults.push(Fault::Entries(vec![(0, Kind::Unavailable)]));
    assert_eq!(stand.work(batch()).await, ["a1", "a2"]);
    let [a1, _, a2] = batch();
    assert!(stand.work([a1, a2]).await.is_empty());
    let published: Vec<String> = stand.published().into_iter().map(|(rid, _)| rid).collect();
    assert_eq!(published, ["rb", "ra", "ra"]);
}

#[tokio::test]
async fn an_answer_of_the_topic_that_is_lost_makes_no_second_event() {
    let (_service, stand) = knowing().await;
    stand.topic.faults.push(Fault::Lost);
    let record = || wanted("m1", "r1", &gold(42));
    assert_eq!(stand.work([record()]).await, ["m1"]);
    assert!(stand.work([record().received(2)]).await.is_empty());
    assert_eq!(stand.published().len(), 1);
}

#[tokio::test]
async fn without_keys_nothing_is_published_and_the_record_comes_again() {
    for kind in [Kind::Unavailable, Kind::Refused] {
        let (_service, stand) = knowing().await;
        stand.key_service.faults.outage(kind);
        assert_eq!(stand.work([wanted("m1", "r1", &gold(42))]).await, ["m1"]);
        assert!(stand.published().is_empty() && stand.parked().is_empty());
        stand.key_service.faults.recover();
        assert!(stand.work([wanted("m1", "r1", &gold(42)).received(2)]).await.is_empty());
        assert_eq!(stand.published().len(), 1);
    }
}

#[tokio::test]
async fn a_key_that_does_not_stand_in_the_table_seals_nothing() {
    let (_service, stand) = knowing().await;
    stand.key_table.faults.push(Fault::Call(Kind::Unavailable));
    assert_eq!(stand.work([wanted("m1", "r1", &gold(42))]).await, ["m1"]);
    assert!(stand.published().is_empty());
    assert!(stand.work([wanted("m1", "r1", &gold(42))]).await.is_empty());
    let risk = stand.published()[0].1["after"]["risk"].as_str().unwrap().to_owned();
    assert!(stand.key_table.rows().contains_key(risk.split('.').nth(1).unwrap()));
}

#[tokio::test]
async fn the_keys_are_asked_for_once_and_not_per_record() {
    let (_service, stand) = knowing().await;
    for round in 0..5 {
        let batch = (0..10)
            .map(|n| wanted(&format!("m{round}-{n}"), &format!("r{round}-{n}"), &gold(round * 10 + n)));
        assert!(stand.work(batch).await.is_empty());
    }
    assert_eq!(stand.published().len(), 50);
    assert_eq!(stand.key_service.faults.calls(), 2, "one root, one data key");
}

#[tokio::test]
async fn what_is_no_event_is_parked_and_not_repeated() {
    let (service, stand) = knowing().await;
    let records = [
        Record::new("m1", "canary-body-0001").attribute("enrich", "yes"),
        Record::new("m2", r#"{"specversion":"1.0","source":"/datasync/crm"}"#).attribute("enrich", "yes"),
        Record::new("m3", &customer("r3", 1, &gold(1))).group("r3"),
        Record::new("m4", &customer("r4", 1, &gold(1))).group("r4").attribute("enrich", "canary-attribute"),
    ];
    assert!(stand.work(records).await.is_empty());
    let parked = stand.parked();
    let codes: Vec<&str> = parked.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(codes, ["not_an_event", "not_an_event", "attribute_missing", "attribute_missing"]);
    assert!(parked.iter().all(|(_, place)| !place.contains("canary")));
    assert_eq!((service.paths().len(), stand.published().len()), (0, 0));
}

#[tokio::test]
async fn a_model_whose_look_up_is_not_known_here_comes_again() {
    let (_service, stand) = knowing().await;
    let other = customer("r1", 1, &gold(1)).replace("customer.updated", "price.updated");
    let record = || Record::new("m1", &other).group("r1").attribute("enrich", "yes");
    assert_eq!(stand.work([record()]).await, ["m1"]);
    assert!(stand.work([record().received(MAX_RECEIVES)]).await.is_empty());
    assert_eq!(stand.parked(), [("retries_exhausted".to_owned(), "lookup_unknown".to_owned())]);
}

#[tokio::test]
async fn the_secret_is_sent_as_the_header_and_read_again_when_it_is_not_taken() {
    let service = Service::start(|request, _| {
        let known = request.headers.get("x-api-key").is_some_and(|key| key == "new-key");
        answer(if known { 200 } else { 401 }, FOUND)
    });
    let service = service.await;
    let api_key = "    api_key: { header: X-Api-Key, secret: datasync/lookup/crm }\n";
    let stand = Stand::new(&http(&service.url("/{customer_id}"), api_key));
    stand.secrets.set("datasync/lookup/crm", "old-key");
    assert_eq!(stand.work([wanted("m1", "r1", &gold(42))]).await, ["m1"]);
    assert_eq!(service.paths().len(), 1, "the same secret is not sent a second time");
    stand.secrets.set("datasync/lookup/crm", r#"{"current":"new-key","previous":"old-key"}"#);
    assert!(stand.work([wanted("m1", "r1", &gold(42))]).await.is_empty());
    let keys: Vec<String> = service.requests().into_iter().map(|r| r.headers["x-api-key"].clone()).collect();
    assert_eq!(keys, ["old-key", "old-key", "new-key"]);
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_sends_no_request() {
    let (service, _) = knowing().await;
    let api_key = "    api_key: { header: X-Api-Key, secret: datasync/lookup/none }\n";
    let stand = Stand::new(&http(&service.url("/{customer_id}"), api_key));
    assert_eq!(stand.work([wanted("m1", "r1", &gold(42))]).await, ["m1"]);
    assert_eq!(service.paths().len(), 0);
}

#[tokio::test]
async fn this_machine_is_out_of_reach_unless_it_is_allowed() {
    let (service, _) = knowing().await;
    let model = http(&service.url("/{customer_id}"), "");
    let stand = Stand::with(&model, MemoryLookup::new(), false);
    let report = stand.report([wanted("m1", "r1", &gold(42))]).await;
    let Outcome::Retry(reason) = &report.outcomes[0] else { panic!("retry") };
    assert_eq!((reason.code.as_str(), reason.place.as_str()), ("lookup_misconfigured", "address_refused"));
    assert_eq!(service.paths().len(), 0);
}

#[tokio::test]
async fn a_table_is_read_by_the_key_that_the_model_names() {
    let lookup = "  dynamodb:\n    table: segments\n    key: { pk: customer_id }\n    set: { segment: name, risk: r, advisor: a }\n";
    let tables = MemoryLookup::new().with(
        "segments",
        &[("pk", "42")],
        r#"{"pk":42,"name":"vip","r":"canary","a":null}"#,
    );
    let stand = Stand::with(&model(lookup), tables.clone(), false);
    tables.faults.push(Fault::Call(Kind::Unavailable));
    assert!(stand.work([wanted("m1", "r1", &gold(42)), wanted("m2", "r2", &gold(43))]).await.is_empty());
    let after = |at: usize| stand.published()[at].1["after"].clone();
    assert_eq!((&after(0)["segment"], &after(0)["contact"]["advisor"]), (&json!("vip"), &Value::Null));
    assert!(after(0)["risk"].as_str().unwrap().starts_with("dse1."));
    assert_eq!(after(1)["segment"], Value::Null, "no such item");
    assert_eq!(tables.faults.calls(), 3, "throttled once, then one read for each");
}

#[tokio::test]
async fn every_sample_event_is_handled() {
    let service = Service::start(|_, _| answer(200, FOUND)).await;
    let folder = format!("{}/../../events/enrich", env!("CARGO_MANIFEST_DIR"));
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let stand = Stand::new(&http(&service.url("/customers/{customer_id}"), ""));
        let event: aws_lambda_events::sqs::SqsEvent =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let count = event.records.len();
        let report = enrich::handle(
            event_of(event.records),
            &stand.deps,
            sync_lambda::deadline::Deadline::after(stand.left),
        );
        let report = report.await.unwrap();
        assert_eq!(report.response.batch_item_failures.len(), 0, "{name}");
        let parked = usize::from(name == "unreadable");
        assert_eq!((stand.parked().len(), stand.published().len()), (parked, count - parked), "{name}");
        names.push(name);
    }
    assert!(names.len() >= 4, "{names:?}");
}
