//! Debezium Server posts to the endpoint: its events as it writes them, in any setting that it may be in.

use serde_json::{Value, json};
use sync_domain::change::{Change, Operation};
use sync_domain::ports::Kind;
use sync_domain::scan::Limits;
use sync_testkit::Fault;

use crate::bench::{Answered, Bench, NOW, secret_of};
use crate::push::Push;

const PLACEHOLDER: &str = "__debezium_unavailable_value";

/// A row of `public.people`.
fn person(id: u32, email: &str) -> Value {
    json!({"id": id, "email": email, "balance": "12.50", "biography": "b", "unlisted": 1})
}

/// An event of the PostgreSQL connector, as the converter writes it without schemas.
fn postgres(op: &str, before: Value, after: Value, sequence: &str) -> Value {
    let own: Vec<Option<String>> = serde_json::from_str(sequence).unwrap();
    let lsn: Value = own[1].as_ref().map_or(Value::Null, |own| json!(own.parse::<u64>().unwrap_or(7)));
    let mut event = json!({
        "source": {
            "version": "3.6.0.Final", "connector": "postgresql", "name": "erp", "ts_ms": NOW * 1_000 - 500,
            "snapshot": if op == "r" { "true" } else { "false" }, "db": "erp", "sequence": sequence,
            "ts_us": NOW * 1_000_000 - 499_877, "ts_ns": (NOW * 1_000_000 - 499_877) * 1_000, "schema": "public",
            "table": "people", "txId": 771, "lsn": lsn, "xmin": null, "origin": null, "origin_lsn": null
        },
        "transaction": null,
        "op": op,
        "ts_ms": NOW * 1_000, "ts_us": NOW * 1_000_000 + 17, "ts_ns": (NOW * 1_000_000 + 17) * 1_000
    });
    (event["before"], event["after"]) = (before, after);
    event
}

fn update(id: u32, email: &str, sequence: &str) -> Value {
    postgres("u", Value::Null, person(id, email), sequence)
}

/// An event of the MySQL connector.
fn mysql(op: &str, before: Value, after: Value, file: &str, pos: u64, row: u64) -> Value {
    let mut event = json!({
        "source": {
            "version": "3.6.0.Final", "connector": "mysql", "name": "shop", "ts_ms": (NOW - 1) * 1_000,
            "snapshot": "false", "db": "inventory", "sequence": null, "ts_us": (NOW - 1) * 1_000_000,
            "ts_ns": (NOW - 1) * 1_000_000_000, "table": "products", "server_id": 223_344,
            "gtid": "24da7bb6-0e6b-11ee-be56-0242ac120002:29", "file": file, "pos": pos, "row": row, "thread": 12, "query": null
        },
        "transaction": null,
        "op": op,
        "ts_ms": NOW * 1_000, "ts_us": NOW * 1_000_000, "ts_ns": NOW * 1_000_000_000
    });
    (event["before"], event["after"]) = (before, after);
    event
}

/// The same behind its schema, as Kafka Connect's JSON converter has it unless it is told otherwise.
fn with_schema(payload: &Value) -> Value {
    let field = |name: &str, kind: &str| json!({"type": kind, "optional": true, "field": name});
    let row = |name: &str| {
        json!({
            "type": "struct", "optional": true, "name": "erp.public.people.Value", "field": name,
            "fields": [field("id", "int32"), field("email", "string"), field("balance", "string")]
        })
    };
    json!({
        "schema": {
            "type": "struct", "optional": false, "name": "erp.public.people.Envelope", "version": 2,
            "fields": [row("before"), row("after"), field("op", "string"), field("ts_ms", "int64")]
        },
        "payload": payload
    })
}

fn post_as(bench: &Bench, source: &str, id: &str, body: &Value) -> Answered {
    bench.send(&Push::signed_with(source, body.to_string(), secret_of(source), id, bench.now()))
}

fn post(bench: &Bench, body: &Value) -> Answered {
    post_as(bench, "erp", "msg_4f5a8f0e-5b1c-4f39-9a55-0d3f8d9c2b11", body)
}

