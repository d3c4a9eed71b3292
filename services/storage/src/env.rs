//! What a shard's groups share while they are driven: the time of the turn, the ways out (WAL, bus, disk threads), and what the
//! turn has gathered. Owns no group.

use std::collections::BTreeSet;
use std::sync::Arc;

use paxos::{GroupId, Message, Millis, NodeId, PersistOp, Token};
use protocol::item::ItemReply;
use telemetry::traces::{self, Record, Served};

use crate::copier::CopyJob;
use crate::copy::CopySource;
use crate::flusher::FlushJob;
use crate::inbox::{Caller, Event, Inbox, Traced};
use crate::log_reader::LogJob;
use crate::middle::MiddleJob;
use crate::node::Node;
use crate::orders::OrderJob;
use crate::outgoing::Outgoing;
use crate::peers::Peers;
use crate::pool::Jobs;
use crate::scrub::ScrubJob;

/// So many flushes may wait before overlays are left to grow older …
const FLUSHES_WAITING: u64 = 8;
/// … by so many times their age at most.
const FLUSH_STRETCH_MAX: u64 = 15;

/// Surroundings of a shard's groups.
pub(crate) struct Env {
    pub(crate) node: Arc<Node>,
    pub(crate) inbox: Arc<Inbox>,
    /// Monotonic time of this turn.
    pub(crate) now: Millis,
    /// Wall clock of this turn, milliseconds since the epoch …
    pub(crate) unix_ms: u64,
    /// … and in nanoseconds, for traces.
    pub(crate) unix_ns: u64,
    /// Answers of this turn, not sent yet.
    pub(crate) answers: Vec<(Caller, ItemReply)>,
    /// Groups that have to finish this turn.
    pub(crate) touched: Vec<GroupId>,
    /// Age at which an overlay is flushed, milliseconds: longer while many flushes wait.
    pub(crate) flush_age_ms: u64,
    /// Some group has something new for the directory.
    pub(crate) directory_changed: bool,
    /// Replicas that learned that they are no longer in their groups.
    pub(crate) retired: Vec<GroupId>,
    /// What was heard of the other nodes.
    pub(crate) peers: Peers,
    /// Nodes that have no room for a burst of writes, as of the last tick.
    pub(crate) full_peers: BTreeSet<NodeId>,
    pub(crate) flusher: Jobs<FlushJob>,
    pub(crate) log_reader: Jobs<LogJob>,
    pub(crate) copier: Jobs<CopyJob>,
    pub(crate) orders: Jobs<OrderJob>,
    pub(crate) middles: Jobs<MiddleJob>,
    pub(crate) scrubber: Jobs<ScrubJob>,
    pub(crate) copies: Arc<CopySource>,
    outgoing: Outgoing,
    /// Appends, and their bytes, that the WAL has not made durable yet.
    appends: usize,
    append_bytes: usize,
}

/// The disk threads of a node.
#[derive(Clone)]
pub(crate) struct DiskJobs {
    pub(crate) flusher: Jobs<FlushJob>,
    pub(crate) log_reader: Jobs<LogJob>,
    pub(crate) copier: Jobs<CopyJob>,
    pub(crate) orders: Jobs<OrderJob>,
    pub(crate) middles: Jobs<MiddleJob>,
    pub(crate) scrubber: Jobs<ScrubJob>,
    pub(crate) copies: Arc<CopySource>,
}

impl Env {
    pub(crate) fn new(node: Arc<Node>, inbox: Arc<Inbox>, jobs: DiskJobs) -> Self {
        let DiskJobs {
            flusher,
            log_reader,
            copier,
            orders,
            middles,
            scrubber,
            copies,
        } = jobs;
        Self {
            now: node.now(),
            unix_ms: 0,
            unix_ns: 0,
            node,
            inbox,
            answers: Vec::new(),
            touched: Vec::new(),
            flush_age_ms: 0,
            directory_changed: false,
            retired: Vec::new(),
            peers: Peers::default(),
            full_peers: BTreeSet::new(),
            flusher,
            log_reader,
            copier,
            orders,
            middles,
            scrubber,
            copies,
            outgoing: Outgoing::default(),
            appends: 0,
            append_bytes: 0,
        }
    }

