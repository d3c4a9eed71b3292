//! BatchWriteItem.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, stream};
use model::error::texts::{ITEM_SIZE, KEY_SCHEMA};
use model::{
    ApiError, EncodedKey, ErrorKind, IndexId, Item, TableDefinition, Units, codec, json, key, size,
};
use protocol::item::{ItemOperation, ReturnValues, Write, WriteAction};

use super::{
    Limits, add_collections, collection_key, index_costs, leaves_unprocessed, usable_table, written,
};
use crate::answer::{Answer, comma};
use crate::backend::{Backend, Context};
use crate::constraints::{Constraints, table_of};
use crate::consumed::Detail;
use crate::parameters::has_key;
use crate::requests::{BatchWriteItem, WriteRequest};
use crate::texts;

/// Most writes of one request, over all tables.
const WRITES_MAX: usize = 25;

/// One write.
enum Change {
    Put(Item),
    Delete(Item),
}

/// One write, and where it goes.
struct Place {
    table: usize,
    definition: Arc<TableDefinition>,
    key: EncodedKey,
    change: Change,
}

pub(super) async fn execute<B: Backend>(
    request: BatchWriteItem,
    backend: &B,
    limits: Limits,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    let mut constraints = Constraints::default();
    constraints.return_consumed_capacity(request.return_consumed_capacity.as_deref());
    constraints.return_item_collection_metrics(request.return_item_collection_metrics.as_deref());
    constraints.present("requestItems", request.request_items.is_some());
    let tables = request.request_items.unwrap_or_default();
    constraints.table_names(tables.keys().map(String::as_str));
    for (name, writes) in &tables {
        let member = || format!("RequestItems.{name}.member");
        if writes.is_empty() {
            constraints.hidden(true, &member(), &texts::length_at_least(1));
        } else if writes.len() > WRITES_MAX {
            constraints.hidden(true, &member(), &texts::length_at_most(WRITES_MAX));
        }
    }
    constraints.finish()?;
    if tables.is_empty() {
        return Err(texts::no_request_items("BatchWriteItem"));
    }
    let mut names = Vec::with_capacity(tables.len());
    let mut changes = Vec::new();
    for (index, (name, writes)) in tables.into_iter().enumerate() {
        names.push(name);
        for write in writes {
            changes.push((index, change(write)?));
        }
    }
    if changes.len() > WRITES_MAX {
        return Err(texts::too_many_items("BatchWriteItem"));
    }

    let mut definitions = Vec::with_capacity(names.len());
    for name in &names {
        definitions.push(usable_table(backend, table_of(name), context).await?);
    }
    let mut seen = HashSet::with_capacity(changes.len());
    let mut places = Vec::with_capacity(changes.len());
    for (table, change) in changes {
        let definition = definitions[table].clone();
        let key = match &change {
            Change::Put(item) if !has_key(&definition, item) => {
                return Err(ApiError::validation(KEY_SCHEMA));
            }
            Change::Put(item) => {
                let key = key::key_from_item(&definition, item)?;
                definition.check_index_keys(item, |fault| fault.of_item())?;
                key
            }
            Change::Delete(key) => key::key_from_key(&definition, key)?,
        };
        // encoded keys hold the table's number, so one set does for all tables
        if !seen.insert(key.clone()) {
            return Err(texts::duplicate_keys());
        }
        places.push(Place {
            table,
            definition,
            key,
            change,
        });
    }

    let mut replies = stream::iter(places.iter().map(|place| async move {
        let action = match &place.change {
            Change::Put(item) => WriteAction::Put(codec::encode_item(item)),
            Change::Delete(_) => WriteAction::Delete,
        };
        let write = Write {
            key: place.key.clone(),
            action,
            condition: None,
            return_values: ReturnValues::None,
            return_on_failure: false,
        };
        let operation = ItemOperation::Write(Box::new(write));
        backend
            .item(&place.definition, &place.key, operation, context)
            .await
            .and_then(written)
    }))
    .buffered(limits.fan_out_max);

    let mut units = vec![Units::ZERO; names.len()];
    let mut indexes: Vec<BTreeMap<IndexId, Units>> = vec![BTreeMap::new(); names.len()];
    let mut collections: Vec<Vec<(usize, u64)>> = vec![Vec::new(); names.len()];
    let mut done = Vec::with_capacity(places.len());
    let mut first_error = None;
    let mut final_error = None;
    // all writes are waited for, also after an error: they were sent
    while let Some(reply) = replies.next().await {
        let place = &places[done.len()];
        match reply {
            Ok(written) => {
                let sum = &mut units[place.table];
                *sum = sum.saturating_add(written.units);
                for (index, units) in written.indexes {
                    let sum = indexes[place.table].entry(index).or_insert(Units::ZERO);
                    *sum = sum.saturating_add(units);
                }
                if let Some(bytes) = written.collection_bytes {
                    collections[place.table].push((done.len(), bytes));
                }
                done.push(true);
            }
            Err(error) => {
                done.push(false);
                if leaves_unprocessed(&error) {
                    first_error.get_or_insert(error);
                } else {
                    final_error.get_or_insert(error);
                }
            }
        }
    }
    drop(replies);
    if let Some(error) = final_error {
        return Err(error);
    }
    if let Some(error) = first_error
        // BatchWriteItem has no error for a transaction that is pending: what it is in the way of comes back.
        && error.kind != ErrorKind::TransactionConflict
        && !done.contains(&true)
    {
        return Err(error);
    }

    let mut unprocessed = Answer::with_capacity(2);
    for (index, name) in names.iter().enumerate() {
        let mut left = places
            .iter()
            .zip(&done)
            .filter(|(place, done)| place.table == index && !**done)
            .map(|(place, _)| &place.change)
            .peekable();
        if left.peek().is_some() {
            write_unprocessed(unprocessed.member(name), left);
        }
    }
    let mut answer = Answer::with_capacity(256);
    answer
        .member("UnprocessedItems")
        .extend_from_slice(&unprocessed.finish());
    let detail = Detail::of(request.return_consumed_capacity.as_deref());
    if detail != Detail::None {
        let out = answer.member("ConsumedCapacity");
        out.push(b'[');
        let mut first = true;
        for ((definition, units), indexes) in definitions.iter().zip(&units).zip(indexes) {
            comma(out, &mut first);
            let indexes: Vec<(IndexId, Units)> = indexes.into_iter().collect();
            let costs = index_costs(definition, &indexes);
            detail.write_indexed(out, &definition.name, *units, &costs);
        }
        out.push(b']');
    }
    if request.return_item_collection_metrics.as_deref() == Some("SIZE") {
        let tables = names.iter().zip(&definitions).zip(&collections);
        let tables = tables.map(|((name, table), collections)| {
            let key = |place: usize| match &places[place].change {
                Change::Put(item) | Change::Delete(item) => collection_key(table, item),
            };
            let keys = collections
                .iter()
                .map(|(place, bytes)| (key(*place), *bytes));
            (name.as_str(), keys.collect())
        });
        add_collections(&mut answer, tables);
    }
    Ok(answer.finish())
}

