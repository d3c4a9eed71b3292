//! The lists of the next configuration. Owns how one replica takes the place of another; whether it should is the planner's.

use paxos::{Configuration, Member, NodeId, Role};

/// Learners that are kept; the core refuses more than four.
const LEARNERS_MAX: usize = 4;

/// New voters and learners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lists {
    pub(crate) members: Vec<Member>,
    pub(crate) learners: Vec<Member>,
}

impl Lists {
    /// As they are.
    pub(crate) fn of(configuration: &Configuration) -> Self {
        Self {
            members: configuration.members.clone(),
            learners: configuration.learners.clone(),
        }
    }

    /// `newcomer` votes in the place of `old`.
    pub(crate) fn swap(mut self, old: &Member, newcomer: Member) -> Self {
        let place = self.members.iter_mut().find(|m| *m == old);
        if let Some(place) = place {
            *place = newcomer;
        }
        self.learners.retain(|l| l.node != newcomer.node);
        self
    }

    /// A storage replica that lost its vote stays as a learner: it may come back.
    pub(crate) fn demote(mut self, old: &Member) -> Self {
        let known = self.learners.iter().any(|l| l.node == old.node);
        if old.role == Role::Storage && !known && self.learners.len() < LEARNERS_MAX {
            self.learners.push(*old);
        }
        self
    }

    /// A learner on this node, in the place of an older one there.
    pub(crate) fn teach(mut self, newcomer: Member) -> Self {
        self.learners.retain(|l| l.node != newcomer.node);
        self.learners.push(newcomer);
        self
    }

    /// No learner on this node.
    pub(crate) fn without_learner(mut self, node: NodeId) -> Self {
        self.learners.retain(|l| l.node != node);
        self
    }

    pub(crate) fn has_room_for_learner(&self) -> bool {
        self.learners.len() < LEARNERS_MAX
    }
}
