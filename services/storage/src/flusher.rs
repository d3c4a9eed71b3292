//! Flushes, and the other work on a replica's B-trees that comes between them: what the disk threads do with the batches that
//! partitions seal, and with the B-trees of a split's children. Owns the blocking part only.

use std::sync::Arc;

use btree::{ReplicaTree, Snapshot, TreeError};
use partition::split::{Filling, Side};
use partition::{Batch, Marked, PartitionState};
use paxos::GroupId;

use crate::children::Children;
use crate::inbox::{Event, Inbox};

/// What is to be done. One at a time for a replica.
pub(crate) enum Work {
    /// Bring a batch into the B-tree, and before that into the children's as far as they are filled.
    Batch(Box<Batch>),
    /// Open the children's B-trees, or make them.
    Create(Box<PartitionState>),
    /// Copy so many bytes into a child.
    Fill(Side, usize),
    /// Delete the children's B-trees.
    Discard,
}

/// Work on the B-trees of a replica.
pub(crate) struct FlushJob {
    pub(crate) group: GroupId,
    pub(crate) tree: Arc<ReplicaTree>,
    /// The children's B-trees that there are, or may be.
    pub(crate) children: Option<Arc<Children>>,
    pub(crate) work: Work,
    pub(crate) inbox: Arc<Inbox>,
}

/// What was done.
pub(crate) enum Done {
    /// This state is durable; bytes of the files; and the view that a marker asks for.
    Batch(Box<PartitionState>, u64, Option<Box<(Marked, Snapshot)>>),
    /// The children are so far; none: they are not there.
    Children(Option<[Filling; 2]>),
    /// The children are deleted.
    Discarded,
}

/// A job ended.
pub(crate) struct Flushed {
    pub(crate) group: GroupId,
    /// What was done; or why not, with the work.
    pub(crate) result: Result<Done, (TreeError, Work)>,
}

impl FlushJob {
    /// Does it. Blocks.
    pub(crate) fn run(self) {
        let result = match self.act() {
            Ok(done) => Ok(done),
            Err(error) => Err((error, self.work)),
        };
        // Before the report: whoever waits for the flush may want the tree for itself.
        drop((self.tree, self.children));
        self.inbox.event(Event::Flushed(Box::new(Flushed {
            group: self.group,
            result,
        })));
    }

    fn act(&self) -> Result<Done, TreeError> {
        let children = self.children.as_ref();
        let fillings = || children.map_or(Ok(None), |children| children.fillings());
        match &self.work {
            Work::Batch(batch) => {
                if let Some(children) = children {
                    children.flush(batch)?;
                }
                let state = self.tree.flush(batch)?;
                // Here, before any other flush.
                let view = batch.marked.clone().and_then(|marked| {
                    let snapshot = self.tree.snapshot();
                    let snapshot =
                        snapshot.inspect_err(|error| tracing::warn!(%error, "no view for a scrub"));
                    Some(Box::new((marked, snapshot.ok()?)))
                });
                let bytes = self.tree.disk_bytes();
                Ok(Done::Batch(Box::new(state), bytes, view))
            }
            Work::Create(parent) => {
                if let Some(children) = children {
                    children.create(parent)?;
                }
                Ok(Done::Children(fillings()?))
            }
            Work::Fill(side, bytes_max) => {
                if let Some(children) = children {
                    children.fill(&self.tree, *side, *bytes_max)?;
                }
                Ok(Done::Children(fillings()?))
            }
            Work::Discard => {
                if let Some(children) = children {
                    children.destroy()?;
                }
                Ok(Done::Discarded)
            }
        }
    }
}
