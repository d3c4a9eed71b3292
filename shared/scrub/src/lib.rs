//! What scrubs compare: the canonical digest of a replica's items, and where digests differ. Pure: pairs and digests come in, buckets and
//! verdicts come out. Never reads a B-tree, never says what is to be done about a difference.

mod compare;
mod digest;
mod verdict;

pub use compare::{Difference, differences, differing_keys};
pub use digest::{Digester, key_digest};
pub use verdict::{Side, Verdict, verdict};
