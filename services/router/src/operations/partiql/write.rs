//! INSERT, UPDATE and DELETE: one write of one item each.

use std::sync::Arc;

use bytes::Bytes;
use expression::partiql::{Insert, Statement, WriteReturn};
use model::{ApiError, EncodedKey, ErrorKind, TableDefinition, Units, codec, key};
use protocol::item::{ItemOperation, ReturnValues, Write, WriteAction};

use super::super::refusal::{Refusal, check_before};
use super::super::{encode, usable_table_for, written};
use crate::backend::{Backend, Context};
use crate::constraints::table_of;
use crate::texts;

/// A statement that was carried out.
pub(super) struct Done {
    pub(super) table: Arc<TableDefinition>,
    /// RETURNING.
    pub(super) attributes: Option<Bytes>,
    pub(super) units: Units,
}

/// A write that a statement stands for.
pub(super) struct Planned {
    pub(super) table: Arc<TableDefinition>,
    pub(super) key: EncodedKey,
    pub(super) write: Write,
    /// That its condition fails means that there is such an item already.
    pub(super) inserts: bool,
}

/// Finds out what a statement writes. (A SELECT writes nothing: its caller does not come here.)
pub(super) async fn plan<B: Backend>(
    statement: Statement,
    return_on_failure: bool,
    backend: &B,
    context: &Context,
) -> Result<Planned, Refusal> {
    let target = statement.target();
    let action = match &statement {
        Statement::Insert(_) => "PartiQLInsert",
        Statement::Update(_) => "PartiQLUpdate",
        Statement::Delete(_) => "PartiQLDelete",
        Statement::Select(_) | Statement::Exists(_) => "PartiQLSelect",
    };
    let table = usable_table_for(action, backend, table_of(&target.table), context).await?;
    if let Some(index) = &target.index {
        return Err(texts::write_to_index(index).into());
    }
    let keys = &table.keys;
    let (key, action, condition, return_values, inserts) = match statement {
        Statement::Insert(insert) => {
            check_before(&table, &insert.item, true, None)?;
            let key = key::key_from_item(&table, &insert.item)?;
            table.check_index_keys(&insert.item, |fault| fault.of_item())?;
            let action = WriteAction::Put(codec::encode_item(&insert.item));
            let condition = Insert::condition(keys);
            (key, action, condition, ReturnValues::None, true)
        }
        Statement::Update(update) => {
            let keyed = update.keyed(keys)?;
            check_before(&table, &keyed.key, false, Some(&update.update))?;
            let key = key::key_from_key(&table, &keyed.key)?;
            update.update.check_keys(keys)?;
            let action = WriteAction::Update {
                key_item: encode(&keyed.key),
                update: Some(update.update),
            };
            let values = return_values(update.returning);
            (key, action, keyed.condition, values, false)
        }
        Statement::Delete(delete) => {
            let keyed = delete.keyed(keys)?;
            check_before(&table, &keyed.key, false, None)?;
            let key = key::key_from_key(&table, &keyed.key)?;
            let values = return_values(delete.returning);
            (key, WriteAction::Delete, keyed.condition, values, false)
        }
        Statement::Exists(_) => return Err(texts::exists_outside().into()),
        Statement::Select(_) => return Err(texts::internal("a SELECT was to be written").into()),
    };
    if let Some(condition) = &condition {
        condition.check_key_paths(keys)?;
    }
    let write = Write {
        key: key.clone(),
        action,
        condition,
        return_values,
        return_on_failure: return_on_failure && !inserts,
    };
    Ok(Planned {
        table,
        key,
        write,
        inserts,
    })
}

/// Carries out what was planned.
pub(super) async fn carry_out<B: Backend>(
    planned: Planned,
    backend: &B,
    context: &Context,
) -> Result<Done, ApiError> {
    let Planned {
        table,
        key,
        write,
        inserts,
    } = planned;
    let operation = ItemOperation::Write(Box::new(write));
    let reply = backend.item(&table, &key, operation, context).await?;
    match written(reply) {
        Ok(written) => Ok(Done {
            table,
            units: written.total(),
            attributes: written.attributes,
        }),
        Err(error) if inserts && error.kind == ErrorKind::ConditionalCheckFailed => {
            Err(texts::duplicate_item())
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn execute<B: Backend>(
    statement: Statement,
    return_on_failure: bool,
    backend: &B,
    context: &Context,
) -> Result<Done, ApiError> {
    let planned = plan(statement, return_on_failure, backend, context)
        .await
        .map_err(Refusal::into_error)?;
    carry_out(planned, backend, context).await
}

fn return_values(returning: Option<WriteReturn>) -> ReturnValues {
    match returning {
        None => ReturnValues::None,
        Some(WriteReturn::AllOld) => ReturnValues::AllOld,
        Some(WriteReturn::AllNew) => ReturnValues::AllNew,
        Some(WriteReturn::ModifiedOld) => ReturnValues::UpdatedOld,
        Some(WriteReturn::ModifiedNew) => ReturnValues::UpdatedNew,
    }
}
