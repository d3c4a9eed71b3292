//! Splits as the storage service does them: the rules of `partition::split` at every replica, one durable step at a time, so that a
//! crash finds each of them done or not; reports that may be late or lost; and a stand-in for the admin that begins splits, gives
//! some up, and drops parents that have ended.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::KeyRange;
use partition::split::{self, Filling, Local, SIDES, Side, Task};
use partition::{Command, Evaluated, Mutation, PartitionState};
use paxos::{Entry, GroupId, Input, NodeId, Payload, Refusal};
use protocol::item::ItemFault;
use protocol::split::{ReplicaStage, Split, SplitReport};

use crate::checks::blame;
use crate::disk::GroupDisk;
use crate::event::Event;
use crate::fixture::{self, MapTree};
use crate::host::{Host, Hosted};
use crate::orders::Order;
use crate::scenario::Members;
use crate::world::{Violation, World, broken};

/// Nobody waits for the answer to a step of a split.
const NO_CALLER: u64 = u64::MAX;
/// Numbers of children begin here.
const FIRST_CHILD: u64 = 100;
/// No more groups than this come about in a run.
const GROUPS_MAX: usize = 9;

/// A child's B-tree that is no replica yet.
#[derive(Clone, Debug)]
pub struct ChildDisk {
    /// Items.
    pub tree: MapTree,
    /// State beside them, with the cursor.
    pub state: PartitionState,
    /// Steps of its installation that are done: first state, folder's name, log.
    pub installed: u8,
}

/// The steps of a child's installation.
const INSTALL_STEPS: u8 = 3;

/// The children's B-trees of one split on a node.
#[derive(Clone, Debug)]
pub struct Children {
    /// The split.
    pub split: Split,
    /// Left and right, if they are made.
    pub trees: [Option<ChildDisk>; 2],
    /// Greatest position of a batch that any of them got: after a crash they may be ahead of the parent.
    pub reached: u64,
    /// A cursor that is to be moved in a transaction of its own: a deliberate bug.
    owed: [Option<Filling>; 2],
}

impl Children {
    fn of(split: &Split) -> Children {
        Children {
            split: split.clone(),
            trees: [None, None],
            reached: 0,
            owed: [None, None],
        }
    }

    /// The part of a parent's batch that concerns a child, in one transaction.
    pub fn flush(&mut self, side: Side, batch: &partition::Batch) {
        let Some(child) = &mut self.trees[side as usize] else {
            return;
        };
        self.reached = self.reached.max(batch.state.applied);
        for (key, item) in split::changes_for(batch, &child.state) {
            match item {
                Some(item) => drop(child.tree.0.insert(key, item)),
                None => drop(child.tree.0.remove(&key)),
            }
        }
    }

    fn fillings(&self) -> Option<[Filling; 2]> {
        let of = |child: &ChildDisk| child.state.filling.clone().unwrap_or(Filling::FULL);
        match &self.trees {
            [Some(left), Some(right)] => Some([of(left), of(right)]),
            _ => None,
        }
    }
}

/// A group among its relatives, and what its log says that it holds.
#[derive(Clone, Debug)]
pub struct Line {
    /// The group with which it all began.
    pub root: GroupId,
    /// Its keys.
    pub range: KeyRange,
    /// What it was split into, once that is committed.
    pub children: Option<[GroupId; 2]>,
    /// Items by key, as of the last entry that anybody applied.
    pub items: BTreeMap<Bytes, Bytes>,
    /// Position of that entry.
    applied: u64,
}

impl Line {
    /// A group that was there from the beginning.
    pub fn root(root: GroupId) -> Line {
        Line {
            root,
            range: fixture::whole_range(),
            children: None,
            items: BTreeMap::new(),
            applied: 0,
        }
    }

    fn apply(&mut self, entry: &Entry) {
        if entry.index != self.applied + 1 {
            return;
        }
        self.applied = entry.index;
        let Payload::Command(bytes) = &entry.payload else {
            return;
        };
        if let Ok(Command {
            kind: partition::command::CommandKind::Write(write),
            ..
        }) = Command::decode(bytes)
        {
            match write.item {
                Some(item) => drop(self.items.insert(write.key, item)),
                None => drop(self.items.remove(&write.key)),
            }
        }
    }
}

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

