//! Making a table: numbers, record, placement, replicas, ACTIVE. Resumable after every step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use model::key::split_table_range;
use model::table::{BillingMode, TableStatus};
use model::throughput::UnitRates;
use model::{ApiError, TableDefinition, TableId};
use paxos::GroupId;
use protocol::control::Order;
use protocol::directory::PlacedMember;
use protocol::jobs;

use crate::backups::{Filling, JobRecord, Restored, arn, job_key};
use crate::catalog::WriteError;
use crate::driver::{Admin, Outcome, Unsettled};
use crate::founding::create_replica;
use crate::indexes::definitions;
use crate::placement::place;
use crate::records::{self, Counters, PartitionRecord, Stored, TableRecord};
use crate::requests::NewTable;
use crate::resource_policies;
use crate::streams;
use crate::texts;

/// Tries to get numbers while other admins get some too.
const NUMBER_TRIES_MAX: usize = 20;
/// How long one drive waits for the new partitions to have leaders that memds knows of. An election takes two seconds at most.
const LEADERS_WAIT: Duration = Duration::from_secs(10);
/// Time between looks.
const LEADERS_EVERY: Duration = Duration::from_millis(15);
/// Read units that one partition serves (developer guide, "Partitions and data distribution").
const PARTITION_READ_UNITS: u64 = 3_000;
/// Write units that one partition serves.
const PARTITION_WRITE_UNITS: u64 = 1_000;

/// How many partitions a table's throughput needs: `warm` is what its owner wants it to serve at once, beyond its mode.
pub(crate) fn partition_count(
    billing: BillingMode,
    warm: UnitRates,
    on_demand: u32,
    max: u32,
) -> u32 {
    let for_rates = |reads: u64, writes: u64| {
        let reads = reads.div_ceil(PARTITION_READ_UNITS);
        reads.max(writes.div_ceil(PARTITION_WRITE_UNITS))
    };
    let wanted = match billing {
        BillingMode::PayPerRequest => u64::from(on_demand),
        BillingMode::Provisioned {
            read_units,
            write_units,
        } => for_rates(read_units, write_units),
    };
    let wanted = wanted.max(for_rates(warm.read_units, warm.write_units));
    u32::try_from(wanted)
        .unwrap_or(u32::MAX)
        .clamp(1, max.max(1))
}

/// The type of a `Fill` that there is none of.
type MakeJob = fn(&TableDefinition, String) -> JobRecord;

/// How a new table gets items before it is ACTIVE.
pub(crate) struct Fill<J> {
    /// Partitions that it begins with at least.
    pub(crate) partitions: u32,
    /// Where they come from, for a restore.
    pub(crate) restored: Option<Restored>,
    /// Makes the record of the job with this number that fills this table.
    pub(crate) job: J,
}

impl Admin {
    /// Records a new table; its partitions are made by `drive`.
    pub(crate) async fn record_table(
        &self,
        new: NewTable,
        now_ms: u64,
    ) -> Result<TableDefinition, ApiError> {
        let fill: Option<Fill<MakeJob>> = None;
        let (record, _) = self.record_new(new, now_ms, fill).await?;
        Ok(record.definition)
    }

    /// Records a new table that a job fills before it is ACTIVE, and the job.
    pub(crate) async fn record_filled_table(
        &self,
        new: NewTable,
        now_ms: u64,
        fill: Fill<impl FnOnce(&TableDefinition, String) -> JobRecord>,
    ) -> Result<(TableRecord, JobRecord), ApiError> {
        let (record, job) = self.record_new(new, now_ms, Some(fill)).await?;
        Ok((record, job.ok_or_else(ApiError::internal)?))
    }

