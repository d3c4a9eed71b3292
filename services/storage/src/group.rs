//! One replica of one replication group on this node: the replication core, the partition and the B-tree, and the order in
//! which they are told what. Runs on its shard's thread only; never blocks (disks are other threads' work).

mod admission;
mod archive;
mod changes;
mod demand;
mod election;
mod flush;
mod healing;
mod index_counts;
mod propagation;
mod requests;
mod scrub;
mod split;
mod store;
mod transactions;

use std::collections::VecDeque;

use ::healing::Nodes;
use mesh::TraceContext;
use model::Units;
use model::capacity::Direction;
use partition::PartitionError;
use paxos::{
    Body, Entry, FollowerStatus, GroupId, Input, Member, Millis, NodeId, Output, Payload,
    PersistOp, Replica, Standing, Token,
};
use protocol::directory::{PartitionInfo, PlacedMember, ReplicaProgress};
use protocol::health::LeaderlessReplica;
use protocol::item::{ItemFault, ItemReply};
use protocol::replication::GroupMessage;

use telemetry::traces::{self, Appended, Applied, Record};

use crate::env::Env;
use crate::group::archive::LogAge;
use crate::group::election::{Election, HandOver, hand_over_context};
use crate::group::healing::Healing;
use crate::group::split::SplitWatch;
pub(crate) use crate::group::store::Store;
use crate::log_reader::{FollowerJob, LogJob};
use crate::orders::Founder;

/// A replica that heard of no leader for so long is reported.
const LEADERLESS_MS: u64 = 60_000;

/// A replica on this node.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) replica: Replica,
    /// What a storage replica has beside its log; none: a log replica, which accepts and promises, and never leads or serves.
    pub(crate) store: Option<Box<Store>>,
    /// Appends that the log has taken and not made durable yet.
    appends: usize,
    /// Of these appends, those that traces may ask for: first and last entry, when they came, when they were handed over.
    noted: VecDeque<Noted>,
    /// When the oldest of the operations came, Unix nanoseconds; 0 = nobody wants to know.
    operations_ns: u64,
    /// Operations that the log has not taken yet, and the token of the last.
    operations: Vec<PersistOp>,
    token: Option<Token>,
    election: Election,
    /// At a leader: that it is handing over.
    hand_over: Option<HandOver>,
    /// At a leader: what it does about the others.
    healing: Healing,
    split_watch: SplitWatch,
    /// When transactions that stall here were last looked for.
    stalled_at: Millis,
    /// At a leader: since when which entries wait to be archived.
    log_age: LogAge,
    /// Since when this replica is here, or last heard from a leader.
    led_at: Millis,
    /// In the environment's list of groups to finish in this turn.
    pub(crate) touched: bool,
    /// The directory should hear of a change.
    pub(crate) push_due: bool,
    /// Answered once the founding is durable.
    pub(crate) founding: Vec<Founder>,
    /// Why it needs a full copy, until it has one; none: it fell behind.
    pub(crate) copy_cause: TraceContext,
}

impl Group {
    pub(crate) fn new(id: GroupId, replica: Replica, store: Option<Store>, now: Millis) -> Self {
        Self {
            id,
            replica,
            store: store.map(Box::new),
            appends: 0,
            noted: VecDeque::new(),
            operations_ns: 0,
            operations: Vec::new(),
            token: None,
            election: Election::default(),
            hand_over: None,
            healing: Healing::new(id, now),
            split_watch: SplitWatch::default(),
            stalled_at: now,
            log_age: LogAge::default(),
            led_at: now,
            touched: false,
            push_due: false,
            founding: Vec::new(),
            copy_cause: TraceContext::default(),
        }
    }

    /// Whether this replica leads and serves.
    pub(crate) fn leads(&self) -> bool {
        matches!(
            self.replica.status().standing,
            Standing::Leader { serving: true }
        )
    }

