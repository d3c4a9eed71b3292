//! The shell around the decisions: writes the records, gives the orders, and tells the planners what became of them. Does nothing while
//! another admin holds the lease.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::key::hash_middle;
use model::table::TableStatus;
use model::{ApiError, EncodedKey};
use parking_lot::Mutex;
use paxos::{GroupId, NodeId};
use protocol::control::{Order, OrderReply};
use telemetry::traces::{self, now_ns};

use super::course::Act;
use super::watch::Watch;
use super::wishes::Wish;
use super::{Courses, SplitView, Wishes};
use crate::catalog::WriteError;
use crate::driver::{Admin, Outcome};
use crate::records::{
    self, PartitionRecord, SplitCause, SplitPhase, SplitRecord, Stored, TableRecord,
};

/// Tries to change a table's record that others change, too.
const TRIES_MAX: usize = 10;
/// Acts on one table in one round; what is left follows in the next.
const ACTS_MAX: usize = 64;

/// What the planners remember, and what is being begun.
#[derive(Debug, Default)]
pub(crate) struct Splits {
    pub(crate) courses: Mutex<Courses>,
    pub(crate) wishes: Mutex<Wishes>,
    /// Partitions whose split is being decided: their leader is looking for the middle.
    beginning: Mutex<BTreeSet<GroupId>>,
    watch: Mutex<Watch>,
}

impl Splits {
    /// Another admin is at it now.
    pub(crate) fn forget(&self) {
        self.courses.lock().forget();
        *self.wishes.lock() = Wishes::default();
        *self.watch.lock() = Watch::default();
    }
}

/// Why a split was not begun.
#[derive(Debug)]
pub(crate) enum NotBegun {
    /// It can't be, or not now; in words.
    Refused(String),
    /// The system table can't be had.
    Api(ApiError),
}

impl From<ApiError> for NotBegun {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl NotBegun {
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Refused(why) => why.clone(),
            Self::Api(error) => format!("the system table can't be had: {error}"),
        }
    }
}

fn few_items() -> NotBegun {
    NotBegun::Refused("it has fewer than two items".to_owned())
}

/// Marks a partition as one whose split is being decided.
struct Beginning<'a> {
    splits: &'a Splits,
    parent: GroupId,
}

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        self.splits.beginning.lock().remove(&self.parent);
    }
}

fn refused<T>(why: impl Into<String>) -> Result<T, NotBegun> {
    Err(NotBegun::Refused(why.into()))
}

impl Admin {
    /// Lets `work` see tables and partitions as they are now.
    pub(crate) fn with_splits<R>(&self, work: impl FnOnce(&SplitView) -> R) -> R {
        let (tables, partitions) = (self.tables.read(), self.partitions.read());
        work(&SplitView {
            now_ms: self.now_ms(),
            tables: &tables,
            partitions: &partitions,
            settings: &self.settings.splits,
            on_demand_partitions: self.settings.on_demand_partitions,
            partitions_max: self.settings.partitions_max,
        })
    }

    /// One look: goes on with the splits that are recorded, and begins those that should be.
    pub(crate) async fn split_round(self: &Arc<Self>) {
        if self.epoch().is_none() {
            return;
        }
        let going_on: Vec<String> = self.with_splits(|view| {
            let busy = |table: &&TableRecord| {
                let found = |&id: &GroupId| {
                    let seen = view.partitions.get(id);
                    seen.is_some_and(|seen| seen.info.split.is_some())
                };
                !table.splits.is_empty() || table.partitions.iter().any(found)
            };
            let tables = view.tables.iter().filter(busy);
            tables.map(|t| t.definition.name.clone()).collect()
        });
        let going_on = going_on.into_iter().map(|table| async move {
            if let Err(error) = self.go_on(&table).await {
                tracing::info!(table, %error, "the splits of a table can't go on at the moment");
            }
        });
        futures::future::join_all(going_on).await;
        for wish in self.wishes() {
            if self.splits.beginning.lock().insert(wish.parent) {
                let admin = self.clone();
                tokio::spawn(async move { admin.grant(wish).await });
            }
        }
    }

