//! An endpoint that stands for AWS: it counts requests by service and action, answers each with the least that is
//! valid, and keeps what is sent to queues and topics. It waits for nothing, so that what is measured is ours.

mod tables;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use self::tables::Tables;
use crate::http::{Request, Response, Server};

/// Requests by service and action.
pub type Counts = BTreeMap<(String, String), u64>;

/// A message that was sent to a queue, or an event that was published.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The body.
    pub body: String,
    /// `MessageGroupId`
    pub group: String,
    /// `MessageDeduplicationId`
    pub dedup: String,
    /// Name, data type, value.
    pub attributes: Vec<(String, String, String)>,
}

#[derive(Default)]
struct State {
    counts: Counts,
    queues: HashMap<String, Vec<Entry>>,
    published: Vec<Entry>,
    failures: Vec<Value>,
    tables: Tables,
    data_keys: HashMap<String, String>,
    secrets: HashMap<String, String>,
    numbers: u64,
}

/// A running endpoint.
pub struct Stub {
    state: Arc<Mutex<State>>,
    server: Server,
}

impl Stub {
    /// Starts it on a free port; `secrets` are name and text.
    pub fn start(secrets: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let state =
            Arc::new(Mutex::new(State { secrets: secrets.into_iter().collect(), ..State::default() }));
        let shared = Arc::clone(&state);
        let server = Server::start(move |request: &Request| lock(&shared).answer(request))?;
        Ok(Self { state, server })
    }

    /// What `AWS_ENDPOINT_URL` is set to.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Takes the counts so far.
    pub fn take_counts(&self) -> Counts {
        std::mem::take(&mut lock(&self.state).counts)
    }

    /// Takes what was sent to a queue.
    pub fn take_sent(&self, queue_url: &str) -> Vec<Entry> {
        lock(&self.state).queues.remove(queue_url).unwrap_or_default()
    }

    /// Takes what was published.
    pub fn take_published(&self) -> Vec<Entry> {
        std::mem::take(&mut lock(&self.state).published)
    }

