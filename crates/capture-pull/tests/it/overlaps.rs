use std::time::Duration;

use capture_pull::Ended;

use crate::steps::{Design, Random};
use crate::world::World;

/// Starts runs close to each other, four times, while the source is written to; every step takes a random time, now and
/// then longer than a lease lasts. Gives how many runs found at the end of a page that another one had the lease.
async fn overlap(design: Design, seed: u64, runs: usize) -> (World, usize) {
    let world = World::of(design);
    world.steps.shake(seed);
    let mut random = Random::new(seed ^ 0x5eed);
    let mut overtaken = 0;
    for _ in 0..4 {
        world.table.write(20, 5);
        let starts = [0, random.below(40_000), random.below(40_000)].map(Duration::from_millis);
        let run = async |number: usize| {
            if number >= runs {
                return false;
            }
            tokio::time::sleep(starts[number]).await;
            world.run_for(Duration::from_secs(15)).await.unwrap().ended == Ended::Overtaken
        };
        let write = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(4)).await;
                world.table.write(4, 5);
            }
        };
        let (first, second, third, ()) = tokio::join!(run(0), run(1), run(2), write);
        overtaken += [first, second, third].into_iter().filter(|overtaken| *overtaken).count();
    }
    (world, overtaken)
}

#[tokio::test(start_paused = true)]
async fn overlapping_runs_never_move_the_checkpoint_back_and_lose_nothing() {
    for runs in [2, 3] {
        let mut overtaken = 0;
        for seed in 0..100 {
            let (world, times) = overlap(Design::Ours, seed, runs).await;
            world.read_to_the_end().await;
            overtaken += times;
            assert!(!world.went_back(), "seed {seed}, {runs} runs");
            assert_eq!(world.lost(), 0, "seed {seed}, {runs} runs");
            assert_eq!(world.arrived(), world.table.state(), "seed {seed}, {runs} runs");
        }
        assert!(overtaken > 20, "{runs} runs overtook each other {overtaken} times only");
    }
}

#[tokio::test(start_paused = true)]
async fn a_design_without_a_token_in_the_condition_of_a_save_is_caught() {
    for design in [Design::Unconditional, Design::LeaseWithoutToken] {
        let mut caught = 0;
        for seed in 0..100 {
            caught += usize::from(overlap(design, seed, 2).await.0.went_back());
        }
        assert!(caught > 0, "{design:?} never moved the checkpoint back");
    }
}
