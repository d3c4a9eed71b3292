//! Lookups to the memds fleet. Owns their batching (one queue a memds node, many lookups a message), the bounds of the queues,
//! and what the answers do to the route cache. Never decides what a request does with an answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mesh::{CallError, Deadline, Mesh, TraceContext};
use parking_lot::{Mutex, RwLock};
use protocol::directory::{Lookup, LookupAnswer, LookupReply, LookupRequest, TableRef};
use protocol::health::Heartbeat;
use protocol::subjects;
use telemetry::traces::{self, Record, Recorder};
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::fleet::Fleet;
use crate::routes::Routes;

/// Lookups that share a message at most.
const LOOKUPS_PER_MESSAGE_MAX: usize = 1_024;
/// Lookups that wait for one memds node at most; above it refreshes are dropped (and counted), misses refused.
const QUEUE_MAX: usize = 8_192;
/// Messages under way to one memds node; while they are, further lookups gather for the next one.
const MESSAGES_IN_FLIGHT_MAX: usize = 4;
/// How long refreshes of cache hits gather. Nobody waits for them, and each message costs the router, the bus and memds a wake-up.
const GATHER: Duration = Duration::from_millis(5);
/// How long one message may take; a memds node answers from memory.
const MESSAGE_TIME: Duration = Duration::from_millis(500);

/// What came back for a lookup that somebody waits for.
pub(crate) type Answered = Result<LookupAnswer, LookupFailed>;

/// The memds node did not answer (dead, overloaded, late).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LookupFailed;

struct Job {
    lookup: Lookup,
    answer: Option<oneshot::Sender<Answered>>,
    /// The request that caused it, and when.
    trace: TraceContext,
    queued_ns: u64,
}

/// The queue to one memds node.
struct Lane {
    instance: u64,
    queue: Mutex<Vec<Job>>,
    wake: Notify,
    urgent: AtomicBool,
    closed: AtomicBool,
}

/// The lookups of one client.
pub(crate) struct Lookups {
    mesh: Mesh,
    recorder: Recorder,
    pub(crate) routes: Arc<RwLock<Routes>>,
    fleet: RwLock<Fleet>,
    lanes: Mutex<HashMap<u64, Arc<Lane>>>,
    /// Where the queues run, whichever thread first needs one.
    runtime: tokio::runtime::Handle,
    started: Instant,
    sent: AtomicU64,
    messages: AtomicU64,
    dropped: AtomicU64,
}

