//! What services note of their work, and the bounded ring that holds it for some seconds. Records are small, of fixed size, and made
//! without an allocation; what they become is `keeping`'s.

use std::collections::VecDeque;
use std::sync::Arc;

use mesh::TraceContext;

use super::filter::{Filter, Name};

/// A router's (or any caller's) request to a storage node.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The trace, and the span that the call is for.
    pub context: TraceContext,
    /// Its own span id: what the node's span has as parent.
    pub span_id: u64,
    /// When it was sent, Unix nanoseconds.
    pub start_ns: u64,
    /// When its answer came.
    pub end_ns: u64,
    /// The node that was asked.
    pub node: u64,
    /// The node that passed the call on; 0 = none.
    pub via: u64,
    /// The partition.
    pub partition: u64,
    /// How it ended: `ok`, or what kept it from that.
    pub outcome: &'static str,
}

/// A lookup that a request caused. Lookups share messages and nobody may wait for them.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// The trace, and the span that caused it.
    pub context: TraceContext,
    /// When it was queued, Unix nanoseconds.
    pub start_ns: u64,
    /// When its message was sent.
    pub sent_ns: u64,
    /// When the answer came.
    pub end_ns: u64,
    /// The memds node.
    pub memds: u64,
    /// Number of the message.
    pub message: u64,
    /// Lookups in that message.
    pub shared: u32,
    /// Of a partition, not of a table.
    pub of_partition: bool,
    /// The request waited for it.
    pub waited: bool,
    /// There was an answer.
    pub answered: bool,
}

/// A memds node answered a message of lookups.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Number of the message.
    pub message: u64,
    /// When it came, Unix nanoseconds.
    pub start_ns: u64,
    /// When it was answered.
    pub end_ns: u64,
    /// Lookups in it.
    pub lookups: u32,
}

/// A storage node served an item request.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// The trace, and the call's span.
    pub context: TraceContext,
    /// When it came off the bus, Unix nanoseconds.
    pub received_ns: u64,
    /// When its evaluation began.
    pub evaluated_ns: u64,
    /// When its entry was committed; 0 = it wrote none.
    pub committed_ns: u64,
    /// When it was answered.
    pub end_ns: u64,
    /// The node.
    pub node: u64,
    /// The partition.
    pub partition: u64,
    /// Its entry in the partition's log; 0 = none.
    pub index: u64,
    /// What was asked for: `Get`, `Write`, `Page`.
    pub operation: &'static str,
    /// How it ended.
    pub outcome: &'static str,
}

/// A replica made entries of its group durable.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    /// The replication group.
    pub group: u64,
    /// First entry.
    pub first: u64,
    /// Last entry.
    pub last: u64,
    /// The node.
    pub node: u64,
    /// When they came to the replica (at the leader: were proposed), Unix nanoseconds.
    pub start_ns: u64,
    /// When they were handed to the log.
    pub handed_ns: u64,
    /// When the log began to write and sync them, together with others.
    pub sync_ns: u64,
    /// When they were durable.
    pub synced_ns: u64,
    /// When the replica heard of it.
    pub end_ns: u64,
    /// Number of the sync on that node: entries with the same one shared it.
    pub sync: u64,
    /// Whether the replica leads.
    pub leads: bool,
}

/// A replica applied committed entries of its group.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    /// The replication group.
    pub group: u64,
    /// First entry.
    pub first: u64,
    /// Last entry.
    pub last: u64,
    /// The node.
    pub node: u64,
    /// When it began, Unix nanoseconds.
    pub start_ns: u64,
    /// When it was done.
    pub end_ns: u64,
}

/// Something that was done.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Record {
    Call(Call),
    Lookup(Lookup),
    Answered(Answered),
    Served(Served),
    Appended(Appended),
    Applied(Applied),
}

impl Record {
    /// When it was done.
    fn end_ns(&self) -> u64 {
        match self {
            Self::Call(call) => call.end_ns,
            Self::Lookup(lookup) => lookup.end_ns,
            Self::Answered(answered) => answered.end_ns,
            Self::Served(served) => served.end_ns,
            Self::Appended(appended) => appended.end_ns,
            Self::Applied(applied) => applied.end_ns,
        }
    }
}

/// Records in a block.
const BLOCK: usize = 256;

/// Some records that follow each other.
#[derive(Clone, Default)]
struct Block {
    records: Vec<Record>,
    names: Filter,
}

impl Block {
    fn push(&mut self, record: Record) {
        if self.records.capacity() == 0 {
            self.records.reserve_exact(BLOCK);
        }
        match &record {
            Record::Call(Call { context, .. })
            | Record::Lookup(Lookup { context, .. })
            | Record::Served(Served { context, .. }) => {
                self.names.add(Name::Trace(context.trace_id))
            }
            Record::Answered(answered) => self.names.add(Name::Message(answered.message)),
            Record::Appended(done) => self.names.add_entries(done.group, done.first, done.last),
            Record::Applied(done) => self.names.add_entries(done.group, done.first, done.last),
        }
        self.records.push(record);
    }
}

/// The latest records: the oldest go when there are too many. Readers get whole blocks, so that they hold up nobody.
pub(crate) struct Ring {
    blocks: VecDeque<Arc<Block>>,
    records_max: usize,
    /// Records in `blocks`.
    closed: usize,
    open: Block,
    /// Records so far.
    pushed: u64,
}

/// Part of a ring, oldest first.
pub(crate) struct Part {
    blocks: Vec<Arc<Block>>,
    /// Records of the first block that are not meant.
    skip: usize,
    /// Records that are.
    count: usize,
}

