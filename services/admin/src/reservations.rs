//! What the account's tables reserve of its quotas, and the lock under which more is reserved: without it two requests at once could both take
//! the last of a quota. The lock is this admin's; requests through two admins at the same moment may still overshoot.

use model::ApiError;
use model::throughput::UnitRates;
use tokio::sync::MutexGuard;

use crate::driver::Admin;
use crate::indexes::is_index_table;
use crate::records::{TableRecord, table_name_of};
use crate::throughput::reserved;

/// The other tables, as of now; nobody else reserves through this admin while it is held.
pub(crate) struct Reserving<'a> {
    /// How many they are.
    pub(crate) tables: usize,
    /// What they reserve together.
    pub(crate) rates: UnitRates,
    _lock: MutexGuard<'a, ()>,
}

impl Admin {
    /// Counts the tables beside `name` and what they reserve.
    pub(crate) async fn reserve_beside(&self, name: &str) -> Result<Reserving<'_>, ApiError> {
        let lock = self.reserving.lock().await;
        let tables = self
            .catalog
            .scan_records::<TableRecord>(|key| {
                let own = |n: &str| n == name || n == transactions::ledger::TABLE;
                table_name_of(key).is_some_and(|n| !own(n))
            })
            .await?;
        Ok(Reserving {
            tables: tables
                .iter()
                .filter(|stored| !is_index_table(&stored.value.definition.name))
                .count(),
            rates: reserved(tables.iter().map(|stored| &stored.value.definition)),
            _lock: lock,
        })
    }
}
