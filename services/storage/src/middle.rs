//! Finds the key that halves a partition's bytes, on a thread of its own: it reads the whole B-tree. Owns the blocking part only.

use std::sync::Weak;

use btree::{ReplicaTree, TreeError};
use bytes::Bytes;
use model::key::COLLECTION_BYTES;
use partition::Middle;

use crate::orders::OrderCaller;

/// Read at a time, bytes: each part is of the B-tree as it is then, so nothing keeps LMDB from reusing pages for long.
const PART_BYTES: usize = 4 << 20;

/// Find the middle of a replica's B-tree.
pub(crate) struct MiddleJob {
    /// Not kept alive: the replica may be dropped.
    pub(crate) tree: Weak<ReplicaTree>,
    /// Item collections stay whole.
    pub(crate) whole_collections: bool,
    pub(crate) caller: OrderCaller,
}

impl MiddleJob {
    /// Does it. Blocks.
    pub(crate) fn run(self) {
        match self.find() {
            Ok(middle) => self.caller.middle(middle.key()),
            Err(error) => self.caller.refused(error),
        }
    }

    fn find(&self) -> Result<Middle, String> {
        let (mut middle, mut after) = (Middle::default(), None);
        let mut collection: Option<(Bytes, u64)> = None;
        let items = partition::change::item_keys();
        loop {
            let Some(tree) = self.tree.upgrade() else {
                return Err("the replica was dropped".to_owned());
            };
            let read = tree.snapshot();
            let read = read.and_then(|part| part.pairs_of(&items, after.as_deref(), PART_BYTES));
            let (pairs, is_last) = match read {
                // The map grew: once more from here.
                Err(TreeError::SnapshotGone { .. }) => continue,
                read => read.map_err(|error| error.to_string())?,
            };
            for (key, item) in &pairs {
                let bytes = item.len() as u64;
                if !self.whole_collections || key.len() < COLLECTION_BYTES {
                    middle.visit(key, bytes);
                    continue;
                }
                match &mut collection {
                    Some((prefix, sum)) if key.starts_with(prefix) => *sum += bytes,
                    _ => {
                        if let Some((prefix, sum)) = collection.take() {
                            middle.visit(&prefix, sum);
                        }
                        collection = Some((key.slice(..COLLECTION_BYTES), bytes));
                    }
                }
            }
            after = pairs.into_iter().next_back().map(|(key, _)| key);
            if is_last {
                if let Some((prefix, sum)) = collection.take() {
                    middle.visit(&prefix, sum);
                }
                return Ok(middle);
            }
        }
    }
}
