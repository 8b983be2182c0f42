//! One attempt at a target: the request as mapping and authentication make it, and what the answer means.

use std::time::{Duration, Instant};

use sync_domain::config::{Auth, Body};
use sync_domain::delivery::backoff::retry_after;
use sync_domain::delivery::ledger::Effect;
use sync_domain::delivery::mapping::Mapping;
use sync_domain::delivery::request::Request as Mapped;
use sync_domain::delivery::status::{Class, classify, proves_refusal};
use sync_domain::event::ReceivedEvent;
use sync_domain::outcome::Reason;
use sync_domain::ports::{self, Kind};
use sync_domain::{scan, webhook};
use sync_http::{Bytes, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use sync_lambda::deadline::Deadline;
use zeroize::Zeroizing;

use crate::deps::Deps;

/// What is kept of a target's answer body: nothing. It is read so far so that the connection can be used again.
const MAX_ANSWER: usize = 64 << 10;
/// Time that an invocation needs behind a request: mark, set back, answer.
const MARGIN: Duration = Duration::from_secs(3);
/// Who asks.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("datasync/", env!("CARGO_PKG_VERSION")));

/// An event on its way out.
pub(crate) struct Delivery<'a> {
    pub(crate) event: &'a ReceivedEvent<'a>,
    pub(crate) body: &'a str,
    pub(crate) mapping: &'a Mapping,
    pub(crate) effect: Effect,
}

/// What came of sending it.
#[derive(Debug)]
pub(crate) enum Sent {
    /// The target has it.
    Accepted,
    /// The target has something newer.
    Outrun,
    /// It may work later; perhaps the target said when.
    Later(Reason, Option<Duration>),
    /// It will never work.
    Refused(Reason),
    /// Nothing will work until somebody helps the target or its configuration.
    Trouble(Reason),
}

/// What is known after sending.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// What came of it.
    pub(crate) sent: Sent,
    /// The target may have the event although it was not accepted: the request went out, and no answer came or one that
    /// does not prove the opposite.
    pub(crate) may_be_there: bool,
}

impl From<Sent> for Attempt {
    /// An attempt that did not reach the target.
    fn from(sent: Sent) -> Self {
        Self { sent, may_be_there: false }
    }
}

/// Sends an event; where the target or the way to it is in doubt, once more if its secret has changed meanwhile.
pub(crate) async fn send(deps: &Deps, deadline: Deadline, delivery: &Delivery<'_>) -> Attempt {
    let Some(name) = deps.target.target().endpoint.auth.secret() else {
        return attempt(deps, deadline, delivery, None).await;
    };
    let secret = match deps.secrets.get(name).await {
        Ok(secret) => secret,
        Err(error) => return no_secret(&error).into(),
    };
    let first = attempt(deps, deadline, delivery, Some(&secret)).await;
    if !matches!(first.sent, Sent::Trouble(_)) {
        return first;
    }
    let second = match deps.secrets.refresh(name).await {
        // The same request would get the same answer.
        Ok(fresh) if fresh == secret => return first,
        Ok(fresh) => attempt(deps, deadline, delivery, Some(&fresh)).await,
        Err(error) => no_secret(&error).into(),
    };
    Attempt { may_be_there: first.may_be_there || second.may_be_there, ..second }
}

fn no_secret(error: &ports::Error) -> Sent {
    tracing::warn!(
        error.operation = error.operation,
        error.code = error.code,
        "the target's secret cannot be read"
    );
    match error.kind {
        Kind::Refused => Sent::Trouble(Reason::new("target_misconfigured", "endpoint.auth")),
        Kind::Unavailable | Kind::Behind => {
            Sent::Later(Reason::new("secret_unavailable", "endpoint.auth"), None)
        }
    }
}

async fn attempt(
    deps: &Deps,
    deadline: Deadline,
    delivery: &Delivery<'_>,
    secret: Option<&Zeroizing<String>>,
) -> Attempt {
    let timeout = deps.target.target().endpoint.timeout;
    let no_time = || Sent::Later(Reason::new("no_time_left", ""), Some(Duration::ZERO)).into();
    let Some(patience) = deadline.left().checked_sub(timeout.saturating_add(MARGIN)) else {
        return no_time();
    };
    // Made before the wait for its place, so that what cannot be sent takes none.
    let mut request = match request(deps, delivery, timeout) {
        Ok(request) => request,
        Err(reason) => return Sent::Refused(reason).into(),
    };
    let Some(wait) = deps.pace.take(Instant::now(), patience) else { return no_time() };
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let now = (deps.now)();
    if authenticate(deps, delivery, secret, now, &mut request).is_none() {
        return Sent::Trouble(Reason::new("target_misconfigured", "endpoint.auth")).into();
    }
    match deps.http.send(request).await {
        Ok(response) => Attempt {
            may_be_there: !proves_refusal(response.status),
            sent: answered(deps, delivery, &response, now),
        },
        Err(error) => Attempt {
            may_be_there: matches!(error, sync_http::Error::Broken | sync_http::Error::Timeout),
            sent: unanswered(error),
        },
    }
}

