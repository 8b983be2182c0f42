//! Asking: what one try says, and when another try is worth it.

use std::time::Duration;

use sync_domain::config::ApiKey;
use sync_domain::outcome::Reason;
use sync_domain::ports::{self, Kind};
use sync_domain::webhook;
use sync_http::{Bytes, Error, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use sync_lambda::deadline::Deadline;
use url::Url;

use crate::answer::{Answer, LIMITS};
use crate::deps::Deps;
use crate::lookup::{Http, Lookup, Place};
use crate::question::Question;

/// Tries of one question in one invocation.
const TRIES: u32 = 4;
/// The longest pause before the second try; it doubles. The pause itself is a random part of it.
const PAUSE: Duration = Duration::from_millis(200);
/// For one read of a table.
const TABLE_TIMEOUT: Duration = Duration::from_secs(3);
/// What an invocation keeps for protecting, publishing and answering after the last look-up.
pub const RESERVE: Duration = Duration::from_secs(5);

/// What one try came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    /// The other system answered.
    Answered(Answer),
    /// It is throttling, away or slow: worth another try, not before this time is over if it said one.
    Again(Reason, Option<Duration>),
    /// Something is set up wrongly. Nothing changes within this invocation; the record comes again.
    Later(Reason),
    /// It is about the record: the same question will be refused again.
    Never(Reason),
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// The record comes again.
    Later(Reason),
    /// The record cannot go on.
    Never(Reason),
}

/// Asks a question of the place of its look-up.
pub async fn ask(
    deps: &Deps,
    question: &Question,
    lookup: &Lookup,
    deadline: Deadline,
) -> Result<Answer, Failed> {
    match (&lookup.place, question) {
        (Place::Http(http), Question::Http(url)) => {
            persist(deadline, http.timeout, async || http_try(deps, http, url, lookup).await).await
        }
        (Place::Table { name, .. }, Question::Table(key)) => {
            let attempt = async || {
                let item = tokio::time::timeout(TABLE_TIMEOUT, deps.tables.get(name, key)).await;
                item.map_or_else(|_| away("timeout"), |item| table_answer(item, lookup))
            };
            persist(deadline, TABLE_TIMEOUT, attempt).await
        }
        // A look-up makes only questions of its own kind.
        _ => Err(Failed::Never(Reason::new("lookup_misconfigured", ""))),
    }
}

/// One request; a second one with the secret read again if the service does not take the one at hand.
async fn http_try(deps: &Deps, http: &Http, url: &Url, lookup: &Lookup) -> Tried {
    let Some(api_key) = &http.api_key else { return answer_of(send(http, url, None).await, lookup) };
    let text = match deps.secrets.get(&api_key.secret).await {
        Ok(text) => text,
        Err(error) => return port_failed("secret_unavailable", "secret_refused", error),
    };
    let answer = send(http, url, Some((api_key, &text))).await;
    if !matches!(&answer, Ok(response) if matches!(response.status, 401 | 403)) {
        return answer_of(answer, lookup);
    }
    match deps.secrets.refresh(&api_key.secret).await {
        Ok(fresh) if fresh != text => answer_of(send(http, url, Some((api_key, &fresh))).await, lookup),
        _ => answer_of(answer, lookup),
    }
}

async fn send(http: &Http, url: &Url, secret: Option<(&ApiKey, &str)>) -> Result<Response, Error> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Some((api_key, text)) = secret {
        // The error says less than there is to say (the secret is no header), but nothing of the secret.
        let live = webhook::live(text).map_err(|_| Error::Malformed)?;
        let current = live.first().ok_or(Error::Malformed)?;
        let mut value = HeaderValue::from_str(current).map_err(|_| Error::Malformed)?;
        value.set_sensitive(true);
        let name: HeaderName = api_key.header.parse().map_err(|_| Error::Malformed)?;
        headers.insert(name, value);
    }
    let (timeout, max_body) = (http.timeout, LIMITS.bytes);
    let request =
        Request { method: Method::GET, url: url.clone(), headers, body: Bytes::new(), timeout, max_body };
    http.client.send(request).await
}

