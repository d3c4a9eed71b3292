//! Change records in a partition (ADR 0011): the reserved keys under which they lie in the B-tree, how they are read, and what may be trimmed.
//! Layout of the values: `protocol::changes`. Never decides which write is a change (`evaluate`).

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};
use model::KeyRange;
use paxos::{GroupId, Index};
pub use protocol::changes::ChangeState;
use protocol::changes::{Change, ChangesReply, ChangesRequest, Place, Trim};
use protocol::changes::{key_of, time_and_stream_of};
use protocol::item::ItemReply;

use crate::partition::Partition;
use crate::{BTree, PartitionError, command};

/// First bytes of the keys of change records. No item's key begins so: they begin with the table's number.
const PREFIX: [u8; 2] = [0xFF, 0x01];
const BEHIND: [u8; 2] = [0xFF, 0x02];
const KEY_BYTES: usize = PREFIX.len() + 12;
/// Records that one read looks at, whatever it returns.
const LOOK_MAX: usize = 4_096;
/// Records that one Trim removes at most.
const TRIM_MAX: usize = 1_024;
/// Memory for the tree's bookkeeping of one record, counted as if it were in it.
const BYTES_MAX: u64 = 1 << 20;

/// The key of a change record.
pub fn change_key((position, sub): Place) -> Bytes {
    let mut key = BytesMut::with_capacity(KEY_BYTES);
    key.put_slice(&PREFIX);
    key.put_u64(position);
    key.put_u32(sub);
    key.freeze()
}

/// Whether this is the key of a change record.
pub fn is_change_key(key: &[u8]) -> bool {
    key.starts_with(&PREFIX)
}

/// The place that a change record's key names.
pub fn place_of(key: &[u8]) -> Option<Place> {
    let rest: [u8; KEY_BYTES - 2] = key.strip_prefix(&PREFIX)?.try_into().ok()?;
    let (position, sub) = rest.split_at(8);
    Some((
        u64::from_be_bytes(position.try_into().ok()?),
        u32::from_be_bytes(sub.try_into().ok()?),
    ))
}

/// Keys of all change records.
pub fn change_keys() -> KeyRange {
    KeyRange {
        start: Bytes::from_static(&PREFIX),
        end: Bytes::from_static(&BEHIND),
    }
}

/// Keys of everything that is no change record.
pub fn item_keys() -> KeyRange {
    KeyRange {
        start: Bytes::new(),
        end: Bytes::from_static(&PREFIX),
    }
}

/// Keys of the records up to a position.
pub fn change_keys_upto(position: Index) -> KeyRange {
    KeyRange {
        start: Bytes::from_static(&PREFIX),
        end: match position.checked_add(1) {
            Some(next) => change_key((next, 0)),
            None => Bytes::from_static(&BEHIND),
        },
    }
}

/// Whether a partition with these keys holds this pair of a B-tree: an item by its key, a change record by its item's.
pub fn belongs(range: &KeyRange, key: &[u8], value: Option<&[u8]>) -> bool {
    match is_change_key(key) {
        false => range.contains(key),
        true => value
            .and_then(key_of)
            .is_some_and(|item| range.contains(item)),
    }
}

/// What the leader lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrimPolicy {
    /// Records older than this are nobody's, milliseconds.
    pub retention_ms: u64,
    /// Above so many bytes the oldest go before their time.
    pub bytes_max: u64,
}

/// Place, value for keeps, and value.
type VisitChange<'a> = dyn FnMut(Place, &dyn Fn() -> Bytes, &[u8]) -> ControlFlow<()> + 'a;

impl<C> Partition<C> {
    /// Walks over the change records from `start` on, until `visit` breaks.
    fn walk_changes(
        &self,
        base: &impl BTree,
        start: Bytes,
        visit: &mut VisitChange<'_>,
    ) -> Result<(), PartitionError> {
        let range = KeyRange {
            start,
            ..change_keys()
        };
        self.walk(
            base,
            &range,
            false,
            &mut |key, value, raw| match place_of(key) {
                Some(place) => visit(place, raw, value),
                None => ControlFlow::Continue(()),
            },
        )
    }

