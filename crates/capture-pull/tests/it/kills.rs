use std::time::Duration;

use capture_pull::LEASE;
use sync_domain::capture::{self, Draft, Place, Same};
use sync_domain::ports::Taken;

use crate::steps::Design;
use crate::table::PAGE;
use crate::world::{SOURCE, World};

/// Every step of a run, and whether a run passes it once per page.
const STEPS: [(&str, bool); 11] = [
    ("before take", false),
    ("after take", false),
    ("begin", false),
    ("before read", true),
    ("after read", true),
    ("before send", true),
    ("after send", true),
    ("before save", true),
    ("after save", true),
    ("before confirm", false),
    ("after confirm", false),
];
const KILLS: usize = 5;

/// Kills a run at a step, five times, at another page each time where there are pages, while changes come in between.
async fn killed(step: &'static str, pages: bool, run: impl AsyncFn(&World)) -> World {
    let world = World::new();
    for kill in 1..=KILLS {
        world.table.write(6 * PAGE, 4);
        world.steps.arm(step, if pages { kill } else { 1 });
        assert!(world.steps.kill(run(&world)).await.is_none(), "the run never came to {step:?}");
        tokio::time::advance(LEASE).await;
    }
    world
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_killed_at_any_step_loses_nothing_and_repeats_at_most_a_page() {
    for (step, pages) in STEPS {
        let world = killed(step, pages, async |world| drop(world.run().await)).await;
        world.read_to_the_end().await;
        assert_eq!(world.lost(), 0, "{step}");
        assert_eq!(world.arrived(), world.table.state(), "{step}");
        assert!(!world.went_back(), "{step}");
        let repeated = *world.sent.lock().unwrap() - world.table.len();
        assert!(repeated <= KILLS * PAGE, "{step}: {repeated} repeats");
        assert_eq!(world.queue.stored().len(), world.table.len(), "the queue drops repeats by id: {step}");
        assert_eq!(world.table.forgotten(), world.table.len(), "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_run_waits_for_no_longer_than_the_lease_of_one_that_was_killed() {
    let world = World::new();
    world.table.write(3, 1);
    world.steps.arm("before send", 1);
    assert!(world.steps.kill(world.run()).await.is_none());
    assert_eq!(world.run().await.unwrap().changes, 0, "somebody still holds the lease");
    tokio::time::advance(LEASE - Duration::from_secs(1)).await;
    assert_eq!(world.run().await.unwrap().changes, 0);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(world.run().await.unwrap().changes, 3);
}

/// A run of another design: it saves how far it has read before the queue has what it read.
async fn checkpoint_first(world: &World) {
    let deps = &world.deps;
    let owner = world.invocation(Duration::ZERO).owner;
    let taken = deps.checkpoints.take(SOURCE, &owner, LEASE).await.unwrap();
    let Taken::Held(mut lease, checkpoint) = taken else { return };
    let source = &deps.sources[&SOURCE.parse().unwrap()];
    let mut reader = deps.open.reader(source).await.unwrap();
    reader.begin(checkpoint.cursor.as_deref(), checkpoint.epoch).await.unwrap();
    while let Some(page) = reader.page().await.unwrap() {
        deps.checkpoints.save(&mut lease, &page.cursor, LEASE).await.unwrap();
        let mut entries = Vec::new();
        for row in &page.rows {
            let (policy, ids) = (&deps.policies[&row.model], deps.ids.hasher().await.unwrap());
            let draft = Draft {
                operation: row.operation,
                place: Place::Version(row.version),
                occurred_at: &row.occurred_at,
                origin: SOURCE,
                traceparent: None,
                run: None,
                only: None,
                key: None,
                before: None,
                after: row.after.as_deref(),
                same: Same::Id,
            };
            entries.push(capture::prepare(&source.source, policy, ids, &draft).unwrap().entry);
        }
        deps.queue.send(entries).await;
    }
    deps.checkpoints.release(&lease).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_design_that_saves_before_it_sends_is_caught() {
    let mut lost = Vec::new();
    for step in ["after save", "before send", "before read"] {
        let world = killed(step, true, checkpoint_first).await;
        world.read_to_the_end().await;
        lost.push(world.lost());
    }
    assert!(lost[0] > 0 && lost[1] > 0, "{lost:?}");
    assert_eq!(lost[2], 0, "between two pages even that design loses nothing");
    assert_eq!(World::of(Design::Ours).lost(), 0);
}
