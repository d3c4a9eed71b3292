//! The requests of the control plane: their shapes, and their validation in DynamoDB's order. Pure. What Evenkeel cannot do yet is refused by
//! name, never ignored.

use std::collections::BTreeMap;

use model::ApiError;
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType};
use model::throughput::{OnDemandThroughput, UnitRates};
use serde::Deserialize;
use serde_json::Value;

use crate::constraints::{Constraints, table_of};
use crate::indexes::{IndexChanges, IndexUpdate, Indexes, NewIndex, attribute_types, check_used};
use crate::resource_policies;
use crate::streams::{StreamChange, StreamSpecification};
use crate::tagging::{Tag, constrain_tags, tags};
use crate::texts;
use crate::throughput::{self, OnDemand, Throughput, ThroughputChange, Warm};

/// Prefix of the mesh's own tables.
const RESERVED: &str = "evenkeel.";

pub(crate) const BILLING_MODES: &[&str] = &["PROVISIONED", "PAY_PER_REQUEST"];
const CLASSES: &[&str] = &["STANDARD", "STANDARD_INFREQUENT_ACCESS"];

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Definition {
    attribute_name: Option<String>,
    attribute_type: Option<String>,
}

impl Definition {
    /// Name and type, if both are there.
    fn parts(&self) -> Option<(&str, &str)> {
        Some((
            self.attribute_name.as_deref()?,
            self.attribute_type.as_deref()?,
        ))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct KeyElement {
    attribute_name: Option<String>,
    key_type: Option<String>,
}

impl KeyElement {
    /// Name and kind, if both are there.
    pub(crate) fn parts(&self) -> Option<(&str, &str)> {
        Some((self.attribute_name.as_deref()?, self.key_type.as_deref()?))
    }
}

/// Body of CreateTable.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct CreateTable {
    table_name: Option<String>,
    attribute_definitions: Option<Vec<Definition>>,
    key_schema: Option<Vec<KeyElement>>,
    billing_mode: Option<String>,
    provisioned_throughput: Option<Throughput>,
    on_demand_throughput: Option<OnDemand>,
    warm_throughput: Option<Warm>,
    table_class: Option<String>,
    deletion_protection_enabled: Option<bool>,
    tags: Option<Vec<Tag>>,
    stream_specification: Option<StreamSpecification>,
    resource_policy: Option<String>,
    #[serde(flatten)]
    indexes: Indexes,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// A valid CreateTable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewTable {
    pub(crate) name: String,
    pub(crate) keys: KeySchema,
    pub(crate) indexes: Vec<NewIndex>,
    pub(crate) billing: BillingMode,
    pub(crate) maximum: OnDemandThroughput,
    pub(crate) warm: UnitRates,
    pub(crate) class: Option<String>,
    pub(crate) protection: bool,
    pub(crate) tags: BTreeMap<String, String>,
    /// Its stream.
    pub(crate) stream: Option<StreamChange>,
    /// Document of its policy.
    pub(crate) policy: Option<String>,
}

impl NewTable {
    /// Refuses names that are the mesh's own.
    pub(crate) fn refuse_reserved(&self) -> Result<(), ApiError> {
        match self.name.to_ascii_lowercase().starts_with(RESERVED) {
            true => Err(texts::reserved_name()),
            false => Ok(()),
        }
    }
}

impl CreateTable {
    /// Validates in DynamoDB's order.
    pub(crate) fn validate(self) -> Result<NewTable, ApiError> {
        let mut constraints = Constraints::default();
        self.constrain(&mut constraints);
        constraints.check()?;
        self.validate_rest()
    }

