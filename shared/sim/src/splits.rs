//! Splits as the storage service does them: the rules of `partition::split` at every replica, one durable step at a time, so that a
//! crash finds each of them done or not; reports that may be late or lost. Who begins splits is `orders`, what lies on disks is `disk`, and what
//! an onlooker knows is `family`.

mod disk;
mod family;
mod orders;

use std::collections::BTreeMap;

use bytes::Bytes;
use partition::Mutation;
use partition::split::{self, Filling, Local, SIDES, Side, Task};
use paxos::{GroupId, Input, NodeId, Refusal};
use protocol::item::ItemFault;
use protocol::split::{ReplicaStage, SplitReport};

use crate::disk::GroupDisk;
use crate::event::Event;
use crate::fixture::MapTree;
use crate::host::Hosted;
use crate::world::{Violation, World, broken};

use disk::INSTALL_STEPS;
pub use disk::{ChildDisk, Children};
pub use family::Line;

/// What a node's own replica of a parent and its children's B-trees are like.
fn local<'a>(
    node: NodeId,
    hosted: &'a Hosted,
    disk: &'a GroupDisk,
    children: Option<&Children>,
    fillings: &'a Option<[Filling; 2]>,
) -> Local<'a> {
    Local {
        durable: &disk.state,
        applied: hosted.partition.state(),
        me: (node, disk.identity.incarnation),
        children: children.map(|children| children.split.left),
        fillings: fillings.as_ref().map(|[left, right]| [left, right]),
    }
}

impl World {
    fn bug(&self, mutation: Mutation) -> bool {
        self.scenario.split_mutations.contains(&mutation)
    }

    /// A replica takes the next step of a split, if one is under way.
    pub(crate) fn split_work(&mut self, node: NodeId, group: GroupId) -> Result<(), Violation> {
        let pause = self.rng.around(self.scenario.split_ms) * 1_000 + 500;
        if let Some(birth) = self.hosted(node, group).map(|hosted| hosted.birth) {
            self.after(pause, Event::SplitWork { node, birth, group });
        }
        self.report_split(node, group);
        self.commit_split(node, group)?;
        let Some(host) = self.hosts.get_mut(&node) else {
            return Ok(());
        };
        let (Some(hosted), Some(disk)) = (host.groups.get(&group), host.disk.groups.get(&group))
        else {
            return Ok(());
        };
        if hosted.flushing.is_some() || hosted.copying.is_some() {
            return Ok(());
        }
        let children = host.disk.children.get(&group);
        let fillings = children.and_then(Children::fillings);
        let task = split::next_task(&local(node, hosted, disk, children, &fillings));
        if task != Task::Rest {
            self.trace.note(
                self.now,
                format_args!("n{} g{} split: {task:?}", node.0, group.0),
            );
        }
        match task {
            Task::Rest => Ok(()),
            Task::Flush => {
                self.start_flush(node, group);
                Ok(())
            }
            Task::Discard => {
                self.coverage.hit("children discarded");
                host.disk.children.remove(&group);
                Ok(())
            }
            Task::Create => {
                self.create_children(node, group);
                Ok(())
            }
            Task::Fill(side) => {
                self.fill(node, group, side);
                Ok(())
            }
            Task::Install => self.install_children(node, group),
        }
    }

    /// After a flush: up to the cursor, the children are what the parent's B-tree is.
    pub(crate) fn check_children(&self, node: NodeId, group: GroupId) -> Result<(), Violation> {
        let Some(host) = self.hosts.get(&node) else {
            return Ok(());
        };
        let (Some(disk), Some(children)) =
            (host.disk.groups.get(&group), host.disk.children.get(&group))
        else {
            return Ok(());
        };
        if disk.state.applied < children.reached {
            return Ok(());
        }
        for child in children.trees.iter().flatten() {
            let Some(filling) = &child.state.filling else {
                continue;
            };
            let taken = |(key, _): &(&Bytes, &Bytes)| {
                child.state.range.contains(key) && filling.covers(key)
            };
            let held = disk.tree.0.iter().filter(taken);
            if !held.eq(child.tree.0.iter().filter(taken)) {
                let what = format!("node {} of group {}: {filling:?}", node.0, group.0);
                return broken(
                    "children hold what their parent holds, up to the cursor",
                    what,
                );
            }
        }
        Ok(())
    }

    fn create_children(&mut self, node: NodeId, group: GroupId) {
        let Some(host) = self.hosts.get_mut(&node) else {
            return;
        };
        let Some(state) = host.disk.groups.get(&group).map(|disk| &disk.state) else {
            return;
        };
        let Some(split) = &state.split else { return };
        let children = host.disk.children.entry(group);
        let children = children.or_insert_with(|| Children::of(split));
        // One a step.
        let missing = SIDES
            .into_iter()
            .find(|side| children.trees[*side as usize].is_none());
        if let Some(side) = missing {
            children.trees[side as usize] = Some(ChildDisk {
                tree: MapTree::default(),
                state: split::empty_child(state, group, split, side),
                installed: 0,
            });
        }
    }

