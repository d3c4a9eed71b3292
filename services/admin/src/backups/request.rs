//! The requests about backups and points in time: shapes, and validation in DynamoDB's order. Pure. What Evenkeel cannot do yet is refused by name,
//! never ignored.

use std::collections::BTreeMap;

use model::ApiError;
use model::table::{BillingMode, TableDefinition};
use model::throughput::OnDemandThroughput;
use serde::Deserialize;
use serde_json::Value;

use super::arn::{self, Kind};
use super::texts;
use super::window::DAYS_MAX;
use crate::constraints::{Constraints, table_of};
use crate::indexes::{Index, NewIndex};
use crate::requests::{BILLING_MODES, refuse_unsupported};
use crate::throughput::{self, OnDemand, Throughput};

/// A time of a request: seconds since the epoch, with or without a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Seconds(f64);

impl Seconds {
    /// Milliseconds since the epoch; what lies outside of all times becomes the nearest one.
    pub(crate) fn ms(self) -> u64 {
        // `as` saturates.
        (self.0 * 1000.0).round() as u64
    }
}

/// Body of UpdateContinuousBackups.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct UpdateContinuousBackups {
    table_name: Option<String>,
    point_in_time_recovery_specification: Option<RecoverySpecification>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RecoverySpecification {
    point_in_time_recovery_enabled: Option<bool>,
    recovery_period_in_days: Option<i64>,
}

/// A valid UpdateContinuousBackups.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RecoveryChange {
    pub(crate) table: String,
    pub(crate) enabled: bool,
    /// None: as it is, or 35.
    pub(crate) days: Option<u32>,
}

impl UpdateContinuousBackups {
    pub(crate) fn validate(self) -> Result<RecoveryChange, ApiError> {
        let mut constraints = Constraints::default();
        constraints.table_name(self.table_name.as_deref());
        let specification = self.point_in_time_recovery_specification;
        let (mut enabled, mut days) = (None, None);
        match &specification {
            None => constraints.present("pointInTimeRecoverySpecification", false),
            Some(asked) => {
                let member = |name: &str| format!("pointInTimeRecoverySpecification.{name}");
                let present = asked.point_in_time_recovery_enabled.is_some();
                constraints.present(&member("pointInTimeRecoveryEnabled"), present);
                let period = asked.recovery_period_in_days;
                let member = member("recoveryPeriodInDays");
                constraints.between(&member, period, 1, i64::from(DAYS_MAX));
                enabled = asked.point_in_time_recovery_enabled;
                days = period.and_then(|days| u32::try_from(days).ok());
            }
        }
        constraints.check()?;
        let enabled = enabled.unwrap_or(false);
        if !enabled && days.is_some() {
            return Err(texts::period_without_recovery());
        }
        Ok(RecoveryChange {
            table: table_of(self.table_name.as_deref().unwrap_or_default()).to_owned(),
            enabled,
            days,
        })
    }
}

/// Body of CreateBackup.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct CreateBackup {
    table_name: Option<String>,
    backup_name: Option<String>,
}

impl CreateBackup {
    /// Table and name of the backup.
    pub(crate) fn validate(self) -> Result<(String, String), ApiError> {
        let mut constraints = Constraints::default();
        constraints.table_name(self.table_name.as_deref());
        match &self.backup_name {
            None => constraints.present("backupName", false),
            Some(name) => constraints.name("backupName", name),
        }
        constraints.check()?;
        let table = table_of(self.table_name.as_deref().unwrap_or_default()).to_owned();
        Ok((table, self.backup_name.unwrap_or_default()))
    }
}

/// Body of DescribeBackup and DeleteBackup.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct NamedBackup {
    backup_arn: Option<String>,
}

/// Whatever has an Amazon Resource Name below a table's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) arn: String,
    pub(crate) table: String,
    pub(crate) number: String,
}

pub(super) fn constrain_arn(constraints: &mut Constraints, member: &str, arn: Option<&str>) {
    match arn {
        None => constraints.present(member, false),
        Some(arn) => constraints.length(member, arn, 37, 1024),
    }
}

pub(super) fn named(
    arn: String,
    kind: Kind,
    wrong: impl Fn() -> ApiError,
) -> Result<Named, ApiError> {
    let (table, number) = arn::parse(&arn, kind).ok_or_else(wrong)?;
    Ok(Named {
        table: table.to_owned(),
        number: number.to_owned(),
        arn,
    })
}

impl NamedBackup {
    pub(crate) fn validate(self) -> Result<Named, ApiError> {
        let mut constraints = Constraints::default();
        constrain_arn(&mut constraints, "backupArn", self.backup_arn.as_deref());
        constraints.check()?;
        let arn = self.backup_arn.unwrap_or_default();
        named(arn, Kind::Backup, texts::bad_backup_arn)
    }
}

