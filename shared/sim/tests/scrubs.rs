//! Replicas compared at markers, with all faults, splits and copies in between: fixed seeds hold, and deliberate bugs are caught.

use partition::Mutation;
use sim::coverage::Coverage;
use sim::run::run;
use sim::scenario::{MEMBERS, Options};

fn scrubbing(splits: bool) -> Options {
    Options {
        splits,
        scrubs: true,
        ..Options::default()
    }
}

#[test]
fn replicas_are_equal_at_markers_whatever_happens_in_between() {
    let mut coverage = Coverage::default();
    for members in MEMBERS {
        for seed in 0..20 {
            let options = Options {
                members: Some(members),
                ..scrubbing(seed % 2 == 0)
            };
            let report = run(seed, &options);
            if let Some(violation) = report.violation {
                let splits = if options.splits { " --splits" } else { "" };
                panic!(
                    "seed {seed}: {}\n{}\nagain: cargo run -p sim --release -- --seeds 1 --from {seed} --scrubs{splits} --members {members}",
                    violation.invariant, violation.detail,
                );
            }
            coverage.add(&report.coverage);
        }
    }
    let wanted = [
        "replicas compared at a marker",
        "copy installed",
        "restart",
        "split committed",
    ];
    let missing = coverage.missing(&wanted);
    assert!(missing.is_empty(), "never met: {missing:?}\n{coverage}");
}

/// The invariant that fails first.
fn caught(mutation: Mutation, seeds: u64) -> String {
    let options = Options {
        split_mutations: vec![mutation],
        ..scrubbing(false)
    };
    match (0..seeds).find_map(|seed| run(seed, &options).violation) {
        Some(violation) => violation.invariant.to_owned(),
        None => panic!("{mutation:?} went unnoticed in {seeds} seeds"),
    }
}

#[test]
fn a_write_that_one_replica_left_out_is_caught() {
    let invariant = caught(Mutation::SkipWrite, 20);
    assert_eq!(invariant, "replicas are equal at a marker");
}

#[test]
fn a_flush_that_goes_past_the_marker_is_caught() {
    let invariant = caught(Mutation::FlushPastMarker, 60);
    assert_eq!(invariant, "replicas are equal at a marker");
}
