//! What a scrub found, kept for the operator: a file for each finding. Holds keys and digests, never items.

use std::fs;
use std::io;
use std::path::Path;

use bytes::Bytes;
use paxos::{GroupId, NodeId};
use serde::Serialize;

use crate::{ScrubberSettings, memory};

/// Where it lies in the scrubber's folder.
pub(crate) const FOLDER: &str = "evidence";

/// What a scrub found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Evidence {
    /// When, wall clock, milliseconds since the epoch.
    pub time_ms: u64,
    /// The partition.
    pub partition: u64,
    /// Name of its table.
    pub table: String,
    /// Its uuid.
    pub table_uuid: String,
    /// Number of the scrub.
    pub scrub: u64,
    /// Position of its marker in the log.
    pub index: u64,
    /// In words.
    pub finding: String,
    /// The copies that were compared.
    pub copies: Vec<Copy>,
    /// Ranges of keys in which they differ, escaped: the first key, and the first one behind.
    pub ranges: Vec<(String, String)>,
    /// Items in which they differ (not more than the settings say).
    pub keys: Vec<Key>,
    /// There are more.
    pub more_keys: bool,
    /// What was done about it, in words.
    pub done: Vec<String>,
}

/// One copy.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Copy {
    /// `node 3` or `archive`.
    pub name: String,
    /// Which replica; 0 = the archive's.
    pub incarnation: u64,
    /// Copies with the same number are equal.
    pub class: usize,
    /// It stands against the others.
    pub wrong: bool,
    /// Items that it counts.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What it said of itself if it has no digest.
    pub words: String,
}

/// An item that differs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Key {
    /// Its key, escaped.
    pub key: String,
    /// Digest of the item at each copy, in their order, hexadecimal; none: it is not there.
    pub digests: Vec<Option<String>>,
}

/// A key as it may stand in logs: printable ASCII as it is, the rest escaped.
pub(crate) fn escaped(key: &Bytes) -> String {
    key.escape_ascii().to_string()
}

/// Name of the object and the file.
pub(crate) fn name(time_ms: u64, partition: GroupId, node: Option<NodeId>) -> String {
    let node = node.map_or("archive".to_owned(), |node| node.0.to_string());
    format!("{time_ms:020}-{}-{node}.json", partition.0)
}

/// Name of the object and the file of an index's.
pub(crate) fn name_of_index(time_ms: u64, entries_table: u64) -> String {
    format!("{time_ms:020}-index-{entries_table}.json")
}

/// Writes it into the scrubber's folder; whatever becomes of it is logged.
pub(crate) async fn write(settings: &ScrubberSettings, name: String, evidence: &Evidence) {
    let json = match serde_json::to_vec_pretty(evidence) {
        Ok(json) => json,
        Err(error) => return tracing::error!(%error, "evidence can't be written"),
    };
    let (folder, most) = (settings.data_dir.clone(), settings.evidence_max);
    let kept = tokio::task::spawn_blocking(move || keep(&folder, &name, &json, most));
    match kept.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "evidence can't be written"),
        Err(error) => tracing::error!(%error, "evidence can't be written"),
    }
}

/// Writes it into the folder, durably; of older ones, the newest `keep` stay. Blocks.
///
/// # Errors
/// When the folder cannot be written.
fn keep(folder: &Path, name: &str, json: &[u8], keep: usize) -> io::Result<()> {
    let folder = folder.join(FOLDER);
    fs::create_dir_all(&folder)?;
    memory::replace(&folder.join(name), json)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder)? {
        names.push(entry?.file_name());
    }
    // The names begin with the time.
    names.sort();
    let surplus = names.len().saturating_sub(keep.max(1));
    for old in &names[..surplus] {
        fs::remove_file(folder.join(old))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for time in 1..5 {
            let name = name(time, GroupId(3), Some(NodeId(time)));
            keep(folder.path(), &name, b"{}", 2).unwrap();
        }
        let mut left: Vec<String> = fs::read_dir(folder.path().join(FOLDER))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "00000000000000000003-3-3.json",
                "00000000000000000004-3-4.json"
            ]
        );
    }

    #[test]
    fn keys_are_escaped() {
        assert_eq!(escaped(&Bytes::from_static(b"a\n\xff\"")), "a\\n\\xff\\\"");
    }
}
