//! Counts what local secondary indexes hold, piece by piece, from the items: an entry has no size of its own. Never changes anything.

use model::EncodedKey;
use model::codec::{CodecError, encoded_item_size};
use model::index::{IndexDefinition, IndexProjection};
use protocol::directory::IndexCount;

use crate::partition::Partition;
use crate::{BTree, PartitionError};

impl<C> Partition<C> {
    /// Adds the entries of the next `looks` things behind `after`, items or not (and of a MiB at most), to `counts`, in which indexes that have none are missing.
    /// Where to go on; none: that were the last.
    pub fn count_indexes(
        &self,
        base: &impl BTree,
        after: Option<EncodedKey>,
        looks: usize,
        counts: &mut Vec<IndexCount>,
    ) -> Result<Option<EncodedKey>, PartitionError> {
        let mut looked = 0;
        self.walk_piece(base, after, |key, value| {
            looked += 1;
            if !self.state.table.is_entry(key) {
                self.count_item(value, counts)?;
            }
            Ok(looked < looks)
        })
    }

    fn count_item(&self, item: &[u8], counts: &mut Vec<IndexCount>) -> Result<(), CodecError> {
        let table = &self.state.table;
        for index in table.indexes.iter().filter(|index| index.is_local()) {
            if !index.covers(item)? {
                continue;
            }
            let bytes = self.entry_bytes(index, item)?;
            match counts.iter_mut().find(|count| count.index == index.id) {
                Some(count) => {
                    count.items += 1;
                    count.bytes += bytes;
                }
                None => counts.push(IndexCount {
                    index: index.id,
                    items: 1,
                    bytes,
                }),
            }
        }
        Ok(())
    }

    fn entry_bytes(&self, index: &IndexDefinition, item: &[u8]) -> Result<u64, CodecError> {
        match index.projection {
            IndexProjection::All => encoded_item_size(item),
            _ => encoded_item_size(&index.project(&self.state.table.keys, item)?),
        }
    }
}
