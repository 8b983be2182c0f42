//! Signature Version 4, checked as AWS documents it and without the code that signs.

use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_lc_rs::{digest, hmac};
use sync_aws::sigv4::SigV4;
use sync_domain::ports::{Kind, Signer};
use sync_testkit::MemorySigner;

use crate::endpoint::Got;
use crate::world::{NOW, Sample, World, advance, now, update};

/// The credentials of the function's role: key id, secret, session token.
const KEYS: (&str, &str, &str) =
    ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaDGV1");

/// The real signer, with these credentials, in `eu-north-1`.
pub(crate) fn signer() -> Arc<dyn Signer> {
    let keys = Credentials::new(KEYS.0, KEYS.1, Some(KEYS.2.to_owned()), None, "test");
    Arc::new(SigV4::new(Some(SharedCredentialsProvider::new(keys)), Some("eu-north-1".to_owned())))
}

/// What a service of AWS checks before it lets a request in.
#[derive(Clone, Copy)]
struct Checker<'a> {
    secret: &'a str,
    service: &'a str,
    region: &'a str,
    now: i64,
}

const CHECKER: Checker<'static> =
    Checker { secret: KEYS.1, service: "execute-api", region: "eu-central-1", now: NOW };

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

/// Percent-encodes all but the unreserved characters.
fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// `20261124T223923Z`, by the civil calendar.
fn stamp(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (mut year, mut day) = (1970, days);
    let length = |year: i64| {
        if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 366 } else { 365 }
    };
    while day >= length(year) {
        day -= length(year);
        year += 1;
    }
    let february = length(year) - 337;
    let mut month = 0;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        month += 1;
        if day < days {
            break;
        }
        day -= days;
    }
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{:02}T{hour:02}{minute:02}{second:02}Z", day + 1)
}

impl Checker<'_> {
    /// Why the request is not let in.
    fn check(&self, got: &Got) -> Result<(), &'static str> {
        let shown = got.header("authorization").strip_prefix("AWS4-HMAC-SHA256 ").ok_or("unsigned")?;
        let part = |name: &str| {
            shown.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
        };
        let (credential, names, signature) = (part("Credential"), part("SignedHeaders"), part("Signature"));
        let date = got.header("x-amz-date");
        let within = (-300..=300).any(|off| stamp(self.now + off) == date);
        if !within {
            return Err("time");
        }
        let day = date.get(..8).ok_or("date")?;
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        if credential != format!("{}/{scope}", KEYS.0) {
            return Err("scope");
        }
        // All of these are signed, and so is every header of AWS's own that is there.
        let own = got.headers.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("x-amz-"));
        if own.chain(["host", "x-amz-date"]).any(|name| !names.split(';').any(|signed| signed == name)) {
            return Err("a header is not signed");
        }
        let mut words = got.line.split(' ');
        let (method, target) = (words.next().ok_or("line")?, words.next().ok_or("line")?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path: Vec<_> = path.split('/').map(encode).collect();
        let mut query: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).collect();
        query.sort_unstable();
        let headers: String =
            names.split(';').map(|name| format!("{name}:{}\n", got.header(name).trim())).collect();
        let canonical = format!(
            "{method}\n{}\n{}\n{headers}\n{names}\n{}",
            path.join("/"),
            query.join("&"),
            sha256(&got.body)
        );
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(&canonical));
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in [day, self.region, self.service, "aws4_request"] {
            key = mac(&key, part);
        }
        if hex(&mac(&key, &text)) == signature { Ok(()) } else { Err("signature") }
    }
}

