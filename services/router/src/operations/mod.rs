//! The operations of the data plane: validation in DynamoDB's order, the calls to storage, the answer. One module each.

mod batch_get;
mod batch_write;
mod delete;
mod get;
mod pages;
mod partiql;
mod put;
mod query;
mod scan;
mod transact_get;
mod transact_write;
mod update;

use std::sync::Arc;

use model::{ApiError, ErrorKind, Item, TableDefinition, Units, json, table::TableStatus};
use protocol::item::{ItemFault, ItemReply, ReturnValues};

use crate::answer::Answer;
use crate::backend::{Backend, Caller, Context};
use crate::consumed::Detail;
use crate::operation::Operation;
use crate::texts;

/// Whether transactions are served.
const TRANSACTIONS: bool = false;

/// Bounds that operations need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Storage calls of one batch under way at once.
    pub(crate) fan_out_max: usize,
}

/// Executes a data-plane operation; the result is the JSON answer.
///
/// A table that the cache knew may have been dropped and made again under its name; that the old one is gone shows only at its
/// partitions. So "no such table", which says that nothing was executed, is believed the second time: the cache has
/// forgotten the table by then.
pub(crate) async fn execute<B: Backend>(
    operation: Operation,
    body: &[u8],
    backend: &B,
    limits: Limits,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    match execute_once(operation, body, backend, limits, context).await {
        Err(error) if error.kind == ErrorKind::ResourceNotFound => {
            execute_once(operation, body, backend, limits, context).await
        }
        result => result,
    }
}

async fn execute_once<B: Backend>(
    operation: Operation,
    body: &[u8],
    backend: &B,
    limits: Limits,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    match operation {
        Operation::GetItem => get::execute(json::from_slice(body)?, backend, context).await,
        Operation::PutItem => put::execute(json::from_slice(body)?, backend, context).await,
        Operation::UpdateItem => update::execute(json::from_slice(body)?, backend, context).await,
        Operation::DeleteItem => delete::execute(json::from_slice(body)?, backend, context).await,
        Operation::Query => query::execute(json::from_slice(body)?, backend, context).await,
        Operation::Scan => scan::execute(json::from_slice(body)?, backend, context).await,
        Operation::BatchGetItem => {
            batch_get::execute(json::from_slice(body)?, backend, limits, context).await
        }
        Operation::BatchWriteItem => {
            batch_write::execute(json::from_slice(body)?, backend, limits, context).await
        }
        Operation::ExecuteStatement => {
            partiql::execute(json::from_slice(body)?, backend, context).await
        }
        Operation::BatchExecuteStatement => {
            partiql::execute_batch(json::from_slice(body)?, backend, limits, context).await
        }
        Operation::TransactGetItems if TRANSACTIONS => {
            transact_get::execute(json::from_slice(body)?, backend, limits, context).await
        }
        Operation::TransactWriteItems if TRANSACTIONS => {
            transact_write::execute(json::from_slice(body)?, backend, context).await
        }
        Operation::TransactGetItems
        | Operation::TransactWriteItems
        | Operation::DescribeEndpoints
        | Operation::Streams(_)
        | Operation::Control(_) => Err(texts::unknown_operation()),
    }
}

/// The table, if items can be read and written.
async fn usable_table<B: Backend>(
    backend: &B,
    name: &str,
    context: &Context,
) -> Result<Arc<TableDefinition>, ApiError> {
    usable_table_for(context.caller.action, backend, name, context).await
}

/// Same, where the caller needs the permission for another action than the operation's.
async fn usable_table_for<B: Backend>(
    action: &str,
    backend: &B,
    name: &str,
    context: &Context,
) -> Result<Arc<TableDefinition>, ApiError> {
    let Caller {
        key_id, policies, ..
    } = &context.caller;
    let table = match backend.table(name, context).await {
        Err(error) if error.kind == ErrorKind::ResourceNotFound => {
            policies.check_absent(key_id, action, name)?;
            return Err(error);
        }
        table => table?,
    };
    policies.check(key_id, action, &table)?;
    match table.status {
        TableStatus::Active | TableStatus::Updating => Ok(table),
        TableStatus::Creating | TableStatus::Deleting => Err(ApiError::resource_not_found()),
    }
}

/// The encoded item of a key parameter.
fn encode(item: &Item) -> bytes::Bytes {
    model::codec::encode_item(item)
}

/// What a write did.
struct Written {
    attributes: Option<bytes::Bytes>,
    units: Units,
}

/// Reads the answer to a write.
fn written(reply: ItemReply) -> Result<Written, ApiError> {
    match reply {
        ItemReply::Written {
            attributes,
            old_size_bytes,
            new_size_bytes,
        } => Ok(Written {
            attributes,
            units: model::capacity::write_units(old_size_bytes.max(new_size_bytes)),
        }),
        ItemReply::Fault(fault) => Err(fault_error(fault)),
        other => Err(texts::internal(format!(
            "a write was answered by {other:?}"
        ))),
    }
}

/// The error of a fault that came back from routing.
fn fault_error(fault: ItemFault) -> ApiError {
    match fault {
        ItemFault::ConditionFailed { item, .. } => ApiError::condition_failed(item),
        ItemFault::Api(error) => error,
        ItemFault::Overloaded => texts::router_busy("storage calls"),
        ItemFault::Unknown => texts::out_of_time(),
        // routing retries these until the deadline
        ItemFault::NotHere { .. } | ItemFault::WrongRange { .. } | ItemFault::NotReady => {
            texts::unavailable()
        }
        // Of transactions only, which look at them first.
        ItemFault::Conflict { .. } => ApiError::transaction_conflict(),
        ItemFault::Untimely { now_ms } => {
            texts::internal(format!("untimely, the leader's time is {now_ms}"))
        }
        // routing makes the error of it, which names the table
        ItemFault::Throttled { direction } => texts::internal(format!("throttled: {direction:?}")),
    }
}

/// Whether a batch leaves the item unprocessed: it was certainly not done, and may be done later.
fn leaves_unprocessed(error: &ApiError) -> bool {
    error.is_throttling()
        || matches!(
            error.kind,
            ErrorKind::ServiceUnavailable | ErrorKind::TransactionConflict
        )
}

/// The answer to a single write.
fn write_answer(table: &str, detail: Detail, written: &Written) -> Result<Vec<u8>, ApiError> {
    let size = written
        .attributes
        .as_ref()
        .map_or(2, |item| item.len() * 2 + 64);
    let mut answer = Answer::with_capacity(size + if detail == Detail::None { 0 } else { 128 });
    if let Some(item) = &written.attributes {
        answer.item("Attributes", item)?;
    }
    detail.add(&mut answer, table, written.units);
    Ok(answer.finish())
}

/// `ReturnValues`, which was validated before.
fn return_values(parameter: Option<&str>) -> ReturnValues {
    match parameter {
        Some("ALL_OLD") => ReturnValues::AllOld,
        Some("UPDATED_OLD") => ReturnValues::UpdatedOld,
        Some("ALL_NEW") => ReturnValues::AllNew,
        Some("UPDATED_NEW") => ReturnValues::UpdatedNew,
        _ => ReturnValues::None,
    }
}

#[cfg(test)]
mod tests;
