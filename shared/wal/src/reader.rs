//! Reads of durable entries: what recovery hands out and what lagging followers are sent. Verifies every record it reads.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use paxos::{Entry, GroupId, Index};

use crate::error::WalError;
use crate::group::Place;
use crate::record::{HEADER_BYTES, Header, entries_of};
use crate::segment;
use crate::shared::Shared;

/// A record to read: entries `first..=last` of it count.
struct Part {
    place: Place,
    first: Index,
    last: Index,
    file: Arc<File>,
}

/// Durable entries of `group` from `from` on, at least one if there is one, then while they fit into `max_bytes`.
pub(crate) fn read(
    shared: &Shared,
    group: GroupId,
    from: Index,
    max_bytes: usize,
) -> Result<Vec<Entry>, WalError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut bytes = 0;
    for part in parts(shared, group, from, max_bytes)? {
        let found = match read_part(shared, group, &part) {
            Ok(found) => found,
            Err(error) => {
                // The floor may have passed meanwhile, and the file with it.
                parts(shared, group, from, max_bytes)?;
                return Err(error);
            }
        };
        for entry in found {
            bytes += entry.bytes() as usize;
            if bytes > max_bytes && !entries.is_empty() {
                return Ok(entries);
            }
            entries.push(entry);
        }
    }
    Ok(entries)
}

fn parts(
    shared: &Shared,
    id: GroupId,
    from: Index,
    max_bytes: usize,
) -> Result<Vec<Part>, WalError> {
    let state = shared.state.lock();
    let group = state
        .groups
        .get(&id)
        .ok_or(WalError::UnknownGroup { group: id })?;
    if group.damaged {
        return Err(WalError::Damaged { group: id });
    }
    if from <= group.floor.index {
        return Err(WalError::BelowFloor {
            group: id,
            floor: group.floor.index,
        });
    }
    let mut parts = Vec::new();
    let mut bytes = 0;
    for (run, last) in group.runs_from(from) {
        let place = run.place;
        let segment = state
            .segments
            .get(&place.segment)
            .ok_or_else(|| WalError::Corrupt {
                path: segment::path(&shared.dir, place.segment),
                offset: u64::from(place.offset),
                what: "the segment is gone".into(),
            })?;
        let first = run.first.max(from);
        parts.push(Part {
            place,
            first,
            last,
            file: segment.file.clone(),
        });
        // A record is longer than what is wanted of it, so this never stops too early by more than one record.
        bytes += place.len as usize;
        if bytes > max_bytes.saturating_mul(2) {
            break;
        }
    }
    Ok(parts)
}

fn read_part(shared: &Shared, group: GroupId, part: &Part) -> Result<Vec<Entry>, WalError> {
    let place = part.place;
    let path = || segment::path(&shared.dir, place.segment);
    let mut bytes = vec![0; place.len as usize];
    shared
        .faults
        .read()
        .and_then(|()| part.file.read_exact_at(&mut bytes, u64::from(place.offset)))
        .map_err(|e| WalError::io("read", path(), &e))?;
    let corrupt = |what: &str| WalError::Corrupt {
        path: path(),
        offset: u64::from(place.offset),
        what: what.into(),
    };
    let header = Header::read(&bytes).ok_or_else(|| corrupt("no record header"))?;
    let ours = header.segment == place.segment
        && header.offset == place.offset
        && header.group == group
        && header.written_len() == bytes.len();
    if !ours {
        return Err(corrupt("another record"));
    }
    let body = &bytes[HEADER_BYTES..HEADER_BYTES + header.body_len as usize];
    if crc32c::crc32c(body) != header.body_crc {
        return Err(corrupt("checksum mismatch"));
    }
    let wanted = part.first..=part.last;
    let entries = entries_of(body, |index| wanted.contains(&index))
        .ok_or_else(|| corrupt("the record cannot be decoded"))?;
    let complete = entries.iter().map(|e| e.index).eq(wanted);
    if complete {
        Ok(entries)
    } else {
        Err(corrupt("entries are missing"))
    }
}
