#![doc = include_str!("../README.md")]

pub mod answer;
pub mod authentication;
pub mod body;
pub mod debezium;
pub mod deps;
pub mod gateway;
pub mod ids;
pub mod item;
pub mod receipts;
pub mod refusal;
pub mod request;
pub mod settings;
mod time;

use std::collections::HashMap;

use sync_domain::config::PushFormat;
use sync_domain::ports;
use sync_lambda::failpoint;

use crate::answer::{Accepted, Answer, PassedOver, UNAVAILABLE};
use crate::authentication::Authenticated;
use crate::body::{BODY, Span};
use crate::deps::Deps;
use crate::gateway::{GatewayRequest, GatewayResponse};
use crate::item::{Context, Item, Prepared};
use crate::receipts::Claim;
use crate::refusal::{Fault, Refusal};
use crate::request::Request;

/// Takes one request to its answer.
pub async fn handle(event: &GatewayRequest, deps: &Deps) -> (Answer, GatewayResponse) {
    match take(event, deps).await {
        Ok(answer) => {
            let response = GatewayResponse::from(&answer);
            (answer, response)
        }
        Err(refusal) => {
            tracing::info!(reason = refusal.code, http.status = refusal.status, "a request was refused");
            (Answer::default(), GatewayResponse::from(&refusal))
        }
    }
}

/// Outside, sender, inside, changes, queue: in this order, and each step only after the one before.
async fn take(event: &GatewayRequest, deps: &Deps) -> Result<Answer, Refusal> {
    let now_us = deps.now_us();
    let request = Request::read(event, BODY.bytes)?;
    let from = authentication::authenticate(&request, deps, now_us / 1_000_000).await?;
    failpoint::pass("capture-push.authenticated");
    let format = from.push.format;
    let spans = match format {
        PushFormat::Changes => body::changes(&request.body)?,
        PushFormat::Debezium => body::events(&request.body)?,
    };
    let ids =
        deps.ids.hasher().await.map_err(|error| away(&error, "the key of record ids cannot be used"))?;
    let context = Context {
        from,
        models: &deps.models,
        ids,
        webhook_id: request.webhook_id,
        traceparent: request.traceparent,
        now_us,
    };
    let mut answer = Answer { status_is_all: format == PushFormat::Debezium, ..Answer::default() };
    let prepared = prepare_all(&spans, &context, &mut answer);
    if !prepared.is_empty() {
        failpoint::pass("capture-push.prepared");
        let claim = claim(&request, &context, deps).await?;
        send(prepared, claim.as_ref(), deps, &mut answer).await;
    }
    answer.rejected.sort_by_key(|rejection| rejection.index);
    log(&answer, from);
    failpoint::pass("capture-push.logged");
    Ok(answer)
}

/// The changes of one record in one request. They go into the queue one after the other, each in a call of its own, and
/// the function has 28 seconds: so many take two or three, ten when SQS is slow.
const MAX_PER_RECORD: usize = 100;

