//! Secondary indexes (docs/adr/0009-indexes.md): their definitions, how the API describes them, which entry an item has in one, what
//! keys entries have, and what writing them costs. Never reads or writes anything.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::codec::{attributes, pick_attributes};
use crate::error::texts;
use crate::key::{
    self, KeyRange, KeyRole, PARTITION_KEY_BYTES_MAX, SORT_KEY_BYTES_MAX, SortBound, behind_prefix,
    has_key_type, prefix_range,
};
use crate::table::{BillingMode, KeyAttribute, KeySchema, TableStatus};
use crate::throughput::{OnDemandThroughput, UnitRates};
use crate::{ApiError, AttributeValue, EncodedKey, IndexId, Item, TableDefinition, TableId, Units};
use crate::{capacity, codec};

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
/// Length of the digest of the base table's key that ends the key of an entry, bytes.
const DIGEST_BYTES: usize = 32;

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

    /// The key of an entry. `values`: of the index's key attributes, in the order of `IndexKeys::all`; the others: of the table's.
    pub fn encode(
        &self,
        table: &TableDefinition,
        values: &[AttributeValue],
        partition: &AttributeValue,
        sort: Option<&AttributeValue>,
    ) -> Result<EncodedKey, ApiError> {
        let mut key = self.collection(table, values)?;
        for value in values.get(self.keys.partition.len()..).unwrap_or_default() {
            put_delimited(value, &mut key);
        }
        key.extend_from_slice(&base_digest(partition, sort)?);
        Ok(Bytes::from(key))
    }

    /// First bytes of the keys of all entries with these partition key values (what follows them is not looked at).
    pub fn collection(
        &self,
        table: &TableDefinition,
        values: &[AttributeValue],
    ) -> Result<Vec<u8>, ApiError> {
        let count = self.keys.partition.len();
        let id = self.global().map_or(table.id, |global| global.table);
        let mut key = match values.get(..count).unwrap_or_default() {
            [value] => key::collection(id, IndexId(0), value)?,
            values => {
                let mut key = key::index_prefix(id, IndexId(0));
                key.extend_from_slice(&hash_of(values)?);
                key
            }
        };
        key.extend(self.slot());
        Ok(key)
    }

    /// The keys of the entries whose first key attributes have these values (all of the partition key's, perhaps some of the sort key's) and
    /// whose next one satisfies a condition, if there is one. Values have the attributes' types.
    pub fn range(
        &self,
        table: &TableDefinition,
        values: &[AttributeValue],
        bound: Option<SortBound<'_>>,
    ) -> Result<KeyRange, ApiError> {
        let mut prefix = self.collection(table, values)?;
        for value in values.get(self.keys.partition.len()..).unwrap_or_default() {
            put_bounded(value, &mut prefix)?;
        }
        let Some(bound) = bound else {
            return Ok(prefix_range(prefix));
        };
        let with = |value: &AttributeValue| {
            let mut key = prefix.clone();
            put_bounded(value, &mut key)?;
            Ok::<_, ApiError>(key)
        };
        let first = || Bytes::copy_from_slice(&prefix);
        let end = || behind_prefix(&prefix);
        // No delimited value begins with another one: what is behind all keys that begin with a value is behind that value.
        let (start, end) = match bound {
            SortBound::Equal(value) => return Ok(prefix_range(with(value)?)),
            SortBound::Less(value) => (first(), Bytes::from(with(value)?)),
            SortBound::LessOrEqual(value) => (first(), behind_prefix(&with(value)?)),
            SortBound::Greater(value) => (behind_prefix(&with(value)?), end()),
            SortBound::GreaterOrEqual(value) => (Bytes::from(with(value)?), end()),
            SortBound::Between(low, high) => (Bytes::from(with(low)?), behind_prefix(&with(high)?)),
            SortBound::BeginsWith(value) => {
                let mut shared = prefix.clone();
                put_delimited_prefix(value, &mut shared);
                (Bytes::from(with(value)?), behind_prefix(&shared))
            }
        };
        Ok(KeyRange { start, end })
    }

    /// What an item with this key attribute value is refused for; none: nothing.
    pub fn fault_of(&self, item: &Item) -> Option<IndexKeyFault<'_>> {
        for (key, role) in self.keys.all() {
            if let Some(value) = item.get(&key.name)
                && let Some(fault) = key_fault(key, role, value)
            {
                return Some(IndexKeyFault {
                    index: &self.name,
                    key,
                    fault,
                });
            }
        }
        None
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

