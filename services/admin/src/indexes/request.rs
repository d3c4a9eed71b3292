//! Indexes as requests give them: shapes, constraints, and validation in DynamoDB's order. Pure.

use std::collections::{BTreeMap, BTreeSet};

use model::ApiError;
use model::index::{
    GLOBAL_MAX, IndexDefinition, IndexKeys, IndexProjection, KEY_ATTRIBUTES_MAX, LOCAL_MAX,
    NON_KEY_MAX, NON_KEY_TOTAL_MAX,
};
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType};
use model::throughput::{OnDemandThroughput, UnitRates};
use serde::Deserialize;

use crate::constraints::Constraints;
use crate::requests::{KeyElement, constrain_keys};
use crate::texts;
use crate::throughput::{self, OnDemand, Throughput, Warm};

const PROJECTIONS: &[&str] = &["ALL", "INCLUDE", "KEYS_ONLY"];

/// `Projection`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Projection {
    projection_type: Option<String>,
    non_key_attributes: Option<Vec<String>>,
}

/// An element of `LocalSecondaryIndexes` or `GlobalSecondaryIndexes`, or a `Create` of `GlobalSecondaryIndexUpdates`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Index {
    index_name: Option<String>,
    key_schema: Option<Vec<KeyElement>>,
    projection: Option<Projection>,
    provisioned_throughput: Option<Throughput>,
    on_demand_throughput: Option<OnDemand>,
    warm_throughput: Option<Warm>,
}

/// The indexes of a CreateTable.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Indexes {
    local_secondary_indexes: Option<Vec<Index>>,
    global_secondary_indexes: Option<Vec<Index>>,
}

/// A valid index of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewIndex {
    pub(crate) name: String,
    pub(crate) is_local: bool,
    pub(crate) keys: IndexKeys,
    pub(crate) projection: IndexProjection,
    /// Of a global one.
    pub(crate) billing: BillingMode,
    pub(crate) maximum: OnDemandThroughput,
    pub(crate) warm: UnitRates,
}

impl NewIndex {
    /// What a table that is restored has of an index of its source.
    pub(crate) fn of(index: &IndexDefinition) -> Self {
        Self {
            name: index.name.clone(),
            is_local: index.is_local(),
            keys: index.keys.clone(),
            projection: index.projection.clone(),
            billing: BillingMode::PayPerRequest,
            maximum: OnDemandThroughput::default(),
            warm: UnitRates::default(),
        }
    }

    /// Whether another one has the same entries, whatever its throughput.
    pub(crate) fn indexes_as(&self, other: &Self) -> bool {
        (&self.name, self.is_local, &self.keys, &self.projection)
            == (&other.name, other.is_local, &other.keys, &other.projection)
    }
}

/// Types of the attributes of `AttributeDefinitions`, by name.
pub(crate) fn attribute_types<'a>(
    definitions: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<&'a str, ScalarType> {
    definitions
        .map(|(name, kind)| {
            let kind = match kind {
                "S" => ScalarType::S,
                "N" => ScalarType::N,
                _ => ScalarType::B,
            };
            (name, kind)
        })
        .collect()
}

impl Index {
    /// Its name, if it has one.
    pub(super) fn name(&self) -> Option<&str> {
        self.index_name.as_deref()
    }

    /// The constraints of the API model; `member` is its place in the request.
    pub(crate) fn constrain(&self, constraints: &mut Constraints, member: &str, is_local: bool) {
        match &self.index_name {
            None => constraints.present(&format!("{member}.indexName"), false),
            Some(name) => constraints.name(&format!("{member}.indexName"), name),
        }
        let max = match is_local {
            true => 2,
            false => 2 * KEY_ATTRIBUTES_MAX,
        };
        let keys = format!("{member}.keySchema");
        match &self.key_schema {
            None => constraints.present(&keys, false),
            Some(elements) => constrain_keys(constraints, &keys, elements, max),
        }
        let Some(projection) = &self.projection else {
            return constraints.present(&format!("{member}.projection"), false);
        };
        constraints.one_of(
            &format!("{member}.projection.projectionType"),
            projection.projection_type.as_deref(),
            PROJECTIONS,
        );
        if let Some(names) = &projection.non_key_attributes {
            let member = format!("{member}.projection.nonKeyAttributes");
            let shown = format!("[{}]", names.join(", "));
            constraints.size(&member, names.len(), &shown, 1, NON_KEY_MAX);
            for name in names {
                constraints.length(&format!("{member}.member"), name, 1, 255);
            }
        }
        let member = format!("{member}.provisionedThroughput");
        throughput::constrain_as(&member, constraints, self.provisioned_throughput.as_ref());
    }

