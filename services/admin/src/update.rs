//! Changing a table: the record first, then the partitions through their leaders, then ACTIVE again.

use std::time::{Duration, Instant};

use mesh::{Deadline, TraceContext};
use model::index::index_table_name;
use model::table::TableStatus;
use model::{ApiError, TableDefinition, TableId};
use paxos::NodeId;
use protocol::control::Order;
use telemetry::traces;

use crate::catalog::WriteError;
use crate::driver::{Admin, Outcome, Unsettled};
use crate::indexes::follow_mode;
use crate::records::{self, PartitionRecord, Stored, TableRecord};
use crate::requests::TableChange;
use crate::streams;
use crate::texts;

/// Tries to change a record that others change too.
const TRIES_MAX: usize = 10;
/// How long one drive looks for a partition's leader.
const LEADER_WAIT: Duration = Duration::from_secs(5);

impl Admin {
    /// Records a change; the partitions learn of it through `drive`.
    pub(crate) async fn record_change(
        &self,
        change: &TableChange,
        now_ms: u64,
    ) -> Result<TableDefinition, ApiError> {
        if change.name == transactions::ledger::TABLE {
            return Err(texts::table_not_found(&change.name));
        }
        let (quotas, region) = (&self.settings.quotas, &self.settings.region);
        let reserving = match change.throughput.units {
            Some(_) => Some(self.reserve_beside(&change.name).await?),
            None => None,
        };
        let others = reserving.as_ref().map(|reserving| reserving.rates);
        let table = match change.indexes.creates() {
            true => self.take_numbers(1, 0).await?.0,
            false => TableId::default(),
        };
        let traceparent = traces::current().traceparent();
        let throughput = &change.throughput;
        let of_throughput =
            throughput.mode.is_some() || throughput.units.is_some() || throughput.warm.is_some();
        let changed = self
            .change_table(&change.name, |record| {
                if of_throughput {
                    record.throughput_traceparent.clone_from(&traceparent);
                }
                let definition = &mut record.definition;
                refuse_busy(definition)?;
                let before = definition.clone();
                apply(change, definition, table, now_ms)?;
                quotas.check_table(region, Some(&before), definition)?;
                match others {
                    Some(others) => quotas.check_account(region, others, Some(&before), definition),
                    None => Ok(()),
                }
            })
            .await?
            .ok_or_else(|| texts::table_not_found(&change.name))?
            .definition;
        self.change_index_tables(change, &changed, now_ms).await?;
        Ok(changed)
    }

