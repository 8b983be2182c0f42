//! What Lambda hands over, and what stands in the dead-letter bucket: types of our own that read each record by itself and
//! leave its images as text.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sync_domain::outcome::Reason;

/// The only view of a stream that has every image which a change needs.
const WHOLE_ITEMS: &str = "NEW_AND_OLD_IMAGES";

/// An invocation that cannot be worked at all. It comes again as a whole, and ends in the dead-letter bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither a batch nor a document of the bucket.
    #[error("the event has neither Records nor a payload with Records, and asks for no work that is known")]
    NotABatch,
    /// A record that no partial answer can name.
    #[error("a record of the batch has no SequenceNumber")]
    NoSequenceNumber,
    /// The mapping reads another table than the source names.
    #[error(
        "a record comes from another table than `dynamodb.table` of the source: correct the stream's ARN or the source"
    )]
    OtherTable,
    /// The stream does not carry whole items.
    #[error(
        "the table's stream has not the view NEW_AND_OLD_IMAGES: make it anew, raise the source's epoch and backfill it"
    )]
    OtherView,
}

/// The texts of the records of a batch, in order.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Each record as it came.
    pub records: Vec<Cow<'a, RawValue>>,
    /// Whether it came as a document of the bucket.
    pub redriven: bool,
}

#[derive(Deserialize)]
struct Invocation<'a> {
    #[serde(borrow, default, rename = "Records")]
    records: Option<Vec<&'a RawValue>>,
    /// Only in documents of the bucket: the batch, as an object or (by Lambda) as a text that holds one.
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

impl<'a> Batch<'a> {
    /// Reads a batch of the stream, or the document that one was put into the bucket as.
    pub fn read(event: &'a str) -> Result<Self, Error> {
        let invocation: Invocation<'a> = parsed(event)?;
        if let Some(records) = invocation.records {
            return Ok(Self { records: records.into_iter().map(Cow::Borrowed).collect(), redriven: false });
        }
        let payload = invocation.payload.ok_or(Error::NotABatch)?.get();
        if !payload.starts_with('"') {
            let records = parsed::<Invocation<'a>>(payload)?.records.ok_or(Error::NotABatch)?;
            return Ok(Self { records: records.into_iter().map(Cow::Borrowed).collect(), redriven: true });
        }
        let text: String = parsed(payload)?;
        let records = parsed::<Invocation<'_>>(&text)?.records.ok_or(Error::NotABatch)?;
        let records = records.into_iter().map(|record| Cow::Owned(record.to_owned())).collect();
        Ok(Self { records, redriven: true })
    }
}

fn parsed<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|_| Error::NotABatch)
}

/// A record of the stream. Its parts are read when they are asked for, so that whatever is odd about one of them is told as
/// this record's fault.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamRecord<'a> {
    #[serde(borrow, default, rename = "eventID")]
    event_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event_name: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "eventSourceARN")]
    event_source_arn: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user_identity: Option<&'a RawValue>,
    #[serde(borrow)]
    dynamodb: Content<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Content<'a> {
    #[serde(borrow, default)]
    approximate_creation_date_time: Option<&'a RawValue>,
    #[serde(borrow, default)]
    keys: Option<&'a RawValue>,
    #[serde(borrow, default)]
    new_image: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_image: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sequence_number: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stream_view_type: Option<&'a RawValue>,
}

/// What DynamoDB says of who made a change: only of its own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserIdentity {
    #[serde(default)]
    principal_id: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

impl<'a> StreamRecord<'a> {
    /// Reads the outer form; a record whose sequence number cannot be read fails its batch.
    pub fn read(record: &'a RawValue) -> Result<Self, Error> {
        serde_json::from_str(record.get()).map_err(|_| Error::NoSequenceNumber)
    }

    /// Its place in the stream: what a partial answer names it by.
    pub fn sequence_number(&self) -> Result<String, Error> {
        text(self.dynamodb.sequence_number).filter(|number| !number.is_empty()).ok_or(Error::NoSequenceNumber)
    }

    /// Its id; whatever stands there, the answer is short and fits a name.
    pub fn event_id(&self) -> String {
        let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
        text(self.event_id).unwrap_or_default().chars().filter(plain).take(64).collect()
    }

    /// Checks that the record is one of this table, with whole items.
    pub fn belongs_to(&self, table: &str) -> Result<(), Error> {
        let arn = text(self.event_source_arn).unwrap_or_default();
        let named = arn.split_once(":table/").and_then(|(_, rest)| rest.split_once("/stream/"));
        if named.is_none_or(|(name, _)| name != table) {
            return Err(Error::OtherTable);
        }
        match text(self.dynamodb.stream_view_type) {
            Some(view) if view == WHOLE_ITEMS => Ok(()),
            _ => Err(Error::OtherView),
        }
    }

    /// `INSERT`, `MODIFY` or `REMOVE`.
    pub fn event_name(&self) -> Result<String, Reason> {
        text(self.event_name).ok_or_else(|| missing("eventName"))
    }