    /// Validates what is left once the constraints hold.
    pub(crate) fn validate_rest(self) -> Result<NewTable, ApiError> {
        let name = table_of(self.table_name.as_deref().unwrap_or_default()).to_owned();
        refuse_unsupported(
            &self.rest,
            &[
                "SSESpecification",
                "GlobalTableSourceArn",
                "VectorIndexes",
                "GlobalTableSettingsReplicationMode",
            ],
        )?;
        let billing = throughput::billing(
            self.billing_mode.as_deref(),
            self.provisioned_throughput.as_ref(),
        )?;
        let maximum = throughput::maximum(billing, self.on_demand_throughput.as_ref())?;
        let warm = throughput::warm(billing, self.warm_throughput.as_ref())?;
        let definitions = self.attribute_definitions.unwrap_or_default();
        let keys = keys(
            &definitions,
            &self.key_schema.unwrap_or_default(),
            self.indexes.is_none(),
        )?;
        let types = attribute_types(definitions.iter().filter_map(Definition::parts));
        let indexes = self.indexes.validate(&types, &keys, billing)?;
        check_used(&types, &keys, &indexes)?;
        let tags = tags(self.tags.unwrap_or_default())?;
        let stream = self.stream_specification.as_ref();
        let stream = stream.map(StreamSpecification::change).transpose()?;
        if let Some(document) = &self.resource_policy {
            resource_policies::parse(document)?;
        }
        let new = NewTable {
            name,
            keys,
            indexes,
            billing,
            maximum,
            warm,
            class: self.table_class,
            protection: self.deletion_protection_enabled.unwrap_or(false),
            tags,
            stream,
            policy: self.resource_policy,
        };
        new.refuse_reserved()?;
        Ok(new)
    }

    /// The constraints of the API model.
    pub(crate) fn constrain(&self, constraints: &mut Constraints) {
        match &self.attribute_definitions {
            None => constraints.present("attributeDefinitions", false),
            Some(definitions) => constrain_definitions(constraints, definitions),
        }
        constraints.table_name(self.table_name.as_deref());
        constraints.one_of("billingMode", self.billing_mode.as_deref(), BILLING_MODES);
        throughput::constrain(constraints, self.provisioned_throughput.as_ref());
        match &self.key_schema {
            None => constraints.present("keySchema", false),
            Some(elements) => constrain_keys(constraints, "keySchema", elements, 2),
        }
        self.indexes.constrain(constraints);
        if let Some(stream) = &self.stream_specification {
            stream.constrain(constraints);
        }
        constraints.one_of("tableClass", self.table_class.as_deref(), CLASSES);
        constrain_tags(constraints, self.tags.as_deref());
    }
}

/// Body of UpdateTable.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct UpdateTable {
    table_name: Option<String>,
    attribute_definitions: Option<Vec<Definition>>,
    billing_mode: Option<String>,
    provisioned_throughput: Option<Throughput>,
    on_demand_throughput: Option<OnDemand>,
    warm_throughput: Option<Warm>,
    table_class: Option<String>,
    deletion_protection_enabled: Option<bool>,
    global_secondary_index_updates: Option<Vec<IndexUpdate>>,
    stream_specification: Option<StreamSpecification>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// A valid UpdateTable; what it means for the billing depends on the table.
#[derive(Debug)]
pub(crate) struct TableChange {
    pub(crate) name: String,
    pub(crate) throughput: ThroughputChange,
    pub(crate) class: Option<String>,
    pub(crate) protection: Option<bool>,
    pub(crate) indexes: IndexChanges,
    pub(crate) stream: Option<StreamChange>,
}

impl TableChange {
    /// Whether the table stays `ACTIVE` to its users meanwhile.
    pub(crate) fn is_unnoticed(&self) -> bool {
        let others = self.class.is_some() || self.protection.is_some() || self.stream.is_some();
        !others && self.throughput.is_unnoticed() && self.indexes.are_unnoticed()
    }
}

impl UpdateTable {
    /// Validates what can be validated without the table.
    pub(crate) fn validate(self) -> Result<TableChange, ApiError> {
        let mut constraints = Constraints::default();
        if let Some(definitions) = &self.attribute_definitions {
            constrain_definitions(&mut constraints, definitions);
        }
        constraints.table_name(self.table_name.as_deref());
        constraints.one_of("billingMode", self.billing_mode.as_deref(), BILLING_MODES);
        throughput::constrain(&mut constraints, self.provisioned_throughput.as_ref());
        if let Some(stream) = &self.stream_specification {
            stream.constrain(&mut constraints);
        }
        constraints.one_of("tableClass", self.table_class.as_deref(), CLASSES);
        for (at, update) in self
            .global_secondary_index_updates
            .iter()
            .flatten()
            .enumerate()
        {
            update.constrain(&mut constraints, at);
        }
        constraints.check()?;
        refuse_unsupported(
            &self.rest,
            &[
                "SSESpecification",
                "ReplicaUpdates",
                "MultiRegionConsistency",
                "GlobalTableWitnessUpdates",
                "DisassociationProtectionEnabled",
                "VectorIndexUpdates",
                "GlobalTableSettingsReplicationMode",
            ],
        )?;
        let mode = self.billing_mode.as_deref();
        let units = match (mode, &self.provisioned_throughput) {
            (Some("PAY_PER_REQUEST"), Some(_)) => return Err(texts::throughput_with_on_demand()),
            (_, Some(asked)) => Some(throughput::units(asked)?),
            (_, None) => None,
        };
        let mut throughput = ThroughputChange {
            mode: self.billing_mode,
            units,
            on_demand: self.on_demand_throughput,
            warm: self.warm_throughput,
            alone: false,
        };
        let definitions = self.attribute_definitions.unwrap_or_default();
        let updates = self.global_secondary_index_updates.unwrap_or_default();
        let types = attribute_types(definitions.iter().filter_map(Definition::parts));
        let indexes = IndexChanges::of(updates, &types)?;
        let stream = self.stream_specification.as_ref();
        let stream = stream.map(StreamSpecification::change).transpose()?;
        let more = self.table_class.is_some()
            || self.deletion_protection_enabled.is_some()
            || stream.is_some()
            || !indexes.is_empty();
        if !more && !throughput.says_something() {
            return Err(texts::nothing_to_update());
        }
        throughput.alone = !more && throughput.on_demand.is_none() && throughput.warm.is_none();
        if let Some(asked) = &throughput.on_demand {
            throughput::maximum_in_range(asked)?;
        }
        Ok(TableChange {
            name: table_of(self.table_name.as_deref().unwrap_or_default()).to_owned(),
            throughput,
            class: self.table_class,
            protection: self.deletion_protection_enabled,
            indexes,
            stream,
        })
    }
}

/// Body of operations that only name a table.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct NamedTable {
    table_name: Option<String>,
}