    /// Entries that the follower farthest behind lacks; 0 where this replica does not lead.
    pub(crate) fn behind_entries(&self) -> u64 {
        if !self.leads() {
            return 0;
        }
        let last = self.replica.status().last.index;
        let followers = self.replica.followers();
        let behind = followers.iter().map(|f| last.saturating_sub(f.matched));
        behind.max().unwrap_or(0)
    }

    /// The partition as this replica knows it, if it knows a leader (a log replica knows no partition).
    pub(crate) fn info(&self, env: &Env) -> Option<PartitionInfo> {
        let status = self.replica.status();
        let state = self.store.as_ref()?.partition.state();
        let leader = status.leader?;
        // What is committed: a change that is not may never be, and the directory would take everything later for older.
        let configuration = &state.configuration;
        let nodes = env.node.nodes.read();
        let placed = |member: &Member| PlacedMember {
            member: *member,
            zone: zone_of(&nodes, &state.members, member.node),
        };
        let progress = |follower: &FollowerStatus| ReplicaProgress {
            node: follower.member.node,
            incarnation: follower.member.incarnation,
            behind_entries: status.last.index.saturating_sub(follower.matched),
            silent_ms: self.healing.silent_ms(env.now, follower),
            copying: follower.copying,
            in_step: follower.in_step,
        };
        let (read_units_s, write_units_s, refused_units_s) =
            self.store.as_ref()?.admission.rates(env.now);
        Some(PartitionInfo {
            partition: self.id,
            table: state.table.id,
            range: state.range.clone(),
            generation: configuration.generation,
            ballot: status.promised,
            leader: Some(leader),
            members: configuration.voters().map(placed).collect(),
            learners: configuration.learners.iter().map(placed).collect(),
            progress: self.replica.followers().iter().map(progress).collect(),
            changing: !self.replica.configuration_settled(),
            table_version: state.table.version,
            items: state.items,
            bytes: state.bytes,
            read_units_s,
            write_units_s,
            refused_units_s,
            advice: {
                let whole_collections = state.table.has_local_indexes();
                self.store
                    .as_ref()?
                    .admission
                    .advice(env.now, whole_collections)
            },
            parent: state.parent,
            split: self.split_progress(state),
            unarchived: self.is_unarchived(env),
            backfilled: {
                let done = state.backfills.iter().filter(|b| b.done);
                done.map(|backfill| backfill.index).collect()
            },
            index_counts: self.store.as_ref()?.index_counts.found.clone(),
        })
    }

    /// What the admin is told of a replica that has heard of no leader for long.
    pub(crate) fn leaderless(&self, now: Millis) -> Option<LeaderlessReplica> {
        (now.since(self.led_at) >= LEADERLESS_MS).then(|| LeaderlessReplica {
            partition: self.id,
            incarnation: self.replica.identity().incarnation,
            generation: self.replica.configuration().generation,
        })
    }

    /// Something for the replication core; does what it says.
    pub(crate) fn step(&mut self, env: &mut Env, input: Input) -> Result<(), PartitionError> {
        let output = self.replica.step(env.now, input);
        self.carry_out(env, output)
    }

    /// A message of another member.
    pub(crate) fn message(
        &mut self,
        env: &mut Env,
        message: GroupMessage,
    ) -> Result<(), PartitionError> {
        // A follower whose flush is far behind, or whose disk or log is full, takes no more commands: memory and disk are
        // bounded, the leader sends them again. It does take what a new leader begins with: otherwise nobody could lead, and so read,
        // where all members are full.
        let limits = &env.node.settings.limits;
        if let Body::Append(append) = &message.message.body
            && append.entries.iter().any(is_command)
            && let Some(store) = &self.store
            && (store.partition.overlay_bytes() > 2 * limits.overlay_bytes_max
                || env.node.overlays_full()
                || env.node.refuses_entries())
        {
            return Ok(());
        }
        let acknowledged = match &message.message.body {
            Body::Ack(ack) => Some(env.now.since(ack.sent)),
            _ => None,
        };
        env.peers.heard(message.from, env.now, acknowledged);
        let GroupMessage {
            from,
            incarnation,
            message,
            ..
        } = message;
        self.step(
            env,
            Input::Message {
                from,
                incarnation,
                message,
            },
        )
    }

