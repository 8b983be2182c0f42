use super::*;

const TARGET: &str = "plain";

/// What happens to one record, whose marks are its versions; it is deleted at every hundredth.
#[derive(Clone, Copy)]
enum Step {
    Commit(u64),
    Change(u64),
    /// An event is handed to the function.
    Hand(u64),
    Apply(u64),
    ApplyLate(u64),
    /// The function says how it ended, and the message is deleted.
    End(u64, &'static str),
    Dead(u64),
    Ticket(u64),
}

use Step::{Apply, ApplyLate, Change, Commit, Dead, End, Hand, Ticket};

fn brought(version: u64, sequence: u128) -> Brought {
    Brought {
        sequence,
        id: format!("evt_{version}"),
        record: RecordName { model: "item".to_owned(), key: r#"{"id":1}"#.to_owned() },
        version: format!("{version:04}"),
        mark: (!version.is_multiple_of(100)).then_some(version),
    }
}

fn play(journal: &mut Journal, steps: &[Step]) {
    for (place, step) in steps.iter().enumerate() {
        let sequence = place as u128;
        match *step {
            Commit(version) => {
                let Brought { record, mark, .. } = brought(version, 0);
                journal.commit(record, Shows::Every, mark);
            }
            Change(version) => {
                journal.change(brought(version, sequence));
            }
            Hand(version) => journal.hand(TARGET, brought(version, sequence)),
            Apply(version) => journal.apply(TARGET, brought(version, 0), false),
            ApplyLate(version) => journal.apply(TARGET, brought(version, 0), true),
            End(version, outcome) => {
                journal.end(TARGET, &brought(version, 0).id, outcome);
                journal.done(TARGET, &brought(version, 0).id);
            }
            Dead(version) => journal.dead(TARGET, &brought(version, 0).id),
            Ticket(version) => journal.ticket(TARGET, &brought(version, 0).id),
        }
    }
}

fn findings(keeps: Keeps, steps: &[Step]) -> Findings {
    let mut journal = Journal::default();
    journal.target(TARGET, keeps, &["item"]);
    play(&mut journal, steps);
    journal.check()
}

/// One commit all the way.
fn way(version: u64) -> Vec<Step> {
    vec![Commit(version), Change(version), Hand(version), Apply(version), End(version, "delivered")]
}

/// The names of what was found in a plain target's history.
fn found(steps: &[Step]) -> Vec<&'static str> {
    let findings = findings(Keeps::Last, steps);
    findings.all().iter().filter(|(_, found)| !found.is_empty()).map(|(name, _)| *name).collect()
}

/// A history with one step left out or put in.
fn without(steps: &[Step], index: usize) -> Vec<Step> {
    steps.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, step)| *step).collect()
}

fn with(steps: &[Step], more: &[Step]) -> Vec<Step> {
    [steps, more].concat()
}

#[test]
fn a_history_with_duplicates_retries_and_late_copies_is_right() {
    let right = [way(1), way(2), way(3)].concat();
    assert_eq!(found(&right), [""; 0]);
    // A copy of an old message in each queue, known to the ledger.
    assert_eq!(found(&with(&right, &[Change(1), Hand(1), End(1, "stale")])), [""; 0]);
    // An answer that was lost: applied twice, handed out twice, and only then done.
    let again = [Commit(4), Change(4), Hand(4), Apply(4), Hand(4), Apply(4), End(4, "delivered")];
    assert_eq!(found(&with(&right, &again)), [""; 0]);
    // A record that the target refuses for good, and the one behind it.
    let refused = [Commit(4), Change(4), Hand(4), End(4, "dead_lettered"), Dead(4), Ticket(4)];
    assert_eq!(found(&with(&right, &refused)), [""; 0]);
    assert_eq!(found(&[right.clone(), refused.to_vec(), way(5)].concat()), [""; 0]);
}

