//! Targets that take several events in one request. Most worlds here wait ten minutes for others to join: whatever ends
//! before has not waited for what cannot come.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use deliver::handle;
use sync_domain::delivery::breaker::{Breaker, State};
use sync_domain::id::TargetId;
use sync_domain::ports::{Ledger, LedgerRow, Queue, QueueEntry, Result};
use sync_domain::webhook::{Secrets, TOLERANCE};
use sync_lambda::deadline::Deadline;
use sync_testkit::{MemoryLedger, MemoryQueue};

use crate::endpoint::{Answer, Got};
use crate::world::{
    NOW, OTHER_SECRET, PLAIN, SECRET, SECRET_NAME, Sample, World, advance, batch, delete, now, update,
};

/// The last receive that the queue allows.
const LAST: u32 = 1_000;

/// A world whose target takes arrays; `more` is what its endpoint says besides.
async fn world(more: &str) -> World {
    let waits = if more.contains("array:") { "" } else { ", array: { wait: 10m }" };
    World::of(&PLAIN.replace("timeout: 2s", &format!("timeout: 2s{waits}{more}"))).await
}

/// Ends by itself, whoever waits for whom.
async fn ends<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.unwrap()
}

/// Works a batch; the answer is the records whose messages come again.
async fn work<'a>(world: &World, events: impl IntoIterator<Item = &'a Sample>) -> Vec<String> {
    ends(world.work(batch(events))).await
}

fn record(record: u32) -> Sample {
    Sample { record, ..update(1) }
}

fn records(many: u32) -> Vec<Sample> {
    (1..=many).map(record).collect()
}

fn ids(events: &[Sample]) -> Vec<String> {
    events.iter().map(Sample::id).collect()
}

/// The members of an array.
fn members(got: &Got) -> Vec<serde_json::Value> {
    serde_json::from_str(&got.body).unwrap()
}

