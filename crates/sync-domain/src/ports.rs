//! What the stages need of the outside. `sync-aws` and `sync-http` have the real ones, `sync-testkit` the twins in memory.
//!
//! Contract of every batch call: the answer has one result per entry, in the order of the entries. An entry whose
//! result is an error was not taken, or may have been (a lost answer): the caller sends it again, and the
//! deduplication id makes one of two. Within a message group an entry behind a failed one is never sent:
//! it fails with [`Kind::Behind`].

use std::time::Duration;

use async_trait::async_trait;

use crate::delivery::breaker::Breaker;
use crate::delivery::item::Item;
use crate::delivery::limit::{Claim, Claimed};
use crate::event::Event;
use crate::id::TargetId;
use crate::outcome::FailureEvent;

/// What kind of failure a port reports; it decides whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The service is throttling, away or slow: try again.
    Unavailable,
    /// An earlier entry of the same group failed: try again behind it.
    Behind,
    /// The service says no (permission, unknown resource, a value out of bounds): the same call will fail again.
    Refused,
}

/// A failed call of a port. The operation is a fixed name; values never stand in it.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed ({kind:?}, {code})")]
pub struct Error {
    /// What decides the way on.
    pub kind: Kind,
    /// The call, e.g. `sqs:SendMessageBatch`.
    pub operation: &'static str,
    /// The service's error code.
    pub code: String,
    /// The error beneath, if one is at hand.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of a port.
pub type Result<T> = std::result::Result<T, Error>;

/// A message for a FIFO queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueEntry {
    /// The body; only characters that SQS takes (see `scan::escape_for_queue`).
    pub body: String,
    /// `MessageGroupId`: the record id.
    pub group: String,
    /// `MessageDeduplicationId`: see [`crate::id::dedup_id`].
    pub dedup: String,
    /// Message attributes of type String; at most 10.
    pub attributes: Vec<(String, String)>,
}

/// A FIFO queue to send to.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Sends the entries, split into calls within the service's limits. See the module for the contract.
    async fn send(&self, entries: Vec<QueueEntry>) -> Vec<Result<()>>;

    /// The queue's URL, for tickets.
    fn url(&self) -> &str;
}

/// A message that was received without an event source mapping: what Lambda would hand over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// `MessageId`.
    pub id: String,
    /// The receipt handle.
    pub receipt: String,
    /// The body.
    pub body: String,
    /// The system's attributes: group, sequence number, times and number of receives.
    pub system: Vec<(String, String)>,
    /// The message attributes of type String.
    pub attributes: Vec<(String, String)>,
}

/// The queue that a function is fed from.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Makes each received message (by its receipt handle) visible again after `delay` (0 s to 12 h).
    async fn delay(&self, receipts: &[String], delay: Duration) -> Result<()>;

    /// Receives one message, where nothing feeds the function. None says that none was visible, not that none is there.
    async fn take(&self) -> Result<Option<Received>>;

    /// Deletes a message that was taken, once it is done.
    async fn remove(&self, receipt: &str) -> Result<()>;
}

/// What feeds the function of a target, and what wakes it while nothing does. Every call may be repeated.
#[async_trait]
pub trait Switch: Send + Sync {
    /// Lets the event source mapping of this id read the queue, or stops it.
    async fn feed(&self, mapping: &str, on: bool) -> Result<()>;

    /// Lets the schedule invoke the function once a minute, or stops it.
    async fn wake(&self, on: bool) -> Result<()>;
}

/// The topic. Takes only an [`Event`], and an [`Event`] comes only out of the policy.
#[async_trait]
pub trait Topic: Send + Sync {
    /// Publishes the events with their message attributes. See the module for the contract.
    async fn publish(&self, events: &[Event]) -> Vec<Result<()>>;
}

/// The bus for failures.
#[async_trait]
pub trait FailureBus: Send + Sync {
    /// Reports failures; one result per failure.
    async fn report(&self, failures: &[FailureEvent]) -> Vec<Result<()>>;
}

/// The store for records that cannot go on and that no queue holds.
#[async_trait]
pub trait DeadLetterStore: Send + Sync {
    /// Stores a JSON document under a name; one that stands there already is replaced.
    async fn put(&self, name: &str, document: String) -> Result<()>;

