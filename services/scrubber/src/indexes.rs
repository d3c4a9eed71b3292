//! Compares the global secondary indexes with their tables, one after another, as long as it is this instance's turn. Owns when, what is told and what is
//! kept of it; which is next is decided by `index_cycle`, how two are compared by `index_check`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mesh::Mesh;
use model::index::split_index_table_name;
use routing::Client;
use serde::{Deserialize, Serialize};
use telemetry::traces::{self, Flow};
use tracing::{info, warn};

use crate::evidence::{self, Evidence};
use crate::index_check::{self, Found, Pace, Pair};
use crate::index_cycle::{Ended, Record};
use crate::memory;
use crate::service::{Shared, unix_ms};

/// Time between looks at what is due.
const TURN_EVERY: Duration = Duration::from_millis(500);
/// A read that fails is tried again for so long: leaders change, nodes restart.
const PATIENCE: Duration = Duration::from_secs(60);
/// Keys that are named in a finding; all of them are in the evidence.
const WORDS_MAX: usize = 3;
const FILE: &str = "indexes.json";
const VERSION: u32 = 1;

/// Counters since the start.
#[derive(Default)]
pub(crate) struct IndexCounts {
    pub(crate) checks: AtomicU64,
    pub(crate) void: AtomicU64,
    pub(crate) differences: AtomicU64,
    /// Items and entries of the comparison under way.
    pub(crate) looked: AtomicU64,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    indexes: BTreeMap<String, Record>,
}

/// What an earlier life left in the folder; nothing, if it cannot be read: then all are compared again. Blocks.
pub(crate) fn load(folder: &Path) -> BTreeMap<String, Record> {
    memory::read(&folder.join(FILE), decode).unwrap_or_default()
}

fn decode(bytes: &[u8]) -> Result<BTreeMap<String, Record>, String> {
    let stored = serde_json::from_slice::<Stored>(bytes).map_err(|error| error.to_string())?;
    match stored.version {
        VERSION => Ok(stored.indexes),
        other => Err(format!("it is of version {other}")),
    }
}

fn store(folder: &Path, indexes: BTreeMap<String, Record>) -> std::io::Result<()> {
    let version = VERSION;
    let json = serde_json::to_vec(&Stored { version, indexes })?;
    memory::replace(&folder.join(FILE), &json)
}

/// Compares whatever is due, until the scrubber stops.
pub(crate) async fn compare(shared: Arc<Shared>, mesh: Mesh) {
    let mut client = None;
    while !shared.stopping.load(Relaxed) {
        tokio::time::sleep(TURN_EVERY).await;
        if !shared.is_active() {
            continue;
        }
        let began_ms = unix_ms();
        let next = {
            let known = shared.known.lock();
            let mut cycle = shared.indexes.lock();
            cycle.hear(began_ms, &known);
            cycle.next(began_ms)
        };
        let Some(name) = next else { continue };
        let ended = compare_one(&shared, &mesh, &mut client, &name).await;
        let records = {
            let mut cycle = shared.indexes.lock();
            cycle.ended(unix_ms(), began_ms, &ended);
            cycle.records().clone()
        };
        let folder = shared.settings.data_dir.clone();
        let stored = tokio::task::spawn_blocking(move || store(&folder, records));
        if let Ok(Err(error)) = stored.await {
            warn!(%error, "what is remembered of indexes can't be written");
        }
    }
}

/// One comparison, and what is told of it.
async fn compare_one(
    shared: &Shared,
    mesh: &Mesh,
    client: &mut Option<Client>,
    name: &str,
) -> Ended {
    let flow = Flow::begin("compare index").with("db.collection.name", name.to_owned());
    let cause = flow.context();
    let looked = std::pin::pin!(look(shared, mesh, client, name));
    let found = traces::within(cause, looked).await;
    let (ended, outcome) = match found {
        Err(error) => {
            let why = format!("{error:#}");
            info!(index = name, why, "an index could not be compared");
            shared.index_counts.void.fetch_add(1, Relaxed);
            (Ended::Void(why.clone()), Err(why))
        }
        Ok((_, found)) if found.differences == 0 => {
            shared.index_counts.checks.fetch_add(1, Relaxed);
            (Ended::Clean(clean(&found)), Ok(()))
        }
        Ok((entries, found)) => {
            let counts = &shared.index_counts;
            counts.checks.fetch_add(1, Relaxed);
            counts.differences.fetch_add(found.differences, Relaxed);
            let finding = words(&found);
            tell(shared, name, entries, &finding, &found).await;
            (Ended::Differs(finding.clone()), Err(finding))
        }
    };
    shared.flows.end(flow, outcome);
    ended
}

