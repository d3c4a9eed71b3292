//! BatchGetItem.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use expression::Projection;
use futures::{StreamExt, stream};
use model::{ApiError, EncodedKey, Item, TableDefinition, Units, capacity, codec, json, key};
use protocol::item::{Get, ItemOperation, ItemReply};

use super::{Limits, fault_error, leaves_unprocessed, usable_table};
use crate::answer::{Answer, comma, write_item};
use crate::backend::{Backend, Context};
use crate::constraints::{Constraints, table_of};
use crate::consumed::Detail;
use crate::legacy;
use crate::parameters::{self, Unchecked};
use crate::requests::{BatchGetItem, KeysAndAttributes};
use crate::texts;

/// Most keys of one request, over all tables.
const KEYS_MAX: usize = 100;
/// Sizes of the items that fit into one answer, bytes; the keys behind them are left unprocessed.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What is wanted of one table.
struct Wanted {
    /// As the request named it.
    name: String,
    keys: Vec<Item>,
    strong: bool,
    projection: Option<Projection>,
    /// To repeat it in `UnprocessedKeys`.
    projection_text: Option<String>,
    names: Option<BTreeMap<String, String>>,
    /// `AttributesToGet`, to repeat it.
    attributes: Option<Vec<String>>,
}

pub(super) async fn execute<B: Backend>(
    request: BatchGetItem,
    backend: &B,
    limits: Limits,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    let mut constraints = Constraints::default();
    constraints.return_consumed_capacity(request.return_consumed_capacity.as_deref());
    constraints.present("requestItems", request.request_items.is_some());
    let tables = request.request_items.unwrap_or_default();
    constraints.table_names(tables.keys().map(String::as_str));
    for (name, table) in &tables {
        let attributes = || format!("requestItems.{name}.member.attributesToGet");
        if table.attributes_to_get.is_some() {
            constraints.attributes_to_get(&attributes(), &table.attributes_to_get);
        }
        let member = || format!("RequestItems.{name}.member.Keys");
        match table.keys.as_ref().map(Vec::len) {
            None => constraints.present(&format!("requestItems.{name}.member.keys"), false),
            Some(0) => constraints.hidden(true, &member(), &texts::length_at_least(1)),
            Some(keys) if keys > KEYS_MAX => {
                constraints.hidden(true, &member(), &texts::length_at_most(KEYS_MAX));
            }
            Some(_) => {}
        }
    }
    constraints.finish()?;
    if tables.is_empty() {
        return Err(texts::no_request_items("BatchGetItem"));
    }
    if tables
        .values()
        .filter_map(|table| table.keys.as_ref())
        .map(Vec::len)
        .sum::<usize>()
        > KEYS_MAX
    {
        return Err(texts::too_many_items("BatchGetItem"));
    }
    let wanted = tables
        .into_iter()
        .map(|(name, table)| wanted(name, table))
        .collect::<Result<Vec<_>, _>>()?;

    let mut places: Vec<(usize, usize, Arc<TableDefinition>, EncodedKey)> = Vec::new();
    for (t, wanted) in wanted.iter().enumerate() {
        let table = usable_table(backend, table_of(&wanted.name), context).await?;
        parameters::check_key_paths(&table, None, wanted.projection.as_ref())?;
        for (k, key) in wanted.keys.iter().enumerate() {
            places.push((t, k, table.clone(), key::key_from_key(&table, key)?));
        }
    }

    let wanted = &wanted;
    let mut replies = stream::iter(places.iter().map(|(t, k, table, key)| async move {
        let want = &wanted[*t];
        let get = Get {
            key: key.clone(),
            strong: want.strong,
            projection: want.projection.clone(),
        };
        let reply = backend
            .item(table, key, ItemOperation::Get(get), context)
            .await;
        (*t, *k, reply)
    }))
    .buffered(limits.fan_out_max);

    let mut answers: Vec<(Vec<u8>, bool)> = wanted.iter().map(|_| (Vec::new(), true)).collect();
    let mut units = vec![Units::ZERO; wanted.len()];
    let mut done: Vec<Vec<bool>> = wanted
        .iter()
        .map(|want| vec![false; want.keys.len()])
        .collect();
    let mut bytes = 0;
    let mut first_error = None;
    while let Some((t, k, reply)) = replies.next().await {
        let (item, size_bytes) = match reply {
            Ok(ItemReply::Item { item, size_bytes }) => (item, size_bytes),
            Ok(ItemReply::Fault(fault)) => return Err(fault_error(fault)),
            Ok(other) => return Err(texts::internal(format!("a read was answered by {other:?}"))),
            Err(error) if leaves_unprocessed(&error) => {
                first_error.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        if bytes > 0 && bytes + size_bytes > ANSWER_BYTES_MAX {
            break;
        }
        bytes += size_bytes;
        done[t][k] = true;
        units[t] = units[t].saturating_add(capacity::read_units(size_bytes, wanted[t].strong));
        if let Some(item) = item {
            let (out, first) = &mut answers[t];
            comma(out, first);
            write_item(&item, out)?;
        }
    }
    drop(replies);
    if let Some(error) = first_error
        && !done.iter().flatten().any(|done| *done)
    {
        return Err(error);
    }

    let size: usize = answers.iter().map(|(out, _)| out.len() + 64).sum();
    let mut answer = Answer::with_capacity(size + 256);
    let mut tables = Answer::with_capacity(size);
    for (want, (items, _)) in wanted.iter().zip(&answers) {
        let out = tables.member(&want.name);
        out.push(b'[');
        out.extend_from_slice(items);
        out.push(b']');
    }
    answer
        .member("Responses")
        .extend_from_slice(&tables.finish());
    let mut unprocessed = Answer::with_capacity(2);
    for (want, done) in wanted.iter().zip(&done) {
        if done.iter().any(|done| !done) {
            write_unprocessed(unprocessed.member(&want.name), want, done);
        }
    }
    answer
        .member("UnprocessedKeys")
        .extend_from_slice(&unprocessed.finish());
    let detail = Detail::of(request.return_consumed_capacity.as_deref());
    detail.add_list(
        &mut answer,
        wanted
            .iter()
            .map(|want| table_of(&want.name))
            .zip(units.iter().copied()),
    );
    Ok(answer.finish())
}

/// Checks what is wanted of one table, as far as that can be done without knowing it.
fn wanted(name: String, table: KeysAndAttributes) -> Result<Wanted, ApiError> {
    let text = table.projection_expression;
    let names = table.expression_attribute_names;
    let placeholders = Unchecked::new(
        names.clone(),
        None,
        &[("AttributesToGet", table.attributes_to_get.is_some())],
        &[("ProjectionExpression", text.is_some())],
    )?;
    let mut placeholders = placeholders.check()?;
    let projection = parameters::projection(text.as_deref(), &mut placeholders)?;
    placeholders.finish()?;
    let projection = match projection {
        None => legacy::projection(table.attributes_to_get.clone())?,
        projection => projection,
    };
    let keys = table
        .keys
        .unwrap_or_default()
        .into_iter()
        .map(|key| key.0)
        .collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::with_capacity(keys.len());
    if !keys.iter().all(|key| seen.insert(codec::encode_item(key))) {
        return Err(texts::duplicate_keys());
    }
    let strong = table.consistent_read.unwrap_or(false);
    Ok(Wanted {
        name,
        keys,
        strong,
        projection,
        projection_text: text,
        names,
        attributes: table.attributes_to_get,
    })
}

/// Repeats the part of a table's request that was not done.
fn write_unprocessed(out: &mut Vec<u8>, want: &Wanted, done: &[bool]) {
    let mut answer = Answer::with_capacity(256);
    let keys = answer.member("Keys");
    keys.push(b'[');
    let mut first = true;
    for (key, _) in want.keys.iter().zip(done).filter(|(_, done)| !**done) {
        comma(keys, &mut first);
        json::write_item(key, keys);
    }
    keys.push(b']');
    if want.strong {
        answer.member("ConsistentRead").extend_from_slice(b"true");
    }
    if let Some(text) = &want.projection_text {
        json::write_string(text, answer.member("ProjectionExpression"));
    }
    if let Some(names) = &want.attributes {
        let out = answer.member("AttributesToGet");
        out.push(b'[');
        let mut first = true;
        for name in names {
            comma(out, &mut first);
            json::write_string(name, out);
        }
        out.push(b']');
    }
    if let Some(names) = &want.names {
        let mut map = Answer::with_capacity(128);
        for (name, value) in names {
            json::write_string(value, map.member(name));
        }
        answer
            .member("ExpressionAttributeNames")
            .extend_from_slice(&map.finish());
    }
    out.extend_from_slice(&answer.finish());
}
