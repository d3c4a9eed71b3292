//! Full copies of a replica's B-tree between nodes: `source` serves them, `receiver` pulls them. Owns sessions and files. Never
//! decides that a copy is needed (`paxos` does), never sends anything itself; runs on threads of its own, never on a shard's.

pub mod receiver;
pub mod source;
#[cfg(test)]
mod tests;

pub use receiver::{CopyError, Incoming, ReceiveOptions, receive, tidy};
pub use source::{Busy, CopySource, SourceOptions};

use bytes::Bytes;

/// CRC32C over all keys and values of a chunk.
fn chunk_crc(pairs: &[(Bytes, Bytes)]) -> u32 {
    pairs.iter().fold(0, |crc, (key, item)| {
        crc32c::crc32c_append(crc32c::crc32c_append(crc, key), item)
    })
}
