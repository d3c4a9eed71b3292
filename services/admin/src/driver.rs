//! What every part of the admin shares, and the way from a table's recorded state to its real one. Each step can be repeated and can be
//! taken by any admin: the records say what is wanted, orders are idempotent, writes are conditional.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh::{Deadline, Mesh};
use model::ApiError;
use model::table::TableStatus;
use parking_lot::{Mutex, RwLock};
use paxos::{GroupId, NodeId};
use protocol::control::{Order, OrderCall, OrderReply};
use protocol::directory::Push;
use protocol::operate::Nudge;
use protocol::subjects;
use routing::Client;
use telemetry::traces::{self, Flows};
use tokio::sync::Semaphore;

use crate::autoadmin::Plan;
use crate::backups::{Archived, Board};
use crate::catalog::{Catalog, WriteError};
use crate::cluster::Cluster;
use crate::lease::Lease;
use crate::partitions::Partitions;
use crate::records::{self, Counters, NodeRecord, PartitionRecord, Stored, TableRecord};
use crate::settings::AdminSettings;
use crate::splitting::Splits;

/// Orders under way at once, over all tables.
const ORDERS_MAX: usize = 64;

/// Time between two looks whether another admin has settled a table.
const SETTLED_EVERY: Duration = Duration::from_millis(50);

/// The admin's shared state.
pub(crate) struct Admin {
    pub(crate) settings: AdminSettings,
    pub(crate) mesh: Mesh,
    pub(crate) client: Client,
    pub(crate) catalog: Catalog,
    pub(crate) cluster: RwLock<Cluster>,
    pub(crate) partitions: RwLock<Partitions>,
    pub(crate) node_records: RwLock<BTreeMap<NodeId, Stored<NodeRecord>>>,
    /// Tables and their partitions, as of the last reconciliation.
    pub(crate) tables: RwLock<Vec<TableRecord>>,
    pub(crate) lease: Mutex<Lease>,
    pub(crate) plan: Mutex<Plan>,
    pub(crate) splits: Splits,
    /// Takes the traces of what is ordered here.
    pub(crate) flows: Flows,
    pub(crate) calls: Semaphore,
    /// Held while quotas are looked at and used.
    pub(crate) reserving: tokio::sync::Mutex<()>,
    /// Held while a report of grown tables is worked on.
    pub(crate) warming: tokio::sync::Mutex<()>,
    /// How far the archive is.
    pub(crate) archived: RwLock<Archived>,
    /// Restores, exports and imports.
    pub(crate) board: Mutex<Board>,
    orders: Semaphore,
    driving: Mutex<BTreeSet<String>>,
    started: Instant,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    NotLeader,
    /// Older than what the node knows: the generation that counts now.
    Stale(u64),
    Refused(String),
    /// No answer: it may have been carried out.
    Silent,
    /// Not given: this admin does not hold the lease.
    Unauthorised,
}

/// Why a drive ended before its table was settled.
#[derive(Debug)]
pub(crate) enum Unsettled {
    /// Somebody else is at it, or it takes longer: the next reconciliation goes on.
    Later(&'static str),
    /// A job fills it.
    Filling,
    /// The system table cannot be had.
    Api(ApiError),
}

impl From<ApiError> for Unsettled {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<WriteError> for Unsettled {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Conflict => Self::Later("another admin changed the record"),
            WriteError::Api(error) => Self::Api(error),
        }
    }
}

impl Admin {
    pub(crate) fn new(settings: AdminSettings, mesh: Mesh, client: Client) -> Self {
        let catalog = Catalog::new(
            client.clone(),
            Duration::from_millis(settings.catalog_ms_max),
        );
        let incarnation = mesh.identity().incarnation;
        Self {
            lease: Mutex::new(
                Lease::new(settings.instance, incarnation, settings.lease_ms)
                    .alone(mesh.succeeds_the_dead()),
            ),
            plan: Mutex::new(Plan::new(0, settings.healing.replace_after_ms)),
            splits: Splits::default(),
            flows: traces::flows(&mesh),
            partitions: RwLock::default(),
            node_records: RwLock::default(),
            tables: RwLock::default(),
            mesh,
            catalog,
            client,
            cluster: RwLock::default(),
            calls: Semaphore::new(settings.calls_max.max(1)),
            reserving: tokio::sync::Mutex::default(),
            warming: tokio::sync::Mutex::default(),
            archived: RwLock::default(),
            board: Mutex::default(),
            orders: Semaphore::new(ORDERS_MAX),
            driving: Mutex::default(),
            started: Instant::now(),
            settings,
        }
    }

