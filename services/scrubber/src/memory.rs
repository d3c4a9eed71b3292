//! What is remembered of the scrubs over restarts: one small file, replaced as a whole. Losing it costs the ages, nothing else.

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
    let path = folder.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was remembered of scrubs can't be read");
            return BTreeMap::new();
        }
    };
    match serde_json::from_slice::<Stored>(&bytes) {
        Ok(stored) if stored.version == VERSION => stored
            .partitions
            .into_iter()
            .map(|(partition, record)| (GroupId(partition), record))
            .collect(),
        Ok(stored) => {
            let version = stored.version;
            tracing::warn!(path = %path.display(), version, "what was remembered of scrubs is of another version");
            BTreeMap::new()
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was remembered of scrubs is damaged");
            BTreeMap::new()
        }
    }
}

/// Writes it down, durably. Blocks.
///
/// # Errors
/// When the folder cannot be written; what was there stays.
pub(crate) fn store(folder: &Path, records: &BTreeMap<GroupId, Record>) -> io::Result<()> {
    let partitions = records.iter();
    let stored = Stored {
        version: VERSION,
        partitions: partitions.map(|(id, r)| (id.0, r.clone())).collect(),
    };
    replace(&folder.join(FILE), &serde_json::to_vec(&stored)?)
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