/// Checks each change by itself. Two with one id and different content cannot both be meant.
fn prepare_all(spans: &[Span<'_>], context: &Context<'_>, answer: &mut Answer) -> Vec<Prepared> {
    let mut prepared: Vec<Prepared> = Vec::with_capacity(spans.len());
    let rejected = &mut answer.rejected;
    let mut first_with_id: HashMap<String, usize> = HashMap::new();
    let mut of_record: HashMap<String, usize> = HashMap::new();
    for (index, span) in spans.iter().enumerate() {
        let item = match context.from.push.format {
            PushFormat::Changes => item::prepare(index, *span, context).map(Item::Change),
            PushFormat::Debezium => debezium::prepare(index, *span, context),
        };
        match item {
            Ok(Item::PassedOver(what)) => answer.passed_over.push(PassedOver { index, code: what }),
            Ok(Item::Change(change)) => {
                let before_it = of_record.entry(change.entry.group.clone()).or_default();
                let first = first_with_id.get(&change.id).and_then(|at| prepared.get(*at));
                if first.is_some_and(|first| first.entry != change.entry) {
                    let message = "an earlier change of this request has the same key, version and operation and another content";
                    rejected.push(Fault::new("version_conflict", message).at(index));
                } else if *before_it == MAX_PER_RECORD {
                    rejected.push(too_many_for_one_record().at(index));
                } else {
                    *before_it += 1;
                    first_with_id.entry(change.id.clone()).or_insert(prepared.len());
                    prepared.push(change);
                }
            }
            Err(fault) => rejected.push(fault.at(index)),
        }
    }
    prepared
}

/// Where the order of arrival is the version, a request counts once however often it comes.
async fn claim(request: &Request<'_>, context: &Context<'_>, deps: &Deps) -> Result<Option<Claim>, Refusal> {
    if !context.from.push.counts_by_arrival() {
        return Ok(None);
    }
    let source = context.from.source.as_str();
    let now = context.now_us / 1_000_000;
    let claim = receipts::claim(deps, context.ids, source, request.webhook_id, &request.body, now).await?;
    failpoint::pass("capture-push.claimed");
    Ok(Some(claim))
}

/// Sends what is not in the queue yet, and says of each change whether the queue has confirmed it.
async fn send(prepared: Vec<Prepared>, claim: Option<&Claim>, deps: &Deps, answer: &mut Answer) {
    let is_done = |index: usize| claim.is_some_and(|claim| claim.done.contains(&index));
    let (done, fresh): (Vec<_>, Vec<_>) = prepared.into_iter().partition(|change| is_done(change.index));
    answer.accepted.extend(done.into_iter().map(|change| Accepted { index: change.index, id: change.id }));
    if claim.is_some_and(|claim| claim.late) {
        answer.rejected.extend(fresh.into_iter().map(|change| retry_too_late().at(change.index)));
        return;
    }
    let (places, entries): (Vec<_>, Vec<_>) =
        fresh.into_iter().map(|change| ((change.index, change.id), change.entry)).unzip();
    if entries.is_empty() {
        return;
    }
    let mut results = deps.queue.send(entries).await.into_iter();
    failpoint::pass("capture-push.sent");
    let mut failure = None;
    for (index, id) in places {
        // A result that is missing confirms nothing.
        match results.next() {
            Some(Ok(())) => answer.accepted.push(Accepted { index, id }),
            other => {
                failure = failure.or(other.and_then(Result::err));
                let message =
                    "the queue did not confirm this change: send the request again, with the same webhook-id";
                answer.rejected.push(Fault::new(UNAVAILABLE, message).at(index));
            }
        }
    }
    // One line for all: a queue that is away fails them alike.
    if let Some(error) = &failure {
        away(error, "the queue did not take every change");
    }
    answer.accepted.sort_by_key(|accepted| accepted.index);
    if let Some(claim) = claim {
        let accepted: Vec<usize> = answer.accepted.iter().map(|accepted| accepted.index).collect();
        claim.settle(deps, &accepted).await;
        failpoint::pass("capture-push.settled");
    }
}

fn too_many_for_one_record() -> Fault {
    let message = format!(
        "{MAX_PER_RECORD} changes of the same record stand before it in this request: send it in another, after this one"
    );
    Fault::new("too_many_for_one_record", message)
}

fn retry_too_late() -> Fault {
    Fault::new(
        "retry_too_late",
        "the first attempt is so long ago that this change would count as newer than it is: send the present state of the \
         record under a new webhook-id",
    )
}

fn away(error: &ports::Error, what: &'static str) -> Refusal {
    tracing::error!(error.operation = error.operation, error.code = error.code, "{what}");
    Refusal::unavailable("a service behind the endpoint is away: send the request again later")
}

fn log(answer: &Answer, from: Authenticated<'_>) {
    let first = answer.rejected.first().map(|rejection| rejection.code.as_ref()).unwrap_or_default();
    tracing::info!(
        source.id = from.source.as_str(),
        batch.record_count = answer.accepted.len() + answer.rejected.len() + answer.passed_over.len(),
        failed_count = answer.rejected.len(),
        reason = first,
        http.status = answer.status(),
        "a request was answered"
    );
}
