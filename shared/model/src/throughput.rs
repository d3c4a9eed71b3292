//! How much a table may consume: what was provisioned, what an on-demand table can serve at once (warm throughput) and at most. Owns
//! the rules that join these to one limit a direction; never counts what is consumed.

use serde::{Deserialize, Serialize};

use crate::capacity::Direction;
use crate::error::ThroughputLimit;
use crate::table::{BillingMode, TableDefinition};

/// On-demand tables start with room for so many reads a second (developer guide, "Warm throughput").
pub const ON_DEMAND_READ_UNITS: u64 = 12_000;
/// On-demand tables start with room for so many writes a second.
pub const ON_DEMAND_WRITE_UNITS: u64 = 4_000;

/// Units a second, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitRates {
    /// Read units a second.
    pub read_units: u64,
    /// Write units a second.
    pub write_units: u64,
}

impl UnitRates {
    /// Those of one direction.
    pub fn of(self, direction: Direction) -> u64 {
        match direction {
            Direction::Read => self.read_units,
            Direction::Write => self.write_units,
        }
    }

    /// The greater one in each direction.
    pub fn max(self, other: Self) -> Self {
        Self {
            read_units: self.read_units.max(other.read_units),
            write_units: self.write_units.max(other.write_units),
        }
    }

    /// The smaller one in each direction.
    pub fn min(self, other: Self) -> Self {
        Self {
            read_units: self.read_units.min(other.read_units),
            write_units: self.write_units.min(other.write_units),
        }
    }
}

/// `OnDemandThroughput`: what an on-demand table may consume at most; none = no maximum of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OnDemandThroughput {
    /// `MaxReadRequestUnits`.
    pub max_read_units: Option<u64>,
    /// `MaxWriteRequestUnits`.
    pub max_write_units: Option<u64>,
}

impl OnDemandThroughput {
    /// The maximum of one direction.
    pub fn of(self, direction: Direction) -> Option<u64> {
        match direction {
            Direction::Read => self.max_read_units,
            Direction::Write => self.max_write_units,
        }
    }
}

impl BillingMode {
    /// What a table of this mode can serve without any history.
    pub fn base_rates(self) -> UnitRates {
        match self {
            Self::Provisioned {
                read_units,
                write_units,
            } => UnitRates {
                read_units,
                write_units,
            },
            Self::PayPerRequest => UnitRates {
                read_units: ON_DEMAND_READ_UNITS,
                write_units: ON_DEMAND_WRITE_UNITS,
            },
        }
    }
}

impl TableDefinition {
    /// `WarmThroughput`: what the table can serve at once. Never sinks.
    pub fn warm_rates(&self) -> UnitRates {
        self.warm.max(self.billing.base_rates())
    }

    /// What the table may consume in one direction by its definition, units a second, and which limit that is. An on-demand table whose
    /// traffic grew lately may have more (its own maximum stays): it is refused like one whose partitions have not grown yet.
    pub fn limit(&self, direction: Direction) -> (u64, ThroughputLimit) {
        let base = self.billing.base_rates().of(direction);
        match self.billing {
            BillingMode::Provisioned { .. } => (base, ThroughputLimit::Provisioned),
            BillingMode::PayPerRequest => {
                let warm = self.warm_rates().of(direction);
                match self.on_demand_max.of(direction) {
                    Some(max) if max <= warm => (max, ThroughputLimit::MaxOnDemand),
                    _ => (warm, ThroughputLimit::KeyRange),
                }
            }
        }
    }
}