impl Host {
    /// Goes on with installations that a crash interrupted, as a node does when it starts: what is complete is noted, what is not
    /// is taken back.
    pub(crate) fn complete_installs(&mut self) {
        let parents: Vec<GroupId> = self.disk.children.keys().copied().collect();
        for parent in parents {
            let Some(mut children) = self.disk.children.remove(&parent) else {
                continue;
            };
            let Some(disk) = self.disk.groups.get(&parent) else {
                continue;
            };
            let named = disk.state.split.as_ref().map(|split| split.left);
            if disk.state.installed || named != Some(children.split.left) {
                // Nobody knows of them.
                continue;
            }
            let done = SIDES.into_iter().all(|side| {
                let joined = self
                    .disk
                    .groups
                    .contains_key(&split::child_of(&children.split, side));
                let child = &children.trees[side as usize];
                joined
                    || child
                        .as_ref()
                        .is_some_and(|child| child.installed == INSTALL_STEPS)
            });
            if disk.state.has_ended() && done {
                self.note_installed(parent, children);
                if let Some(disk) = self.disk.groups.get_mut(&parent) {
                    disk.state.installed = true;
                }
                continue;
            }
            for child in children.trees.iter_mut().flatten() {
                child.installed = child.installed.min(1);
            }
            self.disk.children.insert(parent, children);
        }
    }

    /// The children's B-trees are replicas from now on. Returns which.
    pub(crate) fn note_installed(&mut self, parent: GroupId, children: Children) -> Vec<GroupId> {
        let Some(disk) = self.disk.groups.get(&parent) else {
            return Vec::new();
        };
        let member = paxos::Member {
            node: self.node,
            role: disk.identity.role,
            incarnation: disk.identity.incarnation,
        };
        let mut made = Vec::new();
        for (side, child) in SIDES.into_iter().zip(children.trees) {
            let id = split::child_of(&children.split, side);
            let Some(child) = child.filter(|_| !self.disk.groups.contains_key(&id)) else {
                continue;
            };
            let restored = split::restored_child(&child.state, &member);
            let disk = GroupDisk {
                floor: restored.floor,
                founded: true,
                tree: child.tree,
                ..GroupDisk::new(child.state, restored.identity)
            };
            self.disk.groups.insert(id, disk);
            made.push(id);
        }
        made
    }

    /// Whether a number is kept for a child that is being installed.
    pub(crate) fn reserves(&self, group: GroupId) -> bool {
        self.disk.children.values().any(|children| {
            SIDES.into_iter().zip(&children.trees).any(|(side, child)| {
                let is_it = split::child_of(&children.split, side) == group;
                is_it && child.as_ref().is_some_and(|child| child.installed > 0)
            })
        })
    }
}

impl World {
    fn bug(&self, mutation: Mutation) -> bool {
        self.scenario.split_mutations.contains(&mutation)
    }

    /// Follows what the log of a group says.
    pub(crate) fn follow_log(&mut self, group: GroupId, committed: &[Entry]) {
        if let Some(line) = self.lines.get_mut(&group) {
            committed.iter().for_each(|entry| line.apply(entry));
        }
    }

    /// The group that has this key now.
    pub(crate) fn owner(&self, root: GroupId, key: u64) -> GroupId {
        let mut owner = root;
        while let Some(child) = self.child_with(owner, key) {
            owner = child;
        }
        owner
    }