    fn fill(&mut self, node: NodeId, group: GroupId, side: Side) {
        let apart = self.bug(Mutation::CursorApart);
        let chunk = self.rng.between(1, 3) as usize;
        let Some(host) = self.hosts.get_mut(&node) else {
            return;
        };
        let (Some(disk), Some(children)) = (
            host.disk.groups.get(&group),
            host.disk.children.get_mut(&group),
        ) else {
            return;
        };
        let Some(child) = &mut children.trees[side as usize] else {
            return;
        };
        if let Some(owed) = children.owed[side as usize].take() {
            child.state.filling = Some(owed);
            return;
        }
        let Some(filling) = child.state.filling.clone() else {
            return;
        };
        let behind = |key: &&Bytes| {
            child.state.range.contains(key)
                && filling.cursor.as_ref().is_none_or(|cursor| *key > cursor)
        };
        let mut keys = disk.tree.0.keys().filter(behind).cloned();
        let keys: Vec<Bytes> = keys.by_ref().take(chunk + 1).collect();
        let is_last = keys.len() <= chunk;
        let keys = &keys[..keys.len().min(chunk)];
        for key in keys {
            if let Some(item) = disk.tree.0.get(key) {
                child.tree.0.insert(key.clone(), item.clone());
            }
        }
        let advanced = filling.advanced(keys.last(), is_last);
        match apart {
            true => children.owed[side as usize] = Some(advanced),
            false => child.state.filling = Some(advanced),
        }
    }

    /// One step of the installation.
    fn install_children(&mut self, node: NodeId, group: GroupId) -> Result<(), Violation> {
        let note_first = self.bug(Mutation::NoteBeforeInstall);
        let begin_first = self.bug(Mutation::BeginBeforeNote);
        let Some(host) = self.hosts.get_mut(&node) else {
            return Ok(());
        };
        let Some(disk) = host.disk.groups.get(&group) else {
            return Ok(());
        };
        let state = disk.state.clone();
        let Some(split) = &state.split else {
            return Ok(());
        };
        let Some(committed) = &split.committed else {
            return Ok(());
        };
        let joined = [split.left, split.right].map(|child| host.disk.groups.contains_key(&child));
        let (Some(hosted), Some(disk)) = (
            host.groups.get_mut(&group),
            host.disk.groups.get_mut(&group),
        ) else {
            return Ok(());
        };
        if note_first {
            disk.state.installed = true;
        }
        let Some(mut children) = host.disk.children.get(&group).cloned() else {
            return Ok(());
        };
        for (side, child) in SIDES.into_iter().zip(&mut children.trees) {
            let Some(child) = child.as_mut().filter(|c| c.installed < INSTALL_STEPS) else {
                continue;
            };
            if joined[side as usize] {
                // Another replica of the child joined; and once it begins, what is kept here must not.
                self.coverage.hit("child joined before it was installed");
                continue;
            }
            if child.installed == 0 {
                child.state = split::begun_child(&state, group, split, committed, side);
            }
            child.installed += 1;
            host.disk.children.insert(group, children);
            return Ok(());
        }
        if begin_first {
            let made = host.note_installed(group, children.clone());
            let life = host.life;
            for group in made {
                self.after(
                    0,
                    Event::Begin {
                        node,
                        life,
                        group,
                        campaigns: true,
                    },
                );
            }
            let Some(host) = self.hosts.get_mut(&node) else {
                return Ok(());
            };
            // Noted with the next flush that somebody happens to make: forgotten until then.
            if !self.rng.chance(100_000) {
                return Ok(());
            }
            host.disk.children.remove(&group);
            if let Some(disk) = host.disk.groups.get_mut(&group) {
                disk.state.installed = true;
            }
            return Ok(());
        }
        // What the log says that the parent held is what they must hold.
        for (side, child) in SIDES.into_iter().zip(&children.trees) {
            let Some(child) = child.as_ref().filter(|c| c.installed == INSTALL_STEPS) else {
                continue;
            };
            let range = split::range_of(&state.range, split, side);
            let Some(line) = self.lines.get(&group) else {
                continue;
            };
            let held = line.items.iter().filter(|(key, _)| range.contains(key));
            if !held.eq(child.tree.0.iter()) {
                let keys = |items: &BTreeMap<Bytes, Bytes>| format!("{:?}", items.keys());
                let what = format!(
                    "node {} of group {}, {side:?}: {} and not, in {range:?}, {}",
                    node.0,
                    group.0,
                    keys(&child.tree.0),
                    keys(&line.items),
                );
                return broken("children hold what their parent held", what);
            }
        }
        let campaigns = hosted.replica.status().leader == Some(node);
        let noted = hosted.partition.note_installed();
        let index = noted.state.applied;
        disk.flush(noted);
        hosted.partition.flushed(index);
        host.disk.children.remove(&group);
        let made = host.note_installed(group, children);
        let life = host.life;
        self.coverage.hit("children installed");
        for group in made {
            let delay = self.rng.around(2_000);
            self.after(
                delay,
                Event::Begin {
                    node,
                    life,
                    group,
                    campaigns,
                },
            );
        }
        self.step(node, group, Input::Flushed { index })
    }