    /// Validates; `billing`: the table's mode.
    pub(crate) fn validate(
        &self,
        types: &BTreeMap<&str, ScalarType>,
        table: &KeySchema,
        billing: BillingMode,
        is_local: bool,
    ) -> Result<NewIndex, ApiError> {
        let name = self.index_name.clone().unwrap_or_default();
        let keys = self.keys(types, is_local)?;
        if is_local {
            check_local(&name, &keys, table)?;
        }
        let projection = self.projection()?;
        let mut new = NewIndex {
            name,
            is_local,
            keys,
            projection,
            billing,
            maximum: OnDemandThroughput::default(),
            warm: UnitRates::default(),
        };
        if is_local {
            return Ok(new);
        }
        new.billing = match (billing, &self.provisioned_throughput) {
            (BillingMode::PayPerRequest, Some(_)) => {
                return Err(texts::index_throughput_with_on_demand(&new.name));
            }
            (BillingMode::PayPerRequest, None) => BillingMode::PayPerRequest,
            (BillingMode::Provisioned { .. }, None) => {
                return Err(texts::index_without_throughput(&new.name));
            }
            (BillingMode::Provisioned { .. }, throughput) => {
                throughput::billing(Some("PROVISIONED"), throughput.as_ref())?
            }
        };
        new.maximum = throughput::maximum(new.billing, self.on_demand_throughput.as_ref())?;
        new.warm = throughput::warm(new.billing, self.warm_throughput.as_ref())?;
        Ok(new)
    }

    fn keys(
        &self,
        types: &BTreeMap<&str, ScalarType>,
        is_local: bool,
    ) -> Result<IndexKeys, ApiError> {
        let elements = self.key_schema.as_deref().unwrap_or_default();
        let named: Vec<(&str, &str)> = elements.iter().filter_map(KeyElement::parts).collect();
        let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
        let hashes = named.iter().take_while(|(_, kind)| *kind == "HASH").count();
        let ranges = &named[hashes..];
        if hashes == 0 {
            return Err(texts::first_not_hash());
        }
        if (is_local && hashes > 1) || ranges.iter().any(|(_, kind)| *kind != "RANGE") {
            return Err(texts::second_not_range());
        }
        if hashes > KEY_ATTRIBUTES_MAX || ranges.len() > KEY_ATTRIBUTES_MAX {
            return Err(texts::too_many_index_keys());
        }
        if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
            return Err(texts::same_key_names());
        }
        let mut keys = IndexKeys::default();
        for (at, name) in names.iter().enumerate() {
            let Some(kind) = types.get(name) else {
                let defined: Vec<&str> = types.keys().copied().collect();
                return Err(texts::undefined_keys(&names, &defined));
            };
            let key = KeyAttribute {
                name: (*name).to_owned(),
                kind: *kind,
            };
            match at < hashes {
                true => keys.partition.push(key),
                false => keys.sort.push(key),
            }
        }
        Ok(keys)
    }

    fn projection(&self) -> Result<IndexProjection, ApiError> {
        let projection = self.projection.as_ref();
        let kind = projection.and_then(|p| p.projection_type.as_deref());
        let names = projection.and_then(|p| p.non_key_attributes.as_ref());
        match (kind, names) {
            (None, _) => Err(texts::unknown_projection()),
            (Some("INCLUDE"), None) => Err(texts::include_without_attributes()),
            (Some("INCLUDE"), Some(names)) => {
                if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
                    return Err(texts::duplicate_non_keys());
                }
                Ok(IndexProjection::Include(names.clone()))
            }
            (Some(kind), Some(_)) => Err(texts::needless_attributes(kind)),
            (Some("KEYS_ONLY"), None) => Ok(IndexProjection::KeysOnly),
            (Some(_), None) => Ok(IndexProjection::All),
        }
    }
}

