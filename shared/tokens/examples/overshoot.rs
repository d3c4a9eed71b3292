//! How far a table's consumption strays from its rate over a minute, in the simulated world of the tests: `cargo run --release -p tokens --example
//! overshoot`. Nothing here depends on the machine's speed.

#[path = "../tests/world/mod.rs"]
mod world;

use world::{Faults, World};

const RATE: u64 = 1_000;
const SEEDS: u64 = 20;

/// The least and the most that a minute of `scenario` admits, in percent of the rate, over all seeds.
fn measure(name: &str, faults: Faults, scenario: impl Fn(&mut World) -> f64) {
    let got: Vec<f64> = (0..SEEDS)
        .map(|seed| {
            let mut world = World::new(seed, 4, 2, RATE, faults);
            world.run_s(20);
            scenario(&mut world) / (60 * RATE) as f64 * 100.0
        })
        .collect();
    let least = got.iter().copied().fold(f64::INFINITY, f64::min);
    let most = got.iter().copied().fold(0.0, f64::max);
    println!("{name:<66} {least:>7.2} {most:>7.2}");
}

fn main() {
    let fair = Faults::default();
    let lossy = Faults {
        loss_percent: 10,
        replay: true,
        forge: true,
    };
    println!(
        "{:<66} {:>7} {:>7}",
        "four routers, two instances, three times the rate asked for", "least %", "most %"
    );
    measure("undisturbed", fair, |world| world.admitted_in_s(60));
    measure(
        "one message in ten lost, all doubled, replays and forgeries",
        lossy,
        |world| world.admitted_in_s(60),
    );
    measure(
        "all traffic at one router, another one every ten seconds",
        fair,
        |world| {
            let rounds = 0..6;
            rounds
                .map(|round| {
                    world.demand_at(&[round % 4], 3 * RATE);
                    world.admitted_in_s(10)
                })
                .sum()
        },
    );
    measure(
        "an instance restarted every twenty seconds",
        fair,
        |world| {
            let rounds = 0..3;
            rounds
                .map(|round| {
                    world.restart_instance(1 + round % 2);
                    world.admitted_in_s(20)
                })
                .sum()
        },
    );
    measure(
        "its throughput doubled and halved again, ten seconds later",
        fair,
        |world| {
            world.provision(2 * RATE);
            world.run_s(10);
            world.provision(RATE);
            world.run_s(10);
            world.admitted_in_s(60)
        },
    );
    measure("all instances killed, first minute", fair, |world| {
        world.kill_instances();
        world.admitted_in_s(60)
    });
    measure("all instances killed, third minute", fair, |world| {
        world.kill_instances();
        world.run_s(120);
        world.admitted_in_s(60)
    });
    measure("all instances back after a minute", fair, |world| {
        world.kill_instances();
        world.run_s(60);
        world.start_instance(1);
        world.start_instance(2);
        world.admitted_in_s(60)
    });
}
