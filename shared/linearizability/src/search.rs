//! Wing and Gong's search ("Testing and verifying concurrent objects") with Lowe's memory of visited states ("Testing for
//! linearizability"). Owns its bound: a history that is too hard is given up, never searched without end.
//!
//! An operation of unknown outcome is placed only directly before one that sees what it wrote. Placed anywhere else it would be
//! overwritten unseen, and could as well not have happened. So a history with many time-outs costs little more than one without.

use std::collections::BTreeSet;

use crate::{Action, Failure, Operation, Value};

/// States that `check` looks at before it gives up; at some 100 bytes each.
pub const STATES_MAX: usize = 1_000_000;

/// Answered operations shown around the one that no order got past.
const SHOWN_BEFORE: usize = 8;
const SHOWN_AFTER: usize = 4;
/// Operations of unknown outcome shown with them.
const SHOWN_UNKNOWN: usize = 8;

/// Searches an order for the history, in any order of time, of a key that is absent at first.
pub fn check(history: &[Operation]) -> Result<(), Failure> {
    check_within(history, STATES_MAX)
}

/// `check` that gives up after `states_max` states.
pub fn check_within(history: &[Operation], states_max: usize) -> Result<(), Failure> {
    let (answered, unknown) = relevant(history);
    let mut search = Search {
        taken: BitSet::new(answered.len()),
        taken_unknown: BitSet::new(unknown.len()),
        answered,
        unknown,
        visited: BTreeSet::new(),
        states_max,
        furthest: 0,
    };
    search.run()
}

/// Splits the history into answered operations and those of unknown outcome that somebody may have seen the effect of, both
/// sorted by the time of the call. What nobody saw can always be thought of as not having happened.
fn relevant(history: &[Operation]) -> (Vec<Operation>, Vec<Operation>) {
    let (mut answered, mut unknown): (Vec<Operation>, Vec<Operation>) = history
        .iter()
        .partition(|operation| operation.answered.is_some());
    let mut seen: BTreeSet<Value> = answered.iter().filter_map(|o| o.action.sees()).collect();
    // What an unknown conditional write would have needed to see counts as well, if that write itself was seen.
    loop {
        let before = seen.len();
        for operation in &unknown {
            if operation
                .action
                .writes()
                .is_some_and(|value| seen.contains(&value))
            {
                seen.extend(operation.action.sees());
            }
        }
        if seen.len() == before {
            break;
        }
    }
    unknown.retain(|o| o.action.writes().is_some_and(|value| seen.contains(&value)));
    answered.sort_by_key(|operation| operation.called);
    unknown.sort_by_key(|operation| operation.called);
    (answered, unknown)
}

/// A set of small numbers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct BitSet(Vec<u64>);

impl BitSet {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }

    fn flip(&mut self, at: usize) {
        self.0[at / 64] ^= 1 << (at % 64);
    }

    /// The words from that of `first` on, without empty ones at the end: all before is in the set.
    fn from(&self, first: usize) -> Vec<u64> {
        let words = self.0.get(first / 64..).unwrap_or_default();
        let end = words.iter().rposition(|word| *word != 0);
        words[..end.map_or(0, |at| at + 1)].to_vec()
    }
}

/// An operation that may come next: number among the answered ones, or among those of unknown outcome.
#[derive(Clone, Copy)]
enum Candidate {
    Answered(usize),
    Unknown(usize),
}

