//! What is to be done next about the splits of a table. Pure: each step follows from the table's record and from what the leaders push; what is
//! remembered beside that only spares repetitions, and may be forgotten at any time.

use std::collections::{BTreeMap, BTreeSet};

use paxos::{GroupId, NodeId, Role};
use protocol::control::Order;
use protocol::directory::{PartitionInfo, PlacedMember};
use protocol::split::{SplitProgress, SplitStage};

use super::SplitView;
use crate::driver::Outcome;
use crate::partitions::Seen;
use crate::placement::REPLICAS;
use crate::records::{PartitionRecord, SplitCause, SplitPhase, SplitRecord, TableRecord};
use model::table::TableStatus;

/// A parent of which nothing is heard for so long while all replicas of its children are in step is gone: it was ended by an admin that did not
/// live to note it. Milliseconds.
const PARENT_SILENT_MS: u64 = 20_000;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    /// Give a parent's leader its order.
    Order {
        to: NodeId,
        parent: GroupId,
        order: OrderKind,
    },
    /// Write a child's record, unless there is one.
    RecordPartition(PartitionRecord),
    /// Write the table's record, unless somebody else did since.
    RecordTable(Box<TableRecord>),
    /// Note in the parent's record that its replicas are to be dropped, on these members too.
    EndParent {
        parent: GroupId,
        members: Vec<PlacedMember>,
    },
}

/// What a parent's leader is to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OrderKind {
    Split { generation: u64, split: SplitRecord },
    Abandon { left: GroupId },
}

impl OrderKind {
    /// Left child of the split that it is about.
    pub(crate) fn left(&self) -> GroupId {
        match self {
            Self::Split { split, .. } => split.left,
            Self::Abandon { left } => *left,
        }
    }

    /// As it goes to the node.
    pub(crate) fn order(&self, partition: GroupId) -> Order {
        match self.clone() {
            Self::Split { generation, split } => Order::SplitPartition {
                partition,
                generation,
                point: split.point,
                left: split.left,
                right: split.right,
            },
            Self::Abandon { left } => Order::AbandonSplit { partition, left },
        }
    }
}

/// Splits that this admin gave up, remembered at most: a stale push must not bring them back.
const ABANDONED_MAX: usize = 1_000;

/// What is remembered of the splits that are under way.
#[derive(Debug, Default)]
pub(crate) struct Courses {
    courses: BTreeMap<GroupId, Course>,
    /// Left children of splits that were given up.
    abandoned: BTreeSet<GroupId>,
    counts: Counts,
}

/// How many splits came to their end here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) done: u64,
    pub(crate) abandoned: u64,
}

#[derive(Debug)]
struct Course {
    /// Which split of the parent this is.
    left: GroupId,
    /// Since when nothing moved.
    since_ms: u64,
    /// No order before.
    next_ms: u64,
    progress: Option<SplitProgress>,
    /// Children whose records are written.
    recorded: BTreeSet<GroupId>,
    /// The parent's record says that it is to be dropped.
    ended: bool,
    /// The leader gave it up.
    given_up: bool,
    why: String,
}

impl Courses {
    /// What is to be done next about this table's splits; none: nothing at the moment. To be asked again once that was done and
    /// `answered`, with the record as it is then.
    pub(crate) fn next(&mut self, record: &TableRecord, view: &SplitView) -> Option<Act> {
        let going_on = match record.definition.status {
            TableStatus::Active | TableStatus::Updating => true,
            // All of its partitions must have a leader to be told that nothing is written any more.
            TableStatus::Deleting => record.point_in_time.is_some() && record.last_backup.is_none(),
            TableStatus::Creating => false,
        };
        if !going_on {
            return None;
        }
        if let Some(found) = self.found(record, view) {
            return Some(Act::RecordTable(Box::new(found)));
        }
        record.splits.iter().find_map(|split| {
            let course = self.courses.entry(split.parent);
            let course = course.or_insert_with(|| Course::new(split.left, view.now_ms));
            if course.left != split.left {
                *course = Course::new(split.left, view.now_ms);
            }
            course.next(split, record, view)
        })
    }

    /// What became of it. Of a record that somebody else wrote meanwhile nothing needs to be said.
    pub(crate) fn answered(
        &mut self,
        before: &TableRecord,
        act: &Act,
        outcome: &Outcome,
        now_ms: u64,
    ) {
        match act {
            Act::RecordTable(after) if *outcome == Outcome::Done => {
                let gone = |split: &&SplitRecord| after.split_of(split.parent).is_none();
                for split in before.splits.iter().filter(gone) {
                    self.courses.remove(&split.parent);
                    match split.phase {
                        SplitPhase::Settled => self.counts.done += 1,
                        SplitPhase::Ordered | SplitPhase::Abandoning => {
                            self.counts.abandoned += 1;
                            self.abandoned.insert(split.left);
                        }
                    }
                }
                while self.abandoned.len() > ABANDONED_MAX {
                    self.abandoned.pop_first();
                }
            }
            Act::RecordPartition(child) if *outcome == Outcome::Done => {
                let parent = child.parent.and_then(|p| self.courses.get_mut(&p));
                if let Some(course) = parent {
                    course.recorded.insert(child.partition);
                }
            }
            Act::EndParent { parent, .. } if *outcome == Outcome::Done => {
                if let Some(course) = self.courses.get_mut(parent) {
                    course.ended = true;
                }
            }
            Act::Order { parent, order, .. } => {
                if let Some(course) = self.courses.get_mut(parent) {
                    course.ordered(order, outcome, now_ms);
                }
            }
            _ => {}
        }
    }