    fn wishes(&self) -> Vec<Wish> {
        let touched: BTreeSet<GroupId> = {
            let plan = self.plan.lock();
            let all = self.with_splits(|view| {
                let all = view
                    .tables
                    .iter()
                    .flat_map(|t| t.partitions.iter().copied());
                all.collect::<Vec<_>>()
            });
            let touched = all.into_iter().filter(|&id| plan.repairs.touches(id));
            touched.collect()
        };
        let beginning = self.splits.beginning.lock().clone();
        self.with_splits(|view| {
            let mut wishes = self.splits.wishes.lock();
            wishes.step(view, |id| touched.contains(&id) || beginning.contains(&id))
        })
    }

    /// Begins a split that the planner wants.
    async fn grant(self: Arc<Self>, wish: Wish) {
        let parent = wish.parent;
        let beginning = Beginning {
            splits: &self.splits,
            parent,
        };
        let begun = match wish.point {
            Some(point) => Ok(point),
            None => self
                .middle_of(parent)
                .await
                .and_then(|m| m.ok_or_else(few_items)),
        };
        let begun = match begun {
            Ok(point) => {
                self.begin_split(&wish.table, parent, point, wish.cause)
                    .await
            }
            Err(why) => Err(why),
        };
        drop(beginning);
        if let Err(why) = begun {
            let why = why.words();
            tracing::info!(
                partition = parent.0,
                why,
                "a partition can't be split at the moment"
            );
            self.with_splits(|view| self.splits.wishes.lock().failed(parent, &why, view));
        }
    }

    /// Begins a split that the operator wants: in the middle, if he names no point.
    pub(crate) async fn split_now(
        self: &Arc<Self>,
        table: &str,
        parent: GroupId,
        point: Option<EncodedKey>,
    ) -> Result<(GroupId, GroupId), NotBegun> {
        if !self.splits.beginning.lock().insert(parent) {
            return refused("its leader is looking for the middle already");
        }
        let _begun = Beginning {
            splits: &self.splits,
            parent,
        };
        let point = match point {
            Some(point) => point,
            None => match self.middle_of(parent).await? {
                Some(point) => point,
                // As good as any other.
                None => match self.partition(parent).await?.map(|p| p.value.range) {
                    Some(range) => hash_middle(&range).ok_or_else(few_items)?,
                    None => return refused("there is no such partition"),
                },
            },
        };
        self.begin_split(table, parent, point, SplitCause::Operator)
            .await
    }

    /// How a partition's split goes, or why it is not split, in words.
    pub(crate) fn split_words(&self, partition: GroupId) -> String {
        if self.splits.beginning.lock().contains(&partition) {
            return "its leader is looking for the middle".to_owned();
        }
        let tables = self.tables.read();
        let split = tables.iter().find_map(|t| t.split_of(partition));
        match split {
            Some(split) => {
                let how = self.splits.courses.lock().words(split);
                format!(
                    "split into {} and {} ({}): {how}",
                    split.left.0,
                    split.right.0,
                    split.cause.words()
                )
            }
            None => {
                let wishes = self.splits.wishes.lock();
                wishes.words(partition).unwrap_or_default().to_owned()
            }
        }
    }

    /// The children of a split that is under way.
    pub(crate) fn children_of(&self, partition: GroupId) -> Vec<GroupId> {
        let tables = self.tables.read();
        let split = tables.iter().find_map(|t| t.split_of(partition));
        split.map_or(Vec::new(), |split| vec![split.left, split.right])
    }

