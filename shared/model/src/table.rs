//! Table definitions: what CreateTable fixes and UpdateTable changes, as every service sees it, and how the API describes
//! them. Never validates a request: that is done before a definition is made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::index::{IndexDefinition, IndexOf};
use crate::stream::StreamSettings;
use crate::throughput::{OnDemandThroughput, UnitRates};
use crate::ttl::TimeToLive;

/// Number of a table, unique for ever within a mesh. Below 16: system tables.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TableId(pub u64);

impl TableId {
    /// Whether the table is the mesh's own.
    pub fn is_system(self) -> bool {
        self.0 < 16
    }
}

/// Number of an index within its table; 0 is the base table.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct IndexId(pub u16);

/// The types a key attribute can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScalarType {
    /// String.
    #[default]
    S,
    /// Number.
    N,
    /// Binary.
    B,
}

impl ScalarType {
    /// DynamoDB's letter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S => "S",
            Self::N => "N",
            Self::B => "B",
        }
    }
}

/// A key attribute: its name and type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAttribute {
    /// Attribute name.
    pub name: String,
    /// Attribute type.
    pub kind: ScalarType,
}

/// Partition (HASH) key and, if there is one, sort (RANGE) key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySchema {
    /// Partition key.
    pub partition: KeyAttribute,
    /// Sort key.
    #[serde(default)]
    pub sort: Option<KeyAttribute>,
}

/// How a table is paid for, and so how it is throttled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BillingMode {
    /// Fixed read and write units a second.
    Provisioned {
        /// Read capacity units a second.
        read_units: u64,
        /// Write capacity units a second.
        write_units: u64,
    },
    /// Follows the traffic.
    #[default]
    PayPerRequest,
}

/// Where a table is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableStatus {
    /// Partitions are being placed.
    Creating,
    /// A change is being carried to the partitions.
    Updating,
    /// Partitions are being dropped.
    Deleting,
    /// Ready.
    #[default]
    Active,
}

impl TableStatus {
    /// DynamoDB's word: `CREATING`, `UPDATING`, `DELETING`, `ACTIVE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
            Self::Active => "ACTIVE",
        }
    }
}

/// A table as the data plane needs it, kept by the admin in the system tables and replicated with each partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableDefinition {
    /// Number of the table.
    pub id: TableId,
    /// Name, unique among live tables.
    pub name: String,
    /// Version of this definition; grows with every change.
    pub version: u64,
    /// Keys of the base table.
    pub keys: KeySchema,
    /// Billing mode and throughput.
    pub billing: BillingMode,
    /// Life-cycle state.
    pub status: TableStatus,
    /// Creation time, milliseconds since the epoch.
    pub created_ms: u64,
    /// UUID of the table, `TableId` in the API.
    pub uuid: String,
    /// DeleteTable is refused while set.
    #[serde(default)]
    pub deletion_protection: bool,
    /// `STANDARD` or `STANDARD_INFREQUENT_ACCESS`, if it was given.
    #[serde(default)]
    pub table_class: Option<String>,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Times of the last throughput increase and decrease, and decreases today (API: ProvisionedThroughputDescription).
    #[serde(default)]
    pub throughput_changes: ThroughputChanges,
    /// Maximum of an on-demand table.
    #[serde(default)]
    pub on_demand_max: OnDemandThroughput,
    /// Warm throughput as far as it was asked for or earned; what the billing mode gives comes on top (`warm_rates`).
    #[serde(default)]
    pub warm: UnitRates,
    /// Its stream.
    #[serde(default, skip_serializing_if = "StreamSettings::is_default")]
    pub streams: StreamSettings,
    /// When items expire.
    #[serde(default, skip_serializing_if = "TimeToLive::is_default")]
    pub ttl: TimeToLive,
    /// Secondary indexes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<IndexDefinition>,
    /// Who may do what to it, if somebody has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_policy: Option<Box<ResourcePolicy>>,
    /// What it holds the entries of, if it is no table of a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_of: Option<Box<IndexOf>>,
}

/// A table's policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcePolicy {
    /// Tells one policy from those before it; never used twice for a table.
    pub revision: String,
    /// The document, as it was put.
    pub document: String,
}

/// History of throughput changes that DescribeTable shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThroughputChanges {
    /// Last increase, milliseconds since the epoch; 0 = never.
    pub increased_ms: u64,
    /// Last decrease, milliseconds since the epoch; 0 = never.
    pub decreased_ms: u64,
    /// Decreases since midnight UTC.
    pub decreases_today: u64,
    /// Last switch to on-demand, milliseconds since the epoch; 0 = never.
    pub on_demand_ms: u64,
    /// Switches to on-demand within a day, the latest last, milliseconds since the epoch.
    #[serde(default)]
    pub on_demand_switches_ms: Vec<u64>,
    /// What is being carried to the partitions are only maxima or warm throughput: the table is `ACTIVE` to its users meanwhile.
    #[serde(default)]
    pub unnoticed: bool,
}

/// Length of a day, milliseconds. Days are those of UTC.
pub const DAY_MS: u64 = 86_400_000;

impl ThroughputChanges {
    /// Decreases on the day of `now_ms`.
    pub fn decreases_on_day_of(&self, now_ms: u64) -> u64 {
        if self.decreased_ms / DAY_MS == now_ms / DAY_MS {
            self.decreases_today
        } else {
            0
        }
    }
}

