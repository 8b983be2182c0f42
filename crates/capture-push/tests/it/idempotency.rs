//! The same request again: what is in the queue once stays once, and every retry hears the same of it.

use serde_json::Value;
use sync_domain::ports::Kind;
use sync_testkit::Fault;

use crate::bench::{Bench, NOW, secret_of};
use crate::push::Push;

fn price(sku: &str, version: u32, amount: &str) -> String {
    format!(
        r#"{{"model":"price","operation":"update","key":{{"sku":"{sku}","currency":"EUR"}},"version":{version},"occurred_at":"2026-11-24T20:19:23Z","after":{{"sku":"{sku}","currency":"EUR","amount":{amount}}}}}"#
    )
}

fn setting(name: &str, value: &str) -> String {
    format!(
        r#"{{"model":"setting","operation":"update","key":{{"name":"{name}"}},"occurred_at":"2026-11-24T20:19:23Z","after":{{"name":"{name}","value":{value}}}}}"#
    )
}

fn list(changes: &[String]) -> String {
    format!(r#"{{"changes":[{}]}}"#, changes.join(","))
}

fn settings(id: &str, body: &str, at: i64) -> Push {
    Push::signed_with("backoffice", body, secret_of("backoffice"), id, at)
}

#[test]
fn a_change_with_a_version_has_one_deduplication_id_however_it_is_sent() {
    let bench = Bench::new();
    let first = bench.send(&Push::signed("shop", price("a", 7, "1.10")));
    // In another request, with the version as text and a trace context, without the queue remembering.
    bench.later(400);
    let again = price("a", 7, "1.10").replace("\"version\":7", "\"version\":\"007\"");
    let second = Push::signed_with("shop", again, secret_of("shop"), "msg_2", bench.now());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let second = bench.send(&second.with("traceparent", trace));
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.ids(), second.ids());
    let entries = bench.queue.entries();
    assert_eq!(entries.len(), 2, "the queue has forgotten the first, the targets' ledger will not");
    assert_eq!(entries[0].dedup, entries[1].dedup);
    assert_ne!(entries[0].body, entries[1].body, "the trace context differs");
}

#[test]
fn a_record_is_one_however_its_key_is_spelled() {
    let bench = Bench::new();
    let first = bench.send(&Push::signed("shop", price("a", 7, "1.10")));
    let spelled = price("a", 7, "1.10").replace("\"sku\":\"a\"", "\"sku\":\"\\u0061\"");
    assert_eq!(bench.send(&Push::signed("shop", spelled)).ids(), first.ids());
    assert!(bench.queue.entries().windows(2).all(|pair| pair[0].group == pair[1].group));
}

#[test]
fn another_content_under_one_version_reaches_the_queue_and_its_repeat_does_not() {
    let bench = Bench::new();
    let occurred = |at: &str| price("a", 7, "1.10").replace("20:19:23Z", at);
    let contents = [price("a", 7, "1.10"), price("a", 7, "1.20"), occurred("20:19:22Z")];
    for (round, expected) in [(0, 3), (1, 3)] {
        for (number, content) in contents.iter().enumerate() {
            let id = format!("msg_{round}_{number}");
            let push = Push::signed_with("shop", content.as_str(), secret_of("shop"), &id, bench.now());
            assert_eq!(bench.send(&push).status, 202);
        }
        assert_eq!(bench.queued().len(), expected, "round {round}");
    }
}

#[test]
fn three_retries_in_five_minutes_are_one_message() {
    let bench = Bench::new();
    for attempt in 0..3 {
        let push = Push::signed_with("shop", price("a", 7, "1.10"), secret_of("shop"), "msg_1", bench.now());
        assert_eq!(bench.send(&push).status, 202, "attempt {attempt}");
        bench.later(60);
    }
    assert_eq!(bench.queued().len(), 1);
}

#[test]
fn there_and_back_again_is_three_messages() {
    let bench = Bench::new();
    for (version, amount) in [(1, "1.10"), (2, "2.20"), (3, "1.10")] {
        bench.send(&Push::signed("shop", price("a", version, amount)));
    }
    assert_eq!(bench.queued().len(), 3);
}

