//! The search against all orders of small histories.

use linearizability::{Action, Operation, Value, check};
use proptest::prelude::*;

fn value() -> impl Strategy<Value = Value> {
    proptest::option::of(1..4_u64)
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => value().prop_map(Action::Read),
        3 => value().prop_map(Action::Write),
        2 => (value(), value()).prop_map(|(expected, value)| Action::WriteIf { expected, value }),
        1 => (value(), value()).prop_map(|(expected, found)| Action::Refused { expected, found }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    (0..12_u64, 0..6_u64, 0..4_u8, action()).prop_map(|(called, took, known, action)| Operation {
        called,
        answered: (known > 0).then_some(called + took),
        action,
    })
}

fn apply(action: Action, now: Value) -> Option<Value> {
    match action {
        Action::Read(seen) => (seen == now).then_some(now),
        Action::Write(written) => Some(written),
        Action::WriteIf { expected, value } => (expected == now).then_some(value),
        Action::Refused { expected, found } => (found == now && expected != now).then_some(now),
    }
}

/// Tries every order that respects the times, with every choice of which unknown ones happened.
fn some_order(left: &[Operation], now: Value) -> bool {
    if left.iter().all(|operation| operation.answered.is_none()) {
        return true;
    }
    let first_answer = left.iter().filter_map(|operation| operation.answered).min();
    (0..left.len()).any(|at| {
        first_answer.is_none_or(|first| left[at].called <= first)
            && apply(left[at].action, now).is_some_and(|after| {
                let mut rest = left.to_vec();
                rest.remove(at);
                some_order(&rest, after)
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn agrees_with_all_orders(history in proptest::collection::vec(operation(), 0..7)) {
        prop_assert_eq!(check(&history).is_ok(), some_order(&history, None));
    }
}
