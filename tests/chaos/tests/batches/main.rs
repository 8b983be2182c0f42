//! Every batch call of the suite, made by the real adapter at the real emulator, with everything in between that can go
//! wrong: from one to all entries failed, throttled, answers lost, the service down, calls twice and out of order. Whoever
//! calls does what a stage does: what is not confirmed comes again, with all that stands behind it in its group.
//!
//! Beside each adapter stand wrong ones (`wrong`), so that it is known that the same faults catch them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and tells what its proxy did"
)]

mod bed;
mod dialects;
mod faults;
mod judge;
mod redrive;
mod wrong;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use sync_aws::dynamodb::DynamoLedger;
use sync_aws::eventbridge::EventBridgeBus;
use sync_aws::sns::SnsTopic;
use sync_aws::sqs::letters::{Letters, SqsLetters};
use sync_aws::sqs::{SqsInbox, SqsQueue};
use sync_domain::ports::{FailureBus, Inbox, Ledger, LedgerRow, Queue, Topic};

use crate::bed::Bed;
use crate::faults::{Case, cases, some_cases};
use crate::judge::{Entry, Judged, entries, event, failure, hand_off, judge, message};

/// Lets some cases run at a time: the emulator would answer more of them later than the SDK waits.
async fn side_by_side<T>(runs: impl Iterator<Item: Future<Output = T>>) -> Vec<T> {
    stream::iter(runs).buffered(6).collect().await
}

/// Hands entries to a queue in every case; what arrived is judged.
async fn to_queue<F>(bed: &Bed, cases: Vec<Case>, send: F) -> BTreeMap<String, Judged>
where
    F: AsyncFn(&str, Vec<Entry>) -> Vec<bool>,
{
    let run = async |(number, case): (usize, Case)| {
        let name = format!("queue-{}-{number}.fifo", bed.next());
        let url = bed.fifo(&name).await;
        case.set(&bed.proxy, "sqs", "SendMessageBatch", &name);
        let claimed = hand_off(entries(), async |some| send(&url, some).await).await;
        (case.name, judge(&entries(), claimed, &bed.arrived(&name).await))
    };
    side_by_side(cases.into_iter().enumerate().map(run)).await.into_iter().collect()
}

/// Publishes events to a topic in every case; what arrived at its subscriber is judged.
async fn to_topic<F>(bed: &Bed, cases: Vec<Case>, publish: F) -> BTreeMap<String, Judged>
where
    F: AsyncFn(&str, Vec<Entry>) -> Vec<bool>,
{
    let run = async |(number, case): (usize, Case)| {
        let name = format!("topic-{}-{number}.fifo", bed.next());
        let arn = bed.topic(&name).await;
        case.set(&bed.proxy, "sns", "PublishBatch", &name);
        let claimed = hand_off(entries(), async |some| publish(&arn, some).await).await;
        (case.name, judge(&entries(), claimed, &bed.arrived(&name).await))
    };
    side_by_side(cases.into_iter().enumerate().map(run)).await.into_iter().collect()
}

/// Reports failures to a bus in every case; what arrived behind its rule is judged.
async fn to_bus<F>(bed: &Bed, cases: Vec<Case>, report: F) -> BTreeMap<String, Judged>
where
    F: AsyncFn(&str, Vec<Entry>) -> Vec<bool>,
{
    let run = async |(number, case): (usize, Case)| {
        let name = format!("bus-{}-{number}", bed.next());
        bed.bus(&name).await;
        case.set(&bed.proxy, "events", "PutEvents", &name);
        let claimed = hand_off(entries(), async |some| report(&name, some).await).await;
        let mut judged = judge(&entries(), claimed, &bed.arrived(&name).await);
        // A bus knows neither order nor duplicates: a ticket's id makes one of two.
        judged.no_order();
        (case.name, judged)
    };
    side_by_side(cases.into_iter().enumerate().map(run)).await.into_iter().collect()
}

