//! The traces of a change of leaders: of an election that a replica wins, from when it stands in it until it serves, and of a hand-over, from when the
//! leader takes it on until it leads no more. Pure; decides nothing.

use mesh::TraceContext;
use paxos::{Ballot, GroupId, NodeId, Standing};
use telemetry::traces::{Flow, context_named};

/// What is known of the election under way, Unix nanoseconds; 0 = not yet.
#[derive(Debug, Default)]
pub(super) struct Election {
    stood_ns: u64,
    won_ns: u64,
    tries: i64,
    /// What the next one, or the one under way, comes about because of; none: its leader fell silent.
    cause: TraceContext,
    /// The split that the group began with, until somebody leads.
    split: TraceContext,
}

impl Election {
    /// The group begins as a child of this split: whoever wins its first election does so because of that.
    pub(super) fn begun_with(&mut self, split: TraceContext) {
        self.split = split;
    }

    /// Something was committed.
    pub(super) fn committed(&mut self) {
        // Not by this replica, or not yet known to be: somebody else leads.
        if self.tries == 0 {
            self.split = TraceContext::default();
        }
    }

    /// The one that is to come, or that has just begun, is because of this.
    pub(super) fn because(&mut self, cause: TraceContext) {
        self.cause = cause;
    }

    /// Nothing came of what was to bring one about.
    pub(super) fn unless_begun(&mut self) {
        if self.tries == 0 {
            self.cause = TraceContext::default();
        }
    }

    /// The replica's standing is this from now on. Gives the flow of an election that ends with that: it serves.
    pub(super) fn changed(&mut self, standing: Standing, now_ns: u64) -> Option<Flow> {
        match standing {
            Standing::Follower => {
                *self = Self {
                    split: self.split,
                    ..Self::default()
                }
            }
            Standing::Candidate => {
                if self.tries == 0 {
                    self.stood_ns = now_ns;
                }
                self.tries += 1;
            }
            Standing::Leader { serving: false } => self.won_ns = now_ns,
            Standing::Leader { serving: true } => {
                let Self {
                    stood_ns,
                    won_ns,
                    tries,
                    cause,
                    split,
                } = std::mem::take(self);
                let cause = if cause.is_some() { cause } else { split };
                // One that never stood took over what it had led before.
                if tries > 0 {
                    let won_ns = if won_ns == 0 { now_ns } else { won_ns };
                    let flow = Flow::since("election", stood_ns)
                        .with("evenkeel.election.tries", tries)
                        .caused_by(cause)
                        .step("stand", (stood_ns, won_ns))
                        .step("wait for leases", (won_ns, now_ns));
                    return Some(flow);
                }
            }
        }
        None
    }
}

/// The context of the hand-over with which this leader (its ballot, and the incarnation of its replica) gives the group away: known to its successor
/// without a word.
pub(super) fn hand_over_context(group: GroupId, ballot: Ballot, incarnation: u64) -> TraceContext {
    context_named([group.0, ballot.round, ballot.node.0, incarnation])
}

/// Why a hand-over failed.
const LEADS_ON: &str = "the successor did not get in step in time: this replica leads on";

/// A hand-over that this leader is at.
#[derive(Debug)]
pub(super) struct HandOver {
    flow: Flow,
}

impl HandOver {
    /// One that begins now, Unix nanoseconds.
    pub(super) fn begin(
        context: TraceContext,
        to: NodeId,
        reason: &'static str,
        cause: TraceContext,
        now_ns: u64,
    ) -> Self {
        let to = i64::try_from(to.0).unwrap_or(i64::MAX);
        let flow = Flow::known_as(context, "transfer leadership", now_ns)
            .with("evenkeel.transfer.reason", reason)
            .with("evenkeel.transfer.to_node", to)
            .caused_by(cause);
        Self { flow }
    }

    /// How it ended with this standing of its replica; none: it goes on.
    pub(super) fn ended(&self, standing: Standing) -> Option<Result<(), String>> {
        match standing {
            Standing::Leader { serving: false } => None,
            Standing::Leader { serving: true } => Some(Err(LEADS_ON.to_owned())),
            Standing::Follower | Standing::Candidate => Some(Ok(())),
        }
    }

