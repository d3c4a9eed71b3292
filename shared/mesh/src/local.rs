//! The bus within one process, for `evenkeel dev` and tests. Same semantics as over NATS: encoded bodies, deadlines,
//! queue groups, nobody-there, answers matched by number. Handlers run on the sender's thread: no hop at all.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::bus_settings::{Identity, SenderId};
use crate::calls::Calls;
use crate::deadline::Deadline;
use crate::delivery::{Delivery, Handler, ReplyTo, Responder, run_handler};
use crate::lock::MeshLock;
use crate::stats::Stats;
use crate::trace_context::TraceContext;

/// Handlers that send from within handlers that send …: beyond this depth a thread of the bus' own goes on.
const NESTING_MAX: u32 = 8;
/// Messages that wait for that thread; beyond it they are dropped (and counted).
const DEFERRED_MAX: usize = 65_536;

thread_local! {
    static NESTING: Cell<u32> = const { Cell::new(0) };
}

/// In-process bus; clones are the same bus.
#[derive(Clone)]
pub struct LocalBus {
    pub(crate) shared: Arc<Shared>,
}

impl LocalBus {
    /// A new, empty bus.
    pub fn new() -> Self {
        Self::with(None)
    }

    /// The bus of a mesh whose only process this is: see `Mesh::succeeds_the_dead`.
    pub fn exclusive(lock: MeshLock) -> Self {
        Self::with(Some(lock))
    }

    fn with(lock: Option<MeshLock>) -> Self {
        let stats = Arc::new(Stats::default());
        Self {
            shared: Arc::new(Shared {
                calls: Calls::start(stats.clone()),
                stats,
                topics: RwLock::default(),
                lock,
                joined: Mutex::default(),
                next: AtomicU64::new(1),
                deferred: OnceLock::new(),
            }),
        }
    }
}

impl LocalBus {
    /// Counters of all its participants together, for export.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.shared.stats
    }
}

impl Default for LocalBus {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for LocalBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalBus").finish_non_exhaustive()
    }
}

pub(crate) struct Shared {
    pub(crate) calls: Arc<Calls>,
    pub(crate) stats: Arc<Stats>,
    topics: RwLock<HashMap<Box<str>, Arc<Topic>>>,
    /// Proof that no other process has anything to do with this mesh.
    lock: Option<MeshLock>,
    /// Service and instance of whoever ever joined.
    joined: Mutex<BTreeSet<(String, u64)>>,
    next: AtomicU64,
    deferred: OnceLock<Option<SyncSender<Deferred>>>,
}

struct Deferred {
    handler: Handler,
    delivery: Delivery,
}

/// Who listens to one subject; replaced as a whole.
struct Topic {
    /// Get everything.
    all: Vec<(u64, Handler)>,
    /// One member of each gets it.
    groups: Vec<Group>,
}

struct Group {
    name: String,
    members: Vec<(u64, Handler)>,
    turn: AtomicUsize,
}

/// What is sent.
pub(crate) struct Outbound<'a> {
    pub(crate) subject: &'a str,
    pub(crate) sender: SenderId,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) trace: &'a TraceContext,
    pub(crate) body: Bytes,
    /// Number of a call.
    pub(crate) correlation: Option<u64>,
}

impl Shared {
    /// Somebody joins: whether all who ever went by that name are dead for certain.
    pub(crate) fn join(&self, identity: &Identity) -> bool {
        let name = (identity.service.clone(), identity.instance);
        self.joined.lock().insert(name) && self.lock.is_some()
    }

    /// Hand the message to everyone it is for; `false` if there is nobody.
    pub(crate) fn send(&self, message: &Outbound<'_>) -> bool {
        let topic = self.topics.read().get(message.subject).cloned();
        let Some(topic) = topic else { return false };
        let bytes = message.body.len() as u64;
        self.stats.frames_sent.one();
        self.stats.messages_sent.one();
        self.stats.bytes_sent.add(bytes);
        for (_, handler) in &topic.all {
            self.deliver(handler, message);
        }
        for group in &topic.groups {
            let turn = group.turn.fetch_add(1, Ordering::Relaxed);
            if let Some((_, handler)) = group.members.get(turn % group.members.len().max(1)) {
                self.deliver(handler, message);
            }
        }
        true
    }