    /// Everything up to this token is durable.
    pub(crate) fn persisted(
        &mut self,
        env: &mut Env,
        token: Token,
        sync: (u64, u64, u64),
    ) -> Result<(), PartitionError> {
        self.note_durable(env, token, sync);
        self.appends = self.appends.saturating_sub(1);
        for founder in self.founding.drain(..) {
            founder.founded(self.replica.identity().incarnation);
        }
        self.step(env, Input::Persisted(token))
    }

    /// This replica goes: answers everybody who waits for it.
    pub(crate) fn abandon(&mut self, env: &mut Env) {
        self.lose(env);
        self.release_children(env);
        if let Some(store) = &mut self.store {
            let not_done = |(_, caller, _)| (caller, ItemReply::Fault(ItemFault::NotReady));
            env.answers.extend(store.writes.drain(..).map(not_done));
        }
    }

    fn carry_out(&mut self, env: &mut Env, output: Output) -> Result<(), PartitionError> {
        env.touch(self.id, &mut self.touched);
        if !output.persist.is_empty() && self.operations.is_empty() {
            self.operations_ns = env.unix_ns;
        }
        self.operations.extend(output.persist);
        self.token = output.token.or(self.token);
        let incarnation = self.replica.identity().incarnation;
        for (to, message) in output.send {
            env.send(self.id, incarnation, to, message);
        }
        match output.proposed {
            Some(Ok(first)) => {
                if let Some(store) = &mut self.store {
                    store.partition.proposed(first);
                }
            }
            Some(Err(refusal)) => {
                let fault = self.refusal_fault(env, refusal);
                if let Some(store) = &mut self.store {
                    store.partition.refused(&fault, &mut env.answers);
                }
            }
            None => {}
        }
        if let Some(answer) = output.reconfigured {
            self.healing.reconfigured(env.now, self.id, answer);
        }
        if !output.committed.is_empty() {
            self.election.committed();
            self.apply(env, &output.committed)?;
        }
        if output.lost.is_some() {
            self.lose(env);
        }
        for wanted in output.read_log {
            let job = FollowerJob {
                group: self.id,
                to: wanted.to,
                from: wanted.from,
                bytes_max: wanted.max_bytes,
                inbox: env.inbox.clone(),
            };
            // Queue full: the core asks again.
            let _ = env.log_reader.submit(LogJob::Follower(job));
        }
        if let Some(from) = output.copy_wanted {
            self.want_copy(env, from);
        }
        if let Some(standing) = output.role_changed {
            let metrics = &env.node.metrics;
            match standing {
                Standing::Candidate => metrics.elections_started.inc(),
                Standing::Leader { serving: true } => metrics.elections_won.inc(),
                Standing::Leader { serving: false } | Standing::Follower => {}
            }
            self.trace_standing(env, standing);
            self.push_due = true;
            env.directory_changed = true;
        }
        if output.retired {
            env.retired.push(self.id);
        }
        Ok(())
    }

    /// Its standing has changed: notes that for the traces of elections and hand-overs.
    fn trace_standing(&mut self, env: &Env, standing: Standing) {
        if let Some(released) = self.replica.handed_over() {
            let members = &self.replica.configuration().members;
            let leader = members.iter().find(|m| m.node == released.node);
            let incarnation = leader.map_or(0, |member| member.incarnation);
            let cause = hand_over_context(self.id, released, incarnation);
            self.election.because(cause);
        }
        if let Some(flow) = self.election.changed(standing, env.unix_ns) {
            env.node.flows.end(flow.of_partition(self.id.0), Ok(()));
        }
        let ended = self.hand_over.as_ref().map(|hand| hand.ended(standing));
        if let Some(result) = ended.flatten()
            && let Some(hand) = self.hand_over.take()
        {
            let flow = hand.flow().of_partition(self.id.0);
            env.node.flows.end(flow, result);
        }
    }

