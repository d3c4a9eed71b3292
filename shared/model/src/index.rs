//! Secondary indexes (docs/adr/0009-indexes.md): their definitions, and how the API describes them. Their entries, what keys those have, and
//! which items an index cannot take are in the files below. Never reads or writes anything.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::key::{self, KeyRole};
use crate::table::{BillingMode, KeyAttribute, KeySchema, TableCounts, TableStatus};
use crate::throughput::{OnDemandThroughput, UnitRates};
use crate::{IndexId, TableDefinition, TableId};

mod entry;
mod fault;
mod key_form;

pub use entry::{EntryChange, IndexWrites, local_value};
pub use fault::{IndexKeyFault, KeyFault};
pub use key_form::{item_key_of, put_delimited, put_delimited_prefix};

/// Most local secondary indexes of a table.
pub const LOCAL_MAX: usize = 5;
/// Most global secondary indexes of a table.
pub const GLOBAL_MAX: usize = 20;
/// Attributes of an index's partition key, and of its sort key, at most.
pub const KEY_ATTRIBUTES_MAX: usize = 4;
/// Most `NonKeyAttributes` of one index.
pub const NON_KEY_MAX: usize = 20;
/// Most `NonKeyAttributes` of all indexes of a table.
pub const NON_KEY_TOTAL_MAX: usize = 100;
/// The numbers of local secondary indexes are below this; they are their slots in keys. Global ones begin here.
pub const FIRST_GLOBAL: u16 = 16;

/// A secondary index of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexDefinition {
    /// Its number, unique for ever within the table.
    pub id: IndexId,
    /// Its name, unique within the table.
    pub name: String,
    /// Local or global.
    pub scope: IndexScope,
    /// Its key attributes.
    pub keys: IndexKeys,
    /// Which attributes its entries have.
    pub projection: IndexProjection,
}

/// Where the entries of an index lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexScope {
    /// In the item collection of their item, in its partition.
    Local,
    /// In a table of their own.
    Global(GlobalIndex),
}

/// What is known of a global secondary index beside its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalIndex {
    /// The table that holds its entries.
    pub table: TableId,
    /// Where it is in its life.
    pub status: TableStatus,
    /// Items from before the index are being entered.
    #[serde(default)]
    pub backfilling: bool,
    /// Throughput that its table begins with.
    #[serde(default)]
    pub billing: BillingMode,
    /// Maximum that its table begins with.
    #[serde(default)]
    pub maximum: OnDemandThroughput,
    /// Warm throughput that its table begins with.
    #[serde(default)]
    pub warm: UnitRates,
}

/// Key attributes of an index; up to four each in a global one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexKeys {
    /// Partition key, in order.
    pub partition: Vec<KeyAttribute>,
    /// Sort key, in order; may be empty.
    #[serde(default)]
    pub sort: Vec<KeyAttribute>,
}

/// Which attributes are copied into an index, beside the keys of index and table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexProjection {
    /// All.
    #[default]
    All,
    /// None.
    KeysOnly,
    /// These.
    Include(Vec<String>),
}

/// What makes a table hold the entries of a global secondary index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexOf {
    /// The table whose items it indexes.
    pub base: TableId,
    /// Keys of that table.
    pub base_keys: KeySchema,
    /// Keys of the index.
    pub keys: IndexKeys,
}

/// Name of the table that holds the entries of an index. No client can name it: names have no slashes.
pub fn index_table_name(table: &str, index: &str) -> String {
    format!("{table}/index/{index}")
}

/// Table and index, of the name of a table that holds an index's entries.
pub fn split_index_table_name(name: &str) -> Option<(&str, &str)> {
    name.split_once("/index/")
}

impl IndexKeys {
    /// All attributes: those of the partition key first.
    pub fn all(&self) -> impl Iterator<Item = (&KeyAttribute, KeyRole)> {
        let partition = self.partition.iter().map(|key| (key, KeyRole::Partition));
        partition.chain(self.sort.iter().map(|key| (key, KeyRole::Sort)))
    }

    /// `KeySchema` of the API.
    pub fn describe(&self) -> Value {
        let element = |(key, role): (&KeyAttribute, KeyRole)| {
            let kind = match role {
                KeyRole::Partition => "HASH",
                KeyRole::Sort => "RANGE",
            };
            json!({ "AttributeName": key.name, "KeyType": kind })
        };
        self.all().map(element).collect()
    }
}

impl IndexProjection {
    /// `Projection` of the API.
    pub fn describe(&self) -> Value {
        match self {
            Self::All => json!({ "ProjectionType": "ALL" }),
            Self::KeysOnly => json!({ "ProjectionType": "KEYS_ONLY" }),
            Self::Include(names) => {
                json!({ "ProjectionType": "INCLUDE", "NonKeyAttributes": names })
            }
        }
    }
}

impl IndexDefinition {
    /// Whether it is a local one.
    pub fn is_local(&self) -> bool {
        self.scope == IndexScope::Local
    }

