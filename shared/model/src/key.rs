//! Order-preserving keys. An encoded key is
//! `table id (8, big endian) ‖ index id (2) ‖ SHA-256 of the encoded partition key (32) ‖ sort key (order-preserving, last)`,
//! so that byte order is (table, index, item collection, sort key) order (docs/adr/0001-key-encoding.md). At most 1,100 bytes,
//! which is under LMDB's limit with longer keys (1,982).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

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
}
// TODO(owner: model): encode_key(table, index, partition value, sort value), collection_prefix(…), sort-key bounds for
// key conditions (=, <, <=, >, >=, BETWEEN, begins_with) as KeyRange, table_range(table, index), split_table_range(table, n).