/// Body of ListBackups.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ListBackups {
    table_name: Option<String>,
    limit: Option<i64>,
    time_range_lower_bound: Option<Seconds>,
    time_range_upper_bound: Option<Seconds>,
    exclusive_start_backup_arn: Option<String>,
    backup_type: Option<String>,
}

/// A valid ListBackups.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BackupQuery {
    pub(crate) table: Option<String>,
    pub(crate) limit: usize,
    /// First time, milliseconds since the epoch.
    pub(crate) from_ms: u64,
    /// First time behind.
    pub(crate) until_ms: u64,
    pub(crate) after: Option<Named>,
    /// `USER`, `SYSTEM`, `AWS_BACKUP` or `ALL`.
    pub(crate) kind: String,
}

impl ListBackups {
    pub(crate) fn validate(self) -> Result<BackupQuery, ApiError> {
        let mut constraints = Constraints::default();
        if let Some(name) = &self.table_name {
            constraints.table_name(Some(name));
        }
        constraints.between("limit", self.limit, 1, 100);
        if let Some(arn) = &self.exclusive_start_backup_arn {
            constraints.length("exclusiveStartBackupArn", arn, 37, 1024);
        }
        let kinds = &["USER", "SYSTEM", "AWS_BACKUP", "ALL"];
        constraints.one_of("backupType", self.backup_type.as_deref(), kinds);
        constraints.check()?;
        let after = self.exclusive_start_backup_arn;
        let after = after.map(|arn| named(arn, Kind::Backup, texts::bad_backup_arn));
        Ok(BackupQuery {
            table: self.table_name.map(|name| table_of(&name).to_owned()),
            limit: usize::try_from(self.limit.unwrap_or(100)).unwrap_or(100),
            from_ms: self.time_range_lower_bound.map_or(0, Seconds::ms),
            until_ms: self.time_range_upper_bound.map_or(u64::MAX, Seconds::ms),
            after: after.transpose()?,
            kind: self.backup_type.unwrap_or_else(|| "USER".to_owned()),
        })
    }
}

/// What a restored table has instead of the source's.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Overrides {
    billing_mode_override: Option<String>,
    provisioned_throughput_override: Option<Throughput>,
    on_demand_throughput_override: Option<OnDemand>,
    global_secondary_index_override: Option<Vec<Index>>,
    local_secondary_index_override: Option<Vec<Index>>,
    vector_index_override: Option<Vec<Value>>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Billing of a restored table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Billing {
    pub(crate) mode: BillingMode,
    pub(crate) maximum: OnDemandThroughput,
}

impl Overrides {
    fn constrain(&self, constraints: &mut Constraints) {
        let mode = self.billing_mode_override.as_deref();
        constraints.one_of("billingModeOverride", mode, BILLING_MODES);
        let throughput = self.provisioned_throughput_override.as_ref();
        throughput::constrain_as("provisionedThroughputOverride", constraints, throughput);
        for (member, is_local) in [
            ("localSecondaryIndexOverride", true),
            ("globalSecondaryIndexOverride", false),
        ] {
            for (at, index) in self.indexes(is_local).into_iter().flatten().enumerate() {
                index.constrain(
                    constraints,
                    &format!("{member}.{}.member", at + 1),
                    is_local,
                );
            }
        }
    }

    fn indexes(&self, is_local: bool) -> Option<&[Index]> {
        let list = match is_local {
            true => &self.local_secondary_index_override,
            false => &self.global_secondary_index_override,
        };
        list.as_deref()
    }

    fn refuse(&self) -> Result<(), ApiError> {
        let vectors = self.vector_index_override.as_ref();
        if vectors.is_some_and(|list| !list.is_empty()) {
            return Err(texts::vector_override());
        }
        refuse_unsupported(&self.rest, &["SSESpecificationOverride"])
    }

    /// Billing of a table that is restored from `source`.
    fn billing(&self, source: &TableDefinition) -> Result<Billing, ApiError> {
        let throughput = self.provisioned_throughput_override.as_ref();
        let mode = match (self.billing_mode_override.as_deref(), throughput) {
            (None, None) => source.billing,
            (Some("PROVISIONED"), None)
                if matches!(source.billing, BillingMode::Provisioned { .. }) =>
            {
                source.billing
            }
            (None, Some(_)) if source.billing == BillingMode::PayPerRequest => {
                throughput::billing(Some("PAY_PER_REQUEST"), throughput)?
            }
            (mode, throughput) => throughput::billing(mode, throughput)?,
        };
        let maximum = match &self.on_demand_throughput_override {
            Some(asked) if asked.first().is_none() => return Err(texts::empty_on_demand_override()),
            Some(asked) => throughput::maximum(mode, Some(asked))?,
            None if mode == BillingMode::PayPerRequest => source.on_demand_max,
            None => OnDemandThroughput::default(),
        };
        Ok(Billing { mode, maximum })
    }
}

