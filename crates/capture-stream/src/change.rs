//! One record of the stream as a change of its model.

use sync_domain::capture::{self, Draft, Place, Prepared, Same};
use sync_domain::change::Operation;
use sync_domain::config::TtlDeletes;
use sync_domain::outcome::Reason;
use sync_domain::protect::IdHasher;
use sync_domain::version::Version;

use crate::deps::Table;
use crate::item::record;
use crate::number::Decimal;
use crate::payload::StreamRecord;

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A message for the Changes queue.
    Send(Prepared),
    /// A delete by time to live that the source does not want.
    Ignore,
}

/// Makes the message of a record, or says why there is none for good.
pub(crate) fn step(
    stream: &StreamRecord<'_>,
    sequence: &str,
    table: &Table,
    ids: &IdHasher,
) -> Result<Step, Reason> {
    let operation = match stream.event_name()?.as_str() {
        "INSERT" => Operation::Create,
        "MODIFY" => Operation::Update,
        "REMOVE" => Operation::Delete,
        _ => return Err(Reason::new("not_a_stream_record", "eventName")),
    };
    let by_ttl = operation == Operation::Delete && stream.is_by_ttl();
    if by_ttl && table.ttl_deletes == TtlDeletes::Ignore {
        return Ok(Step::Ignore);
    }
    let version = Version::from_decimal(table.epoch, sequence)
        .map_err(|_| Reason::new("not_a_stream_record", "SequenceNumber"))?;
    let occurred_at = occurred_at(stream.created_at()?)?;
    let key = record(stream.keys()?, "Keys")?;
    let after = match operation {
        Operation::Delete => None,
        _ => Some(record(stream.new_image()?, "NewImage")?),
    };
    let before = match operation {
        Operation::Create => None,
        _ => Some(record(stream.old_image()?, "OldImage")?),
    };
    let origin = if by_ttl { &table.ttl_origin } else { table.source.as_str() };
    let draft = Draft {
        operation,
        place: Place::Version(version),
        occurred_at: &occurred_at,
        origin,
        traceparent: None,
        run: None,
        only: None,
        key: Some(&key),
        before: before.as_deref(),
        after: after.as_deref(),
        // One place in the stream holds one content.
        same: Same::Id,
    };
    capture::prepare(&table.source, &table.policy, ids, &draft).map(Step::Send)
}

/// The record id, as far as the key can be read.
pub(crate) fn rid(
    stream: &StreamRecord<'_>,
    table: &Table,
    ids: &IdHasher,
) -> Option<sync_domain::id::RecordId> {
    let key = record(stream.keys().ok()?, "Keys").ok()?;
    let canonical = table.policy.canonical_key(&key).ok()?;
    Some(ids.rid(table.source.as_str(), table.policy.model().as_str(), &canonical))
}

/// Seconds since 1970, perhaps with a fraction, as RFC 3339; what is finer than microseconds is cut off.
fn occurred_at(seconds: &str) -> Result<String, Reason> {
    let wrong = || Reason::new("not_a_stream_record", "ApproximateCreationDateTime");
    let microseconds = Decimal::parse(seconds).and_then(|number| number.scaled(6)).ok_or_else(wrong)?;
    let time = jiff::Timestamp::from_microsecond(microseconds).map_err(|_| wrong())?;
    Ok(time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form_that_a_number_has() {
        for (seconds, expected) in [
            ("1795551563", "2026-11-24T20:19:23Z"),
            ("1795551563.0", "2026-11-24T20:19:23Z"),
            ("1.795551563E9", "2026-11-24T20:19:23Z"),
            ("1795551563.123", "2026-11-24T20:19:23.123Z"),
            ("1795551563.123456789", "2026-11-24T20:19:23.123456Z"),
            ("0", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(occurred_at(seconds).as_deref(), Ok(expected), "{seconds}");
        }
        for bad in ["\"2026-11-24\"", "null", "1E+30", "{}"] {
            assert!(occurred_at(bad).is_err(), "{bad}");
        }
    }
}
