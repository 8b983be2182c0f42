//! What is given up although the target may have it: an answer was lost, and nobody knows what the target has.

use sync_domain::ports::Kind;
use sync_testkit::Fault;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::world::{PLAIN, Sample, World, delete, update};

/// The last receive that the queue allows.
const LAST: u32 = 1_000;

/// The next content of record 1.
fn other(version: u32) -> Sample {
    Sample { email: "b@example.com", ..update(version) }
}

/// A world whose target has version 1 of record 1.
async fn with_one_delivered() -> World {
    let world = World::plain().await;
    assert!(world.one(&update(1)).await);
    world
}

/// Lets the target take an event and its answer be lost, until it is parked.
async fn park_with_its_answer_lost(world: &World, event: &Sample) {
    // A proxy in between has lost its patience; the target behind it has the event.
    world.endpoint.then(&[504]);
    assert!(world.one(&Sample { received: LAST, ..*event }).await);
    assert_eq!(world.dead(), ["retries_exhausted"]);
}

#[tokio::test]
async fn behind_an_update_that_was_parked_the_content_before_it_goes_out_again() {
    let world = with_one_delivered().await;
    park_with_its_answer_lost(&world, &other(2)).await;
    assert!(world.one(&update(3)).await);
    assert_eq!(world.endpoint.ids().last(), Some(&update(3).id()), "the target would stay at version 2");
    assert!(world.one(&update(4)).await);
    assert_eq!(world.arrived(), 3, "and then it is known again");
}

#[tokio::test]
async fn behind_a_delete_that_was_parked_the_content_before_it_goes_out_again() {
    let world = with_one_delivered().await;
    park_with_its_answer_lost(&world, &delete(2)).await;
    assert!(world.one(&update(3)).await);
    assert_eq!(world.endpoint.ids().last(), Some(&update(3).id()), "the target would be without the record");
}

#[tokio::test]
async fn behind_a_create_that_was_parked_the_delete_goes_out_although_the_record_was_deleted_before() {
    let world = with_one_delivered().await;
    assert!(world.one(&delete(2)).await);
    park_with_its_answer_lost(&world, &update(3)).await;
    assert!(world.one(&delete(4)).await);
    assert_eq!(world.endpoint.ids().last(), Some(&delete(4).id()), "the target would keep the record");
}

#[tokio::test]
async fn what_was_parked_can_be_moved_back_as_long_as_nothing_newer_was_accepted() {
    let world = with_one_delivered().await;
    park_with_its_answer_lost(&world, &other(2)).await;
    let row = world.row().unwrap();
    assert_eq!((row.version.to_string(), row.digest), (format!("00000000-{:040}", 1), None));
    assert!(world.one(&other(2)).await);
    assert_eq!(world.endpoint.ids().last(), Some(&other(2).id()));

    let world = with_one_delivered().await;
    park_with_its_answer_lost(&world, &other(2)).await;
    assert!(world.one(&update(3)).await);
    assert!(world.one(&other(2)).await);
    assert_eq!(world.endpoint.ids().last(), Some(&update(3).id()), "behind something newer it is stale");
}

#[tokio::test]
async fn a_refusal_behind_an_earlier_receive_leaves_the_same_doubt() {
    let world = with_one_delivered().await;
    // The first try went out, and the process was killed before the answer came.
    world.endpoint.then(&[422]);
    assert!(world.one(&Sample { received: 2, ..other(2) }).await);
    assert!(world.one(&update(3)).await);
    assert_eq!(world.endpoint.ids().last(), Some(&update(3).id()));
}

#[tokio::test]
async fn a_refusal_at_the_first_try_leaves_no_doubt() {
    for status in [400, 413, 415, 422] {
        let world = with_one_delivered().await;
        world.endpoint.then(&[status]);
        assert!(world.one(&other(2)).await);
        assert!(world.one(&update(3)).await);
        assert_eq!(world.arrived(), 2, "{status}: the target has still what version 3 says");
    }
}

