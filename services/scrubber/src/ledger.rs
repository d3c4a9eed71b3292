//! What is remembered of the scrubs, and the evidence, in the object store as well as in the scrubber's folder: so that ages and findings survive
//! the loss of that folder and come along when another instance takes over. Owns which objects are read and written when. Losing them costs
//! nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use archive::TableUuid;
use archive::key::{EVIDENCE, SCRUBS};
use objects::{ObjectError, Objects, PutMode, Reason};
use paxos::GroupId;
use tokio::time::{MissedTickBehavior, interval};

use crate::cycle::{Known, Record};
use crate::service::Shared;
use crate::{evidence, memory};

/// Between two looks at what is to be read …
const EVERY: Duration = Duration::from_secs(1);
/// … and so many of them between two at what has changed.
const WRITE_EVERY: u32 = 3;
/// Tables that are read at one look: a new active scrubber has something else to do, too.
const READ_MAX: usize = 64;

type Records = BTreeMap<GroupId, Record>;

/// What the store holds, as far as this instance read or wrote it.
#[derive(Default)]
struct Ledger {
    tables: BTreeMap<TableUuid, Records>,
    /// Names of evidence; none: not listed yet.
    evidence: Option<BTreeSet<String>>,
}

/// Keeps the store's objects in step, until the scrubber stops.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let Some(archive) = &shared.archive else {
        return;
    };
    let objects = archive.objects();
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ledger = Ledger::default();
    let mut look = 0_u32;
    while !shared.stopping.load(Relaxed) {
        every.tick().await;
        look = look.wrapping_add(1);
        let looked = async {
            if shared.is_active() {
                ledger.read_records(&shared, objects).await?;
            } else {
                // Another instance writes: what it wrote is read once it is this one's turn.
                ledger.tables.clear();
                shared.recalled.store(false, Relaxed);
            }
            if look.is_multiple_of(WRITE_EVERY) {
                ledger.write_records(&shared, objects).await?;
                ledger.keep_evidence(&shared, objects).await?;
            }
            Ok::<_, ObjectError>(())
        };
        if let Err(error) = looked.await {
            tracing::debug!(%error, "what is remembered of scrubs is not in step with the store");
        }
    }
}

fn key_of(table: &TableUuid) -> String {
    format!("{SCRUBS}{table}.json")
}

/// The partitions of each table.
fn by_table(known: &[Known]) -> BTreeMap<TableUuid, BTreeSet<GroupId>> {
    let mut tables: BTreeMap<TableUuid, BTreeSet<GroupId>> = BTreeMap::new();
    for partition in known {
        if let Some(uuid) = TableUuid::parse(&partition.table_uuid) {
            tables.entry(uuid).or_default().insert(partition.partition);
        }
    }
    tables
}

/// What is to be written of these partitions.
fn worth_writing(records: &Records, partitions: &BTreeSet<GroupId>) -> Records {
    let of = |id: &GroupId| {
        let record = records.get(id).filter(|record| record.tried_ms > 0)?;
        // It changes with every look, and says nothing to anybody else.
        let heard_ms = 0;
        let record = Record {
            heard_ms,
            ..record.clone()
        };
        Some((*id, record))
    };
    partitions.iter().filter_map(of).collect()
}

impl Ledger {
    /// Takes in what is remembered of tables that were not read yet.
    async fn read_records(
        &mut self,
        shared: &Shared,
        objects: &Objects,
    ) -> Result<(), ObjectError> {
        let tables = {
            let known = shared.known.lock();
            if known.is_empty() {
                return Ok(());
            }
            by_table(&known)
        };
        let unread = tables.keys().filter(|t| !self.tables.contains_key(*t));
        let unread: Vec<TableUuid> = unread.take(READ_MAX).cloned().collect();
        for table in unread {
            let records = match objects.get(&key_of(&table)).await {
                Err(error) if error.reason == Reason::NotFound => Records::new(),
                Err(error) => return Err(error),
                Ok(bytes) => memory::decode(&bytes).unwrap_or_else(|why| {
                    tracing::warn!(
                        table = table.as_str(),
                        why,
                        "what the store remembers of scrubs can't be used"
                    );
                    Records::new()
                }),
            };
            {
                let mut cycle = shared.cycle.lock();
                for (partition, record) in &records {
                    if tables[&table].contains(partition) {
                        cycle.recall(*partition, record);
                    }
                }
            }
            shared.changed.store(true, Relaxed);
            self.tables.insert(table, records);
        }
        if tables.keys().all(|table| self.tables.contains_key(table)) {
            shared.recalled.store(true, Relaxed);
        }
        Ok(())
    }