    /// Numbers for the metrics.
    pub(crate) fn split_numbers(&self) -> telemetry::Values {
        let running = {
            let tables = self.tables.read();
            tables.iter().map(|t| t.splits.len() as u64).sum()
        };
        let counts = self.splits.courses.lock().counts();
        vec![
            ("splits_running", running),
            ("splits_waiting", self.splits.wishes.lock().waiting() as u64),
            ("splits_done_total", counts.done),
            ("splits_abandoned_total", counts.abandoned),
        ]
    }

    /// The key that halves the bytes of a partition, as its leader finds it; none: it has fewer than two items.
    async fn middle_of(&self, partition: GroupId) -> Result<Option<EncodedKey>, NotBegun> {
        let leader = {
            let partitions = self.partitions.read();
            let seen = partitions.get(partition);
            seen.filter(|seen| seen.fresh(self.now_ms()))
                .and_then(|seen| seen.info.leader)
        };
        let Some(leader) = leader else {
            return refused("it has no leader that is heard");
        };
        let time = Duration::from_millis(self.settings.splits.middle_ms_max);
        let order = Order::FindMiddle { partition };
        match self.ask(leader, &order, time).await {
            Some(OrderReply::Middle(point)) => Ok(point),
            Some(OrderReply::NotLeader) => refused("its leader has changed"),
            Some(OrderReply::Refused(why)) => refused(format!("its leader refuses: {why}")),
            Some(_) => refused("another admin gives the orders now"),
            None => refused("its leader does not answer"),
        }
    }

    /// Records a split, from where it takes its course: gives the numbers of the children.
    async fn begin_split(
        self: &Arc<Self>,
        table: &str,
        parent: GroupId,
        point: EncodedKey,
        cause: SplitCause,
    ) -> Result<(GroupId, GroupId), NotBegun> {
        let range = match self.partition(parent).await? {
            Some(stored) if !stored.value.dropping => stored.value.range,
            _ => return refused("there is no such partition"),
        };
        if !range.contains(&point) || point == range.start {
            return refused("the point is not inside of the partition's keys");
        }
        // What is not used is lost; numbers there are enough.
        let (_, first) = self.take_numbers(0, 2).await?;
        let (left, right) = (GroupId(first), GroupId(first + 1));
        for _ in 0..TRIES_MAX {
            let Some(stored) = self.table(table).await? else {
                return refused("there is no such table");
            };
            let mut record = stored.value;
            if record.definition.status != TableStatus::Active {
                return refused("its table is being changed");
            }
            if record.split_of(parent).is_some() {
                return refused("it is being split already");
            }
            if !record.partitions.contains(&parent) {
                return refused("it is no partition of this table");
            }
            record.splits.push(SplitRecord {
                parent,
                point: point.clone(),
                left,
                right,
                cause,
                phase: SplitPhase::Ordered,
                traceparent: match cause {
                    SplitCause::Throughput => record.throughput_traceparent.clone(),
                    // Whoever ordered it; what the planner wants by itself has no trace.
                    _ => traces::current().traceparent(),
                },
            });
            match self.put_table(&record, &stored.token).await {
                Ok(_) => {
                    let (partition, left, right) = (parent.0, left.0, right.0);
                    let cause = cause.words();
                    tracing::info!(table, partition, left, right, cause, "a partition is split");
                    if let Err(error) = self.go_on(table).await {
                        tracing::info!(table, %error, "the split is ordered a little later");
                    }
                    return Ok((GroupId(left), GroupId(right)));
                }
                Err(WriteError::Conflict) => {}
                Err(WriteError::Api(error)) => return Err(error.into()),
            }
        }
        refused("others change its table's record")
    }