    /// Stands for election now, because of this.
    pub(crate) fn campaign_because(
        &mut self,
        env: &mut Env,
        cause: TraceContext,
    ) -> Result<(), PartitionError> {
        self.election.because(cause);
        let stepped = self.step(env, Input::Campaign);
        self.election.unless_begun();
        stepped
    }

    /// Hands leadership over to this member, for this reason and because of this.
    pub(crate) fn give_away(
        &mut self,
        env: &mut Env,
        to: NodeId,
        reason: &'static str,
        cause: TraceContext,
    ) -> Result<(), PartitionError> {
        if self.leads() {
            let incarnation = self.replica.identity().incarnation;
            let ballot = self.replica.status().promised;
            let context = hand_over_context(self.id, ballot, incarnation);
            let hand = HandOver::begin(context, to, reason, cause, env.unix_ns);
            self.hand_over = Some(hand);
        }
        let stepped = self.step(env, Input::TransferLeadership { to });
        if self.leads() {
            // It was not taken on.
            self.hand_over = None;
        }
        stepped
    }

    /// Nobody who waits gets a certain answer any more.
    pub(crate) fn lose(&mut self, env: &mut Env) {
        if let Some(store) = &mut self.store {
            store.partition.lose(&mut env.answers);
        }
    }

    fn apply(&mut self, env: &mut Env, committed: &[Entry]) -> Result<(), PartitionError> {
        if !self.leads() {
            // A leader was charged when it evaluated them.
            let written = committed.iter().filter_map(write_units).sum();
            env.node.capacity.charge(env.now, Direction::Write, written);
        }
        let Some(store) = &mut self.store else {
            // A log replica has nothing to apply them to.
            return Ok(());
        };
        let news = |store: &Store| {
            let state = store.partition.state();
            let split = state.split.as_ref();
            let split = split.map(|split| (split.left, split.committed.is_some()));
            (state.configuration.generation, state.table.version, split)
        };
        let before = news(store);
        for entry in committed {
            let answered = env.answers.len();
            store.partition.apply(entry, &mut env.answers)?;
            for (caller, _) in &mut env.answers[answered..] {
                if let Some(traced) = caller.traced() {
                    (traced.index, traced.committed_ns) = (entry.index, env.unix_ns);
                }
            }
        }
        if let (Some(first), Some(last)) = (committed.first(), committed.last())
            && env.node.recorder.is_on()
        {
            env.node.recorder.note(Record::Applied(Applied {
                group: self.id.0,
                first: first.index,
                last: last.index,
                node: env.node.id.0,
                start_ns: env.unix_ns,
                end_ns: traces::now_ns(),
            }));
        }
        if before != news(store) {
            self.push_due = true;
            env.directory_changed = true;
        }
        store.unflushed_since.get_or_insert(env.now);
        Ok(())
    }

    /// Ends this group's part of a turn: one proposal for all its commands, one append for all its operations.
    pub(crate) fn finish(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        self.evaluate_writes(env)?;
        let commands = self.store.as_mut().map(|s| std::mem::take(&mut s.commands));
        if let Some(commands) = commands.filter(|commands| !commands.is_empty()) {
            env.node.metrics.proposals.inc_by(commands.len() as u64);
            self.step(env, Input::Propose(commands))?;
        }
        self.append(env);
        // Nobody serves the partition's keys until its children are installed.
        let ended = |store: &Store| {
            let state = store.partition.state();
            state.has_ended() && !state.installed
        };
        if self.store.as_deref().is_some_and(ended) {
            self.work_on_split(env)?;
        }
        let flush_bytes = env.node.settings.limits.flush_bytes;
        let store = self.store.as_ref();
        let due = |store: &Store| {
            store.partition.unsealed_bytes() >= flush_bytes || store.partition.is_marked()
        };
        if store.is_some_and(|store| due(store)) {
            self.start_flush(env);
        }
        Ok(())
    }

