//! A shard: an actor on its own arbiter (thread) that drives the replication groups pinned to it. Works in turns: takes all
//! that its inbox holds, lets every group deal with its part, then lets each group that was touched propose and persist once.
//! Never blocks; a panic ends the process.

mod directory;
mod draining;
mod full_disk;
mod orders;
mod scrub;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message};
use paxos::{GroupId, Input, Millis, NodeId};
use protocol::archive::LedLog;
use protocol::demand::{DemandReport, FollowerDemand, GROUPS_MAX};
use protocol::item::{ItemFault, ItemOperation, ItemReply};
use protocol::subjects;
use telemetry::traces;
use tokio::sync::oneshot;

use crate::env::Env;
use crate::fence::Fence;
use crate::group::Group;
use crate::inbox::{Batch, Event, Request};
use crate::orders::{Dropping, OrderJob};
use crate::pool::AbortOnPanic;

/// The inbox holds something.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Wake;

/// Requests between two looks at the clocks: groups propose and heartbeats leave in between.
const REQUESTS_PER_ROUND: usize = 256;
/// How often the numbers for metrics are gathered.
const GATHER_EVERY_MS: u64 = 1_000;
/// Leaderless replicas that a heartbeat names.
const LEADERLESS_MAX: usize = 256;

/// The actor.
pub(crate) struct Shard {
    number: usize,
    env: Env,
    groups: HashMap<GroupId, Group>,
    /// Replicas that must not be served, and why.
    fenced: BTreeMap<GroupId, Fence>,
    creating: HashSet<GroupId>,
    dropping: HashSet<GroupId>,
    /// Dropped partitions that memds is still told of.
    dropped: Vec<(GroupId, Millis)>,
    batch: Batch,
    pushed_at: Millis,
    gathered_at: Millis,
    /// When leadership was last handed away because of a full disk.
    fled_at: Millis,
    flee_pause_ms: u64,
    /// Answered when nothing is led any more; which successor is tried.
    handing_over: Option<(oneshot::Sender<()>, usize)>,
    flushing_all: Option<oneshot::Sender<()>>,
    _guard: AbortOnPanic,
}

/// Numbers of one shard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) replicas: u64,
    pub(crate) leading: u64,
    pub(crate) overlay_bytes: u64,
    pub(crate) flush_lag_ms: u64,
    pub(crate) index_lag_ms: u64,
    pub(crate) faults: u64,
    pub(crate) tree_bytes: u64,
    /// Groups whose leader here may serve strong reads.
    pub(crate) leases: u64,
    /// Replicas without a leader that they hear, and leaders without a recent quorum.
    pub(crate) unhealthy: u64,
    /// Replicas that wait for a full copy.
    pub(crate) copying: u64,
    /// Entries that the follower farthest behind lacks, of the groups led here.
    pub(crate) behind_entries: u64,
    /// Committed entries that the replica farthest behind has not applied.
    pub(crate) unapplied_entries: u64,
}

impl Gathered {
    /// Sums; of lags the larger one.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            replicas: self.replicas + other.replicas,
            leading: self.leading + other.leading,
            overlay_bytes: self.overlay_bytes + other.overlay_bytes,
            flush_lag_ms: self.flush_lag_ms.max(other.flush_lag_ms),
            index_lag_ms: self.index_lag_ms.max(other.index_lag_ms),
            faults: self.faults + other.faults,
            tree_bytes: self.tree_bytes + other.tree_bytes,
            leases: self.leases + other.leases,
            unhealthy: self.unhealthy + other.unhealthy,
            copying: self.copying + other.copying,
            behind_entries: self.behind_entries.max(other.behind_entries),
            unapplied_entries: self.unapplied_entries.max(other.unapplied_entries),
        }
    }
}