/// Why a value cannot be a key of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// It has this type.
    Type(&'static str),
    /// It is an empty string or binary, as this word says.
    Empty(&'static str),
    /// It is too long.
    Length(KeyRole),
}

/// The attribute of an item that an index cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexKeyFault<'a> {
    /// The index's name.
    pub index: &'a str,
    /// The key attribute.
    pub key: &'a KeyAttribute,
    /// What is wrong.
    pub fault: KeyFault,
}

impl IndexKeyFault<'_> {
    /// The error of an item that is put.
    pub fn of_item(&self) -> ApiError {
        ApiError::validation(match self.fault {
            KeyFault::Type(found) => {
                texts::index_key_type(&self.key.name, self.key.kind.as_str(), found, self.index)
            }
            KeyFault::Empty(kind) => texts::index_key_empty(kind, self.index, &self.key.name),
            KeyFault::Length(KeyRole::Partition) => texts::PARTITION_KEY_SIZE.to_owned(),
            KeyFault::Length(KeyRole::Sort) => texts::SORT_KEY_SIZE.to_owned(),
        })
    }

    /// The error of an item that an update makes.
    pub fn of_update(&self) -> ApiError {
        match self.fault {
            KeyFault::Type(_) => ApiError::validation(texts::INDEX_KEY_UPDATE_TYPE),
            KeyFault::Empty(kind) => ApiError::validation(texts::index_key_update_empty(kind)),
            KeyFault::Length(_) => self.of_item(),
        }
    }
}

fn key_fault(key: &KeyAttribute, role: KeyRole, value: &AttributeValue) -> Option<KeyFault> {
    if !has_key_type(key, value) {
        return Some(KeyFault::Type(value.type_name()));
    }
    let (bytes, kind) = match value {
        AttributeValue::S(text) => (text.len(), "string"),
        AttributeValue::B(bytes) => (bytes.len(), "binary"),
        _ => return None,
    };
    let max = match role {
        KeyRole::Partition => PARTITION_KEY_BYTES_MAX,
        KeyRole::Sort => SORT_KEY_BYTES_MAX,
    };
    match bytes {
        0 => Some(KeyFault::Empty(kind)),
        bytes if bytes > max => Some(KeyFault::Length(role)),
        _ => None,
    }
}

/// Whether composite keys are within the limits of single ones.
fn sizes_fit(keys: &IndexKeys, values: &[AttributeValue]) -> bool {
    let (partition, sort) = values.split_at(keys.partition.len().min(values.len()));
    let bytes = |values: &[AttributeValue]| values.iter().map(length_of).sum::<usize>();
    bytes(partition) <= PARTITION_KEY_BYTES_MAX && bytes(sort) <= SORT_KEY_BYTES_MAX
}

fn length_of(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(bytes) => bytes.len(),
        _ => 0,
    }
}

fn hash_of(values: &[AttributeValue]) -> Result<[u8; 32], ApiError> {
    let mut hash = Sha256::new();
    for value in values {
        let mut encoded = Vec::with_capacity(32);
        let kind = match value {
            AttributeValue::S(text) => {
                encoded.extend_from_slice(text.as_bytes());
                b'S'
            }
            AttributeValue::B(bytes) => {
                encoded.extend_from_slice(bytes);
                b'B'
            }
            AttributeValue::N(number) => {
                number.encode_into(&mut encoded);
                b'N'
            }
            _ => return Err(ApiError::validation(texts::KEY_SCHEMA)),
        };
        hash.update([kind]);
        hash.update((encoded.len() as u64).to_be_bytes());
        hash.update(&encoded);
    }
    Ok(hash.finalize().into())
}

/// What tells entries of different items apart.
fn base_digest(
    partition: &AttributeValue,
    sort: Option<&AttributeValue>,
) -> Result<[u8; DIGEST_BYTES], ApiError> {
    match sort {
        Some(sort) => hash_of(&[partition.clone(), sort.clone()]),
        None => hash_of(std::slice::from_ref(partition)),
    }
}