#[test]
fn a_change_id_names_record_version_and_operation() {
    let bench = Bench::new();
    let base = price("a", 7, "1.10");
    let mut ids = Vec::new();
    for body in [
        base.clone(),
        price("b", 7, "1.10"),
        price("a", 8, "1.10"),
        base.replace("EUR", "USD"),
        base.replace("\"update\"", "\"create\""),
    ] {
        ids.extend(bench.send(&Push::signed("shop", body)).ids());
    }
    let mut distinct = ids.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!((ids.len(), distinct.len()), (5, 5));
    assert!(ids.iter().all(|id| id.len() == 47 && id.starts_with("evt_")));
    assert_eq!(
        bench.send(&Push::signed("shop", price("a", 7, "9.99"))).ids(),
        ids[..1],
        "the content is not part of it"
    );
}

#[test]
fn one_id_with_two_contents_in_a_request_is_refused() {
    let bench = Bench::new();
    let body =
        list(&[price("a", 7, "1.10"), price("a", 7, "1.20"), price("a", 7, "1.10"), price("b", 7, "1.20")]);
    let answer = bench.send(&Push::signed("shop", body));
    assert_eq!(answer.accepted(), [0, 2, 3]);
    assert_eq!(answer.rejected(), [(1, "version_conflict".to_owned())]);
    assert_eq!(bench.queued().len(), 2, "the equal one is there already");
}

#[test]
fn a_retry_after_a_lost_answer_is_answered_and_not_sent_again() {
    let bench = Bench::new();
    let body = list(&[setting("a", "1"), setting("b", "2")]);
    let first = bench.send(&settings("msg_1", &body, NOW));
    assert_eq!(first.status, 202);
    for wait in [1, 300, 86_400, 12 * 86_400] {
        bench.later(wait);
        let again = bench.send(&settings("msg_1", &body, bench.now()));
        assert_eq!((again.status, again.ids()), (202, first.ids()));
    }
    assert_eq!(bench.queued().len(), 2);
    assert_eq!(bench.queue.faults.calls(), 1, "the queue was not even asked");
}

#[test]
fn a_late_retry_does_not_become_the_newest_value() {
    let bench = Bench::new();
    bench.send(&settings("msg_1", &setting("a", "1"), NOW));
    bench.later(600);
    bench.send(&settings("msg_2", &setting("a", "2"), bench.now()));
    bench.send(&settings("msg_1", &setting("a", "1"), bench.now()));
    let last: Value = serde_json::from_str(bench.queued().last().unwrap()).unwrap();
    assert_eq!(last["after"]["value"], 2);
}

#[test]
fn only_what_the_queue_did_not_take_is_sent_again() {
    let bench = Bench::new();
    bench.queue.fault(Fault::Entries(vec![(1, Kind::Unavailable)]));
    let body = list(&[setting("a", "1"), setting("b", "2"), setting("c", "3")]);
    let first = bench.send(&settings("msg_1", &body, NOW));
    assert_eq!(first.accepted(), [0, 2]);
    assert_eq!(first.rejected(), [(1, "unavailable".to_owned())]);
    bench.later(200);
    let second = bench.send(&settings("msg_1", &body, bench.now()));
    assert_eq!((second.status, second.accepted()), (202, vec![0, 1, 2]));
    assert_eq!([&second.ids()[0], &second.ids()[2]], [&first.ids()[0], &first.ids()[1]]);
    assert_eq!(bench.queued().len(), 3);
    bench.later(900);
    bench.send(&settings("msg_1", &body, bench.now()));
    assert_eq!(bench.queued().len(), 3, "the second attempt was settled too");
}