    /// How a parent's split goes, in words for the operator.
    pub(crate) fn words(&self, split: &SplitRecord) -> String {
        let course = self.courses.get(&split.parent);
        let course = course.filter(|course| course.left == split.left);
        let mut words = match split.phase {
            SplitPhase::Ordered => match course.and_then(|c| c.progress.as_ref()) {
                None => "ordered".to_owned(),
                Some(progress) => stage_words(progress),
            },
            SplitPhase::Abandoning => "being abandoned".to_owned(),
            SplitPhase::Settled => "the children catch up".to_owned(),
        };
        if let Some(course) = course.filter(|course| !course.why.is_empty()) {
            words.push_str(&format!(", refused: {}", course.why));
        }
        words
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Forgets everything but the counts: another admin is at it now.
    pub(crate) fn forget(&mut self) {
        self.courses.clear();
        self.abandoned.clear();
    }

    /// The record with a split that a leader is at and that the record does not have, or has with other numbers: an order that was
    /// late. The leader's word counts, since the children come from it.
    fn found(&self, record: &TableRecord, view: &SplitView) -> Option<TableRecord> {
        record.partitions.iter().find_map(|&parent| {
            let progress = view.partitions.get(parent)?.info.split.as_ref()?;
            let known = record.split_of(parent);
            if known.is_some_and(|split| split.left == progress.left)
                || self.abandoned.contains(&progress.left)
            {
                return None;
            }
            let mut next = record.clone();
            next.splits.retain(|split| split.parent != parent);
            next.splits.push(SplitRecord {
                parent,
                point: progress.point.clone(),
                left: progress.left,
                right: progress.right,
                cause: SplitCause::Found,
                phase: SplitPhase::Ordered,
                traceparent: String::new(),
            });
            Some(next)
        })
    }
}

impl Course {
    fn new(left: GroupId, now_ms: u64) -> Self {
        Self {
            left,
            since_ms: now_ms,
            next_ms: now_ms,
            progress: None,
            recorded: BTreeSet::new(),
            ended: false,
            given_up: false,
            why: String::new(),
        }
    }

    fn next(&mut self, split: &SplitRecord, record: &TableRecord, view: &SplitView) -> Option<Act> {
        let children = children(split, view);
        match (split.phase, children) {
            (SplitPhase::Settled, _) => self.end(split, record, view),
            (_, Some(children)) => Some(self.settle(split, children, record)),
            (_, None) if self.given_up => Some(Act::RecordTable(Box::new(without(record, split)))),
            (phase, None) => {
                let seen = view.partitions.get(split.parent);
                let seen = seen.filter(|seen| seen.fresh(view.now_ms))?;
                self.watch(split, seen, view.now_ms);
                let to = seen.info.leader?;
                let order = match phase {
                    SplitPhase::Ordered if self.hopeless(split, seen, view) => {
                        let abandoning = with_phase(record, split, SplitPhase::Abandoning);
                        return Some(Act::RecordTable(Box::new(abandoning)));
                    }
                    SplitPhase::Ordered if self.progress.is_some() => return None,
                    SplitPhase::Ordered => OrderKind::Split {
                        generation: seen.info.generation,
                        split: split.clone(),
                    },
                    _ => OrderKind::Abandon { left: split.left },
                };
                if view.now_ms < self.next_ms {
                    return None;
                }
                self.next_ms = view.now_ms + view.settings.repeat_ms;
                let parent = split.parent;
                Some(Act::Order { to, parent, order })
            }
        }
    }

    /// Notes what the parent's leader says.
    fn watch(&mut self, split: &SplitRecord, seen: &Seen, now_ms: u64) {
        let progress = seen.info.split.as_ref().filter(|p| p.left == split.left);
        if self.progress.as_ref() != progress {
            self.progress = progress.cloned();
            self.since_ms = now_ms;
        }
    }

    /// Nothing has moved for too long, and the split can still be given up.
    fn hopeless(&self, split: &SplitRecord, seen: &Seen, view: &SplitView) -> bool {
        let late = view.now_ms.saturating_sub(self.since_ms) >= view.settings.abandon_after_ms;
        match &self.progress {
            Some(progress) => late && progress.stage == SplitStage::Preparing,
            // Nobody else has its order: whoever was at it has given it up.
            None if split.cause == SplitCause::Found => seen.heard_ms > self.since_ms,
            None => late,
        }
    }

