use std::time::Duration;

use futures_util::FutureExt;
use sync_domain::ports::{Queue, QueueEntry};

use super::*;
use crate::MemoryQueue;

const VISIBILITY: Duration = Duration::from_secs(360);

/// What an invocation becomes, by what it is handed.
type Step = Box<dyn FnOnce(&[String]) -> Invoked + Send>;

/// A function that does as it is told, invocation by invocation, and notes what it was handed.
#[derive(Default)]
struct Scripted {
    script: Vec<Step>,
    handed: Vec<Vec<String>>,
}

impl Scripted {
    fn of(script: impl FnOnce(&[String]) -> Invoked + Send + 'static) -> Self {
        Self { script: vec![Box::new(script)], handed: Vec::new() }
    }

    fn answering(answer: &str) -> Self {
        let answer = answer.to_owned();
        Self::of(move |_| Invoked::Answered(answer))
    }
}

#[async_trait]
impl Function for Scripted {
    async fn invoke(&mut self, event: String) -> Invoked {
        let event: Value = serde_json::from_str(&event).unwrap();
        let records = event["Records"].as_array().unwrap();
        let ids: Vec<String> =
            records.iter().map(|record| record["messageId"].as_str().unwrap().to_owned()).collect();
        self.handed.push(ids.clone());
        (self.script.remove(0))(&ids)
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

/// A mapping of a queue with messages, each given by its group.
fn mapping(groups: &[&str]) -> Mapping<MemoryQueue> {
    let queue = MemoryQueue::new("q");
    let entries = groups.iter().enumerate().map(|(index, group)| QueueEntry {
        body: format!("{group}-{index}"),
        group: (*group).to_owned(),
        dedup: index.to_string(),
        attributes: Vec::new(),
    });
    now(queue.send(entries.collect()));
    Mapping::new(queue)
}

fn work(mapping: &Mapping<MemoryQueue>, mut function: Scripted) -> (Vec<Handed>, End) {
    let handed = now(mapping.receive()).unwrap();
    let end = now(mapping.work(&handed, &mut function)).unwrap();
    (handed, end)
}

fn left(mapping: &Mapping<MemoryQueue>) -> Vec<String> {
    mapping.feed().entries().into_iter().map(|entry| entry.body).collect()
}

fn naming(ids: &[&str]) -> String {
    let entries: Vec<Value> = ids.iter().map(|id| json!({ "itemIdentifier": id })).collect();
    json!({ "batchItemFailures": entries }).to_string()
}

#[test]
fn what_an_answer_names_comes_again_and_the_rest_is_deleted() {
    let mapping = mapping(&["a", "b", "c"]);
    let second = |ids: &[String]| Invoked::Answered(naming(&[&ids[1]]));
    let (handed, end) = work(&mapping, Scripted::of(second));
    assert_eq!(end.done(&handed).len(), 2);
    assert_eq!(left(&mapping), ["b-1"]);
    assert!(now(mapping.receive()).unwrap().is_empty(), "hidden until its visibility ends");
    mapping.feed().advance(VISIBILITY);
    let again = now(mapping.receive()).unwrap();
    assert_eq!(again[0].record["attributes"]["ApproximateReceiveCount"], "2");
}

#[test]
fn every_way_to_say_that_all_is_done_deletes_all() {
    for answer in ["null", "{}", r#"{"batchItemFailures":[]}"#, r#"{"batchItemFailures":null}"#] {
        let mapping = mapping(&["a", "b"]);
        assert_eq!(work(&mapping, Scripted::answering(answer)).1, End::Worked(BTreeSet::new()), "{answer}");
        assert!(left(&mapping).is_empty(), "{answer}");
    }
}

#[test]
fn an_answer_that_breaks_a_rule_deletes_nothing() {
    for (answer, refusal) in [
        ("", Refusal::Form),
        ("all fine", Refusal::Form),
        ("[]", Refusal::Form),
        (r#"{"batchItemFailures":"a"}"#, Refusal::Form),
        (r#"{"batchItemFailures":[{}]}"#, Refusal::NoId),
        (r#"{"batchItemFailures":[null]}"#, Refusal::NoId),
        (r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#, Refusal::NoId),
        (r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#, Refusal::NoId),
        (r#"{"batchItemFailures":[{"itemIdentifier":7}]}"#, Refusal::NoId),
        (r#"{"batchItemFailures":[{"messageId":"a"}]}"#, Refusal::NoId),
        (r#"{"batchItemFailures":[{"itemIdentifier":"no such message"}]}"#, Refusal::UnknownId),
    ] {
        let mapping = mapping(&["a", "b"]);
        assert_eq!(work(&mapping, Scripted::answering(answer)).1, End::Refused(refusal), "{answer}");
        assert_eq!(left(&mapping).len(), 2, "{answer}");
    }
    // One that is right does not save one that is wrong.
    let mapping = mapping(&["a", "b"]);
    let both = |ids: &[String]| Invoked::Answered(naming(&[&ids[0], "no such message"]));
    assert_eq!(work(&mapping, Scripted::of(both)).1, End::Refused(Refusal::UnknownId));
    assert_eq!(left(&mapping).len(), 2);
}

#[test]
fn a_function_that_fails_or_is_throttled_loses_nothing_and_every_receive_counts() {
    for (invoked, end) in [(Invoked::Failed, End::Failed), (Invoked::Throttled, End::Throttled)] {
        let mapping = mapping(&["a", "b"]);
        let counted = |handed: &[Handed]| {
            handed[0].record["attributes"]["ApproximateReceiveCount"].as_str().unwrap().to_owned()
        };
        for time in ["1", "2", "3"] {
            let invoked = invoked.clone();
            let (handed, ended) = work(&mapping, Scripted::of(move |_| invoked));
            assert_eq!((ended, handed.len(), counted(&handed).as_str()), (end.clone(), 2, time));
            mapping.feed().advance(VISIBILITY);
        }
        assert_eq!(left(&mapping).len(), 2);
    }
}

#[test]
fn what_was_received_too_often_is_the_queues_to_move() {
    let dead = MemoryQueue::new("dead");
    let source = mapping(&["a"]).feed.with_dead_letters(dead.clone(), 2);
    let mapping = Mapping::new(source);
    for _ in 0..2 {
        assert_eq!(work(&mapping, Scripted::of(|_| Invoked::Failed)).0.len(), 1);
        mapping.feed().advance(VISIBILITY);
    }
    assert!(now(mapping.receive()).unwrap().is_empty());
    assert_eq!((left(&mapping).len(), dead.entries().len()), (0, 1));
}

#[test]
fn batches_side_by_side_never_share_a_group() {
    let groups: Vec<&str> = ["a"; 12].into_iter().chain(["b"; 2]).collect();
    let mapping = mapping(&groups);
    let first = now(mapping.receive()).unwrap();
    assert_eq!(first.len(), BATCH);
    let second = now(mapping.receive()).unwrap();
    let groups: Vec<_> = second.iter().map(|one| &one.record["attributes"]["MessageGroupId"]).collect();
    assert_eq!(groups, ["b", "b"]);
    // What is behind the first batch waits until the whole of it is over.
    assert!(now(mapping.receive()).unwrap().is_empty());
    now(mapping.work(&first, &mut Scripted::answering("{}"))).unwrap();
    assert_eq!(now(mapping.receive()).unwrap().len(), 2);
}

#[test]
fn an_invocation_that_outlasts_the_visibility_deletes_nothing_of_the_next() {
    let mapping = mapping(&["a"]);
    let slow = now(mapping.receive()).unwrap();
    mapping.feed().advance(VISIBILITY);
    let next = now(mapping.receive()).unwrap();
    assert_eq!(slow[0].id, next[0].id, "one message in two invocations");
    now(mapping.work(&slow, &mut Scripted::answering("{}"))).unwrap();
    assert_eq!(left(&mapping).len(), 1);
    now(mapping.work(&next, &mut Scripted::answering("{}"))).unwrap();
    assert!(left(&mapping).is_empty());
}

#[test]
fn a_mapping_that_is_disabled_reads_nothing() {
    let mapping = mapping(&["a"]);
    mapping.enable(false);
    assert!(now(mapping.receive()).unwrap().is_empty());
    assert_eq!(mapping.feed().stored()[0].received, 0);
    mapping.enable(true);
    assert_eq!(now(mapping.receive()).unwrap().len(), 1);
}