/// Bytes of a group of a delimited string.
const GROUP: usize = 8;
/// Behind a group that another one follows.
const CONTINUED: u8 = 9;

/// Appends a value in an order-preserving form that says where it ends: numbers in theirs, strings and binary in groups of eight bytes,
/// each with a byte behind it: how many bytes of the group count, or that it goes on.
pub fn put_delimited(value: &AttributeValue, key: &mut Vec<u8>) {
    let bytes: &[u8] = match value {
        AttributeValue::S(text) => text.as_bytes(),
        AttributeValue::B(bytes) => bytes,
        AttributeValue::N(number) => return number.encode_into(key),
        _ => return,
    };
    let mut groups = bytes.chunks(GROUP).peekable();
    if groups.peek().is_none() {
        key.extend_from_slice(&[0; GROUP + 1]);
    }
    while let Some(group) = groups.next() {
        key.extend_from_slice(group);
        key.resize(key.len() + GROUP - group.len(), 0);
        key.push(match groups.peek() {
            Some(_) => CONTINUED,
            None => group.len() as u8,
        });
    }
}

/// Same, of a value of a condition, which may be too long.
fn put_bounded(value: &AttributeValue, key: &mut Vec<u8>) -> Result<(), ApiError> {
    if length_of(value) > SORT_KEY_BYTES_MAX {
        return Err(ApiError::validation(texts::SORT_KEY_SIZE));
    }
    put_delimited(value, key);
    Ok(())
}

/// Appends what all delimited forms of strings (or binary) that begin with this one begin with.
pub fn put_delimited_prefix(value: &AttributeValue, key: &mut Vec<u8>) {
    let bytes: &[u8] = match value {
        AttributeValue::S(text) => text.as_bytes(),
        AttributeValue::B(bytes) => bytes,
        _ => return,
    };
    let mut groups = bytes.chunks(GROUP).peekable();
    while let Some(group) = groups.next() {
        key.extend_from_slice(group);
        if groups.peek().is_some() {
            key.push(CONTINUED);
        }
    }
}

/// Where the base key of a local index's entry is: the value of the entry, an encoded item that has the sort key only.
pub fn local_value(table: &TableDefinition, item: &[u8]) -> codec::Result<Bytes> {
    let sort = table.keys.sort.as_ref().map(|sort| sort.name.as_str());
    pick_attributes(item, sort.as_slice())
}

/// The key of the item that a local index's entry stands for; none: this is no entry.
pub fn item_key_of(entry: &[u8], value: &[u8]) -> Option<EncodedKey> {
    let mut key = entry.get(..key::COLLECTION_BYTES)?.to_vec();
    key.push(0);
    let sort = attributes(value).ok()?.next()?.ok()?.decode().ok()?;
    key::put_sort(&sort, &mut key).ok()?;
    Some(Bytes::from(key))
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

    /// Refuses an item that has a key attribute of an index with a value that cannot be one.
    pub fn check_index_keys(&self, item: &Item) -> Result<(), ApiError> {
        let mut faults = self.indexes.iter().filter_map(|index| index.fault_of(item));
        faults.next().map_or(Ok(()), |fault| Err(fault.of_item()))
    }

    /// Same, of an item that an update makes.
    pub fn check_updated_index_keys(&self, item: &Item) -> Result<(), ApiError> {
        let mut faults = self.indexes.iter().filter_map(|index| index.fault_of(item));
        faults.next().map_or(Ok(()), |fault| Err(fault.of_update()))
    }

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
    pub fn describe_local_indexes(&self, region: &str) -> Option<Value> {
        let local = self.indexes.iter().filter(|index| index.is_local());
        let described: Vec<Value> = local
            .map(|index| {
                json!({
                    "IndexName": index.name,
                    "KeySchema": index.keys.describe(),
                    "Projection": index.projection.describe(),
                    "IndexSizeBytes": 0,
                    "ItemCount": 0,
                    "IndexArn": index.arn(&self.arn(region)),
                })
            })
            .collect();
        (!described.is_empty()).then_some(Value::Array(described))
    }
}
