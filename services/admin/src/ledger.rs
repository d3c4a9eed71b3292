//! The transactions' ledger (ADR 0010): a system table that is made when a router wants it for the first time. Owns its record's making; its
//! partitions are made, healed and split like any other table's.

use model::ApiError;
use paxos::GroupId;
use transactions::ledger;

use crate::catalog::WriteError;
use crate::create::partition_count;
use crate::driver::Admin;
use crate::records::{self, TableRecord};

impl Admin {
    /// Records the ledger, if nobody did yet.
    pub(crate) async fn make_ledger(&self, now_ms: u64) -> Result<(), ApiError> {
        if self.table(ledger::TABLE).await?.is_some() {
            return Ok(());
        }
        let definition = ledger::definition(now_ms, uuid::Uuid::new_v4().to_string());
        let settings = &self.settings;
        let count = partition_count(
            definition.billing,
            definition.warm,
            settings.on_demand_partitions,
            settings.partitions_max,
        );
        let (_, first) = self.take_numbers(0, u64::from(count)).await?;
        let record = TableRecord {
            definition,
            partitions: (first..first + u64::from(count)).map(GroupId).collect(),
            ..TableRecord::default()
        };
        let key = records::table_key(ledger::TABLE);
        match self.catalog.put(&key, &record, None).await {
            // Another admin was asked, too.
            Ok(_) | Err(WriteError::Conflict) => Ok(()),
            Err(WriteError::Api(error)) => Err(error),
        }
    }
}
