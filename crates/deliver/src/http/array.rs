//! Several events in one request, and what its answer says of each.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use sync_domain::config::Body;
use sync_domain::delivery::array::{Answer, LONGEST_ANSWER, Parts, body, id, parts, read};
use sync_domain::delivery::ledger::Effect;
use sync_domain::delivery::status::{classify, proves_refusal};
use sync_domain::id::RecordId;
use sync_domain::outcome::Reason;
use sync_http::{Bytes, HeaderMap, HeaderValue, Method, Request, Response, header};
use sync_lambda::deadline::Deadline;
use url::Url;

use super::answer::answered;
use super::request::USER_AGENT;
use super::{Http, Parcel, exchange};
use crate::collect::{Collector, Joins};
use crate::send::{Attempt, Delivery, Sent};

/// An event that can stand in an array, with what it has in the body.
pub(crate) struct Item {
    id: String,
    rid: RecordId,
    effect: Effect,
    text: String,
    method: Method,
    url: Url,
    body: Body,
}

impl Joins for Item {
    fn beside(&self, other: &Self) -> bool {
        self.body == other.body && self.method == other.method && self.url == other.url
    }

    fn bytes(&self) -> usize {
        self.text.len()
    }
}

/// The event as an item; none if it needs a request of its own: its address names its record, or nothing in the body would
/// say what became of which.
fn item(http: Http<'_>, delivery: &Delivery<'_>) -> Option<Result<Item, Reason>> {
    let event = delivery.event;
    let mapped = http.requests.request(event.envelope.operation, delivery.effect);
    if !mapped.joins() || (mapped.body() == Body::Attributes && event.after.is_none()) {
        return None;
    }
    let text = match (mapped.body(), event.after) {
        (Body::Attributes, Some(record)) => delivery.mapping.record(record).map(|record| record.into_owned()),
        _ => delivery.mapping.event(delivery.body),
    };
    let unreadable =
        |error: sync_domain::scan::Error| Reason::new("unreadable_event", format!("byte {}", error.offset));
    Some(text.map_err(unreadable).and_then(|text| {
        Ok(Item {
            id: event.id.as_str().to_owned(),
            rid: event.envelope.rid.clone(),
            effect: delivery.effect,
            text,
            method: Method::from_bytes(mapped.method().as_str().as_bytes()).unwrap_or(Method::POST),
            url: http.requests.address(mapped, event.key)?,
            body: mapped.body(),
        })
    }))
}

/// Sends an event in an array, if it can stand in one.
pub(crate) async fn join(
    http: Http<'_>,
    deadline: Deadline,
    arrays: &Collector<Item>,
    delivery: &Delivery<'_>,
) -> Attempt {
    let item = match item(http, delivery) {
        Some(Ok(item)) => item,
        Some(Err(reason)) => return Sent::Refused(reason).into(),
        None => return super::send(http, deadline, delivery).await,
    };
    let (record, apart) = (item.rid.clone(), &http.deps.apart);
    let attempt = arrays.send(item, apart.holds(&record)).await;
    if matches!(attempt.sent, Sent::Accepted | Sent::Outrun | Sent::Refused(_)) {
        apart.release(&record);
    }
    attempt
}

/// Sends items that go together; the results are in their order. What is refused as a whole goes once more in parts.
pub(crate) fn send<'a>(http: Http<'a>, deadline: Deadline, items: &'a [Item]) -> BoxFuture<'a, Vec<Attempt>> {
    async move {
        let id = id(items.iter().map(|item| item.id.as_str()));
        let Some(request) = request(http, items) else { return Vec::new() };
        // A status of the whole is never about a delete in it: 404 says that the address is wrong.
        let parcel = Parcel { id: &id, request, effect: Effect::Update };
        let reply = exchange(http, deadline, &parcel).await;
        let Some(response) = reply.response else { return whole(http, items, &reply.attempt) };
        let class = classify(response.status, parcel.effect, &http.endpoint.statuses);
        let pieces = match parts(response.status, class, items.len()) {
            None => return judged(http, items, &reply.attempt, &response),
            Some(Parts::Halves) => items.chunks(items.len().div_ceil(2)),
            Some(Parts::Singles) => items.chunks(1),
        };
        let sent = join_all(pieces.map(|piece| send(http, deadline, piece))).await;
        let mut attempts: Vec<Attempt> = sent.into_iter().flatten().collect();
        for attempt in &mut attempts {
            attempt.may_be_there |= reply.attempt.may_be_there;
        }
        attempts
    }
    .boxed()
}

fn request(http: Http<'_>, items: &[Item]) -> Option<Request> {
    let first = items.first()?;
    let content_type = match first.body {
        Body::Attributes => "application/json",
        Body::Event | Body::Key | Body::None => "application/cloudevents-batch+json",
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Some(Request {
        method: first.method.clone(),
        url: first.url.clone(),
        headers,
        body: Bytes::from(body(items.iter().map(|item| item.text.as_str()))),
        timeout: http.endpoint.timeout,
        max_body: LONGEST_ANSWER,
    })
}

/// What an answer that is not about the whole array alone says of each of its events.
fn judged(http: Http<'_>, items: &[Item], attempt: &Attempt, response: &Response) -> Vec<Attempt> {
    let status = response.status;
    if !matches!(attempt.sent, Sent::Accepted) || !(200..300).contains(&status) {
        return whole(http, items, attempt);
    }
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    let now = (http.deps.now)();
    match read(status, response.body.as_deref(), &ids) {
        Answer::Whole => whole(http, items, attempt),
        Answer::Unreadable => {
            let sent = Sent::Away(Reason::new("unreadable_answer", format!("status {status}")));
            whole(http, items, &Attempt { sent, may_be_there: true, answered: true })
        }
        Answer::Each(verdicts) => {
            let of_each = items.iter().zip(verdicts).map(|(item, verdict)| match verdict {
                Some(verdict) => {
                    let asked = verdict.retry_after.or_else(|| response.header("retry-after"));
                    let sent = answered(http.endpoint, item.effect, verdict.status, asked, now);
                    Attempt { sent, may_be_there: !proves_refusal(verdict.status), answered: true }
                }
                None => {
                    let sent = Sent::Later(Reason::new("no_result", format!("status {status}")), None);
                    Attempt { sent, may_be_there: true, answered: true }
                }
            });
            of_each.collect()
        }
    }
}

/// The same for each. An array that fails says nothing of any one record, and counts as one: its first.
fn whole(http: Http<'_>, items: &[Item], attempt: &Attempt) -> Vec<Attempt> {
    let mut attempts = vec![attempt.clone(); items.len()];
    if let Sent::Away(reason) = &attempt.sent
        && items.len() > 1
    {
        http.deps.apart.keep(items.iter().map(|item| &item.rid));
        for others in attempts.iter_mut().skip(1) {
            others.sent = Sent::Later(reason.clone(), None);
        }
    }
    attempts
}
