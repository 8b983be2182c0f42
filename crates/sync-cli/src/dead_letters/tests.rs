use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sync_domain::ports::{Kind, QueueEntry, Result};

use super::*;

const NOW: u64 = 1_000_000_000;

/// A dead-letter queue that hands out letters as a FIFO queue does: none of a group of which one is out.
#[derive(Default)]
struct Drawer {
    letters: Mutex<Vec<Letter>>,
    out: Mutex<HashSet<String>>,
    deletes_fail: Mutex<bool>,
}

impl Drawer {
    fn of(letters: Vec<Letter>) -> Self {
        Self { letters: Mutex::new(letters), ..Self::default() }
    }

    fn ids(&self) -> Vec<String> {
        lock(&self.letters).iter().map(|letter| letter.id.clone()).collect()
    }

    fn hidden(&self) -> usize {
        lock(&self.out).len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(operation: &'static str) -> ports::Error {
    ports::Error { kind: Kind::Unavailable, operation, code: "Timeout".to_owned(), source: None }
}

#[async_trait]
impl Letters for Drawer {
    async fn receive(&self, _: Duration) -> Result<Vec<Letter>> {
        let (letters, mut out) = (lock(&self.letters), lock(&self.out));
        let busy: HashSet<String> = letters
            .iter()
            .filter(|letter| out.contains(&letter.receipt))
            .map(|letter| letter.group.clone())
            .collect();
        let free = letters.iter().filter(|letter| !busy.contains(&letter.group));
        let batch: Vec<Letter> = free.take(10).cloned().collect();
        out.extend(batch.iter().map(|letter| letter.receipt.clone()));
        Ok(batch)
    }

    async fn delete(&self, receipts: &[String]) -> Vec<Result<()>> {
        if *lock(&self.deletes_fail) {
            return receipts.iter().map(|_| Err(unavailable("delete"))).collect();
        }
        lock(&self.letters).retain(|letter| !receipts.contains(&letter.receipt));
        lock(&self.out).retain(|receipt| !receipts.contains(receipt));
        receipts.iter().map(|_| Ok(())).collect()
    }

    async fn release(&self, receipts: &[String]) -> Result<()> {
        lock(&self.out).retain(|receipt| !receipts.contains(receipt));
        Ok(())
    }
}

/// The queue that letters go back to, inside its five minutes; it refuses bodies that say so.
#[derive(Default)]
struct Back {
    remembered: Mutex<HashSet<String>>,
    entries: Mutex<Vec<QueueEntry>>,
}

#[async_trait]
impl Queue for Back {
    async fn send(&self, entries: Vec<QueueEntry>) -> Vec<Result<()>> {
        let send = |entry: QueueEntry| {
            if entry.body.contains("refuse") {
                return Err(unavailable("send"));
            }
            if lock(&self.remembered).insert(entry.dedup.clone()) {
                lock(&self.entries).push(entry);
            }
            Ok(())
        };
        entries.into_iter().map(send).collect()
    }

    fn url(&self) -> &'static str {
        "back"
    }
}

fn letter(id: &str, group: &str, reason: &str) -> Letter {
    let attributes = [
        ("reason", reason),
        ("place", "503"),
        ("message_id", "before"),
        ("tries", "3 since 777"),
        ("model", "customer"),
        ("version", "v7"),
    ];
    let attributes = attributes.into_iter().filter(|(_, value)| !value.is_empty());
    Letter {
        id: id.to_owned(),
        receipt: format!("receipt-{id}"),
        group: group.to_owned(),
        sent_ms: NOW - 3_600_000,
        attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: r#"{"id":"evt_1","secret":"Anna"}"#.to_owned(),
    }
}

fn place(stage: Option<Before>) -> Place {
    let target = stage.is_none().then(|| "warehouse".parse().unwrap());
    Place { target, stage, dead_letter_queue: None, queue: None, outputs: None }
}

fn redrive(which: Which) -> Action {
    Action::Redrive { place: place(None), which, rate: 3000, dry_run: false }
}

async fn said(action: &Action, drawer: &Drawer, back: Option<&Back>) -> std::result::Result<String, Error> {
    let mut out = Vec::new();
    work(action, drawer, back.map(|back| back as &dyn Queue), NOW, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_letter_goes_back_with_its_group_body_and_first_attributes() {
    let drawer = Drawer::of(vec![letter("a", "r1", "refused_by_target"), letter("b", "r1", "bad_version")]);
    let back = Back::default();
    let text = said(&redrive(Which::default()), &drawer, Some(&back)).await.unwrap();
    assert_eq!(text, "2 seen, 2 sent back, 0 left as they are\n");
    let entries = lock(&back.entries).clone();
    // Two letters of one event are two messages, or SQS would swallow the second.
    assert_eq!(entries.len(), 2);
    assert_eq!(
        (entries[0].group.as_str(), entries[0].body.as_str()),
        ("r1", letter("a", "r1", "").body.as_str())
    );
    let names: Vec<&str> = entries[0].attributes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["model", "version"]);
    assert!(drawer.ids().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_end_between_send_and_delete_sends_nothing_twice() {
    let letters = (0..25).map(|n| letter(&n.to_string(), &format!("r{n}"), "refused_by_target")).collect();
    let (drawer, back) = (Drawer::of(letters), Back::default());
    *lock(&drawer.deletes_fail) = true;
    assert!(matches!(said(&redrive(Which::default()), &drawer, Some(&back)).await, Err(Error::Call(_))));
    assert_eq!((drawer.ids().len(), drawer.hidden(), lock(&back.entries).len()), (25, 0, 10));
    *lock(&drawer.deletes_fail) = false;
    said(&redrive(Which::default()), &drawer, Some(&back)).await.unwrap();
    assert_eq!((drawer.ids().len(), lock(&back.entries).len()), (0, 25));
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_was_not_taken_stays_and_is_seen_again() {
    let mut refused = letter("b", "r2", "refused_by_target");
    refused.body = "refuse".to_owned();
    let drawer = Drawer::of(vec![letter("a", "r1", "refused_by_target"), refused]);
    let back = Back::default();
    assert!(matches!(said(&redrive(Which::default()), &drawer, Some(&back)).await, Err(Error::Call(_))));
    assert_eq!((drawer.ids(), drawer.hidden()), (vec!["b".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn what_fails_again_meanwhile_does_not_go_round() {
    let mut young = letter("b", "r2", "refused_by_target");
    young.sent_ms = NOW + 1;
    let drawer = Drawer::of(vec![letter("a", "r1", "refused_by_target"), young]);
    let back = Back::default();
    said(&redrive(Which::default()), &drawer, Some(&back)).await.unwrap();
    assert_eq!((drawer.ids(), drawer.hidden()), (vec!["b".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn a_redrive_keeps_to_its_rate() {
    let letters = (0..30).map(|n| letter(&n.to_string(), &format!("r{n}"), "refused_by_target")).collect();
    let (drawer, back, started) = (Drawer::of(letters), Back::default(), tokio::time::Instant::now());
    let action = Action::Redrive { place: place(None), which: Which::default(), rate: 5, dry_run: false };
    said(&action, &drawer, Some(&back)).await.unwrap();
    assert_eq!((started.elapsed().as_secs(), lock(&back.entries).len()), (6, 30));
}

#[tokio::test(start_paused = true)]
async fn changes_that_sqs_moved_stay_where_they_are() {
    let drawer = Drawer::of(vec![letter("a", "r1", "type_mismatch"), letter("b", "r2", "")]);
    let back = Back::default();
    let place = place(Some(Before::Changes));
    let action = Action::Redrive { place, which: Which::default(), rate: 3000, dry_run: false };
    said(&action, &drawer, Some(&back)).await.unwrap();
    assert_eq!(drawer.ids(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_has_no_values_and_leaves_all_in_place() {
    let letters =
        vec![letter("a", "r1", "bad_version"), letter("b", "r2", ""), letter("c", "r3", "too_large")];
    let drawer = Drawer::of(letters);
    let list = |which| Action::List { place: place(None), which };
    let text = said(&list(Which::default()), &drawer, None).await.unwrap();
    assert_eq!(
        text,
        "a r1 customer bad_version 3 777 996400000\n\
         b r2 customer moved_by_sqs 3 777 996400000\n\
         c r3 customer too_large 3 777 996400000\n\
         bad_version: 1\nmoved_by_sqs: 1\ntoo_large: 1\n3 seen, 3 listed, 0 left as they are\n"
    );
    let some = [
        (Which { reason: Some("too_large".to_owned()), ..Which::default() }, 1),
        (Which { model: Some("price".parse().unwrap()), ..Which::default() }, 0),
        (Which { rid: Some("r2".to_owned().into()), ..Which::default() }, 1),
        (Which { since: Some("59m".parse().unwrap()), ..Which::default() }, 0),
        (
            Which {
                since: Some("60m".parse().unwrap()),
                until: Some("1h".parse().unwrap()),
                ..Which::default()
            },
            3,
        ),
    ];
    for (which, count) in some {
        let text = said(&list(which), &drawer, None).await.unwrap();
        assert!(text.contains(&format!("3 seen, {count} listed")), "{text}");
    }
    assert_eq!((drawer.ids().len(), drawer.hidden()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_without_yes() {
    let drawer = Drawer::of(vec![letter("a", "r1", "bad_version"), letter("b", "r2", "too_large")]);
    let which = Which { reason: Some("bad_version".to_owned()), ..Which::default() };
    let discard = |yes| Action::Discard { place: place(None), which: which.clone(), yes };
    said(&discard(false), &drawer, None).await.unwrap();
    assert_eq!((drawer.ids().len(), drawer.hidden()), (2, 0));
    let text = said(&discard(true), &drawer, None).await.unwrap();
    assert!(text.ends_with("2 seen, 1 deleted, 1 left as they are\n"), "{text}");
    assert_eq!(drawer.ids(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn clear_values_are_shown_only_when_asked_for() {
    let drawer = Drawer::of(vec![letter("a", "r1", "bad_version")]);
    let show = |stage, clear_values| Action::Show { id: "a".to_owned(), place: place(stage), clear_values };
    let changes = Some(Before::Changes);
    assert!(matches!(said(&show(changes, false), &drawer, None).await, Err(Error::Clear)));
    assert!(said(&show(changes, true), &drawer, None).await.unwrap().contains("Anna"));
    assert!(said(&show(None, false), &drawer, None).await.unwrap().contains("reason: \"bad_version\""));
    assert_eq!(drawer.hidden(), 0);
}

#[test]
fn times_are_lengths_before_now() {
    for wrong in ["", "5", "h", "-1h", "1w", "1.5h", "99999999999999999999s", "999999999999999999d"] {
        assert!(wrong.parse::<Ago>().is_err(), "{wrong}");
    }
}
