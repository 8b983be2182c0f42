//! Requests that are wrong in one thing each: every one is refused with the status and code that say so, nothing of it
//! reaches the queue but its good changes, and no answer repeats what came in.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::bench::{Bench, NOW, OTHER_SECRET, SECRET};
use crate::logs;
use crate::push::Push;

/// Stands in every request, and in no answer.
const CANARY: &str = "cnry7Qx9";

const ROLE_SESSION: &str = "arn:aws:sts::123456789012:assumed-role/BackOffice/cnry7Qx9";

/// A wrong request and what must be said of it.
struct Case {
    name: String,
    push: Push,
    status: u16,
    code: &'static str,
}

/// All cases, and how many messages each may put into the queue.
#[derive(Default)]
struct Corpus {
    whole: Vec<Case>,
    changes: Vec<ChangeCase>,
}

/// A wrong change: sent alone and between two good ones.
struct ChangeCase {
    name: String,
    source: &'static str,
    change: String,
    code: &'static str,
}

impl Corpus {
    fn whole(&mut self, name: impl Into<String>, push: Push, status: u16, code: &'static str) {
        self.whole.push(Case { name: name.into(), push, status, code });
    }

    /// A wrong body with a right signature.
    fn body(&mut self, name: impl Into<String>, body: impl Into<Vec<u8>>, code: &'static str) {
        self.whole(name, Push::signed("crm", body), 400, code);
    }

    fn change(
        &mut self,
        name: impl Into<String>,
        source: &'static str,
        change: impl Into<String>,
        code: &'static str,
    ) {
        self.changes.push(ChangeCase { name: name.into(), source, change: change.into(), code });
    }

    /// A change of the crm with one member replaced by another text.
    fn customer(&mut self, member: &str, json: &str, code: &'static str) {
        self.change(format!("customer {member}={json:.60}"), "crm", good_with("crm", 1, member, json), code);
    }
}