    /// Does what is to be done about the splits of a table.
    async fn go_on(&self, table: &str) -> Result<(), ApiError> {
        let Some(mut stored) = self.table(table).await? else {
            return Ok(());
        };
        (self.splits.watch.lock()).seen(&stored.value, now_ns());
        for _ in 0..ACTS_MAX {
            let act = self.with_splits(|view| {
                let mut courses = self.splits.courses.lock();
                courses.next(&stored.value, view)
            });
            let Some(act) = act else { break };
            let outcome = self.act(&mut stored, &act).await?;
            // An order is not repeated before its time; what a record lost against is read in the next round.
            if outcome != Outcome::Done && !matches!(act, Act::Order { .. }) {
                break;
            }
        }
        Ok(())
    }

    /// Does one thing. `Silent`: somebody else wrote the record meanwhile.
    async fn act(&self, stored: &mut Stored<TableRecord>, act: &Act) -> Result<Outcome, ApiError> {
        let before = stored.value.clone();
        let outcome = match act {
            Act::Order { to, parent, order } => {
                let part_of = self.splits.watch.lock().context(order.left());
                let order = order.order(*parent);
                traces::within(part_of, std::pin::pin!(self.order(*to, &order))).await
            }
            Act::RecordPartition(record) => self.record_child(record).await?,
            Act::RecordTable(record) => match self.put_table(record, &stored.token).await {
                Ok(token) => {
                    *stored = Stored {
                        value: (**record).clone(),
                        token,
                    };
                    Outcome::Done
                }
                Err(WriteError::Conflict) => Outcome::Silent,
                Err(WriteError::Api(error)) => return Err(error),
            },
            Act::EndParent { parent, members } => {
                let ended = PartitionRecord {
                    partition: *parent,
                    table: stored.value.definition.id,
                    range: Default::default(),
                    members: members.clone(),
                    dropping: true,
                    parent: None,
                };
                self.end_parent(ended).await?
            }
        };
        let now_ms = self.now_ms();
        let mut courses = self.splits.courses.lock();
        courses.answered(&before, act, &outcome, now_ms);
        drop(courses);
        let ended = self
            .splits
            .watch
            .lock()
            .changed(&before, &stored.value, now_ns());
        for (flow, result) in ended {
            self.flows.end(flow, result);
        }
        Ok(outcome)
    }

    /// Writes a table's record, and remembers it for the planners.
    async fn put_table(&self, record: &TableRecord, token: &str) -> Result<String, WriteError> {
        if self.epoch().is_none() {
            return Err(WriteError::Conflict);
        }
        let key = records::table_key(&record.definition.name);
        let token = self.catalog.put(&key, record, Some(token)).await?;
        let mut tables = self.tables.write();
        let id = record.definition.id;
        if let Some(known) = tables.iter_mut().find(|t| t.definition.id == id) {
            *known = record.clone();
        }
        Ok(token)
    }

    async fn record_child(&self, record: &PartitionRecord) -> Result<Outcome, ApiError> {
        let key = records::partition_key(record.partition);
        match self.catalog.put(&key, record, None).await {
            // An earlier try, or an earlier admin's.
            Ok(_) | Err(WriteError::Conflict) => Ok(Outcome::Done),
            Err(WriteError::Api(error)) => Err(error),
        }
    }

    /// The parent has ended: its replicas are dropped from now on, wherever they are.
    async fn end_parent(&self, ended: PartitionRecord) -> Result<Outcome, ApiError> {
        let parent = ended.partition;
        let key = records::partition_key(parent);
        if let Some(stored) = self.partition(parent).await? {
            let mut record = stored.value;
            let known: BTreeSet<NodeId> = record.members.iter().map(|m| m.member.node).collect();
            let new = ended.members.into_iter();
            record
                .members
                .extend(new.filter(|m| !known.contains(&m.member.node)));
            record.dropping = true;
            match self.catalog.put(&key, &record, Some(&stored.token)).await {
                Ok(_) => {}
                Err(WriteError::Conflict) => return Ok(Outcome::Silent),
                Err(WriteError::Api(error)) => return Err(error),
            }
        }
        self.partitions.write().end(parent);
        self.tell_dropped(vec![parent]);
        Ok(Outcome::Done)
    }
}
