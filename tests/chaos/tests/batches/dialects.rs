//! What the proxy says in a service's name is what the service would say: the adapters take it for that.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use sync_aws::dynamodb::DynamoLedger;
use sync_aws::eventbridge::EventBridgeBus;
use sync_aws::kms::KmsKeys;
use sync_aws::s3::S3DeadLetters;
use sync_aws::secrets::SecretsManager;
use sync_aws::sns::SnsAlerts;
use sync_aws::sqs::SqsInbox;
use sync_aws::switch::AwsSwitch;
use sync_domain::ports::{
    Alerts, DeadLetterStore, Error, FailureBus, HashKey, Inbox, KeyService, Kind, Ledger, Secrets, Switch,
};
use sync_testkit::proxy::{Fault, Rule};

use crate::bed::Bed;
use crate::judge::{Entry, failure};

type Call = BoxFuture<'static, Option<Error>>;

fn calls(bed: &Bed) -> Vec<(&'static str, Call)> {
    let clients = &bed.clients;
    let inbox = SqsInbox::new(clients.sqs(), bed.url("nobody.fifo"));
    let alerts = SnsAlerts::new(clients.sns(), "arn:aws:sns:eu-central-1:000000000000:nobody");
    let ledger = DynamoLedger::new(clients.dynamodb(), "nobody");
    let keys = KmsKeys::new(clients.kms()).with_hash_key(HashKey::Id, "nobody".to_owned());
    let bus = EventBridgeBus::new(clients.eventbridge(), "nobody");
    let secrets = Arc::new(SecretsManager::new(clients.secrets_manager()));
    let switch = AwsSwitch::new(clients.mappings(), clients.eventbridge(), "nobody");
    let letters = S3DeadLetters::new(clients.s3(), "nobody");
    vec![
        ("sqs", Box::pin(async move { inbox.delay(&["nothing".to_owned()], Duration::ZERO).await.err() })),
        ("sns", Box::pin(async move { alerts.send("subject", "text").await.err() })),
        ("dynamodb", Box::pin(async move { ledger.read(&["nothing".to_owned()]).await.remove(0).err() })),
        ("kms", Box::pin(async move { keys.hash_root(HashKey::Id, 1).await.err() })),
        (
            "events",
            Box::pin(async move { bus.report(&[failure(&Entry::new("nothing", 0))]).await.remove(0).err() }),
        ),
        ("secretsmanager", Box::pin(async move { secrets.get("nothing").await.err() })),
        ("lambda", Box::pin(async move { switch.feed("nobody", true).await.err() })),
        ("s3", Box::pin(async move { letters.put("nothing", String::new()).await.err() })),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_takes_nothing_says_so_in_its_own_words() {
    let bed = Bed::make("batches-dialects").await;
    let throttled = [
        ("sqs", "RequestThrottled"),
        ("sns", "Throttling"),
        ("dynamodb", "ProvisionedThroughputExceededException"),
        ("kms", "ThrottlingException"),
        ("events", "ThrottlingException"),
        ("secretsmanager", "ThrottlingException"),
        ("lambda", "TooManyRequestsException"),
        ("s3", "SlowDown"),
    ];
    let down = [
        ("sqs", "ServiceUnavailable"),
        ("sns", "InternalFailure"),
        ("dynamodb", "InternalServerError"),
        ("kms", "KMSInternalException"),
        ("events", "InternalException"),
        ("secretsmanager", "InternalServiceError"),
        ("lambda", "ServiceException"),
        ("s3", "InternalError"),
    ];
    for (fault, expected) in [(Fault::Throttle, throttled), (Fault::Down, down)] {
        bed.proxy.calm();
        bed.proxy.add(Rule::on("*", "*", fault.clone()));
        let called = calls(&bed).into_iter().map(async |(service, call)| (service, call.await.unwrap()));
        let said: Vec<_> = join_all(called).await;
        let codes: Vec<_> = said.iter().map(|(service, error)| (*service, error.code.as_str())).collect();
        assert_eq!(codes, expected, "{fault:?}");
        assert!(said.iter().all(|(_, error)| error.kind == Kind::Unavailable), "{said:?}");
    }
    // Three attempts of each: the SDK takes it for something that passes.
    for (service, _) in throttled {
        assert_eq!(bed.proxy.faults(service, "*"), 6, "{service}: {}", bed.proxy.report());
    }
}
