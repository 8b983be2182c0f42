//! Steps of a run at which a test lets it die or sleep, and the ports that pass through them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sync_domain::ports::{Checkpoint, Checkpoints, Lease, Queue, QueueEntry, Result, Taken};
use sync_testkit::{MemoryCheckpoints, MemoryQueue};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What happens at steps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Steps(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    armed: Mutex<Option<(&'static str, usize)>>,
    died: Notify,
    jitter: Mutex<Option<Random>>,
}

/// Numbers that look random and are the same for one seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

impl Steps {
    /// Lets the nth pass of a step (from 1) be the last thing that happens.
    pub(crate) fn arm(&self, step: &'static str, pass: usize) {
        *self.0.armed.lock().unwrap() = Some((step, pass));
    }

    /// Lets every step take some time, now and then more than a lease lasts.
    pub(crate) fn shake(&self, seed: u64) {
        *self.0.jitter.lock().unwrap() = Some(Random::new(seed));
    }

    /// Passes a step: goes on, sleeps, or never comes back.
    pub(crate) async fn pass(&self, step: &'static str) {
        let pause = self.0.jitter.lock().unwrap().as_mut().map(|random| match random.below(8) {
            0 => Duration::from_secs(random.below(45)),
            _ => Duration::from_millis(random.below(400)),
        });
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
        let dies = match &mut *self.0.armed.lock().unwrap() {
            Some((armed, left)) if *armed == step => {
                *left -= 1;
                *left == 0
            }
            _ => false,
        };
        if dies {
            self.0.died.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// Runs until the end, or until the armed step: then nothing of the run happens any more, as after `kill -9`. None if
    /// it was killed.
    pub(crate) async fn kill<T>(&self, run: impl Future<Output = T>) -> Option<T> {
        let ended = tokio::select! {
            biased;
            ended = run => Some(ended),
            () = self.0.died.notified() => None,
        };
        *self.0.armed.lock().unwrap() = None;
        ended
    }
}

/// A queue between two steps.
pub(crate) struct SteppedQueue {
    pub(crate) queue: MemoryQueue,
    pub(crate) steps: Steps,
    /// Messages that were sent, those among them that the queue dropped as repeats.
    pub(crate) sent: Arc<Mutex<usize>>,
}

#[async_trait]
impl Queue for SteppedQueue {
    async fn send(&self, entries: Vec<QueueEntry>) -> Vec<Result<()>> {
        self.steps.pass("before send").await;
        *self.sent.lock().unwrap() += entries.len();
        let results = self.queue.send(entries).await;
        self.steps.pass("after send").await;
        results
    }

    fn url(&self) -> &str {
        self.queue.url()
    }
}

/// How a save goes wrong in a design that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Design {
    /// Token and revision in the condition.
    Ours,
    /// Whoever saves last is right.
    Unconditional,
    /// Whoever saves while somebody holds the lease is right.
    LeaseWithoutToken,
}

/// Checkpoints between steps, whose clock goes with the test's.
pub(crate) struct SteppedCheckpoints {
    pub(crate) checkpoints: MemoryCheckpoints,
    pub(crate) steps: Steps,
    pub(crate) design: Design,
    /// Cursors that were written past the condition, among those that were not.
    pub(crate) written: Arc<Mutex<Vec<String>>>,
    pub(crate) clock: Mutex<Option<Instant>>,
    /// The lease of whoever took it last: a wrong design writes as if it had that one.
    pub(crate) last: Mutex<Option<Lease>>,
}

impl SteppedCheckpoints {
    /// Moves the twin's clock to the test's.
    fn tick(&self) {
        let now = Instant::now();
        let mut clock = self.clock.lock().unwrap();
        let before = clock.replace(now).unwrap_or(now);
        self.checkpoints.advance(now - before);
    }

    /// Writes past the condition: as whoever holds the lease now.
    async fn force(&self, lease: &mut Lease, cursor: &str, lasts: Duration) -> Result<bool> {
        let mut holder = self.last.lock().unwrap().clone().unwrap_or_else(|| lease.clone());
        let standing = self.checkpoints.read(&lease.row).await?.unwrap_or_default();
        holder.revision = standing.revision;
        let saved = self.checkpoints.save(&mut holder, cursor, lasts).await?;
        lease.revision = holder.revision;
        Ok(saved)
    }
}

#[async_trait]
impl Checkpoints for SteppedCheckpoints {
    async fn read(&self, row: &str) -> Result<Option<Checkpoint>> {
        self.tick();
        self.checkpoints.read(row).await
    }

    async fn take(&self, row: &str, owner: &str, lasts: Duration) -> Result<Taken> {
        self.steps.pass("before take").await;
        self.tick();
        let taken = self.checkpoints.take(row, owner, lasts).await?;
        if let Taken::Held(lease, _) = &taken {
            *self.last.lock().unwrap() = Some(lease.clone());
        }
        self.steps.pass("after take").await;
        Ok(taken)
    }

    async fn save(&self, lease: &mut Lease, cursor: &str, lasts: Duration) -> Result<bool> {
        self.steps.pass("before save").await;
        self.tick();
        let held = self.checkpoints.read(&lease.row).await?.is_some_and(|row| row.held);
        let saved = match self.design {
            Design::Ours => self.checkpoints.save(lease, cursor, lasts).await?,
            Design::LeaseWithoutToken if !held => false,
            _ => self.force(lease, cursor, lasts).await?,
        };
        if saved {
            self.written.lock().unwrap().push(cursor.to_owned());
        }
        self.steps.pass("after save").await;
        Ok(saved)
    }

    async fn release(&self, lease: &Lease) -> Result<bool> {
        self.tick();
        self.checkpoints.release(lease).await
    }

    async fn stop(&self, lease: &Lease, reason: &str) -> Result<bool> {
        self.tick();
        self.checkpoints.stop(lease, reason).await
    }

    async fn halt(&self, row: &str, reason: &str) -> Result<bool> {
        self.checkpoints.halt(row, reason).await
    }

    async fn resume(&self, row: &str) -> Result<bool> {
        self.checkpoints.resume(row).await
    }

    async fn restart(&self, row: &str, at_least: u32) -> Result<u32> {
        self.checkpoints.restart(row, at_least).await
    }
}
