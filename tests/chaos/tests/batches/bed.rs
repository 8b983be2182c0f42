//! The emulator, the proxy in front of it, and what batches are sent to.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use sync_aws::clients::Clients;
use sync_chaos::Dice;
use sync_testkit::proxy::Proxy;
use sync_tests::aws::{ACCESS_KEY, ACCOUNT, Aws, REGION, SECRET_KEY, xml_texts};
use sync_tests::emulator::Emulator;
use sync_tests::place::RunFolder;

use crate::faults::Case;
use crate::judge::Entry;

pub(crate) struct Bed {
    /// The clients of a function, through the proxy.
    pub(crate) clients: Clients,
    /// The same past the proxy.
    pub(crate) direct: Clients,
    pub(crate) proxy: Proxy,
    pub(crate) aws: Aws,
    number: AtomicU64,
    // Last: it goes after everything that talks to it.
    _emulator: Emulator,
}

impl Bed {
    pub(crate) async fn make(purpose: &str) -> Self {
        let run = RunFolder::new(purpose).unwrap();
        let emulator = Emulator::start(&run).await.unwrap();
        let proxy = Proxy::start(emulator.endpoint(), &mut Dice::from_env()).await.unwrap();
        Self {
            clients: clients(&proxy.url()),
            direct: clients(emulator.endpoint()),
            proxy,
            aws: emulator.aws(),
            number: AtomicU64::new(0),
            _emulator: emulator,
        }
    }

    /// A plain client that goes through the proxy.
    pub(crate) fn plain(&self) -> Aws {
        Aws::new(&self.proxy.url())
    }

    /// A number for a name that nobody else has.
    pub(crate) fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// Where a queue is.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("{}/{ACCOUNT}/{name}", self.aws.endpoint())
    }

    /// Makes a FIFO queue; answers with its URL.
    pub(crate) async fn fifo(&self, name: &str) -> String {
        let attributes = json!({
            "FifoQueue": "true",
            "DeduplicationScope": "messageGroup",
            "FifoThroughputLimit": "perMessageGroupId",
        });
        let made = self
            .aws
            .sqs("CreateQueue", &json!({ "QueueName": name, "Attributes": attributes }))
            .await
            .unwrap();
        made["QueueUrl"].as_str().unwrap().to_owned()
    }

    /// Makes a FIFO topic with a queue of its name that hears everything; answers with its ARN.
    pub(crate) async fn topic(&self, name: &str) -> String {
        self.fifo(name).await;
        let queue = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}");
        let policy = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Principal": { "Service": "sns.amazonaws.com" }, "Action": "sqs:SendMessage", "Resource": queue },
        ] });
        let attributes =
            json!({ "QueueUrl": self.url(name), "Attributes": { "Policy": policy.to_string() } });
        self.aws.sqs("SetQueueAttributes", &attributes).await.unwrap();
        let create = [
            ("Action", "CreateTopic"),
            ("Version", "2010-03-31"),
            ("Name", name),
            ("Attributes.entry.1.key", "FifoTopic"),
            ("Attributes.entry.1.value", "true"),
        ];
        let made = self.aws.query("sns", &create).await.unwrap();
        let arn = xml_texts(&made, "TopicArn").remove(0);
        let subscribe = [
            ("Action", "Subscribe"),
            ("Version", "2010-03-31"),
            ("TopicArn", arn.as_str()),
            ("Protocol", "sqs"),
            ("Endpoint", queue.as_str()),
            ("Attributes.entry.1.key", "RawMessageDelivery"),
            ("Attributes.entry.1.value", "true"),
        ];
        self.aws.query("sns", &subscribe).await.unwrap();
        arn
    }

    /// Makes a bus, with a queue of its name behind a rule for failures.
    pub(crate) async fn bus(&self, name: &str) {
        let rule = format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/{name}/{name}");
        let queue = format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}");
        let policy = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Principal": { "Service": "events.amazonaws.com" }, "Action": "sqs:SendMessage", "Resource": queue,
              "Condition": { "ArnEquals": { "aws:SourceArn": rule } } },
        ] });
        let made = json!({ "QueueName": name, "Attributes": { "Policy": policy.to_string() } });
        self.aws.sqs("CreateQueue", &made).await.unwrap();
        self.aws.events("CreateEventBus", &json!({ "Name": name })).await.unwrap();
        let pattern = json!({ "source": ["datasync"] }).to_string();
        self.aws
            .events("PutRule", &json!({ "Name": name, "EventBusName": name, "EventPattern": pattern }))
            .await
            .unwrap();
        let target = json!({ "Rule": name, "EventBusName": name, "Targets": [{ "Id": "1", "Arn": queue }] });
        self.aws.events("PutTargets", &target).await.unwrap();
    }

    /// Makes a table.
    pub(crate) async fn table(&self, name: &str) {
        let table = json!({
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{ "AttributeName": "pk", "AttributeType": "S" }],
            "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }],
        });
        self.aws.dynamodb("CreateTable", &table).await.unwrap();
    }

    /// What stands in a queue, in its order.
    pub(crate) async fn arrived(&self, name: &str) -> Vec<Entry> {
        let held = self.aws.held().await.unwrap();
        held.iter().filter(|held| held.queue == name).map(|held| Entry::read(held.body())).collect()
    }

    /// Fails unless the proxy did what the cases say, and something of what they leave to chance.
    pub(crate) fn every_case_took_place(&self, service: &str, action: &str, cases: &[Case]) {
        let certain = cases.iter().filter(|case| case.is_certain()).count() as u64;
        let (faults, report) = (self.proxy.faults(service, action), self.proxy.report());
        println!("{report}");
        assert!(faults > certain, "{faults} faults of more than {certain}:\n{report}");
        assert!(self.proxy.entries_out() > 55, "{report}");
    }
}

fn clients(endpoint: &str) -> Clients {
    let settings: Value = json!({
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    });
    Clients::from_env(|name| settings[name].as_str().map(str::to_owned))
}
