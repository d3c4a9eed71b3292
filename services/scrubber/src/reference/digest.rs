//! The digest of a reference replica: a rebuild from the archive, in a B-tree on disk, is read like a replica of any size.

use bytes::Bytes;
use objects::{SinkError, TreeSink};
use protocol::scrub::Bucket;
use scrub::Digester;

/// Read at a time, bytes.
const PART_BYTES: usize = 1 << 20;

/// The digest of what was rebuilt. Blocks.
pub(crate) fn digest(sink: &TreeSink) -> Result<Vec<Bucket>, SinkError> {
    let snapshot = sink.snapshot()?;
    let mut digester = Digester::default();
    let mut after: Option<Bytes> = None;
    loop {
        let read = snapshot.pairs(after.as_deref(), PART_BYTES);
        let (pairs, is_last) = read.map_err(|error| SinkError(error.to_string()))?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use btree::fixtures::{batch, fill, item, key, state};
    use objects::Sink as _;
    use partition::Batch;

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
        assert_eq!(digest(&sink).unwrap(), digester.finish());
        drop(sink);
        assert!(!folder.exists());
    }
}
