//! Splits with all faults: fixed seeds hold and meet what they are meant to meet, and deliberate bugs are caught.

use partition::Mutation;
use sim::coverage::{Coverage, WANTED_OF_SPLITS};
use sim::run::run;
use sim::scenario::{MEMBERS, Members, Options};

fn splitting(members: Option<Members>) -> Options {
    Options {
        members,
        splits: true,
        ..Options::default()
    }
}

#[test]
fn the_fixed_seeds_hold_and_meet_everything() {
    let mut coverage = Coverage::default();
    for members in MEMBERS {
        let options = splitting(Some(members));
        for seed in 0..40 {
            let report = run(seed, &options);
            if let Some(violation) = report.violation {
                panic!(
                    "seed {seed}: {}\n{}\nagain: cargo run -p sim --release -- --seeds 1 --from {seed} --splits --members {members}",
                    violation.invariant, violation.detail,
                );
            }
            coverage.add(&report.coverage);
        }
    }
    let missing = coverage.missing(&WANTED_OF_SPLITS);
    assert!(missing.is_empty(), "never met: {missing:?}\n{coverage}");
}

#[test]
fn one_seed_gives_the_same_bytes_twice() {
    let options = Options {
        keep_trace: true,
        ..splitting(None)
    };
    for seed in 0..3 {
        let (first, second) = (run(seed, &options), run(seed, &options));
        assert!(first.trace == second.trace, "seed {seed} gives two traces");
        assert_eq!(first.coverage, second.coverage);
    }
}

/// The invariant that fails first.
fn caught(mutation: Mutation, seeds: u64) -> String {
    let options = Options {
        split_mutations: vec![mutation],
        ..splitting(None)
    };
    match (0..seeds).find_map(|seed| run(seed, &options).violation) {
        Some(violation) => violation.invariant.to_owned(),
        None => panic!("{mutation:?} went unnoticed in {seeds} seeds"),
    }
}

#[test]
fn serving_while_the_commit_is_under_way_is_caught() {
    let invariant = caught(Mutation::ServeWhileCommitting, 60);
    let wanted = [
        "at most one of parent and children serves a key",
        "the partition applies what is committed",
    ];
    assert!(wanted.contains(&&invariant[..]), "{invariant}");
}

#[test]
fn committing_when_only_a_majority_is_ready_is_caught() {
    let invariant = caught(Mutation::CommitByQuorum, 60);
    assert!(invariant.contains("every voter is ready"), "{invariant}");
}

#[test]
fn serving_a_parent_that_has_ended_is_caught() {
    let invariant = caught(Mutation::ServeAfterCommit, 60);
    assert!(
        invariant.contains("serves a key") || invariant.contains("held"),
        "{invariant}"
    );
}

#[test]
fn a_cursor_in_a_transaction_of_its_own_is_caught() {
    let invariant = caught(Mutation::CursorApart, 200);
    assert!(invariant.contains("children hold"), "{invariant}");
}

#[test]
fn flushing_the_parent_before_its_children_is_caught() {
    let invariant = caught(Mutation::ParentFirst, 400);
    assert!(invariant.contains("children hold"), "{invariant}");
}

#[test]
fn letting_the_parent_go_before_the_children_are_installed_is_caught() {
    let invariant = caught(Mutation::NoteBeforeInstall, 200);
    let wanted = ["a healed mesh converges", "children hold"];
    assert!(
        wanted.iter().any(|wanted| invariant.contains(wanted)),
        "{invariant}"
    );
}

#[test]
fn letting_children_begin_before_that_is_noted_is_caught() {
    let invariant = caught(Mutation::BeginBeforeNote, 400);
    let wanted = [
        "promises are monotone",
        "one leader a ballot",
        "committed",
        "logs match",
    ];
    assert!(
        wanted.iter().any(|wanted| invariant.contains(wanted)),
        "{invariant}"
    );
}

#[test]
fn keeping_children_of_a_b_tree_that_was_replaced_is_caught() {
    let invariant = caught(Mutation::KeepAcrossCopy, 400);
    assert!(invariant.contains("children hold"), "{invariant}");
}
