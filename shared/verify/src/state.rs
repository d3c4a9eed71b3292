//! A state of a model: who is how, what is on its way, and what was committed so far. Digests stand for the big things (`space`).

use std::sync::Arc;

use paxos::Ballot;

use crate::invariant::Violation;
use crate::scenario::Bounds;
use crate::space::Digest;

/// A committed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Committed {
    /// It.
    pub entry: Digest,
    /// The ballot in which it was proposed.
    pub ballot: Ballot,
    /// The ballot in which it was committed, or a later one.
    pub at: Ballot,
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The hosts, in the scenario's order.
    pub hosts: Vec<Digest>,
    /// Every message ever sent, in the order of their digests: each may arrive at any time, again and again, or never.
    pub net: Vec<Digest>,
    /// What is committed, from index 1 on.
    pub committed: Vec<Committed>,
    /// The last configuration that is committed.
    pub configuration: Digest,
    /// Ballots that had a leader, and whether it is over.
    pub led: Vec<(Ballot, bool)>,
    /// Hosts (bits) that fetched a committed suffix from a log replica since they started.
    pub adopted: u8,
    /// How often what happened.
    pub used: Bounds,
    /// What was seen (`Sight::bit`).
    pub seen: u16,
    /// What is wrong.
    pub violation: Option<Arc<Violation>>,
}

impl State {
    /// A message is on its way.
    pub fn send(&mut self, message: Digest) {
        if let Err(at) = self.net.binary_search(&message) {
            self.net.insert(at, message);
        }
    }
}