    /// Writes what has changed of the tables that were read.
    async fn write_records(
        &mut self,
        shared: &Shared,
        objects: &Objects,
    ) -> Result<(), ObjectError> {
        let tables = by_table(&shared.known.lock());
        for (table, partitions) in &tables {
            let Some(written) = self.tables.get(table) else {
                continue;
            };
            let records = worth_writing(shared.cycle.lock().records(), partitions);
            if records == *written {
                continue;
            }
            let Ok(bytes) = memory::encode(&records) else {
                continue;
            };
            objects
                .put(&key_of(table), bytes.into(), PutMode::Replace)
                .await?;
            self.tables.insert(table.clone(), records);
        }
        // Tables that are gone: the planner has forgotten their partitions.
        let gone = self.tables.iter().filter(|(table, written)| {
            let cycle = shared.cycle.lock();
            let remembered = |id: &GroupId| cycle.records().contains_key(id);
            !tables.contains_key(*table) && !written.keys().any(remembered)
        });
        let gone: Vec<TableUuid> = gone.map(|(table, _)| table.clone()).collect();
        for table in gone {
            objects.delete(&key_of(&table)).await?;
            self.tables.remove(&table);
        }
        Ok(())
    }

    /// Brings the evidence of this instance into the store; of all that is there, the newest stay.
    async fn keep_evidence(
        &mut self,
        shared: &Shared,
        objects: &Objects,
    ) -> Result<(), ObjectError> {
        let folder = shared.settings.data_dir.join(evidence::FOLDER);
        let local = {
            let folder = folder.clone();
            let listed = tokio::task::spawn_blocking(move || names(folder));
            listed.await.unwrap_or_else(|_| Ok(BTreeSet::new()))
        };
        let local = local.unwrap_or_else(|error| {
            tracing::warn!(%error, "evidence can't be listed");
            BTreeSet::new()
        });
        if local.is_empty() {
            return Ok(());
        }
        if self.evidence.is_none() {
            let listed = objects.list(EVIDENCE).await?.into_iter();
            let name = |key: String| key.strip_prefix(EVIDENCE).map(str::to_owned);
            self.evidence = Some(listed.filter_map(|listed| name(listed.key)).collect());
        }
        let Some(stored) = &mut self.evidence else {
            return Ok(());
        };
        let keep = shared.settings.evidence_max.max(1);
        // What is too old for the store is not brought there again and again.
        let oldest = stored.iter().rev().nth(keep - 1).cloned();
        let new = local
            .difference(stored)
            .filter(|name| Some(*name) > oldest.as_ref());
        let new: Vec<String> = new.cloned().collect();
        for name in new {
            let read = tokio::fs::read(folder.join(&name)).await;
            // It may be too old for the folder by now.
            let Ok(bytes) = read else { continue };
            let key = format!("{EVIDENCE}{name}");
            objects.put(&key, bytes.into(), PutMode::Replace).await?;
            stored.insert(name);
        }
        while stored.len() > keep {
            let Some(oldest) = stored.first().cloned() else {
                break;
            };
            objects.delete(&format!("{EVIDENCE}{oldest}")).await?;
            stored.remove(&oldest);
        }
        Ok(())
    }
}

fn names(folder: PathBuf) -> io::Result<BTreeSet<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_str().filter(|name| name.ends_with(".json"));
        names.extend(name.map(str::to_owned));
    }
    Ok(names)
}
