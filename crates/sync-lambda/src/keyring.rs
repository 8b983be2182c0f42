//! The keys of the policies: fetched when they are first needed, renewed when they end, never written anywhere in clear.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::rand;
use sync_domain::id::ModelId;
use sync_domain::policy::{CompiledPolicy, PolicyKeys};
use sync_domain::ports::{self, HashKey, KeyService, KeyTable, Kind};
use sync_domain::protect::{Nonces, SealingKey, TokenHasher};

use crate::failpoint;

/// Random bytes drawn at once: enough for 256 nonces.
const POOL: usize = 256 * 12;

/// Nonces from the operating system's random numbers, drawn in bulk.
struct NoncePool {
    bytes: Vec<u8>,
}

impl Nonces for NoncePool {
    fn next(&mut self) -> [u8; 12] {
        if self.bytes.is_empty() {
            self.bytes.resize(POOL, 0);
            #[expect(
                clippy::expect_used,
                reason = "no nonce may be used twice; the record loop turns the panic into a retry"
            )]
            rand::fill(&mut self.bytes).expect("the operating system gives random bytes");
        }
        let mut nonce = [0; 12];
        let rest = self.bytes.len().saturating_sub(nonce.len());
        nonce.copy_from_slice(self.bytes.get(rest..).unwrap_or_default());
        self.bytes.truncate(rest);
        nonce
    }
}

/// Holds the keys of all policies of a function.
pub struct Keyring {
    service: Arc<dyn KeyService>,
    table: Arc<dyn KeyTable>,
    token_key_version: u32,
    tokens: OnceCell<TokenHasher>,
    keys: RefCell<BTreeMap<ModelId, PolicyKeys>>,
    nonces: RefCell<NoncePool>,
}

impl Keyring {
    /// A keyring without keys; `token_key_version` says which root tokens are made from.
    pub fn new(service: Arc<dyn KeyService>, table: Arc<dyn KeyTable>, token_key_version: u32) -> Self {
        Self {
            service,
            table,
            token_key_version,
            tokens: OnceCell::new(),
            keys: RefCell::default(),
            nonces: RefCell::new(NoncePool { bytes: Vec::new() }),
        }
    }

    /// Makes sure that every key which the policy needs is there and may be used at `now` (seconds since 1970). Call it
    /// before each batch; `looked_up` as in [`PolicyKeys::due`]. A new data key is written down before it is used.
    pub async fn ready(&self, policy: &CompiledPolicy, looked_up: bool, now: i64) -> ports::Result<()> {
        if self.tokens.get().is_none() {
            let root = self.service.hash_root(HashKey::Token, self.token_key_version).await?;
            // Another task may have been faster; both derived the same.
            let _ = self.tokens.set(TokenHasher::new(root));
        }
        let model = policy.model();
        for (attribute, path) in self.due(policy, looked_up, now) {
            let data_key = self.service.new_data_key(model.as_str(), &path).await?;
            let key_id = SealingKey::id_of(&data_key.plain);
            let sealing = SealingKey::new(&data_key.plain, model.as_str(), &path, now).map_err(refused)?;
            failpoint::pass("keys.made");
            self.table.put(&key_id, model.as_str(), &path, &data_key.wrapped).await?;
            failpoint::pass("keys.written");
            if let Some(keys) = self.keys.borrow_mut().get_mut(model) {
                keys.install(attribute, sealing);
            }
        }
        Ok(())
    }

    /// Lends the policy's keys and a source of nonces. None before [`Keyring::ready`] has succeeded.
    pub fn lend<T>(
        &self,
        policy: &CompiledPolicy,
        work: impl FnOnce(&mut PolicyKeys, &mut dyn Nonces) -> T,
    ) -> Option<T> {
        let mut keys = self.keys.borrow_mut();
        let keys = keys.get_mut(policy.model())?;
        Some(work(keys, &mut *self.nonces.borrow_mut()))
    }

    fn due(&self, policy: &CompiledPolicy, looked_up: bool, now: i64) -> Vec<(usize, String)> {
        let Some(tokens) = self.tokens.get() else { return Vec::new() };
        let mut keys = self.keys.borrow_mut();
        let keys = keys.entry(policy.model().clone()).or_insert_with(|| PolicyKeys::new(policy, tokens));
        keys.due(policy, looked_up, now).into_iter().map(|(index, path)| (index, path.to_owned())).collect()
    }
}

fn refused(error: sync_domain::protect::Error) -> ports::Error {
    ports::Error {
        kind: Kind::Refused,
        operation: "seal",
        code: "bad_key".to_owned(),
        source: Some(Box::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nonce_comes_twice() {
        let mut pool = NoncePool { bytes: Vec::new() };
        let nonces: std::collections::BTreeSet<_> = (0..2_000).map(|_| pool.next()).collect();
        assert_eq!(nonces.len(), 2_000);
    }
}
