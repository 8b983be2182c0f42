//! Sends requests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use url::Url;

use crate::connector::Connector;
use crate::error::Error;
use crate::guard::Guard;
use crate::line::{Dial, Lines};
use crate::resolver::{Names, Resolver, SystemNames};

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(20);

/// A request to the outside.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The address.
    pub url: Url,
    /// The headers; `host` and `content-length` are set by the client.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// For all of it: name, connection, request, answer and its body.
    pub timeout: Duration,
    /// How many bytes of the answer's body are taken.
    pub max_body: usize,
}

impl fmt::Debug for Request {
    /// Shows nothing that could hold a value or a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// An answer. Whatever its status: only the caller knows what it means.
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; none if it is longer than the request allows.
    pub body: Option<Bytes>,
}

impl fmt::Debug for Response {
    /// Shows nothing that the other side wrote: it may echo what it was sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Response {
    /// A header as text; none for one that is not ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Sends requests to addresses that its guard lets through, and keeps connections for the next one.
#[derive(Clone)]
pub struct Client {
    guard: Arc<Guard>,
    pool: Pool<Connector, Full<Bytes>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with its guard. Nothing is read or connected before the first request.
    pub fn new(guard: Guard) -> Self {
        Self::with_names(guard, Arc::new(SystemNames))
    }

    /// The same with names of its own, for tests.
    pub fn with_names(guard: Guard, names: Arc<dyn Names>) -> Self {
        Self::build(guard, names, None)
    }

    /// The same with lines of its own, too.
    pub fn with_lines(guard: Guard, names: Arc<dyn Names>, lines: Arc<dyn Lines>) -> Self {
        Self::build(guard, names, Some(lines))
    }

    fn build(guard: Guard, names: Arc<dyn Names>, lines: Option<Arc<dyn Lines>>) -> Self {
        let guard = Arc::new(guard);
        let connector = Connector::new(Dial::new(Resolver::new(names, Arc::clone(&guard)), lines));
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { guard, pool }
    }

    /// Sends a request. It is sent once: a connection that turns out to be closed before anything was written
    /// is replaced, but what may have reached the other side is never repeated.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        self.guard.check(&request.url)?;
        let timeout = request.timeout;
        tokio::time::timeout(timeout, self.exchange(request)).await.unwrap_or(Err(Error::Timeout))
    }

    async fn exchange(&self, request: Request) -> Result<Response, Error> {
        let uri: Uri = request.url.as_str().parse().map_err(|_| Error::Malformed)?;
        let mut outgoing = http::Request::new(Full::new(request.body));
        *outgoing.method_mut() = request.method;
        *outgoing.uri_mut() = uri;
        *outgoing.headers_mut() = request.headers;
        let incoming = self.pool.request(outgoing).await.map_err(|error| Error::of_client(&error))?;
        let (head, body) = incoming.into_parts();
        let body = read(body, request.max_body).await?;
        Ok(Response { status: head.status.as_u16(), headers: head.headers, body })
    }
}

/// Reads a body up to a bound; none if it is longer, and then its connection is given up.
async fn read(body: Incoming, max: usize) -> Result<Option<Bytes>, Error> {
    match Limited::new(body, max).collect().await {
        Ok(whole) => Ok(Some(whole.to_bytes())),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Ok(None),
        Err(_) => Err(Error::Broken),
    }
}