/// A good change of a source, as (member, JSON text).
fn good_members(source: &str, number: u32) -> Vec<(&'static str, String)> {
    let note = format!("{CANARY}-{number}");
    match source {
        "crm" => vec![
            ("model", "\"customer\"".into()),
            ("operation", "\"update\"".into()),
            ("key", format!(r#"{{"customer_id":{number}}}"#)),
            ("version", format!("{}", NOW * 1_000_000 + i64::from(number))),
            ("occurred_at", "\"2026-11-24T20:19:23Z\"".into()),
            ("after", format!(r#"{{"customer_id":{number},"email":"{note}","tier":"gold"}}"#)),
        ],
        "shop" => vec![
            ("model", "\"price\"".into()),
            ("operation", "\"create\"".into()),
            ("key", format!(r#"{{"sku":"{note}","currency":"EUR"}}"#)),
            ("version", format!("{number}")),
            ("occurred_at", "\"2026-11-24T20:19:23Z\"".into()),
            ("after", format!(r#"{{"sku":"{note}","currency":"EUR","amount":1.10}}"#)),
        ],
        _ => vec![
            ("model", "\"setting\"".into()),
            ("operation", "\"snapshot\"".into()),
            ("key", format!(r#"{{"name":"{note}"}}"#)),
            ("occurred_at", "\"2026-11-24T20:19:23Z\"".into()),
            ("after", format!(r#"{{"name":"{note}","value":{{"a":[1]}}}}"#)),
        ],
    }
}

fn join(members: &[(&str, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, json)| format!("\"{name}\":{json}")).collect();
    format!("{{{}}}", members.join(","))
}

fn good(source: &str, number: u32) -> String {
    join(&good_members(source, number))
}

fn good_with(source: &str, number: u32, member: &str, json: &str) -> String {
    let mut members = good_members(source, number);
    members.retain(|(name, _)| *name != member);
    let mut text = join(&members);
    text.pop();
    format!("{text},\"{member}\":{json}}}")
}

fn good_without(source: &str, number: u32, member: &str) -> String {
    let mut members = good_members(source, number);
    members.retain(|(name, _)| *name != member);
    join(&members)
}

fn list(changes: &[&str]) -> String {
    format!(r#"{{"changes":[{}]}}"#, changes.join(","))
}

fn outside(corpus: &mut Corpus) {
    let push = || Push::signed("crm", good("crm", 1));
    for path in [
        "",
        "/",
        "/v1",
        "/v1/sources",
        "/v1/sources/crm",
        "/v1/sources/crm/changes/",
        "/v2/sources/crm/changes",
        "/v1/source/crm/changes",
        "/v1/sources/crm/change",
        "/v1/sources/changes",
        "/v1/iam/crm/changes",
        "/iam/sources/crm/changes",
        "/v1/sources/crm/changes/cnry7Qx9",
        "/V1/SOURCES/crm/CHANGES",
    ] {
        corpus.whole(format!("path {path}"), push().path(path), 404, "unknown_path");
    }
    for method in ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "post", "CNRY7QX9"] {
        corpus.whole(format!("method {method}"), push().method(method), 405, "method_not_allowed");
    }
    for kind in [
        "",
        "json",
        "text/plain",
        "text/json",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=cnry7Qx9",
        "application/octet-stream",
        "application/json; charset=latin1",
        "application/json; charset=utf-16",
        "application/json; boundary=cnry7Qx9",
        "application/jsonp",
        "application/json,application/json",
        "application/cloudevents+json",
        "application/x-ndjson",
    ] {
        corpus.whole(
            format!("content-type {kind}"),
            push().with("content-type", kind),
            415,
            "unsupported_media_type",
        );
    }
    for encoding in ["", "gzip", "br", "deflate", "zstd", "GZIP", "gzip, identity", "cnry7Qx9"] {
        corpus.whole(
            format!("content-encoding {encoding}"),
            push().with("content-encoding", encoding),
            415,
            "unsupported_content_encoding",
        );
    }
    let iam = || Push::iam("backoffice", good("backoffice", 1), ROLE_SESSION);
    let long = format!("{CANARY}{}", "x".repeat(121));
    for id in
        ["", " ", "a b", "a.b", "msg.1", "cnry7Qx9\t", "a\nb", "a\u{7f}", "ä", "😀", "\u{0}", long.as_str()]
    {
        for (route, push) in [("signed", push()), ("iam", iam())] {
            corpus.whole(
                format!("{route} webhook-id {id:?}"),
                push.with("webhook-id", id),
                400,
                "invalid_webhook_id",
            );
        }
    }
    corpus.whole("signed, no webhook-id", push().without("webhook-id"), 400, "missing_webhook_id");
    corpus.whole("iam, no webhook-id", iam().without("webhook-id"), 400, "missing_webhook_id");
    let mut bare = push();
    bare.headers.clear();
    corpus.whole("no headers", bare, 400, "missing_webhook_id");
    sizes(corpus);
}

fn sizes(corpus: &mut Corpus) {
    for extra in [1, 2, 3, 1_000, 1 << 20] {
        let mut body = good("crm", 1);
        body.push_str(&" ".repeat((1 << 20) + extra - body.len()));
        let push = Push::signed("crm", body);
        corpus.whole(format!("{extra} bytes too long"), push.clone(), 413, "body_too_large");
        corpus.whole(format!("{extra} bytes too long in base64"), push.in_base64(), 413, "body_too_large");
    }
    let encoded = STANDARD.encode(good("crm", 1));
    for (name, text) in [
        ("not base64", format!("!{CANARY}!")),
        ("no padding", STANDARD.encode("cnry7Qx9").trim_end_matches('=').to_owned()),
        ("url-safe", URL_SAFE_NO_PAD.encode([0xfb, 0xff, 0xfe, 0xfb, 0xff, 0xfe, 0xff])),
        ("a space in it", format!("{} {}", &encoded[..8], &encoded[8..])),
        ("a line break in it", format!("{}\r\n{}", &encoded[..8], &encoded[8..])),
        ("padding in the middle", format!("{}={}", &encoded[..8], &encoded[8..])),
        ("one character", "A".to_owned()),
    ] {
        let mut push = Push::signed("crm", good("crm", 1)).in_base64();
        push.wrong_base64 = Some(text);
        corpus.whole(format!("base64: {name}"), push, 400, "invalid_base64");
    }
}

fn senders(corpus: &mut Corpus) {
    let body = good("crm", 1);
    let push = || Push::signed("crm", body.clone());
    let right = push().headers["webhook-signature"].clone();
    corpus.whole("no timestamp", push().without("webhook-timestamp"), 401, "missing_signature");
    corpus.whole("no signature", push().without("webhook-signature"), 401, "missing_signature");

    let bare = right.strip_prefix("v1,").unwrap();
    let ninth = format!("{}{right}", "v1,AAAA ".repeat(8));
    for signature in [
        "",
        " ",
        "v1",
        "v1,",
        "v1,=",
        "v1,cnry7Qx9",
        bare,
        &format!("v2,{bare}"),
        &format!("v1a,{bare}"),
        &format!("V1,{bare}"),
        &format!("v1 {bare}"),
        &format!("v1,{}", &bare[..20]),
        &format!("v1,{}", bare.to_lowercase()),
        &format!("v1,{}", bare.trim_end_matches('=')),
        &format!("{right},{right}"),
        &format!("v1,{bare}=="),
        &ninth,
        &format!("v1,{}", STANDARD.encode([0; 32])),
        &format!("sha256={bare}"),
    ] {
        corpus.whole(
            format!("signature {signature:.40}"),
            push().with("webhook-signature", signature),
            401,
            "wrong_signature",
        );
    }
    for (name, push) in [
        ("another secret", Push::signed_with("crm", body.clone(), OTHER_SECRET, "msg_1", NOW)),
        ("another id", push().with("webhook-id", "msg_2")),
        ("another time", push().with("webhook-timestamp", (NOW + 1).to_string())),
        ("a zero before the time", push().with("webhook-timestamp", format!("0{NOW}"))),
        ("a space behind the body", push().tampered(format!("{body} "))),
        ("an empty body", push().tampered("")),
        ("written anew", push().tampered(body.replace("\":", "\": "))),
        ("another body", push().tampered(good("crm", 2))),
        ("another source's", Push::signed("shop", body.clone()).path("/v1/sources/crm/changes")),
        ("its own secret on a source without one", Push::signed("events", body.clone())),
        ("the secret of the decoy", Push::signed_with("nobody", body.clone(), DECOY, "msg_1", NOW)),
        (
            "the secret of the decoy, late",
            Push::signed_with("nobody", body.clone(), DECOY, "msg_1", NOW - 900),
        ),
    ] {
        corpus.whole(format!("signature: {name}"), push, 401, "wrong_signature");
    }
    for at in (0..body.len()).step_by(body.len() / 24) {
        let mut bytes = body.clone().into_bytes();
        bytes[at] ^= 1;
        corpus.whole(format!("bit flipped at {at}"), push().tampered(bytes), 401, "wrong_signature");
    }
    for source in
        ["nobody", "CRM", "crm%20", "", "..", "cr", "crm2", "c%72m", "cnry7Qx9", "ü", "*", "{source}"]
    {
        corpus.whole(format!("source {source}"), Push::signed(source, body.clone()), 401, "wrong_signature");
    }
    for time in [
        "",
        " ",
        "-1",
        "+1795551563",
        "1795551563.0",
        "1.8e9",
        "0x6b05",
        "now",
        "2026-11-24T20:19:23Z",
        "1795551563 ",
        "99999999999999999999",
        "1_795_551_563",
        "cnry7Qx9",
        "١",
    ] {
        corpus.whole(
            format!("timestamp {time}"),
            push().with("webhook-timestamp", time),
            401,
            "invalid_timestamp",
        );
    }
    for late in [301, 302, 600, 3_600, 86_400, NOW] {
        let replay = Push::signed_with("crm", body.clone(), SECRET, "msg_1", NOW - late);
        corpus.whole(format!("replay after {late} s"), replay, 401, "timestamp_too_old");
    }
    for early in [301, 302, 86_400, NOW * 999] {
        let replay = Push::signed_with("crm", body.clone(), SECRET, "msg_1", NOW + early);
        corpus.whole(format!("signed {early} s ahead"), replay, 401, "timestamp_too_new");
    }
    principals(corpus);
}

const DECOY: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn principals(corpus: &mut Corpus) {
    let body = good("backoffice", 1);
    for arn in [
        "",
        "cnry7Qx9",
        "*",
        "arn:aws:iam::123456789012:root",
        "arn:aws:iam::123456789012:user/BackOffice",
        "arn:aws:sts::123456789012:assumed-role/BackOfficeX/s",
        "arn:aws:sts::123456789012:assumed-role/backoffice/s",
        "arn:aws:sts::123456789013:assumed-role/BackOffice/s",
        "arn:aws-cn:sts::123456789012:assumed-role/BackOffice/s",
        "arn:aws:sts::123456789012:assumed-role/X/BackOffice",
        "arn:aws:sts::123456789012:federated-user/BackOffice",
        "arn:aws:iam::123456789012:role/jobs",
        "arn:aws:sts::123456789012:assumed-role/BackOffice",
    ] {
        corpus.whole(
            format!("principal {arn}"),
            Push::iam("backoffice", body.clone(), arn),
            401,
            "wrong_principal",
        );
    }
    let right = || Push::iam("backoffice", body.clone(), ROLE_SESSION);
    for (name, authorizer) in [
        ("none", None),
        ("empty", Some(serde_json::json!({}))),
        ("no iam", Some(serde_json::json!({"iam": null}))),
        ("no arn", Some(serde_json::json!({"iam": {"accountId": "123456789012"}}))),
        ("a token", Some(serde_json::json!({"jwt": {"claims": {"sub": ROLE_SESSION}}}))),
    ] {
        let mut push = right();
        push.authorizer = authorizer;
        corpus.whole(format!("authorizer: {name}"), push, 401, "wrong_principal");
    }
    for source in ["crm", "nobody", "", "BACKOFFICE", "cnry7Qx9"] {
        let push = Push::iam(source, body.clone(), ROLE_SESSION);
        corpus.whole(format!("principal on source {source}"), push, 401, "wrong_principal");
    }
    let on_signed_route = right().path("/v1/sources/backoffice/changes");
    corpus.whole("principal on the signed route", on_signed_route, 401, "missing_signature");
}

fn texts(corpus: &mut Corpus) {
    // A good change in which one value is wrong.
    let value = |json: &str| {
        good_with("crm", 1, "after", &format!(r#"{{"customer_id":1,"email":"{CANARY}","note":{json}}}"#))
    };
    for (json, code) in [
        ("nul", "unexpected_character"),
        ("NULL", "unexpected_character"),
        ("True", "unexpected_character"),
        ("NaN", "unexpected_character"),
        ("Infinity", "unexpected_character"),
        ("-Infinity", "bad_number"),
        ("undefined", "unexpected_character"),
        ("'a'", "unexpected_character"),
        ("`a`", "unexpected_character"),
        ("a", "unexpected_character"),
        ("[1,]", "unexpected_character"),
        ("[,1]", "unexpected_character"),
        ("[1 2]", "unexpected_character"),
        ("[1;2]", "unexpected_character"),
        ("{\"a\":1,}", "unexpected_character"),
        ("{,}", "unexpected_character"),
        ("{\"a\"}", "unexpected_character"),
        ("{\"a\" 1}", "unexpected_character"),
        ("{\"a\"::1}", "unexpected_character"),
        ("{a:1}", "unexpected_character"),
        ("{1:1}", "unexpected_character"),
        ("{null:1}", "unexpected_character"),
        ("{\"a\":}", "unexpected_character"),
        ("{\"a\"=1}", "unexpected_character"),
        ("(1)", "unexpected_character"),
        ("/* x */ 1", "unexpected_character"),
        ("1 // x", "unexpected_character"),
        ("# x", "unexpected_character"),
        ("]", "unexpected_character"),
        ("[1}", "unexpected_character"),
        ("+1", "unexpected_character"),
        (".5", "unexpected_character"),
        ("\u{a0}1", "unexpected_character"),
        ("\u{2028}1", "unexpected_character"),
        ("１", "unexpected_character"),
        ("01", "bad_number"),
        ("-01", "bad_number"),
        ("00", "bad_number"),
        ("-", "bad_number"),
        ("--1", "bad_number"),
        ("1.", "bad_number"),
        ("1.e1", "bad_number"),
        ("1e", "bad_number"),
        ("1e+", "bad_number"),
        ("1E-", "bad_number"),
        ("-.5", "bad_number"),
        ("0x10", "unexpected_character"),
        ("1_000", "unexpected_character"),
        ("1.2.3", "unexpected_character"),
        ("1e1.5", "unexpected_character"),
        ("1f", "unexpected_character"),
        ("10n", "unexpected_character"),
        (r#""\x41""#, "bad_escape"),
        (r#""\a""#, "bad_escape"),
        (r#""\0""#, "bad_escape"),
        (r#""\'""#, "bad_escape"),
        (r#""\U0041""#, "bad_escape"),
        (r#""\u""#, "bad_escape"),
        (r#""\u12""#, "bad_escape"),
        (r#""\u12G4""#, "bad_escape"),
        (r#""\u{41}""#, "bad_escape"),
        (r#""\u+041""#, "bad_escape"),
        (r#""\ud800""#, "lone_surrogate"),
        (r#""\udbff""#, "lone_surrogate"),
        (r#""\udc00""#, "lone_surrogate"),
        (r#""\udfff""#, "lone_surrogate"),
        (r#""\ud800x""#, "lone_surrogate"),
        (r#""\ud800\n""#, "lone_surrogate"),
        (r#""\ud800\u0041""#, "lone_surrogate"),
        (r#""\ud83d\ud83d""#, "lone_surrogate"),
        (r#""\ude00\ud83d""#, "lone_surrogate"),
        (r#"{"\ud800":1}"#, "lone_surrogate"),
        (r#"{"a":1,"a":2}"#, "duplicate_name"),
        (r#"{"a":1,"b":2,"a":1}"#, "duplicate_name"),
        (r#"{"a":1,"\u0061":2}"#, "duplicate_name"),
        (r#"{"":1,"":2}"#, "duplicate_name"),
        (r#"{"\u00e9":1,"é":2}"#, "duplicate_name"),
        (r#"{"😀":1,"\ud83d\ude00":2}"#, "duplicate_name"),
        (r#"{"\/":1,"/":2}"#, "duplicate_name"),
        (r#"{"\"":1,"\u0022":2}"#, "duplicate_name"),
        (r#"[{"x":{"y":1,"y":1}}]"#, "duplicate_name"),
        (r#"{"\n":1,"\u000a":2}"#, "duplicate_name"),
        (r#"{"\uFFFF":1,"\uffff":2}"#, "duplicate_name"),
    ] {
        corpus.body(format!("value {json}"), value(json), code);
    }
    for control in 0_u8..0x20 {
        let json = format!("\"a{}b\"", char::from(control));
        corpus.body(format!("control character {control:#04x}"), value(&json), "control_character");
    }
    for (name, bytes) in [
        ("a lone continuation byte", &b"\x80"[..]),
        ("a byte that is never UTF-8", b"\xff"),
        ("another", b"\xfe"),
        ("overlong", b"\xc0\xaf"),
        ("overlong, three bytes", b"\xe0\x80\xaf"),
        ("overlong NUL", b"\xc0\x80"),
        ("cut off", b"\xe2\x82"),
        ("cut off, four bytes", b"\xf0\x9f\x98"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("a pair of surrogates", b"\xed\xa0\xbd\xed\xb8\x80"),
        ("above U+10FFFF", b"\xf4\x90\x80\x80"),
        ("five bytes", b"\xf8\x88\x80\x80\x80"),
        ("latin-1", b"caf\xe9"),
    ] {
        let mut body = good("crm", 1).into_bytes();
        let at = body.windows(CANARY.len()).position(|window| window == CANARY.as_bytes()).unwrap();
        body.splice(at..at, bytes.iter().copied());
        corpus.body(format!("UTF-8: {name}"), body, "not_utf8");
    }
    let utf16 = |little: bool| -> Vec<u8> {
        let units = good("crm", 1);
        units
            .encode_utf16()
            .flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() })
            .collect()
    };
    corpus.body("UTF-16, little", utf16(true), "unexpected_character");
    corpus.body("UTF-16, big", utf16(false), "unexpected_character");
    corpus.body("UTF-16 with mark", [b"\xff\xfe".to_vec(), utf16(true)].concat(), "not_utf8");
    corpus.body("byte order mark", format!("\u{feff}{}", good("crm", 1)), "byte_order_mark");
    corpus.body(
        "byte order mark and a list",
        format!("\u{feff}{}", list(&[&good("crm", 1)])),
        "byte_order_mark",
    );
    for behind in ["{}", ",", "}", "]", "x", "\u{0}", "null", "\u{feff}", "//", "cnry7Qx9", "1"] {
        corpus.body(
            format!("trailing {behind:?}"),
            format!("{} {behind}", good("crm", 1)),
            "trailing_characters",
        );
    }
    let whole = list(&[&good("crm", 1)]);
    for at in (1..whole.len()).step_by(whole.len() / 40) {
        corpus.body(format!("cut at {at}"), &whole[..at], cut_code(&whole[..at]));
    }
    corpus.body("nothing", "", "unexpected_end");
    corpus.body("white space", " \n\t ", "unexpected_end");
}

/// A number that is cut is still a number, a literal is not: our samples have no literals.
fn cut_code(head: &str) -> &'static str {
    assert!(!head.contains("null"));
    "unexpected_end"
}

fn limits(corpus: &mut Corpus) {
    let value = |json: &str| {
        good_with("crm", 1, "after", &format!(r#"{{"customer_id":1,"email":"{CANARY}","note":{json}}}"#))
    };
    for depth in [28, 29, 100, 127, 128, 129, 1_000, 100_000] {
        let arrays = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        corpus.body(format!("{depth} arrays deep"), value(&arrays), "too_deep");
        let objects = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        corpus.body(format!("{depth} objects deep"), value(&objects), "too_deep");
    }
    corpus.body("200,000 open brackets", "[".repeat(200_000), "too_deep");
    for length in [(256 << 10) + 1, 300_000, 900_000] {
        corpus.body(
            format!("a string of {length}"),
            value(&format!("\"{}\"", "x".repeat(length))),
            "string_too_long",
        );
        corpus.body(
            format!("a name of {length}"),
            value(&format!("{{\"{}\":1}}", "x".repeat(length))),
            "string_too_long",
        );
    }
    for count in [1_001, 5_000] {
        let names: Vec<_> = (0..count).map(|number| format!("\"n{number}\":0")).collect();
        corpus.body(format!("{count} names"), value(&format!("{{{}}}", names.join(","))), "too_many_names");
    }
    for count in [100_001, 400_000] {
        corpus.body(
            format!("{count} values"),
            value(&format!("[{}]", vec!["0"; count].join(","))),
            "too_many_values",
        );
    }
    for count in [1_001, 2_000] {
        let change = format!(r#""{CANARY}""#);
        corpus.body(format!("{count} changes"), list(&vec![change.as_str(); count]), "too_many_changes");
    }
}

fn shapes(corpus: &mut Corpus) {
    let one = good("crm", 1);
    for (name, body) in [
        ("an array", format!("[{one}]")),
        ("a string", format!("\"{CANARY}\"")),
        ("a number", "12".to_owned()),
        ("null", "null".to_owned()),
        ("true", "true".to_owned()),
        ("an array of nothing", "[]".to_owned()),
        ("changes is an object", format!(r#"{{"changes":{one}}}"#)),
        ("changes is null", r#"{"changes":null}"#.to_owned()),
        ("changes is a string", format!(r#"{{"changes":"{CANARY}"}}"#)),
        ("changes is a number", r#"{"changes":1}"#.to_owned()),
        ("changes is a boolean", r#"{"changes":false}"#.to_owned()),
        ("changes and another member", format!(r#"{{"changes":[{one}],"{CANARY}":1}}"#)),
        ("changes within a change", format!(r#"{},"changes":[{one}]}}"#, &one[..one.len() - 1])),
    ] {
        corpus.body(format!("shape: {name}"), body, "wrong_shape");
    }
    corpus.body("no changes", r#"{"changes":[]}"#, "no_changes");
    corpus.body("changes twice", format!(r#"{{"changes":[{one}],"changes":[{one}]}}"#), "duplicate_name");
    corpus.body(
        "changes twice, escaped",
        format!(r#"{{"changes":[{one}],"\u0063hanges":[]}}"#),
        "duplicate_name",
    );
    for member in ["model", "operation", "key", "version", "occurred_at", "after"] {
        let head = &one[..one.len() - 1];
        corpus.body(
            format!("{member} twice"),
            format!(r#"{head},"{member}":"{CANARY}"}}"#),
            "duplicate_name",
        );
        let escaped = format!("\\u{:04x}{}", member.as_bytes()[0], &member[1..]);
        corpus.body(
            format!("{member} twice, escaped"),
            format!(r#"{head},"{escaped}":"{CANARY}"}}"#),
            "duplicate_name",
        );
    }
}

fn changes(corpus: &mut Corpus) {
    for json in ["null", "1", "\"cnry7Qx9\"", "[]", "true", "[{\"cnry7Qx9\":1}]"] {
        corpus.change(format!("change {json}"), "crm", json, "not_an_object");
    }
    for name in [
        "Model",
        "MODEL",
        "model ",
        " model",
        "models",
        "data",
        "",
        "id",
        "run",
        "only",
        "origin",
        "source",
        "traceparent",
        "subjectkeyid",
        "__proto__",
        "constructor",
        "cnry7Qx9",
        "op",
        "ts",
        "\u{0}",
        "clé",
        "\u{feff}model",
    ] {
        let name = serde_json::to_string(name).unwrap();
        let name = name.trim_matches('"').to_owned();
        corpus.change(
            format!("member {name:?}"),
            "crm",
            good_with("crm", 1, &name, "\"cnry7Qx9\""),
            "unknown_member",
        );
    }
    for member in ["model", "operation", "key", "occurred_at", "version", "after"] {
        let code = match member {
            "version" => "missing_version",
            "after" => "missing_after",
            _ => "missing_member",
        };
        corpus.change(format!("no {member}"), "crm", good_without("crm", 1, member), code);
        corpus.customer(member, "null", code);
    }
    corpus.change("empty", "crm", "{}", "missing_member");
    for member in ["model", "operation", "occurred_at"] {
        for json in ["1", "true", "[\"cnry7Qx9\"]", "{\"cnry7Qx9\":1}", "1.5"] {
            corpus.customer(member, json, "wrong_type");
        }
    }
    for member in ["key", "before", "after"] {
        for json in ["1", "true", "[\"cnry7Qx9\"]", "\"cnry7Qx9\"", "[{}]"] {
            corpus.customer(member, json, "wrong_type");
        }
    }
    for json in ["true", "[1]", "{\"a\":1}"] {
        corpus.customer("version", json, "wrong_type");
        corpus.change(
            format!("price version={json}"),
            "shop",
            good_with("shop", 1, "version", json),
            "wrong_type",
        );
    }
    let long = format!("\"{}\"", "x".repeat(10_000));
    for json in [
        "\"\"",
        "\"Customer\"",
        "\"customer \"",
        "\"customers\"",
        "\"*\"",
        "\"../price\"",
        "\"cnry7Qx9\"",
        "\"ü\"",
        "\"customer\\u0000\"",
        &long,
    ] {
        corpus.customer("model", json, "unknown_model");
    }
    for json in ["\"price\"", "\"setting\"", "\"\\u0070rice\""] {
        corpus.customer("model", json, "forbidden_model");
    }
    for json in [
        "\"\"",
        "\"UPDATE\"",
        "\"Update\"",
        "\"update \"",
        "\"upsert\"",
        "\"insert\"",
        "\"updated\"",
        "\"c\"",
        "\"d\"",
        "\"read\"",
        "\"truncate\"",
        "\"cnry7Qx9\"",
    ] {
        corpus.customer("operation", json, "unknown_operation");
    }
    records(corpus);
    misshapen(corpus);
    times(corpus);
    versions(corpus);
    let values =
        format!(r#"{{"customer_id":1,"email":"{CANARY}","note":[{}]}}"#, vec!["0"; 30_000].join(","));
    corpus.customer("after", &values, "too_many_values");
    let half = "x".repeat(200 << 10);
    corpus.customer(
        "after",
        &format!(r#"{{"customer_id":1,"email":"{CANARY}","note":["{half}","{half}"]}}"#),
        "change_too_large",
    );
}

fn records(corpus: &mut Corpus) {
    for json in ["\"create\"", "\"snapshot\""] {
        let before = r#"{"customer_id":1,"email":"cnry7Qx9"}"#;
        let change = good_with("crm", 1, "before", before).replace("\"update\"", json);
        corpus.change(format!("before with {json}"), "crm", change, "before_not_allowed");
        let change = good_without("crm", 1, "after").replace("\"update\"", json);
        corpus.change(format!("no after with {json}"), "crm", change, "missing_after");
    }
    corpus.customer("operation", "\"delete\"", "after_not_allowed");
    for after in [
        r#"{"customer_id":2,"email":"cnry7Qx9"}"#,
        r#"{"customer_id":"1"}"#,
        r#"{"customer_id":null}"#,
        r#"{"customer_id":[1]}"#,
        r#"{"customer_id":{"a":1}}"#,
        r#"{"customer_id":true}"#,
        r#"{"Customer_id":1}"#,
        r#"{"email":"cnry7Qx9"}"#,
        "{}",
        r#"{"customer_id":-1}"#,
        r#"{"customer":{"customer_id":1}}"#,
    ] {
        corpus.customer("after", after, "key_mismatch");
    }
    for before in [
        r#"{"customer_id":2,"email":"cnry7Qx9"}"#,
        r#"{"customer_id":"1"}"#,
        r#"{"customer_id":null}"#,
        r#"{"email":"cnry7Qx9"}"#,
        "{}",
    ] {
        corpus.customer("before", before, "key_changed");
        let delete = good_with("crm", 1, "before", before).replace("\"update\"", "\"delete\"");
        let delete = delete
            .replacen("\"after\":", "\"x\":", 1)
            .replace(&format!(",\"x\":{}", good_members("crm", 1)[5].1), "");
        corpus.change(format!("delete with before {before}"), "crm", delete, "key_changed");
    }
}

fn misshapen(corpus: &mut Corpus) {
    for (member, json) in [
        ("address", "\"cnry7Qx9\""),
        ("address", "[]"),
        ("address", "1"),
        ("contacts", "\"cnry7Qx9\""),
        ("contacts", "{\"kind\":\"cnry7Qx9\"}"),
        ("contacts", "[\"cnry7Qx9\"]"),
        ("contacts", "[[]]"),
        ("contacts", "true"),
    ] {
        corpus.customer("after", &format!(r#"{{"customer_id":1,"{member}":{json}}}"#), "type_mismatch");
        corpus.customer("before", &format!(r#"{{"customer_id":1,"{member}":{json}}}"#), "type_mismatch");
    }
}

fn times(corpus: &mut Corpus) {
    let wrong = [
        "",
        "now",
        "2026-11-24",
        "20:19:23Z",
        "2026-11-24T20:19:23",
        "2026-11-24T20:19Z",
        "2026-11-24 20:19:23Z",
        "2026-11-24t20:19:23z",
        "20261124T201923Z",
        "2026-11-24T20:19:23+01",
        "2026-11-24T20:19:23+0100",
        "2026-11-24T20:19:23 Z",
        "2026-13-24T20:19:23Z",
        "2026-00-24T20:19:23Z",
        "2026-02-30T20:19:23Z",
        "2025-02-29T20:19:23Z",
        "2026-11-24T24:19:23Z",
        "2026-11-24T20:60:23Z",
        "2026-11-24T20:19:61Z",
        "2026-11-24T20:19:23.Z",
        "2026-11-24T20:19:23,5Z",
        "2026-11-24T20:19:23.0123456789Z",
        "2026-11-24T20:19:23+25:00",
        "2026-11-24T20:19:23Z[Europe/Berlin]",
        "Tue, 24 Nov 2026 20:19:23 GMT",
        "1795551563",
        "2026-W48-2T20:19:23Z",
        "-2026-11-24T20:19:23Z",
        "+2026-11-24T20:19:23Z",
        "２026-11-24T20:19:23Z",
        "2026-11-24T20:19:23Z\u{0}",
        "cnry7Qx9",
    ];
    for text in wrong {
        let json = serde_json::to_string(text).unwrap();
        corpus.customer("occurred_at", &json, "invalid_time");
        if text != "1795551563" {
            corpus.customer("version", &json, "invalid_version");
        }
    }
    for text in
        ["2026-11-24T20:24:24Z", "2026-11-24T21:24:24+01:00", "2027-01-01T00:00:00Z", "9999-12-01T00:00:00Z"]
    {
        corpus.customer("occurred_at", &format!("\"{text}\""), "time_ahead");
        corpus.customer("version", &format!("\"{text}\""), "version_ahead");
    }
}

fn versions(corpus: &mut Corpus) {
    for json in [
        "-1",
        "-0",
        "1.0",
        "1.5",
        "1e3",
        "1E3",
        "10000000000000000000000000000000000000000",
        "1e400",
        "0.1",
        "\"\"",
        "\" 1\"",
        "\"1 \"",
        "\"-1\"",
        "\"+1\"",
        "\"1.0\"",
        "\"1e3\"",
        "\"0x1F\"",
        "\"1_000\"",
        "\"1,000\"",
        "\"abc\"",
        "\"١٢\"",
        "\"１\"",
        "\"10000000000000000000000000000000000000000\"",
        "\"2026-11-24T20:19:23Z\"",
        "\"cnry7Qx9\"",
        "\"1\\u0000\"",
    ] {
        corpus.change(
            format!("price version={json}"),
            "shop",
            good_with("shop", 1, "version", json),
            "invalid_version",
        );
    }
    for json in ["1", "\"1\"", "0", "\"2026-11-24T20:19:23Z\"", "\"cnry7Qx9\"", "{}", "true"] {
        let change = good_with("backoffice", 1, "version", json);
        corpus.change(format!("setting version={json}"), "backoffice", change, "version_not_allowed");
    }
    for json in [
        "0",
        "1",
        "1795551563",
        "1795551563123",
        "\"1795551563\"",
        "99999999999999",
        "-1795551563123456",
        "1795551563123456.0",
        "1.8e15",
        "\"1969-12-31T23:59:59Z\"",
        "10000000000000000000000000000000000000000",
        "\"0000000000000000000000000000000001795551563123456789\"",
    ] {
        corpus.customer("version", json, "invalid_version");
    }
    for json in [
        "1795551863000001",
        "1795551563123456789",
        "\"1795551863000001\"",
        "9999999999999999999999999999999999999999",
    ] {
        corpus.customer("version", json, "version_ahead");
    }
}

fn corpus() -> Corpus {
    let mut corpus = Corpus::default();
    outside(&mut corpus);
    senders(&mut corpus);
    texts(&mut corpus);
    limits(&mut corpus);
    shapes(&mut corpus);
    changes(&mut corpus);
    keys(&mut corpus);
    corpus
}

fn keys(corpus: &mut Corpus) {
    for (json, code) in [
        ("{}", "key_attributes"),
        (r#"{"Customer_id":1}"#, "key_attributes"),
        (r#"{"id":1}"#, "key_attributes"),
        (r#"{"customer_id":1,"cnry7Qx9":2}"#, "key_attributes"),
        (r#"{"customer_id":1,"email":"cnry7Qx9"}"#, "key_attributes"),
        (r#"{"customer_id ":1}"#, "key_attributes"),
        (r#"{"customer_id":null}"#, "key_value"),
        (r#"{"customer_id":[1]}"#, "key_value"),
        (r#"{"customer_id":{"a":1}}"#, "key_value"),
        (r#"{"customer_id":1.5}"#, "key_value"),
        (r#"{"customer_id":1.0}"#, "key_value"),
        (r#"{"customer_id":1e2}"#, "key_value"),
        (r#"{"customer_id":-0}"#, "key_value"),
        (r#"{"customer_id":"1"}"#, "key_value"),
        (r#"{"customer_id":true}"#, "key_value"),
        (r#"{"customer_id":"cnry7Qx9"}"#, "key_value"),
    ] {
        corpus.customer("key", json, code);
    }
    for (json, code) in [
        (r#"{"sku":"cnry7Qx9-1"}"#, "key_attributes"),
        (r#"{"currency":"EUR"}"#, "key_attributes"),
        (r#"{"sku":"cnry7Qx9-1","Currency":"EUR"}"#, "key_attributes"),
        (r#"{"sku":"cnry7Qx9-1","currency":null}"#, "key_value"),
        (r#"{"sku":"cnry7Qx9-1","currency":1.5}"#, "key_value"),
        (r#"{"sku":1,"currency":"EUR"}"#, "key_value"),
        (r#"{"sku":"cnry7Qx9-1","currency":"EUR","amount":1}"#, "key_attributes"),
        (r#"{"sku":"cnry7Qx9-1","currency":"USD"}"#, "key_mismatch"),
        (r#"{"sku":"CNRY7QX9-1","currency":"EUR"}"#, "key_mismatch"),
    ] {
        corpus.change(format!("price key={json}"), "shop", good_with("shop", 1, "key", json), code);
    }
}

#[test]
fn every_malformed_request_is_refused_with_its_reason() {
    let requests = check_all();
    let lines = logs::lines();
    assert!(lines.len() >= requests, "each answer is logged");
    let leaked: Vec<_> =
        lines.iter().filter(|line| line.to_lowercase().contains(&CANARY.to_lowercase())).collect();
    assert!(leaked.is_empty(), "no log line repeats the input: {leaked:?}");
}

/// Sends them all, and says how many requests that were.
fn check_all() -> usize {
    let corpus = corpus();
    let mut distinct = BTreeSet::new();
    let mut codes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut problems = Vec::new();

    for case in &corpus.whole {
        let bench = Bench::new();
        let answer = bench.send(&case.push);
        let payload = case.push.payload().to_string();
        if (answer.status, answer.code()) != (case.status, case.code) {
            problems.push(format!("{}: {} {}", case.name, answer.status, answer.text));
        }
        check_common(&case.name, &answer.text, &mut problems);
        if !bench.queued().is_empty() {
            problems.push(format!("{}: reached the queue", case.name));
        }
        if !distinct.insert(payload) {
            problems.push(format!("{}: the same request once more", case.name));
        }
        *codes.entry(case.code).or_default() += 1;
    }

    for case in &corpus.changes {
        let is_object = case.change.starts_with('{');
        let alone = if is_object { case.change.clone() } else { list(&[&case.change]) };
        let alone = Push::signed(case.source, alone);
        let bench = Bench::new();
        let answer = bench.send(&alone);
        let status = if case.code == "forbidden_model" { 403 } else { 422 };
        if answer.status != status || answer.rejected() != [(0, case.code.to_owned())] {
            problems.push(format!("{}: {} {}", case.name, answer.status, answer.text));
        }
        check_common(&case.name, &answer.text, &mut problems);
        if !bench.queued().is_empty() {
            problems.push(format!("{}: reached the queue", case.name));
        }
        if !distinct.insert(alone.payload().to_string()) {
            problems.push(format!("{}: the same request once more", case.name));
        }
        *codes.entry(case.code).or_default() += 1;

        let (first, third) = (good(case.source, 101), good(case.source, 103));
        let among_good = Push::signed(case.source, list(&[&first, &case.change, &third]));
        let bench = Bench::new();
        let answer = bench.send(&among_good);
        if answer.status != 202
            || answer.accepted() != [0, 2]
            || answer.rejected() != [(1, case.code.to_owned())]
        {
            problems.push(format!("{} among good ones: {} {}", case.name, answer.status, answer.text));
        }
        check_common(&case.name, &answer.text, &mut problems);
        let arrived = |number: &str| {
            bench.queued().iter().filter(|body| body.contains(&format!("{CANARY}{number}"))).count()
        };
        if (bench.queued().len(), arrived("-101"), arrived("-103")) != (2, 1, 1) {
            problems.push(format!("{}: the good changes have not arrived", case.name));
        }
    }

    let total = corpus.whole.len() + corpus.changes.len();
    println!(
        "{total} malformed requests, {} of them distinct, {} with good changes beside them",
        distinct.len(),
        corpus.changes.len()
    );
    for (code, count) in &codes {
        println!("{count:5} {code}");
    }
    assert!(problems.is_empty(), "{} wrong answers:\n{}", problems.len(), problems.join("\n"));
    assert_eq!(distinct.len(), total, "every case is another request");
    assert!(total >= 300, "{total}");
    corpus.whole.len() + 2 * corpus.changes.len()
}

/// Nothing of the request comes back, and every answer says why.
fn check_common(name: &str, text: &str, problems: &mut Vec<String>) {
    if text.to_lowercase().contains(&CANARY.to_lowercase()) {
        problems.push(format!("{name}: repeats the input: {text}"));
    }
    if !text.contains(r#"\"message\":\""#) {
        problems.push(format!("{name}: gives no reason: {text}"));
    }
}