/// The versions of the messages in the queue, in order.
fn versions(bench: &Bench) -> Vec<String> {
    let version =
        |body: &String| Change::read(body, &Limits::default()).unwrap().version.unwrap().as_str().to_owned();
    bench.queued().iter().map(version).collect()
}

/// The version that an event gets.
fn version_of(source: &str, event: &Value) -> String {
    let bench = Bench::new();
    let answer = post_as(&bench, source, "msg_1", event);
    assert_eq!(answer.status, 202, "{}", answer.text);
    versions(&bench).remove(0)
}

fn code(source: &str, event: &Value) -> String {
    let bench = Bench::new();
    let answer = post_as(&bench, source, "msg_1", event);
    assert_eq!((answer.status, bench.queued().len()), (422, 0), "{}", answer.text);
    answer.rejected().remove(0).1
}

#[test]
fn an_event_becomes_the_change_of_its_row() {
    let bench = Bench::new();
    let event =
        postgres("u", person(42, "a@example.com"), person(42, "b@example.com"), r#"["24023119","24023128"]"#);
    let answer = post(&bench, &event);
    assert_eq!((answer.status, answer.accepted()), (202, vec![0]));
    let message = bench.queued().remove(0);
    let change = Change::read(&message, &Limits::default()).unwrap();
    assert_eq!((change.source.as_ref(), change.model.as_ref()), ("erp", "person"));
    assert_eq!((change.operation, change.key), (Operation::Update, r#"{"id":42}"#));
    assert_eq!(change.version.unwrap().as_str(), "00000002-0000000000000000016e904f00000000016e9058");
    assert_eq!(change.occurred_at, "2026-11-24T20:19:22.500123Z");
    let row = |email| format!(r#"{{"balance":"12.50","biography":"b","email":"{email}","id":42}}"#);
    let sorted = |json: &str| serde_json::from_str::<Value>(json).unwrap();
    assert_eq!(sorted(change.before.unwrap()), sorted(&row("a@example.com")));
    assert_eq!(sorted(change.after.unwrap()), sorted(&row("b@example.com")), "unlisted columns stay behind");
    assert_eq!(bench.receipts.rows().len(), 0, "the version is the place in the log, not that of arrival");
}

#[test]
fn the_schema_around_an_event_makes_no_difference() {
    let event = update(42, "a@example.com", r#"["1","2"]"#);
    let (bare, wrapped) = (Bench::new(), Bench::new());
    assert_eq!(post(&bare, &event).status, 202);
    assert_eq!(post(&wrapped, &with_schema(&event)).status, 202);
    assert_eq!(bare.queue.entries(), wrapped.queue.entries());
    let tombstone = with_schema(&Value::Null);
    assert_eq!(post(&wrapped, &tombstone).passed_over(), [(0, "tombstone".to_owned())]);
}

#[test]
fn each_operation_is_the_one_of_ours() {
    let row = person(42, "a@example.com");
    let key_only = json!({"id": 42, "email": null, "balance": null, "biography": null});
    for (op, before, after, expected) in [
        ("c", Value::Null, row.clone(), Operation::Create),
        ("u", row.clone(), row.clone(), Operation::Update),
        ("u", Value::Null, row.clone(), Operation::Update),
        ("d", row.clone(), Value::Null, Operation::Delete),
        ("d", key_only, Value::Null, Operation::Delete),
        ("r", Value::Null, row.clone(), Operation::Snapshot),
    ] {
        let bench = Bench::new();
        let answer = post(&bench, &postgres(op, before.clone(), after.clone(), r#"["1","2"]"#));
        assert_eq!(answer.status, 202, "{}", answer.text);
        let message = bench.queued().remove(0);
        let change = Change::read(&message, &Limits::default()).unwrap();
        assert_eq!((change.operation, change.key), (expected, r#"{"id":42}"#));
        assert_eq!(
            (change.before.is_some(), change.after.is_some()),
            (before.is_object(), after.is_object())
        );
    }
}

#[test]
fn versions_grow_in_the_order_of_commits_whatever_the_rows_own_places() {
    // Three transactions as the log decodes them: the second wrote its row before the first ended.
    let bench = Bench::new();
    let places = [
        (r#"["100","310"]"#),
        (r#"["100","320"]"#),
        (r#"["400","150"]"#),
        (r#"["400","420"]"#),
        (r#"["500","430"]"#),
    ];
    for sequence in places {
        assert_eq!(post(&bench, &update(42, sequence, sequence)).status, 202);
    }
    let versions = versions(&bench);
    assert_eq!(versions.len(), places.len());
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "{versions:?}");
}

#[test]
fn a_restart_in_the_first_transaction_goes_on_behind_what_was_sent_of_it() {
    let version = |sequence: &str| version_of("erp", &update(42, "a", sequence));
    let [first, second, next] = [r#"[null,"310"]"#, r#"[null,"320"]"#, r#"["330","340"]"#].map(version);
    assert!(first < second && second < next, "one transaction, then the next");
    // Events up to 305 were saved, 310 was sent besides: the end that is named now lies in front of it. Or none of the
    // transaction was saved: the end is the place of the snapshot, behind where its rows were written.
    for sequence in [r#"["305","320"]"#, r#"["325","320"]"#] {
        let resumed = version(sequence);
        assert!(first < resumed && second < resumed && resumed < next, "{sequence}");
    }
}

#[test]
fn a_change_wins_over_a_snapshot_in_whichever_order_they_come() {
    let snapshot = |sequence: &str| version_of("erp", &postgres("r", Value::Null, person(42, "a"), sequence));
    let live = |sequence: &str| version_of("erp", &update(42, "b", sequence));
    let first = snapshot(r#"[null,"500"]"#);
    for change in [r#"[null,"510"]"#, r#"[null,"490"]"#, r#"["495","505"]"#, r#"["520","530"]"#] {
        assert!(first < live(change), "{change}: written before the snapshot was taken, and ended behind it");
    }
    // It broke off and began again: what changed meanwhile is newer, and no conflict.
    assert!(first < snapshot(r#"[null,"510"]"#) && snapshot(r#"[null,"510"]"#) < live(r#"[null,"505"]"#));
    // A later snapshot, between the changes of a running Debezium: newer than what ended before, older than what comes.
    let later = snapshot(r#"["600","650"]"#);
    assert!(live(r#"["540","590"]"#) < later && later < live(r#"["600","610"]"#));
    assert!(later < live(r#"["700","710"]"#));
}

#[test]
fn a_row_of_mysql_has_its_place_in_the_binary_log() {
    let product = |name: &str| json!({"sku": "p-1", "name": name, "weight": 1.10, "unlisted": 1});
    let live = |file: &str, pos: u64, row: u64| {
        version_of("warehouse", &mysql("u", product("a"), product("b"), file, pos, row))
    };
    let snapshot = |pos: u64| {
        version_of("warehouse", &mysql("r", Value::Null, product("a"), "mysql-bin.000009", pos, 0))
    };
    assert_eq!(live("mysql-bin.000009", 881, 2), "00000000-0000000900000000000003710000000000000003");
    assert!(live("mysql-bin.000009", 881, 2) < live("mysql-bin.000009", 881, 10));
    assert!(live("mysql-bin.000009", 881, 2) < live("mysql-bin.000009", 1_024, 0));
    assert!(live("mysql-bin.999999", 4_294_967_296, 0) < live("mysql-bin.1000000", 4, 0));
    assert!(
        snapshot(881) < live("mysql-bin.000009", 881, 0) && live("mysql-bin.000009", 880, 7) < snapshot(881)
    );
    let bench = Bench::new();
    let event = mysql("d", product("a"), Value::Null, "mariadb-bin.000001", 4, 0).to_string();
    let event: Value = serde_json::from_str(&event.replace("\"mysql\"", "\"mariadb\"")).unwrap();
    assert_eq!(post_as(&bench, "warehouse", "msg_1", &event).status, 202);
    assert!(bench.queued()[0].contains(r#""weight":1.1"#));
}

#[test]
fn an_event_that_is_sent_again_is_one_message() {
    let bench = Bench::new();
    let mut event = update(42, "a@example.com", r#"["1","2"]"#);
    let first = post_as(&bench, "erp", "msg_1", &event);
    // After a restart: another request, another time of reading.
    event["ts_ms"] = json!(NOW * 1_000 + 70_000);
    let again = post_as(&bench, "erp", "msg_2", &json!([event, update(43, "b", r#"["1","3"]"#)]));
    assert_eq!((again.status, &again.ids()[..1]), (202, &first.ids()[..]));
    assert_eq!(bench.queued().len(), 2);
}

#[test]
fn another_content_at_one_place_reaches_the_ledger() {
    // The rows of a compressed transaction of MySQL share their place; another server counts anew.
    let bench = Bench::new();
    for email in ["a", "b", "a"] {
        assert_eq!(post(&bench, &update(42, email, r#"["1","2"]"#)).status, 202);
    }
    assert_eq!(bench.queued().len(), 2);
}

#[test]
fn a_batch_is_an_array_and_what_is_no_change_is_passed_over() {
    let bench = Bench::new();
    let mut unwanted = update(1, "a", r#"["1","2"]"#);
    unwanted["source"]["table"] = json!("debezium_signal");
    let mut emitted = update(1, "a", r#"["1","3"]"#);
    (emitted["op"], emitted["message"]) = (json!("m"), json!({"prefix": "p", "content": "YQ=="}));
    let batch = json!([
        postgres("d", person(42, "a"), Value::Null, r#"["1","4"]"#),
        null,
        {"ts_ms": NOW * 1_000},
        {"status": "BEGIN", "id": "571:53195832", "ts_ms": NOW * 1_000, "event_count": null, "data_collections": null},
        {"source": {"connector": "mysql"}, "ts_ms": NOW * 1_000, "databaseName": "inventory", "schemaName": null,
         "ddl": "CREATE TABLE products (sku TEXT)", "tableChanges": []},
        unwanted,
        emitted,
        postgres("c", Value::Null, person(42, "b"), r#"["1","5"]"#),
    ]);
    let answer = post(&bench, &batch);
    assert_eq!((answer.status, answer.accepted()), (202, vec![0, 7]), "{}", answer.text);
    let what: Vec<_> = answer.passed_over();
    let names = ["tombstone", "heartbeat", "transaction", "schema_change", "unmapped_table", "message"];
    assert_eq!(what, (1..=6).zip(names.map(str::to_owned)).collect::<Vec<_>>());
    assert_eq!(bench.queued().len(), 2);
    let alone = post(&bench, &Value::Null);
    assert_eq!((alone.status, alone.passed_over().len()), (202, 1));
}

#[test]
fn what_no_change_can_be_made_of_is_refused_with_its_reason() {
    let good = || update(42, "a", r#"["1","2"]"#);
    let with = |pointer: &str, value: Value| {
        let mut event = good();
        *event.pointer_mut(pointer).unwrap() = value;
        event
    };
    let product = json!({"sku": "p-1"});
    for (event, expected) in [
        (postgres("t", Value::Null, Value::Null, r#"["1","2"]"#), "truncated"),
        (person(42, "a"), "not_debezium"),
        (json!("x"), "not_an_object"),
        (json!({"payload": 1, "schema": null}), "not_an_object"),
        (with("/op", json!("x")), "unknown_operation"),
        (with("/op", json!(1)), "unknown_operation"),
        (with("/after", Value::Null), "missing_member"),
        (with("/after", json!([])), "wrong_type"),
        (with("/source", Value::Null), "missing_member"),
        (with("/source/table", json!("orders")), "unknown_table"),
        (with("/source/schema", json!("other")), "unknown_table"),
        (with("/source/table", Value::Null), "missing_member"),
        (with("/source/connector", json!("oracle")), "unknown_connector"),
        (with("/source/sequence", Value::Null), "missing_position"),
        (with("/source/sequence", json!("24023128")), "missing_position"),
        (with("/source/sequence", json!(r#"["24023119",null]"#)), "missing_position"),
        (with("/source/ts_us", json!((NOW + 301) * 1_000_000)), "time_ahead"),
        (with("/after/id", Value::Null), "key_value"),
        (with("/after/id", json!("42")), "key_value"),
        (with("/after", json!({"email": "a"})), "key_missing_in_record"),
        (postgres("u", person(41, "a"), person(42, "a"), r#"["1","2"]"#), "key_changed"),
        (postgres("d", Value::Null, Value::Null, r#"["1","2"]"#), "missing_member"),
    ] {
        assert_eq!(code("erp", &event), expected, "{event}");
    }
    for (file, expected) in [("mysql-bin", "missing_position"), ("", "missing_position")] {
        assert_eq!(code("warehouse", &mysql("c", Value::Null, product.clone(), file, 4, 0)), expected);
    }
}

#[test]
fn a_time_is_taken_from_the_source_in_the_unit_that_it_has() {
    let of = |source: Value| {
        let mut event = update(42, "a", r#"["1","2"]"#);
        for name in ["ts_ms", "ts_us", "ts_ns"] {
            event["source"][name] = source[name].clone();
        }
        let bench = Bench::new();
        assert_eq!(post(&bench, &event).status, 202);
        let message = bench.queued().remove(0);
        Change::read(&message, &Limits::default()).unwrap().occurred_at.into_owned()
    };
    assert_eq!(of(json!({"ts_ms": 1_795_551_562_001_u64})), "2026-11-24T20:19:22.001Z");
    assert_eq!(of(json!({"ts_ns": 1_795_551_562_001_002_003_u64})), "2026-11-24T20:19:22.001002Z");
    assert_eq!(of(json!({"ts_us": 1_795_551_562_001_002_u64, "ts_ms": 1})), "2026-11-24T20:19:22.001002Z");
    assert_eq!(
        of(json!({"ts_ms": 0})),
        "2026-11-24T20:19:23.000017Z",
        "when it was read, if nothing else is known"
    );
}

#[test]
fn the_status_alone_tells_debezium_whether_it_may_go_on() {
    let batch = json!([
        update(1, "a", r#"["1","2"]"#),
        update(2, "a", r#"["1","3"]"#),
        postgres("t", Value::Null, Value::Null, r#"["1","4"]"#),
    ]);
    let bench = Bench::new();
    let refused = post(&bench, &batch);
    assert_eq!((refused.status, refused.accepted()), (422, vec![0, 1]), "nothing is skipped unseen");
    bench.queue.fault(Fault::Entries(vec![(1, Kind::Unavailable)]));
    let away = post(&bench, &batch);
    assert_eq!((away.status, away.accepted()), (503, vec![0]));
    let again = post(&bench, &json!([batch[0], batch[1]]));
    assert_eq!((again.status, again.accepted()), (202, vec![0, 1]));
    assert_eq!(bench.queued().len(), 2, "what was accepted in the first attempts is not there twice");
}

#[test]
fn a_large_column_that_an_update_left_alone_is_never_lost() {
    let toast = |column: &str, before: Value| {
        let mut after = person(42, "a");
        after[column] = json!(PLACEHOLDER);
        postgres("u", before, after, r#"["1","2"]"#)
    };
    let bench = Bench::new();
    assert_eq!(post(&bench, &toast("biography", person(42, "a"))).status, 202);
    assert!(!bench.queued()[0].contains(PLACEHOLDER));
    let message = bench.queued().remove(0);
    let after = Change::read(&message, &Limits::default()).unwrap().after.unwrap().to_owned();
    assert_eq!(serde_json::from_str::<Value>(&after).unwrap()["biography"], "b");
    assert_eq!(code("erp", &toast("biography", Value::Null)), "value_unavailable");
    assert_eq!(code("erp", &toast("biography", json!({"id": 42}))), "value_unavailable");
    assert_eq!(post(&bench, &toast("unlisted", Value::Null)).status, 202, "what is not listed is not missed");
}

#[test]
fn an_answer_repeats_nothing_that_came_in() {
    let bench = Bench::new();
    let mut event = update(42, "canary-7f3a@example.com", r#"["1","canary-7f3a"]"#);
    event["op"] = json!("canary-7f3a");
    let mut table = event.clone();
    (table["op"], table["source"]["table"]) = (json!("u"), json!("canary-7f3a"));
    let mut sequence = event.clone();
    sequence["op"] = json!("u");
    let answer = post(&bench, &json!([event, table, sequence, {"canary-7f3a": 1}]));
    assert_eq!((answer.status, answer.rejected().len()), (422, 4), "{}", answer.text);
    assert!(!answer.text.contains("canary"), "{}", answer.text);
}
