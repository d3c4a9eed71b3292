//! Transactions, single writes and reads over a few partitions, simulated: coordinators that die after any step, leaders that lose their
//! office with commands half committed, messages that are lost, repeated, or seconds late. Afterwards nothing is stuck, every transaction
//! is there wholly or not at all, also at every point in time that the logs are cut at, and the whole history is serializable. A failure names its
//! seed.

mod history;
mod world;

use world::World;

/// Enough for every fault to have met every step.
const SEEDS: u64 = 150;

#[test]
fn every_history_is_serializable_and_nothing_stays_pending() {
    let mut totals = world::Counts::default();
    for seed in 1..=SEEDS {
        let mut world = World::new(seed);
        world.run();
        world.settle();
        world.check();
        world.check_points_in_time();
        totals.add(&world.counts);
    }
    // The faults and outcomes that this is about did happen.
    assert!(totals.committed > 1_000, "{totals:?}");
    assert!(totals.cancelled > 100, "{totals:?}");
    assert!(totals.died > 100, "{totals:?}");
    assert!(totals.recovered > 100, "{totals:?}");
    assert!(totals.leaders_lost > 500, "{totals:?}");
    assert!(totals.reads > 500, "{totals:?}");
    assert!(totals.late > 100, "{totals:?}");
    assert!(totals.cut > 100, "{totals:?}");
}
