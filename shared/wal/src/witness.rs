//! The witness: a small file beside the segments that says which segment is the newest and how far it is durable at least. Owns
//! that file. Without it, a newest segment that is gone, or cut to nothing, would look like one that was never made.
//!
//! The order is what makes it exact. A new segment is written and synced, and its name is; then the witness is; and only then is
//! anything in the segment acknowledged. So a witnessed segment was durable: if it is not there, it was lost. And a segment that
//! is not witnessed holds nothing that was acknowledged: if it is torn, it may go.
//!
//! Two slots are written in turn, each with its checksum and in a block of its own: a torn write leaves the other one. The file
//! is rewritten once a segment, so it costs one small sync in 64 MiB.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::WalError;
use crate::record::Reader;
use crate::segment;

const MAGIC: &[u8; 8] = b"EVKWITNS";
const VERSION: u32 = 1;
const FILE: &str = "newest";
const SLOT_BYTES: u64 = 4096;
const SLOTS: u64 = 2;
/// Magic, version, segment, durable, checksum.
const NOTE_BYTES: usize = 24;

/// What the witness says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Newest {
    /// The newest segment that may hold acknowledged records.
    pub(crate) segment: u32,
    /// Its bytes that were durable then.
    pub(crate) durable: u32,
}

/// The open file.
pub(crate) struct Witness {
    path: PathBuf,
    file: File,
}

/// What the folder's witness says; none if there is none, or none that can be read.
pub(crate) fn read(dir: &Path) -> Result<Option<Newest>, WalError> {
    let path = dir.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            // It is a second opinion: without it the log opens as one of version 0.1 does.
            tracing::warn!(path = %path.display(), %error, "the log's witness cannot be read");
            return Ok(None);
        }
    };
    let mut newest = None;
    for slot in 0..SLOTS {
        let at = (slot * SLOT_BYTES) as usize;
        let note = bytes
            .get(at..at + NOTE_BYTES)
            .map(|note| parse(note, &path));
        newest = newest.max(note.transpose()?.flatten());
    }
    if newest.is_none() {
        tracing::warn!(path = %path.display(), "the log's witness is damaged, it is made anew");
    }
    Ok(newest)
}

fn parse(note: &[u8], path: &Path) -> Result<Option<Newest>, WalError> {
    let mut reader = Reader(note);
    let fields = || {
        let magic = reader.take(8)? == MAGIC;
        let version = reader.u32()?;
        let newest = Newest {
            segment: reader.u32()?,
            durable: reader.u32()?,
        };
        let whole = reader.u32()? == crc32c::crc32c(&note[..NOTE_BYTES - 4]);
        (magic && whole).then_some((version, newest))
    };
    match { fields }() {
        Some((version, _)) if version > VERSION => Err(WalError::Version {
            path: path.into(),
            found: version,
            supported: VERSION,
        }),
        found => Ok(found.map(|(_, newest)| newest)),
    }
}

impl Witness {
    /// Opens the file, or makes it; its name is durable when this returns.
    pub(crate) fn open(dir: &Path) -> Result<Self, WalError> {
        let path = dir.join(FILE);
        let io = |operation, error| WalError::io(operation, &path, &error);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| io("create", error))?;
        file.set_len(SLOT_BYTES * SLOTS)
            .map_err(|error| io("write", error))?;
        file.sync_all().map_err(|error| io("sync", error))?;
        segment::sync_dir(dir)?;
        Ok(Self { path, file })
    }

    /// Notes the newest segment, durably. The segment itself is durable already.
    pub(crate) fn note(&self, newest: Newest) -> Result<(), WalError> {
        let io = |operation, error| WalError::io(operation, &self.path, &error);
        let mut note = MAGIC.to_vec();
        note.extend_from_slice(&VERSION.to_le_bytes());
        note.extend_from_slice(&newest.segment.to_le_bytes());
        note.extend_from_slice(&newest.durable.to_le_bytes());
        note.extend_from_slice(&crc32c::crc32c(&note).to_le_bytes());
        let slot = u64::from(newest.segment) % SLOTS;
        self.file
            .write_all_at(&note, slot * SLOT_BYTES)
            .map_err(|error| io("write", error))?;
        self.file.sync_data().map_err(|error| io("sync", error))
    }
}
