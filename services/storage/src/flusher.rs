//! Flushes: what the disk threads do with the batches that partitions seal. Owns the blocking part only.

use std::sync::Arc;

use partition::Batch;
use paxos::{GroupId, Index};

use crate::btree::{ReplicaTree, TreeError};
use crate::inbox::{Event, Inbox};

/// Bring a batch into a B-tree.
pub(crate) struct FlushJob {
    pub(crate) group: GroupId,
    pub(crate) tree: Arc<ReplicaTree>,
    pub(crate) batch: Box<Batch>,
    pub(crate) inbox: Arc<Inbox>,
}

/// A flush ended.
pub(crate) struct Flushed {
    pub(crate) group: GroupId,
    /// Durable position and bytes of the files; or why not, with the batch.
    pub(crate) result: Result<(Index, u64), (TreeError, Box<Batch>)>,
}

impl FlushJob {
    /// Does it. Blocks.
    pub(crate) fn run(self) {
        let result = match self.tree.flush(&self.batch) {
            Ok(_) => Ok((self.batch.state.applied, self.tree.disk_bytes())),
            Err(error) => Err((error, self.batch)),
        };
        // Before the report: whoever waits for the flush may want the tree for itself.
        drop(self.tree);
        self.inbox.event(Event::Flushed(Box::new(Flushed {
            group: self.group,
            result,
        })));
    }
}