    /// The child of a group that ended which has this key.
    pub(crate) fn child_with(&self, group: GroupId, key: u64) -> Option<GroupId> {
        let children = self.lines.get(&group)?.children?;
        let key = fixture::key(key);
        let has = |child: &GroupId| {
            self.lines
                .get(child)
                .is_some_and(|l| l.range.contains(&key))
        };
        children.into_iter().find(has)
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

    /// The first replica applied the end of its partition: the world knows the children from now on.
    pub(crate) fn notice_end(&mut self, node: NodeId, group: GroupId) -> Result<(), Violation> {
        let known = self
            .lines
            .get(&group)
            .is_none_or(|line| line.children.is_some());
        let Some(hosted) = self.hosted(node, group).filter(|_| !known) else {
            return Ok(());
        };
        let state = hosted.partition.state().clone();
        let Some(split) = &state.split else {
            return Ok(());
        };
        let Some(committed) = &split.committed else {
            return Ok(());
        };
        self.coverage.hit("split committed");
        let Some(line) = self.lines.get_mut(&group) else {
            return Ok(());
        };
        line.children = Some([split.left, split.right]);
        let (root, items) = (line.root, line.items.clone());
        for side in SIDES {
            let id = split::child_of(split, side);
            let begun = split::begun_child(&state, group, split, committed, side);
            let items = items.clone().into_iter();
            let line = Line {
                root,
                items: items.filter(|(key, _)| begun.range.contains(key)).collect(),
                range: begun.range,
                children: None,
                applied: begun.applied,
            };
            self.lines.insert(id, line);
            for invariant in &mut self.invariants {
                invariant.founded(id, &begun.configuration);
            }
            self.registry.found(id, &begun.configuration);
            self.scenario.groups.push((id, begun.configuration));
        }
        Ok(())
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

    /// At most one of a parent and its children serves a key at a time.
    pub(crate) fn check_family(&self, group: GroupId) -> Result<(), Violation> {
        let Some(root) = self.lines.get(&group).map(|line| line.root) else {
            return Ok(());
        };
        if self
            .lines
            .get(&root)
            .is_none_or(|line| line.children.is_none())
        {
            return Ok(());
        }
        let mut serving: Vec<(NodeId, GroupId, &KeyRange)> = Vec::new();
        for host in self.hosts.values().filter(|host| host.up) {
            let now = host.clock.at(self.now);
            for (id, hosted) in &host.groups {
                let Some(line) = self.lines.get(id).filter(|line| line.root == root) else {
                    continue;
                };
                let ballot = hosted.replica.status().promised;
                if hosted.replica.can_serve_reads(now) && hosted.partition.serves(ballot) {
                    serving.push((host.node, *id, &line.range));
                }
            }
        }
        for (number, (node, id, range)) in serving.iter().enumerate() {
            let other = serving[..number].iter();
            let mut other = other.filter(|(_, _, r)| !range.intersection(r).is_empty());
            if let Some((other, other_id, _)) = other.next() {
                let what = format!(
                    "node {} serves group {}, node {} group {}",
                    other.0, other_id.0, node.0, id.0
                );
                return broken("at most one of parent and children serves a key", what);
            }
        }
        Ok(())
    }

    /// Whether a partition ends, or has ended, as anybody knows: nobody changes its members any more.
    pub(crate) fn is_ending(&self, group: GroupId) -> bool {
        let ended = self
            .lines
            .get(&group)
            .is_some_and(|line| line.children.is_some());
        ended
            || self.hosts.values().any(|host| {
                host.groups.get(&group).is_some_and(|hosted| {
                    let ballot = hosted.replica.status().promised;
                    hosted.partition.is_committing(ballot)
                })
            })
    }

    /// Why a group's split, if it has one, is not over; none: it is.
    pub(crate) fn split_pending(&self, group: GroupId) -> Option<&'static str> {
        let ended = self
            .lines
            .get(&group)
            .is_some_and(|line| line.children.is_some());
        if ended {
            return Some("a parent is still there");
        }
        let begun = |host: &Host| {
            // What was made for a change that was undone hears of nothing.
            let known = self.registry.get(group);
            let identity = host.disk.groups.get(&group).map(|disk| disk.identity);
            let named = known.zip(identity).is_some_and(|(known, identity)| {
                known.committed.contains(host.node, identity.incarnation)
            });
            if !named {
                return false;
            }
            let hosted = host.groups.get(&group);
            let begun = hosted.is_some_and(|hosted| hosted.partition.state().split.is_some());
            begun || host.disk.children.contains_key(&group)
        };
        self.hosts
            .values()
            .any(begun)
            .then_some("a split is under way")
    }

    /// The admin's look at the splits.
    pub(crate) fn care_for_splits(&mut self) -> Result<(), Violation> {
        for (group, _) in self.scenario.groups.clone() {
            let Some(line) = self.lines.get(&group) else {
                continue;
            };
            if let Some(children) = line.children {
                self.care_for_parent(group, children);
            } else {
                self.care_for_leaf(group);
            }
        }
        Ok(())
    }

    fn care_for_leaf(&mut self, group: GroupId) {
        let Some(leader) = self.leader(group) else {
            return;
        };
        let Some(hosted) = self.hosted(leader, group) else {
            return;
        };
        let state = hosted.partition.state().clone();
        // Where a log replica votes and nobody heals, it can only be given up.
        let mut members = state.configuration.members.iter();
        let never = self.scenario.members == Members::Fixed
            && members.any(|member| member.role == paxos::Role::Log);
        if let Some(split) = state.split {
            if (never || self.faulty) && self.rng.chance(if never { 200_000 } else { 30_000 }) {
                let left = split.left;
                self.order(leader, &Order::Abandon { group, left });
            }
            return;
        }
        if !self.faulty || self.lines.len() >= GROUPS_MAX || !self.rng.chance(250_000) {
            return;
        }
        let key = fixture::key(self.rng.below(self.scenario.keys));
        if !state.range.contains(&key) || key <= state.range.start {
            return;
        }
        self.split_ids = self.split_ids.max(FIRST_CHILD) + 2;
        let split = Split {
            point: key,
            left: GroupId(self.split_ids),
            right: GroupId(self.split_ids + 1),
            committed: None,
        };
        let split = Box::new(split);
        self.order(leader, &Order::Split { group, split });
    }

    /// Drops a parent once its children serve: as a rule when all of its replicas have installed theirs.
    fn care_for_parent(&mut self, group: GroupId, children: [GroupId; 2]) {
        let served = |child: &GroupId| {
            let split = self
                .lines
                .get(child)
                .is_some_and(|line| line.children.is_some());
            split
                || self.leader(*child).is_some()
                || !self.scenario.groups.iter().any(|(g, _)| g == child)
        };
        if !children.iter().all(served) {
            return;
        }
        let left = |host: &&Host| host.disk.groups.contains_key(&group);
        let here: Vec<NodeId> = self
            .hosts
            .values()
            .filter(left)
            .map(|host| host.node)
            .collect();
        if here.is_empty() {
            self.scenario.groups.retain(|(g, _)| *g != group);
            self.coverage.hit("parent dropped");
            return;
        }
        let installed = self.hosts.values().filter(left).all(|host| {
            let disk = &host.disk.groups[&group];
            let named = disk
                .state
                .split
                .as_ref()
                .and_then(|split| split.committed.as_ref());
            let named = named.is_none_or(|committed| {
                committed
                    .configuration
                    .contains(host.node, disk.identity.incarnation)
            });
            disk.state.installed || !named
        });
        let dropping = self.dropping.contains(&group);
        let hasty = self.scenario.members != Members::Fixed && self.rng.chance(50_000);
        if dropping || installed || hasty {
            self.dropping.insert(group);
            for node in here {
                self.order(node, &Order::Drop { group });
            }
        }
    }

    /// A leader is told to split its partition.
    pub(crate) fn begin_split(
        &mut self,
        node: NodeId,
        group: GroupId,
        split: &Split,
    ) -> Result<(), Violation> {
        self.decide(node, group, |hosted, ballot| {
            hosted
                .partition
                .evaluate_split(group, split, (ballot, 0), NO_CALLER)
        })
    }

    /// A leader is told to give a split up.
    pub(crate) fn abandon_split(
        &mut self,
        node: NodeId,
        group: GroupId,
        left: GroupId,
    ) -> Result<(), Violation> {
        self.coverage.hit("split to be abandoned");
        self.decide(node, group, |hosted, ballot| {
            hosted
                .partition
                .evaluate_abandon(left, (ballot, 0), NO_CALLER)
        })
    }

    fn decide(
        &mut self,
        node: NodeId,
        group: GroupId,
        evaluate: impl FnOnce(&mut Hosted, paxos::Ballot) -> Evaluated<u64>,
    ) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&node).filter(|host| host.up) else {
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
        let Evaluated::Propose(command) = evaluate(hosted, ballot) else {
            self.coverage.hit("order about a split refused");
            return Ok(());
        };
        let mut output = hosted.replica.step(now, Input::Propose(vec![command]));
        let mut answers = Vec::new();
        match output.proposed.take() {
            Some(Ok(first)) => hosted.partition.proposed(first),
            Some(Err(_)) | None => hosted.partition.refused(&ItemFault::NotReady, &mut answers),
        }
        self.carry_out(node, group, output)
    }

