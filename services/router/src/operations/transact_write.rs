//! TransactWriteItems.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use expression::{ConditionKind, parse_update};
use model::error::CancellationReason;
use model::{ApiError, EncodedKey, Item, TableDefinition, Units, capacity, codec, key, size};
use protocol::item::{ReturnValues, Write, WriteAction};

use super::refusal::{Refusal, check_before};
use super::{add_collections, collection_key, encode, usable_table_for};
use crate::answer::Answer;
use crate::backend::{Backend, Context};
use crate::constraints::{Constraints, table_of};
use crate::consumed::{Detail, Direction};
use crate::parameters::{self, Unchecked, item};
use crate::requests::{TransactWrite, TransactWriteItem, TransactWriteItems};
use crate::server::unix_ms;
use crate::texts;
use crate::transact::{self, Finished, Part, WriteRequest};

/// Most operations of one request.
pub(super) const OPERATIONS_MAX: usize = 100;
/// Sizes of a transaction's items together, bytes.
pub(super) const BYTES_MAX: u64 = 4 << 20;
/// Longest ClientRequestToken.
pub(super) const TOKEN_MAX: usize = 36;

/// The kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Check,
    Put,
    Delete,
    Update,
}

impl Kind {
    /// The permission that it needs.
    fn action(self) -> &'static str {
        match self {
            Self::Check => "ConditionCheckItem",
            Self::Put => "PutItem",
            Self::Delete => "DeleteItem",
            Self::Update => "UpdateItem",
        }
    }

    fn member(self) -> &'static str {
        match self {
            Self::Check => "conditionCheck",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Update => "update",
        }
    }
}

/// An operation whose expressions are read.
struct Operation {
    table: String,
    /// The item of a put, else the key.
    item: Item,
    kind: Kind,
    update: Option<expression::Update>,
    condition: Option<expression::Condition>,
    return_on_failure: bool,
}

pub(super) async fn execute<B: Backend>(
    request: TransactWriteItems,
    backend: &B,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    let items = request.transact_items;
    let mut constraints = Constraints::default();
    constraints.return_consumed_capacity(request.return_consumed_capacity.as_deref());
    constraints.return_item_collection_metrics(request.return_item_collection_metrics.as_deref());
    constraints.token(request.client_request_token.as_deref(), TOKEN_MAX);
    constraints.operations(items.as_ref().map(Vec::len), OPERATIONS_MAX);
    for (number, item) in items.iter().flatten().enumerate() {
        for (kind, write) in kinds(item) {
            constrain(&mut constraints, number + 1, kind, write);
        }
    }
    constraints.finish()?;
    let operations = items
        .unwrap_or_default()
        .into_iter()
        .map(read)
        .collect::<Result<Vec<_>, _>>()?;

    let mut parts = Vec::with_capacity(operations.len());
    let mut reasons = Vec::with_capacity(operations.len());
    let wants_collections = request.return_item_collection_metrics.as_deref() == Some("SIZE");
    // By operation, the key of the collection that it changes.
    let mut changed = Vec::new();
    let mut seen = HashSet::with_capacity(operations.len());
    let mut bytes = 0;
    for operation in operations {
        let table =
            usable_table_for(operation.kind.action(), backend, &operation.table, context).await?;
        let is_put = operation.kind == Kind::Put;
        bytes += if is_put {
            size::item_size(&operation.item)
        } else {
            0
        };
        match placed(&table, &operation) {
            Ok(key) => {
                // Encoded keys hold the table's number.
                if !seen.insert(key.clone()) {
                    return Err(texts::several_operations_on_one_item());
                }
                reasons.push(CancellationReason::none());
                if wants_collections {
                    let changes = operation.kind != Kind::Check;
                    let key = || collection_key(&table, &operation.item);
                    changed.push(changes.then(|| (table.clone(), key())));
                }
                let write = write_of(operation, key);
                parts.push(Part { table, write });
            }
            Err(refusal) => reasons.push(refusal.reason()?),
        }
    }
    if bytes > BYTES_MAX {
        return Err(texts::transaction_too_large());
    }
    if parts.len() < reasons.len() {
        return Err(ApiError::transaction_canceled(reasons));
    }
    let tables: Vec<String> = parts.iter().map(|part| part.table.name.clone()).collect();
    let request_of = WriteRequest {
        parts,
        token: request.client_request_token,
        now_ms: unix_ms(),
    };
    let finished = transact::write(backend, request_of, context).await?;
    let detail = Detail::of(request.return_consumed_capacity.as_deref());
    let mut answer = Answer::with_capacity(64);
    add_capacity(&mut answer, detail, &tables, &finished);
    if wants_collections {
        let collections = collections_of(&changed, &finished.collections);
        add_collections(&mut answer, collections);
    }
    Ok(answer.finish())
}

/// The collections that the operations change, by table, each once.
fn collections_of<'a>(
    changed: &'a [Option<(Arc<TableDefinition>, Item)>],
    bytes: &[Option<u64>],
) -> BTreeMap<&'a str, Vec<(Item, u64)>> {
    let mut tables: BTreeMap<&str, Vec<(Item, u64)>> = BTreeMap::new();
    for (change, bytes) in changed.iter().zip(bytes) {
        if let (Some((table, key)), Some(bytes)) = (change, bytes) {
            let collections = tables.entry(&table.name).or_default();
            // A hundred operations at most.
            if !collections.iter().any(|(known, _)| known == key) {
                collections.push((key.clone(), *bytes));
            }
        }
    }
    tables
}

