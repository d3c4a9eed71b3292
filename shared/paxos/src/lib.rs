//! The replication core: leader-based Multi-Paxos over a contiguous log with a ballot history, as a pure state machine.
//! Owns elections, leases, replication, commitment, catch-up and (joint) membership of one replication group. Never reads
//! a clock, never draws a random number, never does I/O: `Replica::step` says what to persist and what to send.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A storage node's number: unique in the mesh, set by its operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// A replication group's number; the same number as its partition's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub u64);

/// A log position (LSN); the first entry has 1, 0 means "none".
pub type Index = u64;

/// A ballot: round first, then the proposing node, so that no two nodes share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Round.
    pub round: u64,
    /// Proposer.
    pub node: NodeId,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// WAL and B-tree: can lead and serve reads.
    Storage,
    /// Recent WAL only: an acceptor, never leads, never serves.
    Log,
}

/// A member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Its node.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
    /// Identity of the node's disk; a node that lost its disk has another one and is another member.
    pub incarnation: u64,
}

/// Who is in the group. While `joint` is set, every decision needs a quorum of both member lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Grows by one with every change.
    pub generation: u64,
    /// The members.
    pub members: Vec<Member>,
    /// The previous members, while a change is under way.
    #[serde(default)]
    pub joint: Option<Vec<Member>>,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Proposed by each new leader.
    Noop,
    /// A membership change, in force as soon as it is in the log.
    Config(Configuration),
    /// A command of the partition's state machine (opaque here).
    Command(Bytes),
}

/// A log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Position.
    pub index: Index,
    /// Ballot in which it was first proposed.
    pub ballot: Ballot,
    /// Content.
    pub payload: Payload,
}