    /// The failures that were reported.
    pub fn failures(&self) -> Vec<Value> {
        lock(&self.state).failures.clone()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn answer(&mut self, request: &Request) -> Response {
        match request.header("x-amz-target").and_then(|target| target.split_once('.')) {
            Some((service, action)) => {
                let service = match service {
                    "AmazonSQS" => "sqs",
                    "DynamoDB_20120810" => "dynamodb",
                    "TrentService" => "kms",
                    "AWSEvents" => "events",
                    other => other,
                };
                self.count(service, action);
                let input = serde_json::from_slice(&request.body).unwrap_or_default();
                match self.json(service, action, &input) {
                    Ok(answer) => Response::new(200, "application/x-amz-json-1.0", answer.to_string()),
                    Err(code) => {
                        let body = json!({ "__type": code, "message": "refused by the stub" });
                        Response::new(400, "application/x-amz-json-1.0", body.to_string())
                    }
                }
            }
            None => {
                let input = form(&request.body);
                let action = input.get("Action").map_or("", String::as_str).to_owned();
                self.count("sns", &action);
                self.sns(&action, &input)
            }
        }
    }

    fn count(&mut self, service: &str, action: &str) {
        *self.counts.entry((service.to_owned(), action.to_owned())).or_default() += 1;
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn json(&mut self, service: &str, action: &str, input: &Value) -> Result<Value, &'static str> {
        match (service, action) {
            ("sqs", "SendMessageBatch") => Ok(self.send(input)),
            ("sqs", "ChangeMessageVisibilityBatch") => {
                let taken: Vec<_> =
                    list(input, "Entries").iter().map(|entry| json!({ "Id": text(entry, "Id") })).collect();
                Ok(json!({ "Successful": taken, "Failed": [] }))
            }
            ("dynamodb", action) => self.tables.answer(action, input),
            ("kms", "GenerateMac") => {
                let mac = bytes_of(&[text(input, "KeyId"), text(input, "Message")]);
                Ok(json!({ "KeyId": text(input, "KeyId"), "MacAlgorithm": "HMAC_SHA_256", "Mac": mac }))
            }
            ("kms", "GenerateDataKey") => {
                let number = self.number().to_string();
                let (plain, wrapped) = (bytes_of(&["plain", &number]), bytes_of(&["wrapped", &number]));
                self.data_keys.insert(wrapped.clone(), plain.clone());
                Ok(json!({ "KeyId": text(input, "KeyId"), "Plaintext": plain, "CiphertextBlob": wrapped }))
            }
            ("kms", "Decrypt") => {
                let plain =
                    self.data_keys.get(text(input, "CiphertextBlob")).ok_or("InvalidCiphertextException")?;
                Ok(json!({ "KeyId": text(input, "KeyId"), "Plaintext": plain }))
            }
            ("secretsmanager", "GetSecretValue") => {
                let name = text(input, "SecretId");
                let secret = self.secrets.get(name).ok_or("ResourceNotFoundException")?;
                Ok(json!({ "Name": name, "SecretString": secret, "VersionId": "1" }))
            }
            ("events", "PutEvents") => {
                let entries = list(input, "Entries");
                self.failures.extend(entries.iter().cloned());
                let taken: Vec<_> =
                    entries.iter().map(|_| json!({ "EventId": self.number().to_string() })).collect();
                Ok(json!({ "FailedEntryCount": 0, "Entries": taken }))
            }
            _ => Err("UnknownOperationException"),
        }
    }

    fn send(&mut self, input: &Value) -> Value {
        let mut taken = Vec::new();
        for entry in list(input, "Entries") {
            let attribute = |(name, value): (&String, &Value)| {
                (name.clone(), text(value, "DataType").to_owned(), text(value, "StringValue").to_owned())
            };
            let attributes = entry.get("MessageAttributes").and_then(Value::as_object);
            let sent = Entry {
                body: text(entry, "MessageBody").to_owned(),
                group: text(entry, "MessageGroupId").to_owned(),
                dedup: text(entry, "MessageDeduplicationId").to_owned(),
                attributes: attributes.into_iter().flatten().map(attribute).collect(),
            };
            self.queues.entry(text(input, "QueueUrl").to_owned()).or_default().push(sent);
            let number = self.number();
            taken.push(json!({
                "Id": text(entry, "Id"),
                "MessageId": format!("{number}"),
                "MD5OfMessageBody": "0",
                "SequenceNumber": format!("{number:020}"),
            }));
        }
        json!({ "Successful": taken, "Failed": [] })
    }

    fn sns(&mut self, action: &str, input: &HashMap<String, String>) -> Response {
        let text = |name: String| input.get(&name).cloned();
        let result = match action {
            "Publish" => format!("<MessageId>{}</MessageId>", self.number()),
            "PublishBatch" => {
                let mut taken = String::new();
                for at in 1.. {
                    let member = format!("PublishBatchRequestEntries.member.{at}");
                    let Some(id) = text(format!("{member}.Id")) else { break };
                    let value = |name: &str| text(format!("{member}.{name}")).unwrap_or_default();
                    let attribute = |at: usize| {
                        let entry = format!("{member}.MessageAttributes.entry.{at}");
                        let name = text(format!("{entry}.Name"))?;
                        let value = |name: &str| text(format!("{entry}.Value.{name}")).unwrap_or_default();
                        Some((name, value("DataType"), value("StringValue")))
                    };
                    self.published.push(Entry {
                        body: value("Message"),
                        group: value("MessageGroupId"),
                        dedup: value("MessageDeduplicationId"),
                        attributes: (1..).map_while(attribute).collect(),
                    });
                    taken.push_str(&format!(
                        "<member><Id>{id}</Id><MessageId>{}</MessageId></member>",
                        self.number()
                    ));
                }
                format!("<Failed/><Successful>{taken}</Successful>")
            }
            _ => {
                return Response::new(
                    400,
                    "text/xml",
                    "<ErrorResponse><Error><Code>InvalidAction</Code></Error></ErrorResponse>",
                );
            }
        };
        let space = "http://sns.amazonaws.com/doc/2010-03-31/";
        let body = format!(
            "<{action}Response xmlns=\"{space}\"><{action}Result>{result}</{action}Result><ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></{action}Response>"
        );
        Response::new(200, "text/xml", body)
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// 32 bytes that are the same for the same parts, in base64: enough of a key where nothing secret is protected.
fn bytes_of(parts: &[&str]) -> String {
    let mut bytes = Vec::new();
    for round in 0..4_u8 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(round);
        for part in parts {
            hasher.write(part.as_bytes());
            hasher.write_u8(0xff);
        }
        bytes.extend_from_slice(&hasher.finish().to_be_bytes());
    }
    STANDARD.encode(bytes)
}

/// The fields of `application/x-www-form-urlencoded`.
fn form(body: &[u8]) -> HashMap<String, String> {
    let fields = body.split(|byte| *byte == b'&');
    fields
        .filter_map(|field| {
            let at = field.iter().position(|byte| *byte == b'=')?;
            let (name, value) = field.split_at_checked(at)?;
            Some((decoded(name), decoded(value.get(1..)?)))
        })
        .collect()
}

fn decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        let digit =
            |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16)).unwrap_or_default();
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                u8::try_from(high * 16 + low).unwrap_or_default()
            }
            plain => *plain,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_it_was_written() {
        let read = form("Action=Publish&Message=%7B%22a%22%3A%22K%C3%B6ln+1%2B1%22%7D&Empty=".as_bytes());
        assert_eq!(read["Action"], "Publish");
        assert_eq!(read["Message"], "{\"a\":\"Köln 1+1\"}");
        assert_eq!(read["Empty"], "");
    }

    #[test]
    fn key_material_is_32_bytes_and_depends_on_every_part() {
        assert_eq!(STANDARD.decode(bytes_of(&["a", "b"])).unwrap().len(), 32);
        assert_eq!(bytes_of(&["a", "b"]), bytes_of(&["a", "b"]));
        assert_ne!(bytes_of(&["a", "b"]), bytes_of(&["ab"]));
    }
}