    /// Where the document of a name stands, for tickets: `s3://<bucket>/<name>`.
    fn place(&self, name: &str) -> String;
}

/// A key that comes from the key service and is wiped when dropped.
pub type KeyBytes = zeroize::Zeroizing<[u8; 32]>;

/// What a keyed hash is for: each has a key of its own in KMS, so that each is granted alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashKey {
    /// Record ids; its version never changes.
    Id,
    /// Tokens, fingerprints.
    Token,
    /// The delivery ledger's keys and digests.
    Ledger,
}

/// A fresh data key for one (model, attribute).
#[derive(Debug)]
pub struct DataKey {
    /// The key in clear; in memory only.
    pub plain: KeyBytes,
    /// The key as KMS wrapped it.
    pub wrapped: Vec<u8>,
}

/// The key service (KMS).
#[async_trait]
pub trait KeyService: Send + Sync {
    /// The root of a family of keyed hashes: `GenerateMac` over `datasync/<hash key>/<version>`.
    async fn hash_root(&self, key: HashKey, version: u32) -> Result<KeyBytes>;

    /// A new data key under the encryption context (model, attribute): `GenerateDataKey`.
    async fn new_data_key(&self, model: &str, attribute: &str) -> Result<DataKey>;

    /// Unwraps a data key under the same context: `Decrypt`.
    async fn unwrap_data_key(&self, model: &str, attribute: &str, wrapped: &[u8]) -> Result<KeyBytes>;
}

/// The table of wrapped data keys.
#[async_trait]
pub trait KeyTable: Send + Sync {
    /// Writes a wrapped key under its id, before the key is first used.
    async fn put(&self, key_id: &str, model: &str, attribute: &str, wrapped: &[u8]) -> Result<()>;

    /// The wrapped key of an id: (model, attribute, wrapped).
    async fn get(&self, key_id: &str) -> Result<Option<(String, String, Vec<u8>)>>;
}

/// What the delivery ledger knows of one record at one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// The last version that the target accepted or that was unchanged.
    pub version: crate::version::Version,
    /// The digest of the content that the target has; none after a delete.
    pub digest: Option<String>,
    /// The target accepted a delete.
    pub deleted: bool,
    /// The key in its protected form, as JSON text.
    pub key: String,
    /// How many tries the last delivery took.
    pub tries: u32,
    /// When the row ends (seconds since 1970): tombstones only; live rows stay.
    pub expires_at: Option<i64>,
    /// What the row is about; none in rows of releases that did not write it yet.
    pub whose: Option<Whose>,
}

/// What a row of the ledger is about: names and a keyed hash. The row's own key cannot be turned back into them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    /// The target.
    pub target: crate::id::TargetId,
    /// The source.
    pub source: crate::id::SourceId,
    /// The model.
    pub model: crate::id::ModelId,
    /// The record.
    pub rid: crate::id::RecordId,
}

/// The delivery ledger. Rows are keyed by a keyed hash of (target, record id); the row of a target's breaker has a key that
/// no hash is.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Reads the rows, strongly consistent; one answer per key, in order.
    async fn read(&self, keys: &[String]) -> Vec<Result<Option<LedgerRow>>>;

    /// Reads the target's breaker and the rows of a batch in as many calls as the rows alone take.
    async fn look(
        &self,
        target: &TargetId,
        keys: &[String],
    ) -> (Result<Breaker>, Vec<Result<Option<LedgerRow>>>);

    /// Reads the target's breaker, strongly consistent; the default one where there is no row.
    async fn breaker(&self, target: &TargetId) -> Result<Breaker>;

    /// Writes the breaker if the row that stands there has the revision before; false = somebody was faster.
    async fn set_breaker(&self, target: &TargetId, breaker: &Breaker) -> Result<bool>;

    /// Writes the row unless the ledger has a higher version already; false = it had.
    async fn mark(&self, key: &str, row: &LedgerRow) -> Result<bool>;
}

