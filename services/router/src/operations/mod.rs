//! The operations of the data plane: validation in DynamoDB's order, the calls to storage, the answer. One module each.

mod batch_get;
mod batch_write;
mod delete;
mod get;
mod pages;
mod partiql;
mod put;
mod query;
mod refusal;
mod scan;
mod target;
mod transact_get;
mod transact_write;
mod update;

use std::sync::Arc;

use model::{ApiError, ErrorKind, IndexId, Item, TableDefinition, Units, json, table::TableStatus};
use protocol::item::{ItemFault, ItemReply, ReturnValues};

use crate::answer::{Answer, comma};
use crate::backend::{Backend, Caller, Context};
use crate::consumed::{Detail, IndexCost};
use crate::operation::Operation;
use crate::texts;

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
        Operation::ExecuteTransaction => {
            partiql::execute_transaction(json::from_slice(body)?, backend, limits, context).await
        }
        Operation::TransactGetItems => {
            transact_get::execute(json::from_slice(body)?, backend, limits, context).await
        }
        Operation::TransactWriteItems => {
            transact_write::execute(json::from_slice(body)?, backend, context).await
        }
        Operation::DescribeEndpoints | Operation::Streams(_) | Operation::Control(_) => {
            Err(texts::unknown_operation())
        }
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
    if name.contains('/') {
        // The table of an index is nobody's to name (PartiQL's names have no pattern).
        policies.check_absent(key_id, action, name)?;
        return Err(ApiError::resource_not_found());
    }
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
    /// Of the table alone.
    units: Units,
    /// Of its indexes.
    indexes: Vec<(IndexId, Units)>,
    collection_bytes: Option<u64>,
}

impl Written {
    /// Of the table and its indexes together.
    fn total(&self) -> Units {
        let indexes = self.indexes.iter().map(|(_, units)| *units);
        indexes.fold(self.units, Units::saturating_add)
    }
}

/// Reads the answer to a write.
fn written(reply: ItemReply) -> Result<Written, ApiError> {
    match reply {
        ItemReply::Written {
            attributes,
            old_size_bytes,
            new_size_bytes,
            indexes,
            collection_bytes,
        } => Ok(Written {
            attributes,
            units: model::capacity::write_units(old_size_bytes.max(new_size_bytes)),
            indexes,
            collection_bytes,
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
        ItemFault::Throttled { direction, .. } => {
            texts::internal(format!("throttled: {direction:?}"))
        }
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

/// What a write asks to be told beside its attributes.
struct Told<'a> {
    detail: Detail,
    /// The item or key, if `ReturnItemCollectionMetrics` asks for its collection's size.
    collection_of: Option<&'a Item>,
}

impl<'a> Told<'a> {
    /// From the parameters (validated before).
    fn of(capacity: Option<&str>, metrics: Option<&str>, item: &'a Item) -> Self {
        Self {
            detail: Detail::of(capacity),
            collection_of: (metrics == Some("SIZE")).then_some(item),
        }
    }
}

/// The answer to a single write.
fn write_answer(
    table: &TableDefinition,
    told: &Told<'_>,
    written: &Written,
) -> Result<Vec<u8>, ApiError> {
    let size = written
        .attributes
        .as_ref()
        .map_or(2, |item| item.len() * 2 + 64);
    let detail = told.detail;
    let mut answer = Answer::with_capacity(size + if detail == Detail::None { 0 } else { 128 });
    if let Some(item) = &written.attributes {
        answer.item("Attributes", item)?;
    }
    if detail != Detail::None {
        let indexes = index_costs(table, &written.indexes);
        detail.add_indexed(&mut answer, &table.name, written.units, &indexes);
    }
    if let (Some(item), Some(bytes)) = (told.collection_of, written.collection_bytes) {
        let key = collection_key(table, item);
        write_collection(&key, bytes, answer.member("ItemCollectionMetrics"));
    }
    Ok(answer.finish())
}

/// What a write cost in the indexes of a table, by their names.
fn index_costs<'a>(table: &'a TableDefinition, indexes: &[(IndexId, Units)]) -> Vec<IndexCost<'a>> {
    let cost = |(id, units): &(IndexId, Units)| {
        table.index_by_id(*id).map(|index| IndexCost {
            name: &index.name,
            is_local: index.is_local(),
            units: *units,
        })
    };
    indexes.iter().filter_map(cost).collect()
}

/// `ItemCollectionKey`: the collection that an item, or its key, belongs to.
fn collection_key(table: &TableDefinition, item: &Item) -> Item {
    let part = item.get_key_value(&table.keys.partition.name);
    let part = part.map(|(name, value)| (name.clone(), value.clone()));
    part.into_iter().collect()
}

/// One element of `ItemCollectionMetrics`: a collection, and between which sizes it is. What is known is how much its partition holds.
fn write_collection(key: &Item, bytes: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"ItemCollectionKey\":");
    json::write_item(key, out);
    let gigabytes = (bytes >> 30) + 1;
    out.extend_from_slice(format!(",\"SizeEstimateRangeGB\":[0.0,{gigabytes}.0]}}").as_bytes());
}

/// `ItemCollectionMetrics` of several tables: by name their collections, each with its bytes.
fn add_collections<'a>(
    answer: &mut Answer,
    tables: impl IntoIterator<Item = (&'a str, Vec<(Item, u64)>)>,
) {
    let mut metrics = Answer::with_capacity(256);
    for (name, collections) in tables {
        if collections.is_empty() {
            continue;
        }
        let out = metrics.member(name);
        out.push(b'[');
        let mut first = true;
        for (key, bytes) in collections {
            comma(out, &mut first);
            write_collection(&key, bytes, out);
        }
        out.push(b']');
    }
    let out = answer.member("ItemCollectionMetrics");
    out.extend_from_slice(&metrics.finish());
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
