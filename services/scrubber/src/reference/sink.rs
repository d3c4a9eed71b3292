//! The reference replica on disk: a rebuild from the archive goes into a B-tree of its own, so that a partition of any size is digested like a
//! replica. Owns its folder, and deletes it in the end.

use std::path::{Path, PathBuf};

use btree::{ReplicaTree, TreeError, TreeOptions};
use bytes::Bytes;
use objects::{Sink, SinkError};
use partition::{Batch, PartitionState};
use protocol::scrub::Bucket;
use scrub::Digester;

/// Read at a time, bytes.
const PART_BYTES: usize = 1 << 20;

/// A B-tree that takes a rebuild.
pub(crate) struct TreeSink {
    folder: PathBuf,
    tree: Option<ReplicaTree>,
}

fn failed(error: TreeError) -> SinkError {
    SinkError(error.to_string())
}

impl TreeSink {
    /// In this folder, whatever was there.
    pub(crate) fn new(folder: &Path) -> Self {
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

    /// The digest of what was rebuilt. Blocks.
    pub(crate) fn digest(&self) -> Result<Vec<Bucket>, SinkError> {
        let snapshot = self.tree()?.snapshot().map_err(failed)?;
        let mut digester = Digester::default();
        let mut after: Option<Bytes> = None;
        loop {
            let read = snapshot.pairs(after.as_deref(), PART_BYTES);
            let (pairs, is_last) = read.map_err(failed)?;
            for (key, item) in &pairs {
                if !digester.add(key, item) {
                    return Err(SinkError("keys do not ascend".to_owned()));
                }
            }
            after = pairs.into_iter().next_back().map(|(key, _)| key);
            if is_last {
                return Ok(digester.finish());
            }
        }
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
            tracing::warn!(%error, "a reference replica stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use btree::fixtures::{batch, fill, item, key, state};

    use super::*;

    /// Whatever way the items came, the digest is that of a replica that holds them.
    #[test]
    fn a_reference_is_digested_like_a_replica_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("reference");
        let mut sink = TreeSink::new(&folder);
        sink.begin(&state(0)).unwrap();
        sink.load(&state(1), vec![(key(7), item(10))]).unwrap();
        // What was begun is forgotten.
        sink.begin(&state(0)).unwrap();
        let pairs = (0..50).map(|number| (key(number), item(10))).collect();
        sink.load(&state(1), pairs).unwrap();
        let mut changes = fill(50, 60, 20);
        changes.insert(key(3), None);
        let items = Arc::new(changes);
        sink.flush(&Batch {
            items,
            ..batch(2, fill(0, 0, 0))
        })
        .unwrap();
        assert_eq!(sink.items(), Ok(59));
        let mut digester = Digester::default();
        for number in (0..60).filter(|number| *number != 3) {
            let len = if number < 50 { 10 } else { 20 };
            assert!(digester.add(&key(number), &item(len)));
        }
        assert_eq!(sink.digest().unwrap(), digester.finish());
        drop(sink);
        assert!(!folder.exists());
    }
}