impl Shard {
    pub(crate) fn new(
        number: usize,
        env: Env,
        groups: Vec<Group>,
        fenced: BTreeMap<GroupId, Fence>,
    ) -> Self {
        let now = env.now;
        let mut shard = Self {
            number,
            env,
            groups: groups.into_iter().map(|group| (group.id, group)).collect(),
            fenced,
            creating: HashSet::new(),
            dropping: HashSet::new(),
            dropped: Vec::new(),
            batch: Batch::default(),
            pushed_at: now,
            gathered_at: now,
            fled_at: Millis(0),
            flee_pause_ms: 0,
            handing_over: None,
            flushing_all: None,
            _guard: AbortOnPanic("a shard"),
        };
        shard.report_fenced();
        shard.gather();
        shard
    }

    /// One turn.
    fn turn(&mut self, context: &mut Context<Self>) {
        let started = Instant::now();
        let mut batch = std::mem::take(&mut self.batch);
        self.env.inbox.take(&mut batch);
        self.env.look_at_clocks();
        for event in batch.events.drain(..) {
            self.event(event, context);
        }
        self.finish_round();
        let mut requests = batch.requests.drain(..);
        while requests.len() > 0 {
            self.env.look_at_clocks();
            for request in requests.by_ref().take(REQUESTS_PER_ROUND) {
                self.request(request);
            }
            self.finish_round();
        }
        drop(requests);
        // A burst must not cost memory for ever.
        batch.requests.shrink_to(REQUESTS_PER_ROUND);
        batch.events.shrink_to(REQUESTS_PER_ROUND);
        self.batch = batch;
        self.env
            .node
            .metrics
            .turn_seconds
            .observe(started.elapsed().as_secs_f64());
    }

    /// Lets the touched groups propose and persist, and sends the answers and messages.
    fn finish_round(&mut self) {
        // A group that finishes touches itself again only by way of what it just did: one pass is enough, the rest is for the
        // next turn.
        let touched = std::mem::take(&mut self.env.touched);
        for id in &touched {
            let Some(group) = self.groups.get_mut(id) else {
                continue;
            };
            let finished = group.finish(&mut self.env);
            group.touched = false;
            if let Err(error) = finished {
                self.fence(*id, error.into());
            }
        }
        self.env.answer_all();
        for id in std::mem::take(&mut self.env.retired) {
            tracing::info!(group = id.0, "no longer in the group, dropping the replica");
            self.drop_replica(id, Dropping::Retired(None));
        }
        if std::mem::take(&mut self.env.directory_changed) {
            self.push_changes(&touched);
            self.check_hand_over();
        }
        // After the log has got its part: what it writes takes longer.
        self.env.send_all();
    }

