//! Table definitions: what CreateTable fixes and UpdateTable changes, as every service sees it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Number of a table, unique for ever within a mesh. Below 16: system tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableId(pub u64);

/// Number of an index within its table; 0 is the base table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IndexId(pub u16);

/// The types a key attribute can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScalarType {
    /// String.
    S,
    /// Number.
    N,
    /// Binary.
    B,
}

/// A key attribute: its name and type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAttribute {
    /// Attribute name.
    pub name: String,
    /// Attribute type.
    pub kind: ScalarType,
}

/// Partition (HASH) key and, if there is one, sort (RANGE) key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySchema {
    /// Partition key.
    pub partition: KeyAttribute,
    /// Sort key.
    #[serde(default)]
    pub sort: Option<KeyAttribute>,
}

/// How a table is paid for, and so how it is throttled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BillingMode {
    /// Fixed read and write units a second.
    Provisioned {
        /// Read capacity units a second.
        read_units: u64,
        /// Write capacity units a second.
        write_units: u64,
    },
    /// Follows the traffic.
    PayPerRequest,
}

/// Where a table is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableStatus {
    /// Partitions are being placed.
    Creating,
    /// A change is being carried to the partitions.
    Updating,
    /// Partitions are being dropped.
    Deleting,
    /// Ready.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
}
