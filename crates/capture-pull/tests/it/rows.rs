use sync_domain::change::Operation;
use sync_domain::ports::Kind as Away;
use sync_sources::Row;

use crate::table::row;
use crate::world::{World, read};

#[tokio::test(start_paused = true)]
async fn a_change_takes_along_what_its_model_lists_and_nothing_else() {
    let world = World::new();
    world.table.push(Row { before: Some(r#"{"id":1,"value":8,"note":"x"}"#.to_owned()), ..row(1, 9) });
    world.run().await.unwrap();
    let entries = world.queue.entries();
    let change = read(&entries[0].body);
    assert_eq!((change.key, change.after), (r#"{"id":1}"#, Some(r#"{"id":1,"value":9}"#)));
    assert_eq!(change.before, Some(r#"{"id":1,"value":8}"#));
    assert_eq!((&*change.source, &*change.origin, &*change.model), ("crm-db", "crm-db", "customer"));
    assert_eq!(entries[0].group.len(), 43);
}

#[tokio::test(start_paused = true)]
async fn a_delete_of_which_only_the_key_is_known_has_no_record_before() {
    let world = World::new();
    for (version, before) in [(1, r#"{"id":1}"#), (2, r#"{"id":1,"value":7}"#)] {
        let before = Some(before.to_owned());
        world.table.push(Row { operation: Operation::Delete, before, after: None, ..row(1, version) });
    }
    world.run().await.unwrap();
    let bodies = world.bodies();
    let [key_only, whole] = [read(&bodies[0]), read(&bodies[1])];
    assert_eq!((key_only.key, key_only.before), (r#"{"id":1}"#, None));
    assert_eq!((whole.key, whole.before), (r#"{"id":1}"#, Some(r#"{"id":1,"value":7}"#)));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_go_on_has_a_ticket_and_holds_nobody_up() {
    let world = World::new();
    world.table.write(2, 1);
    let large = format!(r#"{{"id":1,"value":1,"value2":0,"id2":"{}"}}"#, "x".repeat(10));
    world.table.push(Row { after: Some(r#"{"id":null,"value":3}"#.to_owned()), ..row(1, 3) });
    world.table.push(Row { after: Some(large), ..row(1, 4) });
    let huge = "9".repeat(300_000);
    world.table.push(Row { after: Some(format!(r#"{{"id":5,"value":{huge}}}"#)), ..row(5, 5) });
    let report = world.run().await.unwrap();
    assert_eq!((report.changes, report.refused), (3, 2));
    let reported = world.bus.reported();
    assert_eq!(reported.len(), 2);
    assert!(reported[0].rid.is_none(), "its key is what is wrong");
    assert_eq!(reported[1].reason.code, "change_too_large");
    assert!(reported[1].rid.is_some() && reported[1].model.is_some());
    assert!(
        reported.iter().all(|failure| failure.dead_letter_queue.is_none()),
        "the row stands at its source"
    );
    assert_eq!(world.cursor().await.as_deref(), Some("5"));
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_ticket_cannot_be_written_is_read_again() {
    let world = World::new();
    world.table.push(Row { after: Some(r#"{"id":null,"value":3}"#.to_owned()), ..row(1, 1) });
    world.bus.faults.outage(Away::Unavailable);
    assert!(world.run().await.is_err());
    assert_eq!(world.cursor().await, None);
    world.bus.faults.recover();
    world.run().await.unwrap();
    assert_eq!(world.bus.reported().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn rows_that_do_not_fit_their_model_wait_with_the_dead_letters_under_one_ticket() {
    let world = World::new();
    for version in 1..=5 {
        let set_aside = (version != 3).then(|| "public.customer.value".to_owned());
        world.table.push(Row { set_aside, ..row(version, version) });
    }
    let report = world.run().await.unwrap();
    assert_eq!((report.changes, report.refused), (1, 4));
    let waiting = world.dead_letters.entries();
    assert_eq!(waiting.len(), 4);
    assert_eq!(
        waiting[0].attributes,
        [("reason", "schema_drift"), ("place", "public.customer.value")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    read(&waiting[0].body);
    let reported = world.bus.reported();
    assert_eq!((reported.len(), reported[0].reason.code.as_str()), (1, "schema_drift"));
    assert!(reported[0].dead_letter_queue.is_some());
}

#[tokio::test(start_paused = true)]
async fn rows_that_cannot_be_set_aside_are_read_again() {
    let world = World::new();
    world.table.push(Row { set_aside: Some("public.customer".to_owned()), ..row(1, 1) });
    world.dead_letters.faults.outage(Away::Unavailable);
    assert!(world.run().await.is_err());
    assert_eq!(world.cursor().await, None);
}
