//! The storage behind a partition, as the partition sees it: an ordered map of encoded keys to encoded items that holds
//! everything up to some log position. Owns the trait only; the shell implements it (LMDB), tests use a map.

use std::ops::ControlFlow;

use bytes::Bytes;
use model::KeyRange;

/// The B-tree could not be read (I/O error, corruption). The replica must be fenced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BTreeError(pub String);

impl std::fmt::Display for BTreeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "B-tree: {}", self.0)
    }
}
impl std::error::Error for BTreeError {}

/// Gets one pair of key and item after the other, and says whether to go on.
pub type Visitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Ordered storage of a replica's items. Reads only: writes go through [`crate::Batch`].
pub trait BTree {
    /// The item under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BTreeError>;

    /// Visits the pairs whose keys lie in `range` in ascending order (descending if `reverse`), without copying them, until
    /// the visitor breaks. An empty `range.end` means "to the end".
    fn scan(&self, range: &KeyRange, reverse: bool, visitor: Visitor<'_>)
    -> Result<(), BTreeError>;
}
