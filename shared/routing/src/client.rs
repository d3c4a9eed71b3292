//! The client's public face.

use std::sync::Arc;
use std::time::Duration;

use mesh::{Deadline, Mesh, MeshError, TraceContext};
use model::{ApiError, EncodedKey, KeyRange, TableDefinition};
use protocol::directory::PartitionInfo;
use protocol::item::{ItemOperation, ItemReply, Page, PageReply};

/// Limits and timings of a client.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Availability zone of the caller: eventual reads prefer its replicas.
    pub zone: String,
    /// Requests to storage under way at once; above it they are shed with a ThrottlingException.
    pub calls_in_flight_max: usize,
}

/// Finds partitions and calls the storage nodes that hold them. Cheap to clone; all clones share one cache.
#[derive(Clone)]
pub struct Client {}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientStats {
    /// Lookups sent to memds nodes.
    pub lookups: u64,
}

impl Client {
    /// Starts a client on the bus: listens to heartbeats to find the memds fleet, and serves until the last clone is dropped.
    pub async fn start(_mesh: Mesh, _settings: ClientSettings) -> Result<Self, MeshError> {
        todo!()
    }

    /// Definition of the table called `name`. ResourceNotFoundException if two memds nodes (or the only one) know no such table.
    pub async fn table(
        &self,
        _name: &str,
        _deadline: Deadline,
        _trace: &TraceContext,
    ) -> Result<Arc<TableDefinition>, ApiError> {
        todo!()
    }

    /// One item request (`Get`, `Write`, or one `Page` of the partition that holds `key`). The only fault that comes back inside
    /// `Ok` is `ItemFault::ConditionFailed`; all others are retried or turned into an `ApiError`: a write whose outcome is
    /// unknown is an InternalServerError, one that was certainly not done in time a ServiceUnavailable, shed work a
    /// ThrottlingException.
    pub async fn item(
        &self,
        _table: &TableDefinition,
        _key: &EncodedKey,
        _operation: ItemOperation,
        _deadline: Deadline,
        _trace: &TraceContext,
    ) -> Result<ItemReply, ApiError> {
        todo!()
    }

    /// One page of a key range that may cover many partitions, for Query and Scan: reads partition after partition in reading
    /// order until `limit` items are evaluated, `bytes_max` is exceeded or the range ends. `last_key` in the reply is set when
    /// there may be more; continue with it as `Page::after`.
    pub async fn page(
        &self,
        _table: &TableDefinition,
        _page: Page,
        _deadline: Deadline,
        _trace: &TraceContext,
    ) -> Result<PageReply, ApiError> {
        todo!()
    }

    /// The partitions that cover `range`, in key order.
    pub async fn partitions(
        &self,
        _table: &TableDefinition,
        _range: &KeyRange,
        _deadline: Deadline,
        _trace: &TraceContext,
    ) -> Result<Vec<Arc<PartitionInfo>>, ApiError> {
        todo!()
    }

    /// Whether at least one memds node reports ready: a router without one can only serve what it has cached.
    pub fn has_directory(&self) -> bool {
        todo!()
    }

    /// Counters since the start.
    pub fn stats(&self) -> ClientStats {
        todo!()
    }
}
