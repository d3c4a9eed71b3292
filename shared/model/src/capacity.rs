//! Capacity units (developer guide, "Read/write capacity"): an RCU is a strong read of up to 4 KB, half of one an eventual
//! read; a WCU is a write of up to 1 KB; transactional doubles both. Also how answers report them. Never throttles.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Units that a read of `bytes` costs. An absent item costs as much as the smallest one.
pub fn read_units(bytes: u64, strong: bool) -> f64 {
    let blocks = bytes.div_ceil(4096).max(1) as f64;
    if strong { blocks } else { blocks / 2.0 }
}
/// Units that a write costs; `bytes` is the larger of the item's size before and after.
pub fn write_units(bytes: u64) -> f64 {
    bytes.div_ceil(1024).max(1) as f64
}

/// `ReturnConsumedCapacity` of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ReturnConsumedCapacity {
    /// Base table and each index, and the total.
    Indexes,
    /// The total.
    Total,
    /// Nothing.
    #[default]
    None,
}

impl ReturnConsumedCapacity {
    /// What the API accepts, in the order in which its error names them.
    pub const NAMES: [&str; 3] = ["INDEXES", "TOTAL", "NONE"];

    /// The meaning of the API's word.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "INDEXES" => Some(Self::Indexes),
            "TOTAL" => Some(Self::Total),
            "NONE" => Some(Self::None),
            _ => None,
        }
    }
}

/// `Capacity` of the API: units of a table or index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Capacity {
    /// Units, of the kind that the operation consumes.
    pub capacity_units: f64,
}

/// `ConsumedCapacity` of an answer. Reads and writes are told apart only by transactions; they are not here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConsumedCapacity {
    /// The table.
    pub table_name: String,
    /// Units of the table and all indexes.
    pub capacity_units: f64,
    /// With `INDEXES`: units of the base table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Capacity>,
    /// With `INDEXES`: units of each local secondary index that was used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub local_secondary_indexes: BTreeMap<String, Capacity>,
    /// With `INDEXES`: units of each global secondary index that was used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub global_secondary_indexes: BTreeMap<String, Capacity>,
}

impl ConsumedCapacity {
    /// What an operation on a base table reports; none if the request does not ask.
    pub fn of_table(table: &str, units: f64, asked: ReturnConsumedCapacity) -> Option<Self> {
        let base = Capacity {
            capacity_units: units,
        };
        let total = Self {
            table_name: table.to_owned(),
            capacity_units: units,
            ..Self::default()
        };
        match asked {
            ReturnConsumedCapacity::None => None,
            ReturnConsumedCapacity::Total => Some(total),
            ReturnConsumedCapacity::Indexes => Some(Self {
                table: Some(base),
                ..total
            }),
        }
    }

    /// Adds another part of the same operation on the same table (batches, pages).
    pub fn merge(&mut self, other: &Self) {
        self.capacity_units += other.capacity_units;
        if let Some(other) = other.table {
            self.table.get_or_insert_default().capacity_units += other.capacity_units;
        }
        for (mine, others) in [
            (
                &mut self.local_secondary_indexes,
                &other.local_secondary_indexes,
            ),
            (
                &mut self.global_secondary_indexes,
                &other.global_secondary_indexes,
            ),
        ] {
            for (name, capacity) in others {
                mine.entry(name.clone()).or_default().capacity_units += capacity.capacity_units;
            }
        }
    }
}
