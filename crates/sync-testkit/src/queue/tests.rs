use aws_lambda_events::sqs::BatchItemFailure;
use futures_util::FutureExt;
use sync_domain::ports::Kind;

use super::*;

fn entry(group: &str, dedup: &str) -> QueueEntry {
    let (body, attributes) = (format!("body-{dedup}"), Vec::new());
    QueueEntry { body, group: group.to_owned(), dedup: dedup.to_owned(), attributes }
}

fn send(queue: &MemoryQueue, entries: &[(&str, &str)]) -> Vec<Result<()>> {
    let entries = entries.iter().map(|(group, dedup)| entry(group, dedup)).collect();
    queue.send(entries).now_or_never().unwrap()
}

fn bodies(event: &SqsEvent) -> Vec<&str> {
    event.records.iter().map(|record| record.body.as_deref().unwrap()).collect()
}

fn failing(ids: &[&str]) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    for id in ids {
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = (*id).to_owned();
        response.batch_item_failures.push(failure);
    }
    response
}

#[test]
fn a_message_is_kept_once_per_group_and_deduplication_id_for_five_minutes() {
    let queue = MemoryQueue::new("q");
    send(&queue, &[("a", "1"), ("a", "1"), ("b", "1"), ("a", "2")]);
    assert_eq!(queue.entries().len(), 3);
    queue.advance(Duration::from_secs(299));
    send(&queue, &[("a", "1")]);
    assert_eq!(queue.entries().len(), 3);
    queue.advance(Duration::from_secs(1));
    send(&queue, &[("a", "1")]);
    assert_eq!(queue.entries().len(), 4);
}

#[test]
fn a_failed_entry_holds_back_its_group() {
    let queue = MemoryQueue::new("q");
    queue.fault(Fault::Entries(vec![(0, Kind::Refused)]));
    let results = send(&queue, &[("a", "1"), ("a", "2"), ("b", "3")]);
    let kinds: Vec<_> = results.iter().map(|result| result.as_ref().err().map(|error| error.kind)).collect();
    assert_eq!(kinds, [Some(Kind::Refused), Some(Kind::Behind), None]);
    assert_eq!(queue.entries(), [entry("b", "3")]);
}

#[test]
fn a_lost_answer_leaves_the_message_there() {
    let queue = MemoryQueue::new("q");
    queue.fault(Fault::Lost);
    assert!(send(&queue, &[("a", "1")])[0].is_err());
    assert!(send(&queue, &[("a", "1")])[0].is_ok());
    assert_eq!(queue.entries().len(), 1);
}

#[test]
fn a_group_in_flight_gives_nothing_more() {
    let queue = MemoryQueue::new("q");
    send(&queue, &[("a", "1"), ("b", "2"), ("a", "3")]);
    assert_eq!(bodies(&queue.receive(1)), ["body-1"]);
    assert_eq!(bodies(&queue.receive(10)), ["body-2"]);
    queue.answer(Ok(&failing(&[])));
    assert_eq!(bodies(&queue.receive(10)), ["body-3"]);
}

#[test]
fn what_failed_comes_again_and_counts() {
    let queue = MemoryQueue::new("q");
    send(&queue, &[("a", "1"), ("b", "2")]);
    let first = queue.receive(10);
    queue.answer(Ok(&failing(&[first.records[0].message_id.as_deref().unwrap()])));
    let again = queue.receive(10);
    assert_eq!(bodies(&again), ["body-1"]);
    assert_eq!(again.records[0].attributes["ApproximateReceiveCount"], "2");
}

#[test]
fn an_unknown_id_or_a_failed_invocation_fails_the_whole_batch() {
    let queue = MemoryQueue::new("q");
    send(&queue, &[("a", "1"), ("b", "2")]);
    queue.receive(10);
    queue.answer(Ok(&failing(&["unknown"])));
    assert_eq!(queue.receive(10).records.len(), 2);
    queue.answer(Err(()));
    assert_eq!(queue.receive(10).records.len(), 2);
}