/// A target behind API Gateway. Its address is on this machine, so the region is written.
const SIGNED: &str = "
target: loyalty
subscribe: [{ model: customer }]
attributes: [customer_id, email]
endpoint:
  url: \"URL?stage=a%20b&a=1\"
  timeout: 2s
  auth: { sigv4: { service: execute-api, region: eu-central-1 } }
  operations:
    update: { method: PUT, path: \"/customers/{customer_id}/ä b\", body: attributes }
    delete: { method: DELETE, path: \"/customers/{customer_id}\", body: none }
";

async fn got() -> Got {
    let world = World::of(SIGNED).await;
    assert!(world.one(&update(1)).await);
    world.endpoint.got().remove(0)
}

fn with(got: &Got, name: &str, value: &str) -> Got {
    let mut changed = got.clone();
    let header = changed.headers.iter_mut().find(|(known, _)| known == name).unwrap();
    assert_ne!(header.1, value);
    value.clone_into(&mut header.1);
    changed
}

#[test]
fn the_checker_takes_the_example_of_the_documentation() {
    let headers = [
        ("host", "iam.amazonaws.com"),
        ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("x-amz-date", "20150830T123600Z"),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
    ];
    let got = Got {
        line: "GET /?Action=ListUsers&Version=2010-05-08 HTTP/1.1".to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        body: String::new(),
    };
    let checker = Checker { service: "iam", region: "us-east-1", now: 1_440_938_160, ..CHECKER };
    assert_eq!(checker.check(&got), Ok(()));
    assert_eq!(Checker { now: 1_440_938_160 + 301, ..checker }.check(&got), Err("time"));
}

#[tokio::test]
async fn every_request_is_signed_as_aws_checks_it() {
    let world = World::of(SIGNED).await;
    let another = Sample { email: "b@example.com", ..update(2) };
    for event in [update(1), another, crate::world::delete(3)] {
        assert!(world.one(&event).await);
        advance(7);
    }
    let got = world.endpoint.got();
    let lines: Vec<_> = got.iter().map(|got| got.line.trim_end_matches(" HTTP/1.1")).collect();
    assert_eq!(
        lines,
        [
            "POST /hook?stage=a%20b&a=1",
            "PUT /hook/customers/1/%C3%A4%20b?stage=a%20b&a=1",
            "DELETE /hook/customers/1?stage=a%20b&a=1"
        ]
    );
    for (got, after) in got.iter().zip([0, 7, 14]) {
        assert_eq!(Checker { now: NOW + after, ..CHECKER }.check(got), Ok(()), "{}", got.line);
        assert_eq!(got.header("x-amz-date"), stamp(NOW + after), "the time of the attempt");
        assert_eq!(got.header("x-amz-security-token"), KEYS.2);
        assert!(!got.header("webhook-id").is_empty());
    }
}

#[tokio::test]
async fn a_request_that_somebody_changed_is_not_let_in() {
    let got = got().await;
    assert_eq!(CHECKER.check(&got), Ok(()));
    let body = Got { body: got.body.replace("a@example.com", "b@example.com"), ..got.clone() };
    assert_eq!(CHECKER.check(&body), Err("signature"));
    let line = Got { line: got.line.replace("POST", "PUT"), ..got.clone() };
    assert_eq!(CHECKER.check(&line), Err("signature"));
    let query = Got { line: got.line.replace("a=1", "a=2"), ..got.clone() };
    assert_eq!(CHECKER.check(&query), Err("signature"));
    for name in ["host", "content-type", "x-amz-security-token"] {
        assert_eq!(CHECKER.check(&with(&got, name, "other.example")), Err("signature"), "{name}");
    }
    assert_eq!(CHECKER.check(&with(&got, "x-amz-date", &stamp(NOW + 1))), Err("signature"));
    assert_eq!(CHECKER.check(&with(&got, "x-amz-date", &stamp(NOW + 301))), Err("time"));
    let unsigned = got.header("authorization").replace(";x-amz-security-token", "");
    assert_eq!(CHECKER.check(&with(&got, "authorization", &unsigned)), Err("a header is not signed"));
    assert_eq!(Checker { secret: "another", ..CHECKER }.check(&got), Err("signature"));
    assert_eq!(Checker { service: "lambda", ..CHECKER }.check(&got), Err("scope"));
    assert_eq!(Checker { region: "us-east-1", ..CHECKER }.check(&got), Err("scope"));
    // Ours, and none of the service's business.
    assert_eq!(CHECKER.check(&with(&got, "webhook-id", "evt_other")), Ok(()));
}

#[tokio::test]
async fn a_lambda_url_is_signed_for_lambda() {
    let yaml = SIGNED.replace("service: execute-api", "service: lambda");
    let world = World::of(&yaml).await;
    assert!(world.one(&update(1)).await);
    let got = world.endpoint.got().remove(0);
    assert_eq!(Checker { service: "lambda", ..CHECKER }.check(&got), Ok(()));
}

#[tokio::test]
async fn without_a_region_the_functions_own_is_signed_for() {
    let world = World::of(&SIGNED.replace(", region: eu-central-1", "")).await;
    assert!(world.one(&update(1)).await);
    let got = world.endpoint.got().remove(0);
    assert_eq!(Checker { region: "eu-north-1", ..CHECKER }.check(&got), Ok(()));
}

#[tokio::test]
async fn credentials_that_are_away_set_the_record_back_and_open_nothing() {
    let mut world = World::of(SIGNED).await;
    let signer = MemorySigner::default();
    world.deps.signer = Arc::new(signer.clone());
    signer.faults.outage(Kind::Unavailable);
    for number in 1..=4 {
        assert!(!world.one(&Sample { record: number, ..update(1) }).await);
    }
    assert!(world.reported().is_empty() && world.arrived() == 0);
    signer.faults.recover();
    assert!(world.one(&update(1)).await);
    signer.faults.outage(Kind::Refused);
    assert!(!world.one(&Sample { email: "b@example.com", ..update(2) }).await);
    assert_eq!((world.reported(), world.arrived()), (vec!["target_misconfigured".to_owned()], 1));
}

#[tokio::test]
async fn a_role_that_may_not_invoke_is_trouble_of_the_target() {
    let world = World::of(SIGNED).await;
    world.endpoint.always(403);
    assert!(!world.one(&update(1)).await);
    assert_eq!((world.arrived(), world.dead().len()), (1, 0), "the same role would be refused again");
    assert_eq!(world.reported(), ["target_misconfigured"]);
    assert_eq!(world.secrets.faults.calls(), 0, "there is no secret to read");
    assert_eq!(now(), NOW);
}
