//! What stands between one function and AWS.
//!
//! The requests to queues go to a stand-in that keeps what it is sent, all others to the emulator. Its own queue takes 450
//! batches a second when it is new, and 40 behind 10,000 messages, even if they were taken out.
//!
//! A write can be held: before it arrives, or before its answer does. What happens to the function meanwhile is the test's.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use sync_tests::http::{self, Call, PlainClient, Server};
use tokio::sync::watch;

/// The requests that a run's order hangs on: a lease, a hand-off, a save.
const WRITES: [&str; 2] = ["UpdateItem", "SendMessageBatch"];

/// What is held of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// The request: it has no effect yet.
    Request,
    /// The answer: whoever asked does not know of the effect.
    Answer,
}

/// A way to AWS; it ends when this is dropped.
pub struct Front {
    server: Server,
    gate: Arc<Gate>,
}

struct Gate {
    /// How many writes pass before the one that is held, and what of it.
    armed: Mutex<Option<(u64, Hold)>>,
    held: watch::Sender<bool>,
}

impl Front {
    /// Opens a way to the emulator and a queue beside it.
    pub(crate) async fn open(emulator: &str, queue: &str) -> Result<Self> {
        let (emulator, queue) = (emulator.to_owned(), queue.to_owned());
        let client = http::client();
        let gate = Arc::new(Gate { armed: Mutex::new(None), held: watch::Sender::new(false) });
        let shared = Arc::clone(&gate);
        let server = Server::start(Arc::new(move |call: Call| {
            let target = call.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
            let (service, action) = target.and_then(|target| target.split_once('.')).unwrap_or_default();
            let to = if service == "AmazonSQS" { queue.clone() } else { emulator.clone() };
            let hold = if WRITES.contains(&action) { shared.next() } else { None };
            let (client, gate): (PlainClient, _) = (client.clone(), Arc::clone(&shared));
            Box::pin(async move {
                if hold == Some(Hold::Request) {
                    gate.wait().await;
                }
                let answer = http::pass_on(&client, call, &to).await;
                if hold == Some(Hold::Answer) {
                    gate.wait().await;
                }
                answer
            })
        }))
        .await?;
        Ok(Self { server, gate })
    }

    /// What `AWS_ENDPOINT_URL` is set to.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    /// Holds the write behind the next `pass` ones.
    pub fn hold(&self, pass: u64, what: Hold) {
        *self.gate.lock() = Some((pass, what));
    }

    /// Whether one is held at this moment.
    pub fn holds(&self) -> bool {
        *self.gate.held.borrow()
    }

    /// Lets go what is held, and holds nothing more.
    pub fn let_go(&self) {
        *self.gate.lock() = None;
        self.gate.held.send_replace(false);
    }
}

impl Gate {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(u64, Hold)>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a write; says whether it is the one.
    fn next(&self) -> Option<Hold> {
        let mut armed = self.lock();
        match *armed {
            Some((0, what)) => {
                *armed = None;
                Some(what)
            }
            Some((left, what)) => {
                *armed = Some((left - 1, what));
                None
            }
            None => None,
        }
    }

    async fn wait(&self) {
        self.held.send_replace(true);
        // The sender is in here: it does not go away.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }
}
