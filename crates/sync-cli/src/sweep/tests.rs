use std::collections::BTreeSet;
use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::{Value, json};
use sync_domain::delivery::ledger::{Arrival, accepted};
use sync_domain::event::ReceivedEvent;
use sync_domain::id::RecordId;
use sync_domain::ports::{Kind, Whose};
use sync_testkit::{Fault, MemoryLedger, MemoryTopic};

use super::*;

const MODELS: [&str; 2] = ["customer", "price"];

/// A function that lists what its source has, a few ids at a time.
#[derive(Debug, Default)]
struct Function {
    epoch: u32,
    rids: BTreeSet<(&'static str, String)>,
    /// How often it waits before it lists anything.
    waits: Mutex<u32>,
    asked: Mutex<Vec<String>>,
}

impl Function {
    fn answer(&self, request: &Value) -> Value {
        if request["work"] == "status" {
            return json!({"read": true, "stopped": null, "held": false, "epoch": self.epoch, "revision": 1});
        }
        let asked = &request["work"]["record_ids"];
        let mut waits = self.waits.lock().unwrap();
        if *waits > 0 {
            *waits -= 1;
            return json!({"state": "waiting", "epoch": 0, "rids": []});
        }
        let of_model = self.rids.iter().filter(|(model, _)| asked["model"] == *model);
        let rids: Vec<&String> = of_model.map(|(_, rid)| rid).collect();
        let from = 3 * usize::try_from(asked["part"].as_u64().unwrap()).unwrap();
        let part = rids.get(from..).unwrap_or_default();
        let state = if part.len() > 3 { "running" } else { "done" };
        json!({"state": state, "epoch": self.epoch, "rids": part.iter().take(3).collect::<Vec<_>>()})
    }
}

#[async_trait]
impl Invoke for Function {
    async fn invoke(&self, payload: &str) -> ports::Result<Result<String, String>> {
        self.asked.lock().unwrap().push(payload.to_owned());
        Ok(Ok(self.answer(&serde_json::from_str(payload).unwrap()).to_string()))
    }
}

/// A row of a record at a target.
fn row(target: &str, model: &str, number: usize, version: Version) -> LedgerRow {
    let whose = Whose {
        target: target.parse().unwrap(),
        source: "crm-db".parse().unwrap(),
        model: model.parse().unwrap(),
        rid: RecordId::from_wire(format!("{model}-{number:03}")),
    };
    let arrival = Arrival { version, digest: Some("digest"), force: false };
    LedgerRow { whose: Some(whose), ..accepted(&arrival, &format!(r#"{{"id":{number}}}"#), 1, 0) }
}

fn old() -> Version {
    Version::from_log(0, 7, 7)
}

/// Records 0 to 29 of each model at two targets, all from before the epoch; the source has those of even numbers.
fn world() -> (Function, MemoryLedger, MemoryTopic) {
    let (mut function, ledger) = (Function { epoch: 1, ..Function::default() }, MemoryLedger::new());
    for model in MODELS {
        for number in 0..30 {
            for target in ["loyalty", "warehouse"] {
                ledger.set(&format!("{model} {number} {target}"), row(target, model, number, old()));
            }
            if number % 2 == 0 {
                function.rids.insert((model, format!("{model}-{number:03}")));
            }
        }
    }
    (function, ledger, MemoryTopic::new())
}

fn parts(function: Function, ledger: &MemoryLedger, topic: &MemoryTopic) -> Parts {
    let policy = |model: &str| {
        let yaml = format!("model: {model}\nkey: [id]\nattributes:\n  id: {{ class: identifier }}\n");
        CompiledPolicy::compile(&serde_saphyr::from_str(&yaml).unwrap(), "0123456789abcdef").unwrap()
    };
    Parts {
        function: Box::new(function),
        ledger: Box::new(ledger.clone()),
        topic: Box::new(topic.clone()),
        policies: MODELS.map(|model| (model.parse().unwrap(), policy(model))).into(),
    }
}

async fn swept(parts: &Parts, count: bool) -> (Result<Swept, Error>, String) {
    let mut out = Vec::new();
    let swept = sweep(parts, &"crm-db".parse().unwrap(), count, &mut out).await;
    (swept, String::from_utf8(out).unwrap())
}

/// What was removed: target, record.
fn removed(topic: &MemoryTopic) -> BTreeSet<(String, String)> {
    let read = |event: &Event| {
        let event = ReceivedEvent::read(event.body()).unwrap().envelope;
        (event.only.unwrap().into_owned(), event.rid.as_str().to_owned())
    };
    topic.published().iter().map(read).collect()
}

#[tokio::test]
async fn what_the_source_does_not_list_is_removed_and_nothing_else() {
    let (function, ledger, topic) = world();
    let swept = swept(&parts(function, &ledger, &topic), false).await.0.unwrap();
    assert_eq!(swept, Swept { removed: 60, behind: 60, ..Swept::default() });
    let odd = |target: &'static str| {
        let of = move |model: &'static str| {
            (1..30).step_by(2).map(move |number| (target.to_owned(), format!("{model}-{number:03}")))
        };
        MODELS.into_iter().flat_map(of)
    };
    assert_eq!(removed(&topic), odd("loyalty").chain(odd("warehouse")).collect());
}

#[tokio::test]
async fn a_ledger_of_any_size_is_worked_in_shares_of_rows() {
    let (function, ledger, topic) = world();
    let parts = parts(function, &ledger, &topic);
    let source = "crm-db".parse().unwrap();
    let rules = Rules { source: &source, version: Version::before_epoch(1).unwrap(), run: "r", began: "" };
    let swept = Swept::default();
    let mut sweeping = Sweeping { parts: &parts, rules, epoch: 1, count: false, lists: 0, swept };
    sweeping.all(10).await.unwrap();
    assert_eq!((sweeping.swept.removed, sweeping.swept.behind), (60, 60));
    assert!(sweeping.lists >= 8, "{} lists, each for some rows alone", sweeping.lists);
    assert_eq!(removed(&topic).len(), 60);
}

#[tokio::test]
async fn a_count_publishes_nothing() {
    let (function, ledger, topic) = world();
    let (counted, told) = swept(&parts(function, &ledger, &topic), true).await;
    assert_eq!((counted.unwrap().removed, topic.published().len()), (60, 0));
    assert!(told.contains("60 deletions to publish"), "{told}");
}

#[tokio::test]
async fn what_cannot_be_judged_is_counted_and_told() {
    let (mut function, ledger, topic) = world();
    function.rids.clear();
    ledger.set("unnamed", LedgerRow { whose: None, ..row("loyalty", "customer", 90, old()) });
    let gone = LedgerRow { whose: None, deleted: true, ..row("loyalty", "customer", 90, old()) };
    ledger.set("unnamed and gone", gone);
    ledger.set("no key", LedgerRow { key: "?".to_owned(), ..row("loyalty", "customer", 91, old()) });
    ledger.set("no model", row("loyalty", "store", 92, old()));
    let new = row("loyalty", "customer", 93, Version::from_decimal(1, "0").unwrap());
    ledger.set("new", new.clone());
    ledger.set("gone", LedgerRow { deleted: true, ..row("loyalty", "customer", 94, old()) });
    let mut other = new;
    other.whose.as_mut().unwrap().source = "shop".parse().unwrap();
    ledger.set("other", LedgerRow { version: old(), ..other });
    let (swept, told) = swept(&parts(function, &ledger, &topic), false).await;
    assert_eq!(swept.unwrap(), Swept { removed: 120, behind: 0, settled: 2, unnamed: 1, unjudged: 2 });
    assert!(told.contains("120 deletions published") && told.contains("2 rows of the ledger are settled"));
    assert!(told.contains("1 rows of the ledger do not say of what"), "{told}");
    assert!(told.contains("2 rows of the ledger have a key that cannot be read"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_waits_is_asked_for_again_and_one_that_waits_for_ever_is_given_up() {
    let (function, ledger, topic) = world();
    *function.waits.lock().unwrap() = 3;
    assert!(swept(&parts(function, &ledger, &topic), false).await.0.is_ok());
    let (function, ledger, topic) = world();
    *function.waits.lock().unwrap() = 1_000;
    let given_up = swept(&parts(function, &ledger, &topic), false).await.0;
    assert!(matches!(given_up, Err(Error::Waits)), "{given_up:?}");
    assert_eq!(topic.published(), [], "what was not listed is not gone");
}

#[tokio::test]
async fn a_deletion_that_the_topic_refuses_ends_the_sweep_and_the_next_one_sends_it() {
    let (function, ledger, topic) = world();
    let parts = parts(function, &ledger, &topic);
    topic.fault(Fault::Call(Kind::Refused));
    assert!(matches!(swept(&parts, false).await.0, Err(Error::Topic(_))));
    assert!(removed(&topic).len() < 60);
    swept(&parts, false).await.0.unwrap();
    assert_eq!(removed(&topic).len(), 60);
}

#[tokio::test]
async fn without_a_resync_there_is_nothing_to_sweep() {
    let (function, ledger, topic) = world();
    let parts = parts(Function { epoch: 0, ..function }, &ledger, &topic);
    assert!(matches!(swept(&parts, false).await.0, Err(Error::NoEpoch)));
}

#[tokio::test]
async fn a_second_resync_ends_a_sweep() {
    let (function, ledger, topic) = world();
    let parts = parts(function, &ledger, &topic);
    let source = "crm-db".parse().unwrap();
    let rules = Rules { source: &source, version: Version::before_epoch(2).unwrap(), run: "r", began: "" };
    let swept = Swept::default();
    let mut sweeping = Sweeping { parts: &parts, rules, epoch: 2, count: false, lists: 0, swept };
    assert!(matches!(sweeping.all(ROWS).await, Err(Error::OtherEpoch)));
    assert_eq!(topic.published(), []);
}

#[tokio::test]
async fn a_list_is_asked_for_as_the_function_reads_it() {
    let function = Function { epoch: 1, ..Function::default() };
    let (model, run) = ("pos_price".parse().unwrap(), "run-1795573790-0");
    let work = Work::RecordIds { model: &model, run, part: 0 };
    let _: Listed = ask(&function, &"pos-prices".parse().unwrap(), Some(work)).await.unwrap();
    // The function's own tests read the same payload.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/capture-pull/record-ids.json");
    assert_eq!(function.asked.lock().unwrap()[0], std::fs::read_to_string(file).unwrap().trim_end());
}
