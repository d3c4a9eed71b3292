//! The entry that an item has in an index, and what a write changes in a table's indexes, and costs there.

use bytes::Bytes;

use super::fault::{key_fault, sizes_fit};
use super::{IndexDefinition, IndexProjection};
use crate::codec::{attributes, pick_attributes};
use crate::key::KeyRole;
use crate::table::{KeyAttribute, KeySchema};
use crate::{AttributeValue, EncodedKey, IndexId, TableDefinition, Units};
use crate::{capacity, codec};

/// Where the base key of a local index's entry is: the value of the entry, an encoded item that has the sort key only.
pub fn local_value(table: &TableDefinition, item: &[u8]) -> codec::Result<Bytes> {
    let sort = table.keys.sort.as_ref().map(|sort| sort.name.as_str());
    pick_attributes(item, sort.as_slice())
}

/// What one write changes in one local index: the key of an entry, and its value (none = removed).
pub type EntryChange = (EncodedKey, Option<Bytes>);

/// What a write costs, and changes, in a table's indexes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IndexWrites {
    /// Changes of local indexes.
    pub changes: Vec<EntryChange>,
    /// Write units by index, of all indexes that the write touches.
    pub units: Vec<(IndexId, Units)>,
}

impl IndexDefinition {
    /// Whether an item has an entry: every key attribute is there and can be one.
    pub fn covers(&self, item: &[u8]) -> codec::Result<bool> {
        Ok(self.key_values(item)?.is_some())
    }

    /// The values of the key attributes, in the order of `IndexKeys::all`; none: the item has no entry.
    fn key_values(&self, item: &[u8]) -> codec::Result<Option<Vec<AttributeValue>>> {
        let wanted: Vec<(&KeyAttribute, KeyRole)> = self.keys.all().collect();
        let mut values: Vec<Option<AttributeValue>> = vec![None; wanted.len()];
        for attribute in attributes(item)? {
            let attribute = attribute?;
            for (at, (key, _)) in wanted.iter().enumerate() {
                if key.name == attribute.name {
                    values[at] = Some(attribute.decode()?);
                }
            }
        }
        let values: Option<Vec<AttributeValue>> = values.into_iter().collect();
        Ok(values.filter(|values| {
            let fits = wanted
                .iter()
                .zip(values)
                .all(|((key, role), value)| key_fault(key, *role, value).is_none());
            fits && sizes_fit(&self.keys, values)
        }))
    }

    /// The entry of an item as it is read: its key and its attributes; none: the item has no entry.
    pub fn entry(
        &self,
        table: &TableDefinition,
        item: &[u8],
    ) -> codec::Result<Option<(EncodedKey, Bytes)>> {
        let Some(values) = self.key_values(item)? else {
            return Ok(None);
        };
        let Some(key) = self.entry_key(table, item, &values)? else {
            return Ok(None);
        };
        Ok(Some((key, self.project(&table.keys, item)?)))
    }

    /// The attributes of an item that its entry has.
    pub fn project(&self, table: &KeySchema, item: &[u8]) -> codec::Result<Bytes> {
        let mut names = match &self.projection {
            IndexProjection::All => return Ok(Bytes::copy_from_slice(item)),
            IndexProjection::KeysOnly => Vec::new(),
            IndexProjection::Include(names) => names.iter().map(String::as_str).collect(),
        };
        names.extend(self.key_names(table));
        pick_attributes(item, &names)
    }

    fn entry_key(
        &self,
        table: &TableDefinition,
        item: &[u8],
        values: &[AttributeValue],
    ) -> codec::Result<Option<EncodedKey>> {
        let value = |name: &str| codec::get_attribute(item, name);
        let Some(partition) = value(&table.keys.partition.name)? else {
            return Ok(None);
        };
        let sort = match &table.keys.sort {
            Some(sort) => value(&sort.name)?,
            None => None,
        };
        Ok(self.encode(table, values, &partition, sort.as_ref()).ok())
    }
}

impl TableDefinition {
    /// What a write that turns `before` into `after` (encoded; none = absent) does to the indexes.
    pub fn index_writes(
        &self,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> codec::Result<IndexWrites> {
        let mut writes = IndexWrites::default();
        for index in &self.indexes {
            let entry = |item: Option<&[u8]>| match item {
                Some(item) => index.entry(self, item),
                None => Ok(None),
            };
            let (old, new) = (entry(before)?, entry(after)?);
            let size = |entry: &Bytes| codec::encoded_item_size(entry);
            let mut units = Units::ZERO;
            let mut charge = |bytes: u64| {
                units = units.saturating_add(capacity::write_units(bytes));
            };
            match (&old, &new) {
                (None, None) => {}
                (Some((old_key, old)), Some((new_key, new))) if old_key == new_key => {
                    if old != new {
                        charge(size(old)?.max(size(new)?));
                    }
                }
                _ => {
                    for (_, entry) in old.iter().chain(&new) {
                        charge(size(entry)?);
                    }
                    if index.is_local() {
                        if let Some((key, _)) = old {
                            writes.changes.push((key, None));
                        }
                        if let (Some((key, _)), Some(item)) = (new, after) {
                            writes.changes.push((key, Some(local_value(self, item)?)));
                        }
                    }
                }
            }
            if !units.is_zero() {
                writes.units.push((index.id, units));
            }
        }
        Ok(writes)
    }
}
