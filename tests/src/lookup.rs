//! The service that `enrich` asks: a customer's segment by number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use serde_json::json;

use crate::http::{Server, answer};

/// A running lookup service.
#[derive(Debug)]
pub struct Lookup {
    server: Server,
    asked: Arc<AtomicUsize>,
    failing: Arc<AtomicBool>,
}

/// The number of a customer that the service does not know.
pub const UNKNOWN_CUSTOMER: u64 = 404_404;

/// The segment that the service gives a customer.
pub fn segment(customer_id: u64) -> String {
    format!("segment-{}", customer_id % 7)
}

impl Lookup {
    /// Starts the service on a free port.
    pub async fn start() -> Result<Self> {
        let asked = Arc::new(AtomicUsize::new(0));
        let failing = Arc::new(AtomicBool::new(false));
        let (count, fail) = (asked.clone(), failing.clone());
        let server = Server::start(Arc::new(move |call| {
            count.fetch_add(1, Ordering::Relaxed);
            let failing = fail.load(Ordering::Relaxed);
            Box::pin(async move {
                if failing {
                    return answer(503, "application/json", "{}");
                }
                let id = call.uri().path().rsplit('/').next().and_then(|id| id.parse::<u64>().ok());
                match id {
                    Some(UNKNOWN_CUSTOMER) => {
                        answer(404, "application/json", r#"{"error":"unknown customer"}"#)
                    }
                    Some(id) => {
                        let body =
                            json!({ "customer_id": id, "segment": segment(id), "note": "not asked for" });
                        answer(200, "application/json", body.to_string())
                    }
                    None => answer(400, "application/json", r#"{"error":"no customer number"}"#),
                }
            })
        }))
        .await?;
        Ok(Self { server, asked, failing })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Answers 503 from now on, or again as it should.
    pub fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }
}