/// What an answer means.
fn answered(deps: &Deps, delivery: &Delivery<'_>, response: &Response, now: i64) -> Sent {
    let place = format!("status {}", response.status);
    match classify(response.status, delivery.effect, &deps.target.target().endpoint.statuses) {
        Class::Accepted => Sent::Accepted,
        Class::Stale => Sent::Outrun,
        Class::Rejected => Sent::Refused(Reason::new("refused_by_target", place)),
        Class::Misconfigured => Sent::Trouble(Reason::new("target_misconfigured", place)),
        Class::Paused => Sent::Trouble(Reason::new("target_paused", place)),
        Class::Retry => {
            let asked = response.header("retry-after").and_then(|text| retry_after(text, now));
            Sent::Later(Reason::new("target_unavailable", place), asked)
        }
    }
}

/// What it means that there is no answer.
fn unanswered(error: sync_http::Error) -> Sent {
    match error {
        // The address was read at the start, so only what the record put into it can be wrong.
        sync_http::Error::Malformed => Sent::Refused(Reason::new("malformed_request", "data.key")),
        sync_http::Error::Refused(_) => Sent::Trouble(Reason::new("target_misconfigured", error.code())),
        sync_http::Error::Name
        | sync_http::Error::Connect
        | sync_http::Error::Broken
        | sync_http::Error::Timeout => Sent::Later(Reason::new("target_unreachable", error.code()), None),
    }
}

fn request(deps: &Deps, delivery: &Delivery<'_>, timeout: Duration) -> Result<Request, Reason> {
    let requests = deps.target.requests();
    let mapped = requests.request(delivery.event.envelope.operation, delivery.effect);
    let url = requests.address(mapped, delivery.event.key)?;
    let method = Method::from_bytes(mapped.method().as_str().as_bytes()).unwrap_or(Method::POST);
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, USER_AGENT);
    set(&mut headers, "traceparent", &delivery.event.envelope.traceparent);
    let body = body(delivery, mapped, &mut headers)
        .map_err(|error| Reason::new("unreadable_event", format!("byte {}", error.offset)))?;
    Ok(Request { method, url, headers, body: Bytes::from(body), timeout, max_body: MAX_ANSWER })
}

/// What the request carries. Without the event in it, its context goes along as headers (CloudEvents, binary mode), so
/// that a target always has the version to compare.
fn body(delivery: &Delivery<'_>, mapped: &Mapped, headers: &mut HeaderMap) -> scan::Result<String> {
    let event = delivery.event;
    let (body, content_type) = match (mapped.body(), event.after) {
        (Body::Event, _) => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"));
            return delivery.mapping.event(delivery.body);
        }
        (Body::Attributes, Some(record)) => {
            (delivery.mapping.record(record)?.into_owned(), "application/json")
        }
        // What is deleted has no attributes left but its key.
        (Body::Attributes, None) | (Body::Key, _) => (event.key.to_owned(), "application/json"),
        (Body::None, _) => (String::new(), ""),
    };
    if !content_type.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let envelope = &event.envelope;
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", event.id.as_str()),
        ("ce-source", &format!("/datasync/{}", envelope.source)),
        ("ce-type", &format!("{}.{}", envelope.model, envelope.operation.past())),
        ("ce-subject", envelope.rid.as_str()),
        ("ce-time", &envelope.occurred_at),
        ("ce-sequence", envelope.version.as_str()),
    ] {
        set(headers, name, value);
    }
    Ok(body)
}

/// Adds what proves where the request comes from; none if the secret is not of the right form.
fn authenticate(
    deps: &Deps,
    delivery: &Delivery<'_>,
    secret: Option<&Zeroizing<String>>,
    now: i64,
    request: &mut Request,
) -> Option<()> {
    let id = delivery.event.id.as_str();
    set(&mut request.headers, webhook::ID_HEADER, id);
    set(&mut request.headers, webhook::TIMESTAMP_HEADER, &now.to_string());
    match &deps.target.target().endpoint.auth {
        Auth::None => Some(()),
        Auth::StandardWebhooks(_) => {
            let secrets = webhook::Secrets::parse(secret?).ok()?;
            let signatures = secrets.sign(id, now, &request.body).ok()?;
            let value = HeaderValue::from_str(&signatures).ok()?;
            request.headers.insert(HeaderName::from_static(webhook::SIGNATURE_HEADER), value);
            Some(())
        }
        Auth::ApiKey { header, .. } => {
            let live = webhook::live(secret?).ok()?;
            let mut value = HeaderValue::from_str(live.first()?).ok()?;
            value.set_sensitive(true);
            request.headers.insert(HeaderName::from_bytes(header.as_bytes()).ok()?, value);
            Some(())
        }
    }
}

/// Sets a header unless its value cannot stand in one.
fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}
