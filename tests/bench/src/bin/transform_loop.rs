//! The transformation of one change, from the message body to the event's body. Prints nanoseconds.

use std::io::Write;

use anyhow::{Context, anyhow};
use sync_config::{ConfigFile, SyncConfig};
use sync_domain::event::{Envelope, Event};
use sync_domain::policy::{Captured, CompiledPolicy, PolicyKeys};
use sync_domain::ports::KeyBytes;
use sync_domain::protect::{Nonces, SealingKey, TokenHasher};
use sync_domain::scan::Limits;

struct Counter(u64);

impl Nonces for Counter {
    fn next(&mut self) -> [u8; 12] {
        self.0 += 1;
        let mut nonce = [0; 12];
        for (to, from) in nonce.iter_mut().zip(self.0.to_le_bytes()) {
            *to = from;
        }
        nonce
    }
}

fn main() -> anyhow::Result<()> {
    let config = SyncConfig::parse(&[ConfigFile::new("models/customer.yaml", sync_bench::MODEL)])
        .map_err(|errors| anyhow!("{errors:?}"))?;
    let model = config.models().next().context("one model")?;
    let policy =
        CompiledPolicy::compile(model, "0123456789abcdef").map_err(|errors| anyhow!("{errors:?}"))?;
    let mut keys = PolicyKeys::new(&policy, &TokenHasher::new(KeyBytes::new([1; 32])));
    let mut nonces = Counter(0);
    let source: sync_domain::id::SourceId = "crm".parse()?;
    let body = sync_bench::change();
    let limits = Limits { bytes: 1 << 20, depth: 64, items: 500_000, string: 1 << 20, names: 10_000 };
    let mut seals = u32::MAX;
    let mut size = 0;
    let ns = sync_bench::nanoseconds(|| {
        // The shell renews the key before it is used up.
        if seals > 1_000_000 {
            for (index, path) in keys.due(&policy, false, i64::MAX) {
                if let Ok(key) = SealingKey::new(&KeyBytes::new([2; 32]), "customer", path, 0) {
                    keys.install(index, key);
                }
            }
            seals = 0;
        }
        seals += 1;
        let captured = Captured::read(&body, &limits, |_| Some(&policy)).ok()?.ok()?;
        let rid = sync_domain::id::RecordId::from_wire("p0JwYqHFhW8nB3PZ1v5dQm0Qm2mC9VqvJ4w0w0Yz3Qk");
        let applied = captured.apply(&rid, &mut keys, &mut nonces).ok()?;
        let change = captured.change;
        let envelope = Envelope {
            rid,
            version: change.version?,
            source: source.clone(),
            model: policy.model().clone(),
            operation: change.operation,
            occurred_at: change.occurred_at,
            origin: change.origin,
            traceparent: change.traceparent,
            subject_key_id: change.subject_key_id,
            run: change.run,
            only: change.only,
        };
        let event = Event::new(&envelope, applied.protected, "8f7c6d5e-4b3a-4921-8d07-16f5e4d3c2b1");
        size = event.body().len();
        Some(event)
    });
    anyhow::ensure!(size > sync_bench::RECORD.len(), "no event was made");
    Ok(writeln!(std::io::stdout(), "{ns:.0}")?)
}
