//! One node with its replica and its disk.

use paxos::{Ballot, Entry, GroupId, Index, Member, NodeId, PersistOp, Replica, Standing};

use crate::disk::Disk;
use crate::scenario::{START, Scenario};
use crate::space::{Digest, digest};

/// The group's number.
pub const GROUP: GroupId = GroupId(1);

/// A node with a replica.
#[derive(Clone, Debug, Hash)]
pub struct Host {
    /// The replica's name.
    pub member: Member,
    /// It runs: its disk is not lost, and it was not told to go.
    pub alive: bool,
    /// Its disk is lost, or was never there.
    pub absent: bool,
    /// The real thing.
    pub replica: Replica,
    /// What is durable.
    pub disk: Disk,
    /// Batches under way to the disk, oldest first; their tokens are 1, 2, …
    pub unsynced: Vec<Vec<PersistOp>>,
    /// A copy of the B-tree is wanted from this node.
    pub copy_from: Option<NodeId>,
    /// The log as the replica has it in memory: what the disk will hold once all is written.
    pub log: Disk,
}

impl Host {
    /// A replica that starts from its disk.
    pub fn start(scenario: &Scenario, member: Member, disk: Disk, ticks: u8) -> Host {
        let identity = scenario.identity(member);
        let mut replica = Replica::new(
            member.node,
            GROUP,
            disk.restored(identity),
            scenario.timing(),
            scenario.clock(member.node, ticks).max(START),
        );
        replica.mutate(&scenario.mutations);
        Host {
            member,
            alive: true,
            absent: false,
            replica,
            log: disk.clone(),
            disk,
            unsynced: Vec::new(),
            copy_from: None,
        }
    }

    /// What stands for this host.
    pub fn digest(&self) -> Digest {
        digest(self)
    }

    /// What it knows to be committed.
    pub fn commit(&self) -> Index {
        self.replica.status().commit
    }

    /// The ballot in which it leads.
    pub fn leads(&self) -> Option<Ballot> {
        let status = self.replica.status();
        matches!(status.standing, Standing::Leader { .. }).then_some(status.promised)
    }

    /// Entries of the log in memory.
    pub fn entries(&self) -> &[Entry] {
        &self.log.entries
    }
}
