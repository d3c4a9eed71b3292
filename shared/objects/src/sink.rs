//! Where a rebuild goes. Owns the trait, and the sink that keeps everything in memory (`tree` has the one on disk).

use std::collections::BTreeMap;

use archive::snapshot::Pair;
use bytes::Bytes;
use partition::{Batch, PartitionState};

/// A sink cannot take more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rebuilt partition cannot be stored: {0}")]
pub struct SinkError(pub String);

/// Takes a partition as it is rebuilt. Called on threads that may block, one call at a time, in this order: `begin`, then `load` for each part
/// of a snapshot, then `flush` with ascending positions. `begin` again means: forget everything, the rebuild starts from something older.
pub trait Sink: Send + 'static {
    /// A rebuild begins: empty, with this state.
    fn begin(&mut self, state: &PartitionState) -> Result<(), SinkError>;

    /// Pairs of the snapshot that this state is of, in key order.
    fn load(&mut self, state: &PartitionState, pairs: Vec<Pair>) -> Result<(), SinkError>;

    /// Changes, and the state that they lead to (whose counts of items and bytes mean nothing).
    fn flush(&mut self, batch: &Batch) -> Result<(), SinkError>;

    /// Whether it can say how many items there are; if so, that is compared with what the log says.
    fn counts(&self) -> bool {
        true
    }

    /// How many items there are; asked for only if it counts.
    fn items(&mut self) -> Result<u64, SinkError>;
}

/// Keeps a partition in memory.
#[derive(Clone, Debug, Default)]
pub struct MemorySink {
    /// Its items by key.
    pub items: BTreeMap<Bytes, Bytes>,
    /// What they are the state of.
    pub state: Option<PartitionState>,
}

impl Sink for MemorySink {
    fn begin(&mut self, state: &PartitionState) -> Result<(), SinkError> {
        self.items.clear();
        self.state = Some(state.clone());
        Ok(())
    }

    fn load(&mut self, state: &PartitionState, pairs: Vec<Pair>) -> Result<(), SinkError> {
        self.items.extend(pairs);
        self.state = Some(state.clone());
        Ok(())
    }

    fn flush(&mut self, batch: &Batch) -> Result<(), SinkError> {
        for (key, item) in batch.items.iter() {
            match item {
                Some(item) => self.items.insert(key.clone(), item.clone()),
                None => self.items.remove(key),
            };
        }
        self.state = Some(batch.state.clone());
        Ok(())
    }

    fn items(&mut self) -> Result<u64, SinkError> {
        let table = self.state.as_ref().map(|state| &state.table);
        let entries = match table.filter(|table| table.has_local_indexes()) {
            Some(table) => self.items.keys().filter(|key| table.is_entry(key)).count(),
            None => 0,
        };
        Ok((self.items.len() - entries) as u64)
    }
}
