//! Sends a day's work through the stack and waits until nothing moves any more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::change::{Fate, Request};
use crate::http::Answer;
use crate::oracle::Oracle;
use crate::rig::{Progress, Rig, stage};
use crate::workload::{REFUSED_SETTING, Workload};

/// What happened at the push endpoint.
#[derive(Debug, Default)]
pub struct Pushed {
    /// Requests.
    pub requests: usize,
    /// Changes that were accepted.
    pub accepted: usize,
    /// Refusals of single changes, by code.
    pub refused: BTreeMap<String, usize>,
    /// Refusals of whole requests: what was wrong, status, code.
    pub turned_away: Vec<(&'static str, u16, String)>,
    /// Answers that are not what they must be.
    pub differences: Vec<String>,
    /// Everything that the endpoint answered.
    pub answers: Vec<String>,
    /// The id of the last request of each source, and its body.
    last: BTreeMap<&'static str, (String, String)>,
}

impl Pushed {
    /// Pushes requests one after the other; the oracle hears of each.
    pub async fn push(&mut self, rig: &Rig, requests: &[Request], oracle: &mut Oracle) -> Result<()> {
        for request in requests {
            let source = rig.source(request.source)?;
            let (id, body) = (source.next_id(), request.body()?);
            let answer = source.send(&id, body.as_bytes()).await?;
            self.answers.push(answer.text());
            self.check(request, &answer)?;
            self.last.insert(request.source, (id, body));
            for change in &request.changes {
                oracle.take(change)?;
            }
        }
        Ok(())
    }

    fn check(&mut self, request: &Request, answer: &Answer) -> Result<()> {
        self.requests += 1;
        let place = format!("push {} of {}", self.requests, request.source);
        if answer.status != 202 {
            bail!("{place}: status {} {}", answer.status, answer.text());
        }
        let body = answer.json()?;
        let index = |entry: &Value| entry["index"].as_u64().and_then(|index| usize::try_from(index).ok());
        let accepted: Vec<Option<usize>> =
            body["accepted"].as_array().into_iter().flatten().map(index).collect();
        let rejected: BTreeMap<Option<usize>, &str> = body["rejected"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| (index(entry), entry["code"].as_str().unwrap_or_default()))
            .collect();
        self.accepted += accepted.len();
        for (at, change) in request.changes.iter().enumerate() {
            let (taken, code) = (accepted.contains(&Some(at)), rejected.get(&Some(at)).copied());
            if let Some(code) = code {
                *self.refused.entry(code.to_owned()).or_default() += 1;
            }
            let right = match change.fate {
                Fate::Refused(expected) => !taken && code == Some(expected),
                Fate::Flows | Fate::Fails(..) => taken && code.is_none(),
            };
            if !right {
                let got = code.unwrap_or(if taken { "accepted" } else { "no answer" });
                self.differences.push(format!("{place}, change {at}: {got}, expected {:?}", change.fate));
            }
        }
        Ok(())
    }

    /// Sends the last request of each source once more under its id, as after a lost answer: nothing may come of it.
    async fn again(&mut self, rig: &Rig) -> Result<()> {
        for (name, (id, body)) in self.last.clone() {
            let answer = rig.source(name)?.send(&id, body.as_bytes()).await?;
            if answer.status != 202 {
                self.differences.push(format!(
                    "a request of {name} sent again: status {} {}",
                    answer.status,
                    answer.text()
                ));
            }
        }
        Ok(())
    }

