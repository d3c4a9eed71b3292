//! `GlobalSecondaryIndexUpdates` of UpdateTable: shapes, validation, and what they make of a table's definition. Pure.

use std::collections::{BTreeMap, BTreeSet};

use model::index::{FIRST_GLOBAL, GLOBAL_MAX, IndexDefinition, IndexScope};
use model::table::{BillingMode, ScalarType, TableStatus};
use model::{ApiError, IndexId, TableDefinition, TableId};
use serde::Deserialize;

use super::request::{Index, NewIndex, check_projections};
use crate::constraints::Constraints;
use crate::texts;
use crate::throughput::{self, OnDemand, Throughput, ThroughputChange, Warm};

/// A `Delete`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Deletion {
    index_name: Option<String>,
}

/// An `Update`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Tuning {
    index_name: Option<String>,
    provisioned_throughput: Option<Throughput>,
    on_demand_throughput: Option<OnDemand>,
    warm_throughput: Option<Warm>,
}

/// An element of `GlobalSecondaryIndexUpdates`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct IndexUpdate {
    create: Option<Index>,
    update: Option<Tuning>,
    delete: Option<Deletion>,
}

/// What an UpdateTable changes in global indexes.
#[derive(Debug, Default)]
pub(crate) struct IndexChanges {
    create: Option<Index>,
    types: BTreeMap<String, ScalarType>,
    delete: Option<String>,
    /// New throughput by index.
    pub(crate) throughput: Vec<(String, ThroughputChange)>,
}

impl IndexUpdate {
    /// The index that it is about.
    fn index_name(&self) -> Option<&str> {
        let created = self.create.as_ref().and_then(Index::name);
        let tuned = || self.update.as_ref().and_then(|u| u.index_name.as_deref());
        let deleted = || self.delete.as_ref().and_then(|d| d.index_name.as_deref());
        created.or_else(tuned).or_else(deleted)
    }

    /// The constraints of the API model.
    pub(crate) fn constrain(&self, constraints: &mut Constraints, at: usize) {
        let member = format!("globalSecondaryIndexUpdates.{}.member", at + 1);
        if let Some(create) = &self.create {
            create.constrain(constraints, &format!("{member}.create"), false);
        }
        if let Some(update) = &self.update {
            let name = format!("{member}.update.indexName");
            match &update.index_name {
                None => constraints.present(&name, false),
                Some(index) => constraints.name(&name, index),
            }
            let member = format!("{member}.update.provisionedThroughput");
            throughput::constrain_as(&member, constraints, update.provisioned_throughput.as_ref());
        }
        if let Some(delete) = &self.delete {
            let name = format!("{member}.delete.indexName");
            match &delete.index_name {
                None => constraints.present(&name, false),
                Some(index) => constraints.name(&name, index),
            }
        }
    }
}

impl IndexChanges {
    /// From the request; `types`: what it defines.
    pub(crate) fn of(
        updates: Vec<IndexUpdate>,
        types: &BTreeMap<&str, ScalarType>,
    ) -> Result<Self, ApiError> {
        let mut changes = Self {
            types: types
                .iter()
                .map(|(name, kind)| ((*name).to_owned(), *kind))
                .collect(),
            ..Self::default()
        };
        let mut named = BTreeSet::new();
        for update in updates {
            let count = usize::from(update.create.is_some())
                + usize::from(update.update.is_some())
                + usize::from(update.delete.is_some());
            if count != 1 {
                return Err(texts::index_update_not_one());
            }
            if let Some(name) = update.index_name()
                && !named.insert(name.to_owned())
            {
                return Err(texts::index_updated_twice(name));
            }
            let onlines = changes.create.is_some() || changes.delete.is_some();
            if onlines && update.update.is_none() {
                return Err(texts::one_online_index());
            }
            if let Some(create) = update.create {
                changes.create = Some(create);
            }
            if let Some(delete) = update.delete {
                changes.delete = delete.index_name;
            }
            if let Some(tuning) = update.update {
                let name = tuning.index_name.clone().unwrap_or_default();
                changes.throughput.push((name, tuning.change()?));
            }
        }
        Ok(changes)
    }

