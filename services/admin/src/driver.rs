//! What every part of the admin shares, and the way from a table's recorded state to its real one. Each step can be repeated and can be
//! taken by any admin: the records say what is wanted, orders are idempotent, writes are conditional.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh::{Deadline, Mesh, TraceContext};
use model::ApiError;
use model::table::TableStatus;
use parking_lot::{Mutex, RwLock};
use paxos::{GroupId, NodeId};
use protocol::control::{Order, OrderCall, OrderReply};
use protocol::directory::Push;
use protocol::subjects;
use routing::Client;
use tokio::sync::Semaphore;

use crate::catalog::{Catalog, WriteError};
use crate::cluster::Cluster;
use crate::records::{self, PartitionRecord, Stored, TableRecord};
use crate::settings::AdminSettings;

/// Orders under way at once, over all tables.
const ORDERS_MAX: usize = 64;

/// The admin's shared state.
pub(crate) struct Admin {
    pub(crate) settings: AdminSettings,
    pub(crate) mesh: Mesh,
    pub(crate) client: Client,
    pub(crate) catalog: Catalog,
    pub(crate) cluster: RwLock<Cluster>,
    pub(crate) calls: Semaphore,
    orders: Semaphore,
    driving: Mutex<BTreeSet<String>>,
    started: Instant,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    NotLeader,
    Refused(String),
    /// No answer: it may have been carried out.
    Silent,
}

/// Why a drive ended before its table was settled.
#[derive(Debug)]
pub(crate) enum Unsettled {
    /// Somebody else is at it, or it takes longer: the next reconciliation goes on.
    Later(&'static str),
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
        Self {
            mesh,
            catalog,
            client,
            cluster: RwLock::default(),
            calls: Semaphore::new(settings.calls_max.max(1)),
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

    /// Gives one order and waits for its answer.
    pub(crate) async fn order(&self, node: NodeId, order: &Order) -> Outcome {
        let Ok(_permit) = self.orders.acquire().await else {
            return Outcome::Silent;
        };
        let deadline = Deadline::after(Duration::from_millis(self.settings.order_ms_max));
        let subject = subjects::node_control(node);
        let trace = TraceContext::default();
        let call = OrderCall {
            epoch: 0,
            order: order.clone(),
        };
        match self
            .mesh
            .call::<_, OrderReply>(&subject, &call, deadline, &trace)
            .await
        {
            Ok(OrderReply::Done) => Outcome::Done,
            Ok(OrderReply::Joined { .. }) => Outcome::Done,
            Ok(OrderReply::NotLeader) => Outcome::NotLeader,
            Ok(OrderReply::Stale(newer)) => Outcome::Refused(format!("{newer} counts now")),
            Ok(OrderReply::Refused(why)) => Outcome::Refused(why),
            Err(error) => {
                tracing::debug!(node = node.0, %error, "a storage node did not answer an order");
                Outcome::Silent
            }
        }
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
        if !self.driving.lock().insert(name.to_owned()) {
            return;
        }
        let (admin, table) = (self.clone(), name.to_owned());
        let work = tokio::spawn(async move {
            let _done = Driving {
                admin: admin.clone(),
                table: table.clone(),
            };
            match admin.settle(&table).await {
                Ok(()) => {}
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

    /// Looks for what is unfinished and takes it on: creations, changes and deletions of admins that stopped half-way, and replicas
    /// of dropped tables on nodes that were away.
    pub(crate) async fn reconcile(self: &Arc<Self>) -> Result<(), ApiError> {
        let items = self.catalog.scan().await?;
        let mut dropping = Vec::new();
        for item in &items {
            let Some(key) = records::key_of(item) else {
                continue;
            };
            if let Some(name) = records::table_name_of(key) {
                let Some(record) = records::from_item::<TableRecord>(item) else {
                    continue;
                };
                if record.value.definition.status != TableStatus::Active {
                    self.drive(name, Duration::ZERO).await;
                }
            } else if records::is_partition(key)
                && let Some(record) = records::from_item::<PartitionRecord>(item)
                && record.value.dropping
            {
                dropping.push(record);
            }
        }
        for record in dropping {
            self.drop_rest(record).await;
        }
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
