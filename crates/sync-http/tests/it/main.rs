//! The client against a real listener.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sync_http::{
    Answer, Bytes, Client, Connecting, Error, Guard, HeaderMap, Line, Lines, Method, Names, Refusal, Request,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that answers each request on a connection with what a script says, and counts both.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

/// What the server does with a request.
#[derive(Clone)]
enum Act {
    /// Writes this.
    Say(Vec<u8>),
    /// Writes this and closes.
    SayAndClose(Vec<u8>),
    /// Writes nothing and keeps the connection.
    Hang,
    /// Closes at once.
    Close,
    /// Writes one byte of this every 20 ms.
    Drip(Vec<u8>),
}

fn ok(body: &str) -> Act {
    Act::Say(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

impl Server {
    async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counted, seen) = (Arc::clone(&connections), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, act.clone(), Arc::clone(&seen)));
            }
        });
        Self { address, connections, requests }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/hook?x=1", self.address.port())
    }
}

async fn serve(mut stream: TcpStream, act: Act, seen: Arc<Mutex<Vec<String>>>) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        buffer.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&buffer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() < length.map_or(0, |length| length.parse().unwrap()) {
            continue;
        }
        seen.lock().unwrap().push(text);
        buffer.clear();
        match &act {
            Act::Say(bytes) => stream.write_all(bytes).await?,
            Act::SayAndClose(bytes) => return stream.write_all(bytes).await,
            Act::Hang => {}
            Act::Close => return Ok(()),
            Act::Drip(bytes) => {
                for byte in bytes {
                    stream.write_all(&[*byte]).await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

fn request(url: &str) -> Request {
    Request {
        method: Method::POST,
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"body"),
        timeout: Duration::from_secs(5),
        max_body: 1_000,
    }
}

fn laptop() -> Client {
    Client::new(Guard { allow_loopback: true, ..Guard::default() })
}

/// Names that resolve as a test says, one answer after another.
struct Script {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Script {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        Arc::new(Self { answers: answers.iter().map(parse).collect(), asked: AtomicUsize::new(0) })
    }
}

impl Names for Script {
    fn addresses(&self, _name: &str) -> Answer {
        let at = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        let answer = self.answers[at].clone();
        Box::pin(async move { Ok(answer) })
    }
}

#[tokio::test]
async fn a_request_arrives_as_it_was_sent_and_its_answer_comes_back() {
    let server = Server::start(ok("fine")).await;
    let mut outgoing = request(&server.url("127.0.0.1"));
    outgoing.headers.insert("webhook-id", "evt_1".parse().unwrap());
    let response = laptop().send(outgoing).await.unwrap();
    assert_eq!((response.status, response.body.as_deref()), (200, Some(b"fine".as_slice())));
    let seen = server.requests().remove(0);
    assert!(seen.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("webhook-id: evt_1\r\n") && seen.ends_with("\r\n\r\nbody"), "{seen}");
    assert!(!format!("{response:?}").contains("fine"), "an answer's body is never shown");
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let server = Server::start(ok("")).await;
    let client = laptop();
    for _ in 0..5 {
        assert_eq!(client.send(request(&server.url("127.0.0.1"))).await.unwrap().status, 200);
    }
    assert_eq!((server.connections(), server.requests().len()), (1, 5));
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    let server = Server::start(Act::SayAndClose(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())).await;
    let client = laptop();
    for _ in 0..3 {
        assert_eq!(client.send(request(&server.url("127.0.0.1"))).await.unwrap().status, 204);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((server.connections(), server.requests().len()), (3, 3));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Server::start(ok("")).await;
    let location = elsewhere.url("127.0.0.1");
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let server = Server::start(Act::Say(answer.into_bytes())).await;
    let response = laptop().send(request(&server.url("127.0.0.1"))).await.unwrap();
    assert_eq!(response.status, 302);
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn what_may_have_arrived_is_not_sent_again() {
    let server = Server::start(Act::Close).await;
    let client = laptop();
    assert_eq!(client.send(request(&server.url("127.0.0.1"))).await.unwrap_err(), Error::Broken);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn the_time_is_up_whatever_the_other_side_does() {
    let drip = format!("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{}", "x".repeat(500));
    let slow_head = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(500));
    for act in [Act::Hang, Act::Drip(drip.into_bytes()), Act::Drip(slow_head.into_bytes())] {
        let server = Server::start(act).await;
        let started = Instant::now();
        let outgoing = Request { timeout: Duration::from_millis(300), ..request(&server.url("127.0.0.1")) };
        assert_eq!(laptop().send(outgoing).await.unwrap_err(), Error::Timeout);
        assert!(started.elapsed() < Duration::from_secs(3));
    }
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_given_up_and_the_status_kept() {
    let server = Server::start(ok(&"x".repeat(1_001))).await;
    let response = laptop().send(request(&server.url("127.0.0.1"))).await.unwrap();
    assert_eq!((response.status, response.body), (200, None));
    let endless = Act::Say(
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}",
            "400\r\n".to_owned() + &"x".repeat(1_024) + "\r\n"
        )
        .into_bytes(),
    );
    let response = laptop().send(request(&Server::start(endless).await.url("127.0.0.1"))).await.unwrap();
    assert_eq!((response.status, response.body), (200, None));
}

#[tokio::test]
async fn nobody_there_is_told_apart_from_no_name() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let refused = laptop().send(request(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
    assert_eq!(refused, Error::Connect);
    let nameless = Client::with_names(Guard::default(), Script::new(&[&[]]));
    assert_eq!(nameless.send(request("https://target.example/")).await.unwrap_err(), Error::Name);
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_before_any_connection() {
    let server = Server::start(ok("")).await;
    let port = server.address.port();
    let guard = || Guard { ports: vec![port], ..Guard::default() };
    for inside in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254", "fd00::1"] {
        let client = Client::with_names(guard(), Script::new(&[&[inside]]));
        let error = client.send(request(&format!("https://target.example:{port}/"))).await.unwrap_err();
        assert_eq!(error, Error::Refused(Refusal::Network), "{inside}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn only_checked_addresses_of_a_name_are_connected_to() {
    let server = Server::start(ok("")).await;
    let url = server.url("localhost");
    // The first address would be taken if it were not dropped: nothing listens there, and it is no loopback.
    let mixed = Script::new(&[&["10.0.0.1", "127.0.0.1"]]);
    let client = Client::with_names(Guard { allow_loopback: true, ..Guard::default() }, mixed);
    assert_eq!(client.send(request(&url)).await.unwrap().status, 200);

    let away = Client::with_names(
        Guard { allow_loopback: true, ..Guard::default() },
        Script::new(&[&["93.184.216.34"]]),
    );
    assert_eq!(
        away.send(request(&url)).await.unwrap_err(),
        Error::Refused(Refusal::Network),
        "localhost is here"
    );
}

#[tokio::test]
async fn a_name_is_resolved_once_per_connection_and_checked_each_time() {
    let server =
        Server::start(Act::SayAndClose(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_vec()))
            .await;
    let rebinding = Script::new(&[&["127.0.0.1"], &["10.0.0.1"]]);
    let client = Client::with_names(
        Guard { allow_loopback: true, ..Guard::default() },
        Arc::clone(&rebinding) as Arc<dyn Names>,
    );
    assert_eq!(client.send(request(&server.url("localhost"))).await.unwrap().status, 204);
    assert_eq!(rebinding.asked.load(Ordering::SeqCst), 1);
    let second = client.send(request(&server.url("localhost"))).await.unwrap_err();
    assert_eq!(second, Error::Refused(Refusal::Network));
}

#[tokio::test]
async fn plain_text_is_not_spoken_where_tls_is_asked_for() {
    let server = Server::start(ok("")).await;
    let url = server.url("127.0.0.1").replacen("http:", "https:", 1);
    let outgoing = Request { timeout: Duration::from_millis(700), ..request(&url) };
    // The server waits for a request's end that never comes in a TLS greeting.
    assert!(matches!(laptop().send(outgoing).await.unwrap_err(), Error::Timeout | Error::Connect));
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn the_guard_stands_before_every_request() {
    let server = Server::start(ok("")).await;
    let client = Client::new(Guard::default());
    let error = client.send(request(&server.url("127.0.0.1"))).await.unwrap_err();
    assert_eq!(error, Error::Refused(Refusal::Scheme));
    assert_eq!(server.connections(), 0);
}

/// Lines to a server in memory that answers once, and where they were asked to lead.
#[derive(Default)]
struct Memory(Mutex<Vec<SocketAddr>>);

impl Lines for Memory {
    fn connect(&self, to: SocketAddr) -> Connecting {
        self.0.lock().unwrap().push(to);
        let (near, mut far) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            far.read_u8().await?;
            far.write_all(b"HTTP/1.1 204 X\r\n\r\n").await
        });
        Box::pin(async move {
            let near: Box<dyn Line> = Box::new(near);
            Ok(near)
        })
    }
}

#[tokio::test]
async fn lines_of_a_tests_own_lead_to_checked_addresses_too() {
    let inside = Script::new(&[&["10.1.2.3"], &["127.0.0.1"]]);
    let lines = Arc::new(Memory::default());
    let guard = Guard { allow_loopback: true, ..Guard::default() };
    let client = Client::with_lines(guard, inside, Arc::<Memory>::clone(&lines));
    let refused = client.send(request("http://localhost:8080/")).await.unwrap_err();
    assert_eq!(refused, Error::Refused(Refusal::Network));
    assert!(lines.0.lock().unwrap().is_empty());
    assert_eq!(client.send(request("http://localhost:8080/")).await.unwrap().status, 204);
    assert_eq!(*lines.0.lock().unwrap(), [SocketAddr::from(([127, 0, 0, 1], 8080))]);
}