#[test]
fn a_delayed_message_holds_its_group_until_its_time() {
    let queue = MemoryQueue::new("q");
    send(&queue, &[("a", "1"), ("a", "2")]);
    let event = queue.receive(1);
    let receipts = [event.records[0].receipt_handle.clone().unwrap()];
    queue.delay(&receipts, Duration::from_secs(30)).now_or_never().unwrap().unwrap();
    queue.answer(Err(()));
    assert!(queue.receive(10).records.is_empty());
    queue.advance(Duration::from_secs(30));
    assert_eq!(bodies(&queue.receive(10)), ["body-1", "body-2"]);
}

#[test]
fn a_message_that_was_received_too_often_moves_to_the_dead_letters() {
    let dead = MemoryQueue::new("dead");
    let queue = MemoryQueue::new("q").with_dead_letters(dead.clone(), 2);
    send(&queue, &[("a", "1")]);
    for _ in 0..2 {
        assert_eq!(queue.receive(10).records.len(), 1);
        queue.answer(Err(()));
    }
    assert!(queue.receive(10).records.is_empty());
    assert_eq!(dead.entries(), [entry("a", "1")]);
}

#[test]
fn a_message_that_was_taken_holds_up_its_group_until_it_is_set_back_or_removed() {
    let queue = MemoryQueue::new("q");
    send(&queue, &[("a", "1"), ("a", "2"), ("b", "3")]);
    let take = || queue.take().now_or_never().unwrap().unwrap();
    let first = take().unwrap();
    assert_eq!(first.body, "body-1");
    assert!(first.system.contains(&("MessageGroupId".to_owned(), "a".to_owned())));
    assert!(first.system.contains(&("ApproximateReceiveCount".to_owned(), "1".to_owned())));
    assert_eq!(take().unwrap().body, "body-3", "the other of its group waits");
    assert_eq!(take(), None);
    let delayed = queue.delay(std::slice::from_ref(&first.receipt), Duration::from_secs(100));
    delayed.now_or_never().unwrap().unwrap();
    queue.advance(Duration::from_secs(99));
    assert_eq!(take(), None);
    queue.advance(Duration::from_secs(1));
    let again = take().unwrap();
    assert_eq!(again.body, "body-1");
    queue.remove(&first.receipt).now_or_never().unwrap().unwrap();
    assert_eq!(queue.stored().len(), 3, "the receipt of an earlier receive removes nothing");
    queue.remove(&again.receipt).now_or_never().unwrap().unwrap();
    assert_eq!(take().unwrap().body, "body-2");
}

#[test]
fn what_was_lent_is_hidden_with_what_stands_behind_it_until_its_time_is_over() {
    let queue = MemoryQueue::new("q");
    send(&queue, &[("a", "1"), ("b", "2"), ("c", "3")]);
    let one = queue.lend(2);
    send(&queue, &[("a", "4")]);
    assert_eq!((bodies(&one), bodies(&queue.lend(9))), (vec!["body-1", "body-2"], vec!["body-3"]));
    // What failed without a delay of its own waits for the visibility timeout.
    queue.settle(&one.records, Ok(&failing(&[one.records[0].message_id.as_deref().unwrap()])));
    assert_eq!(queue.depth(), 3, "the other one is done");
    queue.advance(Duration::from_secs(359));
    assert!(bodies(&queue.lend(9)).is_empty());
    queue.advance(Duration::from_secs(1));
    assert_eq!(bodies(&queue.lend(9)), ["body-1", "body-3", "body-4"]);
}

#[test]
fn an_answer_for_what_was_not_lent_or_was_lent_again_deletes_nothing() {
    let queue = MemoryQueue::new("q");
    send(&queue, &[("a", "1")]);
    let lent = queue.lend(1);
    queue.settle(&lent.records, Ok(&failing(&["another"])));
    queue.settle(&lent.records, Err(()));
    assert_eq!(queue.depth(), 1);
    queue.advance(Duration::from_secs(360));
    let again = queue.lend(1);
    queue.settle(&lent.records, Ok(&failing(&[])));
    assert_eq!(queue.depth(), 1, "somebody else has it");
    queue.settle(&again.records, Ok(&failing(&[])));
    assert_eq!(queue.depth(), 0);
}
