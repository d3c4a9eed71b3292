//! The shards of a stream, put together from what the table's partitions say of themselves and their ancestors. Pure.

use std::collections::BTreeMap;

use model::KeyRange;
use model::stream::{STREAM_KEPT_MS, Stream};
use protocol::changes::{ChangesReply, GroupId, Index};

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    /// Its partition, which names it.
    pub(super) partition: GroupId,
    /// The shard that its partition was split off from.
    pub(super) parent: Option<GroupId>,
    /// Keys of its partition.
    pub(super) range: KeyRange,
    /// Its changes lie behind this position …
    pub(super) begins: Index,
    /// … up to this one; none: it is open.
    pub(super) ends: Option<Index>,
    /// Where the log of the partition that has its newest changes is.
    pub(super) applied: Index,
    /// Changes up to this position are gone.
    pub(super) trimmed: Index,
}

/// All shards of a stream that are open or may have changes at `now_ms`, in the order of their partitions' numbers (parents come before their
/// children).
pub(super) fn shards(stream: &Stream, partitions: &[ChangesReply], now_ms: u64) -> Vec<Shard> {
    let mut shards = BTreeMap::new();
    for reply in partitions {
        // Oldest first; each begins when the one before ended.
        let (mut began_ms, mut parent) = (0, None);
        let within = |began_ms: u64| stream.ended_ms.is_none_or(|ended_ms| began_ms < ended_ms);
        for ancestor in &reply.lineage {
            let held = ancestor.ended_ms >= stream.created_ms
                && ancestor.ended_ms + STREAM_KEPT_MS > now_ms
                && within(began_ms);
            if held {
                let shard = Shard {
                    partition: ancestor.partition,
                    parent,
                    range: ancestor.range.clone(),
                    begins: ancestor.begins,
                    ends: Some(ancestor.ends),
                    applied: ancestor.ends,
                    trimmed: reply.trimmed,
                };
                // What is trimmed for one descendant may not be for another.
                shards
                    .entry(ancestor.partition)
                    .and_modify(|known: &mut Shard| {
                        known.trimmed = known.trimmed.max(reply.trimmed)
                    })
                    .or_insert(shard);
                parent = Some(ancestor.partition);
            }
            began_ms = ancestor.ended_ms;
        }
        if within(began_ms) {
            let own = Shard {
                partition: reply.partition,
                parent,
                range: reply.range.clone(),
                begins: reply.begins,
                ends: stream.ended_ms.map(|_| reply.applied),
                applied: reply.applied,
                trimmed: reply.trimmed,
            };
            shards.insert(reply.partition, own);
        }
    }
    shards.into_values().collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::stream::StreamViewType;
    use protocol::changes::Ancestor;

    use super::*;

    const STREAM: Stream = Stream {
        created_ms: 1_000,
        view: StreamViewType::KeysOnly,
        ended_ms: None,
    };

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange {
            start: Bytes::from_static(start.as_bytes()),
            end: Bytes::from_static(end.as_bytes()),
        }
    }

    fn ancestor(partition: u64, begins: u64, ends: u64, ended_ms: u64) -> Ancestor {
        Ancestor {
            partition: GroupId(partition),
            range: range("a", "z"),
            begins,
            ends,
            ended_ms,
        }
    }

    fn leaf(partition: u64, begins: u64, lineage: &[Ancestor]) -> ChangesReply {
        ChangesReply {
            partition: GroupId(partition),
            range: range("a", "m"),
            begins,
            applied: begins + 100,
            lineage: lineage.to_vec(),
            ..ChangesReply::default()
        }
    }

    #[test]
    fn parents_come_once_and_are_named_by_their_children() {
        let root = ancestor(1, 0, 50, 2_000);
        let left = ancestor(2, 50, 90, 3_000);
        let leaves = [
            leaf(4, 90, &[root.clone(), left.clone()]),
            leaf(5, 90, &[root.clone(), left]),
            leaf(3, 50, &[root]),
        ];
        let found = shards(&STREAM, &leaves, 4_000);
        let shown: Vec<_> = found
            .iter()
            .map(|s| (s.partition.0, s.parent.map(|p| p.0), s.ends))
            .collect();
        let expected = [
            (1, None, Some(50)),
            (2, Some(1), Some(90)),
            (3, Some(1), None),
            (4, Some(2), None),
            (5, Some(2), None),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn partitions_of_before_the_stream_or_behind_it_or_of_a_day_ago_are_no_shards() {
        let leaves = [leaf(2, 50, &[ancestor(1, 0, 50, 999)])];
        let found = shards(&STREAM, &leaves, 4_000);
        assert_eq!((found.len(), found[0].parent), (1, None));
        let leaves = [leaf(2, 50, &[ancestor(1, 0, 50, 5_000)])];
        assert_eq!(shards(&STREAM, &leaves, 6_000).len(), 2);
        let much_later = 5_000 + STREAM_KEPT_MS;
        assert_eq!(shards(&STREAM, &leaves, much_later).len(), 1);
        let ended = Stream {
            ended_ms: Some(4_500),
            ..STREAM
        };
        let found = shards(&ended, &leaves, 6_000);
        assert_eq!((found.len(), found[0].partition), (1, GroupId(1)));
        let leaves = [leaf(1, 0, &[])];
        let found = shards(&ended, &leaves, 6_000);
        assert_eq!(found[0].ends, Some(100), "closed where it is");
    }
}