/// What every target was given of its limits: one row per target, shared by all instances.
#[async_trait]
pub trait Meters: Send + Sync {
    /// Writes the claim if its condition holds for the row as it stands, in one call, and answers with the row either way.
    /// After an error it may have been written: what was claimed is lost then, and may be claimed again.
    async fn claim(&self, target: &TargetId, claim: &Claim) -> Result<Claimed>;
}

/// Some rows of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerPage {
    /// The rows.
    pub rows: Vec<LedgerRow>,
    /// Behind what the next page begins; none at the end.
    pub next: Option<String>,
}

/// The ledger as a whole. For the command line; no function reads it so.
#[async_trait]
pub trait LedgerRows: Send + Sync {
    /// Some rows behind a place (none: the first ones), in no order that means anything. A row that stood there when the
    /// first page was asked for is in one of them, as it stands when its page is read.
    async fn page(&self, behind: Option<&str>) -> Result<LedgerPage>;
}

/// What is remembered of a push request whose source sends no versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Hash of the body.
    pub body_hash: String,
    /// The indices that the queue confirmed; none while the first attempt is under way.
    pub accepted: Option<Vec<usize>>,
}

/// The table of push requests, kept for 14 days.
#[async_trait]
pub trait Receipts: Send + Sync {
    /// Takes the request id if nobody had it: `None`; otherwise the receipt that stands there.
    async fn claim(&self, request_id: &str, body_hash: &str, expires_at: i64) -> Result<Option<Receipt>>;

    /// Notes which indices the queue confirmed.
    async fn settle(&self, request_id: &str, accepted: &[usize]) -> Result<()>;
}

/// How far a source has been read, and whether it may be read on. One row of the checkpoint table: of a source under its
/// name, of a backfill under `<source>#backfill#<model>#<run>`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// Behind what the next read begins; none before the first.
    pub cursor: Option<String>,
    /// Stands in front of every version; 0 where no resync has raised it.
    pub epoch: u32,
    /// Grows with every write of the cursor.
    pub revision: u64,
    /// Why nothing is read any more, a code in snake case; none while the source is active.
    pub stopped: Option<String>,
    /// Somebody holds the lease at this moment.
    pub held: bool,
}

/// The right to read a source for a while. Whoever takes it gets a token that nobody had before, and only that token
/// writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The row.
    pub row: String,
    /// The fencing token: it grows with each take.
    pub token: u64,
    /// The checkpoint's revision as this holder knows it.
    pub revision: u64,
}

/// What came of the wish to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The lease, and how far the source has been read.
    Held(Lease, Checkpoint),
    /// Somebody else has it, and is not late.
    Busy,
    /// The source is stopped.
    Stopped(Checkpoint),
}

/// The checkpoints, each with the lease of whoever moves it. `false` always means that the lease is somebody else's by now:
/// whoever hears it hands off nothing more.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// The row as it stands, read consistently.
    async fn read(&self, row: &str) -> Result<Option<Checkpoint>>;

    /// Takes the lease if it is free or its time is over. `owner` is one attempt: the same one may take it again.
    async fn take(&self, row: &str, owner: &str, lasts: Duration) -> Result<Taken>;

    /// Writes the cursor and extends the lease, if token and revision are still the lease's. A save whose answer was lost may
    /// be repeated.
    async fn save(&self, lease: &mut Lease, cursor: &str, lasts: Duration) -> Result<bool>;

    /// Gives the lease back before its time.
    async fn release(&self, lease: &Lease) -> Result<bool>;

    /// Stops the source for a reason, and gives the lease back.
    async fn stop(&self, lease: &Lease, reason: &str) -> Result<bool>;

    /// Stops a row from outside: whoever holds its lease has lost it. False = there is no such row.
    async fn halt(&self, row: &str, reason: &str) -> Result<bool>;

    /// Lets a stopped source be read on from where it is. False = there is no such row.
    async fn resume(&self, row: &str) -> Result<bool>;

    /// Forgets the cursor and raises the epoch above the row's own and `at_least`; whoever holds the lease has lost it. Gives
    /// the new epoch.
    async fn restart(&self, row: &str, at_least: u32) -> Result<u32>;
}

