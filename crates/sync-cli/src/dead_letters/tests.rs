use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sync_aws::dynamodb::Discard;
use sync_domain::ports::{Kind, QueueEntry, Result};
use tokio::time::Instant;

use super::*;

const NOW: u64 = 1_000_000_000;

/// A dead-letter queue that hands out letters as a FIFO queue does: up to ten, none of a group of which one is out.
#[derive(Default)]
struct Drawer {
    letters: Mutex<Vec<Letter>>,
    /// Until when a letter is hidden, by its id.
    out: Mutex<BTreeMap<String, Instant>>,
    deletes_fail: Mutex<bool>,
    /// How long each receive takes.
    slow: Duration,
}

impl Drawer {
    fn of(letters: Vec<Letter>) -> Self {
        Self { letters: Mutex::new(letters), ..Self::default() }
    }

    fn ids(&self) -> Vec<String> {
        lock(&self.letters).iter().map(|letter| letter.id.clone()).collect()
    }

    fn hidden(&self) -> usize {
        lock(&self.out).values().filter(|until| **until > Instant::now()).count()
    }

    fn standing(&self) -> Standing {
        let visible = u64::try_from(self.ids().len()).unwrap();
        Standing { arn: "arn:dead".to_owned(), visible, hidden: 0 }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(operation: &'static str) -> ports::Error {
    ports::Error { kind: Kind::Unavailable, operation, code: "Timeout".to_owned(), source: None }
}

fn id_of(receipt: &str) -> &str {
    receipt.strip_prefix("receipt-").unwrap()
}

#[async_trait]
impl Letters for Drawer {
    async fn receive(&self, hidden: Duration) -> Result<Vec<Letter>> {
        tokio::time::sleep(self.slow).await;
        let (letters, mut out) = (lock(&self.letters), lock(&self.out));
        out.retain(|_, until| *until > Instant::now());
        let busy: HashSet<String> = letters
            .iter()
            .filter(|letter| out.contains_key(&letter.id))
            .map(|letter| letter.group.clone())
            .collect();
        let free = letters.iter().filter(|letter| !busy.contains(&letter.group));
        let batch: Vec<Letter> = free.take(10).cloned().collect();
        out.extend(batch.iter().map(|letter| (letter.id.clone(), Instant::now() + hidden)));
        Ok(batch)
    }

    async fn delete(&self, receipts: &[String]) -> Vec<Result<()>> {
        if *lock(&self.deletes_fail) {
            return receipts.iter().map(|_| Err(unavailable("delete"))).collect();
        }
        lock(&self.letters).retain(|letter| !receipts.contains(&letter.receipt));
        lock(&self.out).retain(|id, _| !receipts.iter().any(|receipt| id_of(receipt) == id));
        receipts.iter().map(|_| Ok(())).collect()
    }

    async fn hide(&self, receipts: &[String], hidden: Duration) -> Result<()> {
        let until = Instant::now() + hidden;
        lock(&self.out).extend(receipts.iter().map(|receipt| (id_of(receipt).to_owned(), until)));
        Ok(())
    }

    async fn release(&self, receipts: &[String]) -> Result<()> {
        self.hide(receipts, Duration::ZERO).await
    }

    async fn standing(&self) -> Result<Standing> {
        Ok(self.standing())
    }
}

/// Notes of what was discarded, until there is no more room.
#[derive(Default)]
struct Notes {
    full: Mutex<bool>,
    noted: Mutex<Vec<Discard>>,
}

#[async_trait]
impl Discards for Notes {
    async fn note(&self, discard: &Discard) -> Result<()> {
        if *lock(&self.full) {
            return Err(unavailable("note"));
        }
        lock(&self.noted).push(discard.clone());
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

const BODY: &str = r#"{"specversion":"1.0","id":"evt_1","source":"/datasync/pos-customers","type":"pos_customer.updated","subject":"rid","time":"2026-11-24T20:19:23Z","datacontenttype":"application/json","dataschema":"urn:datasync:schema/pos_customer/1","sequence":"00000000-0000000000000000000000000000000000000007","partitionkey":"rid","policyversion":"p1","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","origin":"pos","data":{"key":{"customer_id":42},"before":null,"after":{"customer_id":42,"email":"anna@example.com","balance":1.10,"tags":["a","b"],"profile":{"name":"Anna"},"secret":"Anna"},"changed":null}}"#;

fn letter(id: &str, group: &str, reason: &str) -> Letter {
    let attributes = [
        ("reason", reason),
        ("place", "503"),
        ("message_id", "before"),
        ("tries", "3 since 777"),
        ("model", "pos_customer"),
        ("version", "v7"),
    ];
    let attributes = attributes.into_iter().filter(|(_, value)| !value.is_empty());
    Letter {
        id: id.to_owned(),
        receipt: format!("receipt-{id}"),
        group: group.to_owned(),
        sent_ms: NOW - 3_600_000,
        attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: BODY.to_owned(),
    }
}

fn place(stage: Option<Before>) -> Place {
    let target = stage.is_none().then(|| "warehouse".parse().unwrap());
    Place { target, stage, dead_letter_queue: None, outputs: None }
}

fn redrive(rate: u32, dry_run: bool) -> Action {
    Action::Redrive { place: place(None), which: Which::default(), queue: None, rate, dry_run }
}

async fn said(action: &Action, drawer: &Drawer, back: &Back) -> std::result::Result<String, Error> {
    said_with(action, drawer, back, &Notes::default()).await
}

async fn said_with(
    action: &Action,
    drawer: &Drawer,
    back: &Back,
    notes: &Notes,
) -> std::result::Result<String, Error> {
    let mut out = Vec::new();
    let standing = drawer.standing();
    let desk = Desk { letters: drawer, standing, queue: Some(back), discards: Some(notes), now_ms: NOW };
    desk.work(action, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

fn many(count: usize) -> Vec<Letter> {
    (0..count).map(|n| letter(&n.to_string(), &format!("r{n}"), "refused_by_target")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_letter_goes_back_with_its_group_body_and_first_attributes() {
    let drawer = Drawer::of(vec![letter("a", "r1", "refused_by_target"), letter("b", "r1", "bad_version")]);
    let back = Back::default();
    let text = said(&redrive(3000, false), &drawer, &back).await.unwrap();
    assert_eq!(text, "2 seen, 2 sent back, 0 left as they are\n");
    let entries = lock(&back.entries).clone();
    // Two letters of one event are two messages, or SQS would swallow the second.
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].group.as_str(), entries[0].body.as_str()), ("r1", BODY));
    let names: Vec<&str> = entries[0].attributes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["model", "version"]);
    assert!(drawer.ids().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_end_between_send_and_delete_sends_nothing_twice() {
    let (drawer, back) = (Drawer::of(many(25)), Back::default());
    *lock(&drawer.deletes_fail) = true;
    assert!(matches!(said(&redrive(3000, false), &drawer, &back).await, Err(Error::Call(_))));
    assert_eq!((drawer.ids().len(), drawer.hidden(), lock(&back.entries).len()), (25, 0, 10));
    *lock(&drawer.deletes_fail) = false;
    said(&redrive(3000, false), &drawer, &back).await.unwrap();
    assert_eq!((drawer.ids().len(), lock(&back.entries).len()), (0, 25));
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_was_not_taken_stays_and_is_seen_again() {
    let mut refused = letter("b", "r2", "refused_by_target");
    refused.body = "refuse".to_owned();
    let drawer = Drawer::of(vec![letter("a", "r1", "refused_by_target"), refused]);
    assert!(matches!(said(&redrive(3000, false), &drawer, &Back::default()).await, Err(Error::Call(_))));
    assert_eq!((drawer.ids(), drawer.hidden()), (vec!["b".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn what_fails_again_meanwhile_does_not_go_round() {
    let mut young = letter("b", "r2", "refused_by_target");
    young.sent_ms = NOW + 1;
    let drawer = Drawer::of(vec![letter("a", "r1", "refused_by_target"), young]);
    said(&redrive(3000, false), &drawer, &Back::default()).await.unwrap();
    assert_eq!((drawer.ids(), drawer.hidden()), (vec!["b".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn a_redrive_keeps_to_its_rate() {
    let (drawer, back, started) = (Drawer::of(many(30)), Back::default(), Instant::now());
    said(&redrive(5, false), &drawer, &back).await.unwrap();
    assert_eq!((started.elapsed().as_secs(), lock(&back.entries).len()), (6, 30));
}

#[tokio::test(start_paused = true)]
async fn a_slow_redrive_passes_what_stays_as_often_as_it_comes_again_and_reaches_the_end() {
    // Every fourth stays; the walk takes longer than they are hidden.
    let mut letters = many(1_200);
    for letter in letters.iter_mut().step_by(4) {
        letter.attributes.insert("reason".to_owned(), "bad_version".to_owned());
    }
    let (drawer, back, started) = (Drawer::of(letters), Back::default(), Instant::now());
    let which = Which { reason: Some("refused_by_target".to_owned()), ..Which::default() };
    let action = Action::Redrive { place: place(None), which, queue: None, rate: 1, dry_run: false };
    let text = said(&action, &drawer, &back).await.unwrap();
    assert_eq!(text, "1200 seen, 900 sent back, 300 left as they are\n");
    assert!(started.elapsed().as_secs() >= 900);
    assert_eq!((drawer.ids().len(), drawer.hidden()), (300, 0));
}

#[tokio::test(start_paused = true)]
async fn a_walk_that_meets_only_what_it_knows_ends_and_says_so() {
    let drawer = Drawer { slow: Duration::from_secs(300), ..Drawer::of(many(30)) };
    let list = Action::List { place: place(None), which: Which::default() };
    let text = said(&list, &drawer, &Back::default()).await.unwrap();
    assert!(text.contains("10 seen, 10 listed, 0 left as they are\nAbout 30 stood there."), "{text}");
    assert_eq!(drawer.hidden(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_a_record_the_first_ten_are_seen_and_the_rest_is_counted() {
    let letters = (0..25).map(|n| letter(&n.to_string(), "r1", "bad_version")).collect();
    let (drawer, back) = (Drawer::of(letters), Back::default());
    let list = Action::List { place: place(None), which: Which::default() };
    let text = said(&list, &drawer, &back).await.unwrap();
    assert!(text.contains("10 seen, 10 listed, 0 left as they are\nAbout 25 stood there."), "{text}");
    let text = said(&redrive(3000, false), &drawer, &back).await.unwrap();
    assert_eq!(text, "25 seen, 25 sent back, 0 left as they are\n");
    let groups: HashSet<String> = lock(&back.entries).iter().map(|entry| entry.group.clone()).collect();
    assert_eq!(groups.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_sends_nothing() {
    let (drawer, back) = (Drawer::of(many(3)), Back::default());
    let text = said(&redrive(50, true), &drawer, &back).await.unwrap();
    assert!(text.ends_with("3 seen, 3 to be sent back, 0 left as they are\n"), "{text}");
    assert_eq!((drawer.ids().len(), drawer.hidden(), lock(&back.entries).len()), (3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn changes_that_sqs_moved_stay_where_they_are() {
    let drawer = Drawer::of(vec![letter("a", "r1", "type_mismatch"), letter("b", "r2", "")]);
    let (place, which) = (place(Some(Before::Changes)), Which::default());
    let action = Action::Redrive { place, which, queue: None, rate: 3000, dry_run: false };
    said(&action, &drawer, &Back::default()).await.unwrap();
    assert_eq!(drawer.ids(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_has_no_values_and_leaves_all_in_place() {
    let mut foreign = letter("d", "r4", "Anna's");
    foreign.attributes.insert("tries".to_owned(), "Anna".to_owned());
    let letters = vec![
        letter("a", "r1", "bad_version"),
        letter("b", "r2", ""),
        letter("c", "r3", "too_large"),
        foreign,
    ];
    let drawer = Drawer::of(letters);
    let list = |which| Action::List { place: place(None), which };
    let text = said(&list(Which::default()), &drawer, &Back::default()).await.unwrap();
    assert_eq!(
        text,
        "a r1 pos_customer bad_version 3 777 996400000\n\
         b r2 pos_customer moved_by_sqs 3 777 996400000\n\
         c r3 pos_customer too_large 3 777 996400000\n\
         d r4 pos_customer no_code - - 996400000\n\
         bad_version: 1\nmoved_by_sqs: 1\nno_code: 1\ntoo_large: 1\n4 seen, 4 listed, 0 left as they are\n"
    );
    let key = |key: &str| Which { key: Some(key.parse().unwrap()), ..Which::default() };
    let some = [
        (Which { reason: Some("too_large".to_owned()), ..Which::default() }, 1),
        (Which { model: Some("price".parse().unwrap()), ..Which::default() }, 0),
        (Which { rid: Some("r2".to_owned().into()), ..Which::default() }, 1),
        (key(r#"{ "customer_id": 42 }"#), 4),
        (key(r#"{"customer_id":"42"}"#), 0),
        (key(r#"{"customer_id":42,"topic":"x"}"#), 0),
        (Which { since: Some("59m".parse().unwrap()), ..Which::default() }, 0),
        (
            Which {
                since: Some("60m".parse().unwrap()),
                until: Some("1h".parse().unwrap()),
                ..Which::default()
            },
            4,
        ),
    ];
    for (which, count) in some {
        let text = said(&list(which), &drawer, &Back::default()).await.unwrap();
        assert!(text.contains(&format!("4 seen, {count} listed")), "{text}");
    }
    assert_eq!((drawer.ids().len(), drawer.hidden()), (4, 0));
}

fn discard(yes: bool) -> Action {
    let which = Which { reason: Some("bad_version".to_owned()), ..Which::default() };
    Action::Discard {
        place: place(None),
        which,
        because: "the shop is sold".to_owned(),
        ticket_table: None,
        yes,
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_was_said_and_noted_before() {
    let drawer = Drawer::of(vec![letter("a", "r1", "bad_version"), letter("b", "r2", "too_large")]);
    let (back, notes) = (Back::default(), Notes::default());
    said_with(&discard(false), &drawer, &back, &notes).await.unwrap();
    assert_eq!((drawer.ids().len(), drawer.hidden(), lock(&notes.noted).len()), (2, 0, 0));
    *lock(&notes.full) = true;
    assert!(matches!(said_with(&discard(true), &drawer, &back, &notes).await, Err(Error::Call(_))));
    assert_eq!((drawer.ids().len(), drawer.hidden()), (2, 0), "what is not noted is kept");
    *lock(&notes.full) = false;
    let text = said_with(&discard(true), &drawer, &back, &notes).await.unwrap();
    assert!(text.ends_with("2 seen, 1 deleted, 1 left as they are\n"), "{text}");
    assert_eq!(drawer.ids(), ["b"]);
    let expected = Discard {
        letter_id: "a".to_owned(),
        message_id: Some("before".to_owned()),
        rid: "r1".to_owned(),
        model: Some("pos_customer".to_owned()),
        reason: "bad_version".to_owned(),
        sent_ms: NOW - 3_600_000,
        dead_letter_queue: "arn:dead".to_owned(),
        because: "the shop is sold".to_owned(),
        at: NOW / 1000,
    };
    assert_eq!(*lock(&notes.noted), [expected]);
}

async fn shown(letter: Letter) -> String {
    let drawer = Drawer::of(vec![letter]);
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/layer/sync");
    let show = Action::Show { id: "a".to_owned(), place: place(None), config };
    let text = said(&show, &drawer, &Back::default()).await.unwrap();
    assert_eq!(drawer.hidden(), 0);
    text
}

#[tokio::test(start_paused = true)]
async fn of_an_event_is_shown_what_says_nothing_of_a_person() {
    let expected = "a r1 pos_customer bad_version 3 777 996400000\n\
        message_id: \"before\"\nmodel: \"pos_customer\"\nplace: \"503\"\nreason: \"bad_version\"\n\
        tries: \"3 since 777\"\nversion: \"v7\"\n\
        body: update, version 00000000-0000000000000000000000000000000000000007\n\
        key.customer_id: 42\n\
        after.balance: 1.10\n\
        after.customer_id: 42\n\
        after.email: a text, personal\n\
        after.profile: an object, personal\n\
        after.tags: [\"a\",\"b\"]\n";
    let mut stranger = letter("a", "r1", "bad_version");
    stranger.attributes.insert("name".to_owned(), "Anna".to_owned());
    assert_eq!(shown(stranger).await, expected);
}

#[tokio::test(start_paused = true)]
async fn of_a_change_is_shown_no_more_and_of_what_is_neither_nothing() {
    let mut change = letter("a", "r1", "bad_version");
    change.attributes.remove("model");
    change.body = r#"{"id":"c1","source":"crm","model":"customer","operation":"update","version":null,"occurred_at":"2026-11-24T20:19:23Z","origin":"crm","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","key":{"customer_id":42},"before":null,"after":{"customer_id":42,"national_id":"Anna","address":{"city":"Anna","country":"DE"},"contacts":[{"value":"Anna"}]}}"#.to_owned();
    let text = shown(change.clone()).await;
    assert!(text.contains("after.address.country: \"DE\"\n"), "{text}");
    assert!(text.contains("after.address.city: a text, personal\n"), "{text}");
    assert!(text.contains("after.national_id: a text, sensitive\n"), "{text}");
    assert!(!text.contains("Anna"), "{text}");
    change.body = change.body.replace("customer\"", "someone\"");
    let text = shown(change.clone()).await;
    assert!(text.ends_with("its model is not in the configuration: no value is shown\n"), "{text}");
    change.body = "Anna".to_owned();
    let text = shown(change).await;
    assert!(text.ends_with("body: 4 bytes, neither event nor change: not shown\n"), "{text}");
}

#[test]
fn times_are_lengths_before_now() {
    for wrong in ["", "5", "h", "-1h", "1w", "1.5h", "99999999999999999999s", "999999999999999999d"] {
        assert!(wrong.parse::<Ago>().is_err(), "{wrong}");
    }
}

#[test]
fn a_key_is_compared_as_what_it_says_and_a_reason_is_one_line() {
    let key = |text: &str| text.parse::<Key>().unwrap();
    assert_eq!(key(r#"{"a":"ü","b":1.10}"#), key("{ \"b\" : 1.10, \"a\":\"\\u00fc\" }"));
    assert_ne!(key(r#"{"b":1.10}"#), key(r#"{"b":1.1}"#));
    assert!("[42]".parse::<Key>().is_err());
    for wrong in ["", " ", "a\nb", &"x".repeat(201)] {
        assert!(because(wrong).is_err());
    }
}
