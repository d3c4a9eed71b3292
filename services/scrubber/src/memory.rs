//! What is remembered of the scrubs over restarts: one small file, replaced as a whole. Losing it costs the ages, nothing else, and where there is an
//! archive not even those (`ledger`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use paxos::GroupId;
use serde::{Deserialize, Serialize};

use crate::cycle::Record;

const FILE: &str = "scrubs.json";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    partitions: BTreeMap<u64, Record>,
}

/// What an earlier life left in the folder; nothing, if it cannot be read.
pub(crate) fn load(folder: &Path) -> BTreeMap<GroupId, Record> {
    read(&folder.join(FILE), decode).unwrap_or_default()
}

/// What a file says; none: there is no such file, or it can't be read or used (that is told). Blocks.
pub(crate) fn read<T>(path: &Path, decode: impl FnOnce(&[u8]) -> Result<T, String>) -> Option<T> {
    let decoded = match fs::read(path) {
        Ok(bytes) => decode(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => Err(error.to_string()),
    };
    decoded
        .inspect_err(|why| tracing::warn!(path = %path.display(), why, "what was remembered of scrubs can't be used"))
        .ok()
}

/// Reads what `encode` wrote; in words, why it can't.
pub(crate) fn decode(bytes: &[u8]) -> Result<BTreeMap<GroupId, Record>, String> {
    let stored = serde_json::from_slice::<Stored>(bytes).map_err(|error| error.to_string())?;
    if stored.version != VERSION {
        return Err(format!("it is of version {}", stored.version));
    }
    let partitions = stored.partitions.into_iter();
    Ok(partitions
        .map(|(id, record)| (GroupId(id), record))
        .collect())
}

/// JSON with a version.
///
/// # Errors
/// When serde says so: never for records.
pub(crate) fn encode(records: &BTreeMap<GroupId, Record>) -> serde_json::Result<Vec<u8>> {
    let partitions = records.iter();
    serde_json::to_vec(&Stored {
        version: VERSION,
        partitions: partitions.map(|(id, r)| (id.0, r.clone())).collect(),
    })
}

/// Writes it down, durably. Blocks.
///
/// # Errors
/// When the folder cannot be written; what was there stays.
pub(crate) fn store(folder: &Path, records: &BTreeMap<GroupId, Record>) -> io::Result<()> {
    replace(&folder.join(FILE), &encode(records)?)
}

/// Puts a file in the place of another one, durably. Blocks.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load(folder.path()).is_empty());
        let record = Record {
            clean_ms: Some(5),
            finding: "x".into(),
            ..Record::default()
        };
        let records = BTreeMap::from([(GroupId(7), record)]);
        store(folder.path(), &records).unwrap();
        assert_eq!(load(folder.path()), records);
        fs::write(folder.path().join(FILE), b"{").unwrap();
        assert!(load(folder.path()).is_empty());
    }
}
