//! The simulator finds deliberate bugs: for each, some seed of a bounded search fails, with an invariant that names it.

use paxos::Mutation;
use sim::run::run;
use sim::scenario::Options;

/// The invariant that fails first in seeds from `from` on.
fn caught(mutation: Mutation, from: u64, seeds: u64, storm: bool) -> String {
    let options = Options {
        mutations: vec![mutation],
        storm,
        ..Options::default()
    };
    let found = (from..from + seeds).find_map(|seed| run(seed, &options).violation);
    match found {
        Some(violation) => violation.invariant.to_owned(),
        None => panic!("{mutation:?} went unnoticed in {seeds} seeds from {from}"),
    }
}

#[test]
fn acknowledging_before_the_sync_is_caught() {
    let invariant = caught(Mutation::AckBeforeFsync, 0, 20, false);
    assert!(
        invariant.contains("acknowledge only what is durable"),
        "{invariant}"
    );
}

#[test]
fn promising_before_the_sync_is_caught() {
    let invariant = caught(Mutation::PromiseBeforeFsync, 0, 20, false);
    assert!(invariant.contains("promises"), "{invariant}");
}

#[test]
fn accepting_below_the_promise_is_caught() {
    let invariant = caught(Mutation::AcceptBelowPromise, 0, 400, false);
    assert!(
        invariant.contains("accept only at the promised ballot"),
        "{invariant}"
    );
}

#[test]
fn serving_before_the_old_lease_ran_out_is_caught() {
    let invariant = caught(Mutation::ServeBeforeLease, 0, 400, false);
    assert!(invariant.contains("lease"), "{invariant}");
}

#[test]
fn a_lease_that_outlives_a_transfer_is_caught() {
    let invariant = caught(Mutation::LeaseOutlivesTransfer, 0, 400, false);
    assert!(invariant.contains("lease"), "{invariant}");
}

#[test]
fn forgetting_leases_on_restart_is_caught() {
    let invariant = caught(Mutation::ForgetLeaseOnRestart, 0, 400, false);
    assert!(invariant.contains("lease"), "{invariant}");
}

#[test]
fn leading_without_adopting_the_best_log_is_caught() {
    let invariant = caught(Mutation::SkipAdoption, 0, 400, false);
    assert!(invariant.contains("committed"), "{invariant}");
}

#[test]
fn trusting_stale_incarnations_is_caught() {
    let invariant = caught(Mutation::TrustStaleIncarnation, 0, 400, false);
    assert!(invariant.contains("stale"), "{invariant}");
}

#[test]
fn truncating_what_is_not_archived_is_caught() {
    let options = Options {
        mutations: vec![Mutation::TruncateUnarchived],
        archive: true,
        ..Options::default()
    };
    let found = (0..20).find_map(|seed| run(seed, &options).violation);
    let invariant = found.expect("it goes unnoticed").invariant;
    assert!(invariant.contains("archived"), "{invariant}");
}

/// The rarest: it takes three leaders in a row that die at the right moments.
#[test]
fn committing_an_old_ballots_entry_by_counting_is_caught() {
    let invariant = caught(Mutation::CountOldBallot, 0, 300, true);
    assert!(invariant.contains("committed"), "{invariant}");
}
