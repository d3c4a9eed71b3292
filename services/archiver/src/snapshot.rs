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