impl Ring {
    /// That holds about so many records.
    pub(crate) fn new(records_max: usize) -> Self {
        Self {
            blocks: VecDeque::new(),
            records_max: records_max.max(BLOCK),
            closed: 0,
            open: Block::default(),
            pushed: 0,
        }
    }

    pub(crate) fn push(&mut self, record: Record) {
        self.open.push(record);
        self.pushed += 1;
        if self.open.records.len() == BLOCK {
            self.close();
        }
    }

    /// Closes the open block; the oldest ones go if there are too many records.
    fn close(&mut self) {
        let closed = std::mem::take(&mut self.open);
        self.closed += closed.records.len();
        self.blocks.push_back(Arc::new(closed));
        while self.closed > self.records_max
            && let Some(oldest) = self.blocks.pop_front()
        {
            self.closed -= oldest.records.len();
        }
    }

    /// Records so far.
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// What is left of the records behind the first `behind` and up to the `until`th, of blocks in which something was done at `since_ns` or
    /// later.
    pub(crate) fn part(&mut self, behind: u64, until: u64, since_ns: u64) -> Part {
        // A copy costs more than a block that is not full, but those of a few records would fill the ring.
        if self.open.records.len() >= BLOCK / 2 {
            self.close();
        }
        let mut blocks = Vec::new();
        let mut first = self.pushed - self.open.records.len() as u64;
        if !self.open.records.is_empty() {
            blocks.push(Arc::new(self.open.clone()));
        }
        for block in self.blocks.iter().rev() {
            let newest = block.records.last().map_or(0, Record::end_ns);
            if first <= behind || newest < since_ns {
                break;
            }
            first -= block.records.len() as u64;
            blocks.push(block.clone());
        }
        blocks.reverse();
        let from = behind.max(first);
        Part {
            blocks,
            skip: (from - first) as usize,
            count: until.saturating_sub(from) as usize,
        }
    }
}

impl Part {
    /// The records of those blocks whose names `may_have` something.
    pub(crate) fn records(
        &self,
        may_have: impl Fn(&Filter) -> bool,
    ) -> impl Iterator<Item = &Record> {
        let (mut skip, mut left) = (self.skip, self.count);
        self.blocks.iter().flat_map(move |block| {
            let records = block
                .records
                .get(std::mem::take(&mut skip)..)
                .unwrap_or_default();
            let records = &records[..records.len().min(left)];
            left -= records.len();
            match !records.is_empty() && may_have(&block.names) {
                true => records,
                false => &[],
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> Record {
        Record::Answered(Answered {
            message: number,
            start_ns: 0,
            end_ns: number,
            lookups: 1,
        })
    }

    fn numbers(part: &Part) -> Vec<u64> {
        part.records(|_| true).map(Record::end_ns).collect()
    }

    #[test]
    fn the_ring_is_bounded_and_read_from_any_point() {
        let mut ring = Ring::new(2 * BLOCK);
        assert!(numbers(&ring.part(0, u64::MAX, 0)).is_empty());
        let all = 3 * BLOCK as u64 + 10;
        (1..=all).for_each(|number| ring.push(record(number)));
        assert_eq!(ring.pushed(), all);
        let kept: Vec<u64> = (BLOCK as u64 + 1..=all).collect();
        assert_eq!(numbers(&ring.part(0, u64::MAX, 0)), kept);
        for behind in [all, all - 1, all - 10, all - 11, all - BLOCK as u64] {
            let expected: Vec<u64> = (behind + 1..=all).collect();
            assert_eq!(numbers(&ring.part(behind, all, 0)), expected);
        }
        assert_eq!(numbers(&ring.part(all - 9, all - 7, 0)), [all - 8, all - 7]);
        // Older blocks are passed over.
        let part = ring.part(0, all, all - 5);
        assert_eq!(numbers(&part).len(), 10);
    }

    #[test]
    fn a_ring_that_is_read_often_holds_as_much_in_few_blocks() {
        let mut ring = Ring::new(4 * BLOCK);
        for step in [7, BLOCK as u64 / 2, BLOCK as u64 - 1] {
            for _ in 0..1_000 {
                let before = ring.pushed();
                (1..=step).for_each(|n| ring.push(record(before + n)));
                let new: Vec<u64> = (before + 1..=before + step).collect();
                assert_eq!(numbers(&ring.part(before, u64::MAX, 0)), new);
            }
            assert!(ring.blocks.len() <= 8, "{} blocks", ring.blocks.len());
            let held = numbers(&ring.part(0, u64::MAX, 0));
            assert_eq!(held.last(), Some(&ring.pushed()));
            assert!(held.len() > 2 * BLOCK && held.len() <= 5 * BLOCK);
        }
    }

    #[test]
    fn blocks_without_a_name_are_passed_over_and_counted_all_the_same() {
        let mut ring = Ring::new(8 * BLOCK);
        let all = 5 * BLOCK as u64 + 10;
        (1..=all).for_each(|number| ring.push(record(number)));
        let has = |number| move |names: &Filter| names.may_have(Name::Message(number));
        // Of the third block, and of the open one.
        for number in [3 * BLOCK as u64, all] {
            let part = ring.part(10, all, 0);
            let found: Vec<u64> = part.records(has(number)).map(Record::end_ns).collect();
            assert!(found.contains(&number));
            assert!(found.len() <= 2 * BLOCK, "{}", found.len());
        }
        let part = ring.part(10, all - 5, 0);
        assert!(
            !part.records(has(all)).any(|record| record.end_ns() == all),
            "behind the end"
        );
        let part = ring.part(10, all, 0);
        assert!(
            !part.records(has(10)).any(|record| record.end_ns() <= 10),
            "before the beginning"
        );
    }
}
