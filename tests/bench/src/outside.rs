//! The world outside: a target that takes everything, and the service that `enrich` asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::http::{Request, Response, Server};

/// A running outside.
#[derive(Debug)]
pub struct Outside {
    server: Server,
    delivered: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
}

impl Outside {
    /// Starts it on a free port; the target takes `delay` for each record.
    pub fn start(delay: Duration) -> Result<Self> {
        let (delivered, asked) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (deliveries, questions) = (Arc::clone(&delivered), Arc::clone(&asked));
        let server = Server::start(move |request: &Request| {
            if request.method == "GET" {
                questions.fetch_add(1, Ordering::Relaxed);
                Response::new(200, "application/json", r#"{"segment":"champions"}"#)
            } else {
                deliveries.fetch_add(1, Ordering::Relaxed);
                wait(delay);
                Response::new(200, "application/json", "{}")
            }
        })?;
        Ok(Self { server, delivered, asked })
    }

    /// Address and port.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// How many records the target got.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// How many questions the service got.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

fn wait(delay: Duration) {
    let until = Instant::now() + delay;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
