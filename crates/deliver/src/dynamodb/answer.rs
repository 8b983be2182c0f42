//! What it means what a table says of a put.

use sync_domain::outcome::Reason;
use sync_domain::ports::{Error, Kind, Put};

use crate::send::{Attempt, Sent};

/// By it a table refuses an item: for a key that it does not have, or for a value that an index of its own cannot take.
const INVALID: &str = "ValidationException";

/// What an answer means.
pub(super) fn answered(put: Put) -> Attempt {
    match put {
        Put::Written => Attempt { sent: Sent::Accepted, may_be_there: true, answered: true },
        Put::Newer => Attempt { sent: Sent::Outrun, may_be_there: false, answered: true },
        Put::Busy(code) => Attempt {
            sent: Sent::Later(Reason::new("target_unavailable", code), None),
            may_be_there: false,
            answered: true,
        },
    }
}

/// What a failure means. What a table refuses is about the table or the function's role, and then about every record; only
/// what it calls invalid may be about this one alone, so that it takes others to say that the table is in trouble.
pub(super) fn unanswered(error: &Error) -> Attempt {
    let sent = match error.kind {
        Kind::Refused if error.code == INVALID => {
            let reason = Reason::new("target_misconfigured", error.code.clone());
            return Attempt { sent: Sent::Away(reason), may_be_there: false, answered: true };
        }
        Kind::Refused => Sent::Trouble(Reason::new("target_misconfigured", error.code.clone())),
        Kind::Unavailable | Kind::Behind => Sent::Away(Reason::new("target_unreachable", error.code.clone())),
    };
    Attempt { sent, may_be_there: true, answered: false }
}

/// What it means that the time was over.
pub(super) fn too_late() -> Attempt {
    Attempt {
        sent: Sent::Away(Reason::new("target_unreachable", "Timeout")),
        may_be_there: true,
        answered: false,
    }
}