fn answer_of(answer: Result<Response, Error>, lookup: &Lookup) -> Tried {
    match answer {
        Ok(response) => {
            let retry_after = response.header("retry-after").and_then(|seconds| seconds.parse().ok());
            match &response.body {
                Some(body) => {
                    http_answer(response.status, body, retry_after.map(Duration::from_secs), lookup)
                }
                None => Tried::Later(Reason::new("lookup_answer_invalid", "too_long")),
            }
        }
        Err(error @ (Error::Refused(_) | Error::Malformed)) => {
            Tried::Later(Reason::new("lookup_misconfigured", error.code()))
        }
        Err(error) => away(error.code()),
    }
}

fn away(code: &str) -> Tried {
    Tried::Again(Reason::new("lookup_unavailable", code), None)
}

/// Tries until there is an answer, or until another try (of at most `each`) would leave the invocation too little time.
/// A record whose time is up is tried again by the queue.
pub async fn persist(
    deadline: Deadline,
    each: Duration,
    attempt: impl AsyncFn() -> Tried,
) -> Result<Answer, Failed> {
    let needed = each.saturating_add(RESERVE);
    if !deadline.allows(needed) {
        return Err(Failed::Later(Reason::new("no_time_left", "")));
    }
    let mut longest = PAUSE;
    for number in 1..=TRIES {
        let (reason, after) = match attempt().await {
            Tried::Answered(answer) => return Ok(answer),
            Tried::Later(reason) => return Err(Failed::Later(reason)),
            Tried::Never(reason) => return Err(Failed::Never(reason)),
            Tried::Again(reason, after) => (reason, after.unwrap_or_default()),
        };
        let pause = after.max(random_part(longest));
        if number == TRIES || !deadline.allows(needed.saturating_add(pause)) {
            return Err(Failed::Later(reason));
        }
        tokio::time::sleep(pause).await;
        longest = longest.saturating_mul(2);
    }
    Err(Failed::Later(Reason::new("no_time_left", "")))
}

/// What an HTTP status and body say. The body is read for 2xx only and never repeated.
pub fn http_answer(status: u16, body: &[u8], retry_after: Option<Duration>, lookup: &Lookup) -> Tried {
    let place = status.to_string();
    match status {
        204 | 404 | 410 => Tried::Answered(Answer::Absent),
        200..=299 => match std::str::from_utf8(body) {
            // An answer that cannot be read is a fault of the service, not of the record.
            Ok(text) => Answer::read(text, &lookup.set).map_or_else(Tried::Later, Tried::Answered),
            Err(error) => Tried::Later(Reason::new("lookup_answer_invalid", error.valid_up_to().to_string())),
        },
        408 | 425 | 429 | 500..=599 => Tried::Again(Reason::new("lookup_unavailable", place), retry_after),
        401 | 403 | 407 => Tried::Later(Reason::new("lookup_unauthorized", place)),
        300..=399 | 405 | 406 => Tried::Later(Reason::new("lookup_misconfigured", place)),
        _ => Tried::Never(Reason::new("lookup_refused", place)),
    }
}

/// What a table said.
pub fn table_answer(item: ports::Result<Option<String>>, lookup: &Lookup) -> Tried {
    match item {
        Ok(None) => Tried::Answered(Answer::Absent),
        Ok(Some(item)) => Answer::read(&item, &lookup.set).map_or_else(Tried::Later, Tried::Answered),
        Err(error) => port_failed("lookup_unavailable", "lookup_misconfigured", error),
    }
}

/// What a port's failure means for a question.
pub fn port_failed(away: &str, refused: &str, error: ports::Error) -> Tried {
    match error.kind {
        Kind::Unavailable | Kind::Behind => Tried::Again(Reason::new(away, error.code), None),
        Kind::Refused => Tried::Later(Reason::new(refused, error.code)),
    }
}

