//! Just enough HTTP for the laptop: one client without TLS, one server that can be taken down and brought back.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A client for plain HTTP.
pub type PlainClient = Client<HttpConnector, Full<Bytes>>;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).context("the answer is not JSON")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A new client.
pub fn client() -> PlainClient {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Sends a request and reads the whole answer, at most for a minute.
pub async fn send(client: &PlainClient, request: Request<Full<Bytes>>) -> Result<Answer> {
    let exchange = async {
        let response = client.request(request).await.context("no answer")?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("the answer broke off")?.to_bytes();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    };
    tokio::time::timeout(Duration::from_secs(60), exchange).await.context("no answer within a minute")?
}

/// A request as the server hands it over, body included.
pub type Call = Request<Bytes>;

/// What answers a request.
pub type Handler =
    Arc<dyn Fn(Call) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>> + Send + Sync>;

/// A server on a free loopback port. Its port stays its own while it is closed, so that it can come back there.
#[derive(Debug)]
pub struct Server {
    port: u16,
    open: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Opens a port and answers with `handler`.
    pub async fn start(handler: Handler) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let port = listener.local_addr()?.port();
        let (open, opened) = watch::channel(true);
        let task = tokio::spawn(serve(listener, opened, handler));
        Ok(Self { port, open, task })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes the port and every connection: nobody is there.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Opens the same port again.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(first: TcpListener, mut opened: watch::Receiver<bool>, handler: Handler) {
    let Ok(address) = first.local_addr() else { return };
    let mut listener = Some(first);
    loop {
        let Some(current) = listener.take() else {
            if opened.wait_for(|open| *open).await.is_err() {
                return;
            }
            match listen_again(address) {
                Ok(again) => listener = Some(again),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            continue;
        };
        // The connections end with the set when the port closes.
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = current.accept() => {
                    if let Ok((stream, _)) = accepted {
                        connections.spawn(connection(TokioIo::new(stream), handler.clone()));
                    }
                }
                Some(_) = connections.join_next() => {}
                closed = opened.wait_for(|open| !*open) => {
                    if closed.is_err() { return }
                    break;
                }
            }
        }
    }
}

fn listen_again(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

async fn connection(stream: TokioIo<tokio::net::TcpStream>, handler: Handler) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let handler = handler.clone();
        async move {
            let (head, body) = request.into_parts();
            let response = match body.collect().await {
                Ok(body) => handler(Request::from_parts(head, body.to_bytes())).await,
                Err(_) => answer(400, "text/plain", "the request broke off"),
            };
            // An error ends the connection.
            if response.extensions().get::<Cut>().is_some() { Err(Cut) } else { Ok(response) }
        }
    });
    // A client that goes away in the middle is its own affair.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
}

/// Passes a call on to another address as it came, and the answer back.
pub async fn pass_on(client: &PlainClient, call: Call, to: &str) -> Response<Full<Bytes>> {
    let (mut head, body) = call.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = format!("{to}{path}").parse() else { return answer(400, "text/plain", "no such path") };
    head.uri = uri;
    match send(client, Request::from_parts(head, Full::new(body))).await {
        Ok(Answer { status, mut headers, body }) => {
            // The body has a length now, and the connection is another.
            headers.remove(http::header::TRANSFER_ENCODING);
            headers.remove(http::header::CONNECTION);
            let mut response = answer(status, "", "");
            *response.headers_mut() = headers;
            *response.body_mut() = Full::new(body);
            response
        }
        Err(error) => answer(502, "text/plain", format!("{error:#}")),
    }
}

/// No answer: the connection ends where one would begin.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the connection is cut")]
struct Cut;

/// What a handler gives to end the connection without an answer.
pub fn cut() -> Response<Full<Bytes>> {
    let mut response = Response::default();
    response.extensions_mut().insert(Cut);
    response
}

/// An answer to give.
pub fn answer(status: u16, content_type: &str, body: impl Into<String>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.into())));
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    }
    response
}
