//! Secrets Manager, with a short cache.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use sync_domain::ports::{Kind, Result, Secrets};
use zeroize::Zeroizing;

use crate::error::{error, from_sdk};

const GET: &str = "secretsmanager:GetSecretValue";
/// How long a secret is used without being read again.
const KEPT: Duration = Duration::from_secs(5 * 60);
/// The least time between two reads of a secret that somebody wants fresh.
const REFRESH_GAP: Duration = Duration::from_secs(10);

/// Secrets by name or ARN.
pub struct SecretsManager {
    client: Client,
    cache: Mutex<HashMap<String, Cached>>,
    /// Held while a secret is read: who needs it at the same time waits and finds it in the cache. What is inside is the
    /// last read that failed, for those who waited for it.
    reading: tokio::sync::Mutex<Option<Failed>>,
    kept: Duration,
    refresh_gap: Duration,
}

struct Cached {
    text: Zeroizing<String>,
    read_at: Instant,
}

struct Failed {
    name: String,
    at: Instant,
    kind: Kind,
    code: String,
}

impl fmt::Debug for SecretsManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsManager").finish_non_exhaustive()
    }
}

impl SecretsManager {
    /// An empty cache before the service.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            cache: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            kept: KEPT,
            refresh_gap: REFRESH_GAP,
        }
    }

    fn cached(&self, name: &str, younger_than: Duration) -> Option<Zeroizing<String>> {
        let cache = self.cache.lock().ok()?;
        let cached = cache.get(name)?;
        (cached.read_at.elapsed() < younger_than).then(|| cached.text.clone())
    }

    async fn get_younger_than(&self, name: &str, age: Duration) -> Result<Zeroizing<String>> {
        if let Some(text) = self.cached(name, age) {
            return Ok(text);
        }
        let asked_at = Instant::now();
        let mut last_failed = self.reading.lock().await;
        if let Some(text) = self.cached(name, age.max(asked_at.elapsed())) {
            return Ok(text);
        }
        if let Some(failed) =
            last_failed.as_ref().filter(|failed| failed.name == name && failed.at > asked_at)
        {
            return Err(error(GET, failed.kind, failed.code.as_str()));
        }
        let call = self.client.get_secret_value().secret_id(name);
        let answer = call.send().await.map_err(|failed| from_sdk(GET, &failed)).inspect_err(|failure| {
            let (name, code) = (name.to_owned(), failure.code.clone());
            *last_failed = Some(Failed { name, at: Instant::now(), kind: failure.kind, code });
        })?;
        let text =
            answer.secret_string.map(Zeroizing::new).ok_or_else(|| error(GET, Kind::Refused, "NotText"))?;
        if let Ok(mut cache) = self.cache.lock() {
            cache.insert(name.to_owned(), Cached { text: text.clone(), read_at: Instant::now() });
        }
        Ok(text)
    }
}

#[async_trait]
impl Secrets for SecretsManager {
    async fn get(&self, name: &str) -> Result<Zeroizing<String>> {
        self.get_younger_than(name, self.kept).await
    }

    async fn refresh(&self, name: &str) -> Result<Zeroizing<String>> {
        self.get_younger_than(name, self.refresh_gap).await
    }
}

#[cfg(test)]
mod tests;
