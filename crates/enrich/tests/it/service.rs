//! A real HTTP service on this machine that answers as a test says and remembers what it was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the service answers.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    body: String,
    headers: String,
    delay: Duration,
}

/// An answer with a status and a body.
pub(crate) fn answer(status: u16, body: &str) -> Answer {
    Answer { status, body: body.to_owned(), headers: String::new(), delay: Duration::ZERO }
}

impl Answer {
    /// The same after a while.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same with a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }
}

/// A request as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Path and query.
    pub(crate) path: String,
    /// The headers, names in lower case.
    pub(crate) headers: HashMap<String, String>,
}

type Answers = Box<dyn Fn(&Request, usize) -> Answer + Send + Sync>;

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    open: usize,
    most_open: usize,
}

/// The service.
#[derive(Clone)]
pub(crate) struct Service {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Service {
    /// Starts it. `answers` gets the request and how many requests of the same path came before.
    pub(crate) async fn start(answers: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service = Self { port, state: Arc::default() };
        let (state, answers): (_, Arc<Answers>) = (Arc::clone(&service.state), Arc::new(Box::new(answers)));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&state), Arc::clone(&answers)));
            }
        });
        service
    }

    /// Its address, with this path behind.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it was asked, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// The paths that it was asked for, in order.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.path).collect()
    }

    /// How many requests were open at the same time at most.
    pub(crate) fn most_open(&self) -> usize {
        self.state.lock().unwrap().most_open
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>, answers: Arc<Answers>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let request = parse(std::str::from_utf8(&head).unwrap());
    let answer = {
        let mut state = state.lock().unwrap();
        let before = state.requests.iter().filter(|known| known.path == request.path).count();
        let answer = answers(&request, before);
        state.requests.push(request);
        state.open += 1;
        state.most_open = state.most_open.max(state.open);
        answer
    };
    tokio::time::sleep(answer.delay).await;
    state.lock().unwrap().open -= 1;
    let (status, length) = (answer.status, answer.body.len());
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{}\r\n",
        answer.headers
    );
    // The other side may have gone: that is what some tests are about.
    let _ = stream.write_all(format!("{head}{}", answer.body).as_bytes()).await;
}

fn parse(head: &str) -> Request {
    let mut lines = head.lines();
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let header =
        |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Request { path, headers: lines.filter_map(header).collect() }
}
