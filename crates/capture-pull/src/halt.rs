//! Why a run ends before its time.

use sync_domain::outcome::Reason;
use sync_domain::ports;
use sync_sources as sources;

/// What a run cannot go on past. Nothing behind the last saved cursor counts as handed off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Halt {
    /// Another run has the lease.
    #[error("another run reads the source")]
    Overtaken,
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] sources::Error),
    /// A service on our side is away or refuses.
    #[error(transparent)]
    Port(#[from] ports::Error),
}

/// Why an invocation fails. Lambda counts it as an error, which has an alarm; the next one tries again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The payload names a source that is not in the configuration, or that nobody reads.
    #[error("there is no source {0} that is read; correct the schedule's input or the configuration")]
    UnknownSource(String),
    /// The source does not write the model.
    #[error("source {from} does not write model {model}")]
    UnknownModel {
        /// The source.
        from: String,
        /// The model.
        model: String,
    },
    /// A backfill is asked for that cannot be.
    #[error("the backfill cannot go on: {0}")]
    Backfill(&'static str),
    /// A part of a list of record ids is asked for that does not follow on the last one.
    #[error("the list is not at this part; begin another run at part 0")]
    RecordIds,
    /// The key of a row is not that of a record.
    #[error(
        "a row has no record id ({0}); correct the row or the model: what cannot be listed would count as gone"
    )]
    NoRecordId(Reason),
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] sources::Error),
    /// A service on our side is away or refuses.
    #[error(transparent)]
    Port(#[from] ports::Error),
}
