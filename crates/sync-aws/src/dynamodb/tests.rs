use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemOutput;
use aws_sdk_dynamodb::operation::describe_table::DescribeTableOutput;
use aws_sdk_dynamodb::operation::get_item::GetItemOutput;
use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemOutput};
use aws_sdk_dynamodb::operation::scan::ScanOutput;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;
use aws_sdk_dynamodb::types::{
    AttributeValue, KeySchemaElement, KeyType, KeysAndAttributes, StreamSpecification, StreamViewType,
    TableDescription,
};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use sync_domain::delivery::breaker::{Breaker, Failing, Halt, State};
use sync_domain::delivery::limit::{Claimed, Limit, Meter};
use sync_domain::id::{RecordId, SourceId, TargetId};
use sync_domain::outcome::{FailureEvent, Reason, Stage};
use sync_domain::ports::{
    Checkpoint, Checkpoints, ItemTable, Items, KeyTable, Kind, Lease, Ledger, LedgerRow, LedgerRows,
    LookupTable, Meters, Receipt, Receipts, TableShape, Taken, Ticket, Tickets, Whose,
};
use sync_domain::version::Version;

use super::item::{Item, number, text};
use super::*;

fn client(rules: &[&Rule]) -> Client {
    mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, rules, |conf| conf.retry_config(crate::error::quick()))
}

fn version(position: &str) -> Version {
    Version::from_decimal(0, position).unwrap()
}

fn row(position: &str) -> LedgerRow {
    LedgerRow {
        version: version(position),
        digest: Some("digest".to_owned()),
        deleted: false,
        key: "{\"id\":1}".to_owned(),
        tries: 2,
        expires_at: None,
        whose: None,
    }
}

fn stored(key: &str, position: &str) -> Item {
    Item::from([
        ("pk".to_owned(), text(key)),
        ("version".to_owned(), text(version(position).as_str())),
        ("digest".to_owned(), text("digest")),
        ("deleted".to_owned(), AttributeValue::Bool(false)),
        ("key".to_owned(), text("{\"id\":1}")),
        ("tries".to_owned(), number(2)),
    ])
}

fn asked(keys: &KeysAndAttributes) -> Vec<String> {
    keys.keys().iter().map(|key| key["pk"].as_s().unwrap().clone()).collect()
}

fn condition_failed(item: Option<Item>) -> PutItemError {
    let meta =
        aws_sdk_dynamodb::error::ErrorMetadata::builder().code("ConditionalCheckFailedException").build();
    let failed = ConditionalCheckFailedException::builder().set_item(item).meta(meta);
    PutItemError::ConditionalCheckFailedException(failed.build())
}

fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn rows_are_read_consistently_and_answered_in_the_order_of_the_keys() {
    let rule = mock!(Client::batch_get_item)
        .match_requests(|input| {
            let request = &input.request_items().unwrap()["ledger"];
            // A key that is asked for twice is sent once: the service refuses doubles.
            request.consistent_read() == Some(true) && asked(request) == ["b", "none", "a"]
        })
        .then_output(|| {
            let rows = vec![stored("a", "1"), stored("b", "2")];
            BatchGetItemOutput::builder().responses("ledger", rows).build()
        });
    let ledger = DynamoLedger::new(client(&[&rule]), "ledger");
    let rows: Vec<_> =
        ledger.read(&keys(&["b", "none", "a", "b"])).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(rows, [Some(row("2")), None, Some(row("1")), Some(row("2"))]);
}

#[tokio::test]
async fn unprocessed_keys_are_asked_for_again() {
    let rule = mock!(Client::batch_get_item)
        .sequence()
        .output(|| {
            let left = KeysAndAttributes::builder()
                .keys(Item::from([("pk".to_owned(), text("b"))]))
                .build()
                .unwrap();
            let some = BatchGetItemOutput::builder().responses("ledger", vec![stored("a", "1")]);
            some.unprocessed_keys("ledger", left).build()
        })
        .output(|| BatchGetItemOutput::builder().responses("ledger", vec![stored("b", "2")]).build())
        .build();
    let ledger = DynamoLedger::new(client(&[&rule]), "ledger");
    let rows: Vec<_> = ledger.read(&keys(&["a", "b"])).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(rows, [Some(row("1")), Some(row("2"))]);
}

#[tokio::test]
async fn a_key_that_stays_unprocessed_is_a_failure_and_not_an_absent_row() {
    let rule = mock!(Client::batch_get_item)
        .sequence()
        .output(|| {
            let left = KeysAndAttributes::builder()
                .keys(Item::from([("pk".to_owned(), text("b"))]))
                .build()
                .unwrap();
            let some = BatchGetItemOutput::builder().responses("ledger", vec![stored("a", "1")]);
            some.unprocessed_keys("ledger", left).build()
        })
        .repeatedly()
        .build();
    let ledger = DynamoLedger::new(client(&[&rule]), "ledger");
    let rows = ledger.read(&keys(&["a", "b", "c"])).await;
    assert_eq!(rows[0].as_ref().unwrap(), &Some(row("1")));
    assert_eq!(rows[1].as_ref().unwrap_err().kind, Kind::Unavailable);
    assert_eq!(rows[2].as_ref().unwrap(), &None);
    assert_eq!(rule.num_calls(), 4);
}

