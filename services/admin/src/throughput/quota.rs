//! What one table and all tables together may have: the account's quotas, from the settings. Pure.

use model::table::{BillingMode, TableDefinition};
use model::throughput::UnitRates;
use model::{ApiError, capacity::Direction};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::texts;

/// The account's quotas (section `admin.quotas`); the defaults are Amazon's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Read units a second of one table at most.
    pub table_read_units: u64,
    /// Write units a second of one table at most.
    pub table_write_units: u64,
    /// Read units a second that all provisioned tables may reserve together.
    pub account_read_units: u64,
    /// Write units a second that all provisioned tables may reserve together.
    pub account_write_units: u64,
    /// Tables at most.
    pub tables: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            table_read_units: 40_000,
            table_write_units: 40_000,
            account_read_units: 80_000,
            account_write_units: 80_000,
            tables: 2_500,
        }
    }
}

impl Quotas {
    /// One table's.
    pub(crate) fn table(&self) -> UnitRates {
        UnitRates {
            read_units: self.table_read_units,
            write_units: self.table_write_units,
        }
    }

    fn account(&self) -> UnitRates {
        UnitRates {
            read_units: self.account_read_units,
            write_units: self.account_write_units,
        }
    }

    /// The answer to DescribeLimits.
    pub(crate) fn describe(&self) -> Value {
        json!({
            "AccountMaxReadCapacityUnits": self.account_read_units,
            "AccountMaxWriteCapacityUnits": self.account_write_units,
            "TableMaxReadCapacityUnits": self.table_read_units,
            "TableMaxWriteCapacityUnits": self.table_write_units,
        })
    }

    /// Whether there may be one more table beside `others`.
    pub(crate) fn check_count(&self, others: usize) -> Result<(), ApiError> {
        if others < self.tables {
            Ok(())
        } else {
            Err(texts::too_many_tables(self.tables))
        }
    }

    /// Whether a table may become `after`; none of what it has already (`before`) is taken away.
    pub(crate) fn check_table(
        &self,
        region: &str,
        before: Option<&TableDefinition>,
        after: &TableDefinition,
    ) -> Result<(), ApiError> {
        for direction in Direction::ALL {
            let quota = self.table().of(direction);
            let grows = |now: u64, then: u64| now > quota && now > then;
            let units = provisioned(Some(after)).of(direction);
            if grows(units, provisioned(before).of(direction)) {
                return Err(texts::above_table_quota(direction, units, region, quota));
            }
            let max = |table: &TableDefinition| table.on_demand_max.of(direction).unwrap_or(0);
            if grows(max(after), before.map_or(0, max)) {
                return Err(texts::maximum_above_quota(direction, region));
            }
            let warm = |table: &TableDefinition| table.warm.of(direction);
            if grows(warm(after), before.map_or(0, warm)) {
                return Err(texts::warm_above_quota(direction, region));
            }
        }
        Ok(())
    }

    /// Whether a table may become `after` while the others reserve `others`.
    pub(crate) fn check_account(
        &self,
        region: &str,
        others: UnitRates,
        before: Option<&TableDefinition>,
        after: &TableDefinition,
    ) -> Result<(), ApiError> {
        for direction in Direction::ALL {
            let quota = self.account().of(direction);
            let units = provisioned(Some(after)).of(direction);
            let had = provisioned(before).of(direction);
            let reserved = others.of(direction).saturating_add(had);
            let total = others.of(direction).saturating_add(units);
            if units > had && total > quota {
                return Err(texts::above_account_quota(
                    direction, region, reserved, quota, units,
                ));
            }
        }
        Ok(())
    }
}

/// What tables reserve together.
pub(crate) fn reserved<'a>(tables: impl Iterator<Item = &'a TableDefinition>) -> UnitRates {
    tables.fold(UnitRates::default(), |sum, table| {
        let units = provisioned(Some(table));
        UnitRates {
            read_units: sum.read_units.saturating_add(units.read_units),
            write_units: sum.write_units.saturating_add(units.write_units),
        }
    })
}

fn provisioned(table: Option<&TableDefinition>) -> UnitRates {
    match table.map(|table| table.billing) {
        Some(billing @ BillingMode::Provisioned { .. }) => billing.base_rates(),
        _ => UnitRates::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::system_table;

    fn table(reads: u64, writes: u64) -> TableDefinition {
        TableDefinition {
            billing: BillingMode::Provisioned {
                read_units: reads,
                write_units: writes,
            },
            ..system_table()
        }
    }

    #[test]
    fn one_table_has_its_maximum() {
        let quotas = Quotas::default();
        let check = |before: Option<&TableDefinition>, after: &TableDefinition| {
            let checked = quotas.check_table("us-east-1", before, after);
            checked.map_err(|error| error.message)
        };
        assert_eq!(check(None, &table(40_000, 40_000)), Ok(()));
        assert_eq!(
            check(None, &table(1, 40_001)).unwrap_err(),
            "The requested WriteCapacityUnits, 40001, is above the per table maximum for the account in us-east-1. Per \
             table maximum: 40000. Refer to the Amazon DynamoDB Developer Guide for current limits and how to request \
             higher limits."
        );
        // What a table has from before the quota sank it keeps.
        let large = table(50_000, 1);
        assert_eq!(check(Some(&large), &table(50_000, 2)), Ok(()));
        assert_eq!(check(Some(&large), &table(45_000, 2)), Ok(()));
        assert!(check(Some(&large), &table(50_001, 1)).is_err());
        let mut maximum = table(1, 1);
        maximum.billing = BillingMode::PayPerRequest;
        maximum.on_demand_max.max_read_units = Some(40_001);
        assert_eq!(
            check(None, &maximum).unwrap_err(),
            "Subscriber limit exceeded: Requested MaxReadRequestUnits for OnDemandThroughput for table exceeds \
             TableMaxReadCapacityUnits of the account in region us-east-1"
        );
        let mut warm = table(1, 1);
        warm.warm.write_units = 40_001;
        assert!(
            check(None, &warm)
                .unwrap_err()
                .contains("WriteUnitsPerSecond for WarmThroughput")
        );
    }

    #[test]
    fn all_tables_together_have_theirs() {
        let quotas = Quotas::default();
        let others = reserved([table(39_999, 5), table(40_000, 5), system_table()].iter());
        assert_eq!((others.read_units, others.write_units), (79_999, 10));
        let check = |before: Option<&TableDefinition>, after: &TableDefinition| {
            let checked = quotas.check_account("us-east-1", others, before, after);
            checked.map_err(|error| error.message)
        };
        assert_eq!(check(None, &table(1, 1)), Ok(()));
        assert_eq!(
            check(None, &table(2, 1)).unwrap_err(),
            "This request would have caused the ReadCapacityUnits limit to be exceeded for the account in us-east-1. \
             Current ReadCapacityUnits reserved by the account: 79999. Limit: 80000. Requested: 2. Refer to the Amazon \
             DynamoDB Developer Guide for current limits and how to request higher limits."
        );
        assert_eq!(
            check(Some(&table(9, 1)), &table(8, 2)),
            Ok(()),
            "a decrease"
        );
        assert_eq!(quotas.check_count(2_499), Ok(()));
        assert_eq!(
            quotas.check_count(2_500).unwrap_err().message,
            "Subscriber limit exceeded: There is a limit of 2500 tables per subscriber"
        );
    }
}
