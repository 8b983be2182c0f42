//! A target's endpoint on this machine: a real listener that answers as a test says and keeps what it got.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// An answer: a status (0: the connection is closed instead), perhaps a header line and a body.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) header: String,
    pub(crate) body: String,
}

impl From<u16> for Answer {
    fn from(status: u16) -> Self {
        Self { status, header: String::new(), body: String::new() }
    }
}

type Hook = Arc<dyn Fn(&Got) + Send + Sync>;
type Reply = Arc<dyn Fn(&Got) -> Answer + Send + Sync>;

#[derive(Default)]
struct State {
    got: Vec<Got>,
    answers: VecDeque<Answer>,
    always: Option<Reply>,
    hook: Option<Hook>,
    meet: usize,
}

#[derive(Clone)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Endpoint {
    /// Answers 204 to everything until it is told otherwise.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The next answers, one request each.
    pub(crate) fn then(&self, answers: &[u16]) {
        self.state.lock().unwrap().answers.extend(answers.iter().map(|status| Answer::from(*status)));
    }

    pub(crate) fn then_with(&self, status: u16, header: &str) {
        let answer = Answer { header: header.to_owned(), ..status.into() };
        self.state.lock().unwrap().answers.push_back(answer);
    }

    /// The answer to everything that has none of its own.
    pub(crate) fn always(&self, status: u16) {
        self.reply(move |_| status.into());
    }

    /// The same, made of the request.
    pub(crate) fn reply(&self, reply: impl Fn(&Got) -> Answer + Send + Sync + 'static) {
        self.state.lock().unwrap().always = Some(Arc::new(reply));
    }

    /// Looks at each request before it is answered.
    pub(crate) fn on_request(&self, hook: impl Fn(&Got) + Send + Sync + 'static) {
        self.state.lock().unwrap().hook = Some(Arc::new(hook));
    }

    /// Answers nothing before so many requests have arrived.
    pub(crate) fn wait_for(&self, requests: usize) {
        self.state.lock().unwrap().meet = requests;
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.state.lock().unwrap().got.clone()
    }

    /// The ids of the events that arrived, in order.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.got().iter().map(|got| got.header("webhook-id").to_owned()).collect()
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) -> io::Result<()> {
    while let Some(got) = receive(&mut stream).await? {
        let (answer, hook, meet) = {
            let mut state = state.lock().unwrap();
            state.got.push(got.clone());
            let answer = state.answers.pop_front().or_else(|| state.always.as_ref().map(|reply| reply(&got)));
            (answer.unwrap_or_else(|| 204.into()), state.hook.clone(), state.meet)
        };
        if let Some(hook) = hook {
            hook(&got);
        }
        while state.lock().unwrap().got.len() < meet {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let Answer { status, header, body } = answer;
        let length = match status {
            0 => return Ok(()),
            204 => String::new(),
            _ => format!("content-length: {}\r\n", body.len()),
        };
        stream.write_all(format!("HTTP/1.1 {status} X\r\n{length}{header}\r\n{body}").as_bytes()).await?;
    }
    Ok(())
}

/// The next request; none if the other side has closed. It sends one only behind the answer to the one before.
pub(crate) async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Got>> {
    let mut buffer = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(None);
        }
        buffer.extend_from_slice(&chunk[..read]);
        if let Some(got) = parse(&String::from_utf8_lossy(&buffer)) {
            return Ok(Some(got));
        }
    }
}

/// The request, once all of it is there.
fn parse(text: &str) -> Option<Got> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let line = lines.next()?.to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let got = Got { line, headers, body: body.to_owned() };
    let length: usize = got.header("content-length").parse().unwrap_or(0);
    (got.body.len() >= length).then_some(got)
}
