//! What people read: names, codes, counts, and what to do. Never a value, nor the key.

use std::fmt::Write as _;

use sync_domain::id::{ModelId, SourceId, TargetId};
use sync_domain::outcome::{FailureEvent, Stage};
use sync_domain::ports::Ticket;

/// SNS takes no longer subject.
const SUBJECT_LENGTH: usize = 99;
/// How much of a place is shown.
const PLACE_LENGTH: usize = 200;

/// What alerts are counted by: (stage, target, source, model, reason code) and the hour. A failure without one of them
/// has its place left empty.
pub fn cause(failure: &FailureEvent, hour: i64) -> String {
    let Names { source, model, target } = names(failure, "");
    // No name and no code holds a slash.
    format!("{}/{target}/{source}/{model}/{}/{hour}", failure.stage, failure.reason.code)
}

/// The subject line.
pub fn subject(failure: &FailureEvent) -> String {
    let mut subject = format!("Data Sync: {} in {}", failure.reason.code, failure.stage);
    if let Some(target) = &failure.target {
        let _ = write!(subject, " for {target}");
    } else if let Some(model) = &failure.model {
        let _ = write!(subject, " for {model}");
    }
    subject.truncate(SUBJECT_LENGTH);
    subject
}

/// The text.
pub fn text(ticket: &Ticket) -> String {
    let failure = &ticket.failure;
    let Names { source, model, target } = names(failure, "not known");
    let target = if failure.target.is_some() { target } else { "none, it failed before" };
    let (stage, code, place) = (failure.stage, &failure.reason.code, shown(&failure.reason.place));
    let head = match &failure.dead_letter_queue {
        Some(_) => "A record cannot go on and stands in a dead-letter queue.",
        None if failure.stage == Stage::CapturePull => {
            "A source is not read as it should be, or a row of it cannot go on."
        }
        None => "Nothing is sent to a target for now; its events wait in its queue.",
    };
    let queue = failure.dead_letter_queue.as_deref().unwrap_or("none");
    let (message, tries, at) = (&failure.message_id, failure.tries, &ticket.failed_at);
    let advice = advice(failure);
    format!(
        "{head}\n\n\
         Stage:             {stage}\n\
         Reason:            {code}\n\
         Place:             {place}\n\
         Source:            {source}\n\
         Model:             {model}\n\
         Target:            {target}\n\
         Received:          {tries} times\n\
         Failed at:         {at}\n\
         Ticket:            {}\n\
         Dead-letter queue: {queue}\n\
         Message:           {message}\n\n\
         What to do: {advice}\n\n\
         This is the first failure of its kind in this hour. More of the same kind get a ticket each and no further alert \
         before the next hour.\n",
        ticket.id
    )
}

/// What whoever reads the alert should do. By reason where the reason says more than the stage.
fn advice(failure: &FailureEvent) -> &'static str {
    if failure.stage == Stage::CapturePull {
        return "see what docs/OPERATIONS.md (Sources that are read) says of the reason; the log of the source's function names \
                place and remedy. A source that is stopped takes a resync.";
    }
    if failure.reason.code == "target_paused" {
        return "the target says that it is gone (410) and is asked nothing any more. Nothing is lost for 14 days: its events wait \
                in its own queue. Talk to its owner, then send to it again with `datasync targets resume`.";
    }
    if failure.dead_letter_queue.is_none() {
        return "look whether the target is up, then check its address and credentials. Nothing is lost: its events wait in its \
                own queue, one of them is tried every minute, and all go out when it accepts again.";
    }
    if failure.reason.code == "retries_exhausted" {
        return "the stage tried as often as it may. Look for what was down at that time, then redrive the dead-letter queue; \
                a record that is out of date by then is not sent again.";
    }
    match failure.stage {
        Stage::CapturePush | Stage::CapturePull => {
            "look at what the source sends against its model and have the source send the record again."
        }
        Stage::CaptureStream => {
            "hold the record's place against the model's YAML, correct the model, then hand the document in the dead-letter bucket \
             to the function again (docs/OPERATIONS.md); or write the item once more."
        }
        Stage::Transform => {
            "hold the record's place against the model's YAML. Correct the model and redrive the dead-letter queue, or correct the \
             record at its source, which sends it again, without `before`."
        }
        Stage::Enrich => {
            "check the look-up of the model (its service or table, and what it answers), then redrive the dead-letter queue."
        }
        Stage::Deliver => {
            "the target refuses this record. Hold its mapping against what the target expects, correct it, then redrive the \
             dead-letter queue; a record that is out of date by then is not sent again."
        }
    }
}

struct Names<'a> {
    source: &'a str,
    model: &'a str,
    target: &'a str,
}

fn names<'a>(failure: &'a FailureEvent, unknown: &'a str) -> Names<'a> {
    Names {
        source: failure.source.as_ref().map_or(unknown, SourceId::as_str),
        model: failure.model.as_ref().map_or(unknown, ModelId::as_str),
        target: failure.target.as_ref().map_or(unknown, TargetId::as_str),
    }
}

/// A place as it may stand in a mail: one line, of bounded length.
fn shown(place: &str) -> String {
    if place.is_empty() {
        return "the record as a whole".to_owned();
    }
    place.chars().map(|c| if c.is_control() { ' ' } else { c }).take(PLACE_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use sync_domain::outcome::Reason;

    use super::*;

    fn failure() -> FailureEvent {
        FailureEvent {
            stage: Stage::Transform,
            reason: Reason::new("type_mismatch", "contacts[].value"),
            source: Some("crm".parse().unwrap()),
            model: Some("customer".parse().unwrap()),
            rid: None,
            key: None,
            event_id: None,
            target: None,
            message_id: "m-1".to_owned(),
            tries: 1,
            dead_letter_queue: Some("https://sqs/changes-dlq.fifo".to_owned()),
        }
    }

    #[test]
    fn each_part_of_the_cause_and_the_hour_tell_causes_apart() {
        let base = failure();
        let mut causes = vec![cause(&base, 1), cause(&base, 2)];
        causes.push(cause(&FailureEvent { stage: Stage::Enrich, ..base.clone() }, 1));
        causes.push(cause(&FailureEvent { source: Some("shop".parse().unwrap()), ..base.clone() }, 1));
        causes.push(cause(&FailureEvent { source: None, ..base.clone() }, 1));
        causes.push(cause(&FailureEvent { model: Some("price".parse().unwrap()), ..base.clone() }, 1));
        causes.push(cause(
            &FailureEvent { target: Some("crm".parse().unwrap()), source: None, ..base.clone() },
            1,
        ));
        causes.push(cause(&FailureEvent { reason: Reason::new("too_large", ""), ..base.clone() }, 1));
        for (index, cause) in causes.iter().enumerate() {
            assert!(!causes[..index].contains(cause), "{cause}");
        }
        let other_record = FailureEvent { message_id: "m-2".to_owned(), tries: 7, ..base.clone() };
        assert_eq!(cause(&other_record, 1), causes[0]);
    }

    #[test]
    fn a_subject_fits_whatever_the_names_are() {
        let long = "a".repeat(48);
        let failure = FailureEvent {
            reason: Reason::new(&"c".repeat(64), ""),
            target: Some(long.parse().unwrap()),
            ..failure()
        };
        assert!(subject(&failure).len() < 100);
        assert!(subject(&failure).is_ascii());
    }

    #[test]
    fn a_place_is_one_line() {
        assert_eq!(shown("a\nb"), "a b");
        assert_eq!(shown(&"ü".repeat(500)).chars().count(), 200);
    }
}
