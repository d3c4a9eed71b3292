//! Availability as clients see it: what routers count, and what canaries make of it.

use availability::{Alarm, Counts, Strip};
use serde::{Deserialize, Serialize};

/// Tables in one report of a router, at most: those used most lately.
pub const TABLES_MAX: usize = 256;

/// What became of the requests of a router's customers since it started. A report that is lost is made up for by the next one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OutcomeReport {
    /// The router …
    pub router: u64,
    /// … and which life of it: counts begin anew with each.
    pub incarnation: u64,
    /// Its availability zone.
    pub zone: String,
    /// For how long it has counted, milliseconds.
    pub counting_ms: u64,
    /// Tables that were used lately, at most `TABLES_MAX`.
    pub tables: Vec<TableOutcomes>,
}

/// What became of the requests for one table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TableOutcomes {
    /// Name of the table.
    pub table: String,
    /// By class, in the order of `availability::Class::ALL`.
    pub classes: [Counts; 3],
}

/// A question to a canary.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ViewRequest {
    /// So many of the last five-minute windows.
    pub windows: u64,
}

/// What a canary knows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct View {
    /// The canary …
    pub instance: u64,
    /// … and its availability zone.
    pub zone: String,
    /// Its clock, milliseconds since the epoch.
    pub now_ms: u64,
    /// Whether it sends requests of its own; else it only hears what the routers count.
    pub probes: bool,
    /// Availability, at most 600 strips.
    pub strips: Vec<Strip>,
    /// Alarms that stand, the worst first.
    pub standing: Vec<Alarm>,
    /// Alarms that ended, the newest first.
    pub ended: Vec<Alarm>,
}
