//! The course of one transaction: record, prepare, decide, settle. Owns what is to be done next, whatever is lost, late or repeated; the shell
//! does it and keeps what the answers carried. Also the course of its recovery, by whoever finds it unfinished.

use std::collections::BTreeSet;

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The record is in the ledger (true), or certainly was not made, or nobody knows.
    Recorded(bool),
    /// What became of the `Prepare` of this operation.
    Prepared(usize, Vote),
    /// To `Decide` and `Withdraw`: what the record says, as far as is known: committed or not.
    Decided(Option<bool>),
    /// Whether this operation's `Settle` was acknowledged.
    Settled(usize, bool),
    /// Nobody waits any more.
    OutOfTime,
}

/// The answer to a `Prepare`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// The outcome is pending.
    Accepted,
    /// Nothing is pending, for a reason that the client is to hear.
    Refused,
    /// It could certainly not be done; the operation is not to blame.
    Failed,
    /// It may be pending or may become so.
    Unknown,
}

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Put the record into the ledger.
    Record,
    /// Prepare this operation.
    Prepare(usize),
    /// Write into the record that it is committed, if it is ours and nobody has written anything. May be repeated.
    Decide,
    /// Write into the record that it is cancelled, if nobody has written that it is committed. May be repeated.
    Withdraw,
    /// Commit or cancel this operation. May be repeated.
    Settle {
        /// Which.
        operation: usize,
        /// Or cancel.
        commits: bool,
    },
    /// Note in the record that all is done (committed), or delete it, if it is ours. Nothing hangs on whether that succeeds.
    Close {
        /// Or cancelled.
        commits: bool,
    },
    /// Tell the client.
    Answer(Verdict),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is done and can be seen.
    Committed,
    /// Nothing was done, because of what the operations were answered.
    Cancelled,
    /// Nothing was done; try again.
    Failed,
    /// All or nothing: nobody knows yet.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Recording,
    Preparing {
        left: BTreeSet<usize>,
    },
    Deciding,
    Withdrawing,
    Settling {
        commits: bool,
        left: BTreeSet<usize>,
        verdict: Verdict,
    },
    Ended,
}

/// The course of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinator {
    votes: Vec<Option<Vote>>,
    phase: Phase,
}

impl Coordinator {
    /// A new transaction of so many operations, and what to do first.
    pub fn begin(operations: usize) -> (Self, Vec<Action>) {
        let begun = Self {
            votes: vec![None; operations],
            phase: Phase::Recording,
        };
        (begun, vec![Action::Record])
    }

    /// A transaction that was found unfinished; `decided`: what its record says, if it says anything.
    pub fn recover(operations: usize, decided: Option<bool>) -> (Self, Vec<Action>) {
        let mut found = Self {
            // Any of them may be pending.
            votes: vec![Some(Vote::Unknown); operations],
            phase: Phase::Withdrawing,
        };
        let actions = match decided {
            None => vec![Action::Withdraw],
            Some(commits) => found.settle(commits, Verdict::Failed),
        };
        (found, actions)
    }

    /// Whether nothing is left to be done.
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Takes in what happened; what is to be done now. What comes late or twice changes nothing.
    pub fn step(&mut self, input: Input) -> Vec<Action> {
        match (&mut self.phase, input) {
            (Phase::Recording, Input::Recorded(true)) => {
                let all = 0..self.votes.len();
                self.phase = Phase::Preparing {
                    left: all.clone().collect(),
                };
                all.map(Action::Prepare).collect()
            }
            // If the record is there after all, it says nothing, so nothing can come of it.
            (Phase::Recording, Input::Recorded(false) | Input::OutOfTime) => {
                self.end(false, Verdict::Failed)
            }
            (Phase::Preparing { left }, Input::Prepared(operation, vote)) => {
                if !left.remove(&operation) {
                    return Vec::new();
                }
                let all = left.is_empty();
                self.votes[operation] = Some(vote);
                match all {
                    true => self.judge(),
                    false => Vec::new(),
                }
            }
            // Nobody else can commit it, and this one never will.
            (Phase::Preparing { .. }, Input::OutOfTime) => self.settle(false, Verdict::Failed),
            (Phase::Deciding, Input::Decided(Some(true))) => self.settle(true, Verdict::Committed),
            (Phase::Withdrawing, Input::Decided(Some(true))) => {
                self.settle(true, Verdict::Committed)
            }
            // Somebody took it for abandoned.
            (Phase::Deciding | Phase::Withdrawing, Input::Decided(Some(false))) => {
                self.settle(false, Verdict::Failed)
            }
            (Phase::Deciding, Input::Decided(None)) => vec![Action::Decide],
            (Phase::Withdrawing, Input::Decided(None)) => vec![Action::Withdraw],
            (Phase::Deciding | Phase::Withdrawing, Input::OutOfTime) => {
                self.phase = Phase::Ended;
                vec![Action::Answer(Verdict::Unknown)]
            }
            (
                Phase::Settling {
                    commits,
                    left,
                    verdict,
                },
                Input::Settled(operation, acknowledged),
            ) => {
                if !left.contains(&operation) {
                    return Vec::new();
                }
                if !acknowledged {
                    return vec![Action::Settle {
                        operation,
                        commits: *commits,
                    }];
                }
                left.remove(&operation);
                if !left.is_empty() {
                    return Vec::new();
                }
                let (commits, verdict) = (*commits, *verdict);
                self.end(commits, verdict)
            }
            (
                Phase::Settling {
                    commits, verdict, ..
                },
                Input::OutOfTime,
            ) => {
                // What is committed but not everywhere to be seen is not answered with success; what is cancelled is cancelled.
                let verdict = match commits {
                    true => Verdict::Unknown,
                    false => *verdict,
                };
                self.phase = Phase::Ended;
                vec![Action::Answer(verdict)]
            }
            _ => Vec::new(),
        }
    }

