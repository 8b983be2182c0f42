//! Requests of sources that send no versions: their order of arrival counts, so that a late retry must not arrive again.

use sync_domain::ports::{self, Receipt};
use sync_domain::protect::IdHasher;

use crate::deps::Deps;
use crate::ids;
use crate::refusal::Refusal;

/// How long a receipt stands: as long as a message can stay in the queue and its dead-letter queue's redrive is useful.
const LIFETIME_S: i64 = 14 * 24 * 3_600;

/// How long after the first attempt SQS surely drops what it has already: its five minutes, less the time of an attempt.
const DEDUPLICATED_S: i64 = 240;

/// A request that this attempt may work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    request_id: String,
    /// The indices that earlier attempts got into the queue.
    pub done: Vec<usize>,
    /// The first attempt is so long ago that what is sent now would count as newer than it is.
    pub late: bool,
}

/// Claims a request, or says why this attempt may not go on; `now` is seconds since 1970.
///
/// A first attempt that ended between the queue and the table has left a receipt without indices. Soon after it the
/// queue itself drops what it has already; later nobody knows, and a change that is queued twice would count as the
/// newest. Then the sender must decide. It must as well for what no attempt got into the queue: sent late, it would
/// overtake what has happened to its record since.
pub async fn claim(
    deps: &Deps,
    hasher: &IdHasher,
    source: &str,
    webhook_id: &str,
    body: &[u8],
    now: i64,
) -> Result<Claim, Refusal> {
    let request_id = ids::request(source, webhook_id);
    // Keyed, since a body may be easy to guess; no source has an empty name, so this is apart from all record ids.
    let hash = hasher.rid("", "receipt", body);
    let mark = format!("{now}.{hash}");
    let standing = deps.receipts.claim(&request_id, &mark, now.saturating_add(LIFETIME_S)).await;
    match standing.map_err(|error| away(&error))? {
        None => Ok(Claim { request_id, done: Vec::new(), late: false }),
        Some(Receipt { body_hash, accepted }) => {
            let (first_attempt, first_hash) = body_hash.split_once('.').unwrap_or_default();
            if first_hash != hash.as_str() {
                return Err(Refusal::new(
                    422,
                    "webhook_id_reused",
                    "this webhook-id came before with another body: give each new request an id of its own",
                ));
            }
            let late = now.saturating_sub(first_attempt.parse().unwrap_or(0)) > DEDUPLICATED_S;
            match accepted {
                Some(done) => Ok(Claim { request_id, done, late }),
                None if !late => Ok(Claim { request_id, done: Vec::new(), late }),
                None => Err(Refusal::new(
                    422,
                    "outcome_unknown",
                    "an earlier attempt broke off, and it is too late to send it again unseen: send the present state \
                     of the records under a new webhook-id",
                )),
            }
        }
    }
}

impl Claim {
    /// Notes what is in the queue by now. If that fails the answer still stands: only a retry would not know of it.
    pub async fn settle(&self, deps: &Deps, accepted: &[usize]) {
        if let Err(error) = deps.receipts.settle(&self.request_id, accepted).await {
            away(&error);
        }
    }
}

fn away(error: &ports::Error) -> Refusal {
    tracing::error!(error.operation = error.operation, error.code = error.code, "the receipt table fails");
    Refusal::unavailable("the request cannot be remembered at the moment: send it again later")
}
