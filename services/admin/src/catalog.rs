//! The system table as the admin reads and writes it: strong reads, and writes on condition that nobody wrote since, so that any
//! number of admins cannot undo each other's work. A write whose outcome is unknown is read back.

use std::collections::BTreeMap;
use std::time::Duration;

use expression::{Condition, ConditionKind, Placeholders, parse_condition};
use mesh::{Deadline, TraceContext};
use model::codec::{decode_item, encode_item};
use model::key::{key_from_item, table_range};
use model::{ApiError, AttributeValue, ErrorKind, Item, TableDefinition};
use protocol::item::{
    Get, ItemFault, ItemOperation, ItemReply, Page, ReturnValues, Write, WriteAction,
};
use routing::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::records::{Stored, from_item, key_of, system_table, to_item};

/// Tries of a write whose outcome is not known.
const TRIES_MAX: usize = 5;
/// Bytes in one page of a scan.
const PAGE_BYTES: u64 = 1 << 20;
/// Pages that one scan may take.
const PAGES_MAX: usize = 100_000;

/// Why a write was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// Somebody else wrote the record since it was read.
    Conflict,
    /// It could not be done, or it is not known whether it was.
    Api(ApiError),
}

impl From<ApiError> for WriteError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// The system table.
#[derive(Clone)]
pub(crate) struct Catalog {
    client: Client,
    table: TableDefinition,
    call_max: Duration,
}

impl Catalog {
    pub(crate) fn new(client: Client, call_max: Duration) -> Self {
        Self {
            client,
            table: system_table(),
            call_max,
        }
    }

    /// One record, as it is now.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<Stored<T>>, ApiError> {
        let get = Get {
            key: self.encoded_key(key)?,
            strong: true,
            projection: None,
        };
        match self.call(key, ItemOperation::Get(get)).await? {
            ItemReply::Item { item: None, .. } => Ok(None),
            ItemReply::Item {
                item: Some(item), ..
            } => {
                let item = decode_item(&item).map_err(|_| ApiError::internal())?;
                from_item(&item).map(Some).ok_or_else(|| unreadable(key))
            }
            _ => Err(ApiError::internal()),
        }
    }

    /// Writes a record if it still has the token `expected` (none: if there is no such record); gives the new token. Tokens are
    /// never used twice, so a record that was deleted and made again is not mistaken for the old one.
    pub(crate) async fn put<T: Serialize>(
        &self,
        key: &str,
        value: &T,
        expected: Option<&str>,
    ) -> Result<String, WriteError> {
        let token = uuid::Uuid::new_v4().to_string();
        let item = to_item(key, value, &token)?;
        let action = || WriteAction::Put(encode_item(&item));
        let mut last = ApiError::internal();
        for _ in 0..TRIES_MAX {
            match self.write(key, action(), expected).await {
                Ok(()) => return Ok(token),
                Err(WriteError::Api(error)) if retryable(&error) => last = error,
                Err(WriteError::Api(error)) => return Err(error.into()),
                Err(WriteError::Conflict) => {
                    // An earlier try of this very write may have been the one that it lost to.
                    let now = self.get::<serde_json::Value>(key).await?;
                    return match now {
                        Some(now) if now.token == token => Ok(token),
                        _ => Err(WriteError::Conflict),
                    };
                }
            }
        }
        Err(last.into())
    }

    /// Deletes a record if it still has the token `expected`. That it is gone already is fine.
    pub(crate) async fn delete(&self, key: &str, expected: &str) -> Result<(), WriteError> {
        let mut last = ApiError::internal();
        for _ in 0..TRIES_MAX {
            match self.write(key, WriteAction::Delete, Some(expected)).await {
                Err(WriteError::Api(error)) if retryable(&error) => last = error,
                Err(WriteError::Conflict) => {
                    let now = self.get::<serde_json::Value>(key).await?;
                    return if now.is_none() {
                        Ok(())
                    } else {
                        Err(WriteError::Conflict)
                    };
                }
                other => return other,
            }
        }
        Err(last.into())
    }

    /// All items, in no order that means anything.
    pub(crate) async fn scan(&self) -> Result<Vec<Item>, ApiError> {
        let mut items = Vec::new();
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let page = Page {
                range: table_range(self.table.id),
                after,
                reverse: false,
                strong: true,
                limit: None,
                bytes_max: PAGE_BYTES,
                filter: None,
                projection: None,
                count_only: false,
                believed: None,
                name_last: false,
                ..Page::default()
            };
            let (deadline, trace) = (self.deadline(), TraceContext::default());
            let reply = self
                .client
                .page(&self.table, page, deadline, &trace)
                .await?;
            for item in &reply.items {
                items.push(decode_item(item).map_err(|_| ApiError::internal())?);
            }
            after = reply.last_key;
            if after.is_none() {
                return Ok(items);
            }
        }
        Err(ApiError::internal())
    }

    /// All records whose key passes `wanted`. What cannot be read is logged and left out: one bad record must not stop the others.
    pub(crate) async fn scan_records<T: DeserializeOwned>(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Stored<T>>, ApiError> {
        let items = self.scan().await?;
        Ok(items
            .iter()
            .filter_map(|item| readable(item, &wanted))
            .collect())
    }

    async fn write(
        &self,
        key: &str,
        action: WriteAction,
        expected: Option<&str>,
    ) -> Result<(), WriteError> {
        let write = Write {
            key: self.encoded_key(key)?,
            action,
            condition: Some(condition(expected)?),
            return_values: ReturnValues::None,
            return_on_failure: false,
        };
        match self
            .call(key, ItemOperation::Write(Box::new(write)))
            .await?
        {
            ItemReply::Written { .. } => Ok(()),
            ItemReply::Fault(ItemFault::ConditionFailed { .. }) => Err(WriteError::Conflict),
            _ => Err(ApiError::internal().into()),
        }
    }

    async fn call(&self, key: &str, operation: ItemOperation) -> Result<ItemReply, ApiError> {
        let encoded = self.encoded_key(key)?;
        let (deadline, trace) = (self.deadline(), TraceContext::default());
        self.client
            .item(&self.table, &encoded, operation, deadline, &trace)
            .await
    }

    fn encoded_key(&self, key: &str) -> Result<model::EncodedKey, ApiError> {
        let item = Item::from([("pk".to_owned(), AttributeValue::S(key.to_owned()))]);
        key_from_item(&self.table, &item)
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.call_max)
    }
}