/// Anything between nothing and the whole, so that those who failed together do not come again together.
fn random_part(whole: Duration) -> Duration {
    let mut bytes = [0; 2];
    // Without randomness the pause is the whole.
    let part = aws_lc_rs::rand::fill(&mut bytes).map_or(u16::MAX, |()| u16::from_be_bytes(bytes));
    whole.mul_f64(f64::from(part) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use sync_domain::config::Absent;

    use super::*;

    const EACH: Duration = Duration::from_millis(10);

    fn again(after: Option<Duration>) -> Tried {
        Tried::Again(Reason::new("lookup_unavailable", "503"), after)
    }

    /// Persists on a script of tries; gives the result and how many tries it took.
    async fn run(left: Duration, script: &[Tried]) -> (Result<Answer, Failed>, usize) {
        let count = Cell::new(0);
        let attempt = async || {
            count.set(count.get() + 1);
            script.get(count.get() - 1).or(script.last()).unwrap().clone()
        };
        let result = persist(Deadline::after(left), EACH, attempt).await;
        (result, count.get())
    }

    const ENOUGH: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn it_tries_again_while_the_service_is_away() {
        let (result, tries) = run(ENOUGH, &[again(None), again(None), Tried::Answered(Answer::Absent)]).await;
        assert_eq!((result, tries), (Ok(Answer::Absent), 3));
    }

    #[tokio::test]
    async fn it_gives_up_and_leaves_the_record_to_the_queue() {
        let later = Err(Failed::Later(Reason::new("lookup_unavailable", "503")));
        assert_eq!(run(ENOUGH, &[again(None)]).await, (later, 4));
    }

    #[tokio::test]
    async fn it_does_not_start_a_try_that_the_invocation_has_no_time_for() {
        let no_time = Err(Failed::Later(Reason::new("no_time_left", "")));
        assert_eq!(run(RESERVE, &[again(None)]).await, (no_time, 0));
        let (result, tries) = run(ENOUGH, &[again(Some(Duration::from_secs(60)))]).await;
        assert_eq!((result.is_err(), tries), (true, 1), "the service asks for more time than there is");
    }

    #[tokio::test]
    async fn it_waits_as_long_as_the_service_says() {
        let wait = Duration::from_millis(300);
        let start = std::time::Instant::now();
        let (result, _) = run(ENOUGH, &[again(Some(wait)), Tried::Answered(Answer::Absent)]).await;
        assert!(result.is_ok() && start.elapsed() >= wait);
    }

    #[tokio::test]
    async fn what_another_try_does_not_change_is_tried_once() {
        let reason = Reason::new("lookup_refused", "422");
        let never = (Err(Failed::Never(reason.clone())), 1);
        assert_eq!(run(ENOUGH, &[Tried::Never(reason.clone())]).await, never);
        let later = (Err(Failed::Later(reason.clone())), 1);
        assert_eq!(run(ENOUGH, &[Tried::Later(reason)]).await, later);
    }

    fn lookup() -> Lookup {
        Lookup {
            place: Place::Table { name: "t".to_owned(), key: BTreeMap::new() },
            age: Duration::ZERO,
            set: BTreeMap::from([("segment".to_owned(), "segment".to_owned())]),
            absent: Absent::Null,
        }
    }

    #[test]
    fn every_status_has_its_meaning() {
        for status in 100..600 {
            let tried = http_answer(status, br#"{"segment":"a"}"#, None, &lookup());
            let expected = match status {
                204 | 404 | 410 => tried == Tried::Answered(Answer::Absent),
                200..=299 => matches!(tried, Tried::Answered(Answer::Found(_))),
                408 | 425 | 429 | 500..=599 => matches!(tried, Tried::Again(..)),
                301 | 302 | 307 | 401 | 403 | 405 => matches!(tried, Tried::Later(_)),
                400 | 413 | 414 | 422 => matches!(tried, Tried::Never(_)),
                _ => !matches!(tried, Tried::Answered(_)),
            };
            assert!(expected, "{status}: {tried:?}");
        }
    }

    #[test]
    fn an_answer_that_cannot_be_read_comes_again_and_is_not_repeated() {
        for body in [&b"<html>secret</html>"[..], b"", b"\xff", b"[\"secret\"]"] {
            let Tried::Later(reason) = http_answer(200, body, None, &lookup()) else { panic!("later") };
            assert_eq!(reason.code, "lookup_answer_invalid");
            assert!(!reason.place.contains("secret"));
        }
    }

    #[test]
    fn a_table_that_throttles_is_tried_again_and_one_that_refuses_is_not() {
        let error =
            |kind| ports::Error { kind, operation: "dynamodb:GetItem", code: "c".to_owned(), source: None };
        assert!(matches!(table_answer(Err(error(Kind::Unavailable)), &lookup()), Tried::Again(..)));
        assert!(matches!(table_answer(Err(error(Kind::Refused)), &lookup()), Tried::Later(_)));
        assert_eq!(table_answer(Ok(None), &lookup()), Tried::Answered(Answer::Absent));
    }
}