    /// Sends requests that must be turned away whole.
    async fn turn_away(&mut self, rig: &Rig, request: &Request) -> Result<()> {
        let body = request.body()?;
        let body = body.as_bytes();
        let (crm, now) = (&rig.crm, jiff::Timestamp::now().as_second());
        let forged = crate::signature::sign(
            &crate::signature::secret(b"somebody else's secret, 32 bytes"),
            "msg_forged",
            now,
            body,
        )?;
        let old = now - 3_600;
        let replayed = crm.sign("msg_old", old, body)?;
        let signature = crm.sign("msg_other_body", now, b"{}")?;
        for (what, expected, answer) in [
            ("a forged signature", 401, crm.send_signed("msg_forged", now, &forged, body).await?),
            ("a replay after an hour", 401, crm.send_signed("msg_old", old, &replayed, body).await?),
            (
                "a signature over another body",
                401,
                crm.send_signed("msg_other_body", now, &signature, body).await?,
            ),
            ("no JSON", 400, crm.send(&crm.next_id(), b"{\"changes\":[").await?),
            ("a name twice", 400, crm.send(&crm.next_id(), br#"{"changes":[],"changes":[]}"#).await?),
        ] {
            let code = answer
                .json()
                .ok()
                .and_then(|body| body["code"].as_str().map(str::to_owned))
                .unwrap_or_default();
            if answer.status != expected || code.is_empty() {
                self.differences.push(format!("{what}: status {} {}", answer.status, answer.text()));
            }
            self.answers.push(answer.text());
            self.turned_away.push((what, answer.status, code));
        }
        Ok(())
    }
}

/// Lets the warehouse refuse the setting that the workload made for it.
pub fn refuse_the_poison(rig: &Rig) {
    rig.warehouse.refuse(Box::new(|delivery| {
        let poisoned = delivery.record().key.contains(REFUSED_SETTING)
            && delivery.image("after").is_some_and(|after| after.contains("\"poison\""));
        poisoned.then_some(422)
    }));
}

/// The whole day: opening, outage, refusals, failures, recovery, closing.
pub async fn day(rig: &Rig, day: &Workload, progress: &dyn Progress) -> Result<(Pushed, Oracle)> {
    let (mut pushed, mut oracle) = (Pushed::default(), Oracle::new());
    day_after(rig, day, progress, &mut pushed, &mut oracle).await?;
    Ok((pushed, oracle))
}

/// The day, or the rest of it, after what was pushed already.
pub async fn day_after(
    rig: &Rig,
    day: &Workload,
    progress: &dyn Progress,
    pushed: &mut Pushed,
    oracle: &mut Oracle,
) -> Result<()> {
    refuse_the_poison(rig);
    stage(progress, "push: everything is new", async {
        pushed.push(rig, &day.opening, oracle).await?;
        Ok(((), format!("{} changes accepted", pushed.accepted)))
    })
    .await?;
    stage(progress, "wait until both targets have it", async {
        both(rig, oracle).await?;
        Ok(((), format!("loyalty {}, warehouse {}", rig.loyalty.accepted(), rig.warehouse.accepted())))
    })
    .await?;
    stage(progress, "push while loyalty is down (503, then gone)", async {
        let (first, second) = day.outage.split_at(day.outage.len() / 2);
        rig.loyalty.fail_with(503);
        pushed.push(rig, first, oracle).await?;
        rig.loyalty.take_down();
        pushed.push(rig, second, oracle).await?;
        Ok(((), format!("{} changes accepted", pushed.accepted)))
    })
    .await?;
    stage(progress, "the warehouse goes on meanwhile", async {
        wait(Duration::from_secs(60), "the warehouse waits for loyalty", || {
            let (got, want) = (rig.warehouse.accepted(), oracle.warehouse.count());
            async move { Ok(got >= want) }
        })
        .await?;
        Ok(((), format!("loyalty {}, warehouse {}", rig.loyalty.accepted(), rig.warehouse.accepted())))
    })
    .await?;
    stage(progress, "push good changes among bad ones", async {
        pushed.push(rig, &day.refusals, oracle).await?;
        let request = day.refusals.first().context("no request to turn away")?;
        pushed.turn_away(rig, request).await?;
        let refused: usize = pushed.refused.values().sum();
        Ok(((), format!("{refused} changes and {} requests refused", pushed.turned_away.len())))
    })
    .await?;
    stage(progress, "push records that cannot go on", async {
        pushed.push(rig, &day.failures, oracle).await?;
        Ok(((), format!("{} tickets to come", oracle.tickets.len())))
    })
    .await?;
    stage(progress, "bring loyalty back, resume it, push the closing", async {
        rig.loyalty.bring_back();
        // A probe would find it in a minute. Who knows that it is back need not wait.
        rig.ask("Loyalty", &json!("resume")).await?;
        pushed.push(rig, &day.closing, oracle).await?;
        pushed.again(rig).await?;
        Ok(((), format!("{} changes accepted", pushed.accepted)))
    })
    .await?;
    stage(progress, "wait until nothing moves", async {
        settle(rig, oracle).await?;
        let note = format!(
            "loyalty {}, warehouse {}, tickets {}",
            rig.loyalty.accepted(),
            rig.warehouse.accepted(),
            tickets(rig).await?.len()
        );
        Ok(((), note))
    })
    .await
}

/// Waits until both targets have as many deliveries as they must get.
pub async fn both(rig: &Rig, oracle: &Oracle) -> Result<()> {
    wait(Duration::from_secs(90), "not everything arrives", || {
        let loyalty = rig.loyalty.accepted() >= oracle.loyalty.count();
        let warehouse = rig.warehouse.accepted() >= oracle.warehouse.count();
        async move { Ok(loyalty && warehouse) }
    })
    .await
}

/// Waits until the queues are empty, all tickets are written and it stays so.
pub async fn settle(rig: &Rig, oracle: &Oracle) -> Result<()> {
    let mut quiet = 0;
    let limit = Duration::from_secs(180);
    let start = Instant::now();
    loop {
        let moving = in_flight(rig).await?;
        let missing = oracle.tickets.len().saturating_sub(tickets(rig).await?.len());
        quiet = if moving.is_empty() && missing == 0 { quiet + 1 } else { 0 };
        if quiet >= 4 {
            return Ok(());
        }
        if start.elapsed() > limit {
            // What is there is judged all the same; the differences say more than a time-out.
            return if moving.is_empty() {
                Ok(())
            } else {
                bail!("still in the queues after {limit:?}: {moving:?}")
            };
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// How many messages each queue that feeds a function holds.
pub async fn in_flight(rig: &Rig) -> Result<BTreeMap<String, usize>> {
    let mut moving = BTreeMap::new();
    let mut feeding = Vec::new();
    for logical_id in ["ChangesQueue", "EnrichmentQueue", "LoyaltyQueue", "WarehouseQueue"] {
        feeding.push((logical_id, rig.stack.queue_name(logical_id)?));
    }
    for held in rig.aws().held().await? {
        if let Some((logical_id, _)) = feeding.iter().find(|(_, name)| *name == held.queue) {
            *moving.entry((*logical_id).to_owned()).or_default() += 1;
        }
    }
    Ok(moving)
}

/// The tickets of records that were given up, as DynamoDB holds them.
pub async fn tickets(rig: &Rig) -> Result<Vec<Value>> {
    let mut tickets = all_tickets(rig).await?;
    tickets.retain(|ticket| ticket["dead_letter_queue"]["S"].is_string());
    Ok(tickets)
}

/// The tickets of what nothing was given up for: of targets that were away.
pub async fn outages(rig: &Rig) -> Result<Vec<Value>> {
    let mut tickets = all_tickets(rig).await?;
    tickets.retain(|ticket| !ticket["dead_letter_queue"]["S"].is_string());
    Ok(tickets)
}

async fn all_tickets(rig: &Rig) -> Result<Vec<Value>> {
    let mut items = rig.aws().scan(rig.stack.output("TicketTableName")?).await?;
    items.retain(|item| item["pk"]["S"].as_str().is_some_and(|pk| pk.starts_with("ticket#")));
    Ok(items)
}

/// Waits for a condition.
pub async fn wait<F, C>(limit: Duration, otherwise: &str, mut condition: F) -> Result<()>
where
    F: FnMut() -> C,
    C: Future<Output = Result<bool>>,
{
    let start = Instant::now();
    while !condition().await? {
        if start.elapsed() > limit {
            bail!("{otherwise} (after {limit:?})");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
