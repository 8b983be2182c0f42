//! The ticket function as a whole, on events as EventBridge hands them over, with ports in memory.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};
use sync_domain::ports::Kind;
use sync_testkit::{Fault, MemoryAlerts, MemoryTickets};
use ticket::deps::Deps;
use ticket::{Done, Error, handle};

/// The function with twins to look into.
struct Stand {
    tickets: MemoryTickets,
    alerts: MemoryAlerts,
    deps: Deps,
}

impl Stand {
    fn new() -> Self {
        let (tickets, alerts) = (MemoryTickets::new(), MemoryAlerts::new());
        let deps =
            Deps { tickets: Arc::new(tickets.clone()), alerts: Arc::new(alerts.clone()), ticket_days: 30 };
        Self { tickets, alerts, deps }
    }

    async fn handle(&self, event: &Value) -> Result<Done, Error> {
        handle(&event.to_string(), &self.deps).await
    }
}

const NEW: Done = Done { opened: true, alerted: true };

/// An event out of `events/ticket/`.
fn event(name: &str) -> Value {
    let path = format!("{}/../../events/ticket/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The event with the part at the JSON pointer replaced.
fn with(mut event: Value, pointer: &str, value: Value) -> Value {
    *event.pointer_mut(pointer).unwrap() = value;
    event
}

#[tokio::test]
async fn every_sample_event_is_handled() {
    let folder = format!("{}/../../events/ticket", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 6, "the samples are there: {names:?}");
    let stand = Stand::new();
    for name in &names {
        let result = stand.handle(&event(name)).await;
        assert_eq!(result.is_err(), name == "malformed", "{name}: {result:?}");
    }
    assert_eq!(stand.tickets.tickets().len(), names.len() - 1);
}

#[tokio::test]
async fn a_failure_becomes_a_ticket_that_holds_what_the_event_says_and_ends() {
    let stand = Stand::new();
    assert_eq!(stand.handle(&event("refused-by-target")).await.unwrap(), NEW);
    let [ticket] = stand.tickets.tickets().try_into().unwrap();
    let detail = event("refused-by-target")["detail"].clone();
    assert_eq!(serde_json::to_value(&ticket.failure).unwrap(), detail);
    assert_eq!(ticket.failed_at, "2026-11-24T20:22:45Z");
    let failed_at: jiff::Timestamp = ticket.failed_at.parse().unwrap();
    assert_eq!(ticket.expires_at, failed_at.as_second() + 30 * 86_400);
    assert!(ticket.id.starts_with("tkt_") && ticket.id.len() == 47, "{}", ticket.id);
}

#[tokio::test]
async fn the_same_failure_handled_again_is_one_ticket_and_one_alert() {
    let stand = Stand::new();
    assert_eq!(stand.handle(&event("transform-failed")).await.unwrap(), NEW);
    let again = stand.handle(&event("transform-failed")).await.unwrap();
    assert_eq!(again, Done { opened: false, alerted: false });
    assert_eq!((stand.tickets.tickets().len(), stand.alerts.sent().len()), (1, 1));
}

#[tokio::test]
async fn ten_thousand_records_of_one_cause_are_ten_thousand_tickets_and_one_alert() {
    let stand = Stand::new();
    for number in 0..10_000 {
        let record = with(event("transform-failed"), "/detail/message_id", json!(format!("m-{number}")));
        stand.handle(&record).await.unwrap();
    }
    assert_eq!((stand.tickets.tickets().len(), stand.alerts.sent().len()), (10_000, 1));
}

#[tokio::test]
async fn each_cause_has_an_alert_and_each_hour() {
    let base = event("refused-by-target");
    let others = [
        ("/detail/stage", json!("enrich")),
        ("/detail/target", json!("warehouse")),
        ("/detail/source", json!("shop")),
        ("/detail/model", json!("price")),
        ("/detail/reason/code", json!("too_large")),
        ("/time", json!("2026-11-24T21:00:00Z")),
    ];
    let stand = Stand::new();
    stand.handle(&base).await.unwrap();
    for (at, (pointer, value)) in others.into_iter().enumerate() {
        let other = with(base.clone(), pointer, value);
        let other = with(other, "/detail/message_id", json!(format!("m-{at}")));
        assert_eq!(stand.handle(&other).await.unwrap(), NEW, "{pointer}");
    }
    // Later in the same hour, another record, another place: the same cause.
    let same = with(base, "/time", json!("2026-11-24T20:59:59.999Z"));
    let same = with(same, "/detail/message_id", json!("m-last"));
    let same = with(same, "/detail/reason/place", json!("400"));
    assert_eq!(stand.handle(&same).await.unwrap(), Done { opened: true, alerted: false });
}

#[tokio::test]
async fn a_redriven_record_that_fails_again_has_a_ticket_of_its_own() {
    let stand = Stand::new();
    let waits = event("target-misconfigured");
    let parked = with(waits.clone(), "/detail/dead_letter_queue", json!("https://sqs/dlq.fifo"));
    let redriven = with(parked.clone(), "/detail/message_id", json!("another"));
    for event in [&waits, &parked, &redriven] {
        assert!(stand.handle(event).await.unwrap().opened);
    }
    let ids: HashSet<String> = stand.tickets.tickets().into_iter().map(|ticket| ticket.id).collect();
    assert_eq!(ids.len(), 3);
    // The number of receives does not make another ticket of the same message.
    let received_again = with(redriven, "/detail/tries", json!(9));
    assert!(!stand.handle(&received_again).await.unwrap().opened);
}

#[tokio::test]
async fn an_alert_that_cannot_be_sent_fails_the_invocation_and_the_retry_sends_it() {
    let stand = Stand::new();
    stand.alerts.faults.outage(Kind::Unavailable);
    let failed = stand.handle(&event("transform-failed")).await.unwrap_err();
    assert!(matches!(failed, Error::Alert { .. }), "{failed:?}");
    assert_eq!(stand.alerts.faults.calls(), 3, "it tried more than once");
    assert!(stand.tickets.settled().is_empty());
    assert_eq!(stand.tickets.tickets().len(), 1, "the ticket stands all the same");

    stand.alerts.faults.recover();
    let retried = stand.handle(&event("transform-failed")).await.unwrap();
    assert_eq!(retried, Done { opened: false, alerted: true });
    assert_eq!(stand.alerts.sent().len(), 1);
}

#[tokio::test]
async fn an_alert_that_is_refused_is_not_tried_again_within_the_invocation() {
    let stand = Stand::new();
    stand.alerts.faults.outage(Kind::Refused);
    assert!(matches!(stand.handle(&event("transform-failed")).await, Err(Error::Alert { .. })));
    assert_eq!(stand.alerts.faults.calls(), 1);
    assert!(stand.tickets.settled().is_empty());
}

#[tokio::test]
async fn a_short_hiccup_of_the_alert_topic_does_not_fail_the_invocation() {
    let stand = Stand::new();
    stand.alerts.faults.push(Fault::Call(Kind::Unavailable));
    assert_eq!(stand.handle(&event("transform-failed")).await.unwrap(), NEW);
    assert_eq!(stand.alerts.sent().len(), 1);
}

#[tokio::test]
async fn an_attempt_that_dies_between_claim_and_alert_leaves_the_alert_to_the_next_one() {
    let stand = Stand::new();
    stand.tickets.faults.push(Fault::Pass); // the ticket
    stand.tickets.faults.push(Fault::Lost); // the claim: it stands, and its owner does not go on
    assert!(matches!(stand.handle(&event("transform-failed")).await, Err(Error::Claim { .. })));
    assert_eq!(stand.alerts.sent().len(), 0);

    let other = with(event("transform-failed"), "/detail/message_id", json!("another"));
    let beside = stand.handle(&other).await.unwrap();
    assert_eq!(beside, Done { opened: true, alerted: false }, "somebody else is at it");
    let retried = stand.handle(&event("transform-failed")).await.unwrap();
    assert_eq!(retried, Done { opened: false, alerted: true });
    let again = stand.handle(&event("transform-failed")).await.unwrap();
    assert_eq!((again.alerted, stand.alerts.sent().len()), (false, 1), "once it was sent it is settled");
}

#[tokio::test]
async fn an_alert_whose_owner_never_comes_back_goes_to_the_next_failure_of_its_cause() {
    let stand = Stand::new();
    stand.alerts.faults.push(Fault::Call(Kind::Refused));
    assert!(matches!(stand.handle(&event("transform-failed")).await, Err(Error::Alert { .. })));
    let other = |id| with(event("transform-failed"), "/detail/message_id", json!(id));
    stand.tickets.set_now(59);
    assert!(!stand.handle(&other("m-1")).await.unwrap().alerted);
    stand.tickets.set_now(60);
    assert!(stand.handle(&other("m-2")).await.unwrap().alerted);
    let [end] = stand.tickets.settled().into_values().collect::<Vec<_>>().try_into().unwrap();
    stand.tickets.set_now(end - 1);
    assert!(!stand.handle(&other("m-3")).await.unwrap().alerted, "a late retry does not alert again");
}

#[tokio::test]
async fn an_alert_that_is_not_noted_as_sent_does_not_fail_the_invocation() {
    let stand = Stand::new();
    stand.tickets.faults.push(Fault::Pass); // the ticket
    stand.tickets.faults.push(Fault::Pass); // the claim
    for _ in 0..3 {
        stand.tickets.faults.push(Fault::Call(Kind::Unavailable));
    }
    assert_eq!(stand.handle(&event("transform-failed")).await.unwrap(), NEW);
    assert!(stand.tickets.settled().is_empty());
}

#[tokio::test]
async fn a_failure_of_a_known_cause_costs_one_write_more_than_its_ticket() {
    let stand = Stand::new();
    stand.handle(&event("transform-failed")).await.unwrap();
    let before = stand.tickets.faults.calls();
    let other = with(event("transform-failed"), "/detail/message_id", json!("another"));
    stand.handle(&other).await.unwrap();
    assert_eq!(stand.tickets.faults.calls() - before, 2);
}

#[tokio::test]
async fn without_a_ticket_there_is_no_alert() {
    let stand = Stand::new();
    stand.tickets.faults.push(Fault::Call(Kind::Unavailable));
    assert!(matches!(stand.handle(&event("transform-failed")).await, Err(Error::Ticket { .. })));
    assert_eq!((stand.tickets.settled().len(), stand.alerts.sent().len()), (0, 0));
    stand.tickets.faults.push(Fault::Pass);
    stand.tickets.faults.push(Fault::Call(Kind::Unavailable));
    assert!(matches!(stand.handle(&event("transform-failed")).await, Err(Error::Claim { .. })));
    assert_eq!(stand.alerts.sent().len(), 0);
}

#[tokio::test]
async fn an_alert_says_what_where_and_what_to_do_and_no_value() {
    let stand = Stand::new();
    let secret =
        with(event("refused-by-target"), "/detail/key", json!("{\"customer_id\":\"canary-1234567\"}"));
    stand.handle(&secret).await.unwrap();
    let [(subject, text)] = stand.alerts.sent().try_into().unwrap();
    let id = &stand.tickets.tickets()[0].id;
    assert_eq!(subject, "Data Sync: refused_by_target in deliver for loyalty");
    for part in [
        "deliver",
        "refused_by_target",
        "422",
        "crm",
        "customer",
        "loyalty",
        "1 times",
        "2026-11-24T20:22:45Z",
        id,
        "datasync-loyalty-dead-letters.fifo",
        "b1c2d3e4-f5a6-4b7c-8d9e-0f1a2b3c4d5e",
        "redrive",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(!text.contains("canary") && !text.contains("customer_id"));
}

#[tokio::test]
async fn a_target_that_is_away_is_not_called_a_dead_letter() {
    let stand = Stand::new();
    stand.handle(&event("target-misconfigured")).await.unwrap();
    let [(_, text)] = stand.alerts.sent().try_into().unwrap();
    assert!(text.contains("its events wait in its queue") && !text.contains("redrive"), "{text}");
}

#[tokio::test]
async fn what_is_wrong_with_an_event_is_named_and_nothing_of_it_repeated() {
    let base = event("transform-failed");
    let replaced = [
        ("/source", json!("canary"), "source"),
        ("/detail-type", json!("canary"), "detail-type"),
        ("/time", json!("canary"), "time"),
        ("/detail", json!("canary"), "detail"),
        ("/detail/stage", json!("canary"), "detail.stage"),
        ("/detail/reason", json!("canary"), "detail.reason"),
        ("/detail/reason/code", json!("Canary value!"), "detail.reason.code"),
        ("/detail/reason/code", json!("canary".repeat(20)), "detail.reason.code"),
        ("/detail/source", json!("Canary Value"), "detail.source"),
        ("/detail/model", json!("Canary Value"), "detail.model"),
        ("/detail/target", json!(["canary"]), "detail.target"),
        ("/detail/rid", json!({"canary": 1}), "detail.rid"),
        ("/detail/key", json!(["canary"]), "detail.key"),
        ("/detail/event_id", json!(["canary"]), "detail.event_id"),
        ("/detail/message_id", json!(["canary"]), "detail.message_id"),
        ("/detail/tries", json!("canary"), "detail.tries"),
        ("/detail/dead_letter_queue", json!(["canary"]), "detail.dead_letter_queue"),
    ];
    let stand = Stand::new();
    for (pointer, value, named) in replaced {
        let error = stand.handle(&with(base.clone(), pointer, value)).await.unwrap_err().to_string();
        assert!(error.contains(named), "{pointer}: {error}");
        assert!(!error.to_lowercase().contains("canary"), "{pointer}: {error}");
    }
    for required in ["stage", "reason", "message_id", "tries"] {
        let mut event = base.clone();
        event["detail"].as_object_mut().unwrap().remove(required);
        let error = stand.handle(&event).await.unwrap_err().to_string();
        assert!(error.contains(&format!("detail.{required}")), "{error}");
    }
    for text in ["", "canary", "[]", "{}", "{\"detail\":{\"canary\":1,\"canary\":2}}"] {
        let error = handle(text, &stand.deps).await.unwrap_err().to_string();
        assert!(!error.contains("canary"), "{error}");
    }
    assert_eq!((stand.tickets.tickets().len(), stand.alerts.sent().len()), (0, 0));
}

#[tokio::test]
async fn parts_that_a_newer_version_adds_are_left_alone() {
    let mut event = event("transform-failed");
    event["detail"]["another"] = json!({"x": 1});
    assert_eq!(Stand::new().handle(&event).await.unwrap(), NEW);
}
