//! The models hold. Small ones are searched to their end, big ones breadth-first as far as a test may last; `cargo run -p verify --release`
//! goes on from there.

use verify::run::{Manner, run};
use verify::scenarios::named;

/// Nothing breaks, and what must be reachable is reached.
fn holds(model: &str, transitions_max: Option<usize>) {
    let manner = Manner {
        states_max: transitions_max,
        ..Manner::default()
    };
    let report = run(named(model).expect("a model of this name"), manner);
    println!(
        "{model}: {} states, {} transitions, depth {}, {:.1?}, complete: {}",
        report.states, report.transitions, report.depth, report.took, report.complete
    );
    assert!(report.broken.is_empty(), "{model}: {:?}", report.broken);
    let missed = report.reached.iter().find(|(_, way)| way.is_none());
    assert_eq!(missed, None, "{model}: never reached");
    assert!(report.complete || transitions_max.is_some());
}

#[test]
fn small_worlds_hold_in_every_state() {
    for model in ["disks", "crashes", "copies", "transfers", "releases"] {
        holds(model, None);
    }
}

#[test]
fn three_ballots_hold_in_every_state() {
    holds("ballots", None);
}

#[test]
fn changes_of_the_members_hold() {
    for model in ["grow", "shrink", "changes", "rejoin"] {
        holds(model, None);
    }
}

#[test]
fn changes_amid_three_ballots_and_a_crash_hold() {
    holds("recovery", None);
}

#[test]
fn leases_hold() {
    for model in ["leases", "restarts", "successions"] {
        holds(model, None);
    }
    holds("terms", Some(800_000));
}
