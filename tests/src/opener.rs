//! A second reader of sealed values and a second maker of tokens, by the documented formats and with other
//! cryptography (RustCrypto) than the product's: what both agree on is what the documents say.

use std::collections::BTreeMap;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::aws::Aws;
use crate::stack::Stack;

/// Opens sealed values and makes tokens with the keys of one stack.
#[derive(Debug)]
pub struct Opener {
    token_root: Vec<u8>,
    id_root: Vec<u8>,
    /// Unwrapped data keys by id, each with the model and attribute that it is for.
    data_keys: BTreeMap<String, DataKey>,
}

#[derive(Debug)]
struct DataKey {
    model: String,
    attribute: String,
    plain: Vec<u8>,
}

impl Opener {
    /// Reads the keys that the stack has by now.
    pub async fn new(stack: &Stack) -> Result<Self> {
        let aws = stack.aws();
        Ok(Self {
            token_root: root(aws, stack.output("TokenKeyArn")?, "datasync/token/1").await?,
            id_root: root(aws, stack.output("IdKeyArn")?, "datasync/id/1").await?,
            data_keys: data_keys(stack).await?,
        })
    }

    /// The token of a text.
    pub fn token(&self, model: &str, attribute: &str, text: &str) -> Result<String> {
        let key_id = expand(&self.token_root, &["commit"])?;
        let key = expand(&self.token_root, &["token", model, attribute])?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key)?;
        mac.update(b"s");
        mac.update(text.as_bytes());
        let hash = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        Ok(format!("dst1.{}.{hash}", URL_SAFE_NO_PAD.encode(key_id.get(..6).unwrap_or_default())))
    }

    /// The record id of (source, model, key in its canonical form).
    pub fn record_id(&self, source: &str, model: &str, canonical_key: &[u8]) -> Result<String> {
        let key = expand(&self.id_root, &["record"])?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key)?;
        mac.update(&parts(&[source.as_bytes(), model.as_bytes(), canonical_key]));
        Ok(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    /// The JSON value in a sealed value.
    pub fn open(&self, sealed: &str, model: &str, attribute: &str, record_id: &str) -> Result<String> {
        let mut pieces = sealed.split('.');
        let (Some("dse1"), Some(key_id), Some(payload), None) =
            (pieces.next(), pieces.next(), pieces.next(), pieces.next())
        else {
            bail!("not a sealed value");
        };
        let key = self.data_keys.get(key_id).context("the Keys table lacks the key")?;
        if (key.model.as_str(), key.attribute.as_str()) != (model, attribute) {
            bail!("the key is for {} {}", key.model, key.attribute);
        }
        let commitment = expand(&key.plain, &["commit"])?;
        if URL_SAFE_NO_PAD.encode(commitment.get(..16).unwrap_or_default()) != key_id {
            bail!("the key id does not commit to the key");
        }
        let payload = URL_SAFE_NO_PAD.decode(payload)?;
        let (nonce, ciphertext) = payload.split_first_chunk::<12>().context("too short")?;
        let texts = ["dse1", key_id, model, attribute, record_id].map(str::as_bytes);
        let cipher = Aes256Gcm::new_from_slice(&key.plain)?;
        let message = Payload { msg: ciphertext, aad: &parts(&texts) };
        let plain = cipher.decrypt(&(*nonce).into(), message).ok().context("the value does not open")?;
        Ok(String::from_utf8(plain)?)
    }
}

/// The root of a family of keyed hashes, from KMS.
async fn root(aws: &Aws, key: &str, message: &str) -> Result<Vec<u8>> {
    let body = json!({ "KeyId": key, "MacAlgorithm": "HMAC_SHA_256", "Message": STANDARD.encode(message) });
    let answer = aws.kms("GenerateMac", &body).await?;
    Ok(STANDARD.decode(answer["Mac"].as_str().context("KMS gave no MAC")?)?)
}

async fn data_keys(stack: &Stack) -> Result<BTreeMap<String, DataKey>> {
    let aws = stack.aws();
    let mut keys = BTreeMap::new();
    for item in aws.scan(stack.output("KeysTableName")?).await? {
        let text = |name: &str| item[name]["S"].as_str().map(str::to_owned);
        let id = text("pk").context("a wrapped key has no id")?;
        let model = text("model").context("a wrapped key names no model")?;
        let attribute = text("attribute").context("a wrapped key names no attribute")?;
        let members = item.as_object().context("an item is an object")?;
        let wrapped =
            members.values().find_map(|value| value["B"].as_str()).context("a wrapped key holds no bytes")?;
        let body = json!({ "CiphertextBlob": wrapped, "EncryptionContext": { "model": model, "attribute": attribute } });
        let answer: Value = aws.kms("Decrypt", &body).await?;
        let plain = STANDARD.decode(answer["Plaintext"].as_str().context("KMS unwrapped nothing")?)?;
        keys.insert(id, DataKey { model, attribute, plain });
    }
    Ok(keys)
}

/// Parts, each behind its length in four bytes.
fn parts(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// HKDF-Expand-SHA-256 of a root for a purpose.
fn expand(root: &[u8], purpose: &[&str]) -> Result<[u8; 32]> {
    let purpose: Vec<&[u8]> = purpose.iter().map(|part| part.as_bytes()).collect();
    let mut key = [0; 32];
    let hkdf = Hkdf::<Sha256>::from_prk(root).ok().context("the root is too short")?;
    hkdf.expand(&parts(&purpose), &mut key).ok().context("too much asked of HKDF")?;
    Ok(key)
}

#[cfg(test)]
impl Opener {
    /// An opener with fixed keys.
    pub(crate) fn for_test() -> Self {
        Self { token_root: vec![1; 32], id_root: vec![2; 32], data_keys: BTreeMap::new() }
    }
}
