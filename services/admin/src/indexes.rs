//! Secondary indexes in the control plane (docs/adr/0009-indexes.md): what requests ask for, and what becomes of it in a table's definition and in
//! the tables that hold the entries of global indexes.

mod change;
mod request;
mod tables;

pub(crate) use change::{IndexChanges, IndexUpdate, follow_mode};
pub(crate) use request::{Index, Indexes, NewIndex, attribute_types, check_used};
pub(crate) use tables::is_index_table;

use model::index::{FIRST_GLOBAL, GlobalIndex, IndexDefinition, IndexScope};
use model::table::TableStatus;
use model::{IndexId, TableId};

/// The indexes of a new table; the tables of global ones have the numbers from `first` on.
pub(crate) fn definitions(indexes: &[NewIndex], first: TableId) -> Vec<IndexDefinition> {
    let (mut local, mut global) = (1, 0);
    let define = |index: &NewIndex| {
        let (id, scope) = match index.is_local {
            true => {
                local += 1;
                (local - 1, IndexScope::Local)
            }
            false => {
                let scope = index.global(TableId(first.0 + u64::from(global)), false);
                global += 1;
                (FIRST_GLOBAL + global - 1, IndexScope::Global(scope))
            }
        };
        index.define(IndexId(id), scope)
    };
    indexes.iter().map(define).collect()
}

impl NewIndex {
    fn define(&self, id: IndexId, scope: IndexScope) -> IndexDefinition {
        IndexDefinition {
            id,
            name: self.name.clone(),
            scope,
            keys: self.keys.clone(),
            projection: self.projection.clone(),
        }
    }

    /// What makes it global; `later`: its table has items already.
    fn global(&self, table: TableId, later: bool) -> GlobalIndex {
        GlobalIndex {
            table,
            status: match later {
                true => TableStatus::Creating,
                false => TableStatus::Active,
            },
            backfilling: later,
            billing: self.billing,
            maximum: self.maximum,
            warm: self.warm,
        }
    }
}
