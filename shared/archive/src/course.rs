//! What an archiver does next for one partition (ADR 0007), as far as its log is concerned. Owns the order of the steps and when each is due:
//! nothing is sealed before the other replicas agree, nothing is told before it is sealed. Every step may be repeated and may be cut off: whoever
//! takes over begins with `Step::Load`. Never reads or writes anything.
//!
//! A segment goes to the store first, then the replicas' digests are compared with it, then its manifest is written (only what a manifest
//! names counts), and then the leader is told.

use std::collections::{BTreeMap, VecDeque};

use paxos::{Index, NodeId};

/// Sealed segments remembered, to know what of the leader's bytes they are.
const SEALED_MAX: usize = 64;

/// When what is due. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A segment is cut when so many bytes wait …
    pub segment_bytes: u64,
    /// … or the oldest entry waits for so long.
    pub segment_age_ms: u64,
    /// A replica that does not answer is waited for so long before a segment is sealed without its word.
    pub compare_wait_ms: u64,
    /// Pause after something that could not be done; doubled with each failure in a row, up to `retry_ms_max`.
    pub retry_ms: u64,
    /// See `retry_ms`.
    pub retry_ms_max: u64,
    /// A snapshot is due when the segments behind the last one weigh more than this, and more than the partition.
    pub snapshot_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: 8 << 20,
            segment_age_ms: 60_000,
            compare_wait_ms: 5_000,
            retry_ms: 500,
            retry_ms_max: 30_000,
            snapshot_bytes: 256 << 20,
        }
    }
}

/// A partition's log as its leader described it last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The leader's node.
    pub leader: NodeId,
    /// Nodes of all replicas that have a vote, the leader's included.
    pub voters: Vec<NodeId>,
    /// Those of them that have a B-tree.
    pub storage: Vec<NodeId>,
    /// The leader's log begins behind this position.
    pub floor: Index,
    /// Committed and durable at the leader.
    pub committed: Index,
    /// What the leader was told to be archived.
    pub archived: Index,
    /// Bytes above that, roughly.
    pub bytes: u64,
    /// Age of the oldest entry above that, milliseconds.
    pub age_ms: u64,
    /// Bytes of the partition's items.
    pub partition_bytes: u64,
    /// The partition has ended: nothing will come that a segment could wait for.
    pub ended: bool,
    /// Grows with each description.
    pub version: u64,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Find out what is in the store, and write the partition's birth if there is none: `Course::loaded`.
    Load,
    /// Get entries from `first` up to `last` (as many as make a segment) from the first of these nodes that has them, check them, and put the
    /// segment into the store, without its manifest: `Course::stored`, or `Course::gone` if all say that they no longer have them.
    Store {
        /// First position.
        first: Index,
        /// Last position at most.
        last: Index,
        /// Whom to ask, in this order.
        sources: Vec<NodeId>,
    },
    /// Ask these replicas for their digest of the stored range: `Course::compared`, for each.
    Compare {
        /// First position.
        first: Index,
        /// Last position.
        last: Index,
        /// Whom to ask.
        nodes: Vec<NodeId>,
    },
    /// Write the manifest of the stored segment: `Course::sealed`.
    Seal,
    /// Tell the leader: `Course::told`.
    Tell {
        /// The leader's node.
        leader: NodeId,
        /// Everything up to here is archived.
        index: Index,
    },
    /// Take a snapshot from the first of these replicas that gives one: `Course::snapshotted`.
    Snapshot {
        /// Followers first.
        sources: Vec<NodeId>,
    },
    /// Nothing before that time, or before the log is described anew.
    Wait {
        /// Milliseconds, the caller's clock.
        until_ms: u64,
    },
}

/// What a replica says to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Its own log gives the same.
    Equal,
    /// Its own log gives something else.
    Differs,
    /// It did not answer, or has not got there yet.
    Silent,
    /// It no longer has these entries, and never will.
    Gone,
}

/// What an operator must hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// This replica's log differs from those of the others.
    Diverges {
        /// Its node.
        node: NodeId,
        /// First position of the range.
        first: Index,
        /// Last position of the range.
        last: Index,
        /// Replicas that agree with each other, the one whose entries were archived included.
        equal: usize,
    },
    /// The replicas contradict each other, and none is in the majority: nothing is archived.
    Undecided {
        /// First position of the range.
        first: Index,
        /// Last position of the range.
        last: Index,
    },
    /// No replica has these entries any more, and the archive never got them.
    Hole {
        /// First position that is missing.
        first: Index,
        /// Last position that is missing.
        last: Index,
    },
}

