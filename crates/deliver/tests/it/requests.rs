//! What is sent, to whom, in which order.

use std::time::Duration;

use sync_domain::webhook::{Secrets, TOLERANCE};
use sync_http::Client;
use sync_testkit::{Record, event_of};

use crate::endpoint::Got;
use crate::world::{NOW, OTHER_SECRET, PLAIN, SECRET, SECRET_NAME, Sample, World, batch, delete, update};

fn verify(secret: &str, got: &Got) -> bool {
    let (id, at, signature) =
        (got.header("webhook-id"), got.header("webhook-timestamp"), got.header("webhook-signature"));
    Secrets::parse(secret).unwrap().verify(id, at, signature, got.body.as_bytes(), NOW, TOLERANCE).is_ok()
}

#[tokio::test]
async fn an_event_arrives_signed_and_without_what_is_ours() {
    let world = World::plain().await;
    let event = Sample { changed: r#"["email"]"#, ..update(1) };
    assert!(world.one(&event).await);
    let got = world.endpoint.got().remove(0);
    assert_eq!(got.line, "POST /hook HTTP/1.1");
    assert_eq!(got.header("content-type"), "application/cloudevents+json");
    assert_eq!(got.header("webhook-id"), event.id());
    assert_eq!(got.header("webhook-timestamp"), NOW.to_string());
    assert!(got.header("user-agent").starts_with("datasync/"));
    assert!(got.header("traceparent").starts_with("00-0af7651916cd43dd"));
    assert!(verify(SECRET, &got) && !verify(OTHER_SECRET, &got));
    let ours = format!(r#","fingerprints":{{"{}":"fingerprint"}}"#, event.nonce);
    assert_eq!(got.body, event.body().replace(&ours, ""), "nothing else is touched");
}

#[tokio::test]
async fn both_live_secrets_sign() {
    let world = World::plain().await;
    world.secrets.set(SECRET_NAME, &format!(r#"{{"current":"{OTHER_SECRET}","previous":"{SECRET}"}}"#));
    assert!(world.one(&update(1)).await);
    let got = world.endpoint.got().remove(0);
    assert!(verify(SECRET, &got) && verify(OTHER_SECRET, &got));
}

#[tokio::test]
async fn an_api_key_goes_in_its_header() {
    let yaml = "
target: loyalty
subscribe: [{ model: customer }]
endpoint: { url: \"URL\", auth: { api_key: { header: X-Api-Key, secret: datasync/target/loyalty } } }
";
    let world = World::of(yaml).await;
    world.secrets.set(SECRET_NAME, "key-1");
    assert!(world.one(&update(1)).await);
    let got = world.endpoint.got().remove(0);
    assert_eq!((got.header("x-api-key"), got.header("webhook-signature")), ("key-1", ""));
    assert_eq!(got.header("webhook-id"), update(1).id());
}

#[tokio::test]
async fn a_target_gets_its_part_under_its_names() {
    let yaml = "
target: loyalty
subscribe: [{ model: customer }]
attributes: [{ email: mail }, balance]
endpoint: { url: \"URL\", auth: none }
";
    let world = World::of(yaml).await;
    assert!(world.one(&Sample { changed: r#"["email","national_id"]"#, ..update(1) }).await);
    let got = world.endpoint.got().remove(0);
    assert!(
        got.body.contains(r#""after":{"mail":"a@example.com","balance":1.10},"changed":["mail"]"#),
        "{}",
        got.body
    );
    assert!(!got.body.contains("dse1."));
}

#[tokio::test]
async fn the_ledger_decides_between_create_and_update() {
    let yaml = "
target: loyalty
subscribe: [{ model: customer }]
attributes: [customer_id, email]
endpoint:
  url: \"URL\"
  auth: none
  operations:
    create: { path: /customers, body: attributes }
    update: { method: PUT, path: \"/customers/{customer_id}\", body: attributes }
    delete: { method: DELETE, path: \"/customers/{customer_id}\", body: none }
";
    let world = World::of(yaml).await;
    let another = Sample { email: "b@example.com", ..update(2) };
    for event in [&update(1), &another, &delete(3), &Sample { kind: "snapshot", ..update(4) }] {
        assert!(world.one(event).await);
    }
    let got = world.endpoint.got();
    let lines: Vec<_> = got.iter().map(|got| got.line.trim_end_matches(" HTTP/1.1")).collect();
    assert_eq!(
        lines,
        ["POST /hook/customers", "PUT /hook/customers/1", "DELETE /hook/customers/1", "POST /hook/customers"]
    );
    assert_eq!(got[1].body, r#"{"customer_id":1,"email":"b@example.com"}"#);
    assert_eq!(got[1].header("content-type"), "application/json");
    assert_eq!((got[2].body.as_str(), got[2].header("content-type")), ("", ""));
    assert_eq!(got[2].header("ce-sequence"), format!("00000000-{:040}", 3));
    assert_eq!(got[2].header("ce-type"), "customer.deleted");
}

#[tokio::test]
async fn a_key_that_would_lead_elsewhere_is_dead_lettered() {
    let yaml = "
target: loyalty
subscribe: [{ model: customer }]
endpoint: { url: \"URL\", auth: none, operations: { create: { path: \"/c/{customer_id}\" } } }
";
    let world = World::of(yaml).await;
    let body = update(1).body().replace(r#""key":{"customer_id":1}"#, r#""key":{"customer_id":".."}"#);
    assert!(world.work(event_of([Record::new("m", &body).build()])).await.is_empty());
    assert_eq!((world.dead(), world.arrived()), (vec!["key_not_fit_for_path".to_owned()], 0));
}

#[tokio::test]
async fn only_what_was_asked_for_is_sent() {
    let yaml = "
target: loyalty
subscribe: [{ model: customer, operations: [create, update], when_changed: [email], snapshot: false }]
endpoint: { url: \"URL\", auth: none }
";
    let world = World::of(yaml).await;
    for event in [
        Sample { model: "price", ..update(1) },
        Sample { kind: "snapshot", ..update(1) },
        Sample { extra: r#","only":"warehouse""#, ..update(1) },
        delete(1),
    ] {
        assert!(world.one(&event).await);
        assert_eq!((world.arrived(), world.ledger.rows().len()), (0, 0), "{event:?}");
    }
    assert_eq!(world.ledger.read_faults.calls(), 0, "what is not asked for asks nothing of the ledger");
    for event in [
        Sample { extra: r#","only":"loyalty""#, ..update(1) },
        Sample { changed: r#"["email"]"#, email: "b", ..update(2) },
    ] {
        assert!(world.one(&event).await);
    }
    assert_eq!(world.arrived(), 2);
}

#[tokio::test]
async fn an_update_of_other_attributes_is_sent_only_at_first_sight() {
    let yaml = "
target: loyalty
subscribe: [{ model: customer, when_changed: [email] }]
endpoint: { url: \"URL\", auth: none }
";
    let world = World::of(yaml).await;
    let other = |version, email| Sample { changed: r#"["balance"]"#, email, ..update(version) };
    assert!(world.one(&other(1, "a")).await);
    assert_eq!(world.arrived(), 1, "the target has never seen the record");
    assert!(world.one(&other(2, "b")).await);
    assert_eq!(world.arrived(), 1);
    assert!(world.one(&delete(3)).await);
    assert!(world.one(&other(4, "c")).await);
    assert_eq!(world.arrived(), 3, "after a delete it is a first sight again");
}

#[tokio::test]
async fn the_events_of_a_record_go_in_order() {
    let world = World::plain().await;
    let events: Vec<_> =
        ["a", "b", "c", "d"].into_iter().zip(1..).map(|(email, v)| Sample { email, ..update(v) }).collect();
    assert!(world.work(batch(&events)).await.is_empty());
    assert_eq!(world.endpoint.ids(), events.iter().map(Sample::id).collect::<Vec<_>>());
    assert_eq!(world.row().unwrap().version.to_string(), format!("00000000-{:040}", 4));
}

#[tokio::test]
async fn records_go_side_by_side() {
    let world = World::plain().await;
    // No answer comes before all have arrived: one after the other they would run into the time-out.
    world.endpoint.wait_for(5);
    let events: Vec<_> = (1..=5).map(|record| Sample { record, ..update(1) }).collect();
    assert!(world.work(batch(&events)).await.is_empty());
    assert_eq!(world.ledger.rows().len(), 5);
}

#[tokio::test]
async fn a_failure_holds_up_its_record_and_no_other() {
    let world = World::plain().await;
    world.endpoint.then(&[503]);
    let (first, behind) = (Sample { email: "x", ..update(1) }, Sample { email: "y", ..update(2) });
    let other = Sample { record: 2, ..update(1) };
    let failed = world.work(batch([&first, &behind, &other])).await;
    assert_eq!(failed, [first.id(), behind.id()]);
    assert_eq!(world.endpoint.ids(), [first.id(), other.id()]);
    let receipts = vec![format!("receipt-{}-1", first.id()), format!("receipt-{}-1", behind.id())];
    let (delayed, delay) = world.inbox.delays().remove(0);
    assert_eq!(delayed, receipts, "the whole group waits");
    assert!(delay > Duration::from_secs(1) && delay <= Duration::from_secs(2), "{delay:?}");
    assert_eq!(world.inbox.delays().len(), 1);
}

#[tokio::test]
async fn nothing_is_sent_that_could_not_end_in_time() {
    let world = World::plain().await;
    let failed = world.work_within(batch([&update(1)]), Duration::from_secs(4)).await;
    assert_eq!((failed, world.arrived()), (vec![update(1).id()], 0));
    assert!(world.inbox.delays()[0].1 <= Duration::from_secs(2), "the first step of the backoff");
    assert!(world.work_within(batch([&update(1)]), Duration::from_secs(6)).await.is_empty());
}

#[tokio::test]
async fn an_address_inside_is_never_called() {
    let mut world = World::plain().await;
    world.deps.http = Client::new(deliver::deps::guard(&world.deps.target, false));
    let failed = world.work(batch([&update(1)])).await;
    assert_eq!((failed.len(), world.arrived()), (1, 0));
    assert_eq!(world.reported(), ["target_misconfigured"]);
    assert_eq!(world.bus.reported()[0].reason.place, "address_refused");
}

#[tokio::test]
async fn user_and_password_or_a_token_go_as_authorization() {
    let odd = r#"{"username":"u","password":"p:\"ä"}"#;
    // Each: the kind, a good secret, what arrives, a secret of a wrong form.
    for (kind, secret, arrives, wrong) in
        [("basic", odd, "Basic dTpwOiLDpA==", "u:p"), ("bearer", "token-1==", "Bearer token-1==", "token 1")]
    {
        let auth = format!("auth: {{ {kind}: {SECRET_NAME} }}");
        let world =
            World::of(&PLAIN.replace("auth: { standard_webhooks: datasync/target/loyalty }", &auth)).await;
        world.secrets.set(SECRET_NAME, secret);
        assert!(world.one(&update(1)).await, "{kind}");
        let got = world.endpoint.got().remove(0);
        assert_eq!((got.header("authorization"), got.header("webhook-signature")), (arrives, ""), "{kind}");

        // Refused with the secret that was cached, taken with the one that has replaced it.
        let new = secret.replace("ä", "é").replace('1', "2");
        world.secrets.set(SECRET_NAME, &new);
        world.endpoint.then(&[401]);
        assert!(world.one(&Sample { email: "b", ..update(2) }).await, "{kind}");
        let got = world.endpoint.got();
        assert_eq!((got.len(), got[1].header("authorization")), (3, arrives), "{kind}");
        assert_ne!(got[2].header("authorization"), arrives, "{kind}");
        assert!(world.reported().is_empty(), "{kind}");

        world.secrets.set(SECRET_NAME, wrong);
        world.endpoint.then(&[401]);
        assert!(!world.one(&Sample { email: "c", ..update(3) }).await, "{kind}");
        assert_eq!(
            (world.arrived(), world.reported()),
            (4, vec!["target_misconfigured".to_owned()]),
            "{kind}"
        );
        assert!(world.dead().is_empty(), "{kind}: the record is not to blame");
        assert!(!format!("{:?}", world.bus.reported()).contains(wrong), "{kind}");
    }
}
