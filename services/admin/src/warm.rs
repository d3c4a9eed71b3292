//! What on-demand tables have grown to: GAC reports it, the active admin notes it as warm throughput in the definition, from where it comes back
//! after a loss of GAC. A report is repeated until the routers know the new definition, so nothing here is tried twice.

use std::sync::Arc;

use model::table::{BillingMode, TableStatus};
use model::throughput::UnitRates;
use model::{TableDefinition, TableId};
use protocol::tokens::{TABLES_MAX, WarmReport, WarmTable};

use crate::driver::{Admin, Unsettled};
use crate::throughput::Quotas;

impl Admin {
    /// Takes in a report; another one that comes meanwhile is left to its repetition.
    pub(crate) async fn take_warm_report(self: &Arc<Self>, report: WarmReport) {
        let Ok(_one) = self.warming.try_lock() else {
            return;
        };
        for grown in report.tables.into_iter().take(TABLES_MAX) {
            let name = self.name_of(grown.table);
            let Some(name) = name else { continue };
            match self.warm(&name, grown).await {
                Ok(()) | Err(Unsettled::Filling) => {}
                Err(Unsettled::Later(why)) => tracing::info!(name, why, "warm throughput waits"),
                Err(Unsettled::Api(error)) => {
                    tracing::info!(name, %error, "warm throughput can't be noted now");
                }
            }
        }
    }

    /// Name of a table, as of the last reconciliation.
    fn name_of(&self, table: TableId) -> Option<String> {
        let tables = self.tables.read();
        let found = tables.iter().find(|record| record.definition.id == table);
        found.map(|record| record.definition.name.clone())
    }

    async fn warm(&self, name: &str, grown: WarmTable) -> Result<(), Unsettled> {
        let quotas = self.settings.quotas;
        let noted = self.change_record(name, |definition| {
            warm(definition, &quotas, grown);
            Ok(())
        });
        let Some(definition) = noted.await? else {
            return Ok(());
        };
        if definition.id != grown.table || definition.status != TableStatus::Active {
            return Ok(());
        }
        let Some(record) = self.table(name).await? else {
            return Ok(());
        };
        for &partition in &record.value.partitions {
            if let Some(partition) = self.partition(partition).await? {
                self.set_table(&partition.value, &definition).await?;
            }
        }
        Ok(())
    }
}

/// Raises a table's warm throughput to what it has grown to, within the account's quota. Does nothing to a table that is being changed
/// or is not an on-demand one.
fn warm(definition: &mut TableDefinition, quotas: &Quotas, grown: WarmTable) {
    let of_this =
        definition.id == grown.table && matches!(definition.billing, BillingMode::PayPerRequest);
    if !of_this || definition.status != TableStatus::Active {
        return;
    }
    let before = definition.warm_rates();
    let reported = UnitRates {
        read_units: grown.read_units,
        write_units: grown.write_units,
    };
    let after = before.max(reported.min(quotas.table()));
    if after != before {
        definition.warm = after;
        definition.version += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::system_table;

    #[test]
    fn it_only_grows_and_within_the_quota() {
        let mut table = system_table();
        let version = table.version;
        let grown = |read_units, write_units| WarmTable {
            table: system_table().id,
            read_units,
            write_units,
        };
        let quotas = Quotas::default();
        warm(&mut table, &quotas, grown(11_000, 5_000));
        assert_eq!(
            (table.warm.read_units, table.warm.write_units),
            (12_000, 5_000)
        );
        assert_eq!(table.version, version + 1);
        warm(&mut table, &quotas, grown(12_000, 4_500));
        assert_eq!(table.version, version + 1, "nothing new");
        warm(&mut table, &quotas, grown(90_000, 1));
        assert_eq!(
            (table.warm.read_units, table.warm.write_units),
            (40_000, 5_000)
        );
        let known = table.clone();
        table.status = TableStatus::Updating;
        warm(&mut table, &quotas, grown(40_000, 40_000));
        assert_eq!(table.warm, known.warm, "it is being changed");
        table.status = TableStatus::Active;
        table.billing = BillingMode::Provisioned {
            read_units: 1,
            write_units: 1,
        };
        warm(&mut table, &quotas, grown(40_000, 40_000));
        assert_eq!(table.warm, known.warm, "it is provisioned");
    }
}
