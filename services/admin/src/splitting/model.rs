//! A model of the mesh for tests: the system table's records, and partitions whose leaders carry splits out in their own time, push when it
//! suits them, and answer orders late or not at all. Draws from one seed.

use std::collections::{BTreeMap, BTreeSet};

use model::key::table_range;
use model::table::{BillingMode, TableStatus};
use model::{KeyRange, TableDefinition, TableId};
use paxos::{GroupId, NodeId};
use protocol::directory::{PartitionInfo, ReplicaProgress};
use protocol::split::{SplitProgress, SplitStage};

use super::course::{Act, OrderKind};
use super::wishes::Wish;
use super::{Courses, SplitView, Wishes};
use crate::driver::Outcome;
use crate::partitions::Partitions;
use crate::partitions::tests::{info, push};
use crate::records::{PartitionRecord, SplitPhase, SplitRecord, TableRecord, system_table};
use crate::settings::SplitSettings;

pub(super) const TURN_MS: u64 = 500;
const MEMBERS: [(u64, &str); 3] = [(1, "az1"), (2, "az2"), (3, "az3")];

pub(super) fn table(billing: BillingMode) -> TableDefinition {
    TableDefinition {
        id: TableId(16),
        name: "music".to_owned(),
        billing,
        status: TableStatus::Active,
        ..system_table()
    }
}

/// A partition as its group has it.
pub(super) struct Group {
    pub(super) info: PartitionInfo,
    /// Its leader proposes nothing: a member is lost.
    pub(super) stuck: bool,
    /// Stages that the split still passes at a turn's pace.
    turns: u32,
    /// Greatest number of a split that was given up: an order that comes late begins none that ended.
    given_up: GroupId,
    installed: bool,
}

/// The mesh.
pub(super) struct Mesh {
    pub(super) now_ms: u64,
    pub(super) groups: BTreeMap<GroupId, Group>,
    pub(super) record: TableRecord,
    pub(super) records: BTreeMap<GroupId, PartitionRecord>,
    pub(super) next_number: u64,
    /// Orders that are on their way: when they arrive.
    late: Vec<(u64, NodeId, GroupId, OrderKind)>,
    /// One answer in so many is lost; 0: none.
    pub(super) lossy: u64,
    random: u64,
}

impl Mesh {
    pub(super) fn new(partitions: u32, billing: BillingMode, seed: u64) -> Self {
        let definition = table(billing);
        let ranges = model::key::split_table_range(definition.id, partitions);
        let mut mesh = Self {
            now_ms: 0,
            groups: BTreeMap::new(),
            record: TableRecord {
                definition,
                ..TableRecord::default()
            },
            records: BTreeMap::new(),
            next_number: 100,
            late: Vec::new(),
            lossy: 0,
            random: seed | 1,
        };
        for range in ranges {
            let id = mesh.number();
            let mut info = info(id.0, &MEMBERS);
            info.range = range.clone();
            mesh.record.partitions.push(id);
            let record = PartitionRecord {
                partition: id,
                table: info.table,
                range,
                members: info.members.clone(),
                dropping: false,
                parent: None,
            };
            mesh.records.insert(id, record);
            mesh.groups.insert(id, Group::new(info));
        }
        mesh
    }

    pub(super) fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn number(&mut self) -> GroupId {
        self.next_number += 1;
        GroupId(self.next_number)
    }

    /// Records a split as the admin does when it decides one.
    pub(super) fn record_split(&mut self, wish: &Wish, point: model::EncodedKey) {
        let (left, right) = (self.number(), self.number());
        assert!(self.record.split_of(wish.parent).is_none());
        assert!(self.record.partitions.contains(&wish.parent));
        self.record.splits.push(SplitRecord {
            parent: wish.parent,
            point,
            left,
            right,
            cause: wish.cause,
            phase: SplitPhase::Ordered,
            traceparent: String::new(),
        });
    }

