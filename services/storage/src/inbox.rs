//! The queue in front of a shard: bounded, filled from any thread, emptied by the shard in batches. Owns admission (how many
//! requests and bytes a shard holds) and waking the shard; never looks into what it carries.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use actix::Addr;
use mesh::{Deadline, Responder, TraceContext};
use parking_lot::Mutex;
use partition::PartitionState;
use paxos::{Entry, GroupId, Index, NodeId, Role, Token};
use protocol::control::{CreateReplica, JoinReplica};
use protocol::demand::FollowerDemand;
use protocol::item::ItemCall;
use protocol::replication::{CopyRequest, GroupMessage};
use protocol::scrub::Marker;
use protocol::split::{Split, SplitReport};
use tokio::sync::oneshot;

use crate::children::Made;
use crate::copier::Copied;
use crate::flusher::Flushed;
use crate::log_reader::ArchiveRead;
use crate::orders::{ArchiveCaller, Created, Dropping, OrderCaller};
use crate::propagator::Delivered;
use crate::shard::{Shard, Wake};

/// An item request.
pub(crate) struct Request {
    pub(crate) call: ItemCall,
    pub(crate) caller: Caller,
    pub(crate) deadline: Option<Deadline>,
}

/// Who waits for an answer.
pub(crate) enum Caller {
    /// A router.
    Item {
        responder: Responder,
        /// What the request weighs in the shard's limits.
        bytes: usize,
        /// What its trace wants to know, if it has one.
        traced: Option<Traced>,
    },
    /// The admin, for `SetTable`.
    Order(OrderCaller),
    /// The node itself: nobody waits.
    Service,
}

/// How far a traced request is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traced {
    pub(crate) context: TraceContext,
    pub(crate) partition: u64,
    pub(crate) operation: &'static str,
    /// Unix nanoseconds, as all of these; 0 = not yet.
    pub(crate) received_ns: u64,
    pub(crate) evaluated_ns: u64,
    pub(crate) committed_ns: u64,
    /// Its entry in the log; 0 = none.
    pub(crate) index: u64,
}

impl Caller {
    /// What its trace wants to know.
    pub(crate) fn traced(&mut self) -> Option<&mut Traced> {
        match self {
            Self::Item { traced, .. } => traced.as_mut(),
            Self::Order(_) | Self::Service => None,
        }
    }
}

