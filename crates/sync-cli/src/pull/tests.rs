use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use sync_domain::ports;

use super::*;

/// A function that answers from a script, and what it was asked.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<Result<&'static str, &'static str>>>,
    asked: Mutex<Vec<String>>,
}

impl Scripted {
    fn of(answers: &[Result<&'static str, &'static str>]) -> Self {
        Self { answers: Mutex::new(answers.iter().copied().collect()), asked: Mutex::default() }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Invoke for Scripted {
    async fn invoke(&self, payload: &str) -> ports::Result<Result<String, String>> {
        self.asked.lock().unwrap().push(payload.to_owned());
        let answer = self.answers.lock().unwrap().pop_front().unwrap();
        Ok(answer.map(str::to_owned).map_err(str::to_owned))
    }
}

fn command(run: Option<&str>) -> Backfill {
    Backfill {
        source: "pos-prices".parse().unwrap(),
        model: "pos_price".parse().unwrap(),
        run: run.map(str::to_owned),
        condition: None,
        target: None,
        pause: false,
        resume: false,
        progress: false,
        function: Function { function: None, outputs: None },
    }
}

async fn backfilled(function: &Scripted, command: &Backfill) -> (Result<(), Error>, String) {
    let mut out = Vec::new();
    let done = backfill_with(function, command, &mut out).await;
    (done, String::from_utf8(out).unwrap())
}

/// The payloads of `events/capture-pull`, which the function's own tests read.
fn sample(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/capture-pull").join(name);
    std::fs::read_to_string(file).unwrap().trim_end().to_owned()
}

const DONE: &str = r#"{"state":"done","rows":2500,"refused":0,"chunks":3}"#;

#[tokio::test(start_paused = true)]
async fn a_backfill_is_asked_for_until_every_row_was_sent() {
    let function = Scripted::of(&[
        Ok(r#"{"state":"waiting","rows":0,"refused":0,"chunks":0}"#),
        Ok(r#"{"state":"running","rows":1000,"refused":2,"chunks":1}"#),
        Ok(DONE),
    ]);
    let condition = Some("currency = 'EUR'".to_owned());
    let target = Some("warehouse".parse().unwrap());
    let (done, told) =
        backfilled(&function, &Backfill { condition, target, ..command(Some("2026-11-24-prices")) }).await;
    done.unwrap();
    assert_eq!(function.asked(), vec![sample("backfill.json"); 3]);
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].contains("waiting until the source has been read once"));
    assert_eq!(lines[1], "pos_price, run 2026-11-24-prices: 1000 rows, 2 with a ticket: running");
    assert_eq!(lines[2], "pos_price, run 2026-11-24-prices: 2500 rows: done");
}

#[tokio::test(start_paused = true)]
async fn a_backfill_is_paused_resumed_and_looked_at_by_its_name() {
    let run = Some("2026-11-24-prices");
    let paused = r#"{"state":"paused","rows":1000,"refused":0,"chunks":1}"#;
    let function = Scripted::of(&[Ok(paused), Ok(paused), Ok(paused), Ok(DONE)]);
    backfilled(&function, &Backfill { pause: true, ..command(run) }).await.0.unwrap();
    backfilled(&function, &Backfill { progress: true, ..command(run) }).await.0.unwrap();
    backfilled(&function, &Backfill { resume: true, ..command(run) }).await.0.unwrap();
    let asked = function.asked();
    let samples = ["backfill-pause.json", "backfill-status.json", "backfill-resume.json"].map(sample);
    assert_eq!(asked[..3], samples);
}

#[tokio::test(start_paused = true)]
async fn a_backfill_of_a_dynamodb_table_is_asked_of_the_function_of_its_stream() {
    let path = std::env::temp_dir().join(format!("datasync-functions-{}.json", std::process::id()));
    let outputs = r#"[{"OutputKey":"CaptureStreamPreferencesName","OutputValue":"f"},{"OutputKey":"CapturePullPosPricesName","OutputValue":"g"}]"#;
    std::fs::write(&path, outputs).unwrap();
    let outputs = Outputs::read(Some(&path)).unwrap();
    std::fs::remove_file(&path).unwrap();
    let of = |source: &str| output(&outputs, &source.parse().unwrap());
    assert_eq!(of("preferences"), "CaptureStreamPreferencesName");
    assert_eq!(of("pos-prices"), "CapturePullPosPricesName");

    let sample = |name: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/capture-stream").join(name);
        std::fs::read_to_string(file).unwrap().trim_end().to_owned()
    };
    let asked = Backfill {
        source: "preferences".parse().unwrap(),
        model: "preference".parse().unwrap(),
        target: Some("warehouse".parse().unwrap()),
        ..command(Some("2026-11-30-preferences"))
    };
    let function = Scripted::of(&[Ok(DONE), Ok(DONE), Ok(DONE), Ok(DONE), Ok(DONE)]);
    backfilled(&function, &asked).await.0.unwrap();
    let asked = |pause, resume, progress| Backfill {
        source: "preferences".parse().unwrap(),
        model: "preference".parse().unwrap(),
        pause,
        resume,
        progress,
        ..command(Some("2026-11-30-preferences"))
    };
    backfilled(&function, &asked(true, false, false)).await.0.unwrap();
    backfilled(&function, &asked(false, true, false)).await.0.unwrap();
    backfilled(&function, &asked(false, false, true)).await.0.unwrap();
    let sent = function.asked();
    assert_eq!(sent[0], sample("backfill.json"));
    assert_eq!((&sent[1], &sent[2]), (&sample("backfill-pause.json"), &sample("backfill-resume.json")));
    assert_eq!(sent[4], sample("backfill-status.json"));
}

#[tokio::test(start_paused = true)]
async fn a_backfill_that_waits_for_ever_is_given_up_with_its_name() {
    let waiting = Ok(r#"{"state":"waiting","rows":0,"refused":0,"chunks":0}"#);
    let function = Scripted::of(&[waiting; 100]);
    let (done, _) = backfilled(&function, &command(Some("r1"))).await;
    assert!(matches!(done, Err(Error::Waits(run)) if run == "r1"));
    assert_eq!(function.asked().len(), 61);
}

#[tokio::test]
async fn an_error_of_the_function_is_shown_as_it_says_it() {
    let function =
        Scripted::of(&[Err(r#"{"errorType":"E","errorMessage":"source crm does not write model x"}"#)]);
    let (done, _) = backfilled(&function, &command(None)).await;
    assert_eq!(done.unwrap_err().to_string(), "the function says: source crm does not write model x");
}

const STATUS: &str = r#"{"read":true,"stopped":null,"held":false,"epoch":3,"revision":9}"#;
const RUN: &str = r#"{"ended":"done","polls":1,"changes":0,"refused":0,"lag_ms":0}"#;

#[tokio::test(start_paused = true)]
async fn a_resync_raises_the_epoch_lets_live_capture_begin_and_backfills_every_model() {
    let unread = r#"{"read":false,"stopped":null,"held":false,"epoch":3,"revision":8}"#;
    let busy = r#"{"ended":"busy","polls":0,"changes":0,"refused":0,"lag_ms":0}"#;
    let function = Scripted::of(&[Ok(unread), Ok(busy), Ok(unread), Ok(RUN), Ok(STATUS), Ok(DONE), Ok(DONE)]);
    let source = "pos-customers".parse().unwrap();
    let models = ["a", "b"].map(|model| model.parse().unwrap());
    let mut out = Vec::new();
    begin_anew(&function, &source, &models, &mut out).await.unwrap();
    let asked = function.asked();
    assert_eq!(
        (&asked[0], &asked[1], &asked[2]),
        (&sample("resync.json"), &sample("one-poll.json"), &sample("status.json"))
    );
    assert!(asked[5].contains(r#"{"backfill":{"model":"a","#) && asked[6].contains(r#"{"model":"b","#));
    let told = String::from_utf8(out).unwrap();
    assert!(told.contains("epoch 3") && told.contains("every row was sent again"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_resync_of_a_source_that_stops_again_backfills_nothing() {
    let stopped = r#"{"read":false,"stopped":"slot_lost","held":false,"epoch":3,"revision":8}"#;
    let function = Scripted::of(&[Ok(STATUS), Ok(RUN), Ok(stopped)]);
    let source = "pos-customers".parse().unwrap();
    let done = begin_anew(&function, &source, &["a".parse().unwrap()], &mut Vec::new()).await;
    assert!(matches!(done, Err(Error::Stopped(code)) if code == "slot_lost"));
}

#[tokio::test]
async fn a_status_says_whether_the_source_is_read() {
    for (answer, expected) in [
        (STATUS, "between two runs; epoch 3, checkpoint moved 9 times\n"),
        (
            r#"{"read":true,"stopped":"slot_lost","held":false,"epoch":0,"revision":1}"#,
            "stopped (slot_lost); epoch 0, checkpoint moved 1 times\n",
        ),
    ] {
        let function = Scripted::of(&[Ok(answer)]);
        let source = "pos-customers".parse().unwrap();
        let status: Status = ask(&function, &source, Some(Work::Status)).await.unwrap();
        let mut out = Vec::new();
        print(&status, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    assert_eq!(sample("resume.json"), r#"{"source":"pos-customers","work":"resume"}"#);
}
