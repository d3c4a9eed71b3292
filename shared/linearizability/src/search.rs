//! Wing and Gong's search ("Testing and verifying concurrent objects") with Lowe's memory of visited states ("Testing for
//! linearizability"). Owns its bound: a history that is too hard is given up, never searched without end.
//!
//! What keeps it short, since hundreds of operations may be under way at once while a mesh is broken:
//!
//! - A read that fits the value at hand and may come next is taken at once: it changes nothing, and waiting for it gains nothing.
//! - A write whose value nobody sees is taken together with the write that overwrites it: directly before that, it has no effect.
//! - An operation of unknown outcome is placed only directly before one that sees what it wrote. Placed anywhere else it would be
//!   overwritten unseen, and could as well not have happened.
//! - A value that somebody must still see, and that nobody will write again, is not overwritten.

use std::collections::{BTreeMap, BTreeSet};

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
    Search::new(history, states_max).run()
}

/// Splits the history into answered operations and those of unknown outcome that somebody may have seen the effect of, both
/// sorted by the time of the call. What nobody saw can always be thought of as not having happened.
fn relevant(history: &[Operation]) -> Relevant {
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
    Relevant {
        answered,
        unknown,
        seen,
    }
}

struct Relevant {
    answered: Vec<Operation>,
    unknown: Vec<Operation>,
    /// Values that somebody saw.
    seen: BTreeSet<Value>,
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
#[derive(Clone, Copy, PartialEq, Eq)]
enum Candidate {
    Answered(usize),
    Unknown(usize),
}

/// What the key holds at one point of an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Seen(Value),
    /// Something that nobody sees.
    Unseen,
}

/// Operations put in order in one step, and what may follow them.
struct Level {
    candidates: Vec<Candidate>,
    next: usize,
    held: Held,
    /// First answered operation that is not in order yet.
    first: usize,
    taken: Vec<Candidate>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct State {
    first: usize,
    taken: Vec<u64>,
    taken_unknown: Vec<u64>,
    held: Held,
    /// The last one has to be seen by the next one.
    to_be_seen: bool,
}

struct Search {
    answered: Vec<Operation>,
    unknown: Vec<Operation>,
    seen: BTreeSet<Value>,
    taken: BitSet,
    taken_unknown: BitSet,
    /// Operations not in order yet that write a value.
    writers: BTreeMap<Value, usize>,
    /// Answered operations not in order yet that see a value.
    observers: BTreeMap<Value, usize>,
    visited: BTreeSet<State>,
    states_max: usize,
    furthest: usize,
}

impl Search {
    fn new(history: &[Operation], states_max: usize) -> Self {
        let Relevant {
            answered,
            unknown,
            seen,
        } = relevant(history);
        let mut writers = BTreeMap::new();
        for operation in answered.iter().chain(&unknown) {
            if let Some(value) = operation.action.writes() {
                *writers.entry(value).or_default() += 1;
            }
        }
        let mut observers = BTreeMap::new();
        for value in answered.iter().filter_map(|o| o.action.sees()) {
            *observers.entry(value).or_default() += 1;
        }
        Search {
            taken: BitSet::new(answered.len()),
            taken_unknown: BitSet::new(unknown.len()),
            answered,
            unknown,
            seen,
            writers,
            observers,
            visited: BTreeSet::new(),
            states_max,
            furthest: 0,
        }
    }

    /// Depth first, with its own stack: histories are long.
    fn run(&mut self) -> Result<(), Failure> {
        let mut root = Vec::new();
        let held = Held::Seen(None);
        let first = self.take_observers(0, held, &mut root);
        let mut levels = vec![Level {
            candidates: self.candidates(first, held, false),
            next: 0,
            held,
            first,
            taken: root,
        }];
        while let Some(level) = levels.last_mut() {
            if level.first == self.answered.len() {
                return Ok(());
            }
            let Some(candidate) = level.candidates.get(level.next).copied() else {
                let taken = std::mem::take(&mut level.taken);
                levels.pop();
                self.give_back(taken);
                continue;
            };
            level.next += 1;
            let (held, first) = (level.held, level.first);
            let Some(step) = self.step(candidate, held, first)? else {
                continue;
            };
            self.furthest = self.furthest.max(step.first);
            levels.push(step);
        }
        Err(self.stuck())
    }