/// Everything else that happens to a shard.
pub(crate) enum Event {
    /// Operations of this group, up to this token, are durable; their bytes; number, begin and end of the sync.
    Persisted(GroupId, Token, usize, (u64, u64, u64)),
    /// Operations are not durable, and never will be; and their bytes.
    Unpersisted(GroupId, usize, wal::WalError),
    /// Entries that the log must hold cannot be read back.
    LogUnreadable(GroupId, wal::WalError),
    /// Messages of other members, all from one node.
    Messages(Vec<GroupMessage>),
    /// Answer to a read of the log.
    LogRead {
        group: GroupId,
        to: NodeId,
        from: Index,
        entries: Vec<Entry>,
    },
    /// A flush ended.
    Flushed(Box<Flushed>),
    /// A full copy was installed, or could not be had.
    Copied(Box<Copied>),
    /// Another node pulls a copy.
    CopyRequested(CopyRequest, Responder),
    /// An archiver wants entries, or their digest.
    ArchiveRead(GroupId, ArchiveRead, ArchiveCaller),
    /// An archiver says that everything of the group up to here is archived.
    Archived(GroupId, Index, ArchiveCaller),
    /// Create a replica, if it is not there.
    Create(Box<CreateReplica>, OrderCaller),
    /// The B-tree of a new replica is there, or could not be made.
    Created(Box<Created>),
    /// Drop a replica.
    Drop(GroupId, OrderCaller),
    /// It is gone, or why it isn't.
    Dropped(GroupId, Result<(), String>, Dropping),
    /// Make a replica for a partition that exists.
    Join(Box<JoinReplica>, OrderCaller),
    /// Another node answered to our `JoinReplica` with its incarnation, or why there is none.
    JoinAnswered {
        group: GroupId,
        node: NodeId,
        role: Role,
        result: Result<u64, String>,
    },
    /// This replica (group, incarnation) is out of its group as of this generation.
    Retire(GroupId, u64, u64, OrderCaller),
    /// At the leader, meant for this generation: a new replica on the second node for the one on the first.
    Replace(GroupId, u64, (NodeId, NodeId), OrderCaller),
    /// At the leader: hand over to this member.
    Transfer(GroupId, NodeId, OrderCaller),
    /// Stand for election now.
    Campaign(GroupId, OrderCaller),
    /// Replicate a newer table definition.
    SetTable(GroupId, Box<model::TableDefinition>, OrderCaller),
    /// Split the partition, by this order for this generation.
    Split(GroupId, u64, Split, OrderCaller),
    /// Give up the split with this left child.
    AbandonSplit(GroupId, GroupId, OrderCaller),
    /// Find the key in the middle of the partition's bytes.
    FindMiddle(GroupId, OrderCaller),
    /// At the leader: put this marker into the log.
    Mark(GroupId, Marker, Responder),
    /// A scrub found that the replica with this incarnation is damaged.
    ScrubFailed(GroupId, u64, btree::TreeError),
    /// Fence the replica with this incarnation: it differs from the others, as these words say.
    Condemn(GroupId, u64, String, OrderCaller),
    /// A follower says what it served.
    Demand(FollowerDemand),
    /// A replica says how far it is with a split.
    SplitReported(SplitReport),
    /// A parent's replica wants to install a child's: no other replica of it may be made here meanwhile.
    Reserve { child: GroupId, parent: GroupId },
    /// The answer; none: not now.
    Reserved {
        child: GroupId,
        parent: GroupId,
        answer: Option<Reservation>,
    },
    /// A reserved number is not needed.
    Release(GroupId),
    /// A child's replica is on disk, and the parent's has noted it: it begins, and stands for election at once if the parent was led here.
    Begin(Box<Made>, bool),
    /// The children's replicas are installed and the parent's state says so, or why not.
    Installed(GroupId, Result<Box<PartitionState>, String>),
    /// This group's entries keep old segments of the WAL alive.
    ReleaseLog(GroupId),
    /// Changes were sent to the global indexes, or not.
    Delivered(Box<Delivered>),
    /// Push all that this shard leads to memds.
    Hydrate,
    /// Hand over leadership of everything; answer when nothing is led any more.
    HandOver(oneshot::Sender<()>),
    /// Flush everything; answer when it is on disk.
    FlushAll(oneshot::Sender<()>),
    /// End.
    Stop(oneshot::Sender<()>),
}

/// What a child's shard says to a parent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reservation {
    /// The number is kept free.
    Granted,
    /// There is another replica of the child on this node: it joined.
    Taken,
}

#[derive(Default)]
struct Queues {
    requests: Vec<Request>,
    events: Vec<Event>,
    /// How many of the events are messages, and their bytes.
    messages: usize,
    message_bytes: usize,
}

/// The queue of one shard.
pub(crate) struct Inbox {
    queues: Mutex<Queues>,
    /// Set while a wake-up is under way.
    awake: AtomicBool,
    shard: OnceLock<Addr<Shard>>,
    limits: InboxLimits,
    /// Requests held by the shard, until they are answered.
    held: AtomicUsize,
    held_bytes: AtomicUsize,
    shed: AtomicUsize,
    dropped_messages: AtomicUsize,
}

/// Bounds of an inbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InboxLimits {
    pub(crate) requests_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) messages_max: usize,
    pub(crate) message_bytes_max: usize,
}

/// What a turn of the shard works on.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) requests: Vec<Request>,
    pub(crate) events: Vec<Event>,
}

impl Inbox {
    pub(crate) fn new(limits: InboxLimits) -> Self {
        Self {
            queues: Mutex::default(),
            awake: AtomicBool::new(false),
            shard: OnceLock::new(),
            limits,
            held: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
            shed: AtomicUsize::new(0),
            dropped_messages: AtomicUsize::new(0),
        }
    }

    /// Says whom to wake, once.
    pub(crate) fn attach(&self, shard: Addr<Shard>) {
        let _ = self.shard.set(shard);
        self.wake();
    }