    /// A child's replica begins.
    pub(crate) fn begin_child(
        &mut self,
        node: NodeId,
        group: GroupId,
        campaigns: bool,
    ) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&node) else {
            return Ok(());
        };
        if host.groups.contains_key(&group) || !host.disk.groups.contains_key(&group) {
            return Ok(());
        }
        host.begin_child(group, self.now, &self.scenario);
        let birth = host.groups.get(&group).map_or(0, |hosted| hosted.birth);
        self.begin(node, group, birth);
        match campaigns {
            true => self.step(node, group, Input::Campaign),
            false => Ok(()),
        }
    }

    fn report_split(&mut self, node: NodeId, group: GroupId) {
        let Some(host) = self.hosts.get(&node) else {
            return;
        };
        let (Some(hosted), Some(disk)) = (host.groups.get(&group), host.disk.groups.get(&group))
        else {
            return;
        };
        let Some(split) = &hosted.partition.state().split else {
            return;
        };
        let children = host.disk.children.get(&group);
        let fillings = children.and_then(Children::fillings);
        let report = SplitReport {
            partition: group,
            left: split.left,
            node,
            incarnation: disk.identity.incarnation,
            stage: split::stage(&local(node, hosted, disk, children, &fillings)),
        };
        if report.stage >= ReplicaStage::Ready {
            self.ready.insert((report.left, node, report.incarnation));
        }
        let Some(leader) = hosted.replica.status().leader else {
            return;
        };
        if leader == node {
            return self.split_reported(node, &report);
        }
        let (once, again) = self.network.fate(&mut self.rng, node, leader);
        for delay in again.into_iter().chain(once) {
            let event = Event::SplitReported {
                node: leader,
                report: Box::new(report.clone()),
            };
            self.after(delay, event);
        }
    }

    /// A leader hears how far a replica is.
    pub(crate) fn split_reported(&mut self, node: NodeId, report: &SplitReport) {
        let Some(hosted) = self.hosted(node, report.partition) else {
            return;
        };
        let group = split::Group {
            me: (node, hosted.replica.identity().incarnation),
            configuration: hosted.replica.configuration(),
            settled: hosted.replica.configuration_settled(),
            followers: &[],
        };
        hosted.reports.hear(report, &group);
    }

    fn commit_split(&mut self, node: NodeId, group: GroupId) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&node) else {
            return Ok(());
        };
        let now = host.clock.at(self.now);
        let Some(hosted) = host.groups.get_mut(&group) else {
            return Ok(());
        };
        let ballot = hosted.replica.status().promised;
        if !hosted.replica.can_serve_reads(now) || !hosted.partition.serves(ballot) {
            return Ok(());
        }
        let Some(split) = hosted.partition.state().split.clone() else {
            return Ok(());
        };
        let followers = hosted.replica.followers();
        let view = split::Group {
            me: (node, hosted.replica.identity().incarnation),
            configuration: hosted.replica.configuration(),
            settled: hosted.replica.configuration_settled(),
            followers: &followers,
        };
        if !hosted.reports.may_commit(&split, &view) {
            return Ok(());
        }
        let members = view.configuration.members.clone();
        let Some(command) = hosted.partition.commit(ballot, 0) else {
            return Ok(());
        };
        let mut answers = Vec::new();
        let mut output = hosted.replica.step(now, Input::Propose(vec![command]));
        let proposed = output.proposed.take();
        let refusal = match proposed {
            Some(Ok(first)) => {
                hosted.partition.proposed(first);
                None
            }
            Some(Err(Refusal::Overloaded)) => Some(ItemFault::Overloaded),
            Some(Err(_)) | None => Some(ItemFault::NotReady),
        };
        if let Some(fault) = &refusal {
            hosted.partition.refused(fault, &mut answers);
            self.coverage.hit("commit of a split refused");
        } else {
            self.coverage.hit("commit of a split proposed");
            let unready =
                |m: &&paxos::Member| !self.ready.contains(&(split.left, m.node, m.incarnation));
            if let Some(member) = members.iter().find(unready) {
                let what = format!("group {}: {member:?} was never ready", group.0);
                return broken("a split is committed when every voter is ready", what);
            }
        }
        self.carry_out(node, group, output)
    }
}
