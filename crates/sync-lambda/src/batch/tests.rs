use std::cell::RefCell;

use std::future::pending;
use std::time::Duration;

use aws_lambda_events::sqs::SqsMessage;
use sync_domain::ports::{Queue, QueueEntry};
use sync_testkit::mapping::{BATCH, Feed};
use sync_testkit::{MemoryQueue, Record, event_of};

use super::*;

const SEQUENTIAL: Plan = Plan { groups: Groups::OneByOne, alone_from: 2 };
const PLANS: [Plan; 2] = [SEQUENTIAL, Plan { groups: Groups::SideBySide, alone_from: 2 }];

/// Of a queue that nobody looks at.
async fn each(event: SqsEvent, plan: Plan, work: impl AsyncFn(Turn<'_>) -> Outcome) -> Result<Report, Error> {
    super::each(event, plan, &MemoryQueue::new("queue"), work).await
}

async fn rounds_of(
    event: SqsEvent,
    plan: Plan,
    work: impl AsyncFn(&[&Message]) -> Vec<Outcome>,
) -> Result<Report, Error> {
    super::rounds_of(event, plan, &MemoryQueue::new("queue"), work).await
}

fn record(id: &str, group: &str) -> SqsMessage {
    Record::new(id, "{}").group(group).build()
}

fn record_again(id: &str, group: &str, received: u32) -> SqsMessage {
    Record::new(id, "{}").group(group).received(received).build()
}

fn failed(report: &Report) -> Vec<&str> {
    report.response.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect()
}

fn retry() -> Outcome {
    Outcome::Retry(Reason::new("unavailable", ""))
}

#[tokio::test]
async fn a_batch_without_failures_answers_with_an_empty_list() {
    for plan in PLANS {
        let report = each(event_of([record("1", "a"), record("2", "b")]), plan, async |_| Outcome::Published)
            .await
            .unwrap();
        assert_eq!(failed(&report), Vec::<&str>::new());
        assert_eq!(report.outcomes, [Outcome::Published, Outcome::Published]);
    }
}

#[tokio::test]
async fn a_failed_record_stops_its_group_and_no_other() {
    for plan in PLANS {
        let worked = RefCell::new(Vec::new());
        let batch =
            [record("1", "a"), record("2", "b"), record("3", "a"), record("4", "b"), record("5", "a")];
        let report = each(event_of(batch), plan, async |turn| {
            worked.borrow_mut().push(turn.message.id.clone());
            if turn.message.id == "1" { retry() } else { Outcome::Published }
        });
        let report = report.await.unwrap();
        assert_eq!(failed(&report), ["1", "3", "5"]);
        assert_eq!(*worked.borrow(), ["1", "2", "4"], "nothing behind the failed record is worked");
    }
}

#[tokio::test]
async fn a_panic_fails_its_record_and_its_group_only() {
    for plan in PLANS {
        let batch = [record("1", "a"), record("2", "b"), record("3", "b"), record("4", "c")];
        let report = each(event_of(batch), plan, async |turn| {
            assert_ne!(turn.message.id, "2", "poison");
            Outcome::Published
        });
        let report = report.await.unwrap();
        assert_eq!(failed(&report), ["2", "3"]);
        assert_eq!(report.outcomes[1], Outcome::Retry(Reason::new("panicked", "")));
    }
}

#[tokio::test]
async fn a_parked_record_is_done_and_its_group_goes_on() {
    let report = each(event_of([record("1", "a"), record("2", "a")]), SEQUENTIAL, async |turn| {
        if turn.message.id == "1" { Outcome::DeadLettered(Reason::new("x", "")) } else { Outcome::Published }
    });
    assert_eq!(failed(&report.await.unwrap()), Vec::<&str>::new());
}

#[tokio::test]
async fn a_suspect_is_worked_alone_and_last() {
    for plan in PLANS {
        let worked = RefCell::new(Vec::new());
        let batch = [
            record_again("1", "a", 5),
            record("2", "a"),
            record_again("3", "b", 2),
            record("4", "c"),
            record("5", "d"),
            record_again("6", "d", 3),
        ];
        let report = each(event_of(batch), plan, async |turn| {
            worked.borrow_mut().push(turn.message.id.clone());
            Outcome::Published
        });
        report.await.unwrap();
        assert_eq!(*worked.borrow(), ["4", "5", "3", "6", "1", "2"]);
    }
}

/// Whatever is done before a record that kills the process must not need the answer of that invocation.
#[tokio::test]
async fn a_record_that_kills_the_process_takes_no_other_along_wherever_it_stands() {
    for (poison, in_rounds) in (0..BATCH).flat_map(|place| [(place, false), (place, true)]) {
        let queue = MemoryQueue::new("queue");
        for place in 0..BATCH {
            let name = place.to_string();
            let (body, group, dedup) = (name.clone(), name.clone(), name);
            let entry = QueueEntry { body, group, dedup, attributes: Vec::new() };
            queue.send(vec![entry]).await.remove(0).unwrap();
        }
        let is_poison = |message: &Message| message.body == poison.to_string();
        // Received together, then twice one by one.
        for _ in 0..3 {
            let handed = Feed::receive(&queue, BATCH).await.unwrap();
            let records = handed.into_iter().map(|one| serde_json::from_value(one.record).unwrap());
            let event = event_of(records);
            let worked = async {
                if in_rounds {
                    let work = async |messages: &[&Message]| {
                        if messages.iter().any(|message| is_poison(message)) {
                            pending::<()>().await;
                        }
                        messages.iter().map(|_| Outcome::Published).collect()
                    };
                    super::rounds_of(event, Plan::default(), &queue, work).await
                } else {
                    let work = async |turn: Turn<'_>| {
                        if is_poison(turn.message) {
                            pending::<()>().await;
                        }
                        Outcome::Published
                    };
                    super::each(event, Plan::default(), &queue, work).await
                }
            };
            // The process dies: nobody answers.
            assert!(tokio::time::timeout(Duration::from_millis(1), worked).await.is_err());
            queue.advance(Duration::from_secs(360));
        }
        let left: Vec<String> = queue.stored().into_iter().map(|stored| stored.entry.body).collect();
        assert_eq!(left, [poison.to_string()]);
    }
}