/// What the store holds of the partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The chain of segments, or the newest snapshot, reaches to here.
    pub end: Index,
    /// Bytes of the segments behind the newest snapshot.
    pub since_snapshot_bytes: u64,
    /// Nothing but a snapshot can begin the archive: what was before `end` is not in it.
    pub needs_snapshot: bool,
}

/// A segment in the store that has no manifest yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    first: Index,
    last: Index,
    bytes: u64,
    source: NodeId,
    since_ms: u64,
    ask_at_ms: u64,
    words: BTreeMap<NodeId, Word>,
}

/// One partition's course.
#[derive(Clone, Debug)]
pub struct Course {
    settings: Settings,
    /// Archived up to here; none: not known yet.
    end: Option<Index>,
    stored: Option<Stored>,
    /// Segments sealed lately: last position, bytes.
    sealed: VecDeque<(Index, u64)>,
    since_snapshot_bytes: u64,
    needs_snapshot: bool,
    /// When the next snapshot may be tried.
    snapshot_at_ms: u64,
    /// Version of the log's description in which the leader was told last, and what.
    told: Option<(u64, Index)>,
    failures: u32,
    retry_at_ms: u64,
    /// Entries are wanted from another replica than the leader's first: its segment was contradicted.
    turn: usize,
}

impl Course {
    /// A course that begins.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            end: None,
            stored: None,
            sealed: VecDeque::new(),
            since_snapshot_bytes: 0,
            needs_snapshot: false,
            snapshot_at_ms: 0,
            told: None,
            failures: 0,
            retry_at_ms: 0,
            turn: 0,
        }
    }

    /// Archived up to here, as far as this course knows.
    pub fn end(&self) -> Option<Index> {
        self.end
    }

    /// What is to be done.
    pub fn next(&self, log: &Log, now_ms: u64) -> Step {
        if now_ms < self.retry_at_ms {
            return Step::Wait {
                until_ms: self.retry_at_ms,
            };
        }
        let Some(end) = self.end else {
            return Step::Load;
        };
        if let Some(stored) = &self.stored {
            return self.judge(stored, log, now_ms);
        }
        if log.archived < end && end <= log.committed && self.told != Some((log.version, end)) {
            return Step::Tell {
                leader: log.leader,
                index: end,
            };
        }
        if self.is_ripe(log, end) {
            return Step::Store {
                first: end + 1,
                last: log.committed,
                sources: self.sources(log),
            };
        }
        if self.wants_snapshot(log) && now_ms >= self.snapshot_at_ms {
            let followers = log.storage.iter().filter(|node| **node != log.leader);
            return Step::Snapshot {
                sources: followers.chain([&log.leader]).copied().collect(),
            };
        }
        Step::Wait {
            until_ms: now_ms + self.settings.retry_ms,
        }
    }

    /// Whether a segment is to be cut.
    fn is_ripe(&self, log: &Log, end: Index) -> bool {
        if log.committed <= end {
            return false;
        }
        if log.ended {
            return true;
        }
        // What the leader does not know yet to be archived is not waiting any more.
        let done = self.sealed.iter().filter(|(last, _)| *last > log.archived);
        let done: u64 = done.map(|(_, bytes)| bytes).sum();
        if log.bytes.saturating_sub(done) >= self.settings.segment_bytes {
            return true;
        }
        // The age is that of the oldest entry that the leader takes for not archived.
        log.archived >= end && log.age_ms >= self.settings.segment_age_ms
    }

    fn wants_snapshot(&self, log: &Log) -> bool {
        let least = self.settings.snapshot_bytes.max(log.partition_bytes);
        !log.ended && (self.needs_snapshot || self.since_snapshot_bytes > least)
    }

    /// The leader, then the others; if the leader's word was contradicted, one of them first.
    fn sources(&self, log: &Log) -> Vec<NodeId> {
        let others = log.voters.iter().filter(|node| **node != log.leader);
        let mut sources: Vec<NodeId> = [&log.leader].into_iter().chain(others).copied().collect();
        let turn = self.turn % sources.len();
        sources.rotate_left(turn);
        sources
    }

    fn judge(&self, stored: &Stored, log: &Log, now_ms: u64) -> Step {
        let word = |node: &NodeId| stored.words.get(node).copied().unwrap_or(Word::Silent);
        let silent = |node: &&NodeId| **node != stored.source && word(node) == Word::Silent;
        let open: Vec<NodeId> = log.voters.iter().filter(silent).copied().collect();
        let wait_over = now_ms >= stored.since_ms + self.settings.compare_wait_ms;
        if open.is_empty() || wait_over {
            return Step::Seal;
        }
        if now_ms < stored.ask_at_ms {
            return Step::Wait {
                until_ms: stored.ask_at_ms,
            };
        }
        Step::Compare {
            first: stored.first,
            last: stored.last,
            nodes: open,
        }
    }

    /// Whether the words allow to write the manifest, and what an operator must hear of them. To be asked when `Step::Seal` is due; when it is
    /// not allowed, the segment is given up, and its range is tried again with another replica's entries.
    pub fn may_seal(&mut self, now_ms: u64) -> (bool, Vec<Alarm>) {
        let Some(stored) = &self.stored else {
            return (false, Vec::new());
        };
        let (first, last) = (stored.first, stored.last);
        let count = |wanted: Word| {
            stored
                .words
                .values()
                .filter(|word| **word == wanted)
                .count()
        };
        // Whose entries they are is of the same opinion.
        let (equal, differing) = (1 + count(Word::Equal), count(Word::Differs));
        if equal > differing {
            let odd = stored
                .words
                .iter()
                .filter(|(_, word)| **word == Word::Differs);
            let odd = odd.map(|(&node, _)| Alarm::Diverges {
                node,
                first,
                last,
                equal,
            });
            return (true, odd.collect());
        }
        let alarm = match differing > equal && count(Word::Silent) == 0 {
            // Among the others there is a majority: the next attempt shows who it is.
            true => Vec::new(),
            false => vec![Alarm::Undecided { first, last }],
        };
        self.stored = None;
        self.turn += 1;
        self.failed(now_ms);
        (false, alarm)
    }

    /// `Step::Load` is done.
    pub fn loaded(&mut self, loaded: Loaded) {
        self.succeeded();
        self.end = Some(loaded.end);
        self.since_snapshot_bytes = loaded.since_snapshot_bytes;
        self.needs_snapshot = loaded.needs_snapshot;
    }

    /// `Step::Store` is done: this range, from this node.
    pub fn stored(&mut self, first: Index, last: Index, bytes: u64, source: NodeId, now_ms: u64) {
        self.succeeded();
        self.stored = Some(Stored {
            first,
            last,
            bytes,
            source,
            since_ms: now_ms,
            ask_at_ms: now_ms,
            words: BTreeMap::new(),
        });
    }

    /// All replicas answered to `Step::Store` that their logs begin behind this position: the archive can only go on behind it, with a snapshot.
    pub fn gone(&mut self, lowest_floor: Index) -> Option<Alarm> {
        let end = self.end?;
        if lowest_floor <= end {
            return None;
        }
        self.end = Some(lowest_floor);
        self.needs_snapshot = true;
        Some(Alarm::Hole {
            first: end + 1,
            last: lowest_floor,
        })
    }

    /// What a replica said in `Step::Compare`.
    pub fn compared(&mut self, node: NodeId, word: Word, now_ms: u64) {
        if let Some(stored) = &mut self.stored {
            stored.words.insert(node, word);
            stored.ask_at_ms = now_ms + self.settings.retry_ms / 2;
        }
    }

    /// The manifest is written.
    pub fn sealed(&mut self) {
        self.succeeded();
        let Some(stored) = self.stored.take() else {
            return;
        };
        self.turn = 0;
        self.end = self.end.max(Some(stored.last));
        self.since_snapshot_bytes += stored.bytes;
        if self.sealed.len() >= SEALED_MAX {
            self.sealed.pop_front();
        }
        self.sealed.push_back((stored.last, stored.bytes));
    }

    /// The leader was told, when its log was described so; whether it got it, the next description shows.
    pub fn told(&mut self, version: u64, index: Index) {
        self.told = Some((version, index));
    }

    /// A snapshot is in the store.
    pub fn snapshotted(&mut self) {
        self.succeeded();
        self.since_snapshot_bytes = 0;
        self.needs_snapshot = false;
    }

    /// The snapshots in the store are of no use: another one is wanted as soon as possible.
    pub fn wanted(&mut self) {
        self.needs_snapshot = true;
        self.snapshot_at_ms = 0;
    }

    /// No snapshot could be had; segments go on.
    pub fn no_snapshot(&mut self, now_ms: u64) {
        self.snapshot_at_ms = now_ms + self.settings.retry_ms_max;
    }

    /// A step could not be done: it is tried again after a pause.
    pub fn failed(&mut self, now_ms: u64) {
        let pause = self.settings.retry_ms << self.failures.min(16);
        self.retry_at_ms = now_ms + pause.min(self.settings.retry_ms_max);
        self.failures = self.failures.saturating_add(1);
    }

    /// What a replica gave must not be archived: another one is asked first after a pause.
    pub fn refused(&mut self, now_ms: u64) {
        self.turn += 1;
        self.failed(now_ms);
    }

    /// What is in the store is not what this course took it for: begin again.
    pub fn forget(&mut self, now_ms: u64) {
        self.end = None;
        self.stored = None;
        self.failed(now_ms);
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.retry_at_ms = 0;
    }
}
