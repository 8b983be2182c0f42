//! The targets: one that takes whatever comes last, and one that compares versions. Some answers come too late, some not at
//! all, some requests are applied when nobody waits for them any more; one mark in so many is refused for good.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use sync_chaos::{Brought, Dice};
use sync_tests::change::RecordName;
use sync_tests::http::{Call, Server, answer, cut};
use sync_tests::signature;

use crate::run::Run;
use crate::sources::REFUSED_EVERY;
use crate::works::{PATIENCE, TARGET_SECRET, TARGETS};

/// Longer than whoever sends waits.
const TOO_LONG: Duration = Duration::from_millis(2_600);

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Taken,
    /// Applied, and the connection ends instead of an answer.
    Cut,
    /// Applied, and the answer comes too late.
    Unanswered,
    /// Applied too late.
    Late,
    /// 503.
    Down,
    /// 429.
    Busy,
}

impl Fate {
    fn of(dice: &mut Dice) -> Self {
        match dice.below(1_000) {
            0..3 => Self::Unanswered,
            3..5 => Self::Late,
            5..15 => Self::Cut,
            15..25 => Self::Down,
            25..33 => Self::Busy,
            _ => Self::Taken,
        }
    }
}

struct State {
    run: Option<Arc<Run>>,
    dice: Dice,
    /// What the versioned target holds.
    versions: BTreeMap<RecordName, String>,
    unbelieved: usize,
}

pub(crate) struct End {
    name: &'static str,
    server: Server,
    state: Arc<Mutex<State>>,
}

impl End {
    /// Opens a target.
    pub(crate) async fn open(name: &'static str, dice: &mut Dice) -> Result<Self> {
        let versioned = TARGETS.iter().any(|(target, versioned, _)| *target == name && *versioned);
        let state = State { run: None, dice: dice.split(), versions: BTreeMap::new(), unbelieved: 0 };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let server = Server::start(Arc::new(move |call: Call| {
            let (shared, came) = (Arc::clone(&shared), Instant::now());
            Box::pin(async move {
                let fate = Fate::of(&mut lock(&shared).dice);
                // Of its own: the connection ends with the patience of whoever waits, and this with the connection.
                let applied = tokio::spawn(async move {
                    if fate == Fate::Late {
                        tokio::time::sleep(TOO_LONG).await;
                    }
                    take(&shared, name, versioned, &call, (fate, came))
                });
                let status = applied.await.unwrap_or(500);
                if fate == Fate::Unanswered {
                    tokio::time::sleep(TOO_LONG).await;
                }
                if fate == Fate::Cut {
                    return cut();
                }
                let mut said = answer(status, "application/json", "");
                if status == 429 {
                    said.headers_mut().insert("retry-after", http::HeaderValue::from_static("1"));
                }
                said
            })
        }))
        .await?;
        Ok(Self { name, server, state })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    /// From now on it writes down what it does.
    pub(crate) fn begin(&self, run: &Arc<Run>) {
        lock(&self.state).run = Some(Arc::clone(run));
    }

    /// Takes the target down, or brings it back.
    pub(crate) fn turn(&self, up: bool) {
        if up { self.server.open() } else { self.server.close() }
    }

    /// How many requests had no right signature.
    pub(crate) fn unbelieved(&self) -> usize {
        lock(&self.state).unbelieved
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The status for a request, and what comes of it.
fn take(
    state: &Mutex<State>,
    name: &str,
    versioned: bool,
    call: &Call,
    (fate, came): (Fate, Instant),
) -> u16 {
    let mut state = lock(state);
    let Some(run) = state.run.clone() else { return 503 };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or_default();
    if name == "plain" && signature::verify(TARGET_SECRET, call.headers(), call.body(), seconds).is_err() {
        state.unbelieved += 1;
        return 401;
    }
    match fate {
        Fate::Down => return 503,
        Fate::Busy => return 429,
        Fate::Taken | Fate::Cut | Fate::Unanswered | Fate::Late => {}
    }
    let body = String::from_utf8_lossy(call.body());
    let Ok(brought) = Brought::event(&body, 0) else { return 400 };
    if brought.mark.is_some_and(|mark| mark.is_multiple_of(REFUSED_EVERY)) {
        return 422;
    }
    if versioned {
        let held = state.versions.get(&brought.record);
        if held.is_some_and(|held| *held > brought.version) {
            return 409;
        }
        state.versions.insert(brought.record.clone(), brought.version.clone());
    }
    // Nobody waits for it any more: by our own clock, or surely by when it says that it was sent, to the second.
    let sent = call.headers().get("webhook-timestamp").and_then(|sent| sent.to_str().ok());
    let sent = sent.and_then(|sent| sent.parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
    let late = came.elapsed() > PATIENCE || now.saturating_sub(sent) > PATIENCE + Duration::from_secs(1);
    run.journal().apply(name, brought, late);
    204
}