    /// Whether nothing is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.create.is_none() && self.delete.is_none() && self.throughput.is_empty()
    }

    /// Whether only maxima or warm throughput of indexes change, if anything.
    pub(crate) fn are_unnoticed(&self) -> bool {
        let mut tuned = self.throughput.iter();
        self.create.is_none() && self.delete.is_none() && tuned.all(|(_, t)| t.is_unnoticed())
    }

    /// Whether an index is to be made.
    pub(crate) fn creates(&self) -> bool {
        self.create.is_some()
    }

    /// Changes the definition; `table` is the number of the table of an index that is made.
    pub(crate) fn apply(
        &self,
        definition: &mut TableDefinition,
        table: TableId,
    ) -> Result<(), ApiError> {
        for (name, _) in &self.throughput {
            if definition.index(name).is_none_or(IndexDefinition::is_local) {
                return Err(ApiError::resource_not_found());
            }
        }
        let online = |index: &IndexDefinition| {
            index
                .global()
                .is_some_and(|g| g.status != TableStatus::Active || g.backfilling)
        };
        let busy = definition.indexes.iter().any(online);
        if let Some(name) = &self.delete {
            // One that is being filled may be given up.
            let found = definition.indexes.iter_mut().find(|i| i.name == *name);
            match found.map(|index| &mut index.scope) {
                Some(IndexScope::Global(global)) if global.status != TableStatus::Deleting => {
                    global.status = TableStatus::Deleting;
                    global.backfilling = false;
                }
                _ => return Err(ApiError::resource_not_found()),
            }
        }
        let Some(create) = &self.create else {
            return Ok(());
        };
        if busy {
            return Err(texts::one_online_index());
        }
        let new = self.new_index(create, definition)?;
        if definition.index(&new.name).is_some() {
            return Err(texts::index_exists(&new.name));
        }
        let globals = definition.indexes.iter().filter(|i| !i.is_local());
        if globals.count() >= GLOBAL_MAX {
            return Err(texts::too_many_online(GLOBAL_MAX));
        }
        let projections = definition.indexes.iter().map(|index| &index.projection);
        check_projections(projections.chain([&new.projection]))?;
        let last = definition.indexes.iter().map(|index| index.id.0).max();
        // Never a number that was in use: the number of its table is new as well.
        let id = last.map_or(FIRST_GLOBAL, |last| FIRST_GLOBAL.max(last + 1));
        let scope = IndexScope::Global(new.global(table, true));
        let index = new.define(IndexId(id), scope);
        definition.indexes.push(index);
        Ok(())
    }

    fn new_index(&self, create: &Index, table: &TableDefinition) -> Result<NewIndex, ApiError> {
        let mut types: BTreeMap<&str, ScalarType> = table
            .indexes
            .iter()
            .flat_map(|index| index.keys.all())
            .map(|(key, _)| (key.name.as_str(), key.kind))
            .collect();
        for key in std::iter::once(&table.keys.partition).chain(&table.keys.sort) {
            types.insert(&key.name, key.kind);
        }
        for (name, kind) in &self.types {
            if types.entry(name).or_insert(*kind) != kind {
                return Err(texts::attribute_of_other_type(name));
            }
        }
        create.validate(&types, &table.keys, table.billing, false)
    }
}

impl Tuning {
    fn change(self) -> Result<ThroughputChange, ApiError> {
        let units = match &self.provisioned_throughput {
            Some(asked) => Some(throughput::units(asked)?),
            None => None,
        };
        if let Some(asked) = &self.on_demand_throughput {
            throughput::maximum_in_range(asked)?;
        }
        let change = ThroughputChange {
            mode: None,
            units,
            alone: self.on_demand_throughput.is_none() && self.warm_throughput.is_none(),
            on_demand: self.on_demand_throughput,
            warm: self.warm_throughput,
        };
        match change.says_something() {
            true => Ok(change),
            false => Err(texts::nothing_to_update()),
        }
    }
}

/// Follows a table's change of mode in one of its indexes' tables.
pub(crate) fn follow_mode(table: &TableDefinition, index: &mut TableDefinition) -> bool {
    let same = matches!(
        (table.billing, index.billing),
        (BillingMode::PayPerRequest, BillingMode::PayPerRequest)
            | (
                BillingMode::Provisioned { .. },
                BillingMode::Provisioned { .. }
            )
    );
    if !same {
        index.billing = table.billing;
    }
    !same
}