/// Errors that say nothing about whether, or say that it was not done.
fn retryable(error: &ApiError) -> bool {
    matches!(
        error.kind,
        ErrorKind::InternalServerError | ErrorKind::Throttling
    )
}

fn unreadable(key: &str) -> ApiError {
    tracing::error!(
        key,
        "a record of the system table cannot be read; is this admin too old?"
    );
    ApiError::internal()
}

fn readable<T: DeserializeOwned>(item: &Item, wanted: &impl Fn(&str) -> bool) -> Option<Stored<T>> {
    let key = key_of(item).filter(|key| wanted(key))?;
    let record = from_item(item);
    if record.is_none() {
        let _ = unreadable(key);
    }
    record
}

fn condition(expected: Option<&str>) -> Result<Condition, ApiError> {
    let (text, names, values) = match expected {
        None => ("attribute_not_exists(pk)", None, None),
        Some(token) => {
            // `token` is one of DynamoDB's reserved words.
            let names = BTreeMap::from([("#token".to_owned(), "token".to_owned())]);
            let value = AttributeValue::S(token.to_owned());
            let values = BTreeMap::from([(":token".to_owned(), value)]);
            ("#token = :token", Some(names), Some(values))
        }
    };
    let mut placeholders = Placeholders::new(names, values);
    parse_condition(ConditionKind::Condition, text, &mut placeholders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_on_condition_of_the_token() {
        let item = to_item("table#music", &1u8, "a").unwrap();
        assert!(condition(Some("a")).unwrap().evaluate(&item).unwrap());
        assert!(!condition(Some("b")).unwrap().evaluate(&item).unwrap());
        assert!(!condition(None).unwrap().evaluate(&item).unwrap());
        assert!(condition(None).unwrap().evaluate(&Item::new()).unwrap());
        assert!(
            !condition(Some("a"))
                .unwrap()
                .evaluate(&Item::new())
                .unwrap()
        );
    }
}