/// The ids of the events in an array.
fn events(got: &Got) -> Vec<String> {
    members(got).iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

/// The record of an event's id.
fn record_of(id: &str) -> String {
    id.split('_').nth(1).unwrap().to_owned()
}

/// The ids of the events that arrived, array by array.
fn arrays(world: &World) -> Vec<Vec<String>> {
    world.endpoint.got().iter().map(events).collect()
}

/// An answer with a result for each event that `status` knows something of.
fn results(got: &Got, status: impl Fn(&str) -> Option<u16>) -> Answer {
    let of = |id: String| status(&id).map(|status| format!(r#"{{"id":"{id}","status":{status}}}"#));
    let results: Vec<_> = events(got).into_iter().filter_map(of).collect();
    Answer { body: format!(r#"{{"results":[{}]}}"#, results.join(",")), ..207.into() }
}

fn body(status: u16, body: &str) -> Answer {
    Answer { body: body.to_owned(), ..status.into() }
}

fn is_open(world: &World) -> bool {
    matches!(world.breaker().state, State::Open { .. })
}

#[tokio::test]
async fn what_is_ready_at_the_same_time_goes_in_one_request_signed_as_a_whole() {
    let (one, other) = (world("").await, world("").await);
    let samples = records(3);
    assert!(work(&one, &samples).await.is_empty());
    let got = one.endpoint.got().remove(0);
    assert_eq!((one.arrived(), got.line.as_str()), (1, "POST /hook HTTP/1.1"));
    assert_eq!(got.header("content-type"), "application/cloudevents-batch+json");
    let ours = format!(r#","fingerprints":{{"{}":"fingerprint"}}"#, update(1).nonce);
    let alone: Vec<_> = samples.iter().map(|sample| sample.body().replace(&ours, "")).collect();
    assert_eq!(got.body, format!("[{}]", alone.join(",")), "each as it would be sent alone");
    let (id, at, signature) =
        (got.header("webhook-id"), got.header("webhook-timestamp"), got.header("webhook-signature"));
    let secrets = Secrets::parse(SECRET).unwrap();
    secrets.verify(id, at, signature, got.body.as_bytes(), NOW, TOLERANCE).unwrap();
    assert_eq!(one.ledger.rows().len(), 3, "an answer without a body is one for all");

    work(&other, &samples).await;
    assert_eq!(other.endpoint.ids(), [id], "the same events in the same order have the same id");
    let world = world("").await;
    work(&world, &samples[..1]).await;
    assert_eq!(arrays(&world), [ids(&samples[..1])], "one event is an array too");
    assert_ne!(world.endpoint.ids(), [id]);
}

#[tokio::test]
async fn a_result_is_of_its_event_alone_and_only_what_failed_comes_again() {
    let world = world(", statuses: { 409: stale }").await;
    let samples = records(6);
    let status = |id: &str| match id {
        "evt_1_1_updated" => Some(200),
        "evt_2_1_updated" => Some(422),
        "evt_3_1_updated" => Some(503),
        "evt_4_1_updated" => Some(429),
        "evt_5_1_updated" => Some(409),
        _ => None,
    };
    world.endpoint.reply(move |got| {
        let mut answer = results(got, status);
        answer.body = answer.body.replace("429}", r#"429,"retry_after":120}"#);
        answer
    });
    let again = [&samples[2], &samples[3], &samples[5]];
    let failed = work(&world, &samples).await;
    assert_eq!(failed, again.map(Sample::id), "an event that was passed over was not accepted");
    assert_eq!((world.dead(), world.arrived()), (vec!["refused_by_target".to_owned()], 1));
    let rows = world.ledger.rows();
    let known: Vec<_> = rows.values().map(|row| row.whose.as_ref().unwrap().rid.as_str()).collect();
    assert_eq!(known.iter().collect::<BTreeSet<_>>().len(), 2);
    assert!(known.contains(&"rid_1") && known.contains(&"rid_5"), "{known:?}");
    let delays = world.inbox.delays();
    let delay = |event: &Sample| {
        let receipt = format!("receipt-{}-1", event.id());
        delays.iter().find(|(receipts, _)| *receipts == [receipt.clone()]).unwrap().1
    };
    assert_eq!(again.map(|event| delay(event).as_secs() >= 120), [false, true, false]);
    assert_eq!(world.breaker().revision, 0, "a target that takes something is there");

    world.endpoint.always(204);
    assert!(work(&world, again).await.is_empty());
    assert_eq!(arrays(&world)[1..], [again.map(Sample::id).to_vec()]);
    assert_eq!(world.ledger.rows().len(), 5);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_accepts_nothing() {
    let long = format!(r#"{{"results":[{{"index":0,"status":200}}],"more":"{}"}}"#, "x".repeat(1 << 20));
    for answer in
        [body(200, "OK"), body(200, r#"{"ok":true}"#), body(200, "{"), body(207, ""), body(200, &long)]
    {
        let world = world("").await;
        let short = answer.body.chars().take(20).collect::<String>();
        world.endpoint.reply(move |_| answer.clone());
        assert_eq!(work(&world, &records(2)).await, ids(&records(2)), "{short}");
        assert_eq!((world.arrived(), world.ledger.rows().len(), world.dead().len()), (1, 0, 0), "{short}");
        let reported = world.inbox.delays().len();
        assert_eq!(reported, 2, "{short}: both wait");
    }
}

#[tokio::test]
async fn behind_a_lost_answer_each_event_comes_again_with_its_own_id() {
    let world = world("").await;
    let samples = records(3);
    world.endpoint.then(&[0]);
    assert_eq!(work(&world, &samples).await, ids(&samples));
    assert_eq!((world.arrived(), world.ledger.rows().len()), (1, 0), "nothing is sent twice at once");
    assert!(work(&world, &samples).await.is_empty());
    let again: BTreeSet<_> = arrays(&world)[1..].concat().into_iter().collect();
    assert_eq!(again, ids(&samples).into_iter().collect());
    assert_eq!(world.ledger.rows().len(), 3);
}

type Reply<'a> = &'a dyn Fn(&Got) -> Answer;

#[tokio::test]
async fn what_is_given_up_behind_a_lost_answer_is_in_doubt_event_by_event() {
    // What the target says of version 2 of record 2, and whether it may have it.
    let no_result = |got: &Got| results(got, |id| (!id.starts_with("evt_2")).then_some(200));
    let refused = |got: &Got| results(got, |id| Some(if id.starts_with("evt_2") { 422 } else { 200 }));
    let conflict = |got: &Got| results(got, |id| Some(if id.starts_with("evt_2") { 409 } else { 200 }));
    let unreadable = |_: &Got| body(200, "OK");
    let lost = |_: &Got| 0.into();
    let replies: [(Reply, bool, bool); 5] = [
        (&no_result, true, true),
        (&refused, false, true),
        (&conflict, true, true),
        (&unreadable, true, false),
        (&lost, true, false),
    ];
    for (index, (reply, doubt, other_accepted)) in replies.into_iter().enumerate() {
        let mut world = world("").await;
        // The first receive is the last, so that nothing of an earlier one is in doubt.
        world.deps.max_receives = 1;
        assert!(work(&world, &records(2)).await.is_empty());
        let got = Got { line: String::new(), headers: Vec::new(), body: String::new() };
        let second: Vec<_> =
            (1..=2).map(|record| Sample { record, email: "b@example.com", ..update(2) }).collect();
        let texts: Vec<_> = second.iter().map(Sample::body).collect();
        let answer = reply(&Got { body: format!("[{}]", texts.join(",")), ..got });
        world.endpoint.reply(move |_| answer.clone());
        assert!(work(&world, &second).await.is_empty(), "{index}: parked");
        let rows = world.ledger.rows();
        let digest = |rid: &str| {
            let of = |row: &&LedgerRow| row.whose.as_ref().unwrap().rid.as_str() == rid;
            rows.values().find(of).unwrap().digest.is_none()
        };
        assert_eq!((digest("rid_2"), digest("rid_1")), (doubt, !other_accepted), "{index}");
    }
}

#[tokio::test]
async fn what_an_array_that_was_refused_with_a_conflict_may_have_left_is_in_doubt() {
    for (status, doubt) in [(409, true), (422, false)] {
        let world = world("").await;
        assert!(work(&world, &records(2)).await.is_empty());
        world.endpoint.reply(move |got| if members(got).len() > 1 { status.into() } else { 422.into() });
        let second = (1..=2).map(|record| Sample { record, email: "b", ..update(2) });
        assert!(work(&world, &second.collect::<Vec<_>>()).await.is_empty());
        assert_eq!((world.dead().len(), world.arrived()), (2, 4));
        let in_doubt = world.ledger.rows().values().all(|row| row.digest.is_none());
        assert_eq!(in_doubt, doubt, "{status}");
    }
}

#[tokio::test]
async fn one_that_the_target_refuses_takes_no_other_of_its_array_along() {
    for status in [400, 422] {
        let world = world("").await;
        let poison = record(3).id();
        world.endpoint.reply(move |got| if got.body.contains(&poison) { status.into() } else { 204.into() });
        assert!(work(&world, &records(5)).await.is_empty());
        let mut sent = arrays(&world);
        assert_eq!(sent.remove(0), ids(&records(5)));
        sent.sort();
        assert_eq!(sent, ids(&records(5)).chunks(1).map(<[String]>::to_vec).collect::<Vec<_>>());
        assert_eq!((world.dead(), world.ledger.rows().len()), (vec!["refused_by_target".to_owned()], 4));
    }
}

#[tokio::test]
async fn an_array_that_is_too_large_goes_in_halves() {
    let world = world("").await;
    world.endpoint.reply(|got| if members(got).len() > 2 { 413.into() } else { 204.into() });
    assert!(work(&world, &records(8)).await.is_empty());
    let sizes: Vec<_> = arrays(&world).iter().map(Vec::len).collect();
    let count = |size| sizes.iter().filter(|known| **known == size).count();
    assert_eq!((count(8), count(4), count(2), sizes.len()), (1, 2, 4, 7));
    assert_eq!((world.ledger.rows().len(), world.dead().len()), (8, 0));

    world.endpoint.always(413);
    let others: Vec<_> = (11..=12).map(record).collect();
    assert!(work(&world, &others).await.is_empty());
    assert_eq!(world.dead().len(), 2, "what is too large alone is refused");
}

#[tokio::test]
async fn the_next_event_of_a_record_goes_only_behind_the_result_of_the_one_before() {
    let emails = ["a", "b", "c", "d"];
    let of = |record, many: usize| {
        let versions = emails.into_iter().zip(1..).take(many);
        versions.map(move |(email, version)| Sample { record, email, ..update(version) })
    };
    // Ten messages of three records, one among the other.
    let mut samples: Vec<Sample> = of(1, 4).chain(of(2, 3)).chain(of(3, 3)).collect();
    samples.sort_by_key(|sample| (sample.version, sample.record));
    for failing in samples.iter().map(Some).chain([None]) {
        let world = world("").await;
        let fails = failing.map(Sample::id).unwrap_or_default();
        world.endpoint.reply(move |got| results(got, |id| Some(if id == fails { 503 } else { 200 })));
        let failed = work(&world, &samples).await;
        let comes_again = |sample: &&Sample| {
            failing.is_some_and(|first| sample.record == first.record && sample.version >= first.version)
        };
        let expect: Vec<_> = samples.iter().filter(comes_again).map(Sample::id).collect();
        assert_eq!(failed, expect);
        let mut arrived: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for array in arrays(&world) {
            let one_each: BTreeSet<_> = array.iter().map(|id| record_of(id)).collect();
            assert_eq!(one_each.len(), array.len(), "{array:?}");
            array.into_iter().for_each(|id| arrived.entry(record_of(&id)).or_default().push(id));
        }
        for record in 1..=3 {
            let sent = |sample: &&Sample| {
                let behind = |first: &Sample| sample.version > first.version;
                sample.record == record && !(failing.is_some_and(|f| f.record == record && behind(f)))
            };
            let expect: Vec<_> = samples.iter().filter(sent).map(Sample::id).collect();
            assert_eq!(arrived[&record.to_string()], expect, "what stands behind a failure is not sent");
        }
        let longest = arrived.values().map(Vec::len).max();
        assert_eq!(Some(world.arrived()), longest, "as many requests as a record has events, and no more");
    }
}

#[tokio::test]
async fn an_array_keeps_to_its_bytes_but_for_an_event_that_is_longer_by_itself() {
    let world = world(", array: { bytes: 2KiB, wait: 10m }").await;
    let long: &'static str = Box::leak("x".repeat(5_000).into_boxed_str());
    let mut samples = records(9);
    samples[4].email = long;
    assert!(work(&world, &samples).await.is_empty());
    for got in world.endpoint.got() {
        let alone = events(&got) == [samples[4].id()];
        assert_eq!(got.body.len() > 2_048, alone, "{:?}", events(&got));
    }
    let arrived: BTreeSet<_> = arrays(&world).concat().into_iter().collect();
    assert_eq!(arrived, ids(&samples).into_iter().collect());
    assert!((4..9).contains(&world.arrived()), "{}", world.arrived());
}

#[tokio::test]
async fn an_array_has_at_most_so_many_events() {
    let world = world(", array: { items: 2, wait: 10m }").await;
    assert!(work(&world, &records(5)).await.is_empty());
    assert_eq!(arrays(&world).iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
}

#[tokio::test]
async fn one_that_is_slow_holds_up_no_array_for_longer_than_it_waits() {
    // Its delete goes alone, and is answered only behind a second request: the array has to go meanwhile.
    let more = ", array: { wait: 20ms }, operations: { delete: { method: DELETE, path: \"/{customer_id}\", body: none } }";
    let world = world(more).await;
    world.endpoint.wait_for(2);
    let samples = [Sample { record: 9, ..delete(1) }, record(1), record(2)];
    assert!(work(&world, &samples).await.is_empty());
    let got = world.endpoint.got();
    assert_eq!((got[0].line.as_str(), got.len()), ("DELETE /hook/9 HTTP/1.1", 2));
    assert_eq!(got[0].header("webhook-id"), samples[0].id(), "alone it is a request as any other");
    assert_eq!(events(&got[1]), ids(&samples[1..]));
}

#[tokio::test]
async fn attributes_go_as_a_plain_array_and_results_are_by_place() {
    let yaml = "
target: loyalty
subscribe: [{ model: customer }]
attributes: [customer_id, email]
endpoint:
  url: \"URL\"
  auth: none
  array: { wait: 10m }
  operations:
    create: { path: /bulk, body: attributes }
    update: { path: /bulk, body: attributes }
    delete: { path: /bulk, body: attributes }
";
    let world = World::of(yaml).await;
    assert!(work(&world, &records(2)).await.is_empty());
    let other = Sample { email: "b", ..update(2) };
    world.endpoint.reply(|_| body(200, r#"{"results":[{"index":1,"status":200},{"index":0,"status":503}]}"#));
    assert_eq!(work(&world, [&other, &record(3)]).await, [other.id()]);
    let got = world.endpoint.got();
    assert_eq!(
        (got[1].line.as_str(), got[1].header("content-type")),
        ("POST /hook/bulk HTTP/1.1", "application/json")
    );
    assert_eq!(got[1].body, r#"[{"customer_id":1,"email":"b"},{"customer_id":3,"email":"a@example.com"}]"#);
    assert_eq!(got[1].header("ce-id"), "");

    world.endpoint.always(204);
    assert!(work(&world, [&Sample { record: 2, ..delete(2) }]).await.is_empty());
    let last = world.endpoint.got().remove(2);
    assert_eq!((last.body.as_str(), last.header("ce-type")), (r#"{"customer_id":2}"#, "customer.deleted"));
}

#[tokio::test]
async fn only_a_result_of_its_own_says_that_a_record_is_gone_already() {
    let deletes = [delete(1), Sample { record: 2, ..delete(1) }];
    let world_of_404 = world("").await;
    world_of_404.endpoint.always(404);
    assert_eq!(work(&world_of_404, &deletes).await.len(), 2);
    assert_eq!(
        (world_of_404.ledger.rows().len(), world_of_404.reported()),
        (0, vec!["target_misconfigured".to_owned()])
    );

    let world = world("").await;
    world.endpoint.reply(|got| results(got, |_| Some(404)));
    assert!(work(&world, &deletes).await.is_empty());
    assert!(world.ledger.rows().values().all(|row| row.deleted));
}

#[tokio::test]
async fn an_array_takes_one_place_of_the_rate() {
    let world = world(", rate: 1/h").await;
    assert!(work(&world, &records(7)).await.is_empty());
    assert_eq!((world.arrived(), world.ledger.rows().len()), (1, 7));
    assert_eq!(work(&world, [&record(8)]).await.len(), 1, "the next place is an hour away");
    assert_eq!(world.arrived(), 1);
}

#[tokio::test]
async fn an_array_is_sent_once_more_with_a_secret_that_has_changed() {
    let world = world("").await;
    assert!(work(&world, &records(2)).await.is_empty());
    world.secrets.set(SECRET_NAME, OTHER_SECRET);
    world.endpoint.then(&[401]);
    let others: Vec<_> = (11..=13).map(record).collect();
    assert!(work(&world, &others).await.is_empty());
    assert_eq!(arrays(&world)[1..], [ids(&others), ids(&others)]);
    assert!(world.reported().is_empty());
}

#[tokio::test]
async fn one_that_the_target_chokes_on_takes_others_along_once() {
    for status in [500, 0] {
        let world = world("").await;
        let choker = record(3).id();
        world.endpoint.reply(move |got| if got.body.contains(&choker) { status.into() } else { 204.into() });
        assert_eq!(work(&world, &records(5)).await.len(), 5);
        assert_eq!(world.breaker().revision, 1, "an array that fails counts as one record");
        assert!(!is_open(&world));
        assert_eq!(work(&world, &records(5)).await, [record(3).id()]);
        assert!(arrays(&world)[1..].iter().all(|array| array.len() == 1));
        let (arrived, new) = (world.arrived(), [record(3), record(6), record(7)]);
        assert_eq!(work(&world, &new).await, [record(3).id()]);
        let mut last = arrays(&world).split_off(arrived);
        last.sort();
        assert_eq!(last, [ids(&new[..1]), ids(&new[1..])]);
        world.endpoint.always(204);
        assert!(work(&world, &new[..1]).await.is_empty());
        let fresh = [Sample { email: "b", record: 3, ..update(2) }, record(8)];
        assert!(work(&world, &fresh).await.is_empty());
        assert_eq!(
            arrays(&world).pop().unwrap(),
            ids(&fresh),
            "once it got through it goes with others again"
        );
    }
}

#[tokio::test]
async fn a_target_that_is_away_costs_three_arrays_and_then_a_probe_of_one_event() {
    let mut world = world("").await;
    let queue = MemoryQueue::new("loyalty");
    world.deps.inbox = Arc::new(queue.clone());
    world.endpoint.always(503);
    for (index, sample) in records(12).iter().enumerate() {
        let (group, dedup) = (format!("rid_{}", sample.record), sample.id());
        let entry = QueueEntry { body: sample.body(), group, dedup, attributes: Vec::new() };
        queue.send(vec![entry]).await.remove(0).unwrap();
        if index % 4 == 3 {
            assert!(!is_open(&world), "{index}");
            let event = queue.receive(10);
            let report =
                ends(handle(event, &world.deps, Deadline::after(Duration::from_secs(60)))).await.unwrap();
            queue.answer(Ok(&report.response));
        }
    }
    assert!(is_open(&world));
    assert_eq!(arrays(&world).iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 4]);
    world.endpoint.always(204);
    advance(100);
    queue.advance(Duration::from_secs(100));
    assert_eq!(ends(world.probe()).await.unwrap().state, "closed");
    assert_eq!(arrays(&world).pop().unwrap().len(), 1);
    assert_eq!(world.arrived(), 4);
}

/// A ledger that panics where it marks one record.
struct PanicsOn(&'static str, MemoryLedger);

#[async_trait]
impl Ledger for PanicsOn {
    async fn read(&self, keys: &[String]) -> Vec<Result<Option<LedgerRow>>> {
        self.1.read(keys).await
    }

    async fn look(
        &self,
        target: &TargetId,
        keys: &[String],
    ) -> (Result<Breaker>, Vec<Result<Option<LedgerRow>>>) {
        self.1.look(target, keys).await
    }

    async fn breaker(&self, target: &TargetId) -> Result<Breaker> {
        self.1.breaker(target).await
    }

    async fn set_breaker(&self, target: &TargetId, breaker: &Breaker) -> Result<bool> {
        self.1.set_breaker(target, breaker).await
    }

    async fn mark(&self, key: &str, row: &LedgerRow) -> Result<bool> {
        assert_ne!(row.whose.as_ref().unwrap().rid.as_str(), self.0, "a bug of the adapter");
        self.1.mark(key, row).await
    }
}

#[tokio::test]
async fn a_record_that_panics_leaves_the_others_of_its_array() {
    // Unchanged, it panics before it comes to an array; with news, behind it.
    for news in [false, true] {
        let mut world = world("").await;
        assert!(work(&world, [&record(3)]).await.is_empty());
        world.deps.ledger = Arc::new(PanicsOn("rid_3", world.ledger.clone()));
        let email = if news { "b" } else { record(3).email };
        let samples = [record(1), record(2), Sample { email, version: 2, ..record(3) }];
        assert_eq!(work(&world, &samples).await, [samples[2].id()]);
        let expect = if news { ids(&samples) } else { ids(&samples[..2]) };
        assert_eq!(arrays(&world)[1..], [expect]);
        assert_eq!(world.ledger.rows().len(), 3);
    }
}

static PANICS: AtomicBool = AtomicBool::new(false);

fn panics_once() -> i64 {
    assert!(!PANICS.swap(false, Ordering::SeqCst), "a bug where an array is sent");
    now()
}

#[tokio::test]
async fn whoever_waits_for_an_array_whose_sending_panics_is_told_so() {
    let mut world = world("").await;
    world.deps.now = panics_once;
    PANICS.store(true, Ordering::SeqCst);
    assert_eq!(work(&world, &records(3)).await, ids(&records(3)));
    assert_eq!((world.arrived(), world.inbox.delays().len()), (0, 3), "each is set back by itself");
    assert!(work(&world, &records(3)).await.is_empty());
}

#[tokio::test]
async fn a_last_receive_in_an_array_is_parked_as_any_other() {
    let world = world("").await;
    world.endpoint.reply(|got| results(got, |id| Some(if id.starts_with("evt_1") { 503 } else { 200 })));
    let samples = [Sample { received: LAST, ..record(1) }, Sample { received: LAST, ..record(2) }];
    assert!(work(&world, &samples).await.is_empty());
    assert_eq!((world.dead(), world.ledger.rows().len()), (vec!["retries_exhausted".to_owned()], 1));
}
