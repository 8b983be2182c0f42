//! Keeps a target's requests to its limits, together with all other running instances.
//!
//! **Invariant.** Nothing is sent without a slot, and a slot comes out of a write that was confirmed
//! ([`Meters::claim`]). If the row cannot be reached, nothing is sent: what one instance could take for its share, others
//! may be using.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sync_domain::delivery::backoff::LONGEST_ASKED;
use sync_domain::delivery::limit::{Claimed, Full, LATE_US, Lease, Limit, Meter, QUOTA_SPENT, Slot, Step};
use sync_domain::id::TargetId;
use sync_domain::outcome::Reason;
use sync_domain::ports::Meters;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

/// Microseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How often a claim is made anew because the row was another one than it was taken for.
const TRIES: u32 = 8;
/// For how long a row that was seen is good enough to say that there is nothing to claim (microseconds). It only grows, but
/// for somebody who deletes it.
const SEEN_US: i64 = 5_000_000;

/// Gives each request its turn.
#[derive(Debug)]
pub struct Pace {
    /// None = no rate and no quota.
    slots: Option<Slots>,
    /// Requests that may be in flight; none = as many as come.
    places: Option<Semaphore>,
}

/// The target's slots, as this instance comes by them.
struct Slots {
    limit: Limit,
    target: TargetId,
    meters: Arc<dyn Meters>,
    clock: Clock,
    /// How many requests wait for a slot: so many are claimed in one call.
    waiting: AtomicU32,
    held: Mutex<Held>,
}

/// What an instance has and knows.
#[derive(Debug, Default)]
struct Held {
    lease: Lease,
    /// The row as it was last seen, and when.
    seen: Meter,
    seen_at: i64,
    /// Others were ahead when it was last looked at, so they will be again: the first guess at the row as it is now.
    busy: bool,
    /// How far ahead the next slots have to be, since the last ones were over when they came (microseconds).
    lead: i64,
}

/// Whether a request goes out.
pub enum Turn<'a> {
    /// At once. It is in flight for as long as this is kept.
    Now(Option<SemaphorePermit<'a>>),
    /// Not now, but perhaps behind this time.
    Later(Reason, Duration),
    /// Not today.
    Spent(Reason),
}

impl Pace {
    /// A target's limits, kept by its row in `meters`. `in_flight` is how many requests this instance may have in flight
    /// at once; none = no bound.
    pub fn new(
        limit: Limit,
        in_flight: Option<usize>,
        target: TargetId,
        meters: Arc<dyn Meters>,
        clock: Clock,
    ) -> Self {
        let (waiting, held) = (AtomicU32::new(0), Mutex::default());
        let slots = Slots { limit, target, meters, clock, waiting, held };
        Self { slots: Some(slots).filter(|_| !limit.is_none()), places: in_flight.map(Semaphore::new) }
    }

    /// That of a target without limits.
    pub fn unlimited() -> Self {
        Self { slots: None, places: None }
    }

    /// Waits for a turn, for as long as `patience` allows.
    pub async fn turn(&self, patience: Duration) -> Turn<'_> {
        let latest = self.slots.as_ref().map(|slots| slots.now().saturating_add(micros(patience)));
        let permit = match &self.places {
            None => None,
            Some(places) => match tokio::time::timeout(patience, places.acquire()).await {
                Ok(Ok(permit)) => Some(permit),
                // Nobody closes it: what is left is that it took too long.
                Ok(Err(_)) | Err(_) => return Turn::Later(limited("endpoint.concurrency"), Duration::ZERO),
            },
        };
        match (&self.slots, latest) {
            (Some(slots), Some(latest)) => match slots.turn(latest).await {
                Ok(()) => Turn::Now(permit),
                Err(none) => none.into(),
            },
            _ => Turn::Now(permit),
        }
    }
}

/// Why there is no slot.
enum NoSlot {
    /// None in time; perhaps there is one behind this time.
    InTime(Duration),
    /// The quota of the day is used up.
    Today,
    /// The row cannot be reached.
    Unknown,
}

