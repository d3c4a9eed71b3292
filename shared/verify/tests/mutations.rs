//! The models find deliberate bugs: each breaks an invariant, on a path that the search meets within a bounded number of steps.

use paxos::Mutation;
use verify::run::{Manner, run};
use verify::scenario::Scenario;
use verify::scenarios::named;

/// Some invariant whose name contains `wanted` breaks with the bug. Without it the same search, twice as long, finds nothing.
fn caught(mutation: Mutation, model: &str, wanted: &str, change: impl Fn(&mut Scenario)) {
    let mut clean = named(model).expect("a model of this name");
    change(&mut clean);
    let mut scenario = clean.clone();
    scenario.mutations = vec![mutation];
    let search = |scenario: Scenario, states_max: usize| {
        let manner = Manner {
            threads: 1,
            states_max: Some(states_max),
            ..Manner::default()
        };
        let report = run(scenario, manner);
        let broken: Vec<&str> = report.broken.iter().map(|(what, _)| *what).collect();
        (report.states, report.transitions, broken)
    };
    let (states, transitions, broken) = search(scenario, 1_500_000);
    println!("{mutation:?} in {model}: {states} states: {broken:?}");
    assert!(
        broken.iter().any(|what| what.contains(wanted)),
        "{mutation:?} in {model}, {states} states: {broken:?}"
    );
    let (_, _, broken) = search(clean, 2 * transitions);
    assert_eq!(broken, Vec::<&str>::new(), "without {mutation:?}");
}

/// An empty group whose disks are slow.
fn cold_and_slow(scenario: &mut Scenario) {
    scenario.sync_at_once = false;
}

#[test]
fn disks() {
    caught(
        Mutation::AckBeforeFsync,
        "crashes",
        "acknowledge only",
        cold_and_slow,
    );
    caught(
        Mutation::PromiseBeforeFsync,
        "crashes",
        "promises",
        cold_and_slow,
    );
    caught(Mutation::CountReceived, "disks", "committed means", |_| {});
    caught(Mutation::CountUnsynced, "disks", "committed means", |_| {});
}

#[test]
fn ballots() {
    caught(
        Mutation::AcceptBelowPromise,
        "ballots",
        "accept only",
        |_| {},
    );
    caught(Mutation::SkipAdoption, "ballots", "a new leader", |_| {});
    caught(Mutation::SharedBallot, "ballots", "a new leader", |_| {});
    caught(
        Mutation::EpochBeforeLog,
        "ballots",
        "a new leader",
        |scenario| {
            scenario.bounds.crashes = 1;
            scenario.crashers = vec![2];
        },
    );
    caught(
        Mutation::LatePromise,
        "ballots",
        "a new leader",
        |scenario| {
            scenario.bounds.campaigns = 3;
            scenario.bounds.proposals = 0;
        },
    );
}

#[test]
fn members() {
    caught(Mutation::LearnerVotes, "grow", "committed", |scenario| {
        scenario.bounds.changes = 0;
        scenario.bounds.proposals = 1;
    });
    caught(
        Mutation::LeadAsLearner,
        "shrink",
        "learners never lead",
        |_| {},
    );
    caught(Mutation::JointByUnion, "changes", "committed", |_| {});
    caught(Mutation::JointByNewAlone, "changes", "", |_| {});
    caught(Mutation::LeaveJointEarly, "changes", "uncommitted", |_| {});
    caught(Mutation::TwoChanges, "changes", "uncommitted", |scenario| {
        scenario.bounds.changes = 2;
    });
    caught(Mutation::RetireUncommitted, "changes", "retire", |_| {});
    caught(Mutation::TrustStaleIncarnation, "rejoin", "stale", |_| {});
    caught(Mutation::ReuseIncarnation, "rejoin", "a new leader", |_| {});
}

#[test]
fn adopted_members() {
    caught(Mutation::SkipAdoptedQuorum, "changes", "", |_| {});
}

#[test]
fn leases() {
    caught(Mutation::ServeBeforeLease, "leases", "lease", |_| {});
    caught(Mutation::NoLeaseMargin, "leases", "lease", |_| {});
    caught(Mutation::ForgetEarlierLease, "terms", "lease", |_| {});
    caught(Mutation::ForgetLeaseOnRestart, "restarts", "lease", |_| {});
    caught(
        Mutation::LeaseOutlivesTransfer,
        "transfers",
        "lease",
        |_| {},
    );
    caught(Mutation::ReleaseUnknownLease, "releases", "lease", |_| {});
    caught(
        Mutation::ChangeBeforeOwnCommit,
        "successions",
        "lease",
        |_| {},
    );
}

#[test]
fn lease_from_receipt() {
    caught(Mutation::LeaseFromReceipt, "leases", "lease", |scenario| {
        scenario.bounds.ticks = 4;
        scenario.bounds.wakes = 1;
    });
}