/// One operation put in order, and what may follow it.
struct Level {
    candidates: Vec<Candidate>,
    next: usize,
    value: Value,
    /// First answered operation that is not in order yet.
    first: usize,
    via: Option<Candidate>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct State {
    first: usize,
    taken: Vec<u64>,
    taken_unknown: Vec<u64>,
    value: Value,
    /// The last one has to be seen by the next one.
    to_be_seen: bool,
}

struct Search {
    answered: Vec<Operation>,
    unknown: Vec<Operation>,
    taken: BitSet,
    taken_unknown: BitSet,
    visited: BTreeSet<State>,
    states_max: usize,
    furthest: usize,
}

impl Search {
    /// Depth first, with its own stack: histories are long.
    fn run(&mut self) -> Result<(), Failure> {
        let mut levels = vec![Level {
            candidates: self.candidates(0, None, false),
            next: 0,
            value: None,
            first: 0,
            via: None,
        }];
        while let Some(level) = levels.last_mut() {
            if level.first == self.answered.len() {
                return Ok(());
            }
            let Some(candidate) = level.candidates.get(level.next).copied() else {
                let via = level.via;
                levels.pop();
                if let Some(via) = via {
                    self.flip(via);
                }
                continue;
            };
            level.next += 1;
            let Some(value) = self.action(candidate).apply(level.value) else {
                continue;
            };
            let mut first = level.first;
            self.flip(candidate);
            while first < self.answered.len() && self.taken.has(first) {
                first += 1;
            }
            let to_be_seen = matches!(candidate, Candidate::Unknown(_));
            let state = State {
                first,
                taken: self.taken.from(first),
                taken_unknown: self.taken_unknown.from(0),
                value,
                to_be_seen,
            };
            if !self.visited.insert(state) {
                self.flip(candidate);
                continue;
            }
            if self.visited.len() > self.states_max {
                let states = self.visited.len();
                return Err(Failure::TooHard { states });
            }
            self.furthest = self.furthest.max(first);
            levels.push(Level {
                candidates: self.candidates(first, value, to_be_seen),
                next: 0,
                value,
                first,
                via: Some(candidate),
            });
        }
        Err(self.stuck())
    }

    fn action(&self, candidate: Candidate) -> Action {
        match candidate {
            Candidate::Answered(at) => self.answered[at].action,
            Candidate::Unknown(at) => self.unknown[at].action,
        }
    }

    fn flip(&mut self, candidate: Candidate) {
        match candidate {
            Candidate::Answered(at) => self.taken.flip(at),
            Candidate::Unknown(at) => self.taken_unknown.flip(at),
        }
    }

    /// Operations that may come next: called before the first answer among those not yet in order. Answered ones first, by
    /// the time of their answer: most histories pass without a step back.
    fn candidates(&self, first: usize, value: Value, to_be_seen: bool) -> Vec<Candidate> {
        let mut first_answer = u64::MAX;
        let mut open = Vec::new();
        for (at, operation) in self.answered.iter().enumerate().skip(first) {
            if operation.called > first_answer {
                break;
            }
            if !self.taken.has(at) {
                let answer = operation.answered.unwrap_or(u64::MAX);
                first_answer = first_answer.min(answer);
                open.push((answer, at));
            }
        }
        open.retain(|(_, at)| self.answered[*at].called <= first_answer);
        open.sort_unstable();
        let mut candidates: Vec<Candidate> = open
            .into_iter()
            .map(|(_, at)| Candidate::Answered(at))
            .collect();
        // Of those that do the same, the one called first: it may stand wherever another may.
        let mut actions = BTreeSet::new();
        for (at, operation) in self.unknown.iter().enumerate() {
            if operation.called > first_answer {
                break;
            }
            if !self.taken_unknown.has(at) && actions.insert(operation.action) {
                candidates.push(Candidate::Unknown(at));
            }
        }
        if to_be_seen {
            candidates.retain(|candidate| self.action(*candidate).sees() == Some(value));
        }
        candidates
    }

    fn stuck(&self) -> Failure {
        let from = self.furthest.saturating_sub(SHOWN_BEFORE);
        let to = (self.furthest + SHOWN_AFTER).min(self.answered.len());
        let mut around = self.answered[from..to].to_vec();
        let until = around.last().map_or(0, |operation| operation.called);
        let unknown = self.unknown.iter().rev().filter(|o| o.called <= until);
        around.extend(unknown.take(SHOWN_UNKNOWN));
        around.sort_by_key(|operation| operation.called);
        Failure::NotLinearizable {
            stuck: self.answered[self.furthest],
            around,
        }
    }
}
