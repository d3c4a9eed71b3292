//! Items that an index cannot take: why, and the errors that say so.

use super::{IndexDefinition, IndexKeys};
use crate::error::texts;
use crate::key::{KeyRole, PARTITION_KEY_BYTES_MAX, SORT_KEY_BYTES_MAX, has_key_type};
use crate::table::KeyAttribute;
use crate::{ApiError, AttributeValue, Item, TableDefinition};

/// Why a value cannot be a key of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// It has this type.
    Type(&'static str),
    /// It is an empty string or binary, as this word says.
    Empty(&'static str),
    /// It is too long.
    Length(KeyRole),
}

/// The attribute of an item that an index cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexKeyFault<'a> {
    /// The index's name.
    pub index: &'a str,
    /// The key attribute.
    pub key: &'a KeyAttribute,
    /// What is wrong.
    pub fault: KeyFault,
}

impl IndexKeyFault<'_> {
    /// The error of an item that is put.
    pub fn of_item(&self) -> ApiError {
        ApiError::validation(match self.fault {
            KeyFault::Type(found) => {
                texts::index_key_type(&self.key.name, self.key.kind.as_str(), found, self.index)
            }
            KeyFault::Empty(kind) => texts::index_key_empty(kind, self.index, &self.key.name),
            KeyFault::Length(KeyRole::Partition) => texts::PARTITION_KEY_SIZE.to_owned(),
            KeyFault::Length(KeyRole::Sort) => texts::SORT_KEY_SIZE.to_owned(),
        })
    }

    /// The error of an item that an update makes.
    pub fn of_update(&self) -> ApiError {
        match self.fault {
            KeyFault::Type(_) => ApiError::validation(texts::INDEX_KEY_UPDATE_TYPE),
            KeyFault::Empty(kind) => ApiError::validation(texts::index_key_update_empty(kind)),
            KeyFault::Length(_) => ApiError::validation(texts::INDEX_KEY_UPDATE_SIZE),
        }
    }

    /// The error of an item that an update makes within a transaction: a wrong type is told as of an item that is put.
    pub fn of_transaction(&self) -> ApiError {
        match self.fault {
            KeyFault::Type(_) => self.of_item(),
            KeyFault::Empty(_) | KeyFault::Length(_) => self.of_update(),
        }
    }
}

pub(super) fn key_fault(
    key: &KeyAttribute,
    role: KeyRole,
    value: &AttributeValue,
) -> Option<KeyFault> {
    if !has_key_type(key, value) {
        return Some(KeyFault::Type(value.type_name()));
    }
    let (bytes, kind) = match value {
        AttributeValue::S(text) => (text.len(), "string"),
        AttributeValue::B(bytes) => (bytes.len(), "binary"),
        _ => return None,
    };
    let max = match role {
        KeyRole::Partition => PARTITION_KEY_BYTES_MAX,
        KeyRole::Sort => SORT_KEY_BYTES_MAX,
    };
    match bytes {
        0 => Some(KeyFault::Empty(kind)),
        bytes if bytes > max => Some(KeyFault::Length(role)),
        _ => None,
    }
}

/// Whether composite keys are within the limits of single ones.
pub(super) fn sizes_fit(keys: &IndexKeys, values: &[AttributeValue]) -> bool {
    let (partition, sort) = values.split_at(keys.partition.len().min(values.len()));
    let bytes = |values: &[AttributeValue]| values.iter().map(length_of).sum::<usize>();
    bytes(partition) <= PARTITION_KEY_BYTES_MAX && bytes(sort) <= SORT_KEY_BYTES_MAX
}

pub(super) fn length_of(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(bytes) => bytes.len(),
        _ => 0,
    }
}

impl IndexDefinition {
    /// What it cannot take among attributes of an item.
    fn faults_of<'i>(
        &self,
        attribute: impl Fn(&str) -> Option<&'i AttributeValue>,
    ) -> impl Iterator<Item = IndexKeyFault<'_>> {
        self.keys.all().filter_map(move |(key, role)| {
            let fault = key_fault(key, role, attribute(&key.name)?)?;
            Some(IndexKeyFault {
                index: &self.name,
                key,
                fault,
            })
        })
    }
}

impl TableDefinition {
    /// The fault of the first index by name, as DynamoDB tells it.
    fn first_fault<'i>(
        &self,
        attribute: impl Fn(&str) -> Option<&'i AttributeValue> + Copy,
        counts: impl Fn(KeyFault) -> bool + Copy,
    ) -> Option<IndexKeyFault<'_>> {
        let faults = self.indexes.iter().filter_map(|index| {
            let mut faults = index.faults_of(attribute);
            faults.find(|fault| counts(fault.fault))
        });
        faults.min_by_key(|fault| fault.index)
    }

    /// Refuses an item that has a key attribute of an index with a value that cannot be one; `told` says in which words.
    pub fn check_index_keys(
        &self,
        item: &Item,
        told: fn(&IndexKeyFault<'_>) -> ApiError,
    ) -> Result<(), ApiError> {
        let fault = self.first_fault(|name| item.get(name), |_| true);
        fault.map_or(Ok(()), |fault| Err(told(&fault)))
    }

    /// Refuses an item that is put with an empty key attribute of an index, whatever else is wrong with it.
    pub fn check_index_keys_not_empty(&self, item: &Item) -> Result<(), ApiError> {
        let empty = |fault| matches!(fault, KeyFault::Empty(_));
        let fault = self.first_fault(|name| item.get(name), empty);
        fault.map_or(Ok(()), |fault| Err(fault.of_item()))
    }

    /// Refuses an update that sets a key attribute of an index to this value, which is empty.
    pub fn check_set_not_empty(&self, name: &str, value: &AttributeValue) -> Result<(), ApiError> {
        let empty = |fault| matches!(fault, KeyFault::Empty(_));
        let fault = self.first_fault(|key| (key == name).then_some(value), empty);
        fault.map_or(Ok(()), |fault| Err(fault.of_update()))
    }
}
