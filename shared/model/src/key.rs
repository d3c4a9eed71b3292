//! Order-preserving keys. An encoded key is
//! `table id (8, big endian) ‖ index id (2) ‖ SHA-256 of the encoded partition key (32) ‖ sort key (order-preserving, last)`,
//! so that byte order is (table, index, item collection, sort key) order (docs/adr/0001-key-encoding.md). At most 1,066 bytes,
//! which is under LMDB's limit with longer keys (1,982). Owns keys, key validation and key ranges; never looks at an item's
//! other attributes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::texts;
use crate::table::{KeyAttribute, KeySchema, ScalarType};
use crate::{ApiError, AttributeValue, IndexId, Item, TableDefinition, TableId, size};

/// An encoded key or key-range bound.
pub type EncodedKey = Bytes;

/// Largest value of a partition key, in bytes.
pub const PARTITION_KEY_BYTES_MAX: usize = 2048;
/// Largest value of a sort key, in bytes.
pub const SORT_KEY_BYTES_MAX: usize = 1024;
/// Length of the part of a key that all items of a collection share, in bytes.
pub const COLLECTION_BYTES: usize = HASH_AT + 32;
/// Longest encoded key, in bytes.
pub const ENCODED_KEY_BYTES_MAX: usize = COLLECTION_BYTES + SORT_KEY_BYTES_MAX;

/// Where the hash starts: behind table id and index id.
const HASH_AT: usize = 10;

/// A contiguous range of encoded keys: `start` inclusive, `end` exclusive; an empty `end` means "to the end of the key space".
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    pub fn intersection(&self, other: &Self) -> Self {
        let start = self.start.clone().max(other.start.clone());
        let end = match (self.end.is_empty(), other.end.is_empty()) {
            (true, _) => other.end.clone(),
            (_, true) => self.end.clone(),
            _ => self.end.clone().min(other.end.clone()),
        };
        Self { start, end }
    }

    /// Whether some key lies in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.is_empty() && !other.is_empty() && !self.intersection(other).is_empty()
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

/// Which part of the key an attribute is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRole {
    /// Partition (HASH) key.
    Partition,
    /// Sort (RANGE) key.
    Sort,
}

// Validation

/// Checks a value of the right type for a key attribute: not empty, not too long.
pub fn check_key_value(
    attribute: &KeyAttribute,
    role: KeyRole,
    value: &AttributeValue,
) -> Result<(), ApiError> {
    let (length, what) = match value {
        AttributeValue::S(text) => (text.len(), "string"),
        AttributeValue::B(bytes) => (bytes.len(), "binary"),
        // Numbers are never empty nor long.
        _ => return Ok(()),
    };
    if length == 0 {
        return Err(ApiError::validation(texts::empty_key(
            what,
            &attribute.name,
        )));
    }
    match role {
        KeyRole::Partition if length > PARTITION_KEY_BYTES_MAX => {
            Err(ApiError::validation(texts::PARTITION_KEY_SIZE))
        }
        KeyRole::Sort if length > SORT_KEY_BYTES_MAX => {
            Err(ApiError::validation(texts::SORT_KEY_SIZE))
        }
        _ => Ok(()),
    }
}

