//! The keys that a policy works with: made by the shell, handed in for each batch.

use super::{CompiledPolicy, Rule};
use crate::protect::{SealingKey, TokenHasher, TokenKey};

/// The keys of one policy.
#[derive(Debug)]
pub struct PolicyKeys {
    /// By attribute index.
    tokens: Vec<Option<TokenKey>>,
    sealing: Vec<Option<SealingKey>>,
}

impl PolicyKeys {
    /// Derives the token keys; sealing keys are installed as they are needed.
    pub fn new(policy: &CompiledPolicy, hasher: &TokenHasher) -> Self {
        let needs_token = |rule: &Rule| matches!(rule, Rule::Tokenize | Rule::Encrypt);
        let token = |attribute: &super::Attribute| {
            needs_token(&attribute.rule).then(|| hasher.attribute(policy.model.as_str(), &attribute.path))
        };
        Self {
            tokens: policy.attributes.iter().map(token).collect(),
            sealing: policy.attributes.iter().map(|_| None).collect(),
        }
    }

    /// The attributes whose sealing key is missing or ends by `now` (seconds since 1970), by index and path.
    /// `looked_up` chooses between those that a look-up sets and those that the record brings.
    pub fn due<'p>(&self, policy: &'p CompiledPolicy, looked_up: bool, now: i64) -> Vec<(usize, &'p str)> {
        let seals = policy.attributes.iter().zip(&self.sealing).enumerate();
        seals
            .filter(|(_, (attribute, _))| attribute.rule == Rule::Encrypt && attribute.later == looked_up)
            .filter(|(_, (_, key))| !key.as_ref().is_some_and(|key| key.fresh(now)))
            .map(|(index, (attribute, _))| (index, attribute.path.as_str()))
            .collect()
    }

    /// Puts a new sealing key in its place; its wrapped form stands in the Keys table already.
    pub fn install(&mut self, attribute: usize, key: SealingKey) {
        if let Some(place) = self.sealing.get_mut(attribute) {
            *place = Some(key);
        }
    }

    pub(super) fn token(&self, attribute: usize) -> Option<&TokenKey> {
        self.tokens.get(attribute).and_then(Option::as_ref)
    }

    pub(super) fn sealing(&mut self, attribute: usize) -> Option<&mut SealingKey> {
        self.sealing.get_mut(attribute).and_then(Option::as_mut)
    }
}