    /// Hands the operations to the WAL.
    fn append(&mut self, env: &mut Env) {
        let Some(token) = self.token else { return };
        if !env.wal_has_room() {
            // Full: they stay here, in order, and are handed over at the next tick.
            return;
        }
        self.token = None;
        self.appends += 1;
        let operations = std::mem::take(&mut self.operations);
        self.note_handed(env, &operations, token);
        env.append(self.id, operations, token);
    }

    /// Notes which entries the log was given, for traces.
    fn note_handed(&mut self, env: &Env, operations: &[PersistOp], token: Token) {
        if !env.node.recorder.is_on() {
            return;
        }
        let entries = || {
            operations.iter().filter_map(|operation| match operation {
                PersistOp::Append(entries) => Some(entries),
                _ => None,
            })
        };
        let first = entries().find_map(|entries| entries.first());
        let last = entries().filter_map(|entries| entries.last()).next_back();
        if let (Some(first), Some(last)) = (first, last) {
            self.noted.push_back(Noted {
                token,
                first: first.index,
                last: last.index,
                came_ns: self.operations_ns,
                handed_ns: traces::now_ns(),
            });
        }
    }

    /// Notes that they are durable.
    fn note_durable(
        &mut self,
        env: &Env,
        token: Token,
        (sync, sync_ns, synced_ns): (u64, u64, u64),
    ) {
        while let Some(noted) = self.noted.front().copied() {
            if noted.token > token {
                break;
            }
            self.noted.pop_front();
            env.node.recorder.note(Record::Appended(Appended {
                group: self.id.0,
                first: noted.first,
                last: noted.last,
                node: env.node.id.0,
                start_ns: noted.came_ns,
                handed_ns: noted.handed_ns,
                sync_ns,
                synced_ns,
                end_ns: env.unix_ns,
                sync,
                leads: self.leads(),
            }));
        }
    }

    /// Looks at the time.
    pub(crate) fn tick(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        if self.replica.wake_at() <= env.now {
            self.step(env, Input::Tick)?;
        }
        let writes = |store: &Store| !store.writes.is_empty();
        if self.token.is_some() || self.store.as_deref().is_some_and(writes) {
            env.touch(self.id, &mut self.touched);
        }
        self.tick_flush(env);
        self.propagate(env)?;
        self.report_stalled(env);
        self.tick_split(env)?;
        self.tick_upkeep(env)?;
        self.tick_index_counts(env)?;
        self.heal(env)
    }
}

/// Entries on their way to the disk, for traces.
#[derive(Clone, Copy, Debug)]
struct Noted {
    token: Token,
    first: u64,
    last: u64,
    came_ns: u64,
    handed_ns: u64,
}

/// Whether the entry may be large, and there may be any number like it.
fn is_command(entry: &Entry) -> bool {
    matches!(entry.payload, Payload::Command(_))
}

/// What a write in the log costs the node that writes it.
fn write_units(entry: &Entry) -> Option<Units> {
    let Payload::Command(command) = &entry.payload else {
        return None;
    };
    partition::command::units(command)
}

/// Zone of a node: as it says itself, else as it is stored with the partition.
fn zone_of(nodes: &Nodes, stored: &[PlacedMember], node: NodeId) -> String {
    if let Some(node) = nodes.get(node) {
        return node.zone.clone();
    }
    let mut stored = stored.iter();
    let placed = stored.find(|placed| placed.member.node == node);
    placed.map(|placed| placed.zone.clone()).unwrap_or_default()
}
