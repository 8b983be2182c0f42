//! What it means what a table says of a put.

use sync_domain::outcome::Reason;
use sync_domain::ports::{Error, Kind, Put};

use crate::send::{Attempt, Sent};

/// What an answer means. The client tries a put several times: of one that was throttled in the end nobody knows whether an
/// earlier try was taken.
pub(super) fn answered(put: Put) -> Attempt {
    match put {
        Put::Written => Attempt { sent: Sent::Accepted, may_be_there: true, answered: true },
        Put::Newer => Attempt { sent: Sent::Outrun, may_be_there: false, answered: true },
        Put::Busy(code) => Attempt {
            sent: Sent::Later(Reason::new("target_unavailable", code), None),
            may_be_there: true,
            answered: true,
        },
    }
}

/// What a failure means. What a table refuses is about the table, its key or the function's role: what a record alone can be
/// refused for was looked at before.
pub(super) fn unanswered(error: &Error) -> Attempt {
    let sent = match error.kind {
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