/// Body of RestoreTableFromBackup.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct RestoreTableFromBackup {
    target_table_name: Option<String>,
    backup_arn: Option<String>,
    #[serde(flatten)]
    overrides: Overrides,
}

/// A valid restore, as far as it can be said without the source.
#[derive(Debug)]
pub(crate) struct Restore<S> {
    pub(crate) target: String,
    pub(crate) source: S,
    overrides: Overrides,
}

impl<S> Restore<S> {
    /// Billing of the new table.
    pub(crate) fn billing(&self, source: &TableDefinition) -> Result<Billing, ApiError> {
        self.overrides.billing(source)
    }

    /// Indexes of the new table, which is billed like this: the source's; of a kind that is overridden, those of them that are named.
    pub(crate) fn indexes(
        &self,
        source: &TableDefinition,
        billing: BillingMode,
    ) -> Result<Vec<NewIndex>, ApiError> {
        let keys = source.indexes.iter().flat_map(|index| index.keys.all());
        let keys = keys.map(|(key, _)| key).chain(&source.keys.sort);
        let keys = keys.chain([&source.keys.partition]);
        let types = keys.map(|key| (key.name.as_str(), key.kind)).collect();
        let mut new: Vec<NewIndex> = Vec::with_capacity(source.indexes.len());
        for is_local in [true, false] {
            let of_source = source.indexes.iter().filter(|i| i.is_local() == is_local);
            let Some(wanted) = self.overrides.indexes(is_local) else {
                new.extend(of_source.map(NewIndex::of));
                continue;
            };
            let of_source: Vec<NewIndex> = of_source.map(NewIndex::of).collect();
            for index in wanted {
                let index = index.validate(&types, &source.keys, billing, is_local)?;
                if !of_source.iter().any(|known| known.indexes_as(&index)) {
                    return Err(texts::index_of_no_source(&index.name));
                }
                if new.iter().any(|other| other.name == index.name) {
                    return Err(crate::texts::duplicate_index(&index.name));
                }
                new.push(index);
            }
        }
        Ok(new)
    }
}

fn constrain_target(constraints: &mut Constraints, target: Option<&str>) {
    match target {
        None => constraints.present("targetTableName", false),
        Some(name) => constraints.name("targetTableName", name),
    }
}

impl RestoreTableFromBackup {
    pub(crate) fn validate(self) -> Result<Restore<Named>, ApiError> {
        let mut constraints = Constraints::default();
        constrain_target(&mut constraints, self.target_table_name.as_deref());
        constrain_arn(&mut constraints, "backupArn", self.backup_arn.as_deref());
        self.overrides.constrain(&mut constraints);
        constraints.check()?;
        let arn = self.backup_arn.unwrap_or_default();
        let source = named(arn, Kind::Backup, texts::bad_backup_arn)?;
        self.overrides.refuse()?;
        Ok(Restore {
            target: self.target_table_name.unwrap_or_default(),
            source,
            overrides: self.overrides,
        })
    }
}

/// Body of RestoreTableToPointInTime.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct RestoreTableToPointInTime {
    source_table_arn: Option<String>,
    source_table_name: Option<String>,
    target_table_name: Option<String>,
    use_latest_restorable_time: Option<bool>,
    restore_date_time: Option<Seconds>,
    #[serde(flatten)]
    overrides: Overrides,
}

/// A table at a point in time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TableAt {
    pub(crate) table: String,
    /// None: the latest possible one. Milliseconds since the epoch.
    pub(crate) at_ms: Option<u64>,
}

impl RestoreTableToPointInTime {
    pub(crate) fn validate(self) -> Result<Restore<TableAt>, ApiError> {
        let mut constraints = Constraints::default();
        if let Some(arn) = &self.source_table_arn {
            constraints.length("sourceTableArn", arn, 1, 1024);
        }
        if let Some(name) = &self.source_table_name {
            constraints.name("sourceTableName", name);
        }
        constrain_target(&mut constraints, self.target_table_name.as_deref());
        self.overrides.constrain(&mut constraints);
        constraints.check()?;
        let table = match (self.source_table_name, self.source_table_arn) {
            (None, None) => return Err(texts::no_source()),
            (Some(_), Some(_)) => return Err(texts::two_sources()),
            (Some(name), None) => name,
            (None, Some(arn)) => match arn::table_of_arn(&arn) {
                Some(table) => table.to_owned(),
                None => return Err(texts::bad_table_arn(&arn)),
            },
        };
        let latest = self.use_latest_restorable_time.unwrap_or(false);
        let at_ms = match (latest, self.restore_date_time) {
            (true, Some(_)) => return Err(texts::two_restore_times()),
            (false, None) => return Err(texts::no_restore_time()),
            (_, time) => time.map(Seconds::ms),
        };
        self.overrides.refuse()?;
        Ok(Restore {
            target: self.target_table_name.unwrap_or_default(),
            source: TableAt { table, at_ms },
            overrides: self.overrides,
        })
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
