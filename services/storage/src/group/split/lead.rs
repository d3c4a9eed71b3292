//! What replicas tell their leader of a split, and what the leader does with it: takes orders, commits when all are ready, shows how far it is.

use partition::split;
use partition::{Evaluated, PartitionError, PartitionState};
use paxos::{GroupId, Input, NodeId};
use protocol::split::{ReplicaStage, Split, SplitProgress, SplitReport, SplitStage};
use protocol::subjects;

use super::REPORT_EVERY_MS;
use crate::env::Env;
use crate::group::{Group, Store};
use crate::inbox::Caller;
use crate::orders::OrderCaller;

impl Group {
    pub(super) fn report_split(&mut self, env: &mut Env) {
        if self.split_watch.report_at > env.now {
            return;
        }
        self.split_watch.report_at = env.now.plus(REPORT_EVERY_MS);
        let Some(store) = &self.store else { return };
        let Some(split) = &store.partition.state().split else {
            return;
        };
        let report = SplitReport {
            partition: self.id,
            left: split.left,
            node: env.node.id,
            incarnation: self.replica.identity().incarnation,
            stage: split::stage(&self.local(env, store)),
        };
        match self.replica.status().leader {
            Some(leader) if leader == env.node.id => self.split_reported(env, &report),
            Some(leader) => {
                let subject = subjects::node_split(leader);
                if let Err(error) = env.node.mesh.cast(&subject, &report) {
                    tracing::debug!(%error, "split report not sent");
                }
            }
            None => {}
        }
    }

    /// A replica of this group said how far it is.
    pub(crate) fn split_reported(&mut self, env: &mut Env, report: &SplitReport) {
        let left = report.left;
        let before = self.split_watch.reports.at(left, ReplicaStage::Ready).len()
            + self
                .split_watch
                .reports
                .at(left, ReplicaStage::Installed)
                .len();
        let group = split::Group {
            me: (env.node.id, self.replica.identity().incarnation),
            configuration: self.replica.configuration(),
            settled: self.replica.configuration_settled(),
            followers: &[],
        };
        self.split_watch.reports.hear(report, &group);
        let after = self.split_watch.reports.at(left, ReplicaStage::Ready).len()
            + self
                .split_watch
                .reports
                .at(left, ReplicaStage::Installed)
                .len();
        if before != after {
            self.push_due = true;
            env.directory_changed = true;
        }
    }

    /// Proposes `CommitSplit` once everybody is ready. Nobody serves the parent from then on.
    pub(super) fn commit_split(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        if self.leader_fault(env).is_some() || env.node.is_draining() {
            return Ok(());
        }
        let followers = self.replica.followers();
        let group = split::Group {
            me: (env.node.id, self.replica.identity().incarnation),
            configuration: self.replica.configuration(),
            settled: self.replica.configuration_settled(),
            followers: &followers,
        };
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let Some(split) = &store.partition.state().split else {
            return Ok(());
        };
        if !store.commands.is_empty() || !self.split_watch.reports.may_commit(split, &group) {
            return Ok(());
        }
        let ballot = self.replica.status().promised;
        let (id, left, right) = (self.id.0, split.left.0, split.right.0);
        let Some(command) = store.partition.commit(ballot, env.unix_ms) else {
            return Ok(());
        };
        tracing::info!(group = id, left, right, "committing a split");
        self.push_due = true;
        self.step(env, Input::Propose(vec![command]))
    }

    /// `SplitPartition`.
    pub(crate) fn begin_split(
        &mut self,
        env: &mut Env,
        generation: u64,
        split: &Split,
        caller: OrderCaller,
    ) {
        let current = self.replica.configuration().generation;
        if self.leader_fault(env).is_some() {
            return caller.not_leader();
        }
        if current != generation {
            return caller.stale(current);
        }
        let (id, at) = (self.id, (self.replica.status().promised, env.unix_ms));
        let Some(store) = &mut self.store else { return };
        let evaluated = store
            .partition
            .evaluate_split(id, split, at, Caller::Order(caller));
        self.take_command(env, evaluated);
    }

    /// `AbandonSplit`.
    pub(crate) fn abandon_split(&mut self, env: &mut Env, left: GroupId, caller: OrderCaller) {
        let ended = |store: &Store| store.partition.state().has_ended();
        if self.store.as_deref().is_some_and(ended) {
            return caller.refused("the split is committed");
        }
        if self.leader_fault(env).is_some() {
            return caller.not_leader();
        }
        let at = (self.replica.status().promised, env.unix_ms);
        let Some(store) = &mut self.store else { return };
        let evaluated = store
            .partition
            .evaluate_abandon(left, at, Caller::Order(caller));
        self.take_command(env, evaluated);
    }

    fn take_command(&mut self, env: &mut Env, evaluated: Evaluated<Caller>) {
        let Some(store) = &mut self.store else { return };
        match evaluated {
            Evaluated::Propose(command) => {
                store.commands.push(command);
                env.touch(self.id, &mut self.touched);
            }
            Evaluated::Waits => {}
            Evaluated::Answer(caller, reply) => env.answers.push((caller, reply)),
        }
    }

    /// How far the split is, for the directory.
    pub(in crate::group) fn split_progress(&self, state: &PartitionState) -> Option<SplitProgress> {
        let split = state.split.as_ref()?;
        let ballot = self.replica.status().promised;
        let committing = |store: &Store| store.partition.is_committing(ballot);
        let stage = if split.committed.is_some() {
            SplitStage::Committed
        } else if self.store.as_deref().is_some_and(committing) {
            SplitStage::Committing
        } else {
            SplitStage::Preparing
        };
        let reached = match stage {
            SplitStage::Committed => ReplicaStage::Installed,
            SplitStage::Preparing | SplitStage::Committing => ReplicaStage::Ready,
        };
        let done: Vec<NodeId> = self.split_watch.reports.at(split.left, reached);
        Some(SplitProgress {
            point: split.point.clone(),
            left: split.left,
            right: split.right,
            stage,
            done,
        })
    }
}