#[tokio::test]
async fn more_than_a_hundred_keys_take_more_calls() {
    let rule = mock!(Client::batch_get_item).then_compute_output(|input| {
        let wanted = asked(&input.request_items().unwrap()["ledger"]);
        assert!(wanted.len() <= 100);
        let rows = wanted.iter().map(|key| stored(key, "1")).collect();
        BatchGetItemOutput::builder().responses("ledger", rows).build()
    });
    let names: Vec<String> = (0..205).map(|n| format!("k{n}")).collect();
    let rows = DynamoLedger::new(client(&[&rule]), "ledger").read(&names).await;
    assert!(rows.iter().all(|row| matches!(row, Ok(Some(_)))) && rows.len() == 205);
    assert_eq!(rule.num_calls(), 3);
}

#[tokio::test]
async fn a_failed_read_fails_every_key() {
    let body =
        r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}"#.to_owned();
    let rule = mock!(Client::batch_get_item).sequence().http_status(400, Some(body)).repeatedly().build();
    let rows = DynamoLedger::new(client(&[&rule]), "ledger").read(&keys(&["a", "b"])).await;
    for row in rows {
        assert_eq!(row.unwrap_err().kind, Kind::Unavailable);
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_not_taken_for_none() {
    let rule = mock!(Client::batch_get_item).then_output(|| {
        let bad = Item::from([("pk".to_owned(), text("a")), ("version".to_owned(), text("7"))]);
        BatchGetItemOutput::builder().responses("ledger", vec![bad]).build()
    });
    let rows = DynamoLedger::new(client(&[&rule]), "ledger").read(&keys(&["a"])).await;
    assert_eq!(rows[0].as_ref().unwrap_err().code, "BadRow");
}

#[tokio::test]
async fn a_mark_never_goes_back() {
    let rule = mock!(Client::put_item)
        .match_requests(|input| {
            let item = input.item().unwrap();
            let versions = input.expression_attribute_values().unwrap();
            input.condition_expression() == Some("attribute_not_exists(#pk) OR #version <= :version")
                && versions[":version"] == text(version("5").as_str())
                && item["version"] == versions[":version"]
                && item["pk"] == text("k")
                && item["tries"] == number(2)
                && !item.contains_key("expires_at")
        })
        .sequence()
        .output(|| PutItemOutput::builder().build())
        .error(|| condition_failed(None))
        .build();
    let ledger = DynamoLedger::new(client(&[&rule]), "ledger");
    assert!(ledger.mark("k", &row("5")).await.unwrap());
    assert!(!ledger.mark("k", &row("5")).await.unwrap());
}

#[tokio::test]
async fn a_tombstone_has_an_end_and_no_digest() {
    let rule = mock!(Client::put_item)
        .match_requests(|input| {
            let item = input.item().unwrap();
            item["deleted"] == AttributeValue::Bool(true)
                && item["expires_at"] == number(1_800_000_000)
                && !item.contains_key("digest")
        })
        .then_output(|| PutItemOutput::builder().build());
    let tombstone = LedgerRow { deleted: true, digest: None, expires_at: Some(1_800_000_000), ..row("6") };
    assert!(DynamoLedger::new(client(&[&rule]), "ledger").mark("k", &tombstone).await.unwrap());
}

#[tokio::test]
async fn a_row_says_whose_it_is_and_one_of_before_does_not() {
    let whose = Whose {
        target: "loyalty".parse().unwrap(),
        source: "crm-db".parse().unwrap(),
        model: "customer".parse().unwrap(),
        rid: RecordId::from_wire("rid-1"),
    };
    let row = LedgerRow { whose: Some(whose), ..row("5") };
    let named = |mut item: Item| {
        for (name, value) in
            [("target", "loyalty"), ("source", "crm-db"), ("model", "customer"), ("rid", "rid-1")]
        {
            item.insert(name.to_owned(), text(value));
        }
        item
    };
    let put = mock!(Client::put_item)
        .match_requests(move |input| input.item() == Some(&named(stored("a", "5"))))
        .then_output(|| PutItemOutput::builder().build());
    let get = mock!(Client::batch_get_item).then_output(move || {
        let rows = vec![named(stored("a", "5")), stored("b", "5")];
        BatchGetItemOutput::builder().responses("ledger", rows).build()
    });
    let ledger = DynamoLedger::new(client(&[&put, &get]), "ledger");
    assert!(ledger.mark("a", &row).await.unwrap());
    let rows = ledger.read(&keys(&["a", "b"])).await;
    assert_eq!(rows[0].as_ref().unwrap(), &Some(row.clone()));
    assert_eq!(rows[1].as_ref().unwrap(), &Some(LedgerRow { whose: None, ..row }));
}

#[tokio::test]
async fn the_records_of_the_whole_ledger_come_page_by_page() {
    let page = |asked: Option<&'static str>, key: &'static str, last: Option<&'static str>| {
        mock!(Client::scan)
            .match_requests(move |input| {
                let from = input.exclusive_start_key().map(|key| key["pk"].as_s().unwrap().as_str());
                input.table_name() == Some("ledger") && input.consistent_read() == Some(true) && from == asked
            })
            .then_output(move || {
                let last = last.map(|key| Item::from([("pk".to_owned(), text(key))]));
                let [breaker, ..] = breakers().map(|row| super::breaker::item(&target(), &row));
                let items = ScanOutput::builder().items(stored(key, "5")).items(breaker);
                items.set_last_evaluated_key(last).build()
            })
    };
    let broken = Item::from([("pk".to_owned(), text("z"))]);
    let bad = mock!(Client::scan)
        .match_requests(|input| input.exclusive_start_key().is_some_and(|key| key["pk"] == text("bad")))
        .then_output(move || ScanOutput::builder().items(broken.clone()).build());
    let ledger = [&page(None, "a", Some("a")), &page(Some("a"), "b", None), &bad];
    let ledger = DynamoLedger::new(client(&ledger), "ledger");
    let first = ledger.page(None).await.unwrap();
    assert_eq!((first.rows, first.next.as_deref()), (vec![row("5")], Some("a")));
    let last = ledger.page(Some("a")).await.unwrap();
    assert_eq!((last.rows.len(), last.next), (1, None));
    let bad = ledger.page(Some("bad")).await.unwrap_err();
    assert_eq!(
        (bad.kind, bad.code.as_str()),
        (Kind::Refused, "BadRow"),
        "a row that is passed over is missed"
    );
}

