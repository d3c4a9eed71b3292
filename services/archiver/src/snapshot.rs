//! Snapshots of partitions: a full copy of a replica's B-tree, as nodes pull them from each other, in parts to the store. Owns the pulling, its pace and
//! its checks. The copy stands for one position; nothing counts before the manifest, which is written last.

use std::time::{Duration, Instant};

use archive::snapshot::{Pair, Part};
use archive::{PartitionRef, SnapshotManifest, Tail};
use partition::change::is_change_key;
use partition::{PartitionState, Transactions};
use paxos::{Index, NodeId};
use protocol::replication::{CopyChunk, CopyEnd, CopyRequest, chunk_crc};

use crate::desk::Desk;
use crate::source::SourceError;
use crate::trouble::Trouble;

/// Attempts to get one chunk.
const TRIES_MAX: u32 = 5;
/// Pause between them.
const PAUSE: Duration = Duration::from_millis(500);
/// Copies are asked for in the name of a node with this number and the instance's: no storage node has it.
const COPIER: u64 = 1 << 48;

/// Takes a snapshot of a partition from a node's replica: how many bytes its parts have.
pub(crate) async fn take(
    desk: &Desk,
    partition: &PartitionRef,
    node: NodeId,
) -> Result<u64, Trouble> {
    let mut copy = Copying {
        desk,
        partition,
        applied: 0,
        pairs: Vec::new(),
        pair_bytes: 0,
        parts: Vec::new(),
    };
    let (mut session, mut number) = (0, 0);
    let end = loop {
        let request = CopyRequest {
            group: partition.partition,
            to: NodeId(COPIER + desk.settings.instance),
            session,
            chunk: number,
        };
        let chunk = chunk(desk, node, &request).await?;
        (session, number) = (chunk.session, number + 1);
        if chunk.applied == 0 || (copy.applied > 0 && chunk.applied != copy.applied) {
            return Err(unfit("the copy does not say what position it stands for"));
        }
        copy.applied = chunk.applied;
        let end = chunk.end.clone();
        if end.is_none() && chunk.pairs.is_empty() {
            return Err(unfit("an empty chunk"));
        }
        copy.add(chunk.pairs).await?;
        if let Some(end) = end {
            break end;
        }
    };
    copy.finish(&end).await
}

/// One chunk; damaged ones are asked for again.
async fn chunk(desk: &Desk, node: NodeId, request: &CopyRequest) -> Result<CopyChunk, Trouble> {
    let mut why = SourceError::Silent("not asked".to_owned());
    for tried in 0..TRIES_MAX {
        if tried > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        match desk.source.copy(node, request).await {
            Ok(chunk) if chunk.expired => return Err(unfit("the session is gone")),
            Ok(chunk) if chunk_crc(&chunk.pairs) != chunk.crc32c => {
                why = SourceError::Silent(format!("checksum of chunk {}", request.chunk));
            }
            Ok(chunk) => {
                pace(desk, &chunk).await;
                return Ok(chunk);
            }
            Err(error) => why = error,
        }
    }
    Err(why.into())
}

/// Waits for as long as the rate of snapshots asks for.
async fn pace(desk: &Desk, chunk: &CopyChunk) {
    let bytes: usize = chunk
        .pairs
        .iter()
        .map(|(key, item)| key.len() + item.len())
        .sum();
    let rate = desk.settings.snapshot_bytes_per_second.max(1);
    let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
    let until = {
        let mut at = desk.snapshot_at.lock().await;
        *at = (*at).max(Instant::now()) + cost;
        *at
    };
    tokio::time::sleep_until(until.into()).await;
}

struct Copying<'a> {
    desk: &'a Desk,
    partition: &'a PartitionRef,
    applied: Index,
    pairs: Vec<Pair>,
    pair_bytes: usize,
    parts: Vec<Part>,
}

impl Copying<'_> {
    async fn add(&mut self, pairs: Vec<Pair>) -> Result<(), Trouble> {
        for pair in pairs {
            if is_change_key(&pair.0) {
                // The archive holds items; streams begin anew with what is restored from it.
                continue;
            }
            self.pair_bytes += pair.0.len() + pair.1.len();
            self.pairs.push(pair);
            if self.pair_bytes >= self.desk.settings.snapshot_part_bytes {
                self.close_part().await?;
            }
        }
        Ok(())
    }

    async fn close_part(&mut self) -> Result<(), Trouble> {
        if self.pairs.is_empty() {
            return Ok(());
        }
        let number = self.parts.len() as u32;
        let writer = &self.desk.writer;
        let part = writer
            .part(self.partition, self.applied, number, &self.pairs)
            .await?;
        self.parts.push(part);
        self.pairs.clear();
        self.pair_bytes = 0;
        Ok(())
    }

    async fn finish(mut self, end: &CopyEnd) -> Result<u64, Trouble> {
        self.close_part().await?;
        let pairs: u64 = self.parts.iter().map(|part| part.pairs).sum();
        let items = end.items.unwrap_or(pairs);
        let entries = pairs.checked_sub(items);
        let entries = entries.filter(|entries| match end.entries {
            Some(expected) => *entries == expected,
            // An older sender. Without local indexes there are none.
            None => *entries == 0 || end.table.has_local_indexes(),
        });
        let Some(entries) = entries.filter(|_| end.applied == self.applied) else {
            return Err(unfit("the copy is not whole"));
        };
        let transactions = Transactions::decode(&end.transactions);
        let transactions = transactions.map_err(|why| unfit(&why))?;
        let state = PartitionState {
            applied: end.applied,
            ballot: end.ballot,
            items,
            entries,
            bytes: end.bytes,
            time_ms: end.time_ms,
            begins: end.begins,
            parent: end.parent,
            split: end.split.clone(),
            transactions,
            ..PartitionState::empty(
                end.configuration.clone(),
                end.range.clone(),
                end.table.clone(),
                end.members.clone(),
            )
        };
        let tail = Tail {
            index: end.applied,
            ballot: end.ballot,
            time_ms: end.time_ms,
            generation: end.configuration.generation,
            split: None,
        };
        let bytes = self.parts.iter().map(|part| part.bytes).sum();
        let manifest = SnapshotManifest::of(self.partition, &state, &tail, self.parts);
        self.desk.writer.snapshot(&manifest).await?;
        Ok(bytes)
    }
}

