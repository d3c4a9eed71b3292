//! TransactGetItems: two rounds of reads, so that all values were current together between them (ADR 0010).

use std::sync::Arc;
use std::time::Duration;

use expression::Projection;
use futures::{StreamExt, stream};
use model::error::CancellationReason;
use model::{ApiError, EncodedKey, Item, TableDefinition, capacity, key};
use protocol::item::{Get, ItemFault, ItemOperation, ItemReply};
use protocol::transact::Transact;

use super::partiql::columns;
use super::transact_write::{BYTES_MAX, OPERATIONS_MAX, sums};
use super::{Limits, usable_table_for};
use crate::answer::{Answer, comma, write_item};
use crate::backend::{Backend, Context};
use crate::constraints::{Constraints, table_of};
use crate::consumed::{Detail, Direction};
use crate::parameters::{self, Unchecked, item};
use crate::requests::{TransactGet, TransactGetItem, TransactGetItems};
use crate::texts;

/// How often all is read anew because something changed meanwhile.
const TRIES_MAX: u32 = 3;
/// Before that, a little more each time.
const PAUSE: Duration = Duration::from_millis(10);

/// A read.
struct Operation {
    table: String,
    key: Item,
    projection: Option<Projection>,
}

/// A read, and where it goes.
pub(super) struct Place {
    pub(super) table: Arc<TableDefinition>,
    pub(super) key: EncodedKey,
    pub(super) projection: Option<Projection>,
    /// Paths are named as a statement names them.
    pub(super) columns: bool,
}

/// What an item was when it was read.
struct Seen {
    item: Option<bytes::Bytes>,
    size_bytes: u64,
    version: u64,
}

pub(super) async fn execute<B: Backend>(
    request: TransactGetItems,
    backend: &B,
    limits: Limits,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    let items = request.transact_items;
    let mut constraints = Constraints::default();
    constraints.return_consumed_capacity(request.return_consumed_capacity.as_deref());
    constraints.operations(items.as_ref().map(Vec::len), OPERATIONS_MAX);
    for (number, item) in items.iter().flatten().enumerate() {
        let member = |name: &str| format!("transactItems.{}.member.get{name}", number + 1);
        match &item.get {
            None => constraints.present(&member(""), false),
            Some(get) => {
                constraints.member_table_name(&member(".tableName"), get.table_name.as_deref());
                constraints.present(&member(".key"), get.key.is_some());
            }
        }
    }
    constraints.finish()?;
    let operations = items
        .unwrap_or_default()
        .into_iter()
        .filter_map(|TransactGetItem { get }| get.map(read))
        .collect::<Result<Vec<_>, _>>()?;

    let mut places = Vec::with_capacity(operations.len());
    let mut reasons = Vec::with_capacity(operations.len());
    for operation in operations {
        let table = usable_table_for("GetItem", backend, &operation.table, context).await?;
        let placed = key::key_from_key(&table, &operation.key).and_then(|key| {
            parameters::check_key_paths(&table, None, operation.projection.as_ref())?;
            Ok(key)
        });
        match placed {
            Ok(key) => {
                if places.iter().any(|place: &Place| place.key == key) {
                    return Err(texts::several_operations_on_one_item());
                }
                reasons.push(CancellationReason::none());
                places.push(Place {
                    table,
                    key,
                    projection: operation.projection,
                    columns: false,
                });
            }
            Err(error) => reasons.push(CancellationReason::of(&error).ok_or(error)?),
        }
    }
    if places.len() < reasons.len() {
        return Err(ApiError::transaction_canceled(reasons));
    }
    let detail = Detail::of(request.return_consumed_capacity.as_deref());
    read_all(&places, detail, backend, limits, context).await
}

/// Reads different items, all as they were at one time; the answer.
pub(super) async fn read_all<B: Backend>(
    places: &[Place],
    detail: Detail,
    backend: &B,
    limits: Limits,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    let mut tries = 0;
    let seen = loop {
        tries += 1;
        match consistent(backend, places, limits, context).await? {
            Ok(seen) => break seen,
            Err(reasons) => {
                let conflicts = |reason: &CancellationReason| {
                    matches!(reason.code.as_str(), "None" | "TransactionConflict")
                };
                if tries >= TRIES_MAX || !reasons.iter().all(conflicts) {
                    return Err(ApiError::transaction_canceled(reasons));
                }
                tokio::time::sleep(PAUSE * tries).await;
            }
        }
    };
    if seen.iter().map(|seen| seen.size_bytes).sum::<u64>() > BYTES_MAX {
        return Err(texts::transaction_too_large());
    }
    answer(detail, places, &seen)
}

