//! One replica of one replication group on this node: the replication core, the partition and the B-tree, and the order in
//! which they are told what. Runs on its shard's thread only; never blocks (disks are other threads' work).

use std::sync::Arc;

use bytes::Bytes;
use partition::{Batch, Evaluated, Partition, PartitionError};
use paxos::{
    Body, Entry, GroupId, Input, Millis, NodeId, Output, PersistOp, Position, Refusal, Replica,
    Standing, Token,
};
use protocol::directory::PartitionInfo;
use protocol::item::{ItemFault, ItemOperation, ItemReply};
use protocol::replication::GroupMessage;

use crate::btree::{ReplicaTree, TreeError};
use crate::copier::{Copied, CopyJob};
use crate::env::Env;
use crate::flusher::{FlushJob, Flushed};
use crate::inbox::{Caller, Event};
use crate::log_reader::LogJob;
use crate::orders::OrderCaller;

/// A replica on this node.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) replica: Replica,
    pub(crate) partition: Partition<Caller>,
    pub(crate) tree: Arc<ReplicaTree>,
    /// Bytes of its files, as of the last flush.
    pub(crate) tree_bytes: u64,
    /// Commands evaluated in this turn, to be proposed together.
    commands: Vec<Bytes>,
    /// Operations that the log has not taken yet, and the token of the last.
    operations: Vec<PersistOp>,
    token: Option<Token>,
    flush: Flush,
    /// Since when applied entries wait for a flush.
    unflushed_since: Option<Millis>,
    /// A full copy from this node is wanted or under way: nothing is applied, nothing flushed, nothing served.
    copying: Option<NodeId>,
    /// In the environment's list of groups to finish in this turn.
    pub(crate) touched: bool,
    /// The directory should hear of a change.
    pub(crate) push_due: bool,
    /// Answered once the founding is durable.
    pub(crate) founding: Vec<OrderCaller>,
}

/// What a flush is doing.
enum Flush {
    Idle,
    Running,
    /// It could not be done (disk full, queue full): try this again at that time.
    Retry(Batch, Millis),
}

/// After a failed flush, milliseconds.
const FLUSH_RETRY_MS: u64 = 1_000;

impl Group {
    pub(crate) fn new(
        id: GroupId,
        replica: Replica,
        partition: Partition<Caller>,
        tree: Arc<ReplicaTree>,
    ) -> Self {
        Self {
            id,
            replica,
            partition,
            tree_bytes: tree.disk_bytes(),
            tree,
            commands: Vec::new(),
            operations: Vec::new(),
            token: None,
            flush: Flush::Idle,
            unflushed_since: None,
            copying: None,
            touched: false,
            push_due: false,
            founding: Vec::new(),
        }
    }

    /// Whether this replica leads and serves.
    pub(crate) fn leads(&self) -> bool {
        matches!(
            self.replica.status().standing,
            Standing::Leader { serving: true }
        )
    }

