//! A runtime API as Lambda has it: hands one function one event after another and takes the answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::http::{Request, Response, Server};

/// Longer than any function may run: an invocation that takes longer is lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// No two requests have the same id, whichever function they go to: it is by the id that a lease knows its owner.
static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// One invocation, seen from outside.
#[derive(Debug)]
pub struct Invocation {
    /// What the function answered.
    pub answer: String,
    /// From handing out the event to the answer.
    pub took: Duration,
}

#[derive(Default)]
struct State {
    first_poll: Option<Instant>,
    event: Option<String>,
    handed_out: Option<Instant>,
    answer: Option<(Instant, Result<String, String>)>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is there; none when it does not come in time.
    fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&mut state) {
                return Some(found);
            }
            let left = until.checked_duration_since(Instant::now())?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn next(&self, timeout: Duration) -> Response {
        let polled = Instant::now();
        self.lock().first_poll.get_or_insert(polled);
        self.changed.notify_all();
        let event = self.wait(|state| match state.event.take() {
            None if state.closed => Some(None),
            None => None,
            Some(event) => {
                state.handed_out = Some(Instant::now());
                Some(Some(event))
            }
        });
        let Some(Some(event)) = event else { return Response::new(410, "text/plain", "closed") };
        let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + timeout;
        let mut response = Response::new(200, "application/json", event);
        response.headers.extend([
            ("lambda-runtime-aws-request-id", format!("00000000-0000-4000-8000-{number:012}")),
            ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
            (
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:eu-central-1:123456789012:function:bench".to_owned(),
            ),
            ("lambda-runtime-trace-id", "Root=1-6924bf4b-0af7651916cd43dd8448eb21;Sampled=0".to_owned()),
        ]);
        response
    }

    fn take(&self, answer: Result<String, String>) -> Response {
        self.lock().answer = Some((Instant::now(), answer));
        self.changed.notify_all();
        Response::new(202, "application/json", r#"{"status":"OK"}"#)
    }
}

/// The runtime API of one function.
pub struct RuntimeApi {
    shared: Arc<Shared>,
    server: Server,
}

impl RuntimeApi {
    /// Starts it; `timeout` is what the function may take per invocation.
    pub fn start(timeout: Duration) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let state = Arc::clone(&shared);
        let server = Server::start(move |request: &Request| {
            let body = || String::from_utf8_lossy(&request.body).into_owned();
            match request.path.rsplit('/').next() {
                Some("next") => state.next(timeout),
                Some("response") => state.take(Ok(body())),
                Some("error") => state.take(Err(body())),
                _ => Response::new(404, "text/plain", "no such operation"),
            }
        })?;
        Ok(Self { shared, server })
    }

    /// What `AWS_LAMBDA_RUNTIME_API` is set to.
    pub fn address(&self) -> String {
        self.server.address().to_string()
    }

    /// When the function asked for an event for the first time.
    pub fn first_poll(&self) -> Result<Instant> {
        let polled = self.shared.wait(|state| {
            let failed = state.answer.take().map(|(_, answer)| Err(answer));
            failed.or(state.first_poll.map(Ok))
        });
        match polled.context("the function does not poll")? {
            Ok(polled) => Ok(polled),
            Err(answer) => bail!("the function does not start: {answer:?}"),
        }
    }

    /// Hands out an event and waits for the answer; an invocation that fails is an error.
    pub fn invoke(&self, event: String) -> Result<Invocation> {
        self.hand_out(event);
        let answer = self.shared.wait(|state| state.answer.take());
        self.invocation(answer.context("the function does not answer")?)
    }

    /// Hands out an event and goes on.
    pub fn hand_out(&self, event: String) {
        self.shared.lock().event = Some(event);
        self.shared.changed.notify_all();
    }

    /// The answer to the event that was handed out, if it has come.
    pub fn answered(&self) -> Result<Option<Invocation>> {
        let answer = self.shared.lock().answer.take();
        answer.map(|answer| self.invocation(answer)).transpose()
    }

    fn invocation(&self, (answered, answer): (Instant, Result<String, String>)) -> Result<Invocation> {
        let handed_out = self.shared.lock().handed_out.take().context("the function answered to nothing")?;
        match answer {
            Ok(answer) => Ok(Invocation { answer, took: answered.saturating_duration_since(handed_out) }),
            Err(error) => bail!("the invocation failed: {error}"),
        }
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}
