//! A partition of the archive, rebuilt to be read in key order.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use objects::{ArchiveReader, MemorySink, Rebuild, Target};
use protocol::jobs::{Source, Task};

use crate::context::Stop;

/// The items of a partition at a time.
pub(crate) struct Rebuilt {
    sink: Arc<MemorySink>,
}

impl Rebuilt {
    /// Rebuilds what is wanted.
    pub(crate) async fn of(rebuild: Rebuild) -> Result<Self, Stop> {
        let (sink, rebuilt) = rebuild.run(MemorySink::default()).await?;
        for refusal in &rebuilt.damaged {
            tracing::error!(%refusal, "a damaged object of the archive was passed over");
        }
        Ok(Self {
            sink: Arc::new(sink),
        })
    }

    /// The next items behind `after` (empty: from the start), about so many bytes; and whether these are the last.
    pub(crate) async fn page(
        &self,
        after: &[u8],
        bytes_max: usize,
    ) -> Result<(Vec<(Bytes, Bytes)>, bool), Stop> {
        let (mut pairs, mut bytes) = (Vec::new(), 0);
        let from = (Bound::Excluded(after), Bound::Unbounded);
        for (key, item) in self.sink.items.range::<[u8], _>(from) {
            bytes += key.len() + item.len();
            if bytes > bytes_max && !pairs.is_empty() {
                return Ok((pairs, false));
            }
            pairs.push((key.clone(), item.clone()));
        }
        Ok((pairs, true))
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