    /// Time passes: late orders arrive, splits move on.
    pub(super) fn turn(&mut self) {
        self.now_ms += TURN_MS;
        let (due, late) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|(at_ms, ..)| *at_ms <= self.now_ms);
        self.late = late;
        for (_, to, parent, order) in due {
            self.take(to, parent, &order);
        }
        for id in self.groups.keys().copied().collect::<Vec<_>>() {
            self.advance(id);
        }
    }

    fn advance(&mut self, id: GroupId) {
        let group = self.groups.get_mut(&id).unwrap();
        if !group.installed {
            group.installed = true;
            for progress in &mut group.info.progress {
                progress.in_step = true;
            }
        }
        let Some(split) = &mut group.info.split else {
            return;
        };
        if group.stuck {
            return;
        }
        if group.turns > 0 {
            group.turns -= 1;
            return;
        }
        match split.stage {
            SplitStage::Preparing => split.stage = SplitStage::Committing,
            SplitStage::Committing => {
                split.stage = SplitStage::Committed;
                split.done = vec![NodeId(1), NodeId(2)];
                let (left, right, point) = (split.left, split.right, split.point.clone());
                let parent = group.info.clone();
                let (start, end) = (parent.range.start.clone(), parent.range.end.clone());
                for (child, start, end) in [(left, start, point.clone()), (right, point, end)] {
                    let range = KeyRange { start, end };
                    let old = self
                        .groups
                        .insert(child, Group::child(child, &parent, range));
                    assert!(old.is_none(), "a number was used twice");
                }
            }
            SplitStage::Committed => split.done = (1..=3).map(NodeId).collect(),
        }
    }

    /// What leaders would push now, each with the given chance in 100.
    pub(super) fn push_to(&mut self, partitions: &mut Partitions, chance: u64) {
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        for id in ids {
            if self.draw(100) < chance {
                let info = self.groups[&id].info.clone();
                partitions.learn(push(vec![info]), self.now_ms);
            }
        }
    }

    fn take(&mut self, to: NodeId, parent: GroupId, order: &OrderKind) -> Outcome {
        let Some(group) = self.groups.get_mut(&parent) else {
            return Outcome::NotLeader;
        };
        if group.info.leader != Some(to) {
            return Outcome::NotLeader;
        }
        match order {
            OrderKind::Split { generation, split } => {
                if *generation != group.info.generation {
                    return Outcome::Stale(group.info.generation);
                }
                match &group.info.split {
                    Some(known) if known.left == split.left => Outcome::Done,
                    Some(_) => Outcome::Refused("it is being split already".into()),
                    None if split.left <= group.given_up => {
                        Outcome::Refused("that split was given up".into())
                    }
                    None => {
                        group.info.split = Some(SplitProgress {
                            point: split.point.clone(),
                            left: split.left,
                            right: split.right,
                            stage: SplitStage::Preparing,
                            done: Vec::new(),
                        });
                        group.turns = 3;
                        Outcome::Done
                    }
                }
            }
            OrderKind::Abandon { left } => match &group.info.split {
                Some(known) if known.left == *left => match known.stage {
                    SplitStage::Preparing => {
                        group.info.split = None;
                        group.given_up = *left;
                        Outcome::Done
                    }
                    _ => Outcome::Refused("it is committed".into()),
                },
                _ => {
                    group.given_up = group.given_up.max(*left);
                    Outcome::Done
                }
            },
        }
    }

    /// Carries out what an admin does; `before` is the record as it read it.
    pub(super) fn carry_out(&mut self, before: &TableRecord, act: &Act) -> Outcome {
        match act {
            Act::Order { to, parent, order } => {
                if self.lossy > 0 && self.draw(self.lossy) == 0 {
                    // It arrives later, or now: the admin does not hear of it.
                    let at_ms = self.now_ms + self.draw(3_000);
                    self.late.push((at_ms, *to, *parent, order.clone()));
                    return Outcome::Silent;
                }
                self.take(*to, *parent, order)
            }
            Act::RecordPartition(record) => {
                let known = self.records.entry(record.partition);
                let known = known.or_insert_with(|| record.clone());
                assert_eq!(known.range, record.range, "two partitions with one number");
                Outcome::Done
            }
            Act::RecordTable(record) => {
                if self.record != *before {
                    return Outcome::Silent;
                }
                self.record = (**record).clone();
                Outcome::Done
            }
            Act::EndParent { parent, .. } => {
                let record = self.records.get_mut(parent).expect("it was recorded");
                record.dropping = true;
                self.groups.remove(parent);
                Outcome::Done
            }
        }
    }

    /// Every key has one partition that serves it: those that nobody has split, whatever is recorded.
    pub(super) fn check(&self) {
        let serving = self.groups.values().filter(|group| {
            let split = group.info.split.as_ref();
            split.is_none_or(|split| split.stage != SplitStage::Committed)
        });
        covers(serving.map(|group| &group.info.range));
        for split in &self.record.splits {
            assert!(split.parent < split.left && split.left < split.right);
        }
        let unique: BTreeSet<_> = self.record.partitions.iter().collect();
        assert_eq!(unique.len(), self.record.partitions.len());
    }

    /// Nothing is under way, and the records say what there is.
    pub(super) fn settled(&self) -> bool {
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        let mut recorded = self.record.partitions.clone();
        recorded.sort();
        let is = self.record.splits.is_empty() && recorded == ids;
        if is {
            covers(recorded.iter().map(|id| &self.records[id].range));
            for record in self.records.values() {
                assert_eq!(record.dropping, !recorded.contains(&record.partition));
            }
        }
        is
    }
}

