//! Secrets are changed while deliveries go on, and none of them fails.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sync_domain::webhook::{Secrets, TOLERANCE};

use crate::endpoint::Got;
use crate::judge::Judge;
use crate::world::{SECRET_NAME, Sample, World, now, update};

/// A kind of authentication: what `endpoint.auth` says, the secret of a turn as a target knows it, the text of the secret
/// while both are live, and whether a request shows a secret.
struct Case {
    auth: &'static str,
    secret: fn(u32) -> String,
    both: fn(old: &str, new: &str) -> String,
    shows: fn(&Got, &str) -> bool,
}

const CASES: [Case; 4] = [
    Case {
        auth: "{ standard_webhooks: datasync/target/loyalty }",
        secret: |turn| format!("whsec_{}", STANDARD.encode([u8::try_from(turn).unwrap(); 32])),
        both: |old, new| format!(r#"{{"current":"{new}","previous":"{old}"}}"#),
        shows: |got, secret| {
            let (id, at) = (got.header("webhook-id"), got.header("webhook-timestamp"));
            let signature = got.header("webhook-signature");
            let secrets = Secrets::parse(secret).unwrap();
            secrets.verify(id, at, signature, got.body.as_bytes(), now(), TOLERANCE).is_ok()
        },
    },
    Case {
        auth: "{ api_key: { header: x-api-key, secret: datasync/target/loyalty } }",
        secret: |turn| format!("key-{turn}"),
        both: |old, new| format!(r#"{{"current":"{new}","previous":"{old}"}}"#),
        shows: |got, secret| got.header("x-api-key") == secret,
    },
    Case {
        auth: "{ bearer: datasync/target/loyalty }",
        secret: |turn| format!("token-{turn}"),
        both: |old, new| format!(r#"{{"current":"{new}","previous":"{old}"}}"#),
        shows: |got, secret| got.header("authorization") == format!("Bearer {secret}"),
    },
    Case {
        auth: "{ basic: datasync/target/loyalty }",
        secret: |turn| format!(r#"{{"username":"datasync","password":"p-{turn}"}}"#),
        both: |_, new| new.to_owned(),
        shows: |got, secret| {
            let password = secret.rsplit('"').nth(1).unwrap();
            let shown = STANDARD.encode(format!("datasync:{password}"));
            got.header("authorization") == format!("Basic {shown}")
        },
    },
];

/// A target that takes the secrets of `live`, and the function.
async fn scene(case: &'static Case) -> (Arc<Mutex<Vec<String>>>, Judge, World) {
    let live = Arc::new(Mutex::new(vec![(case.secret)(0)]));
    let known = Arc::clone(&live);
    let target = Judge::start(move |got| {
        let takes = known.lock().unwrap().iter().any(|secret| (case.shows)(got, secret));
        Some(if takes { 204.into() } else { 401.into() })
    });
    let target = target.await;
    let url = target.url("/hook");
    let yaml = format!(
        "
target: loyalty
subscribe: [{{ model: customer }}]
endpoint: {{ url: \"{url}\", auth: {} }}
",
        case.auth
    );
    let world = World::of(&yaml).await;
    world.secrets.set(SECRET_NAME, &(case.secret)(0));
    (live, target, world)
}

async fn deliver(world: &World, number: &mut u32, case: &Case) {
    for _ in 0..3 {
        *number += 1;
        let event = Sample { record: *number, ..update(1) };
        assert!(world.one(&event).await, "{}: delivery {number}", case.auth);
    }
}

#[tokio::test]
async fn twenty_rotations_with_an_overlap_fail_no_delivery() {
    for case in &CASES {
        let (live, target, world) = scene(case).await;
        let mut number = 0;
        for turn in 0..20 {
            let (old, new) = ((case.secret)(turn), (case.secret)(turn + 1));
            deliver(&world, &mut number, case).await;
            // The target takes both before the new one is written, and the old one until it is read.
            *live.lock().unwrap() = vec![old.clone(), new.clone()];
            deliver(&world, &mut number, case).await;
            world.secrets.set(SECRET_NAME, &(case.both)(&old, &new));
            deliver(&world, &mut number, case).await;
            *live.lock().unwrap() = vec![new.clone()];
            deliver(&world, &mut number, case).await;
            world.secrets.set(SECRET_NAME, &new);
        }
        assert!(world.reported().is_empty() && world.dead().is_empty(), "{}", case.auth);
        assert_eq!(world.ledger.rows().len(), 240, "{}", case.auth);
        // Only the first request after the old secret's end was refused, and sent once more.
        assert!(target.count() <= 240 + 20, "{}: {}", case.auth, target.count());
    }
}

#[tokio::test]
async fn twenty_rotations_without_an_overlap_fail_no_delivery() {
    for case in &CASES {
        let (live, target, world) = scene(case).await;
        let mut number = 0;
        for turn in 0..20 {
            let new = (case.secret)(turn + 1);
            deliver(&world, &mut number, case).await;
            world.secrets.set(SECRET_NAME, &new);
            *live.lock().unwrap() = vec![new];
            deliver(&world, &mut number, case).await;
        }
        assert!(world.reported().is_empty() && world.dead().is_empty(), "{}", case.auth);
        assert_eq!(world.ledger.rows().len(), 120, "{}", case.auth);
        assert_eq!(target.count(), 120 + 20, "{}: one refusal a rotation", case.auth);
    }
}
