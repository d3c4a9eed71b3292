//! The client's public face: tables, items, pages, partitions. Owns the shared state of all clones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mesh::{Deadline, Mesh, MeshError, Subscription, TraceContext};
use model::capacity::Direction;
use model::error::ThroughputLimit;
use model::index::IndexDefinition;
use model::table::BillingMode;
use model::{ApiError, EncodedKey, KeyRange, TableDefinition, TableId};
use parking_lot::RwLock;
use paxos::GroupId;
use protocol::directory::{Lookup, LookupAnswer, PartitionInfo, TableRef};
use protocol::health::Heartbeat;
use protocol::item::{ItemFault, ItemOperation, ItemReply};
use protocol::subjects;
use protocol::transact::Transact;
use telemetry::traces::Recorder;
use tokio::sync::Semaphore;

use crate::lookups::Lookups;
use crate::misses::Misses;
use crate::reach::Reach;
use crate::resolve::Resolved;
use crate::routes::{Routes, RoutesLimits};

/// The mesh's own tables are reached by number only: no request of a customer can name them.
const SYSTEM_PREFIX: &str = "evenkeel.";

/// Limits and timings of a client.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Availability zone of the caller: eventual reads prefer its replicas.
    pub zone: String,
    /// Region of the ARNs that throttling errors name.
    pub region: String,
    /// Requests to storage under way at once; above it they are shed with a ThrottlingException.
    pub calls_in_flight_max: usize,
    /// How long one try of a read may take before another replica is asked.
    pub read_try: Duration,
    /// Bounds of the route cache.
    pub routes: RoutesLimits,
    /// Reads are the mesh's own: no table is charged for them.
    pub uncharged: bool,
}

impl ClientSettings {
    /// Defaults for a caller in `zone`.
    pub fn new(zone: impl Into<String>) -> Self {
        Self {
            zone: zone.into(),
            region: "us-east-1".to_owned(),
            calls_in_flight_max: 16_384,
            // Far above a slow disk's p99.9, and several tries fit into a client's patience.
            read_try: Duration::from_millis(800),
            routes: RoutesLimits::default(),
            uncharged: false,
        }
    }
}

/// Finds partitions and calls the storage nodes that hold them. Cheap to clone; all clones share one cache.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) mesh: Mesh,
    pub(crate) settings: ClientSettings,
    pub(crate) routes: Arc<RwLock<Routes>>,
    pub(crate) lookups: Arc<Lookups>,
    pub(crate) misses: Arc<Misses>,
    pub(crate) reach: Arc<RwLock<Reach>>,
    pub(crate) started: Instant,
    pub(crate) recorder: Recorder,
    pub(crate) calls: Semaphore,
    /// Routes that were found in the cache, and that were not.
    cached: [AtomicU64; 2],
    _heartbeats: Subscription,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Lookups sent to memds nodes: one a hit or miss, and one more for the first miss of a table's routes at a time.
    pub lookups: u64,
    /// Messages that these lookups shared.
    pub lookup_messages: u64,
    /// Lookups that were not sent: full queue, or no memds node alive.
    pub lookups_dropped: u64,
    /// Tables in the cache.
    pub tables: u64,
    /// Partitions in the cache.
    pub partitions: u64,
    /// Requests to storage under way.
    pub calls_in_flight: u64,
    /// Routes to partitions that were in the cache when they were wanted.
    pub hits: u64,
    /// Routes to partitions that were not.
    pub misses: u64,
}