    fn event(&mut self, event: Event, context: &mut Context<Self>) {
        match event {
            Event::Persisted(id, token, bytes, sync) => {
                self.env.appended(bytes);
                self.with_group(id, |group, env| group.persisted(env, token, sync));
            }
            Event::Messages(messages) => {
                for message in messages {
                    self.with_group(message.group, |group, env| group.message(env, message));
                }
            }
            Event::LogRead {
                group,
                to,
                from,
                entries,
            } => {
                let input = Input::LogRead { to, from, entries };
                self.with_group(group, |group, env| group.step(env, input));
            }
            Event::Flushed(flushed) => {
                let id = flushed.group;
                self.with_group(id, |group, env| group.flushed(env, *flushed));
                self.check_flushed();
            }
            Event::Copied(copied) => {
                self.with_group(copied.group, |group, env| group.copied(env, *copied));
            }
            Event::CopyRequested(request, responder) => {
                let group = self.groups.get(&request.group);
                let store = group.and_then(|group| group.store.as_ref());
                let tree = store.map(|store| store.tree.clone());
                let reply = move |chunk| responder.reply(&chunk);
                // Busy: no answer, and the other node asks again.
                let _ = self.env.copies.serve(request, tree, reply);
            }
            Event::Unpersisted(id, bytes, error) => {
                self.env.appended(bytes);
                self.fence(id, error.into());
            }
            Event::LogUnreadable(id, error) => self.fence(id, error.into()),
            Event::ArchiveRead(id, read, caller) => match self.groups.get(&id) {
                Some(group) => group.read_for_archive(&self.env, read, caller),
                None => caller.unavailable("there is no such replica".to_owned()),
            },
            Event::Archived(id, index, caller) => match self.groups.contains_key(&id) {
                true => self.with_group(id, |group, env| group.archived(env, index, caller)),
                false => caller.unavailable("there is no such replica".to_owned()),
            },
            Event::Create(order, caller) => self.create(*order, caller),
            Event::Created(created) => self.created(*created),
            Event::Drop(id, caller) => self.drop_replica(id, Dropping::Deleted(caller)),
            Event::Dropped(id, result, dropping) => self.replica_dropped(id, result, dropping),
            Event::Join(order, caller) => self.join(order, caller),
            Event::JoinAnswered {
                group,
                node,
                role,
                result,
            } => {
                self.with_group(group, |group, env| {
                    group.join_answered(env, node, role, result)
                });
            }
            Event::Retire(id, incarnation, generation, caller) => {
                self.retire(id, incarnation, generation, caller);
            }
            Event::Replace(id, generation, who, caller) => match self.groups.contains_key(&id) {
                true => {
                    self.with_group(id, |group, env| group.replace(env, generation, who, caller))
                }
                false => caller.not_leader(),
            },
            Event::Transfer(id, to, caller) => match self.groups.contains_key(&id) {
                true => self.with_group(id, |group, env| group.transfer(env, to, caller)),
                false => caller.not_leader(),
            },
            Event::Campaign(id, caller) => {
                if self.groups.contains_key(&id) {
                    let cause = caller.cause();
                    self.with_group(id, |group, env| group.campaign_because(env, cause));
                    caller.done();
                } else {
                    caller.refused("no such replica");
                }
            }
            Event::SetTable(id, table, caller) => match self.groups.get_mut(&id) {
                Some(group) => group.set_table(&mut self.env, &table, caller),
                None => caller.not_leader(),
            },
            Event::Split(id, generation, split, caller) => match self.groups.get_mut(&id) {
                Some(group) => group.begin_split(&mut self.env, generation, &split, caller),
                None => caller.not_leader(),
            },
            Event::AbandonSplit(id, left, caller) => match self.groups.get_mut(&id) {
                Some(group) => group.abandon_split(&mut self.env, left, caller),
                None => caller.not_leader(),
            },
            Event::FindMiddle(id, caller) => self.find_middle(id, caller),
            Event::Mark(id, marker, responder) => self.mark(id, &marker, responder),
            Event::ScrubFailed(id, incarnation, error) => {
                if self.incarnation(id) == Some(incarnation) {
                    self.fence(id, error.into());
                }
            }
            Event::Condemn(id, incarnation, why, caller) => {
                self.condemn(id, incarnation, why, caller);
            }
            Event::Demand(demand) => {
                if let Some(group) = self.groups.get_mut(&demand.partition) {
                    group.hear_demand(&self.env, &demand);
                }
            }
            Event::SplitReported(report) => {
                if let Some(group) = self.groups.get_mut(&report.partition) {
                    group.split_reported(&mut self.env, &report);
                }
            }
            Event::Reserve { child, parent } => self.reserve(child, parent),
            Event::Reserved {
                child,
                parent,
                answer,
            } => self.reserved(parent, child, answer),
            Event::Release(child) => self.release(child),
            Event::Begin(made, campaign) => self.begin(*made, campaign),
            Event::Installed(id, result) => {
                self.with_group(id, |group, env| group.children_installed(env, result));
            }
            Event::ReleaseLog(id) => {
                self.with_group(id, |group, env| {
                    group.start_flush(env);
                    group.step(env, Input::ReleaseLog)
                });
            }
            Event::Delivered(delivered) => {
                let id = delivered.group;
                self.with_group(id, |group, env| group.delivered(env, *delivered));
            }
            Event::Hydrate => self.push_all(),
            Event::HandOver(done) => self.hand_over(done),
            Event::FlushAll(done) => {
                self.flushing_all = Some(done);
                self.check_flushed();
            }
            Event::Stop(done) => {
                context.stop();
                // Groups go with the shard; nobody waits for an answer that will not come.
                for (_, mut group) in self.groups.drain() {
                    group.abandon(&mut self.env);
                }
                self.env.answer_all();
                let _ = done.send(());
            }
        }
    }