#[tokio::test]
async fn rounds_hold_suspects_apart_and_give_the_rest_at_once() {
    let rounds = RefCell::new(Vec::new());
    let batch = [record("1", "a"), record_again("2", "b", 2), record("3", "c"), record("4", "b")];
    let report = rounds_of(event_of(batch), Plan::default(), async |messages| {
        rounds.borrow_mut().push(messages.iter().map(|message| message.id.clone()).collect::<Vec<_>>());
        messages.iter().map(|_| Outcome::Published).collect()
    });
    assert_eq!(failed(&report.await.unwrap()), Vec::<&str>::new());
    assert_eq!(*rounds.borrow(), [vec!["1", "3"], vec!["2"], vec!["4"]]);
}

#[tokio::test]
async fn a_failed_suspect_holds_back_what_stands_behind_it() {
    let worked = RefCell::new(Vec::new());
    let batch = [record_again("1", "a", 2), record("2", "a"), record("3", "b")];
    let report = rounds_of(event_of(batch), Plan::default(), async |messages| {
        worked.borrow_mut().extend(messages.iter().map(|message| message.id.clone()));
        messages.iter().map(|message| if message.id == "1" { retry() } else { Outcome::Published }).collect()
    });
    assert_eq!(failed(&report.await.unwrap()), ["1", "2"]);
    assert_eq!(*worked.borrow(), ["3", "1"]);
}