/// Refuses an item, or a `Key`, with a key attribute that is an empty string or binary, whatever else is wrong with it.
pub fn check_keys_not_empty(table: &TableDefinition, item: &Item) -> Result<(), ApiError> {
    for (attribute, role) in key_attributes(&table.keys) {
        match item.get(&attribute.name) {
            Some(value) if has_key_type(attribute, value) && size::value_size(value) == 0 => {
                check_key_value(attribute, role, value)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a value has the type of a key attribute.
pub fn has_key_type(attribute: &KeyAttribute, value: &AttributeValue) -> bool {
    matches!(
        (attribute.kind, value),
        (ScalarType::S, AttributeValue::S(_))
            | (ScalarType::N, AttributeValue::N(_))
            | (ScalarType::B, AttributeValue::B(_))
    )
}

/// Partition key and sort key, in this order.
fn key_attributes(keys: &KeySchema) -> impl Iterator<Item = (&KeyAttribute, KeyRole)> {
    std::iter::once((&keys.partition, KeyRole::Partition))
        .chain(keys.sort.as_ref().map(|sort| (sort, KeyRole::Sort)))
}

/// Key of a whole item to be put; the item has all key attributes with valid values.
pub fn key_from_item(table: &TableDefinition, item: &Item) -> Result<EncodedKey, ApiError> {
    for (attribute, role) in key_attributes(&table.keys) {
        let name = &attribute.name;
        let value = item
            .get(name)
            .ok_or_else(|| ApiError::validation(texts::missing_key(name)))?;
        if !has_key_type(attribute, value) {
            let expected = attribute.kind.as_str();
            let text = texts::key_type(name, expected, value.type_name());
            return Err(ApiError::validation(text));
        }
        check_key_value(attribute, role, value)?;
    }
    encode_checked(table, item)
}

/// Key from a `Key` parameter, which must hold the key attributes and nothing else.
pub fn key_from_key(table: &TableDefinition, key: &Item) -> Result<EncodedKey, ApiError> {
    let mismatch = || ApiError::validation(texts::KEY_SCHEMA);
    if key.len() != 1 + usize::from(table.keys.sort.is_some()) {
        return Err(mismatch());
    }
    for (attribute, role) in key_attributes(&table.keys) {
        let value = key.get(&attribute.name).ok_or_else(mismatch)?;
        if !has_key_type(attribute, value) {
            return Err(mismatch());
        }
        check_key_value(attribute, role, value)?;
    }
    encode_checked(table, key)
}

/// Encodes the key of an item whose key attributes have been checked.
fn encode_checked(table: &TableDefinition, item: &Item) -> Result<EncodedKey, ApiError> {
    let missing = || ApiError::validation(texts::KEY_SCHEMA);
    let partition = item.get(&table.keys.partition.name).ok_or_else(missing)?;
    let sort = match &table.keys.sort {
        Some(sort) => Some(item.get(&sort.name).ok_or_else(missing)?),
        None => None,
    };
    encode_item_key(table, partition, sort)
}

/// Encodes the key of an item of a table from its values.
pub fn encode_item_key(
    table: &TableDefinition,
    partition: &AttributeValue,
    sort: Option<&AttributeValue>,
) -> Result<EncodedKey, ApiError> {
    let mut key = item_collection(table, partition)?;
    if let Some(sort) = sort {
        put_sort(sort, &mut key)?;
    }
    Ok(Bytes::from(key))
}

/// First bytes of the keys of a collection's items. Where a table has local secondary indexes, items and entries of each index follow each
/// other in a collection, told apart by a byte: 0 for items.
fn item_collection(
    table: &TableDefinition,
    partition: &AttributeValue,
) -> Result<Vec<u8>, ApiError> {
    let mut key = collection(table.id, IndexId(0), partition)?;
    if table.has_local_indexes() {
        key.push(0);
    }
    Ok(key)
}

/// The key attributes of an item (what LastEvaluatedKey and UpdateItem on a new item need).
pub fn key_item(table: &TableDefinition, item: &Item) -> Item {
    key_attributes(&table.keys)
        .filter_map(|(attribute, _)| {
            let value = item.get(&attribute.name)?;
            Some((attribute.name.clone(), value.clone()))
        })
        .collect()
}

// Encoding

/// Encodes a key from its values. Values of other types than S, N and B, and such as are too long, are a
/// ValidationException.
pub fn encode_key(
    table: TableId,
    index: IndexId,
    partition: &AttributeValue,
    sort: Option<&AttributeValue>,
) -> Result<EncodedKey, ApiError> {
    let mut key = collection(table, index, partition)?;
    if let Some(sort) = sort {
        put_sort(sort, &mut key)?;
    }
    Ok(Bytes::from(key))
}

/// First bytes of all keys of an item collection (42 bytes).
pub fn collection_prefix(
    table: TableId,
    index: IndexId,
    partition: &AttributeValue,
) -> Result<EncodedKey, ApiError> {
    collection(table, index, partition).map(Bytes::from)
}

pub(crate) fn collection(
    table: TableId,
    index: IndexId,
    partition: &AttributeValue,
) -> Result<Vec<u8>, ApiError> {
    let mut key = Vec::with_capacity(128);
    key.extend_from_slice(&table.0.to_be_bytes());
    key.extend_from_slice(&index.0.to_be_bytes());
    let mut hash = Sha256::new();
    // The type letter keeps equal bytes of different types apart.
    match partition {
        AttributeValue::S(text) => {
            hash.update(b"S");
            hash.update(text);
        }
        AttributeValue::B(bytes) => {
            hash.update(b"B");
            hash.update(bytes);
        }
        AttributeValue::N(number) => {
            let mut encoded = Vec::with_capacity(24);
            encoded.push(b'N');
            number.encode_into(&mut encoded);
            hash.update(&encoded);
        }
        _ => return Err(ApiError::validation(texts::KEY_SCHEMA)),
    }
    key.extend_from_slice(&hash.finalize());
    Ok(key)
}

pub(crate) fn put_sort(sort: &AttributeValue, key: &mut Vec<u8>) -> Result<(), ApiError> {
    let bytes: &[u8] = match sort {
        AttributeValue::S(text) => text.as_bytes(),
        AttributeValue::B(bytes) => bytes,
        AttributeValue::N(number) => {
            number.encode_into(key);
            return Ok(());
        }
        _ => return Err(ApiError::validation(texts::KEY_SCHEMA)),
    };
    // Also holds for values of key conditions, so that no encoded key outgrows the B-tree's limit.
    if bytes.len() > SORT_KEY_BYTES_MAX {
        return Err(ApiError::validation(texts::SORT_KEY_SIZE));
    }
    key.extend_from_slice(bytes);
    Ok(())
}

/// The table that a key belongs to; none if this is no encoded key.
pub fn table_of(key: &[u8]) -> Option<TableId> {
    key.first_chunk::<8>()
        .map(|id| TableId(u64::from_be_bytes(*id)))
}

// Ranges

/// The smallest key that is greater than all keys that start with `prefix`; empty if there is none.
pub fn behind_prefix(prefix: &[u8]) -> EncodedKey {
    match prefix.iter().rposition(|byte| *byte < 0xff) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            Bytes::from(end)
        }
        None => Bytes::new(),
    }
}

/// The smallest key that is greater than `key`.
fn behind(mut key: Vec<u8>) -> EncodedKey {
    key.push(0);
    Bytes::from(key)
}

pub(crate) fn prefix_range(prefix: Vec<u8>) -> KeyRange {
    let end = behind_prefix(&prefix);
    KeyRange {
        start: Bytes::from(prefix),
        end,
    }
}

/// The keys of an item collection.
pub fn collection_range(
    table: TableId,
    index: IndexId,
    partition: &AttributeValue,
) -> Result<KeyRange, ApiError> {
    collection(table, index, partition).map(prefix_range)
}

/// The keys of a table's items with this partition key, that satisfy a condition on the sort key if there is one.
pub fn items_range(
    table: &TableDefinition,
    partition: &AttributeValue,
    bound: Option<SortBound<'_>>,
) -> Result<KeyRange, ApiError> {
    let prefix = item_collection(table, partition)?;
    match bound {
        Some(bound) => bounded(prefix, bound),
        None => Ok(prefix_range(prefix)),
    }
}

/// The keys of an item collection that satisfy a condition on the sort key.
pub fn sort_range(
    table: TableId,
    index: IndexId,
    partition: &AttributeValue,
    bound: SortBound<'_>,
) -> Result<KeyRange, ApiError> {
    bounded(collection(table, index, partition)?, bound)
}

fn bounded(prefix: Vec<u8>, bound: SortBound<'_>) -> Result<KeyRange, ApiError> {
    let with = |sort: &AttributeValue| {
        let mut key = prefix.clone();
        put_sort(sort, &mut key)?;
        Ok::<_, ApiError>(key)
    };
    let first = || Bytes::copy_from_slice(&prefix);
    let end = || behind_prefix(&prefix);
    let (start, end) = match bound {
        SortBound::Equal(sort) => {
            let key = with(sort)?;
            (Bytes::copy_from_slice(&key), behind(key))
        }
        SortBound::Less(sort) => (first(), Bytes::from(with(sort)?)),
        SortBound::LessOrEqual(sort) => (first(), behind(with(sort)?)),
        SortBound::Greater(sort) => (behind(with(sort)?), end()),
        SortBound::GreaterOrEqual(sort) => (Bytes::from(with(sort)?), end()),
        SortBound::Between(low, high) => (Bytes::from(with(low)?), behind(with(high)?)),
        // A number has no beginning; the expression was refused before it could come here.
        SortBound::BeginsWith(AttributeValue::N(_)) => {
            return Err(ApiError::validation(texts::KEY_SCHEMA));
        }
        SortBound::BeginsWith(sort) => return Ok(prefix_range(with(sort)?)),
    };
    Ok(KeyRange { start, end })
}

/// All keys of a table's base data and indexes.
pub fn table_range(table: TableId) -> KeyRange {
    prefix_range(table.0.to_be_bytes().to_vec())
}

/// All keys of one index of a table (0 = the base table).
pub fn index_range(table: TableId, index: IndexId) -> KeyRange {
    prefix_range(index_prefix(table, index))
}

pub(crate) fn index_prefix(table: TableId, index: IndexId) -> Vec<u8> {
    let mut prefix = table.0.to_be_bytes().to_vec();
    prefix.extend_from_slice(&index.0.to_be_bytes());
    prefix
}

/// First key of share `share` of `total` equal shares of an index's hash space.
fn share_start(table: TableId, index: IndexId, share: u32, total: u32) -> EncodedKey {
    let mut start = index_prefix(table, index);
    // share < total, so the quotient is below 2^64.
    let hash = (u128::from(share) << 64) / u128::from(total);
    start.extend_from_slice(&(hash as u64).to_be_bytes());
    Bytes::from(start)
}

/// A table's keys in `n` contiguous ranges that have equal shares of the base table's hash space, in order; together they
/// are `table_range` (what lies behind the base table is in the last one). `n` = 0 counts as 1.
pub fn split_table_range(table: TableId, n: u32) -> Vec<KeyRange> {
    let n = n.max(1);
    let whole = table_range(table);
    (0..n)
        .map(|share| KeyRange {
            start: match share {
                0 => whole.start.clone(),
                _ => share_start(table, IndexId(0), share, n),
            },
            end: match share + 1 {
                next if next == n => whole.end.clone(),
                next => share_start(table, IndexId(0), next, n),
            },
        })
        .collect()
}

/// The keys of segment `segment` (from 0) of `total` of a parallel scan; empty if there is no such segment.
pub fn segment_range(table: TableId, index: IndexId, segment: u32, total: u32) -> KeyRange {
    let whole = index_range(table, index);
    if segment >= total {
        // Not at the index's end, which may be the empty bound.
        return KeyRange {
            start: whole.start.clone(),
            end: whole.start,
        };
    }
    KeyRange {
        start: match segment {
            0 => whole.start,
            _ => share_start(table, index, segment, total),
        },
        end: match segment + 1 {
            next if next == total => whole.end,
            next => share_start(table, index, next, total),
        },
    }
}

/// The segment of `total` that a key belongs to; none if this is no whole key or there are no segments.
pub fn segment_of(key: &[u8], total: u32) -> Option<u32> {
    let hash = key.get(HASH_AT..COLLECTION_BYTES)?.first_chunk::<8>()?;
    let hash = u128::from(u64::from_be_bytes(*hash));
    // The greatest share whose start, share × 2^64 / total rounded down, is not above the hash.
    let share = ((hash + 1) * u128::from(total)).checked_sub(1)? >> 64;
    u32::try_from(share).ok()
}

/// How much of an index's hash space a range has, in 2^64ths of it. The range lies within one index's keys, or reaches from before them
/// or to behind them.
pub fn hash_width(range: &KeyRange) -> u128 {
    let (start, end) = hash_bounds(range);
    end.saturating_sub(start)
}

/// The point that halves a range's share of the hash space; none if there is no point between two item collections inside of it.
pub fn hash_middle(range: &KeyRange) -> Option<EncodedKey> {
    let (start, end) = hash_bounds(range);
    let middle = start + end.saturating_sub(start) / 2;
    let table = table_of(&range.start)?;
    let mut point = index_prefix(table, IndexId(0));
    point.extend_from_slice(&u64::try_from(middle).ok()?.to_be_bytes());
    let inside = point[..] > range.start[..] && range.contains(&point);
    inside.then(|| Bytes::from(point))
}

/// Where a range starts and ends in the hash space of its table's base data.
fn hash_bounds(range: &KeyRange) -> (u128, u128) {
    let whole = 1u128 << 64;
    let Some(table) = table_of(&range.start) else {
        return (0, whole);
    };
    let base = index_range(table, IndexId(0));
    let hash = |bound: &[u8], behind: u128| {
        if bound.is_empty() || !base.end.is_empty() && *bound >= base.end[..] {
            return behind;
        }
        let mut hash = [0; 8];
        for (byte, of) in hash.iter_mut().zip(bound.iter().skip(HASH_AT)) {
            *byte = *of;
        }
        u128::from(u64::from_be_bytes(hash))
    };
    (hash(&range.start, whole), hash(&range.end, whole))
}