/// What a transaction consumed of the operations' tables.
pub(super) fn add_capacity(
    answer: &mut Answer,
    detail: Detail,
    tables: &[String],
    finished: &Finished,
) {
    let cost = |size: u64| match finished.repeated {
        // "…the number of read capacity units consumed in reading the items."
        true => capacity::transactional(capacity::read_units(size, true)),
        false => capacity::transactional(capacity::write_units(size)),
    };
    let direction = match finished.repeated {
        true => Direction::Read,
        false => Direction::Write,
    };
    let units = finished.sizes.iter().map(|size| cost(*size));
    let by_table = sums(tables.iter().map(String::as_str).zip(units));
    detail.add_directed(answer, direction, &by_table);
}

/// Sums by table, in the order in which the tables come.
pub(super) fn sums<'a>(units: impl Iterator<Item = (&'a str, Units)>) -> Vec<(&'a str, Units)> {
    let mut sums: Vec<(&str, Units)> = Vec::new();
    for (table, units) in units {
        match sums.iter_mut().find(|(name, _)| *name == table) {
            Some((_, sum)) => *sum = sum.saturating_add(units),
            None => sums.push((table, units)),
        }
    }
    sums
}

fn kinds(item: &TransactWriteItem) -> impl Iterator<Item = (Kind, &TransactWrite)> {
    [
        (Kind::Check, &item.condition_check),
        (Kind::Put, &item.put),
        (Kind::Delete, &item.delete),
        (Kind::Update, &item.update),
    ]
    .into_iter()
    .filter_map(|(kind, write)| Some((kind, write.as_ref()?)))
}

fn constrain(constraints: &mut Constraints, number: usize, kind: Kind, write: &TransactWrite) {
    let member = |name: &str| format!("transactItems.{number}.member.{}.{name}", kind.member());
    constraints.member_table_name(&member("tableName"), write.table_name.as_deref());
    constraints.member_on_failure(
        &member("returnValuesOnConditionCheckFailure"),
        write.return_values_on_condition_check_failure.as_deref(),
    );
    match kind {
        Kind::Put => constraints.present(&member("item"), write.item.is_some()),
        _ => constraints.present(&member("key"), write.key.is_some()),
    }
    let missing = match kind {
        Kind::Check if write.condition_expression.is_none() => "conditionExpression",
        Kind::Update if write.update_expression.is_none() => "updateExpression",
        _ => return,
    };
    constraints.present(&member(missing), false);
}

/// Reads an operation, as far as that can be done without knowing the table.
fn read(request: TransactWriteItem) -> Result<Operation, ApiError> {
    let several = || texts::not_one_operation("Check, Put, Update or Delete");
    let kind = {
        let mut kinds = kinds(&request).map(|(kind, _)| kind);
        let first = kinds.next();
        first
            .filter(|_| kinds.next().is_none())
            .ok_or_else(several)?
    };
    let writes = [
        request.condition_check,
        request.put,
        request.delete,
        request.update,
    ];
    let write = writes.into_iter().flatten().next().ok_or_else(several)?;
    let update = write.update_expression.filter(|_| kind == Kind::Update);
    let condition = write.condition_expression;
    let expressions = [
        ("UpdateExpression", update.is_some()),
        ("ConditionExpression", condition.is_some()),
    ];
    let placeholders = Unchecked::new(
        write.expression_attribute_names,
        write.expression_attribute_values,
        &[],
        match kind {
            Kind::Update => &expressions,
            _ => &expressions[1..],
        },
    )?;
    let item = item(match kind {
        Kind::Put => write.item,
        _ => write.key,
    })?;
    let mut placeholders = placeholders.check()?;
    let update = update
        .as_deref()
        .map(|text| parse_update(text, &mut placeholders))
        .transpose()?;
    let condition = parameters::condition(
        ConditionKind::Condition,
        condition.as_deref(),
        &mut placeholders,
    )?;
    placeholders.finish()?;
    let table = write.table_name.unwrap_or_default();
    Ok(Operation {
        table: table_of(&table).to_owned(),
        item,
        kind,
        update,
        condition,
        return_on_failure: write.return_values_on_condition_check_failure.as_deref()
            == Some("ALL_OLD"),
    })
}

/// The encoded key, if the operation fits its table.
fn placed(table: &TableDefinition, operation: &Operation) -> Result<EncodedKey, Refusal> {
    let puts = operation.kind == Kind::Put;
    check_before(table, &operation.item, puts, operation.update.as_ref())?;
    let key = match operation.kind {
        Kind::Put => {
            table.check_index_keys(&operation.item, |fault| fault.of_item())?;
            key::key_from_item(table, &operation.item)?
        }
        _ => key::key_from_key(table, &operation.item)?,
    };
    if let Some(update) = &operation.update {
        update.check_keys(&table.keys)?;
    }
    parameters::check_key_paths(table, operation.condition.as_ref(), None)?;
    Ok(key)
}

fn write_of(operation: Operation, key: EncodedKey) -> Write {
    let action = match operation.kind {
        Kind::Check => WriteAction::Check,
        Kind::Put => WriteAction::Put(codec::encode_item(&operation.item)),
        Kind::Delete => WriteAction::Delete,
        Kind::Update => WriteAction::Update {
            key_item: encode(&operation.item),
            update: operation.update,
        },
    };
    Write {
        key,
        action,
        condition: operation.condition,
        return_values: ReturnValues::None,
        return_on_failure: operation.return_on_failure,
    }
}
