//! A partition of the archive, rebuilt on disk to be read in key order. Owns how a rebuild keeps to its share of the room, and what is said when there is
//! none: the rebuild is deleted with it.

use std::sync::Arc;
use std::time::Duration;

use archive::snapshot::Pair;
use btree::{Pairs, Snapshot};
use objects::{ArchiveReader, Rebuild, RebuildError, Sink, SinkError, Target, TreeSink};
use parking_lot::Mutex;
use partition::ahead::LOOK_AHEAD_MS;
use partition::{Batch, PartitionState};
use protocol::jobs::{Source, Task};

use crate::context::Stop;
use crate::scratch::{Full, Scratch, Share};

/// So long, at most, is waited for the archive to hold the ends of transactions that were under way at a restore's point in time.
const ENDS_WAITED: Duration = Duration::from_millis(LOOK_AHEAD_MS);

/// A B-tree on disk that keeps to its share.
struct Bounded {
    // Deleted before its room is given back.
    tree: TreeSink,
    share: Share,
    /// Why it was full: told to whoever wanted the rebuild, who gets no sink back then.
    full: Arc<Mutex<Option<Full>>>,
}

impl Bounded {
    fn new(share: Share, full: Arc<Mutex<Option<Full>>>) -> Self {
        Self {
            tree: TreeSink::new(&share.folder()),
            share,
            full,
        }
    }

    fn check(&mut self) -> Result<(), SinkError> {
        self.share.takes(self.tree.disk_bytes()).map_err(|full| {
            *self.full.lock() = Some(full);
            SinkError("there is no room for it".to_owned())
        })
    }
}

impl Sink for Bounded {
    fn begin(&mut self, state: &PartitionState) -> Result<(), SinkError> {
        self.tree.begin(state)?;
        self.check()
    }

    fn load(&mut self, state: &PartitionState, pairs: Vec<Pair>) -> Result<(), SinkError> {
        self.tree.load(state, pairs)?;
        self.check()
    }

    fn flush(&mut self, batch: &Batch) -> Result<(), SinkError> {
        self.tree.flush(batch)?;
        self.check()
    }

    fn items(&mut self) -> Result<u64, SinkError> {
        self.tree.items()
    }
}

/// The items of a partition at a time.
pub(crate) struct Rebuilt {
    view: Arc<Snapshot>,
    _sink: Bounded,
}

impl Rebuilt {
    /// Rebuilds what is wanted.
    pub(crate) async fn of(rebuild: Rebuild, scratch: &Arc<Scratch>) -> Result<Self, Stop> {
        let full = Arc::new(Mutex::new(None));
        let sink = Bounded::new(scratch.share(), full.clone());
        let (sink, rebuilt) = rebuild
            .run(sink)
            .await
            .map_err(|error| match (error, *full.lock()) {
                (RebuildError::Sink(_), Some(Full::Alone)) => Stop::failed(
                    "PartitionTooLarge",
                    format!(
                        "A partition takes more than {} bytes when it is rebuilt (archiver.jobs.rebuild_bytes_max)",
                        scratch.bytes_max()
                    ),
                ),
                (RebuildError::Sink(_), Some(Full::Shared)) => Stop::Later(
                    "other rebuilds take the room (archiver.jobs.rebuild_bytes_max)".to_owned(),
                ),
                (RebuildError::Sink(error), None) => Stop::Later(error.to_string()),
                (error, _) => error.into(),
            })?;
        for refusal in &rebuilt.damaged {
            tracing::error!(%refusal, "a damaged object of the archive was passed over");
        }
        if !rebuilt.undecided.is_empty() {
            let items = rebuilt.undecided.len();
            tracing::warn!(
                items,
                "transactions of which the archive holds no end are left out"
            );
        }
        let view = sink.tree.snapshot();
        let view = view.map_err(|error| Stop::Later(error.to_string()))?;
        Ok(Self {
            view: Arc::new(view),
            _sink: sink,
        })
    }

    /// The next items behind `after` (empty: from the start), about so many bytes; and whether these are the last.
    pub(crate) async fn page(&self, after: &[u8], bytes_max: usize) -> Result<(Pairs, bool), Stop> {
        let (view, mut after) = (self.view.clone(), after.to_vec());
        let read = tokio::task::spawn_blocking(move || {
            let table = &view.state().table;
            loop {
                let from = (!after.is_empty()).then_some(&after[..]);
                let (mut pairs, is_last) = view.pairs(from, bytes_max)?;
                let last = pairs.last().map(|(key, _)| key.to_vec());
                // Entries of local indexes are made anew with their items. A page may hold nothing else.
                pairs.retain(|(key, _)| !table.is_entry(key));
                match last {
                    Some(last) if pairs.is_empty() && !is_last => after = last,
                    _ => return Ok::<_, btree::TreeError>((pairs, is_last)),
                }
            }
        });
        let read = read.await.map_err(|error| Stop::Later(error.to_string()))?;
        read.map_err(|error| Stop::Later(error.to_string()))
    }
}

impl Rebuilt {
    /// Whether keys have the form that a table with local secondary indexes has.
    pub(crate) fn has_local_indexes(&self) -> bool {
        self.view.state().table.has_local_indexes()
    }
}