    /// What makes it global; none: it is local.
    pub fn global(&self) -> Option<&GlobalIndex> {
        match &self.scope {
            IndexScope::Global(global) => Some(global),
            IndexScope::Local => None,
        }
    }

    /// Where its keys begin in an item collection, if it is local.
    pub fn slot(&self) -> Option<u8> {
        self.is_local().then(|| self.id.0.to_be_bytes()[1])
    }

    /// Amazon Resource Name.
    pub fn arn(&self, table_arn: &str) -> String {
        format!("{table_arn}/index/{}", self.name)
    }

    /// Names of the key attributes of index and table, each once.
    pub fn key_names<'a>(&'a self, table: &'a KeySchema) -> Vec<&'a str> {
        key_names(&self.keys, table)
    }

    /// Whether an entry has this attribute of its item.
    pub fn has_attribute(&self, table: &KeySchema, name: &str) -> bool {
        match &self.projection {
            IndexProjection::All => true,
            IndexProjection::KeysOnly => self.key_names(table).contains(&name),
            IndexProjection::Include(names) => {
                names.iter().any(|other| other == name) || self.key_names(table).contains(&name)
            }
        }
    }
}

/// Names of the key attributes of an index and its table, each once.
pub fn key_names<'a>(keys: &'a IndexKeys, table: &'a KeySchema) -> Vec<&'a str> {
    let mut names: Vec<&str> = keys.all().map(|(key, _)| key.name.as_str()).collect();
    for key in std::iter::once(&table.partition).chain(&table.sort) {
        if !names.contains(&key.name.as_str()) {
            names.push(&key.name);
        }
    }
    names
}

impl TableDefinition {
    /// Whether item collections hold entries of local secondary indexes.
    pub fn has_local_indexes(&self) -> bool {
        self.indexes.iter().any(IndexDefinition::is_local)
    }

    /// Whether writes must be propagated to global secondary indexes.
    pub fn has_global_indexes(&self) -> bool {
        self.indexes.iter().any(|index| !index.is_local())
    }

    /// The index with this name.
    pub fn index(&self, name: &str) -> Option<&IndexDefinition> {
        self.indexes.iter().find(|index| index.name == name)
    }

    /// The index with this number.
    pub fn index_by_id(&self, id: IndexId) -> Option<&IndexDefinition> {
        self.indexes.iter().find(|index| index.id == id)
    }

    /// Names of the attributes that tell where an item stands in this table: the keys of the table, and of the index if it holds one.
    pub fn position_names(&self) -> Vec<&str> {
        match &self.index_of {
            Some(of) => key_names(&of.keys, &of.base_keys),
            None => {
                let keys = std::iter::once(&self.keys.partition).chain(&self.keys.sort);
                keys.map(|key| key.name.as_str()).collect()
            }
        }
    }

    /// Whether this is the key of an entry of a local index, not of an item.
    pub fn is_entry(&self, key: &[u8]) -> bool {
        self.has_local_indexes()
            && key
                .get(key::COLLECTION_BYTES)
                .is_some_and(|slot| *slot != 0)
    }

    /// `AttributeDefinitions` of the API: the key attributes of table and indexes, in the order of their names.
    pub fn attribute_definitions(&self) -> Value {
        let mut keys: Vec<&KeyAttribute> = std::iter::once(&self.keys.partition)
            .chain(&self.keys.sort)
            .chain(
                self.indexes
                    .iter()
                    .flat_map(|index| index.keys.all())
                    .map(|(key, _)| key),
            )
            .collect();
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        keys.dedup_by(|a, b| a.name == b.name);
        keys.iter()
            .map(|key| json!({ "AttributeName": key.name, "AttributeType": key.kind.as_str() }))
            .collect()
    }

    /// The local or the global indexes as CreateTable takes them for an on-demand table.
    pub fn index_requests(&self, local: bool) -> Vec<Value> {
        let wanted = self.indexes.iter().filter(|i| i.is_local() == local);
        wanted
            .map(|index| {
                json!({
                    "IndexName": index.name,
                    "KeySchema": index.keys.describe(),
                    "Projection": index.projection.describe(),
                })
            })
            .collect()
    }

    /// `LocalSecondaryIndexes` of the API; none if there are none.
    pub(crate) fn describe_local_indexes(
        &self,
        region: &str,
        counts: &TableCounts,
    ) -> Option<Value> {
        let local = self.indexes.iter().filter(|index| index.is_local());
        let described: Vec<Value> = local
            .map(|index| {
                let counted = counts.local_indexes.get(&index.id);
                let (items, bytes) = counted.copied().unwrap_or_default();
                json!({
                    "IndexName": index.name,
                    "KeySchema": index.keys.describe(),
                    "Projection": index.projection.describe(),
                    "IndexSizeBytes": bytes,
                    "ItemCount": items,
                    "IndexArn": index.arn(&self.arn(region)),
                })
            })
            .collect();
        (!described.is_empty()).then_some(Value::Array(described))
    }
}
