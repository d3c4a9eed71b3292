//! Order-preserving keys. An encoded key is
//! `table id (8, big endian) ‖ index id (2) ‖ SHA-256 of the encoded partition key (32) ‖ sort key (order-preserving, last)`,
//! so that byte order is (table, index, item collection, sort key) order (docs/adr/0001-key-encoding.md). At most 1,066 bytes,
//! which is under LMDB's limit with longer keys (1,982).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{ApiError, AttributeValue, IndexId, Item, TableDefinition, TableId};

/// An encoded key or key-range bound.
pub type EncodedKey = Bytes;

/// A contiguous range of encoded keys: `start` inclusive, `end` exclusive; an empty `end` means "to the end of the key space".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyRange {
    /// First key in the range.
    pub start: EncodedKey,
    /// First key behind the range.
    pub end: EncodedKey,
}

impl KeyRange {
    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && (self.end.is_empty() || key < &self.end[..])
    }
    /// Whether no key can lie in the range.
    pub fn is_empty(&self) -> bool {
        !self.end.is_empty() && self.start >= self.end
    }
    /// The keys that lie in both ranges (possibly an empty range).
    pub fn intersection(&self, _other: &Self) -> Self {
        todo!()
    }
    /// Whether some key lies in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.intersection(other).is_empty()
    }
}

/// A condition on the sort key; values must have the sort key's type.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum SortBound<'a> {
    Equal(&'a AttributeValue),
    Less(&'a AttributeValue),
    LessOrEqual(&'a AttributeValue),
    Greater(&'a AttributeValue),
    GreaterOrEqual(&'a AttributeValue),
    Between(&'a AttributeValue, &'a AttributeValue),
    BeginsWith(&'a AttributeValue),
}

/// Encodes a key from its values. Values of other types than S, N and B are a ValidationException.
pub fn encode_key(_t: TableId, _i: IndexId, _partition: &AttributeValue, _sort: Option<&AttributeValue>) -> Result<EncodedKey, ApiError> {
    todo!()
}
/// Key of a whole item to be put.
pub fn key_from_item(_table: &TableDefinition, _item: &Item) -> Result<EncodedKey, ApiError> {
    todo!()
}
/// Key from a `Key` parameter, which must hold the key attributes and nothing else.
pub fn key_from_key(_table: &TableDefinition, _key: &Item) -> Result<EncodedKey, ApiError> {
    todo!()
}
/// The key attributes of an item (what LastEvaluatedKey and UpdateItem on a new item need).
pub fn key_item(_table: &TableDefinition, _item: &Item) -> Item {
    todo!()
}
/// First bytes of all keys of an item collection (42 bytes).
pub fn collection_prefix(_t: TableId, _i: IndexId, _partition: &AttributeValue) -> Result<EncodedKey, ApiError> {
    todo!()
}
/// The keys of an item collection.
pub fn collection_range(_t: TableId, _i: IndexId, _partition: &AttributeValue) -> Result<KeyRange, ApiError> {
    todo!()
}
/// The keys of an item collection that satisfy a condition on the sort key.
pub fn sort_range(_t: TableId, _i: IndexId, _partition: &AttributeValue, _bound: SortBound<'_>) -> Result<KeyRange, ApiError> {
    todo!()
}
/// All keys of a table's base data and indexes.
pub fn table_range(_t: TableId) -> KeyRange {
    todo!()
}
/// All keys of one index of a table (0 = the base table).
pub fn index_range(_t: TableId, _i: IndexId) -> KeyRange {
    todo!()
}
/// The base table's keys in `n` contiguous ranges of equal shares of the hash space, in order; together they are `table_range`.
pub fn split_table_range(_t: TableId, _n: u32) -> Vec<KeyRange> {
    todo!()
}
/// The keys of segment `segment` (from 0) of `total` of a parallel scan.
pub fn segment_range(_t: TableId, _i: IndexId, _segment: u32, _total: u32) -> KeyRange {
    todo!()
}
/// The segment that a key belongs to.
pub fn segment_of(_key: &[u8], _total: u32) -> Option<u32> {
    todo!()
}
