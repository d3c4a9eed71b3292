//! What must hold in every run. One file an invariant; each sees everything that happens, from outside.

mod accept_at_promise;
mod applied_is_durable;
mod archived_before_truncated;
mod committed_is_durable;
mod committed_never_changes;
mod configurations_follow;
mod leader_completeness;
mod log_matching;
mod log_replicas_never_lead;
mod one_leader_a_ballot;
mod one_serves;
mod promises_are_monotone;
mod removed_by_commit;
mod stale_moves_nothing;
mod voters_elect;

use paxos::{
    Ballot, Configuration, Entry, GroupId, Identity, Index, Message, Millis, NodeId, PersistOp,
    Replica,
};

use crate::disk::GroupDisk;
use crate::scenario::Scenario;

/// Result of a check; the error says what is wrong.
pub type Check = Result<(), String>;

/// A replica did a step.
pub struct Stepped<'a> {
    /// Its group.
    pub group: GroupId,
    /// Its node.
    pub node: NodeId,
    /// The replica after the step.
    pub replica: &'a Replica,
    /// What of it is durable.
    pub disk: &'a GroupDisk,
    /// What is, or was at its end, durable of every replica of the group that there ever was.
    pub disks: &'a [(NodeId, &'a GroupDisk)],
    /// What it sends.
    pub sent: &'a [(NodeId, Message)],
    /// What it hands out as committed.
    pub committed: &'a [Entry],
}

/// Entries were handed out as committed by some replica.
pub struct Committed<'a> {
    /// The group.
    pub group: GroupId,
    /// The replica's node.
    pub node: NodeId,
    /// The entries.
    pub entries: &'a [Entry],
    /// Ballot that the replica promised: that of the leader it learned from, or a higher one.
    pub promised: Ballot,
}

/// A replica is about to be dropped.
pub struct Gone {
    /// The group.
    pub group: GroupId,
    /// Its node.
    pub node: NodeId,
    /// What it was.
    pub identity: Identity,
}

/// A message that may move nothing was given to a replica.
pub struct Stale<'a> {
    /// The group.
    pub group: GroupId,
    /// The node.
    pub node: NodeId,
    /// The replica's state before, and after.
    pub states: (&'a str, &'a str),
    /// Whether the step asked the shell to do anything.
    pub acted: bool,
}

/// An invariant. Every hook has the default of finding nothing wrong.
pub trait Invariant {
    /// Its name.
    fn name(&self) -> &'static str;

    /// A group was founded in the course of the run.
    fn founded(&mut self, _group: GroupId, _configuration: &Configuration) {}

    /// A replica did a step.
    fn stepped(&mut self, _: &Stepped<'_>) -> Check {
        Ok(())
    }

    /// Operations of a group became durable on a node; `disk` is the state afterwards.
    fn persisted(
        &mut self,
        _group: GroupId,
        _node: NodeId,
        _ops: &[PersistOp],
        _disk: &GroupDisk,
    ) -> Check {
        Ok(())
    }

    /// A node restarted with this.
    fn restarted(&mut self, _group: GroupId, _node: NodeId, _disk: &GroupDisk) -> Check {
        Ok(())
    }

    /// A replica is dropped because it is no longer in its group.
    fn retired(&mut self, _: &Gone) -> Check {
        Ok(())
    }

    /// The replica of a group on this node is no more (dropped, or its disk lost); another one may come.
    fn gone(&mut self, _group: GroupId, _node: NodeId) {}

    /// Entries are handed out as committed.
    fn committed(&mut self, _: &Committed<'_>) -> Check {
        Ok(())
    }

    /// After every event: all running replicas of a group, with their clocks.
    fn swept(&mut self, _group: GroupId, _replicas: &[(NodeId, &Replica, Millis)]) -> Check {
        Ok(())
    }

    /// Everything of a group up to this position is archived.
    fn archived(&mut self, _group: GroupId, _index: Index) {}

    /// A stale message was delivered.
    fn stale(&mut self, _: &Stale<'_>) -> Check {
        Ok(())
    }
}

/// All of them that apply to a scenario.
pub fn all(scenario: &Scenario) -> Vec<Box<dyn Invariant>> {
    let groups = &scenario.groups;
    let mut all: Vec<Box<dyn Invariant>> = vec![
        Box::<one_leader_a_ballot::OneLeaderABallot>::default(),
        Box::<promises_are_monotone::PromisesAreMonotone>::default(),
        Box::new(accept_at_promise::AcceptAtPromise),
        Box::<log_matching::LogMatching>::default(),
        Box::<committed_never_changes::CommittedNeverChanges>::default(),
        Box::<leader_completeness::LeaderCompleteness>::default(),
        Box::<committed_is_durable::CommittedIsDurable>::default(),
        Box::new(applied_is_durable::AppliedIsDurable),
        Box::new(one_serves::OneServes),
        Box::new(log_replicas_never_lead::LogReplicasNeverLead),
        Box::new(stale_moves_nothing::StaleMovesNothing),
        Box::new(configurations_follow::ConfigurationsFollow::new(groups)),
        Box::new(removed_by_commit::RemovedByCommit::new(groups)),
        Box::<voters_elect::VotersElect>::default(),
    ];
    if scenario.archive_ms > 0 {
        all.push(Box::<archived_before_truncated::ArchivedBeforeTruncated>::default());
    }
    all
}
