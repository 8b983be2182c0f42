use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use aws_sdk_lambda::config::{BehaviorVersion, Credentials, Region};
use sync_domain::ports::Kind;

use super::*;

/// A service on this machine that gives every call the same answer, and the switch that talks to it. What comes out of the
/// channel is the request.
fn switch(answer: &'static str) -> (AwsSwitch, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (send, requests) = channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = String::new();
            let mut chunk = [0; 4096];
            while !is_whole(&request) {
                let read = stream.read(&mut chunk).unwrap();
                request.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
            }
            stream.write_all(answer.as_bytes()).unwrap();
            if send.send(request).is_err() {
                return;
            }
        }
    });
    let credentials = Credentials::new("id", "secret", None, None, "test");
    let lambda = aws_sdk_lambda::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials.clone())
        .endpoint_url(&url)
        .retry_config(crate::error::quick());
    let events = aws_sdk_eventbridge::Config::builder()
        .behavior_version(aws_sdk_eventbridge::config::BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials)
        .endpoint_url(&url)
        .retry_config(crate::error::quick());
    let clients = (
        aws_sdk_lambda::Client::from_conf(lambda.build()),
        aws_sdk_eventbridge::Client::from_conf(events.build()),
    );
    (AwsSwitch::new(clients.0, clients.1, "stack-DeliverLoyalty"), requests)
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

const OK: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
const IN_USE: &str = "HTTP/1.1 400 Bad Request\r\nx-amzn-errortype: ResourceInUseException\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

#[tokio::test]
async fn the_mapping_is_switched_and_nothing_else_of_it_is_touched() {
    for (on, body) in [(true, r#"{"Enabled":true}"#), (false, r#"{"Enabled":false}"#)] {
        let (switch, requests) = switch(OK);
        switch.feed("0b8a29", on).await.unwrap();
        let request = requests.recv().unwrap();
        assert!(request.starts_with("PUT /2015-03-31/event-source-mappings/0b8a29"), "{request}");
        assert!(request.ends_with(body), "{request}");
    }
}

#[tokio::test]
async fn the_rule_is_switched_by_its_name() {
    for (on, action) in [(true, "AWSEvents.EnableRule"), (false, "AWSEvents.DisableRule")] {
        let (switch, requests) = switch(OK);
        switch.wake(on).await.unwrap();
        let request = requests.recv().unwrap();
        assert!(
            request.contains(action) && request.ends_with(r#"{"Name":"stack-DeliverLoyalty"}"#),
            "{request}"
        );
    }
}

#[tokio::test]
async fn a_mapping_that_is_still_switching_is_an_error() {
    let (switch, _requests) = switch(IN_USE);
    let error = switch.feed("0b8a29", true).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "ResourceInUseException"));
}