/// Secrets by reference, cached by the adapter for at most five minutes.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The secret's text.
    async fn get(&self, name: &str) -> Result<zeroize::Zeroizing<String>>;

    /// Reads the secret again past the cache (after a failed authentication), at most once in 10 seconds per name.
    async fn refresh(&self, name: &str) -> Result<zeroize::Zeroizing<String>>;
}

/// A request that a service of AWS shall know the sender of.
#[derive(Debug, Clone, Copy)]
pub struct ToSign<'a> {
    /// The service's name in signatures.
    pub service: &'a str,
    /// The region; none = the function's own.
    pub region: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// The address as it is sent; its host is signed.
    pub url: &'a str,
    /// The headers that are signed, names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The whole body.
    pub body: &'a [u8],
    /// Seconds since 1970; the service takes no signature that is five minutes off.
    pub now: i64,
}

/// A header that proves where a request comes from. Its value may be a secret.
pub type Proof = (&'static str, zeroize::Zeroizing<String>);

/// Signs requests with the function's own role (Signature Version 4).
#[async_trait]
pub trait Signer: Send + Sync {
    /// The headers to send along with a request, for this one only and not for long.
    async fn sign(&self, request: &ToSign<'_>) -> Result<Vec<Proof>>;
}

/// A ticket: a failure as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The id: a hash of (stage, target, message or event id), so that the same failure writes the same ticket.
    pub id: String,
    /// The failure.
    pub failure: FailureEvent,
    /// When the failure was reported, RFC 3339.
    pub failed_at: String,
    /// When the ticket ends (seconds since 1970).
    pub expires_at: i64,
}

/// The ticket table.
#[async_trait]
pub trait Tickets: Send + Sync {
    /// Writes the ticket; false = it stood there already.
    async fn open(&self, ticket: &Ticket) -> Result<bool>;

    /// Takes the right to alert for a cause, on behalf of a ticket and for a short time; false = the alert was sent, or
    /// somebody else is at it. The same ticket may take it again at once: who took it may have died before the alert.
    async fn claim_alert(&self, cause: &str, ticket_id: &str, lasts: Duration) -> Result<bool>;

    /// Notes that the alert was sent: nobody has the right before `expires_at` (seconds since 1970), nor has the ticket
    /// that had it.
    async fn settle_alert(&self, cause: &str, expires_at: i64) -> Result<()>;
}

/// The alert topic.
#[async_trait]
pub trait Alerts: Send + Sync {
    /// Sends an alert to people; names and numbers only.
    async fn send(&self, subject: &str, text: &str) -> Result<()>;
}

/// A table that `enrich` looks records up in.
#[async_trait]
pub trait LookupTable: Send + Sync {
    /// Reads one item by its key attributes (name, JSON scalar); the answer is the item as a JSON object.
    async fn get(&self, table: &str, key: &[(String, String)]) -> Result<Option<String>>;
}

/// What came of the wish to write an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It stands there.
    Written,
    /// One with a higher version stands there, and stays.
    Newer,
    /// The table is there and takes no more for now; the service's code.
    Busy(String),
}

/// The tables of targets. Each keeps one item per record, and every item the version that it was written from.
#[async_trait]
pub trait VersionedTable: Send + Sync {
    /// Writes an item, unless the one of its key that stands there has a higher version. An equal one is written again: the
    /// answer to the first may have been lost. One without a version is replaced. After an error it may stand there.
    async fn put(&self, table: &str, item: Item) -> Result<Put>;
}

/// What a table says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// The names of its key's attributes.
    pub key: Vec<String>,
    /// Whether its stream is on and carries whole items.
    pub streams: bool,
}

/// Some items of a table, each as DynamoDB's JSON writes it: an object of typed values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Items {
    /// The items.
    pub items: Vec<String>,
    /// Where the next ones begin, typed too; none at the end of the table.
    pub next: Option<String>,
}

/// A table whose items are read one behind the other, in an order of its own.
#[async_trait]
pub trait ItemTable: Send + Sync {
    /// What it is like at this moment.
    async fn shape(&self) -> Result<TableShape>;

    /// The items from a place on (none: the first). None of them is older than the call.
    async fn page(&self, from: Option<&str>) -> Result<Items>;
}
