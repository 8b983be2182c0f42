//! OAuth 2.0: where tokens come from, how long they are used, and what becomes of a delivery where there is none.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use deliver::deps::{guard, token_guard};
use sync_domain::ports::Kind;
use sync_testkit::Fault;

use crate::endpoint::Got;
use crate::judge::{Judge, Reply};
use crate::world::{SECRET_NAME, Sample, World, advance, batch, now, update};

const CLIENT: &str = r#"{"client_id":"datasync","client_secret":"s-1"}"#;

/// A token endpoint that knows some client secrets, and the target that takes its tokens.
#[derive(Clone)]
struct Issuer {
    state: Arc<Mutex<State>>,
}

struct State {
    /// The client secrets that it takes.
    secrets: BTreeSet<String>,
    /// How many seconds a token is good.
    lasts: i64,
    issued: u32,
    /// Tokens that are good, and until when.
    good: Vec<(String, i64)>,
    /// What it answers instead.
    answer: Option<(u16, &'static str, String)>,
}

impl Issuer {
    fn new() -> Self {
        let secrets = BTreeSet::from(["s-1".to_owned()]);
        let state = State { secrets, lasts: 3_600, issued: 0, good: Vec::new(), answer: None };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// Takes these client secrets only.
    fn takes(&self, secrets: &[&str]) {
        self.with(|state| state.secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect());
    }

    fn answers(&self, status: u16, header: &'static str, body: &str) {
        self.with(|state| state.answer = Some((status, header, body.to_owned())));
    }

    /// As the token endpoint.
    fn token(&self, got: &Got) -> Reply {
        self.with(|state| {
            if let Some((status, header, body)) = &state.answer {
                return Reply { status: *status, headers: (*header).to_owned(), body: body.clone() };
            }
            let known = state.secrets.iter().any(|secret| {
                let basic = format!("Basic {}", STANDARD.encode(format!("datasync:{secret}")));
                got.header("authorization") == basic
                    || got.body.ends_with(&format!("&client_id=datasync&client_secret={secret}"))
            });
            if !known {
                let body = r#"{"error":"invalid_client"}"#.to_owned();
                return Reply { status: 401, headers: String::new(), body };
            }
            state.issued += 1;
            let token = format!("token-{}", state.issued);
            state.good.push((token.clone(), now() + state.lasts));
            let lasts = state.lasts;
            let body = format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{lasts}}}"#);
            Reply { status: 200, headers: String::new(), body }
        })
    }

    /// As the target.
    fn target(&self, got: &Got) -> Reply {
        let shown = got.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
        let good =
            self.with(|state| state.good.iter().any(|(token, until)| token == shown && now() < *until));
        if good { 204.into() } else { 401.into() }
    }
}

/// A target with OAuth 2.0, its token endpoint, and the function.
struct Scene {
    issuer: Issuer,
    tokens: Judge,
    target: Judge,
    world: World,
}

async fn scene() -> Scene {
    scene_with("").await
}

/// The same with more lines in `oauth2`.
async fn scene_with(more: &str) -> Scene {
    let issuer = Issuer::new();
    let (at_tokens, at_target) = (issuer.clone(), issuer.clone());
    let tokens = Judge::start(move |got| Some(at_tokens.token(got))).await;
    let target = Judge::start(move |got| Some(at_target.target(got))).await;
    let world = world(&target.url("/hook"), &tokens.url("/token"), more).await;
    Scene { issuer, tokens, target, world }
}