    /// Reads the clocks.
    pub(crate) fn look_at_clocks(&mut self) {
        self.now = self.node.now();
        self.unix_ns = traces::now_ns();
        self.unix_ms = self.unix_ns / 1_000_000;
    }

    /// Adapts the age of flushes to how many of them wait.
    pub(crate) fn pace_flushes(&mut self) {
        let stretch = 1 + (self.flusher.len() as u64 / FLUSHES_WAITING).min(FLUSH_STRETCH_MAX);
        self.flush_age_ms = self
            .node
            .settings
            .limits
            .flush_age_ms
            .saturating_mul(stretch);
    }

    /// Notes that a group has to finish this turn.
    pub(crate) fn touch(&mut self, group: GroupId, touched: &mut bool) {
        if !std::mem::replace(touched, true) {
            self.touched.push(group);
        }
    }

    /// Sends a message of a group's replica with this incarnation to another one, at the latest with `send_all`.
    pub(crate) fn send(&mut self, group: GroupId, incarnation: u64, to: NodeId, message: Message) {
        self.outgoing
            .push(&self.node, group, incarnation, to, message);
    }

    /// Sends the messages that were gathered.
    pub(crate) fn send_all(&mut self) {
        self.outgoing.send_all(&self.node);
    }

    /// Whether the WAL certainly takes another append of this shard: every shard has its share of the WAL's queue.
    pub(crate) fn wal_has_room(&self) -> bool {
        self.appends < self.node.appends_max && self.append_bytes < self.node.append_bytes_max
    }

    /// Queues operations of a group; `Event::Persisted` says when they are durable.
    pub(crate) fn append(&mut self, group: GroupId, operations: Vec<PersistOp>, token: Token) {
        let bytes: usize = operations.iter().map(operation_bytes).sum();
        self.appends += 1;
        self.append_bytes += bytes;
        let inbox = self.inbox.clone();
        let wal = self.node.wal.clone();
        let appended = self
            .node
            .wal
            .append(group, operations, move |result| match result {
                Ok(()) => inbox.event(Event::Persisted(group, token, bytes, wal.last_sync())),
                Err(error) => inbox.event(Event::Unpersisted(group, bytes, error)),
            });
        if appended.is_err() {
            // Cannot be, since every shard keeps to its share. The operations are gone: the replica must not go on.
            self.inbox
                .event(Event::Unpersisted(group, bytes, wal::WalError::Stopped));
        }
    }

    /// The WAL is done with an append of `bytes`.
    pub(crate) fn appended(&mut self, bytes: usize) {
        self.appends -= 1;
        self.append_bytes -= bytes;
    }

    /// Sends the answers of this turn.
    pub(crate) fn answer_all(&mut self) {
        let recorder = &self.node.recorder;
        for (caller, reply) in self.answers.drain(..) {
            match caller {
                Caller::Item {
                    responder,
                    bytes,
                    traced,
                } => {
                    responder.reply(&reply);
                    self.inbox.release(bytes);
                    if let Some(traced) = traced {
                        recorder.note(served(&traced, self.node.id, &reply));
                    }
                }
                Caller::Order(caller) => caller.answer(&reply),
                Caller::Service => {}
            }
        }
    }
}

/// What a traced request that was answered leaves behind.
fn served(traced: &Traced, node: NodeId, reply: &ItemReply) -> Record {
    let Traced {
        context,
        partition,
        operation,
        received_ns,
        evaluated_ns,
        committed_ns,
        index,
    } = *traced;
    Record::Served(Served {
        context,
        received_ns,
        evaluated_ns,
        committed_ns,
        end_ns: traces::now_ns(),
        node: node.0,
        partition,
        index,
        operation,
        outcome: reply.outcome(),
    })
}

fn operation_bytes(operation: &PersistOp) -> usize {
    64 + match operation {
        PersistOp::Append(entries) => entries.iter().map(|entry| entry.bytes() as usize).sum(),
        _ => 0,
    }
}
