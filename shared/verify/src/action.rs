//! What may happen next.

use paxos::NodeId;

use crate::space::Digest;

/// An event of a model. Hosts are numbered in the scenario's order, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A message arrives at a host.
    Deliver(u8, Digest),
    /// A host's oldest batch becomes durable.
    Sync(u8),
    /// A host asks those (bits) for a healthy leader, hears of none, and takes a ballot. If it led or campaigned, that is over.
    Campaign(u8, u8),
    /// A leader gets a command.
    Propose(u8),
    /// A host dies and starts again; so many operations of the oldest batch reached the disk.
    Crash(u8, u8),
    /// A leader is told to change the members to this target.
    Change(u8, u8),
    /// A leader is told to hand over.
    Transfer(u8, NodeId),
    /// Time passes on all nodes.
    Tick,
    /// A host's timer is due.
    Wake(u8),
    /// The copy that a host wants is there.
    Copy(u8),
    /// A host's disk is lost; if there is a spare replica for its node, that is made.
    Lose(u8),
}
