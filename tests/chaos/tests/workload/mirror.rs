//! A target on this machine that has a row for each record: it takes what comes in the order of arrival and compares no
//! versions, so that the ledger in front of it is what is tested.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sync_tests::http::{Server, answer};

/// What it has: the mark of every row that is there.
type Rows = BTreeMap<i64, i64>;

/// A running target.
pub(crate) struct Mirror {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    rows: Rows,
    /// The version that came last, by record.
    versions: BTreeMap<i64, String>,
    taken: usize,
    stepped_back: usize,
}

impl Mirror {
    /// Starts it on a free port, without any row.
    pub(crate) async fn start() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = state.clone();
        let server = Server::start(Arc::new(move |call| {
            shared.lock().unwrap().take(&serde_json::from_slice(call.body()).unwrap());
            Box::pin(async { answer(204, "application/json", "") })
        }));
        Self { server: server.await.unwrap(), state }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/items", self.server.port())
    }

    /// The rows that it has.
    pub(crate) fn rows(&self) -> Rows {
        self.state.lock().unwrap().rows.clone()
    }

    /// How many events it took, and how many of them were older than what it had.
    pub(crate) fn taken(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.taken, state.stepped_back)
    }
}

impl State {
    fn take(&mut self, event: &Value) {
        let data = &event["data"];
        let id = data["key"]["id"].as_i64().unwrap();
        let version = event["sequence"].as_str().unwrap().to_owned();
        match data["after"]["mark"].as_i64() {
            Some(mark) => self.rows.insert(id, mark),
            None => self.rows.remove(&id),
        };
        self.taken += 1;
        let before = self.versions.insert(id, version.clone());
        self.stepped_back += usize::from(before.is_some_and(|before| before > version));
    }
}
