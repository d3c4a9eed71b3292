//! A partition of the archive, rebuilt in memory to be read in key order. Owns the bound on that memory: a partition that is larger is refused,
//! rather than the process be killed for it.

use std::ops::Bound;

use archive::snapshot::Pair;
use bytes::Bytes;
use objects::{ArchiveReader, MemorySink, Rebuild, RebuildError, Sink, SinkError, Target};
use partition::{Batch, PartitionState};
use protocol::jobs::{Source, Task};

use crate::context::Stop;

/// Keeps a partition in memory, if it is not too large.
struct Bounded {
    sink: MemorySink,
    bytes: u64,
    bytes_max: u64,
}

/// Bytes of a pair in memory, about: the tree's own included.
fn weight(key: &Bytes, item: &Bytes) -> u64 {
    (key.len() + item.len() + 128) as u64
}

impl Bounded {
    fn check(&self) -> Result<(), SinkError> {
        match self.bytes <= self.bytes_max {
            true => Ok(()),
            false => Err(SinkError(format!(
                "it has more than {} bytes (archiver.jobs.rebuild_bytes_max)",
                self.bytes_max
            ))),
        }
    }
}

impl Sink for Bounded {
    fn begin(&mut self, state: &PartitionState) -> Result<(), SinkError> {
        self.bytes = 0;
        self.sink.begin(state)
    }

    fn load(&mut self, state: &PartitionState, pairs: Vec<Pair>) -> Result<(), SinkError> {
        self.bytes += pairs
            .iter()
            .map(|(key, item)| weight(key, item))
            .sum::<u64>();
        self.check()?;
        self.sink.load(state, pairs)
    }

    fn flush(&mut self, batch: &Batch) -> Result<(), SinkError> {
        for (key, item) in batch.items.iter() {
            let before = self.sink.items.get(key).map_or(0, |item| weight(key, item));
            let after = item.as_ref().map_or(0, |item| weight(key, item));
            self.bytes = (self.bytes + after).saturating_sub(before);
        }
        self.check()?;
        self.sink.flush(batch)
    }

    fn items(&mut self) -> Result<u64, SinkError> {
        self.sink.items()
    }
}

/// The items of a partition at a time.
pub(crate) struct Rebuilt {
    sink: MemorySink,
}

impl Rebuilt {
    /// Rebuilds what is wanted, if it takes at most so many bytes.
    pub(crate) async fn of(rebuild: Rebuild, bytes_max: u64) -> Result<Self, Stop> {
        let sink = Bounded {
            sink: MemorySink::default(),
            bytes: 0,
            bytes_max,
        };
        let (bounded, rebuilt) = rebuild.run(sink).await.map_err(|error| match error {
            RebuildError::Sink(error) => Stop::failed("PartitionTooLarge", error),
            error => error.into(),
        })?;
        for refusal in &rebuilt.damaged {
            tracing::error!(%refusal, "a damaged object of the archive was passed over");
        }
        Ok(Self { sink: bounded.sink })
    }

    /// The next items behind `after` (empty: from the start), about so many bytes; and whether these are the last.
    pub(crate) fn page(&self, after: &[u8], bytes_max: usize) -> (Vec<(Bytes, Bytes)>, bool) {
        let (mut pairs, mut bytes) = (Vec::new(), 0);
        let from = (Bound::Excluded(after), Bound::Unbounded);
        let table = self.sink.state.as_ref().map(|state| &state.table);
        let table = table.filter(|table| table.has_local_indexes());
        for (key, item) in self.sink.items.range::<[u8], _>(from) {
            // Entries of local indexes are made anew with their items.
            if table.is_some_and(|table| table.is_entry(key)) {
                continue;
            }
            bytes += key.len() + item.len();
            if bytes > bytes_max && !pairs.is_empty() {
                return (pairs, false);
            }
            pairs.push((key.clone(), item.clone()));
        }
        (pairs, true)
    }
}

impl Rebuilt {
    /// Whether keys have the form that a table with local secondary indexes has.
    pub(crate) fn has_local_indexes(&self) -> bool {
        let state = self.sink.state.as_ref();
        state.is_some_and(|state| state.table.has_local_indexes())
    }
}

/// The rebuild of a piece of a table at a time.
pub(crate) fn piece(reader: &ArchiveReader, source: &Source, task: &Task) -> Result<Rebuild, Stop> {
    let partition = archive::PartitionRef {
        table: crate::pieces::uuid_of(source)?,
        partition: task.partition,
    };
    let target = Target::Time(source.at_ms);
    Ok(Rebuild::new(reader.clone(), partition, target).only(task.range.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rebuilt(items: u8) -> Rebuilt {
        let mut sink = MemorySink::default();
        let pair = |n: u8| (Bytes::from(vec![n]), Bytes::from(vec![0; 9]));
        sink.items.extend((1..=items).map(pair));
        Rebuilt { sink }
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let rebuilt = rebuilt(5);
        let (mut after, mut found) = (Bytes::new(), Vec::new());
        loop {
            let (pairs, is_last) = rebuilt.page(&after, 20);
            found.extend(pairs.iter().map(|(key, _)| key[0]));
            if is_last {
                break;
            }
            assert_eq!(pairs.len(), 2);
            after = pairs[1].0.clone();
        }
        assert_eq!(found, [1, 2, 3, 4, 5]);
        assert_eq!(rebuilt.page(b"\x05", 20), (Vec::new(), true));
        // One item at least, however large.
        assert_eq!(rebuilt.page(b"", 1).0.len(), 1);
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let mut bounded = Bounded {
            sink: MemorySink::default(),
            bytes: 0,
            bytes_max: 2 * 138,
        };
        let batch = |pairs: &[(u8, bool)]| {
            let items = pairs.iter().map(|&(key, is_there)| {
                let item = is_there.then(|| Bytes::from(vec![0; 9]));
                (Bytes::from(vec![key]), item)
            });
            Batch {
                items: std::sync::Arc::new(items.collect()),
                state: PartitionState::empty(
                    paxos::Configuration::default(),
                    model::KeyRange::default(),
                    crate::lines::tests::table(model::table::ScalarType::S, None),
                    Vec::new(),
                ),
                marked: None,
            }
        };
        assert_eq!(bounded.flush(&batch(&[(1, true), (2, true)])), Ok(()));
        // Replaced, and one for another.
        assert_eq!(bounded.flush(&batch(&[(1, true)])), Ok(()));
        assert_eq!(bounded.flush(&batch(&[(1, false), (3, true)])), Ok(()));
        assert!(bounded.flush(&batch(&[(4, true)])).is_err());
    }
}