    async fn record_new(
        &self,
        new: NewTable,
        now_ms: u64,
        fill: Option<Fill<impl FnOnce(&TableDefinition, String) -> JobRecord>>,
    ) -> Result<(TableRecord, Option<JobRecord>), ApiError> {
        if let Some(existing) = self.table(&new.name).await? {
            return Err(match existing.value.definition.status {
                TableStatus::Deleting => texts::table_busy(&new.name, "deleted"),
                _ => texts::table_exists(&new.name),
            });
        }
        let settings = &self.settings;
        let reserving = self.reserve_beside(&new.name).await?;
        settings.quotas.check_count(reserving.tables)?;
        let count = partition_count(
            new.billing,
            new.warm,
            settings.on_demand_partitions,
            settings.partitions_max,
        );
        let wanted = fill.as_ref().map_or(0, |fill| fill.partitions);
        let count = count.max(wanted.min(settings.partitions_max));
        let mut definition = TableDefinition {
            id: TableId::default(),
            name: new.name,
            version: 1,
            keys: new.keys,
            indexes: Vec::new(),
            billing: new.billing,
            status: TableStatus::Creating,
            created_ms: now_ms,
            uuid: uuid::Uuid::new_v4().to_string(),
            deletion_protection: new.protection,
            table_class: new.class,
            tags: new.tags,
            streams: streams::first_stream(new.stream, now_ms),
            resource_policy: new
                .policy
                .map(|document| resource_policies::policy_of(document, now_ms)),
            throughput_changes: Default::default(),
            on_demand_max: new.maximum,
            warm: new.warm,
            ..TableDefinition::default()
        };
        let (quotas, region) = (&settings.quotas, &settings.region);
        quotas.check_table(region, None, &definition)?;
        quotas.check_account(region, reserving.rates, None, &definition)?;
        let globals = new.indexes.iter().filter(|index| !index.is_local).count() as u64;
        let (id, first) = self.take_numbers(1 + globals, u64::from(count)).await?;
        definition.id = id;
        definition.indexes = definitions(&new.indexes, TableId(id.0 + 1));
        let partitions = (first..first + u64::from(count)).map(GroupId).collect();
        let mut record = TableRecord {
            definition,
            partitions,
            ..TableRecord::default()
        };
        let mut job = None;
        if let Some(fill) = fill {
            let number = arn::number(now_ms, rand::random());
            record.restored = fill.restored;
            record.filling = Some(Filling {
                job: number.clone(),
                made: false,
            });
            // The job first: one without a table is given up after a while, a table without a job would never be ACTIVE.
            let made = (fill.job)(&record.definition, number);
            self.put_job(&made).await?;
            job = Some(made);
        }
        let key = records::table_key(&record.definition.name);
        match self.catalog.put(&key, &record, None).await {
            Ok(_) => Ok((record, job)),
            Err(WriteError::Conflict) => Err(texts::table_exists(&record.definition.name)),
            Err(WriteError::Api(error)) => Err(error),
        }
    }

    /// Takes so many table and partition numbers (the first ones are returned) that nobody else gets.
    pub(crate) async fn take_numbers(
        &self,
        tables: u64,
        partitions: u64,
    ) -> Result<(TableId, u64), ApiError> {
        for _ in 0..NUMBER_TRIES_MAX {
            let stored = self.catalog.get::<Counters>(records::COUNTERS).await?;
            let (counters, token) = match stored {
                Some(stored) => (stored.value, Some(stored.token)),
                None => (Counters::default(), None),
            };
            let next = Counters {
                next_table: counters.next_table + tables,
                next_partition: counters.next_partition + partitions,
            };
            match self
                .catalog
                .put(records::COUNTERS, &next, token.as_deref())
                .await
            {
                Ok(_) => return Ok((TableId(counters.next_table), counters.next_partition)),
                Err(WriteError::Conflict) => {
                    let pause = Duration::from_millis(rand::random_range(1..20));
                    tokio::time::sleep(pause).await;
                }
                Err(WriteError::Api(error)) => return Err(error),
            }
        }
        Err(texts::raced())
    }

    /// Makes the partitions of a table that is CREATING, and has it filled, until it is ACTIVE.
    pub(crate) async fn create(&self, stored: Stored<TableRecord>) -> Result<(), Unsettled> {
        match stored.value.filling.clone() {
            Some(filling) if filling.made => self.settle_filled(stored, &filling).await,
            _ => {
                self.make_index_tables(&stored.value.definition).await?;
                self.make_partitions(stored).await
            }
        }
    }

    /// Ends the creation of a table whose job has ended.
    async fn settle_filled(
        &self,
        stored: Stored<TableRecord>,
        filling: &Filling,
    ) -> Result<(), Unsettled> {
        let Stored {
            value: mut record,
            token,
        } = stored;
        let job: Option<Stored<JobRecord>> = self.catalog.get(&job_key(&filling.job)).await?;
        record.definition.version += 1;
        match job.map(|job| job.value.outcome) {
            Some(None) => return Err(Unsettled::Filling),
            Some(Some(jobs::Outcome::Done { .. })) => {
                record.definition.status = TableStatus::Active;
                record.filling = None;
                // From here on partitions take nothing of the job any more, and everything of their users.
                for &partition in &record.partitions {
                    let Some(partition) = self.partition(partition).await? else {
                        return Err(Unsettled::Later("a partition has no record"));
                    };
                    self.set_table(&partition.value, &record.definition).await?;
                }
            }
            // It can't be filled: what came of it is dropped. The job's record says why.
            Some(Some(jobs::Outcome::Failed { code, message })) => {
                let table = &record.definition.name;
                tracing::error!(
                    table,
                    code,
                    message,
                    "a table could not be filled and is dropped"
                );
                record.definition.status = TableStatus::Deleting;
            }
            None => record.definition.status = TableStatus::Deleting,
        }
        let key = records::table_key(&record.definition.name);
        self.catalog.put(&key, &record, Some(&token)).await?;
        Ok(())
    }

