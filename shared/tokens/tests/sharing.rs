//! Routers and GAC instances in a simulated world: messages are late, lost and doubled, clocks are hours apart, instances die and return,
//! somebody replays and forges answers, and the demand wanders. What a table gets over a minute is what it was promised.

mod world;

use proptest::prelude::*;
use world::{Faults, World};

const RATE: u64 = 1_000;

/// Units of a minute at the table's rate.
const MINUTE: f64 = 60.0 * RATE as f64;

#[test]
fn four_routers_under_overload_get_the_rate_and_no_more() {
    let mut world = World::new(1, 4, 2, RATE, Faults::default());
    world.run_s(10);
    for minute in 0..3 {
        let got = world.admitted_in_s(60);
        assert!(
            (0.97 * MINUTE..=1.03 * MINUTE).contains(&got),
            "minute {minute}: {got}"
        );
    }
}

#[test]
fn a_table_whose_demand_wanders_gets_its_rate() {
    let mut world = World::new(2, 4, 2, RATE, Faults::default());
    world.run_s(10);
    let mut got = 0.0;
    for round in 0..12 {
        // All the traffic goes to one router, and to another ten seconds later.
        world.demand_at(&[round % 4], 3 * RATE);
        got += world.admitted_in_s(10);
    }
    assert!(
        (0.97 * 2.0 * MINUTE..=1.03 * 2.0 * MINUTE).contains(&got),
        "{got}"
    );
}

#[test]
fn without_gac_the_shares_go_on() {
    let mut world = World::new(3, 4, 2, RATE, Faults::default());
    world.run_s(20);
    world.kill_instances();
    for minute in 0..5 {
        let got = world.admitted_in_s(60);
        assert!(
            (0.97 * MINUTE..=1.10 * MINUTE).contains(&got),
            "minute {minute}: {got}"
        );
    }
    world.start_instance(1);
    world.start_instance(2);
    let got = world.admitted_in_s(60);
    assert!((0.95 * MINUTE..=1.05 * MINUTE).contains(&got), "{got}");
}

#[test]
fn routers_that_never_heard_of_gac_share_evenly() {
    let mut world = World::new(4, 4, 0, RATE, Faults::default());
    let got = world.admitted_in_s(60);
    // One second of every bucket comes on top, once.
    assert!(
        (0.97 * MINUTE..=1.0 * MINUTE + 1.1 * RATE as f64).contains(&got),
        "{got}"
    );
}

#[test]
fn an_idle_table_saves_and_a_restart_does_not_make_it_richer() {
    let mut world = World::new(5, 2, 1, RATE, Faults::default());
    world.demand_at(&[0, 1], RATE / 10);
    world.run_s(120);
    world.demand_at(&[0, 1], 3 * RATE);
    let got = world.admitted_in_s(30);
    assert!(got > 2.5 * 30.0 * RATE as f64, "the burst is there: {got}");
    // Empty again, then idle for a minute: that would be a burst, but the instance forgets it.
    world.run_s(120);
    world.demand_at(&[0, 1], 0);
    world.run_s(60);
    world.restart_instance(1);
    world.run_s(1);
    world.demand_at(&[0, 1], 3 * RATE);
    let got = world.admitted_in_s(60);
    assert!(got <= 1.05 * MINUTE, "{got}");
}

#[test]
fn replayed_and_forged_answers_give_nothing() {
    let faults = Faults {
        replay: true,
        forge: true,
        ..Faults::default()
    };
    let mut world = World::new(6, 4, 2, RATE, faults);
    world.run_s(10);
    let got = world.admitted_in_s(60);
    assert!((0.97 * MINUTE..=1.03 * MINUTE).contains(&got), "{got}");
    assert!(world.unasked > 100, "they did come: {}", world.unasked);
}

#[test]
fn what_is_provisioned_anew_counts_at_once() {
    let mut world = World::new(7, 4, 2, RATE, Faults::default());
    world.run_s(20);
    world.provision(2 * RATE);
    world.demand_at(&[0, 1, 2, 3], 5 * RATE);
    world.run_s(3);
    let got = world.admitted_in_s(60);
    assert!((1.94 * MINUTE..=2.06 * MINUTE).contains(&got), "{got}");
    world.provision(RATE / 2);
    world.run_s(3);
    let got = world.admitted_in_s(60);
    assert!(got <= 0.53 * MINUTE, "{got}");
    world.kill_instances();
    world.run_s(5);
    world.provision(RATE);
    let got = world.admitted_in_s(60);
    assert!(
        (0.95 * MINUTE..=1.10 * MINUTE).contains(&got),
        "without GAC, too: {got}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to messages and instances, a minute never holds more than the rate and a tenth, and with GAC there and messages
    /// mostly arriving a table that is asked for its rate gets it.
    #[test]
    fn bounded_whatever_happens(
        seed in any::<u64>(),
        routers in 1_usize..=8,
        instances in 1_usize..=3,
        loss_percent in 0_u64..=10,
        restart_s in 5_u64..=60,
        rate in 2_u64..=20_000,
    ) {
        let faults = Faults { loss_percent, replay: true, forge: true };
        let mut world = World::new(seed, routers, instances, rate, faults);
        world.run_s(20);
        let restarted = 1 + seed % instances as u64;
        let minute = 60.0 * rate as f64;
        // What a router may always spend at once, however small the rate is.
        let grain = 2.0 * routers as f64;
        for round in 0..4 {
            let mut got = world.admitted_in_s(restart_s);
            world.restart_instance(restarted);
            got += world.admitted_in_s(60 - restart_s);
            prop_assert!(got <= 1.05 * minute + grain, "round {round}: {got} of {minute}");
            prop_assert!(got >= 0.93 * minute - grain, "round {round}: {got} of {minute}");
        }
    }
}
