//! Hashes of content. An entry's hash is a 128-bit prefix of SHA-256 over its key and version; a subtree's hash is the sum of
//! its entries' hashes modulo 2^128. So a hash depends on the content alone, never on the shape of the tree or the order of
//! updates, and an update changes it by one subtraction and one addition.

use std::ops::{AddAssign, SubAssign};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Hash of a set of entries; that of no entries is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(
    from = "serde_bytes::ByteArray<16>",
    into = "serde_bytes::ByteArray<16>"
)]
pub struct Hash(u128);

impl Hash {
    /// The hash of one entry. The key's length goes first, so that no bytes can move between key and version.
    pub(crate) fn of(key: &[u8], version: &[u8]) -> Self {
        let mut digest = Sha256::new();
        digest.update((key.len() as u32).to_le_bytes());
        digest.update(key);
        digest.update(version);
        let bytes = digest.finalize();
        let mut first = [0; 16];
        first.copy_from_slice(&bytes[..16]);
        Self::from_bytes(first)
    }

    /// As bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// From bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }

    /// A part of it that a metric can carry exactly (a double has 53 bits).
    pub fn short(self) -> u64 {
        self.0 as u64 >> 11
    }
}

impl AddAssign for Hash {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl SubAssign for Hash {
    fn sub_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_sub(other.0);
    }
}

impl From<serde_bytes::ByteArray<16>> for Hash {
    fn from(bytes: serde_bytes::ByteArray<16>) -> Self {
        Self::from_bytes(bytes.into_array())
    }
}

impl From<Hash> for serde_bytes::ByteArray<16> {
    fn from(hash: Hash) -> Self {
        Self::new(hash.to_bytes())
    }
}