    fn judge(&mut self) -> Vec<Action> {
        let is = |wanted| move |vote: &Option<Vote>| *vote == Some(wanted);
        if self.votes.iter().all(is(Vote::Accepted)) {
            self.phase = Phase::Deciding;
            return vec![Action::Decide];
        }
        let verdict = match self.votes.iter().any(is(Vote::Refused)) {
            true => Verdict::Cancelled,
            false => Verdict::Failed,
        };
        self.settle(false, verdict)
    }

    fn settle(&mut self, commits: bool, verdict: Verdict) -> Vec<Action> {
        let votes = self.votes.iter().enumerate();
        // A vote that is still out may become a pending outcome.
        let pending = |vote: &Option<Vote>| !matches!(vote, Some(Vote::Refused | Vote::Failed));
        let left: BTreeSet<usize> = votes
            .filter(|(_, vote)| pending(vote))
            .map(|(operation, _)| operation)
            .collect();
        if left.is_empty() {
            return self.end(commits, verdict);
        }
        let settle = |&operation| Action::Settle { operation, commits };
        let actions = left.iter().map(settle).collect();
        self.phase = Phase::Settling {
            commits,
            left,
            verdict,
        };
        actions
    }

    fn end(&mut self, commits: bool, verdict: Verdict) -> Vec<Action> {
        self.phase = Phase::Ended;
        vec![Action::Close { commits }, Action::Answer(verdict)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(operation: usize, commits: bool) -> Action {
        Action::Settle { operation, commits }
    }

    #[test]
    fn all_accepted_is_decided_then_committed_everywhere_then_answered() {
        let (mut course, first) = Coordinator::begin(2);
        assert_eq!(first, [Action::Record]);
        let prepares = course.step(Input::Recorded(true));
        assert_eq!(prepares, [Action::Prepare(0), Action::Prepare(1)]);
        assert_eq!(course.step(Input::Prepared(1, Vote::Accepted)), []);
        assert_eq!(course.step(Input::Prepared(1, Vote::Refused)), [], "twice");
        let decide = course.step(Input::Prepared(0, Vote::Accepted));
        assert_eq!(decide, [Action::Decide]);
        assert_eq!(course.step(Input::Decided(None)), [Action::Decide]);
        let commits = course.step(Input::Decided(Some(true)));
        assert_eq!(commits, [settle(0, true), settle(1, true)]);
        assert_eq!(course.step(Input::Settled(0, false)), [settle(0, true)]);
        assert_eq!(course.step(Input::Settled(0, true)), []);
        assert_eq!(course.step(Input::Settled(0, true)), []);
        let end = course.step(Input::Settled(1, true));
        let answer = Action::Answer(Verdict::Committed);
        assert_eq!(end, [Action::Close { commits: true }, answer]);
        assert!(course.has_ended());
    }

    #[test]
    fn one_refusal_cancels_whatever_may_be_pending_and_nothing_else() {
        let (mut course, _) = Coordinator::begin(4);
        course.step(Input::Recorded(true));
        course.step(Input::Prepared(0, Vote::Refused));
        course.step(Input::Prepared(1, Vote::Accepted));
        course.step(Input::Prepared(2, Vote::Unknown));
        let cancels = course.step(Input::Prepared(3, Vote::Failed));
        assert_eq!(cancels, [settle(1, false), settle(2, false)]);
        course.step(Input::Settled(1, true));
        let end = course.step(Input::Settled(2, true));
        let answer = Action::Answer(Verdict::Cancelled);
        assert_eq!(end, [Action::Close { commits: false }, answer]);
    }

    #[test]
    fn what_somebody_cancelled_is_not_committed_and_no_answer_promises_more_than_is_known() {
        let (mut course, _) = Coordinator::begin(1);
        course.step(Input::Recorded(true));
        course.step(Input::Prepared(0, Vote::Accepted));
        let mut late = course.clone();
        assert_eq!(course.step(Input::Decided(Some(false))), [settle(0, false)]);
        assert_eq!(
            course.step(Input::OutOfTime),
            [Action::Answer(Verdict::Failed)]
        );
        let mut committed = late.clone();
        assert_eq!(
            late.step(Input::OutOfTime),
            [Action::Answer(Verdict::Unknown)]
        );
        committed.step(Input::Decided(Some(true)));
        assert_eq!(
            committed.step(Input::OutOfTime),
            [Action::Answer(Verdict::Unknown)]
        );
    }

    #[test]
    fn a_recovery_follows_the_record_or_withdraws() {
        let (_, committed) = Coordinator::recover(1, Some(true));
        assert_eq!(committed, [settle(0, true)]);
        let (mut found, withdraw) = Coordinator::recover(1, None);
        assert_eq!(withdraw, [Action::Withdraw]);
        assert_eq!(found.step(Input::Decided(Some(false))), [settle(0, false)]);
        let end = found.step(Input::Settled(0, true));
        assert_eq!(end[0], Action::Close { commits: false });
    }
}