fn check_local(name: &str, keys: &IndexKeys, table: &KeySchema) -> Result<(), ApiError> {
    let hash = keys.partition.first().map_or("", |key| key.name.as_str());
    if keys.sort.is_empty() {
        return Err(texts::local_without_range(name));
    }
    if hash != table.partition.name {
        return Err(texts::other_hash_key(name, hash, &table.partition.name));
    }
    Ok(())
}

/// Refuses more attributes in projections than a table may have.
pub(crate) fn check_projections<'a>(
    projections: impl Iterator<Item = &'a IndexProjection>,
) -> Result<(), ApiError> {
    let count = |projection: &IndexProjection| match projection {
        IndexProjection::Include(names) => names.len(),
        _ => 0,
    };
    match projections.map(count).sum::<usize>() > NON_KEY_TOTAL_MAX {
        true => Err(texts::too_many_non_keys(NON_KEY_TOTAL_MAX)),
        false => Ok(()),
    }
}

impl Indexes {
    /// Whether there is none.
    pub(crate) fn is_none(&self) -> bool {
        self.local_secondary_indexes.is_none() && self.global_secondary_indexes.is_none()
    }

    /// The constraints of the API model.
    pub(crate) fn constrain(&self, constraints: &mut Constraints) {
        for (member, indexes, is_local) in [
            ("localSecondaryIndexes", &self.local_secondary_indexes, true),
            (
                "globalSecondaryIndexes",
                &self.global_secondary_indexes,
                false,
            ),
        ] {
            for (at, index) in indexes.iter().flatten().enumerate() {
                let member = format!("{member}.{}.member", at + 1);
                index.constrain(constraints, &member, is_local);
            }
        }
    }

    /// Validates; `billing`: the table's mode.
    pub(crate) fn validate(
        &self,
        types: &BTreeMap<&str, ScalarType>,
        table: &KeySchema,
        billing: BillingMode,
    ) -> Result<Vec<NewIndex>, ApiError> {
        let (local, global) = (
            self.local_secondary_indexes.as_deref(),
            self.global_secondary_indexes.as_deref(),
        );
        if local.is_some_and(<[Index]>::is_empty) {
            return Err(texts::no_indexes("LocalSecondaryIndexes"));
        }
        if global.is_some_and(<[Index]>::is_empty) {
            return Err(texts::no_indexes("GlobalSecondaryIndexes"));
        }
        let (local, global) = (local.unwrap_or_default(), global.unwrap_or_default());
        if !local.is_empty() && table.sort.is_none() {
            return Err(texts::local_without_table_range());
        }
        let mut new: Vec<NewIndex> = Vec::new();
        for (indexes, is_local) in [(local, true), (global, false)] {
            for index in indexes {
                let index = index.validate(types, table, billing, is_local)?;
                if new.iter().any(|other| other.name == index.name) {
                    return Err(texts::duplicate_index(&index.name));
                }
                new.push(index);
            }
        }
        if local.len() > LOCAL_MAX {
            return Err(texts::too_many_local(LOCAL_MAX));
        }
        if global.len() > GLOBAL_MAX {
            return Err(texts::too_many_global(GLOBAL_MAX));
        }
        check_projections(new.iter().map(|index| &index.projection))?;
        Ok(new)
    }
}

/// Refuses attributes that are defined and no key of table or index.
pub(crate) fn check_used(
    types: &BTreeMap<&str, ScalarType>,
    table: &KeySchema,
    indexes: &[NewIndex],
) -> Result<(), ApiError> {
    let mut used: BTreeSet<&str> = indexes
        .iter()
        .flat_map(|index| index.keys.all())
        .map(|(key, _)| key.name.as_str())
        .collect();
    used.insert(&table.partition.name);
    used.extend(table.sort.iter().map(|sort| sort.name.as_str()));
    if types.keys().all(|name| used.contains(name)) {
        return Ok(());
    }
    let defined: Vec<&str> = types.keys().copied().collect();
    let used: Vec<&str> = used.into_iter().collect();
    Err(texts::unused_definitions(&defined, &used))
}
