//! Change records (ADR 0011): what a replica keeps of the changes of its items, and how they are read. Owns shapes and the layout of a record's
//! value; keys and rules are `partition`'s.

use bytes::{BufMut, Bytes, BytesMut};
use model::{EncodedKey, KeyRange};
pub use paxos::{GroupId, Index};
use serde::{Deserialize, Serialize};

/// Place of a change in its partition, and in all that were split off from it: log position and number within the command. Read behind
/// `(0, 0)` begins at the beginning.
pub type Place = (Index, u32);

const BY_SERVICE: u8 = 1;
const OLD_IMAGE: u8 = 2;
const FIXED_BYTES: usize = 18;
const TRACKED_BYTES: usize = 13;

/// What the leader adds to a write that is a change: behind the key, in place of the item.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracking<'a> {
    /// Creation of the stream that wants it, milliseconds since the epoch; 0: none does.
    pub stream: u64,
    /// The service makes the change, not a client: its time to live is over.
    pub by_service: bool,
    /// The item before, encoded, if there was one and it is wanted.
    pub old: Option<&'a [u8]>,
}

impl Tracking<'_> {
    /// Bytes of what `put` writes.
    pub fn len(&self, new: Option<&[u8]>) -> usize {
        TRACKED_BYTES + new.map_or(0, <[u8]>::len) + self.old.map_or(0, <[u8]>::len)
    }

    /// Writes it together with the new item:
    /// `flags (1) ‖ stream (8) ‖ length of the new image (4) ‖ new image ‖ old image (to the end)`.
    pub fn put(&self, new: Option<&[u8]>, out: &mut BytesMut) {
        let new = new.unwrap_or_default();
        out.put_u8(
            u8::from(self.by_service) * BY_SERVICE + u8::from(self.old.is_some()) * OLD_IMAGE,
        );
        out.put_u64(self.stream);
        out.put_u32(u32::try_from(new.len()).unwrap_or(u32::MAX));
        out.put_slice(new);
        out.put_slice(self.old.unwrap_or_default());
    }
}

/// What became of the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// There was none.
    Insert,
    /// It is another one.
    Modify,
    /// It is gone.
    Remove,
}

impl ChangeKind {
    /// DynamoDB's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Modify => "MODIFY",
            Self::Remove => "REMOVE",
        }
    }
}

/// A change, as its record holds it; everything shares the record's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRecord {
    /// When the leader made the command, milliseconds since the epoch; never less than in an earlier record of the partition.
    pub time_ms: u64,
    /// Encoded key of the item.
    pub key: EncodedKey,
    /// Creation of the stream that it belongs to, milliseconds since the epoch; 0 = none.
    pub stream: u64,
    /// What became of the item.
    pub kind: ChangeKind,
    /// The service's own deed.
    pub by_service: bool,
    /// The item afterwards, encoded; none: removed.
    pub new: Option<Bytes>,
    /// The item before, encoded; none: there was none, or nobody wanted it.
    pub old: Option<Bytes>,
}

impl ChangeRecord {
    /// Decodes a record's value: `time_ms (8) ‖ old size (4) ‖ new size (4) ‖ key length (2) ‖ key ‖` what [`Tracking::put`] writes. Any bytes are
    /// safe input.
    pub fn decode(value: &Bytes) -> Result<Self, String> {
        let short = || format!("a change record of only {} bytes", value.len());
        let (fixed, key_end) = fixed_and_key_end(value).ok_or_else(short)?;
        let tracked = value
            .get(key_end..key_end + TRACKED_BYTES)
            .ok_or_else(short)?;
        let new_at = key_end + TRACKED_BYTES;
        let old_at = new_at + be(&tracked[9..]) as usize;
        if value.len() < old_at {
            return Err(short());
        }
        let (old_size, new_size) = (be(&fixed[8..12]), be(&fixed[12..16]));
        let kind = match (old_size, new_size) {
            (0, _) => ChangeKind::Insert,
            (_, 0) => ChangeKind::Remove,
            _ => ChangeKind::Modify,
        };
        Ok(Self {
            time_ms: be(&fixed[..8]),
            key: value.slice(FIXED_BYTES..key_end),
            stream: be(&tracked[1..9]),
            kind,
            by_service: tracked[0] & BY_SERVICE != 0,
            new: (new_size > 0).then(|| value.slice(new_at..old_at)),
            old: (tracked[0] & OLD_IMAGE != 0).then(|| value.slice(old_at..)),
        })
    }
}

fn fixed_and_key_end(value: &[u8]) -> Option<(&[u8], usize)> {
    let fixed = value.get(..FIXED_BYTES)?;
    let key_end = FIXED_BYTES + be(&fixed[16..]) as usize;
    (value.len() >= key_end).then_some((fixed, key_end))
}

