//! A shard: an actor on its own arbiter (thread) that drives the replication groups pinned to it. Works in turns: takes all
//! that its inbox holds, lets every group deal with its part, then lets each group that was touched propose and persist once.
//! Never blocks; a panic ends the process.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message};
use partition::Partition;
use paxos::{GroupId, Input, Millis, NodeId, Replica, Restored, Role, Standing};
use protocol::control::CreateReplica;
use protocol::directory::Push;
use protocol::item::{ItemFault, ItemOperation, ItemReply};
use protocol::subjects;
use tokio::sync::oneshot;

use crate::env::Env;
use crate::group::Group;
use crate::inbox::{Batch, Event, Request};
use crate::orders::{Created, OrderCaller, OrderJob};
use crate::pool::AbortOnPanic;

/// The inbox holds something.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Wake;

/// Requests between two looks at the clocks: groups propose and heartbeats leave in between.
const REQUESTS_PER_ROUND: usize = 256;
/// Orders that wait for the same founding.
const FOUNDING_CALLERS_MAX: usize = 16;
/// How long memds is told of a dropped partition.
const DROPPED_TOLD_MS: u64 = 30_000;
/// How often the numbers for metrics are gathered.
const GATHER_EVERY_MS: u64 = 1_000;

/// The actor.
pub(crate) struct Shard {
    number: usize,
    env: Env,
    groups: HashMap<GroupId, Group>,
    /// Replicas that must not be served, and why.
    fenced: BTreeMap<GroupId, String>,
    creating: HashSet<GroupId>,
    dropping: HashSet<GroupId>,
    /// Dropped partitions that memds is still told of.
    dropped: Vec<(GroupId, Millis)>,
    batch: Batch,
    pushed_at: Millis,
    gathered_at: Millis,
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
    pub(crate) faults: u64,
    pub(crate) tree_bytes: u64,
}

impl Gathered {
    /// Sums; the lag is the larger one.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            replicas: self.replicas + other.replicas,
            leading: self.leading + other.leading,
            overlay_bytes: self.overlay_bytes + other.overlay_bytes,
            flush_lag_ms: self.flush_lag_ms.max(other.flush_lag_ms),
            faults: self.faults + other.faults,
            tree_bytes: self.tree_bytes + other.tree_bytes,
        }
    }
}