async fn world(target: &str, token_url: &str, more: &str) -> World {
    let yaml = format!(
        "
target: loyalty
subscribe: [{{ model: customer }}]
endpoint:
  url: \"{target}\"
  timeout: 1s
  auth: {{ oauth2: {{ token_url: \"{token_url}\", secret: {SECRET_NAME}{more} }} }}
"
    );
    let world = World::of(&yaml).await;
    world.secrets.set(SECRET_NAME, CLIENT);
    world
}

/// An event of a record of its own, so that the ledger never finds it unchanged.
fn record(number: u32) -> Sample {
    Sample { record: number, ..update(1) }
}

fn batch_of(numbers: impl IntoIterator<Item = u32>) -> aws_lambda_events::sqs::SqsEvent {
    let samples: Vec<_> = numbers.into_iter().map(record).collect();
    batch(&samples)
}

/// Everything that the function has written down or said, apart from the requests.
fn said(world: &World) -> String {
    format!("{:?} {:?} {:?}", world.bus.reported(), world.breaker(), world.dead_letters.entries())
}

#[tokio::test]
async fn one_token_is_asked_for_and_shown_on_every_request() {
    let scene = scene_with(", scope: \"events:write\", audience: \"https://api.example\"").await;
    for number in 1..=3 {
        assert!(scene.world.one(&record(number)).await);
    }
    let asked = scene.tokens.got();
    assert_eq!((asked.len(), scene.target.count()), (1, 3));
    assert_eq!(asked[0].line, "POST /token HTTP/1.1");
    assert_eq!(asked[0].header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(asked[0].header("authorization"), format!("Basic {}", STANDARD.encode("datasync:s-1")));
    assert_eq!(
        asked[0].body,
        "grant_type=client_credentials&scope=events%3Awrite&audience=https%3A%2F%2Fapi.example"
    );
    assert!(scene.target.got().iter().all(|got| got.header("authorization") == "Bearer token-1"));
    assert_eq!(scene.target.got()[0].header("webhook-id"), record(1).id());
}

#[tokio::test]
async fn a_client_can_show_itself_in_the_body() {
    let scene = scene_with(", client_auth: body").await;
    assert!(scene.world.one(&record(1)).await);
    let asked = scene.tokens.got().remove(0);
    assert_eq!(asked.header("authorization"), "");
    assert_eq!(asked.body, "grant_type=client_credentials&client_id=datasync&client_secret=s-1");
}

#[tokio::test]
async fn requests_side_by_side_share_one_call_for_a_token() {
    let scene = scene().await;
    assert!(scene.world.work(batch_of(1..=10)).await.is_empty());
    assert_eq!((scene.tokens.count(), scene.target.count()), (1, 10));
    // A failure is shared too.
    let scene = scene_with("").await;
    scene.issuer.answers(503, "", "");
    assert_eq!(scene.world.work(batch_of(1..=10)).await.len(), 10);
    assert_eq!((scene.tokens.count(), scene.target.count()), (1, 0));
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_no_request_pays_for_it() {
    let scene = scene().await;
    scene.issuer.with(|state| state.lasts = 100);
    for number in 1..=100 {
        assert!(scene.world.one(&record(number)).await);
        advance(10);
    }
    // 1,000 seconds: each token was used for 88 of its 100, which is 9 requests.
    assert_eq!((scene.tokens.count(), scene.target.count()), (12, 100), "none was refused");
}

#[tokio::test]
async fn a_token_that_ends_at_once_is_good_for_those_who_waited_for_it() {
    let scene = scene().await;
    let target = Judge::start(|_| Some(204.into())).await;
    let world = world(&target.url("/"), &scene.tokens.url("/token"), "").await;
    scene.issuer.with(|state| state.lasts = 0);
    assert!(world.work(batch_of(1..=5)).await.is_empty());
    assert_eq!(scene.tokens.count(), 1);
    assert!(world.one(&record(6)).await);
    assert_eq!((scene.tokens.count(), target.count()), (2, 6));
}

#[tokio::test]
async fn a_401_renews_the_token_once_for_all_who_showed_it() {
    let scene = scene().await;
    assert!(scene.world.one(&record(1)).await);
    scene.issuer.with(|state| state.good.clear());
    assert!(scene.world.work(batch_of(2..=11)).await.is_empty());
    // The first ten were refused together, or came so late that they had the new token at once.
    assert_eq!(scene.tokens.count(), 2);
    assert!(scene.world.reported().is_empty() && scene.world.dead().is_empty());
}

#[tokio::test]
async fn a_target_that_refuses_every_token_costs_one_more_of_each_and_then_waits() {
    let scene = scene().await;
    let target = Judge::start(|_| Some(401.into())).await;
    let world = world(&target.url("/"), &scene.tokens.url("/token"), "").await;
    assert!(!world.one(&record(1)).await);
    assert_eq!((scene.tokens.count(), target.count()), (2, 2));
    assert_eq!((world.reported(), world.dead().len()), (vec!["target_misconfigured".to_owned()], 0));
    let place = world.bus.reported()[0].reason.place.clone();
    assert_eq!(place, "status 401");
    assert!(!world.one(&record(2)).await);
    assert_eq!((scene.tokens.count(), target.count()), (2, 2), "nothing more is sent");
}

#[tokio::test]
async fn another_answer_than_401_renews_nothing() {
    let scene = scene().await;
    for status in [403, 404, 422, 500] {
        let target = Judge::start(move |_| Some(status.into())).await;
        let world = world(&target.url("/"), &scene.tokens.url("/token"), "").await;
        let before = scene.tokens.count();
        world.one(&record(1)).await;
        assert_eq!((scene.tokens.count() - before, target.count()), (1, 1), "{status}");
    }
}

#[tokio::test]
async fn the_same_token_again_is_not_sent_again() {
    let tokens = Judge::start(|_| {
        let body = r#"{"access_token":"always","token_type":"bearer","expires_in":60}"#.to_owned();
        Some(Reply { status: 200, headers: String::new(), body })
    });
    let (tokens, target) = (tokens.await, Judge::start(|_| Some(401.into())).await);
    let world = world(&target.url("/"), &tokens.url("/token"), "").await;
    assert!(!world.one(&record(1)).await);
    assert_eq!((tokens.count(), target.count()), (2, 1));
}

#[tokio::test]
async fn a_token_endpoint_that_is_away_makes_the_target_away() {
    let scene = scene().await;
    scene.issuer.answers(503, "", "");
    assert_eq!(scene.world.work(batch_of(1..=3)).await.len(), 3);
    let standing = scene.world.ask(r#"{"work":"status"}"#).await.unwrap();
    assert_eq!(standing.state, "open", "three records without a token");
    assert_eq!(
        (scene.world.reported(), scene.world.dead().len()),
        (vec!["access_token_unavailable".to_owned()], 0)
    );
    assert_eq!(scene.world.bus.reported()[0].reason.place, "token endpoint, status 503");
    scene.issuer.with(|state| state.answer = None);
    advance(60);
    scene.world.ask(r#"{"work":"resume"}"#).await.unwrap();
    assert!(scene.world.work(batch_of(1..=3)).await.is_empty());

    let silent = Judge::start(|_| None).await;
    let world = world(&scene.target.url("/"), &silent.url("/token"), "").await;
    assert!(!world.one(&record(1)).await);
    assert_eq!((silent.count(), world.dead().len()), (1, 0));
    assert_eq!(world.work(batch_of(1..=3)).await.len(), 3);
    assert_eq!(world.bus.reported()[0].reason.place, "token endpoint, timeout");
}

#[tokio::test]
async fn a_token_endpoint_that_asks_for_time_gets_it_and_opens_nothing() {
    for status in [429, 503] {
        let scene = scene().await;
        scene.issuer.answers(status, "retry-after: 7200\r\n", "");
        assert_eq!(scene.world.work(batch_of(1..=4)).await.len(), 4);
        assert!(scene.world.inbox.delays().iter().all(|(_, delay)| delay.as_secs() == 7_200), "{status}");
        assert!(scene.world.reported().is_empty(), "{status}");
    }
}

#[tokio::test]
async fn no_answer_of_a_token_endpoint_is_a_records_fault() {
    let long = format!(r#"{{"access_token":"{}","token_type":"bearer"}}"#, "a".repeat(70_000));
    for (status, header, body, place) in [
        (400, "", r#"{"error":"invalid_scope"}"#, "token endpoint, status 400 invalid_scope"),
        (401, "", "", "token endpoint, status 401"),
        (403, "", r#"{"error":"s-1"}"#, "token endpoint, status 403"),
        (404, "", "", "token endpoint, no token in status 404"),
        (302, "location: /other\r\n", "", "token endpoint, no token in status 302"),
        (200, "", "<html>", "token endpoint, no token in status 200"),
        (200, "", long.as_str(), "token endpoint, no token in status 200"),
    ] {
        let scene = scene().await;
        scene.issuer.answers(status, header, body);
        assert_eq!(scene.world.work(batch_of(1..=2)).await.len(), 2, "{place}");
        assert_eq!((scene.world.reported().len(), scene.world.dead().len()), (1, 0), "{place}");
        assert_eq!(scene.world.bus.reported()[0].reason.place, place);
        assert_eq!(
            (scene.tokens.count(), scene.target.count()),
            (1, 0),
            "{place}: nothing is followed or sent"
        );
        let said = said(&scene.world);
        assert!(!said.contains("s-1") && !said.contains("aaaa"), "{said}");
    }
}

#[tokio::test]
async fn the_token_endpoint_stands_behind_the_guard() {
    for refused in
        ["https://10.0.0.1/token", "https://169.254.169.254/token", "https://login.example:8443/token"]
    {
        let target = Judge::start(|_| Some(204.into())).await;
        let world = world(&target.url("/"), refused, "").await;
        assert!(!world.one(&record(1)).await, "{refused}");
        assert_eq!(world.bus.reported()[0].reason.place, "token endpoint, address_refused", "{refused}");
        assert_eq!(target.count(), 0);
    }
}

#[tokio::test]
async fn the_token_endpoint_has_networks_and_ports_of_its_own() {
    let target = Judge::start(|_| Some(204.into())).await;
    let more = ", ports: [8443], allow_networks: [10.20.0.0/16]";
    let world = world(&target.url("/"), "https://10.20.0.1:8443/token", more).await;
    let own = token_guard(&world.deps.target, false);
    assert_eq!((own.ports.as_slice(), own.allow_networks.len(), own.allow_loopback), (&[8443][..], 1, false));
    assert_eq!(own.check(&"https://10.20.0.1:8443/token".parse().unwrap()), Ok(()));
    assert!(
        guard(&world.deps.target, false).check(&"https://10.20.0.1:8443/token".parse().unwrap()).is_err()
    );
    // There is no such name, but it was looked for: the target's own guard would have refused the port.
    let world = self::world(&target.url("/"), "https://login.example:8443/token", ", ports: [8443]").await;
    assert!(!world.one(&record(1)).await);
    assert!(world.reported().is_empty(), "{:?}", world.bus.reported());
}

#[tokio::test]
async fn a_refused_client_is_followed_by_the_other_one_then_by_the_secret_as_it_is_now() {
    let scene = scene().await;
    let two = |current: &str, previous: &str| {
        let one = |secret| format!(r#"{{"client_id":"datasync","client_secret":"{secret}"}}"#);
        format!(r#"{{"current":{},"previous":{}}}"#, one(current), one(previous))
    };
    // The token endpoint does not know the new one yet.
    scene.world.secrets.set(SECRET_NAME, &two("s-2", "s-1"));
    assert!(scene.world.one(&record(1)).await);
    assert_eq!(scene.tokens.count(), 2);
    // It knows a third one only, which is written by now.
    scene.issuer.takes(&["s-3"]);
    scene.issuer.with(|state| state.good.clear());
    scene.world.secrets.set(SECRET_NAME, &two("s-3", "s-2"));
    assert!(scene.world.one(&record(2)).await);
    assert_eq!(scene.tokens.count(), 2 + 3);
    assert!(scene.world.reported().is_empty());
    // Nobody has written the fourth.
    scene.issuer.takes(&["s-4"]);
    scene.issuer.with(|state| state.good.clear());
    assert!(!scene.world.one(&record(3)).await);
    assert_eq!(scene.tokens.count(), 2 + 3 + 2, "the same secret is not tried again");
    assert_eq!(scene.world.bus.reported()[0].reason.place, "token endpoint, status 401 invalid_client");
    assert!(!said(&scene.world).contains("s-3"));
}

#[tokio::test]
async fn a_secret_that_holds_no_client_is_trouble_and_one_that_is_late_is_not() {
    for wrong in
        ["datasync:s-1", r#"{"username":"datasync","password":"s-1"}"#, r#"{"client_id":"datasync"}"#]
    {
        let scene = scene().await;
        scene.world.secrets.set(SECRET_NAME, wrong);
        assert!(!scene.world.one(&record(1)).await);
        assert_eq!(scene.world.reported(), ["target_misconfigured"]);
        assert_eq!(scene.world.bus.reported()[0].reason.place, "endpoint.auth");
        assert!(!said(&scene.world).contains("s-1"), "{wrong}");
        assert_eq!(scene.tokens.count(), 0);
    }
    let scene = scene().await;
    scene.world.secrets.faults.push(Fault::Call(Kind::Unavailable));
    assert!(!scene.world.one(&record(1)).await);
    assert!(scene.world.reported().is_empty());
    assert!(scene.world.one(&record(1)).await);
}

#[tokio::test]
async fn twenty_rotations_of_a_client_secret_fail_no_delivery() {
    let scene = scene().await;
    scene.issuer.with(|state| state.lasts = 50);
    let mut number = 0;
    let mut deliver = async |world: &World, times: u32| {
        for _ in 0..times {
            number += 1;
            assert!(world.one(&record(number)).await, "delivery {number}");
            advance(20);
        }
    };
    for turn in 1..=20_u32 {
        let (old, new) = (format!("s-{turn}"), format!("s-{}", turn + 1));
        deliver(&scene.world, 2).await;
        // The token endpoint gives a new secret and takes both; it is written; the old one ends.
        scene.issuer.takes(&[&old, &new]);
        deliver(&scene.world, 2).await;
        scene.world.secrets.set(SECRET_NAME, &CLIENT.replace("s-1", &new));
        deliver(&scene.world, 2).await;
        scene.issuer.takes(&[&new]);
        // Every third time its tokens end with it.
        if turn % 3 == 0 {
            scene.issuer.with(|state| state.good.clear());
        }
        deliver(&scene.world, 2).await;
    }
    assert!(scene.world.reported().is_empty() && scene.world.dead().is_empty());
    assert_eq!(scene.world.ledger.rows().len(), 160);
}