/// What the API tells of a table beside its definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Items in the base table.
    pub items: u64,
    /// Their sizes, summed, in bytes.
    pub size_bytes: u64,
    /// Entries of local indexes, and their sizes in bytes.
    pub local_indexes: BTreeMap<IndexId, (u64, u64)>,
}

/// Amazon Resource Name of a table.
pub fn table_arn(region: &str, name: &str) -> String {
    format!("arn:aws:dynamodb:{region}:000000000000:table/{name}")
}

/// The API gives times as seconds since the epoch with a fraction.
pub fn api_time(ms: u64) -> Value {
    json!(ms as f64 / 1000.0)
}

impl TableDefinition {
    /// Notes a change that the partitions must learn of: the table is `UPDATING` until they have. `unnoticed`: only maxima or warm throughput
    /// change, which its users need not wait for.
    pub fn note_change(&mut self, unnoticed: bool) {
        let settled = self.status == TableStatus::Active || self.throughput_changes.unnoticed;
        self.version += 1;
        self.status = TableStatus::Updating;
        self.throughput_changes.unnoticed = unnoticed && settled;
    }

    /// Notes that the partitions have learned of all changes.
    pub fn note_settled(&mut self) {
        self.status = TableStatus::Active;
        self.throughput_changes.unnoticed = false;
    }

    /// The state as its users see it.
    pub fn shown_status(&self) -> TableStatus {
        match self.status {
            TableStatus::Updating if self.throughput_changes.unnoticed => TableStatus::Active,
            status => status,
        }
    }

    /// Amazon Resource Name of the table.
    pub fn arn(&self, region: &str) -> String {
        table_arn(region, &self.name)
    }

    /// The table as `TableDescription` of the API at `now_ms` (milliseconds since the epoch); `counts` may lag behind.
    pub fn describe(&self, region: &str, counts: &TableCounts, now_ms: u64) -> Value {
        let (read_units, write_units) = match self.billing {
            BillingMode::Provisioned {
                read_units,
                write_units,
            } => (read_units, write_units),
            BillingMode::PayPerRequest => (0, 0),
        };
        let changes = &self.throughput_changes;
        let mut throughput = json!({
            "NumberOfDecreasesToday": changes.decreases_on_day_of(now_ms),
            "ReadCapacityUnits": read_units,
            "WriteCapacityUnits": write_units,
        });
        for (field, ms) in [
            ("LastIncreaseDateTime", changes.increased_ms),
            ("LastDecreaseDateTime", changes.decreased_ms),
        ] {
            if ms > 0 {
                throughput[field] = api_time(ms);
            }
        }
        let mut table = json!({
            "AttributeDefinitions": self.attribute_definitions(),
            "TableName": self.name,
            "KeySchema": self.keys.describe(),
            "TableStatus": self.shown_status().as_str(),
            "CreationDateTime": api_time(self.created_ms),
            "ProvisionedThroughput": throughput,
            "TableSizeBytes": counts.size_bytes,
            "ItemCount": counts.items,
            "TableArn": self.arn(region),
            "TableId": self.uuid,
            "DeletionProtectionEnabled": self.deletion_protection,
        });
        // The service says nothing of the mode of a table that was provisioned all along.
        match self.billing {
            BillingMode::PayPerRequest => {
                let since = match changes.on_demand_ms {
                    0 => self.created_ms,
                    ms => ms,
                };
                table["BillingModeSummary"] = json!({
                    "BillingMode": "PAY_PER_REQUEST",
                    "LastUpdateToPayPerRequestDateTime": api_time(since),
                });
            }
            BillingMode::Provisioned { .. } if changes.on_demand_ms > 0 => {
                table["BillingModeSummary"] = json!({
                    "BillingMode": "PROVISIONED",
                    "LastUpdateToPayPerRequestDateTime": api_time(changes.on_demand_ms),
                });
            }
            BillingMode::Provisioned { .. } => {}
        }
        if let Some(indexes) = self.describe_local_indexes(region, counts) {
            table["LocalSecondaryIndexes"] = indexes;
        }
        if let Some(class) = &self.table_class {
            table["TableClassSummary"] = json!({ "TableClass": class });
        }
        if matches!(self.status, TableStatus::Active | TableStatus::Updating) {
            let warm = self.warm_rates();
            table["WarmThroughput"] = json!({
                "ReadUnitsPerSecond": warm.read_units,
                "WriteUnitsPerSecond": warm.write_units,
                "Status": self.status.as_str(),
            });
        }
        self.streams.describe(&self.arn(region), &mut table);
        for (field, max) in [
            ("MaxReadRequestUnits", self.on_demand_max.max_read_units),
            ("MaxWriteRequestUnits", self.on_demand_max.max_write_units),
        ] {
            if let Some(max) = max {
                table["OnDemandThroughput"][field] = json!(max);
            }
        }
        table
    }
}

impl KeySchema {
    /// `KeySchema` of the API.
    pub fn describe(&self) -> Value {
        let element =
            |key: &KeyAttribute, kind: &str| json!({ "AttributeName": key.name, "KeyType": kind });
        std::iter::once(element(&self.partition, "HASH"))
            .chain(self.sort.as_ref().map(|sort| element(sort, "RANGE")))
            .collect()
    }
}
