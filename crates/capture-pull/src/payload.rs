//! What the function is invoked with: the schedule's input, or what `datasync` asks for.

use serde::{Deserialize, Serialize};
use sync_domain::id::{ModelId, SourceId, TargetId};
use sync_lambda::backfill::RunId;

/// The payload of an invocation. The schedule sends `{"source":"crm-db"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// The source.
    pub source: SourceId,
    /// What to do with it.
    #[serde(default, skip_serializing_if = "Work::is_poll")]
    pub work: Work,
    /// A shorter run than the function's setting: `5s`; `0s` is one poll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_for: Option<String>,
}

/// What to do with a source.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Read its changes until the time of a run is over.
    #[default]
    Poll,
    /// Read existing rows of one model as snapshots.
    Backfill(Backfill),
    /// Let a backfill rest.
    PauseBackfill(BackfillRun),
    /// Let it go on.
    ResumeBackfill(BackfillRun),
    /// Say how far a backfill is.
    BackfillStatus(BackfillRun),
    /// List the record ids of the rows that a model has now.
    RecordIds(RecordIds),
    /// Say how the source stands.
    Status,
    /// Let a stopped source be read on from where it is.
    Resume,
    /// Forget the cursor and raise the epoch.
    Resync,
}

impl Work {
    fn is_poll(&self) -> bool {
        *self == Self::Poll
    }
}

/// One invocation's share of a backfill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backfill {
    /// The model.
    pub model: ModelId,
    /// The run: chosen by whoever starts it, and named again to go on.
    pub run: RunId,
    /// A condition in SQL over the table's columns; all rows without it. Counts for the first invocation of a run, which
    /// remembers it.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// The only target that gets the rows; all subscribed ones without it. Remembered as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetId>,
}

/// A backfill by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackfillRun {
    /// The model.
    pub model: ModelId,
    /// The run.
    pub run: RunId,
}

/// One part of a list of record ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordIds {
    /// The model.
    pub model: ModelId,
    /// The list: chosen by whoever begins it, and named again for its next part.
    pub run: RunId,
    /// Which part, from 0: the one behind the last, or the last once more.
    pub part: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_names_the_source_and_nothing_else() {
        let payload: Payload = serde_json::from_str(r#"{"source":"crm-db"}"#).unwrap();
        assert_eq!(payload.work, Work::Poll);
        assert_eq!(serde_json::to_string(&payload).unwrap(), r#"{"source":"crm-db"}"#);
    }

    #[test]
    fn a_backfill_names_its_model_and_run() {
        let text = r#"{"source":"crm-db","work":{"backfill":{"model":"customer","run":"2026-11-24","where":"tier = 'gold'"}}}"#;
        let payload: Payload = serde_json::from_str(text).unwrap();
        assert!(matches!(&payload.work, Work::Backfill(backfill) if backfill.run.as_str() == "2026-11-24"));
        assert_eq!(serde_json::to_string(&payload).unwrap(), text);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for bad in [
            r#"{}"#,
            r#"{"source":"crm-db","wrk":"status"}"#,
            r#"{"source":"crm-db","work":"drop"}"#,
            r#"{"source":"crm-db","work":{"backfill":{"model":"customer","run":"A b"}}}"#,
            r#"{"source":"crm-db","work":{"backfill":{"model":"customer"}}}"#,
        ] {
            assert!(serde_json::from_str::<Payload>(bad).is_err(), "{bad}");
        }
    }
}
