//! A function that dies at any step, again and again, loses nothing and turns nothing round.

use sync_chaos::{Bed, Dice, History, Till, build, failpoints};
use sync_tests::pos::TABLES;

/// How often each failpoint is the end, per table.
fn kills() -> u64 {
    std::env::var("CHAOS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_killed_at_every_step_loses_nothing() {
    let binary = build("capture-pull").unwrap();
    let places: Vec<String> =
        failpoints("capture-pull").unwrap().into_iter().filter(|place| !place.contains("chunk")).collect();
    assert!(places.len() >= 5, "the failpoints are gone: {places:?}");
    let till = Till::start().await.unwrap();
    let bed = Bed::make("kills", &till.pos.url()).await.unwrap();
    let mut dice = Dice::from_env();

    for table in TABLES {
        let event = || format!(r#"{{"source":"{}","run_for":"0s"}}"#, table.source);
        let mut history = History::default();
        // The first poll marks where capture begins.
        let function = bed.start("capture-pull", binary.clone(), None).unwrap();
        function.invoke(event()).unwrap();
        drop(function);

        let (mut died, mut survived) = (0, 0);
        for place in &places {
            for _ in 0..kills() {
                for _ in 0..=dice.below(3) {
                    history.commit(till.write(table, &mut dice).await.unwrap());
                }
                // Now and then one that is passed twice, if at all.
                let failpoint = format!("{place}@{}", if dice.below(6) == 0 { 2 } else { 1 });
                let mut function = bed.start("capture-pull", binary.clone(), Some(&failpoint)).unwrap();
                match function.invoke_or_die(event()).unwrap() {
                    None => {
                        died += 1;
                        bed.end_lease(table.source).await.unwrap();
                    }
                    Some(_) => survived += 1,
                }
            }
        }
        let function = bed.start("capture-pull", binary.clone(), None).unwrap();
        let mut quiet = 0;
        while quiet < 2 {
            let answer = function.invoke(event()).unwrap().answer;
            match (answer.contains("\"ended\":\"done\""), answer.contains("\"changes\":0")) {
                (true, true) => quiet += 1,
                (true, false) => quiet = 0,
                (false, _) => panic!("{answer}"),
            }
        }
        drop(function);

        let changes = bed.changes().await.unwrap();
        history.see(table.model, &changes).unwrap();
        let (commits, seen) = (history.commits(), history.changes());
        println!("{}: {commits} commits, {seen} changes, died {died}, survived {survived}", table.source);
        assert!(died > survived, "the function hardly ever dies, so this shows nothing");
        let wrong = match table.model {
            "pos_store" => history.last_state(),
            _ => history.every_commit(),
        };
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(bed.dead_letters().await.unwrap(), 0);
    }
}
