//! Histories that pass and that do not.

use linearizability::{Action, Failure, Operation, check, check_within};

fn op(called: u64, answered: impl Into<Option<u64>>, action: Action) -> Operation {
    Operation {
        called,
        answered: answered.into(),
        action,
    }
}

#[test]
fn sequential_histories() {
    let fine = [
        op(1, 2, Action::Read(None)),
        op(3, 4, Action::Write(Some(1))),
        op(
            5,
            6,
            Action::WriteIf {
                expected: Some(1),
                value: Some(2),
            },
        ),
        op(
            7,
            8,
            Action::Refused {
                expected: Some(1),
                found: Some(2),
            },
        ),
        op(9, 10, Action::Write(None)),
        op(11, 12, Action::Read(None)),
    ];
    assert_eq!(check(&fine), Ok(()));
    for left_out in [1, 2, 4] {
        let mut broken = fine.to_vec();
        broken.remove(left_out);
        assert!(check(&broken).is_err(), "without operation {left_out}");
    }
}

#[test]
fn a_stale_read_is_found() {
    let history = [
        op(1, 2, Action::Write(Some(1))),
        op(3, 4, Action::Write(Some(2))),
        op(5, 6, Action::Read(Some(1))),
    ];
    assert!(check(&history).is_err());
}

#[test]
fn concurrent_operations_may_take_either_order() {
    for seen in [1, 2] {
        let history = [
            op(1, 10, Action::Write(Some(1))),
            op(2, 9, Action::Write(Some(2))),
            op(11, 12, Action::Read(Some(seen))),
        ];
        assert_eq!(check(&history), Ok(()));
    }
    let backwards = [
        op(1, 10, Action::Write(Some(1))),
        op(2, 9, Action::Write(Some(2))),
        op(11, 12, Action::Read(Some(1))),
        op(13, 14, Action::Read(Some(2))),
    ];
    assert!(check(&backwards).is_err(), "two reads in different orders");
}

#[test]
fn an_unknown_write_may_happen_late_once_or_never() {
    let unknown = op(1, None, Action::Write(Some(1)));
    let never = [
        unknown,
        op(2, 3, Action::Read(None)),
        op(4, 5, Action::Read(None)),
    ];
    assert_eq!(check(&never), Ok(()));
    let late = [
        unknown,
        op(2, 3, Action::Read(None)),
        op(4, 5, Action::Read(Some(1))),
    ];
    assert_eq!(check(&late), Ok(()));
    let twice = [
        unknown,
        op(2, 3, Action::Read(Some(1))),
        op(4, 5, Action::Write(Some(2))),
        op(6, 7, Action::Read(Some(1))),
    ];
    assert!(check(&twice).is_err());
    let before_its_call = [
        op(1, 2, Action::Read(Some(1))),
        op(3, None, Action::Write(Some(1))),
    ];
    assert!(check(&before_its_call).is_err());
}

#[test]
fn an_unknown_deletion_may_have_happened() {
    let history = [
        op(1, 2, Action::Write(Some(1))),
        op(3, None, Action::Write(None)),
        op(4, 5, Action::Read(Some(1))),
        op(6, 7, Action::Read(None)),
    ];
    assert_eq!(check(&history), Ok(()));
}

#[test]
fn an_unknown_chain_that_was_seen_is_kept() {
    let history = [
        op(1, None, Action::Write(Some(1))),
        op(
            2,
            None,
            Action::WriteIf {
                expected: Some(1),
                value: Some(2),
            },
        ),
        op(5, 6, Action::Read(Some(2))),
    ];
    assert_eq!(check(&history), Ok(()));
    assert!(check(&history[1..]).is_err());
}

#[test]
fn a_refusal_must_have_found_something_else() {
    let found = |found| {
        [
            op(1, 2, Action::Write(Some(1))),
            op(
                3,
                4,
                Action::Refused {
                    expected: Some(1),
                    found,
                },
            ),
        ]
    };
    assert!(check(&found(Some(1))).is_err());
    assert!(check(&found(Some(2))).is_err());
}

/// Two clients alternate for long while most writes time out; some of those take effect much later.
#[test]
fn many_unknown_outcomes_stay_cheap() {
    let mut history = Vec::new();
    for round in 0..2_000_u64 {
        let at = round * 10;
        history.push(op(at, None, Action::Write(Some(round * 2 + 1))));
        history.push(op(at, None, Action::Write(None)));
        history.push(op(at + 1, at + 3, Action::Write(Some(round * 2 + 2))));
        history.push(op(at + 2, at + 6, Action::Read(Some(round * 2 + 2))));
        if round % 7 == 6 {
            history.push(op(at + 7, at + 8, Action::Read(Some((round - 5) * 2 + 1))));
            history.push(op(at + 8, at + 9, Action::Read(None)));
        }
    }
    assert_eq!(check_within(&history, 30_000), Ok(()));
    history.push(op(30_000, 30_001, Action::Read(Some(2))));
    assert!(matches!(
        check(&history),
        Err(Failure::NotLinearizable { .. })
    ));
}

/// Hundreds of writes under way at once, as while a zone is down: some are seen, in an order that is not that of their answers.
#[test]
fn many_writes_at_once_stay_cheap() {
    let mut history = Vec::new();
    for n in 1..400_u64 {
        history.push(op(n, 10_000 - n, Action::Write(Some(n))));
    }
    for (at, seen) in [7_u64, 250, 30, 31, 399].into_iter().enumerate() {
        let at = 1_000 + at as u64 * 10;
        history.push(op(at, at + 5, Action::Read(Some(seen))));
        history.push(op(at + 1, at + 6, Action::Read(Some(seen))));
    }
    assert_eq!(check_within(&history, 10_000), Ok(()));
    history.push(op(1_100, 1_101, Action::Read(Some(7))));
    assert!(matches!(
        check_within(&history, 100_000),
        Err(Failure::NotLinearizable { .. })
    ));
}

/// Deletions and refusals that found nothing, all at once: every subset would have to be looked at.
#[test]
fn a_history_that_is_too_hard_is_given_up() {
    let mut history = Vec::new();
    for n in 1..30 {
        history.push(op(n, 1_000, Action::Write(Some(n))));
        history.push(op(n, 1_000, Action::Write(None)));
        history.push(op(
            n,
            1_000,
            Action::WriteIf {
                expected: Some(n),
                value: Some(n + 100),
            },
        ));
        history.push(op(
            n,
            1_000,
            Action::WriteIf {
                expected: None,
                value: Some(n + 200),
            },
        ));
    }
    history.push(op(2_000, 2_001, Action::Read(Some(99))));
    assert_eq!(
        check_within(&history, 1_000),
        Err(Failure::TooHard { states: 1_001 })
    );
}