impl Lookups {
    /// Within a runtime.
    pub(crate) fn new(
        mesh: Mesh,
        recorder: Recorder,
        routes: Arc<RwLock<Routes>>,
        zone: String,
    ) -> Self {
        Self {
            mesh,
            recorder,
            routes,
            fleet: RwLock::new(Fleet::new(zone)),
            lanes: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
            started: Instant::now(),
            sent: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Takes in a heartbeat of any service.
    pub(crate) fn heard(self: &Arc<Self>, beat: &Heartbeat) {
        let now_ms = self.now_ms();
        let new = self.fleet.write().heard(beat, now_ms);
        if new {
            self.close_dead_lanes(now_ms);
        }
    }

    /// Sends the lookup of a request that was answered from the cache; its answer refreshes the cache. Never waits.
    pub(crate) fn refresh(self: &Arc<Self>, lookup: Lookup, trace: TraceContext) {
        let chosen = self.fleet.read().one(self.now_ms(), rand::random());
        let queued = chosen.is_some_and(|instance| {
            self.lane(instance).push(Job {
                lookup,
                answer: None,
                trace,
                queued_ns: self.queued_ns(trace),
            })
        });
        if !queued {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends a lookup to two memds nodes (or the only one), one of them in the own zone; somebody waits for the answers.
    pub(crate) fn ask_two(
        self: &Arc<Self>,
        lookup: &Lookup,
        trace: TraceContext,
    ) -> Vec<oneshot::Receiver<Answered>> {
        let nodes = self.fleet.read().two(self.now_ms(), rand::random());
        self.ask(nodes, lookup, trace)
    }

    /// Sends a lookup to one memds node; somebody waits for the answer.
    pub(crate) fn ask_one(
        self: &Arc<Self>,
        lookup: &Lookup,
        trace: TraceContext,
    ) -> Vec<oneshot::Receiver<Answered>> {
        let node = self.fleet.read().one(self.now_ms(), rand::random());
        self.ask(node.into_iter().collect(), lookup, trace)
    }

    /// Sends a lookup to every ready memds node.
    pub(crate) fn ask_all(self: &Arc<Self>, lookup: &Lookup) -> Vec<oneshot::Receiver<Answered>> {
        let nodes = self.fleet.read().all_ready(self.now_ms());
        self.ask(nodes, lookup, TraceContext::default())
    }

    fn ask(
        self: &Arc<Self>,
        nodes: Vec<u64>,
        lookup: &Lookup,
        trace: TraceContext,
    ) -> Vec<oneshot::Receiver<Answered>> {
        let mut answers = Vec::with_capacity(nodes.len());
        for instance in nodes {
            let (sender, receiver) = oneshot::channel();
            let job = Job {
                lookup: lookup.clone(),
                answer: Some(sender),
                trace,
                queued_ns: self.queued_ns(trace),
            };
            if self.lane(instance).push(job) {
                answers.push(receiver);
            } else {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        answers
    }

    /// Ready memds nodes that are alive.
    pub(crate) fn ready(&self) -> usize {
        self.fleet.read().ready(self.now_ms())
    }

    /// Lookups sent, messages they shared, lookups dropped at a full queue or for want of a memds node.
    pub(crate) fn counters(&self) -> (u64, u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.sent), load(&self.messages), load(&self.dropped))
    }

    /// Ends all queues.
    pub(crate) fn close(&self) {
        for (_, lane) in self.lanes.lock().drain() {
            lane.close();
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn lane(self: &Arc<Self>, instance: u64) -> Arc<Lane> {
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get(&instance) {
            return lane.clone();
        }
        let lane = Arc::new(Lane {
            instance,
            queue: Mutex::default(),
            wake: Notify::new(),
            urgent: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        lanes.insert(instance, lane.clone());
        self.runtime.spawn(run_lane(self.clone(), lane.clone()));
        lane
    }

    fn close_dead_lanes(&self, now_ms: u64) {
        let fleet = self.fleet.read();
        self.lanes.lock().retain(|&instance, lane| {
            let alive = fleet.alive(instance, now_ms);
            if !alive {
                lane.close();
            }
            alive
        });
    }

    fn learn(&self, lookup: &Lookup, answer: &LookupAnswer) {
        match answer {
            LookupAnswer::Unchanged | LookupAnswer::NotReady => {}
            LookupAnswer::NoTable => {
                let mut routes = self.routes.write();
                match &lookup.table {
                    TableRef::Name(name) => routes.forget_name(name),
                    TableRef::Id(id) => routes.forget_table(*id),
                }
            }
            LookupAnswer::Found {
                table: None,
                partition: None,
            } => {}
            LookupAnswer::Found { table, partition } => {
                let mut routes = self.routes.write();
                if let Some(table) = table {
                    routes.learn_table((**table).clone());
                }
                if let Some(partition) = partition {
                    // An earlier partition instead of the one that was named: the split or merge that made that one came to
                    // nothing. Otherwise the later one would count.
                    if let Some(named) = lookup.known_id.filter(|id| *id > partition.partition) {
                        routes.forget_partition(partition.table, named);
                    }
                    routes.learn_partition((**partition).clone());
                }
            }
        }
    }

    /// When a lookup of this request is queued, if anybody wants to know.
    fn queued_ns(&self, trace: TraceContext) -> u64 {
        match trace.is_some() {
            true => self.recorder.now_ns(),
            false => 0,
        }
    }

    /// Notes what a message did for the requests whose lookups it carried.
    fn note(&self, message: u64, instance: u64, sent: &Sent, answered: bool) {
        let end_ns = self.recorder.now_ns();
        for cause in &sent.causes {
            self.recorder.note(Record::Lookup(traces::Lookup {
                context: cause.trace,
                start_ns: cause.queued_ns,
                sent_ns: sent.at_ns,
                end_ns,
                memds: instance,
                message,
                shared: sent.lookups,
                of_partition: cause.of_partition,
                waited: cause.waited,
                answered,
            }));
        }
    }

    async fn send(&self, instance: u64, jobs: Vec<Job>) {
        let message_trace = match self.recorder.is_on() {
            true => TraceContext {
                trace_id: traces::new_trace_id(),
                span_id: traces::random_u64(),
                sampled: false,
            },
            false => TraceContext::default(),
        };
        let message = message_trace.span_id;
        let told = Sent::of(&jobs, self.recorder.now_ns());
        let (lookups, waiting): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.lookup, job.answer)).unzip();
        self.sent.fetch_add(lookups.len() as u64, Ordering::Relaxed);
        self.messages.fetch_add(1, Ordering::Relaxed);
        let request = LookupRequest { lookups };
        let subject = subjects::memds_lookup(instance);
        let deadline = Deadline::after(MESSAGE_TIME);
        let reply: Result<LookupReply, CallError> = self
            .mesh
            .call(&subject, &request, deadline, &message_trace)
            .await;
        self.note(message, instance, &told, reply.is_ok());
        let answers = match reply {
            Ok(reply) if reply.answers.len() == request.lookups.len() => reply.answers,
            Ok(_) => {
                tracing::warn!(
                    instance,
                    "a memds node answered with a wrong number of answers"
                );
                return fail(waiting);
            }
            Err(error) => {
                if error != CallError::Overloaded {
                    self.fleet.write().failed(instance);
                }
                tracing::debug!(instance, %error, "a memds node did not answer");
                return fail(waiting);
            }
        };
        for ((lookup, answer), waiting) in request.lookups.iter().zip(answers).zip(waiting) {
            // One node's word is not enough to turn a waiting request away, so a miss's NoTable is weighed by who asked.
            if waiting.is_none() || !matches!(answer, LookupAnswer::NoTable) {
                self.learn(lookup, &answer);
            }
            if let Some(waiting) = waiting {
                let _ = waiting.send(Ok(answer));
            }
        }
    }
}

/// What a message carried, as far as traces go.
struct Sent {
    at_ns: u64,
    lookups: u32,
    causes: Vec<Cause>,
}

struct Cause {
    trace: TraceContext,
    queued_ns: u64,
    of_partition: bool,
    waited: bool,
}

impl Sent {
    /// Allocates only if a request is traced.
    fn of(jobs: &[Job], at_ns: u64) -> Self {
        let traced = jobs.iter().filter(|job| job.queued_ns > 0);
        let causes = traced.map(|job| Cause {
            trace: job.trace,
            queued_ns: job.queued_ns,
            of_partition: job.lookup.key.is_some(),
            waited: job.answer.is_some(),
        });
        Self {
            at_ns,
            lookups: jobs.len() as u32,
            causes: causes.collect(),
        }
    }
}

fn fail(waiting: Vec<Option<oneshot::Sender<Answered>>>) {
    for waiting in waiting.into_iter().flatten() {
        let _ = waiting.send(Err(LookupFailed));
    }
}

impl Lane {
    fn push(&self, job: Job) -> bool {
        let urgent = job.answer.is_some();
        let mut queue = self.queue.lock();
        if queue.len() >= QUEUE_MAX || self.closed.load(Ordering::Relaxed) {
            return false;
        }
        let first = queue.is_empty();
        queue.push(job);
        drop(queue);
        if urgent {
            self.urgent.store(true, Ordering::Release);
        }
        if urgent || first {
            self.wake.notify_one();
        }
        true
    }

    fn take(&self) -> Vec<Job> {
        let mut queue = self.queue.lock();
        if queue.len() <= LOOKUPS_PER_MESSAGE_MAX {
            std::mem::take(&mut *queue)
        } else {
            queue.drain(..LOOKUPS_PER_MESSAGE_MAX).collect()
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

/// Carries one lane's queue to its memds node until the lane is closed.
async fn run_lane(lookups: Arc<Lookups>, lane: Arc<Lane>) {
    let in_flight = Arc::new(Semaphore::new(MESSAGES_IN_FLIGHT_MAX));
    loop {
        lane.wake.notified().await;
        if !lane.urgent.swap(false, Ordering::AcqRel) {
            // Refreshes gather, unless somebody starts to wait meanwhile.
            let _ = tokio::time::timeout(GATHER, lane.wake.notified()).await;
        }
        loop {
            if lane.closed.load(Ordering::Acquire) {
                return fail(lane.take().into_iter().map(|job| job.answer).collect());
            }
            let Ok(permit) = in_flight.clone().acquire_owned().await else {
                return;
            };
            let jobs = lane.take();
            if jobs.is_empty() {
                break;
            }
            let lookups = lookups.clone();
            let instance = lane.instance;
            tokio::spawn(async move {
                lookups.send(instance, jobs).await;
                drop(permit);
            });
        }
    }
}
