//! The digest of items in key order: one SHA-256 a bucket. Where a bucket ends is said by its last key alone, so equal items give equal
//! buckets wherever they are read, and an item that is missing or too much moves one boundary at most.

use bytes::Bytes;
use protocol::scrub::Bucket;
use sha2::{Digest as _, Sha256};

/// A key ends a bucket when these bits of its hash are zero: about a thousand items a bucket. Part of the format: replicas of different
/// versions must agree.
const BOUNDARY_MASK: u32 = (1 << 10) - 1;

/// Bytes of a single item's digest.
const KEY_DIGEST_BYTES: usize = 16;

fn ends_bucket(key: &[u8]) -> bool {
    // The checksum of a key that differs in its last bits only still differs in many.
    crc32c::crc32c(key) & BOUNDARY_MASK == 0
}

/// Digests items that come in key order.
#[derive(Default)]
pub struct Digester {
    buckets: Vec<Bucket>,
    hash: Sha256,
    last: Option<Bytes>,
    items: u64,
    bytes: u64,
    items_total: u64,
    bytes_total: u64,
}

impl Digester {
    /// The next item. False: its key is not greater than the one before, and nothing was done.
    #[must_use]
    pub fn add(&mut self, key: &Bytes, item: &[u8]) -> bool {
        let before = self.last.as_ref();
        let before = before.or_else(|| self.buckets.last().map(|bucket| &bucket.last));
        if before.is_some_and(|before| before >= key) {
            return false;
        }
        for part in [&key[..], item] {
            // Longer than 4 GiB is neither.
            self.hash.update((part.len() as u32).to_be_bytes());
            self.hash.update(part);
        }
        self.last = Some(key.clone());
        self.items += 1;
        self.bytes += (key.len() + item.len()) as u64;
        if ends_bucket(key) {
            self.end_bucket();
        }
        true
    }

    fn end_bucket(&mut self) {
        let Some(last) = self.last.take() else { return };
        self.items_total += self.items;
        self.bytes_total += self.bytes;
        self.buckets.push(Bucket {
            last,
            items: std::mem::take(&mut self.items),
            bytes: std::mem::take(&mut self.bytes),
            digest: Bytes::copy_from_slice(&self.hash.finalize_reset()),
        });
    }

    /// Items so far.
    pub fn items(&self) -> u64 {
        self.items_total + self.items
    }

    /// Bytes of keys and items so far.
    pub fn bytes(&self) -> u64 {
        self.bytes_total + self.bytes
    }

    /// There are no more.
    pub fn finish(mut self) -> Vec<Bucket> {
        self.end_bucket();
        self.buckets
    }
}

/// What stands for a single item in a listing.
pub fn key_digest(item: &[u8]) -> Bytes {
    let digest = Sha256::digest(item);
    Bytes::copy_from_slice(&digest[..KEY_DIGEST_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_must_ascend() {
        let mut digester = Digester::default();
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert!(digester.add(&key("b"), b"1"));
        assert!(!digester.add(&key("b"), b"1"));
        assert!(!digester.add(&key("a"), b"1"));
        assert!(digester.add(&key("c"), b""));
        assert_eq!((digester.items(), digester.bytes()), (2, 3));
        let buckets = digester.finish();
        let items: u64 = buckets.iter().map(|bucket| bucket.items).sum();
        assert_eq!((items, buckets.last().unwrap().last.clone()), (2, key("c")));
    }

    #[test]
    fn keys_and_items_do_not_run_into_each_other() {
        let digest = |key: &'static str, item: &'static str| {
            let mut digester = Digester::default();
            assert!(digester.add(&Bytes::from_static(key.as_bytes()), item.as_bytes()));
            digester.finish().remove(0).digest
        };
        assert_ne!(digest("ab", "c"), digest("a", "bc"));
    }

    #[test]
    fn numbers_as_keys_make_buckets_of_about_a_thousand() {
        let mut digester = Digester::default();
        for number in 0..100_000_u64 {
            assert!(digester.add(&Bytes::copy_from_slice(&number.to_be_bytes()), b"x"));
        }
        let buckets = digester.finish().len();
        assert!((70..140).contains(&buckets), "{buckets}");
    }
}
