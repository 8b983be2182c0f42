//! KMS: roots of keyed hashes and data keys. The only place where key material enters the process.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, MacAlgorithmSpec};
use sync_domain::ports::{DataKey, HashKey, KeyBytes, KeyService, Kind, Result};

use crate::error::{error, from_sdk};

const MAC: &str = "kms:GenerateMac";
const NEW_KEY: &str = "kms:GenerateDataKey";
const UNWRAP: &str = "kms:Decrypt";

/// The key service. A function is given only the keys that its stage needs; a call for another one is refused here.
#[derive(Debug, Clone)]
pub struct KmsKeys {
    client: Client,
    hash_keys: HashMap<HashKey, String>,
    value_key: Option<String>,
}

impl KmsKeys {
    /// A key service without keys.
    pub fn new(client: Client) -> Self {
        Self { client, hash_keys: HashMap::new(), value_key: None }
    }

    /// The same with the key of a family of keyed hashes.
    pub fn with_hash_key(mut self, key: HashKey, arn: impl Into<String>) -> Self {
        self.hash_keys.insert(key, arn.into());
        self
    }

    /// The same with the key that wraps data keys.
    pub fn with_value_key(mut self, arn: impl Into<String>) -> Self {
        self.value_key = Some(arn.into());
        self
    }

    fn value_key(&self, operation: &'static str) -> Result<&str> {
        self.value_key.as_deref().ok_or_else(|| error(operation, Kind::Refused, "NoValueKey"))
    }
}

/// What KMS makes a root of: the same text always gives the same root, so it is part of the stored format.
fn root_message(key: HashKey, version: u32) -> String {
    let family = match key {
        HashKey::Id => "id",
        HashKey::Token => "token",
        HashKey::Ledger => "ledger",
    };
    format!("datasync/{family}/{version}")
}

/// The encryption context of a data key. It is not secret (CloudTrail shows it): names only.
fn context(model: &str, attribute: &str) -> HashMap<String, String> {
    [("model", model), ("attribute", attribute)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn key_bytes(operation: &'static str, bytes: Option<Blob>) -> Result<KeyBytes> {
    let bytes = zeroize::Zeroizing::new(bytes.map(Blob::into_inner).unwrap_or_default());
    let key: [u8; 32] =
        bytes.as_slice().try_into().map_err(|_| error(operation, Kind::Refused, "KeyLength"))?;
    Ok(KeyBytes::new(key))
}

#[async_trait]
impl KeyService for KmsKeys {
    async fn hash_root(&self, key: HashKey, version: u32) -> Result<KeyBytes> {
        let arn = self.hash_keys.get(&key).ok_or_else(|| error(MAC, Kind::Refused, "NoHashKey"))?;
        let call = self
            .client
            .generate_mac()
            .key_id(arn)
            .mac_algorithm(MacAlgorithmSpec::HmacSha256)
            .message(Blob::new(root_message(key, version)));
        let answer = call.send().await.map_err(|failed| from_sdk(MAC, &failed))?;
        key_bytes(MAC, answer.mac)
    }

    async fn new_data_key(&self, model: &str, attribute: &str) -> Result<DataKey> {
        let call = self
            .client
            .generate_data_key()
            .key_id(self.value_key(NEW_KEY)?)
            .key_spec(DataKeySpec::Aes256)
            .set_encryption_context(Some(context(model, attribute)));
        let answer = call.send().await.map_err(|failed| from_sdk(NEW_KEY, &failed))?;
        let wrapped = answer.ciphertext_blob.map(Blob::into_inner).unwrap_or_default();
        let plain = key_bytes(NEW_KEY, answer.plaintext)?;
        if wrapped.is_empty() {
            return Err(error(NEW_KEY, Kind::Refused, "KeyLength"));
        }
        Ok(DataKey { plain, wrapped })
    }

    async fn unwrap_data_key(&self, model: &str, attribute: &str, wrapped: &[u8]) -> Result<KeyBytes> {
        let call = self
            .client
            .decrypt()
            // Named, so that a wrapped key from elsewhere is refused even where the caller may use that key too.
            .key_id(self.value_key(UNWRAP)?)
            .ciphertext_blob(Blob::new(wrapped))
            .set_encryption_context(Some(context(model, attribute)));
        let answer = call.send().await.map_err(|failed| from_sdk(UNWRAP, &failed))?;
        key_bytes(UNWRAP, answer.plaintext)
    }
}

#[cfg(test)]
mod tests;