    /// Milliseconds since the start.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// The record of a table.
    pub(crate) async fn table(&self, name: &str) -> Result<Option<Stored<TableRecord>>, ApiError> {
        self.catalog.get(&records::table_key(name)).await
    }

    /// The record of a partition.
    pub(crate) async fn partition(
        &self,
        partition: GroupId,
    ) -> Result<Option<Stored<PartitionRecord>>, ApiError> {
        self.catalog.get(&records::partition_key(partition)).await
    }

    /// Gives one order, under the lease, and waits for its answer.
    pub(crate) async fn order(&self, node: NodeId, order: &Order) -> Outcome {
        let Ok(_permit) = self.orders.acquire().await else {
            return Outcome::Silent;
        };
        // Looked at last: whatever waited longer than the lease is not sent.
        let Some(epoch) = self.epoch() else {
            return Outcome::Unauthorised;
        };
        let outcome = self.send(node, order, epoch).await;
        if let Outcome::Stale(newer) = outcome {
            let by_generation = matches!(
                order,
                Order::ReplaceReplica { .. }
                    | Order::RetireReplica { .. }
                    | Order::SplitPartition { .. }
            );
            tracing::info!(node = node.0, newer, epoch, "an order is outdated");
            let mut lease = self.lease.lock();
            if by_generation {
                lease.look();
            } else {
                lease.outdated(newer);
            }
        }
        outcome
    }

    /// Gives one order of the founding, before there is a lease.
    pub(crate) async fn founding_order(&self, node: NodeId, order: &Order) -> Outcome {
        self.send(node, order, 0).await
    }

    /// Asks one node for something, under the lease, and waits so long for its answer; none: it did not answer, or another admin
    /// gives the orders.
    pub(crate) async fn ask(
        &self,
        node: NodeId,
        order: &Order,
        time: Duration,
    ) -> Option<OrderReply> {
        let epoch = self.epoch()?;
        self.call_node(node, order, epoch, time).await
    }

    async fn send(&self, node: NodeId, order: &Order, epoch: u64) -> Outcome {
        let time = Duration::from_millis(self.settings.order_ms_max);
        match self.call_node(node, order, epoch, time).await {
            Some(OrderReply::Done | OrderReply::Joined { .. } | OrderReply::Middle(_)) => {
                Outcome::Done
            }
            Some(OrderReply::NotLeader) => Outcome::NotLeader,
            Some(OrderReply::Stale(newer)) => Outcome::Stale(newer),
            Some(OrderReply::Refused(why)) => Outcome::Refused(why),
            None => Outcome::Silent,
        }
    }

    async fn call_node(
        &self,
        node: NodeId,
        order: &Order,
        epoch: u64,
        time: Duration,
    ) -> Option<OrderReply> {
        let subject = subjects::node_control(node);
        // Whatever the order is given for.
        let trace = traces::current();
        let call = OrderCall {
            epoch,
            order: order.clone(),
        };
        let answer = self
            .mesh
            .call::<_, OrderReply>(&subject, &call, Deadline::after(time), &trace)
            .await;
        if let Err(error) = &answer {
            tracing::debug!(node = node.0, %error, "a storage node did not answer an order");
        }
        answer.ok()
    }

    /// Tells memds that partitions are gone. One way and repeatable.
    pub(crate) fn tell_dropped(&self, dropped: Vec<GroupId>) {
        let push = Push {
            node: NodeId(0),
            partitions: Vec::new(),
            tables: Vec::new(),
            dropped,
        };
        if let Err(error) = self.mesh.cast(subjects::MEMDS_PUSH, &push) {
            tracing::debug!(%error, "memds could not be told of dropped partitions");
        }
    }

    /// Brings a table from its recorded state to a settled one, in the background. `wait`: until it is settled, for so long
    /// at most.
    pub(crate) async fn drive(self: &Arc<Self>, name: &str, wait: Duration) {
        if self.epoch().is_none() {
            // Orders are the active admin's: a creation that slept through its table's deletion must meet the fence.
            return self.let_drive(name, wait).await;
        }
        if !self.driving.lock().insert(name.to_owned()) {
            return;
        }
        let (admin, table) = (self.clone(), name.to_owned());
        let cause = traces::current();
        let work = tokio::spawn(async move {
            let _done = Driving {
                admin: admin.clone(),
                table: table.clone(),
            };
            let settling = std::pin::pin!(admin.settle(&table));
            match traces::within(cause, settling).await {
                Ok(()) => {}
                Err(Unsettled::Filling) => tracing::debug!(table, "a table is being filled"),
                Err(Unsettled::Later(why)) => {
                    tracing::info!(table, why, "a table is not settled yet");
                }
                Err(Unsettled::Api(error)) => {
                    tracing::warn!(table, %error, "a table is not settled yet");
                }
            }
        });
        let _ = tokio::time::timeout(wait, work).await;
    }