    /// Puts a candidate in order, with all that goes with it. None if that leads nowhere, or where the search has been.
    fn step(
        &mut self,
        candidate: Candidate,
        before: Held,
        first: usize,
    ) -> Result<Option<Level>, Failure> {
        let action = self.action(candidate);
        let Some(held) = self.after(action, before) else {
            return Ok(None);
        };
        let mut taken = Vec::new();
        if matches!(action, Action::Write(_)) {
            self.take_overwritten(first, candidate, &mut taken);
        }
        self.take(candidate);
        taken.push(candidate);
        let overwritten = match before {
            Held::Seen(value) if held != before => Some(value),
            _ => None,
        };
        if overwritten.is_some_and(|value| self.is_missed(value)) {
            self.give_back(taken);
            return Ok(None);
        }
        let alone = taken.len();
        let first = self.take_observers(first, held, &mut taken);
        let to_be_seen = matches!(candidate, Candidate::Unknown(_)) && taken.len() == alone;
        let state = State {
            first,
            taken: self.taken.from(first),
            taken_unknown: self.taken_unknown.from(0),
            held,
            to_be_seen,
        };
        if !self.visited.insert(state) {
            self.give_back(taken);
            return Ok(None);
        }
        if self.visited.len() > self.states_max {
            let states = self.visited.len();
            return Err(Failure::TooHard { states });
        }
        Ok(Some(Level {
            candidates: self.candidates(first, held, to_be_seen),
            next: 0,
            held,
            first,
            taken,
        }))
    }

    /// What the key holds after an action; none if it can't come now.
    fn after(&self, action: Action, held: Held) -> Option<Held> {
        let value = match (action, held) {
            (Action::Write(value), _) => value,
            (_, Held::Seen(value)) => action.apply(value)?,
            (_, Held::Unseen) => return None,
        };
        Some(if self.seen.contains(&value) {
            Held::Seen(value)
        } else {
            Held::Unseen
        })
    }

    /// Somebody must still see this value, and nobody will write it again.
    fn is_missed(&self, value: Value) -> bool {
        let left = |map: &BTreeMap<Value, usize>| map.get(&value).copied().unwrap_or(0);
        left(&self.observers) > 0 && left(&self.writers) == 0
    }

    /// Takes the answered reads and refusals that fit what the key holds and may come next. Returns the first answered operation
    /// that is not in order.
    fn take_observers(
        &mut self,
        mut first: usize,
        held: Held,
        taken: &mut Vec<Candidate>,
    ) -> usize {
        loop {
            while first < self.answered.len() && self.taken.has(first) {
                first += 1;
            }
            let (open, _) = self.open(first);
            let fits = open.into_iter().map(|(_, at)| at).filter(|at| {
                let action = self.answered[*at].action;
                action.writes().is_none() && self.after(action, held) == Some(held)
            });
            let fits: Vec<usize> = fits.collect();
            if fits.is_empty() {
                return first;
            }
            for at in fits {
                self.take(Candidate::Answered(at));
                taken.push(Candidate::Answered(at));
            }
        }
    }

    /// Takes the answered writes that nobody sees and that may come before `by`, which overwrites them.
    fn take_overwritten(&mut self, first: usize, by: Candidate, taken: &mut Vec<Candidate>) {
        loop {
            let (open, _) = self.open(first);
            let unseen = open.into_iter().map(|(_, at)| Candidate::Answered(at));
            let unseen = unseen.filter(|candidate| {
                let action = self.action(*candidate);
                *candidate != by
                    && matches!(action, Action::Write(value) if !self.seen.contains(&value))
            });
            let unseen: Vec<Candidate> = unseen.collect();
            if unseen.is_empty() {
                return;
            }
            for candidate in unseen {
                self.take(candidate);
                taken.push(candidate);
            }
        }
    }

    fn take(&mut self, candidate: Candidate) {
        self.flip(candidate);
        self.count(candidate, |left| *left -= 1);
    }

    fn give_back(&mut self, taken: Vec<Candidate>) {
        for candidate in taken {
            self.flip(candidate);
            self.count(candidate, |left| *left += 1);
        }
    }

    fn count(&mut self, candidate: Candidate, change: impl Fn(&mut usize)) {
        let action = self.action(candidate);
        if let Some(value) = action.writes() {
            change(self.writers.entry(value).or_default());
        }
        if let (Candidate::Answered(_), Some(value)) = (candidate, action.sees()) {
            change(self.observers.entry(value).or_default());
        }
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

    /// Answered operations that may come next, as (time of the answer, number): called before the first answer among those not
    /// yet in order; and that answer's time.
    fn open(&self, first: usize) -> (Vec<(u64, usize)>, u64) {
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
        (open, first_answer)
    }

    /// What may come next and changes what the key holds. Answered operations first, by the time of their answer: most histories
    /// pass without a step back.
    fn candidates(&self, first: usize, held: Held, to_be_seen: bool) -> Vec<Candidate> {
        let (mut open, first_answer) = self.open(first);
        open.retain(|(_, at)| self.answered[*at].action.writes().is_some());
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
            candidates.retain(|candidate| {
                let sees = self.action(*candidate).sees();
                sees.is_some_and(|value| held == Held::Seen(value))
            });
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
