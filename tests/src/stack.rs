//! The real `sam deploy` of the real template, on the emulator.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::json;

use crate::artifacts;
use crate::aws::{ACCOUNT, Aws, Credentials, REGION, Refused, xml_texts};
use crate::dialect;
use crate::group::Group;
use crate::http;
use crate::place::{self, RunFolder};

/// The name of the local stack.
pub const NAME: &str = "datasync";

/// A stack that stands.
#[derive(Debug, Clone)]
pub struct Stack {
    aws: Aws,
    outputs: BTreeMap<String, String>,
    resources: BTreeMap<String, String>,
}

/// Deploys the built template with the configuration folder of this run; `stream` is the ARN of the preferences' stream.
pub async fn deploy(
    run: &RunFolder,
    aws: &Aws,
    template: &Path,
    configuration: &Path,
    stream: &str,
) -> Result<Stack> {
    const BUCKET: &str = "datasync-artifacts";
    let request = Request::put(format!("{}/{BUCKET}", aws.endpoint())).body(Full::<Bytes>::default())?;
    let made = http::send(&http::client(), request).await?;
    if made.status != 200 {
        bail!("the emulator makes no bucket: {}", made.text());
    }

    dialect::translate(template)?;
    let log = run.path().join("sam-deploy.log");
    let overrides = [
        artifacts::architecture_override()?,
        format!("AwsEndpointUrl={}", aws.endpoint()),
        format!("SyncConfigDir={}", configuration.display()),
        "AllowLoopback=true".to_owned(),
        // The functions that read databases are invoked by hand, so that a run does what it must and no more.
        "PullSchedule=DISABLED".to_owned(),
        // The emulator takes the condition behind it for true, without any subnet.
        "PullDualStack=false".to_owned(),
        format!("PreferencesStreamArn={stream}"),
        "DeletionProtection=false".to_owned(),
    ];
    let mut command = place::sam()?;
    command
        .env("AWS_ENDPOINT_URL", aws.endpoint())
        // `samconfig.toml` says so for the root; beside the copy of the build there is none.
        .env("SAM_CLI_ENABLE_LANGUAGE_EXTENSIONS", "1")
        .args(["deploy", "--stack-name", NAME, "--region", REGION, "--s3-bucket", BUCKET])
        .arg("--template-file")
        .arg(template)
        .args(["--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"])
        .args([
            "--no-confirm-changeset",
            "--no-fail-on-empty-changeset",
            "--no-progressbar",
            "--on-failure",
            "DO_NOTHING",
        ])
        .arg("--parameter-overrides")
        .args(&overrides);
    if !Group::start(&command, &log)?.end().await?.success() {
        bail!("`sam deploy` failed, see {}", log.display());
    }
    let stack = Stack { aws: aws.clone(), outputs: outputs(aws).await?, resources: resources(aws).await? };
    stack.make_topic_fifo().await?;
    Ok(stack)
}

/// The principal that the back office's file names as an example; a run takes it into use with the local account.
const EXAMPLE_PRINCIPAL: &str = "# principal: arn:aws:iam::111122223333:role/backoffice";

/// The role that may push as the back office.
pub const BACKOFFICE_ROLE: &str = "backoffice";

/// Copies the shipped configuration into the run's folder, with each address of an example replaced by a local one.
///
/// `addresses` maps the host as it stands in the files (`loyalty.example.com`) to the port on this machine.
pub fn configure(run: &RunFolder, addresses: &[(&str, u16)]) -> Result<PathBuf> {
    // Where the built template looks for the layer.
    let configuration = run.path().join("infra/layer/sync");
    artifacts::copy_tree(&place::root().join("infra/layer/sync"), &configuration)?;
    let principal = format!("principal: arn:aws:iam::{ACCOUNT}:role/{BACKOFFICE_ROLE}");
    let mut pending: Vec<&str> = addresses.iter().map(|(host, _)| *host).collect();
    pending.push(EXAMPLE_PRINCIPAL);
    for folder in ["models", "sources", "targets"] {
        for entry in fs::read_dir(configuration.join(folder))? {
            let path = entry?.path();
            let text = fs::read_to_string(&path)?;
            let mut local = text.replace(EXAMPLE_PRINCIPAL, &principal);
            if local != text {
                pending.retain(|other| *other != EXAMPLE_PRINCIPAL);
            }
            for (host, port) in addresses {
                let before = local.clone();
                local = local.replace(&format!("https://{host}/"), &format!("http://127.0.0.1:{port}/"));
                if local != before {
                    pending.retain(|other| other != host);
                }
            }
            if local != text {
                fs::write(&path, local)?;
            }
        }
    }
    if pending.is_empty() {
        Ok(configuration)
    } else {
        bail!("no file of the configuration names {}", pending.join(", "))
    }
}

async fn outputs(aws: &Aws) -> Result<BTreeMap<String, String>> {
    let answer = aws
        .query(
            "cloudformation",
            &[("Action", "DescribeStacks"), ("Version", "2010-05-15"), ("StackName", NAME)],
        )
        .await?;
    let outputs = answer.split_once("<Outputs>").map_or("", |(_, behind)| behind);
    Ok(xml_texts(outputs, "OutputKey").into_iter().zip(xml_texts(outputs, "OutputValue")).collect())
}

async fn resources(aws: &Aws) -> Result<BTreeMap<String, String>> {
    let parameters = [("Action", "DescribeStackResources"), ("Version", "2010-05-15"), ("StackName", NAME)];
    let answer = aws.query("cloudformation", &parameters).await?;
    Ok(xml_texts(&answer, "LogicalResourceId")
        .into_iter()
        .zip(xml_texts(&answer, "PhysicalResourceId"))
        .collect())
}