#[tokio::test]
async fn a_record_behind_a_failed_one_comes_again_even_if_a_handler_says_done() {
    let batch = [record("1", "a"), record("2", "a"), record("3", "b")];
    let report = rounds_of(event_of(batch), Plan::default(), async |messages| {
        messages.iter().map(|message| if message.id == "1" { retry() } else { Outcome::Published }).collect()
    });
    assert_eq!(failed(&report.await.unwrap()), ["1", "2"]);
}

#[tokio::test]
async fn a_record_without_an_outcome_is_not_done() {
    let batch = || event_of([record("1", "a"), record("2", "b")]);
    let short = rounds_of(batch(), Plan::default(), async |_| vec![Outcome::Published]).await.unwrap();
    assert_eq!(failed(&short), ["2"]);
    let panicked = rounds_of(batch(), Plan::default(), async |_| panic!("poison")).await.unwrap();
    assert_eq!(failed(&panicked), ["1", "2"]);
}

#[tokio::test]
async fn a_record_without_a_message_id_fails_the_batch() {
    let mut nameless = record("1", "a");
    for id in [None, Some(String::new())] {
        nameless.message_id = id;
        let batch = event_of([record("2", "b"), nameless.clone()]);
        let report = each(batch, Plan::default(), async |_| panic!("nothing may be worked")).await;
        assert_eq!(report, Err(Error::NoMessageId));
    }
}

#[tokio::test]
async fn only_ids_that_came_in_are_answered() {
    let batch = event_of([record("1", "a"), record("2", "b")]);
    let report =
        rounds_of(batch, Plan::default(), async |_| vec![retry(), retry(), retry(), retry()]).await.unwrap();
    assert_eq!(failed(&report), ["1", "2"]);
}

#[tokio::test]
async fn a_turn_names_the_receipts_of_its_whole_group() {
    let batch = [record("1", "a"), record("2", "b"), record("3", "a"), record_again("4", "a", 7)];
    let receipts = RefCell::new(Vec::new());
    let report = each(event_of(batch), Plan::default(), async |turn| {
        if turn.message.id == "1" {
            receipts.borrow_mut().extend(turn.receipts());
        }
        Outcome::Published
    });
    report.await.unwrap();
    assert_eq!(*receipts.borrow(), ["receipt-1-1", "receipt-3-1", "receipt-4-7"]);
}

#[tokio::test]
async fn groups_go_side_by_side() {
    // Each group waits until both have begun: one after the other they would never end.
    let begun = RefCell::new(0);
    let plan = Plan { groups: Groups::SideBySide, ..Plan::default() };
    let report = each(event_of([record("1", "a"), record("2", "b")]), plan, async |_| {
        *begun.borrow_mut() += 1;
        while *begun.borrow() < 2 {
            tokio::task::yield_now().await;
        }
        Outcome::Delivered
    });
    let report = tokio::time::timeout(std::time::Duration::from_secs(5), report).await.unwrap();
    assert_eq!(report.unwrap().outcomes, [Outcome::Delivered, Outcome::Delivered]);
}

#[test]
fn a_message_is_read_as_sqs_sent_it() {
    let record =
        Record::new("m-1", "body").group("g").received(4).sequence("42").attribute("enrich", "yes").build();
    let message = Message::read(record).unwrap();
    assert_eq!((message.id.as_str(), message.group.as_str(), message.body.as_str()), ("m-1", "g", "body"));
    assert_eq!((message.received, message.sequence.as_deref()), (4, Some("42")));
    assert_eq!(message.attributes, BTreeMap::from([("enrich".to_owned(), "yes".to_owned())]));
    assert!(message.is_last_receive(4) && !message.is_last_receive(5));
}

#[test]
fn a_message_of_a_standard_queue_is_a_group_of_its_own() {
    let mut record = Record::new("m-1", "body").build();
    record.attributes.clear();
    let message = Message::read(record).unwrap();
    assert_eq!((message.group.as_str(), message.received), ("m-1", 1));
}