/// The item's key in a record's value.
pub fn key_of(value: &[u8]) -> Option<&[u8]> {
    let (_, key_end) = fixed_and_key_end(value)?;
    value.get(FIXED_BYTES..key_end)
}

/// Time and stream in a record's value.
pub fn time_and_stream_of(value: &[u8]) -> Option<(u64, u64)> {
    let (fixed, key_end) = fixed_and_key_end(value)?;
    let stream = value.get(key_end + 1..key_end + 9)?;
    Some((be(&fixed[..8]), be(stream)))
}

/// Where the new image lies in what [`Tracking::put`] wrote: from here on, so many bytes.
pub fn new_image_in(tracked: &[u8]) -> Option<(usize, usize)> {
    let bytes = be(tracked.get(9..TRACKED_BYTES)?) as usize;
    (tracked.len() >= TRACKED_BYTES + bytes).then_some((TRACKED_BYTES, bytes))
}

fn be(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// What a partition knows of its change records, beside them. Part of its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeState {
    /// Records.
    #[serde(default)]
    pub count: u64,
    /// Bytes of their keys and values.
    #[serde(default)]
    pub bytes: u64,
    /// Records up to this position are gone.
    #[serde(default)]
    pub trimmed: Index,
    /// Everything up to this position has been propagated to the global indexes.
    #[serde(default)]
    pub acknowledged: Index,
    /// The partitions that this one descends from, the oldest first, as long as records of theirs may be wanted.
    #[serde(default)]
    pub lineage: Vec<Ancestor>,
}

impl ChangeState {
    /// There was never anything to keep.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A partition that was split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Its number.
    pub partition: GroupId,
    /// Its keys.
    pub range: KeyRange,
    /// Its log begins behind this position …
    pub begins: Index,
    /// … and ends with this one.
    pub ends: Index,
    /// When it ended, milliseconds since the epoch; 0: not known.
    pub ended_ms: u64,
}

/// Removes records: in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trim {
    /// Up to this position.
    pub upto: Index,
    /// So many records …
    pub count: u64,
    /// … of so many bytes.
    pub bytes: u64,
}

/// Read change records: at the leader, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesRequest {
    /// Any key of the partition that shall answer.
    pub key: EncodedKey,
    /// Behind this place.
    pub after: Place,
    /// Up to this position; none: as far as there is.
    #[serde(default)]
    pub upto: Option<Index>,
    /// Of this stream; none: all.
    #[serde(default)]
    pub stream: Option<u64>,
    /// At most so many; 0: only what the answer says beside records.
    pub limit: u32,
    /// Records until their values have so many bytes, at least one.
    pub bytes_max: u64,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where it lies.
    #[serde(rename = "p")]
    pub place: Place,
    /// For [`ChangeRecord::decode`].
    #[serde(rename = "v")]
    pub value: Bytes,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesReply {
    /// Records in order.
    pub changes: Vec<Change>,
    /// Go on behind this place.
    pub next: Place,
    /// Everything that there is up to `upto` was seen.
    pub end: bool,
    /// Records up to this position are gone.
    pub trimmed: Index,
    /// Where the log is.
    pub applied: Index,
    /// Position behind which the partition's log begins.
    pub begins: Index,
    /// The partition's keys.
    pub range: KeyRange,
    /// The partition that answers; 0: it does not say.
    #[serde(default)]
    pub partition: GroupId,
    /// The partitions that it descends from.
    #[serde(default)]
    pub lineage: Vec<Ancestor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_of_a_record_is_refused_or_read_and_never_a_panic() {
        let mut out = BytesMut::new();
        out.put_u64(77);
        out.put_u32(10);
        out.put_u32(20);
        out.put_u16(3);
        out.put_slice(b"key");
        let tracking = Tracking {
            stream: 5,
            by_service: true,
            old: Some(b"before"),
        };
        tracking.put(Some(b"after"), &mut out);
        assert_eq!(
            out.len(),
            FIXED_BYTES + 3 + tracking.len(Some(b"after")),
            "the length is foretold"
        );
        let value = out.freeze();
        let record = ChangeRecord::decode(&value).unwrap();
        assert_eq!(record.new.as_deref(), Some(&b"after"[..]));
        assert_eq!(record.old.as_deref(), Some(&b"before"[..]));
        assert_eq!((record.time_ms, record.stream), (77, 5));
        assert!(record.by_service);
        assert_eq!(record.kind, ChangeKind::Modify);
        assert_eq!(key_of(&value), Some(&b"key"[..]));
        assert_eq!(time_and_stream_of(&value), Some((77, 5)));
        for cut in 0..value.len() - b"before".len() {
            assert!(ChangeRecord::decode(&value.slice(..cut)).is_err(), "{cut}");
        }
    }
}