impl NamedTable {
    pub(crate) fn validate(self) -> Result<String, ApiError> {
        let mut constraints = Constraints::default();
        constraints.table_name(self.table_name.as_deref());
        constraints.check()?;
        let name = table_of(self.table_name.as_deref().unwrap_or_default());
        match name.starts_with(RESERVED) {
            true => Err(texts::table_not_found(name)),
            false => Ok(name.to_owned()),
        }
    }
}

/// Body of ListTables.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ListTables {
    exclusive_start_table_name: Option<String>,
    limit: Option<i64>,
}

impl ListTables {
    /// Where to start (exclusive) and how many names.
    pub(crate) fn validate(self) -> Result<(Option<String>, usize), ApiError> {
        let mut constraints = Constraints::default();
        if let Some(name) = &self.exclusive_start_table_name {
            constraints.name("exclusiveStartTableName", name);
        }
        constraints.between("limit", self.limit, 1, 100);
        constraints.check()?;
        let limit = self
            .limit
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(100);
        Ok((self.exclusive_start_table_name, limit))
    }
}

fn constrain_definitions(constraints: &mut Constraints, definitions: &[Definition]) {
    for (n, definition) in definitions.iter().enumerate() {
        let member = |field: &str| format!("attributeDefinitions.{}.member.{field}", n + 1);
        match &definition.attribute_name {
            None => constraints.present(&member("attributeName"), false),
            Some(name) => constraints.length(&member("attributeName"), name, 1, 255),
        }
        match &definition.attribute_type {
            None => constraints.present(&member("attributeType"), false),
            Some(kind) => {
                constraints.one_of(&member("attributeType"), Some(kind), &["B", "N", "S"]);
            }
        }
    }
}

