//! Names of things: nodes, groups, positions, ballots. Owns their order and their encoding; decides nothing.

use serde::{Deserialize, Serialize};

/// A storage node's number: unique in the mesh, set by its operator.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NodeId(pub u64);

/// A replication group's number; the same number as its partition's.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct GroupId(pub u64);

/// A log position (LSN); the first entry has 1, 0 means "none".
pub type Index = u64;

/// A reading of the local monotonic clock in milliseconds. Its origin is arbitrary: readings of two nodes, or of one
/// node before and after a restart, are never compared.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Millis(pub u64);

impl Millis {
    /// This reading plus `ms` milliseconds.
    pub fn plus(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this reading; 0 if `earlier` is later.
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Names one batch of `Output::persist`. Tokens of one replica rise by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A ballot: round first, then the proposing node, so that no two nodes share one. The default (0, 0) is below every
/// ballot that is ever proposed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Ballot {
    /// Round.
    pub round: u64,
    /// Proposer.
    pub node: NodeId,
}

impl From<(u64, u64)> for Ballot {
    fn from((round, node): (u64, u64)) -> Self {
        Ballot {
            round,
            node: NodeId(node),
        }
    }
}

impl From<Ballot> for (u64, u64) {
    fn from(ballot: Ballot) -> Self {
        (ballot.round, ballot.node.0)
    }
}

/// A place in a log, with the ballot of the entry there. Ordered by ballot, then index: of two logs the one whose last
/// position is greater is the more recent.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(from = "(Ballot, u64)", into = "(Ballot, u64)")]
pub struct Position {
    /// Ballot of the entry.
    pub ballot: Ballot,
    /// Its index.
    pub index: Index,
}

impl From<(Ballot, u64)> for Position {
    fn from((ballot, index): (Ballot, u64)) -> Self {
        Position { ballot, index }
    }
}

impl From<Position> for (Ballot, u64) {
    fn from(position: Position) -> Self {
        (position.ballot, position.index)
    }
}
