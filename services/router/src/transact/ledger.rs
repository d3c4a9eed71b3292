//! The ledger as the router reads and writes it: every write on a condition, every outcome told apart from "nobody knows". Never decides
//! what to write.

use std::sync::Arc;

use expression::Condition;
use model::{ApiError, AttributeValue, EncodedKey, Item, TableDefinition, key};
use protocol::item::{Get, ItemFault, ItemOperation, ItemReply, ReturnValues, Write, WriteAction};
use protocol::transact::TransactionId;
use transactions::{Record, State, ledger};

use crate::backend::{Backend, Context};
use crate::texts;

/// The ledger behind a backend.
#[derive(Clone)]
pub(crate) struct Ledger<B> {
    backend: B,
    table: Arc<TableDefinition>,
}

/// What became of a conditional write.
pub(crate) enum Put {
    /// Done.
    Done,
    /// Not done: this is what the record says, if it is there and can be read.
    Differs(Option<Record>),
}

impl<B: Backend> Ledger<B> {
    pub(crate) fn new(backend: B, table: Arc<TableDefinition>) -> Self {
        Self { backend, table }
    }

    /// Encoded key of the record with this name.
    pub(crate) fn key(&self, name: &str) -> Result<EncodedKey, ApiError> {
        let item = Item::from([("pk".to_owned(), AttributeValue::S(name.to_owned()))]);
        key::key_from_item(&self.table, &item)
    }

    /// Puts a record that must not be there, or (`replaces`) must still be that one.
    pub(crate) async fn make(
        &self,
        name: &str,
        record: &Record,
        replaces: Option<&Record>,
        context: &Context,
    ) -> Result<Put, ApiError> {
        let condition = match replaces {
            None => ledger::is_new()?,
            Some(old) => ledger::says(old.id, &[old.state])?,
        };
        let action = WriteAction::Put(record.encode(name)?);
        self.write(name, action, condition, context).await
    }

    /// Replaces the record, while it is of this attempt and says one of these.
    pub(crate) async fn change(
        &self,
        name: &str,
        record: &Record,
        while_it_says: &[State],
        context: &Context,
    ) -> Result<Put, ApiError> {
        let condition = ledger::says(record.id, while_it_says)?;
        let action = WriteAction::Put(record.encode(name)?);
        self.write(name, action, condition, context).await
    }

    /// Deletes the record, while it is of this attempt and says one of these.
    pub(crate) async fn delete(
        &self,
        name: &str,
        id: TransactionId,
        while_it_says: &[State],
        context: &Context,
    ) -> Result<Put, ApiError> {
        let condition = ledger::says(id, while_it_says)?;
        self.write(name, WriteAction::Delete, condition, context)
            .await
    }

    async fn write(
        &self,
        name: &str,
        action: WriteAction,
        condition: Condition,
        context: &Context,
    ) -> Result<Put, ApiError> {
        let key = self.key(name)?;
        let write = Write {
            key: key.clone(),
            action,
            condition: Some(condition),
            return_values: ReturnValues::None,
            return_on_failure: true,
        };
        let operation = ItemOperation::Write(Box::new(write));
        match self
            .backend
            .item(&self.table, &key, operation, context)
            .await?
        {
            ItemReply::Written { .. } => Ok(Put::Done),
            ItemReply::Fault(ItemFault::ConditionFailed { item, .. }) => {
                let record = item.and_then(|item| Record::decode(&item));
                Ok(Put::Differs(record.map(|(_, record)| record)))
            }
            other => Err(texts::internal(format!(
                "a write to the ledger was answered by {other:?}"
            ))),
        }
    }

    /// The record with this key, and its name.
    pub(crate) async fn read(
        &self,
        key: &EncodedKey,
        context: &Context,
    ) -> Result<Option<(String, Record)>, ApiError> {
        let get = Get {
            key: key.clone(),
            strong: true,
            projection: None,
        };
        let operation = ItemOperation::Get(get);
        match self
            .backend
            .item(&self.table, key, operation, context)
            .await?
        {
            ItemReply::Item { item: None, .. } => Ok(None),
            ItemReply::Item {
                item: Some(item), ..
            } => Record::decode(&item)
                .map(Some)
                .ok_or_else(|| texts::internal("a record of the ledger cannot be read")),
            other => Err(texts::internal(format!(
                "a read of the ledger was answered by {other:?}"
            ))),
        }
    }

    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    pub(crate) fn table(&self) -> &TableDefinition {
        &self.table
    }
}
