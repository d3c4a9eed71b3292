//! Linearizability of the history of one key: is there an order of the operations, within the times at which they were
//! called and answered, in which a plain register would have given the same answers?
//!
//! Owns what was done to a key (`Operation`) and the search. The simulator and the power-off test check their histories
//! with it. Never looks at more than one key: keys are independent registers, so each history may be checked by itself
//! (Herlihy and Wing, "Linearizability": locality).

mod search;

use std::fmt;

pub use search::{STATES_MAX, check, check_within};

/// What a key holds: nothing, or a number that stands for its item. Writers use each number once, so that whoever reads
/// it tells whose write it saw.
pub type Value = Option<u64>;

/// What was done to the key, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When it was called, in any unit.
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

    /// What the key holds if this happened; none for what changes nothing.
    fn writes(self) -> Option<Value> {
        match self {
            Action::Write(value) | Action::WriteIf { value, .. } => Some(value),
            Action::Read(_) | Action::Refused { .. } => None,
        }
    }

    /// What the key held just before; none for what does not depend on it.
    fn sees(self) -> Option<Value> {
        match self {
            Action::Read(value) | Action::Refused { found: value, .. } => Some(value),
            Action::WriteIf { expected, .. } => Some(expected),
            Action::Write(_) => None,
        }
    }
}

/// Why a history did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no order.
    NotLinearizable {
        /// The answered operation that no order got past.
        stuck: Operation,
        /// Answered operations around it, and those of unknown outcome that could matter.
        around: Vec<Operation>,
    },
    /// The search was given up: says nothing about the history.
    TooHard {
        /// States that were looked at.
        states: usize,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotLinearizable { stuck, around } => {
                write!(
                    f,
                    "not linearizable: no order gets past {stuck}; around it:"
                )?;
                around
                    .iter()
                    .try_for_each(|operation| write!(f, "\n  {operation}"))
            }
            Failure::TooHard { states } => {
                write!(f, "not decided: given up after {states} states")
            }
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.answered {
            Some(answered) => write!(f, "[{}..{answered}] ", self.called)?,
            None => write!(f, "[{}..unknown] ", self.called)?,
        }
        match self.action {
            Action::Read(value) => write!(f, "read {}", Shown(value)),
            Action::Write(value) => write!(f, "write {}", Shown(value)),
            Action::WriteIf { expected, value } => {
                write!(f, "write {} over {}", Shown(value), Shown(expected))
            }
            Action::Refused { expected, found } => write!(
                f,
                "expected {}, refused for {}",
                Shown(expected),
                Shown(found)
            ),
        }
    }
}

struct Shown(Value);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value}"),
            None => f.write_str("nothing"),
        }
    }
}