impl Stack {
    /// An output of the stack.
    pub fn output(&self, name: &str) -> Result<&str> {
        self.outputs.get(name).map(String::as_str).with_context(|| format!("the stack has no output {name}"))
    }

    /// The physical id of a resource: the name of a table, the URL of a queue, the ARN of a topic.
    pub fn resource(&self, logical_id: &str) -> Result<&str> {
        self.resources
            .get(logical_id)
            .map(String::as_str)
            .with_context(|| format!("the stack has no {logical_id}"))
    }

    /// All resources, by logical id.
    pub fn resources(&self) -> &BTreeMap<String, String> {
        &self.resources
    }

    /// The name of a queue, as the emulator lists it.
    pub fn queue_name(&self, logical_id: &str) -> Result<&str> {
        let url = self.resource(logical_id)?;
        Ok(url.rsplit('/').next().unwrap_or(url))
    }

    /// A client.
    pub fn aws(&self) -> &Aws {
        &self.aws
    }

    /// Where sources push to, through the emulator: the stack's output names a host that only AWS has.
    pub fn push_url(&self) -> Result<String> {
        Ok(format!("{}/_aws/execute-api/{}/$default", self.aws.endpoint(), self.output("PushApiId")?))
    }

    /// The emulator's CloudFormation leaves `FifoTopic` out; set by hand, the topic is one.
    async fn make_topic_fifo(&self) -> Result<()> {
        let topic = self.output("EventsTopicArn")?;
        let set = [
            ("Action", "SetTopicAttributes"),
            ("Version", "2010-03-31"),
            ("TopicArn", topic),
            ("AttributeName", "FifoTopic"),
            ("AttributeValue", "true"),
        ];
        self.aws.query("sns", &set).await?;
        Ok(())
    }

    /// Checks that the topic is FIFO: it refuses a publish without a group. Otherwise no test of order proves anything.
    pub async fn check_topic_is_fifo(&self) -> Result<()> {
        let topic = self.output("EventsTopicArn")?;
        let publish =
            [("Action", "Publish"), ("Version", "2010-03-31"), ("TopicArn", topic), ("Message", "probe")];
        match self.aws.query("sns", &publish).await {
            Ok(_) => bail!("the topic took a publish without a group id: it is not FIFO"),
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(refused) if refused.status == 400 => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Checks that the queues are what the template says: FIFO, with their redrive.
    pub async fn check_queues(&self) -> Result<()> {
        for (logical_id, url) in &self.resources {
            // What an EventBridge rule, an asynchronous invocation or a schedule could not hand over stands in standard ones.
            let standard = ["Ticket", "PullSchedule"].iter().any(|start| logical_id.starts_with(start));
            if !logical_id.ends_with("Queue") || !url.contains("/") || standard {
                continue;
            }
            let body = json!({ "QueueUrl": url, "AttributeNames": ["All"] });
            let answer = self.aws.sqs("GetQueueAttributes", &body).await?;
            let attributes = &answer["Attributes"];
            if attributes["FifoQueue"] != "true" {
                bail!("{logical_id} is not FIFO");
            }
            if !logical_id.ends_with("DeadLetterQueue") && !attributes["RedrivePolicy"].is_string() {
                bail!("{logical_id} has no dead-letter queue");
            }
        }
        Ok(())
    }

    /// A client with the permissions of a role of the stack and no others.
    pub async fn as_role(&self, logical_id: &str) -> Result<Aws> {
        self.assume(self.resource(logical_id)?).await
    }

    /// A client of somebody who may call the API of this stack, and nothing else.
    pub async fn as_caller(&self, role: &str) -> Result<Aws> {
        let trust = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:root") }, "Action": "sts:AssumeRole" },
        ] });
        let api = self.output("PushApiId")?;
        let grant = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "execute-api:Invoke",
              "Resource": format!("arn:aws:execute-api:{REGION}:{ACCOUNT}:{api}/*/POST/v1/iam/sources/*/changes") },
        ] });
        let (trust, grant) = (trust.to_string(), grant.to_string());
        let version = ("Version", "2010-05-08");
        let create = [
            ("Action", "CreateRole"),
            version,
            ("RoleName", role),
            ("AssumeRolePolicyDocument", trust.as_str()),
        ];
        self.aws.query("iam", &create).await?;
        let permit = [
            ("Action", "PutRolePolicy"),
            version,
            ("RoleName", role),
            ("PolicyName", "push"),
            ("PolicyDocument", grant.as_str()),
        ];
        self.aws.query("iam", &permit).await?;
        self.assume(role).await
    }

    async fn assume(&self, role: &str) -> Result<Aws> {
        let role = format!("arn:aws:iam::{ACCOUNT}:role/{role}");
        let parameters = [
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", role.as_str()),
            ("RoleSessionName", "test"),
        ];
        let answer = self.aws.query("sts", &parameters).await?;
        let text = |element: &str| {
            xml_texts(&answer, element).into_iter().next().context("the answer lacks credentials")
        };
        Ok(self.aws.with_credentials(Credentials {
            access_key: text("AccessKeyId")?,
            secret_key: text("SecretAccessKey")?,
            session_token: Some(text("SessionToken")?),
        }))
    }

    /// The ARN of a queue.
    pub fn queue_arn(&self, name: &str) -> String {
        format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
    }
}