    /// Records what a change of a table means for the tables of its global indexes.
    async fn change_index_tables(
        &self,
        change: &TableChange,
        table: &TableDefinition,
        now_ms: u64,
    ) -> Result<(), ApiError> {
        for index in table.indexes.iter().filter(|index| !index.is_local()) {
            let name = index_table_name(&table.name, &index.name);
            let mut asked = change.indexes.throughput.iter();
            let asked = asked.find(|(other, _)| *other == index.name);
            if asked.is_none() && change.throughput.mode.is_none() {
                continue;
            }
            self.change_record(&name, |definition| {
                let followed = follow_mode(table, definition);
                if let Some((_, throughput)) = asked {
                    throughput.apply(definition, now_ms)?;
                }
                if followed || asked.is_some() {
                    let unnoticed = asked.is_some_and(|(_, asked)| asked.is_unnoticed());
                    definition.note_change(unnoticed && !followed);
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Changes a table's record whatever other admins do at the same time; none if there is no such table.
    pub(crate) async fn change_record(
        &self,
        name: &str,
        mut change: impl FnMut(&mut TableDefinition) -> Result<(), ApiError>,
    ) -> Result<Option<TableDefinition>, ApiError> {
        let changed = self.change_table(name, |record| change(&mut record.definition));
        Ok(changed.await?.map(|record| record.definition))
    }

    /// Same, of the whole record.
    pub(crate) async fn change_table(
        &self,
        name: &str,
        mut change: impl FnMut(&mut TableRecord) -> Result<(), ApiError>,
    ) -> Result<Option<TableRecord>, ApiError> {
        let key = records::table_key(name);
        for _ in 0..TRIES_MAX {
            let Some(stored) = self.table(name).await? else {
                return Ok(None);
            };
            let mut record = stored.value;
            change(&mut record)?;
            match self.catalog.put(&key, &record, Some(&stored.token)).await {
                Ok(_) => return Ok(Some(record)),
                Err(WriteError::Conflict) => {}
                Err(WriteError::Api(error)) => return Err(error),
            }
        }
        Err(texts::raced())
    }

    /// Carries the definition of a table that is UPDATING to its partitions.
    pub(crate) async fn update(&self, stored: Stored<TableRecord>) -> Result<(), Unsettled> {
        let Stored {
            value: mut record,
            token,
        } = stored;
        self.make_index_tables(&record.definition).await?;
        record.definition.note_settled();
        let before = record.definition.clone();
        let indexes = &mut record.definition.indexes;
        indexes.retain(|i| i.global().is_none_or(|g| g.status != TableStatus::Deleting));
        for &partition in &record.partitions {
            let Some(partition) = self.partition(partition).await? else {
                return Err(Unsettled::Later("a partition has no record"));
            };
            self.set_table(&partition.value, &record.definition).await?;
        }
        // Nobody propagates to them any more.
        self.drop_index_tables(&before, false).await?;
        let key = records::table_key(&record.definition.name);
        self.catalog.put(&key, &record, Some(&token)).await?;
        Ok(())
    }

    /// Carries a definition to one partition, through its leader.
    pub(crate) async fn set_table(
        &self,
        partition: &PartitionRecord,
        definition: &TableDefinition,
    ) -> Result<(), Unsettled> {
        let table = Box::new(definition.clone());
        let order = Order::SetTable {
            partition: partition.partition,
            table,
        };
        let started = Instant::now();
        while started.elapsed() < LEADER_WAIT {
            for node in self.leader_first(partition, definition).await {
                match self.order(node, &order).await {
                    Outcome::Done => return Ok(()),
                    Outcome::NotLeader | Outcome::Silent | Outcome::Stale(_) => {}
                    Outcome::Unauthorised => {
                        return Err(Unsettled::Later("another admin gives the orders now"));
                    }
                    Outcome::Refused(why) => {
                        let partition = partition.partition.0;
                        tracing::warn!(partition, node = node.0, why, "a change was refused");
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(20..60))).await;
        }
        Err(Unsettled::Later(
            "a partition has no leader, or has transactions under way that must end first",
        ))
    }

    /// The members of a partition, the one that leads (as far as is known) first.
    async fn leader_first(
        &self,
        partition: &PartitionRecord,
        definition: &TableDefinition,
    ) -> Vec<NodeId> {
        let deadline = Deadline::after(Duration::from_millis(500));
        let trace = TraceContext::default();
        let mut range = partition.range.clone();
        // One key is enough to find the partition.
        range.end = range
            .start
            .iter()
            .copied()
            .chain([0])
            .collect::<Vec<u8>>()
            .into();
        let found = self
            .client
            .partitions(definition, &range, deadline, &trace)
            .await;
        let found = found.unwrap_or_default().into_iter().next();
        let mut nodes: Vec<NodeId> = match &found {
            Some(info) => info.members.iter().map(|m| m.member.node).collect(),
            None => partition.members.iter().map(|m| m.member.node).collect(),
        };
        let leader = found.and_then(|info| info.leader);
        nodes.sort_by_key(|&node| Some(node) != leader);
        nodes
    }
}

/// Refuses changes to a table that is being made, changed or dropped. What its users do not notice they need not wait for.
pub(crate) fn refuse_busy(definition: &TableDefinition) -> Result<(), ApiError> {
    let doing = match definition.shown_status() {
        TableStatus::Active => return Ok(()),
        TableStatus::Creating => "created",
        TableStatus::Updating => "updated",
        TableStatus::Deleting => "deleted",
    };
    Err(texts::table_busy(&definition.name, doing))
}

fn apply(
    change: &TableChange,
    definition: &mut TableDefinition,
    table: TableId,
    now_ms: u64,
) -> Result<(), ApiError> {
    change.throughput.apply(definition, now_ms)?;
    change.indexes.apply(definition, table)?;
    if let Some(class) = &change.class {
        definition.table_class = Some(class.clone());
    }
    if let Some(protection) = change.protection {
        definition.deletion_protection = protection;
    }
    if let Some(stream) = change.stream {
        streams::apply(stream, definition, now_ms)?;
    }
    definition.note_change(change.is_unnoticed());
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_settled_tables_are_changed() {
        let mut definition = records::system_table();
        definition.name = "music".into();
        assert_eq!(refuse_busy(&definition), Ok(()));
        definition.status = TableStatus::Deleting;
        assert_eq!(
            refuse_busy(&definition).unwrap_err().message,
            "Attempt to change a resource which is still in use: Table is being deleted: music"
        );
        definition.status = TableStatus::Active;
        definition.note_change(false);
        assert!(refuse_busy(&definition).is_err());
    }

    #[test]
    fn maxima_and_warm_throughput_change_while_a_table_is_active_to_its_users() {
        let change = |body: serde_json::Value| -> TableChange {
            let request: crate::requests::UpdateTable = serde_json::from_value(body).unwrap();
            request.validate().unwrap()
        };
        let shown = |table: &mut TableDefinition, body| {
            apply(&change(body), table, TableId::default(), 1).unwrap();
            (table.status, table.shown_status())
        };
        let maximum =
            || json!({"TableName": "music", "OnDemandThroughput": {"MaxReadRequestUnits": 5}});
        let mut table = records::system_table();
        let (active, updating) = (TableStatus::Active, TableStatus::Updating);
        assert_eq!(shown(&mut table, maximum()), (updating, active));
        let described = table.describe("us-east-1", &Default::default(), 1);
        assert_eq!(described["TableStatus"], "ACTIVE");
        assert_eq!(described["WarmThroughput"]["Status"], "UPDATING");
        // The next change need not wait, whichever it is.
        assert_eq!(refuse_busy(&table), Ok(()));
        let warm = json!({"TableName": "music", "WarmThroughput": {"ReadUnitsPerSecond": 20_000}});
        assert_eq!(shown(&mut table, warm), (updating, active));
        let protected = json!({"TableName": "music", "DeletionProtectionEnabled": true});
        assert_eq!(shown(&mut table, protected), (updating, updating));
        assert!(refuse_busy(&table).is_err());
        // Nor is what was noticed forgotten until it is done.
        table.note_change(true);
        assert_eq!(table.shown_status(), updating);
        table.note_settled();
        assert_eq!(table.shown_status(), active);
        assert_eq!(shown(&mut table, maximum()), (updating, active));
    }
}
