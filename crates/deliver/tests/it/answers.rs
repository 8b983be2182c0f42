//! What a target's answer leads to.

use std::time::Duration;

use sync_domain::ports::Kind;
use sync_testkit::{Fault, Record, event_of};

use crate::world::{OTHER_SECRET, PLAIN, SECRET, SECRET_NAME, Sample, World, advance, batch, delete, update};

#[tokio::test]
async fn what_the_target_refuses_for_good_is_dead_lettered_at_once() {
    for status in [400, 413, 415, 422] {
        let world = World::plain().await;
        world.endpoint.always(status);
        assert!(world.one(&update(1)).await, "{status}: done with it");
        assert_eq!((world.arrived(), world.dead()), (1, vec!["refused_by_target".to_owned()]));
        let entry = world.dead_letters.entries().remove(0);
        assert_eq!((entry.body, entry.group), (update(1).body(), "rid_1".to_owned()));
        assert!(entry.attributes.contains(&("place".to_owned(), format!("status {status}"))));
        let failure = world.bus.reported().remove(0);
        assert_eq!(failure.event_id.unwrap().as_str(), update(1).id());
        assert_eq!((failure.key.as_deref(), failure.tries), (Some(r#"{"customer_id":1}"#), 1));
        assert!(failure.dead_letter_queue.is_some());
        assert_eq!(world.ledger.rows().len(), 0, "nothing is marked");
    }
}

#[tokio::test]
async fn what_may_work_later_comes_again() {
    for status in [408, 423, 425, 429, 500, 502, 503, 504] {
        let world = World::plain().await;
        world.endpoint.then(&[status]);
        assert!(!world.one(&update(1)).await, "{status}");
        assert_eq!((world.arrived(), world.dead().len(), world.reported().len()), (1, 0, 0));
        assert_eq!((world.inbox.delays().len(), world.ledger.rows().len()), (1, 0));
        assert!(world.one(&Sample { received: 2, ..update(1) }).await);
        assert_eq!(world.endpoint.ids(), [update(1).id(), update(1).id()], "the id stays the same");
    }
}

#[tokio::test]
async fn nobody_there_is_a_reason_to_wait() {
    let yaml = PLAIN.replace("URL", "http://127.0.0.1:1/hook");
    let world = World::of(&yaml).await;
    assert!(!world.one(&Sample { received: 5, ..update(1) }).await);
    let delay = world.inbox.delays()[0].1;
    assert!(delay > Duration::from_secs(31) && delay <= Duration::from_secs(32), "{delay:?}");
    assert_eq!(world.reported().len(), 0);
}

#[tokio::test]
async fn the_target_says_how_long_to_wait() {
    let world = World::plain().await;
    world.endpoint.then_with(429, "retry-after: 77\r\n");
    world.endpoint.then_with(503, "retry-after: Tue, 24 Nov 2026 22:40:23 GMT\r\n");
    assert!(!world.one(&update(1)).await);
    assert!(!world.one(&update(1)).await);
    let delays: Vec<_> = world.inbox.delays().into_iter().map(|(_, delay)| delay.as_secs()).collect();
    assert_eq!(delays, [77, 60]);
}

#[tokio::test]
async fn the_last_receive_parks() {
    let world = World::plain().await;
    world.endpoint.always(503);
    assert!(!world.one(&Sample { received: 999, ..update(1) }).await);
    assert!(world.one(&Sample { received: 1_000, ..update(1) }).await);
    assert_eq!(
        (world.dead(), world.reported()),
        (vec!["retries_exhausted".to_owned()], vec!["retries_exhausted".to_owned()])
    );
}

#[tokio::test]
async fn what_its_queue_is_about_to_forget_is_parked_with_a_ticket() {
    let world = World::plain().await;
    world.endpoint.always(503);
    let waited = Sample { received: 400, ..update(1) };
    advance(13 * 86_400 - 1);
    assert!(!world.one(&waited).await);
    advance(1);
    assert!(world.one(&waited).await);
    assert_eq!((world.dead(), world.reported()), (vec!["retries_exhausted".to_owned()], world.dead()));
}

#[tokio::test]
async fn what_did_not_go_out_for_a_reason_of_ours_is_tried_up_to_the_last_hours() {
    let waited = Sample { received: 400, ..update(1) };
    let nearly_all = 13 * 86_400 + 22 * 3_600;
    // Accepted, and the ledger does not take it; and a ledger that cannot be read.
    for unmarked in [true, false] {
        let world = World::plain().await;
        let faults = if unmarked { &world.ledger.mark_faults } else { &world.ledger.read_faults };
        let fail = || faults.push(Fault::Call(Kind::Unavailable));
        advance(nearly_all - 1);
        fail();
        assert!(!world.one(&waited).await);
        assert_eq!(world.dead(), Vec::<String>::new());
        advance(1);
        fail();
        assert!(world.one(&waited).await);
        assert_eq!((world.dead(), world.reported()), (vec!["retries_exhausted".to_owned()], world.dead()));
        advance(-nearly_all);
    }
}

#[tokio::test]
async fn a_secret_that_has_not_changed_sends_nothing_again() {
    for status in [301, 401, 403, 404, 410] {
        let world = World::plain().await;
        world.endpoint.then(&[status]);
        assert!(!world.one(&update(1)).await);
        assert_eq!((world.arrived(), world.secrets.faults.calls()), (1, 2), "{status}: it was read anew");
        assert_eq!(world.reported().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_changed_secret_is_read_anew_before_anybody_is_told() {
    let world = World::plain().await;
    assert!(world.one(&update(1)).await);
    world.secrets.set(SECRET_NAME, OTHER_SECRET);
    world.endpoint.then(&[401]);
    assert!(world.one(&Sample { email: "b", ..update(2) }).await);
    let got = world.endpoint.got();
    assert_eq!(got.len(), 3);
    assert_ne!(got[1].header("webhook-signature"), got[2].header("webhook-signature"));
    assert!(world.reported().is_empty());
}

#[tokio::test]
async fn a_misconfigured_target_is_reported_once_and_loses_nothing() {
    for status in [301, 302, 307, 401, 403, 404, 405, 407] {
        let world = World::plain().await;
        world.endpoint.always(status);
        let events = [&update(1), &Sample { email: "b", ..update(2) }];
        assert_eq!(world.work(batch(events)).await.len(), 2, "{status}");
        assert_eq!(world.arrived(), 1, "the other waits, and the same secret is not tried again");
        assert_eq!(world.inbox.delays()[0].1, Duration::from_secs(45));
        assert_eq!(world.inbox.delays()[0].0.len(), 2);
        assert_eq!(world.work(batch(events)).await.len(), 2);
        assert_eq!(world.arrived(), 1, "nor is the target asked again");
        assert_eq!(world.reported(), ["target_misconfigured"], "the second batch tells nobody again");
        assert_eq!(world.bus.reported()[0].dead_letter_queue, None);
        assert_eq!((world.dead().len(), world.ledger.rows().len()), (0, 0));

        world.ask(r#"{"work":"resume"}"#).await.unwrap();
        world.endpoint.always(200);
        advance(10);
        assert!(world.work(batch(events)).await.is_empty());
        world.endpoint.always(status);
        assert!(!world.one(&Sample { email: "c", ..update(3) }).await);
        assert_eq!(world.reported().len(), 2, "new trouble is new");
    }
}

#[tokio::test]
async fn trouble_that_could_not_be_reported_is_reported_the_next_time() {
    let world = World::plain().await;
    world.endpoint.always(403);
    world.bus.faults.push(Fault::Call(Kind::Unavailable));
    assert!(!world.one(&update(1)).await);
    assert!(world.reported().is_empty());
    assert!(!world.one(&update(1)).await);
    assert_eq!(world.reported(), ["target_misconfigured"]);
}

#[tokio::test]
async fn a_target_that_is_gone_is_paused() {
    let world = World::plain().await;
    world.endpoint.always(410);
    assert!(!world.one(&update(1)).await);
    assert_eq!((world.reported(), world.dead().len()), (vec!["target_paused".to_owned()], 0));
    assert_eq!(world.inbox.delays()[0].1, Duration::from_secs(45));
}

#[tokio::test]
async fn a_record_that_is_gone_already_is_deleted() {
    for status in [404, 410] {
        let world = World::plain().await;
        world.endpoint.always(status);
        assert!(world.one(&delete(1)).await);
        let row = world.row().unwrap();
        assert!(row.deleted && row.digest.is_none() && row.expires_at.is_some());
        assert_eq!(world.arrived(), 1);
    }
}

#[tokio::test]
async fn a_target_that_is_ahead_ends_it() {
    for status in [409, 412] {
        let compares_versions =
            PLAIN.replace("timeout: 2s", "timeout: 2s, statuses: { 409: stale, 412: stale }");
        let world = World::of(&compares_versions).await;
        world.endpoint.then(&[status]);
        assert!(world.one(&update(5)).await);
        assert!(world.one(&update(4)).await);
        assert_eq!(world.arrived(), 1, "{status}: what is older still does not go out");
        assert!(world.one(&update(6)).await);
        assert_eq!(world.arrived(), 2, "what the target has is not known, so the same content goes out");
    }
}

#[tokio::test]
async fn a_conflict_at_a_target_that_compares_no_versions_is_about_the_record() {
    for status in [409, 412] {
        let world = World::plain().await;
        world.endpoint.then(&[status]);
        assert!(world.one(&update(5)).await);
        assert_eq!(world.row(), None, "{status}: nothing was accepted, so nothing is marked");
        assert_eq!(world.dead_letters.entries().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_target_overrides_what_its_statuses_mean() {
    let world =
        World::of(&PLAIN.replace("timeout: 2s", "timeout: 2s, statuses: { 422: retry, 409: accepted }"))
            .await;
    world.endpoint.then(&[422, 409]);
    assert!(!world.one(&update(1)).await);
    assert!(world.one(&update(1)).await);
    assert!(world.dead().is_empty() && world.row().unwrap().digest.is_some());
}

#[tokio::test]
async fn a_secret_that_is_missing_or_malformed_is_trouble_and_one_that_is_late_is_not() {
    let world = World::plain().await;
    world.secrets.faults.push(Fault::Call(Kind::Unavailable));
    assert!(!world.one(&update(1)).await);
    assert!(world.reported().is_empty());
    world.secrets.set(SECRET_NAME, "no secret at all");
    assert!(!world.one(&update(1)).await);
    assert_eq!((world.reported(), world.arrived()), (vec!["target_misconfigured".to_owned()], 0));
    world.secrets.set(SECRET_NAME, SECRET);
    world.ask(r#"{"work":"resume"}"#).await.unwrap();
    assert!(world.one(&update(1)).await);

    let world = World::plain().await;
    world.secrets.faults.push(Fault::Call(Kind::Refused));
    assert!(!world.one(&update(1)).await);
    assert_eq!(world.reported(), ["target_misconfigured"]);
}

#[tokio::test]
async fn what_is_no_event_is_dead_lettered_without_a_word_of_it() {
    let world = World::plain().await;
    let cut: String = update(1).body().chars().take(300).collect();
    let without_version = update(1).body().replace("\"sequence\"", "\"sequel\"");
    let without_record = update(1).body().replace("\"after\":{", "\"past\":{");
    for (body, place) in
        [("", "byte 0"), (&cut, "byte 300"), (&without_version, "sequence"), (&without_record, "data.after")]
    {
        assert!(world.work(event_of([Record::new(place, body).build()])).await.is_empty());
        let failure = world.bus.reported().pop().unwrap();
        assert_eq!(
            (failure.reason.code.as_str(), failure.reason.place.as_str()),
            ("unreadable_event", place)
        );
    }
    assert_eq!((world.dead_letters.entries().len(), world.arrived()), (4, 0));
}

#[tokio::test]
async fn a_dead_letter_that_could_not_be_written_stays_in_the_queue() {
    let world = World::plain().await;
    world.endpoint.always(422);
    world.dead_letters.fault(Fault::Call(Kind::Unavailable));
    assert!(!world.one(&update(1)).await);
    assert_eq!(world.inbox.delays().len(), 1);
    assert!(world.one(&update(1)).await);
    assert_eq!(world.dead_letters.entries().len(), 1);
}