#[tokio::test]
async fn an_answer_that_proves_no_refusal_leaves_doubt_at_the_first_try() {
    let rejects_failures =
        PLAIN.replace("timeout: 2s", "timeout: 2s, statuses: { 500: reject, 303: reject }");
    for status in [303, 409, 412, 500] {
        let world = World::of(&rejects_failures).await;
        assert!(world.one(&update(1)).await);
        world.endpoint.then(&[status]);
        assert!(world.one(&other(2)).await);
        assert_eq!(world.dead(), ["refused_by_target"]);
        assert!(world.one(&update(3)).await);
        assert_eq!(world.endpoint.ids().last(), Some(&update(3).id()), "{status}");
    }
}

#[tokio::test]
async fn an_update_that_touches_nothing_asked_for_goes_out_behind_a_doubt() {
    let asks_for_email = PLAIN.replace("model: customer", "model: customer, when_changed: [email]");
    let world = World::of(&asks_for_email).await;
    assert!(world.one(&update(1)).await);
    let phone = |version| Sample { changed: r#"["phone"]"#, ..other(version) };
    assert!(world.one(&phone(2)).await);
    assert_eq!(world.arrived(), 1, "filtered");
    park_with_its_answer_lost(&world, &other(3)).await;
    assert!(world.one(&phone(4)).await);
    assert_eq!(world.endpoint.ids().last(), Some(&phone(4).id()));
}

#[tokio::test]
async fn nothing_is_parked_before_the_doubt_is_written_down() {
    let world = with_one_delivered().await;
    world.endpoint.always(422);
    world.ledger.mark_faults.push(Fault::Call(Kind::Unavailable));
    assert!(!world.one(&Sample { received: 2, ..other(2) }).await);
    assert_eq!((world.dead().len(), world.inbox.delays().len()), (0, 1));
    assert!(world.one(&Sample { received: 3, ..other(2) }).await);
    assert_eq!((world.dead(), world.row().unwrap().digest), (vec!["refused_by_target".to_owned()], None));
}

#[tokio::test]
async fn at_the_last_receive_a_ticket_is_worth_more_than_the_doubt() {
    let world = with_one_delivered().await;
    world.endpoint.always(503);
    world.ledger.mark_faults.push(Fault::Call(Kind::Unavailable));
    assert!(world.one(&Sample { received: LAST, ..other(2) }).await);
    assert_eq!(world.dead(), ["retries_exhausted"]);
    assert_eq!(world.bus.reported()[0].reason.place, "ledger_unavailable");
}

#[tokio::test]
async fn a_record_that_the_ledger_does_not_know_needs_no_doubt() {
    let world = World::plain().await;
    park_with_its_answer_lost(&world, &update(1)).await;
    assert_eq!((world.row(), world.ledger.mark_faults.calls()), (None, 0));
    assert!(world.one(&Sample { ..update(2) }).await);
    assert_eq!(world.arrived(), 2);
}

/// The address of a target that takes a request and says nothing.
async fn speechless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 64];
            let _ = stream.read(&mut some).await;
        }
    });
    format!("http://{address}/hook")
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_doubt_and_one_that_was_never_made_does_not() {
    let known = with_one_delivered().await.ledger.rows();
    for (url, doubt) in [(speechless().await, true), ("http://127.0.0.1:1/hook".to_owned(), false)] {
        let mut world = World::of(&PLAIN.replace("URL", &url)).await;
        // The first receive is the last, so that nothing of an earlier one is in doubt.
        world.deps.max_receives = 1;
        known.iter().for_each(|(key, row)| world.ledger.set(key, row.clone()));
        assert!(world.one(&other(2)).await);
        assert_eq!(
            (world.dead(), world.row().unwrap().digest.is_none()),
            (vec!["retries_exhausted".to_owned()], doubt),
            "{url}"
        );
    }
}