    fn deliver(&self, handler: &Handler, message: &Outbound<'_>) {
        self.stats.frames_received.one();
        self.stats.messages_received.one();
        self.stats.bytes_received.add(message.body.len() as u64);
        if message.deadline.is_some_and(|deadline| deadline.expired()) {
            self.stats.expired_dropped.one();
            return;
        }
        let to = message.correlation.map_or(ReplyTo::Nobody, |correlation| {
            ReplyTo::Local(self.calls.clone(), correlation)
        });
        let delivery = Delivery {
            sender: message.sender,
            deadline: message.deadline,
            trace: *message.trace,
            body: message.body.clone(),
            responder: Responder {
                to,
                deadline: message.deadline,
                stats: self.stats.clone(),
            },
        };
        let depth = NESTING.get();
        if depth >= NESTING_MAX {
            self.defer(handler.clone(), delivery);
            return;
        }
        NESTING.set(depth + 1);
        run_handler(handler, delivery, &self.stats);
        NESTING.set(depth);
    }

    /// Two services that answer each other's casts at once would otherwise overflow the stack.
    fn defer(&self, handler: Handler, delivery: Delivery) {
        let queue = self.deferred.get_or_init(|| {
            let (sender, receiver) = sync_channel::<Deferred>(DEFERRED_MAX);
            let stats = self.stats.clone();
            thread::Builder::new()
                .name("mesh-local".to_owned())
                .spawn(move || {
                    for Deferred { handler, delivery } in receiver {
                        run_handler(&handler, delivery, &stats);
                    }
                })
                .ok()
                .map(|_| sender)
        });
        let refused = match queue {
            Some(queue) => match queue.try_send(Deferred { handler, delivery }) {
                Ok(()) => false,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => true,
            },
            None => true,
        };
        if refused {
            self.stats.slow_consumer_dropped.one();
        }
    }

    /// Listen; dropping the result ends it.
    pub(crate) fn serve(
        self: &Arc<Self>,
        subject: &str,
        queue_group: Option<&str>,
        handler: Handler,
    ) -> LocalSubscription {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut topics = self.topics.write();
        let mut topic = topics
            .get(subject)
            .map_or_else(Topic::empty, |topic| topic.copy());
        match queue_group {
            None => topic.all.push((number, handler)),
            Some(name) => match topic.groups.iter_mut().find(|group| group.name == name) {
                Some(group) => group.members.push((number, handler)),
                None => topic.groups.push(Group {
                    name: name.to_owned(),
                    members: vec![(number, handler)],
                    turn: AtomicUsize::new(0),
                }),
            },
        }
        topics.insert(subject.into(), Arc::new(topic));
        LocalSubscription {
            bus: Arc::downgrade(self),
            subject: subject.into(),
            number,
        }
    }

    fn unsubscribe(&self, subject: &str, number: u64) {
        let mut topics = self.topics.write();
        let Some(topic) = topics.get(subject) else {
            return;
        };
        let mut topic = topic.copy();
        topic.all.retain(|(other, _)| *other != number);
        for group in &mut topic.groups {
            group.members.retain(|(other, _)| *other != number);
        }
        topic.groups.retain(|group| !group.members.is_empty());
        let old = if topic.all.is_empty() && topic.groups.is_empty() {
            topics.remove(subject)
        } else {
            topics.insert(subject.into(), Arc::new(topic))
        };
        // handlers may own subscriptions themselves: never drop one under the lock
        drop(topics);
        drop(old);
    }
}

impl Topic {
    fn empty() -> Self {
        Self {
            all: Vec::new(),
            groups: Vec::new(),
        }
    }
    fn copy(&self) -> Self {
        let groups = self.groups.iter().map(|group| Group {
            name: group.name.clone(),
            members: group.members.clone(),
            turn: AtomicUsize::new(group.turn.load(Ordering::Relaxed)),
        });
        Self {
            all: self.all.clone(),
            groups: groups.collect(),
        }
    }
}

/// Dropping it ends the subscription.
pub(crate) struct LocalSubscription {
    bus: Weak<Shared>,
    subject: Box<str>,
    number: u64,
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            bus.unsubscribe(&self.subject, self.number);
        }
    }
}
