//! What the lost mesh had: its system table, rebuilt from the archive. Owns reading the tables' records in it.

use std::collections::BTreeMap;

use archive::lineage::{Moment, Piece};
use archive::{PartitionRef, TableUuid};
use model::codec::decode_item;
use model::table::TableStatus;
use model::{AttributeValue, TableDefinition, TableId};
use objects::{ArchiveReader, ArchivedTable, MemorySink, Rebuild};
use serde::Deserialize;

/// Number of the system table.
const SYSTEM_TABLE: TableId = TableId(1);
/// Key of a table's record in the system table: this and its name.
const TABLE: &str = "table#";

/// A table that the lost mesh had.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    /// As it was.
    pub(crate) definition: TableDefinition,
}

#[derive(Deserialize)]
struct Record {
    definition: TableDefinition,
}

impl Lost {
    /// Its pieces at a moment.
    pub(crate) async fn pieces(
        &self,
        reader: &ArchiveReader,
        moment: Moment,
    ) -> anyhow::Result<(ArchivedTable, Vec<Piece>)> {
        let uuid = TableUuid::parse(&self.definition.uuid);
        let uuid = uuid.ok_or_else(|| anyhow::anyhow!("its UUID is {:?}", self.definition.uuid))?;
        let table = ArchivedTable::read(reader, &uuid).await?;
        let pieces = table.pieces(moment)?;
        Ok((table, pieces))
    }
}

/// The system table of the lost mesh, and the tables in it by name.
///
/// # Errors
/// When there is none, or there are several that have tables and none of them is named.
pub(crate) async fn read(
    reader: &ArchiveReader,
    wanted: Option<&str>,
) -> anyhow::Result<(TableUuid, Vec<Lost>)> {
    let mut systems = BTreeMap::new();
    for uuid in reader.tables().await? {
        if wanted.is_some_and(|wanted| wanted != uuid.as_str()) || !is_system(reader, &uuid).await?
        {
            continue;
        }
        let (tables, last_ms) = tables(reader, &uuid).await?;
        systems.insert(uuid, (tables, last_ms));
    }
    anyhow::ensure!(
        !systems.is_empty(),
        "the archive holds no system table{}",
        match wanted {
            Some(wanted) => format!(" {wanted}"),
            None => String::new(),
        }
    );
    // That of the fresh mesh may be there, too, and has nothing in it.
    if systems.values().any(|(tables, _)| !tables.is_empty()) {
        systems.retain(|_, (tables, _)| !tables.is_empty());
    }
    if systems.len() > 1 {
        let lines = systems.iter().map(|(uuid, (tables, last_ms))| {
            let what = format!(
                "{} tables, last changed at {last_ms} ms since the epoch",
                tables.len()
            );
            (uuid.as_str().to_owned(), what)
        });
        anyhow::bail!(
            "several meshes have archived here, say which one is lost:{}",
            super::several(&lines.collect())
        );
    }
    let found = systems.pop_first();
    let (uuid, (tables, _)) = found.ok_or_else(|| anyhow::anyhow!("no system table"))?;
    Ok((uuid, tables))
}

async fn is_system(reader: &ArchiveReader, uuid: &TableUuid) -> anyhow::Result<bool> {
    for partition in reader.partitions(uuid).await? {
        if let Some(birth) = reader.birth(&partition).await? {
            // The transactions' ledger is a system table, too.
            return Ok(birth.table.id == SYSTEM_TABLE);
        }
    }
    Ok(false)
}

/// The tables that the system table knows at the end of its archive, and the time of its last change.
async fn tables(reader: &ArchiveReader, uuid: &TableUuid) -> anyhow::Result<(Vec<Lost>, u64)> {
    let table = ArchivedTable::read(reader, uuid).await?;
    let (mut lost, mut last_ms) = (Vec::new(), 0);
    for piece in table.pieces(Moment::End)? {
        let partition: PartitionRef = table.partition(piece.partition);
        let rebuild = Rebuild::new(reader.clone(), partition, Moment::End.into()).only(piece.range);
        let (sink, rebuilt) = rebuild.run(MemorySink::default()).await?;
        last_ms = last_ms.max(rebuilt.tail.time_ms);
        for item in sink.items.values() {
            let item = decode_item(item)
                .map_err(|error| anyhow::anyhow!("a record of the system table: {}", error.0))?;
            let text = |name: &str| match item.get(name) {
                Some(AttributeValue::S(text)) => Some(text.as_str()),
                _ => None,
            };
            let Some(body) = text("pk")
                .filter(|key| key.starts_with(TABLE))
                .and_then(|_| text("body"))
            else {
                continue;
            };
            let Record { definition } = serde_json::from_str(body)?;
            // What was being deleted is gone; the tables of indexes come with their tables. The transactions' ledger begins anew: what it
            // knew to be unfinished has no pending items left.
            let wanted = definition.status != TableStatus::Deleting
                && definition.index_of.is_none()
                && !definition.id.is_system();
            if wanted {
                lost.push(Lost { definition });
            }
        }
    }
    lost.sort_by(|one, other| one.definition.name.cmp(&other.definition.name));
    Ok((lost, last_ms))
}
