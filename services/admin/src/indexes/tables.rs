//! Global secondary indexes of tables: the tables that hold their entries are made before the table's partitions know of an index, and
//! dropped after they have forgotten it. Resumable after every step.

use model::index::{GlobalIndex, IndexDefinition, IndexOf, IndexScope, index_table_name};
use model::table::{KeySchema, TableStatus};
use model::{ApiError, IndexId, TableDefinition};
use paxos::GroupId;
use serde_json::{Value, json};

use crate::create::partition_count;
use crate::driver::{Admin, Unsettled};
use crate::records::{self, Stored, TableRecord};

/// Whether this is the name of a table that holds the entries of an index.
pub(crate) fn is_index_table(name: &str) -> bool {
    model::index::split_index_table_name(name).is_some()
}

/// The definition of the table that holds an index's entries.
fn index_table(
    base: &TableDefinition,
    index: &IndexDefinition,
    global: &GlobalIndex,
) -> TableDefinition {
    let keys = KeySchema {
        partition: index.keys.partition.first().cloned().unwrap_or_default(),
        sort: index.keys.sort.first().cloned(),
    };
    TableDefinition {
        id: global.table,
        name: index_table_name(&base.name, &index.name),
        version: 1,
        keys,
        billing: global.billing,
        status: TableStatus::Creating,
        created_ms: base.created_ms,
        uuid: uuid::Uuid::new_v4().to_string(),
        on_demand_max: global.maximum,
        warm: global.warm,
        index_of: Some(Box::new(IndexOf {
            base: base.id,
            base_keys: base.keys.clone(),
            keys: index.keys.clone(),
        })),
        ..TableDefinition::default()
    }
}

/// Whether the table of an index must be there.
fn is_wanted(global: &GlobalIndex) -> bool {
    global.status != TableStatus::Deleting
}

impl Admin {
    /// Makes what is missing of the tables of a table's indexes; `Later` until all are ACTIVE.
    pub(crate) async fn make_index_tables(&self, base: &TableDefinition) -> Result<(), Unsettled> {
        for index in &base.indexes {
            let Some(global) = index.global().filter(|global| is_wanted(global)) else {
                continue;
            };
            let name = index_table_name(&base.name, &index.name);
            let stored = match self.table(&name).await? {
                Some(stored) => stored,
                None => self.record_index_table(base, index, global).await?,
            };
            match stored.value.definition.status {
                TableStatus::Creating => self.make_partitions(stored).await?,
                TableStatus::Deleting => {
                    return Err(Unsettled::Later("an index of that name is being dropped"));
                }
                TableStatus::Active | TableStatus::Updating => {}
            }
        }
        Ok(())
    }

    async fn record_index_table(
        &self,
        base: &TableDefinition,
        index: &IndexDefinition,
        global: &GlobalIndex,
    ) -> Result<Stored<TableRecord>, Unsettled> {
        let settings = &self.settings;
        let (on_demand, max) = (settings.on_demand_partitions, settings.partitions_max);
        let count = u64::from(partition_count(global.billing, global.warm, on_demand, max));
        let (_, first) = self.take_numbers(0, count).await?;
        let record = TableRecord {
            definition: index_table(base, index, global),
            partitions: (first..first + count).map(GroupId).collect(),
            ..TableRecord::default()
        };
        let key = records::table_key(&record.definition.name);
        let token = self.catalog.put(&key, &record, None).await?;
        Ok(Stored {
            value: record,
            token,
        })
    }

    /// Drops the tables of indexes; `all`: of every index, not only of those that are being dropped.
    pub(crate) async fn drop_index_tables(
        &self,
        base: &TableDefinition,
        all: bool,
    ) -> Result<(), Unsettled> {
        for index in &base.indexes {
            let Some(global) = index.global() else {
                continue;
            };
            if !all && is_wanted(global) {
                continue;
            }
            let name = index_table_name(&base.name, &index.name);
            let Some(mut stored) = self.table(&name).await? else {
                continue;
            };
            let definition = &mut stored.value.definition;
            if definition.status != TableStatus::Deleting {
                definition.status = TableStatus::Deleting;
                definition.version += 1;
                let key = records::table_key(&name);
                let put = self.catalog.put(&key, &stored.value, Some(&stored.token));
                stored.token = put.await?;
            }
            // An index table has no indexes: this goes no deeper.
            Box::pin(self.delete(stored)).await?;
        }
        Ok(())
    }

    /// Indexes that all items of a table are in become ACTIVE.
    pub(crate) async fn finish_backfills(&self, record: &TableRecord) -> Result<bool, ApiError> {
        let filled = |id: IndexId| {
            let partitions = self.partitions.read();
            let has = |partition: &GroupId| {
                let seen = partitions.get(*partition);
                seen.is_some_and(|seen| seen.info.backfilled.contains(&id))
            };
            record.partitions.iter().all(has)
        };
        let mut ready: Vec<IndexId> = Vec::new();
        for index in &record.definition.indexes {
            if index
                .global()
                .is_some_and(|g| g.backfilling && is_wanted(g))
                && filled(index.id)
            {
                ready.push(index.id);
            }
        }
        if ready.is_empty() || !record.splits.is_empty() {
            return Ok(false);
        }
        let before = record.partitions.clone();
        let changed = self.change_table(&record.definition.name, |record| {
            // A partition that was split meanwhile speaks for itself in the next round.
            if record.partitions != before || record.definition.status != TableStatus::Active {
                return Ok(());
            }
            let definition = &mut record.definition;
            for index in &mut definition.indexes {
                if let IndexScope::Global(global) = &mut index.scope
                    && ready.contains(&index.id)
                {
                    global.backfilling = false;
                    global.status = TableStatus::Active;
                }
            }
            definition.note_change(false);
            Ok(())
        });
        Ok(changed.await?.is_some())
    }

    /// `GlobalSecondaryIndexes` of the API; none if there are none.
    pub(crate) async fn describe_global_indexes(
        &self,
        base: &TableDefinition,
        now_ms: u64,
    ) -> Result<Option<Value>, ApiError> {
        let mut described = Vec::new();
        for index in &base.indexes {
            let Some(global) = index.global() else {
                continue;
            };
            let name = index_table_name(&base.name, &index.name);
            let known = self.table(&name).await?;
            let table = match known {
                Some(stored) => stored.value.definition,
                None => index_table(base, index, global),
            };
            let counts = self.partitions.read().counts(global.table);
            let of_table = table.describe(&self.settings.region, &counts, now_ms);
            let status = match (base.status, global.status) {
                (TableStatus::Creating | TableStatus::Deleting, _) => base.status,
                (_, TableStatus::Active) => table.shown_status(),
                (_, status) => status,
            };
            let mut shown = json!({
                "IndexName": index.name,
                "KeySchema": index.keys.describe(),
                "Projection": index.projection.describe(),
                "IndexStatus": status.as_str(),
                "ProvisionedThroughput": of_table["ProvisionedThroughput"],
                "IndexSizeBytes": counts.size_bytes,
                "ItemCount": counts.items,
                "IndexArn": index.arn(&base.arn(&self.settings.region)),
            });
            if status == TableStatus::Creating && base.status != TableStatus::Creating {
                shown["Backfilling"] = json!(global.backfilling);
            }
            for member in ["OnDemandThroughput", "WarmThroughput"] {
                if !of_table[member].is_null() {
                    shown[member] = of_table[member].clone();
                }
            }
            described.push(shown);
        }
        Ok((!described.is_empty()).then_some(Value::Array(described)))
    }
}
