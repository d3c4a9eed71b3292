//! The form of the keys of an index's entries: order-preserving, and such that each says where its values end.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::IndexDefinition;
use super::fault::length_of;
use crate::codec::attributes;
use crate::error::texts;
use crate::key::{self, KeyRange, SORT_KEY_BYTES_MAX, SortBound, behind_prefix, prefix_range};
use crate::{ApiError, AttributeValue, EncodedKey, IndexId, TableDefinition};

/// Length of the digest of the base table's key that ends the key of an entry, bytes.
const DIGEST_BYTES: usize = 32;

impl IndexDefinition {
    /// The key of an entry. `values`: of the index's key attributes, in the order of `IndexKeys::all`; the others: of the table's.
    pub fn encode(
        &self,
        table: &TableDefinition,
        values: &[AttributeValue],
        partition: &AttributeValue,
        sort: Option<&AttributeValue>,
    ) -> Result<EncodedKey, ApiError> {
        let mut key = self.collection(table, values)?;
        for value in values.get(self.keys.partition.len()..).unwrap_or_default() {
            put_delimited(value, &mut key);
        }
        key.extend_from_slice(&base_digest(partition, sort)?);
        Ok(Bytes::from(key))
    }

    /// First bytes of the keys of all entries with these partition key values (what follows them is not looked at).
    pub fn collection(
        &self,
        table: &TableDefinition,
        values: &[AttributeValue],
    ) -> Result<Vec<u8>, ApiError> {
        let count = self.keys.partition.len();
        let id = self.global().map_or(table.id, |global| global.table);
        let mut key = match values.get(..count).unwrap_or_default() {
            [value] => key::collection(id, IndexId(0), value)?,
            values => {
                let mut key = key::index_prefix(id, IndexId(0));
                key.extend_from_slice(&hash_of(values)?);
                key
            }
        };
        key.extend(self.slot());
        Ok(key)
    }

    /// The keys of the entries whose first key attributes have these values (all of the partition key's, perhaps some of the sort key's) and
    /// whose next one satisfies a condition, if there is one. Values have the attributes' types.
    pub fn range(
        &self,
        table: &TableDefinition,
        values: &[AttributeValue],
        bound: Option<SortBound<'_>>,
    ) -> Result<KeyRange, ApiError> {
        let mut prefix = self.collection(table, values)?;
        for value in values.get(self.keys.partition.len()..).unwrap_or_default() {
            put_bounded(value, &mut prefix)?;
        }
        let Some(bound) = bound else {
            return Ok(prefix_range(prefix));
        };
        let with = |value: &AttributeValue| {
            let mut key = prefix.clone();
            put_bounded(value, &mut key)?;
            Ok::<_, ApiError>(key)
        };
        let first = || Bytes::copy_from_slice(&prefix);
        let end = || behind_prefix(&prefix);
        // No delimited value begins with another one: what is behind all keys that begin with a value is behind that value.
        let (start, end) = match bound {
            SortBound::Equal(value) => return Ok(prefix_range(with(value)?)),
            SortBound::Less(value) => (first(), Bytes::from(with(value)?)),
            SortBound::LessOrEqual(value) => (first(), behind_prefix(&with(value)?)),
            SortBound::Greater(value) => (behind_prefix(&with(value)?), end()),
            SortBound::GreaterOrEqual(value) => (Bytes::from(with(value)?), end()),
            SortBound::Between(low, high) => (Bytes::from(with(low)?), behind_prefix(&with(high)?)),
            SortBound::BeginsWith(value) => {
                let mut shared = prefix.clone();
                put_delimited_prefix(value, &mut shared);
                (Bytes::from(with(value)?), behind_prefix(&shared))
            }
        };
        Ok(KeyRange { start, end })
    }
}

fn hash_of(values: &[AttributeValue]) -> Result<[u8; 32], ApiError> {
    let mut hash = Sha256::new();
    for value in values {
        let mut encoded = Vec::with_capacity(32);
        let kind = match value {
            AttributeValue::S(text) => {
                encoded.extend_from_slice(text.as_bytes());
                b'S'
            }
            AttributeValue::B(bytes) => {
                encoded.extend_from_slice(bytes);
                b'B'
            }
            AttributeValue::N(number) => {
                number.encode_into(&mut encoded);
                b'N'
            }
            _ => return Err(ApiError::validation(texts::KEY_SCHEMA)),
        };
        hash.update([kind]);
        hash.update((encoded.len() as u64).to_be_bytes());
        hash.update(&encoded);
    }
    Ok(hash.finalize().into())
}

/// What tells entries of different items apart.
fn base_digest(
    partition: &AttributeValue,
    sort: Option<&AttributeValue>,
) -> Result<[u8; DIGEST_BYTES], ApiError> {
    match sort {
        Some(sort) => hash_of(&[partition.clone(), sort.clone()]),
        None => hash_of(std::slice::from_ref(partition)),
    }
}

/// Bytes of a group of a delimited string.
const GROUP: usize = 8;

/// Behind a group that another one follows.
const CONTINUED: u8 = 9;

/// Appends a value in an order-preserving form that says where it ends: numbers in theirs, strings and binary in groups of eight bytes,
/// each with a byte behind it: how many bytes of the group count, or that it goes on.
pub fn put_delimited(value: &AttributeValue, key: &mut Vec<u8>) {
    let bytes: &[u8] = match value {
        AttributeValue::S(text) => text.as_bytes(),
        AttributeValue::B(bytes) => bytes,
        AttributeValue::N(number) => return number.encode_into(key),
        _ => return,
    };
    let mut groups = bytes.chunks(GROUP).peekable();
    if groups.peek().is_none() {
        key.extend_from_slice(&[0; GROUP + 1]);
    }
    while let Some(group) = groups.next() {
        key.extend_from_slice(group);
        key.resize(key.len() + GROUP - group.len(), 0);
        key.push(match groups.peek() {
            Some(_) => CONTINUED,
            None => group.len() as u8,
        });
    }
}

/// Same, of a value of a condition, which may be too long.
fn put_bounded(value: &AttributeValue, key: &mut Vec<u8>) -> Result<(), ApiError> {
    if length_of(value) > SORT_KEY_BYTES_MAX {
        return Err(ApiError::validation(texts::SORT_KEY_SIZE));
    }
    put_delimited(value, key);
    Ok(())
}

/// Appends what all delimited forms of strings (or binary) that begin with this one begin with.
pub fn put_delimited_prefix(value: &AttributeValue, key: &mut Vec<u8>) {
    let bytes: &[u8] = match value {
        AttributeValue::S(text) => text.as_bytes(),
        AttributeValue::B(bytes) => bytes,
        _ => return,
    };
    let mut groups = bytes.chunks(GROUP).peekable();
    while let Some(group) = groups.next() {
        key.extend_from_slice(group);
        if groups.peek().is_some() {
            key.push(CONTINUED);
        }
    }
}

/// The key of the item that a local index's entry stands for; none: this is no entry.
pub fn item_key_of(entry: &[u8], value: &[u8]) -> Option<EncodedKey> {
    let mut key = entry.get(..key::COLLECTION_BYTES)?.to_vec();
    key.push(0);
    let sort = attributes(value).ok()?.next()?.ok()?.decode().ok()?;
    key::put_sort(&sort, &mut key).ok()?;
    Some(Bytes::from(key))
}
