//! A server on this machine that answers each request by a rule of the test.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::endpoint::{Got, receive};

/// What is answered.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Header lines, each with its line end.
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self { status, headers: String::new(), body: String::new() }
    }
}

type Rule = Arc<dyn Fn(&Got) -> Option<Reply> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Judge {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Judge {
    /// Answers by the rule; nothing at all where it says none, until the other side gives up.
    pub(crate) async fn start(rule: impl Fn(&Got) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let judge = Self { address: listener.local_addr().unwrap(), got: Arc::default() };
        let (rule, got): (Rule, _) = (Arc::new(rule), Arc::clone(&judge.got));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&rule), Arc::clone(&got)));
            }
        });
        judge
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

async fn serve(mut stream: TcpStream, rule: Rule, all: Arc<Mutex<Vec<Got>>>) -> io::Result<()> {
    while let Some(got) = receive(&mut stream).await? {
        all.lock().unwrap().push(got.clone());
        let Some(Reply { status, headers, body }) = rule(&got) else {
            // Ends when the other side does.
            receive(&mut stream).await?;
            return Ok(());
        };
        let length =
            if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        stream.write_all(format!("HTTP/1.1 {status} X\r\n{length}{headers}\r\n{body}").as_bytes()).await?;
    }
    Ok(())
}