#[test]
fn what_is_lost_on_any_part_of_the_way_is_told() {
    let right = [way(1), way(2)].concat();
    // A commit without a change; a change without an event; an event that says delivered and was not.
    for (index, name) in [(1, vec!["lost", "phantom"]), (8, vec!["lost", "stale"])] {
        assert_eq!(found(&without(&right, index)), name, "{index}");
    }
    let no_event = [way(1), vec![Commit(2), Change(2)]].concat();
    assert_eq!(found(&no_event), ["lost"]);
    let parked_nowhere = [way(1), vec![Commit(2), Change(2), Hand(2), End(2, "dead_lettered")]].concat();
    assert_eq!(found(&parked_nowhere), ["lost", "stale"]);
    // An event in the middle that the function has for stale.
    let skipped = [Commit(2), Change(2), Hand(2), End(2, "stale")];
    assert_eq!(found(&[way(1), skipped.to_vec(), way(3)].concat()), ["lost"]);
    // The last commit of a source that shows only the last.
    let mut journal = Journal::default();
    let record = brought(1, 0).record;
    [Some(1), Some(2), None].into_iter().for_each(|mark| journal.commit(record.clone(), Shows::Last, mark));
    journal.change(brought(1, 1));
    assert_eq!(journal.check().lost.len(), 1);
    journal.change(Brought { mark: None, ..brought(3, 3) });
    assert_eq!(journal.check(), Findings::default());
    // A record that came and went between two looks.
    let other = RecordName { key: r#"{"id":2}"#.to_owned(), ..record };
    [Some(1), None].into_iter().for_each(|mark| journal.commit(other.clone(), Shows::Last, mark));
    assert_eq!(journal.check(), Findings::default());
    journal.commit(other, Shows::Last, Some(2));
    assert_eq!(journal.check().lost.len(), 1);
}

#[test]
fn what_nobody_committed_is_told() {
    let right = way(1);
    assert_eq!(
        found(&with(&right, &[Change(7), Hand(7), Apply(7), End(7, "delivered")])),
        ["lost", "phantom"]
    );
    assert_eq!(found(&with(&right, &[Hand(7), Apply(7), End(7, "delivered")])), ["phantom"]);
    assert_eq!(found(&with(&right, &[Apply(7)])), ["phantom", "again"]);
    assert_eq!(found(&with(&right, &[End(7, "stale")])), ["phantom"]);
    // One version with two contents.
    let mut journal = Journal::default();
    play(&mut journal, &[Commit(1), Change(1)]);
    journal.change(Brought { mark: Some(2), ..brought(1, 9) });
    assert_eq!(journal.check().phantom.len(), 1);
}

#[test]
fn an_older_state_behind_a_newer_one_is_told() {
    let right = [way(1), way(2)].concat();
    let back = with(&right, &[Hand(1), Apply(1)]);
    assert_eq!(found(&back), ["stale", "again"]);
    // And so it is if a newer one comes behind it.
    assert_eq!(found(&[back, way(3)].concat()), ["stale", "again"]);
    // What the target applied when nobody waited for it any more is counted aside, in between and in the end.
    let between = [&right[..], &[ApplyLate(1)], &way(3)].concat();
    let between = with(&between, &[Hand(1), End(1, "stale")]);
    let of_between = findings(Keeps::Last, &between);
    assert!(of_between.are_none(), "{of_between}");
    assert_eq!((of_between.late, of_between.left_late), (1, 0));
    let last = with(&right, &[Hand(1), ApplyLate(1)]);
    let of_last = findings(Keeps::Last, &last);
    assert_eq!((of_last.are_none(), of_last.late, of_last.left_late), (true, 1, 1));
    // One that compares versions holds the newest all the same.
    assert_eq!(findings(Keeps::Highest, &last).left_late, 0);
    // Ends at an older one, though nothing stepped back.
    let held = [way(1), vec![Commit(2), Change(2), Hand(2), End(2, "stale")]].concat();
    assert_eq!(found(&held), ["lost", "stale"]);
    assert!(!findings(Keeps::Highest, &held).stale.is_empty());
}

#[test]
fn a_record_that_is_deleted_already_needs_no_second_delete() {
    let refused = [Commit(101), Change(101), Hand(101), End(101, "dead_lettered"), Dead(101), Ticket(101)];
    let again = [Commit(200), Change(200), Hand(200), End(200, "unchanged")];
    let right = [way(1), way(100), refused.to_vec(), again.to_vec()].concat();
    assert_eq!(found(&right), [""; 0]);
    assert_eq!(found(&[way(1), again.to_vec()].concat()), ["stale"]);
}

#[test]
fn a_delivery_without_a_reason_is_told() {
    let right = [way(1), way(2)].concat();
    // More often than it was handed out.
    let twice = [Commit(3), Change(3), Hand(3), Apply(3), Apply(3), End(3, "delivered")];
    assert_eq!(found(&with(&right, &twice)), ["again"]);
    // A copy that the ledger should have known.
    assert_eq!(found(&with(&right, &[Hand(2), Apply(2), End(2, "delivered")])), ["again"]);
}

#[test]
fn messages_of_a_record_that_turn_round_are_told() {
    let changes = [Commit(1), Commit(2), Change(2), Change(1)];
    let rest = [Hand(2), Apply(2), End(2, "delivered"), Hand(1), End(1, "stale")];
    assert_eq!(found(&with(&changes, &rest)), ["lost", "disorder"]);
    let changes = [Commit(1), Commit(2), Change(1), Change(2)];
    assert_eq!(found(&with(&changes, &rest)), ["lost", "disorder"]);
}

#[test]
fn an_event_without_an_end_is_told() {
    let right = way(1);
    let open = [Commit(2), Change(2), Hand(2), Apply(2)];
    assert_eq!(found(&with(&right, &open)), ["unaccounted"]);
    let mut journal = Journal::default();
    journal.target(TARGET, Keeps::Last, &["item"]);
    play(&mut journal, &with(&right, &open));
    journal.end(TARGET, "evt_2", "retry");
    journal.done(TARGET, "evt_2");
    assert_eq!(journal.check().unaccounted.len(), 1, "to come again is no end");
    journal.end(TARGET, "evt_2", "delivered");
    assert!(journal.check().are_none());
    // A dead letter that nobody is told of.
    let refused = [Commit(2), Change(2), Hand(2), End(2, "dead_lettered"), Dead(2)];
    assert_eq!(found(&with(&right, &refused)), ["unaccounted"]);
    // Nor is an end one that left the message where it was.
    play(&mut journal, &[Commit(3), Change(3), Hand(3), Apply(3)]);
    journal.end(TARGET, "evt_3", "delivered");
    assert_eq!(journal.check().unaccounted.len(), 1);
}

#[test]
fn a_change_that_was_parked_before_the_topic_is_missed_by_no_target() {
    let mut journal = Journal::default();
    journal.target(TARGET, Keeps::Last, &["item"]);
    play(&mut journal, &[way(1), vec![Commit(2), Change(2)]].concat());
    assert_eq!(journal.check().lost.len(), 1);
    journal.park(brought(2, 9));
    assert!(journal.check().are_none());
}

#[test]
fn messages_are_read_as_they_are_written() {
    let change = r#"{"model":"item","version":"00000000-0007","operation":"update","key":{"id":1},"after":{"id":1,"mark":7}}"#;
    let change = Brought::change(change, 5).unwrap();
    assert_eq!((change.version.as_str(), change.mark, change.sequence), ("00000000-0007", Some(7), 5));
    let event = r#"{"id":"evt_x","type":"item.deleted","sequence":"00000000-0008","data":{"key":{"id":1},"after":null}}"#;
    let event = Brought::event(event, 6).unwrap();
    assert_eq!((event.id.as_str(), event.mark), ("evt_x", None));
    assert_eq!(event.record, change.record);
}
