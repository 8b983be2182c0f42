//! What the ledger keeps from going out, and when it is marked.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sync_domain::delivery::breaker::Breaker;
use sync_domain::id::TargetId;
use sync_domain::ports::{Kind, Ledger, LedgerRow, Result};
use sync_testkit::Fault;

use crate::world::{PLAIN, Sample, World, batch, delete, update};

fn version(number: u32) -> String {
    format!("00000000-{number:040}")
}

#[tokio::test]
async fn the_mark_is_made_after_the_target_accepted() {
    let world = World::plain().await;
    let marked = Arc::new(Mutex::new(Vec::new()));
    let (ledger, seen) = (world.ledger.clone(), Arc::clone(&marked));
    world.endpoint.on_request(move |_| seen.lock().unwrap().push(ledger.rows().len()));
    assert!(world.one(&update(1)).await);
    assert_eq!(*marked.lock().unwrap(), [0], "not before");
    let row = world.row().unwrap();
    assert_eq!((row.version.to_string(), row.deleted, row.tries), (version(1), false, 1));
    assert_eq!((row.key.as_str(), row.expires_at), (r#"{"customer_id":1}"#, None));
}

#[tokio::test]
async fn every_mark_says_whose_it_is() {
    let world = World::plain().await;
    let whose = |world: &World| {
        let whose = world.row().unwrap().whose.unwrap();
        (whose.target.to_string(), whose.source.to_string(), whose.model.to_string(), whose.rid.to_string())
    };
    assert!(world.one(&update(1)).await);
    let sent = whose(&world);
    assert_eq!((sent.0.as_str(), sent.1.as_str(), sent.2.as_str()), ("loyalty", "crm", "customer"));
    assert_eq!(sent.3, format!("rid_{}", update(1).record));
    let clear = || {
        for (key, row) in world.ledger.rows() {
            world.ledger.set(&key, LedgerRow { whose: None, ..row });
        }
    };
    // A row of an earlier release learns it with the next mark, be that of an unchanged event or of a delete.
    clear();
    assert!(world.one(&Sample { nonce: "nonce_nonce_no_2", ..update(2) }).await);
    assert_eq!(whose(&world), sent);
    clear();
    assert!(world.one(&delete(3)).await);
    assert_eq!(whose(&world), sent);
}

#[tokio::test]
async fn a_mark_that_failed_sends_the_same_event_again() {
    let world = World::plain().await;
    world.ledger.mark_faults.push(Fault::Call(Kind::Unavailable));
    assert!(!world.one(&update(1)).await);
    assert!(world.one(&Sample { received: 2, ..update(1) }).await);
    assert_eq!(world.endpoint.ids(), [update(1).id(), update(1).id()]);

    world.ledger.mark_faults.push(Fault::Lost);
    let next = Sample { email: "b", ..update(2) };
    assert!(!world.one(&next).await);
    assert!(world.one(&next).await);
    assert_eq!(world.arrived(), 3, "a mark whose answer was lost stands");
}

#[tokio::test]
async fn what_is_older_never_goes_out() {
    let world = World::plain().await;
    assert!(world.one(&update(5)).await);
    for event in [
        update(4),
        Sample { email: "b", ..update(3) },
        delete(4),
        Sample { extra: r#","run":"r1""#, ..update(4) },
    ] {
        assert!(world.one(&event).await);
    }
    assert_eq!((world.arrived(), world.row().unwrap().version.to_string()), (1, version(5)));
}

#[tokio::test]
async fn what_is_older_stays_back_behind_a_delete_too() {
    let world = World::plain().await;
    assert!(world.one(&delete(5)).await);
    assert!(world.one(&update(4)).await);
    assert_eq!(world.arrived(), 1);
    assert!(world.one(&update(6)).await);
    assert_eq!(world.arrived(), 2);
    assert!(!world.row().unwrap().deleted);
}

#[tokio::test]
async fn what_is_unchanged_stays_back_and_the_ledger_advances() {
    let world = World::plain().await;
    assert!(world.one(&update(1)).await);
    // Sealed anew: other bytes, the same fingerprint.
    assert!(world.one(&Sample { nonce: "nonce_nonce_no_2", ..update(3) }).await);
    assert_eq!((world.arrived(), world.row().unwrap().version.to_string()), (1, version(3)));
    // A late copy of what came between, with other content: without the advance it would go out.
    assert!(world.one(&Sample { email: "b", ..update(2) }).await);
    assert_eq!(world.arrived(), 1);
}

#[tokio::test]
async fn an_unchanged_event_whose_mark_failed_comes_again() {
    let world = World::plain().await;
    assert!(world.one(&update(1)).await);
    world.ledger.mark_faults.push(Fault::Call(Kind::Unavailable));
    assert!(!world.one(&update(2)).await);
    assert!(world.one(&update(2)).await);
    assert_eq!((world.arrived(), world.row().unwrap().version.to_string()), (1, version(2)));
}

#[tokio::test]
async fn a_second_copy_is_unchanged_and_asks_for_no_mark() {
    let world = World::plain().await;
    assert!(world.work(batch([&update(1), &update(1)])).await.is_empty());
    assert_eq!((world.arrived(), world.ledger.mark_faults.calls()), (1, 1));
}

#[tokio::test]
async fn one_version_with_two_contents_is_a_ticket() {
    for other in [Sample { email: "b@example.com", ..update(1) }, delete(1)] {
        let world = World::plain().await;
        assert!(world.one(&update(1)).await);
        assert!(world.one(&other).await);
        assert_eq!((world.arrived(), world.dead()), (1, vec!["version_conflict".to_owned()]));
        assert_eq!(world.bus.reported()[0].reason.place, "sequence");
    }
}

#[tokio::test]
async fn a_run_sends_what_is_unchanged_and_equal() {
    let world = World::plain().await;
    assert!(world.one(&update(1)).await);
    let run = |version| Sample { extra: r#","run":"r1","only":"loyalty""#, ..update(version) };
    assert!(world.one(&run(1)).await);
    assert!(world.one(&run(2)).await);
    assert!(world.one(&update(2)).await);
    assert_eq!((world.arrived(), world.row().unwrap().version.to_string()), (3, version(2)));
}

#[tokio::test]
async fn a_delete_leaves_a_tombstone_that_ends() {
    let world = World::plain().await;
    assert!(world.one(&update(1)).await);
    assert!(world.one(&delete(2)).await);
    let row = world.row().unwrap();
    assert_eq!(
        (row.deleted, row.digest, row.expires_at),
        (true, None, Some(crate::world::NOW + 79 * 86_400))
    );
    assert!(world.one(&delete(3)).await);
    assert_eq!((world.arrived(), world.row().unwrap().version.to_string()), (2, version(3)));
}

#[tokio::test]
async fn a_batch_reads_the_ledger_once() {
    let world = World::plain().await;
    let events: Vec<_> = (0..10).map(|n| Sample { record: n % 4, ..update(n + 1) }).collect();
    assert!(world.work(batch(&events)).await.is_empty());
    assert_eq!(world.ledger.read_faults.calls(), 1);
    assert_eq!(world.keys.faults.calls(), 1);
    assert!(world.work(batch(&events)).await.is_empty());
    assert_eq!((world.ledger.read_faults.calls(), world.keys.faults.calls()), (2, 1));
}

#[tokio::test]
async fn nothing_goes_out_while_the_ledger_or_its_key_cannot_be_read() {
    let world = World::plain().await;
    world.keys.faults.push(Fault::Call(Kind::Unavailable));
    assert!(!world.one(&update(1)).await);
    world.ledger.read_faults.push(Fault::Call(Kind::Unavailable));
    assert!(!world.one(&update(1)).await);
    assert_eq!((world.arrived(), world.inbox.delays().len()), (0, 2));
    assert!(world.one(&update(1)).await);
    assert_eq!(world.arrived(), 1);
}

/// A ledger whose adapter has a bug, in one call or the other.
enum Panics {
    Reading,
    Marking,
}

#[async_trait]
impl Ledger for Panics {
    async fn read(&self, keys: &[String]) -> Vec<Result<Option<LedgerRow>>> {
        assert!(matches!(self, Self::Marking), "a bug of the adapter");
        keys.iter().map(|_| Ok(None)).collect()
    }

    async fn look(&self, _: &TargetId, keys: &[String]) -> (Result<Breaker>, Vec<Result<Option<LedgerRow>>>) {
        (Ok(Breaker::default()), self.read(keys).await)
    }

    async fn breaker(&self, _: &TargetId) -> Result<Breaker> {
        panic!("a bug of the adapter")
    }

    async fn set_breaker(&self, _: &TargetId, _: &Breaker) -> Result<bool> {
        panic!("a bug of the adapter")
    }

    async fn mark(&self, _: &str, _: &LedgerRow) -> Result<bool> {
        panic!("a bug of the adapter")
    }
}

#[tokio::test]
async fn a_ledger_that_panics_fails_the_records_and_not_the_invocation() {
    let mut world = World::plain().await;
    world.deps.ledger = Arc::new(Panics::Reading);
    let failed = world.work(batch([&update(1), &Sample { record: 2, ..update(1) }])).await;
    assert_eq!((failed.len(), world.arrived()), (2, 0));
    assert_eq!(world.inbox.delays().len(), 2, "each is set back, so that nobody asks again at once");
}

#[tokio::test]
async fn a_record_that_panics_every_time_gets_a_ticket_in_the_end() {
    let mut world = World::plain().await;
    world.deps.ledger = Arc::new(Panics::Marking);
    assert!(!world.one(&Sample { received: 999, ..update(1) }).await);
    assert_eq!(world.inbox.delays().len(), 1);
    assert!(world.one(&Sample { received: 1_000, ..update(1) }).await);
    let failure = world.bus.reported().remove(0);
    assert_eq!(
        (failure.reason.code.as_str(), failure.reason.place.as_str()),
        ("retries_exhausted", "panicked")
    );
    assert_eq!(world.dead_letters.entries().len(), 1);
}

#[tokio::test]
async fn targets_and_records_have_rows_of_their_own() {
    let world = World::plain().await;
    for record in 1..=3 {
        assert!(world.one(&Sample { record, ..update(1) }).await);
    }
    let keys: Vec<_> = world.ledger.rows().into_keys().collect();
    assert_eq!((world.arrived(), keys.len()), (3, 3));
    assert!(keys.iter().all(|key| key.len() == 43 && !key.contains("rid")), "row keys are keyed hashes");
    let other = World::of(&PLAIN.replace("target: loyalty", "target: warehouse")).await;
    assert!(other.one(&update(1)).await);
    assert!(!keys.contains(other.ledger.rows().keys().next().unwrap()));
    let again = World::plain().await;
    assert!(again.one(&update(1)).await);
    assert!(keys.contains(again.ledger.rows().keys().next().unwrap()), "the same in every process");
}

#[tokio::test]
async fn another_invocation_that_is_ahead_stays_ahead() {
    let world = World::plain().await;
    assert!(world.one(&update(1)).await);
    let key = world.ledger.rows().into_keys().next().unwrap();
    let mut ahead = world.row().unwrap();
    let ledger = world.ledger.clone();
    ahead.version = sync_domain::version::Version::parse(&version(9)).unwrap();
    world.endpoint.on_request(move |_| ledger.set(&key, ahead.clone()));
    let events = [Sample { email: "b", ..update(2) }, Sample { email: "c", ..update(3) }];
    assert!(world.work(batch(&events)).await.is_empty());
    assert_eq!(
        (world.arrived(), world.row().unwrap().version.to_string()),
        (2, version(9)),
        "the third is stale by then"
    );
}
