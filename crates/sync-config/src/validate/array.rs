//! Checks of `endpoint.array`.

use std::time::Duration;

use sync_domain::change::Operation;
use sync_domain::config::{Array, Body, HttpEndpoint, RequestMapping};

use super::Check;
use crate::path;

/// A function is handed so many messages at once.
const MOST_ITEMS: usize = 10;
/// What fits a request of any array: ten events as long as a queue takes them.
const MOST_BYTES: usize = 10 << 20;
const FEWEST_BYTES: usize = 1 << 10;
/// The time is taken from the invocation's, and a record that is slow makes all others wait for it.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

pub(super) fn check(array: &Array, endpoint: &HttpEndpoint, check: &mut Check<'_>) {
    if !(1..=MOST_ITEMS).contains(&array.items) {
        check.error(
            &["endpoint", "array", "items"],
            "must be 1 to 10: a function is handed ten events at most",
        );
    }
    if !(FEWEST_BYTES..=MOST_BYTES).contains(&array.bytes) {
        check.error(&["endpoint", "array", "bytes"], "must be 1KiB to 10MiB");
    }
    if array.wait > LONGEST_WAIT {
        check.error(&["endpoint", "array", "wait"], "must be at most 1s");
    }
    let alone = |operation: &Operation| {
        endpoint.operations.get(operation).is_some_and(|mapping| goes_alone(*operation, mapping))
    };
    if [Operation::Create, Operation::Update, Operation::Delete].iter().all(alone) {
        check.error(
            &["endpoint", "array"],
            "no operation could go in one: paths name the key, or bodies hold neither event nor attributes; remove it or \
             change operations",
        );
        return;
    }
    for operation in endpoint.operations.keys().filter(|operation| alone(operation)) {
        check.warning(
            &["endpoint", "operations", operation.as_str()],
            "goes alone and not in an array: its path names the key, or its body is neither the event nor the attributes \
             of what is not deleted",
        );
    }
}

/// Whether a request is about one record, so that `deliver` puts it into no array.
fn goes_alone(operation: Operation, mapping: &RequestMapping) -> bool {
    let names_the_key =
        mapping.path.as_deref().and_then(path::placeholders).is_some_and(|names| !names.is_empty());
    let body_says = match mapping.body {
        Body::Event => true,
        Body::Attributes => operation != Operation::Delete,
        Body::Key | Body::None => false,
    };
    names_the_key || !body_says
}
