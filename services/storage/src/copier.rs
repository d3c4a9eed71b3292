//! Full copies as the shards see them: the job that pulls one, and its outcome. Owns the blocking part only; sessions and
//! files are `copy`'s.

use std::sync::Arc;

use partition::PartitionState;
use paxos::{GroupId, NodeId};
use tokio::runtime::Handle;

use crate::btree::ReplicaTree;
use crate::inbox::{Event, Inbox};
use crate::node::Node;

/// Pull a full copy of a group's B-tree from another node, and put it in the place of our own.
pub(crate) struct CopyJob {
    pub(crate) group: GroupId,
    pub(crate) from: NodeId,
    pub(crate) tree: Arc<ReplicaTree>,
    pub(crate) inbox: Arc<Inbox>,
}

/// A copy ended.
pub(crate) struct CopyOutcome {
    pub(crate) group: GroupId,
    pub(crate) copied: Copied,
}

/// How it ended.
pub(crate) enum Copied {
    /// The new B-tree is in place.
    Installed(ReplicaTree, PartitionState),
    /// There is no copy, and the old B-tree is as it was.
    Unharmed(String),
    /// The old B-tree is gone and there is no new one.
    Damaged(String),
}

impl CopyJob {
    /// Does it. Blocks.
    pub(crate) fn run(self, node: &Node, runtime: &Handle) {
        let _ = (node, runtime);
        let Self { group, inbox, .. } = self;
        let copied = Copied::Unharmed("not there yet".to_owned());
        inbox.event(Event::Copied(Box::new(CopyOutcome { group, copied })));
    }

    /// Too many copies at once.
    pub(crate) fn refused(self) -> CopyOutcome {
        let copied = Copied::Unharmed("too many copies at once".to_owned());
        CopyOutcome {
            group: self.group,
            copied,
        }
    }
}
