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
            KeyFault::Length(_) => self.of_item(),
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
    /// What an item with this key attribute value is refused for; none: nothing.
    pub fn fault_of(&self, item: &Item) -> Option<IndexKeyFault<'_>> {
        for (key, role) in self.keys.all() {
            if let Some(value) = item.get(&key.name)
                && let Some(fault) = key_fault(key, role, value)
            {
                return Some(IndexKeyFault {
                    index: &self.name,
                    key,
                    fault,
                });
            }
        }
        None
    }
}

impl TableDefinition {
    /// Refuses an item that has a key attribute of an index with a value that cannot be one.
    pub fn check_index_keys(&self, item: &Item) -> Result<(), ApiError> {
        let mut faults = self.indexes.iter().filter_map(|index| index.fault_of(item));
        faults.next().map_or(Ok(()), |fault| Err(fault.of_item()))
    }

    /// Same, of an item that an update makes.
    pub fn check_updated_index_keys(&self, item: &Item) -> Result<(), ApiError> {
        let mut faults = self.indexes.iter().filter_map(|index| index.fault_of(item));
        faults.next().map_or(Ok(()), |fault| Err(fault.of_update()))
    }
}