    /// Makes the partitions of a table that is CREATING; its indexes are there.
    pub(crate) async fn make_partitions(
        &self,
        stored: Stored<TableRecord>,
    ) -> Result<(), Unsettled> {
        let Stored {
            value: record,
            token,
        } = stored;
        let partitions = self.placed_partitions(&record).await?;
        // The data plane works with the definition as soon as a partition has a leader; a table that is filled first waits for that.
        let mut active = record.definition.clone();
        if record.filling.is_none() {
            active.status = TableStatus::Active;
        }
        let orders: FuturesUnordered<_> = partitions
            .iter()
            .flat_map(|p| p.members.iter().map(move |member| (p, member)))
            .map(|(partition, member)| {
                let order = create_replica(
                    partition.partition,
                    active.clone(),
                    partition.range.clone(),
                    &partition.members,
                );
                let node = member.member.node;
                async move { (partition.partition, node, self.order(node, &order).await) }
            })
            .collect();
        let mut missing = 0;
        for (partition, node, outcome) in orders.collect::<Vec<_>>().await {
            if outcome != Outcome::Done {
                missing += 1;
                tracing::warn!(
                    partition = partition.0,
                    node = node.0,
                    ?outcome,
                    "a replica is not made yet"
                );
            }
        }
        if missing > 0 {
            return Err(Unsettled::Later("replicas are missing"));
        }
        // A hint: without it, the election timers decide a second later.
        let hints = partitions.iter().filter_map(|partition| {
            let first = partition.members.first()?.member.node;
            let partition = partition.partition;
            Some(async move { self.order(first, &Order::Campaign { partition }).await })
        });
        hints.collect::<FuturesUnordered<_>>().count().await;
        let ranges: Vec<_> = partitions.iter().map(|p| p.range.clone()).collect();
        let started = Instant::now();
        while !self.client.known_everywhere(&active, &ranges).await {
            if started.elapsed() > LEADERS_WAIT {
                return Err(Unsettled::Later(
                    "partitions have no leader that memds knows of",
                ));
            }
            tokio::time::sleep(LEADERS_EVERY).await;
        }
        let key = records::table_key(&active.name);
        let mut made = TableRecord {
            definition: active,
            ..record
        };
        if let Some(filling) = &mut made.filling {
            filling.made = true;
        }
        self.catalog.put(&key, &made, Some(&token)).await?;
        Ok(())
    }

    /// The records of a new table's partitions; those that are not there yet are placed and written.
    async fn placed_partitions(
        &self,
        record: &TableRecord,
    ) -> Result<Vec<PartitionRecord>, Unsettled> {
        let mut known = BTreeMap::new();
        for &partition in &record.partitions {
            if let Some(stored) = self.partition(partition).await? {
                known.insert(partition, stored.value);
            }
        }
        let missing = record.partitions.len() - known.len();
        let mut places = self.places(missing)?.into_iter();
        let count = u32::try_from(record.partitions.len()).unwrap_or(u32::MAX);
        let ranges = split_table_range(record.definition.id, count);
        let mut placed = Vec::with_capacity(record.partitions.len());
        for (&partition, range) in record.partitions.iter().zip(ranges) {
            if let Some(record) = known.remove(&partition) {
                placed.push(record);
                continue;
            }
            let members = places
                .next()
                .ok_or(Unsettled::Later("no place for a partition"))?;
            let table = record.definition.id;
            let new = PartitionRecord {
                partition,
                table,
                range,
                members,
                dropping: false,
                parent: None,
            };
            // Lost against another admin: its placement counts, in the next round.
            self.catalog
                .put(&records::partition_key(partition), &new, None)
                .await?;
            placed.push(new);
        }
        Ok(placed)
    }

    fn places(&self, count: usize) -> Result<Vec<Vec<PlacedMember>>, Unsettled> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let cluster = self.cluster.read();
        place(
            cluster.alive(self.now_ms()),
            count,
            self.settings.free_bytes_min,
        )
        .ok_or(Unsettled::Later(
            "three zones with a storage node that has room are needed",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_the_throughput() {
        let provisioned = |read_units, write_units| BillingMode::Provisioned {
            read_units,
            write_units,
        };
        let count = |billing, max| partition_count(billing, UnitRates::default(), 4, max);
        assert_eq!(count(BillingMode::PayPerRequest, 64), 4);
        assert_eq!(count(provisioned(1, 1), 64), 1);
        assert_eq!(count(provisioned(3_000, 1_000), 64), 1);
        assert_eq!(count(provisioned(3_001, 1_000), 64), 2);
        assert_eq!(count(provisioned(1, 2_001), 64), 3);
        assert_eq!(count(provisioned(u64::MAX, 1), 64), 64);
        let warm = |read_units, write_units| {
            let warm = UnitRates {
                read_units,
                write_units,
            };
            partition_count(BillingMode::PayPerRequest, warm, 4, 64)
        };
        assert_eq!(warm(12_000, 4_000), 4);
        assert_eq!(warm(12_000, 9_500), 10);
    }
}