fn nothing_is_wrong(judged: &BTreeMap<String, Judged>) {
    let wrong: Vec<_> = judged.iter().filter(|(_, judged)| **judged != Judged::default()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn taken<T>(results: &[sync_domain::ports::Result<T>]) -> Vec<bool> {
    results.iter().map(Result::is_ok).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_a_batch_for_a_queue_nothing_is_lost_or_doubled_or_overtaken() {
    let bed = Bed::make("batches-queue").await;
    let send = async |url: &str, some: Vec<Entry>| {
        let queue = SqsQueue::new(bed.clients.sqs(), url);
        taken(&queue.send(some.iter().map(message).collect()).await)
    };
    let judged = to_queue(&bed, cases(), send).await;
    nothing_is_wrong(&judged);
    bed.every_case_took_place("sqs", "SendMessageBatch", &cases());

    let lossy =
        to_queue(&bed, some_cases(), async |url, some| wrong::ignores_failed(&bed, url, some).await).await;
    assert!(lossy.values().any(|judged| judged.lost > 0), "nobody notices who ignores `Failed`: {lossy:#?}");
    let late =
        to_queue(&bed, some_cases(), async |url, some| wrong::sends_failed_last(&bed, url, some).await).await;
    assert!(
        late.values().any(|judged| judged.out_of_order > 0),
        "nobody notices a failed entry behind later ones: {late:#?}"
    );
    let doubled =
        to_queue(&bed, some_cases(), async |url, some| wrong::makes_new_ids(&bed, url, some).await).await;
    assert!(
        doubled.values().any(|judged| judged.twice > 0),
        "nobody notices new deduplication ids: {doubled:#?}"
    );
    let trusting = to_queue(&bed, some_cases(), async |url, some| {
        wrong::takes_errors_for_success(&bed, url, some).await
    })
    .await;
    assert!(trusting.values().any(|judged| judged.lost > 0), "nobody notices a lost call: {trusting:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_a_batch_for_the_topic_nothing_is_lost_or_doubled_or_overtaken() {
    let bed = Bed::make("batches-topic").await;
    let publish = async |arn: &str, some: Vec<Entry>| {
        let topic = SnsTopic::new(bed.clients.sns(), arn);
        taken(&topic.publish(&some.iter().map(event).collect::<Vec<_>>()).await)
    };
    let judged = to_topic(&bed, cases(), publish).await;
    nothing_is_wrong(&judged);
    bed.every_case_took_place("sns", "PublishBatch", &cases());

    let lossy = to_topic(&bed, some_cases(), async |arn, some| {
        wrong::publishes_and_ignores_failed(&bed, arn, some).await
    })
    .await;
    assert!(lossy.values().any(|judged| judged.lost > 0), "nobody notices who ignores `Failed`: {lossy:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_a_batch_of_failures_each_of_them_is_reported() {
    let bed = Bed::make("batches-bus").await;
    let report = async |name: &str, some: Vec<Entry>| {
        let bus = EventBridgeBus::new(bed.clients.eventbridge(), name);
        taken(&bus.report(&some.iter().map(failure).collect::<Vec<_>>()).await)
    };
    let judged = to_bus(&bed, cases(), report).await;
    nothing_is_wrong(&judged);
    bed.every_case_took_place("events", "PutEvents", &cases());

    let lossy = to_bus(&bed, some_cases(), async |name, some| {
        wrong::reports_and_ignores_failed(&bed, name, some).await
    })
    .await;
    assert!(
        lossy.values().any(|judged| judged.lost > 0),
        "nobody notices who ignores `FailedEntryCount`: {lossy:#?}"
    );
}

/// Rows that a read asks for: of every third key there is none. More than one call takes.
const KEYS: usize = 130;

fn key(number: usize) -> String {
    format!("row-{number:03}")
}

fn row(number: usize) -> Option<LedgerRow> {
    (!number.is_multiple_of(3)).then(|| LedgerRow {
        version: sync_domain::version::Version::from_decimal(0, &number.to_string()).unwrap(),
        digest: Some(format!("digest-{number}")),
        deleted: false,
        key: "{}".to_owned(),
        tries: 1,
        expires_at: None,
        whose: None,
    })
}

/// What a read came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    /// Keys for which something was answered that is not so.
    wrong: usize,
    /// Keys that were never answered.
    unanswered: usize,
}

/// Reads the ledger in every case, again and again what could not be read.
async fn from_ledger<F>(bed: &Bed, cases: Vec<Case>, read: F) -> BTreeMap<String, Read>
where
    F: AsyncFn(&str, Vec<String>) -> Vec<Option<Option<LedgerRow>>>,
{
    let run = async |(number, case): (usize, Case)| {
        let name = format!("ledger-{}-{number}", bed.next());
        bed.table(&name).await;
        let ledger = DynamoLedger::new(bed.direct.dynamodb(), &name);
        let rows = (0..KEYS).filter_map(|number| Some((key(number), row(number)?)));
        for (key, row) in rows {
            assert!(ledger.mark(&key, &row).await.unwrap());
        }
        case.set(&bed.proxy, "dynamodb", "BatchGetItem", &name);
        let mut left: Vec<usize> = (0..KEYS).collect();
        let mut came = Read::default();
        for _ in 0..judge::ROUNDS {
            let keys = left.iter().map(|number| key(*number)).collect();
            let answers = read(&name, keys).await;
            let mut again = Vec::new();
            for (number, answer) in left.iter().zip(answers) {
                match answer {
                    None => again.push(*number),
                    Some(found) => came.wrong += usize::from(found != row(*number)),
                }
            }
            left = again;
            if left.is_empty() {
                break;
            }
        }
        came.unanswered = left.len();
        (case.name, came)
    };
    side_by_side(cases.into_iter().enumerate().map(run)).await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_a_read_of_the_ledger_a_row_that_was_not_read_is_not_missing() {
    let bed = Bed::make("batches-ledger").await;
    let read = async |name: &str, keys: Vec<String>| {
        let found = DynamoLedger::new(bed.clients.dynamodb(), name).read(&keys).await;
        found.into_iter().map(Result::ok).collect()
    };
    let came = from_ledger(&bed, cases(), read).await;
    let wrong: Vec<_> = came.iter().filter(|(_, read)| **read != Read::default()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    bed.every_case_took_place("dynamodb", "BatchGetItem", &cases());

    let blind = from_ledger(&bed, some_cases(), async |name, keys| {
        wrong::ignores_unprocessed(&bed, name, keys).await
    })
    .await;
    assert!(
        blind.values().any(|read| read.wrong > 0),
        "nobody notices who ignores unprocessed keys: {blind:#?}"
    );
}

/// Letters in a queue, each of a group of its own, and the half of them that somebody is done with.
const LETTERS: usize = 30;

async fn letters(bed: &Bed, name: &str) -> (SqsLetters, BTreeMap<String, String>) {
    let url = bed.fifo(name).await;
    let all: Vec<Entry> = (0..LETTERS).map(|number| Entry::new(&format!("group-{number}"), 0)).collect();
    let queue = SqsQueue::new(bed.direct.sqs(), &url);
    assert!(queue.send(all.iter().map(message).collect()).await.iter().all(Result::is_ok));
    let direct = SqsLetters::new(bed.direct.sqs(), &url);
    let mut received = BTreeMap::new();
    while received.len() < LETTERS {
        let some = direct.receive(Duration::from_secs(300)).await.unwrap();
        received.extend(some.into_iter().map(|letter| (letter.body, letter.receipt)));
    }
    (SqsLetters::new(bed.clients.sqs(), &url), received)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_a_batch_of_deletions_what_was_confirmed_is_gone_and_nothing_else() {
    let bed = Bed::make("batches-deletions").await;
    let run = async |(number, case): (usize, Case)| {
        let name = format!("letters-{number}.fifo");
        let (through, received) = letters(&bed, &name).await;
        case.set(&bed.proxy, "sqs", "DeleteMessageBatch", &name);
        let (done, kept): (Vec<_>, Vec<_>) =
            received.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
        let mut left: Vec<String> = done.into_iter().map(|(_, (_, receipt))| receipt).collect();
        for _ in 0..judge::ROUNDS {
            let results = through.delete(&left).await;
            let before = left.len();
            let failed = left.into_iter().zip(results).filter(|(_, result)| result.is_err());
            left = failed.map(|(receipt, _)| receipt).collect();
            // The emulator does not delete twice what it has deleted when an answer was lost; SQS does.
            if left.is_empty() || (case.has_its_effect_unseen() && left.len() == before) {
                break;
            }
        }
        let kept: BTreeSet<String> = kept.into_iter().map(|(_, (body, _))| body).collect();
        let there: BTreeSet<String> =
            bed.arrived(&name).await.into_iter().map(|entry| entry.body()).collect();
        assert_eq!(there, kept, "{}", case.name);
        assert!(
            left.is_empty() || case.has_its_effect_unseen(),
            "{}: {} are not deleted",
            case.name,
            left.len()
        );
    };
    side_by_side(cases().into_iter().enumerate().map(run)).await;
    bed.every_case_took_place("sqs", "DeleteMessageBatch", &cases());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_a_batch_of_delays_each_message_is_delayed_or_somebody_hears_of_it() {
    let bed = Bed::make("batches-delays").await;
    let run = async |(number, case): (usize, Case)| {
        let name = format!("delays-{number}.fifo");
        let (through, received) = letters(&bed, &name).await;
        case.set(&bed.proxy, "sqs", "ChangeMessageVisibilityBatch", &name);
        let receipts: Vec<String> = received.values().cloned().collect();
        let inbox = SqsInbox::new(bed.clients.sqs(), bed.url(&name));
        let mut told = 0;
        for _ in 0..judge::ROUNDS {
            // One that is refused by the service for good is refused by chance here.
            match inbox.delay(&receipts, Duration::ZERO).await {
                Ok(()) => break,
                Err(_) => told += 1,
            }
        }
        assert!(told < judge::ROUNDS, "{}", case.name);
        let standing = through.standing().await.unwrap();
        assert_eq!(
            (standing.visible, standing.hidden),
            (LETTERS as u64, 0),
            "{}: told {told} times",
            case.name
        );
    };
    side_by_side(cases().into_iter().enumerate().map(run)).await;
    bed.every_case_took_place("sqs", "ChangeMessageVisibilityBatch", &cases());
}
