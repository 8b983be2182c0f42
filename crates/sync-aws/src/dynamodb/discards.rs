//! What an operator deleted from a dead-letter queue and why, in the ticket table under `discard#<message id>`.
//! For the command line; no function discards.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use sync_domain::ports::Result;

use super::PK;
use super::item::{Item, number, text};
use crate::error::from_sdk;

const PUT: &str = "dynamodb:PutItem";
/// How long a note is kept: as long as a ticket, unless the stack says otherwise for those.
const KEPT_S: u64 = 90 * 24 * 60 * 60;

/// A dead letter that is about to be deleted. Names, ids, codes and numbers, and what the operator wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discard {
    /// The letter's `MessageId`.
    pub letter_id: String,
    /// The message's id before it was parked, by which its ticket is found; none if SQS moved it.
    pub message_id: Option<String>,
    /// The record id.
    pub rid: String,
    /// The model, if it is known.
    pub model: Option<String>,
    /// Why the record was given up: a code.
    pub reason: String,
    /// When it was given up, in milliseconds since 1970.
    pub sent_ms: u64,
    /// The ARN of the dead-letter queue.
    pub dead_letter_queue: String,
    /// Why it is discarded, in the operator's words.
    pub because: String,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// Keeps what was discarded.
#[async_trait]
pub trait Discards: Send + Sync {
    /// Notes a letter before it is deleted; once more for the same letter is the same note.
    async fn note(&self, discard: &Discard) -> Result<()>;
}

/// Notes in the ticket table.
#[derive(Debug, Clone)]
pub struct DynamoDiscards {
    client: Client,
    table: String,
}

impl DynamoDiscards {
    /// The notes in a table.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }
}

#[async_trait]
impl Discards for DynamoDiscards {
    async fn note(&self, discard: &Discard) -> Result<()> {
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item(discard)));
        call.send().await.map(|_| ()).map_err(|failed| from_sdk(PUT, &failed))
    }
}

fn item(discard: &Discard) -> Item {
    let mut item = Item::from([
        (PK.to_owned(), text(format!("discard#{}", discard.letter_id))),
        ("rid".to_owned(), text(&discard.rid)),
        ("reason".to_owned(), text(&discard.reason)),
        ("sent_ms".to_owned(), number(discard.sent_ms)),
        ("dead_letter_queue".to_owned(), text(&discard.dead_letter_queue)),
        ("because".to_owned(), text(&discard.because)),
        ("discarded_at".to_owned(), number(discard.at)),
        ("expires_at".to_owned(), number(discard.at.saturating_add(KEPT_S))),
    ]);
    for (name, value) in [("message_id", &discard.message_id), ("model", &discard.model)] {
        if let Some(value) = value {
            item.insert(name.to_owned(), text(value));
        }
    }
    item
}