    /// Reserves room for a request of `bytes`; false: shed it.
    pub(crate) fn admit(&self, bytes: usize) -> bool {
        let held = self.held.fetch_add(1, Ordering::Relaxed);
        let held_bytes = self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits =
            held < self.limits.requests_max && held_bytes + bytes <= self.limits.request_bytes_max;
        if !fits {
            self.release(bytes);
            self.shed.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    /// Gives the room of an answered request back.
    pub(crate) fn release(&self, bytes: usize) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Queues a request that was admitted.
    pub(crate) fn request(&self, request: Request) {
        self.queues.lock().requests.push(request);
        self.wake();
    }

    /// Queues an event. Events answer what the shard itself asked for, or are rare: what asks for them bounds them.
    pub(crate) fn event(&self, event: Event) {
        self.queues.lock().events.push(event);
        self.wake();
    }

    /// Queues messages of other members of `bytes` together, or drops them if too many wait.
    pub(crate) fn messages(&self, messages: Vec<GroupMessage>, bytes: usize) {
        {
            let mut queues = self.queues.lock();
            if queues.messages >= self.limits.messages_max
                || queues.message_bytes >= self.limits.message_bytes_max
            {
                drop(queues);
                self.dropped_messages
                    .fetch_add(messages.len(), Ordering::Relaxed);
                return;
            }
            queues.messages += messages.len();
            queues.message_bytes += bytes;
            queues.events.push(Event::Messages(messages));
        }
        self.wake();
    }

    /// Takes what is there. Only the shard calls this. `batch` must be empty; its memory is used again.
    pub(crate) fn take(&self, batch: &mut Batch) {
        // Before looking: what comes from now on wakes the shard again.
        self.awake.store(false, Ordering::SeqCst);
        let mut queues = self.queues.lock();
        std::mem::swap(&mut queues.requests, &mut batch.requests);
        std::mem::swap(&mut queues.events, &mut batch.events);
        queues.messages = 0;
        queues.message_bytes = 0;
    }

    /// Requests held, their bytes, requests shed and messages dropped so far.
    pub(crate) fn counts(&self) -> [usize; 4] {
        [
            &self.held,
            &self.held_bytes,
            &self.shed,
            &self.dropped_messages,
        ]
        .map(|count| count.load(Ordering::Relaxed))
    }

    fn wake(&self) {
        let Some(shard) = self.shard.get() else {
            return;
        };
        if !self.awake.swap(true, Ordering::SeqCst) && shard.try_send(Wake).is_err() {
            // Full: the shard has mail and will look. Closed: there is nobody to wake.
            self.awake.store(false, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: InboxLimits = InboxLimits {
        requests_max: 2,
        request_bytes_max: 100,
        messages_max: 2,
        message_bytes_max: 100,
    };

    fn message() -> GroupMessage {
        let message = paxos::Message {
            to_incarnation: 1,
            generation: 1,
            body: paxos::Body::Prepare {
                ballot: paxos::Ballot::default(),
            },
        };
        GroupMessage::new(GroupId(1), NodeId(2), 3, message)
    }

    #[test]
    fn requests_are_bounded_by_number_and_by_bytes_until_they_are_answered() {
        let inbox = Inbox::new(LIMITS);
        assert!(inbox.admit(60));
        assert!(!inbox.admit(41), "too many bytes");
        assert!(inbox.admit(40));
        assert!(!inbox.admit(0), "too many requests");
        inbox.release(60);
        assert!(inbox.admit(60));
        assert_eq!(inbox.counts(), [2, 100, 2, 0]);
    }

    #[test]
    fn messages_are_bounded_and_other_events_never_dropped() {
        let inbox = Inbox::new(LIMITS);
        inbox.messages(vec![message()], 100);
        inbox.messages(vec![message(), message()], 1);
        inbox.event(Event::Hydrate);
        let mut batch = Batch::default();
        inbox.take(&mut batch);
        assert_eq!(batch.events.len(), 2);
        assert!(matches!(
            batch.events[..],
            [Event::Messages(_), Event::Hydrate]
        ));
        assert_eq!(inbox.counts()[3], 2, "two were dropped");
        // There is room again.
        batch.events.clear();
        (0..3).for_each(|_| inbox.messages(vec![message()], 1));
        inbox.take(&mut batch);
        assert_eq!(batch.events.len(), 2);
    }
}