    /// The children have leaders: they are what counts from now on.
    fn settle(&self, split: &SplitRecord, children: [&Seen; 2], record: &TableRecord) -> Act {
        for child in children {
            let info = &child.info;
            if !self.recorded.contains(&info.partition) {
                return Act::RecordPartition(PartitionRecord {
                    partition: info.partition,
                    table: info.table,
                    range: info.range.clone(),
                    members: child.replicas().cloned().collect(),
                    dropping: false,
                    parent: Some(split.parent),
                });
            }
        }
        let mut next = with_phase(record, split, SplitPhase::Settled);
        let at = next.partitions.iter().position(|&p| p == split.parent);
        let at = at.map_or(0..0, |at| at..at + 1);
        next.partitions.splice(at, [split.left, split.right]);
        Act::RecordTable(Box::new(next))
    }

    /// Once all of the children's replicas are there, nobody needs the parent's log any more.
    fn end(&self, split: &SplitRecord, record: &TableRecord, view: &SplitView) -> Option<Act> {
        if self.ended {
            return Some(Act::RecordTable(Box::new(without(record, split))));
        }
        // A child that was split since, and was ended for it, was whole before.
        let is_there =
            |&id: &GroupId| record.partitions.contains(&id) || record.split_of(id).is_some();
        let children = [split.left, split.right].into_iter().filter(is_there);
        let children: Vec<&Seen> = children
            .map(|id| child(id, split, view).filter(|child| whole(child, view)))
            .collect::<Option<_>>()?;
        let parent = view.partitions.get(split.parent);
        // The children's archives begin with their parent's: it stays until that is whole.
        let waits = match parent.filter(|parent| parent.fresh(view.now_ms)) {
            Some(parent) => parent.info.unarchived,
            None => view.now_ms.saturating_sub(self.since_ms) < PARENT_SILENT_MS,
        };
        if waits {
            return None;
        }
        let of_parent = parent.into_iter().flat_map(Seen::replicas);
        let mut members: Vec<PlacedMember> = Vec::new();
        for member in of_parent.chain(children.iter().flat_map(|child| child.replicas())) {
            if !members.iter().any(|m| m.member.node == member.member.node) {
                members.push(member.clone());
            }
        }
        Some(Act::EndParent {
            parent: split.parent,
            members,
        })
    }

    fn ordered(&mut self, order: &OrderKind, outcome: &Outcome, now_ms: u64) {
        self.why.clear();
        match (order, outcome) {
            (OrderKind::Abandon { .. }, Outcome::Done) => self.given_up = true,
            (OrderKind::Split { .. }, Outcome::Done) => self.since_ms = now_ms,
            (_, Outcome::Refused(why)) => self.why.clone_from(why),
            // No leader there, an older word: the next push knows better.
            (_, _) => {}
        }
    }
}

/// Both children, once leaders have spoken for them.
fn children<'a>(split: &SplitRecord, view: &SplitView<'a>) -> Option<[&'a Seen; 2]> {
    Some([
        child(split.left, split, view)?,
        child(split.right, split, view)?,
    ])
}

fn child<'a>(id: GroupId, split: &SplitRecord, view: &SplitView<'a>) -> Option<&'a Seen> {
    let seen = view.partitions.get(id)?;
    (seen.info.parent == Some(split.parent)).then_some(seen)
}

/// All replicas are there and in step.
fn whole(seen: &Seen, view: &SplitView) -> bool {
    let info: &PartitionInfo = &seen.info;
    let follows = |m: &PlacedMember| {
        let progress = info.progress.iter();
        let mut of = progress.filter(|p| m.member.is(p.node, p.incarnation));
        info.leader == Some(m.member.node) || of.any(|p| p.in_step && !p.copying)
    };
    let storage = |m: &&PlacedMember| m.member.role == Role::Storage;
    seen.fresh(view.now_ms)
        && !info.changing
        && info.learners.is_empty()
        && info.members.iter().filter(storage).count() >= REPLICAS
        && info.members.iter().all(follows)
}

fn with_phase(record: &TableRecord, split: &SplitRecord, phase: SplitPhase) -> TableRecord {
    let mut next = record.clone();
    let of_it = next.splits.iter_mut().filter(|s| s.parent == split.parent);
    of_it.for_each(|s| s.phase = phase);
    next
}

fn without(record: &TableRecord, split: &SplitRecord) -> TableRecord {
    let mut next = record.clone();
    next.splits.retain(|s| s.parent != split.parent);
    next
}

fn stage_words(progress: &SplitProgress) -> String {
    let done = progress.done.len();
    match progress.stage {
        SplitStage::Preparing => format!("preparing, {done} of {REPLICAS} ready"),
        SplitStage::Committing => "committing".to_owned(),
        SplitStage::Committed => format!("committed, {done} of {REPLICAS} installed"),
    }
}
