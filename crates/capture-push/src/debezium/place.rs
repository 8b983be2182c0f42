//! The version of an event: its place in the database's log.
//!
//! **PostgreSQL.** `source.sequence` has the end of the last transaction that was decoded before, and the row's own place
//! in the log. Transactions come in the order of their ends and rows of one transaction in the order of their places, so
//! the pair grows from event to event; the second part alone does not (a long transaction wrote its rows early and comes
//! late). Until Debezium has seen a first end, in the first transaction behind a first snapshot, it says null there; then
//! 1 stands for it. A restart in that transaction knows an end: the place at which it resumes, which may lie before the
//! places of what was sent already. Whatever it is, it is behind 1, so that the rest of the transaction is news.
//!
//! **MySQL, MariaDB.** File, offset and row, which the server counts up.
//!
//! **Snapshots.** A row that a snapshot read stands in front of every change of the log at its place, so that a change
//! always wins, in whichever order the two arrive. It also stands behind all changes that ended before, and may correct
//! them. The first snapshot of PostgreSQL has no end before it and stands in front of everything; one that broke off and is
//! begun again stands behind the first, since all its rows have the place at which it began.

use sync_domain::change::Operation;
use sync_domain::scan::{self, Scanner};
use sync_domain::version::Version;

use super::envelope::Source;
use crate::body::CHANGE;
use crate::refusal::Fault;

/// Stands for the end of the last transaction until one is known: behind a first snapshot, in front of every end.
const NO_END: u64 = 1;

/// The version of an event of this source.
pub(super) fn version(source: &Source<'_>, operation: Operation, epoch: u32) -> Result<Version, Fault> {
    let snapshot = operation == Operation::Snapshot;
    match &*source.connector {
        "postgresql" => {
            let sequence = source.sequence.as_deref().and_then(sequence).ok_or_else(no_sequence)?;
            match sequence {
                (Some(ended), _) if snapshot => Ok(Version::from_log(epoch, ended, 0)),
                (None, Some(began)) if snapshot => Ok(Version::from_log(epoch, 0, began)),
                (ended, Some(own)) => Ok(Version::from_log(epoch, ended.unwrap_or(NO_END), own)),
                (_, None) => Err(no_sequence()),
            }
        }
        "mysql" | "mariadb" => {
            let file = source.file.as_deref().and_then(file_number);
            let (Some(file), Some(offset), Some(row)) = (file, source.offset, source.row) else {
                return Err(no_binlog_place());
            };
            let row = if snapshot { 0 } else { row.checked_add(1).ok_or_else(no_binlog_place)? };
            Ok(Version::from_binlog(epoch, file, offset, row))
        }
        _ => Err(Fault::new(
            "unknown_connector",
            "the place in the log is known of the connectors postgresql, mysql and mariadb only",
        )),
    }
}

/// The two places of `["24023119","24023128"]`, the first of which may be null.
fn sequence(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let mut places = [None; 2];
    let mut scanner = Scanner::new(text, &CHANGE).ok()?;
    let scanned = scanner.array(|scanner, index| {
        let value = scanner.value()?;
        let place = value.text().and_then(|digits| digits.parse::<u64>().ok());
        match places.get_mut(index) {
            Some(slot) if place.is_some() || value.is_null() => *slot = place,
            _ => return Err(scan::Error { kind: scan::ErrorKind::WrongType, offset: scanner.offset() }),
        }
        Ok(())
    });
    scanned.and_then(|()| scanner.end()).ok()?;
    Some(places.into())
}

/// The number behind the last full stop of `mysql-bin.000003`.
fn file_number(file: &str) -> Option<u32> {
    let (_, digits) = file.rsplit_once('.')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn no_sequence() -> Fault {
    Fault::new(
        "missing_position",
        "`source.sequence` must be a text with the last commit's and the event's own place: [\"24023119\",\"24023128\"]",
    )
}

fn no_binlog_place() -> Fault {
    Fault::new(
        "missing_position",
        "`source` must have the place in the binary log: `file` that ends in a number, `pos` and `row`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_two_places_in_a_text() {
        assert_eq!(sequence(r#"["24023119","24023128"]"#), Some((Some(24_023_119), Some(24_023_128))));
        assert_eq!(sequence(r#"[null, "18446744073709551615"]"#), Some((None, Some(u64::MAX))));
        for bad in
            ["", "1", "{}", r#"["x","1"]"#, r#"["1","2","3"]"#, r#"["1","2"] "3""#, r#"["-1","2"]"#, "[1,2]"]
        {
            assert_eq!(sequence(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_file_of_the_binary_log_ends_in_its_number() {
        assert_eq!(file_number("mysql-bin.000003"), Some(3));
        assert_eq!(file_number("db.example-bin.4294967295"), Some(u32::MAX));
        for bad in ["", "mysql-bin", "mysql-bin.", "mysql-bin.00x", "mysql-bin.+3"] {
            assert_eq!(file_number(bad), None, "{bad}");
        }
    }
}
