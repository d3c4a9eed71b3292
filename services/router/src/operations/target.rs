//! What Query and Scan read: a table or one of its indexes. Owns the keys to read, the starting key, what must be fetched from the
//! table, and how the cost is told.

use std::sync::Arc;

use expression::{Condition, IndexCondition, KeyTerms, Projection, SortCondition};
use model::index::{IndexDefinition, IndexKeys, IndexProjection, index_table_name};
use model::key::{self, KeyRole, SortBound};
use model::table::{KeyAttribute, KeySchema};
use model::{ApiError, EncodedKey, IndexId, Item, KeyRange, TableDefinition, Units};
use protocol::item::PageReply;

use crate::answer::Answer;
use crate::backend::{Backend, Context};
use crate::consumed::{Detail, IndexCost};
use crate::texts;

/// Who names the index: errors are worded differently.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// A request's IndexName.
    InRequest,
    /// A PartiQL statement.
    InStatement,
}

/// A table, or one of its indexes.
pub(super) struct Target {
    /// The table that was named.
    pub(super) table: Arc<TableDefinition>,
    /// The index that was named.
    index: Option<IndexDefinition>,
    /// The table whose partitions are asked: of a global index, its own.
    pub(super) asked: Arc<TableDefinition>,
}

impl Target {
    /// What a request names; `strong`: it wants a consistent read. A client may know of an index before this router does: an index that cannot
    /// be read is looked up anew, once.
    pub(super) async fn of<B: Backend>(
        table: Arc<TableDefinition>,
        (index, named): (Option<&str>, Named),
        strong: bool,
        backend: &B,
        context: &Context,
    ) -> Result<Self, ApiError> {
        let readable = |table: &TableDefinition, name: &str| {
            let index = table.index(name);
            index.is_some_and(|index| index.global().is_none_or(is_readable))
        };
        let table = match index {
            Some(name) if !readable(&table, name) => {
                backend.forget(&table);
                backend.table(&table.name, context).await?
            }
            _ => table,
        };
        let Some(name) = index else {
            return Ok(Self {
                asked: table.clone(),
                index: None,
                table,
            });
        };
        let found = table.index(name).cloned();
        let index = found.ok_or_else(|| match named {
            Named::InRequest => texts::no_such_index(name),
            Named::InStatement => texts::no_index_of_statement(),
        })?;
        let asked = match index.global() {
            None => table.clone(),
            Some(_) if strong => {
                return Err(match named {
                    Named::InRequest => texts::no_strong_global_reads(),
                    Named::InStatement => texts::no_strong_global_selects(),
                });
            }
            Some(global) if !is_readable(global) => {
                return Err(texts::backfilling_index(name));
            }
            Some(_) => {
                let name = index_table_name(&table.name, &index.name);
                backend.table(&name, context).await?
            }
        };
        Ok(Self {
            table,
            index: Some(index),
            asked,
        })
    }

    /// Number of the local index to read, for storage.
    pub(super) fn local(&self) -> Option<IndexId> {
        let local = self.index.as_ref().filter(|index| index.is_local());
        local.map(|index| index.id)
    }

    /// Whether items must be fetched from the table, for what the request wants of them. An error where that cannot be done.
    pub(super) fn fetch(
        &self,
        select: Option<&str>,
        projection: Option<&Projection>,
        filter: Option<&Condition>,
    ) -> Result<bool, ApiError> {
        let Some(index) = &self.index else {
            return Ok(false);
        };
        if index.projection == IndexProjection::All {
            return Ok(false);
        }
        if select == Some("ALL_ATTRIBUTES") {
            return match index.is_local() {
                true => Ok(true),
                false => Err(texts::all_attributes_of_global(&index.name)),
            };
        }
        let paths = projection.into_iter().flat_map(|p| p.paths());
        let filtered = filter.map(Condition::attributes).unwrap_or_default();
        let mut wanted: Vec<&str> = paths.map(|path| path.head()).collect();
        wanted.extend(filtered.iter().map(String::as_str));
        let missing = self.missing(index, wanted);
        match missing[..] {
            [] => Ok(false),
            _ if index.is_local() => Ok(true),
            _ => Err(texts::not_projected(&index.name, &missing)),
        }
    }

    /// A statement that reads item collections of an index filters by what the index has.
    pub(super) fn check_projected(&self, filter: &Condition) -> Result<(), ApiError> {
        let Some(index) = &self.index else {
            return Ok(());
        };
        let filtered = filter.attributes();
        let missing = self.missing(index, filtered.iter().map(String::as_str).collect());
        match missing[..] {
            [] => Ok(()),
            _ => Err(texts::filter_not_projected(&index.name, &missing)),
        }
    }

