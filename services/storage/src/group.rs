//! One replica of one replication group on this node: the replication core, the partition and the B-tree, and the order in
//! which they are told what. Runs on its shard's thread only; never blocks (disks are other threads' work).

mod flush;
mod requests;

use std::sync::Arc;

use bytes::Bytes;
use partition::{Partition, PartitionError};
use paxos::{
    Body, Entry, GroupId, Input, Millis, NodeId, Output, PersistOp, Replica, Standing, Token,
};
use protocol::directory::PartitionInfo;
use protocol::replication::GroupMessage;

use crate::btree::ReplicaTree;
use crate::env::Env;
use crate::group::flush::Flush;
use crate::inbox::Caller;
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
            learners: Vec::new(),
            progress: Vec::new(),
            changing: false,
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
        // A follower whose flush is far behind, or whose disk is nearly full, takes no more entries: memory and disk are
        // bounded, the leader sends them again.
        let limits = &env.node.settings.limits;
        if let Body::Append(append) = &message.message.body
            && !append.entries.is_empty()
            && (self.partition.overlay_bytes() > 2 * limits.overlay_bytes_max
                || env.node.overlays_full()
                || env.node.disk_low())
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
        let incarnation = self.replica.identity().incarnation;
        for (to, message) in output.send {
            env.send(self.id, incarnation, to, message);
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
        self.tick_flush(env);
        Ok(())
    }
}
