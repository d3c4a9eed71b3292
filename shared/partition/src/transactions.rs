//! What a partition knows of transactions (ADR 0010): outcomes that are pending on its items, and which transactions have ended
//! lately. A part of the partition's state, changed by log entries only, so all replicas agree. Never evaluates a write.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{EncodedKey, KeyRange};
use protocol::transact::{Settle, TransactionId, TransactionRef};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A transaction's timestamp may be so far ahead of the log's time, milliseconds: clocks of routers and storage nodes differ.
pub const AHEAD_MS_MAX: u64 = 5_000;
/// A `Prepare` comes at most so long after its transaction's timestamp, milliseconds: longer than a leader takes to be replaced.
pub const AGE_MS_MAX: u64 = 10_000;
/// Pending items a partition.
pub const PENDING_MAX: usize = 4_096;
/// Bytes of pending items a partition: the state is written whole with each flush.
pub const PENDING_BYTES_MAX: usize = 8 << 20;
/// Ended transactions that are remembered one by one: those of ten seconds at the pace of a partition's write units.
pub const FINISHED_MAX: usize = 2_048;

/// What a transaction will do to an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing: it was only checked.
    Keep,
    /// Set it.
    Put(Bytes),
    /// Remove it.
    Delete,
}

/// The command `Prepare`, and what is kept of it until the end of its transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// The item.
    #[serde(rename = "k")]
    pub key: EncodedKey,
    /// The transaction.
    #[serde(rename = "x")]
    pub transaction: TransactionRef,
    /// What a commit does.
    #[serde(rename = "o")]
    pub outcome: Outcome,
    /// Size of the item before, bytes, 0 = absent.
    #[serde(rename = "b")]
    pub old_size_bytes: u64,
    /// Size of the item after a commit, bytes, 0 = absent.
    #[serde(rename = "a")]
    pub new_size_bytes: u64,
    /// When it was prepared, milliseconds since the epoch. Set where it is applied.
    #[serde(rename = "s", default)]
    pub since_ms: u64,
}

impl Prepared {
    fn bytes(&self) -> usize {
        let item = match &self.outcome {
            Outcome::Put(item) => item.len(),
            Outcome::Keep | Outcome::Delete => 0,
        };
        self.key.len() + self.transaction.record.len() + item + 128
    }
}

/// Pending and ended transactions of one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transactions {
    pending: BTreeMap<EncodedKey, Prepared>,
    pending_bytes: usize,
    /// Timestamps of transactions that ended here.
    finished: BTreeMap<TransactionId, u64>,
    /// No transaction with this timestamp or an earlier one is let in.
    floor_ms: u64,
}

/// The stored form; lists, which every encoding can hold.
#[derive(Default, Serialize, Deserialize)]
struct Stored {
    #[serde(default)]
    pending: Vec<Prepared>,
    #[serde(default)]
    finished: Vec<(TransactionId, u64)>,
    #[serde(default)]
    floor_ms: u64,
}

impl Serialize for Transactions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = Stored {
            pending: self.pending.values().cloned().collect(),
            finished: self.finished.iter().map(|(id, at)| (*id, *at)).collect(),
            floor_ms: self.floor_ms,
        };
        stored.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Transactions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        Ok(Self {
            pending_bytes: stored.pending.iter().map(Prepared::bytes).sum(),
            pending: stored
                .pending
                .into_iter()
                .map(|prepared| (prepared.key.clone(), prepared))
                .collect(),
            finished: stored.finished.into_iter().collect(),
            floor_ms: stored.floor_ms,
        })
    }
}

impl Transactions {
    /// For a copy; empty if there is nothing to know.
    pub fn encode(&self) -> Bytes {
        if self.is_empty() {
            return Bytes::new();
        }
        // Lists of numbers and bytes: nothing that could fail.
        rmp_serde::to_vec_named(self).unwrap_or_default().into()
    }

    /// What `encode` wrote.
    ///
    /// # Errors
    /// Says why it is something else.
    pub fn decode(encoded: &[u8]) -> Result<Self, String> {
        match encoded {
            [] => Ok(Self::default()),
            encoded => rmp_serde::from_slice(encoded).map_err(|error| error.to_string()),
        }
    }

