//! A replica's part in the split of its partition: lets the rules say what is next (`partition::split`), hands it to the disk
//! threads, tells the leader; and at the leader commits when all are ready. Decides nothing itself.

use std::sync::Arc;

use partition::split::{self, Filling, Local, Reports, SIDES, Task};
use partition::{Evaluated, PartitionError, PartitionState};
use paxos::{Ballot, GroupId, Input, Member, Millis, NodeId, Standing};
use protocol::directory::{PartitionInfo, PlacedMember};
use protocol::item::{ItemFault, ItemReply};
use protocol::split::{ReplicaStage, Split, SplitProgress, SplitReport, SplitStage};
use protocol::subjects;
use tokio::sync::OwnedSemaphorePermit;

use super::flush::Flush;
use super::{Group, Store, zone_of};
use crate::children::Children;
use crate::env::Env;
use crate::flusher::Work;
use crate::inbox::{Caller, Event, Reservation};
use crate::orders::{InstallJob, OrderCaller, OrderJob};

/// Between two reports of a replica, milliseconds.
const REPORT_EVERY_MS: u64 = 200;
/// After something that could not be done, milliseconds.
const RETRY_MS: u64 = 500;
/// A child stands for election so often …
const CAMPAIGN_EVERY_MS: u64 = 100;
/// … until somebody leads, but not longer: then elections go their usual way.
const CAMPAIGN_MS_MAX: u64 = 5_000;

/// A split as this replica carries it out.
pub(crate) struct Splitting {
    pub(crate) children: Arc<Children>,
    /// As the disk threads said last; none: the children are not open.
    fillings: Option<[Filling; 2]>,
    /// The next step may be taken then: something has to be tried again.
    at: Millis,
    /// The children are filled further then.
    paced: Millis,
    /// The node fills few replicas' children at a time.
    permit: Option<OwnedSemaphorePermit>,
    /// What the shards of the children said, while they are being installed.
    reserved: [Option<Reservation>; 2],
    installing: bool,
}

impl Splitting {
    fn of(env: &Env, id: GroupId, split: &Split) -> Self {
        let (folder, options) = (env.node.replicas_folder(), env.node.tree_options());
        Self {
            children: Children::new(folder, options, id, split),
            fillings: None,
            at: Millis(0),
            paced: Millis(0),
            permit: None,
            reserved: [None, None],
            installing: false,
        }
    }
}

/// When a task may be begun. Only the filling is paced, and only as long as the parent serves: once it has ended, clients wait for its
/// children.
fn starts_at(task: Task, ended: bool, at: Millis, paced: Millis) -> Millis {
    match task {
        Task::Fill(_) if !ended => at.max(paced),
        _ => at,
    }
}

/// At a leader: what it was told; at any replica: when it tells.
#[derive(Default)]
pub(super) struct SplitWatch {
    reports: Reports,
    report_at: Millis,
    /// A child that was just begun where the parent was led: since when it stands for election, and when it does next.
    campaign: Option<(Millis, Millis)>,
}

impl Group {
    /// Takes the next step of a split, if one is under way.
    pub(super) fn tick_split(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        self.campaign(env)?;
        let Some(store) = &self.store else {
            return Ok(());
        };
        let (applied, durable) = (store.partition.state(), &store.durable);
        if applied.split.is_none() && durable.split.is_none() && store.splitting.is_none() {
            return Ok(());
        }
        self.report_split(env);
        self.commit_split(env)?;
        self.work_on_split(env)
    }

