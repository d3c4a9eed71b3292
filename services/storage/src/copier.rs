//! Full copies as the shards see them: the job that pulls one, and its outcome. Owns the blocking part only; sessions and
//! files are `copy`'s.

use std::sync::Arc;
use std::time::Duration;

use mesh::{Deadline, TraceContext};
use partition::PartitionState;
use paxos::{GroupId, NodeId};
use protocol::replication::{CopyChunk, CopyRequest};
use protocol::subjects;
use tokio::runtime::Handle;

use crate::btree::ReplicaTree;
use crate::copy::{ReceiveOptions, receive};
use crate::inbox::{Event, Inbox};
use crate::node::Node;

/// Pull a full copy of a group's B-tree from another node, and put it in the place of our own.
pub(crate) struct CopyJob {
    pub(crate) group: GroupId,
    pub(crate) from: NodeId,
    /// Nothing else writes it meanwhile.
    pub(crate) tree: Arc<ReplicaTree>,
    /// What the B-tree holds.
    pub(crate) own: PartitionState,
    pub(crate) inbox: Arc<Inbox>,
}

/// A copy ended: the B-tree now holds this state, or is as it was.
pub(crate) struct Copied {
    pub(crate) group: GroupId,
    pub(crate) result: Result<PartitionState, String>,
}

impl CopyJob {
    /// It will not be done now.
    pub(crate) fn refused(self) -> Copied {
        Copied {
            group: self.group,
            result: Err("too many copies at once".to_owned()),
        }
    }

    /// Does it. Blocks.
    pub(crate) fn run(self, node: &Node, runtime: &Handle) {
        let result = self.pull(node, runtime);
        let Self {
            group, tree, inbox, ..
        } = self;
        drop(tree);
        inbox.event(Event::Copied(Box::new(Copied { group, result })));
    }

    fn pull(&self, node: &Node, runtime: &Handle) -> Result<PartitionState, String> {
        let subject = subjects::node_bulk(self.from);
        let patience = Duration::from_millis(node.settings.limits.copy_chunk_ms_max);
        let fetch = |request: &CopyRequest| -> Result<CopyChunk, String> {
            let deadline = Deadline::after(patience);
            let trace = TraceContext::default();
            let call = node.mesh.call(&subject, request, deadline, &trace);
            runtime.block_on(call).map_err(|error| error.to_string())
        };
        let options = ReceiveOptions {
            tree: node.tree_options(),
            ..ReceiveOptions::default()
        };
        let folder = node.replicas_folder();
        let stop = || node.is_draining();
        receive(
            folder, self.group, node.id, &self.own, &options, fetch, stop,
        )
        .map_err(|error| error.to_string())?
        .install(&self.tree)
        .map_err(|error| error.to_string())
    }
}