/// Constraints of a `KeySchema` at this place, of so many elements at most.
pub(crate) fn constrain_keys(
    constraints: &mut Constraints,
    place: &str,
    elements: &[KeyElement],
    max: usize,
) {
    let shown = || {
        let element = |e: &KeyElement| {
            let name = e.attribute_name.as_deref().unwrap_or("null");
            let kind = e.key_type.as_deref().unwrap_or("null");
            format!("KeySchemaElement(attributeName={name}, keyType={kind})")
        };
        format!(
            "[{}]",
            elements
                .iter()
                .take(10)
                .map(element)
                .collect::<Vec<_>>()
                .join(", ")
        )
    };
    constraints.size(place, elements.len(), &shown(), 1, max);
    for (n, element) in elements.iter().enumerate().take(10) {
        let member = |field: &str| format!("{place}.{}.member.{field}", n + 1);
        match &element.attribute_name {
            None => constraints.present(&member("attributeName"), false),
            Some(name) => constraints.length(&member("attributeName"), name, 1, 255),
        }
        match &element.key_type {
            None => constraints.present(&member("keyType"), false),
            Some(kind) => {
                constraints.one_of(&member("keyType"), Some(kind), &["HASH", "RANGE"]);
            }
        }
    }
}

/// Parameters that mean something only when they switch something on.
fn switched_off(parameter: &str, value: &Value) -> bool {
    match (parameter, value) {
        (_, Value::Null) => true,
        ("SSESpecification" | "SSESpecificationOverride", value) => {
            value["Enabled"] == Value::Bool(false)
        }
        _ => false,
    }
}

pub(crate) fn refuse_unsupported(
    rest: &BTreeMap<String, Value>,
    names: &[&str],
) -> Result<(), ApiError> {
    for name in names {
        if let Some(value) = rest.get(*name)
            && !switched_off(name, value)
        {
            return Err(texts::unsupported(name));
        }
    }
    Ok(())
}

/// `exact`: there are no indexes that use other attributes.
fn keys(
    definitions: &[Definition],
    elements: &[KeyElement],
    exact: bool,
) -> Result<KeySchema, ApiError> {
    let defined: BTreeMap<&str, &str> = definitions
        .iter()
        .filter_map(|d| Some((d.attribute_name.as_deref()?, d.attribute_type.as_deref()?)))
        .collect();
    let named: Vec<(&str, &str)> = elements
        .iter()
        .filter_map(|e| Some((e.attribute_name.as_deref()?, e.key_type.as_deref()?)))
        .collect();
    let key = |name: &str| {
        let kind = match *defined.get(name)? {
            "S" => ScalarType::S,
            "N" => ScalarType::N,
            _ => ScalarType::B,
        };
        Some(KeyAttribute {
            name: name.to_owned(),
            kind,
        })
    };
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    let undefined =
        || texts::undefined_keys(&names, &defined.keys().copied().collect::<Vec<&str>>());
    if named.first().is_none_or(|(_, kind)| *kind != "HASH") {
        return Err(texts::first_not_hash());
    }
    if named.get(1).is_some_and(|(_, kind)| *kind != "RANGE") {
        return Err(texts::second_not_range());
    }
    if named.get(1).is_some_and(|(name, _)| *name == names[0]) {
        return Err(texts::same_key_names());
    }
    let partition = key(names[0]).ok_or_else(undefined)?;
    let sort = match names.get(1) {
        Some(name) => Some(key(name).ok_or_else(undefined)?),
        None => None,
    };
    if exact && definitions.len() != named.len() {
        return Err(texts::key_count());
    }
    Ok(KeySchema { partition, sort })
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
