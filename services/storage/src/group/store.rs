//! What a storage replica has beside its log. Owns these parts only; who is told what, and when, is the group's.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use btree::ReplicaTree;
use bytes::Bytes;
use model::EncodedKey;
use partition::{Partition, PartitionState};
use paxos::{GroupId, Millis, NodeId};
use protocol::item::Write;
use protocol::transact::Transact;

use super::admission::{Admission, Charge};
use super::changes::Upkeep;
use super::flush::Flush;
use super::index_counts::IndexCounts;
use super::propagation::Propagation;
use super::split::Splitting;
use crate::inbox::Caller;

/// What waits to become commands.
#[derive(Debug)]
pub(super) enum Change {
    /// A single write.
    Write(Box<Write>),
    /// A transaction's, other than a read.
    Transact(Box<Transact>),
}

impl Change {
    /// The item that it is about.
    pub(super) fn key(&self) -> &EncodedKey {
        match self {
            Self::Write(write) => &write.key,
            Self::Transact(transact) => transact.key(),
        }
    }
}

/// Partition and B-tree.
pub(crate) struct Store {
    pub(crate) partition: Partition<Caller>,
    pub(crate) tree: Arc<ReplicaTree>,
    /// The state in the B-tree, as of the last flush.
    pub(super) durable: PartitionState,
    /// The split that is being carried out.
    pub(crate) splitting: Option<Splitting>,
    /// The split, by its left child, whose children were deleted last: the B-tree may know of it a little longer.
    pub(super) discarded: Option<GroupId>,
    /// Bytes of its files, as of the last flush.
    pub(crate) tree_bytes: u64,
    /// Writes that came since the last proposal. They become the next one once the log is done with what this group gave it last: while
    /// it syncs, a proposal would only wait for the next sync, and cost every follower a message and a sync of its own.
    pub(super) writes: Vec<(Change, Caller, Charge)>,
    /// What requests may spend.
    pub(super) admission: Admission,
    /// What a leader does by itself.
    pub(super) upkeep: Upkeep,
    /// At a leader: what local indexes hold.
    pub(super) index_counts: IndexCounts,
    /// Commands evaluated in this turn, to be proposed together.
    pub(super) commands: Vec<Bytes>,
    pub(super) flush: Flush,
    /// At a leader: how far the table's global indexes are.
    pub(crate) propagation: Propagation,
    /// Since when applied entries wait for a flush.
    pub(super) unflushed_since: Option<Millis>,
    /// A full copy from this node is wanted or under way: nothing is applied, nothing flushed, nothing served.
    pub(super) copy: Option<NodeId>,
    /// The wanted copy is not under way yet; it may start then.
    pub(super) copy_at: Option<Millis>,
    /// Copies that failed since the last that did not.
    pub(super) copy_failures: u32,
    /// The replica is being dropped: whoever works on the B-tree lets go.
    pub(crate) dropped: Arc<AtomicBool>,
}

impl Store {
    pub(crate) fn new(partition: Partition<Caller>, tree: ReplicaTree) -> Self {
        Self {
            durable: partition.state().clone(),
            splitting: None,
            discarded: None,
            partition,
            tree_bytes: tree.disk_bytes(),
            tree: Arc::new(tree),
            writes: Vec::new(),
            admission: Admission::default(),
            upkeep: Upkeep::default(),
            index_counts: IndexCounts::default(),
            commands: Vec::new(),
            flush: Flush::Idle,
            propagation: Propagation::default(),
            unflushed_since: None,
            copy: None,
            copy_at: None,
            copy_failures: 0,
            dropped: Arc::default(),
        }
    }
}
