//! Segment files: names, heads, and what is found in their bytes. Owns the file layout; never interprets operations.
//!
//! A segment is `<number>.wal`: a head of 64 bytes, the checkpoint of all groups' hard states, then records. The head and
//! the checkpoint are written and synced together with the first batch.

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};

use paxos::{GroupId, NodeId};

use crate::error::WalError;
use crate::record::{ALIGN_BYTES, HEADER_BYTES, Header, Kind, Reader};

/// Bytes of a segment's head.
pub(crate) const HEAD_BYTES: usize = 64;
/// Format version that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"EVKWALSG";
const SUFFIX: &str = ".wal";
/// A file made ready to become the next segment.
pub(crate) const SPARE: &str = "spare.tmp";

/// Whose segments these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
}

/// File of a segment.
pub(crate) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:010}{SUFFIX}"))
}

/// Numbers of the segments in a folder, ascending.
pub(crate) fn list(dir: &Path) -> Result<Vec<u32>, WalError> {
    let error = |e: std::io::Error| WalError::io("list", dir, &e);
    let mut numbers = Vec::new();
    for file in fs::read_dir(dir).map_err(error)? {
        let name = file.map_err(error)?.file_name();
        let number = name
            .to_str()
            .and_then(|n| n.strip_suffix(SUFFIX))
            .map(str::parse);
        if let Some(Ok(number)) = number {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), WalError> {
    File::open(dir)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| WalError::io("sync of folder", dir, &e))
}

/// Appends the head of a segment.
pub(crate) fn write_head(number: u32, owner: Owner, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&owner.node.0.to_le_bytes());
    out.extend_from_slice(&owner.incarnation.to_le_bytes());
    let crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
    out.resize(start + HEAD_BYTES, 0);
}

/// Checks the head of segment `number`; false when there is no valid one (torn or damaged).
pub(crate) fn check_head(
    bytes: &[u8],
    number: u32,
    owner: Owner,
    path: &Path,
) -> Result<bool, WalError> {
    let parse = || {
        let mut reader = Reader(bytes);
        let magic = reader.take(8)? == MAGIC;
        let version = reader.u32()?;
        let found_number = reader.u32()?;
        let found = Owner {
            node: NodeId(reader.u64()?),
            incarnation: reader.u64()?,
        };
        let crc = reader.u32()? == crc32c::crc32c(&bytes[..32]);
        (magic && crc).then_some((version, found_number, found))
    };
    let Some((version, found_number, found)) = parse() else {
        return Ok(false);
    };
    if version > VERSION {
        return Err(WalError::Version {
            path: path.into(),
            found: version,
            supported: VERSION,
        });
    }
    if found != owner {
        let name = |o: Owner| {
            format!(
                "node {} with disk identity {:016x}",
                o.node.0, o.incarnation
            )
        };
        return Err(WalError::Identity {
            path: path.into(),
            found: name(found),
            expected: name(owner),
        });
    }
    // A recycled file still shows its old head until the new one is written.
    Ok(found_number == number)
}

/// One thing found in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A whole record; the range is its body.
    Record(Header, Range<usize>),
    /// Bytes that are no valid record, with valid ones behind or at the end.
    Hole {
        /// First byte.
        from: usize,
        /// Bytes that are known to have been written.
        len: usize,
        /// The group whose record this was, when its header is whole and only the body is bad.
        group: Option<GroupId>,
    },
}

/// Goes through the bytes of segment `number` behind its head. Every whole record is found, whatever lies between.
pub(crate) fn scan(bytes: &[u8], number: u32) -> Vec<Found> {
    let mut found = Vec::new();
    let mut at = HEAD_BYTES;
    let mut in_hole = false;
    while at + HEADER_BYTES <= bytes.len() {
        let header =
            Header::read(&bytes[at..]).filter(|h| h.segment == number && h.offset as usize == at);
        let Some(header) = header else {
            if !in_hole {
                found.push(Found::Hole {
                    from: at,
                    len: 0,
                    group: None,
                });
                in_hole = true;
            }
            at += ALIGN_BYTES;
            continue;
        };
        let body = at + HEADER_BYTES..at + HEADER_BYTES + header.body_len as usize;
        let whole = bytes
            .get(body.clone())
            .is_some_and(|b| crc32c::crc32c(b) == header.body_crc);
        if whole {
            found.push(Found::Record(header, body));
            in_hole = false;
            at += header.record_len();
        } else {
            // The header vouches for the length.
            let group = (header.kind == Kind::Ops).then_some(header.group);
            found.push(Found::Hole {
                from: at,
                len: header.record_len(),
                group,
            });
            in_hole = false;
            at += header.record_len();
        }
    }
    found
}