#[test]
fn what_the_queue_did_not_take_does_not_become_the_newest_value_in_a_late_retry() {
    let bench = Bench::new();
    bench.queue.fault(Fault::Entries(vec![(1, Kind::Unavailable)]));
    let body = list(&[setting("a", "1"), setting("b", "1")]);
    let first = bench.send(&settings("msg_1", &body, NOW));
    assert_eq!((first.accepted(), first.rejected()), (vec![0], vec![(1, "unavailable".to_owned())]));
    bench.send(&settings("msg_2", &setting("b", "2"), NOW));
    for wait in [241, 86_400] {
        bench.later(wait);
        let late = bench.send(&settings("msg_1", &body, bench.now()));
        assert_eq!((late.status, late.ids()), (202, first.ids()), "what stands in the queue stays accepted");
        assert_eq!(late.rejected(), [(1, "retry_too_late".to_owned())]);
    }
    let last: Value = serde_json::from_str(bench.queued().last().unwrap()).unwrap();
    assert_eq!((bench.queued().len(), &last["after"]["value"]), (2, &Value::from(2)));
}

#[test]
fn a_late_retry_of_what_the_queue_took_nothing_of_is_refused_for_good() {
    let bench = Bench::new();
    bench.queue.fault(Fault::Call(Kind::Unavailable));
    assert_eq!(bench.send(&settings("msg_1", &setting("a", "1"), NOW)).status, 503);
    bench.later(241);
    let late = bench.send(&settings("msg_1", &setting("a", "1"), bench.now()));
    assert_eq!((late.status, late.rejected()), (422, vec![(0, "retry_too_late".to_owned())]));
    assert_eq!(bench.send(&settings("msg_2", &setting("a", "1"), bench.now())).status, 202);
}

#[test]
fn a_request_id_with_another_body_is_refused() {
    let bench = Bench::new();
    bench.send(&settings("msg_1", &setting("a", "1"), NOW));
    for other in [setting("a", "2"), format!("{} ", setting("a", "1")), list(&[setting("a", "1")])] {
        let answer = bench.send(&settings("msg_1", &other, NOW));
        assert_eq!((answer.status, answer.code()), (422, "webhook_id_reused"));
    }
    assert_eq!(bench.queued().len(), 1);
}

#[test]
fn a_request_that_was_refused_whole_does_not_use_up_its_id() {
    let bench = Bench::new();
    assert_eq!(bench.send(&settings("msg_1", "{}", NOW)).status, 422);
    assert_eq!(bench.send(&settings("msg_1", &setting("a", "1"), NOW)).status, 202);
}

#[test]
fn a_first_attempt_that_broke_off_goes_on_while_the_queue_remembers_and_not_later() {
    let bench = Bench::new();
    bench.receipts.settle_faults.outage(Kind::Unavailable);
    let first = bench.send(&settings("msg_1", &setting("a", "1"), NOW));
    assert_eq!(first.status, 202, "the change is in the queue, and that is what the answer says");
    bench.later(200);
    let soon = bench.send(&settings("msg_1", &setting("a", "1"), bench.now()));
    assert_eq!((soon.status, soon.ids()), (202, first.ids()));
    bench.later(400);
    let late = bench.send(&settings("msg_1", &setting("a", "1"), bench.now()));
    assert_eq!((late.status, late.code()), (422, "outcome_unknown"));
    assert_eq!(bench.queued().len(), 1);
}

#[test]
fn two_sources_may_use_the_same_request_id() {
    let bench = Bench::new();
    let first = bench.send(&settings("msg_1", &setting("a", "1"), NOW));
    let second = bench.send(&Push::signed_with("shop", price("a", 1, "1"), secret_of("shop"), "msg_1", NOW));
    assert_eq!((first.status, second.status), (202, 202));
    assert!(first.ids()[0].starts_with("chg_"));
    assert_eq!(bench.receipts.rows().len(), 1, "only the source without versions needs receipts");
}

#[test]
fn a_receipt_holds_no_plain_hash_of_the_body() {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

    let bench = Bench::new();
    let body = setting("a", "1");
    bench.send(&settings("msg_1", &body, NOW));
    let plain = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
    let hex: String = plain.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let row = format!("{:?}", bench.receipts.rows());
    for form in [hex, URL_SAFE_NO_PAD.encode(plain), STANDARD_NO_PAD.encode(plain)] {
        assert!(!row.contains(&form));
    }
}