    fn local<'a>(&self, env: &Env, store: &'a Store) -> Local<'a> {
        let splitting = store.splitting.as_ref();
        let fillings = splitting.and_then(|s| s.fillings.as_ref());
        Local {
            durable: &store.durable,
            applied: store.partition.state(),
            me: (env.node.id, self.replica.identity().incarnation),
            children: splitting.map(|s| s.children.left()),
            fillings: fillings.map(|[left, right]| [left, right]),
        }
    }

    pub(super) fn work_on_split(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        let idle = |store: &Store| {
            let state = store.partition.state();
            state.split.is_none() && store.durable.split.is_none() && store.splitting.is_none()
        };
        if self.store.as_deref().is_none_or(idle) {
            return Ok(());
        }
        let Some(mut store) = self.store.take() else {
            return Ok(());
        };
        // Whatever is durable there may be children of, unless they were just deleted.
        let known = store.durable.split.as_ref();
        let known = known.filter(|split| Some(split.left) != store.discarded);
        if store.splitting.is_none()
            && let Some(split) = known.filter(|_| !store.durable.installed)
        {
            store.splitting = Some(Splitting::of(env, self.id, split));
        }
        let task = split::next_task(&self.local(env, &store));
        let ended = store.partition.state().has_ended();
        self.store = Some(store);
        let waits = |store: &Store| {
            let rests =
                |s: &Splitting| s.installing || starts_at(task, ended, s.at, s.paced) > env.now;
            !matches!(store.flush, Flush::Idle)
                || store.copy.is_some()
                || store.splitting.as_ref().is_some_and(rests)
        };
        let Some(store) = self.store.as_mut().filter(|store| !waits(store)) else {
            return Ok(());
        };
        // What room there is is for what must go on.
        if let (Task::Create | Task::Fill(_), Some(splitting)) = (task, &mut store.splitting)
            && !ended
            && env.node.is_full()
        {
            splitting.at = env.now.plus(RETRY_MS);
            return Ok(());
        }
        match (task, &mut store.splitting) {
            (Task::Rest, _) => {
                if let Some(splitting) = &mut store.splitting {
                    splitting.permit = None;
                }
            }
            (Task::Flush, _) => self.start_flush(env),
            (_, None) => {}
            (Task::Discard, Some(_)) => self.submit_flush(env, Work::Discard),
            (Task::Create, Some(splitting)) => {
                if splitting.permit.is_none() {
                    splitting.permit = env.node.fillings.clone().try_acquire_owned().ok();
                }
                // Once the parent has ended, its keys are served by fewer replicas for as long as this takes.
                if splitting.permit.is_none() && !ended {
                    splitting.at = env.now.plus(RETRY_MS);
                    return Ok(());
                }
                let state = Box::new(store.partition.state().clone());
                self.submit_flush(env, Work::Create(state));
            }
            (Task::Fill(side), Some(splitting)) => {
                let bytes_max = env.node.settings.limits.split_chunk_bytes;
                if !ended {
                    splitting.paced = env.node.pace_split(env.now, bytes_max as u64);
                }
                self.submit_flush(env, Work::Fill(side, bytes_max));
            }
            (Task::Install, Some(_)) => return self.install_children(env),
        }
        Ok(())
    }

    /// The disk threads did something about the children.
    pub(super) fn split_worked(&mut self, env: &Env, done: Result<Option<[Filling; 2]>, ()>) {
        let Some(store) = &mut self.store else { return };
        let Some(splitting) = &mut store.splitting else {
            return;
        };
        match done {
            Ok(fillings) => splitting.fillings = fillings,
            Err(()) => splitting.at = env.now.plus(RETRY_MS),
        }
    }

    /// Reserves the children's numbers at their shards, then hands the installation to the disk threads.
    fn install_children(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        let me = (env.node.id, self.replica.identity().incarnation);
        let leads = matches!(self.replica.status().standing, Standing::Leader { .. });
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let Some(splitting) = &mut store.splitting else {
            return Ok(());
        };
        let state = store.partition.state();
        let Some(split) = state.split.clone() else {
            return Ok(());
        };
        let members = split
            .committed
            .iter()
            .flat_map(|c| &c.configuration.members);
        let Some(member) = members.copied().find(|m| m.is(me.0, me.1)) else {
            return Ok(());
        };
        let [Some(left), Some(right)] = splitting.reserved else {
            splitting.at = env.now.plus(RETRY_MS);
            for (side, reserved) in SIDES.into_iter().zip(splitting.reserved) {
                if reserved.is_none() {
                    let child = split::child_of(&split, side);
                    let event = Event::Reserve {
                        child,
                        parent: self.id,
                    };
                    env.node.inbox(child).event(event);
                }
            }
            return Ok(());
        };
        tracing::info!(
            group = self.id.0,
            left = split.left.0,
            right = split.right.0,
            "installing the children's replicas"
        );
        let job = OrderJob::Install(Box::new(InstallJob {
            parent: self.id,
            tree: store.tree.clone(),
            children: splitting.children.clone(),
            note: store.partition.note_installed(),
            member,
            others: [left, right].map(|r| r == Reservation::Taken),
            campaigns: leads,
            node: env.node.clone(),
        }));
        splitting.installing = true;
        // Nothing else writes the parent's B-tree meanwhile.
        store.flush = Flush::Running;
        if env.orders.submit(job).is_err() {
            let busy = Err("too many orders at once".to_owned());
            return self.children_installed(env, busy);
        }
        Ok(())
    }

    /// A child's shard answered.
    pub(crate) fn child_reserved(
        &mut self,
        env: &mut Env,
        child: GroupId,
        answer: Option<Reservation>,
    ) {
        let Some(splitting) = self.store.as_mut().and_then(|s| s.splitting.as_mut()) else {
            return self.release_child(env, child, answer);
        };
        let side = usize::from(child != splitting.children.left());
        splitting.reserved[side] = answer;
        if splitting.reserved.iter().all(Option::is_some) {
            splitting.at = env.now;
            env.touch(self.id, &mut self.touched);
        }
    }

    fn release_child(&self, env: &Env, child: GroupId, answer: Option<Reservation>) {
        if answer == Some(Reservation::Granted) {
            env.node.inbox(child).event(Event::Release(child));
        }
    }

    /// The children are replicas and that is noted, or not.
    pub(crate) fn children_installed(
        &mut self,
        env: &mut Env,
        result: Result<Box<PartitionState>, String>,
    ) -> Result<(), PartitionError> {
        let id = self.id;
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let Some(splitting) = store.splitting.as_mut().filter(|s| s.installing) else {
            // Of an earlier life of this group.
            return Ok(());
        };
        store.flush = Flush::Idle;
        splitting.installing = false;
        match result {
            Ok(state) => {
                let index = state.applied;
                store.partition.flushed(index);
                store.durable = *state;
                store.splitting = None;
                self.push_due = true;
                env.directory_changed = true;
                env.node.metrics.children_installed.inc();
                tracing::info!(group = id.0, "split: the children's replicas are installed");
                return self.step(env, Input::Flushed { index });
            }
            Err(why) => {
                tracing::warn!(
                    group = id.0,
                    why,
                    "the children's replicas are not installed, trying again"
                );
                store.partition.install_failed();
                splitting.fillings = None;
                splitting.at = env.now.plus(RETRY_MS);
            }
        }
        Ok(())
    }

    /// Whether the children are just being installed: the replica must not go now.
    pub(crate) fn is_installing(&self) -> bool {
        let store = self.store.as_ref();
        store.is_some_and(|s| s.splitting.as_ref().is_some_and(|s| s.installing))
    }

    /// The replica goes: numbers that it reserved are free.
    pub(super) fn release_children(&mut self, env: &Env) {
        let Some(store) = &mut self.store else { return };
        let Some(splitting) = &mut store.splitting else {
            return;
        };
        let Some(split) = store.partition.state().split.as_ref() else {
            return;
        };
        if splitting.installing {
            // Done, or found half done at the next start.
            return;
        }
        for (side, reserved) in SIDES.into_iter().zip(splitting.reserved) {
            if reserved == Some(Reservation::Granted) {
                let child = split::child_of(split, side);
                env.node.inbox(child).event(Event::Release(child));
            }
        }
    }

    fn report_split(&mut self, env: &mut Env) {
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
    fn commit_split(&mut self, env: &mut Env) -> Result<(), PartitionError> {
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

    /// Whether this replica leads, and has proposed the end of its partition or knows of it: its members stay as they are.
    pub(super) fn is_ending(&self) -> bool {
        let ballot = self.replica.status().promised;
        let store = self.store.as_ref();
        store.is_some_and(|store| !store.partition.serves(ballot))
    }

    /// The fault for requests on a partition that has ended; none if it has not.
    pub(super) fn ended_fault(&self, env: &Env) -> Option<ItemReply> {
        let store = self.store.as_ref()?;
        store.partition.state().has_ended().then(|| {
            ItemReply::Fault(ItemFault::WrongRange {
                partition: None,
                children: self.children_info(env),
            })
        })
    }

    /// The children as this replica knows them: what they began with. Whoever leads the parent probably leads them.
    fn children_info(&self, env: &Env) -> Vec<PartitionInfo> {
        let Some(store) = &self.store else {
            return Vec::new();
        };
        let state = store.partition.state();
        let Some(split) = &state.split else {
            return Vec::new();
        };
        let Some(committed) = &split.committed else {
            return Vec::new();
        };
        let nodes = env.node.nodes.read();
        let placed = |member: &Member| PlacedMember {
            member: *member,
            zone: zone_of(&nodes, &state.members, member.node),
        };
        let child = |side| {
            let begun = split::begun_child(state, self.id, split, committed, side);
            PartitionInfo {
                partition: split::child_of(split, side),
                table: state.table.id,
                range: begun.range,
                generation: begun.configuration.generation,
                leader: self.replica.status().leader,
                members: begun.configuration.voters().map(placed).collect(),
                table_version: state.table.version,
                parent: Some(self.id),
                ..PartitionInfo::default()
            }
        };
        SIDES.into_iter().map(child).collect()
    }

    /// How far the split is, for the directory.
    pub(super) fn split_progress(&self, state: &PartitionState) -> Option<SplitProgress> {
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

    /// A child that begins where the parent was led: it stands for election until somebody leads.
    pub(crate) fn stand_for_election(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        self.split_watch.campaign = Some((env.now, env.now));
        self.campaign(env)
    }

    fn campaign(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        let Some((since, at)) = self.split_watch.campaign else {
            return Ok(());
        };
        let led = self.replica.status().leader.is_some();
        if led || env.now.since(since) > CAMPAIGN_MS_MAX {
            self.split_watch.campaign = None;
            return Ok(());
        }
        if at > env.now {
            return Ok(());
        }
        self.split_watch.campaign = Some((since, env.now.plus(CAMPAIGN_EVERY_MS)));
        let status = self.replica.status();
        if status.standing == Standing::Candidate && status.promised == Ballot::default() {
            // Nobody has answered its probe: where the others were not there yet, it is lost.
            self.step(env, Input::StepDown)?;
        }
        self.step(env, Input::Campaign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_behind_the_end_of_a_partition_waits_for_the_pace_of_the_filling() {
        let (at, paced) = (Millis(5), Millis(9_000));
        assert_eq!(starts_at(Task::Fill(SIDES[0]), false, at, paced), paced);
        assert_eq!(starts_at(Task::Fill(SIDES[0]), true, at, paced), at);
        for task in [Task::Flush, Task::Create, Task::Install, Task::Discard] {
            assert_eq!(starts_at(task, false, at, paced), at);
            assert_eq!(starts_at(task, true, at, paced), at);
        }
    }
}
