//! What the storage service's shell does around a replica, on simulated parts: carries out what a step asks for (disk,
//! network, partition), syncs, flushes, log reads and full copies.

use paxos::{GroupId, Input, Message, NodeId, Output, ReadLog, Role, Standing};

use crate::disk::Synced;
use crate::event::Event;
use crate::fixture::MapTree;
use crate::host::Host;
use crate::words;
use crate::world::{Violation, World, broken};

/// Messages kept for much later, at most.
const KEPT_MAX: usize = 40;

impl World {
    /// Gives an input to a replica and does what comes of it. Nothing happens on a node that is down.
    pub(crate) fn step(
        &mut self,
        node: NodeId,
        group: GroupId,
        input: Input,
    ) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&node).filter(|host| host.up) else {
            return Ok(());
        };
        let now = host.clock.at(self.now);
        let Some(hosted) = host.groups.get_mut(&group) else {
            return Ok(());
        };
        self.trace.note(
            self.now,
            format_args!("n{} g{} {}", node.0, group.0, words::of_input(&input)),
        );
        let before = hosted.replica.configuration().generation;
        let output = hosted.replica.step(now, input);
        let after = hosted.replica.configuration().generation;
        let cut = |op: &paxos::PersistOp| matches!(op, paxos::PersistOp::TruncateFrom(_));
        if after < before && output.persist.iter().any(cut) {
            self.coverage.hit("change undone");
        }
        self.carry_out(node, group, output)
    }

    /// Does what an output asks for.
    pub(crate) fn carry_out(
        &mut self,
        node: NodeId,
        group: GroupId,
        mut output: Output,
    ) -> Result<(), Violation> {
        self.hide_gap(node, group, &mut output);
        self.check_step(node, group, &output)?;
        self.watch(node, group, &output);
        let Output {
            persist,
            token,
            send,
            committed,
            read_log,
            copy_wanted,
            ..
        } = output;
        if let Some(what) = output.role_changed {
            self.trace.note(
                self.now,
                format_args!("n{} g{} is {what:?}", node.0, group.0),
            );
            match what {
                Standing::Leader { serving: true } => self.coverage.hit("leader serves"),
                Standing::Leader { serving: false } => self.ambush(group, node),
                _ => {}
            }
        }
        if let Some(Err(refusal)) = &output.reconfigured {
            self.plan_refused(node, group, refusal);
        }
        if output.truncate_floor.is_some() {
            self.coverage.hit("log truncated");
        }
        let Some((role, incarnation)) = self.identity(node, group) else {
            return Ok(());
        };
        let storage = role == Role::Storage;
        let mut answers = Vec::new();
        let Some(host) = self.hosts.get_mut(&node) else {
            return Ok(());
        };
        let Some(hosted) = host.groups.get_mut(&group) else {
            return Ok(());
        };
        let birth = hosted.birth;
        if output.lost.is_some() {
            hosted.partition.lose(&mut answers);
            self.coverage.hit("leader stepped down");
        }
        // A log replica has no state machine.
        for entry in committed.iter().filter(|_| storage) {
            if let Err(error) = hosted.partition.apply(entry, &mut answers) {
                return broken("the partition applies what is committed", error.to_string());
            }
        }
        let marked = hosted.partition.is_marked();
        if let Some(from) = copy_wanted {
            hosted.partition.lose(&mut answers);
            hosted.copying = Some(from);
            hosted.epoch += 1;
            hosted.flushing = None;
        }
        // Ticks: at most one is scheduled that is not overtaken.
        let wake = host
            .clock
            .when(hosted.replica.wake_at())
            .max(self.now + 500);
        let tick = wake < hosted.tick_at || hosted.tick_at <= self.now;
        if tick {
            hosted.tick_at = wake;
        }
        let sync = match token {
            Some(token) => {
                host.disk.write(group, incarnation, token, persist) && host.disk.begin_sync()
            }
            None => false,
        };
        if tick {
            self.after(wake - self.now, Event::Tick { node, birth, group });
        }
        if sync {
            self.schedule_sync(node);
        }
        if copy_wanted.is_some() {
            let takes = self.rng.around(200_000) + 1_000;
            self.after(takes, Event::Copy { node, birth, group });
        }
        if marked {
            self.start_flush(node, group);
        }
        for (to, message) in send {
            words::cover(&mut self.coverage, &message, storage);
            self.watch_fetched(node, group, &message);
            self.send((node, incarnation), to, group, message);
        }
        for read in read_log {
            self.coverage.hit("log read");
            let takes = self.rng.around(2_000);
            self.after(
                takes,
                Event::LogRead {
                    node,
                    birth,
                    group,
                    read,
                },
            );
        }
        for (caller, reply) in answers {
            self.answer(node, caller, reply);
        }
        if self.scenario.splits {
            self.notice_end(node, group)?;
            self.check_family(group)?;
        }
        self.check_group(group)?;
        if output.retired {
            self.retire(node, group)
        } else {
            Ok(())
        }
    }

    pub(crate) fn tick_was(&mut self, node: NodeId, group: GroupId) {
        let hosted = self
            .hosts
            .get_mut(&node)
            .and_then(|host| host.groups.get_mut(&group));
        if let Some(hosted) = hosted
            && hosted.tick_at <= self.now
        {
            hosted.tick_at = 0;
        }
    }

    pub(crate) fn send(
        &mut self,
        (from, incarnation): (NodeId, u64),
        to: NodeId,
        group: GroupId,
        message: Message,
    ) {
        if self.rng.chance(10_000) {
            self.overheard = Some((from, incarnation, to, group, message.clone()));
        }
        if self.rng.chance(5_000) {
            if self.kept.len() >= KEPT_MAX {
                self.kept.pop_front();
            }
            self.kept
                .push_back((from, incarnation, to, group, message.clone()));
        }
        let (once, again) = self.network.fate(&mut self.rng, from, to);
        for delay in again.into_iter().chain(once) {
            let message = Box::new(message.clone());
            self.after(
                delay,
                Event::Deliver {
                    from,
                    to,
                    group,
                    incarnation,
                    message,
                },
            );
        }
    }

    pub(crate) fn schedule_sync(&mut self, node: NodeId) {
        let Some(host) = self.hosts.get(&node) else {
            return;
        };
        let life = host.life;
        let slow = host.slow_until > self.now;
        let mut takes = self.rng.around(self.scenario.sync_us) + 50;
        if slow {
            self.coverage.hit("slow disk");
            takes += self.rng.between(20_000, 1_500_000);
        }
        self.after(takes, Event::Synced { node, life });
    }

    /// A sync is done: what it covered is durable, the replicas hear of it, the next one starts.
    pub(crate) fn synced(&mut self, node: NodeId) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&node) else {
            return Ok(());
        };
        let durable = host.disk.end_sync();
        let next = host.disk.begin_sync();
        let groups = durable.iter().map(|synced| (synced.group, &synced.ops[..]));
        self.check_persisted(node, groups.collect())?;
        if next {
            self.schedule_sync(node);
        }
        for Synced { group, token, ops } in durable {
            if ops
                .iter()
                .any(|op| matches!(op, paxos::PersistOp::TruncateFrom(_)))
            {
                self.coverage.hit("entry truncated");
            }
            self.step(node, group, Input::Persisted(token))?;
        }
        Ok(())
    }

    pub(crate) fn log_read(
        &mut self,
        node: NodeId,
        group: GroupId,
        read: ReadLog,
    ) -> Result<(), Violation> {
        let Some(disk) = self.disk(node, group) else {
            return Ok(());
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (index, entry) in disk.entries.range(read.from..) {
            bytes += entry.bytes();
            let first = *index == read.from;
            if !first && (entries.is_empty() || bytes > read.max_bytes) {
                break;
            }
            entries.push(entry.clone());
        }
        let input = Input::LogRead {
            to: read.to,
            from: read.from,
            entries,
        };
        self.step(node, group, input)
    }

    pub(crate) fn flush_due(&mut self, node: NodeId, group: GroupId) {
        let pause = self.rng.around(self.scenario.flush_ms) * 1_000 + 1_000;
        let Some(birth) = self.hosted(node, group).map(|hosted| hosted.birth) else {
            return;
        };
        self.start_flush(node, group);
        self.after(pause, Event::FlushDue { node, birth, group });
    }

    /// Flushes what is applied, unless a flush or a copy is under way.
    pub(crate) fn start_flush(&mut self, node: NodeId, group: GroupId) {
        let takes = self.rng.around(20_000) + 100;
        let Some(hosted) = self.hosted(node, group) else {
            return;
        };
        if hosted.copying.is_some() {
            return;
        }
        if let Some(batch) = hosted.partition.seal() {
            hosted.flushing = Some(batch);
            hosted.flushed = 0;
            let (birth, epoch) = (hosted.birth, hosted.epoch);
            let flushed = Event::Flushed {
                node,
                birth,
                group,
                epoch,
            };
            self.after(takes, flushed);
        }
    }

    pub(crate) fn flushed(
        &mut self,
        node: NodeId,
        group: GroupId,
        epoch: u64,
    ) -> Result<(), Violation> {
        let parent_first = self.parent_first();
        let Some(host) = self.hosts.get_mut(&node) else {
            return Ok(());
        };
        let Some(hosted) = host.groups.get_mut(&group) else {
            return Ok(());
        };
        let Some(batch) = hosted.flushing.as_ref().filter(|_| hosted.epoch == epoch) else {
            return Ok(());
        };
        let step = hosted.flushed;
        hosted.flushed += 1;
        host.disk.flush(group, batch, step, parent_first);
        if host.disk.children.contains_key(&group) && step < 2 {
            // A transaction for each B-tree.
            let birth = hosted.birth;
            let flushed = Event::Flushed {
                node,
                birth,
                group,
                epoch,
            };
            let takes = self.rng.around(2_000) + 50;
            self.after(takes, flushed);
            return Ok(());
        }
        let index = batch.state.applied;
        for step in step + 1..3 {
            host.disk.flush(group, batch, step, parent_first);
        }
        let batch = hosted.flushing.take();
        hosted.partition.flushed(index);
        let marked = hosted.partition.is_marked();
        self.check_children(node, group)?;
        if let Some(batch) = batch {
            self.check_marker(node, group, &batch)?;
        }
        if marked {
            self.start_flush(node, group);
        }
        self.step(node, group, Input::Flushed { index })
    }

    /// The copy that a replica waits for: there, if its source is up, connected and whole.
    pub(crate) fn copied(&mut self, node: NodeId, group: GroupId) -> Result<(), Violation> {
        let Some(host) = self.hosts.get(&node) else {
            return Ok(());
        };
        let Some(from) = host.groups.get(&group).and_then(|hosted| hosted.copying) else {
            return Ok(());
        };
        let cut = self.network.is_cut(from, node) || self.network.is_cut(node, from);
        let source = self.hosts.get(&from).filter(|source| source.up && !cut);
        let whole = |source: &&Host| {
            source
                .groups
                .get(&group)
                .is_some_and(|g| g.copying.is_none())
        };
        let source = source
            .filter(whole)
            .and_then(|source| source.disk.groups.get(&group));
        let copy = source.map(|disk| (disk.tree.clone(), disk.state.clone()));
        let Some((tree, state)) = copy.filter(|_| !self.faulty || !self.rng.chance(200_000)) else {
            self.coverage.hit("copy failed");
            if let Some(hosted) = self.hosted(node, group) {
                hosted.copying = None;
            }
            return self.step(node, group, Input::CopyFailed);
        };
        self.coverage.hit("copy installed");
        self.install(node, group, tree, state)
    }

    pub(crate) fn install(
        &mut self,
        node: NodeId,
        group: GroupId,
        tree: MapTree,
        state: partition::PartitionState,
    ) -> Result<(), Violation> {
        let keeps = self
            .scenario
            .split_mutations
            .contains(&partition::Mutation::KeepAcrossCopy);
        let mutations = self.scenario.partition_mutations(node);
        let Some(host) = self.hosts.get_mut(&node) else {
            return Ok(());
        };
        let Some(hosted) = host.groups.get_mut(&group) else {
            return Ok(());
        };
        hosted.copying = None;
        // A copy brings no children along, and nothing of what the source has done about its own.
        let own = host
            .disk
            .groups
            .get(&group)
            .is_some_and(|d| d.state.installed);
        let state = partition::PartitionState {
            installed: own,
            filling: None,
            ..state
        };
        if !keeps {
            host.disk.children.remove(&group);
        }
        hosted.partition = partition::Partition::new(state.clone(), partition::Limits::default());
        hosted.partition.mutate(&mutations);
        let applied = paxos::Position {
            ballot: state.ballot,
            index: state.applied,
        };
        let configuration = state.configuration.clone();
        if let Some(disk) = host.disk.groups.get_mut(&group) {
            disk.install(tree, state);
        }
        let installed = Input::CopyInstalled {
            applied,
            configuration,
        };
        self.step(node, group, installed)?;
        if self.scenario.splits {
            self.notice_end(node, group)?;
        }
        Ok(())
    }

    pub(crate) fn parent_first(&self) -> bool {
        self.scenario
            .split_mutations
            .contains(&partition::Mutation::ParentFirst)
    }
}