    fn request(&mut self, request: Request) {
        let Request {
            call,
            mut caller,
            deadline,
        } = request;
        let _line = caller.traced().map(|traced| {
            traced.evaluated_ns = self.env.unix_ns;
            traces::enter(traced.context)
        });
        if deadline.is_some_and(|deadline| deadline.unix_ms() <= self.env.unix_ms) {
            self.env.node.metrics.expired.inc();
            // Nobody waits; the answer only gives the room back.
            self.env
                .answers
                .push((caller, ItemReply::Fault(ItemFault::NotReady)));
            return;
        }
        match &call.operation {
            ItemOperation::Get(get) if get.strong => self.env.node.metrics.strong_reads.inc(),
            ItemOperation::Get(_) => self.env.node.metrics.eventual_reads.inc(),
            ItemOperation::Page(_) => self.env.node.metrics.pages.inc(),
            ItemOperation::Write(_)
            | ItemOperation::Propagate(_)
            | ItemOperation::Changes(_)
            | ItemOperation::Transact(_) => {}
        }
        let Some(group) = self.groups.get_mut(&call.partition) else {
            let fault = ItemFault::NotHere { partition: None };
            self.env.answers.push((caller, ItemReply::Fault(fault)));
            return;
        };
        let partition = call.partition;
        if let Err(error) = group.request(&mut self.env, call, caller) {
            self.fence(partition, error.into());
        }
    }

