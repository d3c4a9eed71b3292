//! Which replicas are to be built anew, where, and when: at most one a partition, a few at a time, the most endangered first. Pure: the
//! state is what was ordered and is not seen done yet; all of it can be found again in the pushes, so an admin that takes over goes on.

mod balance;
mod diagnosis;
mod leaders;
mod orphans;
mod pressure;
mod repairs;
mod target;
mod traces;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub(crate) use diagnosis::{Reason, copies, healthy, state_of, voting_copies};
pub(crate) use leaders::Leaders;
pub(crate) use orphans::{Leaderless, orphans};
pub(crate) use pressure::{Pressure, relieve};
pub(crate) use repairs::Repairs;
pub(crate) use traces::Traces;

use paxos::{GroupId, NodeId};
use protocol::control::Order;

use crate::partitions::Partitions;
use crate::settings::HealingSettings;
use crate::vitality::NodeViews;

/// What the planners look at.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) now_ms: u64,
    pub(crate) nodes: &'a NodeViews,
    pub(crate) partitions: &'a Partitions,
    pub(crate) settings: &'a HealingSettings,
    /// A node with less free disk than this gets no new replicas, bytes.
    pub(crate) free_bytes_min: u64,
}

impl View<'_> {
    /// Most nodes that hold something are silent: rather than all of them, it is us who are cut off. Nothing is decided then.
    pub(crate) fn blind(&self) -> bool {
        let hold = self.partitions.storage_replicas();
        let silent = |node: &&paxos::NodeId| self.nodes.get(node).is_none_or(|n| !n.alive());
        hold.keys().filter(silent).count() * 2 > hold.len()
    }
}

/// An order to give.
#[derive(Clone, Debug)]
pub(crate) struct Directive {
    pub(crate) to: NodeId,
    pub(crate) partition: GroupId,
    pub(crate) order: Order,
}
