//! What is behind the front door: storage through the routing client, the control plane through the bus. A trait, so that
//! validation and answers are tested without a mesh.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mesh::{CallError, Deadline, Mesh, TraceContext};
use model::{ApiError, EncodedKey, ErrorKind, TableDefinition, TableId};
use protocol::control::{ApiCall, ApiReply, MAKE_LEDGER};
use protocol::item::{ItemOperation, ItemReply, Page, PageReply};
use protocol::subjects;
use protocol::transact::Transact;

use crate::access::Policies;
use crate::marks::Marks;
use crate::texts;

/// What travels with one request.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// By when it must be answered.
    pub(crate) deadline: Deadline,
    /// The request's trace: what is done for it is part of this span.
    pub(crate) trace: TraceContext,
    /// What it passes on its way.
    pub(crate) marks: Marks,
    /// Who asks.
    pub(crate) caller: Caller,
}

/// Who asks, and for what.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Access key id.
    pub(crate) key_id: String,
    /// Name of the operation.
    pub(crate) action: &'static str,
    pub(crate) policies: Arc<Policies>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} for {}", self.action, self.key_id)
    }
}

/// Storage and control plane.
pub(crate) trait Backend: Clone + Send + Sync + 'static {
    /// Definition of a table; ResourceNotFoundException if there is none.
    fn table(
        &self,
        name: &str,
        context: &Context,
    ) -> impl Future<Output = Result<Arc<TableDefinition>, ApiError>>;

    /// One item request. Of the faults only `ConditionFailed` comes back inside `Ok`.
    fn item(
        &self,
        table: &TableDefinition,
        key: &EncodedKey,
        operation: ItemOperation,
        context: &Context,
    ) -> impl Future<Output = Result<ItemReply, ApiError>>;

    /// One page of a key range over any number of partitions.
    fn page(
        &self,
        table: &TableDefinition,
        page: Page,
        context: &Context,
    ) -> impl Future<Output = Result<PageReply, ApiError>>;

    /// A transaction's end at one of its items; repeated while it is not known whether it was done. Never limited.
    fn settle(
        &self,
        table: TableId,
        key: &EncodedKey,
        transact: Transact,
        context: &Context,
    ) -> impl Future<Output = Result<ItemReply, ApiError>>;

    /// Definition of the transactions' ledger, which the admin makes if there is none.
    fn ledger(
        &self,
        context: &Context,
    ) -> impl Future<Output = Result<Arc<TableDefinition>, ApiError>>;

    /// A control-plane call.
    fn control(
        &self,
        call: ApiCall,
        context: &Context,
    ) -> impl Future<Output = Result<ApiReply, ApiError>>;
}

/// The real one.
#[derive(Clone)]
pub(crate) struct MeshBackend {
    pub(crate) mesh: Mesh,
    pub(crate) client: routing::Client,
}

/// Between two looks for a ledger that is being made.
const LEDGER_EVERY: Duration = Duration::from_millis(25);

impl MeshBackend {
    /// Definition of the ledger, if it was made.
    pub(crate) async fn known_ledger(
        &self,
        context: &Context,
    ) -> Result<Arc<TableDefinition>, ApiError> {
        self.client
            .any_table(transactions::ledger::TABLE, context.deadline)
            .await
    }
}

impl Backend for MeshBackend {
    async fn table(&self, name: &str, context: &Context) -> Result<Arc<TableDefinition>, ApiError> {
        self.client
            .table(name, context.deadline, &context.trace)
            .await
    }

    async fn item(
        &self,
        table: &TableDefinition,
        key: &EncodedKey,
        operation: ItemOperation,
        context: &Context,
    ) -> Result<ItemReply, ApiError> {
        self.client
            .item(table, key, operation, context.deadline, &context.trace)
            .await
    }

    async fn page(
        &self,
        table: &TableDefinition,
        page: Page,
        context: &Context,
    ) -> Result<PageReply, ApiError> {
        self.client
            .page(table, page, context.deadline, &context.trace)
            .await
    }

    async fn settle(
        &self,
        table: TableId,
        key: &EncodedKey,
        transact: Transact,
        context: &Context,
    ) -> Result<ItemReply, ApiError> {
        self.client
            .settle(table, key, transact, context.deadline, &context.trace)
            .await
    }

    async fn ledger(&self, context: &Context) -> Result<Arc<TableDefinition>, ApiError> {
        let known = self.known_ledger(context).await;
        if !matches!(&known, Err(error) if error.kind == ErrorKind::ResourceNotFound) {
            return known;
        }
        let call = ApiCall {
            operation: MAKE_LEDGER.to_owned(),
            body: bytes::Bytes::from_static(b"{}"),
            principal: String::new(),
            caller_arn: String::new(),
            identity: Default::default(),
        };
        if let ApiReply::Error(error) = self.control(call, context).await? {
            return Err(error);
        }
        loop {
            match self.known_ledger(context).await {
                Err(error)
                    if error.kind == ErrorKind::ResourceNotFound
                        && !context.deadline.remaining().is_zero() =>
                {
                    tokio::time::sleep(LEDGER_EVERY).await;
                }
                Err(error) if error.kind == ErrorKind::ResourceNotFound => {
                    return Err(texts::unavailable());
                }
                known => return known,
            }
        }
    }

    async fn control(&self, call: ApiCall, context: &Context) -> Result<ApiReply, ApiError> {
        self.mesh
            .call(subjects::ADMIN_API, &call, context.deadline, &context.trace)
            .await
            .map_err(|error| match error {
                CallError::NoResponders | CallError::Incompatible => texts::no_admin(),
                CallError::Overloaded => texts::router_busy("control-plane calls"),
                CallError::TimedOut | CallError::Closed => texts::admin_late(),
                CallError::Malformed(what) => texts::internal(what),
            })
    }
}