    /// Lets the active admin go on with a table, and waits until it is settled, for so long at most.
    async fn let_drive(&self, name: &str, wait: Duration) {
        let nudge = Nudge {
            table: name.to_owned(),
        };
        if let Err(error) = self.mesh.cast(subjects::ADMIN_NUDGE, &nudge) {
            tracing::debug!(%error, "the active admin can't be nudged; it looks by itself");
        }
        let started = Instant::now();
        while started.elapsed() < wait {
            tokio::time::sleep(SETTLED_EVERY).await;
            match self.table(name).await {
                Ok(Some(record)) if record.value.definition.status != TableStatus::Active => {}
                _ => return,
            }
        }
    }

    async fn settle(&self, name: &str) -> Result<(), Unsettled> {
        let Some(record) = self.table(name).await? else {
            return Ok(());
        };
        match record.value.definition.status {
            TableStatus::Creating => self.create(record).await,
            TableStatus::Updating => self.update(record).await,
            TableStatus::Deleting => self.delete(record).await,
            TableStatus::Active => Ok(()),
        }
    }

    /// Looks for what is unfinished and takes it on: creations, changes and deletions of admins that stopped half-way, replicas of
    /// dropped tables on nodes that were away, and replicas that nobody wants. Refreshes what is known of nodes and tables.
    pub(crate) async fn reconcile(self: &Arc<Self>) -> Result<(), ApiError> {
        // Before the scan: a replica that reported has its record, unless its table is gone.
        let leaderless = self.leaderless();
        let items = self.catalog.scan().await?;
        let mut dropping = Vec::new();
        let (mut tables, mut nodes) = (Vec::new(), BTreeMap::new());
        let mut recorded = BTreeMap::new();
        let mut next_partition = records::FIRST_ID;
        for item in &items {
            let Some(key) = records::key_of(item) else {
                continue;
            };
            if records::table_name_of(key).is_some() {
                tables.extend(records::from_item::<TableRecord>(item).map(|r| r.value));
            } else if records::is_node(key) {
                let record = records::from_item::<NodeRecord>(item);
                nodes.extend(record.map(|r| (r.value.node, r)));
            } else if key == records::COUNTERS {
                let counters = records::from_item::<Counters>(item);
                next_partition = counters.map_or(next_partition, |c| c.value.next_partition);
            } else if let Some(partition) = records::partition_of(key) {
                let record = records::from_item::<PartitionRecord>(item);
                // What can't be read is wanted.
                let dropped = record.as_ref().is_some_and(|r| r.value.dropping);
                recorded.insert(partition, dropped);
                dropping.extend(record.filter(|r| r.value.dropping));
            }
        }
        // Children that nobody has settled yet are wanted as much as their parents.
        for split in tables.iter().flat_map(|table| &table.splits) {
            for child in [split.left, split.right] {
                recorded.entry(child).or_insert(false);
            }
        }
        for record in &tables {
            let unsettled = record.definition.status != TableStatus::Active;
            if unsettled || self.finish_backfills(record).await? {
                self.drive(&record.definition.name, Duration::ZERO).await;
            }
        }
        *self.tables.write() = tables;
        *self.node_records.write() = nodes;
        self.look_after_backups(&items).await;
        self.note_nodes().await;
        for record in dropping {
            self.drop_rest(record).await;
        }
        self.partitions.write().retain(|partition, seen| {
            partition.0 < records::FIRST_ID
                || recorded.contains_key(&partition)
                || seen.fresh(self.now_ms())
        });
        self.clear_orphans(&leaderless, &recorded, next_partition)
            .await;
        Ok(())
    }
}

/// Marks a table as being driven.
struct Driving {
    admin: Arc<Admin>,
    table: String,
}

impl Drop for Driving {
    fn drop(&mut self) {
        self.admin.driving.lock().remove(&self.table);
    }
}
