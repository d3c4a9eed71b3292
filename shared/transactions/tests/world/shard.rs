//! A partition with its log, and what reaches it. Owns what is committed when; never decides what a message says.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;
use model::KeyRange;
use partition::{BTree, BTreeError, Evaluated, Partition, PartitionState, Transacted};
use paxos::{Ballot, Configuration, Entry, NodeId, Payload};
use protocol::item::{ItemOperation, ItemReply};
use protocol::transact::Transact;

use super::items::table;
use super::{Event, World};

/// How far each leader's clock is ahead of a coordinator's, milliseconds.
pub(super) const CLOCKS_MS: [u64; super::SHARDS] = [0, 900, 350];

#[derive(Default)]
pub(super) struct Tree(pub(super) BTreeMap<Bytes, Bytes>);

impl BTree for Tree {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BTreeError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        _: &KeyRange,
        _: bool,
        visitor: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), BTreeError> {
        for (key, item) in &self.0 {
            if visitor(key, item).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// What a partition begins with.
pub(super) fn begun() -> PartitionState {
    PartitionState::empty(
        Configuration::default(),
        KeyRange::default(),
        table(),
        Vec::new(),
    )
}

/// A partition and its log.
pub(super) struct Shard {
    pub(super) partition: Partition<u64>,
    pub(super) tree: Tree,
    /// What is committed.
    pub(super) log: Vec<Entry>,
    /// Commands in the log, not committed.
    pub(super) proposed: VecDeque<Bytes>,
}

impl Shard {
    pub(super) fn apply(&mut self, command: Bytes, answers: &mut Vec<(u64, ItemReply)>) {
        let entry = Entry {
            index: self.applied() + 1,
            ballot: Ballot {
                round: 1,
                node: NodeId(1),
            },
            payload: Payload::Command(command),
        };
        self.partition.apply(&entry, answers).expect("applies");
        self.log.push(entry);
    }

    fn applied(&self) -> u64 {
        self.log.len() as u64
    }
}

impl World {
    /// A part of what is in the log is committed by the next leader; the rest never was.
    pub(super) fn lose_leader(&mut self, shard: usize) {
        self.counts.leaders_lost += 1;
        let kept = self.rng.below(self.shards[shard].proposed.len() as u64 + 1);
        let at = &mut self.shards[shard];
        let mut answers = Vec::new();
        at.partition.lose(&mut answers);
        for _ in 0..kept {
            if let Some(command) = at.proposed.pop_front() {
                at.apply(command, &mut answers);
            }
        }
        at.proposed.clear();
        self.send_answers(answers);
    }

    pub(super) fn arrive(&mut self, call: u64, at: usize, operation: &ItemOperation) {
        let (now, shard) = (self.now + CLOCKS_MS[at], &mut self.shards[at]);
        let Shard {
            partition, tree, ..
        } = shard;
        let (commands, reply) = match operation {
            ItemOperation::Get(get) => (Vec::new(), Some(partition.get(tree, get).expect("reads"))),
            ItemOperation::Write(write) => {
                match partition
                    .evaluate(tree, write, now, call)
                    .expect("evaluates")
                {
                    Evaluated::Propose(command) => (vec![command], None),
                    Evaluated::Waits => (Vec::new(), None),
                    Evaluated::Answer(_, reply) => (Vec::new(), Some(reply)),
                }
            }
            ItemOperation::Transact(transact) => {
                let transacted = match &**transact {
                    Transact::Prepare { transaction, write } => {
                        partition.prepare(tree, (transaction, write), now, call)
                    }
                    Transact::Commit(end) => partition.settle(tree, (end, true), now, call),
                    Transact::Cancel(end) => partition.settle(tree, (end, false), now, call),
                    Transact::Read {
                        get,
                        unchanged_since,
                    } => partition
                        .transactional_get(tree, get, *unchanged_since)
                        .map(|reply| Transacted::Answer(call, reply)),
                };
                match transacted.expect("evaluates") {
                    Transacted::Propose(commands) => (commands, None),
                    Transacted::Waits => (Vec::new(), None),
                    Transacted::Answer(_, reply) => (Vec::new(), Some(reply)),
                }
            }
            ItemOperation::Page(_) | ItemOperation::Changes(_) | ItemOperation::Propagate(_) => {
                panic!("nobody asks for these")
            }
        };
        if !commands.is_empty() {
            let first = shard.applied() + shard.proposed.len() as u64 + 1;
            shard.partition.proposed(first);
            let count = commands.len();
            shard.proposed.extend(commands);
            for _ in 0..count {
                let delay = 1 + self.rng.below(8);
                self.at(delay, Event::Commit(at));
            }
        }
        self.send_answers(reply.map(|reply| (call, reply)).into_iter().collect());
    }
}