    /// The admin drops a parent's replica, unless its children are just being installed.
    pub(crate) fn drop_parent(&mut self, node: NodeId, group: GroupId) {
        let Some(host) = self.hosts.get(&node).filter(|host| host.up) else {
            return;
        };
        let children = host.disk.children.get(&group);
        let installing = children.is_some_and(|children| {
            children
                .trees
                .iter()
                .flatten()
                .any(|child| child.installed > 0)
        });
        if !installing {
            self.stop(node, group);
            self.forget(node, group);
        }
    }

    /// At the end, every replica of every group holds what the log of its group says, from the first group on.
    pub(crate) fn check_items(&self) -> Result<(), Violation> {
        for (group, _) in &self.scenario.groups {
            let Some(line) = self.lines.get(group) else {
                continue;
            };
            for host in self.hosts.values() {
                let (Some(hosted), Some(disk)) =
                    (host.groups.get(group), host.disk.groups.get(group))
                else {
                    continue;
                };
                let known = self.registry.get(*group);
                let named = known.is_some_and(|known| {
                    known
                        .committed
                        .contains(host.node, disk.identity.incarnation)
                });
                if !named || disk.identity.role == paxos::Role::Log {
                    continue;
                }
                for key in 0..self.scenario.keys {
                    if !line.range.contains(&fixture::key(key)) {
                        continue;
                    }
                    let get = fixture::get(key);
                    let found = hosted.partition.get(&disk.tree, &get);
                    let expected = line.items.get(&fixture::key(key));
                    let same = matches!(&found, Ok(protocol::item::ItemReply::Item { item, .. }) if item.as_ref() == expected);
                    if !same {
                        let what = format!(
                            "node {} of group {}, k{key}: {found:?}",
                            host.node.0, group.0
                        );
                        return blame("replicas hold what their log says", Err(what));
                    }
                }
            }
        }
        Ok(())
    }
}