/// Compares; with the number of the table that holds the entries.
async fn look(
    shared: &Shared,
    mesh: &Mesh,
    client: &mut Option<Client>,
    name: &str,
) -> anyhow::Result<(u64, Found)> {
    let Some((table, index)) = split_index_table_name(name) else {
        anyhow::bail!("{name} holds no index");
    };
    let client = match client {
        Some(client) => client,
        None => client.insert(index_check::client(mesh, true).await?),
    };
    let pace = Pace {
        items_per_second: shared.settings.index_items_per_second,
        settle: Duration::from_millis(shared.settings.index_settle_ms),
        patience: PATIENCE,
    };
    let pair = Pair::find(client, table, index, pace).await?;
    let looked = &shared.index_counts.looked;
    looked.store(0, Relaxed);
    let goes_on = |so_far| {
        looked.store(so_far, Relaxed);
        shared.is_active()
    };
    let found = pair.compare(&goes_on).await?;
    Ok((pair.entries_id(), found))
}

fn clean(found: &Found) -> String {
    let mut words = format!("clean: {} items, {} entries", found.items, found.entries);
    if found.moving > 0 {
        words.push_str(&format!("; {} are written all the time", found.moving));
    }
    words
}

/// What differs, in words: keys, never what items hold.
fn words(found: &Found) -> String {
    let least = if found.cut { "at least " } else { "" };
    let mut words = format!(
        "differs from its table in {least}{} items: {}",
        found.differences,
        found.keys[..found.keys.len().min(WORDS_MAX)].join(", ")
    );
    if found.keys.len() > WORDS_MAX {
        words.push_str(" …");
    }
    words
}

/// Tells the operator, and keeps the evidence.
async fn tell(shared: &Shared, name: &str, entries: u64, finding: &str, found: &Found) {
    tracing::error!(
        index = name,
        finding,
        "SCRUB: an index differs from its table"
    );
    let settings = &shared.settings;
    let named = found.keys.iter().take(settings.keys_named_max);
    let copy = |name: &str, items| evidence::Copy {
        name: name.to_owned(),
        items,
        ..evidence::Copy::default()
    };
    let evidence = Evidence {
        time_ms: unix_ms(),
        table: name.to_owned(),
        finding: finding.to_owned(),
        copies: vec![copy("table", found.items), copy("index", found.entries)],
        keys: named
            .map(|key| evidence::Key {
                key: key.clone(),
                digests: Vec::new(),
            })
            .collect(),
        more_keys: found.cut || found.keys.len() > settings.keys_named_max,
        done: vec!["nothing: indexes are not mended by themselves".to_owned()],
        ..Evidence::default()
    };
    let file = evidence::name_of_index(evidence.time_ms, entries);
    evidence::write(settings, file, &evidence).await;
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
        let records = BTreeMap::from([("t/index/i".to_owned(), record)]);
        store(folder.path(), records.clone()).unwrap();
        assert_eq!(load(folder.path()), records);
        std::fs::write(folder.path().join(FILE), b"{").unwrap();
        assert!(load(folder.path()).is_empty());
    }

    #[test]
    fn a_finding_names_some_keys_and_says_if_there_are_more() {
        let mut found = Found {
            differences: 2,
            keys: vec!["a".into(), "b".into()],
            ..Found::default()
        };
        assert_eq!(words(&found), "differs from its table in 2 items: a, b");
        found.keys = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        (found.differences, found.cut) = (1_000, true);
        assert_eq!(
            words(&found),
            "differs from its table in at least 1000 items: a, b, c …"
        );
    }
}