fn unfit(what: &str) -> Trouble {
    SourceError::Unavailable(what.to_owned()).into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::index::{IndexDefinition, IndexKeys, IndexProjection, IndexScope};
    use model::key::table_range;
    use model::{IndexId, TableDefinition};

    use super::*;
    use crate::world::{World, definition, key, partition};

    const APPLIED: Index = 12;

    /// The end of a copy that says to have so many items, and entries of local indexes.
    fn end(items: Option<u64>, entries: Option<u64>) -> CopyEnd {
        CopyEnd {
            applied: APPLIED,
            ballot: Default::default(),
            configuration: Default::default(),
            range: table_range(definition().id),
            table: definition(),
            members: Vec::new(),
            items,
            entries,
            bytes: 40,
            time_ms: 5_000,
            begins: 0,
            backfills: Vec::new(),
            sources: Vec::new(),
            changes: Default::default(),
            parent: None,
            split: None,
            transactions: Bytes::new(),
        }
    }

    fn indexed(end: CopyEnd) -> CopyEnd {
        let local = IndexDefinition {
            id: IndexId(1),
            name: "by-year".into(),
            scope: IndexScope::Local,
            keys: IndexKeys::default(),
            projection: IndexProjection::All,
        };
        let table = TableDefinition {
            indexes: vec![local],
            ..end.table
        };
        CopyEnd { table, ..end }
    }

    /// What became of a copy of five pairs: items and entries of the snapshot in the store, if there is one.
    async fn finish(end: CopyEnd) -> Result<(u64, u64), String> {
        let (world, partition) = (World::new().await, partition());
        let desk = world.instance(1, 1);
        let mut copy = Copying {
            desk: &desk,
            partition: &partition,
            applied: APPLIED,
            pairs: Vec::new(),
            pair_bytes: 0,
            parts: Vec::new(),
        };
        let pair = |n| (key(n), Bytes::from_static(b"item"));
        copy.add((0..5).map(pair).collect()).await.unwrap();
        let finished = copy.finish(&end).await;
        let reader = &desk.reader;
        let found = reader.snapshots(&partition).await.unwrap();
        match finished {
            Ok(bytes) => {
                let manifest = reader.snapshot(&partition, &found[0]).await.unwrap();
                let parts = manifest.parts.iter();
                assert_eq!(bytes, parts.map(|part| part.bytes).sum::<u64>());
                Ok((manifest.items, manifest.entries))
            }
            Err(trouble) => {
                assert!(found.is_empty(), "nothing counts");
                Err(trouble.to_string())
            }
        }
    }

    #[tokio::test]
    async fn a_copy_counts_if_its_items_and_entries_are_what_its_end_says() {
        let not_whole = Err("the copy is not whole".to_owned());
        assert_eq!(finish(end(Some(5), Some(0))).await, Ok((5, 0)));
        assert_eq!(finish(indexed(end(Some(3), Some(2)))).await, Ok((3, 2)));
        let wrong = [(4, 0), (5, 1), (3, 1), (2, 2), (6, 0), (6, u64::MAX)];
        for (items, entries) in wrong {
            let end = indexed(end(Some(items), Some(entries)));
            assert_eq!(finish(end).await, not_whole, "{items} and {entries}");
        }
    }

    #[tokio::test]
    async fn an_older_senders_copy_has_entries_only_with_local_indexes() {
        let not_whole = Err("the copy is not whole".to_owned());
        assert_eq!(finish(end(Some(5), None)).await, Ok((5, 0)));
        assert_eq!(finish(end(None, None)).await, Ok((5, 0)));
        assert_eq!(finish(indexed(end(Some(3), None))).await, Ok((3, 2)));
        for items in [3, 6] {
            assert_eq!(finish(end(Some(items), None)).await, not_whole);
        }
    }

    #[tokio::test]
    async fn a_copy_of_another_position_does_not_count() {
        let other = CopyEnd {
            applied: APPLIED + 1,
            ..end(Some(5), Some(0))
        };
        let not_whole = Err("the copy is not whole".to_owned());
        assert_eq!(finish(other).await, not_whole);
    }
}