impl Shard {
    pub(crate) fn new(
        number: usize,
        env: Env,
        groups: Vec<Group>,
        fenced: BTreeMap<GroupId, String>,
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

    /// Lets the touched groups propose and persist, and sends the answers.
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
                self.fence(*id, error.to_string());
            }
        }
        self.env.answer_all();
        if std::mem::take(&mut self.env.directory_changed) {
            self.push_changes(&touched);
            self.check_hand_over();
        }
    }

    fn event(&mut self, event: Event, context: &mut Context<Self>) {
        match event {
            Event::Persisted(id, token, bytes) => {
                self.env.appended(bytes);
                self.with_group(id, |group, env| group.persisted(env, token));
            }
            Event::Message(message) => {
                self.with_group(message.group, |group, env| group.message(env, *message));
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
                self.with_group(id, |group, env| group.flushed(env, flushed));
                self.check_flushed();
            }
            Event::Copied(outcome) => {
                self.with_group(outcome.group, |group, env| {
                    group.copied(env, outcome.copied)
                });
            }
            Event::Unpersisted(id, bytes, error) => {
                self.env.appended(bytes);
                self.fence(id, error.to_string());
            }
            Event::Create(order, caller) => self.create(*order, caller),
            Event::Created(created) => self.created(*created),
            Event::Drop(id, caller) => self.drop_replica(id, caller),
            Event::Dropped(id, result, caller) => self.replica_dropped(id, result, caller),
            Event::SetTable(id, table, caller) => match self.groups.get_mut(&id) {
                Some(group) => group.set_table(&mut self.env, &table, caller),
                None => caller.0.reply(&protocol::control::OrderReply::NotLeader),
            },
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
                    group.partition.lose(&mut self.env.answers);
                }
                self.env.answer_all();
                let _ = done.send(());
            }
        }
    }

    fn request(&mut self, request: Request) {
        let Request {
            call,
            caller,
            deadline,
        } = request;
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
            ItemOperation::Write(_) => {}
        }
        let Some(group) = self.groups.get_mut(&call.partition) else {
            let fault = ItemFault::NotHere { partition: None };
            self.env.answers.push((caller, ItemReply::Fault(fault)));
            return;
        };
        if let Err(error) = group.request(&mut self.env, &call.operation, caller) {
            self.fence(call.partition, error.to_string());
        }
    }

    /// Lets a group do something; a group that cannot go on is fenced.
    fn with_group<E: ToString>(
        &mut self,
        id: GroupId,
        act: impl FnOnce(&mut Group, &mut Env) -> Result<(), E>,
    ) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        if let Err(error) = act(group, &mut self.env) {
            self.fence(id, error.to_string());
        }
    }

    /// Stops serving a replica for good: it votes no more, answers no more, and its files stay for the operator.
    fn fence(&mut self, id: GroupId, why: String) {
        tracing::error!(group = id.0, why, "replica fenced");
        if let Some(mut group) = self.groups.remove(&id) {
            group.partition.lose(&mut self.env.answers);
            for caller in group.founding {
                caller.refused(why.clone());
            }
        }
        self.fenced.insert(id, why);
        self.report_fenced();
    }

    fn report_fenced(&self) {
        let troubles = self.fenced.iter();
        let troubles = troubles.map(|(id, why)| format!("replica {} is fenced: {why}", id.0));
        self.env
            .node
            .report_troubles(self.number, troubles.collect());
    }

    fn create(&mut self, order: CreateReplica, caller: OrderCaller) {
        let id = order.partition;
        let me = order.configuration.member(self.env.node.id);
        if let Some(why) = self.fenced.get(&id) {
            caller.refused(format!("fenced: {why}"));
        } else if let Some(group) = self.groups.get_mut(&id) {
            if (1..FOUNDING_CALLERS_MAX).contains(&group.founding.len()) {
                group.founding.push(caller);
            } else {
                caller.done();
            }
        } else if self.creating.contains(&id) || self.dropping.contains(&id) {
            caller.refused("an earlier order for this replica is under way");
        } else if me.is_none_or(|me| me.incarnation != self.env.node.incarnation) {
            caller.refused("the configuration does not name this node and its disk");
        } else if me.is_some_and(|me| me.role != Role::Storage) {
            caller.refused("log replicas are not supported yet");
        } else {
            let inbox = self.env.inbox.clone();
            let folder = self.env.node.replica_folder(id);
            let options = self.env.node.tree_options();
            let job = OrderJob::Create {
                folder,
                options,
                order: Box::new(order),
                caller,
                inbox,
            };
            match self.env.orders.submit(job) {
                Ok(()) => drop(self.creating.insert(id)),
                Err(job) => job.refuse("too many orders at once"),
            }
        }
    }

    fn created(&mut self, created: Created) {
        let Created {
            group: id,
            caller,
            result,
        } = created;
        self.creating.remove(&id);
        let (tree, state) = match result {
            Ok(made) => made,
            Err(error) => return caller.refused(error.to_string()),
        };
        let node = &self.env.node;
        let restored = Restored::founding(state.configuration.clone());
        let timing = node.settings.timing.clone();
        let replica = Replica::new(
            node.id,
            node.incarnation,
            id,
            restored,
            timing,
            self.env.now,
        );
        let partition = Partition::new(state, node.partition_limits());
        let mut group = Group::new(id, replica, partition, std::sync::Arc::new(tree));
        group.founding.push(caller);
        self.groups.insert(id, group);
        // Its first step persists the founding.
        self.with_group(id, |group, env| group.step(env, Input::Tick));
    }

    fn drop_replica(&mut self, id: GroupId, caller: OrderCaller) {
        if self.creating.contains(&id) || self.dropping.contains(&id) {
            return caller.refused("an earlier order for this replica is under way");
        }
        let tree = match self.groups.remove(&id) {
            Some(mut group) => {
                group.partition.lose(&mut self.env.answers);
                self.env.directory_changed = true;
                Some(group.tree)
            }
            None if self.fenced.contains_key(&id) => None,
            None => {
                self.dropped.push((id, self.env.now));
                return caller.done();
            }
        };
        let inbox = self.env.inbox.clone();
        let folder = self.env.node.replica_folder(id);
        self.dropping.insert(id);
        if let Err(job) = self.env.orders.submit(OrderJob::Drop {
            group: id,
            folder,
            tree,
            caller,
            inbox,
        }) {
            self.dropping.remove(&id);
            self.fenced
                .insert(id, "its drop was ordered, but not done yet".to_owned());
            job.refuse("too many orders at once");
        }
    }

    fn replica_dropped(&mut self, id: GroupId, result: Result<(), String>, caller: OrderCaller) {
        self.dropping.remove(&id);
        match result {
            Ok(()) => {
                self.fenced.remove(&id);
                self.dropped.push((id, self.env.now));
                self.push(Vec::new(), true);
                caller.done();
            }
            Err(why) => {
                self.fenced.insert(id, format!("its drop failed: {why}"));
                caller.refused(why);
            }
        }
        self.report_fenced();
    }

    /// Looks at the time.
    fn tick(&mut self) {
        self.env.look_at_clocks();
        let mut failed = Vec::new();
        for group in self.groups.values_mut() {
            if let Err(error) = group.tick(&mut self.env) {
                failed.push((group.id, error.to_string()));
            }
        }
        for (id, why) in failed {
            self.fence(id, why);
        }
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

    /// Pushes the partitions among `ids` that this shard leads and that have changed.
    fn push_changes(&mut self, ids: &[GroupId]) {
        let changed = |id: &GroupId| {
            let group = self.groups.get_mut(id)?;
            (std::mem::take(&mut group.push_due) && group.leads()).then_some(*id)
        };
        let changed: Vec<GroupId> = ids.iter().filter_map(changed).collect();
        if !changed.is_empty() {
            self.push(changed, false);
        }
    }

    /// Pushes everything that this shard leads.
    fn push_all(&mut self) {
        self.pushed_at = self.env.now;
        let now = self.env.now;
        self.dropped
            .retain(|(_, since)| now.since(*since) < DROPPED_TOLD_MS);
        let led = self.groups.values_mut().filter(|group| group.leads());
        let mut led: Vec<GroupId> = led
            .map(|group| {
                group.push_due = false;
                group.id
            })
            .collect();
        led.sort_unstable();
        self.push(led, true);
    }

    fn push(&mut self, partitions: Vec<GroupId>, with_dropped: bool) {
        let mut dropped = match with_dropped {
            true => self.dropped.iter().map(|(id, _)| *id).collect(),
            false => Vec::new(),
        };
        let chunk_len = self.env.node.settings.limits.push_partitions_max.max(1);
        let mut chunks: Vec<&[GroupId]> = partitions.chunks(chunk_len).collect();
        if chunks.is_empty() && !dropped.is_empty() {
            chunks.push(&[]);
        }
        for chunk in chunks {
            let mut push = Push {
                node: self.env.node.id,
                partitions: Vec::with_capacity(chunk.len()),
                tables: Vec::new(),
                dropped: std::mem::take(&mut dropped),
            };
            let mut tables = BTreeMap::new();
            for group in chunk.iter().filter_map(|id| self.groups.get(id)) {
                push.partitions.extend(group.info());
                let table = &group.partition.state().table;
                let newest = tables.entry(table.id).or_insert(table);
                if newest.version < table.version {
                    *newest = table;
                }
            }
            push.tables = tables.into_values().cloned().collect();
            if let Err(error) = self.env.node.mesh.cast(subjects::MEMDS_PUSH, &push) {
                tracing::debug!(%error, "membership push not sent");
            }
        }
    }

    fn gather(&mut self) {
        self.gathered_at = self.env.now;
        let mut gathered = Gathered {
            replicas: self.groups.len() as u64,
            ..Gathered::default()
        };
        for group in self.groups.values() {
            gathered.leading += u64::from(group.leads());
            gathered.overlay_bytes += group.partition.overlay_bytes() as u64;
            gathered.flush_lag_ms = gathered.flush_lag_ms.max(group.flush_lag_ms(self.env.now));
            gathered.faults += group.replica.status().faults;
            gathered.tree_bytes += group.tree_bytes;
        }
        self.env.node.report_numbers(self.number, gathered);
    }

    fn hand_over(&mut self, done: oneshot::Sender<()>) {
        self.handing_over = Some((done, 0));
        self.check_hand_over();
        self.retry_hand_over();
    }

    /// Asks each group that is still led to go to its next candidate.
    fn retry_hand_over(&mut self) {
        let Some((_, attempt)) = &mut self.handing_over else {
            return;
        };
        let attempt = std::mem::replace(attempt, *attempt + 1);
        // A transfer takes a round trip or more: not at every tick.
        if !attempt.is_multiple_of(10) {
            return;
        }
        let me = self.env.node.id;
        let mut failed = Vec::new();
        for group in self.groups.values_mut() {
            let status = group.replica.status();
            if !matches!(status.standing, Standing::Leader { .. }) {
                continue;
            }
            let others = status.configuration.members.iter();
            let others = others.filter(|member| member.node != me && member.role == Role::Storage);
            let others: Vec<NodeId> = others.map(|member| member.node).collect();
            if others.is_empty() || !status.healthy {
                continue;
            }
            let to = others[(attempt / 10 + group.id.0 as usize) % others.len()];
            if let Err(error) = group.step(&mut self.env, Input::TransferLeadership { to }) {
                failed.push((group.id, error.to_string()));
            }
        }
        for (id, why) in failed {
            self.fence(id, why);
        }
        self.finish_round();
        self.check_hand_over();
    }

    /// Ends the hand-over when nothing is led that could be handed over.
    fn check_hand_over(&mut self) {
        let leads = |group: &Group| {
            let status = group.replica.status();
            matches!(status.standing, Standing::Leader { .. })
                && status.healthy
                && status.configuration.members.len() > 1
        };
        if self.handing_over.is_some()
            && !self.groups.values().any(leads)
            && let Some((done, _)) = self.handing_over.take()
        {
            let _ = done.send(());
        }
    }

    fn check_flushed(&mut self) {
        if self.flushing_all.is_none() {
            return;
        }
        // An earlier flush may have left newer entries.
        for group in self.groups.values_mut() {
            group.start_flush(&mut self.env);
        }
        if self.groups.values().all(Group::is_flushed)
            && let Some(done) = self.flushing_all.take()
        {
            let _ = done.send(());
        }
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
