//! A rebuild that goes into a B-tree on disk, so that a partition of any size can be read in key order. Owns its folder, and deletes it in the end.

use std::path::{Path, PathBuf};

use btree::{ReplicaTree, Snapshot, TreeError, TreeOptions};
use bytes::Bytes;
use partition::{Batch, PartitionState};

use crate::sink::{Sink, SinkError};

/// A B-tree that takes a rebuild.
pub struct TreeSink {
    folder: PathBuf,
    tree: Option<ReplicaTree>,
}

fn failed(error: TreeError) -> SinkError {
    SinkError(error.to_string())
}

impl TreeSink {
    /// In this folder, whatever was there. Nobody else may use it meanwhile, in this process or another.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.into(),
            tree: None,
        }
    }

    fn tree(&self) -> Result<&ReplicaTree, SinkError> {
        self.tree
            .as_ref()
            .ok_or_else(|| SinkError("nothing was begun".to_owned()))
    }

    /// A view of what was rebuilt; of no use once the sink is gone.
    ///
    /// # Errors
    /// When nothing was begun, or the B-tree's.
    pub fn snapshot(&self) -> Result<Snapshot, SinkError> {
        self.tree()?.snapshot().map_err(failed)
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.tree.as_ref().map_or(0, ReplicaTree::disk_bytes)
    }
}

impl Sink for TreeSink {
    fn begin(&mut self, state: &PartitionState) -> Result<(), SinkError> {
        drop(self.tree.take());
        btree::remove_folder(&self.folder).map_err(failed)?;
        let tree = ReplicaTree::create(&self.folder, TreeOptions::default(), state);
        self.tree = Some(tree.map_err(failed)?);
        Ok(())
    }

    fn load(
        &mut self,
        state: &PartitionState,
        pairs: Vec<(Bytes, Bytes)>,
    ) -> Result<(), SinkError> {
        self.tree()?.add(state, &pairs).map(|_| ()).map_err(failed)
    }

    fn flush(&mut self, batch: &Batch) -> Result<(), SinkError> {
        self.tree()?.flush(batch).map(|_| ()).map_err(failed)
    }

    fn items(&mut self) -> Result<u64, SinkError> {
        Ok(self.tree()?.state().map_err(failed)?.items)
    }
}

impl Drop for TreeSink {
    fn drop(&mut self) {
        drop(self.tree.take());
        if let Err(error) = btree::remove_folder(&self.folder) {
            tracing::warn!(%error, "a rebuilt partition stays");
        }
    }
}
