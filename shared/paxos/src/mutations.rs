//! Deliberate bugs, for tests of the tests: the models or the simulator must catch each (docs/verification.md says which does).
//! Compiled to nothing without the feature `mutations`.

use crate::{Member, Position, Promise, Replica};

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// A follower acknowledges entries that are not durable yet (ZooKeeper 4646).
    AckBeforeFsync,
    /// A promise leaves before it is durable.
    PromiseBeforeFsync,
    /// A leader commits an entry of an older ballot by counting copies (LogCabin 44).
    CountOldBallot,
    /// A new leader serves before the old leader's lease ran out.
    ServeBeforeLease,
    /// A leader that handed over goes on serving reads under its old lease (openraft 1749).
    LeaseOutlivesTransfer,
    /// A follower accepts entries below its promise.
    AcceptBelowPromise,
    /// A candidate leads with its own log, without adopting the best one.
    SkipAdoption,
    /// A candidate that adopts a log with another configuration does not ask that one's members (its own find).
    SkipAdoptedQuorum,
    /// A message from or to another disk than the member's is taken (raft-rs 571).
    TrustStaleIncarnation,
    /// A restarted member forgets that it may have promised a lease.
    ForgetLeaseOnRestart,
    /// Promised and accepted ballot share a variable: what was only promised raises the rank of the log (EPaxos).
    SharedBallot,
    /// The ballot of the log is stored before the log: after a crash, old entries count as that ballot's (ZooKeeper 4643).
    EpochBeforeLog,
    /// While a change is under way, a majority of all members together decides (openraft 1802).
    JointByUnion,
    /// While a change is under way, a majority of the new members decides.
    JointByNewAlone,
    /// A promise of an earlier attempt counts for the present one (omnipaxos 172).
    LatePromise,
    /// What a follower has in memory counts as replicated, and may be gone later (Redpanda 3003).
    CountReceived,
    /// The leader counts itself before its own disk has the entry.
    CountUnsynced,
    /// The leader's lease counts from the receipt of an acknowledgement, not from the sending of what it answers.
    LeaseFromReceipt,
    /// The leader believes in the whole lease, without a margin for clocks that drift.
    NoLeaseMargin,
    /// The acknowledgement and the promise of a learner count like a member's.
    LearnerVotes,
    /// A change is completed before its joint configuration is committed.
    LeaveJointEarly,
    /// A second change starts before the first one is complete.
    TwoChanges,
    /// A replica is told to go by a configuration that is not committed.
    RetireUncommitted,
    /// A promise to a new leader replaces the one to the leader before it (its own find).
    ForgetEarlierLease,
    /// A candidate whose adopted log makes it a learner leads all the same (its own find).
    LeadAsLearner,
    /// A leader changes the members, and completes changes, before its first own entry is committed and all earlier leases are over.
    ChangeBeforeOwnCommit,
    /// A transfer ends every lease of unknown holder, also of a ballot above the released one (its own find).
    ReleaseUnknownLease,
    /// The log is truncated although it is not archived.
    TruncateUnarchived,
    /// A replica that takes the place of a lost one gets its incarnation. (Done by the shell: the core only relies on it.)
    ReuseIncarnation,
}

/// Every mutation.
pub const MUTATIONS: [Mutation; 29] = [
    Mutation::AckBeforeFsync,
    Mutation::PromiseBeforeFsync,
    Mutation::CountOldBallot,
    Mutation::ServeBeforeLease,
    Mutation::LeaseOutlivesTransfer,
    Mutation::AcceptBelowPromise,
    Mutation::SkipAdoption,
    Mutation::SkipAdoptedQuorum,
    Mutation::TrustStaleIncarnation,
    Mutation::ForgetLeaseOnRestart,
    Mutation::SharedBallot,
    Mutation::EpochBeforeLog,
    Mutation::JointByUnion,
    Mutation::JointByNewAlone,
    Mutation::LatePromise,
    Mutation::CountReceived,
    Mutation::CountUnsynced,
    Mutation::LeaseFromReceipt,
    Mutation::NoLeaseMargin,
    Mutation::LearnerVotes,
    Mutation::LeaveJointEarly,
    Mutation::TwoChanges,
    Mutation::RetireUncommitted,
    Mutation::ForgetEarlierLease,
    Mutation::LeadAsLearner,
    Mutation::ChangeBeforeOwnCommit,
    Mutation::ReleaseUnknownLease,
    Mutation::TruncateUnarchived,
    Mutation::ReuseIncarnation,
];

impl Replica {
    /// What a quorum has reached, by wrong arithmetic; none if no such bug is on.
    pub(crate) fn wrong_quorum_value<T: Ord + Copy + Default>(
        &self,
        value: impl Fn(&Member) -> T,
    ) -> Option<T> {
        let configuration = self.log.configuration();
        let members = configuration.members.iter();
        let needed = |members: usize| members / 2 + 1;
        let (list, needed): (Vec<&Member>, usize) = if self.mutated(Mutation::JointByUnion) {
            let union: Vec<&Member> = configuration.voters().collect();
            let needed = needed(union.len());
            (union, needed)
        } else if self.mutated(Mutation::JointByNewAlone) {
            (members.collect(), needed(configuration.members.len()))
        } else if self.mutated(Mutation::LearnerVotes) && configuration.joint.is_none() {
            let all = members.chain(&configuration.learners).collect();
            (all, needed(configuration.members.len()))
        } else {
            return None;
        };
        let mut values: Vec<T> = list.into_iter().map(value).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        Some(values.get(needed - 1).copied().unwrap_or_default())
    }

    /// The last position as a member sees it that has one variable for the promised and the accepted ballot.
    pub(crate) fn with_only_ballot(&self, last: Position) -> Position {
        let ballot = match last.index {
            0 => last.ballot,
            _ => last.ballot.max(self.only_ballot),
        };
        Position { ballot, ..last }
    }
}

/// The last entry of the log that a promise describes, whatever `with_only_ballot` made of it.
pub(crate) fn real_last(promise: &Promise) -> Position {
    Position {
        index: promise.last.index,
        ballot: promise.history.last().unwrap_or(&promise.floor).ballot,
    }
}
