//! What can be seen of a replica from outside: metrics, routing, tests. Decides nothing.

use crate::replica::Part;
use crate::{Ballot, Configuration, Index, Millis, NodeId, Position, Replica, Standing};

/// A snapshot of a replica.
#[derive(Clone, Debug)]
pub struct Status<'a> {
    /// What it is.
    pub standing: Standing,
    /// Ballot that it promised (a leader's own).
    pub promised: Ballot,
    /// The leader that it follows or is, if any.
    pub leader: Option<NodeId>,
    /// Known to be committed.
    pub commit: Index,
    /// Handed out in `Output::committed`.
    pub delivered: Index,
    /// Last entry.
    pub last: Position,
    /// Last durable entry.
    pub durable: Index,
    /// Truncation floor.
    pub floor: Position,
    /// Durable B-tree position.
    pub flushed: Index,
    /// Leader: what it was told to be archived.
    pub archived: Index,
    /// Leader: bytes of the log above that, within some 64 KiB; none if it is archived to its end.
    pub unarchived_bytes: u64,
    /// Configuration in force.
    pub configuration: &'a Configuration,
    /// Leader: until when it may serve reads.
    pub lease_until: Option<Millis>,
    /// Leader: it has a recent quorum. Follower: its leader says so, recently.
    pub healthy: bool,
    /// Waiting for a full copy.
    pub copying: bool,
    /// Bytes of entries in memory.
    pub memory_bytes: u64,
    /// Messages that broke the protocol and were dropped; anything but 0 wants an alarm.
    pub faults: u64,
}

impl Replica {
    /// What can be seen from outside.
    pub fn status(&self) -> Status<'_> {
        let leader = match &self.part {
            Part::Leader(_) => Some(self.me),
            Part::Candidate(_) => None,
            Part::Follower => self.heard.map(|heard| heard.node),
        };
        let archived = match &self.part {
            Part::Leader(leader) => leader.archived,
            _ => 0,
        };
        Status {
            archived,
            unarchived_bytes: self.log.bytes_above(archived),
            standing: self.standing,
            promised: self.promised,
            leader,
            commit: self.commit,
            delivered: self.delivered,
            last: self.log.last(),
            durable: self.durability.durable(),
            floor: self.log.floor(),
            flushed: self.flushed,
            configuration: self.log.configuration(),
            lease_until: self.lease_until(),
            healthy: self.hears_healthy_leader(self.now),
            copying: self.copying || self.copy_needed,
            memory_bytes: self.log.memory_bytes(),
            faults: self.faults,
        }
    }

    /// Candidate: the ballot whose leader handed over to it; none: it stands for another reason.
    pub fn handed_over(&self) -> Option<Ballot> {
        match &self.part {
            Part::Candidate(candidate) => candidate.released,
            Part::Leader(_) | Part::Follower => None,
        }
    }

    /// Ballot of the log's entry at `index`, if it is there.
    pub fn ballot_at(&self, index: Index) -> Option<Ballot> {
        self.log.ballot_at(index)
    }
}
