//! Linearizability of the history of one key: is there an order of the operations, within the times at which they were
//! called and answered, in which a plain register would have given the same answers? (Wing and Gong's search with
//! Lowe's memory of visited states.)

use std::collections::BTreeSet;

use crate::fixture::Value;

/// What was done to the key, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A strong read that returned this.
    Read(Value),
    /// An unconditional write (or, with none, deletion).
    Write(Value),
    /// A write that happened because the key had the expected value.
    WriteIf {
        /// The expected value.
        expected: Value,
        /// The written value.
        value: Value,
    },
    /// A conditional write that did not happen, because the key had another value, this one.
    Refused {
        /// The expected value.
        expected: Value,
        /// The value found.
        found: Value,
    },
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// When it was called.
    pub called: u64,
    /// When it was answered; none: its outcome is not known, it may have happened at any time after the call, or never.
    pub answered: Option<u64>,
    /// What it was.
    pub action: Action,
}

impl Action {
    /// The register's value afterwards; none if a register with this value cannot have given this answer.
    fn apply(self, value: Value) -> Option<Value> {
        match self {
            Action::Read(read) => (read == value).then_some(value),
            Action::Write(written) => Some(written),
            Action::WriteIf {
                expected,
                value: written,
            } => (expected == value).then_some(written),
            Action::Refused { expected, found } => {
                (found == value && found != expected).then_some(value)
            }
        }
    }

    /// A value that proves, when somebody sees it, that this happened.
    fn mark(self) -> Option<u64> {
        match self {
            Action::Write(value) | Action::WriteIf { value, .. } => value,
            Action::Read(_) | Action::Refused { .. } => None,
        }
    }

    fn sees(self) -> Value {
        match self {
            Action::Read(value) | Action::Refused { found: value, .. } => value,
            Action::WriteIf { expected, .. } => expected,
            Action::Write(_) => None,
        }
    }
}

/// Searches an order for a history that begins with an absent key. An error names the operation that no order got past.
pub fn check(history: &[Operation]) -> Result<(), String> {
    let operations = relevant(history);
    let mut search = Search {
        operations: &operations,
        taken: vec![0; operations.len() / 64 + 1],
        visited: BTreeSet::new(),
        furthest: 0,
    };
    if search.run() {
        return Ok(());
    }
    let stuck = operations.get(search.furthest);
    let from = search.furthest.saturating_sub(8);
    let around = &operations[from..(search.furthest + 4).min(operations.len())];
    Err(format!(
        "no order gets past {stuck:?}; around it: {around:#?}"
    ))
}

/// Leaves out writes of unknown outcome whose value nobody ever saw: they can always be thought of as not having
/// happened. Sorted by the time of the call.
fn relevant(history: &[Operation]) -> Vec<Operation> {
    let seen: BTreeSet<u64> = history
        .iter()
        .filter(|operation| operation.answered.is_some())
        .filter_map(|operation| operation.action.sees())
        .collect();
    // What an unknown conditional write would have needed to see counts as well, if that write itself was seen.
    let mut seen = seen;
    loop {
        let before = seen.len();
        for operation in history.iter().filter(|o| o.answered.is_none()) {
            if operation
                .action
                .mark()
                .is_some_and(|mark| seen.contains(&mark))
            {
                seen.extend(operation.action.sees());
            }
        }
        if seen.len() == before {
            break;
        }
    }
    let mut kept: Vec<Operation> = history
        .iter()
        .filter(|operation| {
            operation.answered.is_some()
                || operation
                    .action
                    .mark()
                    .is_none_or(|mark| seen.contains(&mark))
        })
        .copied()
        .collect();
    kept.sort_by_key(|operation| operation.called);
    kept
}

struct Search<'a> {
    operations: &'a [Operation],
    /// Bit set of the operations already put in order.
    taken: Vec<u64>,
    visited: BTreeSet<(Vec<u64>, Value)>,
    furthest: usize,
}

impl Search<'_> {
    fn is_taken(&self, at: usize) -> bool {
        self.taken[at / 64] & (1 << (at % 64)) != 0
    }

    fn flip(&mut self, at: usize) {
        self.taken[at / 64] ^= 1 << (at % 64);
    }

    /// Operations that may come next: called before the first answer among those not yet taken.
    fn candidates(&self, from: usize) -> Vec<usize> {
        let mut first_answer = u64::MAX;
        let mut candidates = Vec::new();
        for (at, operation) in self.operations.iter().enumerate().skip(from) {
            if operation.called > first_answer {
                break;
            }
            if !self.is_taken(at) {
                first_answer = first_answer.min(operation.answered.unwrap_or(u64::MAX));
                candidates.push(at);
            }
        }
        candidates.retain(|at| self.operations[*at].called <= first_answer);
        candidates
    }

    /// Depth first, with its own stack: histories are long.
    fn run(&mut self) -> bool {
        struct Level {
            candidates: Vec<usize>,
            next: usize,
            value: Value,
            /// First operation that is not taken, and the one that led here.
            first: usize,
            via: Option<usize>,
        }
        let root = self.candidates(0);
        let mut levels = vec![Level {
            candidates: root,
            next: 0,
            value: None,
            first: 0,
            via: None,
        }];
        while let Some(level) = levels.last_mut() {
            let open = self.operations.iter().enumerate().skip(level.first);
            let mut required = open.filter(|(at, o)| o.answered.is_some() && !self.is_taken(*at));
            if required.next().is_none() {
                return true;
            }
            let Some(at) = level.candidates.get(level.next).copied() else {
                let via = level.via;
                levels.pop();
                if let Some(via) = via {
                    self.flip(via);
                }
                continue;
            };
            level.next += 1;
            let Some(value) = self.operations[at].action.apply(level.value) else {
                continue;
            };
            let mut first = level.first;
            self.flip(at);
            if !self.visited.insert((self.taken.clone(), value)) {
                self.flip(at);
                continue;
            }
            while first < self.operations.len() && self.is_taken(first) {
                first += 1;
            }
            self.furthest = self.furthest.max(first);
            let candidates = self.candidates(first);
            levels.push(Level {
                candidates,
                next: 0,
                value,
                first,
                via: Some(at),
            });
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