fn read(get: TransactGet) -> Result<Operation, ApiError> {
    let projection = get.projection_expression;
    let placeholders = Unchecked::new(
        get.expression_attribute_names,
        None,
        &[],
        &[("ProjectionExpression", projection.is_some())],
    )?;
    let key = item(get.key)?;
    let mut placeholders = placeholders.check()?;
    let projection = parameters::projection(projection.as_deref(), &mut placeholders)?;
    placeholders.finish()?;
    Ok(Operation {
        table: table_of(&get.table_name.unwrap_or_default()).to_owned(),
        key,
        projection,
    })
}

/// Reads all items, and then looks whether all are still what they were; or why not.
async fn consistent<B: Backend>(
    backend: &B,
    places: &[Place],
    limits: Limits,
    context: &Context,
) -> Result<Result<Vec<Seen>, Vec<CancellationReason>>, ApiError> {
    let first = round(backend, places, None, limits, context).await?;
    let seen = match first {
        Ok(seen) => seen,
        Err(reasons) => return Ok(Err(reasons)),
    };
    let second = round(backend, places, Some(&seen), limits, context).await?;
    Ok(second.map(|_| seen))
}

/// One round; `since`: what the first one saw.
async fn round<B: Backend>(
    backend: &B,
    places: &[Place],
    since: Option<&[Seen]>,
    limits: Limits,
    context: &Context,
) -> Result<Result<Vec<Seen>, Vec<CancellationReason>>, ApiError> {
    let calls = places.iter().enumerate().map(|(number, place)| async move {
        let version = since
            .and_then(|seen| seen.get(number))
            .map(|seen| seen.version);
        let get = Get {
            key: place.key.clone(),
            strong: true,
            projection: place.projection.clone(),
        };
        let transact = Transact::Read {
            get,
            unchanged_since: version,
        };
        let operation = ItemOperation::Transact(Box::new(transact));
        backend
            .item(&place.table, &place.key, operation, context)
            .await
    });
    let mut replies = stream::iter(calls).buffered(limits.fan_out_max);
    let (mut seen, mut reasons) = (Vec::with_capacity(places.len()), Vec::new());
    let mut failed = false;
    while let Some(reply) = replies.next().await {
        let reason = match reply {
            Ok(ItemReply::Versioned {
                item,
                size_bytes,
                version,
            }) => {
                seen.push(Seen {
                    item,
                    size_bytes,
                    version,
                });
                reasons.push(CancellationReason::none());
                continue;
            }
            Ok(ItemReply::Fault(ItemFault::Conflict { .. })) => CancellationReason::conflict(),
            Ok(other) => {
                return Err(texts::internal(format!(
                    "a transactional read was answered by {other:?}"
                )));
            }
            Err(error) => CancellationReason::of(&error).ok_or(error)?,
        };
        failed = true;
        reasons.push(reason);
    }
    Ok(if failed { Err(reasons) } else { Ok(seen) })
}

fn answer(detail: Detail, places: &[Place], seen: &[Seen]) -> Result<Vec<u8>, ApiError> {
    let size = seen.iter().filter_map(|seen| seen.item.as_ref());
    let size: usize = size.map(|item| item.len() * 2 + 32).sum();
    let mut answer = Answer::with_capacity(size + 128);
    let out = answer.member("Responses");
    out.push(b'[');
    let mut first = true;
    for (place, seen) in places.iter().zip(seen) {
        comma(out, &mut first);
        match &seen.item {
            None => out.extend_from_slice(b"{}"),
            Some(item) => {
                out.extend_from_slice(b"{\"Item\":");
                match place.projection.as_ref().filter(|_| place.columns) {
                    Some(projection) => write_item(&columns(projection, item.clone())?, out)?,
                    None => write_item(item, out)?,
                }
                out.push(b'}');
            }
        }
    }
    out.push(b']');
    let units = seen
        .iter()
        .map(|seen| capacity::transactional(capacity::read_units(seen.size_bytes, true)));
    let names = places.iter().map(|place| place.table.name.as_str());
    let by_table = sums(names.zip(units));
    detail.add_directed(&mut answer, Direction::Read, &by_table);
    Ok(answer.finish())
}
