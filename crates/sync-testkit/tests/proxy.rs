//! The proxy in front of a plain server that keeps what it is asked: what each fault does, and what it does not.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use sync_testkit::Dice;
use sync_testkit::http::{self, Answer, Server};
use sync_testkit::proxy::{Fault, Pick, Proxy, Rule};

/// A target that keeps the bodies that it gets.
struct Rig {
    got: Arc<Mutex<Vec<String>>>,
    proxy: Proxy,
    client: http::PlainClient,
    _server: Server,
}

impl Rig {
    async fn start(seed: u64) -> Self {
        let got: Arc<Mutex<Vec<String>>> = Arc::default();
        let keep = Arc::clone(&got);
        let server = Server::start(Arc::new(move |call: http::Call| {
            keep.lock().unwrap().push(String::from_utf8_lossy(call.body()).into_owned());
            Box::pin(async { http::answer(200, "text/plain", "taken") })
        }));
        let server = server.await.unwrap();
        let to = format!("http://127.0.0.1:{}", server.port());
        let proxy = Proxy::start(&to, &mut Dice::of(seed)).await.unwrap();
        Self { got, proxy, client: http::client(), _server: server }
    }

    fn post(&self, body: &str) -> impl Future<Output = anyhow::Result<Answer>> + use<> {
        let request = Request::post(self.proxy.url()).body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let client = self.client.clone();
        async move { http::send(&client, request).await }
    }

    fn got(&self) -> Vec<String> {
        self.got.lock().unwrap().clone()
    }

    async fn until_got(&self, count: usize) {
        while self.got().len() < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn every(fault: Fault) -> Rule {
    Rule::on("http", "POST", fault)
}

#[tokio::test]
async fn what_meets_with_no_fault_passes_and_is_counted() {
    let rig = Rig::start(1).await;
    let answer = rig.post("a").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "taken"));
    assert_eq!(
        (rig.got(), rig.proxy.calls("http", "POST"), rig.proxy.faults("*", "*")),
        (vec!["a".to_owned()], 1, 0)
    );
}

#[tokio::test]
async fn what_is_not_forwarded_has_no_effect() {
    let rig = Rig::start(1).await;
    for (fault, status) in [(Fault::Throttle, Some(429)), (Fault::Down, Some(503)), (Fault::Cut, None)] {
        rig.proxy.add(every(fault).most(1));
        assert_eq!(rig.post("a").await.ok().map(|answer| answer.status), status);
        rig.proxy.calm();
    }
    assert_eq!((rig.got().len(), rig.proxy.faults("http", "POST")), (0, 3), "{}", rig.proxy.report());
}

#[tokio::test]
async fn a_lost_answer_leaves_the_effect() {
    let rig = Rig::start(1).await;
    rig.proxy.add(every(Fault::Lose).nth(2));
    assert!(rig.post("first").await.is_ok());
    assert!(rig.post("second").await.is_err());
    assert!(rig.post("third").await.is_ok());
    assert_eq!(rig.got(), ["first", "second", "third"]);
}

#[tokio::test]
async fn what_comes_twice_has_its_effect_twice_and_one_answer() {
    let rig = Rig::start(1).await;
    rig.proxy.add(every(Fault::Twice));
    assert_eq!(rig.post("a").await.unwrap().status, 200);
    assert_eq!(rig.got(), ["a", "a"]);
}

#[tokio::test]
async fn held_calls_go_in_the_order_in_which_they_are_released() {
    let rig = Rig::start(1).await;
    rig.proxy.add(every(Fault::Hold).most(2));
    let first = tokio::spawn(rig.post("first"));
    rig.proxy.until_held(1).await;
    let second = tokio::spawn(rig.post("second"));
    rig.proxy.until_held(2).await;
    assert_eq!(rig.got(), [""; 0]);
    assert!(rig.proxy.release(1));
    second.await.unwrap().unwrap();
    assert!(!rig.proxy.release(1), "one is left");
    rig.proxy.release_all();
    first.await.unwrap().unwrap();
    assert_eq!((rig.got(), rig.proxy.held()), (vec!["second".to_owned(), "first".to_owned()], 0));

    rig.proxy.calm();
    rig.proxy.add(every(Fault::HoldAnswer));
    let third = tokio::spawn(rig.post("third"));
    rig.proxy.until_held(1).await;
    assert_eq!(rig.got().last().unwrap(), "third");
    assert!(!third.is_finished());
    rig.proxy.release_all();
    third.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_is_overtaken_by_the_next() {
    let rig = Rig::start(1).await;
    rig.proxy.add(every(Fault::Overtaken(1)).nth(1));
    let first = tokio::spawn(rig.post("first"));
    // It has come when it is counted.
    while rig.proxy.calls("http", "POST") == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    rig.post("second").await.unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(rig.got(), ["second", "first"]);
}

#[tokio::test]
async fn a_late_call_arrives_though_nobody_waits_any_more() {
    let rig = Rig::start(1).await;
    rig.proxy.add(every(Fault::Late(Duration::from_millis(300))));
    assert!(tokio::time::timeout(Duration::from_millis(20), rig.post("late")).await.is_err());
    assert_eq!(rig.got(), [""; 0]);
    rig.until_got(1).await;
    assert_eq!(rig.got(), ["late"]);
}

#[tokio::test]
async fn a_fault_of_entries_passes_by_what_has_none() {
    let rig = Rig::start(1).await;
    rig.proxy.add(every(Fault::Fail(Pick::All)));
    assert_eq!(rig.post("a").await.unwrap().status, 200);
    assert_eq!((rig.proxy.faults("*", "*"), rig.proxy.entries_out()), (0, 0));
}

#[tokio::test]
async fn a_service_can_have_a_place_of_its_own() {
    let (rig, other) = (Rig::start(1).await, Rig::start(1).await);
    rig.proxy.route("http", &other.proxy.url());
    rig.post("a").await.unwrap();
    assert_eq!((rig.got().len(), other.got().len()), (0, 1));
}

#[tokio::test]
async fn a_seed_gives_the_same_faults_again() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let rig = Rig::start(seed).await;
        rig.proxy.add(every(Fault::Lose).chance(0.5));
        let mut lost = Vec::new();
        for _ in 0..40 {
            lost.push(rig.post("a").await.is_err());
        }
        runs.push(lost);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}