impl Client {
    /// Starts a client on the bus: listens to heartbeats to find the memds fleet, and serves until the last clone is dropped.
    pub async fn start(mesh: Mesh, settings: ClientSettings) -> Result<Self, MeshError> {
        let routes = Arc::new(RwLock::new(Routes::new(settings.routes.clone())));
        let recorder = telemetry::traces::of(&mesh);
        let lookups = Arc::new(Lookups::new(
            mesh.clone(),
            recorder.clone(),
            routes.clone(),
            settings.zone.clone(),
        ));
        let reach = Arc::new(RwLock::new(Reach::new(settings.zone.clone())));
        let started = Instant::now();
        let (listener, nodes) = (lookups.clone(), reach.clone());
        let heartbeats = mesh
            .serve(subjects::HEALTH, None, move |delivery| {
                match delivery.decode::<Heartbeat>() {
                    Ok(beat) => {
                        listener.heard(&beat);
                        nodes.write().heard(&beat, ms_since(started));
                    }
                    Err(error) => tracing::debug!(%error, "not a heartbeat"),
                }
            })
            .await?;
        let calls = Semaphore::new(settings.calls_in_flight_max.max(1));
        let shared = Shared {
            mesh,
            settings,
            routes,
            lookups,
            misses: Arc::default(),
            reach,
            started,
            recorder,
            calls,
            cached: Default::default(),
            _heartbeats: heartbeats,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Definition of the table called `name`. ResourceNotFoundException if two memds nodes (or the only one) know no such table,
    /// and for the mesh's own tables.
    pub async fn table(
        &self,
        name: &str,
        deadline: Deadline,
        trace: &TraceContext,
    ) -> Result<Arc<TableDefinition>, ApiError> {
        if name.starts_with(SYSTEM_PREFIX) {
            return Err(crate::errors::no_table());
        }
        self.find_table(name, deadline, *trace).await
    }

    /// Definition of a table, the mesh's own included.
    pub async fn any_table(
        &self,
        name: &str,
        deadline: Deadline,
    ) -> Result<Arc<TableDefinition>, ApiError> {
        self.find_table(name, deadline, TraceContext::default())
            .await
    }

    async fn find_table(
        &self,
        name: &str,
        deadline: Deadline,
        trace: TraceContext,
    ) -> Result<Arc<TableDefinition>, ApiError> {
        let mut lookup = Lookup {
            table: TableRef::Name(name.to_owned()),
            key: None,
            known_table_version: 0,
            known_partition: None,
            known_id: None,
        };
        let known = self.shared.routes.read().table(name);
        if let Some(table) = known {
            lookup.known_table_version = table.version;
            self.shared.lookups.refresh(lookup, trace);
            return Ok(table);
        }
        match self.resolve(&lookup, deadline, trace).await? {
            Resolved::Positive(LookupAnswer::Found {
                table: Some(table), ..
            }) => Ok(Arc::new(*table)),
            Resolved::Positive(_) => self
                .shared
                .routes
                .read()
                .table(name)
                .ok_or_else(crate::errors::unavailable),
            Resolved::NoTable => Err(crate::errors::no_table()),
        }
    }

    /// One item request (`Get`, `Write`, or one `Page` of the partition that holds `key`). The only fault that comes back inside
    /// `Ok` is `ItemFault::ConditionFailed`; all others are retried or turned into an `ApiError`: a write whose outcome is
    /// unknown is an InternalServerError, one that was certainly not done in time a ServiceUnavailable, shed work a
    /// ThrottlingException, a partition without capacity units what `ApiError::throttled` says.
    pub async fn item(
        &self,
        table: &TableDefinition,
        key: &EncodedKey,
        operation: ItemOperation,
        deadline: Deadline,
        trace: &TraceContext,
    ) -> Result<ItemReply, ApiError> {
        let (reply, _) = self
            .call_storage(table.id, key, operation, deadline, trace)
            .await?;
        match reply {
            ItemReply::Fault(ItemFault::Throttled { direction, index }) => {
                let index = index.and_then(|id| table.index_by_id(id));
                Err(match index {
                    Some(index) => self.index_throttled(table, index),
                    None => self.throttled(table, direction),
                })
            }
            reply => Ok(reply),
        }
    }

    /// A transaction's end at one of its items, known by its table's number only. Faults as by `item`; repeated while it is unknown
    /// whether it was done, which does no harm.
    pub async fn settle(
        &self,
        table: TableId,
        key: &EncodedKey,
        transact: Transact,
        deadline: Deadline,
        trace: &TraceContext,
    ) -> Result<ItemReply, ApiError> {
        let operation = ItemOperation::Transact(Box::new(transact));
        let called = self.call_storage(table, key, operation, deadline, trace);
        called.await.map(|(reply, _)| reply)
    }

    /// A partition of `table` has no capacity units left.
    pub(crate) fn throttled(&self, table: &TableDefinition, direction: Direction) -> ApiError {
        let arn = table.arn(&self.shared.settings.region);
        ApiError::throttled(ThroughputLimit::KeyRange, direction, table.billing, &arn)
    }

    /// A global index of `table` takes no more entries for now, so that the table takes no more writes.
    fn index_throttled(&self, table: &TableDefinition, index: &IndexDefinition) -> ApiError {
        let arn = index.arn(&table.arn(&self.shared.settings.region));
        let limit = match table.billing {
            BillingMode::Provisioned { .. } => ThroughputLimit::Provisioned,
            BillingMode::PayPerRequest => ThroughputLimit::KeyRange,
        };
        ApiError::throttled(limit, Direction::Write, table.billing, &arn)
    }

    /// The partitions that cover `range`, in key order.
    pub async fn partitions(
        &self,
        table: &TableDefinition,
        range: &KeyRange,
        deadline: Deadline,
        trace: &TraceContext,
    ) -> Result<Vec<Arc<PartitionInfo>>, ApiError> {
        self.covering(table.id, range, deadline, *trace).await
    }

    /// Whether at least one memds node reports ready: a router without one can only serve what it has cached.
    pub fn has_directory(&self) -> bool {
        self.shared.lookups.ready() > 0
    }

    /// Whether every ready memds node (and at least one) knows the given partition of table `id`, and that table by its name:
    /// from then on no router can miss it.
    pub async fn known_everywhere(&self, table: &TableDefinition, ranges: &[KeyRange]) -> bool {
        let by_name = Lookup {
            table: TableRef::Name(table.name.clone()),
            key: None,
            known_table_version: 0,
            known_partition: None,
            known_id: None,
        };
        let by_key = ranges.iter().map(|range| Lookup {
            table: TableRef::Id(table.id),
            key: Some(range.start.clone()),
            known_table_version: 0,
            known_partition: None,
            known_id: None,
        });
        let mut asked = Vec::new();
        for lookup in std::iter::once(by_name).chain(by_key) {
            let wants_partition = lookup.key.is_some();
            let answers = self.shared.lookups.ask_all(&lookup);
            if answers.is_empty() {
                return false;
            }
            asked.extend(answers.into_iter().map(|answer| (wants_partition, answer)));
        }
        for (wants_partition, answer) in asked {
            let Ok(Ok(LookupAnswer::Found {
                table: Some(found),
                partition,
            })) = answer.await
            else {
                return false;
            };
            let led = partition.is_some_and(|p| p.leader.is_some());
            if found.id != table.id || found.version < table.version || (wants_partition && !led) {
                return false;
            }
        }
        true
    }

    /// Takes in what somebody else learned about a partition.
    pub fn learn_partition(&self, info: PartitionInfo) {
        self.shared.routes.write().learn_partition(info);
    }

    /// Forgets a table that is gone.
    pub fn forget_table(&self, id: TableId) {
        self.shared.routes.write().forget_table(id);
    }

    /// Forgets everything: a drill, or the operator's last resort. Requests go on; each miss asks memds.
    pub fn forget_all(&self) {
        self.shared.routes.write().clear();
    }

    /// Counters since the start.
    pub fn stats(&self) -> ClientStats {
        let (lookups, lookup_messages, lookups_dropped) = self.shared.lookups.counters();
        let (tables, partitions) = self.shared.routes.read().len();
        let free = self.shared.calls.available_permits();
        let in_flight = self
            .shared
            .settings
            .calls_in_flight_max
            .max(1)
            .saturating_sub(free);
        ClientStats {
            lookups,
            lookup_messages,
            lookups_dropped,
            tables: tables as u64,
            partitions: partitions as u64,
            calls_in_flight: in_flight as u64,
            hits: self.shared.cached[0].load(Relaxed),
            misses: self.shared.cached[1].load(Relaxed),
        }
    }

    /// The partition of table `id` that holds `key`: from the cache, with a refresh under way, or from memds.
    pub(crate) async fn locate(
        &self,
        id: TableId,
        key: &EncodedKey,
        deadline: Deadline,
        trace: TraceContext,
    ) -> Result<Arc<PartitionInfo>, ApiError> {
        let (known, version) = {
            let routes = self.shared.routes.read();
            (routes.partition(id, key), routes.table_version(id))
        };
        let lookup = Lookup {
            table: TableRef::Id(id),
            key: Some(key.clone()),
            known_table_version: version,
            known_partition: known.as_ref().map(|p| (p.generation, p.ballot)),
            known_id: known.as_ref().map(|p| p.partition),
        };
        if let Some(info) = known {
            self.shared.cached[0].fetch_add(1, Relaxed);
            self.shared.lookups.refresh(lookup, trace);
            return Ok(info);
        }
        self.shared.cached[1].fetch_add(1, Relaxed);
        self.locate_anew(id, lookup, deadline, trace).await
    }

    async fn locate_anew(
        &self,
        id: TableId,
        lookup: Lookup,
        deadline: Deadline,
        trace: TraceContext,
    ) -> Result<Arc<PartitionInfo>, ApiError> {
        match self.resolve(&lookup, deadline, trace).await? {
            Resolved::Positive(LookupAnswer::Found {
                partition: Some(info),
                ..
            }) => Ok(Arc::new(*info)),
            Resolved::Positive(_) => {
                let key = lookup.key.as_deref().unwrap_or_default();
                let known = self.shared.routes.read().partition(id, key);
                known.ok_or_else(crate::errors::unavailable)
            }
            Resolved::NoTable => {
                self.forget_table(id);
                Err(crate::errors::no_table())
            }
        }
    }

    /// Asks memds what is newer than `stale`, which turned out not to work. Only the end of the table is an error: whoever
    /// cannot get an answer goes on with what it has.
    pub(crate) async fn recheck(
        &self,
        id: TableId,
        key: &EncodedKey,
        stale: Option<GroupId>,
        trace: TraceContext,
    ) -> Result<(), ApiError> {
        let known = self.shared.routes.read().partition(id, key);
        let known = known.filter(|info| Some(info.partition) == stale);
        let lookup = Lookup {
            table: TableRef::Id(id),
            key: Some(key.clone()),
            known_table_version: self.shared.routes.read().table_version(id),
            known_partition: known.as_ref().map(|p| (p.generation, p.ballot)),
            known_id: known.map(|p| p.partition),
        };
        match self.ask_once(&lookup, trace).await {
            Some(Resolved::NoTable) => {
                self.forget_table(id);
                Err(crate::errors::no_table())
            }
            _ => Ok(()),
        }
    }
}

impl Shared {
    /// Since the client's start: the clock of `reach`.
    pub(crate) fn now_ms(&self) -> u64 {
        ms_since(self.started)
    }
}

fn ms_since(start: Instant) -> u64 {
    start.elapsed().as_millis() as u64
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.lookups.close();
    }
}