/// The rebuild of a piece of a table at a time.
pub(crate) fn piece(reader: &ArchiveReader, source: &Source, task: &Task) -> Result<Rebuild, Stop> {
    let partition = archive::PartitionRef {
        table: crate::pieces::uuid_of(source)?,
        partition: task.partition,
    };
    let target = Target::Time(source.at_ms);
    let rebuild = Rebuild::new(reader.clone(), partition, target);
    Ok(rebuild.only(task.range.clone()).patient(ENDS_WAITED))
}

#[cfg(test)]
mod tests {
    use btree::fixtures::{batch, fill, item, state};
    use bytes::Bytes;
    use model::index::{IndexDefinition, IndexKeys, IndexProjection, IndexScope};
    use model::{IndexId, key};

    use super::*;

    fn filled(scratch: &Arc<Scratch>, items: u64) -> (Bounded, Result<(), SinkError>) {
        let mut sink = Bounded::new(scratch.share(), Arc::default());
        sink.begin(&state(0)).unwrap();
        let flushed = sink.flush(&batch(1, fill(0, items, 1_000)));
        (sink, flushed)
    }

    #[tokio::test]
    async fn pages_follow_each_other_to_the_end_and_nothing_is_left() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(parent.path(), 1 << 30).unwrap();
        let (sink, flushed) = filled(&scratch, 5);
        flushed.unwrap();
        let folder = sink.share.folder();
        let rebuilt = Rebuilt {
            view: Arc::new(sink.tree.snapshot().unwrap()),
            _sink: sink,
        };
        let (mut after, mut found) = (Vec::new(), 0);
        loop {
            let (pairs, is_last) = rebuilt.page(&after, 2_200).await.unwrap();
            found += pairs.len();
            if is_last {
                break;
            }
            assert_eq!(pairs.len(), 2);
            after = pairs[1].0.to_vec();
        }
        assert_eq!(found, 5);
        // One item at least, however large.
        assert_eq!(rebuilt.page(b"", 1).await.unwrap().0.len(), 1);
        assert!(folder.exists());
        drop(rebuilt);
        assert!(!folder.exists());
    }

    /// A key within an item collection: of an item (slot 0), or an entry of a local index.
    fn place(collection: u8, slot: u8, number: u8) -> Bytes {
        let mut place = vec![collection; key::COLLECTION_BYTES];
        place.extend([slot, number]);
        place.into()
    }

    #[tokio::test]
    async fn entries_of_local_indexes_fill_no_page_and_end_none() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(parent.path(), 1 << 30).unwrap();
        let mut indexed = state(1);
        indexed.table.indexes = vec![IndexDefinition {
            id: IndexId(1),
            name: "by-year".into(),
            scope: IndexScope::Local,
            keys: IndexKeys::default(),
            projection: IndexProjection::All,
        }];
        let mut content = std::collections::BTreeMap::new();
        let items = [place(1, 0, 0), place(2, 0, 0), place(2, 0, 1)];
        content.extend(items.iter().map(|key| (key.clone(), Some(item(500)))));
        // Many pages of nothing else, between items and at the end.
        for collection in [1, 2] {
            let entries = (0..30).map(|number| (place(collection, 1, number), Some(item(500))));
            content.extend(entries);
        }
        let mut sink = Bounded::new(scratch.share(), Arc::default());
        sink.begin(&indexed).unwrap();
        let batch = Batch {
            state: indexed,
            items: Arc::new(content),
            marked: None,
        };
        sink.flush(&batch).unwrap();
        assert_eq!(sink.items(), Ok(3));
        let rebuilt = Rebuilt {
            view: Arc::new(sink.tree.snapshot().unwrap()),
            _sink: sink,
        };
        for bytes_max in [1, 1_200, 1 << 20] {
            let (mut after, mut found) = (Vec::new(), Vec::new());
            for _ in 0..10 {
                let (pairs, is_last) = rebuilt.page(&after, bytes_max).await.unwrap();
                found.extend(pairs.into_iter().map(|(key, _)| key));
                if is_last {
                    break;
                }
                let last = found.last().unwrap().to_vec();
                assert_ne!(
                    last, after,
                    "a page that says that there is more gets further"
                );
                after = last;
            }
            assert_eq!(found, items, "{bytes_max} bytes a page");
        }
    }

    #[test]
    fn a_rebuild_keeps_to_the_room_on_disk() {
        let parent = tempfile::tempdir().unwrap();
        let plenty = Scratch::open(parent.path(), 1 << 30).unwrap();
        let takes = filled(&plenty, 500).0.tree.disk_bytes();
        let scratch = Scratch::open(parent.path(), takes + takes / 2).unwrap();
        let (one, flushed) = filled(&scratch, 500);
        assert_eq!(flushed, Ok(()));
        let (other, flushed) = filled(&scratch, 500);
        assert!(flushed.is_err());
        assert_eq!(*other.full.lock(), Some(Full::Shared));
        drop(one);
        drop(other);
        assert_eq!(filled(&scratch, 500).1, Ok(()));
        let (alone, flushed) = filled(&scratch, 2_000);
        assert!(flushed.is_err());
        assert_eq!(*alone.full.lock(), Some(Full::Alone));
    }
}
