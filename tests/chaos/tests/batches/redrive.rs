//! Letters that an operator sends back, by the real command, while its calls fail.

use std::path::Path;

use sync_chaos::{Depot, Dice};
use sync_testkit::proxy::{Fault, Pick, Rule};
use sync_tests::aws::{ACCESS_KEY, Credentials, SECRET_KEY};

const GROUPS: usize = 8;
const PER_GROUP: usize = 3;
/// How often the operator repeats the command at most.
const RUNS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_sent_back_once_and_in_order_whatever_happens_to_the_calls() {
    let mut depot = Depot::make("batches-redrive", env!("CARGO_BIN_EXE_chaos-deliver").into()).await.unwrap();
    let proxy = depot.proxy(&mut Dice::from_env()).await.unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_chaos-datasync"));
    let (access_key, secret_key) = (ACCESS_KEY.to_owned(), SECRET_KEY.to_owned());
    let operator = Credentials { access_key, secret_key, session_token: None };
    let of = |action: &str, fault: Fault| Rule::on("sqs", action, fault);
    let cases = [
        ("three letters are not sent", vec![of("SendMessageBatch", Fault::Fail(Pick::Some(3))).nth(1)]),
        ("no letter is sent for long", vec![of("SendMessageBatch", Fault::Fail(Pick::All)).most(6)]),
        ("three letters are refused", vec![of("SendMessageBatch", Fault::Refuse(Pick::Some(3))).nth(2)]),
        ("nobody hears that letters were sent", vec![of("SendMessageBatch", Fault::Lose).most(4)]),
        ("three letters are not deleted", vec![of("DeleteMessageBatch", Fault::Fail(Pick::Some(3))).most(5)]),
        ("nobody hears that letters were deleted", vec![of("DeleteMessageBatch", Fault::Lose).most(1)]),
        (
            "letters that are not sent are let go at the second try",
            vec![
                of("SendMessageBatch", Fault::Fail(Pick::All)).most(6),
                of("ChangeMessageVisibilityBatch", Fault::Fail(Pick::Some(3))).most(2),
            ],
        ),
    ];
    for (case, (name, rules)) in cases.into_iter().enumerate() {
        let group = |group: usize| format!("group-{case}-{group}");
        let letters: Vec<(String, String, String)> = (0..PER_GROUP)
            .flat_map(|number| (0..GROUPS).map(move |at| (at, number)))
            .map(|(at, number)| {
                (
                    format!("{case}-{at}-{number}"),
                    group(at),
                    format!("{{\"case\":{case},\"at\":{at},\"number\":{number}}}"),
                )
            })
            .collect();
        depot.send("warehouse-dead", &letters).await.unwrap();
        rules.into_iter().for_each(|rule| proxy.add(rule));
        let mut runs = 0;
        loop {
            runs += 1;
            let said = depot.dead_letters(program, &operator, &["redrive", "--rate", "3000"]).unwrap();
            let left = depot.held("warehouse-dead").await.unwrap().len();
            if said.code == Some(0) {
                assert_eq!(left, 0, "{name}: {}", said.text);
                break;
            }
            assert!(runs < RUNS, "{name}: {left} letters are left: {}", said.text);
        }
        let back = depot.held("warehouse").await.unwrap();
        for at in 0..GROUPS {
            let group = group(at);
            let of_group = back.iter().filter(|held| held.message["MessageGroupId"] == group.as_str());
            let bodies: Vec<String> = of_group.map(|held| held.body().to_owned()).collect();
            let sent: Vec<String> =
                letters.iter().filter(|(_, of, _)| *of == group).map(|(_, _, body)| body.clone()).collect();
            assert_eq!(bodies, sent, "{name}, {runs} runs");
        }
        assert_eq!(back.len(), (case + 1) * GROUPS * PER_GROUP, "{name}");
        println!("{name}: {runs} runs");
        proxy.calm();
    }
    for action in ["SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"] {
        assert!(proxy.faults("sqs", action) > 0, "{}", proxy.report());
    }
}