    /// True if DynamoDB removed the item itself, because its time to live was over.
    pub fn is_by_ttl(&self) -> bool {
        let identity = self.user_identity.and_then(parse::<UserIdentity>);
        identity.is_some_and(|identity| {
            identity.kind.as_deref() == Some("Service")
                && identity.principal_id.as_deref() == Some("dynamodb.amazonaws.com")
        })
    }

    /// When it was written: seconds since 1970, as the number stands.
    pub fn created_at(&self) -> Result<&'a str, Reason> {
        let time = self.dynamodb.approximate_creation_date_time;
        time.map(RawValue::get).ok_or_else(|| missing("ApproximateCreationDateTime"))
    }

    /// The key's typed values.
    pub fn keys(&self) -> Result<&'a str, Reason> {
        self.dynamodb.keys.map(RawValue::get).ok_or_else(|| missing("Keys"))
    }

    /// The item after the change, typed.
    pub fn new_image(&self) -> Result<&'a str, Reason> {
        self.dynamodb.new_image.map(RawValue::get).ok_or_else(|| missing("NewImage"))
    }

    /// The item before the change, typed.
    pub fn old_image(&self) -> Result<&'a str, Reason> {
        self.dynamodb.old_image.map(RawValue::get).ok_or_else(|| missing("OldImage"))
    }
}

fn missing(part: &'static str) -> Reason {
    Reason::new("not_a_stream_record", part)
}

fn parse<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

fn text(raw: Option<&RawValue>) -> Option<String> {
    parse(raw?)
}

/// The answer to Lambda: where the batch has to begin again; nothing when it is done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// One at most: Lambda begins again at the lowest in any case.
    pub batch_item_failures: Vec<ItemFailure>,
}

/// A record that comes again, and all behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemFailure {
    /// Its sequence number.
    pub item_identifier: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(event: &str) -> Result<Vec<String>, Error> {
        Batch::read(event).map(|batch| batch.records.iter().map(|record| record.get().to_owned()).collect())
    }

    #[test]
    fn a_batch_reads_as_it_comes_and_as_it_stands_in_the_bucket() {
        let records = vec![r#"{"a": 1.10}"#.to_owned(), "{}".to_owned()];
        for event in [
            r#"{"Records":[{"a": 1.10},{}]}"#,
            r#"{"reason":{},"payload":{"Records":[{"a": 1.10},{}]}}"#,
            r#"{"requestContext":{},"payload":"{\"Records\":[{\"a\": 1.10},{}]}"}"#,
        ] {
            assert_eq!(batch(event), Ok(records.clone()), "{event}");
        }
        assert_eq!(batch(r#"{"Records":[]}"#), Ok(vec![]));
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"payload":{}}"#,
            r#"{"payload":"x"}"#,
            r#"{"payload":1}"#,
            r#"{"Records":{}}"#,
        ] {
            assert_eq!(batch(bad), Err(Error::NotABatch), "{bad}");
        }
    }

    fn record(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn only_dynamodb_itself_removes_by_time_to_live() {
        for (identity, expected) in [
            (r#"{"principalId":"dynamodb.amazonaws.com","type":"Service"}"#, true),
            (r#"{"type":"Service","principalId":"other.amazonaws.com"}"#, false),
            (r#"{"principalId":"dynamodb.amazonaws.com","type":"User"}"#, false),
            ("null", false),
            ("\"x\"", false),
        ] {
            let raw = record(&format!(r#"{{"userIdentity":{identity},"dynamodb":{{}}}}"#));
            assert_eq!(StreamRecord::read(&raw).unwrap().is_by_ttl(), expected, "{identity}");
        }
    }

    #[test]
    fn a_record_of_another_table_or_without_whole_items_is_nobodys_fault_but_the_settings() {
        let of = |table: &str, view: &str| {
            record(&format!(
                r#"{{"eventSourceARN":"arn:aws:dynamodb:eu-central-1:1:table/{table}/stream/2026-11-24T00:00:00.000","dynamodb":{{"StreamViewType":"{view}"}}}}"#
            ))
        };
        let check = |raw: &RawValue| StreamRecord::read(raw).unwrap().belongs_to("t.1");
        assert_eq!(check(&of("t.1", "NEW_AND_OLD_IMAGES")), Ok(()));
        assert_eq!(check(&of("t.12", "NEW_AND_OLD_IMAGES")), Err(Error::OtherTable));
        assert_eq!(check(&record(r#"{"dynamodb":{}}"#)), Err(Error::OtherTable));
        assert_eq!(check(&of("t.1", "NEW_IMAGE")), Err(Error::OtherView));
    }

    #[test]
    fn an_id_fits_the_name_of_a_document() {
        let raw = record(r#"{"eventID":"../a b/c\u0000-1","dynamodb":{}}"#);
        assert_eq!(StreamRecord::read(&raw).unwrap().event_id(), "abc-1");
    }
}