    /// Those of these attributes that the index does not have, each once.
    fn missing<'a>(&self, index: &IndexDefinition, mut names: Vec<&'a str>) -> Vec<&'a str> {
        names.retain(|name| !index.has_attribute(&self.table.keys, name));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The key attributes of what is read.
    pub(super) fn keys(&self) -> IndexKeys {
        match &self.index {
            Some(index) => index.keys.clone(),
            None => IndexKeys {
                partition: vec![self.table.keys.partition.clone()],
                sort: self.table.keys.sort.iter().cloned().collect(),
            },
        }
    }

    /// All keys.
    pub(super) fn whole(&self) -> KeyRange {
        key::index_range(self.asked.id, IndexId(0))
    }

    /// Resolves a key condition against the keys of what is read.
    pub(super) fn resolve(&self, terms: KeyTerms) -> Result<IndexCondition, ApiError> {
        if let Some(index) = &self.index {
            return terms.resolve_index(&index.keys);
        }
        let condition = terms.resolve(&self.table.keys)?;
        Ok(IndexCondition {
            values: vec![condition.partition],
            sort: condition.sort,
        })
    }

    /// The keys that satisfy a condition.
    pub(super) fn range(&self, condition: &IndexCondition) -> Result<KeyRange, ApiError> {
        let bound = condition.sort.as_ref().map(bound_of);
        match (&self.index, &condition.values[..]) {
            (Some(index), values) => index.range(&self.table, values, bound),
            (None, [partition, ..]) => key::items_range(&self.table, partition, bound),
            (None, []) => Ok(KeyRange::default()),
        }
    }

    /// The encoded starting key, which must satisfy the condition that led to this range.
    pub(super) fn start_within(
        &self,
        start: &Item,
        condition: &IndexCondition,
        range: &KeyRange,
    ) -> Result<EncodedKey, ApiError> {
        let after = self.start(start)?;
        if range.contains(&after) {
            return Ok(after);
        }
        let sort = match &self.index {
            None => self.table.keys.sort.as_ref(),
            Some(index) => index.keys.sort.first(),
        };
        let simple = self
            .index
            .as_ref()
            .is_none_or(|index| index.keys.sort.len() <= 1);
        let sort = sort.and_then(|sort| start.get(&sort.name));
        let sort = sort.filter(|_| simple && has_sort(condition));
        let Some(sort) = sort else {
            return Err(texts::start_key_outside());
        };
        // Which of the two halves is wrong?
        let own = IndexCondition {
            values: condition.values.iter().take(1).cloned().collect(),
            sort: Some(SortCondition::Equal(sort.clone())),
        };
        match range.overlaps(&self.range(&own)?) {
            true => Err(texts::start_key_of_other_collection()),
            false => Err(texts::start_key_against_range()),
        }
    }

    /// A filter may not name key attributes of what is queried.
    pub(super) fn check_filter(&self, filter: &Condition, legacy: bool) -> Result<(), ApiError> {
        let check = |keys: &KeySchema| match legacy {
            true => filter.check_legacy_filter_keys(keys),
            false => filter.check_filter_keys(keys),
        };
        let Some(index) = &self.index else {
            return check(&self.table.keys);
        };
        index.keys.all().try_for_each(|(key, _)| {
            check(&KeySchema {
                partition: key.clone(),
                sort: None,
            })
        })
    }

    /// Names of the attributes of a starting key.
    fn position_names(&self) -> Vec<&str> {
        match &self.index {
            None => self.table.position_names(),
            Some(index) => index.key_names(&self.table.keys),
        }
    }

    /// A starting key must have the key attributes of table and index, and nothing else.
    pub(super) fn check_start_attributes(&self, start: &Item) -> Result<(), ApiError> {
        let names = self.position_names();
        match start.len() == names.len() && names.iter().all(|name| start.contains_key(*name)) {
            true => Ok(()),
            false => Err(texts::start_key_invalid()),
        }
    }

    /// The encoded key that a starting key stands for.
    pub(super) fn start(&self, start: &Item) -> Result<EncodedKey, ApiError> {
        let Some(index) = &self.index else {
            return key::key_from_key(&self.table, start);
        };
        self.check_start_attributes(start)?;
        let schema = || ApiError::validation(model::error::texts::KEY_SCHEMA);
        let value = |attribute: &KeyAttribute, role| {
            let value = start.get(&attribute.name).ok_or_else(schema)?;
            if !key::has_key_type(attribute, value) {
                return Err(schema());
            }
            key::check_key_value(attribute, role, value)?;
            Ok(value)
        };
        let keys = &self.table.keys;
        let partition = value(&keys.partition, KeyRole::Partition)?;
        let sort = match &keys.sort {
            Some(sort) => Some(value(sort, KeyRole::Sort)?),
            None => None,
        };
        let mut values = Vec::new();
        for (attribute, role) in index.keys.all() {
            values.push(value(attribute, role)?.clone());
        }
        index.encode(&self.table, &values, partition, sort)
    }

    /// Adds what a page cost, if it was asked for.
    pub(super) fn add_cost(
        &self,
        answer: &mut Answer,
        page: &PageReply,
        strong: bool,
        detail: Detail,
    ) {
        self.add_units(answer, page.units(strong), detail);
    }

    /// Same, of all pages together: units of what was read, and of what was fetched from the table.
    pub(super) fn add_units(
        &self,
        answer: &mut Answer,
        (read, fetched): (Units, Units),
        detail: Detail,
    ) {
        let Some(index) = &self.index else {
            return detail.add(answer, &self.table.name, read);
        };
        let cost = IndexCost {
            name: &index.name,
            is_local: index.is_local(),
            units: read,
        };
        detail.add_indexed(answer, &self.table.name, fetched, &[cost]);
    }
}

fn bound_of(condition: &SortCondition) -> SortBound<'_> {
    match condition {
        SortCondition::Equal(value) => SortBound::Equal(value),
        SortCondition::Less(value) => SortBound::Less(value),
        SortCondition::LessOrEqual(value) => SortBound::LessOrEqual(value),
        SortCondition::Greater(value) => SortBound::Greater(value),
        SortCondition::GreaterOrEqual(value) => SortBound::GreaterOrEqual(value),
        SortCondition::Between(low, high) => SortBound::Between(low, high),
        SortCondition::BeginsWith(value) => SortBound::BeginsWith(value),
    }
}

/// Whether a condition says something of the sort key.
fn has_sort(condition: &IndexCondition) -> bool {
    condition.sort.is_some() || condition.values.len() > 1
}

fn is_readable(global: &model::index::GlobalIndex) -> bool {
    use model::table::TableStatus::{Active, Updating};
    matches!(global.status, Active | Updating) && !global.backfilling
}