/// Checks one write, as far as that can be done without knowing the table.
fn change(write: WriteRequest) -> Result<Change, ApiError> {
    match (write.put_request, write.delete_request) {
        (None, None) => Err(texts::empty_write_request()),
        (Some(_), Some(_)) => Err(texts::double_write_request()),
        (Some(put), None) => {
            let mut constraints = Constraints::default();
            constraints.present("requestItems.member.putRequest.item", put.item.is_some());
            constraints.finish()?;
            let item = crate::parameters::item(put.item)?;
            if size::item_size(&item) > size::ITEM_BYTES_MAX {
                return Err(ApiError::validation(ITEM_SIZE));
            }
            Ok(Change::Put(item))
        }
        (None, Some(delete)) => {
            let mut constraints = Constraints::default();
            constraints.present(
                "requestItems.member.deleteRequest.key",
                delete.key.is_some(),
            );
            constraints.finish()?;
            Ok(Change::Delete(crate::parameters::item(delete.key)?))
        }
    }
}

/// Repeats the part of a table's request that was not done.
fn write_unprocessed<'a>(out: &mut Vec<u8>, changes: impl Iterator<Item = &'a Change>) {
    out.push(b'[');
    let mut first = true;
    for change in changes {
        comma(out, &mut first);
        let item = match change {
            Change::Put(item) => {
                out.extend_from_slice(b"{\"PutRequest\":{\"Item\":");
                item
            }
            Change::Delete(key) => {
                out.extend_from_slice(b"{\"DeleteRequest\":{\"Key\":");
                key
            }
        };
        json::write_item(item, out);
        out.extend_from_slice(b"}}");
    }
    out.push(b']');
}