    /// Whether there is nothing to know.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.finished.is_empty() && self.floor_ms == 0
    }

    /// What is pending on an item.
    pub fn pending(&self, key: &[u8]) -> Option<&Prepared> {
        // Nearly always there is none at all.
        if self.pending.is_empty() {
            return None;
        }
        self.pending.get(key)
    }

    /// Everything that is pending, in the order of the keys.
    pub fn all_pending(&self) -> impl Iterator<Item = &Prepared> {
        self.pending.values()
    }

    /// Without what is known of ended transactions: all that a rebuild has to know.
    pub fn only_pending(&self) -> Self {
        Self {
            pending: self.pending.clone(),
            pending_bytes: self.pending_bytes,
            ..Self::default()
        }
    }

    /// How many items have something pending.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// Whether no more can be pending.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_MAX || self.pending_bytes >= PENDING_BYTES_MAX
    }

    /// Items on which something has been pending since before this time, milliseconds since the epoch.
    pub fn stalled(&self, before_ms: u64) -> impl Iterator<Item = &Prepared> {
        let pending = self.pending.values();
        pending.filter(move |prepared| prepared.since_ms < before_ms)
    }

    /// Whether a `Prepare` of this transaction may be let in at this time of the log, as far as time and the past are concerned: only if it
    /// can't be one that comes late.
    pub fn admits(&self, transaction: &TransactionRef, now_ms: u64) -> bool {
        let at = transaction.timestamp_ms;
        at <= now_ms.saturating_add(AHEAD_MS_MAX)
            && is_timely(at, now_ms)
            && at > self.floor_ms
            && !self.has_finished(transaction.id)
    }

    /// Whether this transaction is remembered to have ended here.
    pub fn has_finished(&self, id: TransactionId) -> bool {
        self.finished.contains_key(&id)
    }

    /// Applies a `Prepare` whose command has this time.
    pub(crate) fn prepare(&mut self, prepared: Prepared, time_ms: u64) {
        let prepared = Prepared {
            since_ms: time_ms,
            ..prepared
        };
        self.pending_bytes += prepared.bytes();
        if let Some(old) = self.pending.insert(prepared.key.clone(), prepared) {
            self.pending_bytes -= old.bytes();
        }
    }

    /// Applies a `Finish`; `time_ms`: the log's time then.
    pub(crate) fn finish(&mut self, settle: &Settle, time_ms: u64) {
        let ours = |prepared: &Prepared| prepared.transaction.id == settle.id;
        if self.pending.get(&settle.key).is_some_and(ours)
            && let Some(ended) = self.pending.remove(&settle.key)
        {
            self.pending_bytes -= ended.bytes();
        }
        self.finished.insert(settle.id, settle.timestamp_ms);
        if self.finished.len() > FINISHED_MAX {
            self.forget(time_ms);
        }
    }

    /// Forgets what need not be known any more; if that is not a quarter of it, the oldest, which raises the floor.
    fn forget(&mut self, time_ms: u64) {
        self.finished.retain(|_, at| is_timely(*at, time_ms));
        if self.finished.len() > FINISHED_MAX / 4 * 3 {
            let mut times: Vec<u64> = self.finished.values().copied().collect();
            times.sort_unstable();
            self.floor_ms = self.floor_ms.max(times[times.len() - FINISHED_MAX / 4 * 3]);
            let floor_ms = self.floor_ms;
            self.finished.retain(|_, at| *at > floor_ms);
        }
    }

    /// What a child of a split with this range begins with.
    pub(crate) fn within(&self, range: &KeyRange) -> Self {
        let pending = self.pending.iter().filter(|(key, _)| range.contains(key));
        let pending: BTreeMap<_, _> = pending.map(|(k, p)| (k.clone(), p.clone())).collect();
        Self {
            pending_bytes: pending.values().map(Prepared::bytes).sum(),
            pending,
            ..self.clone()
        }
    }
}

/// Whether a transaction with this timestamp may still be prepared at this time of the log.
pub(crate) fn is_timely(timestamp_ms: u64, now_ms: u64) -> bool {
    now_ms <= timestamp_ms.saturating_add(AGE_MS_MAX)
}

/// Positions of the latest writes by hash of their keys, at a leader that was asked for transactional reads: so it can tell that an item was
/// not written since. Takes what it can't tell for written.
#[derive(Debug)]
pub(crate) struct LatestWrites {
    /// Nothing is known of positions below.
    since: u64,
    slots: Box<[u64; SLOTS]>,
}

/// A write to another key looks like one to this key once in so many times.
const SLOTS: usize = 1_024;

impl LatestWrites {
    pub(crate) fn new(applied: u64) -> Self {
        Self {
            since: applied,
            slots: Box::new([0; SLOTS]),
        }
    }

    pub(crate) fn note(&mut self, key: &[u8], index: u64) {
        self.slots[slot(key)] = index;
    }

    /// Whether the item was certainly not written behind this position.
    pub(crate) fn unchanged(&self, key: &[u8], since: u64) -> bool {
        since >= self.since && self.slots[slot(key)] <= since
    }
}

/// FNV-1a.
fn slot(key: &[u8]) -> usize {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 32) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(number: u64, timestamp_ms: u64) -> TransactionRef {
        TransactionRef {
            id: TransactionId(number, 0),
            record: Bytes::from_static(b"r"),
            timestamp_ms,
        }
    }

    fn end(number: u64, timestamp_ms: u64) -> Settle {
        Settle {
            key: Bytes::from_static(b"k"),
            id: TransactionId(number, 0),
            timestamp_ms,
            commit_ms: 0,
        }
    }

    #[test]
    fn clocks_too_far_ahead_and_prepares_that_are_too_old_are_not_let_in() {
        let known = Transactions::default();
        let now = 1_000_000;
        assert!(known.admits(&transaction(1, now + AHEAD_MS_MAX), now));
        assert!(!known.admits(&transaction(1, now + AHEAD_MS_MAX + 1), now));
        assert!(known.admits(&transaction(1, now - AGE_MS_MAX), now));
        assert!(!known.admits(&transaction(1, now - AGE_MS_MAX - 1), now));
    }

    #[test]
    fn whatever_is_forgotten_of_ended_transactions_none_is_let_in_again() {
        let mut known = Transactions::default();
        let mut ended = Vec::new();
        for number in 0..10_000_u64 {
            // Ten a millisecond at first, then one.
            let now = 1_000_000 + if number < 5_000 { number / 10 } else { number };
            let at = now - number % 3;
            known.finish(&end(number, at), now);
            ended.push((number, at));
            assert!(known.finished.len() <= FINISHED_MAX);
            if number % 500 == 0 {
                for (number, at) in &ended {
                    assert!(!known.admits(&transaction(*number, *at), now), "{number}");
                }
            }
        }
        assert!(known.admits(&transaction(10_001, 1_010_001), 1_010_001));
    }

    #[test]
    fn an_unknown_past_counts_as_written() {
        let mut latest = LatestWrites::new(10);
        assert!(!latest.unchanged(b"a", 9));
        assert!(latest.unchanged(b"a", 10));
        latest.note(b"a", 11);
        assert!(!latest.unchanged(b"a", 10));
        assert!(latest.unchanged(b"a", 11));
    }
}