impl From<NoSlot> for Turn<'_> {
    fn from(none: NoSlot) -> Self {
        match none {
            NoSlot::InTime(wait) => Self::Later(limited("endpoint.rate"), wait),
            NoSlot::Today => Self::Spent(Reason::new(QUOTA_SPENT, "endpoint.quota")),
            NoSlot::Unknown => Self::Later(Reason::new("ledger_unavailable", ""), Duration::ZERO),
        }
    }
}

fn limited(place: &str) -> Reason {
    Reason::new("rate_limited", place)
}

impl Slots {
    fn now(&self) -> i64 {
        (self.clock)()
    }

    /// Waits for a slot's time, which is not after `latest`.
    async fn turn(&self, latest: i64) -> Result<(), NoSlot> {
        loop {
            let slot = self.next(latest).await?;
            let is_there = self.is_reached(slot).await;
            if self.now() > latest.saturating_add(LATE_US) {
                return Err(NoSlot::InTime(Duration::ZERO));
            }
            if is_there {
                return Ok(());
            }
            // Something else took the time: the slot is over, and used by nobody.
        }
    }

    /// Waits until a slot's time has come; false if it is over.
    async fn is_reached(&self, slot: Slot) -> bool {
        loop {
            let now = self.now();
            if now >= slot.at {
                return now <= slot.until;
            }
            tokio::time::sleep(micros_from(now, slot.at)).await;
        }
    }

    async fn next(&self, latest: i64) -> Result<Slot, NoSlot> {
        let _waits = Waits::new(&self.waiting);
        let mut held = self.held.lock().await;
        let mut slot = held.lease.take(self.now());
        if slot.is_none() {
            // The other records of the batch come to the door meanwhile, and are claimed for in the same call.
            tokio::task::yield_now().await;
            slot = self.claim(&mut held, latest).await?;
        }
        // One that was claimed for somebody who could wait longer is of no use here.
        slot.filter(|slot| slot.at <= latest).ok_or(NoSlot::InTime(Duration::ZERO))
    }

    async fn claim(&self, held: &mut Held, latest: i64) -> Result<Option<Slot>, NoSlot> {
        for _ in 0..TRIES {
            let now = self.now();
            let (want, earliest) = (self.waiting.load(Ordering::Relaxed), now.saturating_add(held.lead));
            let mut seen = held.seen;
            if held.busy {
                seen.next = seen.next.max(earliest);
            }
            let claim = match self.limit.claim(&seen, want, now, earliest, latest) {
                Ok(claim) => claim,
                Err(_) if now.saturating_sub(held.seen_at) > SEEN_US => {
                    // As if there were none: the answer says what there is.
                    (held.seen, held.seen_at) = (Meter::default(), now);
                    continue;
                }
                Err(Full::Until(slot)) => {
                    return Err(NoSlot::InTime(micros_from(now, slot).min(LONGEST_ASKED)));
                }
                Err(Full::Spent(_)) => return Err(NoSlot::Today),
            };
            let claimed = self.meters.claim(&self.target, &claim).await.map_err(|error| {
                tracing::warn!(
                    error.operation = error.operation,
                    error.code = error.code,
                    "the target's slots cannot be claimed"
                );
                NoSlot::Unknown
            })?;
            let answered = self.now();
            let took = answered.saturating_sub(now);
            if took <= LATE_US / 2 {
                held.lead = 0;
            }
            held.seen_at = answered;
            match claimed {
                Claimed::Refused(row) => {
                    held.seen = row;
                    held.busy = row.next >= answered;
                }
                Claimed::Done(row) => {
                    held.seen = row;
                    held.busy = matches!(claim.next, Some(Step::Add { .. }));
                    held.lease = claim.lease(&row);
                    let slot = held.lease.take(answered);
                    if slot.is_some() {
                        return Ok(slot);
                    }
                    // All were over when they came. Further ahead they are not, but leave what is before them unused: only
                    // as long as answers are late.
                    held.lead = took.saturating_add(LATE_US / 2);
                }
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("limit", &self.limit).field("held", &self.held).finish_non_exhaustive()
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// The time from one moment to a later one.
fn micros_from(moment: i64, later: i64) -> Duration {
    Duration::from_micros(u64::try_from(later.saturating_sub(moment)).unwrap_or(0))
}

/// Somebody waits for a slot for as long as this lives.
struct Waits<'a>(&'a AtomicU32);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicU32) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
