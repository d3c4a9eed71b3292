//! Entries of local secondary indexes (docs/adr/0009-indexes.md). They lie in the item collections of their items and come with their
//! writes' commands; this owns how they are applied, counted and read. An entry has no attributes of its own: what it shows is read
//! from its item, which lies in the same replica.

use std::ops::ControlFlow;

use bytes::Bytes;
use model::codec::encoded_item_size;
use model::index::{EntryChange, IndexDefinition, item_key_of};
use model::key::COLLECTION_BYTES;
use model::{EncodedKey, KeyRange, capacity};
use protocol::item::Page;

use crate::partition::Partition;
use crate::read::Reader;
use crate::{BTree, PartitionError};

/// Entries that are looked up at a time.
const LOOKED_UP: usize = 128;

/// An entry, and the key of its item.
struct Found {
    entry: EncodedKey,
    item: EncodedKey,
}

impl<C> Partition<C> {
    /// Takes over the changes of entries that came with a write.
    pub(crate) fn apply_entries(&mut self, entries: Vec<EntryChange>) {
        for (key, value) in entries {
            match value {
                Some(_) => self.state.entries += 1,
                None => self.state.entries = self.state.entries.saturating_sub(1),
            }
            self.overlay.put(key, value);
        }
    }

    /// Bytes that an item collection has at most, of a table with local indexes.
    pub(crate) fn collection_bytes(&self) -> Option<u64> {
        let has_collections = self.state.table.has_local_indexes();
        has_collections.then_some(self.state.bytes)
    }

    /// Whether the partition holds a single item collection, which has reached its limit. One that shares its partition with others is
    /// smaller, or will be split off first.
    pub(crate) fn collection_is_full(&self) -> bool {
        if !self.state.table.has_local_indexes()
            || self.state.bytes < self.limits.collection_bytes_max
        {
            return false;
        }
        let range = &self.state.range;
        let first = range.start.get(..COLLECTION_BYTES);
        let next = first.map(model::key::behind_prefix);
        next.is_some_and(|next| next.is_empty() || (!range.end.is_empty() && range.end <= next))
    }

    /// Reads the entries of a local index within `range` until the page is full.
    pub(crate) fn read_entries(
        &self,
        base: &impl BTree,
        (index, slot): (&IndexDefinition, u8),
        page: &Page,
        mut range: KeyRange,
        reader: &mut Reader<'_>,
    ) -> Result<(), PartitionError> {
        // An empty range has nothing in it, and must not be asked for.
        while !range.is_empty() {
            let found = self.entries_in(base, slot, page.reverse, &range)?;
            for found in &found {
                if self.read_entry(base, index, found, reader)?.is_break() {
                    return Ok(());
                }
            }
            match found.last() {
                Some(last) if found.len() == LOOKED_UP => match page.reverse {
                    true => range.end = last.entry.clone(),
                    false => range.start = [&last.entry[..], &[0][..]].concat().into(),
                },
                _ => break,
            }
        }
        Ok(())
    }

    /// The next entries, at most `LOOKED_UP`. Their items are looked up afterwards, not while the B-tree is being read.
    fn entries_in(
        &self,
        base: &impl BTree,
        slot: u8,
        reverse: bool,
        range: &KeyRange,
    ) -> Result<Vec<Found>, PartitionError> {
        let mut found = Vec::new();
        self.walk(base, range, reverse, &mut |key, value, _| {
            if key.get(COLLECTION_BYTES) == Some(&slot)
                && let Some(item) = item_key_of(key, value)
            {
                found.push(Found {
                    entry: Bytes::copy_from_slice(key),
                    item,
                });
            }
            match found.len() < LOOKED_UP {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        Ok(found)
    }

    fn read_entry(
        &self,
        base: &impl BTree,
        index: &IndexDefinition,
        found: &Found,
        reader: &mut Reader<'_>,
    ) -> Result<ControlFlow<()>, PartitionError> {
        let Some(item) = self.lookup(base, &found.item)? else {
            // No write leaves an entry without its item.
            return Ok(ControlFlow::Continue(()));
        };
        let projected = index.project(&self.state.table.keys, &item)?;
        let bytes = encoded_item_size(&projected)?;
        let shown = match reader.page.fetch {
            true => {
                let blocks = encoded_item_size(&item)?.div_ceil(capacity::READ_UNIT_BYTES);
                reader.reply.fetched_blocks += blocks.max(1);
                &item
            }
            false => &projected,
        };
        Ok(reader.take(&found.entry, &item, shown, bytes, || shown.clone()))
    }
}