    /// Lets a group do something; a group that cannot go on is fenced.
    fn with_group<E: Into<Fence>>(
        &mut self,
        id: GroupId,
        act: impl FnOnce(&mut Group, &mut Env) -> Result<(), E>,
    ) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if let Err(error) = act(group, &mut self.env) {
            self.fence(id, error.into());
        }
    }

    /// Stops serving a replica for good: it votes no more, answers no more, and its files stay for the operator. Every way to be
    /// fenced while the node runs leads here.
    fn fence(&mut self, id: GroupId, why: Fence) {
        if self.fenced.contains_key(&id) {
            return;
        }
        why.log(id);
        if let Some(mut group) = self.groups.remove(&id) {
            group.abandon(&mut self.env);
            self.env.directory_changed = true;
            for caller in group.founding {
                caller.refused(why.to_string());
            }
        }
        if why.needs_mark() {
            let folder = self.env.node.replica_folder(id);
            let fence = why.clone();
            if self
                .env
                .orders
                .submit(OrderJob::Mark { folder, fence })
                .is_err()
            {
                tracing::warn!(
                    group = id.0,
                    "too many orders at once: the fence is not noted on disk"
                );
            }
        }
        self.fenced.insert(id, why);
        self.report_fenced();
    }

    fn report_fenced(&self) {
        let troubles = self.fenced.iter();
        let troubles = troubles.map(|(id, why)| format!("replica {} is fenced: {why}", id.0));
        let fenced = self.fenced.iter().map(|(id, why)| (*id, why.reason));
        let node = &self.env.node;
        node.report_fenced(self.number, fenced.collect(), troubles.collect());
    }

    /// Looks at the time.
    fn tick(&mut self) {
        self.env.look_at_clocks();
        self.env.pace_flushes();
        self.env.full_peers = self.env.node.capacity.full_peers(self.env.now);
        let mut failed = Vec::new();
        for group in self.groups.values_mut() {
            if let Err(error) = group.tick(&mut self.env) {
                failed.push((group.id, Fence::from(error)));
            }
        }
        for (id, why) in failed {
            self.fence(id, why);
        }
        self.flee_full_disk();
        self.finish_round();
        let now = self.env.now;
        if now.since(self.pushed_at) >= self.env.node.settings.limits.push_every_ms {
            self.push_all();
        }
        if now.since(self.gathered_at) >= GATHER_EVERY_MS {
            self.gather();
        }
        self.retry_hand_over();
    }

    /// Notes for archivers what this shard leads.
    fn describe_logs(&mut self) {
        let (groups, env) = (self.groups.values_mut(), &self.env);
        let logs: Vec<LedLog> = groups.filter_map(|group| group.led_log(env)).collect();
        // The system table of a mesh that was founded by version 0.1 has no uuid, hence no place in the archive: its log must not wait for it.
        for log in logs.iter().filter(|log| log.table_uuid.is_empty()) {
            let index = log.committed;
            self.with_group(log.partition, |group, env| {
                group.step(env, Input::Archived { index })
            });
        }
        let logs = logs.into_iter().map(|log| (log.partition, log)).collect();
        self.env.node.report_logs(self.number, logs);
    }

    /// Tells leaders on other nodes what their followers here served since the last time.
    fn tell_demand(&mut self) {
        let mut nodes: BTreeMap<NodeId, Vec<FollowerDemand>> = BTreeMap::new();
        for group in self.groups.values_mut() {
            if let Some((leader, demand)) = group.demand(&self.env) {
                nodes.entry(leader).or_default().push(demand);
            }
        }
        let node = self.env.node.id;
        for (leader, demands) in nodes {
            let subject = subjects::node_demand(leader);
            for groups in demands.chunks(GROUPS_MAX) {
                let groups = groups.to_vec();
                let report = DemandReport { node, groups };
                if let Err(error) = self.env.node.mesh.cast(&subject, &report) {
                    tracing::debug!(%error, "report of demand not sent");
                }
            }
        }
    }

    fn gather(&mut self) {
        self.gathered_at = self.env.now;
        self.tell_demand();
        let mut gathered = Gathered {
            replicas: self.groups.len() as u64,
            ..Gathered::default()
        };
        for group in self.groups.values() {
            gathered.leading += u64::from(group.leads());
            gathered.flush_lag_ms = gathered.flush_lag_ms.max(group.flush_lag_ms(self.env.now));
            let status = group.replica.status();
            gathered.faults += status.faults;
            gathered.leases += u64::from(status.lease_until.is_some_and(|at| at > self.env.now));
            gathered.unhealthy += u64::from(!status.healthy);
            gathered.copying += u64::from(status.copying);
            let unapplied = status.commit.saturating_sub(status.delivered);
            gathered.unapplied_entries = gathered.unapplied_entries.max(unapplied);
            gathered.behind_entries = gathered.behind_entries.max(group.behind_entries());
            if let Some(store) = &group.store {
                let lag_ms = store.propagation.lag_ms(self.env.unix_ms);
                gathered.index_lag_ms = gathered.index_lag_ms.max(lag_ms);
                gathered.overlay_bytes += store.partition.overlay_bytes() as u64;
                gathered.tree_bytes += store.tree_bytes;
            }
        }
        self.env.node.report_numbers(self.number, gathered);
        if self.env.node.settings.archive {
            self.describe_logs();
        }
        let now = self.env.now;
        let leaderless = self.groups.values().filter_map(|g| g.leaderless(now));
        let leaderless = leaderless.take(LEADERLESS_MAX).collect();
        let peers = self.env.peers.take();
        self.env.node.report_peers(self.number, &peers, leaderless);
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let every = Duration::from_millis(self.env.node.settings.limits.tick_ms.max(1));
        context.run_interval(every, |shard, context| {
            shard.turn(context);
            shard.tick();
        });
    }
}

impl Handler<Wake> for Shard {
    type Result = ();

    fn handle(&mut self, _: Wake, context: &mut Self::Context) {
        self.turn(context);
    }
}