    /// The partition as this replica knows it, if it knows a leader.
    pub(crate) fn info(&self) -> Option<PartitionInfo> {
        let status = self.replica.status();
        let state = self.partition.state();
        status.leader.map(|leader| PartitionInfo {
            partition: self.id,
            table: state.table.id,
            range: state.range.clone(),
            generation: status.configuration.generation,
            ballot: status.promised,
            leader: Some(leader),
            members: state.members.clone(),
            table_version: state.table.version,
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
        // A follower whose flush is far behind takes no more entries: memory is bounded, the leader sends them again.
        if let Body::Append(append) = &message.message.body
            && !append.entries.is_empty()
            && self.partition.overlay_bytes() > 2 * env.node.settings.limits.overlay_bytes_max
        {
            return Ok(());
        }
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
    pub(crate) fn persisted(&mut self, env: &mut Env, token: Token) -> Result<(), PartitionError> {
        for caller in self.founding.drain(..) {
            caller.done();
        }
        self.step(env, Input::Persisted(token))
    }

    fn carry_out(&mut self, env: &mut Env, output: Output) -> Result<(), PartitionError> {
        env.touch(self.id, &mut self.touched);
        self.operations.extend(output.persist);
        self.token = output.token.or(self.token);
        for (to, message) in output.send {
            env.send(self.id, to, message);
        }
        match output.proposed {
            Some(Ok(first)) => self.partition.proposed(first),
            Some(Err(refusal)) => {
                let fault = self.refusal_fault(refusal);
                self.partition.refused(&fault, &mut env.answers);
            }
            None => {}
        }
        if !output.committed.is_empty() {
            self.apply(env, &output.committed)?;
        }
        if output.lost.is_some() {
            self.partition.lose(&mut env.answers);
        }
        for wanted in output.read_log {
            let job = LogJob {
                group: self.id,
                to: wanted.to,
                from: wanted.from,
                bytes_max: wanted.max_bytes,
                inbox: env.inbox.clone(),
            };
            // Queue full: the core asks again.
            let _ = env.log_reader.submit(job);
        }
        if let Some(from) = output.copy_wanted {
            self.copying = Some(from);
            self.partition.lose(&mut env.answers);
            self.start_copy(env);
        }
        if output.role_changed.is_some() {
            self.push_due = true;
            env.directory_changed = true;
        }
        Ok(())
    }

    fn apply(&mut self, env: &mut Env, committed: &[Entry]) -> Result<(), PartitionError> {
        let before = (
            self.partition.state().configuration.generation,
            self.partition.state().table.version,
        );
        for entry in committed {
            self.partition.apply(entry, &mut env.answers)?;
        }
        let after = (
            self.partition.state().configuration.generation,
            self.partition.state().table.version,
        );
        if before != after {
            self.push_due = true;
            env.directory_changed = true;
        }
        self.unflushed_since.get_or_insert(env.now);
        Ok(())
    }

    fn refusal_fault(&self, refusal: Refusal) -> ItemFault {
        match refusal {
            Refusal::NotLeader(_) => self.not_here(),
            Refusal::NotServing => ItemFault::NotReady,
            Refusal::Overloaded => ItemFault::Overloaded,
        }
    }

    /// "Ask the leader."
    fn not_here(&self) -> ItemFault {
        ItemFault::NotHere {
            partition: self.info().map(Box::new),
        }
    }

    /// The fault for what only a leader under its lease may do; none if this is one.
    fn leader_fault(&self, now: Millis) -> Option<ItemFault> {
        if self.replica.can_serve_reads(now) {
            return None;
        }
        let status = self.replica.status();
        Some(match status.standing {
            Standing::Leader { .. } => ItemFault::NotReady,
            _ if status.leader.is_none() => ItemFault::NotReady,
            _ => self.not_here(),
        })
    }

    /// An item request: answers it, or keeps the caller until its write is committed.
    pub(crate) fn request(
        &mut self,
        env: &mut Env,
        operation: &ItemOperation,
        caller: Caller,
    ) -> Result<(), PartitionError> {
        let strong = match operation {
            ItemOperation::Get(get) => get.strong,
            ItemOperation::Page(page) => page.strong,
            ItemOperation::Write(_) => true,
        };
        let age_ms_max = env.node.settings.limits.eventual_age_ms_max;
        let fault = if strong {
            self.leader_fault(env.now)
        } else if self.copying.is_some()
            || !self.replica.heard_from_leader_within(env.now, age_ms_max)
        {
            Some(ItemFault::NotReady)
        } else {
            None
        };
        if let Some(fault) = fault {
            env.answers.push((caller, ItemReply::Fault(fault)));
            return Ok(());
        }
        let reply = match operation {
            ItemOperation::Get(get) => self.partition.get(&*self.tree, get),
            ItemOperation::Page(page) => self.partition.page(&*self.tree, page),
            ItemOperation::Write(write) => {
                match self
                    .partition
                    .evaluate(&*self.tree, write, env.unix_ms, caller)?
                {
                    Evaluated::Propose(command) => {
                        self.commands.push(command);
                        env.touch(self.id, &mut self.touched);
                    }
                    Evaluated::Waits => {}
                    Evaluated::Answer(caller, reply) => {
                        env.answers.push((caller, self.located(reply)))
                    }
                }
                return Ok(());
            }
        };
        match reply {
            Ok(reply) => {
                let reply = self.located(reply);
                env.answers.push((caller, reply));
                Ok(())
            }
            Err(error) => {
                env.answers.push((
                    caller,
                    ItemReply::Fault(ItemFault::NotHere { partition: None }),
                ));
                Err(error)
            }
        }
    }

    /// Says which range the partition really has.
    fn located(&self, reply: ItemReply) -> ItemReply {
        match reply {
            ItemReply::Fault(ItemFault::WrongRange { .. }) => {
                ItemReply::Fault(ItemFault::WrongRange {
                    partition: self.info().map(Box::new),
                })
            }
            other => other,
        }
    }

    /// Replicates a newer definition of the table.
    pub(crate) fn set_table(
        &mut self,
        env: &mut Env,
        table: &model::TableDefinition,
        caller: OrderCaller,
    ) {
        let caller = Caller::Order(caller);
        if let Some(fault) = self.leader_fault(env.now) {
            env.answers.push((caller, ItemReply::Fault(fault)));
            return;
        }
        match self.partition.evaluate_table(table, env.unix_ms, caller) {
            Evaluated::Propose(command) => {
                self.commands.push(command);
                env.touch(self.id, &mut self.touched);
            }
            Evaluated::Waits => {}
            Evaluated::Answer(caller, reply) => env.answers.push((caller, reply)),
        }
    }

    /// Ends this group's part of a turn: one proposal for all its commands, one append for all its operations.
    pub(crate) fn finish(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        if !self.commands.is_empty() {
            env.node
                .metrics
                .proposals
                .inc_by(self.commands.len() as u64);
            let commands = std::mem::take(&mut self.commands);
            self.step(env, Input::Propose(commands))?;
        }
        self.append(env);
        if self.partition.unsealed_bytes() >= env.node.settings.limits.flush_bytes {
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
        let operations = std::mem::take(&mut self.operations);
        env.append(self.id, operations, token);
    }

    /// Looks at the time.
    pub(crate) fn tick(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        if self.replica.wake_at() <= env.now {
            self.step(env, Input::Tick)?;
        }
        if self.token.is_some() {
            env.touch(self.id, &mut self.touched);
        }
        if let Flush::Retry(_, at) = &self.flush {
            if *at <= env.now
                && let Flush::Retry(batch, _) = std::mem::replace(&mut self.flush, Flush::Idle)
            {
                self.submit_flush(env, batch);
            }
        } else if self
            .unflushed_since
            .is_some_and(|since| env.now.since(since) >= env.node.settings.limits.flush_age_ms)
        {
            self.start_flush(env);
        }
        Ok(())
    }

    /// Milliseconds for which the oldest unflushed entry waits.
    pub(crate) fn flush_lag_ms(&self, now: Millis) -> u64 {
        self.unflushed_since.map_or(0, |since| now.since(since))
    }

    /// Whether everything applied is in the B-tree.
    pub(crate) fn is_flushed(&self) -> bool {
        self.partition.flushed_position() >= self.partition.state().applied
    }

    /// Brings what is applied into the B-tree, unless a flush is under way.
    pub(crate) fn start_flush(&mut self, env: &mut Env) {
        if !matches!(self.flush, Flush::Idle) || self.copying.is_some() {
            return;
        }
        if let Some(batch) = self.partition.seal() {
            // What is applied from now on is for the next flush.
            self.unflushed_since = None;
            self.submit_flush(env, batch);
        }
    }

    fn submit_flush(&mut self, env: &mut Env, batch: Batch) {
        let job = FlushJob {
            group: self.id,
            tree: self.tree.clone(),
            batch,
            inbox: env.inbox.clone(),
        };
        self.flush = match env.flusher.submit(job) {
            Ok(()) => Flush::Running,
            Err(job) => Flush::Retry(job.batch, env.now.plus(FLUSH_RETRY_MS)),
        };
    }

    /// A flush ended. An error is for the operator: the replica must be fenced.
    pub(crate) fn flushed(&mut self, env: &mut Env, flushed: Flushed) -> Result<(), String> {
        if !matches!(self.flush, Flush::Running) {
            // Of an earlier life of this group.
            return Ok(());
        }
        self.flush = Flush::Idle;
        match flushed.result {
            Ok((index, tree_bytes)) => {
                self.tree_bytes = tree_bytes;
                self.partition.flushed(index);
                self.step(env, Input::Flushed { index })
                    .map_err(|error| error.to_string())?;
                if self.copying.is_some() {
                    // The copy waited for the flush.
                    self.start_copy(env);
                }
                Ok(())
            }
            Err((error @ TreeError::DiskFull { .. }, batch)) => {
                tracing::warn!(group = self.id.0, %error, "flush failed, trying again");
                self.flush = Flush::Retry(batch, env.now.plus(FLUSH_RETRY_MS));
                Ok(())
            }
            Err((error, _)) => Err(error.to_string()),
        }
    }

    /// Starts the wanted copy, unless a flush must end first.
    fn start_copy(&mut self, env: &mut Env) {
        let Some(from) = self.copying else { return };
        if let Flush::Retry(..) = self.flush {
            // The copy replaces what this would have written.
            self.flush = Flush::Idle;
        }
        if matches!(self.flush, Flush::Running) {
            return;
        }
        tracing::info!(
            group = self.id.0,
            from = from.0,
            "pulling a full copy: this replica is too far behind"
        );
        let job = CopyJob {
            group: self.id,
            from,
            tree: self.tree.clone(),
            inbox: env.inbox.clone(),
        };
        if let Err(job) = env.copier.submit(job) {
            // Copies are few at a time: the core asks again later.
            env.inbox.event(Event::Copied(Box::new(job.refused())));
        }
    }

    /// A copy ended. An error is for the operator: the replica must be fenced.
    pub(crate) fn copied(&mut self, env: &mut Env, copied: Copied) -> Result<(), String> {
        if self.copying.take().is_none() {
            // Of an earlier life of this group.
            return Ok(());
        }
        let input = match copied {
            Copied::Installed(tree, state) => {
                let applied = Position {
                    index: state.applied,
                    ballot: state.ballot,
                };
                let configuration = state.configuration.clone();
                self.tree = Arc::new(tree);
                self.partition = Partition::new(state, env.node.partition_limits());
                self.unflushed_since = None;
                tracing::info!(
                    group = self.id.0,
                    applied = applied.index,
                    "installed a full copy"
                );
                env.node.metrics.copies_installed.inc();
                Input::CopyInstalled {
                    applied,
                    configuration,
                }
            }
            Copied::Unharmed(why) => {
                tracing::warn!(
                    group = self.id.0,
                    why,
                    "a full copy failed, the old B-tree stays"
                );
                Input::CopyFailed
            }
            Copied::Damaged(why) => return Err(why),
        };
        self.step(env, input).map_err(|error| error.to_string())
    }
}