#[tokio::test]
async fn a_failed_mark_is_neither_done_nor_stale() {
    let body = r#"{"__type":"InternalServerError"}"#.to_owned();
    let rule = mock!(Client::put_item).sequence().http_status(500, Some(body)).repeatedly().build();
    let error = DynamoLedger::new(client(&[&rule]), "ledger").mark("k", &row("5")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
}

#[tokio::test]
async fn a_wrapped_key_comes_back_as_it_was_written() {
    let item = || {
        Item::from([
            ("pk".to_owned(), text("key-1")),
            ("model".to_owned(), text("customer")),
            ("attribute".to_owned(), text("national_id")),
            ("wrapped".to_owned(), AttributeValue::B(Blob::new([7; 3]))),
        ])
    };
    let put = mock!(Client::put_item)
        .match_requests(move |input| input.table_name() == Some("keys") && input.item() == Some(&item()))
        .then_output(|| PutItemOutput::builder().build());
    let get = mock!(Client::get_item)
        .match_requests(|input| {
            input.key().unwrap()["pk"] == text("key-1") && input.consistent_read() == Some(true)
        })
        .then_output(move || GetItemOutput::builder().set_item(Some(item())).build());
    let table = DynamoKeyTable::new(client(&[&put, &get]), "keys");
    table.put("key-1", "customer", "national_id", &[7; 3]).await.unwrap();
    let wrapped = table.get("key-1").await.unwrap();
    assert_eq!(wrapped, Some(("customer".to_owned(), "national_id".to_owned(), vec![7; 3])));
    let none = mock!(Client::get_item).then_output(|| GetItemOutput::builder().build());
    assert_eq!(DynamoKeyTable::new(client(&[&none]), "keys").get("key-2").await.unwrap(), None);
}

fn receipt_item(accepted: Option<Vec<usize>>) -> Item {
    let mut item = Item::from([("pk".to_owned(), text("r")), ("body_hash".to_owned(), text("h"))]);
    if let Some(accepted) = accepted {
        item.insert("settled".to_owned(), AttributeValue::Bool(true));
        let accepted: Vec<String> = accepted.iter().map(usize::to_string).collect();
        if !accepted.is_empty() {
            item.insert("accepted".to_owned(), AttributeValue::Ns(accepted));
        }
    }
    item
}

#[tokio::test]
async fn a_request_is_claimed_once() {
    let rule = mock!(Client::put_item)
        .match_requests(|input| {
            input.condition_expression() == Some("attribute_not_exists(#pk)")
                && input.item().unwrap()["expires_at"] == number(1_800_000_000)
        })
        .sequence()
        .output(|| PutItemOutput::builder().build())
        .error(|| condition_failed(Some(receipt_item(None))))
        .error(|| condition_failed(Some(receipt_item(Some(vec![2, 0])))))
        .error(|| condition_failed(Some(receipt_item(Some(Vec::new())))))
        .build();
    let receipts = DynamoReceipts::new(client(&[&rule]), "receipts");
    let claim = || receipts.claim("r", "h", 1_800_000_000);
    assert_eq!(claim().await.unwrap(), None);
    assert_eq!(claim().await.unwrap(), Some(Receipt { body_hash: "h".to_owned(), accepted: None }));
    assert_eq!(
        claim().await.unwrap(),
        Some(Receipt { body_hash: "h".to_owned(), accepted: Some(vec![0, 2]) })
    );
    let nothing_confirmed = Receipt { body_hash: "h".to_owned(), accepted: Some(Vec::new()) };
    assert_eq!(claim().await.unwrap(), Some(nothing_confirmed));
}

#[tokio::test]
async fn a_standing_receipt_is_read_where_the_refusal_does_not_carry_it() {
    let put = mock!(Client::put_item).then_error(|| condition_failed(None));
    let get = mock!(Client::get_item)
        .match_requests(|input| input.consistent_read() == Some(true))
        .then_output(|| GetItemOutput::builder().set_item(Some(receipt_item(Some(vec![1])))).build());
    let receipts = DynamoReceipts::new(client(&[&put, &get]), "receipts");
    let receipt = receipts.claim("r", "h", 1).await.unwrap();
    assert_eq!(receipt, Some(Receipt { body_hash: "h".to_owned(), accepted: Some(vec![1]) }));
}

#[tokio::test]
async fn a_receipt_is_settled_with_what_was_confirmed() {
    let rule = mock!(Client::update_item)
        .match_requests(|input| {
            let values = input.expression_attribute_values().unwrap();
            input.key().unwrap()["pk"] == text("r")
                && input.update_expression() == Some("SET #settled = :yes ADD #accepted :accepted")
                && values[":accepted"] == AttributeValue::Ns(vec!["0".to_owned(), "3".to_owned()])
        })
        .then_output(|| UpdateItemOutput::builder().build());
    DynamoReceipts::new(client(&[&rule]), "receipts").settle("r", &[0, 3]).await.unwrap();
    let nothing = mock!(Client::update_item)
        .match_requests(|input| {
            input.update_expression() == Some("SET #settled = :yes")
                && !input.expression_attribute_names().unwrap().contains_key("#accepted")
        })
        .then_output(|| UpdateItemOutput::builder().build());
    DynamoReceipts::new(client(&[&nothing]), "receipts").settle("r", &[]).await.unwrap();
}

fn ticket() -> Ticket {
    Ticket {
        id: "t1".to_owned(),
        failure: FailureEvent {
            stage: Stage::Deliver,
            reason: Reason::new("refused_by_target", "422"),
            source: Some(SourceId::try_from("crm".to_owned()).unwrap()),
            model: None,
            rid: Some(RecordId::from_wire("rid")),
            key: None,
            event_id: None,
            target: None,
            message_id: "m-1".to_owned(),
            tries: 3,
            dead_letter_queue: Some("https://sqs/dlq".to_owned()),
        },
        failed_at: "2026-11-24T20:19:23Z".to_owned(),
        expires_at: 1_800_000_000,
    }
}

#[tokio::test]
async fn a_ticket_is_opened_once() {
    let rule = mock!(Client::put_item)
        .match_requests(|input| {
            let expected: HashMap<&str, AttributeValue> = HashMap::from([
                ("pk", text("ticket#t1")),
                ("id", text("t1")),
                ("stage", text("deliver")),
                ("reason", text("refused_by_target")),
                ("place", text("422")),
                ("source", text("crm")),
                ("rid", text("rid")),
                ("message_id", text("m-1")),
                ("tries", number(3)),
                ("dead_letter_queue", text("https://sqs/dlq")),
                ("failed_at", text("2026-11-24T20:19:23Z")),
                ("expires_at", number(1_800_000_000)),
            ]);
            let item = input.item().unwrap();
            input.condition_expression() == Some("attribute_not_exists(#pk)")
                && item.len() == expected.len()
                && expected.iter().all(|(name, value)| item.get(*name) == Some(value))
        })
        .sequence()
        .output(|| PutItemOutput::builder().build())
        .error(|| condition_failed(None))
        .build();
    let tickets = DynamoTickets::new(client(&[&rule]), "tickets");
    assert!(tickets.open(&ticket()).await.unwrap());
    assert!(!tickets.open(&ticket()).await.unwrap());
}

#[tokio::test]
async fn the_right_to_alert_is_claimed_for_a_ticket_and_a_while() {
    let put = mock!(Client::put_item)
        .match_requests(|input| {
            let values = input.expression_attribute_values().unwrap();
            let seconds = |value: &AttributeValue| value.as_n().unwrap().parse::<u64>().unwrap();
            let (item, now) = (input.item().unwrap(), seconds(&values[":now"]));
            input.condition_expression()
                == Some("attribute_not_exists(#pk) OR #expires_at <= :now OR #ticket = :ticket")
                && item["pk"] == text("alert#deliver/loyalty")
                && (&item["ticket"], &values[":ticket"]) == (&text("tkt_1"), &text("tkt_1"))
                && now > 1_700_000_000
                && seconds(&item["expires_at"]) == now + 60
        })
        .sequence()
        .output(|| PutItemOutput::builder().build())
        .error(|| condition_failed(None))
        .build();
    let tickets = DynamoTickets::new(client(&[&put]), "tickets");
    let minute = Duration::from_secs(60);
    assert!(tickets.claim_alert("deliver/loyalty", "tkt_1", minute).await.unwrap());
    assert!(!tickets.claim_alert("deliver/loyalty", "tkt_1", minute).await.unwrap());
}

#[tokio::test]
async fn an_alert_that_was_sent_is_nobodys_any_more() {
    let put = mock!(Client::put_item)
        .match_requests(|input| {
            let item = input.item().unwrap();
            input.condition_expression().is_none()
                && item["pk"] == text("alert#deliver/loyalty")
                && item["expires_at"] == number(1_800_000_000)
                && !item.contains_key("ticket")
        })
        .then_output(|| PutItemOutput::builder().build());
    let tickets = DynamoTickets::new(client(&[&put]), "tickets");
    tickets.settle_alert("deliver/loyalty", 1_800_000_000).await.unwrap();
}

#[tokio::test]
async fn an_item_comes_as_json_with_every_digit() {
    let item = || {
        Item::from([
            ("n".to_owned(), AttributeValue::N("12345678901234567890123456789012345678".to_owned())),
            ("s".to_owned(), text("a \"quoted\"\nline \u{10ffff}")),
            ("t".to_owned(), AttributeValue::Bool(true)),
            ("z".to_owned(), AttributeValue::Null(true)),
            ("l".to_owned(), AttributeValue::L(vec![AttributeValue::N("1.10".to_owned()), text("x")])),
            (
                "m".to_owned(),
                AttributeValue::M(Item::from([("a.b".to_owned(), AttributeValue::N("-0.5E-7".to_owned()))])),
            ),
            ("b".to_owned(), AttributeValue::B(Blob::new([0xff, 0]))),
            ("ns".to_owned(), AttributeValue::Ns(vec!["1".to_owned(), "2".to_owned()])),
        ])
    };
    let rule = mock!(Client::get_item)
        .match_requests(|input| {
            let key = input.key().unwrap();
            input.table_name() == Some("segments") && key["id"] == number(42) && key["kind"] == text("a\"b")
        })
        .then_output(move || GetItemOutput::builder().set_item(Some(item())).build());
    let key = [("id".to_owned(), "42".to_owned()), ("kind".to_owned(), r#""a\"b""#.to_owned())];
    let json = DynamoLookup::new(client(&[&rule])).get("segments", &key).await.unwrap().unwrap();
    let expected = concat!(
        r#"{"b":"/wA=","l":[1.10,"x"],"m":{"a.b":-0.5E-7},"n":12345678901234567890123456789012345678,"#,
        r#""ns":[1,2],"s":"a \"quoted\"\nline "#,
        "\u{10ffff}",
        r#"","t":true,"z":null}"#,
    );
    assert_eq!(json, expected);
}

#[tokio::test]
async fn a_lookup_without_an_item_finds_nothing_and_a_key_must_be_a_scalar() {
    let rule = mock!(Client::get_item).then_output(|| GetItemOutput::builder().build());
    let lookup = DynamoLookup::new(client(&[&rule]));
    let key = |scalar: &str| [("id".to_owned(), scalar.to_owned())];
    assert_eq!(lookup.get("t", &key("1")).await.unwrap(), None);
    for bad in ["true", "null", "{}", "[1]", "", "\"open"] {
        assert_eq!(lookup.get("t", &key(bad)).await.unwrap_err().code, "KeyNotScalar", "{bad}");
    }
}

#[tokio::test]
async fn a_tables_items_come_consistently_page_by_page_as_its_stream_writes_them() {
    let attribute = |kind: &str| AttributeValue::S(kind.to_owned());
    let key = move || {
        Item::from([
            ("b".to_owned(), AttributeValue::B(Blob::new([0xff, 0]))),
            ("n".to_owned(), AttributeValue::N("12345678901234567890123456789012345678".to_owned())),
        ])
    };
    let item = move || {
        let mut item = key();
        item.extend([
            ("s".to_owned(), attribute("a \"quoted\"\nline \u{10ffff}")),
            ("t".to_owned(), AttributeValue::Bool(true)),
            ("z".to_owned(), AttributeValue::Null(true)),
            ("l".to_owned(), AttributeValue::L(vec![AttributeValue::N("1.10".to_owned()), attribute("x")])),
            (
                "m".to_owned(),
                AttributeValue::M(Item::from([("a.b".to_owned(), AttributeValue::N("-0.5E-7".to_owned()))])),
            ),
            ("ss".to_owned(), AttributeValue::Ss(vec!["b".to_owned(), "a".to_owned()])),
            ("ns".to_owned(), AttributeValue::Ns(vec!["1".to_owned(), "2".to_owned()])),
            ("bs".to_owned(), AttributeValue::Bs(vec![Blob::new([1]), Blob::new([2])])),
        ]);
        item
    };
    let first = mock!(Client::scan)
        .match_requests(|input| {
            input.table_name() == Some("preferences")
                && input.consistent_read() == Some(true)
                && input.exclusive_start_key().is_none()
        })
        .then_output(move || ScanOutput::builder().items(item()).set_last_evaluated_key(Some(key())).build());
    let second = mock!(Client::scan)
        .match_requests(move |input| input.exclusive_start_key() == Some(&key()))
        .then_output(|| ScanOutput::builder().items(Item::from([("b".to_owned(), text("last"))])).build());
    let table = DynamoItems::new(client(&[&first, &second]), "preferences");
    let page = table.page(None).await.unwrap();
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let expected = serde_json::json!({
        "b": { "B": "/wA=" },
        "bs": { "BS": ["AQ==", "Ag=="] },
        "l": { "L": [{ "N": "1.10" }, { "S": "x" }] },
        "m": { "M": { "a.b": { "N": "-0.5E-7" } } },
        "n": { "N": "12345678901234567890123456789012345678" },
        "ns": { "NS": ["1", "2"] },
        "s": { "S": "a \"quoted\"\nline \u{10ffff}" },
        "ss": { "SS": ["b", "a"] },
        "t": { "BOOL": true },
        "z": { "NULL": true },
    });
    assert_eq!(page.items.iter().map(|item| parsed(item)).collect::<Vec<_>>(), [expected]);
    let place = page.next.unwrap();
    let last = Items { items: vec![r#"{"b":{"S":"last"}}"#.to_owned()], next: None };
    assert_eq!(table.page(Some(&place)).await.unwrap(), last);
    for bad in ["", "{}x", r#"{"b":{"BOOL":"true"}}"#, r#"{"b":{"B":"?"}}"#] {
        assert_eq!(table.page(Some(bad)).await.unwrap_err().code, "BadPlace", "{bad}");
    }
}

#[tokio::test]
async fn a_table_says_what_its_key_is_and_whether_its_stream_carries_whole_items() {
    let described = |stream: Option<(bool, StreamViewType)>| {
        let part = |name: &str, kind| {
            KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap()
        };
        let table = TableDescription::builder()
            .key_schema(part("customer_id", KeyType::Hash))
            .key_schema(part("topic", KeyType::Range))
            .set_stream_specification(stream.map(|(on, view)| {
                StreamSpecification::builder().stream_enabled(on).stream_view_type(view).build().unwrap()
            }));
        DescribeTableOutput::builder().table(table.build()).build()
    };
    for (stream, streams) in [
        (Some((true, StreamViewType::NewAndOldImages)), true),
        (Some((true, StreamViewType::NewImage)), false),
        (Some((false, StreamViewType::NewAndOldImages)), false),
        (None, false),
    ] {
        let rule = mock!(Client::describe_table)
            .match_requests(|input| input.table_name() == Some("preferences"))
            .then_output(move || described(stream.clone()));
        let shape = DynamoItems::new(client(&[&rule]), "preferences").shape().await.unwrap();
        assert_eq!(shape, TableShape { key: keys(&["customer_id", "topic"]), streams });
    }
}

fn checkpoint_item(token: u64, revision: u64) -> Item {
    Item::from([
        ("pk".to_owned(), text("crm-db")),
        ("cursor".to_owned(), text("c1")),
        ("epoch".to_owned(), number(2)),
        ("revision".to_owned(), number(revision)),
        ("token".to_owned(), number(token)),
        ("owner".to_owned(), text("request-1")),
        ("lease_until".to_owned(), number(u64::MAX)),
    ])
}

fn update_failed(item: Option<Item>) -> UpdateItemError {
    let meta =
        aws_sdk_dynamodb::error::ErrorMetadata::builder().code("ConditionalCheckFailedException").build();
    let failed = ConditionalCheckFailedException::builder().set_item(item).meta(meta);
    UpdateItemError::ConditionalCheckFailedException(failed.build())
}

fn checkpoints(rules: &[&Rule]) -> DynamoCheckpoints {
    DynamoCheckpoints::new(client(rules), "checkpoints")
}

const LEASE: Duration = Duration::from_secs(30);

fn lease(token: u64, revision: u64) -> Lease {
    Lease { row: "crm-db".to_owned(), token, revision }
}

#[tokio::test]
async fn a_lease_is_taken_when_it_is_free_or_over_and_its_token_grows() {
    let rule = mock!(Client::update_item)
        .match_requests(|input| {
            let values = input.expression_attribute_values().unwrap();
            let at = |name: &str| values[name].as_n().unwrap().parse::<u64>().unwrap();
            let condition = input.condition_expression().unwrap();
            condition.contains("attribute_not_exists(#stopped) AND")
                && condition.contains("#until <= :now")
                && condition.contains("#owner = :owner")
                && input.update_expression().unwrap().contains("ADD #token :one")
                && at(":until") == at(":now") + 30_000
        })
        .sequence()
        .output(|| UpdateItemOutput::builder().set_attributes(Some(checkpoint_item(7, 3))).build())
        .error(|| update_failed(Some(checkpoint_item(7, 3))))
        .error(|| {
            let mut stopped = checkpoint_item(7, 3);
            stopped.insert("stopped".to_owned(), text("slot_lost"));
            update_failed(Some(stopped))
        })
        .build();
    let table = checkpoints(&[&rule]);
    let expected =
        Checkpoint { cursor: Some("c1".to_owned()), epoch: 2, revision: 3, stopped: None, held: true };
    assert_eq!(
        table.take("crm-db", "request-1", LEASE).await.unwrap(),
        Taken::Held(lease(7, 3), expected.clone())
    );
    assert_eq!(table.take("crm-db", "request-2", LEASE).await.unwrap(), Taken::Busy);
    let stopped = Checkpoint { stopped: Some("slot_lost".to_owned()), ..expected };
    assert_eq!(table.take("crm-db", "request-2", LEASE).await.unwrap(), Taken::Stopped(stopped));
}

#[tokio::test]
async fn a_cursor_is_saved_under_the_token_and_the_revision_alone() {
    let rule = mock!(Client::update_item)
        .match_requests(|input| {
            let values = input.expression_attribute_values().unwrap();
            input.condition_expression() == Some("#token = :token AND #revision = :revision")
                && (&values[":token"], &values[":revision"]) == (&number(7), &number(3))
                && (&values[":next"], &values[":cursor"]) == (&number(4), &text("c2"))
        })
        .sequence()
        .output(|| UpdateItemOutput::builder().build())
        .error(|| update_failed(Some(checkpoint_item(8, 3))))
        .build();
    let table = checkpoints(&[&rule]);
    let mut own = lease(7, 3);
    assert!(table.save(&mut own, "c2", LEASE).await.unwrap());
    assert_eq!(own.revision, 4);
    let mut lost = lease(7, 3);
    assert!(!table.save(&mut lost, "c2", LEASE).await.unwrap());
    assert_eq!(lost.revision, 3);
}

#[tokio::test]
async fn a_save_that_was_done_although_its_answer_was_lost_counts() {
    let stands = |cursor: &'static str| {
        move || {
            let mut item = checkpoint_item(7, 4);
            item.insert("cursor".to_owned(), text(cursor));
            update_failed(Some(item))
        }
    };
    for (cursor, saved) in [("c2", true), ("c9", false)] {
        let rule = mock!(Client::update_item).then_error(stands(cursor));
        assert_eq!(checkpoints(&[&rule]).save(&mut lease(7, 3), "c2", LEASE).await.unwrap(), saved);
    }
}

#[tokio::test]
async fn only_the_holder_gives_back_or_stops() {
    let rule = mock!(Client::update_item)
        .match_requests(|input| input.condition_expression() == Some("#token = :token"))
        .sequence()
        .output(|| UpdateItemOutput::builder().build())
        .error(|| update_failed(Some(checkpoint_item(8, 3))))
        .output(|| UpdateItemOutput::builder().build())
        .build();
    let table = checkpoints(&[&rule]);
    assert!(table.release(&lease(7, 3)).await.unwrap());
    assert!(!table.release(&lease(7, 3)).await.unwrap());
    assert!(table.stop(&lease(7, 3), "slot_lost").await.unwrap());
}

#[tokio::test]
async fn a_restart_raises_the_epoch_above_every_other_and_fences_whoever_reads() {
    let get = mock!(Client::get_item)
        .match_requests(|input| input.consistent_read() == Some(true))
        .then_output(|| GetItemOutput::builder().set_item(Some(checkpoint_item(7, 3))).build());
    let rule = mock!(Client::update_item)
        .match_requests(|input| {
            let change = input.update_expression().unwrap();
            input.condition_expression() == Some("#epoch = :epoch")
                && change.contains("REMOVE #cursor, #stopped, #owner, #until")
                && change.contains("ADD #token :one")
        })
        .then_output(|| UpdateItemOutput::builder().build());
    let table = checkpoints(&[&get, &rule]);
    assert_eq!(table.restart("crm-db", 0).await.unwrap(), 3);
    assert_eq!(table.restart("crm-db", 9).await.unwrap(), 10);
}

#[tokio::test]
async fn what_is_not_there_is_neither_halted_nor_resumed() {
    let rule = mock!(Client::update_item)
        .match_requests(|input| input.condition_expression() == Some("attribute_exists(#pk)"))
        .then_error(|| update_failed(None));
    let get = mock!(Client::get_item).then_output(|| GetItemOutput::builder().build());
    let table = checkpoints(&[&rule, &get]);
    assert!(!table.halt("crm-db#backfill#customer#r1", "paused").await.unwrap());
    assert!(!table.resume("crm-db").await.unwrap());
    assert_eq!(table.read("crm-db").await.unwrap(), None);
}

#[tokio::test]
async fn what_is_discarded_is_noted_under_its_letter_for_as_long_as_a_ticket() {
    let put = mock!(Client::put_item)
        .match_requests(|input| {
            let item = input.item().unwrap();
            let expected = Item::from([
                ("pk".to_owned(), text("discard#m2")),
                ("message_id".to_owned(), text("m1")),
                ("rid".to_owned(), text("r1")),
                ("reason".to_owned(), text("refused_by_target")),
                ("sent_ms".to_owned(), number(1_795_551_563_456_u64)),
                ("dead_letter_queue".to_owned(), text("arn:dead")),
                ("because".to_owned(), text("sold the branch")),
                ("discarded_at".to_owned(), number(1_800_000_000)),
                ("expires_at".to_owned(), number(1_807_776_000)),
            ]);
            input.table_name() == Some("tickets") && *item == expected
        })
        .then_output(|| PutItemOutput::builder().build());
    let discard = Discard {
        letter_id: "m2".to_owned(),
        message_id: Some("m1".to_owned()),
        rid: "r1".to_owned(),
        model: None,
        reason: "refused_by_target".to_owned(),
        sent_ms: 1_795_551_563_456,
        dead_letter_queue: "arn:dead".to_owned(),
        because: "sold the branch".to_owned(),
        at: 1_800_000_000,
    };
    DynamoDiscards::new(client(&[&put]), "tickets").note(&discard).await.unwrap();
}

fn target() -> TargetId {
    "loyalty".parse().unwrap()
}

fn breakers() -> [Breaker; 4] {
    let halt = Halt { since: 7, reason: Reason::new("target_unavailable", "status 503"), reported: true };
    let failing = Failing { since: 5, records: [RecordId::from_wire("a"), RecordId::from_wire("b")].into() };
    [
        Breaker { revision: 1, state: State::Closed(Failing::default()), applied_at: None },
        Breaker { revision: 2, state: State::Closed(failing), applied_at: Some(3) },
        Breaker {
            revision: 3,
            state: State::Open { halt: halt.clone(), next_probe: 52 },
            applied_at: Some(9),
        },
        Breaker { revision: 4, state: State::Paused(halt), applied_at: None },
    ]
}

#[tokio::test]
async fn a_breaker_is_read_with_the_rows_as_it_was_written() {
    for breaker in breakers() {
        let item = super::breaker::item(&target(), &breaker);
        let rule = mock!(Client::batch_get_item)
            .match_requests(|input| {
                asked(&input.request_items().unwrap()["ledger"]) == ["target#loyalty", "a"]
            })
            .then_output(move || {
                let rows = vec![stored("a", "1"), item.clone()];
                BatchGetItemOutput::builder().responses("ledger", rows).build()
            });
        let ledger = DynamoLedger::new(client(&[&rule]), "ledger");
        let (read, rows) = ledger.look(&target(), &keys(&["a"])).await;
        assert_eq!(read.unwrap(), breaker);
        assert_eq!(rows.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [Some(row("1"))]);
        assert_eq!(rule.num_calls(), 1);
    }
}

#[tokio::test]
async fn a_target_without_a_row_is_sent_to_and_one_with_a_row_of_another_release_is_not() {
    let none = mock!(Client::batch_get_item).then_output(|| BatchGetItemOutput::builder().build());
    let ledger = DynamoLedger::new(client(&[&none]), "ledger");
    assert_eq!(ledger.breaker(&target()).await.unwrap(), Breaker::default());

    let strange = mock!(Client::batch_get_item).then_output(|| {
        let mut item = super::breaker::item(&target(), &breakers()[3]);
        item.insert("state".to_owned(), text("half_open"));
        BatchGetItemOutput::builder().responses("ledger", vec![item]).build()
    });
    let ledger = DynamoLedger::new(client(&[&strange]), "ledger");
    let error = ledger.breaker(&target()).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "BadRow"));
}

#[tokio::test]
async fn a_breaker_is_written_behind_the_row_that_it_was_made_of() {
    for breaker in breakers() {
        let revision = breaker.revision;
        let rule = mock!(Client::put_item)
            .match_requests(move |input| {
                let first = input.condition_expression() == Some("attribute_not_exists(#pk)");
                let before = input.expression_attribute_values().map(|values| values[":before"].clone());
                input.item().unwrap()["pk"] == text("target#loyalty")
                    && input.item().unwrap()["revision"] == number(revision)
                    && first == (revision == 1)
                    && before == (revision > 1).then(|| number(revision - 1))
            })
            .then_output(|| PutItemOutput::builder().build());
        let ledger = DynamoLedger::new(client(&[&rule]), "ledger");
        assert!(ledger.set_breaker(&target(), &breaker).await.unwrap());
    }
    let rule = mock!(Client::put_item).then_error(|| condition_failed(None));
    let ledger = DynamoLedger::new(client(&[&rule]), "ledger");
    assert!(!ledger.set_breaker(&target(), &breakers()[2]).await.unwrap());
}

fn meter_item(next: i64, spent: Option<i64>) -> Item {
    let mut item =
        Item::from([("pk".to_owned(), text("target#loyalty#limit")), ("next_slot".to_owned(), number(next))]);
    if let Some(spent) = spent {
        item.insert("spent".to_owned(), number(spent));
    }
    item
}

fn limit() -> Limit {
    Limit::new("100/s".parse().ok(), "50/d".parse().ok())
}

#[tokio::test]
async fn a_claim_is_one_update_under_the_condition_that_it_was_made_for() {
    let day = 10_000_000_000;
    // Nothing is known of the row: time went by unused, of the day nothing was.
    let fresh = limit().claim(&Meter::default(), 2, 5_000_000, 5_000_000, 6_000_000).unwrap();
    let raise = mock!(Client::update_item)
        .match_requests(|input| {
            let values = input.expression_attribute_values().unwrap();
            let at = |name: &str| values[name].as_n().unwrap().parse::<i64>().unwrap();
            input.key().unwrap()["pk"] == text("target#loyalty#limit")
                && input.update_expression()
                    == Some("SET #next_slot = :next_slot_to, #spent = #spent + :spent_by")
                && input.condition_expression()
                    == Some(
                        "(attribute_not_exists(#next_slot) OR #next_slot < :next_slot_floor) AND \
                         #spent BETWEEN :spent_floor AND :spent_ceiling",
                    )
                && (at(":next_slot_floor"), at(":next_slot_to")) == (5_000_000, 5_020_000)
                && (at(":spent_floor"), at(":spent_ceiling"), at(":spent_by")) == (0, 48, 2)
        })
        .then_output(|| {
            UpdateItemOutput::builder().set_attributes(Some(meter_item(5_020_000, Some(2)))).build()
        });
    let table = DynamoMeters::new(client(&[&raise]), "ledger");
    let made = Meter { next: 5_020_000, spent: 2 };
    assert_eq!(table.claim(&target(), &fresh).await.unwrap(), Claimed::Done(made));

    // Somebody is ahead, and it is another day.
    let seen = Meter { next: 86_400_500_000, spent: 7 };
    let later = limit().claim(&seen, 3, 86_400_000_000, 86_400_000_000, 86_401_000_000).unwrap();
    let add = mock!(Client::update_item)
        .match_requests(move |input| {
            let values = input.expression_attribute_values().unwrap();
            let at = |name: &str| values[name].as_n().unwrap().parse::<i64>().unwrap();
            input.update_expression()
                == Some("SET #next_slot = #next_slot + :next_slot_by, #spent = :spent_to")
                && input.condition_expression()
                    == Some(
                        "#next_slot BETWEEN :next_slot_floor AND :next_slot_ceiling AND \
                         (attribute_not_exists(#spent) OR #spent < :spent_floor)",
                    )
                && (at(":next_slot_floor"), at(":next_slot_ceiling"), at(":next_slot_by"))
                    == (86_400_000_000, 86_400_980_000, 30_000)
                && (at(":spent_floor"), at(":spent_to")) == (day, day + 3)
        })
        .sequence()
        .output(move || {
            UpdateItemOutput::builder()
                .set_attributes(Some(meter_item(86_400_530_000, Some(day + 3))))
                .build()
        })
        .error(|| update_failed(Some(meter_item(9, None))))
        .error(|| update_failed(None))
        .error(|| update_failed(Some(Item::from([("next_slot".to_owned(), text("soon"))]))))
        .build();
    let table = DynamoMeters::new(client(&[&add]), "ledger");
    let made = Meter { next: 86_400_530_000, spent: day + 3 };
    assert_eq!(table.claim(&target(), &later).await.unwrap(), Claimed::Done(made));
    let stands = Meter { next: 9, spent: 0 };
    assert_eq!(table.claim(&target(), &later).await.unwrap(), Claimed::Refused(stands));
    assert_eq!(table.claim(&target(), &later).await.unwrap(), Claimed::Refused(Meter::default()));
    let error = table.claim(&target(), &later).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "BadRow"));
}

#[tokio::test]
async fn a_meter_is_no_row_of_a_record() {
    let rule = mock!(Client::scan)
        .then_output(|| ScanOutput::builder().items(meter_item(1, None)).items(stored("a", "1")).build());
    let page = DynamoLedger::new(client(&[&rule]), "ledger").page(None).await.unwrap();
    assert_eq!(page.rows, [row("1")]);
}
