//! Failures of the queue and of what else stands behind the endpoint.

use sync_domain::change::Change;
use sync_domain::ports::Kind;
use sync_domain::scan::Limits;
use sync_domain::version::Version;
use sync_testkit::Fault;

use crate::bench::{Bench, NOW, OTHER_SECRET, secret_of};
use crate::push::Push;

fn price(sku: &str, version: u32) -> String {
    format!(
        r#"{{"model":"price","operation":"update","key":{{"sku":"{sku}","currency":"EUR"}},"version":{version},"occurred_at":"2026-11-24T20:19:23Z","after":{{"sku":"{sku}","currency":"EUR","amount":1}}}}"#
    )
}

fn list(changes: &[String]) -> Push {
    Push::signed("shop", format!(r#"{{"changes":[{}]}}"#, changes.join(",")))
}

#[test]
fn accepted_is_only_what_the_queue_has_confirmed() {
    let bench = Bench::new();
    bench.queue.fault(Fault::Entries(vec![(1, Kind::Unavailable), (3, Kind::Refused)]));
    let changes: Vec<_> = ["a", "b", "c", "d", "e"].map(|sku| price(sku, 1)).into();
    let answer = bench.send(&list(&changes));
    assert_eq!((answer.status, answer.accepted()), (202, vec![0, 2, 4]));
    assert_eq!(answer.rejected(), [(1, "unavailable".to_owned()), (3, "unavailable".to_owned())]);
    assert_eq!(bench.queued().len(), 3);
}

#[test]
fn nothing_behind_a_failed_change_of_the_same_record_is_accepted() {
    let bench = Bench::new();
    bench.queue.fault(Fault::Entries(vec![(0, Kind::Unavailable)]));
    let answer = bench.send(&list(&[price("a", 1), price("b", 1), price("a", 2), price("a", 3)]));
    assert_eq!(answer.accepted(), [1]);
    assert_eq!(answer.rejected().iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 2, 3]);
}

#[test]
fn all_changes_go_in_one_call_in_the_order_of_the_request() {
    let bench = Bench::new();
    let changes: Vec<_> = (0..1_000).map(|version| price(&format!("s{}", version % 10), version)).collect();
    let answer = bench.send(&list(&changes));
    assert_eq!((answer.status, answer.accepted().len()), (202, 1_000));
    assert_eq!(bench.queue.faults.calls(), 1);
    let versions: Vec<_> = bench
        .queued()
        .iter()
        .map(|body| {
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            body["version"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(versions.is_sorted());
}

#[test]
fn a_hundred_changes_of_one_record_pass_and_no_more() {
    let bench = Bench::new();
    let mut changes: Vec<_> = (1..=102).map(|version| price("a", version)).collect();
    changes.insert(50, price("b", 1));
    let answer = bench.send(&list(&changes));
    assert_eq!((answer.status, answer.accepted()), (202, (0..101).collect()));
    let refused = |index| (index, "too_many_for_one_record".to_owned());
    assert_eq!(answer.rejected(), [refused(101), refused(102)]);
    let last = Change::read(bench.queued().last().unwrap(), &Limits::default()).unwrap().version;
    assert_eq!(last, Version::from_decimal(0, "100").ok(), "the later ones, not the earlier, stay behind");
}

#[test]
fn when_the_queue_takes_none_the_sender_shall_come_again() {
    for fault in [Fault::Call(Kind::Unavailable), Fault::Call(Kind::Refused), Fault::Lost] {
        let bench = Bench::new();
        bench.queue.fault(fault.clone());
        let answer = bench.send(&list(&[price("a", 1), price("b", 1)]));
        assert_eq!(answer.status, 503, "{fault:?}");
        assert_eq!(answer.response.headers["retry-after"], "5");
        assert_eq!(answer.rejected(), [(0, "unavailable".to_owned()), (1, "unavailable".to_owned())]);
        // The retry ends with each change once, whatever became of the first attempt.
        assert_eq!(bench.send(&list(&[price("a", 1), price("b", 1)])).status, 202);
        assert_eq!(bench.queued().len(), 2, "{fault:?}");
    }
}

#[test]
fn refused_and_unavailable_together_are_worth_a_retry() {
    let bench = Bench::new();
    bench.queue.fault(Fault::Call(Kind::Unavailable));
    let answer = bench.send(&list(&["{}".to_owned(), price("b", 1)]));
    assert_eq!(answer.status, 503);
    assert_eq!(answer.rejected(), [(0, "missing_member".to_owned()), (1, "unavailable".to_owned())]);
}

#[test]
fn a_request_of_forbidden_models_only_is_forbidden() {
    let bench = Bench::new();
    let other = price("a", 1).replace("\"price\"", "\"customer\"");
    assert_eq!(bench.send(&list(&[other.clone(), other.clone()])).status, 403);
    assert_eq!(bench.send(&list(&[other.clone(), "{}".to_owned()])).status, 422);
    assert_eq!(bench.send(&list(&[other, price("a", 1)])).status, 202);
}

#[test]
fn without_the_secret_nobody_is_let_in_and_nobody_is_turned_away() {
    let bench = Bench::new();
    bench.secrets.faults.outage(Kind::Unavailable);
    let answer = bench.send(&Push::signed("shop", price("a", 1)));
    assert_eq!((answer.status, answer.code()), (503, "unavailable"));
    assert_eq!(answer.response.headers["retry-after"], "5");
    bench.secrets.faults.recover();
    bench.secrets.set("s/shop", "not a secret");
    assert_eq!(bench.send(&Push::signed("shop", price("a", 1))).status, 503);
    assert_eq!(bench.queued().len(), 0);
}

#[test]
fn without_the_key_of_record_ids_nothing_is_sent() {
    let bench = Bench::new();
    bench.keys.faults.outage(Kind::Unavailable);
    assert_eq!(bench.send(&Push::signed("shop", price("a", 1))).status, 503);
    bench.keys.faults.recover();
    assert_eq!(bench.send(&Push::signed("shop", price("a", 1))).status, 202);
    bench.send(&Push::signed("shop", price("b", 1)));
    assert_eq!(bench.keys.faults.calls(), 2, "once it is there it is kept");
}

#[test]
fn without_the_receipt_table_nothing_is_sent() {
    let bench = Bench::new();
    bench.receipts.claim_faults.outage(Kind::Unavailable);
    let body =
        r#"{"model":"setting","operation":"delete","key":{"name":"a"},"occurred_at":"2026-11-24T20:19:23Z"}"#;
    assert_eq!(bench.send(&Push::signed("backoffice", body)).status, 503);
    assert_eq!(bench.queued().len(), 0);
    bench.receipts.claim_faults.recover();
    assert_eq!(bench.send(&Push::signed("backoffice", body)).status, 202);
}

#[test]
fn a_changed_secret_is_seen_with_the_first_signature_that_needs_it() {
    let bench = Bench::new();
    assert_eq!(bench.send(&Push::signed("shop", price("a", 1))).status, 202);
    bench
        .secrets
        .set("s/shop", &format!(r#"{{"current":"{OTHER_SECRET}","previous":"{}"}}"#, secret_of("shop")));
    let new = Push::signed_with("shop", price("a", 2), OTHER_SECRET, "msg_2", NOW);
    assert_eq!(bench.send(&new).status, 202);
    assert_eq!(bench.send(&Push::signed("shop", price("a", 3))).status, 202, "the older secret lives on");
    bench.secrets.set("s/shop", OTHER_SECRET);
    let reads = bench.secrets.faults.calls();
    assert_eq!(bench.send(&Push::signed("shop", price("a", 4))).status, 202, "until the cache ends");
    assert_eq!(bench.secrets.faults.calls(), reads);
    let third = "whsec_dGhpcyBzZWNyZXQgaXMgbm90IGluIHVzZSE=";
    assert_eq!(bench.send(&Push::signed_with("shop", price("a", 5), third, "msg_3", NOW)).status, 401);
    assert_eq!(bench.secrets.faults.calls(), reads + 1, "read again once");
    assert_eq!(
        bench.send(&Push::signed("shop", price("a", 6))).status,
        401,
        "now it is seen that the older one ended"
    );
}