/// These ranges are the table, each key once.
fn covers<'a>(ranges: impl Iterator<Item = &'a KeyRange>) {
    let mut ranges: Vec<_> = ranges.collect();
    ranges.sort();
    let whole = table_range(TableId(16));
    assert_eq!(ranges.first().unwrap().start, whole.start);
    assert_eq!(ranges.last().unwrap().end, whole.end);
    for pair in ranges.windows(2) {
        assert_eq!(pair[0].end, pair[1].start);
    }
}

impl Group {
    fn new(mut info: PartitionInfo) -> Self {
        let followers = info.members.iter().skip(1);
        info.progress = followers
            .map(|m| ReplicaProgress {
                node: m.member.node,
                incarnation: m.member.incarnation,
                behind_entries: 0,
                silent_ms: 0,
                copying: false,
                in_step: true,
            })
            .collect();
        Self {
            info,
            stuck: false,
            turns: 0,
            given_up: GroupId(0),
            installed: true,
        }
    }

    /// Its third replica is not there yet.
    fn child(id: GroupId, parent: &PartitionInfo, range: KeyRange) -> Self {
        let mut info = info(id.0, &MEMBERS);
        (info.range, info.parent) = (range, Some(parent.partition));
        (info.items, info.bytes) = (parent.items / 2, parent.bytes / 2);
        let mut child = Self::new(info);
        child.info.progress[1].in_step = false;
        child.installed = false;
        child
    }
}

/// An admin: what it has heard and what it remembers.
pub(super) struct Admin {
    pub(super) partitions: Partitions,
    pub(super) courses: Courses,
    pub(super) wishes: Wishes,
    pub(super) settings: SplitSettings,
    pub(super) on_demand_partitions: u32,
}

impl Admin {
    pub(super) fn new(settings: SplitSettings) -> Self {
        Self {
            partitions: Partitions::default(),
            courses: Courses::default(),
            wishes: Wishes::default(),
            settings,
            on_demand_partitions: 1,
        }
    }

    /// Does what is due, `acts` at most; gives how many it did.
    pub(super) fn go_on(&mut self, mesh: &mut Mesh, acts: usize) -> usize {
        for done in 0..acts {
            let record = mesh.record.clone();
            let tables = [record.clone()];
            let view = SplitView {
                now_ms: mesh.now_ms,
                tables: &tables,
                partitions: &self.partitions,
                settings: &self.settings,
                on_demand_partitions: self.on_demand_partitions,
                partitions_max: 64,
            };
            let Some(act) = self.courses.next(&record, &view) else {
                return done;
            };
            let outcome = mesh.carry_out(&record, &act);
            mesh.check();
            if let (Act::EndParent { parent, .. }, Outcome::Done) = (&act, &outcome) {
                self.partitions.end(*parent);
            }
            self.courses.answered(&record, &act, &outcome, mesh.now_ms);
        }
        acts
    }

    /// What should be split now; points that the leader must find are in the middle of the keys.
    pub(super) fn wish(&mut self, mesh: &Mesh) -> Vec<(Wish, model::EncodedKey)> {
        let tables = [mesh.record.clone()];
        let view = SplitView {
            now_ms: mesh.now_ms,
            tables: &tables,
            partitions: &self.partitions,
            settings: &self.settings,
            on_demand_partitions: self.on_demand_partitions,
            partitions_max: 64,
        };
        let wishes = self.wishes.step(&view, |_| false);
        let point = |wish: &Wish| {
            let range = &mesh.groups[&wish.parent].info.range;
            let middle = || model::key::hash_middle(range).unwrap();
            wish.point.clone().unwrap_or_else(middle)
        };
        wishes.into_iter().map(|w| (w.clone(), point(&w))).collect()
    }
}