    /// Reads change records. The shell has checked the lease.
    pub fn changes(
        &self,
        base: &impl BTree,
        request: &ChangesRequest,
    ) -> Result<ChangesReply, PartitionError> {
        let state = &self.state;
        let upto = request.upto.unwrap_or(Index::MAX).min(state.applied);
        let trimmed = (state.changes.trimmed, u32::MAX);
        let mut after = request.after.max(trimmed);
        let mut reply = ChangesReply {
            changes: Vec::new(),
            next: request.after,
            end: false,
            trimmed: state.changes.trimmed,
            applied: state.applied,
            begins: state.begins,
            range: state.range.clone(),
            partition: GroupId::default(),
            lineage: state.changes.lineage.clone(),
        };
        if request.limit == 0 {
            return Ok(reply);
        }
        let start = [&change_key(after)[..], &[0]].concat().into();
        let bytes_max = request.bytes_max.min(BYTES_MAX);
        let (mut bytes, mut looked, mut full) = (0, 0, false);
        self.walk_changes(base, start, &mut |place, raw, value| {
            if place.0 > upto {
                return ControlFlow::Break(());
            }
            let stream = time_and_stream_of(value).map(|(_, stream)| stream);
            let wanted = request.stream.is_none() || request.stream == stream;
            let size = value.len() as u64;
            if looked >= LOOK_MAX
                || (wanted
                    && (reply.changes.len() >= request.limit as usize
                        || (bytes + size > bytes_max && !reply.changes.is_empty())))
            {
                full = true;
                return ControlFlow::Break(());
            }
            looked += 1;
            after = place;
            if wanted {
                bytes += size;
                reply.changes.push(Change {
                    place,
                    value: raw(),
                });
            }
            ControlFlow::Continue(())
        })?;
        reply.end = !full;
        reply.next = match full {
            true => after,
            false => request.after.max((upto, u32::MAX)),
        };
        Ok(reply)
    }

    /// Answers a request for change records that came for partition `id`. The shell has checked the lease.
    pub fn answer_changes(
        &self,
        base: &impl BTree,
        request: &ChangesRequest,
        id: GroupId,
    ) -> Result<ItemReply, PartitionError> {
        if let Some(refusal) = self.refuse_key(&request.key) {
            return Ok(refusal);
        }
        let reply = ChangesReply {
            partition: id,
            ..self.changes(base, request)?
        };
        Ok(ItemReply::Changes(Box::new(reply)))
    }

    /// The command that removes what nobody may want any more, at a leader that serves; none if there is nothing. `now_ms`: milliseconds since the
    /// epoch. Say `proposed` or `refused`, as for any command.
    pub fn trim(
        &mut self,
        base: &impl BTree,
        policy: &TrimPolicy,
        now_ms: u64,
    ) -> Result<Option<Bytes>, PartitionError> {
        let changes = &self.state.changes;
        if changes.count == 0 || self.has_ended() {
            return Ok(None);
        }
        let table = &self.state.table;
        let indexed = table.has_global_indexes();
        // Nothing that the indexes have not got.
        let last = match indexed {
            true => changes.acknowledged,
            false => self.state.applied,
        };
        let excess = changes.bytes.saturating_sub(policy.bytes_max);
        let mut trim = Trim {
            upto: 0,
            count: 0,
            bytes: 0,
        };
        // All records of a position go together.
        let mut looked = 0;
        let start = change_key((changes.trimmed.saturating_add(1), 0));
        self.walk_changes(base, start, &mut |place, _, value| {
            let (time_ms, stream) = time_and_stream_of(value).unwrap_or_default();
            let old = time_ms.saturating_add(policy.retention_ms) <= now_ms;
            let propagated = stream == 0 && indexed;
            let may_go = place.0 == trim.upto
                || (place.0 <= last
                    && looked < TRIM_MAX
                    && (old || propagated || trim.bytes < excess));
            if !may_go {
                return ControlFlow::Break(());
            }
            looked += 1;
            trim.upto = place.0;
            trim.count += 1;
            trim.bytes += record_bytes(value);
            ControlFlow::Continue(())
        })?;
        if trim.count == 0 {
            return Ok(None);
        }
        let time_ms = self.stamp(now_ms);
        Ok(command::encode_trim(time_ms, &trim).ok())
    }

    /// The command that notes how far the propagation to the indexes is; none if that is known. Say `proposed` or `refused`.
    pub fn acknowledge(&mut self, upto: Index, now_ms: u64) -> Option<Bytes> {
        if upto <= self.state.changes.acknowledged || self.has_ended() {
            return None;
        }
        command::encode_acknowledge(self.stamp(now_ms), upto).ok()
    }

    /// Whether there are so many records that the indexes have not got that no write may add another one.
    pub(crate) fn changes_are_full(&self) -> bool {
        self.state.changes.bytes >= self.limits.change_bytes_max
            && self.state.table.has_global_indexes()
    }

    /// A change was applied.
    pub(crate) fn add_change(&mut self, place: Place, value: Bytes) {
        self.state.changes.count += 1;
        self.state.changes.bytes += record_bytes(&value);
        self.overlay.put(change_key(place), Some(value));
    }

    /// A Trim was applied.
    pub(crate) fn apply_trim(&mut self, trim: &Trim) {
        let changes = &mut self.state.changes;
        // Of two leaders' only the first one counts.
        if trim.upto > changes.trimmed {
            changes.trimmed = trim.upto;
            changes.count = changes.count.saturating_sub(trim.count);
            changes.bytes = changes.bytes.saturating_sub(trim.bytes);
        }
    }
}

/// What a record counts for, bytes.
pub fn record_bytes(value: &[u8]) -> u64 {
    (KEY_BYTES + value.len()) as u64
}