    /// Its flow.
    pub(super) fn flow(self) -> Flow {
        self.flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVES: Standing = Standing::Leader { serving: true };

    #[test]
    fn only_an_election_that_was_stood_in_and_won_is_a_flow() {
        let mut election = Election::default();
        assert!(election.changed(SERVES, 1).is_none());
        assert!(election.changed(Standing::Candidate, 2).is_none());
        assert!(election.changed(Standing::Follower, 3).is_none());
        assert!(election.changed(SERVES, 4).is_none());
        assert!(election.changed(Standing::Candidate, 5).is_none());
        assert!(election.changed(Standing::Candidate, 6).is_none());
        let won = Standing::Leader { serving: false };
        assert!(election.changed(won, 7).is_none());
        let flow = format!("{:?}", election.changed(SERVES, 9).unwrap());
        for part in [
            "election",
            "start_ns: 5",
            "stand",
            "end_ns: 7",
            "wait for leases",
        ] {
            assert!(flow.contains(part), "{part} is not in {flow}");
        }
        assert!(election.changed(SERVES, 10).is_none());
    }

    #[test]
    fn an_election_is_linked_to_what_brought_it_about_and_to_nothing_else() {
        let cause = context_named([7; 4]);
        let linked = |flow: Option<Flow>| format!("{flow:?}").contains(&cause.traceparent());
        let mut election = Election::default();
        election.because(cause);
        assert!(election.changed(Standing::Candidate, 1).is_none());
        election.unless_begun();
        assert!(linked(election.changed(SERVES, 2)));
        // The next one is not.
        assert!(election.changed(Standing::Candidate, 3).is_none());
        assert!(!linked(election.changed(SERVES, 4)));
        // Of what came to nothing nothing is left: nobody stood, or somebody else won.
        election.because(cause);
        election.unless_begun();
        assert!(election.changed(Standing::Candidate, 5).is_none());
        election.because(cause);
        assert!(election.changed(Standing::Follower, 6).is_none());
        assert!(election.changed(Standing::Candidate, 7).is_none());
        assert!(!linked(election.changed(SERVES, 8)));
    }

    #[test]
    fn the_first_election_of_a_splits_child_is_linked_to_the_split_whoever_wins_it() {
        let split = context_named([7; 4]);
        let linked = |flow: Option<Flow>| format!("{flow:?}").contains(&split.traceparent());
        let mut election = Election::default();
        election.begun_with(split);
        // It stands in vain, and again; what it commits before it serves is its own.
        for standing in [Standing::Candidate, Standing::Follower, Standing::Candidate] {
            assert!(election.changed(standing, 1).is_none());
        }
        election.committed();
        assert!(linked(election.changed(SERVES, 2)));
        assert!(election.changed(Standing::Candidate, 3).is_none());
        assert!(!linked(election.changed(SERVES, 4)));
        // Somebody else won: later ones have other causes.
        election.begun_with(split);
        assert!(election.changed(Standing::Candidate, 5).is_none());
        assert!(election.changed(Standing::Follower, 6).is_none());
        election.committed();
        assert!(election.changed(Standing::Candidate, 7).is_none());
        assert!(!linked(election.changed(SERVES, 8)));
    }

    #[test]
    fn a_hand_over_ends_when_its_replica_leads_no_more_or_leads_on() {
        let ballot = Ballot::from((4, 2));
        let context = hand_over_context(GroupId(17), ballot, 99);
        assert_eq!(context, hand_over_context(GroupId(17), ballot, 99));
        assert_ne!(context, hand_over_context(GroupId(17), ballot, 98));
        let begin = || HandOver::begin(context, NodeId(3), "ordered", context_named([1; 4]), 5);
        assert_eq!(begin().ended(Standing::Follower), Some(Ok(())));
        let flow = begin().flow();
        assert_eq!(flow.context(), context);
        let text = format!("{flow:?}");
        for part in [
            "transfer leadership",
            "start_ns: 5",
            "ordered",
            &context_named([1; 4]).traceparent(),
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(begin().ended(Standing::Leader { serving: false }), None);
        assert_eq!(begin().ended(SERVES), Some(Err(LEADS_ON.to_owned())));
    }
}
