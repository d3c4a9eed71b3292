//! How values are stored: each with its checksum, since LMDB has none. Owns the two encodings, of items and of the state.

use std::path::Path;

use partition::PartitionState;

use super::error::TreeError;

/// Format version of the stored state, and so of the whole B-tree.
/// Version 2 says which transaction wrote the state.
const VERSION: u8 = 2;
pub(super) const CRC_BYTES: usize = 4;

fn crc(key: &[u8], item: &[u8]) -> [u8; CRC_BYTES] {
    crc32c::crc32c_append(crc32c::crc32c(key), item).to_le_bytes()
}

/// Writes the stored form of an item into `out`.
pub(super) fn seal(key: &[u8], item: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&crc(key, item));
    out.extend_from_slice(item);
}

/// The item in its stored form, if it is what was written under this key.
pub(super) fn open<'a>(path: &Path, key: &[u8], stored: &'a [u8]) -> Result<&'a [u8], TreeError> {
    match stored.split_first_chunk::<CRC_BYTES>() {
        Some((found, item)) if *found == crc(key, item) => Ok(item),
        _ => Err(TreeError::corrupt(
            path,
            format!("checksum of item {key:02x?}"),
        )),
    }
}

/// Size of an item as DynamoDB counts it.
pub(super) fn item_bytes(path: &Path, key: &[u8], item: &[u8]) -> Result<u64, TreeError> {
    model::codec::encoded_item_size(item)
        .map_err(|error| TreeError::corrupt(path, format!("item {key:02x?}: {error}")))
}

/// The stored form of a state that is written in LMDB's transaction of this number.
pub(super) fn encode_state(
    path: &Path,
    state: &PartitionState,
    transaction: u64,
) -> Result<Vec<u8>, TreeError> {
    let mut body = transaction.to_le_bytes().to_vec();
    rmp_serde::encode::write_named(&mut body, state)
        .map_err(|error| TreeError::corrupt(path, format!("state cannot be encoded: {error}")))?;
    let mut stored = vec![VERSION];
    stored.extend_from_slice(&crc(&[VERSION], &body));
    stored.extend_from_slice(&body);
    Ok(stored)
}

/// The state in its stored form, and the transaction that wrote it (version 1 did not say).
pub(super) fn decode_state(
    path: &Path,
    stored: &[u8],
) -> Result<(PartitionState, Option<u64>), TreeError> {
    let (version, rest) = stored
        .split_first()
        .ok_or_else(|| TreeError::corrupt(path, "the state is empty"))?;
    if *version > VERSION {
        let what = format!("format version {version}, this program understands {VERSION}");
        return Err(TreeError::corrupt(path, what));
    }
    let body = match rest.split_first_chunk::<CRC_BYTES>() {
        Some((found, body)) if *found == crc(&[*version], body) => body,
        _ => return Err(TreeError::corrupt(path, "checksum of the state")),
    };
    let (transaction, body) = match body.split_first_chunk() {
        Some((transaction, body)) if *version > 1 => (Some(u64::from_le_bytes(*transaction)), body),
        _ => (None, body),
    };
    rmp_serde::from_slice(body)
        .map(|state| (state, transaction))
        .map_err(|error| TreeError::corrupt(path, format!("state cannot be decoded: {error}")))
}
