//! Full copies as the shards see them: the job that pulls one, and its outcome. Owns the blocking part only; sessions and
//! files are `copy`'s.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use btree::ReplicaTree;
use mesh::{Deadline, TraceContext};
use partition::PartitionState;
use paxos::{GroupId, NodeId};
use protocol::replication::{CopyChunk, CopyRequest};
use protocol::subjects;
use telemetry::traces::{self, Flow};
use tokio::runtime::Handle;

use crate::children::Children;
use crate::copy::{ReceiveOptions, receive};
use crate::inbox::{Event, Inbox};
use crate::node::Node;

/// Pull a full copy of a group's B-tree from another node, and put it in the place of our own.
pub(crate) struct CopyJob {
    pub(crate) group: GroupId,
    pub(crate) from: NodeId,
    /// Nothing else writes it meanwhile. Not kept alive while the job waits: the replica may be dropped.
    pub(crate) tree: Weak<ReplicaTree>,
    /// What the B-tree holds.
    pub(crate) own: PartitionState,
    pub(crate) inbox: Arc<Inbox>,
    /// Set when the replica is dropped meanwhile.
    pub(crate) dropped: Arc<AtomicBool>,
    /// Children that are filled from this B-tree.
    pub(crate) children: Option<Arc<Children>>,
    /// Why it is needed.
    pub(crate) cause: TraceContext,
}

/// Between two lines of the log about the progress of a copy.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A copy ended: the B-tree now holds this state, or is as it was.
pub(crate) struct Copied {
    pub(crate) group: GroupId,
    pub(crate) result: Result<PartitionState, String>,
}

impl CopyJob {
    /// Does it. Blocks.
    pub(crate) fn run(self, node: &Node, runtime: &Handle) {
        let flow = Flow::begin("copy replica")
            .of_partition(self.group.0)
            .caused_by(self.cause);
        let _entered = traces::enter(flow.context());
        tracing::info!(
            group = self.group.0,
            from = self.from.0,
            "pulling a full copy"
        );
        node.metrics.copies_running.inc();
        let result = self.pull(node, runtime);
        node.metrics.copies_running.dec();
        let from = i64::try_from(self.from.0).unwrap_or(i64::MAX);
        let ended = result.as_ref().map(|_| ()).map_err(String::clone);
        node.flows
            .end(flow.with("evenkeel.copy.from_node", from), ended);
        let Self { group, inbox, .. } = self;
        inbox.event(Event::Copied(Box::new(Copied { group, result })));
    }

    fn pull(&self, node: &Node, runtime: &Handle) -> Result<PartitionState, String> {
        let subject = subjects::node_bulk(self.from);
        let (copied, told) = (Cell::new(0), Cell::new(Instant::now()));
        let patience = Duration::from_millis(node.settings.limits.copy_chunk_ms_max);
        let fetch = |request: &CopyRequest| -> Result<CopyChunk, String> {
            let deadline = Deadline::after(patience);
            let trace = TraceContext::default();
            let call = node.mesh.call(&subject, request, deadline, &trace);
            let chunk: CopyChunk = runtime.block_on(call).map_err(|error| error.to_string())?;
            let pairs = chunk.pairs.iter();
            let bytes: usize = pairs.map(|(key, item)| key.len() + item.len()).sum();
            node.metrics.copied_bytes.inc_by(bytes as u64);
            copied.set(copied.get() + bytes as u64);
            if told.get().elapsed() >= TELL_EVERY {
                told.set(Instant::now());
                let (group, bytes) = (self.group.0, copied.get());
                tracing::info!(group, bytes, "pulling a full copy: under way");
            }
            Ok(chunk)
        };
        let Some(tree) = self.tree.upgrade() else {
            return Err("the replica was dropped".to_owned());
        };
        let options = ReceiveOptions {
            tree: node.tree_options(),
            ..ReceiveOptions::default()
        };
        let folder = node.replicas_folder();
        let stop = || node.is_draining() || self.dropped.load(Ordering::Relaxed);
        let incoming = receive(
            folder, self.group, node.id, &self.own, &options, fetch, stop,
        )
        .map_err(|error| error.to_string())?;
        // First: a child that was filled from another B-tree than the one beside it would lack what happened in between.
        if let Some(children) = &self.children {
            children.destroy().map_err(|error| error.to_string())?;
        }
        incoming.install(&tree).map_err(|error| error.to_string())
    }
}
